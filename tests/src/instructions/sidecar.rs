//! A sidecar and its requests, as the hot paths need them: the one place here that knows `core`.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Arrival, Connection, Enforcer, PeerResult, PendingDecision, Permit, Step, reply};
use picket_core::jose::TokenAlgorithm;
use picket_core::jose::keys::VerificationKey;
use picket_core::jose::signature::SignatureVerifier;
use picket_core::peer::Peer;
use picket_core::request::{Header, RequestHead};
use picket_model::decision::{Decision, Effect, Vary};
use picket_model::time::Timestamp;
use serde_json::{Value, json};

const NOW_S: i64 = 1_800_000_000;
const HOST: &str = "orders.example.org";
/// Rules where their number does not matter, as in the benchmark's scenarios.
pub const RULES: u32 = 11;
/// Few, so that the cache is full and each new decision takes the place of another.
pub const DECISIONS_MAX: u32 = 100;

/// A request as the proxy hands it over.
pub struct Request {
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Request {
    /// One that a rule matches.
    pub fn new(rule: u32, token: Option<&str>) -> Self {
        Self::numbered(rule, 17, token)
    }

    /// Another for each `number`: the client's headers, a forged one among them, and those that Envoy adds.
    pub fn numbered(rule: u32, number: u32, token: Option<&str>) -> Self {
        let path = path(rule, number);
        let mut headers = [
            (":authority", HOST),
            (":path", &path),
            (":method", "GET"),
            (":scheme", "http"),
            ("user-agent", "picket-bench/1"),
            ("accept", "application/json"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-jwt-subject", "mallory"),
            ("x-picket-subject", "mallory"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-request-id", "2c9f0f6e-8a57-4c3f-9d0e-7b1a5e6c4d32"),
        ]
        .map(|(name, value)| (name, value.as_bytes().to_vec()))
        .to_vec();
        if let Some(token) = token {
            headers.push(("authorization", format!("Bearer {token}").into_bytes()));
        }
        Self { headers }
    }

    /// As the filter borrows them from what the host wrote.
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect()
    }

    /// Reads it, and nothing else.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(&self) -> Result<()> {
        black_box(RequestHead::parse(&self.headers())?);
        Ok(())
    }
}

/// Route rules, and a path that the one in the middle matches.
pub struct Routes {
    configuration: FilterConfiguration,
    path: String,
}

impl Routes {
    /// So many rules.
    ///
    /// # Errors
    /// When the configuration has a mistake.
    pub fn new(rules: u32) -> Result<Self> {
        Ok(Self {
            configuration: configuration(rules)?,
            path: path(rules / 2, 17),
        })
    }

    /// Looks for the rule.
    ///
    /// # Errors
    /// When none matches.
    pub fn find_the_middle_one(&self) -> Result<()> {
        let found = self.configuration.routes.find(HOST, "GET", &self.path);
        black_box(found.context("no rule matches")?);
        Ok(())
    }
}

/// An enforcer with its caches.
pub struct Sidecar {
    enforcer: Enforcer,
    connection: OneConnection,
}

/// All requests come on it.
struct OneConnection(Rc<PeerResult>);

impl Connection for OneConnection {
    fn peer(&self) -> Rc<PeerResult> {
        Rc::clone(&self.0)
    }

    fn source_address(&self) -> Option<IpAddr> {
        Some([10, 0, 0, 1].into())
    }

    fn destination(&self) -> Option<SocketAddr> {
        None
    }

    fn server_name(&self) -> Option<String> {
        None
    }
}

impl Sidecar {
    /// With empty caches, of which the one for tokens holds a single one.
    ///
    /// # Errors
    /// When the configuration has a mistake.
    pub fn new() -> Result<Self> {
        let configuration = configuration(RULES)?;
        let proofs = ProofMemory::of_one_worker(SharedSecret::new([7; 32]), &configuration.dpop);
        Ok(Self {
            enforcer: Enforcer::new(configuration, "node-1".to_owned(), 7, Rc::new(Trusting), proofs),
            connection: OneConnection(Rc::new(Ok(Peer::known_by_name("spiffe://example.org/web".parse()?)))),
        })
    }

    fn sends(&mut self, request: &Request) -> Step {
        let (step, _) = self.enforcer.on_request(&Arrival {
            headers: &request.headers(),
            connection: &self.connection,
            now: Timestamp::from_s(NOW_S),
        });
        step
    }

    /// A request that is permitted at once.
    ///
    /// # Errors
    /// When it is not.
    pub fn permits(&mut self, request: &Request) -> Result<()> {
        match self.sends(request) {
            Step::Decided(Ok(permit)) => look_at(&permit),
            Step::Decided(Err(refusal)) => bail!("expected a permit, got {refusal:?}"),
            Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_) => bail!("expected a permit, got a question"),
        }
        Ok(())
    }

    /// A request about which the policy service is asked.
    ///
    /// # Errors
    /// When it is not.
    pub fn asks(&mut self, request: &Request) -> Result<PendingDecision> {
        match self.sends(request) {
            Step::Ask(question) => Ok(question.pending),
            other @ (Step::Decided(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                bail!("expected a question, got {other:?}")
            }
        }
    }

    /// The policy service permits a request that waits.
    ///
    /// # Errors
    /// When it is refused all the same.
    pub fn answers(&mut self, pending: PendingDecision) -> Result<()> {
        let decision = Decision {
            effect: Effect::Permit,
            decision_id: "0198c7a2-5f0e-7c3a-9d6b-0a1b2c3d4e5f".to_owned(),
            policy_revision: "895f99afdc11847d".to_owned(),
            valid_for_ms: 60_000,
            policy_ids: vec!["orders-read".to_owned()],
            caller_reasons: Vec::new(),
            vary: Vary::EVERYTHING,
            risk: None,
            challenge: None,
            obligations: Vec::new(),
            is_token_revoked: false,
        };
        let verdict = self
            .enforcer
            .on_decision(pending, Ok(decision), Timestamp::from_s(NOW_S));
        look_at(&verdict.map_err(|refusal| anyhow!("expected a permit, got {refusal:?}"))?);
        Ok(())
    }

    /// A request that is refused, with its reply.
    ///
    /// # Errors
    /// When it is not.
    pub fn refuses(&mut self, request: &Request) -> Result<()> {
        let Step::Decided(Err(refusal)) = self.sends(request) else {
            bail!("expected a refusal");
        };
        black_box(reply(&refusal, "orders"));
        Ok(())
    }
}

/// What the filter reads of a permit.
fn look_at(permit: &Permit) {
    permit.headers_to_remove().for_each(|name| _ = black_box(name));
    permit.headers_to_set().for_each(|header| _ = black_box(header));
    black_box(permit.rewritten_path());
}

fn prefix(rule: u32) -> String {
    format!("/area-{rule:05}/items/")
}

fn path(rule: u32, number: u32) -> String {
    format!("{}{number:06}", prefix(rule))
}

/// `rules` rules, of which the last one permits by itself and the others ask the policy service.
fn configuration(rules: u32) -> Result<FilterConfiguration> {
    let rule = |number: u32| {
        let decision = if number + 1 < rules { "policy_service" } else { "permit" };
        json!({
            "id": format!("rule-{number:05}"), "hosts": [HOST], "methods": ["GET"],
            "paths": [format!("{}{{id}}", prefix(number))], "decision": decision,
            "peers": { "spiffe_ids": ["spiffe://example.org/web"] },
        })
    };
    let document = json!({
        "workload": "orders",
        "policy_service": { "cluster": "policy_service" },
        "trust_domains": ["example.org"],
        "providers": [{
            "name": "main", "issuer": "https://issuer.example", "audiences": ["orders"],
            "keys": { "keys": [key()] }, "roles_claim": "roles", "tenant_claim": "tenant",
        }],
        "rules": (0..rules).map(rule).collect::<Vec<_>>(),
        "token_cache_entries_max": 1,
        "decision_cache_entries_max": DECISIONS_MAX,
    });
    FilterConfiguration::parse(document.to_string().as_bytes()).map_err(|mistakes| anyhow!("{mistakes}"))
}

/// The public key of RFC 7515 §A.3.1: core wants a point on the curve.
fn key() -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

/// A token like that of the benchmark's scenarios; `number` makes it another one.
pub fn token(number: u32) -> String {
    let header = json!({ "typ": "JWT", "alg": "ES256", "kid": "k1" });
    let claims = json!({
        "iss": "https://issuer.example", "sub": "alice", "aud": "orders", "iat": NOW_S, "exp": NOW_S + 3600,
        "jti": format!("{number:016x}"), "tenant": "acme", "roles": ["clerk"], "scope": "orders.read orders.write",
    });
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    format!(
        "{}.{}.{}",
        part(header.as_bytes()),
        part(claims.as_bytes()),
        part(&[1; 64])
    )
}

/// Takes every signature for good: checking one is Envoy's BoringSSL's, which is not counted.
#[derive(Debug)]
struct Trusting;

impl SignatureVerifier for Trusting {
    fn is_valid(&self, _: TokenAlgorithm, _: &VerificationKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}
