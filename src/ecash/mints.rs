//! All mints that the daemon deals with: one client and one quote socket for each.

use super::mint::Mint;
use super::subscribe::{MintEvent, QuoteWatch};
use super::wire::QuoteId;
use crate::calls::Tls;
use crate::clock::Clock;
use crate::config::MintUrl;
use crate::task;
use crate::units::Millis;
use litemap::LiteMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// A mint that does not answer is asked this often whether it is back.
const PROBE_EVERY: Millis = Millis::from_secs(10);

/// Cheap to clone; all clones share the mints.
#[derive(Clone)]
pub struct Mints(Arc<Shared>);

struct Shared {
    tls: Tls,
    clock: Clock,
    events: mpsc::Sender<(MintUrl, MintEvent)>,
    known: Mutex<LiteMap<MintUrl, Known>>,
}

struct Known {
    mint: Mint,
    watch: QuoteWatch,
    probed: Option<Millis>,
}

impl Mints {
    /// `events` gets what the mints' sockets tell.
    pub fn new(tls: Tls, clock: Clock, events: mpsc::Sender<(MintUrl, MintEvent)>) -> Mints {
        Mints(Arc::new(Shared { tls, clock, events, known: Mutex::default() }))
    }

    /// The mint at this URL, which comes from the configuration or from the store.
    pub fn get(&self, url: &MintUrl) -> Mint {
        self.with(url, |known| known.mint.clone())
    }

    /// Subscribes to a quote's state.
    pub fn watch(&self, url: &MintUrl, quote: QuoteId) {
        self.with(url, |known| known.watch.watch(quote));
    }

    pub fn forget(&self, url: &MintUrl, quote: QuoteId) {
        self.with(url, |known| known.watch.forget(quote));
    }

    /// Whether the mint may be offered.
    pub fn seems_reachable(&self, url: &MintUrl) -> bool {
        self.get(url).seems_reachable()
    }

    /// A guest has waited in vain for this mint. One that only the guest names is nothing to us.
    pub fn kept_a_guest_waiting(&self, url: &MintUrl) {
        if let Some(known) = self.known().get(url) {
            known.mint.kept_a_guest_waiting();
        }
    }

    /// Whether any of these mints has answered its last call.
    pub fn any_answers(&self, urls: &[MintUrl]) -> bool {
        urls.iter().map(|url| self.get(url)).any(|mint| mint.answers())
    }

    /// Asks those of these mints that have not answered lately whether they are there. Returns at once.
    pub fn probe_silent(&self, urls: &[MintUrl]) {
        let now = self.0.clock.now();
        for url in urls {
            let due = self.with(url, |known| {
                let health = known.mint.health();
                let silent = health.failures > 0 || health.last_answer.is_none();
                let due = silent && known.probed.is_none_or(|at| at.saturating_add(PROBE_EVERY) <= now);
                if due {
                    known.probed = Some(now);
                }
                due.then(|| (known.mint.clone(), health.failures > 0))
            });
            if let Some((mint, was_away)) = due {
                let (events, url) = (self.0.events.clone(), url.clone());
                task::spawn(async move {
                    // The mint's health has the result.
                    if mint.probe().await.is_ok() && was_away {
                        let _ = events.send((url, MintEvent::Back)).await;
                    }
                });
            }
        }
    }

    fn with<T>(&self, url: &MintUrl, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known();
        work(known.entry(url.clone()).or_insert_with(|| self.introduce(url)))
    }

    fn introduce(&self, url: &MintUrl) -> Known {
        let (watch, mut news) = QuoteWatch::start(url.clone(), &self.0.tls);
        let (events, from) = (self.0.events.clone(), url.clone());
        task::spawn(async move {
            while let Some(event) = news.recv().await {
                if events.send((from.clone(), event)).await.is_err() {
                    return;
                }
            }
        });
        Known { mint: Mint::new(url.clone(), &self.0.tls, self.0.clock.clone()), watch, probed: None }
    }

    fn known(&self) -> MutexGuard<'_, LiteMap<MintUrl, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
