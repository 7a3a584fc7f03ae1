//! Network devices by name: whether they are there, their index, their own addresses.
//!
//! Asked of the kernel each time over rtnetlink; nothing is cached, because netifd makes and removes
//! bridges at will.

use super::netlink::{self, Socket};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub index: u32,
    /// The hardware address; absent on devices without one (tunnels).
    pub mac: Option<[u8; 6]>,
    pub up: bool,
    /// The index of the bridge that it is a port of.
    pub bridge: Option<u32>,
}

const PATIENCE: Duration = Duration::from_millis(500);
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;
/// Duplicate address detection still runs, or found a duplicate: not usable.
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_DADFAILED: u32 = 0x08;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;

/// The device of that name; `None` if it does not exist (yet).
pub fn find(name: &str) -> io::Result<Option<Device>> {
    if !is_valid_name(name) {
        return Ok(None);
    }
    let mut body = vec![0u8; IFINFOMSG];
    netlink::push_name(&mut body, IFLA_IFNAME, name);
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    match socket.request(RTM_GETLINK, 0, &body) {
        Ok(answer) => parse_link(&answer).map(Some),
        Err(error) if netlink::is_errno(&error, Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the device is there. A kernel that cannot be asked counts as "no".
pub fn exists(name: &str) -> bool {
    matches!(find(name), Ok(Some(_)))
}

/// Every device of this network namespace.
pub fn all() -> io::Result<Vec<Device>> {
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    socket.dump(RTM_GETLINK, &[0u8; IFINFOMSG], |kind, payload| match kind {
        RTM_NEWLINK => parse_link(payload).map(Some),
        _ => Ok(None),
    })
}

/// The bridge that a device is a port of.
pub fn bridge_of(name: &str) -> io::Result<Option<String>> {
    let Some(bridge) = find(name)?.and_then(|device| device.bridge) else { return Ok(None) };
    Ok(all()?.into_iter().find(|device| device.index == bridge).map(|device| device.name))
}

/// The device's own usable addresses: IPv4 first, then global IPv6, then link-local IPv6. Empty when the
/// device is not there.
pub fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let Some(device) = find(name)? else { return Ok(Vec::new()) };
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    let mut found = socket.dump(RTM_GETADDR, &[0u8; IFADDRMSG], |kind, payload| match kind {
        RTM_NEWADDR => parse_address(payload, device.index),
        _ => Ok(None),
    })?;
    found.sort_by_key(|address| match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(address) if is_link_local(address) => 2,
        IpAddr::V6(_) => 1,
    });
    Ok(found)
}

/// The addresses of all devices, usable or not, and the other ends of point-to-point links, with the lengths of
/// their networks' prefixes.
pub fn networks() -> io::Result<Vec<(IpAddr, u8)>> {
    networks_beside(&[])
}

/// The same without those of the devices with these names.
pub fn networks_beside(names: &[String]) -> io::Result<Vec<(IpAddr, u8)>> {
    let mut beside = Vec::with_capacity(names.len());
    for name in names {
        beside.extend(find(name)?.map(|device| device.index));
    }
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?;
    let found = socket.dump(RTM_GETADDR, &[0u8; IFADDRMSG], |kind, payload| match kind {
        RTM_NEWADDR if !beside.contains(&netlink::u32_at(payload, 4)?) => {
            let attributes = netlink::after(payload, IFADDRMSG)?;
            let length = netlink::u8_at(payload, 1)?;
            let mut ends = Vec::with_capacity(2);
            for attribute in [IFA_ADDRESS, IFA_LOCAL] {
                if let Some(address) = netlink::attribute(attributes, attribute)? {
                    ends.push((netlink::ip(address)?, length));
                }
            }
            Ok(Some(ends))
        }
        _ => Ok(None),
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether the text can be a device's name: 1 to 15 of the characters netifd and the kernel's drivers use.
/// Nothing that nft or a shell would read as more than a name passes.
pub fn is_valid_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_@+".contains(&byte))
}

/// `fe80::/10`.
pub fn is_link_local(address: &std::net::Ipv6Addr) -> bool {
    address.segments().first().is_some_and(|segment| segment & 0xffc0 == 0xfe80)
}

fn parse_link(payload: &[u8]) -> io::Result<Device> {
    let index = u32::try_from(netlink::i32_at(payload, 4)?).map_err(|_| netlink::malformed())?;
    let flags = netlink::u32_at(payload, 8)?;
    let attributes = netlink::after(payload, IFINFOMSG)?;
    let name = netlink::name(netlink::attribute(attributes, IFLA_IFNAME)?.ok_or_else(netlink::malformed)?)?;
    let mac = match netlink::attribute(attributes, IFLA_ADDRESS)? {
        Some(value) if value.len() == 6 => Some(netlink::octets6(value)?),
        _ => None,
    };
    let bridge =
        netlink::attribute(attributes, IFLA_MASTER)?.map(|index| netlink::u32_at(index, 0)).transpose()?;
    Ok(Device { name, index, mac, up: flags & IFF_UP != 0, bridge })
}

fn parse_address(payload: &[u8], index: u32) -> io::Result<Option<IpAddr>> {
    if netlink::u32_at(payload, 4)? != index {
        return Ok(None);
    }
    let attributes = netlink::after(payload, IFADDRMSG)?;
    let flags = match netlink::attribute(attributes, IFA_FLAGS)? {
        Some(value) => netlink::u32_at(value, 0)?,
        None => u32::from(netlink::u8_at(payload, 2)?),
    };
    if flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0 {
        return Ok(None);
    }
    let local = netlink::attribute(attributes, IFA_LOCAL)?;
    match local.or(netlink::attribute(attributes, IFA_ADDRESS)?) {
        Some(value) => netlink::ip(value).map(Some),
        None => Ok(None),
    }
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_device(payload: &[u8]) -> String {
    format!("{:?} {:?}", parse_link(payload).map(|device| device.up), parse_address(payload, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_its_addresses() {
        let device = find("lo").unwrap().expect("a loopback device");
        assert_eq!((device.name.as_str(), device.index), ("lo", 1));
        assert!(all().unwrap().contains(&device));
        if device.up {
            assert!(addresses("lo").unwrap().contains(&"127.0.0.1".parse().unwrap()));
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_none_and_has_no_addresses() {
        assert_eq!(find("tg-none0").unwrap(), None);
        assert!(!exists("tg-none0"));
        assert!(addresses("tg-none0").unwrap().is_empty());
    }

    #[test]
    fn names_with_anything_but_name_characters_are_refused() {
        for name in ["br-guest", "wlan0.100", "eth0", "phy0-ap1", "br_lan", "veth@x+1"] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in
            ["", ".", "..", "a b", "a\"b", "br*", "a;b", "a\nb", "a/b", "0123456789abcdef", "bré", "a{b"]
        {
            assert!(!is_valid_name(name), "{name:?}");
            assert!(!exists(name));
        }
    }

    #[test]
    fn an_address_still_tentative_is_left_out() {
        let mut payload = vec![10u8, 64, 0x40, 0];
        payload.extend(7u32.to_ne_bytes());
        netlink::push_attribute(&mut payload, IFA_ADDRESS, &[0xfd; 16]);
        assert_eq!(parse_address(&payload, 7).unwrap(), None);
        payload[2] = 0;
        assert_eq!(parse_address(&payload, 7).unwrap(), Some(IpAddr::from([0xfd; 16])));
        assert_eq!(parse_address(&payload, 8).unwrap(), None);
        netlink::push_attribute(&mut payload, IFA_FLAGS, &IFA_F_TENTATIVE.to_ne_bytes());
        assert_eq!(parse_address(&payload, 7).unwrap(), None);
    }
}
