//! Where the internet is: the zones and kernel devices that `list uplink` names; unsaid, the zones that masquerade,
//! those with a network that has a default route, and the devices of default routes.

use super::firewall::{masquerades, zone_name, Files};
use crate::config::uci::Section;
use crate::config::{Config, Venue};
use crate::set::SortedSet;

/// What one venue's guests reach the internet by, as fw4 calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VenueUplinks {
    pub zones: SortedSet<String>,
    /// Names of the configuration that are neither a zone nor a network in one.
    pub unknown: Vec<String>,
}

/// The zones that are the internet for a venue. `routes` are the devices of default routes.
pub fn zones_of(config: &Config, venue: &Venue, files: &Files, routes: &[String]) -> VenueUplinks {
    let named = config.uplinks_of(venue);
    let mut uplinks = VenueUplinks::default();
    for name in named {
        match files.zone(name).or_else(|| files.zone_of_network(name)) {
            Some(zone) => drop(uplinks.zones.insert(zone_name(zone).to_owned())),
            None => uplinks.unknown.push(name.clone()),
        }
    }
    if named.is_empty() {
        uplinks.zones.extend(zones_unsaid(files, routes));
    }
    // A network of guests is never the internet.
    for guests in config.venues.iter().flat_map(|venue| &venue.devices) {
        if let Some(zone) = files.zone_of(guests) {
            uplinks.zones.remove(zone_name(zone));
        }
    }
    uplinks
}

/// The kernel devices that lead to the internet from any venue, whether they are there now or not.
pub fn devices_of(config: &Config, files: &Files, routes: &SortedSet<String>) -> SortedSet<String> {
    let routes: Vec<String> = routes.iter().cloned().collect();
    let mut devices = SortedSet::new();
    let is_unsaid = |venue: &Venue| config.uplinks_of(venue).is_empty();
    if config.venues.iter().any(is_unsaid) {
        devices.extend(routes.iter().cloned());
        for zone in zones_unsaid(files, &routes) {
            devices.extend(files.zone(&zone).map(|zone| files.devices_of_zone(zone)).unwrap_or_default());
        }
    }
    for name in config.venues.iter().flat_map(|venue| config.uplinks_of(venue)) {
        match files.zone(name) {
            Some(zone) => devices.extend(files.devices_of_zone(zone)),
            None => devices.extend(files.devices_of_network(name)),
        }
    }
    devices.retain(|device| {
        crate::network::devices::is_valid_name(device) && config.venue_of_device(device).is_none()
    });
    devices
}

/// The zones that are the internet where nothing is said of it.
pub fn zones_unsaid(files: &Files, routes: &[String]) -> SortedSet<String> {
    let mut zones = zones_with_route(files, routes);
    zones.extend(files.zones().filter(|zone| masquerades(zone)).map(|zone| zone_name(zone).to_owned()));
    zones
}

/// One of these zones where nothing masquerades on the way that packets take now: the zones with a default route, or
/// all of them if no zone has one.
pub fn unmasked<'a>(zones: &SortedSet<String>, files: &'a Files, routes: &[String]) -> Option<&'a Section> {
    let leading = zones_with_route(files, routes);
    let (taken, other): (Vec<&String>, Vec<&String>) = zones.iter().partition(|zone| leading.contains(*zone));
    let taken = if taken.is_empty() { other } else { taken };
    let taken: Vec<&Section> = taken.into_iter().filter_map(|zone| files.zone(zone)).collect();
    let first = taken.first().copied();
    first.filter(|_| !taken.iter().any(|zone| masquerades(zone)))
}

fn zones_with_route(files: &Files, routes: &[String]) -> SortedSet<String> {
    let leading = files.networks_to_internet(routes);
    let by_network = leading.iter().filter_map(|network| files.zone_of_network(network));
    let by_device = routes.iter().filter_map(|device| files.zone_of(device));
    by_network.chain(by_device).map(|zone| zone_name(zone).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::firewall;
    use super::*;

    const NETWORK: &str = "config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'
config interface 'wan'\n\toption device 'eth1'\n\toption proto 'pppoe'
config interface 'wwan'\n\toption device 'phy0-sta0'\n\toption proto 'dhcp'
config interface 'guest'\n\toption device 'br-guest'\n\toption proto 'static'\n";
    const ZONES: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'
config zone\n\toption name 'wan'\n\tlist network 'wan'\n\toption masq '1'
config zone\n\toption name 'hotel'\n\tlist network 'wwan'
config zone\n\toption name 'visitors'\n\tlist network 'guest'\n";

    fn config(main: &str, venue: &str) -> Config {
        let text = format!(
            "config tollgate 'main'\n\toption enabled '0'\n{main}\nconfig venue 'guest'\n\tlist device 'br-guest'\n{venue}\n"
        );
        Config::from_uci(&text).unwrap().0
    }

    fn zones(config: &Config, routes: &[&str]) -> Vec<String> {
        let routes: Vec<String> = routes.iter().map(ToString::to_string).collect();
        let uplinks = zones_of(config, &config.venues[0], &firewall::files(NETWORK, ZONES), &routes);
        uplinks.zones.iter().cloned().collect()
    }

    #[test]
    fn unsaid_it_is_what_masquerades_and_what_has_a_default_route() {
        let config = config("", "");
        assert_eq!(zones(&config, &[]), ["wan"]);
        assert_eq!(zones(&config, &["phy0-sta0"]), ["hotel", "wan"]);
        assert_eq!(zones(&config, &["pppoe-wan"]), ["wan"]);
        assert_eq!(zones(&config, &["br-lan"]), ["lan", "wan"], "an access point behind the router");
    }

    #[test]
    fn an_access_point_masquerades_where_its_default_route_is_or_not_at_all() {
        let files = firewall::files(NETWORK, ZONES);
        let unmasked = |routes: &[&str]| {
            let routes: Vec<String> = routes.iter().map(ToString::to_string).collect();
            unmasked(&zones_unsaid(&files, &routes), &files, &routes).map(zone_name)
        };
        assert_eq!(unmasked(&["pppoe-wan"]), None);
        assert_eq!(unmasked(&[]), None, "the WAN is down");
        assert_eq!(unmasked(&["br-lan"]), Some("lan"), "its own wan is not the way");
        assert_eq!(unmasked(&["br-lan", "pppoe-wan"]), None);
    }

    #[test]
    fn what_is_named_counts_alone_as_zone_or_as_network() {
        assert_eq!(zones(&config("\tlist uplink 'hotel'", ""), &["pppoe-wan"]), ["hotel"]);
        assert_eq!(zones(&config("\tlist uplink 'wwan'", ""), &[]), ["hotel"]);
        assert_eq!(zones(&config("\tlist uplink 'hotel'", "\tlist uplink 'wan'"), &[]), ["wan"]);
        let config = config("\tlist uplink 'nowhere'", "");
        let uplinks = zones_of(&config, &config.venues[0], &firewall::files(NETWORK, ZONES), &[]);
        assert_eq!((uplinks.zones.len(), uplinks.unknown), (0, vec!["nowhere".to_owned()]));
    }

    #[test]
    fn guests_are_never_the_internet() {
        assert_eq!(zones(&config("\tlist uplink 'visitors'", ""), &[]), Vec::<String>::new());
        assert_eq!(zones(&config("", ""), &["br-guest"]), ["wan"]);
    }

    #[test]
    fn devices_are_those_that_the_networks_may_have_and_those_of_default_routes() {
        let devices = |config: &Config, routes: &[&str]| -> Vec<String> {
            let routes = routes.iter().map(ToString::to_string).collect();
            devices_of(config, &firewall::files(NETWORK, ZONES), &routes).iter().cloned().collect()
        };
        assert_eq!(devices(&config("", ""), &["wg0", "br-guest"]), ["eth1", "pppoe-wan", "wan", "wg0"]);
        assert_eq!(devices(&config("\tlist uplink 'wwan'", ""), &["pppoe-wan"]), ["phy0-sta0"]);
        let elsewhere = firewall::files("", "");
        assert_eq!(devices_of(&config("", ""), &elsewhere, &SortedSet::from(["eth0".to_owned()])).len(), 1);
    }
}
