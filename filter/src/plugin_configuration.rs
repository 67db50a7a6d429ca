//! The plugin's configuration as Envoy hands it over: the text of a `StringValue`, as Istio
//! delivers it, or the serialized bytes of a `google.protobuf.Struct`, as plain YAML in an Envoy
//! configuration becomes.

use picket_core::enforcement::FilterConfiguration;
use picket_model::problems::Problems;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value as ProtobufValue};
use serde_json::{Map, Number, Value};

/// Reads either form. A text that is no JSON and no Struct is told about as JSON.
///
/// # Errors
/// Every mistake in it, each with the path to the field.
pub(crate) fn read(bytes: &[u8]) -> Result<FilterConfiguration, Problems> {
    // The tag of Struct's only field. It is also a line break, with which JSON may begin, but not
    // what follows it.
    const STRUCT_FIELDS_TAG: u8 = 0x0a;
    let is_struct = bytes.first() == Some(&STRUCT_FIELDS_TAG);
    match Struct::decode(bytes) {
        Ok(message) if is_struct => FilterConfiguration::from_value(object(message)),
        Ok(_) | Err(_) => FilterConfiguration::parse(bytes),
    }
}

fn object(message: Struct) -> Value {
    Value::Object(
        message
            .fields
            .into_iter()
            .map(|(name, member)| (name, value(member)))
            .collect::<Map<_, _>>(),
    )
}

fn value(member: ProtobufValue) -> Value {
    match member.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StructValue(message)) => object(message),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
    }
}

/// A Struct knows doubles only: whole ones were written as integers.
fn number(value: f64) -> Value {
    let whole = format!("{value:.0}")
        .parse::<i64>()
        .ok()
        .filter(|_| value.fract() == 0.0)
        .map(Number::from);
    whole
        .or_else(|| Number::from_f64(value))
        .map_or(Value::Null, Value::Number)
}
