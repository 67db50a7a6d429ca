//! Values of the headers that Picket sets: text from a token or a policy, made safe for a header
//! field.

use std::fmt::Write;

/// Appends `text`, percent-encoded outside visible ASCII and for `%` and `,`.
///
/// RFC 9110 §5.5 allows less than a claim may hold: a line break would begin a header of the
/// token's making, and a comma would add an element to a list.
pub fn encode_into(out: &mut String, text: &str) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',');
    if text.bytes().all(is_plain) {
        return out.push_str(text);
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// `text` as a header value.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode_into(&mut out, text);
    out
}

/// A list as a header value, separated by commas.
#[must_use]
pub fn encode_list(texts: &[String]) -> String {
    let mut out = String::new();
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        encode_into(&mut out, text);
    }
    out
}

/// A list as a header value, each text as it is. `None`: a header cannot hold it (RFC 9110 §5.5),
/// or a text of several has a comma, which would add an element.
#[must_use]
pub fn raw_list(texts: &[String]) -> Option<String> {
    let is_raw = |text: &String| !text.chars().any(char::is_control) && text.trim_matches(' ') == text;
    let is_list = texts.len() == 1 || !texts.iter().any(|text| text.contains(','));
    (is_list && texts.iter().all(is_raw)).then(|| texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_a_header_or_add_to_a_list() {
        assert_eq!(encode("alice@example.org|7"), "alice@example.org|7");
        assert_eq!(encode("a\r\nx-admin: 1"), "a%0D%0Ax-admin:%201");
        assert_eq!(encode("50%,é"), "50%25%2C%C3%A9");
        assert_eq!(encode_list(&["a,b".into(), "c".into(), String::new()]), "a%2Cb,c,");
    }

    #[test]
    fn a_raw_text_is_as_it_is_or_none() {
        let raw = |texts: &[&str]| raw_list(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        for (texts, expected) in [
            (&["Ada Lovelace"][..], Some("Ada Lovelace")),
            (&["50%, é"], Some("50%, é")),
            (&["a", "b c"], Some("a,b c")),
            (&[""], Some("")),
            (&["a,b", "c"], None),
            (&["a\r\nx-admin: 1"], None),
            (&["a\u{85}b"], None),
            (&["a\tb"], None),
            (&[" a"], None),
            (&["a "], None),
            (&["a", "b\0"], None),
        ] {
            assert_eq!(raw(texts).as_deref(), expected, "{texts:?}");
        }
    }
}
