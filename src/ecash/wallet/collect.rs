//! What goes on with vouchers' ecash while nobody waits: what codes have redeemed, and what nobody has redeemed in time, is
//! put back into the takings; what was planned and could not be asked for yet is asked for.

use super::back::{collected_as, BackError, Backing, AFTER_EXPIRY};
use super::exchange::total;
use super::offer::{TokenOffer, UNIT};
use super::receive::Received;
use super::{Refusal, Wallet};
use crate::config::Tenant;
use crate::mac::MacAddr;
use crate::store::{LockedRow, LockedState, Loss, StoreError};
use crate::task;
use crate::units::{Sats, UnixSeconds};
use std::sync::PoisonError;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(10);
const AT_ONCE: u32 = 16;

impl Wallet {
    /// Goes on for as long as the program runs.
    pub fn keep_vouchers(&self) {
        let wallet = self.clone();
        task::spawn(async move {
            if let Err(err) = wallet.resume_fundings().await {
                log::error!("vouchers: {err}");
            }
            if let Err(err) = wallet.plan_cut_off().await {
                log::error!("vouchers: {err}");
            }
            loop {
                if let Err(err) = wallet.tend_vouchers().await {
                    log::error!("vouchers: {err}");
                }
                let _ = tokio::time::timeout(EVERY, wallet.0.collecting.notified()).await;
            }
        });
    }

    /// Plans the backing of vouchers that were ordered before this start, where the program stopped before that was
    /// planned.
    pub(super) async fn plan_cut_off(&self) -> Result<(), StoreError> {
        for one in self.0.store.unplanned().await? {
            let locktime = UnixSeconds(one.expires_at.0.saturating_add(AFTER_EXPIRY));
            let backing = Backing { id: one.id, venue: one.venue, amount: one.amount, locktime };
            let mint = match self.richest().await {
                Ok(mint) => Some(mint),
                Err(error) => {
                    let poor = self.not_backed(&one.tenant, &one.batch, error.into()).await;
                    poor.unwrap_or_else(|error| log::warn!("vouchers: a batch is not backed: {error}"));
                    continue;
                }
            };
            if let Err(err) =
                self.plan(&one.tenant, &one.batch, mint, vec![backing], LockedState::Planned).await
            {
                log::error!("vouchers: {err}");
            }
        }
        Ok(())
    }

    /// A voucher's ecash was taken by its code.
    pub fn collect(&self) {
        self.0.collecting.notify_one();
    }

    async fn tend_vouchers(&self) -> Result<(), StoreError> {
        if !self.0.store.has_lock_keys().await? {
            return Ok(());
        }
        for (tenant, batch) in self.0.store.planned_batches().await? {
            let rows = self.0.store.locked_of_batch(&tenant, &batch).await?;
            let mint = rows.iter().find_map(|row| row.mint.as_ref());
            if mint.is_some_and(|mint| self.0.mints.seems_reachable(mint)) {
                match self.back_planned(&tenant, &batch).await {
                    Ok(()) | Err(BackError::MintAway | BackError::NotKnownYet) => {}
                    Err(err) => log::warn!("vouchers: a batch is not backed: {err}"),
                }
            }
        }
        // Each by itself: one that is gone for good keeps no other's ecash out of the takings.
        for mint in self.0.store.mints_to_collect().await? {
            self.collect_at(mint).await?;
        }
        Ok(())
    }

    async fn collect_at(&self, mint: String) -> Result<(), StoreError> {
        loop {
            let some = self.0.store.locked_to_collect(mint.clone(), AT_ONCE).await?;
            let (mut came, count) = (0usize, some.len());
            for (tenant, row) in some {
                if self.collect_one(&tenant, row).await? {
                    came = came.saturating_add(1);
                }
            }
            if came < count || count == 0 {
                return Ok(());
            }
        }
    }

    /// Whether its end is known.
    pub(super) async fn collect_one(&self, tenant: &Tenant, row: LockedRow) -> Result<bool, StoreError> {
        if row.state == LockedState::Ready {
            let is_over = row.locktime < self.0.store.lasting_wall();
            if !is_over || !self.0.store.take_expired(tenant, &row.id).await? {
                return Ok(false);
            }
        }
        let proofs = self.0.store.locked_proofs(tenant, &row.id).await?;
        let Some(mint) = row.mint.clone() else { return Ok(false) };
        let proofs = match self.locked_ecash(&row, proofs).await {
            Ok(proofs) if !proofs.is_empty() => proofs,
            Ok(_) => {
                self.0.store.collected(tenant, &row.id, false).await?;
                return Ok(true);
            }
            Err(err) => {
                log::error!("vouchers: {err}");
                return Ok(false);
            }
        };
        let amount = total(&proofs);
        let count = u64::try_from(proofs.len()).unwrap_or(u64::MAX);
        let fee = Sats(row.ppk.saturating_mul(count).div_ceil(1000));
        let Some(net) = amount.0.checked_sub(fee.0).filter(|net| *net > 0).map(Sats) else {
            // It is not worth its fee.
            self.0.store.collected(tenant, &row.id, true).await?;
            return Ok(true);
        };
        let reference = collected_as(tenant, &row.id);
        let offer = TokenOffer {
            mint,
            unit: UNIT.to_owned(),
            amount,
            fee,
            net,
            reference,
            is_known: false,
            is_suspect: false,
            proofs,
            credits: None,
            locked: None,
        };
        let is_lost = match self.receive(offer, None).await {
            Received::Done { .. } => false,
            Received::Refused(Refusal::Spent) => true,
            Received::Refused(refusal) => {
                log::warn!("vouchers: the ecash of one is not taken back yet: {refusal}");
                return Ok(false);
            }
            Received::Unknown | Received::InFlight => return Ok(false),
        };
        if is_lost {
            log::error!("vouchers: the ecash of voucher {} was spent by somebody else", row.id);
        }
        self.0.store.collected(tenant, &row.id, is_lost).await?;
        Ok(true)
    }

    /// Sessions that end, as what they were paid with is spent.
    pub fn losses_to_end(&self) -> Vec<Loss> {
        let losses = self.0.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.iter().filter(|loss| !loss.is_ended).cloned().collect()
    }

    /// The session is over.
    pub async fn loss_ended(&self, loss: &Loss) {
        if let Err(err) = self.0.store.loss_ended(loss).await {
            log::error!("wallet: {err}");
        }
        let mut losses = self.0.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.iter_mut().filter(|known| known.op == loss.op).for_each(|known| known.is_ended = true);
    }

    /// Whether what a guest paid with at a venue turned out to be spent, within the last day.
    pub fn has_lost(&self, mac: MacAddr, venue: &str) -> bool {
        let losses = self.0.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.iter().any(|loss| loss.mac == mac && loss.venue == venue)
    }

    pub(super) fn lost(&self, loss: Loss) {
        log::error!("wallet: {} sat that were taken without their mint are spent", loss.amount);
        self.0.losses.lock().unwrap_or_else(PoisonError::into_inner).push(loss);
    }
}
