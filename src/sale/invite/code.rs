//! The code of an invite as people read and type it: 80 random bits in Crockford's base32, in groups of four.
//!
//! Blanks, hyphens, line breaks and case mean nothing, and letters that look like digits are read as those.

use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The digits of Crockford's base32, without I, L, O and U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 16;
const GROUP: usize = 4;
/// A text with more around it than this is not read.
const LONGEST: usize = 256;

/// Debug does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode(Zeroizing<[u8; LENGTH]>);

impl InviteCode {
    /// `None`: the system has no randomness.
    pub fn random() -> Option<InviteCode> {
        let mut bytes = Zeroizing::new([0u8; LENGTH]);
        getrandom::fill(&mut *bytes).ok()?;
        for byte in bytes.iter_mut() {
            *byte = *DIGITS.get(usize::from(*byte & 31))?;
        }
        Some(InviteCode(bytes))
    }

    /// Its digits, in upper case and without hyphens.
    pub fn digits(&self) -> &[u8] {
        &*self.0
    }
}

/// `XXXX-XXXX-XXXX-XXXX`
impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, digit) in self.0.iter().enumerate() {
            let hyphen = if at > 0 && at.is_multiple_of(GROUP) { "-" } else { "" };
            write!(f, "{hyphen}{}", char::from(*digit))?;
        }
        Ok(())
    }
}

impl FromStr for InviteCode {
    type Err = ();

    fn from_str(text: &str) -> Result<InviteCode, ()> {
        if text.len() > LONGEST {
            return Err(());
        }
        let mut digits = Zeroizing::new([0u8; LENGTH]);
        let mut places = digits.iter_mut();
        for letter in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                letter => letter,
            };
            let digit = DIGITS.iter().find(|digit| char::from(**digit) == letter).ok_or(())?;
            *places.next().ok_or(())? = *digit;
        }
        let is_whole = places.next().is_none();
        is_whole.then_some(InviteCode(digits)).ok_or(())
    }
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteCode(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = InviteCode::random().unwrap();
        let text = code.to_string();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 4], "{text}");
        for typed in [
            text.clone(),
            text.to_lowercase(),
            text.replace('-', ""),
            format!(" {}\r\n", text.replace('-', "\n ")),
            text.replace('0', "o").replace('1', "l"),
        ] {
            assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
        }
        assert!(!format!("{code:?}").contains(&text[..4]));
        assert_ne!(InviteCode::random(), InviteCode::random());
    }

    #[test]
    fn anything_else_is_no_code() {
        for text in
            ["", "0000-0000-0000-000", "0000-0000-0000-00000", "U000-0000-0000-0000", "0000_0000_0000_0000"]
        {
            assert_eq!(text.parse::<InviteCode>(), Err(()), "{text}");
        }
        assert_eq!(format!("{}{}", " ".repeat(241), "0".repeat(16)).parse::<InviteCode>(), Err(()));
    }
}
