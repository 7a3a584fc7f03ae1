//! The gate of a real router: `nft` loads the table; all else is asked and told the kernel over one netlink
//! socket, one transaction per call.

mod metering;

use super::changes::{Changes, Key};
use super::meter::Surroundings;
use super::plan::GatePlace;
use super::quota::Quotas;
use super::ruleset;
use super::snapshot::{place_of, put_leases, reopen_downloads, time_downloads, Snapshot};
use super::{closed, lock, process, Gate, GateError, GateReport, Lease, Plan, Station, Table, Usage, MARK};
use crate::config::AddressRange;
use crate::network::neighbours::{self, Caller};
use crate::network::netlink::{self, KernelRefusal};
use crate::network::nftables::{Home, Nftables};
use crate::network::{conntrack::Connections, devices, foreign};
use crate::set::SortedSet;
use metering::Meter;
use nix::errno::Errno;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;

/// See [`Gate`].
pub struct NftGate {
    program: OsString,
    loaded: Option<Loaded>,
    line: Line,
    connections: Connections,
    /// Where this kernel can count bytes; `None` before it was tried.
    counts_at: Option<Home>,
    /// What counts at the devices, if anything does.
    meter: Meter,
    /// The elements, as they were when the gate was tended last, with what we have changed since.
    snapshot: Snapshot,
    /// The kernel's transaction number that everything we know is true for; `None` when it is not.
    generation: Option<u32>,
    warned: bool,
}

struct Loaded {
    plan: Plan,
    /// What paying does not open, as it was last written.
    closed: Vec<AddressRange>,
    /// Of our rules, as the kernel had them right after our transaction; empty when that went wrong.
    digests: Vec<u64>,
}

/// An element may end by itself, or be made by a packet, between our look and our transaction, which then fails.
const TRIES: u32 = 3;

impl Default for NftGate {
    fn default() -> NftGate {
        NftGate::new()
    }
}

impl NftGate {
    /// Uses the `nft` found in `PATH`. Nothing happens before `load`.
    pub fn new() -> NftGate {
        NftGate::with_program("nft".into())
    }

    /// Uses this program in place of `nft`.
    pub fn with_program(program: OsString) -> NftGate {
        NftGate {
            program,
            loaded: None,
            line: Line::default(),
            connections: Connections::default(),
            counts_at: None,
            meter: Meter::default(),
            snapshot: Snapshot::default(),
            generation: None,
            warned: false,
        }
    }

    /// Where bytes are counted; in the path of packets as long as nothing else was tried.
    fn home(&self) -> Home {
        self.counts_at.unwrap_or_default()
    }

    fn plan(&self) -> Result<&Plan, GateError> {
        self.loaded.as_ref().map(|loaded| &loaded.plan).ok_or(GateError::NotLoaded)
    }

    /// Has nft carry out a script, which need not be the kernel's next transaction.
    fn run(&mut self, script: &str) -> Result<(), GateError> {
        self.generation = None;
        let mut tries = 0;
        loop {
            match process::run(&self.program, script) {
                Err(GateError::Refused(line)) if tries < TRIES && line.contains("No such file") => {
                    log::debug!("gate: an element ended under us, once more: {line}");
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Carries out what follows from the elements as they are. What is known of them may be a second old and is
    /// read again when the kernel does not agree.
    fn write(&mut self, changes: impl Fn(&Plan, &Snapshot) -> Changes) -> Result<(), GateError> {
        let mut tries = 0;
        loop {
            let changes = changes(self.plan()?, &self.snapshot);
            let changes = match self.home() {
                Home::Netdev => changes.with_copies(),
                Home::Inet => changes,
            };
            if changes.is_empty() {
                return Ok(());
            }
            match self.commit(&changes) {
                Err(GateError::Element { change, source }) if tries < TRIES && is_disagreement(&source) => {
                    log::debug!("gate: the elements are not as they were, once more: {change}: {source}");
                    self.read_elements()?;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// One transaction. Notices whether another program wrote meanwhile.
    fn commit(&mut self, changes: &Changes) -> Result<(), GateError> {
        let before = self.generation.take();
        let (outcome, now) = self.line.ask("the elements cannot be written", |nft| {
            match nft.commit(changes.batch()) {
                Ok(()) => Ok((Ok(()), nft.generation()?)),
                // Something is wrong with the line, or with more than one change.
                Err(KernelRefusal { request: None, error }) => Err(error),
                Err(KernelRefusal { request: Some(number), error: source }) => {
                    Ok((Err(GateError::Element { change: changes.name(number), source }), nft.generation()?))
                }
            }
        })?;
        let expected = match outcome {
            Ok(()) => before.map(|before| before.wrapping_add(1)),
            Err(_) => before,
        };
        self.generation = expected.filter(|expected| *expected == now);
        if outcome.is_ok() {
            self.snapshot.take_in(changes);
        }
        outcome
    }

    fn read_elements(&mut self) -> Result<(), GateError> {
        let before = &self.snapshot.quotas;
        self.snapshot = self.line.ask("the sets cannot be read", |nft| Snapshot::read(nft, before))?;
        Ok(())
    }

    fn load_table(
        &mut self,
        plan: &Plan,
        closed: &[AddressRange],
        leases: &[Lease],
    ) -> Result<(), GateError> {
        let (before, home) = (&self.snapshot.quotas, self.home());
        let (fits, outdated, snapshot, forwarded) = self.line.ask("the table cannot be read", |nft| {
            let sets = nft.sets()?;
            let outdated = ruleset::is_outdated(&sets);
            let fits =
                !outdated && ruleset::sets_fit(&sets) && ruleset::chains_fit(plan, home, &nft.chains()?);
            // Elements of a set that is not ours mean nothing to us.
            let snapshot = match fits {
                true => Snapshot::read(nft, before)?,
                false => Snapshot { quotas: Quotas::read(nft, before)?, ..Snapshot::default() },
            };
            // What an earlier run counted where packets are forwarded is not counted twice.
            let forwarded = match before.home() {
                Home::Netdev if fits => Quotas::read(nft, &Quotas::none(Home::Inet))?,
                _ => Quotas::default(),
            };
            Ok((fits, outdated, snapshot, forwarded))
        })?;
        if outdated {
            log::info!("gate: the table of an earlier version is replaced");
        } else if !fits {
            log::error!("gate: a table inet tollgate that is not ours was in the way and is replaced");
        }
        let guests = guests(plan);
        let elements = |snapshot: &Snapshot| {
            let mut changes = Changes::default();
            for place in snapshot.no_longer_planned(plan) {
                changes.remove(Key::Paid(place.clone()));
            }
            for place in plan.trusted_places() {
                if snapshot.paid.get(&place) != Some(&None) {
                    changes.put_for_good(Key::Paid(place));
                }
            }
            put_leases(&mut changes, plan, snapshot, leases, &guests);
            reopen_downloads(&mut changes, plan, snapshot, leases, &guests);
            changes
        };
        let mut leftovers = Changes::default();
        forwarded.remove_all(&mut leftovers);
        let changes = elements(&snapshot);
        match self.run(&(ruleset::load(plan, home, closed, !fits) + &leftovers.script() + &changes.script()))
        {
            Ok(()) => {
                self.snapshot = snapshot;
                self.snapshot.take_in(&changes);
                Ok(())
            }
            // Something in it clashes with ours in a way that cannot be seen from here.
            Err(GateError::Refused(line)) if fits && line.contains("File exists") => {
                log::error!("gate: table inet tollgate cannot be brought up to date and is replaced: {line}");
                let mut anew = Snapshot { paid: snapshot.paid.clone(), ..Snapshot::default() };
                anew.paid.retain(|_, remaining| remaining.is_some());
                let mut changes = Changes::default();
                for (place, remaining) in &anew.paid {
                    changes.put(Key::Paid(place.clone()), remaining.unwrap_or_default());
                }
                snapshot.quotas.put_again(&mut changes, plan, leases);
                if snapshot.quotas.home() == Home::Netdev {
                    anew.quotas = snapshot.quotas;
                }
                let script = ruleset::load(plan, home, closed, true);
                self.run(&(script + &changes.script() + &elements(&anew).script()))
            }
            outcome => outcome,
        }
    }

    /// What the kernel made of the transaction that was just committed.
    fn remember(&mut self, plan: &Plan) -> Result<(), GateError> {
        let (before, home) = (&self.snapshot.quotas, self.home());
        let (generation, digests, snapshot) = self.line.ask("the table cannot be read back", |nft| {
            let generation = nft.generation()?;
            let rules = nft.rules()?;
            let complete = ruleset::is_complete(plan, home, &nft.sets()?, &nft.chains()?, &rules);
            let digests = if complete { ruleset::digests(plan, home, &rules) } else { Vec::new() };
            Ok((generation, digests, Snapshot::read(nft, before)?))
        })?;
        self.snapshot = snapshot;
        self.generation = (!digests.is_empty()).then_some(generation);
        if let Some(loaded) = &mut self.loaded {
            loaded.digests = digests;
        }
        Ok(())
    }

    /// Devices and their addresses come and go.
    fn follow_networks(&mut self) -> Result<(), GateError> {
        let loaded = self.loaded.as_ref().ok_or(GateError::NotLoaded)?;
        let now = closed_now(&loaded.plan)?;
        if now == loaded.closed {
            return Ok(());
        }
        let mut script = String::new();
        ruleset::put_ranges(&mut script, ruleset::CLOSED, &now);
        let before = self.generation;
        self.run(&script)?;
        let generation = self.line.ask("the table cannot be read back", Nftables::generation)?;
        self.generation =
            before.map(|before| before.wrapping_add(1)).filter(|expected| *expected == generation);
        if let Some(loaded) = &mut self.loaded {
            loaded.closed = now;
        }
        Ok(())
    }

    /// Connections are forgotten as far as the machine can; what the gate no longer lets through does not
    /// depend on it.
    fn forget_connections(&mut self, addresses: &SortedSet<IpAddr>) {
        if let Err(error) = self.connections.forget(addresses) {
            if !self.warned {
                log::warn!("gate: connections of closed sessions cannot be forgotten: {error}");
            }
            self.warned = true;
        }
    }
}

impl Loaded {
    fn state(&self, counts_at: Home, nft: &mut Nftables) -> io::Result<Table> {
        let (sets, chains, rules) = (nft.sets()?, nft.chains()?, nft.rules()?);
        if sets.is_empty() && chains.is_empty() && rules.is_empty() {
            return Ok(Table::Missing);
        }
        let gated: SortedSet<String> =
            nft.elements("ifs")?.iter().filter_map(|e| netlink::name(&e.key).ok()).collect();
        let mut holds = |sets: [&str; 2], ranges: &[AddressRange]| {
            let mut found = nft.elements(sets[0])?;
            found.extend(nft.elements(sets[1])?);
            Ok::<bool, io::Error>(ruleset::are_ranges(ranges, &found))
        };
        let has_ranges = holds(ruleset::GARDENS, &self.plan.garden)? && holds(ruleset::CLOSED, &self.closed)?;
        let intact = !self.digests.is_empty()
            && has_ranges
            && ruleset::is_complete(&self.plan, counts_at, &sets, &chains, &rules)
            && ruleset::digests(&self.plan, counts_at, &rules) == self.digests
            && gated == self.plan.devices().into_iter().collect();
        Ok(if intact { Table::Intact } else { Table::Foreign })
    }
}

impl Gate for NftGate {
    fn load(&mut self, plan: &Plan, leases: &[Lease]) -> Result<(), GateError> {
        plan.check()?;
        self.generation = None;
        // A grace that runs stays slow, whatever the plan gives from now on.
        let gives_grace = plan.gives_grace
            || leases.iter().any(|lease| lease.is_slow)
            || self
                .line
                .ask("the sets cannot be read", |nft| nft.elements("slow_at"))
                .is_ok_and(|slow| !slow.is_empty());
        let plan = &Plan { gives_grace, ..plan.clone() };
        let closed = closed_now(plan);
        // The table first: paid guests must have their mark before the locks ask for it.
        let table = closed.and_then(|closed| {
            self.loaded = Some(Loaded { plan: plan.clone(), closed: closed.clone(), digests: Vec::new() });
            self.load_meter(plan, leases)?;
            self.load_table(plan, &closed, leases)?;
            self.remember(plan)?;
            self.copy_to_devices()
        });
        let locks = lock::ensure(&plan.devices())
            .map_err(|source| GateError::Netlink { what: "the routing locks cannot be set", source });
        table.and(locks)
    }

    fn passing(&mut self, plan: &Plan) -> Result<Vec<Station>, GateError> {
        let before = &self.snapshot.quotas;
        self.line.ask("the sets cannot be read", |nft| {
            let sets = nft.sets()?;
            if sets.is_empty() || ruleset::is_outdated(&sets) || !ruleset::sets_fit(&sets) {
                return Ok(Vec::new());
            }
            let passing = Snapshot::read(nft, before)?.passing(plan);
            Ok(passing.into_iter().map(|(station, _)| station).collect())
        })
    }

    fn open(&mut self, leases: &[Lease]) -> Result<(), GateError> {
        if leases.iter().any(|lease| lease.is_slow) && !self.plan()?.gives_grace {
            let plan = self.plan()?.clone();
            self.load(&plan, leases)?;
        }
        let counted = || leases.iter().filter(|lease| lease.quota.is_some());
        let guests = match counted().next() {
            Some(_) if self.counts_at != Some(Home::Netdev) => guests(self.plan()?),
            _ => Vec::new(),
        };
        if counted().next().is_some() {
            if self.counts_at == Some(Home::Netdev) && !self.meter.is_needed {
                let plan = self.plan()?.clone();
                self.attach(&plan, true)?;
            }
            // What a session has used decides what becomes of its quota.
            let loaded = self.loaded.as_ref().ok_or(GateError::NotLoaded)?;
            let quotas = &mut self.snapshot.quotas;
            self.line
                .ask("the quotas cannot be read", |nft| quotas.read_again(nft, &loaded.plan, counted()))?;
        }
        self.write(|plan, snapshot| {
            let mut changes = Changes::default();
            put_leases(&mut changes, plan, snapshot, leases, &guests);
            changes
        })
    }

    fn close(&mut self, stations: &[Station]) -> Result<(), GateError> {
        let plan = self.plan()?;
        let stations: Vec<&Station> = stations.iter().filter(|station| !plan.is_trusted(station)).collect();
        let closing: SortedSet<GatePlace> =
            stations.iter().flat_map(|station| plan.places(station)).collect();
        if closing.is_empty() {
            return Ok(());
        }
        // An idle guest's addresses may only be known to the neighbour table.
        let known = guests(plan).into_iter().filter(|guest| closing.contains(&place_of(guest)));
        let known: Vec<IpAddr> = known.map(|guest| guest.address).collect();
        // And a busy one's only to the kernel.
        let snapshot = &mut self.snapshot;
        self.line.ask("the sets cannot be read", |nft| snapshot.read_uploads(nft))?;
        let own = snapshot.uploads.keys().filter(|(place, _)| closing.contains(place));
        let mut addresses: SortedSet<IpAddr> = own.map(|(_, address)| *address).chain(known).collect();
        // An address that another paid guest has taken over since is that guest's.
        addresses.retain(|address| match snapshot.holders.get(address) {
            Some(holder) => closing.contains(holder) || !snapshot.paid.contains_key(holder),
            None => true,
        });
        self.write(|_, snapshot| {
            let mut changes = Changes::default();
            for place in &closing {
                changes.remove(Key::Paid(place.clone()));
            }
            for station in &stations {
                snapshot.quotas.remove(&mut changes, station);
            }
            for place in closing.iter().filter(|place| snapshot.slow.contains(*place)) {
                changes.remove(Key::Slow(place.clone()));
            }
            for (place, address) in snapshot.uploads.keys().filter(|(place, _)| closing.contains(place)) {
                changes.remove(Key::Upload(place.clone(), *address));
            }
            for address in &addresses {
                changes.remove(Key::Download(*address));
            }
            changes
        })?;
        self.forget_connections(&addresses);
        Ok(())
    }

    fn tend(&mut self) -> Result<Usage, GateError> {
        self.follow_networks()?;
        let plan = self.plan()?;
        if self.meter.is_needed && Surroundings::look(plan) != self.meter.around {
            let plan = plan.clone();
            self.attach(&plan, true)?;
        }
        self.read_elements()?;
        self.write(|_, snapshot| {
            let mut changes = Changes::default();
            time_downloads(&mut changes, snapshot);
            snapshot.quotas.follow_addresses(&mut changes, &snapshot.holders, &snapshot.downloads);
            snapshot.quotas.follow_headers(&mut changes);
            changes
        })?;
        Ok(self.snapshot.quotas.usage(self.plan()?))
    }

    fn inspect(&mut self) -> Result<GateReport, GateError> {
        let loaded = self.loaded.as_ref().ok_or(GateError::NotLoaded)?;
        let devices = loaded.plan.devices();
        let (before, meter) = (&self.snapshot.quotas, &self.meter);
        let (generation, table, snapshot, offloaded) = self.line.ask("the table cannot be read", |nft| {
            let generation = nft.generation()?;
            let table = match loaded.state(before.home(), nft)? {
                Table::Intact if !meter.is_intact(&loaded.plan, before.home(), nft)? => Table::Foreign,
                table => table,
            };
            let paid = match table {
                Table::Missing => Snapshot { quotas: Quotas::none(before.home()), ..Snapshot::default() },
                _ => Snapshot::read(nft, before)?,
            };
            Ok((generation, table, paid, nft.offloaded_devices().unwrap_or_default()))
        })?;
        let missing_locks = lock::missing(&devices)
            .map_err(|source| GateError::Netlink { what: "the routing locks cannot be read", source })?;
        let report = GateReport {
            table,
            missing_locks,
            quotas: snapshot.quotas.known(&loaded.plan),
            paid: snapshot.passing(&loaded.plan).into_iter().collect(),
            absent_devices: devices.iter().filter(|device| !devices::exists(device)).cloned().collect(),
            offloaded_devices: offloaded.into_iter().collect(),
            foreign: foreign::rules(&devices, MARK).unwrap_or_default(),
        };
        self.generation = report.is_sound().then_some(generation);
        self.snapshot = snapshot;
        Ok(report)
    }

    fn changed(&mut self) -> bool {
        let Some(loaded) = &self.loaded else { return true };
        let now = self.line.ask("the tables cannot be asked for", Nftables::generation).ok();
        let same_tables = self.generation.is_some() && now == self.generation;
        !same_tables || !lock::missing(&loaded.plan.devices()).is_ok_and(|missing| missing.is_empty())
    }
}

/// Kept open: see [`Batch`](crate::network::nftables::batch::Batch).
#[derive(Default)]
struct Line(Option<Nftables>);

impl Line {
    fn ask<T>(
        &mut self,
        what: &'static str,
        question: impl FnOnce(&mut Nftables) -> io::Result<T>,
    ) -> Result<T, GateError> {
        let netlink = |source| GateError::Netlink { what, source };
        let mut nft = self.0.take().map_or_else(Nftables::open, Ok).map_err(netlink)?;
        let answer = question(&mut nft).map_err(netlink)?;
        self.0 = Some(nft);
        Ok(answer)
    }
}

fn closed_now(plan: &Plan) -> Result<Vec<AddressRange>, GateError> {
    closed::ranges(plan)
        .map_err(|source| GateError::Netlink { what: "the router's own networks cannot be read", source })
}

/// Whether an element was there that should not be, or the other way round, or a quota was still in use.
fn is_disagreement(error: &io::Error) -> bool {
    [Errno::ENOENT, Errno::EEXIST, Errno::EBUSY].into_iter().any(|errno| netlink::is_errno(error, errno))
}

/// Everybody the neighbour table knows on the gated devices, as far as it can be read.
fn guests(plan: &Plan) -> Vec<Caller> {
    plan.devices().iter().flat_map(|device| neighbours::guests_on(device).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::gate::GatedVenue;

    #[test]
    fn without_load_nothing_is_touched() {
        let mut gate = NftGate::with_program("/nonexistent/nft".into());
        assert!(gate.changed());
        assert!(matches!(gate.open(&[]), Err(GateError::NotLoaded)));
        assert!(matches!(
            gate.close(&[Station { mac: "02:00:00:00:00:01".parse().unwrap(), venue: "guest".to_owned() }]),
            Err(GateError::NotLoaded)
        ));
        assert!(matches!(gate.tend(), Err(GateError::NotLoaded)));
        assert!(matches!(gate.inspect(), Err(GateError::NotLoaded)));
    }

    #[test]
    fn a_device_name_with_quotes_is_refused_before_anything_happens() {
        let mut gate = NftGate::with_program("/nonexistent/nft".into());
        let devices = vec!["a\" }; flush ruleset".to_owned()];
        let venue = GatedVenue { devices, ..GatedVenue::default() };
        let plan = Plan { venues: vec![venue], ..Plan::default() };
        assert!(matches!(gate.load(&plan, &[]), Err(GateError::DeviceName(_))));
    }
}
