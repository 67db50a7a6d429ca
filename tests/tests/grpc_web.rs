//! Refusals to callers of gRPC-Web, with Envoy's own filter for it in front of Picket and without,
//! and both through the filter and through external authorization: a gRPC status in the headers of
//! a response without a body.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::exchange::{Exchange, RequestSpec, Via, parse};
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::vectors::check as check_vectors;
use serde_json::json;

const VECTORS: &str = include_str!("../vectors/grpc-web.json");
const BRIDGE: &str = "          http_filters:
          - name: envoy.filters.http.grpc_web
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb
";

/// `service Orders { rpc List(Order) returns (Order); }` in the package `orders.v1`, compiled.
const DESCRIPTOR: &str = "CnAKDG9yZGVycy5wcm90bxIJb3JkZXJzLnYxIhcKBU9yZGVyEg4KAmlkGAEgASgJUgJpZDI0CgZPcmRlcnMSKgoETGlzdBIQLm9yZGV\
                          ycy52MS5PcmRlchoQLm9yZGVycy52MS5PcmRlcmIGcHJvdG8z";

async fn check(options: Options, vectors: &[Exchange]) {
    let mut stack = Stack::start(options).await.unwrap();
    check_vectors(&mut stack, vectors).await.unwrap();
    // And what is permitted goes on.
    let mut session = Session::new(stack.keys(), stack.entrances());
    let request = RequestSpec {
        token: Some(TokenSpec::of("alice")),
        ..of_content_type("application/grpc-web")
    };
    let answer = session.send(&request).await.unwrap();
    assert_eq!(answer.reason().as_deref(), Some("policy_permit"), "{answer:?}");
}

fn vectors() -> Vec<Exchange> {
    parse(VECTORS).unwrap()
}

fn behind_envoys_filter() -> Options {
    Options::default().edit("          http_filters:\n", BRIDGE)
}

fn of_content_type(content_type: &str) -> RequestSpec {
    RequestSpec {
        via: Via::Direct,
        method: "POST".to_owned(),
        path: "/orders.v1.Orders/List".to_owned(),
        headers: vec![("content-type".to_owned(), content_type.to_owned())],
        ..RequestSpec::default()
    }
}

#[tokio::test]
async fn behind_envoys_filter_refusals_have_their_status() {
    check(behind_envoys_filter(), &vectors()).await;
}

#[tokio::test]
async fn without_envoys_filter_refusals_have_their_status() {
    check(Options::default(), &vectors()).await;
}

#[tokio::test]
async fn external_authorization_behind_envoys_filter_gives_the_same() {
    check(behind_envoys_filter().externally(), &vectors()).await;
}

#[tokio::test]
async fn external_authorization_without_envoys_filter_gives_the_same_but_the_content_type() {
    let mut vectors = vectors();
    for vector in &mut vectors {
        // Envoy takes it out of every denied response without a body.
        if vector.id.starts_with("grpc-web") {
            vector.expected.headers.remove("content-type");
        }
    }
    check(Options::default().externally(), &vectors).await;
}

/// Envoy's transcoder makes gRPC of JSON before Picket, and JSON's status of gRPC's behind it.
#[tokio::test]
async fn behind_envoys_transcoder_a_refusal_is_no_success() {
    let transcoder = format!(
        "          http_filters:
          - name: envoy.filters.http.grpc_json_transcoder
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder
              proto_descriptor_bin: {DESCRIPTOR}
              services: [ orders.v1.Orders ]
              auto_mapping: true
"
    );
    let options = || Options::default().edit("          http_filters:\n", &transcoder);
    for options in [options(), options().externally()] {
        let stack = Stack::start(options).await.unwrap();
        let mut session = Session::new(stack.keys(), stack.entrances());
        let reader: TokenSpec = serde_json::from_value(json!({"claims": {"sub": "bob", "roles": ["reader"]}})).unwrap();
        for (token, expected) in [
            (None, (401, "credential_missing")),
            (Some(reader.clone()), (403, "policy_deny")),
        ] {
            let request = RequestSpec {
                body: "{}".to_owned(),
                token,
                ..of_content_type("application/json")
            };
            let answer = session.send(&request).await.unwrap();
            let found = (answer.status, answer.reason());
            assert_eq!(
                (found.0, found.1.as_deref()),
                (expected.0, Some(expected.1)),
                "{answer:?}"
            );
        }
    }
}
