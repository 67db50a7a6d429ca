//! The permit, without which no request can be forwarded, and the one function that makes it.

use std::rc::Rc;

use picket_model::decision::Effect;
use picket_model::time::Timestamp;

use super::FilterConfiguration;
use super::decisions::PreparedDecision;
use super::identity::Identity;
use super::rule::{CredentialRequirement, Decider, RouteRule};
use super::tokens::Tokens;
use super::{Challenge, PeerResult, Refusal};
use crate::dpop::NonceRequirement;
use crate::identity_headers::{DECISION_ID, OBLIGATIONS, PEER, ROUTE_RULE};
use crate::peer::requirement::PeerRequirement;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::{CONNECTION_HEADER, COOKIE, Caller, PROOF_HEADER, ProofHeader, RequestHead};
use crate::token::VerifiedToken;
use crate::token::credential::{CredentialSources, SourceSet};
use crate::transaction_token::{self, Transaction, TransactionTokens};

/// The permission to forward one request, with the changes to it.
///
/// INVARIANT: [`Permit::grant`] is the only constructor; a permit is neither cloned nor stored.
#[derive(Debug)]
pub struct Permit {
    reason: PermitReason,
    decided_by: DecidedBy,
    decision_id: Option<Rc<str>>,
    obligations: Option<Rc<str>>,
    transaction_token: Option<Box<str>>,
    forwarding: Forwarding,
}

/// Why a request was permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PermitReason {
    /// By a decision of the policy service.
    PolicyPermit,
    /// By its route rule.
    LocalPermit,
}

impl PermitReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[Self::PolicyPermit, Self::LocalPermit];

    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::PolicyPermit => "policy_permit",
            Self::LocalPermit => "local_permit",
        }
    }
}

/// The decision behind a permit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grounds<'a> {
    /// The policy service's decision about this very request, fresh or from the cache.
    Decision(&'a PreparedDecision, DecidedBy),
    /// A rule that decides alone.
    Rule(&'a RouteRule),
}

/// The changes to a request that is forwarded.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// Headers of the client that the upstream would take for Picket's.
    forged: Vec<String>,
    /// The places of verified credentials, which are removed.
    removed: SourceSet,
    sources: CredentialSources,
    /// Headers with their remaining value after a part is removed: cookies without credentials,
    /// `connection` without names. A header whose rest is empty is removed.
    reduced: Box<[(&'static str, String)]>,
    removes_proof: bool,
    next_nonce: Option<Box<str>>,
    nonces: NonceOwner,
    path: Option<Box<str>>,
    tokens: Tokens,
    /// `None`: the rule does not check it.
    peer: Option<Rc<PeerResult>>,
    sets_peer: bool,
    /// For the header; `None`: it is not set.
    rule_id: Option<Rc<str>>,
    sets_decision_id: bool,
    /// For the transaction token; `None`: none is made.
    transaction: Option<Box<PendingTransaction>>,
}

/// The issuer of the nonces for a client's proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NonceOwner {
    Picket,
    Upstream,
}

/// The content of a transaction token beside the decision.
#[derive(Debug)]
struct PendingTransaction {
    tokens: Rc<TransactionTokens>,
    request_id: String,
    rule_id: Rc<str>,
}

impl Permit {
    /// Makes a permit, or a refusal where the grounds deny.
    pub(super) fn grant(grounds: Grounds<'_>, forwarding: Forwarding, now: Timestamp) -> Result<Self, Refusal> {
        match grounds {
            Grounds::Decision(known, decided_by) => match known.decision.effect {
                Effect::Permit => Ok(Self {
                    reason: PermitReason::PolicyPermit,
                    decided_by,
                    decision_id: forwarding.sets_decision_id.then(|| Rc::clone(&known.id_header)),
                    obligations: known.obligations_header.clone(),
                    transaction_token: forwarding.transaction_token(Some(&known.decision.decision_id), now)?,
                    forwarding,
                }),
                Effect::Deny => {
                    let principal = forwarding.tokens().principal().into_iter();
                    Err(principal.fold(denied(known, decided_by), Refusal::with_unread_claims))
                }
            },
            Grounds::Rule(rule) => match rule.decider {
                Decider::Permit => Ok(Self {
                    reason: PermitReason::LocalPermit,
                    decided_by: DecidedBy::Local,
                    decision_id: None,
                    obligations: None,
                    transaction_token: forwarding.transaction_token(None, now)?,
                    forwarding,
                }),
                Decider::Deny | Decider::PolicyService => Err(Refusal::new(DenyReason::RuleDeny, DecidedBy::Local)),
            },
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> PermitReason {
        self.reason
    }

    /// Which step decided.
    #[must_use]
    pub fn decided_by(&self) -> DecidedBy {
        self.decided_by
    }

    /// The headers that must not reach the upstream: forged copies of ours, the credential, and a
    /// `connection` that names headers.
    pub fn headers_to_remove(&self) -> impl Iterator<Item = &str> {
        let Forwarding {
            removed,
            sources,
            reduced,
            ..
        } = &self.forwarding;
        let credentials = sources.headers(*removed);
        // Their rest is set again.
        let reduced = reduced.iter().map(|(name, _)| *name);
        let proof = self.forwarding.removes_proof.then_some(PROOF_HEADER);
        let forged = self.forwarding.forged.iter().map(String::as_str);
        forged.chain(credentials).chain(proof).chain(reduced)
    }

    /// The headers that the upstream gets, each with one value, in place of any that the request
    /// has.
    pub fn headers_to_set(&self) -> impl Iterator<Item = (&str, &str)> {
        let Forwarding {
            tokens,
            reduced,
            peer,
            sets_peer,
            rule_id,
            ..
        } = &self.forwarding;
        let principal = tokens.principal().into_iter().flat_map(|token| &token.identity_headers);
        let claims_of_others = tokens.others().flat_map(VerifiedToken::claim_headers);
        let peer = peer
            .iter()
            .filter(|_| *sets_peer)
            .filter_map(|peer| peer.as_ref().as_ref().ok());
        let reduced = reduced.iter().filter(|(_, left)| !left.is_empty());
        let transaction_token = self.transaction_token.as_deref();
        principal
            .chain(claims_of_others)
            .map(|(name, value)| (name.as_ref(), value.as_str()))
            .chain(reduced.map(|(name, left)| (*name, left.as_str())))
            .chain(transaction_token.map(|token| (transaction_token::HEADER, token)))
            .chain(peer.map(|peer| (PEER, peer.id.as_str())))
            .chain(rule_id.as_deref().map(|id| (ROUTE_RULE, id)))
            .chain(self.decision_id.as_deref().map(|id| (DECISION_ID, id)))
            .chain(
                self.obligations
                    .as_deref()
                    .map(|obligations| (OBLIGATIONS, obligations)),
            )
    }

    /// The normal form of path and query, without the credential, where the request had another
    /// form: the path that was decided is the one that is forwarded.
    #[must_use]
    pub fn rewritten_path(&self) -> Option<&str> {
        self.forwarding.path.as_deref()
    }

    /// The nonce to send with the response, in `dpop-nonce`, where the client's next proof needs
    /// another one (RFC 9449 §8.2).
    #[must_use]
    pub fn next_nonce(&self) -> Option<&str> {
        self.forwarding.next_nonce.as_deref()
    }

    /// Whether Picket issues the nonces (RFC 9449 §8.2). A `dpop-nonce` of the upstream's response
    /// is then removed: it would replace Picket's in the client's next proof.
    #[must_use]
    pub fn owns_nonces(&self) -> bool {
        self.forwarding.nonces == NonceOwner::Picket
    }
}

/// The refusal for a deny of the policy service, with a challenge where another attempt can
/// succeed.
fn denied(known: &PreparedDecision, decided_by: DecidedBy) -> Refusal {
    let step_up = known.decision.challenge.as_ref();
    let reason = match step_up {
        _ if known.decision.is_token_revoked => DenyReason::TokenRevoked,
        None => DenyReason::PolicyDeny,
        // Another authentication comes first, also where more is required.
        Some(step_up) if !step_up.acr_values().is_empty() || step_up.max_age_s().is_some() => {
            DenyReason::AuthenticationInsufficient
        }
        Some(step_up) if step_up.trusted_device() => DenyReason::DeviceNotTrusted,
        Some(_) => DenyReason::TokenNotBound,
    };
    Refusal {
        caller_reasons: known.decision.caller_reasons.clone(),
        decision_id: Some(known.decision.decision_id.clone()),
        challenge: step_up.map(|step_up| {
            Box::new(Challenge {
                step_up: Some(step_up.clone()),
                ..Challenge::default()
            })
        }),
        ..Refusal::new(reason, decided_by)
    }
}

impl Forwarding {
    pub(super) fn new(
        head: &RequestHead<'_>,
        rule: &RouteRule,
        identity: &Identity<'_>,
        configuration: &FilterConfiguration,
        request_id: impl FnOnce() -> String,
    ) -> Self {
        let sets = &configuration.identity_headers;
        // The header names a checked peer alone.
        let checks_peer = rule.peers != PeerRequirement::NotRequired;
        let looks_at_credential = rule.credential != CredentialRequirement::NotRequired;
        let sources = &configuration.credential_sources;
        let unverified = identity.unverified_sources;
        let removed = match configuration.forward_credential {
            true => SourceSet::default(),
            false => identity.credential_sources,
        };
        let emptied = removed.union(unverified);
        let kept_query = sources.query_without(emptied, head);
        let query = match &kept_query {
            Some(kept) => (!kept.is_empty()).then_some(kept.as_str()),
            None => head.target.query,
        };
        let rewrites = head.target.is_rewritten() || kept_query.is_some();
        // In every spelling: a server that reads one would take it for verified.
        let unverified = sources.headers_read_as(unverified, head);
        let reduced = [
            (COOKIE, sources.cookies_without(emptied, head)),
            (CONNECTION_HEADER, head.connection_without_names()),
        ];
        let forged = head.forged.iter().copied().chain(configuration.forged_headers(head));
        Self {
            forged: forged.chain(unverified).map(str::to_owned).collect(),
            path: rewrites.then(|| head.target.with_query(query).into_boxed_str()),
            removed,
            sources: sources.clone(),
            reduced: reduced
                .into_iter()
                .filter_map(|(name, left)| Some((name, left?)))
                .collect(),
            removes_proof: looks_at_credential && !configuration.forward_credential && head.proof != ProofHeader::None,
            next_nonce: identity.next_nonce.as_deref().map(Box::from),
            nonces: match configuration.dpop.nonce {
                NonceRequirement::NotRequired => NonceOwner::Upstream,
                _ if looks_at_credential => NonceOwner::Picket,
                _ => NonceOwner::Upstream,
            },
            tokens: identity.tokens.clone(),
            peer: checks_peer.then(|| Rc::clone(identity.peer())),
            sets_peer: sets.has(PEER),
            rule_id: sets.has(ROUTE_RULE).then(|| Rc::clone(&rule.id)),
            sets_decision_id: sets.has(DECISION_ID),
            transaction: configuration.transaction_tokens.as_ref().map(|tokens| {
                Box::new(PendingTransaction {
                    tokens: Rc::clone(tokens),
                    request_id: request_id(),
                    rule_id: Rc::clone(&rule.id),
                })
            }),
        }
    }

    /// The transaction token of a permitted request.
    ///
    /// # Errors
    /// When one is configured and cannot be made.
    fn transaction_token(&self, decision_id: Option<&str>, now: Timestamp) -> Result<Option<Box<str>>, Refusal> {
        let Some(transaction) = &self.transaction else {
            return Ok(None);
        };
        let peer = self.peer.as_ref().and_then(|peer| peer.as_ref().as_ref().ok());
        let about = Transaction {
            request_id: &transaction.request_id,
            principal: self.tokens.principal().map(|token| &*token.principal),
            peer: peer.map(|peer| &peer.id),
            route_rule: &transaction.rule_id,
            decision_id,
        };
        let token = transaction.tokens.mint(&about, now).map(String::into_boxed_str);
        token.map(Some).ok_or_else(|| Refusal::host_failure(Caller::default()))
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Checks the tokens again, as they may expire while their request waits.
    pub(super) fn check_tokens(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.tokens.ends_at() {
            Some(end) if now >= end => Err(Refusal::new(DenyReason::TokenExpired, DecidedBy::Token)),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks the peer's certificate again, for the same reason.
    pub(super) fn check_peer(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.peer.as_deref() {
            Some(Ok(peer)) => Ok(peer.check_validity(now)?),
            Some(Err(_)) | None => Ok(()),
        }
    }
}
