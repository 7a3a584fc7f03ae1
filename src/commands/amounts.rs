//! What may stand for a value on a command line: how much is granted, a MAC address, a number.
//!
//! A value that cannot be one is wrong usage, whether or not a daemon runs that would say so.

use super::{Arg, Command, CommandError};
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::units::{parse_size, parse_time, Allotment, Millis};
use crate::uuid::Uuid;
use std::net::IpAddr;

/// The operator gives at most this much at once.
const LONGEST_GRANT: Millis = Millis::from_secs(366 * 86_400);
const LARGEST_GRANT: Allotment = Allotment(1_000_000_000_000_000);

/// A device as the operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Mac(MacAddr),
    Address(IpAddr),
}

/// Refuses a word that cannot be what the row expects there.
pub fn check(command: &'static Command, arg: &Arg, word: &str) -> Result<(), CommandError> {
    let wrong = |what: &str| {
        Err(CommandError::Usage(format!("{}: '{word}' is not {what}\n{}", arg.member(), command.usage())))
    };
    let explained = |error: CommandError| match error {
        CommandError::Input(code, why) => CommandError::Input(code, format!("{why}\n{}", command.usage())),
        error => error,
    };
    match (arg.value.unwrap_or(arg.name), arg.is_option()) {
        ("MAC", true) if word.parse::<MacAddr>().is_err() => wrong("the MAC address of a device"),
        ("MAC", false) => device(word).map(drop).map_err(explained),
        ("AMOUNT", _) if command.name == "grant" => amount(word).map(drop).map_err(explained),
        ("AMOUNT" | "SAT" | "N", _) if !is_positive(word) => wrong("a number above 0, like 21"),
        ("ID", _) if command.name.starts_with("voucher ") => match word.parse::<Uuid>() {
            Ok(_) => Ok(()),
            Err(()) => wrong("the id of a voucher, as the list shows it"),
        },
        // The ID of an invite, or of an order, is not a number.
        ("ID", _)
            if !matches!(command.name, "invite delete" | "fiat order" | "fiat decide")
                && word.parse::<i64>().is_err() =>
        {
            wrong("a number, as the list shows it")
        }
        _ => Ok(()),
    }
}

fn is_positive(word: &str) -> bool {
    word.parse::<u64>().is_ok_and(|number| number > 0)
}

/// The device that a MAC or IP address names.
pub fn device(text: &str) -> Result<Named, CommandError> {
    match (text.parse(), text.parse()) {
        (Ok(mac), _) => Ok(Named::Mac(mac)),
        (_, Ok(address)) => Ok(Named::Address(address)),
        (Err(err), _) => Err(CommandError::Input(
            "invalid_mac",
            format!("{text}: {err}, nor an address like 192.168.1.20"),
        )),
    }
}

/// How much is granted.
pub fn amount(text: &str) -> Result<(Metric, Allotment), CommandError> {
    parse_amount(text).ok_or_else(|| {
        let usage = "an amount is time with w, d, h, m or s, like 90m or 1h30m, at most 366d; or data with kB, MB or GB \
                     (of 1000, 10^6 and 10^9 bytes), like 500MB";
        CommandError::Input("invalid_duration", format!("'{text}': {usage}"))
    })
}

fn parse_amount(text: &str) -> Option<(Metric, Allotment)> {
    match parse_size(text).filter(|data| *data <= LARGEST_GRANT) {
        Some(data) => Some((Metric::Bytes, data)),
        None => parse_time(text)
            .filter(|time| *time <= LONGEST_GRANT)
            .map(|time| (Metric::Milliseconds, Allotment::from(time))),
    }
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_amount(text: &str) -> String {
    format!("{:?}", parse_amount(text).map(|(metric, amount)| (metric.as_str(), amount.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<u64> {
        let (metric, amount) = parse_amount(text)?;
        (metric == Metric::Milliseconds).then_some(amount.0 / 1000)
    }

    #[test]
    fn time_is_a_sum_of_numbers_with_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("2h", 7200),
            ("1h30m", 5400),
            ("1w", 604_800),
            ("1w2d3h4m5s", 788_645),
            ("366d", 31_622_400),
        ] {
            assert_eq!(time(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn data_is_counted_in_millions() {
        for (text, bytes) in [("500MB", 500_000_000), ("2GB", 2_000_000_000), ("1GB500MB", 1_500_000_000)] {
            assert_eq!(parse_amount(text), Some((Metric::Bytes, Allotment(bytes))), "{text}");
        }
    }

    #[test]
    fn an_amount_needs_units_in_order_and_a_sensible_size() {
        for text in [
            "",
            "5",
            "h",
            "0m",
            "-1h",
            "1.5h",
            "1h1h",
            "30m1h",
            "1h30",
            "367d",
            "53w",
            "99999999999999999999d",
            "1 h",
            "1é",
            "1MB1h",
            "0GB",
            "2000000GB",
            "1M",
            "1mb",
        ] {
            assert_eq!(parse_amount(text), None, "{text}");
        }
    }

    #[test]
    fn a_device_is_named_by_its_mac_or_its_address() {
        let mac = "02:00:00:00:00:0a";
        assert_eq!(device("02-00-00-00-00-0A").ok(), Some(Named::Mac(mac.parse().unwrap())));
        for address in ["192.168.1.20", "fd77::b"] {
            assert_eq!(device(address).ok(), Some(Named::Address(address.parse().unwrap())));
        }
        for wrong in ["", "anna", "02:00:00:00:00", "ff:ff:ff:ff:ff:ff", "192.168.1.256", "192.168.1.0/24"] {
            assert_eq!(
                device(wrong).map_err(|err| (err.code().to_owned(), err.status())).err(),
                Some(("invalid_mac".to_owned(), 2)),
                "{wrong}"
            );
        }
    }
}
