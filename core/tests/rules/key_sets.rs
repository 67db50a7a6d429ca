//! Key sets that are fetched: when, by whom, and for how long they serve.

mod machine;
mod requests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::SigningKey;
use picket_core::token::remote_keys::shared_memory::{EntryVersion, SharedEntry, SharedMemory, SharedMemoryError};
use serde_json::{Value, json};

/// The memory that the workers share, as Envoy keeps it: each writing has a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Board {
    slots: RefCell<BTreeMap<String, SharedEntry>>,
    writings: Cell<u32>,
    /// The host has none.
    is_missing: Cell<bool>,
}

/// A worker's view of it.
pub(crate) struct Seat<'b> {
    memory: &'b Board,
    worker: u64,
}

impl Board {
    pub(crate) fn seat(&self, worker: u64) -> Seat<'_> {
        Seat { memory: self, worker }
    }

    fn put(&self, slot: &str, bytes: &[u8]) {
        self.writings.set(self.writings.get() + 1);
        let posted = SharedEntry {
            bytes: bytes.to_vec(),
            version: EntryVersion(self.writings.get()),
        };
        self.slots.borrow_mut().insert(slot.to_owned(), posted);
    }

    /// The slot whose name contains this.
    fn slot(&self, part: &str) -> String {
        let slots = self.slots.borrow();
        slots.keys().find(|name| name.contains(part)).unwrap().clone()
    }
}

impl SharedMemory for Seat<'_> {
    fn worker(&self) -> u64 {
        self.worker
    }

    fn read(&self, slot: &str) -> Option<SharedEntry> {
        let posted = self.memory.slots.borrow().get(slot).cloned();
        posted.filter(|_| !self.memory.is_missing.get())
    }

    fn replace(&self, slot: &str, bytes: &[u8], read: Option<EntryVersion>) -> Result<(), SharedMemoryError> {
        let stands = self.memory.slots.borrow().get(slot).map(|posted| posted.version);
        match (self.memory.is_missing.get(), stands == read) {
            (true, _) => Err(SharedMemoryError::Unavailable),
            (false, false) => Err(SharedMemoryError::Overtaken),
            (false, true) => {
                self.memory.put(slot, bytes);
                Ok(())
            }
        }
    }

    fn write(&self, slot: &str, bytes: &[u8]) -> Result<(), SharedMemoryError> {
        if self.memory.is_missing.get() {
            return Err(SharedMemoryError::Unavailable);
        }
        self.memory.put(slot, bytes);
        Ok(())
    }
}

pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).unwrap()
}

/// The public half of a key, with the id `k` and its number.
pub(crate) fn jwk(number: u8) -> Value {
    let point = signing_key(number).verifying_key().to_encoded_point(false);
    json!({
        "kty": "EC", "crv": "P-256", "kid": format!("k{number}"),
        "x": URL_SAFE_NO_PAD.encode(point.x().unwrap()),
        "y": URL_SAFE_NO_PAD.encode(point.y().unwrap()),
    })
}

fn key_set(numbers: &[u8]) -> String {
    let keys: Vec<_> = numbers.iter().map(|number| jwk(*number)).collect();
    json!({"keys": keys}).to_string()
}
