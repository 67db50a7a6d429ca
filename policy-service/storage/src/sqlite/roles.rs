//! Role assignments in SQLite.

use async_trait::async_trait;
use picket_sqlite::one_row;
use picket_state::StorageError;
use picket_state::roles::{AssignmentResult, ROLE_ASSIGNMENTS_MAX, RoleAssignment, RoleFilter, RoleKey, RoleStore};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::policies::{number, stored};
use super::statements::none;

type Result<T> = std::result::Result<T, rusqlite::Error>;

const COLUMNS: &str = "id, issuer, subject, role, tenant, until_us, author, at_us";
/// `IS` takes two that are absent for the same.
const OF_KEY: &str = "issuer = ?1 AND subject = ?2 AND role = ?3 AND tenant IS ?4";

#[async_trait]
impl RoleStore for SqliteStore {
    async fn roles(&self) -> std::result::Result<Vec<RoleAssignment>, StorageError> {
        self.read(roles).await
    }

    async fn assign(&self, assignment: RoleAssignment) -> std::result::Result<AssignmentResult, StorageError> {
        self.write(move |transaction| assign(transaction, &assignment)).await
    }

    async fn withdraw(&self, key: RoleKey) -> std::result::Result<bool, StorageError> {
        self.write(move |transaction| withdraw(transaction, &key)).await
    }

    async fn roles_page(
        &self,
        filter: RoleFilter,
        after: u64,
        count_max: u32,
    ) -> std::result::Result<Vec<(u64, RoleAssignment)>, StorageError> {
        self.read(move |connection| page(connection, &filter, after, count_max))
            .await
    }
}

fn roles(connection: &Connection) -> Result<Vec<RoleAssignment>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM role_assignment"))?
        .query_map([], read_assignment)?
        .collect()
}

fn assign(connection: &Connection, assignment: &RoleAssignment) -> Result<AssignmentResult> {
    let key = &assignment.key;
    let of_key = params![key.issuer, key.subject, key.role, key.tenant];
    let held: Option<Option<i64>> = connection
        .prepare_cached(&format!("SELECT until_us FROM role_assignment WHERE {OF_KEY}"))?
        .query_row(of_key, |row| row.get(0))
        .optional()?;
    match held {
        Some(until_us) if until_us == assignment.until_us => return Ok(AssignmentResult::Unchanged),
        Some(_) => {
            withdraw(connection, key)?;
        }
        None => {
            connection
                .prepare_cached("DELETE FROM role_assignment WHERE until_us <= ?1")?
                .execute([assignment.at_us])?;
        }
    }
    let count = connection.query_row("SELECT count(*) FROM role_assignment", [], |row| number(row, 0))?;
    if count >= ROLE_ASSIGNMENTS_MAX {
        return Ok(AssignmentResult::TooMany);
    }
    let written = connection
        .prepare_cached(
            "INSERT INTO role_assignment (issuer, subject, role, tenant, until_us, author, at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            key.issuer,
            key.subject,
            key.role,
            key.tenant,
            assignment.until_us,
            assignment.author,
            assignment.at_us
        ])?;
    one_row(written)?;
    Ok(AssignmentResult::Done)
}

fn withdraw(connection: &Connection, key: &RoleKey) -> Result<bool> {
    let of_key = params![key.issuer, key.subject, key.role, key.tenant];
    let changed = connection
        .prepare_cached(&format!("DELETE FROM role_assignment WHERE {OF_KEY}"))?
        .execute(of_key)?;
    let left = format!("SELECT count(*) FROM role_assignment WHERE {OF_KEY}");
    none(connection, &left, of_key)?;
    Ok(changed > 0)
}

fn page(
    connection: &Connection,
    filter: &RoleFilter,
    after: u64,
    count_max: u32,
) -> Result<Vec<(u64, RoleAssignment)>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM role_assignment WHERE id > ?1 AND (?3 IS NULL OR issuer = ?3) AND (?4 IS NULL OR subject = ?4)
                 AND (?5 IS NULL OR role = ?5) AND (?6 IS NULL OR tenant = ?6) ORDER BY id LIMIT ?2"
        ))?
        .query_map(
            params![
                stored(after),
                count_max,
                filter.issuer,
                filter.subject,
                filter.role,
                filter.tenant
            ],
            |row| Ok((number(row, 0)?, read_assignment(row)?)),
        )?
        .collect()
}

fn read_assignment(row: &Row<'_>) -> Result<RoleAssignment> {
    Ok(RoleAssignment {
        key: RoleKey {
            issuer: row.get(1)?,
            subject: row.get(2)?,
            role: row.get(3)?,
            tenant: row.get(4)?,
        },
        until_us: row.get(5)?,
        author: row.get(6)?,
        at_us: row.get(7)?,
    })
}
