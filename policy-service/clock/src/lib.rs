//! The clock of the policy service. No other crate of it reads the time: rules are given it as a
//! parameter.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use picket_model::time::Timestamp;

/// Microseconds since the epoch; 0 where the machine's clock stands before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now_unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The time now.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_us(now_unix_us())
}

/// Measures how long something takes, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since the start in whole microseconds.
    #[must_use]
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
