//! Keeps the gate as the sessions say it should be, and knows how many bytes each guest has used.
//!
//! One thread owns the gate: it carries out openings and closings in order, looks once a second whether another
//! program has changed the firewall or the routing rules under us, and puts everything back. The gate is derived
//! state: what is wanted stands in `wanted`, and the kernel ends each session by itself.

use crate::clock::Clock;
use crate::config::Metric;
use crate::network::gate::{Gate, GateError, GateReport, Lease, Plan, Quota, Station, Table, Usage};
use crate::set::SortedSet;
use crate::units::{Allotment, Millis};
use litemap::LiteMap;
use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

const TICK: Duration = Duration::from_secs(1);
/// The time of a guest that has bytes as well ends this much later in the kernel, so that nothing is refused before the
/// bytes are counted.
const HANDING_OVER: Millis = Millis::from_secs(3);
/// The gate is looked at in full this often, even if nothing seems to have changed.
const FULL_LOOK_EVERY: u32 = 60;

/// For how long, and for how many bytes, a guest may pass. The time runs first; bytes are counted after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The monotonic time that the time ends.
    pub time: Option<Millis>,
    /// Bytes, and the monotonic time up to which they may be used.
    pub data: Option<(Quota, Millis)>,
    /// The same for stations that have paid nothing yet; slow.
    pub grace: Option<(Quota, Millis)>,
}

impl Pass {
    /// What the kernel is to be told now; `None` when all of it is over.
    fn lease(&self, Station { mac, venue }: &Station, now: Millis) -> Option<Lease> {
        let left = |until: Millis| Some(until.saturating_sub(now)).filter(|left| *left > Millis::ZERO);
        let lease =
            |remaining, quota, is_slow| Lease { mac: *mac, venue: venue.clone(), remaining, quota, is_slow };
        let counted = |data: Option<(Quota, Millis)>, is_slow| {
            let (quota, until) = data.filter(|(quota, _)| quota.used < quota.allotment)?;
            Some(lease(left(until)?, Some(quota), is_slow))
        };
        let by_bytes = counted(self.data, false);
        if let Some(remaining) = self.time.and_then(left) {
            let more = by_bytes.map_or(Millis::ZERO, |_| HANDING_OVER);
            return Some(lease(remaining.saturating_add(more), None, false));
        }
        by_bytes.or_else(|| counted(self.grace, true))
    }
}

/// How the gate stands, for status and for deciding whether a sale can be honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateStatus {
    /// Table and routing rules are in place: strangers are kept out and guests that pay get in.
    pub closed_to_strangers: bool,
    /// The nftables table is ours and whole.
    pub firewall_lock: bool,
    /// The second lock, the routing rules.
    pub routing_lock: bool,
    /// What is wrong, in a sentence for the operator.
    pub trouble: Option<String>,
    /// Devices whose traffic may skip the gate.
    pub offloaded_devices: Vec<String>,
    /// Chains of other programs that work against the gate, each in a sentence.
    pub foreign: Vec<String>,
    /// How often the gate was found changed and was put back.
    pub healed: u32,
    pub open: usize,
}

impl GateStatus {
    /// Why access of this metric cannot be sold now, as a stable code.
    pub fn cannot_sell(&self, metric: Metric) -> Option<&'static str> {
        if !self.closed_to_strangers {
            Some("GATE_DOWN")
        } else if metric == Metric::Bytes && !self.offloaded_devices.is_empty() {
            // What skips the gate is not counted, and nothing would end it.
            Some("FLOW_OFFLOAD")
        } else {
            None
        }
    }
}

/// Handle to the gate's thread.
#[derive(Clone)]
pub struct Gatekeeper {
    orders: Sender<Order>,
    status: Arc<Mutex<GateStatus>>,
    usage: Arc<Mutex<Usage>>,
}

enum Order {
    Plan(Plan, oneshot::Sender<Result<(), GateError>>),
    Open(Station, Pass, oneshot::Sender<Result<(), GateError>>),
    Close(Station, oneshot::Sender<Result<(), GateError>>),
    Grace(Station, Option<(Quota, Millis)>),
    Count(oneshot::Sender<()>),
}

impl Gatekeeper {
    /// Starts the thread. `wanted` is what each station that has paid is let through for. With
    /// `adopt` (the store cannot be read) the stations that the kernel still lets through are taken over instead.
    pub fn start(
        gate: Box<dyn Gate>,
        clock: Clock,
        plan: Plan,
        wanted: LiteMap<Station, Pass>,
        adopt: bool,
    ) -> Gatekeeper {
        let (orders, inbox) = std::sync::mpsc::channel();
        let status = Arc::new(Mutex::new(GateStatus::default()));
        let usage = Arc::new(Mutex::new(Usage::new()));
        let keeper = Keeper {
            gate,
            clock,
            plan,
            wanted,
            status: status.clone(),
            usage: usage.clone(),
            standing: false,
            ticks: 0,
            adopt,
        };
        let spawned = std::thread::Builder::new().name("gate".into()).spawn(move || keeper.run(inbox));
        if let Err(err) = spawned {
            log::error!("cannot start the gate's thread: {err}");
        }
        Gatekeeper { orders, status, usage }
    }

    /// Lets a station through; a later call replaces an earlier one.
    pub async fn open(&self, station: Station, pass: Pass) -> Result<(), GateError> {
        let (reply, answer) = oneshot::channel();
        self.send(Order::Open(station, pass, reply));
        answer.await.unwrap_or(Err(GateError::NotLoaded))
    }

    pub async fn close(&self, station: Station) -> Result<(), GateError> {
        let (reply, answer) = oneshot::channel();
        self.send(Order::Close(station, reply));
        answer.await.unwrap_or(Err(GateError::NotLoaded))
    }

    /// Lets a station through slowly for `bytes`, until a monotonic time; `None` ends that. It has no effect while
    /// the station passes otherwise, and ends when it does.
    pub fn grace(&self, station: Station, grace: Option<(Quota, Millis)>) {
        self.send(Order::Grace(station, grace));
    }

    /// Asks the kernel what every guest has used until now, so that `used` is not some seconds old. If the kernel
    /// cannot be asked, `used` stays as it is.
    pub async fn count_now(&self) {
        let (reply, answer) = oneshot::channel();
        self.send(Order::Count(reply));
        let _ = answer.await;
    }

    /// Gated devices, ports or trusted stations have changed. The order is given at once; the future is
    /// over when it has been carried out.
    pub fn replan(&self, plan: Plan) -> impl Future<Output = Result<(), GateError>> + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(Order::Plan(plan, reply));
        async { answer.await.unwrap_or(Err(GateError::NotLoaded)) }
    }

    pub fn status(&self) -> GateStatus {
        lock(&self.status).clone()
    }

    /// The bytes that a station has used in this session, at most some seconds ago. `None` if this run of the daemon
    /// has counted none.
    pub fn used(&self, station: &Station, session: u64) -> Option<Allotment> {
        lock(&self.usage).get(station).filter(|(counted, _)| *counted == session).map(|(_, used)| *used)
    }

    /// Forgets these: what they used is in the store.
    pub fn forget_usage(&self, gone: impl Fn(&Station, u64) -> bool) {
        lock(&self.usage).retain(|station, (session, _)| !gone(station, *session));
    }

    fn send(&self, order: Order) {
        // The thread is gone only when it could not be started; the reply channel then says so.
        let _ = self.orders.send(order);
    }
}

struct Keeper {
    gate: Box<dyn Gate>,
    clock: Clock,
    plan: Plan,
    wanted: LiteMap<Station, Pass>,
    status: Arc<Mutex<GateStatus>>,
    usage: Arc<Mutex<Usage>>,
    /// The gate was as planned when we last looked, and has done what it was told.
    standing: bool,
    ticks: u32,
    /// `wanted` is not known yet: it is what the kernel lets through when the gate is first loaded.
    adopt: bool,
}

impl Keeper {
    fn run(mut self, inbox: Receiver<Order>) {
        self.close_departed();
        let _ = self.put_back();
        let mut next_tick = std::time::Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(std::time::Instant::now());
            match inbox.recv_timeout(wait) {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => {
                    self.tick();
                    next_tick = std::time::Instant::now() + TICK;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Plan(plan, reply) => {
                self.plan = plan;
                let _ = reply.send(self.put_back());
            }
            Order::Open(station, mut pass, reply) => {
                if let Some((quota, _)) = &mut pass.data {
                    let counted =
                        lock(&self.usage).get(&station).filter(|(id, _)| *id == quota.session).copied();
                    quota.used = quota.used.max(counted.map(|(_, used)| used).unwrap_or_default());
                }
                self.wanted.insert(station.clone(), pass);
                let opened = if self.standing { self.open(&[station]) } else { self.put_back() };
                let _ = reply.send(opened);
            }
            Order::Close(station, reply) => {
                self.wanted.remove(&station);
                let _ = reply.send(self.close(&[station]));
            }
            Order::Grace(station, grace) => self.give_grace(station, grace),
            Order::Count(reply) => {
                self.count(self.clock.now());
                let _ = reply.send(());
            }
        }
        lock(&self.status).open = self.wanted.len();
    }

    fn give_grace(&mut self, station: Station, grace: Option<(Quota, Millis)>) {
        let pass = self.wanted.entry(station.clone()).or_default();
        let is_paid = Pass { grace: None, ..*pass }.lease(&station, self.clock.now()).is_some();
        if is_paid {
            return;
        }
        *pass = Pass { grace, ..Pass::default() };
        if grace.is_none() {
            self.wanted.remove(&station);
            let _ = self.close(&[station]);
        } else if self.standing {
            let _ = self.open(&[station]);
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let now = self.clock.now();
        // The kernel has closed them to the second; this also ends their downloads and connections.
        self.close_ended(now);
        let counted_now = self.time_over(now);
        if !counted_now.is_empty() {
            let _ = self.open(&counted_now);
        }
        if !self.standing || self.gate.changed() || self.ticks.is_multiple_of(FULL_LOOK_EVERY) {
            self.look();
        }
        self.count(now);
    }

    /// Takes over what the kernel has counted, and closes the sessions that have used everything.
    fn count(&mut self, now: Millis) {
        if !self.standing {
            return;
        }
        let tended = self.gate.tend();
        self.take_in(&tended);
        if let Ok(usage) = tended {
            self.note_usage(&usage);
            self.close_ended(now);
        }
    }

    fn close_ended(&mut self, now: Millis) {
        let ended = self.wanted.iter().filter(|(station, pass)| pass.lease(station, now).is_none());
        let ended: Vec<Station> = ended.map(|(station, _)| station.clone()).collect();
        if !ended.is_empty() {
            for station in &ended {
                self.wanted.remove(station);
            }
            let _ = self.close(&ended);
            lock(&self.status).open = self.wanted.len();
        }
    }

    /// Guests whose time is over and who have bytes left.
    fn time_over(&mut self, now: Millis) -> Vec<Station> {
        let over = self.wanted.iter_mut().filter(|(_, pass)| pass.time.is_some_and(|time| time <= now));
        over.map(|(station, pass)| {
            pass.time = None;
            station.clone()
        })
        .collect()
    }

    fn note_usage(&mut self, usage: &Usage) {
        for (station, (session, used)) in usage {
            let Some(pass) = self.wanted.get_mut(station) else { continue };
            let counted = pass.data.iter_mut().chain(&mut pass.grace).map(|(quota, _)| quota);
            for quota in counted.filter(|quota| quota.session == *session) {
                quota.used = quota.used.max(*used).min(quota.allotment);
                lock(&self.usage).insert(station.clone(), (*session, quota.used));
            }
        }
    }

    /// Inspects the gate and puts back what is missing.
    fn look(&mut self) {
        match self.gate.inspect() {
            Ok(report) => {
                let paid: SortedSet<&Station> = report.paid.iter().map(|(station, _)| station).collect();
                let whole = report.is_sound()
                    && self.placed().all(|station| paid.contains(&station))
                    && self.all_counted(&report)
                    && self.strangers(&report).is_empty();
                self.show(&report);
                if whole && self.standing {
                    return;
                }
                if self.standing {
                    log::warn!(
                        "the gate was changed by somebody else (table {:?}, routing rules missing: {}); putting it back",
                        report.table,
                        report.missing_locks.len()
                    );
                    let mut status = lock(&self.status);
                    status.healed = status.healed.saturating_add(1);
                }
                let _ = self.put_back();
            }
            Err(err) => {
                self.note(Some(&err));
                let _ = self.put_back();
            }
        }
    }

    /// Whether no bytes pass uncounted.
    fn all_counted(&self, report: &GateReport) -> bool {
        let leases = self.leases(self.placed());
        leases.iter().all(|lease| match lease.quota {
            Some(quota) => {
                report.quotas.get(&lease.station()).is_some_and(|there| there.session == quota.session)
            }
            None => !report.quotas.contains_key(&lease.station()),
        })
    }

    fn put_back(&mut self) -> Result<(), GateError> {
        let leases = self.leases(self.placed());
        let mut result = self.gate.load(&self.plan, &leases);
        if result.is_ok() {
            result = if self.adopt { self.adopt_kernel_state() } else { self.close_strangers() };
        }
        self.standing = result.is_ok();
        self.note(result.as_ref().err());
        let mut status = lock(&self.status);
        status.closed_to_strangers = self.standing;
        status.open = self.wanted.len();
        drop(status);
        result
    }

    /// At a start, before anybody is let in: closes the stations whose place another station has taken. The daemon may
    /// have crashed after that was committed and before the gate followed.
    fn close_departed(&mut self) {
        let passing = if self.adopt { Vec::new() } else { self.gate.passing(&self.plan).unwrap_or_default() };
        let departed: Vec<Station> =
            passing.into_iter().filter(|station| self.is_stranger(station)).collect();
        if !departed.is_empty() && self.gate.load(&self.plan, &[]).is_ok() {
            let _ = self.close(&departed);
        }
    }

    fn close_strangers(&mut self) -> Result<(), GateError> {
        let report = self.gate.inspect()?;
        self.show(&report);
        match self.strangers(&report) {
            none if none.is_empty() => Ok(()),
            strangers => self.gate.close(&strangers),
        }
    }

    /// Finds the stations that are let through and have no session: a crash between grant and gate, or a revocation
    /// that did not reach the kernel.
    fn strangers(&self, report: &GateReport) -> Vec<Station> {
        let paid = report.paid.iter().map(|(station, _)| station);
        paid.filter(|station| self.is_stranger(station)).cloned().collect()
    }

    fn is_stranger(&self, station: &Station) -> bool {
        !self.wanted.contains_key(station) && !self.plan.is_trusted(station)
    }

    /// Takes over the stations that the kernel lets through, for as long as it does. Loading the gate has closed none
    /// of them.
    fn adopt_kernel_state(&mut self) -> Result<(), GateError> {
        let report = self.gate.inspect()?;
        let now = self.clock.now();
        for (station, left) in &report.paid {
            let Some(until) = left.map(|left| now.saturating_add(left)) else { continue };
            let pass = match report.quotas.get(station) {
                Some(quota) => Pass { data: Some((*quota, until)), ..Pass::default() },
                None => Pass { time: Some(until), ..Pass::default() },
            };
            self.wanted.insert(station.clone(), pass);
        }
        self.adopt = false;
        self.show(&report);
        Ok(())
    }

    fn close(&mut self, stations: &[Station]) -> Result<(), GateError> {
        let result = self.gate.close(stations);
        self.take_in(&result);
        result
    }

    /// What could not be written is put right at the next look.
    fn take_in<T>(&mut self, result: &Result<T, GateError>) {
        self.standing &= result.is_ok();
        self.note(result.as_ref().err());
    }

    fn open(&mut self, stations: &[Station]) -> Result<(), GateError> {
        let leases = self.leases(stations.iter());
        let result = match self.gate.open(&leases) {
            Ok(()) => Ok(()),
            // The table may have been wiped a moment ago: do not wait for the next tick.
            Err(_) => self.put_back(),
        };
        self.note(result.as_ref().err());
        result
    }

    fn leases<'a>(&self, stations: impl Iterator<Item = &'a Station>) -> Vec<Lease> {
        let now = self.clock.now();
        stations.filter_map(|station| self.wanted.get(station)?.lease(station, now)).collect()
    }

    /// The stations that shall pass, at venues that exist.
    fn placed(&self) -> impl Iterator<Item = &Station> {
        self.wanted.keys().filter(|station| self.plan.has_venue(&station.venue))
    }

    fn show(&self, report: &GateReport) {
        let mut status = lock(&self.status);
        status.firewall_lock = report.table == Table::Intact;
        status.routing_lock = report.missing_locks.is_empty();
        status.offloaded_devices = report.offloaded_devices.clone();
        let foreign: Vec<String> = report.foreign.iter().map(ToString::to_string).collect();
        for new in foreign.iter().filter(|text| !status.foreign.contains(text)) {
            log::warn!("gate: {new}");
        }
        status.foreign = foreign;
    }

    fn note(&self, err: Option<&GateError>) {
        let trouble = err.map(ToString::to_string);
        let mut status = lock(&self.status);
        if status.trouble != trouble {
            match &trouble {
                Some(text) => log::error!("gate: {text}"),
                None => log::info!("gate: in order again"),
            }
            status.trouble = trouble;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
