//! What `tollgated check --system` finds in the firewall: ways past the gate, and whether what is paid gets out.

use super::firewall::{zone_name, Files};
use super::fw4::Accepted;
use super::system::Found;
use super::uplinks;
use crate::config::uci::Section;
use crate::config::Config;
use crate::network::routes;
use crate::set::SortedSet;
use std::path::Path;

/// With it earlier versions of our package made fw4 accept what is paid wherever it goes.
const OLD_INCLUDE: &str = "/usr/share/nftables.d/chain-pre/forward/30-tollgated.nft";

impl Found {
    /// Whether what is paid gets out, by fw4's sections, and nothing past the gate.
    pub(super) fn ways(&mut self, config: &Config, files: &Files) {
        if files.firewall.sections.is_empty() {
            return;
        }
        let routes: Vec<String> = routes::to_internet().unwrap_or_default().iter().cloned().collect();
        if files.accepts_by_default("forward") {
            let what = "fw4 forwards whatever no zone decides (forward ACCEPT in its defaults): with the gate's table gone, only the routing rule holds guests back";
            let mend = "uci set firewall.@defaults[0].forward=REJECT; uci commit firewall; fw4 reload";
            self.error("bypass", what.to_owned(), mend.to_owned());
        }
        let mut told = SortedSet::new();
        for venue in &config.venues {
            let out = uplinks::zones_of(config, venue, files, &routes);
            for name in &out.unknown {
                let what = format!("'{name}' (list uplink) is neither a zone nor a network in one");
                self.error(
                    "uplink",
                    what,
                    "uci show firewall | grep -e '=zone' -e '.name=' -e '.network='".to_owned(),
                );
            }
            if out.zones.is_empty() && out.unknown.is_empty() {
                let mend =
                    "uci add_list tollgate.main.uplink=wan; uci commit tollgate; reload_config".to_owned();
                let what = "no firewall zone leads to the internet: none masquerades or has a network with a default route";
                self.error("uplink", what.to_owned(), mend);
            }
            if let Some(zone) = uplinks::unmasked(&out.zones, files, &routes) {
                // The way ahead does not know where the guests' network is.
                let address = files.address_of_zone(zone);
                let what = format!("zone {} leads to the internet and does not masquerade: no answers come back to guests, unless the router ahead knows their network", zone_name(zone));
                self.warn(
                    "masquerade",
                    what,
                    format!("uci set {address}.masq=1; uci commit firewall; fw4 reload"),
                );
            }
            let zones = venue.devices.iter().flat_map(|device| files.zones_of(device)).map(zone_name);
            for zone in zones.filter(|zone| told.insert((*zone).to_owned())) {
                for (address, dest) in files.rules_out(zone) {
                    let what = format!("a rule lets {zone} into {dest}, paid or not: with the gate's table gone, only the routing rule holds guests back");
                    self.error(
                        "bypass",
                        what,
                        format!("uci set {address}.enabled=0; uci commit firewall; fw4 reload"),
                    );
                }
                for address in files.redirects_of(zone) {
                    let what = format!("{address} redirects what {zone} sends");
                    self.warn(
                        "redirect",
                        what,
                        format!("uci set {address}.enabled=0; uci commit firewall; fw4 reload"),
                    );
                }
            }
        }
    }

    /// The same of fw4's table in the kernel: what the service gave it, and what is in no section.
    pub(super) fn table(&mut self, config: &Config, files: &Files) {
        if !Path::new("/usr/share/firewall4").exists() && !Path::new("/sbin/fw4").exists() {
            return self.not_looked_at(
                "fw4",
                "this machine has no fw4: whether it lets paid packets through".to_owned(),
            );
        }
        let Some(accepted) = Accepted::look() else {
            return self.error(
                "fw4",
                "fw4's table is not loaded, or cannot be read".to_owned(),
                "fw4 start".to_owned(),
            );
        };
        for listed in accepted.too_wide() {
            let mend = match Path::new(OLD_INCLUDE).exists() {
                true => format!("rm {OLD_INCLUDE}; fw4 reload"),
                false => "fw4 reload".to_owned(),
            };
            let what = format!(
                "fw4's chain {} lets those who paid into every network: {}",
                listed.chain, listed.rule
            );
            self.error("wide", what, mend);
        }
        let routes: Vec<String> = routes::to_internet().unwrap_or_default().iter().cloned().collect();
        for venue in &config.venues {
            let out = uplinks::zones_of(config, venue, files, &routes);
            for zone in venue.devices.iter().flat_map(|device| files.zones_of(device)).map(zone_name) {
                for listed in accepted.past(zone, &venue.devices) {
                    let what = format!(
                        "a rule in fw4's chain {}, which is in no section, lets {zone} out, paid or not: {}",
                        listed.chain, listed.rule
                    );
                    let mend = "grep -rl accept /etc/nftables.d /usr/share/nftables.d; uci show firewall | grep -e =include -e .path=";
                    self.error("bypass", what, mend.to_owned());
                }
                for uplink in
                    out.zones.iter().filter(|uplink| config.main.enabled && !accepted.leads(zone, uplink))
                {
                    let what =
                        format!("fw4 has no rule that lets {zone} into {uplink}: it drops what was paid for");
                    self.error("mark", what, "/etc/init.d/tollgated restart; fw4 reload".to_owned());
                }
            }
        }
    }

    /// Whether a zone of guests lets them do too much, or too little.
    pub(super) fn zone(&mut self, zone: &Section, files: &Files) {
        let (name, at) = (zone_name(zone), files.address_of_zone(zone));
        for (address, dest) in files.ways_out(name) {
            let what = format!("fw4 forwards {name} to {dest}: with the gate's table gone, only the routing rule holds guests back");
            self.error("bypass", what, format!("uci delete {address}; uci commit firewall; fw4 reload"));
        }
        if files.accepts(zone, "forward") {
            let what = format!("zone {name} forwards between its own devices past the gate");
            self.warn("zone", what, format!("uci set {at}.forward=REJECT; uci commit firewall; fw4 reload"));
        }
        if files.accepts_all_input(zone) {
            let what = format!("zone {name} accepts whatever guests send to this router: its SSH and its pages are open to them");
            self.warn("input", what, format!("uci set {at}.input=REJECT; uci commit firewall; fw4 reload"));
        }
        for address in files.rules_in(name) {
            let what = format!("a rule accepts whatever {name} sends to this router: its SSH and its pages are open to guests");
            self.warn("input", what, format!("uci set {address}.enabled=0; uci commit firewall; fw4 reload"));
        }
        for (service, protocol, port) in [("dhcp", "udp", 67), ("dns", "udp", 53)] {
            if !files.accepts_input(zone, protocol, port) {
                let what =
                    format!("zone {name} may not reach this router's {service}: guests stay without it");
                let rule = format!("firewall.{name}_{service}");
                let mend = format!(
                    "uci set {rule}=rule; uci set {rule}.src={name}; uci set {rule}.proto='tcp udp'; uci set {rule}.dest_port={port}; \
                     uci set {rule}.target=ACCEPT; uci set {rule}.enabled=1; uci commit firewall; fw4 reload"
                );
                self.warn("input", what, mend);
            }
        }
    }
}
