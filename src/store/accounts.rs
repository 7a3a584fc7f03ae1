//! Accounts: what is paid belongs to one, and devices are attached to it, each by its MAC. What is left of time is for
//! all of them at once, and bytes are for the one that was attached last or has paid for them.

use super::claims::{claimed, Claim};
use super::door::{random_id, Door};
use super::ticket::TicketDigest;
use super::values::mac_of;
use super::{Reference, StoreError, Ticket};
use crate::mac::MacAddr;
use crate::units::Millis;
use rusqlite::{params, OptionalExtension, Transaction};

/// What stands for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountKey {
    Ticket(Ticket),
    Claim(Claim),
    /// A device that is attached to it.
    Device(MacAddr),
    /// Something that was paid for it.
    Payment(Reference),
}

impl AccountKey {
    pub(super) fn account(&self, tx: &Transaction) -> Result<Option<i64>, StoreError> {
        match self {
            AccountKey::Ticket(ticket) => account_by_ticket(tx, &ticket.digest()),
            AccountKey::Claim(claim) => match claimed(&Door::of(tx), claim)? {
                Some(name) => account_by_name(tx, &name),
                None => Ok(None),
            },
            AccountKey::Device(mac) => account_by_mac(tx, &mac.to_string()),
            AccountKey::Payment(reference) => {
                let mut paid = tx.prepare_cached("SELECT account FROM grants WHERE reference = ?1")?;
                Ok(paid.query_row([reference], |row| row.get(0)).optional()?)
            }
        }
    }
}

pub(super) fn has_accounts(tx: &Transaction) -> Result<bool, StoreError> {
    let mut any = tx.prepare_cached("SELECT id FROM accounts LIMIT 1")?;
    Ok(any.exists([])?)
}

/// The account of a MAC, made if it has none.
pub(super) fn account_of(tx: &Transaction, mac: &str, now: Millis) -> Result<i64, StoreError> {
    if let Some(account) = account_by_mac(tx, mac)? {
        return Ok(account);
    }
    tx.execute("INSERT INTO accounts (created_ms) VALUES (?1)", [now])?;
    let account = tx.last_insert_rowid();
    attach(tx, account, mac, now)?;
    Ok(account)
}

pub(super) fn account_by_mac(tx: &Transaction, mac: &str) -> Result<Option<i64>, StoreError> {
    let mut known = tx.prepare_cached("SELECT account FROM account_macs WHERE mac = ?1")?;
    Ok(known.query_row([mac], |row| row.get(0)).optional()?)
}

fn account_by_ticket(tx: &Transaction, digest: &TicketDigest) -> Result<Option<i64>, StoreError> {
    let mut known = tx.prepare_cached("SELECT id FROM accounts WHERE ticket = ?1")?;
    Ok(known.query_row([digest], |row| row.get(0)).optional()?)
}

pub(super) fn account_by_name(tx: &Transaction, name: &str) -> Result<Option<i64>, StoreError> {
    let mut known = tx.prepare_cached("SELECT id FROM accounts WHERE name = ?1")?;
    Ok(known.query_row([name], |row| row.get(0)).optional()?)
}

/// The name that an account has, if it was given one.
pub(super) fn known_name(tx: &Transaction, account: i64) -> Result<Option<String>, StoreError> {
    let mut known = tx.prepare_cached("SELECT name FROM accounts WHERE id = ?1")?;
    Ok(known.query_row([account], |row| row.get(0))?)
}

/// The name of an account, made if it has none.
pub(super) fn name_of(tx: &Transaction, account: i64) -> Result<String, StoreError> {
    if let Some(name) = known_name(tx, account)? {
        return Ok(name);
    }
    let name = random_id()?;
    tx.execute("UPDATE accounts SET name = ?2 WHERE id = ?1", params![account, name])?;
    Ok(name)
}

/// The devices that are attached to an account, the longest attached first.
pub(super) fn devices_of(tx: &Transaction, account: i64) -> Result<Vec<MacAddr>, StoreError> {
    devices_of_both(tx, account, account)
}

/// The same of two accounts together.
pub(super) fn devices_of_both(
    tx: &Transaction,
    account: i64,
    other: i64,
) -> Result<Vec<MacAddr>, StoreError> {
    tx.prepare_cached("SELECT mac FROM account_macs WHERE account IN (?1, ?2) ORDER BY attached_ms, mac")?
        .query_map([account, other], |row| row.get::<_, String>(0))?
        .map(|mac| mac_of(&mac?))
        .collect()
}

/// Those of an account's devices that go when `mac` is attached too, so that there are at most `most`: the longest
/// attached.
pub fn making_room(devices: &[MacAddr], mac: MacAddr, most: usize) -> Vec<MacAddr> {
    let others: Vec<MacAddr> = devices.iter().copied().filter(|device| *device != mac).collect();
    let going = others.len().saturating_add(1).saturating_sub(most.max(1));
    others.into_iter().take(going).collect()
}

/// Attaches a MAC that is attached to no account.
pub(super) fn attach(tx: &Transaction, account: i64, mac: &str, now: Millis) -> Result<(), StoreError> {
    tx.prepare_cached("INSERT INTO account_macs (mac, account, attached_ms) VALUES (?1, ?2, ?3)")?
        .execute(params![mac, account, now])?;
    Ok(())
}

/// Detaches a MAC from this account. False if it was not attached.
pub(super) fn detach(tx: &Transaction, account: i64, mac: &str) -> Result<bool, StoreError> {
    let gone =
        tx.execute("DELETE FROM account_macs WHERE mac = ?1 AND account = ?2", params![mac, account])?;
    Ok(gone == 1)
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
