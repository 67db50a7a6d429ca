//! Reading a configuration so that all of its mistakes are told at once, each with the path to the field.

use std::fmt;
use std::ops::ControlFlow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, ValueKind, ValuePointerRef};
use serde_json::Value;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The way to the field, such as `rules[2].paths[0]`; empty for the whole document.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// All the mistakes that were found in one configuration; never empty as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The mistakes in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// Adds a mistake that a check beyond the types has found.
    pub fn add(&mut self, path: impl Into<String>, message: impl fmt::Display) {
        self.0.push(Problem {
            path: path.into(),
            message: message.to_string(),
        });
    }

    /// Adds all of another check's mistakes.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds the mistake of a result, and returns its value where there is none.
    pub fn take<T, E: fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error)).ok()
    }

    /// The value, if no mistake was found.
    ///
    /// # Errors
    /// The mistakes, if there is one.
    pub fn none_or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(self),
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("; "))
    }
}

impl std::error::Error for Problems {}

/// Reads a document into `T`, which derives `Deserr` with `deny_unknown_fields`.
///
/// # Errors
/// Every field that is missing, unknown or of the wrong type.
pub fn read<T: Deserr<Problems>>(document: Value) -> Result<T, Problems> {
    deserr::deserialize::<T, Value, Problems>(document)
}

impl DeserializeError for Problems {
    fn error<V: IntoValue>(
        found: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut found = found.unwrap_or_default();
        let path = path_of(location);
        let (path, message) = match error {
            ErrorKind::MissingField { field } => (join(&path, field), "is required".to_owned()),
            ErrorKind::UnknownKey { key, accepted } => (
                join(&path, key),
                format!("unknown field, expected one of {}", list(accepted)),
            ),
            ErrorKind::UnknownValue { value, accepted } => (
                path,
                format!(
                    "unknown value `{}`, expected one of {}",
                    shortened(value),
                    list(accepted)
                ),
            ),
            ErrorKind::IncorrectValueKind { actual, accepted } => (
                path,
                format!("expected {}, found {}", kinds(accepted), kind(actual.kind())),
            ),
            ErrorKind::BadSequenceLen { expected, .. } => (path, format!("expected an array of {expected} elements")),
            ErrorKind::Unexpected { msg } => (path, msg),
        };
        found.0.push(Problem { path, message });
        ControlFlow::Continue(found)
    }
}

impl MergeWithError<Problems> for Problems {
    fn merge(found: Option<Self>, other: Problems, _location: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let mut found = found.unwrap_or_default();
        found.0.extend(other.0);
        ControlFlow::Continue(found)
    }
}

/// Parses a text at a place in a document.
///
/// # Errors
/// The value is no text, or the message of `parse`, with the way to the field.
pub fn parsed_text<T, V: IntoValue>(
    value: deserr::Value<V>,
    location: ValuePointerRef<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Problems> {
    let text = <String as Deserr<Problems>>::deserialize_from_value(value, location)?;
    parse(&text).map_err(|message| problem_at(location, message))
}

/// One mistake at a place in a document.
#[must_use]
pub fn problem_at(location: ValuePointerRef<'_>, message: String) -> Problems {
    let error = ErrorKind::Unexpected { msg: message };
    deserr::take_cf_content(Problems::error::<Value>(None, error, location))
}

/// Input that is shown in a message, cut short, and with control characters escaped: it may come from elsewhere and go into a
/// log.
#[must_use]
pub fn shortened(input: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut shown = String::new();
    for character in input.chars().take(SHOWN_CHARS_MAX) {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    if input.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn path_of(location: ValuePointerRef<'_>) -> String {
    match location {
        ValuePointerRef::Origin => String::new(),
        ValuePointerRef::Key { key, prev } => join(&path_of(*prev), key),
        ValuePointerRef::Index { index, prev } => format!("{}[{index}]", path_of(*prev)),
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

fn list(accepted: &[&str]) -> String {
    accepted
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn kinds(accepted: &[ValueKind]) -> String {
    let mut names: Vec<&str> = accepted.iter().map(|k| kind(*k)).collect();
    names.dedup();
    names.join(" or ")
}

fn kind(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Null => "null",
        ValueKind::Boolean => "a boolean",
        ValueKind::Integer | ValueKind::NegativeInteger => "an integer",
        ValueKind::Float => "a number",
        ValueKind::String => "a string",
        ValueKind::Sequence => "an array",
        ValueKind::Map => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserr)]
    #[deserr(deny_unknown_fields, error = Problems)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Document {
        name: String,
        #[deserr(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserr)]
    #[deserr(deny_unknown_fields, error = Problems)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Inner {
        port: u16,
    }

    #[test]
    fn all_mistakes_are_told_with_their_paths() {
        let document = serde_json::json!({"nam": 1, "inner": [{"port": 1}, {"port": "x", "extra": {}}]});
        let problems = read::<Document>(document).unwrap_err();
        let mut lines: Vec<String> = problems.as_slice().iter().map(ToString::to_string).collect();
        // The order is the document's only where serde_json keeps it, which is another crate's choice.
        lines.sort();
        assert_eq!(
            lines,
            [
                "inner[1].extra: unknown field, expected one of `port`",
                "inner[1].port: expected an integer, found a string",
                "nam: unknown field, expected one of `name`, `inner`",
                "name: is required",
            ]
        );
    }

    #[test]
    fn a_number_that_does_not_fit_is_a_mistake() {
        let document = serde_json::json!({"name": "a", "inner": [{"port": 70000}]});
        let problems = read::<Document>(document).unwrap_err();
        assert_eq!(problems.as_slice().len(), 1);
        assert_eq!(problems.as_slice()[0].path, "inner[0].port");
    }
}
