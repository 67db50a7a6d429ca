//! Key sets that are fetched: refreshed before they run out, fetched again for an unknown key id, and gone when no fetch has
//! succeeded for too long. No key, no permit.
//!
//! A state machine without I/O. The edge calls [`RemoteKeys::tick`] now and then, sends what it asks for, and hands the
//! answer to [`RemoteKeys::answered`]. The workers of a proxy agree by a [`SharedMemory`] on which of them fetches, and the
//! others take over what it posts.

pub mod location;
pub mod response;
pub mod shared_memory;

use std::fmt;
use std::rc::Rc;

use crate::jose::algorithm::TokenAlgorithm;
use crate::jose::keys::{KeySet, MatchingKeys, VerificationKey};
use location::{AllowedSchemes, Location};
use picket_model::problems::Problems;
use picket_model::time::Timestamp;
use response::{FetchError, HttpResponse};
use shared_memory::{
    CLOCK_TOLERANCE_MS, FetchControl, FetchControlBounds, SharedDocument, SharedMemory, SharedMemoryError, Slots,
};

/// How often a worker looks at what the others have posted, while it has keys.
const READ_PERIOD_MS: u64 = 1_000;
/// The first wait after a failure; each further one doubles it.
const BACKOFF_MS_MIN: u64 = 1_000;
/// The longest.
const BACKOFF_MS_MAX: u64 = 60_000;
/// What a lease lasts longer than the answers that it waits for.
const LEASE_MARGIN_MS: u64 = 2_000;
/// A key set is refreshed when this part of its life is over, in percent: early enough to fail a few times.
const REFRESH_AT_PERCENT: u64 = 80;
/// The longest time between two fetches for unknown keys. Requests wait for the second one, so
/// whoever makes up key ids holds up a new key by no more than this.
const UNKNOWN_KEY_INTERVAL_MS_MAX: u64 = 2_000;
/// The longest time that a request waits for a key set.
const KEY_WAIT_MS_MAX: u64 = 10_000;
/// After more failures in a row no request waits: the endpoint is down.
const FAILURES_WAITED_FOR_MAX: u64 = 1;
/// Where the host knows no time, nothing is begun.
const END_OF_TIME: Timestamp = Timestamp::from_ms(u64::MAX);

/// Where a key set is fetched, and for how long it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeySettings {
    /// Where it is.
    pub origin: KeySetOrigin,
    /// The Envoy cluster that every request goes through, 1 to 125 visible ASCII characters.
    pub cluster: String,
    /// How long to wait for an answer.
    pub timeout_ms: u32,
    /// The life of a key set, unless the answer says a shorter one; it is refreshed before.
    pub cache_ms: u64,
    /// How long after the last fetch that succeeded it serves at most.
    pub max_stale_ms: u64,
    /// No answer's life is shorter. An unknown key leads to a fetch at most once in this time, or
    /// in two seconds where that is less.
    pub refetch_interval_ms: u64,
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetOrigin {
    /// Here.
    At(Location),
    /// Where the issuer's metadata say.
    Discovered {
        /// The metadata.
        metadata: Location,
        /// The issuer, which the metadata must name.
        issuer: String,
        /// What the metadata may point to.
        schemes: AllowedSchemes,
    },
}

/// The keys of one provider, as one worker knows them.
#[derive(Clone, Debug)]
pub struct RemoteKeys {
    settings: RemoteKeySettings,
    slots: Slots,
    current: Option<FetchedKeys>,
    /// There was a token whose key is not in the set.
    is_newer_requested: bool,
    under_way: Option<UnderWay>,
    /// Before this time a tick has nothing to do.
    next_tick_at: Timestamp,
    /// The last that is known of the fetches, by whichever worker.
    control: FetchControl,
    fetches: u64,
}

#[derive(Clone, Debug)]
struct FetchedKeys {
    keys: KeySet,
    asked_at: Timestamp,
    refresh_at: Timestamp,
    ends_at: Timestamp,
}

#[derive(Clone, Debug)]
struct UnderWay {
    fetch: u64,
    step: FetchStep,
    asked_at: Timestamp,
    ends_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchStep {
    Metadata,
    KeySet,
}

/// A GET request that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which one of the provider's: its answer is known by it.
    pub number: u64,
    /// The Envoy cluster.
    pub cluster: String,
    /// How long to wait.
    pub timeout_ms: u32,
    /// Where in it.
    pub location: Location,
}

/// What an answer led to.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchProgress {
    /// The key set is where the metadata say: this is to be sent next.
    Next(Fetch),
    /// There are new keys, but for these, which cannot be used.
    Fetched {
        /// How many keys can be used.
        keys: usize,
        /// What is wrong with those that were left out.
        left_out: Problems,
    },
    /// The keys are as they were, and a later fetch is tried.
    Failed(FetchError),
    /// The answer comes too late to count.
    Late,
}

/// Whether keys that were current before are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum KeyChange {
    /// All that were current are current.
    NoneRemoved,
    /// Some are gone: what was verified with them no longer holds.
    SomeRemoved,
}

/// The wait of a request for a newer key set than there was when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWait {
    /// When the request arrived.
    pub since: Timestamp,
    ends_at: Timestamp,
    /// When the set was asked for that does not have the key; `None`: there is no set.
    set_at: Option<Timestamp>,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingKey {
    /// There is a key set, and none of its keys fits.
    Unknown,
    /// There is no key set, or it is too old.
    Unavailable,
}

impl KeyChange {
    fn and(self, other: Self) -> Self {
        match self {
            Self::NoneRemoved => other,
            Self::SomeRemoved => self,
        }
    }
}

impl fmt::Display for RemoteKeySettings {
    /// What tells one key set from another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.cluster)?;
        match &self.origin {
            KeySetOrigin::At(Location { authority, path }) => write!(f, "at {authority}{path}"),
            KeySetOrigin::Discovered {
                metadata: Location { authority, path },
                issuer,
                schemes,
            } => write!(f, "by {authority}{path} of {issuer} over {schemes}"),
        }
    }
}

impl RemoteKeys {
    /// A key set that has not been fetched yet.
    #[must_use]
    pub fn new(settings: RemoteKeySettings) -> Self {
        Self {
            slots: Slots::of(&settings),
            settings,
            current: None,
            is_newer_requested: false,
            under_way: None,
            next_tick_at: Timestamp::from_ms(0),
            control: FetchControl::NONE,
            fetches: 0,
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &RemoteKeySettings {
        &self.settings
    }

    /// When [`RemoteKeys::tick`] has something to do again.
    #[must_use]
    pub fn next_tick_at(&self) -> Timestamp {
        self.next_tick_at
    }

    /// When the fetch began that brought the keys.
    #[must_use]
    pub fn asked_at(&self) -> Option<Timestamp> {
        self.current.as_ref().map(|current| current.asked_at)
    }

    /// The keys for a token, and until when they serve unless they are fetched again.
    ///
    /// # Errors
    /// [`MissingKey`].
    pub fn find(
        &self,
        id: Option<&str>,
        algorithm: TokenAlgorithm,
        now: Timestamp,
    ) -> Result<(MatchingKeys, Timestamp), MissingKey> {
        let current = self.serving(now).ok_or(MissingKey::Unavailable)?;
        let keys = current.keys.find(id, algorithm).ok_or(MissingKey::Unknown)?;
        Ok((keys, current.ends_at))
    }

    /// Whether a key that [`RemoteKeys::find`] has given still serves.
    ///
    /// # Errors
    /// [`MissingKey`].
    pub fn check_serving(&self, key: &Rc<VerificationKey>, now: Timestamp) -> Result<(), MissingKey> {
        let current = self.serving(now).ok_or(MissingKey::Unavailable)?;
        current.keys.contains(key).then_some(()).ok_or(MissingKey::Unknown)
    }

    /// Whether this very key is in the set, be it served or not.
    #[must_use]
    pub fn contains(&self, key: &Rc<VerificationKey>) -> bool {
        self.current.as_ref().is_some_and(|current| current.keys.contains(key))
    }

    /// A request that arrived at `since` has a token that none of the keys verifies: the set is
    /// fetched again, when it may be. Returns the request's wait. `None`: the set is newer than the
    /// request, or nothing is to be expected in time.
    pub fn request_newer(&mut self, since: Timestamp, now: Timestamp) -> Option<KeyWait> {
        if self.asked_at().is_some_and(|asked_at| asked_at >= since) {
            return None;
        }
        self.is_newer_requested = true;
        self.next_tick_at = self.next_tick_at.min(now);
        let wait = KeyWait {
            since,
            ends_at: since.plus_ms(self.wait_ms()),
            set_at: self.asked_at(),
        };
        (!self.is_over(&wait, now)).then_some(wait)
    }

    /// Whether a request need not wait on: there is another set, the time is over, or the endpoint
    /// is down.
    #[must_use]
    pub fn is_over(&self, wait: &KeyWait, now: Timestamp) -> bool {
        // Before its beginning is after its end: the clock was set back.
        let is_in_time = (wait.since..wait.ends_at).contains(&now);
        !is_in_time || self.asked_at() != wait.set_at || self.control.failures > FAILURES_WAITED_FOR_MAX
    }

    /// Takes over what another worker has posted, and says what this one is to fetch.
    pub fn tick(&mut self, now: Timestamp, memory: &dyn SharedMemory) -> (Option<Fetch>, KeyChange) {
        // No look is ever put off for longer: beyond that the clock was ahead when it was planned.
        let is_planned = now < self.next_tick_at && self.next_tick_at <= now.plus_ms(READ_PERIOD_MS);
        if is_planned || now == END_OF_TIME {
            return (None, KeyChange::NoneRemoved);
        }
        self.next_tick_at = now.plus_ms(READ_PERIOD_MS);
        let set_back = self.handle_clock_set_back(now);
        let (version, change) = self.read_shared(now, memory);
        let change = set_back.and(change);
        if self.under_way.as_ref().is_some_and(|fetch| now < fetch.ends_at)
            || !(self.is_run_out(now) || self.is_newer_requested)
        {
            return (None, change);
        }
        let allowed_at = self.allowed_at(now);
        if now < allowed_at {
            // Where another worker fetches, its document is there soon; where a key is unknown,
            // requests wait for it.
            let is_awaited = self.is_newer_requested || now < self.control.lease_ends_at;
            self.next_tick_at = if is_awaited {
                now
            } else {
                self.next_tick_at.min(allowed_at)
            };
            return (None, change);
        }
        (self.begin(now, memory, version), change)
    }

    /// Takes over what another worker has posted. A new worker starts on it.
    pub fn start(&mut self, now: Timestamp, memory: &dyn SharedMemory) -> KeyChange {
        self.read_shared(now, memory).1
    }

    /// Takes the answer to the fetch of this number, or what became of it.
    pub fn on_response(
        &mut self,
        fetch: u64,
        answer: Result<HttpResponse<'_>, FetchError>,
        now: Timestamp,
        memory: &dyn SharedMemory,
    ) -> (FetchProgress, KeyChange) {
        // Once its lease is over another worker may have brought a newer set.
        let under_way = self.under_way.take_if(|under_way| under_way.fetch == fetch);
        let Some(under_way) = under_way.filter(|under_way| now < under_way.ends_at) else {
            return (FetchProgress::Late, KeyChange::NoneRemoved);
        };
        let result = answer.and_then(|answer| Ok((answer, answer.document()?)));
        let step = match (under_way.step, result) {
            (_, Err(error)) => Err(error),
            (FetchStep::Metadata, Ok((_, metadata))) => self.fetch_key_set(&under_way, metadata),
            (FetchStep::KeySet, Ok((answer, document))) => {
                let document = SharedDocument {
                    asked_at: under_way.asked_at,
                    fresh_for_s: answer.fresh_for_s(),
                    body: document,
                };
                response::key_set(document.body).map(|(keys, left_out)| {
                    let progress = FetchProgress::Fetched {
                        keys: keys.len(),
                        left_out,
                    };
                    let change = self.adopt(&document, keys, now);
                    self.publish(&document, now, memory);
                    (progress, change)
                })
            }
        };
        step.unwrap_or_else(|error| {
            self.fail(now, memory);
            (FetchProgress::Failed(error), KeyChange::NoneRemoved)
        })
    }

    fn serving(&self, now: Timestamp) -> Option<&FetchedKeys> {
        self.current.as_ref().filter(|current| now < current.ends_at)
    }

    /// Whether the keys are to be fetched for their own sake.
    fn is_run_out(&self, now: Timestamp) -> bool {
        self.serving(now).is_none_or(|current| now >= current.refresh_at)
    }

    /// When the next fetch may begin, by any worker.
    fn allowed_at(&self, now: Timestamp) -> Timestamp {
        let FetchControl {
            lease_ends_at,
            not_before,
            attempted_at,
            ..
        } = self.control;
        let interval_ends_at = match self.is_run_out(now) {
            // Failures alone hold it up.
            true => Timestamp::from_ms(0),
            // Callers choose key ids: what they ask for has a rate of its own.
            false => attempted_at.plus_ms(self.unknown_key_interval_ms()),
        };
        lease_ends_at.max(not_before).max(interval_ends_at)
    }

    /// Keys from the future would serve for too long: their time counts from now, and they are due. What was verified with
    /// them has an end in the future as well, and is verified again.
    fn handle_clock_set_back(&mut self, now: Timestamp) -> KeyChange {
        let max_stale_ms = self.settings.max_stale_ms;
        if let Some(current) = &mut self.current
            && current.asked_at > now.plus_ms(CLOCK_TOLERANCE_MS)
        {
            current.keys = current.keys.with_new_identities();
            current.asked_at = now;
            current.refresh_at = now;
            current.ends_at = current.ends_at.min(now.plus_ms(max_stale_ms));
            return KeyChange::SomeRemoved;
        }
        KeyChange::NoneRemoved
    }

    /// Reads the memory, and takes over a newer document. Returns which writing of the control was read.
    ///
    /// A document that is refused here was refused by whoever fetched it, or is a stranger's: nobody is told of it.
    fn read_shared(
        &mut self,
        now: Timestamp,
        memory: &dyn SharedMemory,
    ) -> (Option<shared_memory::EntryVersion>, KeyChange) {
        let (control, version) = self.read_control(now, memory);
        self.control = control;
        let is_newer = |at: Timestamp| self.current.as_ref().is_none_or(|current| at > current.asked_at);
        if self.control.document_at == FetchControl::NONE.document_at || !is_newer(self.control.document_at) {
            return (version, KeyChange::NoneRemoved);
        }
        let posted = memory.read(&self.slots.document);
        let document = posted
            .as_ref()
            .and_then(|posted| SharedDocument::decode(&posted.bytes, now));
        let change = document
            .filter(|document| is_newer(document.asked_at) && now < self.serves_until(document.asked_at))
            .and_then(|document| Some((document, response::key_set(document.body).ok()?)))
            .map_or(KeyChange::NoneRemoved, |(document, (keys, _))| {
                self.adopt(&document, keys, now)
            });
        (version, change)
    }

    /// Takes the lease, and begins to fetch.
    fn begin(
        &mut self,
        now: Timestamp,
        memory: &dyn SharedMemory,
        version: Option<shared_memory::EntryVersion>,
    ) -> Option<Fetch> {
        let control = FetchControl {
            holder: memory.worker(),
            lease_ends_at: now.plus_ms(self.lease_ms()),
            attempted_at: now,
            ..self.control
        };
        match memory.replace(&self.slots.control, &control.encode(), version) {
            // Without shared memory each worker fetches for itself.
            Ok(()) | Err(SharedMemoryError::Unavailable) => {}
            Err(SharedMemoryError::Overtaken) => {
                self.next_tick_at = now;
                return None;
            }
        }
        self.control = control;
        let (step, location) = match &self.settings.origin {
            KeySetOrigin::At(location) => (FetchStep::KeySet, location.clone()),
            KeySetOrigin::Discovered { metadata, .. } => (FetchStep::Metadata, metadata.clone()),
        };
        Some(self.send(step, location, now, control.lease_ends_at))
    }

    fn fetch_key_set(&mut self, begun: &UnderWay, metadata: &[u8]) -> Result<(FetchProgress, KeyChange), FetchError> {
        let KeySetOrigin::Discovered { issuer, schemes, .. } = &self.settings.origin else {
            return Err(FetchError::EndpointUnreachable);
        };
        let location = response::key_set_location(metadata, issuer, *schemes)?;
        let fetch = self.send(FetchStep::KeySet, location, begun.asked_at, begun.ends_at);
        Ok((FetchProgress::Next(fetch), KeyChange::NoneRemoved))
    }

    fn send(&mut self, step: FetchStep, location: Location, asked_at: Timestamp, ends_at: Timestamp) -> Fetch {
        self.fetches = self.fetches.wrapping_add(1);
        self.under_way = Some(UnderWay {
            fetch: self.fetches,
            step,
            asked_at,
            ends_at,
        });
        Fetch {
            number: self.fetches,
            cluster: self.settings.cluster.clone(),
            timeout_ms: self.settings.timeout_ms,
            location,
        }
    }

    /// INVARIANT: the only function that sets keys. They are those of a document that was read whole, and serve for
    /// `max_stale_ms` from when it was asked for.
    fn adopt(&mut self, document: &SharedDocument<'_>, keys: KeySet, now: Timestamp) -> KeyChange {
        let asked_at = document.asked_at.min(now);
        let life_ms = document
            .fresh_for_s
            .map_or(self.settings.cache_ms, |s| s.saturating_mul(1000));
        // The lower bound is the stronger one, whatever the settings are.
        let life_ms = life_ms
            .min(self.settings.cache_ms)
            .max(self.settings.refetch_interval_ms);
        // Whoever still misses a key in this set asks again.
        self.is_newer_requested = false;
        let before = self.current.take().map(|current| current.keys);
        let keys = match &before {
            Some(before) => keys.reusing_keys_of(before),
            None => keys,
        };
        let is_any_gone = before.is_some_and(|before| !before.is_within(&keys));
        self.current = Some(FetchedKeys {
            keys,
            asked_at,
            refresh_at: asked_at.plus_ms(life_ms.saturating_mul(REFRESH_AT_PERCENT) / 100),
            ends_at: self.serves_until(asked_at),
        });
        match is_any_gone {
            true => KeyChange::SomeRemoved,
            false => KeyChange::NoneRemoved,
        }
    }

    /// Tells the other workers of a document, unless a newer one is there.
    fn publish(&mut self, document: &SharedDocument<'_>, now: Timestamp, memory: &dyn SharedMemory) {
        let (posted, version) = self.read_control(now, memory);
        if posted.document_at < document.asked_at {
            // Whoever cannot read it fetches for itself.
            let _ = memory.write(&self.slots.document, &document.encode());
        }
        let control = FetchControl {
            document_at: posted.document_at.max(document.asked_at),
            failures: 0,
            not_before: Timestamp::from_ms(0),
            ..posted
        };
        self.release(control, version, memory);
    }

    fn fail(&mut self, now: Timestamp, memory: &dyn SharedMemory) {
        let (posted, version) = self.read_control(now, memory);
        self.control = posted;
        if posted.holder != memory.worker() {
            // The lease has lapsed: what becomes of its successor counts.
            return;
        }
        let failures = posted.failures.saturating_add(1);
        let control = FetchControl {
            failures,
            not_before: now.plus_ms(backoff_ms(failures)),
            ..posted
        };
        self.release(control, version, memory);
    }

    /// What the memory says, or where it says nothing, what this worker knows; and which writing of it was read.
    fn read_control(
        &self,
        now: Timestamp,
        memory: &dyn SharedMemory,
    ) -> (FetchControl, Option<shared_memory::EntryVersion>) {
        let posted = memory.read(&self.slots.control);
        let version = posted.as_ref().map(|posted| posted.version);
        let control = posted
            .and_then(|posted| FetchControl::decode(&posted.bytes))
            .unwrap_or(self.control);
        (control.possible_at(now, &self.bounds()), version)
    }

    /// Writes the control and gives up the lease, if it is still this worker's.
    fn release(
        &mut self,
        control: FetchControl,
        version: Option<shared_memory::EntryVersion>,
        memory: &dyn SharedMemory,
    ) {
        let is_ours = control.holder == memory.worker();
        self.control = match is_ours {
            true => FetchControl {
                holder: FetchControl::NONE.holder,
                lease_ends_at: FetchControl::NONE.lease_ends_at,
                ..control
            },
            false => control,
        };
        // A worker that has taken the lapsed lease will write what it finds.
        let _ = memory.replace(&self.slots.control, &self.control.encode(), version);
        self.next_tick_at = Timestamp::from_ms(0);
    }

    fn serves_until(&self, asked_at: Timestamp) -> Timestamp {
        asked_at.plus_ms(self.settings.max_stale_ms)
    }

    fn lease_ms(&self) -> u64 {
        self.fetch_ms_max() + LEASE_MARGIN_MS
    }

    /// How long a fetch takes at most.
    fn fetch_ms_max(&self) -> u64 {
        let answers = match self.settings.origin {
            KeySetOrigin::At(_) => 1,
            KeySetOrigin::Discovered { .. } => 2,
        };
        u64::from(self.settings.timeout_ms) * answers
    }

    fn unknown_key_interval_ms(&self) -> u64 {
        self.settings.refetch_interval_ms.min(UNKNOWN_KEY_INTERVAL_MS_MAX)
    }

    /// How long a request waits: until the next fetch may begin, and for its answer.
    fn wait_ms(&self) -> u64 {
        let wait_ms = self.unknown_key_interval_ms() + self.fetch_ms_max();
        wait_ms.min(KEY_WAIT_MS_MAX)
    }

    fn bounds(&self) -> FetchControlBounds {
        FetchControlBounds {
            lease_ms: self.lease_ms(),
            backoff_ms: BACKOFF_MS_MAX,
        }
    }
}

/// One second, doubled by each failure after the first, a minute at most.
fn backoff_ms(failures: u64) -> u64 {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
    BACKOFF_MS_MIN.saturating_mul(factor).min(BACKOFF_MS_MAX)
}
