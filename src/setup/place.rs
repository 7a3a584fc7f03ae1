//! Where guests may be: setup gates no uplink, not the owner's own network, and nothing that is not there.

use super::answers::GuestPlace;
use super::changes::option_text;
use super::firewall::{zone_name, Files};
use super::{uplinks, SetupError};
use crate::config::uci::Section;
use crate::network::{devices, routes};
use std::path::Path;

/// The router as far as setup must know it.
pub struct RouterFacts {
    pub files: Files,
    /// The devices of default routes.
    pub routes: Vec<String>,
    /// What is up, where this is the router that runs by these files.
    pub up: Option<Vec<String>>,
}

impl RouterFacts {
    /// `is_the_routers`: the files in `dir` are those that this machine runs by.
    pub fn look(dir: &Path, is_the_routers: bool) -> RouterFacts {
        let (files, _) = Files::read_and_ask(dir);
        if !is_the_routers {
            return RouterFacts { files, routes: Vec::new(), up: None };
        }
        let routes = routes::to_internet().unwrap_or_default().iter().cloned().collect();
        let up = devices::all().ok().map(|all| all.into_iter().map(|device| device.name).collect());
        RouterFacts { files, routes, up }
    }

    /// Why guests should not be there; `None` if they may.
    pub fn objection(&self, place: &GuestPlace) -> Option<String> {
        match place {
            GuestPlace::AsItIs | GuestPlace::Make(_) => None,
            GuestPlace::Device(device) => self.device(device),
            GuestPlace::Network(network) => self.network(network),
        }
    }

    fn device(&self, device: &str) -> Option<String> {
        let in_kernel = || self.up.as_ref().and_then(|_| devices::bridge_of(device).ok().flatten());
        if let Some(bridge) = self.files.bridge_of_port(device).or_else(in_kernel) {
            return Some(format!(
                "{device} is a port of {bridge}: the gate sees only what the bridge receives"
            ));
        }
        let has_it = |network: &&str| self.files.devices_of_network(network).iter().any(|own| own == device);
        let networks = self.files.network_names().into_iter().filter(has_it);
        if let Some(why) = networks.filter_map(|network| self.purpose(network)).next() {
            return Some(format!("{device} {why}"));
        }
        if self.routes.iter().any(|route| route == device) {
            return Some(format!(
                "{device} has a default route: gating it cuts this router off the internet"
            ));
        }
        if let Some(why) = self.files.zone_of(device).and_then(|zone| self.zone_purpose(zone)) {
            return Some(format!("{device} {why}"));
        }
        let is_up = self.up.as_ref().is_some_and(|up| up.iter().any(|name| name == device));
        let known = is_up || self.files.names_device(device);
        (!known).then(|| {
            format!("there is no device {device}, nobody is asked to pay until there is; 'ip link' shows those that there are")
        })
    }

    fn network(&self, network: &str) -> Option<String> {
        if !self.files.has_network(network) {
            let known = self.files.network_names().join(", ");
            return Some(format!("there is no network {network}: choose of {known}"));
        }
        if let Some(why) = self.purpose(network) {
            return Some(format!("the network {network} {why}"));
        }
        let zone = self.files.zone_of_network(network);
        if let Some(why) = zone.and_then(|zone| self.zone_purpose(zone)) {
            return Some(format!("the network {network} {why}"));
        }
        let devices = self.files.devices_of_network(network);
        if devices.is_empty() {
            return Some(format!(
                "the network {network} has no device yet: add one to it in /etc/config/network, or switch its Wi-Fi on"
            ));
        }
        devices.iter().find_map(|device| self.device(device))
    }

    /// What a network is for, if not for guests.
    fn purpose(&self, network: &str) -> Option<String> {
        let protocol =
            self.files.network(network).and_then(|section| option_text(section, "proto")).unwrap_or("none");
        let leads = self.files.networks_to_internet(&self.routes).iter().any(|name| name == network);
        let is_uplink = leads || !matches!(protocol, "static" | "none");
        match network {
            "loopback" => Some("is the router itself".to_owned()),
            "lan" => Some(OWNERS.to_owned()),
            _ if is_uplink => Some("is an uplink: gating it cuts this router off the internet".to_owned()),
            _ => None,
        }
    }

    /// What the firewall says of those in a zone, if it is not for guests.
    fn zone_purpose(&self, zone: &Section) -> Option<String> {
        let name = zone_name(zone);
        let outside = uplinks::zones_unsaid(&self.files, &self.routes);
        if outside.contains(name) {
            return Some(format!(
                "is in zone {name}, which leads to the internet: gating it cuts this router off"
            ));
        }
        let is_trusted = self.files.accepts_all_input(zone)
            && self.files.ways_out(name).iter().any(|(_, to)| outside.contains(to));
        (name == "lan" || is_trusted).then(|| OWNERS.to_owned())
    }

    /// The place as it will be written, or why it is refused; with `force` the objection is only told.
    pub fn checked(&self, place: &GuestPlace, force: bool) -> Result<Option<String>, SetupError> {
        match self.objection(place) {
            Some(why) if force => Ok(Some(format!("forced: {why}"))),
            Some(why) => Err(SetupError::Refused(format!("{why} (--force gates it all the same)"))),
            None => Ok(None),
        }
    }
}

const OWNERS: &str = "is the owner's own network: gating it cuts off the owner's computers, from the internet until they pay and \
                      from this router's SSH and web pages for good";

#[cfg(test)]
mod tests {
    use super::super::firewall;
    use super::*;

    const NETWORK: &str = "config interface 'loopback'\n\toption device 'lo'\n\toption proto 'static'
config device\n\toption name 'br-lan'\n\toption type 'bridge'\n\tlist ports 'lan1'\n\tlist ports 'lan2'
config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'
config interface 'wan'\n\toption device 'eth1'\n\toption proto 'dhcp'
config interface 'dsl'\n\toption device 'dsl0'\n\toption proto 'pppoe'
config interface 'leased'\n\toption device 'eth2'\n\toption proto 'static'
config interface 'office'\n\toption device 'eth3'\n\toption proto 'static'
config interface 'cafe_on_the_hill_guests'\n\toption device 'br-lan.20'\n\toption proto 'static'
config interface 'bare'\n\toption proto 'static'\n";
    const ZONES: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'
config zone\n\toption name 'wan'\n\tlist network 'wan'\n\tlist network 'leased'\n\toption masq '1'
config zone\n\toption name 'work'\n\tlist network 'office'\n\toption input 'ACCEPT'
config forwarding\n\toption src 'work'\n\toption dest 'wan'
config zone\n\toption name 'visitors'\n\tlist network 'cafe_on_the_hill_guests'\n\toption input 'REJECT'
config forwarding\n\toption src 'visitors'\n\toption dest 'wan'\n";

    fn objection(place: GuestPlace) -> Option<String> {
        let surroundings = RouterFacts {
            files: firewall::files(NETWORK, ZONES),
            routes: vec!["wwan0".to_owned()],
            up: Some(vec!["phy0-ap1".to_owned(), "wwan0".to_owned(), "eth1".to_owned()]),
        };
        surroundings.objection(&place)
    }

    #[test]
    fn what_leads_to_the_internet_is_not_gated() {
        for device in ["eth1", "dsl0", "pppoe-dsl", "eth2", "wwan0"] {
            let why = objection(GuestPlace::Device(device.to_owned())).unwrap_or_default();
            assert!(why.contains("cuts this router off"), "{device}: {why}");
        }
        for network in ["wan", "dsl", "leased"] {
            let why = objection(GuestPlace::Network(network.to_owned())).unwrap_or_default();
            assert!(why.contains("cuts this router off"), "{network}: {why}");
        }
    }

    #[test]
    fn the_owners_own_network_is_not_gated() {
        for place in [
            GuestPlace::Device("br-lan".to_owned()),
            GuestPlace::Device("eth3".to_owned()),
            GuestPlace::Network("lan".to_owned()),
            GuestPlace::Network("office".to_owned()),
        ] {
            assert!(objection(place.clone()).unwrap_or_default().contains("the owner's own"), "{place:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_gated() {
        for (place, words) in [
            (GuestPlace::Device("br-none".to_owned()), "there is no device br-none"),
            (GuestPlace::Device("lan1".to_owned()), "a port of br-lan"),
            (GuestPlace::Network("nowhere".to_owned()), "choose of loopback, lan, wan, "),
            (GuestPlace::Network("loopback".to_owned()), "is the router itself"),
            (GuestPlace::Network("bare".to_owned()), "has no device yet"),
        ] {
            assert!(objection(place.clone()).unwrap_or_default().contains(words), "{place:?}");
        }
    }

    #[test]
    fn a_place_for_guests_is_taken_and_force_takes_any() {
        for place in [
            GuestPlace::Device("br-lan.20".to_owned()),
            GuestPlace::Device("phy0-ap1".to_owned()),
            GuestPlace::Network("cafe_on_the_hill_guests".to_owned()),
        ] {
            assert_eq!(objection(place), None);
        }
        let nothing = RouterFacts { files: firewall::files("", ""), routes: Vec::new(), up: None };
        let place = GuestPlace::Device("br-none".to_owned());
        assert!(nothing.checked(&place, true).unwrap().unwrap().contains("no device br-none"));
        assert!(matches!(nothing.checked(&place, false), Err(SetupError::Refused(_))));
    }
}
