//! The keeper before a gate that only remembers, tick by tick, with a clock that a hand turns.

use super::*;
use crate::mac::MacAddr;
use crate::network::gate::recording::RecordingGate;
use crate::network::gate::{GatedVenue, Lease};
use std::collections::BTreeMap;

const MINUTE: Millis = Millis::from_secs(60);

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn plan() -> Plan {
    let venue = GatedVenue {
        name: "guest".to_owned(),
        devices: vec!["br-guest".to_owned()],
        trusted: [mac(9)].into(),
        ..GatedVenue::default()
    };
    Plan { venues: vec![venue], ..Plan::default() }
}

fn station(last: u8) -> Station {
    Station { mac: mac(last), venue: "guest".to_owned() }
}

/// For a minute.
fn lease(last: u8, quota: Option<Quota>) -> Lease {
    let Station { mac, venue } = station(last);
    Lease { mac, venue, remaining: MINUTE, quota, is_slow: false }
}

fn time(until: Millis) -> Pass {
    Pass { time: Some(until), ..Pass::default() }
}

struct Scene {
    keeper: Keeper,
    gate: RecordingGate,
    clock: Clock,
}

/// `wanted` have a minute each; the gate has been loaded, if it could be.
fn scene(gate: &RecordingGate, wanted: &[u8], adopt: bool) -> Scene {
    let clock = Clock::manual("boot", Millis::from_secs(100), crate::units::UnixSeconds(1_800_000_000));
    let until = clock.now().saturating_add(MINUTE);
    let mut keeper = Keeper {
        gate: Box::new(gate.clone()),
        clock: clock.clone(),
        plan: plan(),
        wanted: wanted.iter().map(|last| (station(*last), time(until))).collect(),
        status: Arc::default(),
        usage: Arc::default(),
        standing: false,
        ticks: 0,
        adopt,
    };
    let _ = keeper.put_back();
    Scene { keeper, gate: gate.clone(), clock }
}

impl Scene {
    fn status(&self) -> GateStatus {
        lock(&self.keeper.status).clone()
    }

    fn open(&mut self, last: u8, left: Millis) -> Result<(), GateError> {
        self.open_with(last, time(self.clock.now().saturating_add(left)))
    }

    fn open_with(&mut self, last: u8, pass: Pass) -> Result<(), GateError> {
        let (reply, mut answer) = oneshot::channel();
        self.keeper.carry_out(Order::Open(station(last), pass, reply));
        answer.try_recv().unwrap()
    }

    /// Bytes for a day from now.
    fn bytes(&self, session: u64, allotment: u64, used: u64) -> Pass {
        let quota = Quota { session, allotment: Allotment(allotment), used: Allotment(used) };
        Pass {
            data: Some((quota, self.clock.now().saturating_add(Millis::from_secs(86_400)))),
            ..Pass::default()
        }
    }

    fn used(&self, last: u8, session: u64) -> Option<u64> {
        let usage = lock(&self.keeper.usage);
        usage.get(&station(last)).filter(|(counted, _)| *counted == session).map(|(_, used)| used.0)
    }

    fn close(&mut self, last: u8) -> Result<(), GateError> {
        let (reply, mut answer) = oneshot::channel();
        self.keeper.carry_out(Order::Close(station(last), reply));
        answer.try_recv().unwrap()
    }

    fn open_for(&self) -> Vec<MacAddr> {
        self.gate.leases().into_keys().collect()
    }
}

/// A gate that an earlier daemon has left open for these.
fn left_open_for(open: &[u8]) -> RecordingGate {
    let mut gate = RecordingGate::new();
    let leases: Vec<Lease> = open.iter().map(|last| lease(*last, None)).collect();
    gate.load(&plan(), &leases).unwrap();
    gate
}

#[test]
fn the_first_load_opens_for_those_who_have_paid() {
    let scene = scene(&RecordingGate::new(), &[1, 2], false);
    assert_eq!(scene.gate.leases(), BTreeMap::from([(mac(1), MINUTE), (mac(2), MINUTE)]));
    let status = scene.status();
    assert!(status.closed_to_strangers && status.firewall_lock && status.routing_lock);
    assert_eq!((status.open, status.trouble), (2, None));
}

#[test]
fn an_opening_is_for_what_is_left() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.open(1, Millis(5_500)).unwrap();
    assert_eq!(scene.gate.leases(), BTreeMap::from([(mac(1), Millis(5_500))]));
    scene.open(1, MINUTE).unwrap();
    assert_eq!(scene.gate.leases(), BTreeMap::from([(mac(1), MINUTE)]));
}

#[test]
fn a_session_that_is_over_is_closed_once() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    scene.clock.advance(Millis::from_secs(59));
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), []);
    scene.clock.advance(Millis::from_secs(1));
    scene.keeper.tick();
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), [mac(1)]);
    assert_eq!(scene.status().open, 0);
}

#[test]
fn a_gate_that_refuses_is_tried_again_until_it_works() {
    let gate = RecordingGate::new();
    gate.refuse(true);
    let mut scene = scene(&gate, &[1], false);
    assert!(scene.open(2, MINUTE).is_err());
    let status = scene.status();
    assert!(!status.closed_to_strangers && status.trouble.is_some());
    scene.keeper.tick();
    assert!(!scene.status().closed_to_strangers);

    gate.refuse(false);
    scene.keeper.tick();
    assert_eq!(scene.open_for(), [mac(1), mac(2)]);
    let status = scene.status();
    assert!(status.closed_to_strangers && status.trouble.is_none());
    assert_eq!(status.healed, 0, "nobody else had changed it");
}

#[test]
fn a_lost_gate_is_put_back_with_what_is_left_to_everybody() {
    let mut scene = scene(&RecordingGate::new(), &[1, 2], false);
    scene.gate.lose_state();
    scene.clock.advance(Millis::from_secs(20));
    scene.keeper.tick();
    let left = Millis::from_secs(40);
    assert_eq!(scene.gate.leases(), BTreeMap::from([(mac(1), left), (mac(2), left)]));
    assert_eq!(scene.status().healed, 1);
}

#[test]
fn an_opening_into_a_lost_gate_does_not_wait_for_the_next_look() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    scene.gate.lose_state();
    scene.open(2, MINUTE).unwrap();
    assert_eq!(scene.open_for(), [mac(1), mac(2)]);
}

#[test]
fn a_paid_guest_that_fell_out_of_the_gate_is_let_in_again() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    scene.gate.expire(mac(1));
    scene.keeper.ticks = FULL_LOOK_EVERY - 1;
    scene.keeper.tick();
    assert_eq!(scene.open_for(), [mac(1)]);
}

#[test]
fn who_is_let_through_without_a_session_is_closed_at_the_start() {
    let scene = scene(&left_open_for(&[1, 2]), &[2], false);
    assert_eq!(scene.gate.closed(), [mac(1)]);
    assert_eq!(scene.open_for(), [mac(2)]);
}

#[test]
fn who_was_let_in_behind_our_back_is_closed_at_the_next_look() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    scene.gate.clone().open(&[lease(3, None)]).unwrap();
    scene.keeper.ticks = FULL_LOOK_EVERY - 1;
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), [mac(3)]);
}

#[test]
fn a_closing_that_was_refused_is_made_up_for() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    scene.gate.refuse(true);
    assert!(scene.close(1).is_err());
    assert_eq!(scene.open_for(), [mac(1)]);
    scene.gate.refuse(false);
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), [mac(1)]);
    assert_eq!(scene.status().trouble, None);
}

#[test]
fn trusted_stations_are_no_strangers() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.keeper.ticks = FULL_LOOK_EVERY - 1;
    scene.keeper.tick();
    assert_eq!((scene.gate.closed(), scene.status().healed), (vec![], 0));
}

#[test]
fn a_new_plan_is_loaded_and_closes_nobody() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    let new = Plan { portal_port: 8080, ..plan() };
    let (reply, mut answer) = oneshot::channel();
    scene.keeper.carry_out(Order::Plan(new.clone(), reply));
    answer.try_recv().unwrap().unwrap();
    assert_eq!(scene.gate.plan(), Some(new));
    assert_eq!((scene.open_for(), scene.gate.closed()), (vec![mac(1)], vec![]));
}

#[test]
fn without_a_store_whoever_the_kernel_lets_through_goes_on() {
    let mut scene = scene(&left_open_for(&[1, 2]), &[], true);
    scene.keeper.tick();
    assert_eq!((scene.gate.closed(), scene.open_for()), (vec![], vec![mac(1), mac(2)]));
    assert_eq!(scene.status().open, 2);
}

#[test]
fn adopted_sessions_survive_a_flush_and_end_in_time() {
    let mut scene = scene(&left_open_for(&[1]), &[], true);
    scene.clock.advance(Millis::from_secs(20));
    scene.gate.lose_state();
    scene.keeper.tick();
    assert_eq!(scene.gate.leases(), BTreeMap::from([(mac(1), Millis::from_secs(40))]));
    scene.clock.advance(Millis::from_secs(40));
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), [mac(1)]);
}

#[test]
fn adoption_waits_for_a_gate_that_refuses_at_first() {
    let gate = left_open_for(&[1]);
    gate.refuse(true);
    let mut scene = scene(&gate, &[], true);
    gate.refuse(false);
    scene.keeper.tick();
    assert_eq!((scene.gate.closed(), scene.open_for()), (vec![], vec![mac(1)]));
}

#[test]
fn a_guest_by_bytes_is_counted_and_closed_when_they_are_used_up() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.open_with(1, scene.bytes(7, 1000, 100)).unwrap();
    scene.gate.pass(mac(1), 500);
    scene.keeper.tick();
    assert_eq!((scene.used(1, 7), scene.gate.closed()), (Some(600), vec![]));
    scene.gate.pass(mac(1), 5000);
    scene.keeper.tick();
    assert_eq!((scene.used(1, 7), scene.gate.closed()), (Some(1000), vec![mac(1)]));
    assert_eq!(scene.status().open, 0);
}

#[test]
fn a_top_up_keeps_what_was_used() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.open_with(1, scene.bytes(7, 1000, 0)).unwrap();
    scene.gate.pass(mac(1), 600);
    scene.keeper.tick();
    scene.open_with(1, scene.bytes(7, 3000, 0)).unwrap();
    scene.keeper.tick();
    assert_eq!((scene.used(1, 7), scene.gate.quotas()[&mac(1)].allotment), (Some(600), Allotment(3000)));
}

#[test]
fn the_next_session_is_not_charged_for_the_one_before() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.open_with(1, scene.bytes(7, 1000, 0)).unwrap();
    scene.gate.pass(mac(1), 1000);
    scene.keeper.tick();
    scene.open_with(1, scene.bytes(8, 1000, 0)).unwrap();
    scene.keeper.tick();
    assert_eq!((scene.used(1, 7), scene.used(1, 8)), (None, Some(0)));
}

#[test]
fn a_lost_gate_goes_on_counting_where_it_was_last_seen() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.open_with(1, scene.bytes(7, 1000, 0)).unwrap();
    scene.gate.pass(mac(1), 600);
    scene.keeper.tick();
    scene.gate.lose_state();
    scene.keeper.tick();
    assert_eq!(scene.gate.quotas()[&mac(1)].used, Allotment(600));
}

#[test]
fn time_runs_first_and_bytes_are_counted_when_it_is_over() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    let pass = Pass { time: Some(scene.clock.now().saturating_add(MINUTE)), ..scene.bytes(7, 1000, 0) };
    scene.open_with(1, pass).unwrap();
    // The kernel still lets the guest through when the tick comes that has the bytes counted.
    let until_counted = MINUTE.saturating_add(HANDING_OVER);
    assert_eq!((scene.gate.leases()[&mac(1)], scene.gate.quotas()), (until_counted, BTreeMap::new()));
    scene.clock.advance(MINUTE);
    scene.keeper.tick();
    assert_eq!((scene.gate.closed(), scene.gate.quotas().len()), (vec![], 1));
    assert!(scene.gate.leases()[&mac(1)] > MINUTE);
}

/// A thousand bytes for a minute.
fn grace(scene: &Scene) -> Option<(Quota, Millis)> {
    let quota = Quota { session: 5, allotment: Allotment(1000), used: Allotment::ZERO };
    Some((quota, scene.clock.now().saturating_add(MINUTE)))
}

#[test]
fn a_grace_is_slow_and_counted_and_over_with_its_time_or_its_bytes() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    for guest in [1, 2, 3] {
        scene.keeper.carry_out(Order::Grace(station(guest), grace(&scene)));
    }
    assert_eq!(scene.gate.slow(), [mac(1), mac(2), mac(3)].into());
    assert_eq!((scene.gate.leases()[&mac(1)], scene.gate.quotas().len()), (MINUTE, 3));
    scene.keeper.carry_out(Order::Grace(station(1), None));
    assert_eq!(scene.gate.closed(), [mac(1)]);
    scene.gate.pass(mac(2), 1000);
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), [mac(1), mac(2)]);
    scene.clock.advance(MINUTE);
    scene.keeper.tick();
    assert_eq!(scene.gate.closed(), [mac(1), mac(2), mac(3)]);
    assert_eq!((scene.gate.slow().len(), scene.status().open), (0, 0));
}

#[test]
fn a_session_takes_the_place_of_a_grace_and_nothing_of_the_grace_ends_it() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.keeper.carry_out(Order::Grace(station(1), grace(&scene)));
    scene.open(1, MINUTE).unwrap();
    assert_eq!((scene.gate.slow().len(), scene.gate.quotas().len()), (0, 0));
    scene.keeper.carry_out(Order::Grace(station(1), None));
    scene.keeper.carry_out(Order::Grace(station(1), grace(&scene)));
    assert_eq!((scene.gate.closed(), scene.gate.slow().len()), (vec![], 0));
    assert_eq!(scene.gate.leases(), [(mac(1), MINUTE)].into());
}

#[test]
fn a_grace_begins_at_once_where_a_session_has_just_ended() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    scene.clock.advance(MINUTE);
    scene.keeper.carry_out(Order::Grace(station(1), grace(&scene)));
    scene.keeper.tick();
    assert_eq!((scene.gate.closed(), scene.gate.slow()), (vec![], [mac(1)].into()));
}

#[test]
fn a_grace_outlives_a_flushed_firewall_with_what_was_used() {
    let mut scene = scene(&RecordingGate::new(), &[], false);
    scene.keeper.carry_out(Order::Grace(station(1), grace(&scene)));
    scene.gate.pass(mac(1), 600);
    scene.keeper.tick();
    scene.gate.lose_state();
    scene.keeper.tick();
    assert_eq!(scene.gate.quotas()[&mac(1)].used, Allotment(600));
    assert_eq!(scene.gate.slow(), [mac(1)].into());
}

#[test]
fn an_adopted_guest_by_bytes_stays_counted() {
    let scene_before = scene(&RecordingGate::new(), &[], false);
    let mut gate = scene_before.gate.clone();
    let quota = Quota { session: 7, allotment: Allotment(1000), used: Allotment(400) };
    gate.open(&[lease(1, Some(quota))]).unwrap();
    let mut scene = scene(&gate, &[], true);
    scene.gate.lose_state();
    scene.keeper.tick();
    assert_eq!(scene.gate.quotas()[&mac(1)], quota);
}

#[test]
fn bytes_are_not_sold_where_packets_can_skip_the_gate() {
    let scene = scene(&RecordingGate::new(), &[], false);
    let mut status = scene.status();
    assert_eq!((status.cannot_sell(Metric::Bytes), status.cannot_sell(Metric::Milliseconds)), (None, None));
    status.offloaded_devices = vec!["wan".to_owned()];
    assert_eq!(status.cannot_sell(Metric::Bytes), Some("FLOW_OFFLOAD"));
    assert_eq!(status.cannot_sell(Metric::Milliseconds), None);
    assert_eq!(GateStatus::default().cannot_sell(Metric::Milliseconds), Some("GATE_DOWN"));
}

#[test]
fn a_right_at_one_venue_is_none_at_another_and_waits_for_a_venue_that_is_gone() {
    let mut scene = scene(&RecordingGate::new(), &[1], false);
    let hall = Station { venue: "hall".to_owned(), ..station(1) };
    let pass = time(scene.clock.now().saturating_add(Millis::from_secs(90)));
    let (reply, _answer) = oneshot::channel();
    scene.keeper.carry_out(Order::Open(hall.clone(), pass, reply));
    scene.keeper.ticks = FULL_LOOK_EVERY - 1;
    scene.gate.lose_state();
    scene.keeper.tick();
    assert_eq!(scene.gate.leases_at("guest"), BTreeMap::from([(mac(1), MINUTE)]));
    assert_eq!(scene.gate.leases_at("hall"), BTreeMap::new());
    let mut both = plan();
    both.venues.push(GatedVenue { name: "hall".to_owned(), ..GatedVenue::default() });
    let (reply, _answer) = oneshot::channel();
    scene.keeper.carry_out(Order::Plan(both, reply));
    assert_eq!(scene.gate.leases_at("hall"), BTreeMap::from([(mac(1), Millis::from_secs(90))]));
    let (reply, _answer) = oneshot::channel();
    scene.keeper.carry_out(Order::Close(hall, reply));
    assert_eq!(scene.gate.leases_at("guest"), BTreeMap::from([(mac(1), MINUTE)]));
    assert_eq!(scene.gate.leases_at("hall"), BTreeMap::new());
}
