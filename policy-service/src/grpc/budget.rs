//! How much a reporter may tell: so many reports in a second, and some at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Reports in a second, over time. Each call is a record of the audit log.
const REPORTS_PER_S: u64 = 500;
/// Reports at once after a while without.
const REPORTS_AT_ONCE_MAX: u64 = 2_000;
const US_PER_S: u64 = 1_000_000;

/// What each reporter may still tell; there are no more than the configuration names callers.
#[derive(Default)]
pub(super) struct Budgets(Mutex<BTreeMap<String, Budget>>);

impl Budgets {
    /// Takes so many reports from what a caller may tell, or none of them.
    pub(super) fn spend(&self, caller: &str, reports: usize, now_us: u64) -> bool {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.entry(caller.to_owned()).or_default().spend(reports, now_us)
    }
}

/// What one reporter may still tell.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// In millionths of a report, so that no moment is lost by rounding.
    left: u64,
    at_us: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: REPORTS_AT_ONCE_MAX * US_PER_S,
            at_us: 0,
        }
    }
}

impl Budget {
    /// Takes so many reports, or none of them.
    fn spend(&mut self, reports: usize, now_us: u64) -> bool {
        // A clock that was put back gives nothing, and takes nothing.
        let since_us = now_us.saturating_sub(self.at_us);
        self.at_us = now_us;
        let earned = since_us.saturating_mul(REPORTS_PER_S);
        self.left = self.left.saturating_add(earned).min(REPORTS_AT_ONCE_MAX * US_PER_S);
        let cost = u64::try_from(reports).unwrap_or(u64::MAX).saturating_mul(US_PER_S);
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
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
        let mut budget = Budget::default();
        for _ in 0..20 {
            assert!(budget.spend(100, now_us));
        }
        assert!(!budget.spend(1, now_us));
        assert!(!budget.spend(1, now_us + 1_999));
        assert!(budget.spend(1, now_us + 2_000));
        assert!(!budget.spend(100, now_us + 2_000));
        // What was refused has cost nothing.
        assert!(budget.spend(100, now_us + 202_000));
        // However long it was silent.
        let later_us = now_us + 1_000 * US_PER_S;
        for _ in 0..20 {
            assert!(budget.spend(100, later_us));
        }
        assert!(!budget.spend(1, later_us));
        assert!(!budget.spend(1, now_us), "a clock that was put back");
    }
}
