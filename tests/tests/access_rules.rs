//! Access rules in a real Envoy: what only its properties tell, and what is counted.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::client::session::Session;
use picket_tests::exchange::{RequestSpec, Via};
use picket_tests::fake_policy_service::Mode;
use picket_tests::proof::still_serves;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

/// A callee with these access rules, in YAML's flow style.
fn with_access(access: &str) -> Options {
    let trusted = "trust_domains: [ example.org ]";
    Options::default().fake(Mode::Permit).wide().edit(
        trusted,
        &format!("{trusted}\n                    access: {{ {access} }}"),
    )
}

fn request(headers: &[(&str, &str)], claims: &TokenSpec) -> RequestSpec {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    RequestSpec {
        via: Via::Direct,
        token: Some(claims.clone()),
        headers: headers.collect(),
        ..RequestSpec::default()
    }
}

/// Sends requests with these headers, and checks the reason of each answer.
async fn check(access: &str, cases: &[(&[(&str, &str)], &str)]) {
    let stack = Stack::start(with_access(access)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for (headers, reason) in cases {
        let before = stack.upstream().requests();
        let answer = session.send(&request(headers, &TokenSpec::of("alice"))).await.unwrap();
        assert_eq!(
            answer.reason().as_deref(),
            Some(*reason),
            "{access} {headers:?}: {answer:?}"
        );
        let forwarded = stack.upstream().requests() - before;
        assert_eq!(forwarded > 0, *reason == "policy_permit", "{access} {headers:?}");
    }
    // `still_serves` sends requests that these rules may refuse; a worker that failed answers with no reason of Picket's.
}

#[tokio::test]
async fn rejection_comes_before_acceptance_and_before_the_cache() {
    check(
        "reject: [ { id: a, when: [ { header: x-test, values: [ '*' ] } ] } ], \
         accept: [ { id: b, from: [ { principals: [ '*/alice' ], peers: [ 'spiffe://example.org/*' ] } ] } ]",
        &[
            (&[], "policy_permit"),
            (&[("x-test", "1")], "access_rule_reject"),
            (&[("x-test", "")], "access_rule_reject"),
            (&[], "policy_permit"),
        ],
    )
    .await;
    check(
        "accept: [ { id: b, from: [ { principals: [ '*/bob' ] } ] } ]",
        &[(&[], "access_rule_no_accept")],
    )
    .await;
}

#[tokio::test]
async fn envoy_says_what_the_connection_was_made_to() {
    check(
        "accept: [ { id: a, from: [ { connection_addresses: [ 127.0.0.0/8 ] } ], \
         when: [ { attribute: destination_address, values: [ 127.0.0.0/8 ] } ] } ]",
        &[(&[], "policy_permit")],
    )
    .await;
    check(
        "reject: [ { id: a, to: [ { not_ports: [ 1 ] } ] } ]",
        &[(&[], "access_rule_reject")],
    )
    .await;
    check(
        "reject: [ { id: a, to: [ { ports: [ 1 ] } ] } ]",
        &[(&[], "policy_permit")],
    )
    .await;
    check(
        "reject: [ { id: a, when: [ { attribute: server_name, values: [ 'no.such.name' ] } ] } ]",
        &[(&[], "policy_permit")],
    )
    .await;
}

#[tokio::test]
async fn what_is_observed_is_counted_and_refuses_nothing() {
    let access = "audit: [ { id: a } ], observe: { reject: [ { id: b } ], accept: [] }";
    let mut stack = Stack::start(with_access(access)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let answer = session.send(&request(&[], &TokenSpec::of("alice"))).await.unwrap();
    assert_eq!(answer.reason().as_deref(), Some("policy_permit"), "{answer:?}");
    let names =
        ["would_reject", "would_not_accept", "audited"].map(|result| format!("picket_access_observed.result.{result}"));
    // The workers hand over what they counted a few times a second.
    let inbound = &*stack.inbound();
    wait::until("all is counted", || async {
        let counted = inbound.stats(|name| name.contains("picket_access_observed")).await?;
        let is_counted = |wanted: &String| {
            counted
                .iter()
                .any(|(name, count)| name.ends_with(wanted.as_str()) && *count == 1)
        };
        Ok(names.iter().all(is_counted).then_some(()))
    })
    .await
    .unwrap();
    still_serves(&mut stack).await.unwrap();
}
