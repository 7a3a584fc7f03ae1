//! ECDSA over secp256k1, as others have signed: against a key, or by recovery of it.
//!
//! All inputs are public, so the faster variable-time arithmetic is right here. Refuses an r or s that is zero or not below
//! the group order, and DER (X.690, 8.3 and 10.1) that could be shorter or goes on behind its end.

use k256::elliptic_curve::ops::{MulByGeneratorVartime, Reduce};
use k256::elliptic_curve::point::AffineCoordinates;
use k256::elliptic_curve::scalar::IsHigh;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::elliptic_curve::PrimeField;
use k256::{FieldBytes, ProjectivePoint, PublicKey, Scalar};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// r and s; r also as bytes.
pub struct EcdsaSignature {
    r_bytes: [u8; 32],
    r: Scalar,
    s: Scalar,
}

impl EcdsaSignature {
    /// r and s, 32 bytes each.
    pub fn from_bytes(bytes: &[u8; 64]) -> Option<EcdsaSignature> {
        let (r_bytes, s_bytes) = bytes.split_first_chunk::<32>()?;
        EcdsaSignature::of(*r_bytes, s_bytes.first_chunk()?)
    }

    /// The one DER form of a signature.
    pub fn from_der(bytes: &[u8]) -> Option<EcdsaSignature> {
        let [SEQUENCE, length, rest @ ..] = bytes else { return None };
        if usize::from(*length) != rest.len() {
            return None;
        }
        let (r, rest) = integer(rest)?;
        let (s, rest) = integer(rest)?;
        if !rest.is_empty() {
            return None;
        }
        EcdsaSignature::of(r, &s)
    }

    fn of(r_bytes: [u8; 32], s_bytes: &[u8; 32]) -> Option<EcdsaSignature> {
        Some(EcdsaSignature { r_bytes, r: scalar(&r_bytes)?, s: scalar(s_bytes)? })
    }

    /// The key that the signature leads to, `is_odd` being the lowest bit of its recovery id. The ids 2 and 3 (an r of at
    /// least the group order, which no signer meets in the life of this universe) are left out.
    pub fn recover(&self, is_odd: bool, digest: &[u8; 32]) -> Option<[u8; 33]> {
        let mut point = [if is_odd { 3 } else { 2 }; 33];
        for (to, from) in point.iter_mut().skip(1).zip(self.r_bytes) {
            *to = from;
        }
        let point = PublicKey::from_sec1_bytes(&point).ok()?.to_projective();
        let inverse = self.r.invert_vartime().into_option()?;
        let of_generator = -(reduce(digest) * inverse);
        let key =
            ProjectivePoint::mul_by_generator_and_mul_add_vartime(&of_generator, &(self.s * inverse), &point);
        let key = PublicKey::from_affine(key.to_affine()).ok()?;
        key.to_sec1_point(true).as_bytes().try_into().ok()
    }

    /// Whether `key` has made it over this digest, with either of the two s that fit.
    pub fn is_by(&self, key: &[u8; 33], digest: &[u8; 32]) -> bool {
        self.verify(key, digest).unwrap_or(false)
    }

    /// The same; `None` if the key is no point of the curve.
    pub fn verify(&self, key: &[u8; 33], digest: &[u8; 32]) -> Option<bool> {
        let key = PublicKey::from_sec1_bytes(key).ok()?.to_projective();
        let inverse = self.s.invert_vartime().into_option()?;
        let of_generator = reduce(digest) * inverse;
        let point =
            ProjectivePoint::mul_by_generator_and_mul_add_vartime(&of_generator, &(self.r * inverse), &key);
        // The x of the identity is zero, which r is not.
        Some(Scalar::reduce(&point.to_affine().x()) == self.r)
    }

    /// Whether s is in the upper half, where some signers leave it and some verifiers refuse it.
    pub fn is_high(&self) -> bool {
        bool::from(self.s.is_high())
    }
}

/// A positive integer of at most 32 bytes at the front, and what is behind it.
fn integer(bytes: &[u8]) -> Option<([u8; 32], &[u8])> {
    let [INTEGER, length, rest @ ..] = bytes else { return None };
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let digits = match digits {
        // In front of a byte that would make it negative, and only there.
        [0, 0x80..=0xff, ..] => digits.get(1..)?,
        [1..=0x7f, ..] => digits,
        _ => return None,
    };
    let mut value = [0; 32];
    let start = value.len().checked_sub(digits.len())?;
    value.get_mut(start..)?.copy_from_slice(digits);
    Some((value, rest))
}

fn scalar(bytes: &[u8; 32]) -> Option<Scalar> {
    Scalar::from_repr(FieldBytes::from(*bytes)).into_option().filter(|scalar| *scalar != Scalar::ZERO)
}

fn reduce(bytes: &[u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(*bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k256::elliptic_curve::group::CurveAffine;
    use k256::SecretKey;
    use sha2::{Digest, Sha256};

    /// r, s and the recovery id of a signature over a digest. s is in either half.
    pub fn sign(key: &SecretKey, digest: &[u8; 32]) -> [u8; 65] {
        let key = *key.to_nonzero_scalar();
        let nonce = Sha256::new().chain_update(digest).chain_update(b"nonce").finalize();
        let nonce = reduce(&nonce.into());
        let point = (ProjectivePoint::GENERATOR * nonce).to_affine();
        assert!(!bool::from(point.is_identity()));
        let r = Scalar::reduce(&point.x());
        let s = nonce.invert_vartime().unwrap() * (reduce(digest) + r * key);
        let mut bytes = [0; 65];
        bytes[..32].copy_from_slice(&r.to_bytes());
        bytes[32..64].copy_from_slice(&s.to_bytes());
        bytes[64] = u8::from(bool::from(point.y_is_odd()));
        bytes
    }

    /// The same as wallets send it (LUD-04).
    pub fn sign_der(key: &SecretKey, digest: &[u8; 32]) -> Vec<u8> {
        let signature = sign(key, digest);
        let integer = |bytes: &[u8]| {
            let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
            if digits[0] >= 0x80 {
                [&[0], &digits[..]].concat()
            } else {
                digits
            }
        };
        der(&integer(&signature[..32]), &integer(&signature[32..64]))
    }

    /// For `tests/fuzz`: what can be read is written in the one form that it has.
    pub fn fuzz_der(input: &[u8]) -> bool {
        let Some(read) = EcdsaSignature::from_der(input) else { return false };
        let integer = |number: Scalar| {
            let digits: Vec<u8> = number.to_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            if digits[0] >= 0x80 {
                [&[0], &digits[..]].concat()
            } else {
                digits
            }
        };
        assert_eq!(der(&integer(read.r), &integer(read.s)), input);
        true
    }

    #[test]
    fn what_is_signed_is_verified_and_leads_to_its_key() {
        for seed in 1..=20 {
            let key = SecretKey::from_slice(&[seed; 32]).unwrap();
            let public: [u8; 33] = key.public_key().to_sec1_point(true).as_bytes().try_into().unwrap();
            let digest = [seed ^ 0x5a; 32];
            let signed = EcdsaSignature::from_der(&sign_der(&key, &digest)).unwrap();
            assert!(signed.is_by(&public, &digest) && !signed.is_by(&public, &[1; 32]));
            let is_odd = sign(&key, &digest)[64] == 1;
            assert_eq!(signed.recover(is_odd, &digest), Some(public));
            assert_ne!(signed.recover(!is_odd, &digest), Some(public));
        }
    }

    /// DER of an r and an s that are written as they are.
    fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integer = |digits: &[u8]| [&[INTEGER, digits.len() as u8], digits].concat();
        let both = [integer(r), integer(s)].concat();
        [&[SEQUENCE, both.len() as u8][..], &both].concat()
    }

    #[test]
    fn der_is_read_in_its_one_form() {
        let long = [&[0, 0x80][..], &[7; 31]].concat();
        for (r, s) in [(&[1][..], &[0x7f][..]), (&[0, 0x80], &[5; 32]), (&long, &[1; 31])] {
            assert!(EcdsaSignature::from_der(&der(r, s)).is_some(), "{r:02x?}");
        }
        let too_long = [&[1][..], &[7; 32]].concat();
        let order = hex_of("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
        let order = [&[0][..], &order].concat();
        for bad in [&[][..], &[0], &[0, 1], &[0x80], &[0, 0, 0x80], &too_long, &order] {
            assert!(EcdsaSignature::from_der(&der(bad, &[1])).is_none(), "{bad:02x?}");
            assert!(EcdsaSignature::from_der(&der(&[1], bad)).is_none(), "{bad:02x?}");
        }
        let good = der(&[1], &[2]);
        for end in 0..good.len() {
            assert!(EcdsaSignature::from_der(&good[..end]).is_none(), "{end}");
        }
        let behind = [&good[..], &[0]].concat();
        assert!(EcdsaSignature::from_der(&behind).is_none());
        let mut counted = behind;
        counted[1] += 1;
        assert!(EcdsaSignature::from_der(&counted).is_none());
    }

    fn hex_of(text: &str) -> [u8; 32] {
        crate::hex::decode(text).unwrap()
    }
}
