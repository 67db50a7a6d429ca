//! What a principal has to prove itself with at a risk, and what its token shows of that.

use picket_core::risk::RiskLevel;

/// What a principal has to prove itself with.
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

    /// What a level asks for.
    #[must_use]
    pub const fn required_at(level: RiskLevel) -> &'static [Self] {
        match level {
            RiskLevel::Low => &[Self::Password],
            RiskLevel::Medium => &[Self::Password, Self::OneTimeCode],
            RiskLevel::High => &[Self::Password, Self::OneTimeCode, Self::BiometricOrHardwareKey],
        }
    }
}
