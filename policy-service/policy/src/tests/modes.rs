//! What annotations and the time change: obligations, observe mode, tenants, validity.

use picket_model::decision::Vary;

use super::*;

const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

fn of_tenant(tenant: Option<&str>) -> AccessRequest {
    let mut request = request(user(&["reader"]), "GET", "r");
    request.principal.as_mut().unwrap().tenant = tenant.map(str::to_owned);
    request
}

#[test]
fn a_permit_carries_the_obligations_of_the_policies_that_permitted() {
    let engine = engine(
        r#"@id("a") @obligation("mask, log:full") permit (principal, action, resource);
           @id("b") @obligation("log:full") permit (principal, action, resource);
           @id("c") @obligation("never") permit (principal, action, resource) when { context.method == "PUT" };
           @id("d") forbid (principal, action, resource) when { context.method == "DELETE" };"#,
    );
    let permitted = check(&engine, &request(None, "GET", "r"), Effect::Permit, &["a", "b"]);
    assert_eq!(permitted.obligations, ["log:full", "mask"]);
    let denied = check(&engine, &request(None, "DELETE", "r"), Effect::Deny, &["d"]);
    assert_eq!(denied.obligations, Vec::<String>::new());
}

#[test]
fn a_policy_in_observe_mode_decides_nothing_and_says_what_it_would_have_changed() {
    let forbid = r#"@id("trial") @mode("observe") @reason("never told") forbid (principal, action, resource) when { context.method == "PUT" };"#;
    let engine = engine(&format!("{ALL} {forbid}"));
    let evaluation = check(&engine, &request(None, "PUT", "r"), Effect::Permit, &["all"]);
    let expected = Observed {
        effect: Effect::Deny,
        policy_ids: vec!["trial".to_owned()],
    };
    assert_eq!(evaluation.observed, Some(expected));
    assert_eq!(evaluation.caller_reasons, Vec::<String>::new());
    let untouched = check(&engine, &request(None, "GET", "r"), Effect::Permit, &["all"]);
    assert_eq!(untouched.observed, None);
}

#[test]
fn a_permit_in_observe_mode_permits_nobody() {
    let engine = engine(r#"@id("trial") @mode("observe") @obligation("mask") permit (principal, action, resource);"#);
    let evaluation = check(&engine, &request(user(&[]), "GET", "r"), Effect::Deny, &[]);
    let observed = evaluation.observed.unwrap();
    assert_eq!(
        (observed.effect, observed.policy_ids),
        (Effect::Permit, vec!["trial".to_owned()])
    );
    assert_eq!((evaluation.obligations, evaluation.challenge), (Vec::new(), None));
}

#[test]
fn a_failure_in_observe_mode_denies_nobody_and_is_told() {
    let breaks = r#"@id("breaks") @mode("observe") forbid (principal is Picket::User, action, resource)
        when { principal.issuer == "x" || principal.subject.contains("x") };"#;
    let _does_not_type_check = load(folder(&[("p.cedar", breaks)]).path()).unwrap_err();
    let breaks = r#"@id("breaks") @mode("observe") forbid (principal is Picket::User, action, resource)
        when { principal has auth_time && principal.auth_time + 9223372036854775807 > 0 };"#;
    let engine = engine(&format!("{ALL} {breaks}"));
    let mut asked = request(user(&[]), "GET", "r");
    asked.principal.as_mut().unwrap().auth_time_s = Some(1);
    let evaluation = check(&engine, &asked, Effect::Permit, &["all"]);
    assert_eq!(evaluation.errors, Vec::<String>::new());
    let observed = evaluation.observed.unwrap();
    assert_eq!(
        (observed.effect, observed.policy_ids),
        (Effect::Deny, vec!["breaks".to_owned()])
    );
}

#[test]
fn a_policy_of_another_tenant_is_never_met() {
    let engine = engine(
        r#"@id("acme") @tenant("acme") permit (principal, action, resource);
           @id("globex") @tenant("globex") forbid (principal, action, resource);
           @id("globex-r") @tenant("globex") permit (principal, action, resource) when { resource.route_rule == "r" };"#,
    );
    check(&engine, &of_tenant(Some("acme")), Effect::Permit, &["acme"]);
    check(&engine, &of_tenant(Some("globex")), Effect::Deny, &["globex"]);
    for other in [None, Some("ACME"), Some("acme "), Some("initech")] {
        check(&engine, &of_tenant(other), Effect::Deny, &[]);
    }
    // Neither a workload nor anybody is of a tenant.
    check(&engine, &request(None, "GET", "r"), Effect::Deny, &[]);
}

#[test]
fn what_a_rule_says_of_its_resource_is_seen() {
    let engine = engine(
        r#"@id("p") permit (principal is Picket::User, action, resource) when { resource has tenant &&
               principal has tenant && resource.tenant == principal.tenant && resource has security_zone && resource.security_zone == "dmz" };"#,
    );
    let mut asked = of_tenant(Some("acme"));
    asked.resource.tenant = Some("acme".to_owned());
    check(&engine, &asked, Effect::Deny, &[]);
    asked.resource.security_zone = Some("dmz".to_owned());
    check(&engine, &asked, Effect::Permit, &["p"]);
    asked.resource.tenant = Some("globex".to_owned());
    check(&engine, &asked, Effect::Deny, &[]);
}

#[test]
fn clock_and_calendar_are_those_of_the_policies_time_zone() {
    let hours = r#"@id("hours") permit (principal, action, resource) when { context.time.hour >= 11 && context.time.weekday == 6 };"#;
    let asked = request(None, "GET", "r");
    let utc = engine(hours);
    let denied = check(&utc, &asked, Effect::Deny, &[]);
    // 10:58:30 in Greenwich.
    assert_eq!(denied.same_for_ms, Some(90_000));
    assert_eq!(denied.vary, Vary::NOTHING);
    let berlin = utc.in_time_zone(TimeZone::get("Europe/Berlin").unwrap());
    let permitted = check(&berlin, &asked, Effect::Permit, &["hours"]);
    assert_eq!(permitted.same_for_ms, Some(90_000));
    assert_eq!(check(&engine(ALL), &asked, Effect::Permit, &["all"]).same_for_ms, None);
}

#[test]
fn an_answer_about_an_age_ends_where_it_passes_what_it_is_compared_with() {
    let same_for_ms = |condition: &str, auth_time_s| {
        let policy = format!(
            r#"@id("p") permit (principal is Picket::User, action, resource) when {{ principal has auth_age && {condition} }};"#
        );
        let mut asked = request(user(&[]), "GET", "r");
        asked.principal.as_mut().unwrap().auth_time_s = auth_time_s;
        engine(&policy).evaluate(&asked, &at_now()).same_for_ms
    };
    assert_eq!(
        same_for_ms("principal.auth_age < 300", Some(NOW_S - 100)),
        Some(200_000)
    );
    assert_eq!(same_for_ms("60 >= principal.auth_age", Some(NOW_S - 10)), Some(50_000));
    assert_eq!(same_for_ms("principal.auth_age < 300", Some(NOW_S - 1000)), None);
    assert_eq!(same_for_ms("principal.auth_age < 300", None), None);
    assert_eq!(same_for_ms("principal.auth_age + 1 < 300", Some(NOW_S - 100)), Some(0));
    assert_eq!(
        same_for_ms("[1, 2].contains(principal.auth_age)", Some(NOW_S - 100)),
        Some(0)
    );
}
