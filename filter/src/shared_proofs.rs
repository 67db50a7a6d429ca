//! What the workers of one Envoy share about proofs of possession: a random secret, and the buckets
//! of the ledger, in shared data. Both outlive a worker's VM; neither outlives Envoy.

use picket_core::dpop::ledger::{Bucket, BucketLedger, BucketStore, WriteError};
use picket_core::dpop::{DpopSettings, ProofMemory, SharedSecret};

use crate::host::{self, SharedWriteError};

const SECRET: &str = "picket.proofs.secret";
/// In each round but the last another worker may have been first; then its secret is there in the
/// next.
const ROUNDS_MAX: u32 = 4;

/// The memory that this worker has in common with the others.
pub(crate) fn memory(settings: &DpopSettings) -> Result<ProofMemory, String> {
    Ok(ProofMemory {
        secret: secret()?,
        ledger: Box::new(BucketLedger::new(SharedBuckets, settings.ledger_entries_max)),
    })
}

/// The secret of the worker that was first.
fn secret() -> Result<SharedSecret, String> {
    for _ in 0..ROUNDS_MAX {
        let known = host::shared_value(SECRET).map_err(|_| "the host gives no shared data")?;
        if let Some(known) = known {
            let bytes = <[u8; SharedSecret::BYTES]>::try_from(known.bytes);
            // Another plug-in with the same VM id could have written it.
            return bytes
                .map(SharedSecret::new)
                .map_err(|_| format!("the shared data `{SECRET}` is not Picket's"));
        }
        let mut bytes = [0; SharedSecret::BYTES];
        getrandom::fill(&mut bytes).map_err(|error| format!("the host gave no random bytes: {error}"))?;
        match host::set_shared_value(SECRET, &bytes, None) {
            Ok(()) => return Ok(SharedSecret::new(bytes)),
            Err(SharedWriteError::Raced) => {}
            Err(SharedWriteError::Host) => return Err("the host takes no shared data".to_owned()),
        }
    }
    Err("the workers do not agree on a secret for proofs".to_owned())
}

/// The ledger's buckets: as many keys as it has, each written with the version that was read.
#[derive(Debug)]
struct SharedBuckets;

impl BucketStore for SharedBuckets {
    fn read(&self, bucket: u32) -> Option<Bucket> {
        let value = host::shared_value(&key(bucket)).ok()?;
        Some(value.map_or_else(Bucket::default, |value| Bucket {
            bytes: value.bytes,
            version: Some(value.version),
        }))
    }

    fn write(&mut self, bucket: u32, bytes: &[u8], version: Option<u32>) -> Result<(), WriteError> {
        host::set_shared_value(&key(bucket), bytes, version).map_err(|error| match error {
            SharedWriteError::Raced => WriteError::Raced,
            SharedWriteError::Host => WriteError::Unavailable,
        })
    }
}

fn key(bucket: u32) -> String {
    format!("picket.proofs.{bucket}")
}
