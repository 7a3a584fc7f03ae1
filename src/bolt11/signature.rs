//! The signer of an invoice: by recovery, or against a key that the invoice names.

use crate::ecdsa::EcdsaSignature;

/// r, s and the recovery id, as in the invoice.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signature(pub [u8; 65]);

impl Signature {
    /// The key that the signature leads to. Recovery ids 2 and 3 are refused.
    pub fn recover(&self, digest: &[u8; 32]) -> Option<[u8; 33]> {
        let is_odd = match self.0.last()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        self.parts()?.recover(is_odd, digest)
    }

    /// Whether `key` has made it. An s in the upper half is refused, as BOLT 11 wants it where a key is named.
    pub fn is_by(&self, key: &[u8; 33], digest: &[u8; 32]) -> bool {
        self.parts().is_some_and(|parts| !parts.is_high() && parts.is_by(key, digest))
    }

    fn parts(&self) -> Option<EcdsaSignature> {
        EcdsaSignature::from_bytes(self.0.first_chunk()?)
    }
}
