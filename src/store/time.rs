//! Time across reboots.
//!
//! Deadlines are readings of the monotonic clock, which starts anew with each boot. So that no row needs to
//! know its boot, **all readings in the store belong to one boot**, the one in the table `moment`, which
//! also holds how far that boot's clock had come when it was last noted (at most every 60 s). When the
//! store is opened in another boot, one transaction moves every reading (`Schema::clock_readings`) to the
//! new boot's clock: what lay 10 minutes ahead of the noted moment now lies 10 minutes ahead of now. The
//! time without power is not counted, and neither are the up to 60 s since the moment was noted: both in
//! the guest's favour. It happens completely or not at all.
//!
//! The wall clock is never shown below the highest one noted, nor below the time this program was written,
//! so that a router that boots in 1970 does not take old quotes for fresh ones. A jump forward counts only
//! once it has lasted from one note to the next: a clock that was wrong for a moment does not stay wrong
//! for ever.

use super::{Store, StoreError};
use crate::clock::{BootId, Clock};
use crate::units::{Millis, UnixSeconds};
use rusqlite::{Connection, Transaction};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a moment is noted at most: what a power cut can cost us, and a commit it costs the flash.
const EVERY: Millis = Millis::from_secs(60);

/// 2026-01-01: no copy of this program has run before.
const WRITTEN: UnixSeconds = UnixSeconds(1_767_225_600);

/// How much the wall clock may gain on the monotonic one between two notes before it counts as a jump.
const DRIFT_SECS: u64 = 5;

/// The last moment that was noted before the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    pub boot: BootId,
    /// On the clock of `boot`.
    pub monotonic: Millis,
    pub wall: UnixSeconds,
}

/// A moment that is due to be noted; see `Store::moment_due`.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Moment {
    monotonic: Millis,
    wall_floor: UnixSeconds,
}

/// When the last moment was noted, and what the wall clock is held to.
pub(super) struct Timekeeper {
    clock: Clock,
    last_seen: LastSeen,
    state: Mutex<State>,
}

struct State {
    noted: Millis,
    floor: UnixSeconds,
    /// Monotonic and wall reading at the last note: the wall may raise the floor if it still agrees at the
    /// next.
    previous: (Millis, UnixSeconds),
}

impl Store {
    /// What was noted last by the process before this one, on its own boot's clock. The readings in the
    /// store have been carried over to this boot already.
    pub fn last_seen(&self) -> &LastSeen {
        &self.0.time.last_seen
    }

    /// The wall clock, but never below what was noted before, in this boot or an earlier one.
    pub fn wall(&self) -> UnixSeconds {
        let time = &self.0.time;
        time.clock.wall().max(time.state().floor)
    }

    /// Notes how far this boot's clock has come, if the last note is 60 s old. Meant to be asked often; it
    /// does not wait for the write.
    pub fn checkpoint(&self) {
        if let Some(moment) = self.moment_due() {
            self.write_later("the time", move |tx| note(tx, moment));
        }
    }

    /// The moment to `note`, once every 60 s: for a writer that has something to write every minute anyway
    /// and can take it into its own transaction.
    pub(in crate::store) fn moment_due(&self) -> Option<Moment> {
        self.0.time.due()
    }
}

/// Writes a moment that was due, as part of the caller's transaction.
pub(in crate::store) fn note(tx: &Transaction<'_>, moment: Moment) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE moment SET monotonic_ms = ?1, wall_floor = max(wall_floor, ?2)",
        (moment.monotonic, moment.wall_floor),
    )?;
    Ok(())
}

/// The row of a new store.
pub(super) fn first_boot(conn: &Connection, clock: &Clock) -> Result<(), StoreError> {
    conn.execute(
        "INSERT INTO moment (id, boot, monotonic_ms, wall_floor) VALUES (1, ?1, ?2, ?3)",
        (clock.boot().0, clock.now(), WRITTEN),
    )?;
    Ok(())
}

/// Carries all readings over to the clock of this boot, if the store was last open in another one.
pub(super) fn begin_boot(
    tx: &Transaction<'_>,
    clock: &Clock,
    readings: &[(&str, &str)],
) -> Result<Timekeeper, StoreError> {
    let last_seen = tx.query_row("SELECT boot, monotonic_ms, wall_floor FROM moment", [], |row| {
        Ok(LastSeen { boot: BootId(row.get(0)?), monotonic: row.get(1)?, wall: row.get(2)? })
    })?;
    let (boot, now) = (clock.boot(), clock.now());
    // A machine that cannot tell its boots apart still shows a reboot by a clock that went back.
    let noted = if last_seen.boot == boot && last_seen.monotonic <= now {
        last_seen.monotonic
    } else {
        for (table, column) in readings {
            tx.execute(
                &format!(
                    "UPDATE {table} SET {column} = max(0, {column} - ?1 + ?2) WHERE {column} IS NOT NULL"
                ),
                (last_seen.monotonic, now),
            )?;
        }
        tx.execute("UPDATE moment SET boot = ?1, monotonic_ms = ?2", (&boot.0, now))?;
        now
    };
    Ok(Timekeeper {
        clock: clock.clone(),
        state: Mutex::new(State { noted, floor: last_seen.wall.max(WRITTEN), previous: (now, clock.wall()) }),
        last_seen,
    })
}

impl Timekeeper {
    fn due(&self) -> Option<Moment> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut state = self.state();
        if now.saturating_sub(state.noted) < EVERY {
            return None;
        }
        let (then, wall_then) = state.previous;
        let elapsed = now.saturating_sub(then);
        let expected = wall_then.0.saturating_add(elapsed.as_secs_ceil());
        if elapsed >= EVERY && wall.0.abs_diff(expected) <= DRIFT_SECS {
            state.floor = state.floor.max(wall);
        }
        state.noted = now;
        state.previous = (now, wall);
        Some(Moment { monotonic: now, wall_floor: state.floor })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
