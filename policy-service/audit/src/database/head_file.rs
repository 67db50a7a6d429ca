//! The file beside the database that says up to which record the log was acknowledged.
//!
//! SQLite's write-ahead log holds what was committed last. Where that file is removed, cut short or
//! put back, the database is an older state that is consistent in itself; this file tells.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use picket_sqlite::DatabaseFileError;

use crate::chain::{ChainEnd, acknowledged_associated_data};
use crate::key::{KEY_ID_BYTES, KeyEncryptionKey, KeyError, KeyId, Sealer, WRAPPED_KEY_BYTES};

/// The ending of its name.
pub(crate) const ENDING: &str = "-head";
/// A sector of a disk: it is written whole or not at all.
const SLOT_BYTES: usize = 512;
/// They are written in turn, so that a write that fails leaves the one before it.
const SLOTS: usize = 2;
const FILE_BYTES: usize = SLOTS * SLOT_BYTES;

/// The writer's side.
pub(crate) struct HeadFile {
    file: File,
    wrapped_key: Vec<u8>,
    next_slot: usize,
}

impl HeadFile {
    /// Opens the file, or creates it. `wrapped_key` is the data key of the sealer that
    /// [`Self::write`] is called with, so that the file can be read without the database.
    pub(crate) fn open(database: &Path, wrapped_key: Vec<u8>) -> Result<Self, DatabaseFileError> {
        let path = picket_sqlite::beside(database, ENDING)?;
        let failed = |source| picket_sqlite::failed(&path, source);
        picket_sqlite::create_private(&path)?;
        let file = File::options().write(true).open(&path).map_err(failed)?;
        // Later writes change no more than the content, so that they wait for one write of the
        // disk.
        file.set_len(FILE_BYTES as u64).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        if let Some(folder) = path.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
        }
        Ok(Self {
            file,
            wrapped_key,
            next_slot: 0,
        })
    }

    /// Names the last record that is acknowledged; it is durable when this returns.
    pub(crate) fn write(&mut self, sealer: &mut Sealer, end: ChainEnd) -> Result<(), HeadFileError> {
        let key_id = sealer.id();
        let sealed = sealer.seal(&acknowledged_associated_data(&key_id), &end.to_bytes())?;
        let mut slot = [key_id.as_bytes(), &self.wrapped_key, &sealed].concat();
        slot.resize(SLOT_BYTES, 0);
        self.file.write_all_at(&slot, (self.next_slot * SLOT_BYTES) as u64)?;
        self.file.sync_data()?;
        self.next_slot = (self.next_slot + 1) % SLOTS;
        Ok(())
    }
}

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadFileError {
    #[error(transparent)]
    Write(#[from] std::io::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The content of the file beside a database; `None` where there is none, or nothing was ever
/// written to it: a service that ends between making the file and its first write leaves it empty
/// or with zeros alone.
pub(crate) fn read(database: &Path) -> Result<Option<Vec<u8>>, DatabaseFileError> {
    let path = picket_sqlite::beside(database, ENDING)?;
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes.iter().any(|byte| *byte != 0).then_some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(picket_sqlite::failed(&path, source)),
    }
}

/// The latest record that the file names; `None` where no slot opens.
pub(crate) fn acknowledged(content: &[u8], key: &KeyEncryptionKey) -> Option<ChainEnd> {
    let slots = content.chunks(SLOT_BYTES).take(SLOTS);
    slots.filter_map(|slot| open_slot(slot, key)).max_by_key(|end| end.seq)
}

fn open_slot(slot: &[u8], key: &KeyEncryptionKey) -> Option<ChainEnd> {
    let (key_id, rest) = slot.split_at_checked(KEY_ID_BYTES)?;
    let (wrapped, rest) = rest.split_at_checked(WRAPPED_KEY_BYTES)?;
    let sealed = rest.get(..Sealer::sealed_bytes(ChainEnd::BYTES))?;
    let key_id = KeyId::from_slice(key_id)?;
    let opener = key.open_data_key(&key_id, wrapped)?;
    ChainEnd::from_bytes(&opener.open(&acknowledged_associated_data(&key_id), sealed)?)
}
