//! What is printed: data to standard output as text or JSON, messages to standard error.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

/// The form of the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document, for programs
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A colour with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Bad,
    Dim,
}

/// Where the data of a command goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    color: Color,
}

/// The data could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    #[error("cannot write the answer as JSON")]
    Json(#[source] serde_json::Error),
}

impl Output {
    pub(crate) fn new(format: Format, color: Color) -> Self {
        Self { format, color }
    }

    /// Prints one answer: the text for people, or the value as JSON. `text` ends each line itself.
    pub(crate) fn print(self, text: &str, value: &impl Serialize) -> Result<(), OutputError> {
        match self.format {
            Format::Text => write_all(text),
            Format::Json => self.print_json(value),
        }
    }

    /// Prints an answer that is a JSON document in either form.
    pub(crate) fn print_json(self, value: &impl Serialize) -> Result<(), OutputError> {
        let document = serde_json::to_string_pretty(value).map_err(OutputError::Json)?;
        write_all(&format!("{document}\n"))
    }

    /// The form of the answer.
    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// A text in colour, where standard output is to have colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        painted(self.color, io::stdout().is_terminal(), paint, text)
    }
}

/// Says on standard error what went wrong, with every cause.
pub(crate) fn report_error(color: Color, error: &dyn Error) {
    let mut line = painted(color, io::stderr().is_terminal(), Paint::Bad, "error:");
    let _ = write!(line, " {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries put the cause into their own message too.
        if !line.ends_with(&text) {
            let _ = write!(line, ": {text}");
        }
        cause = error.source();
    }
    // Where standard error is closed there is nobody to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says one thing on standard error beside an answer.
pub(crate) fn report_line(what: &str, text: &str) {
    // Where standard error is closed there is nobody to tell; the exit code still says it.
    let _ = writeln!(io::stderr(), "{what}: {text}");
}

/// A text from elsewhere as it can be put on a terminal: control characters are escaped, and so are those that are not seen
/// or change the order in which a line is read (Unicode UAX #9).
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = (c.is_control() || is_unseen(c)).then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

fn is_unseen(c: char) -> bool {
    let spaces_and_marks = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    spaces_and_marks || matches!(c, '\u{61c}' | '\u{2028}'..='\u{202e}')
}

/// A reader that has closed the pipe has had enough: that is not an error.
fn write_all(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(OutputError::Write(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn painted(color: Color, is_terminal: bool, paint: Paint, text: &str) -> String {
    // https://no-color.org: set and not empty.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let in_color = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_terminal && !no_color,
    };
    if !in_color {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Good => "32",
        Paint::Bad => "1;31",
        Paint::Dim => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_others_are_not() {
        assert_eq!(printable("alice é 日本"), "alice é 日本");
        assert_eq!(printable("a\u{1b}[31m\n\u{9b}"), "a\\u{1b}[31m\\n\\u{9b}");
        // The terminal would show `permit` for what was denied.
        assert_eq!(printable("\u{202e}timrep\u{200b}"), "\\u{202e}timrep\\u{200b}");
    }
}
