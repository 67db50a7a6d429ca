//! The tables, and how a database comes to them.

use std::path::Path;

use picket_state::StorageError;
use rusqlite::Connection;

use super::backend;

/// "Piks": tells this storage from the audit log and from another program's database (`PRAGMA
/// application_id`).
const APPLICATION_ID: i64 = 0x5069_6b73;

/// What brings a database from version n to n + 1 (`PRAGMA user_version`). Entries are added, never
/// changed.
pub(super) const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE session (
        id BLOB PRIMARY KEY,
        principal BLOB NOT NULL,
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        tenant TEXT,
        named_by TEXT NOT NULL,
        name TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        first_seen_us INTEGER NOT NULL,
        last_seen_us INTEGER NOT NULL,
        ended_us INTEGER,
        end_reason TEXT,
        ended_caller TEXT
    ) STRICT;
    CREATE INDEX session_by_principal ON session (principal, id);
    -- Of a principal only those are ended for a new one that have not ended, however many have.
    CREATE INDEX session_by_principal_live ON session (principal, first_seen_us) WHERE ended_us IS NULL;
    CREATE INDEX session_by_tenant ON session (tenant, id) WHERE tenant IS NOT NULL;
    CREATE INDEX session_by_last_seen ON session (last_seen_us);
    CREATE TABLE revocation (
        kind TEXT NOT NULL,
        target BLOB NOT NULL,
        label TEXT NOT NULL,
        until_us INTEGER NOT NULL,
        caller TEXT NOT NULL,
        PRIMARY KEY (kind, target)
    ) STRICT;
    CREATE TABLE lockdown (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        at_us INTEGER NOT NULL,
        caller TEXT NOT NULL
    ) STRICT;
    CREATE TABLE probe (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        count INTEGER NOT NULL
    ) STRICT;
    INSERT INTO probe (id, count) VALUES (1, 0);
",
    "
    CREATE TABLE policy_revision (
        number INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        author TEXT NOT NULL,
        comment TEXT NOT NULL,
        created_us INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE policy_file (
        revision INTEGER NOT NULL REFERENCES policy_revision (number),
        name TEXT NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (revision, name)
    ) STRICT;
    -- The last one says which revision is active.
    CREATE TABLE policy_activation (
        id INTEGER PRIMARY KEY,
        revision INTEGER NOT NULL REFERENCES policy_revision (number),
        previous INTEGER,
        caller TEXT NOT NULL,
        comment TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE role_assignment (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        role TEXT NOT NULL,
        tenant TEXT,
        until_us INTEGER,
        author TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT;
    -- An index takes each NULL for another one.
    CREATE UNIQUE INDEX role_assignment_by_key ON role_assignment (issuer, subject, role, coalesce(tenant, ''));
    CREATE INDEX role_assignment_by_end ON role_assignment (until_us) WHERE until_us IS NOT NULL;
",
    "
    CREATE TABLE device (
        id BLOB PRIMARY KEY,
        owner BLOB NOT NULL,
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        tenant TEXT,
        label TEXT NOT NULL,
        state TEXT NOT NULL,
        enrolled_us INTEGER NOT NULL,
        changed_us INTEGER NOT NULL,
        -- What was reported last: all of it is there, or none.
        os TEXT,
        os_version TEXT,
        is_disk_encrypted INTEGER,
        is_managed INTEGER,
        failures INTEGER,
        reported_us INTEGER,
        reporter TEXT
    ) STRICT;
    CREATE INDEX device_by_owner ON device (owner, id);
    CREATE INDEX device_by_tenant ON device (tenant, id) WHERE tenant IS NOT NULL;
    -- A byte for the kind, and the hash: each is of one device.
    CREATE TABLE device_thumbprint (
        thumbprint BLOB PRIMARY KEY,
        device BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX device_thumbprint_by_device ON device_thumbprint (device);
    CREATE TABLE enrollment (
        challenge BLOB PRIMARY KEY,
        owner BLOB NOT NULL,
        issuer TEXT NOT NULL,
        subject TEXT NOT NULL,
        tenant TEXT,
        label TEXT NOT NULL,
        ends_us INTEGER NOT NULL,
        caller TEXT NOT NULL
    ) STRICT;
",
];

/// Brings a database to the current version; a new one gets empty tables.
pub(super) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), StorageError> {
    let found = version(connection, file)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        let database = file.display().to_string();
        return Err(StorageError::Newer { database, found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    let transaction = connection.transaction().map_err(backend)?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration).map_err(backend)?;
    }
    for (pragma, value) in [("application_id", APPLICATION_ID), ("user_version", known)] {
        transaction.pragma_update(None, pragma, value).map_err(backend)?;
    }
    transaction.commit().map_err(backend)
}

/// The version of the tables that are there; 0: there are none.
fn version(connection: &Connection, file: &Path) -> Result<i64, StorageError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(backend)?;
    match (
        tables,
        number("application_id").map_err(backend)?,
        number("user_version").map_err(backend)?,
    ) {
        (0, 0, 0) => Ok(0),
        (1.., APPLICATION_ID, version @ 1..) => Ok(version),
        (_, _, _) => Err(StorageError::Foreign(format!("database `{}`", file.display()))),
    }
}
