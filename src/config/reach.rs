//! What a venue's paid guests reach besides the internet: a printer, say, in a network of the owner's.
//!
//! Refuses what is no machine behind this router, and what is so large that it can only be a mistake.

use super::problem::shown;
use super::range::{self, AddressRange};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The largest private networks: 10.0.0.0/8 and fd00::/8.
const WIDEST: u8 = 8;
/// The router itself, addresses of one link only, many machines at once, or none.
const NOWHERE_V4: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];
const NOWHERE_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::UNSPECIFIED, 8),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// An address or a network of either family.
pub fn parse(text: &str) -> Result<AddressRange, String> {
    let (range, length) = range::parse(text)?;
    if length < WIDEST {
        return Err(format!(
            "{} is far more than guests should reach: name a machine, or its network",
            shown(text)
        ));
    }
    match is_nowhere(range) {
        false => Ok(range),
        true => Err(format!(
            "{} is no machine behind this router: name the address that it has in its network",
            shown(text)
        )),
    }
}

fn is_nowhere(wanted: AddressRange) -> bool {
    let nowhere = |network: IpAddr, length| {
        AddressRange::network(network, length).is_some_and(|nowhere| nowhere.overlaps(wanted))
    };
    match wanted.first {
        IpAddr::V4(_) => NOWHERE_V4.iter().any(|(network, length)| nowhere((*network).into(), *length)),
        IpAddr::V6(_) => NOWHERE_V6.iter().any(|(network, length)| nowhere((*network).into(), *length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_networks_of_both_families_are_taken() {
        for (text, printed) in [
            ("192.168.1.9", "192.168.1.9"),
            ("192.168.1.0/28", "192.168.1.0-192.168.1.15"),
            ("10.0.0.0/8", "10.0.0.0-10.255.255.255"),
            ("100.64.3.1", "100.64.3.1"),
            ("203.0.113.7", "203.0.113.7"),
            ("fd00:1::9", "fd00:1::9"),
            ("2001:db8:1::/64", "2001:db8:1::-2001:db8:1:0:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_machine_is_refused_with_the_reason() {
        for (text, reason) in [
            ("printer.lan", "neither an address nor a network"),
            ("192.168.1.9/33", "neither an address nor a network"),
            ("192.168.1.9; reboot", "neither an address nor a network"),
            ("192.168.1.9/24", "write '192.168.1.0/24'"),
            ("0.0.0.0/0", "far more"),
            ("::/0", "far more"),
            ("fc00::/7", "far more"),
            ("127.0.0.1", "no machine"),
            ("0.0.0.0", "no machine"),
            ("169.254.1.1", "no machine"),
            ("224.0.0.251", "no machine"),
            ("255.255.255.255", "no machine"),
            ("::1", "no machine"),
            ("::ffff:192.168.1.9", "no machine"),
            ("fe80::1", "no machine"),
            ("ff02::1", "no machine"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
