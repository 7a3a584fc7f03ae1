//! This router as a till: a guest, or somebody with a reader behind the counter, shows the link of a tapped card,
//! and the card's issuer pays an invoice of the guest's request (LUD-03, LUD-17). A card of ours needs no issuer: see
//! [`Cards::spend_here`].
//!
//! Only the mint says that an invoice is paid, and what it buys is granted like any other request. So an answer of the
//! issuer that is lost costs nothing: the request waits for its payment. A link that is shown twice is one payment,
//! and another card for the same purchase gets the same invoice, which can be paid once.
//!
//! A link is worth money until it has been asked, so it is kept as a digest only and never logged. Whatever goes wrong
//! on the way to an issuer has one text, so that nobody learns from it what else the router could reach.

mod issuer;
mod link;

use crate::access::{Access, Price};
use crate::calls::Tls;
use crate::card::Cards;
use crate::config::{Config, MintUrl, Venue};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::pace::Pace;
use crate::sale::invoice::{Ask, AskPart, Code, InvoiceEngine, ProxyError};
use crate::store::{NewGrant, RequestId};
use crate::task;
use crate::units::{Millis, Sats};
use issuer::{Given, NoWithdrawal, Outside, Withdrawal};
use link::Link;
use litemap::LiteMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Links that a MAC may show.
const TAPS: usize = 10;
const WINDOW: Millis = Millis::from_secs(60);
/// Issuers that are asked at once.
const AT_ONCE: usize = 4;
/// A link is known again for so long; an invoice seldom lives longer.
const REMEMBERED: Millis = Millis::from_secs(3600);
/// Above so many the oldest are forgotten.
const MANY: usize = 256;
/// The gate opens in much less, or later by itself.
const GATE: Duration = Duration::from_secs(5);

/// Clones share everything.
#[derive(Clone)]
pub struct Till(Arc<SharedTill>);

struct SharedTill {
    invoices: InvoiceEngine,
    access: Access,
    cards: Option<Cards>,
    outside: Outside,
    config: watch::Receiver<Arc<Config>>,
    desk: Mutex<Desk>,
}

/// The links that were shown lately, by their digests.
struct Desk {
    pace: Pace,
    shown: LiteMap<[u8; 32], Shown>,
}

struct Shown {
    mac: MacAddr,
    at: Millis,
    outcome: Outcome,
}

/// Empty while it is under way.
type Outcome = watch::Receiver<Option<Result<Sold, NoSale>>>;

/// What is to be bought: `amount` of a mint's money, at the price that the venue has for it.
#[derive(Clone, Debug)]
pub struct Purchase {
    pub mint: MintUrl,
    pub amount: Sats,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sold {
    /// Paid with a card of ours, and granted.
    Here,
    /// The card's issuer has the invoice of this request, and says, or does not deny, that it pays.
    Given(RequestId),
}

/// Why a card does not pay. Nothing was taken, except that of `Said` only the issuer knows.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoSale {
    #[error("this is no card's link; it begins with lnurlw://, https:// or LNURL1")]
    NoLink,
    #[error("this card belongs to an onion service, which cannot be reached from here")]
    Onion,
    #[error("too many cards at once; wait a moment, then tap again")]
    Busy,
    #[error("this tap was used by another device; tap the card again")]
    Used,
    #[error("the card's bank cannot be reached, or its answer cannot be used; nothing was taken")]
    Unreachable,
    #[error("the card pays from {least} to {most} sat")]
    Amount { least: Sats, most: Sats },
    #[error("the card's bank says: {0}")]
    Said(String),
    #[error("{0}")]
    Sale(ProxyError),
}

impl NoSale {
    /// For scripts.
    pub fn code(&self) -> &'static str {
        match self {
            NoSale::NoLink => "invalid_link",
            NoSale::Onion => "onion_unreachable",
            NoSale::Busy => "rate_limited",
            NoSale::Used => "link_used",
            NoSale::Unreachable => "issuer_unreachable",
            NoSale::Amount { .. } => "amount_refused",
            NoSale::Said(_) => "card_refused",
            NoSale::Sale(error) => error.code.as_str(),
        }
    }
}

impl Till {
    pub fn new(
        invoices: InvoiceEngine,
        access: Access,
        cards: Option<Cards>,
        tls: Tls,
        config: watch::Receiver<Arc<Config>>,
    ) -> Till {
        let desk = Mutex::new(Desk { pace: Pace::new(TAPS, WINDOW), shown: LiteMap::new() });
        Till(Arc::new(SharedTill { invoices, access, cards, outside: Outside::new(tls), config, desk }))
    }

    /// Has the card behind a link pay for `purchase` of this caller. A caller that stops waiting stops nothing.
    pub async fn sell(
        &self,
        caller: &Caller,
        venue: &Venue,
        purchase: Purchase,
        link: &str,
    ) -> Result<Sold, NoSale> {
        let link = Link::parse(link).ok_or(NoSale::NoLink)?;
        let (digest, mac) = (link.digest(), caller.mac);
        let (tell, told) = watch::channel(None);
        let mut outcome = match self.desk().enter(digest, mac, self.0.invoices.now(), &told)? {
            Some(earlier) => earlier,
            None => {
                let (till, caller, venue) = (self.clone(), caller.clone(), venue.clone());
                task::spawn(async move {
                    let sold = till.carry_out(&caller, &venue, purchase, &link).await;
                    if let Err(why) = &sold {
                        // Its words may repeat the link.
                        log::info!("{}: a card does not pay: {}", caller.mac, why.code());
                    }
                    tell.send_replace(Some(sold));
                });
                told
            }
        };
        let ended = outcome.wait_for(Option::is_some).await;
        ended.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(NoSale::Unreachable))
    }

    /// What came of the card that this MAC showed last, and when it was shown; nothing came of it as long as it is under
    /// way.
    pub fn latest(&self, mac: MacAddr) -> Option<(Millis, Option<Result<Sold, NoSale>>)> {
        let desk = self.desk();
        let latest = desk.shown.values().filter(|shown| shown.mac == mac).max_by_key(|shown| shown.at)?;
        let outcome = latest.outcome.borrow().clone();
        Some((latest.at, outcome))
    }

    /// Whether the invoice of a request was given to a card's issuer in this run.
    pub fn waits_for(&self, request: &RequestId) -> bool {
        let is_it =
            |shown: &Shown| matches!(&*shown.outcome.borrow(), Some(Ok(Sold::Given(id))) if id == request);
        self.desk().shown.values().any(is_it)
    }

    async fn carry_out(
        &self,
        caller: &Caller,
        venue: &Venue,
        purchase: Purchase,
        link: &Link,
    ) -> Result<Sold, NoSale> {
        let config = self.0.config.borrow().clone();
        let own = config.card.as_ref().and_then(|card| link.own_tap(&card.domain));
        if let (Some(tap), Some(cards)) = (own, &self.0.cards) {
            return self.sell_here(cards, tap, &config, caller, venue, purchase).await;
        }
        if link.is_onion() {
            return Err(NoSale::Onion);
        }
        let issuer = link.site.host();
        let unreachable = |why: String| {
            log::info!("card of {issuer}: {why}");
            NoSale::Unreachable
        };
        let withdrawal = Withdrawal::ask(link, &self.0.outside).await.map_err(|why| match why {
            NoWithdrawal::Useless(why) => unreachable(why),
            NoWithdrawal::Refused(reason) => NoSale::Said(reason),
        })?;
        if let Some((least, most)) = withdrawal.refuses(purchase.amount) {
            return Err(NoSale::Amount { least, most });
        }
        let ask = Ask { parts: vec![AskPart { mint: purchase.mint, amount: purchase.amount }], apply: true };
        let request = self.0.invoices.open(caller, venue, ask).await.map_err(NoSale::Sale)?.request;
        let invoice = request.parts().first().map(|part| part.invoice.as_str()).unwrap_or_default();
        match withdrawal.give(invoice, &self.0.outside).await {
            Given::Refused(reason) => return Err(NoSale::Said(reason)),
            Given::NotSent(why) => return Err(unreachable(why)),
            Given::Unclear(why) => log::info!("card of {issuer}: request {} may be paid: {why}", request.id),
            Given::Taken => {}
        }
        // Perhaps it is paid already; if not, the looks of the request go on.
        let _ = self.0.invoices.status(caller.mac, &request.id).await;
        Ok(Sold::Given(request.id.clone()))
    }

    async fn sell_here(
        &self,
        cards: &Cards,
        tap: [&str; 3],
        config: &Config,
        caller: &Caller,
        venue: &Venue,
        Purchase { mint, amount }: Purchase,
    ) -> Result<Sold, NoSale> {
        let refused = |code, message: &str| NoSale::Sale(ProxyError::new(code, message));
        let mint = config.mint_for(venue, &mint);
        let mint = mint.ok_or_else(|| refused(Code::InvalidMint, "this mint is not accepted here"))?;
        let price = Price::of(venue, mint);
        let allotment = price.allotment(amount);
        let allotment = allotment.map_err(|err| refused(Code::InvalidMessage, &err.to_string()))?;
        self.0.invoices.may_sell(caller, venue).await.map_err(NoSale::Sale)?;
        let grant = NewGrant {
            reference: String::new(),
            mac: caller.mac,
            venue: venue.id.clone(),
            amount,
            metric: venue.metric,
            allotment,
            value: price.value(amount, allotment),
            mint: Some(mint.url.clone()),
        };
        let session =
            cards.spend_here(tap, grant).await.map_err(|reason| NoSale::Said(reason.to_string()))?;
        let access = self.0.access.clone();
        let admitting = task::start(async move { access.admit(session).await });
        let _ = tokio::time::timeout(GATE, admitting).await;
        Ok(Sold::Here)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Takes a link in, or answers the outcome of when this MAC showed it before. One that did not pay may be tried
    /// again.
    fn enter(
        &mut self,
        digest: [u8; 32],
        mac: MacAddr,
        now: Millis,
        outcome: &Outcome,
    ) -> Result<Option<Outcome>, NoSale> {
        self.shown.retain(|_, shown| shown.is_open() || shown.at.saturating_add(REMEMBERED) > now);
        if let Some(shown) = self.shown.get(&digest).filter(|shown| !shown.has_failed()) {
            return if shown.mac == mac { Ok(Some(shown.outcome.clone())) } else { Err(NoSale::Used) };
        }
        let open = || self.shown.values().filter(|shown| shown.is_open());
        if open().count() >= AT_ONCE || open().any(|shown| shown.mac == mac) || !self.pace.admit(mac, now) {
            return Err(NoSale::Busy);
        }
        if self.shown.len() >= MANY {
            let over = self.shown.iter().filter(|(_, shown)| !shown.is_open());
            if let Some(oldest) = over.min_by_key(|(_, shown)| shown.at).map(|(digest, _)| *digest) {
                self.shown.remove(&oldest);
            }
        }
        self.shown.insert(digest, Shown { mac, at: now, outcome: outcome.clone() });
        Ok(None)
    }
}

impl Shown {
    fn is_open(&self) -> bool {
        self.outcome.borrow().is_none()
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Err(_)))
    }
}

#[cfg(test)]
mod tests;
