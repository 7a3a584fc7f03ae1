//! The signer of an invoice: ECDSA over secp256k1, by recovery or against a key that the invoice names.
//!
//! All inputs are public, so the faster variable-time arithmetic is right here.

use k256::elliptic_curve::ops::{MulByGeneratorVartime, Reduce};
use k256::elliptic_curve::point::AffineCoordinates;
use k256::elliptic_curve::scalar::IsHigh;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::elliptic_curve::PrimeField;
use k256::{FieldBytes, ProjectivePoint, PublicKey, Scalar};

/// r, s and the recovery id, as in the invoice.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signature(pub [u8; 65]);

impl Signature {
    /// The key that the signature leads to. Recovery ids 2 and 3 (an r of at least the group order, which no
    /// signer meets in the life of this universe) are refused.
    pub fn recover(&self, digest: &[u8; 32]) -> Option<[u8; 33]> {
        let (r_bytes, r, s) = self.parts()?;
        let tag = match self.0.last()? {
            0 => 2,
            1 => 3,
            _ => return None,
        };
        let mut point = [tag; 33];
        for (to, from) in point.iter_mut().skip(1).zip(r_bytes) {
            *to = from;
        }
        let point = PublicKey::from_sec1_bytes(&point).ok()?.to_projective();
        let inverse = r.invert_vartime().into_option()?;
        let of_generator = -(reduce(digest) * inverse);
        let key =
            ProjectivePoint::mul_by_generator_and_mul_add_vartime(&of_generator, &(s * inverse), &point);
        let key = PublicKey::from_affine(key.to_affine()).ok()?;
        key.to_sec1_point(true).as_bytes().try_into().ok()
    }

    /// Whether `key` has made it. An s in the upper half is refused, as BOLT 11 wants it where a key is named.
    pub fn is_by(&self, key: &[u8; 33], digest: &[u8; 32]) -> bool {
        self.verify(key, digest).unwrap_or(false)
    }

    fn verify(&self, key: &[u8; 33], digest: &[u8; 32]) -> Option<bool> {
        let (_, r, s) = self.parts()?;
        let key = PublicKey::from_sec1_bytes(key).ok()?.to_projective();
        let inverse = s.invert_vartime().into_option()?;
        let of_generator = reduce(digest) * inverse;
        let point =
            ProjectivePoint::mul_by_generator_and_mul_add_vartime(&of_generator, &(r * inverse), &key);
        // The x of the identity is zero, which r is not.
        let x = Scalar::reduce(&point.to_affine().x());
        Some(x == r && !bool::from(s.is_high()))
    }

    /// r as it stands there, r and s; neither is zero nor above the group order.
    fn parts(&self) -> Option<([u8; 32], Scalar, Scalar)> {
        let (r_bytes, rest) = self.0.split_first_chunk::<32>()?;
        let s = scalar(rest.first_chunk()?)?;
        Some((*r_bytes, scalar(r_bytes)?, s))
    }
}

fn scalar(bytes: &[u8; 32]) -> Option<Scalar> {
    Scalar::from_repr(FieldBytes::from(*bytes)).into_option().filter(|scalar| *scalar != Scalar::ZERO)
}

fn reduce(bytes: &[u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(*bytes))
}
