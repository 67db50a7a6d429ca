//! The hours at which a principal is active: a histogram on the circle of the day, in UTC, that
//! fades.

use serde::{Deserialize, Serialize};

use super::numbers::Finite;
use super::settings::TimeSettings;

const SECONDS_PER_HOUR: u32 = 3600;
const HOURS_PER_DAY: u32 = 24;

/// How much was seen at each hour of the day. Each hour of the calendar counts once, however many
/// requests it has: a busy minute does not make a habit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Hours {
    weights: [Finite; 24],
    /// The last hour that was counted, in hours since the epoch; the weights are those of then.
    last: u32,
}

/// How an hour compares with the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct HourShare {
    /// The hour of the day.
    pub(super) hour: u32,
    /// The share of all activity in it and its two neighbours, 0 to 1.
    pub(super) share: f64,
    /// How many observations there are, faded.
    pub(super) observations: f64,
}

impl Hours {
    /// The share of the hour that `now_s` is in.
    pub(super) fn share(&self, now_s: u32, settings: &TimeSettings) -> HourShare {
        let now = now_s / SECONDS_PER_HOUR;
        let hour = now % HOURS_PER_DAY;
        let total: f64 = self.weights.iter().map(|weight| weight.get()).sum();
        // 23 and 0 are neighbours.
        let near = [HOURS_PER_DAY - 1, 0, 1].map(|step| self.weight((hour + step) % HOURS_PER_DAY));
        let share = match total > 0.0 {
            true => near.iter().sum::<f64>() / total,
            false => 1.0,
        };
        HourShare {
            hour,
            share,
            observations: total * self.fading(now, settings),
        }
    }

    /// Counts the hour that `now_s` is in, unless it was counted.
    pub(super) fn learn(&mut self, now_s: u32, settings: &TimeSettings) {
        let now = now_s / SECONDS_PER_HOUR;
        if now <= self.last {
            return;
        }
        let fading = self.fading(now, settings);
        for weight in &mut self.weights {
            *weight = Finite::new(weight.get() * fading);
        }
        let index = usize::try_from(now % HOURS_PER_DAY).ok();
        if let Some(weight) = index.and_then(|index| self.weights.get_mut(index)) {
            *weight = Finite::new(weight.get() + 1.0);
        }
        self.last = now;
    }

    /// The share of each hour of the day, 0 to 1.
    pub(super) fn shares(&self) -> [f64; 24] {
        let total: f64 = self.weights.iter().map(|weight| weight.get()).sum();
        self.weights.map(|weight| match total > 0.0 {
            true => weight.get() / total,
            false => 0.0,
        })
    }

    fn weight(&self, hour: u32) -> f64 {
        let weight = usize::try_from(hour).ok().and_then(|hour| self.weights.get(hour));
        weight.map_or(0.0, |weight| weight.get())
    }

    /// The factor by which the weights of the last counted hour have faded at `now`, an hour since
    /// the epoch.
    fn fading(&self, now: u32, settings: &TimeSettings) -> f64 {
        let age_days = f64::from(now.saturating_sub(self.last)) / f64::from(HOURS_PER_DAY);
        0.5_f64.powf(age_days / f64::from(settings.half_life_days.max(1)))
    }
}
