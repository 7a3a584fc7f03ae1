//! Backing vouchers with what a reseller pays: one invoice for the batch (NUT-04), whose ecash is locked to the venue as it
//! is made. A batch has only one invoice ever. If nobody pays it in time, its vouchers have failed.

use super::awaited::Awaited;
use super::back::{locked_proofs, BackError, Backing};
use super::{total, Wallet};
use crate::config::{MintUrl, Tenant};
use crate::ecash::error::EcashError;
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::Proof;
use crate::ecash::wire::QuoteId;
use crate::ecash::{retry, Keyset};
use crate::store::{FundingRow, LockedRow, LockedState, StoreError};
use crate::task;
use crate::units::{Sats, UnixSeconds};

/// What one request makes at most.
const MOST_OUTPUTS: u32 = 900;
pub const TOO_MANY_FOR_ONE_INVOICE: &str =
    "one invoice cannot pay for so many of these amounts: order fewer at once";
/// How long (seconds) after its end an invoice is still looked at: a payment may have been on its way.
const GRACE: u64 = 120;

/// What a reseller is to pay.
#[derive(Clone, Debug)]
pub struct BatchInvoice {
    pub invoice: String,
    pub amount: Sats,
    pub mint: MintUrl,
    pub expires_at: UnixSeconds,
}

/// What a batch would cost, as far as that is known without asking its mint.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    pub keyset: Option<String>,
    pub final_expiry: Option<UnixSeconds>,
    pub input_fee: Sats,
    pub outputs: usize,
    /// What can be spent of the takings.
    pub balance: Sats,
}

impl Wallet {
    /// The invoice that pays for a batch; the same for the same batch. The vouchers' rows have been written before; they fail
    /// where no invoice can ever be had, and wait for the same order again where none can be had now.
    pub async fn invoice(
        &self,
        tenant: &Tenant,
        batch: &str,
        mint: &MintUrl,
        vouchers: Vec<Backing>,
    ) -> Result<BatchInvoice, BackError> {
        let known = self.0.store.funding(tenant, batch).await?;
        let funding = match known {
            Some(funding) => funding,
            None => match self.new_funding(tenant, batch, mint, vouchers).await {
                Ok(funding) => funding,
                Err(error) if error.goes_on() => return Err(error),
                Err(error) => self.drop_invoice(tenant, batch, error).await?,
            },
        };
        Ok(self.watched(funding))
    }

    /// The same for who does not come again: without an invoice now the vouchers fail.
    pub async fn invoice_now(
        &self,
        tenant: &Tenant,
        batch: &str,
        mint: &MintUrl,
        vouchers: Vec<Backing>,
    ) -> Result<BatchInvoice, BackError> {
        match self.invoice(tenant, batch, mint, vouchers).await {
            Err(error) if error.goes_on() => Ok(self.watched(self.drop_invoice(tenant, batch, error).await?)),
            done => done,
        }
    }

    /// Gives up the vouchers of a batch that got no invoice. If it has got one meanwhile, that.
    async fn drop_invoice(
        &self,
        tenant: &Tenant,
        batch: &str,
        why: BackError,
    ) -> Result<FundingRow, BackError> {
        self.0.store.funding_refused(tenant, batch, why.code()).await?.ok_or(why)
    }

    /// Goes on to look at it.
    fn watched(&self, funding: FundingRow) -> BatchInvoice {
        let FundingRow { invoice, amount, mint, expires_at, .. } = funding.clone();
        self.watch_funding(funding);
        BatchInvoice { invoice, amount, mint, expires_at }
    }

    async fn new_funding(
        &self,
        tenant: &Tenant,
        batch: &str,
        mint: &MintUrl,
        vouchers: Vec<Backing>,
    ) -> Result<FundingRow, BackError> {
        let impossible = || BackError::Refused(EcashError::AmountNotPossible.to_string());
        let amount = vouchers.iter().try_fold(Sats(0), |sum, one| sum.checked_add(one.amount));
        let amount = amount.ok_or_else(impossible)?;
        if !fits_one_invoice(vouchers.iter().map(|one| one.amount)) {
            return Err(BackError::Refused(TOO_MANY_FOR_ONE_INVOICE.to_owned()));
        }
        self.plan(tenant, batch, Some(mint.clone()), vouchers, LockedState::Awaiting).await?;
        let lock = self.0.store.quote_key().await?;
        let key = self.lock_secret(lock).await.map_err(|_| BackError::Store("KEY_MISSING"))?;
        let at = self.0.mints.get(mint);
        let asked = at.quote(amount, key.public_key(), String::new(), Urgency::Guest);
        let quote = asked.await.map_err(|error| match error {
            EcashError::AmountNotPossible
            | EcashError::AmountOutOfRange(..)
            | EcashError::Unsuitable(_)
            | EcashError::LoginNeeded
            | EcashError::Mint { .. } => BackError::Refused(error.to_string()),
            error => {
                log::warn!("vouchers: {mint}: {error}");
                BackError::MintAway
            }
        })?;
        let funding = FundingRow {
            tenant: tenant.clone(),
            batch: batch.to_owned(),
            mint: mint.clone(),
            amount,
            lock,
            quote: quote.id.as_str().to_owned(),
            invoice: quote.invoice_text.as_str().to_owned(),
            expires_at: UnixSeconds(self.0.store.wall().0.saturating_add(quote.lifetime.0 / 1000)),
            is_open: true,
        };
        Ok(self.0.store.funding_begin(funding).await?)
    }

    /// Goes on with the invoices from before this start.
    pub(super) async fn resume_fundings(&self) -> Result<(), StoreError> {
        for (tenant, batch) in self.0.store.open_fundings().await? {
            if let Some(funding) = self.0.store.funding(&tenant, &batch).await? {
                self.watch_funding(funding);
            }
        }
        Ok(())
    }

    /// Looks at the quote of a batch until it is paid, and claimed, or over.
    pub(super) fn watch_funding(&self, funding: FundingRow) {
        if funding.is_open {
            self.watch(Awaited::Batch(funding));
        }
    }

    /// Whether it is over.
    pub(super) async fn expire_funding(&self, funding: &FundingRow) -> Result<bool, EcashError> {
        if self.0.store.lasting_wall().0 < funding.expires_at.0.saturating_add(GRACE) {
            return Ok(false);
        }
        log::info!("vouchers: a batch was not paid for in time");
        self.0
            .store
            .funding_expired(&funding.tenant, &funding.batch, "invoice_expired")
            .await
            .map_err(stored)?;
        Ok(true)
    }

    /// Has the locked ecash made that was paid for; the outputs are on record before, and what a lost answer held is restored.
    pub(super) async fn claim_funding(
        &self,
        funding: &FundingRow,
        quote: &QuoteId,
        mint: &Mint,
    ) -> Result<bool, EcashError> {
        let key = self.lock_secret(funding.lock).await?;
        let rows = self.0.store.locked_of_batch(&funding.tenant, &funding.batch).await.map_err(stored)?;
        let mut rows: Vec<LockedRow> =
            rows.into_iter().filter(|row| row.state == LockedState::Awaiting).collect();
        let mut skip = 0;
        if sets(&rows) == 0 {
            rows = self.funding_outputs(funding, &rows, mint, skip).await?;
        } else if let Some(proofs) = self.restored_funding(funding, &rows, mint).await? {
            return self.keep_funding(funding, rows, proofs).await;
        }
        while sets(&rows) <= retry::MOST_OUTPUT_SETS {
            let newest = sets(&rows).saturating_sub(1);
            let outputs = self.locked_outputs(&rows, newest, None).await?;
            match mint.mint(quote, outputs, key.clone(), Urgency::Background).await {
                Ok(proofs) => return self.keep_funding(funding, rows, proofs).await,
                Err(EcashError::KeysetInactive) => {}
                Err(
                    EcashError::OutputsAlreadySigned | EcashError::OutputsPending | EcashError::AlreadyIssued,
                ) => {
                    if let Some(proofs) = self.restored_funding(funding, &rows, mint).await? {
                        return self.keep_funding(funding, rows, proofs).await;
                    }
                    skip = retry::skipped(sets(&rows));
                }
                Err(error) => return Err(error),
            }
            rows = self.funding_outputs(funding, &rows, mint, skip).await?;
        }
        Err(EcashError::OutputsAlreadySigned)
    }

    /// What one of the earlier sets of outputs was signed for, if one was.
    async fn restored_funding(
        &self,
        funding: &FundingRow,
        rows: &[LockedRow],
        mint: &Mint,
    ) -> Result<Option<Vec<Proof>>, EcashError> {
        for set in (0..sets(rows)).rev() {
            let outputs = self.locked_outputs(rows, set, None).await?;
            let proofs = mint.restore(outputs, Urgency::Background).await?;
            if total(&proofs) == funding.amount {
                return Ok(Some(proofs));
            }
        }
        Ok(None)
    }

    async fn funding_outputs(
        &self,
        funding: &FundingRow,
        rows: &[LockedRow],
        mint: &Mint,
        skip: u32,
    ) -> Result<Vec<LockedRow>, EcashError> {
        let keyset = mint.active_keyset(Urgency::Background).await?;
        let amounts = |row: &LockedRow| Some((row.id.clone(), split(&keyset, row.amount)?));
        let amounts: Option<Vec<_>> = rows.iter().map(amounts).collect();
        let terms = (keyset.id().to_string(), keyset.terms().input_fee_ppk);
        let amounts = amounts.ok_or(EcashError::AmountNotPossible)?;
        let taken = self.0.store.funding_outputs(&funding.tenant, &funding.batch, terms, amounts, skip);
        taken.await.map_err(stored)
    }

    async fn keep_funding(
        &self,
        funding: &FundingRow,
        rows: Vec<LockedRow>,
        proofs: Vec<Proof>,
    ) -> Result<bool, EcashError> {
        let locked = task::blocking(move || locked_proofs(&rows, &proofs)).await;
        let locked = locked.ok().flatten().ok_or(EcashError::Busy)?;
        self.0.store.funding_done(&funding.tenant, &funding.batch, locked).await.map_err(stored)?;
        log::info!("vouchers: a batch was paid for, {} sat at {}", funding.amount, funding.mint);
        Ok(true)
    }

    /// What vouchers of these amounts would cost at a mint.
    pub async fn estimate(&self, mint: &MintUrl, amounts: &[Sats]) -> Result<Estimate, StoreError> {
        let keysets = self.0.mints.get(mint).known_keysets();
        let keyset = keysets.iter().min_by_key(|keyset| keyset.terms().input_fee_ppk);
        let outputs: u32 = amounts.iter().map(|amount| amount.0.count_ones()).sum();
        let total = amounts.iter().fold(Sats(0), |sum, amount| Sats(sum.0.saturating_add(amount.0)));
        let mut free = self.0.store.free_proofs(self.0.purse, mint).await?;
        let balance = super::own::sum(&free);
        free.sort_by_key(|row| std::cmp::Reverse(row.amount));
        let mut inputs = 0u64;
        let mut worth = 0u64;
        for row in &free {
            if worth >= total.0 {
                break;
            }
            worth = worth.saturating_add(row.amount.0);
            inputs = inputs.saturating_add(1);
        }
        let ppk = keyset.map_or(0, |keyset| keyset.terms().input_fee_ppk);
        Ok(Estimate {
            keyset: keyset.map(|keyset| keyset.id().to_string()),
            final_expiry: keyset.and_then(|keyset| keyset.terms().final_expiry),
            input_fee: Sats(inputs.saturating_mul(ppk).div_ceil(1000)),
            outputs: usize::try_from(outputs).unwrap_or(usize::MAX),
            balance,
        })
    }
}

/// Whether a mint makes vouchers of these amounts at once.
pub fn fits_one_invoice(amounts: impl Iterator<Item = Sats>) -> bool {
    amounts.fold(0u32, |outputs, amount| outputs.saturating_add(amount.0.count_ones())) <= MOST_OUTPUTS
}

fn split(keyset: &Keyset, amount: Sats) -> Option<Vec<u64>> {
    Some(keyset.split(amount)?.iter().map(|part| part.0).collect())
}

fn sets(rows: &[LockedRow]) -> usize {
    rows.iter().map(|row| row.outputs.len()).min().unwrap_or(0)
}

fn stored(error: StoreError) -> EcashError {
    log::error!("vouchers: {error}");
    EcashError::Busy
}
