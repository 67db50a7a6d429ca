//! Picket's policy service: the policy decision point.
//!
//! It answers `picket.v1.PolicyDecision/Decide` over mutual TLS, evaluates Cedar policies, and writes each decision to
//! an audit log that proves it was not altered, before the answer leaves.

pub mod audit;
pub mod clock;
pub mod configuration;
pub mod policy;
