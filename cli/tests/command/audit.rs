//! `picket audit verify` and `picket audit tail`, on a log that the policy service's own writer wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_audit::{AuditLog, AuditWriter, DatabaseFileError, Event, KeyEncryptionKey, OpenError, StoreError};
use picket_model::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{Answer, picket, text};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

struct Log {
    _folder: tempfile::TempDir,
    database: PathBuf,
    key: PathBuf,
}

impl Log {
    fn picket(&self, command: &str, further: &[&str]) -> Answer {
        let arguments = [
            "audit",
            command,
            "--database",
            text(&self.database),
            "--key",
            text(&self.key),
        ];
        picket(&[&arguments[..], further].concat())
    }

    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", text(&self.database)))
    }

    /// Changes the database behind the service's back.
    fn tamper(&self, statement: &str) {
        let connection = rusqlite::Connection::open(&self.database).unwrap();
        assert!(
            connection.execute(statement, []).unwrap() > 0,
            "{statement} changed nothing"
        );
    }
}

fn decision(number: u64, effect: &str) -> Event {
    let content = json!({
        "event": "decision",
        "decision_id": format!("d-{number}"),
        "time_us": 1_700_000_000_000_000_u64 + number,
        "caller": "spiffe://example.org/orders",
        "sidecar": {"node_id": "node-1", "workload": "orders"},
        "request_id": format!("r-{number}"),
        "traceparent": null,
        "route_rule": "orders-read",
        "principal": {
            "issuer": "https://issuer.example", "subject": "alice\u{1b}[2J", "tenant": null, "roles": ["reader"],
            "scopes": [], "acr": null, "amr": [], "auth_time_s": null, "session_id": null, "token_id": null,
            "issued_at_s": null, "expires_at_s": 1_700_000_300,
        },
        "peer": "spiffe://example.org/web",
        "action": {"method": "GET"},
        "resource": {
            "host": "orders.example.org", "path": format!("/orders/{number}"), "path_parameters": {},
            "classification": null,
        },
        "context": {"source_address": null, "user_agent": null},
        "effect": effect,
        "policy_revision": "0123456789abcdef",
        "policy_ids": ["readers-read"],
        "evaluation_errors": [],
        "caller_reasons": [],
        "valid_for_ms": 60_000,
        "evaluation_us": 50,
    });
    serde_json::from_value(content).unwrap()
}

/// Opens the log. A process that another test has just forked holds its lock until it becomes another program.
fn open(database: &Path) -> (AuditLog, AuditWriter) {
    let deadline = picket::clock::now() + Duration::from_secs(10);
    loop {
        match AuditLog::open(database, KeyEncryptionKey::from_hex(KEY).unwrap(), |_| {}) {
            Err(OpenError::Store(StoreError::File(DatabaseFileError::Locked(_))))
                if picket::clock::now() < deadline =>
            {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

fn append(database: &Path, numbers: impl IntoIterator<Item = u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (log, writer) = open(database);
    for number in numbers {
        let effect = if number % 2 == 0 { "deny" } else { "permit" };
        runtime
            .block_on(log.append(
                Timestamp::from_us(1_700_000_000_000_000 + number),
                &decision(number, effect),
            ))
            .unwrap();
    }
    writer.close();
}

/// A log of five records.
fn log() -> Log {
    let folder = tempfile::tempdir().unwrap();
    let (database, key) = (folder.path().join("audit.sqlite3"), folder.path().join("audit-key"));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    append(&database, 1..=5);
    Log {
        _folder: folder,
        database,
        key,
    }
}

#[test]
fn a_log_as_it_was_written_verifies_and_says_its_head() {
    let log = log();
    let answer = log.picket("verify", &[]);
    answer.expect(0);
    let head = answer.stdout.lines().last().unwrap().strip_prefix("head ").unwrap();
    assert!(answer.stdout.contains("verified, 5 records"), "{}", answer.stdout);
    let json = log.picket("verify", &["--output", "json"]).json();
    assert_eq!(json["verified"], true);
    assert_eq!(json["records"], 5);
    assert_eq!(json["head"], head);
    log.picket("verify", &["--expect-head", head]).expect(0);
    append(&log.database, 6..=7);
    log.picket("verify", &["--expect-head", head]).expect(0);
}

#[test]
fn an_altered_record_is_named_and_exits_with_1() {
    let log = log();
    log.tamper("UPDATE audit_record SET time_us = time_us + 1 WHERE seq = 3");
    let answer = log.picket("verify", &[]);
    answer.expect(1);
    assert!(answer.stdout.contains("record 3: altered"), "{}", answer.stdout);
    let answer = log.picket("verify", &["--output", "json"]);
    answer.expect(1);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(answer["verified"], false);
    assert_eq!(answer["problem"]["seq"], 3);
    log.picket("tail", &["-n", "3"]).expect(1);
    log.picket("tail", &["-n", "2"]).expect(0);
}

#[test]
fn a_log_that_was_put_back_is_found_by_the_head_that_was_noted() {
    let log = log();
    let older = fs::read(&log.database).unwrap();
    append(&log.database, 6..=7);
    let head = log.picket("verify", &["--output", "json"]).json()["head"].clone();
    fs::write(&log.database, older).unwrap();
    let answer = log.picket("verify", &[]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("record 6: missing, with all up to record 7"),
        "{}",
        answer.stdout
    );
    // With the file that tells, the log has lost what it can tell by itself.
    fs::remove_file(log.beside("-head")).unwrap();
    log.picket("verify", &[]).expect(0);
    let answer = log.picket("verify", &["--expect-head", head.as_str().unwrap()]);
    answer.expect(1);
    assert!(answer.stdout.contains("record 6: missing"), "{}", answer.stdout);
}

/// As evidence of a service that was killed: a copy of its files while it runs.
#[test]
fn records_that_went_with_the_write_ahead_log_are_named_and_evidence_stays_as_it_is() {
    let log = log();
    let (writing, writer) = open(&log.database);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 6..=9 {
        runtime
            .block_on(writing.append(
                Timestamp::from_us(1_700_000_000_000_000 + number),
                &decision(number, "permit"),
            ))
            .unwrap();
    }
    let folder = log.database.parent().unwrap().join("evidence");
    fs::create_dir(&folder).unwrap();
    let copy = Log {
        database: folder.join("audit.sqlite3"),
        key: log.key.clone(),
        _folder: tempfile::tempdir().unwrap(),
    };
    for ending in ["", "-wal", "-head"] {
        fs::copy(log.beside(ending), copy.beside(ending)).unwrap();
    }
    writer.close();
    let listing = || {
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = listing();
    let answer = copy.picket("verify", &[]);
    answer.expect(0);
    assert!(answer.stdout.contains("verified, 9 records"), "{}", answer.stdout);
    copy.picket("tail", &["-n", "3"]).expect(0);
    assert_eq!(listing(), before);
    fs::remove_file(copy.beside("-wal")).unwrap();
    let before = listing();
    let answer = copy.picket("verify", &[]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("record 6: missing, with all up to record 9"),
        "{}",
        answer.stdout
    );
    fs::remove_file(copy.beside("-head")).unwrap();
    let answer = copy.picket("verify", &[]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("`-head` beside the database is missing"),
        "{}",
        answer.stdout
    );
    assert_eq!(listing().len(), before.len() - 1);
}

#[test]
fn the_tail_is_the_last_records_with_the_latest_last() {
    let log = log();
    let answer = log.picket("tail", &["-n", "2"]);
    answer.expect(0);
    let expected = [
        "     4  2023-11-14T22:13:20.000004Z  deny       alice\\u{1b}[2J  GET orders.example.org/orders/4  orders-read  readers-read",
        "     5  2023-11-14T22:13:20.000005Z  permit     alice\\u{1b}[2J  GET orders.example.org/orders/5  orders-read  readers-read",
    ];
    assert_eq!(answer.stdout.lines().collect::<Vec<_>>(), expected);
    let json = log.picket("tail", &["--output", "json"]).json();
    let seqs: Vec<u64> = json
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| record["seq"].as_u64())
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert_eq!(json[4]["content"]["principal"]["roles"], json!(["reader"]));
}

#[test]
fn what_cannot_be_read_exits_with_3_and_is_named() {
    let log = log();
    let folder = log.database.parent().unwrap();
    fs::write(folder.join("short"), "abcd").unwrap();
    fs::write(
        folder.join("text"),
        "not a database, but long enough to be taken for one".repeat(10),
    )
    .unwrap();
    for (database, key, expected) in [
        ("absent.sqlite3", "audit-key", "absent.sqlite3"),
        ("text", "audit-key", "not a database"),
        ("audit.sqlite3", "absent", "absent`: No such file"),
        ("audit.sqlite3", "short", "short`: expected a key of 64 hexadecimal"),
    ] {
        let (database, key) = (folder.join(database), folder.join(key));
        let answer = picket(&["audit", "verify", "--database", text(&database), "--key", text(&key)]);
        answer.expect(3);
        assert_eq!(answer.stdout, "");
        assert!(answer.stderr.contains(expected), "{}", answer.stderr);
    }
    assert!(!folder.join("absent.sqlite3").exists(), "reading makes no database");
}

#[test]
fn another_key_does_not_verify() {
    let log = log();
    fs::write(&log.key, KEY.replace("1f", "2f")).unwrap();
    let answer = log.picket("verify", &[]);
    answer.expect(1);
    assert!(
        answer.stdout.contains("another key-encryption key"),
        "{}",
        answer.stdout
    );
}

#[test]
fn a_senseless_head_or_count_is_a_usage_error() {
    let log = log();
    log.picket("verify", &["--expect-head", "5"]).expect(2);
    log.picket("tail", &["-n", "0"]).expect(2);
}
