//! The rules. They decide by the address that a packet had when it came in, before any redirect, and by the set of
//! paid guests. The mark is for the second lock and for other firewalls.
//!
//! A packet that is forwarded passes `tg_mark`, `tg_late` and `tg_forward`; one for the router itself `tg_mark`,
//! `tg_late` and `tg_seen`, with the answer in `tg_output`.

use super::{Plan, MARK, SLOW};
use crate::network::nftables::Home;

/// A chain with its rules.
pub(super) struct Chain {
    pub name: &'static str,
    /// Where the kernel calls it; `None` for one that only others go to.
    pub hook: Option<Hook>,
    pub rules: Vec<String>,
}

/// Where a base chain stands, in nft's words and in the kernel's.
pub(super) struct Hook {
    pub text: &'static str,
    pub number: u32,
    pub priority: i32,
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;

/// What is answered by the garden's servers.
const SERVED: &str = "meta l4proto { tcp, udp }";
/// Not "unicast": without a route for an IPv6 address its type is "unreachable", and those guests shall see the
/// portal as well.
const ROUTER: &str = "{ local, broadcast, multicast, anycast }";
/// A set of addresses has a limited size. A station that forged its addresses could fill it, and guests that pay
/// after that would get no answers.
const TOO_MANY: &str =
    "update @fresh { ether saddr timeout 1h limit rate over 2/minute burst 128 packets } drop";
/// A source that the way back to leads elsewhere is made up. Nothing is answered there.
const MADE_UP: &str = "fib saddr . iif oif missing drop";

const PAID: &str = "iifname . ether saddr @paid_at";
const UNPAID: &str = "iifname . ether saddr != @paid_at";

/// A family's words: nft's name of it, its header, and the digit that its sets end in.
const FAMILIES: [(&str, &str, char); 2] = [("ipv4", "ip", '4'), ("ipv6", "ip6", '6')];

/// The chains of a plan, where bytes are counted at `counts_at`.
pub(super) fn chains(plan: &Plan, counts_at: Home) -> Vec<Chain> {
    let mut chains = on_arrival(plan);
    chains.extend(refusals());
    chains.extend(names());
    chains.extend(at_the_router(plan));
    chains.extend(forwarding(plan, counts_at));
    compare_names(plan, &mut chains);
    chains
}

/// Most plans have one device. To compare its name takes less of each packet's time than to look it up.
fn compare_names(plan: &Plan, chains: &mut [Chain]) {
    // Plans with other than valid device names are refused before.
    if let [device] = plan.devices().as_slice() {
        for rule in chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            *rule = rule.replace("@ifs", &format!("\"{device}\""));
        }
    }
}

/// Paid, unpaid or neither, by the destination that the packet came with.
fn on_arrival(plan: &Plan) -> Vec<Chain> {
    let (bit, others) = (format!("{MARK:#010x}"), format!("{:#010x}", !MARK));
    let paid = |header: &str, digit: char| {
        vec![
            format!("{header} daddr @closed{digit} goto tg_near"),
            // Also packets that belong to no connection: nothing gives them another source address on their way out.
            format!("ct state & (established | related) == 0 {MADE_UP}"),
            format!("meta mark set meta mark | {bit}"),
        ]
    };
    let mut near = from_nowhere();
    near.extend([
        "fib daddr type { local, broadcast, anycast } accept".to_owned(),
        "ip daddr 224.0.0.0/24 accept".to_owned(),
        "ip6 daddr ff02::/16 accept".to_owned(),
        "fib daddr type multicast drop".to_owned(),
    ]);
    near.extend(reach(plan, "goto tg_pass"));
    near.extend(garden(plan, "daddr", "", "goto tg_pass"));
    near.push("goto tg_refuse".to_owned());

    let mut unpaid = from_nowhere();
    unpaid.push(format!("fib daddr type {ROUTER} goto tg_router"));
    unpaid.extend(garden(plan, "daddr", "", "goto tg_pass"));
    // On its way to our redirect. One that was let through while the guest was paid is not.
    unpaid.push("tcp dport 80 ct state new accept".to_owned());
    unpaid.push(format!("tcp dport 80 ct reply proto-src {} accept", plan.redirect_port));
    unpaid.push("goto tg_refuse".to_owned());

    let redirect = |(_, header, digit): (&str, &str, char)| {
        format!(
            "iifname @ifs tcp dport 80 {header} daddr != @garden{digit} {UNPAID} fib daddr type != {ROUTER} \
             redirect to :{}",
            plan.redirect_port
        )
    };
    let redirects: Vec<String> = named(plan).into_iter().chain(FAMILIES.map(redirect)).collect();
    let mut lost = vec![format!("{PAID} goto tg_pass")];
    lost.extend(garden(plan, "daddr", "", "goto tg_pass"));
    vec![
        base(
            "tg_mark",
            "type filter hook prerouting priority mangle",
            PREROUTING,
            -150,
            vec!["iifname @ifs goto tg_guest".to_owned()],
        ),
        regular(
            "tg_guest",
            vec![
                format!("{PAID} goto tg_paid"),
                format!("meta mark set meta mark & {others}"),
                "goto tg_unpaid".to_owned(),
            ],
        ),
        regular("tg_paid", vec!["meta nfproto ipv4 goto tg_paid4".to_owned(), "goto tg_paid6".to_owned()]),
        regular("tg_paid4", paid("ip", '4')),
        regular("tg_paid6", paid("ip6", '6')),
        // The router, its networks, and what is nowhere on the internet.
        regular("tg_near", near),
        regular("tg_unpaid", unpaid),
        regular("tg_pass", vec![format!("meta mark set meta mark | {bit}")]),
        // Before all other programs' chains, and by the set: the first redirect of a connection counts.
        base("tg_dstnat", "type nat hook prerouting priority dstnat - 99", PREROUTING, -199, redirects),
        // Behind all other programs: a program that sets the whole mark does not put a paid guest offline.
        base(
            "tg_late",
            "type filter hook prerouting priority 1000",
            PREROUTING,
            1000,
            vec![format!("meta mark & {bit} == 0 iifname @ifs goto tg_lost")],
        ),
        regular("tg_lost", lost),
    ]
}

/// Leads guests, also those who have paid, to the portal when they ask the router's own port 80, as its name does.
fn named(plan: &Plan) -> Vec<String> {
    // A listener of ours at port 80 answers by itself.
    let ours = [Some(plan.portal_port), Some(plan.mint_proxy_port), Some(plan.redirect_port), plan.tls_port];
    let is_served = ours.contains(&Some(80));
    let venues = plan.venues.iter().filter(|venue| venue.is_named && !is_served);
    // Plans with other than valid device names are refused before.
    let redirect = |device: &String| {
        format!("iifname \"{device}\" tcp dport 80 fib daddr type local redirect to :{}", plan.redirect_port)
    };
    venues.flat_map(|venue| &venue.devices).map(redirect).collect()
}

/// Drops made-up sources, except those of a station that has no address yet and asks for one.
fn from_nowhere() -> Vec<String> {
    vec![
        "fib daddr type broadcast udp dport 67 accept".to_owned(),
        "ip6 saddr :: meta l4proto 58 ip6 daddr ff02::/16 accept".to_owned(),
        MADE_UP.to_owned(),
    ]
}

/// A refusal quotes the packet, so only a few are sent: to each station, and in all.
fn refusals() -> Vec<Chain> {
    let per_station = |set: &str, rate: &str| {
        format!("update @{set} {{ ether saddr timeout 1m limit rate over {rate} packets }} drop")
    };
    let rules = vec![
        format!("meta l4proto tcp {}", per_station("refused_tcp", "20/second burst 100")),
        "meta l4proto tcp limit rate over 1000/second burst 2000 packets drop".to_owned(),
        "meta l4proto tcp reject with tcp reset".to_owned(),
        format!("meta nfproto ipv4 {}", per_station("refused4", "1/second burst 6")),
        format!("meta nfproto ipv6 {}", per_station("refused6", "20/minute burst 3")),
        "limit rate over 200/second burst 400 packets drop".to_owned(),
        // ICMPv6 by its number: nft finds the name only where there is an /etc/protocols.
        "meta l4proto != 58 reject with icmpx type admin-prohibited".to_owned(),
        "drop".to_owned(),
    ];
    vec![regular("tg_refuse", rules)]
}

/// Name service before paying: enough for a phone, too little for a tunnel. Questions are counted by MAC. A UDP
/// answer is bounded in length; a TCP answer by the address that it goes to, of which a MAC has a few.
fn names() -> Vec<Chain> {
    let mut asks = vec![
        "meta l4proto udp meta length > 400 drop".to_owned(),
        "meta l4proto udp update @dns_udp { ether saddr timeout 1m limit rate over 8/second burst 240 packets } drop"
            .to_owned(),
        // For whom the set has no place.
        "ether saddr != @dns_udp meta l4proto udp limit rate over 100/second burst 500 packets drop".to_owned(),
        "meta l4proto tcp update @dns_tcp { ether saddr timeout 1m limit rate over 1 kbytes/second burst 16 kbytes } drop"
            .to_owned(),
        "ether saddr != @dns_tcp meta l4proto tcp drop".to_owned(),
    ];
    let mut answers = Vec::new();
    for (family, header, digit) in FAMILIES {
        let tcp = format!("meta nfproto {family} meta l4proto tcp");
        asks.push(format!(
            "{tcp} ether saddr . {header} saddr != @dns_from{digit} \
             update @dns_new {{ ether saddr timeout 1h limit rate over 4/hour burst 4 packets }} drop"
        ));
        asks.push(format!("{tcp} add @dns_from{digit} {{ ether saddr . {header} saddr timeout 30m }}"));
        asks.push(format!("meta nfproto {family} update @asked{digit} {{ {header} saddr timeout 10s }}"));
        // For whom the set has no place: its answers would have no limit.
        let without_place = format!("{header} saddr != @asked{digit}");
        asks.push(format!("{tcp} {without_place} drop"));
        asks.push(format!(
            "meta nfproto {family} meta l4proto udp {without_place} limit rate over 2/second burst 20 packets drop"
        ));
        let answer = |protocol: &str| {
            format!(
                "oifname @ifs meta l4proto {protocol} ct original proto-dst 53 {header} daddr @asked{digit}"
            )
        };
        answers.push(format!("{} meta length > 1300 drop", answer("udp")));
        answers.push(format!(
            "{} update @answers{digit} {{ {header} daddr timeout 1m limit rate over 1 kbytes/second burst 16 kbytes }} drop",
            answer("tcp")
        ));
    }
    vec![
        regular(
            "tg_router",
            vec!["udp dport 53 goto tg_dns".to_owned(), "tcp dport 53 goto tg_dns".to_owned()],
        ),
        regular("tg_dns", asks),
        base("tg_output", "type filter hook output priority filter", OUTPUT, 0, answers),
    ]
}

/// Packets to the router itself: their stations are written down, and paying opens only what is served.
fn at_the_router(plan: &Plan) -> Vec<Chain> {
    let ports = plan.served_ports();
    // Established only: a forged first packet is no witness.
    let seen = |(family, header, digit): (&str, &str, char)| {
        format!(
            "iifname @ifs meta nfproto {family} tcp dport {{ {ports} }} ct state established \
             update @seen{digit} {{ {header} saddr . ether saddr timeout 10m }}"
        )
    };
    let mut rules = Vec::new();
    if !plan.operators_ports.is_empty() {
        let ports: Vec<String> = plan.operators_ports.iter().map(u16::to_string).collect();
        rules.push(format!("iifname @ifs tcp dport {{ {} }} goto tg_refuse", ports.join(", ")));
    }
    // A guest in its grace has paid for nothing yet, so its names are limited like any unpaid guest's.
    if plan.gives_grace {
        rules.push("iifname . ether saddr @slow_at jump tg_router".to_owned());
    }
    rules.push(format!("iifname @ifs ct status dnat ct direction original {UNPAID} jump tg_turned"));
    rules.extend(FAMILIES.map(seen));
    rules.push(format!("iifname @ifs ct state new {PAID} goto tg_served"));
    let mut served = vec![
        "meta l4proto { 1, 58 } accept".to_owned(),
        format!("tcp dport {{ 53, {ports} }} accept"),
        "udp dport { 53, 67, 123, 547 } accept".to_owned(),
        "ct status dnat meta l4proto { tcp, udp } ct original proto-dst 53 accept".to_owned(),
        // A proxy's packets: what the guest asked for is the internet.
        "ct status dnat ct original ip daddr != @closed4 accept".to_owned(),
        "ct status dnat ct original ip6 daddr != @closed6 accept".to_owned(),
        "fib daddr type multicast accept".to_owned(),
    ];
    served.extend(reach(plan, "accept"));
    served.push("goto tg_refuse".to_owned());
    // Somebody's proxy behind a port of the router leads to the internet too.
    let mut turned = vec![
        format!("tcp dport {} return", plan.redirect_port),
        "meta l4proto { tcp, udp } ct original proto-dst 53 return".to_owned(),
    ];
    turned.extend(garden(plan, "daddr", "ct original ", "return"));
    turned.push("goto tg_refuse".to_owned());
    vec![
        regular("tg_turned", turned),
        base("tg_seen", "type filter hook input priority filter - 5", INPUT, -5, rules),
        regular("tg_served", served),
    ]
}

/// The rate of a slow guest, as a part of an element. Three seconds after the guest's last packet it is forgotten.
pub(super) fn pace() -> String {
    format!("timeout 3s limit rate over {} kbytes/second burst 64 kbytes", SLOW / 1024)
}

/// Packets through the router. The set decides here once more, in case another program changed the mark.
fn forwarding(plan: &Plan, counts_at: Home) -> Vec<Chain> {
    let bit = format!("{MARK:#010x}");
    let counts_here = counts_at == Home::Inet;
    // A grace is counted, so that it is slowed down where it is counted.
    let paces = plan.gives_grace && counts_here;
    let family =
        |kind: &str| [format!("meta nfproto ipv4 goto tg_{kind}4"), format!("goto tg_{kind}6")].to_vec();
    let pace = pace();
    // What is learned of a packet that passes.
    let learned = |header: &str, digit: char| {
        // Where bytes are counted here an address is let in to only when it stands beside the guest's quota.
        let uncounted = if counts_here { "iifname . ether saddr != @counted_at " } else { "" };
        vec![
            format!("update @ul{digit}_at {{ iifname . ether saddr . {header} saddr timeout 1h }}"),
            // "add" leaves the end of an element that is there alone.
            format!("{uncounted}add @dl{digit} {{ {header} saddr timeout 60s }}"),
        ]
    };
    let unknown = |header: &str, digit: char| {
        format!("iifname . ether saddr . {header} saddr != @ul{digit}_at {TOO_MANY}")
    };
    // Drops what is beyond the guest's bytes; guests outside of the map are not affected.
    let quota = counts_here.then(|| "quota name iifname . ether saddr map @qm_at drop".to_owned());
    let up = |header: &str, digit: char| {
        let mut rules = vec![];
        // Packets of the garden are not counted.
        rules.extend(garden_of(plan, "daddr", digit, "", "accept"));
        if paces {
            rules.push(format!("iifname . ether saddr @slow_at goto tg_slow{digit}"));
        }
        rules.extend(quota.clone());
        rules.extend([
            // For half a minute nothing more need be learned of an address.
            format!("ct state established {header} saddr @recent{digit} {header} saddr @dl{digit} accept"),
            format!("meta mark & {bit} == 0 meta mark set meta mark | {bit}"),
            unknown(header, digit),
        ]);
        rules.extend(learned(header, digit));
        rules.push(format!("add @recent{digit} {{ {header} saddr timeout 30s }}"));
        rules
    };
    let slow = |header: &str, digit: char| {
        if !paces {
            return vec![];
        }
        let mut rules = vec![
            unknown(header, digit),
            format!("update @pace_at {{ iifname . ether saddr {pace} }} drop"),
            format!("update @pace{digit} {{ {header} saddr {pace} }} drop"),
            // For which the set has no place.
            format!("{header} saddr != @pace{digit} drop"),
        ];
        rules.extend(quota.clone());
        rules.extend(learned(header, digit));
        rules
    };
    let down = |header: &str, digit: char| {
        // Nothing in the garden begins a conversation.
        let mut rules = garden_of(plan, "saddr", digit, "ct state established ", "accept");
        if paces {
            rules.push(format!(
                "{header} daddr @pace{digit} add @pace{digit} {{ {header} daddr {pace} }} drop"
            ));
        }
        if counts_here {
            rules.push(format!("quota name {header} daddr map @qm{digit} drop"));
        }
        // At the device it is known by its mark.
        rules.push(format!("{header} daddr @dl{digit} meta mark set meta mark | {bit} accept"));
        rules.push("drop".to_owned());
        rules
    };
    let mut strangers = vec![];
    strangers.extend(garden(plan, "daddr", "oifname != @ifs ", "accept"));
    strangers.push("drop".to_owned());
    vec![
        base(
            "tg_forward",
            "type filter hook forward priority filter - 5",
            FORWARD,
            -5,
            vec!["iifname @ifs goto tg_up".to_owned(), "oifname @ifs goto tg_down".to_owned()],
        ),
        regular(
            "tg_up",
            [vec![format!("{UNPAID} goto tg_strangers"), "oifname @ifs drop".to_owned()], family("up")]
                .concat(),
        ),
        regular("tg_strangers", strangers),
        regular("tg_up4", up("ip", '4')),
        regular("tg_up6", up("ip6", '6')),
        regular("tg_slow4", slow("ip", '4')),
        regular("tg_slow6", slow("ip6", '6')),
        regular("tg_down", family("down")),
        regular("tg_down4", down("ip", '4')),
        regular("tg_down6", down("ip6", '6')),
    ]
}

/// The garden's rules, where there is a garden. `way` is the side that it is on.
fn garden(plan: &Plan, way: &str, condition: &str, verdict: &str) -> Vec<String> {
    let of = |(_, _, digit)| garden_of(plan, way, digit, condition, verdict);
    FAMILIES.into_iter().flat_map(of).collect()
}

fn garden_of(plan: &Plan, way: &str, digit: char, condition: &str, verdict: &str) -> Vec<String> {
    let header = if digit == '4' { "ip" } else { "ip6" };
    plan.has_garden(digit == '4')
        .then(|| format!("{condition}{header} {way} @garden{digit} {SERVED} {verdict}"))
        .into_iter()
        .collect()
}

/// What each venue's guests reach besides the internet.
fn reach(plan: &Plan, verdict: &str) -> Vec<String> {
    let mut rules = Vec::new();
    for venue in &plan.venues {
        for (is_v4, header) in [(true, "ip"), (false, "ip6")] {
            let ranges: Vec<String> =
                venue.reach.iter().filter(|range| range.is_v4() == is_v4).map(ToString::to_string).collect();
            for device in venue.devices.iter().filter(|_| !ranges.is_empty()) {
                // Plans with other than valid device names are refused before.
                rules.push(format!(
                    "iifname \"{device}\" {header} daddr {{ {} }} {verdict}",
                    ranges.join(", ")
                ));
            }
        }
    }
    rules
}

fn base(name: &'static str, text: &'static str, number: u32, priority: i32, rules: Vec<String>) -> Chain {
    Chain { name, hook: Some(Hook { text, number, priority }), rules }
}

fn regular(name: &'static str, rules: Vec<String>) -> Chain {
    Chain { name, hook: None, rules }
}
