//! Nonces of ours (RFC 9449 §8 and §9), without a table of those that were given out: each stands
//! for a window of time, and every worker that has the secret makes the same one for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_model::time::Timestamp;

use super::mac::{SharedSecret, Use};

/// 128 bits: nobody guesses the nonce of a window to come, and so nobody makes proofs for it now.
const NONCE_BYTES: usize = 16;

/// Makes nonces and knows them again.
#[derive(Clone, Debug)]
pub struct Nonces {
    secret: SharedSecret,
    window_ms: u64,
}

/// When a nonce was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceAge {
    /// In this window.
    Current,
    /// In the window before this one.
    Previous,
    /// Earlier, or never.
    Unknown,
}

impl Nonces {
    /// Nonces that are given out for `window_ms` milliseconds each, and taken for twice as long.
    #[must_use]
    pub fn new(secret: SharedSecret, window_ms: u64) -> Self {
        Self {
            secret,
            window_ms: window_ms.max(1),
        }
    }

    /// The nonce to give out at `now`: 22 characters of base64url, which RFC 9449 §8.1 allows.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> String {
        self.of_window(self.window(now))
    }

    /// How old a nonce is. Compared as it comes: whoever wants the nonce of a window is given it.
    #[must_use]
    pub fn age(&self, nonce: &str, now: Timestamp) -> NonceAge {
        let window = self.window(now);
        if nonce == self.of_window(window) {
            return NonceAge::Current;
        }
        match window.checked_sub(1) {
            Some(previous) if nonce == self.of_window(previous) => NonceAge::Previous,
            Some(_) | None => NonceAge::Unknown,
        }
    }

    fn window(&self, now: Timestamp) -> u64 {
        now.as_ms() / self.window_ms
    }

    fn of_window(&self, window: u64) -> String {
        let mac = self
            .secret
            .mac(Use::Nonce, &window.to_be_bytes(), &self.window_ms.to_be_bytes());
        let (nonce, _) = mac
            .split_first_chunk::<NONCE_BYTES>()
            .unwrap_or((&[0; NONCE_BYTES], &[]));
        URL_SAFE_NO_PAD.encode(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u64 = 60_000;

    fn nonces(secret: u8) -> Nonces {
        Nonces::new(SharedSecret::new([secret; 32]), WINDOW_MS)
    }

    #[test]
    fn a_nonce_is_good_for_its_window_and_the_next() {
        let start = Timestamp::from_ms(WINDOW_MS * 1000);
        let nonce = nonces(7).at(start);
        let age = |ms| nonces(7).age(&nonce, start.plus_ms(ms));
        assert_eq!(age(0), NonceAge::Current);
        assert_eq!(age(WINDOW_MS - 1), NonceAge::Current);
        assert_eq!(age(WINDOW_MS), NonceAge::Previous);
        assert_eq!(age(2 * WINDOW_MS - 1), NonceAge::Previous);
        assert_eq!(age(2 * WINDOW_MS), NonceAge::Unknown);
    }

    #[test]
    fn a_nonce_of_a_window_to_come_or_of_another_sidecar_is_none() {
        let now = Timestamp::from_ms(WINDOW_MS * 1000);
        for other in [
            nonces(7).at(now.plus_ms(WINDOW_MS)),
            nonces(8).at(now),
            Nonces::new(SharedSecret::new([7; 32]), WINDOW_MS + 1).at(now),
            String::new(),
            format!("{}=", nonces(7).at(now)),
        ] {
            assert_eq!(nonces(7).age(&other, now), NonceAge::Unknown, "{other}");
        }
    }

    /// RFC 9449 §8.1: `nonce = 1*NQCHAR`, visible ASCII without `"` and `\`.
    #[test]
    fn a_nonce_fits_into_its_header() {
        let nonce = nonces(7).at(Timestamp::from_ms(0));
        assert!(nonce.len() == 22 && nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        assert_eq!(nonces(7).age(&nonce, Timestamp::from_ms(0)), NonceAge::Current);
    }
}
