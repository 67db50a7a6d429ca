//! The head of a request: all headers, read once, as bytes.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use picket_model::access::USER_AGENT_BYTES_MAX;

use crate::path::{self, Target, TargetError, split_at_byte};

/// Every header whose name begins so belongs to Picket: a client's copy never reaches the upstream.
pub const OWNED_HEADER_PREFIX: &str = "x-picket-";
/// A request with more headers is refused; Envoy's default limit is 100.
pub const HEADERS_MAX: usize = 256;
/// A longer request id or traceparent is replaced or dropped; both are the client's to choose in
/// some meshes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// RFC 9110 §11.6.2, in lower case as the proxy gives names.
pub const AUTHORIZATION: &str = "authorization";
/// RFC 6265 §5.4, in lower case as the proxy gives names.
pub const COOKIE: &str = "cookie";
/// RFC 9449 §4.1, in lower case as the proxy gives names.
pub const PROOF_HEADER: &str = "dpop";
/// RFC 9110 §7.6.1, in lower case as the proxy gives names.
pub const CONNECTION_HEADER: &str = "connection";
/// The options of `connection` that reach the upstream. Every other one names a header that the
/// next hop would drop.
const CONNECTION_OPTIONS: [&str; 2] = ["upgrade", "keep-alive"];
/// RFC 1035 §2.3.4.
pub(crate) const HOST_BYTES_MAX: usize = 255;
/// Methods are short tokens; the longest one registered with IANA has 17 characters.
pub(crate) const METHOD_BYTES_MAX: usize = 32;

/// A header as the proxy gives it: the name in lower case, the value as bytes.
pub type Header<'a> = (&'a str, &'a [u8]);

/// What Picket reads of a request's headers.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// All headers, as received.
    pub headers: &'a [Header<'a>],
    /// A token (RFC 9110 §9.1), as sent.
    pub method: &'a str,
    /// Lower case, without port.
    pub host: Cow<'a, str>,
    /// The port, where the authority names one.
    pub port: Option<u16>,
    /// Normalised path, and query.
    pub target: Target<'a>,
    /// `authorization`, without white space around it.
    pub authorization: Option<&'a [u8]>,
    /// `dpop`, as received: only where a token needs it does its number matter.
    pub proof: ProofHeader<'a>,
    /// `user-agent`, as received.
    user_agent: Option<&'a [u8]>,
    /// Whether there is a `connection`: Envoy leaves it in requests for an upgrade alone.
    has_connection: bool,
    /// `x-request-id`, as received: few requests need it read.
    request_id: Option<&'a [u8]>,
    /// `traceparent`, as received.
    traceparent: Option<&'a [u8]>,
    /// The protocol of the caller.
    pub protocol: CallerProtocol,
    /// The names of headers that are Picket's own and that the client sent all the same.
    pub forged: Vec<&'a str>,
}

/// The `DPoP` header fields of a request (RFC 9449 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProofHeader<'a> {
    /// There is none.
    #[default]
    None,
    /// There is one, with this value.
    One(&'a [u8]),
    /// There are more.
    Many,
}

impl<'a> ProofHeader<'a> {
    /// Adds a header field.
    #[must_use]
    fn with(self, value: &'a [u8]) -> Self {
        match self {
            Self::None => Self::One(value),
            Self::One(_) | Self::Many => Self::Many,
        }
    }
}

/// The facts about a caller that a reply needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its protocol.
    pub protocol: CallerProtocol,
    /// The request's id, for the document; empty: none.
    pub request_id: String,
}

/// The protocol of a caller, in which a refusal is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallerProtocol {
    /// HTTP: a status and a document.
    #[default]
    Http,
    /// gRPC: a gRPC status.
    Grpc,
    /// gRPC-Web with messages in binary: a gRPC status in the headers.
    GrpcWeb,
    /// gRPC-Web with messages in base64: the same.
    GrpcWebText,
}

impl CallerProtocol {
    fn of_content_type(content_type: Option<&[u8]>) -> Self {
        let Some(rest) = content_type.and_then(|value| value.strip_prefix(b"application/grpc")) else {
            return Self::Http;
        };
        // Each may have a suffix after `+` or parameters after `;`.
        let is_end = |rest: &[u8]| matches!(rest.first(), None | Some(b'+' | b';'));
        match rest.strip_prefix(b"-web") {
            None if is_end(rest) => Self::Grpc,
            Some(rest) if is_end(rest) => Self::GrpcWeb,
            Some(rest) if rest.strip_prefix(b"-text").is_some_and(is_end) => Self::GrpcWebText,
            None | Some(_) => Self::Http,
        }
    }
}

impl Caller {
    /// Reads the headers that a reply needs, which may be malformed: the first value of each
    /// counts.
    #[must_use]
    pub fn of(headers: &[Header<'_>]) -> Self {
        let first = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| *value)
        };
        Self {
            protocol: CallerProtocol::of_content_type(first("content-type")),
            request_id: first("x-request-id")
                .and_then(short_visible)
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// Why a request is malformed. `Display` may be shown to the caller: it repeats nothing of the
/// request but a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Over [`HEADERS_MAX`].
    #[error("the request has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    /// A header that can have only one value was sent more than once.
    #[error("the header `{0}` was sent more than once")]
    Repeated(&'static str),
    /// A pseudo-header is absent.
    #[error("the request has no `{0}`")]
    Missing(&'static str),
    /// The method is not a token.
    #[error("the method is not a token of at most {METHOD_BYTES_MAX} characters")]
    Method,
    /// Some servers take `delete` for `DELETE`, and rules do not.
    #[error("the method `{0}` is neither registered with IANA nor one of `further_methods`")]
    UnknownMethod(Box<str>),
    /// Policies would see a part of it.
    #[error("the header `user-agent` is longer than {USER_AGENT_BYTES_MAX} bytes")]
    UserAgentTooLong,
    /// The authority is not a host with an optional port.
    #[error("the authority is not a host name or address with an optional port")]
    Authority,
    /// RFC 1034 §3.1 allows it, and another virtual host of Envoy's may have the name with it.
    #[error("the authority's host ends with a dot")]
    AuthorityTrailingDot,
    /// `host` names another host than `:authority`: the upstream might believe either.
    #[error("the headers `host` and `:authority` differ")]
    HostDiffers,
    /// The target is refused.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// The headers that are read, each of which has one value at most (RFC 9110 §5.3).
#[derive(Default)]
struct SingleValued<'a> {
    method: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    traceparent: Option<&'a [u8]>,
}

impl<'a> SingleValued<'a> {
    fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a [u8]>)> {
        Some(match name {
            ":method" => (":method", &mut self.method),
            ":path" => (":path", &mut self.path),
            ":authority" => (":authority", &mut self.authority),
            ":scheme" => (":scheme", &mut self.scheme),
            "host" => ("host", &mut self.host),
            "authorization" => ("authorization", &mut self.authorization),
            "content-type" => ("content-type", &mut self.content_type),
            "content-length" => ("content-length", &mut self.content_length),
            "user-agent" => ("user-agent", &mut self.user_agent),
            "x-request-id" => ("x-request-id", &mut self.request_id),
            "traceparent" => ("traceparent", &mut self.traceparent),
            _ => return None,
        })
    }
}

impl<'a> RequestHead<'a> {
    /// Reads all headers of a request.
    ///
    /// # Errors
    /// [`RequestError`] for a request that is malformed or could be read in two ways.
    pub fn parse(headers: &'a [Header<'a>]) -> Result<Self, RequestError> {
        if headers.len() > HEADERS_MAX {
            return Err(RequestError::TooManyHeaders);
        }
        let mut single = SingleValued::default();
        let mut forged = Vec::new();
        let mut proof = ProofHeader::None;
        let mut has_connection = false;
        for (name, value) in headers {
            if let Some((name, slot)) = single.slot(name)
                && slot.replace(value).is_some()
            {
                return Err(RequestError::Repeated(name));
            }
            if is_owned(name) {
                forged.push(*name);
            }
            match *name {
                PROOF_HEADER => proof = proof.with(value),
                CONNECTION_HEADER => has_connection = true,
                _ => {}
            }
        }
        let authority = single.authority.ok_or(RequestError::Missing(":authority"))?;
        // RFC 9113 §8.3.1: a host field that says something else makes the request malformed.
        if single.host.is_some_and(|host| host != authority) {
            return Err(RequestError::HostDiffers);
        }
        let (host, port) = parse_host(authority)?;
        Ok(Self {
            headers,
            method: parse_method(single.method.ok_or(RequestError::Missing(":method"))?)?,
            host,
            port,
            target: path::parse_target(single.path.ok_or(RequestError::Missing(":path"))?)?,
            authorization: single.authorization.map(trimmed),
            proof,
            user_agent: single.user_agent.map(trimmed).filter(|agent| !agent.is_empty()),
            has_connection,
            request_id: single.request_id,
            traceparent: single.traceparent,
            protocol: CallerProtocol::of_content_type(single.content_type),
            forged,
        })
    }

    /// `user-agent` as policies see it, where it is not empty: UTF-8, in which a byte that is no
    /// part of a character is one of ISO 8859-1 (RFC 9110 §5.5). So no byte hides others.
    #[must_use]
    pub fn user_agent(&self) -> Option<Cow<'a, str>> {
        let agent = self.user_agent?;
        if let Ok(text) = std::str::from_utf8(agent) {
            return Some(text.into());
        }
        let mut text = String::with_capacity(agent.len().saturating_mul(2));
        for chunk in agent.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().copied().map(char::from));
        }
        Some(text.into())
    }

    /// Whether policies see the whole user agent.
    pub(crate) fn check_user_agent(&self) -> Result<(), RequestError> {
        match self.user_agent {
            Some(agent) if agent.len() > USER_AGENT_BYTES_MAX => Err(RequestError::UserAgentTooLong),
            Some(_) | None => Ok(()),
        }
    }

    /// `connection` without the names of headers; empty: nothing is left of it. `None`: it names
    /// none.
    #[must_use]
    pub fn connection_without_names(&self) -> Option<String> {
        if !self.has_connection {
            return None;
        }
        let fields = self.headers.iter().filter(|(name, _)| *name == CONNECTION_HEADER);
        let options = fields.flat_map(|(_, value)| value.split(|b| *b == b','));
        let options = options.map(trimmed).filter(|option| !option.is_empty());
        let known = |option: &[u8]| {
            let mut all = CONNECTION_OPTIONS.into_iter();
            all.find(|known| option.eq_ignore_ascii_case(known.as_bytes()))
        };
        let kept: Vec<&str> = options.clone().filter_map(known).collect();
        (kept.len() < options.count()).then(|| kept.join(", "))
    }

    /// `x-request-id`, where it is short visible text.
    #[must_use]
    pub fn request_id(&self) -> Option<&'a str> {
        self.request_id.and_then(short_visible)
    }

    /// `traceparent`, where it is short visible text.
    #[must_use]
    pub fn traceparent(&self) -> Option<&'a str> {
        self.traceparent.and_then(short_visible)
    }
}

/// Whether the name of a header or trailer is Picket's own. Some servers take `_` for `-`, and
/// those that make environment variables of headers (RFC 3875 §4.1.18) may take any other mark for
/// it too, so all these spellings are.
#[must_use]
pub fn is_owned(name: &str) -> bool {
    begins_with_spelling_of(name, OWNED_HEADER_PREFIX)
}

/// Whether a server could take the name of a header or trailer for this one, as with [`is_owned`].
#[must_use]
pub fn is_spelling_of(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && begins_with_spelling_of(name, wanted)
}

/// A field's value without the spaces and tabs around it, which are no part of it (RFC 9110 §5.5):
/// over HTTP/2 a client can send them, and a server behind HTTP/1.1 does not see them.
pub(crate) fn trimmed(value: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let mut value = value;
    while let Some((_, rest)) = value.split_first().filter(|(first, _)| is_blank(first)) {
        value = rest;
    }
    while let Some((_, rest)) = value.split_last().filter(|(last, _)| is_blank(last)) {
        value = rest;
    }
    value
}

fn begins_with_spelling_of(name: &str, wanted: &str) -> bool {
    let same = |(have, want): (&u8, &u8)| match want.is_ascii_alphanumeric() {
        false => !have.is_ascii_alphanumeric(),
        true => have.eq_ignore_ascii_case(want),
    };
    name.len() >= wanted.len() && name.as_bytes().iter().zip(wanted.as_bytes()).all(same)
}

/// Whether a method is in IANA's registry (RFC 9110 §16.1.1), apart from `*` and `PRI`, which no
/// request has.
#[must_use]
pub fn is_registered_method(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" | "QUERY"
            // WebDAV and its relatives: RFC 3253, 3648, 3744, 4437, 4791, 4918, 5323, 5842.
            | "ACL" | "BASELINE-CONTROL" | "BIND" | "CHECKIN" | "CHECKOUT" | "COPY" | "LABEL" | "LOCK" | "MERGE"
            | "MKACTIVITY" | "MKCALENDAR" | "MKCOL" | "MKREDIRECTREF" | "MKWORKSPACE" | "MOVE" | "ORDERPATCH"
            | "PROPFIND" | "PROPPATCH" | "REBIND" | "REPORT" | "SEARCH" | "UNBIND" | "UNCHECKOUT" | "UNLOCK"
            | "UPDATE" | "UPDATEREDIRECTREF" | "VERSION-CONTROL"
            // RFC 2068.
            | "LINK" | "UNLINK"
    )
}

/// Whether a method can be added to the registered ones: a token (RFC 9110 §9.1) without letters in
/// lower case.
#[must_use]
pub fn is_upper_case_method(method: &str) -> bool {
    parse_method(method.as_bytes()).is_ok_and(|method| !method.bytes().any(|b| b.is_ascii_lowercase()))
}

/// RFC 9110 §9.1 and §5.6.2.
fn parse_method(method: &[u8]) -> Result<&str, RequestError> {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(token) {
        return Err(RequestError::Method);
    }
    std::str::from_utf8(method).map_err(|_| RequestError::Method)
}

/// RFC 3986 §3.2.2 without percent-encoding: a DNS name, an IPv4 address, or an IPv6 address in
/// brackets; then a port.
///
/// # Errors
/// [`RequestError::Authority`] and [`RequestError::AuthorityTrailingDot`] for anything else.
pub(crate) fn parse_host(authority: &[u8]) -> Result<(Cow<'_, str>, Option<u16>), RequestError> {
    let authority = std::str::from_utf8(authority).map_err(|_| RequestError::Authority)?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (text, port) = rest.split_once(']').ok_or(RequestError::Authority)?;
            let address: Ipv6Addr = text.parse().map_err(|_| RequestError::Authority)?;
            // One form for each address (RFC 5952).
            let canonical = format!("[{address}]");
            let sent = authority.strip_suffix(port).unwrap_or(authority);
            let host = if canonical == sent {
                Cow::Borrowed(sent)
            } else {
                Cow::Owned(canonical)
            };
            (host, port.strip_prefix(':').or((!port.is_empty()).then_some("-")))
        }
        None => match split_at_byte(authority, b':') {
            Some((host, port)) => (Cow::Borrowed(host), Some(port)),
            None => (Cow::Borrowed(authority), None),
        },
    };
    let port = match port {
        None => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse::<u16>().map_err(|_| RequestError::Authority)?)
        }
        Some(_) => return Err(RequestError::Authority),
    };
    // A trailing dot names the same host (RFC 1034 §3.1), but another virtual host of Envoy's, so
    // it is no name here; Envoy takes it off where `strip_trailing_host_dot` is set.
    let is_name = is_dns_name(&host);
    if host.len() > HOST_BYTES_MAX || !(is_name || host.starts_with('[')) {
        return Err(match host.strip_suffix('.') {
            Some(host) if is_dns_name(host) => RequestError::AuthorityTrailingDot,
            Some(_) | None => RequestError::Authority,
        });
    }
    let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => host,
    };
    Ok((host, port))
}

/// Labels of letters, digits, `-` and `_`, with a dot between two of them. Looked up: each byte of
/// each host is asked about.
fn is_dns_name(host: &str) -> bool {
    const OTHER: u8 = 0;
    const LABEL: u8 = 1;
    const DOT: u8 = 2;
    const CLASSES: [u8; 256] = {
        let mut classes = [OTHER; 256];
        let (mut byte, mut rest): (u8, &mut [u8]) = (0, &mut classes);
        while let [class, after @ ..] = rest {
            *class = match byte {
                b'.' => DOT,
                b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => LABEL,
                _ => OTHER,
            };
            (byte, rest) = (byte.wrapping_add(1), after);
        }
        classes
    };
    // A dot at the beginning stands beside another one.
    let mut before = DOT;
    for byte in host.bytes() {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(OTHER);
        // Two dots side by side, or a byte of neither kind.
        if class == OTHER || class & before & DOT != 0 {
            return false;
        }
        before = class;
    }
    before != DOT
}

fn short_visible(value: &[u8]) -> Option<&str> {
    let visible = !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX && value.iter().all(u8::is_ascii_graphic);
    visible.then(|| std::str::from_utf8(value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a>(extra: &[Header<'a>]) -> Vec<Header<'a>> {
        let mut all: Vec<Header<'a>> = vec![(":method", b"GET"), (":path", b"/a"), (":authority", b"h")];
        all.retain(|(name, _)| !extra.iter().any(|(other, _)| name == other));
        all.extend_from_slice(extra);
        all
    }

    fn host(authority: &str) -> Result<String, RequestError> {
        RequestHead::parse(&headers(&[(":authority", authority.as_bytes())])).map(|head| head.host.into_owned())
    }

    #[test]
    fn refuses_a_second_value_of_a_single_valued_header() {
        for name in [
            "authorization",
            "content-type",
            "user-agent",
            "host",
            "x-request-id",
            ":path",
            ":authority",
        ] {
            let all = headers(&[(name, b"/x"), (name, b"/x")]);
            assert_eq!(
                RequestHead::parse(&all).unwrap_err().to_string(),
                format!("the header `{name}` was sent more than once")
            );
        }
        assert!(RequestHead::parse(&headers(&[("cookie", b"a"), ("cookie", b"b")])).is_ok());
    }

    #[test]
    fn names_the_pseudo_header_that_is_missing() {
        for name in [":method", ":path", ":authority"] {
            let mut all = headers(&[]);
            all.retain(|(have, _)| *have != name);
            assert_eq!(RequestHead::parse(&all), Err(RequestError::Missing(name)));
        }
    }

    #[test]
    fn finds_forged_headers_in_every_spelling() {
        let all = headers(&[
            ("x-picket-subject", b"a"),
            ("x_picket_subject", b"b"),
            ("X-Picket-New", b""),
            ("x.picket~subject", b"c"),
            ("x-picketing", b""),
            ("xapicket-subject", b""),
        ]);
        assert_eq!(
            RequestHead::parse(&all).unwrap().forged,
            [
                "x-picket-subject",
                "x_picket_subject",
                "X-Picket-New",
                "x.picket~subject"
            ]
        );
    }

    #[test]
    fn reads_hosts() {
        assert_eq!(host("Orders.Example.org:8443").as_deref(), Ok("orders.example.org"));
        assert_eq!(host("127.0.0.1:80").as_deref(), Ok("127.0.0.1"));
        assert_eq!(host("[::1]:80").as_deref(), Ok("[::1]"));
        assert_eq!(host("[::1]").as_deref(), Ok("[::1]"));
        for bad in [
            "",
            ".",
            "a..b",
            "user@h",
            "h:",
            "h:x",
            "h:+1",
            "h:99999",
            "[::1",
            "[x]",
            "[::1]80",
            "h/a",
            "a b",
            "é",
            "h:1:2",
            "orders.example.org..",
            ".orders.example.org.",
        ] {
            assert_eq!(host(bad), Err(RequestError::Authority), "{bad}");
        }
        for bad in ["orders.example.org.", "orders.example.org.:80", "127.0.0.1."] {
            assert_eq!(host(bad), Err(RequestError::AuthorityTrailingDot), "{bad}");
        }
    }

    #[test]
    fn reads_ports_and_proofs() {
        let port = |authority: &'static [u8]| RequestHead::parse(&headers(&[(":authority", authority)])).unwrap().port;
        assert_eq!(
            (port(b"h"), port(b"h:8443"), port(b"[::1]:80")),
            (None, Some(8443), Some(80))
        );
        let check_proof = |fields: &[Header<'static>], expected| {
            assert_eq!(RequestHead::parse(&headers(fields)).unwrap().proof, expected);
        };
        check_proof(&[], ProofHeader::None);
        check_proof(&[("dpop", b"a")], ProofHeader::One(b"a"));
        check_proof(&[("dpop", b"a"), ("x", b""), ("dpop", b"a")], ProofHeader::Many);
    }

    #[test]
    fn refuses_two_different_hosts() {
        assert!(RequestHead::parse(&headers(&[("host", b"h")])).is_ok());
        assert_eq!(
            RequestHead::parse(&headers(&[("host", b"other")])),
            Err(RequestError::HostDiffers)
        );
    }

    #[test]
    fn a_user_agent_is_text_whatever_its_bytes() {
        let agent = |value: &'static [u8]| {
            let all = headers(&[("user-agent", value)]);
            RequestHead::parse(&all).unwrap().user_agent().map(Cow::into_owned)
        };
        for (sent, read) in [
            (b"bot".as_slice(), Some("bot")),
            (b" \tbot ", Some("bot")),
            ("b\u{f6}t".as_bytes(), Some("b\u{f6}t")),
            (b"b\xf6t", Some("b\u{f6}t")),
            (b"bot\xff\x80", Some("bot\u{ff}\u{80}")),
            // One byte that is not UTF-8 does not hide what is.
            (b"b\xc3\xb6t,\xff", Some("b\u{f6}t,\u{ff}")),
            (b"\xc3bot\xe2\x82", Some("\u{c3}bot\u{e2}\u{82}")),
            (b"", None),
            (b" ", None),
        ] {
            assert_eq!(agent(sent).as_deref(), read, "{sent:?}");
        }
    }

    #[test]
    fn a_connection_keeps_its_options_and_loses_names() {
        let kept = |fields: &[&'static [u8]]| {
            let fields: Vec<Header<'_>> = fields.iter().map(|value| ("connection", *value)).collect();
            let all = headers(&fields);
            RequestHead::parse(&all).unwrap().connection_without_names()
        };
        let unchanged: [&[&[u8]]; 6] = [
            &[],
            &[b"upgrade"],
            &[b"Keep-Alive , UPGRADE"],
            &[b"Upgrade", b"keep-alive"],
            &[b""],
            &[b",,upgrade,"],
        ];
        for fields in unchanged {
            assert_eq!(kept(fields), None, "{fields:?}");
        }
        let changed: [(&[&[u8]], &str); 9] = [
            (&[b"Upgrade, x-picket-subject, txn-token"], "upgrade"),
            (&[b"x-picket-subject"], ""),
            (&[b"close"], ""),
            (&[b"X-Picket-Subject\t,keep-alive,\tUpgrade"], "keep-alive, upgrade"),
            (&[b"upgrade", b"txn-token"], "upgrade"),
            (&[b"authorization", b"Upgrade"], "upgrade"),
            (&[b"upgrade x-picket-subject"], ""),
            (&[b"upgrade,\xff"], "upgrade"),
            (&[b"\"upgrade\",upgrade"], "upgrade"),
        ];
        for (fields, expected) in changed {
            assert_eq!(kept(fields).as_deref(), Some(expected), "{fields:?}");
        }
    }

    #[test]
    fn a_registered_method_is_in_upper_case() {
        for method in ["GET", "DELETE", "QUERY", "VERSION-CONTROL", "UPDATEREDIRECTREF"] {
            assert!(is_registered_method(method) && is_upper_case_method(method), "{method}");
        }
        for method in ["delete", "Delete", "GET ", "PURGE", "*", "PRI", ""] {
            assert!(!is_registered_method(method), "{method}");
        }
        assert!(is_upper_case_method("M-SEARCH") && is_upper_case_method("X_2"));
        assert!(!is_upper_case_method("M-SEARCh") && !is_upper_case_method("A B") && !is_upper_case_method(""));
    }

    #[test]
    fn bytes_that_are_not_text_are_read_as_absent_or_refused() {
        let all = headers(&[("x-request-id", b"\xff"), ("traceparent", b"a b"), ("x-other", b"\xff")]);
        let head = RequestHead::parse(&all).unwrap();
        assert_eq!((head.request_id(), head.traceparent()), (None, None));
        assert_eq!(
            RequestHead::parse(&headers(&[(":method", b"G\xff")])),
            Err(RequestError::Method)
        );
        assert_eq!(
            RequestHead::parse(&headers(&[(":path", b"/\xff")])),
            Err(RequestError::Target(TargetError::Character))
        );
    }

    #[test]
    fn knows_what_a_caller_speaks_by_its_content_type() {
        use CallerProtocol::{Grpc, GrpcWeb, GrpcWebText, Http};
        for (content_type, expected) in [
            ("application/grpc", Grpc),
            ("application/grpc+proto", Grpc),
            ("application/grpc; charset=utf-8", Grpc),
            ("application/grpc-web", GrpcWeb),
            ("application/grpc-web+proto", GrpcWeb),
            ("application/grpc-web+json", GrpcWeb),
            ("application/grpc-web;a=b", GrpcWeb),
            ("application/grpc-web-text", GrpcWebText),
            ("application/grpc-web-text+proto", GrpcWebText),
            ("application/grpc-web-text;a=b", GrpcWebText),
            ("application/grpc-web-texts", Http),
            ("application/grpc-webs", Http),
            ("application/grpc-", Http),
            ("application/grpcs", Http),
            ("application/connect+proto", Http),
            ("application/proto", Http),
            ("application/json", Http),
            ("", Http),
        ] {
            let all = headers(&[("content-type", content_type.as_bytes())]);
            assert_eq!(RequestHead::parse(&all).unwrap().protocol, expected, "{content_type}");
            assert_eq!(Caller::of(&all).protocol, expected, "{content_type}");
        }
        assert_eq!(Caller::of(&headers(&[])).protocol, Http);
    }

    #[test]
    fn bounds_the_number_of_headers() {
        let mut all = headers(&[]);
        all.resize(HEADERS_MAX, ("x", b""));
        assert!(RequestHead::parse(&all).is_ok());
        all.push(("x", b""));
        assert_eq!(RequestHead::parse(&all), Err(RequestError::TooManyHeaders));
    }
}
