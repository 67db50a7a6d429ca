//! Claims in every form that issuers write them in: `tests/vectors/claims.json`, as the claims of a
//! JWT and as an issuer's answer about an opaque token.

use picket_model::decision::Effect;

use picket_core::enforcement::Step;
use picket_core::jose::TokenLimits;
use picket_core::reason::DenyReason;
use picket_core::token::remote_keys::response::HttpResponse;
use picket_model::access::Principal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::{Caller, NOW_S, Sidecar, configuration};

/// The sidecar's time, [`NOW_S`], is written out in it.
const VECTORS: &str = include_str!("../../../tests/vectors/claims.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(rename = "comment")]
    _comment: String,
    /// Beside the claims of a good token.
    claims: Map<String, Value>,
    /// Claims of a good token that are not there.
    #[serde(default)]
    removed: Vec<String>,
    /// Changes of the provider.
    #[serde(default)]
    provider: Map<String, Value>,
    /// What the rule asks for.
    #[serde(default)]
    scopes: Vec<String>,
    /// `ask`: the token is good, and the policy service is asked. Otherwise the reason of the
    /// refusal.
    expected: String,
    /// A part of the refusal's detail.
    detail: Option<String>,
    /// What the principal is then.
    #[serde(default)]
    principal: Map<String, Value>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(VECTORS).unwrap()
    }

    fn claims(&self) -> Value {
        let mut claims = json!({
            "iss": "https://issuer.example", "sub": "alice", "aud": "orders", "exp": NOW_S + 3600, "iat": NOW_S,
        });
        let members = claims.as_object_mut().unwrap();
        members.extend(self.claims.clone());
        members.retain(|name, _| !self.removed.contains(name));
        claims
    }

    fn configuration(&self) -> Value {
        let mut document = configuration();
        document["providers"][0]
            .as_object_mut()
            .unwrap()
            .extend(self.provider.clone());
        if !self.scopes.is_empty() {
            document["rules"][0]["scopes"] = json!(self.scopes);
        }
        document
    }

    /// What is wrong with a step, which came of a token of this case.
    fn difference(&self, step: Step, of_introspection: bool) -> Option<String> {
        let (got, detail, principal) = match step {
            Step::Ask(question) => ("ask".to_owned(), None, question.request.principal),
            Step::Decided(Err(refusal)) => (refusal.reason.code().to_owned(), refusal.detail, None),
            other @ (Step::Decided(Ok(_)) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
                return Some(format!("{other:?}"));
            }
        };
        // There the answer is malformed, and nobody knows anything of the token.
        let expected = match self.expected.as_str() {
            "token_malformed" if of_introspection => DenyReason::IntrospectionUnavailable.code(),
            expected => expected,
        };
        if got != expected {
            return Some(format!("{got}, expected {expected} ({detail:?})"));
        }
        if let Some(part) = &self.detail
            && !detail.as_ref().is_some_and(|detail| detail.contains(part.as_str()))
        {
            return Some(format!("the detail {detail:?} lacks {part}"));
        }
        let found = principal.map(|principal| fields(&principal)).unwrap_or_default();
        let differs = |(name, value): &(&String, &Value)| found.get(*name) != Some(*value);
        self.principal
            .iter()
            .find(differs)
            .map(|(name, value)| format!("{name} is {:?}, expected {value}", found.get(name)))
    }
}

fn fields(principal: &Principal) -> Map<String, Value> {
    let actors: Vec<_> = principal.actors.iter().map(|actor| &actor.subject).collect();
    let fields = json!({
        "subject": principal.subject, "tenant": principal.tenant, "roles": principal.roles,
        "scopes": principal.scopes, "acr": principal.acr, "amr": principal.amr,
        "auth_time_s": principal.auth_time_s, "session_id": principal.session_id,
        "token_id": principal.token_id, "issued_at_s": principal.issued_at_s,
        "expires_at_s": principal.expires_at_s, "actors": actors,
    });
    fields.as_object().unwrap().clone()
}

#[track_caller]
fn check_all(of_introspection: bool, step: impl Fn(&Case) -> Step) {
    let cases = Case::all();
    let differences: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            Some(format!(
                "{}: {}",
                case.id,
                case.difference(step(case), of_introspection)?
            ))
        })
        .collect();
    assert!(
        !cases.is_empty() && differences.is_empty(),
        "{}",
        differences.join("\n")
    );
}

#[test]
fn claims_of_a_jwt_are_read_as_the_vectors_say() {
    check_all(false, |case| {
        let mut sidecar = Sidecar::with(&case.configuration());
        let token = sidecar.token_of_claims(&case.claims());
        sidecar.sends(&Caller::new().get("/orders/7").bearer(&token)).0
    });
}

#[test]
fn an_answer_of_the_issuer_is_read_as_the_vectors_say() {
    check_all(true, |case| {
        let mut document = case.configuration();
        let provider = document["providers"][0].as_object_mut().unwrap();
        provider.remove("keys");
        provider.insert(
            "introspection".to_owned(),
            json!({"uri": "https://as.example/i", "cluster": "as", "client_id": "c", "secret_variable": "S"}),
        );
        let mut sidecar = Sidecar::with_environment(&document, |_| Some("s3cret".to_owned()));
        let caller = Caller::new().get("/orders/7").bearer("opaque");
        let pending = sidecar.introspects(&caller).pending;
        let mut answer = case.claims();
        answer["active"] = true.into();
        let headers = [(":status", &b"200"[..])];
        let body = answer.to_string();
        let answer = HttpResponse {
            headers: &headers,
            body: body.as_bytes(),
        };
        sidecar.told(pending, Ok(answer), &caller).0
    });
}

/// Whoever is refused by a policy for what a claim would have said learns which one could not be
/// read.
#[test]
fn a_deny_names_the_claims_that_count_as_absent() {
    let mut sidecar = Sidecar::new();
    let denied = |sidecar: &mut Sidecar, claims: &[(&str, Value)]| {
        let token = sidecar.token(claims);
        let (_, pending) = sidecar.asks(&Caller::new().get("/orders/7").bearer(&token));
        let decision = crate::support::decision(Effect::Deny, 0);
        sidecar.answers(pending, Ok(decision)).unwrap_err().detail
    };
    let detail = denied(&mut sidecar, &[("acr", 1.into()), ("auth_time", "noon".into())]).unwrap();
    assert!(detail.contains("`acr`, `auth_time`"), "{detail}");
    assert!(!detail.contains("noon"), "{detail}");
    assert_eq!(denied(&mut sidecar, &[("acr", "1".into())]), None);
    // As an access rule sees it.
    let mut document = configuration();
    document["access"] = json!({"accept": [
        {"id": "a", "when": [{"claim": "acr", "values": ["1"]}]},
    ]});
    let mut sidecar = Sidecar::with(&document);
    let token = sidecar.token(&[("acr", 1.into())]);
    let refusal = sidecar.refuses(&Caller::new().get("/local").bearer(&token));
    assert_eq!(refusal.reason, DenyReason::AccessRuleNoAccept);
    assert!(refusal.detail.unwrap().contains("`acr`"));
}

/// The detail of the refusal of a token with these claims; `None`: it is permitted.
fn refused_for_size(limits: &Value, claims: &[(&str, Value)]) -> Option<String> {
    let mut document = configuration();
    if !limits.is_null() {
        document["token_limits"] = limits.clone();
    }
    let mut sidecar = Sidecar::with(&document);
    let token = sidecar.token(claims);
    match sidecar.sends(&Caller::new().get("/local").bearer(&token)).0 {
        Step::Decided(Ok(_)) => None,
        Step::Decided(Err(refusal)) => {
            assert_eq!(refusal.reason, DenyReason::TokenMalformed);
            refusal.detail
        }
        other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => panic!("{other:?}"),
    }
}

/// `resource_access` as Keycloak writes it.
fn roles_of_clients(count: usize) -> Value {
    let clients = (0..count).map(|number| {
        let name = format!("team-{number:03}-service-api");
        (name, json!({"roles": ["manage-account", "view-profile"]}))
    });
    clients.collect::<Map<_, _>>().into()
}

#[test]
fn a_token_with_the_roles_of_125_clients_passes_by_default() {
    let claims = [("resource_access", roles_of_clients(125))];
    assert_eq!(refused_for_size(&Value::Null, &claims), None);
    let detail = refused_for_size(&Value::Null, &[("resource_access", roles_of_clients(200))]).unwrap();
    assert!(detail.contains("16384 bytes (`token_limits.bytes_max`)"), "{detail}");
    let wider = json!({"bytes_max": 65_536, "members_max": 8_192});
    assert_eq!(
        refused_for_size(&wider, &[("resource_access", roles_of_clients(400))]),
        None
    );
}

#[test]
fn each_limit_holds_to_the_last_one_and_is_named() {
    let nested = |depth: usize| (1..depth).fold(json!(1), |inner, _| json!([inner]));
    let members = |count: usize| -> Value {
        let members = (0..count).map(|number| (number.to_string(), Value::Null));
        members.collect::<Map<_, _>>().into()
    };
    let limits = json!({"depth_max": 3, "members_max": 40, "bytes_max": 2_048});
    // The claims of a good token are five, and the claim itself is one.
    for (claim, expected) in [
        (nested(3), None),
        (
            nested(4),
            Some("the payload nests deeper than 3 levels (`token_limits.depth_max`)"),
        ),
        (members(34), None),
        (
            members(35),
            Some("the payload has more than 40 members (`token_limits.members_max`)"),
        ),
        (json!("a".repeat(1_200)), None),
        (
            json!("a".repeat(1_500)),
            Some("the token is longer than 2048 bytes (`token_limits.bytes_max`)"),
        ),
    ] {
        let detail = refused_for_size(&limits, &[("x", claim)]);
        assert_eq!(detail.as_deref(), expected);
    }
    let default = [("x", nested(TokenLimits::DEFAULT.depth_max))];
    assert_eq!(refused_for_size(&Value::Null, &default), None);
    let default = [("x", nested(TokenLimits::DEFAULT.depth_max + 1))];
    assert!(refused_for_size(&Value::Null, &default).unwrap().contains("16 levels"));
}

#[test]
fn limits_have_bounds_of_their_own() {
    let problems = |limits: Value| {
        let mut document = configuration();
        document["token_limits"] = limits;
        let parsed = picket_core::enforcement::FilterConfiguration::parse(document.to_string().as_bytes());
        parsed.err().map(|problems| problems.to_string())
    };
    for limits in [
        json!({}),
        json!({"bytes_max": 1_024, "members_max": 32, "depth_max": 2}),
        json!({"bytes_max": 65_536, "members_max": 8_192, "depth_max": 64}),
    ] {
        assert_eq!(problems(limits), None);
    }
    for (name, bad) in [
        ("bytes_max", [1_023, 65_537]),
        ("members_max", [31, 8_193]),
        ("depth_max", [1, 65]),
    ] {
        for value in bad {
            let found = problems(json!({name: value})).unwrap();
            assert!(found.starts_with(&format!("token_limits.{name}: ")), "{found}");
        }
    }
}
