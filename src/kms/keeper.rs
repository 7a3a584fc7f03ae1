//! Keeps the key files open, whatever becomes of the Vault meanwhile.

use super::server::{VaultSession, Wrapped};
use super::{Keeper, KeeperError, KeeperFacts};
use crate::calls::Tls;
use crate::config::{Config, VaultConfig};
use crate::store::{RenewableKey, Secret, Store, StoreError};
use crate::task;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{watch, Notify};
use tokio::time::timeout;

/// The wrapped data key, a line each; the first one is the current one, others are there while files are sealed anew.
const WRAPPED: RenewableKey = RenewableKey("sealing");
/// How long a start waits for the Vault.
const AT_START: Duration = Duration::from_secs(3);
/// How soon a Vault that was away is asked again: at first, and at most.
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(15);

pub(super) struct KeeperState {
    store: Store,
    config: watch::Receiver<Arc<Config>>,
    tls: Tls,
    /// One thing at a time is done with the data key.
    alone: tokio::sync::Mutex<()>,
    told: Mutex<Told>,
    tried: Notify,
}

#[derive(Default)]
struct Told {
    trouble: Option<String>,
    wrapped_by: Option<u32>,
}

impl Keeper {
    /// Comes before anybody reads a key. Waits a moment for the Vault, and goes on without it.
    pub async fn start(
        store: &Store,
        config: watch::Receiver<Arc<Config>>,
        tls: Tls,
    ) -> Result<Keeper, StoreError> {
        let has_vault = config.borrow().keys.is_some();
        let (alone, told, tried) = Default::default();
        let keeper = Keeper(Arc::new(KeeperState { store: store.clone(), config, tls, alone, told, tried }));
        if has_vault || store.has_sealed_keys().await? {
            store.seal_keys();
        }
        let own = keeper.clone();
        task::spawn(async move { own.keep_open().await });
        let _ = timeout(AT_START, keeper.0.tried.notified()).await;
        Ok(keeper)
    }

    pub fn facts(&self) -> KeeperFacts {
        let told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let provider = if self.vault().is_some() { "vault" } else { "file" };
        KeeperFacts {
            provider,
            is_sealed: self.0.store.is_sealed(),
            wrapped_by: told.wrapped_by,
            trouble: told.trouble.clone(),
        }
    }

    /// Seals the files with a new data key. Answers the version of the Vault's key that has wrapped it.
    pub async fn rotate(&self) -> Result<u32, KeeperError> {
        let vault = self.vault().ok_or(KeeperError::NoVault)?;
        let _alone = self.0.alone.lock().await;
        let before = self.wrapped().await?;
        if self.0.store.is_sealed() {
            return Err(StoreError::Sealed.into());
        }
        let session = VaultSession::sign_in(&vault, &self.0.tls).await?;
        let (key, wrapped) = session.data_key().await?;
        let mut keys = vec![key.clone()];
        for old in &before {
            keys.push(session.decrypt(old).await?);
        }
        let both: Vec<Wrapped> = [wrapped.clone()].into_iter().chain(before).collect();
        self.keep(&both).await?;
        self.0.store.open_keys(&keys).await?;
        self.keep(&[wrapped]).await?;
        self.0.store.open_keys(&[key]).await?;
        session.end().await;
        Ok(self.facts().wrapped_by.unwrap_or_default())
    }

    /// Has the data key wrapped with the newest version of the Vault's key, which it answers.
    pub async fn rewrap(&self) -> Result<u32, KeeperError> {
        let vault = self.vault().ok_or(KeeperError::NoVault)?;
        let _alone = self.0.alone.lock().await;
        let before = self.wrapped().await?;
        if before.is_empty() {
            return Err(KeeperError::Lost);
        }
        let session = VaultSession::sign_in(&vault, &self.0.tls).await?;
        let mut after = Vec::new();
        for old in &before {
            after.push(session.rewrap(old).await?);
        }
        self.keep(&after).await?;
        session.end().await;
        Ok(self.facts().wrapped_by.unwrap_or_default())
    }

    fn vault(&self) -> Option<VaultConfig> {
        self.0.config.borrow().keys.clone()
    }

    async fn keep_open(&self) {
        let mut config = self.0.config.clone();
        let mut pause = SOON;
        loop {
            config.mark_unchanged();
            let settled = self.settle().await;
            self.0.tried.notify_one();
            let changed = match self.note(settled.err()) {
                false => {
                    pause = SOON;
                    config.changed().await
                }
                true => {
                    let waited = timeout(with_jitter(pause), config.changed()).await;
                    pause = pause.saturating_mul(2).min(SELDOM);
                    waited.unwrap_or(Ok(()))
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Whether something is wrong. Says so once.
    fn note(&self, error: Option<KeeperError>) -> bool {
        let trouble = error.map(|error| error.to_string());
        let is_wrong = trouble.is_some();
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.trouble != trouble {
            match &trouble {
                Some(trouble) => log::error!("keys: {trouble}; trying again"),
                None => log::info!("keys: what was wrong is over"),
            }
        }
        told.trouble = trouble;
        is_wrong
    }

    /// Brings the files in line with the configuration.
    async fn settle(&self) -> Result<(), KeeperError> {
        let store = &self.0.store;
        let Some(vault) = self.vault() else {
            return match store.unseal_for_good().await {
                Err(StoreError::Sealed) => Err(KeeperError::SealedElsewhere),
                done => Ok(done?),
            };
        };
        store.seal_keys();
        match store.is_sealed() {
            true => self.open(&vault).await,
            false => Ok(()),
        }
    }

    async fn open(&self, vault: &VaultConfig) -> Result<(), KeeperError> {
        let _alone = self.0.alone.lock().await;
        let known = self.wrapped().await?;
        if known.is_empty() && self.0.store.has_sealed_keys().await? {
            return Err(KeeperError::Lost);
        }
        let session = VaultSession::sign_in(vault, &self.0.tls).await?;
        let mut keys = Vec::new();
        for wrapped in &known {
            keys.push(session.decrypt(wrapped).await?);
        }
        if known.is_empty() {
            let (key, wrapped) = session.data_key().await?;
            self.keep(&[wrapped]).await?;
            keys.push(key);
        }
        self.0.store.open_keys(&keys).await?;
        log::info!("keys: the key files are open");
        session.end().await;
        Ok(())
    }

    async fn wrapped(&self) -> Result<Vec<Wrapped>, KeeperError> {
        let Some(file) = WRAPPED.load(&self.0.store).await? else { return Ok(Vec::new()) };
        let text = std::str::from_utf8(file.expose()).map_err(|_| KeeperError::Lost)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let wrapped: Vec<Wrapped> =
            lines.map(Wrapped::parse).collect::<Option<_>>().ok_or(KeeperError::Lost)?;
        self.note_version(&wrapped);
        Ok(wrapped)
    }

    async fn keep(&self, wrapped: &[Wrapped]) -> Result<(), KeeperError> {
        self.0.store.note_change_elsewhere().await?;
        let lines: String = wrapped.iter().map(|one| format!("{}\n", one.as_str())).collect();
        WRAPPED.replace(&self.0.store, Secret::new(lines.into_bytes())).await?;
        self.note_version(wrapped);
        Ok(())
    }

    fn note_version(&self, wrapped: &[Wrapped]) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.wrapped_by = wrapped.first().and_then(Wrapped::version);
    }
}

/// Up to a quarter longer, so that not all routers come at once to a Vault that is back.
fn with_jitter(pause: Duration) -> Duration {
    let mut byte = [0u8; 1];
    let _ = getrandom::fill(&mut byte);
    pause.saturating_add(pause.saturating_mul(u32::from(byte[0])) / 1024)
}
