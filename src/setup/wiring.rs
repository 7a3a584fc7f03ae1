//! `tollgated wiring`: what the init script must tell procd, one `name value` a line.

use super::firewall::{zone_name, Files};
use crate::config::{Config, Problem};
use crate::set::SortedSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The lines for the configuration at `path`; networks and zones are read from the files beside it.
pub fn wiring(path: &Path) -> Result<String, Vec<Problem>> {
    let (mut config, _) = Config::load(path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    config.resolve_networks(&dir.join("network"));
    let (files, _) = Files::read(dir);
    let (mut networks, mut zones) = (SortedSet::new(), SortedSet::new());
    for venue in &config.venues {
        networks.extend(venue.network.clone());
        for device in &venue.devices {
            networks.extend(files.networks_of(device));
            zones.extend(files.zone_of(device).map(|zone| zone_name(zone).to_owned()));
        }
    }
    let main = &config.main;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name} {value}");
    };
    line("enabled", &u8::from(main.enabled));
    line("state_dir", &main.state_dir.display());
    line("run_dir", &main.run_dir.display());
    // What lies in the state directory is seen with it.
    let elsewhere = |file: &&PathBuf| !file.starts_with(&main.state_dir);
    for file in [&main.ca_file, &config.lightning.secret_file].into_iter().flatten().filter(elsewhere) {
        line("file", &file.display());
    }
    if let Some(file) = Some(&config.admin.token_file).filter(elsewhere) {
        line("token_file", &file.display());
    }
    for port in [main.port, main.mint_proxy_port, main.redirect_port] {
        line("port", &port);
    }
    for network in networks.iter().filter(|name| is_plain(name)) {
        line("network", network);
    }
    for zone in zones.iter().filter(|name| is_plain(name)) {
        line("zone", zone);
    }
    Ok(text)
}

/// The init script splits at blanks.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
