//! Failed authentications: those that are reported, and what the service sees of them itself.

use std::collections::HashSet;

use picket_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::assessment::{DetectedSignal, Signal};
use super::facts::RequestFacts;
use super::numbers::seconds;
use super::places::Place;
use super::recent::Recent;
use super::settings::AuthenticationSettings;

/// How many failures are remembered of a principal, which is the largest number that can be asked
/// for.
pub const FAILURES_MAX: usize = 32;

/// How an authentication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationOutcome {
    /// The party was taken for the principal.
    Succeeded,
    /// It was not.
    Failed,
}

/// An authentication elsewhere that somebody tells of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuthenticationReport {
    /// How it ended.
    pub outcome: AuthenticationOutcome,
    /// When it was.
    pub at: Timestamp,
    /// Where it came from, where that is known.
    pub place: Option<Place>,
}

/// The reports and failures of one principal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failures {
    /// Authentications that were reported as failed, and requests of a session that was revoked or
    /// stolen.
    failed: Recent<Failure, FAILURES_MAX>,
    /// The seconds in which a request was challenged: what a page asks for at once counts once.
    challenged: Recent<u32, FAILURES_MAX>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    at_s: u32,
    place: Option<Place>,
}

impl Failures {
    /// Takes note of what was reported. A success settles the challenges before it. It settles no
    /// failure: somebody who has guessed a password at last has guessed wrong before.
    pub(super) fn report(&mut self, report: &AuthenticationReport) {
        match report.outcome {
            AuthenticationOutcome::Succeeded => self.challenged.retain(|at_s| *at_s > seconds(report.at)),
            AuthenticationOutcome::Failed => self.failed.push(Failure {
                at_s: seconds(report.at),
                place: report.place,
            }),
        }
    }

    /// A request was refused because its session was revoked or stolen.
    pub(super) fn refused(&mut self, now_s: u32, place: Option<Place>) {
        let failure = Failure { at_s: now_s, place };
        if self.failed.newest_mut().is_none_or(|newest| *newest != failure) {
            self.failed.push(failure);
        }
    }

    /// A request was challenged.
    pub(super) fn challenged(&mut self, now_s: u32) {
        if self.challenged.newest_mut().is_none_or(|newest| *newest != now_s) {
            self.challenged.push(now_s);
        }
    }

    /// What there is too much of.
    pub(super) fn signal(&self, settings: &AuthenticationSettings, facts: &RequestFacts) -> Option<DetectedSignal> {
        let now_s = facts.now_s;
        let window_s = settings.window_s;
        let is_recent = |at_s: u32| now_s.saturating_sub(at_s) < window_s;
        let failed: Vec<&Failure> = self.failed.iter().filter(|failure| is_recent(failure.at_s)).collect();
        // Whoever has authenticated since has done what was asked for.
        let is_open = |at_s: u32| {
            facts
                .authenticated_s
                .is_none_or(|authenticated_s| at_s > authenticated_s)
        };
        let challenged = self
            .challenged
            .iter()
            .filter(|at_s| is_recent(**at_s) && is_open(**at_s));
        let challenged = challenged.count();
        let reaches = |count: usize, min: u32| u32::try_from(count).is_ok_and(|count| count >= min.max(1));
        let explanation = if reaches(failed.len(), settings.failures_min) {
            let places: HashSet<Place> = failed.iter().filter_map(|failure| failure.place).collect();
            format!(
                "{} failed authentications in the last {window_s} s, from {} known locations",
                failed.len(),
                places.len()
            )
        } else if settings.challenges_min > 0 && reaches(challenged, settings.challenges_min) {
            format!("challenged in {challenged} seconds of the last {window_s} s, and no authentication since")
        } else {
            return None;
        };
        Some(DetectedSignal {
            signal: Signal::FailedAuthentications,
            explanation,
        })
    }
}
