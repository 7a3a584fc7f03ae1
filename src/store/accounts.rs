//! Accounts: what is paid belongs to one, and a MAC is attached to it.

use super::{StoreError, Ticket};
use crate::units::Millis;
use rusqlite::{params, OptionalExtension, Transaction};

/// The account of a MAC, made if it has none.
pub(super) fn account_of(tx: &Transaction, mac: &str, now: Millis) -> Result<i64, StoreError> {
    if let Some(account) = account_by_mac(tx, mac)? {
        return Ok(account);
    }
    tx.execute("INSERT INTO accounts (created_ms) VALUES (?1)", [now])?;
    let account = tx.last_insert_rowid();
    tx.execute("INSERT INTO account_macs (mac, account) VALUES (?1, ?2)", params![mac, account])?;
    Ok(account)
}

pub(super) fn account_by_mac(tx: &Transaction, mac: &str) -> Result<Option<i64>, StoreError> {
    let mut known = tx.prepare_cached("SELECT account FROM account_macs WHERE mac = ?1")?;
    Ok(known.query_row([mac], |row| row.get(0)).optional()?)
}

/// A ticket for an account that has none.
pub(super) fn first_ticket(tx: &Transaction, account: i64) -> Result<Option<Ticket>, StoreError> {
    let ticket = Ticket::random()?;
    let made = tx.execute(
        "UPDATE accounts SET ticket = ?2 WHERE id = ?1 AND ticket IS NULL",
        params![account, ticket.digest()],
    )?;
    Ok((made == 1).then_some(ticket))
}
