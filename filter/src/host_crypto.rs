//! Signatures: checked by the host's BoringSSL where Envoy offers that, and in the module where it does not.
//!
//! Which of the two is chosen once, for each algorithm, by a known-answer test: the example of RFC 7515 must pass, and the
//! same with one bit changed must not.

use std::borrow::Cow;
use std::sync::OnceLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils, rust_crypto};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use picket_core::token::TokenAlgorithm;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use proxy_wasm::hostcalls;
use spki::der::Encode;
use spki::der::asn1::{BitStringRef, UintRef};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};

mod known_answers;

/// Where signatures are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignaturePath {
    /// In Envoy, by its foreign function `verify_signature`.
    Host,
    /// In this module, by RustCrypto.
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
}

static RS256_PATH: OnceLock<SignaturePath> = OnceLock::new();
static ES256_PATH: OnceLock<SignaturePath> = OnceLock::new();

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory,
    // Of jsonwebtoken only `crypto::verify` is used, which needs none of these.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes this module jsonwebtoken's crypto provider. More calls, from other plugins in the VM, change nothing.
pub(crate) fn install() {
    let _ = PROVIDER.install_default();
}

/// Where signatures of this algorithm are checked.
pub(crate) fn path(algorithm: TokenAlgorithm) -> SignaturePath {
    let chosen = match algorithm {
        TokenAlgorithm::Rs256 => &RS256_PATH,
        TokenAlgorithm::Es256 => &ES256_PATH,
    };
    *chosen.get_or_init(|| {
        if known_answers::hold(algorithm, host_verify) {
            SignaturePath::Host
        } else {
            SignaturePath::Module
        }
    })
}

/// For the log: each algorithm and where it is checked.
pub(crate) fn summary() -> String {
    let each = TokenAlgorithm::ALL
        .iter()
        .map(|algorithm| format!("{} {}", algorithm.name(), path(*algorithm).as_str()));
    each.collect::<Vec<_>>().join(", ")
}

fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let ours = TokenAlgorithm::ALL
        .iter()
        .copied()
        .find(|ours| Algorithm::from(*ours) == *algorithm);
    match ours.map(path) {
        Some(SignaturePath::Host) => Ok(Box::new(HostVerifier {
            algorithm: *algorithm,
            key: key.clone(),
        })),
        Some(SignaturePath::Module) => (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(algorithm, key),
        None => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

struct HostVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for HostVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        let is_valid = host_verify(self.algorithm, &self.key, message, signature);
        if is_valid.unwrap_or(false) {
            Ok(())
        } else {
            Err(SignatureError::new())
        }
    }
}

impl JwtVerifier for HostVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
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

/// `None`: the host has no such function, or key or signature have no form that it takes.
fn host_verify(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &[u8]) -> Option<bool> {
    let (public_key, signature) = match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => (rsa_spki(n, e)?, Cow::Borrowed(signature)),
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => (p256_spki(point)?, ecdsa_der(signature)?.into()),
        (_, DecodingKeyKind::RsaModulusExponent { .. } | DecodingKeyKind::SecretOrDer(_)) => return None,
    };
    // The host would take SHA-1 as well: the hash is never the token's choice.
    let arguments = verify_signature_arguments("sha256", &public_key, &signature, message);
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

/// RFC 5280 §4.1.2.7 with RFC 8017 §A.1.1.
fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let key = pkcs1::RsaPublicKey {
        modulus: UintRef::new(modulus).ok()?,
        public_exponent: UintRef::new(exponent).ok()?,
    };
    spki(pkcs1::ALGORITHM_ID, &key.to_der().ok()?)
}

/// RFC 5480 §2.1.1: `id-ecPublicKey` with the curve as a parameter, and the uncompressed point.
fn p256_spki(point: &[u8]) -> Option<Vec<u8>> {
    const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    spki(
        AlgorithmIdentifierRef {
            oid: ID_EC_PUBLIC_KEY,
            parameters: Some((&SECP256R1).into()),
        },
        point,
    )
}

fn spki(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(key).ok()?;
    SubjectPublicKeyInfoRef {
        algorithm,
        subject_public_key,
    }
    .to_der()
    .ok()
}

/// RFC 7518 §3.4 has r‖s, the host wants ASN.1 DER; both numbers must be within the curve's order and not zero.
fn ecdsa_der(signature: &[u8]) -> Option<Vec<u8>> {
    p256::ecdsa::Signature::from_slice(signature)
        .ok()
        .map(|signature| signature.to_der().as_bytes().to_vec())
}
