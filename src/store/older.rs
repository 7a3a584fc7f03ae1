//! Rows that an older version has left, brought into today's shape at the start: tokens are sealed, settled sales
//! leave only their grants, and what was removed leaves the file.
//!
//! A few rows at a time, each time in a transaction of its own: a flash that is nearly full has no room for a log of
//! all of them. The mark in `meta` stays until all is done, so that a start that was cut short is gone on with.

use super::settled::settle_request;
use super::tokens::Holder;
use super::{Store, StoreError, Vault};
use rusqlite::{params, Connection, OptionalExtension, Transaction};

const MARK: &str = "older rows";
/// Rows of one transaction: about a quarter of the log's usual length.
const AT_ONCE: u32 = 64;

impl Store {
    /// Opens what seals tokens, and brings older rows into today's shape. Where the room is not enough for that, they
    /// stay usable as they are until a later start. `KeyMissing` as for every key.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let vault = self.vault().await?;
        if !self.read(is_marked).await? {
            return Ok(());
        }
        let caught_up = async {
            self.seal_older(&vault).await?;
            while self.write(settle_some).await? {}
            while self.write(strip_some).await? {}
            self.rebuild().await?;
            self.write(|tx| Ok(tx.execute("DELETE FROM meta WHERE key = ?1", [MARK])?)).await
        };
        match caught_up.await {
            Err(StoreError::Full) => {
                log::warn!("store: no room yet to bring older records into today's shape")
            }
            done => drop(done?),
        }
        Ok(())
    }

    /// Seals the tokens that are there in plain.
    pub(super) async fn seal_older(&self, vault: &Vault) -> Result<(), StoreError> {
        for (table, holder) in
            [("parts", Holder::Part as fn(i64) -> Holder), ("wallet_ops", Holder::Operation)]
        {
            loop {
                let vault = vault.clone();
                let sealed = self.write(move |tx| seal_some(tx, &vault, table, holder));
                if sealed.await? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_marked(db: &Transaction) -> Result<bool, StoreError> {
    let mark = db.query_row("SELECT 1 FROM meta WHERE key = ?1", [MARK], |_| Ok(())).optional()?;
    Ok(mark.is_some())
}

/// Answers how many.
fn seal_some(
    tx: &Transaction,
    vault: &Vault,
    table: &str,
    holder: fn(i64) -> Holder,
) -> Result<usize, StoreError> {
    let plain = tx
        .prepare(&format!("SELECT id, token FROM {table} WHERE token IS NOT NULL LIMIT {AT_ONCE}"))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, String)>, _>>()?;
    for (id, token) in &plain {
        let sealed = holder(*id).seal(vault, token)?;
        tx.execute(
            &format!("UPDATE {table} SET sealed = ?2, token = NULL WHERE id = ?1"),
            params![id, sealed],
        )?;
    }
    Ok(plain.len())
}

/// Settles some requests of the house. False: there are no more.
fn settle_some(tx: &Transaction) -> Result<bool, StoreError> {
    let settled = strings(
        tx,
        &format!(
            "SELECT id FROM requests WHERE owner = 'house'
             AND EXISTS (SELECT 1 FROM parts WHERE request = requests.id)
             AND NOT EXISTS (SELECT 1 FROM parts WHERE request = requests.id
                 AND (state != 'claimed' OR token IS NOT NULL OR sealed IS NOT NULL))
             LIMIT {AT_ONCE}"
        ),
    )?;
    for request in &settled {
        settle_request(tx, request)?;
    }
    Ok(!settled.is_empty())
}

/// Takes the invoice from some parts whose tokens are here. False: there are no more.
fn strip_some(tx: &Transaction) -> Result<bool, StoreError> {
    let stripped = tx
        .prepare(&format!(
            "SELECT id FROM parts WHERE state = 'claimed' AND invoice IS NOT NULL LIMIT {AT_ONCE}"
        ))?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    for part in &stripped {
        tx.execute(
            "UPDATE parts SET invoice = NULL, expires_at = NULL, due_ms = NULL WHERE id = ?1",
            [part],
        )?;
    }
    Ok(!stripped.is_empty())
}

fn strings(db: &Connection, query: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
