//! Vouchers that are not as they should be are brought in order, each as its class asks for. Refused: anything that could make
//! value a second time. What may have been made is asked for by the outputs that are on record, never by new ones in their
//! place; and everything is done from the state in which it is at that moment, so that the same again does no harm.

use super::back::BackError;
use super::check::Discrepancy;
use super::exchange::Exchange;
use super::own::sum;
use super::receive::Received;
use super::Wallet;
use crate::config::Tenant;
use crate::ecash::curve::PublicKey;
use crate::ecash::error::EcashError;
use crate::ecash::lock;
use crate::ecash::mint::Urgency;
use crate::ecash::wire::{QuoteId, QuoteState};
use crate::store::{
    Begun, BehindRow, LockClass, LockedRow, LockedState, NewLocking, NewOp, OpKind, PurseName, StoreError,
};
use crate::units::Sats;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const LOOK: Duration = Duration::from_millis(100);

/// What a repair has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    Fixed,
    /// It goes on by itself.
    Waits,
    /// What it was worth is gone: spent by somebody else.
    Lost,
    /// The same, and with the venue's own key.
    Leaked,
    NotPossible(&'static str),
}

impl Repaired {
    /// Whether somebody has to hear of it.
    pub fn is_of_concern(self) -> bool {
        matches!(self, Repaired::Lost | Repaired::Leaked)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Repaired::Fixed => "fixed",
            Repaired::Waits => "waits",
            Repaired::Lost => "lost",
            Repaired::Leaked => "key_leaked",
            Repaired::NotPossible(code) => code,
        }
    }
}

impl Wallet {
    /// Brings one voucher in order, as far as that ends before `until`.
    pub async fn repair(
        &self,
        tenant: &Tenant,
        id: &str,
        found: Discrepancy,
        until: Instant,
    ) -> Result<Repaired, StoreError> {
        use LockedState::{Awaiting, Failed, Minting, Planned, Ready, Taken};
        let Some(row) = self.0.store.behind(tenant, vec![id.to_owned()]).await?.pop() else {
            return Ok(Repaired::Fixed);
        };
        let locked = row.locked.clone();
        match (found, locked.as_ref().map(|locked| locked.state)) {
            (Discrepancy::PaidNotMinted | Discrepancy::IssuedNotStored, Some(Awaiting | Failed)) => {
                self.claim_again(tenant, &row, until).await
            }
            (Discrepancy::PendingStuck, None | Some(Planned)) => self.plan_again(tenant, &row).await,
            (Discrepancy::UnpaidExpired, Some(Awaiting)) => self.close_unpaid(tenant, &row.batch).await,
            (found, Some(state)) => {
                let Some(locked) = locked else { return Ok(Repaired::Fixed) };
                match (found, state) {
                    (Discrepancy::SpentElsewhere, Ready) => self.mark_spent(tenant, &locked).await,
                    (Discrepancy::KeysetExpiring, Ready) => self.reissue(tenant, &locked).await,
                    (Discrepancy::ExpiredUnclaimed, Ready) => self.put_back(tenant, locked).await,
                    (_, Taken) if locked.op == 0 => self.put_back(tenant, locked).await,
                    (_, Minting | Taken | Awaiting) => self.wait_for_end(tenant, &row, until).await,
                    // A mint has not decided yet.
                    (Discrepancy::PendingStuck, Ready) => Ok(Repaired::Waits),
                    _ => Ok(Repaired::Fixed),
                }
            }
            (_, None) => Ok(Repaired::Fixed),
        }
    }

    /// Has what was paid for made, or found, with the outputs on record.
    async fn claim_again(
        &self,
        tenant: &Tenant,
        row: &BehindRow,
        until: Instant,
    ) -> Result<Repaired, StoreError> {
        self.0.store.funding_reopened(tenant, &row.batch).await?;
        let Some(funding) = self.0.store.funding(tenant, &row.batch).await? else {
            return Ok(Repaired::NotPossible("no_quote"));
        };
        let quote = QuoteId::parse(&funding.quote);
        self.watch_funding(funding);
        if let Some(quote) = quote {
            let watched = self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            watched.get(&quote).into_iter().for_each(|(_, wake)| wake.notify_one());
        }
        let is_there = |row: &BehindRow| {
            let state = row.locked.as_ref().map(|locked| locked.state);
            !matches!(state, Some(LockedState::Awaiting | LockedState::Failed))
        };
        self.wait_until(tenant, &row.id, is_there, until).await
    }

    async fn plan_again(&self, tenant: &Tenant, row: &BehindRow) -> Result<Repaired, StoreError> {
        if row.locked.is_none() {
            self.plan_cut_off().await?;
        }
        Ok(match self.back_planned(tenant, &row.batch).await {
            Ok(()) => Repaired::Fixed,
            Err(BackError::MintAway | BackError::NotKnownYet) => Repaired::Waits,
            Err(error) => Repaired::NotPossible(error.code()),
        })
    }

    /// Asks once more whether an invoice was paid. If not, it is over.
    async fn close_unpaid(&self, tenant: &Tenant, batch: &str) -> Result<Repaired, StoreError> {
        let Some(funding) = self.0.store.funding(tenant, batch).await? else { return Ok(Repaired::Fixed) };
        let Some(quote) = QuoteId::parse(&funding.quote) else {
            return Ok(Repaired::NotPossible("no_quote"));
        };
        let mint = self.0.mints.get(&funding.mint);
        match mint.quote_state(&quote, Urgency::Guest).await.map(|quote| quote.state) {
            Ok(QuoteState::Unpaid) => match self.expire_funding(&funding).await {
                Ok(true) => Ok(Repaired::Fixed),
                // A payment may still be on its way.
                Ok(false) => Ok(Repaired::Waits),
                Err(_) => Ok(Repaired::NotPossible("store")),
            },
            Ok(_) => Ok(Repaired::Waits),
            Err(_) => Ok(Repaired::NotPossible("mint_unavailable")),
        }
    }

    /// Back into the takings: by the venue's key, or past its locktime by the refund key.
    async fn put_back(&self, tenant: &Tenant, locked: LockedRow) -> Result<Repaired, StoreError> {
        let id = locked.id.clone();
        if !self.collect_one(tenant, locked).await? {
            return Ok(Repaired::Waits);
        }
        let after = self.0.store.locked(tenant, &id).await?;
        match after.filter(|row| row.state == LockedState::Lost) {
            Some(lost) => {
                self.retire_key(tenant, &lost).await?;
                Ok(Repaired::Lost)
            }
            None => Ok(Repaired::Fixed),
        }
    }

    /// What is under way at its mint is asked for at once.
    async fn wait_for_end(
        &self,
        tenant: &Tenant,
        row: &BehindRow,
        until: Instant,
    ) -> Result<Repaired, StoreError> {
        let Some(locked) = &row.locked else { return Ok(Repaired::Fixed) };
        {
            let running = self.running();
            let same = running.values().filter(|one| Some(&one.mint) == locked.mint.as_ref());
            same.for_each(|one| one.wake.notify_one());
        }
        let was = locked.state;
        let has_moved = |row: &BehindRow| row.locked.as_ref().map(|locked| locked.state) != Some(was);
        let ended = self.wait_until(tenant, &row.id, has_moved, until).await?;
        let after = self.0.store.locked(tenant, &row.id).await?;
        match after.filter(|row| row.state == LockedState::Lost) {
            Some(lost) => {
                self.retire_key(tenant, &lost).await?;
                Ok(Repaired::Lost)
            }
            None => Ok(ended),
        }
    }

    async fn wait_until(
        &self,
        tenant: &Tenant,
        id: &str,
        is_there: impl Fn(&BehindRow) -> bool,
        until: Instant,
    ) -> Result<Repaired, StoreError> {
        loop {
            let row = self.0.store.behind(tenant, vec![id.to_owned()]).await?.pop();
            if row.as_ref().is_none_or(&is_there) {
                return Ok(Repaired::Fixed);
            }
            if Instant::now() >= until {
                return Ok(Repaired::Waits);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its ecash was spent, and not by us. With the venue's key: somebody else has that, and new vouchers get another one.
    async fn mark_spent(&self, tenant: &Tenant, locked: &LockedRow) -> Result<Repaired, StoreError> {
        let (venue, refund) = match self.spent_with(tenant, locked).await {
            Ok(who) => who,
            Err(err) => {
                log::warn!("vouchers: {err}");
                return Ok(Repaired::NotPossible("mint_unavailable"));
            }
        };
        let ends = match (venue, refund) {
            (true, _) => ("failed", "key_leaked"),
            (_, true) => ("refunded", "refunded_elsewhere"),
            _ => ("failed", "spent_elsewhere"),
        };
        if !self.0.store.spent_elsewhere(tenant, &locked.id, ends).await? {
            return Ok(Repaired::Waits);
        }
        log::error!("vouchers: the ecash of voucher {} was spent elsewhere: {}", locked.id, ends.1);
        if venue {
            self.retire_key(tenant, locked).await?;
            return Ok(Repaired::Leaked);
        }
        Ok(if refund { Repaired::Fixed } else { Repaired::Lost })
    }

    /// Whether it was spent with the venue's key, or the refund key, as far as the mint tells.
    async fn spent_with(&self, tenant: &Tenant, locked: &LockedRow) -> Result<(bool, bool), EcashError> {
        let kept = self.0.store.locked_proofs(tenant, &locked.id).await.map_err(|_| EcashError::Busy)?;
        let ys: Option<Vec<PublicKey>> = kept.iter().map(|proof| PublicKey::parse(&proof.y)).collect();
        let mint = locked.mint.as_ref().zip(ys);
        let (mint, ys) = mint.ok_or(EcashError::Malformed("a proof of the store"))?;
        let witnesses = self.0.mints.get(mint).proof_witnesses(ys, Urgency::Guest).await?;
        let proofs = self.locked_ecash(locked, kept).await?;
        let (venue, refund) = (self.lock_secret(locked.lock).await?, self.lock_secret(locked.refund).await?);
        let by = |key: &PublicKey| {
            let mut pairs = proofs.iter().zip(&witnesses);
            pairs.any(|(proof, witness)| lock::is_signed_by(proof.secret.as_str(), witness, key))
        };
        Ok((by(&venue.public_key()), by(&refund.public_key())))
    }

    /// Has new vouchers locked to another key than this one.
    async fn retire_key(&self, tenant: &Tenant, locked: &LockedRow) -> Result<(), StoreError> {
        let number = self.lock_number(tenant, LockClass::Venue, &locked.venue).await?;
        if number == locked.lock {
            let public_of = self.public_of().await?;
            self.0.store.rotate_lock_key(tenant, LockClass::Venue, &locked.venue, public_of).await?;
            log::error!("vouchers: new ones of {} are locked to a new key", locked.venue);
        }
        Ok(())
    }

    /// Has a voucher stand on the mint's newest keyset, in one exchange; the takings pay its fee.
    async fn reissue(&self, tenant: &Tenant, locked: &LockedRow) -> Result<Repaired, StoreError> {
        let ended = match self.reissued(tenant, locked).await {
            Ok(ended) => ended,
            Err(error) => return Ok(Repaired::NotPossible(error.code())),
        };
        Ok(match ended {
            Received::Done { .. } => Repaired::Fixed,
            Received::Refused(_) => Repaired::NotPossible("mint_refused"),
            Received::Unknown | Received::InFlight => Repaired::Waits,
        })
    }

    async fn reissued(&self, tenant: &Tenant, locked: &LockedRow) -> Result<Received, BackError> {
        let _alone = self.0.spending.lock().await;
        let mint = locked.mint.clone().ok_or(BackError::MintAway)?;
        let away = |_: EcashError| BackError::MintAway;
        let keyset = self.0.mints.get(&mint).active_keyset(Urgency::Guest).await.map_err(away)?;
        let amounts = keyset.split(locked.amount).ok_or(BackError::MintAway)?;
        let old = self.0.store.locked_proofs(tenant, &locked.id).await?;
        let of_locked = locked.ppk.saturating_mul(u64::try_from(old.len()).unwrap_or(u64::MAX));
        let fee = Sats(of_locked.div_ceil(1000));
        let purse = self.purse(&mint).await?;
        let rows = match fee {
            Sats(0) => Vec::new(),
            fee => purse.at_least(fee).ok_or_else(|| BackError::Insufficient(purse.net(&purse.rows)))?,
        };
        // The fee is rounded up once, of all inputs together.
        let fee = purse.ppk(&rows).saturating_add(of_locked).div_ceil(1000);
        let change = keyset.split(Sats(sum(&rows).0.saturating_sub(fee))).unwrap_or_default();
        let net = locked.amount.0.checked_add(change.iter().map(|amount| amount.0).sum()).map(Sats);
        let (keyset, ppk) = (keyset.id().to_string(), keyset.terms().input_fee_ppk);
        let op = NewOp {
            spends: rows.iter().map(|row| row.key).collect(),
            outputs: Some((keyset.clone(), change.iter().map(|amount| amount.0).collect())),
            ..NewOp::new(OpKind::Swap, PurseName::House, mint, net.ok_or(BackError::MintAway)?)
        };
        let vouchers = vec![(locked.id.clone(), amounts.iter().map(|amount| amount.0).collect())];
        let new = NewLocking { tenant: tenant.clone(), vouchers, keyset, ppk, again: true };
        let Begun::New(op) = self.0.store.lock_begin(op, new).await? else {
            return Err(BackError::NotKnownYet);
        };
        let locking = self.0.store.locking(op.id).await?.ok_or(BackError::NotKnownYet)?;
        let news = self.launch_trade(op, rows, Some(locking), Urgency::Guest);
        Ok(self.wait_for(news, true).await)
    }

    /// Adds the ecash that its vouchers were backed by so far to what an exchange spends.
    pub(super) async fn add_locked_inputs(&self, swap: &mut Exchange) -> Result<(), EcashError> {
        let Some((tenant, rows)) = swap.locking.clone() else { return Ok(()) };
        for row in &rows {
            let old = self.0.store.locked_proofs(&tenant, &row.id).await.map_err(|_| EcashError::Busy)?;
            if !old.is_empty() {
                let more = self.locked_ecash(row, old).await?;
                let mut inputs = Vec::clone(&swap.inputs);
                inputs.extend(more);
                swap.inputs = Arc::new(inputs);
            }
        }
        Ok(())
    }
}
