//! What is remembered about one principal; every part of it has a limit.

use picket_model::risk::RiskLevel;
use serde::{Deserialize, Serialize};

use super::assessment::{Assessment, Signal};
use super::authentication::Failures;
use super::dynamics::Dynamics;
use super::facts::RequestFacts;
use super::hours::Hours;
use super::keys::Fingerprint;
use super::places::{Coordinates, Place};
use super::rate::Rate;
use super::recent::Recent;
use super::settings::RiskSettings;
use super::sharing::Tokens;
use super::sightings::{KeyOrigin, NoveltyWindows, Sightings};

/// How many places are remembered: home, work, the phone's networks, and some travel.
pub const PLACES_MAX: usize = 16;
/// How many devices are.
pub const DEVICES_MAX: usize = 8;
/// How many methods: as many as are told apart.
pub(super) const METHODS_MAX: usize = 8;
/// How many route rules are.
pub const ROUTE_RULES_MAX: usize = 32;
/// How many sessions are, with the device that each began with.
pub const SESSIONS_MAX: usize = 8;
/// How many denials are, which is the largest burst that can be asked for.
pub const DENIALS_MAX: usize = 32;
/// How many spells of equal assessments are.
pub const HISTORY_MAX: usize = 16;

/// The usual behaviour of one principal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    pub(super) places: Sightings<Place, PLACES_MAX>,
    pub(super) devices: Sightings<Fingerprint, DEVICES_MAX>,
    pub(super) methods: Sightings<u8, METHODS_MAX>,
    pub(super) route_rules: Sightings<Fingerprint, ROUTE_RULES_MAX>,
    pub(super) sessions: Recent<Session, SESSIONS_MAX>,
    pub(super) hours: Hours,
    pub(super) rate: Rate,
    /// How many requests were permitted.
    pub(super) permits: u32,
    /// When the last requests were denied, in seconds since the epoch.
    pub(super) denials: Recent<u32, DENIALS_MAX>,
    pub(super) position: Option<Position>,
    pub(super) history: Recent<AssessmentPeriod, HISTORY_MAX>,
    /// Absent in files of version 1, as are those below.
    #[serde(default)]
    pub(super) failures: Failures,
    #[serde(default)]
    pub(super) tokens: Tokens,
    #[serde(default)]
    pub(super) dynamics: Dynamics,
}

/// The device that a session began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) id: Fingerprint,
    pub(super) device: Fingerprint,
    last_s: u32,
}

/// Where the last permitted request came from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) coordinates: Coordinates,
    pub(super) at_s: u32,
}

/// Assessments in a row that said the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssessmentPeriod {
    /// When the first of them was made, in seconds since the epoch.
    pub first_s: u32,
    /// When the last of them was.
    pub last_s: u32,
    /// How many there were.
    pub requests: u32,
    /// Their score.
    pub score: u8,
    /// Its level, by the thresholds of then.
    #[serde(with = "level")]
    pub level: RiskLevel,
    signals: u32,
}

/// A level by its name.
mod level {
    use picket_model::risk::RiskLevel;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(level: &RiskLevel, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(level.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RiskLevel, D::Error> {
        let name = String::deserialize(deserializer)?;
        let level = RiskLevel::ALL.into_iter().find(|level| level.name() == name);
        level.ok_or_else(|| D::Error::custom("no level has this name"))
    }
}

impl AssessmentPeriod {
    fn is_like(&self, assessment: &Assessment) -> bool {
        (self.score, self.level, self.signals) == (assessment.risk.score, assessment.risk.level, assessment.bits())
    }

    /// Their signals.
    pub fn signals(&self) -> impl Iterator<Item = Signal> {
        let bits = self.signals;
        Signal::ALL
            .iter()
            .copied()
            .filter(move |signal| bits & signal.bit() != 0)
    }
}

impl Baseline {
    /// Takes note of a request that was permitted: it becomes part of what is usual.
    pub(super) fn learn_permitted(&mut self, settings: &RiskSettings, facts: &RequestFacts) {
        let now_s = facts.now_s;
        let windows = |settles_after_s| NoveltyWindows {
            settles_after_s,
            remembered_for_s: settings.remembered_for_s,
        };
        let first_of_all = |is_empty| match is_empty {
            true => KeyOrigin::Own,
            false => KeyOrigin::New,
        };
        if let Some(location) = &settings.location {
            if let Some(place) = facts.place {
                let origin = first_of_all(self.places.is_empty());
                self.places
                    .record(place, origin, now_s, windows(location.settles_after_s));
            }
            if let Some(coordinates) = facts.coordinates {
                self.position = Some(Position {
                    coordinates,
                    at_s: now_s,
                });
            }
        }
        if let Some(device) = &settings.device {
            let origin = first_of_all(self.devices.is_empty());
            self.devices
                .record(facts.device, origin, now_s, windows(device.settles_after_s));
            self.see_session(facts);
        }
        if let Some(time) = &settings.time {
            self.hours.learn(now_s, time);
        }
        if let Some(behaviour) = &settings.behaviour {
            let origin = first_of_all(self.permits < behaviour.observations_min);
            let windows = windows(behaviour.settles_after_s);
            self.methods.record(facts.method, origin, now_s, windows);
            self.route_rules.record(facts.route_rule, origin, now_s, windows);
        }
        self.permits = self.permits.saturating_add(1);
    }

    /// Takes note of a request whatever became of it.
    pub(super) fn learn_any(&mut self, settings: &RiskSettings, facts: &RequestFacts, assessment: &Assessment) {
        if let Some(behaviour) = &settings.behaviour {
            self.rate.learn(facts.now_s, behaviour);
        }
        if settings.token.is_some() {
            self.tokens.see(facts);
        }
        match self.history.newest_mut() {
            Some(past) if past.is_like(assessment) => {
                past.last_s = facts.now_s;
                past.requests = past.requests.saturating_add(1);
            }
            Some(_) | None => self.history.push(AssessmentPeriod {
                first_s: facts.now_s,
                last_s: facts.now_s,
                requests: 1,
                score: assessment.risk.score,
                level: assessment.risk.level,
                signals: assessment.bits(),
            }),
        }
    }

    /// The device that a session keeps is the one that it began with.
    fn see_session(&mut self, facts: &RequestFacts) {
        let Some(id) = facts.session else {
            return;
        };
        let session = self.sessions.take(|session| session.id == id);
        let device = session.map_or(facts.device, |session| session.device);
        self.sessions.push(Session {
            id,
            device,
            last_s: facts.now_s,
        });
    }

    /// Places, each with when it was first (`None`: the principal's own from the start) and last
    /// seen.
    pub fn places(&self) -> impl Iterator<Item = (&Place, Option<u32>, u32)> {
        self.places.iter()
    }

    /// Devices by the beginning of their fingerprints, in the same form.
    pub fn devices(&self) -> impl Iterator<Item = (String, Option<u32>, u32)> {
        self.devices
            .iter()
            .map(|(device, first_s, last_s)| (device.to_string(), first_s, last_s))
    }

    /// How many requests were permitted.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// How many requests a window usually has, and by how much that varies.
    #[must_use]
    pub fn usual_rate(&self) -> (f64, f64) {
        self.rate.usual()
    }

    /// The share of the principal's activity in each hour of the day (UTC), 0 to 1.
    #[must_use]
    pub fn hours(&self) -> [f64; 24] {
        self.hours.shares()
    }

    /// Past assessments, the oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &AssessmentPeriod> {
        self.history.iter()
    }
}
