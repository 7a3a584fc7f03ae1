//! Tokens in the database are sealed (see `vault`): they are money for every reader, and a copy of the database
//! alone, without the key beside it, gives none away.

use super::{KeyFile, Store, StoreError, Vault};

/// The key of the tokens, made with the store's first one.
const KEY: KeyFile = KeyFile("tokens");

/// The row that holds a token.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    Part(i64),
    Operation(i64),
}

impl Store {
    /// What seals tokens. `KeyMissing` as for every key.
    pub(super) async fn vault(&self) -> Result<Vault, StoreError> {
        if let Some(vault) = self.0.vault.get() {
            return Ok(vault.clone());
        }
        let vault = Vault::open(self, KEY).await?;
        Ok(self.0.vault.get_or_init(|| vault).clone())
    }
}

impl Holder {
    pub fn seal(self, vault: &Vault, token: &str) -> Result<Vec<u8>, StoreError> {
        vault.seal(&self.name(), token.as_bytes())
    }

    /// The token of a row, given both of its columns: `plain` is what an older version has written.
    pub fn token(
        self,
        vault: &Vault,
        sealed: Option<Vec<u8>>,
        plain: Option<String>,
    ) -> Result<Option<String>, StoreError> {
        let Some(sealed) = sealed else { return Ok(plain) };
        let token = vault.unseal(&self.name(), &sealed)?;
        let token = String::from_utf8(token.expose().to_vec());
        token.map(Some).map_err(|_| StoreError::unreadable("sealed"))
    }

    fn name(self) -> String {
        match self {
            Holder::Part(id) => format!("token of part {id}"),
            Holder::Operation(id) => format!("token of operation {id}"),
        }
    }
}
