//! No copy of a header that Picket sets comes from the client.

use picket_core::transaction_token;
use serde_json::Value;

use picket_tests::clock;
use picket_tests::exchange::{Protocol, RequestSpec, Via};
use picket_tests::fake_policy_service::Mode;
use picket_tests::proof::still_serves;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;

/// Spellings of names that Picket owns, and of names that a careless upstream takes for them.
const FORGED: [&str; 15] = [
    "x-picket-subject",
    "X-Picket-Subject",
    "X_Picket_Subject",
    "x_picket-subject",
    "x-picket_subject",
    "X-PICKET-ROLES",
    "x-picket-roles",
    "x-picket-tenant",
    "x-picket-scopes",
    "x-picket-issuer",
    "x-picket-peer",
    "x-picket-decision-id",
    "x-picket-route-rule",
    "x-picket-some-future-header",
    "x.picket.subject",
];

/// RFC 7515 §A.1.
const TRANSACTION_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

#[tokio::test]
async fn the_upstream_gets_a_transaction_token_and_no_copy_of_the_clients() {
    let options = Options::default()
        .edit(
            "                  vm_id: picket\n",
            &format!(
                "                  vm_id: picket\n                  \
                 environment_variables: {{ key_values: {{ TXN_KEY: \"{TRANSACTION_KEY}\" }} }}\n"
            ),
        )
        .edit(
            "                    workload: orders\n",
            "                    workload: orders\n                    transaction_token: { key_variable: TXN_KEY }\n",
        );
    let mut stack = Stack::start(options).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    // The second answer is the cache's.
    for _ in 0..2 {
        let request = RequestSpec {
            token: Some(TokenSpec::of("alice")),
            headers: vec![
                ("txn-token".to_owned(), "forged".to_owned()),
                ("Txn_Token".to_owned(), "forged".to_owned()),
            ],
            ..RequestSpec::default()
        };
        let echo = session.send(&request).await.unwrap().json().unwrap();
        assert_eq!(upstream_header(&echo, "txn_token"), [""; 0]);
        let tokens = upstream_header(&echo, "txn-token");
        let [token] = tokens.as_slice() else {
            panic!("{tokens:?}")
        };
        let key = transaction_token::read_key(TRANSACTION_KEY).unwrap();
        let inspected = transaction_token::inspect(token, Some(&key)).unwrap();
        assert_eq!(inspected.is_signed, Some(true));
        let claims = inspected.claims;
        assert_eq!((claims.aud.as_str(), claims.sub.as_deref()), ("orders", Some("alice")));
        assert_eq!(claims.req_wl.as_deref(), Some("spiffe://example.org/web"));
        assert!(claims.exp > clock::now_s());
        assert_eq!(
            claims.rctx.decision_id,
            upstream_header(&echo, "x-picket-decision-id")
                .first()
                .map(|id| (*id).to_owned())
        );
    }
    still_serves(&mut stack).await.unwrap();
}

/// The values of a header as the upstream received them.
fn upstream_header<'e>(echo: &'e Value, name: &str) -> Vec<&'e str> {
    let pairs = echo["headers"].as_array().into_iter().flatten();
    pairs
        .filter(|pair| pair[0].as_str().is_some_and(|have| have.eq_ignore_ascii_case(name)))
        .filter_map(|pair| pair[1].as_str())
        .collect()
}

#[tokio::test]
async fn a_forged_identity_header_never_arrives_however_it_is_spelt() {
    let mut stack = Stack::start(Options::default().fake(Mode::Permit).wide())
        .await
        .unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for (via, protocol) in [
        (Via::Sidecar, Protocol::Http1),
        (Via::Direct, Protocol::Http1),
        (Via::Direct, Protocol::Http2),
        (Via::Direct, Protocol::Grpc),
    ] {
        let is_grpc = protocol == Protocol::Grpc;
        let mut request = RequestSpec {
            via,
            protocol,
            method: if is_grpc { "POST" } else { "GET" }.to_owned(),
            path: if is_grpc { "/orders.v1.Orders/List" } else { "/orders/1" }.to_owned(),
            token: Some(TokenSpec::of("alice")),
            ..RequestSpec::default()
        };
        for name in FORGED {
            let name = if protocol == Protocol::Http1 {
                name.to_owned()
            } else {
                name.to_ascii_lowercase()
            };
            // Twice, because the first of several may be what is stripped.
            request.headers.push((name.clone(), "forged".to_owned()));
            request.headers.push((name, "forged-again".to_owned()));
        }
        let answer = session.send(&request).await.unwrap();
        assert_eq!(
            answer.reason().as_deref(),
            Some("policy_permit"),
            "{via:?} {protocol:?}: {answer:?}"
        );
        let echo = answer.json().expect("what the upstream received");
        let headers = echo["headers"].as_array().unwrap();
        for pair in headers {
            let value = pair[1].as_str().unwrap();
            assert!(!value.contains("forged"), "{via:?} {protocol:?}: {pair}");
        }
        assert_eq!(
            answer.received_by_upstream("x-picket-subject"),
            ["alice"],
            "{via:?} {protocol:?}"
        );
        assert_eq!(
            answer.received_by_upstream("x-picket-peer"),
            ["spiffe://example.org/web"],
            "{via:?} {protocol:?}"
        );
        assert_eq!(
            answer.received_by_upstream("authorization"),
            Vec::<String>::new(),
            "{via:?} {protocol:?}"
        );
        assert_eq!(
            answer.received_by_upstream("x-forwarded-client-cert"),
            Vec::<String>::new()
        );
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_request_that_a_local_rule_permits_carries_no_forged_identity_either() {
    let mut stack = Stack::start(Options::default().fake(Mode::Permit).wide())
        .await
        .unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let mut request = RequestSpec {
        path: "/healthz".to_owned(),
        ..RequestSpec::default()
    };
    request.headers = FORGED.map(|name| (name.to_owned(), "forged".to_owned())).to_vec();
    let answer = session.send(&request).await.unwrap();
    assert_eq!(answer.reason().as_deref(), Some("local_permit"), "{answer:?}");
    let echo = answer.json().expect("what the upstream received");
    assert!(!echo.to_string().contains("forged"), "{echo}");
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn identity_in_a_token_cannot_break_out_of_its_header() {
    let mut stack = Stack::start(Options::default().fake(Mode::Permit)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let mut token = TokenSpec::of("al\r\nx-picket-roles: root\r\n\u{e9}\u{0}");
    token
        .claims
        .insert("roles".to_owned(), Value::from(vec!["a,b", "c d", "e"]));
    let request = RequestSpec {
        token: Some(token),
        ..RequestSpec::default()
    };
    let answer = session.send(&request).await.unwrap();
    if answer.status == 200 {
        let roles = answer.received_by_upstream("x-picket-roles");
        assert_eq!(roles.len(), 1, "{roles:?}");
        assert_eq!(
            roles[0].split(',').count(),
            3,
            "a comma in a role made another role: {roles:?}"
        );
        let subjects = answer.received_by_upstream("x-picket-subject");
        assert_eq!(subjects.len(), 1, "{subjects:?}");
        assert!(
            subjects[0].bytes().all(|byte| (0x21..=0x7e).contains(&byte)),
            "{subjects:?}"
        );
    } else {
        assert!([400, 401].contains(&answer.status), "{answer:?}");
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn permitted_responses_say_who_decided_only_where_the_configuration_asks_for_it() {
    for explains in [true, false] {
        let options = Options::default().fake(Mode::Permit);
        let options = if explains { options } else { options.silent_permits() };
        let stack = Stack::start(options).await.unwrap();
        let mut session = Session::new(stack.keys(), stack.entrances());
        let request = RequestSpec {
            token: Some(TokenSpec::of("alice")),
            ..RequestSpec::default()
        };
        let answer = session.send(&request).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.reason().is_some(), explains, "{answer:?}");
        assert_eq!(answer.decided_by().is_some(), explains, "{answer:?}");
    }
}

#[tokio::test]
async fn envoy_chooses_the_route_anew_when_a_forged_header_is_gone() {
    // What a client wrote would lead to another route than what Picket writes.
    let to = |name: &str, value: &str, status: u16| {
        let matched =
            format!("{{ prefix: \"/\", headers: [ {{ name: {name}, string_match: {{ exact: {value} }} }} ] }}");
        format!("              - match: {matched}\n                direct_response: {{ status: {status} }}\n")
    };
    let routes = to("x-picket-subject", "mallory", 418) + &to("x-user-email", "mallory", 418);
    let options = Options::default()
        .fake(Mode::Permit)
        .edit("              routes:\n", &format!("              routes:\n{routes}"))
        .edit(
            "                      clock_skew_s: 60\n",
            "                      clock_skew_s: 60\n                      \
             claim_headers: [ { claim: email, header: x-user-email } ]\n",
        );
    let mut stack = Stack::start(options).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for name in ["x-picket-subject", "x-user-email"] {
        let request = RequestSpec {
            token: Some(TokenSpec::of("alice")),
            headers: vec![(name.to_owned(), "mallory".to_owned())],
            ..RequestSpec::default()
        };
        let answer = session.send(&request).await.unwrap();
        assert_eq!(answer.status, 200, "{name}");
    }
    still_serves(&mut stack).await.unwrap();
}
