//! Risk: how unusual a request is for its principal, as a score of 0 to 100 that says why.
//!
//! The rules are pure: what is known about a request comes in as [`Facts`], with the time; an [`Assessment`] comes out. What a
//! principal usually does is learnt from the requests that were permitted ([`Baseline`]), so that one who is refused teaches
//! nothing. The first place and the first device of a principal are taken for its own: there is nothing to compare them with.

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
mod keys;
mod location;
mod numbers;
mod places;
mod rate;
mod recent;
mod seen;
mod settings;
mod sharing;
mod state;
mod stated;
mod threats;

pub use assessment::{Assessment, Fired, Mode, Signal, SignalKind};
pub use authentication::{AuthenticationOutcome, AuthenticationReport, FAILURES_MAX};
pub use baseline::{Baseline, DENIALS_MAX, DEVICES_MAX, HISTORY_MAX, PLACES_MAX, Past, ROUTE_RULES_MAX, SESSIONS_MAX};
pub use dynamics::{MEASURE_MAX, Measure, Measured, REPORTS_MAX};
pub use engine::{Noted, Outcome, RiskEngine};
pub use factors::{Factor, FactorSettings, MissingFactors};
pub use facts::{Facts, KnownDevice, Standing};
pub use keys::{PrincipalKey, SessionKey, SessionName};
pub use places::{Address, Coordinates, Country, Place};
pub use settings::{
    AuthenticationSettings, BehaviourSettings, Compliance, DeviceSettings, DynamicsSettings, Levels, LocationSettings,
    RiskSettings, ThreatListSettings, TimeSettings, TokenSettings, ValidForMs,
};
pub use sharing::{HANDS_MAX, TOKENS_MAX};
pub use state::{STATE_VERSION, StateError, read_state, write_state};
pub use stated::{StatedRisk, StatedRiskError};
pub use threats::{BadLine, Listing, NETWORKS_MAX, Networks, ThreatList, ThreatLists};

#[cfg(test)]
mod tests;
