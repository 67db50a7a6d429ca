//! Fixed limits: bounds that no configuration changes, and that a user can meet. Each crate lists
//! its own beside the constants, for the reference.

/// A fixed limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What is bounded, as a phrase.
    pub subject: &'static str,
    /// The bound.
    pub value: u64,
    /// What the value counts.
    pub unit: LimitUnit,
    /// What happens beyond it, as a phrase.
    pub beyond: &'static str,
}

/// What the value of a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    /// The subject itself.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// The limits of one part, with its heading.
#[derive(Clone, Copy, Debug)]
pub struct LimitGroup {
    /// The part.
    pub title: &'static str,
    /// Its limits.
    pub limits: &'static [Limit],
}

impl Limit {
    /// A number of things.
    #[must_use]
    pub const fn count(subject: &'static str, value: u64, beyond: &'static str) -> Self {
        Self::new(subject, value, LimitUnit::Count, beyond)
    }

    /// A number of bytes.
    #[must_use]
    pub const fn bytes(subject: &'static str, value: u64, beyond: &'static str) -> Self {
        Self::new(subject, value, LimitUnit::Bytes, beyond)
    }

    /// A time in seconds.
    #[must_use]
    pub const fn seconds(subject: &'static str, value: u64, beyond: &'static str) -> Self {
        Self::new(subject, value, LimitUnit::Seconds, beyond)
    }

    /// A time in milliseconds.
    #[must_use]
    pub const fn milliseconds(subject: &'static str, value: u64, beyond: &'static str) -> Self {
        Self::new(subject, value, LimitUnit::Milliseconds, beyond)
    }

    const fn new(subject: &'static str, value: u64, unit: LimitUnit, beyond: &'static str) -> Self {
        Self {
            subject,
            value,
            unit,
            beyond,
        }
    }
}
