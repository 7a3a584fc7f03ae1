//! The router's names for guests, the portal's and the certificate's: what dnsmasq is told of them, and whether guests are
//! led here by them.

use crate::calls::name_servers;
use crate::config::Config;
use crate::network::devices;
use std::net::IpAddr;
use std::path::Path;

/// Where the init script writes them; dnsmasq reads every file of this folder.
const FILE: &str = "/tmp/hosts/tollgated";

/// The lines of a hosts file: the router's addresses at each venue, and its names there.
pub fn hosts(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, device) in named(config) {
        lines.extend(own_addresses(device).iter().map(|address| format!("{address} {name}")));
    }
    lines
}

/// A name that does not lead to the router, and the command that mends it.
pub struct Astray {
    pub what: String,
    pub mend: String,
}

/// Asks the router's own name server, as guests do. Takes some seconds where none answers.
pub fn astray(config: &Config) -> Vec<Astray> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, device) in named(config) {
        let own = own_addresses(device);
        let Some(server) = own.first() else { continue };
        let told = runtime.block_on(name_servers::ask_one(*server, name));
        if !told.is_empty() && told.iter().all(is_routers) {
            continue;
        }
        let listed: Vec<String> = told.iter().map(ToString::to_string).collect();
        let leads = match listed.is_empty() {
            true => "is not resolved".to_owned(),
            false => format!("leads to {}", listed.join(", ")),
        };
        let is_tls = config.tls.as_ref().is_some_and(|tls| tls.name == name);
        let of = if is_tls { "certificate's" } else { "portal's" };
        let what = format!(
            "the {of} name {name} {leads} for guests of {device}: dnsmasq learns it from {FILE}; \
             tell another name server there that it is {server}"
        );
        found.push(Astray { what, mend: mend(name) });
    }
    found
}

/// Each name with each device of its venue. Empty while the shop is switched off.
fn named(config: &Config) -> Vec<(&str, &str)> {
    let venues = config.venues.iter().filter(|_| config.main.enabled);
    let mut found = Vec::new();
    for venue in venues {
        let [portal, certificate] = config.names_at(Some(venue));
        for name in [portal, certificate.filter(|name| portal != Some(*name))].into_iter().flatten() {
            found.extend(venue.devices.iter().map(|device| (name, device.as_str())));
        }
    }
    found
}

/// Those that a browser can open: of a link-local one it would have to know the interface.
fn own_addresses(device: &str) -> Vec<IpAddr> {
    let mut addresses = devices::addresses(device).unwrap_or_default();
    addresses.retain(|address| match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !devices::is_link_local(v6),
    });
    addresses
}

fn is_routers(address: &IpAddr) -> bool {
    devices::networks().unwrap_or_default().iter().any(|(own, _)| own == address)
}

fn mend(name: &str) -> String {
    let written = std::fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    match written.lines().any(|line| line.ends_with(&format!(" {name}"))) {
        false => "/etc/init.d/tollgated reload".to_owned(),
        // An instance with `ignore_hosts_dir` reads no other files of the folder.
        true => format!("uci add_list dhcp.@dnsmasq[0].addnhosts={FILE}; uci commit dhcp; reload_config"),
    }
}
