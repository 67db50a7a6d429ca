//! The policy service is down, slow, or talks nonsense: nothing goes on, and everything recovers.

#![expect(clippy::expect_used, reason = "helpers of tests fail like tests")]

use picket_tests::client::Answer;
use picket_tests::clock::Stopwatch;
use picket_tests::exchange::{Protocol, RequestSpec};
use picket_tests::fake_policy_service::Mode;
use picket_tests::proof::still_serves;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

const UNAVAILABLE: &str = "policy_service_unavailable";
const INVALID: &str = "policy_service_answer_invalid";

fn good(path: &str, protocol: Protocol) -> RequestSpec {
    RequestSpec {
        path: path.to_owned(),
        protocol,
        method: if protocol == Protocol::Grpc { "POST" } else { "GET" }.to_owned(),
        token: Some(TokenSpec::of("alice")),
        ..RequestSpec::default()
    }
}

#[track_caller]
fn assert_unavailable(what: &str, answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    assert_eq!(answer.reason().as_deref(), Some(reason), "{what}: {answer:?}");
    let seconds: u32 = answer
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .expect("seconds");
    assert!(seconds > 0, "{what}: {answer:?}");
}

#[tokio::test]
async fn a_policy_service_that_misbehaves_permits_nothing() {
    let mut stack = Stack::start(Options::default().fake(Mode::Permit)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let modes = [
        (Mode::Garbled, INVALID),
        (Mode::CutShort, ""),
        (Mode::EmptyMessage, INVALID),
        (Mode::Unspecified, ""),
        (Mode::PermitWithoutId, INVALID),
        (Mode::NoMessage, ""),
        (Mode::PermitThenFailed, ""),
        (Mode::Unavailable, UNAVAILABLE),
        (Mode::Http500, UNAVAILABLE),
        (Mode::Reset, UNAVAILABLE),
        (Mode::Close, UNAVAILABLE),
    ];
    for (mode, reason) in modes {
        stack.fake().unwrap().set(mode);
        let before = stack.upstream().requests();
        let calls = stack.fake().unwrap().calls();
        let answer = session.send(&good("/orders/1", Protocol::Http1)).await.unwrap();
        assert!(
            stack.fake().unwrap().calls() > calls,
            "{mode:?}: the service was not asked"
        );
        assert_eq!(
            stack.upstream().requests(),
            before,
            "{mode:?}: the request went on: {answer:?}"
        );
        if reason.is_empty() {
            // Which of the two it is depends on what Envoy passes on; that nothing goes on does not.
            assert!([403, 503].contains(&answer.status), "{mode:?}: {answer:?}");
        } else {
            assert_unavailable(&format!("{mode:?}"), &answer, reason);
        }
        stack.fake().unwrap().set(Mode::Permit);
        still_serves(&mut stack).await.unwrap();
    }
}

#[tokio::test]
async fn a_deny_that_a_trusted_device_would_lift_says_so() {
    let mut stack = Stack::start(Options::default().fake(Mode::AsksForADevice))
        .await
        .unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let answer = session.send(&good("/orders/1", Protocol::Http1)).await.unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.reason().as_deref(), Some("device_not_trusted"), "{answer:?}");
    // RFC 9470 has no parameter for it: the document says what is missing.
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.contains("error=\"insufficient_user_authentication\""),
        "{challenge}"
    );
    let document = answer.json().unwrap_or_default();
    assert_eq!(
        document.pointer("/challenge/trusted_device"),
        Some(&true.into()),
        "{document}"
    );
    stack.fake().unwrap().set(Mode::Permit);
    still_serves(&mut stack).await.unwrap();
}

/// RFC 6750 §3.1: `invalid_token` makes a client ask for another token.
#[tokio::test]
async fn a_deny_about_a_revoked_session_asks_for_another_token() {
    let mut stack = Stack::start(Options::default().fake(Mode::SaysRevoked)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let answer = session.send(&good("/orders/1", Protocol::Http1)).await.unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.reason().as_deref(), Some("token_revoked"), "{answer:?}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    let document = answer.json().unwrap_or_default();
    assert_eq!(
        document.pointer("/reasons/0"),
        Some(&"session_ended".into()),
        "{document}"
    );
    let answer = session
        .send(&good("/orders.v1.Orders/List", Protocol::Grpc))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(16)), "{answer:?}");
    stack.fake().unwrap().set(Mode::Permit);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_slow_policy_service_is_given_up_on_in_time() {
    let mut stack = Stack::start(Options::default().fake(Mode::Silent)).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let watch = Stopwatch::start();
    let answer = session.send(&good("/orders/1", Protocol::Http1)).await.unwrap();
    let took_ms = watch.elapsed().as_millis();
    assert_unavailable("silent", &answer, UNAVAILABLE);
    // The shipped configuration gives the policy service 500 ms.
    assert!((450..5_000).contains(&took_ms), "it took {took_ms} ms");
    let answer = session
        .send(&good("/orders.v1.Orders/List", Protocol::Grpc))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(14)), "{answer:?}");
    assert_eq!(answer.reason().as_deref(), Some(UNAVAILABLE), "{answer:?}");
    stack.fake().unwrap().set(Mode::Permit);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_policy_service_that_is_down_permits_what_is_remembered_and_nothing_else_until_it_is_back() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let token = TokenSpec::of("alice").mint(stack.keys()).unwrap();
    let known = good("/orders/1", Protocol::Http1);
    let (answer, _) = session.send_with(&known, Some(&token)).await.unwrap();
    assert_eq!(answer.decided_by().as_deref(), Some("policy_service"), "{answer:?}");
    stack.policy_service().unwrap().stop().await.unwrap();
    let (answer, _) = session.send_with(&known, Some(&token)).await.unwrap();
    assert_eq!(
        (answer.status, answer.decided_by().as_deref()),
        (200, Some("cache")),
        "a decision that is still valid needs no service: {answer:?}"
    );
    let before = stack.upstream().requests();
    let answer = session.send(&good("/orders/2", Protocol::Http1)).await.unwrap();
    assert_unavailable("down", &answer, UNAVAILABLE);
    assert_eq!(stack.upstream().requests(), before);
    stack.policy_service().unwrap().start_again().await.unwrap();
    let answer = wait::until("the policy service is asked again", || {
        let request = good("/orders/2", Protocol::Http1);
        let mut session = Session::new(stack.keys(), stack.entrances());
        async move { Ok(Some(session.send(&request).await?).filter(|answer| answer.status != 503)) }
    })
    .await
    .unwrap();
    assert_eq!(
        (answer.status, answer.decided_by().as_deref()),
        (200, Some("policy_service")),
        "{answer:?}"
    );
    still_serves(&mut stack).await.unwrap();
}
