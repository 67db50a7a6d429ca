//! The wire contract `picket.v1`, and its conversions to and from `picket-core`.
//!
//! Whatever arrives is parsed into core's types before anything looks at it: a missing field is an error that names it.

mod convert;

pub use convert::WireError;

/// The messages of `picket.v1`, as generated from `proto/picket/v1`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the .proto files are its documentation"
)]
#[cfg_attr(
    any(feature = "client", feature = "server"),
    expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "tonic's generated modules carry `allow`s"
    )
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/picket.v1.rs"));
}

/// The part of Envoy's API v3 by which it asks for external authorization, nested as its packages are.
#[cfg(feature = "ext-authz")]
#[expect(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the .proto files are its documentation"
)]
#[cfg_attr(
    any(feature = "client", feature = "server"),
    expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "tonic's generated modules carry `allow`s"
    )
)]
pub mod external {
    include!(concat!(env!("OUT_DIR"), "/envoy_modules.rs"));
}

/// The gRPC service that answers access requests, as named in the contract.
pub const DECISION_SERVICE: &str = "picket.v1.PolicyDecision";
/// Its method.
pub const DECIDE_METHOD: &str = "Decide";
/// The gRPC service for operators.
pub const ADMIN_SERVICE: &str = "picket.v1.Admin";
