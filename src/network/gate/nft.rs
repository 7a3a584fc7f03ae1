//! The gate of a real router: writes with `nft`, one transaction per call; reads over netlink.

use super::plan::Place;
use super::ruleset::{self, Key};
use super::snapshot::{place_of, put_leases, reopen_downloads, time_downloads, Snapshot};
use super::{lock, process, Gate, GateError, Lease, Plan, Report, Station, Table, Usage};
use crate::network::neighbours::{self, Caller};
use crate::network::nftables::Nftables;
use crate::network::{conntrack, devices, netlink};
use crate::set::SortedSet;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;

/// See [`Gate`].
pub struct NftGate {
    program: OsString,
    loaded: Option<Loaded>,
    /// The kernel's transaction number that everything we know is true for; `None` when it is not.
    generation: Option<u32>,
    warned: bool,
}

struct Loaded {
    plan: Plan,
    /// Of our rules, as the kernel had them right after our transaction; empty when that went wrong.
    digests: Vec<u64>,
}

/// An element may end by itself between our "add" and our "delete" of it, which fails the transaction.
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
        NftGate { program, loaded: None, generation: None, warned: false }
    }

    fn plan(&self) -> Result<&Plan, GateError> {
        self.loaded.as_ref().map(|loaded| &loaded.plan).ok_or(GateError::NotLoaded)
    }

    /// Runs one transaction, and keeps track of whether anybody else wrote meanwhile.
    fn commit(&mut self, script: &str) -> Result<(), GateError> {
        let mut tries = 0;
        loop {
            let before = self.generation.take();
            match process::run(&self.program, script) {
                Ok(()) => {
                    let now = generation().ok();
                    self.generation =
                        now.filter(|now| before.map(|before| before.wrapping_add(1)) == Some(*now));
                    return Ok(());
                }
                Err(GateError::Refused(line)) if tries < TRIES && line.contains("No such file") => {
                    log::debug!("gate: an element ended under us, once more: {line}");
                    self.generation = before;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn load_table(&mut self, plan: &Plan, leases: &[Lease]) -> Result<(), GateError> {
        let (fits, outdated, snapshot) = read("the table cannot be read", |nft| {
            let sets = nft.sets()?;
            let outdated = ruleset::is_outdated(&sets);
            let fits = !outdated && ruleset::sets_fit(&sets) && ruleset::chains_fit(plan, &nft.chains()?);
            // Elements of a set that is not ours mean nothing to us.
            let snapshot = if fits { Snapshot::read(nft)? } else { Snapshot::default() };
            Ok((fits, outdated, snapshot))
        })?;
        if outdated {
            log::info!("gate: the table of an earlier version is replaced");
        } else if !fits {
            log::error!("gate: a table inet tollgate that is not ours was in the way and is replaced");
        }
        let guests = guests(plan);
        let elements = |snapshot: &Snapshot| {
            let mut script = String::new();
            for place in snapshot.no_longer_planned(plan) {
                ruleset::remove(&mut script, &Key::Paid(place.clone()));
            }
            for place in plan.trusted_places() {
                if snapshot.paid.get(&place) != Some(&None) {
                    ruleset::put_for_good(&mut script, &Key::Paid(place));
                }
            }
            put_leases(&mut script, plan, snapshot, leases, &guests);
            reopen_downloads(&mut script, plan, snapshot, leases, &guests);
            script
        };
        match self.commit(&(ruleset::load(plan, !fits) + &elements(&snapshot))) {
            // Something in it clashes with ours in a way that cannot be seen from here.
            Err(GateError::Refused(line)) if fits && line.contains("File exists") => {
                log::error!("gate: table inet tollgate cannot be brought up to date and is replaced: {line}");
                let mut anew = Snapshot { paid: snapshot.paid, ..Snapshot::default() };
                anew.paid.retain(|_, remaining| remaining.is_some());
                let mut script = ruleset::load(plan, true);
                for (place, remaining) in &anew.paid {
                    ruleset::put(&mut script, &Key::Paid(place.clone()), remaining.unwrap_or_default());
                }
                snapshot.quotas.put_again(&mut script, plan, leases);
                self.commit(&(script + &elements(&anew)))
            }
            outcome => outcome,
        }
    }

    /// What the kernel made of the transaction that was just committed.
    fn remember(&mut self, plan: &Plan) -> Result<(), GateError> {
        let (generation, digests) = read("the table cannot be read back", |nft| {
            let generation = nft.generation()?;
            let rules = nft.rules()?;
            let complete = ruleset::is_complete(plan, &nft.sets()?, &nft.chains()?, &rules);
            let digests = if complete { ruleset::digests(plan, &rules) } else { Vec::new() };
            Ok((generation, digests))
        })?;
        self.generation = (!digests.is_empty()).then_some(generation);
        if let Some(loaded) = &mut self.loaded {
            loaded.digests = digests;
        }
        Ok(())
    }

    fn state(&self, loaded: &Loaded, nft: &mut Nftables) -> io::Result<Table> {
        let (sets, chains, rules) = (nft.sets()?, nft.chains()?, nft.rules()?);
        if sets.is_empty() && chains.is_empty() && rules.is_empty() {
            return Ok(Table::Missing);
        }
        let gated: SortedSet<String> =
            nft.elements("ifs")?.iter().filter_map(|e| netlink::name(&e.key).ok()).collect();
        let mut garden = Vec::new();
        for set in ruleset::GARDENS {
            garden.extend(nft.elements(set)?);
        }
        let intact = !loaded.digests.is_empty()
            && ruleset::is_garden(&loaded.plan, &garden)
            && ruleset::is_complete(&loaded.plan, &sets, &chains, &rules)
            && ruleset::digests(&loaded.plan, &rules) == loaded.digests
            && gated == loaded.plan.devices().into_iter().collect();
        Ok(if intact { Table::Intact } else { Table::Foreign })
    }

    /// Connections are forgotten as far as the machine can; what the gate no longer lets through does not
    /// depend on it.
    fn forget_connections(&mut self, addresses: &SortedSet<IpAddr>) {
        if let Err(error) = conntrack::flush(addresses) {
            if !self.warned {
                log::warn!("gate: connections of closed sessions cannot be forgotten: {error}");
            }
            self.warned = true;
        }
    }
}

impl Gate for NftGate {
    fn load(&mut self, plan: &Plan, leases: &[Lease]) -> Result<(), GateError> {
        plan.check()?;
        self.loaded = Some(Loaded { plan: plan.clone(), digests: Vec::new() });
        self.generation = None;
        // The table first: paid guests must have their mark before the locks ask for it.
        let table = self.load_table(plan, leases).and_then(|()| self.remember(plan));
        let locks = lock::ensure(&plan.devices())
            .map_err(|source| GateError::Netlink { what: "the routing locks cannot be set", source });
        table.and(locks)
    }

    fn open(&mut self, leases: &[Lease]) -> Result<(), GateError> {
        let plan = self.plan()?;
        let snapshot = snapshot()?;
        let guests = match leases.iter().any(|lease| lease.quota.is_some()) {
            true => guests(plan),
            false => Vec::new(),
        };
        let mut script = String::new();
        put_leases(&mut script, plan, &snapshot, leases, &guests);
        if script.is_empty() {
            return Ok(());
        }
        self.commit(&script)
    }

    fn close(&mut self, stations: &[Station]) -> Result<(), GateError> {
        let plan = self.plan()?;
        let stations: Vec<&Station> = stations.iter().filter(|station| !plan.is_trusted(station)).collect();
        let closing: SortedSet<Place> = stations.iter().flat_map(|station| plan.places(station)).collect();
        if closing.is_empty() {
            return Ok(());
        }
        let snapshot = snapshot()?;
        let mut addresses: SortedSet<IpAddr> = snapshot
            .uploads
            .keys()
            .filter(|(place, _)| closing.contains(place))
            .map(|(_, address)| *address)
            .collect();
        // An idle guest's addresses may only be known to the neighbour table.
        addresses.extend(
            guests(plan).iter().filter(|guest| closing.contains(&place_of(guest))).map(|guest| guest.address),
        );
        // An address that another paid guest has taken over since is that guest's.
        addresses.retain(|address| match snapshot.holder(*address) {
            Some(holder) => closing.contains(holder) || !snapshot.paid.contains_key(holder),
            None => true,
        });
        let mut script = String::new();
        for place in &closing {
            ruleset::remove(&mut script, &Key::Paid(place.clone()));
        }
        for station in stations {
            snapshot.quotas.remove(&mut script, station);
        }
        for place in closing.iter().filter(|place| snapshot.slow.contains(*place)) {
            ruleset::remove(&mut script, &Key::Slow(place.clone()));
        }
        for (place, address) in snapshot.uploads.keys().filter(|(place, _)| closing.contains(place)) {
            ruleset::remove(&mut script, &Key::Upload(place.clone(), *address));
        }
        for address in &addresses {
            ruleset::remove(&mut script, &Key::Download(*address));
        }
        self.commit(&script)?;
        self.forget_connections(&addresses);
        Ok(())
    }

    fn tend(&mut self) -> Result<Usage, GateError> {
        let plan = self.plan()?;
        let snapshot = snapshot()?;
        let usage = snapshot.quotas.usage(plan);
        let mut script = String::new();
        time_downloads(&mut script, &snapshot);
        snapshot.quotas.follow_addresses(&mut script, &snapshot);
        if !script.is_empty() {
            self.commit(&script)?;
        }
        Ok(usage)
    }

    fn inspect(&mut self) -> Result<Report, GateError> {
        let loaded = self.loaded.as_ref().ok_or(GateError::NotLoaded)?;
        let devices = loaded.plan.devices();
        let (generation, table, snapshot, offloaded) = read("the table cannot be read", |nft| {
            let generation = nft.generation()?;
            let table = self.state(loaded, nft)?;
            let paid = if table == Table::Missing { Snapshot::default() } else { Snapshot::read(nft)? };
            Ok((generation, table, paid, nft.offloaded_devices().unwrap_or_default()))
        })?;
        let missing_locks = lock::missing(&devices)
            .map_err(|source| GateError::Netlink { what: "the routing locks cannot be read", source })?;
        let report = Report {
            table,
            missing_locks,
            quotas: snapshot.quotas.known(&loaded.plan),
            paid: snapshot.passing(&loaded.plan).into_iter().collect(),
            absent_devices: devices.iter().filter(|device| !devices::exists(device)).cloned().collect(),
            offloaded_devices: offloaded.into_iter().collect(),
        };
        self.generation = report.is_sound().then_some(generation);
        Ok(report)
    }

    fn changed(&mut self) -> bool {
        let Some(loaded) = &self.loaded else { return true };
        let same_tables = self.generation.is_some() && generation().ok() == self.generation;
        !same_tables || !lock::missing(&loaded.plan.devices()).is_ok_and(|missing| missing.is_empty())
    }
}

fn snapshot() -> Result<Snapshot, GateError> {
    read("the sets cannot be read", Snapshot::read)
}

fn generation() -> io::Result<u32> {
    Nftables::open()?.generation()
}

fn read<T>(what: &'static str, look: impl FnOnce(&mut Nftables) -> io::Result<T>) -> Result<T, GateError> {
    Nftables::open().and_then(|mut nft| look(&mut nft)).map_err(|source| GateError::Netlink { what, source })
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
