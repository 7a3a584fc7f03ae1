//! May this be sold, for how much, to whom? Every engine asks here, before it takes money that could not be honoured.

use super::price::Price;
use super::SaleError;
use crate::access::Access;
use crate::config::{Config, Metric, MintUrl, Venue};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::network::witness;
use crate::store::{NewGrant, Reference, Store};
use crate::task;
use crate::units::{Allotment, Sats};
use std::sync::Arc;
use tokio::sync::watch;

/// What every engine stands on; clones share it.
#[derive(Clone)]
pub struct Terms {
    pub store: Store,
    pub access: Access,
    pub(super) config: watch::Receiver<Arc<Config>>,
}

/// What an amount of a mint's money buys at a venue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal {
    venue: String,
    pub mint: MintUrl,
    pub amount: Sats,
    pub metric: Metric,
    pub allotment: Allotment,
    /// What of `amount` the allotment has cost.
    value: Sats,
}

impl Terms {
    pub fn new(store: Store, access: Access, config: watch::Receiver<Arc<Config>>) -> Terms {
        Terms { store, access, config }
    }

    /// The configuration, as it changes.
    pub fn settings(&self) -> watch::Receiver<Arc<Config>> {
        self.config.clone()
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Whether a payment can be written down.
    pub fn has_space(&self) -> Result<(), SaleError> {
        match self.store.room_for_sales() {
            true => Ok(()),
            false => Err(SaleError::Closed("STORE_FULL")),
        }
    }

    /// Whether there is nothing that has to be opened before money is taken.
    pub fn is_unsealed(&self) -> Result<(), SaleError> {
        match self.store.is_sealed() {
            true => Err(SaleError::Closed("SEALED")),
            false => Ok(()),
        }
    }

    /// Whether something can be sold now: keys are open, and access can be given.
    pub fn may_sell(&self, metric: Metric) -> Result<(), SaleError> {
        self.is_unsealed()?;
        self.may_admit(metric)
    }

    /// Whether access of this metric can be given now: there is space, and the gate is in place and can count.
    pub fn may_admit(&self, metric: Metric) -> Result<(), SaleError> {
        self.has_space()?;
        match self.access.gatekeeper().status().cannot_sell(metric) {
            None => Ok(()),
            Some("GATE_DOWN") => Err(SaleError::GateDown),
            Some(code) => Err(SaleError::Closed(code)),
        }
    }

    /// What a mint's money buys at a venue.
    pub fn price(&self, venue: &Venue, mint: &MintUrl) -> Result<Price, SaleError> {
        let config = self.config.borrow();
        let mint = config.mint_for(venue, mint).ok_or(SaleError::MintNotAccepted)?;
        Ok(Price::of(venue, mint))
    }

    /// What `amount` of a mint's money buys at a venue. Refused where it buys nothing.
    pub fn deal(&self, venue: &Venue, mint: &MintUrl, amount: Sats) -> Result<Deal, SaleError> {
        let price = self.price(venue, mint)?;
        let refused = |error| SaleError::Price { offered: amount, fee: Sats(0), error };
        let allotment = price.allotment(amount).map_err(refused)?;
        Ok(Deal {
            venue: venue.id.clone(),
            mint: mint.clone(),
            amount,
            metric: price.metric,
            allotment,
            value: price.value(amount, allotment),
        })
    }

    /// The deal that was made when an invoice was asked for, with its value at today's price.
    pub(super) fn deal_kept(
        &self,
        venue: &str,
        mint: &MintUrl,
        amount: Sats,
        (metric, allotment): (Metric, Allotment),
    ) -> Deal {
        let config = self.config.borrow();
        let price =
            config.venue(venue).and_then(|venue| Some(Price::of(venue, config.mint_for(venue, mint)?)));
        let value = price.map_or(amount, |price| price.value(amount, allotment));
        Deal { venue: venue.to_owned(), mint: mint.clone(), amount, metric, allotment, value }
    }

    /// Asks the neighbours whether the address is the caller's alone. Takes up to a quarter of a second: to be asked
    /// while something else is waited for.
    pub async fn is_alone(caller: Caller) -> Result<(), SaleError> {
        Terms::ask_neighbours(move || witness::confirm(&caller)).await
    }

    /// As `is_alone`. The caller's packets alone tell it at once; the whole link is only asked where another device has
    /// spoken from the address.
    pub async fn seems_alone(caller: Caller) -> Result<(), SaleError> {
        let asked = move || match witness::seen(caller.address) {
            Ok(seen) if seen.iter().all(|(mac, _)| *mac == caller.mac) => Ok(()),
            _ => witness::confirm(&caller),
        };
        Terms::ask_neighbours(asked).await
    }

    async fn ask_neighbours(
        asked: impl FnOnce() -> Result<(), witness::Clash> + Send + 'static,
    ) -> Result<(), SaleError> {
        match task::blocking(asked).await {
            Ok(Ok(())) => Ok(()),
            // The witness has said which address it is.
            Ok(Err(clash)) => {
                log::warn!("no sale: {clash}");
                Err(SaleError::Clash)
            }
            Err(_) => Err(SaleError::Internal),
        }
    }
}

impl Deal {
    /// The access that is due to a MAC once the payment of this reference is taken.
    pub fn grant(self, reference: Reference, mac: MacAddr) -> NewGrant {
        let Deal { venue, mint, amount, metric, allotment, value } = self;
        let (amount, value) = (amount.into(), value.into());
        NewGrant { reference, mac, venue, amount, metric, allotment, value, mint: Some(mint) }
    }
}
