//! Makes a file of this machine from a file that an operator reads: exact text is replaced, and nothing is guessed.

use anyhow::{Result, ensure};

/// Replaces each `(from, to)` in `text`.
///
/// # Errors
/// When a `from` does not occur, because then the file was changed and the harness was not.
pub fn replaced(text: &str, replacements: &[(String, String)]) -> Result<String> {
    let mut rendered = text.to_owned();
    for (from, to) in replacements {
        ensure!(
            rendered.contains(from.as_str()),
            "the text to be replaced is not in the file: `{from}`"
        );
        rendered = rendered.replace(from.as_str(), to);
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::replaced;

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn replaces_every_occurrence() {
        let text = replaced("a: 1\nb: 1\n", &[pair(": 1", ": 2")]).unwrap();
        assert_eq!(text, "a: 2\nb: 2\n");
    }

    #[test]
    fn fails_when_the_text_is_not_there() {
        let error = replaced("a: 1", &[pair("a: 3", "a: 2")]).unwrap_err();
        assert!(error.to_string().contains("a: 3"), "{error}");
    }
}
