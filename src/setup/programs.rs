//! Where the operator's programs must not be served: where guests are, and where the internet is.

use super::firewall::Files;
use super::uplinks;
use crate::config::uci::UciFile;
use crate::config::{netifd, Config, Problem, Severity};
use crate::network::{devices, routes};
use std::net::IpAddr;
use std::path::Path;

/// What speaks against this address, as the kernel has it now.
pub fn unfit_for_programs(config: &Config, address: IpAddr) -> Option<String> {
    let dir = Path::new(netifd::DEFAULT_PATH).parent().unwrap_or(Path::new("/"));
    unfit(config, &Files::read(dir).0, address)
}

/// The same with these files of the router's.
pub(super) fn unfit(config: &Config, files: &Files, address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let has = |device: &str| devices::addresses(device).unwrap_or_default().contains(&address);
    let mut guests = config.venues.iter().flat_map(|venue| &venue.devices);
    if let Some(device) = guests.find(|device| has(device)) {
        return Some(format!(
            "{address} is an address of {device}, where guests are: write loopback's, or that of a VPN"
        ));
    }
    let routes = routes::to_internet().unwrap_or_default();
    let uplinks = uplinks::devices_of(config, files, &routes);
    let device = uplinks.iter().chain(routes.iter()).find(|device| has(device))?;
    Some(format!(
        "{address} is an address of {device}, where the internet is: write loopback's, or that of a VPN"
    ))
}

/// The same as a problem of the configuration.
pub(super) fn misplaced(config: &Config, files: &Files, own: &UciFile) -> Option<Problem> {
    let grpc = config.grpc.as_ref().filter(|grpc| grpc.is_tls())?;
    let message = unfit(config, files, grpc.listen.ip())?;
    let section = own.of_kind("grpc").next()?;
    let listen = section.option("listen").and_then(|value| value.items().first());
    Some(Problem {
        line: Some(listen.map_or(section.line, |item| item.line)),
        section: Some(section.name.clone()),
        option: Some("listen".to_owned()),
        message,
        severity: Severity::Error,
    })
}
