use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picket_model::access::{
    AccessRequest, Action, Actor, Context, FurtherToken, Possession, Principal, Resource, Sidecar,
};
use picket_model::decision::{Decision, Effect, Vary};
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use picket_model::time::Timestamp;
use picket_sqlite::DatabaseFileError;
use rusqlite::Connection;

use super::*;

mod evidence;
mod stored;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_KEY: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn key(hex: &str) -> KeyEncryptionKey {
    KeyEncryptionKey::from_hex(hex).unwrap()
}

fn event(id: &str) -> Event {
    Event::Decision(Box::new(DecisionRecord {
        decision_id: id.to_owned(),
        time_us: 1,
        caller: "spiffe://example.org/orders".into(),
        sidecar: SidecarRecord {
            node_id: String::new(),
            workload: "orders".into(),
        },
        request_id: "r".into(),
        traceparent: None,
        route_rule: "orders-read".into(),
        principal: None,
        further_tokens: vec![],
        peer: None,
        action: ActionRecord { method: "GET".into() },
        resource: ResourceRecord {
            host: "h".into(),
            path: "/".into(),
            path_parameters: BTreeMap::new(),
            classification: None,
            security_zone: None,
            tenant: None,
        },
        context: ContextRecord {
            source_address: None,
            user_agent: None,
            certificate_thumbprint: None,
            key_thumbprint: None,
        },
        effect: EffectRecord::Permit,
        policy_revision: "0".into(),
        policy_ids: vec!["p".into()],
        evaluation_errors: vec![],
        caller_reasons: vec![],
        device: None,
        assigned_roles: vec![],
        risk: None,
        obligations: vec![],
        challenge: None,
        observed: None,
        valid_for_ms: 1,
        evaluation_us: 1,
    }))
}

/// A log with `count` records, in a folder that lives as long as the test.
struct Log {
    _folder: tempfile::TempDir,
    database: PathBuf,
}

impl Log {
    async fn with(count: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("audit.sqlite3");
        append(&database, 1..=count).await;
        Self {
            _folder: folder,
            database,
        }
    }

    fn verify(&self) -> Result<VerificationReport, VerifyError> {
        verify(&self.database, &key(KEY), None)
    }

    /// What a person with write access to the file, but without the key, would do.
    fn tamper(&self, sql: &str) {
        Connection::open(&self.database).unwrap().execute_batch(sql).unwrap();
    }

    fn problem(&self) -> (Option<i64>, IntegrityFinding) {
        match self.verify().unwrap_err() {
            VerifyError::Broken(problem) => (problem.seq, problem.finding),
            VerifyError::Store(error) => panic!("{error}"),
        }
    }
}

async fn append(database: &Path, ids: impl IntoIterator<Item = u64>) {
    let (log, writer) = AuditLog::open(database, key(KEY), |_| {}).unwrap();
    for id in ids {
        log.append(Timestamp::from_us(id), &event(&id.to_string()))
            .await
            .unwrap();
    }
    writer.close();
}

fn ids(records: &[Record]) -> Vec<(u64, i64, String)> {
    let id = |record: &Record| match &record.content {
        Event::Decision(decision) => decision.decision_id.clone(),
        Event::Session(_) | Event::Administration(_) | Event::Search(_) => String::new(),
    };
    records
        .iter()
        .map(|record| (record.seq, record.time_us, id(record)))
        .collect()
}

async fn check(sql: &str, seq: Option<i64>, finding: IntegrityFinding) {
    let log = Log::with(5).await;
    log.verify().unwrap();
    log.tamper(sql);
    assert_eq!(log.problem(), (seq, finding), "{sql}");
}

#[tokio::test]
async fn a_log_verifies_and_its_tail_is_read() {
    let log = Log::with(3).await;
    let report = log.verify().unwrap();
    assert_eq!(
        (report.records, report.first_seq, report.last_seq),
        (3, Some(1), Some(3))
    );
    let tail = tail(&log.database, &key(KEY), 2).unwrap();
    assert_eq!(ids(&tail), [(2, 2, "2".to_owned()), (3, 3, "3".to_owned())]);
    assert_eq!(tail[1].hash, report.head_hash);
}

#[tokio::test]
async fn an_empty_log_verifies() {
    let log = Log::with(0).await;
    let report = log.verify().unwrap();
    assert_eq!((report.records, report.first_seq, report.last_seq), (0, None, None));
    assert_eq!(tail(&log.database, &key(KEY), 2).unwrap(), []);
}

#[tokio::test]
async fn what_was_altered_is_named() {
    let altered = "UPDATE audit_record SET sealed = zeroblob(length(sealed)) WHERE seq = 3";
    check(altered, Some(3), IntegrityFinding::HashMismatch).await;
    check(
        "UPDATE audit_record SET time_us = 9 WHERE seq = 3",
        Some(3),
        IntegrityFinding::HashMismatch,
    )
    .await;
    check(
        "UPDATE audit_record SET hash = zeroblob(32) WHERE seq = 3",
        Some(3),
        IntegrityFinding::HashMismatch,
    )
    .await;
    check(
        "UPDATE audit_record SET hash = zeroblob(31) WHERE seq = 3",
        Some(3),
        IntegrityFinding::Malformed,
    )
    .await;
    check(
        "UPDATE audit_record SET prev_hash = zeroblob(32) WHERE seq = 3",
        Some(3),
        IntegrityFinding::NotLinked,
    )
    .await;
    check(
        "UPDATE audit_record SET key_id = zeroblob(16) WHERE seq = 3",
        Some(3),
        IntegrityFinding::HashMismatch,
    )
    .await;
    check(
        "UPDATE audit_head SET sealed = zeroblob(length(sealed))",
        None,
        IntegrityFinding::SealBroken,
    )
    .await;
    check("DELETE FROM audit_head", None, IntegrityFinding::HeadMissing).await;
    check(
        "UPDATE audit_data_key SET wrapped = zeroblob(length(wrapped))",
        None,
        IntegrityFinding::KeyRefused,
    )
    .await;
    check("DELETE FROM audit_data_key", None, IntegrityFinding::KeyMissing).await;
}

#[tokio::test]
async fn what_was_taken_out_is_named() {
    check(
        "DELETE FROM audit_record WHERE seq = 1",
        Some(1),
        IntegrityFinding::Missing { through: 1 },
    )
    .await;
    check(
        "DELETE FROM audit_record WHERE seq <= 2",
        Some(1),
        IntegrityFinding::Missing { through: 2 },
    )
    .await;
    check(
        "DELETE FROM audit_record WHERE seq IN (3, 4)",
        Some(3),
        IntegrityFinding::Missing { through: 4 },
    )
    .await;
    check(
        "DELETE FROM audit_record WHERE seq >= 4",
        Some(4),
        IntegrityFinding::Missing { through: 5 },
    )
    .await;
    check(
        "DELETE FROM audit_record",
        Some(1),
        IntegrityFinding::Missing { through: 5 },
    )
    .await;
    // Closing the gap shows at the record behind it.
    let closed = "DELETE FROM audit_record WHERE seq = 3; UPDATE audit_record SET seq = seq - 1 WHERE seq > 3";
    check(closed, Some(3), IntegrityFinding::NotLinked).await;
}

#[tokio::test]
async fn what_was_moved_or_put_in_is_named() {
    let swapped = "UPDATE audit_record SET seq = 99 WHERE seq = 2; UPDATE audit_record SET seq = 2 WHERE seq = 3;
        UPDATE audit_record SET seq = 3 WHERE seq = 99";
    check(swapped, Some(2), IntegrityFinding::NotLinked).await;
    let inserted = "UPDATE audit_record SET seq = 6 WHERE seq = 5; UPDATE audit_record SET seq = 5 WHERE seq = 4;
        UPDATE audit_record SET seq = 4 WHERE seq = 3;
        INSERT INTO audit_record SELECT 3, time_us, prev_hash, key_id, sealed, hash FROM audit_record WHERE seq = 2";
    check(inserted, Some(3), IntegrityFinding::NotLinked).await;
    let behind =
        "INSERT INTO audit_record SELECT 6, time_us, hash, key_id, sealed, hash FROM audit_record WHERE seq = 5";
    check(behind, Some(6), IntegrityFinding::HashMismatch).await;
    let before =
        "INSERT INTO audit_record SELECT 0, time_us, hash, key_id, sealed, hash FROM audit_record WHERE seq = 1";
    check(before, Some(0), IntegrityFinding::Malformed).await;
    let negative =
        "INSERT INTO audit_record SELECT -1, time_us, hash, key_id, sealed, hash FROM audit_record WHERE seq = 1";
    check(negative, Some(-1), IntegrityFinding::Malformed).await;
}

/// A forger who knows the layout can make the hashes fit, but not the seals.
#[tokio::test]
async fn a_forged_record_with_a_fitting_hash_does_not_open() {
    let log = Log::with(3).await;
    let connection = Connection::open(&log.database).unwrap();
    let place = database::rows::last_records(&connection, 1)
        .unwrap()
        .remove(0)
        .ok()
        .unwrap()
        .place;
    let sealed = vec![7; 60];
    let hash = place.hash(&sealed);
    connection
        .execute(
            "UPDATE audit_record SET sealed = ?1, hash = ?2 WHERE seq = 3",
            rusqlite::params![sealed, hash.as_bytes()],
        )
        .unwrap();
    assert_eq!(log.problem(), (Some(3), IntegrityFinding::SealBroken));
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let log = Log::with(2).await;
    let refused = |error: VerifyError| match error {
        VerifyError::Broken(problem) => problem.finding == IntegrityFinding::KeyRefused,
        VerifyError::Store(_) => false,
    };
    assert!(refused(verify(&log.database, &key(OTHER_KEY), None).unwrap_err()));
    assert!(refused(tail(&log.database, &key(OTHER_KEY), 1).unwrap_err()));
    let opened = AuditLog::open(&log.database, key(OTHER_KEY), |_| {});
    assert!(matches!(
        opened.err(),
        Some(OpenError::Store(StoreError::Unverified(_)))
    ));
}

#[tokio::test]
async fn a_noted_head_finds_an_older_copy_and_another_history() {
    let log = Log::with(3).await;
    let older = log.database.with_extension("older");
    std::fs::copy(&log.database, &older).unwrap();
    append(&log.database, 4..=5).await;
    let report = log.verify().unwrap();
    let noted = LogHead {
        seq: 5,
        hash: report.head_hash,
    };
    assert_eq!(verify(&log.database, &key(KEY), Some(noted)).unwrap(), report);
    append(&log.database, [6]).await;
    assert_eq!(verify(&log.database, &key(KEY), Some(noted)).unwrap().records, 6);
    let found = |database: &Path| match verify(database, &key(KEY), Some(noted)) {
        Err(VerifyError::Broken(problem)) => (problem.seq, problem.finding),
        other => panic!("{other:?}"),
    };
    assert_eq!(found(&older), (Some(4), IntegrityFinding::Missing { through: 5 }));
    append(&older, [40, 50]).await;
    assert_eq!(found(&older), (Some(5), IntegrityFinding::NotTheNoted));
}

#[tokio::test]
async fn a_restart_continues_the_chain_under_a_new_data_key() {
    let log = Log::with(2).await;
    append(&log.database, 3..=4).await;
    assert_eq!(log.verify().unwrap().records, 4);
    let keys: i64 = Connection::open(&log.database)
        .unwrap()
        .query_row("SELECT count(DISTINCT key_id) FROM audit_record", [], |row| row.get(0))
        .unwrap();
    assert_eq!(keys, 2);
}

#[tokio::test]
async fn a_log_whose_end_does_not_verify_is_not_continued() {
    for sql in [
        "DELETE FROM audit_record WHERE seq = 3",
        "UPDATE audit_record SET time_us = 0 WHERE seq = 3",
        "DELETE FROM audit_head",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 1",
    ] {
        let log = Log::with(3).await;
        log.tamper(sql);
        let opened = AuditLog::open(&log.database, key(KEY), |_| {});
        assert!(matches!(opened.err(), Some(OpenError::Store(_))), "{sql}");
    }
}

#[tokio::test]
async fn only_one_process_may_write_and_readers_do_not_mind() {
    let log = Log::with(1).await;
    let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
    let second = AuditLog::open(&log.database, key(KEY), |_| {});
    assert!(matches!(
        second.err(),
        Some(OpenError::Store(StoreError::File(DatabaseFileError::Locked(_))))
    ));
    let link = log.database.with_extension("link");
    std::os::unix::fs::symlink(&log.database, &link).unwrap();
    let by_link = AuditLog::open(&link, key(KEY), |_| {});
    assert!(matches!(
        by_link.err(),
        Some(OpenError::Store(StoreError::File(DatabaseFileError::Locked(_))))
    ));
    writing.append(Timestamp::from_us(2), &event("2")).await.unwrap();
    assert_eq!(log.verify().unwrap().records, 2);
    writer.close();
    append(&log.database, [3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_records_share_commits_and_all_are_there() {
    const RECORDS: u64 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("audit.sqlite3");
    let commits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let (log, writer) = AuditLog::open(&database, key(KEY), move |commit| seen.lock().unwrap().push(commit)).unwrap();
    let tasks: Vec<_> = (0..RECORDS)
        .map(|id| {
            let log = log.clone();
            tokio::spawn(async move { log.append(Timestamp::from_us(id), &event(&id.to_string())).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(log.waiting(), 0);
    writer.close();
    assert_eq!(verify(&database, &key(KEY), None).unwrap().records, RECORDS);
    let commits = commits.lock().unwrap();
    assert_eq!(commits.iter().map(|commit| commit.records as u64).sum::<u64>(), RECORDS);
    assert!(
        commits
            .iter()
            .all(|commit| commit.records <= BATCH_RECORDS_MAX && commit.succeeded)
    );
    assert!((commits.len() as u64) < RECORDS / 2, "{} commits", commits.len());
}

#[tokio::test]
async fn a_record_that_cannot_be_written_is_refused_until_writing_works_again() {
    let log = Log::with(1).await;
    let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
    let mut state = writing.state();
    assert_eq!(*state.borrow(), AuditState::Working);
    log.tamper("ALTER TABLE audit_record RENAME TO hidden");
    let refused = writing.append(Timestamp::from_us(2), &event("2")).await;
    assert!(matches!(refused, Err(AppendError::Failed(_))));
    let failing = |state: &AuditState| *state == AuditState::Failing("statement_failed");
    assert!(failing(&state.borrow_and_update()));
    log.tamper("ALTER TABLE hidden RENAME TO audit_record");
    // The writer tries again by itself.
    let works = state.wait_for(|state| *state == AuditState::Working);
    tokio::time::timeout(Duration::from_secs(20), works)
        .await
        .unwrap()
        .unwrap();
    writing.append(Timestamp::from_us(3), &event("3")).await.unwrap();
    writer.close();
    assert_eq!(ids(&tail(&log.database, &key(KEY), 9).unwrap()).last().unwrap().2, "3");
    assert_eq!(log.verify().unwrap().records, 2);
}

#[tokio::test]
async fn a_database_that_was_deleted_under_the_writer_is_noticed() {
    let log = Log::with(1).await;
    let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
    std::fs::rename(&log.database, log.database.with_extension("gone")).unwrap();
    match writing.append(Timestamp::from_us(2), &event("2")).await {
        Err(AppendError::Failed(error)) => assert!(
            matches!(*error, StoreError::File(DatabaseFileError::Replaced(_))),
            "{error}"
        ),
        other => panic!("{other:?}"),
    }
    writer.close();
}

#[tokio::test]
async fn a_closed_log_refuses_and_keeps_what_it_has() {
    let log = Log::with(0).await;
    let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
    writing.append(Timestamp::from_us(1), &event("1")).await.unwrap();
    writer.close();
    assert!(matches!(
        writing.append(Timestamp::from_us(2), &event("2")).await,
        Err(AppendError::Closed)
    ));
    assert_eq!(log.verify().unwrap().records, 1);
}

#[tokio::test]
async fn a_writer_that_has_ended_without_being_told_to_says_so() {
    let log = Log::with(0).await;
    let (writing, _writer) = AuditLog::open(&log.database, key(KEY), |_| panic!("a mistake")).unwrap();
    let mut state = writing.state();
    assert!(!state.borrow().is_failing());
    assert!(matches!(
        writing.append(Timestamp::from_us(1), &event("1")).await,
        Err(AppendError::Closed)
    ));
    let ended = state.wait_for(AuditState::is_failing).await.unwrap();
    assert_eq!(*ended, AuditState::Failing("ended"));
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("other.sqlite3");
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE other (id INTEGER)")
        .unwrap();
    let opened = AuditLog::open(&database, key(KEY), |_| {});
    assert!(matches!(opened.err(), Some(OpenError::Store(StoreError::Foreign))));
    assert!(verify(&database, &key(KEY), None).is_err());
    assert!(verify(&folder.path().join("none"), &key(KEY), None).is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn the_database_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let log = Log::with(1).await;
    let mode = std::fs::metadata(&log.database).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_is_64_hexadecimal_characters() {
    for text in [
        "",
        "00",
        KEY.get(1..).unwrap(),
        &format!("{KEY}00"),
        &KEY.replace('f', "g"),
    ] {
        assert!(KeyEncryptionKey::from_hex(text).is_err(), "{text}");
    }
    assert_eq!(format!("{:?}", key(KEY)), "KeyEncryptionKey(..)");
}

#[tokio::test]
async fn a_decision_is_found_in_a_log_that_verifies_and_in_no_other() {
    let log = Log::with(3).await;
    let find = |id: &str| find_decision(&log.database, &key(KEY), id);
    assert_eq!(
        find("2").unwrap().map(|record| record.decision_id),
        Some("2".to_owned())
    );
    assert_eq!(find("4").unwrap(), None);
    log.tamper("UPDATE audit_record SET time_us = 9 WHERE seq = 3");
    assert!(matches!(find("2"), Err(VerifyError::Broken(problem)) if problem.seq == Some(3)));
}

fn decision() -> Decision {
    Decision {
        effect: Effect::Permit,
        decision_id: "d".into(),
        policy_revision: "p".into(),
        valid_for_ms: 1,
        policy_ids: vec![],
        caller_reasons: vec![],
        vary: Vary::NOTHING,
        risk: None,
        challenge: None,
        is_token_revoked: false,
        obligations: vec![],
    }
}

fn details() -> DecisionDetails {
    DecisionDetails {
        time: Timestamp::from_us(1),
        caller: "c".into(),
        evaluation_errors: vec![],
        observed: None,
        risk: None,
        device: None,
        assigned_roles: vec![],
        evaluation_us: 1,
    }
}

#[test]
fn a_record_gives_back_the_request_that_it_is_about() {
    let request = AccessRequest {
        request_id: "r".into(),
        traceparent: Some("t".into()),
        sidecar: Sidecar {
            node_id: "n".into(),
            workload: "w".into(),
        },
        route_rule: "rule".into(),
        principal: Some(Principal {
            issuer: "i".into(),
            subject: "s".into(),
            tenant: Some("t".into()),
            roles: vec!["r".into()],
            scopes: vec!["s".into()],
            acr: Some("a".into()),
            amr: vec!["otp".into()],
            auth_time_s: Some(1),
            session_id: Some("sid".into()),
            token_id: Some("jti".into()),
            issued_at_s: Some(2),
            expires_at_s: Some(3),
            actors: vec![Actor {
                issuer: Some("ai".into()),
                subject: "as".into(),
            }],
            is_bound: true,
        }),
        further_tokens: vec![FurtherToken {
            issuer: "fi".into(),
            subject: "fs".into(),
            tenant: Some("ft".into()),
            session_id: Some("fsid".into()),
            token_id: Some("fjti".into()),
            issued_at_s: Some(4),
        }],
        peer: "spiffe://example.org/web".parse().ok(),
        action: Action { method: "GET".into() },
        resource: Resource {
            host: "h".into(),
            path: "/p".into(),
            path_parameters: BTreeMap::from([("id".into(), "7".into())]),
            classification: Some("c".into()),
            security_zone: Some("z".into()),
            tenant: Some("o".into()),
        },
        context: Context {
            source_address: "10.1.2.3".parse().ok(),
            user_agent: Some("u".into()),
            possession: Possession {
                certificate: Some(CertificateThumbprint([1; 32])),
                key: Some(KeyThumbprint([2; 32])),
            },
        },
    };
    let mut record = DecisionRecord::new(request.clone(), &decision(), details());
    assert_eq!(record.request(), Some(request));
    let mut forged = record.clone();
    forged.context.key_thumbprint = Some("x".into());
    assert_eq!(forged.request(), None);
    // As it was written before further tokens were kept.
    let mut older = serde_json::to_value(&record).unwrap();
    assert!(older.as_object_mut().unwrap().remove("further_tokens").is_some());
    let older: DecisionRecord = serde_json::from_value(older).unwrap();
    assert_eq!(older.request().unwrap().further_tokens, []);
    record.context.source_address = Some("nowhere".into());
    assert_eq!(record.request(), None);
}
