//! Where in a policy's text its clauses are: Cedar keeps the text of a policy, but not of its parts.

/// A `when` or `unless` as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// Where it begins, in bytes.
    pub(super) offset: usize,
    pub(super) text: &'a str,
}

/// The clauses in the text of one policy, in their order. It reads no grammar, only what a `when` or `unless` can hide in:
/// strings, comments and brackets. An annotation of that name is taken for one; whoever asks compares the number.
pub(super) fn clauses(text: &str) -> Vec<Written<'_>> {
    let mut found = Vec::new();
    let (mut at, mut depth, mut begun) = (0, 0_usize, None);
    while let Some((token, length)) = next_token(text.get(at..).unwrap_or_default()) {
        match token {
            Token::Opens => depth += 1,
            Token::Closes => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some(offset) = begun.take()
                    && let Some(text) = text.get(offset..at + length)
                {
                    found.push(Written { offset, text });
                }
            }
            Token::Clause if depth == 0 => begun = Some(at),
            Token::Clause | Token::Other => {}
        }
        at += length;
    }
    found
}

enum Token {
    Opens,
    Closes,
    Clause,
    Other,
}

/// The next token and how many bytes it has, never 0; `None` at the end.
fn next_token(rest: &str) -> Option<(Token, usize)> {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let first = rest.chars().next()?;
    Some(match first {
        '"' => (Token::Other, string_bytes(rest)),
        '/' if rest.starts_with("//") => (Token::Other, rest.find('\n').unwrap_or(rest.len())),
        '(' | '[' | '{' => (Token::Opens, 1),
        ')' | ']' | '}' => (Token::Closes, 1),
        c if of_word(c) => {
            let length = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
            match rest.get(..length) {
                Some("when" | "unless") => (Token::Clause, length),
                Some(_) | None => (Token::Other, length),
            }
        }
        c => (Token::Other, c.len_utf8()),
    })
}

/// How long the string is that begins here, with both quotes.
fn string_bytes(rest: &str) -> usize {
    let mut is_escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return index + 1,
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        clauses(text).iter().map(|clause| clause.text).collect()
    }

    #[test]
    fn clauses_are_found_whatever_strings_and_comments_hold() {
        let text = r#"@reason("when { \" unless {")
            permit (principal, action, resource) // when { never }
            when { resource.path == "}" && { a: [1] } == {a: [1]} /* */ }
            unless { whenever.when }
            when{true};"#;
        assert_eq!(
            texts(text),
            [
                r#"when { resource.path == "}" && { a: [1] } == {a: [1]} /* */ }"#,
                "unless { whenever.when }",
                "when{true}"
            ]
        );
        let offset = clauses(text)[1].offset;
        assert!(text.get(offset..).unwrap().starts_with("unless { whenever"));
    }

    #[test]
    fn a_policy_without_clauses_has_none_and_a_text_that_ends_early_does_no_harm() {
        assert_eq!(texts("permit (principal, action, resource);"), [""; 0]);
        for text in ["", "\"", "\"\\", "when", "when {", "//", "}", "é\"é"] {
            assert_eq!(texts(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn an_annotation_of_that_name_is_one_clause_too_many() {
        assert_eq!(clauses("@when(\"x\") permit (principal, action, resource);").len(), 1);
    }
}
