//! Which addresses are out in the internet, for calls whose destination a stranger names. An address that may be the
//! router itself, in a network of the router or its operator, or not of a single machine, is not.

use super::devices;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of the public internet by its number, and not on a network that this router is part of
/// (machines behind it may have public addresses, too). Where that cannot be found out: no.
pub fn is_public(address: IpAddr) -> bool {
    has_public_number(address) && !is_near(destination(address)).unwrap_or(true)
}

/// Where packets to an address go in the end: to the IPv4 address that stands in it, if one does.
fn destination(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// IPv4 in another shape: mapped, and translated by the network (RFC 6052).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

/// Whether an address is on a network that one of our devices has an address of.
fn is_near(address: IpAddr) -> io::Result<bool> {
    let networks = devices::networks()?;
    Ok(networks.into_iter().any(|(own, length)| shares(own, address, length)))
}

/// Whether two addresses of a family begin with the same bits.
fn shares(one: IpAddr, other: IpAddr, length: u8) -> bool {
    let (one, other, bits) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128u32),
        _ => return false,
    };
    let differing = bits.saturating_sub(u32::from(length));
    (one ^ other).checked_shr(differing).unwrap_or(0) == 0
}

/// Addresses for documentation count as public: there is nothing at them that could be reached by mistake.
fn has_public_number(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || a == 0
        // Shared with the provider's other customers (RFC 6598).
        || (a == 100 && b & 0xc0 == 64)
        // IETF assignments, and benchmarks between machines (RFC 6890, RFC 2544).
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && b & 0xfe == 18)
        // 6to4 relays: beyond them is a private IPv6 network.
        || (a, b, c) == (192, 88, 99)
        // Multicast, reserved, broadcast.
        || a >= 224;
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(embedded) = embedded_v4(address) {
        return is_public_v4(embedded);
    }
    match address.segments() {
        // Teredo, and the rest of what is for protocols (RFC 2928); 6to4 leads into an IPv4 network.
        [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => false,
        // Nothing else was ever handed out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        has_public_number(text.parse().unwrap())
    }

    #[test]
    fn what_may_be_ours_or_nobodys_is_not_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.88.99.1",
            "192.168.77.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::192.168.1.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2002:c0a8:101::1",
            "2002:808:808::1",
            "fc00::1",
            "fd77::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "4000::1",
        ] {
            assert!(!public(text), "{text}");
        }
    }

    #[test]
    fn the_internet_is_public_in_every_shape() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "198.51.100.80",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:200::1",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(public(text), "{text}");
        }
    }

    #[test]
    fn a_network_is_shared_up_to_its_length() {
        let shares =
            |one: &str, other: &str, length| shares(one.parse().unwrap(), other.parse().unwrap(), length);
        assert!(shares("203.0.113.2", "203.0.113.254", 24) && !shares("203.0.113.2", "203.0.112.2", 24));
        assert!(
            shares("2001:db8::1", "2001:db8::ffff:1", 64) && !shares("2001:db8::1", "2001:db8:0:1::1", 64)
        );
        assert!(shares("1.2.3.4", "1.2.3.4", 32) && !shares("1.2.3.4", "1.2.3.5", 32));
        assert!(shares("1.2.3.4", "9.9.9.9", 0) && !shares("1.2.3.4", "::1", 0));
    }

    #[test]
    fn an_address_in_another_shape_is_as_near_as_itself() {
        for (shape, own) in [
            ("::ffff:203.0.113.2", "203.0.113.2"),
            ("64:ff9b::cb00:7102", "203.0.113.2"),
            ("203.0.113.2", "203.0.113.2"),
            ("2001:db8::cb00:7102", "2001:db8::cb00:7102"),
        ] {
            assert_eq!(destination(shape.parse().unwrap()), own.parse::<IpAddr>().unwrap(), "{shape}");
        }
    }

    #[test]
    fn our_own_addresses_are_near() {
        assert!(is_near("127.0.0.5".parse().unwrap()).unwrap());
        assert!(!is_near("198.51.100.80".parse().unwrap()).unwrap());
    }
}
