//! Signatures: checked by the host's BoringSSL where Envoy offers that, and in the module where it
//! does not.
//!
//! Envoy's `verify_signature` does PKCS #1 v1.5 and ECDSA. Which of the two checks an algorithm is
//! chosen once by the known answers of core: one that passes neither verifies nothing.

use std::borrow::Cow;
use std::sync::OnceLock;

use picket_core::jose::algorithm::{Curve, Scheme, TokenAlgorithm};
use picket_core::jose::keys::VerificationKey;
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier, known_answers};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use proxy_wasm::hostcalls;

/// Where signatures are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignaturePath {
    /// In Envoy, by its foreign function `verify_signature`.
    Host,
    /// In this module ([`SoftwareVerifier`]).
    Module,
}

impl SignaturePath {
    /// The name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Module => "module",
        }
    }

    fn verifier(self) -> &'static dyn SignatureVerifier {
        match self {
            Self::Host => &HostVerifier,
            Self::Module => &SoftwareVerifier,
        }
    }
}

/// Where signatures of this algorithm are checked; `None`: nowhere, as no known answer came out
/// right.
pub(crate) fn path(algorithm: TokenAlgorithm) -> Option<SignaturePath> {
    static PATHS: OnceLock<Vec<(TokenAlgorithm, Option<SignaturePath>)>> = OnceLock::new();
    let paths = PATHS.get_or_init(|| TokenAlgorithm::ALL.iter().map(|each| (*each, choose(*each))).collect());
    paths
        .iter()
        .find(|(have, _)| *have == algorithm)
        .and_then(|(_, path)| *path)
}

fn choose(algorithm: TokenAlgorithm) -> Option<SignaturePath> {
    [SignaturePath::Host, SignaturePath::Module]
        .into_iter()
        .find(|path| known_answers::pass(algorithm, path.verifier()))
}

/// For the log: each algorithm and where it is checked.
pub(crate) fn summary() -> String {
    let each = TokenAlgorithm::ALL.iter().map(|algorithm| {
        let path = path(*algorithm).map_or("nowhere", SignaturePath::as_str);
        format!("{} {path}", algorithm.name())
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Checks each signature where the known answers say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChosenVerifier;

impl SignatureVerifier for ChosenVerifier {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        path(algorithm).is_some_and(|path| path.verifier().is_valid(algorithm, key, message, signature))
    }
}

#[derive(Clone, Copy, Debug)]
struct HostVerifier;

impl SignatureVerifier for HostVerifier {
    fn is_valid(&self, algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
        host_verify(algorithm, key, message, signature).unwrap_or(false)
    }
}

/// `VerifySignatureResult` of Envoy's `verify_signature.proto`.
#[derive(Message)]
struct VerifySignatureResult {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// `None`: the host has no such function or takes no such algorithm, or the signature has no form
/// that it takes.
fn host_verify(algorithm: TokenAlgorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> Option<bool> {
    let signature = match algorithm.scheme() {
        Scheme::RsaPkcs1 => Cow::Borrowed(signature),
        Scheme::Ecdsa(curve) => ecdsa_der(curve, signature)?.into(),
        Scheme::RsaPss | Scheme::Ed25519 | Scheme::Hmac => return None,
    };
    // The host would take SHA-1 as well: the hash is never the token's choice.
    let hash_function = algorithm.hash_function().name();
    let arguments = verify_signature_arguments(hash_function, key.spki()?, &signature, message);
    let answer = hostcalls::call_foreign_function("verify_signature", Some(&arguments)).ok()??;
    VerifySignatureResult::decode(answer.as_slice())
        .ok()
        .map(|answer| answer.result)
}

/// `VerifySignatureArguments` of the same file, written without a copy of its parts.
fn verify_signature_arguments(hash_function: &str, public_key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    const FIELD_HEAD_BYTES_MAX: usize = 1 + 5;
    let fields = [hash_function.as_bytes(), public_key, signature, text];
    let bytes = fields.iter().map(|field| field.len() + FIELD_HEAD_BYTES_MAX).sum();
    let mut out = Vec::with_capacity(bytes);
    for (tag, field) in (1..).zip(fields) {
        encode_key(tag, WireType::LengthDelimited, &mut out);
        // No field is longer than the request's headers.
        encode_varint(u64::try_from(field.len()).unwrap_or(u64::MAX), &mut out);
        out.extend_from_slice(field);
    }
    out
}

/// RFC 7518 §3.4 has r‖s, the host wants ASN.1 DER; both numbers must be within the curve's order
/// and not zero.
fn ecdsa_der(curve: Curve, signature: &[u8]) -> Option<Vec<u8>> {
    match curve {
        Curve::P256 => p256::ecdsa::Signature::from_slice(signature)
            .ok()
            .map(|s| s.to_der().as_bytes().to_vec()),
        Curve::P384 => p384::ecdsa::Signature::from_slice(signature)
            .ok()
            .map(|s| s.to_der().as_bytes().to_vec()),
        Curve::P521 => p521::ecdsa::Signature::from_slice(signature)
            .ok()
            .map(|s| s.to_der().as_bytes().to_vec()),
    }
}
