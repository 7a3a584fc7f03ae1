//! Reading fw4's configuration and netifd's: which zone a device is in, which devices a zone has, and what leads
//! past the gate.

use super::answers::Subnet;
use super::changes::{option_text, option_words};
use super::guest;
use super::subnets::{self, Taken};
use crate::config::netifd;
use crate::config::uci::{parse_large, Section, UciFile};
use crate::json;
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
                is_accept(target) || ["REJECT", "DROP"].iter().any(|word| word.eq_ignore_ascii_case(target))
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
                    && option_text(rule, "target").is_some_and(is_accept)
                    && protocols.iter().any(|word| ["all", "any", "*", protocol].contains(word))
                    && (ports.is_empty() || ports.iter().any(|ports| spans(ports, port)))
            })
    }

    /// Whether all that a zone sends to the router is accepted, by the zone's own word.
    pub fn accepts_all_input(&self, zone: &Section) -> bool {
        self.accepts(zone, "input")
    }

    /// Whether a zone's policy (`input`, `forward`), or the one for all zones, is to accept.
    pub fn accepts(&self, zone: &Section, policy: &str) -> bool {
        option_text(zone, policy).map_or_else(|| self.accepts_by_default(policy), is_accept)
    }

    /// Whether what no zone decides is accepted.
    pub fn accepts_by_default(&self, policy: &str) -> bool {
        self.firewall.of_kind("defaults").any(|section| option_text(section, policy).is_some_and(is_accept))
    }

    /// Rules that accept all that a zone sends to the router, as uci addresses them.
    pub fn rules_in(&self, zone: &str) -> Vec<String> {
        let narrower = ["dest_port", "dest_ip", "src_ip", "src_mac", "ipset", "mark", "icmp_type"];
        let all = self.sections_on_zone("rule", zone).filter(|(_, rule)| {
            let protocols = option_words(rule, "proto");
            option_text(rule, "dest").is_none()
                && option_text(rule, "target").is_some_and(is_accept)
                && (protocols.is_empty()
                    || protocols.iter().any(|word| ["all", "any", "*", "tcp"].contains(word)))
                && narrower.iter().all(|option| rule.option(option).is_none())
        });
        all.map(|(address, _)| address).collect()
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
        taken.add_zones(&self.firewall);
        taken
    }

    /// Forwardings out of this zone, as uci addresses them and with their destination.
    pub fn ways_out(&self, zone: &str) -> Vec<(String, String)> {
        self.sections_on_zone("forwarding", zone)
            .map(|(address, section)| (address, destination(section)))
            .collect()
    }

    /// Rules that let the whole zone, paid or not, out into another or everywhere.
    pub fn rules_out(&self, zone: &str) -> Vec<(String, String)> {
        let narrower = ["mark", "dest_ip", "ipset", "src_mac", "src_ip"];
        let out = self.sections_on_zone("rule", zone).filter(|(_, rule)| {
            let dest = option_text(rule, "dest").unwrap_or_default();
            option_text(rule, "target").is_some_and(is_accept)
                && !dest.is_empty()
                && dest != zone
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

    /// Whether an option for all zones is on.
    pub fn is_on(&self, option: &str) -> bool {
        self.firewall.of_kind("defaults").any(|section| option_text(section, option).is_some_and(is_yes))
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
    option_text(zone, "masq").is_some_and(is_yes) || option_text(zone, "masq6").is_some_and(is_yes)
}

fn destination(section: &Section) -> String {
    option_text(section, "dest").unwrap_or_default().to_owned()
}

/// fw4 leaves out a section whose `enabled` is not one of its words for yes.
fn is_enabled(section: &Section) -> bool {
    option_text(section, "enabled").is_none_or(is_yes)
}

/// fw4's words for yes.
fn is_yes(word: &str) -> bool {
    matches!(word, "1" | "yes" | "on" | "true")
}

/// fw4 takes its words in any case, and their beginnings.
pub fn is_accept(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    !word.is_empty() && "accept".starts_with(&word)
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
mod tests;
