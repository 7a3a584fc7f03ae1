//! Secrets in the database, readable only with a key that is a file beside it: a stolen copy of the database
//! alone gives none away.
//!
//! ChaCha20-Poly1305 with a random nonce in front. What a secret belongs to is authenticated with it, so that
//! one put into another row is not opened.

use super::{KeyFile, Secret, Store, StoreError};
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305, NONCE_LEN};
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;

/// Seals and opens with one key; clones share it.
#[derive(Clone)]
pub struct Vault(Arc<LessSafeKey>);

impl Vault {
    /// The vault of a key file, which is made with the store's first secret. `KeyMissing` as for every key.
    pub async fn open(store: &Store, file: KeyFile) -> Result<Vault, StoreError> {
        let mut fresh = Zeroizing::new([0u8; KEY_LEN]);
        getrandom::fill(&mut *fresh).map_err(|_| StoreError::NoRandomness)?;
        let key = file.load_or_create(store, move || Secret::new(fresh.to_vec())).await?;
        Vault::of_key(key.expose()).ok_or_else(|| StoreError::KeyMissing(file.0.to_owned()))
    }

    /// The vault of a key of 32 bytes; `None` where it has another length.
    pub fn of_key(key: &[u8]) -> Option<Vault> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).ok()?;
        Some(Vault(Arc::new(LessSafeKey::new(key))))
    }

    /// `owner` names the row that it is for.
    pub fn seal(&self, owner: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| StoreError::NoRandomness)?;
        // All the room at once: a vector that grows leaves copies behind.
        let mut sealed = Vec::with_capacity(secret.len().saturating_add(NONCE_LEN + 16));
        sealed.extend_from_slice(secret);
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, Aad::from(owner.as_bytes()), &mut sealed)
            .map_err(|_| StoreError::unreadable("sealed"))?;
        sealed.splice(0..0, nonce);
        Ok(sealed)
    }

    /// `Corrupt` when it was not sealed by this vault for this owner.
    pub fn unseal(&self, owner: &str, sealed: &[u8]) -> Result<Secret, StoreError> {
        let damaged = || StoreError::unreadable("sealed");
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(owner.as_bytes()), &mut plain);
        Ok(Secret::new(opened.map_err(|_| damaged())?.to_vec()))
    }
}
