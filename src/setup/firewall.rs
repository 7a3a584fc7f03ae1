//! Reading fw4's configuration: which zone a guest device is in, and what leads past the gate.

use super::changes::{text, words};
use crate::config::netifd;
use crate::config::uci::{parse, Section, UciFile};
use std::path::Path;

/// The files of `network` and `firewall` in one directory.
pub struct Files {
    network_text: Vec<u8>,
    network: UciFile,
    pub firewall: UciFile,
}

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
        (Files { network_text, network, firewall }, unread)
    }

    /// The networks whose device this is.
    pub fn networks_of(&self, device: &str) -> Vec<String> {
        let interfaces = self.network.of_kind("interface").filter(|section| !section.anonymous);
        interfaces
            .filter(|section| {
                netifd::device_in(&self.network_text, &section.name).is_ok_and(|found| found == device)
            })
            .map(|section| section.name.clone())
            .collect()
    }

    /// The zone that traffic from this device belongs to.
    pub fn zone_of(&self, device: &str) -> Option<&Section> {
        let networks = self.networks_of(device);
        self.firewall.of_kind("zone").find(|zone| {
            words(zone, "network").iter().any(|name| networks.iter().any(|own| own == name))
                || words(zone, "device").contains(&device)
        })
    }

    /// Forwardings out of this zone, as uci addresses them and with their destination.
    pub fn ways_out(&self, zone: &str) -> Vec<(String, String)> {
        let out = self.firewall.of_kind("forwarding").enumerate().filter(|(_, section)| {
            matches!(text(section, "src"), Some(src) if src == zone || src == "*")
                && !matches!(text(section, "enabled"), Some("0"))
        });
        out.map(|(number, section)| {
            let address = match section.anonymous {
                true => format!("firewall.@forwarding[{number}]"),
                false => format!("firewall.{}", section.name),
            };
            (address, text(section, "dest").unwrap_or_default().to_owned())
        })
        .collect()
    }

    pub fn default_is(&self, option: &str, value: &str) -> bool {
        self.firewall.of_kind("defaults").any(|section| text(section, option) == Some(value))
    }
}

/// A zone's name as rules use it.
pub fn zone_name(zone: &Section) -> &str {
    text(zone, "name").unwrap_or(&zone.name)
}
