//! Guests who use what others, or they themselves, have bought in ways that nobody sold: under another's address, by another's
//! MAC, as name service.

use super::lab::{bytes, gate, lease, on_the_router, sh, station, wait};
use super::lab::{Lab, BRIDGE, INTERNET, MAC_1, MAC_2};
use super::{lab, text};
use std::time::Duration;
use tollgated::network::gate::{Gate, Lease, NftGate};

const MUCH: u64 = 1_000_000_000;
/// By the first guest, with the second's address as its source: 64 bytes of echo request to the router, and a datagram to the
/// internet.
const ECHO: &str = "02000000010102000000001108004500005c0001000040015f42c0a84d0cc0a84d010800e8e20007000778787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878";
const DATAGRAM: &str =
    "0200000001010200000000110800450000240001000040114290c0a84d0cc633645003e80009001000007878787878787878";

fn used(gate: &mut NftGate, guest: &str) -> u64 {
    gate.tend().unwrap().get(&station(guest)).unwrap().1 .0
}

in_lab! {
    fn who_gives_its_address_another_mac_is_sent_nothing(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        lab.guest.sh("sysctl -qw net.ipv4.conf.eth0.arp_ignore=8; \
                      ip neigh replace 192.168.77.1 lladdr 02:00:00:00:01:01 dev eth0 nud permanent");
        for (mac, name) in [("01005e010163", "01:00:5e:01:01:63"), ("020000000099", "02:00:00:00:00:99")] {
            let claim = format!("0200000001010200000000110806000108000604{}{mac}c0a84d0b020000000101c0a84d01", "0002");
            lab.guest.helper(&format!("frames {claim} 1"));
            // The guest's first question makes the router look for it; its claim is believed.
            let _ = lab.guest.datagram(INTERNET[0], 443);
            wait("the router believes it", || {
                lab.guest.helper(&format!("frames {claim} 1"));
                sh(&format!("ip neigh show dev {BRIDGE} 192.168.77.11")).contains(name)
            });
            let before = lab.guest.received();
            assert_eq!(lab.guest.datagram(INTERNET[0], 443), lab::Got::Silence, "{name}");
            assert!(lab.guest.received() - before < 300, "{name}");
        }
        sh(&format!("ip neigh flush dev {BRIDGE}"));
        lab.guest.sh("sysctl -qw net.ipv4.conf.eth0.arp_ignore=0");
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), text("echo"));
    }

    fn echoes_that_somebody_else_asked_for_cost_a_guest_nothing(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_2, 1, MUCH, 0)]).unwrap();
        assert_eq!(lab.other.datagram(INTERNET[0], 443), text("echo"));
        let (before, received) = (used(&mut gate, MAC_2), lab.other.received());
        lab.guest.helper(&format!("frames {ECHO} 200"));
        wait("they are answered", || lab.other.received() - received > 200 * 64);
        assert_eq!(used(&mut gate, MAC_2), before);
    }

    fn name_service_beyond_a_guests_need_is_charged(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, 10_000, 0)]).unwrap();
        let _resolver = on_the_router("resolver 1000");
        assert!(matches!(lab.guest.datagram("192.168.77.1", 53), lab::Got::Text(_)));
        assert_eq!(used(&mut gate, MAC_1), 0);
        let _tunnel = lab.guest.helper("tunnel 192.168.77.1 53");
        wait("the guest's bytes are gone", || used(&mut gate, MAC_1) >= 10_000);
        let before = lab.guest.received();
        std::thread::sleep(Duration::from_secs(1));
        // As little as anybody's.
        assert!(lab.guest.received() - before < 40_000);
    }

    fn a_slow_guest_slows_nobody_else_down(lab) {
        let mut gate = gate();
        let slow = Lease { is_slow: true, ..bytes(MAC_1, 7, MUCH, 0) };
        gate.open(&[slow, lease(MAC_2, 600_000)]).unwrap();
        let _download = lab.other.helper(&format!("download {} 9000", INTERNET[0]));
        lab.guest.helper(&format!("frames {DATAGRAM} 20"));
        let before = lab.other.received();
        // More than a minute's worth at a grace's rate.
        wait("the other's download goes on", || lab.other.received() - before > 5_000_000);
    }
}
