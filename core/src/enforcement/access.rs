//! The evaluation of access rules. Each fact about a request is read once, and only where a rule
//! needs it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use picket_model::network::Network;
use picket_model::spiffe::SpiffeId;

use super::identity::Identity;
use super::{Arrival, Notes, PathReadings, Refusal};
use crate::access_rules::{
    AccessRule, AccessRules, ClaimIndex, Condition, Match, NamePattern, PeerPattern, Polarity, PrincipalPattern,
    Readings, ServiceAccountName, Values, matches_namespace,
};
use crate::path::TargetError;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::{self, Header, RequestHead};
use crate::source_address::SourceAddressError;

const AUTHORITY: &str = ":authority";
/// The headers of requests that Envoy 1.40 stores inline (`ALL_INLINE_HEADERS` and the custom ones
/// of its extensions).
const JOINED_HEADERS: [&str; 28] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "te",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

// The details of two refusals.
const NO_DESTINATION: &str = "the proxy gives no IP address of the connection's destination";
const FOREIGN_PEER: &str = "the peer's trust domain is none of the filter's";

/// The matches of access rules that do not decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedAccess {
    /// A rule of `access.observe.reject` matches: the request would be refused.
    pub would_reject: bool,
    /// Neither `access.accept` nor `access.observe.accept` matches: the request would be refused.
    pub would_not_accept: bool,
    /// A rule of `access.audit` matches.
    pub is_audited: bool,
}

/// Checks a request against the access rules.
pub(super) fn check(
    rules: &AccessRules,
    arrival: &Arrival<'_>,
    head: &RequestHead<'_>,
    path_readings: &PathReadings,
    identity: &Identity<'_>,
    notes: &mut Notes,
) -> Result<(), Refusal> {
    if rules.are_none() {
        return Ok(());
    }
    let facts = Facts {
        rules,
        arrival,
        head,
        identity,
        destination: OnceCell::new(),
        server_name: OnceCell::new(),
    };
    let path = head.target.path_for_rules();
    notes.access = facts.observed(&path);
    let refused = facts.refused(&path);
    // Servers read the path in different ways: the rules must give the same result for each.
    let reason = |refused: Option<(DenyReason, Option<Unknown>)>| refused.map(|(reason, _)| reason);
    if path_readings.any_differs(reason(refused), |other| reason(facts.refused(other))) {
        return Err(Refusal::malformed(TargetError::OtherReading));
    }
    match refused {
        None => Ok(()),
        Some((reason, None)) => {
            let refusal = Refusal::new(reason, DecidedBy::Local);
            let principal = identity.tokens.principal().into_iter();
            Err(principal.fold(refusal, Refusal::with_unread_claims))
        }
        Some((reason, Some(unknown))) => Err(facts.refusal(reason, unknown)),
    }
}

/// A fact that is present and cannot be determined. As an absent fact, a caller could avoid rules
/// about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    /// A peer that proves nothing now, or one of a foreign trust domain.
    Peer,
    /// The source address of the connection.
    ConnectionAddress,
    /// The source address of the request.
    SourceAddress,
    /// The destination of the connection.
    Destination,
}

struct Facts<'a> {
    rules: &'a AccessRules,
    arrival: &'a Arrival<'a>,
    head: &'a RequestHead<'a>,
    identity: &'a Identity<'a>,
    destination: OnceCell<Option<SocketAddr>>,
    server_name: OnceCell<Option<String>>,
}

impl Facts<'_> {
    /// Rejection comes before acceptance. An unknown fact matches a rule that rejects, and does not
    /// match one that accepts.
    fn refused(&self, path: &str) -> Option<(DenyReason, Option<Unknown>)> {
        match self.any_matches(&self.rules.reject, Polarity::Rejecting, path) {
            Match::No => {}
            Match::Unknown(unknown) => return Some((DenyReason::AccessRuleReject, Some(unknown))),
            Match::Yes => return Some((DenyReason::AccessRuleReject, None)),
        }
        let accept = self.rules.accept.as_ref()?;
        match self.any_matches(accept, Polarity::Accepting, path) {
            Match::No => Some((DenyReason::AccessRuleNoAccept, None)),
            Match::Unknown(unknown) => Some((DenyReason::AccessRuleNoAccept, Some(unknown))),
            Match::Yes => None,
        }
    }

    /// The refusal where a rule depends on an unknown fact: with the reason of the peer, or a
    /// detail about the address.
    fn refusal(&self, reason: DenyReason, unknown: Unknown) -> Refusal {
        let refusal = Refusal::new(reason, DecidedBy::Local);
        match unknown {
            Unknown::Peer => match self.identity.peer().as_ref() {
                Ok(_) => Refusal::new(DenyReason::PeerNotAllowed, DecidedBy::Peer).with_detail(FOREIGN_PEER),
                Err(error) => (*error).into(),
            },
            Unknown::ConnectionAddress => refusal.with_detail(SourceAddressError::NoConnectionAddress),
            Unknown::SourceAddress => match self.identity.source_address() {
                Ok(_) => refusal,
                Err(error) => refusal.with_detail(error),
            },
            Unknown::Destination => refusal.with_detail(NO_DESTINATION),
        }
    }

    fn observed(&self, path: &str) -> ObservedAccess {
        let AccessRules {
            accept,
            audit,
            observed_reject,
            observed_accept,
            ..
        } = self.rules;
        let accepts = |rules: &Option<Vec<AccessRule>>| {
            let is_match = |rules: &Vec<_>| self.any_matches(rules, Polarity::Accepting, path) == Match::Yes;
            rules.as_ref().is_some_and(is_match)
        };
        let could_match = |rules| self.any_matches(rules, Polarity::Rejecting, path) != Match::No;
        ObservedAccess {
            would_reject: could_match(observed_reject),
            would_not_accept: observed_accept.is_some() && !accepts(observed_accept) && !accepts(accept),
            is_audited: could_match(audit),
        }
    }

    fn any_matches(&self, rules: &[AccessRule], polarity: Polarity, path: &str) -> Match<Unknown> {
        let rules = rules.iter();
        Match::any(rules.map(|rule| rule.matches(|condition| self.matches(condition, polarity, path))))
    }

    fn matches(&self, condition: &Condition, polarity: Polarity, path: &str) -> Match<Unknown> {
        let holds = match condition {
            Condition::Peer(values) => return self.match_peer(values, PeerPattern::matches),
            Condition::Namespace(values) => return self.match_peer(values, matches_namespace),
            Condition::ServiceAccount(values) => return self.match_peer(values, ServiceAccountName::matches),
            Condition::ConnectionAddress(values) => {
                let address = self.arrival.connection.source_address();
                return within(values, address.ok_or(Unknown::ConnectionAddress));
            }
            Condition::SourceAddress(values) => {
                let address = self.identity.source_address();
                return within(values, address.map_err(|_| Unknown::SourceAddress));
            }
            Condition::DestinationAddress(values) => return within(values, self.destination().map(|to| to.ip())),
            Condition::DestinationPort(values) => {
                let port = self.destination().map(|to| to.port());
                return known(port, |port| values.are_satisfied(|wanted| port == *wanted));
            }
            Condition::Principal(values) => {
                let principal = self.identity.tokens.principal().map(|token| &token.principal);
                let matches = |matches: fn(&PrincipalPattern, &str, &str) -> bool| {
                    move |pattern: &_| principal.is_some_and(|who| matches(pattern, &who.issuer, &who.subject))
                };
                values.are_satisfied_by_either_reading(
                    polarity,
                    matches(PrincipalPattern::matches),
                    matches(PrincipalPattern::matches_whole_text),
                )
            }
            Condition::ServerName(values) => {
                let name = self.server_name();
                values.are_satisfied(|pattern| name.is_some_and(|name| pattern.matches(name.as_bytes())))
            }
            Condition::Host(values) => {
                let authority = self.head.headers.iter().find(|(name, _)| *name == AUTHORITY);
                values.are_satisfied(|pattern| authority.is_some_and(|(_, authority)| pattern.matches(authority)))
            }
            Condition::Method(values) => values.are_satisfied(|pattern| pattern.matches(self.head.method.as_bytes())),
            Condition::Path(values) => values.are_satisfied(|pattern| pattern.matches(path)),
            Condition::Header(name, values) => self.match_header(name, values, polarity),
            Condition::Claim(claim, values) => {
                let texts = self.claim(*claim);
                values.are_satisfied(|pattern| texts.iter().any(|text| pattern.matches(text.as_bytes())))
            }
        };
        holds.into()
    }

    fn match_peer<T>(&self, values: &Values<T>, matches: impl Fn(&T, &SpiffeId) -> bool) -> Match<Unknown> {
        known(self.peer(), |peer| {
            values.are_satisfied(|value| peer.is_some_and(|id| matches(value, id)))
        })
    }

    /// `None`: there is no client certificate, on the connection or behind a trusted hop.
    fn peer(&self) -> Result<Option<&SpiffeId>, Unknown> {
        match self.identity.peer().as_ref() {
            Ok(peer) if self.rules.trust_domains.contains(peer.id.trust_domain()) => Ok(Some(&peer.id)),
            Err(error) if error.is_absence() => Ok(None),
            Ok(_) | Err(_) => Err(Unknown::Peer),
        }
    }

    fn destination(&self) -> Result<SocketAddr, Unknown> {
        let destination = self.destination.get_or_init(|| self.arrival.connection.destination());
        destination.ok_or(Unknown::Destination)
    }

    fn server_name(&self) -> Option<&str> {
        self.server_name
            .get_or_init(|| self.arrival.connection.server_name())
            .as_deref()
    }

    /// Most requests have the header once or not at all.
    fn match_header(&self, name: &str, values: &Values<NamePattern>, polarity: Polarity) -> bool {
        let mut fields = self.fields(name);
        match (fields.next(), fields.next()) {
            (None, _) => values.are_satisfied(|_| false),
            (Some((have, value)), None) if have == name && !(value.contains(&b',') && is_joined(name)) => {
                values.are_satisfied(|pattern| matches_header(pattern, value))
            }
            (Some(_), _) => values.are_satisfied_by_readings(&self.readings(name), polarity, |pattern, reading| {
                reading.as_deref().is_some_and(|value| matches_header(pattern, value))
            }),
        }
    }

    /// The fields of a header in all its spellings, without the white space around their values
    /// (RFC 9110 §5.5): some servers take `x_role` for `x-role`.
    fn fields<'h>(&'h self, name: &'h str) -> impl Iterator<Item = Header<'h>> {
        let fields = self.head.headers.iter();
        let fields = fields.filter(|(have, _)| request::is_spelling_of(have, name));
        fields.map(|(have, value)| (*have, request::trimmed(value)))
    }

    /// `None` stands for the header that a server does not find, as it takes no other spelling for
    /// the name.
    fn readings<'h>(&'h self, name: &'h str) -> Readings<Option<Cow<'h, [u8]>>> {
        let by_name: Vec<&[u8]> = self
            .fields(name)
            .filter(|(have, _)| *have == name)
            .map(|(_, value)| value)
            .collect();
        let absent = by_name.is_empty().then_some(None);
        let fields = self.fields(name).map(|(_, value)| Some(Cow::Borrowed(value)));
        let joined_fields = by_name.iter().filter(|_| is_joined(name));
        let parts = joined_fields.flat_map(|value| value.split(|b| *b == b','));
        Readings {
            parts: parts.map(|part| Some(Cow::Borrowed(request::trimmed(part)))).collect(),
            fields: fields.chain(absent).collect(),
            joined: (by_name.len() > 1).then(|| Some(Cow::Owned(by_name.join(&b","[..])))),
        }
    }

    fn claim(&self, claim: ClaimIndex) -> &[Box<str>] {
        let token = self.identity.tokens.principal();
        token
            .and_then(|token| token.condition_claims.get(claim))
            .map_or(&[], |texts| texts)
    }
}

/// Whether Envoy makes one field of several of this name, with a comma between two of them, before
/// any filter sees them.
fn is_joined(name: &str) -> bool {
    name.starts_with("x-envoy-") || JOINED_HEADERS.contains(&name)
}

/// An empty header is present.
fn matches_header(pattern: &NamePattern, value: &[u8]) -> bool {
    pattern.is_presence() || pattern.matches(value)
}

fn within(values: &Values<Network>, address: Result<IpAddr, Unknown>) -> Match<Unknown> {
    known(address, |address| {
        values.are_satisfied(|network| network.contains(address))
    })
}

fn known<T>(found: Result<T, Unknown>, holds: impl FnOnce(T) -> bool) -> Match<Unknown> {
    match found {
        Ok(value) => holds(value).into(),
        Err(unknown) => Match::Unknown(unknown),
    }
}
