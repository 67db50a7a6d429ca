//! Request targets: one spelling for each path, so that what was decided is what the upstream is
//! asked for.
//!
//! RFC 3986 §6.2.2 (percent-decoding, dot segments) and the merging of slashes, in Envoy's order.
//! What servers decode before they route has one spelling: besides unreserved characters those that
//! stand for themselves in a segment (`%3A` is `:`), and what may not stand in a path as it is, is
//! encoded (`|` is `%7C`). Not so `;`, which begins a parameter, and `+`, which some servers take
//! for a space: both are forwarded as they were sent, and rules compare them with `%3B` and `%2B`
//! as one.
//!
//! Backslashes, controls and dot segments that are hidden behind a delimiter are refused. Servers
//! disagree about `;`, `%2F`, `%3F` and `%23` ([`Delimiters`]): [`Target::other_readings`] are the
//! paths that they make of them.

mod delimiters;
mod readings;

use std::borrow::Cow;
use std::fmt::Write as _;

pub use delimiters::Delimiters;
pub(crate) use readings::decode_sub_delimiters;

/// A longer target is refused. Envoy's own limit for all headers is 60 KiB.
pub const TARGET_BYTES_MAX: usize = 8192;

/// A request target in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Normalised: absolute, without dot segments, empty segments or needless percent-encoding.
    pub path: Cow<'a, str>,
    /// As received, without the question mark.
    pub query: Option<&'a str>,
    /// Those in the path, in any spelling.
    pub delimiters: Delimiters,
    /// Whether the path holds `%3B` or `%2B`.
    has_encoded_sub_delimiter: bool,
}

/// Why a request target is refused. `Display` names the expectation, and never repeats the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Over [`TARGET_BYTES_MAX`].
    #[error("the request target is longer than {TARGET_BYTES_MAX} bytes")]
    TooLong,
    /// Neither `*` nor an authority is a path.
    #[error("the request target does not begin with a slash")]
    NotAbsolute,
    /// A byte that RFC 3986 does not allow: a control, a space, a fragment, a byte above 0x7e.
    #[error("the request target holds a character that is not allowed in a URI")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the request target holds an incomplete percent-encoding")]
    Encoding,
    /// `%5C`, a backslash, an encoded control character, or ASCII in more bytes than it has in
    /// UTF-8: servers disagree about their meaning.
    #[error("the path holds a backslash, an encoded control character or an overlong UTF-8 sequence")]
    Ambiguous,
    /// `..` with nothing left to leave, or a dot segment beside an encoded slash or before another
    /// delimiter.
    #[error(
        "the path holds dot segments that lead above its root, carry parameters or hide behind an encoded delimiter"
    )]
    DotSegment,
    /// `%2F`, which the path's rule does not allow.
    #[error("the path holds an encoded slash (`%2F`), which `allow_in_path` of its route rule does not name")]
    EncodedSlash,
    /// `;`, `%3B`, `%3F` or `%23`, which a policy would read and the path's rule does not allow.
    #[error("the path holds `;`, `%3B`, `%3F` or `%23`, which a policy would read and `allow_in_path` does not name")]
    Delimiter,
    /// Of the paths that servers make of a delimiter, one falls under another rule.
    #[error("the path holds `;`, `%3B`, `%3F`, `%23` or `%2F`, and some servers read it as a path of another rule")]
    OtherReading,
    /// Decoded twice, it is another path, and the configuration refuses such.
    #[error("the path is encoded twice")]
    DoubleEncoding,
}

impl Target<'_> {
    /// Whether the path had another spelling than the normal one.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        matches!(self.path, Cow::Owned(_))
    }

    /// Path and query, as they are forwarded.
    #[must_use]
    pub fn to_path_and_query(&self) -> String {
        self.with_query(self.query)
    }

    /// The path with another query.
    #[must_use]
    pub fn with_query(&self, query: Option<&str>) -> String {
        match query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone().into_owned(),
        }
    }
}

/// Reads the `:path` of a request.
///
/// # Errors
/// [`TargetError`] for what is not a path in origin form (RFC 9112 §3.2.1), or is one that servers
/// read differently.
pub fn parse_target(target: &[u8]) -> Result<Target<'_>, TargetError> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(TargetError::TooLong);
    }
    let classes = classes_in(target);
    if classes & INVALID != 0 {
        return Err(TargetError::Character);
    }
    let target = std::str::from_utf8(target).map_err(|_| TargetError::Character)?;
    let has_query = classes & QUESTION_MARK != 0;
    let (path, query) = match has_query.then(|| split_at_byte(target, b'?')).flatten() {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if !path.starts_with('/') {
        return Err(TargetError::NotAbsolute);
    }
    let classes = if has_query {
        classes_in(path.as_bytes())
    } else {
        classes
    };
    if classes & BACKSLASH != 0 {
        return Err(TargetError::Ambiguous);
    }
    let mut found = Found {
        delimiters: match classes & SEMICOLON {
            0 => Delimiters::NONE,
            _ => Delimiters::SEMICOLON,
        },
        has_encoded_sub_delimiter: false,
    };
    let decoded = match classes & SPELLED {
        0 => Cow::Borrowed(path),
        _ => decode_plain(path, &mut found)?,
    };
    if !found.delimiters.is_empty() {
        readings::check_dot_segments(&decoded)?;
    }
    let path = match remove_dot_and_empty_segments(&decoded)? {
        Some(normal) => Cow::Owned(normal),
        None => decoded,
    };
    Ok(Target {
        path,
        query,
        delimiters: found.delimiters,
        has_encoded_sub_delimiter: found.has_encoded_sub_delimiter,
    })
}

/// The delimiters of a path that has more than one reading.
struct Found {
    delimiters: Delimiters,
    has_encoded_sub_delimiter: bool,
}

impl Found {
    /// Notes a byte that stays encoded.
    fn add_encoded(&mut self, byte: u8) {
        let delimiter = match byte {
            b'/' => Delimiters::ENCODED_SLASH,
            b'?' => Delimiters::ENCODED_QUESTION_MARK,
            b'#' => Delimiters::ENCODED_HASH,
            b';' => Delimiters::SEMICOLON,
            _ => Delimiters::NONE,
        };
        self.delimiters = self.delimiters.with(delimiter);
        self.has_encoded_sub_delimiter |= matches!(byte, b';' | b'+');
    }
}

/// RFC 3986 §6.2.2.1 and §6.2.2.2: what is plain is decoded, what may not stand in a path is
/// encoded, and all encodings are in upper case.
fn decode_plain<'p>(path: &'p str, found: &mut Found) -> Result<Cow<'p, str>, TargetError> {
    let mut out = String::with_capacity(path.len());
    let mut changed = false;
    let mut encoded_before = 0;
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if is_to_be_encoded(byte) {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
            changed = true;
            continue;
        }
        if byte != b'%' {
            out.push(char::from(byte));
            encoded_before = 0;
            continue;
        }
        let (high, low) = bytes.next().zip(bytes.next()).ok_or(TargetError::Encoding)?;
        let value = hex_value(high)
            .zip(hex_value(low))
            .map(|(h, l)| h << 4 | l)
            .ok_or(TargetError::Encoding)?;
        if is_overlong(encoded_before, value) {
            return Err(TargetError::Ambiguous);
        }
        encoded_before = value;
        match value {
            b'\\' | 0..=0x1f | 0x7f => return Err(TargetError::Ambiguous),
            plain if is_plain(plain) => {
                out.push(char::from(plain));
                changed = true;
            }
            _ => {
                found.add_encoded(value);
                let (upper_high, upper_low) = (high.to_ascii_uppercase(), low.to_ascii_uppercase());
                changed |= (upper_high, upper_low) != (high, low);
                out.push('%');
                out.push(char::from(upper_high));
                out.push(char::from(upper_low));
            }
        }
    }
    Ok(if changed { Cow::Owned(out) } else { Cow::Borrowed(path) })
}

/// RFC 3986 §5.2.4, then slashes are merged; `None`: there was nothing to do.
fn remove_dot_and_empty_segments(path: &str) -> Result<Option<String>, TargetError> {
    // Compared byte by byte: a search for a string takes longer to prepare than a path takes to
    // read.
    if !path.as_bytes().windows(2).any(|pair| matches!(pair, b"//" | b"/.")) {
        return Ok(None);
    }
    let mut kept: Vec<&str> = Vec::new();
    // A path that ends in a dot segment names a folder: it keeps its last slash.
    let mut ends_with_slash = false;
    for segment in path.split('/').skip(1) {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop().ok_or(TargetError::DotSegment)?;
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept.iter().filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(segment);
    }
    if ends_with_slash || out.is_empty() {
        out.push('/');
    }
    Ok((out != path).then_some(out))
}

/// What stands before the first such byte, an ASCII character, and what behind it. In texts as
/// short as those of a request's head this is read sooner than a search is prepared.
pub(crate) fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == byte)?;
    text.get(..at).zip(text.get(at + 1..))
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Whether two bytes begin a character in more bytes than UTF-8 gives it (RFC 3629 §3): lenient
/// decoders read `%C0%AF` as a slash.
const fn is_overlong(first: u8, second: u8) -> bool {
    matches!(
        (first, second),
        (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f)
    )
}

/// What stands for itself in a segment (`pchar`, RFC 3986 §3.3), but `;` and `+`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*,=:@".contains(&byte)
}

/// Visible characters that RFC 3986 allows nowhere in a path; what some clients send as it is.
const fn is_to_be_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// No byte of a target in origin form.
const INVALID: u8 = 1;
const QUESTION_MARK: u8 = 2;
const BACKSLASH: u8 = 4;
/// A path with it may have another normal form.
const SPELLED: u8 = 8;
const SEMICOLON: u8 = 16;

/// Which of these are in a text: each byte is looked up once, as this is done for every request.
fn classes_in(text: &[u8]) -> u8 {
    const CLASSES: [u8; 256] = {
        let mut classes = [0; 256];
        let (mut byte, mut rest): (u8, &mut [u8]) = (0, &mut classes);
        while let [class, after @ ..] = rest {
            *class = match byte {
                b'?' => QUESTION_MARK,
                b'\\' => BACKSLASH,
                b'%' => SPELLED,
                b';' => SEMICOLON,
                byte if is_to_be_encoded(byte) => SPELLED,
                b'#' | 0..=0x20 | 0x7f..=0xff => INVALID,
                _ => 0,
            };
            (byte, rest) = (byte.wrapping_add(1), after);
        }
        classes
    };
    let class = |byte: &u8| CLASSES.get(usize::from(*byte)).copied().unwrap_or(INVALID);
    text.iter().fold(0, |found, byte| found | class(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, expected: Result<&str, TargetError>) {
        let got = parse_target(target.as_bytes()).map(|t| t.to_path_and_query());
        assert_eq!(got.as_deref().map_err(|e| *e), expected, "{target}");
    }

    #[test]
    fn leaves_a_normal_path_alone() {
        for path in [
            "/",
            "/a",
            "/a/b/",
            "/a.b/..c/d..",
            "/a%20b",
            "/a;v=1/b",
            "/a:b@c!$&'()*+,=",
            "/a?x=%2f..//\\",
            "/a%2Fb",
            "/a/...;x",
            "/a%3F../b",
            "/%C3%80%E0%A0%80%F0%90%80%80",
        ] {
            check(path, Ok(path));
            assert!(!parse_target(path.as_bytes()).unwrap().is_rewritten(), "{path}");
        }
    }

    #[test]
    fn normalises_what_has_one_meaning() {
        check("/%61%2D%7e", Ok("/a-~"));
        check("/a%c3%a9", Ok("/a%C3%A9"));
        check("/v1/orders%3apurge", Ok("/v1/orders:purge"));
        check("/%21%24%26%27%28%29%2A%2C%3D%3A%40", Ok("/!$&'()*,=:@"));
        check("/a|b%7c\"<>^`{}", Ok("/a%7Cb%7C%22%3C%3E%5E%60%7B%7D"));
        // A parameter begins with `;`, and some servers take `+` for a space.
        check("/a%3bb%2bc", Ok("/a%3Bb%2Bc"));
        check("/a%2fb%3f%23", Ok("/a%2Fb%3F%23"));
        check("/a//b///c", Ok("/a/b/c"));
        check("/a/./b/../c", Ok("/a/c"));
        check("/a/%2e%2E/b", Ok("/b"));
        check("/a/b/..", Ok("/a/"));
        check("/a/.", Ok("/a/"));
        check("/a/..", Ok("/"));
        check("//", Ok("/"));
        check("/a/../?q", Ok("/?q"));
        // In Envoy's order: `..` leaves the empty segment, then slashes are merged.
        check("/a//../b", Ok("/a/b"));
    }

    #[test]
    fn refuses_what_servers_read_differently() {
        for path in [
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "/a%0a",
            "/a%7F",
            "/a%C0%AFb",
            "/%c0%ae%c0%ae/b",
            "/a%e0%80%af",
            "/a%F0%80%80%AF",
            "/a%C1%9Cb",
        ] {
            check(path, Err(TargetError::Ambiguous));
        }
        for path in [
            "/..",
            "/a/../..",
            "/%2e%2e/a",
            "/a/..;/b",
            "/a/.;x/b",
            "/a/%2e%2e;x/b",
            "/a/..%3B/b",
            "/a/..%3b/b",
            "/a/.%3B/b",
            "/a/%2e%2E%3bx/b",
            "/a/.%2e%3B;/b",
            "/a/..%3Fx",
            "/a/..%23",
            "/a/.%3f",
            "/a/..%2Fb",
            "/a/..%2fb",
            "/a%2F..",
            "/a%2F../b",
            "/a%2F.%2Fb",
            "/a%2F..;x/b",
            "/a%2f%2e%2e%2fb",
            "/..%3B",
        ] {
            check(path, Err(TargetError::DotSegment));
        }
        for path in ["/a%", "/a%4", "/a%zz", "/a%+1"] {
            check(path, Err(TargetError::Encoding));
        }
        for path in ["/a#b", "/a b", "/a\tb", "/é", "/a\0b"] {
            check(path, Err(TargetError::Character));
        }
        for path in ["*", "a/b", "http://h/a", "?a"] {
            check(path, Err(TargetError::NotAbsolute));
        }
        check("", Err(TargetError::NotAbsolute));
        check(&format!("/{}", "a".repeat(TARGET_BYTES_MAX)), Err(TargetError::TooLong));
    }

    #[test]
    fn a_normal_path_is_its_own_normal_form() {
        for path in [
            "/%61//b/../c",
            "/a/.//../b%2e",
            "/%7Ea%3b/./",
            "/a//../b//",
            "/a%3a|%3B+%2b",
        ] {
            let once = parse_target(path.as_bytes()).unwrap().to_path_and_query();
            let again = parse_target(once.as_bytes()).unwrap();
            assert_eq!(
                (again.to_path_and_query().as_str(), again.is_rewritten()),
                (once.as_str(), false),
                "{path}"
            );
        }
    }
}
