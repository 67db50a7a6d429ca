//! A rate limit for log lines that clients can cause at will: few are written, and the others are
//! counted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;

/// So many lines of a kind are written in [`PERIOD`].
const LINES_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// The limit of one kind of line.
pub(crate) struct LogRateLimit(Mutex<Period>);

struct Period {
    /// On the machine's clock.
    began: Duration,
    lines: u32,
    left_out: u64,
}

impl LogRateLimit {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Period {
            began: Duration::ZERO,
            lines: 0,
            left_out: 0,
        }))
    }

    /// Permits one line, with the number of lines left out before it. `None`: the line is left out.
    pub(crate) fn acquire(&self) -> Option<u64> {
        self.acquire_at(Duration::from_micros(clock::now().as_us()))
    }

    fn acquire_at(&self, now: Duration) -> Option<u64> {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Also where the clock was set back.
        if !(period.began..period.began + PERIOD).contains(&now) {
            period.began = now;
            period.lines = 0;
        }
        if period.lines >= LINES_MAX {
            period.left_out = period.left_out.saturating_add(1);
            return None;
        }
        period.lines += 1;
        Some(std::mem::take(&mut period.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_lines_are_written_in_a_period_and_the_others_are_counted() {
        let limit = LogRateLimit::new();
        let start = Duration::from_secs(1_000);
        for _ in 0..LINES_MAX {
            assert_eq!(limit.acquire_at(start), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(limit.acquire_at(start + PERIOD - Duration::from_micros(1)), None);
        }
        assert_eq!(limit.acquire_at(start + PERIOD), Some(3));
        assert_eq!(limit.acquire_at(start + PERIOD), Some(0));
        assert_eq!(limit.acquire_at(Duration::ZERO), Some(0), "the clock was set back");
    }
}
