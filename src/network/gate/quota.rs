//! The kernel's own count of what guests by bytes use: one quota per guest, for both directions and all of
//! its addresses, IPv4 and IPv6. It cuts to the packet, also while the daemon hangs or is dead, and it
//! remembers over a restart of the daemon.
//!
//! What a guest sends is found by its MAC. What it is sent is found by address, and an address is added only
//! when the daemon has seen the guest upload from it; what arrived before that is known from the download
//! counters, and taken off the quota's limit.

use super::ruleset::{self, Key};
use super::snapshot::Snapshot;
use super::{Lease, Quota};
use crate::mac::MacAddr;
use crate::network::netlink;
use crate::network::nftables::{Element, Nftables, TABLE};
use crate::units::Allotment;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;
use std::net::IpAddr;

/// A guest who uploads from more addresses than this has the others counted by the daemon.
const ADDRESSES_PER_GUEST: usize = 64;

/// One session's quota; its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub mac: MacAddr,
    pub session: u64,
}

/// Bytes: the quota drops what is beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    limit: u64,
    used: u64,
}

/// The quotas as the kernel has them.
#[derive(Default)]
pub(super) struct Quotas {
    counts: BTreeMap<Name, Count>,
    guests: BTreeMap<MacAddr, Name>,
    addresses: BTreeMap<IpAddr, Name>,
    /// Everything that arrived for an address since its counter began.
    arrived: BTreeMap<IpAddr, u64>,
}

/// What the kernel's quotas do not know: bytes of each session that came before its address was added.
#[derive(Default)]
pub(super) struct Uncounted {
    bytes: BTreeMap<Name, u64>,
    /// The download counters at the last look; nothing when nobody was looking.
    seen: Option<BTreeMap<IpAddr, u64>>,
}

impl Quotas {
    pub fn read(nft: &mut Nftables) -> io::Result<Quotas> {
        let mut quotas = Quotas::default();
        for quota in nft.quotas()? {
            if let Some(name) = Name::parse(&quota.name) {
                quotas.counts.insert(name, Count { limit: quota.limit, used: quota.used });
            }
        }
        if quotas.counts.is_empty() {
            return Ok(quotas);
        }
        for Element { key, object, .. } in nft.elements("qm")? {
            if let (Ok(mac), Some(name)) = (MacAddr::new(netlink::octets6(&key)?), Name::parse(&object)) {
                quotas.guests.insert(mac, name);
            }
        }
        for set in ["qm4", "qm6"] {
            for Element { key, object, .. } in nft.elements(set)? {
                if let Some(name) = Name::parse(&object) {
                    quotas.addresses.insert(netlink::ip(&key)?, name);
                }
            }
        }
        for set in ["dc4", "dc6"] {
            for Element { key, bytes, .. } in nft.elements(set)? {
                quotas.arrived.insert(netlink::ip(&key)?, bytes);
            }
        }
        Ok(quotas)
    }

    /// The sessions that are counted, as the kernel knows them.
    pub fn known(&self) -> BTreeMap<MacAddr, Quota> {
        let counts = self.guests.iter().filter_map(|(mac, name)| Some((mac, name, self.counts.get(name)?)));
        counts
            .map(|(mac, name, count)| {
                let used = Allotment(count.used.min(count.limit));
                (*mac, Quota { session: name.session, allotment: Allotment(count.limit), used })
            })
            .collect()
    }

    /// Makes `wanted` the only quota of this guest, for these addresses besides those that it has.
    pub fn put(
        &self,
        script: &mut String,
        mac: MacAddr,
        wanted: Option<Quota>,
        uncounted: &mut Uncounted,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let Some(quota) = wanted else {
            self.remove(script, mac, uncounted);
            return;
        };
        let name = Name { mac, session: quota.session };
        let count = self.counts.get(&name);
        // One that is used up also counts what it drops, and none of that shall be charged later.
        let kept =
            count.is_some_and(|count| count.used < count.limit) && self.guests.get(&mac) == Some(&name);
        if kept {
            let elsewhere = uncounted.bytes.get(&name).copied().unwrap_or(0);
            put_limit(script, name, quota.allotment.0.saturating_sub(elsewhere));
        } else {
            self.remove(script, mac, uncounted);
            let (limit, used) = (quota.allotment.0, quota.used.0.max(count.map_or(0, |count| count.used)));
            let _ =
                writeln!(script, "add quota inet {TABLE} {name} {{ over {limit} bytes used {used} bytes }}");
            ruleset::put_object(script, Key::Counted(mac), &name);
        }
        let is_kept = |address: &IpAddr| kept && self.addresses.get(address) == Some(&name);
        for address in addresses.filter(|address| !is_kept(address)).take(ADDRESSES_PER_GUEST) {
            // What pointed to an older quota of this guest is gone already.
            if self.addresses.get(&address).is_some_and(|other| other.mac != mac) {
                ruleset::delete(script, Key::CountedDownload(address));
            }
            ruleset::put_object(script, Key::CountedDownload(address), &name);
        }
    }

    /// Takes every quota of a guest away.
    pub fn remove(&self, script: &mut String, mac: MacAddr, uncounted: &mut Uncounted) {
        if self.guests.contains_key(&mac) {
            ruleset::delete(script, Key::Counted(mac));
        }
        for (address, _) in self.addresses.iter().filter(|(_, name)| name.mac == mac) {
            ruleset::delete(script, Key::CountedDownload(*address));
        }
        for name in self.counts.keys().filter(|name| name.mac == mac) {
            let _ = writeln!(script, "delete quota inet {TABLE} {name}");
        }
        uncounted.bytes.retain(|name, _| name.mac != mac);
    }

    /// The quotas of all but these once more, for a table that is made anew.
    pub fn put_again(&self, script: &mut String, all_but: &[Lease]) {
        for (mac, quota) in self.known() {
            if all_but.iter().all(|lease| lease.mac != mac) {
                let nothing = Quotas::default();
                nothing.put(script, mac, Some(quota), &mut Uncounted::default(), std::iter::empty());
            }
        }
    }

    /// Brings addresses and limits in line with who uses which address now; answers what each session has used.
    pub fn tend(
        &self,
        script: &mut String,
        snapshot: &Snapshot,
        uncounted: &mut Uncounted,
    ) -> BTreeMap<MacAddr, (u64, Allotment)> {
        let before = uncounted.seen.take();
        if self.counts.is_empty() {
            return BTreeMap::new();
        }
        let holders = snapshot.holders();
        let mut late: BTreeMap<Name, u64> = BTreeMap::new();
        let mut known: BTreeMap<Name, usize> = BTreeMap::new();
        for name in self.addresses.values() {
            let count = known.entry(*name).or_default();
            *count = count.saturating_add(1);
        }
        for (address, holder) in &holders {
            let mapped = self.addresses.get(address);
            let name = self.guests.get(holder).filter(|name| self.counts.contains_key(name));
            if mapped == name {
                continue;
            }
            if mapped.is_some() {
                ruleset::delete(script, Key::CountedDownload(*address));
            }
            let Some(name) = name else { continue };
            let arrived = self.arrived.get(address).copied().unwrap_or(0);
            let seen = before.as_ref().map_or(arrived, |seen| seen.get(address).copied().unwrap_or(0));
            // A counter that stands lower than before has begun anew.
            let more = arrived.checked_sub(seen).unwrap_or(arrived);
            if more > 0 {
                let late = late.entry(*name).or_default();
                *late = late.saturating_add(more);
            }
            let count = known.entry(*name).or_default();
            *count = count.saturating_add(1);
            if *count <= ADDRESSES_PER_GUEST {
                ruleset::put_object(script, Key::CountedDownload(*address), name);
            }
        }
        for address in self.addresses.keys() {
            if !holders.contains_key(address) && !snapshot.downloads.contains_key(address) {
                ruleset::delete(script, Key::CountedDownload(*address));
            }
        }
        for (name, more) in late {
            let count = self.counts.get(&name).copied().unwrap_or(Count { limit: 0, used: 0 });
            put_limit(script, name, count.limit.saturating_sub(more));
            let bytes = uncounted.bytes.entry(name).or_default();
            *bytes = bytes.saturating_add(more);
        }
        uncounted.seen = Some(self.arrived.clone());
        let counts = self.guests.iter().filter_map(|(mac, name)| Some((mac, name, self.counts.get(name)?)));
        counts
            .map(|(mac, name, count)| {
                let elsewhere = uncounted.bytes.get(name).copied().unwrap_or(0);
                (*mac, (name.session, Allotment(count.used.min(count.limit).saturating_add(elsewhere))))
            })
            .collect()
    }
}

impl Uncounted {
    /// From now on what arrives is looked at.
    pub fn look(&mut self, quotas: &Quotas) {
        self.seen.get_or_insert_with(|| quotas.arrived.clone());
    }
}

fn put_limit(script: &mut String, name: Name, limit: u64) {
    let _ = writeln!(script, "add quota inet {TABLE} {name} {{ over {limit} bytes }}");
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("q")?;
        self.mac.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        write!(f, "_{:x}", self.session)
    }
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        let (mac, session) = text.strip_prefix('q')?.split_once('_')?;
        let number = u64::from_str_radix(mac, 16).ok().filter(|_| mac.len() == 12)?;
        let [_, _, octets @ ..] = number.to_be_bytes();
        Some(Name { mac: MacAddr::new(octets).ok()?, session: u64::from_str_radix(session, 16).ok()? })
    }
}
