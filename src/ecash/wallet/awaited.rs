//! Invoices of ours that others are to pay (NUT-04): each is looked at until it is paid, and claimed, or long over.

use super::Wallet;
use crate::config::MintUrl;
use crate::ecash::error::EcashError;
use crate::ecash::mint::Urgency;
use crate::ecash::schedule::LookSchedule;
use crate::ecash::wire::{QuoteId, QuoteState};
use crate::ecash::{retry, MintEvent};
use crate::store::{FundingRow, TopupRow};
use crate::task;
use crate::units::Millis;
use std::sync::{Arc, PoisonError};
use tokio::sync::Notify;

/// What somebody is to pay for.
#[derive(Clone)]
pub(super) enum Awaited {
    /// A balance, and how long after its invoice's end a payment is still looked for.
    Topup(TopupRow, Millis),
    /// A reseller's batch of vouchers.
    Batch(FundingRow),
}

impl Awaited {
    fn terms(&self) -> (&MintUrl, &str) {
        match self {
            Awaited::Topup(row, _) => (&row.mint, &row.quote),
            Awaited::Batch(row) => (&row.mint, &row.quote),
        }
    }
}

impl Wallet {
    /// Nothing happens for what is watched already.
    pub(super) fn watch(&self, awaited: Awaited) {
        let (mint, quote) = awaited.terms();
        let Some(quote) = QuoteId::parse(quote) else { return };
        let mint = mint.clone();
        let wake = Arc::new(Notify::new());
        {
            let mut watched = self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            if watched.contains_key(&quote) {
                return;
            }
            watched.insert(quote.clone(), (mint.clone(), wake.clone()));
        }
        self.0.mints.watch(&mint, quote.clone());
        let wallet = self.clone();
        task::spawn(async move {
            wallet.look_until_over(&awaited, &mint, &quote, &wake).await;
            wallet.0.mints.forget(&mint, quote.clone());
            wallet.0.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&quote);
        });
    }

    pub(super) fn wake_awaited(&self, mint: &MintUrl, event: &MintEvent) {
        let watched = self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        for (quote, (at, wake)) in watched.iter() {
            let concerns = match event {
                MintEvent::Quote(id, state) => id == quote && *state != QuoteState::Unpaid,
                MintEvent::Back | MintEvent::Resubscribed => at == mint,
                MintEvent::Unsupported => false,
            };
            if concerns {
                wake.notify_one();
            }
        }
    }

    async fn look_until_over(&self, awaited: &Awaited, at: &MintUrl, quote: &QuoteId, wake: &Notify) {
        let mint = self.0.mints.get(at);
        let mut looks = LookSchedule::resumed(self.0.store.now());
        let mut attempts = 0usize;
        loop {
            let wait = looks.next_look().saturating_sub(self.0.store.now());
            let _ = tokio::time::timeout(wait.as_duration(), wake.notified()).await;
            let state = mint.quote_state(quote, Urgency::Background).await.map(|quote| quote.state);
            looks.looked(self.0.store.now());
            let is_over = match (state, awaited) {
                (Ok(QuoteState::Paid | QuoteState::Issued), Awaited::Topup(row, _)) => {
                    self.claim_topup(row, quote, &mint).await
                }
                (Ok(QuoteState::Paid | QuoteState::Issued), Awaited::Batch(row)) => {
                    self.claim_funding(row, quote, &mint).await
                }
                (Ok(QuoteState::Unpaid | QuoteState::Pending), Awaited::Topup(row, grace)) => {
                    self.expire_topup(row, *grace).await
                }
                (Ok(QuoteState::Unpaid | QuoteState::Pending), Awaited::Batch(row)) => {
                    self.expire_funding(row).await
                }
                (Err(error @ (EcashError::RateLimited | EcashError::BackingOff(_))), _) => {
                    looks.refused(self.0.store.now());
                    Err(error)
                }
                (Err(error), _) => Err(error),
            };
            match is_over {
                Ok(true) => return,
                Ok(false) => attempts = 0,
                Err(error) => {
                    log::warn!("an invoice that others pay, at {at}: {error}");
                    tokio::time::sleep(retry::pause(attempts)).await;
                    attempts = attempts.saturating_add(1);
                    looks.look_now(self.0.store.now());
                }
            }
        }
    }
}
