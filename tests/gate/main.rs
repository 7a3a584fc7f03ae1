//! The gate and its neighbours on a real kernel: `nft`, routing rules, two guests, an internet.

mod lab;

use lab::{
    firewall, gate, lease, nat, plan, sh, station, venue, wait, Got, Lab, BRIDGE, INTERNET, MAC_1, MAC_2,
};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tollgated::mac::MacAddr;
use tollgated::network::gate::{Family, Gate, GatedVenue, Lease, NftGate, Plan, Table};
use tollgated::network::neighbours::{self, Caller, CallerError, Neighbours};
use tollgated::network::{conntrack, devices, witness};
use tollgated::units::Millis;

macro_rules! in_lab {
    ($(fn $name:ident($lab:ident) $body:block)*) => {
        $(#[test]
        fn $name() {
            lab::run(&lab::test_name(module_path!(), stringify!($name)), |$lab: &Lab| $body);
        })*
    };
}

mod misuse;
mod bytes;
mod destinations;
mod forged;
mod garden;
mod strangers;
mod writing;

/// Not a test: what other processes of the lab run.
#[test]
#[ignore = "only the lab's own processes play a role"]
fn helper() {
    lab::play_role();
}

const SOON: Duration = Duration::from_secs(1);

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

/// What the kernel says is left of this guest's session.
fn left(gate: &mut NftGate, guest: &str) -> Option<Millis> {
    let paid = gate.inspect().unwrap().paid;
    paid.into_iter().find(|(found, _)| *found == station(guest)).and_then(|(_, left)| left)
}

/// A session that was given `wanted` milliseconds at `since`.
fn assert_near(left: Option<Millis>, wanted: u64, since: Instant) {
    let (left, passed) = (left.expect("no session in the kernel").0, since.elapsed());
    assert!(left <= wanted && Duration::from_millis(wanted - left) < passed + SOON, "{left} is not {wanted}");
}

/// The machine may be busy with something else for a while, but not each time.
fn soon_once(mut took: impl FnMut() -> Duration) {
    let mut all = Vec::new();
    while all.last().is_none_or(|last| *last >= SOON) {
        assert!(all.len() < 5, "{all:?}");
        all.push(took());
    }
}

fn neighbour(address: &str) -> Result<Caller, CallerError> {
    Neighbours::default().identify(BRIDGE, address.parse().unwrap())
}

in_lab! {
    fn an_unpaid_guests_http_lands_on_the_portal(lab) {
        let _gate = gate();
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 80), text("portal"), "{address}");
        }
        assert_eq!(lab.arrived(), 0);
    }

    fn an_unpaid_guests_http_lands_on_the_portal_without_any_ipv6_uplink(lab) {
        sh("ip -6 route del default");
        let _gate = gate();
        assert_eq!(lab.guest.get(INTERNET[1], 80), text("portal"));
        assert!(lab.guest.get(INTERNET[1], 443).is_refused_at_once());
    }

    fn the_routers_own_port_80_is_not_redirected(lab) {
        let _gate = gate();
        let listener = std::net::TcpListener::bind("[::]:80").unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = std::io::Write::write_all(&mut stream.unwrap(), b"luci\n");
            }
        });
        for address in ["192.168.77.1", "fd77::1", "203.0.113.2"] {
            assert_eq!(lab.guest.get(address, 80), text("luci"), "{address}");
        }
    }

    fn thirty_https_connections_of_an_unpaid_guest_fail_within_a_second(lab) {
        let _gate = gate();
        for address in INTERNET {
            soon_once(|| {
                let (failed, slowest) = lab.guest.burst(address, 443, 30);
                assert_eq!(failed, 30, "{address}");
                slowest
            });
        }
        assert_eq!(lab.arrived(), 0);
    }

    fn quic_of_an_unpaid_guest_fails_at_once(lab) {
        let _gate = gate();
        for address in INTERNET {
            soon_once(|| match lab.guest.datagram(address, 443) {
                Got::Refused(after) => after,
                got => panic!("{address}: {got:?}"),
            });
        }
        assert_eq!(lab.arrived(), 0);
    }

    fn a_lease_opens_both_families_for_that_guest_only(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 80), text("internet"), "{address}");
            assert_eq!(lab.guest.get(address, 443), text("internet"), "{address}");
            assert_eq!(lab.guest.datagram(address, 443), text("echo"), "{address}");
            assert_eq!(lab.other.get(address, 80), text("portal"), "{address}");
            assert!(lab.other.get(address, 443).is_refused_at_once(), "{address}");
        }
    }

    fn a_trusted_guest_passes_without_end_until_it_is_no_longer_trusted(lab) {
        let mut gate = gate();
        let trusting = Plan { venues: vec![venue(&[BRIDGE], &[MAC_1])], ..plan() };
        let opened = Instant::now();
        gate.load(&trusting, &[lease(MAC_1, 5_000), lease(MAC_2, 60_000)]).unwrap();
        gate.open(&[lease(MAC_1, 5_000)]).unwrap();
        gate.close(&[station(MAC_1)]).unwrap();
        assert!(gate.inspect().unwrap().paid.contains(&(station(MAC_1), None)));
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 443), text("internet"));
        }
        gate.tend().unwrap();
        gate.load(&plan(), &[]).unwrap();
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
        assert_near(left(&mut gate, MAC_2), 60_000, opened);
    }

    fn a_right_at_one_venue_opens_nothing_at_another(lab) {
        let hall = GatedVenue { name: "hall".to_owned(), ..venue(&["br-hall"], &[MAC_2]) };
        let two = Plan { venues: vec![venue(&[BRIDGE], &[]), hall], ..plan() };
        let at_the_hall = |mac: &str, millis| Lease { venue: "hall".to_owned(), ..lease(mac, millis) };
        let mut gate = NftGate::new();
        gate.load(&two, &[at_the_hall(MAC_1, 60_000)]).unwrap();
        for address in INTERNET {
            assert!(lab.guest.get(address, 443).is_refused_at_once(), "{address}");
            assert!(lab.other.get(address, 443).is_refused_at_once(), "{address}");
        }
        gate.open(&[lease(MAC_1, 30_000)]).unwrap();
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        gate.close(&[at_the_hall(MAC_1, 0).station()]).unwrap();
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        gate.open(&[at_the_hall(MAC_1, 60_000)]).unwrap();
        gate.close(&[station(MAC_1)]).unwrap();
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
        assert_eq!(gate.inspect().unwrap().paid.len(), 2);
        // The device goes from one venue to the other; what was sold does not.
        let moved = GatedVenue { name: "yard".to_owned(), ..venue(&["br-hall"], &[]) };
        gate.load(&Plan { venues: vec![venue(&[BRIDGE], &[]), moved], ..plan() }, &[]).unwrap();
        let strangers = gate.inspect().unwrap().paid;
        assert!(strangers.iter().all(|(station, _)| station.venue == "yard"), "{strangers:?}");
        gate.load(&plan(), &[]).unwrap();
        assert!(gate.inspect().unwrap().paid.is_empty());
    }

    fn the_table_of_a_version_without_venues_is_replaced_and_opens_what_is_asked_for(lab) {
        sh("nft 'add table inet tollgate; add set inet tollgate ifs { type ifname; }; add set inet tollgate paid { type ether_addr; flags timeout; }; \
            add element inet tollgate paid { 02:00:00:00:00:11 timeout 1h, 02:00:00:00:00:12 timeout 1h }; \
            add map inet tollgate qm { type ether_addr : quota; }; add quota inet tollgate q020000000011_5 { over 1000 bytes }; \
            add element inet tollgate qm { 02:00:00:00:00:11 : \"q020000000011_5\" }; \
            add chain inet tollgate tg_mark { type filter hook prerouting priority mangle; }; add rule inet tollgate tg_mark ether saddr @paid meta mark set 0x08000000'");
        let mut gate = NftGate::new();
        gate.load(&plan(), &[lease(MAC_2, 60_000)]).unwrap();
        assert!(gate.inspect().unwrap().is_sound());
        assert_eq!(lab.other.get(INTERNET[0], 443), text("internet"));
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
        let table = sh("nft list table inet tollgate");
        assert!(!table.contains("set paid {") && !table.contains("quota q"), "{table}");
    }

    fn a_session_ends_by_itself_in_the_kernel_to_the_second(lab) {
        let mut gate = gate();
        for address in INTERNET {
            let opening = Instant::now();
            gate.open(&[lease(MAC_1, 8_000)]).unwrap();
            let opened = Instant::now();
            let mut download = lab.guest.helper(&format!("download {address} 9000"));
            // No call to the gate from here on.
            let end = lab.guest.end_of_transfer(opened + Duration::from_millis(9_000));
            assert!(end.1 - opening > Duration::from_millis(7_000), "{address}: ended after {:?}", end.1 - opening);
            assert!(end.0 - opened < Duration::from_millis(9_000), "{address}: went on for {:?}", end.0 - opened);
            wait("the guest to be told", || !download.is_running());
            assert!(lab.guest.get(address, 443).is_refused_at_once());
        }
    }

    fn a_running_transfer_stops_when_the_session_is_closed(lab) {
        let mut gate = gate();
        for address in INTERNET {
            gate.open(&[lease(MAC_1, 600_000)]).unwrap();
            let _download = lab.guest.helper(&format!("download {address} 9000"));
            gate.tend().unwrap();
            gate.close(&[station(MAC_1)]).unwrap();
            let closed = Instant::now();
            let end = lab.guest.end_of_transfer(closed);
            assert!(end.0 < closed + SOON, "{address}: went on for {:?}", end.0 - closed);
        }
    }

    fn a_flow_that_needs_no_upload_lives_to_the_sessions_end_and_not_longer(lab) {
        let mut gate = gate();
        for (number, address) in INTERNET.into_iter().enumerate() {
            gate.open(&[lease(MAC_1, 600_000)]).unwrap();
            let _listening = lab.guest.helper(&format!("listen {address} 443"));
            gate.tend().unwrap();
            let (set, own) = [("dl4", "192.168.77.11"), ("dl6", "fd77::11")][number];
            let listing = sh(&format!("nft list set inet tollgate {set}"));
            assert!(listing.contains(own) && listing.contains("expires 9m"), "{listing}");
            let opening = Instant::now();
            gate.open(&[lease(MAC_1, 2_500)]).unwrap();
            let opened = Instant::now();
            let end = lab.guest.end_of_transfer(opened + Duration::from_millis(3_500));
            assert!(end.1 - opening > Duration::from_millis(1_500), "{address}: ended after {:?}", end.1 - opening);
            assert!(end.0 - opened < Duration::from_millis(3_500), "{address}: went on for {:?}", end.0 - opened);
        }
    }

    fn with_the_ruleset_flushed_and_nat_put_back_not_a_packet_passes(lab) {
        let _gate = gate();
        sh("nft flush ruleset");
        nat();
        try_everything(lab);
        assert_eq!(lab.arrived(), 0);
    }

    fn with_the_locks_deleted_and_the_table_left_not_a_packet_passes(lab) {
        let _gate = gate();
        sh("ip rule del pref 90; ip -6 rule del pref 90");
        try_everything(lab);
        assert_eq!(lab.arrived(), 0);
    }

    fn without_either_lock_the_lab_lets_everything_through(lab) {
        // Proves that the two tests above can fail.
        sh("nft flush ruleset");
        nat();
        try_everything(lab);
        assert!(lab.arrived() > 0);
    }

    fn a_paid_guest_is_healed_by_one_load_after_a_flush(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        // A guest that only listens: its peer's packets must find the way in open without one of its own.
        // IPv6, because IPv4 flows lose their NAT with the ruleset.
        let _listening = lab.guest.helper(&format!("listen {} 443", INTERNET[1]));
        sh("nft flush ruleset");
        assert!(gate.changed());
        let report = gate.inspect().unwrap();
        assert_eq!(report.table, Table::Missing);
        assert!(!report.is_sound() && report.paid.is_empty());
        firewall();
        gate.load(&plan(), &[lease(MAC_1, 50_000)]).unwrap();
        assert!(gate.inspect().unwrap().is_sound());
        let before = lab.guest.received();
        wait("the flow to go on", || lab.guest.received() - before > 20_000);
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 443), text("internet"));
        }
    }

    fn loading_again_keeps_every_session(lab) {
        let mut first = gate();
        let opened = Instant::now();
        first.open(&[lease(MAC_1, 60_000)]).unwrap();
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        let counted = sh("nft list set inet tollgate ul4_at");
        assert!(counted.contains("192.168.77.11"), "{counted}");
        for _ in 0..2 {
            let mut next = gate();
            assert_near(left(&mut next, MAC_1), 60_000, opened);
            assert!(next.inspect().unwrap().is_sound());
        }
        assert!(sh("nft list set inet tollgate ul4_at").contains("192.168.77.11"));
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
    }

    fn opening_extends_and_shortens_exactly_and_zero_closes(_lab) {
        let mut gate = gate();
        for millis in [30_000, 90_061_500, 22_500, 600_000, 40 * 86_400_000] {
            let opened = Instant::now();
            gate.open(&[lease(MAC_1, millis), lease(MAC_2, 77_000)]).unwrap();
            assert_near(left(&mut gate, MAC_1), millis, opened);
            assert_near(left(&mut gate, MAC_2), 77_000, opened);
        }
        gate.open(&[lease(MAC_1, 0)]).unwrap();
        assert_eq!(left(&mut gate, MAC_1), None);
        assert!(!gate.inspect().unwrap().paid.iter().any(|(guest, _)| *guest == station(MAC_1)));
        gate.close(&[station(MAC_1)]).unwrap();
        gate.close(&[station(MAC_1), station(MAC_2)]).unwrap();
        assert!(gate.inspect().unwrap().paid.is_empty());
    }

    fn opening_survives_sessions_that_end_at_the_same_moment(_lab) {
        let mut gate = gate();
        let guests: Vec<String> = (0..40).map(|n| format!("02:00:00:00:01:{n:02x}")).collect();
        for round in 1..20 {
            let ending: Vec<_> = guests.iter().zip(1..).map(|(g, n)| lease(g, 8 * n + round)).collect();
            gate.open(&ending).unwrap();
            std::thread::sleep(Duration::from_millis(40 + round * 8));
            let renewed: Vec<_> = guests.iter().map(|guest| lease(guest, 60_000)).collect();
            gate.open(&renewed).unwrap();
            assert_eq!(gate.inspect().unwrap().paid.len(), guests.len());
        }
    }

    fn closing_forgets_the_guests_connections_and_nobody_elses(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 60_000), lease(MAC_2, 60_000)]).unwrap();
        let mut helpers = Vec::new();
        for guest in [&lab.guest, &lab.other] {
            helpers.extend(INTERNET.map(|address| guest.helper(&format!("listen {address} 443"))));
        }
        // Not /proc/net/nf_conntrack: only the real root may read it.
        let count = |address: &str| {
            let table = sh("conntrack -L -f ipv4; conntrack -L -f ipv6");
            table.lines().filter(|line| line.contains(&format!("src={address} "))).count()
        };
        let (own_v6, others_v6) = ("fd77::11", "fd77::12");
        assert!(count("192.168.77.11") > 0 && count(own_v6) > 0);
        gate.close(&[station(MAC_1)]).unwrap();
        assert_eq!((count("192.168.77.11"), count(own_v6)), (0, 0));
        assert!(count("192.168.77.12") > 0 && count(others_v6) > 0);
        assert!(conntrack::Connections::default().forget(&["192.168.77.12".parse().unwrap()].into()).unwrap() > 0);
        assert_eq!(count("192.168.77.12"), 0);
    }

    fn an_address_taken_over_by_a_paid_guest_is_not_closed_with_its_former_holder(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 60_000), lease(MAC_2, 60_000)]).unwrap();
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        lab.guest.sh("ip link set eth0 down");
        lab.other.sh("ip addr flush dev eth0 && ip addr add 192.168.77.11/24 dev eth0 && ip route add default via 192.168.77.1");
        wait("the address to move", || lab.other.get(INTERNET[0], 443) == text("internet"));
        let mut download = lab.other.helper(&format!("download {} 9000", INTERNET[0]));
        gate.close(&[station(MAC_1)]).unwrap();
        let before = lab.other.received();
        wait("the transfer to go on", || lab.other.received() - before > 100_000);
        assert!(download.is_running());
    }

    fn our_own_writes_are_no_change_and_everybody_elses_are(_lab) {
        let mut gate = gate();
        assert!(!gate.changed());
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        assert!(!gate.changed());
        gate.close(&[station(MAC_1)]).unwrap();
        gate.tend().unwrap();
        assert!(!gate.changed());

        // Another table is a change, but no harm: one look settles it.
        sh("nft add table inet other");
        assert!(gate.changed());
        assert!(gate.inspect().unwrap().is_sound());
        assert!(!gate.changed());

        for harm in [
            "nft delete table inet tollgate",
            "nft flush chain inet tollgate tg_mark",
            "nft flush set inet tollgate ifs",
            "nft add element inet tollgate ifs '{ eth7 }'",
            "nft insert rule inet tollgate tg_forward accept",
            "nft delete rule inet tollgate tg_up handle $(nft -a list chain inet tollgate tg_up | sed -n 's/.* drop .*handle //p' | head -n 1)",
            "nft delete chain inet tollgate tg_late",
        ] {
            sh(harm);
            assert!(gate.changed(), "{harm}");
            assert!(!gate.inspect().unwrap().is_sound(), "{harm}");
            assert!(gate.changed(), "still broken: {harm}");
            gate.load(&plan(), &[]).unwrap();
            assert!(gate.inspect().unwrap().is_sound(), "{harm}");
            assert!(!gate.changed(), "{harm}");
        }
        for (harm, family) in [("ip rule del pref 90", Family::V4), ("ip -6 rule del pref 90", Family::V6)] {
            sh(harm);
            assert!(gate.changed(), "{harm}");
            assert_eq!(gate.inspect().unwrap().missing_locks, [(BRIDGE.to_owned(), family)]);
            gate.load(&plan(), &[]).unwrap();
            assert!(!gate.changed(), "{harm}");
        }
    }

    fn a_changed_rule_that_kept_its_comment_is_noticed(_lab) {
        let mut gate = gate();
        let listing = sh("nft -a list chain inet tollgate tg_forward");
        let line = listing.lines().find(|line| line.contains("tg_forward 0")).unwrap();
        let handle = line.rsplit(' ').next().unwrap();
        sh(&format!("nft replace rule inet tollgate tg_forward handle {handle} iifname nothing drop comment \\\"tollgated 1 tg_forward 0\\\""));
        assert_eq!(gate.inspect().unwrap().table, Table::Foreign);
    }

    fn a_strangers_table_of_our_name_is_replaced(lab) {
        sh("nft 'add table inet tollgate; add set inet tollgate paid_at { type ipv4_addr; }; add element inet tollgate paid_at { 10.0.0.1 }'");
        let mut first = gate();
        assert!(first.inspect().unwrap().is_sound());
        sh("nft delete table inet tollgate");
        sh("nft 'add table inet tollgate; add chain inet tollgate tg_forward { type filter hook output priority 0; }'");
        let mut second = NftGate::new();
        second.load(&plan(), &[lease(MAC_1, 60_000)]).unwrap();
        assert!(second.inspect().unwrap().is_sound());
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        assert!(lab.other.get(INTERNET[0], 443).is_refused_at_once());
    }

    fn locks_are_put_up_once_and_go_with_their_device(_lab) {
        let rules = |family: &str| sh(&format!("ip {family} rule")).lines().filter(|l| l.starts_with("90:")).count();
        let mut gate = gate();
        gate.load(&plan(), &[]).unwrap();
        assert_eq!((rules("-4"), rules("-6")), (1, 1));
        let two = Plan { venues: vec![venue(&[BRIDGE, "wlan9"], &[])], ..plan() };
        gate.load(&two, &[]).unwrap();
        assert_eq!((rules("-4"), rules("-6")), (2, 2));
        let report = gate.inspect().unwrap();
        assert!(report.is_sound());
        assert_eq!(report.absent_devices, ["wlan9"]);
        // Rules of others at the same place stay.
        sh("ip rule add pref 90 iif other0 prohibit");
        gate.load(&Plan { venues: vec![venue(&["wlan9"], &[])], ..plan() }, &[]).unwrap();
        assert_eq!((rules("-4"), rules("-6")), (2, 1));
        assert!(sh("ip rule").contains("iif wlan9"));
    }

    fn a_device_that_appears_later_is_gated_from_its_first_packet(lab) {
        sh(&format!("ip link set {BRIDGE} name br-old 2>/dev/null || (ip link set {BRIDGE} down && ip link set {BRIDGE} name br-old)"));
        let mut gate = gate();
        assert_eq!(gate.inspect().unwrap().absent_devices, [BRIDGE]);
        sh(&format!("ip link set br-old down && ip link set br-old name {BRIDGE} && ip link set {BRIDGE} up"));
        sh(&format!("ip -6 addr replace fd77::1/64 dev {BRIDGE} nodad"));
        assert!(!gate.changed());
        wait("the portal", || lab.guest.get("192.168.77.1", 2121) == text("portal"));
        assert_eq!(lab.guest.get(INTERNET[0], 80), text("portal"));
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
        assert_eq!(lab.arrived(), 0);
    }

    fn without_nft_the_locks_still_stand(lab) {
        let mut gate = NftGate::with_program("/nonexistent/nft".into());
        let failure = gate.load(&plan(), &[]).unwrap_err();
        assert_eq!(failure.to_string(), "the program nft is not installed");
        assert!(gate.changed());
        assert!(gate.inspect().unwrap().missing_locks.is_empty());
        sh("nft flush ruleset");
        nat();
        try_everything(lab);
        assert_eq!(lab.arrived(), 0);
    }

    fn callers_are_identified_on_both_families(lab) {
        for (guest, own) in [(&lab.guest, MAC_1), (&lab.other, MAC_2)] {
            let number = &own[15..];
            for address in [format!("192.168.77.{number}"), format!("::ffff:192.168.77.{number}"), format!("fd77::{number}")] {
                let caller = neighbour(&address).unwrap();
                assert_eq!((caller.mac, caller.device.as_str()), (mac(own), BRIDGE), "{address}");
                assert_eq!(caller.address, neighbours::normalise(address.parse().unwrap()));
            }
            let local = guest.sh("ip -6 -o addr show dev eth0 scope link");
            let local: IpAddr = local.split_whitespace().nth(3).unwrap().split('/').next().unwrap().parse().unwrap();
            let scope = devices::find(BRIDGE).unwrap().unwrap().index;
            wait("the link-local neighbour", || {
                let IpAddr::V6(local_v6) = local else { panic!("{local}") };
                let target = std::net::SocketAddrV6::new(local_v6, 9, 0, scope);
                let _ = std::net::UdpSocket::bind("[::]:0").unwrap().send_to(b"x", target);
                Neighbours::default().identify_among(&[BRIDGE.to_owned()], local, scope).is_ok_and(|c| c.mac == mac(own))
            });
            assert!(matches!(Neighbours::default().identify_among(&[BRIDGE.to_owned()], local, 1), Err(CallerError::Unknown)));
        }
        let router = devices::addresses(BRIDGE).unwrap();
        assert_eq!(router[..2], ["192.168.77.1".parse::<IpAddr>().unwrap(), "fd77::1".parse().unwrap()]);
        assert!(matches!(router[2], IpAddr::V6(last) if devices::is_link_local(&last)));
        let caller = neighbour("192.168.77.11").unwrap();
        let mut addresses = neighbours::addresses_of(BRIDGE, mac(MAC_1)).unwrap();
        addresses.sort();
        assert!(addresses.contains(&caller.address) && addresses.contains(&"fd77::11".parse().unwrap()), "{addresses:?}");
        assert!(!addresses.contains(&"192.168.77.12".parse().unwrap()));
        sh(&format!("ip neigh replace 192.168.77.11 lladdr {MAC_1} dev {BRIDGE} nud stale"));
        assert!(!Neighbours::default().is_reachable(&caller).unwrap());
        sh(&format!("ip neigh replace 192.168.77.11 lladdr {MAC_1} dev {BRIDGE} nud reachable"));
        assert!(Neighbours::default().is_reachable(&caller).unwrap());
    }

    fn identifying_a_caller_takes_well_under_a_millisecond(_lab) {
        soon_once(|| {
            let started = Instant::now();
            for _ in 0..1000 {
                neighbour("192.168.77.11").unwrap();
            }
            started.elapsed()
        });
    }

    fn missing_and_incomplete_neighbours_are_unknown(_lab) {
        assert!(matches!(neighbour("192.168.77.99"), Err(CallerError::Unknown)));
        assert!(matches!(neighbour("fd77::99"), Err(CallerError::Unknown)));
        let _ = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.168.77.99:9");
        let _ = std::net::UdpSocket::bind("[::]:0").unwrap().send_to(b"x", "[fd77::99]:9");
        assert!(sh("ip neigh").contains("192.168.77.99"));
        assert!(matches!(neighbour("192.168.77.99"), Err(CallerError::Unknown)));
        assert!(matches!(neighbour("fd77::99"), Err(CallerError::Unknown)));
        // Known, but on a device that is not gated.
        let wan = Neighbours::default().identify_among(&[BRIDGE.to_owned()], "203.0.113.1".parse().unwrap(), 0);
        assert!(matches!(wan, Err(CallerError::Unknown)));
    }

    fn an_address_that_two_gated_devices_know_is_a_clash(_lab) {
        sh(&format!("ip neigh replace 192.168.77.11 lladdr {MAC_2} dev wan nud reachable"));
        let both = [BRIDGE.to_owned(), "wan".to_owned()];
        let answer = Neighbours::default().identify_among(&both, "192.168.77.11".parse().unwrap(), 0);
        assert!(matches!(answer, Err(CallerError::Clash)), "{answer:?}");
    }

    fn a_guest_with_a_new_mac_is_the_new_mac_and_unpaid(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
        lab.guest.sh("ip link set eth0 down && ip link set eth0 address 02:00:00:00:00:77 && ip link set eth0 up && ip route replace default via 192.168.77.1");
        wait("the new MAC", || {
            lab.guest.get("192.168.77.1", 2121);
            neighbour("192.168.77.11").is_ok_and(|caller| caller.mac == mac("02:00:00:00:00:77"))
        });
        assert_eq!(lab.guest.get(INTERNET[0], 80), text("portal"));
        assert!(lab.guest.get(INTERNET[0], 443).is_refused_at_once());
    }

    fn the_portals_visitors_are_seen_with_their_mac(lab) {
        let _gate = gate();
        for (address, own) in [("192.168.77.1", "192.168.77.11"), ("fd77::1", "fd77::11")] {
            assert_eq!(lab.guest.get(address, 2121), text("portal"));
            let seen = witness::seen(own.parse().unwrap()).unwrap();
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!(seen[0].0, mac(MAC_1));
            assert!(seen[0].1 < Millis(10_000), "{seen:?}");
            assert!(witness::seen("10.0.0.9".parse().unwrap()).unwrap().is_empty());
        }
    }

    fn a_caller_alone_on_its_address_is_confirmed_quickly(lab) {
        let _gate = gate();
        for address in ["192.168.77.11", "fd77::11"] {
            lab.guest.get(if address.contains(':') { "fd77::1" } else { "192.168.77.1" }, 2121);
            let caller = neighbour(address).unwrap();
            let confirmed = || {
                let started = Instant::now();
                assert_eq!(witness::confirm(&caller), Ok(()));
                started.elapsed()
            };
            wait("a quick confirmation", || confirmed() < Duration::from_millis(200));
        }
    }

    fn a_caller_whose_address_another_device_still_answers_for_is_a_clash(lab) {
        let _gate = gate();
        lab.other.sh("ip addr add 192.168.77.11/24 dev eth0 && ip addr add fd77::11/64 dev eth0 nodad");
        for (address, other) in [("192.168.77.11", MAC_1), ("192.168.77.11", MAC_2), ("fd77::11", MAC_1), ("fd77::11", MAC_2)] {
            let own = if other == MAC_1 { MAC_2 } else { MAC_1 };
            let caller = Caller { mac: mac(own), address: address.parse().unwrap(), device: BRIDGE.to_owned() };
            // Answers are listened for until a moment after the caller's own, and on a busy machine one may come later.
            wait("the other one's answer", || witness::confirm(&caller).is_err_and(|clash| clash.other == mac(other)));
        }
    }

    fn a_guest_that_changed_its_mac_is_confirmed_with_the_new_one(lab) {
        let _gate = gate();
        for address in ["192.168.77.1", "fd77::1"] {
            lab.guest.get(address, 2121);
        }
        let new = "02:00:00:00:00:77";
        lab.guest.sh(&format!("ip link set eth0 down && ip link set eth0 address {new} && ip link set eth0 up"));
        lab.guest.sh("ip addr replace fd77::11/64 dev eth0 nodad");
        for (router, address) in [("192.168.77.1", "192.168.77.11"), ("fd77::1", "fd77::11")] {
            wait("the new MAC", || {
                lab.guest.get(router, 2121);
                neighbour(address).is_ok_and(|caller| caller.mac == mac(new))
            });
            let caller = neighbour(address).unwrap();
            assert_eq!(witness::seen(caller.address).unwrap().len(), 2);
            assert_eq!(witness::confirm(&caller), Ok(()), "{address}");
        }
    }

    fn a_silent_caller_is_believed_within_the_limit(_lab) {
        let caller = Caller { mac: mac(MAC_1), address: "192.168.77.99".parse().unwrap(), device: BRIDGE.to_owned() };
        soon_once(|| {
            let started = Instant::now();
            assert_eq!(witness::confirm(&caller), Ok(()));
            started.elapsed()
        });
    }
}

/// Whatever a guest may try to get out.
fn try_everything(lab: &Lab) {
    std::thread::scope(|scope| {
        for address in INTERNET {
            for port in [80, 443] {
                scope.spawn(move || lab.guest.burst(address, port, 3));
            }
            scope.spawn(move || lab.guest.datagram(address, 443));
        }
    });
}
