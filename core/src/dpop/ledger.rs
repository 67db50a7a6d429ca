//! The ledger of used proofs: each is recorded until it expires, within a limit (RFC 9449 §11.1).
//!
//! A table with a fixed number of buckets, each of which is read, changed and written as one value:
//! the shared data of a proxy cannot remove a key. An entry that has not expired is never evicted:
//! a full bucket refuses further proofs.

use picket_model::thumbprint::KeyThumbprint;
use picket_model::time::Timestamp;

use super::mac::{SharedSecret, Use};

/// The number of buckets. It never changes: a table of another size would not find the entries of
/// this one.
pub const BUCKETS: u32 = 1024;
/// The limit of attempts. Of workers that change a bucket at the same time one succeeds in each
/// round, and the others try again: the limit exceeds the number of workers.
const ROUNDS_MAX: u32 = 256;
const TAG_BYTES: usize = 12;
const ENTRY_BYTES: usize = TAG_BYTES + 4;

/// Records used proofs.
pub trait ProofLedger: std::fmt::Debug {
    /// Records a proof until `ends_at`.
    ///
    /// # Errors
    /// [`LedgerError`]: the proof must be refused.
    fn remember(&mut self, proof: ProofId, ends_at: Timestamp, now: Timestamp) -> Result<(), LedgerError>;
}

/// Why a proof could not be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    /// It was used before.
    Known,
    /// The limit is reached.
    Full,
    /// The table could not be read or written.
    Unavailable,
}

/// The id of a proof in the ledger: thumbprint and `jti`, hashed with the sidecar's secret, so that
/// no client can choose its bucket or find a collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofId {
    bucket: u32,
    tag: [u8; TAG_BYTES],
}

/// The content of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Its entries.
    pub bytes: Vec<u8>,
    /// Its version; `None`: it has never been written.
    pub version: Option<u32>,
}

/// Why a bucket was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// Another worker wrote it since it was read.
    Raced,
    /// The store failed.
    Unavailable,
}

/// The storage of buckets, by their number below [`BUCKETS`].
pub trait BucketStore: std::fmt::Debug {
    /// Reads a bucket. `None`: the store failed.
    fn read(&self, bucket: u32) -> Option<Bucket>;

    /// Writes a bucket if its version is still the one that was read.
    ///
    /// # Errors
    /// [`WriteError`]: it is as it was.
    fn write(&mut self, bucket: u32, bytes: &[u8], version: Option<u32>) -> Result<(), WriteError>;
}

/// A ledger on any store.
#[derive(Debug)]
pub struct BucketLedger<S> {
    store: S,
    bucket_entries_max: usize,
}

impl ProofId {
    /// The id of a proof by this key with this `jti`. The same `jti` with another key is another
    /// proof: clients cannot use up each other's.
    #[must_use]
    pub(super) fn new(secret: &SharedSecret, key: &KeyThumbprint, proof_id: &str) -> Self {
        let mac = secret.mac(Use::ProofId, &key.0, proof_id.as_bytes());
        let [b0, b1, b2, b3, tag @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = mac;
        Self {
            bucket: u32::from_le_bytes([b0, b1, b2, b3]) % BUCKETS,
            tag,
        }
    }
}

impl<S: BucketStore> BucketLedger<S> {
    /// A ledger of at most `entries_max` proofs, rounded up to a multiple of [`BUCKETS`].
    #[must_use]
    pub fn new(store: S, entries_max: u32) -> Self {
        let bucket_entries_max = entries_max.div_ceil(BUCKETS).max(1);
        Self {
            store,
            bucket_entries_max: usize::try_from(bucket_entries_max).unwrap_or(1),
        }
    }
}

impl<S: BucketStore> ProofLedger for BucketLedger<S> {
    fn remember(&mut self, proof: ProofId, ends_at: Timestamp, now: Timestamp) -> Result<(), LedgerError> {
        for _ in 0..ROUNDS_MAX {
            let bucket = self.store.read(proof.bucket).ok_or(LedgerError::Unavailable)?;
            let bytes = with_entry(&bucket.bytes, proof.tag, ends_at, now, self.bucket_entries_max)?;
            match self.store.write(proof.bucket, &bytes, bucket.version) {
                Ok(()) => return Ok(()),
                Err(WriteError::Raced) => {}
                Err(WriteError::Unavailable) => return Err(LedgerError::Unavailable),
            }
        }
        Err(LedgerError::Unavailable)
    }
}

/// The entries that have not ended, and this one. An entry: its tag, then the first whole second in
/// which it has ended.
fn with_entry(
    bytes: &[u8],
    tag: [u8; TAG_BYTES],
    ends_at: Timestamp,
    now: Timestamp,
    entries_max: usize,
) -> Result<Vec<u8>, LedgerError> {
    let (entries, []) = bytes.as_chunks::<ENTRY_BYTES>() else {
        // Not written here.
        return Err(LedgerError::Unavailable);
    };
    let now_s = now.as_ms() / 1000;
    let mut kept = Vec::with_capacity(bytes.len().saturating_add(ENTRY_BYTES));
    for entry in entries {
        let [known @ .., b0, b1, b2, b3] = entry;
        if u64::from(u32::from_le_bytes([*b0, *b1, *b2, *b3])) <= now_s {
            continue;
        }
        if *known == tag {
            return Err(LedgerError::Known);
        }
        kept.extend_from_slice(entry);
    }
    if kept.len() / ENTRY_BYTES >= entries_max {
        return Err(LedgerError::Full);
    }
    kept.extend_from_slice(&tag);
    // The last second of these four bytes is in the year 2106.
    let ends_at_s = u32::try_from(ends_at.as_ms().div_ceil(1000)).unwrap_or(u32::MAX);
    kept.extend_from_slice(&ends_at_s.to_le_bytes());
    Ok(kept)
}

/// Buckets in the memory of one worker: for a program that has no other, and for tests.
#[derive(Debug, Default)]
pub struct LocalBuckets(std::collections::BTreeMap<u32, Vec<u8>>);

impl BucketStore for LocalBuckets {
    fn read(&self, bucket: u32) -> Option<Bucket> {
        Some(Bucket {
            bytes: self.0.get(&bucket).cloned().unwrap_or_default(),
            version: None,
        })
    }

    fn write(&mut self, bucket: u32, bytes: &[u8], _version: Option<u32>) -> Result<(), WriteError> {
        self.0.insert(bucket, bytes.to_vec());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn id(key: char, proof_id: &str) -> ProofId {
        let key = KeyThumbprint::from_base64url(&format!("{key}{}", "A".repeat(42))).unwrap();
        ProofId::new(&SharedSecret::new([7; 32]), &key, proof_id)
    }

    fn in_one_bucket(number: u8) -> ProofId {
        ProofId {
            bucket: 5,
            tag: [number; TAG_BYTES],
        }
    }

    fn ledger(entries_max: u32) -> BucketLedger<LocalBuckets> {
        BucketLedger::new(LocalBuckets::default(), entries_max)
    }

    #[test]
    fn a_proof_is_taken_once_until_it_ends_and_not_forgotten_before() {
        let mut ledger = ledger(1);
        let mut remember = |ms| ledger.remember(id('k', "j"), START.plus_ms(60_500), START.plus_ms(ms));
        assert_eq!(remember(0), Ok(()));
        for ms in [0, 1, 60_000, 60_499, 60_999] {
            assert_eq!(remember(ms), Err(LedgerError::Known), "{ms}");
        }
        assert_eq!(remember(61_000), Ok(()));
    }

    #[test]
    fn other_proofs_are_others() {
        let mut ledger = ledger(BUCKETS);
        let mut remember = |proof| ledger.remember(proof, START.plus_ms(60_000), START);
        assert_eq!(remember(id('a', "j")), Ok(()));
        assert_eq!(remember(id('b', "j")), Ok(()));
        assert_eq!(remember(id('a', "k")), Ok(()));
        assert_eq!(remember(id('a', "j")), Err(LedgerError::Known));
    }

    #[test]
    fn a_full_bucket_refuses_and_has_room_again_when_its_proofs_end() {
        let mut ledger = ledger(2 * BUCKETS);
        let mut remember = |number, ms: u64| {
            let now = START.plus_ms(ms);
            ledger.remember(in_one_bucket(number), now.plus_ms(60_000), now)
        };
        assert_eq!((remember(1, 0), remember(2, 30_000)), (Ok(()), Ok(())));
        assert_eq!(remember(3, 59_000), Err(LedgerError::Full));
        // What is known is still known.
        assert_eq!(remember(1, 59_000), Err(LedgerError::Known));
        assert_eq!(remember(3, 61_000), Ok(()));
        assert_eq!(remember(4, 61_000), Err(LedgerError::Full));
    }

    #[test]
    fn the_number_of_entries_bounds_the_memory() {
        let mut ledger = ledger(BUCKETS);
        let refused = (0..4 * BUCKETS)
            .filter(|number| {
                let proof = id('k', &number.to_string());
                ledger.remember(proof, START.plus_ms(60_000), START) == Err(LedgerError::Full)
            })
            .count();
        let kept: usize = ledger.store.0.values().map(|bytes| bytes.len() / ENTRY_BYTES).sum();
        assert!(kept <= BUCKETS as usize && kept + refused == 4 * BUCKETS as usize);
    }

    #[test]
    fn proofs_spread_over_the_buckets_and_with_another_secret_over_others() {
        let bucket = |secret, number: u32| {
            let key = KeyThumbprint::from_base64url(&"A".repeat(43)).unwrap();
            ProofId::new(&SharedSecret::new([secret; 32]), &key, &number.to_string()).bucket
        };
        let mut buckets: Vec<_> = (0..10_000).map(|number| bucket(7, number)).collect();
        let same = (0..10_000)
            .filter(|number| bucket(8, *number) == buckets[*number as usize])
            .count();
        assert!(same < 100, "{same}");
        buckets.sort_unstable();
        buckets.dedup();
        assert!(buckets.len() > 1000 && buckets.iter().all(|bucket| *bucket < BUCKETS));
    }

    /// Shared data as a proxy has it: each writing of any bucket gets a number of its own.
    #[derive(Debug, Default)]
    struct Shared {
        buckets: std::collections::BTreeMap<u32, (Vec<u8>, u32)>,
        writings: u32,
    }

    /// A worker. Between its first reads and writes others write.
    #[derive(Debug)]
    struct Worker {
        shared: Rc<RefCell<Shared>>,
        interruptions: RefCell<Vec<ProofId>>,
    }

    impl BucketStore for Worker {
        fn read(&self, bucket: u32) -> Option<Bucket> {
            let read = self
                .shared
                .borrow()
                .buckets
                .get(&bucket)
                .map_or_else(Bucket::default, |(bytes, version)| Bucket {
                    bytes: bytes.clone(),
                    version: Some(*version),
                });
            if let Some(other) = self.interruptions.borrow_mut().pop() {
                worker(&self.shared, &[])
                    .remember(other, START.plus_ms(60_000), START)
                    .unwrap();
            }
            Some(read)
        }

        fn write(&mut self, bucket: u32, bytes: &[u8], version: Option<u32>) -> Result<(), WriteError> {
            let mut shared = self.shared.borrow_mut();
            if shared.buckets.get(&bucket).map(|(_, version)| *version) != version {
                return Err(WriteError::Raced);
            }
            shared.writings += 1;
            let writing = shared.writings;
            shared.buckets.insert(bucket, (bytes.to_vec(), writing));
            Ok(())
        }
    }

    fn worker(shared: &Rc<RefCell<Shared>>, interruptions: &[ProofId]) -> BucketLedger<Worker> {
        let store = Worker {
            shared: Rc::clone(shared),
            interruptions: RefCell::new(interruptions.to_vec()),
        };
        BucketLedger::new(store, 8 * BUCKETS)
    }

    #[test]
    fn of_workers_that_race_for_one_proof_one_takes_it() {
        let shared = Rc::default();
        let proof = in_one_bucket(1);
        let mut late = worker(&shared, &[proof]);
        assert_eq!(
            late.remember(proof, START.plus_ms(60_000), START),
            Err(LedgerError::Known)
        );
        assert_eq!(shared.borrow().writings, 1);
    }

    #[test]
    fn workers_that_race_for_a_bucket_forget_nothing() {
        let shared = Rc::default();
        let others = [in_one_bucket(2), in_one_bucket(3), in_one_bucket(4)];
        let mut late = worker(&shared, &others);
        assert_eq!(late.remember(in_one_bucket(1), START.plus_ms(60_000), START), Ok(()));
        for number in 1..=4 {
            let again = worker(&shared, &[]).remember(in_one_bucket(number), START.plus_ms(60_000), START);
            assert_eq!(again, Err(LedgerError::Known), "{number}");
        }
    }

    #[derive(Debug)]
    struct Broken {
        bytes: Option<Vec<u8>>,
        writes: WriteError,
    }

    impl BucketStore for Broken {
        fn read(&self, _: u32) -> Option<Bucket> {
            let bytes = self.bytes.clone()?;
            Some(Bucket { bytes, version: None })
        }

        fn write(&mut self, _: u32, _: &[u8], _: Option<u32>) -> Result<(), WriteError> {
            Err(self.writes)
        }
    }

    #[test]
    fn a_store_that_fails_refuses_the_proof() {
        for (bytes, writes) in [
            (None, WriteError::Raced),
            (Some(vec![0; ENTRY_BYTES + 1]), WriteError::Raced),
            (Some(vec![]), WriteError::Unavailable),
            // It ends all the same.
            (Some(vec![]), WriteError::Raced),
        ] {
            let mut ledger = BucketLedger::new(Broken { bytes, writes }, 1);
            let result = ledger.remember(in_one_bucket(1), START.plus_ms(60_000), START);
            assert_eq!(result, Err(LedgerError::Unavailable));
        }
    }
}
