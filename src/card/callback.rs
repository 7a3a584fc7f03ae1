//! The callback of a tap: `GET /ln/callback?k1=&pr=` (LUD-03), the till's invoice.
//!
//! Cheap checks first: is the k1 alive, is the invoice one that we pay; its signature last, as that costs curve
//! arithmetic. Nothing of that uses the tap up: a till may come again with a better invoice.

use super::payment::{End, Taking};
use super::tap::MIN_WITHDRAWABLE;
use super::{lock, Cards, Reason};
use crate::bolt11::Invoice;
use crate::config;
use crate::hex;
use crate::lightning::Backend;
use crate::pasted;
use crate::store::{NewPayment, ReserveResult, TapRow, TapState};
use crate::units::{Millis, Msats, ALL_MSATS};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{timeout_at, Instant};

/// An invoice that ends sooner is refused: a payment takes some time.
const LEFT_AT_LEAST: Millis = Millis::from_secs(30);
/// How long after an invoice's end a backend that knows nothing of it proves that nothing was sent.
const MARGIN: Millis = Millis::from_secs(20);
/// Blocks for which a payee may hold the money: two weeks, the most that nodes route.
const MAX_FINAL_CLTV: u64 = 2016;
/// Between looks at a payment that is neither open nor ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a callback asks for.
enum Wish {
    /// A new payment.
    Pay(NewPayment, Vec<Backend>),
    /// One that is there: of this tap, or of the same card for the same invoice.
    Again([u8; 32], TapRow),
}

impl Cards {
    /// Pays a till's invoice for its tap, once. `Ok` when it is paid or on its way. The same card may be tapped again for
    /// the invoice that it pays: the answer is that payment's. Tills give up soon, so the answer comes within
    /// [`PaymentPace::patience`](super::payment::PaymentPace), whatever is slow behind it.
    pub async fn callback(&self, k1: &str, pr: &str) -> Result<(), Reason> {
        let until = Instant::now() + self.0.pace.patience;
        if k1.is_empty() || pr.is_empty() {
            return Err(Reason::Incomplete);
        }
        let pr = pasted::one(pr);
        // A wish that is given up here was handed to no one, so it is not carried out later.
        let wish = timeout_at(until, self.wish(k1, &pr)).await.unwrap_or(Err(Reason::NotNow))?;
        let carrying_out = async {
            match wish {
                Wish::Again(k1, tap) => self.again(k1, tap, &pr, until).await,
                Wish::Pay(payment, backends) => {
                    let (k1, hash) = (payment.k1, payment.payment_hash);
                    match self.take_on(payment, backends).await {
                        Taking::On(end) => self.wait(end, until).await,
                        Taking::Not(ReserveResult::Tap(tap)) => self.again(k1, tap, &pr, until).await,
                        Taking::Not(refused) => match self.of_same_card(k1, hash).await {
                            Some((k1, tap)) => self.again(k1, tap, &pr, until).await,
                            None => Err(refusal(&refused)),
                        },
                        Taking::Unclear => Err(Reason::NotNow),
                    }
                }
            }
        };
        // Given up here, it is, or may be, on its way.
        timeout_at(until, carrying_out).await.unwrap_or(Ok(()))
    }

    async fn wish(&self, k1: &str, pr: &str) -> Result<Wish, Reason> {
        let config = self.0.config.borrow().card.clone().ok_or(Reason::NoCards)?;
        let k1: [u8; 16] = hex::decode(k1).ok_or(Reason::Spent)?;
        let k1: [u8; 32] = Sha256::digest(k1).into();
        let store = &self.0.store;
        let now = store.now();
        if !lock(&self.0.recent).may_ask(&k1, now) {
            return Err(Reason::Spent);
        }
        let tap = store.tap_of(k1).await.map_err(|_| Reason::NotNow)?.ok_or(Reason::Spent)?;
        if tap.state != TapState::Issued {
            return Ok(Wish::Again(k1, tap));
        }
        if tap.ends <= now {
            return Err(Reason::Spent);
        }
        let invoice = Invoice::parse(pr)?;
        let hash = invoice.payment_hash();
        if !lock(&self.0.recent).may_try(&k1, hash) {
            return Err(Reason::Spent);
        }
        match self.payment(k1, &invoice, pr, &config) {
            Ok((payment, backends)) => Ok(Wish::Pay(payment, backends)),
            Err(why) => self.of_same_card(k1, hash).await.map(|(k1, tap)| Wish::Again(k1, tap)).ok_or(why),
        }
    }

    fn payment(
        &self,
        k1: [u8; 32],
        invoice: &Invoice,
        pr: &str,
        config: &config::Card,
    ) -> Result<(NewPayment, Vec<Backend>), Reason> {
        let (amount, due) = self.payable(invoice, config)?;
        let backends = self.0.backends.current().map_err(|_| Reason::NotNow)?;
        let first = backends.first().ok_or(Reason::NotNow)?;
        if self.0.store.is_sealed() || !self.0.store.room_for_sales() {
            return Err(Reason::NotNow);
        }
        invoice.payee().ok_or(Reason::Unsigned)?;
        let payment = NewPayment {
            k1,
            invoice: pr.to_ascii_lowercase(),
            payment_hash: invoice.payment_hash(),
            amount,
            fee_limit: first.fee_limit,
            due,
            backend: first.id,
        };
        Ok((payment, backends))
    }

    /// Another tap of the same card whose payment of this invoice is under way, and its k1.
    async fn of_same_card(&self, k1: [u8; 32], payment_hash: [u8; 32]) -> Option<([u8; 32], TapRow)> {
        let found = self.0.store.other_tap_of_card(k1, payment_hash).await;
        found.unwrap_or_else(|err| {
            log::error!("card: a tap's card cannot be looked up: {err}");
            None
        })
    }

    /// What is checked before curve arithmetic: the amount, and when the invoice ends.
    fn payable(&self, invoice: &Invoice, config: &config::Card) -> Result<(Msats, Millis), Reason> {
        if invoice.network() != Some(config.network) {
            return Err(Reason::WrongNetwork);
        }
        let amount = invoice.amount().ok_or(Reason::NoAmount)?;
        if amount.0 < MIN_WITHDRAWABLE {
            return Err(Reason::TooSmall);
        }
        if amount.0 > ALL_MSATS {
            return Err(Reason::OverTapLimit);
        }
        if invoice.min_final_cltv() > MAX_FINAL_CLTV {
            return Err(Reason::HeldTooLong);
        }
        if invoice.unknown_feature().is_some() {
            return Err(Reason::UnknownFeature);
        }
        let store = &self.0.store;
        // Until the clock is set we cannot tell what has expired.
        if !store.wall_is_plausible() {
            return Err(Reason::NotNow);
        }
        let left = Millis::from_secs(invoice.expires_at().0.saturating_sub(store.wall().0));
        if left < LEFT_AT_LEAST {
            return Err(Reason::Expired);
        }
        Ok((amount, store.now().saturating_add(left).saturating_add(MARGIN)))
    }

    /// A k1 that has become a payment: for the same invoice the answer is that payment's.
    async fn again(&self, k1: [u8; 32], mut tap: TapRow, pr: &str, until: Instant) -> Result<(), Reason> {
        let hash = Invoice::parse(pr).ok().map(|invoice| invoice.payment_hash());
        if hash.is_none() || hash != tap.payment_hash {
            return Err(Reason::Spent);
        }
        loop {
            match tap.state {
                TapState::Issued => return Err(Reason::Spent),
                TapState::Paid => return Ok(()),
                TapState::Failed => return Err(Reason::PaymentFailed),
                TapState::Reserved | TapState::Sent => {}
            }
            let open = lock(&self.0.open).get(&tap.id).cloned();
            if let Some(end) = open {
                return self.wait(end, until).await;
            }
            // The row was read between its commit and the moment when `open` says the same: the payment was reserved
            // just now, or has just ended. "OK" would be a guess, and wrong for one that has failed.
            if Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let Ok(Some(row)) = self.0.store.tap_of(k1).await else { return Ok(()) };
            tap = row;
        }
    }

    /// Waits for a payment's end, but not beyond what a till waits.
    async fn wait(&self, mut end: watch::Receiver<Option<End>>, until: Instant) -> Result<(), Reason> {
        let ended = timeout_at(until, end.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(end)) if *end == Some(End::Failed) => Err(Reason::PaymentFailed),
            // Paid, or on its way.
            _ => Ok(()),
        }
    }
}

fn refusal(refused: &ReserveResult) -> Reason {
    match refused {
        ReserveResult::Tap(_) | ReserveResult::NoTap | ReserveResult::Reserved(_) => Reason::Spent,
        ReserveResult::Disabled => Reason::Disabled,
        ReserveResult::OverTapLimit => Reason::OverTapLimit,
        ReserveResult::OverDayLimit => Reason::OverDayLimit,
        ReserveResult::InvoiceUsed => Reason::InvoiceUsed,
    }
}
