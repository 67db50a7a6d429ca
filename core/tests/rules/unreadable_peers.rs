//! A peer that is there but proves nothing: wherever a rule says who must not call, it is not taken
//! for nobody.

use picket_core::enforcement::{ObservedAccess, Step};
use picket_core::peer::{PeerError, PeerEvidence, identify};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::{Attribute, Decision, Effect, Vary};
use serde_json::{Value, json};

use crate::peers::{certificate, uri};
use crate::support::{Caller, NOW_S, Sidecar, configuration, decision};

const BAD: &str = "spiffe://example.org/ns/bad/sa/x";
const GOOD: &str = "spiffe://example.org/ns/good/sa/x";

fn sidecar(access: &Value, route_rule: &Value) -> Sidecar {
    let mut document = configuration();
    document["access"] = access.clone();
    let mut rule = json!({"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "optional"});
    rule["decision"] = json!("permit");
    for (name, value) in route_rule.as_object().unwrap() {
        rule[name] = value.clone();
    }
    document["rules"] = json!([rule]);
    document["trust_domain_aliases"] = json!({"old.example": "example.org"});
    Sidecar::with(&document)
}

fn caller() -> Caller {
    Caller::new().get("/a").no_bearer()
}

/// Peers that are there, why they prove nothing, and what the detail says of it.
fn unusable() -> Vec<(Caller, DenyReason, &'static str)> {
    let of_names = |uris: &[&str]| {
        let certificate = certificate(|parameters| {
            parameters.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
        });
        let pem = certificate.pem();
        let evidence = PeerEvidence {
            is_validated: Some(true),
            certificate_pem: Some(pem.as_bytes()),
        };
        caller().peer_result(identify(evidence))
    };
    vec![
        (of_names(&[BAD, GOOD]), DenyReason::PeerMalformed, "2 URIs"),
        (of_names(&[GOOD, BAD]), DenyReason::PeerMalformed, "2 URIs"),
        (of_names(&[]), DenyReason::PeerMalformed, "no URI"),
        (
            of_names(&["https://example.org/ns/bad/sa/x"]),
            DenyReason::PeerMalformed,
            "spiffe://",
        ),
        (of_names(&["spiffe://example.org"]), DenyReason::PeerMalformed, "path"),
        (
            caller().peer("spiffe://foreign.example/ns/bad/sa/x"),
            DenyReason::PeerNotAllowed,
            "trust domain",
        ),
        (
            caller().peer("spiffe://foreign.example/ns/good/sa/x"),
            DenyReason::PeerNotAllowed,
            "trust domain",
        ),
        (
            caller().peer(BAD).peer_valid(0, NOW_S),
            DenyReason::PeerExpired,
            "expired",
        ),
        (
            caller().peer(BAD).peer_valid(NOW_S + 1, NOW_S + 2),
            DenyReason::PeerNotYetValid,
            "not yet valid",
        ),
        (
            caller().peer_result(Err(PeerError::Unverified)),
            DenyReason::PeerUnverified,
            "did not validate",
        ),
    ]
}

/// Rules that a peer `bad` must not pass, as they reject or as they accept all others.
fn rules() -> Vec<Value> {
    let rule = |effect: &str, rule: Value| {
        let mut rule = rule;
        rule["id"] = json!("r");
        json!({effect: [rule]})
    };
    vec![
        rule("reject", json!({"from": [{"namespaces": ["bad"]}]})),
        rule("reject", json!({"from": [{"peers": [BAD]}]})),
        rule("reject", json!({"from": [{"service_accounts": ["bad/x"]}]})),
        rule("reject", json!({"from": [{"not_namespaces": ["good"]}]})),
        rule("reject", json!({"from": [{"not_peers": [GOOD]}]})),
        rule("reject", json!({"when": [{"attribute": "peer", "values": [BAD]}]})),
        rule(
            "reject",
            json!({"when": [{"attribute": "namespace", "values": ["bad"]}]}),
        ),
        rule(
            "reject",
            json!({"from": [{"namespaces": ["bad"]}], "to": [{"paths": ["/a"]}]}),
        ),
        rule(
            "reject",
            json!({"from": [{"connection_addresses": ["192.0.2.0/24"]}, {"namespaces": ["bad"]}]}),
        ),
        rule("accept", json!({"from": [{"not_namespaces": ["bad"]}]})),
        rule("accept", json!({"from": [{"not_peers": [BAD]}]})),
        rule("accept", json!({"from": [{"not_service_accounts": ["bad/x"]}]})),
        rule("accept", json!({"when": [{"attribute": "peer", "not_values": [BAD]}]})),
        rule("accept", json!({"from": [{"namespaces": ["good"]}]})),
    ]
}

#[test]
fn where_a_rule_looks_at_peers_one_that_proves_nothing_is_refused_with_its_own_reason() {
    for access in rules() {
        let mut sidecar = sidecar(&access, &json!({}));
        sidecar.permits(&caller().peer(GOOD));
        assert_eq!(sidecar.refuses(&caller().peer(BAD)).decided_by, DecidedBy::Local);
        for (caller, reason, detail) in unusable() {
            let refusal = sidecar.refuses(&caller);
            assert_eq!(
                (refusal.reason, refusal.decided_by),
                (reason, DecidedBy::Peer),
                "{access} {caller:?}"
            );
            let told = refusal.detail.unwrap();
            assert!(told.contains(detail), "{access} {caller:?}: {told}");
        }
    }
}

#[test]
fn a_peer_that_is_not_there_is_still_nobody() {
    for access in rules() {
        let verdict = match sidecar(&access, &json!({})).sends(&caller().no_peer()).0 {
            Step::Decided(verdict) => verdict.err().map(|refusal| refusal.reason),
            other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("{other:?}"),
        };
        let text = access.to_string();
        let expected = match (text.contains("\"reject\""), text.contains("\"not_")) {
            (true, false) | (false, true) => None,
            (true, true) => Some(DenyReason::AccessRuleReject),
            (false, false) => Some(DenyReason::AccessRuleNoAccept),
        };
        assert_eq!(verdict, expected, "{access}");
    }
}

#[test]
fn where_no_rule_can_match_nobody_looks_at_the_peer() {
    for access in [
        json!({}),
        json!({"reject": [{"id": "r", "from": [{"namespaces": ["bad"]}], "to": [{"paths": ["/b"]}]}]}),
        json!({"reject": [{"id": "r", "from": [{"namespaces": ["bad"]}], "when": [{"header": "x-a", "values": ["1"]}]}]}),
        json!({"accept": [{"id": "a", "from": [{"not_namespaces": ["bad"]}]}, {"id": "b", "to": [{"paths": ["/a"]}]}]}),
        json!({"reject": [{"id": "r", "from": [{"principals": ["https://issuer.example/mallory"]}]}]}),
    ] {
        let mut sidecar = sidecar(&access, &json!({}));
        for (caller, _, _) in unusable() {
            sidecar.permits(&caller);
        }
    }
}

#[test]
fn an_alias_of_a_trust_domain_is_not_foreign() {
    let mut sidecar = sidecar(&rules()[0], &json!({}));
    let refusal = sidecar.refuses(&caller().peer("spiffe://old.example/ns/bad/sa/x"));
    assert_eq!(refusal.reason, DenyReason::AccessRuleReject);
    sidecar.permits(&caller().peer("spiffe://old.example/ns/good/sa/x"));
}

#[test]
fn a_connection_that_outlives_its_certificate_does_not_outlive_a_rejection() {
    for access in rules() {
        let mut sidecar = sidecar(&access, &json!({}));
        let denied = caller().peer(BAD).peer_valid(0, NOW_S + 1);
        let refusal = sidecar.refuses(&denied);
        assert_eq!(refusal.decided_by, DecidedBy::Local, "{access}");
        sidecar.later_ms(1000);
        assert_eq!(sidecar.refuses(&denied).reason, DenyReason::PeerExpired, "{access}");
    }
}

#[test]
fn behind_a_trusted_hop_a_header_that_proves_nothing_is_not_nobody() {
    const GATEWAY: &str = "spiffe://example.org/gateway";
    const XFCC: &str = "x-forwarded-client-cert";
    let mut document = configuration();
    document["forwarded_peer"] = json!({"hop_spiffe_ids": [GATEWAY], "header": XFCC});
    document["rules"] = json!([
        {"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "none", "decision": "permit"},
    ]);
    document["access"] = rules().remove(0);
    let mut sidecar = Sidecar::with(&document);
    let through = caller().peer(GATEWAY);
    let forwarded = |value: &str| through.clone().header(XFCC, value);
    sidecar.permits(&forwarded(&format!("URI={GOOD}")));
    assert_eq!(
        sidecar.refuses(&forwarded(&format!("URI={BAD}"))).reason,
        DenyReason::AccessRuleReject
    );
    for value in [
        "",
        "garbage",
        "URI=",
        "By=a",
        &format!("URI={BAD};URI={GOOD}"),
        &format!("URI={BAD}%2F"),
    ] {
        assert_eq!(
            sidecar.refuses(&forwarded(value)).reason,
            DenyReason::PeerMalformed,
            "{value}"
        );
    }
    let foreign = forwarded("URI=spiffe://foreign.example/ns/bad/sa/x");
    assert_eq!(sidecar.refuses(&foreign).reason, DenyReason::PeerNotAllowed);
    // The hop has no caller with a certificate.
    sidecar.permits(&through);
}

#[test]
fn what_is_observed_and_counted_takes_it_for_a_match() {
    for (access, expected) in [
        (json!({"audit": rules()[0]["reject"]}), (false, false, true)),
        (
            json!({"observe": {"reject": rules()[0]["reject"]}}),
            (true, false, false),
        ),
        (
            json!({"observe": {"accept": [{"id": "r", "from": [{"not_namespaces": ["bad"]}]}]}}),
            (false, true, false),
        ),
    ] {
        for (caller, _, _) in unusable() {
            let ObservedAccess {
                would_reject,
                would_not_accept,
                is_audited,
            } = sidecar(&access, &json!({})).permits(&caller).1.access;
            assert_eq!(
                (would_reject, would_not_accept, is_audited),
                expected,
                "{access} {caller:?}"
            );
        }
    }
}

#[test]
fn a_policy_is_not_asked_about_a_peer_that_proves_nothing() {
    let policy = json!({"decision": "policy_service"});
    let mut sidecar = sidecar(&json!({}), &policy);
    assert!(sidecar.asks(&caller().peer(BAD)).0.peer.is_some());
    assert_eq!(sidecar.asks(&caller().no_peer()).0.peer, None);
    for (caller, reason, detail) in unusable() {
        match (reason, detail) {
            // The policy sees its name, trust domain included.
            (DenyReason::PeerNotAllowed, _) => assert!(sidecar.asks(&caller).0.peer.is_some()),
            // It names no workload that a policy could be about.
            (_, "no URI") => assert_eq!(sidecar.asks(&caller).0.peer, None),
            (reason, detail) => {
                let refusal = sidecar.refuses(&caller);
                assert_eq!(
                    (refusal.reason, refusal.decided_by),
                    (reason, DecidedBy::Peer),
                    "{caller:?}"
                );
                assert!(refusal.detail.unwrap().contains(detail), "{caller:?}");
            }
        }
    }
}

#[test]
fn a_cached_decision_that_depends_on_the_peer_is_not_for_one_that_proves_nothing() {
    for (vary, is_for_all) in [
        (Vary::NOTHING, true),
        (Vary::NOTHING.with(Attribute::Peer), false),
        (Vary::NOTHING.with(Attribute::Device), false),
        (Vary::EVERYTHING, false),
    ] {
        let mut sidecar = sidecar(&json!({}), &json!({"decision": "policy_service"}));
        let token = sidecar.token(&[]);
        let (_, pending) = sidecar.asks(&caller().no_peer().bearer(&token));
        let answer = Decision {
            vary,
            ..decision(Effect::Permit, 60_000)
        };
        sidecar.answers(pending, Ok(answer)).unwrap();
        sidecar.permits(&caller().no_peer().bearer(&token));
        for (caller, reason, detail) in unusable() {
            // The policy can tell these two apart from all others.
            if reason == DenyReason::PeerNotAllowed || detail == "no URI" {
                continue;
            }
            let caller = caller.bearer(&token);
            match is_for_all {
                true => drop(sidecar.permits(&caller)),
                false => assert_eq!(sidecar.refuses(&caller).reason, reason, "{vary:?} {caller:?}"),
            }
        }
    }
}
