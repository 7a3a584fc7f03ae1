//! A gate that only remembers, for tests of the rooms that use one. It can be made to fail, and to lose
//! its state as a flushed firewall does.

use super::{Gate, GateError, GateReport, Lease, Plan, Quota, Station, Table, Usage};
use crate::mac::MacAddr;
use crate::set::SortedSet;
use crate::units::{Allotment, Millis};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones share one state: give one to the code under test and keep one to look at.
#[derive(Clone, Default)]
pub struct RecordingGate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    is_there: bool,
    changed: bool,
    refuses: bool,
    leases: BTreeMap<Station, Millis>,
    most_open: usize,
    quotas: BTreeMap<Station, Quota>,
    slow: SortedSet<Station>,
    closed: Vec<Station>,
}

impl RecordingGate {
    pub fn new() -> RecordingGate {
        RecordingGate::default()
    }

    /// The remaining time each guest was last given, at any venue. It does not run down.
    pub fn leases(&self) -> BTreeMap<MacAddr, Millis> {
        self.state().leases.iter().map(|(station, left)| (station.mac, *left)).collect()
    }

    /// The same at one venue.
    pub fn leases_at(&self, venue: &str) -> BTreeMap<MacAddr, Millis> {
        let state = self.state();
        let here = state.leases.iter().filter(|(station, _)| station.venue == venue);
        here.map(|(station, left)| (station.mac, *left)).collect()
    }

    /// How many leases there ever were at a time.
    pub fn most_open(&self) -> usize {
        self.state().most_open
    }

    /// The guests that are counted, with what they used.
    pub fn quotas(&self) -> BTreeMap<MacAddr, Quota> {
        self.state().quotas.iter().map(|(station, quota)| (station.mac, *quota)).collect()
    }

    /// The guests that are let through slowly.
    pub fn slow(&self) -> SortedSet<MacAddr> {
        self.state().slow.iter().map(|station| station.mac).collect()
    }

    /// As when a guest's traffic passes.
    pub fn pass(&self, mac: MacAddr, bytes: u64) {
        let mut state = self.state();
        for (_, quota) in state.quotas.iter_mut().filter(|(station, _)| station.mac == mac) {
            quota.used = quota.used.saturating_add(Allotment(bytes)).min(quota.allotment);
        }
    }

    /// Every guest that was closed, in order.
    pub fn closed(&self) -> Vec<MacAddr> {
        self.stations_closed().into_iter().map(|station| station.mac).collect()
    }

    /// The same with where.
    pub fn stations_closed(&self) -> Vec<Station> {
        self.state().closed.clone()
    }

    pub fn plan(&self) -> Option<Plan> {
        self.state().plan.clone()
    }

    /// From now on (or no longer) every call that writes fails as refused.
    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// As after `nft flush ruleset`: table and leases are gone and `changed` says so.
    pub fn lose_state(&self) {
        let mut state = self.state();
        (state.is_there, state.changed) = (false, true);
        state.leases.clear();
        state.quotas.clear();
    }

    /// As when the kernel ends a session by itself.
    pub fn expire(&self, mac: MacAddr) {
        self.state().leases.retain(|station, _| station.mac != mac);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Result<MutexGuard<'_, State>, GateError> {
        let state = self.state();
        match state.refuses {
            true => Err(GateError::Refused("told to refuse".to_owned())),
            false => Ok(state),
        }
    }

    fn write_loaded(&self) -> Result<MutexGuard<'_, State>, GateError> {
        let state = self.write()?;
        match (&state.plan, state.is_there) {
            (None, _) => Err(GateError::NotLoaded),
            (Some(_), false) => Err(GateError::Refused("the table is gone".to_owned())),
            (Some(_), true) => Ok(state),
        }
    }
}

impl State {
    fn put(&mut self, leases: &[Lease]) {
        for lease in leases {
            let station = lease.station();
            if self.plan.as_ref().is_some_and(|plan| plan.is_trusted(&station)) {
                continue;
            }
            match lease.remaining {
                Millis::ZERO => self.leases.remove(&station),
                remaining => self.leases.insert(station.clone(), remaining),
            };
            match lease.is_slow {
                true => self.slow.insert(station.clone()),
                false => self.slow.remove(&station),
            };
            self.most_open = self.most_open.max(self.leases.len());
            let counted = self.quotas.remove(&station);
            if let Some(quota) = lease.quota {
                let counted = counted.filter(|counted| counted.session == quota.session);
                let used = counted.map_or(quota.used, |counted| counted.used);
                self.quotas.insert(station, Quota { used, ..quota });
            }
        }
    }
}

impl Gate for RecordingGate {
    fn load(&mut self, plan: &Plan, leases: &[Lease]) -> Result<(), GateError> {
        plan.check()?;
        let mut state = self.write()?;
        state.plan = Some(plan.clone());
        (state.is_there, state.changed) = (true, false);
        state.put(leases);
        Ok(())
    }

    fn passing(&mut self, _: &Plan) -> Result<Vec<Station>, GateError> {
        Ok(self.state().leases.keys().cloned().collect())
    }

    fn open(&mut self, leases: &[Lease]) -> Result<(), GateError> {
        self.write_loaded()?.put(leases);
        Ok(())
    }

    fn close(&mut self, stations: &[Station]) -> Result<(), GateError> {
        let mut state = self.write_loaded()?;
        for station in stations {
            state.leases.remove(station);
            state.quotas.remove(station);
            state.slow.remove(station);
            state.closed.push(station.clone());
        }
        Ok(())
    }

    fn tend(&mut self) -> Result<Usage, GateError> {
        let state = self.write_loaded()?;
        Ok(state.quotas.iter().map(|(at, quota)| (at.clone(), (quota.session, quota.used))).collect())
    }

    fn inspect(&mut self) -> Result<GateReport, GateError> {
        let mut state = self.state();
        let plan = state.plan.clone().ok_or(GateError::NotLoaded)?;
        let trusted = plan.venues.iter().flat_map(|venue| {
            venue.trusted.iter().map(|mac| Station { mac: *mac, venue: venue.name.clone() })
        });
        let endless = trusted.filter(|_| state.is_there).map(|station| (station, None));
        let leases = state.leases.iter().map(|(station, remaining)| (station.clone(), Some(*remaining)));
        let paid = leases.chain(endless).collect();
        state.changed = !state.is_there;
        Ok(GateReport {
            table: if state.is_there { Table::Intact } else { Table::Missing },
            missing_locks: Vec::new(),
            paid,
            quotas: state.quotas.iter().map(|(station, quota)| (station.clone(), *quota)).collect(),
            absent_devices: Vec::new(),
            offloaded_devices: Vec::new(),
            foreign: Vec::new(),
        })
    }

    fn changed(&mut self) -> bool {
        let state = self.state();
        state.changed || !state.is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_there_again_after_load() {
        let mac: MacAddr = "02:00:00:00:00:11".parse().unwrap();
        let venue = "guest".to_owned();
        let lease = Lease { mac, venue, remaining: Millis(5_000), quota: None, is_slow: false };
        let (shown, mut gate) = {
            let gate = RecordingGate::new();
            (gate.clone(), gate)
        };
        let plan = Plan::default();
        gate.load(&plan, std::slice::from_ref(&lease)).unwrap();
        assert!(!gate.changed());
        shown.lose_state();
        assert!(gate.changed() && gate.open(std::slice::from_ref(&lease)).is_err());
        gate.load(&plan, std::slice::from_ref(&lease)).unwrap();
        assert_eq!(shown.leases(), BTreeMap::from([(mac, Millis(5_000))]));
        shown.refuse(true);
        assert!(gate.close(&[lease.station()]).is_err());
    }
}
