//! Connections of callers: TLS 1.3 with a client certificate, the caller's identity and roles, and
//! limits on connections, handshakes and concurrent calls. The gRPC and AuthZEN fronts serve what
//! this module accepts.

mod accept;
mod admission;
mod caller;
mod connection;
mod handshake_failure;
mod handshake_slots;
mod metrics;
mod tls;

pub(crate) use accept::{CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, IncomingConnection, accept_connections};
pub(crate) use admission::{AdmissionControl, AdmissionError, AdmittedCall};
pub(crate) use caller::{Caller, CallerDirectory, CallerRefusal};
pub(crate) use handshake_slots::{HANDSHAKES_MAX, HANDSHAKES_OF_ADDRESS_MAX};
pub(crate) use metrics::TransportMetrics;
pub use tls::TlsError;
pub(crate) use tls::{ApplicationProtocol, TlsServer, certificate_authorities, crypto_provider};

/// Creates every series of the metrics, for the reference.
#[cfg(feature = "schema")]
pub(crate) fn create_series(metrics: &TransportMetrics) {
    for refusal in CallerRefusal::ALL {
        metrics.count_refused_caller(refusal.as_str());
    }
    for cause in handshake_failure::HandshakeFailure::CAUSES {
        metrics.count_failed_handshake(cause);
    }
}
