//! From when to when a certificate is valid (RFC 5280, 4.1.2.5). What reads certificates for TLS does not tell.

use crate::clock::{days_before, Date};
use crate::units::UnixSeconds;

const SEQUENCE: u8 = 0x30;
/// The tag of the version, which old certificates leave out.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: UnixSeconds,
    pub not_after: UnixSeconds,
}

impl Validity {
    /// `None` if this is no certificate (DER).
    pub fn of(certificate: &[u8]) -> Option<Validity> {
        let (whole, _) = content(certificate, SEQUENCE)?;
        let (mut fields, _) = content(whole, SEQUENCE)?;
        if let Some((_, rest)) = content(fields, VERSION) {
            fields = rest;
        }
        // Serial number, algorithm, issuer.
        for _ in 0..3 {
            fields = element(fields)?.rest;
        }
        let (dates, _) = content(fields, SEQUENCE)?;
        let (not_before, rest) = time(dates)?;
        let (not_after, _) = time(rest)?;
        Some(Validity { not_before, not_after })
    }
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// What stands behind it.
    rest: &'a [u8],
}

fn element(der: &[u8]) -> Option<Element<'_>> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The number of bytes of the length that follows. A certificate is at most 16 MiB long.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Element { tag, content, rest })
}

/// The content of the first element, if it has this tag, and what stands behind it.
fn content(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let found = element(der)?;
    (found.tag == tag).then_some((found.content, found.rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, and what stands behind it.
fn time(der: &[u8]) -> Option<(UnixSeconds, &[u8])> {
    let found = element(der)?;
    let digits = found.content.strip_suffix(b"Z")?;
    let (year, rest) = match (found.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let mut two = rest.chunks(2).map(number);
    let mut next = || two.next().flatten();
    let [month, day, hour, minute, second] = [next()?, next()?, next()?, next()?, next()?];
    let is_time =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let days = u64::try_from(days_before(Date { year, month, day })).ok().filter(|_| is_time)?;
    let seconds = days.checked_mul(86_400)?.checked_add(hour * 3600 + minute * 60 + second)?;
    Some((UnixSeconds(seconds), found.rest))
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: u8, text: &str) -> Option<u64> {
        let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
        der.extend(text.as_bytes());
        time(&der).map(|(time, _)| time.0)
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "250101000000Z"), Some(1_735_689_600));
        assert_eq!(read(GENERALIZED_TIME, "20250101000001Z"), Some(1_735_689_601));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (tag, text) in [
            (UTC_TIME, "250101000000"),
            (UTC_TIME, "20250101000000Z"),
            (GENERALIZED_TIME, "250101000000Z"),
            (UTC_TIME, "251301000000Z"),
            (UTC_TIME, "250001000000Z"),
            (UTC_TIME, "250100000000Z"),
            (UTC_TIME, "250101240000Z"),
            (UTC_TIME, "25010100000xZ"),
            (UTC_TIME, "+50101000000Z"),
            (UTC_TIME, "490101000000+"),
            (GENERALIZED_TIME, "19000101000000Z"),
            (SEQUENCE, "250101000000Z"),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x01",
            b"\x30\x81",
            b"\x30\x81\x80",
            b"\x30\x83\xff\xff\xff",
            b"\x30\x80",
            b"\x30\x84\0\0\0\0",
        ] {
            assert!(element(der).is_none() && Validity::of(der).is_none(), "{der:?}");
        }
        assert!(element(b"\x04\x81\x01x").is_some_and(|found| found.content == b"x"));
    }
}
