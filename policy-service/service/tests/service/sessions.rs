//! Sessions through the real program.

use picket_audit::{Event, KeyEncryptionKey, SessionChange};
use picket_model::session::EndReason;
use picket_proto::v1::policy_decision_client::PolicyDecisionClient;
use picket_proto::v1::{AccessRequest, Attribute, Effect};
use picket_state::StorageLocation;
use picket_state::sessions::SessionEnd;
use picket_state::{NamedBy, SessionId};
use rustls::version::TLS13;
use tonic::Code;
use tonic::transport::Channel;

use crate::ORDERS;
use crate::harness::{KEY, Service, Setup, request};

pub(crate) const SQLITE: &str = r#"
    [sessions]
    idle_timeout_s = 60
    absolute_timeout_s = 600
    clock_skew_s = 0
    [storage]
    sqlite_file = "storage.sqlite3"
"#;

pub(crate) fn asked(sid: &str) -> AccessRequest {
    let mut asked = request(&["reader"], "GET", "orders-read", "");
    asked.principal.as_mut().unwrap().session_id = sid.to_owned();
    asked
}

pub(crate) async fn client(setup: &Setup, service: &Service) -> PolicyDecisionClient<Channel> {
    let orders = setup.authority.identity(ORDERS);
    let config = setup.authority.client(Some(&orders), &TLS13);
    PolicyDecisionClient::new(setup.channel(service, config).await.unwrap())
}

/// The reasons for the caller; none where it is permitted.
pub(crate) async fn reasons(client: &mut PolicyDecisionClient<Channel>, request: AccessRequest) -> Vec<String> {
    let decision = client.decide(request).await.unwrap().into_inner();
    assert_eq!(decision.effect() == Effect::Permit, decision.caller_reasons.is_empty());
    decision.caller_reasons
}

#[tokio::test]
async fn a_session_is_recorded_limits_the_answer_and_is_bound_to_its_client() {
    let setup = Setup::with(SQLITE);
    let mut service = setup.start();
    let mut client = client(&setup, &service).await;
    let permit = client.decide(asked("1")).await.unwrap().into_inner();
    // Half of the idle timeout, where the configuration says a minute.
    assert_eq!((permit.effect(), permit.valid_for_ms), (Effect::Permit, 30_000));
    let vary = permit.vary.unwrap();
    for attribute in [Attribute::UserAgent, Attribute::Peer] {
        assert!(vary.attributes.contains(&attribute.into()), "{vary:?}");
    }
    let mut stolen = asked("1");
    stolen.context.as_mut().unwrap().user_agent = "curl".to_owned();
    for _ in 0..2 {
        assert_eq!(reasons(&mut client, stolen.clone()).await, ["session_compromised"]);
    }
    assert_eq!(reasons(&mut client, asked("1")).await, ["session_compromised"]);
    let (_, page) = service.get("/metrics");
    let counted = "picket_policy_service_session_refusals_total{reason=\"session_compromised\"} 3";
    assert!(page.contains(counted), "{page}");
    let (head, body) = service.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.contains(r#""storage":"ok""#), "{body}");

    service.terminate();
    let ended = tokio::task::spawn_blocking(move || service.wait()).await.unwrap();
    assert!(ended.success());
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let changes: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.content {
            Event::Session(record) => Some(record.change),
            Event::Decision(_) | Event::Administration(_) | Event::Search(_) => None,
        })
        .collect();
    let reason = EndReason::Compromised;
    assert_eq!(
        changes,
        [SessionChange::Created, SessionChange::Ended { reason: reason.into() }]
    );
    assert_eq!(records.len(), 6);

    // It stays ended, and the service knows it after its next start.
    let service = setup.start();
    let mut client = self::client(&setup, &service).await;
    assert_eq!(reasons(&mut client, asked("1")).await, ["session_compromised"]);
    assert!(reasons(&mut client, asked("2")).await.is_empty());
}

#[tokio::test]
async fn what_was_ended_while_the_service_was_down_is_refused() {
    let setup = Setup::with(SQLITE);
    let mut service = setup.start();
    let mut client = client(&setup, &service).await;
    assert!(reasons(&mut client, asked("1")).await.is_empty());
    service.terminate();
    tokio::task::spawn_blocking(move || service.wait()).await.unwrap();
    let file = setup.path("storage.sqlite3");
    let store = picket_storage::open(&StorageLocation::Sqlite { file }, std::sync::Arc::new(|_| ()))
        .await
        .unwrap();
    let ended = SessionEnd {
        at_us: 1,
        reason: EndReason::Revoked,
        caller: None,
    };
    let id = SessionId::of("https://issuer.example", NamedBy::SessionId, "1");
    assert!(store.end(id, ended, i64::MAX).await.unwrap());
    drop(store);
    let service = setup.start_when_free();
    let mut client = self::client(&setup, &service).await;
    assert_eq!(reasons(&mut client, asked("1")).await, ["session_revoked"]);
}

#[tokio::test]
async fn without_its_storage_the_service_gives_no_permit_and_readiness_says_why() {
    let setup = Setup::with(SQLITE);
    let service = setup.start();
    let mut client = client(&setup, &service).await;
    assert!(reasons(&mut client, asked("1")).await.is_empty());
    let database = rusqlite::Connection::open(setup.path("storage.sqlite3")).unwrap();
    for table in ["session", "probe"] {
        database
            .execute_batch(&format!("ALTER TABLE {table} RENAME TO hidden_{table}"))
            .unwrap();
    }
    // A session that is not remembered, at once.
    let refused = client.decide(asked("2")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the session or the device could not be looked up")
    );
    // One that is, after a while.
    let mut permits = 0;
    while let Ok(decision) = client.decide(asked("1")).await {
        assert_eq!(decision.into_inner().effect(), Effect::Permit);
        permits += 1;
        assert!(permits < 100_000);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (head, body) = service.get("/readyz");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    // The page says no more; the log does.
    assert!(body.contains(r#""storage":"statement_failed""#), "{body}");
    let line = service.line("the storage fails");
    assert!(line["error"].as_str().unwrap().contains("probe"), "{line}");
    assert_eq!(client.decide(asked("1")).await.unwrap_err().code(), Code::Unavailable);
    for table in ["session", "probe"] {
        database
            .execute_batch(&format!("ALTER TABLE hidden_{table} RENAME TO {table}"))
            .unwrap();
    }
    let mut attempts = 0;
    while client.decide(asked("1")).await.is_err() {
        attempts += 1;
        assert!(attempts < 1_000);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(reasons(&mut client, asked("2")).await.is_empty());
}
