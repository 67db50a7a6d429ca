//! Accepting connections. Handshakes run beside each other and never hold up the next connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::caller::{Caller, Callers};
use super::handshake_failure::HandshakeFailure;
use super::handshakes::{Handshakes, Place};
use super::tls::Tls;
use crate::connection::Connection;
use crate::metrics::Metrics;

/// Connections at once of callers that may ask: two for each worker of a thousand sidecars.
const CONNECTIONS_MAX: usize = 4096;
/// Connections at once of callers that may not ask. They are told so, and cannot take the place of those that may.
const REFUSED_CONNECTIONS_MAX: usize = 64;
/// A handshake on a working network takes milliseconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an error of `accept`, most of which mean that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait for the server to take them; it always takes them at once.
const READY_MAX: usize = 64;

/// What is served: a connection, and who is at its other end.
pub(crate) type Incoming = Connection<TlsStream<TcpStream>, Caller>;

/// Connections whose TLS handshake is done. Accepting ends when the stream is dropped.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Tls,
    callers: Callers,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = Result<Incoming, Infallible>> {
    let (sender, receiver) = mpsc::channel(READY_MAX);
    let handshake = Handshake {
        tls,
        callers,
        metrics,
        slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        refused_slots: Arc::new(Semaphore::new(REFUSED_CONNECTIONS_MAX)),
        sender,
    };
    tokio::spawn(accept(listener, handshake));
    ReceiverStream::new(receiver)
}

#[derive(Clone)]
struct Handshake {
    tls: Tls,
    callers: Callers,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
    refused_slots: Arc<Semaphore>,
    sender: mpsc::Sender<Result<Incoming, Infallible>>,
}

async fn accept(listener: TcpListener, handshake: Handshake) {
    let handshakes = Handshakes::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = handshake.sender.closed() => return,
        };
        match accepted {
            Ok((stream, address)) => match handshakes.begin(address.ip()) {
                Some(place) => {
                    tokio::spawn(handshake.clone().run(stream, address.ip(), place));
                }
                // Dropping the stream closes it; the client tries again.
                None => HandshakeFailure::NoPlace.record(address.ip(), &handshake.metrics),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Handshake {
    async fn run(self, stream: TcpStream, address: IpAddr, place: Place) {
        // Without it, small answers wait for the other end's acknowledgement; with an error it is only slower.
        let _slower = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.tls.0.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return HandshakeFailure::from(&error).record(address, &self.metrics),
            Err(_) => return HandshakeFailure::TimedOut.record(address, &self.metrics),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let caller = self.callers.identify(certificates.and_then(<[_]>::first), address);
        drop(place);
        let slot = match &caller {
            Caller::Allowed(_, _) => match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => return HandshakeFailure::NoPlace.record(address, &self.metrics),
            },
            Caller::Refused(refused) => match Arc::clone(&self.refused_slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => return refused.record(&self.metrics),
            },
        };
        // An error means that the server stops.
        let _stopping = self.sender.send(Ok(Connection::new(stream, caller, slot))).await;
    }
}
