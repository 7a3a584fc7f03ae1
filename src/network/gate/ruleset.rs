//! Our table, as text for nft and as what the kernel must answer when it is asked for it.
//!
//! Only numbers, MAC and IP addresses and checked device names are printed into scripts.

use super::chains::{chains, Chain};
use super::Plan;
use crate::config::AddressRange;
use crate::network::nftables::{self, Element, Home, Rule, Set, TABLE};
use crate::units::Millis;
use std::fmt::Write;
use std::net::IpAddr;

/// Changes whenever a rule does; it stands in each rule's comment.
const VERSION: u32 = 10;
/// How long an uploading address stays known, and how long a trusted guest's way in stays open between looks.
pub(in crate::network) const ADDRESS_TIMEOUT: Millis = Millis::from_secs(3600);

/// A set: its name and its definition in nft's words and in the kernel's (type number, key length, flags).
struct SetSpec {
    name: &'static str,
    definition: &'static str,
    key_type: u32,
    key_length: u32,
    flags: u32,
}

const INTERVAL: u32 = 0x4;
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
/// A map to named objects.
const OBJECTS: u32 = 0x40;
/// The flags that make two sets different; the others are the kernel's bookkeeping.
const COMPARED_FLAGS: u32 = 0x7f;
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const ETHER: u32 = 9;
const IFNAME: u32 = 41;

/// The type of a concatenation.
const fn pair(first: u32, second: u32) -> u32 {
    first << 6 | second
}

/// A MAC at a device: what was sold at one venue is nothing at another.
const PLACE: u32 = pair(IFNAME, ETHER);
const PLACE_LENGTH: u32 = 24;

const fn set(
    name: &'static str,
    definition: &'static str,
    key_type: u32,
    key_length: u32,
    flags: u32,
) -> SetSpec {
    SetSpec { name, definition, key_type, key_length, flags }
}

/// The names are part of the interface to what is in the kernel already: a set that changes its type must
/// get a new name.
const SETS: [SetSpec; 35] = [
    set("ifs", "type ifname;", IFNAME, 16, 0),
    set("paid_at", "type ifname . ether_addr; flags timeout;", PLACE, PLACE_LENGTH, TIMEOUT),
    set(
        "ul4_at",
        "type ifname . ether_addr . ipv4_addr; flags dynamic,timeout; size 4096;",
        pair(PLACE, IPV4),
        PLACE_LENGTH + 4,
        TIMEOUT | DYNAMIC,
    ),
    set(
        "ul6_at",
        "type ifname . ether_addr . ipv6_addr; flags dynamic,timeout; size 8192;",
        pair(PLACE, IPV6),
        PLACE_LENGTH + 16,
        TIMEOUT | DYNAMIC,
    ),
    // How fast each station takes new addresses.
    set("fresh", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    set("dl4", "type ipv4_addr; flags dynamic,timeout; size 4096;", IPV4, 4, TIMEOUT | DYNAMIC),
    set("dl6", "type ipv6_addr; flags dynamic,timeout; size 8192;", IPV6, 16, TIMEOUT | DYNAMIC),
    // Addresses of which nothing needs to be learned for the moment.
    set("recent4", "type ipv4_addr; flags dynamic,timeout; size 4096;", IPV4, 4, TIMEOUT | DYNAMIC),
    set("recent6", "type ipv6_addr; flags dynamic,timeout; size 8192;", IPV6, 16, TIMEOUT | DYNAMIC),
    // Whose bytes are counted, by MAC for what they send and by address for what they are sent.
    set("counted_at", "type ifname . ether_addr; flags timeout;", PLACE, PLACE_LENGTH, TIMEOUT),
    set("qm_at", "type ifname . ether_addr : quota;", PLACE, PLACE_LENGTH, OBJECTS),
    set("qm4", "type ipv4_addr : quota;", IPV4, 4, OBJECTS),
    set("qm6", "type ipv6_addr : quota;", IPV6, 16, OBJECTS),
    set("garden4", "type ipv4_addr; flags interval;", IPV4, 4, INTERVAL),
    set("garden6", "type ipv6_addr; flags interval;", IPV6, 16, INTERVAL),
    // What paying does not open.
    set("closed4", "type ipv4_addr; flags interval;", IPV4, 4, INTERVAL),
    set("closed6", "type ipv6_addr; flags interval;", IPV6, 16, INTERVAL),
    // How many refusals each station was told.
    set("refused_tcp", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    set("refused4", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    set("refused6", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    // Name service of unpaid guests: questions by station, from where, and answers by address.
    set("dns_udp", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    set("dns_tcp", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    set("dns_new", "type ether_addr; flags dynamic,timeout; size 4096;", ETHER, 6, TIMEOUT | DYNAMIC),
    set(
        "dns_from4",
        "type ether_addr . ipv4_addr; flags dynamic,timeout; size 4096;",
        pair(ETHER, IPV4),
        12,
        TIMEOUT | DYNAMIC,
    ),
    set(
        "dns_from6",
        "type ether_addr . ipv6_addr; flags dynamic,timeout; size 4096;",
        pair(ETHER, IPV6),
        24,
        TIMEOUT | DYNAMIC,
    ),
    set("asked4", "type ipv4_addr; flags dynamic,timeout; size 4096;", IPV4, 4, TIMEOUT | DYNAMIC),
    set("asked6", "type ipv6_addr; flags dynamic,timeout; size 4096;", IPV6, 16, TIMEOUT | DYNAMIC),
    set("answers4", "type ipv4_addr; flags dynamic,timeout; size 4096;", IPV4, 4, TIMEOUT | DYNAMIC),
    set("answers6", "type ipv6_addr; flags dynamic,timeout; size 4096;", IPV6, 16, TIMEOUT | DYNAMIC),
    // Who is let through at a low rate, its own rate, and that of each of its addresses.
    set("slow_at", "type ifname . ether_addr; flags timeout;", PLACE, PLACE_LENGTH, TIMEOUT),
    set(
        "pace_at",
        "type ifname . ether_addr; flags dynamic,timeout; size 1024;",
        PLACE,
        PLACE_LENGTH,
        TIMEOUT | DYNAMIC,
    ),
    set("pace4", "type ipv4_addr; flags dynamic,timeout; size 1024;", IPV4, 4, TIMEOUT | DYNAMIC),
    set("pace6", "type ipv6_addr; flags dynamic,timeout; size 1024;", IPV6, 16, TIMEOUT | DYNAMIC),
    set(
        "seen4",
        "type ipv4_addr . ether_addr; flags dynamic,timeout; size 4096;",
        pair(IPV4, ETHER),
        12,
        TIMEOUT | DYNAMIC,
    ),
    set(
        "seen6",
        "type ipv6_addr . ether_addr; flags dynamic,timeout; size 8192;",
        pair(IPV6, ETHER),
        24,
        TIMEOUT | DYNAMIC,
    ),
];

fn comment(chain: &Chain, number: usize) -> String {
    format!("tollgated {VERSION} {} {number}", chain.name)
}

/// The script that brings the table to `plan`, with these ranges closed, keeping every element. With `anew` the
/// table that is there is thrown away first, in the same transaction.
pub(super) fn load(plan: &Plan, counts_at: Home, closed: &[AddressRange], anew: bool) -> String {
    let mut script = format!("add table inet {TABLE}\n");
    if anew {
        let _ = write!(script, "delete table inet {TABLE}\nadd table inet {TABLE}\n");
    }
    for set in &SETS {
        let kind = if set.flags & OBJECTS == 0 { "set" } else { "map" };
        let _ = writeln!(script, "add {kind} inet {TABLE} {} {{ {} }}", set.name, set.definition);
    }
    let chains = chains(plan, counts_at);
    for Chain { name, hook, .. } in &chains {
        let _ = match hook {
            Some(hook) => {
                writeln!(script, "add chain inet {TABLE} {name} {{ {}; policy accept; }}", hook.text)
            }
            None => writeln!(script, "add chain inet {TABLE} {name}"),
        };
        let _ = writeln!(script, "flush chain inet {TABLE} {name}");
    }
    for chain in &chains {
        for (number, rule) in chain.rules.iter().enumerate() {
            let (name, comment) = (chain.name, comment(chain, number));
            let _ = writeln!(script, "add rule inet {TABLE} {name} {rule} comment \"{comment}\"");
        }
    }
    let _ = writeln!(script, "flush set inet {TABLE} ifs");
    for device in plan.devices() {
        let _ = writeln!(script, "add element inet {TABLE} ifs {{ \"{device}\" }}");
    }
    put_ranges(&mut script, GARDENS, &plan.garden);
    put_ranges(&mut script, CLOSED, closed);
    script
}

pub(super) const GARDENS: [&str; 2] = ["garden4", "garden6"];
pub(super) const CLOSED: [&str; 2] = ["closed4", "closed6"];

/// Makes these ranges all that is in the sets, of IPv4 and of IPv6.
pub(super) fn put_ranges(script: &mut String, [v4, v6]: [&str; 2], ranges: &[AddressRange]) {
    let _ = write!(script, "flush set inet {TABLE} {v4}\nflush set inet {TABLE} {v6}\n");
    for range in ranges {
        let set = if range.is_v4() { v4 } else { v6 };
        let _ = writeln!(script, "add element inet {TABLE} {set} {{ {range} }}");
    }
}

/// Whether these elements of both sets are these ranges.
pub(super) fn are_ranges(ranges: &[AddressRange], found: &[Element]) -> bool {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let ends = ranges.iter().filter_map(|range| Some((octets(range.end()?), true)));
    let starts = ranges.iter().map(|range| (octets(range.first), false));
    let mut wanted: Vec<_> = starts.chain(ends).collect();
    // nft itself says with an end at the very first address that nothing begins there.
    let is_said = |element: &&Element| !element.is_end || element.key.iter().any(|octet| *octet != 0);
    found.iter().filter(is_said).all(|element| {
        let at = wanted.iter().position(|(key, is_end)| *key == element.key && *is_end == element.is_end);
        at.map(|at| wanted.swap_remove(at)).is_some()
    }) && wanted.is_empty()
}

/// Sets of an earlier version, that knew no venues: what they hold is not true any more.
const OUTDATED: [&str; 6] = ["paid", "ul4", "ul6", "counted", "qm", "slow"];

/// Whether an earlier version made this table.
pub(super) fn is_outdated(found: &[Set]) -> bool {
    found.iter().any(|set| OUTDATED.contains(&set.name.as_str()))
}

/// Whether what the kernel has under our sets' names is what we would create. Sets that are not there yet
/// do not matter.
pub(super) fn sets_fit(found: &[Set]) -> bool {
    found.iter().all(|set| match SETS.iter().find(|spec| spec.name == set.name) {
        Some(spec) => {
            set.key_type == spec.key_type
                && set.key_length == spec.key_length
                && set.flags & COMPARED_FLAGS == spec.flags
        }
        None => true,
    })
}

/// Likewise for chains.
pub(super) fn chains_fit(plan: &Plan, counts_at: Home, found: &[nftables::KernelChain]) -> bool {
    let specs = chains(plan, counts_at);
    found.iter().all(|chain| match specs.iter().find(|spec| spec.name == chain.name) {
        Some(spec) => chain.hook == spec.hook.as_ref().map(|hook| (hook.number, hook.priority)),
        None => true,
    })
}

/// Whether all of the table is there: every set and chain, and in each chain exactly our rules in order.
pub(super) fn is_complete(
    plan: &Plan,
    counts_at: Home,
    sets: &[Set],
    found: &[nftables::KernelChain],
    rules: &[Rule],
) -> bool {
    let specs = chains(plan, counts_at);
    let has_rules = |spec: &Chain| {
        let there = rules.iter().filter(|rule| rule.chain == spec.name).map(|rule| rule.comment.clone());
        there.eq((0..spec.rules.len()).map(|number| comment(spec, number)))
    };
    sets_fit(sets)
        && chains_fit(plan, counts_at, found)
        && SETS.iter().all(|spec| sets.iter().any(|set| set.name == spec.name))
        && specs.iter().all(|spec| found.iter().any(|chain| chain.name == spec.name) && has_rules(spec))
}

/// The digests of the rules in our chains.
pub(super) fn digests(plan: &Plan, counts_at: Home, rules: &[Rule]) -> Vec<u64> {
    let specs = chains(plan, counts_at);
    rules
        .iter()
        .filter(|rule| specs.iter().any(|spec| spec.name == rule.chain))
        .map(|rule| rule.digest)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_another_type_does_not_fit_and_a_strangers_set_does_not_matter() {
        let set = |name: &str, flags, key_type, key_length| Set {
            name: name.to_owned(),
            flags,
            key_type,
            key_length,
        };
        let paid = (PLACE, PLACE_LENGTH);
        assert!(sets_fit(&[set("paid_at", 0x10, paid.0, paid.1), set("mine", 0, 1, 2)]));
        assert!(!sets_fit(&[set("paid_at", 0, paid.0, paid.1)]));
        assert!(!sets_fit(&[set("paid_at", 0x10, 7, 4)]));
        assert!(is_outdated(&[set("paid", 0x10, 9, 6)]) && !is_outdated(&[set("mine", 0, 1, 2)]));
    }

    #[test]
    fn the_table_is_never_deleted_unless_asked_for() {
        let plan = Plan::default();
        assert!(!load(&plan, Home::Inet, &[], false).contains("delete table"));
        assert!(load(&plan, Home::Inet, &[], true).contains("delete table"));
    }
}
