//! Is the caller who the neighbour table says? Asked when a sale starts, because one forged ARP packet is enough to
//! turn the neighbour table: the packets that really came to the portal are the second witness, and the stations that
//! answer a question for the address to the whole link are the third.
//!
//! What is already paid is never taken away by what is found here.

use super::devices::{self, Device};
use super::gate::ADDRESS_TIMEOUT;
use super::neighbours::{self, Caller};
use super::netlink;
use super::nftables::{Element, Nftables};
use crate::mac::MacAddr;
use crate::set::SortedSet;
use crate::units::Millis;
use pnet::datalink::{self, Channel, ChannelType, DataLinkReceiver, NetworkInterface};
use pnet::packet::icmpv6;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The address is used by another device as well. No new sale may start for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is also used by {other}")]
pub struct Clash {
    pub other: MacAddr,
}

/// How long to listen for answers; and for how much longer once the caller itself has answered.
const LISTEN: Duration = Duration::from_millis(250);
const LISTEN_ON: Duration = Duration::from_millis(60);
/// The life of an element of `seen4` and `seen6`, counted from the last packet.
const SEEN: Millis = Millis::from_secs(600);
/// Where the link cannot be asked, another device that spoke from the address within this time still holds it.
const RECENT: Millis = Millis::from_secs(15);

/// Checks the caller against the other two witnesses. Blocks for about 70 ms when only the caller answers, 250 ms
/// when no station does; never on the async thread.
///
/// Where raw sockets are refused, only the packets already seen count. Where neither can be had, the neighbour
/// table alone does.
pub fn confirm(caller: &Caller) -> Result<(), Clash> {
    let others = seen(caller.address).unwrap_or_default();
    let other = match call_for(caller, others.iter().any(|(mac, _)| *mac != caller.mac)) {
        // One that spoke from here a moment ago and is silent now has left: a changed MAC, not a clash.
        Ok(answers) => answers.into_iter().find(|mac| *mac != caller.mac),
        Err(error) => {
            log::debug!("witness: nobody can be called for on {}: {error}", caller.device);
            let recent = |(_, ago): &&(MacAddr, Millis)| *ago < RECENT;
            others.iter().filter(recent).map(|(mac, _)| *mac).find(|mac| *mac != caller.mac)
        }
    };
    match other {
        Some(other) => {
            log::warn!(
                "witness: {} on {} is used by {} and {other}",
                caller.address,
                caller.device,
                caller.mac
            );
            Err(Clash { other })
        }
        None => Ok(()),
    }
}

/// Which devices opened connections to the portal from `address` within the last ten minutes, and how long
/// ago each last did.
pub fn seen(address: IpAddr) -> io::Result<Vec<(MacAddr, Millis)>> {
    let set = if address.is_ipv4() { "seen4" } else { "seen6" };
    let key = netlink::octets(address);
    let of_address = |Element { key: found, remaining, .. }: Element| {
        let mac = found.strip_prefix(&key[..]).and_then(|rest| netlink::octets6(rest).ok())?;
        Some((MacAddr::new(mac).ok()?, SEEN.saturating_sub(remaining.unwrap_or_default())))
    };
    Ok(Nftables::open()?.elements(set)?.into_iter().filter_map(of_address).collect())
}

/// How long ago a packet of this MAC was last seen, at the gate or at the portal, or the kernel had proof that it
/// is on one of these devices. What cannot be read counts as nothing seen.
pub fn last_sign(devices: &[String], mac: MacAddr) -> Option<Millis> {
    let answers = devices.iter().filter_map(|device| neighbours::last_answer(device, mac).ok().flatten());
    let packet = last_packet(mac).unwrap_or_else(|error| {
        log::debug!("witness: the packets of {mac} cannot be seen: {error}");
        None
    });
    answers.chain(packet).min()
}

/// How long ago the last packet of a MAC was forwarded, or came to the portal.
fn last_packet(mac: MacAddr) -> io::Result<Option<Millis>> {
    let mut nftables = Nftables::open()?;
    let mut last = None;
    // The MAC stands behind a device's name in some, behind an address in others, each part padded to four bytes.
    let octets = mac.octets();
    for (set, life, at) in [
        ("ul4_at", ADDRESS_TIMEOUT, 16),
        ("ul6_at", ADDRESS_TIMEOUT, 16),
        ("seen4", SEEN, 4),
        ("seen6", SEEN, 16),
    ] {
        let is_of = |element: &Element| element.key.get(at..).is_some_and(|key| key.starts_with(&octets));
        let ago = |element: Element| life.saturating_sub(element.remaining.unwrap_or(life));
        last = nftables.elements(set)?.into_iter().filter(is_of).map(ago).chain(last).min();
    }
    Ok(last)
}

/// Asks the whole link for the caller's address. Returns the MACs that answered.
fn call_for(caller: &Caller, is_doubtful: bool) -> io::Result<SortedSet<MacAddr>> {
    let device = devices::find(&caller.device)?.ok_or(io::ErrorKind::NotFound)?;
    let own = devices::addresses(&caller.device)?;
    let mac = device.mac.ok_or(io::ErrorKind::Unsupported)?;
    let (call, protocol) = match caller.address {
        IpAddr::V4(wanted) => {
            let from = own.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
            (arp_request(mac, from.unwrap_or(Ipv4Addr::UNSPECIFIED), wanted), ETHERTYPE_ARP)
        }
        IpAddr::V6(wanted) => {
            let is_local = devices::is_link_local(&wanted);
            let usable = |a: &IpAddr| match a {
                IpAddr::V6(a) if devices::is_link_local(a) == is_local => Some(*a),
                _ => None,
            };
            let from = own.iter().find_map(usable).ok_or(io::ErrorKind::AddrNotAvailable)?;
            (neighbour_solicitation(mac, from, wanted), ETHERTYPE_IPV6)
        }
    };
    // Listening first: an answer may be quicker than we are. The kernel hands it this one protocol only.
    let (_, mut answers) = channel(&device, ChannelType::Layer3(protocol))?;
    let (mut sender, _) = channel(&device, ChannelType::Layer2)?;
    sender.send_to(&call, None).ok_or(io::ErrorKind::WriteZero)??;
    drop(sender);

    let mut found = SortedSet::new();
    let mut deadline = Instant::now() + LISTEN;
    while Instant::now() < deadline {
        let Some(mac) = next_answer(answers.as_mut(), caller.address) else { continue };
        if mac != caller.mac {
            found.insert(mac);
            break;
        }
        if found.insert(mac) && !is_doubtful {
            deadline = deadline.min(Instant::now() + LISTEN_ON);
        }
    }
    Ok(found)
}

fn next_answer(answers: &mut dyn DataLinkReceiver, wanted: IpAddr) -> Option<MacAddr> {
    let packet = answers.next().ok()?;
    match wanted {
        IpAddr::V4(wanted) => arp_reply(packet, wanted),
        IpAddr::V6(wanted) => neighbour_advertisement(packet, wanted),
    }
}

type Ends = (Box<dyn datalink::DataLinkSender>, Box<dyn DataLinkReceiver>);

fn channel(device: &Device, channel_type: ChannelType) -> io::Result<Ends> {
    // Built by hand: pnet's own listing goes through getifaddrs.
    let interface = NetworkInterface {
        name: device.name.clone(),
        description: String::new(),
        index: device.index,
        mac: None,
        ips: Vec::new(),
        flags: 0,
    };
    let config = datalink::Config {
        channel_type,
        promiscuous: false,
        read_timeout: Some(Duration::from_millis(20)),
        write_timeout: Some(Duration::from_millis(50)),
        ..datalink::Config::default()
    };
    match datalink::channel(&interface, config)? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
/// Hardware type Ethernet, protocol IPv4, their address lengths.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const NEXT_HEADER_ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;

/// The ARP question for `wanted` (RFC 826), as a broadcast.
fn arp_request(mac: [u8; 6], from: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], mac, ETHERTYPE_ARP);
    frame.extend(ARP_HEAD);
    frame.extend(ARP_REQUEST.to_be_bytes());
    frame.extend(mac);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(wanted.octets());
    frame
}

/// Who says it has `wanted`, in an ARP packet without its Ethernet header.
fn arp_reply(packet: &[u8], wanted: Ipv4Addr) -> Option<MacAddr> {
    let rest = packet.strip_prefix(&ARP_HEAD)?.strip_prefix(&ARP_REPLY.to_be_bytes())?;
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let (address, _) = rest.split_first_chunk::<4>()?;
    if *address != wanted.octets() {
        return None;
    }
    MacAddr::new(*mac).ok()
}

/// RFC 4861 4.3, to the solicited-node group: every holder of the address hears it.
fn neighbour_solicitation(mac: [u8; 6], from: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = wanted.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(wanted.octets());
    message.extend([OPTION_SOURCE_MAC, 1]);
    message.extend(mac);
    let checksum =
        icmpv6::Icmpv6Packet::new(&message).map_or(0, |packet| icmpv6::checksum(&packet, &from, &group));

    let mut frame = ethernet([0x33, 0x33, 0xff, x, y, z], mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(u16::try_from(message.len()).unwrap_or_default().to_be_bytes());
    frame.extend([NEXT_HEADER_ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(group.octets());
    let [kind, code, _, _, rest @ ..] = message.as_slice() else { return frame };
    frame.extend([*kind, *code]);
    frame.extend(checksum.to_be_bytes());
    frame.extend(rest);
    frame
}

/// Who says it has `wanted`, in an IPv6 packet without its Ethernet header. Hop limit 255: it was sent on
/// this very link (RFC 4861 7.1.2).
fn neighbour_advertisement(packet: &[u8], wanted: Ipv6Addr) -> Option<MacAddr> {
    let (head, message) = packet.split_first_chunk::<40>()?;
    if head.get(6..8) != Some(&[NEXT_HEADER_ICMPV6, 255]) || message.first() != Some(&NEIGHBOUR_ADVERTISEMENT)
    {
        return None;
    }
    let mut options = message.get(8..)?.strip_prefix(&wanted.octets())?;
    while let [kind, length, ..] = options {
        let (option, rest) =
            options.split_at_checked(usize::from(*length).checked_mul(8).filter(|l| *l > 0)?)?;
        if *kind == OPTION_TARGET_MAC {
            return MacAddr::new(netlink::octets6(option.get(2..)?).ok()?).ok();
        }
        options = rest;
    }
    None
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16) -> Vec<u8> {
    [&to[..], &from[..], &ethertype.to_be_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: [u8; 6] = [2, 0, 0, 0, 1, 1];
    const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

    fn reply(wanted: Ipv4Addr) -> Vec<u8> {
        let mut packet = arp_request(GUEST, wanted, "192.168.77.1".parse().unwrap()).split_off(14);
        packet[7] = 2;
        packet
    }

    #[test]
    fn an_arp_reply_names_its_sender_and_only_for_the_wanted_address() {
        let wanted = "192.168.77.11".parse().unwrap();
        assert_eq!(arp_reply(&reply(wanted), wanted), MacAddr::new(GUEST).ok());
        assert_eq!(arp_reply(&reply(wanted), "192.168.77.12".parse().unwrap()), None);
        let request = arp_request(GUEST, wanted, wanted).split_off(14);
        assert_eq!(arp_reply(&request, wanted), None);
        for end in 0..18 {
            assert_eq!(arp_reply(&reply(wanted)[..end], wanted), None, "cut at {end}");
        }
    }

    fn advertisement(wanted: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
        let mut packet = neighbour_solicitation(GUEST, "fe80::1".parse().unwrap(), wanted).split_off(14);
        packet[7] = hop_limit;
        packet[40] = NEIGHBOUR_ADVERTISEMENT;
        packet[64] = OPTION_TARGET_MAC;
        packet
    }

    #[test]
    fn an_advertisement_names_its_sender_if_it_comes_from_this_link() {
        let wanted = "fd77::11".parse().unwrap();
        assert_eq!(neighbour_advertisement(&advertisement(wanted, 255), wanted), MacAddr::new(GUEST).ok());
        assert_eq!(neighbour_advertisement(&advertisement(wanted, 254), wanted), None);
        assert_eq!(neighbour_advertisement(&advertisement(wanted, 255), "fd77::12".parse().unwrap()), None);
        let whole = advertisement(wanted, 255);
        for end in 0..whole.len() {
            assert_eq!(neighbour_advertisement(&whole[..end], wanted), None, "cut at {end}");
        }
        let mut endless = whole;
        endless[64..66].copy_from_slice(&[9, 0]);
        assert_eq!(neighbour_advertisement(&endless, wanted), None);
    }

    #[test]
    fn a_solicitation_is_the_one_the_standard_describes() {
        let frame = neighbour_solicitation(ROUTER, "fd77::1".parse().unwrap(), "fd77::11".parse().unwrap());
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 0x11]);
        let message = icmpv6::Icmpv6Packet::new(&frame[54..]).unwrap();
        let group = "ff02::1:ff00:11".parse().unwrap();
        assert_eq!(message.get_checksum(), icmpv6::checksum(&message, &"fd77::1".parse().unwrap(), &group));
    }

    #[test]
    fn a_caller_on_a_device_that_is_gone_is_believed() {
        let caller = Caller {
            mac: MacAddr::new(GUEST).unwrap(),
            address: "192.168.77.11".parse().unwrap(),
            device: "tg-none0".to_owned(),
        };
        assert_eq!(confirm(&caller), Ok(()));
    }
}
