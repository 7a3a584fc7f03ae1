//! The keys of cards, every set that was made for one; only the newest pays.
//!
//! Keys are sealed (see `vault`) and the one-time codes that hand them out are stored as SHA-256, so the rows alone pay
//! nothing. New keys are a new row and begin with a counter of their own.

use super::cards::card_by_id;
use super::{CardRow, Store, StoreAnswer, StoreError};
use crate::units::Millis;
use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};

/// Keys in the making: how to seal them for their row, and the code that hands them out.
pub struct NewKeys {
    pub seal: Box<SealKeys>,
    /// SHA-256.
    pub code: [u8; 32],
    pub code_ends: Millis,
}

/// Seals keys for the row that they are put into.
pub type SealKeys = dyn FnOnce(&KeysOwner) -> Result<Vec<u8>, StoreError> + Send;

/// Which set of keys of which card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysOwner {
    pub card: i64,
    pub version: u32,
}

/// A set of keys, sealed.
#[derive(Clone)]
pub struct KeysRow {
    pub owner: KeysOwner,
    pub sealed: Vec<u8>,
    pub uid: Option<String>,
    /// None: never tapped.
    pub counter: Option<u32>,
}

/// What a one-time code is good for.
pub enum TakenKeys {
    Handed((CardRow, KeysRow)),
    /// The chip that was named has the keys of this card; the code stays good.
    ChipOf(i64),
    /// No code that is known and in time.
    None,
}

impl Store {
    /// New keys for a card; the old ones pay no more. `None`: no such card.
    pub fn renew_card_keys(&self, card: i64, keys: NewKeys) -> StoreAnswer<Option<KeysOwner>> {
        self.write(move |tx| {
            if tx.execute("UPDATE cards SET wiped = 0 WHERE id = ?1", [card])? == 0 {
                return Ok(None);
            }
            tx.execute("UPDATE card_keys SET code = NULL WHERE card = ?1", [card])?;
            // A tap of the old keys is worth as little as they are.
            tx.execute("UPDATE card_taps SET ends_ms = 0 WHERE card = ?1 AND state = 'issued'", [card])?;
            add_keys(tx, card, keys).map(Some)
        })
    }

    /// Hands out the keys behind a code (its SHA-256), once. With the UID that a programmer names, only that
    /// chip pays with them, and only if it is not another card that lives.
    pub fn take_card_keys(&self, code: [u8; 32], uid: Option<String>) -> StoreAnswer<TakenKeys> {
        let now = self.now();
        self.write(move |tx| {
            let other = tx
                .query_row(
                    "SELECT theirs.card FROM card_keys ours JOIN card_keys theirs ON theirs.uid = ?3
                     JOIN cards c ON c.id = theirs.card
                     WHERE ours.code = ?1 AND ours.code_ends_ms > ?2 AND theirs.card != ours.card AND NOT c.wiped",
                    params![code, now, uid],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(card) = other {
                return Ok(TakenKeys::ChipOf(card));
            }
            let taken = tx
                .query_row(
                    "UPDATE card_keys SET code = NULL, issued = 1, uid = ?3
                     WHERE code = ?1 AND code_ends_ms > ?2 RETURNING card, version",
                    params![code, now, uid],
                    |row| Ok(KeysOwner { card: row.get(0)?, version: row.get(1)? }),
                )
                .optional()?;
            let Some(owner) = taken else { return Ok(TakenKeys::None) };
            let found = card_by_id(tx, owner.card, now)?.zip(keys_by_owner(tx, owner)?);
            Ok(found.map_or(TakenKeys::None, TakenKeys::Handed))
        })
    }

    /// The newest keys of every card that is not wiped.
    pub fn live_card_keys(&self) -> StoreAnswer<Vec<KeysRow>> {
        self.read(|db| {
            let rows = db
                .prepare(
                    "SELECT k.card, k.version, k.sealed, k.uid, k.counter FROM card_keys k
                     JOIN cards c ON c.id = k.card WHERE NOT c.wiped
                     AND k.version = (SELECT MAX(version) FROM card_keys WHERE card = k.card)",
                )?
                .query_map([], keys_of)?
                .collect::<Result<_, _>>();
            Ok(rows?)
        })
    }
}

pub(super) fn add_keys(tx: &Transaction, card: i64, keys: NewKeys) -> Result<KeysOwner, StoreError> {
    let version =
        tx.query_row("SELECT COALESCE(MAX(version), 0) + 1 FROM card_keys WHERE card = ?1", [card], |row| {
            row.get(0)
        })?;
    let owner = KeysOwner { card, version };
    let sealed = (keys.seal)(&owner)?;
    tx.execute(
        "INSERT INTO card_keys (card, version, sealed, code, code_ends_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![card, version, sealed, keys.code, keys.code_ends],
    )?;
    Ok(owner)
}

fn keys_by_owner(db: &Connection, owner: KeysOwner) -> Result<Option<KeysRow>, StoreError> {
    let row = db
        .query_row(
            "SELECT card, version, sealed, uid, counter FROM card_keys WHERE card = ?1 AND version = ?2",
            params![owner.card, owner.version],
            keys_of,
        )
        .optional()?;
    Ok(row)
}

pub(super) fn keys_of(row: &Row) -> rusqlite::Result<KeysRow> {
    Ok(KeysRow {
        owner: KeysOwner { card: row.get(0)?, version: row.get(1)? },
        sealed: row.get(2)?,
        uid: row.get(3)?,
        counter: counter_of(row.get(4)?),
    })
}

pub(super) fn counter_of(column: i64) -> Option<u32> {
    u32::try_from(column).ok()
}
