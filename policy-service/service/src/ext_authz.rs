//! The front for Envoy's external authorization (`envoy.service.auth.v3`): for a mesh without Wasm.
//!
//! It decides nothing itself. `core`'s enforcer runs here with the filter's own configuration, as
//! it does in the filter: Envoy sends what the filter would read of a request, and does what the
//! filter would do.

mod enforcement;
mod metrics;
mod peers;
mod request;
mod response;
mod signatures;

pub use enforcement::ExtAuthzError;
pub(crate) use enforcement::{CHECKS_MAX, CheckError, Enforcement};
pub(crate) use metrics::ExtAuthzMetrics;
