//! The rate limit of reports, for each reporter.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use picket_model::time::Timestamp;

/// Sustained rate. Each call is a record of the audit log.
const REPORTS_PER_S: u64 = 500;
/// Burst after a pause.
const REPORTS_BURST_MAX: u64 = 2_000;
/// A report costs this many parts of a bucket, so that each microsecond earns whole parts.
const PARTS_PER_TOKEN: u64 = 1_000_000;

/// A token bucket for each reporter, by its SPIFFE ID; the configuration bounds how many there are.
#[derive(Default)]
pub(crate) struct ReportLimits(Mutex<BTreeMap<String, TokenBucket>>);

impl ReportLimits {
    /// Whether the caller may make this many reports now. All of them count, or none.
    pub(crate) fn try_acquire(&self, caller: &str, reports: usize, now: Timestamp) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(caller.to_owned()).or_default().try_acquire(reports, now)
    }
}

/// The reports that one reporter may still make.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    /// In parts.
    tokens: u64,
    refilled: Timestamp,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self {
            tokens: REPORTS_BURST_MAX * PARTS_PER_TOKEN,
            refilled: Timestamp::EPOCH,
        }
    }
}

impl TokenBucket {
    fn try_acquire(&mut self, reports: usize, now: Timestamp) -> bool {
        // A clock that was put back gives nothing, and takes nothing.
        let earned = now.us_since(self.refilled).saturating_mul(REPORTS_PER_S);
        self.refilled = now;
        self.tokens = self
            .tokens
            .saturating_add(earned)
            .min(REPORTS_BURST_MAX * PARTS_PER_TOKEN);
        let cost = u64::try_from(reports)
            .unwrap_or(u64::MAX)
            .saturating_mul(PARTS_PER_TOKEN);
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
        let now = Timestamp::from_s(1_700_000_000);
        let mut bucket = TokenBucket::default();
        for _ in 0..20 {
            assert!(bucket.try_acquire(100, now));
        }
        assert!(!bucket.try_acquire(1, now));
        assert!(!bucket.try_acquire(1, now.plus_us(1_999)));
        assert!(bucket.try_acquire(1, now.plus_us(2_000)));
        assert!(!bucket.try_acquire(100, now.plus_us(2_000)));
        // What was refused has cost nothing.
        assert!(bucket.try_acquire(100, now.plus_us(202_000)));
        // However long it was silent.
        let later = now.plus_s(1_000);
        for _ in 0..20 {
            assert!(bucket.try_acquire(100, later));
        }
        assert!(!bucket.try_acquire(1, later));
        assert!(!bucket.try_acquire(1, now), "a clock that was put back");
    }
}
