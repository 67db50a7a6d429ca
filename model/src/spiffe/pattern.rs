//! Patterns of SPIFFE IDs, which match whole segments.

use std::str::FromStr;

use super::{SCHEME, SPIFFE_ID_BYTES_MAX, SpiffeId, TrustDomain, check_segment};

/// A SPIFFE ID in which `*` stands for any one segment, and `**` at the end for one or more:
/// `spiffe://example.org/ns/*/sa/web`, `spiffe://example.org/ns/shop/**`. The trust domain is always exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeIdPattern {
    trust_domain: TrustDomain,
    /// `None`: any one.
    segments: Vec<Option<Box<str>>>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The ID ends with the last segment.
    Here,
    /// One or more segments follow.
    Deeper,
}

/// Why a string is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a SPIFFE ID with a path, in which `*` may be a whole segment and `**` the last one")]
pub struct SpiffeIdPatternError;

impl SpiffeIdPattern {
    /// The name of the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.trust_domain.as_str()
    }

    /// Whether the whole ID is one of those that the pattern stands for.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        // The path begins with a slash, before which there is nothing.
        let mut have = id.path().split('/').skip(1);
        let mut wanted = self.segments.iter();
        let fits = wanted.all(|wanted| match (wanted, have.next()) {
            (None, Some(_)) => true,
            (Some(wanted), Some(have)) => **wanted == *have,
            (_, None) => false,
        });
        let ends = match self.end {
            End::Here => have.next().is_none(),
            End::Deeper => have.next().is_some(),
        };
        fits && ends && id.trust_domain() == self.trust_domain()
    }
}

impl FromStr for SpiffeIdPattern {
    type Err = SpiffeIdPatternError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdPatternError> {
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdPatternError)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(SpiffeIdPatternError)?;
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(SpiffeIdPatternError);
        }
        let mut segments: Vec<&str> = path.split('/').collect();
        let end = match segments.pop_if(|last| *last == "**") {
            Some(_) => End::Deeper,
            None => End::Here,
        };
        let segment = |segment: &str| match segment {
            "*" => Ok(None),
            exact => check_segment(exact).map(|()| Some(Box::from(exact))),
        };
        Ok(Self {
            trust_domain: trust_domain.parse().map_err(|_| SpiffeIdPatternError)?,
            segments: segments
                .into_iter()
                .map(segment)
                .collect::<Result<_, _>>()
                .map_err(|_| SpiffeIdPatternError)?,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let pattern: SpiffeIdPattern = pattern.parse().unwrap();
        for (ids, expected) in [(matching, true), (others, false)] {
            for id in ids {
                assert_eq!(pattern.matches(&id.parse().unwrap()), expected, "{pattern:?} {id}");
            }
        }
    }

    #[test]
    fn a_star_is_one_whole_segment() {
        check(
            "spiffe://e/ns/*/sa/web",
            &["spiffe://e/ns/shop/sa/web", "spiffe://e/ns/sa/sa/web"],
            &[
                "spiffe://e/ns/sa/web",
                "spiffe://e/ns/shop/x/sa/web",
                "spiffe://e/ns/shop/sa/web2",
                "spiffe://e/ns/shop/sa/web/x",
                "spiffe://e/ns/shop/sa",
                "spiffe://e.org/ns/shop/sa/web",
                "spiffe://e",
            ],
        );
        check("spiffe://e/*", &["spiffe://e/a"], &["spiffe://e", "spiffe://e/a/b"]);
    }

    #[test]
    fn two_stars_are_all_that_lies_below_a_segment() {
        check(
            "spiffe://e/ns/shop/**",
            &["spiffe://e/ns/shop/sa", "spiffe://e/ns/shop/sa/web"],
            &[
                "spiffe://e/ns/shop",
                "spiffe://e/ns/shopping/sa",
                "spiffe://e/ns",
                "spiffe://e/x/ns/shop/sa",
                "spiffe://f/ns/shop/sa",
            ],
        );
        check(
            "spiffe://e/**",
            &["spiffe://e/a", "spiffe://e/a/b"],
            &["spiffe://e", "spiffe://f/a"],
        );
    }

    #[test]
    fn without_a_star_it_is_the_id_itself() {
        check(
            "spiffe://e/a",
            &["spiffe://e/a"],
            &["spiffe://e/a/b", "spiffe://e/A", "spiffe://e"],
        );
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "",
            "*",
            "spiffe://*/a",
            "spiffe://e",
            "spiffe://e/",
            "spiffe://e/a/",
            "spiffe://e/a*",
            "spiffe://e/**/a",
            "spiffe://e/***",
            "spiffe://e//a",
            "spiffe://e/../a",
            "spiffe://E/a",
            "https://e/a",
            &format!("spiffe://e/{}", "a".repeat(SPIFFE_ID_BYTES_MAX - 10)),
        ] {
            assert_eq!(bad.parse::<SpiffeIdPattern>(), Err(SpiffeIdPatternError), "{bad}");
        }
    }
}
