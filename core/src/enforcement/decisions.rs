//! The decision cache: what the policy service answered, for as long as it said, to exactly the same question.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;

use super::identity::Identity;
use super::user_agent;
use crate::cache::Cache;
use crate::decision::Decision;
use crate::request::RequestHead;
use crate::route::RouteMatch;
use crate::time::Timestamp;
use crate::token::VerifiedToken;

/// No answer is kept longer, whatever it says of itself.
const DECISION_VALIDITY_MS_MAX: u64 = 3_600_000;

/// A longer key, which is a client's long path, is not cached: the number of entries then bounds the memory as well.
const KEY_BYTES_MAX: usize = 2048;

/// Whether the cache had the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheUse {
    /// It had.
    Hit,
    /// It had not.
    Miss,
}

/// Everything that the policy service is told about a request but its ids, so that one key is one question.
///
/// INVARIANT: two requests with equal keys make access requests that differ in request id and traceparent alone. The
/// token stands for all that the principal says; rule and path for path parameters and classification.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DecisionKey(Box<[u8]>);

#[derive(Debug)]
pub(super) struct DecisionCache(Cache<DecisionKey, Rc<Decision>>);

impl DecisionKey {
    pub(super) fn new(
        route: &RouteMatch<'_, '_>,
        head: &RequestHead<'_>,
        identity: &Identity,
        source_address: Option<IpAddr>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(route.rule.to_le_bytes());
        // Serials begin at 1.
        bytes.extend(identity.token.as_ref().map_or(0, |token| token.serial).to_le_bytes());
        match source_address {
            None => bytes.push(0),
            Some(IpAddr::V4(address)) => {
                bytes.push(4);
                bytes.extend(address.octets());
            }
            Some(IpAddr::V6(address)) => {
                bytes.push(6);
                bytes.extend(address.octets());
            }
        }
        let peer = identity.peer_id().map_or("", |id| id.as_str());
        for text in [
            peer,
            head.method,
            &head.host,
            &head.target.path,
            user_agent(head).unwrap_or_default(),
        ] {
            bytes.extend(text.len().to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        Self(bytes.into_boxed_slice())
    }
}

impl DecisionCache {
    pub(super) fn new(entries_max: NonZeroUsize, seed: u64) -> Self {
        Self(Cache::new(entries_max, seed))
    }

    pub(super) fn get(&mut self, key: &DecisionKey, now: Timestamp) -> Option<Rc<Decision>> {
        self.0.get(key, now).map(Rc::clone)
    }

    /// Keeps an answer from the time of the question, as it may have been made at any time since, and never beyond the
    /// end of the token that it was about.
    pub(super) fn put(
        &mut self,
        key: DecisionKey,
        decision: &Rc<Decision>,
        asked_at: Timestamp,
        token: Option<&VerifiedToken>,
    ) {
        if decision.valid_for_ms == 0 || key.0.len() > KEY_BYTES_MAX {
            return;
        }
        let valid_until = asked_at.plus_ms(u64::from(decision.valid_for_ms).min(DECISION_VALIDITY_MS_MAX));
        let ends_at = token.map_or(valid_until, |token| valid_until.min(token.ends_at));
        self.0.put(key, Rc::clone(decision), ends_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Principal;
    use crate::decision::Effect;

    fn token(ends_at_ms: u64) -> VerifiedToken {
        let principal = Principal {
            issuer: "i".into(),
            subject: "s".into(),
            tenant: None,
            roles: vec![],
            scopes: vec![],
            acr: None,
            amr: vec![],
            auth_time_s: None,
            session_id: None,
            token_id: None,
            issued_at_s: None,
            expires_at_s: 0,
        };
        VerifiedToken {
            serial: 1,
            principal: Rc::new(principal),
            identity_headers: vec![],
            starts_at: Timestamp::from_ms(0),
            ends_at: Timestamp::from_ms(ends_at_ms),
        }
    }

    /// Until when an answer about a token that ends then is kept, in milliseconds after the question.
    fn kept_for_ms(valid_for_ms: u32, token_ends_at_ms: u64) -> u64 {
        let decision = Rc::new(Decision {
            effect: Effect::Permit,
            decision_id: "d".into(),
            policy_revision: "p".into(),
            valid_for_ms,
            policy_ids: vec![],
            caller_reasons: vec![],
        });
        let mut cache = DecisionCache::new(NonZeroUsize::MIN, 1);
        let key = DecisionKey(Box::new([1]));
        cache.put(
            key.clone(),
            &decision,
            Timestamp::from_ms(0),
            Some(&token(token_ends_at_ms)),
        );
        let is_kept = |ms: &u64| cache.get(&key, Timestamp::from_ms(*ms)).is_some();
        [0, 999, 1_000, 1_999, 2_000, 3_599_999, 3_600_000]
            .into_iter()
            .filter(is_kept)
            .max()
            .map_or(0, |ms| ms + 1)
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_its_validity_its_token_and_an_hour() {
        assert_eq!(kept_for_ms(2_000, 9_000_000), 2_000);
        assert_eq!(kept_for_ms(2_000, 1_000), 1_000);
        assert_eq!(kept_for_ms(u32::MAX, 9_000_000), 3_600_000);
        assert_eq!(kept_for_ms(0, 9_000_000), 0);
    }
}
