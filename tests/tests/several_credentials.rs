//! A rule that asks for a token of each of two providers, in a real Envoy: both count in everything.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_model::thumbprint::CertificateThumbprint;
use picket_tests::attack::{self, CLIENTS};
use picket_tests::exchange::{Exchange, Expected, RequestSpec, Via};
use picket_tests::forge::{Forge, ForgedToken};
use picket_tests::keys::Keys;
use picket_tests::proof::no_vm_failed;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use serde_json::{Map, Value, json};

/// A stack whose rule `orders-read` wants a user's token and a client's.
async fn start(forge: &Forge) -> Stack {
    let line = |value: &Value| format!("                    - {value}\n");
    let providers: String = attack::providers(forge).unwrap().iter().map(line).collect();
    let paths = "                      paths: [ \"/orders\", \"/orders/{id}\" ]\n";
    let rule =
        format!("{paths}                      credential: all\n                      providers: [ forge, clients ]\n");
    let options = Options::default()
        .edit(
            "                    - name: main\n",
            &format!("{providers}                    - name: main\n"),
        )
        .edit(paths, &rule);
    Stack::start(options).await.unwrap()
}

fn token(forge: &Forge, claims: Value) -> String {
    let Value::Object(claims) = claims else {
        return String::new();
    };
    forge
        .mint(&ForgedToken {
            claims,
            ..ForgedToken::default()
        })
        .unwrap()
}

fn client(forge: &Forge, further: &Value) -> String {
    let mut claims = Map::from_iter([
        ("iss".to_owned(), json!(CLIENTS)),
        ("sub".to_owned(), json!("web-shop")),
    ]);
    claims.extend(further.as_object().unwrap().clone());
    token(forge, claims.into())
}

/// `GET /orders/1` with these headers on the one connection, and what comes of it. Of a permit also what the upstream gets.
fn exchange(headers: &[(&str, &str)], (status, reason, decided_by): (u16, &str, &str)) -> Exchange {
    let upstream = match status {
        200 => vec![
            ("x-picket-subject", Some("alice")),
            ("x-user-email", Some("a@example.org")),
            ("x-client-email", Some("c@example.org")),
            ("authorization", None),
            ("x-client-token", None),
            ("cookie", Some("theme=dark")),
        ],
        _ => Vec::new(),
    };
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Exchange {
        id: reason.to_owned(),
        comment: String::new(),
        request: RequestSpec {
            via: Via::Direct,
            headers: headers.iter().map(owned).collect(),
            ..RequestSpec::default()
        },
        times: 1,
        expected: Expected {
            status,
            reason: Some(reason.to_owned()),
            decided_by: Some(decided_by.to_owned()),
            grpc_status: None,
            headers: BTreeMap::new(),
            body_contains: Vec::new(),
            leaks_nothing_of: Vec::new(),
            upstream: upstream
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
                .collect(),
            upstream_target: None,
        },
    }
}

#[tokio::test]
async fn a_request_brings_both_and_a_decision_holds_for_both() {
    let folder = tempfile::TempDir::new().unwrap();
    let forge = Forge::new(&Keys::make(folder.path()).unwrap()).unwrap();
    let mut stack = start(&forge).await;
    let mut session = Session::new(stack.keys(), stack.entrances());
    let certificate = |name: &str| {
        let der = stack.keys().identity(name).unwrap().chain.remove(0);
        let CertificateThumbprint(digest) = CertificateThumbprint::of_der(&der);
        json!({"email": "c@example.org", "cnf": {"x5t#S256": URL_SAFE_NO_PAD.encode(digest)}})
    };
    let email = json!({"email": "c@example.org"});
    let user = format!(
        "Bearer {}",
        token(&forge, json!({"roles": ["reader"], "email": "a@example.org"}))
    );
    let [first, second] = [
        client(&forge, &email),
        client(&forge, &json!({"email": "c@example.org", "jti": "2"})),
    ];
    let [own, others] = [
        client(&forge, &certificate("web")),
        client(&forge, &certificate("orders")),
    ];
    let in_cookie = format!("client={first}; theme=dark");
    let (authorization, theme) = (("authorization", user.as_str()), ("cookie", "theme=dark"));
    let both = |token| [authorization, ("x-client-token", token), theme];
    let asked = (200, "policy_permit", "policy_service");
    let again = (200, "policy_permit", "cache");
    let refused = |status, reason| (status, reason, "token");
    let exchanges = [
        exchange(&both(&first), asked),
        exchange(&both(&first), again),
        // Another one beside the user's: another question.
        exchange(&both(&second), asked),
        // The same in its other place.
        exchange(&[authorization, ("cookie", &in_cookie)], again),
        exchange(&both(&own), asked),
        exchange(&both(&others), refused(401, "token_certificate_mismatch")),
        exchange(&[authorization, theme], refused(401, "credential_missing")),
        exchange(&[("x-client-token", &first), theme], refused(401, "credential_missing")),
        exchange(
            &[authorization, ("x-client-token", &first), ("cookie", &in_cookie)],
            refused(400, "credential_malformed"),
        ),
    ];
    let mut failures = Vec::new();
    for (number, exchange) in exchanges.iter().enumerate() {
        let before = stack.upstream().requests();
        let (answer, _) = session.run(exchange).await.unwrap();
        let differences = exchange.expected.differences(&answer);
        failures.extend(differences.iter().map(|difference| format!("{number}: {difference}")));
        let reached = stack.upstream().requests() - before;
        if reached != u64::from(exchange.expected.status == 200) {
            failures.push(format!("{number}: {reached} requests reached the upstream"));
        }
    }
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), stack.tails());
    no_vm_failed(&mut stack).await.unwrap();
}
