//! The vocabulary that the sidecar and the policy service share. It is pure: no I/O, no clock and no randomness.

pub mod access;
pub mod decision;
pub mod device;
pub mod device_thumbprint;
pub mod limits;
pub mod network;
pub mod problems;
pub mod risk;
pub mod session;
pub mod spiffe;
pub mod strict_json;
pub mod thumbprint;
pub mod time;
