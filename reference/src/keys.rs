//! The keys of a document, as its JSON Schema describes them.

use anyhow::{Context, bail};
use serde_json::Value;

use crate::markdown::{anchor, number, wrapped};

/// The keys of one object. An object that stands in several places has one section.
#[derive(Debug)]
pub struct Section {
    /// What the object is called.
    pub title: String,
    /// The places of the object, such as `rules[].peers`; empty for the whole document.
    pub places: Vec<String>,
    /// What the object is.
    pub explanation: String,
    /// Its keys, in the order of the code.
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Debug)]
pub struct Key {
    /// The way to it in the first place of its object, such as `rules[].peers.namespaces`.
    pub path: String,
    /// Its type and bounds, in words.
    pub form: String,
    /// Whether it must be there.
    pub is_required: bool,
    /// The default in words; `None`: the explanation says when the key is needed.
    pub default: Option<String>,
    /// What it means.
    pub explanation: String,
    /// The values that it may have, where they are a fixed list, each with what it means.
    pub values: Vec<(String, String)>,
    /// The title of the section with its own keys.
    pub section: Option<String>,
    /// Its type and bounds, as the schema has them.
    pub schema: Value,
    /// The default, where it is one value.
    pub exact_default: Option<Value>,
}

/// The sections of a schema, outer objects before inner ones. `object` is the word of the format for an object.
///
/// # Errors
/// A key without an explanation, or a form of schema that this does not know.
pub fn sections(schema: &Value, object: &'static str) -> anyhow::Result<Vec<Section>> {
    let mut walk = Walk {
        schema,
        object,
        sections: Vec::new(),
    };
    walk.visit(schema, "Top level", "")?;
    Ok(walk.sections)
}

/// The sections as Markdown, behind a list of them.
#[must_use]
pub fn text(sections: &[Section]) -> String {
    let contents: String = sections
        .iter()
        .map(|section| format!("- [{}](#{})\n", section.title, anchor(&section.heading())))
        .collect();
    let bodies: Vec<String> = sections.iter().map(|section| section.text(sections)).collect();
    format!("{contents}\n{}", bodies.join("\n"))
}

impl Section {
    /// With the first place of the object, so that no key has the same heading.
    fn heading(&self) -> String {
        match self.places.first() {
            None => self.title.clone(),
            Some(place) => format!("{}: `{place}`", self.title),
        }
    }

    fn text(&self, sections: &[Self]) -> String {
        let others: Vec<_> = self.places.iter().skip(1).map(|place| format!("`{place}`")).collect();
        let intro = match others.is_empty() {
            true => self.explanation.clone(),
            false => format!("{} The same keys are in {}.", self.explanation, others.join(", ")),
        };
        let keys: Vec<String> = self.keys.iter().map(|key| key.text(sections)).collect();
        format!("## {}\n\n{}\n{}", self.heading(), wrapped(&intro), keys.join("\n"))
    }
}

impl Key {
    fn text(&self, sections: &[Section]) -> String {
        let need = match (&self.default, self.is_required) {
            (_, true) => " Required.".to_owned(),
            (Some(default), false) => format!(" Default: {default}."),
            (None, false) => String::new(),
        };
        let mut text = format!("### `{}`\n\n{}", self.path, wrapped(&format!("{}.{need}", self.form)));
        text.push('\n');
        text.push_str(&wrapped(&self.explanation));
        if !self.values.is_empty() {
            let values: Vec<_> = self
                .values
                .iter()
                .map(|(value, meaning)| format!("- `{value}`: {meaning}"))
                .collect();
            text.push('\n');
            text.push_str(&wrapped(&values.join("\n")));
        }
        let inner = sections
            .iter()
            .find(|section| Some(&section.title) == self.section.as_ref());
        if let Some(inner) = inner {
            text.push_str(&format!(
                "\nIts keys: [{}](#{}).\n",
                inner.title,
                anchor(&inner.heading())
            ));
        }
        text
    }
}

struct Walk<'s> {
    schema: &'s Value,
    object: &'static str,
    sections: Vec<Section>,
}

/// What a value may be.
struct Form<'s> {
    /// In words, as one value.
    one: String,
    /// In words, as the elements of an array.
    many: String,
    values: Vec<(String, String)>,
    /// The object with keys of its own, and what its path has behind the key.
    object: Option<(&'s Value, &'static str)>,
}

impl<'s> Walk<'s> {
    /// Adds the section of an object and of the objects in it, unless it has one.
    fn visit(&mut self, object: &'s Value, title: &str, place: &str) -> anyhow::Result<()> {
        if let Some(known) = self.sections.iter_mut().find(|section| section.title == title) {
            known.places.push(place.to_owned());
            return Ok(());
        }
        let required = object.get("required").and_then(Value::as_array);
        let is_required = |key: &str| required.is_some_and(|keys| keys.iter().any(|name| name == key));
        let mut inner = Vec::new();
        let mut keys = Vec::new();
        for (name, property) in object
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = match place {
                "" => name.clone(),
                place => format!("{place}.{name}"),
            };
            let form = self.form(property).with_context(|| format!("`{path}`"))?;
            let explained = text_of(property, "description");
            let (explanation, mut default) = explanation_and_default(property, explained);
            if form.object.is_none() && property.get("default").is_some_and(is_empty) {
                default = Some("none".to_owned());
            }
            if explanation.is_empty() {
                bail!("`{path}` has no explanation");
            }
            let section = form.object.map(|(object, _)| text_of(object, "title").to_owned());
            if let Some((object, behind)) = form.object {
                inner.push((object, format!("{path}{behind}")));
            }
            keys.push(Key {
                path,
                form: form.one,
                is_required: is_required(name),
                default,
                explanation,
                values: form.values,
                section,
                schema: self.resolved(property)?.clone(),
                exact_default: property.get("default").cloned(),
            });
        }
        self.sections.push(Section {
            title: title.to_owned(),
            places: Some(place.to_owned())
                .filter(|place| !place.is_empty())
                .into_iter()
                .collect(),
            explanation: text_of(object, "description").to_owned(),
            keys,
        });
        for (object, place) in inner {
            match text_of(object, "title") {
                "" => bail!("the object `{place}` has no title"),
                title => self.visit(object, title, &place)?,
            }
        }
        Ok(())
    }

    fn objects(&self) -> String {
        format!("{}s", self.object.to_lowercase())
    }

    fn form(&self, schema: &'s Value) -> anyhow::Result<Form<'s>> {
        let schema = self.resolved(schema)?;
        if schema.get("properties").is_some() {
            return Ok(Form {
                object: Some((schema, "")),
                ..Form::named(self.object, &self.objects())
            });
        }
        let values = values(schema);
        if !values.is_empty() {
            let names: Vec<_> = values.iter().map(|(value, _)| format!("`{value}`")).collect();
            let names = names.join(", ");
            return Ok(Form {
                values,
                ..Form::named(&format!("One of {names}"), &names)
            });
        }
        let title = text_of(schema, "title");
        match type_of(schema) {
            "array" => self.array(schema),
            "string" if !title.is_empty() => Ok(Form::named(title, &format!("{title}s"))),
            "string" => Ok(Form::bounded(
                "String",
                "strings",
                schema,
                ("minLength", "maxLength", "character"),
            )),
            "integer" => Ok(Form::bounded("Integer", "integers", schema, ("minimum", "maximum", ""))),
            "boolean" => Ok(Form::named("Boolean", "booleans")),
            "object" => {
                let one = match schema.get("additionalProperties") {
                    Some(members @ Value::Object(_)) => format!("{} of {}", self.object, self.form(members)?.many),
                    Some(_) | None => self.object.to_owned(),
                };
                Ok(Form::bounded(
                    &one,
                    &self.objects(),
                    schema,
                    ("minProperties", "maxProperties", "member"),
                ))
            }
            other => bail!("no words for the type `{other}` of {schema}"),
        }
    }

    fn array(&self, schema: &'s Value) -> anyhow::Result<Form<'s>> {
        let items = schema.get("items").context("an array without `items`")?;
        let element = self.form(items)?;
        let one = format!("Array of {}", element.many);
        Ok(Form {
            values: element.values,
            object: element.object.map(|(object, _)| (object, "[]")),
            ..Form::bounded(&one, "arrays", schema, ("minItems", "maxItems", "element"))
        })
    }

    /// What a reference points to, without the alternative `null` that each optional key has.
    fn resolved(&self, schema: &'s Value) -> anyhow::Result<&'s Value> {
        let alternatives = schema.get("anyOf").and_then(Value::as_array);
        let alternative = alternatives.and_then(|all| all.iter().find(|one| type_of(one) != "null"));
        let schema = alternative.unwrap_or(schema);
        match schema.get("$ref").and_then(Value::as_str) {
            None => Ok(schema),
            Some(reference) => {
                let pointer = reference.trim_start_matches('#');
                let found = self.schema.pointer(pointer);
                found.with_context(|| format!("`{reference}` leads nowhere"))
            }
        }
    }
}

impl Form<'_> {
    fn named(one: &str, many: &str) -> Self {
        Self {
            one: one.to_owned(),
            many: many.to_owned(),
            values: Vec::new(),
            object: None,
        }
    }

    /// With the bounds that these members of the schema name, counted in a unit.
    fn bounded(one: &str, many: &str, schema: &Value, names: (&str, &str, &str)) -> Self {
        let (least, most, unit) = names;
        let bound = |name| schema.get(name).and_then(Value::as_u64);
        let (bounds, last) = match (bound(least).filter(|least| *least > 0 || unit.is_empty()), bound(most)) {
            (Some(least), Some(most)) => (format!(", {} to {}", number(least), number(most)), most),
            (None, Some(most)) => (format!(", at most {}", number(most)), most),
            (Some(least), None) => (format!(", at least {}", number(least)), least),
            (None, None) => return Self::named(one, many),
        };
        let unit = match (unit, last) {
            ("", _) => String::new(),
            (unit, 1) => format!(" {unit}"),
            (unit, _) => format!(" {unit}s"),
        };
        Self::named(&format!("{one}{bounds}{unit}"), many)
    }
}

/// The values of a schema that is a fixed list of them.
fn values(schema: &Value) -> Vec<(String, String)> {
    let listed = |schema: &Value| {
        let values = schema
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        values
            .into_iter()
            .chain(schema.get("const").cloned())
            .collect::<Vec<_>>()
    };
    let alternatives = schema.get("oneOf").and_then(Value::as_array);
    let each = alternatives.into_iter().flatten().chain([schema]);
    each.flat_map(|one| {
        let meaning = text_of(one, "description");
        let names = listed(one).into_iter();
        names.filter_map(move |value| Some((value.as_str()?.to_owned(), meaning.to_owned())))
    })
    .collect()
}

/// The type of a schema, but for `null`.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(one)) => one,
        Some(Value::Array(several)) => {
            let named = several.iter().filter_map(Value::as_str);
            named.into_iter().find(|one| *one != "null").unwrap_or_default()
        }
        Some(_) | None => "",
    }
}

fn text_of<'v>(schema: &'v Value, member: &str) -> &'v str {
    schema.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// A default that is no single value stands at the end of the explanation, behind `Default: `.
fn explanation_and_default(property: &Value, text: &str) -> (String, Option<String>) {
    let text = text.replace('\n', " ");
    match (property.get("default"), text.rsplit_once("Default: ")) {
        (Some(default), _) => (text.clone(), Some(value_text(default))),
        (None, Some((before, default))) => {
            let default = default.trim_end_matches('.').to_owned();
            (before.trim_end().to_owned(), Some(default))
        }
        (None, None) => (text.clone(), None),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// A value as a document shows it.
fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Number(digits) => digits.as_u64().map_or_else(|| digits.to_string(), number),
        Value::Array(elements) if elements.is_empty() => "none".to_owned(),
        Value::Array(elements) => elements.iter().map(value_text).collect::<Vec<_>>().join(", "),
        Value::String(text) => format!("`{text}`"),
        Value::Object(members) if members.is_empty() => "the default of each key".to_owned(),
        Value::Bool(_) | Value::Object(_) => format!("`{value}`"),
    }
}
