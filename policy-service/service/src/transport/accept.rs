//! Accepting connections. TLS handshakes run concurrently and never delay the next connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::TransportMetrics;
use super::caller::{Caller, CallerDirectory};
use super::connection::Connection;
use super::handshake_failure::HandshakeFailure;
use super::handshake_slots::{HandshakeSlot, HandshakeSlots};
use super::tls::TlsServer;
use tokio_rustls::server::TlsStream;

/// Concurrent connections of configured callers: two for each worker of a thousand sidecars.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// Concurrent connections of refused callers. Their calls are answered with the refusal, and they
/// use no slot of configured callers.
const REFUSED_CONNECTIONS_MAX: usize = 64;
/// A handshake on a working network takes milliseconds.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an error of `accept`, most of which mean that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait for the server to take them; it always takes them at once.
const READY_MAX: usize = 64;

/// A connection after its handshake, with its caller.
pub(crate) type IncomingConnection = Connection<TlsStream<TcpStream>, Caller>;

/// Connections whose TLS handshake is done. Accepting ends when the stream is dropped.
pub(crate) fn accept_connections(
    listener: TcpListener,
    tls: TlsServer,
    callers: CallerDirectory,
    metrics: TransportMetrics,
) -> impl Stream<Item = Result<IncomingConnection, Infallible>> {
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
    tls: TlsServer,
    callers: CallerDirectory,
    metrics: TransportMetrics,
    slots: Arc<Semaphore>,
    refused_slots: Arc<Semaphore>,
    sender: mpsc::Sender<Result<IncomingConnection, Infallible>>,
}

async fn accept(listener: TcpListener, handshake: Handshake) {
    let handshakes = HandshakeSlots::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = handshake.sender.closed() => return,
        };
        match accepted {
            Ok((stream, address)) => match handshakes.acquire(address.ip()) {
                Some(slot) => {
                    tokio::spawn(handshake.clone().run(stream, address.ip(), slot));
                }
                // Dropping the stream closes it; the client tries again.
                None => HandshakeFailure::LimitReached.record(address.ip(), &handshake.metrics),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Handshake {
    async fn run(self, stream: TcpStream, address: IpAddr, handshake_slot: HandshakeSlot) {
        // Without it, small answers wait for the other end's acknowledgement; with an error it is
        // only slower.
        let _slower = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.tls.0.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return HandshakeFailure::from(&error).record(address, &self.metrics),
            Err(_) => return HandshakeFailure::TimedOut.record(address, &self.metrics),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let caller = self.callers.identify(certificates.and_then(<[_]>::first), address);
        drop(handshake_slot);
        let slot = match &caller {
            Caller::Allowed(_, _) => match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => return HandshakeFailure::LimitReached.record(address, &self.metrics),
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
