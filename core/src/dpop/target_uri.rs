//! `htu`: the URI of the request that a proof is for, in normal form (RFC 3986 §6.2.2 and §6.2.3),
//! without query and fragment.

use std::borrow::Cow;

use crate::path;
use crate::request::{self, RequestHead};

/// A scheme of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriScheme {
    /// Over TLS.
    Https,
    /// Without.
    Http,
}

impl UriScheme {
    /// Both.
    pub const ALL: &'static [Self] = &[Self::Https, Self::Http];

    /// The name in a URI.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// RFC 9110 §4.2.1 and §4.2.2.
    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// A URI in normal form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TargetUri<'u> {
    scheme: UriScheme,
    host: Cow<'u, str>,
    port: u16,
    path: Cow<'u, str>,
}

impl<'u> TargetUri<'u> {
    /// Reads a URI. `None`: it is no absolute URI of HTTP whose host and path have one reading.
    pub(super) fn parse(uri: &'u str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        // RFC 3986 §6.2.2.1.
        let scheme = UriScheme::ALL
            .iter()
            .copied()
            .find(|known| known.name().eq_ignore_ascii_case(scheme))?;
        // RFC 9449 §4.3, 9: "ignoring any query and fragment parts".
        let without_query = rest.split(['?', '#']).next()?;
        let authority = without_query.split('/').next()?;
        let path = without_query.strip_prefix(authority)?;
        // RFC 3986 §6.2.3: an empty port is the default one, an empty path is the root.
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        let (host, port) = parse_host(authority)?;
        let path = if path.is_empty() { "/" } else { path };
        Some(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.default_port()),
            path: path::parse_target(path.as_bytes()).ok()?.path,
        })
    }

    /// Whether it is the request's, of which the proxy does not know the scheme that the client
    /// used.
    pub(super) fn is_of(&self, head: &RequestHead<'_>, schemes: &[UriScheme]) -> bool {
        schemes.contains(&self.scheme)
            && self.host == head.host
            && self.port == head.port.unwrap_or(self.scheme.default_port())
            && self.path == head.target.path
    }
}

/// Host and port. A trailing dot names the same host (RFC 1034 §3.1), and Envoy takes it off the
/// request's authority where `strip_trailing_host_dot` is set.
fn parse_host(authority: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    let is_name = !authority.starts_with('[');
    match authority.split_once(".:").filter(|_| is_name) {
        Some((host, port)) => {
            let dotless = format!("{host}:{port}");
            let (host, port) = request::parse_host(dotless.as_bytes()).ok()?;
            Some((Cow::Owned(host.into_owned()), port))
        }
        None => {
            let dotless = authority.strip_suffix('.').filter(|_| is_name);
            request::parse_host(dotless.unwrap_or(authority).as_bytes()).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[UriScheme] = UriScheme::ALL;

    /// Whether a proof for `htu` is one for a request of this authority and path.
    fn is_of(htu: &str, authority: &str, path: &str, schemes: &[UriScheme]) -> bool {
        let headers: [(&str, &[u8]); 3] = [
            (":method", b"GET"),
            (":authority", authority.as_bytes()),
            (":path", path.as_bytes()),
        ];
        let head = RequestHead::parse(&headers).unwrap();
        TargetUri::parse(htu).is_some_and(|uri| uri.is_of(&head, schemes))
    }

    #[test]
    fn one_uri_in_all_its_spellings() {
        for htu in [
            "https://api.example.org/a/b",
            "HTTPS://API.Example.ORG/a/b",
            "https://api.example.org:443/a/b",
            "https://api.example.org:/a/b",
            "https://api.example.org./a/b",
            "https://API.example.org.:443/a/b",
            "https://api.example.org.:/a/b",
            "https://api.example.org/a/./x/../b",
            "https://api.example.org/%61/%62",
            "https://api.example.org/a//b",
            "https://api.example.org/a/b?q=1",
            "https://api.example.org/a/b#f",
            "https://api.example.org/a/b?q=/#?/f",
        ] {
            for (authority, path) in [("api.example.org", "/a/b?q=2"), ("API.example.org:443", "/a/x/../b")] {
                assert!(is_of(htu, authority, path, BOTH), "{htu} for {authority}{path}");
            }
        }
        assert!(is_of("https://h", "h", "/", BOTH) && is_of("https://h?q", "h", "/", BOTH));
        assert!(is_of("https://[::1]:8443/a", "[::1]:8443", "/a", BOTH));
        assert!(!is_of("https://[::1]./a", "[::1]", "/a", BOTH));
        assert!(!is_of("https://[::1.]/a", "[::1]", "/a", BOTH));
        assert!(is_of("http://h:80/a%c3%a9", "h", "/a%C3%A9", BOTH));
    }

    #[test]
    fn another_uri_is_none_of_it() {
        for htu in [
            "",
            "/a/b",
            "//h/a/b",
            "https:/h/a/b",
            "https:h/a/b",
            "ftp://h/a/b",
            "wss://h/a/b",
            "https://h/a/B",
            "https://h/a/b/",
            "https://h/a",
            "https://h/a/b%2F",
            "https://h/a/b\\",
            "https://h/a/b ",
            " https://h/a/b",
            "https://h/../a/b",
            "https://user@h/a/b",
            "https://h:444/a/b",
            "https://h:80/a/b",
            "https://h::/a/b",
            "https://h:443:443/a/b",
            "https://hh/a/b",
            "https://h../a/b",
            "https://h.:444/a/b",
            "https://h..:443/a/b",
            "https://.h/a/b",
            "https://./a/b",
            "https://.:443/a/b",
            "https://h.:443.:443/a/b",
            "https://h.evil/a/b",
            "https://evil#@h/a/b",
            "https://evil?h/a/b",
            "https:///a/b",
            "https://%68/a/b",
        ] {
            assert!(!is_of(htu, "h", "/a/b", BOTH), "{htu}");
        }
        assert!(!is_of("https://h/a", "h:8443", "/a", BOTH));
        assert!(!is_of("https://h:8443/a", "h", "/a", BOTH));
        // The default port is that of the client's scheme.
        assert!(!is_of("http://h/a", "h:443", "/a", BOTH));
    }

    #[test]
    fn the_scheme_is_one_that_clients_use() {
        assert!(is_of("https://h/a", "h", "/a", &[UriScheme::Https]));
        assert!(!is_of("http://h/a", "h", "/a", &[UriScheme::Https]));
        assert!(is_of("http://h/a", "h", "/a", &[UriScheme::Http]));
        assert!(!is_of("https://h/a", "h", "/a", &[UriScheme::Http]));
    }
}
