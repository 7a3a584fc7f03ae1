//! What a store knows codes by. A stolen copy of the database redeems nothing without the key file beside it.
//!
//! The file holds a key, or several once it was changed: the newest is used for new codes, those before it find and show the
//! codes that were made with them.

use super::{TicketId, VoucherCode};
use crate::config::Tenant;
use crate::hex;
use crate::store::{KeyFile, Secret, Store, StoreError, Vault};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Made with the first voucher.
const KEY: KeyFile = KeyFile("vouchers");
/// Half for the lookup, half for what is sealed.
const HALF: usize = 32;
const WHOLE: usize = HALF * 2;
/// Before each key, once there are several: its number.
const NUMBER: usize = 4;
/// Keys of a file, so that it stays short.
const MOST: usize = 48;
/// The newest ones stay in any case: answers are sealed with them that are kept for days.
const LATEST: u32 = 8;
/// A nonce, the letters, and the proof that nobody has changed them.
const SEALED: usize = 12 + 12 + 16;

/// The newest key first. Debug shows nothing of them.
pub struct CodeKey(Vec<Version>);

struct Version {
    number: u32,
    lookup: Secret,
    vault: Vault,
}

impl CodeKey {
    /// `KeyMissing` as for every key.
    pub async fn open(store: &Store) -> Result<CodeKey, StoreError> {
        let fresh = fresh()?;
        KEY.opened(store).await;
        let key = KEY.load_or_create(store, move || fresh).await?;
        CodeKey::of(&key)
    }

    /// A new key for new codes. Where the file is full, those before it go that have no number of `needed`.
    pub(super) async fn rotate(store: &Store, needed: Vec<u32>) -> Result<CodeKey, StoreError> {
        let fresh = fresh()?;
        let rotated = KEY.replace(store, move |held| {
            let known = keys(held.expose()).ok_or_else(missing)?;
            let newest = known.last().map(|(number, _)| *number).unwrap_or_default();
            let number = newest.checked_add(1).ok_or(StoreError::CounterExhausted)?;
            let is_full = known.len() >= MOST;
            let is_late = |number: u32| newest.saturating_sub(number) < LATEST;
            let kept = known
                .into_iter()
                .filter(|(number, _)| !is_full || is_late(*number) || needed.contains(number));
            let mut file = Zeroizing::new(Vec::with_capacity((NUMBER + WHOLE) * (MOST + 1)));
            for (number, key) in kept.chain([(number, fresh.expose())]) {
                file.extend_from_slice(&number.to_be_bytes());
                file.extend_from_slice(key);
            }
            match file.len() > (NUMBER + WHOLE) * MOST {
                true => Err(StoreError::CounterExhausted),
                false => Ok(Secret::new(file.to_vec())),
            }
        });
        CodeKey::of(&rotated.await?)
    }

    fn of(file: &Secret) -> Result<CodeKey, StoreError> {
        let version = |(number, key): (u32, &[u8])| {
            let (lookup, sealing) = key.split_at_checked(HALF)?;
            Some(Version { number, lookup: Secret::new(lookup.to_vec()), vault: Vault::of_key(sealing)? })
        };
        let versions = keys(file.expose()).ok_or_else(missing)?.into_iter().rev().map(version);
        Ok(CodeKey(versions.collect::<Option<_>>().ok_or_else(missing)?))
    }

    /// The numbers of all keys, the newest first.
    pub fn numbers(&self) -> Vec<u32> {
        self.0.iter().map(|version| version.number).collect()
    }

    fn newest(&self) -> Result<&Version, StoreError> {
        self.0.first().ok_or_else(missing)
    }

    /// Of the newest.
    pub fn number(&self) -> Result<u32, StoreError> {
        Ok(self.newest()?.number)
    }

    /// What a new code is known by: HMAC-SHA-256 of its letters, in hex.
    pub fn hash(&self, code: &VoucherCode) -> Result<String, StoreError> {
        self.newest()?.hash(code)
    }

    /// What a code may be known by, the likeliest first.
    pub fn hashes(&self, code: &VoucherCode) -> Result<Vec<String>, StoreError> {
        self.0.iter().map(|version| version.hash(code)).collect()
    }

    /// The code as it stands in the row of its voucher.
    pub fn seal(&self, tenant: &Tenant, id: TicketId, code: &VoucherCode) -> Result<String, StoreError> {
        self.newest()?.vault.seal(&owner(tenant, id), code.letters()).map(|sealed| hex::encode(&sealed))
    }

    /// `Corrupt` when it was not sealed for this voucher.
    pub fn unseal(&self, tenant: &Tenant, id: TicketId, sealed: &str) -> Result<VoucherCode, StoreError> {
        let damaged = || StoreError::Corrupt("the column sealed cannot be read".to_owned());
        let sealed: [u8; SEALED] = hex::decode(sealed).ok_or_else(damaged)?;
        let letters = self.opened(&owner(tenant, id), &sealed).ok_or_else(damaged)?;
        let code = std::str::from_utf8(letters.expose()).ok().and_then(|letters| letters.parse().ok());
        code.ok_or_else(damaged)
    }

    /// Any text that may hold codes; `owner` says what it is.
    pub fn seal_text(&self, owner: &str, text: &str) -> Result<String, StoreError> {
        self.newest()?.vault.seal(owner, text.as_bytes()).map(|sealed| hex::encode(&sealed))
    }

    /// `Corrupt` when it was not sealed as that.
    pub fn unseal_text(&self, owner: &str, sealed: &str) -> Result<String, StoreError> {
        let damaged = || StoreError::Corrupt("the column answer cannot be read".to_owned());
        let opened = self.opened(owner, &hex::bytes(sealed).ok_or_else(damaged)?).ok_or_else(damaged)?;
        String::from_utf8(opened.expose().to_vec()).map_err(|_| damaged())
    }

    fn opened(&self, owner: &str, sealed: &[u8]) -> Option<Secret> {
        self.0.iter().find_map(|version| version.vault.unseal(owner, sealed).ok())
    }
}

impl Version {
    fn hash(&self, code: &VoucherCode) -> Result<String, StoreError> {
        let mac = Hmac::<Sha256>::new_from_slice(self.lookup.expose()).map_err(|_| missing())?;
        Ok(hex::encode(&mac.chain_update(code.letters()).finalize().into_bytes()))
    }
}

/// The keys of a file with their numbers, the newest last. A file that was never changed is one key.
fn keys(file: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    if file.len() == WHOLE {
        return Some(vec![(1, file)]);
    }
    let one = |key: &'_ [u8]| -> Option<u32> { Some(u32::from_be_bytes(*key.first_chunk::<NUMBER>()?)) };
    let entries = file.chunks(NUMBER + WHOLE).map(|entry| Some((one(entry)?, entry.get(NUMBER..)?)));
    let keys: Vec<(u32, &[u8])> = entries.collect::<Option<_>>()?;
    let is_whole = keys.iter().all(|(_, key)| key.len() == WHOLE) && !keys.is_empty();
    is_whole.then_some(keys)
}

fn fresh() -> Result<Secret, StoreError> {
    let mut fresh = Zeroizing::new([0u8; WHOLE]);
    getrandom::fill(&mut *fresh).map_err(|_| StoreError::NoRandomness)?;
    Ok(Secret::new(fresh.to_vec()))
}

fn missing() -> StoreError {
    StoreError::KeyMissing(KEY.0.to_owned())
}

fn owner(tenant: &Tenant, id: TicketId) -> String {
    format!("voucher {} {id}", tenant.as_str())
}

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(numbers: &[u32]) -> Secret {
        let entry =
            |number: &u32| [&number.to_be_bytes()[..], &[u8::try_from(*number).unwrap(); WHOLE]].concat();
        Secret::new(numbers.iter().flat_map(entry).collect())
    }

    #[test]
    fn a_file_is_one_key_or_several_with_their_numbers() {
        assert_eq!(CodeKey::of(&Secret::new(vec![7; WHOLE])).unwrap().numbers(), [1]);
        assert_eq!(CodeKey::of(&file(&[1, 2, 5])).unwrap().numbers(), [5, 2, 1]);
        for length in [0, 1, WHOLE - 1, WHOLE + 1, WHOLE + NUMBER + 1, 2 * WHOLE] {
            assert!(CodeKey::of(&Secret::new(vec![7; length])).is_err(), "{length}");
        }
    }

    #[test]
    fn what_an_older_key_has_sealed_is_opened_and_found() {
        let (tenant, id) = (Tenant::main(), TicketId::random().unwrap());
        let code = VoucherCode::random().unwrap();
        let old = CodeKey::of(&file(&[1])).unwrap();
        let (hash, sealed) = (old.hash(&code).unwrap(), old.seal(&tenant, id, &code).unwrap());
        let new = CodeKey::of(&file(&[1, 2])).unwrap();
        assert_eq!(new.unseal(&tenant, id, &sealed).unwrap().letters(), code.letters());
        assert_eq!((new.hashes(&code).unwrap()[1].as_str(), new.number().unwrap()), (hash.as_str(), 2));
        assert_ne!(new.hash(&code).unwrap(), hash);
        assert!(new.unseal(&tenant, TicketId::random().unwrap(), &sealed).is_err());
        assert!(CodeKey::of(&file(&[2])).unwrap().unseal(&tenant, id, &sealed).is_err());
    }
}
