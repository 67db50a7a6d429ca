//! Envoy's `x-forwarded-client-cert`: one element for each proxy that added to it, the last one at
//! the end.
//!
//! The text form joins elements by `,`, and the members of an element, `key=value`, by `;`. A value
//! may stand in quotes, and in those a backslash takes the next character for what it is: Envoy
//! writes subjects as RFC 4514 has them, where `\\` and `\"` occur. All elements are read, also
//! those that do not count: a quote that one of them leaves open would else swallow the next one.
//! In the JSON form the header is an array of objects; a proxy goes on in the form that it finds.

use picket_model::strict_json::{self, Json};

use super::{Certificate, ELEMENTS_MAX, Element, ElementDefect, ForwardedError, hex_byte};

pub(super) fn read(value: &[u8]) -> Result<Vec<Element>, ForwardedError> {
    let elements = match trim_start(value).first() {
        Some(b'[') => json_elements(value)?,
        Some(_) | None => text_elements(value)?,
    };
    if elements.len() > ELEMENTS_MAX {
        return Err(ForwardedError::TooManyElements);
    }
    Ok(elements)
}

/// What was expected at the beginning of this rest of the text.
struct Expected<'t>(&'static str, &'t [u8]);

fn text_elements(value: &[u8]) -> Result<Vec<Element>, ForwardedError> {
    let at = |Expected(expected, rest): Expected<'_>| ForwardedError::Text {
        at: value.len().saturating_sub(rest.len()),
        expected,
    };
    let mut elements = vec![Element::default()];
    let mut rest = value;
    loop {
        let (key, after) = read_key(rest).map_err(at)?;
        let (member, after) = read_value(after).map_err(at)?;
        let number = elements.len();
        if let Some(element) = elements.last_mut() {
            add(element, key, member).map_err(|defect| defect.of(number))?;
        }
        let after = trim_start(after);
        match after.split_first() {
            None => return Ok(elements),
            Some((b';', after)) => rest = after,
            Some((b',', after)) => {
                elements.push(Element::default());
                rest = after;
            }
            Some(_) => return Err(at(Expected("`;`, `,` or the end after a value in quotes", after))),
        }
    }
}

/// A key, and what follows its `=`.
fn read_key(text: &[u8]) -> Result<(&[u8], &[u8]), Expected<'_>> {
    let text = trim_start(text);
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric());
    let (key, after) = text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, &[]));
    match after.split_first() {
        _ if key.is_empty() => Err(Expected("a key", after)),
        Some((b'=', after)) => Ok((key, after)),
        Some(_) | None => Err(Expected("`=` after a key", after)),
    }
}

/// A value without its quotes and backslashes, and what follows it.
fn read_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Expected<'_>> {
    let Some((b'"', mut rest)) = text.split_first() else {
        let end = text.iter().position(|byte| matches!(byte, b';' | b','));
        let (value, after) = text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, &[]));
        return match value.iter().position(|byte| *byte == b'"') {
            Some(quote) => Err(Expected(
                "no quote within a value without quotes",
                text.get(quote..).unwrap_or_default(),
            )),
            None => Ok((value.trim_ascii_end().to_vec(), after)),
        };
    };
    let unclosed = Expected("the closing quote of a value", &[]);
    let mut value = Vec::new();
    loop {
        let Some((byte, after)) = rest.split_first() else {
            return Err(unclosed);
        };
        rest = after;
        match byte {
            b'"' => return Ok((value, rest)),
            b'\\' => {
                let Some((escaped, after)) = rest.split_first() else {
                    return Err(unclosed);
                };
                rest = after;
                value.push(*escaped);
            }
            byte => value.push(*byte),
        }
    }
}

/// Keys are compared without their case. Those that say nothing about who the peer is are passed
/// over.
fn add(element: &mut Element, key: &[u8], value: Vec<u8>) -> Result<(), ElementDefect> {
    match key.to_ascii_lowercase().as_slice() {
        b"cert" => {
            let pem = percent_decoded(&value).ok_or(ElementDefect::PercentEncoding)?;
            element.certificates.push(Certificate::Pem(pem));
        }
        b"uri" => element.uris.push(value),
        b"hash" => element.hashes.push(value),
        _ => {}
    }
    Ok(())
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_byte(*bytes.next()?, *bytes.next()?)?,
            byte => *byte,
        });
    }
    Some(decoded)
}

/// Envoy's members are `by`, `hash`, `cert`, `chain`, `subject`, `uri` and `dns`; `uri` is an
/// array, and `cert` is not encoded further.
fn json_elements(value: &[u8]) -> Result<Vec<Element>, ForwardedError> {
    let json = strict_json::borrow(value).map_err(|error| ForwardedError::Json {
        // A header is one line, whose columns are counted from 1.
        at: error.column().saturating_sub(1),
    })?;
    // It begins with a bracket.
    let Json::Array(objects) = json else {
        return Err(ForwardedError::Json { at: 0 });
    };
    let numbered = (1..).zip(&objects);
    numbered
        .map(|(number, object)| json_element(object).map_err(|defect: ElementDefect| defect.of(number)))
        .collect()
}

fn json_element(object: &Json<'_>) -> Result<Element, ElementDefect> {
    let Json::Object(members) = object else {
        return Err(ElementDefect::NoObject);
    };
    let text = |json: &Json<'_>| match json {
        Json::String(text) => Some(text.as_bytes().to_vec()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => None,
    };
    let uris = match members.get("uri") {
        None => Vec::new(),
        Some(Json::Array(uris)) => {
            let uris = uris.iter().map(text).collect::<Option<_>>();
            uris.ok_or(ElementDefect::NoArray)?
        }
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) => {
            return Err(ElementDefect::NoArray);
        }
    };
    let member = |name| match members.get(name) {
        None => Ok(None),
        Some(json) => text(json).map(Some).ok_or(ElementDefect::NoString(name)),
    };
    Ok(Element {
        certificates: member("cert")?.map(Certificate::Pem).into_iter().collect(),
        uris,
        hashes: member("hash")?.into_iter().collect(),
    })
}

/// RFC 9110 §5.6.3: white space around the elements of a list is no part of them.
fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    text.get(start.unwrap_or(text.len())..).unwrap_or_default()
}
