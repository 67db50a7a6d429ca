//! What is counted: the functions of `core` that a request runs through, each from the same set-up.

use std::fmt;
use std::hint::black_box;
use std::rc::Rc;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{self, ErrorKind};
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey};
use picket_core::configuration::filter::FilterConfiguration;
use picket_core::decision::{Decision, Effect};
use picket_core::enforcement::{Arrival, Enforcer, PeerResult, Pending, Permit, Step, reply};
use picket_core::request::{Header, RequestHead};
use picket_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

const NOW_S: i64 = 1_800_000_000;
const HOST: &str = "orders.example.org";
/// Rules where their number does not matter, as in the benchmark's scenarios.
const RULES: u32 = 11;
/// Few, so that the cache is full and each new decision takes the place of another.
const DECISIONS_MAX: u32 = 100;

/// A function of `core`, or several that a request meets together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HotPath {
    /// Headers to a `RequestHead`.
    RequestHead,
    /// A path among 10 rules.
    #[serde(rename = "route_of_10")]
    RouteOf10,
    /// A path among 10,000 rules.
    #[serde(rename = "route_of_10000")]
    RouteOf10000,
    /// A request whose token and decision are cached, to its permit.
    RequestWarm,
    /// A request with a new token that a rule permits; the signature is taken for good.
    TokenCold,
    /// A request to the question for the policy service.
    RequestAsked,
    /// The answer to that, to its permit.
    AnswerArrived,
    /// A request without a token, to the reply.
    Refusal,
}

impl HotPath {
    /// Every path.
    pub const ALL: &'static [Self] = &[
        Self::RequestHead,
        Self::RouteOf10,
        Self::RouteOf10000,
        Self::RequestWarm,
        Self::TokenCold,
        Self::RequestAsked,
        Self::AnswerArrived,
        Self::Refusal,
    ];

    fn id(self) -> &'static str {
        match self {
            Self::RequestHead => "request_head",
            Self::RouteOf10 => "route_of_10",
            Self::RouteOf10000 => "route_of_10000",
            Self::RequestWarm => "request_warm",
            Self::TokenCold => "token_cold",
            Self::RequestAsked => "request_asked",
            Self::AnswerArrived => "answer_arrived",
            Self::Refusal => "refusal",
        }
    }

    /// Runs it `times` times, after a set-up that does not depend on `times`.
    ///
    /// # Errors
    /// When it does not end as it should.
    pub fn run(self, times: u32) -> Result<()> {
        match self {
            Self::RequestHead => request_head(times),
            Self::RouteOf10 => route(10, times),
            Self::RouteOf10000 => route(10_000, times),
            Self::RequestWarm => request_warm(times),
            Self::TokenCold => token_cold(times),
            Self::RequestAsked => request_asked(times),
            Self::AnswerArrived => answer_arrived(times),
            Self::Refusal => refusal(times),
        }
    }
}

impl fmt::Display for HotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for HotPath {
    type Err = anyhow::Error;

    fn from_str(id: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|path| path.id() == id);
        found.copied().with_context(|| format!("there is no hot path `{id}`"))
    }
}

fn request_head(times: u32) -> Result<()> {
    let headers = headers(RULES / 2, Some(&token(0)));
    for _ in 0..times {
        black_box(RequestHead::parse(black_box(&headers))?);
    }
    Ok(())
}

fn route(rules: u32, times: u32) -> Result<()> {
    let configuration = configuration(rules)?;
    let path = path(rules / 2);
    for _ in 0..times {
        let found = configuration.routes.find(black_box(HOST), "GET", black_box(&path));
        black_box(found.context("no rule matches")?);
    }
    Ok(())
}

fn request_warm(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let headers = headers(0, Some(&token(0)));
    let pending = sidecar.asks(&headers)?;
    sidecar.answers(pending)?;
    for _ in 0..times {
        let permit = sidecar.permits(black_box(&headers))?;
        look_at(&permit);
    }
    Ok(())
}

fn token_cold(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    // One token is remembered, so that neither of two is known when it comes again.
    let each = [0, 1].map(|number| headers(RULES - 1, Some(&token(number))));
    for headers in each.iter().cycle().take(usize::try_from(times)?) {
        black_box(sidecar.permits(black_box(headers))?);
    }
    Ok(())
}

fn request_asked(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let headers = headers(0, Some(&token(0)));
    black_box(sidecar.asks(&headers)?);
    for _ in 0..times {
        black_box(sidecar.asks(black_box(&headers))?);
    }
    Ok(())
}

/// The most times that [`answer_arrived`] can be run: so many requests wait, however many are answered.
const WAITING: u32 = 1_000;

fn answer_arrived(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let token = token(0);
    let mut waiting = Vec::new();
    for number in 0..WAITING + DECISIONS_MAX {
        let mut headers = headers(0, Some(&token));
        // Another path for each, or they would all have one place in the cache.
        set(&mut headers, ":path", &format!("{}{number:06}", prefix(0)));
        waiting.push(sidecar.asks(&headers)?);
    }
    let mut waiting = waiting.into_iter();
    for pending in waiting.by_ref().take(usize::try_from(DECISIONS_MAX)?) {
        sidecar.answers(pending)?;
    }
    for _ in 0..times {
        let pending = waiting.next().context("no more requests wait")?;
        look_at(&sidecar.answers(black_box(pending))?);
    }
    // Freeing the rest would count less the more were answered.
    std::mem::forget(waiting);
    Ok(())
}

fn refusal(times: u32) -> Result<()> {
    let mut sidecar = Sidecar::new()?;
    let headers = headers(0, None);
    for _ in 0..times {
        let Step::Decided(Err(refusal)) = sidecar.sends(black_box(&headers)) else {
            bail!("a request without a token was not refused");
        };
        black_box(reply(&refusal, "orders"));
    }
    Ok(())
}

/// What the filter reads of a permit.
fn look_at(permit: &Permit) {
    for name in permit.headers_to_remove() {
        black_box(name);
    }
    for header in permit.headers_to_set() {
        black_box(header);
    }
    black_box(permit.rewritten_path());
}

struct Sidecar {
    enforcer: Enforcer,
    peer: Rc<PeerResult>,
}

impl Sidecar {
    fn new() -> Result<Self> {
        Ok(Self {
            enforcer: Enforcer::new(configuration(RULES)?, "node-1".to_owned(), 7),
            peer: Rc::new(Ok("spiffe://example.org/web".parse()?)),
        })
    }

    fn sends(&mut self, headers: &[Header]) -> Step {
        let (step, _) = self.enforcer.request_arrived(&Arrival {
            headers,
            peer: &self.peer,
            source_address: Some([10, 0, 0, 1].into()),
            now: Timestamp::from_s(NOW_S),
        });
        step
    }

    fn permits(&mut self, headers: &[Header]) -> Result<Permit> {
        match self.sends(headers) {
            Step::Decided(verdict) => verdict.map_err(|refusal| anyhow!("refused: {refusal:?}")),
            Step::Ask(_) => bail!("expected a permit, got a question"),
        }
    }

    fn asks(&mut self, headers: &[Header]) -> Result<Pending> {
        match self.sends(headers) {
            Step::Ask(question) => Ok(question.pending),
            Step::Decided(verdict) => bail!("expected a question, got {verdict:?}"),
        }
    }

    fn answers(&mut self, pending: Pending) -> Result<Permit> {
        let decision = Decision {
            effect: Effect::Permit,
            decision_id: "0198c7a2-5f0e-7c3a-9d6b-0a1b2c3d4e5f".to_owned(),
            policy_revision: "895f99afdc11847d".to_owned(),
            valid_for_ms: 60_000,
            policy_ids: vec!["orders-read".to_owned()],
            caller_reasons: Vec::new(),
        };
        let verdict = self
            .enforcer
            .answer_arrived(pending, Ok(decision), Timestamp::from_s(NOW_S));
        verdict.map_err(|refusal| anyhow!("refused: {refusal:?}"))
    }
}

fn prefix(rule: u32) -> String {
    format!("/area-{rule:05}/items/")
}

fn path(rule: u32) -> String {
    format!("{}17", prefix(rule))
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
fn token(number: u32) -> String {
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

/// What reaches the filter: the client's headers, a forged one among them, and those that Envoy adds.
fn headers(rule: u32, token: Option<&str>) -> Vec<Header> {
    let path = path(rule);
    let mut headers: Vec<Header> = [
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
    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
    .to_vec();
    if let Some(token) = token {
        headers.push(("authorization".to_owned(), format!("Bearer {token}").into_bytes()));
    }
    headers
}

fn set(headers: &mut [Header], name: &str, value: &str) {
    for header in headers.iter_mut().filter(|(have, _)| have == name) {
        header.1 = value.as_bytes().to_vec();
    }
}

/// Takes every signature for good, in this whole process: checking one is Envoy's BoringSSL's, which is not counted.
pub fn trust_every_signature() {
    // A second call changes nothing.
    let _ = PROVIDER.install_default();
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory,
    key_utils: KeyUtils::new_unimplemented(),
};

fn verifier_factory(algorithm: &Algorithm, _: &DecodingKey) -> errors::Result<Box<dyn JwtVerifier>> {
    Ok(Box::new(Trusting(*algorithm)))
}

struct Trusting(Algorithm);

impl Verifier<Vec<u8>> for Trusting {
    fn verify(&self, _: &[u8], _: &Vec<u8>) -> Result<(), SignatureError> {
        Ok(())
    }
}

impl JwtVerifier for Trusting {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}
