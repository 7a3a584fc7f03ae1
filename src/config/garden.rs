//! The garden: public addresses and networks that guests reach without paying.
//!
//! Refuses what would open more than somebody's servers: the router's own side, and the better part of the
//! internet.

use super::problem::shown;
use super::range::{self, AddressRange};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A larger network is no garden.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;
/// Here is the router itself, are its own networks, or is nobody.
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
