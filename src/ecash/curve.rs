//! The seam to secp256k1: the blind signatures of NUT-00, their proofs of NUT-12, and BIP-340.
//!
//! Everything that touches a secret scalar is constant-time; only the check of a DLEQ proof, where all
//! inputs are public, takes the faster variable-time way. Points are parsed here and nowhere else: the
//! identity, uncompressed forms and x values that are not on the curve are refused.

use super::hex;
use k256::elliptic_curve::group::CurveAffine;
use k256::elliptic_curve::ops::{LinearCombination, MulByGeneratorVartime, Reduce};
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::elliptic_curve::PrimeField;
use k256::schnorr::signature::hazmat::PrehashVerifier;
use k256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};
use sha2::{Digest, Sha256};
use std::fmt;

/// A point of the curve, never the identity. Prints as 66 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(AffinePoint);

impl PublicKey {
    /// Reads the 33-byte compressed form.
    pub fn from_bytes(bytes: &[u8]) -> Option<PublicKey> {
        match bytes {
            [2 | 3, rest @ ..] if rest.len() == 32 => {
                k256::PublicKey::from_sec1_bytes(bytes).ok().map(|key| PublicKey(*key.as_affine()))
            }
            _ => None,
        }
    }

    /// Reads 66 hex digits.
    pub fn parse(text: &str) -> Option<PublicKey> {
        PublicKey::from_bytes(&hex::decode::<33>(text)?)
    }

    pub fn to_bytes(self) -> [u8; 33] {
        let mut bytes = [0u8; 33];
        let point = self.0.to_sec1_point(true);
        // Only the identity has another length, and it cannot be in here.
        for (to, from) in bytes.iter_mut().zip(point.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// Whether this is a BIP-340 signature with the key; of a key that is known by its x only.
    pub fn verifies(self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let [_, x @ ..] = self.to_bytes();
        let key = k256::schnorr::VerifyingKey::from_slice(&x);
        let signature = k256::schnorr::Signature::try_from(&signature[..]);
        key.ok()
            .zip(signature.ok())
            .is_some_and(|(key, signature)| key.verify_prehash(digest, &signature).is_ok())
    }

    fn from_point(point: ProjectivePoint) -> Option<PublicKey> {
        let affine = point.to_affine();
        (!bool::from(affine.is_identity())).then_some(PublicKey(affine))
    }

    fn point(self) -> ProjectivePoint {
        ProjectivePoint::from(self.0)
    }

    fn uncompressed_hex(self) -> String {
        hex::encode(self.0.to_sec1_point(false).as_bytes())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret scalar (private key, blinding factor), never zero. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(k256::SecretKey);

impl SecretKey {
    /// 32 bytes big-endian; zero and values from the group order on are refused.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<SecretKey> {
        k256::SecretKey::from_slice(bytes).ok().map(SecretKey)
    }

    /// 32 bytes big-endian taken modulo the group order; zero is refused.
    pub fn reduced_from(bytes: &[u8; 32]) -> Option<SecretKey> {
        SecretKey::from_scalar(reduce(bytes))
    }

    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(*self.0.public_key().as_affine())
    }

    /// `self + tweak` (BIP-32 child keys). `None` where the tweak is not below the group order or the sum
    /// is zero.
    pub fn tweaked(&self, tweak: &[u8; 32]) -> Option<SecretKey> {
        SecretKey::from_scalar(self.scalar() + scalar(tweak)?)
    }

    /// BIP-340 over a 32-byte message, with all-zero auxiliary randomness: the same request signed again
    /// is the same bytes, which a mint's answer cache (NUT-19) needs.
    pub fn sign(&self, digest: &[u8; 32]) -> Option<[u8; 64]> {
        let key = k256::schnorr::SigningKey::from_slice(&self.to_bytes()).ok()?;
        key.sign_raw(digest, &[0; 32]).ok().map(|signature| signature.to_bytes())
    }

    fn scalar(&self) -> Scalar {
        *self.0.to_nonzero_scalar()
    }

    fn from_scalar(scalar: Scalar) -> Option<SecretKey> {
        SecretKey::from_bytes(&scalar.to_bytes().into())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The point `Y` of a secret (NUT-00).
pub fn hash_to_curve(secret: &[u8]) -> PublicKey {
    let seed = Sha256::new().chain_update(b"Secp256k1_HashToCurve_Cashu_").chain_update(secret).finalize();
    let mut counter = 0u32;
    loop {
        let x = Sha256::new().chain_update(seed).chain_update(counter.to_le_bytes()).finalize();
        let mut candidate = [2u8; 33];
        for (to, from) in candidate.iter_mut().skip(1).zip(x) {
            *to = from;
        }
        // Every second x is on the curve.
        if let Some(point) = PublicKey::from_bytes(&candidate) {
            return point;
        }
        counter = counter.wrapping_add(1);
    }
}

/// `B_ = Y + rG`, what the mint gets to sign. `None` with negligible probability.
pub fn blind(secret: &[u8], r: &SecretKey) -> Option<PublicKey> {
    PublicKey::from_point(hash_to_curve(secret).point() + ProjectivePoint::mul_by_generator(&r.scalar()))
}

/// `C = C_ - rA`, the mint's signature on the secret. `None` where a hostile `C_` leads to the identity.
pub fn unblind(blinded_signature: PublicKey, r: &SecretKey, mint_key: PublicKey) -> Option<PublicKey> {
    PublicKey::from_point(blinded_signature.point() - mint_key.point() * r.scalar())
}

/// A mint's proof that it signed with the key it published (NUT-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dleq {
    pub e: [u8; 32],
    pub s: [u8; 32],
}

impl Dleq {
    /// Checks the proof on the mint's answer `C_` to our `B_`.
    pub fn proves_answer(&self, mint_key: PublicKey, blinded: PublicKey, signature: PublicKey) -> bool {
        self.challenge(mint_key, blinded, signature) == Some(self.e)
    }

    /// Checks the evidence that came with a stranger's proof, given its blinding factor: `C_ = C + rA`, `B_ = Y +
    /// rG`.
    pub fn proves_proof(
        &self,
        mint_key: PublicKey,
        secret: &[u8],
        signature: PublicKey,
        r: &SecretKey,
    ) -> bool {
        let blinded = blind(secret, r);
        let blinded_signature = PublicKey::from_point(signature.point() + mint_key.point() * r.scalar());
        match (blinded, blinded_signature) {
            (Some(blinded), Some(signature)) => self.proves_answer(mint_key, blinded, signature),
            _ => false,
        }
    }

    fn challenge(&self, mint_key: PublicKey, blinded: PublicKey, signature: PublicKey) -> Option<[u8; 32]> {
        let s = scalar(&self.s)?;
        let minus_e = -reduce(&self.e);
        let r1 = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&s, &minus_e, &mint_key.point());
        let r2 = ProjectivePoint::lincomb_vartime(&[(blinded.point(), s), (signature.point(), minus_e)]);
        Some(hash_e([PublicKey::from_point(r1)?, PublicKey::from_point(r2)?, mint_key, signature]))
    }
}

fn hash_e(points: [PublicKey; 4]) -> [u8; 32] {
    points
        .iter()
        .fold(Sha256::new(), |hash, point| hash.chain_update(point.uncompressed_hex()))
        .finalize()
        .into()
}

fn scalar(bytes: &[u8; 32]) -> Option<Scalar> {
    Scalar::from_repr(FieldBytes::from(*bytes)).into_option()
}

fn reduce(bytes: &[u8; 32]) -> Scalar {
    Scalar::reduce(&FieldBytes::from(*bytes))
}

/// The mint's side, for tests.
#[cfg(test)]
impl Dleq {
    pub(super) fn prove(key: &SecretKey, blinded: PublicKey, nonce: &SecretKey) -> Dleq {
        let (r1, r2) = (nonce.public_key(), blinded.times(nonce));
        let e = hash_e([r1, r2, key.public_key(), blinded.times(key)]);
        let s = nonce.scalar() + reduce(&e) * key.scalar();
        Dleq { e, s: s.to_bytes().into() }
    }
}

#[cfg(test)]
impl PublicKey {
    pub(super) fn times(self, key: &SecretKey) -> PublicKey {
        PublicKey::from_point(self.point() * key.scalar()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn key(text: &Value) -> PublicKey {
        PublicKey::parse(text.as_str().unwrap()).unwrap()
    }

    fn bytes(text: &Value) -> [u8; 32] {
        hex::decode(text.as_str().unwrap()).unwrap()
    }

    fn secret(text: &Value) -> SecretKey {
        SecretKey::from_bytes(&bytes(text)).unwrap()
    }

    #[test]
    fn points_of_secrets_match_the_vectors() {
        let v = vectors(include_str!("../../tests/vectors/cashu/nut00-curve.json"));
        for case in v["hash_to_curve"].as_array().unwrap() {
            assert_eq!(hash_to_curve(&bytes(&case[0])), key(&case[1]));
        }
        for case in v["blind"].as_array().unwrap() {
            assert_eq!(blind(&bytes(&case["x"]), &secret(&case["r"])), Some(key(&case["B_"])));
        }
        for case in v["sign"].as_array().unwrap() {
            let signed = key(&case["B_"]).point() * secret(&case["k"]).scalar();
            assert_eq!(PublicKey::from_point(signed), Some(key(&case["C_"])));
        }
    }

    #[test]
    fn unblinding_a_blind_signature_gives_the_signature_on_the_secret() {
        for seed in 1..20u8 {
            let k = SecretKey::from_bytes(&[seed; 32]).unwrap();
            let r = SecretKey::from_bytes(&[seed ^ 0x5a; 32]).unwrap();
            let blinded = blind(&[seed], &r).unwrap();
            let signature = PublicKey::from_point(blinded.point() * k.scalar()).unwrap();
            let plain = PublicKey::from_point(hash_to_curve(&[seed]).point() * k.scalar());
            assert_eq!(unblind(signature, &r, k.public_key()), plain);
        }
    }

    #[test]
    fn dleq_proofs_match_the_vectors() {
        let v = vectors(include_str!("../../tests/vectors/cashu/nut12-dleq.json"));
        let h = &v["hash_e"];
        assert_eq!(hash_e([key(&h["R1"]), key(&h["R2"]), key(&h["K"]), key(&h["C_"])]), bytes(&h["e"]));
        for case in v["answers"].as_array().unwrap() {
            let dleq = Dleq { e: bytes(&case["e"]), s: bytes(&case["s"]) };
            assert!(dleq.proves_answer(key(&case["A"]), key(&case["B_"]), key(&case["C_"])));
        }
        for case in v["proofs"].as_array().unwrap() {
            let dleq = Dleq { e: bytes(&case["e"]), s: bytes(&case["s"]) };
            let text = case["secret"].as_str().unwrap().as_bytes();
            let (a, c, r) = (key(&case["A"]), key(&case["C"]), secret(&case["r"]));
            assert!(dleq.proves_proof(a, text, c, &r));
        }
    }

    #[test]
    fn a_dleq_proof_with_one_bit_changed_is_refused() {
        let v = vectors(include_str!("../../tests/vectors/cashu/nut12-dleq.json"));
        let case = &v["answers"][1];
        let (a, b, c) = (key(&case["A"]), key(&case["B_"]), key(&case["C_"]));
        let good = Dleq { e: bytes(&case["e"]), s: bytes(&case["s"]) };
        for bit in 0..256 {
            let mut bad = good;
            bad.e[bit / 8] ^= 1 << (bit % 8);
            assert!(!bad.proves_answer(a, b, c));
            let mut bad = good;
            bad.s[bit / 8] ^= 1 << (bit % 8);
            assert!(!bad.proves_answer(a, b, c));
        }
        assert!(!good.proves_answer(b, b, c));
        assert!(!good.proves_answer(a, c, c));
        assert!(!good.proves_answer(a, b, b));
        assert!(!Dleq { e: [0; 32], s: [0; 32] }.proves_answer(a, b, c));
        assert!(!Dleq { e: [0xff; 32], s: [0xff; 32] }.proves_answer(a, b, c));
    }

    #[test]
    fn points_in_any_other_form_are_refused() {
        let good = hash_to_curve(b"x").to_bytes();
        assert!(PublicKey::from_bytes(&good).is_some());
        assert!(PublicKey::from_bytes(&good[..32]).is_none());
        assert!(PublicKey::from_bytes(&[0]).is_none());
        assert!(PublicKey::from_bytes(&[]).is_none());
        assert!(PublicKey::from_bytes(&[2; 34]).is_none());
        for tag in [0u8, 1, 4, 5, 6, 7, 0xff] {
            let mut other = good;
            other[0] = tag;
            assert!(PublicKey::from_bytes(&other).is_none(), "{tag}");
        }
        let mut off_curve = [0xff; 33];
        off_curve[0] = 2;
        assert!(PublicKey::from_bytes(&off_curve).is_none());
    }

    #[test]
    fn scalars_outside_the_group_are_refused() {
        assert!(SecretKey::from_bytes(&[0; 32]).is_none());
        assert!(SecretKey::from_bytes(&[0xff; 32]).is_none());
        assert!(SecretKey::reduced_from(&[0xff; 32]).is_some());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes(&[7; 32]).unwrap()), "SecretKey(..)");
    }
}
