//! What is left of a log whose service was killed, and what was done to it afterwards.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

/// The endings of a log's files.
const FILES: [&str; 4] = ["", "-wal", "-shm", "-head"];

/// A log with five acknowledged records as a service leaves it that is killed: a copy, made while
/// it was open.
struct Left {
    folder: tempfile::TempDir,
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", database.display()))
}

/// Copies those of a log's files that are there.
fn copy(from: &Path, to: &Path) {
    for ending in FILES {
        let file = beside(from, ending);
        if file.exists() {
            fs::copy(file, beside(to, ending)).unwrap();
        }
    }
}

impl Left {
    /// With copies of the state after two records, and of another log with the same key.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let left = Self { folder };
        let running = left.path("running");
        let (log, writer) = AuditLog::open(&running, key(KEY), |_| {}).unwrap();
        for id in 1..=5 {
            log.append(Timestamp::from_us(id), &event(&id.to_string()))
                .await
                .unwrap();
            if id == 2 {
                copy(&running, &left.path("older"));
            }
        }
        copy(&running, &left.path("audit"));
        writer.close();
        let (log, writer) = AuditLog::open(&left.path("other"), key(KEY), |_| {}).unwrap();
        for id in 1..=7 {
            log.append(Timestamp::from_us(id), &event("other")).await.unwrap();
        }
        copy(&left.path("other"), &left.path("foreign"));
        writer.close();
        left
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, ending: &str) -> PathBuf {
        beside(&self.path("audit"), ending)
    }

    fn remove(&self, ending: &str) {
        fs::remove_file(self.file(ending)).unwrap();
    }

    fn cut(&self, ending: &str, bytes: u64) {
        let file = fs::File::options().write(true).open(self.file(ending)).unwrap();
        file.set_len(bytes).unwrap();
    }

    fn take_from(&self, log: &str, ending: &str) {
        fs::copy(beside(&self.path(log), ending), self.file(ending)).unwrap();
    }

    fn fill(&self, ending: &str, range: std::ops::Range<usize>) {
        let mut bytes = fs::read(self.file(ending)).unwrap();
        bytes[range].fill(7);
        fs::write(self.file(ending), bytes).unwrap();
    }
}

type Found = Result<u64, (Option<i64>, IntegrityFinding)>;

fn found(database: &Path) -> Found {
    match verify(database, &key(KEY), None) {
        Ok(report) => Ok(report.records),
        Err(VerifyError::Broken(problem)) => Err((problem.seq, problem.finding)),
        Err(VerifyError::Store(error)) => panic!("{error}"),
    }
}

/// What is done to the files of a log, and what is found.
struct Case {
    done: &'static str,
    change: fn(&Left),
    found: Found,
}

const fn case(done: &'static str, change: fn(&Left), found: Found) -> Case {
    Case { done, change, found }
}

const fn missing(seq: i64, through: u64) -> Found {
    Err((Some(seq), IntegrityFinding::Missing { through }))
}

const CASES: &[Case] = &[
    case("nothing", |_| {}, Ok(5)),
    case("no index", |left| left.remove("-shm"), Ok(5)),
    case("no write-ahead log", |left| left.remove("-wal"), missing(1, 5)),
    case(
        "no write-ahead log and no index",
        |left| {
            left.remove("-wal");
            left.remove("-shm");
        },
        missing(1, 5),
    ),
    case("an empty write-ahead log", |left| left.cut("-wal", 0), missing(1, 5)),
    case("the header of one", |left| left.cut("-wal", 32), missing(1, 5)),
    case(
        "an older write-ahead log",
        |left| left.take_from("older", "-wal"),
        missing(3, 5),
    ),
    case(
        "one that was cut to what the older one has",
        |left| left.cut("-wal", fs::metadata(beside(&left.path("older"), "-wal")).unwrap().len()),
        missing(3, 5),
    ),
    case(
        "the write-ahead log of another log",
        |left| left.take_from("foreign", "-wal"),
        // SQLite takes its pages, among them the head.
        Err((None, IntegrityFinding::KeyMissing)),
    ),
    case(
        "no head file",
        |left| left.remove("-head"),
        Err((None, IntegrityFinding::HeadFileMissing)),
    ),
    case(
        "no head file and no write-ahead log",
        |left| {
            left.remove("-head");
            left.remove("-wal");
        },
        Err((None, IntegrityFinding::HeadFileMissing)),
    ),
    case(
        "an empty head file",
        |left| left.cut("-head", 0),
        Err((None, IntegrityFinding::HeadFileMissing)),
    ),
    case(
        "a head file of zeros",
        |left| fs::write(left.file("-head"), [0; 1024]).unwrap(),
        Err((None, IntegrityFinding::HeadFileMissing)),
    ),
    case(
        "an altered head file",
        |left| left.fill("-head", 0..1024),
        Err((None, IntegrityFinding::HeadFileBroken)),
    ),
    case(
        "a head file of another log, which has more records",
        |left| left.take_from("foreign", "-head"),
        missing(6, 7),
    ),
    // The chain proves what is there; only one slot is written at a time.
    case("an older head file", |left| left.take_from("older", "-head"), Ok(5)),
    case("a first slot that was torn", |left| left.fill("-head", 0..512), Ok(5)),
    case(
        "a second slot that was torn",
        |left| left.fill("-head", 512..1024),
        Ok(5),
    ),
];

#[tokio::test]
async fn what_was_acknowledged_and_is_gone_is_named_whatever_was_done_to_the_files() {
    for Case { done, change, found } in CASES {
        let left = Left::new().await;
        change(&left);
        assert_eq!(self::found(&left.path("audit")), *found, "{done}");
        // What does not verify is not written to, and what does is continued.
        let opened = AuditLog::open(&left.path("audit"), key(KEY), |_| {});
        match found {
            Ok(records) => {
                let (log, writer) = opened.unwrap();
                log.append(Timestamp::from_us(9), &event("9")).await.unwrap();
                writer.close();
                assert_eq!(self::found(&left.path("audit")), Ok(records + 1), "{done}");
            }
            Err(_) => assert!(
                matches!(opened.err(), Some(OpenError::Store(StoreError::Unverified(_)))),
                "{done}"
            ),
        }
    }
}

#[tokio::test]
async fn a_head_file_of_another_history_is_not_believed() {
    let left = Left::new().await;
    append(&left.path("short"), [1, 2]).await;
    left.take_from("short", "-head");
    assert_eq!(found(&left.path("audit")), Err((Some(2), IntegrityFinding::NotTheHead)));
    let opened = AuditLog::open(&left.path("audit"), key(KEY), |_| {});
    assert!(matches!(
        opened.err(),
        Some(OpenError::Store(StoreError::Unverified(_)))
    ));
}

#[tokio::test]
async fn a_log_that_was_closed_is_one_file_and_an_older_one_is_found_by_the_file_beside_it() {
    let log = Log::with(3).await;
    let alone = log.database.with_extension("alone");
    fs::copy(&log.database, &alone).unwrap();
    assert_eq!(found(&alone), Ok(3));
    append(&log.database, 4..=5).await;
    fs::copy(&alone, &log.database).unwrap();
    assert_eq!(
        found(&log.database),
        Err((Some(4), IntegrityFinding::Missing { through: 5 }))
    );
}

#[tokio::test]
async fn a_log_starts_whose_head_file_was_made_and_never_written() {
    for content in [&[][..], &[0; 1024]] {
        let log = Log::with(2).await;
        fs::write(beside(&log.database, "-head"), content).unwrap();
        assert_eq!(found(&log.database), Ok(2));
        append(&log.database, [3]).await;
        assert_eq!(found(&log.database), Ok(3));
    }
}

/// Starts reading a log, and holds the state that it has now.
fn reader(database: &Path) -> Connection {
    let reader = Connection::open(database).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM audit_record;")
        .unwrap();
    reader
}

#[tokio::test]
async fn a_log_whose_open_head_a_reader_holds_back_does_not_start() {
    let log = Log::with(2).await;
    let held = reader(&log.database);
    let opened = AuditLog::open(&log.database, key(KEY), |_| {});
    assert!(matches!(opened.err(), Some(OpenError::Store(StoreError::HeldBack))));
    drop(held);
    assert_eq!(found(&log.database), Ok(2));
    // A short one is waited for.
    let held = reader(&log.database);
    let reading = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        drop(held);
    });
    let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
    reading.join().unwrap();
    writing.append(Timestamp::from_us(3), &event("3")).await.unwrap();
    // The database alone does not pass for the whole.
    let alone = log.database.with_extension("alone");
    fs::copy(&log.database, &alone).unwrap();
    assert_eq!(found(&alone), Err((None, IntegrityFinding::HeadFileMissing)));
    writer.close();
    assert_eq!(found(&log.database), Ok(3));
}

/// Name, size and time of each file in a folder.
fn listing(folder: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, metadata.len(), metadata.mtime(), metadata.mtime_nsec())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn reading_evidence_leaves_it_as_it_is() {
    let left = Left::new().await;
    for (name, endings, expected) in [
        ("all of it", &FILES[..], Ok(5)),
        ("without the index", &["", "-wal", "-head"], Ok(5)),
        (
            "without the write-ahead log",
            &["", "-head"],
            Err((Some(1), IntegrityFinding::Missing { through: 5 })),
        ),
        (
            "the database alone",
            &[""],
            Err((None, IntegrityFinding::HeadFileMissing)),
        ),
    ] {
        // A name that means something in a URI of SQLite.
        let folder = tempfile::Builder::new()
            .prefix("evidence?mode=rwc#%41 ")
            .tempdir()
            .unwrap();
        let copy = folder.path().join("audit");
        for ending in endings {
            fs::copy(left.file(ending), beside(&copy, ending)).unwrap();
        }
        let before = listing(folder.path());
        assert_eq!(found(&copy), expected, "{name}");
        if expected.is_ok() {
            assert_eq!(tail(&copy, &key(KEY), 1).unwrap().len(), 1);
            assert!(find_decision(&copy, &key(KEY), "5").unwrap().is_some());
        }
        assert_eq!(listing(folder.path()), before, "{name}");
    }
}

#[tokio::test]
async fn a_log_is_verified_beside_its_writer_without_a_file_more() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("audit");
    let (log, writer) = AuditLog::open(&database, key(KEY), |_| {}).unwrap();
    let names = || {
        listing(folder.path())
            .into_iter()
            .map(|file| file.0)
            .collect::<Vec<_>>()
    };
    let before = names();
    for id in 1..=300 {
        log.append(Timestamp::from_us(id), &event(&id.to_string()))
            .await
            .unwrap();
        if id % 50 == 0 {
            assert_eq!(found(&database), Ok(id));
        }
    }
    assert_eq!(names(), before);
    // What is gone from under the writer.
    fs::remove_file(beside(&database, "-shm")).unwrap();
    assert_eq!(found(&database), Ok(300));
    writer.close();
}

#[tokio::test]
async fn a_file_that_is_taken_away_under_the_writer_ends_the_answers() {
    for ending in ["-wal", "-head"] {
        for replaced in [false, true] {
            let log = Log::with(1).await;
            let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
            writing.append(Timestamp::from_us(2), &event("2")).await.unwrap();
            let file = beside(&log.database, ending);
            let bytes = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            if replaced {
                fs::write(&file, bytes).unwrap();
            }
            match writing.append(Timestamp::from_us(3), &event("3")).await {
                Err(AppendError::Failed(error)) => assert!(
                    matches!(&*error, StoreError::File(DatabaseFileError::Replaced(path)) if path.ends_with(ending)),
                    "{error}"
                ),
                other => panic!("{ending}: {other:?}"),
            }
            writer.close();
        }
    }
}

#[tokio::test]
async fn an_older_log_is_continued() {
    let log = Log::with(2).await;
    let connection = Connection::open(&log.database).unwrap();
    // As version 1 left it: a head without the last byte, and no file beside it.
    let (mut sealer, wrapped) = key(KEY).new_data_key().unwrap();
    let head_hash = log.verify().unwrap().head_hash;
    let end = chain::ChainEnd {
        seq: 2,
        hash: head_hash,
    };
    let sealed = sealer
        .seal(&chain::head_associated_data(&sealer.id()), &end.to_bytes())
        .unwrap();
    connection
        .execute(
            "INSERT INTO audit_data_key VALUES (?1, ?2, 1)",
            rusqlite::params![sealer.id().as_bytes(), wrapped],
        )
        .unwrap();
    connection
        .execute(
            "UPDATE audit_head SET key_id = ?1, sealed = ?2",
            rusqlite::params![sealer.id().as_bytes(), sealed],
        )
        .unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    fs::remove_file(beside(&log.database, "-head")).unwrap();
    assert_eq!(found(&log.database), Ok(2));
    append(&log.database, [3]).await;
    assert_eq!(found(&log.database), Ok(3));
}

#[tokio::test]
async fn what_would_discard_records_keeps_them_from_being_acknowledged() {
    for (sql, reason) in [
        (
            "CREATE TRIGGER t BEFORE INSERT ON audit_record BEGIN SELECT RAISE(IGNORE); END",
            "schema_altered",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON audit_record BEGIN DELETE FROM audit_record WHERE seq = new.seq; END",
            "schema_altered",
        ),
        (
            "CREATE TRIGGER t BEFORE UPDATE ON audit_head BEGIN SELECT RAISE(IGNORE); END",
            "schema_altered",
        ),
        (
            "ALTER TABLE audit_record RENAME TO hidden;
             CREATE VIEW audit_record AS SELECT * FROM hidden;
             CREATE TRIGGER t INSTEAD OF INSERT ON audit_record BEGIN SELECT 1; END",
            "statement_failed",
        ),
        (
            "ALTER TABLE audit_record RENAME TO hidden;
             CREATE TABLE audit_record (seq INTEGER PRIMARY KEY ON CONFLICT IGNORE, time_us, prev_hash, key_id, sealed,
                 hash UNIQUE ON CONFLICT REPLACE);
             INSERT INTO audit_record SELECT * FROM hidden",
            "schema_altered",
        ),
    ] {
        let log = Log::with(1).await;
        let (writing, writer) = AuditLog::open(&log.database, key(KEY), |_| {}).unwrap();
        log.tamper(sql);
        for id in 2..=3 {
            match writing.append(Timestamp::from_us(id), &event(&id.to_string())).await {
                Err(AppendError::Failed(error)) => assert_eq!(error.reason(), reason, "{sql}: {error}"),
                other => panic!("{sql}: {other:?}"),
            }
        }
        writer.close();
        // Nor does a service start on it.
        assert!(AuditLog::open(&log.database, key(KEY), |_| {}).is_err(), "{sql}");
    }
}
