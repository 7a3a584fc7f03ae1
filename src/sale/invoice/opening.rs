//! Opening a request: everything is checked before an invoice exists, and committed before it is shown.

use super::memo::memo;
use super::pace::{MAX_UNPAID, UNPAID_COUNTS_FOR};
use super::request::{Asked, Part, Request};
use super::{Ask, InvoiceEngine, Limit, SaleError, SaleEvent, Terms};
use crate::config::{Metric, MintUrl, Venue};
use crate::ecash::{EcashError, Urgency};
use crate::network::neighbours::Caller;
use crate::store::{InvoiceRow, NewPart, NewRequest, Owner, PartRow, RequestId, RequestRow, TokenForm};
use crate::task;
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
use std::future::Future;
use std::sync::Arc;

/// However long a mint says that its invoice lives.
const LONGEST_INVOICE: Millis = Millis::from_secs(7 * 86_400);

/// What `begin` or `open` found or made.
pub struct Opened {
    pub request: Arc<Request>,
    /// False if the same was asked before and is still unpaid.
    pub is_new: bool,
}

/// Whose limits a new request has to keep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Limits {
    Guest,
    /// It takes the place of one that is counted already.
    StandIn,
}

/// A part that has passed every check that needs no mint.
pub(super) struct Checked {
    pub mint: MintUrl,
    amount: Sats,
    metric: Metric,
    allotment: Allotment,
    /// What its invoice says that it is for.
    memo: String,
}

impl InvoiceEngine {
    /// Opens a request for this caller, or finds the identical one that is still unpaid. Returns when the
    /// invoices are there; a caller that stops waiting does not stop the request.
    pub async fn open(&self, caller: &Caller, venue: &Venue, ask: Ask) -> Result<Opened, SaleError> {
        let begun = self.begin(caller, venue, ask)?;
        self.opened(begun).await
    }

    /// As `open`, without waiting: the mints are being asked.
    pub fn begin(&self, caller: &Caller, venue: &Venue, ask: Ask) -> Result<Opened, SaleError> {
        let parts = self.check(venue, &ask)?;
        let owner = if ask.apply { Owner::House } else { Owner::Guest };
        let (request, is_new) = self.enter(caller, venue, (owner, ask.form), &parts, Limits::Guest)?;
        if is_new {
            let (engine, request) = (self.clone(), request.clone());
            let (caller, venue) = (caller.clone(), venue.clone());
            task::spawn(async move { engine.bring_invoices(&request, caller, venue, ask, parts).await });
        }
        Ok(Opened { request, is_new })
    }

    /// The identical unpaid request, or a place for a new one within the limits.
    pub(super) fn enter(
        &self,
        caller: &Caller,
        venue: &Venue,
        (owner, form): (Owner, TokenForm),
        parts: &[Checked],
        limits: Limits,
    ) -> Result<(Arc<Request>, bool), SaleError> {
        let now = self.0.store.now();
        let asked_parts = parts.iter().map(|part| (part.mint.clone(), part.amount)).collect();
        let asked = Asked { owner, form, parts: asked_parts };
        let mut table = self.table();
        let mine = || table.requests.values().filter(|request| request.mac() == caller.mac);
        if let Some(same) = mine().find(|request| request.answers(&venue.id, &asked, now)) {
            same.note_question(now);
            return Ok((same.clone(), false));
        }
        match owner {
            // Tokens can be had while the gate is down.
            Owner::Guest => {
                self.0.terms.is_unsealed()?;
                self.0.terms.has_space()?
            }
            Owner::House => self.0.terms.may_sell(venue.metric)?,
        }
        let unpaid = mine()
            .filter(|request| request.is_asking() || request.is_payable(now))
            .filter(|request| request.stand_in().is_none())
            .filter(|request| request.created.saturating_add(UNPAID_COUNTS_FOR) > now)
            .count();
        if unpaid >= MAX_UNPAID && limits == Limits::Guest {
            return Err(SaleError::TooMany(Limit::Unpaid));
        }
        if !self.make_room(&mut table, parts.len(), caller.mac) {
            return Err(SaleError::TooMany(Limit::Invoices));
        }
        if limits == Limits::Guest && !table.new_requests.admit(caller.mac, now) {
            return Err(SaleError::TooMany(Limit::Requests));
        }
        let id = RequestId::random()?;
        let request = Arc::new(Request::asking(id.clone(), caller.mac, &venue.id, asked, now));
        table.requests.insert(id, request.clone());
        Ok((request, true))
    }

    /// Asks the mints of a new request for their invoices, whether or not a caller waits for them.
    pub(super) fn ask_mints(
        &self,
        request: &Arc<Request>,
        caller: &Caller,
        venue: &Venue,
        parts: Vec<Checked>,
    ) -> impl Future<Output = Result<(), SaleError>> + Send + Unpin {
        let is_trusted = venue.trusted_macs.contains(&caller.mac);
        let grace = if is_trusted { Millis::ZERO } else { venue.pay_grace };
        let (engine, request, caller) = (self.clone(), request.clone(), caller.clone());
        let asking = task::start(async move { engine.be_invoiced(&request, &caller, parts, grace).await });
        Box::pin(async move { asking.await.unwrap_or(Err(SaleError::Internal)) })
    }

    async fn be_invoiced(
        &self,
        request: &Arc<Request>,
        caller: &Caller,
        parts: Vec<Checked>,
        grace: Millis,
    ) -> Result<(), SaleError> {
        match self.invoices(request, caller, parts).await {
            Ok(parts) => {
                // One that comes after another mint's was shown is watched all the same.
                if request.open(parts) {
                    if grace > Millis::ZERO {
                        self.0.access.begin_grace(request.mac(), &request.venue, request.created, grace);
                    }
                    self.0.listeners.tell(&SaleEvent::Invoiced(request));
                }
                self.watch(request);
                Ok(())
            }
            Err(error) => {
                log::warn!("request {}: no invoice for {}: {error}", request.id, request.mac());
                self.table().requests.remove(&request.id);
                Err(error)
            }
        }
    }

    async fn invoices(
        &self,
        request: &Request,
        caller: &Caller,
        parts: Vec<Checked>,
    ) -> Result<Vec<Part>, SaleError> {
        let mut new_parts = Vec::with_capacity(parts.len());
        let memos = parts.iter().map(|part| part.memo.clone()).collect();
        for part in parts {
            let mint = self.0.mints.get(&part.mint);
            // Before anything is written: an amount that the mint will not take must not cost the flash.
            let keyset = mint.keyset_for(part.amount, Urgency::Guest).await;
            let keyset = keyset.map_err(|err| unavailable(&part.mint, &err))?;
            let amounts = keyset
                .split(part.amount)
                .ok_or_else(|| unavailable(&part.mint, &EcashError::AmountNotPossible))?;
            new_parts.push(NewPart {
                mint: part.mint,
                amount: part.amount,
                metric: part.metric,
                allotment: part.allotment,
                keyset: keyset.id().to_string(),
                amounts: amounts.iter().map(|amount| amount.0).collect(),
            });
        }
        let row = self
            .0
            .store
            .begin(NewRequest {
                id: request.id.clone(),
                mac: request.mac(),
                venue: request.venue.clone(),
                owner: request.owner,
                form: request.form,
                parts: new_parts,
            })
            .await?;
        let result = match tokio::join!(self.ask_all(&row, memos), Terms::is_alone(caller.clone())) {
            (Ok(answers), Ok(())) => {
                let rows = answers.iter().map(|(part, answer)| (part.id, answer.clone())).collect();
                match self.0.store.invoiced(rows).await {
                    Ok(()) => {
                        return Ok(answers
                            .into_iter()
                            .filter_map(|(part, answer)| Part::invoiced(&part, answer))
                            .collect())
                    }
                    Err(err) => Err(err.into()),
                }
            }
            (Err(err), _) | (_, Err(err)) => Err(err),
        };
        if let Err(err) = self.0.store.not_invoiced(&request.id).await {
            log::error!("request {}: {err}", request.id);
        }
        result
    }

    /// Everything that can be refused before a mint is asked.
    pub(super) fn check(&self, venue: &Venue, ask: &Ask) -> Result<Vec<Checked>, SaleError> {
        let mut in_all = Allotment::ZERO;
        let mut parts = Vec::with_capacity(ask.parts.len());
        for part in &ask.parts {
            let price = self.0.terms.price(venue, &part.mint)?;
            let allotment = match price.allotment(part.amount) {
                Ok(allotment) => allotment,
                Err(_) if !ask.apply => Allotment::ZERO,
                Err(error) => return Err(SaleError::Price { offered: part.amount, fee: Sats(0), error }),
            };
            in_all = in_all.saturating_add(allotment);
            if ask.apply && in_all > Allotment(price.step.0.saturating_mul(price.max_steps)) {
                return Err(SaleError::TooMuchTogether);
            }
            let (mint, amount, metric) = (part.mint.clone(), part.amount, venue.metric);
            let memo = memo(venue, allotment, part, ask.apply);
            parts.push(Checked { mint, amount, metric, allotment, memo });
        }
        Ok(parts)
    }

    /// Asks the mint of each part for its invoice, all at once.
    async fn ask_all(
        &self,
        row: &RequestRow,
        memos: Vec<String>,
    ) -> Result<Vec<(PartRow, InvoiceRow)>, SaleError> {
        let asking: Vec<_> = row
            .parts
            .iter()
            .zip(memos)
            .map(|(part, memo)| {
                let (engine, part, owner) = (self.clone(), part.clone(), row.owner);
                task::start(async move {
                    let answer = engine.ask_one(&part, owner, memo).await?;
                    Ok((part, answer))
                })
            })
            .collect();
        let mut answers = Vec::with_capacity(asking.len());
        let mut refused = None;
        for task in asking {
            match task.await {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(err)) => refused = Some(err),
                Err(_) => refused = Some(SaleError::Internal),
            }
        }
        refused.map_or(Ok(answers), Err)
    }

    async fn ask_one(&self, part: &PartRow, owner: Owner, memo: String) -> Result<InvoiceRow, SaleError> {
        let seed = self.seed(owner);
        let lock = seed.lock_key(part.lock_index).map_err(|err| {
            log::error!("lock key {}: {err}", part.lock_index);
            SaleError::Internal
        })?;
        let mint = self.0.mints.get(&part.mint);
        let quote = mint
            .quote(part.amount, lock.public_key(), memo, Urgency::Guest)
            .await
            .map_err(|err| unavailable(&part.mint, &err))?;
        // As long as the mint's own times say; our clock may be wrong.
        let due = self.0.store.now().saturating_add(quote.lifetime.min(LONGEST_INVOICE));
        let ends = quote.invoice.timestamp().0.saturating_add(quote.lifetime.0 / 1000);
        Ok(InvoiceRow {
            quote: quote.id.as_str().to_owned(),
            invoice: quote.invoice_text.as_str().to_owned(),
            expires_at: UnixSeconds(ends),
            due,
        })
    }
}

fn unavailable(mint: &MintUrl, err: &EcashError) -> SaleError {
    log::warn!("{mint}: no invoice: {err}");
    match err {
        EcashError::AmountOutOfRange(..) | EcashError::AmountNotPossible => SaleError::NotIssued,
        EcashError::RateLimited => SaleError::MintBusy,
        _ => SaleError::MintAway,
    }
}
