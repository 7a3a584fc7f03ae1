//! Invites: codes that are worth something here, once or a number of times. A code is known by a keyed hash only.
//!
//! A use and what it is worth are one commit, under a reference of its own: `uses_left` is what makes it count once.

use super::door::{random_id, Datum, Door, DoorRow};
use super::grants::{add_grant, NewGrant};
use super::reference::Reference;
use super::unused_codes::{keep, owner};
use super::{Admission, RequestId, Secret, Store, StoreAnswer, StoreError};
use crate::hex;
use crate::units::Millis;

/// Invites that a store holds, used ones too.
pub const MOST_INVITES: i64 = 10_000;
/// Rows that one transaction removes.
const AT_ONCE: i64 = 128;

/// What a store knows a code by.
pub type InviteHash = [u8; 32];

/// What an invite is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeWorth {
    Seconds(u64),
    Bytes(u64),
    Sats(u64),
}

impl CodeWorth {
    /// The name of the unit, and the number.
    pub fn parts(self) -> (&'static str, u64) {
        match self {
            CodeWorth::Seconds(number) => ("seconds", number),
            CodeWorth::Bytes(number) => ("bytes", number),
            CodeWorth::Sats(number) => ("sats", number),
        }
    }

    pub fn of(unit: &str, number: u64) -> Option<CodeWorth> {
        match unit {
            "seconds" => Some(CodeWorth::Seconds(number)),
            "bytes" => Some(CodeWorth::Bytes(number)),
            "sats" => Some(CodeWorth::Sats(number)),
            _ => None,
        }
    }
}

/// What all invites of one order have in common.
#[derive(Clone, Debug)]
pub struct NewInvites {
    pub worth: CodeWorth,
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
    pub worth: CodeWorth,
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

/// The end of what has no end.
const NEVER: i64 = i64::MAX;
const COLUMNS: &str = "id, unit, amount, uses_left, ends_ms, note, created_by";

impl Store {
    /// One invite for each hash; their ids, in that order. `None`: there would be more than [`MOST_INVITES`].
    /// `unused`: their codes, where those are kept for [`Store::take_unused_code`], or nothing.
    pub async fn make_invites(
        &self,
        order: NewInvites,
        hashes: Vec<InviteHash>,
        unused: Vec<Secret>,
    ) -> Result<Option<Vec<RequestId>>, StoreError> {
        let (now, wall, vault) = (self.now(), self.wall(), self.vault().await?);
        self.write(move |tx| {
            let door = Door::of(tx);
            let new = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
            if count(&door)?.saturating_add(new) > MOST_INVITES {
                return Ok(None);
            }
            let ends = order.lasts.map_or(Ok(NEVER), |lasts| number(now.saturating_add(lasts).0))?;
            let (unit, amount) = order.worth.parts();
            let (amount, now) = (number(amount)?, number(now.0)?);
            let mut unused = unused.into_iter();
            let made = hashes.iter().map(|hash| {
                let id = random_id()?;
                let values = [
                    id.as_str().into(),
                    hex::encode(hash).as_str().into(),
                    unit.into(),
                    amount.into(),
                    i64::from(order.uses).into(),
                    ends.into(),
                    now.into(),
                    order.note.as_str().into(),
                    order.created_by.as_str().into(),
                ];
                door.execute(
                    "INSERT INTO invites (tenant, id, hash, unit, amount, uses_left, used, ends_ms, created_ms,
                                          changed_ms, note, created_by)
                     VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $8, $9, $10)",
                    &values,
                )?;
                if let Some(code) = unused.next() {
                    keep(&door, &id, &vault.seal(&owner(&id), code.expose())?, false, wall)?;
                }
                id_of(&id)
            });
            made.collect::<Result<_, _>>().map(Some)
        })
        .await
    }

    /// Of the newest first, those behind the first `skip`, and how many there are in all.
    pub fn invites(&self, skip: u64, most: u32) -> StoreAnswer<(Vec<InviteRow>, i64)> {
        let skip = i64::try_from(skip).unwrap_or(i64::MAX);
        self.read(move |db| {
            let door = Door::of(db);
            let statement = format!(
                "SELECT {COLUMNS} FROM invites WHERE tenant = $1
                 ORDER BY created_ms DESC, id LIMIT $2 OFFSET $3"
            );
            let rows = door.query(&statement, &[i64::from(most).into(), skip.into()])?;
            Ok((rows.iter().map(row_of).collect::<Result<_, _>>()?, count(&door)?))
        })
    }

    pub fn invite(&self, hash: InviteHash) -> StoreAnswer<Option<InviteRow>> {
        self.read(move |tx| find(&Door::of(tx), &hex::encode(&hash)))
    }

    /// Whether it was there.
    pub fn delete_invite(&self, id: RequestId) -> StoreAnswer<bool> {
        self.write(move |tx| {
            let delete = |table| {
                let statement = format!("DELETE FROM {table} WHERE tenant = $1 AND id = $2");
                Door::of(tx).execute(&statement, &[id.as_str().into()])
            };
            let deleted = [delete("unused_codes")?, delete("invites")?];
            Ok(deleted.contains(&1))
        })
    }

    /// Uses an invite once, for what `grant` says; its reference is made here.
    pub fn use_invite(&self, hash: InviteHash, grant: NewGrant) -> StoreAnswer<InviteUse> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let (door, hash) = (Door::of(tx), hex::encode(&hash));
            let used = door.query(
                "UPDATE invites SET uses_left = uses_left - 1, used = used + 1, changed_ms = $3
                 WHERE tenant = $1 AND hash = $2 AND uses_left > 0 AND ends_ms > $3
                 RETURNING id, used",
                &[hash.as_str().into(), number(now.0)?.into()],
            )?;
            let Some(used) = used.first() else { return Ok(InviteUse::Refused(find(&door, &hash)?)) };
            let time = u32::try_from(used.number(1)?).map_err(|_| StoreError::unreadable("used"))?;
            door.execute("DELETE FROM unused_codes WHERE tenant = $1 AND id = $2", &[used.text(0)?.into()])?;
            let reference = Reference::Invite(id_of(used.text(0)?)?, time);
            add_grant(tx, &NewGrant { reference, ..grant }, now, wall).map(InviteUse::Granted)
        })
    }

    /// Forgets those that nobody can use and nobody has used since.
    pub async fn forget_invites(&self, since: Millis) -> Result<(), StoreError> {
        loop {
            let removed = self.write(move |tx| {
                let forget = |table| {
                    let statement = format!(
                        "DELETE FROM {table} WHERE tenant = $1 AND id IN
                         (SELECT id FROM invites WHERE tenant = $1 AND changed_ms < $2
                          AND (uses_left = 0 OR ends_ms < $2) LIMIT $3)"
                    );
                    Door::of(tx).execute(&statement, &[number(since.0)?.into(), AT_ONCE.into()])
                };
                forget("unused_codes")?;
                forget("invites")
            });
            if i64::try_from(removed.await?).unwrap_or(i64::MAX) < AT_ONCE {
                return Ok(());
            }
        }
    }
}

fn count(door: &Door) -> Result<i64, StoreError> {
    let counted = door.query("SELECT COUNT(*) FROM invites WHERE tenant = $1", &[])?;
    counted.first().map_or(Ok(0), |row| row.number(0))
}

fn find(door: &Door, hash: &str) -> Result<Option<InviteRow>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM invites WHERE tenant = $1 AND hash = $2");
    door.query(&statement, &[Datum::from(hash)])?.first().map(row_of).transpose()
}

fn row_of(row: &DoorRow) -> Result<InviteRow, StoreError> {
    let amount = u64::try_from(row.number(2)?).map_err(|_| StoreError::unreadable("amount"))?;
    let ends = Some(row.number(4)?).filter(|ends| *ends != NEVER);
    let ends =
        ends.map(|ends| u64::try_from(ends).map(Millis).map_err(|_| StoreError::unreadable("ends_ms")));
    Ok(InviteRow {
        id: id_of(row.text(0)?)?,
        worth: CodeWorth::of(row.text(1)?, amount).ok_or_else(|| StoreError::unreadable("unit"))?,
        uses_left: u32::try_from(row.number(3)?).map_err(|_| StoreError::unreadable("uses_left"))?,
        ends: ends.transpose()?,
        note: row.text(5)?.to_owned(),
        created_by: row.text(6)?.to_owned(),
    })
}

fn id_of(text: &str) -> Result<RequestId, StoreError> {
    text.parse().map_err(|()| StoreError::unreadable("id"))
}

fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::unreadable("number"))
}
