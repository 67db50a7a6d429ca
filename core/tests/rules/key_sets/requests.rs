//! What fetched keys mean for requests: which tokens pass, and for how long.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use p256::pkcs8::EncodePrivateKey;
use picket_core::decision::Effect;
use picket_core::enforcement::{KeyFetch, Step, Verification, reply};
use picket_core::reason::{DecidedBy, DenyReason};
use picket_core::token::remote_keys::Progress;
use picket_core::token::remote_keys::answer::{Answer, FetchError};
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
    let header = Header {
        kid: key_id.map(str::to_owned),
        ..Header::new(Algorithm::ES256)
    };
    let claims = json!({
        "iss": "https://issuer.example", "sub": format!("user-{number}"), "aud": "orders", "exp": NOW_S + 86_400,
    });
    let key = EncodingKey::from_ec_der(signing_key(number).to_pkcs8_der().unwrap().as_bytes());
    encode(&header, &claims, &key).unwrap()
}

fn by(number: u8) -> Caller {
    Caller::new()
        .get("/local")
        .bearer(&token(number, Some(&format!("k{number}"))))
}

/// Sidecars as the workers of one proxy.
struct Workers {
    board: Board,
    workers: Vec<Sidecar>,
}

impl Workers {
    fn new(count: usize) -> Self {
        Self::with(&remote(), count)
    }

    fn with(document: &Value, count: usize) -> Self {
        Self {
            board: Board::default(),
            workers: (0..count).map(|_| Sidecar::with(document)).collect(),
        }
    }

    fn later_ms(&mut self, ms: u64) {
        self.workers.iter_mut().for_each(|worker| worker.later_ms(ms));
    }

    fn tick(&mut self, worker: usize) -> Vec<KeyFetch> {
        let now = self.workers[worker].now();
        let seat = self.board.seat(worker as u64 + 1);
        self.workers[worker].enforcer().tick(now, &seat)
    }

    fn answered(&mut self, worker: usize, fetch: &KeyFetch, answer: Result<&str, FetchError>) -> Progress {
        let now = self.workers[worker].now();
        let headers = [(":status", &b"200"[..])];
        let answer = answer.map(|body| Answer {
            headers: &headers,
            body: body.as_bytes(),
        });
        let seat = self.board.seat(worker as u64 + 1);
        self.workers[worker]
            .enforcer()
            .key_set_answered(fetch, answer, now, &seat)
    }

    /// Fetches a set now, which must be due.
    fn fetches(&mut self, worker: usize, numbers: &[u8]) {
        let fetch = self.tick(worker).pop().unwrap();
        let progress = self.answered(worker, &fetch, Ok(&key_set(numbers)));
        assert!(matches!(progress, Progress::Fetched { .. }), "{progress:?}");
    }

    fn verification(&mut self, number: u8) -> Option<(Verification, bool)> {
        self.workers[0].permits(&by(number)).1.verifications.iter().next()
    }

    #[track_caller]
    fn refuses(&mut self, number: u8, expected: DenyReason) {
        assert_eq!(self.workers[0].refuses(&by(number)).reason, expected);
    }
}

#[test]
fn until_the_first_key_set_is_there_the_caller_is_told_to_come_again() {
    let mut workers = Workers::new(1);
    let refusal = workers.workers[0].refuses(&by(1));
    assert_eq!(
        (refusal.reason, refusal.decided_by),
        (DenyReason::KeySetUnavailable, DecidedBy::Token)
    );
    let reply = reply(&refusal, "orders");
    assert_eq!(reply.status, 503);
    assert!(reply.headers.iter().any(|(name, _)| *name == "retry-after"));
    assert!(reply.headers.iter().all(|(name, _)| *name != "www-authenticate"));
    // What is wrong whatever the keys are is said as always.
    let other = Caller::new().get("/local").bearer("a.b.c");
    assert_eq!(workers.workers[0].refuses(&other).reason, DenyReason::TokenMalformed);
    workers.fetches(0, &[1]);
    workers.workers[0].permits(&by(1));
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
    workers.refuses(1, DenyReason::KeySetUnavailable);
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

/// Beside a provider whose keys are in the configuration; the rule for orders wants a token of each, and its own first.
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
fn a_token_with_an_unknown_key_is_refused_and_the_next_one_passes() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    assert_eq!(workers.tick(0), []);
    workers.refuses(2, DenyReason::TokenKeyUnknown);
    workers.fetches(0, &[1, 2]);
    workers.workers[0].permits(&by(2));
}

#[test]
fn a_token_without_a_key_id_finds_a_key_that_was_replaced() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    let caller = Caller::new().get("/local").bearer(&token(2, None));
    assert_eq!(
        workers.workers[0].refuses(&caller).reason,
        DenyReason::TokenSignatureInvalid
    );
    workers.fetches(0, &[2]);
    workers.workers[0].permits(&caller);
}

#[test]
fn a_forged_token_with_a_known_key_leads_to_no_fetch() {
    let mut workers = Workers::new(1);
    workers.fetches(0, &[1]);
    workers.later_ms(REFETCH_INTERVAL_MS);
    let caller = Caller::new().get("/local").bearer(&token(2, Some("k1")));
    assert_eq!(
        workers.workers[0].refuses(&caller).reason,
        DenyReason::TokenSignatureInvalid
    );
    assert_eq!(workers.tick(0), []);
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

    /// Whatever happens in whatever order, a permit needs a key of the last good set that its worker has, and that set must
    /// have been asked for less than `max_stale_s` ago.
    #[test]
    fn no_permit_without_a_key_of_the_last_good_set(events in vec(event(), 1..80)) {
        let mut workers = Workers::new(2);
        let mut under_way: [Option<(u64, KeyFetch)>; 2] = [None, None];
        // Every good set, with the time at which it was asked for. Times are distinct: each tick is its own millisecond.
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
                        if matches!(progress, Progress::Fetched { .. }) {
                            good.push((asked_at, numbers));
                        }
                    }
                }
                Event::BringsGarbage(worker) => {
                    if let Some((_, fetch)) = under_way[worker].take() {
                        let progress = workers.answered(worker, &fetch, Ok("{\"keys\":[]}"));
                        let is_refused = matches!(progress, Progress::Failed(_) | Progress::Late);
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
        other @ (Step::Ask(_) | Step::Introspect(_)) => panic!("{other:?}"),
    }
}

fn agree(may_pass: bool, verdict: &Result<(), DenyReason>) -> Result<(), TestCaseError> {
    match (may_pass, verdict) {
        (true, Ok(())) | (false, Err(DenyReason::TokenKeyUnknown | DenyReason::KeySetUnavailable)) => Ok(()),
        (may_pass, verdict) => Err(TestCaseError::fail(format!("may pass: {may_pass}, but {verdict:?}"))),
    }
}
