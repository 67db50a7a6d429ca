//! The response of an endpoint: a key set, or the metadata with its place. Nothing in it is
//! trusted.

use picket_model::problems::{Problems, shortened};
use picket_model::strict_json::{self, Json};

use super::location::{AllowedSchemes, Location};
use crate::jose::keys::KeySet;
use crate::request::Header;

/// The limit of a document. A larger response is refused before it is read.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a message of Envoy is about a failed TLS handshake.
pub(crate) fn is_tls_failure(text: &str) -> bool {
    ["TLS_error", "SSL routines"].iter().any(|part| text.contains(part))
}

/// The response to an HTTP call.
#[derive(Clone, Copy, Debug)]
pub struct HttpResponse<'a> {
    /// All response headers, `:status` among them.
    pub headers: &'a [Header<'a>],
    /// The whole body, of at most [`DOCUMENT_BYTES_MAX`].
    pub body: &'a [u8],
}

/// Why a fetch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The host could not send the request: no such cluster, or none of its endpoints is up.
    #[error("the host did not send the request: no such cluster, or no healthy endpoint in it")]
    HostRefused,
    /// No response: the connection broke, or the time-out passed.
    #[error("no answer came")]
    EndpointUnreachable,
    /// One end does not accept the other's certificate, or no TLS is spoken; in the proxy's words.
    #[error("the TLS handshake failed; check the cluster's `transport_socket`, authorities and names: {0}")]
    TlsFailed(String),
    /// The proxy answered in the endpoint's place, with this message.
    #[error("the proxy has no answer of the endpoint: {0}")]
    ProxyAnswered(String),
    /// The response has another status than 200.
    #[error("the answer has status {0}, expected 200")]
    EndpointStatus(u16),
    /// The response is longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the answer is longer than {DOCUMENT_BYTES_MAX} bytes")]
    AnswerTooLarge,
    /// The metadata are not those of the issuer, or name no place for its keys.
    #[error("the metadata are refused: {0}")]
    MetadataInvalid(String),
    /// The document is no key set, holds a secret, or none of its keys can be used.
    #[error("the key set is refused: {0}")]
    KeySetInvalid(String),
}

/// The result of a fetch, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchResult {
    /// A key set was fetched.
    Fetched,
    /// No response with status 200 came.
    Unavailable,
    /// There was no TLS connection.
    TlsFailed,
    /// The content of the response cannot be used.
    Invalid,
}

impl FetchResult {
    /// Every result.
    pub const ALL: &'static [Self] = &[Self::Fetched, Self::Unavailable, Self::TlsFailed, Self::Invalid];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Unavailable => "unavailable",
            Self::TlsFailed => "tls_failed",
            Self::Invalid => "invalid",
        }
    }
}

impl FetchError {
    /// Its kind.
    #[must_use]
    pub fn result(&self) -> FetchResult {
        match self {
            Self::HostRefused | Self::EndpointUnreachable | Self::ProxyAnswered(_) | Self::EndpointStatus(_) => {
                FetchResult::Unavailable
            }
            Self::TlsFailed(_) => FetchResult::TlsFailed,
            Self::AnswerTooLarge | Self::MetadataInvalid(_) | Self::KeySetInvalid(_) => FetchResult::Invalid,
        }
    }
}

impl<'a> HttpResponse<'a> {
    /// The body of a response with status 200, without a byte order mark, which readers may ignore
    /// (RFC 8259 §8.1).
    pub(in crate::token) fn document(&self) -> Result<&'a [u8], FetchError> {
        const OK: u16 = 200;
        match self.status() {
            Some(OK) if self.body.len() > DOCUMENT_BYTES_MAX => Err(FetchError::AnswerTooLarge),
            Some(OK) => Ok(self.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(self.body)),
            // Where there is no response of the endpoint, the proxy makes one.
            Some(status @ (503 | 504)) => {
                Err(answered_by_proxy(self.body).unwrap_or(FetchError::EndpointStatus(status)))
            }
            Some(other) => Err(FetchError::EndpointStatus(other)),
            None => Err(FetchError::EndpointUnreachable),
        }
    }

    /// Why there is no document in it.
    #[must_use]
    pub fn failure(&self) -> Option<FetchError> {
        self.document().err()
    }

    fn status(&self) -> Option<u16> {
        let value = self.values(":status").next()?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let headers = self.headers.iter();
        headers.filter(move |(have, _)| *have == name).map(|(_, value)| *value)
    }

    /// The freshness lifetime in seconds, by `Cache-Control` and `Age` (RFC 9111 §4.2); the
    /// shortest of several, and 0 where the response must not be stored. `None`: there is none.
    pub(super) fn fresh_for_s(&self) -> Option<u64> {
        let text = |value: &'a [u8]| std::str::from_utf8(value).ok();
        let directives = self
            .values("cache-control")
            .filter_map(text)
            .flat_map(|value| value.split(','));
        let fresh_s = directives.filter_map(freshness_s).min()?;
        let age_s = self
            .values("age")
            .filter_map(text)
            .filter_map(|age| age.trim().parse::<u64>().ok());
        Some(fresh_s.saturating_sub(age_s.max().unwrap_or(0)))
    }
}

/// The failure behind a response of Envoy itself, by its message.
fn answered_by_proxy(body: &[u8]) -> Option<FetchError> {
    const BEGINNINGS: [&str; 3] = [
        "upstream connect error",
        "upstream request timeout",
        "no healthy upstream",
    ];
    const CHARACTERS_MAX: usize = 500;
    let text = std::str::from_utf8(body).ok()?;
    if !BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) {
        return None;
    }
    let is_tls = is_tls_failure(text);
    let text: String = text.chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect();
    Some(match is_tls {
        true => FetchError::TlsFailed(text),
        false => FetchError::ProxyAnswered(text),
    })
}

/// What a directive says about freshness. RFC 9111 §5.2.2: names are compared without regard to
/// case, and an argument may be quoted.
fn freshness_s(directive: &str) -> Option<u64> {
    let (name, value) = match directive.split_once('=') {
        Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
        None => (directive.trim(), ""),
    };
    let is = |other| name.eq_ignore_ascii_case(other);
    if is("no-store") || is("no-cache") {
        return Some(0);
    }
    // RFC 9111 §4.2.1: freshness that cannot be read is none.
    is("max-age").then(|| value.parse().unwrap_or(0))
}

/// Reads a published key set, with the problems of keys that are left out.
pub(super) fn key_set(document: &[u8]) -> Result<(KeySet, Problems), FetchError> {
    let json =
        strict_json::parse(document).map_err(|error| FetchError::KeySetInvalid(format!("expected JSON: {error}")))?;
    KeySet::parse_published(&json).map_err(|problems| FetchError::KeySetInvalid(problems.to_string()))
}

/// Reads `jwks_uri` of the metadata.
pub(super) fn key_set_location(metadata: &[u8], issuer: &str, schemes: AllowedSchemes) -> Result<Location, FetchError> {
    let invalid = |message: String| FetchError::MetadataInvalid(message);
    let json = strict_json::borrow(metadata).map_err(|error| invalid(format!("expected JSON: {error}")))?;
    let Json::Object(members) = json else {
        return Err(invalid("expected a JSON object".to_owned()));
    };
    let text = |name: &str| match members.get(name) {
        Some(Json::String(text)) => Ok(text.as_ref()),
        Some(_) | None => Err(invalid(format!("`{name}`: expected a string"))),
    };
    // OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3: identical to the issuer that was asked for.
    let found = text("issuer")?;
    if found != issuer {
        return Err(invalid(format!(
            "`issuer`: expected `{issuer}`, found `{}`",
            shortened(found)
        )));
    }
    let uri = text("jwks_uri")?;
    Location::parse(uri, schemes).map_err(|error| invalid(format!("`jwks_uri`: {error}, found `{}`", shortened(uri))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_the_shortest_that_the_headers_say() {
        let check = |headers: &[(&'static str, &'static str)], expected: Option<u64>| {
            let headers: Vec<Header<'_>> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let answer = HttpResponse {
                headers: &headers,
                body: b"",
            };
            assert_eq!(answer.fresh_for_s(), expected, "{headers:?}");
        };
        check(&[], None);
        check(&[("cache-control", "public")], None);
        check(&[("cache-control", "public, Max-Age=600, must-revalidate")], Some(600));
        check(&[("cache-control", "max-age=\"60\"")], Some(60));
        check(
            &[("cache-control", "max-age=600"), ("cache-control", "max-age=60")],
            Some(60),
        );
        check(&[("cache-control", "max-age=600, no-cache")], Some(0));
        check(&[("cache-control", "no-store")], Some(0));
        check(&[("cache-control", "max-age=soon")], Some(0));
        check(&[("cache-control", "max-age=99999999999999999999999")], Some(0));
        check(&[("cache-control", "max-age=600"), ("age", "100")], Some(500));
        check(&[("cache-control", "max-age=600"), ("age", "700")], Some(0));
        check(&[("age", "700")], None);
        check(&[("expires", "0")], None);
    }

    #[test]
    fn metadata_must_be_of_the_issuer_and_say_where_its_keys_are() {
        let issuer = "https://issuer.example/a";
        let read = |text: &str| key_set_location(text.as_bytes(), issuer, AllowedSchemes::Https);
        let good = r#"{"issuer":"https://issuer.example/a","jwks_uri":"https://keys.example/k","x":[1]}"#;
        assert_eq!(
            read(good).unwrap(),
            Location {
                authority: "keys.example".to_owned(),
                path: "/k".to_owned()
            }
        );
        for bad in [
            good.replace("/a\"", "/a/\""),
            good.replace("issuer.example/a", "ISSUER.example/a"),
            good.replace("\"issuer\"", "\"iss\""),
            good.replace("https://keys", "http://keys"),
            good.replace("\"https://keys.example/k\"", "7"),
            good.replace("\"x\":[1]", "\"jwks_uri\":\"https://other.example/k\""),
            good.replace('{', "["),
            String::new(),
        ] {
            assert_eq!(read(&bad).unwrap_err().result(), FetchResult::Invalid, "{bad}");
        }
    }

    #[test]
    fn what_the_proxy_says_in_the_endpoints_place_is_told_apart() {
        let read = |status: &'static str, body: &str| {
            let headers = [(":status", status.as_bytes())];
            let answer = HttpResponse {
                headers: &headers,
                body: body.as_bytes(),
            };
            answer.failure().unwrap()
        };
        let connect =
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
        let refused = format!("{connect}, transport failure reason: delayed connect error: Connection refused");
        let tls = format!("{connect}, transport failure reason: TLS_error:|268435581:SSL routines:OPENSSL_internal\n");
        assert_eq!(read("503", &tls), FetchError::TlsFailed(tls.trim_end().to_owned()));
        for text in [refused.as_str(), "upstream request timeout", "no healthy upstream"] {
            assert_eq!(read("503", text), FetchError::ProxyAnswered(text.to_owned()));
        }
        let long = format!("{tls}{}", "x".repeat(1_000));
        assert!(read("503", &long).to_string().len() < 700);
        // An endpoint's own words are not repeated.
        for (status, body) in [("503", "down for TLS_error"), ("504", ""), ("500", tls.as_str())] {
            assert_eq!(read(status, body), FetchError::EndpointStatus(status.parse().unwrap()));
        }
    }

    #[test]
    fn only_an_answer_with_status_200_and_of_bounded_length_is_read() {
        let read = |status: Option<&'static str>, body: &[u8]| {
            let headers: Vec<Header<'_>> = status.iter().map(|status| (":status", status.as_bytes())).collect();
            HttpResponse {
                headers: &headers,
                body,
            }
            .document()
            .map(<[u8]>::len)
        };
        assert_eq!(read(Some("200"), b"x"), Ok(1));
        assert_eq!(read(Some("200"), &[0; DOCUMENT_BYTES_MAX]), Ok(DOCUMENT_BYTES_MAX));
        assert_eq!(
            read(Some("200"), &[0; DOCUMENT_BYTES_MAX + 1]),
            Err(FetchError::AnswerTooLarge)
        );
        for status in ["204", "301", "404", "503", "504"] {
            let expected = FetchError::EndpointStatus(status.parse().unwrap());
            assert_eq!(read(Some(status), b"x"), Err(expected));
        }
        assert_eq!(read(Some("OK"), b"x"), Err(FetchError::EndpointUnreachable));
        // RFC 8259 §8.1: one byte order mark, at the beginning.
        assert_eq!(read(Some("200"), b"\xef\xbb\xbf{}"), Ok(2));
        assert_eq!(read(Some("200"), b"\xef\xbb\xbf\xef\xbb\xbf{}"), Ok(5));
        assert_eq!(read(Some("200"), b"{}\xef\xbb\xbf"), Ok(5));
        assert_eq!(read(None, b"x"), Err(FetchError::EndpointUnreachable));
    }
}
