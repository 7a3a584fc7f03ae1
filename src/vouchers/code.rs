//! The code of a voucher as people read and type it: 60 random bits in letters that are not mistaken for each other.
//!
//! Case, blanks, line breaks and whatever separates groups mean nothing.

use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Without 0, 1, I and O.
const LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
const LENGTH: usize = 12;
const GROUP: usize = 4;
/// A text with more around it than this is not read.
const LONGEST: usize = 128;

/// Debug does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct VoucherCode(Zeroizing<[u8; LENGTH]>);

impl VoucherCode {
    /// `None`: the system has no randomness.
    pub fn random() -> Option<VoucherCode> {
        let mut bytes = Zeroizing::new([0u8; LENGTH]);
        getrandom::fill(&mut *bytes).ok()?;
        for byte in bytes.iter_mut() {
            *byte = *LETTERS.get(usize::from(*byte & 31))?;
        }
        Some(VoucherCode(bytes))
    }

    /// Its letters, in upper case and without separators.
    pub fn letters(&self) -> &[u8] {
        &*self.0
    }
}

/// `XXXX-XXXX-XXXX`
impl fmt::Display for VoucherCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, letter) in self.0.iter().enumerate() {
            let hyphen = if at > 0 && at.is_multiple_of(GROUP) { "-" } else { "" };
            write!(f, "{hyphen}{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl FromStr for VoucherCode {
    type Err = ();

    fn from_str(text: &str) -> Result<VoucherCode, ()> {
        if text.len() > LONGEST {
            return Err(());
        }
        let mut letters = Zeroizing::new([0u8; LENGTH]);
        let mut places = letters.iter_mut();
        for typed in text.chars().filter(|c| !is_separator(*c)) {
            let letter = LETTERS.iter().find(|letter| char::from(**letter) == typed.to_ascii_uppercase());
            *places.next().ok_or(())? = *letter.ok_or(())?;
        }
        let is_whole = places.next().is_none();
        is_whole.then_some(VoucherCode(letters)).ok_or(())
    }
}

/// What people and their keyboards put between groups: blanks, and hyphens of every kind.
fn is_separator(typed: char) -> bool {
    typed.is_whitespace()
        || matches!(typed, '-' | '_' | '.' | ',' | ':' | '/' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

impl fmt::Debug for VoucherCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VoucherCode(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = VoucherCode::random().unwrap();
        let text = code.to_string();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 3], "{text}");
        for typed in [
            text.clone(),
            text.to_lowercase(),
            text.replace('-', ""),
            text.replace('-', "\u{2013}"),
            format!("\t{}\r\n", text.replace('-', " ")),
        ] {
            assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
        }
        assert!(!format!("{code:?}").contains(&text[..4]));
        assert_ne!(VoucherCode::random(), Some(code));
    }

    #[test]
    fn anything_else_is_no_code() {
        for text in [
            "",
            "2222-2222-222",
            "2222-2222-22222",
            "0222-2222-2222",
            "1222-2222-2222",
            "I222-2222-2222",
            "O222+2222+2222",
            "\0",
        ] {
            assert_eq!(text.parse::<VoucherCode>(), Err(()), "{text}");
        }
        assert_eq!(format!("{}{}", " ".repeat(117), "2".repeat(12)).parse::<VoucherCode>(), Err(()));
    }
}
