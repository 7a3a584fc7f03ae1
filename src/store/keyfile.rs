//! Secrets that live in files beside the database: seeds, the node's identity, the card key.
//!
//! A key is made once. The store remembers that it has used it (a fingerprint in `meta`), and from then on
//! a missing or different file is `KeyMissing`: a key made anew would look right and own nothing.
//!
//! Order of effects when a key is made: the file is complete on the medium, then the fingerprint is committed, then
//! the caller gets the key. A power cut before the commit leaves a file that was never used; the next start takes it
//! over.

use super::files::{self, close_to_others};
use super::{Store, StoreAnswer, StoreError};
use rusqlite::{OptionalExtension, Transaction};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// The longest key file that is read (bytes).
const LONGEST: u64 = 4096;

/// The bytes of a key: never printed, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the arithmetic that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key by its name: `<name>.key` in the state directory.
#[derive(Clone, Copy, Debug)]
pub struct KeyFile(pub &'static str);

impl KeyFile {
    /// The key, made with `make` (whose result must not be empty) if the store has never used one of this
    /// name. Errors: `KeyMissing` as above, `Full`, and what the file system says.
    pub fn load_or_create(
        self,
        store: &Store,
        make: impl FnOnce() -> Secret + Send + 'static,
    ) -> StoreAnswer<Secret> {
        let shared = store.clone();
        store.write(move |tx| self.load_or_create_in(tx, &shared, make))
    }

    /// Puts another key in place of the one that is used, which `change` is given. A power cut leaves the one or the other,
    /// and the store knows both until it is over.
    pub async fn replace(
        self,
        store: &Store,
        change: impl FnOnce(&Secret) -> Result<Secret, StoreError> + Send + 'static,
    ) -> Result<Secret, StoreError> {
        let (first, second) = (store.clone(), store.clone());
        let next = store.write(move |tx| {
            let held = self.held(&first)?.ok_or_else(|| self.missing())?;
            self.settle(tx, &held)?;
            let next = change(&held)?;
            self.remember(tx, &self.next_record(), &next)?;
            Ok(next)
        });
        let next = next.await?;
        store
            .write(move |tx| {
                let written = second.written(self, &next)?;
                let files = &second.0.files;
                files.write_durably(&files.key(self.0), written.expose())?;
                self.settle(tx, &next)?;
                Ok(next)
            })
            .await
    }

    /// Returns when the file can be read, where it is sealed.
    pub async fn opened(self, store: &Store) {
        #[cfg(feature = "vault")]
        store.0.seal.opened(self).await;
        #[cfg(not(feature = "vault"))]
        let _ = store;
    }

    /// What the file holds.
    fn held(self, store: &Store) -> Result<Option<Secret>, StoreError> {
        let held = read(&store.0.files.key(self.0))?;
        held.map(|held| store.opened(self, held)).transpose()
    }

    /// Makes the key that is in the file the one that is known. `KeyMissing`: it is neither the known one nor the one that
    /// was to follow it.
    fn settle(self, tx: &Transaction<'_>, held: &Secret) -> Result<(), StoreError> {
        let print = self.fingerprint(held);
        if self.known(tx, &self.record())?.as_ref() == Some(&print) {
            return Ok(());
        }
        if self.known(tx, &self.next_record())?.as_ref() != Some(&print) {
            return Err(self.missing());
        }
        self.remember(tx, &self.record(), held)?;
        tx.execute("DELETE FROM meta WHERE key = ?1", [self.next_record()])?;
        Ok(())
    }

    fn missing(self) -> StoreError {
        StoreError::KeyMissing(self.0.to_owned())
    }

    /// The key of a state directory as it stands there, without its store; `None` if there is none.
    pub fn stored(self, state_dir: &Path) -> Result<Option<Secret>, StoreError> {
        read(&files::key(state_dir, self.0))
    }

    fn load_or_create_in(
        self,
        tx: &Transaction<'_>,
        store: &Store,
        make: impl FnOnce() -> Secret,
    ) -> Result<Secret, StoreError> {
        let files = &store.0.files;
        match (self.held(store)?, self.known(tx, &self.record())?) {
            (Some(secret), Some(_)) => {
                self.settle(tx, &secret)?;
                Ok(secret)
            }
            (None, Some(_)) => Err(self.missing()),
            (Some(secret), None) => {
                self.remember(tx, &self.record(), &secret)?;
                Ok(secret)
            }
            (None, None) => {
                let secret = make();
                files.write_durably(&files.key(self.0), store.written(self, &secret)?.expose())?;
                self.remember(tx, &self.record(), &secret)?;
                Ok(secret)
            }
        }
    }

    fn known(self, tx: &Transaction<'_>, record: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(tx.query_row("SELECT value FROM meta WHERE key = ?1", [record], |row| row.get(0)).optional()?)
    }

    fn remember(self, tx: &Transaction<'_>, record: &str, secret: &Secret) -> Result<(), StoreError> {
        tx.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)",
            (record, self.fingerprint(secret)),
        )?;
        Ok(())
    }

    /// Under which name the store knows it.
    pub(super) fn record(self) -> String {
        format!("key {}", self.0)
    }

    /// Of the one that is to follow it.
    fn next_record(self) -> String {
        format!("next key {}", self.0)
    }

    /// Eight bytes: enough to tell files apart, nothing to find a key with.
    fn fingerprint(self, secret: &Secret) -> Vec<u8> {
        let digest = Sha256::new().chain_update(self.record()).chain_update(secret.expose()).finalize();
        digest.iter().take(8).copied().collect()
    }
}

/// A key by its name, like [`KeyFile`], that may be changed or made anew at any time: it is worth nothing by itself.
#[derive(Clone, Copy, Debug)]
pub struct RenewableKey(pub &'static str);

impl RenewableKey {
    /// What the file holds; `None` if there is none.
    pub fn load(self, store: &Store) -> StoreAnswer<Option<Secret>> {
        let path = store.0.files.key(self.0);
        store.read(move |_| read(&path))
    }

    /// Puts this in place of the file; after a power cut it is there whole, or the one before it.
    pub fn replace(self, store: &Store, secret: Secret) -> StoreAnswer<()> {
        let files = store.0.files.clone();
        store.read(move |_| Ok(files.write_durably(&files.key(self.0), secret.expose())?))
    }
}

#[cfg(feature = "vault")]
impl Store {
    fn opened(&self, file: KeyFile, held: Secret) -> Result<Secret, StoreError> {
        self.0.seal.read(file, held)
    }

    fn written(&self, file: KeyFile, secret: &Secret) -> Result<Secret, StoreError> {
        self.0.seal.written(file, secret)
    }
}

/// Without a Vault a file is as it is.
#[cfg(not(feature = "vault"))]
impl Store {
    fn opened(&self, _: KeyFile, held: Secret) -> Result<Secret, StoreError> {
        Ok(held)
    }

    fn written(&self, _: KeyFile, secret: &Secret) -> Result<Secret, StoreError> {
        Ok(secret.clone())
    }

    pub fn is_sealed(&self) -> bool {
        false
    }

    pub async fn has_sealed_keys(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// `None` when there is no file, or none with a key in it.
pub(super) fn read(path: &Path) -> Result<Option<Secret>, StoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    close_to_others(path, 0o600)?;
    if file.metadata()?.len() > LONGEST {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "a key file is too long").into());
    }
    // All of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * 4096));
    let length = file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok((length > 0).then_some(Secret(bytes)))
}
