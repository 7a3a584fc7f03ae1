//! The guest network as UCI sections: bridge, interface, DHCP, zone with its few openings, open Wi-Fi.
//! There is no forwarding from the zone: only what carries the mark of a paid packet leaves.

use super::answers::{Answers, GuestPlace, Subnet};
use super::changes::{is_ours, option_text, WantedSection, NETWORK};
use super::firewall::zone_name;
use super::subnets;
use super::SetupError;
use crate::config::uci::{Section, UciFile};

const BRIDGE_SECTION: &str = "tollgate_bridge";
const ZONE: &str = "tollgate";
const BRIDGE: &str = "br-tollgate";

/// What the sections are made of, which nothing else here may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub zone: String,
    pub bridge: String,
}

impl Names {
    /// The names of the guest network that is there, or else new ones that no other zone or device has, in the files or
    /// up.
    pub fn choose(network: &UciFile, firewall: &UciFile, up: &[String]) -> Names {
        let ours = |package: &str, file: &UciFile, name: &str| {
            let found = file.sections.iter().find(|section| section.name == name)?;
            (is_ours(package, found)).then(|| option_text(found, "name").map(str::to_owned))?
        };
        let zones: Vec<&str> = firewall.of_kind("zone").map(zone_name).collect();
        let values = network.sections.iter().flat_map(|section| &section.options);
        let mut devices: Vec<&str> =
            values.flat_map(|option| option.value.items()).map(|item| item.text.as_str()).collect();
        devices.extend(up.iter().map(String::as_str));
        Names {
            zone: ours("firewall", firewall, NETWORK).unwrap_or_else(|| free(ZONE, &zones)),
            bridge: ours("network", network, BRIDGE_SECTION).unwrap_or_else(|| free(BRIDGE, &devices)),
        }
    }
}

/// The name, with a number behind it if it is taken.
pub fn free(first: &str, taken: &[&str]) -> String {
    let numbered = (2..u32::MAX).map(|number| format!("{first}{number}"));
    let mut choices = std::iter::once(first.to_owned()).chain(numbered);
    choices.find(|name| !taken.contains(&name.as_str())).unwrap_or_else(|| first.to_owned())
}

/// The subnet of the guest network that setup made before.
pub fn subnet_before(network: &UciFile) -> Option<Subnet> {
    let made = network.sections.iter().find(|section| section.name == NETWORK)?;
    subnets::of_interface(made)
}

/// What the answers ask for, in the order in which it is made. `before`: the subnet that the guest network has.
pub fn sections(
    answers: &Answers,
    names: &Names,
    before: Option<Subnet>,
    wireless: Option<&UciFile>,
) -> Result<Vec<WantedSection>, SetupError> {
    let mut wanted = Vec::new();
    if let GuestPlace::Make(subnet) = &answers.place {
        wanted.extend(network(*subnet, before == Some(*subnet), &names.bridge));
        wanted.extend(zone(&names.zone));
    }
    if let Some(wifi) = &answers.wifi {
        for radio in radios(wireless, wifi.radio.as_deref())? {
            // At 6 GHz there are no open networks; one that is asked for is encrypted without a password.
            let encryption = if is_6_ghz(radio) { "owe" } else { "none" };
            wanted.push(
                WantedSection::new("wireless", &format!("tollgate_{}", radio.name), "wifi-iface")
                    .with("device", &radio.name)
                    .with("mode", "ap")
                    .with("network", NETWORK)
                    .with("ssid", &wifi.ssid)
                    .with_unless("encryption", encryption)
                    // Guests must not reach each other past the gate.
                    .with("isolate", "1"),
            );
        }
    }
    Ok(wanted)
}

/// The radios that get the open network: the one that is named, else all that can have one.
pub fn radios<'a>(
    wireless: Option<&'a UciFile>,
    named: Option<&str>,
) -> Result<Vec<&'a Section>, SetupError> {
    let all: Vec<&Section> = wireless.map(|file| file.of_kind("wifi-device").collect()).unwrap_or_default();
    if all.is_empty() {
        return Err(SetupError::Refused("this router has no Wi-Fi: leave --ssid out".to_owned()));
    }
    let Some(named) = named else {
        let open: Vec<&Section> = all.into_iter().filter(|radio| !is_6_ghz(radio)).collect();
        return match open.is_empty() {
            true => Err(SetupError::Refused(
                "no radio here can have an open network: name one with --radio".to_owned(),
            )),
            false => Ok(open),
        };
    };
    match all.iter().find(|radio| radio.name == named) {
        Some(radio) => Ok(vec![radio]),
        None => {
            let known: Vec<&str> = all.iter().map(|radio| radio.name.as_str()).collect();
            let known = known.join(", ");
            Err(SetupError::Usage(format!("there is no radio {named}: choose of {known}")))
        }
    }
}

/// What the operator should know of the radios.
pub fn radio_notes(wireless: &UciFile, named: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    for radio in wireless.of_kind("wifi-device") {
        let name = &radio.name;
        match named {
            None if is_6_ghz(radio) => {
                notes.push(format!("{name} is left out: at 6 GHz there are no open networks"));
                continue;
            }
            Some(named) if named != name => continue,
            _ => {}
        }
        if option_text(radio, "disabled") == Some("1") {
            notes.push(format!(
                "{name} is off; to switch it on: uci delete wireless.{name}.disabled; uci commit wireless; wifi reload"
            ));
        }
    }
    notes
}

fn is_6_ghz(radio: &Section) -> bool {
    option_text(radio, "band").is_some_and(|band| band.starts_with('6'))
}

/// `is_as_before`: the subnet is the one that the sections say already, in any spelling.
fn network(subnet: Subnet, is_as_before: bool, bridge: &str) -> Vec<WantedSection> {
    let (start, limit) = subnet.dhcp();
    let interface = WantedSection::new("network", NETWORK, "interface")
        .with("proto", "static")
        .with_unless("device", bridge)
        .with_unless("ip6assign", "64");
    let dhcp = WantedSection::new("dhcp", NETWORK, "dhcp")
        .with("interface", NETWORK)
        .with_unless("leasetime", "2h")
        // Where odhcpd is the main server it hands out no IPv4 without being told to; dnsmasq does not mind.
        .with("dhcpv4", "server")
        .with_unless("ra", "server")
        .with_unless("dhcpv6", "server");
    let (start, limit) = (start.to_string(), limit.to_string());
    let (interface, dhcp) = match is_as_before {
        true => (interface, dhcp.with_unless("start", start).with_unless("limit", limit)),
        false => (
            interface.with("ipaddr", subnet.router.to_string()).with("netmask", subnet.netmask().to_string()),
            dhcp.with("start", start).with("limit", limit),
        ),
    };
    vec![
        WantedSection::new("network", BRIDGE_SECTION, "device")
            .with("type", "bridge")
            .with("name", bridge)
            .with("bridge_empty", "1"),
        interface,
        dhcp,
    ]
}

fn zone(zone: &str) -> Vec<WantedSection> {
    let rule = |name: &str, title: &str, protocol: &str| {
        WantedSection::new("firewall", &format!("tollgate_{name}"), "rule")
            .with("name", title)
            .with("src", zone)
            .with("proto", protocol)
            .with("target", "ACCEPT")
    };
    vec![
        WantedSection::new("firewall", NETWORK, "zone")
            .with("name", zone)
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

#[cfg(test)]
mod tests {
    use super::super::answers::{subnet, Wifi};
    use super::*;
    use crate::config::uci::parse;

    const RADIOS: &str = "config wifi-device 'radio0'\n\toption band '2g'\n\toption disabled '1'
config wifi-device 'radio1'\n\toption band '6g'\n";

    fn lines(place: GuestPlace, radio: Option<&str>, network: &str, firewall: &str) -> String {
        let file = |text: &str| parse(text.as_bytes()).unwrap();
        let (network, firewall, wireless) = (file(network), file(firewall), file(RADIOS));
        let names = Names::choose(&network, &firewall, &[]);
        let wifi = Some(Wifi { ssid: "Kibanda".to_owned(), radio: radio.map(str::to_owned) });
        let answers = Answers { place, wifi, ..Answers::default() };
        let before = subnet_before(&network);
        let wanted = sections(&answers, &names, before, Some(&wireless)).unwrap();
        let of = |package: &str| match package {
            "network" => network.clone(),
            "firewall" => firewall.clone(),
            _ => UciFile::default(),
        };
        let changes = wanted.iter().flat_map(|wanted| wanted.changes(&of(wanted.package)).unwrap());
        changes.map(|change| change.to_string() + "\n").collect()
    }

    fn made(network: &str, firewall: &str) -> String {
        lines(GuestPlace::Make(subnet("10.40.0.1/22").unwrap()), None, network, firewall)
    }

    #[test]
    fn a_network_that_luci_has_saved_is_left_as_it_is() {
        let network = "config device 'tollgate_bridge'\n\toption tollgate '1'\n\toption type 'bridge'
\toption name 'br-tollgate'\n\toption bridge_empty 'true'
config interface 'tollgate_guest'\n\toption tollgate '1'\n\toption proto 'static'\n\toption device 'br-tollgate'
\toption ip6assign '60'\n\tlist ipaddr '10.40.0.1/22'\n";
        let made = made(network, "");
        assert!(!made.contains("network.tollgate_guest") && !made.contains("tollgate_bridge"), "{made}");
        assert!(made.contains("dhcp.tollgate_guest.limit='1012'"), "{made}");
        let other = lines(GuestPlace::Make(subnet("10.50.0.1/24").unwrap()), None, network, "");
        assert!(other.contains("network.tollgate_guest.ipaddr='10.50.0.1'"), "{other}");
    }

    #[test]
    fn names_of_others_are_not_used_again() {
        let zone = "config zone\n\toption name 'tollgate'\n\toption input 'ACCEPT'\n";
        let bridge = "config device\n\toption name 'br-tollgate'\n";
        let made = made(bridge, zone);
        for line in ["firewall.tollgate_guest.name='tollgate2'", "firewall.tollgate_dns.src='tollgate2'"] {
            assert!(made.contains(line), "{made}");
        }
        assert!(made.contains("network.tollgate_guest.device='br-tollgate2'"), "{made}");
        let ours =
            "config zone 'tollgate_guest'\n\toption name 'tollgate'\n\tlist network 'tollgate_guest'\n";
        assert!(self::made("", ours).contains("firewall.tollgate_dns.src='tollgate'"));
        let up = Names::choose(&UciFile::default(), &UciFile::default(), &["br-tollgate".to_owned()]);
        assert_eq!(up.bridge, "br-tollgate2");
    }

    #[test]
    fn a_dhcp_server_of_either_kind_is_told_to_serve() {
        assert!(made("", "").contains("dhcp.tollgate_guest.dhcpv4='server'"));
    }

    #[test]
    fn a_radio_at_6_ghz_gets_no_open_network() {
        let all = made("", "");
        assert!(all.contains("wireless.tollgate_radio0.encryption='none'"), "{all}");
        assert!(!all.contains("tollgate_radio1"), "{all}");
        let named = lines(GuestPlace::AsItIs, Some("radio1"), "", "");
        assert!(named.contains("wireless.tollgate_radio1.encryption='owe'"), "{named}");
        assert!(!named.contains("tollgate_radio0"), "{named}");
        let notes = radio_notes(&parse(RADIOS.as_bytes()).unwrap(), None);
        assert!(
            notes[0].starts_with("radio0 is off") && notes[1].starts_with("radio1 is left out"),
            "{notes:?}"
        );
    }
}
