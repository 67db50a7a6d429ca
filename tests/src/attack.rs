//! Attacks as data: `tests/vectors/attacks.json`, those on the places of credentials in `tests/vectors/credentials.json`, and the
//! rules and providers that they are tried on.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::forge::{Forge, ForgedToken};

/// The issuer of second tokens, which has the keys of the first one's.
pub const CLIENTS: &str = "https://clients.example";
const ATTACKS: &str = include_str!("../vectors/attacks.json");
const CREDENTIALS: &str = include_str!("../vectors/credentials.json");
const TOKENS: &str = include_str!("../vectors/tokens.json");

/// One attack, or a harmless request that looks like one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// Names it; unique.
    pub id: String,
    /// What is tried.
    pub comment: String,
    /// The token, which `$TOKEN` stands for.
    pub token: ForgedToken,
    /// A second token, which `$OTHER` stands for: one of [`CLIENTS`] unless it says otherwise.
    other_token: Option<ForgedToken>,
    /// The headers.
    #[serde(default = "bearer")]
    headers: Vec<(String, String)>,
    /// The target.
    #[serde(default = "forge_path")]
    path: String,
    /// The reason's code.
    pub expected: String,
    /// The reason's code where Envoy is in front, if it is another.
    expected_in_envoy: Option<String>,
    /// Headers as the upstream gets them; `null`: it gets none.
    #[serde(default)]
    pub upstream: BTreeMap<String, Option<String>>,
    /// The target as the upstream gets it.
    pub upstream_target: Option<String>,
}

/// All of them.
///
/// # Errors
/// When a file is malformed.
pub fn all() -> Result<Vec<Attack>> {
    let mut all: Vec<Attack> = serde_json::from_str(ATTACKS).context("attacks.json")?;
    all.extend(serde_json::from_str::<Vec<Attack>>(CREDENTIALS).context("credentials.json")?);
    Ok(all)
}

/// Tokens as issuers really write them, and what is refused of them all the same.
///
/// # Errors
/// When the file is malformed.
pub fn tokens() -> Result<Vec<Attack>> {
    serde_json::from_str(TOKENS).context("tokens.json")
}

/// The rules that they are tried on.
pub fn rules() -> Vec<Value> {
    let rule = |id: &str, path: &str, providers: &[&str], scopes: Option<&[&str]>| {
        let mut rule = json!({
            "id": id, "hosts": ["orders.example.org"], "paths": [path], "providers": providers, "decision": "permit",
        });
        if let (Some(scopes), Some(members)) = (scopes, rule.as_object_mut()) {
            members.insert("scopes".to_owned(), json!(scopes));
        }
        rule
    };
    vec![
        rule("forge", "/forge", &["forge"], None),
        rule("forge-either", "/forge/either", &["forge", "forge-two"], None),
        rule("forge-two-only", "/forge/two", &["forge-two"], None),
        rule("forge-main-only", "/forge/main-only", &["main"], None),
        rule("forge-any", "/forge/any", &["forge", "clients", "main"], None),
        json!({
            "id": "forge-optional", "hosts": ["orders.example.org"], "paths": ["/forge/optional"], "decision": "permit",
            "credential": "optional", "providers": ["forge"],
        }),
        rule("forge-scoped", "/forge/scoped", &["forge"], Some(&["orders.admin"])),
        json!({
            "id": "forge-both", "hosts": ["orders.example.org"], "paths": ["/forge/both"], "decision": "permit",
            "credential": "all", "providers": ["forge", "clients"],
        }),
    ]
}

/// The providers of the forged tokens.
///
/// # Errors
/// Never, with keys that were made by a forge.
pub fn providers(forge: &Forge) -> Result<[Value; 3]> {
    let first = forge.provider()?;
    let mut second = first.clone();
    let members = second.as_object_mut().context("not an object")?;
    for (name, value) in [
        ("name", json!("clients")),
        ("issuer", json!(CLIENTS)),
        ("subjects", json!(["web-shop"])),
        (
            "sources",
            json!([{ "header": "x-client-token" }, { "cookie": "client" }]),
        ),
        (
            "claim_headers",
            json!([{ "claim": "email", "header": "x-client-email" }]),
        ),
    ] {
        members.insert(name.to_owned(), value);
    }
    Ok([first, second, forge.second_provider()?])
}

/// A provider like the stack's own: another issuer, with a key that signs none of these tokens.
pub fn main_provider() -> Value {
    json!({
        "name": "main", "issuer": crate::token::ISSUER, "audiences": ["orders"],
        "keys": { "keys": [Forge::stranger_jwk()] }, "algorithms": ["ES256"],
        "sources": [{ "header": "authorization" }, { "header": "x-main-token" }],
    })
}

impl Attack {
    /// Its target and headers, with the token in its places.
    ///
    /// # Errors
    /// When the token's description makes no sense.
    pub fn request(&self, forge: &Forge) -> Result<(String, Vec<(String, String)>)> {
        let mint = |token: &ForgedToken| forge.mint(token).with_context(|| self.id.clone());
        let token = mint(&self.token)?;
        let other = self.other_token.as_ref().map(|other| mint(&of_client(other)));
        let other = other.transpose()?.unwrap_or_default();
        let with_token = |text: &String| text.replace("$TOKEN", &token).replace("$OTHER", &other);
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), with_token(value)));
        Ok((with_token(&self.path), headers.collect()))
    }

    /// The reason's code where Envoy is in front.
    #[must_use]
    pub fn expected_in_envoy(&self) -> &str {
        self.expected_in_envoy.as_deref().unwrap_or(&self.expected)
    }

    /// Whether it is harmless.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        self.expected == "local_permit"
    }
}

fn of_client(token: &ForgedToken) -> ForgedToken {
    let mut token = token.clone();
    for (name, value) in [("iss", CLIENTS), ("sub", "web-shop")] {
        token.claims.entry(name).or_insert_with(|| Value::from(value));
    }
    token
}

fn bearer() -> Vec<(String, String)> {
    vec![("authorization".to_owned(), "Bearer $TOKEN".to_owned())]
}

fn forge_path() -> String {
    "/forge".to_owned()
}
