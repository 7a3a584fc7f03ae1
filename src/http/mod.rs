//! The edge to guests and operators over TCP: listeners, the table of routes, bodies and their limits.
//!
//! The only room that knows hyper. It identifies the caller (by the neighbour table, never by a header) and hands
//! typed input to the rooms; it holds no state of a sale.

mod admin;
mod answer;
mod anybody;
mod asker;
mod attach;
mod bodies;
mod cards;
mod connections;
mod cors;
mod crowd;
mod dispatch;
mod ecash;
mod entrance;
mod error_body;
mod handshakes;
mod head;
mod health;
mod invites;
mod keyed;
mod languages;
mod line;
mod login;
mod login_socket;
mod listeners;
mod listening;
mod mint_requests;
mod minting;
mod mpesa;
mod offers;
mod origin;
mod pages;
mod refusals;
mod relay;
mod route;
mod routes;
mod sent;
mod show;
mod sphinx;
mod tickets;
mod till;
mod tollgate;
mod vouchers;
mod wallet_api;
mod wallets;
mod ways;
mod websocket;
mod wire;

pub use admin::{borne, is_token, make_token};
#[cfg(test)]
pub(crate) use line::fuzz_head;
pub use listeners::{bind, Listeners};
pub use minting::approvals::go_on;
#[cfg(test)]
pub(crate) use origin::host_of;
pub use relay::RelayListener;

use crate::commands::Desk;
use crate::network::neighbours::Neighbours;
use crate::shop::{Shop, Site};
use crowd::{Budget, Crowd};
use handshakes::Handshakes;
use languages::Languages;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Long payments of all guests together that are in memory at a time.
const LONG_PAYMENTS: usize = 16;

/// What the routes can reach.
pub struct Edge {
    site: Arc<Site>,
    desk: Arc<Desk>,
    neighbours: Neighbours,
    crowd: Crowd,
    handshakes: Handshakes,
    /// Places for payments that are longer than usual.
    long_payments: Arc<Semaphore>,
    languages: Languages,
    /// Everything that a start does has been done.
    has_started: AtomicBool,
}

impl Edge {
    pub fn new(desk: Arc<Desk>) -> Arc<Edge> {
        let site = desk.site.clone();
        let customers = site.shop.as_ref().ok().cloned();
        let crowd = Crowd::new(Budget::of_this_machine(), site.connection_count(), move || {
            customers.as_ref().map(Shop::customers).unwrap_or_default()
        });
        let long_payments = Arc::new(Semaphore::new(LONG_PAYMENTS));
        let (neighbours, languages) = (Neighbours::default(), Languages::default());
        let handshakes = Handshakes::default();
        let has_started = AtomicBool::default();
        Arc::new(Edge { site, desk, neighbours, crowd, handshakes, long_payments, languages, has_started })
    }
}
