//! The kernel's own count of what guests by bytes use: one quota per guest, for both directions and all of
//! its addresses, IPv4 and IPv6. It cuts to the packet, also while the daemon hangs or is dead, and it
//! remembers over a restart of the daemon.
//!
//! What a guest sends is found by its MAC. What it is sent is found by address, so nothing is let in to an
//! address of such a guest (`counted`) before the daemon has put it beside the quota.

use super::ruleset::{self, Key};
use super::snapshot::Snapshot;
use super::{Lease, Quota, Usage};
use crate::mac::MacAddr;
use crate::network::netlink;
use crate::network::nftables::{Element, Nftables, TABLE};
use crate::set::SortedSet;
use crate::units::Allotment;
use litemap::LiteMap;
use std::fmt::{self, Write};
use std::io;
use std::net::IpAddr;

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
    counts: LiteMap<Name, Count>,
    guests: LiteMap<MacAddr, Name>,
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
        for Element { key, .. } in nft.elements("counted")? {
            let_in_by_us.insert(netlink::octets6(&key)?);
        }
        for Element { key, object, .. } in nft.elements("qm")? {
            let octets = netlink::octets6(&key)?;
            if let (Ok(mac), Some(name), true) =
                (MacAddr::new(octets), Name::parse(&object), let_in_by_us.contains(&octets))
            {
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
        Ok(quotas)
    }

    /// The sessions that are counted, as the kernel knows them.
    pub fn known(&self) -> LiteMap<MacAddr, Quota> {
        let counts = self.guests.iter().filter_map(|(mac, name)| Some((mac, name, self.counts.get(name)?)));
        counts
            .map(|(mac, name, count)| {
                let (allotment, used) = (Allotment(count.limit), Allotment(count.used.min(count.limit)));
                (*mac, Quota { session: name.session, allotment, used })
            })
            .collect()
    }

    /// What each session has used.
    pub fn usage(&self) -> Usage {
        self.known().into_iter().map(|(mac, quota)| (mac, (quota.session, quota.used))).collect()
    }

    pub fn counts(&self, mac: MacAddr) -> bool {
        self.guests.get(&mac).is_some_and(|name| self.counts.contains_key(name))
    }

    /// Makes `wanted` the only quota of this guest, for these addresses besides those that it has.
    pub fn put(
        &self,
        script: &mut String,
        mac: MacAddr,
        wanted: Option<Quota>,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let Some(quota) = wanted else {
            self.remove(script, mac);
            return;
        };
        let name = Name { mac, session: quota.session };
        let count = self.counts.get(&name);
        // One that is used up also counts what it drops, and none of that shall be charged later.
        let kept =
            count.is_some_and(|count| count.used < count.limit) && self.guests.get(&mac) == Some(&name);
        let limit = quota.allotment.0;
        if kept {
            // A change of the limit leaves the count alone.
            let _ = writeln!(script, "add quota inet {TABLE} {name} {{ over {limit} bytes }}");
        } else {
            self.remove(script, mac);
            let used = quota.used.0.max(count.map_or(0, |count| count.used));
            let _ =
                writeln!(script, "add quota inet {TABLE} {name} {{ over {limit} bytes used {used} bytes }}");
            ruleset::put_object(script, Key::Counted(mac), &name);
            ruleset::put_new_for_good(script, Key::LetInByUs(mac));
        }
        for address in addresses {
            match self.addresses.get(&address) {
                Some(now) if kept && *now == name => continue,
                // What pointed to an older quota of this guest is gone already.
                Some(now) if now.mac != mac => ruleset::delete(script, Key::CountedDownload(address)),
                _ => {}
            }
            ruleset::put_object(script, Key::CountedDownload(address), &name);
        }
    }

    /// Takes every quota of a guest away.
    pub fn remove(&self, script: &mut String, mac: MacAddr) {
        if !self.guests.contains_key(&mac) && !self.counts.keys().any(|name| name.mac == mac) {
            return;
        }
        ruleset::remove(script, Key::LetInByUs(mac));
        if self.guests.contains_key(&mac) {
            ruleset::delete(script, Key::Counted(mac));
        }
        for (address, _) in self.addresses.iter().filter(|(_, name)| name.mac == mac) {
            ruleset::delete(script, Key::CountedDownload(*address));
        }
        for name in self.counts.keys().filter(|name| name.mac == mac) {
            let _ = writeln!(script, "delete quota inet {TABLE} {name}");
        }
    }

    /// The quotas of all but these once more, for a table that is made anew.
    pub fn put_again(&self, script: &mut String, all_but: &[Lease]) {
        for (mac, quota) in self.known() {
            if all_but.iter().all(|lease| lease.mac != mac) {
                Quotas::default().put(script, mac, Some(quota), std::iter::empty());
            }
        }
    }

    /// Puts each address beside the quota of who uses it now. What is let in to is never more than what is here.
    pub fn follow_addresses(&self, script: &mut String, snapshot: &Snapshot) {
        if self.counts.is_empty() {
            return;
        }
        let holders = snapshot.holders();
        for (address, holder) in &holders {
            let now = self.addresses.get(address);
            let name = self.guests.get(holder).filter(|_| self.counts(*holder));
            if now == name {
                continue;
            }
            if now.is_some() {
                ruleset::delete(script, Key::CountedDownload(*address));
            }
            if let Some(name) = name {
                ruleset::put_object(script, Key::CountedDownload(*address), name);
            }
        }
        for address in self.addresses.keys() {
            if !holders.contains_key(address) && !snapshot.downloads.contains_key(address) {
                ruleset::delete(script, Key::CountedDownload(*address));
            }
        }
    }
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
