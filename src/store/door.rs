//! The narrow door: statements on rows that belong to a tenant, in a transaction that is bound to it.
//!
//! Other programs hold such rows for many shops in PostgreSQL and run the same statements there. So they are in the SQL
//! that SQLite and PostgreSQL share, over texts and whole numbers: parameters are `$1`, `$2`, ..., and the first is
//! always the tenant. Refused: a statement that does not mention it, or that is given more or fewer values than it has.

use super::grants::{add_grant, Admission, NewGrant};
use super::{Store, StoreAnswer, StoreError};
use crate::config::Tenant;
use crate::hex;
use crate::units::{Millis, UnixSeconds};
use crate::uuid::Uuid;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ToSql, Transaction};
use std::str::FromStr;

/// Whose the rows are that belong to the router as a whole: its invites, logins and audit log.
const THIS_SHOP: &str = "local";

/// A transaction, bound to a tenant.
pub struct Door<'a> {
    db: &'a Transaction<'a>,
    tenant: &'a str,
}

/// The store as a tenant has it: the one way to the rows of a tenant, from rooms above this one too. Clones share it.
#[derive(Clone)]
pub struct TenantStore {
    store: Store,
    tenant: Tenant,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    Text(String),
    Number(i64),
    Nothing,
}

/// A row that was found: its columns in their order, from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorRow(Vec<Datum>);

impl Store {
    /// The rows of a tenant.
    pub fn of_tenant(&self, tenant: &Tenant) -> TenantStore {
        TenantStore { store: self.clone(), tenant: tenant.clone() }
    }
}

impl TenantStore {
    /// Runs `f` in a transaction and commits it; the answer comes after COMMIT has returned. An error of `f` undoes
    /// all that it did.
    pub fn write<T, F>(&self, f: F) -> StoreAnswer<T>
    where
        F: FnOnce(&Door<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let tenant = self.tenant.clone();
        self.store.write(move |tx| f(&Door { db: tx, tenant: tenant.as_str() }))
    }

    /// Runs `f` on one consistent state of the store.
    pub fn read<T, F>(&self, f: F) -> StoreAnswer<T>
    where
        F: FnOnce(&Door<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let tenant = self.tenant.clone();
        self.store.read(move |tx| f(&Door { db: tx, tenant: tenant.as_str() }))
    }

    /// What all tenants share: clocks, key files, free space.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }
}

impl<'a> Door<'a> {
    pub(super) fn of(tx: &'a Transaction<'_>) -> Door<'a> {
        Door { db: tx, tenant: THIS_SHOP }
    }

    /// In a transaction that is about more than a tenant's rows.
    pub(super) fn for_tenant(tx: &'a Transaction<'_>, tenant: &'a Tenant) -> Door<'a> {
        Door { db: tx, tenant: tenant.as_str() }
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

    /// Grants access in the same commit.
    pub fn grant(&self, grant: &NewGrant, now: Millis, wall: UnixSeconds) -> Result<Admission, StoreError> {
        add_grant(self.db, grant, now, wall)
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

    /// A number that is never below zero.
    pub fn count(&self, column: usize) -> Result<u64, StoreError> {
        u64::try_from(self.number(column)?).map_err(|_| unreadable())
    }

    /// `None` where the column is empty.
    pub fn filled(&self, column: usize) -> Option<&Datum> {
        self.0.get(column).filter(|datum| **datum != Datum::Nothing)
    }

    /// A text of a form of its own.
    pub fn parsed<T: FromStr>(&self, column: usize) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|_| unreadable())
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

impl From<String> for Datum {
    fn from(text: String) -> Datum {
        Datum::Text(text)
    }
}

/// What is more than SQL's numbers hold is the greatest of them; no amount that was checked is.
impl From<u64> for Datum {
    fn from(number: u64) -> Datum {
        Datum::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<UnixSeconds> for Datum {
    fn from(at: UnixSeconds) -> Datum {
        at.0.into()
    }
}

impl From<Uuid> for Datum {
    fn from(id: Uuid) -> Datum {
        Datum::Text(id.to_string())
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
    use rusqlite::Connection;

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
            assert_eq!(door.query(all, &[]).unwrap(), [DoorRow(vec!["own".into(), 1i64.into()])]);
            let grow = "UPDATE things SET size = size + $2 WHERE tenant = $1";
            assert_eq!(door.execute(grow, &[5i64.into()]).unwrap(), 1);
            let other = Door { db: tx, tenant: "other" };
            assert_eq!(other.query(all, &[]).unwrap(), [DoorRow(vec!["theirs".into(), 2i64.into()])]);
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
