//! What must hold for every input: no bytes make the rules panic, and one cached answer is one
//! question's.

use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Arrival, Enforcer, Step, reply};
use picket_core::jose::signature::SoftwareVerifier;
use picket_model::access::AccessRequest;
use picket_model::decision::{Attribute, Decision, Effect, Vary};
use picket_model::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration, decision};

fn enforcer(document: &Value) -> Enforcer {
    let configuration = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap();
    let proofs = ProofMemory::of_one_worker(SharedSecret::new([3; 32]), &configuration.dpop);
    Enforcer::new(
        configuration,
        String::new(),
        1,
        std::rc::Rc::new(SoftwareVerifier),
        proofs,
    )
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let known = select(vec![
        ":method",
        ":path",
        ":authority",
        "host",
        "authorization",
        "content-type",
        "user-agent",
        "x-request-id",
    ]);
    let name = prop_oneof![known.prop_map(str::to_owned), "[a-z_:-]{0,12}"];
    let text =
        prop_oneof!["/[ -~]{0,40}", "Bearer [A-Za-z0-9._-]{0,60}", "[a-z.:0-9]{0,20}"].prop_map(String::into_bytes);
    (name, prop_oneof![vec(any::<u8>(), 0..40), text])
}

/// A caller that differs from others in what policies see, or in what they do not.
fn caller() -> impl Strategy<Value = Caller> {
    let path = select(vec![
        "/orders/1",
        "/orders/2",
        "/orders/1?q",
        "/x/../orders/1",
        "/orders/%31",
    ]);
    let peer = select(vec!["spiffe://example.org/web", "spiffe://example.org/admin"]);
    let address = select(vec!["10.0.0.1", "10.0.0.2", "::1"]);
    let agent = select(vec!["", "a", "b"]);
    let certificate = select(vec![None, Some([1; 32]), Some([2; 32])]);
    let host = select(vec!["orders.example.org", "other.example.org", "ORDERS.example.org:1"]);
    (
        path,
        peer,
        address,
        agent,
        host,
        select(vec!["GET", "HEAD"]),
        select(vec!["r1", "r2"]),
        certificate,
    )
        .prop_map(|(path, peer, address, agent, host, method, id, certificate)| {
            let caller = Caller::new().get(path).method(method).peer(peer).from(address);
            let caller = match certificate {
                Some(thumbprint) => caller.certificate(thumbprint),
                None => caller,
            };
            caller
                .header("user-agent", agent)
                .header(":authority", host)
                .header("x-request-id", id)
        })
}

proptest! {
    #[test]
    fn any_headers_get_one_verdict_and_no_panic(headers in vec(header(), 0..12), ms in any::<u64>()) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let arrival = Arrival { headers: &headers, connection: &Caller::new(), now: Timestamp::from_ms(ms) };
        match enforcer(&configuration()).on_request(&arrival).0 {
            Step::Decided(Err(refusal)) => {
                let reply = reply(&refusal, "orders");
                let is_visible = |value: &str| value.bytes().all(|b| (0x20..0x7f).contains(&b));
                prop_assert!(reply.headers.iter().all(|(_, value)| is_visible(value)));
                let in_headers = reply.headers.iter().any(|(name, _)| *name == "grpc-status");
                prop_assert!(reply.status >= 400 || reply.grpc_status.is_some() || in_headers);
            }
            // Without a valid token only the rule that needs none lets a request go on.
            Step::Decided(Ok(permit)) => {
                let rule = permit.headers_to_set().find(|(name, _)| *name == "x-picket-route-rule");
                prop_assert_eq!(rule, Some(("x-picket-route-rule", "open")));
            }
            asked @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => prop_assert!(false, "asked without a token: {:?}", asked),
        }
    }

    #[test]
    fn anything_that_a_hop_forwards_is_a_peer_or_none_and_no_panic(
        fields in vec(prop_oneof![
            vec(any::<u8>(), 0..60),
            "[\\[{\"uri:]{0,20}".prop_map(String::into_bytes),
            r#"(URI|Cert|Hash|By|Subject)=["\\%:/a-z;,=0-9]{0,40}"#.prop_map(String::into_bytes),
        ], 1..4),
        header in select(vec!["x-forwarded-client-cert", "client-cert"]),
    ) {
        let mut document = configuration();
        document["forwarded_peer"] = json!({"hop_spiffe_ids": ["spiffe://example.org/gateway"], "header": header});
        let mut headers: Vec<(&str, &[u8])> = vec![(":method", b"GET"), (":path", b"/local"), (":authority", b"h")];
        headers.extend(fields.iter().map(|value| (header, value.as_slice())));
        let caller = Caller::new().peer("spiffe://example.org/gateway");
        let arrival = Arrival { headers: &headers, connection: &caller, now: Timestamp::from_ms(0) };
        let step = enforcer(&document).on_request(&arrival).0;
        // Nobody here is of the trust domain, and no token was sent.
        let refused = matches!(&step, Step::Decided(Err(refusal)) if refusal.reason.status() == 403);
        prop_assert!(refused, "{:?}", step);
    }

    #[test]
    fn any_token_gets_a_verdict_and_no_panic(parts in vec(prop_oneof![
        Just("eyJhbGciOiJFUzI1NiJ9".to_owned()), "[A-Za-z0-9_-]{0,80}", "\\PC{0,20}"], 0..5)) {
        let mut sidecar = Sidecar::new();
        let refusal = sidecar.refuses(&Caller::new().get("/local").bearer(&parts.join(".")));
        prop_assert!(matches!(refusal.reason.status(), 400 | 401));
    }

    #[test]
    fn any_configuration_is_read_or_refused_without_panic(text in "\\PC{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(FilterConfiguration::parse(text.as_bytes()).is_err());
        prop_assert!(FilterConfiguration::parse(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The service here answers with a permit only to questions that it has been asked; a cached
    /// permit for any other question would be one that it never gave.
    #[test]
    fn a_cached_answer_was_given_to_an_equal_question(callers in vec(caller(), 1..40)) {
        let mut sidecar = Sidecar::new();
        let mut asked = Vec::new();
        for caller in &callers {
            // What a fresh sidecar would ask for this caller.
            let mut question = Sidecar::new().asks(caller).0;
            question.request_id.clear();
            match sidecar.sends(caller).0 {
                Step::Ask(ask) => {
                    prop_assert!(!asked.contains(&question), "asked twice: {:?}", question);
                    asked.push(question);
                    let _ = sidecar.answers(ask.pending, Ok(decision(Effect::Permit, 1000)));
                }
                Step::Decided(verdict) => {
                    prop_assert!(verdict.is_ok());
                    prop_assert!(asked.contains(&question), "answered without having been asked: {:?}", question);
                }
                other @ (Step::Introspect(_) | Step::AwaitKeys(_)) => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// A service that reads the method first and then, by what it is, the path and the device, or
    /// where the request comes from: what is cached must be what it would say now.
    #[test]
    fn a_cached_answer_is_the_answer_that_would_be_given_now(callers in vec(caller(), 1..60)) {
        let mut sidecar = Sidecar::new();
        for caller in &callers {
            let fresh = answer_by_method(&Sidecar::new().asks(caller).0);
            let verdict = match sidecar.sends(caller).0 {
                Step::Ask(ask) => sidecar.answers(ask.pending, Ok(answer_by_method(&ask.request))),
                Step::Decided(verdict) => verdict,
                other @ (Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("{other:?}"),
            };
            prop_assert_eq!(verdict.is_ok(), fresh.effect == Effect::Permit, "{:?}", caller);
        }
    }
}

fn answer_by_method(request: &AccessRequest) -> Decision {
    let method = Vary::NOTHING.with(Attribute::Method);
    let (permits, vary) = match request.action.method.as_str() {
        "GET" => {
            let device = request.context.possession.certificate.map(|thumbprint| thumbprint.0);
            (
                request.resource.path == "/orders/1" && device != Some([2; 32]),
                method.with(Attribute::Path).with(Attribute::Device),
            )
        }
        _ => {
            let is_near = request.context.source_address.is_some_and(|address| address.is_ipv4());
            let has_agent = request.context.user_agent.is_some();
            (
                is_near && has_agent,
                method.with(Attribute::SourceAddress).with(Attribute::UserAgent),
            )
        }
    };
    let effect = if permits { Effect::Permit } else { Effect::Deny };
    Decision {
        vary,
        risk: None,
        ..decision(effect, 1000)
    }
}
