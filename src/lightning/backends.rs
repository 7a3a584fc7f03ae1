//! Which backend pays now, and those that still owe us the end of a payment.
//!
//! Each backend is a row of the store with its credentials sealed; a payment names the row it was given to.
//! So a new configuration changes only what is paid from then on.

use super::{Account, Kind, Lightning};
use crate::hex;
use crate::store::{BackendRow, Store, StoreError, Vault};
use crate::units::Msats;
use litemap::LiteMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Makes what pays from an account; the error is for the operator.
pub type Opener = Box<dyn Fn(&Account) -> Result<Arc<dyn Lightning>, String> + Send + Sync>;

/// Clones share everything.
#[derive(Clone)]
pub struct Backends(Arc<Shared>);

struct Shared {
    store: Store,
    vault: Vault,
    open: Opener,
    opened: Mutex<LiteMap<i64, Arc<dyn Lightning>>>,
    current: Mutex<Result<Backend, String>>,
}

/// What pays now.
#[derive(Clone)]
pub struct Backend {
    pub id: i64,
    pub kind: Kind,
    pub node: Arc<dyn Lightning>,
    /// Most that one payment may spend on fees.
    pub fee_limit: Msats,
}

impl Backends {
    /// Nothing pays until `configure` says what.
    pub fn new(store: Store, vault: Vault, open: Opener) -> Backends {
        let current = Mutex::new(Err("no backend is configured yet".to_owned()));
        Backends(Arc::new(Shared { store, vault, open, opened: Mutex::default(), current }))
    }

    /// Takes over what the configuration says; an account that cannot be had stops new payments, and only those.
    pub async fn configure(&self, account: Result<Account, String>, fee_limit: Msats) {
        let current = match account {
            Ok(account) => self.row_of(&account).await.map(|(id, node)| Backend {
                id,
                kind: account.kind,
                node,
                fee_limit,
            }),
            Err(why) => Err(why),
        };
        if let Err(why) = &current {
            log::error!("lightning: nothing can be paid: {why}");
        }
        *lock(&self.0.current) = current;
    }

    pub fn current(&self) -> Result<Backend, String> {
        lock(&self.0.current).clone()
    }

    /// The backend that a payment was given to.
    pub async fn of(&self, id: i64) -> Result<Arc<dyn Lightning>, String> {
        if let Some(node) = lock(&self.0.opened).get(&id) {
            return Ok(node.clone());
        }
        let rows = self.0.store.backends().await.map_err(|err| err.to_string())?;
        let row = rows.iter().find(|row| row.id == id).ok_or("the backend's record is gone")?;
        let account = self.unsealed(row).map_err(|err| err.to_string())?;
        self.opened(id, &account)
    }

    async fn row_of(&self, account: &Account) -> Result<(i64, Arc<dyn Lightning>), String> {
        let rows = self.0.store.backends().await.map_err(|err| err.to_string())?;
        let known = rows.iter().find(|row| self.unsealed(row).is_ok_and(|known| known == *account));
        let id = match known {
            Some(row) => row.id,
            None => self.added(account).await.map_err(|err| err.to_string())?,
        };
        Ok((id, self.opened(id, account)?))
    }

    fn opened(&self, id: i64, account: &Account) -> Result<Arc<dyn Lightning>, String> {
        if let Some(node) = lock(&self.0.opened).get(&id) {
            return Ok(node.clone());
        }
        let node = (self.0.open)(account)?;
        lock(&self.0.opened).insert(id, node.clone());
        Ok(node)
    }

    async fn added(&self, account: &Account) -> Result<i64, StoreError> {
        let (kind, url, pin) = (account.kind.as_str().to_owned(), account.url.clone(), account.pin);
        let sealed = self.0.vault.seal(&owner(&kind, &url, pin), account.secret.expose())?;
        self.0.store.add_backend(BackendRow { id: 0, kind, url, pin, sealed }).await
    }

    fn unsealed(&self, row: &BackendRow) -> Result<Account, StoreError> {
        let secret = self.0.vault.unseal(&owner(&row.kind, &row.url, row.pin), &row.sealed)?;
        // A kind that this version does not know: looked up again when it does.
        let kind = Kind::parse(&row.kind).ok_or(StoreError::Gone)?;
        Ok(Account { kind, url: row.url.clone(), pin: row.pin, secret })
    }
}

/// Credentials are sealed together with where they may be shown.
fn owner(kind: &str, url: &str, pin: Option<[u8; 32]>) -> String {
    format!("backend {kind} {url} {}", pin.map_or(String::new(), |pin| hex::encode(&pin)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
