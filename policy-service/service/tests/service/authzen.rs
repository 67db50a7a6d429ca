//! The AuthZEN Authorization API, asked of the real program.

use std::sync::Arc;

use picket_audit::{self as audit, EffectRecord, Event, KeyEncryptionKey};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ORDERS;
use super::harness::{KEY, Service, Setup};
use super::sessions::{self, SQLITE};

pub(crate) const EVALUATION: &str = "/access/v1/evaluation";
/// What can be found; `orders-write` is for clerks.
const RESOURCES: &str = r#"[
    {"type": "route", "id": "orders-read", "properties": {"host": "orders.example.org", "path": "/orders/7"}},
    {"type": "route", "id": "orders-read", "properties": {"host": "orders.example.org", "path": "/orders/8"}},
    {"type": "route", "id": "orders-read", "properties": {"host": "orders.example.org", "path": "/secrets", "classification": "secret"}},
    {"type": "route", "id": "orders-write", "properties": {"host": "orders.example.org", "path": "/orders"}},
    {"type": "route", "id": "orders-read", "properties": {"host": "orders.example.org", "path": "/orders/9"}}
]"#;
const EVALUATIONS: &str = "/access/v1/evaluations";
/// RFC 9449 §6.1.
const KEY_THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert!(
            self.head.contains("content-type: application/json"),
            "{}\n{}",
            self.head,
            self.body
        );
        serde_json::from_str(&self.body).unwrap()
    }
}

fn start() -> (Setup, Service) {
    start_with("", "", |_| ())
}

/// With more sections in the configuration, more in that of the API, and whatever else is to be there before the start.
pub(crate) fn start_with(more: &str, more_of_api: &str, prepare: impl FnOnce(&Setup)) -> (Setup, Service) {
    let setup = Setup::with(more);
    prepare(&setup);
    std::fs::write(setup.path("resources.json"), RESOURCES).unwrap();
    let mut text = std::fs::read_to_string(setup.path("service.toml")).unwrap();
    text.push_str(&format!(
        "\n[authzen]\nlisten = \"127.0.0.1:0\"\npolicy_decision_point = \"https://pdp.example.org\"\n\
         request_bytes_max = 20000\nevaluations_max = 3\n{more_of_api}"
    ));
    std::fs::write(setup.path("service.toml"), text).unwrap();
    let service = setup.start();
    (setup, service)
}

/// Sends one request on a connection of its own, as this caller.
pub(crate) async fn send_as(caller: &str, setup: &Setup, service: &Service, request: String) -> Answer {
    let identity = setup.authority.identity(caller);
    let mut config = setup.authority.client(Some(&identity), &TLS13);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(service.authzen.unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: pdp\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

pub(crate) async fn post(setup: &Setup, service: &Service, path: &str, document: &Value) -> Answer {
    let request = request(
        "POST",
        path,
        &[JSON, ("x-request-id", "request-7")],
        &document.to_string(),
    );
    let answer = send_as(ORDERS, setup, service, request).await;
    assert!(answer.head.contains("x-request-id: request-7"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    answer
}

pub(crate) fn alice(roles: &[&str]) -> Value {
    json!({
        "type": "user",
        "id": "alice",
        "properties": {"issuer": "https://issuer.example", "roles": roles, "unknown": [1, {"a": null}]},
    })
}

pub(crate) fn route(rule: &str, path: &str) -> Value {
    json!({"type": "route", "id": rule, "properties": {"host": "orders.example.org", "path": path}})
}

pub(crate) fn read_order(roles: &[&str]) -> Value {
    json!({
        "subject": alice(roles),
        "action": {"name": "GET"},
        "resource": route("orders-read", "/orders/7"),
        "context": {
            "source_address": "10.0.0.1", "peer": "spiffe://example.org/web", "key_thumbprint": KEY_THUMBPRINT,
        },
    })
}

#[tokio::test]
async fn an_evaluation_is_a_decision_with_a_record() {
    let (setup, mut service) = start();
    let answer = post(&setup, &service, EVALUATION, &read_order(&["reader"])).await;
    assert_eq!(answer.status, 200);
    let permit = answer.json();
    assert_eq!(permit["decision"], true);
    assert_eq!(permit["context"].get("reasons"), None);

    let mut secret = read_order(&["reader"]);
    secret["resource"]["properties"]["classification"] = "secret".into();
    let answer = post(&setup, &service, EVALUATION, &secret).await;
    // A deny is an answer like any other.
    assert_eq!(answer.status, 200);
    let deny = answer.json();
    assert_eq!(deny["decision"], false);
    assert_eq!(
        deny["context"]["reasons"],
        json!(["classification `secret` needs the role auditor"])
    );

    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = audit::tail(&setup.path("audit.sqlite3"), &key, 10).unwrap();
    assert_eq!(records.len(), 2);
    let Event::Decision(record) = &records[0].content else {
        panic!("no decision: {:?}", records[0]);
    };
    assert_eq!(permit["context"]["decision_id"], record.decision_id.as_str());
    assert_eq!(
        (record.request_id.as_str(), record.effect),
        ("request-7", EffectRecord::Permit)
    );
    assert_eq!(
        (record.caller.as_str(), record.sidecar.workload.as_str()),
        (ORDERS, ORDERS)
    );
    assert_eq!(record.peer.as_deref(), Some("spiffe://example.org/web"));
    assert_eq!(record.principal.as_ref().unwrap().subject, "alice");
    assert_eq!(record.context.key_thumbprint.as_deref(), Some(KEY_THUMBPRINT));
    let metrics = service.get("/metrics").1;
    let counted = "picket_policy_service_authzen_requests_total{endpoint=\"evaluation\",status=\"200\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    service.terminate();
    assert!(service.wait().success());
}

#[tokio::test]
async fn a_workload_asks_for_itself() {
    let (setup, service) = start();
    let document = json!({
        "subject": {"type": "workload", "id": "spiffe://example.org/web"},
        "action": {"name": "GET"},
        "resource": route("stock-read", "/stock/screws"),
    });
    assert_eq!(
        post(&setup, &service, EVALUATION, &document).await.json()["decision"],
        true
    );
}

#[tokio::test]
async fn evaluations_inherit_what_they_leave_out_and_stop_where_their_semantic_says() {
    let (setup, service) = start();
    let items = json!([
        {},
        {"resource": route("orders-write", "/orders/7")},
        {"subject": alice(&["clerk"])},
    ]);
    for (semantic, expected) in [
        (None, vec![true, false, true]),
        (Some("execute_all"), vec![true, false, true]),
        (Some("deny_on_first_deny"), vec![true, false]),
        (Some("permit_on_first_permit"), vec![true]),
    ] {
        let mut document = read_order(&["reader"]);
        document["evaluations"] = items.clone();
        if let Some(semantic) = semantic {
            document["options"] = json!({"evaluations_semantic": semantic, "another": 1});
        }
        let answer = post(&setup, &service, EVALUATIONS, &document).await.json();
        let decisions: Vec<bool> = answer["evaluations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["decision"].as_bool().unwrap())
            .collect();
        assert_eq!(decisions, expected, "{semantic:?}");
        assert_eq!(answer.get("decision"), None);
    }
}

#[tokio::test]
async fn one_evaluation_that_is_malformed_is_a_deny_of_its_own() {
    let (setup, service) = start();
    let mut document = read_order(&["reader"]);
    document["evaluations"] = json!([7, {"action": {"name": 1}}, {}]);
    let answer = post(&setup, &service, EVALUATIONS, &document).await.json();
    let results = answer["evaluations"].as_array().unwrap();
    assert_eq!(
        results[0]["context"]["error"],
        json!({"status": 400, "message": "expected an object"})
    );
    assert_eq!(results[1]["decision"], false);
    let message = results[1]["context"]["error"]["message"].as_str().unwrap();
    assert_eq!(message, "action.name: expected a string, found an integer");
    assert_eq!(results[2]["decision"], true);
    document["options"] = json!({"evaluations_semantic": "deny_on_first_deny"});
    let answer = post(&setup, &service, EVALUATIONS, &document).await.json();
    assert_eq!(answer["evaluations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_evaluations_it_is_one() {
    let (setup, service) = start();
    for evaluations in [None, Some(json!([]))] {
        let mut document = read_order(&["reader"]);
        if let Some(evaluations) = evaluations {
            document["evaluations"] = evaluations;
        }
        assert_eq!(
            post(&setup, &service, EVALUATIONS, &document).await.json()["decision"],
            true
        );
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "most of it is a table")]
async fn what_is_malformed_is_told_with_the_field() {
    let (setup, service) = start();
    let with = |pointer: &str, value: Value| {
        let mut document = read_order(&["reader"]);
        *document.pointer_mut(pointer).unwrap() = value;
        document
    };
    for (document, expected) in [
        (
            json!({}),
            "subject: is required; action: is required; resource: is required",
        ),
        (
            with("/subject/type", "group".into()),
            "subject.type: unknown value `group`, expected one of `user`, `workload`",
        ),
        (
            with("/resource/type", "file".into()),
            "resource.type: unknown value `file`, expected one of `route`",
        ),
        (
            with("/subject/id", "".into()),
            "subject.id: expected a text that is not empty",
        ),
        (
            with("/subject/properties", json!({})),
            "subject.properties.issuer: is required where `subject.type` is `user`",
        ),
        (
            with("/subject/properties/roles", json!(["a", 1])),
            "subject.properties.roles[1]: expected a string, found an integer",
        ),
        (
            with("/action/name", "G T".into()),
            "action.name: expected an HTTP method",
        ),
        (
            with("/action/name", "delete".into()),
            "action.name: expected an HTTP method in upper case",
        ),
        (
            with("/context", json!({"user_agent": "a".repeat(1025)})),
            "context.user_agent: expected at most 1024 bytes",
        ),
        (
            with("/resource/properties/host", "Orders:80".into()),
            "resource.properties.host: expected a host in lower case",
        ),
        (
            with("/resource/properties/path", "/a/../b".into()),
            "resource.properties.path: expected the normal form without a query, `/b`",
        ),
        (
            with("/resource/properties/path", "/a/../b?c".into()),
            "resource.properties.path: expected the normal form without a query, `/b`",
        ),
        (
            with("/resource/properties/path", "/a/..%3B/b".into()),
            "resource.properties.path: the path holds dot segments",
        ),
        (
            with("/resource/properties/path", "/orders/7%3Bx".into()),
            "resource.properties.path: the path holds `;`, `%3B`, `%3F` or `%23`",
        ),
        (
            with("/resource/properties/path", "/orders/a%2Fb".into()),
            "resource.properties.path: the path holds an encoded slash",
        ),
        (
            with("/context/source_address", "here".into()),
            "context.source_address: expected an IP address",
        ),
        (
            with("/context/key_thumbprint", "0ZcO".into()),
            "context.key_thumbprint: expected a SHA-256 hash in base64url without padding",
        ),
        (with("/context/peer", "web".into()), "context.peer: expected a URI"),
        (with("/subject/type", "workload".into()), "subject.id: expected a URI"),
    ] {
        let answer = post(&setup, &service, EVALUATION, &document).await;
        assert_eq!(answer.status, 400, "{expected}");
        assert!(answer.body.starts_with(expected), "{expected}\n{}", answer.body);
    }
}

#[tokio::test]
async fn what_is_malformed_about_all_evaluations_refuses_the_call() {
    let (setup, service) = start();
    let mut document = read_order(&[]);
    for (evaluations, options, expected) in [
        (json!({}), json!({}), "evaluations: expected an array"),
        (
            json!([{}, {}, {}, {}]),
            json!({}),
            "evaluations: expected at most 3 elements, found 4",
        ),
        (
            json!([{}]),
            json!({"evaluations_semantic": "any"}),
            "options.evaluations_semantic: unknown value `any`",
        ),
    ] {
        document["evaluations"] = evaluations;
        document["options"] = options;
        let answer = post(&setup, &service, EVALUATIONS, &document).await;
        assert_eq!(answer.status, 400, "{expected}");
        assert!(answer.body.starts_with(expected), "{expected}\n{}", answer.body);
    }
}

#[tokio::test]
async fn what_is_no_call_of_the_api_has_the_status_that_says_so() {
    let (setup, service) = start();
    let good = read_order(&["reader"]).to_string();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let large = format!("{{\"a\":\"{}\"}}", "a".repeat(20_000));
    for (caller, request, status, message) in [
        (
            ORDERS,
            request("POST", EVALUATION, &[], &good),
            400,
            "expected the content type `application/json`",
        ),
        (
            ORDERS,
            request("POST", EVALUATION, &[JSON], "{"),
            400,
            "the body is not JSON",
        ),
        (
            ORDERS,
            request("POST", EVALUATION, &[JSON], "[]"),
            400,
            "the body is not a JSON object",
        ),
        (
            ORDERS,
            request("POST", EVALUATION, &[JSON], "{\"a\":1,\"a\":2}"),
            400,
            "the body is not JSON: repeated member",
        ),
        (
            ORDERS,
            request("POST", EVALUATION, &[JSON], &deep),
            400,
            "the body nests deeper than 16",
        ),
        (
            ORDERS,
            request("POST", EVALUATION, &[JSON], &large),
            413,
            "the body cannot be read, or has more than 20000 bytes",
        ),
        (ORDERS, request("GET", EVALUATION, &[JSON], ""), 405, ""),
        (
            ORDERS,
            request("POST", "/access/v1/search/subject", &[JSON], &good),
            404,
            "",
        ),
        (
            "spiffe://example.org/web",
            request("POST", EVALUATION, &[JSON], &good),
            403,
            "the caller's SPIFFE ID may not ask",
        ),
        (
            "https://example.org/web",
            request("POST", EVALUATION, &[JSON], &good),
            401,
            "the client certificate is no X.509-SVID",
        ),
    ] {
        let answer = send_as(caller, &setup, &service, request).await;
        assert_eq!(answer.status, status, "{message}: {}", answer.body);
        assert!(answer.body.starts_with(message), "{message}: {}", answer.body);
    }
    let refused = service.line("caller refused");
    assert_eq!(refused["spiffe_id"], "spiffe://example.org/web", "{refused}");
    assert_eq!(service.line("caller refused")["reason"], "no_spiffe_id");
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    assert_eq!(audit::tail(&setup.path("audit.sqlite3"), &key, 10).unwrap().len(), 0);
}

#[tokio::test]
async fn a_decision_that_cannot_be_recorded_is_none() {
    let (setup, service) = start();
    let database = rusqlite::Connection::open(setup.path("audit.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE audit_record RENAME TO hidden")
        .unwrap();
    let answer = post(&setup, &service, EVALUATION, &read_order(&["reader"])).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (500, "the decision could not be recorded")
    );
}

#[tokio::test]
async fn the_metadata_name_what_is_there_and_nothing_else() {
    let (setup, service) = start();
    let request = request("GET", "/.well-known/authzen-configuration", &[], "");
    let answer = send_as(ORDERS, &setup, &service, request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "policy_decision_point": "https://pdp.example.org",
            "access_evaluation_endpoint": "https://pdp.example.org/access/v1/evaluation",
            "access_evaluations_endpoint": "https://pdp.example.org/access/v1/evaluations",
            "search_action_endpoint": "https://pdp.example.org/access/v1/search/action",
        })
    );
}

#[tokio::test]
async fn an_evaluation_that_does_not_know_the_client_ends_no_session() {
    let (setup, service) = start_with(SQLITE, "", |_| ());
    let mut client = sessions::client(&setup, &service).await;
    assert!(sessions::reasons(&mut client, sessions::asked("1")).await.is_empty());
    let mut document = read_order(&["reader"]);
    document["context"] = json!({});
    document["subject"]["id"] = sessions::asked("1").principal.unwrap().subject.into();
    for sid in ["1", "2"] {
        document["subject"]["properties"]["session_id"] = sid.into();
        let answer = post(&setup, &service, EVALUATION, &document).await.json();
        assert_eq!(answer["decision"], true, "{answer}");
    }
    // Neither is the one ended for it, nor the other one bound to a client without anything.
    for sid in ["1", "2"] {
        assert!(
            sessions::reasons(&mut client, sessions::asked(sid)).await.is_empty(),
            "{sid}"
        );
    }
}
