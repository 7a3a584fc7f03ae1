//! Identifies callers: a peer's address on a gated device -> the MAC address that holds it.
//!
//! The answer comes from the kernel's neighbour table alone, never from a header or a parameter. Refused:
//! entries that are incomplete or failed, the zero MAC, and an address that two gated devices know.

use super::devices;
use super::netlink::{self, Socket};
use crate::mac::MacAddr;
use crate::units::Millis;
use litemap::LiteMap;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockProtocol;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A guest, as the router itself knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub mac: MacAddr,
    /// Normalised: never an IPv4 address in IPv6 clothing.
    pub address: IpAddr,
    /// The gated device the guest is on.
    pub device: String,
}

/// Why a caller has no MAC address.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The router has no complete neighbour entry for the address on a gated device.
    #[error("the router does not know the device behind this address")]
    Unknown,
    /// Two devices hold the address, or claim to.
    #[error("two devices use this address")]
    Clash,
    /// The kernel could not be asked.
    #[error("the neighbour table cannot be read: {0}")]
    Unavailable(#[source] io::Error),
}

/// Requests are answered within the system call; this only bounds the unforeseen.
const PATIENCE: Duration = Duration::from_millis(100);
const LIST_PATIENCE: Duration = Duration::from_millis(500);
/// How long a device's index is taken for known. The kernel never gives the index of a removed device to another one,
/// so it has no neighbours under an old index.
const INDEX_KEPT: Duration = Duration::from_secs(1);
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;
const NDA_IFINDEX: u16 = 8;
const NDMSG: usize = 12;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_PERMANENT: u16 = 0x80;
const NUD_VALID: u16 = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;

/// `::ffff:a.b.c.d` (how a dual-stack listener sees IPv4) -> `a.b.c.d`; everything else as it is.
pub fn normalise(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Asks the kernel for the neighbours of a caller. One socket serves all questions: opening one for each is most of
/// their cost, and a guest may ask us something every second.
#[derive(Default)]
pub struct Neighbours(Mutex<Line>);

#[derive(Default)]
struct Line {
    /// None before the first question, and after one that went wrong.
    socket: Option<Socket>,
    indexes: LiteMap<String, (u32, Instant)>,
}

impl Neighbours {
    /// The MAC address behind `peer` on `device`, from the neighbour table. Takes some microseconds
    /// and never waits for the network.
    pub fn identify(&self, device: &str, peer: IpAddr) -> Result<Caller, CallerError> {
        let address = normalise(peer);
        let looked_up = self.line().lookup(device, address);
        let entry = match looked_up {
            Ok(entry) => entry,
            Err(error) => match (address, std::fs::read_to_string("/proc/net/arp")) {
                (IpAddr::V4(_), Ok(table)) => parse_arp_table(&table, device, address),
                _ => return Err(CallerError::Unavailable(error)),
            },
        };
        let mac = entry.and_then(|entry| entry.usable()).ok_or(CallerError::Unknown)?;
        Ok(Caller { mac, address, device: device.to_owned() })
    }

    /// `identify` on whichever of the gated devices knows the address.
    ///
    /// `scope` is the interface index a link-local IPv6 peer came with (0: none); it decides alone. An address that
    /// two gated devices know is a `Clash`: there is no telling which of them is calling.
    pub fn identify_among(
        &self,
        devices: &[String],
        peer: IpAddr,
        scope: u32,
    ) -> Result<Caller, CallerError> {
        let mut found: Option<Caller> = None;
        let mut failure = None;
        for device in devices {
            if scope != 0 && index_of(device) != Some(scope) {
                continue;
            }
            match self.identify(device, peer) {
                Ok(_) if found.is_some() => return Err(CallerError::Clash),
                Ok(caller) => found = Some(caller),
                Err(CallerError::Unknown) => {}
                Err(error) => failure = Some(error),
            }
        }
        found.ok_or(failure.unwrap_or(CallerError::Unknown))
    }

    /// Whether the kernel has had proof within the last half minute that this caller is there.
    pub fn is_reachable(&self, caller: &Caller) -> io::Result<bool> {
        let entry = self.line().lookup(&caller.device, caller.address)?;
        Ok(entry.is_some_and(|entry| entry.usable() == Some(caller.mac) && entry.state & NUD_REACHABLE != 0))
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn lookup(&mut self, device: &str, address: IpAddr) -> io::Result<Option<Entry>> {
        let kept = self.indexes.get(device).filter(|(_, asked)| asked.elapsed() < INDEX_KEPT);
        let known = kept.map(|(index, _)| *index);
        if let Some(index) = known {
            if let Some(entry) = self.ask(index, address)? {
                return Ok(Some(entry));
            }
        }
        // A device made anew has another index.
        let Some(index) = index_of(device) else { return Ok(None) };
        self.indexes.insert(device.to_owned(), (index, Instant::now()));
        match known == Some(index) {
            true => Ok(None),
            false => self.ask(index, address),
        }
    }

    fn ask(&mut self, index: u32, address: IpAddr) -> io::Result<Option<Entry>> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open(SockProtocol::NetlinkRoute, PATIENCE)?,
        };
        let answer = ask(&mut socket, index, address);
        if answer.is_ok() {
            self.socket = Some(socket);
        }
        answer
    }
}

/// Every address the neighbour table has for `mac` on `device`.
pub fn addresses_of(device: &str, mac: MacAddr) -> io::Result<Vec<IpAddr>> {
    let entries = list(device)?;
    Ok(entries.into_iter().filter(|e| e.usable() == Some(mac)).map(|e| e.address).collect())
}

/// Every guest the neighbour table has on `device`, in no order. The router hears itself there too, by multicast.
pub fn guests_on(device: &str) -> io::Result<Vec<Caller>> {
    let own = devices::find(device)?.and_then(|device| device.mac);
    let caller = |entry: Entry| {
        let mac = entry.usable().filter(|_| entry.mac != own)?;
        Some(Caller { mac, address: entry.address, device: device.to_owned() })
    };
    Ok(list(device)?.into_iter().filter_map(caller).collect())
}

/// How long ago the kernel last had proof that this MAC is on the device, at any address. `None` if it has begun to
/// doubt it.
pub fn last_answer(device: &str, mac: MacAddr) -> io::Result<Option<Millis>> {
    let entries = list(device)?;
    let reachable = entries.iter().filter(|e| e.usable() == Some(mac) && e.state & NUD_REACHABLE != 0);
    Ok(reachable.map(|entry| entry.confirmed).min())
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    index: u32,
    address: IpAddr,
    state: u16,
    mac: Option<[u8; 6]>,
    /// How long ago the kernel had its last proof.
    confirmed: Millis,
}

impl Entry {
    /// The MAC, where the entry is one that packets are sent by.
    fn usable(&self) -> Option<MacAddr> {
        let octets = self.mac.filter(|_| self.state & NUD_VALID != 0)?;
        MacAddr::new(octets).ok()
    }
}

fn index_of(device: &str) -> Option<u32> {
    if !devices::is_valid_name(device) {
        return None;
    }
    if_nametoindex(device).ok()
}

fn ask(socket: &mut Socket, index: u32, address: IpAddr) -> io::Result<Option<Entry>> {
    let mut body = header(netlink::family(address), index);
    netlink::push_attribute(&mut body, NDA_DST, &netlink::octets(address));
    match socket.request(RTM_GETNEIGH, 0, &body) {
        Ok(answer) => {
            let entry = parse(&answer)?;
            Ok(entry.filter(|entry| entry.index == index && entry.address == address))
        }
        Err(error)
            if netlink::is_errno(&error, Errno::ENOENT) || netlink::is_errno(&error, Errno::ENODEV) =>
        {
            Ok(None)
        }
        // Kernels before 5.0 only list.
        Err(error)
            if netlink::is_errno(&error, Errno::EOPNOTSUPP) || netlink::is_errno(&error, Errno::EINVAL) =>
        {
            Ok(list_index(index)?.into_iter().find(|entry| entry.address == address))
        }
        Err(error) => Err(error),
    }
}

fn list(device: &str) -> io::Result<Vec<Entry>> {
    match index_of(device) {
        Some(index) => list_index(index),
        None => Ok(Vec::new()),
    }
}

fn list_index(index: u32) -> io::Result<Vec<Entry>> {
    let mut body = header(netlink::AF_UNSPEC, 0);
    netlink::push_attribute(&mut body, NDA_IFINDEX, &index.to_ne_bytes());
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, LIST_PATIENCE)?;
    socket.dump(RTM_GETNEIGH, &body, |kind, payload| match kind {
        RTM_NEWNEIGH => Ok(parse(payload)?.filter(|entry| entry.index == index)),
        _ => Ok(None),
    })
}

fn header(family: u8, index: u32) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.resize(NDMSG, 0);
    body
}

/// `None` for entries that are not of IPv4 or IPv6 (a bridge's own table comes the same way).
fn parse(payload: &[u8]) -> io::Result<Option<Entry>> {
    let family = netlink::u8_at(payload, 0)?;
    if family != netlink::AF_INET && family != netlink::AF_INET6 {
        return Ok(None);
    }
    let attributes = netlink::after(payload, NDMSG)?;
    let Some(address) = netlink::attribute(attributes, NDA_DST)? else { return Ok(None) };
    let mac = match netlink::attribute(attributes, NDA_LLADDR)? {
        Some(value) if value.len() == 6 => Some(netlink::octets6(value)?),
        _ => None,
    };
    // struct nda_cacheinfo begins with it, in clock ticks of 10 ms.
    let confirmed = match netlink::attribute(attributes, NDA_CACHEINFO)? {
        Some(value) => Millis(u64::from(netlink::u32_at(value, 0)?).saturating_mul(10)),
        None => Millis::ZERO,
    };
    Ok(Some(Entry {
        index: netlink::u32_at(payload, 4)?,
        address: netlink::ip(address)?,
        state: netlink::u16_at(payload, 8)?,
        mac,
        confirmed,
    }))
}

/// `/proc/net/arp`: an unanswered probe shows flags 0x0 and a zero MAC, which is not an entry.
fn parse_arp_table(table: &str, device: &str, address: IpAddr) -> Option<Entry> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let holder: IpAddr = fields.next()?.parse().ok()?;
        let flags = u32::from_str_radix(fields.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        let mac: MacAddr = fields.next()?.parse().ok()?;
        let on = fields.nth(1)?;
        (holder == address && on == device && flags & 0x2 != 0).then(|| Entry {
            index: 0,
            address,
            state: NUD_STALE,
            mac: Some(mac.octets()),
            confirmed: Millis(u64::MAX),
        })
    })
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_neighbour(payload: &[u8]) -> String {
    format!("{:?}", parse(payload).map(|entry| entry.and_then(|entry| entry.usable())))
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_arp_table(table: &str) -> String {
    format!("{:?}", parse_arp_table(table, "br-guest", IpAddr::from([192, 168, 77, 11])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An RTM_NEWNEIGH payload as a little-endian kernel 6.18 sent it, fields re-ordered for this machine.
    fn captured(state: u16, mac: Option<[u8; 6]>) -> Vec<u8> {
        let mut payload = vec![2, 0, 0, 0];
        payload.extend(5u32.to_ne_bytes());
        payload.extend(state.to_ne_bytes());
        payload.extend([0, 1]);
        netlink::push_attribute(&mut payload, NDA_DST, &[192, 168, 77, 11]);
        if let Some(mac) = mac {
            netlink::push_attribute(&mut payload, NDA_LLADDR, &mac);
        }
        netlink::push_attribute(&mut payload, 4, &0u32.to_ne_bytes());
        netlink::push_attribute(&mut payload, 3, &[0; 16]);
        payload
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

    #[test]
    fn an_entry_is_usable_in_the_states_that_packets_are_sent_in() {
        for state in [NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT] {
            let entry = parse(&captured(state, Some(MAC))).unwrap().unwrap();
            assert_eq!((entry.index, entry.address), (5, "192.168.77.11".parse().unwrap()));
            assert_eq!(entry.usable(), Some(MacAddr::new(MAC).unwrap()), "{state:#x}");
        }
    }

    #[test]
    fn incomplete_failed_and_noarp_entries_and_the_zero_mac_are_nobody() {
        for state in [0, 0x01, 0x20, 0x40] {
            assert_eq!(parse(&captured(state, Some(MAC))).unwrap().unwrap().usable(), None, "{state:#x}");
        }
        for mac in [None, Some([0; 6]), Some([0xff; 6])] {
            assert_eq!(parse(&captured(NUD_REACHABLE, mac)).unwrap().unwrap().usable(), None);
        }
    }

    #[test]
    fn a_cut_entry_is_an_error_or_incomplete_and_never_a_panic() {
        let whole = captured(NUD_REACHABLE, Some(MAC));
        for end in 0..whole.len() {
            if let Ok(Some(entry)) = parse(&whole[..end]) {
                assert_eq!(entry.address, "192.168.77.11".parse::<IpAddr>().unwrap());
            }
        }
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        assert_eq!(normalise("::ffff:10.0.0.7".parse().unwrap()), "10.0.0.7".parse::<IpAddr>().unwrap());
        for same in ["10.0.0.7", "fe80::1", "2001:db8::1", "::1"] {
            assert_eq!(normalise(same.parse().unwrap()), same.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn the_arp_table_is_read_without_its_unanswered_probes() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
            192.168.77.11    0x1         0x2         02:00:00:00:00:11     *        br-guest\n\
            192.168.77.12    0x1         0x0         00:00:00:00:00:00     *        br-guest\n\
            192.168.77.13    0x1         0x0         02:00:00:00:00:13     *        br-guest\n\
            garbage\n";
        let ask = |address: &str, device: &str| parse_arp_table(table, device, address.parse().unwrap());
        assert_eq!(ask("192.168.77.11", "br-guest").unwrap().usable(), Some(MacAddr::new(MAC).unwrap()));
        assert_eq!(ask("192.168.77.11", "br-lan"), None);
        assert_eq!(ask("192.168.77.12", "br-guest"), None);
        assert_eq!(ask("192.168.77.13", "br-guest"), None);
        assert_eq!(ask("192.168.77.14", "br-guest"), None);
    }

    #[test]
    fn nobody_is_known_on_a_device_that_is_not_there() {
        let neighbours = Neighbours::default();
        for (device, address) in [("tg-none0", "10.0.0.7"), ("a\"b", "10.0.0.7"), ("lo", "127.0.0.1")] {
            let answer = neighbours.identify(device, address.parse().unwrap());
            assert!(matches!(answer, Err(CallerError::Unknown)), "{device}: {answer:?}");
        }
    }
}
