//! Why the policy service does not answer: the caller is told the same whatever the cause is, and
//! the operator is told which one it is, by a metric of the sidecar, in its log, and in the log of
//! the service.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::exchange::{RequestSpec, Via};
use picket_tests::fake_policy_service::Mode;
use picket_tests::process::Process;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

/// How the lines of the filter about its calls begin.
const SIDECAR_LINE: &str = "picket: policy service: ";

/// A cause, and how the operator is told.
struct Cause {
    name: &'static str,
    options: Options,
    /// The value of `picket_result`.
    result: &'static str,
    /// What the line in Envoy's log contains.
    told: &'static str,
    /// The message of the line in the service's log, and what else it contains.
    told_by_service: Option<(&'static str, &'static str)>,
}

fn causes() -> Vec<Cause> {
    let (shipped, sidecar_ca) = (Options::default, "ca.pem }\n            match_typed_subject_alt_names");
    let unlisted = Options {
        allowed_caller: "spiffe://example.org/another".to_owned(),
        ..shipped()
    };
    let cause = |name, options, result, told, told_by_service| Cause {
        name,
        options,
        result,
        told,
        told_by_service,
    };
    let handshake = "TLS handshake failed";
    vec![
        cause(
            "an unlisted SPIFFE ID",
            unlisted,
            "refused",
            "grpc.allowed_callers",
            Some(("caller refused", "spiffe://example.org/orders")),
        ),
        cause(
            "a sidecar with another authority",
            shipped().edit(sidecar_ca, &format!("stranger/{sidecar_ca}")),
            "tls_failed",
            "CERTIFICATE_VERIFY_FAILED",
            Some((handshake, "service_certificate")),
        ),
        cause(
            "a sidecar that expects another name",
            shipped().edit(
                "exact: \"spiffe://example.org/policy-service\"",
                "exact: \"spiffe://example.org/else\"",
            ),
            "tls_failed",
            "CERTIFICATE_VERIFY_FAILED",
            Some((handshake, "service_certificate")),
        ),
        cause(
            "no such cluster",
            shipped().edit(
                "policy_service: { cluster: policy_service",
                "policy_service: { cluster: nowhere",
            ),
            "cluster_unusable",
            "no such cluster",
            None,
        ),
        cause(
            "a slow service",
            shipped().fake(Mode::Silent),
            "timed_out",
            "policy_service.timeout_ms",
            None,
        ),
        cause(
            "an error",
            shipped().fake(Mode::Unavailable),
            "unavailable",
            "gRPC status 14",
            None,
        ),
        cause(
            "no decision",
            shipped().fake(Mode::Garbled),
            "invalid",
            "its answer is no decision",
            None,
        ),
    ]
}

fn order() -> RequestSpec {
    RequestSpec {
        via: Via::Direct,
        token: Some(TokenSpec::of("alice")),
        ..RequestSpec::default()
    }
}

/// Sends a request that needs a decision, and checks that Envoy's metric and log tell this cause.
async fn check_told(what: &str, stack: &mut Stack, result: &str, told: &str) {
    let mut session = Session::new(stack.keys(), stack.entrances());
    let answer = session.send(&order()).await.unwrap();
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    let counter = format!("picket_policy_calls.result.{result}");
    wait::until(&format!("{what}: {counter} counts it"), || async {
        Ok(stack.metric(&counter).await?.filter(|count| *count > 0))
    })
    .await
    .unwrap();
    until_logged(&format!("{what}: Envoy"), stack.inbound().process(), SIDECAR_LINE, told).await;
}

/// Waits for a line in the log of a process that contains both.
async fn until_logged(what: &str, process: &Process, message: &str, part: &str) {
    wait::until(&format!("{what} logs `{part}`"), || {
        let output = process.output();
        let found = output.lines().any(|line| line.contains(message) && line.contains(part));
        std::future::ready(Ok(found.then_some(())))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn each_cause_is_told_by_metric_and_log() {
    for cause in causes() {
        let mut stack = Stack::start(cause.options).await.unwrap();
        check_told(cause.name, &mut stack, cause.result, cause.told).await;
        if let Some((message, part)) = cause.told_by_service {
            let process = stack.policy_service().unwrap().process().unwrap();
            until_logged(&format!("{}: the service", cause.name), process, message, part).await;
        }
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_told_in_one_line_a_second() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    stack.policy_service().unwrap().stop().await.unwrap();
    let began = picket_tests::clock::Stopwatch::start();
    for _ in 0..50 {
        let mut session = Session::new(stack.keys(), stack.entrances());
        assert_eq!(session.send(&order()).await.unwrap().status, 503);
    }
    check_told("down", &mut stack, "unreachable", "check that it runs").await;
    let output = stack.inbound().process().output();
    let lines = output.lines().filter(|line| line.contains(SIDECAR_LINE)).count();
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    // Two workers, each of which may begin with a line.
    assert!((1..=2 * (seconds + 1)).contains(&lines), "{lines} lines in {seconds} s");
}
