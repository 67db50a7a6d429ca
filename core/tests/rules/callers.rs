//! Which peers and addresses a rule lets call.

use picket_core::reason::{DecidedBy, DenyReason};
use picket_model::decision::Effect;
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration, decision};

/// A sidecar that trusts these trust domains, and whose rule for `/local` has these members as
/// well.
fn sidecar(trust_domains: &[&str], members: &Value) -> Sidecar {
    let mut document = configuration();
    document["trust_domains"] = json!(trust_domains);
    document["rules"][0].as_object_mut().unwrap().remove("peers");
    for (name, value) in members.as_object().unwrap() {
        document["rules"][1][name] = value.clone();
    }
    Sidecar::with(&document)
}

/// Checks who may call under a rule with these `peers`.
#[track_caller]
fn check(trust_domains: &[&str], peers: &Value, allowed: &[&str], refused: &[&str]) {
    let mut sidecar = sidecar(trust_domains, &json!({ "peers": peers }));
    for peer in allowed {
        sidecar.permits(&Caller::new().get("/local").peer(peer));
    }
    for peer in refused {
        let refusal = sidecar.refuses(&Caller::new().get("/local").peer(peer));
        assert_eq!(refusal.reason, DenyReason::PeerNotAllowed, "{peer}");
    }
}

#[test]
fn a_rule_names_peers_by_id_pattern_trust_domain_namespace_and_service_account() {
    let peers = json!({
        "spiffe_ids": ["spiffe://a.example/web"],
        "spiffe_id_patterns": ["spiffe://a.example/jobs/*/run", "spiffe://a.example/tools/**"],
        "namespaces": ["shop"],
        "service_accounts": ["ops/deploy"],
    });
    check(
        &["a.example"],
        &peers,
        &[
            "spiffe://a.example/web",
            "spiffe://a.example/jobs/1/run",
            "spiffe://a.example/tools/x/y",
            "spiffe://a.example/ns/shop/sa/web",
            "spiffe://a.example/ns/ops/sa/deploy",
        ],
        &[
            "spiffe://a.example/web2",
            "spiffe://a.example/web/x",
            "spiffe://a.example/jobs/run",
            "spiffe://a.example/tools",
            "spiffe://a.example/toolsmith/x",
            "spiffe://a.example/ns/shop",
            "spiffe://a.example/ns/shop/sa",
            "spiffe://a.example/ns/shop/sa/web/x",
            "spiffe://a.example/ns/shop/pod/web",
            "spiffe://a.example/ns/shops/sa/web",
            "spiffe://a.example/x/ns/shop/sa/web",
            "spiffe://a.example/ns/ops/sa/deployer",
            "spiffe://a.example/ns/other/sa/deploy",
            "spiffe://b.example/web",
            "spiffe://b.example/ns/shop/sa/web",
            "spiffe://b.example/ns/ops/sa/deploy",
            "spiffe://b.example/tools/x",
        ],
    );
    check(
        &["a.example", "b.example"],
        &json!({"trust_domains": ["b.example"], "spiffe_ids": ["spiffe://a.example/web"]}),
        &["spiffe://b.example/any", "spiffe://a.example/web"],
        &["spiffe://a.example/any", "spiffe://c.example/any"],
    );
}

#[test]
fn who_is_excluded_may_not_call_whoever_else_is_named() {
    let peers = json!({
        "trust_domains": ["a.example"],
        "spiffe_ids": ["spiffe://a.example/web"],
        "not_spiffe_ids": ["spiffe://a.example/web"],
        "not_spiffe_id_patterns": ["spiffe://a.example/jobs/**"],
        "not_namespaces": ["guests"],
        "not_service_accounts": ["shop/batch"],
    });
    check(
        &["a.example", "b.example"],
        &peers,
        &[
            "spiffe://a.example/other",
            "spiffe://a.example/jobs",
            "spiffe://a.example/ns/shop/sa/web",
            "spiffe://a.example/ns/guest/sa/web",
        ],
        &[
            "spiffe://a.example/web",
            "spiffe://a.example/jobs/1",
            "spiffe://a.example/ns/guests/sa/web",
            "spiffe://a.example/ns/guests/sa/web/x",
            "spiffe://a.example/ns/guests/x",
            "spiffe://a.example/ns/shop/sa/batch",
            "spiffe://b.example/other",
        ],
    );
}

#[test]
fn where_nobody_is_named_everybody_of_the_trust_domains_may_call_but_who_is_excluded() {
    check(
        &["a.example", "b.example"],
        &json!({"not_trust_domains": ["b.example"], "not_namespaces": ["guests"]}),
        &["spiffe://a.example/web"],
        &[
            "spiffe://a.example/ns/guests/sa/web",
            "spiffe://b.example/web",
            "spiffe://c.example/web",
        ],
    );
    check(
        &["a.example", "b.example"],
        &json!({"not_namespaces": ["guests"], "not_service_accounts": ["shop/batch"]}),
        &["spiffe://b.example/web", "spiffe://b.example/ns/shop/sa/web"],
        &[
            "spiffe://b.example/ns/guests/sa/web",
            "spiffe://b.example/ns/shop/sa/batch",
        ],
    );
}

#[test]
fn the_alias_of_a_trust_domain_is_replaced_wherever_the_peer_is_named() {
    let mut document = configuration();
    document["trust_domain_aliases"] = json!({"old.example": "example.org"});
    let mut sidecar = Sidecar::with(&document);
    let caller = Caller::new().get("/orders/7").peer("spiffe://old.example/web");
    let (request, pending) = sidecar.asks(&caller);
    assert_eq!(request.peer.unwrap().as_str(), "spiffe://example.org/web");
    let permit = sidecar.answers(pending, Ok(decision(Effect::Permit, 1000))).unwrap();
    let told = permit.headers_to_set().find(|(name, _)| *name == "x-picket-peer");
    assert_eq!(told, Some(("x-picket-peer", "spiffe://example.org/web")));
    for stranger in [
        "spiffe://other.example/web",
        "spiffe://old.example/other",
        "spiffe://old/web",
    ] {
        let refusal = sidecar.refuses(&caller.clone().peer(stranger));
        assert_eq!(refusal.reason, DenyReason::PeerNotAllowed, "{stranger}");
    }
    // Too long with the longer name, and so of no trust domain that anybody trusts.
    let longest = format!("spiffe://old.example/{}", "a".repeat(2048 - 21));
    document["trust_domain_aliases"] = json!({"old.example": "example.organisation"});
    document["trust_domains"] = json!(["example.org", "example.organisation"]);
    let refusal = Sidecar::with(&document).refuses(&Caller::new().get("/local").peer(&longest));
    assert_eq!(refusal.reason, DenyReason::PeerNotAllowed);
}

fn near() -> Value {
    json!({
        "source_addresses": ["10.0.0.0/8", "2001:db8::/32"],
        "not_source_addresses": ["10.9.0.0/16"],
    })
}

#[test]
fn a_rule_names_the_networks_that_requests_may_come_from() {
    let mut sidecar = sidecar(&["example.org"], &near());
    for (address, may) in [
        ("10.0.0.0", true),
        ("10.255.255.255", true),
        ("::ffff:10.0.0.1", true),
        ("2001:db8:ffff::1", true),
        ("9.255.255.255", false),
        ("11.0.0.0", false),
        ("10.9.0.0", false),
        ("10.9.255.255", false),
        ("::ffff:10.9.0.1", false),
        ("2001:db9::", false),
        ("no address", false),
    ] {
        let caller = Caller::new().get("/local").from(address);
        if may {
            sidecar.permits(&caller);
        } else {
            let refusal = sidecar.refuses(&caller);
            assert_eq!(
                (refusal.reason, refusal.decided_by),
                (DenyReason::SourceNotAllowed, DecidedBy::Local),
                "{address}"
            );
        }
    }
}

#[test]
fn a_rule_without_networks_asks_for_no_address() {
    let mut sidecar = sidecar(&["example.org"], &json!({"peer": "none", "credential": "none"}));
    sidecar.permits(
        &Caller::new()
            .get("/local")
            .no_bearer()
            .with_connection_that_may_not_be_asked(),
    );
}

#[test]
fn behind_trusted_hops_the_address_is_the_one_that_they_forwarded() {
    let mut document = configuration();
    for (name, value) in near().as_object().unwrap() {
        document["rules"][1][name] = value.clone();
    }
    document["forwarded_for_trusted_hops"] = json!(2);
    let mut sidecar = Sidecar::with(&document);
    let caller = Caller::new().get("/local").from("10.0.0.1");
    for (forwarded, may) in [
        (&["10.0.0.1, 192.0.2.1"][..], true),
        (&["10.0.0.1", "192.0.2.1"], true),
        (&["192.0.2.7, 10.0.0.1, 192.0.2.1"], true),
        (&["10.0.0.1:80, 192.0.2.1"], true),
        (&["[2001:db8::1]:80, 192.0.2.1"], true),
        (&["10.0.0.1, 192.0.2.1, 192.0.2.2"], false),
        (&["10.9.0.1, 192.0.2.1"], false),
        // Too few, none, or no address: nobody knows where it comes from.
        (&["10.0.0.1"], false),
        (&[], false),
        (&["10.0.0.1:http, 192.0.2.1"], false),
        (&["unknown, 192.0.2.1"], false),
        (&["10.0.0.1, , 192.0.2.1"], false),
    ] {
        let caller = forwarded.iter().fold(caller.clone(), |caller, line| {
            caller.one_more_header("x-forwarded-for", line)
        });
        if may {
            sidecar.permits(&caller);
        } else {
            assert_eq!(
                sidecar.refuses(&caller).reason,
                DenyReason::SourceNotAllowed,
                "{forwarded:?}"
            );
        }
    }
    let asked = caller
        .get("/orders/7")
        .header("x-forwarded-for", "::ffff:10.0.0.5, 192.0.2.1");
    let address = sidecar.asks(&asked).0.context.source_address;
    assert_eq!(address, "10.0.0.5".parse().ok());
}

#[test]
fn the_address_of_the_connection_counts_where_no_hop_is_trusted() {
    let mut sidecar = sidecar(&["example.org"], &near());
    let caller = Caller::new()
        .get("/local")
        .from("192.0.2.1")
        .header("x-forwarded-for", "10.0.0.1");
    assert_eq!(sidecar.refuses(&caller).reason, DenyReason::SourceNotAllowed);
}
