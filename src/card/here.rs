//! A card of ours that buys access at this router: the operator would pay himself, so no payment is made.
//!
//! No invoice, no mint, no Lightning: the tap is checked as any other, and then used up, counted against the card's
//! limits and turned into access in one commit. What the books say afterwards: the card's history has a payment
//! `spent here` without fee and payment hash, of the same amount and with the same claim on its limits as one to
//! any other till; the sale has the grant `card:<tap>` and counts among the sales; and neither the takings nor what
//! pays invoices has changed. So the sales are the takings, what tokens brought, and what cards spent here: the
//! last is what the holders had of the operator before.

use super::tap::MIN_WITHDRAWABLE;
use super::{Cards, Reason};
use crate::store::{Admission, NewGrant, Reference, ReserveResult};
use crate::units::Sats;

impl Cards {
    /// Buys access for `amount` with the tap of one of our cards, once. `grant` is given the tap's reference.
    pub async fn spend_here(
        &self,
        [card, p, c]: [&str; 3],
        amount: Sats,
        grant: impl FnOnce(Reference) -> NewGrant + Send + 'static,
    ) -> Result<Admission, Reason> {
        let config = self.0.config.borrow().card.clone().ok_or(Reason::NoCards)?;
        let store = &self.0.store;
        if store.is_sealed() || !store.room_for_sales() {
            return Err(Reason::NotNow);
        }
        let amount = amount.to_msats().filter(|amount| amount.0 >= MIN_WITHDRAWABLE);
        let amount = amount.ok_or(Reason::TooSmall)?;
        let tap = self.take(&config, card, p, c).await?;
        if amount > tap.most {
            return Err(Reason::OverTapLimit);
        }
        match store.spend_here(tap.hashed, amount, grant).await {
            Ok(Ok(session)) => {
                log::info!("card {card}: {} sat spent here", amount.0 / 1000);
                Ok(session)
            }
            Ok(Err(refused)) => Err(match refused {
                ReserveResult::Disabled => Reason::Disabled,
                ReserveResult::OverTapLimit => Reason::OverTapLimit,
                ReserveResult::OverDayLimit => Reason::OverDayLimit,
                _ => Reason::Spent,
            }),
            Err(err) => {
                log::error!("card {card}: nothing can be spent here: {err}");
                Err(Reason::NotNow)
            }
        }
    }
}
