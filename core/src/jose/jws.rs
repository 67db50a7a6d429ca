//! JWS in compact serialization (RFC 7515 §7.1), parsed strictly and not verified: nothing in one
//! is true before its signature is checked.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_model::strict_json::{self, Excess, Json, Members};

use super::algorithm::TokenAlgorithm;
use super::limits::TokenLimits;

/// Why a JWS is refused. `Display` repeats no value of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It breaks a rule of RFC 7515, or exceeds a limit.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// `alg` is no [`TokenAlgorithm`].
    #[error("`alg` is none that Picket verifies")]
    UnsupportedAlgorithm,
}

/// The three parts.
#[derive(Debug)]
pub struct Jws<'t> {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// The signing input: header and payload as they were sent.
    pub signing_input: &'t str,
    signature: &'t str,
    limits: TokenLimits,
}

/// The parameters of a header that Picket understands.
#[derive(Debug)]
pub struct JwsHeader<'a> {
    /// `alg`.
    pub algorithm: TokenAlgorithm,
    /// `kid`.
    pub key_id: Option<&'a str>,
    /// `typ` in lower case and without `application/` (RFC 7515 §4.1.9).
    pub typ: Option<String>,
    /// `jwk`: the sender's own key. Proofs of possession have one; for a token it is ignored.
    pub key: Option<&'a Json<'a>>,
}

impl<'t> Jws<'t> {
    /// Takes the three parts apart.
    ///
    /// # Errors
    /// When it is longer than the limits say, has not three parts, or header or payload are not
    /// base64url without padding, in its one canonical form.
    pub fn parse(token: &'t str, limits: &TokenLimits) -> Result<Self, JwsError> {
        check_length(token, limits)?;
        // RFC 7515 §7.1: exactly three parts. JWE has five (RFC 7516 §7.1).
        let not_compact = malformed("not a JWS in compact serialization");
        let (signing_input, signature) = token.rsplit_once('.').ok_or(not_compact.clone())?;
        let (header, payload) = signing_input.split_once('.').ok_or(not_compact.clone())?;
        if payload.contains('.') {
            return Err(not_compact);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part);
        Ok(Self {
            header: decode(header).map_err(|_| malformed("the header is not base64url without padding"))?,
            payload: decode(payload).map_err(|_| malformed("the payload is not base64url without padding"))?,
            signing_input,
            signature,
            limits: *limits,
        })
    }

    /// Reads the header.
    ///
    /// # Errors
    /// When it is no JSON object within the limits, or asks for an extension.
    pub fn header(&self) -> Result<HeaderMembers<'_>, JwsError> {
        let members = object("header", &self.header, &self.limits)?;
        // RFC 7515 §4.1.11: extensions that are not understood, and none is, must lead to a
        // refusal. RFC 7797 and JWE's compression change what is signed.
        if ["crit", "b64", "zip"].iter().any(|name| members.get(name).is_some()) {
            return Err(malformed("the header holds `crit`, `b64` or `zip`"));
        }
        Ok(HeaderMembers(members))
    }

    /// Reads the payload as claims.
    ///
    /// # Errors
    /// When it is no JSON object within the limits.
    pub fn claims(&self) -> Result<Members<'_>, JwsError> {
        object("payload", &self.payload, &self.limits)
    }

    /// The payload as it was sent, in base64url.
    #[must_use]
    pub fn payload_text(&self) -> &'t str {
        self.signing_input.split_once('.').map_or("", |(_, payload)| payload)
    }

    /// The signature's bytes. `None`: it is not base64url without padding.
    #[must_use]
    pub fn signature(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.signature).ok()
    }
}

/// The members of a header.
#[derive(Debug)]
pub struct HeaderMembers<'a>(Members<'a>);

impl<'a> HeaderMembers<'a> {
    /// A member, as it was sent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.get(name)
    }

    /// Reads its parameters.
    ///
    /// # Errors
    /// When a member is of another kind than RFC 7515 says, or the algorithm is none that Picket
    /// verifies.
    pub fn read(&self) -> Result<JwsHeader<'_>, JwsError> {
        let algorithm = match self.0.get("alg") {
            Some(Json::String(name)) => TokenAlgorithm::from_name(name),
            Some(_) | None => None,
        };
        let text = |name, detail| match self.0.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(malformed(detail)),
        };
        Ok(JwsHeader {
            algorithm: algorithm.ok_or(JwsError::UnsupportedAlgorithm)?,
            key_id: text("kid", "`kid` is not a string")?,
            typ: text("typ", "`typ` is not a string")?.map(media_type),
            key: self.0.get("jwk"),
        })
    }
}

/// RFC 7515 §4.1.9: `application/` may be left out; media types are compared without regard to
/// case.
pub(crate) fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ).to_owned()
}

/// Refuses a token for its length.
///
/// # Errors
/// When it has more bytes than the limit.
pub(crate) fn check_length(token: &str, limits: &TokenLimits) -> Result<(), JwsError> {
    match token.len() <= limits.bytes_max {
        true => Ok(()),
        false => Err(malformed(format!(
            "the token is longer than {} bytes (`token_limits.bytes_max`)",
            limits.bytes_max
        ))),
    }
}

/// The members of a JSON object. `part` is the name of the text, for the detail of an error.
///
/// # Errors
/// When it is larger than the limits say, no JSON, or another value than an object.
pub(crate) fn object<'t>(part: &str, text: &'t [u8], limits: &TokenLimits) -> Result<Members<'t>, JwsError> {
    let TokenLimits {
        members_max, depth_max, ..
    } = *limits;
    match strict_json::check_size(text, depth_max, members_max) {
        Ok(()) => {}
        Err(Excess::Depth) => {
            let limit = format!("{depth_max} levels (`token_limits.depth_max`)");
            return Err(malformed(format!("the {part} nests deeper than {limit}")));
        }
        Err(Excess::Members) => {
            let limit = format!("{members_max} members (`token_limits.members_max`)");
            return Err(malformed(format!("the {part} has more than {limit}")));
        }
    }
    match strict_json::borrow(text) {
        Ok(Json::Object(members)) => Ok(members),
        Ok(Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) | Err(_) => Err(malformed(
            format!("the {part} is not one JSON object without repeated members"),
        )),
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> JwsError {
    JwsError::Malformed(detail.into())
}
