//! A wallet's signature over a challenge (LUD-04): ECDSA over the 32 bytes of k1 as they are, in DER, by a key of the
//! wallet's own for our domain (LUD-05).
//!
//! Anybody can compute a signature that is right for some k1, so that this proves nothing about a k1 that was not just
//! taken from our own table.

use crate::ecdsa::EcdsaSignature;
use crate::hex;
use std::fmt;

/// Hex digits of the longest signature: both integers of 33 bytes.
const LONGEST: usize = 2 * 72;

/// A compressed public key; whether it is on the curve shows when it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalletKey([u8; 33]);

impl WalletKey {
    /// 66 hex digits in either case, the compressed form.
    pub fn parse(text: &str) -> Option<WalletKey> {
        hex::decode(text).and_then(WalletKey::from_bytes)
    }

    pub fn from_bytes(bytes: [u8; 33]) -> Option<WalletKey> {
        matches!(bytes, [2 | 3, ..]).then_some(WalletKey(bytes))
    }

    pub fn to_bytes(self) -> [u8; 33] {
        self.0
    }

    /// As much of it as stands in the log.
    pub fn short(self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

impl fmt::Display for WalletKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for WalletKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// What a wallet sends: a key, and what it has signed.
pub struct SignedBy {
    pub key: WalletKey,
    signature: EcdsaSignature,
}

impl SignedBy {
    /// From hex, in either case. The error names the part that is wrong: `key` or `sig`.
    pub fn parse(key: &str, sig: &str) -> Result<SignedBy, &'static str> {
        let key = WalletKey::parse(key).ok_or("key")?;
        let bytes = hex::bytes(sig).filter(|_| sig.len() <= LONGEST).ok_or("sig")?;
        Ok(SignedBy { key, signature: EcdsaSignature::from_der(&bytes).ok_or("sig")? })
    }

    /// Whether the key has signed this k1. JavaScript's wallets leave s in the upper half as often as not (`elliptic`);
    /// either counts. `None`: there is no such key. Arithmetic on the curve: not for the thread that serves everybody.
    pub fn has_signed(&self, k1: &[u8; 32]) -> Option<bool> {
        self.signature.verify(&self.key.0, k1)
    }
}

#[cfg(test)]
mod tests;
