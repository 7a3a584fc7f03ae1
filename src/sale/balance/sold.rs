//! A token that is to be sold: looked at before anything is taken.

use super::{BalanceError, Balances};
use crate::config::MintUrl;
use crate::ecash::wallet::TokenOffer;

impl Balances {
    /// What a token is worth to us, or why it is refused. No money moves.
    pub async fn look(&self, token: &str) -> Result<TokenOffer, BalanceError> {
        let mints: Vec<MintUrl> = self.0.terms.config().mints.iter().map(|mint| mint.url.clone()).collect();
        self.purse().await?.assess(token, &mints).await.map_err(BalanceError::Token)
    }
}
