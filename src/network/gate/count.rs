//! One quota of the kernel: the name it has there, and what it has counted.

use super::Station;
use crate::mac::MacAddr;
use std::fmt;

/// One session's quota; its name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub mac: MacAddr,
    pub session: u64,
    /// A digest of the venue's name: sessions at two venues may have begun in the same millisecond.
    venue: u32,
}

/// Bytes: the quota drops what is beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub limit: u64,
    pub used: u64,
    /// Bytes that are added to the limit of the session for Ethernet headers.
    pub headers: u64,
}

impl Count {
    pub fn is_used_up(&self) -> bool {
        self.used >= self.limit
    }

    pub fn allotment(&self) -> u64 {
        self.limit.saturating_sub(self.headers)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("q")?;
        self.mac.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        write!(f, "_{:x}_{:x}", self.session, self.venue)
    }
}

impl Name {
    pub fn of(station: &Station, session: u64) -> Name {
        Name { mac: station.mac, session, venue: digest(&station.venue) }
    }

    pub fn is_of(&self, station: &Station) -> bool {
        self.mac == station.mac && self.venue == digest(&station.venue)
    }

    pub fn parse(text: &str) -> Option<Name> {
        let (mac, numbers) = text.strip_prefix('q')?.split_once('_')?;
        let (session, venue) = numbers.split_once('_')?;
        let number = u64::from_str_radix(mac, 16).ok().filter(|_| mac.len() == 12)?;
        let [_, _, octets @ ..] = number.to_be_bytes();
        Some(Name {
            mac: MacAddr::new(octets).ok()?,
            session: u64::from_str_radix(session, 16).ok()?,
            venue: u32::from_str_radix(venue, 16).ok()?,
        })
    }
}

/// FNV-1a: the same in every run of the daemon.
fn digest(venue: &str) -> u32 {
    venue.bytes().fold(0x811c_9dc5, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_tells_venues_apart() {
        let station =
            |venue: &str| Station { mac: "02:00:00:00:00:11".parse().unwrap(), venue: venue.to_owned() };
        let name = Name::of(&station("yard"), 0x1234);
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert!(name.is_of(&station("yard")) && !name.is_of(&station("hall")));
        assert_ne!(name.to_string(), Name::of(&station("hall"), 0x1234).to_string());
        assert_eq!(Name::parse("q020000000011_5"), None);
    }
}
