//! SPIFFE IDs (SPIFFE-ID §2) and trust domains.

mod pattern;

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

pub use pattern::{SpiffeIdPattern, SpiffeIdPatternError};

/// SPIFFE-ID §2.3: implementations must support 2048 bytes, and should not generate more.
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// SPIFFE-ID §2.1: a trust domain name is at most 255 bytes.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;
const SCHEME: &str = "spiffe://";

/// A trust domain name: lower-case letters, digits, dots, hyphens and underscores (SPIFFE-ID §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

/// A SPIFFE ID: `spiffe://<trust domain>/<path>`, compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: String,
    trust_domain_end: usize,
}

/// Why a string is not a SPIFFE ID or a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Over [`SPIFFE_ID_BYTES_MAX`], or the trust domain over [`TRUST_DOMAIN_BYTES_MAX`].
    #[error("longer than SPIFFE-ID allows (2048 bytes, 255 for the trust domain)")]
    TooLong,
    /// It does not begin with `spiffe://`.
    #[error("expected a URI that begins with `spiffe://`")]
    Scheme,
    /// The trust domain is empty or holds other characters than `a-z 0-9 . - _`.
    #[error("expected a trust domain of lower-case letters, digits, `.`, `-` and `_`")]
    TrustDomain,
    /// A path segment is empty, `.` or `..`, or holds other characters than `a-z A-Z 0-9 . - _`.
    #[error("expected path segments of letters, digits, `.`, `-` and `_`, none of them empty, `.` or `..`")]
    Path,
}

impl TrustDomain {
    /// The name, such as `example.org`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Trust domains are looked up by the names in SPIFFE IDs.
impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(name: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(name).map(|()| Self(name.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SpiffeId {
    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The name of the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.uri.get(SCHEME.len()..self.trust_domain_end).unwrap_or_default()
    }

    /// The path with its leading slash; empty for a trust domain's own ID.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.get(self.trust_domain_end..).unwrap_or_default()
    }

    /// The same path in another trust domain; `None`: it is too long there.
    #[must_use]
    pub fn moved_to(&self, trust_domain: &TrustDomain) -> Option<Self> {
        format!("{SCHEME}{trust_domain}{}", self.path()).parse().ok()
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(uri: &str) -> Result<Self, SpiffeIdError> {
        if uri.len() > SPIFFE_ID_BYTES_MAX {
            return Err(SpiffeIdError::TooLong);
        }
        // SPIFFE-ID §2: the scheme is compared without regard to case, but every issuer writes it in lower case; a
        // second spelling of one identity would be a second key in every table, so it is refused.
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (trust_domain, path) = match rest.split_once('/') {
            Some((trust_domain, path)) => (trust_domain, Some(path)),
            None => (rest, None),
        };
        check_trust_domain(trust_domain)?;
        if let Some(path) = path {
            path.split('/').try_for_each(check_segment)?;
        }
        Ok(Self {
            uri: uri.to_owned(),
            trust_domain_end: SCHEME.len() + trust_domain.len(),
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// SPIFFE-ID §2.1: no user info, no port, no percent-encoding.
fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.len() > TRUST_DOMAIN_BYTES_MAX {
        return Err(SpiffeIdError::TooLong);
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || !name.bytes().all(allowed) {
        Err(SpiffeIdError::TrustDomain)
    } else {
        Ok(())
    }
}

/// Whether a text is one segment of a path (SPIFFE-ID §2.2).
#[must_use]
pub fn is_segment(text: &str) -> bool {
    check_segment(text).is_ok()
}

/// SPIFFE-ID §2.2: no empty, `.` or `..` segment, no trailing slash, no percent-encoding.
fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if matches!(segment, "" | "." | "..") || !segment.bytes().all(allowed) {
        return Err(SpiffeIdError::Path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Result<(&str, &str), SpiffeIdError>) {
        let parsed = uri.parse::<SpiffeId>();
        let got = parsed.as_ref().map(|id| (id.trust_domain(), id.path())).map_err(|e| *e);
        assert_eq!(got, expected, "{uri}");
    }

    #[test]
    fn reads_the_examples_of_the_specification() {
        check(
            "spiffe://staging.example.com/payments/mysql",
            Ok(("staging.example.com", "/payments/mysql")),
        );
        check(
            "spiffe://k8s-west.example.com/ns/staging/sa/default",
            Ok(("k8s-west.example.com", "/ns/staging/sa/default")),
        );
        check("spiffe://example.com", Ok(("example.com", "")));
    }

    #[test]
    fn refuses_what_the_specification_forbids() {
        check("https://example.com/a", Err(SpiffeIdError::Scheme));
        check("SPIFFE://example.com/a", Err(SpiffeIdError::Scheme));
        check("spiffe:///a", Err(SpiffeIdError::TrustDomain));
        check("spiffe://Example.com/a", Err(SpiffeIdError::TrustDomain));
        check("spiffe://user@example.com/a", Err(SpiffeIdError::TrustDomain));
        check("spiffe://example.com:8080/a", Err(SpiffeIdError::TrustDomain));
        check("spiffe://example.com/", Err(SpiffeIdError::Path));
        check("spiffe://example.com/a/", Err(SpiffeIdError::Path));
        check("spiffe://example.com/a//b", Err(SpiffeIdError::Path));
        check("spiffe://example.com/a/../b", Err(SpiffeIdError::Path));
        check("spiffe://example.com/%61", Err(SpiffeIdError::Path));
        check("spiffe://example.com/a?b", Err(SpiffeIdError::Path));
        check("spiffe://example.com/a\0b", Err(SpiffeIdError::Path));
    }

    #[test]
    fn holds_the_limits_of_length() {
        let longest = format!("spiffe://e/{}", "a".repeat(SPIFFE_ID_BYTES_MAX - 11));
        assert_eq!(
            longest.parse::<SpiffeId>().map(|id| id.as_str().len()),
            Ok(SPIFFE_ID_BYTES_MAX)
        );
        check(&format!("{longest}a"), Err(SpiffeIdError::TooLong));
        check(
            &format!("spiffe://{}/a", "e".repeat(TRUST_DOMAIN_BYTES_MAX + 1)),
            Err(SpiffeIdError::TooLong),
        );
    }
}
