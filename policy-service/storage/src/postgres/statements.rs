//! Every statement over the tables. Each is sent with its parameters in one message, so it costs
//! one round trip.

use picket_model::session::EndReason;
use picket_state::sessions::{
    ConcurrencyLimit, DeletedRows, LiveSince, Lockdown, Restrictions, Revocation, Session, SessionCounts,
    SessionCreation, SessionEnd,
};
use picket_state::{Fingerprint, ListFilter, NamedBy, PrincipalId, SessionId, StorageError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient, Row, Transaction};

use super::listener::Probe;
use super::schema::{self, get};
use super::{CLEANING_TIMEOUT, backend};
use crate::target;

type Result<T> = std::result::Result<T, StorageError>;
pub(super) type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

const COLUMNS: &str = "id, principal, issuer, subject, tenant, named_by, name, fingerprint, first_seen_us, last_seen_us, \
                       ended_us, end_reason, ended_caller";

pub(super) async fn session(client: &Client, id: SessionId) -> Result<Option<Session>> {
    let rows = query(
        client,
        &format!("SELECT {COLUMNS} FROM picket.session WHERE id = $1"),
        &[(&id.as_bytes(), Type::BYTEA)],
    )
    .await?;
    rows.first().map(read_session).transpose()
}

pub(super) async fn create(
    client: &mut Client,
    session: &Session,
    concurrency: ConcurrencyLimit,
) -> Result<SessionCreation> {
    let transaction = client.transaction().await.map_err(backend)?;
    // Two replicas that create sessions of one principal do so one after another, or each would
    // count one too few.
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&lock_of(&session.principal)])
        .await
        .map_err(backend)?;
    let inserted = transaction
        .execute(
            "INSERT INTO picket.session
                 (id, principal, issuer, subject, tenant, named_by, name, fingerprint, first_seen_us, last_seen_us)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING",
            &[
                &session.id.as_bytes(),
                &session.principal.as_bytes(),
                &session.issuer,
                &session.subject,
                &session.tenant,
                &session.named_by.as_str(),
                &session.name,
                &session.fingerprint.as_bytes(),
                &session.first_seen_us,
                &session.last_seen_us,
            ],
        )
        .await
        .map_err(backend)?;
    if inserted == 0 {
        let row = transaction
            .query_one(
                &format!("SELECT {COLUMNS} FROM picket.session WHERE id = $1"),
                &[&session.id.as_bytes()],
            )
            .await
            .map_err(backend)?;
        return read_session(&row).map(|session| SessionCreation::Existing(Box::new(session)));
    }
    // The new one is one of them.
    let others_max = i64::from(concurrency.max.saturating_sub(1));
    let rows = transaction
        .query(
            "WITH over AS (
                 UPDATE picket.session SET ended_us = $1, end_reason = $2 WHERE id IN (
                     SELECT id FROM picket.session
                     WHERE principal = $3 AND id <> $4 AND ended_us IS NULL AND first_seen_us > $5 AND last_seen_us > $6
                     ORDER BY first_seen_us DESC, id OFFSET $7
                 ) RETURNING id
             ) SELECT id, pg_notify('picket_storage', 'session ' || encode(id, 'hex')) FROM over",
            &[
                &session.first_seen_us,
                &EndReason::Superseded.as_str(),
                &session.principal.as_bytes(),
                &session.id.as_bytes(),
                &concurrency.first_seen_after_us,
                &concurrency.last_seen_after_us,
                &others_max,
            ],
        )
        .await
        .map_err(backend)?;
    transaction.commit().await.map_err(backend)?;
    let ids = rows.iter().map(|row| digest(row, 0, SessionId::from_slice));
    Ok(SessionCreation::Created {
        superseded: ids.collect::<Result<_>>()?,
    })
}

pub(super) async fn end(client: &mut Client, id: SessionId, ended: &SessionEnd, used_until_us: i64) -> Result<bool> {
    let transaction = client.transaction().await.map_err(backend)?;
    // Locked, so that nobody else ends or uses it before it is ended here.
    let live = query(
        &transaction,
        "SELECT 1 FROM picket.session WHERE id = $1 AND ended_us IS NULL AND last_seen_us <= $2 FOR UPDATE",
        &[(&id.as_bytes(), Type::BYTEA), (&used_until_us, Type::INT8)],
    )
    .await?;
    if live.is_empty() {
        return Ok(false);
    }
    expect_rows(
        &transaction,
        "WITH over AS (
             UPDATE picket.session SET ended_us = $1, end_reason = $2, ended_caller = $3 WHERE id = $4 RETURNING id
         ) SELECT pg_notify('picket_storage', 'session ' || encode(id, 'hex')) FROM over",
        &[
            (&ended.at_us, Type::INT8),
            (&ended.reason.as_str(), Type::TEXT),
            (&ended.caller, Type::TEXT),
            (&id.as_bytes(), Type::BYTEA),
        ],
        live.len(),
    )
    .await?;
    transaction.commit().await.map_err(backend)?;
    Ok(true)
}

/// Fails where a statement has left another number of rows than it should.
pub(super) async fn expect_rows(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
    expected: usize,
) -> Result<()> {
    match query(client, sql, parameters).await?.len() {
        rows if rows == expected => Ok(()),
        _ => Err(StorageError::NotDone),
    }
}

/// Executes a statement that writes so many rows, or selects them from those that it has written.
/// Something in the database may have discarded them without an error.
pub(super) async fn write_rows(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    expected: usize,
) -> Result<()> {
    let written = transaction.execute(sql, parameters).await.map_err(backend)?;
    match usize::try_from(written) {
        Ok(rows) if rows == expected => Ok(()),
        Ok(_) | Err(_) => Err(StorageError::NotDone),
    }
}

pub(super) async fn record_uses(client: &Client, seen: &[(SessionId, i64)]) -> Result<()> {
    // In one order on every replica, so that none waits for a row of the other while the other
    // waits for one of its own.
    let mut seen = seen.to_vec();
    seen.sort_unstable();
    let (ids, times): (Vec<_>, Vec<_>) = seen.iter().map(|(id, time_us)| (id.as_bytes(), *time_us)).unzip();
    query(
        client,
        "WITH seen AS (SELECT * FROM unnest($1, $2) AS seen (id, time_us)),
             locked AS (
                 SELECT session.id FROM picket.session JOIN seen USING (id) ORDER BY session.id FOR UPDATE OF session
             )
         UPDATE picket.session SET last_seen_us = greatest(last_seen_us, seen.time_us)
         FROM seen JOIN locked USING (id) WHERE session.id = seen.id",
        &[(&ids, Type::BYTEA_ARRAY), (&times, Type::INT8_ARRAY)],
    )
    .await
    .map(drop)
}

pub(super) async fn sessions(
    client: &Client,
    filter: &ListFilter,
    after: Option<SessionId>,
    count_max: u32,
) -> Result<Vec<Session>> {
    // Every id is greater than no bytes.
    let after = after.as_ref().map_or(&[][..], SessionId::as_bytes);
    let count_max = i64::from(count_max);
    let select =
        |condition: &str| format!("SELECT {COLUMNS} FROM picket.session WHERE {condition}id > $1 ORDER BY id LIMIT $2");
    let (after, count) = (
        (&after as &(dyn ToSql + Sync), Type::BYTEA),
        (&count_max as &(dyn ToSql + Sync), Type::INT8),
    );
    let rows = match filter {
        ListFilter::All => query(client, &select(""), &[after, count]).await,
        ListFilter::Principal(principal) => {
            let principal = principal.as_bytes();
            let parameters = [after, count, (&principal as &(dyn ToSql + Sync), Type::BYTEA)];
            query(client, &select("principal = $3 AND "), &parameters).await
        }
        ListFilter::Tenant(tenant) => {
            let parameters = [after, count, (tenant as &(dyn ToSql + Sync), Type::TEXT)];
            query(client, &select("tenant = $3 AND "), &parameters).await
        }
    }?;
    rows.iter().map(read_session).collect()
}

pub(super) async fn last_sessions(
    client: &Client,
    after: Option<PrincipalId>,
    since: LiveSince,
    count_max: u32,
) -> Result<Vec<Session>> {
    // Every principal is greater than no bytes.
    let after = after.as_ref().map_or(&[][..], PrincipalId::as_bytes);
    let rows = query(
        client,
        &format!(
            "SELECT DISTINCT ON (principal) {COLUMNS} FROM picket.session
             WHERE principal > $1 AND ended_us IS NULL AND first_seen_us > $2 AND last_seen_us > $3
             ORDER BY principal, last_seen_us DESC LIMIT $4"
        ),
        &[
            (&after, Type::BYTEA),
            (&since.first_seen_after_us, Type::INT8),
            (&since.last_seen_after_us, Type::INT8),
            (&i64::from(count_max), Type::INT8),
        ],
    )
    .await?;
    rows.iter().map(read_session).collect()
}

pub(super) async fn counts(client: &mut Client, tenants_max: u32) -> Result<SessionCounts> {
    let transaction = long_transaction(client).await?;
    let rows = transaction
        .query_typed(
            "SELECT count(*), count(*) FILTER (WHERE tenant IS NULL) FROM picket.session",
            &[],
        )
        .await
        .map_err(backend)?;
    let all = rows.first().ok_or(StorageError::Malformed("session"))?;
    let (all, without_tenant) = (number(all, 0)?, number(all, 1)?);
    let tenants = transaction
        .query_typed(
            "SELECT tenant, count(*) AS held FROM picket.session WHERE tenant IS NOT NULL
             GROUP BY tenant ORDER BY held DESC LIMIT $1",
            &[(&i64::from(tenants_max), Type::INT8)],
        )
        .await
        .map_err(backend)?;
    transaction.commit().await.map_err(backend)?;
    let tenants = tenants.iter().map(|row| Ok((get(row, 0)?, number(row, 1)?)));
    Ok(SessionCounts {
        all,
        without_tenant,
        tenants: tenants.collect::<Result<_>>()?,
    })
}

/// One for what may take longer than anything that a request waits for.
async fn long_transaction(client: &mut Client) -> Result<Transaction<'_>> {
    let transaction = client.transaction().await.map_err(backend)?;
    let timeout = format!("SET LOCAL statement_timeout = {}", CLEANING_TIMEOUT.as_millis());
    transaction.batch_execute(&timeout).await.map_err(backend)?;
    Ok(transaction)
}

fn number(row: &Row, index: usize) -> Result<u64> {
    let number: i64 = get(row, index)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

pub(super) async fn delete_expired(
    client: &mut Client,
    seen_before_us: i64,
    revoked_before_us: i64,
    count_max: u32,
) -> Result<DeletedRows> {
    let transaction = long_transaction(client).await?;
    let rows = transaction
        .query_typed(
        "WITH sessions AS (
             DELETE FROM picket.session WHERE id IN (
                 SELECT id FROM picket.session WHERE last_seen_us < $1 ORDER BY last_seen_us LIMIT $3 FOR UPDATE SKIP LOCKED
             ) RETURNING 1
         ), revocations AS (DELETE FROM picket.revocation WHERE until_us < $2 RETURNING 1)
         SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM revocations)",
        &[
            (&seen_before_us, Type::INT8),
            (&revoked_before_us, Type::INT8),
            (&i64::from(count_max), Type::INT8),
        ],
    )
    .await
    .map_err(backend)?;
    transaction.commit().await.map_err(backend)?;
    let number = |index| rows.first().map_or(Ok(0), |row| number(row, index));
    Ok(DeletedRows {
        sessions: number(0)?,
        revocations: number(1)?,
    })
}

pub(super) async fn restrictions(client: &mut Client) -> Result<Restrictions> {
    // One snapshot, so that both are of one time.
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(backend)?;
    let mut restrictions = Restrictions::default();
    for row in transaction
        .query("SELECT kind, target, until_us FROM picket.revocation", &[])
        .await
        .map_err(backend)?
    {
        let (kind, target): (String, Vec<u8>) = (get(&row, 0)?, get(&row, 1)?);
        let target = target::of_key(&kind, &target).ok_or(StorageError::Malformed("revocation"))?;
        restrictions.revocations.add(target, get(&row, 2)?);
    }
    let lockdown = transaction
        .query_opt("SELECT at_us, caller FROM picket.lockdown WHERE id = 1", &[])
        .await
        .map_err(backend)?;
    transaction.commit().await.map_err(backend)?;
    if let Some(row) = lockdown {
        restrictions.lockdown = Some(Lockdown {
            at_us: get(&row, 0)?,
            caller: get(&row, 1)?,
        });
    }
    Ok(restrictions)
}

pub(super) async fn revoke(client: &Client, revocation: &Revocation) -> Result<()> {
    let (kind, target) = target::key(&revocation.target);
    // It is told whether or not it changes something: whoever acknowledges it must know it
    // everywhere.
    expect_rows(
        client,
        "WITH stored AS (
             INSERT INTO picket.revocation AS stored (kind, target, label, until_us, caller) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (kind, target) DO UPDATE SET
                 caller = CASE WHEN excluded.until_us > stored.until_us THEN excluded.caller ELSE stored.caller END,
                 until_us = greatest(stored.until_us, excluded.until_us)
             RETURNING until_us
         ) SELECT pg_notify('picket_storage', 'standing') FROM stored WHERE until_us >= $4",
        &[
            (&kind, Type::TEXT),
            (&target, Type::BYTEA),
            (&revocation.label, Type::TEXT),
            (&revocation.until_us, Type::INT8),
            (&revocation.caller, Type::TEXT),
        ],
        1,
    )
    .await
}

pub(super) async fn set_lockdown(client: &mut Client, lockdown: Option<&Lockdown>) -> Result<bool> {
    let transaction = client.transaction().await.map_err(backend)?;
    // Nobody else changes it before it is counted.
    transaction
        .batch_execute("LOCK TABLE picket.lockdown IN SHARE ROW EXCLUSIVE MODE")
        .await
        .map_err(backend)?;
    let notify = ") SELECT pg_notify('picket_storage', 'standing') FROM changed";
    let rows = match lockdown {
        Some(lockdown) => {
            query(
                &transaction,
                &format!(
                    "WITH changed AS (
                         INSERT INTO picket.lockdown (id, at_us, caller) VALUES (1, $1, $2) ON CONFLICT DO NOTHING RETURNING 1
                     {notify}"
                ),
                &[(&lockdown.at_us, Type::INT8), (&lockdown.caller, Type::TEXT)],
            )
            .await?
        }
        None => {
            let delete = format!("WITH changed AS (DELETE FROM picket.lockdown RETURNING 1 {notify}");
            query(&transaction, &delete, &[]).await?
        }
    };
    let left = usize::from(lockdown.is_some());
    expect_rows(&transaction, "SELECT 1 FROM picket.lockdown", &[], left).await?;
    transaction.commit().await.map_err(backend)?;
    Ok(!rows.is_empty())
}

/// Notifies whoever listens, and does nothing else.
pub(super) async fn notify(client: &Client, probe: Probe<'_>) -> Result<()> {
    let parameters: &Parameters<'_> = &[(&probe.channel, Type::TEXT), (&probe.number.to_string(), Type::TEXT)];
    expect_rows(client, "SELECT pg_notify($1, $2)", parameters, 1).await
}

/// Writes, as a server that stands by for another or whose disk is full does not, notifies, and
/// asks for what could discard a write.
pub(super) async fn probe(client: &Client, probe: Probe<'_>) -> Result<()> {
    expect_rows(
        client,
        "WITH written AS (UPDATE picket.probe SET count = (count + 1) % 1000 RETURNING 1)
         SELECT pg_notify($1, $2) FROM written",
        &[(&probe.channel, Type::TEXT), (&probe.number.to_string(), Type::TEXT)],
        1,
    )
    .await?;
    schema::check(client).await
}

pub(super) async fn query(client: &impl GenericClient, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>> {
    client.query_typed(sql, parameters).await.map_err(backend)
}

/// A number for the lock of a principal; where two share one, they wait for each other, and that is
/// all.
fn lock_of(principal: &PrincipalId) -> i64 {
    let bytes = principal.as_bytes().first_chunk().copied();
    i64::from_be_bytes(bytes.unwrap_or_default())
}

fn read_session(row: &Row) -> Result<Session> {
    let ended = match get::<Option<i64>>(row, 10)? {
        Some(at_us) => {
            let reason = get::<String>(row, 11)?;
            Some(SessionEnd {
                at_us,
                reason: EndReason::from_name(&reason).ok_or(StorageError::Malformed("session"))?,
                caller: get(row, 12)?,
            })
        }
        None => None,
    };
    Ok(Session {
        id: digest(row, 0, SessionId::from_slice)?,
        principal: digest(row, 1, PrincipalId::from_slice)?,
        issuer: get(row, 2)?,
        subject: get(row, 3)?,
        tenant: get(row, 4)?,
        named_by: NamedBy::named(&get::<String>(row, 5)?).ok_or(StorageError::Malformed("session"))?,
        name: get(row, 6)?,
        fingerprint: digest(row, 7, Fingerprint::from_slice)?,
        first_seen_us: get(row, 8)?,
        last_seen_us: get(row, 9)?,
        ended,
    })
}

fn digest<T>(row: &Row, index: usize, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
    read(&get::<Vec<u8>>(row, index)?).ok_or(StorageError::Malformed("session"))
}
