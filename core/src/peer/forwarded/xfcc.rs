//! Envoy's `x-forwarded-client-cert`: one element for each proxy that added to it, the last one at the end.
//!
//! The text form joins elements by `,`, and the members of an element, `key=value`, by `;`. A value may stand in quotes, and
//! in those a backslash takes the next character for what it is: Envoy writes subjects as RFC 4514 has them, where `\\` and
//! `\"` occur. All elements are read, also those that do not count: a quote that one of them leaves open would else
//! swallow the next one. In the JSON form the header is an array of objects; a proxy goes on in the form that it finds.

use super::{Certificate, Element, ForwardedError, hex_byte};
use crate::strict_json::{self, Json};

/// More proxies in a row would be a loop.
const ELEMENTS_MAX: usize = 32;

pub(super) fn read(value: &[u8]) -> Result<Vec<Element>, ForwardedError> {
    let value = trim_start(value);
    let elements = match value.first() {
        Some(b'[') => json_elements(value)?,
        Some(_) | None => text_elements(value)?,
    };
    if elements.len() > ELEMENTS_MAX {
        return Err(ForwardedError::Syntax);
    }
    Ok(elements)
}

fn text_elements(value: &[u8]) -> Result<Vec<Element>, ForwardedError> {
    let mut elements = vec![Element::default()];
    let mut rest = value;
    loop {
        let (key, after) = read_key(rest)?;
        let (value, after) = read_value(after)?;
        if let Some(element) = elements.last_mut() {
            add(element, key, value)?;
        }
        match trim_start(after).split_first() {
            None => return Ok(elements),
            Some((b';', after)) => rest = after,
            Some((b',', after)) => {
                elements.push(Element::default());
                rest = after;
            }
            Some(_) => return Err(ForwardedError::Syntax),
        }
    }
}

/// A key, and what follows its `=`.
fn read_key(text: &[u8]) -> Result<(&[u8], &[u8]), ForwardedError> {
    let text = trim_start(text);
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric());
    let (key, after) = end
        .and_then(|end| text.split_at_checked(end))
        .ok_or(ForwardedError::Syntax)?;
    match after.split_first() {
        Some((b'=', after)) if !key.is_empty() => Ok((key, after)),
        Some(_) | None => Err(ForwardedError::Syntax),
    }
}

/// A value without its quotes and backslashes, and what follows it.
fn read_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), ForwardedError> {
    let Some((b'"', mut rest)) = text.split_first() else {
        let end = text.iter().position(|byte| matches!(byte, b';' | b','));
        let (value, after) = text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, &[]));
        return match value.contains(&b'"') {
            true => Err(ForwardedError::Syntax),
            false => Ok((value.trim_ascii_end().to_vec(), after)),
        };
    };
    let mut value = Vec::new();
    loop {
        let (byte, after) = rest.split_first().ok_or(ForwardedError::Syntax)?;
        rest = after;
        match byte {
            b'"' => return Ok((value, rest)),
            b'\\' => {
                let (escaped, after) = rest.split_first().ok_or(ForwardedError::Syntax)?;
                rest = after;
                value.push(*escaped);
            }
            byte => value.push(*byte),
        }
    }
}

/// Keys are compared without their case. Those that say nothing about who the peer is are passed over.
fn add(element: &mut Element, key: &[u8], value: Vec<u8>) -> Result<(), ForwardedError> {
    match key.to_ascii_lowercase().as_slice() {
        b"cert" => {
            let pem = percent_decoded(&value).ok_or(ForwardedError::Syntax)?;
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

/// Envoy's members are `by`, `hash`, `cert`, `chain`, `subject`, `uri` and `dns`; `uri` is an array, and `cert` is not
/// encoded further.
fn json_elements(value: &[u8]) -> Result<Vec<Element>, ForwardedError> {
    let Ok(Json::Array(objects)) = strict_json::borrow(value) else {
        return Err(ForwardedError::Syntax);
    };
    objects.iter().map(json_element).collect()
}

fn json_element(object: &Json<'_>) -> Result<Element, ForwardedError> {
    let Json::Object(members) = object else {
        return Err(ForwardedError::Syntax);
    };
    let text = |json: &Json<'_>| match json {
        Json::String(text) => Ok(text.as_bytes().to_vec()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => Err(ForwardedError::Syntax),
    };
    let uris = match members.get("uri") {
        None => Vec::new(),
        Some(Json::Array(uris)) => uris.iter().map(text).collect::<Result<_, _>>()?,
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) => {
            return Err(ForwardedError::Syntax);
        }
    };
    let certificate = members.get("cert").map(text).transpose()?;
    let hash = members.get("hash").map(text).transpose()?;
    Ok(Element {
        certificates: certificate.map(Certificate::Pem).into_iter().collect(),
        uris,
        hashes: hash.into_iter().collect(),
    })
}

/// RFC 9110 §5.6.3: white space around the elements of a list is no part of them.
fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    text.get(start.unwrap_or(text.len())..).unwrap_or_default()
}
