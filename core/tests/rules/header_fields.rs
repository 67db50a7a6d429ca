//! Header fields that are repeated, in another spelling, or in unusual bytes: no reading of a
//! request escapes a rule.

use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::Step;
use picket_core::reason::DenyReason;
use picket_model::access::USER_AGENT_BYTES_MAX;
use picket_model::decision::Effect;
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration, decision};

/// A condition, the fields of a request, and whether the condition matches in a rule that rejects
/// and in one that accepts.
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
    // As one text it is outside of the list for a rule that rejects; no field is for one that
    // accepts.
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

/// Envoy has joined the fields of these headers already: a comma may stand between two of them, or
/// in one.
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
        other @ (Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_)) => {
            panic!("expected a verdict, got {other:?}")
        }
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

#[test]
fn a_method_is_registered_configured_or_refused() {
    let mut document = configuration();
    document["further_methods"] = json!(["PURGE"]);
    document["rules"][0]["methods"] = json!(["GET", "BAN"]);
    let mut sidecar = Sidecar::with(&document);
    for method in ["GET", "HEAD", "DELETE", "QUERY", "PROPFIND", "PURGE", "BAN"] {
        assert_eq!(refused(&mut sidecar, &caller(&[]).method(method)), None, "{method}");
    }
    for method in [
        "get", "Get", "delete", "dELETE", "purge", "BREW", "X", "GET-", "\u{212a}",
    ] {
        let caller = caller(&[]).method(method);
        assert_eq!(
            refused(&mut sidecar, &caller),
            Some(DenyReason::RequestMalformed),
            "{method}"
        );
    }
    assert_eq!(
        sidecar.refuses(&caller(&[]).method("delete")).detail.as_deref(),
        Some("the method `delete` is neither registered with IANA nor one of `further_methods`")
    );
}

#[test]
fn a_rejection_of_a_method_holds_for_each_way_to_write_it() {
    let mut rejecting = with_access(&json!({"reject": [{"id": "r", "to": [{"methods": ["DELETE"]}]}]}));
    let mut unless_get = with_access(&json!({"reject": [{"id": "r", "to": [{"not_methods": ["GET"]}]}]}));
    for method in ["DELETE", "delete", "Delete"] {
        assert!(
            refused(&mut rejecting, &caller(&[]).method(method)).is_some(),
            "{method}"
        );
        assert!(
            refused(&mut unless_get, &caller(&[]).method(method)).is_some(),
            "{method}"
        );
    }
}

#[test]
fn further_methods_are_in_upper_case_and_few() {
    for (methods, path) in [
        (json!(["purge"]), "further_methods[0]"),
        (json!(["PURGE", ""]), "further_methods[1]"),
        (json!(["A B"]), "further_methods[0]"),
        (json!(["A".repeat(33)]), "further_methods[0]"),
        (json!(vec!["PURGE"; 101]), "further_methods"),
    ] {
        let mut document = configuration();
        document["further_methods"] = methods;
        let problems = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap_err();
        assert_eq!(problems.as_slice()[0].path, path, "{problems}");
    }
}

/// A request about which the policy service is asked.
fn asking(agent: &[u8]) -> Caller {
    Caller::new().get("/orders/1").header_bytes("user-agent", agent)
}

#[test]
fn policies_see_the_whole_user_agent_or_the_request_is_refused() {
    let longest = vec![b'a'; USER_AGENT_BYTES_MAX];
    for (agent, seen) in [
        (b"bot".as_slice(), Some("bot".to_owned())),
        (b" bot\t", Some("bot".to_owned())),
        (b"bot\xe9", Some("bot\u{e9}".to_owned())),
        (b"bot,bot", Some("bot,bot".to_owned())),
        (b"", None),
        (&longest, Some("a".repeat(USER_AGENT_BYTES_MAX))),
    ] {
        assert_eq!(Sidecar::new().asks(&asking(agent)).0.context.user_agent, seen);
    }
    let detail = |caller: &Caller| {
        let refusal = Sidecar::new().refuses(caller);
        assert_eq!(refusal.reason, DenyReason::RequestMalformed);
        refusal.detail.unwrap()
    };
    let too_long = [longest.as_slice(), b"a"].concat();
    assert_eq!(
        detail(&asking(&too_long)),
        "the header `user-agent` is longer than 1024 bytes"
    );
    let twice = asking(b"bot").header_bytes("user-agent", b"bot");
    assert_eq!(detail(&twice), "the header `user-agent` was sent more than once");
    // A rule that decides alone does not look at it.
    Sidecar::new().permits(&caller(&[]).header_bytes("user-agent", &too_long));
}

#[test]
fn a_decision_is_kept_for_one_user_agent() {
    let mut sidecar = Sidecar::new();
    let (_, pending) = sidecar.asks(&asking(b"bot\xe9"));
    sidecar.answers(pending, Ok(decision(Effect::Permit, 60_000))).unwrap();
    sidecar.permits(&asking(b"bot\xe9"));
    // The same text in UTF-8.
    sidecar.permits(&asking("bot\u{e9}".as_bytes()));
    for other in [b"bot".as_slice(), b"bot\xe8", b"bot\xe9\xe9", b""] {
        sidecar.asks(&asking(other));
    }
}

#[test]
fn what_is_forwarded_names_no_header_that_the_next_hop_would_drop() {
    let forwarded = |fields: &[(&str, &str)]| {
        let (permit, _) = Sidecar::new().permits(&caller(fields));
        let removed = permit.headers_to_remove().any(|name| name == "connection");
        let set = permit.headers_to_set().find(|(name, _)| *name == "connection");
        (removed, set.map(|(_, value)| value.to_owned()))
    };
    let set = |value: &str| (true, Some(value.to_owned()));
    assert_eq!(forwarded(&[]), (false, None));
    assert_eq!(forwarded(&[("connection", "Upgrade")]), (false, None));
    assert_eq!(forwarded(&[("connection", "Upgrade, Keep-Alive")]), (false, None));
    for names in [
        "x-picket-subject",
        "txn-token",
        "authorization",
        "x-role",
        "X_PICKET_PEER",
        "host",
    ] {
        let fields = format!("{names}, Upgrade");
        assert_eq!(forwarded(&[("connection", &fields)]), set("upgrade"), "{names}");
        assert_eq!(forwarded(&[("connection", names)]), (true, None), "{names}");
        let two = [("connection", "upgrade"), ("connection", names)];
        assert_eq!(forwarded(&two), set("upgrade"), "{names}");
    }
}

#[test]
fn white_space_hides_no_credential() {
    let mut document = configuration();
    document["rules"] = json!([
        {"id": "any", "hosts": ["*"], "paths": ["/{**}"], "peer": "none", "credential": "optional", "decision": "permit"},
    ]);
    for value in [" Bearer forged", "\tBearer forged", "Bearer forged "] {
        let caller = caller(&[("authorization", value)]);
        let refused = refused(&mut Sidecar::with(&document), &caller);
        assert_eq!(refused, Some(DenyReason::TokenMalformed), "{value:?}");
    }
}
