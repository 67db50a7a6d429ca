//! How many requests a principal makes: its own mean and variance, weighted towards the present.

use serde::{Deserialize, Serialize};

use super::numbers::Finite;
use super::settings::BehaviourSettings;

/// The weight of the newest window in mean and variance: about the last 40 windows count.
const NEWEST: f64 = 0.05;

/// Requests in windows of fixed length. Windows without a request are not counted: the mean
/// is that of a principal at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    /// When the window that is being counted began, in seconds since the epoch.
    began_s: u32,
    /// The requests in it so far.
    requests: u32,
    /// How many windows mean and variance are of.
    windows: u32,
    mean: Finite,
    variance: Finite,
}

/// A rate that is not usual.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExcessiveRate {
    /// The requests in this window, with the one in question.
    pub(super) requests: u32,
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

impl Rate {
    /// Whether one more request now is more than usual.
    pub(super) fn excess(&self, now_s: u32, settings: &BehaviourSettings) -> Option<ExcessiveRate> {
        let before = self.rolled(now_s, settings);
        let requests = before.requests.saturating_add(1);
        let is_known = before.windows >= settings.rate_windows_min && requests >= settings.rate_requests_min;
        (is_known && f64::from(requests) > before.usual_max(settings)).then(|| ExcessiveRate {
            requests,
            mean: before.mean.get(),
            deviation: before.deviation(),
        })
    }

    /// Counts one request.
    pub(super) fn learn(&mut self, now_s: u32, settings: &BehaviourSettings) {
        *self = self.rolled(now_s, settings);
        self.requests = self.requests.saturating_add(1);
    }

    /// How many requests a window usually has, and how much that varies.
    pub(super) fn usual(&self) -> (f64, f64) {
        (self.mean.get(), self.deviation())
    }

    /// As it is in this window: one that has passed has taught what it had to.
    fn rolled(&self, now_s: u32, settings: &BehaviourSettings) -> Self {
        let began_s = now_s - now_s % settings.rate_window_s.max(1);
        if began_s <= self.began_s {
            return self.clone();
        }
        let mut rolled = Self {
            began_s,
            requests: 0,
            ..self.clone()
        };
        if self.requests > 0 {
            rolled.learn_window(f64::from(self.requests), settings);
        }
        rolled
    }

    /// Exponentially weighted mean and variance (Finch 2009, "Incremental calculation of weighted
    /// mean and variance", §9). A window beyond what is usual teaches no more than the most that
    /// is: a flood does not make itself usual at once.
    fn learn_window(&mut self, requests: f64, settings: &BehaviourSettings) {
        let requests = match self.windows >= settings.rate_windows_min {
            true => requests.min(self.usual_max(settings).max(f64::from(settings.rate_requests_min))),
            false => requests,
        };
        if self.windows == 0 {
            self.mean = Finite::new(requests);
        } else {
            let difference = requests - self.mean.get();
            let step = NEWEST * difference;
            self.variance = Finite::new((1.0 - NEWEST) * (self.variance.get() + difference * step));
            self.mean = Finite::new(self.mean.get() + step);
        }
        self.windows = self.windows.saturating_add(1);
    }

    fn usual_max(&self, settings: &BehaviourSettings) -> f64 {
        self.mean.get() + f64::from(settings.rate_deviations_max) * self.deviation()
    }

    /// Never below what independent requests would vary by (Poisson): who always made just one may
    /// make two.
    fn deviation(&self) -> f64 {
        self.variance.get().max(self.mean.get()).max(1.0).sqrt()
    }
}
