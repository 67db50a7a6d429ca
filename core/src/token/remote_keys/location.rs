//! Where a document is fetched: an `https` URI (RFC 9110 §4.2), taken apart for a request through a
//! named cluster.

use std::fmt;

/// A longer one is refused.
const URI_BYTES_MAX: usize = 2048;

/// Which schemes a URI may have. Whether a connection is encrypted is the cluster's affair; the
/// scheme says what its author meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedSchemes {
    /// `https` alone.
    Https,
    /// `http` as well.
    HttpsAndHttp,
}

/// The authority and path of a URI, ready for `:authority` and `:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Host, with a port where the URI has one.
    pub authority: String,
    /// Path and query, beginning with a slash.
    pub path: String,
}

/// What of an issuer's metadata is asked for, by its registered name under `/.well-known/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataKind {
    /// OpenID Connect Discovery 1.0 §4.
    OpenidConfiguration,
    /// RFC 8414 §3.
    OauthAuthorizationServer,
}

/// Why a text is no location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an absolute {}URI of at most {URI_BYTES_MAX} bytes, with a host and without user or fragment", .0)]
pub struct LocationError(AllowedSchemes);

impl fmt::Display for AllowedSchemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https ",
            Self::HttpsAndHttp => "https or http ",
        })
    }
}

impl Location {
    /// Takes a URI apart.
    ///
    /// # Errors
    /// When it has another scheme, no host, a user, a fragment, or characters that no URI has.
    pub fn parse(uri: &str, schemes: AllowedSchemes) -> Result<Self, LocationError> {
        Self::parts(uri, schemes).ok_or(LocationError(schemes))
    }

    /// Where the metadata of an issuer are. The issuer must have neither query nor fragment (OpenID
    /// Connect Discovery 1.0 §3, RFC 8414 §2).
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn of_metadata(kind: MetadataKind, issuer: &str, schemes: AllowedSchemes) -> Result<Self, LocationError> {
        let issuer = Self::parse(issuer, schemes)?;
        if issuer.path.contains('?') {
            return Err(LocationError(schemes));
        }
        // Both say: without the slash at the end of the issuer's path.
        let path = issuer.path.strip_suffix('/').unwrap_or(&issuer.path);
        let path = match kind {
            MetadataKind::OpenidConfiguration => format!("{path}/.well-known/openid-configuration"),
            MetadataKind::OauthAuthorizationServer => format!("/.well-known/oauth-authorization-server{path}"),
        };
        Ok(Self { path, ..issuer })
    }

    fn parts(uri: &str, schemes: AllowedSchemes) -> Option<Self> {
        if uri.len() > URI_BYTES_MAX {
            return None;
        }
        let (scheme, rest) = uri.split_once("://")?;
        let is_allowed = scheme.eq_ignore_ascii_case("https")
            || (schemes == AllowedSchemes::HttpsAndHttp && scheme.eq_ignore_ascii_case("http"));
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        (is_allowed && is_authority(authority) && path.bytes().all(is_path_or_query)).then(|| Self {
            authority: authority.to_ascii_lowercase(),
            path,
        })
    }
}

impl MetadataKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::OpenidConfiguration, Self::OauthAuthorizationServer];

    /// The registered name (RFC 8414 §7.3).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenidConfiguration => "openid-configuration",
            Self::OauthAuthorizationServer => "oauth-authorization-server",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// A name or an address, and perhaps a port. User information is none of it (RFC 9110 §4.2.4).
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            Some(_) | None => return false,
        },
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = match port.strip_prefix(':') {
        Some(number) => number.bytes().all(|b| b.is_ascii_digit()) && number.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    is_port && !host.is_empty() && host.bytes().all(is_host)
}

/// RFC 3986 §3.3 and §3.4.
fn is_path_or_query(b: u8) -> bool {
    b.is_ascii_graphic()
        && !matches!(
            b,
            b'"' | b'#' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_uri_apart() {
        let check = |uri: &str, expected: Option<(&str, &str)>| {
            let got = Location::parse(uri, AllowedSchemes::Https).ok();
            let got = got.as_ref().map(|it| (it.authority.as_str(), it.path.as_str()));
            assert_eq!(got, expected, "{uri}");
        };
        check("https://a.example/keys?x=1", Some(("a.example", "/keys?x=1")));
        check("HTTPS://A.example:8443", Some(("a.example:8443", "/")));
        check("https://a.example?x", Some(("a.example", "/?x")));
        check("https://[::1]:1/k", Some(("[::1]:1", "/k")));
        for bad in [
            "http://a.example/keys",
            "https:///keys",
            "https://",
            "https://user@a.example/",
            "https://a.example:pw@b.example/",
            "https://a.example:/",
            "https://a.example:0/",
            "https://a.example:65536/",
            "https://a.example:+1/",
            "https://[::1/",
            "https://[a]/",
            "https://[::1]x/",
            "https://a.example/#f",
            "https://a.example/a b",
            "https://a.example/\r\nx: y",
            "https://\u{e4}.example/",
            "/keys",
            "",
            "file:///etc/passwd",
        ] {
            check(bad, None);
        }
        let long = format!("https://a.example/{}", "a".repeat(URI_BYTES_MAX));
        check(&long, None);
        assert!(Location::parse("http://a.example/keys", AllowedSchemes::HttpsAndHttp).is_ok());
    }

    #[test]
    fn metadata_are_where_the_specifications_say() {
        let check = |issuer: &str, kind, expected: Option<&str>| {
            let got = Location::of_metadata(kind, issuer, AllowedSchemes::Https).ok();
            assert_eq!(got.as_ref().map(|it| it.path.as_str()), expected, "{issuer}");
        };
        let (openid, oauth) = (
            MetadataKind::OpenidConfiguration,
            MetadataKind::OauthAuthorizationServer,
        );
        // The examples of OpenID Connect Discovery 1.0 §4.1 and RFC 8414 §3.1.
        check("https://example.com", openid, Some("/.well-known/openid-configuration"));
        check(
            "https://example.com/",
            openid,
            Some("/.well-known/openid-configuration"),
        );
        check(
            "https://example.com/issuer1",
            openid,
            Some("/issuer1/.well-known/openid-configuration"),
        );
        check(
            "https://example.com",
            oauth,
            Some("/.well-known/oauth-authorization-server"),
        );
        check(
            "https://example.com/issuer1/",
            oauth,
            Some("/.well-known/oauth-authorization-server/issuer1"),
        );
        check("https://example.com/?tenant=1", openid, None);
        check("https://example.com/#f", openid, None);
    }
}
