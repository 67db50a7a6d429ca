//! The tables, and every statement over them.

use picket_sqlite::one_row;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::chain::{ChainEnd, Hash, RecordPosition, SealedHead, WriterState, head_associated_data};
use crate::errors::StoreError;
use crate::key::{KeyId, Sealer};

/// "Pikt": tells an audit log from another program's database (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x5069_6b74;

/// What brings a database from version n to n + 1 (`PRAGMA user_version`). Entries are added, never
/// changed.
pub(crate) const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE audit_data_key (
        id BLOB PRIMARY KEY,
        wrapped BLOB NOT NULL,
        created_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE audit_record (
        seq INTEGER PRIMARY KEY,
        time_us INTEGER NOT NULL,
        prev_hash BLOB NOT NULL,
        key_id BLOB NOT NULL,
        sealed BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE audit_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        key_id BLOB NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
",
    // No other table, but a head that version 1 cannot open: it says whether the log is closed.
    "",
];

/// A row of the record table, not yet believed.
pub(crate) struct RecordRow {
    pub(crate) place: RecordPosition,
    pub(crate) sealed: Vec<u8>,
    pub(crate) hash: Hash,
}

/// The row of the head: the id of its data key, and the sealed bytes.
pub(crate) type HeadRow = (Vec<u8>, Vec<u8>);

/// Refuses a database that is no audit log, or one of a later version.
pub(crate) fn check_version(connection: &Connection) -> Result<(), StoreError> {
    let known = version_known();
    match (application_id(connection)?, user_version(connection)?) {
        (APPLICATION_ID, found) if found > known => Err(StoreError::Newer { found, known }),
        (APPLICATION_ID, 1..) => Ok(()),
        (_, _) => Err(StoreError::Foreign),
    }
}

/// Brings a database to the current version; a new one gets an empty log with a sealed head.
pub(crate) fn migrate(
    connection: &mut Connection,
    sealer: &mut Sealer,
    wrapped: &[u8],
    now_us: i64,
) -> Result<(), StoreError> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        check_version(connection)?;
    }
    let done = usize::try_from(user_version(connection)?).unwrap_or(0);
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version_known())?;
    if tables == 0 {
        add_data_key(&transaction, sealer, wrapped, now_us)?;
        set_head(&transaction, sealer, ChainEnd::EMPTY, WriterState::Closed)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Adds a wrapped data key, if it is not there yet.
pub(crate) fn add_data_key(
    connection: &Connection,
    sealer: &Sealer,
    wrapped: &[u8],
    now_us: i64,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO audit_data_key (id, wrapped, created_us) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![sealer.id().as_bytes(), wrapped, now_us],
    )?;
    // A record whose key is lost could never be opened.
    match rows::wrapped_key(connection, &sealer.id())? {
        Some(stored) if stored == wrapped => Ok(()),
        Some(_) | None => Err(StoreError::Sqlite(rusqlite::Error::StatementChangedRows(0))),
    }
}

pub(crate) fn insert(
    connection: &Connection,
    place: &RecordPosition,
    sealed: &[u8],
    hash: Hash,
) -> Result<(), StoreError> {
    let seq = i64::try_from(place.seq).map_err(|_| StoreError::Full)?;
    let written = connection
        .prepare_cached(
            "INSERT INTO audit_record (seq, time_us, prev_hash, key_id, sealed, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            seq,
            place.time_us,
            place.prev_hash.as_bytes(),
            place.key_id.as_bytes(),
            sealed,
            hash.as_bytes()
        ])?;
    Ok(one_row(written)?)
}

/// Seals the head and writes it.
pub(crate) fn set_head(
    connection: &Connection,
    sealer: &mut Sealer,
    end: ChainEnd,
    writing: WriterState,
) -> Result<(), StoreError> {
    let (key_id, head) = (sealer.id(), SealedHead { end, writing });
    let sealed = sealer.seal(&head_associated_data(&key_id), &head.to_bytes())?;
    let written = connection
        .prepare_cached(
            "INSERT INTO audit_head (id, key_id, sealed) VALUES (1, ?1, ?2)
             ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed",
        )?
        .execute(params![key_id.as_bytes(), sealed])?;
    Ok(one_row(written)?)
}

/// Reading, for verification.
pub(crate) mod rows {
    use super::*;

    const COLUMNS: &str = "seq, time_us, prev_hash, key_id, sealed, hash";

    /// All records in order of their numbers. The outer error is the database's, the inner one the
    /// number of a row whose columns are not what the log writes.
    pub(crate) fn each_record<E: From<rusqlite::Error>>(
        connection: &Connection,
        mut each: impl FnMut(Result<RecordRow, i64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM audit_record ORDER BY seq"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(record(row)?)?;
        }
        Ok(())
    }

    /// The last `count` records, the earliest of them first.
    pub(crate) fn last_records(
        connection: &Connection,
        count: u32,
    ) -> Result<Vec<Result<RecordRow, i64>>, rusqlite::Error> {
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM audit_record ORDER BY seq DESC LIMIT ?1"
        ))?;
        let mut records = statement.query_map([count], record)?.collect::<Result<Vec<_>, _>>()?;
        records.reverse();
        Ok(records)
    }

    /// The hash of the record with this number, where there is such a record.
    pub(crate) fn hash(connection: &Connection, seq: u64) -> Result<Option<Hash>, rusqlite::Error> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let hash: Option<Vec<u8>> = connection
            .query_row("SELECT hash FROM audit_record WHERE seq = ?1", [seq], |row| row.get(0))
            .optional()?;
        Ok(hash.and_then(|hash| Hash::from_slice(&hash)))
    }

    /// A data key in its wrapped form.
    pub(crate) fn wrapped_key(connection: &Connection, id: &KeyId) -> Result<Option<Vec<u8>>, rusqlite::Error> {
        connection
            .query_row(
                "SELECT wrapped FROM audit_data_key WHERE id = ?1",
                [id.as_bytes()],
                |row| row.get(0),
            )
            .optional()
    }

    /// The sealed head with the id of its data key.
    pub(crate) fn head(connection: &Connection) -> Result<Option<HeadRow>, rusqlite::Error> {
        connection
            .query_row("SELECT key_id, sealed FROM audit_head WHERE id = 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
    }

    fn record(row: &Row<'_>) -> Result<Result<RecordRow, i64>, rusqlite::Error> {
        let seq: i64 = row.get(0)?;
        let read = || {
            Some(RecordRow {
                place: RecordPosition {
                    seq: u64::try_from(seq).ok()?,
                    time_us: row.get(1).ok()?,
                    prev_hash: Hash::from_slice(&row.get::<_, Vec<u8>>(2).ok()?)?,
                    key_id: KeyId::from_slice(&row.get::<_, Vec<u8>>(3).ok()?)?,
                },
                sealed: row.get(4).ok()?,
                hash: Hash::from_slice(&row.get::<_, Vec<u8>>(5).ok()?)?,
            })
        };
        Ok(read().ok_or(seq))
    }
}

fn version_known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn application_id(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}

fn user_version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
