//! Keys that a token is bound to (RFC 7800): whoever presents it must prove that he holds them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_model::strict_json::{Json, Members};

use super::TokenError;
use super::malformed;

const NO_CERTIFICATE_HASH: &str = "`cnf.x5t#S256` is not a SHA-256 hash in base64url without padding";
const NO_KEY_HASH: &str = "`cnf.jkt` is not a SHA-256 hash in base64url without padding";

/// A SHA-256 hash.
pub type Digest = [u8; 32];

/// What a token's `cnf` claim binds it to; both, where it names both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// `x5t#S256`: the SHA-256 of the client's certificate in DER (RFC 8705 §3.1).
    pub certificate: Option<Digest>,
    /// `jkt`: the SHA-256 thumbprint (RFC 7638) of the key that DPoP proofs are signed with (RFC
    /// 9449 §6.1).
    pub key: Option<Digest>,
}

impl Confirmation {
    /// Reads the `cnf` claim.
    ///
    /// # Errors
    /// When it is malformed, or binds the token in another way only: RFC 7800 §3.1 lets a recipient
    /// ignore what it does not understand, and a token whose binding nobody checks would be a
    /// bearer token.
    pub(super) fn of(claims: &Members<'_>) -> Result<Self, TokenError> {
        let members = match claims.get("cnf") {
            None | Some(Json::Null) => return Ok(Self::default()),
            Some(Json::Object(members)) => members,
            Some(_) => return Err(malformed("`cnf` is not an object")),
        };
        let confirmation = Self {
            certificate: digest(members, "x5t#S256", NO_CERTIFICATE_HASH)?,
            key: digest(members, "jkt", NO_KEY_HASH)?,
        };
        match confirmation.is_bound() {
            true => Ok(confirmation),
            false => Err(malformed("`cnf` holds neither `x5t#S256` nor `jkt`")),
        }
    }

    /// Whether the token is bound at all.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.certificate.is_some() || self.key.is_some()
    }
}

fn digest(members: &Members<'_>, name: &str, detail: &'static str) -> Result<Option<Digest>, TokenError> {
    let encoded = match members.get(name) {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(encoded)) => encoded,
        Some(_) => return Err(malformed(detail)),
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded.as_bytes())
        .map_err(|_| malformed(detail))?;
    Digest::try_from(bytes).map(Some).map_err(|_| malformed(detail))
}
