//! The audit log: who did what, when, with which result.
//!
//! Each row has the hash of the one before it, so that a row that is changed, removed or put in between shows. The last
//! [`KEPT`] rows stay; of those before them the hash of the last one does, which the first row goes on from. A program
//! that may write to the database can still write the whole chain anew.

use super::database::Work;
use super::door::{Datum, Door, DoorRow};
use super::{Store, StoreAnswer, StoreError};
use crate::hex;
use crate::json::json;
use crate::units::UnixSeconds;
use rusqlite::Transaction;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that stay.
pub const KEPT: i64 = 10_000;
/// Rows that one look at the store reads, so that guests do not wait behind it.
const AT_ONCE: i64 = 256;
/// Characters of each of the short texts of a row, and of its target.
const LONGEST: usize = 64;
const LONGEST_TARGET: usize = 200;

/// A SHA-256 in hex.
type Hash = String;
/// What the first row goes on from.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is to be written down. No text of it holds a secret, and none a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAuditRow {
    pub who: String,
    pub role: String,
    pub what: String,
    pub target: String,
    /// `ok`, or the code of an error.
    pub result: String,
    /// How often it happened.
    pub count: u32,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    pub seq: i64,
    /// By the router's wall clock.
    pub at: UnixSeconds,
    pub row: NewAuditRow,
    pub prev: Hash,
    pub hash: Hash,
}

/// What became of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditVerdict {
    /// It is as it was written, and has this many rows.
    Whole { rows: i64 },
    /// The first row that is not as it was written.
    Bad { seq: i64, fault: AuditFault },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    #[error("is missing")]
    Missing,
    #[error("was changed")]
    Changed,
    #[error("does not go on from the row before it")]
    Torn,
}

struct Ends {
    dropped: i64,
    dropped_hash: Hash,
    last: i64,
    last_hash: Hash,
}

impl NewAuditRow {
    pub fn new(who: &str, role: &str, what: &str, target: &str, result: &str) -> NewAuditRow {
        NewAuditRow {
            who: clean(who, LONGEST),
            role: clean(role, LONGEST),
            what: clean(what, LONGEST),
            target: clean(target, LONGEST_TARGET),
            result: clean(result, LONGEST),
            count: 1,
        }
    }

    /// What a caller was refused who has not signed in.
    pub fn of_stranger(what: &str, from: IpAddr, result: &str) -> NewAuditRow {
        NewAuditRow::new("stranger", "-", what, &from.to_string(), result)
    }
}

/// What a text of others may be in a row.
fn clean(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

impl AuditRow {
    /// SHA-256 of the JSON text `[prev,seq,at,who,role,what,target,result,count]`, without blanks.
    fn reckoned(&self) -> Hash {
        let NewAuditRow { who, role, what, target, result, count } = &self.row;
        let fields = [
            json!(self.prev),
            json!(self.seq),
            json!(self.at.0),
            json!(who),
            json!(role),
            json!(what),
            json!(target),
            json!(result),
            json!(count),
        ];
        hex::encode(&Sha256::digest(json!(fields).to_string()))
    }
}

tokio::task_local! {
    /// What the next change of this task is written down as, in the same commit.
    static WITH_CHANGE: Arc<Mutex<Option<NewAuditRow>>>;
}

/// What somebody does that changes the store.
pub type Changing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Has `doing` write this row in the commit of its first change, so that no power cut parts the two. Returns whether
/// the row was written.
pub async fn with_change<T>(row: NewAuditRow, doing: Changing<'_, T>) -> (T, bool) {
    let row = Arc::new(Mutex::new(Some(row)));
    let done = WITH_CHANGE.scope(row.clone(), doing).await;
    let is_written = row.lock().unwrap_or_else(PoisonError::into_inner).is_none();
    (done, is_written)
}

/// Work for a task of its own: it has the row of the task that starts it.
pub fn with_same_row(work: Changing<'static, ()>) -> Changing<'static, ()> {
    match WITH_CHANGE.try_with(Arc::clone) {
        Ok(row) => Box::pin(WITH_CHANGE.scope(row, work)),
        Err(_) => work,
    }
}

/// A write, with the row that this task has for it.
pub(super) fn noting(write: Work<'static>, at: UnixSeconds) -> Work<'static> {
    let Ok(row) = WITH_CHANGE.try_with(Arc::clone) else { return write };
    Box::new(move |tx| {
        let before = tx.total_changes();
        let value = write(tx)?;
        let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
        if tx.total_changes() != before {
            row.take().map_or(Ok(()), |row| append(tx, row, at))?;
        }
        Ok(value)
    })
}

impl Store {
    /// Writes down the row that this task has for its next change, which is made elsewhere: in a file, or by others.
    pub async fn note_change_elsewhere(&self) -> Result<(), StoreError> {
        let row = WITH_CHANGE.try_with(|row| row.lock().unwrap_or_else(PoisonError::into_inner).take());
        match row.ok().flatten() {
            Some(row) => self.audit(row).await,
            None => Ok(()),
        }
    }

    /// Writes a row down, behind all others.
    pub fn audit(&self, row: NewAuditRow) -> StoreAnswer<()> {
        let at = self.wall();
        self.write(move |tx| append(tx, row, at))
    }

    /// The same without waiting for it.
    pub fn audit_later(&self, row: NewAuditRow) {
        let at = self.wall();
        self.write_later("a row of the audit log", move |tx| append(tx, row, at));
    }

    /// At most `most` rows: the newest or, since a wall time, the first from then on. Oldest first.
    pub fn audit_rows(&self, since: Option<UnixSeconds>, most: u32) -> StoreAnswer<Vec<AuditRow>> {
        self.read(move |db| {
            let order = if since.is_some() { "" } else { "DESC" };
            let wanted = format!("at >= $2 ORDER BY seq {order} LIMIT $3");
            let since = i64::try_from(since.unwrap_or_default().0).unwrap_or(i64::MAX);
            let mut rows = select(&Door::of(db), &wanted, since, i64::from(most))?;
            rows.sort_by_key(|row| row.seq);
            Ok(rows)
        })
    }

    /// Looks at every row, a few at a time.
    pub async fn verify_audit(&self) -> Result<AuditVerdict, StoreError> {
        let mut looked_at = Looked { seq: 0, hash: NOTHING.to_owned(), rows: 0 };
        loop {
            let from = looked_at.seq;
            let (ends, rows) = self
                .read(move |db| {
                    let door = Door::of(db);
                    let ends = ends(&door)?;
                    let from = ends.dropped.max(from);
                    // What is before the first row, or behind the last, belongs to nothing.
                    let wanted = if from == ends.dropped { "seq <= $2 OR seq > $2" } else { "seq > $2" };
                    let rows = select(&door, &format!("({wanted}) ORDER BY seq LIMIT $3"), from, AT_ONCE)?;
                    Ok((ends, rows))
                })
                .await?;
            if looked_at.seq < ends.dropped || looked_at.rows == 0 {
                looked_at = Looked { seq: ends.dropped, hash: ends.dropped_hash.clone(), ..looked_at };
            }
            if let Some(verdict) = looked_at.go_on(&ends, &rows) {
                return Ok(verdict);
            }
        }
    }
}

/// How far a look at the chain has come.
struct Looked {
    seq: i64,
    hash: Hash,
    rows: i64,
}

impl Looked {
    /// Looks at the next rows. `None`: there are more.
    fn go_on(&mut self, ends: &Ends, rows: &[AuditRow]) -> Option<AuditVerdict> {
        let bad = |seq, fault| Some(AuditVerdict::Bad { seq, fault });
        for row in rows {
            let next = self.seq.saturating_add(1);
            match row.seq {
                seq if seq <= ends.dropped || seq > ends.last => return bad(seq, AuditFault::Torn),
                seq if seq != next => return bad(next, AuditFault::Missing),
                seq if row.hash != row.reckoned() => return bad(seq, AuditFault::Changed),
                seq if row.prev != self.hash => return bad(seq, AuditFault::Torn),
                seq => *self = Looked { seq, hash: row.hash.clone(), rows: self.rows.saturating_add(1) },
            }
        }
        match rows.is_empty() {
            false => None,
            true if self.seq < ends.last => bad(self.seq.saturating_add(1), AuditFault::Missing),
            true if self.hash != ends.last_hash => bad(self.seq, AuditFault::Changed),
            true => Some(AuditVerdict::Whole { rows: self.rows }),
        }
    }
}

fn ends(door: &Door) -> Result<Ends, StoreError> {
    let known =
        door.query("SELECT dropped, dropped_hash, last, last_hash FROM audit_ends WHERE tenant = $1", &[])?;
    let nothing = || NOTHING.to_owned();
    match known.first() {
        None => Ok(Ends { dropped: 0, dropped_hash: nothing(), last: 0, last_hash: nothing() }),
        Some(row) => Ok(Ends {
            dropped: row.number(0)?,
            dropped_hash: row.text(1)?.to_owned(),
            last: row.number(2)?,
            last_hash: row.text(3)?.to_owned(),
        }),
    }
}

/// `wanted` knows `$2`, a sequence number or a time, and `$3`, the most rows.
fn select(door: &Door, wanted: &str, from: i64, most: i64) -> Result<Vec<AuditRow>, StoreError> {
    let statement = format!(
        "SELECT seq, at, who, role, what, target, result, count, prev, hash FROM audit
         WHERE tenant = $1 AND {wanted}"
    );
    door.query(&statement, &[from.into(), most.into()])?.iter().map(row_of).collect()
}

fn row_of(row: &DoorRow) -> Result<AuditRow, StoreError> {
    let text = |column| row.text(column).map(str::to_owned);
    let new = NewAuditRow {
        who: text(2)?,
        role: text(3)?,
        what: text(4)?,
        target: text(5)?,
        result: text(6)?,
        count: u32::try_from(row.number(7)?).map_err(|_| StoreError::unreadable("count"))?,
    };
    let at = u64::try_from(row.number(1)?).map_err(|_| StoreError::unreadable("at"))?;
    Ok(AuditRow { seq: row.number(0)?, at: UnixSeconds(at), row: new, prev: text(8)?, hash: text(9)? })
}

fn append(tx: &Transaction, new: NewAuditRow, at: UnixSeconds) -> Result<(), StoreError> {
    let door = Door::of(tx);
    let before = ends(&door)?;
    let seq = before.last.checked_add(1).ok_or_else(|| StoreError::unreadable("last"))?;
    let mut row = AuditRow { seq, at, row: new, prev: before.last_hash, hash: String::new() };
    row.hash = row.reckoned();
    let text = |text: &str| Datum::from(text);
    let NewAuditRow { who, role, what, target, result, count } = &row.row;
    let values = [
        seq.into(),
        i64::try_from(at.0).unwrap_or(i64::MAX).into(),
        text(who),
        text(role),
        text(what),
        text(target),
        text(result),
        i64::from(*count).into(),
        text(&row.prev),
        text(&row.hash),
    ];
    door.execute(
        "INSERT INTO audit (tenant, seq, at, who, role, what, target, result, count, prev, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &values,
    )?;
    let (mut dropped, mut dropped_hash) = (before.dropped, before.dropped_hash);
    let old = seq.saturating_sub(KEPT);
    if old > dropped {
        let gone =
            door.query("DELETE FROM audit WHERE tenant = $1 AND seq = $2 RETURNING hash", &[old.into()])?;
        // Where it is gone already, the chain shows it from here on.
        let hash = gone.first().map_or(Ok(NOTHING), |row| row.text(0))?;
        (dropped, dropped_hash) = (old, hash.to_owned());
    }
    door.execute(
        "INSERT INTO audit_ends (tenant, dropped, dropped_hash, last, last_hash) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant) DO UPDATE SET dropped = $2, dropped_hash = $3, last = $4, last_hash = $5",
        &[dropped.into(), text(&dropped_hash), seq.into(), text(&row.hash)],
    )?;
    Ok(())
}
