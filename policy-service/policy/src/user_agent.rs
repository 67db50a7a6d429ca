//! The fields that a user agent may have been: Envoy makes one of several `user-agent` fields, with
//! a comma between two of them, before any filter sees them.

use super::errors::ModelError;

/// More fields are not evaluated: their number is the client's choice.
const FIELDS_MAX: usize = 16;

/// The fields that could have been joined; none for a user agent that was one field.
///
/// # Errors
/// There are more than are evaluated.
pub(super) fn possible_fields(agent: Option<&str>) -> Result<Vec<&str>, ModelError> {
    // Most user agents have no comma outside of a comment.
    limited(agent, agent.into_iter().flat_map(split))
}

/// What is between all commas, those in comments included: fields such as `(`, `bot` and `)` are
/// joined to a comment. None for a user agent without a comma.
///
/// # Errors
/// There are more than are evaluated.
pub(super) fn possible_parts(agent: Option<&str>) -> Result<Vec<&str>, ModelError> {
    limited(agent, agent.into_iter().flat_map(|agent| parts(agent, |c| c == ',')))
}

fn limited<'a>(agent: Option<&'a str>, parts: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>, ModelError> {
    let mut parts: Vec<&str> = parts.take(FIELDS_MAX + 1).collect();
    if parts.as_slice() == agent.as_slice() {
        parts.clear();
    }
    match parts.len() {
        found if found > FIELDS_MAX => Err(ModelError::TooMany {
            field: "user_agent",
            found,
            max: FIELDS_MAX,
        }),
        _ => Ok(parts),
    }
}

/// Splits at each comma outside of a comment (RFC 9110 §10.1.5), such as in `(KHTML, like Gecko)`,
/// and of the brackets that some clients write. Where these do not end, nothing is inside of them.
fn split(agent: &str) -> impl Iterator<Item = &str> {
    let is_closed = agent.chars().fold(0, depth_after) == 0;
    let mut depth = 0;
    parts(agent, move |c| {
        depth = depth_after(depth, c);
        c == ',' && (depth == 0 || !is_closed)
    })
}

fn parts(agent: &str, is_end: impl FnMut(char) -> bool) -> impl Iterator<Item = &str> {
    agent
        .split(is_end)
        .map(|field| field.trim_matches([' ', '\t']))
        .filter(|field| !field.is_empty())
}

fn depth_after(depth: usize, c: char) -> usize {
    match c {
        '(' | '[' => depth.saturating_add(1),
        ')' | ']' => depth.saturating_sub(1),
        _ => depth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_outside_of_a_comment_separates_fields() {
        let fields = |agent: &'static str| possible_fields(Some(agent)).unwrap();
        for one in [
            "",
            "bot",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
            "Mobile/15E148 [FBAN/FBIOS;FBDV/iPhone12,1;FBMD/iPhone]",
            "a (b (c, d), e)",
        ] {
            assert_eq!(fields(one), [""; 0], "{one}");
        }
        for (agent, expected) in [
            ("bot,bot", ["bot", "bot"].as_slice()),
            ("bot, curl", &["bot", "curl"]),
            ("a (x, y),bot", &["a (x, y)", "bot"]),
            ("app/1 iPhone10,5 x", &["app/1 iPhone10", "5 x"]),
            ("a (,bot", &["a (", "bot"]),
            ("a),bot,(b", &["a)", "bot", "(b"]),
            ("bot,", &["bot"]),
            (",bot", &["bot"]),
            (",bot,,x", &["bot", "x"]),
        ] {
            assert_eq!(fields(agent), expected, "{agent}");
        }
        assert_eq!(possible_fields(None).unwrap(), [""; 0]);
    }

    #[test]
    fn every_comma_separates_parts() {
        let parts = |agent: &'static str| possible_parts(Some(agent)).unwrap();
        for (agent, expected) in [
            ("", [].as_slice()),
            ("bot", &[]),
            ("(,bot,)", &["(", "bot", ")"]),
            ("(, bot,)", &["(", "bot", ")"]),
            (
                "Mozilla/5.0 (KHTML, like Gecko)",
                &["Mozilla/5.0 (KHTML", "like Gecko)"],
            ),
        ] {
            assert_eq!(parts(agent), expected, "{agent}");
        }
    }

    #[test]
    fn more_fields_than_are_evaluated_are_an_error() {
        let of = |count: usize| vec!["a"; count].join(",");
        assert_eq!(possible_fields(Some(&of(FIELDS_MAX))).unwrap().len(), FIELDS_MAX);
        assert!(possible_fields(Some(&of(FIELDS_MAX + 1))).is_err());
        let in_comment = format!("({})", of(FIELDS_MAX + 1));
        assert!(possible_fields(Some(&in_comment)).unwrap().is_empty());
        assert!(possible_parts(Some(&in_comment)).is_err());
    }
}
