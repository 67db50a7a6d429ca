//! Risk scores: how unusual a request is for its principal, from 0 to 100, with the reasons.
//!
//! A [`RiskEngine`] keeps a [`Baseline`] of each principal: the places, devices, hours, methods,
//! route rules and rates of its permitted requests. [`RiskEngine::assess`] compares the
//! [`RequestFacts`] of a request with that baseline and returns an [`Assessment`]: the score, its
//! level, and a [`DetectedSignal`] with an explanation for each deviation. [`RiskEngine::learn`]
//! then records the outcome of the request. Only a permitted request extends the baseline: requests
//! that are denied cannot make an attacker's place or device look usual. The first place and the
//! first device of a principal count as its own, as there is nothing to compare them with.
//!
//! Three sources besides requests raise the score: reports of authentications
//! ([`AuthenticationReport`]), reports of how a client is handled ([`Measurements`]), and lists of
//! networks ([`ThreatLists`]).
//!
//! The crate is pure. Time is a parameter, and files are read by the caller. The same requests in
//! the same order give the same assessments, also across [`write_state`] and [`read_state`].

mod assessment;
mod authentication;
mod baseline;
mod behaviour;
mod device;
mod dynamics;
mod engine;
mod factors;
mod facts;
mod hours;
mod hypothetical;
mod keys;
mod location;
mod numbers;
mod places;
mod rate;
mod recent;
mod settings;
mod sharing;
mod sightings;
mod state;
mod threats;

pub use assessment::{Assessment, DetectedSignal, RiskMode, Signal, SignalKind};
pub use authentication::{AuthenticationOutcome, AuthenticationReport, FAILURES_MAX};
pub use baseline::{
    AssessmentPeriod, Baseline, DENIALS_MAX, DEVICES_MAX, HISTORY_MAX, PLACES_MAX, ROUTE_RULES_MAX, SESSIONS_MAX,
};
pub use dynamics::{MEASURE_MAX, Measure, Measurements, REPORTS_MAX};
pub use engine::{ReportOutcome, RequestOutcome, RiskEngine};
pub use factors::{Factor, FactorSettings, MissingFactors};
pub use facts::RequestFacts;
pub use hypothetical::{HypotheticalRisk, HypotheticalRiskError};
pub use keys::{PrincipalKey, SessionKey, SessionName};
pub use places::{AddressInfo, Coordinates, Country, Place};
pub use settings::{
    AuthenticationSettings, BehaviourSettings, Compliance, DeviceSettings, DynamicsSettings, Levels, LocationSettings,
    RiskSettings, ThreatListSettings, TimeSettings, TokenSettings, ValidForMs,
};
pub use sharing::{TOKEN_SOURCES_MAX, WATCHED_TOKENS_MAX};
pub use state::{STATE_VERSION, StateError, read_state, write_state};
pub use threats::{InvalidLine, NETWORKS_MAX, Networks, ThreatList, ThreatListMatch, ThreatLists};

#[cfg(test)]
mod tests;
