//! The shop: the rooms that sell, whether they are open, and why not. Everybody above the protocols starts from here.
//!
//! It is open while at least one way to pay works; each way that is configured says why it does not. It holds no
//! state of a sale, and knows nothing of callers and protocols.

use crate::access::{Access, GateStatus, Gatekeeper};
use crate::auth::{AuditLog, Auth, LoginStation};
use crate::calls::Tls;
use crate::card::Cards;
use crate::certificate::OwnCertificate;
use crate::config::{Config, MintUrl, Venue};
use crate::ecash::wallet::Wallet;
use crate::ecash::{MintEvent, Mints};
use crate::fiat::Rates;
use crate::json::json;
use crate::kms::Keeper;
use crate::mac::MacAddr;
use crate::mint_proxy::MintProxy;
use crate::network::devices;
use crate::sale::balance::Balances;
use crate::sale::invite::InviteEngine;
use crate::sale::invoice::InvoiceEngine;
use crate::sale::mpesa::MpesaEngine;
use crate::sale::till::Till;
use crate::sale::token::TokenEngine;
use crate::sale::voucher::VoucherEngine;
use crate::sale::{SaleEvent, Terms};
use crate::store::{Store, StoreError};
use crate::task;
use crate::tollgate::TollGate;
use crate::units::Millis;
use crate::uuid::Uuid;
use crate::vouchers::{MintDesk, Notices};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often to look whether balances are backed.
const BACKED_AGAIN: Millis = Millis::from_secs(60);

/// This router as a place where internet is sold.
pub struct Site {
    config: watch::Receiver<Arc<Config>>,
    pub gatekeeper: Gatekeeper,
    pub mints: Mints,
    /// Closed when the store or a key cannot be used: then nothing is sold.
    pub shop: Result<Shop, Closed>,
    /// For https.
    pub certificate: OwnCertificate,
    /// Guests' TCP connections, which the listeners count.
    connections: Arc<AtomicUsize>,
    /// What the machine refuses at the moment, for status.
    trouble: Mutex<Vec<String>>,
}

/// The rooms that sell.
#[derive(Clone)]
pub struct Shop {
    /// What may be sold.
    pub terms: Terms,
    pub store: Store,
    pub access: Access,
    pub invoices: InvoiceEngine,
    pub tokens: TokenEngine,
    pub mint_proxy: MintProxy,
    /// Closed when the cards' key cannot be used; what else is sold goes on.
    pub cards: Result<Cards, Closed>,
    pub till: Till,
    pub wallet: Wallet,
    pub tollgate: TollGate,
    pub audit: AuditLog,
    pub invites: InviteEngine,
    pub mpesa: MpesaEngine,
    pub vouchers: VoucherEngine,
    pub auth: Auth,
    /// Whose certificates are trusted.
    pub tls: Tls,
    pub minting: MintDesk,
    /// Tells others what became of vouchers.
    pub notices: Notices,
    pub rates: Rates,
    /// What is held for accounts of the wallet API.
    pub balances: Balances,
    /// What opens the key files.
    pub keeper: Keeper,
}

/// Why something cannot be sold, or paid with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// `STORE_CORRUPT`, `STORE_TOO_NEW`, `KEY_MISSING`, ...
    pub code: &'static str,
    /// For the operator.
    pub cause: String,
}

/// A way to pay that is configured here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// `lightning`, `ecash`, `card` or `mpesa`.
    pub name: &'static str,
    /// Why it cannot be used now.
    pub closed: Option<Closed>,
}

impl Shop {
    /// Everything that sells, on the same terms. One more way to pay begins here.
    pub async fn new(
        terms: Terms,
        (invoices, wallet): (InvoiceEngine, Wallet),
        mints: Mints,
        (cards, keeper): (Result<Cards, Closed>, Keeper),
        tls: Tls,
    ) -> Result<Shop, StoreError> {
        let (store, access) = (terms.store.clone(), terms.access.clone());
        let vouchers = VoucherEngine::new(terms.clone(), wallet.clone());
        let minting = MintDesk::new(vouchers.book().clone(), wallet.clone());
        let mint_proxy = MintProxy::new(invoices.clone(), access.clone(), terms.settings(), minting.clone());
        let notices = Notices::new(vouchers.book().clone(), terms.settings(), tls.clone());
        notices.note().await?;
        wallet.keep_vouchers();
        let tokens = TokenEngine::new(terms.clone(), wallet.clone());
        let engines = (invoices.clone(), tokens.clone());
        let balances = Balances::start(terms.clone(), wallet.clone(), mints.clone()).await?;
        let tollgate = TollGate::start(store.clone(), terms.clone(), engines, mints).await;
        let till = Till::new(terms.clone(), invoices.clone(), cards.clone().ok(), tls.clone());
        let rates = Rates::new(terms.settings(), tls.clone(), store.clone());
        let mpesa = MpesaEngine::start(terms.clone(), invoices.clone(), tls.clone()).await?;
        back_what_is_bought(mpesa.clone(), balances.clone());
        let (audit, auth) = (AuditLog::new(store.clone()), Auth::new(store.clone(), terms.settings()));
        join(&auth, &invoices);
        let invites = InviteEngine::new(terms.clone());
        Ok(Shop {
            terms,
            store,
            access,
            invoices,
            tokens,
            mint_proxy,
            cards,
            till,
            wallet,
            tollgate,
            audit,
            invites,
            mpesa,
            vouchers,
            auth,
            tls,
            minting,
            notices,
            rates,
            balances,
            keeper,
        })
    }

    /// What the rooms that sell look at again and again.
    pub async fn tend(&self) {
        self.access.tend(self.invoices.counts().1 > 0).await;
        self.invoices.tend_graces();
        self.invoices.forget_finished();
        self.end_losses().await;
        self.audit.tend();
        self.auth.tend().await;
        self.notices.tend().await;
        let rates = self.rates.clone();
        // A feed that hangs holds nobody up.
        task::spawn(async move { rates.tend().await });
    }

    /// Ends the sessions of those who paid with ecash that was taken without its mint, and that it calls spent.
    async fn end_losses(&self) {
        for loss in self.wallet.losses_to_end() {
            match self.access.revoke(loss.mac, Some(&loss.venue)).await {
                Ok(_) => {
                    log::warn!(
                        "{}: what it paid with is spent; its session at {} is ended",
                        loss.mac,
                        loss.venue
                    );
                    self.wallet.loss_ended(&loss).await;
                }
                Err(err) => log::error!("{}: its session is not ended yet: {err}", loss.mac),
            }
        }
    }

    pub fn on_mint_event(&self, mint: &MintUrl, event: &MintEvent) {
        self.invoices.on_mint_event(mint, event);
        self.wallet.on_mint_event(mint, event);
        self.balances.on_mint_event(mint, event);
    }

    /// What other programs know a venue by.
    pub fn venue_id(&self, venue: &Venue) -> Uuid {
        venue.own_uuid.unwrap_or_else(|| Uuid::named(self.tollgate.public().as_bytes(), &venue.id))
    }

    /// The MACs that have a running session, or a request that awaits its money.
    pub fn customers(&self) -> Vec<MacAddr> {
        let online = self.access.running().into_iter().map(|session| session.mac);
        online.chain(self.invoices.customers()).collect()
    }
}

impl Site {
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        gatekeeper: Gatekeeper,
        mints: Mints,
        shop: Result<Shop, Closed>,
    ) -> Arc<Site> {
        let (certificate, connections, trouble) = Default::default();
        Arc::new(Site { config, gatekeeper, mints, shop, certificate, connections, trouble })
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Returns when the configuration is as it is waited for; false if that takes longer than `patience`.
    pub async fn is_soon(&self, wanted: impl Fn(&Config) -> bool, patience: Duration) -> bool {
        let mut config = self.config.clone();
        let waiting = config.wait_for(|config| wanted(config));
        let is_so = tokio::time::timeout(patience, waiting).await.is_ok_and(|seen| seen.is_ok());
        is_so
    }

    pub fn gate(&self) -> GateStatus {
        self.gatekeeper.status()
    }

    /// Guests' TCP connections open now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What counts the connections.
    pub fn connection_count(&self) -> Arc<AtomicUsize> {
        self.connections.clone()
    }

    pub fn set_trouble(&self, trouble: Vec<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub fn trouble(&self) -> Vec<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether money rests, because nobody has opened the key files.
    pub fn is_sealed(&self) -> bool {
        self.shop.as_ref().is_ok_and(|shop| shop.store.is_sealed())
    }

    /// Every way to pay that is configured, and whether it works.
    pub fn ways(&self) -> Vec<Way> {
        let config = self.config();
        let cards = self.shop.as_ref().ok().map(|shop| shop.cards.as_ref().map(|_| ()));
        let mints: Vec<_> = config.mints.iter().map(|mint| mint.url.clone()).collect();
        let mpesa = self.shop.as_ref().ok().and_then(|shop| shop.mpesa.trouble());
        ways(&config, self.mints.any_answers(&mints), cards.unwrap_or(Ok(())), mpesa)
    }

    /// Why no sale could be honoured now; empty when ready.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = self.not_serving();
        reasons.extend(none_open(&self.ways()));
        reasons
    }

    /// Why what was paid could not be honoured now, also with every mint away; empty when it is.
    pub fn not_serving(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match &self.shop {
            Err(closed) => reasons.push(format!("{}: {}", closed.code, closed.cause)),
            Ok(shop) if !shop.store.room_for_sales() => {
                reasons.push("less than 1 MiB free for the store".to_owned())
            }
            Ok(shop) if shop.store.is_sealed() => {
                reasons.push(format!("SEALED: {}", StoreError::Sealed));
            }
            Ok(_) => {}
        }
        let gate = self.gate();
        let config = self.config();
        reasons.extend(no_device(&config, devices::exists));
        if config.venues.iter().any(|venue| gate.cannot_sell(venue.metric) == Some("FLOW_OFFLOAD")) {
            reasons.push("flow offloading is on, so bytes cannot be counted or sold".to_owned());
        }
        if !gate.closed_to_strangers {
            reasons.push(gate.trouble.unwrap_or_else(|| "the gate is not in place yet".to_owned()));
        }
        reasons
    }
}

/// What balances have got for shillings is backed by ecash of theirs; also what was cut off before this start.
fn back_what_is_bought(mpesa: MpesaEngine, balances: Balances) {
    task::spawn(async move {
        loop {
            balances.back().await;
            mpesa.has_bought(BACKED_AGAIN).await;
        }
    });
}

/// What was paid and who logs in: a wallet's link is carried out, and a page hears when its device had to go.
fn join(auth: &Auth, invoices: &InvoiceEngine) {
    let engine = invoices.clone();
    auth.link_by(Box::new(move |mac, claim| {
        let engine = engine.clone();
        Box::pin(async move { engine.link(mac, claim).await })
    }));
    let sockets = auth.sockets().clone();
    invoices.listen(move |event| {
        let SaleEvent::Gone { devices, to } = event else { return };
        let message = json!({"msg": "session_moved", "mac": to.to_string()});
        devices.iter().for_each(|mac| sockets.tell_station(LoginStation::Mac(*mac), &message));
    });
}

/// Where guests cannot come in anywhere.
fn no_device(config: &Config, exists: impl Fn(&str) -> bool) -> Option<String> {
    let mut devices = config.venues.iter().flat_map(|venue| &venue.devices).peekable();
    if devices.peek().is_none() {
        return Some("no guest device is known: the networks of the venues have none".to_owned());
    }
    let named: Vec<&str> = devices.map(String::as_str).collect();
    (!named.iter().any(|device| exists(device)))
        .then(|| format!("no guest device is there: {}", named.join(", ")))
}

fn ways(
    config: &Config,
    a_mint_answers: bool,
    cards: Result<(), &Closed>,
    mpesa_trouble: Option<String>,
) -> Vec<Way> {
    let closed = |code, cause: &str| Closed { code, cause: cause.to_owned() };
    let no_mint = || (!a_mint_answers).then(|| closed("NO_MINT", "no mint has answered yet"));
    let has_price = !config.mints.is_empty();
    let by_mint = ["lightning", "ecash"].map(|name| has_price.then(|| Way { name, closed: no_mint() }));
    let by_card = config.card.as_ref().map(|_| {
        // A card of this router's own is charged here; what a step costs is said by a mint's section.
        let no_price =
            || (!has_price).then(|| closed("NO_PRICE", "no mint's section says what a step costs"));
        Way { name: "card", closed: cards.err().cloned().or_else(no_price) }
    });
    let by_mpesa = config.mpesa.as_ref().filter(|_| !config.prices.is_empty()).map(|_| {
        let closed = mpesa_trouble.map(|cause| Closed { code: "NO_MPESA", cause });
        Way { name: "mpesa", closed }
    });
    by_mint.into_iter().chain([by_card, by_mpesa]).flatten().collect()
}

/// The different causes, if no way is open.
fn none_open(ways: &[Way]) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for way in ways {
        match &way.closed {
            None => return Vec::new(),
            Some(closed) if !causes.contains(&closed.cause) => causes.push(closed.cause.clone()),
            Some(_) => {}
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sections: &str) -> Config {
        let venue = "config tollgate 'main'\nconfig venue 'v'\n\tlist device 'br-guest'\n";
        Config::from_uci(&format!("{venue}{sections}")).unwrap().0
    }

    const MINT: &str = "config mint\n\toption url 'https://m.example'\n\toption price_per_step '1'\n";
    const CARD: &str = "config card\n\toption domain 'cards.example'\n";

    fn named(ways: &[Way]) -> Vec<(&'static str, Option<&'static str>)> {
        ways.iter().map(|way| (way.name, way.closed.as_ref().map(|closed| closed.code))).collect()
    }

    #[test]
    fn the_shop_is_open_while_one_way_works() {
        let both = config(&format!("{MINT}{CARD}"));
        let key = Closed { code: "KEY_MISSING", cause: "the cards' key is gone".to_owned() };
        let no_mint = "no mint has answered yet";
        let table = [
            (true, Ok(()), [None, None, None], vec![]),
            (true, Err(&key), [None, None, Some("KEY_MISSING")], vec![]),
            (false, Ok(()), [Some("NO_MINT"), Some("NO_MINT"), None], vec![]),
            (
                false,
                Err(&key),
                [Some("NO_MINT"), Some("NO_MINT"), Some("KEY_MISSING")],
                vec![no_mint, "the cards' key is gone"],
            ),
        ];
        for (answers, cards, [lightning, ecash, card], reasons) in table {
            let found = ways(&both, answers, cards, None);
            assert_eq!(named(&found), [("lightning", lightning), ("ecash", ecash), ("card", card)]);
            assert_eq!(none_open(&found), reasons);
        }
    }

    #[test]
    fn it_is_ready_while_one_guest_device_is_there() {
        let two = config(&format!("config venue 'w'\n\tlist device 'wlan1'\n\tlist device 'wlan2'\n{MINT}"));
        assert_eq!(no_device(&two, |device| device == "wlan2"), None);
        let gone = "no guest device is there: br-guest, wlan1, wlan2";
        assert_eq!(no_device(&two, |_| false).as_deref(), Some(gone));
        let unresolved = Config::from_uci(
            "config tollgate 'main'\n\toption enabled 0\nconfig venue 'v'\n\toption network 'guest'\n",
        );
        assert!(no_device(&unresolved.unwrap().0, |_| true).is_some());
    }

    #[test]
    fn only_what_is_configured_is_a_way() {
        assert_eq!(named(&ways(&config(MINT), true, Ok(()), None)), [("lightning", None), ("ecash", None)]);
        assert_eq!(named(&ways(&config(CARD), false, Ok(()), None)), [("card", Some("NO_PRICE"))]);
    }
}
