//! What fetched keys mean for requests: which tokens pass, and for how long.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::pkcs8::EncodePrivateKey;
use picket_core::enforcement::{KeyFetch, Step, Verification, reply};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_core::token::remote_keys::FetchProgress;
use picket_core::token::remote_keys::response::{FetchError, HttpResponse};
use picket_model::decision::Effect;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_oneof, proptest};
use proptest::sample::subsequence;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::{Board, key_set, signing_key};
use crate::support::{Caller, NOW_S, Sidecar, configuration, decision};

const MAX_STALE_MS: u64 = 100_000;
const CACHE_MS: u64 = 50_000;
const REFETCH_INTERVAL_MS: u64 = 10_000;
const TICK_MS: u64 = 250;
/// Between two fetches for unknown keys.
const UNKNOWN_KEY_INTERVAL_MS: u64 = 2_000;
/// How long a request waits.
const WAIT_MS: u64 = UNKNOWN_KEY_INTERVAL_MS + 5_000;
/// How many do at once.
const KEY_WAITS_MAX: usize = 1024;

fn remote() -> Value {
    let mut document = configuration();
    let provider = document["providers"][0].as_object_mut().unwrap();
    provider.remove("keys");
    provider.insert(
        "remote_keys".to_owned(),
        json!({
            "uri": "https://issuer.example/jwks", "cluster": "issuer",
            "cache_s": 50, "max_stale_s": 100, "refetch_interval_s": 10,
        }),
    );
    document
}

/// A token for a day, signed by the key of this number.
fn token(number: u8, key_id: Option<&str>) -> String {
    let claims = json!({
        "iss": "https://issuer.example", "sub": format!("user-{number}"), "aud": "orders", "exp": NOW_S + 86_400,
    });
    signed(number, key_id, &claims)
}

fn signed(number: u8, key_id: Option<&str>, claims: &Value) -> String {
    let header = Header {
        kid: key_id.map(str::to_owned),
        ..Header::new(Algorithm::ES256)
    };
    let key = EncodingKey::from_ec_der(signing_key(number).to_pkcs8_der().unwrap().as_bytes());
    encode(&header, claims, &key).unwrap()
}

fn by(number: u8) -> Caller {
    Caller::new()
        .get("/local")
        .bearer(&token(number, Some(&format!("k{number}"))))
}

/// Sidecars as the workers of one proxy.
struct Workers {
    memory: Board,
    workers: Vec<Sidecar>,
}

impl Workers {
    fn new(count: usize) -> Self {
        Self::with(&remote(), count)
    }

    fn with(document: &Value, count: usize) -> Self {
        Self {
            memory: Board::default(),
            workers: (0..count).map(|_| Sidecar::with(document)).collect(),
        }
    }

    fn later_ms(&mut self, ms: u64) {
        self.workers.iter_mut().for_each(|worker| worker.later_ms(ms));
    }

    fn tick(&mut self, worker: usize) -> Vec<KeyFetch> {
        let now = self.workers[worker].now();
        let seat = self.memory.seat(worker as u64 + 1);
        self.workers[worker].enforcer().tick(now, &seat)
    }

    fn answered(&mut self, worker: usize, fetch: &KeyFetch, answer: Result<&str, FetchError>) -> FetchProgress {
        let now = self.workers[worker].now();
        let headers = [(":status", &b"200"[..])];
        let answer = answer.map(|body| HttpResponse {
            headers: &headers,
            body: body.as_bytes(),
        });
        let seat = self.memory.seat(worker as u64 + 1);
        self.workers[worker].enforcer().on_key_set(fetch, answer, now, &seat)
    }

    /// Fetches a set now, which must be due.
    fn fetches(&mut self, worker: usize, numbers: &[u8]) {
        let fetch = self.tick(worker).pop().unwrap();
        let progress = self.answered(worker, &fetch, Ok(&key_set(numbers)));
        assert!(matches!(progress, FetchProgress::Fetched { .. }), "{progress:?}");
    }

    fn verification(&mut self, number: u8) -> Option<(Verification, bool)> {
        self.workers[0].permits(&by(number)).1.verifications.iter().next()
    }

    #[track_caller]
    fn refuses(&mut self, number: u8, expected: DenyReason) {
        assert_eq!(self.workers[0].refuses(&by(number)).reason, expected);
    }

    /// What becomes of a request that waits for keys, and for how long, while this set can be
    /// fetched.
    fn waits(&mut self, worker: usize, caller: &Caller, numbers: &[u8]) -> (Step, u64) {
        let start = self.workers[worker].now();
        let mut pending = self.workers[worker].awaits_keys(caller);
        loop {
            for other in 0..self.workers.len() {
                if let Some(fetch) = self.tick(other).pop() {
                    self.answered(other, &fetch, Ok(&key_set(numbers)));
                }
            }
            let now = self.workers[worker].now();
            if self.workers[worker].enforcer().is_key_wait_over(&pending, now) {
                match self.workers[worker].keys_awaited(pending, caller).0 {
                    Step::AwaitKeys(again) => pending = again,
                    other @ (Step::Decided(_) | Step::Ask(_) | Step::Introspect(_)) => {
                        return (other, now.as_ms() - start.as_ms());
                    }
                }
            }
            self.later_ms(TICK_MS);
        }
    }

    /// The same for a request that is decided here, with the reason of a refusal.
    fn waits_and_ends(&mut self, caller: &Caller, numbers: &[u8]) -> (Result<(), DenyReason>, u64) {
        match self.waits(0, caller, numbers) {
            (Step::Decided(verdict), waited_ms) => (verdict.map(|_| ()).map_err(|refusal| refusal.reason), waited_ms),
            (other, _) => panic!("expected a verdict, got {other:?}"),
        }
    }
}

#[test]
fn without_the_first_key_set_the_caller_waits_and_is_then_told_to_come_again() {
    let mut workers = Workers::new(1);
    // Nobody answers.
    let fetch = workers.tick(0).pop();
    let pending = workers.workers[0].awaits_keys(&by(1));
    workers.later_ms(WAIT_MS - 1);
    let now = workers.workers[0].now();
    assert!(!workers.workers[0].enforcer().is_key_wait_over(&pending, now));
    workers.later_ms(1);
    let now = workers.workers[0].now();
    assert!(workers.workers[0].enforcer().is_key_wait_over(&pending, now));
    let Step::Decided(Err(refusal)) = workers.workers[0].keys_awaited(pending, &by(1)).0 else {
        panic!("expected a refusal");
    };
    assert_eq!(
        (refusal.reason, refusal.decided_by),
        (DenyReason::KeySetUnavailable, DecidedBy::Token)
    );
    let reply = reply(&refusal, "orders");
    assert_eq!(reply.status, 503);
    assert!(reply.headers.iter().any(|(name, _)| *name == "retry-after"));
    assert!(reply.headers.iter().all(|(name, _)| *name != "www-authenticate"));
    // What is wrong whatever the keys are is said at once.
    let other = Caller::new().get("/local").bearer("a.b.c");
    assert_eq!(workers.workers[0].refuses(&other).reason, DenyReason::TokenMalformed);
    drop(fetch);
    let mut workers = Workers::new(1);
    assert_eq!(workers.waits_and_ends(&by(1), &[1]), (Ok(()), 0));
}

/// Each: the caller, the set that is fetched while its request waits, what becomes of it.
#[test]
fn a_request_whose_key_may_be_new_waits_for_it() {
    let kidless = |number| Caller::new().get("/local").bearer(&token(number, None));
    for (what, caller, numbers, expected) in [
        ("a new key", by(2), &[1, 2][..], Ok(())),
        ("a key that is replaced", by(2), &[2], Ok(())),
        ("no such key", by(2), &[1], Err(DenyReason::TokenKeyUnknown)),
        ("a new key without an id", kidless(2), &[2], Ok(())),
        (
            "a forgery without an id",
            kidless(2),
            &[1],
            Err(DenyReason::TokenSignatureInvalid),
        ),
    ] {
        let mut workers = Workers::new(1);
        workers.fetches(0, &[1]);
        workers.later_ms(REFETCH_INTERVAL_MS);
        assert_eq!(workers.tick(0), []);
        let (verdict, waited_ms) = workers.waits_and_ends(&caller, numbers);
        assert_eq!((verdict, waited_ms), (expected, 0), "{what}");
        // A stranger's request right before holds it up until the next fetch.
        let mut workers = Workers::new(1);
        workers.fetches(0, &[1]);
        workers.later_ms(REFETCH_INTERVAL_MS);
        let stranger = by(3);
        assert_eq!(
            workers.waits_and_ends(&stranger, &[1]).0,
            Err(DenyReason::TokenKeyUnknown)
        );
        workers.later_ms(1);
        let (verdict, waited_ms) = workers.waits_and_ends(&caller, numbers);
        assert_eq!(verdict, expected, "{what}");
        assert!(waited_ms <= UNKNOWN_KEY_INTERVAL_MS + TICK_MS, "{what}: {waited_ms}");
    }
}

#[test]
fn a_request_that_waited_in_another_worker_hears_of_the_new_key() {
    for fetching in 0..2 {
        let mut workers = Workers::new(2);
        workers.fetches(fetching, &[1]);
        workers.later_ms(REFETCH_INTERVAL_MS);
        assert_eq!((workers.tick(0), workers.tick(1)), (Vec::new(), Vec::new()));
        let (step, waited_ms) = workers.waits(1, &by(2), &[2]);
        assert!(matches!(step, Step::Decided(Ok(_))), "{step:?}");
        assert!(waited_ms <= TICK_MS, "{waited_ms}");
    }
}

#[test]
fn a_request_that_waited_for_keys_is_looked_at_from_the_beginning() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    // The policy service is asked then.
    let (step, _) = workers.waits(0, &by(2).get("/orders/1"), &[2]);
    assert!(matches!(step, Step::Ask(_)), "{step:?}");
    // And the peer's certificate may have run out.
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    let now_s = i64::try_from(workers.workers[0].now().as_ms() / 1000).unwrap();
    let caller = by(3).get("/orders/1").peer_valid(0, now_s + 1);
    workers.waits(0, &by(4), &[1]);
    workers.later_ms(1);
    let (verdict, waited_ms) = workers.waits_and_ends(&caller, &[3]);
    assert_eq!(verdict, Err(DenyReason::PeerExpired));
    assert!(waited_ms >= 1_000, "{waited_ms}");
}

#[test]
fn nobody_waits_where_no_key_would_help() {
    let check = |what: &str, document: &Value, caller: &Caller, expected: DenyReason| {
        let mut workers = Workers::with(document, 1);
        workers.fetches(0, &[1]);
        workers.later_ms(REFETCH_INTERVAL_MS);
        assert_eq!(workers.workers[0].refuses(caller).reason, expected, "{what}");
        assert_eq!(workers.tick(0), [], "{what}");
    };
    let known_id = Caller::new().get("/local").bearer(&token(2, Some("k1")));
    check("a forgery", &remote(), &known_id, DenyReason::TokenSignatureInvalid);
    let mut elsewhere = remote_beside_another();
    elsewhere["rules"][0]["credential"] = "required".into();
    elsewhere["rules"][0]["providers"] = json!(["users"]);
    let other_provider = Caller::new()
        .get("/orders/1")
        .no_bearer()
        .header("x-client-token", &token(2, Some("k2")));
    let unknown = DenyReason::TokenKeyUnknown;
    // What stands in the places of other providers is no token to the rule.
    let missing = DenyReason::CredentialMissing;
    check("a rule without the provider", &elsewhere, &other_provider, missing);
    let configured = Caller::new().get("/local").bearer(&token(2, Some("k2")));
    let refusal = Sidecar::new().refuses(&configured);
    assert_eq!(refusal.reason, unknown, "keys of the configuration");
}

#[test]
fn a_rule_for_several_tokens_waits_for_the_keys_of_each() {
    let mut workers = Workers::with(&remote_beside_another(), 1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    let user = Sidecar::new().token(&[("iss", "https://users.example".into())]);
    let caller = Caller::new()
        .get("/orders/1")
        .bearer(&user)
        .header("x-client-token", &token(2, Some("k2")));
    let (step, _) = workers.waits(0, &caller, &[2]);
    assert!(matches!(step, Step::Ask(_)), "{step:?}");
}

#[test]
fn as_many_requests_wait_as_there_are_places() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    let mut pending: Vec<_> = (0..KEY_WAITS_MAX)
        .map(|_| workers.workers[0].awaits_keys(&by(2)))
        .collect();
    assert_eq!(workers.workers[0].refuses(&by(2)).reason, DenyReason::KeySetUnavailable);
    // Who does not wait is not held up.
    workers.workers[0].permits(&by(1));
    // One that is gone, and one that goes on, leave a place.
    pending.pop();
    pending.push(workers.workers[0].awaits_keys(&by(2)));
    let one = pending.pop().unwrap();
    assert!(matches!(
        workers.workers[0].keys_awaited(one, &by(2)).0,
        Step::AwaitKeys(_)
    ));
    pending.push(workers.workers[0].awaits_keys(&by(2)));
    assert_eq!(workers.workers[0].refuses(&by(2)).reason, DenyReason::KeySetUnavailable);
}

#[test]
fn a_token_does_not_outlive_its_key() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1, 2]);
    for number in [1, 2] {
        assert!(matches!(
            workers.verification(number),
            Some((Verification::Checked(_), true))
        ));
        assert_eq!(workers.verification(number), Some((Verification::Cached, true)));
    }
    workers.later_ms(CACHE_MS);
    workers.fetches(0, &[2, 3]);
    workers.refuses(1, DenyReason::TokenKeyUnknown);
    assert_eq!(
        workers.verification(2),
        Some((Verification::Cached, true)),
        "its key is still there"
    );
    workers.workers[0].permits(&by(3));
}

#[test]
fn a_key_that_comes_back_as_another_verifies_nothing_of_the_old_one() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.workers[0].permits(&by(1));
    workers.later_ms(CACHE_MS);
    let other = key_set(&[2]).replace("\"k2\"", "\"k1\"");
    let fetch = workers.tick(0).pop().unwrap();
    workers.answered(0, &fetch, Ok(&other));
    workers.refuses(1, DenyReason::TokenSignatureInvalid);
}

#[test]
fn another_workers_set_takes_tokens_with_it_as_well() {
    let mut workers = Workers::new(2);
    workers.fetches(1, &[1]);
    workers.later_ms(250);
    assert_eq!(workers.tick(0), []);
    workers.workers[0].permits(&by(1));
    workers.later_ms(CACHE_MS);
    workers.fetches(1, &[2]);
    assert_eq!(workers.tick(0), []);
    workers.refuses(1, DenyReason::TokenKeyUnknown);
}

#[test]
fn a_known_token_is_refused_when_its_keys_are_too_old() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.workers[0].permits(&by(1));
    workers.later_ms(MAX_STALE_MS - 1);
    workers.workers[0].permits(&by(1));
    workers.later_ms(1);
    let pending = workers.workers[0].awaits_keys(&by(1));
    workers.later_ms(WAIT_MS);
    let step = workers.workers[0].keys_awaited(pending, &by(1)).0;
    let Step::Decided(Err(refusal)) = step else {
        panic!("expected a refusal, got {step:?}");
    };
    assert_eq!(refusal.reason, DenyReason::KeySetUnavailable);
}

#[test]
fn a_clock_that_is_set_back_gives_a_known_token_no_longer_life() {
    let mut workers = Workers::new(1);
    workers.later_ms(40_000_000);
    workers.fetches(0, &[1]);
    workers.workers[0].permits(&by(1));
    workers.workers[0].earlier_ms(40_000_000);
    for _ in 0..=MAX_STALE_MS / 10_000 {
        if let Some(fetch) = workers.tick(0).pop() {
            workers.answered(0, &fetch, Err(FetchError::EndpointUnreachable));
        }
        workers.later_ms(10_000);
    }
    workers.refuses(1, DenyReason::KeySetUnavailable);
}

/// Beside a provider whose keys are in the configuration; the rule for orders wants a token of
/// each, and its own first.
fn remote_beside_another() -> Value {
    let mut document = remote();
    let mut other = configuration()["providers"][0].clone();
    other["name"] = "users".into();
    other["issuer"] = "https://users.example".into();
    document["providers"][0]["sources"] = json!([{"header": "x-client-token"}]);
    document["providers"].as_array_mut().unwrap().push(other);
    let rule = document["rules"][0].as_object_mut().unwrap();
    rule.insert("credential".into(), "all".into());
    rule.insert("providers".into(), json!(["users", "main"]));
    document
}

#[test]
fn a_token_whose_request_waited_needs_its_key_when_the_answer_comes() {
    let check_one = |document: &Value, caller: &Caller, wait: fn(&mut Workers), expected: Result<(), DenyReason>| {
        let mut workers = Workers::with(document, 1);
        workers.fetches(0, &[1]);
        let (_, pending) = workers.workers[0].asks(caller);
        wait(&mut workers);
        let verdict = workers.workers[0].answers(pending, Ok(decision(Effect::Permit, 1_000)));
        assert_eq!(verdict.map(|_| ()).map_err(|refusal| refusal.reason), expected);
    };
    let user = Sidecar::new().token(&[("iss", "https://users.example".into())]);
    let beside_another = Caller::new()
        .bearer(&user)
        .header("x-client-token", &token(1, Some("k1")));
    let check = |wait, expected| {
        check_one(&remote(), &by(1).get("/orders/1"), wait, expected);
        check_one(
            &remote_beside_another(),
            &beside_another.clone().get("/orders/1"),
            wait,
            expected,
        );
    };
    check(|_| {}, Ok(()));
    check(
        |workers| {
            workers.later_ms(CACHE_MS);
            workers.fetches(0, &[1, 2]);
        },
        Ok(()),
    );
    check(
        |workers| {
            workers.later_ms(CACHE_MS);
            workers.fetches(0, &[2]);
        },
        Err(DenyReason::TokenKeyUnknown),
    );
    check(
        |workers| workers.later_ms(MAX_STALE_MS),
        Err(DenyReason::KeySetUnavailable),
    );
}

#[test]
fn in_a_rollover_tokens_without_a_key_id_of_both_keys_pass() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1, 2]);
    for number in [1, 2, 1] {
        workers.workers[0].permits(&Caller::new().get("/local").bearer(&token(number, None)));
    }
    // What was verified by the key that is gone goes with it.
    workers.later_ms(CACHE_MS);
    workers.fetches(0, &[2]);
    let refusal = workers.workers[0].refuses(&Caller::new().get("/local").bearer(&token(1, None)));
    assert_eq!(refusal.reason, DenyReason::TokenSignatureInvalid);
    workers.workers[0].permits(&Caller::new().get("/local").bearer(&token(2, None)));
}

/// A key without a `kid` is tried for a token with one; where it did not sign, the one that is
/// meant may be in a newer set.
#[test]
fn a_key_id_that_no_key_has_leads_to_a_fetch_whatever_was_tried() {
    let mut workers = Workers::new(1);
    let mut key: Value = serde_json::from_str(&key_set(&[1])).unwrap();
    key["keys"][0]["kid"] = Value::Null;
    let fetch = workers.tick(0).pop().unwrap();
    let progress = workers.answered(0, &fetch, Ok(&key.to_string()));
    assert!(matches!(progress, FetchProgress::Fetched { .. }), "{progress:?}");
    workers.later_ms(REFETCH_INTERVAL_MS);
    workers.workers[0].permits(&by(1));
    assert_eq!(workers.tick(0), []);
    assert_eq!(workers.waits_and_ends(&by(2), &[2]).0, Ok(()));
}

/// An expired token with a key that is gone is ordinary after a rotation, and no reason to fetch or
/// to wait.
#[test]
fn nobody_waits_for_the_keys_of_a_token_that_is_refused_whatever_they_are() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    for claims in [
        json!({"iss": "https://issuer.example", "sub": "a", "aud": "orders", "exp": NOW_S - 3600}),
        json!({"iss": "https://issuer.example", "sub": "a", "aud": "others", "exp": NOW_S + 3600}),
        json!({"iss": "https://issuer.example", "sub": "a", "aud": "orders", "exp": NOW_S + 7200, "nbf": NOW_S + 3600}),
    ] {
        let token = signed(2, Some("k2"), &claims);
        let refusal = workers.workers[0].refuses(&Caller::new().get("/local").bearer(&token));
        assert_eq!(refusal.reason, DenyReason::TokenKeyUnknown, "{claims}");
        assert_eq!(workers.tick(0), [], "{claims}");
    }
}

/// The keys of each are at another place; either may have the new one.
#[test]
fn of_two_fetched_providers_of_one_issuer_each_may_have_the_new_key() {
    for rotating in [0, 1] {
        let mut document = remote();
        let mut other = document["providers"][0].clone();
        other["name"] = "other".into();
        other["remote_keys"]["uri"] = "https://issuer.example/other".into();
        document["providers"].as_array_mut().unwrap().push(other);
        let mut workers = Workers::with(&document, 1);
        let answer = |workers: &mut Workers, sets: [&[u8]; 2]| {
            for fetch in workers.tick(0) {
                let numbers = sets[fetch.provider];
                workers.answered(0, &fetch, Ok(&key_set(numbers)));
            }
        };
        answer(&mut workers, [&[1], &[1]]);
        workers.later_ms(REFETCH_INTERVAL_MS);
        let mut sets: [&[u8]; 2] = [&[1], &[1]];
        sets[rotating] = &[1, 2];
        let mut pending = workers.workers[0].awaits_keys(&by(2));
        for _ in 0..40 {
            answer(&mut workers, sets);
            let now = workers.workers[0].now();
            if workers.workers[0].enforcer().is_key_wait_over(&pending, now) {
                match workers.workers[0].keys_awaited(pending, &by(2)).0 {
                    Step::AwaitKeys(again) => pending = again,
                    other @ (Step::Decided(_) | Step::Ask(_) | Step::Introspect(_)) => {
                        assert!(matches!(other, Step::Decided(Ok(_))), "{rotating}: {other:?}");
                        break;
                    }
                }
            }
            workers.later_ms(TICK_MS);
        }
        workers.workers[0].permits(&by(2));
    }
}

/// Of two providers of one issuer, the one whose token it is not fetches nothing for it.
#[test]
fn a_token_that_another_provider_accepts_leads_to_no_fetch() {
    let mut document = remote();
    let mut inline = configuration()["providers"][0].clone();
    inline["name"] = "inline".into();
    inline["keys"] = serde_json::from_str(&key_set(&[7])).unwrap();
    document["providers"].as_array_mut().unwrap().push(inline);
    let mut workers = Workers::with(&document, 1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    for number in [7, 1, 7] {
        workers.workers[0].permits(&by(number));
        assert_eq!(workers.tick(0), []);
    }
    let refused = Err(DenyReason::TokenKeyUnknown);
    assert_eq!(workers.waits_and_ends(&by(2), &[1]).0, refused);
}

#[derive(Clone, Debug)]
enum Event {
    Later(u64),
    Tick(usize),
    Brings(usize, Vec<u8>),
    BringsGarbage(usize),
    Fails(usize),
    Arrives(usize, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let worker = || 0..2_usize;
    let ms = prop_oneof![
        Just(1),
        Just(250),
        Just(1_000),
        Just(12_000),
        Just(45_000),
        Just(99_999)
    ];
    prop_oneof![
        2 => ms.prop_map(Event::Later),
        4 => worker().prop_map(Event::Tick),
        3 => (worker(), subsequence(vec![1, 2, 3], 1..=3)).prop_map(|(worker, numbers)| Event::Brings(worker, numbers)),
        1 => worker().prop_map(Event::BringsGarbage),
        1 => worker().prop_map(Event::Fails),
        6 => (worker(), 1..=3_u8).prop_map(|(worker, number)| Event::Arrives(worker, number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever happens in whatever order, a permit needs a key of the last good set that its
    /// worker has, and that set must have been asked for less than `max_stale_s` ago.
    #[test]
    fn no_permit_without_a_key_of_the_last_good_set(events in vec(event(), 1..80)) {
        let mut workers = Workers::new(2);
        let mut under_way: [Option<(u64, KeyFetch)>; 2] = [None, None];
        // Every good set, with the time at which it was asked for. Times are distinct: each tick is
        // its own millisecond.
        let mut good: Vec<(u64, Vec<u8>)> = Vec::new();
        for event in events {
            match event {
                Event::Later(ms) => workers.later_ms(ms),
                Event::Tick(worker) => {
                    workers.later_ms(1);
                    if let Some(fetch) = workers.tick(worker).pop() {
                        under_way[worker] = Some((workers.workers[worker].now().as_ms(), fetch));
                    }
                }
                Event::Brings(worker, numbers) => {
                    if let Some((asked_at, fetch)) = under_way[worker].take() {
                        let progress = workers.answered(worker, &fetch, Ok(&key_set(&numbers)));
                        if matches!(progress, FetchProgress::Fetched { .. }) {
                            good.push((asked_at, numbers));
                        }
                    }
                }
                Event::BringsGarbage(worker) => {
                    if let Some((_, fetch)) = under_way[worker].take() {
                        let progress = workers.answered(worker, &fetch, Ok("{\"keys\":[]}"));
                        let is_refused = matches!(progress, FetchProgress::Failed(_) | FetchProgress::Late);
                        prop_assert!(is_refused);
                    }
                }
                Event::Fails(worker) => {
                    if let Some((_, fetch)) = under_way[worker].take() {
                        workers.answered(worker, &fetch, Err(FetchError::EndpointUnreachable));
                    }
                }
                Event::Arrives(worker, number) => {
                    let sidecar = &mut workers.workers[worker];
                    let now = sidecar.now();
                    let age_ms = sidecar.enforcer().key_set_ages_ms(now).next().map(|(_, age_ms)| age_ms);
                    let last = age_ms.and_then(|age_ms| {
                        good.iter().find(|(asked_at, _)| now.as_ms() - asked_at == age_ms)
                    });
                    let may_pass = last.is_some_and(|(asked_at, numbers)| {
                        now.as_ms() < asked_at + MAX_STALE_MS && numbers.contains(&number)
                    });
                    let verdict = verdict(sidecar, &by(number));
                    agree(may_pass, &verdict)?;
                }
            }
        }
    }
}

fn verdict(sidecar: &mut Sidecar, caller: &Caller) -> Result<(), DenyReason> {
    match sidecar.sends(caller).0 {
        Step::Decided(verdict) => verdict.map(|_| ()).map_err(|refusal| refusal.reason),
        // Whose request is gone when its keys come.
        Step::AwaitKeys(_) => Err(DenyReason::KeySetUnavailable),
        other @ (Step::Ask(_) | Step::Introspect(_)) => panic!("{other:?}"),
    }
}

fn agree(may_pass: bool, verdict: &Result<(), DenyReason>) -> Result<(), TestCaseError> {
    match (may_pass, verdict) {
        (true, Ok(())) | (false, Err(DenyReason::TokenKeyUnknown | DenyReason::KeySetUnavailable)) => Ok(()),
        (may_pass, verdict) => Err(TestCaseError::fail(format!("may pass: {may_pass}, but {verdict:?}"))),
    }
}
