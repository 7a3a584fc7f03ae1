//! The garden: public addresses and networks that guests reach without paying.
//!
//! Refuses what would open more than the servers of one owner: the router's own side, and the better part of the
//! internet.

use super::problem::shown;
use super::range::{self, AddressRange};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A larger network is no garden.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;
/// Ranges of the router itself, of its own networks, or of no host.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 8] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];
/// Here are all public addresses.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// `64:ff9b::/96` and `2002::/16`: IPv4 addresses stand behind these.
const NAT64: u128 = 0x0064_ff9b << 96;
const SIX_TO_FOUR: u128 = 0x2002 << 112;

/// A public address, or a network of them.
pub fn parse(text: &str) -> Result<AddressRange, String> {
    let (range, length) = range::parse(text)?;
    let widest = if range.is_v4() { WIDEST_V4 } else { WIDEST_V6 };
    if length < widest {
        return Err(format!(
            "{} is too large a part of the internet to give away: name networks of /{widest} or smaller",
            shown(text)
        ));
    }
    match is_public(range) {
        true => Ok(range),
        false => Err(format!(
            "{} is not public: guests are let into no private or local network; name public addresses",
            shown(text)
        )),
    }
}

/// Every address that is not public, in both families. Also closed is what a translator between the families
/// (RFC 6052, RFC 3056) makes of the IPv4 ones.
pub fn not_public() -> Vec<AddressRange> {
    let v4 = NOT_PUBLIC_V4.map(|(address, length)| (IpAddr::from(address), length));
    let ipv4 = |high: u128, low: u32| {
        move |v4: Ipv4Addr| IpAddr::from(Ipv6Addr::from_bits(high | u128::from(v4.to_bits()) << low))
    };
    let (translated, tunnelled) = (ipv4(NAT64, 0), ipv4(SIX_TO_FOUR, 80));
    let mut ranges: Vec<AddressRange> =
        v4.into_iter().filter_map(|(at, length)| AddressRange::network(at, length)).collect();
    for (address, length) in NOT_PUBLIC_V4 {
        ranges.extend(AddressRange::network(translated(address), length.saturating_add(96)));
        ranges.extend(AddressRange::network(tunnelled(address), length.saturating_add(16)));
    }
    // All of IPv6 but the public part, and but the well-known prefix of translators.
    for (first, last) in [
        (0, NAT64.wrapping_sub(1)),
        (NAT64 | 0x1_0000_0000, PUBLIC_V6.0.to_bits().wrapping_sub(1)),
        (0x4000 << 112, u128::MAX),
    ] {
        ranges.push(AddressRange {
            first: Ipv6Addr::from_bits(first).into(),
            last: Ipv6Addr::from_bits(last).into(),
        });
    }
    ranges
}

fn is_public(wanted: AddressRange) -> bool {
    match wanted.first {
        IpAddr::V4(_) => NOT_PUBLIC_V4
            .iter()
            .filter_map(|(address, length)| AddressRange::network((*address).into(), *length))
            .all(|closed| !closed.overlaps(wanted)),
        IpAddr::V6(_) => AddressRange::network(PUBLIC_V6.0.into(), PUBLIC_V6.1)
            .is_some_and(|public| public.first <= wanted.first && wanted.last <= public.last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_closed_under_each_of_its_names() {
        let closed = range::merged(not_public());
        let is_closed = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            closed.iter().any(|range| range.overlaps(AddressRange { first: address, last: address }))
        };
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.255.255",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:192.168.1.1",
            "64:ff9b::c0a8:101",
            "64:ff9b:1::1",
            "2002:c0a8:101::1",
            "2002:a00:1::1",
            "fc00::1",
            "fd77::1",
            "fe80::1",
            "ff02::1",
            "4000::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert!(is_closed(text), "{text}");
        }
        for text in [
            "1.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.0",
            "192.169.0.1",
            "198.51.100.80",
            "203.0.113.1",
            "223.255.255.255",
            "2000::",
            "2001:db8:80::80",
            "2002:808:808::1",
            "3fff::1",
            "64:ff9b::808:808",
        ] {
            assert!(!is_closed(text), "{text}");
        }
    }

    #[test]
    fn addresses_and_networks_of_both_families_are_read() {
        for (text, first, last) in [
            ("198.51.100.80", "198.51.100.80", "198.51.100.80"),
            ("198.51.100.80/32", "198.51.100.80", "198.51.100.80"),
            ("203.0.113.0/24", "203.0.113.0", "203.0.113.255"),
            ("8.0.0.0/8", "8.0.0.0", "8.255.255.255"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::1"),
            ("2001:db8:1::/48", "2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let wanted = AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() };
            assert_eq!(parse(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_garden_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "neither an address nor a network"),
            ("mint.example.com", "neither an address nor a network"),
            ("198.51.100.0/33", "neither an address nor a network"),
            ("2001:db8::/129", "neither an address nor a network"),
            ("2001:db8::/0128", "neither an address nor a network"),
            ("198.51.100.0/", "neither an address nor a network"),
            ("198.51.100.0/+24", "neither an address nor a network"),
            ("198.51.100.1-198.51.100.9", "neither an address nor a network"),
            ("198.51.100.1 }; flush ruleset", "neither an address nor a network"),
            ("fe80::1%eth0", "neither an address nor a network"),
            ("0.0.0.0/0", "too large"),
            ("::/0", "too large"),
            ("128.0.0.0/1", "too large"),
            ("2000::/3", "too large"),
            ("198.51.100.1/24", "write '198.51.100.0/24'"),
            ("2001:db8::1/64", "write '2001:db8::/64'"),
            ("0.0.0.0", "not public"),
            ("127.0.0.1", "not public"),
            ("192.168.77.0/24", "not public"),
            ("10.1.2.3", "not public"),
            ("172.0.0.0/8", "not public"),
            ("100.100.0.0/16", "not public"),
            ("169.254.1.1", "not public"),
            ("224.0.0.251", "not public"),
            ("255.255.255.255", "not public"),
            ("::1", "not public"),
            ("::ffff:198.51.100.1", "not public"),
            ("fd77::1", "not public"),
            ("fe80::/64", "not public"),
            ("ff02::1", "not public"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
