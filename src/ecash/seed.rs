//! The words everything is derived from: secrets and blinding factors (NUT-13) and the keys that lock
//! mint quotes (NUT-20). The same words give the same ecash back in any wallet that follows the
//! specification. Nothing in here is ever printed, except the words when asked for.

use super::curve::{PublicKey, SecretKey};
use super::hex;
use super::keyset::KeysetId;
use super::mnemonic;
use crate::store::{self, KeyFile, Store, StoreError};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use std::fmt;

/// What BIP-32 leaves for one kind of child.
const HARDENED: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    #[error("the words are not a valid 12-word BIP-39 seed")]
    BadWords,
    #[error("the system has no randomness")]
    NoRandomness,
    #[error("the counter has no key (exhausted, or one of the 2^-127 that fall outside the group)")]
    NoSuchKey,
}

/// A 12-word seed (BIP-39, no passphrase).
pub struct Seed {
    entropy: [u8; 16],
    /// What PBKDF2 makes of the words; costs 2048 rounds, so it is kept.
    stretched: [u8; 64],
}

impl Seed {
    pub fn generate() -> Result<Seed, SeedError> {
        let mut entropy = [0u8; 16];
        getrandom::fill(&mut entropy).map_err(|_| SeedError::NoRandomness)?;
        Seed::from_entropy(&entropy)
    }

    pub fn from_entropy(entropy: &[u8; 16]) -> Result<Seed, SeedError> {
        let words = mnemonic::words(entropy).join(" ");
        let stretched = mnemonic::stretched(&words).ok_or(SeedError::BadWords)?;
        Ok(Seed { entropy: *entropy, stretched })
    }

    pub fn from_words(words: &str) -> Result<Seed, SeedError> {
        Seed::from_entropy(&mnemonic::entropy(words).ok_or(SeedError::BadWords)?)
    }

    /// The seed of a key file, made if the store has never used one of this name.
    pub async fn of_file(file: KeyFile, store: &Store) -> Result<Seed, StoreError> {
        let fresh = Seed::generate().map_err(|_| StoreError::NoRandomness)?;
        let make = move || store::Secret::new(fresh.entropy().to_vec());
        file.opened(store).await;
        let key = file.load_or_create(store, make).await?;
        Seed::of_key(&key).ok_or_else(|| StoreError::KeyMissing(file.0.to_owned()))
    }

    /// Reads what a key file holds.
    pub fn of_key(key: &store::Secret) -> Option<Seed> {
        Seed::from_entropy(key.expose().try_into().ok()?).ok()
    }

    /// What the key file holds.
    pub fn entropy(&self) -> [u8; 16] {
        self.entropy
    }

    /// The twelve words, for the operator's backup.
    pub fn words(&self) -> String {
        mnemonic::words(&self.entropy).join(" ")
    }

    /// The secret (its text) and blinding factor of one counter of one keyset (NUT-13).
    pub fn secret(&self, keyset: &KeysetId, counter: u32) -> Result<(ProofSecret, SecretKey), SeedError> {
        match keyset {
            KeysetId::V1(id) => self.secret_by_path(*id, counter),
            KeysetId::V2(id) => self.secret_by_hmac(id, counter),
        }
    }

    /// The key that locks mint quote number `index` (NUT-20), `m/129373'/20'/0'/0'/{index}`.
    pub fn lock_key(&self, index: u32) -> Result<SecretKey, SeedError> {
        if index >= HARDENED {
            return Err(SeedError::NoSuchKey);
        }
        let node = Node::root(&self.stretched)?
            .hardened(129_373)?
            .hardened(20)?
            .hardened(0)?
            .hardened(0)?
            .child(index)?;
        Ok(node.key)
    }

    fn secret_by_hmac(&self, id: &[u8; 33], counter: u32) -> Result<(ProofSecret, SecretKey), SeedError> {
        let derive = |kind: u8| -> Result<[u8; 32], SeedError> {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(&self.stretched).map_err(|_| SeedError::NoSuchKey)?;
            mac.update(b"Cashu_KDF_HMAC_SHA256");
            mac.update(id);
            mac.update(&u64::from(counter).to_be_bytes());
            mac.update(&[kind]);
            Ok(mac.finalize().into_bytes().into())
        };
        let r = SecretKey::reduced_from(&derive(1)?).ok_or(SeedError::NoSuchKey)?;
        Ok((ProofSecret(hex::encode(&derive(0)?)), r))
    }

    fn secret_by_path(&self, id: [u8; 8], counter: u32) -> Result<(ProofSecret, SecretKey), SeedError> {
        let account = u64::from_be_bytes(id).checked_rem(u64::from(HARDENED) - 1);
        let account = account.and_then(|n| u32::try_from(n).ok()).ok_or(SeedError::NoSuchKey)?;
        let node = Node::root(&self.stretched)?
            .hardened(129_372)?
            .hardened(0)?
            .hardened(account)?
            .hardened(counter)?;
        let secret = node.child(0)?.key.to_bytes();
        Ok((ProofSecret(hex::encode(&secret)), node.child(1)?.key))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The text that, with the mint's signature, is money. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProofSecret(pub(super) String);

impl ProofSecret {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The point the mint knows it by once it is spent (NUT-07).
    pub fn y(&self) -> PublicKey {
        super::curve::hash_to_curve(self.0.as_bytes())
    }
}

impl fmt::Debug for ProofSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofSecret(..)")
    }
}

/// A private BIP-32 node.
struct Node {
    key: SecretKey,
    chain: [u8; 32],
}

impl Node {
    fn root(seed: &[u8; 64]) -> Result<Node, SeedError> {
        let (key, chain) = hmac_sha512(b"Bitcoin seed", &[seed])?;
        Ok(Node { key: SecretKey::from_bytes(&key).ok_or(SeedError::NoSuchKey)?, chain })
    }

    fn hardened(&self, index: u32) -> Result<Node, SeedError> {
        let index = index.checked_add(HARDENED).ok_or(SeedError::NoSuchKey)?;
        self.derive(&[&[0], &self.key.to_bytes(), &index.to_be_bytes()])
    }

    fn child(&self, index: u32) -> Result<Node, SeedError> {
        self.derive(&[&self.key.public_key().to_bytes(), &index.to_be_bytes()])
    }

    fn derive(&self, message: &[&[u8]]) -> Result<Node, SeedError> {
        let (tweak, chain) = hmac_sha512(&self.chain, message)?;
        Ok(Node { key: self.key.tweaked(&tweak).ok_or(SeedError::NoSuchKey)?, chain })
    }
}

fn hmac_sha512(key: &[u8], message: &[&[u8]]) -> Result<([u8; 32], [u8; 32]), SeedError> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).map_err(|_| SeedError::NoSuchKey)?;
    message.iter().for_each(|part| mac.update(part));
    let out = mac.finalize().into_bytes();
    let half = |range: &[u8]| range.try_into().map_err(|_| SeedError::NoSuchKey);
    let (left, right) = out.split_at(32);
    Ok((half(left)?, half(right)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/cashu/nut13-20-seed.json")).unwrap()
    }

    fn seed() -> Seed {
        Seed::from_words(vectors()["mnemonic"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn secrets_and_blinding_factors_match_the_vectors() {
        for case in vectors()["secrets"].as_array().unwrap() {
            let id = KeysetId::parse(case["id"].as_str().unwrap()).unwrap();
            for (counter, secret) in case["secret"].as_array().unwrap().iter().enumerate() {
                let (ours, r) = seed().secret(&id, counter.try_into().unwrap()).unwrap();
                assert_eq!(ours.as_str(), secret.as_str().unwrap());
                assert_eq!(hex::encode(&r.to_bytes()), case["r"][counter].as_str().unwrap());
            }
        }
    }

    #[test]
    fn lock_keys_match_the_vectors() {
        for (index, key) in vectors()["lock_keys"].as_array().unwrap().iter().enumerate() {
            let ours = seed().lock_key(index.try_into().unwrap()).unwrap();
            assert_eq!(ours.public_key().to_string(), key.as_str().unwrap());
        }
    }

    #[test]
    fn entropy_and_words_give_the_same_seed() {
        let seed = Seed::from_entropy(&[7; 16]).unwrap();
        assert_eq!(seed.entropy(), [7; 16]);
        assert_eq!(seed.words().split(' ').count(), 12);
        let again = Seed::from_words(&seed.words()).unwrap();
        assert_eq!(again.entropy(), [7; 16]);
        assert_eq!(again.stretched, seed.stretched);
    }

    #[test]
    fn two_seeds_are_never_the_same() {
        assert_ne!(Seed::generate().unwrap().words(), Seed::generate().unwrap().words());
    }

    #[test]
    fn wrong_words_are_refused() {
        let words = seed().words();
        for bad in ["", "half depart", &words.replace("half", "humble"), &format!("{words} {words}")] {
            assert_eq!(Seed::from_words(bad).unwrap_err(), SeedError::BadWords, "{bad}");
        }
    }

    #[test]
    fn counters_end_where_bip32_ends() {
        let v1 = KeysetId::parse("009a1f293253e41e").unwrap();
        assert!(seed().secret(&v1, HARDENED - 1).is_ok());
        assert_eq!(seed().secret(&v1, HARDENED).unwrap_err(), SeedError::NoSuchKey);
        assert_eq!(seed().lock_key(HARDENED).unwrap_err(), SeedError::NoSuchKey);
    }

    #[test]
    fn nothing_of_the_seed_shows_in_debug_output() {
        let id = KeysetId::parse("009a1f293253e41e").unwrap();
        let shown = format!("{:?} {:?}", seed(), seed().secret(&id, 0).unwrap());
        assert_eq!(shown, "Seed(..) (ProofSecret(..), SecretKey(..))");
    }
}
