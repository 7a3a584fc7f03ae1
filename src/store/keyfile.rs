//! Secrets that live in files beside the database: seeds, the node's identity, the card key.
//!
//! A key is made once. The store remembers that it has used it (a fingerprint in `meta`), and from then on
//! a missing or different file is `KeyMissing`: a key made anew would look right and own nothing.
//!
//! Order of effects when a key is made: the file is complete on the medium, then the fingerprint is committed, then
//! the caller gets the key. A power cut before the commit leaves a file that was never used; the next start takes it
//! over.

use super::files::{self, close_to_others};
use super::{Asked, Store, StoreError};
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
    ) -> Asked<Secret> {
        let shared = store.clone();
        store.write(move |tx| self.load_or_create_in(tx, &shared, make))
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
        let path = files.key(self.0);
        let known = self.known_fingerprint(tx)?;
        match (read(&path)?, known) {
            (Some(secret), Some(known)) if self.fingerprint(&secret) == known => Ok(secret),
            (_, Some(_)) => Err(StoreError::KeyMissing(self.0.to_owned())),
            (Some(secret), None) => {
                self.remember(tx, &secret)?;
                Ok(secret)
            }
            (None, None) => {
                let secret = make();
                files.write_durably(&path, secret.expose())?;
                self.remember(tx, &secret)?;
                Ok(secret)
            }
        }
    }

    fn known_fingerprint(self, tx: &Transaction<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(tx
            .query_row("SELECT value FROM meta WHERE key = ?1", [self.record()], |row| row.get(0))
            .optional()?)
    }

    fn remember(self, tx: &Transaction<'_>, secret: &Secret) -> Result<(), StoreError> {
        tx.execute(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)",
            (self.record(), self.fingerprint(secret)),
        )?;
        Ok(())
    }

    fn record(self) -> String {
        format!("key {}", self.0)
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
    pub fn load(self, store: &Store) -> Asked<Option<Secret>> {
        let path = store.0.files.key(self.0);
        store.read(move |_| read(&path))
    }

    /// Puts this in place of the file; after a power cut it is there whole, or the one before it.
    pub fn replace(self, store: &Store, secret: Secret) -> Asked<()> {
        let files = store.0.files.clone();
        store.read(move |_| Ok(files.write_durably(&files.key(self.0), secret.expose())?))
    }
}

/// `None` when there is no file, or none with a key in it.
fn read(path: &Path) -> Result<Option<Secret>, StoreError> {
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
