//! Markdown text: paragraphs wrapped at [`COLUMNS_MAX`], and links to headings.

/// The longest line of a document.
pub const COLUMNS_MAX: usize = 100;

/// Wraps a text. A blank line separates paragraphs, and a line that begins with `- ` is a list item.
/// Code in backticks is never broken.
#[must_use]
pub fn wrapped(text: &str) -> String {
    let blocks = text.split("\n\n").flat_map(items);
    blocks.collect::<Vec<_>>().join("\n")
}

/// The lines of a paragraph, or of the items of a list.
fn items(paragraph: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in paragraph.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match items.last_mut() {
            Some(item) if !line.starts_with("- ") => {
                item.push(' ');
                item.push_str(line);
            }
            Some(_) | None => items.push(line.to_owned()),
        }
    }
    let mut lines: Vec<String> = items.iter().flat_map(|item| lines_of(item)).collect();
    lines.push(String::new());
    lines
}

/// The lines of one paragraph or item.
fn lines_of(item: &str) -> Vec<String> {
    let indentation = if item.starts_with("- ") { "  " } else { "" };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words(item) {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push(std::mem::replace(&mut line, indentation.to_owned()));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The words of a text; a span of code is part of one word, with its spaces.
fn words(text: &str) -> Vec<&str> {
    let mut is_code = false;
    text.split(move |character: char| {
        is_code ^= character == '`';
        character == ' ' && !is_code
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// The anchor that a heading has on the pages of code hosts.
#[must_use]
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ if character.is_alphanumeric() => Some(character.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

/// A number with commas between thousands.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_items_are_wrapped_and_code_is_not_broken() {
        let code = format!("`{}`", "code ".repeat(15).trim());
        let text = format!(
            "{} {code}\nmore\n\n- one\n- {} {code}",
            "word ".repeat(8).trim(),
            "item ".repeat(8).trim()
        );
        let expected = format!(
            "{}\n{code} more\n\n- one\n- {}\n  {code}\n",
            "word ".repeat(8).trim(),
            "item ".repeat(8).trim()
        );
        assert_eq!(wrapped(&text), expected);
    }

    #[test]
    fn numbers_have_commas_and_anchors_are_those_of_code_hosts() {
        let numbers: Vec<_> = [0, 999, 1_000, 31_622_400].into_iter().map(number).collect();
        assert_eq!(numbers, ["0", "999", "1,000", "31,622,400"]);
        assert_eq!(anchor("Keys of `rules[].peers`"), "keys-of-rulespeers");
    }
}
