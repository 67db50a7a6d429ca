//! Access rules: what is refused or accepted whatever the route rule, on peer, principal, addresses, operation and conditions.
//!
//! They mean what the rules of Istio's AuthorizationPolicy mean
//! (<https://istio.io/latest/docs/reference/config/security/authorization-policy/>, and for conditions
//! <https://istio.io/latest/docs/reference/config/security/conditions/>): rejection before acceptance, and where there are rules
//! that accept, one must match. There are no regular expressions.

mod patterns;

use std::collections::BTreeSet;

pub(crate) use patterns::matches_namespace;
pub use patterns::{
    AuthorityPattern, ConditionPatternError, NamePattern, PathPattern, PeerPattern, PrincipalPattern,
    ServiceAccountName,
};

use picket_model::spiffe::TrustDomain;

use crate::source_address::Network;
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
    /// Rules that are to be added to [`AccessRules::accept`]: what would be refused then is counted.
    pub observed_accept: Option<Vec<AccessRule>>,
    /// The claims that conditions look at; kept with each verified token.
    pub claims: Vec<ClaimPath>,
    /// Whose peers count: what one of another trust domain is called says nothing here.
    pub trust_domains: BTreeSet<TrustDomain>,
}

/// A rule matches where one of its sources, one of its operations and all of its conditions do. One without any of them matches
/// every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// Its name.
    pub id: String,
    /// The sources, each of conditions that must all hold; empty: any.
    pub from: Vec<Vec<Condition>>,
    /// The operations, likewise.
    pub to: Vec<Vec<Condition>>,
    /// What must hold besides.
    pub when: Vec<Condition>,
}

/// What a request may be asked for. Where a request does not have it, no value matches, so that only lists of values that must not
/// fit hold.
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
    /// Where the connection comes from.
    ConnectionAddress(Values<Network>),
    /// Where the request comes from, as `forwarded_for_trusted_hops` says.
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

/// On which side a rule errs where a request can be read in more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polarity {
    /// A match refuses the request, or counts it: one reading that matches is enough.
    Rejecting,
    /// A match lets the request go on: every reading must match.
    Accepting,
}

/// Whether a request matches a condition, a rule or one of several, in Kleene's logic: what is unknown is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match<U> {
    /// It does not.
    No,
    /// It has what the condition asks for, and nobody can tell what that is.
    Unknown(U),
    /// It does.
    Yes,
}

/// The values of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<T> {
    /// One of these must fit; empty: any, and none.
    pub any_of: Vec<T>,
    /// None of these may fit.
    pub none_of: Vec<T>,
}

/// What servers could read of a header that a request has several times, or in several spellings.
#[derive(Debug)]
pub(crate) struct Readings<R> {
    /// Each field by itself; never none.
    pub(crate) fields: Vec<R>,
    /// All fields as one.
    pub(crate) joined: Option<R>,
    /// The parts of a field that the proxy may have joined: they count where it is a match that refuses.
    pub(crate) parts: Vec<R>,
}

impl AccessRules {
    /// Whether no request is looked at.
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
    /// Whether a request matches, of which `condition` tells whether it matches a condition.
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
    /// Whether all match: what stands behind the first that does not is not asked.
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

    /// Whether one matches: what stands behind the first that does is not asked.
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
    /// Whether the values hold, `matches` telling of each whether it is the request's.
    pub(crate) fn are_satisfied(&self, matches: impl Fn(&T) -> bool) -> bool {
        self.any_matches_value(&matches) && self.none_matches_value(&matches)
    }

    /// Whether the values hold where an entry is read in two ways, of which the wide one matches wherever the strict one does.
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

    /// Whether the values hold of a request that has several readings; `matches` tells whether an entry matches a reading.
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
            // Values that are each accepted need not be accepted as one text; a text that must not fit is one all the same.
            Polarity::Accepting => fields.iter().all(any_matches_value) && all.all(none_matches_value),
        }
    }
}
