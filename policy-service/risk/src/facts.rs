//! What is known about a request when its risk is assessed.

use std::net::IpAddr;

use picket_model::access::{AccessRequest, Principal};
use picket_model::device::DeviceFacts;
use picket_model::problems::shortened;
use picket_model::spiffe::SpiffeId;
use picket_model::time::Timestamp;

use super::keys::{Fingerprint, PrincipalKey, SessionKey, SessionName};
use super::numbers::seconds;
use super::places::{AddressInfo, Coordinates, Place};

/// The methods that are told apart; all others are one. Clients make up as many as they like.
const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];

/// The trust in the device of a request, from the rules of devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceTrust {
    pub(super) trust_score: u8,
    pub(super) is_compliant: bool,
}

/// The facts of one request that an assessment reads, besides the baseline.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// Seconds since the epoch; enough until 2106.
    pub(super) now_s: u32,
    /// `None`: nobody, of whom nothing can be learnt.
    pub(super) principal: Option<PrincipalKey>,
    pub(super) address: Option<IpAddr>,
    pub(super) place: Option<Place>,
    pub(super) coordinates: Option<Coordinates>,
    /// The device by its name where one is known, else user agent and peer.
    pub(super) device: Fingerprint,
    /// Its trust.
    pub(super) trust: Option<DeviceTrust>,
    /// The session, or the token where it names none.
    pub(super) session: Option<Fingerprint>,
    /// The token, or the session where it has no id.
    pub(super) token: Option<Fingerprint>,
    pub(super) peer: Option<Fingerprint>,
    /// When the user authenticated, as the token says, in seconds since the epoch.
    pub(super) authenticated_s: Option<u32>,
    pub(super) route_rule: Fingerprint,
    pub(super) route_rule_shown: String,
    pub(super) method: u8,
    pub(super) method_shown: String,
}

impl RequestFacts {
    /// The facts of a request whose address was looked up.
    #[must_use]
    pub fn new(request: &AccessRequest, address: AddressInfo, now: Timestamp) -> Self {
        let principal = request.principal.as_ref();
        let named = |name: fn(&Principal) -> Option<SessionName<'_>>| {
            let principal = principal?;
            Some(SessionKey::of(&principal.issuer, name(principal)?).0)
        };
        let session = named(|principal| by_session(principal).or_else(|| by_token(principal)));
        let token = named(|principal| by_token(principal).or_else(|| by_session(principal)));
        let peer = request.peer.as_ref().map(SpiffeId::as_str);
        let source = request.context.source_address.map(|address| address.to_canonical());
        let method = METHODS.iter().position(|method| *method == request.action.method);
        Self {
            now_s: seconds(now),
            principal: PrincipalKey::of(request),
            address: source,
            place: Place::of(source, address),
            coordinates: address.coordinates,
            trust: None,
            device: Fingerprint::of("device", &[request.context.user_agent_prefix(), peer]),
            session,
            token,
            peer: peer.map(|peer| Fingerprint::of("peer", &[Some(peer)])),
            authenticated_s: principal
                .and_then(|principal| principal.auth_time_s)
                .and_then(|at_s| u32::try_from(at_s).ok()),
            route_rule: Fingerprint::of("route rule", &[Some(&request.route_rule)]),
            route_rule_shown: shortened(&request.route_rule),
            method: u8::try_from(method.unwrap_or(METHODS.len())).unwrap_or(u8::MAX),
            method_shown: shortened(&request.action.method),
        }
    }

    /// The same with the device of the request.
    #[must_use]
    pub fn from_device(self, device: Option<&DeviceFacts>) -> Self {
        let Some(device) = device else {
            return self;
        };
        Self {
            device: Fingerprint::of("known device", &[Some(&device.id)]),
            trust: Some(DeviceTrust {
                trust_score: device.trust_score,
                is_compliant: device.is_compliant,
            }),
            ..self
        }
    }

    /// The principal of the request; `None`: it has none, and nothing is learnt.
    #[must_use]
    pub fn principal(&self) -> Option<PrincipalKey> {
        self.principal
    }

    /// The address, to be looked for in threat lists.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

fn by_session(principal: &Principal) -> Option<SessionName<'_>> {
    principal.session_id.as_deref().map(SessionName::SessionId)
}

fn by_token(principal: &Principal) -> Option<SessionName<'_>> {
    principal.token_id.as_deref().map(SessionName::TokenId)
}
