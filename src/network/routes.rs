//! Where the internet is, by the kernel's routing tables: the devices that default routes lead to.

use super::devices;
use super::netlink::{self, Socket};
use crate::set::SortedSet;
use nix::sys::socket::SockProtocol;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(500);
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTMSG: usize = 12;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const NEXTHOP: usize = 8;
/// VPNs that keep the default route that they replace lead the internet to themselves in two halves, and IPv6 is
/// all of 2000::/3.
const SHORTEST_V4: u8 = 1;
const SHORTEST_V6: u8 = 3;

/// The devices of every route, of any table and both families, to all or half of the internet.
pub fn to_internet() -> io::Result<SortedSet<String>> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    let mut indices = SortedSet::new();
    for family in [netlink::AF_INET, netlink::AF_INET6] {
        let mut body = [0u8; RTMSG];
        body[0] = family;
        let routes = socket.dump(RTM_GETROUTE, &body, |kind, payload| match kind {
            RTM_NEWROUTE => devices_of(payload),
            _ => Ok(None),
        })?;
        indices.extend(routes.into_iter().flatten());
    }
    let named = devices::all()?.into_iter().filter(|device| indices.contains(&device.index));
    Ok(named.map(|device| device.name).collect())
}

/// Where a route of the kernel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDestination {
    pub network: Ipv4Addr,
    pub prefix: u8,
    /// Its device's name; empty where the route has none.
    pub device: String,
}

/// The destinations of every IPv4 route, of any table and kind, the router's own addresses among them.
pub fn destinations() -> io::Result<Vec<RouteDestination>> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    let mut body = [0u8; RTMSG];
    body[0] = netlink::AF_INET;
    let routes = socket.dump(RTM_GETROUTE, &body, |kind, payload| match kind {
        RTM_NEWROUTE => destination_of(payload).map(Some),
        _ => Ok(None),
    })?;
    let devices = devices::all()?;
    let named = routes.into_iter().map(|(network, prefix, index)| {
        let device = devices.iter().find(|device| Some(device.index) == index);
        RouteDestination {
            network,
            prefix,
            device: device.map(|device| device.name.clone()).unwrap_or_default(),
        }
    });
    Ok(named.collect())
}

/// Network, prefix and device of an IPv4 route.
fn destination_of(payload: &[u8]) -> io::Result<(Ipv4Addr, u8, Option<u32>)> {
    let attributes = netlink::after(payload, RTMSG)?;
    let network = match netlink::attribute(attributes, RTA_DST)? {
        Some(address) => netlink::ip(address)?,
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let IpAddr::V4(network) = network else { return Err(netlink::malformed()) };
    let index =
        netlink::attribute(attributes, RTA_OIF)?.map(|index| netlink::u32_at(index, 0)).transpose()?;
    Ok((network, netlink::u8_at(payload, 1)?, index))
}

/// The indices of the devices that a route to the internet leads to; nothing of other routes.
fn devices_of(payload: &[u8]) -> io::Result<Option<Vec<u32>>> {
    let shortest = match netlink::u8_at(payload, 0)? {
        netlink::AF_INET => SHORTEST_V4,
        netlink::AF_INET6 => SHORTEST_V6,
        _ => return Ok(None),
    };
    if netlink::u8_at(payload, 1)? > shortest || netlink::u8_at(payload, 7)? != RTN_UNICAST {
        return Ok(None);
    }
    let attributes = netlink::after(payload, RTMSG)?;
    let mut found = Vec::new();
    if let Some(index) = netlink::attribute(attributes, RTA_OIF)? {
        found.push(netlink::u32_at(index, 0)?);
    }
    let mut rest = netlink::attribute(attributes, RTA_MULTIPATH)?.unwrap_or_default();
    while !rest.is_empty() {
        let length = usize::from(netlink::u16_at(rest, 0)?);
        if length < NEXTHOP {
            return Err(netlink::malformed());
        }
        found.push(netlink::u32_at(rest, 4)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Some(found))
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_route(payload: &[u8]) -> String {
    format!("{:?}", devices_of(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(family: u8, length: u8, kind: u8) -> Vec<u8> {
        let mut payload = vec![family, length, 0, 0, 254, 3, 0, kind];
        payload.extend(0u32.to_ne_bytes());
        payload
    }

    #[test]
    fn a_default_route_leads_to_its_device() {
        for (family, length) in
            [(netlink::AF_INET, 0), (netlink::AF_INET, 1), (netlink::AF_INET6, 0), (netlink::AF_INET6, 3)]
        {
            let mut payload = route(family, length, RTN_UNICAST);
            netlink::push_attribute(&mut payload, RTA_OIF, &7u32.to_ne_bytes());
            assert_eq!(devices_of(&payload).unwrap(), Some(vec![7]), "{family} /{length}");
        }
    }

    #[test]
    fn several_ways_lead_to_several_devices() {
        let mut payload = route(netlink::AF_INET, 0, RTN_UNICAST);
        let mut ways = Vec::new();
        for index in [7u32, 9] {
            ways.extend(8u16.to_ne_bytes());
            ways.extend([0, 0]);
            ways.extend(index.to_ne_bytes());
        }
        netlink::push_attribute(&mut payload, RTA_MULTIPATH, &ways);
        assert_eq!(devices_of(&payload).unwrap(), Some(vec![7, 9]));
    }

    #[test]
    fn other_routes_and_those_that_lead_nowhere_do_not_count() {
        for (length, kind) in [(8, RTN_UNICAST), (24, RTN_UNICAST), (0, 7)] {
            let mut payload = route(netlink::AF_INET, length, kind);
            netlink::push_attribute(&mut payload, RTA_OIF, &7u32.to_ne_bytes());
            assert_eq!(devices_of(&payload).unwrap(), None, "/{length} {kind}");
        }
        assert_eq!(devices_of(&route(1, 0, RTN_UNICAST)).unwrap(), None);
    }

    #[test]
    fn a_route_names_its_network_and_its_device() {
        let mut payload = route(netlink::AF_INET, 24, RTN_UNICAST);
        netlink::push_attribute(&mut payload, RTA_DST, &[10, 7, 0, 0]);
        netlink::push_attribute(&mut payload, RTA_OIF, &7u32.to_ne_bytes());
        assert_eq!(destination_of(&payload).unwrap(), (Ipv4Addr::new(10, 7, 0, 0), 24, Some(7)));
        let default = route(netlink::AF_INET, 0, RTN_UNICAST);
        assert_eq!(destination_of(&default).unwrap(), (Ipv4Addr::UNSPECIFIED, 0, None));
        assert!(destinations().is_ok(), "the kernel's own answer is read");
    }

    #[test]
    fn a_message_that_does_not_add_up_is_an_error() {
        let mut payload = route(netlink::AF_INET, 0, RTN_UNICAST);
        netlink::push_attribute(&mut payload, RTA_MULTIPATH, &[4, 0, 0, 0]);
        assert!(devices_of(&payload).is_err());
        assert!(devices_of(&[netlink::AF_INET, 0]).is_err());
        assert!(to_internet().is_ok(), "the kernel's own answer is read");
    }
}
