//! Where a request carries its credential. A request with two is refused: the upstream, or the next proxy, might read the
//! other one. Where a rule asks for several, there are exactly so many.

use std::borrow::Cow;
use std::rc::Rc;

use super::TokenError;
use crate::reason::DenyReason;
use crate::request::{RequestHead, is_spelling_of};

/// More places to look for a credential are refused.
pub const SOURCES_MAX: usize = 16;
/// No rule asks for more credentials than that in one request: the signature of each may have to be checked.
pub const CREDENTIALS_MAX: usize = 4;
const AUTHORIZATION: &str = "authorization";
const COOKIE: &str = "cookie";

/// A place where tokens may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// The header `authorization`, with the scheme `Bearer` (RFC 6750 §2.1) or `DPoP` (RFC 9449 §7.1).
    Authorization,
    /// Another header.
    Header {
        /// In lower case.
        name: String,
        /// What comes before the token, compared byte by byte; may be empty.
        prefix: String,
    },
    /// A cookie of this name (RFC 6265 §4.2.1).
    Cookie(String),
    /// A query parameter of this name (RFC 6750 §2.3).
    Query(String),
}

/// How a token was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialScheme {
    /// Whoever has it may use it.
    Bearer,
    /// RFC 9449 §7.1: with a proof that the sender holds a key.
    Dpop,
}

/// A credential that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential<'a> {
    /// The token's bytes, not looked at yet.
    pub token: &'a [u8],
    /// How it was presented.
    pub scheme: CredentialScheme,
    /// Where, as an index into the [`CredentialSources`].
    pub source: usize,
}

/// Every place where any provider's tokens may be sent, each once. It is cheap to clone: a waiting request keeps one.
#[derive(Clone, Debug, Default)]
pub struct CredentialSources(Rc<Vec<CredentialSource>>);

/// Some of the [`CredentialSources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSet(u16);

impl SourceSet {
    /// The source of this index alone; none where there can be no such index.
    #[must_use]
    pub fn of(source: usize) -> Self {
        let bit = u32::try_from(source).ok().and_then(|source| 1_u16.checked_shl(source));
        Self(bit.unwrap_or_default())
    }

    /// Those of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it holds the source of this index.
    #[must_use]
    pub fn contains(self, source: usize) -> bool {
        u32::try_from(source).is_ok_and(|source| self.0.checked_shr(source).is_some_and(|bits| bits & 1 == 1))
    }

    /// Whether both hold one source.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl CredentialSources {
    /// Adds the places of one provider. `None`: there are more than [`SOURCES_MAX`].
    pub fn add(&mut self, sources: Vec<CredentialSource>) -> Option<SourceSet> {
        let all = Rc::make_mut(&mut self.0);
        let mut set = SourceSet::default();
        for source in sources {
            let index = all.iter().position(|have| *have == source).unwrap_or(all.len());
            if index == all.len() {
                all.push(source);
            }
            if index >= SOURCES_MAX {
                return None;
            }
            set = set.union(SourceSet::of(index));
        }
        Some(set)
    }

    /// The one credential of a request. `None`: it has none.
    ///
    /// # Errors
    /// When it has several, or one that is malformed.
    pub fn find<'a>(&self, head: &RequestHead<'a>) -> Result<Option<Credential<'a>>, TokenError> {
        let mut found = None;
        for credential in self.each(head) {
            if found.replace(credential?).is_some() {
                return Err(malformed("the request has more than one credential"));
            }
        }
        Ok(found)
    }

    /// Every credential of a request, in the order of their places, each of which has one at most.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn find_all<'a>(&self, head: &RequestHead<'a>) -> Result<Vec<Credential<'a>>, TokenError> {
        self.each(head).collect()
    }

    fn each<'a>(&self, head: &RequestHead<'a>) -> impl Iterator<Item = Result<Credential<'a>, TokenError>> {
        let places = self.0.iter().enumerate();
        places.filter_map(move |(source, place)| {
            let found = place.read(head).transpose()?;
            Some(found.map(|(token, scheme)| Credential { token, scheme, source }))
        })
    }

    /// The headers that hold nothing but the credentials of these places.
    pub fn headers(&self, taken: SourceSet) -> impl Iterator<Item = &str> {
        self.places(taken).filter_map(CredentialSource::header)
    }

    /// The header `cookie` without the credentials of these places; empty: nothing is left. `None`: it holds none of them.
    #[must_use]
    pub fn cookies_without(&self, taken: SourceSet, head: &RequestHead<'_>) -> Option<String> {
        let taken: Vec<&str> = self.places(taken).filter_map(CredentialSource::cookie).collect();
        if taken.is_empty() {
            return None;
        }
        let kept = cookies(head).filter(|(name, _, _)| !taken.iter().any(|taken| taken.as_bytes() == *name));
        let kept: Vec<&[u8]> = kept.map(|(_, _, crumb)| crumb).collect();
        Some(String::from_utf8_lossy(&kept.join(&b"; "[..])).into_owned())
    }

    /// The query without the credentials of these places; empty: nothing is left. `None`: it holds none of them.
    #[must_use]
    pub fn query_without(&self, taken: SourceSet, head: &RequestHead<'_>) -> Option<String> {
        let taken: Vec<&str> = self.places(taken).filter_map(CredentialSource::parameter).collect();
        if taken.is_empty() {
            return None;
        }
        let kept = parameters(head).filter(|(name, _, _)| !taken.contains(&name.as_ref()));
        let kept: Vec<&str> = kept.map(|(_, _, parameter)| parameter).collect();
        Some(kept.join("&"))
    }

    fn places(&self, of: SourceSet) -> impl Iterator<Item = &CredentialSource> {
        let places = self.0.iter().enumerate();
        places.filter_map(move |(index, place)| of.contains(index).then_some(place))
    }
}

impl CredentialSource {
    fn header(&self) -> Option<&str> {
        match self {
            Self::Authorization => Some(AUTHORIZATION),
            Self::Header { name, .. } => Some(name),
            Self::Cookie(_) | Self::Query(_) => None,
        }
    }

    fn cookie(&self) -> Option<&str> {
        match self {
            Self::Cookie(name) => Some(name),
            Self::Authorization | Self::Header { .. } | Self::Query(_) => None,
        }
    }

    fn parameter(&self) -> Option<&str> {
        match self {
            Self::Query(name) => Some(name),
            Self::Authorization | Self::Header { .. } | Self::Cookie(_) => None,
        }
    }

    fn read<'a>(&self, head: &RequestHead<'a>) -> Result<Option<(&'a [u8], CredentialScheme)>, TokenError> {
        match self {
            Self::Authorization => authorization_credential(head.authorization),
            Self::Header { name, prefix } => {
                // Some servers take another spelling of the name for it.
                let headers = head.headers.iter().filter(|(have, _)| is_spelling_of(have, name));
                if headers.clone().any(|(have, _)| have != name) {
                    return Err(malformed("the header that holds the credential has another spelling"));
                }
                let values = headers.map(|(_, value)| *value);
                let tokens = values.filter_map(|value| value.strip_prefix(prefix.as_bytes()));
                bearer(tokens, "the header that holds the credential was sent more than once")
            }
            Self::Cookie(wanted) => {
                let lines = head.headers.iter().filter(|(name, _)| *name == COOKIE);
                if lines.clone().any(|(_, line)| std::str::from_utf8(line).is_err()) {
                    return Err(malformed("a cookie is not text"));
                }
                let tokens = cookies(head).filter(|(name, _, _)| *name == wanted.as_bytes());
                bearer(
                    tokens.map(|(_, value, _)| value),
                    "the cookie that holds the credential was sent more than once",
                )
            }
            Self::Query(wanted) => {
                // Some servers separate parameters by `;` as well, and would find a token there.
                let mut behind = parameters(head).flat_map(|(_, _, parameter)| parameter.split(';').skip(1).map(named));
                if behind.any(|(name, _, _)| name == *wanted) {
                    return Err(malformed(
                        "the query parameter that holds the credential stands behind a `;`",
                    ));
                }
                let tokens = parameters(head).filter(|(name, _, _)| name == wanted);
                bearer(
                    tokens.map(|(_, value, _)| value.as_bytes()),
                    "the query parameter that holds the credential was sent more than once",
                )
            }
        }
    }
}

fn bearer<'a>(
    mut tokens: impl Iterator<Item = &'a [u8]>,
    repeated: &'static str,
) -> Result<Option<(&'a [u8], CredentialScheme)>, TokenError> {
    let token = tokens.next();
    match tokens.next() {
        None => Ok(token.map(|token| (token, CredentialScheme::Bearer))),
        Some(_) => Err(malformed(repeated)),
    }
}

/// The cookies of a request (RFC 6265 §4.2.1; several header lines by RFC 9113 §8.2.3): name, value, and both as sent.
fn cookies<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8], &'a [u8])> {
    let lines = head.headers.iter().filter(|(name, _)| *name == COOKIE);
    lines
        .flat_map(|(_, value)| value.split(|b| *b == b';'))
        .filter_map(|crumb| {
            let crumb = crumb.trim_ascii();
            let at = crumb.iter().position(|b| *b == b'=').unwrap_or(crumb.len());
            let (name, value) = crumb.split_at_checked(at)?;
            let value = value.get(1..).unwrap_or_default();
            (!crumb.is_empty()).then(|| (name.trim_ascii(), value.trim_ascii(), crumb))
        })
}

/// The query parameters of a request: name, value, and both as sent.
fn parameters<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = (Cow<'a, str>, &'a str, &'a str)> {
    let query = head.target.query.unwrap_or_default();
    query.split('&').filter(|parameter| !parameter.is_empty()).map(named)
}

fn named(parameter: &str) -> (Cow<'_, str>, &str, &str) {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    (decoded(name), value, parameter)
}

/// A parameter's name as a server reads it: percent-decoded, so that no spelling of it is overlooked.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return name.into();
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let encoded = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten()
            .and_then(|(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 16).ok().map(|byte| (byte, after))
            });
        let (byte, after) = encoded.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// What an `authorization` header offers (RFC 6750 §2.1, RFC 9449 §7.1). `None`: there is none, or it is of another scheme.
fn authorization_credential(authorization: Option<&[u8]>) -> Result<Option<(&[u8], CredentialScheme)>, TokenError> {
    let Some(value) = authorization else { return Ok(None) };
    let (scheme, rest) = match value.iter().position(|b| !b.is_ascii_alphabetic()) {
        Some(end) => value.split_at_checked(end).unwrap_or((value, &[])),
        None => (value, &[][..]),
    };
    // RFC 9110 §11.1: the scheme is compared without regard to case.
    let scheme = match () {
        () if scheme.eq_ignore_ascii_case(b"bearer") => CredentialScheme::Bearer,
        () if scheme.eq_ignore_ascii_case(b"dpop") => CredentialScheme::Dpop,
        () if scheme
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"bearer")) =>
        {
            return Err(not_a_token());
        }
        () => return Ok(None),
    };
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    let token = rest.get(spaces..).filter(|_| spaces > 0).ok_or_else(not_a_token)?;
    Ok(Some((token, scheme)))
}

/// RFC 6750 §2.1.
pub(super) fn b64token(credential: &[u8]) -> Result<&str, TokenError> {
    std::str::from_utf8(credential)
        .ok()
        .filter(|token| !token.is_empty() && token.bytes().all(is_b64token))
        .ok_or_else(not_a_token)
}

/// Looked up: each byte of each new token is asked about.
fn is_b64token(byte: u8) -> bool {
    const IS_ONE: [bool; 256] = {
        let mut table = [false; 256];
        let (mut byte, mut rest): (u8, &mut [bool]) = (0, &mut table);
        while let [is_one, after @ ..] = rest {
            *is_one = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
            (byte, rest) = (byte.wrapping_add(1), after);
        }
        table
    };
    IS_ONE.get(usize::from(byte)).is_some_and(|is_one| *is_one)
}

fn not_a_token() -> TokenError {
    malformed("the credential is not one token")
}

fn malformed(detail: &'static str) -> TokenError {
    TokenError::new(DenyReason::CredentialMalformed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Header;

    type Found<'a> = Result<Option<(&'a str, usize)>, DenyReason>;

    fn sources() -> CredentialSources {
        let mut sources = CredentialSources::default();
        let all = vec![
            CredentialSource::Authorization,
            CredentialSource::Header {
                name: "x-token".into(),
                prefix: "v1:".into(),
            },
            CredentialSource::Cookie("session".into()),
            CredentialSource::Query("access_token".into()),
        ];
        sources.add(all).unwrap();
        sources
    }

    fn with_head<T>(path: &str, extra: &[Header<'_>], look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let pseudo: [Header<'_>; 3] = [(":method", b"GET"), (":authority", b"h"), (":path", path.as_bytes())];
        let headers: Vec<Header<'_>> = pseudo.into_iter().chain(extra.iter().copied()).collect();
        look(&RequestHead::parse(&headers).unwrap())
    }

    #[track_caller]
    fn check(path: &str, extra: &[Header<'_>], expected: Found<'_>) {
        with_head(path, extra, |head| {
            let found = sources().find(head).map_err(|error| error.reason);
            let found = found.map(|found| found.map(|found| (std::str::from_utf8(found.token).unwrap(), found.source)));
            assert_eq!(found, expected);
        });
    }

    #[test]
    fn finds_a_credential_in_each_place() {
        check("/", &[], Ok(None));
        check("/", &[("authorization", b"Bearer a.b.c")], Ok(Some(("a.b.c", 0))));
        check("/", &[("authorization", b"bEARER  a")], Ok(Some(("a", 0))));
        check("/", &[("authorization", b"dpop a")], Ok(Some(("a", 0))));
        check("/", &[("authorization", b"Basic a")], Ok(None));
        check("/", &[("authorization", b"")], Ok(None));
        check("/", &[("x-token", b"v1:a")], Ok(Some(("a", 1))));
        check("/", &[("x-token", b"a")], Ok(None));
        check("/", &[("cookie", b"x=1; session=a=b; y")], Ok(Some(("a=b", 2))));
        check("/", &[("cookie", b"x=1"), ("cookie", b"session=a")], Ok(Some(("a", 2))));
        check("/?x=1&access_token=a", &[], Ok(Some(("a", 3))));
        check("/?access%5Ftoken=a", &[], Ok(Some(("a", 3))));
        check("/?access_tokens=a&Access_token=b", &[], Ok(None));
    }

    #[test]
    fn refuses_more_than_one() {
        let bearer: Header<'_> = ("authorization", b"Bearer a");
        let malformed = Err(DenyReason::CredentialMalformed);
        check("/?access_token=a", &[bearer], malformed);
        check("/", &[bearer, ("cookie", b"session=a")], malformed);
        check("/", &[bearer, ("x-token", b"v1:a")], malformed);
        check("/?access_token=a&access_token=a", &[], malformed);
        check("/?access_token=a&acc%65ss_token=b", &[], malformed);
        check("/?x=1;access_token=b&access_token=a", &[], malformed);
        check("/", &[("cookie", b"session=a; b=\xff")], malformed);
        check("/", &[("cookie", b"session=a; session=b")], malformed);
        check("/", &[("cookie", b"session=a"), ("cookie", b"session=b")], malformed);
        check("/", &[("x-token", b"v1:a"), ("x-token", b"v1:b")], malformed);
    }

    #[test]
    fn refuses_one_that_only_some_servers_find() {
        let malformed = Err(DenyReason::CredentialMalformed);
        check("/?x=1;access_token=a", &[], malformed);
        check("/?access_token=a;access_token=b", &[], malformed);
        check("/?x=1;y=access_token", &[], Ok(None));
        // CGI makes one name of both.
        check("/", &[("x_token", b"v1:a")], malformed);
        check("/", &[("x-token", b"v1:a"), ("x_token", b"v1:b")], malformed);
        check("/", &[("x-tokens", b"v1:a")], Ok(None));
    }

    #[test]
    fn refuses_a_scheme_without_a_token() {
        for bad in [&b"Bearer"[..], b"Bearerabc", b"Bearer,a", b"DPoP", b"Bearer\ta"] {
            check("/", &[("authorization", bad)], Err(DenyReason::CredentialMalformed));
        }
    }

    #[test]
    fn a_token_is_visible_text_of_its_alphabet() {
        assert_eq!(b64token(b"abc.d-e_f"), Ok("abc.d-e_f"));
        for bad in [&b""[..], b"a b", b"a,Bearer b", b"a\xff", b"a\0", b"\"a\""] {
            assert_eq!(b64token(bad).unwrap_err().reason, DenyReason::CredentialMalformed);
        }
    }

    /// Headers that go, what is left of the cookies, and of the query.
    type Without = (Vec<String>, Option<String>, Option<String>);

    fn without(sources: &CredentialSources, taken: SourceSet, head: &RequestHead<'_>) -> Without {
        (
            sources.headers(taken).map(str::to_owned).collect(),
            sources.cookies_without(taken, head),
            sources.query_without(taken, head),
        )
    }

    #[test]
    fn takes_out_the_credential_and_nothing_else() {
        let check = |path: &str, extra: &[Header<'_>], expected: (&[&str], Option<&str>, Option<&str>)| {
            with_head(path, extra, |head| {
                let found = sources().find(head).unwrap().unwrap();
                let (headers, cookies, query) = without(&sources(), SourceSet::of(found.source), head);
                assert_eq!((cookies.as_deref(), query.as_deref()), (expected.1, expected.2));
                assert_eq!(headers, expected.0);
            });
        };
        check(
            "/?a",
            &[("authorization", b"Bearer a")],
            (&["authorization"], None, None),
        );
        check("/?a", &[("x-token", b"v1:a")], (&["x-token"], None, None));
        check(
            "/",
            &[("cookie", b"x=1;session=a; y=2"), ("cookie", b"z")],
            (&[], Some("x=1; y=2; z"), None),
        );
        check("/", &[("cookie", b"session=a")], (&[], Some(""), None));
        check("/?x=%20&access_token=a&y", &[], (&[], None, Some("x=%20&y")));
        check("/?access_token=a", &[], (&[], None, Some("")));
    }

    #[test]
    fn takes_out_several_at_once() {
        let mut sources = CredentialSources::default();
        let cookies = ["session", "client"].map(|name| CredentialSource::Cookie(name.into()));
        let parameters = ["user", "device"].map(|name| CredentialSource::Query(name.into()));
        let taken = sources.add([cookies, parameters].concat()).unwrap();
        let headers: [Header<'_>; 1] = [("cookie", b"client=b; x=1; session=a")];
        with_head("/?device=d&x=%20&user=c", &headers, |head| {
            let found = sources.find_all(head).unwrap();
            let found: Vec<_> = found.iter().map(|found| found.token).collect();
            assert_eq!(found, [b"a", b"b", b"c", b"d"]);
            let expected = (vec![], Some("x=1".to_owned()), Some("x=%20".to_owned()));
            assert_eq!(without(&sources, taken, head), expected);
            // The others stay.
            let expected = (vec![], Some("x=1; session=a".to_owned()), None);
            assert_eq!(without(&sources, SourceSet::of(1), head), expected);
            assert_eq!(without(&sources, SourceSet::default(), head), (vec![], None, None));
        });
    }

    #[test]
    fn a_provider_has_only_its_own_places() {
        let mut sources = CredentialSources::default();
        let one = sources.add(vec![CredentialSource::Authorization]).unwrap();
        let other = sources
            .add(vec![
                CredentialSource::Cookie("s".into()),
                CredentialSource::Authorization,
            ])
            .unwrap();
        assert!(one.contains(0) && !one.contains(1) && other.contains(0) && other.contains(1));
        assert!(!other.contains(2) && !other.contains(16) && !other.contains(usize::MAX));
        let many = (0..=SOURCES_MAX)
            .map(|n| CredentialSource::Cookie(n.to_string()))
            .collect();
        assert_eq!(CredentialSources::default().add(many), None);
    }
}
