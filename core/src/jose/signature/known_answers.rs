//! Signatures that others made, against which a [`SignatureVerifier`] is tried before it is
//! trusted.
//!
//! RFC 7515 appendices A.1 to A.4 (HS256, RS256, ES256, ES512) and RFC 8037 appendix A.4 (EdDSA).
//! No RFC signs the same text with the others: OpenSSL 3.0 did, with the RSA key of A.2, the secret
//! of A.1 and a P-384 key made for this.

use super::SignatureVerifier;
use crate::jose::TokenLimits;
use crate::jose::algorithm::TokenAlgorithm;
use crate::jose::jws::Jws;
use crate::jose::keys::{KeySource, VerificationKey};

const RSA_KEY: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const P256_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const P384_KEY: &str = r#"{"kty":"EC","crv":"P-384","x":"mKKc8z_oiYM6BhTXPa9UWAKK8-Tt3p_YfR24wEt_kO40Q43OQat5ugDrX0CCq93P","y":"V6s1gUvtw1UBzWVHa2Zyz-fY1HLwYXHhnXSSHQFC2d6KxaKNQ92vSjKcT8kVkqnU"}"#;
const P521_KEY: &str = r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
const ED25519_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const SECRET: &str =
    r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
/// The payload of RFC 7515 appendices A.1 to A.3.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// A signature that somebody else made.
struct KnownAnswer {
    algorithm: TokenAlgorithm,
    /// As a JWK.
    key: &'static str,
    header: &'static str,
    payload: &'static str,
    signature: &'static str,
}

const KNOWN_ANSWERS: &[KnownAnswer] = &[
    KnownAnswer {
        algorithm: TokenAlgorithm::Rs256,
        key: RSA_KEY,
        header: "eyJhbGciOiJSUzI1NiJ9",
        payload: PAYLOAD,
        signature: "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Rs384,
        key: RSA_KEY,
        header: "eyJhbGciOiJSUzM4NCJ9",
        payload: PAYLOAD,
        signature: "UqgNjrJOGhk4wfoSG6Uvrt9GcKu-TgPwInExALrMBadg1pol1uTw7mZADTddAWsC6ZzdFiTFUmIi7DuD38ftLAZoW4qezdAO7RYf1yZDsbT20bt8DJJN1I4VovL2PLg80B6x6ug-kaW8k5LaM5ce0dk1zgWhjafKC3Mb4UNLL8f9fqVMkHpdWYRjF6QjTz12Ap-gq-tPyUoWSdvzCIYOcZ9-08SQQdUTTgsNF1Qwu3TqeWPqzNJwmWHiHMmaV8I4ktMFEX-AiEBa55KsfYTx0jSbTHP-odqmnLQJ4n-oQJ2RSXy0HQP6BkdiwDHdoMUk4z_wAeOsfDTs_mLxTgOInQ",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Rs512,
        key: RSA_KEY,
        header: "eyJhbGciOiJSUzUxMiJ9",
        payload: PAYLOAD,
        signature: "ZatQfsb2gyCu3y9cDuz59a-IKm4bkqtT0HuT8BpNlPCmA3Y2eH91CVSI0TbkPqI9v2jaXuWvPcoJGNRtTpUXafTAbqzxWSMjqx8SkJRTuUz6imaHBctra42j2AvJ1t7qJwf2NN49y9PZbkYn3ejhU-iCmKJ3J-_GLsYp5VlximYm-o3sMul0tyCMvHUdmuWvadnVEaio-jix3pXYWfyFC8tp19zZrTaofxTAzCqlqundx22tfsuqchto_zVnZk_ZBr1R5lr29Qle5JgLmRkfDNbVSQZFdwg6mSlODL8BrOiM_vreMaPCO8U_JGezKUob0ONv7DA7XDfpbaXaFsHipQ",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Ps256,
        key: RSA_KEY,
        header: "eyJhbGciOiJQUzI1NiJ9",
        payload: PAYLOAD,
        signature: "FOVekEaC-Z8GkqhR9q0NQDKsgE7xbpov3_RwqoBqN5y_M4ZJyPy_C0vb33OaeO2u_4pyQV-g4x-RwgTtGDR6VhssYBQ8ALKNap2RqUn-VPTSGTK4bV4WFzm8rP2o1CpSg8oODWFYY1dzDvfWRXJp5lzToYKvAEaytaq0L2NzOXU1zpZbfelciwBO_7DL4U7BX_Pbr9q2QEH2y2aNR5_o3VNiGy6hD6XB8KfMGxcHngENnXMcGBgdAGu2ZSYmURjUFeG6IfN1xQZ6aIoGjRNROV-yOFRF_X5oJfwzFtN9W3I4RhOUnahv_4DbrBT7C920WsSV8_B7ob8sAudQ91n94w",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Ps384,
        key: RSA_KEY,
        header: "eyJhbGciOiJQUzM4NCJ9",
        payload: PAYLOAD,
        signature: "LSDtS1qt-FNzMo3eKycuXmlKBN7Oru6osfLxjk9KvaBGPYhELfT6Wry_uivNqkO8cyAEcxEJOPh9R8n0RhZ5DvKGc5I5w1d6oZx3RKEqqwky3ILsVHf9uDeuhZjagxP6AYpxK6tpoCxSotNQoS2gJHEYPFIsyA5280oEUchEUPqxhOO00UlCwuIG-ANL8p5CEbYxwCPt6VHGb53PQoivrC-Q6VW0QpdhDyVkkfSI5USf4SMytyzVZoRwplnt2svQQWv_NGvQLrk2wLvx3fsFZ0_W2H_50UVe-eBrOPpAWi7mltZho3fk7t25MNaW8MpKStgKga7JB2T-ZqT5Lso3qg",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Ps512,
        key: RSA_KEY,
        header: "eyJhbGciOiJQUzUxMiJ9",
        payload: PAYLOAD,
        signature: "Qvk-FAgrzKHwrLYsN28lGY0AkCTS5RGTQCzoIiCVg1RhzaI_qncp99uRlb4S9YB-FzW_IBAa56b2qpGv_jiMjZrfSxj5dQwDpEVqU9gKwueJRo_M-YXoR9VraJ5GCwcZORGUoCXR_8lcWZHUUPVOYa7rG0EPseQ38FjT0g_y8DYpWefqcmb5hjSC0reCC6MPG-2sFo_k7oXmhTPY_wcW0Pj16S_nZyukce49w5t7Y-1sD-vVXEntION-oXfeLdyxQsBJM-fPCX_Mak1rEgjzD4r9YHB8pLGYgAq3SPVSzy8XW6on5NmxKr4WX1CHL3m4VPXbmTXswpm98q_hr-xeYg",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Es256,
        key: P256_KEY,
        header: "eyJhbGciOiJFUzI1NiJ9",
        payload: PAYLOAD,
        signature: "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Es384,
        key: P384_KEY,
        header: "eyJhbGciOiJFUzM4NCJ9",
        payload: PAYLOAD,
        signature: "kZyAvbQKrwiqdA6GeSC5jO9UrpdS42fJ-ACDEBKggU5cuCt36Axv8g8DDob2xQ2R3TSXHtwsDKcSnWWcBRM4F8-Z0EjqW8Z4zjEZ_pFVDC477BhmQOOhqCafejkzcqhM",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Es512,
        key: P521_KEY,
        header: "eyJhbGciOiJFUzUxMiJ9",
        payload: "UGF5bG9hZA",
        signature: "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::EdDsa,
        key: ED25519_KEY,
        header: "eyJhbGciOiJFZERTQSJ9",
        payload: "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        signature: "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Hs256,
        key: SECRET,
        header: "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        payload: PAYLOAD,
        signature: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Hs384,
        key: SECRET,
        header: "eyJhbGciOiJIUzM4NCJ9",
        payload: PAYLOAD,
        signature: "oXDrZsBTd6_RlkXLUTQJ0DSfHx5raR4Pq5jlRHf5v0WTm-zt8xcsCvXagNl0J4eM",
    },
    KnownAnswer {
        algorithm: TokenAlgorithm::Hs512,
        key: SECRET,
        header: "eyJhbGciOiJIUzUxMiJ9",
        payload: PAYLOAD,
        signature: "CyfHecbVPqPzB3zBwYd3rgVBi2Dgg-eAeX7JT8B85QbKLwSXyll8WKGdehse606szf9G3i-jr24QGkEtMAGSpg",
    },
];

/// Whether the verifier takes the known signature, and refuses it when one bit of the text or of
/// the signature is changed.
#[must_use]
pub fn pass(algorithm: TokenAlgorithm, verifier: &dyn SignatureVerifier) -> bool {
    let Some(known) = KNOWN_ANSWERS.iter().find(|known| known.algorithm == algorithm) else {
        return false;
    };
    let KnownAnswer {
        key,
        header,
        payload,
        signature,
        ..
    } = known;
    let key = serde_json::from_str(key)
        .ok()
        .and_then(|jwk| VerificationKey::parse(&jwk, KeySource::Inline).ok()?);
    let token = format!("{header}.{payload}.{signature}");
    let (Some(key), Ok(jws)) = (key, Jws::parse(&token, &TokenLimits::DEFAULT)) else {
        return false;
    };
    let Some(signature) = jws.signature() else { return false };
    let check = |text: &[u8], signature: &[u8]| verifier.is_valid(algorithm, &key, text, signature);
    let text = jws.signing_input.as_bytes();
    check(text, &signature)
        && !check(&with_last_bit_changed(text), &signature)
        && !check(text, &with_last_bit_changed(&signature))
}

fn with_last_bit_changed(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::keys::VerificationKey;
    use crate::jose::signature::SoftwareVerifier;

    #[derive(Debug)]
    struct Constant(bool);

    impl SignatureVerifier for Constant {
        fn is_valid(&self, _: TokenAlgorithm, _: &VerificationKey, _: &[u8], _: &[u8]) -> bool {
            self.0
        }
    }

    #[test]
    fn the_software_verifier_passes_for_every_algorithm() {
        for algorithm in TokenAlgorithm::ALL {
            assert!(pass(*algorithm, &SoftwareVerifier), "{}", algorithm.name());
        }
    }

    #[test]
    fn one_that_takes_everything_or_nothing_does_not() {
        for algorithm in TokenAlgorithm::ALL {
            assert!(!pass(*algorithm, &Constant(true)) && !pass(*algorithm, &Constant(false)));
        }
    }
}
