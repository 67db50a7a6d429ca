//! What a record says about the risk of a request.

use picket_model::decision::Vary;
use picket_model::risk::{Risk, RiskLevel, SCORE_MAX};
use serde::{Deserialize, Serialize};

use picket_risk::{Assessment, Country, DetectedSignal, Factor, RiskMode, Signal};

/// The risk, and every signal that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskRecord {
    /// 0 to 100.
    pub score: u8,
    /// `low`, `medium` or `high`.
    pub level: String,
    /// `learning`: nothing was decided by it.
    pub mode: RiskModeRecord,
    /// The factors of authentication that the level requires.
    pub factors: Vec<String>,
    /// The signals; empty where nothing is unusual.
    pub signals: Vec<SignalRecord>,
    /// Where the request came from. Absent where it is not known, and in records from before it was
    /// kept.
    #[serde(default)]
    pub country: Option<String>,
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

impl RiskRecord {
    /// The assessment as policies saw it; `None` where it holds what this program does not know.
    #[must_use]
    pub fn assessment(&self) -> Option<Assessment> {
        let level = RiskLevel::ALL.into_iter().find(|level| level.name() == self.level)?;
        let signals = self.signals.iter().map(|recorded| {
            Some(DetectedSignal {
                signal: Signal::from_name(&recorded.signal)?,
                explanation: recorded.explanation.clone(),
            })
        });
        Some(Assessment {
            risk: Risk {
                score: Some(self.score).filter(|score| *score <= SCORE_MAX)?,
                level,
            },
            factors: Factor::required_at(level),
            signals: signals.collect::<Option<_>>()?,
            country: match &self.country {
                Some(country) => Some(Country::try_from(country.clone()).ok()?),
                None => None,
            },
            // What was looked at for it is not recorded.
            vary: Vary::EVERYTHING,
            mode: match self.mode {
                RiskModeRecord::Learning => RiskMode::Learning,
                RiskModeRecord::Effective => RiskMode::Effective,
            },
        })
    }
}

impl From<Assessment> for RiskRecord {
    fn from(assessment: Assessment) -> Self {
        let Assessment {
            risk: Risk { score, level },
            factors,
            signals,
            country,
            // It says what answers depend on, not how unusual a request is.
            vary: _,
            mode,
        } = assessment;
        Self {
            score,
            level: level.name().to_owned(),
            mode: match mode {
                RiskMode::Learning => RiskModeRecord::Learning,
                RiskMode::Effective => RiskModeRecord::Effective,
            },
            factors: factors.iter().map(|factor| factor.name().to_owned()).collect(),
            signals: signals.into_iter().map(SignalRecord::from).collect(),
            country: country.map(String::from),
        }
    }
}

impl From<DetectedSignal> for SignalRecord {
    fn from(fired: DetectedSignal) -> Self {
        let DetectedSignal { signal, explanation } = fired;
        Self {
            signal: signal.name().to_owned(),
            explanation,
        }
    }
}
