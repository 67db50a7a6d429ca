//! The state machine of one key set, in several workers.

use picket_core::jose::TokenAlgorithm;
use picket_core::token::remote_keys::location::{AllowedSchemes, Location, MetadataKind};
use picket_core::token::remote_keys::response::{DOCUMENT_BYTES_MAX, FetchError, FetchResult, HttpResponse};
use picket_core::token::remote_keys::shared_memory::{EntryVersion, SharedEntry, SharedMemory, SharedMemoryError};
use picket_core::token::remote_keys::{
    Fetch, FetchProgress, KeyChange, KeySetOrigin, KeyWait, MissingKey, RemoteKeySettings, RemoteKeys,
};
use picket_model::problems::Problem;
use picket_model::time::Timestamp;
use serde_json::{Value, json};

use super::{Board, Seat, jwk, key_set};

const ISSUER: &str = "https://issuer.example/a";
/// The configuration's defaults.
const CACHE_MS: u64 = 600_000;
const MAX_STALE_MS: u64 = 3_600_000;
const REFETCH_INTERVAL_MS: u64 = 30_000;
/// A timeout of five seconds, and the margin.
const LEASE_MS: u64 = 7_000;
const TICK_MS: u64 = 250;
/// Between two fetches for unknown keys.
const UNKNOWN_KEY_INTERVAL_MS: u64 = 2_000;
/// How long a request waits: until the next fetch may begin, and for its answer.
const WAIT_MS: u64 = UNKNOWN_KEY_INTERVAL_MS + 5_000;
/// How long it waits at most.
const WAIT_MS_MAX: u64 = 10_000;

fn location(uri: &str) -> Location {
    Location::parse(uri, AllowedSchemes::Https).unwrap()
}

fn settings() -> RemoteKeySettings {
    RemoteKeySettings {
        origin: KeySetOrigin::At(location("https://keys.example/jwks")),
        cluster: "issuer".to_owned(),
        timeout_ms: 5_000,
        cache_ms: CACHE_MS,
        max_stale_ms: MAX_STALE_MS,
        refetch_interval_ms: REFETCH_INTERVAL_MS,
    }
}

fn discovered() -> RemoteKeySettings {
    let (kind, schemes) = (MetadataKind::OpenidConfiguration, AllowedSchemes::Https);
    RemoteKeySettings {
        origin: KeySetOrigin::Discovered {
            metadata: Location::of_metadata(kind, ISSUER, schemes).unwrap(),
            issuer: ISSUER.to_owned(),
            schemes,
        },
        ..settings()
    }
}

/// Workers with one memory and one clock.
struct World {
    memory: Board,
    workers: Vec<RemoteKeys>,
    now: Timestamp,
}

impl World {
    fn new(settings: &RemoteKeySettings, workers: usize) -> Self {
        Self {
            memory: Board::default(),
            workers: (0..workers).map(|_| RemoteKeys::new(settings.clone())).collect(),
            now: Timestamp::from_s(1_800_000_000),
        }
    }

    fn later_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    fn tick(&mut self, worker: usize) -> Option<Fetch> {
        let seat = self.memory.seat(worker as u64 + 1);
        self.workers[worker].tick(self.now, &seat).0
    }

    /// Ticks until a fetch begins or the time is over, and says when that was.
    fn tick_until_fetch(&mut self, worker: usize, ms_max: u64) -> Option<(u64, Fetch)> {
        (0..=ms_max / TICK_MS).find_map(|ticks| {
            if ticks > 0 {
                self.later_ms(TICK_MS);
            }
            self.tick(worker).map(|fetch| (ticks * TICK_MS, fetch))
        })
    }

    fn on_response(
        &mut self,
        worker: usize,
        fetch: &Fetch,
        answer: Result<HttpResponse<'_>, FetchError>,
    ) -> (FetchProgress, KeyChange) {
        let seat = self.memory.seat(worker as u64 + 1);
        self.workers[worker].on_response(fetch.number, answer, self.now, &seat)
    }

    fn brings(&mut self, worker: usize, fetch: &Fetch, body: &str) -> FetchProgress {
        self.brings_with(worker, fetch, &[], body)
    }

    fn brings_with(&mut self, worker: usize, fetch: &Fetch, headers: &[(&str, &str)], body: &str) -> FetchProgress {
        let mut all = vec![(":status", &b"200"[..])];
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let answer = HttpResponse {
            headers: &all,
            body: body.as_bytes(),
        };
        self.on_response(worker, fetch, Ok(answer)).0
    }

    fn fails(&mut self, worker: usize, fetch: &Fetch) {
        let progress = self.on_response(worker, fetch, Err(FetchError::EndpointUnreachable)).0;
        assert_eq!(progress, FetchProgress::Failed(FetchError::EndpointUnreachable));
    }

    /// Fetches this set by the first worker.
    fn with_keys(mut self, numbers: &[u8]) -> Self {
        let fetch = self.tick(0).unwrap();
        assert!(matches!(
            self.brings(0, &fetch, &key_set(numbers)),
            FetchProgress::Fetched { .. }
        ));
        self
    }

    fn finds(&self, worker: usize, number: u8) -> Result<(), MissingKey> {
        let id = format!("k{number}");
        let found = self.workers[worker].find(Some(&id), TokenAlgorithm::Es256, self.now);
        found.map(|_| ())
    }

    /// A request arrives whose key is unknown.
    fn request_newer(&mut self, worker: usize) -> Option<KeyWait> {
        self.want_since(worker, self.now)
    }

    fn want_since(&mut self, worker: usize, since: Timestamp) -> Option<KeyWait> {
        self.workers[worker].request_newer(since, self.now)
    }

    fn is_over(&self, worker: usize, wait: &KeyWait) -> bool {
        self.workers[worker].is_over(wait, self.now)
    }
}

fn has(keys: usize) -> FetchProgress {
    FetchProgress::Fetched {
        keys,
        left_out: Default::default(),
    }
}

#[test]
fn keys_are_there_when_they_were_fetched_and_not_before() {
    let mut world = World::new(&settings(), 1);
    assert_eq!(world.finds(0, 1), Err(MissingKey::Unavailable));
    let fetch = world.tick(0).unwrap();
    assert_eq!(
        (fetch.cluster.as_str(), fetch.timeout_ms, &fetch.location),
        ("issuer", 5_000, &location("https://keys.example/jwks"))
    );
    assert_eq!(world.finds(0, 1), Err(MissingKey::Unavailable));
    assert_eq!(world.brings(0, &fetch, &key_set(&[1, 2])), has(2));
    assert_eq!((world.finds(0, 1), world.finds(0, 2)), (Ok(()), Ok(())));
    assert_eq!(world.finds(0, 3), Err(MissingKey::Unknown));
}

#[test]
fn one_worker_fetches_for_all() {
    let mut world = World::new(&settings(), 3);
    let fetch = world.tick(1).unwrap();
    for _ in 0..8 {
        world.later_ms(TICK_MS);
        assert_eq!((world.tick(0), world.tick(1), world.tick(2)), (None, None, None));
    }
    world.brings(1, &fetch, &key_set(&[1]));
    world.later_ms(TICK_MS);
    assert_eq!((world.tick(0), world.tick(1), world.tick(2)), (None, None, None));
    for worker in 0..3 {
        assert_eq!(world.finds(worker, 1), Ok(()), "{worker}");
    }
}

/// A worker that has read the memory before the others wrote.
struct Hasty<'b>(Seat<'b>);

impl SharedMemory for Hasty<'_> {
    fn worker(&self) -> u64 {
        self.0.worker()
    }

    fn read(&self, _: &str) -> Option<SharedEntry> {
        None
    }

    fn replace(&self, slot: &str, bytes: &[u8], read: Option<EntryVersion>) -> Result<(), SharedMemoryError> {
        self.0.replace(slot, bytes, read)
    }

    fn write(&self, slot: &str, bytes: &[u8]) -> Result<(), SharedMemoryError> {
        self.0.write(slot, bytes)
    }
}

#[test]
fn of_workers_that_see_an_empty_board_at_once_one_fetches() {
    let mut world = World::new(&settings(), 1);
    let mut other = RemoteKeys::new(settings());
    assert!(world.tick(0).is_some());
    assert_eq!(other.tick(world.now, &Hasty(world.memory.seat(9))).0, None);
}

#[test]
fn a_new_worker_starts_on_what_is_there() {
    let mut world = World::new(&settings(), 2).with_keys(&[1]);
    world.later_ms(1);
    let mut fresh = RemoteKeys::new(settings());
    assert_eq!(fresh.start(world.now, &world.memory.seat(9)), KeyChange::NoneRemoved);
    assert!(fresh.find(Some("k1"), TokenAlgorithm::Es256, world.now).is_ok());
    assert_eq!(fresh.tick(world.now, &world.memory.seat(9)).0, None);
    // Another source has another set.
    let mut other = RemoteKeys::new(RemoteKeySettings {
        cluster: "other".to_owned(),
        ..settings()
    });
    let _ = other.start(world.now, &world.memory.seat(9));
    let found = other.find(Some("k1"), TokenAlgorithm::Es256, world.now);
    assert_eq!(found.map(|_| ()), Err(MissingKey::Unavailable));
}

#[test]
fn a_worker_that_died_blocks_the_others_for_its_lease_only() {
    let mut world = World::new(&settings(), 2);
    let lost = world.tick(0).unwrap();
    let (waited_ms, fetch) = world.tick_until_fetch(1, 60_000).unwrap();
    assert_eq!(waited_ms, LEASE_MS);
    assert_eq!(world.brings(1, &fetch, &key_set(&[1])), has(1));
    // It was only slow: what it brings comes too late, whether it has seen the newer set or not.
    world.later_ms(TICK_MS);
    let mut slow = world.workers[0].clone();
    let (headers, body) = ([(":status", &b"200"[..])], key_set(&[2]));
    let answer = HttpResponse {
        headers: &headers,
        body: body.as_bytes(),
    };
    let progress = slow
        .on_response(lost.number, Ok(answer), world.now, &world.memory.seat(1))
        .0;
    assert_eq!(progress, FetchProgress::Late);
    assert_eq!(world.tick(0), None);
    assert_eq!(world.brings(0, &lost, &body), FetchProgress::Late);
    world.later_ms(TICK_MS);
    assert_eq!((world.tick(0), world.tick(1)), (None, None));
    assert_eq!((world.finds(0, 1), world.finds(1, 1)), (Ok(()), Ok(())));
    assert_eq!(
        (world.finds(0, 2), world.finds(1, 2)),
        (Err(MissingKey::Unknown), Err(MissingKey::Unknown))
    );
}

#[test]
fn a_set_is_refreshed_when_four_fifths_of_its_life_are_over() {
    let check = |cache_control: &str, expected_ms: u64| {
        let mut world = World::new(&settings(), 1);
        let fetch = world.tick(0).unwrap();
        world.brings_with(0, &fetch, &[("cache-control", cache_control)], &key_set(&[1]));
        let (waited_ms, _) = world.tick_until_fetch(0, MAX_STALE_MS).unwrap();
        // A worker looks once a second.
        assert!(
            (expected_ms..=expected_ms + 1_000).contains(&waited_ms),
            "{cache_control}: {waited_ms}"
        );
    };
    check("public", CACHE_MS / 5 * 4);
    check("max-age=100", 80_000);
    check("max-age=86400", CACHE_MS / 5 * 4);
    check("max-age=0", REFETCH_INTERVAL_MS / 5 * 4);
    check("no-store", REFETCH_INTERVAL_MS / 5 * 4);
}

#[test]
fn failures_are_spaced_out_to_a_minute() {
    let mut world = World::new(&settings(), 1);
    let mut fetch = world.tick(0).unwrap();
    for expected_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        world.fails(0, &fetch);
        assert_eq!(world.finds(0, 1), Err(MissingKey::Unavailable));
        let (waited_ms, next) = world.tick_until_fetch(0, 120_000).unwrap();
        assert_eq!(waited_ms, expected_ms);
        fetch = next;
    }
    world.brings(0, &fetch, &key_set(&[1]));
    let (_, fetch) = world.tick_until_fetch(0, MAX_STALE_MS).unwrap();
    world.fails(0, &fetch);
    let (waited_ms, _) = world.tick_until_fetch(0, 120_000).unwrap();
    assert_eq!(waited_ms, 1_000, "a success forgets the failures");
}

#[test]
fn stale_keys_serve_for_a_bounded_time() {
    let mut world = World::new(&settings(), 2).with_keys(&[1]);
    let start = world.now;
    let mut fetches = 0;
    while world.now.plus_ms(1_000) < start.plus_ms(MAX_STALE_MS) {
        world.later_ms(1_000);
        for worker in 0..2 {
            if let Some(fetch) = world.tick(worker) {
                fetches += 1;
                world.fails(worker, &fetch);
            }
            assert_eq!(world.finds(worker, 1), Ok(()));
        }
    }
    assert!((40..70).contains(&fetches), "{fetches}");
    world.now = start.plus_ms(MAX_STALE_MS - 1);
    assert_eq!((world.finds(0, 1), world.finds(1, 1)), (Ok(()), Ok(())));
    world.later_ms(1);
    assert_eq!(world.finds(0, 1), Err(MissingKey::Unavailable));
    assert_eq!(world.finds(1, 1), Err(MissingKey::Unavailable));
    // A worker that comes now does not start on them.
    let mut fresh = RemoteKeys::new(settings());
    let _ = fresh.start(world.now, &world.memory.seat(9));
    assert_eq!(fresh.asked_at(), None);
    // And when the endpoint is back, they are back.
    let (_, fetch) = world.tick_until_fetch(0, 61_000).unwrap();
    world.brings(0, &fetch, &key_set(&[1]));
    assert_eq!(world.finds(0, 1), Ok(()));
}

#[test]
fn an_unknown_key_is_asked_for_at_a_bounded_rate() {
    let check = |settings: &RemoteKeySettings, interval_ms: u64| {
        let mut world = World::new(settings, 3).with_keys(&[1]);
        let mut begun_at = Vec::new();
        let start = world.now;
        // A minute of key ids that do not exist, at every worker.
        while world.now < start.plus_ms(60_000) {
            world.later_ms(TICK_MS);
            for worker in 0..3 {
                world.request_newer(worker);
                if let Some(fetch) = world.tick(worker) {
                    begun_at.push(world.now.as_ms() - start.as_ms());
                    world.brings(worker, &fetch, &key_set(&[1]));
                }
            }
        }
        let expected = usize::try_from(60_000 / interval_ms).unwrap();
        assert!((expected - 2..=expected).contains(&begun_at.len()), "{begun_at:?}");
        let mut before = 0;
        for at in begun_at {
            assert!(at - before >= interval_ms, "{before} {at}");
            before = at;
        }
    };
    check(&settings(), UNKNOWN_KEY_INTERVAL_MS);
    let shorter = RemoteKeySettings {
        refetch_interval_ms: 1_000,
        ..settings()
    };
    check(&shorter, 1_000);
}

/// Whatever strangers ask for, and however long: who comes with a new key waits no longer than for
/// the next fetch.
#[test]
fn made_up_keys_hold_up_a_new_one_for_no_longer_than_it_waits() {
    for after_ms in [0, 1, 250, 999, 1_999, 2_000, 2_001, 10_000, 61_000] {
        let mut world = World::new(&settings(), 2).with_keys(&[1]);
        world.later_ms(UNKNOWN_KEY_INTERVAL_MS);
        assert!(world.tick(1).is_none());
        let start = world.now;
        let mut next_tick = world.now;
        let mut valid: Option<(Timestamp, KeyWait)> = None;
        loop {
            let is_rotated = world.now >= start.plus_ms(after_ms);
            // A stranger's, in each millisecond.
            world.request_newer(0);
            if is_rotated && valid.is_none() {
                assert_eq!(world.finds(1, 2), Err(MissingKey::Unknown));
                valid = world.request_newer(1).map(|wait| (world.now, wait));
            }
            if world.now >= next_tick {
                next_tick = world.now.plus_ms(TICK_MS);
                for worker in 0..2 {
                    if let Some(fetch) = world.tick(worker) {
                        let numbers: &[u8] = if is_rotated { &[1, 2] } else { &[1] };
                        world.brings(worker, &fetch, &key_set(numbers));
                    }
                }
            }
            if let Some((since, wait)) = &mut valid
                && world.is_over(1, wait)
            {
                if world.finds(1, 2) == Ok(()) {
                    let waited_ms = world.now.as_ms() - since.as_ms();
                    assert!(
                        waited_ms <= UNKNOWN_KEY_INTERVAL_MS + 2 * TICK_MS,
                        "{after_ms}: {waited_ms}"
                    );
                    break;
                }
                // A fetch that had begun before it arrived.
                let since = *since;
                *wait = world.want_since(1, since).expect("it is refused too early");
            }
            world.later_ms(1);
        }
    }
}

#[test]
fn a_request_waits_for_a_set_that_was_asked_for_after_its_arrival() {
    let mut world = World::new(&settings(), 2).with_keys(&[1]);
    world.later_ms(UNKNOWN_KEY_INTERVAL_MS);
    assert!(world.tick(1).is_none());
    world.request_newer(0);
    let under_way = world.tick(0).unwrap();
    world.later_ms(10);
    let since = world.now;
    let wait = world.request_newer(1).unwrap();
    assert!(world.tick(1).is_none() && !world.is_over(1, &wait));
    // An older set is tried, and waited on.
    world.brings(0, &under_way, &key_set(&[1]));
    world.later_ms(TICK_MS);
    assert!(world.tick(1).is_none() && world.is_over(1, &wait));
    let wait = world.want_since(1, since).unwrap();
    let (waited_ms, fetch) = world.tick_until_fetch(1, 60_000).unwrap();
    assert!(waited_ms <= UNKNOWN_KEY_INTERVAL_MS, "{waited_ms}");
    assert!(!world.is_over(1, &wait));
    world.brings(1, &fetch, &key_set(&[1]));
    assert!(world.is_over(1, &wait));
    assert_eq!(world.want_since(1, since), None, "the set is newer than the request");
    // So nothing more is fetched for it.
    for _ in 0..100 {
        world.later_ms(TICK_MS);
        assert_eq!((world.tick(0), world.tick(1)), (None, None));
    }
}

#[test]
fn a_request_waits_for_a_bounded_time() {
    let with_timeout = |timeout_ms| RemoteKeySettings {
        timeout_ms,
        ..settings()
    };
    for (settings, expected_ms) in [
        (settings(), WAIT_MS),
        (with_timeout(1), UNKNOWN_KEY_INTERVAL_MS + 1),
        (with_timeout(60_000), WAIT_MS_MAX),
        (discovered(), WAIT_MS_MAX),
    ] {
        let mut world = World::new(&settings, 1);
        let fetch = world.tick(0).unwrap();
        let wait = world.request_newer(0).expect("the first set is waited for as well");
        world.later_ms(expected_ms - 1);
        assert!(!world.is_over(0, &wait));
        world.later_ms(1);
        assert!(world.is_over(0, &wait));
        let since = wait.since;
        assert_eq!(world.want_since(0, since), None);
        drop(fetch);
        // A clock that is set back does not make it longer.
        world.now = Timestamp::from_ms(since.as_ms() - 1);
        assert!(world.is_over(0, &wait));
    }
}

#[test]
fn nobody_waits_for_an_endpoint_that_is_down() {
    for first in [&[][..], &[1]] {
        let mut world = World::new(&settings(), 1);
        if !first.is_empty() {
            world = world.with_keys(first);
            world.later_ms(UNKNOWN_KEY_INTERVAL_MS);
        }
        let wait = world.request_newer(0).unwrap();
        let fetch = world.tick(0).unwrap();
        world.fails(0, &fetch);
        assert!(!world.is_over(0, &wait), "one failure is no more than bad luck");
        let (_, fetch) = world.tick_until_fetch(0, 2_000).unwrap();
        world.fails(0, &fetch);
        assert!(world.is_over(0, &wait));
        assert_eq!(world.request_newer(0), None);
        let (_, fetch) = world.tick_until_fetch(0, 60_000).unwrap();
        world.brings(0, &fetch, &key_set(&[1]));
        world.later_ms(1);
        assert!(world.request_newer(0).is_some());
    }
}

#[test]
fn a_new_key_is_found_soon_after_it_was_missed() {
    let mut world = World::new(&settings(), 2).with_keys(&[1]);
    world.later_ms(UNKNOWN_KEY_INTERVAL_MS);
    let _ = world.tick(1);
    assert_eq!(world.finds(1, 2), Err(MissingKey::Unknown));
    assert!(world.request_newer(1).is_some());
    let fetch = world.tick(1).unwrap();
    world.brings(1, &fetch, &key_set(&[2]));
    assert_eq!(
        (world.finds(1, 2), world.finds(1, 1)),
        (Ok(()), Err(MissingKey::Unknown))
    );
    // The other worker misses it as well, and finds it at its next tick, without a fetch.
    assert_eq!(world.finds(0, 2), Err(MissingKey::Unknown));
    let wait = world.request_newer(0).unwrap();
    assert!(!world.is_over(0, &wait));
    assert_eq!(world.tick(0), None);
    assert!(world.is_over(0, &wait));
    assert_eq!(world.finds(0, 2), Ok(()));
    // Nothing is wanted any more.
    world.later_ms(REFETCH_INTERVAL_MS);
    assert_eq!((world.tick(0), world.tick(1)), (None, None));
}

#[test]
fn a_failing_endpoint_is_not_asked_more_often_because_a_key_is_unknown() {
    let mut world = World::new(&settings(), 1).with_keys(&[1]);
    for expected_ms in [2_000, 2_000, 2_000, 4_000, 8_000, 16_000] {
        world.later_ms(TICK_MS);
        world.request_newer(0);
        let (waited_ms, fetch) = world.tick_until_fetch(0, 120_000).unwrap();
        assert_eq!(waited_ms + TICK_MS, expected_ms);
        world.fails(0, &fetch);
    }
    assert_eq!(world.finds(0, 1), Ok(()));
}

#[test]
fn a_document_that_is_no_key_set_replaces_nothing() {
    let with = |extra: Value| json!({"keys": [jwk(2), extra]}).to_string();
    let private = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"});
    let many: Vec<_> = (0..101).map(|_| jwk(2)).collect();
    let documents = [
        String::new(),
        "<html>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"keys":{}}"#.to_owned(),
        r#"{"keys":[]}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#.to_owned(),
        key_set(&[2]).replacen('{', r#"{"keys":[],"#, 1),
        json!({"keys": many}).to_string(),
        with(private),
        with(json!({"kty": "oct", "k": "AA"})),
        with(json!({"kty": "RSA", "use": "enc", "d": "AA"})),
        format!("{}{}", key_set(&[2]), " ".repeat(DOCUMENT_BYTES_MAX)),
    ];
    for document in documents {
        let mut world = World::new(&settings(), 2).with_keys(&[1]);
        let (_, fetch) = world.tick_until_fetch(0, CACHE_MS).unwrap();
        match world.brings(0, &fetch, &document) {
            FetchProgress::Failed(error) => assert_eq!(error.result(), FetchResult::Invalid, "{document}"),
            other @ (FetchProgress::Next(_) | FetchProgress::Fetched { .. } | FetchProgress::Late) => {
                panic!("{document}: {other:?}")
            }
        }
        world.later_ms(TICK_MS);
        let _ = world.tick(1);
        for worker in 0..2 {
            let found = (world.finds(worker, 1), world.finds(worker, 2));
            assert_eq!(found, (Ok(()), Err(MissingKey::Unknown)), "{document}");
        }
    }
}

#[test]
fn a_bad_key_does_not_take_the_good_ones_with_it() {
    let mut world = World::new(&settings(), 1);
    let fetch = world.tick(0).unwrap();
    let mut twin = jwk(3);
    twin["kid"] = "k1".into();
    let document = json!({"keys": [
        {"kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB"},
        jwk(1),
        {"kty": "PQC", "kid": "of another kind"},
        {"kty": "EC", "crv": "P-256", "kid": "off", "x": "AA", "y": "AA"},
        "no object",
        twin,
        jwk(2),
    ]});
    let FetchProgress::Fetched { keys, left_out } = world.brings(0, &fetch, &document.to_string()) else {
        panic!("refused");
    };
    let paths: Vec<_> = left_out
        .as_slice()
        .iter()
        .map(|Problem { path, .. }| path.as_str())
        .collect();
    assert_eq!((keys, paths), (3, vec!["keys[0].n", "keys[3].x", "keys[4].kty"]));
    assert_eq!((world.finds(0, 1), world.finds(0, 2)), (Ok(()), Ok(())));
}

#[test]
fn discovery_finds_the_set_where_the_metadata_say() {
    let mut world = World::new(&discovered(), 1);
    let fetch = world.tick(0).unwrap();
    assert_eq!(
        fetch.location,
        location("https://issuer.example/a/.well-known/openid-configuration")
    );
    let metadata = json!({"issuer": ISSUER, "jwks_uri": "https://keys.example/k?v=2"}).to_string();
    world.later_ms(4_000);
    let FetchProgress::Next(next) = world.brings(0, &fetch, &metadata) else {
        panic!("no second fetch");
    };
    assert_eq!(
        (next.location.clone(), next.cluster.as_str()),
        (location("https://keys.example/k?v=2"), "issuer")
    );
    // The answer to the first question is none to the second.
    assert_eq!(world.brings(0, &fetch, &key_set(&[2])), FetchProgress::Late);
    assert_eq!(world.brings(0, &next, &key_set(&[1])), has(1));
    assert_eq!(
        (world.finds(0, 1), world.finds(0, 2)),
        (Ok(()), Err(MissingKey::Unknown))
    );
    // What was true was true when the first question was asked.
    assert_eq!(world.workers[0].asked_at(), Some(Timestamp::from_s(1_800_000_000)));
}

#[test]
fn metadata_of_another_issuer_lead_nowhere() {
    for metadata in [
        json!({"issuer": "https://issuer.example/", "jwks_uri": "https://keys.example/k"}),
        json!({"issuer": ISSUER, "jwks_uri": "http://keys.example/k"}),
        json!({"issuer": ISSUER, "jwks_uri": "https://user@keys.example/k"}),
        json!({"issuer": ISSUER}),
    ] {
        let mut world = World::new(&discovered(), 1);
        let fetch = world.tick(0).unwrap();
        match world.brings(0, &fetch, &metadata.to_string()) {
            FetchProgress::Failed(error) => assert_eq!(error.result(), FetchResult::Invalid, "{metadata}"),
            other @ (FetchProgress::Next(_) | FetchProgress::Fetched { .. } | FetchProgress::Late) => {
                panic!("{metadata}: {other:?}")
            }
        }
        let (waited_ms, fetch) = world.tick_until_fetch(0, 60_000).unwrap();
        assert_eq!(
            (waited_ms, fetch.location.path.as_str()),
            (1_000, "/a/.well-known/openid-configuration")
        );
    }
}

#[test]
fn a_status_other_than_200_is_a_failure() {
    for status in ["201", "301", "404", "500", "504"] {
        let mut world = World::new(&settings(), 1);
        let fetch = world.tick(0).unwrap();
        let (headers, body) = ([(":status", status.as_bytes())], key_set(&[1]));
        let answer = HttpResponse {
            headers: &headers,
            body: body.as_bytes(),
        };
        let progress = world.on_response(0, &fetch, Ok(answer)).0;
        assert_eq!(
            progress,
            FetchProgress::Failed(FetchError::EndpointStatus(status.parse().unwrap()))
        );
        assert_eq!(world.finds(0, 1), Err(MissingKey::Unavailable));
    }
}

#[test]
fn what_a_stranger_wrote_into_the_board_is_not_believed() {
    let mut world = World::new(&settings(), 1).with_keys(&[1]);
    let (control, document) = (world.memory.slot("control"), world.memory.slot("document"));
    // A document from the end of time, with another key, and a control that claims all of the
    // future.
    let mut forged = u64::MAX.to_le_bytes().to_vec();
    forged.extend(u64::MAX.to_le_bytes());
    forged.extend(key_set(&[2]).into_bytes());
    for bytes in [&[0xff; 48][..], &[0xff; 47], b"", b"x"] {
        world.memory.put(&control, bytes);
        world.memory.put(&document, &forged);
        let mut fresh = RemoteKeys::new(settings());
        let seat = world.memory.seat(9);
        let fetch = fresh.tick(world.now, &seat).0;
        assert_eq!(fresh.asked_at(), None, "{bytes:?}");
        assert!(fetch.is_some(), "it holds nobody up: {bytes:?}");
    }
    // With credible times, what is in it is still read as strictly as an answer.
    let secret = json!({"keys": [jwk(2), {"kty": "oct", "k": "AA"}]}).to_string();
    let at = world.now.plus_ms(1).as_ms().to_le_bytes();
    let head: Vec<u8> = at.iter().chain(&u64::MAX.to_le_bytes()).copied().collect();
    let numbers = [0, 0, 0, 0, 0, world.now.plus_ms(1).as_ms()];
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    world.memory.put(&control, &bytes);
    world.memory.put(&document, &[head, secret.into_bytes()].concat());
    world.later_ms(2_000);
    assert_eq!(world.tick(0), None);
    assert_eq!(
        (world.finds(0, 1), world.finds(0, 2)),
        (Ok(()), Err(MissingKey::Unknown))
    );
}

#[test]
fn without_shared_memory_each_worker_fetches_for_itself() {
    let mut world = World::new(&settings(), 2);
    world.memory.is_missing.set(true);
    for worker in 0..2 {
        let fetch = world.tick(worker).unwrap();
        assert_eq!(world.tick(worker), None);
        world.brings(worker, &fetch, &key_set(&[1]));
        assert_eq!(world.finds(worker, 1), Ok(()));
        world.later_ms(UNKNOWN_KEY_INTERVAL_MS - TICK_MS);
        assert!(world.request_newer(worker).is_some());
        assert_eq!(world.tick(worker), None);
        world.later_ms(TICK_MS);
        assert!(world.tick(worker).is_some());
    }
}

#[test]
fn without_a_clock_nothing_is_begun_and_nothing_serves() {
    let mut world = World::new(&settings(), 1).with_keys(&[1]);
    let now = world.now;
    world.now = Timestamp::from_ms(u64::MAX);
    assert_eq!((world.tick(0), world.finds(0, 1)), (None, Err(MissingKey::Unavailable)));
    world.now = now;
    assert_eq!(world.finds(0, 1), Ok(()));
}

#[test]
fn a_clock_that_is_set_back_does_not_make_keys_younger() {
    let mut world = World::new(&settings(), 1).with_keys(&[1]);
    let day_ms = 86_400_000;
    // A tick on which nothing is due plans the next look.
    world.later_ms(1_000);
    assert!(world.tick(0).is_none());
    world.now = Timestamp::from_ms(world.now.as_ms() - day_ms);
    assert!(world.tick(0).is_none() || world.finds(0, 1).is_ok());
    world.later_ms(1_000);
    let _ = world.tick(0);
    world.later_ms(MAX_STALE_MS);
    assert_eq!(world.finds(0, 1), Err(MissingKey::Unavailable));
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_does_not_end_the_fetching() {
    let mut world = World::new(&settings(), 2).with_keys(&[1]);
    let (now, year_ms) = (world.now, 31_536_000_000);
    world.later_ms(10 * year_ms);
    // The second worker plans to look again, as the first one fetches.
    let _ = (world.tick(0), world.tick(1));
    world.now = now;
    world.later_ms(MAX_STALE_MS);
    let mut fetch = None;
    // Whatever was planned while the clock was ahead, a fetch begins within the longest pause
    // between two.
    for _ in 0..120 {
        fetch = fetch.or_else(|| world.tick(1));
        world.later_ms(1_000);
    }
    assert!(fetch.is_some());
}

#[test]
fn it_says_when_a_key_is_gone() {
    let mut world = World::new(&settings(), 2).with_keys(&[1, 2]);
    let mut turn = |numbers: &[u8]| {
        world.later_ms(CACHE_MS);
        let fetch = world.tick(0).unwrap();
        let (headers, body) = ([(":status", &b"200"[..])], key_set(numbers));
        let answer = HttpResponse {
            headers: &headers,
            body: body.as_bytes(),
        };
        world.on_response(0, &fetch, Ok(answer)).1
    };
    assert_eq!(turn(&[2, 1]), KeyChange::NoneRemoved);
    assert_eq!(turn(&[1, 2, 3]), KeyChange::NoneRemoved);
    assert_eq!(turn(&[2, 3]), KeyChange::SomeRemoved);
    assert_eq!(turn(&[2, 3]), KeyChange::NoneRemoved);
}
