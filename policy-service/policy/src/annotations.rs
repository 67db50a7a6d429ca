//! What a policy says about itself in annotations.

use cedar_policy::Policy;
use picket_model::decision::{OBLIGATION_BYTES_MAX, OBLIGATIONS_MAX, is_obligation};

/// Ids and reasons travel with decisions, so they are short.
const ID_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 256;
const TENANT_BYTES_MAX: usize = 256;

const ID: &str = "id";
const REASON: &str = "reason";
const OBLIGATION: &str = "obligation";
const MODE: &str = "mode";
const TENANT: &str = "tenant";
const KNOWN: [&str; 5] = [ID, REASON, OBLIGATION, MODE, TENANT];
/// Annotations of an operator's own begin with this.
const OWN_PREFIX: &str = "x_";

/// The annotations of one policy, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Annotations {
    /// `@id`: what decisions and records call it.
    pub(super) id: String,
    /// `@reason`: what the caller may be told where it decided.
    pub(super) reason: Option<String>,
    /// `@obligation`: what the upstream has to see to where it permitted.
    pub(super) obligations: Vec<String>,
    /// `@mode`.
    pub(super) mode: Mode,
    /// `@tenant`: it is about this tenant's principals, and about nobody else.
    pub(super) tenant: Option<String>,
}

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It does.
    Enforce,
    /// It does not; what it would have changed is recorded.
    Observe,
}

impl Annotations {
    /// Reads and checks them.
    ///
    /// # Errors
    /// The mistake, with the annotation's name and the expected form.
    pub(super) fn of(policy: &Policy) -> Result<Self, String> {
        for (name, _) in policy.annotations() {
            // A word that is spelled wrongly would be a policy that enforces, or obliges to
            // nothing.
            if !KNOWN.contains(&name) && !name.starts_with(OWN_PREFIX) {
                let known = KNOWN.map(|name| format!("@{name}")).join(", ");
                return Err(format!(
                    "unknown annotation `@{name}`: expected {known}, or one that begins with `@{OWN_PREFIX}`"
                ));
            }
        }
        Ok(Self {
            id: id(policy)?,
            reason: text(policy, REASON, REASON_BYTES_MAX)?,
            obligations: obligations(policy)?,
            mode: mode(policy)?,
            tenant: text(policy, TENANT, TENANT_BYTES_MAX)?,
        })
    }
}

fn id(policy: &Policy) -> Result<String, String> {
    let id = policy.annotation(ID).ok_or("a policy needs an @id(\"…\")")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/');
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(allowed) {
        return Err(format!(
            "an @id is 1 to {ID_BYTES_MAX} letters, digits, `.`, `_`, `-`, `:` and `/`"
        ));
    }
    Ok(id.to_owned())
}

fn text(policy: &Policy, name: &str, bytes_max: usize) -> Result<Option<String>, String> {
    match policy.annotation(name) {
        Some(text) if text.is_empty() || text.len() > bytes_max => {
            Err(format!("an @{name} is 1 to {bytes_max} bytes of text"))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

/// One or more, separated by commas: Cedar takes an annotation once.
fn obligations(policy: &Policy) -> Result<Vec<String>, String> {
    let Some(text) = policy.annotation(OBLIGATION) else {
        return Ok(Vec::new());
    };
    if policy.effect() == cedar_policy::Effect::Forbid {
        return Err("an @obligation belongs to a `permit`: what is denied obliges nobody".to_owned());
    }
    let obligations: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    if obligations.len() > OBLIGATIONS_MAX || !obligations.iter().all(|obligation| is_obligation(obligation)) {
        return Err(format!(
            "an @obligation is 1 to {OBLIGATIONS_MAX} words, separated by commas, each 1 to {OBLIGATION_BYTES_MAX} letters, \
             digits, `.`, `_`, `-`, `:`, `=` and `/`"
        ));
    }
    Ok(obligations)
}

fn mode(policy: &Policy) -> Result<Mode, String> {
    match policy.annotation(MODE) {
        None | Some("enforce") => Ok(Mode::Enforce),
        Some("observe") => Ok(Mode::Observe),
        Some(_) => Err("a @mode is `enforce` or `observe`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &str, effect: &str) -> Result<Annotations, String> {
        let text = format!("{annotations} {effect} (principal, action, resource);");
        Annotations::of(&Policy::parse(None, text).unwrap())
    }

    #[test]
    fn all_of_them_are_read() {
        let read = read(
            r#"@id("a/b") @reason("because") @obligation("mask, log:full") @mode("observe") @tenant("acme") @x_owner("team")"#,
            "permit",
        );
        let expected = Annotations {
            id: "a/b".to_owned(),
            reason: Some("because".to_owned()),
            obligations: vec!["mask".to_owned(), "log:full".to_owned()],
            mode: Mode::Observe,
            tenant: Some("acme".to_owned()),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_policy_enforces_and_is_about_every_tenant_unless_it_says_otherwise() {
        let read = read(r#"@id("a")"#, "forbid").unwrap();
        assert_eq!(
            (read.mode, read.tenant, read.obligations),
            (Mode::Enforce, None, vec![])
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |annotations: &str, effect: &str, part: &str| {
            let error = read(annotations, effect).unwrap_err();
            assert!(error.contains(part), "{annotations}: {error}");
        };
        wrong("", "permit", "@id");
        wrong(r#"@id("a b")"#, "permit", "@id");
        wrong(r#"@id("a") @reason("")"#, "permit", "@reason");
        wrong(r#"@id("a") @tenant("")"#, "permit", "@tenant");
        wrong(r#"@id("a") @obligation("")"#, "permit", "@obligation");
        wrong(r#"@id("a") @obligation("a,,b")"#, "permit", "@obligation");
        wrong(r#"@id("a") @obligation("a b")"#, "permit", "@obligation");
        wrong(r#"@id("a") @obligation("a")"#, "forbid", "@obligation");
        wrong(r#"@id("a") @mode("Observe")"#, "permit", "@mode");
        wrong(r#"@id("a") @obligations("a")"#, "permit", "`@obligations`");
    }
}
