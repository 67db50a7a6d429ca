//! What a principal has to prove itself with at a risk, and what its token shows of that.

use picket_model::access::Principal;
use picket_model::decision::StepUp;
use picket_model::risk::RiskLevel;

/// A factor of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Factor {
    /// A password.
    Password,
    /// A one-time code besides.
    OneTimeCode,
    /// A biometric or a hardware key besides.
    BiometricOrHardwareKey,
}

impl Factor {
    /// Its name in records and the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::OneTimeCode => "one_time_code",
            Self::BiometricOrHardwareKey => "biometric_or_hardware_key",
        }
    }

    /// The factors that a level requires.
    #[must_use]
    pub const fn required_at(level: RiskLevel) -> &'static [Self] {
        match level {
            RiskLevel::Low => &[Self::Password],
            RiskLevel::Medium => &[Self::Password, Self::OneTimeCode],
            RiskLevel::High => &[Self::Password, Self::OneTimeCode, Self::BiometricOrHardwareKey],
        }
    }
}

/// What asks for the factors of a level: authentication context classes that stand for them. A
/// level without is not enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactorSettings {
    /// Of each level, from the lowest.
    acr_values: [Vec<String>; RiskLevel::ALL.len()],
}

/// Factors that a token does not show, and how they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFactors {
    /// Which they are; never empty.
    pub factors: Vec<Factor>,
    /// The challenge.
    pub step_up: StepUp,
}

impl Factor {
    /// The reason for the caller where it is missing.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Password => "needs_password",
            Self::OneTimeCode => "needs_one_time_code",
            Self::BiometricOrHardwareKey => "needs_biometric_or_hardware_key",
        }
    }

    /// Whether an authentication method shows it (RFC 8176 §2). What is stronger than a one-time
    /// code stands for one.
    fn is_shown_by(self, method: &str) -> bool {
        match self {
            Self::Password => matches!(method, "pwd" | "pin"),
            Self::OneTimeCode => {
                matches!(method, "otp" | "sms" | "tel" | "swk" | "mfa")
                    || Self::BiometricOrHardwareKey.is_shown_by(method)
            }
            Self::BiometricOrHardwareKey => {
                matches!(method, "face" | "fpt" | "iris" | "retina" | "vbm" | "hwk" | "sc")
            }
        }
    }
}

impl FactorSettings {
    /// These classes for each level, from the lowest.
    #[must_use]
    pub fn new(acr_values: [Vec<String>; RiskLevel::ALL.len()]) -> Self {
        Self { acr_values }
    }

    /// Whether any level is enforced.
    #[must_use]
    pub fn are_enforced(&self) -> bool {
        self.acr_values.iter().any(|values| !values.is_empty())
    }

    /// What a principal would have to show besides at this level. A class of the level or of a
    /// higher one shows all of it: what the issuer means by it is between the issuer and whoever
    /// has configured it.
    #[must_use]
    pub fn missing(&self, level: RiskLevel, principal: &Principal) -> Option<MissingFactors> {
        let from_level = self.acr_values.get(level as usize..).unwrap_or_default();
        let asked_for = from_level.first().filter(|values| !values.is_empty())?;
        let has_class = principal
            .acr
            .as_ref()
            .is_some_and(|acr| from_level.iter().any(|values| values.contains(acr)));
        let is_missing = |factor: &&Factor| !principal.amr.iter().any(|method| factor.is_shown_by(method));
        let factors: Vec<Factor> = Factor::required_at(level).iter().filter(is_missing).copied().collect();
        if has_class || factors.is_empty() {
            return None;
        }
        // The configuration has checked the values.
        let step_up = StepUp::new(asked_for.clone(), None, false, false)?;
        Some(MissingFactors { factors, step_up })
    }
}
