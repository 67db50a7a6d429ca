//! Storage in a SQLite database, which one process owns: one thread writes, many commits in one,
//! and others read beside it.

mod devices;
mod policies;
mod roles;
mod schema;
mod statements;

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_sqlite::{DatabaseFile, DatabaseSchema, SchemaError, WAL, disable_triggers};
use picket_state::devices::{Device, DeviceId, DeviceStore, DeviceUpdate, NewDevice, PendingEnrollment, Posture};
use picket_state::sessions::{
    ConcurrencyLimit, DeletedRows, LiveSince, Lockdown, Restrictions, Revocation, Session, SessionCounts,
    SessionCreation, SessionEnd, SessionStore,
};
use picket_state::{ListFilter, PrincipalId, SessionId, StorageError, StoreProbe};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{Semaphore, oneshot};

use super::unusable_file;

/// How many writes may wait; more at once are refused.
const QUEUE_WRITES_MAX: usize = 8192;
/// How many writes share one commit, and so one wait for the disk.
const BATCH_WRITES_MAX: usize = 512;
/// How many reads run at once: they take microseconds, or wait for the disk.
const READERS: usize = 4;
/// How many pages of the write-ahead log are moved into the database at once, within a commit, as
/// in the audit log.
const CHECKPOINT_PAGES: u32 = 1024;
/// How long a write waits for another process's lock; there is none as long as that process is no
/// `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements that a connection keeps prepared: all of them.
const STATEMENTS_MAX: usize = 64;

/// Tells the caller of a write what became of the commit.
type Reply = Box<dyn FnOnce(Result<(), StorageError>) + Send>;
/// A write within a transaction.
type Job = Box<dyn FnOnce(&Transaction<'_>) -> Result<Reply, rusqlite::Error> + Send>;

/// The store.
pub struct SqliteStore {
    // When it is dropped, the writer ends once it has written what waits.
    writes: SyncSender<Job>,
    readers: Arc<Mutex<Vec<Connection>>>,
    reads: Arc<Semaphore>,
}

impl SqliteStore {
    /// Opens a database, or creates it, and brings it to the current schema.
    ///
    /// # Errors
    /// It cannot be opened or locked, is another program's, or is of a later version.
    pub fn open(file: &Path) -> Result<Self, StorageError> {
        let mut owned = DatabaseFile::own(file).map_err(unusable_file)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(file, flags).map_err(backend)?;
        configure(&connection).map_err(backend)?;
        schema::migrate(&mut connection, file)?;
        let mut schema = DatabaseSchema::of(&schema::MIGRATIONS).map_err(backend)?;
        schema.check(&connection).map_err(|error| refused(file, error))?;
        // A first write makes the write-ahead log.
        statements::probe(&connection).map_err(backend)?;
        owned.watch(WAL).map_err(unusable_file)?;
        let readers = (0..READERS)
            .map(|_| reader(file))
            .collect::<Result<Vec<_>, _>>()
            .map_err(backend)?;
        let (writes, queue) = sync_channel(QUEUE_WRITES_MAX);
        std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || run(connection, schema, &owned, &queue))
            .map_err(|error| StorageError::Statement(format!("cannot start the writer: {error}")))?;
        Ok(Self {
            writes,
            readers: Arc::new(Mutex::new(readers)),
            reads: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Does a write in a transaction, and returns when it is durable.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (sender, receiver) = oneshot::channel();
        // A caller that went away needs no answer; what was written stands.
        let job: Job = Box::new(move |transaction| match work(transaction) {
            Ok(value) => Ok(Box::new(move |committed: Result<(), StorageError>| {
                let _gone = sender.send(committed.map(|()| value));
            })),
            Err(error) => {
                let _gone = sender.send(Err(StorageError::Statement(error.to_string())));
                Err(error)
            }
        });
        self.writes.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::Overloaded,
            TrySendError::Disconnected(_) => StorageError::NotDone,
        })?;
        receiver.await.unwrap_or(Err(StorageError::NotDone))
    }

    /// Reads beside the writer, on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StorageError> {
        let slot = Arc::clone(&self.reads).acquire_owned().await;
        let slot = slot.map_err(|_| StorageError::NotDone)?;
        let readers = Arc::clone(&self.readers);
        let read = tokio::task::spawn_blocking(move || {
            let taken = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // There are as many of them as slots.
            let connection = taken.ok_or(StorageError::Overloaded)?;
            let value = work(&connection).map_err(backend);
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(slot);
            value
        });
        read.await.unwrap_or(Err(StorageError::NotDone))
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StorageError> {
        self.read(move |connection| statements::session(connection, id)).await
    }

    async fn create(&self, session: Session, concurrency: ConcurrencyLimit) -> Result<SessionCreation, StorageError> {
        self.write(move |transaction| statements::create(transaction, &session, concurrency))
            .await
    }

    async fn end(&self, id: SessionId, ended: SessionEnd, used_until_us: i64) -> Result<bool, StorageError> {
        self.write(move |transaction| statements::end(transaction, id, &ended, used_until_us))
            .await
    }

    async fn record_uses(&self, seen: Vec<(SessionId, i64)>) -> Result<(), StorageError> {
        self.write(move |transaction| statements::record_uses(transaction, &seen))
            .await
    }

    async fn sessions(
        &self,
        filter: ListFilter,
        after: Option<SessionId>,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError> {
        self.read(move |connection| statements::sessions(connection, &filter, after, count_max))
            .await
    }

    async fn last_sessions(
        &self,
        after: Option<PrincipalId>,
        since: LiveSince,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError> {
        self.read(move |connection| statements::last_sessions(connection, after, since, count_max))
            .await
    }

    async fn counts(&self, tenants_max: u32) -> Result<SessionCounts, StorageError> {
        self.read(move |connection| statements::counts(connection, tenants_max))
            .await
    }

    async fn delete_expired(
        &self,
        seen_before_us: i64,
        revoked_before_us: i64,
        count_max: u32,
    ) -> Result<DeletedRows, StorageError> {
        self.write(move |transaction| {
            statements::delete_expired(transaction, seen_before_us, revoked_before_us, count_max)
        })
        .await
    }

    async fn restrictions(&self) -> Result<Restrictions, StorageError> {
        self.read(statements::restrictions).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), StorageError> {
        self.write(move |transaction| statements::revoke(transaction, &revocation))
            .await
    }

    async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError> {
        self.write(move |transaction| statements::set_lockdown(transaction, lockdown.as_ref()))
            .await
    }
}

#[async_trait]
impl StoreProbe for SqliteStore {
    async fn probe(&self) -> Result<(), StorageError> {
        self.write(|transaction| statements::probe(transaction)).await
    }
}

#[async_trait]
impl DeviceStore for SqliteStore {
    async fn device(&self, id: DeviceId) -> Result<Option<Device>, StorageError> {
        self.read(move |connection| devices::device(connection, id)).await
    }

    async fn device_of(&self, thumbprint: DeviceThumbprint) -> Result<Option<Device>, StorageError> {
        self.read(move |connection| devices::device_of(connection, thumbprint))
            .await
    }

    async fn devices(
        &self,
        filter: ListFilter,
        after: Option<DeviceId>,
        count_max: u32,
    ) -> Result<Vec<Device>, StorageError> {
        self.read(move |connection| devices::devices(connection, &filter, after, count_max))
            .await
    }

    async fn begin_enrollment(
        &self,
        enrollment: PendingEnrollment,
        now_us: i64,
        count_max: u32,
    ) -> Result<bool, StorageError> {
        self.write(move |transaction| devices::begin_enrollment(transaction, &enrollment, now_us, count_max))
            .await
    }

    async fn enroll(&self, new: NewDevice) -> Result<DeviceUpdate, StorageError> {
        self.write(move |transaction| devices::enroll(transaction, &new)).await
    }

    async fn set_device_state(
        &self,
        id: DeviceId,
        state: DeviceState,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        self.write(move |transaction| devices::set_state(transaction, id, state, now_us))
            .await
    }

    async fn report_posture(&self, id: DeviceId, posture: Posture) -> Result<DeviceUpdate, StorageError> {
        self.write(move |transaction| devices::report(transaction, id, &posture))
            .await
    }

    async fn add_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        self.write(move |transaction| devices::add_thumbprint(transaction, id, thumbprint, now_us))
            .await
    }

    async fn remove_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        self.write(move |transaction| devices::remove_thumbprint(transaction, id, thumbprint, now_us))
            .await
    }
}

/// SQLite's settings. FULL makes each commit in WAL mode wait for the disk; NORMAL would lose the
/// last ones with the power.
fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    disable_triggers(connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

fn reader(file: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    disable_triggers(&connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// The writer's thread: it waits for one write and takes those behind it along.
fn run(mut connection: Connection, mut schema: DatabaseSchema, file: &DatabaseFile, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        while jobs.len() < BATCH_WRITES_MAX {
            match queue.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        let mut replies = Vec::with_capacity(jobs.len());
        let committed = commit(&mut connection, &mut schema, file, jobs, &mut replies);
        for reply in replies {
            reply(committed.clone());
        }
    }
}

/// All or none: a write that fails takes those beside it along, which are told so.
fn commit(
    connection: &mut Connection,
    schema: &mut DatabaseSchema,
    file: &DatabaseFile,
    jobs: Vec<Job>,
    replies: &mut Vec<Reply>,
) -> Result<(), StorageError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(backend)?;
    for job in jobs {
        replies.push(job(&transaction).map_err(backend)?);
    }
    // Afterwards, so that whoever waits is told why nothing is committed.
    schema
        .check(&transaction)
        .map_err(|error| refused(file.path(), error))?;
    file.check().map_err(unusable_file)?;
    transaction.commit().map_err(backend)
}

fn refused(file: &Path, error: SchemaError) -> StorageError {
    match error {
        SchemaError::Sqlite(error) => backend(error),
        SchemaError::Altered(object) => StorageError::Altered {
            database: format!("database `{}`", file.display()),
            object,
        },
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of `map_err`")]
fn backend(error: rusqlite::Error) -> StorageError {
    StorageError::Statement(error.to_string())
}
