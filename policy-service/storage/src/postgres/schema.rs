//! The tables, in a schema of their own, and how a database comes to them.

use picket_state::StorageError;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, GenericClient};

use super::backend;

/// What the version's row says besides the version.
const APPLICATION: &str = "picket storage";
/// "Piks", twice: replicas that start together bring the database to the current schema one after
/// another.
const MIGRATION_LOCK: i64 = 0x5069_6b73_5069_6b73;

/// What brings a database from version n to n + 1. Entries are added, never changed.
const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE picket.session (
        id bytea PRIMARY KEY,
        principal bytea NOT NULL,
        issuer text NOT NULL,
        subject text NOT NULL,
        tenant text,
        named_by text NOT NULL,
        name text NOT NULL,
        fingerprint bytea NOT NULL,
        first_seen_us bigint NOT NULL,
        last_seen_us bigint NOT NULL,
        ended_us bigint,
        end_reason text,
        ended_caller text
    );
    CREATE INDEX session_by_principal ON picket.session (principal, id);
    -- Of a principal only those are ended for a new one that have not ended, however many have.
    CREATE INDEX session_by_principal_live ON picket.session (principal, first_seen_us) WHERE ended_us IS NULL;
    CREATE INDEX session_by_tenant ON picket.session (tenant, id) WHERE tenant IS NOT NULL;
    CREATE INDEX session_by_last_seen ON picket.session (last_seen_us);
    CREATE TABLE picket.revocation (
        kind text NOT NULL,
        target bytea NOT NULL,
        label text NOT NULL,
        until_us bigint NOT NULL,
        caller text NOT NULL,
        PRIMARY KEY (kind, target)
    );
    CREATE TABLE picket.lockdown (
        id integer PRIMARY KEY CHECK (id = 1),
        at_us bigint NOT NULL,
        caller text NOT NULL
    );
    CREATE TABLE picket.probe (
        id integer PRIMARY KEY CHECK (id = 1),
        count integer NOT NULL
    );
    INSERT INTO picket.probe VALUES (1, 0);
",
    "
    CREATE TABLE picket.policy_revision (
        number bigint PRIMARY KEY,
        digest text NOT NULL,
        author text NOT NULL,
        comment text NOT NULL,
        created_us bigint NOT NULL
    );
    CREATE TABLE picket.policy_file (
        revision bigint NOT NULL REFERENCES picket.policy_revision (number),
        name text NOT NULL,
        content text NOT NULL,
        PRIMARY KEY (revision, name)
    );
    -- The last one says which revision is active.
    CREATE TABLE picket.policy_activation (
        id bigint PRIMARY KEY,
        revision bigint NOT NULL REFERENCES picket.policy_revision (number),
        previous bigint,
        caller text NOT NULL,
        comment text NOT NULL,
        at_us bigint NOT NULL
    );
",
    "
    CREATE TABLE picket.role_assignment (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        issuer text NOT NULL,
        subject text NOT NULL,
        role text NOT NULL,
        tenant text,
        until_us bigint,
        author text NOT NULL,
        at_us bigint NOT NULL
    );
    -- An index takes each NULL for another one.
    CREATE UNIQUE INDEX role_assignment_by_key ON picket.role_assignment (issuer, subject, role, coalesce(tenant, ''));
    CREATE INDEX role_assignment_by_end ON picket.role_assignment (until_us) WHERE until_us IS NOT NULL;
",
    "
    CREATE TABLE picket.device (
        id bytea PRIMARY KEY,
        owner bytea NOT NULL,
        issuer text NOT NULL,
        subject text NOT NULL,
        tenant text,
        label text NOT NULL,
        state text NOT NULL,
        enrolled_us bigint NOT NULL,
        changed_us bigint NOT NULL,
        -- What was reported last: all of it is there, or none.
        os text,
        os_version text,
        is_disk_encrypted boolean,
        is_managed boolean,
        failures integer,
        reported_us bigint,
        reporter text
    );
    CREATE INDEX device_by_owner ON picket.device (owner, id);
    CREATE INDEX device_by_tenant ON picket.device (tenant, id) WHERE tenant IS NOT NULL;
    -- A byte for the kind, and the hash: each is of one device.
    CREATE TABLE picket.device_thumbprint (
        thumbprint bytea PRIMARY KEY,
        device bytea NOT NULL REFERENCES picket.device (id)
    );
    CREATE INDEX device_thumbprint_by_device ON picket.device_thumbprint (device);
    CREATE TABLE picket.enrollment (
        challenge bytea PRIMARY KEY,
        owner bytea NOT NULL,
        issuer text NOT NULL,
        subject text NOT NULL,
        tenant text,
        label text NOT NULL,
        ends_us bigint NOT NULL,
        caller text NOT NULL
    );
",
];

/// The tables. What else is in the schema is nobody's business: administrators put views of
/// extensions there.
const TABLES: [&str; 12] = [
    "version",
    "session",
    "revocation",
    "lockdown",
    "probe",
    "policy_revision",
    "policy_file",
    "policy_activation",
    "role_assignment",
    "device",
    "device_thumbprint",
    "enrollment",
];

/// What could change or discard a write to one of the tables that `$1` names: triggers but for
/// those of references, rules, policies on rows, tables that inherit from it, and what is no plain
/// table in its place. A trigger on `TRUNCATE` cannot, and some replication needs one.
const FOREIGN: &str = "
    SELECT current_database()::text, format('trigger `%s` on `%s`', tgname, relname)
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = 'picket'::regnamespace AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 28 <> 0
            AND relname = ANY($1)
    UNION ALL SELECT current_database()::text, format('rule `%s` on `%s`', rulename, relname)
        FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
        WHERE relnamespace = 'picket'::regnamespace AND ev_enabled <> 'D' AND relname = ANY($1)
    UNION ALL SELECT current_database()::text, format('row security of `%s`', relname)
        FROM pg_class WHERE relnamespace = 'picket'::regnamespace AND relrowsecurity AND relname = ANY($1)
    UNION ALL SELECT current_database()::text, format('relation `%s`', relname)
        FROM pg_class WHERE relnamespace = 'picket'::regnamespace AND relkind IN ('v', 'm', 'f', 'p')
            AND relname = ANY($1)
    UNION ALL SELECT current_database()::text, format('inheritance of `%s`', relname)
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
        WHERE relnamespace = 'picket'::regnamespace AND relname = ANY($1)
    LIMIT 1";

/// Fails where the tables have something that could change or discard a write.
pub(super) async fn check(client: &impl GenericClient) -> Result<(), StorageError> {
    let tables = TABLES.as_slice();
    let foreign = client
        .query_typed(FOREIGN, &[(&tables, Type::NAME_ARRAY)])
        .await
        .map_err(backend)?;
    let Some(row) = foreign.first() else { return Ok(()) };
    let database: String = get(row, 0)?;
    Err(StorageError::Altered {
        database: format!("schema `picket` of database `{database}`"),
        object: get(row, 1)?,
    })
}

/// Brings a database to the current version; a new one gets empty tables.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StorageError> {
    let transaction = client.transaction().await.map_err(backend)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])
        .await
        .map_err(backend)?;
    let row = transaction
        .query_one(
            "SELECT current_database()::text, to_regnamespace('picket') IS NOT NULL, to_regclass('picket.version') IS NOT NULL",
            &[],
        )
        .await
        .map_err(backend)?;
    let (database, has_schema, has_version): (String, bool, bool) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    let database = format!("schema `picket` of database `{database}`");
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = match (has_schema, has_version) {
        (false, _) => {
            transaction
                .batch_execute(
                    "CREATE SCHEMA picket; CREATE TABLE picket.version (application text NOT NULL, number bigint NOT NULL)",
                )
                .await
                .map_err(backend)?;
            transaction
                .execute("INSERT INTO picket.version VALUES ($1, 0)", &[&APPLICATION])
                .await
                .map_err(backend)?;
            0
        }
        (true, true) => version(&transaction, &database).await?,
        (true, false) => return Err(StorageError::Foreign(database)),
    };
    if found > known {
        return Err(StorageError::Newer { database, found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.batch_execute(migration).await.map_err(backend)?;
    }
    transaction
        .execute("UPDATE picket.version SET number = $1", &[&known])
        .await
        .map_err(backend)?;
    check(&transaction).await?;
    transaction.commit().await.map_err(backend)
}

async fn version(transaction: &tokio_postgres::Transaction<'_>, database: &str) -> Result<i64, StorageError> {
    let foreign = || StorageError::Foreign(database.to_owned());
    let rows = transaction
        .query("SELECT * FROM picket.version", &[])
        .await
        .map_err(backend)?;
    let [row] = rows.as_slice() else { return Err(foreign()) };
    let application: Option<String> = row.try_get("application").ok();
    let number: Option<i64> = row.try_get("number").ok();
    match (application.as_deref(), number) {
        (Some(APPLICATION), Some(number @ 1..)) => Ok(number),
        (_, _) => Err(foreign()),
    }
}

/// A column of a row.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a tokio_postgres::Row,
    index: usize,
) -> Result<T, StorageError> {
    row.try_get(index).map_err(backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_looked_at() {
        let created = MIGRATIONS.iter().flat_map(|migration| {
            let tables = migration.split("CREATE TABLE picket.").skip(1);
            tables.map(|table| table.split(' ').next().unwrap())
        });
        let all: Vec<&str> = std::iter::once("version").chain(created).collect();
        assert_eq!(all, TABLES);
    }
}
