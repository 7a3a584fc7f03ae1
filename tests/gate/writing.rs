//! Writing to the gate without `nft`: what it costs, and what it does about elements that are not as they were.

use super::lab::{bytes, gate, lease, plan, sh, Lab, BRIDGE, MAC_1, MAC_2};
use super::{assert_near, lab, left, mac};
use std::time::{Duration, Instant};
use tollgated::network::gate::{Gate, GateError, NftGate};

/// Of this thread, the kernel's part included. What else the machine does is not in it.
fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// What a new sale and a top-up of it take, beside so many sessions that have all sent packets.
fn cost_of_a_sale(gate: &mut NftGate, sessions: u32) -> Duration {
    let guest = |number: u32| format!("02:00:00:01:{:02x}:{:02x}", number >> 8, number & 255);
    let all: Vec<_> = (0..sessions).map(|number| lease(&guest(number), 3_600_000)).collect();
    gate.open(&all).unwrap();
    let elements: Vec<String> = (0..sessions)
        .map(|number| {
            let (high, low) = (number >> 8, number & 255);
            format!("\"{BRIDGE}\" . {} . 10.0.{high}.{low} timeout 1h", guest(number))
        })
        .collect();
    let script = format!("add element inet tollgate ul4_at {{ {} }}\n", elements.join(", "));
    let path = std::env::temp_dir().join(format!("uploads-{}", std::process::id()));
    std::fs::write(&path, script).unwrap();
    sh(&format!("nft -f {0} && rm {0}", path.display()));
    gate.tend().unwrap();
    let mut costs: Vec<Duration> = (0..40)
        .map(|round| {
            let new = format!("02:00:00:02:{:02x}:{round:02x}", sessions & 255);
            let before = processor_time();
            gate.open(&[lease(&new, 60_000)]).unwrap();
            gate.open(&[lease(&new, 120_000)]).unwrap();
            processor_time() - before
        })
        .collect();
    costs.sort();
    costs[20]
}

in_lab! {
    fn a_sale_beside_four_thousand_sessions_costs_as_much_as_beside_ten(_lab) {
        let mut gate = gate();
        let few = cost_of_a_sale(&mut gate, 10);
        let many = cost_of_a_sale(&mut gate, 4_000);
        assert!(many < few * 2, "{many:?} against {few:?}");
    }

    fn nft_runs_to_load_the_table_and_for_nothing_else(_lab) {
        let path = std::env::temp_dir().join(format!("nft-{}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\necho run >>{}.log\nexec nft \"$@\"\n", path.display())).unwrap();
        sh(&format!("chmod 700 {}", path.display()));
        let mut gate = NftGate::with_program(path.clone().into_os_string());
        gate.load(&plan(), &[bytes(MAC_2, 1, 1_000_000, 0)]).unwrap();
        let runs = || std::fs::read_to_string(path.with_extension("log")).unwrap().lines().count();
        let loaded = runs();
        gate.open(&[lease(MAC_1, 60_000), bytes(MAC_2, 1, 1_000_000, 0)]).unwrap();
        let opened = Instant::now();
        gate.open(&[lease(MAC_1, 120_000), bytes(MAC_2, 1, 2_000_000, 0)]).unwrap();
        gate.tend().unwrap();
        assert_near(left(&mut gate, MAC_1), 120_000, opened);
        gate.close(&[lease(MAC_1, 0).station(), lease(MAC_2, 0).station()]).unwrap();
        assert!(gate.inspect().unwrap().paid.is_empty());
        assert_eq!(runs(), loaded);
        sh(&format!("rm {0} {0}.log", path.display()));
    }

    fn an_element_that_somebody_else_made_or_took_is_no_obstacle(_lab) {
        let mut gate = gate();
        sh(&format!("nft 'add element inet tollgate paid_at {{ \"{BRIDGE}\" . {MAC_1} timeout 5s }}'"));
        let opened = Instant::now();
        gate.open(&[lease(MAC_1, 60_000), bytes(MAC_2, 1, 1_000_000, 0)]).unwrap();
        assert_near(left(&mut gate, MAC_1), 60_000, opened);
        sh(&format!("nft 'delete element inet tollgate paid_at {{ \"{BRIDGE}\" . {MAC_1} }}'"));
        sh(&format!("nft 'delete element netdev tollgate metered {{ \"{BRIDGE}\" . {MAC_2} }}'"));
        let opened = Instant::now();
        gate.open(&[lease(MAC_1, 90_000), bytes(MAC_2, 2, 1_000_000, 0)]).unwrap();
        assert_near(left(&mut gate, MAC_1), 90_000, opened);
        assert_eq!(gate.tend().unwrap()[&lease(MAC_2, 0).station()].0, 2);
        gate.close(&[lease(MAC_1, 0).station()]).unwrap();
        assert!(gate.inspect().unwrap().paid.iter().all(|(station, _)| station.mac != mac(MAC_1)));
    }

    fn a_refused_change_is_named_and_nothing_of_its_batch_is_done(_lab) {
        let mut gate = gate();
        sh("nft delete table inet tollgate");
        match gate.open(&[lease(MAC_1, 60_000)]) {
            Err(GateError::Element { change, .. }) => assert!(change.contains(MAC_1), "{change}"),
            other => panic!("{other:?}"),
        }
        gate.load(&plan(), &[]).unwrap();
        gate.open(&[lease(MAC_1, 60_000)]).unwrap();
    }
}
