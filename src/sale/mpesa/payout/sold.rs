//! Selling what is no balance yet: ecash that is brought with the question, or an invoice that somebody pays. Either becomes the
//! account's balance first, and is paid out of it; whatever comes in between, it is there.

use super::{hashed, MpesaEngine, PayoutError, PayoutWish};
use crate::ecash::wallet::Refusal;
use crate::fiat::{Phone, Rates};
use crate::sale::balance::{BalanceError, Balances};
use crate::store::{PaidBy, PayoutKind, PayoutRow, PayoutState};
use crate::units::Sats;

impl MpesaEngine {
    /// Sells a token. One that is refused is not taken; the same again is the same payout.
    pub async fn sell_token(
        &self,
        account: &str,
        (phone, token): (&str, &str),
        (balances, rates): (&Balances, &Rates),
    ) -> Result<PayoutRow, PayoutError> {
        let config = self.0.terms.config();
        self.may_pay_out(&config, PayoutKind::Sell)?;
        phone.parse::<Phone>().map_err(|()| PayoutError::BadPhone)?;
        let store = &self.0.terms.store;
        let offer = balances.look(token).await?;
        let wallet = offer.reference.to_string();
        if let Some(known) = store.payout_asked_for(account.to_owned(), hashed(&wallet)).await? {
            return Ok(known);
        }
        if offer.is_known {
            return Err(BalanceError::Token(Refusal::Spent).into());
        }
        let wish = PayoutWish::Sell { phone, sold: offer.net, via: PaidBy::Token };
        let quote = rates.selling().await?;
        let row = self.open_payout_by(account, wish, quote, (Some(&wallet), &wallet)).await?;
        if row.state != PayoutState::Awaiting {
            return Ok(row);
        }
        match balances.deposit(account, offer).await {
            Ok(_) => {
                store.payout_funded(row.id.clone(), self.rules()).await?;
                self.follow_payout(&row.id, true);
                Ok(store.payout(row.id.clone()).await?.unwrap_or(row))
            }
            // It goes on by itself once that is known.
            Err(BalanceError::TokenUnclear) => Ok(row),
            Err(error) => match self.end_payout(&row, row.not_paid(error.code())).await? {
                true => Err(error.into()),
                // Another request has brought the same.
                false => Ok(store.payout(row.id.clone()).await?.unwrap_or(row)),
            },
        }
    }

    /// Sells what an invoice brings once it is paid; the payout and the invoice.
    pub async fn sell_by_invoice(
        &self,
        account: &str,
        (phone, sold): (&str, Sats),
        (balances, rates): (&Balances, &Rates),
        question: Option<&str>,
    ) -> Result<(PayoutRow, String), PayoutError> {
        let store = &self.0.terms.store;
        let wish = PayoutWish::Sell { phone, sold, via: PaidBy::Lightning };
        let row = self.open_payout(account, wish, rates.selling().await?, question).await?;
        let mut refused = None;
        if row.wallet.is_empty() {
            match balances.invoice(account, sold, &format!("M-Pesa {}", row.id)).await {
                Ok(made) => {
                    let wallet = format!("invoice:{}", made.payment_hash);
                    store.payout_awaits(row.id.clone(), wallet).await?;
                }
                Err(error) => {
                    self.end_payout(&row, row.not_paid(error.code())).await?;
                    refused = Some(error);
                }
            }
        }
        // The same question at the same time may have had another invoice made: the payout awaits that one then.
        let row = store.payout(row.id.clone()).await?.unwrap_or(row);
        if let Some(error) = refused.filter(|_| row.wallet.is_empty()) {
            return Err(error.into());
        }
        let hash = row.wallet.split_once(':').map(|(_, hash)| hash.to_owned()).unwrap_or_default();
        let known = store.topup(hash).await?;
        Ok((row, known.map(|known| known.invoice).unwrap_or_default()))
    }
}
