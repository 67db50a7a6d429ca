//! A bounded cache whose entries expire. A flood of keys that come once does not evict those that
//! come often, and no expired entry is returned.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::SeedableRandomState;
use picket_model::time::Timestamp;
use quick_cache::unsync::Cache as QuickCache;
use quick_cache::{Lifecycle, UnitWeighter};

/// A bounded cache. Its hashes are seeded by the caller, as clients choose the keys.
///
/// Eviction is that of `quick_cache` (S3-FIFO with CLOCK-PRO's ghosts). With more keys in turn than
/// its capacity, the cache still serves most of its entries, where a least-recently-used list would
/// serve none.
pub struct Cache<K: Hash + Eq, V> {
    entries: QuickCache<K, Entry<V>, UnitWeighter, SeedableRandomState, CountEvictions>,
    evictions: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    ends_at: Timestamp,
}

/// Counts the entries that are evicted before they expire.
#[derive(Clone, Copy, Debug)]
struct CountEvictions;

struct Evictions {
    now: Timestamp,
    count: u64,
}

impl Default for Evictions {
    fn default() -> Self {
        Self {
            now: Timestamp::from_ms(0),
            count: 0,
        }
    }
}

impl<K, V> Lifecycle<K, Entry<V>> for CountEvictions {
    type RequestState = Evictions;

    fn on_evict(&self, evictions: &mut Evictions, _key: K, entry: Entry<V>) {
        if evictions.now < entry.ends_at {
            evictions.count = evictions.count.saturating_add(1);
        }
    }
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// An empty cache of at most `entries_max` entries.
    #[must_use]
    pub fn new(entries_max: NonZeroUsize, seed: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed());
        let entries_max = entries_max.get();
        let weight_max = u64::try_from(entries_max).unwrap_or(u64::MAX);
        Self {
            entries: QuickCache::with(entries_max, weight_max, UnitWeighter, hasher, CountEvictions),
            evictions: 0,
        }
    }

    /// The value, unless it has expired.
    pub fn get<Q>(&self, key: &Q, now: Timestamp) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries
            .get(key)
            .filter(|entry| now < entry.ends_at)
            .map(|entry| &entry.value)
    }

    /// Inserts a value that does not expire. A full cache evicts another entry.
    pub fn put_without_end(&mut self, key: K, value: V) {
        self.put(key, value, Timestamp::from_ms(u64::MAX), Timestamp::from_ms(0));
    }

    /// Inserts a value until `ends_at`. A full cache evicts another entry.
    pub fn put(&mut self, key: K, value: V, ends_at: Timestamp, now: Timestamp) {
        let mut evictions = Evictions { now, count: 0 };
        self.entries
            .insert_with_lifecycle(key, Entry { value, ends_at }, &mut evictions);
        self.evictions = self.evictions.saturating_add(evictions.count);
    }

    /// Removes an entry.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.remove(key);
    }

    /// Removes every entry for which `is_removed` is true. Reads all entries, so it is for rare
    /// events.
    pub fn remove_where(&mut self, is_removed: impl Fn(&K, &V) -> bool) {
        self.entries.retain(|key, entry| !is_removed(key, &entry.value));
    }

    /// How many entries were evicted before they expired, since the last call.
    pub fn take_evictions(&mut self) -> u64 {
        std::mem::take(&mut self.evictions)
    }

    /// The number of entries, expired ones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K: Hash + Eq, V> fmt::Debug for Cache<K, V> {
    /// Keys may be credentials: only their number is written.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cache")
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(0);
    const END: Timestamp = Timestamp::from_ms(100);

    fn cache<V>(entries_max: usize) -> Cache<u64, V> {
        Cache::new(NonZeroUsize::new(entries_max).unwrap(), 1)
    }

    #[test]
    fn serves_until_the_end_and_not_at_it() {
        let mut cache = cache(1);
        cache.put(1, 7, END, NOW);
        assert_eq!(cache.get(&1, Timestamp::from_ms(99)), Some(&7));
        assert_eq!(cache.get(&1, END), None);
    }

    #[test]
    fn a_removed_entry_is_not_served() {
        let mut cache = cache(1);
        cache.put(1, 7, END, NOW);
        cache.remove(&1);
        assert_eq!(cache.get(&1, NOW), None);
        assert!(cache.is_empty());
    }

    #[test]
    fn an_ended_entry_is_not_served() {
        let mut cache = cache(4);
        for key in [1, 2, 3] {
            cache.put(key, key, END, NOW);
        }
        cache.remove_where(|_, value| value % 2 == 1);
        assert_eq!(
            [1, 2, 3].map(|key| cache.get(&key, NOW).copied()),
            [None, Some(2), None]
        );
        cache.put(1, 1, END, NOW);
        assert_eq!(cache.get(&1, NOW), Some(&1));
    }

    /// How many of the last round's look-ups were served, in rounds over `keys` keys in turn.
    fn hits_of_rounds(entries_max: usize, keys: u64) -> usize {
        let mut cache = cache(entries_max);
        let mut hits = 0;
        for round in 0..20 {
            hits = 0;
            for key in 0..keys {
                if cache.get(&key, NOW).is_some() {
                    hits += 1;
                } else {
                    cache.put(key, (), END, NOW);
                }
                assert!(cache.len() <= entries_max, "round {round}");
            }
        }
        hits
    }

    #[test]
    fn every_entry_that_has_room_is_served() {
        for entries_max in [1, 2, 3, 10, 1_000] {
            assert_eq!(hits_of_rounds(entries_max, entries_max as u64), entries_max);
        }
    }

    #[test]
    fn more_keys_in_turn_than_room_are_served_in_part() {
        assert!(hits_of_rounds(1_000, 1_200) > 700);
        assert!(hits_of_rounds(1_000, 2_000) > 700);
    }

    #[test]
    fn a_flood_of_new_keys_does_not_push_out_those_in_use() {
        let mut cache = cache(100);
        for key in 0..50 {
            cache.put(key, (), END, NOW);
            assert!(cache.get(&key, NOW).is_some());
        }
        for flood in 1_000..6_000 {
            cache.put(flood, (), END, NOW);
            let key = flood % 50;
            assert!(cache.get(&key, NOW).is_some(), "{key} was pushed out");
        }
    }

    #[test]
    fn evictions_are_counted_unless_the_entry_had_ended() {
        let mut cache = cache(2);
        for key in 0..5 {
            cache.put(key, (), END, NOW);
        }
        assert_eq!((cache.len(), cache.take_evictions()), (2, 3));
        cache.put(1, (), END, NOW);
        let _no_matter = cache.take_evictions();
        for key in 5..7 {
            cache.put(key, (), END, END);
        }
        assert_eq!((cache.len(), cache.take_evictions()), (2, 0));
    }
}
