//! Risk, as a decision carries it: a score and its level.

/// The highest score.
pub const SCORE_MAX: u8 = 100;

/// How much a score asks for. The thresholds are the policy service's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RiskLevel {
    /// Nothing, or little, is unusual.
    Low,
    /// Something is.
    Medium,
    /// So much is that the request is likely not the principal's own.
    High,
}

/// How risky a request was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Risk {
    /// 0 to [`SCORE_MAX`].
    pub score: u8,
    /// The level of that score.
    pub level: RiskLevel,
}

impl RiskLevel {
    /// Every level, from the lowest.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Its name in policies, records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}
