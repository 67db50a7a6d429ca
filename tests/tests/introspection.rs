//! Opaque tokens in a real Envoy: the filter asks the issuer, and the request waits.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::client::Answer;
use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::clock::Stopwatch;
use picket_tests::dpop::ProofSpec;
use picket_tests::exchange::{RequestSpec, Scheme, Via};
use picket_tests::fake_policy_service::Mode;
use picket_tests::introspection::{Behaviour, IntrospectionServer, SECRET};
use picket_tests::keys::CLIENT_KEY;
use picket_tests::proof::{no_vm_failed, still_serves};
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::{client, wait};
use serde_json::{Map, json};
use tokio::sync::Mutex;

/// With characters that a form encodes.
const TOKEN: &str = "opaque-2YotnFZFEjr1zCsicMWpAA+/~==";
const TIMEOUT_MS: u128 = 700;
const UNAVAILABLE: (u16, Option<&str>) = (503, Some("introspection_unavailable"));
const INACTIVE: (u16, Option<&str>) = (401, Some("token_inactive"));
const PERMITTED: (u16, Option<&str>) = (200, Some("policy_permit"));

async fn start(further: &str) -> (IntrospectionServer, Stack) {
    let server = IntrospectionServer::start().await.unwrap();
    let further = format!(", timeout_ms: {TIMEOUT_MS}{further}");
    let options = server.asked_by(Options::default().fake(Mode::Permit), "as", SECRET, &further);
    let stack = Stack::start(options).await.unwrap();
    (server, stack)
}

/// To the callee's sidecar itself, so that one session is one worker's.
fn direct() -> RequestSpec {
    RequestSpec {
        via: Via::Direct,
        ..RequestSpec::default()
    }
}

fn session(stack: &Stack) -> Session {
    Session::new(stack.keys(), stack.entrances())
}

async fn send(session: &mut Session, token: &str) -> Answer {
    session.send_with(&direct(), Some(token)).await.unwrap().0
}

#[track_caller]
fn assert_answer(answer: &Answer, expected: (u16, Option<&str>)) {
    assert_eq!((answer.status, answer.reason().as_deref()), expected, "{answer:?}");
    assert_eq!(
        answer.header("retry-after").is_some(),
        answer.status == 503,
        "{answer:?}"
    );
    let shown = format!("{answer:?}");
    assert!(answer.status == 200 || !shown.contains("2YotnF"), "{shown}");
}

async fn counted(stack: &Stack, result: &str) -> u64 {
    let suffix = format!("picket_introspections.result.{result}");
    let counters = stack.inbound_stats(|name| name.ends_with(&suffix)).await.unwrap();
    counters.iter().map(|(_, count)| count).sum()
}

async fn until_counted(stack: &Stack, result: &str, at_least: u64) {
    wait::until(&format!("{at_least} {result}"), || async {
        Ok((counted(stack, result).await >= at_least).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_active_token_is_asked_about_once_by_a_worker() {
    let (server, mut stack) = start("").await;
    server.issue(TOKEN, "alice", &Map::new());
    let mut session = session(&stack);
    let answer = send(&mut session, TOKEN).await;
    assert_answer(&answer, PERMITTED);
    assert_eq!(answer.decided_by().as_deref(), Some("policy_service"));
    assert_eq!(answer.received_by_upstream("x-picket-subject"), ["alice"]);
    assert_eq!(answer.received_by_upstream("x-picket-issuer").len(), 1);
    assert_eq!(answer.received_by_upstream("authorization"), [""; 0]);
    assert_eq!(server.questions(), 1);
    assert_answer(&send(&mut session, TOKEN).await, PERMITTED);
    assert_eq!(server.questions(), 1);
    until_counted(&stack, "active", 1).await;
    still_serves(&mut stack).await.unwrap();
    // JWTs of the provider with keys are none of its business.
    assert_eq!(server.questions(), 1);
    let log = stack.inbound().process().output();
    assert!(
        !log.contains("2YotnF") && !log.contains("s3:cr"),
        "a token or secret is in the log"
    );
}

#[tokio::test]
async fn a_body_waits_with_its_request_for_both_answers() {
    let (server, mut stack) = start("").await;
    server.issue(TOKEN, "alice", &Map::new());
    let body = "b".repeat(30_000);
    let request = RequestSpec {
        method: "POST".to_owned(),
        path: "/orders".to_owned(),
        body: body.clone(),
        ..direct()
    };
    let (answer, _) = session(&stack).send_with(&request, Some(TOKEN)).await.unwrap();
    assert_answer(&answer, PERMITTED);
    let echo = answer.json().unwrap();
    assert_eq!(
        (&echo["body_bytes"], &echo["body_complete"]),
        (&json!(body.len()), &json!(true))
    );
    // The second of the two may fail as well.
    stack.fake().unwrap().set(Mode::Unavailable);
    server.issue("opaque-another", "alice", &Map::new());
    let before = stack.upstream().requests();
    let (answer, _) = session(&stack)
        .send_with(&request, Some("opaque-another"))
        .await
        .unwrap();
    assert_answer(&answer, (503, Some("policy_service_unavailable")));
    assert_eq!(stack.upstream().requests(), before);
    stack.fake().unwrap().set(Mode::Permit);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn an_inactive_token_and_one_that_does_not_fit_are_refused() {
    let (server, mut stack) = start("").await;
    let before = stack.upstream().requests();
    let mut session = session(&stack);
    let answer = send(&mut session, TOKEN).await;
    assert_answer(&answer, INACTIVE);
    assert!(
        answer.header("www-authenticate").unwrap().contains("invalid_token"),
        "{answer:?}"
    );
    assert_answer(&send(&mut session, TOKEN).await, INACTIVE);
    assert_eq!(server.questions(), 1);
    for (token, member, value, reason) in [
        ("opaque-1", "aud", json!("other"), "token_audience_mismatch"),
        (
            "opaque-2",
            "iss",
            json!("https://issuer.example"),
            "token_issuer_unknown",
        ),
        ("opaque-3", "exp", json!(1), "token_expired"),
    ] {
        server.issue(token, "alice", &Map::from_iter([(member.to_owned(), value)]));
        assert_answer(&send(&mut session, token).await, (401, Some(reason)));
    }
    assert_eq!(stack.upstream().requests(), before);
    until_counted(&stack, "inactive", 1).await;
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_misbehaves_permits_nothing() {
    let (server, mut stack) = start("").await;
    server.issue(TOKEN, "alice", &Map::new());
    let good = json!({"active": true, "sub": "alice", "aud": "orders", "exp": 4_000_000_000_u64}).to_string();
    let says = |status, text: &str| Behaviour::Says(status, text.to_owned());
    let mut session = session(&stack);
    for (behaviour, result) in [
        (says(200, ""), "invalid"),
        (says(200, "<html>active: true</html>"), "invalid"),
        (
            says(
                200,
                r#"{"active":"true","sub":"alice","aud":"orders","exp":4000000000}"#,
            ),
            "invalid",
        ),
        (says(200, &good.replace("{", r#"{"active":true,"#)), "invalid"),
        (says(200, &format!("{good}{}", " ".repeat(64 * 1024))), "invalid"),
        (says(200, &format!("{good}{}", " ".repeat(4 * 1024 * 1024))), "invalid"),
        (says(200, &format!("{{\"a\":{}", "[".repeat(10_000))), "invalid"),
        (says(302, &good), "rejected"),
        (says(401, &good), "rejected"),
        (says(500, &good), "unavailable"),
        (Behaviour::Closes, "unavailable"),
        (Behaviour::Holds, "unavailable"),
    ] {
        let (before, counted_before) = (stack.upstream().requests(), counted(&stack, result).await);
        let shown: String = format!("{behaviour:?}").chars().take(60).collect();
        server.behave(behaviour);
        let answer = send(&mut session, TOKEN).await;
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            UNAVAILABLE,
            "{shown}: {answer:?}"
        );
        assert_eq!(stack.upstream().requests(), before, "{shown}");
        until_counted(&stack, result, counted_before + 1).await;
    }
    server.behave(Behaviour::Answers);
    assert_answer(&send(&mut session, TOKEN).await, PERMITTED);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_slow_endpoint_is_given_up_on_in_time_and_its_late_answers_harm_nobody() {
    let (server, mut stack) = start("").await;
    server.issue(TOKEN, "alice", &Map::new());
    server.behave(Behaviour::Holds);
    let watch = Stopwatch::start();
    let answer = send(&mut session(&stack), TOKEN).await;
    let took_ms = watch.elapsed().as_millis();
    assert_answer(&answer, UNAVAILABLE);
    assert!((TIMEOUT_MS - 50..5_000).contains(&took_ms), "it took {took_ms} ms");
    // Callers that do not wait: the answer finds no request any more.
    let before = stack.upstream().requests();
    for _ in 0..8 {
        let asked = server.questions();
        let identity = stack.keys().identity("web").unwrap();
        let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http1, stack.inbound_address()).await;
        let mut connection = client::http1::Http1Connection::new(io.unwrap());
        connection.send(&direct().http1(Some(TOKEN))).await.unwrap();
        wait::until("the endpoint is asked", || async {
            Ok((server.questions() > asked).then_some(()))
        })
        .await
        .unwrap();
        drop(connection);
    }
    server.behave(Behaviour::Answers);
    still_serves(&mut stack).await.unwrap();
    assert_answer(&send(&mut session(&stack), TOKEN).await, PERMITTED);
    assert!(stack.upstream().requests() > before);
    no_vm_failed(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_revoked_is_refused_once_it_is_forgotten() {
    let (server, mut stack) = start(", cache_s_max: 1, cache_inactive_s: 0").await;
    server.issue(TOKEN, "alice", &Map::new());
    // One connection, and so the worker that knows the token.
    let session = Mutex::new(session(&stack));
    assert_answer(&send(&mut *session.lock().await, TOKEN).await, PERMITTED);
    server.revoke(TOKEN);
    let last = wait::until("the token is forgotten", || async {
        let answer = send(&mut *session.lock().await, TOKEN).await;
        Ok((answer.status != 200).then_some(answer))
    })
    .await
    .unwrap();
    assert_answer(&last, INACTIVE);
    server.issue(TOKEN, "alice", &Map::new());
    assert_answer(&send(&mut *session.lock().await, TOKEN).await, PERMITTED);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_bound_token_needs_its_proof_which_is_looked_at_once() {
    let (server, mut stack) = start("").await;
    let thumbprint = stack.keys().token_key(CLIENT_KEY).unwrap().public().thumbprint();
    let members = json!({"token_type": "DPoP", "cnf": {"jkt": thumbprint}});
    server.issue(TOKEN, "alice", members.as_object().unwrap());
    let mut session = session(&stack);
    assert_answer(&send(&mut session, TOKEN).await, (401, Some("token_sent_as_bearer")));
    let request = RequestSpec {
        scheme: Scheme::Dpop,
        proof: Some(ProofSpec::default()),
        ..direct()
    };
    // On connections of several workers, which have to ask each for themselves.
    for _ in 0..8 {
        let mut session = Session::new(stack.keys(), stack.entrances());
        let (answer, _) = session.send_with(&request, Some(TOKEN)).await.unwrap();
        assert_answer(&answer, PERMITTED);
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_client_with_the_wrong_secret_learns_nothing() {
    let server = IntrospectionServer::start().await.unwrap();
    server.issue(TOKEN, "alice", &Map::new());
    let options = server.asked_by(Options::default().fake(Mode::Permit), "as", "wrong", "");
    let mut stack = Stack::start(options).await.unwrap();
    assert_answer(&send(&mut session(&stack), TOKEN).await, UNAVAILABLE);
    until_counted(&stack, "rejected", 1).await;
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_harms_no_other_token() {
    for cluster in ["as", "as_empty", "nowhere"] {
        let server = IntrospectionServer::start().await.unwrap();
        let options = server.asked_by(Options::default().fake(Mode::Permit), cluster, SECRET, "");
        drop(server);
        let mut stack = Stack::start(options).await.unwrap();
        let before = stack.upstream().requests();
        for _ in 0..4 {
            assert_answer(&send(&mut session(&stack), TOKEN).await, UNAVAILABLE);
        }
        assert_eq!(stack.upstream().requests(), before, "{cluster}");
        until_counted(&stack, "unavailable", 4).await;
        still_serves(&mut stack).await.unwrap();
    }
}

#[tokio::test]
async fn without_its_secret_a_configuration_is_refused() {
    let server = IntrospectionServer::start().await.unwrap();
    let options = server.asked_by(Options::default().fake(Mode::Permit), "as", SECRET, "");
    let options = options.edit("{ key_values: { AS_SECRET: ", "{ key_values: { OTHER_SECRET: ");
    let error = Stack::start(options).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("providers[0].introspection.secret_variable"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}
