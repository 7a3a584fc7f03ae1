//! Time, as the rest of the program may see it.
//!
//! Intervals are measured on the monotonic clock, which counts from an unknown start in each boot: a
//! reading is only worth something together with the boot it was taken in. The wall clock is wrong
//! until NTP has run (a router without RTC boots in 1970), so it is used only where a peer or a person
//! needs it, and nothing expires by it.

use crate::units::{Millis, UnixSeconds};
use std::fmt;
use std::sync::{Arc, Mutex};

/// No router that runs this lives before it (2025-01-01): a wall clock below it was never set.
pub const PLAUSIBLE: UnixSeconds = UnixSeconds(1_735_689_600);

/// Identifies one boot of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub String);

/// Where time comes from: the machine's own clocks, or a hand that a test turns.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Machine { boot: BootId },
    Manual(Arc<Mutex<ManualTime>>),
}

struct ManualTime {
    boot: BootId,
    monotonic: Millis,
    wall: UnixSeconds,
}

impl Clock {
    /// The machine's clocks. Without `/proc` every start counts as a new boot.
    pub fn machine() -> Clock {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_else(|_| format!("start-{}", std::process::id()));
        Clock(Source::Machine { boot: BootId(boot) })
    }

    /// A clock that stands still until `advance` or `set_wall` moves it.
    pub fn manual(boot: &str, monotonic: Millis, wall: UnixSeconds) -> Clock {
        Clock(Source::Manual(Arc::new(Mutex::new(ManualTime {
            boot: BootId(boot.to_owned()),
            monotonic,
            wall,
        }))))
    }

    pub fn boot(&self) -> BootId {
        match &self.0 {
            Source::Machine { boot } => boot.clone(),
            Source::Manual(time) => lock(time).boot.clone(),
        }
    }

    /// Milliseconds since some moment of this boot; never goes back.
    pub fn now(&self) -> Millis {
        match &self.0 {
            Source::Machine { .. } => nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
                .map(|t| {
                    let secs = u64::try_from(t.tv_sec()).unwrap_or(0);
                    let millis = u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000_000;
                    Millis(secs.saturating_mul(1000).saturating_add(millis))
                })
                .unwrap_or_default(),
            Source::Manual(time) => lock(time).monotonic,
        }
    }

    /// The wall clock, as wrong as it may be.
    pub fn wall(&self) -> UnixSeconds {
        match &self.0 {
            Source::Machine { .. } => UnixSeconds(
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map(|d| d.as_secs())
                    .unwrap_or(0),
            ),
            Source::Manual(time) => lock(time).wall,
        }
    }

    /// Moves a manual clock forward, monotonic and wall alike. The machine's clock is not moved.
    pub fn advance(&self, by: Millis) {
        if let Source::Manual(time) = &self.0 {
            let mut time = lock(time);
            time.monotonic = time.monotonic.saturating_add(by);
            time.wall = UnixSeconds(time.wall.0.saturating_add(by.0 / 1000));
        }
    }

    /// Sets a manual clock's wall time only, as NTP does.
    pub fn set_wall(&self, wall: UnixSeconds) {
        if let Source::Manual(time) = &self.0 {
            lock(time).wall = wall;
        }
    }
}

fn lock(time: &Mutex<ManualTime>) -> std::sync::MutexGuard<'_, ManualTime> {
    time.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({} ms in {})", self.now().0, self.boot().0)
    }
}

/// A day of the calendar; months and days from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: u64,
    pub month: u64,
    pub day: u64,
}

// Years that begin in March have their leap day last; eras are 400 of them (Howard Hinnant, "chrono-compatible low-level
// date algorithms").
const DAYS_OF_ERA: u64 = 146_097;
/// From March 1 of the year 0 to 1970.
const DAYS_BEFORE_1970: u64 = 719_468;

/// The date of a number of days since 1970.
pub fn date_of(days: u64) -> Date {
    let days = days.saturating_add(DAYS_BEFORE_1970);
    let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    Date { year: era * 400 + year_of_era + u64::from(month <= 2), month, day }
}

/// Days since 1970 at the beginning of a date.
pub fn days_before(date: Date) -> i64 {
    let year = date.year.saturating_sub(u64::from(date.month <= 2));
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (date.month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + date.day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era.saturating_mul(DAYS_OF_ERA).saturating_add(day_of_era);
    i64::try_from(days).unwrap_or(i64::MAX).saturating_sub_unsigned(DAYS_BEFORE_1970)
}

/// `Nov  9 08:05:03`, in UTC.
pub fn timestamp(unix: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = date_of(unix / 86_400);
    let month = usize::try_from(date.month - 1).ok().and_then(|month| MONTHS.get(month));
    let (hour, minute, second) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
    format!("{} {:>2} {hour:02}:{minute:02}:{second:02}", month.unwrap_or(&"Jan"), date.day)
}

/// `2026-11-09 08:05 UTC`
pub fn minute(time: UnixSeconds) -> String {
    let (date, hour, minute) = (date_of(time.0 / 86_400), time.0 / 3600 % 24, time.0 / 60 % 60);
    format!("{}-{:02}-{:02} {hour:02}:{minute:02} UTC", date.year, date.month, date.day)
}

/// `2026-12-01T00:44:22Z` (RFC 3339)
pub fn rfc3339(time: UnixSeconds) -> String {
    let date = date_of(time.0 / 86_400);
    let (hour, minute, second) = (time.0 / 3600 % 24, time.0 / 60 % 60, time.0 % 60);
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", date.year, date.month, date.day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_right_at_the_edges_of_months_and_years() {
        for (unix, text) in [
            (0, "Jan  1 00:00:00"),
            (951_782_399, "Feb 28 23:59:59"),
            (951_782_400, "Feb 29 00:00:00"),
            (951_868_800, "Mar  1 00:00:00"),
            (1_735_689_599, "Dec 31 23:59:59"),
            (1_735_689_600, "Jan  1 00:00:00"),
            (1_740_787_200, "Mar  1 00:00:00"),
            (4_107_542_400, "Mar  1 00:00:00"),
        ] {
            assert_eq!(timestamp(unix), text, "{unix}");
            assert_eq!(days_before(date_of(unix / 86_400)), i64::try_from(unix / 86_400).unwrap());
        }
    }
}
