//! Vouchers: a code that was sold or promised, in for a session, once. Refused: a code that nobody made, that is used,
//! expired, revoked, not paid yet, or good at another venue; an order for what no venue sells; and guessing.
//!
//! A code is used, and what it is worth granted, in one commit; then the gate opens, then the guest is told. No mint is asked.
//!
//! Guesses are counted of each MAC and of all. Who has guessed too much waits; but a code that is good is looked up and taken
//! however many others guess: with 60 random bits it is found by nobody, and an honest guest pays nothing for a flood.

use super::code_value::{price_of, CodeValue};
use super::{SaleError, Terms};
use crate::access::Session;
use crate::config::{Config, Metric, Tenant, Venue};
use crate::correlation;
use crate::ecash::wallet::{
    fits_one_invoice, BackError, Backing, BatchInvoice, Wallet, AFTER_EXPIRY, TOO_MANY_FOR_ONE_INVOICE,
};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::pace::Pace;
use crate::store::{Admission, CodeWorth, Reference, StoreError};
use crate::task;
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
use crate::uuid::Uuid;
use crate::vouchers::approvals::Approval;
use crate::vouchers::{
    rows, Added, BatchId, Cause, Funding, NewBatch, NewTicket, NotAdded, TicketId, VoucherBook, VoucherCode,
    VoucherRow, VoucherState, WorkRequest,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// Codes that nobody made, of a MAC and of all together, within a minute.
const OF_ONE: usize = 10;
const OF_ALL: usize = 60;
const MINUTE: Millis = Millis::from_secs(60);
/// The gate opens in much less, or later by itself.
const GATE: Duration = Duration::from_secs(5);
/// The shortest life of a code.
const SHORTEST: Millis = Millis::from_secs(1);

/// Why a code lets nobody in, or an order makes none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    #[error("there is no such voucher")]
    Unknown,
    #[error("this voucher was used already")]
    Used,
    #[error("this voucher has expired")]
    Expired,
    #[error("this voucher was revoked; please ask where you got it")]
    Revoked,
    #[error("this voucher could not be made good; please ask where you got it")]
    Failed,
    /// It can still be used, there.
    #[error("this voucher is for another Wi-Fi: {0}")]
    OtherVenue(String),
    /// What is behind it has not come yet.
    #[error("this voucher is not paid yet; please try again in a moment")]
    NotReady,
    #[error("what this voucher is worth is not sold here at the moment; it stays good")]
    WrongMetric,
    /// For this long.
    #[error("too many wrong codes; please wait")]
    TooMany(Millis),
    /// It is used; access opens by itself.
    #[error("your voucher is taken, and access will open by itself; do not use another one")]
    GrantPending,
    #[error("{0}")]
    Sale(SaleError),
    /// Of an order.
    #[error("{0}")]
    Order(String),
    #[error("there is no such venue")]
    NoVenue,
    #[error("there are too many vouchers already")]
    Full,
    /// Of who ordered, or of all together.
    #[error("{0}")]
    OverLimit(String),
    /// Others have to agree first.
    #[error("others have to agree to it first")]
    Waits(Box<Approval>),
    #[error("too many requests wait for others already")]
    Crowded,
    /// No ecash stands behind them, so none were made.
    #[error("no vouchers were made: {0}")]
    NotBacked(BackError),
}

impl VoucherError {
    pub fn code(&self) -> &'static str {
        match self {
            VoucherError::Unknown => "voucher_unknown",
            VoucherError::Used => "voucher_used",
            VoucherError::Expired => "voucher_expired",
            VoucherError::Revoked => "voucher_revoked",
            VoucherError::Failed => "voucher_failed",
            VoucherError::OtherVenue(_) => "voucher_other_venue",
            VoucherError::NotBacked(error) => error.code(),
            VoucherError::NotReady => "voucher_not_ready",
            VoucherError::WrongMetric => "wrong_metric",
            VoucherError::TooMany(_) => "too_many",
            VoucherError::GrantPending => "grant_pending",
            VoucherError::Sale(error) => error.code(),
            VoucherError::Order(_) => "invalid_input",
            VoucherError::NoVenue => "venue_unknown",
            VoucherError::Full => "too_many_vouchers",
            VoucherError::OverLimit(_) => "limit_exceeded",
            VoucherError::Waits(_) => "pending_approval",
            VoucherError::Crowded => "too_many_approvals",
        }
    }
}

impl From<StoreError> for VoucherError {
    fn from(error: StoreError) -> VoucherError {
        VoucherError::Sale(error.into())
    }
}

impl From<SaleError> for VoucherError {
    fn from(error: SaleError) -> VoucherError {
        VoucherError::Sale(error)
    }
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct VoucherOrder {
    /// The venue's section; without one the only venue that sells such a thing.
    pub venue: Option<String>,
    pub worth: CodeWorth,
    pub funding: Funding,
    /// How long they can be redeemed, where it is not the usual time.
    pub lasts: Option<Millis>,
    pub note: String,
    pub created_by: String,
    /// Of the request that it is of, or empty.
    pub request_id: String,
    pub number: usize,
    /// The request over HTTP that it is of.
    pub request: Option<WorkRequest>,
}

/// What was made.
pub struct VoucherBatch {
    pub batch: BatchId,
    pub venue: Venue,
    pub worth: CodeWorth,
    /// What one of them costs there now.
    pub face: Sats,
    pub expires_at: UnixSeconds,
    pub vouchers: Vec<(TicketId, VoucherCode)>,
    /// Those that are backed by now, as ecash.
    pub tokens: Vec<(TicketId, String)>,
    /// What somebody is to pay, before they can be redeemed.
    pub invoice: Option<BatchInvoice>,
}

/// A code that was taken.
pub struct RedeemedVoucher {
    pub id: TicketId,
    /// What it was worth.
    pub allotment: Allotment,
    pub session: Session,
}

/// Makes vouchers, and lets a guest in who shows one. Clones share everything.
#[derive(Clone)]
pub struct VoucherEngine(Arc<SharedVouchers>);

struct SharedVouchers {
    terms: Terms,
    book: VoucherBook,
    wallet: Wallet,
    guesses: Mutex<WrongCodes>,
}

impl VoucherEngine {
    pub fn new(terms: Terms, wallet: Wallet) -> VoucherEngine {
        let guesses = Mutex::new(WrongCodes { of_one: Pace::new(OF_ONE, MINUTE), of_all: VecDeque::new() });
        let book = VoucherBook::new(terms.store.clone());
        VoucherEngine(Arc::new(SharedVouchers { terms, book, wallet, guesses }))
    }

    pub fn book(&self) -> &VoucherBook {
        &self.0.book
    }

    /// Makes what was ordered; `owners` are the tenants whose venues may be named.
    pub async fn make(&self, owners: &[Tenant], order: VoucherOrder) -> Result<VoucherBatch, VoucherError> {
        let (terms, book) = (&self.0.terms, &self.0.book);
        let config = terms.config();
        terms.is_unsealed()?;
        terms.has_space()?;
        let venue = venue_for(&config, owners, &order)?.clone();
        let lasts = order.lasts.unwrap_or(config.voucher.code_life).max(SHORTEST);
        let mut expires_at = UnixSeconds(terms.store.wall().0.saturating_add(lasts.as_secs_ceil()));
        let request = order.request.clone().unwrap_or_default();
        let batch = NewBatch {
            id: request.work.map_or_else(new_id, Ok)?,
            venue: venue.id.clone(),
            product: String::new(),
            owner: String::new(),
            worth: order.worth,
            face: price_of(&config, &venue, order.worth),
            funding: order.funding,
            state: match order.funding {
                Funding::Promise => VoucherState::Ready,
                Funding::Treasury => VoucherState::Minting,
                Funding::Invoice => VoucherState::AwaitingPayment,
            },
            note: order.note,
            created_by: order.created_by,
            request_id: order.request_id,
            expires_at,
        };
        let ticket = |_| {
            let code = VoucherCode::random().ok_or(StoreError::NoRandomness)?;
            Ok(NewTicket { id: new_id()?, code, label: String::new(), notify: String::new() })
        };
        let tickets: Result<Vec<NewTicket>, VoucherError> = (0..order.number).map(ticket).collect();
        let tickets = tickets?;
        let mut vouchers: Vec<_> = tickets.iter().map(|ticket| (ticket.id, ticket.code.clone())).collect();
        let (id, face) = (batch.id, batch.face);
        if order.funding != Funding::Promise && face == Sats(0) {
            return Err(VoucherError::Order("ecash stands behind what costs at least a sat".to_owned()));
        }
        if order.funding == Funding::Invoice && !fits_one_invoice(vouchers.iter().map(|_| face)) {
            return Err(VoucherError::Order(TOO_MANY_FOR_ONE_INVOICE.to_owned()));
        }
        let tenant = config.tenant_of_venue(&venue.id);
        let reserved = terms.store.now();
        match book.add((&tenant, config.clone()), batch, tickets, reserved, order.request).await? {
            Ok(Added::New) => {}
            Ok(Added::Known(rows)) => {
                vouchers = self.codes_of(&tenant, &rows).await?;
                expires_at = rows.first().map_or(expires_at, |row| row.expires_at);
            }
            Err(NotAdded::Full) => return Err(VoucherError::Full),
            Err(NotAdded::Over(sats, over)) => return Err(VoucherError::OverLimit(over.message(sats))),
            Err(NotAdded::Waits(approval)) => return Err(VoucherError::Waits(Box::new(approval))),
            Err(NotAdded::Crowded) => return Err(VoucherError::Crowded),
        }
        let backing = |(ticket, _): &(TicketId, VoucherCode)| Backing {
            id: ticket.to_string(),
            venue: venue.id.clone(),
            amount: face,
            locktime: UnixSeconds(expires_at.0.saturating_add(AFTER_EXPIRY)),
        };
        let backings: Vec<Backing> = vouchers.iter().map(backing).collect();
        let (tokens, invoice) = self.fund(&tenant, id, order.funding, &venue, backings).await?;
        let worth = order.worth;
        Ok(VoucherBatch { batch: id, venue, worth, face, expires_at, vouchers, tokens, invoice })
    }

    /// Those that can still be used.
    async fn codes_of(
        &self,
        tenant: &Tenant,
        rows: &[VoucherRow],
    ) -> Result<Vec<(TicketId, VoucherCode)>, VoucherError> {
        let mut codes = Vec::new();
        for row in rows {
            codes.extend(self.0.book.code_of(tenant, row).await?.map(|code| (row.id, code)));
        }
        Ok(codes)
    }

    /// Has ecash stand behind the vouchers of a batch. What cannot be had is not promised: they have failed then.
    async fn fund(
        &self,
        tenant: &Tenant,
        batch: BatchId,
        funding: Funding,
        venue: &Venue,
        backings: Vec<Backing>,
    ) -> Result<(Vec<(TicketId, String)>, Option<BatchInvoice>), VoucherError> {
        let (wallet, name) = (&self.0.wallet, batch.to_string());
        let ids: Vec<String> = backings.iter().map(|backing| backing.id.clone()).collect();
        match funding {
            Funding::Promise => Ok((Vec::new(), None)),
            Funding::Treasury => match wallet.back(tenant, &name, None, backings).await {
                Ok(()) => {
                    let backed = wallet.tokens_of(tenant, &ids).await.unwrap_or_default();
                    let tokens = backed.into_iter().filter_map(|one| Some((one.id.parse().ok()?, one.token)));
                    Ok((tokens.collect(), None))
                }
                // They become ready by themselves.
                Err(BackError::NotKnownYet) => Ok((Vec::new(), None)),
                Err(error) => {
                    wallet.drop_backing(tenant, &name, &error).await;
                    Err(VoucherError::NotBacked(error))
                }
            },
            Funding::Invoice => {
                let config = self.0.terms.config();
                let mint = config.mints_of(venue).next().map(|mint| mint.url.clone());
                let Some(mint) = mint else {
                    let error = BackError::Refused("the venue has no mint".to_owned());
                    wallet.drop_backing(tenant, &name, &error).await;
                    return Err(VoucherError::NotBacked(error));
                };
                let invoice = wallet.invoice_now(tenant, &name, &mint, backings).await;
                Ok((Vec::new(), Some(invoice.map_err(VoucherError::NotBacked)?)))
            }
        }
    }

    /// Lets a guest in for a code. A caller that stops waiting does not stop it.
    pub async fn redeem(
        &self,
        caller: &Caller,
        venue: &Venue,
        code: &str,
    ) -> Result<RedeemedVoucher, VoucherError> {
        self.0.terms.may_sell(venue.metric)?;
        let now = self.0.terms.store.now();
        let wait = self.guesses().of_one.wait(caller.mac, now);
        if wait > Millis::ZERO {
            return Err(VoucherError::TooMany(wait));
        }
        let (engine, caller, venue) = (self.clone(), caller.clone(), venue.clone());
        let code = Zeroizing::new(code.to_owned());
        let redeeming = task::start(async move {
            match engine.redeem_known(&caller, &venue, &code).await {
                Err(VoucherError::Unknown) => Err(engine.guessed(caller.mac)),
                redeemed => redeemed,
            }
        });
        redeeming.await.unwrap_or(Err(VoucherError::Sale(SaleError::Internal)))
    }

    /// Counts a wrong code; what is said of it.
    fn guessed(&self, mac: MacAddr) -> VoucherError {
        let now = self.0.terms.store.now();
        self.guesses().count(mac, now).map_or_else(VoucherError::TooMany, |()| VoucherError::Unknown)
    }

    async fn redeem_known(
        &self,
        caller: &Caller,
        venue: &Venue,
        code: &str,
    ) -> Result<RedeemedVoucher, VoucherError> {
        let (terms, book) = (&self.0.terms, &self.0.book);
        let code: VoucherCode = code.parse().map_err(|()| VoucherError::Unknown)?;
        let config = terms.config();
        let tenant = config.tenant_of_venue(&venue.id);
        let row = book.find(&tenant, &code).await?.ok_or(VoucherError::Unknown)?;
        usable(&row, terms.store.wall())?;
        if row.venue != venue.id {
            let name = config.venue(&row.venue).map_or(row.venue.as_str(), |venue| venue.name.as_str());
            return Err(VoucherError::OtherVenue(name.to_owned()));
        }
        let value = CodeValue::at(&config, venue, row.worth).ok_or(VoucherError::WrongMetric)?;
        Terms::seems_alone(caller.clone()).await?;
        let (id, allotment) = (row.id, value.allotment);
        let grant = value.grant(Reference::Voucher(id), caller.mac, venue);
        let (now, wall, mac) = (terms.store.now(), terms.store.wall(), caller.mac);
        let request_id = correlation::current_text();
        let used: Result<Admission, VoucherRow> = book
            .of(&tenant)
            .write(move |door| {
                let by = mac.to_string();
                let cause = Cause { at: wall, reason: "redeemed", who: "guest", request_id: &request_id };
                match rows::redeem(door, &row, &by, cause)? {
                    true => door.grant(&grant, now, wall).map(Ok),
                    false => Ok(Err(rows::by_id(door, row.id)?.unwrap_or(row))),
                }
            })
            .await?;
        let admission = used.map_err(|row| usable(&row, wall).err().unwrap_or(VoucherError::Used))?;
        self.0.wallet.collect();
        log::info!("{} is let in by voucher {id}", caller.mac);
        let access = terms.access.clone();
        let admitting = task::start(async move { access.admit(admission).await });
        match tokio::time::timeout(GATE, admitting).await {
            Ok(Ok(session)) => Ok(RedeemedVoucher { id, allotment, session }),
            Ok(Err(_)) | Err(_) => Err(VoucherError::GrantPending),
        }
    }

    fn guesses(&self) -> MutexGuard<'_, WrongCodes> {
        self.0.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_id() -> Result<Uuid, VoucherError> {
    Ok(Uuid::random().ok_or(StoreError::NoRandomness)?)
}

/// Whether it can be redeemed.
fn usable(row: &VoucherRow, now: UnixSeconds) -> Result<(), VoucherError> {
    Err(match row.state_at(now) {
        VoucherState::Ready => return Ok(()),
        VoucherState::Queued | VoucherState::AwaitingPayment | VoucherState::Minting => {
            VoucherError::NotReady
        }
        VoucherState::Redeemed => VoucherError::Used,
        VoucherState::Expired => VoucherError::Expired,
        VoucherState::Revoked => VoucherError::Revoked,
        VoucherState::Failed | VoucherState::Refunded => VoucherError::Failed,
    })
}

/// The venue of an order: the one that it names, or the only one where such a thing is sold.
fn venue_for<'a>(
    config: &'a Config,
    owners: &[Tenant],
    order: &VoucherOrder,
) -> Result<&'a Venue, VoucherError> {
    let refused = |message: &str| Err(VoucherError::Order(message.to_owned()));
    let own = || config.venues.iter().filter(|venue| owners.contains(&config.tenant_of_venue(&venue.id)));
    if let Some(name) = &order.venue {
        let venue = own().find(|venue| venue.id == *name).ok_or(VoucherError::NoVenue)?;
        return match CodeValue::at(config, venue, order.worth) {
            Some(_) => Ok(venue),
            None => refused(why_not_sold(config, venue, order.worth)),
        };
    }
    let mut sells = own().filter(|venue| CodeValue::at(config, venue, order.worth).is_some());
    match (sells.next(), sells.next()) {
        (Some(venue), None) => Ok(venue),
        (Some(_), Some(_)) => refused("there are several venues: say at which one, by its section's name"),
        (None, _) => match own().next() {
            Some(venue) => refused(why_not_sold(config, venue, order.worth)),
            None => Err(VoucherError::NoVenue),
        },
    }
}

fn why_not_sold(config: &Config, venue: &Venue, worth: CodeWorth) -> &'static str {
    match (worth, venue.metric) {
        (CodeWorth::Seconds(_), Metric::Bytes) => "data is sold there, not time",
        (CodeWorth::Bytes(_), Metric::Milliseconds) => "time is sold there, not data",
        (CodeWorth::Sats(_), _) if config.mints_of(venue).next().is_none() => {
            "no mint's section says what a step costs there: make vouchers for time or data"
        }
        (CodeWorth::Sats(_), _) => "so few sats buy nothing there",
        _ => "so much is not sold there",
    }
}

/// Codes that were shown lately and were nobody's.
struct WrongCodes {
    of_one: Pace,
    of_all: VecDeque<Millis>,
}

impl WrongCodes {
    /// Counts one, or says how long until one more is answered.
    fn count(&mut self, mac: MacAddr, now: Millis) -> Result<(), Millis> {
        self.of_all.retain(|at| at.saturating_add(MINUTE) > now);
        let wait_of_all = match self.of_all.front() {
            Some(first) if self.of_all.len() >= OF_ALL => first.saturating_add(MINUTE).saturating_sub(now),
            _ => Millis::ZERO,
        };
        // What one has tried counts of the one in any case.
        let wait_of_one = if self.of_one.admit(mac, now) { Millis::ZERO } else { self.of_one.wait(mac, now) };
        match wait_of_one.max(wait_of_all) {
            Millis::ZERO => {
                self.of_all.push_back(now);
                Ok(())
            }
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
    }

    #[test]
    fn ten_guesses_of_one_and_sixty_of_all_are_answered_in_a_minute() {
        let mut wrong = WrongCodes { of_one: Pace::new(OF_ONE, MINUTE), of_all: VecDeque::new() };
        assert_eq!((0..20).filter(|_| wrong.count(mac(1), Millis(0)).is_ok()).count(), 10);
        let others =
            (2..100).map(|last| (0..10).filter(|_| wrong.count(mac(last), Millis(0)).is_ok()).count());
        assert_eq!(others.sum::<usize>(), 50);
        assert_eq!(wrong.of_one.wait(mac(200), Millis(0)), Millis::ZERO, "who has not guessed is heard");
        assert_eq!(wrong.count(mac(200), Millis::from_secs(50)), Err(Millis::from_secs(10)));
        assert_eq!(wrong.count(mac(200), Millis::from_secs(60)), Ok(()));
    }
}
