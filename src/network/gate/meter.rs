//! Counting bytes at the gated devices, in a table of its own: what a guest sends as it comes in, what it is sent
//! as it goes out. Nothing on the way is missed: neither a proxy on the router nor an address that is not known
//! yet. It takes a kernel that looks at packets at both ends of a device; on others the gate counts what it
//! forwards.
//!
//! Not counted is what is not sold: discovery and DHCP, DNS at the router, our own ports, the garden.

use super::chains::pace;
use super::{Plan, MARK};
use crate::network::devices;
use crate::network::nftables::{Rule, TABLE};
use crate::set::SortedSet;
use std::fmt::Write;
use std::net::IpAddr;

/// Changes whenever a rule does; it stands in each rule's comment.
const VERSION: u32 = 5;
/// Before the flowtables of others, which take packets away.
const FIRST: i32 = -300;
const LAST: i32 = 300;
/// A packet with a tag is on its way to or from the device of that VLAN, which looks at it itself. A tag of no VLAN (0)
/// is only a priority.
const OF_A_VLAN: &str = "@ll,96,16 { 0x8100, 0x88a8 } @ll,112,16 & 0x0fff != 0 accept";

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
    name: String,
    /// Where the kernel calls it; `None` for one that others go to.
    hook: Option<(&'static str, i32)>,
    rules: Vec<String>,
}

/// One way through a device, in nft's words.
struct Way {
    name: &'static str,
    /// The guest's device.
    station: &'static str,
    /// The router's address and port.
    address: &'static str,
    port: &'static str,
    /// The rate up to which name service is free.
    names: &'static str,
}

const COMES: Way = Way {
    name: "comes",
    station: "iifname . ether saddr",
    address: "daddr",
    port: "dport",
    names: "2 kbytes/second burst 64 kbytes",
};
const GOES: Way = Way {
    name: "goes",
    station: "oifname . ether daddr",
    address: "saddr",
    port: "sport",
    names: "8 kbytes/second burst 256 kbytes",
};

/// Each stands behind those that it goes to.
fn chains(plan: &Plan) -> Vec<ChainSpec> {
    let base = |way: &Way, hook, priority, rules| ChainSpec {
        name: format!("tg_{}", way.name),
        hook: Some((hook, priority)),
        rules,
    };
    let quota = |way: &Way| format!("quota name {} map @metered drop", way.station);
    let mut chains = ways(plan, &COMES, &[quota(&COMES)]);
    let rules = vec![
        OF_A_VLAN.to_owned(),
        // A guest who is not counted is done with here.
        format!("{} != @received accept", COMES.station),
        "meta pkttype { broadcast, multicast } accept".to_owned(),
        // Tags within tags the kernel takes off behind this hook.
        "meta protocol vmap { ip : goto tg_comes4, ip6 : goto tg_comes6, 0x8100 : drop, 0x88a8 : drop }"
            .to_owned(),
    ];
    chains.push(base(&COMES, "ingress", FIRST, rules));

    // At this hook a packet includes its Ethernet header, which is not sold. This counts the packets that had one.
    let header = format!("{} @received accept", GOES.station);
    chains.extend(ways(plan, &GOES, &[quota(&GOES), header]));
    // A guest itself says which MAC its address has. Forwarded packets go only to a MAC that may have them.
    let stray = vec![
        format!("meta mark & {MARK:#010x} == 0 accept"),
        format!("{} @let_in accept", GOES.station),
        "drop".to_owned(),
    ];
    chains.push(ChainSpec { name: "tg_stray".to_owned(), hook: None, rules: stray });
    let rules = vec![
        OF_A_VLAN.to_owned(),
        format!("{} != @received goto tg_stray", GOES.station),
        "meta protocol vmap { ip : goto tg_goes4, ip6 : goto tg_goes6 }".to_owned(),
    ];
    chains.push(base(&GOES, "egress", LAST, rules));
    chains
}

/// The chains for one way: what is between the guest and the router, and by family the `quota` of all that was
/// bought.
fn ways(plan: &Plan, way: &Way, quota: &[String]) -> Vec<ChainSpec> {
    let served = plan.served_ports();
    let Way { name, station, address, port, names: rate } = way;
    let pace = pace();
    let names = |protocol: &str| {
        // Above this rate it is charged like other traffic: tunnels use name servers.
        format!(
            "{protocol} {port} 53 update @names_{name} {{ {station} timeout 1m limit rate over {rate} }} return"
        )
    };
    let own = vec![
        names("tcp"),
        names("udp"),
        format!("tcp {port} {{ 53, {served} }} accept"),
        format!("meta protocol ip udp {port} {{ 53, 67 }} accept"),
        format!("meta protocol ip6 udp {port} {{ 53, 547 }} accept"),
        // The router's own messages are not sold, and any station can cause them to be sent to another one.
        "meta l4proto { 1, 58 } accept".to_owned(),
        "tcp flags & rst == rst accept".to_owned(),
    ];
    let family = |header: &str, digit: char| {
        let mut rules = vec![format!("{header} {address} @own{digit} jump tg_{name}_own")];
        if plan.has_garden(digit == '4') {
            rules.push(format!("{header} {address} @garden{digit} meta l4proto {{ tcp, udp }} accept"));
        }
        if digit == '6' {
            rules.push(format!("ip6 {address} fe80::/10 icmpv6 type 133-137 accept"));
        }
        if plan.gives_grace {
            // Before what is charged, so that what is dropped costs nothing.
            rules.push(format!("{station} @slow update @pace {{ {station} {pace} }} drop"));
        }
        rules.extend_from_slice(quota);
        ChainSpec { name: format!("tg_{name}{digit}"), hook: None, rules }
    };
    vec![
        ChainSpec { name: format!("tg_{name}_own"), hook: None, rules: own },
        family("ip", '4'),
        family("ip6", '6'),
    ]
}

fn comment(chain: &ChainSpec, number: usize) -> String {
    format!("tollgated {VERSION} {} {number}", chain.name)
}

/// The script that brings the table to `plan`, keeping every element; without chains if no guest is counted. With
/// `anew` it first removes the table that is there.
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
    // Copies of the gate's sets of paid and of slow guests.
    for name in ["let_in", "slow"] {
        line(format_args!("add set netdev {TABLE} {name} {{ type ifname . ether_addr; flags timeout; }}"));
    }
    line(format_args!(
        "add set netdev {TABLE} pace {{ type ifname . ether_addr; flags dynamic,timeout; size 1024; }}"
    ));
    for way in [COMES, GOES] {
        line(format_args!(
            "add set netdev {TABLE} names_{} {{ type ifname . ether_addr; flags dynamic,timeout; size 4096; }}",
            way.name
        ));
    }
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
    let specs = chains(plan);
    // A chain's devices cannot be exchanged, so that all are made anew each time.
    for ChainSpec { name, .. } in &specs {
        line(format_args!("add chain netdev {TABLE} {name}"));
        line(format_args!("flush chain netdev {TABLE} {name}"));
    }
    for ChainSpec { name, .. } in &specs {
        line(format_args!("delete chain netdev {TABLE} {name}"));
    }
    if !is_needed || devices.is_empty() {
        return script;
    }
    let devices = devices.join(", ");
    for chain in &specs {
        let name = &chain.name;
        match chain.hook {
            Some((hook, priority)) => line(format_args!(
                "add chain netdev {TABLE} {name} {{ type filter hook {hook} devices = {{ {devices} }} priority {priority}; policy accept; }}"
            )),
            None => line(format_args!("add chain netdev {TABLE} {name}")),
        }
        for (number, rule) in chain.rules.iter().enumerate() {
            let comment = comment(chain, number);
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
