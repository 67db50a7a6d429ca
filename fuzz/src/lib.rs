//! What the fuzz targets share: verifiers whose answers are known, tokens put together from text,
//! and a sidecar.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Arrival, Connection, Enforcer, PeerResult, Permit, Refusal, Step, reply};
use picket_core::jose::TokenAlgorithm;
use picket_core::jose::keys::VerificationKey;
use picket_core::jose::signature::SignatureVerifier;
use picket_core::peer::{Peer, PeerError};
use picket_core::request::Header;
use picket_model::time::Timestamp;
use serde_json::Value;

/// The time in most targets, in seconds since the epoch.
pub const NOW_S: i64 = 1_800_000_000;

/// A verifier whose answers do not depend on mathematics, so that a fuzzer gets past it, or never
/// does.
#[derive(Clone, Copy, Debug)]
pub enum FixedVerifier {
    /// Everything is signed: what comes after the signature is reached.
    Always,
    /// Nothing is signed: nothing may be accepted.
    Never,
    /// This text alone is signed, by this signature.
    Only(&'static str, &'static [u8]),
}

impl SignatureVerifier for FixedVerifier {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        assert!(key.supports(algorithm), "a key is never asked about another algorithm");
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Only(text, by) => text.as_bytes() == message && *by == signature,
        }
    }
}

/// A connection of which this is known.
#[derive(Debug)]
pub struct From(pub Rc<PeerResult>);

impl From {
    /// A connection without a client certificate.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Rc::new(Err(PeerError::Missing)))
    }

    /// A connection of this peer.
    #[must_use]
    pub fn peer(id: &str) -> Self {
        Self(Rc::new(Ok(Peer::known_by_name(id.parse().expect("a SPIFFE ID")))))
    }
}

impl Connection for From {
    fn peer(&self) -> Rc<PeerResult> {
        Rc::clone(&self.0)
    }

    fn source_address(&self) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn destination(&self) -> Option<SocketAddr> {
        Some((Ipv4Addr::LOCALHOST, 8080).into())
    }

    fn server_name(&self) -> Option<String> {
        Some("orders.example.org".to_owned())
    }
}

/// A JWS of three lines, header, payload and signature, each put into base64url; text of one line
/// stays as it is. A fuzzer changes JSON far better than the base64url of JSON.
#[must_use]
pub fn jws_of(text: &str) -> String {
    let mut lines = text.splitn(3, '\n');
    match (lines.next(), lines.next(), lines.next()) {
        (Some(header), Some(payload), signature) => {
            let parts = [header, payload, signature.unwrap_or_default()];
            parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
        }
        (first, _, _) => first.unwrap_or_default().to_owned(),
    }
}

/// Header or payload of a JWS, read by another reader than core's. `None`: it is no JSON.
#[must_use]
pub fn json_part(jws: &str, index: usize) -> Option<Value> {
    let part = URL_SAFE_NO_PAD.decode(jws.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&part).ok()
}

/// An enforcer of this configuration.
#[must_use]
pub fn enforcer(configuration: FilterConfiguration, signatures: Rc<dyn SignatureVerifier>) -> Enforcer {
    let proofs = ProofMemory::of_one_worker(SharedSecret::new([3; SharedSecret::BYTES]), &configuration.dpop);
    Enforcer::new(configuration, "node-1".to_owned(), 7, signatures, proofs)
}

/// Sends a request, and looks at whatever comes of it: nothing that is written to a header may hold
/// a control character, so that no value makes two headers of one.
pub fn send(enforcer: &mut Enforcer, headers: &[Header<'_>], connection: &From, now: Timestamp) -> Step {
    let arrival = Arrival {
        headers,
        connection,
        now,
    };
    let (step, _) = enforcer.on_request(&arrival);
    match &step {
        Step::Decided(Ok(permit)) => check_permit(permit),
        Step::Decided(Err(refusal)) => check_refusal(refusal),
        Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_) => {}
    }
    step
}

/// As in [`send`], for the verdict that came with an answer.
pub fn check_permit(permit: &Permit) {
    for (name, value) in permit.headers_to_set() {
        // What is left of a request's own cookies and path is its own text.
        assert!(name == "cookie" || is_visible(value), "{name}: {value:?}");
    }
    let path = permit.rewritten_path().unwrap_or("/");
    assert!(
        path.starts_with('/') && !path.bytes().any(|byte| byte.is_ascii_control()),
        "{path:?}"
    );
}

/// As in [`send`], for the verdict that came with an answer.
pub fn check_refusal(refusal: &Refusal) {
    let reply = reply(refusal, "orders");
    assert!(reply.headers.iter().all(|(_, value)| is_visible(value)), "{reply:?}");
    assert!(
        reply.status >= 400 || reply.grpc_status.is_some_and(|status| status != 0),
        "{reply:?}"
    );
    assert!(
        reply.grpc_status.is_some() || serde_json::from_str::<Value>(&reply.body).is_ok(),
        "{reply:?}"
    );
}

fn is_visible(value: &str) -> bool {
    value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}
