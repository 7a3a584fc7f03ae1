//! What orders of vouchers have taken of their makers' limits, for each hour and day: what fails is given back, in the commit
//! in which it fails, so that it is given back once.

use super::door::Door;
use super::{Store, StoreError};
use crate::units::{Millis, UnixSeconds};

/// The windows that are counted, and their length (seconds).
pub const LIMIT_WINDOWS: [(&str, u64); 2] = [("hour", 3600), ("day", 86_400)];
/// In the place of an operator: everybody together.
pub const EVERYBODY: &str = "";

/// One moment, by the wall clock and in service time.
#[derive(Clone, Copy, Debug)]
pub struct When {
    pub wall: UnixSeconds,
    pub service: Millis,
}

impl Store {
    pub fn when(&self) -> When {
        When { wall: self.wall(), service: self.now() }
    }
}

/// When the window (seconds of service time) begins that runs then.
pub fn window_start(window: &str, now: Millis) -> u64 {
    let length = LIMIT_WINDOWS.iter().find(|(name, _)| *name == window).map_or(1, |(_, length)| *length);
    let seconds = now.0 / 1000;
    seconds.saturating_sub(seconds % length)
}

/// Gives back what was reserved at that service time, and what nothing has come of.
pub fn give_back_reserved(door: &Door<'_>, who: &str, sats: u64, reserved: Millis) -> Result<(), StoreError> {
    let less = "UPDATE spending SET spent = CASE WHEN spent > $5 THEN spent - $5 ELSE 0 END
         WHERE tenant = $1 AND who = $2 AND span = $3 AND starts = $4";
    for_windows(door, less, (who, sats), reserved)
}

/// A voucher has failed: what it has taken of limits is given back.
pub(super) fn unreserve_voucher(door: &Door<'_>, id: &str, when: When) -> Result<(), StoreError> {
    let Some((who, sats, reserved)) = reserved_for(door, id, when)? else { return Ok(()) };
    give_back_reserved(door, &who, sats, reserved)
}

/// A voucher that has failed is to be had after all: it counts as before.
pub(super) fn reserve_voucher_again(door: &Door<'_>, id: &str, when: When) -> Result<(), StoreError> {
    let Some((who, sats, reserved)) = reserved_for(door, id, when)? else { return Ok(()) };
    let more = "UPDATE spending SET spent = spent + $5
         WHERE tenant = $1 AND who = $2 AND span = $3 AND starts = $4";
    for_windows(door, more, (&who, sats), reserved)
}

fn for_windows(
    door: &Door<'_>,
    statement: &str,
    (who, sats): (&str, u64),
    reserved: Millis,
) -> Result<(), StoreError> {
    for who in [who, EVERYBODY] {
        for (window, _) in LIMIT_WINDOWS {
            let starts = window_start(window, reserved);
            door.execute(statement, &[who.into(), window.into(), starts.into(), sats.into()])?;
        }
    }
    Ok(())
}

/// Who has reserved how much for a voucher, and in which service time: an hour that is over gets nothing back, and the one
/// that runs has not counted it.
fn reserved_for(door: &Door<'_>, id: &str, when: When) -> Result<Option<(String, u64, Millis)>, StoreError> {
    let found = door.query(
        "SELECT created_by, face_sat, created_at FROM vouchers WHERE tenant = $1 AND id = $2",
        &[id.into()],
    )?;
    let Some(row) = found.first() else { return Ok(None) };
    let age = when.wall.0.saturating_sub(row.count(2)?);
    let reserved = Millis(when.service.0.saturating_sub(age.saturating_mul(1000)));
    Ok(Some((row.text(0)?.to_owned(), row.count(1)?, reserved)))
}
