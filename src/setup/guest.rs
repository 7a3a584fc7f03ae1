//! The guest network as UCI sections: bridge, interface, DHCP, zone with its few openings, open Wi-Fi.
//! There is no forwarding from the zone: only what carries the mark of a paid packet leaves.

use super::answers::{Answers, GuestPlace, Subnet};
use super::changes::{option_text, option_words, WantedSection};
use super::SetupError;
use crate::config::uci::UciFile;
use std::net::Ipv4Addr;

pub const NETWORK: &str = "tollgate_guest";
pub const ZONE: &str = "tollgate";
const BRIDGE: &str = "br-tollgate";
const FIRST_CHOICE: u8 = 77;

/// What the answers ask for, in the order in which it is made.
pub fn sections(answers: &Answers, wireless: Option<&UciFile>) -> Result<Vec<WantedSection>, SetupError> {
    let mut wanted = Vec::new();
    if let GuestPlace::Make(subnet) = &answers.place {
        wanted.extend(network(*subnet));
        wanted.extend(zone());
    }
    if let Some(wifi) = &answers.wifi {
        let Some(wireless) = wireless else {
            return Err(SetupError::Refused("this router has no Wi-Fi: leave --ssid out".to_owned()));
        };
        let radios: Vec<&str> = wireless.of_kind("wifi-device").map(|radio| radio.name.as_str()).collect();
        let chosen: Vec<&str> = match wifi.radio.as_deref() {
            Some(radio) if radios.contains(&radio) => vec![radio],
            Some(radio) => {
                let known = radios.join(", ");
                return Err(SetupError::Usage(format!("there is no radio {radio}: choose of {known}")));
            }
            None => radios,
        };
        if chosen.is_empty() {
            return Err(SetupError::Refused("this router has no Wi-Fi: leave --ssid out".to_owned()));
        }
        for radio in chosen {
            wanted.push(
                WantedSection::new("wireless", &format!("tollgate_{radio}"), "wifi-iface")
                    .with("device", radio)
                    .with("mode", "ap")
                    .with("network", NETWORK)
                    .with("ssid", &wifi.ssid)
                    .with("encryption", "none")
                    // Guests must not reach each other past the gate.
                    .with("isolate", "1"),
            );
        }
    }
    Ok(wanted)
}

/// Radios that are switched off: a network on them is not on the air.
pub fn radios_off(wireless: &UciFile) -> Vec<String> {
    let off = wireless.of_kind("wifi-device").filter(|radio| option_text(radio, "disabled") == Some("1"));
    off.map(|radio| radio.name.clone()).collect()
}

fn network(subnet: Subnet) -> Vec<WantedSection> {
    let (start, limit) = subnet.dhcp();
    vec![
        WantedSection::new("network", "tollgate_bridge", "device")
            .with("type", "bridge")
            .with("name", BRIDGE)
            .with("bridge_empty", "1"),
        WantedSection::new("network", NETWORK, "interface")
            .with("proto", "static")
            .with("device", BRIDGE)
            .with("ipaddr", subnet.router.to_string())
            .with("netmask", subnet.netmask().to_string())
            .with("ip6assign", "64"),
        WantedSection::new("dhcp", NETWORK, "dhcp")
            .with("interface", NETWORK)
            .with("start", start.to_string())
            .with("limit", limit.to_string())
            .with("leasetime", "2h")
            .with("ra", "server")
            .with("dhcpv6", "server"),
    ]
}

fn zone() -> Vec<WantedSection> {
    let rule = |name: &str, title: &str, protocol: &str| {
        WantedSection::new("firewall", &format!("tollgate_{name}"), "rule")
            .with("name", title)
            .with("src", ZONE)
            .with("proto", protocol)
            .with("target", "ACCEPT")
    };
    vec![
        WantedSection::new("firewall", NETWORK, "zone")
            .with("name", ZONE)
            .with_list("network", NETWORK)
            .with("input", "REJECT")
            .with("output", "ACCEPT")
            .with("forward", "REJECT"),
        rule("dhcp", "tollgate: DHCP", "udp").with("dest_port", "67").with("family", "ipv4"),
        rule("dhcpv6", "tollgate: DHCPv6", "udp").with("dest_port", "547").with("family", "ipv6"),
        rule("dns", "tollgate: DNS", "tcp udp").with("dest_port", "53"),
        rule("ntp", "tollgate: time", "udp").with("dest_port", "123"),
        // With neighbour discovery refused, IPv6 is dead.
        rule("icmp", "tollgate: ICMP", "icmp"),
    ]
}

/// A subnet that no network here uses.
pub fn free_subnet(network: &UciFile) -> Option<Subnet> {
    (FIRST_CHOICE..=u8::MAX)
        .map(|third| Subnet { router: Ipv4Addr::new(192, 168, third, 1), prefix: 24 })
        .find(|subnet| clash(*subnet, network).is_none())
}

/// The network that overlaps; ours does not count.
pub fn clash(subnet: Subnet, network: &UciFile) -> Option<String> {
    network.of_kind("interface").filter(|section| section.name != NETWORK).find_map(|section| {
        let mask = option_text(section, "netmask").and_then(|mask| mask.parse::<Ipv4Addr>().ok());
        option_words(section, "ipaddr").iter().find_map(|address| {
            let (address, prefix) = match address.split_once('/') {
                Some((address, prefix)) => (address, prefix.parse().ok()?),
                None => (*address, mask.map_or(24, |mask| u32::from(mask).count_ones())),
            };
            let other = Subnet { router: address.parse().ok()?, prefix };
            subnet.overlaps(other).then(|| section.name.clone())
        })
    })
}
