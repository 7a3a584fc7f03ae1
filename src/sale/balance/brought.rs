//! A token that is brought for a balance, or to be sold: looked at before anything is taken. Refused: one that is locked, also to a
//! venue of ours, and everything that the takings refuse.

use super::{BalanceError, Balances};
use crate::config::MintUrl;
use crate::ecash::wallet::{Received, Refusal, TokenOffer};
use crate::task;
use crate::units::Msats;

impl Balances {
    /// What a token is worth to us, or why it is refused. No money moves.
    pub async fn look(&self, token: &str) -> Result<TokenOffer, BalanceError> {
        if !self.0.terms.store.room_for_sales() {
            return Err(BalanceError::Closed("STORE_FULL"));
        }
        let mints: Vec<MintUrl> = self.0.terms.config().mints.iter().map(|mint| mint.url.clone()).collect();
        match self.purse().await?.assess(token, &mints).await? {
            offer if offer.is_locked() => Err(Refusal::Locked.into()),
            offer => Ok(offer),
        }
    }

    /// Adds a token to an account's balance, once; what was added. The same token again is answered alike, by the same account
    /// only.
    pub async fn deposit(&self, account: &str, mut offer: TokenOffer) -> Result<Msats, BalanceError> {
        let purse = self.purse().await?.clone();
        offer.credits = Some(account.to_owned());
        let reference = offer.reference.to_string();
        let receiving = task::start(async move { purse.receive(offer, None).await });
        match receiving.await.map_err(|_| BalanceError::Closed("STOPPING"))? {
            Received::Done { .. } => {
                let added = self.0.terms.store.balance_move(reference).await?;
                let added = added.filter(|added| added.account == account);
                added.map(|added| added.amount).ok_or_else(|| Refusal::Spent.into())
            }
            Received::Refused(refusal) => Err(refusal.into()),
            Received::Unknown | Received::InFlight => Err(BalanceError::TokenUnclear),
        }
    }
}
