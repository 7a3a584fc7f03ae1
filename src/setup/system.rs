//! `tollgated check --system`: what is wrong with this router, each with the command that mends it.
//! Changes nothing, and works on any Linux: what could not be looked at is said.

use super::firewall::Files;
use super::{dhcp, names};
use crate::clock::{Clock, PLAUSIBLE};
use crate::config::check::{plural, Verdict};
use crate::config::uci::parse_large;
use crate::config::Config;
use crate::json::json;
use crate::network::foreign::ForeignAct;
use crate::network::gate::visit;
use crate::network::gate::{Family, GateError};
use crate::network::{devices, gate, routes};
use serde_json::Value;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing can be sold, or guests get out without paying.
    Error,
    Warning,
    /// This machine does not have what was to be looked at.
    NotLookedAt,
}

/// One thing that is wrong. `id` is stable, for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub id: &'static str,
    pub what: String,
    /// The command that mends it; empty where none does.
    pub mend: String,
}

const PACKAGE_MANAGERS: [(&str, &str); 2] =
    [("/usr/bin/apk", "apk add"), ("/bin/opkg", "opkg update; opkg install")];

/// What the kernel must be able to do, the module that brings it, and a table that needs it.
const FEATURES: [(&str, &str, &str); 6] = [
    ("sets with timeouts", "kmod-nft-core", "set s { type ether_addr . ipv4_addr; flags dynamic,timeout; counter; }"),
    ("marks by hardware address", "kmod-nft-core", "chain c { type filter hook prerouting priority mangle; ether saddr 02:00:00:00:00:01 meta mark set meta mark | 0x08000000; }"),
    ("redirects", "kmod-nft-nat", "chain c { type nat hook prerouting priority dstnat - 1; tcp dport 80 redirect to :2123; }"),
    ("route look-ups (fib)", "kmod-nft-fib", "chain c { type filter hook prerouting priority dstnat + 5; fib daddr type local accept; }"),
    ("rejects", "kmod-nft-core", "chain c { type filter hook prerouting priority dstnat + 5; meta l4proto tcp reject with tcp reset; meta l4proto udp reject with icmpx type admin-prohibited; }"),
    ("quotas of data", "kmod-nft-core", "map m { type ether_addr : quota; }\nchain c { type filter hook forward priority filter - 5; quota name ether saddr map @m drop; }"),
];

/// Looks at everything; the worst first.
pub fn look(path: &Path) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    let mut config = match Config::load(path) {
        Ok((config, _)) => Some(config),
        Err(_) => {
            let mend = format!("tollgated check -c {}", path.display());
            found.error("config", "the configuration cannot be used".to_owned(), mend);
            None
        }
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (files, unread) = Files::read_and_ask(dir);
    for file in unread {
        found
            .not_looked_at("uci", format!("{file} cannot be read: zones and forwardings were not looked at"));
    }
    found.nft();
    found.clock();
    found.forwarding();
    if let Some(config) = &mut config {
        for problem in config.resolve_networks(&dir.join("network"), &|network| files.attached(network)) {
            let what = format!("the venue '{}': {}", problem.section.unwrap_or_default(), problem.message);
            found.error("network", what, "uci show network".to_owned());
        }
        if config.venues.is_empty() {
            found.warn(
                "venue",
                "no venue: there are no guests to sell to".to_owned(),
                "tollgated setup".to_owned(),
            );
        }
        let guests: Vec<String> = config.venues.iter().flat_map(|venue| venue.devices.clone()).collect();
        guests.iter().for_each(|device| found.device(device, &files));
        found.addresses_and_names(&guests, &files, dir);
        for astray in names::astray(config) {
            found.warn("name", astray.what, astray.mend);
        }
        found.ways(config, &files);
        found.table(config, &files);
        found.locks(config.main.enabled, &guests);
        found.foreign(&guests);
        found.offload(&guests, &files);
    }
    found.0.sort_by_key(|finding| finding.level);
    found.0
}

/// What is told of them.
pub fn report(findings: &[Finding]) -> Verdict {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{}: {}", finding.level.word(), finding.what);
        if !finding.mend.is_empty() {
            let _ = writeln!(text, "    {}", finding.mend);
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let errors = count(Level::Error);
    let summary =
        format!("system: {}, {}", plural(errors, "error"), plural(count(Level::Warning), "warning"));
    let _ = writeln!(text, "{summary}");
    let as_json = |found: &Finding| json!({"level": found.level.word(), "id": found.id, "message": found.what, "mend": found.mend});
    let data = json!({"findings": findings.iter().map(as_json).collect::<Value>()});
    Verdict { text, data, summary, is_good: errors == 0 }
}

pub(super) struct Found(Vec<Finding>);

impl Found {
    pub(super) fn error(&mut self, id: &'static str, what: String, mend: String) {
        self.add(Finding { level: Level::Error, id, what, mend });
    }

    pub(super) fn warn(&mut self, id: &'static str, what: String, mend: String) {
        self.add(Finding { level: Level::Warning, id, what, mend });
    }

    pub(super) fn not_looked_at(&mut self, id: &'static str, what: String) {
        self.add(Finding { level: Level::NotLookedAt, id, what, mend: String::new() });
    }

    /// What holds for several venues is said once.
    fn add(&mut self, finding: Finding) {
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    fn nft(&mut self) {
        for (feature, module, body) in FEATURES {
            match visit::would_take(&format!("table inet tollgate_probe {{\n{}\n}}\n", lines(body))) {
                Ok(()) => {}
                Err(GateError::NftMissing) => {
                    return self.error(
                        "nft",
                        "the program nft is not installed".to_owned(),
                        install("nftables"),
                    );
                }
                Err(GateError::Refused(why)) if why.contains("not permitted") => {
                    return self
                        .not_looked_at("nft", "only root can ask the kernel about nftables".to_owned());
                }
                Err(error) => {
                    self.error(
                        "kernel",
                        format!("this kernel cannot do {feature}: {error}"),
                        install(module),
                    );
                }
            }
        }
    }

    fn clock(&mut self) {
        if Clock::machine().wall() < PLAUSIBLE {
            let mend = "/etc/init.d/sysntpd enable; /etc/init.d/sysntpd restart".to_owned();
            self.error(
                "clock",
                "the clock was never set: no mint's certificate can be verified".to_owned(),
                mend,
            );
        }
    }

    fn forwarding(&mut self) {
        match std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward") {
            Ok(value) if value.trim() == "1" => {}
            Ok(_) => self.warn(
                "forwarding",
                "this machine forwards no IPv4".to_owned(),
                "sysctl -w net.ipv4.ip_forward=1".to_owned(),
            ),
            Err(error) => self.not_looked_at("forwarding", format!("whether IPv4 is forwarded: {error}")),
        }
    }

    fn device(&mut self, device: &str, files: &Files) {
        match devices::find(device) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let what = format!("the guest device {device} does not exist (yet)");
                return self.warn("device", what, format!("ip link; uci show network | grep {device}"));
            }
            Err(error) => return self.not_looked_at("device", format!("{device}: {error}")),
        }
        if let Some(bridge) = devices::bridge_of(device).ok().flatten() {
            let what = format!("{device} is a port of {bridge}: the gate sees only what the bridge receives, and nobody there is asked to pay");
            return self.error(
                "port",
                what,
                format!("uci show network; uci show wireless; bridge link show dev {device}"),
            );
        }
        let addresses = devices::addresses(device).unwrap_or_default();
        if !addresses.iter().any(IpAddr::is_ipv4) {
            let mut taken = files.taken();
            taken.add_up(&routes::destinations().unwrap_or_default(), "");
            let free = taken.free().map(|net| format!("{}/{}", net.router, net.prefix)).unwrap_or_default();
            let mend = match files.networks_of(device).first() {
                Some(network) => {
                    format!("uci set network.{network}.ipaddr={free}; uci commit network; ifup {network}")
                }
                None => format!(
                    "uci set network.guests=interface; uci set network.guests.proto=static; uci set network.guests.device={device}; \
                     uci set network.guests.ipaddr={free}; uci commit network; reload_config"
                ),
            };
            self.error(
                "address",
                format!("the router has no IPv4 address on {device}: guests cannot reach the portal"),
                mend,
            );
        }
        if files.firewall.sections.is_empty() {
            return;
        }
        let zones = files.zones_of(device);
        if zones.is_empty() {
            let name = files.free_zone_name();
            let member = match files.networks_of(device).first() {
                Some(network) => format!("network={network}"),
                None => format!("device={device}"),
            };
            let mend = format!(
                "uci set firewall.{name}=zone; uci set firewall.{name}.name={name}; uci add_list firewall.{name}.{member}; \
                 uci set firewall.{name}.input=REJECT; uci set firewall.{name}.output=ACCEPT; \
                 uci set firewall.{name}.forward=REJECT; uci commit firewall; reload_config"
            );
            let what = format!("{device} is in no firewall zone: guests cannot reach the portal");
            return self.warn("zone", what, mend);
        }
        for zone in zones {
            self.zone(zone, files);
        }
    }

    /// Whether guests get an address and have names resolved.
    fn addresses_and_names(&mut self, guests: &[String], files: &Files, dir: &Path) {
        let path = dir.join("dhcp");
        let dhcp = std::fs::read(&path).ok().and_then(|bytes| parse_large(&bytes).ok());
        let Some(dhcp) = dhcp else {
            let what = format!("{} cannot be read: whether guests get addresses", path.display());
            return self.not_looked_at("dhcp", what);
        };
        for device in guests {
            let router = devices::addresses(device).unwrap_or_default();
            for network in files.networks_of(device) {
                for lack in dhcp::lacks(&dhcp, &network, &router, dhcp::answers_at_53()) {
                    self.warn("dhcp", lack.what, lack.mend);
                }
            }
        }
    }

    fn locks(&mut self, enabled: bool, guests: &[String]) {
        let missing = match visit::missing_locks(guests) {
            Ok(missing) => missing,
            Err(error) => return self.not_looked_at("locks", error.to_string()),
        };
        let restart = "/etc/init.d/tollgated restart".to_owned();
        for (device, family) in &missing {
            let has_it = devices::addresses(device).unwrap_or_default().iter().any(|address| match family {
                gate::Family::V4 => address.is_ipv4(),
                gate::Family::V6 => address.is_ipv6(),
            });
            if *family == Family::V6 && has_it {
                let what = format!("{device} has IPv6 and no routing lock for it");
                match enabled {
                    true => self.error("ipv6", what, restart.clone()),
                    false => self.warn(
                        "ipv6",
                        what + " (the service is not enabled)",
                        "uci set tollgate.main.enabled=1; uci commit tollgate".to_owned(),
                    ),
                }
            } else if *family == Family::V4 && enabled {
                self.error("locks", format!("{device} has no routing lock for IPv4"), restart.clone());
            }
        }
        match visit::has_table() {
            Ok(false) if enabled && !guests.is_empty() => {
                self.error("table", "the gate's table is missing".to_owned(), restart)
            }
            Err(error) => self.not_looked_at("table", error.to_string()),
            _ => {}
        }
    }

    fn foreign(&mut self, guests: &[String]) {
        match visit::foreign_rules(guests) {
            Ok(rules) => {
                for rule in rules {
                    let mend = match rule.does {
                        ForeignAct::OverwritesMark => {
                            "let that program set its own bits of the mark only, with a mask"
                        }
                        ForeignAct::TakesPort80 => "take the redirect away if nothing needs it",
                    };
                    self.warn("foreign", rule.to_string(), mend.to_owned());
                }
            }
            Err(error) => self.not_looked_at("foreign", error.to_string()),
        }
    }

    fn offload(&mut self, guests: &[String], files: &Files) {
        let mend = "uci set firewall.@defaults[0].flow_offloading=0; uci set firewall.@defaults[0].flow_offloading_hw=0; uci commit firewall; fw4 reload".to_owned();
        let configured = ["flow_offloading", "flow_offloading_hw"].iter().any(|option| files.is_on(option));
        match visit::offloaded_devices() {
            Ok(devices) if configured || guests.iter().any(|guest| devices.contains(guest)) => {
                self.warn(
                    "offload",
                    "flow offloading is on: packets of running connections skip the gate".to_owned(),
                    mend,
                );
            }
            Ok(_) => {}
            Err(error) => self.not_looked_at("offload", error.to_string()),
        }
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::NotLookedAt => "not looked at",
        }
    }
}

/// nft 1.0 wants closing braces on lines of their own.
fn lines(body: &str) -> String {
    body.replace("; }", ";\n}").replace("; ", ";\n")
}

fn install(package: &str) -> String {
    let manager = PACKAGE_MANAGERS.iter().find(|(program, _)| Path::new(program).exists());
    format!("{} {package}", manager.map_or("opkg update; opkg install", |(_, words)| *words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_ends_with_status_1_and_a_warning_does_not() {
        let finding = |level| Finding { level, id: "x", what: "w".to_owned(), mend: "m".to_owned() };
        assert!(report(&[finding(Level::Warning)]).is_good);
        let said = report(&[finding(Level::Error), finding(Level::NotLookedAt)]);
        let text = "error: w\n    m\nnot looked at: w\n    m\nsystem: 1 error, 0 warnings\n";
        assert_eq!((said.text.as_str(), said.is_good), (text, false));
        assert_eq!(
            (said.data["findings"][0]["level"].as_str(), said.summary),
            (Some("error"), "system: 1 error, 0 warnings".to_owned())
        );
    }
}
