//! How the gate keeps the table that counts bytes at the devices: loaded where the kernel takes it, attached to the
//! devices as they are, with its copies of the gate's sets.

use super::NftGate;
use crate::network::gate::changes::{Changes, Key};
use crate::network::gate::meter::{self, Surroundings};
use crate::network::gate::quota::Quotas;
use crate::network::gate::snapshot::Snapshot;
use crate::network::gate::{GateError, Lease, Plan};
use crate::network::nftables::{Home, Nftables};
use std::io;

#[derive(Default)]
pub(super) struct Meter {
    pub(super) is_needed: bool,
    pub(super) around: Surroundings,
    /// Of its rules, as the kernel had them right after our transaction.
    digests: Vec<u64>,
}

impl NftGate {
    /// Makes sure of the table that counts at the devices, if this kernel takes such a table.
    pub(super) fn load_meter(&mut self, plan: &Plan, leases: &[Lease]) -> Result<(), GateError> {
        let home = match self.counts_at {
            Some(home) => home,
            None => match self.run(&meter::probe()) {
                Ok(()) => Home::Netdev,
                Err(GateError::Refused(line)) => {
                    log::info!(
                        "gate: bytes are counted where packets are forwarded, not at the devices: {line}"
                    );
                    Home::Inet
                }
                Err(error) => return Err(error),
            },
        };
        self.counts_at = Some(home);
        if self.snapshot.quotas.home() != home {
            self.snapshot = Snapshot { quotas: Quotas::none(home), ..Snapshot::default() };
        }
        match home {
            Home::Inet => Ok(()),
            Home::Netdev => {
                let counted = self.line.ask("the quotas cannot be read", |nft| nft.quotas(home))?;
                let is_needed = !counted.is_empty() || leases.iter().any(|lease| lease.quota.is_some());
                self.attach(plan, is_needed)
            }
        }
    }

    /// Brings the meter to the devices as they are. It costs nothing while no guest is counted.
    pub(super) fn attach(&mut self, plan: &Plan, is_needed: bool) -> Result<(), GateError> {
        let around = Surroundings::look(plan);
        match self.run(&meter::load(plan, &around, is_needed, false)) {
            Err(GateError::Refused(line)) => {
                log::error!(
                    "gate: table netdev tollgate cannot be brought up to date and is replaced: {line}"
                );
                self.run(&meter::load(plan, &around, is_needed, true))?;
                self.copy_to_devices()?;
            }
            outcome => outcome?,
        }
        let rules = self.line.ask("the meter cannot be read back", |nft| nft.rules_of(Home::Netdev))?;
        let digests = meter::digests(plan, &around, is_needed, &rules).unwrap_or_default();
        self.meter = Meter { is_needed, around, digests };
        Ok(())
    }

    /// Makes the meter's copies of the paid and of the slow guests, from what the kernel has. Later changes keep them.
    pub(super) fn copy_to_devices(&mut self) -> Result<(), GateError> {
        if self.home() == Home::Inet {
            return Ok(());
        }
        self.write(|_, snapshot| {
            let mut copies = Changes::default();
            for (place, remaining) in &snapshot.paid {
                match remaining {
                    Some(remaining) => copies.put(Key::LetIn(place.clone()), *remaining),
                    None => copies.put_for_good(Key::LetIn(place.clone())),
                }
                if let (true, Some(remaining)) = (snapshot.slow.contains(place), remaining) {
                    copies.put(Key::Paced(place.clone()), *remaining);
                }
            }
            copies
        })
    }
}

impl Meter {
    pub(super) fn is_intact(&self, plan: &Plan, home: Home, nft: &mut Nftables) -> io::Result<bool> {
        if home == Home::Inet {
            return Ok(true);
        }
        let rules = nft.rules_of(Home::Netdev)?;
        let digests = meter::digests(plan, &self.around, self.is_needed, &rules);
        Ok(digests.as_ref() == Some(&self.digests))
    }
}
