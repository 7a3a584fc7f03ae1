//! A relay: takes what Daraja calls for many routers that nobody can call, and keeps it until each has collected its own;
//! holds the one OAuth token that they share, because a new one kills the old.
//!
//! It believes nothing that it is sent, and reads none of it: a callback is a hint, and the router asks Daraja. Refused:
//! names that it does not know, bodies above [`MOST_BODY`], and more than one order or one router may be called with.

mod token;

use crate::calls::Tls;
use crate::config::{RelayConfig, RelayRouter};
use crate::fiat::read_secret;
use crate::store::{RelayedEvent, Secret, Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::{timeout, Instant};

use token::TokenHolder;
pub use token::{LiveToken, NoToken};

/// Of a callback (bytes).
pub const MOST_BODY: usize = 64 * 1024;
/// Below it a router's key can be guessed, and it is all that stands before its events and the token: the log says so.
const GOOD_KEY: usize = 16;
/// How long a router's question waits for news, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a callback is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error("there is no such router, or no such path")]
    Unknown,
    #[error("this router has been called too often: it has to collect first")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Relay {
    store: Store,
    id: String,
    tls: Tls,
    setup: Mutex<Arc<Setup>>,
    /// Changes with every event that is kept.
    news: watch::Sender<()>,
}

struct Setup {
    routers: Vec<(String, Secret)>,
    token: TokenHolder,
}

impl Relay {
    /// Errors: a file of a key or of a credential cannot be used, as a sentence with its name.
    pub async fn new(store: Store, tls: Tls, config: &RelayConfig) -> Result<Relay, String> {
        let setup = Mutex::new(Arc::new(Setup::read(config, &tls)?));
        let id = store.relay_id().await.map_err(|err| format!("{}: {err}", err.code()))?;
        Ok(Relay { store, id, tls, setup, news: watch::Sender::new(()) })
    }

    /// Of its store: numbers of events that are of another one mean nothing here.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes a configuration over, and its files as they are now; one that cannot be used changes nothing.
    pub fn configure(&self, config: &RelayConfig) -> Result<(), String> {
        let setup = Arc::new(Setup::read(config, &self.tls)?);
        *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = setup;
        Ok(())
    }

    /// Keeps what `router` was called with, for the order with this token.
    pub async fn take(&self, router: &str, token: &str, body: String) -> Result<(), NotTaken> {
        if !self.knows(router) || !is_token(token) {
            return Err(NotTaken::Unknown);
        }
        match self.store.keep_event(router, token, body).await? {
            true => {
                self.news.send_replace(());
                Ok(())
            }
            false => Err(NotTaken::TooMany),
        }
    }

    /// Whether callbacks for this router are taken.
    pub fn knows(&self, router: &str) -> bool {
        self.setup().routers.iter().any(|(name, _)| name == router)
    }

    /// The router whose key this is. Takes as long for every key.
    pub fn router_of(&self, key: &str) -> Option<String> {
        let setup = self.setup();
        let mut found = None;
        for (name, own) in &setup.routers {
            if bool::from(own.expose().ct_eq(key.as_bytes())) {
                found = Some(name.clone());
            }
        }
        found
    }

    /// The next events of `router` behind `after`; waits for the first one. Those up to `after` count as collected.
    pub async fn events(
        &self,
        router: &str,
        after: i64,
        wait: Duration,
    ) -> Result<Vec<RelayedEvent>, StoreError> {
        let until = Instant::now() + wait.min(LONGEST_WAIT);
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            let events = self.store.events_after(router, after).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() || timeout(left, news.changed()).await.is_err() {
                return Ok(events);
            }
        }
    }

    /// The greatest number that an event was ever given: a router that asks behind it has it from another relay.
    pub async fn newest(&self) -> Result<i64, StoreError> {
        self.store.newest_event().await
    }

    /// The token of all routers; `dead`: one that Daraja refused.
    pub async fn token(&self, dead: Option<&str>) -> Result<LiveToken, NoToken> {
        self.setup().token.token(dead).await
    }

    fn setup(&self) -> Arc<Setup> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Setup {
    fn read(config: &RelayConfig, tls: &Tls) -> Result<Setup, String> {
        let own = |router: &RelayRouter| match read_secret(&router.key_file) {
            Ok(key) => {
                if key.expose().len() < GOOD_KEY {
                    log::warn!(
                        "{}: a key of fewer than {GOOD_KEY} letters can be guessed",
                        router.key_file.display()
                    );
                }
                Ok((router.name.clone(), key))
            }
            Err(err) => Err(err.to_string()),
        };
        let routers = config.routers.iter().map(own).collect::<Result<_, String>>()?;
        Ok(Setup { routers, token: TokenHolder::read(&config.account, tls)? })
    }
}

/// What routers make for an order: letters and digits that need no escape in a path.
fn is_token(token: &str) -> bool {
    (1..=128).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
