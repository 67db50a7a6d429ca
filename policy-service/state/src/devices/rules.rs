//! How far a device can be trusted. The rules do no I/O, and time is a parameter.

use std::collections::BTreeMap;
use std::fmt;

use picket_model::device::{DeviceState, TRUST_SCORE_MAX};

use super::model::{Device, OsName, OsVersion, Posture};

/// What a device has to be to comply. What is not required is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compliance {
    /// The lowest version of each operating system; where one is named, others do not comply.
    pub os_versions_min: BTreeMap<OsName, OsVersion>,
    /// Whether what it stores has to be encrypted.
    pub disk_encryption_required: bool,
    /// Whether it has to be under management.
    pub management_required: bool,
    /// How old its last report may become, in microseconds; `None`: any age.
    pub posture_age_us_max: Option<i64>,
}

/// How a trust score is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustWeights {
    /// Points of a trusted device before anything is subtracted.
    pub trusted_points: u8,
    /// The same for a device that is only enrolled.
    pub enrolled_points: u8,
    /// Subtracted for each requirement that it does not meet.
    pub noncompliance_points: u8,
    /// Subtracted for each step of its last report's age.
    pub age_points: u8,
    /// How long such a step is, in microseconds; at least 1.
    pub age_step_us: i64,
    /// Subtracted for age at most, and where nothing was ever reported.
    pub age_points_max: u8,
    /// Subtracted for each failed check that the last report counts.
    pub failure_points: u8,
    /// Subtracted for failed checks at most.
    pub failure_points_max: u8,
    /// The least score of a device that is trusted.
    pub trusted_from: u8,
}

/// How far a device can be trusted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceTrust {
    /// 0 to [`TRUST_SCORE_MAX`].
    pub score: u8,
    /// Whether it meets every requirement.
    pub is_compliant: bool,
    /// Whether an operator trusts it, it complies, and its score is enough.
    pub is_trusted: bool,
    /// The components of the score, in the order in which they were counted.
    pub parts: Vec<TrustComponent>,
    /// For how many microseconds time alone changes nothing of this; `None`: for ever.
    pub same_for_us: Option<i64>,
}

/// A component of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustComponent {
    /// The points that it adds; below 0, the points that it subtracts.
    pub points: i16,
    /// Why.
    pub cause: TrustCause,
}

/// Why a score is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustCause {
    /// Its state.
    State(DeviceState),
    /// It does not comply with a requirement.
    NotCompliant(Requirement),
    /// Its last report is this many steps old.
    PostureAge(i64),
    /// Nothing was ever reported.
    NoPosture,
    /// So many of the reporter's checks failed.
    Failures(u16),
}

/// A requirement that a device can fail to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Something is required that was never reported.
    Posture,
    /// Its operating system is none that is named.
    Os,
    /// Its operating system is too old.
    OsVersion,
    /// What it stores is not encrypted.
    DiskEncryption,
    /// It is not under management.
    Management,
    /// Its last report is too old.
    PostureAge,
}

/// How far a device can be trusted at a time, in microseconds since the epoch.
#[must_use]
pub fn assess_trust(device: &Device, compliance: &Compliance, weights: &TrustWeights, now_us: i64) -> DeviceTrust {
    let posture = device.posture.as_ref();
    let age_us = posture.map(|posture| now_us.saturating_sub(posture.reported_us).max(0));
    let failed = compliance.failed_by(posture, age_us);
    let mut parts = vec![TrustComponent::of_state(device.state, weights)];
    let cost = |points: i64, cause| TrustComponent {
        points: i16::try_from(points.saturating_neg()).unwrap_or(i16::MIN),
        cause,
    };
    parts.extend(failed.iter().map(|requirement| {
        cost(
            weights.noncompliance_points.into(),
            TrustCause::NotCompliant(*requirement),
        )
    }));
    parts.push(match age_us {
        None => cost(weights.age_points_max.into(), TrustCause::NoPosture),
        Some(age_us) => cost(weights.of_age(age_us), TrustCause::PostureAge(weights.steps(age_us))),
    });
    if let Some(failures) = posture.map(|posture| posture.failures).filter(|failures| *failures > 0) {
        parts.push(cost(weights.of_failures(failures), TrustCause::Failures(failures)));
    }
    parts.retain(|part| part.points != 0 || matches!(part.cause, TrustCause::State(_)));
    let sum: i64 = parts.iter().map(|part| i64::from(part.points)).sum();
    let is_known_good = matches!(device.state, DeviceState::Trusted | DeviceState::Enrolled);
    let score = if is_known_good {
        sum.clamp(0, i64::from(TRUST_SCORE_MAX))
    } else {
        0
    };
    let score = u8::try_from(score).unwrap_or(0);
    let is_compliant = failed.is_empty();
    DeviceTrust {
        score,
        is_compliant,
        is_trusted: device.state == DeviceState::Trusted && is_compliant && score >= weights.trusted_from,
        parts,
        same_for_us: age_us.and_then(|age_us| until_change(compliance, weights, age_us, posture, now_us)),
    }
}

/// Until the age of a report counts otherwise: at the next step, as long as another one costs
/// something, and where it becomes too old.
fn until_change(
    compliance: &Compliance,
    weights: &TrustWeights,
    age_us: i64,
    posture: Option<&Posture>,
    now_us: i64,
) -> Option<i64> {
    let reported_us = posture?.reported_us;
    let next_step_us = weights
        .steps(age_us)
        .saturating_add(1)
        .saturating_mul(weights.age_step_us);
    let next_step_us = (weights.of_age(age_us) < weights.of_age(next_step_us)).then_some(next_step_us);
    let too_old_us = compliance.posture_age_us_max.filter(|max_us| age_us < *max_us);
    let at_age_us = next_step_us.into_iter().chain(too_old_us).min()?;
    // By the report's time, which may lie ahead of a replica's clock.
    Some(reported_us.saturating_add(at_age_us).saturating_sub(now_us))
}

impl Compliance {
    fn asks_for_posture(&self) -> bool {
        *self != Self::default()
    }

    fn failed_by(&self, posture: Option<&Posture>, age_us: Option<i64>) -> Vec<Requirement> {
        let (Some(posture), Some(age_us)) = (posture, age_us) else {
            return self
                .asks_for_posture()
                .then_some(Requirement::Posture)
                .into_iter()
                .collect();
        };
        let os = match self.os_versions_min.get(&posture.os) {
            Some(least) => (posture.os_version < *least).then_some(Requirement::OsVersion),
            None => (!self.os_versions_min.is_empty()).then_some(Requirement::Os),
        };
        let disk = self.disk_encryption_required && !posture.is_disk_encrypted;
        let management = self.management_required && !posture.is_managed;
        let age = self.posture_age_us_max.is_some_and(|max_us| age_us >= max_us);
        [
            os,
            disk.then_some(Requirement::DiskEncryption),
            management.then_some(Requirement::Management),
            age.then_some(Requirement::PostureAge),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl TrustWeights {
    fn steps(&self, age_us: i64) -> i64 {
        age_us.checked_div(self.age_step_us).unwrap_or(i64::MAX)
    }

    fn of_age(&self, age_us: i64) -> i64 {
        let points = i64::from(self.age_points).saturating_mul(self.steps(age_us));
        points.min(self.age_points_max.into())
    }

    fn of_failures(&self, failures: u16) -> i64 {
        let points = i64::from(self.failure_points).saturating_mul(failures.into());
        points.min(self.failure_points_max.into())
    }
}

impl TrustComponent {
    fn of_state(state: DeviceState, weights: &TrustWeights) -> Self {
        let points = match state {
            DeviceState::Trusted => weights.trusted_points,
            DeviceState::Enrolled => weights.enrolled_points,
            DeviceState::Suspended | DeviceState::Retired => 0,
        };
        Self {
            points: points.into(),
            cause: TrustCause::State(state),
        }
    }
}

impl fmt::Display for TrustCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "the device is {}", state.as_str()),
            Self::NotCompliant(requirement) => requirement.fmt(f),
            Self::PostureAge(steps) => write!(f, "the last report is {steps} steps old"),
            Self::NoPosture => f.write_str("nothing was ever reported"),
            Self::Failures(failures) => write!(f, "{failures} checks failed"),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Posture => "nothing is known of what it has to comply with",
            Self::Os => "its operating system is none that complies",
            Self::OsVersion => "its operating system is too old",
            Self::DiskEncryption => "what it stores is not encrypted",
            Self::Management => "it is not under management",
            Self::PostureAge => "the last report is too old",
        })
    }
}

#[cfg(test)]
mod tests;
