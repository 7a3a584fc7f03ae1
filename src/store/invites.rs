//! Invites: codes that are worth something here, once or a number of times. A code is known by a keyed hash only.
//!
//! A use and what it is worth are one commit, under a reference of its own: `uses_left` is what makes it count once.

use super::grants::{add_grant, NewGrant};
use super::reference::Reference;
use super::{Admission, RequestId, Store, StoreError};
use crate::hex;
use crate::units::Millis;
use rusqlite::types::ToSql;
use rusqlite::{params, OptionalExtension, Row, Transaction};

/// Invites that a store holds, used ones too.
pub const MOST_INVITES: i64 = 10_000;
/// Rows that one transaction removes.
const AT_ONCE: usize = 128;
const TENANT: &str = "main";

/// What a store knows a code by.
pub type InviteHash = [u8; 32];

/// What an invite is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteWorth {
    Seconds(u64),
    Bytes(u64),
    Sats(u64),
}

impl InviteWorth {
    /// The name of the unit, and the number.
    pub fn parts(self) -> (&'static str, u64) {
        match self {
            InviteWorth::Seconds(number) => ("seconds", number),
            InviteWorth::Bytes(number) => ("bytes", number),
            InviteWorth::Sats(number) => ("sats", number),
        }
    }

    pub fn of(kind: &str, number: u64) -> Option<InviteWorth> {
        match kind {
            "seconds" => Some(InviteWorth::Seconds(number)),
            "bytes" => Some(InviteWorth::Bytes(number)),
            "sats" => Some(InviteWorth::Sats(number)),
            _ => None,
        }
    }
}

/// What all invites of one order have in common.
#[derive(Clone, Debug)]
pub struct NewInvites {
    pub worth: InviteWorth,
    /// How often each may be used, at least once.
    pub uses: u32,
    /// How long, from now on; without it for ever.
    pub lasts: Option<Millis>,
    pub note: String,
    pub created_by: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteRow {
    pub id: RequestId,
    pub worth: InviteWorth,
    pub uses_left: u32,
    /// By service time.
    pub ends: Option<Millis>,
    pub note: String,
    pub created_by: String,
}

impl InviteRow {
    pub fn has_expired(&self, now: Millis) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }
}

/// What came of a use.
#[derive(Debug)]
pub enum InviteUse {
    /// The session that it went into, for which the gate is still to be opened.
    Granted(Admission),
    /// As it is now: used up, or expired. `None`: there is none.
    Refused(Option<InviteRow>),
}

const COLUMNS: &str = "id, kind, amount, uses_left, ends_ms, note, created_by";

impl Store {
    /// One invite for each hash; their ids, in that order. `None`: there would be more than [`MOST_INVITES`].
    pub async fn make_invites(
        &self,
        order: NewInvites,
        hashes: Vec<InviteHash>,
    ) -> Result<Option<Vec<RequestId>>, StoreError> {
        let now = self.now();
        self.write(move |tx| {
            let there: i64 =
                tx.query_row("SELECT COUNT(*) FROM invites WHERE tenant = $1", [TENANT], |row| row.get(0))?;
            let new = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
            if there.saturating_add(new) > MOST_INVITES {
                return Ok(None);
            }
            let ends = order.lasts.map(|lasts| now.saturating_add(lasts));
            let (kind, amount) = order.worth.parts();
            let amount = i64::try_from(amount).map_err(|_| StoreError::unreadable("amount"))?;
            let mut insert = tx.prepare_cached(
                "INSERT INTO invites
                     (tenant, id, hash, kind, amount, uses_left, ends_ms, created_ms, changed_ms, note, created_by)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10)",
            )?;
            let made = hashes.iter().map(|hash| {
                let id = RequestId::random()?;
                let (hash, uses) = (hex::encode(hash), order.uses);
                let values: [&dyn ToSql; 10] = [
                    &TENANT,
                    &id.as_str(),
                    &hash,
                    &kind,
                    &amount,
                    &uses,
                    &ends,
                    &now,
                    &order.note,
                    &order.created_by,
                ];
                insert.execute(values.as_slice())?;
                Ok(id)
            });
            made.collect::<Result<_, _>>().map(Some)
        })
        .await
    }

    /// Of the newest first, those behind the first `skip`, and how many there are in all.
    pub async fn invites(&self, skip: u64, most: u32) -> Result<(Vec<InviteRow>, i64), StoreError> {
        let skip = i64::try_from(skip).unwrap_or(i64::MAX);
        self.read(move |db| {
            let mut rows = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM invites WHERE tenant = $1
                 ORDER BY created_ms DESC, id LIMIT $2 OFFSET $3"
            ))?;
            let rows = rows.query_map(params![TENANT, most, skip], |row| Ok(row_of(row)))?;
            let rows = rows.map(|row| row?).collect::<Result<_, _>>()?;
            let total = "SELECT COUNT(*) FROM invites WHERE tenant = $1";
            Ok((rows, db.query_row(total, [TENANT], |row| row.get(0))?))
        })
        .await
    }

    pub async fn invite(&self, hash: InviteHash) -> Result<Option<InviteRow>, StoreError> {
        self.read(move |tx| find(tx, &hex::encode(&hash))).await
    }

    /// Whether it was there.
    pub async fn delete_invite(&self, id: RequestId) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let deleted = "DELETE FROM invites WHERE tenant = $1 AND id = $2";
            Ok(tx.execute(deleted, [TENANT, id.as_str()])? == 1)
        })
        .await
    }

    /// Uses an invite once, for what `grant` says; its reference is made here.
    pub async fn use_invite(&self, hash: InviteHash, grant: NewGrant) -> Result<InviteUse, StoreError> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let hash = hex::encode(&hash);
            let used: Option<(String, u32)> = tx
                .prepare_cached(
                    // The parameters are numbered in the order in which they stand here.
                    "UPDATE invites SET uses_left = uses_left - 1, used = used + 1, changed_ms = $1
                     WHERE tenant = $2 AND hash = $3 AND uses_left > 0 AND (ends_ms IS NULL OR ends_ms > $1)
                     RETURNING id, used",
                )?
                .query_row(params![now, TENANT, hash], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, number)) = used else { return Ok(InviteUse::Refused(find(tx, &hash)?)) };
            let reference = Reference::Invite(id_of(&id)?, number);
            add_grant(tx, &NewGrant { reference, ..grant }, now, wall).map(InviteUse::Granted)
        })
        .await
    }

    /// Forgets those that nobody can use and nobody has used since.
    pub async fn forget_invites(&self, since: Millis) -> Result<(), StoreError> {
        loop {
            let removed = self.write(move |tx| {
                let mut delete = tx.prepare_cached(
                    "DELETE FROM invites WHERE tenant = $1 AND id IN
                     (SELECT id FROM invites WHERE tenant = $1 AND changed_ms < $2
                      AND (uses_left = 0 OR ends_ms < $2) LIMIT $3)",
                )?;
                Ok(delete.execute(params![TENANT, since, i64::try_from(AT_ONCE).unwrap_or(i64::MAX)])?)
            });
            if removed.await? < AT_ONCE {
                return Ok(());
            }
        }
    }
}

fn find(tx: &Transaction, hash: &str) -> Result<Option<InviteRow>, StoreError> {
    let mut row =
        tx.prepare_cached(&format!("SELECT {COLUMNS} FROM invites WHERE tenant = $1 AND hash = $2"))?;
    row.query_row([TENANT, hash], |row| Ok(row_of(row))).optional()?.transpose()
}

fn row_of(row: &Row) -> Result<InviteRow, StoreError> {
    let (kind, amount): (String, i64) = (row.get(1)?, row.get(2)?);
    let amount = u64::try_from(amount).map_err(|_| StoreError::unreadable("amount"))?;
    Ok(InviteRow {
        id: id_of(&row.get::<_, String>(0)?)?,
        worth: InviteWorth::of(&kind, amount).ok_or_else(|| StoreError::unreadable("kind"))?,
        uses_left: row.get(3)?,
        ends: row.get(4)?,
        note: row.get(5)?,
        created_by: row.get(6)?,
    })
}

fn id_of(text: &str) -> Result<RequestId, StoreError> {
    text.parse().map_err(|()| StoreError::unreadable("id"))
}
