//! The examples of RFC 7520 (sections 3 to 6) and RFC 8705 (section 3.1 and appendix A), as they
//! are published: signed and written by others than us.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use picket_core::enforcement::Step;
use picket_core::jose::jws::Jws;
use picket_core::jose::keys::{KeySet, KeySource};
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier};
use picket_core::jose::{TokenAlgorithm, TokenLimits};
use picket_core::reason::DenyReason;
use picket_core::token::TokenError;
use picket_model::thumbprint::CertificateThumbprint;
use serde_json::{Value, json};

use crate::support::{Caller, NOW_S, Sidecar, configuration};

/// RFC 7520 §4, the payload of every example of that section.
const PAYLOAD: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
const BILBO: &str = "bilbo.baggins@hobbiton.example";
const SECRET_ID: &str = "018c0ae5-4d9b-471b-bfd6-eef314bc7037";
/// The protected header and the signature of RFC 7520 §4.4, which §4.5 and §4.8 have as well.
const HMAC_HEADER: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9";
const HMAC_SIGNATURE: &str = "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0";

/// A JWS of RFC 7520 §4 in compact serialization.
struct Example {
    section: &'static str,
    algorithm: TokenAlgorithm,
    key_id: &'static str,
    header: &'static str,
    signature: &'static str,
}

const EXAMPLES: [Example; 4] = [
    Example {
        section: "4.1",
        algorithm: TokenAlgorithm::Rs256,
        key_id: BILBO,
        header: "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        signature: "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
    },
    Example {
        section: "4.2",
        algorithm: TokenAlgorithm::Ps384,
        key_id: BILBO,
        header: "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        signature: "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
    },
    Example {
        section: "4.3",
        algorithm: TokenAlgorithm::Es512,
        key_id: BILBO,
        header: "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        signature: "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
    },
    Example {
        section: "4.4",
        algorithm: TokenAlgorithm::Hs256,
        key_id: SECRET_ID,
        header: HMAC_HEADER,
        signature: HMAC_SIGNATURE,
    },
];

/// The keys of RFC 7520 §3.1, §3.3 and §3.5 as one set: the first two have the same `kid`, and each
/// is for other algorithms.
fn keys() -> Value {
    let rsa = "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw";
    json!({"keys": [
        {"kty": "EC", "kid": BILBO, "use": "sig", "crv": "P-521",
         "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
         "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"},
        {"kty": "RSA", "kid": BILBO, "use": "sig", "n": rsa, "e": "AQAB"},
        {"kty": "oct", "kid": SECRET_ID, "use": "sig", "alg": "HS256", "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"},
    ]})
}

/// What a sidecar says to this token where the only provider is changed so.
fn verdict(provider: Value, token: &str) -> DenyReason {
    let mut document = configuration();
    let Value::Object(changes) = provider else {
        panic!("not an object")
    };
    document["providers"][0].as_object_mut().unwrap().extend(changes);
    let caller = Caller::new().get("/local").bearer(token);
    Sidecar::with(&document).refuses(&caller).reason
}

fn verdict_with_keys(token: &str) -> DenyReason {
    let algorithms: Vec<_> = EXAMPLES.iter().map(|example| example.algorithm.name()).collect();
    verdict(json!({"keys": keys(), "algorithms": algorithms}), token)
}

/// RFC 7520 §4.1 to §4.4.
#[test]
fn the_signatures_of_rfc_7520_are_the_keys() {
    let keys = KeySet::parse(&keys(), "keys", KeySource::Inline).unwrap();
    for Example {
        section,
        algorithm,
        key_id,
        header,
        signature,
    } in EXAMPLES
    {
        let token = format!("{header}.{PAYLOAD}.{signature}");
        let jws = Jws::parse(&token, &TokenLimits::DEFAULT).unwrap();
        let members = jws.header().unwrap();
        let read = members.read().unwrap();
        assert_eq!((read.algorithm, read.key_id), (algorithm, Some(key_id)), "{section}");
        let found = keys.find(read.key_id, read.algorithm).unwrap();
        let key = found.iter().next().unwrap();
        let is_valid =
            |text: &str, signature: &[u8]| SoftwareVerifier.is_valid(algorithm, key, text.as_bytes(), signature);
        let mut signature = jws.signature().unwrap();
        assert!(is_valid(jws.signing_input, &signature), "{section}");
        // Neither over another text, nor when one bit of it is another.
        assert!(!is_valid(&format!("{}x", jws.signing_input), &signature), "{section}");
        *signature.last_mut().unwrap() ^= 1;
        assert!(!is_valid(jws.signing_input, &signature), "{section}");
        // The payload is text: whoever signed it, it is no token.
        assert_eq!(verdict_with_keys(&token), DenyReason::TokenMalformed, "{section}");
    }
}

/// RFC 7520 §4.5: who does not look for the text elsewhere has none.
#[test]
fn a_detached_payload_is_no_token() {
    let token = format!("{HMAC_HEADER}..{HMAC_SIGNATURE}");
    let jws = Jws::parse(&token, &TokenLimits::DEFAULT).unwrap();
    let keys = KeySet::parse(&keys(), "keys", KeySource::Inline).unwrap();
    let found = keys.find(Some(SECRET_ID), TokenAlgorithm::Hs256).unwrap();
    let key = found.iter().next().unwrap();
    let signature = jws.signature().unwrap();
    assert!(!SoftwareVerifier.is_valid(TokenAlgorithm::Hs256, key, jws.signing_input.as_bytes(), &signature));
    assert_eq!(verdict_with_keys(&token), DenyReason::TokenMalformed);
}

/// RFC 7520 §4.6 and §4.7, flattened, and §4.8, general: headers that no signature protects, and
/// several signatures.
#[test]
fn json_serializations_are_no_tokens() {
    let by_rsa = "MIsjqtVlOpa71KE-Mss8_Nq2YH4FGhiocsqrgi5NvyG53uoimic1tcMdSg-qptrzZc7CG6Svw2Y13TDIqHzTUrL_lR2ZFcryNFiHkSw129EghGpwkpxaTn_THJTCglNbADko1MZBCdwzJxwqZc-1RlpO2HibUYyXSwO97BSe0_evZKdjvvKSgsIqjytKSeAMbhMBdMma622_BG5t4sdbuCHtFjp9iJmkio47AIwqkZV1aIZsv33uPUqBBCXbYoQJwt7mxPftHmNlGoOSMxR_3thmXTCm4US-xiNOyhbm8afKK64jU6_TPtQHiJeQJxz9G3Tx-083B745_AfYOnlC9w";
    let by_ec = "ARcVLnaJJaUWG8fG-8t5BREVAuTY8n8YHjwDO1muhcdCoFZFFjfISu0Cdkn9Ybdlmi54ho0x924DUz8sK7ZXkhc7AFM8ObLfTvNCrqcI3Jkl2U5IX3utNhODH6v7xgy1Qahsn0fyb4zSAkje8bAWz4vIfj5pCMYxxm4fgV3q7ZYhm5eD";
    for example in [
        json!({
            "payload": PAYLOAD, "protected": "eyJhbGciOiJIUzI1NiJ9", "header": {"kid": SECRET_ID},
            "signature": "bWUSVaxorn7bEF1djytBd0kHv70Ly5pvbomzMWSOr20",
        }),
        json!({
            "payload": PAYLOAD, "header": {"alg": "HS256", "kid": SECRET_ID},
            "signature": "xuLifqLGiblpv9zBpuZczWhNj1gARaLV3UxvxhJxZuk",
        }),
        json!({"payload": PAYLOAD, "signatures": [
            {"protected": "eyJhbGciOiJSUzI1NiJ9", "header": {"kid": BILBO}, "signature": by_rsa},
            {"header": {"alg": "ES512", "kid": BILBO}, "signature": by_ec},
            {"protected": HMAC_HEADER, "signature": HMAC_SIGNATURE},
        ]}),
    ] {
        let text = example.to_string();
        assert_eq!(
            TokenError::from(Jws::parse(&text, &TokenLimits::DEFAULT).unwrap_err()).reason,
            DenyReason::TokenMalformed
        );
        assert_eq!(verdict_with_keys(&text), DenyReason::CredentialMalformed);
    }
}

/// RFC 7520 §6, and §5.6 with an empty key: five parts are a JWE, whatever is in it.
#[test]
fn a_jwe_is_no_token_and_what_is_nested_in_it_is_one_like_any_other() {
    // §6.1: the JWT, signed with PS256.
    let n = "kNrPIBDXMU6fcyv5i-QHQAQ-K8gsC3HJb7FYhYaw8hXbNJa-t8q0lDKwLZgQXYV-ffWxXJv5GGrlZE4GU52lfMEegTDzYTrRQ3tepgKFjMGg6Iy6fkl1ZNsx2gEonsnlShfzA9GJwRTmtKPbk1s-hwx1IU5AT-AIelNqBgcF2vE5W25_SGGBoaROVdUYxqETDggM1z5cKV4ZjDZ8-lh4oVB07bkac6LQdHpJUUySH_Er20DXx30Kyi97PciXKTS-QKXnmm8ivyRCmux22ZoPUind2BKC5OiG4MwALhaL2Z2k8CsRdfy-7dg7z41Rp6D0ZeEvtaUp4bX4aKraL4rTfw";
    let nested = "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJob2JiaXRvbi5leGFtcGxlIiwiZXhwIjoxMzAwODE5MzgwLCJodHRwOi8vZXhhbXBsZS5jb20vaXNfcm9vdCI6dHJ1ZX0.dPpMqwRZxFYi1UfcDAaf8M99o7kwUWtiXZ-ByvVuJih4MhJ_aZqciprz0OWaIAkIvn1qskChirjKvY9ESZNUCP4JjvfyPS-nqjJxYoA5ztWOyFk2cZNIPXjcJXSQwXPO9tEe-v4VSqgD0aKHqPxYog4N6Cz1lKph1U1sYDSI67_bLL7elg_vkjfMp5_W5l5LuUYGMeh6hxQIaIUXf9EwV2JmvTMuZ-vBOWy0Sniy1EFo72CRTvmtrIf5AROo5MNliY3KtUxeP-SOmD-LEYwW9SlkohYzMVAZDDOrVbv7KVRHpeYNaK75KEQqdCEEkS_rskZS-Qtt_nlegTWh1mEYaA";
    let hobbiton = || {
        json!({
            "issuer": "hobbiton.example", "algorithms": ["PS256"],
            "keys": {"keys": [{"kty": "RSA", "kid": "hobbiton.example", "use": "sig", "n": n, "e": "AQAB"}]},
        })
    };
    // The signature holds; what is missing is a subject.
    assert_eq!(verdict(hobbiton(), nested), DenyReason::TokenClaimMissing);
    let altered = nested.replacen(".dPpM", ".ePpM", 1);
    assert_eq!(verdict(hobbiton(), &altered), DenyReason::TokenSignatureInvalid);
    // §6.2: the same, encrypted.
    let around_it = "eyJhbGciOiJSU0EtT0FFUCIsImN0eSI6IkpXVCIsImVuYyI6IkExMjhHQ00ifQ.a0JHRoITfpX4qRewImjlStn8m3CPxBV1ueYlVhjurCyrBg3I7YhCRYjphDOOS4E7rXbr2Fn6NyQq-A-gqT0FXqNjVOGrG-bi13mwy7RoYhjTkBEC6P7sMYMXXx4gzMedpiJHQVeyI-zkZV7A9matpgevAJWrXzOUysYGTtwoSN6gtUVtlLaivjvb21O0ul4YxSHV-ByK1kyeetRp_fuYJxHoKLQL9P424sKx2WGYb4zsBIPF4ssl_e5IR7nany-25_UmC2urosNkoFz9cQ82MypZP8gqbQJyPN-Fpp4Z-5o6yV64x6yzDUF_5JCIdl-Qv6H5dMVIY7q1eKpXcV1lWO_2FefEBqXxXvIjLeZivjNkzogCq3-IapSjVFnMjBxjpYLT8muaawo1yy1XXMuinIpNcOY3n4KKrXLrCcteX85m4IIHMZa38s1Hpr56fPPseMA-Jltmt-a9iEDtOzhtxz8AXy9tsCAZV2XBWNG8c3kJusAamBKOYwfk7JhLRDgOnJjlJLhn7TI4UxDp9dCmUXEN6z0v23W15qJIEXNJtqnblpymooeWAHCT4e_Owbim1g0AEpTHUdA2iiLNs9WTX_H_TXuPC8yDDhi1smxS_X_xpkIHkiIHWDOLx03BpqDTivpKkBYwqP2UZkcxqX2Fo_GnVrNwlK7Lgxw6FSQvDO0.GbX1i9kXz0sxXPmA.SZI4IvKHmwpazl_pJQXX3mHv1ANnOU4Wf9-utWYUcKrBNgCe2OFMf66cSJ8k2QkxaQD3_R60MGE9ofomwtky3GFxMeGRjtpMt9OAvVLsAXB0_UTCBGyBg3C2bWLXqZlfJAAoJRUPRk-BimYZY81zVBuIhc7HsQePCpu33SzMsFHjn4lP_idrJz_glZTNgKDt8zdnUPauKTKDNOH1DD4fuzvDYfDIAfqGPyL5sVRwbiXpXdGokEszM-9ChMPqW1QNhzuX_Zul3bvrJwr7nuGZs4cUScY3n8yE3AHCLurgls-A9mz1X38xEaulV18l4Fg9tLejdkAuQZjPbqeHQBJe4IwGD5Ee0dQ-Mtz4NnhkIWx-YKBb_Xo2zI3Q_1sYjKUuis7yWW-HTr_vqvFt0bj7WJf2vzB0TZ3dvsoGaTvPH2dyWwumUrlx4gmPUzBdwTO6ubfYSDUEEz5py0d_OtWeUSYcCYBKD-aM7tXg26qJo21gYjLfhn9zy-W19sOCZGuzgFjPhawXHpvnj_t-0_ES96kogjJLxS1IMU9Y5XmnwZMyNc9EIwnogsCg-hVuvzyP0sIruktmI94_SL1xgMl7o03phcTMxtlMizR88NKU1WkBsiXMCjy1Noue7MD-ShDp5dmM.KnIKEhN8U-3C9s4gtSpjSw";
    // §5.6: the second of the five parts is empty.
    let direct = "eyJhbGciOiJkaXIiLCJraWQiOiI3N2M3ZTJiOC02ZTEzLTQ1Y2YtODY3Mi02MTdiNWI0NTI0M2EiLCJlbmMiOiJBMTI4R0NNIn0..refa467QzzKx6QAB.JW_i_f52hww_ELQPGaYyeAB6HYGcR559l9TYnSovc23XJoBcW29rHP8yZOZG7YhLpT1bjFuvZPjQS-m0IFtVcXkZXdH_lr_FrdYt9HRUYkshtrMmIUAyGmUnd9zMDB2n0cRDIHAzFVeJUDxkUwVAE7_YGRPdcqMyiBoCO-FBdE-Nceb4h3-FtBP-c_BIwCPTjb9o0SbdcdREEMJMyZBH8ySWMVi1gPD9yxi-aQpGbSv_F9N4IZAxscj5g-NJsUPbjk29-s7LJAGb15wEBtXphVCgyy53CoIKLHHeJHXex45Uz9aKZSRSInZI-wjsY0yu3cT4_aQ3i1o-tiE-F8Ios61EKgyIQ4CWao8PFMj8TTnp.vbb32Xvllea2OtmHAdccRQ";
    for jwe in [around_it, direct] {
        let TokenError { reason, detail, .. } = Jws::parse(jwe, &TokenLimits::DEFAULT).unwrap_err().into();
        assert_eq!(
            (reason, detail.as_ref()),
            (DenyReason::TokenMalformed, "not a JWS in compact serialization")
        );
        assert_eq!(verdict(hobbiton(), jwe), DenyReason::TokenMalformed);
    }
}

/// A sidecar that takes the tokens of RFC 8705 §3.1, while they are good.
fn sidecar_of_rfc_8705() -> Sidecar {
    let mut document = configuration();
    let provider = document["providers"][0].as_object_mut().unwrap();
    provider.remove("audiences");
    provider.insert("audience".into(), "none".into());
    provider.insert("issuer".into(), "https://server.example.com".into());
    let mut sidecar = Sidecar::with(&document);
    sidecar.earlier_ms(u64::try_from(NOW_S - 1_493_722_800).unwrap() * 1000);
    sidecar
}

/// What the claims of the example in RFC 8705 §3.1 get with this thumbprint, on a connection of the
/// certificate with that digest.
fn bound_to(thumbprint: &str, certificate: [u8; 32]) -> Result<(), DenyReason> {
    let mut sidecar = sidecar_of_rfc_8705();
    let token = sidecar.token(&[
        ("iss", "https://server.example.com".into()),
        ("sub", "ty.webb@example.com".into()),
        ("exp", 1_493_726_400.into()),
        ("nbf", 1_493_722_800.into()),
        ("cnf", json!({"x5t#S256": thumbprint})),
        ("aud", Value::Null),
        ("iat", Value::Null),
    ]);
    let caller = Caller::new().get("/local").bearer(&token).certificate(certificate);
    match sidecar.sends(&caller).0 {
        Step::Decided(verdict) => verdict.map(drop).map_err(|refusal| refusal.reason),
        other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
            panic!("expected a verdict, got {other:?}")
        }
    }
}

/// RFC 8705 appendix A: the certificate of figure 6 has the thumbprint of figure 5.
#[test]
fn the_certificate_of_rfc_8705_has_the_published_thumbprint() {
    let certificate = "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=";
    let published = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";
    let CertificateThumbprint(digest) = CertificateThumbprint::of_der(&STANDARD.decode(certificate).unwrap());
    assert_eq!(URL_SAFE_NO_PAD.encode(digest), published);
    assert_eq!(bound_to(published, digest), Ok(()));
    assert_eq!(bound_to(published, [1; 32]), Err(DenyReason::TokenCertificateMismatch));
}

/// RFC 8705 §3.1: the value that the example shows is not what base64url makes of 32 bytes, as its
/// last character has bits that stand for nothing. Picket takes each thumbprint in its one spelling
/// (RFC 4648 §3.5).
#[test]
fn the_thumbprint_in_the_example_of_rfc_8705_is_taken_in_its_one_spelling() {
    let canonical = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0";
    let digest: [u8; 32] = URL_SAFE_NO_PAD.decode(canonical).unwrap().try_into().unwrap();
    assert_eq!(bound_to(canonical, digest), Ok(()));
    assert_eq!(bound_to(canonical, [1; 32]), Err(DenyReason::TokenCertificateMismatch));
    let published = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
    assert_eq!(bound_to(published, digest), Err(DenyReason::TokenMalformed));
}
