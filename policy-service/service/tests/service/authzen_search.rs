//! AuthZEN's searches, asked of the real program; and that evaluations are assessed.

use picket_audit::{DecisionRecord, Event, KeyEncryptionKey, SearchKind, SearchRecord};
use picket_proto::v1;
use serde_json::{Value, json};

use super::ORDERS;
use super::admin::{CALLERS, OPERATOR, admin};
use super::authzen::{Answer, EVALUATION, JSON, post, read_order, request, route, send_as, start_with};
use super::harness::{KEY, Service, Setup};
use super::sessions::{self, SQLITE, asked, reasons};

const SUBJECT: &str = "/access/v1/search/subject";
const RESOURCE: &str = "/access/v1/search/resource";
const ACTION: &str = "/access/v1/search/action";
const RESOURCES_FILE: &str = "resources_file = \"resources.json\"\n";
const ISSUER: &str = "https://issuer.example";

async fn search_as(caller: &str, setup: &Setup, service: &Service, path: &str, document: &Value) -> Answer {
    let request = request("POST", path, &[JSON], &document.to_string());
    send_as(caller, setup, service, request).await
}

fn searches(setup: &Setup) -> Vec<SearchRecord> {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let searches = records.into_iter().filter_map(|record| match record.content {
        Event::Search(record) => Some(*record),
        Event::Decision(_) | Event::Session(_) | Event::Administration(_) => None,
    });
    searches.collect()
}

fn decisions(setup: &Setup) -> Vec<DecisionRecord> {
    let key = KeyEncryptionKey::from_hex(KEY).unwrap();
    let records = picket_audit::tail(&setup.path("audit.sqlite3"), &key, 100).unwrap();
    let decisions = records.into_iter().filter_map(|record| match record.content {
        Event::Decision(record) => Some(*record),
        Event::Search(_) | Event::Session(_) | Event::Administration(_) => None,
    });
    decisions.collect()
}

/// All pages of a search, each of this size at most, as (results, how many pages).
async fn all_pages(caller: &str, setup: &Setup, service: &Service, path: &str, document: &Value) -> (Vec<Value>, u32) {
    let (mut document, mut results, mut pages) = (document.clone(), Vec::new(), 0);
    loop {
        let answer = search_as(caller, setup, service, path, &document).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        let page = answer["results"].as_array().unwrap();
        assert_eq!(answer["page"]["count"], page.len());
        assert!(page.len() as u64 <= document["page"]["limit"].as_u64().unwrap_or(u64::MAX));
        results.extend(page.clone());
        pages += 1;
        assert!(pages < 20);
        match answer["page"]["next_token"].as_str().unwrap() {
            "" => return (results, pages),
            token => document["page"]["token"] = token.into(),
        }
    }
}

fn who_may_read(properties: &Value) -> Value {
    json!({
        "subject": {"type": "user", "id": "passed over", "properties": properties},
        "action": {"name": "GET"},
        "resource": route("orders-read", "/orders/7"),
    })
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "most of it is a table")]
async fn the_subjects_that_are_found_have_a_session_and_would_be_permitted() {
    let (setup, service) = start_with(&format!("{CALLERS}{SQLITE}"), "", |setup| {
        let policy = r#"@id("never") forbid (principal is Picket::User, action, resource) when { principal.subject == "never" };"#;
        std::fs::write(setup.path("policies/never.cedar"), policy).unwrap();
    });
    let mut client = sessions::client(&setup, &service).await;
    for (number, subject) in ["alice", "bob", "carol", "alice", "never", "gone"]
        .into_iter()
        .enumerate()
    {
        let mut request = asked(&number.to_string());
        let principal = request.principal.as_mut().unwrap();
        subject.clone_into(&mut principal.subject);
        principal.tenant = if subject == "bob" { "acme" } else { "" }.to_owned();
        let denied = if subject == "never" { 1 } else { 0 };
        let decision = client.decide(request).await.unwrap().into_inner();
        assert_eq!(u32::from(decision.effect() != v1::Effect::Permit), denied, "{subject}");
    }
    let gone = v1::RevokePrincipalRequest {
        issuer: ISSUER.to_owned(),
        subject: "gone".to_owned(),
    };
    admin(&setup, &service, OPERATOR)
        .await
        .revoke_principal(gone)
        .await
        .unwrap();
    let readers = json!({"roles": ["reader"]});
    for (properties, expected) in [
        (readers.clone(), vec!["alice", "bob", "carol"]),
        (
            json!({"roles": ["reader"], "issuer": ISSUER, "tenant": "acme"}),
            vec!["bob"],
        ),
        (json!({"roles": ["reader"], "issuer": "https://other.example"}), vec![]),
        // Those of each one's own token.
        (json!({}), vec!["alice", "bob", "carol"]),
        (json!({"roles": []}), vec![]),
        (json!({"scopes": ["orders"], "roles": ["none"]}), vec![]),
    ] {
        for (limit, pages_min) in [(100, 1), (1, u32::try_from(expected.len()).unwrap())] {
            let mut document = who_may_read(&properties);
            document["page"] = json!({ "limit": limit });
            let (found, pages) = all_pages(OPERATOR, &setup, &service, SUBJECT, &document).await;
            assert!(pages >= pages_min);
            let mut names: Vec<_> = found.iter().map(|subject| subject["id"].as_str().unwrap()).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{properties} {limit}");
            // Whatever is found is permitted where it is asked about.
            for subject in found {
                let mut evaluation = document.clone();
                evaluation["subject"] = subject.clone();
                let own = &mut evaluation["subject"]["properties"];
                if own.get("roles").is_none() {
                    own["roles"] = json!(["reader"]);
                } else {
                    assert_eq!((&properties, &own["roles"]), (&json!({}), &json!(["reader"])));
                }
                evaluation["subject"]["properties"]["session_id"] = "any".into();
                let answer = post(&setup, &service, EVALUATION, &evaluation).await.json();
                assert_eq!(answer["decision"], true, "{subject}");
            }
        }
    }
    let records = searches(&setup);
    let first = &records[0];
    assert_eq!((first.kind, first.caller.as_str()), (SearchKind::Subject, OPERATOR));
    assert_eq!((first.found, first.evaluated, &first.principal), (3, 4, &None));
    assert_eq!(first.route_rule.as_deref(), Some("orders-read"));
    // Nothing followed from it: the sessions are as they were.
    let list = v1::ListSessionsRequest::default();
    let held = admin(&setup, &service, OPERATOR)
        .await
        .list_sessions(list)
        .await
        .unwrap();
    assert_eq!(held.into_inner().sessions.len(), 6);
}

#[tokio::test]
async fn the_search_for_subjects_is_for_who_may_list_sessions() {
    let (setup, service) = start_with(&format!("{CALLERS}{SQLITE}"), "", |_| ());
    for (caller, status) in [
        (ORDERS, 403),
        ("spiffe://example.org/reader", 200),
        (OPERATOR, 200),
        ("spiffe://example.org/unknown", 403),
    ] {
        let answer = search_as(caller, &setup, &service, SUBJECT, &who_may_read(&json!({}))).await;
        assert_eq!(answer.status, status, "{caller}: {}", answer.body);
    }
    let mut lockdown = admin(&setup, &service, OPERATOR).await;
    let mut client = sessions::client(&setup, &service).await;
    assert!(reasons(&mut client, asked("1")).await.is_empty());
    let readers = who_may_read(&json!({"roles": ["reader"]}));
    for (mode, expected) in [(v1::LockdownMode::On, 0), (v1::LockdownMode::Off, 1)] {
        let request = v1::SetLockdownRequest { mode: mode.into() };
        lockdown.set_lockdown(request).await.unwrap();
        let answer = search_as(OPERATOR, &setup, &service, SUBJECT, &readers).await.json();
        assert_eq!(answer["results"].as_array().unwrap().len(), expected, "{mode:?}");
    }
}

fn what_may_be_read(roles: &[&str], page: Value) -> Value {
    let mut document = read_order(roles);
    document["resource"] = json!({"type": "route", "id": "passed over"});
    document["page"] = page;
    document
}

#[tokio::test]
async fn the_resources_that_are_found_are_those_of_the_list_that_are_permitted() {
    let (setup, service) = start_with("", RESOURCES_FILE, |_| ());
    let paths = |found: &[Value]| -> Vec<String> {
        let paths = found
            .iter()
            .map(|resource| resource["properties"]["path"].as_str().unwrap().to_owned());
        paths.collect()
    };
    let readers = ["/orders/7", "/orders/8", "/orders/9"];
    for (roles, expected) in [
        (&["reader"][..], &readers[..]),
        (
            &["reader", "auditor"],
            &["/orders/7", "/orders/8", "/secrets", "/orders/9"],
        ),
        (&[], &[]),
    ] {
        for limit in [1, 2, 100] {
            let document = what_may_be_read(roles, json!({ "limit": limit }));
            let (found, _) = all_pages(ORDERS, &setup, &service, RESOURCE, &document).await;
            assert_eq!(paths(&found), expected, "{roles:?} {limit}");
            for resource in found {
                assert_eq!(
                    (&resource["type"], &resource["id"]),
                    (&json!("route"), &json!("orders-read"))
                );
            }
        }
    }
    // One record for each page, and none for what was evaluated.
    let before = searches(&setup).len();
    let document = what_may_be_read(&["reader"], json!({}));
    let answer = search_as(ORDERS, &setup, &service, RESOURCE, &document);
    let answer = answer.await.json();
    let records = searches(&setup);
    let last = records.last().unwrap();
    assert_eq!((records.len(), decisions(&setup).len()), (before + 1, 0));
    assert_eq!(answer["context"]["search_id"], last.search_id.as_str());
    assert_eq!((last.kind, last.evaluated, last.found), (SearchKind::Resource, 5, 3));
    assert_eq!((&last.resource, &last.route_rule), (&None, &None));
    assert_eq!(last.principal.as_ref().unwrap().subject, "alice");
    assert_eq!(last.action.as_ref().unwrap().method, "GET");
    // A page of another search.
    let document = what_may_be_read(&["reader"], json!({"limit": 1}));
    let first = search_as(ORDERS, &setup, &service, RESOURCE, &document).await.json();
    let token = first["page"]["next_token"].clone();
    let other = what_may_be_read(&["auditor"], json!({ "token": token }));
    let refused = search_as(ORDERS, &setup, &service, RESOURCE, &other).await;
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (
            400,
            "page.token: expected the `next_token` of a page of the same search"
        )
    );
}

#[tokio::test]
async fn a_session_that_has_ended_finds_nothing() {
    let (setup, service) = start_with(&format!("{CALLERS}{SQLITE}"), RESOURCES_FILE, |_| ());
    let mut document = what_may_be_read(&["reader"], json!({}));
    document["subject"]["properties"]["session_id"] = "1".into();
    let answer = search_as(ORDERS, &setup, &service, RESOURCE, &document).await.json();
    assert_eq!(answer["page"]["count"], 3);
    let alice = v1::RevokePrincipalRequest {
        issuer: ISSUER.to_owned(),
        subject: "alice".to_owned(),
    };
    admin(&setup, &service, OPERATOR)
        .await
        .revoke_principal(alice)
        .await
        .unwrap();
    let mut actions = document.clone();
    actions["resource"] = route("orders-read", "/orders/7");
    for (path, document) in [(RESOURCE, &document), (ACTION, &actions)] {
        let answer = search_as(ORDERS, &setup, &service, path, document).await.json();
        assert_eq!(
            (&answer["page"]["count"], &answer["page"]["next_token"]),
            (&json!(0), &json!(""))
        );
        assert_eq!(answer["context"]["reasons"], json!(["session_revoked"]));
    }
}

#[tokio::test]
async fn the_actions_that_are_found_are_those_that_are_permitted() {
    let (setup, service) = start_with("", "", |_| ());
    for (rule, roles, expected) in [
        ("orders-read", ["reader"], json!([{"name": "GET"}])),
        ("orders-write", ["clerk"], json!([{"name": "POST"}])),
        ("orders-write", ["reader"], json!([])),
    ] {
        let mut document = read_order(&roles);
        document["resource"] = route(rule, "/orders");
        document["page"] = json!({"limit": 1});
        let (found, _) = all_pages(ORDERS, &setup, &service, ACTION, &document).await;
        assert_eq!(Value::Array(found), expected, "{rule} {roles:?}");
    }
    let records = searches(&setup);
    assert!(
        records
            .iter()
            .all(|record| record.kind == SearchKind::Action && record.action.is_none())
    );
    assert_eq!(decisions(&setup).len(), 0);
}

/// The document with one value changed.
fn with(document: &Value, pointer: &str, value: Value) -> Value {
    let mut document = document.clone();
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

async fn check_refused(caller: &str, path: &str, cases: &[(Value, &str)]) {
    let (setup, service) = start_with(&format!("{CALLERS}{SQLITE}"), RESOURCES_FILE, |_| ());
    for (document, expected) in cases {
        let answer = search_as(caller, &setup, &service, path, document).await;
        assert_eq!(answer.status, 400, "{expected}: {}", answer.body);
        assert!(answer.body.starts_with(expected), "{expected}\n{}", answer.body);
    }
    assert_eq!(searches(&setup), []);
}

#[tokio::test]
async fn a_search_for_subjects_that_is_malformed_is_told_with_the_field() {
    let subjects = who_may_read(&json!({}));
    let cases = [
        (
            json!({}),
            "subject: is required; action: is required; resource: is required",
        ),
        (with(&subjects, "/subject", json!({})), "subject.type: is required"),
        (
            with(&subjects, "/subject/type", "workload".into()),
            "subject.type: expected `user`, as it is not known which workloads there are",
        ),
        (
            with(&subjects, "/subject/properties", json!({"roles": "reader"})),
            "subject.properties.roles: expected an array, found a string",
        ),
        (
            with(&subjects, "/resource/properties/path", "/a/../b".into()),
            "resource.properties.path: expected the normal form",
        ),
    ];
    check_refused(OPERATOR, SUBJECT, &cases).await;
}

#[tokio::test]
async fn a_search_for_resources_or_actions_that_is_malformed_is_told_with_the_field() {
    let resources = what_may_be_read(&["reader"], json!({}));
    let cases = [
        (with(&resources, "/resource", json!({})), "resource.type: is required"),
        (
            with(&resources, "/resource", json!({"type": 7})),
            "resource.type: expected",
        ),
        (
            with(&resources, "/subject/properties", json!({})),
            "subject.properties.issuer: is required",
        ),
        (
            with(&resources, "/page", json!({"limit": "all"})),
            "page.limit: expected",
        ),
    ];
    check_refused(ORDERS, RESOURCE, &cases).await;
    let without_id = with(&resources, "/resource", json!({"type": "route"}));
    check_refused(ORDERS, ACTION, &[(without_id, "resource.id: is required")]).await;
}

#[tokio::test]
async fn entities_of_unknown_types_are_not_found() {
    let (setup, service) = start_with(&format!("{CALLERS}{SQLITE}"), RESOURCES_FILE, |_| ());
    let mut client = sessions::client(&setup, &service).await;
    assert!(reasons(&mut client, asked("1")).await.is_empty());
    let subjects = who_may_read(&json!({"roles": ["reader"]}));
    let mut resources = what_may_be_read(&["reader"], json!({}));
    let mut actions = read_order(&["reader"]);
    for document in [&mut resources, &mut actions] {
        document["subject"]["properties"]["session_id"] = "any".into();
    }
    for (caller, path, document) in [
        (OPERATOR, SUBJECT, subjects),
        (ORDERS, RESOURCE, resources),
        (ORDERS, ACTION, actions),
    ] {
        let answer = search_as(caller, &setup, &service, path, &document).await.json();
        assert_ne!(answer["page"]["count"], 0, "{path}");
        for (member, entity) in [
            ("/subject", json!({"type": "identity", "id": "CiRm"})),
            ("/resource", json!({"type": "account", "id": "123"})),
        ] {
            let document = with(&document, member, entity);
            let answer = search_as(caller, &setup, &service, path, &document).await;
            assert_eq!(answer.status, 200, "{path} {member}: {}", answer.body);
            let answer = answer.json();
            assert_eq!(answer["results"], json!([]), "{path} {member}");
            assert_eq!(answer["page"], json!({"next_token": "", "count": 0}));
        }
    }
    assert_eq!(searches(&setup).len(), 9);
}

#[tokio::test]
async fn a_page_without_results_is_the_last_one() {
    let (setup, service) = start_with("", RESOURCES_FILE, |_| ());
    for (path, document) in [
        (RESOURCE, what_may_be_read(&["reader"], json!({}))),
        (ACTION, read_order(&["reader"])),
    ] {
        let mut document = document;
        document["page"] = json!({"limit": 0});
        let (found, pages) = all_pages(ORDERS, &setup, &service, path, &document).await;
        assert_eq!((found.len(), pages), (0, 1), "{path}");
    }
}

#[tokio::test]
async fn the_metadata_name_the_searches_that_are_there() {
    for (more, more_of_api, subject, resource) in [
        ("", "", false, false),
        (SQLITE, "", true, false),
        ("", RESOURCES_FILE, false, true),
        (SQLITE, RESOURCES_FILE, true, true),
    ] {
        let (setup, service) = start_with(&format!("{CALLERS}{more}"), more_of_api, |_| ());
        let request = request("GET", "/.well-known/authzen-configuration", &[], "");
        let metadata = send_as(ORDERS, &setup, &service, request).await.json();
        let named = |name: &str| metadata[name].as_str().map(str::to_owned);
        let url = |path: &str| Some(format!("https://pdp.example.org{path}"));
        for (name, path, is_there) in [
            ("search_subject_endpoint", SUBJECT, subject),
            ("search_resource_endpoint", RESOURCE, resource),
            ("search_action_endpoint", ACTION, true),
        ] {
            assert_eq!(named(name), is_there.then(|| url(path)).flatten(), "{name}");
            let answer = search_as(OPERATOR, &setup, &service, path, &json!({})).await;
            assert_eq!(answer.status != 404, is_there, "{path}");
        }
    }
}

#[test]
fn a_list_of_resources_with_a_mistake_ends_the_start() {
    let setup = Setup::with(&format!(
        "[authzen]\nlisten = \"127.0.0.1:0\"\npolicy_decision_point = \"https://pdp.example.org\"\n{RESOURCES_FILE}"
    ));
    std::fs::write(setup.path("resources.json"), r#"[{"type": "route", "id": "a"}]"#).unwrap();
    let (status, said) = setup.start_in_vain();
    assert!(!status.success());
    assert!(
        said.contains("authzen.resources_file: [0].properties: is required"),
        "{said}"
    );
}

const RISK: &str = r#"
[risk]
state_file = "risk.state"
[[risk.threat_lists]]
name = "bad"
file = "bad.netset"
"#;

#[tokio::test]
async fn an_evaluation_is_assessed_like_a_request_and_a_search_teaches_nothing() {
    let (setup, service) = start_with(RISK, RESOURCES_FILE, |setup| {
        std::fs::write(setup.path("bad.netset"), "203.0.113.0/24 # a scanner\n").unwrap();
        let policy = r#"@id("high-risk") @reason("too unusual") forbid (principal, action, resource)
            unless { context has risk && context.risk.score < 50 };"#;
        std::fs::write(setup.path("policies/risk.cedar"), policy).unwrap();
    });
    let from = |address: &str, user_agent: &str, peer: &str| {
        let mut document = read_order(&["reader"]);
        document["context"] = json!({"source_address": address, "user_agent": user_agent, "peer": peer});
        document
    };
    let signals = |record: &DecisionRecord| -> Vec<String> {
        let risk = record.risk.as_ref().unwrap();
        risk.signals.iter().map(|signal| signal.signal.clone()).collect()
    };
    let (web, other) = ("spiffe://example.org/web", "spiffe://example.org/other");
    // Only what a sidecar asks about teaches: where alice is, and with which client.
    let mut usual = asked("1");
    "alice".clone_into(&mut usual.principal.as_mut().unwrap().subject);
    let context = usual.context.as_mut().unwrap();
    (context.source_address, context.user_agent) = ("10.0.0.1".to_owned(), "browser".to_owned());
    let mut client = sessions::client(&setup, &service).await;
    assert!(reasons(&mut client, usual).await.is_empty());
    let mut elsewhere = what_may_be_read(&["reader"], json!({}));
    elsewhere["context"] = json!({"source_address": "10.9.9.9", "user_agent": "browser", "peer": web});
    for (document, expected) in [
        (from("10.0.0.1", "browser", web), &[][..]),
        (from("10.9.9.9", "browser", web), &["new_location"]),
        (from("10.0.0.1", "curl", web), &["new_device"]),
        (from("10.0.0.1", "browser", other), &["new_device"]),
    ] {
        let found = search_as(ORDERS, &setup, &service, RESOURCE, &elsewhere).await.json();
        assert_eq!(found["page"]["count"], 3);
        let answer = post(&setup, &service, EVALUATION, &document).await.json();
        assert_eq!(answer["decision"], true, "{answer}");
        assert_eq!(signals(decisions(&setup).last().unwrap()), expected, "{document}");
    }
    // Where the enforcement point has the address only in the subject.
    let mut listed = from("", "browser", web);
    listed["context"] = json!({"user_agent": "browser", "peer": web});
    listed["subject"]["properties"]["ip_address"] = "203.0.113.7".into();
    let answer = post(&setup, &service, EVALUATION, &listed).await.json();
    assert_eq!(
        (&answer["decision"], &answer["context"]["reasons"]),
        (&json!(false), &json!(["too unusual"]))
    );
    let record = decisions(&setup).pop().unwrap();
    assert!(signals(&record).contains(&"listed_address".to_owned()), "{record:?}");
    let mut search = elsewhere;
    search["context"]["source_address"] = "203.0.113.7".into();
    let found = search_as(ORDERS, &setup, &service, RESOURCE, &search).await.json();
    assert_eq!(found["page"]["count"], 0);
}
