//! RequestAuthentication: providers of tokens. A request without a token passes, one with a token that is not good does not.

use std::collections::BTreeSet;

use picket_core::enforcement::FilterConfiguration;
use serde_json::{Value, json};

use super::documents::Document;
use super::specs::{JwtRule, RequestAuthenticationSpec};
use super::{Findings, Workload, add_all, unique_name};

/// What Istio splits at spaces without being told, as Picket does.
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

/// What all RequestAuthentications of a workload ask for.
#[derive(Debug, Default)]
pub(super) struct Authentication {
    pub(super) providers: Vec<Value>,
    /// Of the providers.
    pub(super) issuers: BTreeSet<String>,
    /// Where key sets are fetched.
    key_hosts: BTreeSet<String>,
    names: BTreeSet<String>,
    rules: usize,
    forwarding: usize,
    /// A rule asks for a token with each request.
    is_strict: bool,
    /// Where tokens may be sent that no provider takes: who sends one there must not pass for somebody without a token.
    lost_places: Vec<Value>,
}

impl Authentication {
    pub(super) fn add(
        &mut self,
        document: &Document,
        spec: &RequestAuthenticationSpec,
        workload: &Workload,
        findings: &mut Findings,
    ) {
        for (index, rule) in spec.jwt_rules.iter().enumerate() {
            let path = format!("spec.jwtRules[{index}]");
            self.rules = self.rules.saturating_add(1);
            let name = unique_name(document, index, &mut self.names);
            self.add_rule(&document.title, &path, rule, &name, workload, findings);
        }
        self.key_hosts.extend(spec.jwt_rules.iter().filter_map(key_host));
        if self.key_hosts.len() > 1 && workload.keys_cluster.is_some() {
            let hosts: Vec<&str> = self.key_hosts.iter().map(String::as_str).collect();
            let message = format!(
                "one cluster (--keys-cluster) has to reach all key sets: {}",
                hosts.join(", ")
            );
            findings.note(&document.title, "spec.jwtRules", message);
        }
        if self.forwarding != 0 && self.forwarding != self.rules {
            findings.problem(
                &document.title,
                "spec.jwtRules",
                "`forwardOriginalToken` differs between issuers: no token is forwarded",
            );
        }
    }

    /// Rules were there, and none of them could be expressed.
    pub(super) fn is_lost(&self) -> bool {
        self.rules > 0 && self.providers.is_empty()
    }

    /// Rules that reject what is sent in places that no provider looks at. `None`: there is a place that no rule can look at.
    pub(super) fn guards(&self, findings: &mut Findings) -> Option<Vec<Value>> {
        let mut guards: Vec<Value> = Vec::new();
        let is_taken = |place: &Value| {
            let mut sources = self
                .providers
                .iter()
                .filter_map(|provider| provider.get("sources")?.as_array());
            sources.any(|sources| sources.contains(place))
        };
        for place in self.lost_places.iter().filter(|place| !is_taken(place)) {
            let text = |name: &str| place.get(name).and_then(Value::as_str);
            let Some(header) = text("header") else {
                let message = format!("a token could be sent in {place}, which nobody would look at, nor refuse");
                findings.problem("", "", message);
                return None;
            };
            let pattern = format!("{}*", text("prefix").unwrap_or_default());
            guards.push(json!({
                "id": format!("istio-token-{}", guards.len()),
                "when": [{"header": header, "values": [pattern]}],
            }));
        }
        Some(guards)
    }

    pub(super) fn forwards(&self) -> bool {
        self.forwarding == self.rules
    }

    pub(super) fn credential(&self) -> &'static str {
        match (self.providers.is_empty(), self.is_strict) {
            (true, _) => "none",
            (false, false) => "optional",
            (false, true) => "required",
        }
    }

    fn add_rule(
        &mut self,
        title: &str,
        path: &str,
        rule: &JwtRule,
        name: &str,
        workload: &Workload,
        findings: &mut Findings,
    ) {
        self.forwarding = self.forwarding.saturating_add(usize::from(rule.forward_original_token));
        match rule.failure_mode.as_deref() {
            None | Some("PERMISSIVE") => {}
            Some("STRICT") => {
                self.is_strict = true;
                findings.problem(
                    title,
                    format!("{path}.failureMode"),
                    "`STRICT` holds for all issuers: each request needs a token of one of them",
                );
            }
            Some(_) => findings.problem(
                title,
                format!("{path}.failureMode"),
                "a token that is not good is always refused",
            ),
        }
        note_claim_headers(title, path, rule, findings);
        let (sources, lost) = sources(rule);
        for place in &lost {
            let message = format!("{place} is no place that a provider can have: what is sent there is refused");
            findings.problem(title, format!("{path}.fromHeaders"), message);
        }
        self.lost_places.extend(lost);
        match self.provider(title, path, rule, name, &sources, workload, findings) {
            Some(provider) => {
                self.providers.push(provider);
                self.issuers.extend(rule.issuer.clone());
            }
            None => self.lost_places.extend(sources),
        }
    }

    /// `None`: it cannot be expressed.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is being read, and where to say what is wrong"
    )]
    fn provider(
        &self,
        title: &str,
        path: &str,
        rule: &JwtRule,
        name: &str,
        sources: &[Value],
        workload: &Workload,
        findings: &mut Findings,
    ) -> Option<Value> {
        if rule.issuer.as_ref().is_none_or(String::is_empty) {
            findings.problem(
                title,
                format!("{path}.issuer"),
                "a provider without an issuer cannot be expressed: it is left out",
            );
            return None;
        }
        let keys = keys(title, path, rule, workload, findings)?;
        self.checked(title, path, provider(rule, name, keys, sources), findings)
    }

    /// A provider that the filter would refuse beside the others is left out.
    fn checked(&self, title: &str, path: &str, provider: Value, findings: &mut Findings) -> Option<Value> {
        let providers: Vec<&Value> = self.providers.iter().chain([&provider]).collect();
        let configuration = json!({
            "workload": "w", "providers": providers,
            "rules": [{"id": "r", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "decision": "permit"}],
        });
        match FilterConfiguration::from_value(configuration) {
            Ok(_) => Some(provider),
            Err(problems) => {
                findings.problem(
                    title,
                    path,
                    "the filter would not take this provider, so it is left out:",
                );
                add_all(findings, title, &problems);
                None
            }
        }
    }
}

/// The member `keys` or `remote_keys`. `None`: neither can be expressed.
fn keys(
    title: &str,
    path: &str,
    rule: &JwtRule,
    workload: &Workload,
    findings: &mut Findings,
) -> Option<(&'static str, Value)> {
    let uri = uri_of(rule);
    let inline = rule.jwks.as_deref();
    match (
        inline.filter(|text| !text.is_empty()),
        uri.filter(|text| !text.is_empty()),
    ) {
        (Some(_), Some(_)) => {
            findings.problem(
                title,
                path,
                "expected only one of `jwks` and `jwksUri`: the provider is left out",
            );
            None
        }
        (Some(text), None) => match serde_json::from_str::<Value>(text) {
            Ok(keys) => Some(("keys", keys)),
            Err(error) => {
                findings.problem(
                    title,
                    format!("{path}.jwks"),
                    format!("expected a JWK set: {error}; the provider is left out"),
                );
                None
            }
        },
        (None, uri) => {
            let Some(cluster) = &workload.keys_cluster else {
                let message = "keys are fetched, which needs --keys-cluster, the Envoy cluster to fetch them through: the provider is left out";
                findings.problem(title, format!("{path}.jwksUri"), message);
                return None;
            };
            if uri.is_some_and(names_certificates) {
                let message = "expected a JWK set, as certificates are not read: until the URI is another, all tokens of the issuer are refused";
                findings.problem(title, format!("{path}.jwksUri"), message);
            }
            let mut keys = match uri {
                Some(uri) => json!({"uri": uri, "cluster": cluster, "allow_http": uri.starts_with("http:")}),
                // Istio discovers the key set of an issuer without one.
                None => json!({"discovery": "openid-configuration", "cluster": cluster}),
            };
            if let (Some(timeout), Some(members)) = (&rule.timeout, keys.as_object_mut()) {
                match timeout_ms(timeout) {
                    Some(ms) => drop(members.insert("timeout_ms".to_owned(), json!(ms))),
                    None => findings.problem(
                        title,
                        format!("{path}.timeout"),
                        "expected seconds such as `5s`; 5 are taken",
                    ),
                }
            }
            Some(("remote_keys", keys))
        }
    }
}

fn uri_of(rule: &JwtRule) -> Option<&str> {
    rule.jwks_uri.as_deref().or(rule.jwks_uri_of_proto.as_deref())
}

/// The host that a key set is fetched from.
fn key_host(rule: &JwtRule) -> Option<String> {
    let is_inline = rule.jwks.as_ref().is_some_and(|text| !text.is_empty());
    let uri = uri_of(rule).or(rule.issuer.as_deref()).filter(|_| !is_inline)?;
    let (_, rest) = uri.split_once("://")?;
    rest.split('/').next().map(str::to_ascii_lowercase)
}

/// Whether a URI is known to lead to X.509 certificates, by the names that issuers have for them.
fn names_certificates(uri: &str) -> bool {
    const EXTENSIONS: [&str; 5] = [".pem", ".crt", ".cer", ".der", ".p7b"];
    let uri = uri.to_ascii_lowercase();
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    path.split('/').any(|segment| segment.starts_with("x509"))
        || EXTENSIONS.iter().any(|extension| path.ends_with(extension))
        // Google's older form; `/oauth2/v3/certs` is a JWK set.
        || path.ends_with("/oauth2/v1/certs")
}

fn timeout_ms(text: &str) -> Option<u32> {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => ms.parse().ok(),
        (None, Some(seconds)) => seconds.parse::<u32>().ok()?.checked_mul(1000),
        (None, None) => None,
    }
}

fn provider(rule: &JwtRule, name: &str, (keys_member, keys): (&str, Value), sources: &[Value]) -> Value {
    let mut provider = json!({
        "name": name,
        "issuer": rule.issuer,
        // Envoy asks for no `exp`.
        "expiry": "none",
        "sources": sources,
    });
    let mut set = |member: &str, value: Value| {
        if let Some(members) = provider.as_object_mut() {
            members.insert(member.to_owned(), value);
        }
    };
    set(keys_member, keys);
    match rule.audiences.is_empty() {
        true => set("audience", json!("none")),
        false => set("audiences", json!(rule.audiences)),
    }
    if let Some(header) = &rule.output_payload_to_header {
        set("payload_header", json!(header.to_ascii_lowercase()));
    }
    if !rule.output_claim_to_headers.is_empty() {
        let claims = rule.output_claim_to_headers.iter();
        let claims = claims
            .map(|each| json!({"claim": pointer(each.claim.split('.')), "header": each.header.to_ascii_lowercase(), "encoding": "raw"}));
        set("claim_headers", claims.collect());
    }
    let split = rule.space_delimited_claims.iter();
    let split: Vec<String> = split
        .filter(|claim| !SPACE_DELIMITED.contains(&claim.as_str()))
        .map(|claim| pointer(std::iter::once(claim.as_str())))
        .collect();
    if !split.is_empty() {
        set("space_delimited_claims", json!(split));
    }
    provider
}

/// What Istio and the filter both make of claims that go into headers, and what the filter makes of them alone.
fn note_claim_headers(title: &str, path: &str, rule: &JwtRule, findings: &mut Findings) {
    for (index, each) in rule.output_claim_to_headers.iter().enumerate() {
        let path = format!("{path}.outputClaimToHeaders[{index}].claim");
        if let Some((object, _)) = each.claim.split_once('.') {
            let message = format!(
                "`{}` is a member within the claim `{object}`, as in Istio: a claim of this very name makes no header",
                each.claim
            );
            findings.note(title, path.clone(), message);
        }
        let message =
            "an array makes a header of its texts with commas between, and a text with a control character none";
        findings.note(title, path, message);
    }
}

/// Where tokens may be sent, and places that cannot be expressed. Istio's default places are the header `Authorization` and the
/// query parameter `access_token`.
fn sources(rule: &JwtRule) -> (Vec<Value>, Vec<Value>) {
    if rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty() {
        return (
            vec![json!({"header": "authorization"}), json!({"query": "access_token"})],
            Vec::new(),
        );
    }
    let (mut sources, mut lost) = (Vec::new(), Vec::new());
    for header in &rule.from_headers {
        let name = header.name.to_ascii_lowercase();
        match (name.as_str(), header.prefix.as_deref().unwrap_or_default()) {
            ("authorization", "Bearer ") => sources.push(json!({"header": name})),
            ("authorization", "") => lost.push(json!({"header": name})),
            ("authorization", prefix) => lost.push(json!({"header": name, "prefix": prefix})),
            (_, "") => sources.push(json!({"header": name})),
            (_, prefix) => sources.push(json!({"header": name, "prefix": prefix})),
        }
    }
    sources.extend(rule.from_params.iter().map(|name| json!({"query": name})));
    sources.extend(rule.from_cookies.iter().map(|name| json!({"cookie": name})));
    (sources, lost)
}

/// RFC 6901.
pub(super) fn pointer<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let escaped = names.map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
    escaped.collect()
}
