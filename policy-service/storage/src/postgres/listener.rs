//! The connection that listens to what other replicas change, made anew whenever it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use picket_state::{Change, ChangeObserver, SessionId, StorageError};
use tokio::sync::{Notify, watch};
use tokio_postgres::{Client, Notification};
use uuid::Uuid;

use super::connection::Connector;
use super::{backend, in_time, within};

/// The channel of `LISTEN` and `NOTIFY`; every replica of one database is on it.
const CHANNEL: &str = "picket_storage";
/// Between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long a notification may take. PostgreSQL sends it as soon as it is committed.
const HEARING_TIMEOUT: Duration = Duration::from_secs(2);

/// The listening connection. INVARIANT: while it is there, every change since the observer was last
/// told `Anything` is told.
///
/// That it is there proves nothing: a connection pooler in transaction mode answers on it, and
/// drops what its server connections hear. So a probe has another connection notify this replica,
/// and waits until the listening one has heard it.
pub(super) struct Listener {
    client: watch::Sender<Option<Arc<Client>>>,
    /// The channel of this replica alone, for probes.
    probe_channel: String,
    probes: AtomicU64,
    /// The last probe that was heard.
    heard: watch::Sender<u64>,
    /// Told when the connection does not answer.
    silent: Notify,
}

/// A notification to send on another connection.
pub(super) struct Probe<'a> {
    pub(super) channel: &'a str,
    pub(super) number: u64,
}

impl Listener {
    pub(super) fn new() -> Self {
        Self {
            client: watch::Sender::new(None),
            probe_channel: format!("picket_probe_{}", Uuid::now_v7().simple()),
            probes: AtomicU64::new(0),
            heard: watch::Sender::new(0),
            silent: Notify::new(),
        }
    }

    pub(super) async fn run(self: Arc<Self>, connector: Arc<Connector>, observer: ChangeObserver) {
        loop {
            if let Err(error) = self.listen(&connector, &observer).await {
                tracing::debug!(%error, "the storage is not listened to");
            }
            self.client.send_replace(None);
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Returns when the connection has ended.
    async fn listen(self: &Arc<Self>, connector: &Connector, observer: &ChangeObserver) -> Result<(), StorageError> {
        let (listener, hearer) = (Arc::clone(self), Arc::clone(observer));
        let hear = move |notification: &Notification| listener.hear(notification, &hearer);
        let (client, mut ended) = in_time(connector.connect_hearing(hear)).await?;
        let listen = format!("LISTEN {CHANNEL}; LISTEN {}", self.probe_channel);
        in_time(async { client.batch_execute(&listen).await.map_err(backend) }).await?;
        // Nobody knows what happened before; afterwards the connection may be asked whether it is
        // well.
        observer(Change::Anything);
        self.client.send_replace(Some(Arc::new(client)));
        tokio::select! {
            // An error means that it ended in another way, and it has ended either way.
            _ended = &mut ended => {}
            () = self.silent.notified() => ended.abort(),
        }
        Ok(())
    }

    fn hear(&self, notification: &Notification, observer: &ChangeObserver) {
        if notification.channel() != self.probe_channel {
            return observer(change(notification.payload()));
        }
        if let Ok(number) = notification.payload().parse() {
            self.heard.send_replace(number);
        }
    }

    /// The listening connection, once it is there.
    pub(super) async fn connected(&self) -> Result<Arc<Client>, StorageError> {
        let mut client = self.client.subscribe();
        let connected = async {
            let client = client.wait_for(|client| client.as_ref().is_some_and(|client| !client.is_closed()));
            client
                .await
                .ok()
                .and_then(|client| client.clone())
                .ok_or_else(none_listens)
        };
        in_time(connected).await.map_err(|_late| none_listens())
    }

    /// Fails where nothing is heard any more. `notify` sends a notification on another connection.
    /// The server sends notifications in the order of their commits, so everything that was
    /// committed before has been told when it is heard.
    pub(super) async fn probe(
        &self,
        notify: impl AsyncFnOnce(Probe<'_>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let client = self.connected().await?;
        let number = self.probes.fetch_add(1, Ordering::Relaxed) + 1;
        let channel = &self.probe_channel;
        notify(Probe { channel, number }).await?;
        let mut heard = self.heard.subscribe();
        let hearing = async {
            // The sender is a field of this.
            let _sender = heard.wait_for(|heard| *heard >= number).await;
            Ok(())
        };
        within(HEARING_TIMEOUT, hearing).await.map_err(|_late| {
            self.give_up(&client);
            StorageError::Unheard
        })
    }

    /// Another connection may be heard where this one is not. One that has taken its place
    /// meanwhile has not been asked yet.
    fn give_up(&self, deaf: &Arc<Client>) {
        let given_up = self
            .client
            .send_if_modified(|client| client.take_if(|client| Arc::ptr_eq(client, deaf)).is_some());
        if given_up {
            self.silent.notify_waiters();
        }
    }
}

fn none_listens() -> StorageError {
    StorageError::Connection("none listens to the database".to_owned())
}

/// What a notification says; one that is not understood could mean anything.
fn change(payload: &str) -> Change {
    match payload.split_once(' ') {
        Some(("session", id)) => id.parse::<SessionId>().map_or(Change::Anything, Change::Session),
        Some(("device", thumbprint)) => thumbprint.parse().map_or(Change::Anything, Change::Device),
        None if payload == "standing" => Change::Restrictions,
        None if payload == "policies" => Change::Policies,
        None if payload == "roles" => Change::Roles,
        Some(_) | None => Change::Anything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_model::device_thumbprint::DeviceThumbprint;
    use picket_state::NamedBy;

    #[test]
    fn what_is_not_understood_could_mean_anything() {
        let id = SessionId::of("https://issuer.example", NamedBy::SessionId, "1");
        assert_eq!(change(&format!("session {id}")), Change::Session(id));
        assert_eq!(change("standing"), Change::Restrictions);
        assert_eq!(change("policies"), Change::Policies);
        assert_eq!(change("roles"), Change::Roles);
        let thumbprint = DeviceThumbprint::Key([7; 32]);
        assert_eq!(change(&format!("device {thumbprint}")), Change::Device(thumbprint));
        for payload in ["", "session", "session 00", "standing now", "device 00"] {
            assert_eq!(change(payload), Change::Anything, "{payload}");
        }
    }
}
