//! Counting bytes at the gated devices, in a table of its own: what a guest sends as it comes in, what it is sent
//! as it goes out. Nothing on the way is missed: neither a proxy on the router nor an address that is not known
//! yet. It takes a kernel that looks at packets at both ends of a device; on others the gate counts what it
//! forwards.
//!
//! Not counted is what nobody bought: discovery and DHCP, DNS at the router, our own ports, the garden.

use super::Plan;
use crate::network::devices;
use crate::network::nftables::{Rule, TABLE};
use crate::set::SortedSet;
use std::fmt::Write;
use std::net::IpAddr;

/// Changes whenever a rule does; it stands in each rule's comment.
const VERSION: u32 = 2;
/// Before the flowtables of others, which take packets away.
const FIRST: i32 = -300;
const LAST: i32 = 300;

/// Whether this kernel has both hooks: it takes such chains, and none of them stays.
pub(super) fn probe() -> String {
    let mut script = format!("add table netdev {TABLE}\n");
    for hook in ["ingress", "egress"] {
        let name = format!("tg_probe_{hook}");
        let _ = writeln!(
            script,
            "add chain netdev {TABLE} {name} {{ type filter hook {hook} device lo priority {LAST}; }}"
        );
        let _ = writeln!(script, "delete chain netdev {TABLE} {name}");
    }
    script
}

/// The gated devices that are there, each with its index, and the router's addresses on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    devices: Vec<(String, u32)>,
    own: SortedSet<IpAddr>,
}

impl Surroundings {
    pub fn look(plan: &Plan) -> Surroundings {
        let mut found = Surroundings::default();
        for name in plan.devices() {
            if let Ok(Some(device)) = devices::find(&name) {
                found.own.extend(devices::addresses(&name).unwrap_or_default());
                found.devices.push((name, device.index));
            }
        }
        found
    }
}

struct ChainSpec {
    name: &'static str,
    hook: &'static str,
    priority: i32,
    rules: Vec<String>,
}

fn chains(plan: &Plan) -> [ChainSpec; 2] {
    let ports = format!("{{ 53, {}, {}, {} }}", plan.portal_port, plan.mint_proxy_port, plan.redirect_port);
    // Neighbour discovery is with the router only. By its numbers: nft finds the names only where there is an /etc/protocols.
    const DISCOVERY: &str = "icmpv6 type 133-137 accept";
    const GARDEN: &str = "meta l4proto { tcp, udp } accept";
    let way = |address: &str, port: &str| {
        let mut rules = Vec::new();
        for (header, family, dhcp) in [("ip", 4, 67), ("ip6", 6, 547)] {
            let own = format!("{header} {address} @own{family}");
            rules.push(format!("{own} tcp {port} {ports} accept"));
            rules.push(format!("{own} udp {port} {{ 53, {dhcp} }} accept"));
            rules.push(format!("{header} {address} @garden{family} {GARDEN}"));
        }
        for router in ["fe80::/10", "@own6"] {
            rules.push(format!("ip6 {address} {router} {DISCOVERY}"));
        }
        rules
    };
    let mut comes = vec![
        // Who is not counted is done with here.
        "iifname . ether saddr != @received accept".to_owned(),
        "meta pkttype { broadcast, multicast } accept".to_owned(),
        // Tags within tags, which the kernel takes off behind this hook.
        "meta protocol { 0x8100, 0x88a8 } drop".to_owned(),
        "meta protocol != { ip, ip6 } accept".to_owned(),
    ];
    comes.extend(way("daddr", "dport"));
    comes.push("quota name iifname . ether saddr map @metered drop".to_owned());
    let mut goes = vec![
        "oifname . ether daddr != @received accept".to_owned(),
        "meta protocol != { ip, ip6 } accept".to_owned(),
    ];
    goes.extend(way("saddr", "sport"));
    goes.push("quota name oifname . ether daddr map @metered drop".to_owned());
    // Here the Ethernet header is part of the packet, which nobody bought either: so many packets had one.
    goes.push("oifname . ether daddr @received accept".to_owned());
    [
        ChainSpec { name: "tg_comes", hook: "ingress", priority: FIRST, rules: comes },
        ChainSpec { name: "tg_goes", hook: "egress", priority: LAST, rules: goes },
    ]
}

fn comment(chain: &ChainSpec, number: usize) -> String {
    format!("tollgated {VERSION} {} {number}", chain.name)
}

/// The script that brings the table to `plan`, keeping every element; without chains if nobody is counted. With
/// `anew` the table that is there is thrown away first.
pub(super) fn load(plan: &Plan, around: &Surroundings, is_needed: bool, anew: bool) -> String {
    let mut script = format!("add table netdev {TABLE}\n");
    if anew {
        let _ = write!(script, "delete table netdev {TABLE}\nadd table netdev {TABLE}\n");
    }
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(script, "{text}");
    };
    line(format_args!("add map netdev {TABLE} metered {{ type ifname . ether_addr : quota; }}"));
    line(format_args!(
        "add set netdev {TABLE} received {{ type ifname . ether_addr; flags timeout; counter; }}"
    ));
    for (family, number) in [("ipv4_addr", 4), ("ipv6_addr", 6)] {
        line(format_args!("add set netdev {TABLE} own{number} {{ type {family}; }}"));
        line(format_args!("flush set netdev {TABLE} own{number}"));
        line(format_args!("add set netdev {TABLE} garden{number} {{ type {family}; flags interval; }}"));
        line(format_args!("flush set netdev {TABLE} garden{number}"));
    }
    let number = |address: &IpAddr| if address.is_ipv4() { 4 } else { 6 };
    for own in &around.own {
        line(format_args!("add element netdev {TABLE} own{} {{ {own} }}", number(own)));
    }
    for range in &plan.garden {
        let number = number(&range.first);
        line(format_args!("add element netdev {TABLE} garden{number} {{ {range} }}"));
    }
    let devices: Vec<String> = around.devices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    for chain in chains(plan) {
        let ChainSpec { name, hook, priority, .. } = chain;
        // A chain's devices cannot be exchanged, so it is made anew each time.
        line(format_args!("add chain netdev {TABLE} {name}"));
        line(format_args!("flush chain netdev {TABLE} {name}"));
        line(format_args!("delete chain netdev {TABLE} {name}"));
        if !is_needed || devices.is_empty() {
            continue;
        }
        line(format_args!(
            "add chain netdev {TABLE} {name} {{ type filter hook {hook} devices = {{ {} }} priority {priority}; policy accept; }}",
            devices.join(", ")
        ));
        for (number, rule) in chain.rules.iter().enumerate() {
            let comment = comment(&chain, number);
            line(format_args!("add rule netdev {TABLE} {name} {rule} comment \"{comment}\""));
        }
    }
    script
}

/// The digests of the rules, if they are exactly those of the script.
pub(super) fn digests(
    plan: &Plan,
    around: &Surroundings,
    is_needed: bool,
    found: &[Rule],
) -> Option<Vec<u64>> {
    let has_chains = is_needed && !around.devices.is_empty();
    let specs = chains(plan);
    let wanted: Vec<String> = specs
        .iter()
        .filter(|_| has_chains)
        .flat_map(|spec| (0..spec.rules.len()).map(move |number| comment(spec, number)))
        .collect();
    let comments = found.iter().map(|rule| rule.comment.as_str());
    comments.eq(wanted.iter().map(String::as_str)).then(|| found.iter().map(|rule| rule.digest).collect())
}
