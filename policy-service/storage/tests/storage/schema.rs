//! What a store is refused for, and what replicas tell each other.

use picket_model::session::EndReason;
use std::path::Path;
use std::sync::{Arc, Mutex};

use picket_state::StorageLocation;
use picket_state::sessions::{ConcurrencyLimit, Lockdown, Revocation, RevocationTarget, Session, SessionEnd};
use picket_state::{Change, Fingerprint, NamedBy, PrincipalId, SessionId, StorageError, Store};
use picket_storage::DatabaseFileError;

use crate::postgres::{Server, execute};
use crate::{confirm, open, postgres_at};

async fn refused(location: &StorageLocation) -> StorageError {
    picket_storage::open(location, Arc::new(|_| ())).await.err().unwrap()
}

pub(crate) async fn sqlite_refuses_what_is_not_its_own(location: &StorageLocation, folder: &Path) {
    let StorageLocation::Sqlite { file } = location else {
        panic!("{location:?}");
    };
    let store = open(location).await;
    let second = refused(location).await;
    let StorageError::File(error) = &second else {
        panic!("{second}");
    };
    assert!(
        matches!(error.downcast_ref(), Some(DatabaseFileError::Locked(_))),
        "{second}"
    );
    drop(store);
    // The writer gives the lock back when it has closed the database, which moves everything into
    // the one file.
    let lock = std::fs::File::open(format!("{}.lock", file.display())).unwrap();
    lock.lock().unwrap();

    let newer = folder.join("newer.sqlite3");
    std::fs::copy(file, &newer).unwrap();
    let database = rusqlite::Connection::open(&newer).unwrap();
    database.pragma_update(None, "user_version", 1_000).unwrap();
    drop(database);
    let error = refused(&StorageLocation::Sqlite { file: newer }).await;
    assert!(matches!(&error, StorageError::Newer { found: 1_000, .. }), "{error}");
    assert!(error.to_string().contains("newer.sqlite3"), "{error}");

    let foreign = folder.join("foreign.sqlite3");
    let database = rusqlite::Connection::open(&foreign).unwrap();
    database.execute_batch("CREATE TABLE session (id INTEGER)").unwrap();
    drop(database);
    let error = refused(&StorageLocation::Sqlite { file: foreign.clone() }).await;
    assert!(matches!(&error, StorageError::Foreign(_)), "{error}");
    assert!(error.to_string().contains("foreign.sqlite3"), "{error}");
    let database = rusqlite::Connection::open(&foreign).unwrap();
    let tables: i64 = database
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

pub(crate) async fn postgres_refuses_what_is_not_its_own(server: &Server, folder: &Path) {
    let url = server.database().await;
    let location = postgres_at(folder, &url);
    drop(open(&location).await);
    execute(&url, "UPDATE picket.version SET number = 1000").await;
    let error = refused(&location).await;
    assert!(matches!(&error, StorageError::Newer { found: 1_000, .. }), "{error}");
    execute(&url, "UPDATE picket.version SET application = 'other'").await;
    let error = refused(&location).await;
    assert!(matches!(&error, StorageError::Foreign(_)), "{error}");

    let url = server.database().await;
    execute(&url, "CREATE SCHEMA picket; CREATE TABLE picket.session (id integer)").await;
    let error = refused(&postgres_at(folder, &url)).await;
    let database = url.rsplit('/').next().unwrap();
    assert!(matches!(&error, StorageError::Foreign(_)), "{error}");
    assert!(error.to_string().contains(database), "{error}");

    let gone = postgres_at(folder, &server.url("nobody").replace("picket@", "picket:a-secret@"));
    let error = refused(&gone).await;
    assert!(matches!(&error, StorageError::Connection(_)), "{error}");
    assert!(!error.to_string().contains("a-secret"), "{error}");
}

pub(crate) async fn replicas_that_start_together_make_one_schema(server: &Server, folder: &Path) {
    let location = postgres_at(folder, &server.database().await);
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let location = location.clone();
        replicas.spawn(async move { open(&location).await.counts(1).await.unwrap().all });
    }
    while let Some(count) = replicas.join_next().await {
        assert_eq!(count.unwrap(), 0);
    }
}

/// A store, and what it was told.
pub(crate) async fn told(location: &StorageLocation) -> (Arc<dyn Store>, Arc<Mutex<Vec<Change>>>) {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&changes);
    let store = picket_storage::open(location, Arc::new(move |change| observed.lock().unwrap().push(change)))
        .await
        .unwrap();
    confirm(&*store).await;
    (store, changes)
}

pub(crate) async fn changes_are_told(server: &Server, folder: &Path) {
    let location = postgres_at(folder, &server.database().await);
    let (first, _) = told(&location).await;
    let (second, changes) = told(&location).await;
    let take = || std::mem::take(&mut *changes.lock().unwrap());
    assert_eq!(take(), [Change::Anything]);

    let (principal, now_us) = (
        PrincipalId::of("https://issuer.example", "alice"),
        1_700_000_000_000_000,
    );
    let session = |name: &str| Session {
        id: SessionId::of("https://issuer.example", NamedBy::SessionId, name),
        principal,
        issuer: String::new(),
        subject: String::new(),
        tenant: None,
        named_by: NamedBy::SessionId,
        name: name.to_owned(),
        fingerprint: Fingerprint::of(&[]),
        first_seen_us: now_us,
        last_seen_us: now_us,
        ended: None,
    };
    let one = ConcurrencyLimit {
        max: 1,
        first_seen_after_us: 0,
        last_seen_after_us: 0,
    };
    first.create(session("1"), one).await.unwrap();
    // The answer to a probe comes after everything that was to be told.
    second.probe().await.unwrap();
    assert_eq!(take(), []);
    first.create(session("2"), one).await.unwrap();
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Session(session("1").id)]);
    let ended = SessionEnd {
        at_us: now_us,
        reason: EndReason::Revoked,
        caller: None,
    };
    assert!(first.end(session("2").id, ended, i64::MAX).await.unwrap());
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Session(session("2").id)]);
    let revocation = Revocation {
        target: RevocationTarget::Principal(principal),
        label: String::new(),
        until_us: now_us,
        caller: String::new(),
    };
    first.revoke(revocation).await.unwrap();
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Restrictions]);
    let lockdown = Lockdown {
        at_us: now_us,
        caller: String::new(),
    };
    first.set_lockdown(Some(lockdown)).await.unwrap();
    first.set_lockdown(None).await.unwrap();
    second.probe().await.unwrap();
    assert_eq!(take(), [Change::Restrictions, Change::Restrictions]);

    // One whose connections were cut is told that anything may have changed.
    server
        .execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'picket-policy-service'",
        )
        .await;
    confirm(&*second).await;
    assert_eq!(take(), [Change::Anything]);
}
