//! Paths that servers read differently (`tests/vectors/paths.json`), and valid ones, of which few
//! may be refused (`tests/vectors/valid-paths.json`).

use std::cell::RefCell;
use std::collections::BTreeMap;

use picket_core::enforcement::Step;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, prop_assert};
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Caller, Sidecar, configuration};

const HOST: &str = "paths.example.org";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    configurations: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    comment: String,
    configurations: Vec<String>,
    paths: Vec<String>,
    /// A reason, or `asks`.
    expected: String,
    /// Of the path's parameters that a policy sees.
    #[serde(default)]
    sees: BTreeMap<String, String>,
}

/// The fixed configuration, with rules that ask for neither peer nor token, and with what else is
/// given.
fn sidecar(given: &Value) -> Sidecar {
    let mut document = configuration();
    let mut given = given.clone();
    for rule in given["rules"].as_array_mut().unwrap() {
        rule["hosts"] = json!([HOST]);
        rule["peer"] = json!("none");
        rule["credential"] = json!("none");
    }
    document
        .as_object_mut()
        .unwrap()
        .extend(given.as_object().unwrap().clone());
    Sidecar::with(&document)
}

/// A reason or `asks`, and the parameters and the path that a policy sees.
fn outcome(sidecar: &mut Sidecar, path: &str) -> (String, BTreeMap<String, String>, String) {
    let caller = Caller::new().header(":authority", HOST).get(path);
    match sidecar.sends(&caller).0 {
        Step::Decided(Ok(permit)) => (permit.reason().code().to_owned(), BTreeMap::new(), String::new()),
        Step::Decided(Err(refusal)) => (refusal.reason.code().to_owned(), BTreeMap::new(), String::new()),
        Step::Ask(question) => {
            let resource = question.request.resource;
            ("asks".to_owned(), resource.path_parameters, resource.path)
        }
        Step::Introspect(_) | Step::AwaitKeys(_) => panic!("no token was sent"),
    }
}

#[test]
fn each_reading_of_a_path_leads_to_the_same_answer_or_it_is_refused() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../../tests/vectors/paths.json")).unwrap();
    let mut sidecars: BTreeMap<&str, Sidecar> = vectors
        .configurations
        .iter()
        .map(|(name, given)| (name.as_str(), sidecar(given)))
        .collect();
    let mut differences = Vec::new();
    for case in &vectors.cases {
        for name in &case.configurations {
            let sidecar = sidecars.get_mut(name.as_str()).unwrap();
            for path in &case.paths {
                let (found, sees, _) = outcome(sidecar, path);
                let is_seen = case.sees.iter().all(|(name, value)| sees.get(name) == Some(value));
                if found != case.expected || !is_seen {
                    differences.push(format!("{name} {path}: {found} {sees:?} ({})", case.comment));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_policy_sees_the_path_that_is_forwarded() {
    let all = ["encoded_slash", "semicolon", "encoded_question_mark", "encoded_hash"];
    let rule = json!({"id": "all", "paths": ["/{**}"], "decision": "policy_service", "allow_in_path": all});
    let mut sidecar = sidecar(&json!({"rules": [rule]}));
    for (sent, seen) in [
        ("/a%2fb", "/a%2Fb"),
        ("/a%3bb;c", "/a%3Bb;c"),
        ("/%61%3f%23", "/a%3F%23"),
        ("/c%2b+", "/c%2B+"),
        ("/x/../a%2Fb//c;d", "/a%2Fb/c;d"),
    ] {
        let (found, _, path) = outcome(&mut sidecar, sent);
        assert_eq!((found.as_str(), path.as_str()), ("asks", seen), "{sent}");
    }
}

/// How many valid paths each kind of rule refuses: one that decides alone, one that leaves it to a
/// policy, and either with every delimiter allowed. Before `%3B`, `%3F` and `%23` were read as
/// delimiters the first two were 27 and 39: a policy sees 14 of these paths that servers read
/// differently.
#[test]
fn few_valid_paths_are_refused() {
    let valid: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../../../tests/vectors/valid-paths.json")).unwrap();
    let all = json!(["encoded_slash", "semicolon", "encoded_question_mark", "encoded_hash"]);
    let refused = |decision: &str, allowed: Option<&Value>| {
        let mut rule = json!({"id": "all", "paths": ["/{**}"], "decision": decision});
        rule["allow_in_path"] = allowed.cloned().unwrap_or_default();
        let mut sidecar = sidecar(&json!({"rules": [rule]}));
        let mut is_refused = |path: &&String| !matches!(&*outcome(&mut sidecar, path).0, "local_permit" | "asks");
        let refused: Vec<&String> = valid.values().flatten().filter(|path| is_refused(path)).collect();
        println!("{decision} {allowed:?}: {} refused: {refused:?}", refused.len());
        refused.len()
    };
    assert_eq!(valid.values().flatten().count(), 190);
    assert_eq!(refused("permit", None), 27);
    assert_eq!(refused("policy_service", None), 53);
    assert_eq!(refused("permit", Some(&all)), 0);
    assert_eq!(refused("policy_service", Some(&all)), 0);
}

/// What a server does with a path that it is sent, or a proxy before it passes it on.
#[derive(Clone, Copy, Debug)]
enum Act {
    Decode,
    DecodeSlashes,
    EndAtQuery,
    RemoveParameters,
    EndAtParameter,
}

impl Act {
    fn apply(self, path: &str) -> String {
        match self {
            Self::Decode => percent_decoded(path),
            Self::DecodeSlashes => path.replace("%2F", "/"),
            Self::EndAtQuery => path.split(['?', '#']).next().unwrap().to_owned(),
            Self::RemoveParameters => {
                let cut: Vec<&str> = path.split('/').map(|part| part.split(';').next().unwrap()).collect();
                cut.join("/")
            }
            Self::EndAtParameter => path.split(';').next().unwrap().to_owned(),
        }
    }
}

fn percent_decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |decoded, part| {
        let (digits, rest) = part.split_at(2);
        let byte = u8::from_str_radix(digits, 16).unwrap();
        decoded + &char::from(byte).to_string() + rest
    })
}

/// RFC 3986 §5.2.4, with slashes merged.
fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match segment {
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Servers as sequences of what they do; what each makes of a path is resolved at the end.
const SERVERS: [&[Act]; 11] = [
    &[Act::EndAtQuery, Act::Decode],
    &[Act::EndAtQuery, Act::RemoveParameters, Act::Decode],
    &[Act::EndAtQuery, Act::EndAtParameter, Act::Decode],
    &[Act::EndAtQuery, Act::Decode, Act::RemoveParameters],
    &[Act::EndAtQuery, Act::Decode, Act::EndAtParameter],
    &[Act::EndAtQuery, Act::Decode, Act::EndAtQuery],
    &[Act::EndAtQuery, Act::Decode, Act::EndAtQuery, Act::RemoveParameters],
    &[Act::EndAtQuery, Act::Decode, Act::EndAtQuery, Act::EndAtParameter],
    &[Act::EndAtQuery, Act::DecodeSlashes, Act::RemoveParameters, Act::Decode],
    &[Act::EndAtQuery, Act::DecodeSlashes, Act::EndAtParameter, Act::Decode],
    &[Act::EndAtQuery, Act::DecodeSlashes, Act::Decode, Act::EndAtQuery],
];

/// Whatever servers are behind the sidecar, none takes a path that was permitted for one of the
/// rule that denies. With every delimiter allowed too: what a rule says of itself opens no other
/// rule.
#[test]
fn no_server_reads_a_permitted_path_as_one_of_a_rule_that_denies() {
    const PARTS: [&str; 17] = [
        "/", "/", "admin", "admin", "x", "..", ".", ";", "%3B", "%3b", "%3F", "%23", "%2F", "%2f", "%2e", "%20", "?",
    ];
    let all = ["encoded_slash", "semicolon", "encoded_question_mark", "encoded_hash"];
    let mut permits = 0;
    for allowed in [json!(null), json!(all)] {
        let sidecar = RefCell::new(sidecar(&json!({"rules": [
            {"id": "public", "paths": ["/{**}"], "decision": "permit", "allow_in_path": allowed},
            {"id": "admin", "paths": ["/admin", "/admin/{**}"], "decision": "deny"},
        ]})));
        let permits = RefCell::new(&mut permits);
        let check = |parts: Vec<&str>| {
            let path = format!("/{}", parts.concat());
            let caller = Caller::new().header(":authority", HOST).get(&path);
            let Step::Decided(Ok(permit)) = sidecar.borrow_mut().sends(&caller).0 else {
                return Ok(());
            };
            **permits.borrow_mut() += 1;
            let forwarded = permit.rewritten_path().unwrap_or(&path);
            for server in SERVERS {
                let read = resolved(&server.iter().fold(forwarded.to_owned(), |path, act| act.apply(&path)));
                let is_denied = read == "/admin" || read.starts_with("/admin/");
                prop_assert!(
                    !is_denied,
                    "{path} was forwarded as {forwarded}: {server:?} reads {read}"
                );
            }
            Ok(())
        };
        TestRunner::new(ProptestConfig::with_cases(5_000))
            .run(&vec(select(PARTS.to_vec()), 1..10), check)
            .unwrap();
    }
    assert!(permits > 500, "{permits}");
}
