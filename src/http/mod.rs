//! The edge to guests and operators over TCP: listeners, the table of routes, bodies and their limits.
//!
//! The only room that knows hyper. It decides who is calling (by the neighbour table, never by a header)
//! and hands typed input to the rooms; it holds no state of a sale.

mod admin;
mod answer;
mod bodies;
mod cards;
mod connections;
mod cors;
mod crowd;
mod ecash;
mod line;
mod listeners;
mod origin;
mod pages;
mod routes;
mod tickets;
mod till;
mod tollgate;
mod ways;
mod websocket;

pub use admin::make_token;
pub use listeners::{Audience, Listeners, Wanted};

use crate::access::{Access, GateStatus, Gatekeeper};
use crate::card::Cards;
use crate::config::Config;
use crate::ecash::wallet::Wallet;
use crate::ecash::Mints;
use crate::mac::MacAddr;
use crate::network::neighbours::Neighbours;
use crate::sale::invoice::MintProxy;
use crate::sale::till::Till;
use crate::store::Store;
use crate::tollgate::TollGate;
use crowd::{Budget, Crowd};
use std::sync::{Arc, Mutex};
use tokio::sync::{watch, Semaphore};

/// How many long payments of all guests together are in memory at a time.
const LONG_PAYMENTS: usize = 16;

/// What the routes can reach.
pub struct Site {
    config: watch::Receiver<Arc<Config>>,
    pub gatekeeper: Gatekeeper,
    pub mints: Mints,
    /// Closed when the store or a key cannot be used: then nothing is sold.
    pub shop: Result<Shop, Closed>,
    neighbours: Neighbours,
    crowd: Crowd,
    /// Places for payments that are longer than usual.
    long_payments: Arc<Semaphore>,
    /// What the machine refuses at the moment, for status.
    trouble: Mutex<Vec<String>>,
}

/// The rooms that sell.
#[derive(Clone)]
pub struct Shop {
    pub store: Store,
    pub access: Access,
    pub mint_proxy: MintProxy,
    /// Closed when the cards' key cannot be used; what else is sold goes on.
    pub cards: Result<Cards, Closed>,
    pub till: Till,
    pub wallet: Wallet,
    pub tollgate: TollGate,
}

/// Why nothing can be sold.
#[derive(Clone, Debug)]
pub struct Closed {
    /// `STORE_CORRUPT`, `STORE_TOO_NEW`, `KEY_MISSING`, ...
    pub code: &'static str,
    /// For the operator.
    pub cause: String,
}

impl Shop {
    /// Who has a session that runs, or a request that awaits its money.
    fn customers(&self) -> Vec<MacAddr> {
        let online = self.access.running().into_iter().map(|session| session.mac);
        online.chain(self.mint_proxy.customers()).collect()
    }
}

impl Site {
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        gatekeeper: Gatekeeper,
        mints: Mints,
        shop: Result<Shop, Closed>,
    ) -> Arc<Site> {
        let customers = shop.as_ref().ok().cloned();
        let crowd = Crowd::new(Budget::of_this_machine(), move || {
            customers.as_ref().map(Shop::customers).unwrap_or_default()
        });
        Arc::new(Site {
            config,
            gatekeeper,
            mints,
            shop,
            neighbours: Neighbours::default(),
            crowd,
            long_payments: Arc::new(Semaphore::new(LONG_PAYMENTS)),
            trouble: Mutex::default(),
        })
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    pub fn gate(&self) -> GateStatus {
        self.gatekeeper.status()
    }

    /// Guests' TCP connections open now.
    pub fn connections(&self) -> usize {
        self.crowd.count()
    }

    pub fn set_trouble(&self, trouble: Vec<String>) {
        *self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = trouble;
    }

    pub fn trouble(&self) -> Vec<String> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Why no sale could be honoured now; empty when ready.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match &self.shop {
            Err(closed) => reasons.push(format!("{}: {}", closed.code, closed.cause)),
            Ok(shop) if !shop.store.room_for_sales() => {
                reasons.push("less than 1 MiB free for the store".to_owned())
            }
            Ok(_) => {}
        }
        let gate = self.gate();
        if self.config().venues.iter().any(|venue| gate.cannot_sell(venue.metric) == Some("FLOW_OFFLOAD")) {
            reasons.push("flow offloading is on, so bytes cannot be counted or sold".to_owned());
        }
        if !gate.closed_to_strangers {
            reasons.push(gate.trouble.unwrap_or_else(|| "the gate is not in place yet".to_owned()));
        }
        let mints: Vec<_> = self.config().mints.iter().map(|mint| mint.url.clone()).collect();
        if !self.mints.any_answers(&mints) {
            reasons.push("no mint has answered yet".to_owned());
        }
        reasons
    }
}
