//! The time zone of the router, as POSIX writes it: `EAT-3`, `CET-1CEST,M3.5.0,M10.5.0/3`.
//!
//! OpenWrt puts that text into `/tmp/TZ`, which `/etc/TZ` is a link to; other systems end `/etc/localtime` with it. What
//! is not understood is UTC.

use crate::clock::{date_of, days_before, timestamp, Date};
use std::path::Path;

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
/// Written on a router, and elsewhere. The second is what the daemon sees in its jail.
const FILES: [&str; 3] = ["/etc/TZ", "/tmp/TZ", "/etc/localtime"];
const NAMED: &str = "/usr/share/zoneinfo";
/// What is read of a file (bytes); those of zones are smaller.
const LONGEST: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    standard: Kind,
    summer: Option<(Kind, Change, Change)>,
}

/// Seconds east of Greenwich, and what that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    name: String,
    offset: i64,
}

/// A day of the year, and the second of it by the clock that holds before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    day: Day,
    second: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// Month, week (5: the last), day of the week (0: Sunday).
    Weekday(i64, i64, i64),
    /// From 1, never February 29.
    Julian(i64),
    /// From 0.
    OfYear(i64),
}

impl Zone {
    pub fn utc() -> Zone {
        Zone { standard: Kind { name: "UTC".to_owned(), offset: 0 }, summer: None }
    }

    /// This machine's: of the variable `TZ`, else of its files.
    pub fn local() -> Zone {
        let named = std::env::var("TZ").ok().map(|name| name.trim_start_matches(':').to_owned());
        let named = named
            .filter(|name| !name.is_empty())
            .and_then(|name| Zone::parse(&name).or_else(|| Zone::of_file(&Path::new(NAMED).join(&name))));
        let of_files = || FILES.iter().find_map(|file| Zone::of_file(Path::new(file)));
        named.or_else(of_files).unwrap_or_else(Zone::utc)
    }

    /// The last line of a file: all of it on a router, the footer of compiled zones (RFC 8536).
    fn of_file(path: &Path) -> Option<Zone> {
        let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() <= LONGEST)?;
        let last = bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
        Zone::parse(std::str::from_utf8(last).ok()?)
    }

    pub fn parse(text: &str) -> Option<Zone> {
        let mut rest = Rest(text);
        let name = rest.name()?;
        let standard = Kind { name, offset: rest.time()?.checked_neg()? };
        if rest.0.is_empty() {
            return Some(Zone { standard, summer: None });
        }
        let name = rest.name()?;
        let offset = match rest.0.starts_with(',') {
            true => standard.offset.checked_add(HOUR)?,
            false => rest.time()?.checked_neg()?,
        };
        let begins = rest.change()?;
        let ends = rest.change()?;
        rest.0.is_empty().then_some(Zone { standard, summer: Some((Kind { name, offset }, begins, ends)) })
    }

    /// `Nov  9 08:05:03 EAT`
    pub fn timestamp(&self, unix: u64) -> String {
        let kind = self.kind_at(unix);
        format!("{} {}", timestamp(moved(unix, kind.offset)), kind.name)
    }

    /// `2026-11-09`
    pub fn date(&self, unix: u64) -> String {
        let date = date_of(moved(unix, self.kind_at(unix).offset) / 86_400);
        format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
    }

    /// When the day of this moment began here.
    pub fn midnight(&self, unix: u64) -> u64 {
        let local = moved(unix, self.kind_at(unix).offset);
        let begun = unix.saturating_sub(local % 86_400);
        // On the day of a change that may be an hour off.
        let (now, then) = (self.kind_at(unix).offset, self.kind_at(begun).offset);
        moved(begun, now.saturating_sub(then))
    }

    fn kind_at(&self, unix: u64) -> &Kind {
        let Some((summer, begins, ends)) = &self.summer else { return &self.standard };
        let Ok(now) = i64::try_from(unix) else { return &self.standard };
        let year = date_of(moved(unix, self.standard.offset) / 86_400).year;
        let begins = begins.in_year(year).saturating_sub(self.standard.offset);
        let ends = ends.in_year(year).saturating_sub(summer.offset);
        let is_summer = match begins <= ends {
            true => (begins..ends).contains(&now),
            // South of the equator.
            false => !(ends..begins).contains(&now),
        };
        if is_summer {
            summer
        } else {
            &self.standard
        }
    }
}

fn moved(unix: u64, offset: i64) -> u64 {
    unix.saturating_add_signed(offset)
}

impl Change {
    /// Seconds since 1970, by the local clock.
    fn in_year(self, year: u64) -> i64 {
        let first = |month| days_before(Date { year, month, day: 1 });
        let january = first(1);
        let day = match self.day {
            Day::OfYear(day) => january.saturating_add(day),
            Day::Julian(day) => {
                let is_leap = first(3).saturating_sub(first(2)) == 29;
                january.saturating_add(day.saturating_sub(1)).saturating_add(i64::from(is_leap && day >= 60))
            }
            Day::Weekday(month, week, weekday) => {
                let first_day = first(u64::try_from(month).unwrap_or(1));
                // 1970 began on a Thursday.
                let ahead = weekday.saturating_sub(first_day.saturating_add(4)).rem_euclid(7);
                let day =
                    first_day.saturating_add(ahead).saturating_add(week.saturating_sub(1).saturating_mul(7));
                let next = match month {
                    12 => days_before(Date { year: year.saturating_add(1), month: 1, day: 1 }),
                    month => first(u64::try_from(month).unwrap_or(1).saturating_add(1)),
                };
                if day >= next {
                    day.saturating_sub(7)
                } else {
                    day
                }
            }
        };
        day.saturating_mul(DAY).saturating_add(self.second)
    }
}

/// What is left to be read.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// Letters, or anything in angle brackets.
    fn name(&mut self) -> Option<String> {
        let (name, rest) = match self.0.strip_prefix('<') {
            Some(rest) => rest.split_once('>')?,
            None => self.0.split_at(self.0.bytes().take_while(u8::is_ascii_alphabetic).count()),
        };
        self.0 = rest;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-');
        (name.len() >= 3 && name.len() <= 8 && name.bytes().all(is_name)).then(|| name.to_owned())
    }

    fn takes(&mut self, sign: char) -> bool {
        let rest = self.0.strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn number(&mut self, most: i64) -> Option<i64> {
        let (digits, rest) = self.0.split_at(self.0.bytes().take_while(u8::is_ascii_digit).count());
        self.0 = rest;
        digits.parse().ok().filter(|number| *number <= most)
    }

    /// `[+-]hh[:mm[:ss]]` in seconds.
    fn time(&mut self) -> Option<i64> {
        let sign = if self.takes('-') { -1 } else { 1 };
        self.takes('+');
        let mut seconds = self.number(167)?.checked_mul(HOUR)?;
        for unit in [60, 1] {
            if !self.takes(':') {
                break;
            }
            seconds = seconds.checked_add(self.number(59)?.checked_mul(unit)?)?;
        }
        seconds.checked_mul(sign)
    }

    /// `,M3.5.0/3`
    fn change(&mut self) -> Option<Change> {
        self.takes(',').then_some(())?;
        let day = if self.takes('M') {
            let month = self.number(12).filter(|month| *month > 0)?;
            self.takes('.').then_some(())?;
            let week = self.number(5).filter(|week| *week > 0)?;
            self.takes('.').then_some(())?;
            Day::Weekday(month, week, self.number(6)?)
        } else if self.takes('J') {
            Day::Julian(self.number(365).filter(|day| *day > 0)?)
        } else {
            Day::OfYear(self.number(365)?)
        };
        let second = if self.takes('/') { self.time()? } else { 2 * HOUR };
        Some(Change { day, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// What GNU date prints for these moments and zones.
    #[test]
    fn clocks_change_when_the_zone_says() {
        for (zone, unix, text) in [
            ("UTC0", 951_782_400, "Feb 29 00:00:00 UTC"),
            ("EAT-3", 951_782_400, "Feb 29 03:00:00 EAT"),
            ("<+0545>-5:45", 1_735_689_599, "Jan  1 05:44:59 +0545"),
            ("<-03>3", 1_735_700_399, "Dec 31 23:59:59 -03"),
            (BERLIN, 1_774_745_999, "Mar 29 01:59:59 CET"),
            (BERLIN, 1_774_746_000, "Mar 29 03:00:00 CEST"),
            (BERLIN, 1_792_889_999, "Oct 25 02:59:59 CEST"),
            (BERLIN, 1_792_890_000, "Oct 25 02:00:00 CET"),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_767_225_600, "Jan  1 11:00:00 AEDT"),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_782_864_000, "Jul  1 10:00:00 AEST"),
            ("IST-2IDT,M3.4.4/26,M10.5.0", 1_774_569_600, "Mar 27 03:00:00 IDT"),
            ("AAA5BBB,J60,J300", 1_709_276_400, "Mar  1 03:00:00 BBB"),
        ] {
            assert_eq!(Zone::parse(zone).unwrap().timestamp(unix), text, "{zone}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_here() {
        let zone = |text| Zone::parse(text).unwrap();
        assert_eq!(zone("UTC0").midnight(951_782_399), 951_696_000);
        assert_eq!(zone("EAT-3").midnight(951_782_400), 951_782_400 - 3 * 3600);
        assert_eq!(zone(BERLIN).midnight(1_774_780_000), 1_774_738_800, "March 29, a day of 23 hours");
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for text in [
            "",
            "Europe/Berlin",
            "CET",
            "CET-1CEST",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M13.5.0,M10.5.0",
            "E-1",
            "CET-999",
            "<\u{1b}[2J>1",
        ] {
            assert_eq!(Zone::parse(text), None, "{text}");
        }
    }
}
