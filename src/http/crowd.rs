//! The memory that all connections of guests share, and which of them closes when it is used up.
//!
//! Addresses are easily made up, so a limit per station protects nothing. There is one budget in bytes for the
//! connections, unfinished heads, bodies and unread answers of all together. When it is used up, the oldest idle
//! connection of the station that holds the most is closed, to let the newcomer in. A connection is idle from its
//! last whole request or message on: what else comes in meanwhile does not count. Customers and strangers each have a
//! part of the budget that the others cannot use up.
//!
//! One station has a limit besides. What it opens beyond that waits a little, if nothing before it has been answered yet.

use crate::mac::MacAddr;
use litemap::LiteMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The share of the machine's memory, and what it is at least and at most.
const SHARE: usize = 8;
const LEAST_BUDGET: usize = 4 * 1024 * 1024;
const MOST_BUDGET: usize = 8 * 1024 * 1024;
/// Open files that are left for everything else.
const OTHER_FILES: usize = 128;
const MOST_CONNECTIONS: usize = 4096;
/// The list of customers is asked for again after this time.
const CUSTOMERS_KNOWN: Duration = Duration::from_secs(1);
/// So long after it was opened the first request of a connection is awaited.
const FRESH: Duration = Duration::from_secs(1);
/// Connections that wait for those before them, how long, and how often they look.
const MOST_WAITING: usize = 64;
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Who a connection counts for: the station, or its address while the station is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionHolder {
    Mac(MacAddr),
    Address(IpAddr),
    /// The operator, programs on this router, and tills behind its tunnel or proxy.
    House(IpAddr),
}

/// What may be held in all.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub bytes: usize,
    pub connections: usize,
}

impl Budget {
    /// By the memory of this machine, and the files that this process may open.
    pub fn of_this_machine() -> Budget {
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        let bytes = memory.unwrap_or(0) / SHARE;
        let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        let files = files.map_or(1024, |(files, _)| usize::try_from(files).unwrap_or(usize::MAX));
        Budget {
            bytes: bytes.clamp(LEAST_BUDGET, MOST_BUDGET),
            connections: files.saturating_sub(OTHER_FILES).clamp(OTHER_FILES, MOST_CONNECTIONS),
        }
    }

    /// What either kind may use while the other uses nothing.
    fn of_one_kind(self) -> usize {
        self.bytes / 4 * 3
    }

    /// What the other kind cannot take away.
    fn guaranteed(self) -> usize {
        self.bytes / 4
    }
}

/// `MemTotal` in bytes.
fn total_memory(meminfo: &str) -> Option<usize> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

type Customers = dyn Fn() -> Vec<MacAddr> + Send + Sync;

/// All connections of guests.
#[derive(Clone)]
pub struct Crowd(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// The guests that have a session or an open request.
    customers: Box<Customers>,
    waiting: Arc<Semaphore>,
}

struct Table {
    budget: Budget,
    holders: LiteMap<ConnectionHolder, Vec<Seat>>,
    bytes: usize,
    count: Arc<AtomicUsize>,
    /// Counts everything that is done, so that a later action has a higher number.
    turn: u64,
    /// Sorted.
    customers: (Option<Instant>, Vec<MacAddr>),
    /// What is to be ended when the table is not held any more.
    closed: Vec<AbortHandle>,
}

/// One connection.
struct Seat {
    number: u64,
    /// What the connection itself costs, and what it holds besides.
    cost: usize,
    held: usize,
    opened: Instant,
    /// The turn of its last whole request or message.
    active: u64,
    /// A request is being answered.
    is_busy: bool,
    task: Option<AbortHandle>,
}

/// Which connections may be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Strangers,
    Customers,
}

impl Crowd {
    /// `customers` answers whom the part for customers is for.
    /// `count` is kept at the connections open now.
    pub fn new(
        budget: Budget,
        count: Arc<AtomicUsize>,
        customers: impl Fn() -> Vec<MacAddr> + Send + Sync + 'static,
    ) -> Crowd {
        let table = Table {
            budget,
            holders: LiteMap::new(),
            bytes: 0,
            count,
            turn: 0,
            customers: (None, Vec::new()),
            closed: Vec::new(),
        };
        let waiting = Arc::new(Semaphore::new(MOST_WAITING));
        Crowd(Arc::new(Shared { table: Mutex::new(table), customers: Box::new(customers), waiting }))
    }

    /// A place for one more connection of a station, of which it may have `limit`; `None` if no other can be closed
    /// for it.
    pub fn admit(&self, holder: ConnectionHolder, limit: usize, cost: usize) -> Option<ConnectionPlace> {
        self.0.change(|table| {
            let turn = table.next_turn();
            let newcomer = Newcomer { holder, number: turn, more: cost };
            let own = |table: &Table| table.holders.get(&holder).map_or(0, Vec::len);
            if own(table) >= limit {
                table.close_oldest(holder)?;
            }
            if table.count() >= table.budget.connections {
                table.close_one(&newcomer, None)?;
            }
            if !table.make_room(&newcomer) {
                return None;
            }
            let seat = Seat {
                number: turn,
                cost,
                held: 0,
                opened: Instant::now(),
                active: turn,
                is_busy: false,
                task: None,
            };
            table.holders.entry(holder).or_default().push(seat);
            table.bytes = table.bytes.saturating_add(cost);
            table.count.fetch_add(1, Ordering::Relaxed);
            Some(ConnectionPlace { shared: self.0.clone(), holder, number: turn })
        })
    }

    /// For a station that opens more connections at once than it may have: none of those before has been answered, and
    /// this one should wait for them. `None`: no reason to wait, or too many do.
    pub fn has_to_wait(&self, holder: ConnectionHolder, limit: usize) -> Option<OwnedSemaphorePermit> {
        let is_rushed = self.0.table().is_rushed(holder, limit);
        is_rushed.then(|| self.0.waiting.clone().try_acquire_owned().ok()).flatten()
    }

    /// Returns when one of the station's connections may be closed for another, and after two seconds at most.
    pub async fn calm(&self, holder: ConnectionHolder, limit: usize) {
        let until = Instant::now() + LONGEST_WAIT;
        while Instant::now() < until && self.0.table().is_rushed(holder, limit) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a station has a session or an open request, or had one a second ago.
    pub fn is_customer(&self, holder: ConnectionHolder) -> bool {
        let mut table = self.0.table();
        self.0.learn_customers(&mut table);
        table.kind(holder) == Kind::Customers
    }

    /// Closes one idle connection: something else than memory is short.
    pub fn close_one(&self) {
        let nobody =
            Newcomer { holder: ConnectionHolder::Address(IpAddr::from([0, 0, 0, 0])), number: 0, more: 0 };
        self.0.change(|table| table.close_one(&nobody, None));
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn_customers(&self, table: &mut Table) {
        if table.customers.0.is_none_or(|asked| asked.elapsed() > CUSTOMERS_KNOWN) {
            let mut customers = (self.customers)();
            customers.sort_unstable();
            table.customers = (Some(Instant::now()), customers);
        }
    }

    /// Changes the table, with the customers known as far as they are needed, and ends what was closed.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table();
        let is_tight = table.bytes >= table.budget.guaranteed() || table.count() >= table.budget.connections;
        if is_tight {
            self.learn_customers(&mut table);
        }
        let result = change(&mut table);
        let closed = std::mem::take(&mut table.closed);
        drop(table);
        closed.iter().for_each(AbortHandle::abort);
        result
    }
}

/// For whom room is made; never by closing this connection itself.
struct Newcomer {
    holder: ConnectionHolder,
    number: u64,
    more: usize,
}

impl Table {
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn next_turn(&mut self) -> u64 {
        self.turn = self.turn.saturating_add(1);
        self.turn
    }

    fn kind(&self, holder: ConnectionHolder) -> Kind {
        match holder {
            ConnectionHolder::House(_) => Kind::Customers,
            ConnectionHolder::Mac(mac) if self.customers.1.binary_search(&mac).is_ok() => Kind::Customers,
            ConnectionHolder::Mac(_) | ConnectionHolder::Address(_) => Kind::Strangers,
        }
    }

    fn bytes_of(&self, kind: Kind) -> usize {
        let of_kind = self.holders.iter().filter(|(holder, _)| self.kind(**holder) == kind);
        of_kind.map(|(_, seats)| held_by(seats)).fold(0, usize::saturating_add)
    }

    /// Closes idle connections until the newcomer has room; whether it has.
    fn make_room(&mut self, newcomer: &Newcomer) -> bool {
        let one_kind = self.budget.of_one_kind();
        loop {
            let all = self.bytes.saturating_add(newcomer.more);
            if all <= one_kind {
                return true;
            }
            let kind = self.kind(newcomer.holder);
            let only = (self.bytes_of(kind).saturating_add(newcomer.more) > one_kind).then_some(kind);
            if only.is_none() && all <= self.budget.bytes {
                return true;
            }
            if self.close_one(newcomer, only).is_none() {
                return false;
            }
        }
    }

    /// Closes one connection of this kind; of any, of the kind that uses more than is guaranteed to it. One whose
    /// request is being answered only where no other is left.
    fn close_one(&mut self, newcomer: &Newcomer, only: Option<Kind>) -> Option<()> {
        let kind = only.unwrap_or_else(|| {
            let strangers = self.bytes_of(Kind::Strangers);
            if strangers > self.budget.guaranteed() {
                Kind::Strangers
            } else {
                Kind::Customers
            }
        });
        let other = match (only, kind) {
            (Some(_), _) => None,
            (None, Kind::Strangers) => Some(Kind::Customers),
            (None, Kind::Customers) => Some(Kind::Strangers),
        };
        let idle = |table: &Table, kind| table.oldest(kind, newcomer, |seat| !seat.is_busy);
        let (holder, number) = idle(self, kind)
            .or_else(|| idle(self, other?))
            .or_else(|| self.oldest(kind, newcomer, |_| true))?;
        self.close(holder, number);
        Some(())
    }

    /// Of the station that holds the most, the connection that has done nothing for longest.
    fn oldest(
        &self,
        kind: Kind,
        newcomer: &Newcomer,
        may_go: impl Fn(&Seat) -> bool,
    ) -> Option<(ConnectionHolder, u64)> {
        let of_kind = self.holders.iter().filter(|(holder, _)| self.kind(**holder) == kind);
        let candidates = of_kind.filter_map(|(holder, seats)| {
            let open = seats.iter().filter(|seat| seat.number != newcomer.number && may_go(seat));
            let oldest = open.min_by_key(|seat| seat.active)?;
            Some((held_by(seats), std::cmp::Reverse(oldest.active), *holder, oldest.number))
        });
        candidates.max().map(|(_, _, holder, number)| (holder, number))
    }

    /// Whether all that a station may have are there, and the requests of all are on their way or being answered.
    fn is_rushed(&self, holder: ConnectionHolder, limit: usize) -> bool {
        let seats = self.holders.get(&holder).filter(|seats| seats.len() >= limit);
        seats.is_some_and(|seats| seats.iter().all(|seat| seat.is_busy || seat.is_fresh()))
    }

    /// Closes what has done nothing for longest of this station's own connections; last, what was only just opened.
    fn close_oldest(&mut self, holder: ConnectionHolder) -> Option<()> {
        let seats = self.holders.get(&holder)?;
        let idle = seats.iter().filter(|seat| !seat.is_busy);
        let oldest = idle.min_by_key(|seat| (seat.is_fresh(), seat.active))?;
        self.close(holder, oldest.number);
        Some(())
    }

    fn close(&mut self, holder: ConnectionHolder, number: u64) {
        log::debug!("a connection of {holder:?} is closed to let others in");
        let task = self.remove(holder, number).and_then(|seat| seat.task);
        self.closed.extend(task);
    }

    fn remove(&mut self, holder: ConnectionHolder, number: u64) -> Option<Seat> {
        let seats = self.holders.get_mut(&holder)?;
        let position = seats.iter().position(|seat| seat.number == number)?;
        let seat = seats.swap_remove(position);
        if seats.is_empty() {
            self.holders.remove(&holder);
        }
        self.bytes = self.bytes.saturating_sub(seat.bytes());
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(seat)
    }

    fn seat(&mut self, holder: ConnectionHolder, number: u64) -> Option<&mut Seat> {
        self.holders.get_mut(&holder)?.iter_mut().find(|seat| seat.number == number)
    }
}

impl Seat {
    fn bytes(&self) -> usize {
        self.cost.saturating_add(self.held)
    }

    /// Its first request has not come, and still may.
    fn is_fresh(&self) -> bool {
        self.active == self.number && self.opened.elapsed() < FRESH
    }
}

fn held_by(seats: &[Seat]) -> usize {
    seats.iter().map(Seat::bytes).fold(0, usize::saturating_add)
}

/// One connection's place; given back when dropped. Requests carry it, so that a connection that becomes a WebSocket
/// keeps it.
pub struct ConnectionPlace {
    shared: Arc<Shared>,
    holder: ConnectionHolder,
    number: u64,
}

impl ConnectionPlace {
    pub fn holder(&self) -> ConnectionHolder {
        self.holder
    }

    /// The task that is ended when the place is needed.
    pub fn is_held_by(&self, task: AbortHandle) {
        self.with_seat(|seat| seat.task = Some(task));
    }

    /// Sets what the connection itself costs (bytes). Returns whether that much may be held.
    pub fn costs(&self, bytes: usize) -> bool {
        self.shared.change(|table| {
            let Some(seat) = table.seat(self.holder, self.number) else { return false };
            let more = bytes.saturating_sub(seat.cost);
            if !table.make_room(&Newcomer { holder: self.holder, number: self.number, more }) {
                return false;
            }
            let Some(seat) = table.seat(self.holder, self.number) else { return false };
            let before = std::mem::replace(&mut seat.cost, bytes);
            table.bytes = table.bytes.saturating_sub(before).saturating_add(bytes);
            true
        })
    }

    /// Room for something that the connection holds, if there is any.
    pub fn hold(self: &Arc<ConnectionPlace>, bytes: usize) -> Option<Hold> {
        let mut hold = Hold { place: self.clone(), bytes: 0 };
        hold.grow(bytes).then_some(hold)
    }

    /// A whole request has come, and is being answered.
    pub fn begin(&self) {
        self.with_seat(|seat| seat.is_busy = true);
    }

    /// A request was answered, or a message.
    pub fn end(&self) {
        let mut table = self.shared.table();
        let turn = table.next_turn();
        if let Some(seat) = table.seat(self.holder, self.number) {
            (seat.is_busy, seat.active) = (false, turn);
        }
    }

    fn with_seat(&self, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.shared.table().seat(self.holder, self.number) {
            change(seat);
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.shared.table().remove(self.holder, self.number);
    }
}

/// Bytes that a connection holds; given back when dropped.
pub struct Hold {
    place: Arc<ConnectionPlace>,
    bytes: usize,
}

impl Hold {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `more` bytes as well, if they may be held; returns whether they may.
    pub fn grow(&mut self, more: usize) -> bool {
        let ConnectionPlace { shared, holder, number } = &*self.place;
        let has_grown = shared.change(|table| {
            if table.seat(*holder, *number).is_none() {
                return false;
            }
            if !table.make_room(&Newcomer { holder: *holder, number: *number, more }) {
                return false;
            }
            let Some(seat) = table.seat(*holder, *number) else { return false };
            seat.held = seat.held.saturating_add(more);
            table.bytes = table.bytes.saturating_add(more);
            true
        });
        if has_grown {
            self.bytes = self.bytes.saturating_add(more);
        }
        has_grown
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.place.shared.table();
        if let Some(seat) = table.seat(self.place.holder, self.place.number) {
            let before = seat.held;
            seat.held = before.saturating_sub(self.bytes);
            let less = before.saturating_sub(seat.held);
            table.bytes = table.bytes.saturating_sub(less);
        }
    }
}

#[cfg(test)]
mod tests;
