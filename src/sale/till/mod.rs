//! This router as a till: a guest, or a person with a reader behind the counter, shows the link of a tapped card, and
//! the card's issuer pays an invoice of the guest's request (LUD-03, LUD-17). A card of ours needs no issuer: see
//! [`Cards::spend_here`].
//!
//! Only the mint says that an invoice is paid, and what it buys is granted like any other request. So an answer of the
//! issuer that is lost costs nothing: the request waits for its payment. A tap that is shown twice is one payment,
//! and another card for the same purchase gets the same invoice, which can be paid once. A link that is no tap, as a
//! wallet shows one, is asked anew for each purchase, of any guest; the same form sent twice is one.
//!
//! A link is worth money until it has been asked, so it is kept as a digest only and never logged. All failures on
//! the way to an issuer have one text, so that it does not tell what else the router could reach.

mod issuer;
mod link;

use super::invoice::{Ask, AskPart, InvoiceEngine};
use super::{Limit, SaleError, Terms};
use crate::calls::Tls;
use crate::card::{Cards, Reason};
use crate::config::{MintUrl, Venue};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::pace::Pace;
use crate::store::{with_same_row, RequestId};
use crate::task;
use crate::units::{Millis, Sats};
use issuer::{CardTake, NoWithdrawal, Outside, Withdrawal};
use link::Link;
use litemap::LiteMap;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
#[cfg(test)]
pub(crate) use {issuer::fuzz_withdrawal, link::fuzz_link};

/// Links that a MAC may show.
const TAPS: usize = 10;
const WINDOW: Millis = Millis::from_secs(60);
/// Issuers that are asked at once.
const AT_ONCE: usize = 4;
/// A form with the same link comes twice within this.
const SAME_FORM: Millis = Millis::from_secs(10);
/// A tap is known again for this long; an invoice seldom lives longer.
const REMEMBERED: Millis = Millis::from_secs(3600);
/// At most this many are remembered; the oldest are forgotten.
const MANY: usize = 256;
/// The gate opens in much less, or later by itself.
const GATE: Duration = Duration::from_secs(5);

/// Clones share everything.
#[derive(Clone)]
pub struct Till(Arc<SharedTill>);

struct SharedTill {
    terms: Terms,
    invoices: InvoiceEngine,
    cards: Option<Cards>,
    outside: Outside,
    desk: Mutex<Desk>,
}

/// What was shown lately.
struct Desk {
    pace: Pace,
    shown: LiteMap<[u8; 32], Shown>,
}

/// What is known again: a tap, or a form with another link.
struct Showing {
    digest: [u8; 32],
    is_tap: bool,
}

struct Shown {
    mac: MacAddr,
    at: Millis,
    is_tap: bool,
    outcome: Outcome,
}

/// Empty while it is under way.
type Outcome = watch::Receiver<Option<Result<Sold, SaleError>>>;

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

/// Why a card that was tapped stands for nobody.
#[derive(Debug, thiserror::Error)]
pub enum Unrecognised {
    #[error("this is no card's link; it begins with lnurlw://, https:// or LNURL1")]
    NoLink,
    #[error("this card is not of this router")]
    Foreign,
    #[error("too many cards were shown; try again in a minute")]
    TooMany,
    #[error("{0}")]
    Refused(Reason),
}

impl Till {
    pub fn new(terms: Terms, invoices: InvoiceEngine, cards: Option<Cards>, tls: Tls) -> Till {
        let desk = Mutex::new(Desk { pace: Pace::new(TAPS, WINDOW), shown: LiteMap::new() });
        Till(Arc::new(SharedTill { terms, invoices, cards, outside: Outside::new(tls), desk }))
    }

    /// Has the card behind a link pay for `purchase` of this caller. Where it does not, nothing was taken, except that
    /// of a card that [says no](SaleError::CardSays) only its issuer knows. A caller that stops waiting stops nothing.
    pub async fn sell(
        &self,
        caller: &Caller,
        venue: &Venue,
        purchase: Purchase,
        link: &str,
    ) -> Result<Sold, SaleError> {
        let link = Link::parse(link).ok_or(SaleError::NoLink)?;
        let showing = Showing::of(&link, caller.mac, &purchase);
        let (tell, told) = watch::channel(None);
        let mut outcome = match self.desk().enter(showing, caller.mac, self.0.invoices.now(), &told)? {
            Some(earlier) => earlier,
            None => {
                let (till, caller, venue) = (self.clone(), caller.clone(), venue.clone());
                task::spawn(with_same_row(Box::pin(async move {
                    let sold = till.carry_out(&caller, &venue, purchase, &link).await;
                    if let Err(why) = &sold {
                        // Its words may repeat the link.
                        log::info!("{}: a card does not pay: {}", caller.mac, why.code());
                    }
                    tell.send_replace(Some(sold));
                })));
                told
            }
        };
        let ended = outcome.wait_for(Option::is_some).await;
        ended.ok().and_then(|outcome| outcome.clone()).unwrap_or(Err(SaleError::IssuerAway))
    }

    /// The card of this router behind a link, which this MAC has tapped; the tap is used up, and nothing is paid.
    pub async fn recognise(&self, mac: MacAddr, link: &str) -> Result<i64, Unrecognised> {
        let link = Link::parse(link).ok_or(Unrecognised::NoLink)?;
        if !self.desk().pace.admit(mac, self.0.invoices.now()) {
            return Err(Unrecognised::TooMany);
        }
        let config = self.0.terms.config();
        let own = config.card.as_ref().and_then(|card| link.own_tap(&card.domain));
        match (own, &self.0.cards) {
            (Some(tap), Some(cards)) => cards.recognise(tap).await.map_err(Unrecognised::Refused),
            _ => Err(Unrecognised::Foreign),
        }
    }

    /// When this MAC last showed a card, and the outcome: `None` while it is under way.
    pub fn latest(&self, mac: MacAddr) -> Option<(Millis, Option<Result<Sold, SaleError>>)> {
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
    ) -> Result<Sold, SaleError> {
        let config = self.0.terms.config();
        let own = config.card.as_ref().and_then(|card| link.own_tap(&card.domain));
        if let (Some(tap), Some(cards)) = (own, &self.0.cards) {
            return self.sell_here(cards, tap, caller, venue, purchase).await;
        }
        if link.is_onion() {
            return Err(SaleError::Onion);
        }
        let issuer = link.site.host();
        let unreachable = |why: String| {
            log::info!("card of {issuer}: {why}");
            SaleError::IssuerAway
        };
        self.0.terms.store.note_change_elsewhere().await?;
        let withdrawal = Withdrawal::ask(link, &self.0.outside).await.map_err(|why| match why {
            NoWithdrawal::Useless(why) => unreachable(why),
            NoWithdrawal::Refused(reason) => SaleError::CardSays(reason),
        })?;
        if let Some((least, most)) = withdrawal.refuses(purchase.amount) {
            return Err(SaleError::CardAmount { least, most });
        }
        let ask = Ask::for_access(AskPart { mint: purchase.mint, amount: purchase.amount });
        let request = self.0.invoices.open(caller, venue, ask).await?.request;
        let invoice = request.parts().first().map(|part| part.invoice.as_str()).unwrap_or_default();
        match withdrawal.give(invoice, &self.0.outside).await {
            CardTake::Refused(reason) => return Err(SaleError::CardSays(reason)),
            CardTake::NotSent(why) => return Err(unreachable(why)),
            CardTake::Unclear(why) => {
                log::info!("card of {issuer}: request {} may be paid: {why}", request.id)
            }
            CardTake::Taken => {}
        }
        // Perhaps it is paid already; if not, the looks of the request go on.
        let _ = self.0.invoices.status(caller.mac, &request.id).await;
        Ok(Sold::Given(request.id.clone()))
    }

    async fn sell_here(
        &self,
        cards: &Cards,
        tap: [&str; 3],
        caller: &Caller,
        venue: &Venue,
        Purchase { mint, amount }: Purchase,
    ) -> Result<Sold, SaleError> {
        let deal = self.0.terms.deal(venue, &mint, amount)?;
        self.0.terms.may_sell(venue.metric)?;
        Terms::is_alone(caller.clone()).await?;
        let mac = caller.mac;
        let grant = move |reference| deal.grant(reference, mac);
        let session = cards
            .spend_here(tap, amount, grant)
            .await
            .map_err(|reason| SaleError::CardSays(reason.to_string()))?;
        let access = self.0.terms.access.clone();
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
        Showing { digest, is_tap }: Showing,
        mac: MacAddr,
        now: Millis,
        outcome: &Outcome,
    ) -> Result<Option<Outcome>, SaleError> {
        self.shown.retain(|_, shown| shown.is_open() || shown.at.saturating_add(REMEMBERED) > now);
        if let Some(shown) = self.shown.get(&digest).filter(|shown| !shown.may_come_again(now)) {
            return if shown.mac == mac { Ok(Some(shown.outcome.clone())) } else { Err(SaleError::LinkUsed) };
        }
        let open = || self.shown.values().filter(|shown| shown.is_open());
        if open().count() >= AT_ONCE || open().any(|shown| shown.mac == mac) || !self.pace.admit(mac, now) {
            return Err(SaleError::TooMany(Limit::Cards));
        }
        if self.shown.len() >= MANY {
            let over = self.shown.iter().filter(|(_, shown)| !shown.is_open());
            if let Some(oldest) = over.min_by_key(|(_, shown)| shown.at).map(|(digest, _)| *digest) {
                self.shown.remove(&oldest);
            }
        }
        self.shown.insert(digest, Shown { mac, at: now, is_tap, outcome: outcome.clone() });
        Ok(None)
    }
}

impl Showing {
    fn of(link: &Link, mac: MacAddr, purchase: &Purchase) -> Showing {
        let (link, is_tap) = (link.digest(), link.is_tap());
        let form = || {
            let form = Sha256::new().chain_update(link).chain_update(mac.to_string());
            form.chain_update(purchase.amount.0.to_be_bytes())
                .chain_update(purchase.mint.as_str())
                .finalize()
                .into()
        };
        Showing { digest: if is_tap { link } else { form() }, is_tap }
    }
}

impl Shown {
    /// It did not pay, or may pay as often as it is asked and is not the same form again.
    fn may_come_again(&self, now: Millis) -> bool {
        let is_anew = !self.is_tap && !self.is_open() && self.at.saturating_add(SAME_FORM) <= now;
        self.has_failed() || is_anew
    }

    fn is_open(&self) -> bool {
        self.outcome.borrow().is_none()
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Err(_)))
    }
}

#[cfg(test)]
mod tests;
