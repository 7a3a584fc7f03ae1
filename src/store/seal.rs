//! Key files that are sealed: what they hold is encrypted with a data key that is on this router only in a form that only a
//! Vault unwraps. So a router that was stolen redeems nothing, once the Vault refuses it.
//!
//! Sealed are the files of vouchers: what their codes are known by, and the seed of the keys that ecash is locked to. Until
//! the data key is there, whoever needs one of them waits, or is told `SEALED`.
//!
//! A data key is changed in this order: its wrapped form is on the medium, then files are sealed with it, then the wrapped
//! form of the one before goes. A power cut in between leaves files of either, and both keys.

use super::keyfile::{self, KeyFile, Secret};
use super::{Store, StoreError, Vault};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::watch;

/// The files that are sealed where a Vault is configured.
const SEALED: [KeyFile; 2] = [KeyFile("vouchers"), KeyFile("backing")];
/// What such a file begins with, before the name of its data key.
const MARK: &[u8] = b"tollgated sealed 1\n";
const NAME: usize = 8;

/// A key that files are sealed with.
struct DataKey {
    name: [u8; NAME],
    vault: Vault,
}

#[derive(Clone)]
enum State {
    /// Files are as they are.
    Plain,
    Sealed,
    /// The current key first.
    Open(Arc<Vec<DataKey>>),
}

/// Whether key files can be read; clones share it.
#[derive(Clone)]
pub(super) struct Seal(watch::Sender<State>);

impl Default for Seal {
    fn default() -> Seal {
        Seal(watch::Sender::new(State::Plain))
    }
}

impl DataKey {
    fn of(secret: &Secret) -> Option<DataKey> {
        let digest = Sha256::new().chain_update("data key").chain_update(secret.expose()).finalize();
        let name = digest.first_chunk::<NAME>().copied()?;
        Some(DataKey { name, vault: Vault::of_key(secret.expose())? })
    }
}

impl Seal {
    fn is_sealed(&self) -> bool {
        matches!(*self.0.borrow(), State::Sealed)
    }

    /// Returns when the files of this name can be read.
    pub(super) async fn opened(&self, file: KeyFile) {
        if SEALED.iter().any(|sealed| sealed.0 == file.0) {
            let mut state = self.0.subscribe();
            // The sender is ours.
            drop(state.wait_for(|state| !matches!(state, State::Sealed)).await);
        }
    }

    /// What a file holds: opened, where it is sealed.
    pub(super) fn read(&self, file: KeyFile, held: Secret) -> Result<Secret, StoreError> {
        let Some(rest) = held.expose().strip_prefix(MARK) else { return Ok(held) };
        let State::Open(keys) = &*self.0.borrow() else { return Err(StoreError::Sealed) };
        let unknown = || StoreError::KeyMissing(file.0.to_owned());
        let (name, sealed) = rest.split_first_chunk::<NAME>().ok_or_else(unknown)?;
        let key = keys.iter().find(|key| key.name == *name).ok_or_else(unknown)?;
        key.vault.unseal(&file.record(), sealed).map_err(|_| unknown())
    }

    /// As a file is to hold it.
    pub(super) fn written(&self, file: KeyFile, secret: &Secret) -> Result<Secret, StoreError> {
        if !SEALED.iter().any(|sealed| sealed.0 == file.0) {
            return Ok(secret.clone());
        }
        match &*self.0.borrow() {
            State::Plain => Ok(secret.clone()),
            State::Sealed => Err(StoreError::Sealed),
            State::Open(keys) => {
                let key = keys.first().ok_or(StoreError::Sealed)?;
                let sealed = key.vault.seal(&file.record(), secret.expose())?;
                Ok(Secret::new([MARK, &key.name, &sealed].concat()))
            }
        }
    }
}

impl Store {
    /// Whether what opens the key files has not come yet.
    pub fn is_sealed(&self) -> bool {
        self.0.seal.is_sealed()
    }

    /// From now on key files are sealed, and what opens them is not here. Changes nothing if they are open.
    pub fn seal_keys(&self) {
        self.0.seal.0.send_if_modified(|state| {
            let was_plain = matches!(state, State::Plain);
            if was_plain {
                *state = State::Sealed;
            }
            was_plain
        });
    }

    /// Whether there is a file that only a data key opens.
    pub async fn has_sealed_keys(&self) -> Result<bool, StoreError> {
        let files = self.0.files.clone();
        let is_sealed = move |file: &KeyFile| {
            let held = keyfile::read(&files.key(file.0))?;
            Ok::<_, StoreError>(held.is_some_and(|held| held.expose().starts_with(MARK)))
        };
        self.read(move |_| SEALED.iter().try_fold(false, |found, file| Ok(found || is_sealed(file)?))).await
    }

    /// These data keys are there, the current one first; files that are not sealed with it are, from now on.
    pub async fn open_keys(&self, keys: &[Secret]) -> Result<(), StoreError> {
        let keys: Option<Vec<DataKey>> = keys.iter().map(DataKey::of).collect();
        let keys = keys.filter(|keys| !keys.is_empty()).ok_or(StoreError::Sealed)?;
        self.0.seal.0.send_replace(State::Open(Arc::new(keys)));
        self.write_keys_anew().await
    }

    /// Key files are as they are from now on. `Sealed` where one is, and what opens it has not come.
    pub async fn unseal_for_good(&self) -> Result<(), StoreError> {
        let (files, seal) = (self.0.files.clone(), self.0.seal.clone());
        self.read(move |_| {
            for file in SEALED {
                let path = files.key(file.0);
                let Some(held) = keyfile::read(&path)? else { continue };
                if held.expose().starts_with(MARK) {
                    files.write_durably(&path, seal.read(file, held)?.expose())?;
                }
            }
            seal.0.send_replace(State::Plain);
            Ok(())
        })
        .await
    }

    async fn write_keys_anew(&self) -> Result<(), StoreError> {
        let (files, seal) = (self.0.files.clone(), self.0.seal.clone());
        self.read(move |_| {
            for file in SEALED {
                let path = files.key(file.0);
                let Some(held) = keyfile::read(&path)? else { continue };
                let current = match &*seal.0.borrow() {
                    State::Open(keys) => keys.first().map(|key| [MARK, &key.name].concat()),
                    _ => None,
                };
                if current.is_some_and(|current| !held.expose().starts_with(&current)) {
                    let secret = seal.read(file, held)?;
                    files.write_durably(&path, seal.written(file, &secret)?.expose())?;
                }
            }
            Ok(())
        })
        .await
    }
}
