//! The elements as the kernel has them at one moment, and what follows for the ways in: each guest's
//! addresses are reached exactly as long as the guest's session lasts.

use super::changes::{Change, Changes, Key};
use super::plan::GatePlace;
use super::quota::Quotas;
use super::ruleset;
use super::{Lease, Plan, Station};
use crate::network::neighbours::{self, Caller};
use crate::network::netlink;
use crate::network::nftables::{Element, Nftables};
use crate::set::SortedSet;
use crate::units::Millis;
use litemap::LiteMap;
use std::io;
use std::net::IpAddr;

/// A way in whose end is nearer than this to the session's own is left as it is.
const TOLERANCE: Millis = Millis(500);
/// A guest may upload from any number of addresses, true or forged; at most this many per guest are kept open while
/// it is idle.
const ADDRESSES_PER_GUEST: usize = 64;

/// The elements that matter, as the kernel has them.
#[derive(Default)]
pub(super) struct Snapshot {
    pub paid: LiteMap<GatePlace, Option<Millis>>,
    /// Who uploaded from where; the more is left, the shorter ago.
    pub uploads: LiteMap<(GatePlace, IpAddr), Millis>,
    /// Every uploading address with whose it is.
    pub holders: LiteMap<IpAddr, GatePlace>,
    pub downloads: LiteMap<IpAddr, Option<Millis>>,
    pub quotas: Quotas,
    pub slow: SortedSet<GatePlace>,
}

impl Snapshot {
    /// As it is now; see [`Quotas::read`].
    pub fn read(nft: &mut Nftables, before: &Quotas) -> io::Result<Snapshot> {
        let mut paid = Vec::new();
        for Element { key, remaining, .. } in nft.elements("paid_at")? {
            paid.extend(GatePlace::parse(&key)?.map(|place| (place, remaining)));
        }
        let mut downloads = Vec::new();
        for set in ["dl4", "dl6"] {
            for Element { key, remaining, .. } in nft.elements(set)? {
                downloads.push((netlink::ip(&key)?, remaining));
            }
        }
        let mut slow = Vec::new();
        for Element { key, .. } in nft.elements("slow_at")? {
            slow.extend(GatePlace::parse(&key)?);
        }
        let mut snapshot = Snapshot {
            paid: paid.into_iter().collect(),
            downloads: downloads.into_iter().collect(),
            quotas: Quotas::read(nft, before)?,
            slow: slow.into_iter().collect(),
            ..Snapshot::default()
        };
        snapshot.read_uploads(nft)?;
        Ok(snapshot)
    }

    /// Reads once more who uploaded from where.
    pub fn read_uploads(&mut self, nft: &mut Nftables) -> io::Result<()> {
        let mut uploads = Vec::new();
        for set in ["ul4_at", "ul6_at"] {
            for Element { key, remaining, .. } in nft.elements(set)? {
                let address = netlink::ip(netlink::after(&key, GatePlace::LENGTH)?)?;
                let place = GatePlace::parse(&key)?;
                uploads.extend(place.map(|place| ((place, address), remaining.unwrap_or_default())));
            }
        }
        self.put_uploads(uploads, neighbours_on);
        Ok(())
    }

    fn put_uploads(
        &mut self,
        uploads: Vec<((GatePlace, IpAddr), Millis)>,
        neighbours: impl Fn(&str) -> Vec<Caller>,
    ) {
        self.uploads = uploads.into_iter().collect();
        let mut claims: Vec<(&Millis, IpAddr, &GatePlace)> =
            self.uploads.iter().map(|((place, address), left)| (left, *address, place)).collect();
        claims.sort();
        let count = claims.len();
        // The last claim on an address counts.
        self.holders = claims.into_iter().map(|(_, address, place)| (address, place.clone())).collect();
        if self.holders.len() == count {
            return;
        }
        // But anybody can send from another's address: it is whose packets to it go to, as far as that is known.
        let devices: SortedSet<&str> = self.uploads.keys().map(|(place, _)| place.device.as_str()).collect();
        for caller in devices.iter().flat_map(|device| neighbours(device)) {
            let place = place_of(&caller);
            if self.uploads.contains_key(&(place.clone(), caller.address)) {
                self.holders.insert(caller.address, place);
            }
        }
    }

    /// The addresses that this place holds.
    fn held_by<'a>(&'a self, place: &'a GatePlace) -> impl Iterator<Item = IpAddr> + 'a {
        let uploads = self.uploads.as_slice();
        let start = uploads.partition_point(|((other, _), _)| other < place);
        let own = uploads.get(start..).unwrap_or_default().iter().take_while(move |((at, _), _)| at == place);
        own.map(|((_, address), _)| *address).filter(|address| self.holders.get(address) == Some(place))
    }

    /// What the kernel has after these changes. Packets make and renew elements of their own.
    pub fn take_in(&mut self, changes: &Changes) {
        for change in changes.iter() {
            match change {
                Change::Add { key: Key::Paid(place), timeout, .. } => {
                    self.paid.insert(place.clone(), *timeout);
                }
                Change::Delete(Key::Paid(place)) => {
                    self.paid.remove(place);
                }
                Change::Add { key: Key::Slow(place), .. } => {
                    self.slow.insert(place.clone());
                }
                Change::Delete(Key::Slow(place)) => {
                    self.slow.remove(place);
                }
                Change::Add { key: Key::Download(address), timeout, .. } => {
                    self.downloads.insert(*address, *timeout);
                }
                Change::Delete(Key::Download(address)) => {
                    self.downloads.remove(address);
                }
                Change::Delete(Key::Upload(place, address)) => {
                    self.uploads.remove(&(place.clone(), *address));
                    if self.holders.get(address) == Some(place) {
                        self.holders.remove(address);
                    }
                }
                change => self.quotas.take_in(change),
            }
        }
    }

    /// The stations that may pass, and for how much longer.
    pub fn passing(&self, plan: &Plan) -> LiteMap<Station, Option<Millis>> {
        let gated = self.paid.iter().filter_map(|(place, left)| Some((plan.station(place)?, *left)));
        gated.collect()
    }

    /// The places that are let through although the plan has no such device any more, or without end and not trusted.
    pub fn no_longer_planned<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a GatePlace> + 'a {
        let is_planned = |(place, left): &(&GatePlace, &Option<Millis>)| match plan.station(place) {
            Some(station) => left.is_some() || plan.is_trusted(&station),
            None => false,
        };
        self.paid.iter().filter(move |paid| !is_planned(paid)).map(|(place, _)| place)
    }
}

fn neighbours_on(device: &str) -> Vec<Caller> {
    neighbours::guests_on(device).unwrap_or_default()
}

/// Gives each guest its lease, and the way in to its addresses the same end. `guests` are those that the
/// neighbour table knows.
pub(super) fn put_leases(
    changes: &mut Changes,
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
    for (station, lease) in &wanted {
        let places = plan.places(station);
        let quota = lease.quota.filter(|_| lease.remaining != Millis::ZERO);
        let mut let_in: SortedSet<IpAddr> = places.iter().flat_map(|place| snapshot.held_by(place)).collect();
        for place in &places {
            let (paid, slow) = (Key::Paid(place.clone()), Key::Slow(place.clone()));
            match snapshot.paid.contains_key(place) {
                true => changes.put(paid, lease.remaining),
                false => changes.put_new(paid, lease.remaining),
            }
            if lease.is_slow {
                changes.put(slow, lease.remaining);
            } else if snapshot.slow.contains(place) {
                changes.remove(slow);
            }
        }
        if quota.is_some() {
            let theirs = guests.iter().filter(|guest| places.contains(&place_of(guest)));
            // Who else uploaded from an address later has taken it over.
            let free = theirs.filter(|guest| !snapshot.holders.contains_key(&guest.address));
            let_in.extend(free.map(|guest| guest.address));
        } else {
            let_in.retain(|address| snapshot.downloads.contains_key(address));
        }
        snapshot.quotas.put(changes, station, &places, quota, let_in.iter().copied());
        // All of those that are open get the new end.
        let (open, closed): (Vec<IpAddr>, Vec<IpAddr>) =
            let_in.into_iter().partition(|address| snapshot.downloads.contains_key(address));
        let room = ADDRESSES_PER_GUEST.saturating_sub(open.len());
        for address in open.into_iter().chain(closed.into_iter().take(room)) {
            changes.put(Key::Download(address), way_in(lease));
        }
    }
}

pub(super) fn place_of(guest: &Caller) -> GatePlace {
    GatePlace { device: guest.device.clone(), mac: guest.mac }
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
    changes: &mut Changes,
    plan: &Plan,
    snapshot: &Snapshot,
    leases: &[Lease],
    guests: &[Caller],
) {
    let mut sessions: LiteMap<GatePlace, Millis> = LiteMap::new();
    for lease in leases {
        let places = plan.places(&lease.station()).into_iter();
        sessions.extend(places.map(|place| (place, way_in(lease))));
    }
    sessions.extend(plan.trusted_places().into_iter().map(|place| (place, ruleset::ADDRESS_TIMEOUT)));
    let mut opened: LiteMap<GatePlace, usize> = LiteMap::new();
    for guest in guests.iter().filter(|guest| !snapshot.downloads.contains_key(&guest.address)) {
        let place = place_of(guest);
        let Some(remaining) = sessions.get(&place).copied() else { continue };
        let opened = opened.entry(place).or_default();
        *opened = opened.saturating_add(1);
        if *opened <= ADDRESSES_PER_GUEST {
            changes.put(Key::Download(guest.address), remaining);
        }
    }
}

/// Brings the ends of the ways in to those of the sessions they belong to.
pub(super) fn time_downloads(changes: &mut Changes, snapshot: &Snapshot) {
    let mut kept: LiteMap<&GatePlace, usize> = LiteMap::new();
    for (address, holder) in &snapshot.holders {
        let now = snapshot.downloads.get(address).copied();
        let Some(session) = snapshot.paid.get(holder) else {
            if now.is_some() {
                changes.remove(Key::Download(*address));
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
            changes.put(Key::Download(*address), wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::MacAddr;

    fn place(last: u8) -> GatePlace {
        GatePlace { device: "br-guest".to_owned(), mac: MacAddr::new([2, 0, 0, 0, 0, last]).unwrap() }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 77, last])
    }

    fn times(snapshot: &Snapshot) -> String {
        let mut changes = Changes::default();
        time_downloads(&mut changes, snapshot);
        let script = changes.script();
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
        snapshot.put_uploads(vec![((place(1), address(11)), Millis(3_599_000))], |_| vec![]);
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
        let mut changes = Changes::default();
        time_downloads(&mut changes, &snapshot(None, Some(59_000)));
        let script = changes.script();
        assert!(script.ends_with("delete element inet tollgate dl4 { 192.168.77.11 }\n"), "{script}");
    }

    #[test]
    fn an_address_belongs_to_who_is_its_neighbour_or_else_used_it_last() {
        let mut snapshot = snapshot(Some(Some(300_000)), Some(300_000));
        let claims = || {
            vec![
                ((place(2), address(11)), Millis(3_599_500)),
                ((place(1), address(11)), Millis(3_599_000)),
                ((place(1), address(12)), Millis(3_599_000)),
            ]
        };
        let held = |snapshot: &Snapshot| snapshot.held_by(&place(1)).collect::<Vec<_>>();
        snapshot.put_uploads(claims(), |_| vec![]);
        assert_eq!((&snapshot.holders[&address(11)], held(&snapshot)), (&place(2), vec![address(12)]));
        let neighbour = |last, address| {
            let GatePlace { device, mac } = place(last);
            Caller { mac, address, device }
        };
        snapshot.put_uploads(claims(), |_| vec![neighbour(1, address(11)), neighbour(2, address(12))]);
        assert_eq!(
            held(&snapshot),
            [address(11), address(12)],
            "the neighbour of .12 has never sent from it"
        );
    }

    #[test]
    fn a_guest_with_a_thousand_addresses_keeps_only_some_open_when_idle() {
        let mut snapshot = snapshot(Some(Some(300_000)), None);
        let many = || (0..=255).map(|n| IpAddr::from([10, 0, 0, n]));
        snapshot.put_uploads(many().map(|address| ((place(1), address), Millis(1))).collect(), |_| vec![]);
        snapshot.downloads.extend(many().map(|address| (address, Some(Millis(59_000)))));
        assert_eq!(times(&snapshot).lines().count(), ADDRESSES_PER_GUEST);
    }
}
