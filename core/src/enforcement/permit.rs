//! The permit: the only thing with which a request can be forwarded, and the only place that makes one.

use super::identity::Identity;
use super::{Refusal, VerifiedToken};
use crate::configuration::filter::{CredentialRequirement, Decider, RouteRule};
use crate::decision::{Decision, Effect};
use crate::reason::{DecidedBy, DenyReason};
use crate::request::RequestHead;
use crate::time::Timestamp;
use crate::{header_value, identity_headers};

/// Leave to forward one request, and how.
///
/// INVARIANT: [`Permit::grant`] is the only constructor; a permit is neither cloned nor stored.
#[derive(Debug)]
pub struct Permit {
    reason: PermitReason,
    decided_by: DecidedBy,
    decision_id: Option<String>,
    forwarding: Forwarding,
}

/// Why a request was permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PermitReason {
    /// The policy service says so.
    PolicyPermit,
    /// The route rule says so.
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

/// On what grounds a permit is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grounds<'a> {
    /// The policy service's decision about this very request, fresh or from the cache.
    Decision(&'a Decision, DecidedBy),
    /// A rule that decides alone.
    Rule(&'a RouteRule),
}

/// How a request is to be changed when it is forwarded.
#[derive(Debug)]
pub(super) struct Forwarding {
    remove: Vec<String>,
    path: Option<String>,
    rule_id: String,
    identity: Identity,
}

impl Permit {
    /// Makes a permit if the grounds permit, and a refusal if they do not.
    pub(super) fn grant(grounds: Grounds<'_>, forwarding: Forwarding) -> Result<Self, Refusal> {
        match grounds {
            Grounds::Decision(decision, decided_by) => match decision.effect {
                Effect::Permit => Ok(Self {
                    reason: PermitReason::PolicyPermit,
                    decided_by,
                    decision_id: Some(header_value::encode(&decision.decision_id)),
                    forwarding,
                }),
                Effect::Deny => Err(Refusal {
                    caller_reasons: decision.caller_reasons.clone(),
                    decision_id: Some(decision.decision_id.clone()),
                    ..Refusal::new(DenyReason::PolicyDeny, decided_by)
                }),
            },
            Grounds::Rule(rule) => match rule.decider {
                Decider::Permit => Ok(Self {
                    reason: PermitReason::LocalPermit,
                    decided_by: DecidedBy::Local,
                    decision_id: None,
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

    /// The headers that must not reach the upstream: forged copies of ours, and the credential.
    pub fn headers_to_remove(&self) -> impl Iterator<Item = &str> {
        self.forwarding.remove.iter().map(String::as_str)
    }

    /// The headers that the upstream gets, each with one value, in place of any that the request has.
    pub fn headers_to_set(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let identity = &self.forwarding.identity;
        let principal = identity.token.iter().flat_map(|token| token.identity_headers.iter());
        principal
            .map(|(name, value)| (*name, value.as_str()))
            .chain(identity.peer_id().map(|id| (identity_headers::PEER, id.as_str())))
            .chain(Some((identity_headers::ROUTE_RULE, self.forwarding.rule_id.as_str())))
            .chain(
                self.decision_id
                    .as_deref()
                    .map(|id| (identity_headers::DECISION_ID, id)),
            )
    }

    /// The normal form of path and query, where the request had another: what was decided is what is forwarded.
    #[must_use]
    pub fn rewritten_path(&self) -> Option<&str> {
        self.forwarding.path.as_deref()
    }
}

impl Forwarding {
    pub(super) fn new(head: &RequestHead<'_>, rule: &RouteRule, identity: Identity, forward_credential: bool) -> Self {
        let mut remove: Vec<String> = head.forged.iter().map(|name| (*name).to_owned()).collect();
        // A credential that was not looked at is the upstream's own affair.
        if rule.credential == CredentialRequirement::Required && !forward_credential {
            remove.push("authorization".to_owned());
        }
        Self {
            remove,
            path: head.target.is_rewritten().then(|| head.target.to_path_and_query()),
            rule_id: rule.id.clone(),
            identity,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn token(&self) -> Option<&VerifiedToken> {
        self.identity.token.as_deref()
    }

    /// A token may expire while its request waits.
    pub(super) fn check_token(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.token() {
            Some(token) if now >= token.ends_at => Err(Refusal::new(DenyReason::TokenExpired, DecidedBy::Token)),
            Some(_) | None => Ok(()),
        }
    }
}
