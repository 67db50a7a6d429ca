//! The front for Envoy's external authorization (`envoy.service.auth.v3`): for a mesh without Wasm.
//!
//! What decides about a request here is what decides in the filter: `core`'s enforcer, with the filter's own configuration.
//! Envoy tells what the filter would read of it, and does what the filter would do.

mod enforcement;
mod metrics;
mod peers;
mod request;
mod response;
mod signatures;

pub use enforcement::StartError;
pub(crate) use enforcement::{CheckError, Enforcement};
pub(crate) use metrics::ExtAuthzMetrics;
