//! Traces: they look at policies as the engine does, part by part, and agree with it.

use picket_model::access::AccessRequest;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::index::{asked, policy, world};
use super::*;

fn tracer(policies: &str) -> Tracer {
    Tracer::new(&engine(policies)).unwrap()
}

/// The trace of the policy with this `@id`.
fn of<'a>(tracer: &Tracer, trace: &'a Trace, id: &str) -> &'a PolicyTrace {
    let index = tracer.policies().iter().position(|policy| policy.id == id).unwrap();
    &trace.policies[index]
}

#[test]
fn policies_are_told_with_their_places_and_clauses() {
    let tracer = tracer(
        "// First.\n@id(\"b\")\npermit (principal, action, resource)\nwhen { resource.route_rule\n  == \"a\" } // when {\n\
         unless { resource.path like \"unless {*\" };\n\n@id(\"a\") forbid (principal, action, resource);\n",
    );
    let told: Vec<_> = tracer
        .policies()
        .iter()
        .map(|policy| (policy.id.as_str(), policy.kind, policy.place.line))
        .collect();
    assert_eq!(told, [("b", PolicyKind::Permit, 2), ("a", PolicyKind::Forbid, 8)]);
    let clauses = &tracer.policies()[0].clauses;
    let expected = [
        (ClauseKind::When, "when { resource.route_rule == \"a\" }", 4),
        (ClauseKind::Unless, "unless { resource.path like \"unless {*\" }", 6),
    ];
    let found: Vec<_> = clauses
        .iter()
        .map(|one| (one.kind, one.text.as_str(), one.line))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(tracer.policies()[1].clauses, []);
}

#[test]
fn a_clause_is_looked_at_where_all_before_it_hold() {
    let tracer = tracer(
        r#"@id("p") permit (principal in Picket::Role::"reader", action, resource)
           unless { context.method == "BREW" }
           when { resource.route_rule == "a" }
           when { resource has classification };"#,
    );
    let check = |roles: &[&str],
                 method: &str,
                 rule: &str,
                 scope: ConditionValue,
                 clauses: &[Option<ConditionValue>],
                 whole: ConditionValue| {
        let trace = tracer.trace(&request(user(roles), method, rule), &at_now()).unwrap();
        let found = of(&tracer, &trace, "p");
        let expected = (&scope, clauses, &whole);
        assert_eq!((&found.scope, found.clauses.as_slice(), &found.whole), expected);
        assert_eq!(found.is_candidate, rule == "a");
    };
    use ConditionValue::{False, True};
    check(&[], "GET", "a", False, &[None, None, None], False);
    check(&["reader"], "BREW", "a", True, &[Some(True), None, None], False);
    check(&["reader"], "GET", "b", True, &[Some(False), Some(False), None], False);
    check(
        &["reader"],
        "GET",
        "a",
        True,
        &[Some(False), Some(True), Some(False)],
        False,
    );
}

#[test]
fn a_clause_that_fails_says_why() {
    let tracer = tracer(
        r#"@id("p") permit (principal is Picket::User, action, resource)
           when { principal has auth_time && principal.auth_time + 9223372036854775807 > 0 };"#,
    );
    let mut asked = request(user(&[]), "GET", "a");
    asked.principal.as_mut().unwrap().auth_time_s = Some(1);
    let trace = tracer.trace(&asked, &at_now()).unwrap();
    let found = of(&tracer, &trace, "p");
    let ConditionValue::Failed(error) = &found.whole else {
        panic!("{found:?}")
    };
    assert!(error.contains("overflow"), "{error}");
    assert!(matches!(&found.clauses[0], Some(ConditionValue::Failed(error)) if error.contains("overflow")));
}

#[test]
fn the_principal_is_told_with_the_roles_that_its_roles_are_in() {
    let tracer = Tracer::new(&load(&shipped()).unwrap()).unwrap();
    let trace = tracer.trace(&request(user(&["clerk"]), "GET", "a"), &at_now()).unwrap();
    assert_eq!(trace.principal, "Picket::User::\"https://issuer.example|alice\"");
    assert_eq!(
        trace.principal_in,
        ["Picket::Role::\"clerk\"", "Picket::Role::\"reader\""]
    );
    assert_eq!(trace.action, "Picket::Action::\"GET\"");
    assert_eq!(trace.resource, "Picket::Resource::\"orders.example.org/orders/7\"");
    let mut asked = request(user(&[]), "GET", "a");
    asked.principal.as_mut().unwrap().roles = (0..=ROLES_MAX).map(|n| n.to_string()).collect();
    assert!(
        tracer
            .trace(&asked, &at_now())
            .unwrap_err()
            .to_string()
            .contains("at most 256")
    );
}

#[test]
fn a_policy_that_is_too_long_to_be_taken_apart_is_looked_at_as_a_whole() {
    let other = "x".repeat(16 * 1024);
    let condition = format!(r#"resource.route_rule == "a" && resource.host != "{other}""#);
    let text = format!(r#"@id("long") forbid (principal, action, resource) when {{ {condition} }};"#);
    let tracer = tracer(&text);
    assert_eq!(tracer.policies()[0].clauses, []);
    for (rule, expected) in [("a", ConditionValue::True), ("b", ConditionValue::False)] {
        let trace = tracer.trace(&request(None, "GET", rule), &at_now()).unwrap();
        let found = of(&tracer, &trace, "long");
        assert_eq!((&found.whole, &found.scope), (&expected, &expected));
    }
}

#[test]
fn a_policy_of_another_tenant_is_not_met_and_one_in_observe_mode_is_told_as_such() {
    let tracer = tracer(
        r#"@id("own") @tenant("acme") permit (principal, action, resource) when { resource.route_rule == "a" };
           @id("tried") @mode("observe") forbid (principal, action, resource);"#,
    );
    let [own, tried] = tracer.policies() else { panic!() };
    assert_eq!((own.tenant.as_deref(), own.is_observed), (Some("acme"), false));
    assert_eq!((tried.tenant.as_deref(), tried.is_observed), (None, true));
    for (tenant, expected) in [
        (Some("acme"), ConditionValue::True),
        (Some("globex"), ConditionValue::False),
        (None, ConditionValue::False),
    ] {
        let mut asked = request(user(&[]), "GET", "a");
        asked.principal.as_mut().unwrap().tenant = tenant.map(str::to_owned);
        let trace = tracer.trace(&asked, &at_now()).unwrap();
        let found = of(&tracer, &trace, "own");
        assert_eq!((&found.scope, &found.whole), (&expected, &expected), "{tenant:?}");
        assert_eq!(found.is_candidate, tenant == Some("acme"));
        assert_eq!(found.clauses[0].is_some(), tenant == Some("acme"));
        assert_eq!(of(&tracer, &trace, "tried").whole, ConditionValue::True);
    }
}

#[test]
fn a_clause_sees_the_time_in_the_engines_zone() {
    let text = r#"@id("late") permit (principal, action, resource) when { context.time.hour == 11 };"#;
    for (zone, expected) in [("UTC", ConditionValue::False), ("Europe/Berlin", ConditionValue::True)] {
        let engine = engine(text).in_time_zone(time_zone(zone).unwrap());
        let tracer = Tracer::new(&engine).unwrap();
        let trace = tracer.trace(&request(None, "GET", "a"), &at_now()).unwrap();
        assert_eq!(trace.policies[0].whole, expected, "{zone}");
    }
}

/// What the parts say about the whole, as Cedar evaluates them.
fn from_parts(policy: &TracedPolicy, trace: &PolicyTrace) -> ConditionValue {
    let parts = trace.clauses.iter().zip(&policy.clauses);
    if trace.scope != ConditionValue::True {
        return trace.scope.clone();
    }
    for (outcome, clause) in parts {
        match outcome.as_ref().unwrap() {
            ConditionValue::Failed(error) => return ConditionValue::Failed(error.clone()),
            ConditionValue::True | ConditionValue::False if clause.is_satisfied(outcome.as_ref().unwrap()) => {}
            ConditionValue::True | ConditionValue::False => return ConditionValue::False,
        }
    }
    ConditionValue::True
}

/// What the engine must say where these are the wholes.
fn effect(tracer: &Tracer, trace: &Trace) -> Effect {
    let is_any = |kind: PolicyKind, is: fn(&ConditionValue) -> bool| {
        let mut policies = tracer.policies().iter().zip(&trace.policies);
        policies.any(|(policy, trace)| policy.kind == kind && !policy.is_observed && is(&trace.whole))
    };
    let (is_true, is_failed) = (
        |one: &ConditionValue| *one == ConditionValue::True,
        |one: &ConditionValue| matches!(one, ConditionValue::Failed(_)),
    );
    let has_failed = is_any(PolicyKind::Permit, is_failed) || is_any(PolicyKind::Forbid, is_failed);
    match !has_failed && !is_any(PolicyKind::Forbid, is_true) && is_any(PolicyKind::Permit, is_true) {
        true => Effect::Permit,
        false => Effect::Deny,
    }
}

fn is_same_kind(one: &ConditionValue, other: &ConditionValue) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_trace_agrees_with_the_engine(policies in vec(policy(), 1..8), requests in vec(asked(), 16)) {
        let text: String = policies
            .iter()
            .enumerate()
            .map(|(number, policy)| format!("@id(\"p{number}\") {policy}\n"))
            .collect();
        let folder = folder(&[("p.cedar", &text)]);
        for (name, content) in world() {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let engine = load(folder.path()).unwrap();
        let tracer = Tracer::new(&engine).unwrap();
        for request in &requests {
            check_agreement(&engine, &tracer, request, &text)?;
        }
    }
}

fn check_agreement(
    engine: &PolicyEngine,
    tracer: &Tracer,
    request: &AccessRequest,
    text: &str,
) -> Result<(), proptest::test_runner::TestCaseError> {
    let (trace, evaluation) = (
        tracer.trace(request, &at_now()).unwrap(),
        engine.evaluate(request, &at_now()),
    );
    prop_assert_eq!(effect(tracer, &trace), evaluation.effect, "{}\n{:?}", text, request);
    for (policy, trace) in tracer.policies().iter().zip(&trace.policies) {
        let from_parts = from_parts(policy, trace);
        prop_assert!(
            is_same_kind(&from_parts, &trace.whole),
            "{:?}\n{:?}\n{}",
            policy,
            trace,
            text
        );
        // What the engine leaves out is false without an error.
        prop_assert!(
            trace.is_candidate || trace.whole == ConditionValue::False,
            "{:?}\n{:?}\n{}",
            policy,
            trace,
            text
        );
        let is_named = evaluation.policy_ids.contains(&policy.id);
        prop_assert!(
            !is_named || trace.whole != ConditionValue::False,
            "{:?}\n{:?}\n{}",
            policy,
            trace,
            text
        );
    }
    Ok(())
}
