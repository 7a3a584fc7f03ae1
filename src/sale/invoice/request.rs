//! A request as it lives in memory: what was asked, and how far each part has come.

use super::SaleError;
use crate::config::{Metric, MintUrl};
use crate::ecash::QuoteId;
use crate::mac::MacAddr;
use crate::store::{InvoiceRow, OutputsRow, Owner, PartRow, PartState, RequestId, RequestRow, TokenForm};
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{watch, Notify};

/// In place of the quote's id in a part that is over: its mint is not asked about it any more.
const OVER: &str = "over";

pub struct Request {
    pub id: RequestId,
    /// Whose it is; changes when the guest changes its MAC.
    mac: Mutex<MacAddr>,
    pub venue: String,
    pub owner: Owner,
    pub form: TokenForm,
    /// Service time.
    pub created: Millis,
    /// When the guest last asked about it (service time).
    asked_about: Mutex<Millis>,
    /// Left to the rounds: no task watches it any more.
    is_aside: AtomicBool,
    asked: Vec<(MintUrl, Sats)>,
    opening: watch::Sender<Opening>,
    parts: OnceLock<Vec<Part>>,
}

/// What makes two requests of a guest at a venue the same.
#[derive(Clone)]
pub struct Asked {
    pub owner: Owner,
    pub form: TokenForm,
    pub parts: Vec<(MintUrl, Sats)>,
}

/// Whether the mints have given their invoices.
#[derive(Clone)]
pub enum Opening {
    Asking,
    Open,
    /// Another mint was faster: this request has its invoice. Whether all sockets of the guest were told.
    Elsewhere(Arc<Request>, bool),
    Refused(SaleError),
}

/// One invoice of a request.
pub struct Part {
    pub id: i64,
    pub position: u32,
    pub mint: MintUrl,
    pub amount: Sats,
    pub metric: Metric,
    pub allotment: Allotment,
    pub lock_index: u32,
    pub quote: QuoteId,
    pub invoice: String,
    pub expires_at: UnixSeconds,
    /// When the invoice ends, in service time.
    pub due: Millis,
    progress: Mutex<(Progress, Millis)>,
    claims: Mutex<Vec<OutputsRow>>,
    made_ticket: AtomicBool,
    acked: AtomicBool,
    /// Somebody wants this part looked at now; the flags say who.
    pub wake: Notify,
    pub said_paid: AtomicBool,
    pub mint_is_back: AtomicBool,
    pub guest_asks: AtomicBool,
    pub guest_looks_on: AtomicBool,
}

/// Why a part should be looked at now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The mint's socket said that it was paid.
    SaidPaid,
    /// The mint's socket, or the mint, was away and is there again.
    MintIsBack,
    /// The guest wants to know.
    Guest,
    /// The guest has a page open on which it would see a late payment.
    Page,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Unpaid,
    /// The invoice has ended; a late payment is still looked for.
    Overdue,
    /// The mint has the payment; its tokens are not here yet.
    Paid,
    /// The guest's tokens, safe in the store.
    Tokens(String),
    /// Access is granted in the store; `online` once the gate is open for it.
    Granted {
        online: bool,
    },
    Expired,
}

impl Request {
    pub fn asking(id: RequestId, mac: MacAddr, venue: &str, asked: Asked, created: Millis) -> Request {
        let Asked { owner, form, parts: asked } = asked;
        Request {
            id,
            mac: Mutex::new(mac),
            venue: venue.to_owned(),
            owner,
            form,
            created,
            asked_about: Mutex::new(created),
            is_aside: AtomicBool::new(false),
            asked,
            opening: watch::Sender::new(Opening::Asking),
            parts: OnceLock::new(),
        }
    }

    /// A request as the store has it; parts without an invoice were never shown and are left out.
    pub fn from_row(row: RequestRow) -> Request {
        let parts = row.parts.iter().map(|part| (part.mint.clone(), part.amount)).collect();
        let asked = Asked { owner: row.owner, form: row.form, parts };
        let request = Request::asking(row.id, row.mac, &row.venue, asked, row.created);
        let parts = row.parts.into_iter().filter_map(|part| Part::from_row(part, row.owner)).collect();
        request.open(parts);
        request
    }

    pub fn mac(&self) -> MacAddr {
        *lock(&self.mac)
    }

    pub fn move_to(&self, mac: MacAddr) {
        *lock(&self.mac) = mac;
    }

    /// The mints have answered. False where the guest was shown another mint's invoice meanwhile.
    pub fn open(&self, parts: Vec<Part>) -> bool {
        let _ = self.parts.set(parts);
        self.decide(Opening::Open)
    }

    /// `other` has the invoice; whether all sockets of the guest were told of it.
    pub fn stand_back(&self, other: Arc<Request>, is_told: bool) {
        self.decide(Opening::Elsewhere(other, is_told));
    }

    pub fn refuse(&self, error: SaleError) {
        self.decide(Opening::Refused(error));
    }

    /// The first word counts: a guest keeps the invoice that was shown.
    fn decide(&self, outcome: Opening) -> bool {
        self.opening.send_if_modified(|opening| {
            let is_first = matches!(opening, Opening::Asking);
            if is_first {
                *opening = outcome;
            }
            is_first
        })
    }

    /// Waits until there is an invoice. Returns `None` if it is this request's own, else the request that has it.
    pub async fn opened(&self) -> Result<Option<(Arc<Request>, bool)>, SaleError> {
        let mut opening = self.opening.subscribe();
        let opening = opening.wait_for(|opening| !matches!(opening, Opening::Asking)).await;
        match opening.as_deref() {
            Ok(Opening::Open) => Ok(None),
            Ok(Opening::Elsewhere(other, is_told)) => Ok(Some((other.clone(), *is_told))),
            Ok(Opening::Refused(error)) => Err(error.clone()),
            Ok(Opening::Asking) | Err(_) => Err(SaleError::Internal),
        }
    }

    /// The request whose invoice the guest was shown instead.
    pub fn stand_in(&self) -> Option<Arc<Request>> {
        match &*self.opening.borrow() {
            Opening::Elsewhere(other, _) => Some(other.clone()),
            _ => None,
        }
    }

    /// Empty while the mints are being asked.
    pub fn parts(&self) -> &[Part] {
        self.parts.get().map_or(&[], Vec::as_slice)
    }

    pub fn is_asking(&self) -> bool {
        self.parts.get().is_none()
    }

    /// The same was asked at the same venue, and nothing of it is paid or over.
    pub fn answers(&self, venue: &str, asked: &Asked, now: Millis) -> bool {
        let is_same = (self.owner, self.form, self.venue.as_str()) == (asked.owner, asked.form, venue)
            && self.asked == asked.parts;
        is_same
            && match self.stand_in() {
                Some(other) => other.is_payable(now),
                None => self.is_asking() || self.is_payable(now),
            }
    }

    /// Every invoice can still be paid.
    pub fn is_payable(&self, now: Millis) -> bool {
        !self.parts().is_empty()
            && self.parts().iter().all(|part| part.progress() == Progress::Unpaid && part.due > now)
    }

    /// An invoice can still be paid, or was and its session is on the way.
    pub fn awaits_money(&self, now: Millis) -> bool {
        self.is_asking()
            || self.parts().iter().any(|part| match part.progress() {
                Progress::Unpaid => part.due > now,
                Progress::Paid | Progress::Granted { online: false } => true,
                _ => false,
            })
    }

    /// An invoice has ended, and its late payment is still looked for.
    pub fn is_overdue(&self) -> bool {
        self.parts().iter().any(|part| part.progress() == Progress::Overdue)
    }

    /// It waits for nothing but payments.
    pub fn is_unpaid(&self) -> bool {
        let is_on_its_way =
            |part: &Part| matches!(part.progress(), Progress::Paid | Progress::Granted { online: false });
        self.parts().iter().any(Part::awaits_payment) && !self.parts().iter().any(is_on_its_way)
    }

    pub fn note_question(&self, now: Millis) {
        *lock(&self.asked_about) = now;
    }

    pub fn asked_about(&self) -> Millis {
        *lock(&self.asked_about)
    }

    /// Ends the close watch of its parts.
    pub fn set_aside(&self) {
        self.is_aside.store(true, Ordering::Relaxed);
        self.parts().iter().for_each(|part| part.wake.notify_one());
    }

    pub fn is_aside(&self) -> bool {
        self.is_aside.load(Ordering::Relaxed)
    }

    /// Over several mints: then each part is named in what is said about it.
    pub fn is_split(&self) -> bool {
        self.asked.len() > 1
    }

    /// Invoices that this request has, or is about to get.
    pub fn invoices(&self) -> usize {
        self.asked.len()
    }

    /// Nothing is left to do. Tokens that wait for their guest are in the store.
    pub fn is_finished(&self) -> bool {
        !self.is_asking()
            && self.parts().iter().all(|part| match part.progress() {
                Progress::Unpaid
                | Progress::Overdue
                | Progress::Paid
                | Progress::Granted { online: false } => false,
                Progress::Tokens(_) | Progress::Granted { online: true } | Progress::Expired => true,
            })
    }

    pub fn amount(&self) -> Sats {
        Sats(self.asked.iter().map(|(_, amount)| amount.0).fold(0, u64::saturating_add))
    }

    /// What all parts together buy, in the metric that they were offered in.
    pub fn allotment(&self) -> (Metric, Allotment) {
        let metric = self.parts().first().map_or(Metric::Milliseconds, |part| part.metric);
        let all = self.parts().iter().fold(Allotment::ZERO, |sum, part| sum.saturating_add(part.allotment));
        (metric, all)
    }
}

impl Part {
    /// `None` if the quote id is not valid, which `quote` of the mint client never gives.
    pub fn invoiced(row: &PartRow, answer: InvoiceRow) -> Option<Part> {
        Some(Part {
            id: row.id,
            position: row.position,
            mint: row.mint.clone(),
            amount: row.amount,
            metric: row.metric,
            allotment: row.allotment,
            lock_index: row.lock_index,
            quote: QuoteId::parse(&answer.quote)?,
            invoice: answer.invoice,
            expires_at: answer.expires_at,
            due: answer.due,
            progress: Mutex::new((Progress::Unpaid, Millis::ZERO)),
            claims: Mutex::new(row.outputs.clone()),
            made_ticket: AtomicBool::new(false),
            acked: AtomicBool::new(row.acked),
            wake: Notify::new(),
            said_paid: AtomicBool::new(false),
            mint_is_back: AtomicBool::new(false),
            guest_asks: AtomicBool::new(false),
            guest_looks_on: AtomicBool::new(false),
        })
    }

    fn from_row(row: PartRow, owner: Owner) -> Option<Part> {
        // Once the tokens are here, the store forgets what is not needed any more.
        let is_over = row.state == PartState::Claimed;
        let needed = |text: &Option<String>, without: &str| match text {
            None if is_over => Some(without.to_owned()),
            text => text.clone(),
        };
        let answer = InvoiceRow {
            quote: needed(&row.quote, OVER)?,
            invoice: needed(&row.invoice, "")?,
            expires_at: row.expires_at.unwrap_or_default(),
            due: row.due.unwrap_or_default(),
        };
        let progress = match (row.state, owner, &row.token) {
            (PartState::Asking, ..) => return None,
            (PartState::Unpaid, ..) => Progress::Unpaid,
            (PartState::Paid, ..) => Progress::Paid,
            (PartState::Claimed, Owner::House, _) => Progress::Granted { online: true },
            (PartState::Claimed, Owner::Guest, Some(token)) => Progress::Tokens(token.clone()),
            (PartState::Claimed, Owner::Guest, None) => return None,
            (PartState::Expired, ..) => Progress::Expired,
        };
        let part = Part::invoiced(&row, answer)?;
        part.set_progress(progress, Millis::ZERO);
        Some(part)
    }

    pub fn progress(&self) -> Progress {
        lock(&self.progress).0.clone()
    }

    /// Since when (service time) the part is where it is.
    pub fn since(&self) -> Millis {
        lock(&self.progress).1
    }

    pub fn set_progress(&self, progress: Progress, now: Millis) {
        *lock(&self.progress) = (progress, now);
    }

    /// The guest has these tokens, or spent them: they are not pushed again.
    pub fn is_acked(&self) -> bool {
        self.acked.load(Ordering::Relaxed)
    }

    pub fn set_acked(&self) {
        self.acked.store(true, Ordering::Relaxed);
    }

    /// This part's grant has made the guest's session ticket.
    pub fn set_made_ticket(&self) {
        self.made_ticket.store(true, Ordering::Relaxed);
    }

    pub fn has_made_ticket(&self) -> bool {
        self.made_ticket.load(Ordering::Relaxed)
    }

    pub fn holds_tokens(&self) -> bool {
        !self.is_acked() && matches!(lock(&self.progress).0, Progress::Tokens(_))
    }

    pub fn claims(&self) -> Vec<OutputsRow> {
        lock(&self.claims).clone()
    }

    pub fn add_claim(&self, claim: OutputsRow) {
        lock(&self.claims).push(claim);
    }

    pub fn awaits_payment(&self) -> bool {
        matches!(self.progress(), Progress::Unpaid | Progress::Overdue)
    }

    /// Asks for a look at once.
    pub fn poke(&self, why: Wake) {
        let flag = match why {
            Wake::SaidPaid => &self.said_paid,
            Wake::MintIsBack => &self.mint_is_back,
            Wake::Guest => &self.guest_asks,
            Wake::Page => &self.guest_looks_on,
        };
        flag.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
