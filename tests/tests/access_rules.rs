//! Access rules in a real Envoy: what only its properties tell, and what is counted.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::exchange::{Protocol, RequestSpec, Via};
use picket_tests::fake_policy_service::Mode;
use picket_tests::proof::still_serves;
use picket_tests::session::Session;
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
async fn a_subject_with_slashes_is_what_follows_the_issuer() {
    let access = "reject: [ { id: a, from: [ { principals: [ 'https://issuer.example/users/7/alice' ] } ] } ]";
    let stack = Stack::start(with_access(access)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for (subject, reason) in [("users/7/alice", "access_rule_reject"), ("alice", "policy_permit")] {
        let answer = session.send(&request(&[], &TokenSpec::of(subject))).await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some(reason), "{subject}: {answer:?}");
    }
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

/// A callee that rejects a peer and an address on a rule that asks for neither, behind one proxy.
fn with_rejections() -> Options {
    let (workload, trusted) = ("workload: orders", "trust_domains: [ example.org ]");
    let access = "reject: [ { id: peer, from: [ { peers: [ 'spiffe://example.org/billing' ] } ] }, \
                  { id: address, from: [ { source_addresses: [ 203.0.113.7 ] } ] } ]";
    let margin = "\n                    ";
    let health = "paths: [ \"/healthz\" ]";
    Options::default()
        .edit(workload, &format!("{workload}{margin}forwarded_for_trusted_hops: 2"))
        .edit(trusted, &format!("{trusted}{margin}access: {{ {access} }}"))
        .edit(health, &format!("{health}{margin}  peer: none"))
}

async fn check_rejections(options: Options) {
    let stack = Stack::start(options).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for (peer, address, reason) in [
        ("web", "198.51.100.9", "local_permit"),
        ("web", "198.51.100.9:51342", "local_permit"),
        ("web", "[2001:db8::7]:51342", "local_permit"),
        ("web", "203.0.113.7", "access_rule_reject"),
        ("web", "203.0.113.7:51342", "access_rule_reject"),
        ("web", "[::ffff:203.0.113.7]:51342", "access_rule_reject"),
        ("web", "unknown", "access_rule_reject"),
        ("web", "203.0.113.7, ", "access_rule_reject"),
        ("billing", "198.51.100.9", "access_rule_reject"),
        ("two-names", "198.51.100.9", "peer_malformed"),
        ("no-name", "198.51.100.9", "peer_malformed"),
        ("not-spiffe", "198.51.100.9", "peer_malformed"),
        ("foreign", "198.51.100.9", "peer_not_allowed"),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let request = RequestSpec {
                via: Via::Direct,
                peer: Some(peer.to_owned()),
                protocol,
                path: "/healthz".to_owned(),
                headers: vec![("x-forwarded-for".to_owned(), address.to_owned())],
                ..RequestSpec::default()
            };
            let before = stack.upstream().requests();
            let answer = session.send(&request).await.unwrap();
            assert_eq!(answer.reason().as_deref(), Some(reason), "{peer} {address}: {answer:?}");
            let is_forwarded = stack.upstream().requests() > before;
            assert_eq!(is_forwarded, reason == "local_permit", "{peer} {address}");
        }
    }
}

#[tokio::test]
async fn a_peer_or_an_address_that_nobody_can_read_does_not_pass_a_rejection() {
    check_rejections(with_rejections()).await;
}

#[tokio::test]
async fn nor_does_it_where_the_policy_service_answers_envoy() {
    check_rejections(with_rejections().externally()).await;
}
