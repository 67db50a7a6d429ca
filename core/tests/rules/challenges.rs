//! Challenges and obligations: what of a decision reaches the caller and the upstream.

use picket_core::enforcement::{Refusal, Reply, reply};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::{Decision, Effect, StepUp};
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, decision};

fn challenged(acr_values: &[&str], max_age_s: Option<u32>, bound_token: bool) -> Decision {
    asks_for(acr_values, max_age_s, bound_token, false)
}

fn asks_for(acr_values: &[&str], max_age_s: Option<u32>, bound_token: bool, trusted_device: bool) -> Decision {
    let acr_values = acr_values.iter().map(|value| (*value).to_owned()).collect();
    let step_up = StepUp::new(acr_values, max_age_s, bound_token, trusted_device).unwrap();
    Decision {
        challenge: Some(Box::new(step_up)),
        ..decision(Effect::Deny, 1000)
    }
}

fn refused(caller: &Caller, decision: Decision) -> (Refusal, Reply) {
    let mut sidecar = Sidecar::new();
    let (_, pending) = sidecar.asks(caller);
    let refusal = sidecar.answers(pending, Ok(decision)).unwrap_err();
    let from_cache = sidecar.refuses(caller);
    assert_eq!(
        (from_cache.reason, &from_cache.challenge, from_cache.decided_by),
        (refusal.reason, &refusal.challenge, DecidedBy::Cache)
    );
    let reply = reply(&refusal, "orders");
    (refusal, reply)
}

fn header(reply: &Reply) -> &str {
    let found = reply.headers.iter().find(|(name, _)| *name == "www-authenticate");
    &found.unwrap().1
}

fn check(decision: Decision, reason: DenyReason, parameters: &str, member: &Value) {
    let (refusal, reply) = refused(&Caller::new().get("/orders/7"), decision);
    assert_eq!((refusal.reason, reply.status), (reason, 401));
    let title = reason.title();
    let error = reason.challenge_error().unwrap();
    // A token that is bound to a key would come with the other scheme.
    let other = match reason == DenyReason::TokenNotBound {
        true => r#", DPoP realm="orders", algs="RS256 RS384 RS512 ES256 ES384 ES512 EdDSA""#,
        false => "",
    };
    let expected = format!(r#"Bearer realm="orders", error="{error}", error_description="{title}"{parameters}{other}"#);
    assert_eq!(header(&reply), expected);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(&body["challenge"], member);
}

#[test]
fn a_challenge_says_what_to_come_back_with() {
    let reason = DenyReason::AuthenticationInsufficient;
    assert_eq!(reason.challenge_error(), Some("insufficient_user_authentication"));
    check(
        challenged(&["gold", "silver"], None, false),
        reason,
        r#", acr_values="gold silver""#,
        &json!({"acr_values": ["gold", "silver"]}),
    );
    check(
        challenged(&[], Some(300), false),
        reason,
        r#", max_age="300""#,
        &json!({"max_age": 300}),
    );
    check(
        challenged(&["gold"], Some(0), true),
        reason,
        r#", acr_values="gold", max_age="0""#,
        &json!({"acr_values": ["gold"], "max_age": 0, "bound_token": true}),
    );
    let bound = json!({"bound_token": true});
    check(challenged(&[], None, true), DenyReason::TokenNotBound, "", &bound);
    let device = json!({"trusted_device": true});
    assert_eq!(DenyReason::DeviceNotTrusted.challenge_error(), reason.challenge_error());
    check(
        asks_for(&[], None, false, true),
        DenyReason::DeviceNotTrusted,
        "",
        &device,
    );
    let both = json!({"bound_token": true, "trusted_device": true});
    check(asks_for(&[], None, true, true), DenyReason::DeviceNotTrusted, "", &both);
    check(
        asks_for(&["gold"], None, false, true),
        reason,
        r#", acr_values="gold""#,
        &json!({"acr_values": ["gold"], "trusted_device": true}),
    );
}

/// Each content type, and where the caller of it finds the status.
#[test]
fn a_caller_of_grpc_web_gets_the_status_in_the_headers() {
    let binary = "application/grpc-web+proto";
    let text = "application/grpc-web-text+proto";
    for (content_type, expected) in [
        ("application/grpc-web", Some(binary)),
        ("application/grpc-web+proto", Some(binary)),
        ("application/grpc-web-text", Some(text)),
        ("application/grpc-web-text+proto", Some(text)),
        ("application/grpc", None),
        ("application/grpc+proto", None),
    ] {
        let caller = Caller::new()
            .get("/local")
            .no_bearer()
            .header("content-type", content_type);
        let reply = reply(&Sidecar::new().refuses(&caller), "orders");
        let header = |wanted: &str| {
            let mut found = reply.headers.iter().filter(|(name, _)| *name == wanted);
            (found.next().map(|(_, value)| value.as_str()), found.count())
        };
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{content_type}");
        let message = "A bearer token is required. (credential_missing)";
        assert_eq!(header("grpc-message"), (Some(message), 0), "{content_type}");
        assert_eq!(header("content-type"), (expected, 0), "{content_type}");
        // The proxy adds that of gRPC itself.
        let status = expected.map(|_| "16");
        assert_eq!(header("grpc-status"), (status, 0), "{content_type}");
        assert_eq!(reply.grpc_status.is_none(), expected.is_some(), "{content_type}");
        assert!(header("www-authenticate").0.is_some(), "{content_type}");
    }
}

#[test]
fn a_grpc_caller_gets_the_challenge_as_metadata() {
    let caller = Caller::new()
        .get("/orders/7")
        .header("content-type", "application/grpc");
    let (_, reply) = refused(&caller, challenged(&["gold"], None, false));
    assert_eq!((reply.status, reply.grpc_status), (200, Some(16)));
    assert!(header(&reply).ends_with(r#", acr_values="gold""#), "{}", header(&reply));
}

#[test]
fn a_plain_deny_challenges_nobody() {
    let (refusal, reply) = refused(&Caller::new().get("/orders/7"), decision(Effect::Deny, 1000));
    assert_eq!((refusal.reason, reply.status), (DenyReason::PolicyDeny, 403));
    assert!(reply.headers.iter().all(|(name, _)| *name != "www-authenticate"));
    assert!(!reply.body.contains("challenge"));
}

/// RFC 6750 §3.1: a client that reads `invalid_token` asks for another token, which a plain 403
/// does not make it do.
#[test]
fn a_revoked_token_is_told_as_an_invalid_one() {
    let revoked = Decision {
        is_token_revoked: true,
        caller_reasons: vec!["session_ended".into()],
        ..decision(Effect::Deny, 1000)
    };
    let mut sidecar = Sidecar::new();
    let caller = Caller::new().get("/orders/7");
    let (_, pending) = sidecar.asks(&caller);
    let fresh = sidecar.answers(pending, Ok(revoked)).unwrap_err();
    let cached = sidecar.refuses(&caller);
    for refusal in [fresh, cached] {
        let reply = reply(&refusal, "orders");
        assert_eq!((refusal.reason, reply.status), (DenyReason::TokenRevoked, 401));
        let expected = r#"Bearer realm="orders", error="invalid_token", error_description=""#;
        assert!(header(&reply).starts_with(expected), "{}", header(&reply));
        assert!(reply.body.contains(r#""reasons":["session_ended"]"#), "{}", reply.body);
    }
    let grpc = caller.header("content-type", "application/grpc");
    assert_eq!(reply(&sidecar.refuses(&grpc), "orders").grpc_status, Some(16));
}

#[test]
fn the_upstream_is_told_its_obligations_and_no_forged_ones() {
    let mut configuration = crate::support::configuration();
    // They are no choice.
    configuration["identity_headers"] = json!([]);
    let mut sidecar = Sidecar::with(&configuration);
    let caller = Caller::new().get("/orders/7").header("x-picket-obligations", "none");
    let (_, pending) = sidecar.asks(&caller);
    let permit = Decision {
        obligations: vec!["log:full".into(), "mask".into()],
        ..decision(Effect::Permit, 1000)
    };
    let fresh = sidecar.answers(pending, Ok(permit)).unwrap();
    let (cached, _) = sidecar.permits(&caller);
    for permit in [fresh, cached] {
        let set: Vec<_> = permit.headers_to_set().collect();
        assert_eq!(set, [("x-picket-obligations", "log:full,mask")]);
        assert!(permit.headers_to_remove().any(|name| name == "x-picket-obligations"));
    }
}
