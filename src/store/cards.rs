//! Cards, their keys and their taps.
//!
//! Keys are sealed (see `vault`) and one-time codes and k1 are stored as SHA-256, so the rows alone pay
//! nothing. A counter only ever grows under the same keys, by one conditional statement; new keys are a new
//! row and begin with a counter of their own.

use super::{time, Store, StoreError};
use crate::units::{Millis, Msats, Sats, UnixSeconds};
use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};

/// What a card may spend is reckoned over this long.
pub const LIMIT_WINDOW: Millis = Millis::from_secs(86_400);

#[derive(Clone, Debug)]
pub struct NewCard {
    pub name: String,
    pub enabled: bool,
    pub tx_max: Sats,
    pub day_max: Sats,
    pub uid_privacy: bool,
}

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

/// A set of keys, sealed.
#[derive(Clone)]
pub struct KeysRow {
    pub owner: KeysOwner,
    pub sealed: Vec<u8>,
    pub uid: Option<String>,
    /// None: never tapped.
    pub counter: Option<u32>,
}

/// A tap whose MAC was good.
#[derive(Clone)]
pub struct NewTap {
    pub owner: KeysOwner,
    pub uid: String,
    pub counter: u32,
    /// SHA-256.
    pub k1: [u8; 32],
    pub life: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapResult {
    /// A counter that was there before, another chip, or keys that are not the newest.
    Refused,
    /// The counter has advanced, and that is all.
    Disabled,
    Accepted {
        tx_max: Sats,
    },
}

impl Store {
    /// A card and its first keys.
    pub async fn add_card(&self, card: NewCard, keys: NewKeys) -> Result<KeysOwner, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO cards (name, enabled, tx_max, day_max, uid_privacy, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![card.name, card.enabled, card.tx_max, card.day_max, card.uid_privacy, wall],
            )?;
            add_keys(tx, tx.last_insert_rowid(), keys)
        })
        .await
    }

    /// New keys for a card; the old ones pay no more. `None`: no such card.
    pub async fn renew_card_keys(&self, card: i64, keys: NewKeys) -> Result<Option<KeysOwner>, StoreError> {
        self.write(move |tx| {
            if tx.execute("UPDATE cards SET wiped = 0 WHERE id = ?1", [card])? == 0 {
                return Ok(None);
            }
            tx.execute("UPDATE card_keys SET code = NULL WHERE card = ?1", [card])?;
            // A tap of the old keys is worth as little as they are.
            tx.execute("UPDATE card_taps SET ends_ms = 0 WHERE card = ?1 AND state = 'issued'", [card])?;
            add_keys(tx, card, keys).map(Some)
        })
        .await
    }

    /// Hands out the keys behind a code (its SHA-256), once. With the UID that a programmer names, only that
    /// chip pays with them.
    pub async fn take_card_keys(
        &self,
        code: [u8; 32],
        uid: Option<String>,
    ) -> Result<Option<(CardRow, KeysRow)>, StoreError> {
        let now = self.now();
        self.write(move |tx| {
            let taken = tx
                .query_row(
                    "UPDATE card_keys SET code = NULL, issued = 1, uid = ?3
                     WHERE code = ?1 AND code_ends_ms > ?2 RETURNING card, version",
                    params![code, now, uid],
                    |row| Ok(KeysOwner { card: row.get(0)?, version: row.get(1)? }),
                )
                .optional()?;
            let Some(owner) = taken else { return Ok(None) };
            Ok(card_by_id(tx, owner.card, now)?.zip(keys_by_owner(tx, owner)?))
        })
        .await
    }

    pub async fn card(&self, id: i64) -> Result<Option<CardRow>, StoreError> {
        let now = self.now();
        self.read(move |db| card_by_id(db, id, now)).await
    }

    pub async fn cards(&self) -> Result<Vec<CardRow>, StoreError> {
        let now = self.now();
        self.read(move |db| {
            let ids = db
                .prepare("SELECT id FROM cards ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<Vec<i64>, _>>()?;
            ids.into_iter().filter_map(|id| card_by_id(db, id, now).transpose()).collect()
        })
        .await
    }

    /// False: no such card.
    pub async fn enable_card(&self, id: i64, enabled: bool) -> Result<bool, StoreError> {
        self.write(move |tx| {
            Ok(tx.execute("UPDATE cards SET enabled = ?2 WHERE id = ?1", params![id, enabled])? == 1)
        })
        .await
    }

    /// False: no such card.
    pub async fn limit_card(&self, id: i64, tx_max: Sats, day_max: Sats) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let set = "UPDATE cards SET tx_max = ?2, day_max = ?3 WHERE id = ?1";
            Ok(tx.execute(set, params![id, tx_max, day_max])? == 1)
        })
        .await
    }

    /// Ends a card: its keys pay no more and codes of it are void. Answers all keys that were handed out, the
    /// newest first; outside, `None`: no such card.
    pub async fn wipe_card(&self, id: i64) -> Result<Option<(CardRow, Vec<KeysRow>)>, StoreError> {
        let now = self.now();
        self.write(move |tx| {
            if tx.execute("UPDATE cards SET wiped = 1 WHERE id = ?1", [id])? == 0 {
                return Ok(None);
            }
            tx.execute("UPDATE card_keys SET code = NULL WHERE card = ?1", [id])?;
            let keys = tx
                .prepare(
                    "SELECT card, version, sealed, uid, counter FROM card_keys
                     WHERE card = ?1 AND issued ORDER BY version DESC",
                )?
                .query_map([id], keys_of)?
                .collect::<Result<_, _>>()?;
            Ok(card_by_id(tx, id, now)?.map(|card| (card, keys)))
        })
        .await
    }

    /// The newest keys of every card that is not wiped.
    pub async fn live_card_keys(&self) -> Result<Vec<KeysRow>, StoreError> {
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
        .await
    }

    /// Takes a tap: its counter counts once, and only forward. The chip is bound by its first tap.
    pub async fn tap(&self, tap: NewTap) -> Result<TapResult, StoreError> {
        let (now, wall, moment) = (self.now(), self.wall(), self.0.time.moment());
        self.write(move |tx| {
            let KeysOwner { card, version } = tap.owner;
            let advanced = tx
                .prepare_cached(
                    "UPDATE card_keys SET counter = ?3, uid = ?4
                     WHERE card = ?1 AND version = ?2 AND counter < ?3 AND (uid IS NULL OR uid = ?4)
                     AND version = (SELECT MAX(version) FROM card_keys WHERE card = ?1)
                     AND (SELECT NOT wiped FROM cards WHERE id = ?1)",
                )?
                .execute(params![card, version, tap.counter, tap.uid])?;
            if advanced != 1 {
                return Ok(TapResult::Refused);
            }
            let tx_max = tx
                .prepare_cached("SELECT tx_max FROM cards WHERE id = ?1 AND enabled")?
                .query_row([card], |row| row.get(0))
                .optional()?;
            let Some(tx_max) = tx_max else { return Ok(TapResult::Disabled) };
            tx.prepare_cached(
                "INSERT INTO card_taps (card, k1, counter, state, wall, ends_ms)
                 VALUES (?1, ?2, ?3, 'issued', ?4, ?5)",
            )?
            .execute(params![card, tap.k1, tap.counter, wall, now.saturating_add(tap.life)])?;
            // Or a reboot would begin before this tap, and its k1 would live on for up to an hour.
            time::note(tx, &moment)?;
            Ok(TapResult::Accepted { tx_max })
        })
        .await
    }
}

fn add_keys(tx: &Transaction, card: i64, keys: NewKeys) -> Result<KeysOwner, StoreError> {
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

fn keys_of(row: &Row) -> rusqlite::Result<KeysRow> {
    Ok(KeysRow {
        owner: KeysOwner { card: row.get(0)?, version: row.get(1)? },
        sealed: row.get(2)?,
        uid: row.get(3)?,
        counter: counter_of(row.get(4)?),
    })
}

fn counter_of(column: i64) -> Option<u32> {
    u32::try_from(column).ok()
}

fn card_by_id(db: &Connection, id: i64, now: Millis) -> Result<Option<CardRow>, StoreError> {
    let row = db
        .prepare_cached(
            "SELECT c.name, c.enabled, c.wiped, c.tx_max, c.day_max, c.uid_privacy, c.created,
                    k.issued, k.uid, k.counter,
                    (SELECT COALESCE(SUM(amount), 0) FROM card_taps WHERE card = c.id AND reserved_ms > ?2
                     AND state IN ('reserved', 'sent', 'paid'))
             FROM cards c JOIN card_keys k ON k.card = c.id
             WHERE c.id = ?1 AND k.version = (SELECT MAX(version) FROM card_keys WHERE card = c.id)",
        )?
        .query_row(params![id, now.saturating_sub(LIMIT_WINDOW)], |row| {
            Ok(CardRow {
                id,
                name: row.get(0)?,
                enabled: row.get(1)?,
                wiped: row.get(2)?,
                tx_max: row.get(3)?,
                day_max: row.get(4)?,
                uid_privacy: row.get(5)?,
                created: row.get(6)?,
                programmed: row.get(7)?,
                uid: row.get(8)?,
                counter: counter_of(row.get(9)?),
                spent: row.get(10)?,
            })
        })
        .optional()?;
    Ok(row)
}
