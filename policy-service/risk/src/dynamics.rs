//! How a client is handled, as it tells itself: the mouse, the keys, the touch screen.
//!
//! What is measured is compared with the principal's own (the keys with a fixed limit); each
//! measure that is off adds to an anomaly score, which is that of the session until the session's
//! next report, or until the report is old.

use serde::{Deserialize, Serialize};

use super::assessment::{DetectedSignal, Signal};
use super::facts::RequestFacts;
use super::keys::Fingerprint;
use super::numbers::Finite;
use super::recent::Recent;
use super::settings::DynamicsSettings;

/// How many sessions of a principal have a report that counts.
pub const REPORTS_MAX: usize = 8;
/// The largest value of a measure; a larger one is refused.
pub const MEASURE_MAX: f64 = 1_000_000.0;
/// The weight of the newest report in mean and variance, once there are twenty.
const NEWEST: f64 = 0.05;
/// A report teaches at most this often, so that a client does not make its own dynamics usual in a
/// moment.
const LESSON_INTERVAL_S: u32 = 60;
/// Nobody is as even as a few reports can be: a tenth of the mean is no deviation yet.
const DEVIATION_MIN_OF_MEAN: f64 = 0.1;
/// And where the mean is nothing, what is next to nothing: else nothing more could ever be learnt.
const DEVIATION_MIN: f64 = 0.01;

/// The measures of client behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// How fast the mouse moves; faster than the principal's own is unusual.
    MouseVelocity,
    /// How uneven the time between keys is; above a fixed limit is unusual.
    KeystrokeVariance,
    /// How hard the screen is touched; other than the principal's own is unusual.
    TouchPressure,
    /// How large the touch is; other than the principal's own is unusual.
    TouchArea,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Self; 4] = [
        Self::MouseVelocity,
        Self::KeystrokeVariance,
        Self::TouchPressure,
        Self::TouchArea,
    ];

    /// Its name in calls and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MouseVelocity => "mouse_velocity",
            Self::KeystrokeVariance => "keystroke_variance",
            Self::TouchPressure => "touch_pressure",
            Self::TouchArea => "touch_area",
        }
    }

    /// The points that an unusual value adds to the anomaly score.
    fn points(self, settings: &DynamicsSettings) -> u32 {
        match self {
            Self::MouseVelocity => settings.mouse_velocity_adds,
            Self::KeystrokeVariance => settings.keystroke_variance_adds,
            Self::TouchPressure => settings.touch_pressure_adds,
            Self::TouchArea => settings.touch_area_adds,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::MouseVelocity => "mouse velocity",
            Self::KeystrokeVariance => "keystroke variance",
            Self::TouchPressure => "touch pressure",
            Self::TouchArea => "touch area",
        }
    }
}

/// The measurements of one report; each measure is optional.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measurements([Option<Finite>; Measure::ALL.len()]);

impl Measurements {
    /// The same with one measure more. `None`: no client measures that.
    #[must_use]
    pub fn with(mut self, measure: Measure, value: f64) -> Option<Self> {
        let is_measurable = value.is_finite() && (0.0..=MEASURE_MAX).contains(&value);
        let slot = self.0.get_mut(measure as usize).filter(|_| is_measurable)?;
        *slot = Some(Finite::new(value));
        Some(self)
    }

    /// Whether anything was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn iter(self) -> impl Iterator<Item = (Measure, f64)> {
        let measured = Measure::ALL.into_iter().zip(self.0);
        measured.filter_map(|(measure, value)| Some((measure, value?.get())))
    }
}

/// The reports and failures of one principal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dynamics {
    mouse_velocity: UsualRange,
    touch_pressure: UsualRange,
    touch_area: UsualRange,
    /// When a report taught last, in seconds since the epoch.
    taught_s: u32,
    reports: Recent<Report, REPORTS_MAX>,
}

/// Mean and variance, weighted towards the present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsualRange {
    observations: u32,
    mean: Finite,
    variance: Finite,
}

/// The newest report of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    session: Fingerprint,
    at_s: u32,
    /// The unusual measures, at most one of each.
    off: Recent<UnusualMeasure, { Measure::ALL.len() }>,
}

/// A measure that is not the principal's own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnusualMeasure {
    measure: Measure,
    found: Finite,
    /// The limit that it is beyond.
    limit: Finite,
}

/// An anomaly score above the limit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Anomaly {
    pub(super) fired: DetectedSignal,
    /// Whether it is so large that the principal is to be challenged.
    pub(super) is_to_be_challenged: bool,
}

impl Dynamics {
    /// Takes note of a report, and returns its anomaly score.
    pub(super) fn report(
        &mut self,
        settings: &DynamicsSettings,
        session: Fingerprint,
        at_s: u32,
        measured: Measurements,
    ) -> u32 {
        let mut report = Report {
            session,
            at_s,
            off: Recent::default(),
        };
        for (measure, found) in measured.iter() {
            if let Some(limit) = self.limit_passed(settings, measure, found) {
                report.off.push(UnusualMeasure {
                    measure,
                    found: Finite::new(found),
                    limit: Finite::new(limit),
                });
            }
        }
        let score = report.score(settings);
        // What is an anomaly does not become usual.
        let is_due = self.taught_s == 0 || at_s.saturating_sub(self.taught_s) >= LESSON_INTERVAL_S;
        if is_due && score <= settings.anomaly_above {
            self.taught_s = at_s;
            for (measure, found) in measured.iter() {
                if let Some(usual) = self.usual_mut(measure) {
                    usual.learn(found, settings);
                }
            }
        }
        self.reports.take(|other| other.session == session);
        self.reports.push(report);
        score
    }

    pub(super) fn anomaly(&self, settings: &DynamicsSettings, facts: &RequestFacts) -> Option<Anomaly> {
        let session = facts.session?;
        let report = self.reports.iter().find(|report| report.session == session)?;
        let age_s = facts.now_s.saturating_sub(report.at_s);
        let score = report.score(settings);
        (age_s < settings.window_s && score > settings.anomaly_above).then(|| Anomaly {
            fired: DetectedSignal {
                signal: Signal::UnusualDynamics,
                explanation: report.explanation(settings, score, age_s),
            },
            is_to_be_challenged: score > settings.challenge_above,
        })
    }

    /// The limit that a measure is beyond.
    fn limit_passed(&self, settings: &DynamicsSettings, measure: Measure, found: f64) -> Option<f64> {
        match measure {
            Measure::KeystrokeVariance => {
                let limit = f64::from(settings.keystroke_variance_max_hundredths) / 100.0;
                (found > limit).then_some(limit)
            }
            Measure::MouseVelocity => self.mouse_velocity.above(found, settings),
            Measure::TouchPressure => self.touch_pressure.beside(found, settings),
            Measure::TouchArea => self.touch_area.beside(found, settings),
        }
    }

    /// The learnt mean and variance of a measure; `None`: its limit is fixed.
    fn usual_mut(&mut self, measure: Measure) -> Option<&mut UsualRange> {
        match measure {
            Measure::MouseVelocity => Some(&mut self.mouse_velocity),
            Measure::KeystrokeVariance => None,
            Measure::TouchPressure => Some(&mut self.touch_pressure),
            Measure::TouchArea => Some(&mut self.touch_area),
        }
    }
}

impl Report {
    fn score(&self, settings: &DynamicsSettings) -> u32 {
        self.off.iter().map(|off| off.measure.points(settings)).sum()
    }

    fn explanation(&self, settings: &DynamicsSettings, score: u32, age_s: u32) -> String {
        let parts: Vec<String> = self
            .off
            .iter()
            .map(|off| {
                let (name, points) = (off.measure.in_words(), off.measure.points(settings));
                let (found, limit) = (off.found.get(), off.limit.get());
                format!("{name} {found:.2} where the limit is {limit:.2} (+{points})")
            })
            .collect();
        format!(
            "the client's report of {age_s} s ago has an anomaly score of {score}, above {}: {}",
            settings.anomaly_above,
            parts.join(", ")
        )
    }
}

impl UsualRange {
    fn above(&self, found: f64, settings: &DynamicsSettings) -> Option<f64> {
        let (_, high) = self.limits(settings)?;
        (found > high).then_some(high)
    }

    fn beside(&self, found: f64, settings: &DynamicsSettings) -> Option<f64> {
        let (low, high) = self.limits(settings)?;
        match () {
            () if found > high => Some(high),
            () if found < low => Some(low),
            () => None,
        }
    }

    /// The usual range; `None` until there are enough observations.
    fn limits(&self, settings: &DynamicsSettings) -> Option<(f64, f64)> {
        let mean = self.mean.get();
        let deviation = self.variance.get().max(0.0).sqrt();
        let deviation = deviation.max(mean * DEVIATION_MIN_OF_MEAN).max(DEVIATION_MIN);
        let width = f64::from(settings.deviations_max) * deviation;
        (self.observations >= settings.observations_min).then_some((mean - width, mean + width))
    }

    /// As in [`super::rate`]; the first reports weigh alike. One beyond what is usual teaches no
    /// more than the most that is.
    fn learn(&mut self, found: f64, settings: &DynamicsSettings) {
        let found = match self.limits(settings) {
            Some((low, high)) => found.max(low).min(high),
            None => found,
        };
        self.observations = self.observations.saturating_add(1);
        let weight = (1.0 / f64::from(self.observations)).max(NEWEST);
        let difference = found - self.mean.get();
        let step = weight * difference;
        self.variance = Finite::new((1.0 - weight) * (self.variance.get() + difference * step));
        self.mean = Finite::new(self.mean.get() + step);
    }
}
