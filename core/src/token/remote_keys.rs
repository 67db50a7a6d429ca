//! Key sets that are fetched over HTTP. A set is refreshed before it expires, and fetched again for
//! an unknown key id. It stops serving when no fetch has succeeded for too long: tokens without a
//! key are refused.
//!
//! A state machine without I/O. The host calls [`RemoteKeys::tick`] regularly, sends the fetches
//! that it returns, and passes the responses to [`RemoteKeys::on_response`]. The workers of a proxy
//! share a [`SharedMemory`]: a lease in it says which of them fetches, and the others adopt the
//! document that it publishes.

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

/// The period in which a worker reads the shared memory while it has keys.
const READ_PERIOD_MS: u64 = 1_000;
/// The first wait after a failure; each further one doubles it.
const BACKOFF_MS_MIN: u64 = 1_000;
/// The longest wait after a failure.
const BACKOFF_MS_MAX: u64 = 60_000;
/// The time of a lease beyond the time-outs of its requests.
const LEASE_MARGIN_MS: u64 = 2_000;
/// A key set is refreshed when this part of its life is over, in percent: early enough to fail a
/// few times.
const REFRESH_AT_PERCENT: u64 = 80;
/// The longest interval between two fetches for unknown keys. Requests wait for the second one, so
/// invented key ids delay a new key by no more than this.
pub(crate) const UNKNOWN_KEY_INTERVAL_MS_MAX: u64 = 2_000;
/// The longest time that a request waits for a key set.
pub(crate) const KEY_WAIT_MS_MAX: u64 = 10_000;
/// After more failures in a row no request waits for keys: the endpoint is down.
const FAILURES_WAITED_FOR_MAX: u64 = 1;
/// The time of a host without a clock: no fetch begins.
const END_OF_TIME: Timestamp = Timestamp::from_ms(u64::MAX);

/// The origin of a key set, and its lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeySettings {
    /// The place of the set.
    pub origin: KeySetOrigin,
    /// The Envoy cluster that every request goes through, 1 to 125 visible ASCII characters.
    pub cluster: String,
    /// How long to wait for an answer.
    pub timeout_ms: u32,
    /// The lifetime of a key set, unless the response has a shorter one. The set is refreshed
    /// before its end.
    pub cache_ms: u64,
    /// The longest time that a set serves after it was requested.
    pub max_stale_ms: u64,
    /// The lower limit of lifetimes. Unknown keys cause at most one fetch in this time, or in two
    /// seconds where that is less.
    pub refetch_interval_ms: u64,
}

/// The place of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetOrigin {
    /// At this location.
    At(Location),
    /// At the `jwks_uri` of the issuer's metadata.
    Discovered {
        /// The location of the metadata.
        metadata: Location,
        /// The issuer, which the metadata must name.
        issuer: String,
        /// The schemes that `jwks_uri` may have.
        schemes: AllowedSchemes,
    },
}

/// The keys of one provider in one worker.
#[derive(Clone, Debug)]
pub struct RemoteKeys {
    settings: RemoteKeySettings,
    slots: Slots,
    current: Option<FetchedKeys>,
    /// A token had a key id that is not in the set.
    is_newer_requested: bool,
    under_way: Option<UnderWay>,
    /// Ticks before this time do nothing.
    next_tick_at: Timestamp,
    /// The state of fetches of all workers, as it was read or written last.
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

/// A GET request for the host to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Its number among the provider's fetches, which identifies the response.
    pub number: u64,
    /// The Envoy cluster.
    pub cluster: String,
    /// How long to wait.
    pub timeout_ms: u32,
    /// The location in the cluster.
    pub location: Location,
}

/// The result of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchProgress {
    /// The metadata were read: this is the request for the key set.
    Next(Fetch),
    /// There is a new key set.
    Fetched {
        /// The number of usable keys.
        keys: usize,
        /// The problems of keys that are not usable.
        left_out: Problems,
    },
    /// The keys are unchanged. Another fetch follows.
    Failed(FetchError),
    /// The response came after the end of its lease, and is ignored.
    Late,
}

/// Whether keys were removed from a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum KeyChange {
    /// No key was removed.
    NoneRemoved,
    /// Keys were removed: tokens that were verified with them must be verified again.
    SomeRemoved,
}

/// The wait of a request for a newer key set than the one at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWait {
    /// When the request arrived.
    pub since: Timestamp,
    ends_at: Timestamp,
    /// When the set without the key was requested. `None`: there is no set.
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
    /// The identity of a key set, for its slots in the shared memory.
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

    /// The time of the next [`RemoteKeys::tick`] that does anything.
    #[must_use]
    pub fn next_tick_at(&self) -> Timestamp {
        self.next_tick_at
    }

    /// When the keys were requested.
    #[must_use]
    pub fn asked_at(&self) -> Option<Timestamp> {
        self.current.as_ref().map(|current| current.asked_at)
    }

    /// The keys for a token, and the end of their service unless they are fetched again.
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

    /// Whether this key object is in the set, also where the set does not serve any more.
    #[must_use]
    pub fn contains(&self, key: &Rc<VerificationKey>) -> bool {
        self.current.as_ref().is_some_and(|current| current.keys.contains(key))
    }

    /// Requests a newer set, for a request that arrived at `since` and whose token no key verifies.
    /// Returns the request's wait. `None`: the set is newer than the request, or no set is expected
    /// in time.
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

    /// Whether a request need not wait any longer: there is another set, the time is over, or the
    /// endpoint is down.
    #[must_use]
    pub fn is_over(&self, wait: &KeyWait, now: Timestamp) -> bool {
        // A time before the wait means that the clock was set back.
        let is_in_time = (wait.since..wait.ends_at).contains(&now);
        !is_in_time || self.asked_at() != wait.set_at || self.control.failures > FAILURES_WAITED_FOR_MAX
    }

    /// Adopts a document that another worker has published, and returns the fetch that is due.
    pub fn tick(&mut self, now: Timestamp, memory: &dyn SharedMemory) -> (Option<Fetch>, KeyChange) {
        // A tick that is planned later than this was planned by a clock that was ahead.
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
            // Read again at once where another worker fetches, or where requests wait.
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

    /// Adopts a document that another worker has published, at the start of this one.
    pub fn start(&mut self, now: Timestamp, memory: &dyn SharedMemory) -> KeyChange {
        self.read_shared(now, memory).1
    }

    /// Takes the response to the fetch of this number, or the failure of it.
    pub fn on_response(
        &mut self,
        fetch: u64,
        answer: Result<HttpResponse<'_>, FetchError>,
        now: Timestamp,
        memory: &dyn SharedMemory,
    ) -> (FetchProgress, KeyChange) {
        // After the end of its lease another worker may have published a newer set.
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

    /// Whether the set is due for a refresh.
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
            // Limited by failures alone.
            true => Timestamp::from_ms(0),
            // Callers choose key ids, so these fetches have their own rate.
            false => attempted_at.plus_ms(self.unknown_key_interval_ms()),
        };
        lease_ends_at.max(not_before).max(interval_ends_at)
    }

    /// Handles keys from the future, which would serve for too long: their time counts from now,
    /// and a refresh is due. Tokens that were verified with them expire too late as well, and are
    /// verified again.
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

    /// Reads the shared memory, and adopts a newer document. Returns the version of the control
    /// that was read.
    ///
    /// An invalid document is ignored: the worker that fetched it has reported it, or another
    /// program wrote it.
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

    /// Acquires the lease, and begins a fetch.
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

    /// INVARIANT: the only function that sets keys. They are those of a complete document, and
    /// serve for `max_stale_ms` after it was requested.
    fn adopt(&mut self, document: &SharedDocument<'_>, keys: KeySet, now: Timestamp) -> KeyChange {
        let asked_at = document.asked_at.min(now);
        let life_ms = document
            .fresh_for_s
            .map_or(self.settings.cache_ms, |s| s.saturating_mul(1000));
        // The lower limit wins, whatever the settings are.
        let life_ms = life_ms
            .min(self.settings.cache_ms)
            .max(self.settings.refetch_interval_ms);
        // A request whose key is not in this set requests another one.
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

    /// Publishes a document to the other workers, unless a newer one is there.
    fn publish(&mut self, document: &SharedDocument<'_>, now: Timestamp, memory: &dyn SharedMemory) {
        let (posted, version) = self.read_control(now, memory);
        if posted.document_at < document.asked_at {
            // A worker that cannot read it fetches for itself.
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
            // The lease has expired: the result of its next holder counts.
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

    /// The control in the shared memory with its version, or where there is none, the one of this
    /// worker.
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

    /// Writes the control, and releases the lease if this worker holds it.
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
        // A worker that has acquired the expired lease writes its own result.
        let _ = memory.replace(&self.slots.control, &self.control.encode(), version);
        self.next_tick_at = Timestamp::from_ms(0);
    }

    fn serves_until(&self, asked_at: Timestamp) -> Timestamp {
        asked_at.plus_ms(self.settings.max_stale_ms)
    }

    fn lease_ms(&self) -> u64 {
        self.fetch_ms_max() + LEASE_MARGIN_MS
    }

    /// The longest duration of a fetch.
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

    /// The longest wait of a request: until the next fetch may begin, and for its response.
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
