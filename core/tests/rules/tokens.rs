//! What makes a token acceptable, and with which reason it is refused otherwise.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use picket_core::enforcement::FilterConfiguration;
use picket_core::reason::DenyReason;
use serde_json::{Value, json};

use crate::support::{Caller, NOW_S, Sidecar, configuration};

#[track_caller]
fn check(token: &str, expected: Result<(), DenyReason>) {
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/local").bearer(token);
    match expected {
        Ok(()) => drop(sidecar.permits(&caller)),
        Err(reason) => assert_eq!(sidecar.refuses(&caller).reason, reason),
    }
}

#[track_caller]
fn check_claims(changes: &[(&str, Value)], expected: Result<(), DenyReason>) {
    check(&Sidecar::new().token(changes), expected);
}

#[track_caller]
fn check_header(header: &Header, expected: Result<(), DenyReason>) {
    check(&Sidecar::new().token_with_header(header, &[]), expected);
}

fn header() -> Header {
    Header {
        kid: Some("k1".into()),
        ..Header::new(Algorithm::ES256)
    }
}

/// A token with another header or payload than the one that was signed.
fn with_part(index: usize, text: &str) -> String {
    let token = Sidecar::new().token(&[]);
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[index] = URL_SAFE_NO_PAD.encode(text);
    parts.join(".")
}

#[test]
fn times_hold_to_the_second_with_the_skew() {
    // The default skew is 60 s.
    check_claims(&[("exp", (NOW_S - 59).into())], Ok(()));
    check_claims(&[("exp", (NOW_S - 60).into())], Err(DenyReason::TokenExpired));
    check_claims(&[("nbf", (NOW_S + 60).into())], Ok(()));
    check_claims(&[("nbf", (NOW_S + 61).into())], Err(DenyReason::TokenNotYetValid));
    check_claims(&[("iat", (NOW_S + 60).into())], Ok(()));
    check_claims(&[("iat", (NOW_S + 61).into())], Err(DenyReason::TokenNotYetValid));
    check_claims(&[("iat", Value::Null)], Ok(()));
    check_claims(&[("exp", json!(NOW_S as f64 + 0.5))], Ok(()));
}

#[test]
fn claims_of_a_wrong_kind_are_malformed() {
    for (claim, value) in [
        ("exp", json!("1800000000")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!(253_402_300_800_i64)),
        ("nbf", json!([])),
        ("iat", json!({})),
        ("sub", json!(7)),
        ("aud", json!({"a": 1})),
        ("aud", json!(["orders", 1])),
        ("roles", json!(["reader", 1])),
        ("roles", json!({})),
        ("tenant", json!(["a"])),
    ] {
        check_claims(&[(claim, value)], Err(DenyReason::TokenMalformed));
    }
}

#[test]
fn required_claims_are_required() {
    check_claims(&[("exp", Value::Null)], Err(DenyReason::TokenClaimMissing));
    check_claims(&[("sub", Value::Null)], Err(DenyReason::TokenClaimMissing));
    check_claims(&[("sub", "".into())], Err(DenyReason::TokenClaimMissing));
}

#[test]
fn issuer_and_audience_are_ours() {
    check_claims(
        &[("iss", "https://issuer.example/".into())],
        Err(DenyReason::TokenIssuerUnknown),
    );
    check_claims(&[("iss", Value::Null)], Err(DenyReason::TokenIssuerUnknown));
    check_claims(
        &[("iss", json!(["https://issuer.example"]))],
        Err(DenyReason::TokenIssuerUnknown),
    );
    check_claims(&[("aud", json!(["other", "orders"]))], Ok(()));
    check_claims(&[("aud", "Orders".into())], Err(DenyReason::TokenAudienceMismatch));
    check_claims(&[("aud", json!([]))], Err(DenyReason::TokenAudienceMismatch));
    check_claims(&[("aud", Value::Null)], Err(DenyReason::TokenAudienceMismatch));
}

#[test]
fn the_header_says_what_is_allowed() {
    check_header(&header(), Ok(()));
    check_header(&Header { kid: None, ..header() }, Ok(()));
    check_header(
        &Header {
            kid: Some("../../k1".into()),
            ..header()
        },
        Err(DenyReason::TokenKeyUnknown),
    );
    check_header(
        &Header {
            typ: Some("at+JWT".into()),
            ..header()
        },
        Ok(()),
    );
    check_header(
        &Header {
            typ: Some("application/at+jwt".into()),
            ..header()
        },
        Ok(()),
    );
    check_header(
        &Header {
            typ: Some("dpop+jwt".into()),
            ..header()
        },
        Err(DenyReason::TokenMalformed),
    );
    for text in [
        r#"{"alg":"ES256","kid":"k1","crit":["exp"]}"#,
        r#"{"alg":"ES256","kid":"k1","b64":false}"#,
        r#"{"alg":"ES256","alg":"ES256","kid":"k1"}"#,
        r#"{"alg":"ES256","kid":1}"#,
        r#"["ES256"]"#,
        "{",
    ] {
        check(&with_part(0, text), Err(DenyReason::TokenMalformed));
    }
}

#[test]
fn other_algorithms_are_refused_in_every_spelling() {
    for name in [
        "none", "None", "NONE", "nOnE", "", "HS256", "es256", "ES256K", "PS256", "RS512", "EdDSA", "ES256 ",
    ] {
        check(
            &with_part(0, &json!({"alg": name, "kid": "k1"}).to_string()),
            Err(DenyReason::TokenAlgorithmRefused),
        );
    }
    check(&with_part(0, r#"{"kid":"k1"}"#), Err(DenyReason::TokenAlgorithmRefused));
    // Known to Picket, but the provider has no such key.
    check(
        &with_part(0, r#"{"alg":"RS256","kid":"k1"}"#),
        Err(DenyReason::TokenAlgorithmRefused),
    );
}

#[test]
fn nothing_but_the_signed_bytes_passes() {
    let token = Sidecar::new().token(&[]);
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let resigned = |bytes: &[u8]| format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(bytes));
    check(&resigned(&signature), Ok(()));
    for index in 0..signature.len() {
        let mut changed = signature.clone();
        changed[index] ^= 1;
        check(&resigned(&changed), Err(DenyReason::TokenSignatureInvalid));
    }
    for bad in [
        &signature[..63],
        &[signature.as_slice(), &[0]].concat(),
        &[0; 64],
        &[0xff; 64],
        &[],
    ] {
        check(&resigned(bad), Err(DenyReason::TokenSignatureInvalid));
    }
    check(
        &with_part(1, &json!({"iss": "https://issuer.example", "sub": "root"}).to_string()),
        Err(DenyReason::TokenSignatureInvalid),
    );
    check(&format!("{token}="), Err(DenyReason::TokenSignatureInvalid));
}

#[test]
fn other_serializations_are_malformed() {
    let token = Sidecar::new().token(&[]);
    for bad in [
        "a",
        "a.b",
        "..",
        "a.b.c",
        "a.b.c.d.e",
        &format!("{token}.x"),
        &format!(".{token}"),
        &token.replace('.', ".."),
        &token.replacen('.', "=.", 1),
        &"a".repeat(picket_core::jose::TokenLimits::DEFAULT.bytes_max + 1),
    ] {
        check(bad, Err(DenyReason::TokenMalformed));
    }
    check(
        &with_part(1, r#"{"iss":"https://issuer.example","iss":"https://issuer.example"}"#),
        Err(DenyReason::TokenMalformed),
    );
    check(&with_part(1, &"[".repeat(5000)), Err(DenyReason::TokenMalformed));
    check(&with_part(1, "\"text\""), Err(DenyReason::TokenMalformed));
}

#[test]
fn a_known_token_is_checked_against_the_time_again() {
    let mut sidecar = Sidecar::new();
    let token = sidecar.token(&[("exp", (NOW_S + 1).into())]);
    let caller = Caller::new().get("/local").bearer(&token);
    sidecar.permits(&caller);
    sidecar.later_ms(60_999);
    sidecar.permits(&caller);
    sidecar.later_ms(1);
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::TokenExpired);
}

#[test]
fn the_principal_is_what_the_claims_say() {
    let mut sidecar = Sidecar::new();
    let token = sidecar.token(&[
        ("tenant", "acme".into()),
        ("roles", "reader".into()),
        ("scope", "a  b".into()),
        ("scp", json!(["c"])),
        ("acr", "urn:mfa".into()),
        ("amr", json!(["pwd", "otp"])),
        ("auth_time", (NOW_S - 5).into()),
        ("sid", "s-1".into()),
        ("jti", "j-1".into()),
    ]);
    let (request, _) = sidecar.asks(&Caller::new().get("/orders/7").bearer(&token));
    let principal = request.principal.unwrap();
    assert_eq!(principal.tenant.as_deref(), Some("acme"));
    assert_eq!(
        (principal.roles, principal.scopes),
        (vec!["reader".to_owned()], vec!["a".into(), "b".into(), "c".into()])
    );
    assert_eq!(
        (principal.acr.as_deref(), principal.amr),
        (Some("urn:mfa"), vec!["pwd".to_owned(), "otp".to_owned()])
    );
    assert_eq!(
        (principal.auth_time_s, principal.issued_at_s, principal.expires_at_s),
        (Some(NOW_S - 5), Some(NOW_S), Some(NOW_S + 3600))
    );
    assert_eq!(
        (principal.session_id.as_deref(), principal.token_id.as_deref()),
        (Some("s-1"), Some("j-1"))
    );
}

/// RFC 7515 appendices A.2 and A.3, with the keys of A.2.1 and A.3.1: signed by others than us.
#[test]
fn the_examples_of_rfc_7515_verify() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let ec = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let mut document = configuration();
    document["providers"][0]["issuer"] = "joe".into();
    document["providers"][0]["keys"] = json!({"keys": [rsa, ec]});
    for (header, signature) in [
        (
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let verdict_of = |signature: &str| {
            let caller = Caller::new()
                .get("/local")
                .bearer(&format!("{header}.{payload}.{signature}"));
            Sidecar::with(&document).refuses(&caller).reason
        };
        // The signature holds; what is missing is a subject.
        assert_eq!(verdict_of(signature), DenyReason::TokenClaimMissing);
        assert_eq!(
            verdict_of(&signature.replacen('h', "i", 1)),
            DenyReason::TokenSignatureInvalid
        );
    }
}

#[test]
fn a_provider_may_leave_out_the_audience() {
    let mut document = configuration();
    document["providers"][0].as_object_mut().unwrap().remove("audiences");
    let mistake = |document: &Value| {
        FilterConfiguration::parse(document.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(mistake(&document), "providers[0].audiences: is required");
    document["providers"][0]["audience"] = json!("none");
    let mut sidecar = Sidecar::with(&document);
    for audience in [
        json!("somebody"),
        json!(["a", "b"]),
        json!(7),
        json!(["a", 1]),
        Value::Null,
    ] {
        let token = sidecar.token(&[("aud", audience)]);
        sidecar.permits(&Caller::new().get("/local").bearer(&token));
    }
    document["providers"][0]["audiences"] = json!(["orders"]);
    assert_eq!(
        mistake(&document),
        "providers[0].audiences: expected none beside `audience: none`"
    );
}

/// RFC 8725 §3.1: a key that does not say for which algorithm it is, is taken for the one that
/// costs little to check.
#[test]
fn pss_is_for_keys_that_say_so_and_for_providers_that_list_it() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let reason = |alg: Option<&str>, algorithms: Option<Value>| {
        let mut document = configuration();
        let provider = &mut document["providers"][0];
        provider["keys"] = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": n}]});
        if let Some(alg) = alg {
            provider["keys"]["keys"][0]["alg"] = alg.into();
        }
        if let Some(algorithms) = algorithms {
            provider["algorithms"] = algorithms;
        }
        let token = with_part(0, r#"{"alg":"PS256"}"#);
        let caller = Caller::new().get("/local").bearer(&token);
        Sidecar::with(&document).refuses(&caller).reason
    };
    assert_eq!(reason(None, None), DenyReason::TokenAlgorithmRefused);
    assert_eq!(reason(Some("PS256"), None), DenyReason::TokenSignatureInvalid);
    assert_eq!(reason(None, Some(json!(["PS256"]))), DenyReason::TokenSignatureInvalid);
}
