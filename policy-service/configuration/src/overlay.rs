//! Overrides from the environment: `PICKET__SECTION__KEY=value`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use picket_model::problems::Problems;
use serde_json::{Map, Value};

/// The variables that override the file begin with this.
pub const ENVIRONMENT_PREFIX: &str = "PICKET__";

/// The field's path and the variable that gave its value.
pub(super) type Overridden = BTreeMap<String, String>;

/// Lays the variables over the document, and remembers which field came from which.
pub(super) fn apply(
    mut document: Value,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    found: &mut Problems,
) -> (Value, Overridden) {
    let mut overridden = Overridden::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else {
            continue;
        };
        let Some((section, key)) = section_and_key(name) else {
            found.add(
                "",
                format!("environment variable `{name}`: expected `PICKET__SECTION__KEY`"),
            );
            continue;
        };
        let Some(value) = value.to_str() else {
            found.add(
                format!("{section}.{key}"),
                format!("environment variable `{name}` is not UTF-8"),
            );
            continue;
        };
        if set(&mut document, &section, &key, read(value)) {
            overridden.insert(format!("{section}.{key}"), name.to_owned());
        }
    }
    (document, overridden)
}

/// Adds mistakes, and says of those in overridden fields where the value came from.
pub(super) fn add_with_origin(found: &mut Problems, more: &Problems, overridden: &Overridden) {
    for problem in more.as_slice() {
        let field = problem.path.split('[').next().unwrap_or_default();
        match overridden.get(field) {
            Some(name) => found.add(
                &problem.path,
                format!("{} (from environment variable `{name}`)", problem.message),
            ),
            None => found.add(&problem.path, &problem.message),
        }
    }
}

fn section_and_key(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix(ENVIRONMENT_PREFIX)?.split_once("__")?;
    let usable = |part: &str| !part.is_empty() && !part.contains("__");
    (usable(section) && usable(key)).then(|| (section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

/// A value is TOML where it is TOML, so that lists and numbers can be given, and else a string.
fn read(value: &str) -> Value {
    value
        .parse::<toml::Value>()
        .ok()
        .and_then(|value| serde_json::to_value(value).ok())
        .unwrap_or_else(|| Value::String(value.to_owned()))
}

/// False where the section in the file is not a table, which is a mistake that reading will tell.
fn set(document: &mut Value, section: &str, key: &str, value: Value) -> bool {
    let Some(document) = document.as_object_mut() else {
        return false;
    };
    let section = document
        .entry(section.to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    match section.as_object_mut() {
        Some(section) => {
            section.insert(key.to_owned(), value);
            true
        }
        None => false,
    }
}
