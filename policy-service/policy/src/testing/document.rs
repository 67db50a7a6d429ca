//! Reading YAML strictly, with every mistake told by file and field.

use std::fmt;
use std::path::{Path, PathBuf};

use picket_model::problems::Problems;
use serde::Serialize;
use serde_json::Value;

/// A file of tests is written by hand; more than this is a wrong file.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The member whose request is laid under each of the others.
const DEFAULTS: &str = "defaults";

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentError {
    /// The file, or the folder that cannot be read.
    pub file: PathBuf,
    /// The way to the field, such as `cases[2].request.principal`; empty for the whole file.
    pub path: String,
    /// The mistake and the expected form.
    pub message: String,
}

/// All mistakes of all files; never empty as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DocumentErrors(Vec<DocumentError>);

impl DocumentErrors {
    /// The mistakes in the order in which they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[DocumentError] {
        &self.0
    }

    pub(super) fn add(&mut self, file: &Path, path: impl Into<String>, message: impl fmt::Display) {
        self.0.push(DocumentError {
            file: file.to_owned(),
            path: path.into(),
            message: message.to_string(),
        });
    }

    /// Takes the mistakes of one file's content, and returns what was read where there is none.
    pub(super) fn take<T>(&mut self, file: &Path, read: Result<T, Problems>) -> Option<T> {
        let problems = match read {
            Ok(value) => return Some(value),
            Err(problems) => problems,
        };
        for problem in problems.as_slice() {
            self.add(file, problem.path.as_str(), &problem.message);
        }
        None
    }

    pub(super) fn none_or<T>(self, value: T) -> Result<T, Self> {
        match self.0.is_empty() {
            true => Ok(value),
            false => Err(self),
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.file.display(), self.message),
            path => write!(f, "{}: {path}: {}", self.file.display(), self.message),
        }
    }
}

impl fmt::Display for DocumentErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(DocumentError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for DocumentErrors {}

/// One YAML document. A key that is there twice is a mistake, and so is what expands to more than a
/// file can hold.
pub(super) fn read_yaml(file: &Path, found: &mut DocumentErrors) -> Option<Value> {
    match read_text(file) {
        Ok(text) => parse_yaml(file, &text, found),
        Err(message) => {
            found.add(file, "", message);
            None
        }
    }
}

/// The same of a text that was read.
pub(super) fn parse_yaml(file: &Path, text: &str, found: &mut DocumentErrors) -> Option<Value> {
    // `no` and `y` are words here, as in YAML 1.2.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(value) => Some(value),
        Err(error) => {
            found.add(file, "", format!("expected YAML: {error}"));
            None
        }
    }
}

fn read_text(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file)
        .map_err(|error| format!("cannot read: {error}"))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(file).map_err(|error| format!("cannot read: {error}"))
}

/// The defaults of a document, if it has some.
pub(super) fn defaults_of(document: &Value) -> Option<Value> {
    document.get(DEFAULTS).filter(|defaults| defaults.is_object()).cloned()
}

/// Lays defaults under a value: objects are joined member by member, and anything else that is
/// given replaces. So `null` takes away what the defaults have.
pub(super) fn lay_under(value: &mut Value, defaults: &Value) {
    if let (Value::Object(members), Value::Object(defaults)) = (value, defaults) {
        for (name, default) in defaults {
            match members.get_mut(name) {
                Some(value) => lay_under(value, default),
                None => {
                    members.insert(name.clone(), default.clone());
                }
            }
        }
    }
}
