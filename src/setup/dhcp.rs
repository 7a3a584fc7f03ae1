//! Whether guests of a network get an address and have names resolved: what dnsmasq and odhcpd are told to do for it.

use super::changes::{option_text, option_words};
use crate::config::uci::{Section, UciFile};
use std::net::IpAddr;

/// Something that guests will miss, and the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub what: String,
    pub mend: String,
}

/// What a file of `dhcp` does not do for a network. `router`: our own addresses in it; `names_elsewhere`: another
/// program of the router answers at port 53.
pub fn lacks(dhcp: &UciFile, network: &str, router: &[IpAddr], names_elsewhere: bool) -> Vec<Lack> {
    let mut lacks = Lacks { network, found: Vec::new() };
    let is_main = |odhcpd: &Section| option_text(odhcpd, "maindhcp").is_some_and(is_true);
    let by_odhcpd = dhcp.of_kind("odhcpd").any(is_main);
    let pool = dhcp.of_kind("dhcp").find(|pool| option_text(pool, "interface") == Some(network));
    match pool {
        None => lacks.add(
            "has no DHCP",
            format!(
                "uci set dhcp.{network}=dhcp; uci set dhcp.{network}.interface={network}; uci set dhcp.{network}.start=10; \
                 uci set dhcp.{network}.limit=200; uci set dhcp.{network}.leasetime=2h; uci set dhcp.{network}.dhcpv4=server"
            ),
        ),
        Some(pool) => pool_lacks(&mut lacks, &address(dhcp, pool), pool, by_odhcpd, router),
    }
    let instance = pool.and_then(|pool| option_text(pool, "instance"));
    let servers: Vec<&Section> = dhcp
        .of_kind("dnsmasq")
        .filter(|server| instance.is_none_or(|instance| server.name == instance))
        .collect();
    if servers.is_empty() && !by_odhcpd {
        lacks.add("is served by no dnsmasq", "uci add dhcp dnsmasq".to_owned());
    }
    for server in servers {
        server_lacks(&mut lacks, &address(dhcp, server), server, names_elsewhere);
    }
    lacks.found
}

/// Whether a program of this router takes questions at port 53, dnsmasq or another.
pub fn answers_at_53() -> bool {
    let listens = |table: &str| {
        let local =
            |line: &str| line.split_ascii_whitespace().nth(1).is_some_and(|local| local.ends_with(":0035"));
        std::fs::read_to_string(table).is_ok_and(|table| table.lines().any(local))
    };
    listens("/proc/net/udp") || listens("/proc/net/udp6")
}

struct Lacks<'a> {
    network: &'a str,
    found: Vec<Lack>,
}

impl Lacks<'_> {
    fn add(&mut self, what: &str, mend: String) {
        self.found.push(Lack {
            what: format!("the network {} {what}", self.network),
            mend: format!("{mend}; uci commit dhcp; reload_config"),
        });
    }
}

fn pool_lacks(lacks: &mut Lacks, at: &str, pool: &Section, by_odhcpd: bool, router: &[IpAddr]) {
    if option_text(pool, "ignore").is_some_and(is_true) {
        lacks.add("has its DHCP switched off (ignore)", format!("uci delete {at}.ignore"));
    }
    match option_text(pool, "dhcpv4") {
        Some("disabled") => {
            lacks.add("has its DHCP switched off (dhcpv4)", format!("uci set {at}.dhcpv4=server"));
        }
        Some("server") => {}
        _ if by_odhcpd => {
            let what = "gets no addresses from odhcpd, which is the main DHCP server here";
            lacks.add(what, format!("uci set {at}.dhcpv4=server"));
        }
        _ => {}
    }
    if option_text(pool, "dynamicdhcp").is_some_and(|word| !is_true(word)) {
        lacks.add(
            "hands addresses to known devices only (dynamicdhcp)",
            format!("uci delete {at}.dynamicdhcp"),
        );
    }
    let limit = option_text(pool, "limit").and_then(|limit| limit.parse::<u32>().ok());
    if limit.is_some_and(|limit| limit < 2) {
        lacks.add("has an address for one guest only (limit)", format!("uci set {at}.limit=200"));
    }
    let mut options = pool.option("dhcp_option").into_iter().flat_map(|value| value.items());
    let leads_elsewhere = options.find(|option| {
        let mut parts = option.text.split(',').map(str::trim);
        let is_router = matches!(parts.next(), Some("3" | "option:router"));
        let first = parts.next().and_then(|address| address.parse().ok());
        is_router
            && !first.is_some_and(|address: IpAddr| router.contains(&address) || address.is_unspecified())
    });
    if let Some(option) = leads_elsewhere {
        let what = format!("sends guests to another router (dhcp_option {})", option.text);
        lacks.add(&what, format!("uci del_list {at}.dhcp_option='{}'", option.text));
    }
}

fn server_lacks(lacks: &mut Lacks, at: &str, server: &Section, names_elsewhere: bool) {
    let network = lacks.network;
    let bound = option_words(server, "interface");
    if !bound.is_empty() && !bound.contains(&network) {
        let what = format!("is not served by dnsmasq, which is bound to {}", bound.join(", "));
        lacks.add(&what, format!("uci add_list {at}.interface={network}"));
    }
    if option_words(server, "notinterface").contains(&network) {
        let mend = format!("uci del_list {at}.notinterface={network}");
        lacks.add("is not served by dnsmasq (notinterface)", mend);
    }
    if !names_elsewhere && option_text(server, "port").is_some_and(|port| port != "53") {
        lacks.add("has no names resolved: nothing answers at port 53", format!("uci delete {at}.port"));
    }
}

/// The words that dnsmasq's and odhcpd's scripts take for yes.
fn is_true(word: &str) -> bool {
    matches!(word, "1" | "yes" | "on" | "true" | "enabled")
}

/// A section as uci addresses it.
fn address(dhcp: &UciFile, section: &Section) -> String {
    let kind = &section.kind;
    match section.anonymous {
        true => {
            let number = dhcp.of_kind(kind).position(|other| other == section).unwrap_or_default();
            format!("dhcp.@{kind}[{number}]")
        }
        false => format!("dhcp.{}", section.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::uci::parse;

    const POOL: &str = "config dhcp 'guest'\n\toption interface 'guest'\n";
    const DNSMASQ: &str = "config dnsmasq\n";

    fn found(file: &str) -> Vec<Lack> {
        lacks(&parse(file.as_bytes()).unwrap(), "guest", &["192.168.77.1".parse().unwrap()], false)
    }

    #[test]
    fn a_network_that_is_served_lacks_nothing() {
        for more in [
            "\toption ignore '0'\n",
            "\toption dhcpv4 'server'\n",
            "\tlist dhcp_option '3,192.168.77.1'\n\tlist dhcp_option '6,1.1.1.1'\n",
            "\toption limit '150'\n",
        ] {
            assert_eq!(found(&format!("{DNSMASQ}{POOL}{more}")), [], "{more}");
        }
        assert_eq!(found(&format!("{DNSMASQ}\tlist interface 'lan'\n\tlist interface 'guest'\n{POOL}")), []);
    }

    #[test]
    fn what_keeps_guests_without_an_address_or_names_is_found_with_its_mend() {
        let main = "config odhcpd 'odhcpd'\n\toption maindhcp '1'\n";
        for (file, words, mend) in [
            (DNSMASQ.to_owned(), "has no DHCP", "uci set dhcp.guest=dhcp;"),
            (POOL.to_owned(), "served by no dnsmasq", "uci add dhcp dnsmasq;"),
            (format!("{DNSMASQ}{POOL}\toption ignore 'yes'\n"), "ignore", "uci delete dhcp.guest.ignore;"),
            (
                format!("{DNSMASQ}{POOL}\toption dhcpv4 'disabled'\n"),
                "dhcpv4",
                "uci set dhcp.guest.dhcpv4=server;",
            ),
            (format!("{DNSMASQ}{POOL}{main}"), "odhcpd", "uci set dhcp.guest.dhcpv4=server;"),
            (
                format!("{DNSMASQ}{POOL}\toption dynamicdhcp '0'\n"),
                "dynamicdhcp",
                "uci delete dhcp.guest.dynamicdhcp;",
            ),
            (format!("{DNSMASQ}{POOL}\toption limit '1'\n"), "one guest", "uci set dhcp.guest.limit=200;"),
            (
                format!("{DNSMASQ}{POOL}\tlist dhcp_option '3,192.168.77.9'\n"),
                "another router",
                "uci del_list dhcp.guest.dhcp_option='3,192.168.77.9';",
            ),
            (
                format!("{DNSMASQ}{POOL}\tlist dhcp_option 'option:router'\n"),
                "another router",
                "uci del_list dhcp.guest.dhcp_option='option:router';",
            ),
            (
                format!("{DNSMASQ}\tlist interface 'lan'\n{POOL}"),
                "bound to lan",
                "uci add_list dhcp.@dnsmasq[0].interface=guest;",
            ),
            (
                format!("{DNSMASQ}\toption notinterface 'guest wan'\n{POOL}"),
                "notinterface",
                "uci del_list dhcp.@dnsmasq[0].notinterface=guest;",
            ),
            (format!("{DNSMASQ}\toption port '0'\n{POOL}"), "port 53", "uci delete dhcp.@dnsmasq[0].port;"),
        ] {
            let found = found(&file);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].what.contains(words) && found[0].mend.starts_with(mend), "{found:?}");
        }
    }

    #[test]
    fn another_program_may_resolve_names_and_another_instance_does_not_count() {
        let file = |text: String| parse(text.as_bytes()).unwrap();
        let elsewhere = file(format!("{DNSMASQ}\toption port '54'\n{POOL}"));
        assert_eq!(lacks(&elsewhere, "guest", &[], true), []);
        let second = format!(
            "config dnsmasq 'a'\n\tlist interface 'lan'\nconfig dnsmasq 'b'\n{POOL}\toption instance 'b'\n"
        );
        assert_eq!(found(&second), []);
    }
}
