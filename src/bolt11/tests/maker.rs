//! Invoices for tests, signed.

use super::super::{checksum, CHARSET};
use crate::ecdsa::tests::sign;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::SecretKey;
use sha2::{Digest, Sha256};

/// What an invoice says; the rest is as a node writes it.
#[derive(Clone)]
pub struct Maker {
    pub prefix: &'static str,
    /// With its multiplier.
    pub amount: String,
    pub timestamp: u64,
    pub expiry: Option<u64>,
    pub payment_hash: [u8; 32],
    pub final_cltv: u64,
    pub features: Vec<u8>,
    pub description: String,
    pub signed: bool,
}

impl Default for Maker {
    fn default() -> Maker {
        Maker {
            prefix: "lnbcrt",
            amount: "10u".to_owned(),
            timestamp: 1_800_000_000,
            expiry: None,
            payment_hash: [7; 32],
            final_cltv: 80,
            features: vec![16, 8, 0],
            description: "coffee".to_owned(),
            signed: true,
        }
    }
}

fn key() -> SecretKey {
    SecretKey::from_slice(&[5; 32]).unwrap()
}

/// Who signs them.
pub fn payee() -> [u8; 33] {
    key().public_key().to_sec1_point(true).as_bytes().try_into().unwrap()
}

impl Maker {
    pub fn make(&self) -> String {
        let hrp = format!("{}{}", self.prefix, self.amount);
        let mut words: Vec<u8> = (0..7).rev().map(|i| (self.timestamp >> (5 * i) & 31) as u8).collect();
        let mut field = |tag: u8, content: Vec<u8>| {
            words.extend([tag, (content.len() >> 5) as u8, (content.len() & 31) as u8]);
            words.extend(content);
        };
        field(1, words_of(&self.payment_hash));
        field(16, words_of(&[9; 32]));
        field(13, words_of(self.description.as_bytes()));
        field(24, number(self.final_cltv));
        field(5, self.features.clone());
        if let Some(expiry) = self.expiry {
            field(6, number(expiry));
        }
        let digest =
            Sha256::new().chain_update(&hrp).chain_update(super::super::padded_bytes(&words)).finalize();
        let mut signature = sign(&key(), &digest.into());
        if !self.signed {
            signature[..32].fill(0xff);
        }
        words.extend(words_of(&signature));
        let mut padded = words.clone();
        padded.extend([0; 6]);
        let sum = checksum(&hrp, &padded) ^ 1;
        words.extend((0..6).map(|i| (sum >> (5 * (5 - i)) & 31) as u8));
        let text: String = words.iter().map(|word| CHARSET[usize::from(*word)] as char).collect();
        format!("{hrp}1{text}")
    }

    /// The same with the payment hash of this preimage.
    pub fn paying(&self, preimage: [u8; 32]) -> Maker {
        Maker { payment_hash: Sha256::digest(preimage).into(), ..self.clone() }
    }
}

fn number(number: u64) -> Vec<u8> {
    (0..13).rev().map(|i| (number >> (5 * i) & 31) as u8).skip_while(|word| *word == 0).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    bits.chunks(5)
        .map(|five| (0..5).fold(0, |word, i| word << 1 | five.get(i).copied().unwrap_or(0)))
        .collect()
}
