//! One suite for storage, run on each back end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests: helpers outside #[test] functions fail loudly, and wait on the real clock"
)]

mod cases;
mod devices;
mod discarded;
mod outages;
mod pgbouncer;
mod policies;
mod pooler;
mod postgres;
mod roles;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picket_state::StorageLocation;
use picket_state::Store;

/// Opens a store of its own for each case, or the same one again.
pub(crate) trait Backend {
    /// Where a store is that nobody has used.
    async fn fresh(&self) -> StorageLocation;
}

struct Sqlite(tempfile::TempDir);

struct Postgres {
    server: postgres::Server,
    folder: tempfile::TempDir,
}

impl Backend for Sqlite {
    async fn fresh(&self) -> StorageLocation {
        let file = tempfile::Builder::new().tempfile_in(self.0.path()).unwrap();
        let file = file.into_temp_path().keep().unwrap();
        StorageLocation::Sqlite { file }
    }
}

impl Backend for Postgres {
    async fn fresh(&self) -> StorageLocation {
        let url = self.server.database().await;
        postgres_at(self.folder.path(), &url)
    }
}

pub(crate) fn postgres_at(folder: &Path, url: &str) -> StorageLocation {
    let file = tempfile::Builder::new().tempfile_in(folder).unwrap();
    let url_file = file.into_temp_path().keep().unwrap();
    std::fs::write(&url_file, format!("{url}\n")).unwrap();
    StorageLocation::Postgres {
        url_file,
        ca_file: None,
    }
}

pub(crate) async fn open(location: &StorageLocation) -> Arc<dyn Store> {
    picket_storage::open(location, Arc::new(|_| ())).await.unwrap()
}

/// Opens a store that was dropped: a file's lock is given back when the writer has ended, a moment later.
pub(crate) async fn reopen(location: &StorageLocation) -> Arc<dyn Store> {
    for _ in 0..500 {
        match picket_storage::open(location, Arc::new(|_| ())).await {
            Ok(store) => return store,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    open(location).await
}

/// Returns when a store is confirmed; one that has just been opened may still be connecting.
pub(crate) async fn confirm(store: &dyn Store) {
    let mut last = Ok(());
    for _ in 0..500 {
        last = store.probe().await;
        if last.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    last.unwrap();
}

#[tokio::test]
async fn every_case_holds_in_sqlite() {
    let backend = Sqlite(tempfile::tempdir().unwrap());
    cases::run(&backend).await;
    devices::run(&backend).await;
    policies::run(&backend).await;
    roles::run(&backend).await;
    roles::the_limit_holds_in_sqlite(&backend.fresh().await).await;
    schema::sqlite_refuses_what_is_not_its_own(&backend.fresh().await, backend.0.path()).await;
    discarded::sqlite_acknowledges_nothing_that_the_database_discards(&backend).await;
    discarded::a_write_ahead_log_that_is_taken_away_ends_the_writes(&backend.fresh().await).await;
}

#[tokio::test]
async fn every_case_holds_in_postgresql() {
    let backend = Postgres {
        server: postgres::Server::start(),
        folder: tempfile::tempdir().unwrap(),
    };
    cases::run(&backend).await;
    devices::run(&backend).await;
    policies::run(&backend).await;
    roles::run(&backend).await;
    schema::postgres_refuses_what_is_not_its_own(&backend.server, backend.folder.path()).await;
    schema::replicas_that_start_together_make_one_schema(&backend.server, backend.folder.path()).await;
    schema::changes_are_told(&backend.server, backend.folder.path()).await;
    policies::changes_are_told(&backend.server, backend.folder.path()).await;
    roles::changes_are_told(&backend.server, backend.folder.path()).await;
    roles::the_limit_holds_in_postgresql(&backend.server, backend.folder.path()).await;
    devices::changes_of_devices_are_told(&backend.server, backend.folder.path()).await;
    outages::a_statement_that_is_refused_costs_no_connection(&backend.server, backend.folder.path()).await;
    outages::a_new_session_costs_the_same_however_many_have_ended(&backend.server, backend.folder.path()).await;
    outages::a_connection_that_says_nothing_is_made_anew(&backend.server, backend.folder.path()).await;
    discarded::postgres_acknowledges_nothing_that_the_database_discards(&backend.server, backend.folder.path()).await;
    discarded::postgres_leaves_alone_what_is_none_of_its_tables(&backend.server, backend.folder.path()).await;
    discarded::postgres_takes_nothing_that_another_replica_did_for_discarded(&backend.server, backend.folder.path())
        .await;
    discarded::postgres_refuses_what_could_discard(&backend.server, backend.folder.path()).await;
    // Last, as it is about all databases of the server.
    outages::where_nothing_can_be_written_nothing_is_confirmed(&backend.server, backend.folder.path()).await;
}

/// What the PostgreSQL that is fetched cannot do. `make test-storage` runs these.
mod installed {
    use super::{outages, pooler, postgres};

    #[tokio::test]
    async fn postgresql_is_spoken_to_over_tls() {
        outages::tls_is_spoken_and_the_server_is_who_it_says(tempfile::tempdir().unwrap().path()).await;
    }

    #[tokio::test]
    async fn pgbouncer_that_keeps_notifications_back_is_refused() {
        let server = postgres::Server::start();
        let folder = tempfile::tempdir().unwrap();
        pooler::a_pooler_that_keeps_notifications_back_is_refused(&server, folder.path()).await;
    }
}
