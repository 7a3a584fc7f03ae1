//! Reading fw4's configuration and netifd's: which zone a device is in, which devices a zone has, and what leads
//! past the gate.

use super::answers::Subnet;
use super::changes::{option_text, option_words};
use super::guest;
use super::subnets::{self, Taken};
use crate::config::netifd;
use crate::config::uci::{parse_large, Section, UciFile};
use crate::json;
use crate::set::SortedSet;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// The files of `network` and `firewall` in one directory, and what netifd says where it was asked.
pub struct Files {
    network_text: Vec<u8>,
    network: UciFile,
    pub firewall: UciFile,
    up: Vec<Up>,
}

/// A network as it is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Up {
    network: String,
    device: String,
    has_default_route: bool,
}

/// Where programs ask netifd.
const UBUS: &str = "ubus";
/// Where the files are that netifd runs by.
const ROUTERS: &str = "/etc/config";

impl Files {
    /// As far as they can be read; which ones could not is told.
    pub fn read(dir: &Path) -> (Files, Vec<String>) {
        let mut unread = Vec::new();
        let mut read = |name: &str| {
            let path = dir.join(name);
            let bytes = std::fs::read(&path).unwrap_or_default();
            let file = match bytes.is_empty() {
                true => None,
                false => parse_large(&bytes).ok(),
            };
            if file.is_none() {
                unread.push(path.display().to_string());
            }
            (bytes, file.unwrap_or_default())
        };
        let (network_text, network) = read("network");
        let (_, firewall) = read("firewall");
        (Files { network_text, network, firewall, up: Vec::new() }, unread)
    }

    /// As [`Files::read`], and netifd is asked what is up, where these are the files that it runs by. Waits for it,
    /// at most some seconds.
    pub fn read_and_ask(dir: &Path) -> (Files, Vec<String>) {
        let (mut files, unread) = Files::read(dir);
        if dir == Path::new(ROUTERS) {
            files.up = ask_netifd();
        }
        (files, unread)
    }

    /// The networks whose device this is.
    pub fn networks_of(&self, device: &str) -> Vec<String> {
        let configured = self
            .interfaces()
            .filter(|section| {
                netifd::device_in(&self.network_text, &section.name).is_ok_and(|found| found == device)
            })
            .map(|section| section.name.clone());
        let mut networks: Vec<String> = configured.collect();
        for up in self.up.iter().filter(|up| up.device == device) {
            if !networks.contains(&up.network) {
                networks.push(up.network.clone());
            }
        }
        networks
    }

    /// The networks that have a default route now, as netifd says, or whose device is one of these.
    pub fn networks_to_internet(&self, devices: &[String]) -> Vec<String> {
        let up = self.up.iter().filter(|up| up.has_default_route).map(|up| up.network.clone());
        let mut networks: Vec<String> = up.collect();
        for section in self.interfaces() {
            let leads = self.devices_of_network(&section.name).iter().any(|device| devices.contains(device));
            if leads && !networks.contains(&section.name) {
                networks.push(section.name.clone());
            }
        }
        networks
    }

    /// The kernel devices that a network may have: what its section names, what netifd calls those that a protocol
    /// makes (`pppoe-wan`; WireGuard's has the network's own name), and what netifd says.
    pub fn devices_of_network(&self, network: &str) -> Vec<String> {
        let mut devices: Vec<String> =
            self.up.iter().filter(|up| up.network == network).map(|up| up.device.clone()).collect();
        if let Some(section) = self.interfaces().find(|section| section.name == network) {
            devices.extend(netifd::device_in(&self.network_text, network));
            let protocol = option_text(section, "proto").unwrap_or_default();
            if !matches!(protocol, "" | "none" | "static" | "dhcp" | "dhcpv6") {
                devices.extend([format!("{protocol}-{network}"), network.to_owned()]);
            }
        }
        devices
    }

    /// The device of a network that is up, where the file names none.
    pub fn attached(&self, network: &str) -> Option<String> {
        let is_written = netifd::device_in(&self.network_text, network).is_ok();
        let up = self.up.iter().find(|up| up.network == network).filter(|_| !is_written)?;
        Some(up.device.clone())
    }

    pub fn has_network(&self, name: &str) -> bool {
        self.interfaces().any(|section| section.name == name) || self.up.iter().any(|up| up.network == name)
    }

    /// The zone that traffic from this device belongs to.
    pub fn zone_of(&self, device: &str) -> Option<&Section> {
        self.zones_of(device).into_iter().next()
    }

    /// All zones that name the device, one of its networks or their subnet.
    pub fn zones_of(&self, device: &str) -> Vec<&Section> {
        let networks = self.networks_of(device);
        let subnets: Vec<Subnet> =
            networks.iter().filter_map(|network| subnets::of_interface(self.network(network)?)).collect();
        let has = |zone: &&Section| {
            option_words(zone, "network").iter().any(|name| networks.iter().any(|own| own == name))
                || option_words(zone, "device").iter().any(|pattern| is_meant(pattern, device))
                || option_words(zone, "subnet")
                    .into_iter()
                    .filter_map(subnets::written)
                    .any(|zones| subnets.iter().any(|subnet| subnet.is_in(zones)))
        };
        self.zones().filter(has).collect()
    }

    /// The zone that a network is in.
    pub fn zone_of_network(&self, network: &str) -> Option<&Section> {
        self.zones().find(|zone| option_words(zone, "network").contains(&network))
    }

    pub fn zones(&self) -> impl Iterator<Item = &Section> {
        self.firewall.of_kind("zone").filter(|zone| is_enabled(zone))
    }

    /// The zone of this name.
    pub fn zone(&self, name: &str) -> Option<&Section> {
        self.zones().find(|zone| zone_name(zone) == name)
    }

    /// A zone as uci addresses it.
    pub fn address_of_zone(&self, zone: &Section) -> String {
        let number = self.firewall.of_kind("zone").position(|other| other == zone).unwrap_or_default();
        match zone.anonymous {
            true => format!("firewall.@zone[{number}]"),
            false => format!("firewall.{}", zone.name),
        }
    }

    /// The kernel devices of a zone, as far as its section and its networks name them.
    pub fn devices_of_zone(&self, zone: &Section) -> Vec<String> {
        let networks =
            option_words(zone, "network").into_iter().flat_map(|network| self.devices_of_network(network));
        let named = option_words(zone, "device").into_iter().map(str::to_owned);
        networks.chain(named).collect()
    }

    /// The sections of a zone's rules that decide over what it forwards, in their order.
    pub fn deciding_rules<'a>(&'a self, zone: &'a str) -> impl Iterator<Item = &'a Section> + 'a {
        self.firewall.of_kind("rule").filter(move |rule| {
            let decides = option_text(rule, "target").is_some_and(|target| {
                ["ACCEPT", "REJECT", "DROP"].iter().any(|word| word.eq_ignore_ascii_case(target))
            });
            is_enabled(rule)
                && option_text(rule, "src") == Some(zone)
                && option_text(rule, "dest").is_some()
                && decides
        })
    }

    /// Whether a zone may reach the router itself, at this port: by the zone's own word or by a rule.
    pub fn accepts_input(&self, zone: &Section, protocol: &str, port: u16) -> bool {
        let rules = self.sections_on_zone("rule", zone_name(zone));
        self.accepts_all_input(zone)
            || rules.into_iter().any(|(_, rule)| {
                let protocols = match option_words(rule, "proto") {
                    protocols if protocols.is_empty() => vec!["tcp", "udp"],
                    protocols => protocols,
                };
                let ports = option_words(rule, "dest_port");
                option_text(rule, "dest").is_none()
                    && option_text(rule, "target").is_some_and(|target| target.eq_ignore_ascii_case("ACCEPT"))
                    && protocols.iter().any(|word| ["all", "any", "*", protocol].contains(word))
                    && (ports.is_empty() || ports.iter().any(|ports| spans(ports, port)))
            })
    }

    /// Whether all that a zone sends to the router is accepted.
    pub fn accepts_all_input(&self, zone: &Section) -> bool {
        match option_text(zone, "input") {
            Some(word) => word.eq_ignore_ascii_case("ACCEPT"),
            None => self.default_is("input", "ACCEPT"),
        }
    }

    /// A zone's name that is not taken.
    pub fn free_zone_name(&self) -> String {
        let names: Vec<&str> = self.zones().map(zone_name).collect();
        guest::free("guests", &names)
    }

    /// The networks that are written and up, for finding a free one.
    pub fn taken(&self) -> Taken {
        let mut taken = Taken::default();
        taken.add_file(&self.network, "");
        taken
    }

    /// Forwardings out of this zone, as uci addresses them and with their destination.
    pub fn ways_out(&self, zone: &str) -> Vec<(String, String)> {
        self.sections_on_zone("forwarding", zone)
            .map(|(address, section)| (address, destination(section)))
            .collect()
    }

    /// Rules that let the whole zone, paid or not, out into one of these zones or everywhere.
    pub fn rules_out(&self, zone: &str, into: &SortedSet<String>) -> Vec<(String, String)> {
        let narrower = ["mark", "dest_ip", "ipset", "src_mac", "src_ip"];
        let out = self.sections_on_zone("rule", zone).filter(|(_, rule)| {
            let dest = option_text(rule, "dest").unwrap_or_default();
            option_text(rule, "target").is_some_and(|target| target.eq_ignore_ascii_case("ACCEPT"))
                && (dest == "*" || into.contains(dest))
                && narrower.iter().all(|option| rule.option(option).is_none())
        });
        out.map(|(address, section)| (address, destination(section))).collect()
    }

    /// Redirects of what the zone sends.
    pub fn redirects_of(&self, zone: &str) -> Vec<String> {
        let redirects = self.sections_on_zone("redirect", zone);
        let others = redirects.filter(|(_, redirect)| {
            !option_text(redirect, "target").is_some_and(|t| t.eq_ignore_ascii_case("SNAT"))
        });
        others.map(|(address, _)| address).collect()
    }

    /// The sections of a kind that concern what this zone sends, as uci addresses them.
    fn sections_on_zone<'a>(
        &'a self,
        kind: &'a str,
        zone: &'a str,
    ) -> impl Iterator<Item = (String, &'a Section)> + 'a {
        let all = self.firewall.of_kind(kind).enumerate();
        let concerned = all.filter(move |(_, section)| {
            matches!(option_text(section, "src"), Some(src) if src == zone || src == "*")
                && is_enabled(section)
        });
        concerned.map(move |(number, section)| {
            let address = match section.anonymous {
                true => format!("firewall.@{kind}[{number}]"),
                false => format!("firewall.{}", section.name),
            };
            (address, section)
        })
    }

    pub fn default_is(&self, option: &str, value: &str) -> bool {
        self.firewall.of_kind("defaults").any(|section| option_text(section, option) == Some(value))
    }

    /// The section of a network.
    pub fn network(&self, name: &str) -> Option<&Section> {
        self.interfaces().find(|section| section.name == name)
    }

    /// The names of all networks, written or up.
    pub fn network_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.interfaces().map(|section| section.name.as_str()).collect();
        for up in &self.up {
            if !names.contains(&up.network.as_str()) {
                names.push(&up.network);
            }
        }
        names
    }

    /// The bridge that this device is a port of, as the file says.
    pub fn bridge_of_port(&self, device: &str) -> Option<String> {
        let in_section =
            self.network.of_kind("device").find(|section| option_words(section, "ports").contains(&device));
        let before_21 = || {
            let has_port = |section: &&Section| {
                option_text(section, "type") == Some("bridge")
                    && option_words(section, "ifname").contains(&device)
            };
            self.interfaces().find(has_port).map(|section| format!("br-{}", section.name))
        };
        in_section.and_then(|section| option_text(section, "name")).map(str::to_owned).or_else(before_21)
    }

    /// Whether the file of networks speaks of this device.
    pub fn names_device(&self, device: &str) -> bool {
        let named =
            self.network.of_kind("device").any(|section| option_text(section, "name") == Some(device));
        named || !self.networks_of(device).is_empty()
    }

    fn interfaces(&self) -> impl Iterator<Item = &Section> {
        self.network.of_kind("interface").filter(|section| !section.anonymous)
    }
}

/// A zone's name as rules use it.
pub fn zone_name(zone: &Section) -> &str {
    option_text(zone, "name").unwrap_or(&zone.name)
}

/// Whether packets that leave through the zone get the router's address.
pub fn masquerades(zone: &Section) -> bool {
    option_text(zone, "masq").is_some_and(is_true) || option_text(zone, "masq6").is_some_and(is_true)
}

fn destination(section: &Section) -> String {
    option_text(section, "dest").unwrap_or_default().to_owned()
}

fn is_enabled(section: &Section) -> bool {
    !option_text(section, "enabled")
        .is_some_and(|word| matches!(word, "0" | "no" | "off" | "false" | "disabled"))
}

pub fn is_true(word: &str) -> bool {
    matches!(word, "1" | "yes" | "on" | "true" | "enabled")
}

/// Whether `67`, `60-70` or `60:70` holds this port.
fn spans(ports: &str, port: u16) -> bool {
    let (first, last) = ports.split_once(['-', ':']).unwrap_or((ports, ports));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
}

/// Whether a zone's `device` means this one: `ppp+` is every device whose name begins so.
fn is_meant(pattern: &str, device: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(beginning) => !beginning.is_empty() && device.starts_with(beginning),
        None => pattern == device,
    }
}

/// Empty if there is no netifd, or if it does not answer.
fn ask_netifd() -> Vec<Up> {
    let asked = Command::new(UBUS)
        .args(["-t", "3", "call", "network.interface", "dump"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match asked {
        Ok(done) if done.status.success() => networks_up(&done.stdout),
        _ => Vec::new(),
    }
}

/// The networks of a dump that have a device.
fn networks_up(dump: &[u8]) -> Vec<Up> {
    let dump: Value = json::read(dump).unwrap_or_default();
    let networks = dump["interface"].as_array().map(Vec::as_slice).unwrap_or_default();
    networks
        .iter()
        .filter_map(|network| {
            let device = network["l3_device"].as_str().or_else(|| network["device"].as_str())?;
            let routes = network["route"].as_array().map(Vec::as_slice).unwrap_or_default();
            Some(Up {
                network: network["interface"].as_str()?.to_owned(),
                device: device.to_owned(),
                has_default_route: routes.iter().any(|route| route["mask"] == 0),
            })
        })
        .collect()
}

/// The files with these texts.
#[cfg(test)]
pub fn files(network: &str, firewall: &str) -> Files {
    let network_text = network.as_bytes().to_vec();
    let read = |text: &str| parse_large(text.as_bytes()).unwrap_or_default();
    Files { network_text, network: read(network), firewall: read(firewall), up: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_may_name_devices_by_their_beginning() {
        let files = files("", "config zone\n\toption name 'visitors'\n\tlist device 'br-gu+'\n");
        assert_eq!(files.zone_of("br-guest").map(zone_name), Some("visitors"));
        assert_eq!(files.zone_of("br-lan"), None);
    }

    #[test]
    fn a_zone_may_name_a_subnet_and_a_device_may_be_in_two() {
        let network =
            "config interface 'guest'\n\toption device 'br-guest'\n\toption ipaddr '192.168.77.1/24'\n";
        let zones = "config zone\n\toption name 'by_subnet'\n\tlist subnet '192.168.0.0/16'
config zone\n\toption name 'off'\n\toption enabled 'no'\n\tlist network 'guest'
config zone\n\toption name 'by_network'\n\tlist network 'guest'
config zone\n\toption name 'other'\n\tlist subnet '10.0.0.0/8'\n";
        let files = files(network, zones);
        let names: Vec<&str> = files.zones_of("br-guest").into_iter().map(zone_name).collect();
        assert_eq!(names, ["by_subnet", "by_network"]);
    }

    #[test]
    fn what_a_zone_may_send_to_the_router_is_its_word_or_a_rule() {
        let zone = "config zone\n\toption name 'visitors'\n\toption input 'REJECT'\n";
        let accepts = |more: &str, protocol: &str, port: u16| {
            let files = files("", &format!("{zone}{more}\n"));
            let zone = files.zone("visitors").unwrap();
            files.accepts_input(zone, protocol, port)
        };
        let rule = "config rule\n\toption src 'visitors'\n\toption target 'accept'\n\toption proto 'udp'\n\toption dest_port '53 60-70'";
        assert!(accepts(rule, "udp", 67) && accepts(rule, "udp", 53));
        assert!(!accepts(rule, "tcp", 53) && !accepts(rule, "udp", 123) && !accepts("", "udp", 67));
        for other in [
            format!("{rule}\n\toption dest 'wan'"),
            format!("{rule}\n\toption enabled '0'"),
            rule.replace("visitors", "lan"),
            rule.replace("accept", "DROP"),
        ] {
            assert!(!accepts(&other, "udp", 67), "{other}");
        }
        let open = files("", &zone.replace("REJECT", "accept"));
        assert!(open.accepts_all_input(open.zone("visitors").unwrap()));
    }

    #[test]
    fn a_network_without_a_device_has_the_one_that_netifd_gave_it() {
        let network = "config interface 'guest'\n\toption proto 'static'\n";
        let mut files = files(network, "config zone\n\toption name 'visitors'\n\tlist network 'guest'\n");
        assert_eq!(files.zone_of("phy0-ap0"), None);
        files.up = networks_up(
            br#"{"interface":[{"interface":"guest","up":true,"l3_device":"phy0-ap0"},{"interface":"off"}]}"#,
        );
        assert_eq!(files.zone_of("phy0-ap0").map(zone_name), Some("visitors"));
    }

    #[test]
    fn a_default_route_is_seen_in_the_dump_and_nonsense_is_no_dump() {
        let dump = br#"{"interface":[
            {"interface":"wan","l3_device":"pppoe-wan","device":"eth1","route":[{"target":"0.0.0.0","mask":0}]},
            {"interface":"lan","l3_device":"br-lan","device":"br-lan","route":[{"target":"10.1.0.0","mask":16}]}]}"#;
        let up = networks_up(dump);
        assert_eq!((up[0].device.as_str(), up[0].has_default_route), ("pppoe-wan", true));
        assert!(!up[1].has_default_route);
        for nonsense in [&b""[..], b"{}", b"[]", b"{\"interface\":[5,{}]}"] {
            assert_eq!(networks_up(nonsense), []);
        }
    }

    #[test]
    fn only_rules_that_decide_over_what_a_zone_forwards_count() {
        let rule = |more: &str| format!("config rule\n\toption src 'visitors'\n{more}\n");
        let text = [
            rule("\toption dest 'wan'\n\toption dest_port '25'\n\toption target 'REJECT'"),
            rule("\toption dest '*'\n\toption target 'drop'"),
            rule("\toption target 'REJECT'"),
            rule("\toption dest 'wan'\n\toption target 'MARK'"),
            rule("\toption dest 'wan'\n\toption target 'DROP'\n\toption enabled '0'"),
            rule("\toption dest 'wan'\n\toption target 'DROP'").replace("visitors", "lan"),
        ];
        assert_eq!(files("", &text.concat()).deciding_rules("visitors").count(), 2);
    }
}
