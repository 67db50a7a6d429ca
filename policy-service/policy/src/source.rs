//! The texts of policies and schemas: whether Cedar may parse one, and where in a policy's text its
//! clauses are, as Cedar keeps the text of a policy, but not of its parts.

use std::path::PathBuf;

use serde::Serialize;

use super::errors::{Mistakes, line_at};

/// A file of policies, or of a schema.
pub(super) struct File {
    /// By which mistakes in it are told.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    /// Whether Cedar may parse it: what nests without end would end the process.
    pub(super) fn is_shallow(&self, is_schema: bool, found: &mut Mistakes) -> bool {
        match too_deep(&self.text, is_schema) {
            None => true,
            Some((offset, message)) => {
                found.add(&self.path, Some(line_at(&self.text, offset)), message);
                false
            }
        }
    }
}

/// Where a policy was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SourceLocation {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

/// A `when` or `unless` as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// Where it begins, in bytes.
    pub(super) offset: usize,
    pub(super) text: &'a str,
}

/// The clauses in the text of one policy, in their order. It reads no grammar, only what a `when`
/// or `unless` can hide in: strings, comments and brackets. An annotation of that name is taken for
/// one; whoever asks compares the number.
pub(super) fn clauses(text: &str) -> Vec<Written<'_>> {
    let mut found = Vec::new();
    let (mut at, mut depth, mut begun) = (0, 0_usize, None);
    while let Some((token, length)) = next_token(text.get(at..).unwrap_or_default()) {
        match token {
            Token::Opens | Token::OpensSquare => depth += 1,
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
            Token::Clause
            | Token::Less
            | Token::Greater
            | Token::Semicolon
            | Token::If
            | Token::Operator
            | Token::Other => {}
        }
        at += length;
    }
    found
}

/// Brackets and `if`s within each other that no policy needs. Cedar's parser calls itself for each,
/// and has no bound of its own.
pub(super) const NESTING_MAX: usize = 64;
/// Clauses, operators and attributes in a policy: each of `a && b && c` is within the next. Cedar
/// has no bound for what it parses, is silent about a policy that is too deep for its validator,
/// and fails where one is too deep to be evaluated.
pub(super) const OPERATORS_MAX: usize = 256;

/// Where a text nests more deeply than Cedar can take, in bytes, and what is wrong there. What is
/// in `<` and `>` nests in a schema; in policies they compare.
fn too_deep(text: &str, is_schema: bool) -> Option<(usize, String)> {
    let (mut at, mut depth, mut ifs, mut operators) = (0, 0_usize, 0_usize, 0_usize);
    while let Some((token, length)) = next_token(text.get(at..).unwrap_or_default()) {
        match token {
            Token::Opens => depth += 1,
            Token::OpensSquare => (depth, operators) = (depth + 1, operators + 1),
            Token::Closes => depth = depth.saturating_sub(1),
            Token::Less if is_schema => depth += 1,
            Token::Greater if is_schema => depth = depth.saturating_sub(1),
            // How far an `else` reaches is the parser's to know: all of a policy count.
            Token::If => ifs += 1,
            Token::Operator | Token::Clause => operators += 1,
            Token::Semicolon if depth == 0 => (ifs, operators) = (0, 0),
            Token::Less | Token::Greater | Token::Semicolon | Token::Other => {}
        }
        if depth > NESTING_MAX || ifs > NESTING_MAX {
            return Some((at, format!("brackets or `if`s are nested more than {NESTING_MAX} deep")));
        }
        // A schema has no expressions, and its `;` stand within a namespace.
        if operators > OPERATORS_MAX && !is_schema {
            let expected = format!("a policy has more than {OPERATORS_MAX} clauses, operators and attributes");
            return Some((
                at,
                format!("{expected}: a set holds any number of values, and policies stand beside each other"),
            ));
        }
        at += length;
    }
    None
}

enum Token {
    Opens,
    /// It may begin a set, or reach into what is before it.
    OpensSquare,
    Closes,
    Less,
    Greater,
    Semicolon,
    If,
    /// What makes a tree of the expressions before and after it, or of the one after it.
    Operator,
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
        '(' | '{' => (Token::Opens, 1),
        '[' => (Token::OpensSquare, 1),
        ')' | ']' | '}' => (Token::Closes, 1),
        '<' => (Token::Less, 1),
        '>' => (Token::Greater, 1),
        ';' => (Token::Semicolon, 1),
        '&' | '|' if rest.starts_with("&&") || rest.starts_with("||") => (Token::Operator, 2),
        '+' | '-' | '*' | '.' | '!' => (Token::Operator, 1),
        c if of_word(c) => {
            let length = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
            match rest.get(..length) {
                Some("when" | "unless") => (Token::Clause, length),
                Some("if") => (Token::If, length),
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
    fn what_nests_too_deeply_is_found_in_policies_and_schemas() {
        let too_deep = |text: &str, is_schema| too_deep(text, is_schema).map(|(offset, _)| offset);
        let brackets = |depth: usize| format!("permit {}true{};", "(".repeat(depth), ")".repeat(depth));
        let ifs = |count: usize| format!("{} true {};", "if true then ".repeat(count), "else true ".repeat(count));
        let sets = |depth: usize| format!("type T = {}Long{};", "Set<".repeat(depth), ">".repeat(depth));
        for deep in [&brackets as &dyn Fn(usize) -> String, &ifs] {
            assert_eq!(too_deep(&deep(NESTING_MAX), false), None);
            assert!(too_deep(&deep(NESTING_MAX + 1), false).is_some());
            assert_eq!(too_deep(&deep(NESTING_MAX).repeat(3), false), None);
        }
        assert_eq!(too_deep(&sets(NESTING_MAX), true), None);
        assert!(too_deep(&sets(NESTING_MAX + 1), true).is_some());
        assert_eq!(too_deep(&"a < b;".repeat(NESTING_MAX + 1), false), None);
        assert_eq!(too_deep(&format!("\"{}\"", "(".repeat(NESTING_MAX + 1)), false), None);
        for operator in [
            "&& a ", "|| a ", "+ 1 ", "* 1 ", "- 1 ", "! ", ".a ", "[\"a\"]", "when {}",
        ] {
            let chain = |count: usize| format!("{};", operator.repeat(count));
            assert_eq!(too_deep(&chain(OPERATORS_MAX).repeat(3), false), None, "{operator}");
            assert!(too_deep(&chain(OPERATORS_MAX + 1), false).is_some(), "{operator}");
        }
        assert_eq!(
            too_deep(&format!("[{}];", "1, ".repeat(OPERATORS_MAX + 1)), false),
            None
        );
        let actions = "action a in [b];".repeat(OPERATORS_MAX + 1);
        assert_eq!(too_deep(&format!("namespace N {{ {actions} }}"), true), None);
    }

    #[test]
    fn an_annotation_of_that_name_is_one_clause_too_many() {
        assert_eq!(clauses("@when(\"x\") permit (principal, action, resource);").len(), 1);
    }
}
