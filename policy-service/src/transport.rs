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

pub(crate) use accept::{IncomingConnection, accept_connections};
pub(crate) use admission::{AdmissionControl, AdmissionError, AdmittedCall};
pub(crate) use caller::{Caller, CallerDirectory, CallerRefusal};
pub(crate) use metrics::TransportMetrics;
pub use tls::TlsError;
pub(crate) use tls::{ApplicationProtocol, TlsServer, certificate_authorities, crypto_provider};
