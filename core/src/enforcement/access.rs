//! Access rules: what a request is asked for, read once and only where a rule asks.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use super::identity::Identity;
use super::{Arrival, Notes, Refusal};
use crate::access_rules::{
    AccessRule, AccessRules, ClaimIndex, Condition, NamePattern, Polarity, Readings, Values, fits_namespace,
};
use crate::path::TargetError;
use crate::reason::{DecidedBy, DenyReason};
use crate::request::{self, Header, RequestHead};
use crate::source_address::Network;
use crate::spiffe::SpiffeId;

const AUTHORITY: &str = ":authority";
/// The headers of requests for which Envoy 1.40 has a place of their own (`ALL_INLINE_HEADERS` and the custom ones of its
/// extensions).
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

/// What access rules say that do not decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedAccess {
    /// A rule of `access.observe.reject` matches: the request would be refused.
    pub would_reject: bool,
    /// Neither `access.accept` nor `access.observe.accept` matches: the request would be refused.
    pub would_not_accept: bool,
    /// A rule of `access.audit` matches.
    pub is_audited: bool,
}

/// Whether the access rules let the request go on to its route rule's decision.
pub(super) fn check(
    rules: &AccessRules,
    arrival: &Arrival<'_>,
    head: &RequestHead<'_>,
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
    notes.access = facts.observed(&head.target.path);
    let refused = facts.refused(&head.target.path);
    // Some servers cut off what follows a `;` in a segment, and some do not. Where the rules say otherwise then, nobody knows
    // which path is meant.
    if let Some(cut) = head.target.path_without_segment_parameters()
        && facts.refused(&cut) != refused
    {
        return Err(
            Refusal::new(DenyReason::RequestMalformed, DecidedBy::Request).because(TargetError::SegmentParameter)
        );
    }
    match refused {
        None => Ok(()),
        Some(reason) => Err(Refusal::new(reason, DecidedBy::Local)),
    }
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
    /// Rejection comes before acceptance.
    fn refused(&self, path: &str) -> Option<DenyReason> {
        if self.any_matches(&self.rules.reject, Polarity::Rejecting, path) {
            return Some(DenyReason::AccessRuleReject);
        }
        match &self.rules.accept {
            Some(accept) if !self.any_matches(accept, Polarity::Accepting, path) => {
                Some(DenyReason::AccessRuleNoAccept)
            }
            Some(_) | None => None,
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
            let any_matches = |rules: &Vec<_>| self.any_matches(rules, Polarity::Accepting, path);
            rules.as_ref().is_some_and(any_matches)
        };
        ObservedAccess {
            would_reject: self.any_matches(observed_reject, Polarity::Rejecting, path),
            would_not_accept: observed_accept.is_some() && !accepts(observed_accept) && !accepts(accept),
            is_audited: self.any_matches(audit, Polarity::Rejecting, path),
        }
    }

    fn any_matches(&self, rules: &[AccessRule], polarity: Polarity, path: &str) -> bool {
        rules
            .iter()
            .any(|rule| rule.matches(|condition| self.holds(condition, polarity, path)))
    }

    fn holds(&self, condition: &Condition, polarity: Polarity, path: &str) -> bool {
        match condition {
            Condition::Peer(values) => {
                let peer = self.peer();
                values.hold(|pattern| peer.is_some_and(|id| pattern.fits(id)))
            }
            Condition::Namespace(values) => {
                let peer = self.peer();
                values.hold(|pattern| peer.is_some_and(|id| fits_namespace(pattern, id)))
            }
            Condition::ServiceAccount(values) => {
                let peer = self.peer();
                values.hold(|account| peer.is_some_and(|id| account.fits(id)))
            }
            Condition::Principal(values) => {
                let principal = self.identity.tokens.principal().map(|token| &token.principal);
                values.hold(|pattern| principal.is_some_and(|who| pattern.fits(&who.issuer, &who.subject)))
            }
            Condition::ConnectionAddress(values) => within(values, self.arrival.connection.source_address()),
            Condition::SourceAddress(values) => within(values, self.identity.source_address()),
            Condition::DestinationAddress(values) => within(values, self.destination().map(|to| to.ip())),
            Condition::DestinationPort(values) => {
                let port = self.destination().map(|to| to.port());
                values.hold(|wanted| port == Some(*wanted))
            }
            Condition::ServerName(values) => {
                let name = self.server_name();
                values.hold(|pattern| name.is_some_and(|name| pattern.fits(name.as_bytes())))
            }
            Condition::Host(values) => {
                let authority = self.head.headers.iter().find(|(name, _)| *name == AUTHORITY);
                values.hold(|pattern| authority.is_some_and(|(_, authority)| pattern.fits(authority)))
            }
            Condition::Method(values) => values.hold(|pattern| pattern.fits(self.head.method.as_bytes())),
            Condition::Path(values) => values.hold(|pattern| pattern.fits(path)),
            Condition::Header(name, values) => self.header_holds(name, values, polarity),
            Condition::Claim(claim, values) => {
                let texts = self.claim(*claim);
                values.hold(|pattern| texts.iter().any(|text| pattern.fits(text.as_bytes())))
            }
        }
    }

    /// A peer of another trust domain is nobody.
    fn peer(&self) -> Option<&SpiffeId> {
        self.identity
            .peer_id()
            .filter(|id| self.rules.trust_domains.contains(id.trust_domain()))
    }

    fn destination(&self) -> Option<SocketAddr> {
        *self.destination.get_or_init(|| self.arrival.connection.destination())
    }

    fn server_name(&self) -> Option<&str> {
        self.server_name
            .get_or_init(|| self.arrival.connection.server_name())
            .as_deref()
    }

    /// Most requests have the header once or not at all.
    fn header_holds(&self, name: &str, values: &Values<NamePattern>, polarity: Polarity) -> bool {
        let mut fields = self.fields(name);
        match (fields.next(), fields.next()) {
            (None, _) => values.hold(|_| false),
            (Some((have, value)), None) if have == name && !(value.contains(&b',') && is_joined(name)) => {
                values.hold(|pattern| fits_header(pattern, value))
            }
            (Some(_), _) => values.hold_of(&self.readings(name), polarity, |pattern, reading| {
                reading.as_deref().is_some_and(|value| fits_header(pattern, value))
            }),
        }
    }

    /// The fields of a header in all its spellings, without the white space around their values (RFC 9110 §5.5): some servers
    /// take `x_role` for `x-role`.
    fn fields<'h>(&'h self, name: &'h str) -> impl Iterator<Item = Header<'h>> {
        let fields = self.head.headers.iter();
        let fields = fields.filter(|(have, _)| request::is_spelling_of(have, name));
        fields.map(|(have, value)| (*have, request::trimmed(value)))
    }

    /// `None` stands for the header that a server does not find, as it takes no other spelling for the name.
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

/// Whether Envoy makes one field of several of this name, with a comma between two of them, before any filter sees them.
fn is_joined(name: &str) -> bool {
    name.starts_with("x-envoy-") || JOINED_HEADERS.contains(&name)
}

/// A header that is there and empty is there.
fn fits_header(pattern: &NamePattern, value: &[u8]) -> bool {
    pattern.is_presence() || pattern.fits(value)
}

fn within(values: &Values<Network>, address: Option<IpAddr>) -> bool {
    values.hold(|network| address.is_some_and(|address| network.contains(address)))
}
