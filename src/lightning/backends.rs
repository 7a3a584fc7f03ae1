//! Which backends pay now, and those that still owe us the end of a payment.
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
    current: Mutex<Current>,
}

/// What pays now, in the order of the configuration, and why the others do not.
struct Current {
    usable: Vec<Backend>,
    trouble: Option<String>,
}

/// One that pays now.
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
        let trouble = Some("no backend is configured yet".to_owned());
        let current = Mutex::new(Current { usable: Vec::new(), trouble });
        Backends(Arc::new(Shared { store, vault, open, opened: Mutex::default(), current }))
    }

    /// Takes over what the configuration says: accounts and the most that each spends on fees, in the order in which
    /// they are tried. One that cannot be had pays nothing new, and does not stop the others.
    pub async fn configure(&self, accounts: Vec<(Result<Account, String>, Msats)>) {
        let mut current = Current { usable: Vec::new(), trouble: None };
        for (account, fee_limit) in accounts {
            let had = match account {
                Ok(account) => self.row_of(&account).await.map(|(id, node)| (id, account.kind, node)),
                Err(why) => Err(why),
            };
            match had {
                // The same account twice is one.
                Ok((id, ..)) if current.usable.iter().any(|backend| backend.id == id) => {}
                Ok((id, kind, node)) => current.usable.push(Backend { id, kind, node, fee_limit }),
                Err(why) => {
                    log::error!("lightning: a backend cannot be used: {why}");
                    current.trouble.get_or_insert(why);
                }
            }
        }
        if current.usable.is_empty() {
            log::error!("lightning: nothing can be paid");
        }
        *lock(&self.0.current) = current;
    }

    /// What may be given a payment, in the order in which it is tried; never empty.
    pub fn current(&self) -> Result<Vec<Backend>, String> {
        let current = lock(&self.0.current);
        match current.usable.is_empty() {
            true => Err(current.trouble.clone().unwrap_or_default()),
            false => Ok(current.usable.clone()),
        }
    }

    /// Why one of those that are configured pays nothing, if so.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.0.current).trouble.clone()
    }

    /// Those that have been opened, to pay or to be asked.
    pub fn opened_ones(&self) -> Vec<i64> {
        lock(&self.0.opened).keys().copied().collect()
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
