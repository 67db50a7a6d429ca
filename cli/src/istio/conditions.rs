//! The values of conditions: each in the filter's form, or named where it has none.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use picket_core::access_rules::{
    AuthorityPattern, NamePattern, PathPattern, PeerPattern, PrincipalPattern, ServiceAccountName,
};
use picket_core::source_address::Network;
use serde_json::{Map, Value, json};

use super::Findings;

/// What becomes of a rule of which a part cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaning {
    /// It matches more: a rule that refuses.
    Wider,
    /// It matches less: a rule that lets pass, or that is only counted.
    Narrower,
}

/// A pair of lists in the filter's form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// Nothing is asked.
    Absent,
    /// It can never hold.
    Never,
    /// Values, and those that must not fit.
    Some(Vec<String>, Vec<String>),
}

/// Reads values of one document.
pub(super) struct Reader<'r> {
    pub(super) title: &'r str,
    pub(super) leaning: Leaning,
    pub(super) findings: &'r mut Findings,
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.findings.problem(self.title, path, message);
    }

    /// The values that `form` can write; of the others, what the leaning makes of them.
    ///
    /// INVARIANT: with [`Leaning::Wider`] the lists hold wherever all the values would, with [`Leaning::Narrower`] nowhere else.
    pub(super) fn lists(
        &mut self,
        (values, path): (&[String], &str),
        (not_values, not_path): (&[String], &str),
        form: impl Fn(&str) -> Result<String, String>,
    ) -> Lists {
        let written = self.written(values, path, &form);
        let not_written = self.written(not_values, not_path, &form);
        let is_short = written.len() < values.len();
        let any_of = match (is_short, self.leaning) {
            (true, Leaning::Wider) => Vec::new(),
            (true, Leaning::Narrower) if written.is_empty() => return Lists::Never,
            (_, _) => written,
        };
        if not_written.len() < not_values.len() && self.leaning == Leaning::Narrower {
            return Lists::Never;
        }
        match any_of.is_empty() && not_written.is_empty() {
            true => Lists::Absent,
            false => Lists::Some(any_of, not_written),
        }
    }

    fn written(&mut self, values: &[String], path: &str, form: impl Fn(&str) -> Result<String, String>) -> Vec<String> {
        let mut written = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match form(value) {
                Ok(text) => written.push(text),
                Err(message) => self.problem(&format!("{path}[{index}]"), message),
            }
        }
        written
    }
}

/// Puts two lists into an object, those that are not empty.
pub(super) fn insert(
    object: &mut Map<String, Value>,
    name: &str,
    not_name: &str,
    any_of: &[String],
    none_of: &[String],
) {
    for (name, list) in [(name, any_of), (not_name, none_of)] {
        if !list.is_empty() {
            object.insert(name.to_owned(), json!(list));
        }
    }
}

fn parsed<T>(text: &str) -> Result<String, String>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse::<T>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}, found `{text}`"))
}

pub(super) fn text(value: &str) -> Result<String, String> {
    parsed::<NamePattern>(value)
}

pub(super) fn host(value: &str) -> Result<String, String> {
    parsed::<AuthorityPattern>(value)
}

pub(super) fn path(value: &str) -> Result<String, String> {
    parsed::<PathPattern>(value)
}

pub(super) fn port(value: &str) -> Result<String, String> {
    let port = value.parse::<u16>();
    port.map(|port| port.to_string())
        .map_err(|_| format!("expected a port, found `{value}`"))
}

/// Istio writes SPIFFE IDs without their scheme.
pub(super) fn peer(value: &str, trust_domain: &str) -> Result<String, String> {
    if value.starts_with('*') {
        return parsed::<PeerPattern>(value);
    }
    match value.split_once('/') {
        Some((domain, _)) if domain == trust_domain => parsed::<PeerPattern>(&format!("spiffe://{value}")),
        Some(_) | None => Err(format!(
            "expected the trust domain `{trust_domain}` (--trust-domain) before the first slash, found `{value}`"
        )),
    }
}

/// The filter splits it as it is split here, as its providers are of the same issuers.
pub(super) fn principal<'i>(value: &str, issuers: impl Iterator<Item = &'i String>) -> Result<String, String> {
    let issuers: Vec<&str> = issuers.map(String::as_str).collect();
    PrincipalPattern::parse(value, &issuers)
        .map(|_| value.to_owned())
        .map_err(|error| format!("{error}, found `{value}`"))
}

/// Istio's default namespace is the document's.
pub(super) fn service_account(value: &str, namespace: &str) -> Result<String, String> {
    match value.contains('/') {
        true => parsed::<ServiceAccountName>(value),
        false => parsed::<ServiceAccountName>(&format!("{namespace}/{value}")),
    }
}

/// Istio takes an address with a prefix length for the network that it is in.
pub(super) fn network(value: &str) -> Result<String, String> {
    let wrong = || format!("expected a network or an address, found `{value}`");
    let (address, length) = match value.split_once('/') {
        None => return parsed::<Network>(value),
        Some((address, length)) => (
            address.parse::<IpAddr>().map_err(|_| wrong())?,
            length.parse::<u32>().map_err(|_| wrong())?,
        ),
    };
    let address = match address {
        IpAddr::V4(v4) => {
            let behind = 32_u32.checked_sub(length).ok_or_else(wrong)?;
            IpAddr::from((v4.to_bits() & u32::MAX.checked_shl(behind).unwrap_or(0)).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let behind = 128_u32.checked_sub(length).ok_or_else(wrong)?;
            IpAddr::from((v6.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0)).to_be_bytes())
        }
    };
    parsed::<Network>(&format!("{address}/{length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_lose_what_is_behind_their_prefix() {
        for (value, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("10.1.2.3", "10.1.2.3"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("2001:db8::1/0", "::/0"),
        ] {
            assert_eq!(network(value).as_deref(), Ok(expected));
        }
        for bad in ["10.0.0.0/33", "10.0.0/8", "::/129", "x", "10.0.0.0/x"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_written_widens_or_narrows() {
        let lists = |leaning, values: &[&str], not_values: &[&str]| {
            let mut findings = Findings::default();
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let mut reader = Reader {
                title: "t",
                leaning,
                findings: &mut findings,
            };
            let lists = reader.lists((&owned(values), "v"), (&owned(not_values), "n"), text);
            (lists, findings.problems.len())
        };
        let some = |values: &[&str], not_values: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            Lists::Some(owned(values), owned(not_values))
        };
        use Leaning::{Narrower, Wider};
        assert_eq!(lists(Wider, &["a"], &["b"]), (some(&["a"], &["b"]), 0));
        assert_eq!(lists(Wider, &["a", "b*c"], &[]), (Lists::Absent, 1));
        assert_eq!(lists(Wider, &["a"], &["b*c"]), (some(&["a"], &[]), 1));
        assert_eq!(lists(Narrower, &["a", "b*c"], &[]), (some(&["a"], &[]), 1));
        assert_eq!(lists(Narrower, &["b*c"], &["a"]), (Lists::Never, 1));
        assert_eq!(lists(Narrower, &["a"], &["b*c"]), (Lists::Never, 1));
        assert_eq!(lists(Narrower, &[], &[]), (Lists::Absent, 0));
    }
}
