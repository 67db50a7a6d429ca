//! Keys that the filter fetches, in a real Envoy: when they are there, how they are replaced, and what happens when they are not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::future::{Future, poll_fn};
use std::task::Poll;

use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::client::{Answer, http2};
use picket_tests::clock::Stopwatch;
use picket_tests::exchange::{Protocol, RequestSpec, Via};
use picket_tests::issuer::{Issuer, Publication, keys_of_type};
use picket_tests::keys::TokenKey;
use picket_tests::proof::{no_vm_failed, still_serves};
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;
use serde_json::Value;

const AT_URI: &str = "uri: https://issuer.example/jwks, cluster: issuer";
/// New connections that are tried: that one of two workers gets none of them happens once in 2^15.
const CONNECTIONS: u32 = 16;

/// A stack whose keys come from an issuer that has published nothing yet.
async fn start(settings: &str) -> (Issuer, Stack) {
    let issuer = Issuer::start().await.unwrap();
    let options = Options::default().fetching(issuer.address(), settings);
    let stack = Stack::start(options).await.unwrap();
    (issuer, stack)
}

fn rsa_keys(stack: &Stack) -> String {
    keys_of_type(&stack.keys().key_set().unwrap(), "RSA").unwrap()
}

fn ec_keys(stack: &Stack) -> String {
    keys_of_type(&stack.keys().key_set().unwrap(), "EC").unwrap()
}

/// A token of alice's that no cache knows.
fn token(stack: &Stack, key: TokenKey) -> String {
    let spec = TokenSpec {
        key,
        ..TokenSpec::of("alice")
    };
    spec.mint(stack.keys()).unwrap()
}

/// To the callee's sidecar itself: the caller's would send many on one connection.
fn direct() -> RequestSpec {
    RequestSpec {
        via: Via::Direct,
        ..RequestSpec::default()
    }
}

/// Sends a token on a connection of its own, which is any worker's.
async fn send(stack: &Stack, token: &str) -> Answer {
    let mut session = Session::new(stack.keys(), stack.entrances());
    let sent = session.send_with(&direct(), Some(token)).await;
    sent.unwrap().0
}

/// All at once, in their order.
async fn together<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    poll_fn(|context| {
        for (one, output) in all.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(value) = one.as_mut().poll(context) {
                *output = Some(value);
            }
        }
        match all.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}

/// What every worker answers to a token of this key: those with an unknown key wait, and they do so
/// together.
async fn answers(stack: &Stack, key: TokenKey) -> Vec<Answer> {
    together((0..CONNECTIONS).map(|_| async move { send(stack, &token(stack, key)).await })).await
}

/// Whether every worker answers so to tokens of this key: a status, and for a refusal the reason.
async fn all_answer(stack: &Stack, key: TokenKey, expected: (u16, Option<&str>)) -> bool {
    answers(stack, key).await.iter().all(|answer| {
        let reason = answer.reason().filter(|_| answer.status != 200);
        (answer.status, reason.as_deref()) == expected
    })
}

async fn until_all_answer(what: &str, stack: &Stack, key: TokenKey, expected: (u16, Option<&str>)) {
    wait::until(what, || async {
        Ok(all_answer(stack, key, expected).await.then_some(()))
    })
    .await
    .unwrap();
}

/// The value of the filter's counter or gauge of this name, which holds its labels.
async fn metric(stack: &Stack, name: &str) -> Option<u64> {
    stack.metric(name).await.unwrap()
}

async fn until_metric(what: &str, stack: &Stack, name: &str, is_reached: impl Fn(u64) -> bool) {
    wait::until(what, || async {
        Ok(metric(stack, name).await.filter(|value| is_reached(*value)))
    })
    .await
    .unwrap();
}

const PERMITTED: (u16, Option<&str>) = (200, None);
const UNAVAILABLE: (u16, Option<&str>) = (503, Some("key_set_unavailable"));
const UNKNOWN: (u16, Option<&str>) = (401, Some("token_key_unknown"));
const FETCHED: &str = "picket_key_set_fetches.result.fetched.provider.main";
const FAILED: &str = "picket_key_set_fetches.result.unavailable.provider.main";
const INVALID: &str = "picket_key_set_fetches.result.invalid.provider.main";

#[tokio::test]
async fn one_worker_fetches_the_first_keys_for_all_and_requests_wait_for_them() {
    // A request waits for a second longer than the issuer may.
    let (issuer, mut stack) = start(&format!("{AT_URI}, timeout_ms: 4000, refetch_interval_s: 1")).await;
    wait::until("the keys are asked for", || async {
        Ok((issuer.key_requests() > 0).then_some(()))
    })
    .await
    .unwrap();
    let upstream = stack.upstream().requests();
    for answer in answers(&stack, TokenKey::Rs256).await {
        assert_eq!((answer.status, answer.reason().as_deref()), UNAVAILABLE, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    assert_eq!(stack.upstream().requests(), upstream);
    let publish_late = async {
        // They are all there by then, or come later, which is no less good.
        wait::until("another fetch", || async {
            Ok((issuer.key_requests() > 1).then_some(()))
        })
        .await
        .unwrap();
        issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
    };
    let (early, ()) = tokio::join!(answers(&stack, TokenKey::Rs256), publish_late);
    for answer in early {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let fetches = issuer.key_requests();
    until_all_answer("every worker has the keys", &stack, TokenKey::Rs256, PERMITTED).await;
    assert!(all_answer(&stack, TokenKey::Es256, PERMITTED).await);
    assert_eq!(issuer.key_requests(), fetches, "one fetch for all workers");
    until_metric("the fetch is counted", &stack, FETCHED, |count| count == 1).await;
    until_metric(
        "the age is shown",
        &stack,
        "picket_key_set_age_s.provider.main",
        |age| age < 600,
    )
    .await;
    let text = stack.inbound().admin_text("/stats/prometheus").await.unwrap();
    let is_labelled = |metric: &str, labels: &[&str]| {
        let mut samples = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
        samples.any(|line| labels.iter().all(|label| line.contains(label)))
    };
    let provider = "picket_provider=\"main\"";
    assert!(is_labelled(
        "picket_key_set_fetches",
        &["picket_result=\"fetched\"", provider]
    ));
    assert!(is_labelled("picket_key_set_age_s", &[provider]));
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_replaced_is_refused_and_the_new_one_accepted() {
    let (issuer, mut stack) = start(&format!(
        "{AT_URI}, cache_s: 2, max_stale_s: 600, refetch_interval_s: 1"
    ))
    .await;
    issuer.publish(Publication::Document(rsa_keys(&stack)));
    until_all_answer("the first keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    assert!(all_answer(&stack, TokenKey::Es256, UNKNOWN).await);
    // A worker that has accepted it would find it in its cache.
    let (accepted, mut session) = (
        token(&stack, TokenKey::Rs256),
        Session::new(stack.keys(), stack.entrances()),
    );
    let request = direct();
    let (answer, _) = session.send_with(&request, Some(&accepted)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    issuer.publish(Publication::Document(ec_keys(&stack)));
    until_all_answer("the old keys are gone", &stack, TokenKey::Rs256, UNKNOWN).await;
    let (answer, _) = session.send_with(&request, Some(&accepted)).await.unwrap();
    assert_eq!((answer.status, answer.reason().as_deref()), UNKNOWN, "{answer:?}");
    assert!(all_answer(&stack, TokenKey::Es256, PERMITTED).await);
    issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
    until_all_answer("both keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_new_key_is_waited_for_also_while_strangers_make_up_others() {
    const INTERVAL_S: u64 = 2;
    let watch = Stopwatch::start();
    // As it is by default: the interval of fetches for unknown keys is shorter.
    let (issuer, mut stack) = start(&format!("{AT_URI}, timeout_ms: 4000, refetch_interval_s: 30")).await;
    issuer.publish(Publication::Document(rsa_keys(&stack)));
    until_all_answer("the first keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    // Whoever makes up key ids, on every worker, has the issuer asked no more often than the interval says.
    let before = issuer.key_requests();
    let stranger = token(&stack, TokenKey::StrangerRs256);
    let strangers = async |enough: u64| {
        while issuer.key_requests() < before + enough {
            let sent = together((0..CONNECTIONS).map(|_| send(&stack, &stranger))).await;
            for answer in sent {
                assert_eq!((answer.status, answer.reason().as_deref()), UNKNOWN, "{answer:?}");
            }
        }
    };
    strangers(2).await;
    issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
    // The first ones with the new key, on both workers, to rules that decide here and to such as
    // ask the policy service.
    let (first, ()) = tokio::join!(answers(&stack, TokenKey::Es256), strangers(4));
    for answer in first {
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            (200, Some("policy_permit")),
            "{answer:?}"
        );
    }
    let at_most = 1 + watch.elapsed().as_secs() / INTERVAL_S;
    assert!(
        issuer.key_requests() <= at_most,
        "{} of {at_most}",
        issuer.key_requests()
    );
    assert!(all_answer(&stack, TokenKey::Rs256, PERMITTED).await);
    still_serves(&mut stack).await.unwrap();
}

/// Envoy carries out what was decided about requests in one call of the module each within the one
/// before.
#[tokio::test]
async fn many_requests_wait_and_are_answered_without_harm_to_the_module() {
    const CONNECTIONS: u32 = 10;
    const STREAMS: u32 = 90;
    let (issuer, mut stack) = start(&format!("{AT_URI}, timeout_ms: 4000, refetch_interval_s: 1")).await;
    issuer.publish(Publication::Document(rsa_keys(&stack)));
    until_all_answer("the first keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    let identity = stack.keys().identity("web").unwrap();
    // A rule that decides here: the policy service is not what is looked at.
    let request = RequestSpec {
        path: "/admin/users".to_owned(),
        ..direct()
    };
    for (published, expected) in [(false, UNKNOWN), (true, (403, Some("rule_deny")))] {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http2, stack.inbound_address());
            connections.push(http2::Http2Connection::new(io.await.unwrap()).await.unwrap());
        }
        if published {
            issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
        }
        let unknown = token(&stack, TokenKey::Es256);
        let (request, unknown) = (&request, unknown.as_str());
        let all = connections.iter().flat_map(|connection| {
            (0..STREAMS).map(move |_| async move {
                let (request, rest) = request.http2(Some(unknown)).unwrap();
                connection.exchange(request, rest).await
            })
        });
        for answer in together(all).await {
            let answer = answer.unwrap();
            assert_eq!((answer.status, answer.reason().as_deref()), expected, "{answer:?}");
        }
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_keys_is_refused_in_its_protocol_and_its_body_is_held() {
    let (issuer, mut stack) = start(&format!("{AT_URI}, timeout_ms: 4000, refetch_interval_s: 1")).await;
    issuer.publish(Publication::Document(rsa_keys(&stack)));
    until_all_answer("the first keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    let upstream = stack.upstream().requests();
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc] {
        let is_grpc = protocol == Protocol::Grpc;
        let request = RequestSpec {
            protocol,
            method: "POST".to_owned(),
            path: if is_grpc { "/orders.v1.Orders/List" } else { "/orders" }.to_owned(),
            body: "{}".to_owned(),
            ..direct()
        };
        let mut session = Session::new(stack.keys(), stack.entrances());
        let unknown = token(&stack, TokenKey::Es256);
        let (answer, _) = session.send_with(&request, Some(&unknown)).await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some("token_key_unknown"), "{answer:?}");
        let expected = if is_grpc { (200, Some(16)) } else { (401, None) };
        assert_eq!((answer.status, answer.grpc_status()), expected, "{answer:?}");
        // The connection goes on.
        let known = token(&stack, TokenKey::Rs256);
        let (answer, _) = session.send_with(&request, Some(&known)).await.unwrap();
        assert_eq!(answer.reason().as_deref(), Some("policy_permit"), "{answer:?}");
    }
    assert_eq!(stack.upstream().requests(), upstream + 3);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn keys_serve_on_while_the_endpoint_is_down_and_not_for_ever() {
    const MAX_STALE_S: u64 = 8;
    // How old the keys may be when the endpoint goes down: their life, and how often a worker looks.
    const SPARE_S: u64 = 3;
    let settings = format!("{AT_URI}, cache_s: 1, refetch_interval_s: 1, max_stale_s: {MAX_STALE_S}");
    let (issuer, mut stack) = start(&settings).await;
    issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
    until_all_answer("the keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    let accepted = token(&stack, TokenKey::Rs256);
    assert_eq!(send(&stack, &accepted).await.status, 200);
    let watch = Stopwatch::start();
    issuer.publish(Publication::Closed);
    until_metric("a fetch fails", &stack, FAILED, |count| count > 0).await;
    let answer = send(&stack, &token(&stack, TokenKey::Es256)).await;
    if watch.elapsed().as_secs() < MAX_STALE_S - SPARE_S {
        assert_eq!(answer.status, 200, "stale keys serve: {answer:?}");
    }
    until_all_answer("the keys are too old", &stack, TokenKey::Rs256, UNAVAILABLE).await;
    assert!(
        watch.elapsed().as_secs() >= MAX_STALE_S - SPARE_S,
        "{:?}",
        watch.elapsed()
    );
    // Also a token that was accepted before.
    let answer = send(&stack, &accepted).await;
    assert_eq!((answer.status, answer.reason().as_deref()), UNAVAILABLE, "{answer:?}");
    issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
    until_all_answer("the keys are back", &stack, TokenKey::Rs256, PERMITTED).await;
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_document_that_is_no_key_set_replaces_nothing() {
    let (issuer, mut stack) = start(&format!(
        "{AT_URI}, cache_s: 1, refetch_interval_s: 1, max_stale_s: 600"
    ))
    .await;
    let (rsa, ec) = (rsa_keys(&stack), ec_keys(&stack));
    let mut with_secret: Value = serde_json::from_str(&ec).unwrap();
    let secret = serde_json::json!({"kty": "oct", "k": "AAAA"});
    with_secret["keys"].as_array_mut().unwrap().push(secret);
    let publications = [
        (INVALID, Publication::Document(format!("{ec}{}", " ".repeat(64 * 1024)))),
        (
            INVALID,
            Publication::Document(format!("{ec}{}", " ".repeat(4 * 1024 * 1024))),
        ),
        (INVALID, Publication::Document("<html>not JSON</html>".to_owned())),
        (INVALID, Publication::Document(String::new())),
        (INVALID, Publication::Document("{\"keys\":[]}".to_owned())),
        (INVALID, Publication::Document(with_secret.to_string())),
        (FAILED, Publication::Status(500, ec.clone())),
        (FAILED, Publication::Status(302, ec.clone())),
        (FAILED, Publication::Closed),
    ];
    for (counter, publication) in publications {
        issuer.publish(Publication::Unstorable(rsa.clone()));
        let fetched = metric(&stack, FETCHED).await.unwrap_or(0);
        until_metric("the good keys are there", &stack, FETCHED, |count| count > fetched).await;
        let refused = metric(&stack, counter).await.unwrap_or(0);
        let shown: String = format!("{publication:?}").chars().take(60).collect();
        issuer.publish(publication);
        until_metric(&format!("it is refused: {shown}"), &stack, counter, |count| {
            count > refused
        })
        .await;
        assert!(all_answer(&stack, TokenKey::Rs256, PERMITTED).await, "{shown}");
        assert!(all_answer(&stack, TokenKey::Es256, UNKNOWN).await, "{shown}");
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn the_issuers_metadata_say_where_its_keys_are() {
    let (issuer, mut stack) = start("discovery: openid-configuration, cluster: issuer, timeout_ms: 60000").await;
    issuer.publish(Publication::Document(stack.keys().key_set().unwrap()));
    until_all_answer("the keys are there", &stack, TokenKey::Rs256, PERMITTED).await;
    assert_eq!((issuer.metadata_requests(), issuer.key_requests()), (1, 1));
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_not_there_harms_nothing_but_the_keys() {
    for cluster in ["nowhere", "empty"] {
        let (_issuer, mut stack) = start(&format!("uri: https://issuer.example/jwks, cluster: {cluster}")).await;
        until_metric("attempts fail one after the other", &stack, FAILED, |count| count >= 3).await;
        assert!(all_answer(&stack, TokenKey::Rs256, UNAVAILABLE).await, "{cluster}");
        let mut session = Session::new(stack.keys(), stack.entrances());
        let health = RequestSpec {
            path: "/healthz".to_owned(),
            ..direct()
        };
        let (answer, _) = session.send_with(&health, None).await.unwrap();
        assert_eq!(answer.status, 200, "{cluster}: {answer:?}");
        no_vm_failed(&mut stack).await.unwrap();
    }
}
