//! What a principal has been seen with: a few keys, with when each was first and last seen.

use serde::{Deserialize, Serialize};

/// When a key was first seen, where it is the principal's own from the start.
const ALWAYS: u32 = 0;

/// At most `MAX` keys. What is not yet settled makes room first, then what was not seen for
/// longest: who tries many new places does not push out the principal's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "Vec<Entry<K>>",
    into = "Vec<Entry<K>>",
    bound(serialize = "K: Clone + Serialize", deserialize = "K: Deserialize<'de>")
)]
pub(super) struct Sightings<K, const MAX: usize>(Vec<Entry<K>>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(K, u32, u32)",
    into = "(K, u32, u32)",
    bound(serialize = "K: Clone + Serialize", deserialize = "K: Deserialize<'de>")
)]
struct Entry<K> {
    key: K,
    first_s: u32,
    last_s: u32,
}

/// How long keys count as new, and how long they are kept in mind.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoveltyWindows {
    pub(super) settles_after_s: u32,
    pub(super) remembered_for_s: u32,
}

/// Whether a key is usual when it is recorded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyOrigin {
    /// Its own: there was nothing to compare it with.
    Own,
    /// New, until it has settled.
    New,
}

/// How new a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    /// It was seen long enough ago.
    Settled,
    /// It has not been seen, or not for so long that it was forgotten.
    First,
    /// It was first seen so many seconds ago.
    Recent(u32),
}

/// A saved list holds more than is kept.
#[derive(Debug, thiserror::Error)]
#[error("{found} entries, and at most {max} are kept")]
pub(super) struct TooMany {
    pub(super) found: usize,
    pub(super) max: usize,
}

impl<K: PartialEq, const MAX: usize> Sightings<K, MAX> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys, with when each was first (`None`: its own from the start) and last seen.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, Option<u32>, u32)> {
        self.0.iter().map(|entry| {
            let first = (entry.first_s != ALWAYS).then_some(entry.first_s);
            (&entry.key, first, entry.last_s)
        })
    }

    pub(super) fn novelty(&self, key: &K, now_s: u32, windows: NoveltyWindows) -> Novelty {
        match self.0.iter().find(|entry| entry.key == *key) {
            None => Novelty::First,
            Some(entry) if entry.is_forgotten(now_s, windows) => Novelty::First,
            Some(entry) if entry.is_settled(now_s, windows) => Novelty::Settled,
            Some(entry) => Novelty::Recent(now_s.saturating_sub(entry.first_s)),
        }
    }

    /// Records a key as used now.
    pub(super) fn record(&mut self, key: K, origin: KeyOrigin, now_s: u32, windows: NoveltyWindows) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.key == key) {
            if entry.is_forgotten(now_s, windows) {
                entry.first_s = now_s;
            }
            entry.last_s = entry.last_s.max(now_s);
            return;
        }
        if self.0.len() >= MAX {
            self.make_room(now_s, windows);
        }
        let first_s = match origin {
            KeyOrigin::Own => ALWAYS,
            KeyOrigin::New => now_s.max(1),
        };
        self.0.push(Entry {
            key,
            first_s,
            last_s: now_s,
        });
    }

    fn make_room(&mut self, now_s: u32, windows: NoveltyWindows) {
        let least = (0..self.0.len()).min_by_key(|index| {
            let entry = self.0.get(*index);
            entry.map(|entry| (entry.is_settled(now_s, windows), entry.last_s))
        });
        if let Some(index) = least {
            self.0.swap_remove(index);
        }
    }
}

impl<K> Entry<K> {
    fn is_settled(&self, now_s: u32, windows: NoveltyWindows) -> bool {
        self.first_s == ALWAYS || now_s.saturating_sub(self.first_s) >= windows.settles_after_s
    }

    fn is_forgotten(&self, now_s: u32, windows: NoveltyWindows) -> bool {
        now_s.saturating_sub(self.last_s) > windows.remembered_for_s
    }
}

impl<K, const MAX: usize> Default for Sightings<K, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, const MAX: usize> TryFrom<Vec<Entry<K>>> for Sightings<K, MAX> {
    type Error = TooMany;

    fn try_from(entries: Vec<Entry<K>>) -> Result<Self, TooMany> {
        match entries.len() {
            found if found > MAX => Err(TooMany { found, max: MAX }),
            _ => Ok(Self(entries)),
        }
    }
}

impl<K, const MAX: usize> From<Sightings<K, MAX>> for Vec<Entry<K>> {
    fn from(seen: Sightings<K, MAX>) -> Self {
        seen.0
    }
}

impl<K> From<(K, u32, u32)> for Entry<K> {
    fn from((key, first_s, last_s): (K, u32, u32)) -> Self {
        Self { key, first_s, last_s }
    }
}

impl<K> From<Entry<K>> for (K, u32, u32) {
    fn from(entry: Entry<K>) -> Self {
        (entry.key, entry.first_s, entry.last_s)
    }
}
