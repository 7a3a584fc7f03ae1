//! Ecash that is locked to a key (NUT-10, NUT-11): who holds the key spends it, with a signature for each proof.
//!
//! We write one form: a venue's key until a time, from then on a refund key, `SIG_INPUTS`. We read that form, also without
//! time and refund, and take nothing that asks for more: several signatures, `SIG_ALL` (whose message mints do not agree
//! on), a secret of another kind, and one that a mint may take for no lock at all: then anybody spends it.

use super::curve::{PublicKey, SecretKey};
use super::hex;
use super::outputs::Proof;
use super::seed::ProofSecret;
use crate::json::json;
use crate::units::UnixSeconds;
use serde_json::Value;
use sha2::{Digest, Sha256};

const KIND: &str = "P2PK";
const FIELDS: [&str; 3] = ["nonce", "data", "tags"];
/// Signatures that are looked at in a witness.
const MOST_SIGNATURES: usize = 4;

/// What a secret is locked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub key: PublicKey,
    /// From then on the refund key may spend it; without one, anybody (NUT-11).
    pub locktime: Option<UnixSeconds>,
    pub refund: Option<PublicKey>,
}

impl Lock {
    /// A secret with this lock; `nonce` makes it unlike all others.
    pub fn secret(&self, nonce: &str) -> ProofSecret {
        let mut tags = vec![json!(["sigflag", "SIG_INPUTS"])];
        tags.extend(self.locktime.map(|at| json!(["locktime", &at.0.to_string()])));
        tags.extend(self.refund.map(|key| json!(["refund", &key.to_string()])));
        // In the order of the specification's examples, which an object of JSON would not keep.
        let (key, tags) = (self.key, Value::Array(tags));
        ProofSecret(format!(r#"["{KIND}",{{"nonce":"{nonce}","data":"{key}","tags":{tags}}}]"#))
    }

    /// The key that every mint takes at a time: from the locktime on some take the refund key only.
    pub fn spender(&self, now: UnixSeconds) -> PublicKey {
        match (self.locktime, self.refund) {
            (Some(at), Some(refund)) if at <= now => refund,
            _ => self.key,
        }
    }

    /// Reads a secret's lock. `None` for one that asks for more than a signature with one key, or that mints read in
    /// different ways.
    pub fn of(secret: &str) -> Option<Lock> {
        let Value::Array(parts) = serde_json::from_str(secret).ok()? else { return None };
        let [Value::String(kind), Value::Object(condition)] = parts.as_slice() else { return None };
        // To nutshell a secret without a nonce is no lock, to cdk one with a name that stands there twice; others take `Data`
        // for `data`. Without a backslash a name is written in one way only.
        let stands = |name: &str| secret.matches(&format!("\"{name}\"")).count();
        let is_plain = condition.get("nonce").is_some_and(Value::is_string)
            && condition.keys().all(|name| FIELDS.contains(&name.as_str()) && stands(name) == 1)
            && !secret.contains('\\');
        if kind != KIND || !is_plain {
            return None;
        }
        let key = PublicKey::parse(condition.get("data")?.as_str()?)?;
        let mut lock = Lock { key, locktime: None, refund: None };
        let none = Vec::new();
        let tags = match condition.get("tags") {
            None | Some(Value::Null) => &none,
            Some(tags) => tags.as_array()?,
        };
        for tag in tags {
            let tag: Vec<&str> = tag.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
            match tag.as_slice() {
                ["sigflag", "SIG_INPUTS"] | ["n_sigs", "1"] => {}
                ["locktime", at] if lock.locktime.is_none() => {
                    lock.locktime = Some(UnixSeconds(at.parse().ok()?))
                }
                ["refund", key] if lock.refund.is_none() => lock.refund = Some(PublicKey::parse(key)?),
                _ => return None,
            }
        }
        Some(lock)
    }
}

/// A well-known secret (NUT-10) is a JSON array of its kind and what it asks for.
pub fn is_condition(secret: &str) -> bool {
    matches!(serde_json::from_str(secret), Ok(Value::Array(_)))
}

/// The witness that lets a key spend a proof: the same each time, so that a request can be sent again byte for byte.
pub fn witness(secret: &str, key: &SecretKey) -> Option<String> {
    let signature = key.sign(&Sha256::digest(secret).into())?;
    Some(json!({"signatures": [hex::encode(&signature)]}).to_string())
}

/// Whether a proof was spent with this key, as its witness tells.
pub fn is_signed_by(secret: &str, witness: &str, key: &PublicKey) -> bool {
    let said: Value = serde_json::from_str(witness).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(secret).into();
    let signatures = said["signatures"].as_array().into_iter().flatten().take(MOST_SIGNATURES);
    let mut signatures = signatures.filter_map(Value::as_str).filter_map(hex::decode::<64>);
    signatures.any(|signature| key.verifies(&digest, &signature))
}

/// Signs those of the proofs that one of these keys can spend now.
pub fn sign_all(proofs: &mut [Proof], keys: &[SecretKey], now: UnixSeconds) {
    for proof in proofs.iter_mut().filter(|proof| is_condition(proof.secret.as_str())) {
        let Some(spender) = Lock::of(proof.secret.as_str()).map(|lock| lock.spender(now)) else { continue };
        let fits = |key: &&SecretKey| key.public_key() == spender;
        proof.witness = keys.iter().find(fits).and_then(|key| witness(proof.secret.as_str(), key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::schnorr::signature::hazmat::PrehashVerifier;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/cashu/nut11-p2pk.json")).unwrap()
    }

    fn holds(secret: &str, witness: &str, key: PublicKey) -> bool {
        let witness: Value = serde_json::from_str(witness).unwrap();
        let signature: [u8; 64] = hex::decode(witness["signatures"][0].as_str().unwrap()).unwrap();
        let signature = k256::schnorr::Signature::try_from(&signature[..]).unwrap();
        let key = k256::schnorr::VerifyingKey::from_slice(&key.to_bytes()[1..]).unwrap();
        let digest: [u8; 32] = Sha256::digest(secret).into();
        key.verify_prehash(&digest, &signature).is_ok()
    }

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_witness_tells_which_key_has_spent_a_proof() {
        let secret = lock().secret("00");
        let spent = witness(secret.as_str(), &key(1)).unwrap();
        let by = |text: &str, byte| is_signed_by(secret.as_str(), text, &key(byte).public_key());
        assert!(by(&spent, 1) && !by(&spent, 2) && !is_signed_by("another", &spent, &key(1).public_key()));
        for wrong in ["", "[]", "{}", r#"{"signatures":7}"#, r#"{"signatures":["00"]}"#] {
            assert!(!by(wrong, 1), "{wrong}");
        }
    }

    fn lock() -> Lock {
        let (key, refund) = (key(1).public_key(), Some(key(2).public_key()));
        Lock { key, locktime: Some(UnixSeconds(1_767_312_000)), refund }
    }

    #[test]
    fn signatures_are_over_what_the_vectors_are_over() {
        for case in vectors()["signed"].as_array().unwrap() {
            let (secret, witness) = (case["secret"].as_str().unwrap(), case["witness"].as_str().unwrap());
            let condition: Value = serde_json::from_str(secret).unwrap();
            let key = PublicKey::parse(condition[1]["data"].as_str().unwrap()).unwrap();
            assert_eq!(holds(secret, witness, key), case["valid"].as_bool().unwrap());
        }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let secret = lock().secret("00ff");
        let (key, refund) = (key(1).public_key(), key(2).public_key());
        let tags = format!(r#"[["sigflag","SIG_INPUTS"],["locktime","1767312000"],["refund","{refund}"]]"#);
        assert_eq!(secret.as_str(), format!(r#"["P2PK",{{"nonce":"00ff","data":"{key}","tags":{tags}}}]"#));
        assert_eq!(Lock::of(secret.as_str()), Some(lock()));
        let first = vectors()["signed"][0]["secret"].as_str().unwrap().to_owned();
        assert_eq!(Lock::of(&first).map(|lock| (lock.locktime, lock.refund)), Some((None, None)));
    }

    #[test]
    fn what_asks_for_more_than_one_signature_is_no_lock() {
        for secret in vectors()["asked_for_more"].as_array().unwrap() {
            assert_eq!(Lock::of(secret.as_str().unwrap()), None);
        }
        let good = lock().secret("00").as_str().to_owned();
        for (part, other) in [
            ("P2PK", "P2PX"),
            ("\"1767312000\"", "1767312000"),
            ("1767312000", "-1"),
            ("\"refund\"", "\"locktime\""),
            ("sigflag", "unknown"),
            ("[[", "[[["),
        ] {
            let bad = good.replacen(part, other, 1);
            assert_ne!(bad, good);
            assert_eq!(Lock::of(&bad), None, "{bad}");
        }
        for bad in ["", "x", "[]", "[\"P2PK\"]", "[\"P2PK\",{}]", "{}", &"[".repeat(5000)] {
            assert_eq!(Lock::of(bad), None);
        }
    }

    #[test]
    fn what_a_mint_may_take_for_no_lock_is_none() {
        let good = lock().secret("00").as_str().to_owned();
        let other = key(3).public_key();
        for (part, another) in [
            ("\"nonce\":\"00\",", String::new()),
            ("\"nonce\":\"00\"", "\"nonce\":0".to_owned()),
            ("\"nonce\"", "\"Nonce\"".to_owned()),
            ("{", format!("{{\"data\":\"{other}\",")),
            ("{", format!("{{\"d\\u0061ta\":\"{other}\",")),
            ("{", format!("{{\"Data\":\"{other}\",")),
            ("}", format!(",\"data\":\"{}\"}}", lock().key)),
            ("}", ",\"tags\":null}".to_owned()),
            ("}", ",\"more\":1}".to_owned()),
        ] {
            let bad = good.replacen(part, &another, 1);
            assert_ne!(bad, good);
            assert_eq!(Lock::of(&bad), None, "{bad}");
        }
        let spaced = good.replace(':', ": ").replace(',', ", ");
        assert_eq!(Lock::of(&spaced), Some(lock()), "as nutshell writes it");
    }

    #[test]
    fn a_witness_holds_for_its_key_and_secret_only() {
        let secret = lock().secret("00");
        let written = witness(secret.as_str(), &key(1)).unwrap();
        assert_eq!(witness(secret.as_str(), &key(1)).unwrap(), written);
        assert!(holds(secret.as_str(), &written, key(1).public_key()));
        assert!(!holds(secret.as_str(), &written, key(2).public_key()));
        assert!(!holds(lock().secret("01").as_str(), &written, key(1).public_key()));
    }
}
