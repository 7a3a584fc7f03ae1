//! Every listener of the program, one row each: who is served there, where, and over what. `README.md` beside this file
//! says the same, and a test compares the two.

use super::entrance::Audience;
use super::listeners::WantedListener;
use crate::config::Config;
use std::net::SocketAddr;

struct Listener {
    audience: Audience,
    place: Place,
}

/// Where a listener is.
#[derive(Clone, Copy)]
enum Place {
    /// Every gated device, at all of its addresses.
    GuestDevices(fn(&Config) -> u16),
    /// The router itself, at all of loopback's addresses.
    Loopback(fn(&Config) -> u16),
    Address(fn(&Config) -> SocketAddr),
}

use Place::{Address, GuestDevices, Loopback};

const LISTENERS: &[Listener] = &[
    at(Audience::Guest, GuestDevices(|config| config.main.port)),
    at(Audience::MintProxy, GuestDevices(|config| config.main.mint_proxy_port)),
    at(Audience::Redirected, GuestDevices(|config| config.main.redirect_port)),
    at(Audience::TollGate, Loopback(|config| config.main.port)),
    at(Audience::Public, Address(Config::public_listen)),
    at(Audience::Admin, Address(|config| config.main.admin_listen)),
];

const fn at(audience: Audience, place: Place) -> Listener {
    Listener { audience, place }
}

/// The sockets that should be there now.
pub fn wanted(config: &Config) -> Vec<WantedListener> {
    let devices = || config.venues.iter().flat_map(|venue| &venue.devices);
    let sockets = |row: &Listener| match row.place {
        GuestDevices(port) => {
            devices().map(|device| WantedListener::on_device(row.audience, device, port(config))).collect()
        }
        Loopback(port) => vec![WantedListener::on_device(row.audience, "lo", port(config))],
        Address(address) => vec![WantedListener::at_address(row.audience, address(config))],
    };
    LISTENERS.iter().flat_map(sockets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "config tollgate\n\toption enabled '0'\nconfig venue 'guest'\n\tlist device 'br-guest'\n";

    fn cells(row: &Listener, config: &Config) -> String {
        let place = match row.place {
            GuestDevices(port) => format!("guests' devices | {}", port(config)),
            Loopback(port) => format!("loopback | {}", port(config)),
            Address(address) => {
                let address = address(config);
                format!("{} | {}", address.ip(), address.port())
            }
        };
        format!("| {} | {place} |", row.audience.as_str())
    }

    #[test]
    fn the_readme_has_every_listener_in_the_same_order() {
        let (config, _) = Config::from_uci(CONFIG).unwrap();
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
        assert_eq!(wanted(&config).len(), 2 * 3 + 3);
        let card = format!("{two}config card\n\toption domain 'c.example'\n");
        for (listen, address) in
            [("", "127.0.0.1:2124"), ("\toption listen '127.0.0.1:99'\n", "127.0.0.1:99")]
        {
            let (config, _) = Config::from_uci(&format!("{card}{listen}")).unwrap();
            let public = WantedListener::at_address(Audience::Public, address.parse().unwrap());
            assert!(wanted(&config).contains(&public), "{address}");
        }
    }
}
