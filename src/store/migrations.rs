//! The schema, as numbered steps. `user_version` counts the steps a store has seen.

use super::StoreError;
use rusqlite::{Connection, TransactionBehavior};

/// What a store of this program's version looks like.
pub(super) struct Schema {
    /// Each step runs once, in a transaction of its own. Steps that were released never change.
    pub steps: &'static [&'static str],
}

pub(super) const SCHEMA: Schema = Schema {
    steps: &[
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

         CREATE TABLE moment (
             id           INTEGER PRIMARY KEY CHECK (id = 1),
             boot         TEXT NOT NULL,
             monotonic_ms INTEGER NOT NULL,
             service_ms   INTEGER NOT NULL,
             wall_floor   INTEGER NOT NULL
         ) STRICT;",
        include_str!("schema.sql"),
        include_str!("migrations/metrics.sql"),
        include_str!("migrations/tickets.sql"),
        include_str!("migrations/wallet.sql"),
        include_str!("migrations/cards.sql"),
        include_str!("migrations/lasting.sql"),
        include_str!("migrations/venues.sql"),
    ],
};

impl Schema {
    /// The version of a store that has seen all steps.
    pub fn version(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Takes the steps that the store has not seen.
    pub fn migrate(&self, conn: &mut Connection) -> Result<(), StoreError> {
        for (version, step) in (1u32..).zip(self.steps) {
            if version <= user_version(conn)? {
                continue;
            }
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute_batch(step)?;
            tx.pragma_update(None, "user_version", version)?;
            tx.commit()?;
        }
        Ok(())
    }
}

pub(super) fn user_version(conn: &Connection) -> Result<u32, StoreError> {
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    u32::try_from(version).map_err(|_| StoreError::Corrupt(format!("store.db has version {version}")))
}
