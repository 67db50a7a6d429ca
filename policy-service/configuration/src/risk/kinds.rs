//! The tables of `[risk]`, one for each kind of signal. Every key has a default.

use deserr::Deserr;
use picket_model::problems::Problems;
use picket_risk::{
    AuthenticationSettings, BehaviourSettings, Compliance, DENIALS_MAX, DeviceSettings, DynamicsSettings, FAILURES_MAX,
    LocationSettings, TOKEN_SOURCES_MAX, ThreatListSettings, TimeSettings, TokenSettings,
};

use super::{DAY_S, WEIGHT_MAX, YEAR_S};
use crate::fields::Ranged;

/// As many denials as are remembered.
const DENIALS_BURST_MAX: u32 = 32;
const _: () = assert!(DENIALS_MAX == 32);
/// As many failures as are.
const FAILED_MAX: u32 = 32;
const _: () = assert!(FAILURES_MAX == 32);
/// One less than peers and locations are remembered of a token: one more must still be seen.
const USUAL_TOKEN_SOURCES_MAX: u32 = 7;
const _: () = assert!(TOKEN_SOURCES_MAX == 8);
/// What a measure adds at most, and what anomaly scores are compared with.
const ANOMALY_MAX: u32 = 1000;

/// A table of keys that all have a default, which an absent table has too. The literal is its
/// heading in the reference.
macro_rules! table {
    ($(#[$doc:meta])* $title:literal $name:ident { $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Deserr)]
        #[deserr(deny_unknown_fields, error = Problems)]
        #[cfg_attr(
            feature = "schema",
            derive(schemars::JsonSchema),
            schemars(deny_unknown_fields, title = $title)
        )]
        pub(super) struct $name {
            $(
                $(#[$key_doc])*
                #[deserr(default = $default)]
                #[cfg_attr(feature = "schema", schemars(extend("default" = crate::fields::of_type::<$type>($default))))]
                pub(super) $key: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }
    };
}

table! {
    /// Signals about where requests come from: `new_location` and `impossible_travel`. A location
    /// is a country and an autonomous system where a database knows them, else the first 24 bits of
    /// an IPv4 address, or 48 of an IPv6 address.
    "Risk by location" LocationSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(30),
        /// How long a location is new after its first permitted request, in seconds.
        settles_after_s: Ranged<0, YEAR_S> = Ranged(DAY_S),
        /// The greatest possible speed between two requests, in km/h.
        speed_kmh_max: Ranged<1, 100_000> = Ranged(1000),
        /// The least distance that counts as travel, in km. Databases are wrong by as much.
        distance_km_min: Ranged<0, 20_000> = Ranged(100),
    }
}

table! {
    /// Signals about the device: `new_device`, `changed_device`, `low_device_trust` and
    /// `noncompliant_device`. The device is the one that was proved (`devices`), else the user
    /// agent and the peer.
    "Risk by device" DeviceSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(25),
        /// How long a device is new after its first permitted request, in seconds.
        settles_after_s: Ranged<0, YEAR_S> = Ranged(DAY_S),
        /// A known device with a lower trust score has the signal `low_device_trust`. 0: the signal
        /// is off.
        trust_score_min: Ranged<0, WEIGHT_MAX> = Ranged(40),
        /// Whether a known device that does not comply has the signal `noncompliant_device`.
        compliance: bool = true,
    }
}

table! {
    /// The signal `unusual_time`: the hour, in UTC, compared with the principal's own hours.
    "Risk by time" TimeSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(15),
        /// The days after which an observation counts half.
        half_life_days: Ranged<1, 366> = Ranged(14),
        /// The different hours, faded, that must have been seen before any hour is unusual. With a
        /// short `half_life_days` this may never be reached.
        observations_min: Ranged<1, 1_000> = Ranged(15),
        /// An hour is unusual if it and its neighbours have a smaller share, in percent.
        share_min_percent: Ranged<1, 100> = Ranged(2),
    }
}

table! {
    /// Signals about the principal's own rate, methods, route rules and denials: `unusual_rate`,
    /// `new_method`, `new_route_rule` and `denial_burst`.
    "Risk by behaviour" BehaviourSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        /// The length of the windows that requests are counted in, in seconds.
        rate_window_s: Ranged<1, DAY_S> = Ranged(60),
        /// The windows with requests that must have been seen before a rate is unusual.
        rate_windows_min: Ranged<1, 1_000_000> = Ranged(30),
        /// Fewer requests in a window are never unusual.
        rate_requests_min: Ranged<1, 1_000_000> = Ranged(60),
        /// The standard deviations above the mean that are usual.
        rate_deviations_max: Ranged<1, 1_000> = Ranged(4),
        /// The requests that must have been permitted before a method or route rule is new.
        observations_min: Ranged<1, 1_000_000> = Ranged(50),
        /// How long a method or route rule is new after its first permitted request, in seconds.
        settles_after_s: Ranged<0, YEAR_S> = Ranged(600),
        /// The denials within `denials_window_s` that are a burst.
        denials_min: Ranged<1, DENIALS_BURST_MAX> = Ranged(5),
        /// The time in which denials are counted, in seconds.
        denials_window_s: Ranged<1, DAY_S> = Ranged(60),
    }
}

table! {
    /// The signal `listed_address`: the source address is in a threat list.
    "Risk by threat lists" ThreatsSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(50),
    }
}

table! {
    /// The signal `failed_authentications`: reported failures, uses of a revoked or stolen session,
    /// and unanswered challenges.
    "Risk by authentication" AuthenticationSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        /// The time in which failures and challenges are counted, in seconds.
        window_s: Ranged<1, DAY_S> = Ranged(600),
        /// The failures that are too many. A success takes none of them back.
        failures_min: Ranged<1, FAILED_MAX> = Ranged(5),
        /// The challenges, in as many different seconds, that are too many. A later authentication
        /// settles them. 0: challenges do not count.
        challenges_min: Ranged<0, FAILED_MAX> = Ranged(20),
    }
}

table! {
    /// The signal `shared_token`: one token comes from several peers or locations.
    "Risk by use of a token" TokenSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        /// The time in which peers and locations of a token are counted, in seconds.
        window_s: Ranged<1, DAY_S> = Ranged(300),
        /// The peers that one token may come from. Where it is forwarded between workloads, each of
        /// them is a peer.
        peers_max: Ranged<1, USUAL_TOKEN_SOURCES_MAX> = Ranged(2),
        /// The locations that one token may come from.
        locations_max: Ranged<1, USUAL_TOKEN_SOURCES_MAX> = Ranged(2),
    }
}

table! {
    /// The signal `unusual_dynamics`: what the session's client reported of mouse, keys and touch,
    /// compared with the principal's own.
    "Risk by handling of a client" DynamicsSection {
        /// Whether the kind is scored.
        enabled: bool = true,
        /// The points that the kind adds to the score.
        weight: Ranged<0, WEIGHT_MAX> = Ranged(20),
        /// How long a session's report counts, in seconds. The next report replaces it.
        window_s: Ranged<1, DAY_S> = Ranged(600),
        /// The reports that must have been learnt from before mouse and touch are compared with
        /// them. One report a minute is learnt from, unless it is an anomaly.
        observations_min: Ranged<1, 1_000_000> = Ranged(20),
        /// The standard deviations from the mean that are usual. The least deviation is a tenth of
        /// the mean.
        deviations_max: Ranged<1, 1_000> = Ranged(3),
        /// The greatest usual variance of keystroke intervals, in hundredths.
        keystroke_variance_max_hundredths: Ranged<1, 100_000> = Ranged(30),
        /// The points that a mouse above its usual speed adds to the anomaly score.
        mouse_velocity_adds: Ranged<0, ANOMALY_MAX> = Ranged(10),
        /// The points that keystrokes above `keystroke_variance_max_hundredths` add to the anomaly
        /// score.
        keystroke_variance_adds: Ranged<0, ANOMALY_MAX> = Ranged(15),
        /// The points that an unusual pressure of touches adds to the anomaly score.
        touch_pressure_adds: Ranged<0, ANOMALY_MAX> = Ranged(15),
        /// The points that an unusual area of touches adds to the anomaly score.
        touch_area_adds: Ranged<0, ANOMALY_MAX> = Ranged(15),
        /// A larger anomaly score is the signal. At most `challenge_above`.
        anomaly_above: Ranged<0, ANOMALY_MAX> = Ranged(30),
        /// A larger anomaly score raises the risk score to `high_from`.
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
