//! Durations as a person writes them: `90s`, `5m`, `1h`, `30d`.

use std::time::Duration;

/// The longest duration that is accepted: 100 years, well within what certificates and tokens can carry.
pub const DURATION_DAYS_MAX: u64 = 36_500;
const DAY_S: u64 = 24 * 60 * 60;

/// Why a string is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number, no unit, or a unit that does not exist.
    #[error("expected a whole number and a unit, such as `90s`, `5m`, `1h` or `30d`")]
    Form,
    /// Over [`DURATION_DAYS_MAX`].
    #[error("expected at most 36500d")]
    TooLong,
}

/// Reads a duration.
///
/// # Errors
/// The string is not a whole number followed by `s`, `m`, `h` or `d`, or is over [`DURATION_DAYS_MAX`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unit = text.chars().last().ok_or(DurationError::Form)?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => DAY_S,
        _ => return Err(DurationError::Form),
    };
    let digits = text.strip_suffix(unit).ok_or(DurationError::Form)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::Form);
    }
    let seconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_s))
        .filter(|seconds| *seconds <= DURATION_DAYS_MAX * DAY_S)
        .ok_or(DurationError::TooLong)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<u64, DurationError>) {
        assert_eq!(parse(text).map(|d| d.as_secs()), expected, "{text}");
    }

    #[test]
    fn reads_each_unit() {
        check("90s", Ok(90));
        check("5m", Ok(300));
        check("1h", Ok(3600));
        check("30d", Ok(30 * 86_400));
        check("0s", Ok(0));
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", "5", "m", "-5m", "+5m", "5 m", "1.5h", "5min", "5µ"] {
            check(text, Err(DurationError::Form));
        }
    }

    #[test]
    fn holds_the_limit() {
        check("36500d", Ok(36_500 * 86_400));
        check("36501d", Err(DurationError::TooLong));
        check("99999999999999999999d", Err(DurationError::TooLong));
    }
}
