//! The decision cache: decisions of the policy service, each valid for as long as it says, for
//! requests that are equal in every attribute that the decision could depend on.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;

use picket_model::access::{AccessRequest, Action, Context, Possession, Resource, Sidecar};
use picket_model::decision::{Attribute, Decision, Vary};
use picket_model::spiffe::SpiffeId;
use picket_model::time::Timestamp;

use super::Refusal;
use super::identity::Identity;
use super::tokens::Tokens;
use crate::cache::Cache;
use crate::header_value;
use crate::request::RequestHead;
use crate::route::RuleIndex;

/// The longest validity of a cached decision, whatever the decision says.
pub(crate) const DECISION_VALIDITY_MS_MAX: u64 = 3_600_000;

/// A decision with a longer key, such as one with a long path, is not cached: so the number of
/// entries bounds the memory.
const KEY_BYTES_MAX: usize = 2048;

/// The capacity that nearly all keys need, so that writing one allocates once.
const KEY_BYTES_USUAL: usize = 256;

/// The result of a look-up in the decision cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheUse {
    /// The decision was cached.
    Hit,
    /// It was not.
    Miss,
}

/// The key of a decision: route rule, tokens, and the values of the attributes that it may depend
/// on.
///
/// INVARIANT: two requests with equal keys make access requests that differ at most in request id,
/// traceparent, and attributes that are not in the key's [`Vary`]. The tokens stand for all that
/// the principal says, the rule for the classification, the path for its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DecisionKey(Vec<u8>);

// Where a key has each attribute of an access request. The compiler refuses this when there is
// another one.
const _: fn(&AccessRequest) = |request| {
    let AccessRequest {
        // Another one for each request: policies do not see them.
        request_id: _,
        traceparent: _,
        // One for each cache.
        sidecar: Sidecar {
            node_id: _,
            workload: _,
        },
        // Every key has the rule, and the serial of each token.
        route_rule: _,
        principal: _,
        further_tokens: _,
        // `Attribute::Peer`
        peer: _,
        // `Attribute::Method`
        action: Action { method: _ },
        resource:
            Resource {
                // `Attribute::Host`
                host: _,
                // `Attribute::Path`
                path: _,
                path_parameters: _,
                // From the rule.
                classification: _,
                security_zone: _,
                tenant: _,
            },
        context:
            Context {
                // `Attribute::SourceAddress`
                source_address: _,
                // `Attribute::UserAgent`
                user_agent: _,
                // `Attribute::Device`
                possession: Possession { certificate: _, key: _ },
            },
    } = request;
};

/// Decisions, and for each route rule the attributes that the last decision depended on. A request
/// is looked up by these.
///
/// A decision that depends on other attributes than the last one of its rule is not found, and is
/// requested again.
#[derive(Debug)]
pub(super) struct DecisionCache {
    decisions: Cache<DecisionKey, Rc<PreparedDecision>>,
    vary: Vec<Vary>,
}

/// A decision, prepared for the requests that it permits.
#[derive(Debug)]
pub(super) struct PreparedDecision {
    pub(super) decision: Decision,
    /// Its id as a header's value.
    pub(super) id_header: Rc<str>,
    /// Its obligations as a header's value; `None`: there are none.
    pub(super) obligations_header: Option<Rc<str>>,
}

impl DecisionKey {
    /// # Errors
    /// A refusal where an attribute is present and cannot be read.
    pub(super) fn new(
        vary: Vary,
        rule: RuleIndex,
        head: &RequestHead<'_>,
        identity: &Identity<'_>,
    ) -> Result<Self, Refusal> {
        let serials = identity.tokens.iter().map(|token| token.serial.to_le_bytes());
        let rule = u64::try_from(rule).unwrap_or(u64::MAX);
        let mut key = KeyBytes::new(vary, rule.to_le_bytes(), serials, KEY_BYTES_USUAL);
        for attribute in key.vary.attributes() {
            match attribute {
                Attribute::Peer => {
                    let peer = identity.peer_for_policies()?;
                    key.push(peer.map_or("", SpiffeId::as_str).as_bytes());
                }
                Attribute::Method => key.push(head.method.as_bytes()),
                Attribute::Host => key.push(head.host.as_bytes()),
                Attribute::Path => key.push(head.target.path.as_bytes()),
                Attribute::SourceAddress => match identity.source_for_policies()? {
                    None => key.push(&[]),
                    Some(IpAddr::V4(address)) => key.push(&address.octets()),
                    Some(IpAddr::V6(address)) => key.push(&address.octets()),
                },
                Attribute::UserAgent => key.push(head.user_agent().unwrap_or_default().as_bytes()),
                Attribute::Device => {
                    identity.peer_for_policies()?;
                    key.push_possession(identity.possession());
                }
            }
        }
        Ok(key.finish())
    }

    /// The key of the same request under fewer attributes. `None`: this key lacks one of them.
    fn narrowed(&self, vary: Vary) -> Option<Self> {
        let (have, rest) = self.0.split_first()?;
        let (rule, rest) = rest.split_first_chunk::<8>()?;
        let (tokens, rest) = rest.split_first()?;
        let (serials, mut rest) = rest.split_at_checked(usize::from(*tokens).saturating_mul(8))?;
        // It is no longer than this one.
        let mut key = KeyBytes::new(vary, *rule, serials.as_chunks().0.iter().copied(), self.0.len());
        let mut wanted = key.vary.attributes().peekable();
        for attribute in Vary::from_bits(*have).attributes() {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            rest = after;
            if wanted.next_if_eq(&attribute).is_some() {
                key.push(value);
            }
        }
        wanted.next().is_none().then(|| key.finish())
    }
}

/// A key under construction.
struct KeyBytes {
    bytes: Vec<u8>,
    vary: Vary,
}

impl KeyBytes {
    /// Before the attributes: vary, rule, how many tokens there are, and the serial of each.
    fn new(vary: Vary, rule: [u8; 8], serials: impl Iterator<Item = [u8; 8]> + Clone, capacity: usize) -> Self {
        let tokens = u8::try_from(serials.clone().count()).unwrap_or(u8::MAX);
        // Without a token the peer is the principal, which every policy sees.
        let vary = if tokens == 0 { vary.with(Attribute::Peer) } else { vary };
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(vary.bits());
        bytes.extend(rule);
        bytes.push(tokens);
        serials.for_each(|serial| bytes.extend(serial));
        Self { bytes, vary }
    }

    fn push(&mut self, value: &[u8]) {
        // Every value is shorter by far: the target and the headers have limits.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(value);
    }

    /// Which of the two thumbprints there are, and those.
    fn push_possession(&mut self, possession: Possession) {
        let certificate = possession.certificate.map(|thumbprint| thumbprint.0);
        let key = possession.key.map(|thumbprint| thumbprint.0);
        let mut value = Vec::with_capacity(1 + 32 + 32);
        value.push(u8::from(certificate.is_some()) | u8::from(key.is_some()) << 1);
        value.extend(certificate.into_iter().flatten());
        value.extend(key.into_iter().flatten());
        self.push(&value);
    }

    fn finish(self) -> DecisionKey {
        DecisionKey(self.bytes)
    }
}

impl DecisionCache {
    pub(super) fn new(entries_max: NonZeroUsize, rules: usize, seed: u64) -> Self {
        Self {
            decisions: Cache::new(entries_max, seed),
            vary: vec![Vary::EVERYTHING; rules],
        }
    }

    /// The attributes by which the next decision of this rule is likely cached.
    pub(super) fn vary(&self, rule: RuleIndex) -> Vary {
        self.vary.get(rule).copied().unwrap_or(Vary::EVERYTHING)
    }

    pub(super) fn get(&mut self, key: &DecisionKey, now: Timestamp) -> Option<Rc<PreparedDecision>> {
        self.decisions.get(key, now).map(Rc::clone)
    }

    /// How many decisions were evicted before they expired, since the last call.
    pub(super) fn take_evictions(&mut self) -> u64 {
        self.decisions.take_evictions()
    }

    /// Caches a decision. Its validity begins when it was requested, as it may have been made at
    /// any time since, and never exceeds that of a token of the request. `question` has every
    /// attribute.
    pub(super) fn put(
        &mut self,
        rule: RuleIndex,
        question: &DecisionKey,
        known: &Rc<PreparedDecision>,
        asked_at: Timestamp,
        tokens: &Tokens,
    ) {
        let decision = &known.decision;
        if decision.valid_for_ms == 0 {
            return;
        }
        let Some(mut key) = question
            .narrowed(decision.vary)
            .filter(|key| key.0.len() <= KEY_BYTES_MAX)
        else {
            return;
        };
        if let Some(vary) = self.vary.get_mut(rule) {
            *vary = decision.vary;
        }
        let valid_until = asked_at.plus_ms(u64::from(decision.valid_for_ms).min(DECISION_VALIDITY_MS_MAX));
        let ends_at = tokens.ends_at().map_or(valid_until, |end| valid_until.min(end));
        // A key for a look-up is dropped at once; a cached one takes no more memory than it needs.
        key.0.shrink_to_fit();
        self.decisions.put(key, Rc::clone(known), ends_at, asked_at);
    }
}

impl From<Decision> for PreparedDecision {
    fn from(decision: Decision) -> Self {
        Self {
            id_header: Rc::from(header_value::encode(&decision.decision_id)),
            obligations_header: (!decision.obligations.is_empty()).then(|| Rc::from(decision.obligations.join(","))),
            decision,
        }
    }
}

#[cfg(test)]
mod tests {
    use picket_model::access::Principal;
    use picket_model::decision::Effect;
    use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};

    use super::*;
    use crate::token::VerifiedToken;
    use crate::token::confirmation::Confirmation;
    use crate::token::credential::SourceSet;

    fn token(ends_at_ms: u64) -> Rc<VerifiedToken> {
        let principal = Principal {
            issuer: "i".into(),
            subject: "s".into(),
            expires_at_s: Some(0),
            ..Principal::default()
        };
        Rc::new(VerifiedToken {
            serial: 1,
            provider: 0,
            sources: SourceSet::default(),
            confirmation: Confirmation::default(),
            fetched_key: None,
            unread_claims: Box::default(),
            condition_claims: Box::default(),
            principal: Rc::new(principal),
            identity_headers: vec![],
            principal_headers: 0,
            starts_at: Timestamp::from_ms(0),
            ends_at: Timestamp::from_ms(ends_at_ms),
        })
    }

    fn key_bytes(vary: Vary, serials: &[u64]) -> KeyBytes {
        KeyBytes::new(
            vary,
            3_u64.to_le_bytes(),
            serials.iter().map(|serial| serial.to_le_bytes()),
            KEY_BYTES_USUAL,
        )
    }

    /// Until when an answer about tokens that end then is kept, in milliseconds after the question.
    fn kept_for_ms(valid_for_ms: u32, tokens_end_at_ms: [u64; 2]) -> u64 {
        let decision = Decision {
            effect: Effect::Permit,
            decision_id: "d".into(),
            policy_revision: "p".into(),
            valid_for_ms,
            policy_ids: vec![],
            caller_reasons: vec![],
            vary: Vary::NOTHING,
            risk: None,
            challenge: None,
            obligations: Vec::new(),
            is_token_revoked: false,
        };
        let mut cache = DecisionCache::new(NonZeroUsize::MIN, 1, 1);
        let key = key_bytes(Vary::NOTHING, &[1, 2]).finish();
        let [principal, other] = tokens_end_at_ms.map(token);
        let tokens = Tokens::all(principal, vec![other]);
        cache.put(0, &key, &Rc::new(decision.into()), Timestamp::from_ms(0), &tokens);
        let is_kept = |ms: &u64| cache.get(&key, Timestamp::from_ms(*ms)).is_some();
        [0, 999, 1_000, 1_999, 2_000, 3_599_999, 3_600_000]
            .into_iter()
            .filter(is_kept)
            .max()
            .map_or(0, |ms| ms + 1)
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_its_validity_its_tokens_and_an_hour() {
        let late = 9_000_000;
        assert_eq!(kept_for_ms(2_000, [late, late]), 2_000);
        assert_eq!(kept_for_ms(2_000, [1_000, late]), 1_000);
        assert_eq!(kept_for_ms(2_000, [late, 1_000]), 1_000);
        assert_eq!(kept_for_ms(u32::MAX, [late, late]), 3_600_000);
        assert_eq!(kept_for_ms(0, [late, late]), 0);
    }

    #[test]
    fn a_key_is_narrowed_to_the_attributes_that_are_left() {
        let key_of = |vary: Vary, serials: &[u64], values: &[&[u8]]| {
            let mut key = key_bytes(vary, serials);
            values.iter().for_each(|value| key.push(value));
            key.finish()
        };
        let key = |vary, values: &[&[u8]]| key_of(vary, &[4], values);
        let everything = key(Vary::EVERYTHING, &[b"p", b"GET", b"h", b"/a", b"", b"agent", b"device"]);
        let method_and_path = Vary::NOTHING.with(Attribute::Method).with(Attribute::Path);
        let narrow = key(method_and_path, &[b"GET", b"/a"]);
        assert_eq!(everything.narrowed(method_and_path), Some(narrow.clone()));
        assert_eq!(everything.narrowed(Vary::EVERYTHING), Some(everything));
        assert_eq!(narrow.narrowed(Vary::NOTHING.with(Attribute::Peer)), None);
        // Each token counts, and none passes for a part of another or of an attribute.
        let of_two = key_of(method_and_path, &[4, 5], &[b"GET", b"/a"]);
        assert_ne!(of_two, narrow);
        assert_ne!(of_two, key_of(method_and_path, &[5, 4], &[b"GET", b"/a"]));
        let method = Vary::NOTHING.with(Attribute::Method);
        assert_eq!(of_two.narrowed(method), Some(key_of(method, &[4, 5], &[b"GET"])));
    }

    #[test]
    fn two_possessions_are_one_key_only_if_they_are_the_same() {
        let (one, other) = ([1; 32], [2; 32]);
        let certificates = [
            None,
            Some(CertificateThumbprint(one)),
            Some(CertificateThumbprint(other)),
        ];
        let keys = [None, Some(KeyThumbprint(one)), Some(KeyThumbprint(other))];
        let of = |certificate, key| {
            let mut bytes = key_bytes(Vary::NOTHING.with(Attribute::Device), &[1]);
            bytes.push_possession(Possession { certificate, key });
            bytes.finish()
        };
        let all = certificates
            .iter()
            .flat_map(|certificate| keys.map(|key| of(*certificate, key)));
        assert_eq!(all.collect::<std::collections::HashSet<_>>().len(), 9);
    }

    #[test]
    fn without_a_token_the_peer_is_always_part_of_the_key() {
        assert!(key_bytes(Vary::NOTHING, &[]).vary.contains(Attribute::Peer));
        assert!(!key_bytes(Vary::NOTHING, &[1]).vary.contains(Attribute::Peer));
    }
}
