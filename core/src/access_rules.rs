//! Access rules refuse or accept requests before their route rule decides, by peer, principal,
//! addresses, operation and conditions.
//!
//! They have the semantics of Istio's AuthorizationPolicy
//! (<https://istio.io/latest/docs/reference/config/security/authorization-policy/>, and for
//! conditions <https://istio.io/latest/docs/reference/config/security/conditions/>): rejection
//! comes before acceptance, and where there are rules that accept, one must match. There are no
//! regular expressions.

mod patterns;

use std::collections::BTreeSet;

pub(crate) use patterns::matches_namespace;
pub use patterns::{
    AuthorityPattern, ConditionPatternError, NamePattern, PathPattern, PeerPattern, PrincipalPattern,
    ServiceAccountName,
};

use picket_model::network::Network;
use picket_model::spiffe::TrustDomain;

use crate::token::claim_path::ClaimPath;

/// A claim's place in [`AccessRules::claims`].
pub type ClaimIndex = usize;

/// All access rules of a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// A request that matches one of these is refused.
    pub reject: Vec<AccessRule>,
    /// A request must match one of these; `None`: it need not.
    pub accept: Option<Vec<AccessRule>>,
    /// A request that matches one of these is counted.
    pub audit: Vec<AccessRule>,
    /// As [`AccessRules::reject`], but a match is counted and nothing else.
    pub observed_reject: Vec<AccessRule>,
    /// Candidates for [`AccessRules::accept`]: a request that would be refused with them is
    /// counted.
    pub observed_accept: Option<Vec<AccessRule>>,
    /// The claims that conditions use. Their texts are cached with each verified token.
    pub claims: Vec<ClaimPath>,
    /// The trust domains whose peers conditions can match.
    pub trust_domains: BTreeSet<TrustDomain>,
}

/// A rule matches where one of its sources, one of its operations and all of its conditions do. One
/// without any of them matches every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// Its name.
    pub id: String,
    /// The sources, each of conditions that must all hold; empty: any.
    pub from: Vec<Vec<Condition>>,
    /// The operations, likewise.
    pub to: Vec<Vec<Condition>>,
    /// Further conditions that must all hold.
    pub when: Vec<Condition>,
}

/// A condition on one attribute of a request. An absent attribute matches no value, and so
/// satisfies only [`Values::none_of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The peer's SPIFFE ID.
    Peer(Values<PeerPattern>),
    /// The Kubernetes namespace in the peer's SPIFFE ID.
    Namespace(Values<NamePattern>),
    /// The Kubernetes service account in the peer's SPIFFE ID.
    ServiceAccount(Values<ServiceAccountName>),
    /// Issuer and subject of the token.
    Principal(Values<PrincipalPattern>),
    /// The source address of the connection.
    ConnectionAddress(Values<Network>),
    /// The source address of the request, by `forwarded_for_trusted_hops`.
    SourceAddress(Values<Network>),
    /// The address that the connection was made to.
    DestinationAddress(Values<Network>),
    /// The port that the connection was made to.
    DestinationPort(Values<u16>),
    /// The server name that TLS asked for, without regard to case (RFC 6066 §3).
    ServerName(Values<AuthorityPattern>),
    /// The authority, port included, without regard to case.
    Host(Values<AuthorityPattern>),
    /// The method.
    Method(Values<NamePattern>),
    /// The path in its normal form.
    Path(Values<PathPattern>),
    /// A header: each of its fields, and all of them joined with a comma (RFC 9110 §5.3).
    Header(Box<str>, Values<NamePattern>),
    /// A claim of the token: a text, or any text of an array.
    Claim(ClaimIndex, Values<NamePattern>),
}

/// The safe side of a rule, for a request that can be read in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polarity {
    /// A match refuses the request, or counts it: one reading that matches is enough.
    Rejecting,
    /// A match accepts the request: every reading must match.
    Accepting,
}

/// Whether a request matches a condition, a rule or one of several, in Kleene's three-valued logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match<U> {
    /// It does not match.
    No,
    /// The attribute is present, and its value cannot be determined.
    Unknown(U),
    /// It matches.
    Yes,
}

/// The values of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<T> {
    /// One of these must match; empty: any value, or none.
    pub any_of: Vec<T>,
    /// None of these may match.
    pub none_of: Vec<T>,
}

/// The values that servers could read of a header that a request has several times, or in several
/// spellings.
#[derive(Debug)]
pub(crate) struct Readings<R> {
    /// Each field by itself; never none.
    pub(crate) fields: Vec<R>,
    /// All fields as one.
    pub(crate) joined: Option<R>,
    /// The parts of a field that the proxy may have joined. They count for [`Polarity::Rejecting`].
    pub(crate) parts: Vec<R>,
}

impl AccessRules {
    /// Whether there are no rules at all.
    #[must_use]
    pub fn are_none(&self) -> bool {
        !self.decide() && !self.observe()
    }

    /// Whether any of them can refuse.
    fn decide(&self) -> bool {
        !self.reject.is_empty() || self.accept.is_some()
    }

    fn observe(&self) -> bool {
        !self.audit.is_empty() || !self.observed_reject.is_empty() || self.observed_accept.is_some()
    }
}

impl AccessRule {
    /// Whether a request matches. `condition` matches it with one condition.
    pub(crate) fn matches<U: Copy>(&self, condition: impl Fn(&Condition) -> Match<U>) -> Match<U> {
        let all_of = |conditions: &[Condition]| Match::all(conditions.iter().map(&condition));
        let one_of = |each: &[Vec<Condition>]| match each {
            [] => Match::Yes,
            each => Match::any(each.iter().map(|conditions| all_of(conditions))),
        };
        let lists = [&self.from, &self.to].into_iter().map(|each| one_of(each));
        Match::all(lists.chain(std::iter::once_with(|| all_of(&self.when))))
    }
}

impl<U: Copy> Match<U> {
    /// Whether all match. Evaluation ends with the first that does not.
    pub(crate) fn all(each: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Yes;
        for one in each {
            match (one, all) {
                (Self::No, _) => return Self::No,
                (Self::Unknown(_), Self::Yes) => all = one,
                (Self::Unknown(_) | Self::Yes, _) => {}
            }
        }
        all
    }

    /// Whether one matches. Evaluation ends with the first that does.
    pub(crate) fn any(each: impl IntoIterator<Item = Self>) -> Self {
        let mut any = Self::No;
        for one in each {
            match (one, any) {
                (Self::Yes, _) => return Self::Yes,
                (Self::Unknown(_), Self::No) => any = one,
                (Self::Unknown(_) | Self::No, _) => {}
            }
        }
        any
    }
}

impl<U> From<bool> for Match<U> {
    fn from(is_match: bool) -> Self {
        match is_match {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

impl<T> Values<T> {
    /// Whether a request satisfies the values. `matches` compares it with one of them.
    pub(crate) fn are_satisfied(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.any_matches_value(&matches) && self.none_matches_value(&matches)
    }

    /// Whether a request satisfies values that are compared in two ways. The wide way matches
    /// wherever the strict one does; `polarity` says which is the safe one.
    pub(crate) fn are_satisfied_by_either_reading(
        &self,
        polarity: Polarity,
        strict: impl Fn(&T) -> bool,
        wide: impl Fn(&T) -> bool,
    ) -> bool {
        match polarity {
            Polarity::Rejecting => self.any_matches_value(wide) && self.none_matches_value(strict),
            Polarity::Accepting => self.any_matches_value(strict) && self.none_matches_value(wide),
        }
    }

    fn any_matches_value(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.any_of.is_empty() || self.any_of.iter().any(matches)
    }

    fn none_matches_value(&self, matches: impl Fn(&T) -> bool) -> bool {
        !self.none_of.iter().any(matches)
    }

    /// Whether a request with several readings satisfies the values. `matches` compares one of them
    /// with one reading.
    pub(crate) fn are_satisfied_by_readings<R>(
        &self,
        readings: &Readings<R>,
        polarity: Polarity,
        matches: impl Fn(&T, &R) -> bool,
    ) -> bool {
        let any_matches_value = |reading: &R| self.any_matches_value(|entry| matches(entry, reading));
        let none_matches_value = |reading: &R| self.none_matches_value(|entry| matches(entry, reading));
        let Readings { fields, joined, parts } = readings;
        let mut wholes = fields.iter().chain(joined);
        let mut all = wholes.clone().chain(parts);
        match polarity {
            Polarity::Rejecting => all.any(any_matches_value) && wholes.any(none_matches_value),
            // Each field must match by itself, joined or not. A value that must not match may not
            // be in the joined text either.
            Polarity::Accepting => fields.iter().all(any_matches_value) && all.all(none_matches_value),
        }
    }
}
