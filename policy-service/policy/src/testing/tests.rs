use tempfile::TempDir;

use super::*;
use crate::{PolicyEngine, TESTS_FOLDER};

mod matrix;

const POLICIES: &str = r#"
@id("read") permit (principal in Picket::Role::"reader", action, resource) when { resource.route_rule == "a" };
@id("no-secrets") @reason("secret") forbid (principal, action, resource)
when { resource has classification } when { resource.classification == "secret" };
@id("breaks") permit (principal is Picket::User, action, resource)
when { principal has auth_time && principal.auth_time + 9223372036854775807 < 0 };
"#;

/// A folder of policies, with these files as their tests.
fn folder(policies: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.cedar"), policies).unwrap();
    let tests = folder.path().join(TESTS_FOLDER);
    std::fs::create_dir(&tests).unwrap();
    for (name, text) in files {
        std::fs::write(tests.join(name), text).unwrap();
    }
    folder
}

fn engine(folder: &TempDir) -> PolicyEngine {
    crate::load(folder.path()).unwrap()
}

fn report(policies: &str, cases: &str) -> TestReport {
    let folder = folder(policies, &[("cases.yaml", cases)]);
    let files = read_cases(&folder.path().join(TESTS_FOLDER)).unwrap();
    run(&engine(&folder), &files).unwrap()
}

/// The mistakes of one file, without the folder's name.
fn mistakes(text: &str) -> Vec<String> {
    let folder = folder(POLICIES, &[("cases.yaml", text)]);
    let tests = folder.path().join(TESTS_FOLDER);
    let errors = read_cases(&tests).unwrap_err();
    let prefix = format!("{}/", tests.display());
    let mut lines: Vec<String> = errors
        .as_slice()
        .iter()
        .map(|one| one.to_string().replace(&prefix, ""))
        .collect();
    lines.sort();
    lines
}

/// What one case comes out with.
fn outcome(case: &str) -> Vec<String> {
    let report = report(POLICIES, &format!("cases: [{{ name: c, {case} }}]"));
    assert_eq!(report.passed + report.failed, 1);
    let case = &report.files[0].cases[0];
    assert_eq!(case.is_passed(), report.passed == 1);
    case.mismatches.iter().map(ToString::to_string).collect()
}

#[test]
fn a_case_passes_where_all_that_it_names_is_so() {
    for case in [
        "request: { route_rule: a, principal: { roles: [reader] } }, expect: { effect: permit }",
        "request: { route_rule: a, principal: { roles: [reader] } }, expect: { effect: permit, policy_ids: [read], reasons: [] }",
        "request: { route_rule: b, principal: { roles: [reader] } }, expect: { effect: deny, policy_ids: [] }",
        "request: { route_rule: b, resource: { classification: secret } }, expect: { effect: deny, reasons: [secret] }",
        "request: { route_rule: b, principal: { auth_time_s: 1 } }, expect: { effect: deny, error: overflow }",
    ] {
        assert_eq!(outcome(case), [""; 0], "{case}");
    }
}

#[test]
fn a_case_fails_with_what_was_expected_and_what_came() {
    let secret = "request: { route_rule: a, principal: { roles: [reader] }, resource: { classification: secret } }";
    let check = |expect: &str, expected: &[&str]| assert_eq!(outcome(&format!("{secret}, expect: {expect}")), expected);
    check("{ effect: permit }", &["effect: expected permit, found deny"]);
    check(
        "{ effect: deny, policy_ids: [] }",
        &["policy_ids: expected none, found `no-secrets`"],
    );
    check(
        "{ effect: deny, policy_ids: [read, no-secrets], reasons: [other] }",
        &[
            "policy_ids: expected `no-secrets`, `read`, found `no-secrets`",
            "reasons: expected `other`, found `secret`",
        ],
    );
    check(
        "{ effect: deny, error: overflow }",
        &["error: expected `overflow`, found none"],
    );
}

#[test]
fn a_policy_that_fails_is_not_a_deny_that_was_expected() {
    let found = outcome("request: { route_rule: b, principal: { auth_time_s: 1 } }, expect: { effect: deny }");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("error: expected none, found `"), "{found:?}");
}

#[test]
fn more_roles_than_are_evaluated_fail_a_case_and_try_nothing() {
    let roles: Vec<String> = (0..=crate::ROLES_MAX).map(|n| format!("r{n}")).collect();
    let case = format!(
        "cases: [{{ name: c, request: {{ route_rule: a, principal: {{ roles: [{}] }} }}, expect: {{ effect: deny }} }}]",
        roles.join(", ")
    );
    let report = report(POLICIES, &case);
    assert_eq!((report.failed, report.coverage.seen), (1, 0));
}

#[test]
fn defaults_are_laid_under_each_request_and_null_takes_them_away() {
    let text = r#"
defaults: { route_rule: a, principal: { roles: [reader], tenant: t }, peer: { spiffe_id: spiffe://example.org/web } }
cases:
  - { name: as it is, request: {}, expect: { effect: permit } }
  - { name: other roles, request: { principal: { roles: [clerk] } }, expect: { effect: deny } }
  - { name: another rule, request: { route_rule: b }, expect: { effect: deny } }
  - { name: nobody, request: { principal: null, peer: null }, expect: { effect: deny } }
"#;
    let folder = folder(POLICIES, &[("cases.yaml", text)]);
    let files = read_cases(&folder.path().join(TESTS_FOLDER)).unwrap();
    let cases = &files[0].cases;
    let tenants: Vec<_> = cases
        .iter()
        .map(|case| {
            case.request
                .request
                .principal
                .as_ref()
                .and_then(|one| one.tenant.as_deref())
        })
        .collect();
    assert_eq!(tenants, [Some("t"), Some("t"), Some("t"), None]);
    assert_eq!(cases[3].request.request.peer, None);
    assert_eq!(cases[0].request.request.peer, "spiffe://example.org/web".parse().ok());
    assert_eq!(cases[0].request.request.request_id, "as it is");
    assert_eq!(cases[0].request.request.action.method, "GET");
    assert_eq!(run(&engine(&folder), &files).unwrap().failed, 0);
}

#[test]
fn every_mistake_is_told_with_file_and_field() {
    let text = r#"
defaults: { route_rule: 7 }
case: []
cases:
  - name: ""
    request: { route_rule: a, principal: { rols: [reader] }, peer: { spiffe_id: web } }
    expect: { effect: allow }
  - name: n
    request: { route_rule: a, resource: { host: Orders.Example, path: /a/../b }, context: { source_address: here } }
    expect: { effect: deny, policy_ids: read, challenge: 1 }
  - { name: m, request: { route_rule: a, principal: { actors: [{}], is_bound: "yes" } } }
"#;
    let expected = [
        "cases.yaml: case: unknown field, expected one of `defaults`, `cases`",
        "cases.yaml: cases[0].expect.effect: unknown value `allow`, expected one of `permit`, `deny`",
        "cases.yaml: cases[0].name: expected a text that is not empty",
        "cases.yaml: cases[0].request.peer.spiffe_id: `web` is not a SPIFFE ID: ",
        "cases.yaml: cases[0].request.principal.rols: unknown field, expected one of ",
        "cases.yaml: cases[1].expect.challenge: expected an object, found an integer",
        "cases.yaml: cases[1].expect.policy_ids: expected an array, found a string",
        "cases.yaml: cases[1].request.context.source_address: `here` is not an IP address",
        "cases.yaml: cases[1].request.resource.host: expected a host in lower case without port, found `Orders.Example`",
        "cases.yaml: cases[1].request.resource.path: expected the path in normal form and without query, which is `/b`",
        "cases.yaml: cases[2].expect: is required",
        "cases.yaml: cases[2].request.principal.actors[0].subject: is required",
        "cases.yaml: cases[2].request.principal.is_bound: expected a boolean, found a string",
        "cases.yaml: defaults.route_rule: expected a string, found an integer",
    ];
    let found = mistakes(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn what_only_shows_once_the_form_is_right_is_told_too() {
    let text = r#"
cases:
  - { name: n, request: {}, expect: { effect: deny } }
  - { name: n, request: { route_rule: a }, expect: { effect: permit, error: x } }
  - { name: c, request: { route_rule: a }, expect: { effect: deny, challenge: { acr_values: [a b] } } }
"#;
    assert_eq!(
        mistakes(text),
        [
            "cases.yaml: cases[0].request.route_rule: is required, here or in `defaults`",
            "cases.yaml: cases[1].expect.effect: where a policy fails the effect is `deny`",
            "cases.yaml: cases[1].name: `n` is the name of `cases[0]`",
            "cases.yaml: cases[2].expect.challenge: no challenge is like this: at most 8 `acr_values` without spaces and quotation marks",
        ]
    );
}

#[test]
fn what_is_not_one_yaml_document_is_refused() {
    for (text, expected) in [
        ("cases: [", "cases.yaml: expected YAML: "),
        ("cases: []\ncases: []\n", "cases.yaml: expected YAML: "),
        ("cases: []\n---\ncases: []\n", "cases.yaml: expected YAML: "),
        ("", "cases.yaml: "),
        ("cases", "cases.yaml: expected an object, found a string"),
        ("{}", "cases.yaml: cases: is required"),
    ] {
        let found = mistakes(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}: {found:?}");
        assert!(!found[0].contains('\n'), "{found:?}");
    }
}

#[test]
fn files_are_read_in_the_order_of_their_names_and_others_are_not_read() {
    let case =
        |name: &str| format!("cases: [{{ name: {name}, request: {{ route_rule: a }}, expect: {{ effect: deny }} }}]");
    let folder = folder(
        POLICIES,
        &[
            ("b.yml", &case("b")),
            ("a.yaml", &case("a")),
            ("notes.txt", "not YAML: ["),
        ],
    );
    let files = read_cases(&folder.path().join(TESTS_FOLDER)).unwrap();
    let names: Vec<&str> = files
        .iter()
        .flat_map(|file| &file.cases)
        .map(|case| case.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let absent = read_cases(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(absent.contains("absent: cannot read the folder: "), "{absent}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let text = format!("# {}\ncases: []\n", "x".repeat(1024 * 1024));
    assert_eq!(mistakes(&text), ["cases.yaml: larger than 1048576 bytes"]);
}

#[test]
fn conditions_count_as_tried_where_cedar_came_to_them() {
    let seen = |cases: &str| {
        let coverage = report(POLICIES, cases).coverage;
        let conditions = coverage.policies.iter().flat_map(|policy| &policy.conditions);
        let conditions: Vec<_> = conditions
            .map(|one| (one.is_seen_true, one.is_seen_false, one.is_seen_failed))
            .collect();
        let satisfied: Vec<_> = coverage
            .policies
            .iter()
            .map(|one| (one.is_satisfied, one.is_determining))
            .collect();
        (satisfied, conditions, coverage.seen, coverage.total, coverage.percent)
    };
    const NO: (bool, bool) = (false, false);
    const NEVER: (bool, bool, bool) = (false, false, false);
    assert_eq!(seen("cases: []"), (vec![NO; 3], vec![NEVER; 4], 0, 11, 0));
    // Its second condition would fail without the first.
    let one = "cases: [{ name: n, request: { route_rule: a }, expect: { effect: deny } }]";
    assert_eq!(
        seen(one),
        (vec![NO; 3], vec![NEVER, (false, true, false), NEVER, NEVER], 1, 11, 9)
    );
    // What permits is satisfied, and what forbids decides.
    let secret = "cases: [{ name: n, request: { route_rule: a, principal: { roles: [reader], auth_time_s: -1 }, \
                  resource: { classification: secret } }, expect: { effect: deny } }]";
    let (satisfied, conditions, ..) = seen(secret);
    assert_eq!(satisfied, [(true, false), (true, true), NO]);
    assert_eq!(
        conditions,
        [
            (true, false, false),
            (true, false, false),
            (true, false, false),
            (false, true, false)
        ]
    );
    let failing = "cases: [{ name: n, request: { route_rule: a, principal: { auth_time_s: 1 } }, \
                   expect: { effect: deny, error: overflow } }]";
    let (satisfied, conditions, ..) = seen(failing);
    assert_eq!((satisfied[2], conditions[3]), (NO, (false, false, true)));
}

const STRONG: &str = r#"
@id("pay") @obligation("log:full, mask") permit (principal is Picket::User, action, resource)
when { principal has acr && principal.acr == "gold" && principal has auth_age && principal.auth_age <= 300 };
@id("hours") forbid (principal, action, resource) unless { context.time.hour >= 9 && context.time.weekday <= 5 };
@id("tried") @mode("observe") forbid (principal, action, resource) when { resource has security_zone };
@id("acme") @tenant("acme") permit (principal, action, resource) when { resource has tenant && resource.tenant == "acme" };
"#;

/// What cases over [`STRONG`] come out with, and whether the policies applied, in their order.
fn strong(request: &str, expect: &str) -> (Vec<String>, Vec<bool>) {
    let report = report(
        STRONG,
        &format!("cases: [{{ name: c, request: {{ route_rule: a, {request} }}, expect: {expect} }}]"),
    );
    let mismatches = report.files[0].cases[0]
        .mismatches
        .iter()
        .map(ToString::to_string)
        .collect();
    let applied = report
        .coverage
        .policies
        .iter()
        .map(|policy| policy.is_satisfied)
        .collect();
    (mismatches, applied)
}

#[test]
fn a_challenge_is_compared_where_the_case_names_one() {
    let weak = "principal: { acr: silver, auth_age_s: 400 }";
    let passes = |expect: &str| assert_eq!(strong(weak, expect).0, [""; 0], "{expect}");
    passes("{ effect: deny }");
    passes("{ effect: deny, challenge: { acr_values: [gold], max_age_s: 300 } }");
    let (found, _) = strong(weak, "{ effect: deny, challenge: {} }");
    assert_eq!(
        found,
        ["challenge: expected none, found acr_values `gold` and max_age_s 300"]
    );
    let (found, _) = strong(weak, "{ effect: deny, challenge: { bound_token: true } }");
    assert_eq!(
        found,
        ["challenge: expected bound_token, found acr_values `gold` and max_age_s 300"]
    );
    let (found, _) = strong("principal: null", "{ effect: deny, challenge: { max_age_s: 1 } }");
    assert_eq!(found, ["challenge: expected max_age_s 1, found none"]);
}

#[test]
fn obligations_and_what_is_observed_are_compared_where_the_case_names_them() {
    let gold = "principal: { acr: gold, auth_age_s: 0 }, resource: { security_zone: inner }";
    let expect = "{ effect: permit, obligations: [mask, \"log:full\"], observed: deny }";
    assert_eq!(strong(gold, expect), (vec![], vec![true, false, true, false]));
    let (found, _) = strong(gold, "{ effect: permit, obligations: [], observed: none }");
    assert_eq!(
        found,
        [
            "obligations: expected none, found `log:full`, `mask`",
            "observed: expected none, found deny",
        ]
    );
}

#[test]
fn a_case_is_at_noon_of_a_monday_unless_it_says_otherwise() {
    let at = |time: &str, effect: &str| {
        let request = format!("principal: {{ acr: gold, auth_age_s: 10 }}, context: {{ {time} }}");
        let (found, _) = strong(&request, &format!("{{ effect: {effect} }}"));
        assert_eq!(found, [""; 0], "{time}");
    };
    at("", "permit");
    at("time: \"2026-01-05T09:00:00Z\"", "permit");
    at("time: \"2026-01-05T08:59:59Z\"", "deny");
    at("time: \"2026-01-05T09:30:00+01:00\"", "deny");
    at("time: \"2026-01-10T12:00:00Z\"", "deny");
}

#[test]
fn a_policy_of_another_tenant_is_not_tried() {
    let applied = |tenant: &str| {
        strong(
            &format!("principal: {{ tenant: {tenant} }}, resource: {{ tenant: acme }}"),
            "{ effect: deny }",
        )
        .1[3]
    };
    assert!(applied("acme"));
    assert!(!applied("globex"));
}

#[test]
fn a_time_that_is_none_and_one_that_is_said_twice_are_mistakes() {
    let text = "cases: [{ name: c, request: { route_rule: a, context: { time: today } }, expect: { effect: deny } }]";
    assert_eq!(
        mistakes(text),
        [
            "cases.yaml: cases[0].request.context.time: `today` is not a time, expected one such as `2026-01-05T12:00:00Z`"
        ]
    );
    let text = "cases: [{ name: c, request: { route_rule: a, principal: { auth_time_s: 1, auth_age_s: 1 } }, expect: { effect: deny } }]";
    assert_eq!(
        mistakes(text),
        ["cases.yaml: cases[0].request.principal.auth_age_s: says what `auth_time_s` says already"]
    );
}

const DEVICES: &str = r#"
@id("trusted") permit (principal, action, resource)
when { context has device && context.device.is_trusted && context.device.trust_score >= 80 };
"#;

/// What a case over [`DEVICES`] comes out with that comes from this device.
fn on_device(device: &str, expect: &str) -> Vec<String> {
    let text = format!(
        "cases: [{{ name: c, request: {{ route_rule: a, principal: {{}}, device: {device} }}, expect: {expect} }}]"
    );
    let report = report(DEVICES, &text);
    let mismatches = &report.files[0].cases[0].mismatches;
    mismatches.iter().map(ToString::to_string).collect()
}

#[test]
fn a_request_says_which_device_it_comes_from() {
    let challenge = "{ effect: deny, challenge: { trusted_device: true } }";
    for (device, expect) in [
        ("{ state: trusted }", "{ effect: permit }"),
        ("{ state: trusted, trust_score: 79 }", challenge),
        ("{ state: trusted, is_compliant: false, is_trusted: false }", challenge),
        ("{ state: enrolled }", challenge),
        ("{ state: suspended }", challenge),
        ("null", challenge),
    ] {
        assert_eq!(on_device(device, expect), [""; 0], "{device}");
    }
    let found = on_device("null", "{ effect: deny, challenge: {} }");
    assert_eq!(found, ["challenge: expected none, found trusted_device"]);
}

#[test]
fn a_device_that_the_rules_make_of_none_is_a_mistake() {
    let mistake = |device: &str| {
        let text = format!(
            "cases: [{{ name: c, request: {{ route_rule: a, device: {device} }}, expect: {{ effect: deny }} }}]"
        );
        mistakes(&text).join("\n")
    };
    for (device, expected) in [
        (
            "{ state: lost }",
            "device.state: expected one of `enrolled`, `trusted`, `suspended` and `retired`, found `lost`",
        ),
        (
            "{ state: trusted, trust_score: 101 }",
            "device.trust_score: expected a whole number of 0 to 100",
        ),
        (
            "{ state: enrolled, is_trusted: true }",
            "device.is_trusted: only a `trusted` device that complies is trusted",
        ),
        (
            "{ state: trusted, is_trusted: true, is_compliant: false }",
            "device.is_trusted: only a `trusted` device that complies is trusted",
        ),
        (
            "{ state: retired, trust_score: 1 }",
            "device.trust_score: a device that is suspended or retired has the score 0",
        ),
    ] {
        let expected = format!("cases.yaml: cases[0].request.{expected}");
        assert_eq!(mistake(device), expected);
    }
}

#[test]
fn a_request_may_state_its_risk_which_defaults_can_state_too() {
    const RISKY: &str = r#"
@id("low") permit (principal, action, resource) when { context has risk && context.risk.level == "low" };
@id("device") permit (principal, action, resource) when { context has risk && context.risk.signals.contains("new_device") };
"#;
    let report = report(
        RISKY,
        "
defaults: { route_rule: a, risk: { score: 25, signals: [new_device] } }
cases:
  - { name: by default, request: {}, expect: { effect: permit, policy_ids: [device] } }
  - { name: another score, request: { risk: { score: 19 } }, expect: { effect: permit, policy_ids: [device, low] } }
  - { name: no signal, request: { risk: { score: 20, signals: [] } }, expect: { effect: deny, policy_ids: [] } }
  - { name: not assessed, request: { risk: null }, expect: { effect: deny, policy_ids: [] } }
",
    );
    let failed: Vec<_> = report.files[0].cases.iter().filter(|case| !case.is_passed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    // What is tried with a risk counts as tried.
    assert_eq!(report.coverage.percent, 100);
}

#[test]
fn a_risk_that_no_request_has_is_a_mistake() {
    let of = |risk: &str| {
        mistakes(&format!(
            "cases: [{{ name: c, request: {{ route_rule: a, risk: {risk} }}, expect: {{ effect: deny }} }}]"
        ))
    };
    assert_eq!(
        of("{ score: 101 }"),
        ["cases.yaml: cases[0].request.risk.score: expected a score of 0 to 100, found 101"]
    );
    assert_eq!(
        of("{ score: 25, signals: [new_device, new_device] }"),
        ["cases.yaml: cases[0].request.risk.signals: `new_device` is there twice"]
    );
    let unknown = of("{ score: 25, signals: [no_device] }");
    assert!(
        unknown[0].starts_with(
            "cases.yaml: cases[0].request.risk.signals[0]: `no_device` is no signal, expected one of `new_location`, "
        ),
        "{unknown:?}"
    );
    assert_eq!(
        of("{ score: 25, country: de }"),
        ["cases.yaml: cases[0].request.risk.country: expected a country's two letters, such as `DE`, found `de`"]
    );
    assert_eq!(of("{ score: -1 }").len(), 1);
    assert_eq!(of("{}").len(), 1);
    assert_eq!(of("{ score: 60, level: high }").len(), 1);
}
