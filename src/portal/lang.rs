//! The guest's language, and how it writes numbers, amounts and durations.

use super::quantity::Quantity;
use super::strings::{Strings, EN, SW};
use crate::config::Metric;
use crate::units::{Allotment, Kes, Millis, Sats};

/// A language the portal speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    English,
    Swahili,
}

const KILOBYTE: u64 = 1_000;
const MEGABYTE: u64 = 1_000_000;
const GIGABYTE: u64 = 1_000_000_000;

/// Ranges and bytes of an `Accept-Language` header that are looked at; the rest is ignored.
const MOST_RANGES: usize = 16;
const LONGEST_HEADER: usize = 512;

impl Lang {
    /// The best language for an `Accept-Language` header (RFC 9110, section 12.5.4); English when it names none of ours.
    pub fn from_accept_language(header: &str) -> Lang {
        let mut best = (0, Lang::English);
        let known = header.char_indices().take_while(|(at, _)| *at < LONGEST_HEADER);
        let header: String = known.map(|(_, c)| c).collect();
        for range in header.split(',').take(MOST_RANGES) {
            let mut parts = range.split(';');
            let Some(lang) = parts.next().and_then(Lang::from_tag) else { continue };
            let quality =
                match parts.find_map(|p| p.trim().strip_prefix("q=").or(p.trim().strip_prefix("Q="))) {
                    Some(q) => per_mille(q).unwrap_or(0),
                    None => 1000,
                };
            if quality > best.0 {
                best = (quality, lang);
            }
        }
        best.1
    }

    /// The language of a tag such as `sw`, `sw-KE` or `EN`.
    pub fn from_tag(tag: &str) -> Option<Lang> {
        let primary = tag.split('-').next()?.trim();
        [Lang::English, Lang::Swahili].into_iter().find(|lang| primary.eq_ignore_ascii_case(lang.tag()))
    }

    /// The tag of BCP 47, as in `?lang=` and `<html lang>`.
    pub fn tag(self) -> &'static str {
        match self {
            Lang::English => "en",
            Lang::Swahili => "sw",
        }
    }

    /// The language the switch at the top leads to.
    pub(super) fn other(self) -> Lang {
        match self {
            Lang::English => Lang::Swahili,
            Lang::Swahili => Lang::English,
        }
    }

    pub(super) fn strings(self) -> &'static Strings {
        match self {
            Lang::English => &EN,
            Lang::Swahili => &SW,
        }
    }

    /// `1,440`.
    pub(super) fn number(self, number: u64) -> String {
        let digits = number.to_string();
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && digits.len().saturating_sub(at) % 3 == 0 {
                grouped.push_str(self.strings().group);
            }
            grouped.push(digit);
        }
        grouped
    }

    /// `60 sat`.
    pub(super) fn sats(self, amount: Sats) -> String {
        self.strings().sats.replace("{n}", &self.number(amount.0))
    }

    /// `KES 20`.
    pub(super) fn kes(self, amount: Kes) -> String {
        self.strings().kes.replace("{n}", &self.number(amount.0))
    }

    /// `1 day 2 hours 5 minutes`, down to whole seconds; never longer than it is.
    pub(super) fn duration(self, length: Millis) -> String {
        let s = self.strings();
        let seconds = length.0 / 1000;
        let parts: Vec<String> = [
            (seconds / 86_400, s.day_one, s.days),
            (seconds / 3600 % 24, s.hour_one, s.hours),
            (seconds / 60 % 60, s.minute_one, s.minutes),
            (seconds % 60, s.second_one, s.seconds),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| if count == 1 { one } else { many }.replace("{n}", &self.number(count)))
        .collect();
        match parts.split_last() {
            None => s.seconds.replace("{n}", "0"),
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{}{}{last}", rest.join(" "), s.last_join),
        }
    }

    /// How long to wait, in whole seconds and never too short.
    pub(super) fn wait(self, length: Millis) -> String {
        self.duration(Millis::from_secs(length.as_secs_ceil()))
    }

    /// Time as a duration, bytes as [`Lang::data`].
    pub(super) fn quantity(self, quantity: Quantity) -> String {
        match quantity.metric {
            Metric::Milliseconds => self.duration(Millis(quantity.amount.0)),
            Metric::Bytes => self.data(quantity.amount),
        }
    }

    /// `340 kB`, `84.3 MB`, `1.25 GB` (of 10^3, 10^6 and 10^9 bytes); never more than it is.
    pub(super) fn data(self, bytes: Allotment) -> String {
        let s = self.strings();
        let (unit, size, digits) = match bytes.0 {
            0..MEGABYTE => (s.kilobytes, KILOBYTE, 0),
            MEGABYTE..GIGABYTE => (s.megabytes, MEGABYTE, 1),
            GIGABYTE.. => (s.gigabytes, GIGABYTE, 2),
        };
        let rest = u128::from(bytes.0 % size) * 10u128.pow(digits) / u128::from(size);
        let decimals = format!("{rest:0width$}", width = usize::try_from(digits).unwrap_or_default());
        let number = match decimals.trim_end_matches('0') {
            "" => self.number(bytes.0 / size),
            decimals => format!("{}.{decimals}", self.number(bytes.0 / size)),
        };
        unit.replace("{n}", &number)
    }

    /// What one price buys, in the smallest whole seconds or megabytes: `1 sat = 1 minute`.
    pub(super) fn unit_price(self, price: Sats, step: Quantity) -> String {
        let shown = match step.metric {
            Metric::Milliseconds => 1000,
            // A larger step is said as it is.
            Metric::Bytes if step.amount.0 >= MEGABYTE => 1,
            Metric::Bytes => MEGABYTE,
        };
        let steps = shown / greatest_common_divisor(step.amount.0, shown);
        let (Some(amount), Some(quantity)) = (price.checked_mul(steps), step.checked_mul(steps)) else {
            return String::new();
        };
        self.strings()
            .unit_price
            .replace("{amount}", &self.sats(amount))
            .replace("{duration}", &self.quantity(quantity))
    }

    /// A countdown: `9:05`, `1:09:05`, `2d 1:09:05`.
    pub(super) fn clock(self, left: Millis) -> String {
        let seconds = left.as_secs_ceil();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let seconds = seconds % 60;
        if days > 0 {
            let days = self.strings().clock_days.replace("{n}", &self.number(days));
            format!("{days} {hours}:{minutes:02}:{seconds:02}")
        } else if hours > 0 {
            format!("{hours}:{minutes:02}:{seconds:02}")
        } else {
            format!("{minutes}:{seconds:02}")
        }
    }
}

/// `0.85` -> 850; at most three decimals (RFC 9110, section 12.4.2).
fn per_mille(quality: &str) -> Option<u16> {
    let quality = quality.trim();
    let (whole, decimals) = quality.split_once('.').unwrap_or((quality, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Lang::{English, Swahili};

    #[test]
    fn the_best_quality_wins_and_english_is_the_default() {
        for (header, lang) in [
            ("", English),
            ("sw", Swahili),
            ("sw-KE,sw;q=0.9,en;q=0.8", Swahili),
            ("en-GB,en;q=0.9,sw;q=0.8", English),
            ("en;q=0.3, SW ; q=0.7", Swahili),
            ("de-DE, fr;q=0.9, sw;q=0.1", Swahili),
            ("de, *;q=0.5", English),
            ("sw;q=0", English),
            ("sw;q=0,en;q=0.001", English),
            ("en,sw", English),
            ("sw,en", Swahili),
        ] {
            assert_eq!(Lang::from_accept_language(header), lang, "{header}");
        }
    }

    #[test]
    fn a_malformed_or_endless_header_falls_back_to_english() {
        for header in ["sw;q=2", "sw;q=0.12345", "sw;q=-1", "sw;q=x", ";;;,,,", "swahili", "\u{1F600};q=1"] {
            assert_eq!(Lang::from_accept_language(header), English, "{header}");
        }
        assert_eq!(Lang::from_accept_language(&format!("{}sw", "de,".repeat(100_000))), English);
        assert_eq!(Lang::from_accept_language(&format!("{}é,sw", "d".repeat(511))), English);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1440, "1,440"), (1_234_567, "1,234,567")] {
            assert_eq!(English.number(number), text);
        }
        assert_eq!(English.number(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn durations_follow_the_language() {
        for (secs, english, swahili) in [
            (0, "0 seconds", "sekunde 0"),
            (1, "1 second", "sekunde 1"),
            (600, "10 minutes", "dakika 10"),
            (3600, "1 hour", "saa 1"),
            (14_400, "4 hours", "saa 4"),
            (5_400, "1 hour 30 minutes", "saa 1 na dakika 30"),
            (86_400, "1 day", "siku 1"),
            (93_900, "1 day 2 hours 5 minutes", "siku 1 saa 2 na dakika 5"),
        ] {
            assert_eq!(English.duration(Millis::from_secs(secs)), english);
            assert_eq!(Swahili.duration(Millis::from_secs(secs)), swahili);
        }
        assert_eq!(English.duration(Millis(1_999)), "1 second");
    }

    #[test]
    fn the_unit_price_is_in_whole_seconds() {
        assert_eq!(English.unit_price(Sats(1), Quantity::time(Millis(60_000))), "1 sat = 1 minute");
        assert_eq!(Swahili.unit_price(Sats(1), Quantity::time(Millis(60_000))), "1 sat = dakika 1");
        assert_eq!(English.unit_price(Sats(2), Quantity::time(Millis(1_500))), "4 sat = 3 seconds");
        assert_eq!(English.unit_price(Sats(1), Quantity::time(Millis(100))), "10 sat = 1 second");
        assert_eq!(English.unit_price(Sats(1), Quantity::time(Millis(0))), "1 sat = 0 seconds");
        assert_eq!(English.unit_price(Sats(u64::MAX), Quantity::time(Millis(1))), "");
    }

    #[test]
    fn data_is_shown_in_the_largest_unit_and_never_as_more_than_it_is() {
        for (bytes, text) in [
            (0, "0 kB"),
            (999, "0 kB"),
            (512_000, "512 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1 MB"),
            (1_500_000, "1.5 MB"),
            (22_020_096, "22 MB"),
            (99_999_999, "99.9 MB"),
            (1_000_000_000, "1 GB"),
            (1_250_000_000, "1.25 GB"),
            (1_019_999_999, "1.01 GB"),
            (u64::MAX, "18,446,744,073.7 GB"),
        ] {
            assert_eq!(English.data(Allotment(bytes)), text);
        }
    }

    #[test]
    fn the_unit_price_of_data_is_in_megabytes() {
        let data = |bytes| Quantity { metric: Metric::Bytes, amount: Allotment(bytes) };
        assert_eq!(English.unit_price(Sats(1), data(21_000_000)), "1 sat = 21 MB");
        assert_eq!(English.unit_price(Sats(3), data(1_000_000)), "3 sat = 1 MB");
        assert_eq!(English.unit_price(Sats(1), data(500)), "2,000 sat = 1 MB");
        assert_eq!(English.unit_price(Sats(1), data(0)), "1 sat = 0 kB");
    }

    #[test]
    fn a_countdown_never_shows_less_than_is_left() {
        for (left, text) in [
            (0, "0:00"),
            (1, "0:01"),
            (59_001, "1:00"),
            (545_000, "9:05"),
            (4_145_000, "1:09:05"),
            (176_945_000, "2d 1:09:05"),
        ] {
            assert_eq!(English.clock(Millis(left)), text);
        }
    }
}
