//! BOLT 11: what an invoice asks for, and whether its payee has signed it.
//!
//! Reads what is checked before a payment: network, amount, payment hash, lifetime, how long the last hop may hold
//! the money, features; descriptions and routing hints are the paying node's business. The checksum must hold. The
//! signature costs curve arithmetic, so it is checked only by [`Invoice::payee`]. Refused: more than 4 KiB, amounts
//! that are no whole number of millisatoshis, missing payment hash, numbers above 64 bits.

mod signature;

use crate::bech32::{checksum, Bytes, CHARSET, CHECKSUM_WORDS};
use crate::units::{Millis, Msats, Sats, UnixSeconds};
use sha2::{Digest, Sha256};
use signature::Signature;
use std::fmt;

/// The longest invoice that is read (bytes).
pub const MAX_LEN: usize = 4096;
const TIMESTAMP_WORDS: usize = 7;
const SIGNATURE_WORDS: usize = 104;
const DEFAULT_EXPIRY_SECS: u64 = 3600;
const DEFAULT_FINAL_CLTV: u64 = 18;
const TAG_PAYMENT_HASH: u8 = 1;
const TAG_FEATURES: u8 = 5;
const TAG_EXPIRY: u8 = 6;
const TAG_PAYEE: u8 = 19;
const TAG_FINAL_CLTV: u8 = 24;
const HASH_WORDS: usize = 52;
const PAYEE_WORDS: usize = 53;
/// Pairs of BOLT 9 that may stand in an invoice, by their even bit: variable onion, payment secret, multi-part
/// payments, route blinding, atomic multi-part payments, payment metadata, blinded paths.
const KNOWN_FEATURES: [usize; 7] = [8, 14, 16, 24, 30, 48, 262];

/// What an invoice asks for. Debug output leaves out the payment hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Invoice {
    network: Option<Network>,
    amount: Option<Msats>,
    timestamp: UnixSeconds,
    expiry_secs: u64,
    payment_hash: [u8; 32],
    min_final_cltv: u64,
    unknown_feature: Option<usize>,
    /// The node that the invoice names; most leave it to the signature.
    named_payee: Option<[u8; 33]>,
    digest: [u8; 32],
    signature: Signature,
}

/// The chain that an invoice is to be paid on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Mainnet,
    Testnet,
    Signet,
    Regtest,
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
        let signed = words.len().checked_sub(CHECKSUM_WORDS + SIGNATURE_WORDS).ok_or(InvoiceError::Syntax)?;
        let (signed, end) = words.split_at_checked(signed).ok_or(InvoiceError::Syntax)?;
        let signature = end.split_at_checked(SIGNATURE_WORDS).and_then(|(words, _)| leading_bytes(words));
        let (timestamp, fields) = signed.split_at_checked(TIMESTAMP_WORDS).ok_or(InvoiceError::Syntax)?;
        let (network, amount) = prefix(hrp)?;
        let mut invoice = Invoice {
            network,
            amount,
            timestamp: UnixSeconds(number(timestamp).ok_or(InvoiceError::Syntax)?),
            expiry_secs: DEFAULT_EXPIRY_SECS,
            payment_hash: [0; 32],
            min_final_cltv: DEFAULT_FINAL_CLTV,
            unknown_feature: None,
            named_payee: None,
            digest: Sha256::new().chain_update(hrp).chain_update(padded_bytes(signed)).finalize().into(),
            signature: Signature(signature.ok_or(InvoiceError::Syntax)?),
        };
        invoice.read_fields(fields)?;
        Ok(invoice)
    }

    /// Of a field that stands there twice the first counts; one of a length that it cannot have is skipped.
    fn read_fields(&mut self, mut fields: &[u8]) -> Result<(), InvoiceError> {
        let (mut payment_hash, mut expiry, mut cltv, mut features) = (None, None, None, None);
        while let [tag, high, low, rest @ ..] = fields {
            let len = usize::from(*high) << 5 | usize::from(*low);
            let (field, rest) = rest.split_at_checked(len).ok_or(InvoiceError::Syntax)?;
            match *tag {
                TAG_PAYMENT_HASH if len == HASH_WORDS => {
                    payment_hash = payment_hash.or(leading_bytes(field));
                }
                TAG_PAYEE if len == PAYEE_WORDS => {
                    self.named_payee = self.named_payee.or(leading_bytes(field));
                }
                TAG_EXPIRY => {
                    expiry.get_or_insert(number(field).ok_or(InvoiceError::Syntax)?);
                }
                TAG_FINAL_CLTV => {
                    cltv.get_or_insert(number(field).ok_or(InvoiceError::Syntax)?);
                }
                TAG_FEATURES => {
                    features.get_or_insert(field);
                }
                _ => {}
            }
            fields = rest;
        }
        self.payment_hash = payment_hash.filter(|_| fields.is_empty()).ok_or(InvoiceError::Syntax)?;
        self.expiry_secs = expiry.unwrap_or(self.expiry_secs);
        self.min_final_cltv = cltv.unwrap_or(self.min_final_cltv);
        self.unknown_feature = features.and_then(unknown_feature);
        Ok(())
    }

    /// `None`: one that is not among ours.
    pub fn network(&self) -> Option<Network> {
        self.network
    }

    /// Whether exactly `sats` are to be paid; an invoice that leaves the amount open asks for none.
    pub fn asks_for(&self, sats: Sats) -> bool {
        self.amount.is_some() && self.amount == sats.to_msats()
    }

    /// `None` where the payer may choose.
    pub fn amount(&self) -> Option<Msats> {
        self.amount
    }

    /// When it was made, on the issuer's clock.
    pub fn timestamp(&self) -> UnixSeconds {
        self.timestamp
    }

    /// How long it can be paid from when it was made.
    pub fn lifetime(&self) -> Millis {
        Millis::from_secs(self.expiry_secs)
    }

    /// The moment, on the issuer's clock, from which it cannot be paid any more.
    pub fn expires_at(&self) -> UnixSeconds {
        UnixSeconds(self.timestamp.0.saturating_add(self.expiry_secs))
    }

    pub fn payment_hash(&self) -> [u8; 32] {
        self.payment_hash
    }

    /// Blocks for which the payee may at least hold the payment before it takes or returns it.
    pub fn min_final_cltv(&self) -> u64 {
        self.min_final_cltv
    }

    /// A feature (BOLT 9) that the payer must understand and that did not exist when this was written.
    pub fn unknown_feature(&self) -> Option<usize> {
        self.unknown_feature
    }

    /// The node that has signed the invoice, compressed; `None` where the signature is not good. Costs about
    /// as much as one verification.
    pub fn payee(&self) -> Option<[u8; 33]> {
        match self.named_payee {
            Some(payee) => self.signature.is_by(&payee, &self.digest).then_some(payee),
            None => self.signature.recover(&self.digest),
        }
    }
}

impl fmt::Debug for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invoice({:?}, {:?}, {} s)", self.network, self.amount, self.expiry_secs)
    }
}

/// Network and amount of the human-readable part, `ln` + network + digits + multiplier.
fn prefix(hrp: &str) -> Result<(Option<Network>, Option<Msats>), InvoiceError> {
    let rest = hrp.strip_prefix("ln").ok_or(InvoiceError::Syntax)?;
    let digits_at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (network, amount) = rest.split_at_checked(digits_at).ok_or(InvoiceError::Syntax)?;
    if network.is_empty() || !network.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err(InvoiceError::Syntax);
    }
    let network = match network {
        "bc" => Some(Network::Mainnet),
        "tb" => Some(Network::Testnet),
        "tbs" => Some(Network::Signet),
        "bcrt" => Some(Network::Regtest),
        _ => None,
    };
    if amount.is_empty() {
        return Ok((network, None));
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
    msat.map(|msat| (network, Some(Msats(msat)))).ok_or(InvoiceError::Amount)
}

/// The lowest even bit that is set and not known. Bits count from the end of the field.
fn unknown_feature(words: &[u8]) -> Option<usize> {
    let bits = words.iter().rev().flat_map(|word| (0..5).map(move |bit| word >> bit & 1 == 1));
    let mut even = bits.enumerate().filter(|(bit, set)| *set && bit & 1 == 0).map(|(bit, _)| bit);
    even.find(|bit| !KNOWN_FEATURES.contains(bit))
}

/// Big-endian number in 5-bit words; `None` above 64 bits.
fn number(words: &[u8]) -> Option<u64> {
    words.iter().try_fold(0u64, |n, word| n.checked_mul(32)?.checked_add(u64::from(*word)))
}

/// 5-bit words as bytes, the last filled up with zero bits.
fn padded_bytes(words: &[u8]) -> Vec<u8> {
    let Bytes { mut bytes, rest, bits } = Bytes::of(words);
    if bits > 0 {
        bytes.push(rest << (8 - bits));
    }
    bytes
}

/// The first `8 * N` bits of 5-bit words.
fn leading_bytes<const N: usize>(words: &[u8]) -> Option<[u8; N]> {
    padded_bytes(words).first_chunk().copied()
}

#[cfg(test)]
pub mod tests;
