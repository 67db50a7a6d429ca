//! Picket end to end: everything that is needed to try the parts together, around a real Envoy.
//!
//! [`stack::Stack`] starts all of it on ports that the system gives out, each stack in a folder of its own, and ends it when it is
//! dropped. [`client`] speaks to it: as a workload with a certificate, as the application behind the caller's sidecar, or
//! with bytes that no client library would send. [`exchange`] is a request and what is expected of it, as data.

pub mod attack;
#[cfg(feature = "bench")]
pub mod bench;
pub mod client;
pub mod clock;
pub mod dpop;
pub mod envoy;
pub mod exchange;
pub mod external;
pub mod fake_policy_service;
pub mod forge;
#[cfg(feature = "bench")]
pub mod instructions;
pub mod introspection;
pub mod issuer;
pub mod keys;
pub mod mutation;
pub mod places;
pub mod policy_service;
pub mod process;
pub mod proof;
pub mod render;
pub mod report;
pub mod running;
pub mod scenario;
pub mod session;
pub mod stack;
pub mod token;
pub mod upstream;
pub mod vectors;
pub mod wait;
