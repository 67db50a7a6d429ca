//! Key sets: every key that is found fits, is strong enough, and verifies no signature that nobody
//! made.

#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_core::jose::TokenAlgorithm;
use picket_core::jose::algorithm::Curve;
use picket_core::jose::keys::{KeyMaterial, KeySet, KeySource, RSA_MODULUS_BITS, VerificationKey};
use picket_core::jose::signature::{SignatureVerifier, SoftwareVerifier};
use serde_json::Value;

/// Each takes a signature to be checked.
const IDS_MAX: usize = 4;

fn check(set: &KeySet, ids: &[&str], source: KeySource) {
    for algorithm in TokenAlgorithm::ALL.iter().copied() {
        let ids = ids.iter().copied().map(Some).chain([None]);
        let found: Vec<_> = ids.filter_map(|id| set.find(id, algorithm)).collect();
        for key in found.iter().flat_map(|keys| keys.iter()) {
            assert!(set.supports(algorithm) && key.supports(algorithm));
            check_material(key, algorithm, source);
            check_verifies_nothing(key, algorithm);
        }
    }
}

fn check_material(key: &VerificationKey, algorithm: TokenAlgorithm, source: KeySource) {
    match key.material() {
        KeyMaterial::Rsa { modulus, exponent } => {
            let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
            assert!(RSA_MODULUS_BITS.contains(&bits) && modulus[0] != 0);
            assert!((1..=4).contains(&exponent.len()) && exponent.last().is_some_and(|byte| byte % 2 == 1));
            assert!(*exponent != [1]);
            assert!(key.spki().is_some());
        }
        KeyMaterial::Ec { curve, point } => {
            assert_eq!(point.len(), 1 + 2 * Curve::coordinate_bytes(*curve));
            assert!(key.spki().is_some());
        }
        KeyMaterial::Ed25519(_) => assert!(key.spki().is_none()),
        KeyMaterial::Secret(secret) => {
            assert_eq!(source, KeySource::Inline, "what everybody can fetch is no secret");
            assert!(secret.as_bytes().len() >= algorithm.hash_function().bytes());
            assert!(key.spki().is_none() && !format!("{key:?}").contains(&format!("{:?}", secret.as_bytes())));
        }
    }
}

/// A signature of the right length, by nobody.
fn check_verifies_nothing(key: &VerificationKey, algorithm: TokenAlgorithm) {
    let bytes = match key.material() {
        KeyMaterial::Rsa { modulus, .. } => modulus.len(),
        KeyMaterial::Ec { curve, .. } => 2 * curve.coordinate_bytes(),
        KeyMaterial::Ed25519(_) => 64,
        KeyMaterial::Secret(_) => algorithm.hash_function().bytes(),
    };
    for filling in [0, 1] {
        assert!(!SoftwareVerifier.is_valid(algorithm, key, b"header.claims", &vec![filling; bytes]));
    }
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    let set = serde_json::from_str(include_str!("../seeds/key_set/rfc.json")).expect("JSON");
    let set = KeySet::parse(&set, "keys", KeySource::Published).expect("a key set");
    assert!(set.find(Some("p256"), TokenAlgorithm::Es256).is_some());
    assert!(set.find(None, TokenAlgorithm::EdDsa).is_some());
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let members = document.get("keys").and_then(Value::as_array);
    let ids = members
        .iter()
        .flat_map(|keys| keys.iter())
        .filter_map(|key| key.get("kid")?.as_str());
    let ids: Vec<&str> = ids.take(IDS_MAX).collect();
    for source in [KeySource::Inline, KeySource::Published] {
        match KeySet::parse(&document, "keys", source) {
            Ok(set) => check(&set, &ids, source),
            Err(problems) => {
                assert!(!problems.as_slice().is_empty());
                let is_placed = |path: &str| path.starts_with("keys");
                assert!(
                    problems
                        .as_slice()
                        .iter()
                        .all(|problem| is_placed(&problem.path) && !problem.message.is_empty())
                );
            }
        }
    }
});
