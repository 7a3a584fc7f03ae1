//! `already paid?`: a guest who shows the receipt and the phone goes on with what was paid, on this device. Refused: a
//! pair that belongs to no order, and guessing.

use super::{MpesaEngine, MpesaError};
use crate::access::{Session, TicketError};
use crate::config::Venue;
use crate::fiat::{receipt_of, Phone};
use crate::network::neighbours::Caller;
use crate::sale::invoice::Shown;
use crate::store::{AccountKey, OrderRow, OrderState, Reference, Settled, StoreError, BUY};
use crate::task;
use crate::units::Allotment;
use std::sync::PoisonError;

/// A reboot may put the clock of sessions back by a minute.
const SET_BACK: Allotment = Allotment(60_000);

impl MpesaEngine {
    /// Moves what is left of a paid order to the caller: its last device goes first. A caller that stops waiting does not
    /// stop it.
    pub async fn claim(
        &self,
        caller: &Caller,
        venue: &Venue,
        (receipt, phone): (&str, &str),
    ) -> Result<Option<Session>, MpesaError> {
        self.0.terms.may_admit(venue.metric)?;
        let now = self.0.terms.store.now();
        let guesses = || self.0.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses().admit(caller.mac, now).map_err(MpesaError::TooMany)?;
        let row = self.paid_by(receipt, phone).await?.ok_or(MpesaError::NoSuchPayment)?;
        guesses().take_back(caller.mac);
        let (engine, caller, venue) = (self.clone(), caller.clone(), venue.clone());
        let moving = task::start(async move { engine.move_paid(&caller, &venue, row).await });
        moving.await.unwrap_or(Err(MpesaError::Sale(crate::sale::SaleError::Internal)))
    }

    async fn paid_by(&self, receipt: &str, phone: &str) -> Result<Option<OrderRow>, StoreError> {
        let (Some(receipt), Ok(phone)) = (receipt_of(receipt), phone.parse::<Phone>()) else {
            return Ok(None);
        };
        let hash = self.keyed("phone", phone.expose().as_bytes()).await?;
        let row = self.0.terms.store.order_by_receipt(receipt, hash).await?;
        let is_paid = |row: &OrderRow| {
            matches!(row.state, OrderState::Paid | OrderState::Granted | OrderState::LatePaid)
        };
        Ok(row.filter(|row| row.kind != BUY && is_paid(row)))
    }

    async fn move_paid(
        &self,
        caller: &Caller,
        venue: &Venue,
        row: OrderRow,
    ) -> Result<Option<Session>, MpesaError> {
        let store = &self.0.terms.store;
        if row.state == OrderState::LatePaid {
            if let Settled::Granted(admission) = store.grant_late_order(row.id.clone(), caller.mac).await? {
                self.admit(&row.id, admission).await;
                return Ok(self.0.terms.access.session(caller.mac, &venue.id));
            }
        }
        if !self.is_its_own(&row, caller).await? {
            return Err(MpesaError::Move(TicketError::NothingLeft));
        }
        let paid = Shown::Payment(Reference::Mpesa(row.id.clone()));
        let taken = self.0.invoices.attach(caller, venue, paid).await.map_err(|error| match error {
            TicketError::Store(error) => error.into(),
            error => MpesaError::Move(error),
        })?;
        log::info!("{} goes on with what order {} has paid", caller.mac, row.id);
        Ok(taken.session)
    }

    /// Whether what would move was paid by the order's phone. For the same device others may have paid as well, before or
    /// after, and a receipt is not theirs.
    async fn is_its_own(&self, row: &OrderRow, caller: &Caller) -> Result<bool, StoreError> {
        let store = &self.0.terms.store;
        let key = AccountKey::Payment(Reference::Mpesa(row.id.clone()));
        let Some(account) = store.account(&key, caller.mac).await? else { return Ok(true) };
        let bought = store.bought_by_its_phone(row.id.clone()).await?.saturating_add(SET_BACK);
        let is_there = account.devices.contains(&caller.mac);
        Ok(is_there || account.left(row.access.metric, store.now()) <= bought)
    }
}
