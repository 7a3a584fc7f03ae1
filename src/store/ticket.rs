//! The session ticket as a guest sees it: 128 random bits that stand for what an account has paid.
//!
//! Its text is Crockford's base32 in groups of four, made to be written down and typed in again: case,
//! blanks and marks mean nothing, letters that look like digits are read as those, and the last bits are a
//! checksum, so that a slip of the pen is seen as one. The link that a ticket's picture holds is read as well. The
//! store keeps only a digest of it.

use super::StoreError;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The digits of Crockford's base32, without i, l, o and u.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of the text: 128 bits and a checksum of 12.
const LENGTH: usize = 28;
const GROUP: usize = 4;
const CHECK_BITS: u32 = 12;
/// A text with more around it than this is not read.
const LONGEST: usize = 256;
/// What comes before it in its link.
const IN_LINK: &str = "?ticket=";

/// A ticket in clear text. Debug does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket([u8; 16]);

/// What the store knows a ticket by.
pub(super) type TicketDigest = [u8; 32];

impl Ticket {
    /// A fresh one from the kernel's random numbers.
    pub fn random() -> Result<Ticket, StoreError> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
        Ok(Ticket(bytes))
    }

    /// Tickets are as random as any key, so that a plain digest needs no salt, and the timing of a look-up by it does
    /// not tell how much of a guess was right.
    pub(super) fn digest(&self) -> TicketDigest {
        Sha256::new_with_prefix(b"session ticket").chain_update(self.0).finalize().into()
    }

    fn checksum(&self) -> u128 {
        let [high, low, ..] = <[u8; 32]>::from(Sha256::digest(self.0));
        u128::from(u16::from_be_bytes([high, low]) >> (16 - CHECK_BITS))
    }
}

/// `xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx`, lower case.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        // From the left, five bits at a time: the ticket's, then the checksum's. 128 bits end three bits into
        // the 26th digit.
        let digit = |at: usize| match u32::try_from(at).unwrap_or(u32::MAX) {
            at @ 0..=24 => bits >> (123 - 5 * at),
            25 => bits << 2 | self.checksum() >> 10,
            at @ 26.. => self.checksum() >> (5 * 27u32.saturating_sub(at)),
        };
        for at in 0..LENGTH {
            if at > 0 && at.is_multiple_of(GROUP) {
                f.write_str("-")?;
            }
            let index = usize::try_from(digit(at) & 31).unwrap_or_default();
            write!(f, "{}", char::from(*DIGITS.get(index).unwrap_or(&b'0')))?;
        }
        Ok(())
    }
}

impl FromStr for Ticket {
    type Err = ();

    fn from_str(text: &str) -> Result<Ticket, ()> {
        if text.len() > LONGEST {
            return Err(());
        }
        let (mut bits, mut checksum, mut count) = (0u128, 0u128, 0usize);
        let text = text.rsplit_once(IN_LINK).map_or(text, |(_, ticket)| ticket);
        for c in text.chars().filter(|c| c.is_alphanumeric()) {
            let c = match c.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                c => c,
            };
            let value = DIGITS.iter().position(|digit| char::from(*digit) == c).ok_or(())?;
            let value = u128::try_from(value).map_err(|_| ())?;
            match count {
                0..=24 => bits = bits << 5 | value,
                25 => (bits, checksum) = (bits << 3 | value >> 2, value & 3),
                _ => checksum = checksum << 5 | value,
            }
            count = count.saturating_add(1);
            if count > LENGTH {
                return Err(());
            }
        }
        let ticket = Ticket(bits.to_be_bytes());
        (count == LENGTH && checksum == ticket.checksum()).then_some(ticket).ok_or(())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_seven_groups_and_reads_as_the_same_ticket() {
        for ticket in [Ticket([0; 16]), Ticket([0xff; 16]), Ticket::random().unwrap()] {
            let text = ticket.to_string();
            assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 7], "{text}");
            assert_eq!(text.parse(), Ok(ticket));
        }
    }

    #[test]
    fn case_and_separators_and_look_alikes_mean_nothing() {
        let ticket = Ticket([0x08; 16]);
        let text = ticket.to_string();
        assert!(text.contains('0') && text.contains('1'), "{text}");
        for typed in [
            text.to_uppercase(),
            text.replace('-', ""),
            text.replace('-', " "),
            format!("  {}\n", text.replace('-', " - ")),
            text.replace('0', "O").replace('1', "l"),
            text.replace('0', "o").replace('1', "I"),
            format!("(\u{201c}{text}\u{201d}),"),
            format!("*{}*.", text.replace('-', "\u{2013}\u{200b}")),
            format!("http://192.168.77.1:2121/?ticket={text}"),
            format!("<http://[fd77::1]:2121/?ticket={text}>"),
        ] {
            assert_eq!(typed.parse(), Ok(ticket.clone()), "{typed}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_no_ticket() {
        let text = Ticket([0x5a; 16]).to_string();
        for at in 0..text.len() {
            let mut slipped = text.clone();
            let other = if &text[at..=at] == "7" { "8" } else { "7" };
            slipped.replace_range(at..=at, other);
            assert_eq!(slipped.parse::<Ticket>(), Err(()), "{slipped}");
        }
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        let text = Ticket([1; 16]).to_string();
        for other in [
            "",
            "-",
            "u",
            "é",
            &text[1..],
            &format!("{text}0"),
            &" ".repeat(5000),
            &"0".repeat(5000),
            &format!("my {text}"),
        ] {
            assert_eq!(other.parse::<Ticket>(), Err(()), "{other}");
        }
    }

    #[test]
    fn debug_output_and_digest_do_not_show_it() {
        let ticket = Ticket([7; 16]);
        assert_eq!(format!("{ticket:?}"), "Ticket(..)");
        assert_ne!(ticket.digest(), Ticket([8; 16]).digest());
    }
}
