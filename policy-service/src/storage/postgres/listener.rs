//! The connection that listens to what other replicas change, made anew whenever it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::Client;

use super::connection::Connector;
use super::{StorageError, backend, in_time};
use crate::sessions::SessionId;
use crate::storage::{Change, Observer};

/// The channel of `LISTEN` and `NOTIFY`; every replica of one database is on it.
const LISTEN: &str = "LISTEN picket_storage";
/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// The listening connection. INVARIANT: while it is there, every change since the observer was last told `Anything` is told.
#[derive(Default)]
pub(super) struct Listener {
    client: Mutex<Option<Arc<Client>>>,
    /// Told when the connection does not answer.
    silent: Notify,
}

impl Listener {
    pub(super) async fn run(self: Arc<Self>, connector: Arc<Connector>, observer: Observer) {
        loop {
            if let Err(error) = self.listen(&connector, &observer).await {
                tracing::debug!(%error, "the storage is not listened to");
            }
            self.set(None);
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Returns when the connection has ended.
    async fn listen(&self, connector: &Connector, observer: &Observer) -> Result<(), StorageError> {
        let hearer = Arc::clone(observer);
        let (client, mut ended) = in_time(connector.connect_hearing(move |payload| hearer(change(payload)))).await?;
        in_time(async { client.batch_execute(LISTEN).await.map_err(backend) }).await?;
        // Nobody knows what happened before; afterwards the connection may be asked whether it is well.
        observer(Change::Anything);
        self.set(Some(Arc::new(client)));
        tokio::select! {
            // An error means that it ended in another way, and it has ended either way.
            _ended = &mut ended => {}
            () = self.silent.notified() => ended.abort(),
        }
        Ok(())
    }

    fn set(&self, client: Option<Arc<Client>>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Fails where the connection is gone. The server sends what it has to tell before it answers.
    pub(super) async fn probe(&self) -> Result<(), StorageError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = client.ok_or_else(|| StorageError::Connection("none listens to the database".to_owned()))?;
        let answered = in_time(async { client.batch_execute("SELECT 1").await.map_err(backend) }).await;
        if answered.is_err() {
            // Another connection may be heard where this one is not.
            self.silent.notify_waiters();
        }
        answered
    }
}

/// What a notification says; one that is not understood could mean anything.
fn change(payload: &str) -> Change {
    match payload.split_once(' ') {
        Some(("session", id)) => id.parse::<SessionId>().map_or(Change::Anything, Change::Session),
        Some(("device", thumbprint)) => thumbprint.parse().map_or(Change::Anything, Change::Device),
        None if payload == "standing" => Change::Standing,
        None if payload == "policies" => Change::Policies,
        None if payload == "roles" => Change::Roles,
        Some(_) | None => Change::Anything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Thumbprint;
    use crate::sessions::NamedBy;

    #[test]
    fn what_is_not_understood_could_mean_anything() {
        let id = SessionId::of("https://issuer.example", NamedBy::SessionId, "1");
        assert_eq!(change(&format!("session {id}")), Change::Session(id));
        assert_eq!(change("standing"), Change::Standing);
        assert_eq!(change("policies"), Change::Policies);
        assert_eq!(change("roles"), Change::Roles);
        let thumbprint = Thumbprint::Key([7; 32]);
        assert_eq!(change(&format!("device {thumbprint}")), Change::Device(thumbprint));
        for payload in ["", "session", "session 00", "standing now", "device 00"] {
            assert_eq!(change(payload), Change::Anything, "{payload}");
        }
    }
}
