//! Work of vouchers that goes on by itself, as the store has it: what is due, what is done, and what is tried again. See
//! [`crate::store::add_voucher_job`].

use crate::store::{Datum, Door, StoreError};
use crate::units::{Millis, UnixSeconds};

/// Notices that nobody could be told and that are kept to be shown.
const MOST_DEAD: u64 = 100;
/// How many of one kind may wait; the oldest are given up.
pub const MOST_WAITING: u64 = 5000;

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherJob {
    pub id: String,
    pub about: String,
    pub target: String,
    pub work: String,
    /// How often it came to nothing.
    pub tries: u64,
}

/// What of a kind is due at this service time, the one that has waited longest first.
pub fn due(door: &Door, kind: &str, now: Millis, most: u64) -> Result<Vec<VoucherJob>, StoreError> {
    let found = door.query(
        "SELECT id, about, target, work, tries FROM voucher_jobs
         WHERE tenant = $1 AND kind = $2 AND state = 'open' AND due_ms <= $3 ORDER BY due_ms, created_at LIMIT $4",
        &[kind.into(), now.0.into(), most.into()],
    )?;
    let text = |text: &str| text.to_owned();
    let one = found.iter().map(|row| {
        Ok(VoucherJob {
            id: row.text(0).map(text)?,
            about: row.text(1).map(text)?,
            target: row.text(2).map(text)?,
            work: row.text(3).map(text)?,
            tries: row.count(4)?,
        })
    });
    one.collect()
}

/// How much of a kind waits.
pub fn waiting(door: &Door, kind: &str) -> Result<u64, StoreError> {
    let counted = door.query(
        "SELECT COUNT(*) FROM voucher_jobs WHERE tenant = $1 AND kind = $2 AND state = 'open'",
        &[kind.into()],
    )?;
    counted.first().map_or(Ok(0), |row| row.count(0))
}

/// Whether there is open work of a kind that is about this.
pub fn about(door: &Door, kind: &str, about: &str) -> Result<bool, StoreError> {
    let found = door.query(
        "SELECT id FROM voucher_jobs WHERE tenant = $1 AND about = $2 AND kind = $3 AND state = 'open' LIMIT 1",
        &[about.into(), kind.into()],
    )?;
    Ok(!found.is_empty())
}

/// It is done.
pub fn done(door: &Door, id: &str) -> Result<(), StoreError> {
    door.execute("DELETE FROM voucher_jobs WHERE tenant = $1 AND id = $2", &[id.into()]).map(drop)
}

/// It came to nothing once more, and is tried again at this service time.
pub fn again(door: &Door, id: &str, due: Millis, why: &str, at: UnixSeconds) -> Result<(), StoreError> {
    door.execute(
        "UPDATE voucher_jobs SET tries = tries + 1, due_ms = $3, error_code = $4, changed_at = $5
         WHERE tenant = $1 AND id = $2 AND state = 'open'",
        &[id.into(), due.0.into(), why.into(), at.into()],
    )
    .map(drop)
}

/// What is due of a kind for this place, as [`place_of`] names it, waits until then; that is no try.
pub fn put_off(door: &Door, kind: &str, place: &str, now: Millis, due: Millis) -> Result<usize, StoreError> {
    door.execute(
        "UPDATE voucher_jobs SET due_ms = $4 WHERE tenant = $1 AND kind = $2 AND state = 'open' AND due_ms <= $3
         AND (target = $5 OR ($5 != '' AND substr(target, 1, length($5)) = $5))",
        &[kind.into(), now.0.into(), due.0.into(), place.into()],
    )
}

/// What of an address all have in common that one receiver serves: all before its path.
pub fn place_of(target: &str) -> &str {
    let host = target.find("://").map_or(0, |at| at.saturating_add(3));
    let length = target.get(host..).and_then(|rest| rest.find(['/', '?', '#']));
    length.and_then(|length| target.get(..host.saturating_add(length))).unwrap_or(target)
}

/// It is tried no more, and kept for a while to be seen.
pub fn give_up(door: &Door, id: &str, why: &str, at: UnixSeconds) -> Result<(), StoreError> {
    door.execute(
        "UPDATE voucher_jobs SET tries = tries + 1, state = 'dead', error_code = $3, changed_at = $4
         WHERE tenant = $1 AND id = $2 AND state = 'open'",
        &[id.into(), why.into(), at.into()],
    )?;
    door.execute(
        "DELETE FROM voucher_jobs WHERE tenant = $1 AND id IN
         (SELECT id FROM voucher_jobs WHERE tenant = $1 AND state = 'dead'
          ORDER BY changed_at DESC, id LIMIT 100000 OFFSET $2)",
        &[MOST_DEAD.into()],
    )
    .map(drop)
}

/// What was given up of a kind has its last try once more.
pub fn once_more(door: &Door, kind: &str, tries: u64, at: UnixSeconds) -> Result<usize, StoreError> {
    door.execute(
        "UPDATE voucher_jobs SET state = 'open', tries = $3, due_ms = 0, changed_at = $4
         WHERE tenant = $1 AND kind = $2 AND state = 'dead'",
        &[kind.into(), tries.into(), at.into()],
    )
}

/// Gives the oldest of a kind up where too many wait; answers how many.
pub fn bound(door: &Door, kind: &str, at: UnixSeconds) -> Result<usize, StoreError> {
    let surplus = door.query(
        "SELECT id FROM voucher_jobs WHERE tenant = $1 AND kind = $2 AND state = 'open'
         ORDER BY created_at DESC, id LIMIT 100000 OFFSET $3",
        &[kind.into(), Datum::from(MOST_WAITING)],
    )?;
    for row in &surplus {
        give_up(door, row.text(0)?, "outbox_full", at)?;
    }
    Ok(surplus.len())
}
