//! Every listener of the program, one row each: who is served there, where, and over what. `README.md` beside this file
//! says the same, and a test compares the two.

use super::entrance::Audience;
use super::listeners::WantedListener;
use crate::config::{Config, TlsConfig};
use std::net::SocketAddr;

struct Listener {
    audience: Audience,
    place: Place,
}

/// Where a listener is. Those whose place is in [`TlsConfig`] are served over TLS.
#[derive(Clone, Copy)]
enum Place {
    /// Every gated device, at all of its addresses.
    GuestDevices(fn(&Config) -> u16),
    TlsGuestDevices(fn(&TlsConfig) -> u16),
    /// The router itself, at all of loopback's addresses.
    Loopback(fn(&Config) -> u16),
    Address(fn(&Config) -> SocketAddr),
    TlsAddress(fn(&TlsConfig) -> SocketAddr),
}

use Place::{Address, GuestDevices, Loopback, TlsAddress, TlsGuestDevices};

const LISTENERS: &[Listener] = &[
    at(Audience::Guest, GuestDevices(|config| config.main.port)),
    at(Audience::MintProxy, GuestDevices(|config| config.main.mint_proxy_port)),
    at(Audience::Redirected, GuestDevices(|config| config.main.redirect_port)),
    at(Audience::TollGate, Loopback(|config| config.main.port)),
    at(Audience::Public, Address(Config::public_listen)),
    at(Audience::Admin, Address(|config| config.main.admin_listen)),
    at(Audience::Guest, TlsGuestDevices(|tls| tls.port)),
    at(Audience::Public, TlsAddress(|tls| tls.listen)),
    at(Audience::Admin, TlsAddress(|tls| tls.admin_listen)),
];

const fn at(audience: Audience, place: Place) -> Listener {
    Listener { audience, place }
}

/// The sockets that should be there now; those over TLS only where there is a certificate to be shown.
pub fn wanted(config: &Config, has_certificate: bool) -> Vec<WantedListener> {
    let tls = config.tls.as_ref().filter(|_| has_certificate);
    let sockets = |row: &Listener| {
        let on_devices = |is_tls, port| {
            let devices = config.venues.iter().flat_map(|venue| &venue.devices);
            devices.map(|device| WantedListener::on_device(row.audience, is_tls, device, port)).collect()
        };
        let at_address = |is_tls, address| vec![WantedListener::at_address(row.audience, is_tls, address)];
        match row.place {
            GuestDevices(port) => on_devices(false, port(config)),
            Loopback(port) => vec![WantedListener::on_device(row.audience, false, "lo", port(config))],
            Address(address) => at_address(false, address(config)),
            TlsGuestDevices(port) => tls.map(|tls| on_devices(true, port(tls))).unwrap_or_default(),
            TlsAddress(address) => tls.map(|tls| at_address(true, address(tls))).unwrap_or_default(),
        }
    };
    LISTENERS.iter().flat_map(sockets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "config tollgate\n\toption enabled '0'\nconfig venue 'guest'\n\tlist device 'br-guest'\n";
    const HTTPS: &str =
        "config tls\n\toption name 'w.example'\n\toption cert_file '/c'\n\toption key_file '/k'\n";

    fn cells(row: &Listener, config: &Config) -> String {
        let tls = config.tls.as_ref().unwrap();
        let at_address = |address: SocketAddr| format!("{} | {}", address.ip(), address.port());
        let place = match row.place {
            GuestDevices(port) => format!("guests' devices | {} | http", port(config)),
            TlsGuestDevices(port) => format!("guests' devices | {} | https", port(tls)),
            Loopback(port) => format!("loopback | {} | http", port(config)),
            Address(address) => format!("{} | http", at_address(address(config))),
            TlsAddress(address) => format!("{} | https", at_address(address(tls))),
        };
        format!("| {} | {place} |", row.audience.as_str())
    }

    #[test]
    fn the_readme_has_every_listener_in_the_same_order() {
        let (config, _) = Config::from_uci(&format!("{CONFIG}{HTTPS}")).unwrap();
        let rows =
            include_str!("README.md").lines().skip_while(|line| !line.starts_with("| audience | where"));
        let rows = rows.skip(2).take_while(|line| line.starts_with("| "));
        let rows: Vec<String> =
            rows.map(|line| format!("{}|", line.rsplitn(3, '|').last().unwrap())).collect();
        let table: Vec<String> = LISTENERS.iter().map(|row| cells(row, &config)).collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn guests_are_served_at_every_device_and_cards_and_operators_once() {
        let two = CONFIG.replace("list device 'br-guest'", "list device 'br-guest'\n\tlist device 'wlan1'");
        let (config, _) = Config::from_uci(&two).unwrap();
        assert_eq!(wanted(&config, false).len(), 2 * 3 + 3);
        let card = format!("{two}config card\n\toption domain 'c.example'\n");
        for (listen, address) in
            [("", "127.0.0.1:2124"), ("\toption listen '127.0.0.1:99'\n", "127.0.0.1:99")]
        {
            let (config, _) = Config::from_uci(&format!("{card}{listen}")).unwrap();
            let public = WantedListener::at_address(Audience::Public, false, address.parse().unwrap());
            assert!(wanted(&config, false).contains(&public), "{address}");
        }
    }

    #[test]
    fn https_is_served_where_there_is_a_section_and_a_certificate() {
        let (config, _) = Config::from_uci(&format!("{CONFIG}{HTTPS}")).unwrap();
        let plain = wanted(&config, false);
        let all = wanted(&config, true);
        assert_eq!((plain.len(), all.len()), (6, 9));
        assert!(all.contains(&WantedListener::on_device(Audience::Guest, true, "br-guest", 2125)));
        let (config, _) = Config::from_uci(CONFIG).unwrap();
        assert_eq!(wanted(&config, true), plain);
    }
}
