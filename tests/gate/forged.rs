//! Frames that no honest guest sends, made by hand: none is let past the meter, and none leaves under a made-up source.

use super::lab::{bytes, gate, lease, sh, station, wait};
use super::lab::{Lab, Namespace, BRIDGE, INTERNET, MAC_1, MAC_2};
use super::{lab, text};
use std::net::IpAddr;
use std::time::Duration;
use tollgated::mac::MacAddr;
use tollgated::network::gate::{Gate, NftGate};

const MUCH: u64 = 1_000_000_000;
const OWN: [&str; 2] = ["192.168.77.11", "fd77::11"];
/// The internet's; a guest that uses it gets no answers, but may send.
const MADE_UP: [&str; 2] = ["198.51.100.99", "2001:db8:80::99"];
/// Sent of each kind.
const COUNT: u64 = 5;
/// For frames on their way, of which it is not known whether they arrive.
const WHILE: Duration = Duration::from_millis(300);

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The sum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IP packet; the checksum of its payload goes to `at`.
fn packet(source: &str, target: &str, protocol: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
    let (source, target): (IpAddr, IpAddr) = (source.parse().unwrap(), target.parse().unwrap());
    let length = u16::try_from(payload.len()).unwrap();
    let mut summed = Vec::new();
    if protocol != ICMP {
        summed.extend([octets(source), octets(target)].concat());
        summed.extend([0, protocol]);
        summed.extend(length.to_be_bytes());
    }
    summed.extend(&payload);
    payload[at..at + 2].copy_from_slice(&checksum(&summed).to_be_bytes());
    let mut head = match source {
        IpAddr::V4(_) => {
            let mut head = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
            head[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            head
        }
        IpAddr::V6(_) => {
            let [high, low] = length.to_be_bytes();
            vec![0x60, 0, 0, 0, high, low, protocol, 255]
        }
    };
    head.extend([octets(source), octets(target)].concat());
    if source.is_ipv4() {
        let sum = checksum(&head);
        head[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    [head, payload].concat()
}

/// To a port where nobody answers.
fn datagram(source: &str, target: &str) -> Vec<u8> {
    let mut payload = vec![0x30, 0x39, 0, 9, 0x03, 0xf0, 0, 0];
    payload.resize(0x03f0, b'x');
    packet(source, target, UDP, payload, 6)
}

/// The end of a connection that there is not.
fn reset(source: &str, target: &str) -> Vec<u8> {
    let mut payload = vec![0x30, 0x39, 1, 187, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 4, 0, 0, 0, 0, 0, 0];
    payload.extend([b'x'; 100]);
    packet(source, target, TCP, payload, 16)
}

/// The answer to an echo that nobody asked for.
fn echo_reply(source: &str, target: &str) -> Vec<u8> {
    let (protocol, kind) = if source.contains(':') { (ICMPV6, 129) } else { (ICMP, 0) };
    discovery(source, target, protocol, kind)
}

/// An ICMP message, with much in it.
fn discovery(source: &str, target: &str, protocol: u8, kind: u8) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0, 0, 1, 0, 1];
    payload.resize(1000, b'x');
    packet(source, target, protocol, payload, 2)
}

/// A tag, and with a number behind it a VLAN.
const TAG: u32 = 0x8100_0000;
const OUTER_TAG: u32 = 0x88a8_0000;

/// As the card of this MAC sends it to the router, behind these tags.
fn frame(mac: &str, tags: &[u32], packet: &[u8]) -> String {
    let mac: MacAddr = mac.parse().unwrap();
    let mut frame = vec![2, 0, 0, 0, 1, 1];
    frame.extend(mac.octets());
    for tag in tags {
        frame.extend(tag.to_be_bytes());
    }
    let kind: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn send(lab: &Lab, tags: &[u32], packet: &[u8]) {
    send_from(&lab.guest, MAC_1, tags, packet);
}

fn send_from(guest: &Namespace, mac: &str, tags: &[u32], packet: &[u8]) {
    let frame = frame(mac, tags, packet);
    assert_eq!(guest.helper(&format!("frames {frame} {COUNT}")).said, "sent");
}

/// Counts what comes to the internet and matches.
fn watch(lab: &Lab, name: &str, rules: &[String]) {
    lab.internet.sh(&format!("nft 'add chain inet watch first {{ type filter hook prerouting priority -300; }}; add counter inet watch {name}'"));
    for rule in rules {
        lab.internet.sh(&format!("nft 'add rule inet watch first {rule} counter name {name}'"));
    }
}

fn seen(lab: &Lab, name: &str) -> u64 {
    let text = lab.internet.sh(&format!("nft list counter inet watch {name}"));
    text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
}

fn used(gate: &mut NftGate) -> u64 {
    gate.tend().unwrap()[&station(MAC_1)].1 .0
}

/// How many of these packets have arrived; each of their bytes is counted, and none of those that did not.
fn arrived_and_counted(lab: &Lab, gate: &mut NftGate, tags: &[u32], packet: &[u8], kind: &str) -> u64 {
    let (seen_before, used_before) = (seen(lab, "marked"), used(gate));
    send(lab, tags, packet);
    std::thread::sleep(WHILE);
    let arrived = seen(lab, "marked") - seen_before;
    assert_eq!(
        used(gate) - used_before,
        arrived * packet.len() as u64,
        "{kind} {tags:x?}: {arrived} arrived"
    );
    arrived
}

in_lab! {
    fn tags_within_tags_carry_nothing_past_the_meter(lab) {
        let mut gate = gate();
        watch(lab, "marked", &["udp dport 9".to_owned()]);
        // Nor does the internet say that nobody is there.
        lab.internet.sh("nft add rule inet watch w udp dport 9 drop");
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        let (one, two) = (TAG, OUTER_TAG);
        for (own, address) in OWN.into_iter().zip(INTERNET) {
            let packet = datagram(own, address);
            wait("a frame without a tag", || arrived_and_counted(lab, &mut gate, &[], &packet, own) == COUNT);
            let all: [&[u32]; 8] = [&[one], &[two], &[one, one], &[two, one], &[one, two], &[two, two], &[two, one, one], &[one, two, one]];
            for tags in all {
                arrived_and_counted(lab, &mut gate, tags, &packet, own);
            }
        }
    }

    fn what_is_a_vlans_is_not_counted_at_the_device_below(lab) {
        let mut gate = gate();
        watch(lab, "marked", &["udp dport 9".to_owned()]);
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        for (own, address) in OWN.into_iter().zip(INTERNET) {
            for vlan in [TAG + 10, OUTER_TAG + 10, TAG + 0x3000 + 4094] {
                assert_eq!(arrived_and_counted(lab, &mut gate, &[vlan], &datagram(own, address), own), 0);
            }
        }
    }

    fn discovery_carries_nothing_past_the_meter(lab) {
        let mut gate = gate();
        watch(lab, "marked", &[format!("ip6 daddr {} icmpv6 type 133-137", INTERNET[1])]);
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        for kind in 133..=137 {
            let packet = discovery(OWN[1], INTERNET[1], ICMPV6, kind);
            arrived_and_counted(lab, &mut gate, &[], &packet, &kind.to_string());
        }
        // What looks for the router itself is nobody's purchase.
        let before = used(&mut gate);
        send(lab, &[], &discovery(OWN[1], "fd77::1", ICMPV6, 135));
        std::thread::sleep(WHILE);
        assert_eq!(used(&mut gate), before);
    }

    fn packets_of_no_connection_leave_under_no_made_up_source(lab) {
        sh(&format!("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{BRIDGE}.rp_filter=0"));
        let [v4, v6] = MADE_UP;
        watch(lab, "marked", &[format!("ip saddr {v4}"), format!("ip6 saddr {v6}")]);
        let packets: Vec<Vec<u8>> = MADE_UP
            .into_iter()
            .zip(INTERNET)
            .flat_map(|(source, target)| [reset(source, target), echo_reply(source, target)])
            .collect();
        // Nothing but the gate keeps them in.
        sh("nft insert rule inet fw4 forward accept");
        for packet in &packets {
            let before = seen(lab, "marked");
            send(lab, &[], packet);
            wait("packets that no gate has seen", || seen(lab, "marked") == before + COUNT);
        }
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 600_000)]).unwrap();
        let before = seen(lab, "marked");
        packets.iter().for_each(|packet| send(lab, &[], packet));
        std::thread::sleep(WHILE);
        assert_eq!(seen(lab, "marked"), before);
        for address in INTERNET {
            assert_eq!(lab.guest.datagram(address, 443), text("echo"), "the guest itself is online");
        }
    }

    fn who_only_listens_keeps_its_address_when_another_guest_sends_from_it(lab) {
        let mut gate = gate();
        for (number, address) in INTERNET.into_iter().enumerate() {
            gate.open(&[lease(MAC_1, 600_000), lease(MAC_2, 600_000)]).unwrap();
            let _listening = lab.guest.helper(&format!("listen {address} 443"));
            send_from(&lab.other, MAC_2, &[], &datagram(OWN[number], address));
            let set = ["ul4_at", "ul6_at"][number];
            wait("what the other has sent", || {
                sh(&format!("nft list set inet tollgate {set}")).contains(&format!("{MAC_2} . {}", OWN[number]))
            });
            gate.tend().unwrap();
            gate.close(&[station(MAC_2)]).unwrap();
            gate.tend().unwrap();
            let before = lab.guest.received();
            wait("the flow to go on", || lab.guest.received() - before > 20_000);
        }
    }
}
