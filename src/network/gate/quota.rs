//! The kernel's own count of what guests by bytes use: one quota per guest, for both directions and all of
//! its addresses, IPv4 and IPv6. It cuts to the packet, also while the daemon hangs or is dead, and it
//! remembers over a restart of the daemon.
//!
//! What a guest sends is found by its MAC. What it is sent is found by address, so nothing is let in to an
//! address of such a guest (`counted`) before the daemon has put it beside the quota.

use super::changes::{Change, Changes, Key};
use super::plan::Place;
use super::snapshot::Snapshot;
use super::{Lease, Plan, Quota, Station, Usage};
use crate::mac::MacAddr;
use crate::network::netlink;
use crate::network::nftables::{Element, Nftables};
use crate::set::SortedSet;
use crate::units::Allotment;
use litemap::LiteMap;
use std::fmt;
use std::io;
use std::net::IpAddr;

/// One session's quota; its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    mac: MacAddr,
    session: u64,
    /// A digest of the venue's name: sessions at two venues may have begun in the same millisecond.
    venue: u32,
}

/// Bytes: the quota drops what is beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub limit: u64,
    pub used: u64,
}

/// The quotas as the kernel has them.
#[derive(Default)]
pub(super) struct Quotas {
    counts: LiteMap<Name, Count>,
    guests: LiteMap<Place, Name>,
    addresses: LiteMap<IpAddr, Name>,
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
        let mut let_in_by_us = SortedSet::new();
        for Element { key, .. } in nft.elements("counted_at")? {
            let_in_by_us.extend(Place::parse(&key)?);
        }
        for Element { key, object, .. } in nft.elements("qm_at")? {
            if let (Some(place), Some(name)) = (Place::parse(&key)?, Name::parse(&object)) {
                if let_in_by_us.contains(&place) {
                    quotas.guests.insert(place, name);
                }
            }
        }
        for set in ["qm4", "qm6"] {
            for Element { key, object, .. } in nft.elements(set)? {
                if let Some(name) = Name::parse(&object) {
                    quotas.addresses.insert(netlink::ip(&key)?, name);
                }
            }
        }
        Ok(quotas)
    }

    /// Reads once more what these have used.
    pub fn read_again<'a>(
        &mut self,
        nft: &mut Nftables,
        leases: impl Iterator<Item = &'a Lease>,
    ) -> io::Result<()> {
        for lease in leases {
            let Some(quota) = lease.quota else { continue };
            let name = Name::of(&lease.station(), quota.session);
            match nft.quota(&name.to_string())? {
                Some(found) => self.counts.insert(name, Count { limit: found.limit, used: found.used }),
                None => self.counts.remove(&name),
            };
        }
        Ok(())
    }

    /// What the kernel has after this change, as far as it concerns quotas.
    pub fn take_in(&mut self, change: &Change) {
        match change {
            Change::Add { key: Key::Counted(place), object: Some(name), .. } => {
                self.guests.insert(place.clone(), *name);
            }
            Change::Add { key: Key::CountedDownload(address), object: Some(name), .. } => {
                self.addresses.insert(*address, *name);
            }
            Change::Delete(Key::Counted(place)) => {
                self.guests.remove(place);
            }
            Change::Delete(Key::CountedDownload(address)) => {
                self.addresses.remove(address);
            }
            Change::PutQuota(name, count) => {
                self.counts.insert(*name, *count);
            }
            Change::DeleteQuota(name) => {
                self.counts.remove(name);
            }
            _ => {}
        }
    }

    /// The sessions that are counted, as the kernel knows them.
    pub fn known(&self, plan: &Plan) -> LiteMap<Station, Quota> {
        let counted = |(place, name): (&Place, &Name)| {
            let count = self.counts.get(name)?;
            let (allotment, used) = (Allotment(count.limit), Allotment(count.used.min(count.limit)));
            Some((plan.station(place)?, Quota { session: name.session, allotment, used }))
        };
        self.guests.iter().filter_map(counted).collect()
    }

    /// What each session has used.
    pub fn usage(&self, plan: &Plan) -> Usage {
        let known = self.known(plan).into_iter();
        known.map(|(station, quota)| (station, (quota.session, quota.used))).collect()
    }

    pub fn counts(&self, place: &Place) -> bool {
        self.guests.get(place).is_some_and(|name| self.counts.contains_key(name))
    }

    /// Makes `wanted` the only quota of this station, at these places and for these addresses besides those
    /// that it has.
    pub fn put(
        &self,
        changes: &mut Changes,
        station: &Station,
        places: &[Place],
        wanted: Option<Quota>,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let Some(quota) = wanted else {
            self.remove(changes, station);
            return;
        };
        let name = Name::of(station, quota.session);
        let count = self.counts.get(&name);
        // One that is used up also counts what it drops, and none of that shall be charged later.
        let kept = count.is_some_and(|count| count.used < count.limit)
            && places.iter().all(|place| self.guests.get(place) == Some(&name));
        let limit = quota.allotment.0;
        let used = quota.used.0.max(count.map_or(0, |count| count.used)).min(limit);
        if kept {
            // A change of the limit leaves the count alone.
            changes.put_quota(name, Count { limit, used });
        } else {
            self.remove(changes, station);
            changes.put_quota(name, Count { limit, used });
            for place in places {
                if self.guests.get(place).is_some_and(|other| !other.is_of(station)) {
                    changes.delete(Key::Counted(place.clone()));
                }
                changes.put_object(Key::Counted(place.clone()), name);
                changes.put_new_for_good(Key::LetInByUs(place.clone()));
            }
        }
        for address in addresses {
            match self.addresses.get(&address) {
                Some(now) if kept && *now == name => continue,
                // What pointed to an older quota of this guest is gone already.
                Some(now) if !now.is_of(station) => changes.delete(Key::CountedDownload(address)),
                _ => {}
            }
            changes.put_object(Key::CountedDownload(address), name);
        }
    }

    /// Takes every quota of a station away.
    pub fn remove(&self, changes: &mut Changes, station: &Station) {
        for (place, _) in self.guests.iter().filter(|(_, name)| name.is_of(station)) {
            changes.remove(Key::LetInByUs(place.clone()));
            changes.delete(Key::Counted(place.clone()));
        }
        for (address, _) in self.addresses.iter().filter(|(_, name)| name.is_of(station)) {
            changes.delete(Key::CountedDownload(*address));
        }
        for name in self.counts.keys().filter(|name| name.is_of(station)) {
            changes.delete_quota(*name);
        }
    }

    /// The quotas of all but these once more, for a table that is made anew.
    pub fn put_again(&self, changes: &mut Changes, plan: &Plan, all_but: &[Lease]) {
        for (station, quota) in self.known(plan) {
            if all_but.iter().all(|lease| lease.station() != station) {
                let places = plan.places(&station);
                Quotas::default().put(changes, &station, &places, Some(quota), std::iter::empty());
            }
        }
    }

    /// Puts each address beside the quota of who uses it now. What is let in to is never more than what is here.
    pub fn follow_addresses(&self, changes: &mut Changes, snapshot: &Snapshot) {
        if self.counts.is_empty() {
            return;
        }
        for (address, holder) in &snapshot.holders {
            let now = self.addresses.get(address);
            let name = self.guests.get(holder).filter(|_| self.counts(holder));
            if now == name {
                continue;
            }
            if now.is_some() {
                changes.delete(Key::CountedDownload(*address));
            }
            if let Some(name) = name {
                changes.put_object(Key::CountedDownload(*address), *name);
            }
        }
        for address in self.addresses.keys() {
            if !snapshot.holders.contains_key(address) && !snapshot.downloads.contains_key(address) {
                changes.delete(Key::CountedDownload(*address));
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("q")?;
        self.mac.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        write!(f, "_{:x}_{:x}", self.session, self.venue)
    }
}

impl Name {
    fn of(station: &Station, session: u64) -> Name {
        Name { mac: station.mac, session, venue: digest(&station.venue) }
    }

    fn is_of(&self, station: &Station) -> bool {
        self.mac == station.mac && self.venue == digest(&station.venue)
    }

    fn parse(text: &str) -> Option<Name> {
        let (mac, numbers) = text.strip_prefix('q')?.split_once('_')?;
        let (session, venue) = numbers.split_once('_')?;
        let number = u64::from_str_radix(mac, 16).ok().filter(|_| mac.len() == 12)?;
        let [_, _, octets @ ..] = number.to_be_bytes();
        Some(Name {
            mac: MacAddr::new(octets).ok()?,
            session: u64::from_str_radix(session, 16).ok()?,
            venue: u32::from_str_radix(venue, 16).ok()?,
        })
    }
}

/// FNV-1a: the same in every run of the daemon.
fn digest(venue: &str) -> u32 {
    venue.bytes().fold(0x811c_9dc5, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_tells_venues_apart() {
        let station =
            |venue: &str| Station { mac: "02:00:00:00:00:11".parse().unwrap(), venue: venue.to_owned() };
        let name = Name::of(&station("yard"), 0x1234);
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert!(name.is_of(&station("yard")) && !name.is_of(&station("hall")));
        assert_ne!(name.to_string(), Name::of(&station("hall"), 0x1234).to_string());
        assert_eq!(Name::parse("q020000000011_5"), None);
    }
}
