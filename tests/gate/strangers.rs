//! What who has not paid can make the router send: refusals and names, neither enough for a tunnel.

use super::lab::{bytes, gate, lease, on_the_router, sh, Lab, INTERNET, MAC_1};
use super::{lab, text};
use std::time::{Duration, Instant};
use tollgated::network::gate::{Gate, Lease};

const ROUTER: [&str; 2] = ["192.168.77.1", "fd77::1"];

/// Not in the guests' network; there is a way to them.
const MADE_UP: [&str; 2] = ["198.51.100.99", "2001:db8:80::99"];
/// In the guests' network, and nobody's.
const NEARBY: [&str; 2] = ["192.168.77.99", "fd77::99"];
const FLOOD: Duration = Duration::from_secs(5);
const LITTLE: u64 = 20_000;

/// How many bytes a place receives while the flood lasts.
fn received(place: &lab::Namespace, work: impl FnOnce()) -> u64 {
    let before = place.received();
    work();
    place.received() - before
}

fn take_addresses(lab: &Lab, addresses: [&str; 2]) {
    let [v4, v6] = addresses;
    lab.guest.sh(&format!("ip addr add {v4}/32 dev eth0 && ip addr add {v6}/128 dev eth0 nodad"));
}

/// After a while of a tunnel by names.
fn little_comes_through(lab: &Lab, router: &str) {
    std::thread::sleep(FLOOD);
    let started = Instant::now();
    let bytes = received(&lab.guest, || std::thread::sleep(FLOOD));
    let seconds = u64::try_from(started.elapsed().as_millis()).unwrap().div_ceil(1000);
    // Questions come on top: at most eight a second of 400 bytes, and a kilobyte by TCP.
    assert!(bytes < (LITTLE - 4 * 1024) * seconds, "{router}: {bytes} in {seconds} s");
}

in_lab! {
    fn refusals_carry_nothing_to_where_a_source_is_made_up(lab) {
        let _gate = gate();
        lab.internet.sh("ip addr add 198.51.100.99/32 dev lo && ip addr add 2001:db8:80::99/128 dev lo nodad");
        take_addresses(lab, MADE_UP);
        for (source, target) in MADE_UP.into_iter().zip(INTERNET) {
            let bytes = received(&lab.internet, || {
                let _flood = lab.guest.helper(&format!("flood {target} 443 {source}"));
                std::thread::sleep(FLOOD);
            });
            assert!(bytes < LITTLE / 2, "{source}: {bytes}");
        }
    }

    fn refusals_within_the_guests_network_are_few_and_the_honest_are_told(lab) {
        let _gate = gate();
        take_addresses(lab, NEARBY);
        for (source, target) in NEARBY.into_iter().zip(INTERNET) {
            let bytes = received(&lab.guest, || {
                let _flood = lab.guest.helper(&format!("flood {target} 443 {source}"));
                let started = Instant::now();
                let (failed, slowest) = lab.other.burst(target, 443, 40);
                assert_eq!(failed, 40);
                assert!(slowest < Duration::from_secs(3), "{slowest:?}");
                std::thread::sleep(FLOOD.saturating_sub(started.elapsed()));
            });
            assert!(bytes < LITTLE, "{source}: {bytes}");
        }
    }

    fn names_before_paying_are_enough_for_a_phone_and_too_little_for_a_tunnel(lab) {
        let mut gate = gate();
        let _resolver = on_the_router("resolver 1000");
        for router in ROUTER {
            let _tunnel = lab.guest.helper(&format!("tunnel {router} 53"));
            let asked = lab.other.helper(&format!("ask {router} 53 60")).said.clone();
            assert_eq!(asked, "60", "{router}");
            little_comes_through(lab, router);
        }
        for router in ROUTER {
            gate.open(&[lease(MAC_1, 600_000)]).unwrap();
            let asked = || lab.guest.helper(&format!("ask {router} 53 600")).said.clone();
            lab::wait("who has paid to have any name", || asked() == "600");
        }
    }

    fn a_guest_in_its_grace_has_names_like_one_who_has_not_paid(lab) {
        let mut gate = gate();
        let _resolver = on_the_router("resolver 1000");
        gate.open(&[Lease { is_slow: true, ..bytes(MAC_1, 1, 1_000_000_000, 0) }]).unwrap();
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), text("echo"));
        for router in ROUTER {
            let _tunnel = lab.guest.helper(&format!("tunnel {router} 53"));
            little_comes_through(lab, router);
        }
    }

    fn who_finds_no_place_among_those_who_have_asked_gets_no_endless_answers(lab) {
        let _gate = gate();
        // Longer than an answer to a guest that has a place there.
        let _resolver = on_the_router("resolver 4000");
        for (number, router) in ROUTER.into_iter().enumerate() {
            let (set, start) = [("asked4", "10.9."), ("asked6", "fd99::")][number];
            let address = |n: u32| match number {
                0 => format!("{start}{}.{}", n >> 8, n & 255),
                _ => format!("{start}{n:x}"),
            };
            let crowd: Vec<String> = (0..4096).map(|n| address(n) + " timeout 10m").collect();
            sh(&format!("nft 'add element inet tollgate {set} {{ {} }}'", crowd.join(",")));
            assert_eq!(lab.other.helper(&format!("ask {router} 53 10")).said, "10", "{router}: a phone's names");
            let _tunnel = lab.guest.helper(&format!("tunnel {router} 53"));
            little_comes_through(lab, router);
            let guests = sh(&format!("nft list set inet tollgate {set}"));
            assert!(!guests.contains("192.168.77.") && !guests.contains("fd77::"), "the guest has found a place");
        }
    }

    fn names_are_asked_of_the_router_only(lab) {
        let mut gate = gate();
        for address in INTERNET {
            assert!(lab.guest.datagram(address, 53).is_refused_at_once(), "{address}");
            assert!(lab.guest.get(address, 53).is_refused_at_once(), "{address}");
        }
        gate.open(&[bytes(MAC_1, 1, 1_000_000, 0)]).unwrap();
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), text("echo"));
    }
}
