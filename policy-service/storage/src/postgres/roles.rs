//! Role assignments in PostgreSQL.

use async_trait::async_trait;
use picket_state::StorageError;
use picket_state::roles::{AssignmentResult, ROLE_ASSIGNMENTS_MAX, RoleAssignment, RoleFilter, RoleKey, RoleStore};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use super::policies::{number, stored};
use super::schema::get;
use super::statements::{Parameters, expect_rows, query, write_rows};
use super::{PostgresStore, backend};

type Result<T> = std::result::Result<T, StorageError>;

const COLUMNS: &str = "id, issuer, subject, role, tenant, until_us, author, at_us";
const OF_KEY: &str = "issuer = $1 AND subject = $2 AND role = $3 AND tenant IS NOT DISTINCT FROM $4";
/// "Pikr", twice: assignments change one after another, so that what was read holds until the
/// commit.
const ASSIGNMENT_LOCK: i64 = 0x5069_6b72_5069_6b72;

#[async_trait]
impl RoleStore for PostgresStore {
    async fn roles(&self) -> Result<Vec<RoleAssignment>> {
        let sql = format!("SELECT {COLUMNS} FROM picket.role_assignment");
        let rows = self.order(async |client| query(client, &sql, &[]).await).await?;
        rows.iter().map(read_assignment).collect()
    }

    async fn assign(&self, assignment: RoleAssignment) -> Result<AssignmentResult> {
        self.order(async |client| assign(client, &assignment).await).await
    }

    async fn withdraw(&self, key: RoleKey) -> Result<bool> {
        self.order(async |client| withdraw(client, &key).await).await
    }

    async fn roles_page(&self, filter: RoleFilter, after: u64, count_max: u32) -> Result<Vec<(u64, RoleAssignment)>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM picket.role_assignment WHERE id > $1 AND ($3 IS NULL OR issuer = $3) AND ($4 IS NULL OR subject = $4)
                 AND ($5 IS NULL OR role = $5) AND ($6 IS NULL OR tenant = $6) ORDER BY id LIMIT $2"
        );
        let (after, count_max) = (stored(after), i64::from(count_max));
        let rows = self
            .look(async |client| {
                let parameters: &Parameters<'_> = &[
                    (&after, Type::INT8),
                    (&count_max, Type::INT8),
                    (&filter.issuer, Type::TEXT),
                    (&filter.subject, Type::TEXT),
                    (&filter.role, Type::TEXT),
                    (&filter.tenant, Type::TEXT),
                ];
                query(client, &sql, parameters).await
            })
            .await?;
        let one = |row: &Row| Ok((number(row, 0)?, read_assignment(row)?));
        rows.iter().map(one).collect()
    }
}

async fn begin(client: &mut Client) -> Result<Transaction<'_>> {
    let transaction = client.transaction().await.map_err(backend)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&ASSIGNMENT_LOCK])
        .await
        .map_err(backend)?;
    Ok(transaction)
}

async fn withdraw(client: &mut Client, key: &RoleKey) -> Result<bool> {
    let transaction = begin(client).await?;
    let parameters: &Parameters<'_> = &[
        (&key.issuer, Type::TEXT),
        (&key.subject, Type::TEXT),
        (&key.role, Type::TEXT),
        (&key.tenant, Type::TEXT),
    ];
    let held = format!("SELECT 1 FROM picket.role_assignment WHERE {OF_KEY}");
    let held = query(&transaction, &held, parameters).await?;
    let delete = format!(
        "WITH withdrawn AS (DELETE FROM picket.role_assignment WHERE {OF_KEY} RETURNING 1)
         SELECT pg_notify('picket_storage', 'roles') FROM withdrawn"
    );
    expect_rows(&transaction, &delete, parameters, held.len()).await?;
    transaction.commit().await.map_err(backend)?;
    Ok(!held.is_empty())
}

async fn assign(client: &mut Client, assignment: &RoleAssignment) -> Result<AssignmentResult> {
    let transaction = begin(client).await?;
    let key = &assignment.key;
    let held = transaction
        .query_opt(
            &format!("SELECT until_us FROM picket.role_assignment WHERE {OF_KEY}"),
            &[&key.issuer, &key.subject, &key.role, &key.tenant],
        )
        .await
        .map_err(backend)?;
    match held.map(|row| get::<Option<i64>>(&row, 0)).transpose()? {
        Some(until_us) if until_us == assignment.until_us => return Ok(AssignmentResult::Unchanged),
        Some(_) => {
            let delete = format!("DELETE FROM picket.role_assignment WHERE {OF_KEY}");
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&key.issuer, &key.subject, &key.role, &key.tenant];
            write_rows(&transaction, &delete, &parameters, 1).await?;
        }
        None => {
            let delete = "DELETE FROM picket.role_assignment WHERE until_us <= $1";
            transaction
                .execute(delete, &[&assignment.at_us])
                .await
                .map_err(backend)?;
        }
    }
    let row = transaction
        .query_one("SELECT count(*) FROM picket.role_assignment", &[])
        .await
        .map_err(backend)?;
    if number(&row, 0)? >= ROLE_ASSIGNMENTS_MAX {
        return Ok(AssignmentResult::TooMany);
    }
    write_rows(
        &transaction,
        "WITH assigned AS (
             INSERT INTO picket.role_assignment (issuer, subject, role, tenant, until_us, author, at_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING 1
         ) SELECT pg_notify('picket_storage', 'roles') FROM assigned",
        &[
            &key.issuer,
            &key.subject,
            &key.role,
            &key.tenant,
            &assignment.until_us,
            &assignment.author,
            &assignment.at_us,
        ],
        1,
    )
    .await?;
    transaction.commit().await.map_err(backend)?;
    Ok(AssignmentResult::Done)
}

fn read_assignment(row: &Row) -> Result<RoleAssignment> {
    Ok(RoleAssignment {
        key: RoleKey {
            issuer: get(row, 1)?,
            subject: get(row, 2)?,
            role: get(row, 3)?,
            tenant: get(row, 4)?,
        },
        until_us: get(row, 5)?,
        author: get(row, 6)?,
        at_us: get(row, 7)?,
    })
}
