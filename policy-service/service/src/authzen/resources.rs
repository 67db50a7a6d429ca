//! The resources that a search can find: a list that the operator writes, as the service knows no
//! others.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use picket_model::problems::Problems;
use picket_model::strict_json;
use serde_json::Value;

use super::information;

/// How many resources there may be.
pub(crate) const RESOURCES_MAX: usize = 10_000;
/// Ten thousand of them with long names.
pub(crate) const BYTES_MAX: u64 = 4 * 1024 * 1024;
const DEPTH_MAX: usize = 8;
const MEMBERS_MAX: usize = 400_000;
const ENTITY: [&str; 3] = ["type", "id", "properties"];
const PROPERTIES: [&str; 7] = [
    "host",
    "path",
    "classification",
    "security_zone",
    "tenant",
    "path_parameters",
    "allow_in_path",
];

/// Resources as an evaluation names them, in the order of the file.
#[derive(Debug)]
pub(crate) struct ResourceList(Vec<Value>);

impl ResourceList {
    /// Reads a file: a JSON array of resources.
    ///
    /// # Errors
    /// Every mistake in it, each with the place and what was expected.
    pub(crate) fn read(file: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let Some(text) = problems.take("", text(file)) else {
            return Err(problems);
        };
        let list = match strict_json::is_within(&text, DEPTH_MAX, MEMBERS_MAX) {
            true => strict_json::parse(&text).map_err(|error| format!("it is not JSON: {error}")),
            false => Err(format!(
                "it nests deeper than {DEPTH_MAX} or has more than {MEMBERS_MAX} members"
            )),
        };
        match problems.take("", list) {
            Some(Value::Array(entities)) if entities.len() <= RESOURCES_MAX => {
                for (index, entity) in entities.iter().enumerate() {
                    problems.extend(check(index, entity));
                }
                problems.none_or(Some(Self(entities)))
            }
            Some(Value::Array(entities)) => {
                let found = entities.len();
                problems.add(
                    "",
                    format_args!("expected at most {RESOURCES_MAX} resources, found {found}"),
                );
                Err(problems)
            }
            Some(_) => {
                problems.add("", "expected an array of resources");
                Err(problems)
            }
            None => Err(problems),
        }
    }

    /// The resources from this index on.
    pub(super) fn starting_at(&self, place: usize) -> &[Value] {
        self.0.get(place..).unwrap_or_default()
    }
}

fn text(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = File::open(file).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut text));
    read.map_err(|error| format!("cannot read it: {error}"))?;
    match u64::try_from(text.len()).is_ok_and(|bytes| bytes <= BYTES_MAX) {
        true => Ok(text),
        false => Err(format!("expected at most {BYTES_MAX} bytes")),
    }
}

/// A field that an evaluation ignores is a mistake here: nobody would notice that it has no effect.
fn check(index: usize, entity: &Value) -> Problems {
    let mut problems = Problems::default();
    for (members, known, place) in [
        (entity.as_object(), &ENTITY[..], String::new()),
        (
            entity.get("properties").and_then(Value::as_object),
            &PROPERTIES[..],
            "properties.".to_owned(),
        ),
    ] {
        for name in members.into_iter().flat_map(serde_json::Map::keys) {
            if !known.contains(&name.as_str()) {
                let expected = format!("unknown field, expected one of `{}`", known.join("`, `"));
                problems.add(format!("[{index}].{place}{name}"), expected);
            }
        }
    }
    for problem in information::check_resource(entity.clone()).as_slice() {
        let path = problem.path.strip_prefix("resource").unwrap_or(&problem.path);
        problems.add(format!("[{index}]{path}"), &problem.message);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ResourceList, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resources.json");
        std::fs::write(&file, text).unwrap();
        ResourceList::read(&file).map_err(|problems| problems.to_string())
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let good = r#"{"type": "route", "id": "orders-read", "properties": {"host": "orders", "path": "/orders"}}"#;
        assert_eq!(read(&format!("[{good}, {good}]")).unwrap().starting_at(1).len(), 1);
        let allowed = |path: &str| {
            good.replace("/orders", path)
                .replace("\"path\"", r#""allow_in_path": ["encoded_slash", "semicolon"], "path""#)
        };
        for path in ["/a%2Fb", "/a;b", "/a%3Bb", "/a;b%2Fc"] {
            assert!(read(&format!("[{}]", allowed(path))).is_ok(), "{path}");
            assert!(read(&format!("[{}]", good.replace("/orders", path))).is_err(), "{path}");
        }
        for (text, expected) in [
            ("{", "it is not JSON: "),
            ("{}", "expected an array of resources"),
            ("[7]", "[0]: expected an object"),
            (&good.replace("orders-read", ""), "expected an array of resources"),
            (
                &format!(
                    "[{good}, {}]",
                    good.replace("/orders", "/a/../b").replace("\"host\"", "\"hots\"")
                ),
                "[1].properties.hots: unknown field",
            ),
            (
                &format!("[{}]", good.replace("/orders", "/a/../b")),
                "[0].properties.path: expected the normal form without a query, `/b`",
            ),
            (
                &format!("[{}]", good.replace("/orders", "/a/..%3B/b")),
                "[0].properties.path: the path holds dot segments",
            ),
            (
                &format!("[{}]", good.replace("/orders", "/a%2Fb")),
                "[0].properties.path: the path holds an encoded slash",
            ),
            (
                &format!("[{}]", allowed("/a%23")),
                "[0].properties.path: the path holds `;`, `%3B`, `%3F` or `%23`",
            ),
            (
                &format!("[{}]", good.replace("orders-read", "")),
                "[0].id: expected a text that is not empty",
            ),
            (
                &format!("[{}]", good.replace("\"route\"", "\"file\"")),
                "[0].type: unknown value `file`",
            ),
        ] {
            let problems = read(text).unwrap_err();
            assert!(problems.starts_with(expected), "{expected}\n{problems}");
        }
        let many = vec![good; RESOURCES_MAX + 1].join(",");
        assert_eq!(
            read(&format!("[{many}]")).unwrap_err(),
            "expected at most 10000 resources, found 10001"
        );
        assert!(read("").is_err() && ResourceList::read(Path::new("none.json")).is_err());
    }
}
