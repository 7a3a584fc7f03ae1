//! A gate that only remembers, for tests of the rooms that use one. It can be made to fail, and to lose
//! its state as a flushed firewall does.

use super::{Gate, GateError, Lease, Plan, Quota, Report, Table, Usage};
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
    leases: BTreeMap<MacAddr, Millis>,
    quotas: BTreeMap<MacAddr, Quota>,
    slow: SortedSet<MacAddr>,
    closed: Vec<MacAddr>,
}

impl RecordingGate {
    pub fn new() -> RecordingGate {
        RecordingGate::default()
    }

    /// The remaining time each guest was last given. It does not run down.
    pub fn leases(&self) -> BTreeMap<MacAddr, Millis> {
        self.state().leases.clone()
    }

    /// Who is counted, with what was used.
    pub fn quotas(&self) -> BTreeMap<MacAddr, Quota> {
        self.state().quotas.clone()
    }

    /// Who is let through slowly.
    pub fn slow(&self) -> SortedSet<MacAddr> {
        self.state().slow.clone()
    }

    /// As when a guest's traffic passes.
    pub fn pass(&self, mac: MacAddr, bytes: u64) {
        if let Some(quota) = self.state().quotas.get_mut(&mac) {
            quota.used = quota.used.saturating_add(Allotment(bytes)).min(quota.allotment);
        }
    }

    /// Every guest that was closed, in order.
    pub fn closed(&self) -> Vec<MacAddr> {
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
        self.state().leases.remove(&mac);
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
            if self.plan.as_ref().is_some_and(|plan| plan.trusted.contains(&lease.mac)) {
                continue;
            }
            match lease.remaining {
                Millis::ZERO => self.leases.remove(&lease.mac),
                remaining => self.leases.insert(lease.mac, remaining),
            };
            match lease.is_slow {
                true => self.slow.insert(lease.mac),
                false => self.slow.remove(&lease.mac),
            };
            let counted = self.quotas.remove(&lease.mac);
            if let Some(quota) = lease.quota {
                let counted = counted.filter(|counted| counted.session == quota.session);
                let used = counted.map_or(quota.used, |counted| counted.used);
                self.quotas.insert(lease.mac, Quota { used, ..quota });
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

    fn open(&mut self, leases: &[Lease]) -> Result<(), GateError> {
        self.write_loaded()?.put(leases);
        Ok(())
    }

    fn close(&mut self, macs: &[MacAddr]) -> Result<(), GateError> {
        let mut state = self.write_loaded()?;
        for mac in macs {
            state.leases.remove(mac);
            state.quotas.remove(mac);
            state.slow.remove(mac);
            state.closed.push(*mac);
        }
        Ok(())
    }

    fn tend(&mut self) -> Result<Usage, GateError> {
        let state = self.write_loaded()?;
        Ok(state.quotas.iter().map(|(mac, quota)| (*mac, (quota.session, quota.used))).collect())
    }

    fn inspect(&mut self) -> Result<Report, GateError> {
        let mut state = self.state();
        let plan = state.plan.clone().ok_or(GateError::NotLoaded)?;
        let endless = plan.trusted.iter().filter(|_| state.is_there).map(|mac| (*mac, None));
        let paid =
            state.leases.iter().map(|(mac, remaining)| (*mac, Some(*remaining))).chain(endless).collect();
        state.changed = !state.is_there;
        Ok(Report {
            table: if state.is_there { Table::Intact } else { Table::Missing },
            missing_locks: Vec::new(),
            paid,
            quotas: state.quotas.iter().map(|(mac, quota)| (*mac, *quota)).collect(),
            absent_devices: Vec::new(),
            offloaded_devices: Vec::new(),
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
        let lease = Lease { mac, remaining: Millis(5_000), quota: None, is_slow: false };
        let (shown, mut gate) = {
            let gate = RecordingGate::new();
            (gate.clone(), gate)
        };
        let plan = Plan { devices: vec!["br-guest".to_owned()], ..Plan::default() };
        gate.load(&plan, &[lease]).unwrap();
        assert!(!gate.changed());
        shown.lose_state();
        assert!(gate.changed() && gate.open(&[lease]).is_err());
        gate.load(&plan, &[lease]).unwrap();
        assert_eq!(shown.leases(), BTreeMap::from([(mac, Millis(5_000))]));
        shown.refuse(true);
        assert!(gate.close(&[mac]).is_err());
    }
}
