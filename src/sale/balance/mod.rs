//! Balances: what accounts of the wallet API have here, as ecash of a seed of its own. Refused: to spend more than an account
//! has, or than it may in a day.
//!
//! Reserve, send, settle: what is to leave a balance is reserved in a commit before a mint hears of it, and is settled or given
//! back when its outcome is proven. What was open when the program stopped is looked up by the next start. All accounts share
//! the ecash; the books say how much of it is whose.

mod backing;
mod brought;
mod error;
mod spend;

pub use error::BalanceError;
pub use spend::{amount_of, PaidInvoice, PaidState};

use super::Terms;
use crate::config::MintUrl;
use crate::ecash::wallet::{self, Wallet};
use crate::ecash::{MintEvent, Mints};
use crate::store::{BalanceMove, BookAccount, NewMove, PurseName, StoreError, TopupRow};
use crate::task;
use crate::units::{Millis, Msats, Sats};
use std::sync::Arc;
use tokio::sync::{mpsc, OnceCell};

/// How long after its end an invoice is still looked at.
const GRACE: Millis = Millis::from_secs(3600);
/// The longest memo of an invoice (bytes).
const LONGEST_MEMO: usize = 200;

/// What accounts have here; clones share everything.
#[derive(Clone)]
pub struct Balances(Arc<SharedBalances>);

struct SharedBalances {
    terms: Terms,
    takings: Wallet,
    mints: Mints,
    /// Opened when it is first needed: its seed is made then.
    purse: OnceCell<Wallet>,
    /// Held while ecash is moved from the takings.
    backing: tokio::sync::Mutex<()>,
}

impl Balances {
    /// Goes on with what was open when the program stopped.
    pub async fn start(terms: Terms, takings: Wallet, mints: Mints) -> Result<Balances, StoreError> {
        let (purse, backing) = Default::default();
        let balances = Balances(Arc::new(SharedBalances { terms, takings, mints, purse, backing }));
        if balances.0.terms.store.has_balances().await? {
            let resuming = balances.clone();
            task::spawn(async move {
                if let Err(error) = resuming.purse().await {
                    log::error!("balances: {error}");
                }
            });
        }
        Ok(balances)
    }

    /// The ecash of the balances.
    async fn purse(&self) -> Result<&Wallet, StoreError> {
        let open = || async {
            let store = &self.0.terms.store;
            let seed = Arc::new(wallet::balances_seed(store).await?);
            // No session begins here.
            let nobody = mpsc::channel(1).0;
            let purse =
                Wallet::start(store.clone(), self.0.mints.clone(), (PurseName::Balances, seed), nobody)
                    .await?;
            purse.resume_topups(GRACE).await?;
            self.resume(&purse).await?;
            Ok::<_, StoreError>(purse)
        };
        self.0.purse.get_or_try_init(open).await
    }

    /// What an account may spend, and what is reserved for what it sends.
    pub async fn of(&self, account: &str) -> Result<(Msats, Msats), BalanceError> {
        Ok(self.0.terms.store.balance_of(account.to_owned()).await?)
    }

    /// An account's changes, the newest first.
    pub async fn changes(
        &self,
        account: &str,
        before: i64,
        most: u32,
    ) -> Result<Vec<BalanceMove>, BalanceError> {
        Ok(self.0.terms.store.balance_moves(account.to_owned(), before, most).await?)
    }

    /// An invoice that credits the account once it is paid, whoever pays it.
    pub async fn invoice(&self, account: &str, amount: Sats, memo: &str) -> Result<TopupRow, BalanceError> {
        if amount == Sats(0) {
            return Err(BalanceError::BadAmount);
        }
        if memo.len() > LONGEST_MEMO || memo.contains(char::is_control) {
            return Err(BalanceError::BadMemo(LONGEST_MEMO));
        }
        if !self.0.terms.store.room_for_sales() {
            return Err(BalanceError::Closed("STORE_FULL"));
        }
        let config = self.0.terms.config();
        let (purse, mut last) = (self.purse().await?.clone(), BalanceError::NoMint);
        for mint in &config.mints {
            let asking = {
                let (purse, account, mint) = (purse.clone(), account.to_owned(), mint.url.clone());
                let (memo, grace) = (memo.to_owned(), GRACE);
                // An invoice that the mint has made is watched, if the caller goes away.
                task::start(async move { purse.topup(&account, &mint, amount, memo, grace).await })
            };
            match asking.await.map_err(|_| BalanceError::Closed("STOPPING"))? {
                Ok(row) => return Ok(row),
                Err(error) => last = error.into(),
            }
            if last == BalanceError::TooMany {
                break;
            }
        }
        Err(last)
    }

    /// Adds to a balance what the router pays, once by its reference. Refused where the takings do not have it; the ecash
    /// follows by itself.
    pub async fn fund(&self, new: NewMove, from: BookAccount) -> Result<(), BalanceError> {
        let margin = self.float_margin().await.unwrap_or_default();
        if !self.0.terms.store.fund_balance(new, from, margin).await? {
            return Err(BalanceError::FloatTooSmall);
        }
        self.back_soon();
        Ok(())
    }

    /// What moving ecash from the takings may cost.
    pub async fn float_margin(&self) -> Result<Sats, BalanceError> {
        let mut most = Sats(0);
        for held in self.0.takings.balances().await? {
            most = most.max(self.spending_fee(&held.mint).await?);
        }
        Ok(most)
    }

    pub fn on_mint_event(&self, mint: &MintUrl, event: &MintEvent) {
        if let Some(purse) = self.0.purse.get() {
            purse.on_mint_event(mint, event);
        }
    }

    /// Once an hour, as the takings are.
    pub async fn tidy(&self) {
        if let Some(purse) = self.0.purse.get() {
            purse.tidy().await;
            self.back().await;
        }
    }

    /// What a mint takes at most for the proofs of one payment.
    async fn spending_fee(&self, mint: &MintUrl) -> Result<Sats, BalanceError> {
        let fee = self.0.takings.spending_fee(mint).await;
        fee.map_err(|error| BalanceError::NotNow(error.to_string()))
    }
}
