//! Tokens in the form of common issuers (`tests/vectors/issuers.json`) under the configurations of
//! `examples/issuers`, with keys that are fetched from where the configuration says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use picket_core::enforcement::{KeyFetch, Step};
use picket_core::token::remote_keys::FetchProgress;
use picket_core::token::remote_keys::response::HttpResponse;
use picket_core::token::remote_keys::shared_memory::SharedMemory;
use picket_model::access::Principal;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::key_sets::Board;
use crate::support::{Caller, NOW_S, Sidecar};

const VECTORS: &str = include_str!("../../../tests/vectors/issuers.json");
const KEY_ID: &str = "k1";
/// Claims that are numbers of seconds, which the vectors count from the arrival of the request.
const TIMES: [&str; 4] = ["iat", "nbf", "exp", "auth_time"];

/// RSA, as every one of these issuers signs with RS256.
static KEY: LazyLock<RsaPrivateKey> = LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    comment: String,
    /// The case whose configuration, header and claims this one has, but for its own claims.
    like: Option<String>,
    /// The file in `examples/issuers`.
    #[serde(default)]
    configuration: String,
    #[serde(default)]
    header: Map<String, Value>,
    /// `null` takes a claim out.
    claims: Map<String, Value>,
    /// Changes of the first provider.
    #[serde(default)]
    provider: Map<String, Value>,
    /// `ask`: the token is good, and the policy service is asked. Otherwise the reason of the
    /// refusal.
    expected: String,
    /// Members of the principal.
    #[serde(default)]
    principal: Map<String, Value>,
}

impl Case {
    fn all() -> Vec<Self> {
        let cases: Vec<Self> = serde_json::from_str(VECTORS).unwrap();
        let by_id: BTreeMap<_, _> = cases.iter().map(|case| (case.id.clone(), case.clone())).collect();
        assert_eq!(by_id.len(), cases.len(), "two cases have one id");
        cases.into_iter().map(|case| case.resolved(&by_id)).collect()
    }

    fn resolved(mut self, by_id: &BTreeMap<String, Self>) -> Self {
        let Some(like) = self.like.take() else {
            return self;
        };
        let base = &by_id[&like];
        assert!(base.like.is_none(), "{}: `{like}` is like another one", self.id);
        self.configuration.clone_from(&base.configuration);
        self.header.clone_from(&base.header);
        let changes = std::mem::replace(&mut self.claims, base.claims.clone());
        self.claims.extend(changes);
        self.claims.retain(|_, value| !value.is_null());
        self
    }

    fn document(&self) -> Value {
        let file = folder().join(&self.configuration).with_extension("json");
        let mut document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let provider = document["providers"][0].as_object_mut().unwrap();
        provider.extend(self.provider.clone());
        document
    }

    fn token(&self) -> String {
        let mut claims = self.claims.clone();
        for (name, value) in &mut claims {
            if TIMES.contains(&name.as_str()) {
                *value = json!(NOW_S + value.as_i64().unwrap());
            }
        }
        let header = Header {
            typ: self.header.get("typ").map(|typ| typ.as_str().unwrap().to_owned()),
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::RS256)
        };
        let key = EncodingKey::from_rsa_der(KEY.to_pkcs1_der().unwrap().as_bytes());
        encode(&header, &claims, &key).unwrap()
    }

    /// What is not as expected.
    fn difference(&self) -> Option<String> {
        let document = self.document();
        let mut sidecar = Sidecar::with(&document);
        fetch_keys(&mut sidecar, &document);
        let caller = Caller::new()
            .get("/orders/1")
            .header(":authority", "orders.example.com")
            .bearer(&self.token());
        let (got, principal) = match sidecar.sends(&caller).0 {
            Step::Ask(question) => ("ask".to_owned(), question.request.principal),
            Step::Decided(Err(refusal)) => (refusal.reason.code().to_owned(), None),
            other @ (Step::Decided(Ok(_)) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                return Some(format!("{other:?}"));
            }
        };
        if got != self.expected {
            return Some(format!("{got}, expected {}", self.expected));
        }
        let found = principal.map(|principal| members(&principal)).unwrap_or_default();
        self.principal
            .iter()
            .find(|(name, value)| found.get(*name) != Some(*value))
            .map(|(name, value)| format!("{name} is {:?}, expected {value}", found.get(name)))
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/issuers")
}

fn members(principal: &Principal) -> Map<String, Value> {
    let members = json!({
        "issuer": principal.issuer, "subject": principal.subject, "tenant": principal.tenant,
        "roles": principal.roles, "scopes": principal.scopes, "acr": principal.acr,
        "session_id": principal.session_id, "token_id": principal.token_id,
    });
    members.as_object().unwrap().clone()
}

/// Gives every provider its keys, after the metadata of the issuer where the configuration asks for
/// them.
fn fetch_keys(sidecar: &mut Sidecar, document: &Value) {
    let keys = json!({"keys": [{
        "kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256",
        "n": URL_SAFE_NO_PAD.encode(KEY.n().to_bytes_be()), "e": URL_SAFE_NO_PAD.encode(KEY.e().to_bytes_be()),
    }]});
    let board = Board::default();
    let seat = board.seat(1);
    let now = sidecar.now();
    let fetches = sidecar.enforcer().tick(now, &seat);
    let providers = document["providers"].as_array().unwrap();
    assert_eq!(fetches.len(), providers.len());
    for (mut fetch, provider) in fetches.into_iter().zip(providers) {
        let metadata = json!({"issuer": provider["issuer"], "jwks_uri": "https://keys.example/jwks"});
        if provider["remote_keys"].get("discovery").is_some() {
            let FetchProgress::Next(next) = answer(sidecar, &fetch, &metadata, &seat) else {
                panic!("the metadata lead to no keys");
            };
            fetch.fetch = next;
        }
        let progress = answer(sidecar, &fetch, &keys, &seat);
        assert!(
            matches!(progress, FetchProgress::Fetched { keys: 1, .. }),
            "{progress:?}"
        );
    }
}

fn answer(sidecar: &mut Sidecar, fetch: &KeyFetch, body: &Value, board: &dyn SharedMemory) -> FetchProgress {
    let now = sidecar.now();
    let body = body.to_string();
    let answer = HttpResponse {
        headers: &[(":status", b"200")],
        body: body.as_bytes(),
    };
    sidecar.enforcer().on_key_set(fetch, Ok(answer), now, board)
}

#[test]
fn tokens_of_common_issuers_are_read_as_their_examples_say() {
    let cases = Case::all();
    let differences: Vec<_> = cases
        .iter()
        .filter_map(|case| Some(format!("{} ({}): {}", case.id, case.comment, case.difference()?)))
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn every_example_has_a_good_token_and_those_of_another_issuer_and_another_audience() {
    let cases = Case::all();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected: Vec<_> = cases
            .iter()
            .filter(|case| case.configuration == name)
            .map(|case| case.expected.as_str())
            .collect();
        // Cognito's tokens have their client in the place of an audience.
        let audience = match name {
            "cognito" => "token_claim_refused",
            _ => "token_audience_mismatch",
        };
        for one in ["ask", "token_issuer_unknown", audience] {
            assert!(expected.contains(&one), "{name} lacks a case with `{one}`");
        }
    }
}
