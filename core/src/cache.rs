//! A bounded map whose entries end: the least recently used one makes room, and nothing is served past its end.

use std::borrow::Borrow;
use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::SeedableRandomState;
use lru::LruCache;

use crate::time::Timestamp;

/// A bounded cache. Its hashes are seeded by the caller, as clients choose the keys.
#[derive(Debug)]
pub struct Cache<K: Hash + Eq, V> {
    entries: LruCache<K, Entry<V>, SeedableRandomState>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    ends_at: Timestamp,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// An empty cache of at most `entries_max` entries.
    #[must_use]
    pub fn new(entries_max: NonZeroUsize, seed: u64) -> Self {
        let hasher = SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed());
        Self {
            entries: LruCache::with_hasher(entries_max, hasher),
        }
    }

    /// The value, unless it has ended.
    pub fn get<Q>(&mut self, key: &Q, now: Timestamp) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries
            .get(key)
            .filter(|entry| now < entry.ends_at)
            .map(|entry| &entry.value)
    }

    /// Keeps a value until `ends_at`.
    pub fn put(&mut self, key: K, value: V, ends_at: Timestamp) {
        self.entries.put(key, Entry { value, ends_at });
    }

    /// Forgets an entry.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.pop(key);
    }

    /// Ends every entry whose value is to end. Looks at all of them: for what happens rarely.
    pub fn end_where(&mut self, is_to_end: impl Fn(&V) -> bool) {
        for (_, entry) in self.entries.iter_mut().filter(|(_, entry)| is_to_end(&entry.value)) {
            entry.ends_at = Timestamp::from_ms(0);
        }
    }

    /// How many entries it holds, ended ones among them.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_until_the_end_and_not_at_it() {
        let mut cache = Cache::new(NonZeroUsize::MIN, 1);
        cache.put("k".to_owned(), 7, Timestamp::from_ms(100));
        assert_eq!(cache.get("k", Timestamp::from_ms(99)), Some(&7));
        assert_eq!(cache.get("k", Timestamp::from_ms(100)), None);
    }

    #[test]
    fn what_is_removed_is_not_served() {
        let mut cache = Cache::new(NonZeroUsize::MIN, 1);
        cache.put("k".to_owned(), 7, Timestamp::from_ms(100));
        cache.remove("k");
        assert_eq!(cache.get("k", Timestamp::from_ms(0)), None);
        assert!(cache.is_empty());
    }

    #[test]
    fn what_is_to_end_is_not_served() {
        let mut cache = Cache::new(NonZeroUsize::new(4).unwrap(), 1);
        let (now, end) = (Timestamp::from_ms(0), Timestamp::from_ms(100));
        for key in [1, 2, 3] {
            cache.put(key, key, end);
        }
        cache.end_where(|value| value % 2 == 1);
        assert_eq!(
            [1, 2, 3].map(|key| cache.get(&key, now).copied()),
            [None, Some(2), None]
        );
        cache.put(1, 1, end);
        assert_eq!(cache.get(&1, now), Some(&1));
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut cache = Cache::new(NonZeroUsize::new(2).unwrap(), 1);
        let (now, end) = (Timestamp::from_ms(0), Timestamp::from_ms(100));
        for key in [1, 2] {
            cache.put(key, key, end);
        }
        assert_eq!(cache.get(&1, now), Some(&1));
        cache.put(3, 3, end);
        assert_eq!(cache.get(&1, now), Some(&1));
        assert_eq!(cache.get(&2, now), None);
        assert_eq!(cache.len(), 2);
    }
}
