//! Devices: by what they are known, whose they are, and how far they can be trusted.
//!
//! A device is known by what the sender of a request has proved to hold, and by nothing that a client merely says.

mod model;
mod rules;
mod seen;

pub use model::{
    Device, DeviceId, DeviceState, NotAThumbprint, OsName, OsVersion, Posture, THUMBPRINTS_MAX, Thumbprint,
};
pub use rules::{Cause, Compliance, Part, Requirement, TRUST_SCORE_MAX, Trust, Weights, trust};
pub use seen::SeenDevice;
