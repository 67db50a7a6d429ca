//! Names that are stored for people to read, beside the digests that are compared.

/// Texts that are kept for people to read are cut at this; what is compared is the digest of the
/// whole.
const TEXT_BYTES_MAX: usize = 256;

/// What is kept for people instead of a control character.
const NO_CHARACTER: &str = "\u{fffd}";

/// Whether a text that is kept is what was there, for all that can be known.
#[must_use]
pub(crate) fn is_whole(kept: &str) -> bool {
    // What was cut ends within a character of the limit.
    kept.len() <= TEXT_BYTES_MAX - 4 && !kept.contains(NO_CHARACTER)
}

/// A text as it is kept for people: cut, and without control characters. PostgreSQL takes no NUL,
/// and terminals obey the others.
#[must_use]
pub(crate) fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    let text = text.get(..end).unwrap_or_default();
    text.replace(char::is_control, NO_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(200)).len(), 256);
        assert_eq!(cut(&format!("x{}", "é".repeat(200))).len(), 255);
    }

    #[test]
    fn a_text_is_kept_without_what_is_no_character() {
        assert_eq!(cut("a\0b\u{1b}[2Jc\u{85}"), "a\u{fffd}b\u{fffd}[2Jc\u{fffd}");
    }
}
