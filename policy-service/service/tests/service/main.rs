//! The real program, over real TLS.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests: helpers outside #[test] functions fail loudly, and wait on the real clock"
)]

mod admin;
mod audit_log;
mod authzen;
mod authzen_search;
mod devices;
mod external;
mod harness;
#[path = "../../../storage/tests/storage/pgbouncer.rs"]
mod pgbouncer;
mod policies;
#[path = "../../../storage/tests/storage/postgres.rs"]
mod postgres;
mod replicas;
mod risk;
mod risk_admin;
mod roles;
mod sessions;
mod signals;
mod start;

use std::path::Path;

use harness::{KEY, Service, Setup, request};
use picket_audit::{EffectRecord, Event, KeyEncryptionKey};
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::{AccessRequest, Decision, Effect};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

const ORDERS: &str = "spiffe://example.org/orders";

#[tokio::test]
async fn decides_over_mutual_tls_and_records_before_it_answers() {
    let setup = Setup::new();
    let mut service = setup.start();
    let orders = setup.authority.identity(ORDERS);
    let config = setup.authority.client(Some(&orders), &TLS13);
    let channel = setup.channel(&service, config).await.unwrap();
    let mut client = PolicyDecisionClient::new(channel.clone());

    let permit = client
        .decide(request(&["reader"], "GET", "orders-read", ""))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((permit.effect(), permit.valid_for_ms), (Effect::Permit, 60_000));
    assert_eq!(
        (permit.policy_ids.as_slice(), permit.caller_reasons.len()),
        (["orders-read".to_owned()].as_slice(), 0)
    );
    assert_eq!(permit.policy_revision.len(), 16);

    let deny = client
        .decide(request(&["reader"], "GET", "orders-read", "secret"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((deny.effect(), deny.valid_for_ms), (Effect::Deny, 5_000));
    assert_eq!(deny.policy_ids, ["secret-needs-auditor"]);
    assert_eq!(deny.caller_reasons, ["classification `secret` needs the role auditor"]);

    let malformed = client
        .decide(AccessRequest {
            resource: None,
            ..request(&[], "GET", "r", "")
        })
        .await
        .unwrap_err();
    assert_eq!(
        (malformed.code(), malformed.message()),
        (Code::InvalidArgument, "field `resource` is required")
    );
    let mut large = request(&[], "GET", "r", "");
    large.traceparent = "x".repeat(70_000);
    assert_eq!(client.decide(large).await.unwrap_err().code(), Code::OutOfRange);

    let (key, database) = (KeyEncryptionKey::from_hex(KEY).unwrap(), setup.path("audit.sqlite3"));
    check_log(&database, &key, &deny);
    check_line(&service, &permit);
    check_metrics(&service, &permit.policy_revision);

    let mut health = HealthClient::new(channel);
    for name in ["", "picket.v1.PolicyDecision"] {
        let answer = health
            .check(HealthCheckRequest {
                service: name.to_owned(),
            })
            .await
            .unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    service.terminate();
    // The client's connection must be free to close meanwhile.
    let ended = tokio::task::spawn_blocking(move || service.wait()).await.unwrap();
    assert!(ended.success());
    assert_eq!(picket_audit::verify(&database, &key, None).unwrap().records, 2);

    // The next start goes on with the same log.
    let mut service = setup.start();
    service.terminate();
    assert!(service.wait().success());
}

fn check_log(database: &Path, key: &KeyEncryptionKey, deny: &Decision) {
    // Both decisions are in the log while the service still runs.
    assert_eq!(picket_audit::verify(database, key, None).unwrap().records, 2);
    let records = picket_audit::tail(database, key, 10).unwrap();
    let Event::Decision(record) = &records[1].content else {
        panic!("{records:?}");
    };
    assert_eq!(
        (record.decision_id.as_str(), record.effect),
        (deny.decision_id.as_str(), EffectRecord::Deny)
    );
    assert_eq!(record.principal.as_ref().unwrap().subject, "a-private-subject");
    assert_eq!(record.caller, ORDERS);
}

fn check_line(service: &Service, permit: &Decision) {
    let line = service.line("decision");
    for (field, value) in [
        ("decision_id", permit.decision_id.as_str()),
        ("request_id", "request-1"),
        ("effect", "permit"),
        ("route_rule", "orders-read"),
        ("policy_ids", "orders-read"),
        ("policy_revision", &permit.policy_revision),
        ("sidecar", "orders"),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert!(line["duration_us"].is_u64());
    assert!(!line.to_string().contains("a-private-subject"));
}

fn check_metrics(service: &Service, policy_revision: &str) {
    let (_, page) = service.get("/metrics");
    for sample in [
        "picket_policy_service_decisions_total{effect=\"permit\"} 1",
        "picket_policy_service_decisions_total{effect=\"deny\"} 1",
        "picket_policy_service_decide_failures_total{grpc_code=\"INVALID_ARGUMENT\"} 1",
        "picket_policy_service_decide_duration_seconds_count 2",
        "picket_policy_service_audit_commit_duration_seconds_count 2",
        "picket_policy_service_audit_batch_records_sum 2.0",
        "picket_policy_service_audit_queue_records 0",
        "picket_policy_service_evaluation_errors_total 0",
        &format!(
            "picket_policy_service_policy_revision_info{{revision=\"{}\"}} 1",
            policy_revision
        ),
        &format!(
            "picket_policy_service_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
        "picket_policy_service_policies 5",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
    }
}

#[tokio::test]
async fn only_listed_callers_with_a_certificate_and_tls_1_3_are_served() {
    let setup = Setup::new();
    let service = setup.start();
    let (orders, web) = (
        setup.authority.identity(ORDERS),
        setup.authority.identity("spiffe://example.org/web"),
    );

    let unlisted = setup
        .channel(&service, setup.authority.client(Some(&web), &TLS13))
        .await
        .unwrap();
    let refused = PolicyDecisionClient::new(unlisted)
        .decide(request(&["reader"], "GET", "orders-read", ""))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let (_, page) = service.get("/metrics");
    let counted = "picket_policy_service_callers_refused_total{reason=\"not_listed\"} 1";
    assert!(page.contains(counted), "{page}");
    let line = service.line("caller refused");
    assert_eq!(line["spiffe_id"], "spiffe://example.org/web", "{line}");
    assert_eq!(
        (&line["reason"], &line["address"]),
        (&"not_listed".into(), &"127.0.0.1".into()),
        "{line}"
    );

    // In TLS 1.3 a client learns of the refusal only when it uses the connection. Log and metrics
    // say which side refused what.
    let stranger = harness::Authority::new();
    for (cause, said, config) in [
        ("no_certificate", "no certificate", setup.authority.client(None, &TLS13)),
        (
            "client_certificate",
            "client_ca_file",
            setup.authority.client(Some(&stranger.identity(ORDERS)), &TLS13),
        ),
        ("protocol", "TLS 1.3", setup.authority.client(Some(&orders), &TLS12)),
        (
            "service_certificate",
            "refuses this service's certificate",
            stranger.client(Some(&orders), &TLS13),
        ),
    ] {
        if let Ok(channel) = setup.channel(&service, config).await {
            let answer = PolicyDecisionClient::new(channel)
                .decide(request(&["reader"], "GET", "orders-read", ""))
                .await;
            assert_ne!(answer.map(|_| ()).unwrap_err().code(), Code::PermissionDenied);
        }
        // A client may try more than once.
        let mut line = service.line("TLS handshake failed");
        while line["cause"] != cause {
            line = service.line("TLS handshake failed");
        }
        assert_eq!(line["address"], "127.0.0.1", "{line}");
        assert!(line["error"].as_str().unwrap().contains(said), "{line}");
        let (_, page) = service.get("/metrics");
        let counted = format!("picket_policy_service_handshakes_failed_total{{cause=\"{cause}\"}} ");
        assert!(page.contains(&counted), "{page}");
    }
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    assert_eq!(
        picket_audit::verify(&setup.path("audit.sqlite3"), &key, None)
            .unwrap()
            .records,
        0
    );

    // And the same client with the certificate is served.
    let channel = setup
        .channel(&service, setup.authority.client(Some(&orders), &TLS13))
        .await
        .unwrap();
    check_served(channel).await;
}

/// Asks for what is permitted.
async fn check_served(channel: Channel) {
    let decided = PolicyDecisionClient::new(channel)
        .decide(request(&["reader"], "GET", "orders-read", ""))
        .await;
    assert_eq!(decided.unwrap().into_inner().effect(), Effect::Permit);
}

#[tokio::test]
async fn who_shows_no_certificate_takes_no_place_of_another_address() {
    let setup = Setup::new();
    let service = setup.start();
    let silent = async || tokio::net::TcpStream::connect(service.grpc).await.unwrap();
    let began = std::time::Instant::now();
    let mut held = Vec::new();
    for _ in 0..128 {
        held.push(silent().await);
    }
    // One more is closed at once, and not only when a handshake has taken too long.
    let closed = silent().await.read(&mut [0]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!(
        began.elapsed() < std::time::Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    let orders = setup.authority.identity(ORDERS);
    let config = setup.authority.client(Some(&orders), &TLS13);
    let channel = setup
        .channel_from([127, 0, 0, 2].into(), &service, config)
        .await
        .unwrap();
    check_served(channel).await;
    drop(held);
}

#[tokio::test]
async fn callers_that_may_not_ask_hold_few_connections() {
    let setup = Setup::new();
    let service = setup.start();
    let web = setup.authority.identity("spiffe://example.org/web");
    let web = setup.authority.client(Some(&web), &TLS13);
    let asked = || request(&["reader"], "GET", "orders-read", "");
    let mut held = Vec::new();
    for _ in 0..64 {
        let channel = setup.channel(&service, web.clone()).await.unwrap();
        let mut client = PolicyDecisionClient::new(channel);
        assert_eq!(client.decide(asked()).await.unwrap_err().code(), Code::PermissionDenied);
        held.push(client);
    }
    if let Ok(channel) = setup.channel(&service, web).await {
        let cut = PolicyDecisionClient::new(channel).decide(asked()).await;
        assert_ne!(cut.unwrap_err().code(), Code::PermissionDenied);
    }
    let orders = setup.authority.identity(ORDERS);
    let channel = setup
        .channel(&service, setup.authority.client(Some(&orders), &TLS13))
        .await
        .unwrap();
    check_served(channel).await;
}

#[tokio::test]
async fn without_an_audit_log_no_decision_is_given_and_readiness_says_why() {
    let setup = Setup::new();
    let service = setup.start();
    let orders = setup.authority.identity(ORDERS);
    let channel = setup
        .channel(&service, setup.authority.client(Some(&orders), &TLS13))
        .await
        .unwrap();
    let mut client = PolicyDecisionClient::new(channel.clone());
    assert_eq!(service.get("/livez"), service.get("/livez"));
    let (head, body) = service.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, r#"{"ready":true,"parts":{"audit":"ok","grpc":"ok"}}"#);

    let database = rusqlite::Connection::open(setup.path("audit.sqlite3")).unwrap();
    database
        .execute_batch("ALTER TABLE audit_record RENAME TO hidden")
        .unwrap();
    let refused = client
        .decide(request(&["reader"], "GET", "orders-read", ""))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the decision could not be recorded")
    );
    let (head, body) = service.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(
        body,
        r#"{"ready":false,"parts":{"audit":"statement_failed","grpc":"ok"}}"#
    );
    let line = service.line("the audit log cannot be written");
    assert!(line["error"].as_str().unwrap().contains("audit_record"), "{line}");
    assert!(service.get("/livez").0.starts_with("HTTP/1.1 200 "));
    let mut watch = HealthClient::new(channel)
        .watch(HealthCheckRequest {
            service: "picket.v1.PolicyDecision".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}

    database
        .execute_batch("ALTER TABLE hidden RENAME TO audit_record")
        .unwrap();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let decided = client
        .decide(request(&["reader"], "GET", "orders-read", ""))
        .await
        .unwrap();
    assert_eq!(decided.into_inner().effect(), Effect::Permit);
    assert!(service.get("/readyz").0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_policy_with_a_mistake_ends_the_start_with_file_and_line() {
    let setup = Setup::new();
    let policy = "@id(\"bad\")\npermit (principal, action, resource)\nwhen { resource.colour == 1 };\n";
    std::fs::write(setup.path("policies/bad.cedar"), policy).unwrap();
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    assert!(said.contains("policies/bad.cedar:3: "), "{said}");
}

#[test]
fn a_configuration_with_mistakes_ends_the_start_with_all_of_them() {
    let setup = Setup::new();
    let text = std::fs::read_to_string(setup.path("service.toml")).unwrap();
    let text = text
        .replacen("127.0.0.1:0", "0.0.0.0:0", 1)
        .replace("[http]", "[http]\ncolour = 1");
    std::fs::write(setup.path("service.toml"), text).unwrap();
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    for expected in [
        "grpc.certificate_file: a development certificate",
        "http.colour: unknown field",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}
