//! Revisions of policies in SQLite.

use async_trait::async_trait;
use picket_sqlite::one_row;
use picket_state::StorageError;
use picket_state::revisions::{
    ACTIVATIONS_MAX, Activation, ActivationRequest, ActivationResult, ActivationSource, PolicyStore, REVISIONS_MAX,
    Revision, RevisionFile,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;

type Result<T> = std::result::Result<T, rusqlite::Error>;

const COLUMNS: &str = "number, digest, author, comment, created_us";

#[async_trait]
impl PolicyStore for SqliteStore {
    async fn active(&self) -> std::result::Result<Option<u64>, StorageError> {
        self.read(active).await
    }

    async fn activate(
        &self,
        source: ActivationSource,
        request: ActivationRequest,
    ) -> std::result::Result<ActivationResult, StorageError> {
        self.write(move |transaction| activate(transaction, &source, &request))
            .await
    }

    async fn revision(&self, number: u64) -> std::result::Result<Option<(Revision, Vec<RevisionFile>)>, StorageError> {
        self.read(move |connection| revision(connection, number)).await
    }

    async fn revisions(&self, before: Option<u64>, count_max: u32) -> std::result::Result<Vec<Revision>, StorageError> {
        self.read(move |connection| revisions(connection, before, count_max))
            .await
    }

    async fn activations(
        &self,
        before: Option<u64>,
        count_max: u32,
    ) -> std::result::Result<Vec<Activation>, StorageError> {
        self.read(move |connection| activations(connection, before, count_max))
            .await
    }
}

fn active(connection: &Connection) -> Result<Option<u64>> {
    connection
        .prepare_cached("SELECT revision FROM policy_activation ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| number(row, 0))
        .optional()
}

fn activate(
    connection: &Connection,
    source: &ActivationSource,
    request: &ActivationRequest,
) -> Result<ActivationResult> {
    let previous = active(connection)?;
    if request.expected_active.is_some_and(|expected| expected != previous) {
        return Ok(ActivationResult::OtherActive(previous));
    }
    let last = |table: &str, column: &str| -> Result<u64> {
        connection.query_row(&format!("SELECT coalesce(max({column}), 0) FROM {table}"), [], |row| {
            number(row, 0)
        })
    };
    let (revisions, activations) = (last("policy_revision", "number")?, last("policy_activation", "id")?);
    let is_new = matches!(source, ActivationSource::New { .. });
    if (is_new && revisions >= REVISIONS_MAX) || activations >= ACTIVATIONS_MAX {
        return Ok(ActivationResult::TooMany);
    }
    let number = match source {
        ActivationSource::Existing(number) if (1..=revisions).contains(number) => *number,
        ActivationSource::Existing(_) => return Ok(ActivationResult::NoSuchRevision),
        ActivationSource::New { digest, files } => {
            let number = revisions + 1;
            insert(connection, number, digest, files, request)?;
            number
        }
    };
    let written = connection
        .prepare_cached(
            "INSERT INTO policy_activation (id, revision, previous, caller, comment, at_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            stored(activations + 1),
            stored(number),
            previous.map(stored),
            request.caller,
            request.comment,
            request.at_us
        ])?;
    one_row(written)?;
    Ok(ActivationResult::Done(number))
}

fn insert(
    connection: &Connection,
    number: u64,
    digest: &str,
    files: &[RevisionFile],
    request: &ActivationRequest,
) -> Result<()> {
    let written = connection
        .prepare_cached(&format!(
            "INSERT INTO policy_revision ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)"
        ))?
        .execute(params![
            stored(number),
            digest,
            request.caller,
            request.comment,
            request.at_us
        ])?;
    one_row(written)?;
    let mut statement =
        connection.prepare_cached("INSERT INTO policy_file (revision, name, content) VALUES (?1, ?2, ?3)")?;
    for file in files {
        one_row(statement.execute(params![stored(number), file.name, file.text])?)?;
    }
    Ok(())
}

fn revision(connection: &Connection, number: u64) -> Result<Option<(Revision, Vec<RevisionFile>)>> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM policy_revision WHERE number = ?1"))?
        .query_row([stored(number)], read_revision)
        .optional()?;
    let Some(found) = found else { return Ok(None) };
    // What is there is never changed, so that both are of one time.
    let files = connection
        .prepare_cached("SELECT name, content FROM policy_file WHERE revision = ?1 ORDER BY name")?
        .query_map([stored(number)], |row| {
            Ok(RevisionFile {
                name: row.get(0)?,
                text: row.get(1)?,
            })
        })?
        .collect::<Result<_>>()?;
    Ok(Some((found, files)))
}

fn revisions(connection: &Connection, before: Option<u64>, count_max: u32) -> Result<Vec<Revision>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM policy_revision WHERE number < ?1 ORDER BY number DESC LIMIT ?2"
        ))?
        .query_map(params![limit(before), count_max], read_revision)?
        .collect()
}

fn activations(connection: &Connection, before: Option<u64>, count_max: u32) -> Result<Vec<Activation>> {
    connection
        .prepare_cached(
            "SELECT id, revision, digest, previous, caller, policy_activation.comment, at_us
             FROM policy_activation JOIN policy_revision ON number = revision
             WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
        )?
        .query_map(params![limit(before), count_max], |row| {
            Ok(Activation {
                id: number(row, 0)?,
                number: number(row, 1)?,
                digest: row.get(2)?,
                previous: row
                    .get::<_, Option<i64>>(3)?
                    .map(|previous| known(3, previous))
                    .transpose()?,
                caller: row.get(4)?,
                comment: row.get(5)?,
                at_us: row.get(6)?,
            })
        })?
        .collect()
}

/// Before what is listed: everything, where nothing is said.
fn limit(before: Option<u64>) -> i64 {
    before.map_or(i64::MAX, stored)
}

/// SQLite has signed numbers alone; no revision has one that does not fit.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row<'_>, index: usize) -> Result<u64> {
    known(index, row.get(index)?)
}

fn known(index: usize, number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, number))
}

fn read_revision(row: &Row<'_>) -> Result<Revision> {
    Ok(Revision {
        number: number(row, 0)?,
        digest: row.get(1)?,
        author: row.get(2)?,
        comment: row.get(3)?,
        created_us: row.get(4)?,
    })
}
