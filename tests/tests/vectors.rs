//! The vectors end to end: each request through a real Envoy with the filter, against the real policy service.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeSet;

use picket_core::reason::DenyReason;
use picket_tests::attack;
use picket_tests::exchange::{Exchange, parse};
use picket_tests::proof::still_serves;
use picket_tests::stack::{Options, Stack};
use picket_tests::vectors::{self, LENIENT, SHIPPED};

/// Reasons that no request alone can cause: the first two need a policy service that fails (`unavailable.rs`), the third an Envoy
/// that refuses the filter's calls, the fourth keys that are not there (`key_sets.rs`), the next three a certificate that expires
/// while its connection is open, or comes with a header, and a rule with networks (`peers.rs`), the next two other settings and more proofs (`possession.rs`), the next two an introspection
/// endpoint (`introspection.rs`), the next two access rules (`access_rules.rs`), the next a policy service with devices, the last one with sessions (`unavailable.rs`).
const ELSEWHERE: [&str; 15] = [
    "policy_service_unavailable",
    "policy_service_answer_invalid",
    "host_failure",
    "key_set_unavailable",
    "peer_not_yet_valid",
    "peer_expired",
    "source_not_allowed",
    "dpop_nonce_required",
    "dpop_ledger_full",
    "token_inactive",
    "introspection_unavailable",
    "access_rule_reject",
    "access_rule_no_accept",
    "device_not_trusted",
    "token_revoked",
];

async fn run(options: Options, vectors: &[Exchange]) {
    let mut stack = Stack::start(options).await.unwrap();
    vectors::check(&mut stack, vectors).await.unwrap();
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn the_shipped_sidecar_answers_each_vector_as_expected() {
    run(Options::default(), &parse(SHIPPED).unwrap()).await;
}

#[tokio::test]
async fn a_sidecar_that_leaves_everything_to_picket_answers_each_vector_as_expected() {
    run(Options::default().lenient(), &parse(LENIENT).unwrap()).await;
}

#[test]
fn every_reason_has_a_vector() {
    let vectors: Vec<Exchange> = [SHIPPED, LENIENT]
        .into_iter()
        .flat_map(|text| parse(text).unwrap())
        .collect();
    let mut tried: BTreeSet<&str> = vectors
        .iter()
        .filter_map(|vector| vector.expected.reason.as_deref())
        .collect();
    let attacks = attack::all().unwrap();
    tried.extend(attacks.iter().map(|attack| attack.expected.as_str()));
    tried.extend(ELSEWHERE);
    let known: BTreeSet<&str> = DenyReason::ALL.iter().map(|reason| reason.code()).collect();
    let untried: Vec<_> = known.difference(&tried).collect();
    assert!(untried.is_empty(), "no vector expects {untried:?}");
    let permits = BTreeSet::from(["policy_permit", "local_permit"]);
    let unknown: Vec<_> = tried
        .difference(&known)
        .filter(|code| !permits.contains(*code))
        .collect();
    assert!(
        unknown.is_empty(),
        "vectors expect reasons that do not exist: {unknown:?}"
    );
}
