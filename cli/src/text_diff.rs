//! How two texts differ.

use similar::TextDiff;

/// How many lines are shown around what differs.
const CONTEXT_LINES: usize = 2;

/// A unified diff of two texts, each given with its name; empty where they are the same.
pub(crate) fn unified(old: (&str, &str), new: (&str, &str)) -> String {
    TextDiff::from_lines(old.1, new.1)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(old.0, new.0)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_and_what_does_not_is_not() {
        assert_eq!(unified(("a", "1\n2\n"), ("b", "1\n2\n")), "");
        assert_eq!(
            unified(("a", "1\n2\n"), ("b", "1\n3\n")),
            "--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n"
        );
    }
}
