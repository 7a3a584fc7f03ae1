//! IPv4 networks around the router that a guest network must not overlap: what the files say, in every spelling
//! that netifd takes, and what is up now.

use super::answers::Subnet;
use super::changes::{option_text, option_words};
use crate::config::uci::{Section, UciFile};
use crate::network::routes::RouteDestination;
use std::net::Ipv4Addr;

/// Shorter prefixes are default routes, whole or in parts.
const SHORTEST: u32 = 5;
/// Where the file says no length, a host's address is taken for one of the usual kind.
const USUAL: u32 = 24;
const FIRST_CHOICE: u8 = 77;

/// Networks that are in use, each with what names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken(Vec<(Subnet, String)>);

impl Taken {
    /// Adds every address of a file that is not in the section `own`: of interfaces, routes, rules and peers, and
    /// gateways and servers, which are reached through an uplink's network.
    pub fn add_file(&mut self, file: &UciFile, own: &str) {
        for section in file.sections.iter().filter(|section| section.name != own) {
            for option in &section.options {
                for word in option_words(section, &option.name) {
                    let without_length = match option.name.as_str() {
                        "ipaddr" => mask_of(section).unwrap_or(USUAL),
                        "target" => mask_of(section).unwrap_or(32),
                        _ => 32,
                    };
                    if let Some(subnet) = spelled(word, without_length) {
                        self.add(subnet, name_of(section));
                    }
                }
            }
        }
    }

    /// Adds the subnets of the firewall's zones: an address there is in that zone, whatever the device.
    pub fn add_zones(&mut self, firewall: &UciFile) {
        for zone in firewall.of_kind("zone") {
            for subnet in option_words(zone, "subnet").into_iter().filter_map(written) {
                let name = option_text(zone, "name").unwrap_or(&zone.name);
                self.add(subnet, format!("the firewall's zone {name}"));
            }
        }
    }

    /// Adds what is up, without the device `own`.
    pub fn add_up(&mut self, destinations: &[RouteDestination], own: &str) {
        for up in destinations.iter().filter(|up| up.device != own) {
            let named = if up.device.is_empty() { "a route" } else { up.device.as_str() };
            self.add(Subnet { router: up.network, prefix: u32::from(up.prefix) }, named.to_owned());
        }
    }

    fn add(&mut self, subnet: Subnet, named: String) {
        if subnet.prefix >= SHORTEST && !subnet.router.is_loopback() {
            self.0.push((subnet, named));
        }
    }

    /// What this subnet overlaps.
    pub fn clash(&self, subnet: Subnet) -> Option<&str> {
        self.0.iter().find(|(other, _)| subnet.overlaps(*other)).map(|(_, named)| named.as_str())
    }

    /// A subnet that overlaps nothing: in 192.168.0.0/16, else in 10.0.0.0/8 or 172.16.0.0/12.
    pub fn free(&self) -> Option<Subnet> {
        let small = (FIRST_CHOICE..=u8::MAX).map(|third| Ipv4Addr::new(192, 168, third, 1));
        let large = (FIRST_CHOICE..=u8::MAX).map(|second| Ipv4Addr::new(10, second, 0, 1));
        let middle = (16..=31).map(|second| Ipv4Addr::new(172, second, FIRST_CHOICE, 1));
        let mut choices = small.chain(large).chain(middle).map(|router| Subnet { router, prefix: USUAL });
        choices.find(|choice| self.clash(*choice).is_none())
    }
}

/// The first IPv4 network of an interface's section.
pub fn of_interface(section: &Section) -> Option<Subnet> {
    let length = mask_of(section).unwrap_or(USUAL);
    option_words(section, "ipaddr").into_iter().find_map(|word| spelled(word, length))
}

/// A network as a zone's `subnet` writes it.
pub fn written(word: &str) -> Option<Subnet> {
    spelled(word, 32)
}

fn mask_of(section: &Section) -> Option<u32> {
    option_text(section, "netmask").and_then(length)
}

/// `10.0.0.1`, `10.0.0.1/24` or `10.0.0.1/255.255.255.0`.
fn spelled(word: &str, without_length: u32) -> Option<Subnet> {
    let (address, prefix) = match word.split_once('/') {
        Some((address, mask)) => (address, length(mask)?),
        None => (word, without_length),
    };
    Some(Subnet { router: address.parse().ok()?, prefix })
}

/// `24` or `255.255.255.0`.
fn length(mask: &str) -> Option<u32> {
    if let Ok(mask) = mask.parse::<Ipv4Addr>() {
        let bits = u32::from(mask);
        return (bits.leading_ones() == bits.count_ones()).then_some(bits.count_ones());
    }
    mask.parse().ok().filter(|length| *length <= 32)
}

fn name_of(section: &Section) -> String {
    match section.kind.as_str() {
        "interface" => format!("the network '{}'", section.name),
        kind if section.anonymous => format!("a section '{kind}'"),
        kind => format!("the section '{kind}' '{}'", section.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::uci::parse;

    fn taken(file: &str) -> Taken {
        let mut taken = Taken::default();
        taken.add_file(&parse(file.as_bytes()).unwrap(), "tollgate_guest");
        taken
    }

    fn subnet(text: &str) -> Subnet {
        super::super::answers::subnet(text).unwrap()
    }

    #[test]
    fn an_address_is_seen_in_every_spelling() {
        for written in [
            "option ipaddr '192.168.77.9'\n\toption netmask '255.255.255.0'",
            "option ipaddr '192.168.77.9'\n\toption netmask '24'",
            "option ipaddr '192.168.77.9'",
            "option ipaddr '10.3.0.1 192.168.77.9/24'",
            "option ipaddr '192.168.77.9/255.255.255.0'",
            "list ipaddr '10.3.0.1/8'\n\tlist ipaddr '192.168.77.9/25'",
            "list addresses '192.168.77.9/24'",
            "option gateway '192.168.77.254'",
        ] {
            let taken = taken(&format!("config interface 'x'\n\t{written}\n"));
            assert_eq!(taken.clash(subnet("192.168.77.1/24")), Some("the network 'x'"), "{written}");
            assert_eq!(taken.free(), Some(subnet("192.168.78.1/24")), "{written}");
        }
    }

    #[test]
    fn routes_and_peers_count_and_default_routes_do_not() {
        for (written, free) in [
            ("config route\n\toption target '192.168.77.0'\n\toption netmask '255.255.255.0'", 78),
            ("config route 'r'\n\toption target '192.168.76.0/23'", 78),
            (
                "config wireguard_wg0\n\tlist allowed_ips '192.168.77.0/24'\n\tlist allowed_ips '0.0.0.0/0'",
                78,
            ),
            ("config wireguard_wg0\n\tlist allowed_ips '0.0.0.0/1'\n\tlist allowed_ips '128.0.0.0/1'", 77),
            ("config interface 'x'\n\toption ipaddr 'nonsense'\n\toption ip6addr 'fd00::1/64'", 77),
        ] {
            let expected = Subnet { router: Ipv4Addr::new(192, 168, free, 1), prefix: 24 };
            assert_eq!(taken(&format!("{written}\n")).free(), Some(expected), "{written}");
        }
    }

    #[test]
    fn a_lan_that_fills_its_range_sends_guests_into_another() {
        let lan = "config interface 'lan'\n\toption ipaddr '192.168.0.1'\n\toption netmask '16'\n";
        assert_eq!(taken(lan).free(), Some(subnet("10.77.0.1/24")));
        let both = format!("{lan}config route\n\toption target '10.0.0.0/8'\n");
        assert_eq!(taken(&both).free(), Some(subnet("172.16.77.1/24")));
        assert_eq!(taken(&format!("{both}config route\n\toption target '172.16.0.0/12'\n")).free(), None);
    }

    #[test]
    fn a_zone_that_is_told_by_its_subnet_has_it() {
        let zones = "config zone\n\toption name 'inside'\n\tlist subnet '192.168.0.0/16'\n\tlist subnet '0.0.0.0/0'\n";
        let mut taken = Taken::default();
        taken.add_zones(&parse(zones.as_bytes()).unwrap());
        assert_eq!(taken.clash(subnet("192.168.77.1/24")), Some("the firewall's zone inside"));
        assert_eq!(taken.free(), Some(subnet("10.77.0.1/24")));
    }

    #[test]
    fn what_is_up_counts_by_its_device_and_our_own_does_not() {
        let up = |device: &str, prefix| RouteDestination {
            network: Ipv4Addr::new(192, 168, 77, 0),
            prefix,
            device: device.to_owned(),
        };
        let mut taken = Taken::default();
        taken.add_up(&[up("br-tollgate", 24), up("eth1", 0)], "br-tollgate");
        assert_eq!(taken.clash(subnet("192.168.77.1/24")), None);
        taken.add_up(&[up("eth1", 24)], "br-tollgate");
        assert_eq!(taken.clash(subnet("192.168.77.1/24")), Some("eth1"));
    }

    #[test]
    fn our_own_network_is_read_in_any_spelling_and_does_not_clash() {
        for written in
            ["option ipaddr '10.40.0.1'\n\toption netmask '255.255.252.0'", "list ipaddr '10.40.0.1/22'"]
        {
            let file = format!("config interface 'tollgate_guest'\n\t{written}\n");
            let section = parse(file.as_bytes()).unwrap().sections.remove(0);
            assert_eq!(of_interface(&section), Some(subnet("10.40.0.1/22")));
            assert_eq!(taken(&file), Taken::default());
        }
    }
}
