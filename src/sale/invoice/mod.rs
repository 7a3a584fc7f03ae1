//! Lightning invoice in, ecash or access out.
//!
//! A guest asks for an amount; a mint of the venue gives an invoice; when it is paid, from anywhere, the
//! tokens are claimed and handed to the guest, or (`apply`) spent into the guest's session. A request
//! belongs to the MAC that made it and is `request_not_found` for every other one.
//!
//! What a request's outputs and lock key are derived from is in the store before the mint is asked, so
//! neither a crash nor a lost answer loses a payment: see `watch` for how each part reaches its end.

mod delivery;
mod looks;
mod memo;
mod opening;
mod pace;
mod presence;
mod request;
mod rounds;
mod stand_in;
mod tickets;
mod watch;

pub use delivery::{HeldTokens, HELD_AT_A_TIME};
pub use opening::Opened;
pub use presence::Presence;
pub use request::{Part, Progress, Request};
pub use tickets::Shown;

use super::event::{SaleEvent, SaleListeners};
use super::{Limit, SaleError, Terms};
use crate::access::Access;
use crate::config::{Config, MintUrl};
use crate::ecash::{Mints, Seed};
use crate::mac::MacAddr;
use crate::pace::Pace;
use crate::store::{Owner, RequestId, Store, StoreError, TokenForm};
use crate::task;
use crate::units::{Millis, Sats};
use litemap::LiteMap;
use presence::Presences;
use request::Wake;
use stand_in::Refused;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch::Receiver;

/// A finished request is kept in memory this long; afterwards it is read from the store when asked for.
const REMEMBER_FINISHED: Millis = Millis::from_secs(600);

/// Sells for Lightning invoices that mints make; clones share everything.
#[derive(Clone)]
pub struct InvoiceEngine(Arc<SharedInvoices>);

struct SharedInvoices {
    terms: Terms,
    store: Store,
    access: Access,
    mints: Mints,
    /// The guests' money in transit and the takings never come from the same seed.
    guest_seed: Arc<Seed>,
    house_seed: Arc<Seed>,
    config: Receiver<Arc<Config>>,
    listeners: SaleListeners,
    presences: Presences,
    table: Mutex<Table>,
    /// Service time: older requests were found in the store.
    started: Millis,
    /// There may be unpaid requests that lie in the store only.
    has_aside: AtomicBool,
}

/// What a guest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub parts: Vec<AskPart>,
    /// Spend the tokens straight into this guest's session.
    pub apply: bool,
    /// How tokens that are handed out are to be written.
    pub form: TokenForm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskPart {
    pub mint: MintUrl,
    pub amount: Sats,
}

impl Ask {
    /// One payment for access; no tokens are handed out.
    pub fn for_access(part: AskPart) -> Ask {
        Ask { parts: vec![part], apply: true, form: TokenForm::default() }
    }
}

/// The requests in memory.
struct Table {
    requests: LiteMap<RequestId, Arc<Request>>,
    refused: Refused,
    new_requests: Pace,
    questions: Pace,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            requests: LiteMap::new(),
            refused: Refused::default(),
            new_requests: pace::of_requests(),
            questions: pace::of_questions(),
        }
    }
}

impl Table {
    /// Whether `more` invoices have room in memory. Where there are too many, those that were not asked about for the
    /// longest time are left to the rounds, the ones that have ended first: of what is older than ten minutes, and
    /// not of a guest with a session while it can still be paid.
    fn make_room(
        &mut self,
        more: usize,
        is_customer: bool,
        now: Millis,
        has_session: impl Fn(MacAddr) -> bool,
    ) -> bool {
        let unfinished = || self.requests.values().filter(|request| !request.is_finished());
        let waiting = || unfinished().filter(|request| request.is_asking() || request.is_unpaid());
        let invoices = waiting().map(|request| request.invoices()).fold(0, usize::saturating_add);
        let (mut invoices, mut requests) = (invoices, unfinished().count());
        let has_room = |invoices, requests| {
            pace::has_room(invoices, more, is_customer) && requests < pace::MAX_UNFINISHED
        };
        if has_room(invoices, requests) {
            return true;
        }
        let may_go = |request: &&Arc<Request>| {
            let is_old = request.created.saturating_add(pace::UNPAID_COUNTS_FOR) <= now;
            !request.is_asking() && is_old && (request.is_overdue() || !has_session(request.mac()))
        };
        let mut oldest: Vec<Arc<Request>> = waiting().filter(may_go).cloned().collect();
        oldest.sort_by_key(|request| (!request.is_overdue(), request.asked_about()));
        for request in oldest {
            self.requests.remove(&request.id);
            request.set_aside();
            invoices = invoices.saturating_sub(request.invoices());
            requests = requests.saturating_sub(1);
            if has_room(invoices, requests) {
                return true;
            }
        }
        false
    }
}

impl InvoiceEngine {
    /// Takes up every request that had work left when the daemon stopped.
    pub async fn start(
        terms: Terms,
        mints: Mints,
        guest_seed: Seed,
        house_seed: Arc<Seed>,
    ) -> Result<InvoiceEngine, StoreError> {
        let (store, access, config) = (terms.store.clone(), terms.access.clone(), terms.config.clone());
        // Power went before their invoices were shown: they cannot have been paid.
        store.forget_asking().await?;
        let open = store.open_requests(pace::FOR_STRANGERS).await?;
        let started = store.now();
        let engine = InvoiceEngine(Arc::new(SharedInvoices {
            terms,
            store,
            access,
            mints,
            guest_seed: Arc::new(guest_seed),
            house_seed,
            config,
            listeners: SaleListeners::default(),
            presences: Presences::default(),
            table: Mutex::new(Table::default()),
            started,
            has_aside: AtomicBool::new(open.len() >= pace::FOR_STRANGERS),
        }));
        for row in open {
            let request = Arc::new(Request::from_row(row));
            engine.table().requests.insert(request.id.clone(), request.clone());
            engine.watch(&request);
        }
        let rounds = engine.clone();
        task::spawn(async move { rounds.go_rounds().await });
        Ok(engine)
    }

    /// Has what happens to requests told to `listener` from now on.
    pub fn listen(&self, listener: impl Fn(&SaleEvent<'_>) + Send + Sync + 'static) {
        self.0.listeners.add(listener);
    }

    /// Service time.
    pub fn now(&self) -> Millis {
        self.0.store.now()
    }

    /// As `status`, for a client that may ask at any pace.
    pub async fn status_asked(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, SaleError> {
        if !self.table().questions.admit(mac, self.0.store.now()) {
            return Err(SaleError::TooMany(Limit::Questions));
        }
        self.status(mac, id).await
    }

    /// A request of this MAC; asks the mint about what is not finished, at most every 3 s.
    pub async fn status(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, SaleError> {
        let request = self.watched_again(self.find(mac, id).await?);
        let request = self.opened(Opened { request, is_new: false }).await?.request;
        self.poke_parts(&request, Wake::Guest);
        Ok(request)
    }

    /// As `status`, for a page, of what is known now: the request may still be waiting for its mint. One that another
    /// mint's invoice stands in for is that one, and one that failed is its error. An invoice that has ended is
    /// looked at at a slower pace.
    pub async fn glance(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, SaleError> {
        let refused = self.table().refused.get(mac, id).cloned();
        if let Some(error) = refused {
            return Err(error);
        }
        let request = self.watched_again(self.find(mac, id).await?);
        let request = request.stand_in().unwrap_or(request);
        self.poke_parts(&request, Wake::Page);
        Ok(request)
    }

    fn poke_parts(&self, request: &Request, late: Wake) {
        request.note_question(self.0.store.now());
        for part in request.parts() {
            match part.progress() {
                Progress::Unpaid | Progress::Paid => part.poke(Wake::Guest),
                Progress::Overdue => part.poke(late),
                Progress::Tokens(_) | Progress::Granted { .. } | Progress::Expired => {}
            }
        }
    }

    /// A guest has a page or a socket open: payments of its invoices that have just ended are looked for more often.
    pub fn page_is_open(&self, mac: MacAddr) {
        let now = self.0.store.now();
        let table = self.table();
        let mine = table.requests.values().filter(|request| request.mac() == mac);
        mine.flat_map(|request| request.parts())
            .filter(|part| part.progress() == Progress::Overdue && looks::is_just_over(part.due, now))
            .for_each(|part| part.poke(Wake::Page));
    }

    /// The request of this MAC for access at this venue whose invoice ended last and is still looked at; whether it has
    /// ended just now.
    pub fn late(&self, mac: MacAddr, venue: &str) -> Option<(RequestId, bool)> {
        let now = self.0.store.now();
        let table = self.table();
        let mine = table.requests.values().filter(|request| {
            request.mac() == mac && request.venue == venue && request.owner == Owner::House
        });
        let late = mine.filter_map(|request| {
            let due =
                request.parts().iter().filter(|part| part.awaits_payment()).map(|part| part.due).max()?;
            (due <= now).then_some((due, request))
        });
        let (due, request) = late.max_by_key(|(due, _)| *due)?;
        Some((request.id.clone(), looks::is_just_over(due, now)))
    }

    /// A request of this MAC, from memory or from the store.
    pub async fn find(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, SaleError> {
        let request = self.load(id).await?;
        request.filter(|request| request.mac() == mac).ok_or(SaleError::NoSuchRequest)
    }

    async fn load(&self, id: &RequestId) -> Result<Option<Arc<Request>>, StoreError> {
        let live = self.table().requests.get(id).cloned();
        match live {
            Some(request) => Ok(Some(request)),
            None => Ok(self.0.store.request(id).await?.map(|row| Arc::new(Request::from_row(row)))),
        }
    }

    /// The newest request of a MAC that is to become access at this venue and is not finished: what the portal shows
    /// again.
    pub fn unfinished_access(&self, mac: MacAddr, venue: &str) -> Option<Arc<Request>> {
        let now = self.0.store.now();
        let table = self.table();
        let mine = table.requests.values().filter(|request| {
            request.mac() == mac
                && request.venue == venue
                && request.owner == Owner::House
                && !request.is_asking()
                && !request.is_finished()
                && (request.is_payable(now)
                    || request.parts().iter().any(|part| {
                        matches!(part.progress(), Progress::Paid | Progress::Granted { online: false })
                    }))
        });
        mine.max_by_key(|request| request.created).cloned()
    }

    /// The guests with an invoice that can still be paid, or that is paid while its session is on the way.
    pub fn customers(&self) -> Vec<MacAddr> {
        let now = self.0.store.now();
        let table = self.table();
        let awaiting = table.requests.values().filter(|request| request.awaits_money(now));
        awaiting.map(|request| request.mac()).collect()
    }

    /// Ends the graces of guests that have no open invoice any more.
    pub fn tend_graces(&self) {
        let now = self.0.store.now();
        let table = self.table();
        let awaits = |mac, venue: &str| {
            let mut requests = table.requests.values();
            requests
                .any(|request| request.mac() == mac && request.venue == venue && request.awaits_money(now))
        };
        self.0.access.keep_graces(awaits);
    }

    /// Drops finished requests from memory.
    pub fn forget_finished(&self) {
        let now = self.0.store.now();
        self.table().requests.retain(|_, request| {
            let last = request.parts().iter().map(Part::since).max().unwrap_or_default();
            !request.is_finished() || last.saturating_add(REMEMBER_FINISHED) > now
        });
    }

    /// Counts for `/stats` and status: (requests in memory, of them waiting for payment).
    pub fn counts(&self) -> (usize, usize) {
        let now = self.0.store.now();
        let table = self.table();
        (table.requests.len(), table.requests.values().filter(|request| request.is_payable(now)).count())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seed(&self, owner: Owner) -> Arc<Seed> {
        match owner {
            Owner::Guest => self.0.guest_seed.clone(),
            Owner::House => self.0.house_seed.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::request::Asked;
    use super::*;
    use crate::config::{Metric, MintUrl};
    use crate::store::{InvoiceRow, PartRow, PartState};
    use crate::units::{Allotment, Sats, UnixSeconds};

    fn request(created: u64, progress: Progress) -> Arc<Request> {
        let (mint, mac) =
            (MintUrl::parse("https://mint.example").unwrap(), MacAddr::new([2, 0, 0, 0, 0, 1]).unwrap());
        let row = PartRow {
            id: 1,
            position: 0,
            mint: mint.clone(),
            amount: Sats(5),
            metric: Metric::Milliseconds,
            allotment: Allotment::ZERO,
            lock_index: 0,
            state: PartState::Unpaid,
            quote: None,
            invoice: None,
            expires_at: None,
            due: None,
            token: None,
            acked: false,
            outputs: Vec::new(),
        };
        let answer = InvoiceRow {
            quote: "quote".to_owned(),
            invoice: "lnbc1".to_owned(),
            expires_at: UnixSeconds(0),
            due: Millis::ZERO,
        };
        let id = RequestId::random().unwrap();
        let asked = Asked { owner: Owner::Guest, form: TokenForm::default(), parts: vec![(mint, Sats(5))] };
        let request = Request::asking(id, mac, "guest", asked, Millis(created));
        let part = Part::invoiced(&row, answer).unwrap();
        part.set_progress(progress, Millis::ZERO);
        request.open(vec![part]);
        Arc::new(request)
    }

    fn table(progress: &Progress, count: usize) -> Table {
        let requests = (0..count).map(|created| request(created.try_into().unwrap(), progress.clone()));
        Table { requests: requests.map(|one| (one.id.clone(), one)).collect(), ..Table::default() }
    }

    const LATER: Millis = Millis::from_secs(3600);

    fn has_room(table: &mut Table, now: Millis) -> bool {
        table.make_room(1, false, now, |_| false)
    }

    fn set_aside(before: &[Arc<Request>]) -> Vec<u64> {
        let mut ages: Vec<u64> =
            before.iter().filter(|one| one.is_aside()).map(|one| one.created.0).collect();
        ages.sort_unstable();
        ages
    }

    fn full(progress: &Progress) -> (Table, Vec<Arc<Request>>) {
        let table = table(progress, 1500);
        let requests = table.requests.values().cloned().collect();
        (table, requests)
    }

    #[test]
    fn tokens_that_wait_for_their_guests_keep_nobody_from_buying() {
        assert!(has_room(&mut full(&Progress::Tokens("cashuB".to_owned())).0, Millis::ZERO));
    }

    #[test]
    fn the_oldest_invoice_is_left_to_the_rounds_for_a_guest_who_is_here_now() {
        for progress in [Progress::Unpaid, Progress::Overdue] {
            let (mut table, requests) = full(&progress);
            assert!(has_room(&mut table, LATER) && has_room(&mut table, LATER));
            assert_eq!(set_aside(&requests), [0], "one place is enough for two who only ask");
            assert_eq!(table.requests.len(), 1499);
            table.make_room(3, false, LATER, |_| false);
            assert_eq!(set_aside(&requests), [0, 1, 2], "the oldest first");
        }
    }

    #[test]
    fn an_invoice_that_its_guest_asks_about_stays_longer() {
        let (mut table, requests) = full(&Progress::Unpaid);
        requests.iter().filter(|one| one.created == Millis::ZERO).for_each(|one| one.note_question(LATER));
        assert!(has_room(&mut table, LATER));
        assert_eq!(set_aside(&requests), [1]);
    }

    #[test]
    fn what_has_ended_goes_before_what_can_still_be_paid() {
        let (mut table, requests) = full(&Progress::Unpaid);
        let ended = requests.iter().find(|one| one.created == Millis(700)).unwrap();
        ended.parts()[0].set_progress(Progress::Overdue, Millis::ZERO);
        assert!(has_room(&mut table, LATER));
        assert_eq!(set_aside(&requests), [700]);
    }

    #[test]
    fn invoices_of_the_last_ten_minutes_and_of_guests_with_a_session_are_watched() {
        let (mut table, requests) = full(&Progress::Unpaid);
        assert!(!has_room(&mut table, Millis::from_secs(599)));
        assert!(!table.make_room(1, false, LATER, |_| true));
        assert!(table.make_room(1, true, LATER, |_| true), "there is room for customers");
        assert_eq!(set_aside(&requests), [0; 0]);
    }

    #[test]
    fn what_is_paid_is_always_watched() {
        let mut many = table(&Progress::Paid, pace::MAX_UNFINISHED);
        assert!(!has_room(&mut many, LATER));
        assert_eq!(many.requests.len(), pace::MAX_UNFINISHED);
    }
}
