//! Configurations: a document is refused with its mistakes, or can be enforced: on requests that
//! fall under its rules, and on any other.

#![no_main]

use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::rule::Decider;
use picket_core::enforcement::{Enforcer, Step};
use picket_core::request::Header;
use picket_fuzz::{FixedVerifier, From, NOW_S, check_permit, check_refusal, enforcer, send};
use picket_model::decision::{Decision, Effect, Vary};
use picket_model::time::Timestamp;
use serde_json::Value;

/// 32 bytes in base64, for transaction tokens.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Of `seeds/token/known.txt`.
const TOKEN: &str = concat!(
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYifQ",
    ".eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJvcmRlcnMiLCJleHAiOjE4MDAwMDAzMDB9",
    ".a25vd24"
);
const RULES_MAX: usize = 4;
const HEADERS_MAX: usize = 16;

/// Sends a request, and lets the policy service permit it where it is asked. Says whether it goes
/// on.
fn permits(sidecar: &mut Enforcer, headers: &[Header<'_>]) -> bool {
    let now = Timestamp::from_s(NOW_S);
    let step = send(sidecar, headers, &From::peer("spiffe://example.org/web"), now);
    let verdict = match step {
        Step::Decided(verdict) => verdict,
        // Nobody has answered: nothing goes on.
        Step::Introspect(_) | Step::AwaitKeys(_) => return false,
        Step::Ask(question) => {
            assert!(sidecar.configuration().policy_service.is_some(), "nobody to ask");
            let decision = Decision {
                effect: Effect::Permit,
                decision_id: "d-1".to_owned(),
                policy_revision: "p-1".to_owned(),
                valid_for_ms: 1000,
                policy_ids: vec![],
                caller_reasons: vec![],
                vary: Vary::EVERYTHING,
                challenge: None,
                obligations: Vec::new(),
                is_token_revoked: false,
                risk: None,
            };
            sidecar.on_decision(question.pending, Ok(decision), now)
        }
    };
    match &verdict {
        Ok(permit) => check_permit(permit),
        Err(refusal) => check_refusal(refusal),
    }
    verdict.is_ok()
}

/// A request that falls under the rule that has this host, path and method, or one that is more
/// specific.
fn request_of(rule: &Value) -> Option<[String; 3]> {
    let first = |list: &str| rule.get(list)?.as_array()?.first()?.as_str();
    let host = first("hosts")?.replace('*', "h");
    let segments = first("paths")?.split('/');
    let path: Vec<_> = segments
        .map(|segment| if segment.starts_with('{') { "x" } else { segment })
        .collect();
    Some([first("methods").unwrap_or("GET").to_owned(), path.join("/"), host])
}

fn check_enforced(configuration: FilterConfiguration, document: &Value, lines: &[u8]) {
    let never_permits = configuration.rules.iter().all(|rule| rule.decider == Decider::Deny);
    let mut sidecar = enforcer(configuration, Rc::new(FixedVerifier::Always));
    let rules = document.get("rules").and_then(Value::as_array);
    let requests = rules.into_iter().flatten().take(RULES_MAX).filter_map(request_of);
    let bearer = format!("Bearer {TOKEN}");
    // The input's own headers: `name: value`, one in a line.
    let own: Vec<Header<'_>> = lines
        .split(|byte| *byte == b'\n')
        .take(HEADERS_MAX)
        .filter_map(|line| {
            let colon = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii()))
        })
        .collect();
    for [method, path, host] in requests {
        let mut headers: Vec<Header<'_>> = vec![
            (":method", method.as_bytes()),
            (":path", path.as_bytes()),
            (":authority", host.as_bytes()),
        ];
        for more in [&[][..], &[("authorization", bearer.as_bytes())], &own] {
            headers.truncate(3);
            headers.extend(more);
            let is_permitted = permits(&mut sidecar, &headers);
            assert!(!(is_permitted && never_permits), "no rule permits");
            assert_eq!(
                permits(&mut sidecar, &headers),
                is_permitted,
                "the cache's answer is another one"
            );
        }
    }
    permits(&mut sidecar, &own);
}

/// Else the rest would show nothing.
fn check_that_good_ones_pass() {
    let whole =
        FilterConfiguration::parse(include_bytes!("../seeds/configuration/whole.json")).expect("a configuration");
    assert_eq!(whole.rules.len(), 1);
    let asks = include_str!("../seeds/configuration/asks.json")
        .split('\0')
        .next()
        .expect("a document");
    let mut asks = FilterConfiguration::parse(asks.as_bytes()).expect("a configuration");
    asks.read_environment(|_| Some(KEY.to_owned())).expect("a good key");
    let bearer = format!("Bearer {TOKEN}");
    let mut headers: Vec<Header<'_>> = vec![(":method", b"GET"), (":path", b"/a/x/b"), (":authority", b"h")];
    let mut sidecar = enforcer(asks, Rc::new(FixedVerifier::Always));
    assert!(!permits(&mut sidecar, &headers));
    headers.push(("authorization", bearer.as_bytes()));
    assert!(permits(&mut sidecar, &headers));
}

fuzz_target!(init: check_that_good_ones_pass(), |data: &[u8]| {
    // A document, and after a NUL the headers of a request.
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (json, lines) = data.split_at(end);
    match FilterConfiguration::parse(json) {
        Ok(mut configuration) => {
            let document: Value = serde_json::from_slice(json).expect("what was parsed is JSON");
            assert!(FilterConfiguration::from_value(document.clone()).is_ok());
            assert!(configuration.rules.len() <= 20_000 && !configuration.workload.is_empty());
            configuration
                .read_environment(|_| Some(KEY.to_owned()))
                .expect("a good key");
            check_enforced(configuration, &document, lines.get(1..).unwrap_or_default());
        }
        Err(problems) => {
            assert!(!problems.as_slice().is_empty());
            assert!(problems.as_slice().iter().all(|problem| !problem.message.is_empty()));
        }
    }
});
