//! The JSON Schema of the file, for the reference: the kinds of fields that parse themselves.

use std::borrow::Cow;

use picket_model::decision::ACR_VALUE_BYTES_MAX;
use serde_json::Value;

use super::devices::{AUDIENCE_BYTES_MAX, Audience, OS_MAX, OsVersions};
use super::document::Document;
use super::fields::{
    Address, CALLERS_MAX, CallerId, CallerIds, CertificateFile, DatabaseFile, Directory, ExistingFile,
    FilterConfigurationFile, HttpsOrigin, KeyEncryptionKeyFile, LIST_NAME_BYTES_MAX, ListName, Ranged, TimeZoneName,
};
use super::risk::AcrValue;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};

/// The JSON Schema of the file.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = schema_for!(Document);
    RecursiveTransform(keys_with_a_default_are_optional).transform(&mut schema);
    schema
}

/// The parser takes the default of a key that is absent.
fn keys_with_a_default_are_optional(schema: &mut Schema) {
    let has_default = |properties: Option<&Value>, name: &Value| {
        let property = properties.and_then(|all| all.get(name.as_str()?));
        property.is_some_and(|property| property.get("default").is_some())
    };
    let properties = schema.get("properties").cloned();
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !has_default(properties.as_ref(), name));
    }
}

/// Kinds of one value each, with their schemas.
macro_rules! kinds {
    ($($kind:ty => $schema:expr;)+) => {
        $(impl JsonSchema for $kind {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })+
    };
}

/// A text of a kind that the title names.
fn text(title: &str) -> Schema {
    json_schema!({"type": "string", "title": title})
}

/// A text of 1 to so many bytes.
fn short_text(bytes_max: usize) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": bytes_max})
}

kinds! {
    Address => text("Address with port");
    CallerId => text("SPIFFE ID");
    CallerIds => json_schema!({
        "type": "array",
        "items": text("SPIFFE ID"),
        "minItems": 1,
        "maxItems": CALLERS_MAX,
    });
    ExistingFile => text("Path of a file");
    CertificateFile => text("Path of a file of certificates in PEM");
    Directory => text("Path of a folder");
    DatabaseFile => text("Path of a file");
    KeyEncryptionKeyFile => text("Path of a file");
    FilterConfigurationFile => text("Path of a file");
    TimeZoneName => text("Name in the IANA time zone database");
    HttpsOrigin => text("`https://`, a host, and a port where it is not 443");
    ListName => short_text(LIST_NAME_BYTES_MAX);
    Audience => short_text(AUDIENCE_BYTES_MAX);
    AcrValue => short_text(ACR_VALUE_BYTES_MAX);
    OsVersions => json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string"},
        "maxProperties": OS_MAX,
    });
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Ranged<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Ranged_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}
