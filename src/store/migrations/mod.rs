//! The schema, as numbered steps: one file each, taken in order, and never changed once it was released.
//! `user_version` is the number of the last step that a store has taken.
//!
//! A change of the schema is a new file here and a line in `SCHEMA`. A step is one transaction, whose log must fit on
//! a flash that is nearly full: what rewrites many rows belongs in `older.rs`, a few rows at a time.

use super::StoreError;
use rusqlite::{Connection, TransactionBehavior};

/// What a store of this program's version looks like.
pub(super) struct Schema {
    pub steps: &'static [&'static str],
}

pub(super) const SCHEMA: Schema = Schema {
    steps: &[
        include_str!("0001_moment.sql"),
        include_str!("0002_sales.sql"),
        include_str!("0003_metrics.sql"),
        include_str!("0004_tickets.sql"),
        include_str!("0005_wallet.sql"),
        include_str!("0006_cards.sql"),
        include_str!("0007_lasting.sql"),
        include_str!("0008_venues.sql"),
        include_str!("0009_outputs.sql"),
        include_str!("0010_units.sql"),
        include_str!("0011_token_form.sql"),
        include_str!("0012_audit.sql"),
        include_str!("0013_logins.sql"),
        include_str!("0014_accounts.sql"),
        include_str!("0015_invites.sql"),
        include_str!("0016_vouchers.sql"),
        include_str!("0017_sphinx.sql"),
        include_str!("0018_locked.sql"),
        include_str!("0019_orders.sql"),
        include_str!("0020_relay.sql"),
        include_str!("0021_notices.sql"),
        include_str!("0022_proof_ends.sql"),
        include_str!("0023_reconcile.sql"),
        include_str!("0024_balances.sql"),
        include_str!("0025_purses.sql"),
        include_str!("0026_payouts.sql"),
        include_str!("0027_grpc.sql"),
        include_str!("0028_asked.sql"),
        include_str!("0029_asked_by.sql"),
    ],
};

impl Schema {
    /// The version of a store that has taken all steps.
    pub fn version(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Takes the steps that the store has not taken yet.
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
