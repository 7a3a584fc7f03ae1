//! `tollgated wiring`: what the init script must tell procd, one `name value` a line.

use super::changes::option_words;
use super::firewall::{zone_name, Files};
use super::{names, uplinks};
use crate::config::uci::Section;
use crate::config::{Config, Problem, Venue};
use crate::network::gate::MARK;
use crate::network::routes;
use crate::set::SortedSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The lines for the configuration at `path`; networks and zones are read from the files beside it.
pub fn wiring(path: &Path) -> Result<String, Vec<Problem>> {
    let (mut config, _) = Config::load(path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (files, _) = Files::read_and_ask(dir);
    config.resolve_networks(&dir.join("network"), &|network| files.attached(network));
    let routes: Vec<String> = routes::to_internet().unwrap_or_default().iter().cloned().collect();
    let (mut networks, mut zones) = (SortedSet::new(), SortedSet::new());
    for venue in &config.venues {
        networks.extend(venue.network.clone());
        for device in &venue.devices {
            networks.extend(files.networks_of(device));
        }
        zones.extend(zones_of(venue, &files));
    }
    networks.extend(networks_to_internet(&config, &files, &routes));
    let main = &config.main;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name} {value}");
    };
    line("enabled", &u8::from(main.enabled));
    line("state_dir", &main.state_dir.display());
    line("run_dir", &main.run_dir.display());
    if config.auth.is_some() {
        // An operator who signs for the first time is written into the configuration.
        line("enrols", &1);
    }
    // What lies in the state directory is seen with it.
    let elsewhere = |file: &&PathBuf| !file.starts_with(&main.state_dir);
    let tls = config.tls.iter().flat_map(|tls| [&tls.cert_file, &tls.key_file]);
    let named = main.ca_file.iter().chain(config.lightning_files());
    let vault = config.keys.iter().flat_map(|vault| [&vault.role_id_file, &vault.secret_id_file]);
    for file in named.chain(tls).chain(config.mpesa_files()).chain(vault) {
        // What renews certificates leaves links: their folder must be seen too.
        let target = std::fs::canonicalize(file).ok().filter(|target| target != file);
        for file in [Some(file.clone()), target].into_iter().flatten().filter(|file| elsewhere(&file)) {
            line("file", &file.display());
        }
    }
    if let Some(file) = Some(&config.admin.token_file).filter(elsewhere) {
        line("token_file", &file.display());
    }
    for (network, device) in attached(&config, &files) {
        line("attached", &format_args!("{network} {device}"));
    }
    let ports = [main.port, main.mint_proxy_port, main.redirect_port];
    for port in ports.into_iter().chain(config.tls.as_ref().map(|tls| tls.port)) {
        line("port", &port);
    }
    for host in names::hosts(&config) {
        line("host", &host);
    }
    for network in networks.iter().filter(|name| is_plain(name)) {
        line("network", network);
    }
    for zone in zones.iter().filter(|name| is_plain(name)) {
        line("zone", zone);
    }
    rules(&mut text, &config, &files, &routes);
    Ok(text)
}

/// The rules that let paid packets through fw4: `rule` begins one, `with OPTION VALUE` says an option of it.
fn rules(text: &mut String, config: &Config, files: &Files, routes: &[String]) {
    let mut given: Vec<String> = Vec::new();
    let mut told = SortedSet::new();
    for venue in &config.venues {
        let uplinks = uplinks::zones_of(config, venue, files, routes).zones;
        for zone in zones_of(venue, files).iter().filter(|zone| is_plain(zone)) {
            if told.insert(zone.clone()) {
                // fw4 puts what services give before the firewall's own rules: these are given once more, so
                // that they decide before ours.
                given.extend(files.deciding_rules(zone).map(again));
            }
            for uplink in uplinks.iter().filter(|zone| is_plain(zone)) {
                given.push(paid(zone, uplink, None));
            }
            if !venue.reach.is_empty() {
                let list: Vec<String> = venue.reach.iter().map(ToString::to_string).collect();
                given.push(paid(zone, "*", Some(list.join(" "))));
            }
        }
    }
    let mut before = SortedSet::new();
    for rule in given {
        if before.insert(rule.clone()) {
            text.push_str(&rule);
        }
    }
}

/// Accepts what is paid on its way from one zone into another, or to some addresses only.
fn paid(from: &str, to: &str, addresses: Option<String>) -> String {
    let addresses = addresses.map(|list| format!("with dest_ip {list}\n")).unwrap_or_default();
    format!(
        "rule\nwith src {from}\nwith dest {to}\n{addresses}with proto all\nwith mark {MARK:#010x}/{MARK:#010x}\nwith target ACCEPT\n"
    )
}

/// A rule of the firewall's file as it stands there, without the name that fw4 gives those of services anew.
fn again(rule: &Section) -> String {
    let mut text = "rule\n".to_owned();
    for option in rule.options.iter().filter(|option| !matches!(option.name.as_str(), "name" | "enabled")) {
        let value = option_words(rule, &option.name).join(" ");
        if !value.is_empty() {
            let _ = writeln!(text, "with {} {value}", option.name);
        }
    }
    text
}

/// The venues' networks whose device only netifd knows, and that device. The daemon cannot ask from its jail.
fn attached<'a>(config: &'a Config, files: &Files) -> Vec<(&'a str, String)> {
    let networks = config.venues.iter().filter_map(|venue| venue.network.as_deref());
    networks.filter_map(|network| Some((network, files.attached(network)?))).collect()
}

/// The zones of a venue's guests.
fn zones_of(venue: &Venue, files: &Files) -> SortedSet<String> {
    venue
        .devices
        .iter()
        .flat_map(|device| files.zones_of(device))
        .map(|zone| zone_name(zone).to_owned())
        .collect()
}

/// The networks whose coming and going changes what the internet is.
fn networks_to_internet(config: &Config, files: &Files, routes: &[String]) -> SortedSet<String> {
    let mut networks: SortedSet<String> = files.networks_to_internet(routes).into_iter().collect();
    for venue in &config.venues {
        for name in config.uplinks_of(venue).iter().filter(|name| files.has_network(name)) {
            networks.insert(name.clone());
        }
        for zone in uplinks::zones_of(config, venue, files, routes).zones.iter() {
            let zone = files.zone(zone);
            networks.extend(
                zone.map(|zone| option_words(zone, "network"))
                    .unwrap_or_default()
                    .into_iter()
                    .map(str::to_owned),
            );
        }
    }
    networks
}

/// The init script splits at blanks.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
