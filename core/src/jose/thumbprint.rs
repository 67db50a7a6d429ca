//! JWK thumbprints with SHA-256 (RFC 7638, and RFC 8037 §2 for Ed25519): a key's one name, however
//! it was written.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_model::thumbprint::KeyThumbprint;
use sha2::{Digest, Sha256};

use super::keys::KeyMaterial;

/// The SHA-256 thumbprint of a key. `None`: a secret has none that may be shown.
#[must_use]
pub fn key_thumbprint(key: &KeyMaterial) -> Option<KeyThumbprint> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    // RFC 7638 §3.2 and §3.3: the required members alone, by name, without spaces. None of the
    // values needs an escape.
    let members = match key {
        KeyMaterial::Rsa { modulus, exponent } => {
            format!(
                r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                encode(exponent),
                encode(modulus)
            )
        }
        KeyMaterial::Ec { curve, point } => {
            let (_, coordinates) = point.split_first()?;
            let (x, y) = coordinates.split_at_checked(curve.coordinate_bytes())?;
            format!(
                r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                curve.name(),
                encode(x),
                encode(y)
            )
        }
        KeyMaterial::Ed25519(key) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(key.as_bytes())),
        KeyMaterial::Secret(_) => return None,
    };
    Some(KeyThumbprint(Sha256::digest(members).into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jose::keys::{KeySource, VerificationKey};

    fn thumbprint(jwk: &Value) -> Option<KeyThumbprint> {
        let key = VerificationKey::parse(jwk, KeySource::Inline).unwrap().unwrap();
        key_thumbprint(key.material())
    }

    #[track_caller]
    fn check(jwk: &Value, expected: &str) {
        assert_eq!(thumbprint(jwk), Some(KeyThumbprint::from_base64url(expected).unwrap()));
    }

    /// RFC 7638 §3.1; the members that are not required make no difference.
    #[test]
    fn the_example_of_rfc_7638() {
        let key = json!({
            "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        });
        check(&key, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    /// RFC 8037 §A.3.
    #[test]
    fn the_example_of_rfc_8037() {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        check(&key, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    /// RFC 9449 §6.1.
    #[test]
    fn the_example_of_rfc_9449() {
        let key = json!({
            "kty": "EC", "crv": "P-256", "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        });
        check(&key, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn a_secret_has_none() {
        let key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 32])});
        assert_eq!(thumbprint(&key), None);
    }
}
