//! Just enough of BOLT 11 to check what a mint asks a guest to pay: amount, payment hash, lifetime.
//!
//! The checksum must hold; the signature is not checked, as any node may issue an invoice. Refused: more
//! than 4 KiB, amounts that are no whole number of millisatoshis, missing payment hash.

use super::bech32::{checksum, CHARSET, CHECKSUM_WORDS};
use crate::units::{Millis, Sats, UnixSeconds};
use std::fmt;

const MAX_LEN: usize = 4096;
const TIMESTAMP_WORDS: usize = 7;
const SIGNATURE_WORDS: usize = 104;
const DEFAULT_EXPIRY_SECS: u64 = 3600;
const TAG_PAYMENT_HASH: u8 = 1;
const TAG_EXPIRY: u8 = 6;
const PAYMENT_HASH_WORDS: usize = 52;

/// What an invoice asks for. Debug output leaves out the payment hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Invoice {
    amount_msat: Option<u64>,
    timestamp: UnixSeconds,
    expiry_secs: u64,
    payment_hash: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    #[error("not a BOLT 11 invoice")]
    Syntax,
    #[error("the invoice's checksum is wrong")]
    Checksum,
    #[error("the invoice's amount is not a whole number of millisatoshis")]
    Amount,
}

impl Invoice {
    /// Reads an invoice of any network, all lower or all upper case.
    pub fn parse(text: &str) -> Result<Invoice, InvoiceError> {
        let upper = text.bytes().any(|b| b.is_ascii_uppercase());
        let lower = text.bytes().any(|b| b.is_ascii_lowercase());
        if text.len() > MAX_LEN || !text.is_ascii() || (upper && lower) {
            return Err(InvoiceError::Syntax);
        }
        let text = text.to_ascii_lowercase();
        let (hrp, data) = text.rsplit_once('1').ok_or(InvoiceError::Syntax)?;
        let words: Vec<u8> = data
            .bytes()
            .map(|char| CHARSET.iter().position(|c| *c == char).and_then(|i| u8::try_from(i).ok()))
            .collect::<Option<_>>()
            .ok_or(InvoiceError::Syntax)?;
        if checksum(hrp, &words) != 1 {
            return Err(InvoiceError::Checksum);
        }
        let body = words
            .len()
            .checked_sub(CHECKSUM_WORDS + SIGNATURE_WORDS)
            .and_then(|end| words.get(..end))
            .ok_or(InvoiceError::Syntax)?;
        let (timestamp, mut fields) = body.split_at_checked(TIMESTAMP_WORDS).ok_or(InvoiceError::Syntax)?;

        let mut payment_hash = None;
        let mut expiry_secs = None;
        while let [tag, high, low, rest @ ..] = fields {
            let len = usize::from(*high) << 5 | usize::from(*low);
            let (field, rest) = rest.split_at_checked(len).ok_or(InvoiceError::Syntax)?;
            match *tag {
                TAG_PAYMENT_HASH if field.len() == PAYMENT_HASH_WORDS => {
                    payment_hash = payment_hash.or(bytes32(field));
                }
                TAG_EXPIRY => expiry_secs = expiry_secs.or(number(field)),
                _ => {}
            }
            fields = rest;
        }
        Ok(Invoice {
            amount_msat: amount(hrp)?,
            timestamp: UnixSeconds(number(timestamp).ok_or(InvoiceError::Syntax)?),
            expiry_secs: expiry_secs.unwrap_or(DEFAULT_EXPIRY_SECS),
            payment_hash: payment_hash.ok_or(InvoiceError::Syntax)?,
        })
    }

    /// Whether exactly `sats` are to be paid; an invoice that leaves the amount open asks for none.
    pub fn asks_for(&self, sats: Sats) -> bool {
        self.amount_msat.is_some() && self.amount_msat == sats.0.checked_mul(1000)
    }

    /// Millisatoshis; `None` where the payer may choose.
    pub fn amount_msat(&self) -> Option<u64> {
        self.amount_msat
    }

    /// When it was made, on the issuer's clock.
    pub fn timestamp(&self) -> UnixSeconds {
        self.timestamp
    }

    /// How long it can be paid from when it was made.
    pub fn lifetime(&self) -> Millis {
        Millis::from_secs(self.expiry_secs)
    }

    pub fn payment_hash(&self) -> [u8; 32] {
        self.payment_hash
    }
}

impl fmt::Debug for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invoice({:?} msat, {} s)", self.amount_msat, self.expiry_secs)
    }
}

/// The amount of the human-readable part, `ln` + network + digits + multiplier.
fn amount(hrp: &str) -> Result<Option<u64>, InvoiceError> {
    let rest = hrp.strip_prefix("ln").ok_or(InvoiceError::Syntax)?;
    let digits_at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (network, amount) = rest.split_at_checked(digits_at).ok_or(InvoiceError::Syntax)?;
    if network.is_empty() || !network.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err(InvoiceError::Syntax);
    }
    if amount.is_empty() {
        return Ok(None);
    }
    let (digits, per_unit, divisor) = match amount.as_bytes().last() {
        Some(b'm') => (amount.strip_suffix('m'), 100_000_000, 1),
        Some(b'u') => (amount.strip_suffix('u'), 100_000, 1),
        Some(b'n') => (amount.strip_suffix('n'), 100, 1),
        Some(b'p') => (amount.strip_suffix('p'), 1, 10),
        _ => (Some(amount), 100_000_000_000, 1),
    };
    let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or(InvoiceError::Syntax)?;
    let number: u64 = digits.parse().map_err(|_| InvoiceError::Amount)?;
    if number.checked_rem(divisor) != Some(0) {
        return Err(InvoiceError::Amount);
    }
    let msat = number.checked_div(divisor).and_then(|n| n.checked_mul(per_unit));
    msat.map(Some).ok_or(InvoiceError::Amount)
}

/// Big-endian number in 5-bit words; `None` above 64 bits.
fn number(words: &[u8]) -> Option<u64> {
    words.iter().try_fold(0u64, |n, word| n.checked_mul(32)?.checked_add(u64::from(*word)))
}

/// The first 256 bits of 5-bit words.
fn bytes32(words: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    let mut out = bytes.iter_mut();
    let mut buffer = 0u32;
    let mut bits = 0u32;
    for word in words {
        buffer = (buffer << 5 | u32::from(*word)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.next()? = u8::try_from(buffer >> bits & 0xff).ok()?;
        }
    }
    out.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/bolt11/invoices.json")).unwrap()
    }

    #[test]
    fn invoices_of_the_specification_are_read() {
        for case in vectors()["good"].as_array().unwrap() {
            let text = case["invoice"].as_str().unwrap();
            for text in [text.to_owned(), text.to_uppercase()] {
                let invoice = Invoice::parse(&text).unwrap();
                assert_eq!(invoice.amount_msat(), case["msat"].as_u64());
                assert_eq!(invoice.timestamp().0, case["timestamp"].as_u64().unwrap());
                assert_eq!(invoice.lifetime(), Millis::from_secs(case["expiry"].as_u64().unwrap()));
                assert_eq!(hex::encode(&invoice.payment_hash()), case["payment_hash"].as_str().unwrap());
            }
        }
    }

    #[test]
    fn invalid_invoices_of_the_specification_are_refused() {
        // Features and signatures are the payer's business, not ours.
        let not_ours = ["unknown feature 100 is set", "signature is not recoverable"];
        for case in vectors()["bad"].as_array().unwrap() {
            let refused = Invoice::parse(case["invoice"].as_str().unwrap()).is_err();
            assert_eq!(refused, !not_ours.contains(&case["why"].as_str().unwrap()), "{}", case["why"]);
        }
    }

    #[test]
    fn amounts_are_exact() {
        for (hrp, msat) in [
            ("lnbc", Ok(None)),
            ("lnbcrt", Ok(None)),
            ("lnbc1", Ok(Some(100_000_000_000))),
            ("lntbs20m", Ok(Some(2_000_000_000))),
            ("lntb1u", Ok(Some(100_000))),
            ("lnbcrt640n", Ok(Some(64_000))),
            ("lnbc10p", Ok(Some(1))),
            ("lnbc15p", Err(InvoiceError::Amount)),
            ("lnbc184467441", Err(InvoiceError::Amount)),
            ("lnbc99999999999999999999", Err(InvoiceError::Amount)),
            ("lnbcm", Ok(None)),
            ("lnbc1x", Err(InvoiceError::Syntax)),
            ("lnbc1mm", Err(InvoiceError::Syntax)),
            ("ln1m", Err(InvoiceError::Syntax)),
            ("bc1m", Err(InvoiceError::Syntax)),
        ] {
            assert_eq!(amount(hrp), msat, "{hrp}");
        }
    }

    #[test]
    fn an_invoice_asks_for_its_own_amount_only() {
        let case = &vectors()["good"][1];
        let invoice = Invoice::parse(case["invoice"].as_str().unwrap()).unwrap();
        assert!(invoice.asks_for(Sats(250_000)));
        for other in [0, 249_999, 250_001, u64::MAX] {
            assert!(!invoice.asks_for(Sats(other)));
        }
        let open = Invoice::parse(vectors()["good"][0]["invoice"].as_str().unwrap()).unwrap();
        assert!(!open.asks_for(Sats(0)));
        assert!(!open.asks_for(Sats(u64::MAX)));
    }

    #[test]
    fn every_single_wrong_character_is_noticed() {
        let case = &vectors()["good"][1];
        let text = case["invoice"].as_str().unwrap();
        for at in 0..text.len() {
            for wrong in [b'q', b'1', b'z', b'9', 0x7f, b' '] {
                let mut bytes = text.as_bytes().to_vec();
                if bytes[at] != wrong {
                    bytes[at] = wrong;
                    assert!(Invoice::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
                }
            }
            assert!(Invoice::parse(&text[..at]).is_err());
        }
    }

    #[test]
    fn fields_that_overrun_and_endless_text_are_refused() {
        assert_eq!(Invoice::parse(&"q".repeat(5000)), Err(InvoiceError::Syntax));
        // Correct checksums over nonsense: the parser behind it must hold.
        for len in 0..300usize {
            for seed in 0..4u8 {
                let word = |i: usize| ((i * 7 + usize::from(seed) * 13 + len) % 32) as u8;
                let mut words: Vec<u8> = (0..len).map(word).collect();
                let mut padded = words.clone();
                padded.extend([0; 6]);
                let sum = checksum("lnbc1u", &padded) ^ 1;
                words.extend((0..6).map(|i| (sum >> (5 * (5 - i)) & 31) as u8));
                let text: String = words.iter().map(|w| CHARSET[usize::from(*w)] as char).collect();
                assert_ne!(Invoice::parse(&format!("lnbc1u1{text}")), Err(InvoiceError::Checksum));
            }
        }
    }
}
