//! Every statement over the tables.

use picket_model::session::EndReason;
use picket_sqlite::one_row;
use picket_state::sessions::{
    ConcurrencyLimit, DeletedRows, LiveSince, Lockdown, Restrictions, Revocation, Session, SessionCounts,
    SessionCreation, SessionEnd,
};
use picket_state::{Fingerprint, ListFilter, NamedBy, PrincipalId, SessionId};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::target;

type Result<T> = std::result::Result<T, rusqlite::Error>;

const COLUMNS: &str = "id, principal, issuer, subject, tenant, named_by, name, fingerprint, first_seen_us, last_seen_us, \
                       ended_us, end_reason, ended_caller";

const COUNT_ALL: &str = "SELECT count(*) FROM session";
const COUNT_WITH_TENANT: &str = "SELECT count(*) FROM session WHERE tenant IS NOT NULL";
const COUNT_TENANTS: &str = "SELECT tenant, count(*) AS held FROM session WHERE tenant IS NOT NULL
     GROUP BY tenant ORDER BY held DESC LIMIT ?1";

/// Ends the oldest sessions of a principal that are too many beside a new one.
const SUPERSEDE: &str = "UPDATE session SET ended_us = ?1, end_reason = ?2 WHERE id IN (
         SELECT id FROM session
         WHERE principal = ?3 AND id <> ?4 AND ended_us IS NULL AND first_seen_us > ?5 AND last_seen_us > ?6
         ORDER BY first_seen_us DESC, id LIMIT -1 OFFSET ?7
     ) RETURNING id";

pub(super) fn session(connection: &Connection, id: SessionId) -> Result<Option<Session>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM session WHERE id = ?1"))?
        .query_row([id.as_bytes()], read_session)
        .optional()
}

pub(super) fn create(
    connection: &Connection,
    session: &Session,
    concurrency: ConcurrencyLimit,
) -> Result<SessionCreation> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO session (id, principal, issuer, subject, tenant, named_by, name, fingerprint, first_seen_us, last_seen_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            session.id.as_bytes(),
            session.principal.as_bytes(),
            session.issuer,
            session.subject,
            session.tenant,
            session.named_by.as_str(),
            session.name,
            session.fingerprint.as_bytes(),
            session.first_seen_us,
            session.last_seen_us,
        ])?;
    if inserted == 0 {
        let existing = self::session(connection, session.id)?;
        return existing
            .map(|session| SessionCreation::Existing(Box::new(session)))
            .ok_or(rusqlite::Error::QueryReturnedNoRows);
    }
    let superseded = connection
        .prepare_cached(SUPERSEDE)?
        .query_map(
            params![
                session.first_seen_us,
                EndReason::Superseded.as_str(),
                session.principal.as_bytes(),
                session.id.as_bytes(),
                concurrency.first_seen_after_us,
                concurrency.last_seen_after_us,
                // The new one is one of them.
                concurrency.max.saturating_sub(1),
            ],
            |row| digest(row, 0, SessionId::from_slice),
        )?
        .collect::<Result<Vec<_>>>()?;
    Ok(SessionCreation::Created { superseded })
}

pub(super) fn end(connection: &Connection, id: SessionId, ended: &SessionEnd, used_until_us: i64) -> Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE session SET ended_us = ?1, end_reason = ?2, ended_caller = ?3
             WHERE id = ?4 AND ended_us IS NULL AND last_seen_us <= ?5",
        )?
        .execute(params![
            ended.at_us,
            ended.reason.as_str(),
            ended.caller,
            id.as_bytes(),
            used_until_us
        ])?;
    if changed == 0 {
        let live = "SELECT count(*) FROM session WHERE id = ?1 AND ended_us IS NULL AND last_seen_us <= ?2";
        none(connection, live, params![id.as_bytes(), used_until_us])?;
    }
    Ok(changed > 0)
}

/// Fails where rows are left that a statement should have changed or deleted.
pub(super) fn none(connection: &Connection, count: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<()> {
    let rows: i64 = connection
        .prepare_cached(count)?
        .query_row(parameters, |row| row.get(0))?;
    match rows {
        0 => Ok(()),
        _ => Err(rusqlite::Error::StatementChangedRows(0)),
    }
}

pub(super) fn record_uses(connection: &Connection, seen: &[(SessionId, i64)]) -> Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE session SET last_seen_us = max(last_seen_us, ?1) WHERE id = ?2")?;
    for (id, seen_us) in seen {
        statement.execute(params![seen_us, id.as_bytes()])?;
    }
    Ok(())
}

pub(super) fn sessions(
    connection: &Connection,
    filter: &ListFilter,
    after: Option<SessionId>,
    count_max: u32,
) -> Result<Vec<Session>> {
    // Every id is greater than no bytes.
    let after = after.as_ref().map_or(&[][..], SessionId::as_bytes);
    let order = "id > ?1 ORDER BY id LIMIT ?2";
    let list = |condition: &str, parameters: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM session WHERE {condition}{order}"))?
            .query_map(parameters, read_session)?
            .collect()
    };
    match filter {
        ListFilter::All => list("", params![after, count_max]),
        ListFilter::Principal(principal) => {
            list("principal = ?3 AND ", params![after, count_max, principal.as_bytes()])
        }
        ListFilter::Tenant(tenant) => list("tenant = ?3 AND ", params![after, count_max, tenant]),
    }
}

pub(super) fn last_sessions(
    connection: &Connection,
    after: Option<PrincipalId>,
    since: LiveSince,
    count_max: u32,
) -> Result<Vec<Session>> {
    // Every principal is greater than no bytes.
    let after = after.as_ref().map_or(&[][..], PrincipalId::as_bytes);
    // Beside `max` the other columns are those of the row that has it (SQLite, "Bare columns in an
    // aggregate query").
    let columns = COLUMNS.replace("last_seen_us", "max(last_seen_us)");
    connection
        .prepare_cached(&format!(
            "SELECT {columns} FROM session
             WHERE principal > ?1 AND ended_us IS NULL AND first_seen_us > ?2 AND last_seen_us > ?3
             GROUP BY principal ORDER BY principal LIMIT ?4"
        ))?
        .query_map(
            params![after, since.first_seen_after_us, since.last_seen_after_us, count_max],
            read_session,
        )?
        .collect()
}

pub(super) fn counts(connection: &Connection, tenants_max: u32) -> Result<SessionCounts> {
    // One transaction, so that all of it is of one time. Each is read from an index alone.
    let snapshot = connection.unchecked_transaction()?;
    let number = |sql: &str| -> Result<u64> { snapshot.query_row(sql, [], |row| count(row, 0)) };
    let all = number(COUNT_ALL)?;
    let with_tenant = number(COUNT_WITH_TENANT)?;
    let mut tenants = snapshot.prepare_cached(COUNT_TENANTS)?;
    let tenants = tenants.query_map([tenants_max], |row| Ok((row.get(0)?, count(row, 1)?)))?;
    Ok(SessionCounts {
        all,
        without_tenant: all.saturating_sub(with_tenant),
        tenants: tenants.collect::<Result<_>>()?,
    })
}

fn count(row: &Row<'_>, index: usize) -> Result<u64> {
    let count: i64 = row.get(index)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) fn delete_expired(
    connection: &Connection,
    seen_before_us: i64,
    revoked_before_us: i64,
    count_max: u32,
) -> Result<DeletedRows> {
    let sessions = connection
        .prepare_cached(
            "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE last_seen_us < ?1 ORDER BY last_seen_us LIMIT ?2)",
        )?
        .execute(params![seen_before_us, count_max])?;
    let revocations = connection
        .prepare_cached("DELETE FROM revocation WHERE until_us < ?1")?
        .execute([revoked_before_us])?;
    Ok(DeletedRows {
        sessions: u64::try_from(sessions).unwrap_or(u64::MAX),
        revocations: u64::try_from(revocations).unwrap_or(u64::MAX),
    })
}

pub(super) fn restrictions(connection: &Connection) -> Result<Restrictions> {
    // One transaction, so that both are of one time.
    let snapshot = connection.unchecked_transaction()?;
    let mut restrictions = Restrictions::default();
    let mut statement = snapshot.prepare_cached("SELECT kind, target, until_us FROM revocation")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, target) = (row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?);
        let target = target::of_key(&kind, &target).ok_or_else(|| malformed(0, "revocation"))?;
        restrictions.revocations.add(target, row.get(2)?);
    }
    restrictions.lockdown = snapshot
        .prepare_cached("SELECT at_us, caller FROM lockdown WHERE id = 1")?
        .query_row([], |row| {
            Ok(Lockdown {
                at_us: row.get(0)?,
                caller: row.get(1)?,
            })
        })
        .optional()?;
    Ok(restrictions)
}

pub(super) fn revoke(connection: &Connection, revocation: &Revocation) -> Result<()> {
    let (kind, target) = target::key(&revocation.target);
    let written = connection
        .prepare_cached(
            "INSERT INTO revocation (kind, target, label, until_us, caller) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (kind, target) DO UPDATE SET
                 caller = iif(excluded.until_us > until_us, excluded.caller, caller),
                 until_us = max(until_us, excluded.until_us)",
        )?
        .execute(params![
            kind,
            target,
            revocation.label,
            revocation.until_us,
            revocation.caller
        ])?;
    one_row(written)
}

pub(super) fn set_lockdown(connection: &Connection, lockdown: Option<&Lockdown>) -> Result<bool> {
    let changed = match lockdown {
        Some(lockdown) => connection
            .prepare_cached("INSERT INTO lockdown (id, at_us, caller) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![lockdown.at_us, lockdown.caller])?,
        None => connection.prepare_cached("DELETE FROM lockdown")?.execute([])?,
    };
    let wrong = match lockdown {
        Some(_) => "SELECT 1 - count(*) FROM lockdown",
        None => "SELECT count(*) FROM lockdown",
    };
    none(connection, wrong, &[])?;
    Ok(changed > 0)
}

pub(super) fn probe(connection: &Connection) -> Result<()> {
    let written = connection
        .prepare_cached("UPDATE probe SET count = (count + 1) % 1000")?
        .execute([])?;
    one_row(written)
}

fn read_session(row: &Row<'_>) -> Result<Session> {
    let ended = match row.get::<_, Option<i64>>(10)? {
        Some(at_us) => {
            let reason = row.get::<_, String>(11)?;
            Some(SessionEnd {
                at_us,
                reason: EndReason::from_name(&reason).ok_or_else(|| malformed(11, "end_reason"))?,
                caller: row.get(12)?,
            })
        }
        None => None,
    };
    Ok(Session {
        id: digest(row, 0, SessionId::from_slice)?,
        principal: digest(row, 1, PrincipalId::from_slice)?,
        issuer: row.get(2)?,
        subject: row.get(3)?,
        tenant: row.get(4)?,
        named_by: NamedBy::named(&row.get::<_, String>(5)?).ok_or_else(|| malformed(5, "named_by"))?,
        name: row.get(6)?,
        fingerprint: digest(row, 7, Fingerprint::from_slice)?,
        first_seen_us: row.get(8)?,
        last_seen_us: row.get(9)?,
        ended,
    })
}

fn digest<T>(row: &Row<'_>, index: usize, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
    read(&row.get::<_, Vec<u8>>(index)?).ok_or_else(|| malformed(index, "a digest"))
}

pub(super) fn malformed(index: usize, name: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(index, name.to_owned(), Type::Blob)
}

#[cfg(test)]
mod tests {
    use super::super::schema::migrate;
    use super::*;

    fn plan(connection: &Connection, sql: &str) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let nothing = vec![rusqlite::types::Null; count];
        let steps = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3));
        steps.unwrap().collect::<Result<Vec<_>>>().unwrap().join("\n")
    }

    #[test]
    fn what_each_new_session_costs_does_not_grow_with_those_that_have_ended() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, std::path::Path::new("memory")).unwrap();
        let plan = plan(&connection, SUPERSEDE);
        assert!(
            plan.contains("session_by_principal_live (principal=? AND first_seen_us>?)"),
            "{plan}"
        );
    }

    #[test]
    fn sessions_are_counted_in_indexes_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, std::path::Path::new("memory")).unwrap();
        for sql in [COUNT_ALL, COUNT_WITH_TENANT, COUNT_TENANTS] {
            let plan = plan(&connection, sql);
            assert!(plan.contains("session USING COVERING INDEX"), "{sql}: {plan}");
        }
    }
}
