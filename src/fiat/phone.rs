//! A Kenyan mobile number, however it was typed. Refused: any other country's, fixed lines, and what is no number.

use std::fmt;
use std::str::FromStr;

const LONGEST: usize = 40;
const NATIONAL: usize = 9;
const COUNTRY: &str = "254";

/// Neither Debug nor Display shows more than its last three digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Phone(String);

impl Phone {
    /// As Daraja takes it: `254712345678`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The last three digits.
    pub fn tail(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(3)..).unwrap_or_default()
    }
}

/// The only way in which a number is shown.
pub fn masked(tail: &str) -> String {
    format!("***{tail}")
}

impl FromStr for Phone {
    type Err = ();

    fn from_str(text: &str) -> Result<Phone, ()> {
        if text.len() > LONGEST {
            return Err(());
        }
        // As business cards write it: +254 (0) 712 ...
        let text = text.trim().replacen("(0)", "", usize::from(text.trim().starts_with(['+', '2'])));
        let is_filler =
            |c: char| c.is_whitespace() || matches!(c, '-' | '.' | '(' | ')' | '\u{2011}' | '\u{2013}');
        let plain: String = text.chars().filter(|c| !is_filler(*c)).collect();
        let international = plain.strip_prefix('+').or_else(|| plain.strip_prefix("00"));
        let national = match international {
            Some(rest) => rest.strip_prefix(COUNTRY).ok_or(())?,
            None => match plain.strip_prefix('0') {
                Some(rest) => rest,
                None if plain.len() > NATIONAL => plain.strip_prefix(COUNTRY).ok_or(())?,
                None => &plain,
            },
        };
        let is_mobile = national.len() == NATIONAL
            && national.starts_with(['7', '1'])
            && national.bytes().all(|digit| digit.is_ascii_digit());
        is_mobile.then(|| Phone(format!("{COUNTRY}{national}"))).ok_or(())
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.tail()))
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phone({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_number() {
        for text in [
            "0712345678",
            "712345678",
            "254712345678",
            "+254712345678",
            "00254712345678",
            " +254 712 345 678 ",
            "0712-345-678",
            "0712.345.678",
            "(0712) 345678",
            "+254 (0) 712 345 678",
            "\u{a0}0712\u{a0}345\u{a0}678",
        ] {
            assert_eq!(text.parse::<Phone>().unwrap().expose(), "254712345678", "{text}");
        }
        assert_eq!("0110345678".parse::<Phone>().unwrap().expose(), "254110345678");
    }

    #[test]
    fn what_is_no_mobile_number_of_kenya_is_refused() {
        for text in [
            "",
            "0",
            "+",
            "071234567",
            "07123456789",
            "0202345678",
            "0812345678",
            "+255712345678",
            "255712345678",
            "+0712345678",
            "00712345678",
            "0254712345678",
            "2540712345678",
            "++254712345678",
            "071234567a",
            "0712345678x",
            "０７１２３４５６７８",
            "٠٧١٢٣٤٥٦٧٨",
            "0712+345678",
            "0712345678,0712345679",
        ] {
            assert_eq!(text.parse::<Phone>(), Err(()), "{text}");
        }
        assert_eq!(format!("0712345678{}", " ".repeat(60)).parse::<Phone>(), Err(()));
    }

    #[test]
    fn it_is_shown_by_its_end_only() {
        let phone: Phone = "0712345678".parse().unwrap();
        assert_eq!(format!("{phone} {phone:?}"), "***678 Phone(***678)");
    }
}
