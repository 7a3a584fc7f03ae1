//! The garden and the slow lane on a real kernel: what is reached without paying, and how fast.

use super::lab::{
    bytes, gate, lease, plan, sh, station, venue, wait, Got, Lab, BRIDGE, INTERNET, MAC_1, MAC_2,
};
use super::{lab, text};
use std::time::{Duration, Instant};
use tollgated::config::{garden, range, AddressRange};
use tollgated::network::gate::{Gate, Lease, NftGate, Plan, Table, SLOW};

/// Beside the garden's servers.
const OUTSIDE: [&str; 2] = ["198.51.100.81", "2001:db8:80::81"];
/// The echo of four bytes, there and back.
const ECHO: [u64; 2] = [64, 104];

fn ranges(texts: &[&str]) -> Vec<AddressRange> {
    range::merged(texts.iter().map(|text| garden::parse(text).unwrap()).collect())
}

fn with_garden(texts: &[&str]) -> Plan {
    Plan { garden: ranges(texts), ..plan() }
}

/// A gate with a garden, and an internet with somebody beside it.
fn gardened(lab: &Lab, leases: &[Lease]) -> NftGate {
    lab.internet.sh("ip addr add 198.51.100.81/32 dev lo && ip addr add 2001:db8:80::81/128 dev lo nodad");
    let mut gate = NftGate::new();
    gate.load(&with_garden(&INTERNET), leases).unwrap();
    gate
}

fn slow(mac: &str, session: u64) -> Lease {
    Lease { is_slow: true, ..bytes(mac, session, 1_000_000_000, 0) }
}

/// Bytes in a second of a download from here, over two seconds, or longer on a machine that is too busy for it.
fn rate(lab: &Lab, address: &str) -> u64 {
    let _download = lab.guest.helper(&format!("download {address} 9000"));
    let (started, before) = (Instant::now(), lab.guest.received());
    std::thread::sleep(Duration::from_secs(2));
    wait("the download to get on", || lab.guest.received() - before > SLOW / 2);
    (lab.guest.received() - before) * 1000 / u64::try_from(started.elapsed().as_millis()).unwrap()
}

in_lab! {
    fn an_unpaid_guest_reaches_the_garden_and_nothing_else(lab) {
        let mut gate = gardened(lab, &[]);
        for (inside, outside) in INTERNET.into_iter().zip(OUTSIDE) {
            for port in [80, 443] {
                assert_eq!(lab.guest.get(inside, port), text("internet"), "{inside}");
            }
            assert_eq!(lab.guest.datagram(inside, 443), text("echo"), "{inside}");
            assert_eq!(lab.guest.get(outside, 80), text("portal"), "{outside}");
            assert!(lab.guest.get(outside, 443).is_refused_at_once(), "{outside}");
            assert!(lab.guest.datagram(outside, 443).is_refused_at_once(), "{outside}");
        }
        assert!(gate.inspect().unwrap().is_sound());
        assert!(gate.inspect().unwrap().paid.is_empty());
        let table = sh("nft list table inet tollgate");
        assert!(!table.contains("192.168.77.11 timeout 1m"), "no way in is opened: {table}");
    }

    fn nobody_in_the_garden_begins_a_conversation_with_a_guest(lab) {
        let _gate = gardened(lab, &[]);
        let _listener = lab.guest.helper(&format!("download {} 9000", INTERNET[1]));
        let before = lab.guest.received();
        // Only what was asked for comes in: another port of the same host, to the same guest, does not.
        assert_eq!(lab.internet.get("fd77::11", 9), Got::Silence);
        assert!(lab.guest.received() > before, "the download goes on");
    }

    fn the_garden_is_no_way_to_another_gated_network(lab) {
        sh("ip link add other0 type veth peer name other1 && ip link set other0 up && ip link set other1 up && ip -6 addr add 2001:db8:77::1/64 dev other0 nodad");
        let mut gate = gardened(lab, &[]);
        let venues = vec![venue(&[BRIDGE, "other0"], &[])];
        gate.load(&Plan { venues, ..with_garden(&["2001:db8:77::/64"]) }, &[]).unwrap();
        sh("nft 'add table inet watch; add chain inet watch w { type filter hook postrouting priority 0; }; \
            add counter inet watch left; add rule inet watch w iifname br-guest oifname other0 counter name left'");
        lab.guest.datagram("2001:db8:77::9", 443);
        assert_eq!(lab.guest.get("2001:db8:77::9", 443), Got::Silence);
        assert!(sh("nft list counter inet watch left").contains("packets 0"));
        let downloads = sh("nft list set inet tollgate dl6");
        assert!(!downloads.contains("fd77::11"), "{downloads}");
    }

    fn what_a_paying_guest_has_from_the_garden_is_not_counted(lab) {
        let mut gate = gardened(lab, &[bytes(MAC_1, 1, 1_000_000, 0)]);
        let used = |gate: &mut NftGate| gate.tend().unwrap()[&station(MAC_1)].1 .0;
        for address in INTERNET {
            assert_eq!(lab.guest.datagram(address, 443), text("echo"));
        }
        assert_eq!(used(&mut gate), 0);
        for address in OUTSIDE {
            lab.guest.get(address, 443);
            assert!(used(&mut gate) > 0, "{address}");
        }
    }

    fn a_garden_that_changes_ends_no_session_and_takes_effect_at_once(lab) {
        let mut gate = gardened(lab, &[bytes(MAC_1, 1, 1_000_000_000, 0), lease(MAC_2, 600_000)]);
        let mut download = lab.guest.helper(&format!("download {} 9000", OUTSIDE[0]));
        gate.load(&with_garden(&["198.51.100.81", "2001:db8:80::81"]), &[]).unwrap();
        gate.close(&[station(MAC_2)]).unwrap();
        assert!(lab.other.get(INTERNET[0], 443).is_refused_at_once());
        for address in OUTSIDE {
            assert_eq!(lab.other.get(address, 443), text("internet"), "{address}");
        }
        // Many, side by side and within each other; then none.
        let many: Vec<String> = (0..60).map(|n| format!("203.0.{n}.0/24")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.extend(["198.51.0.0/16", "198.51.100.0/24", "2001:db8:80::/48", "2001:db8:80::80"]);
        gate.load(&with_garden(&many), &[]).unwrap();
        assert!(gate.inspect().unwrap().is_sound() && !gate.changed());
        for address in INTERNET {
            assert_eq!(lab.other.get(address, 443), text("internet"), "{address}");
        }
        gate.load(&plan(), &[]).unwrap();
        for address in [INTERNET, OUTSIDE].concat() {
            assert!(lab.other.get(address, 443).is_refused_at_once(), "{address}");
        }
        assert!(gate.inspect().unwrap().is_sound());
        assert!(download.is_running());
        let before = lab.guest.received();
        wait("the download to go on", || lab.guest.received() > before + 100_000);
    }

    fn a_garden_that_somebody_changes_is_noticed_and_put_back(lab) {
        let mut gate = gardened(lab, &[]);
        for harm in [
            "nft add element inet tollgate garden4 '{ 198.51.100.81 }'",
            "nft delete element inet tollgate garden6 '{ 2001:db8:80::80 }'",
            "nft flush set inet tollgate garden4",
        ] {
            assert_eq!(gate.inspect().unwrap().table, Table::Intact);
            sh(harm);
            assert!(gate.changed(), "{harm}");
            assert_eq!(gate.inspect().unwrap().table, Table::Foreign, "{harm}");
            gate.load(&with_garden(&INTERNET), &[]).unwrap();
        }
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        assert!(lab.guest.get(OUTSIDE[0], 443).is_refused_at_once());
    }

    fn a_slow_guest_is_let_through_at_a_low_rate(lab) {
        let mut gate = gate();
        gate.open(&[slow(MAC_1, 1), lease(MAC_2, 60_000)]).unwrap();
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 443), text("internet"), "{address}");
            let rate = rate(lab, address);
            // What was saved up comes on top.
            assert!(rate < SLOW * 5 / 2, "{address}: {rate} bytes a second");
        }
        assert!(gate.inspect().unwrap().quotas.contains_key(&station(MAC_1)), "and all of it is counted");
    }

    fn a_slow_guest_that_pays_is_fast_within_seconds_and_has_used_nothing(lab) {
        let mut gate = gate();
        gate.open(&[slow(MAC_1, 1)]).unwrap();
        assert!(rate(lab, INTERNET[0]) < SLOW * 5 / 2);
        gate.open(&[bytes(MAC_1, 2, 1_000_000_000, 0)]).unwrap();
        assert_eq!(gate.tend().unwrap()[&station(MAC_1)].0, 2);
        wait("the guest to be fast", || rate(lab, INTERNET[0]) > 20 * SLOW);
        gate.open(&[slow(MAC_1, 3)]).unwrap();
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        assert!(!sh("nft list set inet tollgate slow_at").contains(MAC_1));
        assert!(gate.tend().unwrap().is_empty());
        wait("the guest to be fast", || rate(lab, INTERNET[0]) > 20 * SLOW);
    }

    fn a_slow_guest_is_out_when_its_time_or_its_bytes_are_over(lab) {
        let mut gate = gate();
        gate.open(&[Lease { remaining: tollgated::units::Millis(8_000), ..slow(MAC_1, 1) }]).unwrap();
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        wait("the kernel to end it", || lab.guest.get(INTERNET[0], 443).is_refused_at_once());
        gate.close(&[station(MAC_1)]).unwrap();
        // With the Ethernet header of the answer.
        gate.open(&[Lease { is_slow: true, ..bytes(MAC_1, 2, ECHO[0] + 14, 0) }]).unwrap();
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), text("echo"));
        assert_eq!(lab.guest.datagram(INTERNET[0], 443), Got::Silence);
        gate.close(&[station(MAC_1)]).unwrap();
        let table = sh("nft list ruleset");
        assert!(!table.contains("quota q") && !sh("nft list set inet tollgate slow_at").contains(MAC_1), "{table}");
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
    }
}
