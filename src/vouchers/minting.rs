//! Orders of vouchers, carried out once: what was asked for is checked against supply and limits and written down in one
//! commit, together with the key of its request; what stands behind it is asked for after that, and is found again after a
//! crash by the order's own id. Refused: more than there may be, and a ticket that is another order's.

use super::approvals::{self, Approval, Underway};
use super::idempotency::{begin_key, end_key, KeptAnswer, KeyPlace, KeyTurn, RunningKeys, RunningRequest};
use super::limits;
use super::paid::PaidNotice;
use super::reconcile::RunningVenues;
use super::rows::{self, NewBatch, NewTicket, VoucherRow};
use super::{BatchId, CodeKey, Funding, TicketId, VoucherBook, VoucherCode, VoucherRefusal, VoucherState};
use crate::config::{Config, MintUrl, Tenant};
use crate::ecash::wallet::{fits_one_invoice, BackError, Backed, Backing, Wallet, TOO_MANY_FOR_ONE_INVOICE};
use crate::json::json;
use crate::store::{CodeWorth, Door, StoreError, TenantStore};
use crate::task;
use crate::units::{Millis, Sats, UnixSeconds};
use crate::uuid::Uuid;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long (seconds) after its end a voucher can be taken that was shown on its last day.
const DAY: u64 = 86_400;

/// What is asked for, checked and priced.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: BatchId,
    /// `batch_mint`, `mint_tickets` or `webhook`.
    pub kind: &'static str,
    /// The section of the venue, and the id that others know it by.
    pub venue: String,
    pub venue_id: String,
    pub mint: Option<MintUrl>,
    pub funding: Funding,
    /// Who asks, whose limits count.
    pub principal: String,
    pub note: String,
    pub request_id: String,
    /// Of the request, for those who have to agree.
    pub request_hash: String,
    /// The request as it was sent.
    pub request: String,
    pub items: Vec<OrderItem>,
}

#[derive(Clone, Debug)]
pub struct OrderItem {
    pub id: TicketId,
    pub product: String,
    /// How many of the product there may be; 0: any number.
    pub max_supply: u64,
    pub owner: String,
    pub worth: CodeWorth,
    pub face: Sats,
    pub expires_at: UnixSeconds,
    pub label: String,
    pub notify: String,
}

/// What became of one ticket.
#[derive(Clone)]
pub struct TicketResult {
    pub id: TicketId,
    /// `None`: it was not made; see `fault`.
    pub made: Option<MadeTicket>,
    pub fault: Option<TicketFault>,
}

#[derive(Clone, Default)]
pub struct MadeTicket {
    pub code: Option<String>,
    /// An earlier request has made it.
    pub already: bool,
    pub backing: Option<Backed>,
    pub expires_at: u64,
}

#[derive(Clone, Debug)]
pub struct TicketFault {
    pub code: String,
    /// The same may go well later.
    pub retryable: bool,
}

/// What became of an order.
pub struct OrderOutcome {
    pub results: Vec<TicketResult>,
    pub took: Duration,
}

/// The answer that an order gets, in the words of its route.
pub type Shape = fn(&Order, &OrderOutcome, UnixSeconds) -> Value;

/// What carries orders out; clones share it.
#[derive(Clone)]
pub struct MintDesk {
    pub book: VoucherBook,
    pub running: RunningKeys,
    /// Decisions that are being carried out.
    pub underway: Underway,
    /// Venues whose vouchers are being compared, or repaired.
    pub venues: RunningVenues,
    pub(super) wallet: Wallet,
}

/// What the first commit of an order has come to.
enum Begun {
    Refused(VoucherRefusal),
    Waits(Approval),
    Made(MadeOrder),
}

/// The tickets of an order, and those that are others'.
struct MadeOrder {
    own: Vec<TicketId>,
    faults: Vec<(TicketId, TicketFault)>,
    now: UnixSeconds,
    began: Instant,
}

/// What an order is carried out with.
#[derive(Clone)]
pub struct OrderTerms {
    pub config: Arc<Config>,
    pub tenant: Tenant,
    pub shape: Shape,
    /// Nobody waits for the ecash behind the tickets: 202 is answered once they are written down. Where somebody is to pay for
    /// them, the invoice is waited for.
    pub is_queued: bool,
    /// A request that others have agreed to.
    pub approval: Option<BatchId>,
    /// Where the answer is kept, if the request has a key.
    pub place: Option<KeyPlace>,
    /// What the order came with, if a shop tells of it.
    pub notice: Option<PaidNotice>,
}

impl MintDesk {
    pub fn new(book: VoucherBook, wallet: Wallet) -> MintDesk {
        let (running, underway, venues) = Default::default();
        MintDesk { book, running, underway, venues, wallet }
    }

    /// Whose turn it is; what was kept is opened.
    pub async fn turn(
        &self,
        rows: &TenantStore,
        place: KeyPlace,
        body: &[u8],
    ) -> Result<KeyTurn, StoreError> {
        match self.running.turn(rows, place, body).await? {
            KeyTurn::Replay(KeptAnswer { status, body }) => {
                let body = self.book.key().await?.unseal_text("answer", &body)?;
                let kept = KeptAnswer { status, body };
                let is_late = match waits_for(&kept) {
                    Some(id) => {
                        let now = rows.store().wall().0;
                        rows.read(move |door| approvals::is_late(door, id, now)).await?
                    }
                    None => false,
                };
                Ok(KeyTurn::Replay(if is_late { expired() } else { kept }))
            }
            turn => Ok(turn),
        }
    }

    /// See [`keep_answer`].
    pub async fn keep(
        &self,
        rows: &TenantStore,
        place: KeyPlace,
        answer: &KeptAnswer,
    ) -> Result<(), StoreError> {
        let (key, answer) = (self.book.key().await?, answer.clone());
        rows.write(move |door| keep_answer(door, &key, &place, &answer)).await
    }

    /// Carries an order out, or goes on with it.
    pub async fn carry_out(
        &self,
        order: Order,
        terms: OrderTerms,
        running: Option<&RunningRequest>,
    ) -> Result<KeptAnswer, VoucherRefusal> {
        let began = Instant::now();
        let (rows, key) = (self.book.of(&terms.tenant), self.book.key().await?);
        let store = rows.store().clone();
        let (now, service) = (store.wall(), store.now());
        if !store.room_for_sales() {
            return Err(VoucherRefusal::new(
                503,
                "store_full",
                "there is no room left to write vouchers down",
            ));
        }
        if order.funding == Funding::Invoice && !fits_one_invoice(order.items.iter().map(|item| item.face)) {
            return Err(VoucherRefusal::new(400, "invalid_input", TOO_MANY_FOR_ONE_INVOICE));
        }
        if !is_answered_first(&order, &terms) && self.is_mint_left_alone(&order, &terms).await {
            let id = order.id;
            let begun = rows.read(move |door| rows::of_batch(door, id)).await?;
            if begun.is_empty() {
                return Err(unsettled(&BackError::MintAway));
            }
        }
        let marks = running.map(|running| (running.place.clone(), running.fingerprint.clone()));
        let (own_terms, own_key) = (terms.clone(), key.clone());
        let begun = rows.write(move |door| {
            let (mut order, terms) = (order, &own_terms);
            if let Some(notice) = &terms.notice {
                match notice.look(door)? {
                    Ok(known) => order.id = known.batch.unwrap_or(order.id),
                    Err(refusal) => return Ok((order, Begun::Refused(refusal), None)),
                }
            }
            let begun = begin(door, (&order, terms), &own_key, (now, service, began))?;
            if matches!(begun, Begun::Refused(_)) {
                return Ok((order, begun, None));
            }
            if let Some((place, fingerprint)) = &marks {
                begin_key(door, place, fingerprint, order.id, now.0)?;
            }
            if let Some(notice) = &terms.notice {
                notice.bind(door, order.id, now)?;
            }
            let answer = match (&begun, &terms.place) {
                (Begun::Waits(approval), Some(place)) => {
                    keep_answer(door, &own_key, place, &waits(approval))?;
                    None
                }
                (Begun::Made(made), _) if is_answered_first(&order, terms) => {
                    let outcome = outcome(door, (&order, terms), &own_key, made)?;
                    let answer = answer_of(&order, terms, &outcome, now);
                    answered(door, (&order, terms), &own_key, &answer, now)?;
                    Some(answer)
                }
                _ => None,
            };
            Ok((order, begun, answer))
        });
        let (order, made, answer) = match begun.await? {
            (_, Begun::Refused(refusal), _) => return Err(refusal),
            (_, Begun::Waits(approval), _) => return Ok(waits(&approval)),
            (order, Begun::Made(made), answer) => (order, made, answer),
        };
        match answer {
            None => self.settle(order, terms, made, key).await,
            Some(answer) => {
                if order.funding != Funding::Promise {
                    let desk = self.clone();
                    drop(task::start(async move {
                        if let Err(refusal) = desk.settle(order, terms, made, key).await {
                            log::info!("vouchers: an order is not made yet: {}", refusal.message);
                        }
                    }));
                }
                Ok(answer)
            }
        }
    }

    /// Has made what stands behind an order that is written down, and keeps what came of it.
    async fn settle(
        &self,
        order: Order,
        terms: OrderTerms,
        made: MadeOrder,
        key: Arc<CodeKey>,
    ) -> Result<KeptAnswer, VoucherRefusal> {
        let funded = self.fund(&order, &terms, &made.own).await?;
        let answer = self.book.of(&terms.tenant).write(move |door| {
            let answer = match &funded {
                Funded::AwaitsPayment(answer) => answer.clone(),
                Funded::Backed(backed) => {
                    let mut outcome = outcome(door, (&order, &terms), &key, &made)?;
                    outcome.back(backed);
                    answer_of(&order, &terms, &outcome, made.now)
                }
            };
            answered(door, (&order, &terms), &key, &answer, made.now)?;
            Ok(answer)
        });
        Ok(answer.await?)
    }

    /// Whether nothing new is begun with the order's mint for now.
    async fn is_mint_left_alone(&self, order: &Order, terms: &OrderTerms) -> bool {
        let venue = terms.config.venue(&order.venue);
        let first = venue.and_then(|venue| terms.config.mints_of(venue).next()).map(|mint| &mint.url);
        match order.funding {
            Funding::Promise => false,
            Funding::Treasury => self.wallet.leaves_alone(order.mint.as_ref()).await,
            Funding::Invoice => self.wallet.leaves_alone(order.mint.as_ref().or(first)).await,
        }
    }

    /// Has the ecash made that stands behind the tickets; the same again goes on where it was. What cannot be told yet is
    /// refused for now, and the request's key stays good for it.
    async fn fund(
        &self,
        order: &Order,
        terms: &OrderTerms,
        own: &[TicketId],
    ) -> Result<Funded, VoucherRefusal> {
        let (wallet, tenant, name) = (&self.wallet, &terms.tenant, order.id.to_string());
        let id = order.id;
        let rows = self.book.of(tenant).read(move |door| rows::of_batch(door, id)).await?;
        // What has failed stays so, whatever could be had by now.
        let can_be = |id: TicketId| {
            own.contains(&id) && rows.iter().any(|row| row.id == id && row.state != VoucherState::Failed)
        };
        let items = order.items.iter().filter(|item| can_be(item.id));
        let backings: Vec<Backing> = items
            .map(|item| Backing {
                id: item.id.to_string(),
                venue: order.venue.clone(),
                amount: item.face,
                locktime: UnixSeconds(item.expires_at.0.saturating_add(DAY)),
            })
            .collect();
        let ids: Vec<String> = backings.iter().map(|backing| backing.id.clone()).collect();
        if ids.is_empty() || order.funding == Funding::Promise {
            return Ok(Funded::Backed(Vec::new()));
        }
        if order.funding == Funding::Treasury {
            return match wallet.back(tenant, &name, order.mint.clone(), backings).await {
                Ok(()) => {
                    let tokens = wallet.tokens_of(tenant, &ids).await;
                    let later = |error| BackError::from(error);
                    tokens.map(Funded::Backed).map_err(|error| unsettled(&later(error)))
                }
                Err(error) if error.goes_on() => Err(unsettled(&error)),
                Err(error) => {
                    wallet.drop_backing(tenant, &name, &error).await;
                    // What was backed before that is good.
                    let backed = wallet.tokens_of(tenant, &ids).await;
                    backed.map(Funded::Backed).map_err(|error| unsettled(&BackError::from(error)))
                }
            };
        }
        let venue = terms.config.venue(&order.venue);
        let first =
            || venue.and_then(|venue| terms.config.mints_of(venue).next()).map(|mint| mint.url.clone());
        let Some(mint) = order.mint.clone().or_else(first) else {
            wallet.drop_backing(tenant, &name, &BackError::Refused("no mint".to_owned())).await;
            return Ok(Funded::Backed(Vec::new()));
        };
        match wallet.invoice(tenant, &name, &mint, backings).await {
            Ok(invoice) => {
                let body = json!({
                    "status": "awaiting_payment",
                    "batchId": name,
                    "invoice": invoice.invoice,
                    "amount": invoice.amount.0,
                    "expiresAt": invoice.expires_at.0,
                });
                Ok(Funded::AwaitsPayment(KeptAnswer { status: 202, body: format!("{body}\n") }))
            }
            Err(error) if error.goes_on() => Err(unsettled(&error)),
            Err(_) => Ok(Funded::Backed(Vec::new())),
        }
    }
}

/// Whether the answer is given with the first commit, and does not wait for a mint.
fn is_answered_first(order: &Order, terms: &OrderTerms) -> bool {
    match order.funding {
        Funding::Promise => true,
        Funding::Treasury => terms.is_queued,
        Funding::Invoice => false,
    }
}

/// Keeps the answer, wherever the same order may ask for it again; what others have agreed to is done.
fn answered(
    door: &Door,
    (order, terms): (&Order, &OrderTerms),
    key: &CodeKey,
    answer: &KeptAnswer,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    if let Some(place) = &terms.place {
        keep_answer(door, key, place, answer)?;
    }
    if let Some(notice) = &terms.notice {
        notice.keep(door, order.id, &answer.body, now)?;
    }
    terms.approval.map_or(Ok(()), |approval| approvals::finish(door, approval))
}

/// What came of the ecash behind an order.
enum Funded {
    /// All there will be; the tickets that have none have failed.
    Backed(Vec<Backed>),
    AwaitsPayment(KeptAnswer),
}

impl OrderOutcome {
    /// Puts the ecash to its tickets.
    fn back(&mut self, backed: &[Backed]) {
        for result in &mut self.results {
            let id = result.id.to_string();
            if let Some(made) = &mut result.made {
                made.backing = backed.iter().find(|one| one.id == id).cloned();
            }
        }
    }
}

/// It goes on by itself, or when the same request comes again.
fn unsettled(error: &BackError) -> VoucherRefusal {
    let message = format!("{error}; send the same request again later");
    VoucherRefusal::new(503, error.code(), message).after(Millis::from_secs(10))
}

/// Keeps the answer of a key, sealed: it may hold codes.
pub fn keep_answer(
    door: &Door,
    key: &CodeKey,
    place: &KeyPlace,
    answer: &KeptAnswer,
) -> Result<(), StoreError> {
    let body = key.seal_text("answer", &answer.body)?;
    end_key(door, place, &KeptAnswer { status: answer.status, body })
}

fn answer_of(order: &Order, terms: &OrderTerms, outcome: &OrderOutcome, now: UnixSeconds) -> KeptAnswer {
    let status = if terms.is_queued { 202 } else { 200 };
    KeptAnswer { status, body: format!("{}\n", (terms.shape)(order, outcome, now)) }
}

/// What a kept answer waits for, if it waits for others.
fn waits_for(kept: &KeptAnswer) -> Option<Uuid> {
    if kept.status != 202 {
        return None;
    }
    let body: Value = crate::json::read(kept.body.as_bytes())?;
    body["approvalId"].as_str()?.parse().ok()
}

/// 410, to somebody whose request others have not decided in time.
fn expired() -> KeptAnswer {
    let refusal = approvals::expired();
    let error = json!({"code": refusal.code, "message": refusal.message, "request_id": Value::Null});
    KeptAnswer { status: refusal.status, body: format!("{}\n", json!({"error": error})) }
}

/// 202, to somebody whose request waits for others.
pub fn waits(approval: &Approval) -> KeptAnswer {
    let body = json!({
        "status": "pending_approval",
        "approvalId": approval.id.to_string(),
        "requestHash": approval.request_hash,
        "required": approval.required,
        "approvals": approval.approvals,
        "expiresAt": approval.expires_at,
    });
    KeptAnswer { status: 202, body: format!("{body}\n") }
}

/// Everything that is decided before anybody else is asked, in one commit.
fn begin(
    door: &Door,
    (order, terms): (&Order, &OrderTerms),
    key: &CodeKey,
    (now, service, began): (UnixSeconds, Millis, Instant),
) -> Result<Begun, StoreError> {
    let (mut own, mut faults, mut new) = (Vec::new(), Vec::new(), Vec::new());
    let mut made: Vec<(&str, u64)> = Vec::new();
    let mut refused = None;
    for item in &order.items {
        match rows::by_id(door, item.id)? {
            Some(row) if row.batch == order.id => own.push(item.id),
            Some(row) => {
                if !is_callers(order, item, &row) {
                    refused = Some(("ticket_exists", "another order has one of these tickets"));
                }
                faults.push((item.id, fault("ticket_exists", false)));
            }
            None if has_supply(door, item, &mut made)? => new.push(item),
            None => {
                refused = Some(("max_supply_reached", "there may not be so many of this product"));
                faults.push((item.id, fault("max_supply_reached", false)));
            }
        }
    }
    // Who does not wait is not told of each ticket: all are made, or none.
    if let (true, Some((code, message))) = (terms.is_queued, refused) {
        return Ok(Begun::Refused(VoucherRefusal::new(409, code, message)));
    }
    // What was agreed to is begun once.
    if terms.approval.is_some() && !own.is_empty() {
        faults.extend(new.drain(..).map(|item: &OrderItem| (item.id, fault("max_supply_reached", false))));
    }
    if new.is_empty() {
        return Ok(Begun::Made(MadeOrder { own, faults, now, began }));
    }
    let sats = new.iter().fold(0u64, |sum, item| sum.saturating_add(item.face.0));
    match terms.approval {
        // Once, by the first who comes.
        Some(approval) if !approvals::consume(door, approval)? => return Err(StoreError::Gone),
        Some(_) => drop(limits::reserve(door, &terms.config, &order.principal, sats, service, true)?),
        None => {
            let asks = terms.config.approval.as_ref();
            let is_much = asks.is_some_and(|approval| sats > approval.above);
            let limit = limits::over(door, &terms.config, &order.principal, sats, service)?;
            match (asks, limit) {
                (None, Some(over)) => {
                    let refusal = VoucherRefusal::new(403, "limit_exceeded", over.message(sats));
                    return Ok(Begun::Refused(refusal));
                }
                (Some(asks), limit) if is_much || limit.is_some() => {
                    let who = (order.kind, order.principal.as_str());
                    let what = (order.request_hash.as_str(), order_text(order, terms));
                    let id = Uuid::random().ok_or(StoreError::NoRandomness)?;
                    let asked = approvals::ask(door, id, who, (what.0, &what.1), asks.required, now.0)?;
                    let too_many =
                        || VoucherRefusal::new(429, "too_many_approvals", "too many requests wait already");
                    return Ok(asked.map_or_else(|| Begun::Refused(too_many()), Begun::Waits));
                }
                _ => drop(limits::reserve(door, &terms.config, &order.principal, sats, service, false)?),
            }
        }
    }
    write_down(door, (order, terms), key, &new, now)?;
    own.extend(new.iter().map(|item| item.id));
    Ok(Begun::Made(MadeOrder { own, faults, now, began }))
}

/// What others have to agree to, so that it can be carried out then.
fn order_text(order: &Order, terms: &OrderTerms) -> String {
    let place = terms.place.as_ref().map(KeyPlace::told);
    json!({"order": order.id.to_string(), "request": order.request, "request_id": order.request_id, "key": place})
        .to_string()
}

/// Whether there may be one more of the product. `made`: what this order has of each already.
fn has_supply<'o>(
    door: &Door,
    item: &'o OrderItem,
    made: &mut Vec<(&'o str, u64)>,
) -> Result<bool, StoreError> {
    if item.max_supply == 0 {
        return Ok(true);
    }
    if !made.iter().any(|(product, _)| *product == item.product) {
        let found = door.query(
            "SELECT made FROM voucher_series WHERE tenant = $1 AND product = $2",
            &[item.product.as_str().into()],
        )?;
        made.push((&item.product, found.first().map_or(Ok(0), |row| row.count(0))?));
    }
    let count = made.iter_mut().find(|(product, _)| *product == item.product);
    Ok(count.is_some_and(|(_, count)| {
        let has_room = *count < item.max_supply;
        *count = count.saturating_add(u64::from(has_room));
        has_room
    }))
}

fn write_down(
    door: &Door,
    (order, terms): (&Order, &OrderTerms),
    key: &CodeKey,
    new: &[&OrderItem],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let state = match order.funding {
        Funding::Promise => VoucherState::Ready,
        Funding::Treasury => VoucherState::Minting,
        Funding::Invoice => VoucherState::AwaitingPayment,
    };
    for (position, item) in (0u64..).zip(new) {
        let batch = NewBatch {
            id: order.id,
            venue: order.venue.clone(),
            product: item.product.clone(),
            owner: item.owner.clone(),
            worth: item.worth,
            face: item.face,
            funding: order.funding,
            state,
            note: order.note.clone(),
            created_by: order.principal.clone(),
            request_id: order.request_id.clone(),
            expires_at: item.expires_at,
        };
        if position == 0 {
            let size = u64::try_from(new.len()).unwrap_or(u64::MAX);
            if !rows::insert_batch(door, &batch, size, now)? {
                return Err(StoreError::Full);
            }
        }
        let code = VoucherCode::random().ok_or(StoreError::NoRandomness)?;
        let (label, notify) = (item.label.clone(), item.notify.clone());
        let ticket = NewTicket { id: item.id, code, label, notify };
        rows::insert_ticket(door, (key, &terms.tenant), &batch, position, &ticket, now)?;
        if !item.product.is_empty() {
            door.execute(
                "INSERT INTO voucher_series (tenant, product, made) VALUES ($1, $2, 1)
                 ON CONFLICT (tenant, product) DO UPDATE SET made = voucher_series.made + 1",
                &[item.product.as_str().into()],
            )?;
        }
    }
    Ok(())
}

/// What has become of the tickets, in the order in which they were asked for.
fn outcome(
    door: &Door,
    (order, terms): (&Order, &OrderTerms),
    key: &CodeKey,
    made: &MadeOrder,
) -> Result<OrderOutcome, StoreError> {
    let mut results = Vec::new();
    for item in &order.items {
        let known = rows::by_id(door, item.id)?;
        let exists = |row: &VoucherRow| made.own.contains(&item.id) || row.batch == order.id;
        let result = match (&known, made.faults.iter().find(|(id, _)| *id == item.id)) {
            (Some(row), _) if exists(row) => told(key, &terms.tenant, row)?,
            // A service sees again what it has ordered itself, and nobody else's codes.
            (Some(row), Some(_)) if is_callers(order, item, row) => {
                let mut result = told(key, &terms.tenant, row)?;
                result.made.iter_mut().for_each(|made| made.already = true);
                result
            }
            (_, Some((id, fault))) => TicketResult { id: *id, made: None, fault: Some(fault.clone()) },
            (_, None) => TicketResult { id: item.id, made: None, fault: Some(fault("failed", true)) },
        };
        results.push(result);
    }
    Ok(OrderOutcome { results, took: made.began.elapsed() })
}

/// Whether a service has ordered this ticket itself before.
fn is_callers(order: &Order, item: &OrderItem, row: &VoucherRow) -> bool {
    order.kind != "batch_mint" && row.created_by == order.principal && row.product == item.product
}

fn told(key: &CodeKey, tenant: &Tenant, row: &VoucherRow) -> Result<TicketResult, StoreError> {
    let code = row.sealed.as_ref().map(|sealed| key.unseal(tenant, row.id, sealed)).transpose()?;
    let fault = match row.state {
        VoucherState::Failed => Some(fault(row.error_code.as_deref().unwrap_or("failed"), false)),
        // Nobody knows yet whether it will be.
        VoucherState::Queued | VoucherState::AwaitingPayment | VoucherState::Minting => {
            Some(fault(row.state.as_str(), true))
        }
        _ => None,
    };
    let made = fault.is_none().then(|| MadeTicket {
        code: code.map(|code| code.to_string()),
        expires_at: row.expires_at.0,
        ..MadeTicket::default()
    });
    Ok(TicketResult { id: row.id, made, fault })
}

fn fault(code: &str, retryable: bool) -> TicketFault {
    TicketFault { code: code.to_owned(), retryable }
}
