//! Shillings into a balance: an order like any other, that promises ecash at the rate of its moment instead of access.

use super::{order_id, MpesaEngine, MpesaError};
use crate::config::fiat::MOST_KES;
use crate::config::Metric;
use crate::fiat::{Phone, Quote};
use crate::hex;
use crate::mac::MacAddr;
use crate::store::{NewBuy, NewGrant, NewOrder, OrderRow, Reference, Secret, StoreError};
use crate::units::{Allotment, Kes, Millis, Sats};
use sha2::{Digest, Sha256};
use std::sync::PoisonError;

impl MpesaEngine {
    /// Opens an order that adds to an account's balance, or finds the one that is meant; with what it promises. `margin`: what
    /// moving the ecash may cost.
    pub async fn buy(
        &self,
        account: &str,
        (phone, paid): (&str, Kes),
        quote: Quote,
        margin: Sats,
        question: Option<&str>,
    ) -> Result<(OrderRow, u64), MpesaError> {
        let config = self.0.terms.config();
        let mpesa = config.mpesa.as_ref().ok_or(MpesaError::SwitchedOff)?;
        let fiat = config.fiat.as_ref().filter(|fiat| fiat.operator_licensed && fiat.buy);
        let fiat = fiat.ok_or(MpesaError::SwitchedOff)?;
        let phone: Phone = phone.parse().map_err(|()| MpesaError::BadPhone)?;
        if !(1..=MOST_KES).contains(&paid.0) {
            return Err(MpesaError::BadAmount);
        }
        self.0.terms.has_space()?;
        let store = &self.0.terms.store;
        if !store.wall_is_plausible() {
            return Err(MpesaError::ClockNotSet);
        }
        let (mac, now) = (stand_in(account)?, store.now());
        {
            let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
            if !orders.admit(mac, now) {
                return Err(MpesaError::TooMany(orders.wait(mac, now)));
            }
        }
        let amount = quote.bought_with(paid).filter(|amount| amount.0 > 0).ok_or(MpesaError::BadAmount)?;
        let id = order_id().ok_or(StoreError::NoRandomness)?;
        let access = NewGrant {
            reference: Reference::Mpesa(id.clone()),
            mac,
            venue: String::new(),
            amount: paid.into(),
            metric: Metric::Milliseconds,
            allotment: Allotment(0),
            value: Sats(0).into(),
            mint: None,
        };
        let asked = question.map(|question| hex::encode(&Sha256::digest(question.as_bytes())));
        let new = NewOrder {
            id,
            amount: paid,
            phone: Secret::new(phone.expose().as_bytes().to_vec()),
            phone_hash: self.keyed("phone", phone.expose().as_bytes()).await?,
            phone_tail: phone.tail().to_owned(),
            price: format!("buy {}", paid.0),
            access,
            asked: asked.unwrap_or_default(),
            buys: Some(NewBuy {
                account: account.to_owned(),
                amount,
                rate: quote.rate,
                spread_bp: quote.spread_bp,
                day_max: fiat.day_max,
                margin,
            }),
        };
        let row = self.opened(mpesa, new, &phone).await?;
        // One that was opened before has the rate of that moment.
        let promised = store.buy(row.id.clone()).await?.filter(|promised| promised.account == account);
        let promised = promised.ok_or(MpesaError::NoSuchOrder)?;
        Ok((row, promised.amount.0))
    }

    /// Returns when a balance has got something, or after this time.
    pub async fn has_bought(&self, patience: Millis) -> bool {
        tokio::time::timeout(patience.as_duration(), self.0.bought.notified()).await.is_ok()
    }
}

/// What stands in the place of a device: one order of an account is open at a time. Nothing is granted to it.
fn stand_in(account: &str) -> Result<MacAddr, MpesaError> {
    let [a, b, c, d, e, ..] = <[u8; 32]>::from(Sha256::digest(account.as_bytes()));
    MacAddr::new([2, a, b, c, d, e]).map_err(|_| MpesaError::NoSuchOrder)
}
