//! What opens the key files of vouchers: nothing, if they are not sealed; or a Vault, which unwraps the data key that they
//! are sealed with. Refused: making a new data key while files are sealed with another one.
//!
//! Once they are open, a Vault that goes away changes nothing: what it unwrapped is kept in memory, and nowhere else.

#[cfg(feature = "vault")]
mod keeper;
#[cfg(not(feature = "vault"))]
mod no_keeper;
#[cfg(feature = "vault")]
mod server;

use crate::store::StoreError;

/// Keeps the key files open. Clones share everything.
#[derive(Clone)]
pub struct Keeper(#[cfg(feature = "vault")] std::sync::Arc<keeper::KeeperState>);

/// How key files are kept now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperFacts {
    /// As the configuration names it.
    pub provider: &'static str,
    pub is_sealed: bool,
    /// Of the Vault's key, which has wrapped ours.
    pub wrapped_by: Option<u32>,
    /// Why they are sealed, or not as they should be.
    pub trouble: Option<String>,
}

/// Why the data key is not what it should be. No text of it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// There is none, so there is no data key.
    #[error("the keys are in files of this router: there is nothing to wrap anew")]
    NoVault,
    #[error("{0} cannot be read, or holds nothing")]
    NoCredentials(String),
    #[error("the Vault does not answer: {0}")]
    Away(String),
    #[error("the Vault refuses to {0} (status {1})")]
    Refused(&'static str, u16),
    #[error("the Vault's answer to {0} is not what it should be")]
    Unreadable(&'static str),
    #[error("sealing.key is missing, which holds the data key as the Vault has wrapped it")]
    Lost,
    #[error("the key files are sealed with a Vault's help: set provider to 'vault' until they are open")]
    SealedElsewhere,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeeperError {
    pub fn code(&self) -> &'static str {
        match self {
            KeeperError::NoVault => "no_vault",
            KeeperError::Store(error) => error.code(),
            KeeperError::Lost => "KEY_MISSING",
            _ => "vault_unavailable",
        }
    }
}
