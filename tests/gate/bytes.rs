//! Sessions by bytes on a real kernel: what is counted, and where it is cut.

use super::lab::{bytes, firewall, gate, lease, plan, sh, station, venue, wait};
use super::lab::{Got, Lab, BRIDGE, INTERNET, MAC_1, MAC_2};
use super::{lab, text};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::time::Instant;
use tollgated::access::{Gatekeeper, Pass};
use tollgated::clock::Clock;
use tollgated::network::gate::{visit, Gate, NftGate, Plan, Quota};
use tollgated::units::{Allotment, Millis};

/// The echo of four bytes, there and back: IPv4 and IPv6 with their headers.
const ECHO: [u64; 2] = [64, 104];
const MUCH: u64 = 1_000_000_000;

/// What the gate says that a guest has used.
fn used(gate: &mut NftGate, guest: &str) -> u64 {
    gate.tend().unwrap().get(&station(guest)).map(|(_, used)| used.0).expect("the guest is not counted")
}

fn echo(lab: &Lab, address: &str) {
    assert_eq!(lab.guest.datagram(address, 443), text("echo"));
}

/// Waits until a transfer has brought so many bytes and come to its end; how many they were.
fn all_received(lab: &Lab, before: u64, at_least: u64) -> u64 {
    wait("most of the transfer", || lab.guest.received() - before > at_least);
    lab.guest.end_of_transfer(Instant::now());
    lab.guest.received() - before
}

in_lab! {
    fn both_directions_and_families_are_counted_to_the_byte(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0), lease(MAC_2, 60_000)]).unwrap();
        echo(lab, INTERNET[0]);
        assert_eq!(used(&mut gate, MAC_1), ECHO[0]);
        echo(lab, INTERNET[1]);
        assert_eq!(used(&mut gate, MAC_1), ECHO[0] + ECHO[1]);
        assert_eq!(lab.other.datagram(INTERNET[0], 443), text("echo"));
        let usage = gate.tend().unwrap();
        assert_eq!(usage.len(), 1, "a guest by time is not counted");
        assert_eq!(usage[&station(MAC_1)].0, 1);
    }

    fn the_kernel_alone_cuts_a_running_download_to_the_packet(lab) {
        let mut gate = gate();
        for (number, address) in INTERNET.into_iter().enumerate() {
            let before = lab.guest.received();
            gate.open(&[bytes(MAC_1, number as u64, 3_000_000, 0)]).unwrap();
            // No call to the gate from here on.
            let _download = lab.guest.helper(&format!("download {address} 9000"));
            let received = all_received(lab, before, 2_700_000);
            assert!(received < 3_060_000, "{address}: {received} bytes with link headers");
            assert_eq!(lab.guest.datagram(address, 443), Got::Silence, "{address}");
            // The link headers that were counted are given back, and used.
            wait("the last bytes", || used(&mut gate, MAC_1) == 3_000_000);
            let received = lab.guest.received() - before;
            assert!(received < 3_060_000, "{address}: {received} bytes with link headers");
            assert_eq!(lab.guest.datagram(address, 443), Got::Silence, "{address}");
        }
    }

    fn an_upload_is_cut_as_well(lab) {
        let mut gate = gate();
        for (number, address) in INTERNET.into_iter().enumerate() {
            gate.open(&[bytes(MAC_1, number as u64, ECHO[number] + ECHO[number] / 2, 0)]).unwrap();
            echo(lab, address);
            assert_eq!(used(&mut gate, MAC_1), ECHO[number]);
            let arrived = lab.arrived();
            lab.guest.datagram(address, 443);
            assert_eq!(lab.arrived(), arrived + 1, "{address}: the last bytes go");
            lab.guest.datagram(address, 443);
            assert_eq!(lab.arrived(), arrived + 1, "{address}");
        }
    }

    fn every_address_of_a_guest_counts(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[1]);
        more_addresses(lab);
        assert_eq!(used(&mut gate, MAC_1), ECHO[1]);
        for (number, address) in INTERNET.into_iter().enumerate() {
            let before = used(&mut gate, MAC_1);
            for round in 1..=3 {
                echo(lab, address);
                assert_eq!(used(&mut gate, MAC_1), before + round * ECHO[number]);
            }
        }
    }

    fn an_address_that_changes_hands_is_counted_for_its_new_holder(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0), bytes(MAC_2, 2, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        let first = used(&mut gate, MAC_1);
        lab.guest.sh("ip addr del 192.168.77.11/24 dev eth0");
        lab.other.sh("ip addr add 192.168.77.11/24 dev eth0 && ip route replace default via 192.168.77.1 src 192.168.77.11");
        let mut asked = 0;
        wait("the router to know the new holder", || {
            lab.other.get("192.168.77.1", 2121);
            asked += 1;
            let got = lab.other.datagram(INTERNET[0], 443);
            gate.tend().unwrap();
            got == text("echo")
        });
        let (before, others) = (used(&mut gate, MAC_1), used(&mut gate, MAC_2));
        assert_eq!(lab.other.datagram(INTERNET[0], 443), text("echo"));
        assert_eq!((used(&mut gate, MAC_1), used(&mut gate, MAC_2)), (before, others + ECHO[0]));
        assert!(before <= first + asked * ECHO[0], "answers before the router knew");
    }

    fn a_top_up_goes_on_where_it_was(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, 1_000_000, 0)]).unwrap();
        let _download = lab.guest.helper(&format!("download {} 9000", INTERNET[0]));
        wait("the first bytes to be used up", || used(&mut gate, MAC_1) == 1_000_000);
        lab.guest.end_of_transfer(Instant::now());
        let before = lab.guest.received();
        // What was sent against the shut gate meanwhile is not charged.
        gate.open(&[bytes(MAC_1, 1, 2_000_000, 1_000_000)]).unwrap();
        let received = all_received(lab, before, 850_000);
        assert!(received < 1_060_000, "{received}");
        gate.open(&[bytes(MAC_1, 1, 3_000_000, 2_000_000)]).unwrap();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        assert!(used(&mut gate, MAC_1) >= 2_000_000, "more bytes do not forget what was used");
    }

    fn a_restarted_daemon_finds_the_count_in_the_kernel(lab) {
        let mut first = gate();
        first.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        drop(first);
        echo(lab, INTERNET[1]);
        let mut next = NftGate::new();
        next.load(&plan(), &[bytes(MAC_1, 1, 2 * MUCH, 0)]).unwrap();
        assert_eq!(used(&mut next, MAC_1), ECHO[0] + ECHO[1]);
        let report = next.inspect().unwrap();
        assert!(report.is_sound());
        assert_eq!(report.quotas[&station(MAC_1)].allotment.0, 2 * MUCH);
    }

    fn what_was_used_up_while_no_daemon_ran_stays_used_up(lab) {
        let mut first = gate();
        first.open(&[bytes(MAC_1, 1, 1_000_000, 0)]).unwrap();
        let before = lab.guest.received();
        let _download = lab.guest.helper(&format!("download {} 9000", INTERNET[1]));
        drop(first);
        all_received(lab, before, 900_000);
        let mut next = NftGate::new();
        next.load(&plan(), &[bytes(MAC_1, 1, 1_000_000, 0)]).unwrap();
        wait("the last bytes", || used(&mut next, MAC_1) == 1_000_000);
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), Got::Silence);
    }

    fn a_flushed_firewall_goes_on_counting_from_what_is_known(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        let known = used(&mut gate, MAC_1);
        sh("nft flush ruleset");
        firewall();
        gate.load(&plan(), &[bytes(MAC_1, 1, MUCH, known)]).unwrap();
        echo(lab, INTERNET[0]);
        assert_eq!(used(&mut gate, MAC_1), 2 * ECHO[0]);
    }

    fn closing_leaves_nothing_behind_and_the_next_session_begins_at_zero(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        gate.close(&[station(MAC_1)]).unwrap();
        let tables = sh("nft list ruleset");
        assert!(!tables.contains("quota q"), "{tables}");
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
        gate.open(&[bytes(MAC_1, 2, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        assert_eq!(used(&mut gate, MAC_1), ECHO[0]);
    }

    fn another_session_takes_the_place_of_the_one_before_at_once(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        gate.open(&[bytes(MAC_1, 2, MUCH, 500)]).unwrap();
        assert_eq!(used(&mut gate, MAC_1), 500);
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        assert!(gate.tend().unwrap().is_empty(), "time is not counted in bytes");
        echo(lab, INTERNET[1]);
        assert!(!sh("nft list ruleset").contains("quota q"));
    }

    fn a_counted_guest_in_a_foreign_table_stays_counted(lab) {
        let mut first = gate();
        first.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        // A chain of ours with another type cannot be brought up to date, only replaced.
        sh("nft 'delete chain inet tollgate tg_seen; add chain inet tollgate tg_seen { type nat hook input priority filter - 5; }'");
        first.load(&plan(), &[]).unwrap();
        echo(lab, INTERNET[0]);
        assert_eq!(used(&mut first, MAC_1), 2 * ECHO[0]);
    }

    fn what_a_proxy_on_the_router_brings_is_counted_once(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        let proxy = TcpListener::bind("[::]:7892").unwrap();
        std::thread::spawn(move || {
            for stream in proxy.incoming() {
                let _ = stream.unwrap().write_all(&[b'x'; 500_000]);
            }
        });
        sh("nft 'add table ip proxy; add chain ip proxy pre { type nat hook prerouting priority dstnat; }; \
            add rule ip proxy pre iifname br-guest tcp dport 9000 redirect to :7892'");
        let before = lab.guest.received();
        let mut download = lab.guest.helper(&format!("download {} 9000", INTERNET[0]));
        wait("the end of it", || !download.is_running());
        assert!(lab.guest.received() - before < 540_000, "the proxy does not answer");
        let used = used(&mut gate, MAC_1);
        assert!((500_000..540_000).contains(&used), "{used}");
    }

    fn what_nobody_bought_is_not_counted(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        let dns = UdpSocket::bind("[::]:53").unwrap();
        std::thread::spawn(move || loop {
            let mut buffer = [0; 100];
            let (length, from) = dns.recv_from(&mut buffer).unwrap();
            dns.send_to(&buffer[..length], from).unwrap();
        });
        lab.guest.sh("ip neigh flush dev eth0 && ip -6 neigh flush dev eth0");
        for own in ["192.168.77.1", "fd77::1"] {
            assert_eq!(lab.guest.get(own, 2121), text("portal"), "{own}");
            assert_eq!(lab.guest.datagram(own, 53), text("echo"), "{own}");
        }
        assert_eq!(used(&mut gate, MAC_1), 0);
        // The same ports elsewhere are the internet's.
        lab.guest.datagram(INTERNET[0], 53);
        assert!(used(&mut gate, MAC_1) > 0);
    }

    fn a_meter_that_somebody_takes_away_is_noticed_and_put_back(lab) {
        let mut gate = gate();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        for harm in ["delete table netdev tollgate", "flush chain netdev tollgate tg_comes", "insert rule netdev tollgate tg_goes accept"] {
            echo(lab, INTERNET[0]);
            let known = used(&mut gate, MAC_1);
            assert!(!gate.changed() || gate.inspect().unwrap().is_sound());
            sh(&format!("nft {harm}"));
            assert!(gate.changed(), "{harm}");
            assert!(!gate.inspect().unwrap().is_sound(), "{harm}");
            gate.load(&plan(), &[bytes(MAC_1, 1, MUCH, known)]).unwrap();
            assert!(gate.inspect().unwrap().is_sound(), "{harm}");
            echo(lab, INTERNET[1]);
            assert_eq!(used(&mut gate, MAC_1), known + ECHO[1], "{harm}");
        }
        visit::release().unwrap();
        assert!(!sh("nft list tables").contains("tollgate"));
    }

    fn a_device_that_appears_later_is_counted_at(_lab) {
        let mut gate = NftGate::new();
        gate.load(&Plan { venues: vec![venue(&[BRIDGE, "wlan9"], &[])], ..plan() }, &[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        let attached = || sh("nft list table netdev tollgate").matches("wlan9").count();
        let before = attached();
        sh("ip link add wlan9 type veth peer name wlan8 && ip link set wlan9 up");
        gate.tend().unwrap();
        assert!(gate.inspect().unwrap().is_sound());
        assert_eq!(attached(), before + 2, "the chain of either direction");
    }

    fn a_session_by_time_that_goes_over_into_bytes_keeps_its_connections(lab) {
        let clock = Clock::machine();
        let until = |seconds| clock.now().saturating_add(Millis::from_secs(seconds));
        let quota = Quota { session: 1, allotment: Allotment(MUCH * MUCH), used: Allotment::ZERO };
        let pass = Pass { time: Some(until(4)), data: Some((quota, until(86_400))), ..Pass::default() };
        let wanted = [(station(MAC_1), pass)].into_iter().collect();
        let keeper = Gatekeeper::start(Box::new(NftGate::new()), clock.clone(), plan(), wanted, false);
        wait("the gate", || keeper.status().open == 1);
        let mut download = lab.guest.helper(&format!("download {} 9000", INTERNET[0]));
        wait("the bytes to be counted", || keeper.used(&station(MAC_1), 1).is_some_and(|used| used.0 > 1_000_000));
        assert!(download.is_running());
    }

    fn while_nobody_is_counted_no_packet_passes_the_meter(_lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        assert!(!sh("nft list table netdev tollgate").contains("hook"));
        gate.open(&[bytes(MAC_2, 1, MUCH, 0)]).unwrap();
        assert_eq!(sh("nft list table netdev tollgate").matches("hook").count(), 2);
    }

    fn without_hooks_at_the_devices_bytes_are_counted_and_cut_where_packets_are_forwarded(lab) {
        let mut gate = gate_of_an_old_kernel();
        gate.open(&[bytes(MAC_1, 1, ECHO[0] + ECHO[1] + ECHO[0] / 2, 0)]).unwrap();
        echo(lab, INTERNET[0]);
        echo(lab, INTERNET[1]);
        assert_eq!(used(&mut gate, MAC_1), ECHO[0] + ECHO[1]);
        lab.guest.datagram(INTERNET[0], 443);
        let arrived = lab.arrived();
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), Got::Silence);
        assert_eq!(lab.arrived(), arrived);
        assert!(gate.inspect().unwrap().is_sound());
        gate.close(&[station(MAC_1)]).unwrap();
        assert!(!sh("nft list ruleset").contains("quota q"));
    }

    fn without_hooks_at_the_devices_every_address_of_a_guest_counts_where_packets_are_forwarded(lab) {
        let mut gate = gate_of_an_old_kernel();
        gate.open(&[bytes(MAC_1, 1, MUCH, 0)]).unwrap();
        echo(lab, INTERNET[1]);
        more_addresses(lab);
        assert_eq!(used(&mut gate, MAC_1), ECHO[1]);
        for (number, address) in INTERNET.into_iter().enumerate() {
            let before = used(&mut gate, MAC_1);
            assert_eq!(lab.guest.datagram(address, 443), Got::Silence, "nothing is let in uncounted");
            assert_eq!(used(&mut gate, MAC_1), before + ECHO[number] / 2);
            for round in 1..=3 {
                echo(lab, address);
                assert_eq!(used(&mut gate, MAC_1), before + ECHO[number] / 2 + round * ECHO[number]);
            }
        }
        let listing = sh("nft list map inet tollgate qm6");
        assert!(listing.contains("fd77::11 ") && listing.contains("fd77::111 "), "{listing}");
    }
}

/// One whose `nft` knows no table at a device.
fn gate_of_an_old_kernel() -> NftGate {
    let path = std::env::temp_dir().join(format!("old-nft-{}", std::process::id()));
    let script = "#!/bin/sh\nscript=$(cat)\ncase $script in *netdev*) echo 'Error: not supported' >&2; exit 1 ;; esac\nprintf '%s\\n' \"$script\" | exec nft \"$@\"\n";
    std::fs::write(&path, script).unwrap();
    sh(&format!("chmod 700 {}", path.display()));
    let mut gate = NftGate::with_program(path.into_os_string());
    gate.load(&plan(), &[]).unwrap();
    gate
}

/// The guest goes on from other addresses.
fn more_addresses(lab: &Lab) {
    lab.guest.sh(
        "ip addr add fd77::111/64 dev eth0 nodad && ip -6 route replace default via fd77::1 src fd77::111",
    );
    lab.guest.sh("ip addr add 192.168.77.111/24 dev eth0 && ip route replace default via 192.168.77.1 src 192.168.77.111");
}
