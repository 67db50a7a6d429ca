use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use picket_model::access::{AccessRequest, Action, Context, Possession, Principal, Resource, Sidecar};
use picket_model::decision::{Effect, StepUp};
use picket_model::time::Timestamp;

use super::*;

mod devices;
mod index;
mod modes;
mod risk;
mod step_up;
mod trace;

/// Saturday, 2026-11-21, 10:58:30 in Greenwich.
const NOW_US: u64 = 1_795_258_710_000_000;
const NOW_S: i64 = 1_795_258_710;

fn at_now() -> EvaluationContext<'static> {
    EvaluationContext::at(Timestamp::from_us(NOW_US))
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn engine(policies: &str) -> PolicyEngine {
    load(folder(&[("p.cedar", policies)]).path()).unwrap()
}

/// The mistakes of a folder, with the folder's own name left out.
fn mistakes(files: &[(&str, &str)]) -> Vec<String> {
    let folder = folder(files);
    let prefix = format!("{}/", folder.path().display());
    let errors = load(folder.path()).unwrap_err();
    errors
        .as_slice()
        .iter()
        .map(|error| error.to_string().replace(&prefix, ""))
        .collect()
}

fn user(roles: &[&str]) -> Option<Principal> {
    Some(Principal {
        issuer: "https://issuer.example".into(),
        subject: "alice".into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        expires_at_s: Some(0),
        ..Principal::default()
    })
}

fn request(principal: Option<Principal>, method: &str, route_rule: &str) -> AccessRequest {
    AccessRequest {
        request_id: "r".into(),
        sidecar: Sidecar {
            workload: "orders".into(),
            ..Sidecar::default()
        },
        route_rule: route_rule.into(),
        principal,
        peer: "spiffe://example.org/web".parse().ok(),
        action: Action { method: method.into() },
        resource: Resource {
            host: "orders.example.org".into(),
            path: "/orders/7".into(),
            path_parameters: BTreeMap::from([("id".to_owned(), "7".to_owned())]),
            ..Resource::default()
        },
        context: Context {
            source_address: "10.1.2.3".parse().ok(),
            user_agent: Some("curl".into()),
            ..Context::default()
        },
        ..AccessRequest::default()
    }
}

fn check(engine: &PolicyEngine, request: &AccessRequest, effect: Effect, policy_ids: &[&str]) -> Evaluation {
    let evaluation = engine.evaluate(request, &at_now());
    assert_eq!(
        (evaluation.effect, evaluation.policy_ids.as_slice()),
        (effect, policy_ids.map_owned().as_slice())
    );
    evaluation
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for [&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn the_shipped_policies_decide_as_the_demo_expects() {
    let engine = load(&shipped()).unwrap();
    assert_eq!(engine.warnings(), []);
    let check = |roles: &[&str], method, rule, effect, ids: &[&str]| {
        check(&engine, &request(user(roles), method, rule), effect, ids);
    };
    check(&["reader"], "GET", "orders-read", Effect::Permit, &["orders-read"]);
    check(&["reader"], "POST", "orders-write", Effect::Deny, &[]);
    check(&["reader"], "GET", "other-rule", Effect::Deny, &[]);
    check(&[], "GET", "orders-read", Effect::Deny, &[]);
    check(&["unheard-of"], "GET", "orders-read", Effect::Deny, &[]);
    check(&["clerk"], "POST", "orders-write", Effect::Permit, &["orders-write"]);
    // A clerk is a reader, and an admin is a clerk: by entities.json.
    check(&["clerk"], "GET", "orders-read", Effect::Permit, &["orders-read"]);
    check(&["admin"], "GET", "orders-read", Effect::Permit, &["orders-read"]);
    check(&["admin"], "POST", "orders-write", Effect::Permit, &["orders-write"]);
    check(&["reader"], "BREW", "orders-read", Effect::Deny, &[]);
    check(&["reader"], "get", "orders-read", Effect::Deny, &[]);
}

#[test]
fn a_secret_needs_an_auditor_and_the_caller_is_told_so() {
    let engine = load(&shipped()).unwrap();
    let secret = |roles: &[&str]| {
        let mut request = request(user(roles), "GET", "orders-read");
        request.resource.classification = Some("secret".into());
        request
    };
    let denied = check(&engine, &secret(&["reader"]), Effect::Deny, &["secret-needs-auditor"]);
    assert_eq!(
        denied.caller_reasons,
        ["classification `secret` needs the role auditor"]
    );
    let permitted = check(
        &engine,
        &secret(&["reader", "auditor"]),
        Effect::Permit,
        &["orders-read"],
    );
    assert_eq!(permitted.caller_reasons, Vec::<String>::new());
}

#[test]
fn without_a_token_the_peer_is_the_principal_and_without_a_peer_nobody() {
    let engine = load(&shipped()).unwrap();
    let mut asked = request(None, "GET", "stock-read");
    check(&engine, &asked, Effect::Permit, &["stock-read"]);
    check(
        &engine,
        &request(user(&["admin"]), "GET", "stock-read"),
        Effect::Deny,
        &[],
    );
    asked.peer = None;
    check(&engine, &asked, Effect::Deny, &[]);
}

#[test]
fn policies_see_what_the_schema_names() {
    let policy = r#"@id("p") permit (principal is Picket::User, action, resource) when {
        principal == Picket::User::"https://a%7Cb|c|d" && principal.issuer == "https://a|b" &&
        principal.subject == "c|d" && principal has tenant && principal.tenant == "t" &&
        principal.scopes.contains("s") && principal.amr.contains("otp") &&
        principal has acr && principal.acr == "2" && principal has auth_time && principal.auth_time == 5 &&
        resource.hasTag("id") && resource.getTag("id") == "7" && resource.host == "orders.example.org" &&
        resource.path == "/orders/7" && context.method == "GET" &&
        context has source_address && context.source_address.isInRange(ip("10.0.0.0/8")) &&
        context has user_agent && context.user_agent like "cu*" &&
        context has peer && context.peer.spiffe_id == "spiffe://example.org/web" &&
        context.peer.trust_domain == "example.org" };"#;
    let engine = engine(policy);
    let mut asked = request(user(&[]), "GET", "any");
    let principal = asked.principal.as_mut().unwrap();
    principal.issuer = "https://a|b".into();
    principal.subject = "c|d".into();
    principal.tenant = Some("t".into());
    principal.scopes = vec!["s".into()];
    principal.amr = vec!["otp".into()];
    principal.acr = Some("2".into());
    principal.auth_time_s = Some(5);
    // An IPv4 address in IPv6 form is the same address.
    asked.context.source_address = "::ffff:10.9.9.9".parse().ok();
    check(&engine, &asked, Effect::Permit, &["p"]);
    asked.resource.path_parameters.clear();
    check(&engine, &asked, Effect::Deny, &[]);
}

#[test]
fn an_unknown_method_is_another_write() {
    let engine = engine(
        r#"@id("w") permit (principal, action in Picket::Action::"write", resource) when { context.method == "BREW" };"#,
    );
    check(&engine, &request(None, "BREW", "r"), Effect::Permit, &["w"]);
    check(&engine, &request(None, "POST", "r"), Effect::Deny, &[]);
    for method in ["read", "write", "\"", "\u{0}", "other"] {
        check(&engine, &request(None, method, "r"), Effect::Deny, &[]);
    }
}

#[test]
fn an_evaluation_error_is_a_deny_even_where_another_policy_permits() {
    // The sum overflows: Cedar skips the `forbid`, and alone would permit.
    let engine = engine(
        r#"@id("all") @reason("never told") permit (principal, action, resource);
           @id("breaks") forbid (principal is Picket::User, action, resource)
           when { principal has auth_time && principal.auth_time + 9223372036854775807 > 0 };"#,
    );
    let mut asked = request(user(&[]), "GET", "r");
    check(&engine, &asked, Effect::Permit, &["all"]);
    asked.principal.as_mut().unwrap().auth_time_s = Some(1);
    let evaluation = check(&engine, &asked, Effect::Deny, &["breaks"]);
    assert_eq!(evaluation.caller_reasons, Vec::<String>::new());
    assert_eq!(evaluation.errors.len(), 1);
    assert!(evaluation.errors[0].contains("overflow"), "{:?}", evaluation.errors);
}

#[test]
fn more_roles_than_are_evaluated_are_a_deny_and_not_a_shorter_list() {
    let engine = engine(r#"@id("all") permit (principal, action, resource);"#);
    let names: Vec<String> = (0..=ROLES_MAX).map(|n| n.to_string()).collect();
    let mut asked = request(user(&[]), "GET", "r");
    asked.principal.as_mut().unwrap().roles = names[..ROLES_MAX].to_vec();
    check(&engine, &asked, Effect::Permit, &["all"]);
    asked.principal.as_mut().unwrap().roles = names;
    let evaluation = check(&engine, &asked, Effect::Deny, &[]);
    assert_eq!(
        evaluation.errors,
        ["principal.roles has 257 elements, and at most 256 are evaluated"]
    );
}

#[test]
fn every_mistake_of_every_file_is_told_with_its_line() {
    let mistakes = mistakes(&[
        (
            "a.cedar",
            "// one\n\npermit (principal, action, resource);\n\n@id(\"x\")\npermit (principal, action, resource);\n",
        ),
        (
            "b.cedar",
            "\n@id(\"x\")\nforbid (principal, action, resource);\n@id(\"no good\") permit (principal, action, resource);\n",
        ),
        (
            "c.cedar",
            "@id(\"c\")\npermit (principal, action, resource)\nwhen { resource.colour == 1 };\n",
        ),
        ("d.cedar", "@id(\"d\")\npermit (principal, action resource);\n"),
        (
            "e.cedar",
            "\n\n@id(\"e\") permit (principal == ?principal, action, resource);\n",
        ),
        (
            "entities.json",
            r#"[{"uid": {"type": "Picket::User", "id": "u"}, "attrs": {"issuer": "i", "subject": "s", "scopes": [], "amr": [], "actors": [], "is_bound": false}, "parents": []}]"#,
        ),
    ]);
    let expected = [
        "a.cedar:3: a policy needs an @id",
        "b.cedar:2: the @id `x` is taken by ",
        "b.cedar:4: an @id is 1 to 128 letters",
        "c.cedar:3: for policy `c`, attribute `colour`",
        "d.cedar:2: unexpected token `resource`",
        "e.cedar:3: templates are not supported",
        "entities.json: `Picket::User::\"u\"`: the policy service makes these",
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\n{expected}");
    }
}

#[test]
fn a_folder_without_policies_does_not_load() {
    let empty = tempfile::tempdir().unwrap();
    let text = load(empty.path()).unwrap_err().to_string();
    assert!(text.contains("no policy file"), "{text}");
    let text = load(&empty.path().join("none")).unwrap_err().to_string();
    assert!(text.contains("cannot read the folder"), "{text}");
}

#[test]
fn a_schema_that_does_not_take_our_requests_does_not_load() {
    let schema = SCHEMA;
    let policy = ("p.cedar", r#"@id("p") permit (principal, action, resource);"#);
    for (from, to, expected) in [
        ("\"PATCH\", ", "", "PATCH"),
        (
            "principal: [User, Workload, Anonymous]",
            "principal: [User, Workload]",
            "Anonymous",
        ),
        ("route_rule: String,", "route_rule: String, owner: String,", "owner"),
        ("    tenant?: String,\n", "", "tenant"),
        ("tenant?: String", "tenant: String", "tenant"),
        ("source_address?: ipaddr", "source_address?: Long", "source_address"),
        ("    risk?: RiskContext,\n", "", "risk"),
        ("score: Long", "score: String", "score"),
        ("    device?: DeviceContext,\n", "", "device"),
        ("    is_compliant: Bool,\n", "", "is_compliant"),
        ("} tags String;", "};", "tag"),
        ("entity Role in [Role];", "entity Role enum [\"reader\"];", "sample"),
    ] {
        assert!(schema.contains(from), "{from}");
        let mistakes = mistakes(&[policy, ("schema.cedarschema", &schema.replace(from, to))]);
        let named = |mistake: &String| mistake.starts_with("schema.cedarschema: ") && mistake.contains(expected);
        assert!(mistakes.iter().any(named), "{from}: {mistakes:#?}");
    }
    // The parser stops at the next word, which is that of `entity User`.
    let broken = schema.replace("entity TrustDomain;", "entity TrustDomain");
    let line = broken.split("entity User").next().unwrap().lines().count();
    let mistakes = mistakes(&[policy, ("schema.cedarschema", &broken)]);
    let place = format!("schema.cedarschema:{line}: ");
    assert!(mistakes[0].starts_with(&place), "{mistakes:?}");
}

#[test]
fn a_schema_of_ones_own_stands_in_for_the_services() {
    let policy = r#"@id("p") permit (principal, action, resource) when { resource has path && resource.path == "/" };"#;
    assert_eq!(load(folder(&[("p.cedar", policy)]).path()).unwrap().warnings(), []);
    let floor = r#"@id("p") permit (principal, action, resource) when { resource has floor };"#;
    let own = SCHEMA.replace("route_rule: String,", "route_rule: String, floor?: Long,");
    let engine = |files: &[(&str, &str)]| load(folder(files).path()).unwrap();
    // What no schema names is never there: the validator warns of a policy that cannot apply, and
    // the attribute is named.
    let (shipped, owned) = (
        engine(&[("p.cedar", floor)]),
        engine(&[("p.cedar", floor), ("schema.cedarschema", &own)]),
    );
    assert_eq!((shipped.warnings().len(), owned.warnings().len()), (2, 0));
    // A policy's name in decisions says what it is held to, where that is the folder's own.
    assert_ne!(shipped.revision(), owned.revision());
}

#[test]
fn the_revision_covers_names_and_contents() {
    let revision = |files: &[(&str, &str)]| load(folder(files).path()).unwrap().revision().to_owned();
    let policy = r#"@id("p") permit (principal, action, resource);"#;
    let first = revision(&[("p.cedar", policy)]);
    assert_eq!(first.len(), 16);
    assert_eq!(first, revision(&[("p.cedar", policy), ("notes.txt", "not a policy")]));
    assert_ne!(first, revision(&[("q.cedar", policy)]));
    assert_ne!(first, revision(&[("p.cedar", &format!("{policy}\n"))]));
    assert_ne!(first, revision(&[("p.cedar", policy), ("entities.json", "[]")]));
}

#[test]
fn what_nests_as_deeply_as_may_be_is_parsed_on_a_small_stack_and_what_nests_deeper_is_refused() {
    let nested = |depth: usize| {
        let (open, close) = ("(if true then ".repeat(depth), " else true)".repeat(depth));
        format!("@id(\"a\") permit (principal, action, resource) when {{ {open}true{close} }};")
    };
    let loaded = |depth: usize| {
        let text = nested(depth);
        // As small as those of the threads that check revisions.
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let load = move || load(folder(&[("p.cedar", &text)]).path());
        thread.spawn(load).unwrap().join().unwrap()
    };
    // The clause's own bracket is one.
    loaded(source::NESTING_MAX - 1).unwrap();
    let errors = loaded(source::NESTING_MAX).unwrap_err();
    assert!(errors.to_string().contains("nested more than 64 deep"), "{errors}");
}

#[test]
fn the_longest_policy_is_validated_and_evaluated_on_a_small_stack_and_a_longer_one_is_refused() {
    // As small as those of the threads that check revisions, and of those that decide.
    fn small<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        thread.spawn(work).unwrap().join().unwrap()
    }
    let policy = |condition: &str| format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};");
    let loaded = |condition: &str| {
        let text = policy(condition);
        small(move || load(folder(&[("p.cedar", &text)]).path()))
    };
    // The clause is one of them.
    let chain = |operator: &str, count: usize| operator.repeat(count);
    let longest = source::OPERATORS_MAX - 1;
    for (operator, last) in [("true && ", "true"), ("false || ", "true"), ("0 + ", "0 == 0")] {
        let engine = loaded(&format!("{}{last}", chain(operator, longest))).unwrap();
        let permit = small(move || engine.evaluate(&request(user(&[]), "GET", "a"), &at_now()));
        assert_eq!(permit.effect, Effect::Permit, "{operator}");
    }
    // What is wrong is found, wherever it is: Cedar's validator says nothing at all about what is
    // too deep for it.
    let wrong = "principal.nosuch == \"x\"";
    let conditions = [
        format!("{wrong} && {}true", chain("true && ", longest - 3)),
        format!("{}{wrong}", chain("true && ", longest - 2)),
    ];
    for condition in conditions {
        let errors = loaded(&condition).unwrap_err().to_string();
        assert!(errors.contains("`nosuch`"), "{errors}");
    }
    let errors = loaded(&format!("{}true", chain("true && ", longest + 1))).unwrap_err();
    assert!(errors.to_string().contains("more than 256 clauses"), "{errors}");
    // A megabyte of it would overflow the stack where it is only forgotten.
    let errors = loaded(&chain("true&&", 170_000)).unwrap_err();
    assert!(errors.to_string().contains("more than 256 clauses"), "{errors}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is a table")]
fn a_user_agent_that_may_be_several_fields_is_permitted_as_each_of_them() {
    let evaluate = |policies: &str, agent: &str| {
        let folder = folder(&[("a.cedar", policies)]);
        let engine = load(folder.path()).unwrap();
        let mut request = request(user(&[]), "GET", "orders-read");
        request.context.user_agent = Some(agent.to_owned());
        engine.evaluate(&request, &at_now())
    };
    let permit = r#"@id("p") permit (principal, action, resource);"#;
    let forbid = format!(
        r#"{permit} @id("f") forbid (principal, action, resource) when {{ context has user_agent && context.user_agent == "bot" }};"#
    );
    for agent in [
        "bot",
        "bot,bot",
        "curl,bot",
        "bot, curl",
        "bot,",
        "a (,bot",
        "a (x, y),bot",
        // Three fields.
        "(,bot,)",
        "[,bot,]",
        "(, bot,)",
        "Mozilla/5.0 (x,bot,y)",
    ] {
        let evaluation = evaluate(&forbid, agent);
        assert_eq!(evaluation.effect, Effect::Deny, "{agent}");
        assert_eq!(evaluation.policy_ids, ["f"], "{agent}");
        assert_eq!(evaluation.errors, [""; 0], "{agent}");
        // Nobody looks at it.
        assert_eq!(evaluate(permit, agent).effect, Effect::Permit, "{agent}");
    }
    for agent in [
        "curl",
        "robot",
        "curl, wget",
        "app iPhone10,5",
        "Mozilla/5.0 (KHTML, bot)",
    ] {
        assert_eq!(evaluate(&forbid, agent).effect, Effect::Permit, "{agent}");
    }
    let many = vec!["a"; 100].join(",");
    let evaluation = evaluate(&forbid, &many);
    assert_eq!(
        (evaluation.effect, evaluation.errors.len()),
        (Effect::Deny, 1),
        "{evaluation:?}"
    );
    assert_eq!(evaluate(permit, &many).effect, Effect::Permit);
    // What permits must permit each of them.
    let only = r#"@id("p") permit (principal, action, resource) when { context has user_agent && context.user_agent like "cu*" };"#;
    assert_eq!(evaluate(only, "curl/1, curl/2").effect, Effect::Permit);
    assert_eq!(evaluate(only, "curl/1, bot").effect, Effect::Deny);
    // Nothing has to permit what is in a comment.
    let browsers = only.replace("cu*", "Mozilla*");
    for agent in [
        "Mozilla/5.0 (KHTML, like Gecko)",
        "Mozilla/5.0 (X11; x) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    ] {
        let evaluation = evaluate(&browsers, agent);
        assert_eq!(
            (evaluation.effect, evaluation.policy_ids.len()),
            (Effect::Permit, 1),
            "{agent}"
        );
    }
    // A policy that fails for a part denies.
    let failing = format!(
        r#"{permit} @id("e") permit (principal, action, resource) when {{
            context has user_agent && context.user_agent == "bot" && 9223372036854775807 + context.time.weekday < 0 }};"#
    );
    let evaluation = evaluate(&failing, "(,bot,)");
    assert_eq!(
        (evaluation.effect, evaluation.errors.len()),
        (Effect::Deny, 1),
        "{evaluation:?}"
    );
}
