//! Service time: the clock that every deadline and age in the store is written in.
//!
//! It counts milliseconds like the monotonic clock, but goes on where it stood after a reboot, so that a
//! deadline is one number with the same meaning in every boot, no row needs to know its boot, and NTP moves
//! nothing. The row `moment` holds one reading of it together with the boot and its monotonic clock, noted
//! at most every 60 s. In that boot service time is exact, also over a restart or `kill -9` of the daemon.
//! In another boot it resumes at the reading: the time without power is not counted, and neither are the
//! up to 60 s since it was noted; both in the guest's favour.
//!
//! The wall clock is never shown below the highest one noted, nor below the time this program was written,
//! so that a router that boots in 1970 does not take old quotes for fresh ones. A jump forward is noted only
//! once it has lasted for some minutes, and a leap of a month or more once it has lasted a day: a clock that
//! was wrong for a moment does not stay wrong for ever, and what ends for good by the wall clock, as vouchers
//! do, does not end by it. One that was ahead for longer does stay wrong, until the operator says that the
//! earlier time is right: of two times that a router was told, it cannot know itself which one is wrong.

use super::usage::{note_usage, UsageRow};
use super::{Store, StoreError};
use crate::clock::{minute, BootId, Clock};
use crate::units::{Millis, UnixSeconds};
use rusqlite::{Connection, Transaction};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a moment is noted while something runs out. It is the most that a power cut can cost us, and each note
/// costs the flash a commit.
const EVERY: Millis = Millis::from_secs(60);
/// How often while nothing does.
const EVERY_IDLE: Millis = Millis::from_secs(3600);

/// 2025-01-01: no copy of this program has run before.
const WRITTEN: UnixSeconds = UnixSeconds(1_735_689_600);

/// How much the wall clock may gain on the monotonic one before it counts as a jump.
const DRIFT_SECS: u64 = 5;
/// How long the wall clock must have gone without a jump to be noted: one whose battery is empty shows another year until
/// NTP has answered.
const LASTING: Millis = Millis::from_secs(240);
/// How far the wall clock may be ahead of what was noted before that counts as a leap, and how long that has to last.
const LEAP_SECS: u64 = 30 * 86_400;
const LEAP_LASTING: Millis = Millis::from_secs(86_400);

/// What service time is reckoned from, when it was last noted, and what the wall clock is held to.
pub(super) struct Timekeeper {
    clock: Clock,
    /// One moment on the monotonic clock of this boot, and in service time.
    anchor: (Millis, Millis),
    state: Mutex<State>,
}

struct State {
    noted: Millis,
    floor: UnixSeconds,
    /// Monotonic and wall reading after the wall clock's last jump.
    steady: (Millis, UnixSeconds),
}

/// Why the machine's wall clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WallFault {
    #[error("the clock was never set")]
    NeverSet,
    #[error(
        "the clock shows {} and was at {} before; if it is right now: tollgated clock accept",
        minute(*.shown),
        minute(*.noted)
    )]
    SetBack { shown: UnixSeconds, noted: UnixSeconds },
}

pub(super) struct Moment {
    boot: BootId,
    monotonic: Millis,
    service: Millis,
    wall_floor: UnixSeconds,
}

impl Store {
    /// Service time: what deadlines and ages in the store are compared with.
    pub fn now(&self) -> Millis {
        self.0.time.now()
    }

    /// The wall clock, but never below what was noted before, in this boot or an earlier one.
    pub fn wall(&self) -> UnixSeconds {
        let time = &self.0.time;
        time.clock.wall().max(time.state().floor)
    }

    /// The wall clock; where it has jumped within the last four minutes, or leapt within a day, only what was noted of it. For
    /// what is ended or forgotten for good.
    pub fn lasting_wall(&self) -> UnixSeconds {
        let time = &self.0.time;
        let mut state = time.state();
        state.follow(&time.clock);
        state.floor
    }

    /// Whether the machine's wall clock shows a time that can be true.
    pub fn wall_is_plausible(&self) -> bool {
        self.wall_fault().is_none()
    }

    /// Why it cannot.
    pub fn wall_fault(&self) -> Option<WallFault> {
        let time = &self.0.time;
        let (shown, noted) = (time.clock.wall(), time.state().floor);
        match shown {
            _ if shown < WRITTEN => Some(WallFault::NeverSet),
            _ if shown < noted => Some(WallFault::SetBack { shown, noted }),
            _ => None,
        }
    }

    /// Takes what the machine's wall clock shows now for right, though a later time was noted before, or one that is long
    /// ago. Service time goes on, and so does all that was sold. The new wall time; `Err(NeverSet)`: it cannot be right.
    pub async fn accept_wall(&self) -> Result<Result<UnixSeconds, WallFault>, StoreError> {
        let shown = self.0.time.clock.wall();
        if let Some(fault @ WallFault::NeverSet) = self.wall_fault() {
            return Ok(Err(fault));
        }
        // First here, so that a note that is written behind this has it, too.
        self.0.time.state().floor = shown;
        self.write(move |tx| Ok(tx.execute("UPDATE moment SET wall_floor = ?1", [shown]).map(drop)?)).await?;
        Ok(Ok(shown))
    }

    /// Notes how far service time has come and what sessions by bytes have `used`, if the last note is 60 s old
    /// (an hour, when nothing is `running_out`); answers whether it was time to. Meant to be asked often; it does
    /// not wait for the write.
    pub fn checkpoint(&self, running_out: bool, used: &[UsageRow]) -> bool {
        self.note_if_older(if running_out { EVERY } else { EVERY_IDLE }, used)
    }

    /// The same now, whenever the last note was.
    pub fn checkpoint_now(&self, used: &[UsageRow]) {
        self.note_if_older(Millis::ZERO, used);
    }

    fn note_if_older(&self, age: Millis, used: &[UsageRow]) -> bool {
        let Some(moment) = self.0.time.due(age) else { return false };
        let used = used.to_vec();
        self.write_later("the time", move |tx| {
            note(tx, &moment)?;
            note_usage(tx, &used)
        });
        true
    }
}

pub(super) fn note(tx: &Transaction<'_>, moment: &Moment) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE moment SET boot = ?1, monotonic_ms = ?2, service_ms = ?3, wall_floor = max(wall_floor, ?4)",
        (&moment.boot.0, moment.monotonic, moment.service, moment.wall_floor),
    )?;
    Ok(())
}

/// The row of a new store. Service time starts high enough to look an hour back.
pub(super) fn first_boot(conn: &Connection, clock: &Clock) -> Result<(), StoreError> {
    conn.execute(
        "INSERT INTO moment (id, boot, monotonic_ms, service_ms, wall_floor) VALUES (1, ?1, ?2, ?3, ?4)",
        (clock.boot().0, clock.now(), EVERY_IDLE, WRITTEN),
    )?;
    Ok(())
}

/// Takes service time up where the store left it. In a new boot there is a moment to note.
pub(super) fn resume(
    tx: &Transaction<'_>,
    clock: &Clock,
) -> Result<(Timekeeper, Option<Moment>), StoreError> {
    let (boot, monotonic, service, floor) =
        tx.query_row("SELECT boot, monotonic_ms, service_ms, wall_floor FROM moment", [], |row| {
            Ok((BootId(row.get(0)?), row.get::<_, Millis>(1)?, row.get(2)?, row.get::<_, UnixSeconds>(3)?))
        })?;
    let now = clock.now();
    // A machine that cannot tell its boots apart still shows a reboot by a clock that went back.
    let is_same_boot = boot == clock.boot() && monotonic <= now;
    let monotonic = if is_same_boot { monotonic } else { now };
    let moment = Moment { boot: clock.boot(), monotonic, service, wall_floor: floor };
    let state = State { noted: monotonic, floor: floor.max(WRITTEN), steady: (now, clock.wall()) };
    let time = Timekeeper { clock: clock.clone(), anchor: (monotonic, service), state: Mutex::new(state) };
    Ok((time, (!is_same_boot).then_some(moment)))
}

impl Timekeeper {
    fn now(&self) -> Millis {
        let (monotonic, service) = self.anchor;
        service.saturating_add(self.clock.now().saturating_sub(monotonic))
    }

    /// This moment, for a write that no reboot may begin before.
    pub fn moment(&self) -> Moment {
        Moment {
            boot: self.clock.boot(),
            monotonic: self.clock.now(),
            service: self.now(),
            wall_floor: self.state().floor,
        }
    }

    fn due(&self, every: Millis) -> Option<Moment> {
        let now = self.clock.now();
        let mut state = self.state();
        state.follow(&self.clock);
        if now.saturating_sub(state.noted) < every {
            return None;
        }
        state.noted = now;
        Some(Moment { boot: self.clock.boot(), monotonic: now, service: self.now(), wall_floor: state.floor })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Raises the floor to a wall clock that has gone long enough without a jump.
    fn follow(&mut self, clock: &Clock) {
        let (now, wall) = (clock.now(), clock.wall());
        let (since, wall_then) = self.steady;
        let elapsed = now.saturating_sub(since);
        let expected = wall_then.0.saturating_add(elapsed.as_secs_ceil());
        if wall.0.abs_diff(expected) > DRIFT_SECS {
            self.steady = (now, wall);
            if self.is_leap(wall) {
                let (shown, noted) = (minute(wall), minute(self.floor));
                log::warn!(
                    "the clock has leapt from {noted} to {shown}: for a day nothing ends by it; if it is right: tollgated clock accept"
                );
            }
        } else if elapsed >= if self.is_leap(wall) { LEAP_LASTING } else { LASTING } {
            self.floor = self.floor.max(wall);
        }
    }

    /// Where nothing was ever noted, every time is as good as another.
    fn is_leap(&self, wall: UnixSeconds) -> bool {
        self.floor > WRITTEN && wall.0 > self.floor.0.saturating_add(LEAP_SECS)
    }
}
