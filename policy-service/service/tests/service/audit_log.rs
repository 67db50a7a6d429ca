//! What the service does about an audit log that somebody has altered, and what is left when it is killed.

use picket_audit::{IntegrityFinding, KeyEncryptionKey, VerifyError};
use picket_proto::v1::Effect;
use tonic::Code;

use crate::harness::{KEY, Setup, request};
use crate::sessions::client;

fn key() -> KeyEncryptionKey {
    KeyEncryptionKey::from_hex(KEY).unwrap()
}

#[tokio::test]
async fn no_permit_is_given_where_the_database_discards_its_record() {
    for trigger in [
        "CREATE TRIGGER t BEFORE INSERT ON audit_record BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER t AFTER INSERT ON audit_record BEGIN DELETE FROM audit_record WHERE seq = new.seq; END",
    ] {
        let setup = Setup::new();
        let service = setup.start();
        let mut decisions = client(&setup, &service).await;
        let asked = || request(&["reader"], "GET", "orders-read", "");
        assert_eq!(
            decisions.decide(asked()).await.unwrap().into_inner().effect(),
            Effect::Permit
        );
        let database = rusqlite::Connection::open(setup.path("audit.sqlite3")).unwrap();
        database.execute_batch(trigger).unwrap();
        for _ in 0..2 {
            let refused = decisions.decide(asked()).await.unwrap_err();
            assert_eq!(
                (refused.code(), refused.message()),
                (Code::Unavailable, "the decision could not be recorded")
            );
        }
        let (head, body) = service.get("/readyz");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(body.contains(r#""audit":"schema_altered""#), "{body}");
        let line = service.line("the audit log cannot be written");
        assert!(line["error"].as_str().unwrap().contains("`trigger t`"), "{line}");
        database.execute_batch("DROP TRIGGER t").unwrap();
        service.line("the audit log is written again");
        assert_eq!(
            decisions.decide(asked()).await.unwrap().into_inner().effect(),
            Effect::Permit
        );
        assert_eq!(
            picket_audit::verify(&setup.path("audit.sqlite3"), &key(), None)
                .unwrap()
                .records,
            2
        );
    }
}

#[tokio::test]
async fn records_that_went_with_the_write_ahead_log_of_a_killed_service_are_named() {
    const RECORDS: u64 = 50;
    let setup = Setup::new();
    let mut service = setup.start();
    let mut decisions = client(&setup, &service).await;
    for _ in 0..RECORDS {
        decisions
            .decide(request(&["reader"], "GET", "orders-read", ""))
            .await
            .unwrap();
    }
    service.kill_soon();
    let _killed = tokio::task::spawn_blocking(move || service.wait()).await.unwrap();
    let database = setup.path("audit.sqlite3");
    assert_eq!(picket_audit::verify(&database, &key(), None).unwrap().records, RECORDS);
    std::fs::remove_file(setup.path("audit.sqlite3-wal")).unwrap();
    let missing = match picket_audit::verify(&database, &key(), None) {
        Err(VerifyError::Broken(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        missing.finding,
        IntegrityFinding::Missing { through: RECORDS },
        "{missing}"
    );
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    assert!(said.contains("missing, with all up to record 50"), "{said}");
}
