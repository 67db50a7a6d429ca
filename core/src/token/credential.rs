//! Where a request carries its credential. A request with two is refused: the upstream, or the next
//! proxy, might read the other one. Where a rule asks for several, there are exactly so many. The
//! places of providers that the rule does not take are emptied, so that the upstream reads no token
//! there that nobody has verified.

mod authorization;
mod spelling;

use std::fmt;
use std::rc::Rc;

use super::TokenError;
use crate::reason::DenyReason;
use crate::request::{AUTHORIZATION, COOKIE, RequestHead, is_spelling_of};

/// More places to look for a credential are refused.
pub const SOURCES_MAX: usize = 16;
/// No rule asks for more credentials than that in one request: the signature of each may have to be
/// checked.
pub const CREDENTIALS_MAX: usize = 4;

/// A place where tokens may be sent. `Display` names it for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// The header `authorization`, with the scheme `Bearer` (RFC 6750 §2.1) or `DPoP` (RFC 9449
    /// §7.1).
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
    /// RFC 6750: the sender proves nothing else.
    Bearer,
    /// RFC 9449 §7.1: with a proof that the sender holds a key.
    Dpop,
}

/// A credential that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential<'a> {
    /// The bytes of the token, unread.
    pub token: &'a [u8],
    /// How it was presented.
    pub scheme: CredentialScheme,
    /// Where, as an index into the [`CredentialSources`].
    pub source: usize,
}

/// Why a request's credential has no single reading. `Display` names places, and nothing of their
/// content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Two places have one each.
    #[error("the request has more than one credential: in {0} and in {1}")]
    Several(CredentialSource, CredentialSource),
    /// One place has two.
    #[error("{0}, which holds the credential, was sent more than once")]
    Repeated(CredentialSource),
    /// Only some servers would find it: name, scheme or prefix have another spelling, or follow
    /// something else.
    #[error("{0} does not hold one credential as it should: some servers find one there, and others none")]
    Misread(CredentialSource),
    /// The place also has bytes that are not UTF-8.
    #[error("a cookie beside {0}, which holds the credential, is not text")]
    NotText(CredentialSource),
}

/// Every place where any provider's tokens may be sent, each once. It is cheap to clone: a waiting
/// request keeps one.
#[derive(Clone, Debug, Default)]
pub struct CredentialSources(Rc<Vec<CredentialSource>>);

/// Some of the [`CredentialSources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSet(u16);

/// How servers read a header field, cookie or query parameter, compared with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading<'a> {
    /// It has nothing to do with it.
    Other,
    /// It is the place, and empty.
    Empty,
    /// It is the place, and holds this.
    Token(&'a [u8]),
    /// Some servers take it for the place, and others do not.
    Misread,
}

impl SourceSet {
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

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

    /// Two places whose names are one to many servers: no request could use either.
    #[must_use]
    pub fn confusable(&self) -> Option<(&CredentialSource, &CredentialSource)> {
        let behind = |index: usize| self.0.iter().skip(index).skip(1);
        let places = self.0.iter().enumerate();
        let mut pairs = places.flat_map(|(index, one)| behind(index).map(move |other| (one, other)));
        pairs.find(|(one, other)| one.is_confused_with(other))
    }

    /// The one credential of a request in these places. `None`: it has none there.
    ///
    /// # Errors
    /// When it has several, or one that can be read in two ways.
    pub fn find<'a>(
        &self,
        within: SourceSet,
        head: &RequestHead<'a>,
    ) -> Result<Option<Credential<'a>>, CredentialError> {
        let mut found: Option<Credential<'a>> = None;
        for credential in self.each(within, head) {
            let credential = credential?;
            if let Some(first) = found.replace(credential) {
                return Err(self.several(&first, &credential));
            }
        }
        Ok(found)
    }

    /// Every credential of a request in these places, in the order of the places, each of which has
    /// one at most.
    ///
    /// # Errors
    /// When one can be read in two ways.
    pub fn find_all<'a>(
        &self,
        within: SourceSet,
        head: &RequestHead<'a>,
    ) -> Result<Vec<Credential<'a>>, CredentialError> {
        self.each(within, head).collect()
    }

    /// The other places that hold something which a server could take for a credential.
    #[must_use]
    pub fn occupied_beside(&self, within: SourceSet, head: &RequestHead<'_>) -> SourceSet {
        let mut occupied = SourceSet::default();
        if within == SourceSet::ALL {
            return occupied;
        }
        for (index, place) in self.0.iter().enumerate() {
            if !within.contains(index) && !matches!(place.read(head), Ok(None)) {
                occupied = occupied.union(SourceSet::of(index));
            }
        }
        occupied
    }

    /// A query parameter's place that a server would find behind a `%3F` of the path, which some
    /// proxies decode: nobody has looked at what it holds, and nothing removes it.
    #[must_use]
    pub fn behind_encoded_question_mark(&self, head: &RequestHead<'_>) -> Option<&CredentialSource> {
        let queries = head.target.path.split("%3F").skip(1);
        let parameters = queries.flat_map(|query| query.split(['&', ';']));
        let parameters = parameters
            .flat_map(|part| part.split("%26"))
            .flat_map(|part| part.split("%3B"));
        let names = parameters.filter_map(|parameter| parameter.split('=').next()?.split("%3D").next());
        let holds = |wanted: &str| names.clone().any(|name| spelling::is_read_as(name, wanted));
        self.0.iter().find(|place| match place {
            CredentialSource::Query(wanted) => holds(wanted),
            CredentialSource::Authorization | CredentialSource::Header { .. } | CredentialSource::Cookie(_) => false,
        })
    }

    fn several(&self, first: &Credential<'_>, second: &Credential<'_>) -> CredentialError {
        let place = |credential: &Credential<'_>| {
            let place = self.0.get(credential.source).cloned();
            place.unwrap_or(CredentialSource::Authorization)
        };
        CredentialError::Several(place(first), place(second))
    }

    /// Whether the header `authorization` is one of these places.
    #[must_use]
    pub fn include_authorization(&self, within: SourceSet) -> bool {
        self.places(within)
            .any(|place| *place == CredentialSource::Authorization)
    }

    /// The names of these places, for a caller.
    #[must_use]
    pub fn names(&self, of: SourceSet) -> String {
        let names: Vec<String> = self.places(of).map(ToString::to_string).collect();
        names.join(", ")
    }

    fn each<'a>(
        &self,
        within: SourceSet,
        head: &RequestHead<'a>,
    ) -> impl Iterator<Item = Result<Credential<'a>, CredentialError>> {
        let places = self.0.iter().enumerate();
        places.filter_map(move |(source, place)| {
            if !within.contains(source) {
                return None;
            }
            let found = place.read(head).transpose()?;
            Some(found.map(|(token, scheme)| Credential { token, scheme, source }))
        })
    }

    /// The headers that hold nothing but the credentials of these places.
    pub fn headers(&self, taken: SourceSet) -> impl Iterator<Item = &str> {
        self.places(taken).filter_map(CredentialSource::header)
    }

    /// The headers of a request that a server could take for these places, each as it was sent.
    pub fn headers_read_as<'h>(&self, taken: SourceSet, head: &RequestHead<'h>) -> impl Iterator<Item = &'h str> {
        // Most requests have nothing there, and need no second pass over the headers.
        let headers = if taken == SourceSet::default() {
            &[]
        } else {
            head.headers
        };
        let names = headers.iter().map(|(name, _)| *name);
        names.filter(move |name| self.headers(taken).any(|wanted| is_spelling_of(name, wanted)))
    }

    /// The header `cookie` without the credentials of these places; empty: nothing is left. `None`:
    /// it holds none of them.
    #[must_use]
    pub fn cookies_without(&self, taken: SourceSet, head: &RequestHead<'_>) -> Option<String> {
        let taken: Vec<&str> = self.places(taken).filter_map(CredentialSource::cookie).collect();
        if taken.is_empty() {
            return None;
        }
        let is_kept = |crumb: &Crumb<'_>| taken.iter().all(|wanted| crumb.read(wanted) == Reading::Other);
        let kept: Vec<&[u8]> = crumbs(head).filter(is_kept).map(|crumb| crumb.text).collect();
        Some(String::from_utf8_lossy(&kept.join(&b"; "[..])).into_owned())
    }

    /// The query without the credentials of these places; empty: nothing is left. `None`: it holds
    /// none of them.
    #[must_use]
    pub fn query_without(&self, taken: SourceSet, head: &RequestHead<'_>) -> Option<String> {
        let taken: Vec<&str> = self.places(taken).filter_map(CredentialSource::parameter).collect();
        if taken.is_empty() {
            return None;
        }
        let is_kept = |parameter: &&str| {
            let mut readings = taken.iter().map(|wanted| read_parameter(parameter, wanted));
            readings.all(|reading| reading == Reading::Other)
        };
        let kept: Vec<&str> = parameters(head).filter(is_kept).collect();
        Some(kept.join("&"))
    }

    fn places(&self, of: SourceSet) -> impl Iterator<Item = &CredentialSource> {
        let places = self.0.iter().enumerate();
        places.filter_map(move |(index, place)| of.contains(index).then_some(place))
    }
}

impl CredentialSource {
    fn is_confused_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cookie(name), Self::Cookie(other)) | (Self::Query(name), Self::Query(other)) => {
                name != other && spelling::is_read_as(name, other)
            }
            (Self::Header { name, .. }, Self::Header { name: other, .. }) => {
                name != other && is_spelling_of(name, other)
            }
            _ => false,
        }
    }

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

    fn read<'a>(&self, head: &RequestHead<'a>) -> Result<Option<(&'a [u8], CredentialScheme)>, CredentialError> {
        let token = match self {
            Self::Authorization => {
                let Some(value) = head.authorization else {
                    return Ok(None);
                };
                let (reading, scheme) = authorization::read(value);
                let token = self.only([reading].into_iter())?;
                return Ok(token.map(|token| (token, scheme)));
            }
            Self::Header { name, prefix } => self.read_header(name, prefix, head)?,
            Self::Cookie(wanted) => {
                let token = self.only(crumbs(head).map(|crumb| crumb.read(wanted)))?;
                let is_text = |line: &[u8]| std::str::from_utf8(line).is_ok();
                if token.is_some() && !cookie_lines(head).all(is_text) {
                    return Err(CredentialError::NotText(self.clone()));
                }
                token
            }
            Self::Query(wanted) => self.only(parameters(head).map(|parameter| read_parameter(parameter, wanted)))?,
        };
        Ok(token.map(|token| (token, CredentialScheme::Bearer)))
    }

    fn read_header<'a>(
        &self,
        wanted: &str,
        prefix: &str,
        head: &RequestHead<'a>,
    ) -> Result<Option<&'a [u8]>, CredentialError> {
        let fields = head.headers.iter().filter(|(name, _)| is_spelling_of(name, wanted));
        let token = self.only(fields.clone().map(|(name, value)| match *name == wanted {
            true => read_prefixed(value, prefix.as_bytes()),
            // Some servers take another spelling of the name for it.
            false => Reading::Misread,
        }))?;
        match token.is_some() && fields.count() > 1 {
            true => Err(CredentialError::Repeated(self.clone())),
            false => Ok(token),
        }
    }

    /// The one token of this place.
    fn only<'a>(&self, readings: impl Iterator<Item = Reading<'a>>) -> Result<Option<&'a [u8]>, CredentialError> {
        let mut found = None;
        for reading in readings {
            match reading {
                Reading::Other | Reading::Empty => {}
                Reading::Misread => return Err(CredentialError::Misread(self.clone())),
                Reading::Token(token) => {
                    if found.replace(token).is_some() {
                        return Err(CredentialError::Repeated(self.clone()));
                    }
                }
            }
        }
        Ok(found)
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => formatter.write_str("the header `authorization`"),
            Self::Header { name, .. } => write!(formatter, "the header `{name}`"),
            Self::Cookie(name) => write!(formatter, "the cookie `{name}`"),
            Self::Query(name) => write!(formatter, "the query parameter `{name}`"),
        }
    }
}

/// A header's value to a place whose tokens have this prefix. Servers that look for the prefix
/// without regard to case, or anywhere in the value, find a token where it does not begin so.
fn read_prefixed<'a>(value: &'a [u8], prefix: &[u8]) -> Reading<'a> {
    if let Some(token) = value.strip_prefix(prefix) {
        return Reading::Token(token);
    }
    let is_space = |b: u8| matches!(b, b' ' | b'\t');
    let is_same = |(have, want): (&u8, &u8)| have.eq_ignore_ascii_case(want) || is_space(*have) && is_space(*want);
    let mut parts = value.windows(prefix.len().max(1));
    // The proxy takes white space off the end of a value.
    let is_prefix_alone = value.eq_ignore_ascii_case(prefix.trim_ascii_end());
    match is_prefix_alone || parts.any(|part| part.iter().zip(prefix).all(is_same)) {
        true => Reading::Misread,
        false => Reading::Other,
    }
}

/// A cookie as it was sent, with its name and its value.
struct Crumb<'a> {
    name: &'a [u8],
    value: &'a [u8],
    text: &'a [u8],
}

impl<'a> Crumb<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut parts = text.splitn(2, |b| *b == b'=').map(<[u8]>::trim_ascii);
        Self {
            name: parts.next().unwrap_or_default(),
            value: parts.next().unwrap_or_default(),
            text,
        }
    }

    fn read(&self, wanted: &str) -> Reading<'a> {
        if self.name == wanted.as_bytes() {
            return match unquoted(self.value) {
                [] => Reading::Empty,
                token => Reading::Token(token),
            };
        }
        // Servers that follow RFC 2109 take a comma for the end of a cookie, and Python's white
        // space as well.
        let ends = |b: &u8| matches!(b, b',' | b' ' | b'\t');
        let is_hidden = |text: &'a [u8]| {
            text.split(ends)
                .skip(1)
                .map(Crumb::new)
                .any(|part| part.is_misread(wanted))
        };
        match self.is_misread(wanted) || self.text.iter().any(ends) && is_hidden(self.text) {
            true => Reading::Misread,
            false => Reading::Other,
        }
    }

    /// Whether some servers take its name for the wanted one. An empty one does no harm.
    fn is_misread(&self, wanted: &str) -> bool {
        !unquoted(self.value).is_empty() && spelling::is_read_as(&String::from_utf8_lossy(self.name), wanted)
    }
}

/// RFC 6265 §4.1.1: the quotes around a value are no part of it to most servers.
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// Cookies may come in several lines (RFC 9113 §8.2.3).
fn cookie_lines<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = &'a [u8]> {
    let lines = head.headers.iter().filter(|(name, _)| *name == COOKIE);
    lines.map(|(_, line)| *line)
}

/// The cookies of a request (RFC 6265 §4.2.1).
fn crumbs<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = Crumb<'a>> {
    let texts = cookie_lines(head).flat_map(|line| line.split(|b| *b == b';'));
    let texts = texts.map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
    texts.map(Crumb::new)
}

/// The query parameters of a request, as they were sent.
fn parameters<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = &'a str> {
    let query = head.target.query.unwrap_or_default();
    query.split('&').filter(|parameter| !parameter.is_empty())
}

fn read_parameter<'a>(parameter: &'a str, wanted: &str) -> Reading<'a> {
    let name = |part: &'a str| part.split('=').next().unwrap_or_default();
    // Few servers decode `%uXXXX`: with it the name is another spelling.
    let is_decoded_by_all = |name: &str| !name.contains("%u") && !name.contains("%U");
    let is_encoded = |name: &str| name.contains('%') && is_decoded_by_all(name) && spelling::decoded(name) == wanted;
    let is_wanted = |name: &str| name == wanted || is_encoded(name);
    // Some servers separate parameters by `;` as well, and would find a token there.
    let mut parts = parameter.split(';');
    let first = parts.next().map(name).unwrap_or_default();
    if parts.map(name).any(|name| spelling::is_read_as(name, wanted)) {
        return Reading::Misread;
    }
    match () {
        () if is_wanted(first) => Reading::Token(parameter.split_once('=').map_or(b"", |(_, token)| token.as_bytes())),
        () if spelling::is_read_as(first, wanted) => Reading::Misread,
        () => Reading::Other,
    }
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
    TokenError::new(DenyReason::CredentialMalformed, "the credential is not one token")
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
            let found = sources().find(SourceSet::ALL, head);
            let found = found.map_err(|_| DenyReason::CredentialMalformed);
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
        check("/?access_tokens=a&xaccess_token=b", &[], Ok(None));
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
        check(
            "/",
            &[("authorization", b"Bearerabc")],
            Err(DenyReason::CredentialMalformed),
        );
        for bad in [&b"Bearer"[..], b"Bearer,a", b"DPoP", b"Bearer\ta", b"Bearer=a"] {
            with_head("/", &[("authorization", bad)], |head| {
                let found = sources().find(SourceSet::ALL, head).unwrap().unwrap();
                assert_eq!(
                    b64token(found.token).unwrap_err().reason,
                    DenyReason::CredentialMalformed
                );
            });
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
                let found = sources().find(SourceSet::ALL, head).unwrap().unwrap();
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
            let found = sources.find_all(SourceSet::ALL, head).unwrap();
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
