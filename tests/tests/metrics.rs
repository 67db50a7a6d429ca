//! What an operator sees on Envoy's Prometheus endpoint.

use picket_tests::exchange::RequestSpec;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack, WORKERS};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

/// The value of the one sample of `metric` whose labels contain all of `labels`.
fn sample(text: &str, metric: &str, labels: &[&str]) -> Option<u64> {
    text.lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(metric))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .reduce(|a: u64, b: u64| a.saturating_add(b))
}

#[tokio::test]
async fn requests_are_counted_by_outcome_and_reason() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let token = TokenSpec::of("alice").mint(stack.keys()).unwrap();
    let request = RequestSpec::default();
    for _ in 0..3 {
        let (answer, _) = session.send_with(&request, Some(&token)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    session.send_with(&request, None).await.unwrap();
    let expected = [
        (
            "picket_requests",
            vec!["picket_outcome=\"permit\"", "picket_reason=\"policy_permit\""],
            3,
        ),
        (
            "picket_requests",
            vec!["picket_outcome=\"deny\"", "picket_reason=\"credential_missing\""],
            1,
        ),
        ("picket_decision_cache", vec!["picket_result=\"hit\""], 2),
        ("picket_decision_cache", vec!["picket_result=\"miss\""], 1),
        ("picket_policy_calls", vec!["picket_result=\"answered\""], 1),
        (
            "picket_token_verifications",
            vec![
                "picket_algorithm=\"RS256\"",
                "picket_path=\"host\"",
                "picket_result=\"passed\"",
            ],
            1,
        ),
        (
            "picket_token_verifications",
            vec!["picket_path=\"cache\"", "picket_result=\"passed\""],
            2,
        ),
        (
            "picket_configurations",
            vec!["picket_result=\"accepted\""],
            u64::from(WORKERS) + 2,
        ),
    ];
    let inbound = &*stack.inbound();
    // The workers hand over what they counted a few times a second.
    wait::until("all is counted", || async {
        let text = inbound.admin_text("/stats/prometheus").await?;
        let counted = |(metric, labels, count): &(&str, Vec<&str>, u64)| sample(&text, metric, labels) == Some(*count);
        Ok(expected.iter().all(counted).then_some(()))
    })
    .await
    .unwrap();
    // Envoy adds up histograms when it flushes its stats, every five seconds.
    wait::until("the call's latency is shown", || async {
        let text = inbound.admin_text("/stats/prometheus").await?;
        Ok(sample(&text, "picket_policy_call_ms_count", &[]).filter(|count| *count == 1))
    })
    .await
    .unwrap();
}

#[test]
fn a_sample_is_found_by_its_labels() {
    let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 4\na{x=\"2\",y=\"2\"} 5\nab{x=\"1\"} 6\n";
    assert_eq!(sample(text, "a", &["x=\"1\""]), Some(4));
    assert_eq!(sample(text, "a", &["y=\"2\""]), Some(9));
    assert_eq!(sample(text, "c", &[]), None);
}
