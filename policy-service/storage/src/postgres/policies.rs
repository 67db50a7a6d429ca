//! Revisions of policies in PostgreSQL.

use async_trait::async_trait;
use picket_state::StorageError;
use picket_state::revisions::{
    ACTIVATIONS_MAX, Activation, ActivationRequest, ActivationResult, ActivationSource, PolicyStore, REVISIONS_MAX,
    Revision, RevisionFile,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use super::schema::get;
use super::statements::{query, write_rows};
use super::{PostgresStore, backend};

type Result<T> = std::result::Result<T, StorageError>;

const COLUMNS: &str = "number, digest, author, comment, created_us";
/// "Pikp", twice: revisions are made and activated one after another, or two would have one number.
const ACTIVATION_LOCK: i64 = 0x5069_6b70_5069_6b70;

#[async_trait]
impl PolicyStore for PostgresStore {
    async fn active(&self) -> Result<Option<u64>> {
        self.order(async |client| {
            let rows = query(client, ACTIVE, &[]).await?;
            rows.first().map(|row| number(row, 0)).transpose()
        })
        .await
    }

    async fn activate(&self, source: ActivationSource, request: ActivationRequest) -> Result<ActivationResult> {
        self.order(async |client| activate(client, &source, &request).await)
            .await
    }

    async fn revision(&self, number: u64) -> Result<Option<(Revision, Vec<RevisionFile>)>> {
        self.order(async |client| revision(client, number).await).await
    }

    async fn revisions(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Revision>> {
        let sql =
            format!("SELECT {COLUMNS} FROM picket.policy_revision WHERE number < $1 ORDER BY number DESC LIMIT $2");
        let rows = self.page(&sql, before, count_max).await?;
        rows.iter().map(read_revision).collect()
    }

    async fn activations(&self, before: Option<u64>, count_max: u32) -> Result<Vec<Activation>> {
        let sql = "SELECT id, revision, digest, previous, caller, policy_activation.comment, at_us
             FROM picket.policy_activation JOIN picket.policy_revision ON number = revision
             WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let rows = self.page(sql, before, count_max).await?;
        rows.iter().map(read_activation).collect()
    }
}

const ACTIVE: &str = "SELECT revision FROM picket.policy_activation ORDER BY id DESC LIMIT 1";

impl PostgresStore {
    async fn page(&self, sql: &str, before: Option<u64>, count_max: u32) -> Result<Vec<Row>> {
        let before = before.map_or(i64::MAX, stored);
        let count_max = i64::from(count_max);
        self.look(async |client| query(client, sql, &[(&before, Type::INT8), (&count_max, Type::INT8)]).await)
            .await
    }
}

async fn activate(
    client: &mut Client,
    source: &ActivationSource,
    request: &ActivationRequest,
) -> Result<ActivationResult> {
    let transaction = client.transaction().await.map_err(backend)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&ACTIVATION_LOCK])
        .await
        .map_err(backend)?;
    let row = transaction.query_opt(ACTIVE, &[]).await.map_err(backend)?;
    let previous = row.as_ref().map(|row| number(row, 0)).transpose()?;
    if request.expected_active.is_some_and(|expected| expected != previous) {
        return Ok(ActivationResult::OtherActive(previous));
    }
    let row = transaction
        .query_one(
            "SELECT coalesce((SELECT max(number) FROM picket.policy_revision), 0),
                    coalesce((SELECT max(id) FROM picket.policy_activation), 0)",
            &[],
        )
        .await
        .map_err(backend)?;
    let (revisions, activations) = (number(&row, 0)?, number(&row, 1)?);
    let is_new = matches!(source, ActivationSource::New { .. });
    if (is_new && revisions >= REVISIONS_MAX) || activations >= ACTIVATIONS_MAX {
        return Ok(ActivationResult::TooMany);
    }
    let number = match source {
        ActivationSource::Existing(number) if (1..=revisions).contains(number) => *number,
        ActivationSource::Existing(_) => return Ok(ActivationResult::NoSuchRevision),
        ActivationSource::New { digest, files } => {
            let number = revisions + 1;
            insert(&transaction, number, digest, files, request).await?;
            number
        }
    };
    let previous = previous.map(stored);
    write_rows(
        &transaction,
        "WITH activation AS (
             INSERT INTO picket.policy_activation (id, revision, previous, caller, comment, at_us)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING 1
         ) SELECT pg_notify('picket_storage', 'policies') FROM activation",
        &[
            &stored(activations + 1),
            &stored(number),
            &previous,
            &request.caller,
            &request.comment,
            &request.at_us,
        ],
        1,
    )
    .await?;
    transaction.commit().await.map_err(backend)?;
    Ok(ActivationResult::Done(number))
}

async fn insert(
    transaction: &Transaction<'_>,
    number: u64,
    digest: &str,
    files: &[RevisionFile],
    request: &ActivationRequest,
) -> Result<()> {
    let number = stored(number);
    write_rows(
        transaction,
        &format!("INSERT INTO picket.policy_revision ({COLUMNS}) VALUES ($1, $2, $3, $4, $5)"),
        &[&number, &digest, &request.caller, &request.comment, &request.at_us],
        1,
    )
    .await?;
    let (names, texts): (Vec<&str>, Vec<&str>) = files
        .iter()
        .map(|file| (file.name.as_str(), file.text.as_str()))
        .unzip();
    // All in one statement: a thousand round trips would be too late.
    write_rows(
        transaction,
        "INSERT INTO picket.policy_file (revision, name, content) SELECT $1, * FROM unnest($2::text[], $3::text[])",
        &[&number, &names, &texts],
        files.len(),
    )
    .await
}

async fn revision(client: &Client, number: u64) -> Result<Option<(Revision, Vec<RevisionFile>)>> {
    let number = stored(number);
    let select = format!("SELECT {COLUMNS} FROM picket.policy_revision WHERE number = $1");
    let rows = query(client, &select, &[(&number, Type::INT8)]).await?;
    let Some(found) = rows.first().map(read_revision).transpose()? else {
        return Ok(None);
    };
    // What is there is never changed, so that both are of one time. Names are in the order of their
    // bytes on every server.
    let rows = query(
        client,
        "SELECT name, content FROM picket.policy_file WHERE revision = $1 ORDER BY name COLLATE \"C\"",
        &[(&number, Type::INT8)],
    )
    .await?;
    let files = rows.iter().map(|row| {
        Ok(RevisionFile {
            name: get(row, 0)?,
            text: get(row, 1)?,
        })
    });
    Ok(Some((found, files.collect::<Result<_>>()?)))
}

fn read_revision(row: &Row) -> Result<Revision> {
    Ok(Revision {
        number: number(row, 0)?,
        digest: get(row, 1)?,
        author: get(row, 2)?,
        comment: get(row, 3)?,
        created_us: get(row, 4)?,
    })
}

fn read_activation(row: &Row) -> Result<Activation> {
    let previous: Option<i64> = get(row, 3)?;
    Ok(Activation {
        id: number(row, 0)?,
        number: number(row, 1)?,
        digest: get(row, 2)?,
        previous: previous.map(known).transpose()?,
        caller: get(row, 4)?,
        comment: get(row, 5)?,
        at_us: get(row, 6)?,
    })
}

pub(super) fn number(row: &Row, index: usize) -> Result<u64> {
    known(get(row, index)?)
}

fn known(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| StorageError::Malformed("policy_revision"))
}

/// No revision has a number that does not fit.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
