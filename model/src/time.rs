//! Points in time, given from outside: nothing here reads a clock.

const US_PER_MS: u64 = 1_000;
const US_PER_S: u64 = 1_000_000;

/// A point in time: microseconds since the epoch. What lies before the epoch is the epoch, and what lies beyond the last
/// microsecond is [`Timestamp::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch: 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The last point in time, which stands for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(US_PER_MS))
    }

    /// From seconds since the epoch, as tokens have them (NumericDate, RFC 7519 §2).
    #[must_use]
    pub const fn from_s(seconds: i64) -> Self {
        if seconds < 0 {
            return Self::EPOCH;
        }
        Self(seconds.unsigned_abs().saturating_mul(US_PER_S))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_us(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / US_PER_MS
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_s(self) -> i64 {
        (self.0 / US_PER_S).cast_signed()
    }

    /// Later by a number of microseconds.
    #[must_use]
    pub const fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Later by a number of milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        self.plus_us(ms.saturating_mul(US_PER_MS))
    }

    /// Later by a number of seconds.
    #[must_use]
    pub const fn plus_s(self, seconds: u64) -> Self {
        self.plus_us(seconds.saturating_mul(US_PER_S))
    }

    /// Earlier by a number of microseconds.
    #[must_use]
    pub const fn minus_us(self, us: u64) -> Self {
        Self(self.0.saturating_sub(us))
    }

    /// Earlier by a number of seconds.
    #[must_use]
    pub const fn minus_s(self, seconds: u64) -> Self {
        self.minus_us(seconds.saturating_mul(US_PER_S))
    }

    /// Microseconds from `earlier` to this; 0 where `earlier` is later.
    #[must_use]
    pub const fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_converted_with_saturation() {
        assert_eq!(Timestamp::from_s(3), Timestamp::from_ms(3_000));
        assert_eq!(Timestamp::from_ms(3), Timestamp::from_us(3_000));
        assert_eq!(Timestamp::from_s(-1), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_s(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.plus_us(1), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.minus_s(1), Timestamp::EPOCH);
        let time = Timestamp::from_us(1_234_567_899);
        assert_eq!(
            (time.as_us(), time.as_ms(), time.as_s()),
            (1_234_567_899, 1_234_567, 1_234)
        );
        assert_eq!(time.us_since(time.minus_us(5)), 5);
        assert_eq!(time.minus_us(5).us_since(time), 0);
    }
}
