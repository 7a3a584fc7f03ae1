//! What a store knows codes by. A stolen copy of the database redeems nothing without the key file beside it.

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
/// A nonce, the letters, and the proof that nobody has changed them.
const SEALED: usize = 12 + 12 + 16;

/// Debug shows nothing of it.
pub struct CodeKey {
    lookup: Secret,
    vault: Vault,
}

impl CodeKey {
    /// `KeyMissing` as for every key.
    pub async fn open(store: &Store) -> Result<CodeKey, StoreError> {
        let mut fresh = Zeroizing::new([0u8; HALF * 2]);
        getrandom::fill(&mut *fresh).map_err(|_| StoreError::NoRandomness)?;
        let key = KEY.load_or_create(store, move || Secret::new(fresh.to_vec())).await?;
        let missing = || StoreError::KeyMissing(KEY.0.to_owned());
        let (lookup, sealing) = key.expose().split_at_checked(HALF).ok_or_else(missing)?;
        Ok(CodeKey {
            lookup: Secret::new(lookup.to_vec()),
            vault: Vault::of_key(sealing).ok_or_else(missing)?,
        })
    }

    /// HMAC-SHA-256 of the code's letters, in hex.
    pub fn hash(&self, code: &VoucherCode) -> Result<String, StoreError> {
        let mac = Hmac::<Sha256>::new_from_slice(self.lookup.expose());
        let mac = mac.map_err(|_| StoreError::KeyMissing(KEY.0.to_owned()))?;
        Ok(hex::encode(&mac.chain_update(code.letters()).finalize().into_bytes()))
    }

    /// The code as it stands in the row of its voucher.
    pub fn seal(&self, tenant: &Tenant, id: TicketId, code: &VoucherCode) -> Result<String, StoreError> {
        self.vault.seal(&owner(tenant, id), code.letters()).map(|sealed| hex::encode(&sealed))
    }

    /// `Corrupt` when it was not sealed for this voucher.
    pub fn unseal(&self, tenant: &Tenant, id: TicketId, sealed: &str) -> Result<VoucherCode, StoreError> {
        let damaged = || StoreError::Corrupt("the column sealed cannot be read".to_owned());
        let sealed: [u8; SEALED] = hex::decode(sealed).ok_or_else(damaged)?;
        let letters = self.vault.unseal(&owner(tenant, id), &sealed)?;
        let code = std::str::from_utf8(letters.expose()).ok().and_then(|letters| letters.parse().ok());
        code.ok_or_else(damaged)
    }

    /// Any text that may hold codes; `owner` says what it is.
    pub fn seal_text(&self, owner: &str, text: &str) -> Result<String, StoreError> {
        self.vault.seal(owner, text.as_bytes()).map(|sealed| hex::encode(&sealed))
    }

    /// `Corrupt` when it was not sealed as that.
    pub fn unseal_text(&self, owner: &str, sealed: &str) -> Result<String, StoreError> {
        let damaged = || StoreError::Corrupt("the column answer cannot be read".to_owned());
        let opened = self.vault.unseal(owner, &hex::bytes(sealed).ok_or_else(damaged)?)?;
        String::from_utf8(opened.expose().to_vec()).map_err(|_| damaged())
    }
}

fn owner(tenant: &Tenant, id: TicketId) -> String {
    format!("voucher {} {id}", tenant.as_str())
}

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey(..)")
    }
}
