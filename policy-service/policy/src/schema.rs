//! The schema that policies are checked against: the service's own, or one that stands beside the
//! policies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cedar_policy::{Schema, SchemaFragment};
use serde_json::Value;

use super::errors::{Mistakes, line_of, message, with_causes};
use super::files::SCHEMA_FILE;
use super::model::Model;
use super::source::File;

/// The schema of a folder that has none of its own: all that the service can tell policies about a
/// request.
///
/// It only ever grows, so policies that were stored without a schema load in each later version of
/// the service.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// What helps where a schema does not take what the service makes.
const HELP: &str = "it does not take what the policy service makes: a folder without this file has the service's own \
                    schema, which `picket policy schema` prints";
/// What has members by name in the JSON form of a schema.
const GROUPS: [&str; 4] = ["commonTypes", "entityTypes", "actions", "attributes"];

/// The folder's own schema if it has one, else the service's.
pub(super) fn load(own: Option<&File>, found: &mut Mistakes, warnings: &mut Mistakes) -> Option<Schema> {
    let shipped;
    let file = match own {
        Some(own) => own,
        None => {
            shipped = File {
                path: PathBuf::from(SCHEMA_FILE),
                text: SCHEMA.to_owned(),
            };
            &shipped
        }
    };
    if !file.is_shallow(true, found) {
        return None;
    }
    match Schema::from_cedarschema_str(&file.text) {
        Ok((schema, more)) => {
            for warning in more {
                warnings.add(&file.path, line_of(&warning, &file.text), message(&warning));
            }
            Some(schema)
        }
        Err(error) => {
            found.add(&file.path, line_of(&error, &file.text), message(&error));
            None
        }
    }
}

/// Whether a schema takes what the service makes.
pub(super) fn check(directory: &Path, own: Option<&File>, schema: &Schema, found: &mut Mistakes) -> Option<Model> {
    let path = directory.join(SCHEMA_FILE);
    let model = match Model::new() {
        Ok(model) => model,
        Err(error) => {
            found.add(&path, None, with_causes(&error));
            return None;
        }
    };
    let mistakes = model.mistakes_in(schema);
    if !mistakes.is_empty() {
        found.add(&path, None, HELP);
        // Cedar's word for a mistake shows a request, and not all of it.
        for name in own.map(|own| missing(&own.text)).unwrap_or_default() {
            found.add(&path, None, format!("`{name}` is not in it"));
        }
    }
    for mistake in mistakes {
        found.add(&path, None, mistake);
    }
    Some(model)
}

/// The JSON form of a schema.
fn document(text: &str) -> Option<Value> {
    let (fragment, _) = SchemaFragment::from_cedarschema_str(text).ok()?;
    fragment.to_json_value().ok()
}

/// The names of all attributes in a schema, whatever has them.
pub(super) fn attribute_names(own: Option<&File>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Some(document) = document(own.map_or(SCHEMA, |own| &own.text)) {
        add_attributes(&document, &mut names);
    }
    names
}

fn add_attributes(value: &Value, names: &mut BTreeSet<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        if name == "attributes" {
            names.extend(
                member
                    .as_object()
                    .into_iter()
                    .flat_map(|members| members.keys().cloned()),
            );
        }
        add_attributes(member, names);
    }
}

/// What the service's schema names and another one does not, such as `Picket.RiskContext.score`.
fn missing(schema: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let (Some(Value::Object(shipped)), Some(own)) = (document(SCHEMA), document(schema)) {
        for (namespace, shipped) in &shipped {
            add_missing(namespace, shipped, own.get(namespace), &mut names);
        }
    }
    names
}

fn add_missing(name: &str, shipped: &Value, own: Option<&Value>, names: &mut Vec<String>) {
    let Some(own) = own else {
        names.push(name.to_owned());
        return;
    };
    if let Some(shape) = shipped.get("shape") {
        add_missing(name, shape, own.get("shape"), names);
    }
    for group in GROUPS {
        let members = shipped.get(group).and_then(Value::as_object);
        for (member, shipped) in members.into_iter().flatten() {
            let own = own.get(group).and_then(|own| own.get(member));
            add_missing(&format!("{name}.{member}"), shipped, own, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_named_at_every_depth() {
        let names = attribute_names(None);
        for name in ["tenant", "device", "trust_score", "spiffe_id", "weekday"] {
            assert!(names.contains(name), "{name}");
        }
        assert!(!names.contains("Picket") && !names.contains("type"), "{names:?}");
    }

    #[test]
    fn what_a_schema_lacks_is_named() {
        assert_eq!(missing(SCHEMA), [] as [&str; 0]);
        for (line, name) in [
            ("    trust_score: Long,\n", "Picket.DeviceContext.trust_score"),
            ("    risk?: RiskContext,\n", "Picket.RequestContext.risk"),
            ("    is_bound: Bool,\n", "Picket.User.is_bound"),
            ("\"PATCH\", ", "Picket.PATCH"),
            ("  entity Anonymous;\n", "Picket.Anonymous"),
        ] {
            assert!(SCHEMA.contains(line), "{line}");
            assert_eq!(missing(&SCHEMA.replace(line, "")), [name]);
        }
        let stricter = SCHEMA.replace("acr?: String", "acr: String");
        assert_eq!(missing(&stricter), [] as [&str; 0], "it is not missing, but wrong");
        assert_eq!(missing("namespace Other { entity A; }"), ["Picket"]);
    }
}
