//! When a proof is good: for a while after it was made, and not outside what it says of itself.

use picket_model::strict_json::{Json, Members};
use picket_model::time::Timestamp;

/// The year 9999: what no clock shows is no time.
const NUMERIC_DATE_MS_MAX: u64 = 253_402_300_799_999;

/// The times in a proof's claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProofTimes {
    /// `iat`, which every proof has.
    pub(crate) issued_at: Timestamp,
    /// `exp` (RFC 7519 §4.1.4).
    expires_at: Option<Timestamp>,
    /// `nbf` (RFC 7519 §4.1.5).
    starts_at: Option<Timestamp>,
}

/// Why a proof is not good now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofTimeError {
    /// It was made too long ago.
    TooOld,
    /// `iat` or `nbf` lies in the future.
    InTheFuture(&'static str),
    /// `exp` has passed.
    Expired,
}

impl ProofTimes {
    /// Reads the claims.
    ///
    /// # Errors
    /// The claim that is no time, or `iat` where it is absent.
    pub(crate) fn read(claims: &Members<'_>) -> Result<Self, &'static str> {
        Ok(Self {
            issued_at: numeric_date(claims, "iat", f64::ceil)?.ok_or("iat")?,
            expires_at: numeric_date(claims, "exp", f64::floor)?,
            starts_at: numeric_date(claims, "nbf", f64::ceil)?,
        })
    }

    /// Whether the proof is good at `now`, with a tolerance for the clock of whoever made it.
    ///
    /// # Errors
    /// [`ProofTimeError`].
    pub(crate) fn check(&self, now: Timestamp, skew_ms: u64, age_ms_max: u64) -> Result<(), ProofTimeError> {
        let latest = now.plus_ms(skew_ms);
        if self.issued_at > latest {
            return Err(ProofTimeError::InTheFuture("iat"));
        }
        if now >= self.issued_at.plus_ms(age_ms_max) {
            return Err(ProofTimeError::TooOld);
        }
        if self.starts_at.is_some_and(|starts_at| starts_at > latest) {
            return Err(ProofTimeError::InTheFuture("nbf"));
        }
        match self.expires_at {
            Some(expires_at) if now >= expires_at.plus_ms(skew_ms) => Err(ProofTimeError::Expired),
            Some(_) | None => Ok(()),
        }
    }
}

/// RFC 7519 §2 NumericDate. What is finer than a millisecond is rounded so that the proof is good
/// no longer.
fn numeric_date(
    claims: &Members<'_>,
    name: &'static str,
    round: fn(f64) -> f64,
) -> Result<Option<Timestamp>, &'static str> {
    let ms = match claims.get(name) {
        None => return Ok(None),
        Some(Json::Number(number)) => match number.as_i64() {
            Some(seconds) => u64::try_from(seconds)
                .ok()
                .and_then(|seconds| seconds.checked_mul(1000)),
            None => number
                .as_f64()
                .and_then(|seconds| format!("{:.0}", round(seconds * 1000.0)).parse().ok()),
        },
        Some(Json::Null | Json::Bool(_) | Json::String(_) | Json::Array(_) | Json::Object(_)) => None,
    };
    match ms.filter(|ms| *ms <= NUMERIC_DATE_MS_MAX) {
        Some(ms) => Ok(Some(Timestamp::from_ms(ms))),
        None => Err(name),
    }
}

#[cfg(test)]
mod tests {
    use picket_model::strict_json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const IN_THE_FUTURE: fn(&'static str) -> Checked = |name| Err(ProofTimeError::InTheFuture(name));
    const EXPIRED: Checked = Err(ProofTimeError::Expired);

    type Checked = Result<(), ProofTimeError>;

    fn read(claims: &str) -> Result<ProofTimes, &'static str> {
        let Ok(Json::Object(members)) = strict_json::borrow(claims.as_bytes()) else {
            panic!("{claims}")
        };
        ProofTimes::read(&members)
    }

    #[test]
    fn a_proof_is_good_within_all_of_its_times() {
        for (claims, skew_ms, expected) in [
            (r#"{"iat": 1800000000}"#, 0, Ok(())),
            (r#"{"iat": 1800000001}"#, 1000, Ok(())),
            (r#"{"iat": 1800000001}"#, 999, IN_THE_FUTURE("iat")),
            (r#"{"iat": 1800000000.9}"#, 0, IN_THE_FUTURE("iat")),
            (r#"{"iat": 1800000000.0001}"#, 0, IN_THE_FUTURE("iat")),
            (r#"{"iat": 1799999940.001}"#, 0, Ok(())),
            (r#"{"iat": 1799999940}"#, 60_000, Err(ProofTimeError::TooOld)),
            (r#"{"iat": 1800000000, "exp": 1800000000}"#, 0, EXPIRED),
            (r#"{"iat": 1800000000, "exp": 1800000000.0001}"#, 0, EXPIRED),
            (r#"{"iat": 1800000000, "exp": 1800000000.5}"#, 0, Ok(())),
            (r#"{"iat": 1800000000, "exp": 1799999996}"#, 5000, Ok(())),
            (r#"{"iat": 1800000000, "exp": 1799999995}"#, 5000, EXPIRED),
            (r#"{"iat": 1800000000, "exp": 0}"#, 5000, EXPIRED),
            (r#"{"iat": 1800000000, "nbf": 1800000000}"#, 0, Ok(())),
            (r#"{"iat": 1800000000, "nbf": 1800000000.9}"#, 0, IN_THE_FUTURE("nbf")),
            (r#"{"iat": 1800000000, "nbf": 1800000005}"#, 5000, Ok(())),
            (r#"{"iat": 1800000000, "nbf": 1800000006}"#, 5000, IN_THE_FUTURE("nbf")),
        ] {
            assert_eq!(read(claims).unwrap().check(NOW, skew_ms, 60_000), expected, "{claims}");
        }
    }

    #[test]
    fn what_is_no_time_is_named() {
        for (claims, name) in [
            (r#"{}"#, "iat"),
            (r#"{"iat": null}"#, "iat"),
            (r#"{"iat": "1800000000"}"#, "iat"),
            (r#"{"iat": -1}"#, "iat"),
            (r#"{"iat": -0.5}"#, "iat"),
            (r#"{"iat": 253402300800}"#, "iat"),
            (r#"{"iat": 1e300}"#, "iat"),
            (r#"{"iat": 18446744073709551615}"#, "iat"),
            (r#"{"iat": 1, "exp": null}"#, "exp"),
            (r#"{"iat": 1, "exp": "2"}"#, "exp"),
            (r#"{"iat": 1, "exp": [2]}"#, "exp"),
            (r#"{"iat": 1, "exp": -2}"#, "exp"),
            (r#"{"iat": 1, "nbf": false}"#, "nbf"),
            (r#"{"iat": 1, "nbf": 9e15}"#, "nbf"),
        ] {
            assert_eq!(read(claims), Err(name), "{claims}");
        }
    }
}
