//! The centre: a payment becomes a session, a session opens the gate and ends at its second.
//!
//! The store is the truth; the gate and the table of sessions in memory follow it. Refuses to grant the
//! same payment twice, whoever asks.

mod gatekeeper;
mod grace;
mod price;
mod tickets;

pub use gatekeeper::{GateStatus, Gatekeeper, Pass};
pub use price::{Price, PriceError};
pub use tickets::{Taken, TicketError};

use crate::clock::Clock;
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::network::gate::{Gate, Plan, Quota, Station};
use crate::set::SortedSet;
use crate::store::{NewGrant, SessionRow, Store, StoreError, UsageRow};
use crate::units::{Allotment, Millis, Sats, UnixSeconds};
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
    /// When it began by the router's wall clock; a top-up changes nothing about it.
    pub started_at: UnixSeconds,
    /// When it ends by the router's wall clock; nothing for one by bytes.
    pub ends_at: Option<UnixSeconds>,
}

impl Session {
    pub fn is_running(&self) -> bool {
        self.remaining > Allotment::ZERO
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
}

/// A MAC may have a session of each metric. Its time runs first, since time runs anyway.
type Rows = LiteMap<(MacAddr, Metric), SessionRow>;

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
        let sessions = rows.into_iter().map(|row| ((row.mac, row.metric), row)).collect();
        Ok(Access {
            store,
            clock,
            gatekeeper,
            sessions: Arc::new(Mutex::new(sessions)),
            tickets: Arc::default(),
            graces: Arc::new(graces),
        })
    }

    pub fn gatekeeper(&self) -> &Gatekeeper {
        &self.gatekeeper
    }

    /// The session of a MAC: the one that its traffic goes by, or else the one that ended last, within the
    /// last hour (`remaining` is then zero).
    pub fn session(&self, mac: MacAddr) -> Option<Session> {
        let sessions = self.sessions();
        let mine = || of(&sessions, mac).map(|row| (row.ends, self.view(row)));
        let running = mine().map(|(_, session)| session).find(Session::is_running);
        running.or_else(|| mine().max_by_key(|(ends, _)| *ends).map(|(_, session)| session))
    }

    /// All running sessions; two of a MAC that has paid for time and for bytes.
    pub fn running(&self) -> Vec<Session> {
        let sessions = self.sessions();
        sessions.values().map(|row| self.view(row)).filter(Session::is_running).collect()
    }

    /// Follows a session that the store has just changed: returns when the gate is open for it. The gate
    /// being refused by the machine does not lose the session: it is tried again until it works or is over.
    pub async fn admit(&self, row: SessionRow) -> Session {
        self.follow(row.clone());
        loop {
            let (session, station, pass) = {
                let sessions = self.sessions();
                // The account may be with another MAC by now; or the session over for an hour.
                let current = sessions.values().find(|known| known.is_same_session(&row));
                let Some(current) = current else { return self.view(&row) };
                let station = station(current);
                let pass = self.pass(&sessions, &station);
                (self.view(current), station, pass)
            };
            if !session.is_running() || self.gatekeeper.open(station, pass).await.is_ok() {
                return session;
            }
            tokio::time::sleep(GATE_RETRY).await;
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
        let reference = format!("operator:{}", crate::store::RequestId::random()?);
        let grant = NewGrant { reference, mac, venue: venue.to_owned(), amount: Sats(0), metric, allotment };
        let row = self.store.grant(grant).await?;
        Ok(self.admit(row).await)
    }

    /// Ends the sessions of a MAC now; answers whether one was running.
    pub async fn revoke(&self, mac: MacAddr) -> Result<bool, StoreError> {
        let ended = self.store.revoke(mac).await?;
        let was_running = !ended.is_empty();
        let mut closing: SortedSet<Station> = ended.iter().map(station).collect();
        ended.into_iter().for_each(|row| self.follow(row));
        closing.extend(self.graces.end(mac).map(|venue| Station { mac, venue }));
        for station in closing {
            if let Err(err) = self.gatekeeper.close(station).await {
                log::error!("{mac} is revoked, but the gate could not be closed yet: {err}");
            }
        }
        Ok(was_running)
    }

    /// To be called every few seconds: ends in the store what is used up, writes down how far time and bytes
    /// have run out (at most once a minute, for all together; `waiting`: something else runs out, too), and
    /// drops what ended more than an hour ago.
    pub async fn tend(&self, waiting: bool) {
        self.end_used_up().await;
        let now = self.store.now();
        let (time_runs, used) = {
            let mut sessions = self.sessions();
            sessions.retain(|_, row| row.ends.saturating_add(REMEMBER_ENDED) > now);
            self.tickets.forget(|mac| of(&sessions, mac).next().is_some(), now);
            self.gatekeeper.forget_usage(|of, session| {
                let row = sessions.get(&(of.mac, Metric::Bytes)).filter(|row| row.venue == of.venue);
                row.is_none_or(|row| row.started.0 != session)
            });
            let time_runs = |row: &SessionRow| row.metric == Metric::Milliseconds && row.ends > now;
            (sessions.values().any(time_runs), self.newly_used(&sessions))
        };
        if self.store.checkpoint(waiting || time_runs || !used.is_empty(), &used) {
            self.note_written(used);
        }
    }

    /// Writes down what was used, now; answers whether there was anything. A write that is asked for later
    /// finds it.
    pub fn settle(&self) -> bool {
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
        let by_bytes = sessions.values().filter(|row| row.metric == Metric::Bytes);
        let used = by_bytes.map(|row| (row, self.used(row))).filter(|(row, used)| *used > row.used);
        used.map(|(row, used)| UsageRow { account: row.account, mac: row.mac, started: row.started, used })
            .collect()
    }

    fn note_written(&self, written: Vec<UsageRow>) {
        let mut sessions = self.sessions();
        for usage in written {
            let row = sessions.get_mut(&(usage.mac, Metric::Bytes));
            if let Some(row) = row.filter(|row| row.started == usage.started) {
                row.used = row.used.max(usage.used);
            }
        }
    }

    async fn end_used_up(&self) {
        let now = self.store.now();
        let mut over: Vec<UsageRow> = {
            let sessions = self.sessions();
            let running = sessions.values().filter(|row| row.metric == Metric::Bytes && row.ends > now);
            running
                .filter(|row| self.used(row) >= row.allotment)
                .map(|row| UsageRow {
                    account: row.account,
                    mac: row.mac,
                    started: row.started,
                    used: row.allotment,
                })
                .collect()
        };
        if over.is_empty() {
            return;
        }
        // The others' come along in the same commit.
        over.extend(self.newly_used(&self.sessions()));
        match self.store.used(over).await {
            Ok(rows) => rows.into_iter().for_each(|row| self.follow(row)),
            Err(err) => log::error!("sessions are used up, which is not written yet: {err}"),
        }
    }

    /// Everything that was paid for at a station's venue and is not used.
    fn pass(&self, sessions: &Rows, station: &Station) -> Pass {
        let now = self.store.now();
        let mut pass = Pass::default();
        let here = of(sessions, station.mac).filter(|row| row.venue == station.venue);
        for row in here.filter(|row| row.ends > now) {
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
        let key = (row.mac, row.metric);
        let is_newer = |known: &SessionRow| known.revision > row.revision;
        let moved = sessions.values().any(|known| known.is_same_session(&row) && is_newer(known));
        if moved || sessions.get(&key).is_some_and(is_newer) {
            return;
        }
        if row.ends > self.store.now() {
            self.graces.end(row.mac);
        }
        if let Some(ticket) = row.ticket.take() {
            self.tickets.remember(row.mac, ticket, self.store.now());
        }
        sessions.insert(key, row);
    }

    /// These MACs have these sessions now, and no others.
    fn replace(&self, macs: &[MacAddr], rows: &[SessionRow]) {
        let mut sessions = self.sessions();
        sessions.retain(|(mac, _), _| !macs.contains(mac));
        sessions.extend(rows.iter().map(|row| ((row.mac, row.metric), row.clone())));
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
            started_at,
            ends_at,
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sessions of a MAC, by time before by bytes.
fn of(sessions: &Rows, mac: MacAddr) -> impl Iterator<Item = &SessionRow> {
    [Metric::Milliseconds, Metric::Bytes].into_iter().filter_map(move |metric| sessions.get(&(mac, metric)))
}

/// Whom a session lets through.
fn station(row: &SessionRow) -> Station {
    Station { mac: row.mac, venue: row.venue.clone() }
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

/// The monotonic time of a service time.
fn monotonic(clock: &Clock, service_now: Millis, service: Millis) -> Millis {
    clock.now().saturating_add(service.saturating_sub(service_now))
}

#[cfg(test)]
mod tests;
