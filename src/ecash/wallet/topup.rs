//! Ecash for a balance from an invoice that anybody pays (NUT-04). The invoice is watched until it is paid or long over, also
//! by the next start, and is claimed once.

use super::awaited::Awaited;
use super::own::WalletError;
use super::receive::takings;
use super::{prepare, total, Wallet};
use crate::config::MintUrl;
use crate::ecash::curve::SecretKey;
use crate::ecash::error::EcashError;
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::Proof;
use crate::ecash::retry;
use crate::ecash::wire::QuoteId;
use crate::hex;
use crate::store::{StoreError, TopupRow};
use crate::task;
use crate::units::{Millis, Sats, UnixSeconds};

impl Wallet {
    /// An invoice that credits an account once it is paid; without an account it tops the takings up.
    pub async fn topup(
        &self,
        account: &str,
        mint: &MintUrl,
        amount: Sats,
        memo: String,
        grace: Millis,
    ) -> Result<TopupRow, WalletError> {
        let too_many = || WalletError::Refused(super::Refusal::TooMany);
        let lock = self.0.store.topup_lock(account.to_owned()).await?.ok_or_else(too_many)?;
        let key = self.topup_key(lock).await?;
        let at = self.0.mints.get(mint);
        let quote = at.quote(amount, key.public_key(), memo.clone(), Urgency::Guest).await?;
        let row = TopupRow {
            payment_hash: hex::encode(&quote.invoice.payment_hash()),
            account: account.to_owned(),
            mint: mint.clone(),
            amount,
            memo,
            lock,
            quote: quote.id.as_str().to_owned(),
            invoice: quote.invoice_text.as_str().to_owned(),
            outputs: Vec::new(),
            is_open: true,
            expires_at: UnixSeconds(self.0.store.wall().0.saturating_add(quote.lifetime.0 / 1000)),
        };
        if !self.0.store.topup_begin(row.clone()).await? {
            return Err(too_many());
        }
        self.watch(Awaited::Topup(row.clone(), grace));
        Ok(row)
    }

    /// Goes on with the invoices from before this start.
    pub async fn resume_topups(&self, grace: Millis) -> Result<(), StoreError> {
        for row in self.0.store.open_topups(self.0.purse).await? {
            self.watch(Awaited::Topup(row, grace));
        }
        Ok(())
    }

    async fn topup_key(&self, lock: u32) -> Result<SecretKey, EcashError> {
        let seed = self.0.seed.clone();
        Ok(task::blocking(move || seed.lock_key(lock)).await.map_err(|_| EcashError::Busy)??)
    }

    /// Whether it is over.
    pub(super) async fn expire_topup(&self, row: &TopupRow, grace: Millis) -> Result<bool, EcashError> {
        let over = row.expires_at.0.saturating_add(grace.as_secs_ceil());
        if self.0.store.lasting_wall().0 < over {
            return Ok(false);
        }
        self.0.store.topup_expired(row.payment_hash.clone()).await.map_err(stored)?;
        Ok(true)
    }

    /// Has the ecash made that was paid for; the outputs are on record before, and what a lost answer held is restored.
    pub(super) async fn claim_topup(
        &self,
        row: &TopupRow,
        quote: &QuoteId,
        mint: &Mint,
    ) -> Result<bool, EcashError> {
        let key = self.topup_key(row.lock).await?;
        let known = self.0.store.topup(row.payment_hash.clone()).await.map_err(stored)?;
        let Some(mut row) = known.filter(|row| row.is_open) else { return Ok(true) };
        let mut skip = 0;
        if row.outputs.is_empty() {
            row = self.topup_outputs(&row, mint, skip).await?;
        } else if let Some(proofs) = self.restored_topup(&row, mint).await? {
            return self.keep_topup(&row, &proofs).await;
        }
        while row.outputs.len() <= retry::MOST_OUTPUT_SETS {
            let Some(newest) = row.outputs.last() else { break };
            let outputs = prepare(self.0.seed.clone(), newest).await?;
            match mint.mint(quote, outputs, key.clone(), Urgency::Background).await {
                Ok(proofs) => return self.keep_topup(&row, &proofs).await,
                Err(EcashError::KeysetInactive) => {}
                Err(
                    EcashError::OutputsAlreadySigned | EcashError::OutputsPending | EcashError::AlreadyIssued,
                ) => {
                    if let Some(proofs) = self.restored_topup(&row, mint).await? {
                        return self.keep_topup(&row, &proofs).await;
                    }
                    skip = retry::skipped(row.outputs.len());
                }
                Err(error) => return Err(error),
            }
            row = self.topup_outputs(&row, mint, skip).await?;
        }
        Err(EcashError::OutputsAlreadySigned)
    }

    /// What one of the earlier sets of outputs was signed for, if one was.
    async fn restored_topup(&self, row: &TopupRow, mint: &Mint) -> Result<Option<Vec<Proof>>, EcashError> {
        for set in row.outputs.iter().rev() {
            let outputs = prepare(self.0.seed.clone(), set).await?;
            let proofs = mint.restore(outputs, Urgency::Background).await?;
            if total(&proofs) == row.amount {
                return Ok(Some(proofs));
            }
        }
        Ok(None)
    }

    async fn topup_outputs(&self, row: &TopupRow, mint: &Mint, skip: u32) -> Result<TopupRow, EcashError> {
        let keyset = mint.active_keyset(Urgency::Background).await?;
        let amounts = keyset.split(row.amount).ok_or(EcashError::AmountNotPossible)?;
        let amounts = amounts.iter().map(|amount| amount.0).collect();
        let hash = row.payment_hash.clone();
        self.0.store.topup_outputs(hash, keyset.id().to_string(), amounts, skip).await.map_err(stored)
    }

    async fn keep_topup(&self, row: &TopupRow, proofs: &[Proof]) -> Result<bool, EcashError> {
        let came = takings(&row.mint, proofs);
        self.0.store.topup_done(row.payment_hash.clone(), came).await.map_err(stored)?;
        log::info!("balances: {} sat of {} credited", row.amount, row.mint);
        Ok(true)
    }
}

fn stored(error: StoreError) -> EcashError {
    log::error!("balances: {error}");
    EcashError::Busy
}
