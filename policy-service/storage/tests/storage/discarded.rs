//! Writes that something in the database discards: none of them is acknowledged.

use picket_model::device::DeviceState;
use picket_model::session::EndReason;
use std::path::Path;
use std::sync::Arc;

use picket_model::device_thumbprint::DeviceThumbprint;
use picket_state::StorageLocation;
use picket_state::devices::{
    ChallengeDigest, DeviceId, DeviceUpdate, NewDevice, OsName, OsVersion, PendingEnrollment, Posture,
};
use picket_state::revisions::{ActivationRequest, ActivationSource, RevisionFile};
use picket_state::roles::{AssignmentResult, RoleAssignment, RoleKey};
use picket_state::sessions::{ConcurrencyLimit, Lockdown, Revocation, RevocationTarget, Session, SessionEnd};
use picket_state::{Fingerprint, NamedBy, PrincipalId, SessionId, StorageError, Store};
use uuid::Uuid;

use crate::postgres::{Server, execute};
use crate::{Backend, confirm, open, postgres_at};

const ISSUER: &str = "https://issuer.example";
const CALLER: &str = "spiffe://example.org/operator";
const NOW_US: i64 = 1_700_000_000_000_000;

/// A write and what it writes to, as a trigger is told to discard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Create,
    End,
    Revoke,
    LockdownOn,
    LockdownOff,
    ActivateNew,
    ActivateNewFiles,
    Activate,
    Assign,
    AssignAnew,
    Withdraw,
    BeginEnrollment,
    Enroll,
    EnrollThumbprint,
    SetState,
    Report,
    AddThumbprint,
    RemoveThumbprint,
}

/// With the table and the statement that are discarded.
const WRITES: [(Write, &str, &str); 18] = [
    (Write::Create, "session", "INSERT"),
    (Write::End, "session", "UPDATE"),
    (Write::Revoke, "revocation", "INSERT"),
    (Write::LockdownOn, "lockdown", "INSERT"),
    (Write::LockdownOff, "lockdown", "DELETE"),
    (Write::ActivateNew, "policy_revision", "INSERT"),
    (Write::ActivateNewFiles, "policy_file", "INSERT"),
    (Write::Activate, "policy_activation", "INSERT"),
    (Write::Assign, "role_assignment", "INSERT"),
    (Write::AssignAnew, "role_assignment", "DELETE"),
    (Write::Withdraw, "role_assignment", "DELETE"),
    (Write::BeginEnrollment, "enrollment", "INSERT"),
    (Write::Enroll, "device", "INSERT"),
    (Write::EnrollThumbprint, "device_thumbprint", "INSERT"),
    (Write::SetState, "device", "UPDATE"),
    (Write::Report, "device", "UPDATE"),
    (Write::AddThumbprint, "device_thumbprint", "INSERT"),
    (Write::RemoveThumbprint, "device_thumbprint", "DELETE"),
];

fn session(name: &str) -> Session {
    Session {
        id: SessionId::of(ISSUER, NamedBy::SessionId, name),
        principal: PrincipalId::of(ISSUER, "alice"),
        issuer: ISSUER.to_owned(),
        subject: "alice".to_owned(),
        tenant: None,
        named_by: NamedBy::SessionId,
        name: name.to_owned(),
        fingerprint: Fingerprint::of(&[]),
        first_seen_us: NOW_US,
        last_seen_us: NOW_US,
        ended: None,
    }
}

fn lockdown() -> Lockdown {
    Lockdown {
        at_us: NOW_US,
        caller: CALLER.to_owned(),
    }
}

fn revision(text: &str) -> ActivationSource {
    ActivationSource::New {
        digest: text.to_owned(),
        files: vec![RevisionFile {
            name: "a.cedar".to_owned(),
            text: text.to_owned(),
        }],
    }
}

fn order() -> ActivationRequest {
    ActivationRequest {
        caller: CALLER.to_owned(),
        comment: String::new(),
        at_us: NOW_US,
        expected_active: None,
    }
}

fn assignment(role: &str, until_us: Option<i64>) -> RoleAssignment {
    RoleAssignment {
        key: RoleKey {
            issuer: ISSUER.to_owned(),
            subject: "alice".to_owned(),
            role: role.to_owned(),
            tenant: None,
        },
        until_us,
        author: CALLER.to_owned(),
        at_us: NOW_US,
    }
}

fn enrollment(challenge: &str) -> PendingEnrollment {
    PendingEnrollment {
        challenge: ChallengeDigest::of(challenge),
        owner: PrincipalId::of(ISSUER, "alice"),
        issuer: ISSUER.to_owned(),
        subject: "alice".to_owned(),
        tenant: None,
        label: String::new(),
        ends_us: NOW_US + 10,
        caller: CALLER.to_owned(),
    }
}

fn device(number: u8) -> DeviceId {
    DeviceId::new(Uuid::from_u128(number.into()))
}

fn new_device(challenge: &str, number: u8) -> NewDevice {
    NewDevice {
        challenge: ChallengeDigest::of(challenge),
        id: device(number),
        thumbprint: DeviceThumbprint::Key([number; 32]),
        now_us: NOW_US,
        devices_max: 100,
    }
}

/// What the writes change or delete.
async fn prepare(store: &dyn Store) {
    let many = ConcurrencyLimit {
        max: 100,
        first_seen_after_us: 0,
        last_seen_after_us: 0,
    };
    store.create(session("ended"), many).await.unwrap();
    store.activate(revision("first"), order()).await.unwrap();
    for role in ["withdrawn", "anew"] {
        store.assign(assignment(role, None)).await.unwrap();
    }
    for challenge in ["first", "second", "third"] {
        assert!(
            store
                .begin_enrollment(enrollment(challenge), NOW_US, 100)
                .await
                .unwrap()
        );
    }
    store.enroll(new_device("first", 1)).await.unwrap();
    store
        .add_thumbprint(device(1), DeviceThumbprint::Key([11; 32]), NOW_US)
        .await
        .unwrap();
}

/// Whether the store has acknowledged the write.
async fn is_acknowledged(store: &dyn Store, write: Write) -> Result<bool, StorageError> {
    let many = ConcurrencyLimit {
        max: 100,
        first_seen_after_us: 0,
        last_seen_after_us: 0,
    };
    let done = |change: DeviceUpdate| matches!(change, DeviceUpdate::Done(_));
    match write {
        Write::Create => store.create(session("created"), many).await.map(|_| true),
        Write::End => {
            let ended = SessionEnd {
                at_us: NOW_US,
                reason: EndReason::Revoked,
                caller: Some(CALLER.to_owned()),
            };
            // That there was nothing to end is as good as that it was ended.
            store.end(session("ended").id, ended, i64::MAX).await.map(|_| true)
        }
        Write::Revoke => {
            let revocation = Revocation {
                target: RevocationTarget::Principal(PrincipalId::of(ISSUER, "alice")),
                label: String::new(),
                until_us: NOW_US,
                caller: CALLER.to_owned(),
            };
            store.revoke(revocation).await.map(|()| true)
        }
        Write::LockdownOn => store.set_lockdown(Some(lockdown())).await.map(|_| true),
        Write::LockdownOff => store.set_lockdown(None).await.map(|_| true),
        Write::ActivateNew | Write::ActivateNewFiles => {
            store.activate(revision("another"), order()).await.map(|_| true)
        }
        Write::Activate => store
            .activate(ActivationSource::Existing(1), order())
            .await
            .map(|_| true),
        Write::Assign => store.assign(assignment("new", None)).await.map(|_| true),
        Write::AssignAnew => {
            let assigned = store.assign(assignment("anew", Some(NOW_US + 1))).await;
            assigned.map(|assigned| assigned == AssignmentResult::Done)
        }
        Write::Withdraw => store.withdraw(assignment("withdrawn", None).key).await.map(|_| true),
        Write::BeginEnrollment => store.begin_enrollment(enrollment("another"), NOW_US, 100).await,
        Write::Enroll => store.enroll(new_device("second", 2)).await.map(done),
        Write::EnrollThumbprint => store.enroll(new_device("third", 3)).await.map(done),
        Write::SetState => store
            .set_device_state(device(1), DeviceState::Suspended, NOW_US)
            .await
            .map(done),
        Write::Report => {
            let posture = Posture {
                os: OsName::new("linux").unwrap(),
                os_version: OsVersion::new("6.1").unwrap(),
                is_disk_encrypted: true,
                is_managed: true,
                failures: 0,
                reported_us: NOW_US,
                reporter: CALLER.to_owned(),
            };
            store.report_posture(device(1), posture).await.map(done)
        }
        Write::AddThumbprint => store
            .add_thumbprint(device(1), DeviceThumbprint::Key([12; 32]), NOW_US)
            .await
            .map(done),
        Write::RemoveThumbprint => store
            .remove_thumbprint(device(1), DeviceThumbprint::Key([11; 32]), NOW_US)
            .await
            .map(done),
    }
}

pub(crate) async fn postgres_acknowledges_nothing_that_the_database_discards(server: &Server, folder: &Path) {
    let url = server.database().await;
    let store = open(&postgres_at(folder, &url)).await;
    confirm(&*store).await;
    prepare(&*store).await;
    for (write, table, statement) in WRITES {
        if write == Write::LockdownOff {
            assert!(is_acknowledged(&*store, Write::LockdownOn).await.unwrap());
        }
        let discard = format!(
            "CREATE FUNCTION discard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER discard BEFORE {statement} ON picket.{table} FOR EACH ROW EXECUTE FUNCTION discard()"
        );
        execute(&url, &discard).await;
        let acknowledged = is_acknowledged(&*store, write).await;
        assert!(!matches!(acknowledged, Ok(true)), "{write:?} was acknowledged");
        execute(
            &url,
            &format!("DROP TRIGGER discard ON picket.{table}; DROP FUNCTION discard()"),
        )
        .await;
        assert!(
            is_acknowledged(&*store, write).await.unwrap(),
            "{write:?} without the trigger"
        );
    }
}

pub(crate) async fn sqlite_acknowledges_nothing_that_the_database_discards(backend: &impl Backend) {
    for when in ["BEFORE", "AFTER"] {
        let location = backend.fresh().await;
        let StorageLocation::Sqlite { file } = &location else {
            panic!("{location:?}");
        };
        let store = open(&location).await;
        prepare(&*store).await;
        let database = rusqlite::Connection::open(file).unwrap();
        for (write, table, statement) in WRITES {
            if write == Write::LockdownOff {
                assert!(is_acknowledged(&*store, Write::LockdownOn).await.unwrap());
            }
            let discard = match when {
                "BEFORE" => "SELECT RAISE(IGNORE)".to_owned(),
                _ => format!("DELETE FROM {table}"),
            };
            let trigger = format!("CREATE TRIGGER discard {when} {statement} ON {table} BEGIN {discard}; END");
            database.execute_batch(&trigger).unwrap();
            let error = is_acknowledged(&*store, write).await.unwrap_err();
            assert_eq!(error.reason(), "schema_altered", "{write:?}: {error}");
            assert!(error.to_string().contains("trigger discard"), "{error}");
            assert!(store.probe().await.is_err());
            database.execute_batch("DROP TRIGGER discard").unwrap();
            assert!(
                is_acknowledged(&*store, write).await.unwrap(),
                "{write:?} without the trigger"
            );
        }
        // Nor is one opened that has something of the kind.
        drop(store);
        let index = "CREATE UNIQUE INDEX one_caller ON revocation (caller)";
        database.execute_batch(index).unwrap();
        let lock = std::fs::File::open(format!("{}.lock", file.display())).unwrap();
        lock.lock().unwrap();
        drop(lock);
        let refused = picket_storage::open(&location, Arc::new(|_| ())).await.err().unwrap();
        assert!(refused.to_string().contains("index one_caller"), "{refused}");
    }
}

pub(crate) async fn a_write_ahead_log_that_is_taken_away_ends_the_writes(location: &StorageLocation) {
    let StorageLocation::Sqlite { file } = location else {
        panic!("{location:?}");
    };
    let store = open(location).await;
    store.probe().await.unwrap();
    std::fs::remove_file(format!("{}-wal", file.display())).unwrap();
    let error = store.probe().await.unwrap_err();
    assert_eq!(error.reason(), "file_unusable", "{error}");
    assert!(store.revoke(revoked()).await.is_err());
}

fn revoked() -> Revocation {
    Revocation {
        target: RevocationTarget::Principal(PrincipalId::of(ISSUER, "bob")),
        label: String::new(),
        until_us: NOW_US,
        caller: CALLER.to_owned(),
    }
}

pub(crate) async fn postgres_takes_nothing_that_another_replica_did_for_discarded(server: &Server, folder: &Path) {
    let location = postgres_at(folder, &server.database().await);
    let in_turns = async |store: Arc<dyn Store>| {
        for _ in 0..50 {
            store.set_lockdown(Some(lockdown())).await.unwrap();
            store.assign(assignment("reader", None)).await.unwrap();
            store.set_lockdown(None).await.unwrap();
            store.withdraw(assignment("reader", None).key).await.unwrap();
        }
    };
    let (one, other) = (open(&location).await, open(&location).await);
    tokio::join!(in_turns(one), in_turns(other));
}

/// What lies in the schema and concerns no table of Picket's.
const UNRELATED: &str = "
    CREATE VIEW picket.pg_stat_statements AS SELECT 1 AS calls;
    CREATE TABLE picket.theirs (id integer);
    CREATE FUNCTION picket.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER nothing BEFORE INSERT ON picket.theirs FOR EACH ROW EXECUTE FUNCTION picket.nothing();
    CREATE RULE nothing AS ON DELETE TO picket.theirs DO INSTEAD NOTHING;
    ALTER TABLE picket.theirs ENABLE ROW LEVEL SECURITY;
    CREATE TABLE picket.parted (id integer) PARTITION BY LIST (id);
    CREATE TABLE picket.part PARTITION OF picket.parted FOR VALUES IN (1)";

pub(crate) async fn postgres_leaves_alone_what_is_none_of_its_tables(server: &Server, folder: &Path) {
    let url = server.database().await;
    let location = postgres_at(folder, &url);
    let store = open(&location).await;
    confirm(&*store).await;
    execute(&url, UNRELATED).await;
    store.probe().await.unwrap();
    store.revoke(revoked()).await.unwrap();
    open(&location).await.probe().await.unwrap();
}

pub(crate) async fn postgres_refuses_what_could_discard(server: &Server, folder: &Path) {
    for (sql, object) in [
        (
            "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN DELETE FROM picket.revocation; RETURN NULL; END';
             CREATE TRIGGER later AFTER INSERT ON picket.revocation FOR EACH ROW EXECUTE FUNCTION later()",
            "trigger `later` on `revocation`",
        ),
        (
            "CREATE RULE nothing AS ON INSERT TO picket.session DO INSTEAD NOTHING",
            "rule `nothing` on `session`",
        ),
        (
            "ALTER TABLE picket.session ENABLE ROW LEVEL SECURITY",
            "row security of `session`",
        ),
        (
            "ALTER TABLE picket.lockdown RENAME TO hidden; CREATE VIEW picket.lockdown AS SELECT * FROM picket.hidden",
            "`lockdown`",
        ),
        (
            "ALTER TABLE picket.lockdown RENAME TO hidden;
             CREATE TABLE picket.lockdown (LIKE picket.hidden) PARTITION BY LIST (id)",
            "relation `lockdown`",
        ),
        (
            "CREATE TABLE public.child () INHERITS (picket.revocation)",
            "inheritance of `revocation`",
        ),
    ] {
        let url = server.database().await;
        let location = postgres_at(folder, &url);
        let store = open(&location).await;
        confirm(&*store).await;
        // What concerns no write is nobody's business.
        execute(
            &url,
            "CREATE VIEW public.v AS SELECT * FROM picket.session; CREATE INDEX more ON picket.session (subject)",
        )
        .await;
        store.probe().await.unwrap();
        execute(&url, sql).await;
        let error = store.probe().await.unwrap_err();
        assert_eq!(error.reason(), "schema_altered", "{sql}: {error}");
        assert!(error.to_string().contains(object), "{error}");
        let refused = picket_storage::open(&location, Arc::new(|_| ())).await.err().unwrap();
        assert!(refused.to_string().contains(object), "{refused}");
    }
}
