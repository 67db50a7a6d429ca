//! The rate limit of reports, for each reporter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Sustained rate. Each call is a record of the audit log.
const REPORTS_PER_S: u64 = 500;
/// Burst after a pause.
const REPORTS_BURST_MAX: u64 = 2_000;
const US_PER_S: u64 = 1_000_000;

/// A token bucket for each reporter, by its SPIFFE ID; the configuration bounds how many there are.
#[derive(Default)]
pub(crate) struct ReportLimits(Mutex<BTreeMap<String, TokenBucket>>);

impl ReportLimits {
    /// Whether the caller may make this many reports now. All of them count, or none.
    pub(crate) fn try_acquire(&self, caller: &str, reports: usize, now_us: u64) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets
            .entry(caller.to_owned())
            .or_default()
            .try_acquire(reports, now_us)
    }
}

/// The reports that one reporter may still make.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    /// In millionths of a report, so that no moment is lost by rounding.
    tokens: u64,
    at_us: u64,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self {
            tokens: REPORTS_BURST_MAX * US_PER_S,
            at_us: 0,
        }
    }
}

impl TokenBucket {
    fn try_acquire(&mut self, reports: usize, now_us: u64) -> bool {
        // A clock that was put back gives nothing, and takes nothing.
        let since_us = now_us.saturating_sub(self.at_us);
        self.at_us = now_us;
        let earned = since_us.saturating_mul(REPORTS_PER_S);
        self.tokens = self.tokens.saturating_add(earned).min(REPORTS_BURST_MAX * US_PER_S);
        let cost = u64::try_from(reports).unwrap_or(u64::MAX).saturating_mul(US_PER_S);
        match self.tokens.checked_sub(cost) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reporter_may_tell_much_at_once_and_then_so_much_a_second() {
        let now_us = 1_700_000_000 * US_PER_S;
        let mut bucket = TokenBucket::default();
        for _ in 0..20 {
            assert!(bucket.try_acquire(100, now_us));
        }
        assert!(!bucket.try_acquire(1, now_us));
        assert!(!bucket.try_acquire(1, now_us + 1_999));
        assert!(bucket.try_acquire(1, now_us + 2_000));
        assert!(!bucket.try_acquire(100, now_us + 2_000));
        // What was refused has cost nothing.
        assert!(bucket.try_acquire(100, now_us + 202_000));
        // However long it was silent.
        let later_us = now_us + 1_000 * US_PER_S;
        for _ in 0..20 {
            assert!(bucket.try_acquire(100, later_us));
        }
        assert!(!bucket.try_acquire(1, later_us));
        assert!(!bucket.try_acquire(1, now_us), "a clock that was put back");
    }
}
