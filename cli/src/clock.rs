//! The one place of this crate that reads the clock; everything else takes the time as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module of this crate")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time as whole seconds since 1970, as tokens carry it (RFC 7519 §2, NumericDate); 0 for a time before that.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since_epoch| since_epoch.as_secs())
}
