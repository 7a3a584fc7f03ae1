//! What is gated, and what a right to pass hangs on: a MAC at a venue, in the kernel a MAC at each of the
//! venue's devices.

use super::GateError;
use crate::config::AddressRange;
use crate::mac::MacAddr;
use crate::network::{devices, netlink};
use crate::set::SortedSet;
use std::{fmt, io};

/// What is gated, and where unpaid guests are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub venues: Vec<GatedVenue>,
    /// The kernel's names of the devices that lead to the internet; empty while they are not known.
    pub uplinks: Vec<String>,
    pub portal_port: u16,
    pub mint_proxy_port: u16,
    /// Where port 80 of unpaid guests ends up.
    pub redirect_port: u16,
    /// The portal's over https.
    pub tls_port: Option<u16>,
    /// What only the operator may ask, at addresses that guests could reach.
    pub operators_ports: Vec<u16>,
    /// What every guest reaches by TCP and UDP, uncounted; ranges that neither overlap nor touch.
    pub garden: Vec<AddressRange>,
    /// Some guests are let through at a low rate.
    pub gives_grace: bool,
}

/// A venue as the gate sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatedVenue {
    /// The name of its section.
    pub name: String,
    /// One that does not exist yet is gated from the moment it appears.
    pub devices: Vec<String>,
    /// Online without paying, and without end; at this venue only.
    pub trusted: SortedSet<MacAddr>,
    /// What this venue's guests reach besides the internet when they pass.
    pub reach: Vec<AddressRange>,
    /// The portal has a name here: what is asked of the router's own port 80 is redirected as well.
    pub is_named: bool,
}

/// A guest's device at one venue. What was sold there opens there only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    pub mac: MacAddr,
    /// The name of the venue's section.
    pub venue: String,
}

/// Where the kernel lets a station through: one of the devices of its venue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GatePlace {
    pub device: String,
    pub mac: MacAddr,
}

impl Plan {
    pub(super) fn check(&self) -> Result<(), GateError> {
        let gated = self.venues.iter().flat_map(|venue| &venue.devices);
        match gated.chain(&self.uplinks).find(|name| !devices::is_valid_name(name)) {
            Some(name) => Err(GateError::DeviceName(name.clone())),
            None => Ok(()),
        }
    }

    /// The ports where guests are served, as nft lists them.
    pub(super) fn served_ports(&self) -> String {
        let plain = [self.portal_port, self.mint_proxy_port, self.redirect_port];
        let all: Vec<String> = plain.into_iter().chain(self.tls_port).map(|port| port.to_string()).collect();
        all.join(", ")
    }

    /// The gated devices of all venues.
    pub fn devices(&self) -> Vec<String> {
        self.venues.iter().flat_map(|venue| venue.devices.iter().cloned()).collect()
    }

    /// Whether anything of this family is in the garden.
    pub(super) fn has_garden(&self, v4: bool) -> bool {
        self.garden.iter().any(|range| range.is_v4() == v4)
    }

    pub fn has_venue(&self, name: &str) -> bool {
        self.venues.iter().any(|venue| venue.name == name)
    }

    pub fn is_trusted(&self, station: &Station) -> bool {
        let mut venues = self.venues.iter().filter(|venue| venue.name == station.venue);
        venues.any(|venue| venue.trusted.contains(&station.mac))
    }

    /// The places of the trusted stations, which are online without paying.
    pub(super) fn trusted_places(&self) -> Vec<GatePlace> {
        let of_venue = |venue: &GatedVenue| {
            let stations = venue.trusted.iter();
            stations.flat_map(|mac| places(&venue.devices, *mac)).collect::<Vec<GatePlace>>()
        };
        self.venues.iter().flat_map(of_venue).collect()
    }

    /// Where this station is let through. Nowhere if its venue is not in the plan.
    pub(super) fn places(&self, station: &Station) -> Vec<GatePlace> {
        let venues = self.venues.iter().filter(|venue| venue.name == station.venue);
        venues.flat_map(|venue| places(&venue.devices, station.mac)).collect()
    }

    /// The station that is let through at this place. `None` if the device is not gated any more.
    pub(super) fn station(&self, place: &GatePlace) -> Option<Station> {
        let venue = self.venues.iter().find(|venue| venue.devices.contains(&place.device))?;
        Some(Station { mac: place.mac, venue: venue.name.clone() })
    }
}

/// As nft reads it. Plans with other than valid device names are refused before.
impl fmt::Display for GatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" . {}", self.device, self.mac)
    }
}

impl GatePlace {
    /// Bytes of the device's name in a key, and of the whole key: parts are padded to four bytes.
    const NAME: usize = 16;
    pub const LENGTH: usize = 24;

    /// As a key in the kernel.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = self.device.as_bytes().to_vec();
        octets.resize(GatePlace::NAME, 0);
        octets.extend(self.mac.octets());
        octets.resize(GatePlace::LENGTH, 0);
        octets
    }

    /// The place in a set's key, which may go on behind it. `None` if its MAC cannot be a guest's.
    pub fn parse(key: &[u8]) -> io::Result<Option<GatePlace>> {
        let device = netlink::name(key.get(..GatePlace::NAME).ok_or_else(netlink::malformed)?)?;
        let mac = MacAddr::new(netlink::octets6(netlink::after(key, GatePlace::NAME)?)?);
        Ok(mac.ok().map(|mac| GatePlace { device, mac }))
    }
}

fn places(devices: &[String], mac: MacAddr) -> impl Iterator<Item = GatePlace> + '_ {
    devices.iter().map(move |device| GatePlace { device: device.clone(), mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac() -> MacAddr {
        "02:00:00:00:00:11".parse().unwrap()
    }

    fn venue(name: &str, devices: &[&str], trusted: &[MacAddr]) -> GatedVenue {
        GatedVenue {
            name: name.to_owned(),
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
            trusted: trusted.iter().copied().collect(),
            ..GatedVenue::default()
        }
    }

    #[test]
    fn a_station_is_let_through_at_the_devices_of_its_venue_only() {
        let plan = Plan {
            venues: vec![venue("yard", &["br-yard", "wlan1"], &[]), venue("hall", &["br-hall"], &[mac()])],
            ..Plan::default()
        };
        let yard = Station { mac: mac(), venue: "yard".to_owned() };
        let hall = Station { mac: mac(), venue: "hall".to_owned() };
        let devices = |station| plan.places(station).into_iter().map(|p| p.device).collect::<Vec<_>>();
        assert_eq!(devices(&yard), ["br-yard", "wlan1"]);
        assert_eq!(devices(&hall), ["br-hall"]);
        assert_eq!(devices(&Station { mac: mac(), venue: "gone".to_owned() }), [""; 0]);
        assert!(plan.is_trusted(&hall) && !plan.is_trusted(&yard));
        assert_eq!(plan.station(&plan.places(&yard)[1]), Some(yard));
        assert_eq!(plan.station(&GatePlace { device: "wan".to_owned(), mac: mac() }), None);
    }
}
