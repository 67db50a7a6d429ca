//! What values are compared with: a text, the beginning or the end of one, or any that is there.

use std::borrow::Cow;
use std::str::FromStr;

use picket_model::spiffe::{self, SpiffeId};

use crate::path::{self, decode_sub_delimiters};
use crate::route::TEMPLATE_SEGMENTS_MAX;

/// The scheme of SPIFFE IDs, behind which a pattern's `*` stands for the rest.
const SPIFFE: &str = "spiffe://";

/// `abc`, `abc*`, `*abc`, or `*` for any text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(Kind);

/// A pattern of the authority as it was sent, port included, or of a server name, compared without
/// regard to ASCII case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityPattern(Kind);

/// A pattern of paths in normal form, or a template in which `{*}` is one segment and `{**}` any
/// number of them. Behind `{**}` there are literal segments alone, as in Envoy's URI templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// The whole path, its beginning or its end.
    Text(NamePattern),
    /// Segment by segment; `None` is any one.
    Template {
        /// The segments before the rest.
        segments: Vec<Option<Box<str>>>,
        /// What follows them.
        end: TemplateEnd,
    },
}

/// What follows the segments of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateEnd {
    /// Nothing.
    Here,
    /// A slash, and anything or nothing.
    Rest,
    /// A slash, at least one segment, and this text, which begins with a slash.
    RestBefore(Box<str>),
}

/// A pattern of SPIFFE IDs: `spiffe://example.org/ns/shop/sa/web`,
/// `spiffe://example.org/ns/shop/*`, `*/sa/web`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPattern(Kind);

/// A principal as `ISSUER/SUBJECT`. Both can hold slashes, so the issuer is the longest one that is
/// known and that a slash follows. `ISSUER/abc*` is the beginning of a subject, `*ISSUER/SUBJECT`
/// the end of an issuer and a whole subject, `*abc` the end of a subject, `*` any principal.
///
/// Compared with the whole text instead, it matches wherever the parts do, and elsewhere as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalPattern {
    issuer: Kind,
    subject: Kind,
    whole: Kind,
}

/// A Kubernetes service account, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountName {
    namespace: Box<str>,
    name: Box<str>,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionPatternError {
    /// Empty, or with a `*` elsewhere than at one end.
    #[error("expected a text that is not empty, with `*` at most once, at its beginning or its end")]
    Text,
    /// No SPIFFE ID could fit.
    #[error("expected a SPIFFE ID, the beginning of one before a `*`, or a `*` before the end of one")]
    Peer,
    /// No principal could fit.
    #[error("expected `ISSUER/SUBJECT`, `ISSUER/SUBJECT*`, `*ISSUER/SUBJECT`, `*SUBJECT` or `*`")]
    Principal,
    /// No token can be of its issuer.
    #[error("expected the issuer of a provider before a slash, as no other token can match")]
    Issuer,
    /// No path in normal form could fit.
    #[error("expected a path in normal form, its beginning before a `*`, or its end after one")]
    Path,
    /// Not a template.
    #[error("expected `{{*}}`, or `{{**}}` as the last of both, as whole segments of a path in normal form")]
    Template,
    /// Not a service account.
    #[error("expected a Kubernetes service account as `NAMESPACE/SERVICE_ACCOUNT`")]
    ServiceAccount,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
}

impl Kind {
    fn parse(text: &str) -> Result<Self, ConditionPatternError> {
        let (kind, literal): (fn(Box<str>) -> Self, &str) = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => return Ok(Self::Present),
            (Some(suffix), _) => (Self::Suffix, suffix),
            (None, Some(prefix)) => (Self::Prefix, prefix),
            (None, None) => (Self::Exact, text),
        };
        match literal.is_empty() || literal.contains('*') {
            true => Err(ConditionPatternError::Text),
            false => Ok(kind(literal.into())),
        }
    }

    fn map(self, change: fn(&str) -> Cow<'_, str>) -> Self {
        let change = |text: Box<str>| Box::from(&*change(&text));
        match self {
            Self::Present => Self::Present,
            Self::Exact(text) => Self::Exact(change(text)),
            Self::Prefix(text) => Self::Prefix(change(text)),
            Self::Suffix(text) => Self::Suffix(change(text)),
        }
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => !value.is_empty(),
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
        }
    }

    /// The text is in lower case.
    fn matches_ignore_case(&self, value: &[u8]) -> bool {
        let part = |length: usize, from: Option<usize>| value.get(from?..from?.checked_add(length)?);
        let (text, part) = match self {
            Self::Present => return !value.is_empty(),
            Self::Exact(text) => (text, Some(value)),
            Self::Prefix(text) => (text, part(text.len(), Some(0))),
            Self::Suffix(text) => (text, part(text.len(), value.len().checked_sub(text.len()))),
        };
        part.is_some_and(|part| part.eq_ignore_ascii_case(text.as_bytes()))
    }
}

impl NamePattern {
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        self.0.matches(value)
    }

    /// For what is there or is not there, whatever it holds: a header.
    pub(crate) fn is_presence(&self) -> bool {
        self.0 == Kind::Present
    }
}

impl FromStr for NamePattern {
    type Err = ConditionPatternError;

    fn from_str(text: &str) -> Result<Self, ConditionPatternError> {
        Kind::parse(text).map(Self)
    }
}

impl AuthorityPattern {
    pub(crate) fn matches(&self, authority: &[u8]) -> bool {
        self.0.matches_ignore_case(authority)
    }
}

impl FromStr for AuthorityPattern {
    type Err = ConditionPatternError;

    fn from_str(text: &str) -> Result<Self, ConditionPatternError> {
        Kind::parse(text).map(Self)
    }
}

impl PathPattern {
    /// `path`: as rules are compared with it ([`path::Target::path_for_rules`]).
    pub(crate) fn matches(&self, path: &str) -> bool {
        let (segments, end) = match self {
            Self::Text(text) => return text.matches(path.as_bytes()),
            Self::Template { segments, end } => (segments, end),
        };
        let mut rest = path.strip_prefix('/');
        for wanted in segments {
            let Some(text) = rest else { return false };
            let (have, behind) = text
                .split_once('/')
                .map_or((text, None), |(have, behind)| (have, Some(behind)));
            let matches = wanted.as_ref().map_or(!have.is_empty(), |wanted| **wanted == *have);
            if !matches {
                return false;
            }
            rest = behind;
        }
        match end {
            TemplateEnd::Here => rest.is_none(),
            TemplateEnd::Rest => rest.is_some(),
            TemplateEnd::RestBefore(tail) => rest.is_some_and(|rest| rest.ends_with(&**tail)),
        }
    }
}

impl FromStr for PathPattern {
    type Err = ConditionPatternError;

    fn from_str(text: &str) -> Result<Self, ConditionPatternError> {
        if text.contains(['{', '}']) {
            return template(text);
        }
        let pattern = Kind::parse(text)?;
        let could_fit = match &pattern {
            Kind::Present => true,
            Kind::Exact(path) => is_normal(path),
            // With any character behind or before it: what is cut within a segment is no segment
            // yet.
            Kind::Prefix(start) => is_normal(&format!("{start}x")),
            Kind::Suffix(end) => is_normal(&format!("/x{end}")),
        };
        match could_fit {
            true => Ok(Self::Text(NamePattern(pattern.map(decode_sub_delimiters)))),
            false => Err(ConditionPatternError::Path),
        }
    }
}

fn template(text: &str) -> Result<PathPattern, ConditionPatternError> {
    let mut segments: Vec<&str> = text
        .strip_prefix('/')
        .ok_or(ConditionPatternError::Template)?
        .split('/')
        .collect();
    let literal_form = text.replace("{**}", "x").replace("{*}", "x");
    if segments.len() > TEMPLATE_SEGMENTS_MAX || literal_form.contains(['{', '}', '*']) || !is_normal(&literal_form) {
        return Err(ConditionPatternError::Template);
    }
    let end = match segments.iter().position(|segment| *segment == "{**}") {
        None => TemplateEnd::Here,
        Some(rest) => match segments.split_off(rest).get(1..) {
            None | Some([]) => TemplateEnd::Rest,
            Some(tail) if tail.iter().any(|segment| segment.contains('{')) => {
                return Err(ConditionPatternError::Template);
            }
            Some(tail) => TemplateEnd::RestBefore(Box::from(&*decode_sub_delimiters(&format!("/{}", tail.join("/"))))),
        },
    };
    let segment = |segment: &&str| match *segment {
        "{*}" => Ok(None),
        literal if literal.contains('{') => Err(ConditionPatternError::Template),
        literal => Ok(Some(Box::from(&*decode_sub_delimiters(literal)))),
    };
    Ok(PathPattern::Template {
        segments: segments.iter().map(segment).collect::<Result<_, _>>()?,
        end,
    })
}

/// Whether a request's path can be this one.
fn is_normal(path: &str) -> bool {
    path::parse_target(path.as_bytes()).is_ok_and(|target| !target.is_rewritten() && target.query.is_none())
}

impl PeerPattern {
    pub(crate) fn matches(&self, id: &SpiffeId) -> bool {
        id.as_str()
            .strip_prefix(SPIFFE)
            .is_some_and(|name| self.0.matches(name.as_bytes()))
    }
}

impl FromStr for PeerPattern {
    type Err = ConditionPatternError;

    fn from_str(text: &str) -> Result<Self, ConditionPatternError> {
        let name = |text: &str| {
            text.strip_prefix(SPIFFE)
                .map(Box::from)
                .ok_or(ConditionPatternError::Peer)
        };
        let pattern = match Kind::parse(text)? {
            Kind::Present => Kind::Present,
            Kind::Exact(id) => match id.parse::<SpiffeId>() {
                Ok(_) => Kind::Exact(name(&id)?),
                Err(_) => return Err(ConditionPatternError::Peer),
            },
            // Behind a whole trust domain alone: one could else choose the rest of its name.
            Kind::Prefix(start) => {
                Kind::Prefix(name(&start).and_then(|start: Box<str>| match start.split_once('/') {
                    Some((domain, _)) if domain.parse::<spiffe::TrustDomain>().is_ok() => Ok(start),
                    Some(_) | None => Err(ConditionPatternError::Peer),
                })?)
            }
            Kind::Suffix(end) => Kind::Suffix(end),
        };
        Ok(Self(pattern))
    }
}

impl PrincipalPattern {
    pub(crate) fn matches(&self, issuer: &str, subject: &str) -> bool {
        self.issuer.matches(issuer.as_bytes()) && self.subject.matches(subject.as_bytes())
    }

    /// Whether it matches `ISSUER/SUBJECT` as one text, wherever that has its slashes.
    pub(crate) fn matches_whole_text(&self, issuer: &str, subject: &str) -> bool {
        match &self.whole {
            Kind::Present => true,
            Kind::Exact(text) => behind_issuer(text, issuer) == Some(subject),
            Kind::Prefix(start) => {
                let behind = behind_issuer(start, issuer);
                issuer.starts_with(&**start) || behind.is_some_and(|start| subject.starts_with(start))
            }
            Kind::Suffix(end) => {
                let before = end.strip_suffix(subject).and_then(|rest| rest.strip_suffix('/'));
                subject.ends_with(&**end) || before.is_some_and(|end| issuer.ends_with(end))
            }
        }
    }
}

impl PrincipalPattern {
    /// Reads a pattern of the principals of these issuers.
    ///
    /// # Errors
    /// It is not of the form, or no token of these issuers can match.
    pub fn parse(text: &str, issuers: &[&str]) -> Result<Self, ConditionPatternError> {
        let whole = Kind::parse(text)?;
        let (issuer, subject) = match whole.clone() {
            Kind::Present => (Kind::Present, Kind::Present),
            Kind::Exact(text) => {
                let is_known = |issuer: &str, subject: &str| issuers.contains(&issuer) && !subject.is_empty();
                let (issuer, subject) = split(&text, is_known)?;
                (Kind::Exact(issuer.into()), Kind::Exact(subject.into()))
            }
            Kind::Prefix(text) => match split(&text, |issuer, _| issuers.contains(&issuer))? {
                (issuer, "") => (Kind::Exact(issuer.into()), Kind::Present),
                (issuer, start) => (Kind::Exact(issuer.into()), Kind::Prefix(start.into())),
            },
            Kind::Suffix(text) => {
                let is_end = |end: &str, _: &str| issuers.iter().any(|issuer| issuer.ends_with(end));
                match split(&text, is_end) {
                    Ok((_, "")) => return Err(ConditionPatternError::Principal),
                    Ok(("", subject)) => (Kind::Present, Kind::Exact(subject.into())),
                    Ok((end, subject)) => (Kind::Suffix(end.into()), Kind::Exact(subject.into())),
                    // It is the end of a subject.
                    Err(_) => (Kind::Present, Kind::Suffix(text)),
                }
            }
        };
        Ok(Self { issuer, subject, whole })
    }
}

/// What follows an issuer and its slash.
fn behind_issuer<'t>(text: &'t str, issuer: &str) -> Option<&'t str> {
    text.strip_prefix(issuer)?.strip_prefix('/')
}

/// `ISSUER/SUBJECT` in two, with the longest issuer for which both are known.
fn split(text: &str, is_known: impl Fn(&str, &str) -> bool) -> Result<(&str, &str), ConditionPatternError> {
    let mut splits = text
        .rmatch_indices('/')
        .filter_map(|(slash, _)| text.split_at_checked(slash))
        .filter_map(|(issuer, behind)| Some((issuer, behind.strip_prefix('/')?)));
    let found = splits.find(|(issuer, subject)| is_known(issuer, subject));
    found.ok_or(match text.contains('/') {
        true => ConditionPatternError::Issuer,
        false => ConditionPatternError::Principal,
    })
}

impl ServiceAccountName {
    /// Whether the ID holds `/ns/NAMESPACE/`, and behind it `sa/SERVICE_ACCOUNT`.
    pub(crate) fn matches(&self, id: &SpiffeId) -> bool {
        let mut pairs = pairs(id);
        pairs.any(|pair| pair == ("ns", &*self.namespace))
            // The pair that begins with the namespace itself is none of those behind it.
            && pairs.skip(1).any(|pair| pair == ("sa", &*self.name))
    }
}

impl FromStr for ServiceAccountName {
    type Err = ConditionPatternError;

    fn from_str(text: &str) -> Result<Self, ConditionPatternError> {
        match text.split_once('/') {
            Some((namespace, name)) if spiffe::is_segment(namespace) && spiffe::is_segment(name) => Ok(Self {
                namespace: namespace.into(),
                name: name.into(),
            }),
            Some(_) | None => Err(ConditionPatternError::ServiceAccount),
        }
    }
}

/// Whether a pattern matches a namespace of the ID: a segment behind `ns` that is not the last one.
pub(crate) fn matches_namespace(pattern: &NamePattern, id: &SpiffeId) -> bool {
    let followed = pairs(id).zip(pairs(id).skip(1));
    followed
        .map(|(pair, _)| pair)
        .any(|(name, namespace)| name == "ns" && pattern.matches(namespace.as_bytes()))
}

/// The segments of an ID's path, each with the one behind it.
fn pairs(id: &SpiffeId) -> impl Iterator<Item = (&str, &str)> {
    let segments = id.path().split('/').skip(1);
    segments.clone().zip(segments.skip(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_rules::{Polarity, Values};

    #[track_caller]
    fn check<P: FromStr<Err = ConditionPatternError>>(
        pattern: &str,
        matches: impl Fn(&P, &str) -> bool,
        fitting: &[&str],
        others: &[&str],
    ) {
        let pattern_value = pattern
            .parse::<P>()
            .unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for (values, expected) in [(fitting, true), (others, false)] {
            for value in values {
                assert_eq!(matches(&pattern_value, value), expected, "{pattern} {value}");
            }
        }
    }

    #[test]
    fn a_text_is_whole_begun_ended_or_there() {
        let matches = |pattern: &NamePattern, value: &str| pattern.matches(value.as_bytes());
        check("abc", matches, &["abc"], &["", "ab", "abcd", "xabc", "ABC"]);
        check("abc*", matches, &["abc", "abcd"], &["", "ab", "xabc", "Abc"]);
        check("*abc", matches, &["abc", "xabc"], &["", "abcd", "xABC"]);
        check("*", matches, &["a", "*"], &[""]);
        for bad in ["", "**", "a*b", "*a*", "a**"] {
            assert_eq!(bad.parse::<NamePattern>(), Err(ConditionPatternError::Text), "{bad}");
        }
    }

    #[test]
    fn an_authority_has_its_port_and_no_case() {
        let matches = |pattern: &AuthorityPattern, value: &str| pattern.matches(value.as_bytes());
        check(
            "a.example",
            matches,
            &["a.example", "A.Example"],
            &["a.example:80", "a.exampl", "xa.example"],
        );
        check(
            "A.example:*",
            matches,
            &["a.example:80", "A.EXAMPLE:"],
            &["a.example", "b.example:80"],
        );
        check(
            "*.example",
            matches,
            &["a.EXAMPLE", ".example"],
            &["example", "a.example:80"],
        );
        check("*", matches, &["a"], &[""]);
    }

    #[test]
    fn a_path_is_text_or_a_template() {
        let matches = PathPattern::matches;
        check("/a", matches, &["/a"], &["/a/", "/ab", "/A"]);
        check("/a*", matches, &["/a", "/a/", "/ab"], &["/", "/b"]);
        check("/a/*", matches, &["/a/", "/a/b/c"], &["/a", "/ab"]);
        check("*/b", matches, &["/b", "/a/b"], &["/ab", "/b/"]);
        check("*.txt", matches, &["/.txt", "/a/b.txt"], &["/a.txt/"]);
        check("*", matches, &["/", "/a"], &[]);
        // The examples of Istio's reference for `paths`.
        check("/foo/{*}", matches, &["/foo/bar"], &["/foo/bar/baz", "/foo/", "/foo"]);
        check(
            "/foo/{*}/bar/{**}",
            matches,
            &["/foo/buzz/bar/", "/foo/buzz/bar/baz", "/foo/x/bar/y/z"],
            &["/foo/buzz/bar", "/foo/a/b/bar/"],
        );
        check("/{**}", matches, &["/", "/a", "/a/b/"], &[]);
        // `%3B` is `;`, and `%2B` is `+`.
        check("/c%2B%2B", matches, &["/c++"], &[]);
        check("/a%3B*", matches, &["/a;x"], &["/a"]);
        check("*%2B", matches, &["/a+"], &[]);
        check("/{*}/%3Bx", matches, &["/a/;x"], &[]);
        check(
            "/f/{**}/c%2B%2B",
            matches,
            &["/f/x/c++", "/f/x/y/c++"],
            &["/f/c++", "/f/x/c"],
        );
        check("/{*}/", matches, &["/a/"], &["/a", "//", "/a/b"]);
        check(
            "/foo/{**}/",
            matches,
            &["/foo/bar/", "/foo/a/b/"],
            &["/foo/bar", "/foo/", "/foo"],
        );
        check(
            "/{*}/{**}/admin/x",
            matches,
            &["/a/b/admin/x", "/a/b/c/admin/x", "/a/admin/admin/x"],
            &["/a/admin/x", "/admin/x", "/a/b/admin/x/", "/a/b/xadmin/x"],
        );
    }

    #[test]
    fn refuses_paths_that_no_request_can_have() {
        for bad in [
            "a", "/a//b", "/a/../b", "/a?b", "/%61", "/a b", "/a//*", "/a/../*", "/a%*", "*//b", "*?x", "a*", "/a%2fb",
        ] {
            assert_eq!(bad.parse::<PathPattern>(), Err(ConditionPatternError::Path), "{bad}");
        }
        for bad in [
            "/{**}/{*}",
            "/{**}/a/{**}",
            "/{**}a",
            "/{**}//",
            "/x{*}",
            "/{*}x",
            "/{id}",
            "/{}",
            "/{*}/*",
            "{*}",
            "/{*}//",
            "/{***}",
            "/{{*}}",
        ] {
            assert_eq!(
                bad.parse::<PathPattern>(),
                Err(ConditionPatternError::Template),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_peer_is_matched_behind_the_scheme() {
        let matches = |pattern: &PeerPattern, value: &str| pattern.matches(&value.parse().unwrap());
        let (web, other) = ("spiffe://e.org/ns/shop/sa/web", "spiffe://f.org/ns/shop/sa/web");
        check(web, matches, &[web], &[other, "spiffe://e.org/ns/shop/sa/web2"]);
        check("spiffe://e.org/ns/*", matches, &[web], &[other, "spiffe://e.org/n"]);
        check("*/sa/web", matches, &[web, other], &["spiffe://e.org/ns/shop/sa/web2"]);
        check("*", matches, &[web, other], &[]);
        check("*/e.org/ns/shop/sa/web", matches, &[], &[web]);
        for bad in [
            "e.org/ns/a",
            "spiffe://e.org*",
            "spiffe://*",
            "e.org/*",
            "spiffe://E/*",
            "spiffe://e.org/ns//a",
        ] {
            assert_eq!(bad.parse::<PeerPattern>(), Err(ConditionPatternError::Peer), "{bad}");
        }
    }

    #[test]
    fn namespace_and_service_account_are_where_istio_looks_for_them() {
        let namespace = |pattern: &NamePattern, id: &str| matches_namespace(pattern, &id.parse().unwrap());
        let shop = "spiffe://e/ns/shop/sa/web";
        check(
            "shop",
            namespace,
            &[shop, "spiffe://e/x/ns/shop/y"],
            &[
                "spiffe://e/ns/shop",
                "spiffe://e/ns/shops/sa/web",
                "spiffe://e/sa/shop/x",
            ],
        );
        check("sh*", namespace, &[shop], &["spiffe://e/ns/xsh/sa/web"]);
        check("*", namespace, &[shop], &["spiffe://e/shop", "spiffe://e"]);
        let account = |pattern: &ServiceAccountName, id: &str| pattern.matches(&id.parse().unwrap());
        check(
            "shop/web",
            account,
            &[shop, "spiffe://e/ns/shop/sa/web/x", "spiffe://e/ns/shop/y/sa/web"],
            &[
                "spiffe://e/ns/shop/sa/web2",
                "spiffe://e/ns/other/sa/web",
                "spiffe://e/sa/web/ns/shop",
            ],
        );
        check(
            "sa/web",
            account,
            &["spiffe://e/ns/sa/sa/web"],
            &["spiffe://e/ns/sa/web"],
        );
    }

    const ISSUERS: [&str; 4] = [
        "https://i.example",
        "https://i.example/tenants/7",
        "https://j.example/",
        "urn:k",
    ];

    /// Patterns of principals; the issuers and subjects that match, and others that do not.
    const PRINCIPALS: &[(&str, &[&str], &[&str])] = &[
        (
            "https://i.example/alice",
            &["https://i.example alice"],
            &["https://i.example alice2", "https: /i.example/alice", "urn:k alice"],
        ),
        (
            "https://i.example/users/7/alice",
            &["https://i.example users/7/alice"],
            &["https://i.example/users/7 alice", "https://i.example alice"],
        ),
        (
            "https://i.example/tenants/7/alice",
            &["https://i.example/tenants/7 alice"],
            &["https://i.example tenants/7/alice"],
        ),
        (
            "https://i.example/tenants/7/a/b",
            &["https://i.example/tenants/7 a/b"],
            &["https://i.example tenants/7/a/b", "https://i.example/tenants/7/a b"],
        ),
        (
            "https://i.example/tenants/7/",
            &["https://i.example tenants/7/"],
            &["https://i.example/tenants/7 a"],
        ),
        (
            "https://j.example//alice",
            &["https://j.example/ alice"],
            &["https://j.example /alice"],
        ),
        (
            "urn:k/spiffe://e.org/a",
            &["urn:k spiffe://e.org/a"],
            &["urn:k a", "urn:k/spiffe://e.org a"],
        ),
        (
            "https://i.example/*",
            &["https://i.example alice", "https://i.example a/b"],
            &["https://i.example ", "https://i.example/tenants/7 alice"],
        ),
        (
            "https://i.example/al*",
            &["https://i.example alice"],
            &["https://i.example bob"],
        ),
        (
            "https://i.example/a/b*",
            &["https://i.example a/bc"],
            &["https://i.example/a bc"],
        ),
        (
            "*/alice",
            &["https://i.example alice", "urn:k alice"],
            &["https://i.example bob"],
        ),
        (
            "*/users/7",
            &["https://i.example users/7"],
            &["https://i.example/users 7"],
        ),
        (
            "*.example/alice",
            &["https://i.example alice"],
            &["https://i.test alice", "https://i.example xalice"],
        ),
        ("*.example/a/b", &["https://i.example a/b"], &["https://i.example/a b"]),
        ("*ers/7", &["https://i.example users/7"], &["https://i.example 7"]),
        ("*ice", &["https://i.example alice"], &["https://i.example alic"]),
        ("*", &["i a"], &["i "]),
    ];

    #[test]
    fn a_principal_is_split_after_the_longest_issuer_that_is_known() {
        for (pattern, matching, others) in PRINCIPALS {
            let parsed = PrincipalPattern::parse(pattern, &ISSUERS).unwrap();
            for (values, expected) in [(matching, true), (others, false)] {
                for value in *values {
                    let (issuer, subject) = value.split_once(' ').unwrap();
                    assert_eq!(parsed.matches(issuer, subject), expected, "{pattern} {value}");
                    // What matches in parts matches as one text.
                    assert!(
                        !expected || parsed.matches_whole_text(issuer, subject),
                        "{pattern} {value}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_principal_as_one_text_may_have_its_slashes_anywhere() {
        let table: [(&str, &[&str], &[&str]); 8] = [
            (
                "https://i.example/tenants/7/alice",
                &["https://i.example tenants/7/alice", "https://i.example/tenants 7/alice"],
                &[
                    "https://i.example tenants/7/alice2",
                    "https://i.exampl tenants/7/alice",
                    "urn:k alice",
                ],
            ),
            (
                "https://i.example/*",
                &["https://i.example/tenants/7 alice", "https://i.example a"],
                &["https://i.example.org a", "urn:k https://i.example/a"],
            ),
            (
                "https://i.example/tenants/7/al*",
                &["https://i.example tenants/7/alice"],
                &["https://i.example tenants/7/bob", "https://i.example tenants/7"],
            ),
            ("*/alice", &["urn:k team/alice", "urn:k alice"], &["urn:k xalice"]),
            (
                "*example/a/b",
                &["https://i.example a/b", "https://i.example/a b", "urn:k example/a/b"],
                &["https://i.example xa/b", "https://i.example b"],
            ),
            (
                "*ers/7",
                &["https://i.example users/7", "urn:users 7"],
                &["urn:users 77"],
            ),
            ("*7", &["urn:k 7", "urn:k 17"], &["urn:7 k"]),
            ("*", &["urn:k a"], &[]),
        ];
        for (pattern, matching, others) in table {
            let parsed = PrincipalPattern::parse(pattern, &ISSUERS).unwrap();
            for (values, expected) in [(matching, true), (others, false)] {
                for value in values {
                    let (issuer, subject) = value.split_once(' ').unwrap();
                    let matches = parsed.matches_whole_text(issuer, subject);
                    assert_eq!(matches, expected, "{pattern} {value}");
                }
            }
        }
    }

    #[test]
    fn a_principal_fits_as_one_text_where_a_rule_refuses() {
        let table = [
            ("*/alice", "https://i.example", "alice", true),
            ("*/alice", "https://i.example", "team/alice", false),
            ("https://i.example/*", "https://i.example/tenants/7", "alice", false),
            (
                "https://i.example/tenants/7/alice",
                "https://i.example",
                "tenants/7/alice",
                false,
            ),
        ];
        for (pattern, issuer, subject, by_parts) in table {
            let pattern_value = || PrincipalPattern::parse(pattern, &ISSUERS).unwrap();
            let any_of = Values {
                any_of: vec![pattern_value()],
                none_of: vec![],
            };
            let none_of = Values {
                any_of: vec![],
                none_of: vec![pattern_value()],
            };
            let hold = |values: &Values<PrincipalPattern>, polarity| {
                let strict = |entry: &PrincipalPattern| entry.matches(issuer, subject);
                values.are_satisfied_by_either_reading(polarity, strict, |entry| {
                    entry.matches_whole_text(issuer, subject)
                })
            };
            let told = [Polarity::Rejecting, Polarity::Accepting].map(|p| (hold(&any_of, p), hold(&none_of, p)));
            assert_eq!(
                told,
                [(true, !by_parts), (by_parts, false)],
                "{pattern} {issuer} {subject}"
            );
        }
    }

    #[test]
    fn a_principal_that_no_token_can_have_is_none() {
        let known = ["https://i.example"];
        for (pattern, issuers, expected) in [
            ("alice", &known[..], ConditionPatternError::Principal),
            ("al*", &known, ConditionPatternError::Principal),
            ("*/", &known, ConditionPatternError::Principal),
            ("a*b", &known, ConditionPatternError::Text),
            ("/alice", &known, ConditionPatternError::Issuer),
            ("https://i.example/", &known, ConditionPatternError::Issuer),
            ("https://other.example/alice", &known, ConditionPatternError::Issuer),
            ("https://i.example.org/alice", &known, ConditionPatternError::Issuer),
            ("https://i.exam*", &known, ConditionPatternError::Issuer),
            ("https://i.example/alice", &[], ConditionPatternError::Issuer),
        ] {
            assert_eq!(PrincipalPattern::parse(pattern, issuers), Err(expected), "{pattern}");
        }
    }
}
