//! What is counted, how much, and for how long. Every kind of signal can be switched off: it is
//! `None` then.

use picket_model::decision::{Attribute, Vary};
use picket_model::risk::RiskLevel;

use super::assessment::{RiskMode, SignalKind};
use super::factors::FactorSettings;

const SECONDS_PER_DAY: u32 = 24 * 60 * 60;

/// Everything that can be configured about scores. The configuration checks the values; here they
/// are taken as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskSettings {
    /// Whether scores have an effect.
    pub mode: RiskMode,
    /// Where the levels begin.
    pub levels: Levels,
    /// How long an answer may be repeated at each level.
    pub valid_for_ms: ValidForMs,
    /// How many principals are remembered; the least recently seen makes room.
    pub principals_max: usize,
    /// After this time without use a place or a device is forgotten, and new when it comes back.
    pub remembered_for_s: u32,
    /// The places that requests come from.
    pub location: Option<LocationSettings>,
    /// The devices that requests come from.
    pub device: Option<DeviceSettings>,
    /// When they come.
    pub time: Option<TimeSettings>,
    /// Methods, route rules, rates and denials.
    pub behaviour: Option<BehaviourSettings>,
    /// Lists of suspicious networks.
    pub threat_list: Option<ThreatListSettings>,
    /// How authentications ended.
    pub authentication: Option<AuthenticationSettings>,
    /// In how many hands a token is.
    pub token: Option<TokenSettings>,
    /// How clients are handled.
    pub dynamics: Option<DynamicsSettings>,
    /// Which levels' factors are asked for where policies permit.
    pub factors: FactorSettings,
}

/// Where the levels above low begin. INVARIANT: `medium_from` is not above `high_from`; the
/// configuration holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The least score that is medium.
    pub medium_from: u8,
    /// The least score that is high.
    pub high_from: u8,
}

/// How long an answer may be repeated, in milliseconds; 0: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the levels")]
pub struct ValidForMs {
    pub low: u32,
    pub medium: u32,
    pub high: u32,
}

/// The places that requests come from.
#[derive(Clone, Debug, PartialEq)]
pub struct LocationSettings {
    /// 0 to 100.
    pub weight: u8,
    /// For how long after its first permitted request a location is still new.
    pub settles_after_s: u32,
    /// A higher speed between two places is impossible travel.
    pub speed_kmh_max: u32,
    /// Databases of coordinates are wrong by as much: what is nearer is no travel.
    pub distance_km_min: u32,
}

/// The devices that requests come from.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSettings {
    /// 0 to 100.
    pub weight: u8,
    /// For how long after its first permitted request a device is still new.
    pub settles_after_s: u32,
    /// A known device with a lower trust score is a signal; 0: the score is not looked at.
    pub trust_score_min: u8,
    /// Whether a known device that does not comply is one.
    pub compliance: Compliance,
    /// Whether devices are kept, so that a request can come from a known one.
    pub are_known: bool,
}

/// Whether a device that does not comply is a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compliance {
    /// It is.
    Counts,
    /// It is left to the policies.
    Ignored,
}

/// The principal's own hours.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeSettings {
    /// 0 to 100.
    pub weight: u8,
    /// After so many days an observation counts half.
    pub half_life_days: u32,
    /// So many hours, after decay, must have been observed before any is unusual.
    pub observations_min: u32,
    /// An hour is unusual where less than this share of all falls into it and its two neighbours.
    pub share_min_percent: u32,
}

/// Methods, route rules, rates and denials.
#[derive(Clone, Debug, PartialEq)]
pub struct BehaviourSettings {
    /// 0 to 100.
    pub weight: u8,
    /// Requests are counted in windows of this length.
    pub rate_window_s: u32,
    /// So many windows must have been observed before any rate is unusual.
    pub rate_windows_min: u32,
    /// Fewer requests in a window are never unusual.
    pub rate_requests_min: u32,
    /// How many standard deviations above the mean are usual.
    pub rate_deviations_max: u32,
    /// So many requests must have been permitted before a method or a route rule is new.
    pub observations_min: u32,
    /// For how long after its first permitted request a method or a route rule is still new.
    pub settles_after_s: u32,
    /// So many denials are a burst.
    pub denials_min: u32,
    /// The time in which they must come.
    pub denials_window_s: u32,
}

/// Threat lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreatListSettings {
    /// 0 to 100.
    pub weight: u8,
}

/// How authentications ended.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthenticationSettings {
    /// 0 to 100.
    pub weight: u8,
    /// Older ones do not count.
    pub window_s: u32,
    /// So many failures are too many.
    pub failures_min: u32,
    /// Challenges in so many different seconds are, without an authentication since; 0: challenges
    /// do not count.
    pub challenges_min: u32,
}

/// In how many hands a token is.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSettings {
    /// 0 to 100.
    pub weight: u8,
    /// Older ones do not count.
    pub window_s: u32,
    /// More peers than this sending one token are a signal.
    pub peers_max: u32,
    /// More locations than this are a signal.
    pub locations_max: u32,
}

/// How clients are handled. INVARIANT: `anomaly_above` is not above `challenge_above`; the
/// configuration holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicsSettings {
    /// 0 to 100.
    pub weight: u8,
    /// For how long a report counts.
    pub window_s: u32,
    /// So many reports must have been learnt before a measure is compared with them.
    pub observations_min: u32,
    /// How many standard deviations from the mean are usual.
    pub deviations_max: u32,
    /// The keystroke variance that is usual at most, in hundredths.
    pub keystroke_variance_max_hundredths: u32,
    /// Points for mouse movements that are too fast.
    pub mouse_velocity_adds: u32,
    /// Points for keystrokes that are too uneven.
    pub keystroke_variance_adds: u32,
    /// Points for an unusual touch pressure.
    pub touch_pressure_adds: u32,
    /// Points for an unusual touch area.
    pub touch_area_adds: u32,
    /// A larger anomaly score is a signal.
    pub anomaly_above: u32,
    /// A larger one makes the risk high, whatever else there is.
    pub challenge_above: u32,
}

impl RiskSettings {
    /// The settings of a configuration without a key: scores count, and every kind of signal is
    /// switched on.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            mode: RiskMode::Effective,
            levels: Levels::DEFAULT,
            valid_for_ms: ValidForMs::DEFAULT,
            principals_max: 100_000,
            remembered_for_s: 90 * SECONDS_PER_DAY,
            location: Some(LocationSettings::DEFAULT),
            device: Some(DeviceSettings::DEFAULT),
            time: Some(TimeSettings::DEFAULT),
            behaviour: Some(BehaviourSettings::DEFAULT),
            threat_list: Some(ThreatListSettings::DEFAULT),
            authentication: Some(AuthenticationSettings::DEFAULT),
            token: Some(TokenSettings::DEFAULT),
            dynamics: Some(DynamicsSettings::DEFAULT),
            factors: FactorSettings::default(),
        }
    }
}

impl ValidForMs {
    /// Five minutes, one minute, and not at all.
    pub const DEFAULT: Self = Self {
        low: 300_000,
        medium: 60_000,
        high: 0,
    };
}

impl LocationSettings {
    /// Without a key in `[risk.location]`.
    pub const DEFAULT: Self = Self {
        weight: 30,
        settles_after_s: SECONDS_PER_DAY,
        speed_kmh_max: 1000,
        distance_km_min: 100,
    };
}

impl DeviceSettings {
    /// Without a key in `[risk.device]`, in a service that keeps no devices.
    pub const DEFAULT: Self = Self {
        weight: 25,
        settles_after_s: SECONDS_PER_DAY,
        trust_score_min: 40,
        compliance: Compliance::Counts,
        are_known: false,
    };
}

impl TimeSettings {
    /// Without a key in `[risk.time]`.
    pub const DEFAULT: Self = Self {
        weight: 15,
        half_life_days: 14,
        observations_min: 15,
        share_min_percent: 2,
    };
}

impl BehaviourSettings {
    /// Without a key in `[risk.behaviour]`.
    pub const DEFAULT: Self = Self {
        weight: 20,
        rate_window_s: 60,
        rate_windows_min: 30,
        rate_requests_min: 60,
        rate_deviations_max: 4,
        observations_min: 50,
        settles_after_s: 600,
        denials_min: 5,
        denials_window_s: 60,
    };
}

impl ThreatListSettings {
    /// Without a key in `[risk.threats]`.
    pub const DEFAULT: Self = Self { weight: 50 };
}

impl AuthenticationSettings {
    /// Without a key in `[risk.authentication]`.
    pub const DEFAULT: Self = Self {
        weight: 20,
        window_s: 600,
        failures_min: 5,
        challenges_min: 20,
    };
}

impl TokenSettings {
    /// Without a key in `[risk.token]`.
    pub const DEFAULT: Self = Self {
        weight: 20,
        window_s: 300,
        peers_max: 2,
        locations_max: 2,
    };
}

impl DynamicsSettings {
    /// Without a key in `[risk.dynamics]`.
    pub const DEFAULT: Self = Self {
        weight: 20,
        window_s: 600,
        observations_min: 20,
        deviations_max: 3,
        keystroke_variance_max_hundredths: 30,
        mouse_velocity_adds: 10,
        keystroke_variance_adds: 15,
        touch_pressure_adds: 15,
        touch_area_adds: 15,
        anomaly_above: 30,
        challenge_above: 50,
    };
}

impl RiskSettings {
    /// The weight of a kind; what is switched off weighs nothing.
    pub(super) fn weight(&self, kind: SignalKind) -> u8 {
        match kind {
            SignalKind::Location => self.location.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::Device => self.device.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::Time => self.time.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::Behaviour => self.behaviour.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::ThreatList => self.threat_list.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::Authentication => self.authentication.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::Token => self.token.as_ref().map_or(0, |settings| settings.weight),
            SignalKind::Dynamics => self.dynamics.as_ref().map_or(0, |settings| settings.weight),
        }
    }

    /// The attributes of a request that the enabled kinds read. The hour comes from the clock, and
    /// session and principal from the token.
    pub(super) fn vary(&self) -> Vary {
        let location = self.location.iter().flat_map(|_| [Attribute::SourceAddress]);
        let threats = self.threat_list.iter().flat_map(|_| [Attribute::SourceAddress]);
        let device = self.device.iter().flat_map(|_| [Attribute::UserAgent, Attribute::Peer]);
        let known = self.device.iter().filter(|device| device.are_known);
        let known = known.map(|_| Attribute::Device);
        let behaviour = self.behaviour.iter().flat_map(|_| [Attribute::Method]);
        let token = self
            .token
            .iter()
            .flat_map(|_| [Attribute::SourceAddress, Attribute::Peer]);
        location
            .chain(threats)
            .chain(device)
            .chain(known)
            .chain(behaviour)
            .chain(token)
            .collect()
    }
}

impl Levels {
    /// Where they begin unless the configuration says otherwise.
    pub const DEFAULT: Self = Self {
        medium_from: 20,
        high_from: 50,
    };

    /// The level of a score.
    #[must_use]
    pub fn of(self, score: u8) -> RiskLevel {
        match score {
            score if score >= self.high_from => RiskLevel::High,
            score if score >= self.medium_from => RiskLevel::Medium,
            _ => RiskLevel::Low,
        }
    }
}

impl ValidForMs {
    /// How long an answer at this level may be repeated.
    #[must_use]
    pub fn at(self, level: RiskLevel) -> u32 {
        match level {
            RiskLevel::Low => self.low,
            RiskLevel::Medium => self.medium,
            RiskLevel::High => self.high,
        }
    }
}
