//! Without a Vault: key files are as they are.

use super::{Keeper, KeeperError, KeeperFacts};
use crate::calls::Tls;
use crate::config::Config;
use crate::store::{Store, StoreError};
use std::sync::Arc;
use tokio::sync::watch;

impl Keeper {
    pub async fn start(_: &Store, _: watch::Receiver<Arc<Config>>, _: Tls) -> Result<Keeper, StoreError> {
        Ok(Keeper())
    }

    pub fn facts(&self) -> KeeperFacts {
        KeeperFacts { provider: "file", is_sealed: false, wrapped_by: None, trouble: None }
    }

    pub async fn rotate(&self) -> Result<u32, KeeperError> {
        Err(KeeperError::NoVault)
    }

    pub async fn rewrap(&self) -> Result<u32, KeeperError> {
        Err(KeeperError::NoVault)
    }
}
