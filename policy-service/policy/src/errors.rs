//! Mistakes in a folder of policies with their places, and errors of Cedar as text.

use std::fmt;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde::Serialize;

/// One mistake in a folder of policies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PolicyError {
    /// The file, or the folder where a file is missing.
    pub file: PathBuf,
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The mistake.
    pub message: String,
}

/// All the mistakes in a folder, in the order of files and lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PolicyErrors(Vec<PolicyError>);

impl PolicyErrors {
    /// The mistakes in the order of files and lines.
    #[must_use]
    pub fn as_slice(&self) -> &[PolicyError] {
        &self.0
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(PolicyError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for PolicyErrors {}

/// How much of an evaluation error a record holds: it can quote the request.
const ERROR_CHARS_MAX: usize = 256;

/// Why a request cannot be put to Cedar, which is a deny.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModelError {
    #[error("{field} has {found} elements, and at most {max} are evaluated")]
    TooMany {
        field: &'static str,
        found: usize,
        max: usize,
    },
    #[error("{part}: {message}")]
    Cedar { part: &'static str, message: String },
}

/// Cedar's errors are large, and all that is done with one is to write it down.
pub(super) fn cedar_error<E: std::error::Error>(part: &'static str) -> impl Fn(E) -> ModelError {
    move |error| ModelError::Cedar {
        part,
        message: with_causes(&error),
    }
}

/// The beginning of an error's text, of a bounded length.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

/// The mistakes found so far.
#[derive(Default)]
pub(super) struct Mistakes(Vec<PolicyError>);

impl Mistakes {
    pub(super) fn add(&mut self, file: &Path, line: Option<usize>, message: impl fmt::Display) {
        self.0.push(PolicyError {
            file: file.to_owned(),
            line,
            message: message.to_string(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if there is no mistake.
    pub(super) fn none_or<T>(self, made: T) -> Result<T, PolicyErrors> {
        match self.is_empty() {
            true => Ok(made),
            false => Err(self.into_errors()),
        }
    }

    pub(super) fn into_errors(mut self) -> PolicyErrors {
        self.0.sort();
        self.0.dedup();
        PolicyErrors(self.0)
    }

    pub(super) fn into_warnings(self) -> Vec<PolicyError> {
        self.into_errors().0
    }
}

/// The message of a diagnostic of Cedar, with its help.
pub(super) fn message(diagnostic: &(impl Diagnostic + ?Sized)) -> String {
    let mut message = diagnostic.to_string();
    if let Some(help) = diagnostic.help() {
        message.push_str(&format!(" ({help})"));
    }
    message
}

/// The line that a diagnostic of Cedar points to.
pub(super) fn line_of(diagnostic: &(impl Diagnostic + ?Sized), text: &str) -> Option<usize> {
    let label = diagnostic.labels()?.next()?;
    Some(line_at(text, label.offset()))
}

/// The line of a byte offset, counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// An error with its causes: what Cedar says first is often only where it was.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
