//! Header fields that are repeated, in another spelling or in unusual bytes, and what `connection` names: in a real Envoy, which
//! joins some fields before a filter sees them, with the filter and with external authorization.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use picket_tests::client::http1::Http1Connection;
use picket_tests::client::tls::{Alpn, connect_tls};
use picket_tests::exchange::parse;
use picket_tests::stack::{Options, Stack};
use picket_tests::token::TokenSpec;
use picket_tests::{vectors, wait};
use serde_json::Value;

const VECTORS: &str = include_str!("../vectors/header-fields.json");

const TRUSTED: &str = "trust_domains: [ example.org ]\n";
const CONFIGURATION: &str = "trust_domains: [ example.org ]
                    further_methods: [ PURGE ]
                    access:
                      reject:
                      - { id: role, when: [ { header: x-role, values: [ admin ] } ] }
                      - { id: agent, when: [ { header: user-agent, values: [ robot ] } ] }
                      accept:
                      - { id: env, when: [ { header: x-env, not_values: [ test ] } ] }
";

const POLICY: &str = r#"
@id("no-bots")
forbid (principal, action, resource)
when { context has user_agent && (context.user_agent == "bot" || context.user_agent like "*scraper*") };
"#;

fn options() -> Options {
    Options::default().policy(POLICY).edit(TRUSTED, CONFIGURATION).edit(
        "codec_type: AUTO\n",
        "codec_type: AUTO\n          upgrade_configs: [ { upgrade_type: websocket } ]\n",
    )
}

/// Sends a request whose head ends with these lines, on a connection of its own. The status, and the reason.
async fn send(stack: &Stack, lines: &[u8]) -> (u16, Option<String>) {
    let identity = stack.keys().identity("web").unwrap();
    let io = connect_tls(stack.keys(), Some(&identity), Alpn::Http1, stack.inbound_address());
    let mut connection = Http1Connection::new(io.await.unwrap());
    let token = TokenSpec::of("alice").mint(stack.keys()).unwrap();
    let head = format!("GET /orders/1 HTTP/1.1\r\nhost: orders.example.org\r\nauthorization: Bearer {token}\r\n");
    let request = [head.as_bytes(), lines, b"\r\n"].concat();
    let answer = wait::within("an answer", connection.exchange(&request)).await.unwrap();
    (answer.status, answer.reason())
}

/// The values of a header in the last request that the upstream received.
fn received(stack: &Stack, name: &str) -> Vec<String> {
    let last = stack.upstream().last();
    let headers = last.get("headers").and_then(Value::as_array).into_iter().flatten();
    let part = |pair: &Value, index: usize| pair.get(index).and_then(Value::as_str).unwrap().to_owned();
    let values = headers.filter(|pair| part(pair, 0) == name).map(|pair| part(pair, 1));
    values.collect()
}

async fn check(options: Options) {
    let mut stack = Stack::start(options).await.unwrap();
    vectors::check(&mut stack, &parse(VECTORS).unwrap()).await.unwrap();
    // Bytes above ASCII, whether they are UTF-8 or not.
    for agent in [b"scraper\xff".as_slice(), b"\xc3\xa9 scraper", b"\xe9scraper\x80"] {
        let line = [b"user-agent: ", agent, b"\r\n"].concat();
        let (status, reason) = send(&stack, &line).await;
        assert_eq!((status, reason.as_deref()), (403, Some("policy_deny")), "{agent:?}");
    }
    for (connection, kept) in [
        ("connection: Upgrade\r\n", "Upgrade"),
        ("connection: keep-alive, Upgrade\r\n", "keep-alive, Upgrade"),
        ("connection: Upgrade, x-picket-subject, txn-token\r\n", "upgrade"),
        ("connection: upgrade\r\nConnection: X-Picket-Subject\r\n", "upgrade"),
        (
            "connection: X-PICKET-PEER\t,keep-alive ,Upgrade,x-role\r\n",
            "keep-alive, upgrade",
        ),
    ] {
        let before = stack.upstream().requests();
        let (status, reason) = send(&stack, format!("{connection}upgrade: websocket\r\n").as_bytes()).await;
        assert_eq!(
            (status, reason.as_deref()),
            (200, Some("policy_permit")),
            "{connection}"
        );
        assert_eq!(stack.upstream().requests(), before + 1, "{connection}");
        assert_eq!(received(&stack, "connection"), [kept], "{connection}");
        assert_eq!(received(&stack, "upgrade"), ["websocket"], "{connection}");
        assert_eq!(received(&stack, "x-picket-subject"), ["alice"], "{connection}");
    }
    // Without an upgrade Envoy takes the header off.
    assert_eq!(send(&stack, b"connection: x-picket-subject\r\n").await.0, 200);
    assert_eq!(received(&stack, "connection"), [""; 0]);
    assert_ne!(stack.upstream().last(), Value::Null);
    stack.inbound().process().ensure_running().unwrap();
}

#[tokio::test]
async fn no_reading_of_a_header_passes_by_the_filter() {
    check(options()).await;
}

#[tokio::test]
async fn no_reading_of_a_header_passes_by_external_authorization() {
    check(options().externally()).await;
}
