//! Storage in a PostgreSQL database, which replicas of the policy service share. `NOTIFY` tells
//! each of what the others change.

mod connection;
mod devices;
mod listener;
mod policies;
mod roles;
mod schema;
mod statements;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picket_model::device::DeviceState;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::error::{DbError, Severity, SqlState};

use connection::Connector;
pub(super) use connection::read_url;
use listener::Listener;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_state::devices::{Device, DeviceId, DeviceStore, DeviceUpdate, NewDevice, PendingEnrollment, Posture};
use picket_state::sessions::{
    ConcurrencyLimit, DeletedRows, LiveSince, Lockdown, Restrictions, Revocation, Session, SessionCounts,
    SessionCreation, SessionEnd, SessionStore,
};
use picket_state::{ChangeObserver, ListFilter, PrincipalId, SessionId, StorageError, StoreProbe};

/// Connections for reads and writes, besides the one that listens. PostgreSQL has a hundred for all
/// replicas by default.
const CONNECTIONS_MAX: usize = 8;
/// Connections for what must not wait behind requests: whether the database is well, and what
/// operators order.
const ORDER_CONNECTIONS_MAX: usize = 2;
/// Connections for lists that readers ask for: neither requests nor orders wait behind them.
const LOOK_CONNECTIONS_MAX: usize = 2;
/// A connection for what may take long, so that neither requests nor orders wait behind it.
const CLEANING_CONNECTIONS_MAX: usize = 1;
/// No operation takes this long with a database that works; a sidecar waits no longer.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);
/// Counting and forgetting walk over many rows.
const CLEANING_TIMEOUT: Duration = Duration::from_secs(30);

/// The store.
pub struct PostgresStore {
    connector: Arc<Connector>,
    idle: Mutex<Vec<Client>>,
    slots: Semaphore,
    order_slots: Semaphore,
    look_slots: Semaphore,
    cleaning_slots: Semaphore,
    listener: Arc<Listener>,
    listening: JoinHandle<()>,
}

impl PostgresStore {
    /// Connects, begins to listen, and brings the database to the current schema.
    ///
    /// # Errors
    /// The database cannot be reached, its notifications do not arrive, it is another program's, or
    /// it is of a later version.
    pub async fn connect(url: &str, ca_file: Option<&Path>, observer: ChangeObserver) -> Result<Self, StorageError> {
        let connector = Arc::new(Connector::new(url, ca_file)?);
        let client = connector.connect().await?;
        let listener = Arc::new(Listener::new());
        let store = Self {
            listening: tokio::spawn(Arc::clone(&listener).run(Arc::clone(&connector), observer)),
            listener,
            connector,
            idle: Mutex::new(vec![client]),
            slots: Semaphore::new(CONNECTIONS_MAX),
            order_slots: Semaphore::new(ORDER_CONNECTIONS_MAX),
            look_slots: Semaphore::new(LOOK_CONNECTIONS_MAX),
            cleaning_slots: Semaphore::new(CLEANING_CONNECTIONS_MAX),
        };
        // First, as a connection pooler that keeps them back also mixes up the statements of its
        // clients.
        store
            .listener
            .probe(async |probe| {
                store
                    .order(async |client| statements::notify(client, probe).await)
                    .await
            })
            .await?;
        store.order(async |client| schema::migrate(client).await).await?;
        Ok(store)
    }

    /// Does something for a request.
    async fn run<T>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.run_in(&self.slots, OPERATION_TIMEOUT, work).await
    }

    /// Does something that must not wait behind requests.
    async fn order<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.run_in(&self.order_slots, OPERATION_TIMEOUT, work).await
    }

    /// Reads what somebody wants to look at.
    async fn look<T>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.run_in(&self.look_slots, OPERATION_TIMEOUT, work).await
    }

    /// Does something that may take long.
    async fn clean<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.run_in(&self.cleaning_slots, CLEANING_TIMEOUT, work).await
    }

    /// Does something on a connection of its own. One that failed or was late is closed: nobody
    /// knows what it is doing. One on which the server has refused a statement is as good as
    /// before.
    async fn run_in<T>(
        &self,
        slots: &Semaphore,
        timeout: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        within(timeout, async {
            let _slot = slots.acquire().await.map_err(|_| StorageError::NotDone)?;
            let mut client = match self.take_idle() {
                Some(client) => client,
                None => self.connector.connect().await?,
            };
            let value = work(&mut client).await;
            if matches!(value, Ok(_) | Err(StorageError::Statement(_))) {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
            }
            value
        })
        .await
    }

    fn take_idle(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|client| !client.is_closed());
        idle.pop()
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn session(&self, id: SessionId) -> Result<Option<Session>, StorageError> {
        self.run(async |client| statements::session(client, id).await).await
    }

    async fn create(&self, session: Session, concurrency: ConcurrencyLimit) -> Result<SessionCreation, StorageError> {
        self.run(async |client| statements::create(client, &session, concurrency).await)
            .await
    }

    async fn end(&self, id: SessionId, ended: SessionEnd, used_until_us: i64) -> Result<bool, StorageError> {
        let end = async |client: &mut Client| statements::end(client, id, &ended, used_until_us).await;
        match ended.caller {
            Some(_) => self.order(end).await,
            None => self.run(end).await,
        }
    }

    async fn record_uses(&self, seen: Vec<(SessionId, i64)>) -> Result<(), StorageError> {
        self.run(async |client| statements::record_uses(client, &seen).await)
            .await
    }

    async fn sessions(
        &self,
        filter: ListFilter,
        after: Option<SessionId>,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError> {
        self.look(async |client| statements::sessions(client, &filter, after, count_max).await)
            .await
    }

    async fn last_sessions(
        &self,
        after: Option<PrincipalId>,
        since: LiveSince,
        count_max: u32,
    ) -> Result<Vec<Session>, StorageError> {
        self.look(async |client| statements::last_sessions(client, after, since, count_max).await)
            .await
    }

    async fn counts(&self, tenants_max: u32) -> Result<SessionCounts, StorageError> {
        self.clean(async |client| statements::counts(client, tenants_max).await)
            .await
    }

    async fn delete_expired(
        &self,
        seen_before_us: i64,
        revoked_before_us: i64,
        count_max: u32,
    ) -> Result<DeletedRows, StorageError> {
        self.clean(async |client| {
            statements::delete_expired(client, seen_before_us, revoked_before_us, count_max).await
        })
        .await
    }

    async fn restrictions(&self) -> Result<Restrictions, StorageError> {
        self.order(async |client| statements::restrictions(client).await).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), StorageError> {
        self.order(async |client| statements::revoke(client, &revocation).await)
            .await
    }

    async fn set_lockdown(&self, lockdown: Option<Lockdown>) -> Result<bool, StorageError> {
        self.order(async |client| statements::set_lockdown(client, lockdown.as_ref()).await)
            .await
    }
}

#[async_trait]
impl StoreProbe for PostgresStore {
    async fn probe(&self) -> Result<(), StorageError> {
        self.listener
            .probe(async |probe| self.order(async |client| statements::probe(client, probe).await).await)
            .await
    }
}

#[async_trait]
impl DeviceStore for PostgresStore {
    async fn device(&self, id: DeviceId) -> Result<Option<Device>, StorageError> {
        self.look(async |client| devices::device(client, id).await).await
    }

    async fn device_of(&self, thumbprint: DeviceThumbprint) -> Result<Option<Device>, StorageError> {
        self.run(async |client| devices::device_of(client, thumbprint).await)
            .await
    }

    async fn devices(
        &self,
        filter: ListFilter,
        after: Option<DeviceId>,
        count_max: u32,
    ) -> Result<Vec<Device>, StorageError> {
        self.look(async |client| devices::devices(client, &filter, after, count_max).await)
            .await
    }

    async fn begin_enrollment(
        &self,
        enrollment: PendingEnrollment,
        now_us: i64,
        count_max: u32,
    ) -> Result<bool, StorageError> {
        self.run(async |client| devices::begin_enrollment(client, &enrollment, now_us, count_max).await)
            .await
    }

    async fn enroll(&self, new: NewDevice) -> Result<DeviceUpdate, StorageError> {
        self.run(async |client| devices::enroll(client, &new).await).await
    }

    async fn set_device_state(
        &self,
        id: DeviceId,
        state: DeviceState,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        self.order(async |client| devices::set_state(client, id, state, now_us).await)
            .await
    }

    async fn report_posture(&self, id: DeviceId, posture: Posture) -> Result<DeviceUpdate, StorageError> {
        self.run(async |client| devices::report(client, id, &posture).await)
            .await
    }

    async fn add_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        self.order(async |client| devices::add_thumbprint(client, id, thumbprint, now_us).await)
            .await
    }

    async fn remove_thumbprint(
        &self,
        id: DeviceId,
        thumbprint: DeviceThumbprint,
        now_us: i64,
    ) -> Result<DeviceUpdate, StorageError> {
        self.order(async |client| devices::remove_thumbprint(client, id, thumbprint, now_us).await)
            .await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
    within(OPERATION_TIMEOUT, work).await
}

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or(Err(StorageError::TimedOut))
}

/// PostgreSQL's error with its causes: what it says itself is no more than `db error`.
#[expect(clippy::needless_pass_by_value, reason = "it is the argument of `map_err`")]
fn backend(error: tokio_postgres::Error) -> StorageError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    match error.as_db_error() {
        Some(said) if is_about_the_statement(said) => StorageError::Statement(text),
        Some(_) | None => StorageError::Connection(text),
    }
}

/// Whether the connection can be used after it. Where the server takes no writes, another one may:
/// a new connection finds it.
fn is_about_the_statement(said: &DbError) -> bool {
    said.parsed_severity() == Some(Severity::Error) && *said.code() != SqlState::READ_ONLY_SQL_TRANSACTION
}
