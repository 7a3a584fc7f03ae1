//! What existing portals of the TollGate protocol can show. They take the price of one step for that of `min_steps`
//! steps, so they show a wrong price and a wrong amount if that is above 1; below a MiB of data they show a white page.
//! Therefore several steps are offered to them as one, which they show correctly.

use super::fields::position_of;
use super::problem::Problems;
use super::uci::Section;
use super::{Metric, MintConfig, Venue};

/// The least data that they can show (bytes).
const LEAST_DATA: u64 = 1 << 20;
const UNITS_OF_TIME: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
const UNITS_OF_DATA: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];

impl Venue {
    /// How many steps are offered to portals as one, where it sells for the money of these mints: 1 where they can show
    /// the steps as they are, and at most `max_steps`.
    pub fn steps_as_one<'a>(&self, mints: impl Iterator<Item = &'a MintConfig>) -> u64 {
        let least = mints.map(|mint| mint.min_steps).max().unwrap_or(1);
        least.max(self.steps_to_show()).min(self.max_steps).max(1)
    }

    fn steps_to_show(&self) -> u64 {
        match self.metric {
            Metric::Milliseconds => 1,
            Metric::Bytes => LEAST_DATA.div_ceil(self.step_size.max(1)),
        }
    }
}

impl Metric {
    /// An amount in words: `1 h 30 min`, `1.5 GB` (of 10^9 bytes).
    pub fn in_words(self, amount: u64) -> String {
        match self {
            Metric::Milliseconds => time(amount),
            Metric::Bytes => data(amount),
        }
    }
}

/// Warns of what portals cannot show, with what they show instead.
pub fn warn(
    (section, venue): (&Section, &Venue),
    mints: &[(&Section, &MintConfig)],
    problems: &mut Problems,
) {
    let steps = venue.steps_as_one(mints.iter().map(|(_, mint)| *mint));
    let offered = |mint: &MintConfig| {
        let size = venue.metric.in_words(venue.step_size.saturating_mul(steps));
        format!(
            "they are offered {steps} steps as one, and show {} sat for {size}",
            mint.price_per_step.0.saturating_mul(steps)
        )
    };
    let is_small = venue.steps_to_show() > 1;
    if is_small && venue.steps_to_show() > venue.max_steps {
        let message = "is below 1 MiB, also times max_steps: existing portals answer that with a white page";
        problems.warn(position_of(Some(section), "step_size"), message);
    } else if let Some((_, mint)) = mints.first().filter(|_| is_small) {
        let message =
            format!("is below 1 MiB, which existing portals answer with a white page: {}", offered(mint));
        problems.warn(position_of(Some(section), "step_size"), message);
    }
    for (section, mint) in mints.iter().filter(|(_, mint)| mint.min_steps > 1) {
        let message =
            format!("is above 1, which existing portals take for part of the price: {}", offered(mint));
        problems.warn(position_of(Some(section), "min_steps"), message);
    }
}

/// In the units that it takes; part of a second counts as one.
fn time(millis: u64) -> String {
    let mut left = millis.div_ceil(1000).saturating_mul(1000);
    let mut words = Vec::new();
    for (unit, name) in UNITS_OF_TIME {
        let count = left / unit;
        left %= unit;
        if count > 0 {
            words.push(format!("{count} {name}"));
        }
    }
    words.join(" ")
}

/// With at most two digits behind the point.
fn data(bytes: u64) -> String {
    let unit = UNITS_OF_DATA.into_iter().find(|(unit, _)| bytes >= *unit);
    let Some((unit, name)) = unit else { return format!("{bytes} bytes") };
    let hundredths = bytes / (unit / 100);
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match (rest, rest % 10) {
        (0, _) => format!("{whole} {name}"),
        (_, 0) => format!("{whole}.{} {name}", rest / 10),
        _ => format!("{whole}.{rest:02} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Severity};

    fn config(venue: &str, mints: &[&str]) -> String {
        let mints = mints.iter().enumerate().map(|(number, options)| {
            format!("config mint\n\toption url 'https://m{number}.example'\n{options}\n")
        });
        format!("config venue 'guest'\n\tlist device 'br-guest'\n{venue}\n{}", mints.collect::<String>())
    }

    /// What `check` warns of: option and message.
    fn warned(text: &str) -> Vec<(String, String)> {
        let (_, problems) = Config::from_uci(text).unwrap();
        assert!(problems.iter().all(|problem| problem.severity == Severity::Warning));
        problems
            .iter()
            .map(|one| (one.option.clone().unwrap_or_default().to_string(), one.message.clone()))
            .collect()
    }

    #[test]
    fn what_portals_cannot_show_is_offered_as_larger_steps_and_warned_of() {
        let bytes = |size: u64| format!("\toption metric 'bytes'\n\toption step_size '{size}'");
        let price = |price: u64, least: u64| {
            format!("\toption price_per_step '{price}'\n\toption min_steps '{least}'")
        };
        for (venue, mints, steps, shown) in [
            (String::new(), vec![price(2, 1)], 1, vec![]),
            (String::new(), vec![price(2, 5)], 5, vec![("min_steps", "show 10 sat for 5 min")]),
            (String::new(), vec![price(2, 5), price(3, 1)], 5, vec![("min_steps", "show 10 sat for 5 min")]),
            (bytes(1 << 20), vec![price(1, 0)], 1, vec![]),
            (bytes(500_000), vec![price(1, 1)], 3, vec![("step_size", "show 3 sat for 1.5 MB")]),
            (bytes(1024), vec![price(1, 1)], 1024, vec![("step_size", "show 1024 sat for 1.04 MB")]),
            (
                bytes(500_000),
                vec![price(1, 10)],
                10,
                vec![("step_size", "show 10 sat for 5 MB"), ("min_steps", "show 10 sat for 5 MB")],
            ),
            (
                bytes(2000) + "\n\toption max_steps '100'",
                vec![price(1, 1)],
                100,
                vec![("step_size", "answer that with a white page")],
            ),
        ] {
            let mints: Vec<&str> = mints.iter().map(String::as_str).collect();
            let text = config(&venue, &mints);
            let (read, _) = Config::from_uci(&text).unwrap();
            assert_eq!(read.venues[0].steps_as_one(read.mints.iter()), steps, "{text}");
            let warned = warned(&text);
            assert_eq!(warned.len(), shown.len(), "{warned:?}");
            for ((option, message), (expected, words)) in warned.iter().zip(&shown) {
                assert!(option == expected && message.contains(words), "{option}: {message}");
            }
        }
    }

    #[test]
    fn time_and_data_are_said_in_round_units() {
        for (millis, said) in [
            (60_000, "1 min"),
            (86_400_000, "1 d"),
            (90_061_000, "1 d 1 h 1 min 1 s"),
            (1, "1 s"),
            (59_001, "1 min"),
        ] {
            assert_eq!(Metric::Milliseconds.in_words(millis), said);
        }
        for (bytes, said) in [
            (999, "999 bytes"),
            (1000, "1 kB"),
            (22_020_096, "22.02 MB"),
            (10_000_000, "10 MB"),
            (2_500_000_000, "2.5 GB"),
            (u64::MAX, "18446744073.7 GB"),
        ] {
            assert_eq!(Metric::Bytes.in_words(bytes), said);
        }
    }
}
