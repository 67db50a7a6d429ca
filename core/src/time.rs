//! Points in time, given from outside: nothing here reads a clock.

/// Milliseconds since the epoch, as the edge's clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// From seconds since the epoch; what lies before it or beyond all clocks is taken for the nearest end.
    #[must_use]
    pub fn from_s(seconds: i64) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub fn as_s(self) -> i64 {
        i64::try_from(self.0 / 1000).unwrap_or(i64::MAX)
    }

    /// Later by so many milliseconds, or the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}
