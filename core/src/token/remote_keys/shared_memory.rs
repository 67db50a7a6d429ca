//! The state of a key set that the workers of one proxy share: the lease for fetching it, the
//! results of fetches, and the document.
//!
//! Other plugins of the proxy can write to this memory, so its content is checked like a response
//! from the network.

use std::fmt;

use picket_model::time::Timestamp;

use super::response::DOCUMENT_BYTES_MAX;

/// Memory of the host that the workers of one proxy share.
pub trait SharedMemory {
    /// A number that no other worker of this proxy has; never 0.
    fn worker(&self) -> u64;

    /// The content of a slot. `None`: it is empty, or the host has no such memory.
    fn read(&self, slot: &str) -> Option<SharedEntry>;

    /// Writes a slot if it has not changed since it was read. `None`: if it was empty.
    ///
    /// # Errors
    /// [`SharedMemoryError`].
    fn replace(&self, slot: &str, bytes: &[u8], read: Option<EntryVersion>) -> Result<(), SharedMemoryError>;

    /// Writes a slot, whatever its content is.
    ///
    /// # Errors
    /// [`SharedMemoryError::Unavailable`].
    fn write(&self, slot: &str, bytes: &[u8]) -> Result<(), SharedMemoryError>;
}

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEntry {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their version.
    pub version: EntryVersion,
}

/// The version of a slot's content. Each write makes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryVersion(pub u32);

/// Why a slot was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharedMemoryError {
    /// Another worker has written it since.
    #[error("another worker was first")]
    Overtaken,
    /// The host has no memory to share.
    #[error("the host has no shared memory")]
    Unavailable,
}

/// How far the clock of another worker may be ahead.
pub(super) const CLOCK_TOLERANCE_MS: u64 = 5_000;
/// The version of the format, so that versions of Picket in one proxy do not read each other's
/// slots.
const FORMAT: u32 = 1;
const CONTROL_BYTES: usize = 6 * 8;
const DOCUMENT_HEAD_BYTES: usize = 2 * 8;
const DOES_NOT_SAY: u64 = u64::MAX;

/// The names of the two slots of a key set. They hold its origin: providers, filters and
/// configurations of one proxy share a set if they would fetch the same.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) control: String,
    pub(super) document: String,
}

impl Slots {
    pub(super) fn of(origin: impl fmt::Display) -> Self {
        Self {
            control: format!("picket.keys.{FORMAT}.control {origin}"),
            document: format!("picket.keys.{FORMAT}.document {origin}"),
        }
    }
}

/// The lease for fetching, and the results of fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchControl {
    /// The worker with the lease; 0: none.
    pub(super) holder: u64,
    /// Until then no other worker fetches.
    pub(super) lease_ends_at: Timestamp,
    /// When the last fetch began, whatever its result.
    pub(super) attempted_at: Timestamp,
    /// After a failure no worker fetches before this time.
    pub(super) not_before: Timestamp,
    /// The number of failed fetches since the last success.
    pub(super) failures: u64,
    /// When the published document was requested; 0: none has been published.
    pub(super) document_at: Timestamp,
}

impl FetchControl {
    pub(super) const NONE: Self = Self {
        holder: 0,
        lease_ends_at: Timestamp::from_ms(0),
        attempted_at: Timestamp::from_ms(0),
        not_before: Timestamp::from_ms(0),
        failures: 0,
        document_at: Timestamp::from_ms(0),
    };

    pub(super) fn encode(&self) -> Vec<u8> {
        let times = [self.lease_ends_at, self.attempted_at, self.not_before].map(Timestamp::as_ms);
        let numbers = [self.holder]
            .into_iter()
            .chain(times)
            .chain([self.failures, self.document_at.as_ms()]);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// `None`: it has another form.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != CONTROL_BYTES {
            return None;
        }
        let (numbers, _) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        Some(Self {
            holder: numbers.next()?,
            lease_ends_at: Timestamp::from_ms(numbers.next()?),
            attempted_at: Timestamp::from_ms(numbers.next()?),
            not_before: Timestamp::from_ms(numbers.next()?),
            failures: numbers.next()?,
            document_at: Timestamp::from_ms(numbers.next()?),
        })
    }

    /// Without impossible times, from a clock that has been set back since, or from another
    /// program.
    pub(super) fn possible_at(self, now: Timestamp, bounds: &FetchControlBounds) -> Self {
        let possible = |time: Timestamp, ahead_ms: u64| match time > now.plus_ms(ahead_ms + CLOCK_TOLERANCE_MS) {
            true => Timestamp::from_ms(0),
            false => time,
        };
        Self {
            lease_ends_at: possible(self.lease_ends_at, bounds.lease_ms),
            attempted_at: possible(self.attempted_at, 0),
            not_before: possible(self.not_before, bounds.backoff_ms),
            document_at: possible(self.document_at, 0),
            ..self
        }
    }
}

/// How far the times of a control may lie ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchControlBounds {
    pub(super) lease_ms: u64,
    pub(super) backoff_ms: u64,
}

/// A fetched document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedDocument<'a> {
    /// When it was requested.
    pub(super) asked_at: Timestamp,
    /// Its freshness lifetime by the response, in seconds.
    pub(super) fresh_for_s: Option<u64>,
    /// The key set, as it was sent.
    pub(super) body: &'a [u8],
}

impl<'a> SharedDocument<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DOCUMENT_HEAD_BYTES + self.body.len());
        bytes.extend(self.asked_at.as_ms().to_le_bytes());
        bytes.extend(self.fresh_for_s.unwrap_or(DOES_NOT_SAY).to_le_bytes());
        bytes.extend(self.body);
        bytes
    }

    /// `None`: it has another form, or a time in the future.
    pub(super) fn decode(bytes: &'a [u8], now: Timestamp) -> Option<Self> {
        let (asked_at, rest) = bytes.split_first_chunk::<8>()?;
        let (fresh_for_s, body) = rest.split_first_chunk::<8>()?;
        let asked_at = Timestamp::from_ms(u64::from_le_bytes(*asked_at));
        let is_possible = asked_at <= now.plus_ms(CLOCK_TOLERANCE_MS) && body.len() <= DOCUMENT_BYTES_MAX;
        is_possible.then(|| Self {
            asked_at,
            fresh_for_s: Some(u64::from_le_bytes(*fresh_for_s)).filter(|seconds| *seconds != DOES_NOT_SAY),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: FetchControlBounds = FetchControlBounds {
        lease_ms: 10_000,
        backoff_ms: 60_000,
    };

    #[test]
    fn what_is_written_is_read() {
        let at = Timestamp::from_ms;
        let control = FetchControl {
            holder: 7,
            lease_ends_at: at(1_001),
            attempted_at: at(1_000),
            not_before: at(1_002),
            failures: 3,
            document_at: at(999),
        };
        assert_eq!(FetchControl::decode(&control.encode()), Some(control));
        assert_eq!(control.possible_at(at(1_000), &BOUNDS), control);
        for fresh_for_s in [None, Some(0), Some(600)] {
            let document = SharedDocument {
                asked_at: at(1_000),
                fresh_for_s,
                body: b"{}",
            };
            assert_eq!(SharedDocument::decode(&document.encode(), at(1_000)), Some(document));
        }
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let now = Timestamp::from_ms(1_000_000);
        let far = now.plus_ms(86_400_000);
        let control = FetchControl {
            holder: 7,
            lease_ends_at: far,
            attempted_at: far,
            not_before: far,
            failures: 3,
            document_at: far,
        };
        let expected = FetchControl {
            holder: 7,
            failures: 3,
            ..FetchControl::NONE
        };
        assert_eq!(control.possible_at(now, &BOUNDS), expected);
        assert_eq!(FetchControl::decode(b""), None);
        assert_eq!(FetchControl::decode(&[0; CONTROL_BYTES + 1]), None);
        let document = SharedDocument {
            asked_at: far,
            fresh_for_s: None,
            body: b"{}",
        };
        assert_eq!(SharedDocument::decode(&document.encode(), now), None);
        let large = SharedDocument {
            asked_at: now,
            fresh_for_s: None,
            body: &[b' '; DOCUMENT_BYTES_MAX + 1],
        };
        assert_eq!(SharedDocument::decode(&large.encode(), now), None);
        assert_eq!(SharedDocument::decode(b"short", now), None);
    }
}
