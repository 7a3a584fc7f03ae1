//! The kernel's own count of what guests by bytes use: one quota per guest, for both directions and all of
//! its addresses, IPv4 and IPv6. It cuts to the packet, also while the daemon hangs or is dead, and it
//! remembers over a restart of the daemon.
//!
//! What a guest sends is found by its MAC. What it is sent is found by address, so packets to an address of such a
//! guest (`counted`) are dropped until the daemon has put the address beside the quota.

use super::changes::{Change, Changes, Key};
use super::count::{Count, Name};
use super::plan::GatePlace;
use super::{Lease, Plan, Quota, Station, Usage};
use crate::network::netlink;
use crate::network::nftables::{Element, Home, NamedQuota, Nftables};
use crate::set::SortedSet;
use crate::units::{Allotment, Millis};
use litemap::LiteMap;
use std::io;
use std::net::IpAddr;

/// A device counts it with each packet that it sends.
const ETHERNET_HEADER: u64 = 14;
/// Less than a packet is no longer of use.
const PACKET: u64 = 1514;

/// The quotas as the kernel has them.
#[derive(Default)]
pub(super) struct Quotas {
    /// The table that counts.
    home: Home,
    counts: LiteMap<Name, Count>,
    guests: LiteMap<GatePlace, Name>,
    addresses: LiteMap<IpAddr, Name>,
    /// The Ethernet headers that were counted so far.
    headers: LiteMap<Name, u64>,
}

impl Quotas {
    /// No quotas yet; they will be in this table.
    pub fn none(home: Home) -> Quotas {
        Quotas { home, ..Quotas::default() }
    }

    pub fn home(&self) -> Home {
        self.home
    }

    /// The quotas as they are now. `before` knows what the limits of some of them stand for.
    pub fn read(nft: &mut Nftables, before: &Quotas) -> io::Result<Quotas> {
        let mut quotas = Quotas::none(before.home);
        let counts = nft.quotas(before.home)?;
        if counts.is_empty() {
            return Ok(quotas);
        }
        match before.home {
            Home::Inet => quotas.read_forwarded(nft)?,
            Home::Netdev => quotas.read_at_devices(nft, &counts)?,
        }
        let named = counts.into_iter().filter_map(|quota| Some((Name::parse(&quota.name)?, quota)));
        let count = |(name, NamedQuota { limit, used, .. }): (Name, NamedQuota)| {
            let known = before.counts.get(&name).filter(|known| known.limit == limit);
            let headers = known.map_or_else(|| quotas.headers_of(&name), |known| known.headers);
            (name, Count { limit, used, headers })
        };
        quotas.counts = named.map(count).collect();
        Ok(quotas)
    }

    fn read_forwarded(&mut self, nft: &mut Nftables) -> io::Result<()> {
        let mut let_in_by_us = Vec::new();
        for Element { key, .. } in nft.elements("counted_at")? {
            let_in_by_us.extend(GatePlace::parse(&key)?);
        }
        let let_in_by_us: SortedSet<GatePlace> = let_in_by_us.into_iter().collect();
        self.guests = names(nft.elements("qm_at")?)?.into_iter().collect();
        self.guests.retain(|place, _| let_in_by_us.contains(place));
        let mut addresses = Vec::new();
        for set in ["qm4", "qm6"] {
            for Element { key, object, .. } in nft.elements(set)? {
                addresses.extend(Name::parse(&object).map(|name| (key, name)));
            }
        }
        let addresses = addresses.into_iter().map(|(key, name)| Ok((netlink::ip(&key)?, name)));
        self.addresses = addresses.collect::<io::Result<Vec<_>>>()?.into_iter().collect();
        Ok(())
    }

    fn read_at_devices(&mut self, nft: &mut Nftables, counts: &[NamedQuota]) -> io::Result<()> {
        let named = || counts.iter().filter_map(|quota| Name::parse(&quota.name));
        self.guests = names(nft.elements_of(Home::Netdev, "metered")?)?.into_iter().collect();
        let mut headers = Vec::new();
        for Element { key, packets, .. } in nft.elements_of(Home::Netdev, "received")? {
            let Some(place) = GatePlace::parse(&key)? else { continue };
            // Somebody may have taken it from the map.
            let name =
                self.guests.get(&place).copied().or_else(|| named().find(|name| name.mac == place.mac));
            headers.extend(name.map(|name| (name, packets.saturating_mul(ETHERNET_HEADER))));
        }
        headers.sort();
        for (name, more) in headers {
            let all = self.headers.entry(name).or_default();
            *all = all.saturating_add(more);
        }
        Ok(())
    }

    fn headers_of(&self, name: &Name) -> u64 {
        self.headers.get(name).copied().unwrap_or_default()
    }

    /// Reads once more what these have used.
    pub fn read_again<'a>(
        &mut self,
        nft: &mut Nftables,
        plan: &Plan,
        leases: impl Iterator<Item = &'a Lease>,
    ) -> io::Result<()> {
        for lease in leases {
            let Some(quota) = lease.quota else { continue };
            let station = lease.station();
            let name = Name::of(&station, quota.session);
            let Some(NamedQuota { limit, used, .. }) = nft.quota(self.home, &name.to_string())? else {
                self.counts.remove(&name);
                continue;
            };
            if self.home == Home::Netdev {
                let mut headers: u64 = 0;
                for place in
                    plan.places(&station).iter().filter(|place| self.guests.get(*place) == Some(&name))
                {
                    let received = nft.element(Home::Netdev, "received", &place.octets())?;
                    let packets = received.map(|element| element.packets).unwrap_or_default();
                    headers = headers.saturating_add(packets.saturating_mul(ETHERNET_HEADER));
                }
                self.headers.insert(name, headers);
            }
            let known = self.counts.get(&name).filter(|known| known.limit == limit);
            let headers = known.map_or_else(|| self.headers_of(&name), |known| known.headers);
            self.counts.insert(name, Count { limit, used, headers });
        }
        Ok(())
    }

    /// What the kernel has after this change, as far as it concerns quotas.
    pub fn take_in(&mut self, change: &Change) {
        match change {
            Change::Add { key: Key::Counted(place) | Key::Metered(place), object: Some(name), .. } => {
                self.guests.insert(place.clone(), *name);
            }
            Change::Add { key: Key::CountedDownload(address), object: Some(name), .. } => {
                self.addresses.insert(*address, *name);
            }
            Change::Delete(Key::Counted(place) | Key::Metered(place)) => {
                self.guests.remove(place);
            }
            Change::Delete(Key::CountedDownload(address)) => {
                self.addresses.remove(address);
            }
            Change::PutQuota(_, name, count) => {
                self.counts.insert(*name, *count);
                self.headers.insert(*name, count.headers);
            }
            Change::DeleteQuota(_, name) => {
                self.counts.remove(name);
                self.headers.remove(name);
            }
            _ => {}
        }
    }

    /// The sessions that are counted, as the kernel knows them.
    pub fn known(&self, plan: &Plan) -> LiteMap<Station, Quota> {
        let counted = |(place, name): (&GatePlace, &Name)| {
            let count = self.counts.get(name)?;
            let (allotment, used) = (Allotment(count.allotment()), Allotment(self.used(name, count)));
            Some((plan.station(place)?, Quota { session: name.session, allotment, used }))
        };
        self.guests.iter().filter_map(counted).collect()
    }

    /// What a session has used, without Ethernet headers.
    fn used(&self, name: &Name, count: &Count) -> u64 {
        let headers = self.headers_of(name);
        match count.is_used_up() && headers.saturating_sub(count.headers) < PACKET {
            true => count.allotment(),
            false => count.used.min(count.limit).saturating_sub(headers).min(count.allotment()),
        }
    }

    /// What each session has used.
    pub fn usage(&self, plan: &Plan) -> Usage {
        let known = self.known(plan).into_iter();
        known.map(|(station, quota)| (station, (quota.session, quota.used))).collect()
    }

    pub fn counts(&self, place: &GatePlace) -> bool {
        self.guests.get(place).is_some_and(|name| self.counts.contains_key(name))
    }

    /// Makes `wanted` the only quota of this station, at these places and for these addresses besides those
    /// that it has.
    pub fn put(
        &self,
        changes: &mut Changes,
        station: &Station,
        places: &[GatePlace],
        wanted: Option<Quota>,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let Some(quota) = wanted else {
            self.remove(changes, station);
            return;
        };
        let name = Name::of(station, quota.session);
        let count = self.counts.get(&name);
        // One that is used up also counts what it drops, and none of that shall be charged later. One that has counted less
        // than its session has used is not that session's alone any more: another account was added to it.
        let kept = count.is_some_and(|count| !count.is_used_up() && self.used(&name, count) >= quota.used.0)
            && places.iter().all(|place| self.guests.get(place) == Some(&name));
        let headers = if kept { self.headers_of(&name) } else { 0 };
        let limit = quota.allotment.0.saturating_add(headers);
        if let (true, Some(count)) = (kept, count) {
            // A change of the limit leaves the count alone.
            changes.put_quota(self.home, name, Count { limit, used: count.used.min(limit), headers });
        } else {
            self.remove(changes, station);
            let used = quota.used.0.max(count.map_or(0, |count| self.used(&name, count))).min(limit);
            changes.put_quota(self.home, name, Count { limit, used, headers });
            for place in places {
                if self.guests.get(place).is_some_and(|other| !other.is_of(station)) {
                    changes.delete(self.key(place));
                }
                changes.put_object(self.key(place), name);
                match self.home {
                    Home::Inet => changes.put_new_for_good(Key::LetInByUs(place.clone())),
                    Home::Netdev => changes.put_for_good(Key::Received(place.clone())),
                }
            }
        }
        if self.home == Home::Netdev {
            return;
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
            changes.remove(self.mark(place));
            changes.delete(self.key(place));
        }
        for (address, _) in self.addresses.iter().filter(|(_, name)| name.is_of(station)) {
            changes.delete(Key::CountedDownload(*address));
        }
        for name in self.counts.keys().filter(|name| name.is_of(station)) {
            changes.delete_quota(self.home, *name);
        }
    }

    /// What gives a place's quota.
    fn key(&self, place: &GatePlace) -> Key {
        match self.home {
            Home::Inet => Key::Counted(place.clone()),
            Home::Netdev => Key::Metered(place.clone()),
        }
    }

    /// What says that a place has one.
    fn mark(&self, place: &GatePlace) -> Key {
        match self.home {
            Home::Inet => Key::LetInByUs(place.clone()),
            Home::Netdev => Key::Received(place.clone()),
        }
    }

    /// Takes all of them away.
    pub fn remove_all(&self, changes: &mut Changes) {
        for (place, _) in &self.guests {
            changes.remove(self.mark(place));
            changes.delete(self.key(place));
        }
        for address in self.addresses.keys() {
            changes.delete(Key::CountedDownload(*address));
        }
        for name in self.counts.keys() {
            changes.delete_quota(self.home, *name);
        }
    }

    /// Makes up for the Ethernet headers that were counted meanwhile, where they begin to matter.
    pub fn follow_headers(&self, changes: &mut Changes) {
        for (name, count) in &self.counts {
            let owed = self.headers_of(name).saturating_sub(count.headers);
            let wanted = Count {
                limit: count.limit.saturating_add(owed),
                used: count.used.min(count.limit),
                headers: count.headers.saturating_add(owed),
            };
            let left = count.limit.saturating_sub(count.used);
            if !count.is_used_up() {
                if owed.saturating_mul(8) >= left {
                    changes.put_quota(self.home, *name, wanted);
                }
            } else if owed >= PACKET {
                // It has counted what it dropped as well, so it begins anew where it was.
                let places =
                    || self.guests.iter().filter(|(_, other)| *other == name).map(|(place, _)| place);
                places().for_each(|place| changes.delete(self.key(place)));
                changes.delete_quota(self.home, *name);
                changes.put_quota(self.home, *name, wanted);
                places().for_each(|place| changes.put_object(self.key(place), *name));
            }
        }
    }

    /// The quotas of all but these once more, for a table that is made anew.
    pub fn put_again(&self, changes: &mut Changes, plan: &Plan, all_but: &[Lease]) {
        if self.home == Home::Netdev {
            return;
        }
        for (station, quota) in self.known(plan) {
            if all_but.iter().all(|lease| lease.station() != station) {
                let places = plan.places(&station);
                Quotas::default().put(changes, &station, &places, Some(quota), std::iter::empty());
            }
        }
    }

    /// Puts each address beside the quota of its holder. What is let in to is never more than what is here: an address
    /// among the downloads keeps its quota as long as it is there.
    pub fn follow_addresses(
        &self,
        changes: &mut Changes,
        holders: &LiteMap<IpAddr, GatePlace>,
        downloads: &LiteMap<IpAddr, Option<Millis>>,
    ) {
        if self.counts.is_empty() || self.home == Home::Netdev {
            return;
        }
        for (address, holder) in holders {
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
            if !holders.contains_key(address) && !downloads.contains_key(address) {
                changes.delete(Key::CountedDownload(*address));
            }
        }
    }
}

/// Whom a map gives a quota.
fn names(elements: Vec<Element>) -> io::Result<Vec<(GatePlace, Name)>> {
    let mut found = Vec::new();
    for Element { key, object, .. } in elements {
        found.extend(GatePlace::parse(&key)?.zip(Name::parse(&object)));
    }
    Ok(found)
}
