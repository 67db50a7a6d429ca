//! A filter with an imported configuration, and requests to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use picket::istio::{ConnectionAddress, Import, Workload, import};
use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Arrival, Connection, Enforcer, Notes, PeerResult, Step};
use picket_core::jose::signature::SoftwareVerifier;
use picket_core::peer::{Peer, PeerError};
use picket_core::reason::DenyReason;
use picket_model::time::Timestamp;
use serde_json::{Value, json};

const NOW_S: i64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of the test, 32 bytes!!";

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    /// A SPIFFE ID.
    pub(crate) peer: Option<String>,
    /// Of a good token; `None`: none is sent.
    pub(crate) claims: Option<Value>,
    pub(crate) address: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) port: u16,
    pub(crate) server_name: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            authority: "httpbin.foo:8000".into(),
            headers: vec![],
            peer: None,
            claims: None,
            address: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            port: 8000,
            server_name: None,
        }
    }
}

impl Connection for Request {
    fn peer(&self) -> Rc<PeerResult> {
        let id = self.peer.as_deref().map(|id| id.parse().unwrap());
        Rc::new(id.map(Peer::known_by_name).ok_or(PeerError::Missing))
    }

    fn source_address(&self) -> Option<IpAddr> {
        Some(self.address)
    }

    fn destination(&self) -> Option<SocketAddr> {
        Some((self.destination, self.port).into())
    }

    fn server_name(&self) -> Option<String> {
        self.server_name.clone()
    }
}

/// The key set of all issuers, as Istio has it: JSON in a string.
pub(crate) fn jwks() -> String {
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "k", "k": URL_SAFE_NO_PAD.encode(SECRET)}]}).to_string()
}

pub(crate) fn workload(namespace: &str, labels: &[(&str, &str)]) -> Workload {
    let labels = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Workload {
        name: "httpbin".into(),
        namespace: namespace.into(),
        labels: labels.collect::<BTreeMap<_, _>>(),
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".into(),
        keys_cluster: None,
        connection_address: ConnectionAddress::Own,
        forwarded_for_trusted_hops: Some(0),
    }
}

/// Imports documents; JSON is YAML.
pub(crate) fn imported(documents: &[Value], workload: &Workload) -> Import {
    let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
    import(&[("policies.yaml".to_owned(), texts.join("\n---\n"))], workload)
}

pub(crate) struct Sidecar(Enforcer);

impl Sidecar {
    pub(crate) fn new(configuration: &Value) -> Self {
        let configuration = FilterConfiguration::parse(configuration.to_string().as_bytes()).unwrap();
        let proofs = ProofMemory::of_one_worker(SharedSecret::new([3; 32]), &configuration.dpop);
        let verifier = Rc::new(SoftwareVerifier);
        Self(Enforcer::new(configuration, "node".into(), 7, verifier, proofs))
    }

    /// Why the request is refused, if it is.
    pub(crate) fn refuses(&mut self, request: &Request) -> (Option<DenyReason>, Notes) {
        let token = request
            .claims
            .as_ref()
            .map(|claims| format!("Bearer {}", token(claims)));
        let mut headers: Vec<(&str, &[u8])> = vec![
            (":method", request.method.as_bytes()),
            (":path", request.path.as_bytes()),
            (":authority", request.authority.as_bytes()),
        ];
        headers.extend(token.iter().map(|token| ("authorization", token.as_bytes())));
        headers.extend(
            request
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
        );
        let (step, notes) = self.0.on_request(&Arrival {
            headers: &headers,
            connection: request,
            now: Timestamp::from_s(NOW_S),
        });
        match step {
            Step::Decided(verdict) => (verdict.err().map(|refusal| refusal.reason), notes),
            other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                panic!("expected a verdict, got {other:?}")
            }
        }
    }
}

fn token(claims: &Value) -> String {
    let header = Header {
        kid: Some("k".into()),
        ..Header::new(Algorithm::HS256)
    };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}
