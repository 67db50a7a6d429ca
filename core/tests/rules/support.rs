//! A sidecar with a fixed configuration, and callers that are varied in one thing at a time.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::ecdsa::SigningKey;
use p256::pkcs8::EncodePrivateKey;
use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{
    Arrival, CallFailure, Connection, Enforcer, Introspection, Notes, PeerResult, PendingDecision,
    PendingIntrospection, PendingKeys, Permit, Refusal, Step, Verdict,
};
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier};
use picket_core::peer::{Peer, PeerError};
use picket_core::reason::DenyReason;
use picket_core::token::remote_keys::response::{FetchError, HttpResponse};
use picket_model::access::AccessRequest;
use picket_model::decision::{Decision, Effect, Vary};
use picket_model::thumbprint::CertificateThumbprint;
use picket_model::time::Timestamp;
use serde_json::{Value, json};

/// The time at which every sidecar begins, in seconds since the epoch.
pub(crate) const NOW_S: i64 = 1_800_000_000;

pub(crate) struct Sidecar {
    enforcer: Enforcer,
    key: EncodingKey,
    default_token: String,
    now: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Caller {
    headers: Vec<(String, Vec<u8>)>,
    peer: PeerResult,
    address: Option<std::net::IpAddr>,
    destination: Option<std::net::SocketAddr>,
    server_name: Option<String>,
    bearer: Bearer,
    may_be_asked: bool,
}

#[derive(Clone, Debug)]
enum Bearer {
    Default,
    None,
    Token(String),
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).unwrap()
}

/// The public half of [`signing_key`], as a JWK.
pub(crate) fn public_jwk() -> Value {
    let point = signing_key().verifying_key().to_encoded_point(false);
    json!({
        "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig",
        "x": URL_SAFE_NO_PAD.encode(point.x().unwrap()),
        "y": URL_SAFE_NO_PAD.encode(point.y().unwrap()),
    })
}

pub(crate) fn configuration() -> Value {
    json!({
        "workload": "orders",
        "policy_service": {"cluster": "policy_service"},
        "trust_domains": ["example.org"],
        "providers": [{
            "name": "main", "issuer": "https://issuer.example", "audiences": ["orders"],
            "keys": {"keys": [public_jwk()]}, "roles_claim": "roles", "tenant_claim": "tenant",
        }],
        "rules": [
            {"id": "orders-read", "hosts": ["orders.example.org", "other.example.org"], "methods": ["GET", "HEAD"],
             "paths": ["/orders/{id}"],
             "peers": {"spiffe_ids": ["spiffe://example.org/web", "spiffe://example.org/admin"]}},
            {"id": "local", "hosts": ["*"], "paths": ["/local"], "decision": "permit"},
            {"id": "forbidden", "hosts": ["*"], "paths": ["/forbidden"], "decision": "deny"},
            {"id": "open", "hosts": ["*"], "paths": ["/open"], "decision": "permit", "peer": "none", "credential": "none"},
        ],
    })
}

pub(crate) fn decision(effect: Effect, valid_for_ms: u32) -> Decision {
    Decision {
        effect,
        decision_id: "d-1".into(),
        policy_revision: "p-1".into(),
        valid_for_ms,
        policy_ids: vec!["p".into()],
        caller_reasons: vec![],
        vary: Vary::EVERYTHING,
        risk: None,
        challenge: None,
        obligations: Vec::new(),
        is_token_revoked: false,
    }
}

pub(crate) fn refused(verdict: Verdict) -> DenyReason {
    verdict.unwrap_err().reason
}

impl Sidecar {
    pub(crate) fn new() -> Self {
        Self::with(&configuration())
    }

    pub(crate) fn with(configuration: &Value) -> Self {
        Self::of(FilterConfiguration::parse(configuration.to_string().as_bytes()).unwrap())
    }

    /// With what the environment holds of the configuration.
    pub(crate) fn with_environment(configuration: &Value, variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut configuration = FilterConfiguration::parse(configuration.to_string().as_bytes()).unwrap();
        configuration.read_environment(variable).unwrap();
        Self::of(configuration)
    }

    fn of(configuration: FilterConfiguration) -> Self {
        Self::of_signatures(configuration, Rc::new(SoftwareVerifier))
    }

    pub(crate) fn with_signatures(configuration: &Value, signatures: Rc<dyn SignatureVerifier>) -> Self {
        let configuration = FilterConfiguration::parse(configuration.to_string().as_bytes()).unwrap();
        Self::of_signatures(configuration, signatures)
    }

    fn of_signatures(configuration: FilterConfiguration, signatures: Rc<dyn SignatureVerifier>) -> Self {
        let proofs = ProofMemory::of_one_worker(SharedSecret::new([3; 32]), &configuration.dpop);
        let key = EncodingKey::from_ec_der(signing_key().to_pkcs8_der().unwrap().as_bytes());
        let mut sidecar = Self {
            enforcer: Enforcer::new(configuration, "node-1".into(), 7, signatures, proofs),
            key,
            default_token: String::new(),
            now: Timestamp::from_s(NOW_S),
        };
        sidecar.default_token = sidecar.token(&[]);
        sidecar
    }

    /// A token of our issuer for an hour, with these claims changed; `null` takes one out.
    pub(crate) fn token(&self, changes: &[(&str, Value)]) -> String {
        self.token_with_header(
            &Header {
                kid: Some("k1".into()),
                ..Header::new(Algorithm::ES256)
            },
            changes,
        )
    }

    pub(crate) fn token_with_header(&self, header: &Header, changes: &[(&str, Value)]) -> String {
        let mut claims = json!({
            "iss": "https://issuer.example", "sub": "alice", "aud": "orders", "exp": NOW_S + 3600, "iat": NOW_S,
        });
        for (name, value) in changes {
            let members = claims.as_object_mut().unwrap();
            match value.is_null() {
                true => drop(members.remove(*name)),
                false => drop(members.insert((*name).to_owned(), value.clone())),
            }
        }
        encode(header, &claims, &self.key).unwrap()
    }

    /// A token with these claims and no others.
    pub(crate) fn token_of_claims(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some("k1".into()),
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, claims, &self.key).unwrap()
    }

    pub(crate) fn later_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub(crate) fn earlier_ms(&mut self, ms: u64) {
        self.now = Timestamp::from_ms(self.now.as_ms() - ms);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn enforcer(&mut self) -> &mut Enforcer {
        &mut self.enforcer
    }

    pub(crate) fn sends(&mut self, caller: &Caller) -> (Step, Notes) {
        let headers = self.headers_of(caller);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        self.enforcer.on_request(&Arrival {
            headers: &headers,
            connection: caller,
            now: self.now,
        })
    }

    /// The issuer answers about the token of a caller whose request waits.
    pub(crate) fn told(
        &mut self,
        pending: PendingIntrospection,
        answer: Result<HttpResponse<'_>, FetchError>,
        caller: &Caller,
    ) -> (Step, Notes) {
        let headers = self.headers_of(caller);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let arrival = Arrival {
            headers: &headers,
            connection: caller,
            now: self.now,
        };
        self.enforcer.on_introspection(pending, answer, &arrival)
    }

    /// The wait of a caller's request for keys is over.
    pub(crate) fn keys_awaited(&mut self, pending: PendingKeys, caller: &Caller) -> (Step, Notes) {
        let headers = self.headers_of(caller);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let arrival = Arrival {
            headers: &headers,
            connection: caller,
            now: self.now,
        };
        self.enforcer.on_keys(pending, &arrival)
    }

    fn headers_of(&self, caller: &Caller) -> Vec<(String, Vec<u8>)> {
        let mut headers = caller.headers.clone();
        match &caller.bearer {
            Bearer::None => {}
            Bearer::Default => headers.push((
                "authorization".into(),
                format!("Bearer {}", self.default_token).into_bytes(),
            )),
            Bearer::Token(token) => headers.push(("authorization".into(), format!("Bearer {token}").into_bytes())),
        }
        headers
    }

    #[track_caller]
    pub(crate) fn introspects(&mut self, caller: &Caller) -> Introspection {
        match self.sends(caller).0 {
            Step::Introspect(introspection) => *introspection,
            other @ (Step::Decided(_) | Step::Ask(_) | Step::AwaitKeys(_)) => {
                panic!("expected a question about the token, got {other:?}")
            }
        }
    }

    #[track_caller]
    pub(crate) fn awaits_keys(&mut self, caller: &Caller) -> PendingKeys {
        match self.sends(caller).0 {
            Step::AwaitKeys(pending) => pending,
            other @ (Step::Decided(_) | Step::Ask(_) | Step::Introspect(_)) => {
                panic!("expected a wait for keys, got {other:?}")
            }
        }
    }

    #[track_caller]
    pub(crate) fn asks(&mut self, caller: &Caller) -> (AccessRequest, PendingDecision) {
        match self.sends(caller).0 {
            Step::Ask(question) => (question.request, question.pending),
            other @ (Step::Decided(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                panic!("expected a question, got {other:?}")
            }
        }
    }

    #[track_caller]
    pub(crate) fn permits(&mut self, caller: &Caller) -> (Permit, Notes) {
        match self.sends(caller) {
            (Step::Decided(Ok(permit)), notes) => (permit, notes),
            (other, _) => panic!("expected a permit, got {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refuses(&mut self, caller: &Caller) -> Refusal {
        match self.sends(caller).0 {
            Step::Decided(Err(refusal)) => refusal,
            other @ (Step::Decided(Ok(_)) | Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                panic!("expected a refusal, got {other:?}")
            }
        }
    }

    pub(crate) fn answers(&mut self, pending: PendingDecision, answer: Result<Decision, CallFailure>) -> Verdict {
        self.enforcer.on_decision(pending, answer, self.now)
    }
}

impl Connection for Caller {
    fn peer(&self) -> Rc<PeerResult> {
        assert!(self.may_be_asked, "the connection was asked for its peer");
        Rc::new(self.peer.clone())
    }

    fn source_address(&self) -> Option<std::net::IpAddr> {
        assert!(self.may_be_asked, "the connection was asked for its source address");
        self.address
    }

    fn destination(&self) -> Option<std::net::SocketAddr> {
        assert!(self.may_be_asked, "the connection was asked for its destination");
        self.destination
    }

    fn server_name(&self) -> Option<String> {
        assert!(self.may_be_asked, "the connection was asked for its server name");
        self.server_name.clone()
    }
}

impl Caller {
    /// `GET /` from the peer `web` with the default token.
    pub(crate) fn new() -> Self {
        let headers = [
            (":method", "GET"),
            (":path", "/"),
            (":authority", "orders.example.org"),
            ("x-request-id", "r-1"),
        ];
        Self {
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .to_vec(),
            peer: Ok(Peer::known_by_name("spiffe://example.org/web".parse().unwrap())),
            address: "10.0.0.1".parse().ok(),
            destination: "192.0.2.1:8080".parse().ok(),
            server_name: None,
            bearer: Bearer::Default,
            may_be_asked: true,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(have, _)| have != name);
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// Beside those of that name which are there already.
    pub(crate) fn one_more_header(self, name: &str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    pub(crate) fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub(crate) fn get(self, path: &str) -> Self {
        self.header(":path", path)
    }

    pub(crate) fn method(self, method: &str) -> Self {
        self.header(":method", method)
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        Self {
            bearer: Bearer::Token(token.to_owned()),
            ..self
        }
    }

    pub(crate) fn no_bearer(self) -> Self {
        Self {
            bearer: Bearer::None,
            ..self
        }
    }

    pub(crate) fn peer(self, id: &str) -> Self {
        Self {
            peer: Ok(Peer::known_by_name(id.parse().unwrap())),
            ..self
        }
    }

    /// A peer whose certificate is valid from and up to these times, in seconds since the epoch.
    /// With a certificate of this thumbprint.
    pub(crate) fn certificate(mut self, thumbprint: [u8; 32]) -> Self {
        if let Ok(peer) = &mut self.peer {
            peer.thumbprint = Some(CertificateThumbprint(thumbprint));
        }
        self
    }

    pub(crate) fn peer_valid(mut self, from_s: i64, up_to_s: i64) -> Self {
        if let Ok(peer) = &mut self.peer {
            (peer.starts_at, peer.ends_at) = (Timestamp::from_s(from_s), Timestamp::from_s(up_to_s));
        }
        self
    }

    pub(crate) fn no_peer(self) -> Self {
        self.peer_result(Err(PeerError::Missing))
    }

    pub(crate) fn peer_result(self, peer: PeerResult) -> Self {
        Self { peer, ..self }
    }

    pub(crate) fn from(self, address: &str) -> Self {
        Self {
            address: address.parse().ok(),
            ..self
        }
    }

    pub(crate) fn to(self, destination: &str) -> Self {
        Self {
            destination: destination.parse().ok(),
            ..self
        }
    }

    pub(crate) fn server_name(self, name: &str) -> Self {
        Self {
            server_name: Some(name.to_owned()),
            ..self
        }
    }

    pub(crate) fn with_connection_that_may_not_be_asked(self) -> Self {
        Self {
            may_be_asked: false,
            ..self
        }
    }
}
