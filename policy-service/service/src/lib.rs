//! Picket's policy service: the policy decision point.
//!
//! It answers `picket.v1.PolicyDecision/Decide`, and where they are configured
//! `envoy.service.auth.v3.Authorization/Check` and the OpenID AuthZEN Authorization API, over
//! mutual TLS, evaluates Cedar policies, and writes each decision to an audit log that proves it
//! was not altered, before the answer leaves.

mod administration;
mod assessor;
mod authzen;
mod decision;
mod ext_authz;
mod grpc;
mod http;
pub mod limits;
mod log_rate_limit;
mod logging;
pub mod metrics;
pub mod service;
mod transport;

pub use picket_clock as clock;

pub use assessor::{GeoipError, RiskError, ThreatListError};
pub use ext_authz::ExtAuthzError;
pub use logging::LoggingError;
pub use transport::TlsError;
