//! Without the filter: the policy service answers Envoy's external authorization, with the same outcome for the same request.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::client::http2;
use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::exchange::{Protocol, RequestSpec, Via, header_map, parse};
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::vectors::{self, LENIENT, SHIPPED};
use picket_tests::wait;

async fn check_vectors(options: Options, vectors: &str) {
    let mut stack = Stack::start(options.externally()).await.unwrap();
    vectors::check(&mut stack, &parse(vectors).unwrap()).await.unwrap();
}

#[tokio::test]
async fn the_shipped_sidecar_answers_each_vector_as_with_the_filter() {
    check_vectors(Options::default(), SHIPPED).await;
}

#[tokio::test]
async fn a_sidecar_that_leaves_everything_to_picket_answers_each_vector_as_with_the_filter() {
    check_vectors(Options::default().lenient(), LENIENT).await;
}

/// Spellings of names that Picket owns. Twice each, because the first of several may be what is replaced.
const FORGED: [&str; 5] = [
    "x-picket-subject",
    "x_picket_subject",
    "x-picket-roles",
    "x.picket.peer",
    "x-picket-some-future-header",
];

#[tokio::test]
async fn a_forged_identity_header_never_arrives() {
    let mut stack = Stack::start(Options::default().wide().externally()).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    for (via, protocol) in [
        (Via::Sidecar, Protocol::Http1),
        (Via::Direct, Protocol::Http2),
        (Via::Direct, Protocol::Grpc),
    ] {
        let is_grpc = protocol == Protocol::Grpc;
        let forged = FORGED
            .iter()
            .flat_map(|name| [(*name, "forged"), (*name, "forged-again")]);
        let request = RequestSpec {
            via,
            protocol,
            method: if is_grpc { "POST" } else { "GET" }.to_owned(),
            path: if is_grpc { "/orders.v1.Orders/List" } else { "/orders/1" }.to_owned(),
            token: Some(TokenSpec::of("alice")),
            headers: forged
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ..RequestSpec::default()
        };
        let answer = session.send(&request).await.unwrap();
        assert_eq!(
            answer.reason().as_deref(),
            Some("policy_permit"),
            "{via:?} {protocol:?}: {answer:?}"
        );
        let echo = answer.json().unwrap();
        assert!(!echo.to_string().contains("forged"), "{via:?} {protocol:?}: {echo}");
        assert_eq!(answer.received_by_upstream("x-picket-subject"), ["alice"]);
        assert_eq!(
            answer.received_by_upstream("x-picket-peer"),
            ["spiffe://example.org/web"]
        );
    }
    stack.inbound().process().ensure_running().unwrap();
}

#[tokio::test]
async fn a_forged_trailer_never_arrives() {
    let stack = Stack::start(Options::default().externally()).await.unwrap();
    let identity = stack.keys().identity("web").unwrap();
    let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http2, stack.inbound_address());
    let connection = http2::Http2Connection::new(io.await.unwrap()).await.unwrap();
    let call = RequestSpec {
        protocol: Protocol::Grpc,
        method: "POST".to_owned(),
        path: "/orders.v1.Orders/List".to_owned(),
        ..RequestSpec::default()
    };
    let token = TokenSpec::of("alice").mint(stack.keys()).unwrap();
    let (request, mut rest) = call.http2(Some(&token)).unwrap();
    let forged: [(&str, &[u8]); 3] = [
        ("x-picket-subject", b"root"),
        ("x_picket_roles", b"root"),
        ("x-trailer", b"t"),
    ];
    rest.trailers = Some(header_map(&forged).unwrap());
    let answer = wait::within("an answer", connection.exchange(request, rest))
        .await
        .unwrap();
    assert_eq!(answer.grpc_status(), Some(0), "{answer:?}");
    let trailers = answer.json().unwrap()["trailers"].to_string();
    assert!(trailers.contains("x-trailer"), "{trailers}");
    assert!(!trailers.contains("root"), "{trailers}");
}

#[tokio::test]
async fn a_grpc_caller_gets_the_status_of_the_reason_and_not_of_its_http_status() {
    let stack = Stack::start(Options::default().externally()).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let request = RequestSpec {
        protocol: Protocol::Grpc,
        method: "POST".to_owned(),
        path: "/orders.v1.Orders/List".to_owned(),
        headers: vec![("authorization".to_owned(), "Bearer a b".to_owned())],
        ..RequestSpec::default()
    };
    let answer = session.send(&request).await.unwrap();
    // INVALID_ARGUMENT; Envoy makes INTERNAL of 400.
    assert_eq!(answer.grpc_status(), Some(3), "{answer:?}");
    assert_eq!(answer.reason().as_deref(), Some("credential_malformed"));
}

#[tokio::test]
async fn without_the_policy_service_nothing_goes_on() {
    let mut stack = Stack::start(Options::default().externally()).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let request = RequestSpec {
        token: Some(TokenSpec::of("alice")),
        ..RequestSpec::default()
    };
    assert_eq!(session.send(&request).await.unwrap().status, 200);
    stack.policy_service().unwrap().stop().await.unwrap();
    let before = stack.upstream().requests();
    assert_eq!(session.send(&request).await.unwrap().status, 503);
    assert_eq!(stack.upstream().requests(), before);
    stack.policy_service().unwrap().start_again().await.unwrap();
    wait::until("requests go on again", || async {
        let mut session = Session::new(stack.keys(), stack.entrances());
        Ok((session.send(&request).await?.status == 200).then_some(()))
    })
    .await
    .unwrap();
}
