//! The narrow door: statements on rows that belong to a tenant, in a transaction that is bound to it.
//!
//! Other programs hold such rows for many shops in PostgreSQL and run the same statements there. So they are in the SQL
//! that SQLite and PostgreSQL share, over texts and whole numbers: parameters are `$1`, `$2`, ..., and the first is
//! always the tenant. Refused: a statement that does not mention it, or that is given more or fewer values than it has.

use super::StoreError;
use crate::hex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, Transaction};

/// The one tenant of a router's store.
const THIS_SHOP: &str = "local";

/// A transaction, bound to a tenant.
pub(super) struct Door<'a> {
    db: &'a Connection,
    tenant: &'a str,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Datum {
    Text(String),
    Number(i64),
    Nothing,
}

/// A row that was found: its columns in their order, from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DoorRow(Vec<Datum>);

impl<'a> Door<'a> {
    pub fn of(tx: &'a Transaction<'_>) -> Door<'a> {
        Door { db: tx, tenant: THIS_SHOP }
    }

    /// Runs a statement that changes rows; answers how many. `values` are `$2`, `$3`, ...
    pub fn execute(&self, statement: &str, values: &[Datum]) -> Result<usize, StoreError> {
        Ok(self.prepare(statement, values)?.raw_execute()?)
    }

    /// Runs a statement that answers rows. `values` are `$2`, `$3`, ...
    pub fn query(&self, statement: &str, values: &[Datum]) -> Result<Vec<DoorRow>, StoreError> {
        let mut statement = self.prepare(statement, values)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let data = (0..columns).map(|at| Datum::read(row.get_ref(at)?));
            found.push(DoorRow(data.collect::<Result<_, _>>()?));
        }
        Ok(found)
    }

    fn prepare(&self, statement: &str, values: &[Datum]) -> Result<CachedStatement<'_>, StoreError> {
        let mut prepared = self.db.prepare_cached(statement)?;
        let (given, wanted) = (values.len().saturating_add(1), prepared.parameter_count());
        if given != wanted {
            return Err(rusqlite::Error::InvalidParameterCount(given, wanted).into());
        }
        let tenant = Datum::from(self.tenant);
        for (number, value) in (1u32..).zip(std::iter::once(&tenant).chain(values)) {
            let name = format!("${number}");
            // SQLite numbers them in the order in which they stand there.
            let at = prepared.parameter_index(&name)?;
            prepared.raw_bind_parameter(at.ok_or(rusqlite::Error::InvalidParameterName(name))?, value)?;
        }
        Ok(prepared)
    }
}

impl Datum {
    fn read(value: ValueRef<'_>) -> Result<Datum, StoreError> {
        match value {
            ValueRef::Null => Ok(Datum::Nothing),
            ValueRef::Integer(number) => Ok(Datum::Number(number)),
            ValueRef::Text(text) => std::str::from_utf8(text).map(Datum::from).map_err(|_| unreadable()),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(unreadable()),
        }
    }
}

impl DoorRow {
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.0.get(column) {
            Some(Datum::Text(text)) => Ok(text),
            _ => Err(unreadable()),
        }
    }

    pub fn number(&self, column: usize) -> Result<i64, StoreError> {
        match self.0.get(column) {
            Some(Datum::Number(number)) => Ok(*number),
            _ => Err(unreadable()),
        }
    }
}

fn unreadable() -> StoreError {
    StoreError::unreadable("of a tenant")
}

impl From<&str> for Datum {
    fn from(text: &str) -> Datum {
        Datum::Text(text.to_owned())
    }
}

impl From<i64> for Datum {
    fn from(number: i64) -> Datum {
        Datum::Number(number)
    }
}

impl ToSql for Datum {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Datum::Text(text) => ValueRef::Text(text.as_bytes()),
            Datum::Number(number) => ValueRef::Integer(*number),
            Datum::Nothing => ValueRef::Null,
        }))
    }
}

/// The id of a new row: 128 random bits in hex.
pub(super) fn random_id() -> Result<String, StoreError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
    Ok(hex::encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_rows(f: impl FnOnce(&Transaction)) {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE things (tenant TEXT, name TEXT, size INTEGER, PRIMARY KEY (tenant, name)) STRICT;
             INSERT INTO things VALUES ('local', 'own', 1), ('other', 'theirs', 2)",
        )
        .unwrap();
        f(&db.transaction().unwrap());
    }

    #[test]
    fn a_statement_sees_and_changes_rows_of_its_tenant_only() {
        with_rows(|tx| {
            let door = Door::of(tx);
            let all = "SELECT name, size FROM things WHERE tenant = $1";
            assert_eq!(door.query(all, &[]).unwrap(), [DoorRow(vec!["own".into(), 1.into()])]);
            let grow = "UPDATE things SET size = size + $2 WHERE tenant = $1";
            assert_eq!(door.execute(grow, &[5.into()]).unwrap(), 1);
            let other = Door { db: tx, tenant: "other" };
            assert_eq!(other.query(all, &[]).unwrap(), [DoorRow(vec!["theirs".into(), 2.into()])]);
        });
    }

    #[test]
    fn values_go_where_their_number_stands_wherever_that_is() {
        with_rows(|tx| {
            let door = Door::of(tx);
            let insert = "INSERT INTO things (size, name, tenant) VALUES ($3, $2, $1)";
            assert_eq!(door.execute(insert, &["new".into(), Datum::Nothing]).unwrap(), 1);
            let found =
                door.query("SELECT size FROM things WHERE name = $2 AND tenant = $1", &["new".into()]);
            assert_eq!(found.unwrap(), [DoorRow(vec![Datum::Nothing])]);
        });
    }

    #[test]
    fn a_statement_without_its_tenant_or_with_other_values_than_it_has_is_refused() {
        with_rows(|tx| {
            let door = Door::of(tx);
            assert!(door.query("SELECT name FROM things", &[]).is_err());
            assert!(door.query("SELECT name FROM things WHERE name = $2", &[]).is_err());
            assert!(door.query("SELECT name FROM things WHERE tenant = $1", &["more".into()]).is_err());
            assert!(door.execute("DELETE FROM things WHERE tenant = $1 AND name = $2", &[]).is_err());
            assert!(door.query("SELECT name FROM things WHERE name = ?1", &[]).is_err(), "not shared");
        });
    }

    #[test]
    fn ids_are_random_and_of_128_bits() {
        let ids = [random_id().unwrap(), random_id().unwrap()];
        assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 32));
    }
}
