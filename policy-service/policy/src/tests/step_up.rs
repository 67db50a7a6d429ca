//! Challenges: what a denied principal is told to come back with.

use std::cell::Cell;

use jiff::tz::TimeZone;
use picket_model::decision::ACR_VALUES_MAX;

use super::super::compared::{Ages, Compared};
use super::super::context::ZonedContext;
use super::super::needs::Attributes;
use super::super::step_up::Search;
use super::*;

const MFA: &str = r#"@id("mfa") permit (principal is Picket::User, action, resource)
    when { principal has acr && principal.acr == "urn:example:mfa" };"#;
const FRESH: &str = r#"@id("fresh") permit (principal is Picket::User, action, resource)
    when { principal has auth_age && principal.auth_age < 300 };"#;
const BOUND: &str = r#"@id("bound") permit (principal is Picket::User, action, resource) when { principal.is_bound };"#;

fn asked(change: impl FnOnce(&mut Principal)) -> AccessRequest {
    let mut request = request(user(&["reader"]), "GET", "r");
    change(request.principal.as_mut().unwrap());
    request
}

fn challenge(policies: &str, change: impl FnOnce(&mut Principal)) -> Option<StepUp> {
    let evaluation = engine(policies).evaluate(&asked(change), &at_now());
    assert_eq!(evaluation.effect, Effect::Deny, "{policies}");
    evaluation.challenge
}

fn step_up(acr_values: &[&str], max_age_s: Option<u32>, bound_token: bool) -> Option<StepUp> {
    let step_up = StepUp::new(acr_values.map_owned(), max_age_s, bound_token, false);
    assert!(step_up.is_some());
    step_up
}

#[test]
fn a_stronger_authentication_that_would_be_permitted_is_named() {
    assert_eq!(challenge(MFA, |_| {}), step_up(&["urn:example:mfa"], None, false));
    let weaker = |principal: &mut Principal| principal.acr = Some("urn:example:password".to_owned());
    assert_eq!(challenge(MFA, weaker), step_up(&["urn:example:mfa"], None, false));
    let several = r#"@id("p") permit (principal is Picket::User, action, resource)
        when { principal has acr && ["silver", "gold", "bronze"].contains(principal.acr) } unless { principal.acr == "bronze" };"#;
    assert_eq!(challenge(several, |_| {}), step_up(&["gold", "silver"], None, false));
}

#[test]
fn the_oldest_authentication_that_would_be_permitted_is_named() {
    let old = |principal: &mut Principal| principal.auth_time_s = Some(NOW_S - 4000);
    assert_eq!(challenge(FRESH, old), step_up(&[], Some(299), false));
    assert_eq!(challenge(FRESH, |_| {}), step_up(&[], Some(299), false));
    assert_eq!(
        challenge(&FRESH.replace("<", "<="), old),
        step_up(&[], Some(300), false)
    );
    let forbidding = r#"@id("all") permit (principal, action, resource);
        @id("old") forbid (principal is Picket::User, action, resource) unless { principal has auth_age && !(principal.auth_age > 60) };"#;
    assert_eq!(challenge(forbidding, old), step_up(&[], Some(60), false));
    // Used for something else than a comparison: only now is known to do.
    assert_eq!(
        challenge(&FRESH.replace("auth_age <", "auth_age * 2 <"), old),
        step_up(&[], Some(0), false)
    );
}

#[test]
fn an_acr_that_is_refused_by_name_is_not_asked_for() {
    let policy = r#"@id("p") permit (principal is Picket::User, action, resource)
        when { principal has acr && principal.acr != "weak" && principal has auth_age && principal.auth_age <= 60 };"#;
    let strong_and_old = |principal: &mut Principal| {
        principal.acr = Some("gold".to_owned());
        principal.auth_time_s = Some(NOW_S - 4000);
    };
    assert_eq!(challenge(policy, strong_and_old), step_up(&[], Some(60), false));
}

#[test]
fn a_bound_token_is_asked_for_where_nothing_else_would_do() {
    assert_eq!(challenge(BOUND, |_| {}), step_up(&[], None, true));
    let either = format!("{MFA}\n{BOUND}");
    assert_eq!(challenge(&either, |_| {}), step_up(&["urn:example:mfa"], None, false));
}

#[test]
fn all_that_is_missing_is_asked_for_at_once() {
    let all = r#"@id("p") permit (principal is Picket::User, action, resource)
        when { principal has acr && principal.acr == "gold" && principal has auth_age && principal.auth_age <= 60 && principal.is_bound };"#;
    assert_eq!(challenge(all, |_| {}), step_up(&["gold"], Some(60), true));
    let bound = |principal: &mut Principal| principal.is_bound = true;
    assert_eq!(challenge(all, bound), step_up(&["gold"], Some(60), false));
}

#[test]
fn what_no_authentication_changes_is_a_plain_deny() {
    let auditors = r#"@id("p") permit (principal in Picket::Role::"auditor", action, resource)
        when { principal has acr && principal.acr == "gold" };"#;
    assert_eq!(challenge(auditors, |_| {}), None);
    // No policy looks at how the user authenticated.
    assert_eq!(
        challenge(
            r#"@id("p") permit (principal, action, resource) when { context.method == "PUT" };"#,
            |_| {}
        ),
        None
    );
    // A value that no header can carry.
    assert_eq!(challenge(&MFA.replace("urn:example:mfa", "two words"), |_| {}), None);
}

#[test]
fn only_a_user_can_authenticate_again() {
    let workload = request(None, "GET", "r");
    let evaluation = check(&engine(MFA), &workload, Effect::Deny, &[]);
    assert_eq!(evaluation.challenge, None);
}

#[test]
fn an_error_is_no_challenge_and_a_permit_neither() {
    let failing = format!(
        r#"{MFA} @id("breaks") forbid (principal is Picket::User, action, resource)
           when {{ principal has auth_time && principal.auth_time + 9223372036854775807 > 0 }};"#
    );
    let evaluation = engine(&failing).evaluate(&asked(|principal| principal.auth_time_s = Some(1)), &at_now());
    assert_eq!((evaluation.effect, evaluation.challenge), (Effect::Deny, None));
    assert_eq!(evaluation.errors.len(), 1);
    // An attempt at which a policy fails is none that is permitted.
    let evaluation = engine(&failing).evaluate(&asked(|principal| principal.auth_time_s = Some(-1)), &at_now());
    assert_eq!(evaluation.challenge, None);
    let strong = asked(|principal| principal.acr = Some("urn:example:mfa".to_owned()));
    let evaluation = check(&engine(MFA), &strong, Effect::Permit, &["mfa"]);
    assert_eq!(evaluation.challenge, None);
}

#[test]
fn whoever_is_challenged_and_does_as_told_is_permitted() {
    let policies = format!(
        "{}\n{}",
        FRESH.replace(
            "< 300",
            "<= 300 && principal has acr && [\"a\", \"b\"].contains(principal.acr)"
        ),
        BOUND.replace(
            "principal.is_bound",
            "principal.is_bound && principal has acr && principal.acr == \"c\""
        )
    );
    let engine = engine(&policies);
    let told = engine.evaluate(&asked(|_| {}), &at_now()).challenge.unwrap();
    assert!(!told.acr_values().is_empty());
    for acr in told.acr_values() {
        let back = asked(|principal| {
            principal.acr = Some(acr.clone());
            principal.is_bound = told.bound_token();
            principal.auth_time_s = told.max_age_s().map(|age_s| NOW_S - i64::from(age_s));
        });
        assert_eq!(engine.evaluate(&back, &at_now()).effect, Effect::Permit, "{acr}");
    }
}

#[test]
fn one_denial_costs_so_many_evaluations_and_no_more() {
    let request = asked(|_| {});
    let compared = Compared {
        ages: Ages::Compared((1..100).collect()),
        acr_values: (0..ACR_VALUES_MAX).map(|number| format!("acr{number}")).collect(),
    };
    let evaluated = Cell::new(0);
    let now = EvaluationContext::at(Timestamp::from_s(1_700_000_000));
    let context = ZonedContext::new(&now, &TimeZone::UTC).unwrap();
    let search = Search {
        request: &request,
        context: &context,
        read_attributes: Attributes::ALL,
        compared: &compared,
        // The last class alone would do, with all the rest and a new authentication: everything
        // else is tried before.
        evaluate: |tried: &AccessRequest, _: &ZonedContext| {
            evaluated.set(evaluated.get() + 1);
            let principal = tried.principal.as_ref();
            let is_enough = principal.is_some_and(|principal| {
                principal.acr.as_deref() == compared.acr_values.last().map(String::as_str)
                    && principal.auth_time_s == Some(context.ago(0))
                    && principal.is_bound
            });
            if is_enough { Effect::Permit } else { Effect::Deny }
        },
        evaluations: Cell::new(0),
    };
    let found = search.run();
    assert_eq!(evaluated.get(), 64);
    // What is left to be found out is asked for in full.
    let last = compared.acr_values.last().cloned().into_iter().collect();
    assert_eq!(found, StepUp::new(last, Some(0), true, false));
}
