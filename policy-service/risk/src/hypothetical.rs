//! A risk that a test assumes, so that policies about risk can be tested without baselines.

use picket_model::decision::{Attribute, Vary};
use picket_model::risk::{Risk, SCORE_MAX};

use super::assessment::{Assessment, DetectedSignal, RiskMode, Signal};
use super::factors::Factor;
use super::places::Country;
use super::settings::Levels;

/// An assumed score with its signals. The level follows from the score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypotheticalRisk {
    score: u8,
    signals: Vec<Signal>,
    country: Option<Country>,
}

/// A risk that no request can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HypotheticalRiskError {
    /// It is beyond the highest score.
    #[error("expected a score of 0 to {SCORE_MAX}, found {0}")]
    Score(u64),
    /// Each signal is there or not.
    #[error("`{}` is there twice", .0.name())]
    Twice(Signal),
}

impl HypotheticalRisk {
    /// A score with signals, which may be in any order.
    ///
    /// # Errors
    /// No request is scored like this.
    pub fn new(score: u64, mut signals: Vec<Signal>) -> Result<Self, HypotheticalRiskError> {
        let Some(score) = u8::try_from(score).ok().filter(|score| *score <= SCORE_MAX) else {
            return Err(HypotheticalRiskError::Score(score));
        };
        signals.sort_unstable();
        match signals.windows(2).find(|pair| pair.first() == pair.last()) {
            Some([signal, ..]) => Err(HypotheticalRiskError::Twice(*signal)),
            Some([]) | None => Ok(Self {
                score,
                signals,
                country: None,
            }),
        }
    }

    /// The same for a request from a country.
    #[must_use]
    pub fn in_country(self, country: Option<Country>) -> Self {
        Self { country, ..self }
    }

    /// The assessment of a service with these levels.
    #[must_use]
    pub fn assessment(&self, levels: Levels) -> Assessment {
        let level = levels.of(self.score);
        let stated = |signal: &Signal| DetectedSignal {
            signal: *signal,
            explanation: "stated".to_owned(),
        };
        Assessment {
            risk: Risk {
                score: self.score,
                level,
            },
            factors: Factor::required_at(level),
            signals: self.signals.iter().map(stated).collect(),
            country: self.country,
            // All that any kind of signal looks at: which are switched on, nobody has said.
            vary: [
                Attribute::Peer,
                Attribute::Method,
                Attribute::SourceAddress,
                Attribute::UserAgent,
            ]
            .into_iter()
            .collect::<Vary>(),
            mode: RiskMode::Effective,
        }
    }
}
