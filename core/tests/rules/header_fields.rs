//! Header fields that are repeated, in another spelling, or in unusual bytes: no reading of a request escapes a rule.

use picket_core::enforcement::Step;
use picket_core::reason::DenyReason;
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration};

/// A condition, the fields of a request, and whether the condition matches in a rule that rejects and in one that accepts.
type Case = (&'static str, &'static [(&'static str, &'static str)], bool, bool);

const ADMIN: &str = r#"{"header": "x-role", "values": ["admin"]}"#;
const NOT_TEST: &str = r#"{"header": "x-role", "not_values": ["test"]}"#;
const BEGINNING: &str = r#"{"header": "x-role", "values": ["adm*"]}"#;
const END: &str = r#"{"header": "x-role", "values": ["*min"]}"#;
const BOTH: &str = r#"{"header": "x-role", "values": ["a*"], "not_values": ["ab"]}"#;
const LIST: &str = r#"{"header": "x-role", "values": ["a,b"]}"#;
const NOT_LIST: &str = r#"{"header": "x-role", "not_values": ["a,b"]}"#;
const PRESENT: &str = r#"{"header": "x-role", "values": ["*"]}"#;
const ABSENT: &str = r#"{"header": "x-role", "not_values": ["*"]}"#;

const CASES: &[Case] = &[
    (ADMIN, &[], false, false),
    (ADMIN, &[("x-role", "admin")], true, true),
    (ADMIN, &[("x-role", "user")], false, false),
    (ADMIN, &[("x-role", "user"), ("x-role", "admin")], true, false),
    (ADMIN, &[("x-role", "admin"), ("x-role", "user")], true, false),
    (ADMIN, &[("x-role", "admin"), ("x-role", "admin")], true, true),
    (
        ADMIN,
        &[("x-role", "a"), ("x-role", "b"), ("x-role", "admin")],
        true,
        false,
    ),
    (ADMIN, &[("x-role", ""), ("x-role", "admin")], true, false),
    (
        ADMIN,
        &[("x-role", "a"), ("x-other", "x"), ("x-role", "admin")],
        true,
        false,
    ),
    (ADMIN, &[("x-role", "a"), ("x-role", "b")], false, false),
    // One field with a comma is one value, as it is for Envoy.
    (ADMIN, &[("x-role", "user,admin")], false, false),
    (ADMIN, &[("x-role", "user,admin"), ("x-role", "admin")], true, false),
    // White space is no part of a value.
    (ADMIN, &[("x-role", " admin\t")], true, true),
    (ADMIN, &[("x-role", "user"), ("x-role", "admin ")], true, false),
    // Some servers take another mark for `-`, and some do not.
    (ADMIN, &[("x_role", "admin")], true, false),
    (ADMIN, &[("x.role", "admin")], true, false),
    (ADMIN, &[("x_role", "user")], false, false),
    (ADMIN, &[("x-role", "user"), ("x_role", "admin")], true, false),
    (ADMIN, &[("x_role", "admin"), ("x-role", "user")], true, false),
    (ADMIN, &[("x-role", "admin"), ("x_role", "user")], true, false),
    (ADMIN, &[("x-role", "admin"), ("x_role", "admin")], true, true),
    (ADMIN, &[("xrole", "admin")], false, false),
    (ADMIN, &[("xxrole", "admin")], false, false),
    (NOT_TEST, &[], true, true),
    (NOT_TEST, &[("x-role", "test")], false, false),
    (NOT_TEST, &[("x-role", "prod")], true, true),
    (NOT_TEST, &[("x-role", "test"), ("x-role", "prod")], true, false),
    (NOT_TEST, &[("x-role", "prod"), ("x-role", "test")], true, false),
    // As one text it is outside of the list for a rule that rejects; no field is for one that accepts.
    (NOT_TEST, &[("x-role", "test"), ("x-role", "test")], true, false),
    (NOT_TEST, &[("x-role", "prod"), ("x-role", "dev")], true, true),
    (NOT_TEST, &[("x-role", " test")], false, false),
    (NOT_TEST, &[("x_role", "test")], true, false),
    (NOT_TEST, &[("x_role", "prod")], true, true),
    (NOT_TEST, &[("x-role", "prod"), ("x_role", "test")], true, false),
    (NOT_TEST, &[("x-role", "test"), ("x_role", "test")], false, false),
    (BEGINNING, &[("x-role", "x"), ("x-role", "admin")], true, false),
    (BEGINNING, &[("x-role", "admin"), ("x-role", "x")], true, false),
    (BEGINNING, &[("x-role", "adm1"), ("x-role", "adm2")], true, true),
    (END, &[("x-role", "x"), ("x-role", "admin")], true, false),
    (END, &[("x-role", "admin"), ("x-role", "x")], true, false),
    (BOTH, &[("x-role", "aa")], true, true),
    (BOTH, &[("x-role", "ab")], false, false),
    (BOTH, &[("x-role", "ab"), ("x-role", "aa")], true, false),
    (BOTH, &[("x-role", "ab"), ("x-role", "x")], true, false),
    (BOTH, &[("x-role", "aa"), ("x-role", "ac")], true, true),
    (BOTH, &[("x-role", "x"), ("x-role", "y")], false, false),
    (LIST, &[("x-role", "a"), ("x-role", "b")], true, false),
    (LIST, &[("x-role", "a,b")], true, true),
    (LIST, &[("x-role", "b"), ("x-role", "a")], false, false),
    (NOT_LIST, &[("x-role", "a"), ("x-role", "b")], true, false),
    (NOT_LIST, &[("x-role", "a,b")], false, false),
    (PRESENT, &[], false, false),
    (PRESENT, &[("x-role", "")], true, true),
    (PRESENT, &[("x-role", ""), ("x-role", "")], true, true),
    (PRESENT, &[("x_role", "")], true, false),
    (ABSENT, &[], true, true),
    (ABSENT, &[("x-role", "")], false, false),
    (ABSENT, &[("x-role", "a"), ("x-role", "b")], false, false),
    (ABSENT, &[("x_role", "a")], true, false),
];

const AGENT: &str = r#"{"header": "user-agent", "values": ["bot"]}"#;
const NOT_AGENT: &str = r#"{"header": "user-agent", "not_values": ["bot"]}"#;
const HOST: &str = r#"{"header": "x-forwarded-host", "values": ["*.test"], "not_values": ["a.test"]}"#;
const BROWSER: &str = "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko)";

/// Envoy has joined the fields of these headers already: a comma may stand between two of them, or in one.
const JOINED_CASES: &[Case] = &[
    (AGENT, &[("user-agent", "bot,bot")], true, false),
    (AGENT, &[("user-agent", "bot,curl")], true, false),
    (AGENT, &[("user-agent", "curl, bot ")], true, false),
    (AGENT, &[("user-agent", BROWSER)], false, false),
    (NOT_AGENT, &[("user-agent", "bot,bot")], true, false),
    (NOT_AGENT, &[("user-agent", "curl,bot")], true, false),
    (NOT_AGENT, &[("user-agent", BROWSER)], true, true),
    (HOST, &[("x-forwarded-host", "b.test")], true, true),
    (HOST, &[("x-forwarded-host", "b.test,x.example")], true, false),
    (HOST, &[("x-forwarded-host", "x.example,b.test")], true, true),
    (HOST, &[("x-forwarded-host", "a.test,b.test")], true, false),
];

fn with_access(access: &Value) -> Sidecar {
    let mut document = configuration();
    document["access"] = access.clone();
    Sidecar::with(&document)
}

fn caller(fields: &[(&str, &str)]) -> Caller {
    let caller = Caller::new().get("/open").no_bearer();
    let add = |caller: Caller, (name, value): &(&str, &str)| caller.one_more_header(name, value);
    fields.iter().fold(caller, add)
}

/// Why a request is refused; `None`: it is not.
fn refused(sidecar: &mut Sidecar, caller: &Caller) -> Option<DenyReason> {
    match sidecar.sends(caller).0 {
        Step::Decided(verdict) => verdict.err().map(|refusal| refusal.reason),
        other @ (Step::Ask(_) | Step::Introspect(_)) => panic!("expected a verdict, got {other:?}"),
    }
}

#[test]
fn a_rule_reads_every_field_of_a_header() {
    for (condition, fields, rejects, accepts) in CASES.iter().chain(JOINED_CASES) {
        let condition: Value = serde_json::from_str(condition).unwrap();
        let rule = json!([{"id": "r", "when": [condition]}]);
        let case = format!("{condition} {fields:?}");
        let caller = caller(fields);
        let rejecting = refused(&mut with_access(&json!({"reject": rule})), &caller);
        assert_eq!(
            rejecting,
            rejects.then_some(DenyReason::AccessRuleReject),
            "reject: {case}"
        );
        let accepting = refused(&mut with_access(&json!({"accept": rule})), &caller);
        assert_eq!(
            accepting,
            (!accepts).then_some(DenyReason::AccessRuleNoAccept),
            "accept: {case}"
        );
        let observed = |access: Value| with_access(&access).permits(&caller).1.access;
        let notes = observed(json!({"observe": {"reject": rule, "accept": []}, "audit": []}));
        assert_eq!(notes.would_reject, *rejects, "observe.reject: {case}");
        let notes = observed(json!({"observe": {"accept": rule}}));
        assert_eq!(notes.would_not_accept, !accepts, "observe.accept: {case}");
        // What could be meant is counted.
        assert_eq!(observed(json!({"audit": rule})).is_audited, *rejects, "audit: {case}");
    }
}
