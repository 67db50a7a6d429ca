//! The attacks of `tests/vectors/attacks.json` and the tokens of `tests/vectors/tokens.json`: what they get from the rules natively, and from the module in a real Envoy.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use picket_core::dpop::{ProofMemory, SharedSecret};
use picket_core::enforcement::FilterConfiguration;
use picket_core::enforcement::{Arrival, Connection, Enforcer, PeerResult, Step};
use picket_core::jose::signature::SoftwareVerifier;
use picket_core::peer::Peer;
use picket_core::reason::DenyReason;
use picket_model::time::Timestamp;
use picket_tests::attack::{self, Attack};
use picket_tests::clock;
use picket_tests::exchange::{Exchange, Expected, RequestSpec, Via};
use picket_tests::forge::Forge;
use picket_tests::keys::Keys;
use picket_tests::proof::still_serves;
use picket_tests::session::Session;
use picket_tests::stack::{Options, Stack};
use serde_json::json;

/// The peer that every attack comes from.
struct Web;

impl Connection for Web {
    fn peer(&self) -> Rc<PeerResult> {
        Rc::new(Ok(Peer::known_by_name("spiffe://example.org/web".parse().unwrap())))
    }

    fn source_address(&self) -> Option<IpAddr> {
        None
    }

    fn destination(&self) -> Option<SocketAddr> {
        None
    }

    fn server_name(&self) -> Option<String> {
        None
    }
}

#[test]
fn each_attack_gets_what_is_expected_natively() {
    let folder = tempfile::TempDir::new().unwrap();
    let forge = Forge::new(&Keys::make(folder.path()).unwrap()).unwrap();
    let [forged, clients, twin] = attack::providers(&forge).unwrap();
    let document = json!({
        "workload": "orders", "trust_domains": ["example.org"],
        "providers": [forged, clients, twin, attack::main_provider()], "rules": attack::rules(),
    });
    let configuration = FilterConfiguration::parse(document.to_string().as_bytes()).unwrap();
    let proofs = ProofMemory::of_one_worker(SharedSecret::new([7; 32]), &configuration.dpop);
    let mut enforcer = Enforcer::new(configuration, String::new(), 7, Rc::new(SoftwareVerifier), proofs);
    let mut failures = Vec::new();
    for attack in attack::all().unwrap().into_iter().chain(attack::tokens().unwrap()) {
        let (path, headers) = attack.request(&forge).unwrap();
        let pseudo = [
            (":method", "GET"),
            (":path", &*path),
            (":authority", "orders.example.org"),
        ];
        let own = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<(&str, &[u8])> = pseudo.into_iter().chain(own).map(|(n, v)| (n, v.as_bytes())).collect();
        // The second time the token may be known: the answer is the same.
        for _ in 0..2 {
            let arrival = Arrival {
                headers: &headers,
                connection: &Web,
                now: Timestamp::from_s(clock::now_s()),
            };
            let got = match enforcer.on_request(&arrival).0 {
                Step::Decided(Ok(permit)) => permit.reason().code(),
                Step::Decided(Err(refusal)) => refusal.reason.code(),
                Step::Ask(_) | Step::Introspect(_) | Step::AwaitKeys(_) => "a question",
            };
            if got != attack.expected {
                failures.push(format!("{}: expected {}, got {got}", attack.id, attack.expected));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn each_attack_gets_what_is_expected_in_envoy() {
    let attacks = attack::all().unwrap().into_iter().chain(attack::tokens().unwrap());
    let mut stack = check_all(Options::default().wide(), attacks.collect()).await;
    still_serves(&mut stack).await.unwrap();
}

#[tokio::test]
async fn each_token_gets_the_same_through_external_authorization() {
    let _ = check_all(Options::default().externally(), attack::tokens().unwrap()).await;
}

async fn check_all(options: Options, attacks: Vec<Attack>) -> Stack {
    // The stack makes its own keys after its options are given, so the forge has a folder of its own.
    let folder = tempfile::TempDir::new().unwrap();
    let forge = Forge::new(&Keys::make(folder.path()).unwrap()).unwrap();
    let line = |value: &serde_json::Value| format!("                    - {value}\n");
    let rules: String = attack::rules().iter().map(line).collect();
    let providers: String = attack::providers(&forge).unwrap().iter().map(line).collect();
    let options = options
        .edit(
            "                    - name: main\n",
            &format!("{providers}                    - name: main\n"),
        )
        .edit(
            "                      clock_skew_s: 60\n",
            "                      clock_skew_s: 60\n                      \
             sources: [ { header: authorization }, { header: x-main-token } ]\n",
        )
        .edit(
            "                    rules:\n",
            &format!("                    rules:\n{rules}"),
        );
    let mut stack = Stack::start(options).await.unwrap();
    let mut session = Session::new(stack.keys(), stack.entrances());
    let mut failures = Vec::new();
    for attack in attacks {
        let before = stack.upstream().requests();
        let exchange = exchange(&attack, &forge);
        match session.run(&exchange).await {
            Ok((answer, _)) => {
                let differences = exchange.expected.differences(&answer);
                failures.extend(
                    differences
                        .iter()
                        .map(|difference| format!("{}: {difference}", attack.id)),
                );
                if !attack.is_permitted() && stack.upstream().requests() != before {
                    failures.push(format!("{}: refused, and yet it reached the upstream", attack.id));
                }
            }
            Err(error) => failures.push(format!("{}: {error:#}", attack.id)),
        }
    }
    if !failures.is_empty() {
        panic!("{}\n{}", failures.join("\n"), stack.tails());
    }
    stack
}

fn exchange(attack: &Attack, forge: &Forge) -> Exchange {
    let (path, headers) = attack.request(forge).unwrap();
    let expected = attack.expected_in_envoy();
    let reason = DenyReason::ALL.iter().find(|reason| reason.code() == expected);
    Exchange {
        id: attack.id.clone(),
        comment: attack.comment.clone(),
        request: RequestSpec {
            via: Via::Direct,
            path,
            headers,
            ..RequestSpec::default()
        },
        times: 1,
        expected: Expected {
            status: reason.map_or(200, |reason| reason.status()),
            reason: Some(expected.to_owned()),
            decided_by: None,
            grpc_status: None,
            headers: BTreeMap::new(),
            body_contains: Vec::new(),
            leaks_nothing_of: Vec::new(),
            upstream: attack.upstream.clone(),
            upstream_target: attack.upstream_target.clone(),
        },
    }
}
