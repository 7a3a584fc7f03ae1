//! Our table, as text for nft and as what the kernel must answer when it is asked for it.
//!
//! Only numbers, MAC and IP addresses and checked device names are printed into scripts.

use super::{Plan, MARK, SLOW};
use crate::config::AddressRange;
use crate::network::nftables::{Chain, Element, Rule, Set, TABLE};
use crate::units::Millis;
use std::fmt::Write;
use std::net::IpAddr;

/// Changes whenever a rule does; it stands in each rule's comment.
const VERSION: u32 = 5;
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
const SETS: [SetSpec; 18] = [
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
    // Whose bytes are counted, by MAC for what they send and by address for what they are sent.
    set("counted_at", "type ifname . ether_addr; flags timeout;", PLACE, PLACE_LENGTH, TIMEOUT),
    set("qm_at", "type ifname . ether_addr : quota;", PLACE, PLACE_LENGTH, OBJECTS),
    set("qm4", "type ipv4_addr : quota;", IPV4, 4, OBJECTS),
    set("qm6", "type ipv6_addr : quota;", IPV6, 16, OBJECTS),
    set("garden4", "type ipv4_addr; flags interval;", IPV4, 4, INTERVAL),
    set("garden6", "type ipv6_addr; flags interval;", IPV6, 16, INTERVAL),
    // Who is let through at a low rate, and the rate of each of its addresses.
    set("slow_at", "type ifname . ether_addr; flags timeout;", PLACE, PLACE_LENGTH, TIMEOUT),
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

/// A base chain with its rules.
struct ChainSpec {
    name: &'static str,
    definition: &'static str,
    hook: u32,
    priority: i32,
    rules: Vec<String>,
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

fn chains(plan: &Plan) -> Vec<ChainSpec> {
    let (portal, mint_proxy, redirect) = (plan.portal_port, plan.mint_proxy_port, plan.redirect_port);
    let (bit, others) = (format!("{MARK:#010x}"), format!("{:#010x}", !MARK));
    let unpaid = format!("iifname @ifs meta mark & {bit} == 0");
    // Not "unicast": without a route for an IPv6 address its type is "unreachable", and those guests shall
    // see the portal as well.
    const ROUTER: &str = "{ local, broadcast, multicast, anycast }";
    // The sets of addresses have so many places. A station that forged its addresses could take them all, and
    // who pays after that would get no answers.
    const TOO_MANY: &str =
        "update @fresh { ether saddr timeout 1h limit rate over 2/minute burst 128 packets } drop";
    // Three seconds after a guest's last packet as a slow one its addresses are as fast as any.
    let pace = format!("timeout 3s limit rate over {} kbytes/second burst 64 kbytes", SLOW / 1024);
    vec![
        ChainSpec {
            name: "tg_mark",
            definition: "type filter hook prerouting priority mangle; policy accept;",
            hook: PREROUTING,
            priority: -150,
            rules: vec![
                format!("iifname @ifs meta mark set meta mark & {others}"),
                format!("iifname . ether saddr @paid_at meta mark set meta mark | {bit}"),
                format!("iifname @ifs ip daddr @garden4 {SERVED} meta mark set meta mark | {bit}"),
                format!("iifname @ifs ip6 daddr @garden6 {SERVED} meta mark set meta mark | {bit}"),
            ],
        },
        ChainSpec {
            name: "tg_dstnat",
            definition: "type nat hook prerouting priority dstnat - 1; policy accept;",
            hook: PREROUTING,
            priority: -101,
            rules: vec![format!("{unpaid} fib daddr type != {ROUTER} tcp dport 80 redirect to :{redirect}")],
        },
        // Behind the second lock a forward chain would never see these packets, so they are refused here.
        ChainSpec {
            name: "tg_unpaid",
            definition: "type filter hook prerouting priority dstnat + 5; policy accept;",
            hook: PREROUTING,
            priority: -95,
            rules: vec![
                "iifname != @ifs accept".to_owned(),
                format!("meta mark & {bit} != 0 accept"),
                format!("fib daddr type {ROUTER} accept"),
                "meta l4proto tcp reject with tcp reset".to_owned(),
                // ICMPv6 by its number: nft finds the name only where there is an /etc/protocols.
                "meta l4proto != 58 reject with icmpx type admin-prohibited".to_owned(),
            ],
        },
        // Established only: a forged first packet is no witness.
        ChainSpec {
            name: "tg_seen",
            definition: "type filter hook input priority filter - 5; policy accept;",
            hook: INPUT,
            priority: -5,
            rules: [("ipv4", "seen4", "ip"), ("ipv6", "seen6", "ip6")]
                .map(|(family, set, header)| {
                    format!(
                        "iifname @ifs meta nfproto {family} tcp dport {{ {portal}, {mint_proxy}, {redirect} }} \
                         ct state established update @{set} {{ {header} saddr . ether saddr timeout 10m }}"
                    )
                })
                .to_vec(),
        },
        ChainSpec {
            name: "tg_forward",
            definition: "type filter hook forward priority filter - 5; policy accept;",
            hook: FORWARD,
            priority: -5,
            rules: vec![
                format!("{unpaid} drop"),
                // The garden is for everybody and counts for nobody; nothing there begins a conversation.
                format!("iifname @ifs oifname != @ifs ip daddr @garden4 {SERVED} accept"),
                format!("iifname @ifs oifname != @ifs ip6 daddr @garden6 {SERVED} accept"),
                format!("iifname != @ifs oifname @ifs ip saddr @garden4 {SERVED} ct state established accept"),
                format!("iifname != @ifs oifname @ifs ip6 saddr @garden6 {SERVED} ct state established accept"),
                // From here on the mark alone, which the garden gives as well, is not enough.
                "iifname @ifs iifname . ether saddr != @paid_at drop".to_owned(),
                format!("iifname @ifs meta nfproto ipv4 iifname . ether saddr . ip saddr != @ul4_at {TOO_MANY}"),
                format!("iifname @ifs meta nfproto ipv6 iifname . ether saddr . ip6 saddr != @ul6_at {TOO_MANY}"),
                format!("iifname . ether saddr @slow_at update @pace4 {{ ip saddr {pace} }} drop"),
                format!("iifname . ether saddr @slow_at update @pace6 {{ ip6 saddr {pace} }} drop"),
                format!("oifname @ifs ip daddr @pace4 add @pace4 {{ ip daddr {pace} }} drop"),
                format!("oifname @ifs ip6 daddr @pace6 add @pace6 {{ ip6 daddr {pace} }} drop"),
                // Drops what is beyond the guest's bytes; who is not in the map is not concerned.
                "iifname @ifs quota name iifname . ether saddr map @qm_at drop".to_owned(),
                "iifname @ifs meta nfproto ipv4 update @ul4_at { iifname . ether saddr . ip saddr timeout 1h }"
                    .to_owned(),
                "iifname @ifs meta nfproto ipv6 update @ul6_at { iifname . ether saddr . ip6 saddr timeout 1h }"
                    .to_owned(),
                // "add" leaves the end of an element that is there alone. Where bytes are counted an address is
                // let in to only when it stands beside the guest's quota.
                "iifname @ifs meta nfproto ipv4 iifname . ether saddr != @counted_at add @dl4 { ip saddr timeout 60s }"
                    .to_owned(),
                "iifname @ifs meta nfproto ipv6 iifname . ether saddr != @counted_at add @dl6 { ip6 saddr timeout 60s }"
                    .to_owned(),
                "oifname @ifs quota name ip daddr map @qm4 drop".to_owned(),
                "oifname @ifs quota name ip6 daddr map @qm6 drop".to_owned(),
                "oifname @ifs ip daddr @dl4 accept".to_owned(),
                "oifname @ifs ip6 daddr @dl6 accept".to_owned(),
                "oifname @ifs drop".to_owned(),
            ],
        },
    ]
}

/// What is answered by the garden's servers.
const SERVED: &str = "meta l4proto { tcp, udp }";

fn comment(chain: &ChainSpec, number: usize) -> String {
    format!("tollgated {VERSION} {} {number}", chain.name)
}

/// The script that brings the table to `plan`, keeping every element. With `anew` the table that is there
/// is thrown away first, in the same transaction.
pub(super) fn load(plan: &Plan, anew: bool) -> String {
    let mut script = format!("add table inet {TABLE}\n");
    if anew {
        let _ = write!(script, "delete table inet {TABLE}\nadd table inet {TABLE}\n");
    }
    for set in &SETS {
        let kind = if set.flags & OBJECTS == 0 { "set" } else { "map" };
        let _ = writeln!(script, "add {kind} inet {TABLE} {} {{ {} }}", set.name, set.definition);
    }
    for chain in chains(plan) {
        let name = chain.name;
        let _ = writeln!(script, "add chain inet {TABLE} {name} {{ {} }}", chain.definition);
        let _ = writeln!(script, "flush chain inet {TABLE} {name}");
        for (number, rule) in chain.rules.iter().enumerate() {
            let comment = comment(&chain, number);
            let _ = writeln!(script, "add rule inet {TABLE} {name} {rule} comment \"{comment}\"");
        }
    }
    let _ = writeln!(script, "flush set inet {TABLE} ifs");
    for device in plan.devices() {
        let _ = writeln!(script, "add element inet {TABLE} ifs {{ \"{device}\" }}");
    }
    for set in GARDENS {
        let _ = writeln!(script, "flush set inet {TABLE} {set}");
    }
    for range in &plan.garden {
        let (set, AddressRange { first, last }) = (garden_set(*range), range);
        let _ = match first == last {
            true => writeln!(script, "add element inet {TABLE} {set} {{ {first} }}"),
            false => writeln!(script, "add element inet {TABLE} {set} {{ {first}-{last} }}"),
        };
    }
    script
}

pub(super) const GARDENS: [&str; 2] = ["garden4", "garden6"];

fn garden_set(range: AddressRange) -> &'static str {
    match range.is_v4() {
        true => "garden4",
        false => "garden6",
    }
}

/// Whether these elements of both gardens are the ranges of the plan.
pub(super) fn is_garden(plan: &Plan, found: &[Element]) -> bool {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let ends = plan.garden.iter().filter_map(|range| Some((octets(range.end()?), true)));
    let starts = plan.garden.iter().map(|range| (octets(range.first), false));
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
pub(super) fn chains_fit(plan: &Plan, found: &[Chain]) -> bool {
    let specs = chains(plan);
    found.iter().all(|chain| match specs.iter().find(|spec| spec.name == chain.name) {
        Some(spec) => chain.hook == Some((spec.hook, spec.priority)),
        None => true,
    })
}

/// Whether all of the table is there: every set and chain, and in each chain exactly our rules in order.
pub(super) fn is_complete(plan: &Plan, sets: &[Set], found: &[Chain], rules: &[Rule]) -> bool {
    let specs = chains(plan);
    let has_rules = |spec: &ChainSpec| {
        let there = rules.iter().filter(|rule| rule.chain == spec.name).map(|rule| rule.comment.clone());
        there.eq((0..spec.rules.len()).map(|number| comment(spec, number)))
    };
    sets_fit(sets)
        && chains_fit(plan, found)
        && SETS.iter().all(|spec| sets.iter().any(|set| set.name == spec.name))
        && specs.iter().all(|spec| found.iter().any(|chain| chain.name == spec.name) && has_rules(spec))
}

/// The digests of the rules in our chains.
pub(super) fn digests(plan: &Plan, rules: &[Rule]) -> Vec<u64> {
    let specs = chains(plan);
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
        assert!(!load(&plan, false).contains("delete table"));
        assert!(load(&plan, true).contains("delete table"));
    }
}
