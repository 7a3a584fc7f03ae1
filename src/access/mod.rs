//! The centre: a payment becomes a session, a session opens the gate and ends at its second.
//!
//! The store is the truth; the gate and the table of sessions in memory follow it. Refuses to grant the same payment
//! twice, to any caller. What was sold at a venue opens there only: see `moves` for how it moves.

mod gatekeeper;
mod grace;
mod moves;
mod tickets;

pub use gatekeeper::{GateStatus, Gatekeeper, Pass};
pub use moves::{Belongings, LinkedAccount, Place, TakenOver};
pub use tickets::TicketError;

use crate::clock::Clock;
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::network::gate::{Gate, Plan, Quota, Station};
use crate::store::{
    Admission, NewGrant, PaidFor, Reference, RequestId, SessionRow, Store, StoreError, UsageRow,
};
use crate::task;
use crate::units::{data_text, time_text, Allotment, Amount, Millis, Sats, UnixSeconds};
use grace::Graces;
use litemap::LiteMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tickets::Tickets;

/// A session that has ended is remembered this long, so that the portal can say so.
const REMEMBER_ENDED: Millis = Millis::from_secs(3600);

const GATE_RETRY: Duration = Duration::from_secs(1);

/// A guest's session as it stands at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub mac: MacAddr,
    pub venue: String,
    pub metric: Metric,
    /// All that was granted to it, in its metric's unit like the two below.
    pub allotment: Allotment,
    pub used: Allotment,
    /// Zero: it is over.
    pub remaining: Allotment,
    /// When it began, by service time; a top-up changes nothing about it.
    pub started: Millis,
    /// The same by the router's wall clock.
    pub started_at: UnixSeconds,
    /// When it ends by the router's wall clock; `None` for a session by bytes.
    pub ends_at: Option<UnixSeconds>,
}

impl Session {
    pub fn is_running(&self) -> bool {
        self.remaining > Allotment::ZERO
    }

    fn station(&self) -> Station {
        Station { mac: self.mac, venue: self.venue.clone() }
    }
}

#[derive(Clone)]
pub struct Access {
    store: Store,
    clock: Clock,
    gatekeeper: Gatekeeper,
    /// Rows of running and lately ended sessions.
    sessions: Arc<Mutex<Rows>>,
    tickets: Arc<Tickets>,
    graces: Arc<Graces>,
    /// Devices whose account has changed lately, and when: an older row must not open the gate for a device that has
    /// gone.
    moved: Arc<Mutex<LiteMap<MacAddr, Millis>>>,
    /// The service time up to which ended sessions are logged, and the ended sessions that newer ones have replaced
    /// since then.
    told: Arc<Mutex<(Millis, Vec<SessionRow>)>>,
}

/// A MAC may have a session of each metric at each venue. Its time runs first, since time runs anyway.
type Rows = LiteMap<MacAddr, Vec<SessionRow>>;

impl Access {
    /// Loads the sessions and opens the gate for them.
    pub async fn start(
        store: Store,
        clock: Clock,
        gate: Box<dyn Gate>,
        plan: Plan,
    ) -> Result<Access, StoreError> {
        let now = store.now();
        let rows = store.sessions_ending_after(now.saturating_sub(REMEMBER_ENDED)).await?;
        let mut wanted: LiteMap<Station, Pass> = LiteMap::new();
        for row in rows.iter().filter(|row| row.ends > now) {
            let ends = monotonic(&clock, now, row.ends);
            add_to_pass(wanted.entry(station(row)).or_default(), row, row.used, ends);
        }
        let graces = Graces::new(store.asked_after(Graces::memory(now)).await?);
        let gatekeeper = Gatekeeper::start(gate, clock.clone(), plan, wanted, false);
        let mut sessions = Rows::new();
        rows.into_iter().for_each(|row| put(&mut sessions, row));
        Ok(Access {
            store,
            clock,
            gatekeeper,
            sessions: Arc::new(Mutex::new(sessions)),
            tickets: Arc::default(),
            moved: Arc::default(),
            graces: Arc::new(graces),
            told: Arc::new(Mutex::new((now, Vec::new()))),
        })
    }

    pub fn gatekeeper(&self) -> &Gatekeeper {
        &self.gatekeeper
    }

    /// The session of a MAC at a venue: the one that its traffic goes by, or else the one that ended last, within
    /// the last hour (`remaining` is then zero).
    pub fn session(&self, mac: MacAddr, venue: &str) -> Option<Session> {
        let sessions = self.sessions();
        let mine = || at(&sessions, mac, venue).map(|row| (row.ends, self.view(row)));
        let running = mine().map(|(_, session)| session).find(Session::is_running);
        running.or_else(|| mine().max_by_key(|(ends, _)| *ends).map(|(_, session)| session))
    }

    /// Whether a MAC has a session at any venue, or had one within the last hour.
    pub fn is_customer(&self, mac: MacAddr) -> bool {
        self.sessions().contains_key(&mac)
    }

    /// All running sessions; two of a MAC that has paid for time and for bytes.
    pub fn running(&self) -> Vec<Session> {
        let sessions = self.sessions();
        sessions.values().flatten().map(|row| self.view(row)).filter(Session::is_running).collect()
    }

    /// Follows a session that the store has just changed: returns when the gate is open for it. The gate
    /// being refused by the machine does not lose the session: it is tried again until it works or is over.
    pub async fn admit(&self, admission: Admission) -> Session {
        let (row, others) = admission.into_rows();
        for other in others {
            let access = self.clone();
            task::spawn(async move { drop(access.open_unless_moved(other).await) });
        }
        self.open_unless_moved(row).await
    }

    async fn open_unless_moved(&self, row: SessionRow) -> Session {
        match self.may_be_another(&row) {
            false => self.follow(row.clone()),
            true => {
                // What is looked up between two moves is so until the table has it.
                let _moving = self.tickets.moving.lock().await;
                let Some(mut current) = self.as_it_is_now(&row).await else { return self.view(&row) };
                self.take_from_others(&mut current).await;
                self.follow(current);
            }
        }
        self.open_for(row).await
    }

    /// Whether a row of the store has to be looked up again: an account of its device has just moved, or moves at this
    /// moment; or there are bytes to be taken from another device, during which one could.
    fn may_be_another(&self, row: &SessionRow) -> bool {
        self.moved().contains_key(&row.mac)
            || self.tickets.committing.try_lock().is_err()
            || self.sessions().values().flatten().any(|known| is_taken_by(known, row))
    }

    /// Opens the gate for a session as the table has it.
    async fn open_for(&self, row: SessionRow) -> Session {
        loop {
            let (session, pass) = {
                let sessions = self.sessions();
                // The account may be with another MAC by now; or the session over for an hour.
                let same = || sessions.values().flatten().filter(|known| known.is_same_session(&row));
                let current = same().find(|known| known.mac == row.mac).or_else(|| same().next());
                let Some(current) = current else { return self.view(&row) };
                (self.view(current), self.pass(&sessions, current))
            };
            if !session.is_running() || self.gatekeeper.open(session.station(), pass).await.is_ok() {
                return session;
            }
            tokio::time::sleep(GATE_RETRY).await;
        }
    }

    /// The bytes of an account belong to one device, the one that they were bought on last. Takes them from the device that
    /// had them before; what that one has used, counted up to now, is used of the row as well.
    async fn take_from_others(&self, row: &mut SessionRow) {
        let new = row.clone();
        let is_theirs = |known: &SessionRow| is_taken_by(known, &new);
        if !self.sessions().values().flatten().any(is_theirs) {
            return;
        }
        self.settle_for_a_move().await;
        let theirs: Vec<Station> = {
            let mut sessions = self.sessions();
            let theirs: Vec<&SessionRow> =
                sessions.values().flatten().filter(|known| is_theirs(known)).collect();
            for known in theirs.iter().filter(|known| known.started == row.started) {
                row.used = row.used.max(self.used(known));
            }
            let theirs = theirs.into_iter().map(station).collect();
            sessions.iter_mut().for_each(|(_, rows)| rows.retain(|known| !is_theirs(known)));
            theirs
        };
        for station in theirs {
            let other = {
                let sessions = self.sessions();
                let other =
                    at(&sessions, station.mac, &station.venue).find(|row| row.ends > self.store.now());
                other.map(|other| self.pass(&sessions, other))
            };
            match other {
                // What is not written now is put right at the next look.
                Some(pass) => drop(self.gatekeeper.open(station, pass).await),
                None => self.close_surely(station).await,
            }
        }
    }

    /// Access given by the operator.
    pub async fn grant(
        &self,
        mac: MacAddr,
        venue: &str,
        metric: Metric,
        allotment: Allotment,
    ) -> Result<Session, StoreError> {
        let reference = Reference::Operator(RequestId::random()?);
        let (venue, value) = (venue.to_owned(), Amount::from(Sats(0)));
        let grant = NewGrant { reference, mac, venue, amount: value, metric, allotment, value, mint: None };
        let row = self.store.grant(grant).await?;
        Ok(self.admit(row).await)
    }

    /// Ends the sessions of a MAC's account now, those at one venue or all, on all its devices; answers the venues where one was running.
    pub async fn revoke(&self, mac: MacAddr, venue: Option<&str>) -> Result<Vec<String>, StoreError> {
        let ended = self.store.revoke(mac, venue.map(str::to_owned)).await?;
        let mut venues: Vec<String> = ended.iter().map(|row| row.venue.clone()).collect();
        venues.sort_unstable();
        venues.dedup();
        let mut closing: Vec<Station> = ended.iter().map(station).collect();
        ended.into_iter().for_each(|row| self.follow(row));
        closing.extend(self.graces.end(mac, venue).map(|venue| Station { mac, venue }));
        closing.sort_unstable();
        closing.dedup();
        for station in closing {
            if let Err(err) = self.gatekeeper.close(station).await {
                log::error!("{mac} is revoked, but the gate could not be closed yet: {err}");
            }
        }
        Ok(venues)
    }

    /// To be called every few seconds: ends in the store what is used up, writes down how far time and bytes
    /// have run out (at most once a minute, for all together; `waiting`: something else runs out, too), and
    /// drops what ended more than an hour ago.
    pub async fn tend(&self, waiting: bool) {
        self.end_used_up().await;
        self.tell_ended().await;
        let now = self.store.now();
        let (time_runs, used) = {
            let mut sessions = self.sessions();
            sessions.iter_mut().for_each(|(_, rows)| {
                rows.retain(|row| row.ends.saturating_add(REMEMBER_ENDED) > now);
            });
            sessions.retain(|_, rows| !rows.is_empty());
            self.tickets.forget(|mac| sessions.contains_key(&mac), now);
            self.moved().retain(|_, at| at.saturating_add(REMEMBER_ENDED) > now);
            self.gatekeeper.forget_usage(|station, session| {
                let mut of_station = at(&sessions, station.mac, &station.venue);
                !of_station.any(|row| row.metric == Metric::Bytes && row.started.0 == session)
            });
            let time_runs = |row: &SessionRow| row.metric == Metric::Milliseconds && row.ends > now;
            (sessions.values().flatten().any(time_runs), self.newly_used(&sessions))
        };
        if self.store.checkpoint(waiting || time_runs || !used.is_empty(), &used) {
            self.note_written(used);
        }
    }

    /// Writes down what was used, now; answers whether there was anything. A write that is asked for later
    /// finds it.
    pub fn write_usage_now(&self) -> bool {
        let used = self.newly_used(&self.sessions());
        if used.is_empty() {
            return false;
        }
        self.store.checkpoint_now(&used);
        self.note_written(used);
        true
    }

    /// Sessions of which more was used than is written down.
    fn newly_used(&self, sessions: &Rows) -> Vec<UsageRow> {
        let by_bytes = sessions.values().flatten().filter(|row| row.metric == Metric::Bytes);
        let used = by_bytes.map(|row| (row, self.used(row))).filter(|(row, used)| *used > row.used);
        used.map(|(row, used)| usage(row, used)).collect()
    }

    fn note_written(&self, written: Vec<UsageRow>) {
        let mut sessions = self.sessions();
        for usage in written {
            let is_it = |row: &&mut SessionRow| {
                row.metric == Metric::Bytes && row.venue == usage.venue && row.started == usage.started
            };
            if let Some(row) = sessions.get_mut(&usage.mac).and_then(|rows| rows.iter_mut().find(is_it)) {
                row.used = row.used.max(usage.used);
            }
        }
    }

    async fn end_used_up(&self) {
        let now = self.store.now();
        let mut over: Vec<UsageRow> = {
            let sessions = self.sessions();
            let running = |row: &&SessionRow| row.metric == Metric::Bytes && row.ends > now;
            let used_up = |row: &&SessionRow| self.used(row) >= row.allotment;
            let over = sessions.values().flatten().filter(running).filter(used_up);
            over.map(|row| usage(row, row.allotment)).collect()
        };
        if over.is_empty() {
            return;
        }
        // What the other sessions have used goes into the same commit.
        over.extend(self.newly_used(&self.sessions()));
        match self.store.used(over).await {
            Ok(rows) => rows.into_iter().for_each(|row| self.follow(row)),
            Err(err) => log::error!("sessions are used up, which is not written yet: {err}"),
        }
    }

    /// Logs the sessions that have ended since this was called last, with what was paid and what was used.
    async fn tell_ended(&self) {
        let now = self.store.now();
        let (since, replaced) = std::mem::replace(&mut *self.told(), (now, Vec::new()));
        let has_ended = |row: &&SessionRow| row.ends > since && row.ends <= now;
        let mut ended: Vec<SessionRow> =
            self.sessions().values().flatten().filter(has_ended).cloned().collect();
        ended.extend(replaced.iter().filter(has_ended).cloned());
        let Some(first) = ended.iter().map(|row| row.started).min() else { return };
        let payments = self.store.payments_since(first).await.unwrap_or_default();
        for row in ended {
            let its = payments.iter().filter(|(mac, _)| *mac == row.mac).map(|(_, paid)| paid);
            let for_it = |paid: &&PaidFor| paid.is_for(&row.venue, row.metric, row.started, row.ends);
            let paid = PaidFor::sum(its.filter(for_it));
            log::info!("{}", ended_text(&row, self.used(&row), paid));
        }
    }

    fn moved(&self) -> std::sync::MutexGuard<'_, LiteMap<MacAddr, Millis>> {
        self.moved.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, (Millis, Vec<SessionRow>)> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Everything that a MAC has paid for at the venue of this session and not used.
    fn pass(&self, sessions: &Rows, session: &SessionRow) -> Pass {
        let now = self.store.now();
        let mut pass = Pass::default();
        for row in at(sessions, session.mac, &session.venue).filter(|row| row.ends > now) {
            add_to_pass(&mut pass, row, self.used(row), monotonic(&self.clock, now, row.ends));
        }
        pass
    }

    /// The bytes that were used of a session.
    fn used(&self, row: &SessionRow) -> Allotment {
        row.used.max(self.gatekeeper.used(&station(row), row.started.0).unwrap_or_default())
    }

    /// Takes a row of the store over, unless a newer one is here already.
    fn follow(&self, mut row: SessionRow) {
        let mut sessions = self.sessions();
        let is_newer = |known: &&SessionRow| known.revision > row.revision;
        let moved = sessions.values().flatten().filter(is_newer).any(|known| known.is_same_session(&row));
        if moved
            || at(&sessions, row.mac, &row.venue).filter(is_newer).any(|known| known.metric == row.metric)
        {
            return;
        }
        if row.ends > self.store.now() {
            self.graces.end(row.mac, Some(&row.venue));
        }
        if let Some(ticket) = row.ticket.take() {
            self.tickets.remember(row.mac, ticket, self.store.now());
        }
        let before = at(&sessions, row.mac, &row.venue).find(|known| known.metric == row.metric);
        if let Some(before) = before.filter(|known| known.started != row.started) {
            self.told().1.push(before.clone());
        }
        put(&mut sessions, row);
    }

    /// These MACs have these sessions now, and no others. What runs ends their graces.
    fn replace(&self, macs: &[MacAddr], rows: &[SessionRow]) {
        let mut sessions = self.sessions();
        for mac in macs {
            sessions.remove(mac);
        }
        let now = self.store.now();
        for row in rows.iter().filter(|row| row.ends > now.saturating_sub(REMEMBER_ENDED)) {
            put(&mut sessions, row.clone());
            if row.ends > now {
                self.graces.end(row.mac, Some(&row.venue));
            }
        }
    }

    /// Where a MAC has a running session.
    fn stations(&self, mac: MacAddr) -> Vec<Station> {
        let (sessions, now) = (self.sessions(), self.store.now());
        let mut stations: Vec<Station> =
            sessions.get(&mac).into_iter().flatten().filter(|row| row.ends > now).map(station).collect();
        stations.sort_unstable();
        stations.dedup();
        stations
    }

    fn has_running(&self, station: &Station) -> bool {
        self.session(station.mac, &station.venue).is_some_and(|session| session.is_running())
    }

    fn view(&self, row: &SessionRow) -> Session {
        let (now, wall) = (self.store.now(), self.store.wall().0);
        let time = row.ends.saturating_sub(now);
        let ends_at = UnixSeconds(wall.saturating_add(time.as_secs_ceil()));
        let started_at = UnixSeconds(wall.saturating_sub(now.saturating_sub(row.started).0 / 1000));
        let (remaining, ends_at) = match row.metric {
            Metric::Milliseconds => (time.into(), Some(ends_at)),
            Metric::Bytes if time == Millis::ZERO => (Allotment::ZERO, None),
            Metric::Bytes => (row.allotment.saturating_sub(self.used(row)), None),
        };
        Session {
            mac: row.mac,
            venue: row.venue.clone(),
            metric: row.metric,
            allotment: row.allotment,
            used: row.allotment.saturating_sub(remaining),
            remaining,
            started: row.started,
            started_at,
            ends_at,
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sessions of a MAC at a venue: the one by time before the one by bytes.
fn at<'a>(sessions: &'a Rows, mac: MacAddr, venue: &'a str) -> impl Iterator<Item = &'a SessionRow> {
    let rows = sessions.get(&mac).map(Vec::as_slice).unwrap_or_default();
    let of = move |metric| rows.iter().find(|row| row.metric == metric && row.venue == venue);
    [Metric::Milliseconds, Metric::Bytes].into_iter().filter_map(of)
}

/// Puts a session in the place of an earlier one.
fn put(sessions: &mut Rows, row: SessionRow) {
    let rows = sessions.entry(row.mac).or_default();
    rows.retain(|known| (known.metric, &known.venue) != (row.metric, &row.venue));
    rows.push(row);
}

/// Whether `row` says that bytes are its device's now, which another one has by an older row.
fn is_taken_by(known: &SessionRow, row: &SessionRow) -> bool {
    let is_older = known.is_same_session(row) && known.revision < row.revision;
    row.metric == Metric::Bytes && known.mac != row.mac && is_older
}

fn station(row: &SessionRow) -> Station {
    Station { mac: row.mac, venue: row.venue.clone() }
}

fn usage(row: &SessionRow, used: Allotment) -> UsageRow {
    UsageRow { account: row.account, mac: row.mac, venue: row.venue.clone(), started: row.started, used }
}

fn ended_text(row: &SessionRow, used: Allotment, paid: Sats) -> String {
    let (bought, used) = match row.metric {
        Metric::Milliseconds => {
            let lasted = row.ends.saturating_sub(row.started).0.min(row.allotment.0);
            (time_text(row.allotment.0 / 1000), time_text(lasted / 1000))
        }
        Metric::Bytes => (data_text(row.allotment.0), data_text(used.0.min(row.allotment.0))),
    };
    let (mac, venue) = (row.mac, &row.venue);
    format!("the session of {mac} at {venue} has ended: {bought} for {paid} sat, {used} used")
}

fn add_to_pass(pass: &mut Pass, row: &SessionRow, used: Allotment, ends: Millis) {
    match row.metric {
        Metric::Milliseconds => pass.time = Some(ends),
        Metric::Bytes => {
            let quota = Quota { session: row.started.0, allotment: row.allotment, used };
            pass.data = Some((quota, ends));
        }
    }
}

/// Turns a service time into monotonic time.
fn monotonic(clock: &Clock, service_now: Millis, service: Millis) -> Millis {
    clock.now().saturating_add(service.saturating_sub(service_now))
}

#[cfg(test)]
mod tests;
