//! Reading fw4's configuration and netifd's: which zone a device is in, which devices a zone has, and what leads
//! past the gate.

use super::changes::{option_text, option_words};
use crate::config::netifd;
use crate::config::uci::{parse, Section, UciFile};
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
                false => parse(&bytes).ok(),
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

    pub fn has_network(&self, name: &str) -> bool {
        self.interfaces().any(|section| section.name == name) || self.up.iter().any(|up| up.network == name)
    }

    /// The zone that traffic from this device belongs to.
    pub fn zone_of(&self, device: &str) -> Option<&Section> {
        let networks = self.networks_of(device);
        self.zones().find(|zone| {
            option_words(zone, "network").iter().any(|name| networks.iter().any(|own| own == name))
                || option_words(zone, "device").iter().any(|pattern| is_meant(pattern, device))
        })
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

fn is_true(word: &str) -> bool {
    matches!(word, "1" | "yes" | "on" | "true" | "enabled")
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
    let read = |text: &str| parse(text.as_bytes()).unwrap_or_default();
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
