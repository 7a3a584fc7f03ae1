//! Watching a part from its invoice to its end: unpaid -> paid -> claimed -> (tokens with the guest | online).
//!
//! One task per part. Whatever the mint's socket says is a hint that makes the task ask at once; what
//! decides is the mint's answer to a claim, or the outputs it gives back (NUT-09). A claim is sent again
//! unchanged until its outcome is known; new outputs are made only when the mint says that the old ones
//! cannot be used. Nothing here gives a payment up.

use super::looks::{Looks, Unpaid};
use super::request::{Part, Progress, Request, Wake};
use super::InvoiceEngine;
use super::SaleEvent;
use crate::config::MintUrl;
use crate::ecash::retry::{self, LEAST_PAUSE, MOST_OUTPUT_SETS, PROMPT_OUTPUT_SETS, RATE_LIMIT_PAUSE};
use crate::ecash::wallet::{prepare, takings, total};
use crate::ecash::{token, EcashError, Mint, MintEvent, Outputs, Proof, QuoteState, Urgency};
use crate::store::{OutputsRow, Owner, Reference, TokenForm, Tokens};
use crate::task;
use crate::units::Millis;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// A guest that asks is not held to that pause, but neither may pages that ask again and again wear a limit out.
const LEAST_RATE_LIMIT_PAUSE: Duration = Duration::from_secs(10);
/// A mint that refuses a paid claim this often is reported to the guest, and after many refusals asked rarely.
const REPORTED_REFUSAL: usize = 2;
const MANY_REFUSALS: usize = 30;
const PAUSE_AFTER_MANY: Duration = Duration::from_secs(600);
/// A page that asked within this time is still open.
const PAGE_IS_OPEN: Millis = Millis::from_secs(60);

/// How waiting for a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Paid,
    /// It was not paid in time.
    Expired,
    /// The rounds look for the payment from now on.
    Aside,
}

/// How an attempt to claim ended.
enum Claim {
    Proofs(Vec<Proof>),
    NotPaid,
    /// Try again; with the pause that the cause asks for.
    Later(EcashError),
}

impl InvoiceEngine {
    /// Starts the tasks that bring each part of a request to its end.
    pub(super) fn watch(&self, request: &Arc<Request>) {
        for index in 0..request.parts().len() {
            let (engine, request) = (self.clone(), request.clone());
            task::spawn(async move {
                if let Some(part) = request.parts().get(index) {
                    engine.bring_to_its_end(&request, part).await;
                }
            });
        }
    }

    /// A mint's socket has news: of one quote, or that events may have been lost and all need a look.
    pub fn on_mint_event(&self, mint: &MintUrl, event: &MintEvent) {
        let requests: Vec<Arc<Request>> = self.table().requests.values().cloned().collect();
        for request in requests {
            for part in request.parts().iter().filter(|part| part.mint == *mint) {
                match event {
                    MintEvent::Quote(id, QuoteState::Paid | QuoteState::Issued) if part.quote == *id => {
                        part.poke(Wake::SaidPaid);
                    }
                    MintEvent::Resubscribed | MintEvent::Back => part.poke(Wake::MintIsBack),
                    MintEvent::Quote(..) | MintEvent::Unsupported => {}
                }
            }
        }
    }

    async fn bring_to_its_end(&self, request: &Arc<Request>, part: &Part) {
        let mut attempts = 0usize;
        loop {
            if part.awaits_payment() {
                match self.wait_for_payment(request, part).await {
                    Waited::Paid => {}
                    Waited::Expired => return self.tell(request, part, Progress::Expired),
                    Waited::Aside => return,
                }
            }
            if part.progress() != Progress::Paid {
                return;
            }
            let (pause, least) = match self.claim(request, part).await {
                Claim::Proofs(proofs) => return self.keep(request, part, proofs).await,
                Claim::NotPaid => {
                    // The mint took its word back: wait for the payment again.
                    self.0.store.not_paid(part.id);
                    self.tell(request, part, Progress::Unpaid);
                    (retry::pause(attempts), LEAST_PAUSE)
                }
                Claim::Later(err) => {
                    self.0.store.paid(part.id);
                    log::warn!("request {}: {}: not claimed yet: {err}", request.id, part.mint);
                    let refused = is_refusal(&err);
                    if refused && attempts == REPORTED_REFUSAL {
                        self.0.listeners.tell(&SaleEvent::ClaimRefused(request));
                    }
                    match err {
                        EcashError::RateLimited => (RATE_LIMIT_PAUSE, LEAST_RATE_LIMIT_PAUSE),
                        _ if refused && attempts >= MANY_REFUSALS => (PAUSE_AFTER_MANY, LEAST_PAUSE),
                        _ => (retry::pause(attempts), LEAST_PAUSE),
                    }
                }
            };
            attempts = attempts.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The mint is back, or the guest asks: do not make them wait for the pause.
                () = async { part.wake.notified().await; tokio::time::sleep(least).await } => {}
            }
        }
    }

    async fn wait_for_payment(&self, request: &Arc<Request>, part: &Part) -> Waited {
        self.0.mints.watch(&part.mint, part.quote.clone());
        let waited = self.look_until_paid(request, part).await;
        self.0.mints.forget(&part.mint, part.quote.clone());
        waited
    }

    async fn look_until_paid(&self, request: &Arc<Request>, part: &Part) -> Waited {
        let store = &self.0.store;
        let mint = self.0.mints.get(&part.mint);
        let was_made_since_start = request.created >= self.0.started;
        let mut looks = match was_made_since_start {
            true => Looks::new(part.due, store.now()),
            false => Looks::resumed(part.due, store.now()),
        };
        let mut page_asked: Option<Millis> = None;
        loop {
            if part.said_paid.swap(false, Ordering::Relaxed) {
                return self.found_paid(request, part);
            }
            if request.is_aside() {
                return Waited::Aside;
            }
            if part.mint_is_back.swap(false, Ordering::Relaxed) {
                looks.look_now(store.now());
            }
            let urgency = tokio::select! {
                () = tokio::time::sleep(looks.next().saturating_sub(store.now()).as_duration()) => {
                    Urgency::Background
                }
                () = part.wake.notified() => {
                    let asks = part.guest_asks.swap(false, Ordering::Relaxed);
                    if part.guest_looks_on.swap(false, Ordering::Relaxed) || asks {
                        page_asked = Some(store.now());
                        looks.guest_looks_on(store.now());
                    }
                    if !asks || !looks.guest_may_look(store.now()) {
                        continue;
                    }
                    Urgency::Guest
                }
            };
            match mint.quote_state(&part.quote, urgency).await.map(|quote| quote.state) {
                Ok(QuoteState::Paid | QuoteState::Issued) => {
                    store.paid(part.id);
                    return self.found_paid(request, part);
                }
                Ok(QuoteState::Unpaid | QuoteState::Pending) => {
                    let grace = self.0.config.borrow().main.invoice_grace;
                    let now = store.now();
                    let is_here = page_asked.is_some_and(|at| at.saturating_add(PAGE_IS_OPEN) > now)
                        || self.0.presences.has(request.mac());
                    match looks.unpaid(now, grace, is_here) {
                        Unpaid::Payable => {}
                        Unpaid::Overdue => self.tell(request, part, Progress::Overdue),
                        Unpaid::GivenUp => {
                            if let Err(err) = store.expired(part.id).await {
                                log::error!("request {}: {err}", request.id);
                            }
                            return Waited::Expired;
                        }
                    }
                }
                Err(err) => {
                    log::debug!("request {}: {}: {err}", request.id, part.mint);
                    let limited = matches!(err, EcashError::RateLimited | EcashError::BackingOff(_));
                    looks.failed(store.now(), limited);
                }
            }
        }
    }

    /// A payment that is found when its request was set aside meanwhile has all of the request watched again.
    fn found_paid(&self, request: &Arc<Request>, part: &Part) -> Waited {
        if request.is_aside() {
            let (engine, id, part) = (self.clone(), request.id.clone(), part.id);
            task::spawn(async move { engine.take_up(&id, part).await });
            return Waited::Aside;
        }
        self.tell(request, part, Progress::Paid);
        Waited::Paid
    }

    /// One attempt: send the newest outputs; if they or the quote are used already, fetch what was signed.
    async fn claim(&self, request: &Request, part: &Part) -> Claim {
        let mint = self.0.mints.get(&part.mint);
        let seed = self.seed(request.owner);
        let lock = match seed.lock_key(part.lock_index) {
            Ok(lock) => lock,
            Err(err) => return Claim::Later(err.into()),
        };
        let claims = part.claims();
        let Some(newest) = claims.last() else { return Claim::Later(EcashError::AmountNotPossible) };
        let issued = match self.outputs(request, newest).await {
            Ok(outputs) => mint.mint(&part.quote, outputs, lock, Urgency::Guest).await,
            Err(err) => Err(err),
        };
        match issued {
            Ok(proofs) => Claim::Proofs(proofs),
            Err(EcashError::NotPaid) => Claim::NotPaid,
            Err(EcashError::KeysetInactive) => {
                let active = mint.active_keyset(Urgency::Guest).await.map(|keyset| keyset.id().to_string());
                match active {
                    // It still offers what it has just refused: the same outputs will do, once it knows.
                    Ok(active) if active == newest.keyset => Claim::Later(EcashError::KeysetInactive),
                    Ok(_) => match self.fresh_outputs(request, part, &mint, 0).await {
                        Ok(()) => Claim::Later(EcashError::KeysetInactive),
                        Err(err) => Claim::Later(err),
                    },
                    Err(err) => Claim::Later(err),
                }
            }
            Err(err @ EcashError::AlreadyIssued) => self.restore(request, part, &mint, &claims, err).await,
            Err(err @ (EcashError::OutputsAlreadySigned | EcashError::OutputsPending)) => {
                // If the quote still has its money, the outputs were signed for something else (counters
                // that came back from an old backup): they are not this part's, and others must be used.
                match mint.quote_state(&part.quote, Urgency::Guest).await.map(|quote| quote.state) {
                    Ok(QuoteState::Issued) => self.restore(request, part, &mint, &claims, err).await,
                    Ok(QuoteState::Paid) => {
                        match self.fresh_outputs(request, part, &mint, retry::skipped(claims.len())).await {
                            Ok(()) => Claim::Later(err),
                            Err(err) => Claim::Later(err),
                        }
                    }
                    Ok(QuoteState::Unpaid | QuoteState::Pending) => Claim::Later(err),
                    Err(err) => Claim::Later(err),
                }
            }
            Err(err) => Claim::Later(err),
        }
    }

    /// Fetches what the mint has signed for an issued quote. The newest outputs that it knows are this
    /// part's: newer ones were made only when the older could not be used.
    async fn restore(
        &self,
        request: &Request,
        part: &Part,
        mint: &Mint,
        claims: &[OutputsRow],
        cause: EcashError,
    ) -> Claim {
        for claim in claims.iter().rev() {
            let restored = match self.outputs(request, claim).await {
                Ok(outputs) => mint.restore(outputs, Urgency::Guest).await,
                Err(err) => Err(err),
            };
            match restored {
                Ok(proofs) if total(&proofs) == part.amount => return Claim::Proofs(proofs),
                Ok(_) => {}
                Err(err) => return Claim::Later(err),
            }
        }
        Claim::Later(cause)
    }

    /// Journals new outputs on the keyset that is active now.
    async fn fresh_outputs(
        &self,
        request: &Request,
        part: &Part,
        mint: &Mint,
        skip: u32,
    ) -> Result<(), EcashError> {
        if part.claims().len() >= MOST_OUTPUT_SETS {
            return Err(EcashError::OutputsAlreadySigned);
        }
        let keyset = mint.active_keyset(Urgency::Guest).await?;
        let amounts = keyset.split(part.amount).ok_or(EcashError::AmountNotPossible)?;
        let amounts = amounts.iter().map(|amount| amount.0).collect();
        match self.0.store.claim_again(part.id, request.owner, keyset.id().to_string(), amounts, skip).await {
            Ok(claim) => {
                part.add_claim(claim);
                // There is something new to send: no reason to wait for the pause.
                if part.claims().len() <= PROMPT_OUTPUT_SETS {
                    part.wake.notify_one();
                }
                Ok(())
            }
            Err(err) => {
                log::error!("request {}: {err}", request.id);
                Err(EcashError::AmountNotPossible)
            }
        }
    }

    /// Derives the outputs of a claim again.
    async fn outputs(&self, request: &Request, claim: &OutputsRow) -> Result<Arc<Outputs>, EcashError> {
        prepare(self.seed(request.owner), claim).await
    }

    /// Commits the tokens and what they buy; only then listeners are told.
    async fn keep(&self, request: &Request, part: &Part, proofs: Vec<Proof>) {
        let tokens = match request.owner {
            Owner::Guest => Tokens::Guest(match request.form {
                TokenForm::CashuA => token::encode_v3(&part.mint, "sat", &proofs),
                TokenForm::CashuB => token::encode(&part.mint, "sat", &proofs),
            }),
            Owner::House => Tokens::House(takings(&part.mint, &proofs)),
        };
        let bought = (part.metric, part.allotment);
        let deal = || self.0.terms.deal_kept(&request.venue, &part.mint, part.amount, bought);
        let grant = (request.owner == Owner::House)
            .then(|| deal().grant(Reference::Invoice(request.id.clone(), part.position), request.mac()));
        let session = loop {
            match self.0.store.claimed(part.id, tokens.clone(), grant.clone()).await {
                Ok(session) => break session,
                Err(err) => {
                    log::error!("request {}: claimed, but not stored yet: {err}", request.id);
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            }
        };
        match (session, tokens) {
            (None, Tokens::Guest(token)) => self.tell(request, part, Progress::Tokens(token)),
            (None, Tokens::House(_)) => {}
            (Some(session), _) => {
                if session.ticket.is_some() {
                    part.set_made_ticket();
                }
                part.set_progress(Progress::Granted { online: false }, self.0.store.now());
                self.0.access.admit(session).await;
                self.tell(request, part, Progress::Granted { online: true });
                log::info!("{} is online for {} sat from {}", request.mac(), part.amount, part.mint);
            }
        }
    }

    /// Moves a part on and says so.
    fn tell(&self, request: &Request, part: &Part, progress: Progress) {
        let from = part.progress();
        part.set_progress(progress, self.0.store.now());
        self.0.listeners.tell(&SaleEvent::Moved { request, part, from });
        self.tend_graces();
    }
}

/// Whether the mint answered with a refusal: unlike its being away, that may last.
fn is_refusal(err: &EcashError) -> bool {
    matches!(
        err,
        EcashError::Lied(_)
            | EcashError::Mint { .. }
            | EcashError::SignatureRefused
            | EcashError::QuoteUnknown
            | EcashError::QuoteExpired
            | EcashError::AlreadyIssued
            | EcashError::OutputsAlreadySigned
            | EcashError::OutputsPending
            | EcashError::AmountNotPossible
    )
}
