//! Cards and their limits.

use super::card_keys::{add_keys, counter_of, keys_of};
use super::claims::{drop_claim, Claim};
use super::door::Door;
use super::taps::{spent_since, LIMIT_WINDOW};
use super::values::money;
use super::{KeysOwner, KeysRow, NewKeys, Store, StoreAnswer, StoreError};
use crate::units::{Millis, Msats, Sats, Unit, UnixSeconds};
use rusqlite::{params, Connection, OptionalExtension};

#[derive(Clone, Debug)]
pub struct NewCard {
    pub name: String,
    pub enabled: bool,
    pub tx_max: Sats,
    pub day_max: Sats,
    pub uid_privacy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardRow {
    pub id: i64,
    pub name: String,
    pub enabled: bool,
    pub wiped: bool,
    pub tx_max: Sats,
    pub day_max: Sats,
    pub uid_privacy: bool,
    pub created: UnixSeconds,
    /// Of the newest keys: whether they were handed out, the chip's UID, and its last counter.
    pub programmed: bool,
    pub uid: Option<String>,
    pub counter: Option<u32>,
    /// Spent or reserved within the window of the limit.
    pub spent: Msats,
}

impl Store {
    /// A card and its first keys.
    pub fn add_card(&self, card: NewCard, keys: NewKeys) -> StoreAnswer<KeysOwner> {
        let wall = self.wall();
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO cards (name, enabled, tx_max, day_max, unit, uid_privacy, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    card.name,
                    card.enabled,
                    card.tx_max,
                    card.day_max,
                    Unit::Sat,
                    card.uid_privacy,
                    wall
                ],
            )?;
            add_keys(tx, tx.last_insert_rowid(), keys)
        })
    }

    pub fn card(&self, id: i64) -> StoreAnswer<Option<CardRow>> {
        let now = self.now();
        self.read(move |db| card_by_id(db, id, now))
    }

    pub fn cards(&self) -> StoreAnswer<Vec<CardRow>> {
        let now = self.now();
        self.read(move |db| {
            let ids = db
                .prepare("SELECT id FROM cards ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<Vec<i64>, _>>()?;
            ids.into_iter().filter_map(|id| card_by_id(db, id, now).transpose()).collect()
        })
    }

    /// False: no such card.
    pub fn enable_card(&self, id: i64, enabled: bool) -> StoreAnswer<bool> {
        self.write(move |tx| {
            Ok(tx.execute("UPDATE cards SET enabled = ?2 WHERE id = ?1", params![id, enabled])? == 1)
        })
    }

    /// False: no such card.
    pub fn limit_card(&self, id: i64, tx_max: Sats, day_max: Sats) -> StoreAnswer<bool> {
        self.write(move |tx| {
            let set = "UPDATE cards SET tx_max = ?2, day_max = ?3, unit = ?4 WHERE id = ?1";
            Ok(tx.execute(set, params![id, tx_max, day_max, Unit::Sat])? == 1)
        })
    }

    /// Ends a card: its keys pay no more and codes of it are void. Answers all keys that were handed out, the
    /// newest first; outside, `None`: no such card.
    pub fn wipe_card(&self, id: i64) -> StoreAnswer<Option<(CardRow, Vec<KeysRow>)>> {
        let now = self.now();
        self.write(move |tx| {
            if tx.execute("UPDATE cards SET wiped = 1 WHERE id = ?1", [id])? == 0 {
                return Ok(None);
            }
            tx.execute("UPDATE card_keys SET code = NULL WHERE card = ?1", [id])?;
            // Its chip may be somebody else's next.
            drop_claim(&Door::of(tx), &Claim::Card(id))?;
            let keys = tx
                .prepare(
                    "SELECT card, version, sealed, uid, counter FROM card_keys
                     WHERE card = ?1 AND issued ORDER BY version DESC",
                )?
                .query_map([id], keys_of)?
                .collect::<Result<_, _>>()?;
            Ok(card_by_id(tx, id, now)?.map(|card| (card, keys)))
        })
    }
}

pub(super) fn card_by_id(db: &Connection, id: i64, now: Millis) -> Result<Option<CardRow>, StoreError> {
    let spent = spent_since(db, id, now.saturating_sub(LIMIT_WINDOW))?;
    let row = db
        .prepare_cached(
            "SELECT c.name, c.enabled, c.wiped, c.tx_max, c.day_max, c.uid_privacy, c.created,
                    k.issued, k.uid, k.counter, c.unit
             FROM cards c JOIN card_keys k ON k.card = c.id
             WHERE c.id = ?1 AND k.version = (SELECT MAX(version) FROM card_keys WHERE card = c.id)",
        )?
        .query_row([id], |row| {
            Ok(CardRow {
                id,
                name: row.get(0)?,
                enabled: row.get(1)?,
                wiped: row.get(2)?,
                tx_max: money(row, 3, 10)?,
                day_max: money(row, 4, 10)?,
                uid_privacy: row.get(5)?,
                created: row.get(6)?,
                programmed: row.get(7)?,
                uid: row.get(8)?,
                counter: counter_of(row.get(9)?),
                spent,
            })
        })
        .optional()?;
    Ok(row)
}
