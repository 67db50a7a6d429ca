//! Times as people read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time in microseconds since the epoch, by RFC 3339; one that no calendar has, as a number.
pub(crate) fn of_us(time_us: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us) * 1000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{time_us} us"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_rfc_3339_and_a_senseless_one_as_a_number() {
        assert_eq!(of_us(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert_eq!(of_us(i64::MAX), format!("{} us", i64::MAX));
    }
}
