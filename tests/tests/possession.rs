//! Proofs of possession in a real Envoy, whose workers share what they know of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;

use picket_tests::client::Answer;
use picket_tests::client::http1::Http1Connection;
use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::dpop::ProofSpec;
use picket_tests::exchange::{RequestSpec, Scheme};
use picket_tests::fake_policy_service::Mode;
use picket_tests::proof::still_serves;
use picket_tests::stack::{Options, Stack, WORKERS};
use picket_tests::token::TokenSpec;
use picket_tests::upstream::NONCE_TO_ANSWER;
use picket_tests::wait;
use tokio::task::JoinSet;

/// The kernel spreads connections over the workers: that one of two gets none of 32 happens once in 2^31.
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 8;

/// A stack whose sidecar has these settings for proofs.
async fn stack(dpop: &str) -> Stack {
    let with_settings = format!("dpop: {dpop}\n                    forward_credential: false");
    let options = Options::default()
        .fake(Mode::Permit)
        .edit("forward_credential: false", &with_settings);
    Stack::start(options).await.unwrap()
}

fn bound_token(stack: &Stack) -> String {
    TokenSpec::of("alice").bound().mint(stack.keys()).unwrap()
}

/// `GET /orders/1` with this token and a proof.
fn request(stack: &Stack, token: &str, proof: ProofSpec) -> Vec<u8> {
    let spec = RequestSpec {
        scheme: Scheme::Dpop,
        proof: Some(proof),
        ..RequestSpec::default()
    };
    spec.proved(stack.keys(), Some(token)).unwrap().http1(Some(token))
}

async fn connect(stack: &Stack) -> Http1Connection {
    let identity = stack.keys().identity("web").unwrap();
    let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http1, stack.inbound_address())
        .await
        .unwrap();
    Http1Connection::new(io)
}

async fn send(connection: &mut Http1Connection, bytes: &[u8]) -> Answer {
    wait::within("an answer", connection.exchange(bytes)).await.unwrap()
}

/// Sends the same bytes on each connection at once. Returns the reasons of the answers with their numbers, and the connections.
async fn send_on_each(
    connections: Vec<Http1Connection>,
    bytes: &[u8],
) -> (BTreeMap<String, usize>, Vec<Http1Connection>) {
    let mut sendings = JoinSet::new();
    for mut connection in connections {
        let bytes = bytes.to_vec();
        sendings.spawn(async move { (send(&mut connection, &bytes).await, connection) });
    }
    let (mut reasons, mut connections) = (BTreeMap::new(), Vec::new());
    for (answer, connection) in sendings.join_all().await {
        *reasons.entry(answer.reason().unwrap_or_default()).or_default() += 1;
        connections.push(connection);
    }
    (reasons, connections)
}

async fn proofs(stack: &Stack, result: &str) -> u64 {
    let suffix = format!("picket_dpop_proofs.result.{result}");
    let counters = stack.inbound_stats(|name| name.ends_with(&suffix)).await.unwrap();
    counters.iter().map(|(_, count)| count).sum()
}

async fn connections_of_workers(stack: &Stack) -> Vec<u64> {
    let is_of_worker = |name: &str| {
        !name.starts_with("listener.admin.") && name.contains(".worker_") && name.ends_with(".downstream_cx_total")
    };
    let counters = stack.inbound_stats(is_of_worker).await.unwrap();
    counters.into_iter().map(|(_, count)| count).collect()
}

#[tokio::test]
async fn of_many_connections_that_send_one_proof_at_once_one_is_permitted() {
    let mut stack = stack("{}").await;
    let token = bound_token(&stack);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(&stack).await);
    }
    let by_worker = connections_of_workers(&stack).await;
    assert!(
        by_worker.len() == WORKERS as usize && by_worker.iter().all(|count| *count > 0),
        "{by_worker:?}"
    );
    let expected = BTreeMap::from([
        ("policy_permit".to_owned(), 1),
        ("dpop_proof_replayed".to_owned(), CONNECTIONS - 1),
    ]);
    let before = stack.upstream().requests();
    for round in 0..ROUNDS {
        let bytes = request(&stack, &token, ProofSpec::default());
        let (reasons, kept) = send_on_each(connections, &bytes).await;
        assert_eq!(reasons, expected, "in round {round}");
        connections = kept;
    }
    assert_eq!(stack.upstream().requests() - before, ROUNDS as u64);
    // The workers hand over what they counted a few times a second.
    wait::until("the proofs are counted", || async {
        let counted = (proofs(&stack, "passed").await, proofs(&stack, "failed").await);
        let expected = (ROUNDS as u64, (ROUNDS * (CONNECTIONS - 1)) as u64);
        Ok((counted == expected).then_some(()))
    })
    .await
    .unwrap();
    still_serves(&mut stack).await.unwrap();
}

fn with_nonce(stack: &Stack, token: &str, nonce: &str) -> Vec<u8> {
    request(stack, token, ProofSpec::default().claim("nonce", nonce))
}

#[tokio::test]
async fn a_nonce_of_one_worker_is_taken_by_all() {
    let mut stack = stack("{ nonce: required }").await;
    let token = bound_token(&stack);
    let bytes = request(&stack, &token, ProofSpec::default());
    let refusal = send(&mut connect(&stack).await, &bytes).await;
    assert_eq!(
        (refusal.status, refusal.reason().as_deref()),
        (401, Some("dpop_nonce_required")),
        "{refusal:?}"
    );
    let challenge = refusal.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.starts_with("DPoP ") && challenge.contains("error=\"use_dpop_nonce\""),
        "{challenge}"
    );
    let nonce = refusal.header("dpop-nonce").unwrap_or_default();
    let before = connections_of_workers(&stack).await;
    for _ in 0..CONNECTIONS {
        let answer = send(&mut connect(&stack).await, &with_nonce(&stack, &token, &nonce)).await;
        assert_eq!(answer.reason().as_deref(), Some("policy_permit"), "{answer:?}");
    }
    let after = connections_of_workers(&stack).await;
    assert!(
        before.iter().zip(&after).all(|(before, after)| after > before),
        "{after:?}"
    );
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_response_brings_the_next_nonce_before_the_last_one_ends() {
    let stack = stack("{ nonce: required, nonce_window_s: 2 }").await;
    let token = bound_token(&stack);
    let mut connection = connect(&stack).await;
    let renewal = async {
        let mut nonce = String::new();
        loop {
            let answer = send(&mut connection, &with_nonce(&stack, &token, &nonce)).await;
            let next = answer.header("dpop-nonce");
            match (answer.status, next) {
                // The window has not ended yet.
                (200, None) => {}
                (200, Some(next)) => return Ok((answer, nonce, next)),
                // The first request, or one after a long pause of this machine.
                (_, next) => nonce = next.unwrap_or_default(),
            }
        }
    };
    let (answer, nonce, next) = wait::within("a response brings a nonce", renewal).await.unwrap();
    assert_ne!(nonce, next);
    // RFC 9449 §8.2: a nonce out of a cache would be an old one.
    assert_eq!(
        answer.header("cache-control").as_deref(),
        Some("no-store"),
        "{answer:?}"
    );
    let answer = send(&mut connection, &with_nonce(&stack, &token, &next)).await;
    assert_eq!(answer.reason().as_deref(), Some("policy_permit"), "{answer:?}");
}

/// A response's `dpop-nonce`, where the upstream sends one of its own beside a proof that holds.
async fn nonce_beside_the_upstreams(options: Options) -> (String, Option<String>) {
    let stack = Stack::start(options).await.unwrap();
    let token = bound_token(&stack);
    let mut connection = connect(&stack).await;
    let refusal = send(&mut connection, &request(&stack, &token, ProofSpec::default())).await;
    let ours = refusal.header("dpop-nonce").unwrap_or_default();
    let spec = RequestSpec {
        scheme: Scheme::Dpop,
        proof: Some(ProofSpec::default().claim("nonce", ours.as_str())),
        headers: vec![(NONCE_TO_ANSWER.to_owned(), "upstreams-own".to_owned())],
        ..RequestSpec::default()
    };
    let bytes = spec.proved(stack.keys(), Some(&token)).unwrap().http1(Some(&token));
    let answer = send(&mut connection, &bytes).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (ours, answer.header("dpop-nonce"))
}

#[tokio::test]
async fn where_nonces_are_required_the_upstreams_own_reaches_no_client() {
    let options = |dpop: &str| {
        let with_settings = format!("dpop: {dpop}\n                    forward_credential: false");
        Options::default().edit("forward_credential: false", &with_settings)
    };
    // An hour's window: the nonce of the second request is that of the first.
    let required = "{ nonce: required, nonce_window_s: 3600 }";
    let (_, with_filter) = nonce_beside_the_upstreams(options(required)).await;
    assert_eq!(with_filter, None);
    // Envoy's external authorization can put another value in its place, and not remove it.
    let (ours, externally) = nonce_beside_the_upstreams(options(required).externally()).await;
    assert_eq!(externally, Some(ours));
    let (_, without) = nonce_beside_the_upstreams(options("{}")).await;
    assert_eq!(without.as_deref(), Some("upstreams-own"));
}

#[tokio::test]
async fn a_full_ledger_answers_503_and_forgets_nothing() {
    // One proof in each bucket: of a few dozens, two fall into the same.
    let mut stack = stack("{ ledger_entries_max: 1024 }").await;
    let token = bound_token(&stack);
    let mut connection = connect(&stack).await;
    let mut used = Vec::new();
    let refusal = loop {
        let bytes = request(&stack, &token, ProofSpec::default());
        let answer = send(&mut connection, &bytes).await;
        if answer.status != 200 {
            break answer;
        }
        used.push(bytes);
        assert!(used.len() <= 1024, "more proofs than there is room for");
    };
    assert_eq!(
        (refusal.status, refusal.reason().as_deref()),
        (503, Some("dpop_ledger_full")),
        "{refusal:?}"
    );
    assert_eq!(refusal.header("retry-after").as_deref(), Some("1"));
    for bytes in used {
        let answer = send(&mut connection, &bytes).await;
        assert_eq!(answer.reason().as_deref(), Some("dpop_proof_replayed"), "{answer:?}");
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_proof() {
    let mut stack = stack("{}").await;
    let token = bound_token(&stack);
    let head = format!("GET /orders/1 HTTP/1.1\r\nhost: orders.example.org\r\nauthorization: DPoP {token}\r\ndpop: ");
    let long = "a".repeat(9000);
    for value in [
        &b"\xff\xfe"[..],
        b"..",
        b"e30.e30.",
        b"",
        b"\xc3\x28.a.b",
        long.as_bytes(),
    ] {
        let bytes = [head.as_bytes(), value, b"\r\n\r\n"].concat();
        let answer = send(&mut connect(&stack).await, &bytes).await;
        // Envoy may refuse itself what is not ASCII.
        let by_envoy = answer.status == 400 && answer.reason().is_none() && !value.is_ascii();
        assert!(
            by_envoy || answer.reason().as_deref() == Some("dpop_proof_invalid"),
            "{answer:?}"
        );
    }
    still_serves(&mut stack).await.unwrap();
}
