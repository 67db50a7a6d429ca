//! The tables of `[risk]`, one for each kind of signal. Every key has a default.

use deserr::Deserr;
use picket_model::problems::Problems;

use super::{DAY_S, WEIGHT_MAX, YEAR_S};
use crate::configuration::fields::Ranged;
use crate::risk::{
    AuthenticationSettings, BehaviourSettings, Compliance, DENIALS_MAX, DeviceSettings, DynamicsSettings, FAILURES_MAX,
    HANDS_MAX, LocationSettings, ThreatListSettings, TimeSettings, TokenSettings,
};

/// As many denials as are remembered.
const DENIALS_BURST_MAX: u32 = 32;
const _: () = assert!(DENIALS_MAX == 32);
/// As many failures as are.
const FAILED_MAX: u32 = 32;
const _: () = assert!(FAILURES_MAX == 32);
/// One less than peers and locations are remembered of a token: one more must still be seen.
const USUAL_HANDS_MAX: u32 = 7;
const _: () = assert!(HANDS_MAX == 8);
/// What a measure adds at most, and what anomaly scores are compared with.
const ANOMALY_MAX: u32 = 1000;

/// A table of keys that all have a default, which an absent table has too.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Deserr)]
        #[deserr(deny_unknown_fields, error = Problems)]
        pub(super) struct $name { $(#[deserr(default = $default)] pub(super) $key: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }
    };
}

table! {
    /// `[risk.location]`.
    LocationSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(30),
        settles_after_s: Ranged<0, YEAR_S> = Ranged(DAY_S),
        speed_kmh_max: Ranged<1, 100_000> = Ranged(1000),
        distance_km_min: Ranged<0, 20_000> = Ranged(100),
    }
}

table! {
    /// `[risk.device]`.
    DeviceSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(25),
        settles_after_s: Ranged<0, YEAR_S> = Ranged(DAY_S),
        trust_score_min: Ranged<0, WEIGHT_MAX> = Ranged(40),
        compliance: bool = true,
    }
}

table! {
    /// `[risk.time]`.
    TimeSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(15),
        half_life_days: Ranged<1, 366> = Ranged(14),
        observations_min: Ranged<1, 1_000> = Ranged(15),
        share_min_percent: Ranged<1, 100> = Ranged(2),
    }
}

table! {
    /// `[risk.behaviour]`.
    BehaviourSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        rate_window_s: Ranged<1, DAY_S> = Ranged(60),
        rate_windows_min: Ranged<1, 1_000_000> = Ranged(30),
        rate_requests_min: Ranged<1, 1_000_000> = Ranged(60),
        rate_deviations_max: Ranged<1, 1_000> = Ranged(4),
        observations_min: Ranged<1, 1_000_000> = Ranged(50),
        settles_after_s: Ranged<0, YEAR_S> = Ranged(600),
        denials_min: Ranged<1, DENIALS_BURST_MAX> = Ranged(5),
        denials_window_s: Ranged<1, DAY_S> = Ranged(60),
    }
}

table! {
    /// `[risk.threats]`: what the threat lists weigh.
    ThreatsSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(50),
    }
}

table! {
    /// `[risk.authentication]`.
    AuthenticationSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        window_s: Ranged<1, DAY_S> = Ranged(600),
        failures_min: Ranged<1, FAILED_MAX> = Ranged(5),
        challenges_min: Ranged<0, FAILED_MAX> = Ranged(20),
    }
}

table! {
    /// `[risk.token]`.
    TokenSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        window_s: Ranged<1, DAY_S> = Ranged(300),
        peers_max: Ranged<1, USUAL_HANDS_MAX> = Ranged(2),
        locations_max: Ranged<1, USUAL_HANDS_MAX> = Ranged(2),
    }
}

table! {
    /// `[risk.dynamics]`.
    DynamicsSection {
        enabled: bool = true,
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        window_s: Ranged<1, DAY_S> = Ranged(600),
        observations_min: Ranged<1, 1_000_000> = Ranged(20),
        deviations_max: Ranged<1, 1_000> = Ranged(3),
        keystroke_variance_max_hundredths: Ranged<1, 100_000> = Ranged(30),
        mouse_velocity_adds: Ranged<0, ANOMALY_MAX> = Ranged(10),
        keystroke_variance_adds: Ranged<0, ANOMALY_MAX> = Ranged(15),
        touch_pressure_adds: Ranged<0, ANOMALY_MAX> = Ranged(15),
        touch_area_adds: Ranged<0, ANOMALY_MAX> = Ranged(15),
        anomaly_above: Ranged<0, ANOMALY_MAX> = Ranged(30),
        challenge_above: Ranged<0, ANOMALY_MAX> = Ranged(50),
    }
}

impl LocationSection {
    pub(super) fn settings(&self) -> Option<LocationSettings> {
        self.enabled.then(|| LocationSettings {
            weight: percent(self.weight),
            settles_after_s: self.settles_after_s.0,
            speed_kmh_max: self.speed_kmh_max.0,
            distance_km_min: self.distance_km_min.0,
        })
    }
}

impl DeviceSection {
    pub(super) fn settings(&self, are_known: bool) -> Option<DeviceSettings> {
        self.enabled.then(|| DeviceSettings {
            weight: percent(self.weight),
            settles_after_s: self.settles_after_s.0,
            trust_score_min: percent(self.trust_score_min),
            compliance: match self.compliance {
                true => Compliance::Counts,
                false => Compliance::Ignored,
            },
            are_known,
        })
    }
}

impl TimeSection {
    pub(super) fn settings(&self) -> Option<TimeSettings> {
        self.enabled.then(|| TimeSettings {
            weight: percent(self.weight),
            half_life_days: self.half_life_days.0,
            observations_min: self.observations_min.0,
            share_min_percent: self.share_min_percent.0,
        })
    }
}

impl BehaviourSection {
    pub(super) fn settings(&self) -> Option<BehaviourSettings> {
        self.enabled.then(|| BehaviourSettings {
            weight: percent(self.weight),
            rate_window_s: self.rate_window_s.0,
            rate_windows_min: self.rate_windows_min.0,
            rate_requests_min: self.rate_requests_min.0,
            rate_deviations_max: self.rate_deviations_max.0,
            observations_min: self.observations_min.0,
            settles_after_s: self.settles_after_s.0,
            denials_min: self.denials_min.0,
            denials_window_s: self.denials_window_s.0,
        })
    }
}

impl ThreatsSection {
    pub(super) fn settings(&self) -> Option<ThreatListSettings> {
        self.enabled.then(|| ThreatListSettings {
            weight: percent(self.weight),
        })
    }
}

impl AuthenticationSection {
    pub(super) fn settings(&self) -> Option<AuthenticationSettings> {
        self.enabled.then(|| AuthenticationSettings {
            weight: percent(self.weight),
            window_s: self.window_s.0,
            failures_min: self.failures_min.0,
            challenges_min: self.challenges_min.0,
        })
    }
}

impl TokenSection {
    pub(super) fn settings(&self) -> Option<TokenSettings> {
        self.enabled.then(|| TokenSettings {
            weight: percent(self.weight),
            window_s: self.window_s.0,
            peers_max: self.peers_max.0,
            locations_max: self.locations_max.0,
        })
    }
}

impl DynamicsSection {
    pub(super) fn settings(&self) -> Option<DynamicsSettings> {
        self.enabled.then(|| DynamicsSettings {
            weight: percent(self.weight),
            window_s: self.window_s.0,
            observations_min: self.observations_min.0,
            deviations_max: self.deviations_max.0,
            keystroke_variance_max_hundredths: self.keystroke_variance_max_hundredths.0,
            mouse_velocity_adds: self.mouse_velocity_adds.0,
            keystroke_variance_adds: self.keystroke_variance_adds.0,
            touch_pressure_adds: self.touch_pressure_adds.0,
            touch_area_adds: self.touch_area_adds.0,
            anomaly_above: self.anomaly_above.0,
            challenge_above: self.challenge_above.0,
        })
    }
}

/// What is at most 100 fits.
pub(super) fn percent<const MIN: u32>(value: Ranged<MIN, WEIGHT_MAX>) -> u8 {
    u8::try_from(value.0).unwrap_or(u8::MAX)
}
