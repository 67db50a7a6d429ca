//! The tables of a SQLite database that this program owns, and everything that is attached to them:
//! a trigger, another index or an altered table could change or discard a write. Tables of others
//! are their business (Litestream, for one, has some).

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// What is refused.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// SQLite's own error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A table, or an index or a trigger on one, that is not as this program made it.
    #[error("`{0}` is not as Picket made it")]
    Altered(String),
}

/// The kind and the name.
type Name = (String, String);
type Objects = BTreeMap<Name, Object>;

#[derive(PartialEq, Eq)]
struct Object {
    /// The table that it is or is attached to; SQLite takes letters of either case for the same.
    table: String,
    sql: String,
}

/// What the schema must be, and when it was checked last.
pub struct DatabaseSchema {
    expected: Objects,
    /// SQLite's counter of schema changes at the last check.
    checked_at: Option<i64>,
}

impl DatabaseSchema {
    /// The schema that these migrations make in an empty database.
    ///
    /// # Errors
    /// A migration is not SQL that SQLite takes.
    pub fn of(migrations: &[&str]) -> Result<Self, rusqlite::Error> {
        let pattern = Connection::open_in_memory()?;
        for migration in migrations {
            pattern.execute_batch(migration)?;
        }
        Ok(Self {
            expected: objects(&pattern)?,
            checked_at: None,
        })
    }

    /// Compares the schema, where it was changed since it was compared last. Within a transaction
    /// that writes, nobody changes it before the transaction ends.
    ///
    /// # Errors
    /// An object is not as a migration made it, or SQLite fails.
    pub fn check(&mut self, connection: &Connection) -> Result<(), SchemaError> {
        let version = connection
            .prepare_cached("PRAGMA schema_version")?
            .query_row([], |row| row.get(0))?;
        if self.checked_at == Some(version) {
            return Ok(());
        }
        let mut found = objects(connection)?;
        found.retain(|_, object| self.expected.values().any(|expected| expected.table == object.table));
        let differs = |(name, object): (&Name, &Object), other: &Objects| other.get(name) != Some(object);
        let altered = found.iter().find(|object| differs(*object, &self.expected));
        let missing = self.expected.iter().find(|object| differs(*object, &found));
        if let Some(((kind, name), _)) = altered.or(missing) {
            return Err(SchemaError::Altered(format!("{kind} {name}")));
        }
        self.checked_at = Some(version);
        Ok(())
    }
}

/// Keeps what is in the database from running within a statement of this program.
///
/// # Errors
/// SQLite does not take a setting.
pub fn disable_triggers(connection: &Connection) -> Result<(), rusqlite::Error> {
    for setting in [
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    ] {
        connection.set_db_config(setting, false)?;
    }
    connection.pragma_update(None, "trusted_schema", false)
}

/// Fails where a statement has written another number of rows than one.
///
/// # Errors
/// [`rusqlite::Error::StatementChangedRows`].
pub fn one_row(written: usize) -> Result<(), rusqlite::Error> {
    match written {
        1 => Ok(()),
        rows => Err(rusqlite::Error::StatementChangedRows(rows)),
    }
}

fn objects(connection: &Connection) -> Result<Objects, rusqlite::Error> {
    // What SQLite makes by itself, such as the index of a primary key or statistics, has a reserved
    // name.
    connection
        .prepare(
            "SELECT type, name, lower(tbl_name), coalesce(sql, '') FROM sqlite_schema
             WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )?
        .query_map([], |row| {
            let sql: String = row.get(3)?;
            let object = Object {
                table: row.get(2)?,
                // SQLite quotes the name of a table that was renamed.
                sql: sql.replace('"', ""),
            };
            Ok(((row.get(0)?, row.get(1)?), object))
        })?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: [&str; 2] = [
        "CREATE TABLE one (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
        "CREATE INDEX one_by_name ON one (name)",
    ];

    fn database() -> (Connection, DatabaseSchema) {
        let connection = Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|sql| connection.execute_batch(sql).unwrap());
        (connection, DatabaseSchema::of(&MIGRATIONS).unwrap())
    }

    #[test]
    fn what_the_migrations_made_is_accepted_and_so_is_what_others_have() {
        for sql in [
            "",
            "CREATE TABLE two (id INTEGER); CREATE UNIQUE INDEX two_by_id ON two (id);
             CREATE TRIGGER t AFTER INSERT ON two BEGIN DELETE FROM one; END",
            "CREATE VIEW v AS SELECT * FROM one",
            "INSERT INTO one VALUES (1, 'a'); ANALYZE",
            "ALTER TABLE one RENAME TO two; ALTER TABLE two RENAME TO one",
        ] {
            let (connection, mut schema) = database();
            schema.check(&connection).unwrap();
            connection.execute_batch(sql).unwrap();
            schema.check(&connection).unwrap();
        }
    }

    #[test]
    fn anything_else_is_named_also_when_it_is_added_later() {
        for (sql, object) in [
            (
                "CREATE TRIGGER t BEFORE INSERT ON one BEGIN SELECT RAISE(IGNORE); END",
                "trigger t",
            ),
            (
                "CREATE TRIGGER t AFTER INSERT ON one BEGIN DELETE FROM one; END",
                "trigger t",
            ),
            (
                "CREATE TRIGGER t BEFORE INSERT ON ONE BEGIN SELECT RAISE(IGNORE); END",
                "trigger t",
            ),
            ("ALTER TABLE one RENAME TO two", "index one_by_name"),
            ("CREATE UNIQUE INDEX u ON one (id, name)", "index u"),
            ("DROP INDEX one_by_name", "index one_by_name"),
            ("ALTER TABLE one ADD COLUMN more TEXT", "table one"),
            (
                "DROP TABLE one; CREATE TABLE one (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT IGNORE)",
                "table one",
            ),
            ("DROP TABLE one; CREATE VIEW one AS SELECT 1 AS id", "view one"),
        ] {
            let (connection, mut schema) = database();
            schema.check(&connection).unwrap();
            connection.execute_batch(sql).unwrap();
            for _again in 0..2 {
                match schema.check(&connection) {
                    Err(SchemaError::Altered(found)) => assert_eq!(found, object, "{sql}"),
                    other => panic!("{sql}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_trigger_does_not_run_and_a_view_is_not_read() {
        let (connection, _schema) = database();
        disable_triggers(&connection).unwrap();
        connection
            .execute_batch(
                "CREATE TRIGGER t BEFORE INSERT ON one BEGIN SELECT RAISE(IGNORE); END;
                 CREATE VIEW v AS SELECT 1",
            )
            .unwrap();
        let written = connection.execute("INSERT INTO one VALUES (1, 'a')", []).unwrap();
        one_row(written).unwrap();
        assert!(one_row(0).is_err() && one_row(2).is_err());
        assert!(connection.query_row("SELECT * FROM v", [], |_| Ok(())).is_err());
    }
}
