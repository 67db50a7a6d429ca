//! The index: what it reads in policies, and that nothing is decided otherwise because of it.

use std::sync::Arc;

use cedar_policy::Policy;
use picket_model::decision::{Attribute as Varying, Vary};
use picket_model::device::{DeviceFacts, DeviceState};
use picket_model::thumbprint::{CertificateThumbprint, KeyThumbprint};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::{select, subsequence};

use super::super::needs::{Needs, Reach};
use super::super::syntax::{Traits, traits_of};
use super::*;

/// The same policies in one set, over all entities.
fn undivided(directory: &Path) -> PolicyEngine {
    let mut engine = load(directory).unwrap();
    let loaded = Arc::get_mut(&mut engine.loaded).unwrap();
    loaded.index = loaded.index.undivided();
    engine
}

fn traits(scope: &str, conditions: &str) -> Traits {
    let text = format!("permit ({scope}) {conditions};");
    traits_of(&Policy::parse(None, &text).unwrap())
}

fn check_traits(scope: &str, conditions: &str, route_rule: Option<&str>, reach: Reach) {
    let found = traits(scope, conditions);
    let found = (found.route_rule.as_deref(), found.needs.reach);
    assert_eq!(found, (route_rule, reach), "{conditions}");
}

#[test]
fn a_route_rule_that_is_asked_for_before_anything_can_fail_is_found() {
    let found = |conditions: &str| check_traits("principal, action, resource", conditions, Some("a"), Reach::Request);
    found(r#"when { resource.route_rule == "a" }"#);
    found(r#"when { "a" == resource.route_rule }"#);
    found(r#"when { resource.route_rule == "a" && principal.auth_time + 1 > 0 }"#);
    found(r#"when { resource.route_rule == "a" } unless { principal.auth_time + 1 > 0 }"#);
    found(r#"when { (resource.route_rule == "a" && resource.host == "h") && resource.path == "p" }"#);
    found(r#"when { principal has tenant && (principal.tenant like "t*" && resource.route_rule == "a") }"#);
    found(r#"when { context.peer.trust_domain == "t" } when { resource.route_rule == "a" }"#);
    found(r#"unless { principal in Picket::Role::"guest" } when { resource.route_rule == "a" }"#);
    // The first one decides; the policy is false for the other as well.
    found(r#"when { resource.route_rule == "a" && resource.route_rule == "b" }"#);
    check_traits(
        r#"principal is Picket::User in Picket::Role::"clerk", action in [Picket::Action::"read"], resource"#,
        r#"when { resource.route_rule == "a" }"#,
        Some("a"),
        Reach::Request,
    );
    let chain = [r#"resource.route_rule == "a""#].repeat(40).join(" && ");
    found(&format!("when {{ {chain} }}"));
}

#[test]
fn what_is_not_understood_is_evaluated_for_every_request() {
    let common = |conditions: &str| check_traits("principal, action, resource", conditions, None, Reach::Request);
    common("");
    common(r#"unless { resource.route_rule == "a" }"#);
    common(r#"when { resource.route_rule != "a" }"#);
    common(r#"when { !(resource.route_rule == "a") }"#);
    common(r#"when { resource.route_rule == "a" || true }"#);
    common(r#"when { resource.route_rule like "a" }"#);
    common(r#"when { ["a"].contains(resource.route_rule) }"#);
    common(r#"when { resource.route_rule == resource.host }"#);
    common(r#"when { resource.host == "a" }"#);
    common(r#"when { context.route_rule == "a" }"#);
    common(r#"when { resource.nested.route_rule == "a" }"#);
    common(r#"when { if true then resource.route_rule == "a" else false }"#);
    // Each of these can fail before the rule is looked at.
    common(r#"when { principal.auth_time + 1 > 0 && resource.route_rule == "a" }"#);
    common(r#"when { resource.getTag("id") == "7" && resource.route_rule == "a" }"#);
    common(r#"when { context.source_address.isInRange(ip("10.0.0.0/8")) } when { resource.route_rule == "a" }"#);
    common(r#"unless { -principal.auth_time == 1 } when { resource.route_rule == "a" }"#);
    // Too deep.
    let deep = ["true"].repeat(100).join(" && ");
    common(&format!(r#"when {{ resource.route_rule == "a" && {deep} }}"#));
    let clauses = "when { true } ".repeat(20);
    common(&format!(r#"{clauses} when {{ resource.route_rule == "a" }}"#));
}

#[test]
fn a_policy_that_looks_into_a_named_entity_needs_all_of_them() {
    let all = |condition: &str| {
        let conditions = format!(r#"when {{ resource.route_rule == "a" && {condition} }}"#);
        check_traits("principal, action, resource", &conditions, Some("a"), Reach::All);
    };
    all(r#"Picket::Role::"clerk".level == 1"#);
    all(r#"Picket::Role::"clerk" has level"#);
    all(r#"Picket::Role::"clerk" in Picket::Role::"reader""#);
    all(r#"(if true then Picket::Role::"clerk" else Picket::Role::"reader") in Picket::Role::"reader""#);
    all(r#"Picket::Role::"clerk".hasTag("t")"#);
    all(r#"{a: Picket::Role::"clerk"}.a has level"#);
    let request = |condition: &str| {
        let conditions = format!(r#"when {{ resource.route_rule == "a" && {condition} }}"#);
        check_traits("principal, action, resource", &conditions, Some("a"), Reach::Request);
    };
    request(r#"principal in Picket::Role::"clerk""#);
    request(r#"principal in [Picket::Role::"clerk", Picket::Role::"reader"]"#);
    request(r#"principal is Picket::User in Picket::Role::"clerk""#);
    request(r#"principal == Picket::User::"u""#);
    request(r#"[Picket::User::"u"].contains(principal)"#);
    request(r#"action in Picket::Action::"read""#);
}

#[test]
fn what_a_policy_does_not_name_it_does_not_need() {
    let check = |condition: &str, names: &[&str], more: Needs| {
        let found = traits("principal, action, resource", &format!("when {{ {condition} }}")).needs;
        let expected = names
            .iter()
            .map(|name| Needs::of_attribute(name))
            .fold(more, Needs::and);
        assert_eq!(found, expected, "{condition}");
    };
    check("true", &[], Needs::NONE);
    check(r#"resource.route_rule == "a""#, &["route_rule"], Needs::NONE);
    check(
        r#"principal has tenant && principal.acr == "2""#,
        &["tenant", "acr"],
        Needs::NONE,
    );
    check(
        r#"context.peer.trust_domain == "t""#,
        &["peer", "trust_domain"],
        Needs::NONE,
    );
    check(
        r#"context has peer.trust_domain"#,
        &["peer", "trust_domain"],
        Needs::NONE,
    );
    check(r#"principal.scopes.contains("s")"#, &["scopes"], Needs::NONE);
    check(r#"["a"].contains(resource.host)"#, &["host"], Needs::NONE);
    check(r#"resource.hasTag(resource.host)"#, &["host"], Needs::TAGS);
    check(r#"resource.getTag("id") like "7*""#, &[], Needs::TAGS);
    check(
        r#"context.source_address.isInRange(ip("10.0.0.0/8"))"#,
        &["source_address"],
        Needs::NONE,
    );
    check(
        r#"(if context.method == "GET" then principal else resource) == principal"#,
        &["method"],
        Needs::RESOURCE_ID,
    );
    check("context.time.hour < 9", &["hour"], Needs::NONE);
    check("context has time.weekday", &["time"], Needs::NONE);
    check(
        r#"[context.time].contains(context.time)"#,
        &["hour", "minute", "weekday", "date"],
        Needs::NONE,
    );
    check(r#"-principal.auth_time < 1"#, &["auth_time"], Needs::NONE);
    check(r#"context == {"method": "GET"}"#, &[], Needs::ALL);
    check(r#"[context].contains(context)"#, &[], Needs::ALL_ATTRIBUTES);
    // Nothing that the service makes.
    check(r#"resource.colour == "red""#, &[], Needs::NONE);
}

#[test]
fn an_answer_varies_with_what_policies_look_at_in_scope_and_conditions() {
    use Varying::{Device, Host, Method, Path, Peer, SourceAddress, UserAgent};
    let all = Varying::ALL;
    let check = |scope: &str, conditions: &str, expected: &[Varying]| {
        let found: Vec<_> = traits(scope, conditions)
            .needs
            .attributes
            .vary(None)
            .attributes()
            .collect();
        assert_eq!(found, expected, "{scope} {conditions}");
    };
    let scope = |scope: &str, expected: &[_]| check(scope, "", expected);
    scope("principal, action, resource", &[]);
    scope(
        r#"principal is Picket::User in Picket::Role::"clerk", action, resource is Picket::Resource"#,
        &[],
    );
    scope(r#"principal, action in [Picket::Action::"read"], resource"#, &[Method]);
    scope(r#"principal, action == Picket::Action::"GET", resource"#, &[Method]);
    scope(r#"principal, action, resource == Picket::Resource::"a""#, &[Host, Path]);
    scope(r#"principal, action, resource in Picket::Resource::"a""#, &[Host, Path]);
    scope(
        r#"principal, action, resource is Picket::Resource in Picket::Resource::"a""#,
        &[Host, Path],
    );
    let condition = |condition: &str, expected: &[_]| {
        let any = "principal, action, resource";
        check(any, &format!("when {{ {condition} }}"), expected);
        check(any, &format!("when {{ true }} unless {{ !({condition}) }}"), expected);
    };
    condition(r#"principal.tenant == "acme" && principal has acr"#, &[]);
    condition(r#"resource.route_rule == "r" || resource.classification == "c""#, &[]);
    condition(r#"context.method == "GET""#, &[Method]);
    condition(r#"action == Picket::Action::"GET""#, &[Method]);
    condition(r#"action.name == "GET""#, &[Method]);
    condition(r#"context has peer.trust_domain"#, &[Peer]);
    condition(
        r#"context.source_address.isInRange(ip("10.0.0.0/8"))"#,
        &[SourceAddress],
    );
    condition(r#"context["user_agent"] like "curl*""#, &[UserAgent]);
    condition("context has device && context.device.trust_score > 60", &[Device]);
    condition("context has device.is_trusted", &[Device]);
    condition(r#"resource.host == "h""#, &[Host]);
    condition(r#"resource.path like "/a/*""#, &[Path]);
    condition(r#"resource.getTag(context.method) == "1""#, &[Method, Path]);
    condition(r#"resource == Picket::Resource::"a""#, &[Host, Path]);
    condition(r#"[resource].contains(principal)"#, &[Host, Path]);
    condition(r#"(if true then resource else principal) has path"#, &[Host, Path]);
    // Entities that a policy names may be this request's own resource.
    condition(r#"Picket::Resource::"h/p" has route_rule"#, &[Host, Path]);
    condition(r#"Picket::Resource::"h/p".hasTag("id")"#, &[Host, Path]);
    condition(r#"Picket::Role::"r".home has classification"#, &[Host, Path]);
    condition(r#"Picket::Resource::"h/p" in resource"#, &[Host, Path]);
    condition(r#"context == {"method": "GET"}"#, &all);
    condition(r#"(if true then context else {"method": "GET"}).method == "GET""#, &all);
}

#[test]
fn a_policy_that_is_too_long_to_be_read_or_nests_deeply_is_loaded_as_well() {
    let values = ["0"].repeat(10_000).join(", ");
    let text = format!(r#"@id("long") permit (principal, action, resource) when {{ [{values}].contains(0) }};"#);
    assert!(text.len() > 16 * 1024);
    assert_eq!(engine(&text).policy_count(), 1);
    let nested = format!("{}true{}", "(".repeat(60), ")".repeat(60));
    let nested = format!(r#"@id("deep") permit (principal, action, resource) when {{ {nested} }};"#);
    assert_eq!(engine(&nested).policy_count(), 1);
}

/// Roles with something to look at, so that policies can look for what is not there.
pub(super) fn world() -> [(&'static str, String); 2] {
    let entities = r#"[
        { "uid": { "type": "Picket::Role", "id": "reader" }, "attrs": { "level": 1 }, "parents": [] },
        { "uid": { "type": "Picket::Role", "id": "clerk" }, "attrs": { "level": 2 },
          "parents": [{ "type": "Picket::Role", "id": "reader" }] },
        { "uid": { "type": "Picket::Role", "id": "admin" }, "attrs": { "level": 3 },
          "parents": [{ "type": "Picket::Role", "id": "clerk" }] }
    ]"#;
    [
        (
            "schema.cedarschema",
            SCHEMA.replace("entity Role in [Role];", "entity Role in [Role] = { level: Long };"),
        ),
        ("entities.json", entities.to_owned()),
    ]
}

const CONDITIONS: [&str; 54] = [
    r#"Picket::Resource::"orders.example.org/orders/7" has route_rule"#,
    r#"Picket::Resource::"other.example.org/orders/7".hasTag("id")"#,
    "true",
    "false",
    r#"resource.route_rule == "a""#,
    r#"resource.route_rule == "b""#,
    r#""a" == resource.route_rule"#,
    r#"resource.route_rule != "a""#,
    r#"!(resource.route_rule == "a")"#,
    r#"resource.route_rule like "a*""#,
    r#"["a", "b"].contains(resource.route_rule)"#,
    r#"(resource.route_rule == "a" || resource.route_rule == "b")"#,
    r#"(if resource.route_rule == "a" then context.method == "GET" else true)"#,
    r#"principal in Picket::Role::"reader""#,
    r#"principal in [Picket::Role::"clerk", Picket::Role::"admin"]"#,
    r#"Picket::Role::"clerk" in Picket::Role::"reader""#,
    r#"Picket::Role::"clerk".level == 2"#,
    r#"Picket::Role::"ghost".level == 2"#,
    r#"(if resource.route_rule == "a" then Picket::Role::"clerk" else Picket::Role::"ghost").level > 1"#,
    r#"(principal is Picket::User && principal has tenant && principal.tenant == "acme")"#,
    r#"(principal is Picket::User && principal has auth_time && principal.auth_time + 9223372036854775807 > 0)"#,
    r#"principal is Picket::Workload"#,
    r#"context.method == "GET""#,
    r#"action in Picket::Action::"read""#,
    r#"Picket::Action::"POST" in Picket::Action::"write""#,
    r#"(resource has classification && resource.classification == "secret")"#,
    r#"(resource.hasTag("id") && resource.getTag("id") == "7")"#,
    r#"(context has source_address && context.source_address.isInRange(ip("10.0.0.0/8")))"#,
    r#"(context has peer && context.peer.trust_domain == "example.org")"#,
    r#"(context has peer && context.peer == {spiffe_id: "spiffe://example.org/web", trust_domain: "example.org"})"#,
    r#"(context has user_agent && context.user_agent like "cu*")"#,
    r#"(context has peer.spiffe_id && context.peer.spiffe_id like "spiffe:*")"#,
    r#"(principal is Picket::User && principal.scopes.contains("s") && principal.issuer like "https:*")"#,
    r#"(principal is Picket::User && principal has acr && principal.acr == principal.subject)"#,
    r#"(principal is Picket::User && (principal.amr.isEmpty() || principal.amr.contains("otp")))"#,
    r#"(principal is Picket::Workload && principal.trust_domain == "example.org")"#,
    r#"(resource.path like "/orders/*" || resource has classification)"#,
    r#"[principal in Picket::Role::"reader"].contains(resource.host == "orders.example.org")"#,
    "context.time.hour >= 9",
    "context.time.hour < 17",
    "context.time.weekday <= 5",
    "context.time.minute != 30",
    "context.time.date < 20261123",
    "(principal is Picket::User && principal has auth_age && principal.auth_age < 300)",
    "(principal is Picket::User && principal has auth_age && 7200 >= principal.auth_age)",
    "(principal is Picket::User && principal has auth_age && principal.auth_age * 2 < 300)",
    r#"(principal is Picket::User && principal has acr && principal.acr == "gold")"#,
    r#"(principal is Picket::User && principal has acr && ["silver", "gold"].contains(principal.acr))"#,
    "(principal is Picket::User && principal.is_bound)",
    "(context has device && context.device.is_trusted)",
    "(context has device && context.device.trust_score > 60 && context.device.is_owner)",
    r#"(context has device && context.device.state != "suspended")"#,
    "context has device",
    r#"(resource has tenant && principal is Picket::User && principal has tenant && resource.tenant == principal.tenant)"#,
];

const HEADS: [&str; 6] = [
    "",
    "",
    "@reason(\"told\")",
    "@tenant(\"acme\")",
    "@tenant(\"globex\")",
    "@mode(\"observe\")",
];

const SCOPES: [&str; 5] = [
    "principal, action, resource",
    r#"principal in Picket::Role::"reader", action, resource"#,
    r#"principal is Picket::User in Picket::Role::"clerk", action in Picket::Action::"read", resource"#,
    r#"principal, action == Picket::Action::"POST", resource is Picket::Resource"#,
    r#"principal is Picket::Workload, action in [Picket::Action::"read", Picket::Action::"write"], resource"#,
];

pub(super) fn policy() -> impl Strategy<Value = String> {
    let condition = vec(select(CONDITIONS.to_vec()), 1..4).prop_map(|parts| parts.join(" && "));
    let clause =
        (select(vec!["when", "unless"]), condition, any::<bool>()).prop_map(
            |(word, condition, grouped)| match grouped {
                true => format!("{word} {{ true && ({condition}) }}"),
                false => format!("{word} {{ {condition} }}"),
            },
        );
    let head = (
        select(vec!["permit", "permit", "forbid"]),
        select(SCOPES.to_vec()),
        select(HEADS.to_vec()),
    );
    (head, vec(clause, 0..4))
        .prop_map(|((effect, scope, head), clauses)| format!("{head} {effect} ({scope}) {};", clauses.join(" ")))
}

pub(super) fn asked() -> impl Strategy<Value = AccessRequest> {
    let roles = subsequence(vec!["reader", "clerk", "admin", "ghost"], 0..=2);
    let who = (
        select(vec![true, true, true, false]),
        roles,
        any::<bool>(),
        any::<bool>(),
    );
    let what = (
        select(vec!["a", "b", "c"]),
        select(vec!["GET", "POST", "BREW"]),
        any::<bool>(),
        any::<bool>(),
    );
    let from = (any::<bool>(), any::<bool>());
    let device = (0..4_u8, any::<bool>());
    (who, what, from, device).prop_map(
        |(who, (rule, method, secret, tagged), (address, peer), (device, has_key))| {
            let (is_user, roles, tenant, auth_time) = who;
            let mut asked = request(if is_user { user(&roles) } else { None }, method, rule);
            if let Some(principal) = &mut asked.principal {
                principal.tenant = tenant.then(|| "acme".to_owned());
                principal.auth_time_s = auth_time.then_some(AUTH_TIME_S);
                principal.is_bound = auth_time && tenant;
                principal.acr = auth_time.then(|| "alice".to_owned());
                principal.amr = if tenant { vec!["otp".to_owned()] } else { vec![] };
                principal.scopes = if auth_time { vec!["s".to_owned()] } else { vec![] };
            }
            asked.resource.classification = secret.then(|| "secret".to_owned());
            asked.resource.tenant = secret.then(|| "acme".to_owned());
            if !tagged {
                asked.resource.path_parameters.clear();
            }
            if !address {
                asked.context.source_address = None;
            }
            if !peer {
                asked.peer = None;
            }
            let certificate = (device > 0).then_some(CertificateThumbprint([device; 32]));
            asked.context.possession = Possession {
                certificate,
                key: has_key.then_some(KeyThumbprint([device; 32])),
            };
            if tagged && peer {
                asked.resource.host = "other.example.org".to_owned();
                asked.context.user_agent = None;
            }
            asked
        },
    )
}

/// Saturday, 2026-11-21, 08:00 in Greenwich.
const AUTH_TIME_S: i64 = 1_795_248_000;
const MINUTE_US: u64 = 60_000_000;
/// An answer that time does not change is looked at again after that long.
const LONG_MS: u64 = 10 * 86_400_000;
const REQUESTS: u32 = 24;
/// How many random requests are asked in all; `make vary-hunt` asks a million.
const REQUESTS_VARIABLE: &str = "PICKET_VARY_REQUESTS";
const REQUESTS_DEFAULT: u32 = 50_000;

fn cases() -> u32 {
    let requests = std::env::var(REQUESTS_VARIABLE).map_or(REQUESTS_DEFAULT, |text| text.parse().unwrap());
    requests.div_ceil(REQUESTS * REQUESTS)
}

/// When it is asked, and at which part of its validity the answer is given again.
fn times() -> impl Strategy<Value = (u64, u64)> {
    let since_us = (0..3 * 24 * 60_u64, 0..MINUTE_US).prop_map(|(minutes, us)| minutes * MINUTE_US + us);
    let auth_time_us = u64::try_from(AUTH_TIME_S).unwrap() * 1_000_000;
    (since_us.prop_map(move |since_us| auth_time_us + since_us), 0..100_u64)
}

/// The device of a request: known by its certificate alone, with a score that falls with the age of
/// its last report, in the same steps as the rules of devices have.
fn device_of(request: &AccessRequest, now_us: u64) -> Option<DeviceFacts> {
    const STEP_US: u64 = 7 * 3_600_000_000;
    let CertificateThumbprint(thumbprint) = request.context.possession.certificate?;
    let state = match thumbprint[0] {
        1 => DeviceState::Trusted,
        2 => DeviceState::Suspended,
        _ => return None,
    };
    let reported_us = u64::try_from(AUTH_TIME_S).unwrap() * 1_000_000;
    let age_us = now_us.saturating_sub(reported_us);
    let steps = age_us / STEP_US;
    let points_lost = |steps: u64| u8::try_from((9 * steps).min(70)).unwrap();
    let trust_score = match state {
        DeviceState::Trusted => 100 - points_lost(steps),
        DeviceState::Suspended | DeviceState::Retired | DeviceState::Enrolled => 0,
    };
    let falls_again = points_lost(steps) < points_lost(steps + 1);
    let principal = request.principal.as_ref();
    Some(DeviceFacts {
        id: format!("00000000-0000-0000-0000-{:012}", thumbprint[0]),
        state,
        is_trusted: trust_score >= 60,
        is_compliant: true,
        trust_score,
        is_owner: principal.is_some_and(|principal| {
            (principal.issuer.as_str(), principal.subject.as_str()) == ("https://issuer.example", "alice")
        }),
        same_for_ms: falls_again.then(|| ((steps + 1) * STEP_US - age_us) / 1000),
    })
}

fn evaluate(engine: &PolicyEngine, request: &AccessRequest, now_us: u64) -> Evaluation {
    let device = device_of(request, now_us);
    let context = EvaluationContext {
        device: device.as_ref(),
        ..EvaluationContext::at(Timestamp::from_us(now_us))
    };
    engine.evaluate(request, &context)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(cases()) })]

    /// The index changes no evaluation; and what was answered to one request is what is answered to
    /// each that agrees with it in all that the answer varies with, for as long as the answer is
    /// valid.
    #[test]
    fn a_cached_answer_is_the_one_that_a_fresh_evaluation_gives(
        policies in vec(policy(), 1..10),
        requests in vec((asked(), times()), REQUESTS as usize),
    ) {
        let text: String = policies
            .iter()
            .enumerate()
            .map(|(number, policy)| format!("@id(\"p{number}\") {policy}\n"))
            .collect();
        let folder = folder(&[("p.cedar", &text)]);
        for (name, content) in world() {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let berlin = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let indexed = load(folder.path()).unwrap().in_time_zone(berlin.clone());
        let whole = undivided(folder.path()).in_time_zone(berlin);
        prop_assert_eq!(indexed.policy_count(), policies.len());
        for (request, (now_us, percent)) in &requests {
            let evaluation = evaluate(&indexed, request, *now_us);
            let (vary, same_for_ms) = (evaluation.vary, evaluation.same_for_ms);
            // What is tried comes from the text of the policies for the rule: all policies have
            // more of it.
            let challenge = evaluation.challenge.clone();
            let expected = Evaluation { vary, same_for_ms, challenge, ..evaluate(&whole, request, *now_us) };
            prop_assert_eq!(&evaluation, &expected, "{}\n{:?}", text, request);
            let told_device = evaluation.challenge.as_ref().is_some_and(StepUp::trusted_device);
            for back in evaluation.challenge.iter().flat_map(|told| come_back(request, told, *now_us)) {
                prop_assert_eq!(come_back_effect(&whole, &back, told_device, *now_us), Effect::Permit, "{}\n{:?}", text, back);
            }
            let tenant = request.principal.as_ref().and_then(|principal| principal.tenant.as_deref());
            for id in &evaluation.policy_ids {
                let of = policies[id.strip_prefix('p').unwrap().parse::<usize>().unwrap()].split_whitespace().next();
                let is_foreign = of.is_some_and(|head| head.starts_with("@tenant") && tenant.is_none_or(|own| !head.contains(own)));
                prop_assert!(!is_foreign, "{} decided about {:?}", id, request);
            }
            let later_us = now_us + same_for_ms.unwrap_or(LONG_MS) * percent / 100 * 1_000;
            for (other, _) in &requests {
                let same = same_where_it_matters(request, other, vary);
                let fresh = Evaluation { same_for_ms, ..evaluate(&indexed, &same, later_us) };
                prop_assert_eq!(&fresh, &evaluation, "{}\n{:?}\n{:?}\n{} {}", text, request, same, now_us, later_us);
            }
        }
    }
}

/// What is decided about a user who did as a challenge says, on a trusted device where that is
/// asked for.
fn come_back_effect(engine: &PolicyEngine, back: &AccessRequest, on_trusted_device: bool, now_us: u64) -> Effect {
    let device = device_of(back, now_us);
    let device = match on_trusted_device {
        true => Some(DeviceFacts::trusted(device.as_ref())),
        false => device,
    };
    let context = EvaluationContext {
        device: device.as_ref(),
        ..EvaluationContext::at(Timestamp::from_us(now_us))
    };
    engine.evaluate(back, &context).effect
}

/// The request of a user who did as a challenge says, once with each class that it names.
fn come_back(request: &AccessRequest, told: &StepUp, now_us: u64) -> Vec<AccessRequest> {
    let now_s = i64::try_from(now_us / 1_000_000).unwrap();
    let mut classes: Vec<Option<String>> = told.acr_values().iter().cloned().map(Some).collect();
    if classes.is_empty() {
        classes.push(None);
    }
    let with = |class: Option<String>| {
        let mut back = request.clone();
        let principal = back.principal.as_mut().unwrap();
        principal.acr = class.or(principal.acr.take());
        principal.is_bound |= told.bound_token();
        principal.auth_time_s = told
            .max_age_s()
            .map(|age_s| now_s - i64::from(age_s))
            .or(principal.auth_time_s);
        back
    };
    classes.into_iter().map(with).collect()
}

/// The other request, with the rule, the principal and the named attributes of this one.
fn same_where_it_matters(request: &AccessRequest, other: &AccessRequest, vary: Vary) -> AccessRequest {
    let mut same = other.clone();
    let request = request.clone();
    same.route_rule = request.route_rule;
    same.resource.classification = request.resource.classification;
    same.resource.security_zone = request.resource.security_zone;
    same.resource.tenant = request.resource.tenant;
    if vary.contains(Varying::Peer) || request.principal.is_none() {
        same.peer = request.peer;
    }
    same.principal = request.principal;
    for attribute in vary.attributes() {
        match attribute {
            Varying::Peer => {}
            Varying::Method => same.action.method.clone_from(&request.action.method),
            Varying::Host => same.resource.host.clone_from(&request.resource.host),
            Varying::Path => {
                same.resource.path.clone_from(&request.resource.path);
                same.resource
                    .path_parameters
                    .clone_from(&request.resource.path_parameters);
            }
            Varying::SourceAddress => same.context.source_address = request.context.source_address,
            Varying::UserAgent => same.context.user_agent.clone_from(&request.context.user_agent),
            Varying::Device => same.context.possession = request.context.possession,
        }
    }
    same
}
