//! Bolt Cards: register, tap, callback. A card pays once per tap, within its limits, even if messages come twice, at
//! once, late or never.
//!
//! A tap's counter and a k1 count once, by one conditional statement of the store each. A payment is reserved,
//! committed, sent, and then followed until it is paid or proven failed; until then its money counts as spent.
//! Whatever is wrong before a tap's MAC has been checked gets one and the same answer.

mod callback;
mod chip;
mod here;
mod keys;
mod links;
mod payment;
mod reason;
mod recent;
mod register;
mod tap;

#[cfg(test)]
mod tests;

pub use reason::Reason;
pub use register::CardError;

use crate::config::Config;
use crate::lightning::Backends;
use crate::store::{Store, StoreError, TapId, Vault};
use crate::units::Millis;
use keys::Deck;
use litemap::LiteMap;
use payment::{End, PaymentPace};
use recent::Recent;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{watch, Semaphore};

/// Lookups of unfinished payments that run at once.
const LOOKUPS: usize = 4;

/// The cards of this router; clones share everything.
#[derive(Clone)]
pub struct Cards(Arc<Shared>);

struct Shared {
    store: Store,
    vault: Vault,
    backends: Backends,
    config: watch::Receiver<Arc<Config>>,
    /// The keys of every card that may pay, so that a bad tap costs no look into the store.
    deck: Mutex<Deck>,
    /// Held while the operator changes a card's keys, so that the deck follows the store.
    changing: tokio::sync::Mutex<()>,
    recent: Mutex<Recent>,
    /// Payments without an end, for those who wait for it.
    open: Mutex<LiteMap<TapId, watch::Receiver<Option<End>>>>,
    lookups: Semaphore,
    pace: PaymentPace,
}

impl Cards {
    /// Reads the cards' keys and takes up the payments that the last process left without an end.
    pub async fn start(
        store: Store,
        vault: Vault,
        backends: Backends,
        config: watch::Receiver<Arc<Config>>,
    ) -> Result<Cards, StoreError> {
        Cards::start_at(store, vault, backends, config, PaymentPace::USUAL).await
    }

    async fn start_at(
        store: Store,
        vault: Vault,
        backends: Backends,
        config: watch::Receiver<Arc<Config>>,
        pace: PaymentPace,
    ) -> Result<Cards, StoreError> {
        let deck = Deck::load(&store, &vault).await?;
        let left_open = store.resume_payments().await?;
        let cards = Cards(Arc::new(Shared {
            store,
            vault,
            backends,
            config,
            deck: Mutex::new(deck),
            changing: tokio::sync::Mutex::default(),
            recent: Mutex::default(),
            open: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
            pace,
        }));
        for payment in left_open {
            cards.take_up(payment);
        }
        Ok(cards)
    }

    /// What pays.
    pub fn backends(&self) -> &Backends {
        &self.0.backends
    }

    /// Payments that are neither paid nor proven failed.
    pub fn open_payments(&self) -> usize {
        lock(&self.0.open).len()
    }

    /// Forgets taps and payments that ended before `kept_since`.
    pub async fn tidy(&self, kept_since: Millis) -> Result<(), StoreError> {
        self.0.store.prune_taps(kept_since, self.0.backends.opened_ones()).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
