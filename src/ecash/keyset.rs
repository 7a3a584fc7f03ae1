//! Keysets (NUT-01, NUT-02): a mint's public keys, one per amount, and the id that commits to them.
//!
//! A keyset is only ever made from keys that hash to its id, so a mint cannot show different keys to
//! different guests under one name. Refused: points off the curve, ids of another form than version 1 or
//! 2, more than `MAX_KEYS` keys.

use super::curve::PublicKey;
use super::hex;
use crate::units::{Sats, UnixSeconds};
use sha2::{Digest, Sha256};
use std::fmt;

/// Mints publish 32 or 64 keys, one per power of two.
const MAX_KEYS: usize = 128;

/// No amount needs more proofs than it has bits, where the mint has a key per power of two.
const MAX_SPLIT: usize = 64;

/// The name of a keyset. Version 1 is 8 bytes (`00..`), version 2 is 33 bytes (`01..`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeysetId {
    V1([u8; 8]),
    V2([u8; 33]),
}

impl KeysetId {
    pub fn parse(text: &str) -> Option<KeysetId> {
        hex::decode::<8>(text)
            .and_then(|id| KeysetId::from_bytes(&id))
            .or_else(|| KeysetId::from_bytes(&hex::decode::<33>(text)?))
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<KeysetId> {
        match bytes.first()? {
            0 => bytes.try_into().ok().map(KeysetId::V1),
            1 => bytes.try_into().ok().map(KeysetId::V2),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            KeysetId::V1(id) => id,
            KeysetId::V2(id) => id,
        }
    }

    fn v1_of(keys: &[(Sats, PublicKey)]) -> KeysetId {
        let hash: [u8; 32] = keys
            .iter()
            .fold(Sha256::new(), |hash, (_, key)| hash.chain_update(key.to_bytes()))
            .finalize()
            .into();
        let mut id = [0u8; 8];
        for (to, from) in id.iter_mut().skip(1).zip(hash) {
            *to = from;
        }
        KeysetId::V1(id)
    }

    fn v2_of(keys: &[(Sats, PublicKey)], terms: &KeysetTerms, zero_expiry_hashed: bool) -> KeysetId {
        let keys = keys.iter().map(|(amount, key)| format!("{amount}:{key}")).collect::<Vec<_>>().join(",");
        let mut hash = Sha256::new().chain_update(keys).chain_update(format!("|unit:{}", terms.unit));
        if terms.input_fee_ppk > 0 {
            hash.update(format!("|input_fee_ppk:{}", terms.input_fee_ppk));
        }
        match terms.final_expiry {
            Some(UnixSeconds(expiry)) if expiry > 0 => hash.update(format!("|final_expiry:{expiry}")),
            _ if zero_expiry_hashed => hash.update("|final_expiry:0"),
            _ => {}
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [1u8; 33];
        for (to, from) in id.iter_mut().skip(1).zip(hash) {
            *to = from;
        }
        KeysetId::V2(id)
    }
}

impl fmt::Display for KeysetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for KeysetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a token names a keyset: in full, or a version 2 id by its first 8 bytes only (NUT-00).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysetRef {
    Full(KeysetId),
    Short([u8; 8]),
}

impl KeysetRef {
    pub fn from_bytes(bytes: &[u8]) -> Option<KeysetRef> {
        match KeysetId::from_bytes(bytes) {
            Some(id) => Some(KeysetRef::Full(id)),
            None if bytes.first() == Some(&1) => bytes.try_into().ok().map(KeysetRef::Short),
            None => None,
        }
    }

    pub fn full(&self) -> Option<KeysetId> {
        match self {
            KeysetRef::Full(id) => Some(*id),
            KeysetRef::Short(_) => None,
        }
    }

    pub fn parse(text: &str) -> Option<KeysetRef> {
        match hex::decode::<8>(text) {
            Some(id) => KeysetRef::from_bytes(&id),
            None => KeysetId::parse(text).map(KeysetRef::Full),
        }
    }

    /// The one keyset of `known` that is meant. `None` where none fits, and where more than one does:
    /// taking the first would let a mint choose.
    pub fn resolve(&self, known: &[KeysetId]) -> Option<KeysetId> {
        let fits = |id: &&KeysetId| match self {
            KeysetRef::Full(full) => *id == full,
            KeysetRef::Short(short) => matches!(id, KeysetId::V2(_)) && id.as_bytes().starts_with(short),
        };
        let mut found = known.iter().filter(fits);
        let first = found.next()?;
        found.all(|other| other == first).then_some(*first)
    }
}

/// What a mint says about a keyset beside its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysetTerms {
    pub unit: String,
    /// Fee per spent proof in thousandths of the unit.
    pub input_fee_ppk: u64,
    pub final_expiry: Option<UnixSeconds>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysetError {
    #[error("a key of the keyset is not a point of the curve, or its amount is not a number")]
    BadKey,
    #[error("the keyset has no keys, or too many")]
    BadCount,
    #[error("the keys do not belong to the keyset's id")]
    IdMismatch,
}

/// Keys that were checked against their id.
#[derive(Clone, Debug)]
pub struct Keyset {
    id: KeysetId,
    terms: KeysetTerms,
    /// Ascending by amount.
    keys: Vec<(Sats, PublicKey)>,
}

impl Keyset {
    /// Checks `keys` (amount and point, both as the mint's text) against `id`. Mints that were rotated
    /// with an expiry of 0 hash that 0 into a version 2 id, against the specification; those ids are
    /// accepted too.
    pub fn verified<'a>(
        id: KeysetId,
        terms: KeysetTerms,
        keys: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Keyset, KeysetError> {
        let mut parsed = Vec::new();
        for (amount, key) in keys {
            if parsed.len() >= MAX_KEYS {
                return Err(KeysetError::BadCount);
            }
            let amount = amount.parse().ok().filter(|amount| *amount > 0).ok_or(KeysetError::BadKey)?;
            parsed.push((Sats(amount), PublicKey::parse(key).ok_or(KeysetError::BadKey)?));
        }
        parsed.sort_by_key(|(amount, _)| *amount);
        if parsed.is_empty() {
            return Err(KeysetError::BadCount);
        }
        if parsed.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            return Err(KeysetError::BadKey);
        }
        let matches = match id {
            KeysetId::V1(_) => KeysetId::v1_of(&parsed) == id,
            KeysetId::V2(_) => {
                KeysetId::v2_of(&parsed, &terms, false) == id || KeysetId::v2_of(&parsed, &terms, true) == id
            }
        };
        if !matches {
            return Err(KeysetError::IdMismatch);
        }
        Ok(Keyset { id, terms, keys: parsed })
    }

    pub fn id(&self) -> KeysetId {
        self.id
    }

    pub fn terms(&self) -> &KeysetTerms {
        &self.terms
    }

    pub fn key(&self, amount: Sats) -> Option<PublicKey> {
        let index = self.keys.binary_search_by_key(&amount, |(amount, _)| *amount).ok()?;
        self.keys.get(index).map(|(_, key)| *key)
    }

    /// The fewest amounts of this keyset that add up to `total`, ascending. `None` where they cannot, or
    /// not with 64 proofs.
    pub fn split(&self, total: Sats) -> Option<Vec<Sats>> {
        let mut parts = Vec::new();
        let mut rest = total.0;
        for (amount, _) in self.keys.iter().rev() {
            while rest >= amount.0 {
                if parts.len() >= MAX_SPLIT {
                    return None;
                }
                parts.push(*amount);
                rest = rest.checked_sub(amount.0)?;
            }
        }
        parts.reverse();
        (rest == 0 && !parts.is_empty()).then_some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/cashu/nut01-02-keysets.json")).unwrap()
    }

    fn terms(case: &Value) -> KeysetTerms {
        KeysetTerms {
            unit: case["unit"].as_str().unwrap_or("sat").to_owned(),
            input_fee_ppk: case["input_fee_ppk"].as_u64().unwrap_or(0),
            final_expiry: case["final_expiry"].as_u64().map(UnixSeconds),
        }
    }

    fn verify(id: &str, terms: KeysetTerms, keys: &Value) -> Result<Keyset, KeysetError> {
        let keys = keys.as_object().unwrap().iter().map(|(a, k)| (a.as_str(), k.as_str().unwrap()));
        Keyset::verified(KeysetId::parse(id).unwrap(), terms, keys)
    }

    fn large() -> Keyset {
        let v = vectors();
        verify("000f01df73ea149a", terms(&Value::Null), &v["keys"]["large"]).unwrap()
    }

    #[test]
    fn ids_of_the_vectors_match_their_keys() {
        let v = vectors();
        for case in v["ids"].as_array().unwrap() {
            let id = case["id"].as_str().unwrap();
            let keyset = verify(id, terms(case), &v["keys"][case["keys"].as_str().unwrap()]).unwrap();
            assert_eq!(keyset.id().to_string(), id);
        }
    }

    #[test]
    fn another_key_fee_expiry_or_unit_is_another_keyset() {
        let v = vectors();
        let case = &v["ids"][2];
        let id = case["id"].as_str().unwrap();
        let good = terms(case);
        for other in [
            KeysetTerms { unit: "usd".into(), ..good.clone() },
            KeysetTerms { input_fee_ppk: 99, ..good.clone() },
            KeysetTerms { final_expiry: None, ..good.clone() },
        ] {
            assert_eq!(verify(id, other, &v["keys"]["short"]).unwrap_err(), KeysetError::IdMismatch);
        }
        assert_eq!(verify(id, good, &v["keys"]["large"]).unwrap_err(), KeysetError::IdMismatch);
    }

    #[test]
    fn an_expiry_of_zero_may_have_been_hashed_or_not() {
        let v = vectors();
        let mut t = terms(&v["ids"][4]);
        t.final_expiry = Some(UnixSeconds(0));
        let plain = v["ids"][4]["id"].as_str().unwrap();
        assert!(verify(plain, t.clone(), &v["keys"]["large"]).is_ok());

        let keys = large().keys;
        let odd = KeysetId::v2_of(&keys, &t, true).to_string();
        assert_ne!(odd, plain);
        assert!(verify(&odd, t, &v["keys"]["large"]).is_ok());
    }

    #[test]
    fn keys_that_are_no_compressed_points_are_refused() {
        let v = vectors();
        for keys in v["bad_keys"].as_array().unwrap() {
            let refused = verify("00456a94ab4e1c46", terms(&Value::Null), keys).unwrap_err();
            assert_eq!(refused, KeysetError::BadKey);
        }
    }

    #[test]
    fn empty_endless_and_repeated_keys_are_refused() {
        let id = KeysetId::parse("00456a94ab4e1c46").unwrap();
        let key = "03a40f20667ed53513075dc51e715ff2046cad64eb68960632269ba7f0210e38bc";
        let none = Keyset::verified(id, terms(&Value::Null), std::iter::empty());
        assert_eq!(none.unwrap_err(), KeysetError::BadCount);
        let endless = Keyset::verified(id, terms(&Value::Null), std::iter::repeat(("1", key)));
        assert_eq!(endless.unwrap_err(), KeysetError::BadCount);
        let twice = Keyset::verified(id, terms(&Value::Null), [("1", key), ("01", key)].into_iter());
        assert_eq!(twice.unwrap_err(), KeysetError::BadKey);
        for amount in ["0", "-1", "1.0", "18446744073709551616", ""] {
            let bad = Keyset::verified(id, terms(&Value::Null), [(amount, key)].into_iter());
            assert_eq!(bad.unwrap_err(), KeysetError::BadKey, "{amount}");
        }
    }

    #[test]
    fn amounts_split_into_the_fewest_keys_ascending() {
        let keyset = large();
        assert_eq!(keyset.split(Sats(13)), Some(vec![Sats(1), Sats(4), Sats(8)]));
        assert_eq!(keyset.split(Sats(1 << 63)), Some(vec![Sats(1 << 63)]));
        assert_eq!(keyset.split(Sats(u64::MAX)).map(|parts| parts.len()), Some(64));
        assert_eq!(keyset.split(Sats(0)), None);
    }

    #[test]
    fn an_amount_the_keyset_cannot_make_is_refused() {
        let v = vectors();
        let short = verify("00456a94ab4e1c46", terms(&Value::Null), &v["keys"]["short"]).unwrap();
        assert_eq!(short.split(Sats(19)), Some(vec![Sats(1), Sats(2), Sats(8), Sats(8)]));
        assert_eq!(short.split(Sats(100_000)), None);
        assert_eq!(short.split(Sats(u64::MAX)), None);
    }

    #[test]
    fn ids_of_other_forms_are_refused() {
        for text in ["", "00", "I2yN+iRYfkzT", "0256a94ab4e1c466", "01ad268c4d1f5826", "00456a94ab4e1c4"] {
            assert_eq!(KeysetId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_short_id_means_one_known_keyset_or_none() {
        let v = vectors();
        let ids: Vec<KeysetId> = v["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|case| KeysetId::parse(case["id"].as_str().unwrap()).unwrap())
            .collect();
        let short = KeysetRef::parse("015ba18a8adcd02e").unwrap();
        assert_eq!(short.resolve(&ids), Some(ids[2]));
        assert_eq!(short.resolve(&ids[..2]), None);
        let mut twin = [0x5b; 33];
        twin[..8].copy_from_slice(&ids[2].as_bytes()[..8]);
        assert_eq!(short.resolve(&[ids[2], KeysetId::V2(twin)]), None);
        assert_eq!(short.resolve(&[ids[2], ids[2]]), Some(ids[2]));
        assert_eq!(KeysetRef::Full(ids[0]).resolve(&ids), Some(ids[0]));
    }
}
