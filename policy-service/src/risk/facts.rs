//! What is known about a request when its risk is assessed.

use std::fmt;
use std::net::IpAddr;

use picket_core::access::{AccessRequest, Principal};
use picket_core::configuration::problems::shortened;
use picket_core::spiffe::SpiffeId;
use picket_core::time::Timestamp;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::numbers::Finite;

const KEY_BYTES: usize = 16;
/// The methods that are told apart; all others are one. Clients make up as many as they like.
const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];

/// Names a principal in the baselines: 128 bits of SHA-256 over issuer and subject, or over a workload's SPIFFE ID. What is
/// saved so holds no names, and is of one size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalKey([u8; KEY_BYTES]);

/// What is known about an address, mostly from a database.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Address {
    /// The country.
    pub country: Option<Country>,
    /// The number of the autonomous system.
    pub autonomous_system: Option<u32>,
    /// About where it is.
    pub coordinates: Option<Coordinates>,
}

/// A country by its two letters (ISO 3166-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// A place on the globe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    latitude: Finite,
    longitude: Finite,
}

/// Where a request comes from, as finely as locations are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// What a database says.
    Known(Option<Country>, Option<u32>),
    /// The first 24 bits of an IPv4 address that no database knows.
    V4([u8; 3]),
    /// The first 48 bits of an IPv6 address that no database knows.
    V6([u8; 6]),
}

/// A digest of a name, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Fingerprint(u64);

/// A session as it is remembered, or the token where it names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey(pub(super) Fingerprint);

/// What a session is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionName<'a> {
    /// The tokens' `sid`.
    SessionId(&'a str),
    /// The `jti` of a token without one.
    TokenId(&'a str),
}

/// Everything that an assessment looks at, besides what is remembered.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Seconds since the epoch; enough until 2106.
    pub(super) now_s: u32,
    /// `None`: nobody, of whom nothing can be learnt.
    pub(super) principal: Option<PrincipalKey>,
    pub(super) address: Option<IpAddr>,
    pub(super) place: Option<Place>,
    pub(super) coordinates: Option<Coordinates>,
    /// User agent and peer.
    pub(super) device: Fingerprint,
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

/// Text that is none of what it should be.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct FormatError(&'static str);

impl PrincipalKey {
    /// Of the party whose request it is: the token's, or else the peer.
    #[must_use]
    pub fn of(request: &AccessRequest) -> Option<Self> {
        match (&request.principal, &request.peer) {
            (Some(principal), _) => Some(Self::of_user(&principal.issuer, &principal.subject)),
            (None, Some(peer)) => Some(Self::of_workload(peer.as_str())),
            (None, None) => None,
        }
    }

    /// Of the subject of an issuer's tokens.
    #[must_use]
    pub fn of_user(issuer: &str, subject: &str) -> Self {
        Self::cut(&digest_of("user", &[Some(issuer), Some(subject)]))
    }

    /// Of a workload by its SPIFFE ID.
    #[must_use]
    pub fn of_workload(spiffe_id: &str) -> Self {
        Self::cut(&digest_of("workload", &[Some(spiffe_id)]))
    }

    /// One of `shards` parts, evenly.
    #[must_use]
    pub fn shard(&self, shards: usize) -> usize {
        let [first, ..] = self.0;
        usize::from(first) % shards.max(1)
    }

    fn cut(digest: &[u8]) -> Self {
        let mut key = [0; KEY_BYTES];
        for (byte, from) in key.iter_mut().zip(digest) {
            *byte = *from;
        }
        Self(key)
    }
}

impl Facts {
    /// What a request shows, with what is known about its address.
    #[must_use]
    pub fn new(request: &AccessRequest, address: Address, now: Timestamp) -> Self {
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
            now_s: u32::try_from(now.as_ms() / 1000).unwrap_or(u32::MAX),
            principal: PrincipalKey::of(request),
            address: source,
            place: Place::of(source, address),
            coordinates: address.coordinates,
            device: Fingerprint::of("device", &[request.context.user_agent.as_deref(), peer]),
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

    /// Whose request it is.
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

impl SessionKey {
    /// Of a session of this issuer.
    #[must_use]
    pub fn of(issuer: &str, name: SessionName<'_>) -> Self {
        let (kind, id) = match name {
            SessionName::SessionId(id) => ("session", id),
            SessionName::TokenId(id) => ("token", id),
        };
        Self(Fingerprint::of(kind, &[Some(issuer), Some(id)]))
    }
}

fn by_session(principal: &Principal) -> Option<SessionName<'_>> {
    principal.session_id.as_deref().map(SessionName::SessionId)
}

fn by_token(principal: &Principal) -> Option<SessionName<'_>> {
    principal.token_id.as_deref().map(SessionName::TokenId)
}

impl Place {
    /// The country, where it is known.
    #[must_use]
    pub fn country(self) -> Option<Country> {
        match self {
            Self::Known(country, _) => country,
            Self::V4(_) | Self::V6(_) => None,
        }
    }

    /// Where an address is, as finely as locations are compared; `None` where there is none.
    #[must_use]
    pub fn of(source: Option<IpAddr>, known: Address) -> Option<Self> {
        if known.country.is_some() || known.autonomous_system.is_some() {
            return Some(Self::Known(known.country, known.autonomous_system));
        }
        Some(match source? {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(Some(country), Some(number)) => write!(f, "{country} AS{number}"),
            Self::Known(Some(country), None) => country.fmt(f),
            Self::Known(None, Some(number)) => write!(f, "AS{number}"),
            Self::Known(None, None) => f.write_str("nowhere"),
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let address = [*a, *b, *c, *d, *e, *g, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                write!(f, "{}/48", std::net::Ipv6Addr::from(address))
            }
        }
    }
}

impl Coordinates {
    /// Degrees north and east; `None` for what is not on the globe.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let is_on_the_globe = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        is_on_the_globe.then(|| Self {
            latitude: Finite::new(latitude),
            longitude: Finite::new(longitude),
        })
    }

    /// The way along the surface, in kilometres (haversine on a sphere; the earth's flattening makes half a percent).
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        const EARTH_RADIUS_KM: f64 = 6371.0;
        let [from, to] = [self, other].map(|at| (at.latitude.get().to_radians(), at.longitude.get().to_radians()));
        let square_of_half_sine = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
        let h = square_of_half_sine(from.0, to.0) + from.0.cos() * to.0.cos() * square_of_half_sine(from.1, to.1);
        2.0 * EARTH_RADIUS_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

impl Fingerprint {
    fn of(kind: &str, parts: &[Option<&str>]) -> Self {
        let first = digest_of(kind, parts)
            .iter()
            .take(8)
            .fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Self(first)
    }
}

impl fmt::Display for Fingerprint {
    /// The first half says which it is to people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

impl fmt::Display for PrincipalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PrincipalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<PrincipalKey> for String {
    fn from(key: PrincipalKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PrincipalKey {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).map_err(|_| FormatError("32 hexadecimal digits"))?;
        Ok(Self(key))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0.map(char::from);
        write!(f, "{first}{second}")
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl TryFrom<String> for Country {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => Ok(Self([*first, *second])),
            _ => Err(FormatError("a country's two letters, such as `DE`")),
        }
    }
}

/// Lengths before the parts keep two different lists from giving the same bytes.
fn digest_of(kind: &str, parts: &[Option<&str>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in std::iter::once(&Some(kind)).chain(parts) {
        match part {
            Some(text) => {
                context.update(&[1]);
                context.update(&text.len().to_be_bytes());
                context.update(text.as_bytes());
            }
            None => context.update(&[0]),
        }
    }
    context.finish().as_ref().to_vec()
}
