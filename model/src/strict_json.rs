//! JSON in which no object has two members of one name: readers disagree about which one counts.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// Up to here members are compared each with each, which needs no memory; tokens have a dozen.
const PAIRWISE_MEMBERS_MAX: usize = 16;

/// Room for the members of most objects; an object without any takes none.
const MEMBERS_EXPECTED: usize = 8;

/// A JSON value without repeated members, whose text is borrowed where it holds no escapes. `serde_json` bounds its depth
/// at 128.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// A string.
    String(Cow<'t, str>),
    /// An array.
    Array(Vec<Json<'t>>),
    /// An object.
    Object(Members<'t>),
}

/// The members of an object, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Members<'t>(Vec<(Cow<'t, str>, Json<'t>)>);

/// Reads a JSON text.
///
/// # Errors
/// What `serde_json` says, with line and column; among it `repeated member` with the name.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    borrow(text).map(Value::from)
}

/// Reads a JSON text without copying it.
///
/// # Errors
/// As [`parse`].
pub fn borrow(text: &[u8]) -> Result<Json<'_>, serde_json::Error> {
    serde_json::from_slice(text)
}

/// What a text has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It nests deeper than it may.
    Depth,
    /// It has more members than it may.
    Members,
}

/// Whether a text nests no deeper and has no more members than this, looked at before it is parsed. What is no JSON may pass:
/// the parser refuses it.
#[must_use]
pub fn is_within(text: &[u8], depth_max: usize, members_max: usize) -> bool {
    check_size(text, depth_max, members_max).is_ok()
}

/// As [`is_within`].
///
/// # Errors
/// What it has too much of.
pub fn check_size(text: &[u8], depth_max: usize, members_max: usize) -> Result<(), Excess> {
    let (mut depth, mut members) = (0_usize, 0_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'"' => is_text = !is_text,
            b'\\' => is_escaped = is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Excess::Depth);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' => members += 1,
            _ => {}
        }
    }
    match members <= members_max {
        true => Ok(()),
        false => Err(Excess::Members),
    }
}

impl<'t> Members<'t> {
    /// Each of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'t>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json<'t>> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    fn repeated(&self) -> Option<&str> {
        let mut names = self.0.iter().map(|(name, _)| name.as_ref());
        if self.0.len() <= PAIRWISE_MEMBERS_MAX {
            return std::iter::from_fn(move || names.next().map(|name| (name, names.clone())))
                .find_map(|(name, mut after)| after.find(|other| *other == name));
        }
        let mut sorted: Vec<_> = names.collect();
        sorted.sort_unstable();
        sorted
            .windows(2)
            .find(|pair| pair.first() == pair.last())
            .and_then(|pair| pair.first().copied())
    }
}

impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::String(text.into_owned()),
            Json::Array(elements) => elements.into_iter().map(Self::from).collect(),
            Json::Object(Members(members)) => members
                .into_iter()
                .map(|(name, value)| (name.into_owned(), Self::from(value)))
                .collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Members(Vec::new());
        while let Some((Name(name), value)) = members.next_entry()? {
            if object.0.is_empty() {
                object.0.reserve_exact(MEMBERS_EXPECTED);
            }
            object.0.push((name, value));
        }
        match object.repeated() {
            None => Ok(Json::Object(object)),
            Some(name) => {
                let shown = crate::problems::shortened(name);
                Err(A::Error::custom(format_args!("repeated member `{shown}`")))
            }
        }
    }
}

/// A member's name, borrowed where it can be.
#[derive(Deserialize)]
struct Name<'t>(#[serde(borrow)] Cow<'t, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#"{"a":[1,-2,3.5,"x\u0041",true,null,{"b":{}}]}"#;
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }

    #[test]
    fn refuses_repeated_members_at_every_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            assert!(
                parse(text.as_bytes())
                    .unwrap_err()
                    .to_string()
                    .contains("repeated member `a`"),
                "{text}"
            );
        }
        assert!(parse(r#"{"a":{"a":1}}"#.as_bytes()).is_ok());
        let many = |last: usize| {
            let members: Vec<_> = (0..40).chain([last]).map(|number| format!("\"m{number}\":0")).collect();
            parse(format!("{{{}}}", members.join(",")).as_bytes())
        };
        assert!(many(39).unwrap_err().to_string().contains("repeated member `m39`"));
        assert!(many(40).is_ok());
    }

    #[test]
    fn depth_and_members_are_counted_outside_of_texts() {
        let is_within = |text: &str| is_within(text.as_bytes(), 2, 2);
        assert!(is_within(r#"{"a":[1,2,3],"b":{}}"#));
        assert!(is_within(r#"{"a":"{{{[[[:::\\\"{{::","b":"\\"}"#));
        assert!(!is_within(r#"{"a":[[]]}"#));
        assert!(!is_within(r#"{"a":1,"b":2,"c":3}"#));
        assert!(!is_within(r#"{"a":"\\","b":1,"c":3}"#));
    }

    #[test]
    fn refuses_what_is_deeper_than_the_limit() {
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
