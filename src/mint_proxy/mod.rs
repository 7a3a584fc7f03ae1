//! Lightning invoice in, ecash or access out: the mint proxy.
//!
//! A guest asks for an amount; a mint of the venue gives an invoice; when it is paid, from anywhere, the
//! tokens are claimed and handed to the guest, or (`apply`) spent into the guest's session. A request
//! belongs to the MAC that made it and is `request_not_found` for every other one.
//!
//! What a request's outputs and lock key are derived from is in the store before the mint is asked, so
//! neither a crash nor a lost answer loses a payment: see `watch` for how each part reaches its end.

mod delivery;
mod looks;
mod messages;
mod opening;
mod pace;
mod request;
mod sockets;
mod tickets;
mod watch;

pub use messages::{
    auth_ok, new_ticket, shown_ticket, without_ticket, Ask, AskPart, Code, ProxyError, MAX_MESSAGE,
};
pub use request::{Part, Progress, Request};
pub use sockets::{Conversation, Trust};
pub use tickets::refused as ticket_refused;

use crate::access::Access;
use crate::config::Config;
use crate::ecash::{Mints, Seed};
use crate::mac::MacAddr;
use crate::pace::Pace;
use crate::store::{Owner, PartState, RequestId, Store, StoreError};
use crate::units::Millis;
use litemap::LiteMap;
use request::Wake;
use sockets::Sockets;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch::Receiver;

/// A finished request is kept in memory this long; afterwards it is read from the store when asked for.
const REMEMBER_FINISHED: Millis = Millis::from_secs(600);

#[derive(Clone)]
pub struct MintProxy(Arc<Shared>);

struct Shared {
    store: Store,
    access: Access,
    mints: Mints,
    /// The guests' money in transit and the takings never come from the same seed.
    guest_seed: Arc<Seed>,
    house_seed: Arc<Seed>,
    config: Receiver<Arc<Config>>,
    sockets: Sockets,
    table: Mutex<Table>,
    /// Service time: older requests were found in the store.
    started: Millis,
}

/// The requests in memory.
struct Table {
    requests: LiteMap<RequestId, Arc<Request>>,
    new_requests: Pace,
    questions: Pace,
}

impl Default for Table {
    fn default() -> Table {
        Table { requests: LiteMap::new(), new_requests: pace::of_requests(), questions: pace::of_questions() }
    }
}

impl Table {
    /// Whether one more request has room in memory. Where there are too many, a late payment that may still
    /// come to the oldest of them is given up rather than a guest who is here now.
    fn make_room(&mut self) -> bool {
        let unfinished = self.requests.values().filter(|request| !request.is_finished()).count();
        if unfinished < pace::MAX_UNFINISHED {
            return true;
        }
        let oldest = self.requests.values().filter(|request| request.is_overdue()).min_by_key(|r| r.created);
        oldest.map(|request| request.end_grace()).is_some()
    }
}

impl MintProxy {
    /// Takes up every request that had work left when the daemon stopped.
    pub async fn start(
        store: Store,
        access: Access,
        mints: Mints,
        guest_seed: Seed,
        house_seed: Arc<Seed>,
        config: Receiver<Arc<Config>>,
    ) -> Result<MintProxy, StoreError> {
        let open = store.open_requests().await?;
        let started = store.now();
        let proxy = MintProxy(Arc::new(Shared {
            store,
            access,
            mints,
            guest_seed: Arc::new(guest_seed),
            house_seed,
            config,
            sockets: Sockets::default(),
            table: Mutex::new(Table::default()),
            started,
        }));
        for row in open {
            if row.parts.iter().any(|part| part.state == PartState::Asking) {
                // Power went before the invoice was shown: nobody can have paid it.
                proxy.0.store.not_invoiced(&row.id).await?;
                continue;
            }
            let request = Arc::new(Request::from_row(row));
            proxy.table().requests.insert(request.id.clone(), request.clone());
            proxy.watch(&request);
        }
        Ok(proxy)
    }

    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// Service time.
    pub fn now(&self) -> Millis {
        self.0.store.now()
    }

    pub fn mints(&self) -> &Mints {
        &self.0.mints
    }

    /// As `status`, for a client that may ask at any pace.
    pub async fn status_asked(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, ProxyError> {
        if !self.table().questions.admit(mac, self.0.store.now()) {
            return Err(
                ProxyError::new(Code::RateLimited, "too many questions; please wait a minute").about(id)
            );
        }
        self.status(mac, id).await
    }

    /// A request of this MAC; asks the mint about what is not finished, at most every 3 s.
    pub async fn status(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, ProxyError> {
        let request = self.find(mac, id).await?;
        request.opened().await?;
        for part in request.parts() {
            if part.awaits_payment() || part.progress() == Progress::Paid {
                part.poke(Wake::Guest);
            }
        }
        Ok(request)
    }

    /// A request of this MAC, from memory or from the store.
    pub async fn find(&self, mac: MacAddr, id: &RequestId) -> Result<Arc<Request>, ProxyError> {
        let request = self.load(id).await.map_err(|err| closed(&err))?;
        request
            .filter(|request| request.mac() == mac)
            .ok_or_else(|| ProxyError::new(Code::RequestNotFound, "no such request").about(id))
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

    /// Who has an invoice that can still be paid, or was and its session is on the way.
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

    pub fn sockets(&self) -> &Sockets {
        &self.0.sockets
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

/// What a guest is told when the store refuses.
pub fn closed(error: &StoreError) -> ProxyError {
    ProxyError::new(
        Code::Closed(error.code()),
        "this router cannot sell at the moment; please tell the operator",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Metric, MintUrl};
    use crate::store::{InvoiceRow, PartRow};
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
            claims: Vec::new(),
        };
        let answer = InvoiceRow {
            quote: "quote".to_owned(),
            invoice: "lnbc1".to_owned(),
            expires_at: UnixSeconds(0),
            due: Millis::ZERO,
        };
        let id = RequestId::random().unwrap();
        let request = Request::asking(id, mac, "guest", Owner::Guest, Millis(created), vec![(mint, Sats(5))]);
        let part = Part::invoiced(&row, answer).unwrap();
        part.set_progress(progress, Millis::ZERO);
        request.open(vec![part]);
        Arc::new(request)
    }

    fn table(progress: &Progress, count: usize) -> Table {
        let requests = (0..count).map(|created| request(created.try_into().unwrap(), progress.clone()));
        Table { requests: requests.map(|one| (one.id.clone(), one)).collect(), ..Table::default() }
    }

    #[test]
    fn tokens_that_wait_for_their_guests_keep_nobody_from_buying() {
        assert!(table(&Progress::Tokens("cashuB".to_owned()), pace::MAX_UNFINISHED).make_room());
    }

    #[test]
    fn a_guest_who_is_here_goes_before_late_payments_that_may_come() {
        let mut full = table(&Progress::Overdue, pace::MAX_UNFINISHED);
        assert!(full.make_room() && full.make_room());
        let given_up = |request: &&Arc<Request>| request.parts()[0].gets_no_grace();
        let mut ages: Vec<u64> = full.requests.values().filter(given_up).map(|r| r.created.0).collect();
        ages.sort_unstable();
        assert_eq!(ages, [0, 1], "the oldest first, each once");
    }

    #[test]
    fn what_can_still_be_paid_or_is_paid_is_never_given_up() {
        for progress in [Progress::Unpaid, Progress::Paid] {
            let mut full = table(&progress, pace::MAX_UNFINISHED);
            assert!(!full.make_room());
            assert!(full.requests.values().all(|request| !request.parts()[0].gets_no_grace()));
        }
    }
}
