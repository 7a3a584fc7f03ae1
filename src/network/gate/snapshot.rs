//! The elements as the kernel has them at one moment, and what follows for the ways in: each guest's
//! addresses are reached exactly as long as the guest's session lasts.

use super::plan::Place;
use super::quota::Quotas;
use super::ruleset::{self, Key};
use super::{Lease, Plan, Station};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::network::netlink;
use crate::network::nftables::{Element, Nftables};
use crate::set::SortedSet;
use crate::units::Millis;
use litemap::LiteMap;
use std::io;
use std::net::IpAddr;

/// A way in whose end is nearer than this to the session's own is left as it is.
const TOLERANCE: Millis = Millis(500);
/// A guest may upload from any number of addresses, true or forged; so many per guest are kept open while
/// it is idle.
const ADDRESSES_PER_GUEST: usize = 64;
/// Of a device's name in a key, and of a place: parts are padded to four bytes.
const NAME: usize = 16;
const PLACE: usize = 24;

/// The elements that matter, as the kernel has them.
#[derive(Default)]
pub(super) struct Snapshot {
    pub paid: LiteMap<Place, Option<Millis>>,
    /// Who uploaded from where; the more is left, the shorter ago.
    pub uploads: LiteMap<(Place, IpAddr), Millis>,
    pub downloads: LiteMap<IpAddr, Option<Millis>>,
    pub quotas: Quotas,
    pub slow: SortedSet<Place>,
}

impl Snapshot {
    pub fn read(nft: &mut Nftables) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for Element { key, remaining, .. } in nft.elements("paid_at")? {
            if let Some(place) = place(&key)? {
                snapshot.paid.insert(place, remaining);
            }
        }
        for set in ["ul4_at", "ul6_at"] {
            for Element { key, remaining, .. } in nft.elements(set)? {
                let address = netlink::ip(netlink::after(&key, PLACE)?)?;
                if let Some(place) = place(&key)? {
                    snapshot.uploads.insert((place, address), remaining.unwrap_or_default());
                }
            }
        }
        for set in ["dl4", "dl6"] {
            for Element { key, remaining, .. } in nft.elements(set)? {
                snapshot.downloads.insert(netlink::ip(&key)?, remaining);
            }
        }
        snapshot.quotas = Quotas::read(nft)?;
        for Element { key, .. } in nft.elements("slow_at")? {
            snapshot.slow.extend(place(&key)?);
        }
        Ok(snapshot)
    }

    /// Who may pass, and for how much longer.
    pub fn passing(&self, plan: &Plan) -> LiteMap<Station, Option<Millis>> {
        let gated = self.paid.iter().filter_map(|(place, left)| Some((plan.station(place)?, *left)));
        gated.collect()
    }

    /// Who uploaded from the address last.
    pub fn holder(&self, address: IpAddr) -> Option<&Place> {
        let claims = self.uploads.iter().filter(|((_, at), _)| *at == address);
        claims.max_by_key(|(_, left)| **left).map(|((place, _), _)| place)
    }

    /// Every uploading address with who uploaded from it last.
    pub fn holders(&self) -> LiteMap<IpAddr, &Place> {
        let mut latest: LiteMap<IpAddr, (Millis, &Place)> = LiteMap::new();
        for ((place, address), left) in &self.uploads {
            let entry = latest.entry(*address).or_insert((*left, place));
            *entry = (*entry).max((*left, place));
        }
        latest.into_iter().map(|(address, (_, place))| (address, place)).collect()
    }

    /// Who is let through where the plan has no such device any more, or without end and not trusted.
    pub fn no_longer_planned<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a Place> + 'a {
        let is_planned = |(place, left): &(&Place, &Option<Millis>)| match plan.station(place) {
            Some(station) => left.is_some() || plan.is_trusted(&station),
            None => false,
        };
        self.paid.iter().filter(move |paid| !is_planned(paid)).map(|(place, _)| place)
    }
}

/// Gives each guest its lease, and the way in to its addresses the same end. `guests` are those that the
/// neighbour table knows.
pub(super) fn put_leases(
    script: &mut String,
    plan: &Plan,
    snapshot: &Snapshot,
    leases: &[Lease],
    guests: &[Caller],
) {
    // The last word on a guest counts.
    let wanted: LiteMap<Station, &Lease> = leases
        .iter()
        .map(|lease| (lease.station(), lease))
        .filter(|(station, _)| !plan.is_trusted(station))
        .collect();
    let holders = snapshot.holders();
    let mut at_places: LiteMap<Place, &Lease> = LiteMap::new();
    for (station, lease) in &wanted {
        let places = plan.places(station);
        for place in &places {
            at_places.insert(place.clone(), lease);
            let (paid, slow) = (Key::Paid(place.clone()), Key::Slow(place.clone()));
            match snapshot.paid.contains_key(place) {
                true => ruleset::put(script, &paid, lease.remaining),
                false => ruleset::put_new(script, &paid, lease.remaining),
            }
            if lease.is_slow {
                ruleset::put(script, &slow, lease.remaining);
            } else if snapshot.slow.contains(place) {
                ruleset::remove(script, &slow);
            }
        }
        let quota = lease.quota.filter(|_| lease.remaining != Millis::ZERO);
        let mut addresses: SortedSet<IpAddr> = SortedSet::new();
        if quota.is_some() {
            addresses.extend(holders.iter().filter(|(_, holder)| places.contains(holder)).map(|(at, _)| *at));
            // Who else uploaded from an address later has taken it over.
            let theirs = guests.iter().filter(|guest| places.contains(&place_of(guest)));
            addresses
                .extend(theirs.map(|guest| guest.address).filter(|address| !holders.contains_key(address)));
        }
        snapshot.quotas.put(script, station, &places, quota, addresses.iter().copied());
        for address in addresses.into_iter().take(ADDRESSES_PER_GUEST) {
            let download = Key::Download(address);
            match snapshot.downloads.contains_key(&address) {
                true => ruleset::put(script, &download, way_in(lease)),
                false => ruleset::put_new(script, &download, way_in(lease)),
            }
        }
    }
    for (address, holder) in &holders {
        if let (Some(lease), true) = (at_places.get(*holder), snapshot.downloads.contains_key(address)) {
            ruleset::put(script, &Key::Download(*address), way_in(lease));
        }
    }
}

/// The place in a set's key, which may go on behind it. `None` if its MAC cannot be a guest's.
pub(super) fn place(key: &[u8]) -> io::Result<Option<Place>> {
    let device = netlink::name(key.get(..NAME).ok_or_else(netlink::malformed)?)?;
    let mac = MacAddr::new(netlink::octets6(netlink::after(key, NAME)?)?);
    Ok(mac.ok().map(|mac| Place { device, mac }))
}

pub(super) fn place_of(guest: &Caller) -> Place {
    Place { device: guest.device.clone(), mac: guest.mac }
}

/// How long an address of the guest is reached without a packet of its own. Bytes last for months, and the
/// addresses of a phone change every day.
fn way_in(lease: &Lease) -> Millis {
    match lease.quota {
        Some(_) => lease.remaining.min(ruleset::ADDRESS_TIMEOUT),
        None => lease.remaining,
    }
}

/// Opens the way in to every known address of the guests in `leases` that has none: after the table was
/// lost, a guest that only receives would wait for the first packet, and its peer for the guest's answer.
pub(super) fn reopen_downloads(
    script: &mut String,
    plan: &Plan,
    snapshot: &Snapshot,
    leases: &[Lease],
    guests: &[Caller],
) {
    let mut sessions: LiteMap<Place, Millis> = LiteMap::new();
    for lease in leases {
        let places = plan.places(&lease.station()).into_iter();
        sessions.extend(places.map(|place| (place, way_in(lease))));
    }
    sessions.extend(plan.trusted_places().into_iter().map(|place| (place, ruleset::ADDRESS_TIMEOUT)));
    let mut opened: LiteMap<Place, usize> = LiteMap::new();
    for guest in guests.iter().filter(|guest| !snapshot.downloads.contains_key(&guest.address)) {
        let place = place_of(guest);
        let Some(remaining) = sessions.get(&place).copied() else { continue };
        let opened = opened.entry(place).or_default();
        *opened = opened.saturating_add(1);
        if *opened <= ADDRESSES_PER_GUEST {
            ruleset::put(script, &Key::Download(guest.address), remaining);
        }
    }
}

/// Brings the ends of the ways in to those of the sessions they belong to.
pub(super) fn time_downloads(script: &mut String, snapshot: &Snapshot) {
    let mut kept: LiteMap<&Place, usize> = LiteMap::new();
    for (address, holder) in snapshot.holders() {
        let now = snapshot.downloads.get(&address).copied();
        let Some(session) = snapshot.paid.get(holder) else {
            if now.is_some() {
                ruleset::remove(script, &Key::Download(address));
            }
            continue;
        };
        let is_short = |left: &Millis| *left < ruleset::ADDRESS_TIMEOUT || !snapshot.quotas.counts(holder);
        let session = session.filter(is_short);
        let kept = kept.entry(holder).or_default();
        *kept = kept.saturating_add(1);
        let wanted = session.unwrap_or(ruleset::ADDRESS_TIMEOUT);
        let is_near = match (now, session) {
            (Some(Some(now)), Some(_)) => now.max(wanted).saturating_sub(now.min(wanted)) <= TOLERANCE,
            // A trusted guest's, or one by bytes, is only renewed when half of it is gone.
            (Some(Some(now)), None) => now.saturating_add(now) >= wanted,
            (Some(None), _) | (None, _) => false,
        };
        let is_shorter = now.flatten().is_some_and(|now| now < wanted);
        if !is_near && (*kept <= ADDRESSES_PER_GUEST || !is_shorter && now.is_some()) {
            ruleset::put(script, &Key::Download(address), wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(last: u8) -> Place {
        Place { device: "br-guest".to_owned(), mac: MacAddr::new([2, 0, 0, 0, 0, last]).unwrap() }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 77, last])
    }

    fn times(snapshot: &Snapshot) -> String {
        let mut script = String::new();
        time_downloads(&mut script, snapshot);
        script
            .lines()
            .filter(|line| line.contains("add ") && !line.contains("timeout 1h }"))
            .map(|l| l.to_owned() + "\n")
            .collect()
    }

    fn snapshot(session: Option<Option<u64>>, download: Option<u64>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        if let Some(session) = session {
            snapshot.paid.insert(place(1), session.map(Millis));
        }
        snapshot.uploads.insert((place(1), address(11)), Millis(3_599_000));
        if let Some(left) = download {
            snapshot.downloads.insert(address(11), Some(Millis(left)));
        }
        snapshot
    }

    #[test]
    fn a_way_in_gets_the_end_of_its_session() {
        let line = "add element inet tollgate dl4 { 192.168.77.11 timeout 5m }\n";
        assert_eq!(times(&snapshot(Some(Some(300_000)), Some(59_000))), line);
        assert_eq!(times(&snapshot(Some(Some(300_000)), Some(400_000))), line);
        assert_eq!(times(&snapshot(Some(Some(300_000)), Some(300_100))), "");
    }

    #[test]
    fn a_way_in_to_nobody_paid_is_shut() {
        let mut script = String::new();
        time_downloads(&mut script, &snapshot(None, Some(59_000)));
        assert!(script.ends_with("delete element inet tollgate dl4 { 192.168.77.11 }\n"), "{script}");
    }

    #[test]
    fn an_address_belongs_to_who_used_it_last() {
        let mut snapshot = snapshot(Some(Some(300_000)), Some(300_000));
        snapshot.uploads.insert((place(2), address(11)), Millis(3_599_500));
        assert_eq!(snapshot.holder(address(11)), Some(&place(2)));
        assert_eq!(snapshot.holders()[&address(11)], &place(2));
    }

    #[test]
    fn a_guest_with_a_thousand_addresses_keeps_only_some_open_when_idle() {
        let mut snapshot = snapshot(Some(Some(300_000)), None);
        for n in 0..=255 {
            let address = IpAddr::from([10, 0, 0, n]);
            snapshot.uploads.insert((place(1), address), Millis(1));
            snapshot.downloads.insert(address, Some(Millis(59_000)));
        }
        assert_eq!(times(&snapshot).lines().count(), ADDRESSES_PER_GUEST);
    }
}
