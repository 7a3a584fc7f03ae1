//! What paying opens: the internet and what the venue's `reach` names, and nothing else of the router's networks.

use super::lab::{
    bytes, gate, lease, nat, on_the_router, plan, sh, station, venue, Lab, Namespace, BRIDGE, INTERNET,
    MAC_1, MAC_2,
};
use super::{lab, text};
use tollgated::config::AddressRange;
use tollgated::network::gate::{Gate, GatedVenue, Lease, NftGate, Plan};

/// The owner's network, with private and with public addresses, on both families.
const LAN: [&str; 4] = ["192.168.1.2", "198.51.101.2", "fd99::2", "2001:db8:99::2"];
/// What lies behind the uplink and is still not the internet: the modem, the router above ours.
const BEHIND: [&str; 4] = ["192.168.100.1", "100.64.9.9", "fd98::1", "64:ff9b::c0a8:101"];

/// A host in the owner's network and the modem's pages; the lab's firewall lets the mark go anywhere.
fn lan(lab: &Lab) -> (Namespace, Vec<lab::Helper>) {
    let host = Namespace::new();
    sh(&format!("ip link add lan type veth peer name eth0 netns {} && ip link set lan up", host.pid()));
    sh("ip addr add 192.168.1.1/24 dev lan && ip addr add 198.51.101.1/24 dev lan");
    sh("ip addr add fd99::1/64 dev lan nodad && ip addr add 2001:db8:99::1/64 dev lan nodad");
    host.sh("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 && ip link set lo up && ip link set eth0 up");
    host.sh("ip addr add 192.168.1.2/24 dev eth0 && ip addr add 192.168.1.3/24 dev eth0 && ip addr add 198.51.101.2/24 dev eth0");
    host.sh("ip addr add fd99::2/64 dev eth0 nodad && ip addr add fd99::3/64 dev eth0 nodad && ip addr add 2001:db8:99::2/64 dev eth0 nodad");
    host.sh("ip route add default via 192.168.1.1 && ip -6 route add default via fd99::1");
    lab.internet.sh("ip addr add 192.168.100.1/32 dev lo && ip addr add 100.64.9.9/32 dev lo");
    lab.internet.sh("ip addr add fd98::1/128 dev lo nodad && ip addr add 64:ff9b::c0a8:101/128 dev lo nodad");
    let helpers = vec![host.helper("answer 443 lan"), host.helper("answer 80 lan")];
    (host, helpers)
}

fn is_refused_everywhere(lab: &Lab, addresses: &[&str]) {
    for address in addresses {
        for port in [80, 443] {
            let got = lab.guest.get(address, port);
            assert!(got.is_refused_at_once(), "{address} {port}: {got:?}");
        }
    }
}

fn slow(mac: &str) -> Lease {
    Lease { is_slow: true, ..bytes(mac, 7, 1_000_000_000, 0) }
}

in_lab! {
    fn who_has_paid_reaches_the_internet_and_no_other_network(lab) {
        let (_host, _helpers) = lan(lab);
        let mut gate = gate();
        for lease in [lease(MAC_1, 600_000), bytes(MAC_1, 1, 1_000_000_000, 0), slow(MAC_1)] {
            gate.open(&[lease]).unwrap();
            is_refused_everywhere(lab, &LAN);
            is_refused_everywhere(lab, &BEHIND);
        }
        gate.load(&Plan { venues: vec![venue(&[BRIDGE], &[MAC_1])], ..plan() }, &[]).unwrap();
        is_refused_everywhere(lab, &LAN);
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 443), text("internet"), "{address}");
        }
        // The neighbours on the uplink are the internet.
        for address in ["203.0.113.1", "2001:db8::1"] {
            assert_eq!(lab.guest.get(address, 443), text("internet"), "{address}");
        }
    }

    fn without_a_gate_the_owners_network_is_reached(lab) {
        // Proves that the tests beside it can fail.
        let (_host, _helpers) = lan(lab);
        sh("nft flush ruleset");
        nat();
        for (address, behind) in LAN.into_iter().zip(BEHIND) {
            assert_eq!(lab.guest.get(address, 443), text("lan"), "{address}");
            assert_eq!(lab.guest.get(behind, 443), text("internet"), "{behind}");
        }
    }

    fn a_network_that_appears_later_is_closed_as_well(lab) {
        let (host, _helpers) = lan(lab);
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 600_000)]).unwrap();
        sh("ip addr add 2001:db8:98::1/64 dev lan nodad && ip addr add 198.51.102.1/24 dev lan");
        host.sh("ip addr add 2001:db8:98::2/64 dev eth0 nodad && ip addr add 198.51.102.2/24 dev eth0");
        gate.tend().unwrap();
        assert!(gate.inspect().unwrap().is_sound() && !gate.changed());
        is_refused_everywhere(lab, &["198.51.102.2", "2001:db8:98::2"]);
        sh("nft flush set inet tollgate closed4");
        assert!(!gate.inspect().unwrap().is_sound(), "somebody has opened a network");
        gate.load(&plan(), &[]).unwrap();
        is_refused_everywhere(lab, &["198.51.102.2"]);
    }

    fn what_a_venue_reaches_is_reached_by_its_paid_guests_and_nothing_beside_it(lab) {
        let (_host, _helpers) = lan(lab);
        let reach = ["192.168.1.2", "fd99::2"].map(|text| {
            let address = text.parse().unwrap();
            AddressRange::network(address, if text.contains(':') { 128 } else { 32 }).unwrap()
        });
        let venues = vec![
            GatedVenue { reach: reach.to_vec(), ..venue(&[BRIDGE], &[]) },
            GatedVenue { name: "hall".to_owned(), ..venue(&["br-hall"], &[]) },
        ];
        let mut gate = NftGate::new();
        gate.load(&Plan { venues, ..plan() }, &[lease(MAC_1, 600_000)]).unwrap();
        assert!(gate.inspect().unwrap().is_sound());
        for address in ["192.168.1.2", "fd99::2"] {
            assert_eq!(lab.guest.get(address, 443), text("lan"), "{address}");
            assert!(lab.other.get(address, 443).is_refused_at_once(), "{address}");
        }
        is_refused_everywhere(lab, &["192.168.1.3", "fd99::3"]);
        gate.close(&[station(MAC_1)]).unwrap();
        assert!(lab.guest.get("192.168.1.2", 443).is_refused_at_once());
    }

    fn paying_opens_nothing_of_the_router_but_what_is_served(lab) {
        let (_host, _helpers) = lan(lab);
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 600_000)]).unwrap();
        let _ssh = on_the_router("answer 22 ssh");
        for address in ["192.168.77.1", "192.168.1.1", "203.0.113.2", "fd77::1", "fd99::1", "2001:db8::2"] {
            let got = lab.guest.get(address, 22);
            assert!(got.is_refused_at_once(), "{address}: {got:?}");
            assert_eq!(lab.guest.get(address, 2121), text("portal"), "{address}");
        }
    }

    fn where_the_portal_has_a_name_the_routers_port_80_leads_to_it_for_everybody(lab) {
        let _pages = on_the_router("answer 80 pages");
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 600_000)]).unwrap();
        for address in ["192.168.77.1", "fd77::1"] {
            assert!(lab.guest.get(address, 80).is_refused_at_once(), "{address}: not served to who has paid");
        }
        let named = vec![GatedVenue { is_named: true, ..venue(&[BRIDGE], &[]) }];
        gate.load(&Plan { venues: named.clone(), ..plan() }, &[lease(MAC_1, 600_000)]).unwrap();
        for address in ["192.168.77.1", "fd77::1"] {
            assert_eq!(lab.guest.get(address, 80), text("portal"), "{address}: who has paid");
            assert_eq!(lab.other.get(address, 80), text("portal"), "{address}: who has not");
        }
        assert_eq!(lab.guest.get(INTERNET[0], 80), text("internet"), "the internet's port 80 is another");
        let at_80 = Plan { venues: named, portal_port: 80, ..plan() };
        gate.load(&at_80, &[lease(MAC_1, 600_000)]).unwrap();
        assert_eq!(lab.guest.get("192.168.77.1", 80), text("pages"), "the portal itself");
    }

    fn a_program_that_sets_the_whole_mark_puts_no_paid_guest_offline(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_1, 600_000)]).unwrap();
        sh("nft 'add table inet other; add chain inet other pre { type filter hook prerouting priority mangle + 5; }; \
            add rule inet other pre iifname br-guest meta mark set 0x162'");
        for address in INTERNET {
            assert_eq!(lab.guest.get(address, 443), text("internet"), "{address}");
            assert!(lab.other.get(address, 443).is_refused_at_once(), "{address}");
        }
        // One that gives everybody our bit lets nobody else out.
        sh("nft flush chain inet other pre && nft add rule inet other pre iifname br-guest meta mark set 0xffffffff");
        for address in INTERNET {
            assert!(lab.other.get(address, 443).is_refused_at_once(), "{address}");
        }
        assert_eq!(lab.guest.get(INTERNET[0], 443), text("internet"));
    }

    fn others_that_work_against_the_gate_are_named_and_nobody_else(_lab) {
        let named = |gate: &mut NftGate| {
            let rules = gate.inspect().unwrap().foreign.into_iter();
            rules.map(|rule| format!("{} {} {:?}", rule.table, rule.chain, rule.does)).collect::<Vec<_>>()
        };
        let mut gate = gate();
        // As fw4, pbr and mwan3 do: other devices, other ports, their own bits of the mark, to one address.
        sh("nft 'add table inet fine; add chain inet fine to_wan; add chain inet fine to_lan; \
            add chain inet fine d { type nat hook prerouting priority dstnat; }; add chain inet fine m { type filter hook prerouting priority mangle; }; \
            add rule inet fine d iifname wan jump to_wan; add rule inet fine d iifname { lan, wan } jump to_wan; add rule inet fine d iifname vmap { lan : jump to_wan }; \
            add rule inet fine to_wan tcp dport 80 dnat ip to 192.168.1.2; add rule inet fine d tcp dport { 443, 8080 } redirect to :7892; \
            add rule inet fine d ip daddr 203.0.113.2 tcp dport 80 dnat ip to 192.168.1.2; add rule inet fine d udp dport 53 redirect to :5353; \
            add rule inet fine m meta mark set meta mark & 0xffff00ff | 0x100; add rule inet fine m iifname wan meta mark set 0x1; add rule inet fine m ct mark set meta mark'");
        assert_eq!(named(&mut gate), [""; 0]);
        sh("nft 'add table ip other; add chain ip other takes; add chain ip other d { type nat hook prerouting priority dstnat; }; \
            add chain ip other m { type filter hook prerouting priority mangle; }; add rule ip other m iifname br-guest meta mark set ct mark; \
            add rule ip other d iifname vmap { br-guest : jump takes }; add rule ip other takes tcp dport { 80, 443 } redirect to :7892'");
        assert_eq!(named(&mut gate), ["ip other m OverwritesMark", "ip other takes TakesPort80"]);
        assert!(gate.inspect().unwrap().is_sound());
        sh("nft delete table ip other");
        assert_eq!(named(&mut gate), [""; 0]);
    }

    fn a_redirect_to_a_proxy_takes_paid_guests_only(lab) {
        let mut gate = gate();
        gate.open(&[lease(MAC_2, 600_000)]).unwrap();
        let _proxy = on_the_router("answer 7892 proxy");
        sh("nft 'add table inet other; add chain inet other pre { type nat hook prerouting priority dstnat - 20; }; \
            add rule inet other pre iifname br-guest tcp dport { 80, 443 } redirect to :7892; \
            add rule inet other pre iifname br-guest udp dport 53 redirect to :53'");
        let _resolver = on_the_router("resolver 1000");
        for address in INTERNET {
            assert!(lab.guest.get(address, 443).is_refused_at_once(), "{address}");
            assert_eq!(lab.guest.get(address, 80), text("portal"), "{address}");
            assert!(lab.guest.datagram(address, 53).is_refused_at_once(), "{address}");
            assert_eq!(lab.other.get(address, 443), text("proxy"), "{address}");
        }
        // A proxy goes by the name in the request, also where it was asked for by the router's address.
        for router in ["192.168.77.1", "fd77::1", "203.0.113.2"] {
            assert!(lab.guest.get(router, 80).is_refused_at_once(), "{router}");
        }
        assert!(matches!(lab.guest.datagram("192.168.77.1", 53), lab::Got::Text(_)));
    }
}
