//! Addresses and networks of both families, as options name them.

use super::problem::shown;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of one family from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// An address, or a network like `192.0.2.0/24` or `2001:db8:1::/48`, and how many bits of it are given.
pub fn parse(text: &str) -> Result<(AddressRange, u8), String> {
    let wrong = || {
        let example = "write one like '192.0.2.10', '192.0.2.0/24' or '2001:db8:1::/48'";
        format!("{} is neither an address nor a network: {example}", shown(text))
    };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => {
            let digits = (1..=3).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
            (address, Some(length.parse::<u8>().ok().filter(|_| digits).ok_or_else(wrong)?))
        }
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let length = length.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    let range = AddressRange::network(address, length).ok_or_else(wrong)?;
    if range.first != address {
        return Err(format!(
            "{} has bits set beyond its length: write '{}/{length}', or the address alone",
            shown(text),
            range.first
        ));
    }
    Ok((range, length))
}

/// The same addresses in ascending ranges that neither overlap nor touch.
pub fn merged(ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    let mut sorted: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        sorted.insert(sorted.partition_point(|earlier| *earlier < range), range);
    }
    let mut merged: Vec<AddressRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut().filter(|last| last.reaches(range.first)) {
            Some(last) => last.last = last.last.max(range.last),
            None => merged.push(range),
        }
    }
    merged
}

impl AddressRange {
    /// The network with this address in it. Nothing for a length that the family does not have.
    pub fn network(address: IpAddr, length: u8) -> Option<AddressRange> {
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return None;
        }
        Some(match address {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let first = v4.to_bits() & !host;
                AddressRange {
                    first: Ipv4Addr::from_bits(first).into(),
                    last: Ipv4Addr::from_bits(first | host).into(),
                }
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                let first = v6.to_bits() & !host;
                AddressRange {
                    first: Ipv6Addr::from_bits(first).into(),
                    last: Ipv6Addr::from_bits(first | host).into(),
                }
            }
        })
    }

    pub fn is_v4(self) -> bool {
        self.first.is_ipv4()
    }

    /// The address behind the last one, if there is one.
    pub fn end(self) -> Option<IpAddr> {
        match self.last {
            IpAddr::V4(last) => Some(Ipv4Addr::from_bits(last.to_bits().checked_add(1)?).into()),
            IpAddr::V6(last) => Some(Ipv6Addr::from_bits(last.to_bits().checked_add(1)?).into()),
        }
    }

    /// Whether a range that begins at this address, not before our own, leaves no gap.
    fn reaches(self, first: IpAddr) -> bool {
        first.is_ipv4() == self.is_v4() && self.end().is_none_or(|end| first <= end)
    }

    pub fn overlaps(self, other: AddressRange) -> bool {
        self.is_v4() == other.is_v4() && self.first <= other.last && other.first <= self.last
    }
}

/// As nft and fw4 read it.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let ranges =
            ["198.51.101.0/24", "2001:db8:0:1::/64", "198.51.100.0/24", "198.51.100.80", "203.0.113.9"];
        let ranges =
            ranges.into_iter().chain(["2001:db8::/64", "203.0.113.11"]).map(|text| parse(text).unwrap().0);
        assert_eq!(
            merged(ranges.collect())
                .iter()
                .map(|range| format!("{}-{}", range.first, range.last))
                .collect::<Vec<_>>(),
            [
                "198.51.100.0-198.51.101.255",
                "203.0.113.9-203.0.113.9",
                "203.0.113.11-203.0.113.11",
                "2001:db8::-2001:db8:0:1:ffff:ffff:ffff:ffff",
            ]
        );
    }
}
