//! Names of query parameters and cookies as servers read them. Several spellings are one name to
//! many servers, so a request that has one of them beside a credential, or instead of it, has two
//! readings.

use std::borrow::Cow;

/// A name that is still encoded after so many decodings is another name: each proxy in a row
/// decodes once at most.
const DECODINGS_MAX: usize = 4;

/// Whether a server may take this name, as sent and perhaps percent-encoded, for the wanted one.
///
/// - Letter case: ASP.NET.
/// - `.`, space, `+` and an unclosed `[` for `_`, spaces before the name, and its end at a NUL: PHP.
/// - `name[]`, `name[key]` and `[name]` for `name`: PHP, Rails, `qs` of Node.js.
/// - A second decoding, `%uXXXX`, and letters that lose their difference without case: servers behind decoding proxies, IIS, Java.
pub(super) fn is_read_as(name: &str, wanted: &str) -> bool {
    let mut name = Cow::Borrowed(name);
    for _ in 0..DECODINGS_MAX {
        if is_folded_to(&name, wanted) {
            return true;
        }
        if !name.contains('%') {
            return false;
        }
        name = Cow::Owned(decoded(&name));
    }
    is_folded_to(&name, wanted)
}

/// A name without its percent-encoding, which all servers decode once.
pub(super) fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match encoded(rest) {
            Some((character, after)) => {
                bytes.extend_from_slice(&character);
                after
            }
            None => {
                bytes.push(*first);
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bytes that an encoding at the beginning of a text stands for, and what follows it.
fn encoded(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (b'%', rest) = text.split_first()? else { return None };
    let value = |digits: &[u8]| {
        let is_number = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
        u32::from_str_radix(digits, 16).ok()
    };
    if let Some((b'u' | b'U', rest)) = rest.split_first() {
        let (digits, rest) = rest.split_at_checked(4)?;
        let character = char::from_u32(value(digits)?)?;
        return Some((character.to_string().into_bytes(), rest));
    }
    let (digits, rest) = rest.split_at_checked(2)?;
    Some((vec![u8::try_from(value(digits)?).ok()?], rest))
}

fn is_folded_to(name: &str, wanted: &str) -> bool {
    let name = name.trim_start_matches(|c| is_ignored(c) || matches!(c, ' ' | '+' | '?'));
    let name = name.split('\0').next().unwrap_or_default();
    let is_wanted = |name: &str| {
        let name = name.trim_end_matches(|c| is_ignored(c) || matches!(c, ' ' | '+'));
        folded(name).eq(folded(wanted))
    };
    match name.strip_prefix('[') {
        Some(inner) => is_wanted(inner.split(']').next().unwrap_or_default()),
        None => is_wanted(name) || name.split_once('[').is_some_and(|(before, _)| is_wanted(before)),
    }
}

fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !is_ignored(*c)).map(fold)
}

fn fold(character: char) -> char {
    match character {
        '.' | ' ' | '+' | '[' => '_',
        'ſ' => 's',
        // The sign for kelvin.
        '\u{212a}' => 'k',
        'ı' | 'İ' => 'i',
        // The full-width forms of `!` to `~`.
        '\u{ff01}'..='\u{ff5e}' => {
            let narrow = u32::from(character).checked_sub(0xfee0).and_then(char::from_u32);
            narrow.map_or(character, fold)
        }
        other => other.to_ascii_lowercase(),
    }
}

/// What some servers take out of a name, at its ends or anywhere.
fn is_ignored(character: char) -> bool {
    character.is_control()
        || !character.is_ascii() && character.is_whitespace()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_servers_take_for_one_name() {
        for name in [
            "access_token",
            "Access_Token",
            "ACCESS_TOKEN",
            "access%5Ftoken",
            "%61ccess_token",
            "access%255Ftoken",
            "access%25255ftoken",
            "access.token",
            "access%2Etoken",
            "access+token",
            "access%20token",
            "access%2Btoken",
            "access[token",
            "access%5Btoken",
            "access_token[]",
            "access_token%5B%5D",
            "access_token[0]",
            "Access.Token[a][b]",
            "[access_token]",
            "%5Baccess_token%5D",
            "+access_token",
            "%20%20access_token",
            "access_token+",
            "access_token%20",
            "%09access_token%0D%0A",
            "access_token%00",
            "access_token%00x",
            "%00access_token",
            "access%0A_token",
            "%EF%BB%BFaccess_token",
            "access_token%C2%A0",
            "access_%E2%80%8Btoken",
            "acce%C5%BFs_token",
            "access_to%E2%84%AAen",
            "%EF%BD%81ccess_token",
            "access%EF%BC%BFtoken",
            "access%u005Ftoken",
            "%U0061ccess_token",
            "?access_token",
        ] {
            assert!(is_read_as(name, "access_token"), "{name}");
        }
    }

    #[test]
    fn other_names() {
        for name in [
            "",
            "a",
            "access",
            "token",
            "access_tokens",
            "xaccess_token",
            "access-token",
            "accesstoken",
            "access__token",
            "access_token2",
            "x[access_token]",
            "filter.access_token",
            "access[_token]",
            "access_%00token",
            "access%",
            "access%5",
            "access%zztoken",
            "access%+5token",
            "access%u00token",
            "access%ud800token",
            "[]access_token",
            "\u{fffd}access_token",
            "аccess_token",
        ] {
            assert!(!is_read_as(name, "access_token"), "{name}");
        }
        assert!(is_read_as("SESSİON", "session") && is_read_as("sessıon", "session"));
        assert!(!is_read_as("session-id", "session_id") && is_read_as("session.id", "session_id"));
        // Names of the configuration may hold these marks themselves.
        assert!(is_read_as("a.b", "a.b") && is_read_as("a_b", "a.b"));
    }

    #[test]
    fn decodes_once() {
        assert_eq!(decoded("a%5Fb"), "a_b");
        assert_eq!(decoded("a%255Fb"), "a%5Fb");
        assert_eq!(decoded("a%"), "a%");
        assert_eq!(decoded("%+1"), "%+1");
    }
}
