//! What is checked of every document: its schema and its parser against each other, by examples.

use picket_model::problems::Problems;
use picket_reference::keys::{Key, Section};
use serde_json::{Value, json};

/// A document's keys, with valid examples that have each of them.
pub(crate) struct Contract<'a> {
    pub(crate) sections: Vec<Section>,
    pub(crate) examples: Vec<Value>,
    /// Reads a document, and shows everything that was read.
    pub(crate) parse: &'a dyn Fn(&Value) -> Result<String, Problems>,
    /// Keys whose bounds depend on other keys.
    pub(crate) dependent_bounds: &'a [&'a str],
}

impl Contract<'_> {
    pub(crate) fn check(&self) {
        for example in &self.examples {
            (self.parse)(example).unwrap_or_else(|problems| panic!("the example is refused: {problems}"));
        }
        for section in &self.sections {
            self.check_names(section);
            for key in &section.keys {
                self.check_explanation(section, key);
                self.check_bounds(key);
                self.check_default(key);
            }
        }
    }

    /// The parser names the keys that it knows where it refuses another one.
    fn check_names(&self, section: &Section) {
        let mut names: Vec<&str> = section.keys.iter().map(|key| last(&key.path)).collect();
        names.sort_unstable();
        let place = section.places.first().map_or("", String::as_str);
        let objects = self.values_at(place);
        assert!(!objects.is_empty(), "no example has `{place}`");
        for (example, pointer) in objects {
            let found = self.problems_with(example, &pointer, &|object| {
                object["no-such-key"] = json!(1);
            });
            let known = found
                .iter()
                .find_map(|(_, message)| message.strip_prefix("unknown field, expected one of "));
            let mut known: Vec<&str> = known.unwrap().split(", ").map(|name| name.trim_matches('`')).collect();
            known.sort_unstable();
            assert_eq!(names, known, "`{place}`");
        }
    }

    fn check_explanation(&self, section: &Section, key: &Key) {
        assert!(!self.values_at(&key.path).is_empty(), "no example has `{}`", key.path);
        let says_when = key.explanation.contains("Required") || section.explanation.contains("xactly one of");
        assert!(
            key.is_required || key.default.is_some() || says_when,
            "`{}` says neither its default nor when it is required",
            key.path
        );
    }

    /// What lies outside of the bounds is refused, and the bounds themselves are taken.
    fn check_bounds(&self, key: &Key) {
        let of = |name: &str| key.schema.get(name).and_then(Value::as_u64);
        let values = self.values_at(&key.path);
        let first = &values[0].0.pointer(&values[0].1).unwrap();
        let (bounds, make): (_, fn(u64, &Value) -> Value) = match first {
            Value::Number(_) => ((of("minimum"), of("maximum")), |number, _| json!(number)),
            Value::String(_) => ((of("minLength"), of("maxLength")), |length, _| {
                json!("a".repeat(usize::try_from(length).unwrap()))
            }),
            Value::Array(_) => ((of("minItems"), of("maxItems")), |length, value| {
                json!(vec![value[0].clone(); usize::try_from(length).unwrap()])
            }),
            Value::Null | Value::Bool(_) | Value::Object(_) => return,
        };
        let outside = [
            bounds.0.and_then(|least| least.checked_sub(1)),
            bounds.1.map(|most| most + 1),
        ];
        for value in outside.into_iter().flatten() {
            assert!(
                self.is_refused(key, &make(value, first)),
                "`{}` takes {value}, which its bounds exclude",
                key.path
            );
        }
        let inside = [bounds.0, bounds.1].into_iter().flatten();
        if first.is_number() && !self.dependent_bounds.contains(&key.path.as_str()) {
            for value in inside {
                assert!(
                    !self.is_refused(key, &make(value, first)),
                    "`{}` refuses {value}, which its bounds include",
                    key.path
                );
            }
        }
    }

    /// Whether there is a mistake at the key, or about something that it is part of, with this value.
    fn is_refused(&self, key: &Key, value: &Value) -> bool {
        let (example, pointer) = &self.values_at(&key.path)[0];
        let found = self.problems_with(example, pointer, &|place| *place = value.clone());
        let path = pointer_as_path(pointer);
        found.iter().any(|(at, _)| path == *at || is_within(&path, at))
    }

    /// A document without the key reads as one with the default. Other keys of an example may need it, but not of all.
    fn check_default(&self, key: &Key) {
        let Some(default) = &key.exact_default else {
            return;
        };
        let compared = self.values_at(&key.path).into_iter().filter_map(|(example, pointer)| {
            let without = (self.parse)(&changed(example, &pointer, None)).ok()?;
            let with_default = (self.parse)(&changed(example, &pointer, Some(default))).unwrap();
            Some(without == with_default)
        });
        let compared: Vec<bool> = compared.collect();
        assert!(!compared.is_empty(), "no example can do without `{}`", key.path);
        assert!(
            compared.iter().all(|is_equal| *is_equal),
            "`{}` has another default than {default}",
            key.path
        );
    }

    /// The paths and messages of the mistakes in an example where one value is changed.
    fn problems_with(&self, example: &Value, pointer: &str, change: &dyn Fn(&mut Value)) -> Vec<(String, String)> {
        let mut document = example.clone();
        change(document.pointer_mut(pointer).unwrap());
        let problems = (self.parse)(&document).err().unwrap_or_default();
        let each = problems.as_slice().iter();
        each.map(|problem| (problem.path.clone(), problem.message.clone()))
            .collect()
    }

    /// The examples that have this key, with the JSON Pointers to it.
    fn values_at(&self, path: &str) -> Vec<(&Value, String)> {
        let mut found = Vec::new();
        for example in &self.examples {
            let mut pointers = vec![String::new()];
            for step in path.split('.').filter(|step| !step.is_empty()) {
                let name = step.trim_end_matches("[]");
                let inner = pointers.iter().map(|pointer| format!("{pointer}/{name}"));
                pointers = inner.filter(|pointer| example.pointer(pointer).is_some()).collect();
                if step.ends_with("[]") {
                    let elements = pointers.iter().flat_map(|pointer| {
                        let length = example.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
                        (0..length).map(move |index| format!("{pointer}/{index}"))
                    });
                    pointers = elements.collect();
                }
            }
            found.extend(pointers.into_iter().map(|pointer| (example, pointer)));
        }
        found
    }
}

/// A document with another value at a place, or with none.
fn changed(document: &Value, pointer: &str, value: Option<&Value>) -> Value {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let object = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    object.remove(name);
    object.extend(value.map(|value| (name.to_owned(), value.clone())));
    document
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A JSON Pointer as messages write it: `rules[0].id`.
fn pointer_as_path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        match step.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(step),
            Err(_) => path.push_str(&format!(".{step}")),
        }
    }
    path
}

/// Whether one of the two paths leads on from the other.
fn is_within(one: &str, other: &str) -> bool {
    let leads_on = |from: &str, to: &str| to.strip_prefix(from).is_some_and(|rest| rest.starts_with(['.', '[']));
    leads_on(one, other) || leads_on(other, one)
}
