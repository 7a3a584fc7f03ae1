//! Forgetting connections: when a session is closed, what conntrack remembers of its addresses goes too,
//! so that nothing lives on as "established" and a later guest of the address starts afresh.

use super::netlink::{self, Socket, NLM_F_ACK};
use crate::set::SortedSet;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
const SUBSYSTEM: u16 = 1 << 8;
const CT_NEW: u16 = SUBSYSTEM;
const CT_GET: u16 = SUBSYSTEM | 1;
const CT_DELETE: u16 = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const NESTED: u16 = 0x8000;
const NFGENMSG: usize = 4;

/// What the kernel's connection tracking is asked over. The socket is kept: closing one of netfilter's waits until
/// the kernel has let go of every element that was deleted.
#[derive(Default)]
pub struct Connections(Option<Socket>);

impl Connections {
    /// Deletes every connection that has one of `addresses` as source or destination, in either direction.
    /// The number of connections deleted; one that ended meanwhile is not counted.
    ///
    /// Where the kernel has no ctnetlink, OpenWrt's `/proc/net/nf_conntrack` takes the addresses instead (the
    /// number is then 0).
    pub fn forget(&mut self, addresses: &SortedSet<IpAddr>) -> io::Result<usize> {
        let mut deleted: usize = 0;
        for family in [netlink::AF_INET, netlink::AF_INET6] {
            let of_family = |address: &&IpAddr| netlink::family(**address) == family;
            if addresses.iter().any(|address| of_family(&address)) {
                match self.forget_of(family, addresses) {
                    Ok(count) => deleted = deleted.saturating_add(count),
                    Err(error) => {
                        addresses.iter().filter(of_family).try_for_each(write_to_proc).map_err(|_| error)?
                    }
                }
            }
        }
        Ok(deleted)
    }

    fn forget_of(&mut self, family: u8, addresses: &SortedSet<IpAddr>) -> io::Result<usize> {
        let open = || Socket::open(SockProtocol::NetlinkNetFilter, PATIENCE);
        let mut socket = self.0.take().map_or_else(open, Ok)?;
        let doomed = socket.dump(CT_GET, &netlink::netfilter_header(family), |kind, payload| match kind {
            CT_NEW => deletion(family, payload, addresses),
            _ => Ok(None),
        })?;
        let mut deleted: usize = 0;
        for body in doomed {
            match socket.request(CT_DELETE, NLM_F_ACK, &body) {
                Ok(_) => deleted = deleted.saturating_add(1),
                Err(error) if netlink::is_errno(&error, Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        self.0 = Some(socket);
        Ok(deleted)
    }
}

/// The request that deletes this connection and no later one with the same ports, if an address is in it.
fn deletion(family: u8, payload: &[u8], addresses: &SortedSet<IpAddr>) -> io::Result<Option<Vec<u8>>> {
    let attributes = netlink::after(payload, NFGENMSG)?;
    let mut body = netlink::netfilter_header(family);
    let mut concerned = false;
    for item in netlink::attributes(attributes) {
        let (kind, value) = item?;
        match kind {
            CTA_TUPLE_ORIG => {
                concerned |= names_one_of(value, addresses)?;
                netlink::push_attribute(&mut body, NESTED | kind, value);
            }
            CTA_TUPLE_REPLY => concerned |= names_one_of(value, addresses)?,
            CTA_ID | CTA_ZONE => netlink::push_attribute(&mut body, kind, value),
            _ => {}
        }
    }
    Ok(concerned.then_some(body))
}

/// Source and destination are the four attributes of a tuple's address part (IPv4 or IPv6).
fn names_one_of(tuple: &[u8], addresses: &SortedSet<IpAddr>) -> io::Result<bool> {
    for item in netlink::attributes(netlink::attribute(tuple, CTA_TUPLE_IP)?.unwrap_or_default()) {
        if addresses.contains(&netlink::ip(item?.1)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_to_proc(address: &IpAddr) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open("/proc/net/nf_conntrack")?;
    file.write_all(format!("{address}\n").as_bytes())
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_connection(payload: &[u8]) -> String {
    let addresses = SortedSet::from([IpAddr::from([192, 168, 77, 11])]);
    format!("{:?}", deletion(netlink::AF_INET, payload, &addresses).map(|body| body.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, destination: &str) -> Vec<u8> {
        let mut addresses = Vec::new();
        netlink::push_attribute(&mut addresses, 1, &netlink::octets(source.parse().unwrap()));
        netlink::push_attribute(&mut addresses, 2, &netlink::octets(destination.parse().unwrap()));
        let mut tuple = Vec::new();
        netlink::push_attribute(&mut tuple, NESTED | CTA_TUPLE_IP, &addresses);
        netlink::push_attribute(&mut tuple, NESTED | 2, &[5, 0, 1, 0, 6, 0, 0, 0]);
        tuple
    }

    fn connection() -> Vec<u8> {
        let mut payload = netlink::netfilter_header(netlink::AF_INET);
        netlink::push_attribute(
            &mut payload,
            NESTED | CTA_TUPLE_ORIG,
            &tuple("192.168.77.11", "198.51.100.80"),
        );
        netlink::push_attribute(
            &mut payload,
            NESTED | CTA_TUPLE_REPLY,
            &tuple("198.51.100.80", "203.0.113.2"),
        );
        netlink::push_attribute(&mut payload, CTA_ID, &7u32.to_be_bytes());
        payload
    }

    fn concerned(address: &str) -> bool {
        let addresses = SortedSet::from([address.parse().unwrap()]);
        deletion(netlink::AF_INET, &connection(), &addresses).unwrap().is_some()
    }

    #[test]
    fn a_connection_is_concerned_by_any_address_of_either_direction() {
        for address in ["192.168.77.11", "198.51.100.80", "203.0.113.2"] {
            assert!(concerned(address), "{address}");
        }
        assert!(!concerned("192.168.77.12"));
        assert!(!concerned("::ffff:192.168.77.11"));
    }

    #[test]
    fn the_deletion_names_the_connection_itself() {
        let addresses = SortedSet::from(["192.168.77.11".parse().unwrap()]);
        let body = deletion(netlink::AF_INET, &connection(), &addresses).unwrap().unwrap();
        let attributes = netlink::after(&body, NFGENMSG).unwrap();
        let expected = tuple("192.168.77.11", "198.51.100.80");
        assert_eq!(netlink::attribute(attributes, CTA_TUPLE_ORIG).unwrap(), Some(&expected[..]));
        assert_eq!(netlink::attribute(attributes, CTA_ID).unwrap(), Some(&7u32.to_be_bytes()[..]));
    }

    #[test]
    fn a_cut_connection_is_no_panic() {
        let whole = connection();
        for end in 0..whole.len() {
            let _ = deletion(netlink::AF_INET, &whole[..end], &SortedSet::new());
        }
    }
}
