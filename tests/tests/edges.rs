//! Requests at the edges of HTTP, in a real Envoy. After each, Envoy lives, no VM failed, and both workers decide.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use picket_tests::client::http1::Http1Connection;
use picket_tests::client::http2::{self, Rest};
use picket_tests::client::tls::{Alpn, client_config, connect_tls, connect_with};
use picket_tests::client::{Answer, BoxedIo};
use picket_tests::exchange::{Protocol, RequestSpec, header_map};
use picket_tests::fake_policy_service::Mode;
use picket_tests::proof::still_serves;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::wait;

/// How often a caller goes away: enough that both workers see it.
const DEPARTURES: usize = 16;

async fn stack() -> Stack {
    Stack::start(Options::default().fake(Mode::Permit).wide())
        .await
        .unwrap()
}

fn token(stack: &Stack) -> String {
    TokenSpec::of("alice").mint(stack.keys()).unwrap()
}

async fn connect(stack: &Stack, alpn: Alpn) -> BoxedIo {
    let identity = stack.keys().identity("web").unwrap();
    connect_tls(stack.keys(), Some(&identity), alpn, stack.inbound_address())
        .await
        .unwrap()
}

/// Sends bytes on a connection of their own.
async fn send(stack: &Stack, bytes: &[u8]) -> Answer {
    let mut connection = Http1Connection::new(connect(stack, Alpn::Http1).await);
    wait::within("an answer", connection.exchange(bytes)).await.unwrap()
}

/// A request for `/orders/1` with a good token and these further bytes among its header fields.
fn with_fields(stack: &Stack, fields: &[u8]) -> Vec<u8> {
    let head = format!(
        "GET /orders/1 HTTP/1.1\r\nhost: orders.example.org\r\nauthorization: Bearer {}\r\n",
        token(stack)
    );
    [head.as_bytes(), fields, b"\r\n"].concat()
}

/// A request for `/orders` by POST with this body framing and body.
fn post(stack: &Stack, framing: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: orders.example.org\r\nauthorization: Bearer {}\r\n{framing}\r\n\r\n",
        token(stack)
    );
    [head.as_bytes(), body].concat()
}

#[track_caller]
fn assert_permitted(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (200, Some("policy_permit")),
        "{answer:?}"
    );
}

async fn one_more_call(stack: &Stack, before: u64) {
    wait::until("the policy service is asked", || async {
        Ok((stack.fake()?.calls() > before).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bytes_that_are_not_utf_8() {
    let mut stack = stack().await;
    let names = [
        "x-a",
        "user-agent",
        "traceparent",
        "cookie",
        "x-picket-subject",
        "x-request-id",
        "accept",
    ];
    for name in names {
        let field = [name.as_bytes(), b": \xff\xfe\x80 caf\xe9 \xed\xa0\x80\r\n"].concat();
        let answer = send(&stack, &with_fields(&stack, &field)).await;
        assert!([200, 400].contains(&answer.status), "{name}: {answer:?}");
    }
    let refused: [&[u8]; 3] = [b"Bearer \xff\xfe.a.b", b"\xff", b"Bearer a.\xc3\x28.b"];
    for credential in refused {
        let head: &[u8] = b"GET /orders/1 HTTP/1.1\r\nhost: orders.example.org\r\nauthorization: ";
        let answer = send(&stack, &[head, credential, b"\r\n\r\n"].concat()).await;
        assert!([400, 401].contains(&answer.status), "{credential:?}: {answer:?}");
    }
    let answer = send(
        &stack,
        b"GET /orders/\xff\xfe HTTP/1.1\r\nhost: orders.example.org\r\n\r\n",
    )
    .await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let connection = http2::Http2Connection::new(connect(&stack, Alpn::Http2).await)
        .await
        .unwrap();
    let (mut request, rest) = RequestSpec::default().http2(Some(&token(&stack))).unwrap();
    request
        .headers_mut()
        .extend(header_map(&[("x-a", b"\xff\xfe"), ("user-agent", b"\xe9")]).unwrap());
    let answer = wait::within("an answer", connection.exchange(request, rest))
        .await
        .unwrap();
    assert!([200, 400].contains(&answer.status), "{answer:?}");
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn many_headers_large_headers_and_empty_ones() {
    let mut stack = stack().await;
    let large = format!("x-large: {}\r\n", "v".repeat(60 * 1024));
    assert_permitted(&send(&stack, &with_fields(&stack, large.as_bytes())).await);
    let many: String = (0..200).map(|n| format!("x-many-{n}: {n}\r\n")).collect();
    assert_permitted(&send(&stack, &with_fields(&stack, many.as_bytes())).await);
    let same: String = (0..200).map(|n| format!("x-same: {n}\r\n")).collect();
    assert_permitted(&send(&stack, &with_fields(&stack, same.as_bytes())).await);
    let empty = b"x-empty:\r\nuser-agent:\r\ntraceparent: \r\ncookie:\r\nx-picket-subject:\r\n";
    let answer = send(&stack, &with_fields(&stack, empty)).await;
    assert_permitted(&answer);
    assert_eq!(answer.received_by_upstream("x-picket-subject"), ["alice"]);
    let head = "GET /orders/1 HTTP/1.1\r\nhost: orders.example.org\r\n";
    for credential in ["", "Bearer", "Bearer ", "Bearer  ", "bearer", "Basic", "Bearer a b"] {
        let answer = send(&stack, format!("{head}authorization: {credential}\r\n\r\n").as_bytes()).await;
        assert!([400, 401].contains(&answer.status), "`{credential}`: {answer:?}");
        assert!(answer.reason().is_some(), "`{credential}`: {answer:?}");
    }
    let large_token = format!("{head}authorization: Bearer {}\r\n\r\n", "a".repeat(60 * 1024));
    let answer = send(&stack, large_token.as_bytes()).await;
    assert!([400, 401].contains(&answer.status), "{answer:?}");
    let large_path = format!(
        "GET /orders/{} HTTP/1.1\r\nhost: orders.example.org\r\n\r\n",
        "a".repeat(60 * 1024)
    );
    let answer = send(&stack, large_path.as_bytes()).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn two_credentials_are_none() {
    let mut stack = stack().await;
    let second = format!("authorization: Bearer {}\r\n", token(&stack));
    for field in [second.as_str(), "Authorization: Basic YTpi\r\n", "authorization: x\r\n"] {
        let before = stack.upstream().requests();
        let answer = send(&stack, &with_fields(&stack, field.as_bytes())).await;
        assert!([400, 401].contains(&answer.status), "`{field}`: {answer:?}");
        assert_eq!(stack.upstream().requests(), before, "`{field}`");
    }
    // Envoy joins repeated Authorization fields with commas, and an empty one is nothing to it: Picket sees one credential.
    assert_permitted(&send(&stack, &with_fields(&stack, b"authorization: \r\n")).await);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_there_before_the_decision_waits_for_it() {
    let mut stack = stack().await;
    // The larger one is more than Envoy holds back: the rest waits at the client.
    for bytes in [1, 10_000, 1_000_000] {
        stack.fake().unwrap().set(Mode::Silent);
        let (calls, requests) = (stack.fake().unwrap().calls(), stack.upstream().requests());
        let request = post(&stack, &format!("content-length: {bytes}"), &vec![b'b'; bytes]);
        let io = connect(&stack, Alpn::Http1).await;
        let exchange = tokio::spawn(async move { Http1Connection::new(io).exchange(&request).await });
        one_more_call(&stack, calls).await;
        assert_eq!(
            stack.upstream().requests(),
            requests,
            "{bytes}: the body went on without a decision"
        );
        stack.fake().unwrap().set(Mode::Permit);
        let answer = wait::within("an answer", async { exchange.await? }).await.unwrap();
        assert_permitted(&answer);
        assert_eq!(answer.json().unwrap()["body_bytes"], bytes);
    }
    stack.fake().unwrap().set(Mode::Reset);
    let requests = stack.upstream().requests();
    let answer = send(&stack, &post(&stack, "content-length: 200000", &[b'b'; 200_000])).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(stack.upstream().requests(), requests);
    stack.fake().unwrap().set(Mode::Permit);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn chunks_and_trailers() {
    let mut stack = stack().await;
    let chunked = b"3\r\nabc\r\n0\r\nx-picket-subject: root\r\nx-trailer: \xff\xfe\r\n\r\n";
    let answer = send(
        &stack,
        &post(&stack, "transfer-encoding: chunked\r\ntrailer: x-trailer", chunked),
    )
    .await;
    assert_permitted(&answer);
    assert_eq!(answer.json().unwrap()["body_bytes"], 3);
    assert!(
        !answer.json().unwrap()["trailers"].to_string().contains("root"),
        "{answer:?}"
    );
    let connection = http2::Http2Connection::new(connect(&stack, Alpn::Http2).await)
        .await
        .unwrap();
    for body in [Bytes::new(), Bytes::from_static(&[0, 0, 0, 0, 0])] {
        let call = RequestSpec {
            protocol: Protocol::Grpc,
            method: "POST".to_owned(),
            path: "/orders.v1.Orders/List".to_owned(),
            ..RequestSpec::default()
        };
        let (request, _) = call.http2(Some(&token(&stack))).unwrap();
        let trailers = header_map(&[("x-picket-subject", b"root"), ("x-trailer", b"t")]).unwrap();
        let rest = Rest {
            body,
            trailers: Some(trailers),
        };
        let answer = wait::within("an answer", connection.exchange(request, rest))
            .await
            .unwrap();
        assert_permitted(&answer);
        assert_eq!(answer.grpc_status(), Some(0), "{answer:?}");
        let trailers = answer.json().unwrap()["trailers"].to_string();
        assert!(trailers.contains("x-trailer"), "{trailers}");
        assert!(!trailers.contains("root"), "a forged trailer arrived: {trailers}");
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_while_the_decision_is_awaited() {
    let mut stack = stack().await;
    stack.fake().unwrap().set(Mode::Silent);
    let get = with_fields(&stack, b"");
    let cut = post(&stack, "content-length: 100000", &[b'b'; 30_000]);
    for request in [&get, &cut] {
        for _ in 0..DEPARTURES {
            let calls = stack.fake().unwrap().calls();
            let mut connection = Http1Connection::new(connect(&stack, Alpn::Http1).await);
            connection.send(request).await.unwrap();
            one_more_call(&stack, calls).await;
            drop(connection);
        }
    }
    for _ in 0..DEPARTURES {
        let calls = stack.fake().unwrap().calls();
        let connection = http2::Http2Connection::new(connect(&stack, Alpn::Http2).await)
            .await
            .unwrap();
        let (request, rest) = RequestSpec::default().http2(Some(&token(&stack))).unwrap();
        let exchange = tokio::spawn(async move { connection.exchange(request, rest).await });
        one_more_call(&stack, calls).await;
        // The stream is reset, and the connection closed.
        exchange.abort();
    }
    // Now the answers come, to callers that are gone.
    stack.fake().unwrap().set(Mode::Permit);
    wait::until("no request is left in Envoy", || async {
        let active = stack_active(&stack).await?;
        Ok((active == 0).then_some(()))
    })
    .await
    .unwrap();
    still_serves(&mut stack).await.unwrap();
}

async fn stack_active(stack: &Stack) -> anyhow::Result<u64> {
    let stats = stack
        .inbound_stats(|name| name == "http.inbound.downstream_rq_active")
        .await?;
    Ok(stats.iter().map(|(_, value)| value).sum())
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_of_its_body() {
    let mut stack = stack().await;
    for _ in 0..DEPARTURES {
        let requests = stack.upstream().requests();
        let mut connection = Http1Connection::new(connect(&stack, Alpn::Http1).await);
        let request = post(&stack, "content-length: 1000000", &[b'b'; 50_000]);
        connection.send(&request).await.unwrap();
        wait::until("the request reached the upstream", || async {
            Ok((stack.upstream().requests() > requests).then_some(()))
        })
        .await
        .unwrap();
        drop(connection);
    }
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn http_1_0_and_odd_request_lines() {
    let mut stack = stack().await;
    let token = token(&stack);
    let old = format!("GET /orders/1 HTTP/1.0\r\nhost: orders.example.org\r\nauthorization: Bearer {token}\r\n\r\n");
    assert_permitted(&send(&stack, old.as_bytes()).await);
    let hostless = format!("GET /orders/1 HTTP/1.0\r\nauthorization: Bearer {token}\r\n\r\n");
    assert_permitted(&send(&stack, hostless.as_bytes()).await);
    let refused = send(&stack, b"GET /orders/1 HTTP/1.0\r\n\r\n").await;
    assert_eq!(refused.reason().as_deref(), Some("credential_missing"), "{refused:?}");
    let absolute = format!(
        "GET http://orders.example.org/orders/1 HTTP/1.1\r\nhost: other.example\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    assert_permitted(&send(&stack, absolute.as_bytes()).await);
    let lines = [
        "OPTIONS * HTTP/1.1",
        "CONNECT orders.example.org:443 HTTP/1.1",
        "GET ?a=b HTTP/1.1",
        "TRACE /orders/1 HTTP/1.1",
        "GET /orders/%00 HTTP/1.1",
        "GET /orders/1#x HTTP/1.1",
        "get /orders/1 HTTP/1.1",
    ];
    for line in lines {
        let requests = stack.upstream().requests();
        let request = format!("{line}\r\nhost: orders.example.org\r\nauthorization: Bearer {token}\r\n\r\n");
        let answer = send(&stack, request.as_bytes()).await;
        assert!((400..500).contains(&answer.status), "{line}: {answer:?}");
        assert_eq!(stack.upstream().requests(), requests, "{line}");
    }
    let upgrade = with_fields(&stack, b"connection: upgrade\r\nupgrade: websocket\r\n");
    let answer = send(&stack, &upgrade).await;
    assert!([200, 403].contains(&answer.status), "{answer:?}");
    let expecting = post(&stack, "content-length: 2\r\nexpect: 100-continue", b"hi");
    assert_permitted(&send(&stack, &expecting).await);
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn the_shipped_limits_refuse_before_picket_is_asked() {
    let mut stack = Stack::start(Options::default().fake(Mode::Permit)).await.unwrap();
    let many: String = (0..200).map(|n| format!("x-many-{n}: {n}\r\n")).collect();
    let large = format!("x-large: {}\r\n", "v".repeat(60 * 1024));
    for fields in [many, large] {
        let answer = send(&stack, &with_fields(&stack, fields.as_bytes())).await;
        assert_eq!((answer.status, answer.reason()), (431, None), "{answer:?}");
    }
    let old = send(&stack, b"GET /orders/1 HTTP/1.0\r\n\r\n").await;
    assert_eq!((old.status, old.reason()), (426, None), "{old:?}");
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn http_2_streams_side_by_side_get_each_their_own_answer() {
    let mut stack = stack().await;
    let mut tasks = Vec::new();
    for subject in 0..20 {
        let token = TokenSpec::of(&format!("user-{subject}")).mint(stack.keys()).unwrap();
        let io = connect(&stack, Alpn::Http2).await;
        tasks.push(tokio::spawn(async move {
            let connection = http2::Http2Connection::new(io).await?;
            for _ in 0..5 {
                let (request, rest) = RequestSpec::default().http2(Some(&token))?;
                let answer = connection.exchange(request, rest).await?;
                assert_eq!(
                    answer.received_by_upstream("x-picket-subject"),
                    [format!("user-{subject}")]
                );
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        wait::within("twenty callers", async { task.await? }).await.unwrap();
    }
    still_serves(&mut stack).await.unwrap();
}

/// Envoy does not validate the certificate of a resumed session again. What Picket relies on is that this is visible, and that
/// the shipped configuration resumes none.
#[tokio::test]
async fn a_client_that_would_resume_its_session_is_served_and_a_resumed_one_is_refused() {
    for resumes in [false, true] {
        let mut options = Options::default().fake(Mode::Permit);
        if resumes {
            options = options
                .edit(
                    "disable_stateless_session_resumption: true",
                    "disable_stateless_session_resumption: false",
                )
                .edit(
                    "disable_stateful_session_resumption: true",
                    "disable_stateful_session_resumption: false",
                );
        }
        let mut stack = Stack::start(options).await.unwrap();
        let identity = stack.keys().identity("web").unwrap();
        let config = Arc::new(client_config(stack.keys(), Some(&identity), Alpn::Http1).unwrap());
        let mut reasons = BTreeSet::new();
        for _ in 0..4 {
            let io = connect_with(Arc::clone(&config), stack.inbound_address())
                .await
                .unwrap();
            let mut connection = Http1Connection::new(io);
            let answer = wait::within("an answer", connection.exchange(&with_fields(&stack, b"")))
                .await
                .unwrap();
            reasons.insert(answer.reason().unwrap_or_default());
        }
        let expected: &[&str] = if resumes {
            &["peer_unverified", "policy_permit"]
        } else {
            &["policy_permit"]
        };
        assert_eq!(
            reasons.iter().map(String::as_str).collect::<Vec<_>>(),
            expected,
            "resumption: {resumes}"
        );
        still_serves(&mut stack).await.unwrap();
    }
}
