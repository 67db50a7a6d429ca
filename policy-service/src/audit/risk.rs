//! What a record says about the risk of a request.

use serde::{Deserialize, Serialize};

use crate::risk::{Assessment, Factor, Fired, Mode};

/// The risk, and every signal that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskRecord {
    /// 0 to 100.
    pub score: u8,
    /// `low`, `medium` or `high`.
    pub level: String,
    /// `learning`: nothing was decided by it.
    pub mode: RiskModeRecord,
    /// What the principal has to prove itself with at that level.
    pub factors: Vec<String>,
    /// What was unusual; none for what was not.
    pub signals: Vec<SignalRecord>,
}

/// Whether a score counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskModeRecord {
    /// It was recorded, and that is all.
    Learning,
    /// Policies saw it, and validity shrank with it.
    Effective,
}

/// One thing that was unusual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    /// Its name.
    pub signal: String,
    /// Why, in words and figures.
    pub explanation: String,
}

impl From<Assessment> for RiskRecord {
    fn from(assessment: Assessment) -> Self {
        let factors: &[Factor] = assessment.factors;
        Self {
            score: assessment.risk.score,
            level: assessment.risk.level.name().to_owned(),
            mode: match assessment.mode {
                Mode::Learning => RiskModeRecord::Learning,
                Mode::Effective => RiskModeRecord::Effective,
            },
            factors: factors.iter().map(|factor| factor.name().to_owned()).collect(),
            signals: assessment.signals.into_iter().map(SignalRecord::from).collect(),
        }
    }
}

impl From<Fired> for SignalRecord {
    fn from(fired: Fired) -> Self {
        Self {
            signal: fired.signal.name().to_owned(),
            explanation: fired.explanation,
        }
    }
}
