//! Who somebody is without an account: a wallet's signature over a challenge (LNURL-auth, LUD-04), and the token that
//! it is exchanged for. Who may do what, and who did: the audit log.
//!
//! Nothing here knows HTTP or a gate. Refused: a signature over a k1 that was not given out just now, whatever else is right
//! about it; a token that was logged out; the token of an operator who is not in the configuration.

mod audit;
mod challenge;
mod enroll;
mod error;
mod jwt;
mod lnurl;
mod login;
mod rate;
mod ring;
mod service;
mod signature;
mod sockets;
mod sphinx;
mod token;

pub use crate::shared_secret::secret;
pub use audit::AuditLog;
pub use challenge::{Action, CookieId, Delivery, LoginStation, SocketKey, Standing};
pub use enroll::NewEnrolment;
pub use error::{AuthError, LoginRefusal};
pub use jwt::{Claims, TokenId};
pub use lnurl::LoginLinks;
pub use login::{Answered, Callback, ConfirmRefusal, NewChallenge};
pub use service::{Service, ServiceRefusal, ServiceRequest};
pub use signature::WalletKey;
pub use sockets::{LoginSocket, LoginSockets};
pub use sphinx::SphinxRefusal;
pub use token::{Issued, Rotated};

use crate::access::{LinkedAccount, TicketError};
use crate::config::{AuthConfig, Config, OperatorKey};
use crate::mac::MacAddr;
use crate::store::{Claim, Store};
use crate::units::Millis;
use challenge::Challenges;
use enroll::Enrolments;
use rate::Rate;
use ring::KeyRing;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{watch, Semaphore};

/// Challenges of a station: at once, and how often one more.
const CHALLENGES: Rate<LoginStation> = Rate::new(60, Millis::from_secs(1));
/// Answers to challenges: of an address or, where a proxy hides that, of who asked.
const CALLBACKS: Rate<LoginStation> = Rate::new(60, Millis(500));
/// New tokens of a key in the place of older ones: each is a write, as a login is.
const RENEWALS: Rate<OperatorKey> = Rate::new(60, Millis::from_secs(1));
/// Logins of an operator: each is a row of the audit log, and so is its end, and a signature is fresh for a minute.
const LOGINS: Rate<OperatorKey> = Rate::new(20, Millis::from_secs(60));
/// Signatures that are looked at side by side: other arithmetic goes on besides.
const LOOKING: usize = 2;

/// Clones share everything.
#[derive(Clone)]
pub struct Auth(Arc<Shared>);

struct Shared {
    store: Store,
    config: watch::Receiver<Arc<Config>>,
    /// Read when it is needed first.
    ring: tokio::sync::Mutex<Option<KeyRing>>,
    challenges: Mutex<Challenges>,
    enrolments: Mutex<Enrolments>,
    asking: Mutex<Rate<LoginStation>>,
    calling: Mutex<Rate<LoginStation>>,
    renewing: Mutex<Rate<OperatorKey>>,
    entering: Mutex<Rate<OperatorKey>>,
    /// The operators' keys whose logins were left alone when the logins of all others were last ended.
    operators: Mutex<Option<Vec<OperatorKey>>>,
    /// What wallets sign for, as it was noted last.
    noted: Mutex<String>,
    looking: Semaphore,
    sockets: LoginSockets,
    linker: OnceLock<Box<Linker>>,
}

/// Lets a claim stand for what was paid on a device.
pub type Linker = dyn Fn(MacAddr, Claim) -> Linking + Send + Sync;
type Linking = Pin<Box<dyn Future<Output = Result<LinkedAccount, TicketError>> + Send>>;

impl Auth {
    pub fn new(store: Store, config: watch::Receiver<Arc<Config>>) -> Auth {
        Auth(Arc::new(Shared {
            store,
            config,
            ring: tokio::sync::Mutex::default(),
            challenges: Mutex::default(),
            enrolments: Mutex::default(),
            asking: Mutex::new(CHALLENGES),
            calling: Mutex::new(CALLBACKS),
            renewing: Mutex::new(RENEWALS),
            entering: Mutex::new(LOGINS),
            operators: Mutex::default(),
            noted: Mutex::default(),
            looking: Semaphore::new(LOOKING),
            sockets: LoginSockets::default(),
            linker: OnceLock::new(),
        }))
    }

    /// Sets what carries out `action=link`. Only the first call counts.
    pub fn link_by(&self, linker: Box<Linker>) {
        let _ = self.0.linker.set(linker);
    }

    /// To be called every few seconds: ends the sessions of former operators, so that they stay ended if the key comes
    /// back. The name that wallets sign for is noted once there are accounts, and from then on kept up to date.
    pub async fn tend(&self) {
        let note = self.config().auth.as_ref().map(|auth| auth.note());
        if let Some(note) = note.filter(|note| *lock(&self.0.noted) != *note) {
            if matches!(self.0.store.note_domain(note.clone(), false).await, Ok(true)) {
                *lock(&self.0.noted) = note;
            }
        }
        let keys: Vec<OperatorKey> = self.config().operators.iter().map(|operator| operator.key).collect();
        if lock(&self.0.operators).as_ref() == Some(&keys) {
            return;
        }
        self.0.sockets.close_operators_but(&keys);
        match self.0.store.end_operators_but(&keys).await {
            Ok(()) => *lock(&self.0.operators) = Some(keys),
            Err(error) => log::error!("sessions of operators who were taken off the list go on: {error}"),
        }
    }

    pub fn sockets(&self) -> &LoginSockets {
        &self.0.sockets
    }

    fn config(&self) -> Arc<Config> {
        self.0.config.borrow().clone()
    }

    fn challenges(&self) -> MutexGuard<'_, Challenges> {
        lock(&self.0.challenges)
    }
}

/// The section, where it is there.
fn section(config: &Config) -> Result<&AuthConfig, AuthError> {
    config.auth.as_ref().ok_or(AuthError::Off)
}

/// The role of the operator with this key; `None` if it is no operator's.
fn role_of(config: &Config, key: &WalletKey) -> Option<String> {
    config.operator(&key.to_bytes()).map(|operator| operator.role.as_str().to_owned())
}

fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| AuthError::Store(crate::store::StoreError::NoRandomness))?;
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) use {jwt::tests::fuzz_jwt, sphinx::SphinxToken};

#[cfg(test)]
mod tests;
