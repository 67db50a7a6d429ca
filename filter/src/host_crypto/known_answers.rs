//! The signatures of RFC 7515 appendices A.2 (RS256) and A.3 (ES256), against which a host is tried.

use jsonwebtoken::{Algorithm, DecodingKey};
use picket_core::token::TokenAlgorithm;

const RS256_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";
const ES256_HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";
/// The payload of both examples.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RSA_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RSA_EXPONENT: &str = "AQAB";
const RS256_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const P256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const P256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const ES256_SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// Whether `verify` takes the RFC's signature, and refuses it when one bit of the text or of the signature is changed.
pub(super) fn hold(
    algorithm: TokenAlgorithm,
    verify: fn(Algorithm, &DecodingKey, &[u8], &[u8]) -> Option<bool>,
) -> bool {
    let (key, header, signature) = match algorithm {
        TokenAlgorithm::Rs256 => (
            DecodingKey::from_rsa_components(RSA_MODULUS, RSA_EXPONENT),
            RS256_HEADER,
            RS256_SIGNATURE,
        ),
        TokenAlgorithm::Es256 => (
            DecodingKey::from_ec_components(P256_X, P256_Y),
            ES256_HEADER,
            ES256_SIGNATURE,
        ),
    };
    let (Ok(key), Some(signature)) = (key, decode(signature)) else {
        return false;
    };
    let text = format!("{header}.{PAYLOAD}").into_bytes();
    let check = |text: &[u8], signature: &[u8]| verify(algorithm.into(), &key, text, signature);
    check(&text, &signature) == Some(true)
        && check(&with_last_bit_changed(&text), &signature) != Some(true)
        && check(&text, &with_last_bit_changed(&signature)) != Some(true)
}

fn with_last_bit_changed(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    changed
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}
