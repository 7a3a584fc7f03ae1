//! Sessions over a real store and a gate that only remembers.

use super::*;
use crate::folder::fresh_folder;
use crate::network::gate::recording::RecordingGate;
use crate::network::gate::GatedVenue;
use crate::network::neighbours::Caller;
use crate::store::{AccountKey, Claim, MoveRules, NewDevice, ShownAt};
use std::collections::BTreeMap;
use std::path::PathBuf;

mod moves;
mod venues;

const MINUTE: Millis = Millis::from_secs(60);

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        Scratch(fresh_folder())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn clock() -> Clock {
    Clock::manual("boot-1", Millis::from_secs(100), UnixSeconds(1_800_000_000))
}

fn mac() -> MacAddr {
    "02:00:00:00:00:11".parse().unwrap()
}

async fn start(dir: &Scratch, clock: &Clock, gate: &RecordingGate) -> Access {
    let store = Store::open(&dir.0, clock).unwrap();
    let venue = GatedVenue { name: "guest".to_owned(), ..GatedVenue::default() };
    let plan = Plan { venues: vec![venue], ..Plan::default() };
    Access::start(store, clock.clone(), Box::new(gate.clone()), plan).await.unwrap()
}

/// A minute.
async fn grant(access: &Access) -> Result<Session, StoreError> {
    access.grant(mac(), "guest", Metric::Milliseconds, MINUTE.into()).await
}

#[tokio::test]
async fn a_grant_opens_the_gate_and_another_adds_to_it() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    grant(&access).await.unwrap();
    clock.advance(Millis::from_secs(20));
    let session = grant(&access).await.unwrap();
    assert_eq!((session.allotment, session.remaining), (Allotment(120_000), Allotment(100_000)));
    assert_eq!(gate.leases(), [(mac(), Millis::from_secs(100))].into());
}

#[tokio::test]
async fn a_restart_opens_for_exactly_what_is_left() {
    let (dir, clock) = (Scratch::new(), clock());
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    grant(&access).await.unwrap();
    access.store.clone().close().await;
    clock.advance(Millis::from_secs(15));

    let gate = RecordingGate::new();
    let access = start(&dir, &clock, &gate).await;
    while gate.plan().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.leases(), [(mac(), Millis::from_secs(45))].into());
    assert_eq!(access.session(mac(), "guest").unwrap().remaining, Allotment(45_000));
}

#[tokio::test]
async fn a_gate_that_refuses_delays_the_opening_and_loses_nothing() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    gate.refuse(true);
    let access = start(&dir, &clock, &gate).await;
    let granting = tokio::spawn({
        let access = access.clone();
        async move { grant(&access).await.unwrap() }
    });
    while access.session(mac(), "guest").is_none() {
        tokio::task::yield_now().await;
    }
    assert!(gate.leases().is_empty() && !granting.is_finished());
    gate.refuse(false);
    granting.await.unwrap();
    assert_eq!(gate.leases(), [(mac(), MINUTE)].into());
}

#[tokio::test]
async fn a_revoked_session_is_over_in_the_store_and_at_the_gate() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    grant(&access).await.unwrap();
    assert_eq!(access.revoke(mac(), None).await.unwrap(), ["guest"]);
    assert_eq!((gate.closed(), gate.leases()), (vec![mac()], BTreeMap::new()));
    assert!(access.running().is_empty());
    assert!(access.revoke(mac(), None).await.unwrap().is_empty(), "nothing is running any more");
}

#[tokio::test]
async fn an_ended_session_is_remembered_for_an_hour() {
    let (dir, clock) = (Scratch::new(), clock());
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    grant(&access).await.unwrap();
    access.tend(false).await;
    assert_eq!(access.running().len(), 1);
    clock.advance(MINUTE);
    access.tend(false).await;
    assert!(access.running().is_empty());
    assert_eq!(access.session(mac(), "guest").unwrap().remaining, Allotment::ZERO);
    clock.advance(REMEMBER_ENDED);
    access.tend(false).await;
    assert_eq!(access.session(mac(), "guest"), None);
}

#[tokio::test]
async fn an_older_row_does_not_replace_a_newer_one() {
    let (dir, clock) = (Scratch::new(), clock());
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    grant(&access).await.unwrap();
    let older = access.sessions().get(&mac()).unwrap()[0].clone();
    grant(&access).await.unwrap();
    assert_eq!(access.open_unless_moved(older).await.allotment, Allotment(120_000));
}

#[tokio::test]
async fn time_and_bytes_of_one_guest_are_both_kept_and_the_time_runs_first() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    grant(&access).await.unwrap();
    let bytes = access.grant(mac(), "guest", Metric::Bytes, Allotment(5000)).await.unwrap();
    assert_eq!((bytes.remaining, bytes.ends_at), (Allotment(5000), None));
    assert_eq!(access.running().len(), 2);
    assert_eq!(access.session(mac(), "guest").unwrap().metric, Metric::Milliseconds);
    clock.advance(MINUTE);
    assert_eq!(access.session(mac(), "guest").unwrap(), bytes);
    assert_eq!((access.revoke(mac(), None).await.unwrap().len(), access.running().len()), (1, 0));
}

fn guest(last: u8) -> Caller {
    let mac = MacAddr::new([2, 0, 0, 0, 0, last]).unwrap();
    Caller { mac, address: "192.168.77.11".parse().unwrap(), device: "tg-none0".to_owned() }
}

/// A minute that this guest has paid; its ticket.
async fn paid(access: &Access, guest: &Caller) -> String {
    let grant = NewGrant {
        reference: Reference::Operator(RequestId::random().unwrap()),
        mac: guest.mac,
        venue: "guest".to_owned(),
        amount: Sats(1).into(),
        metric: Metric::Milliseconds,
        allotment: MINUTE.into(),
        value: Sats(1).into(),
        mint: None,
    };
    let row = access.store.grant(grant).await.unwrap();
    access.admit(row).await;
    access.ticket(guest.mac).unwrap().to_string()
}

async fn shown(access: &Access, guest: &Caller, ticket: &str) -> Result<TakenOver, TicketError> {
    access.take_over(guest, place(venues::shown_at("guest", MINUTE)), ticket, |_| ()).await
}

fn place(at: ShownAt) -> Place {
    Place { devices: Vec::new(), at, rules: MoveRules::default(), wants_something: false }
}

#[tokio::test]
async fn a_ticket_closes_the_old_mac_and_opens_the_new_one_for_the_rest() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = paid(&access, &guest(1)).await;
    clock.advance(Millis::from_secs(20));
    let taken = shown(&access, &guest(2), &ticket.to_uppercase().replace('-', " ")).await.unwrap();
    assert_eq!(taken.detached, [guest(1).mac]);
    assert_eq!(taken.session.unwrap().remaining, Allotment(40_000));
    assert_eq!(gate.closed(), [guest(1).mac]);
    assert_eq!(gate.leases(), [(guest(2).mac, Millis::from_secs(40))].into());
    assert_eq!((access.session(guest(1).mac, "guest"), access.ticket(guest(1).mac)), (None, None));
    assert_eq!(access.ticket(guest(2).mac).unwrap().to_string(), ticket);

    let again = shown(&access, &guest(2), &ticket).await.unwrap();
    assert_eq!(again.detached, [], "the answer was lost, perhaps");
    assert!(matches!(shown(&access, &guest(3), &ticket).await, Err(TicketError::TooSoon(_))));
}

#[tokio::test]
async fn of_fifty_devices_with_one_ticket_exactly_one_gets_in() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = paid(&access, &guest(1)).await;
    let attempts = (2..52).map(|last| {
        let (access, ticket) = (access.clone(), ticket.clone());
        async move { shown(&access, &guest(last), &ticket).await }
    });
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!((access.running().len(), gate.leases().len()), (1, 1));
}

#[tokio::test]
async fn after_a_crash_between_commit_and_gate_the_new_mac_is_open_and_the_old_one_closed() {
    let (dir, clock) = (Scratch::new(), clock());
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    let ticket: crate::store::Ticket = paid(&access, &guest(1)).await.parse().unwrap();
    access
        .store
        .attach(
            &AccountKey::Ticket(ticket.clone()),
            NewDevice {
                mac: guest(2).mac,
                leaving: vec![guest(1).mac],
                at: venues::shown_at("guest", MINUTE),
                rules: MoveRules::default(),
            },
        )
        .await
        .unwrap();
    access.store.clone().close().await;

    let gate = RecordingGate::new();
    let access = start(&dir, &clock, &gate).await;
    while gate.plan().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.leases(), [(guest(2).mac, MINUTE)].into());
    let taken = shown(&access, &guest(2), &ticket.to_string()).await.unwrap();
    assert_eq!((taken.detached, taken.session.unwrap().mac), (Vec::new(), guest(2).mac));
}

#[tokio::test]
async fn a_row_that_was_read_before_the_move_opens_nothing_for_the_old_mac() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = paid(&access, &guest(1)).await;
    let stale = access.sessions().get(&guest(1).mac).unwrap()[0].clone();
    shown(&access, &guest(2), &ticket).await.unwrap();
    access.open_unless_moved(stale).await;
    assert_eq!(gate.leases(), [(guest(2).mac, MINUTE)].into());
    assert_eq!(access.session(guest(1).mac, "guest"), None);
}

#[tokio::test]
async fn a_gate_that_refuses_delays_a_move_and_nobody_waits_for_it_for_ever() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = paid(&access, &guest(1)).await;
    gate.refuse(true);
    assert!(shown(&access, &guest(2), &ticket).await.unwrap().session.is_some());
    gate.refuse(false);
    while gate.leases() != [(guest(2).mac, MINUTE)].into() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn guessing_is_limited_per_mac_and_a_right_ticket_is_no_guess() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = paid(&access, &guest(1)).await;
    let other = crate::store::Ticket::random().unwrap().to_string();
    for wrong in ["", "x", &other, &other, &other, &other, &other, &other, &other] {
        assert!(matches!(shown(&access, &guest(1), wrong).await, Err(TicketError::Wrong)));
        shown(&access, &guest(1), &ticket).await.unwrap();
        access.check_ticket(guest(1).mac, &ticket).await.unwrap();
    }
    assert!(matches!(access.check_ticket(guest(1).mac, &other).await, Err(TicketError::Wrong)));
    let refused = shown(&access, &guest(1), &other).await.unwrap_err();
    assert!(matches!(refused, TicketError::TooMany(_)) && refused.wait() == Some(Millis::from_secs(300)));
    assert!(matches!(shown(&access, &guest(2), &other).await, Err(TicketError::Wrong)), "others may try");
    clock.advance(Millis::from_secs(300));
    assert!(matches!(shown(&access, &guest(1), &other).await, Err(TicketError::Wrong)));
}

#[tokio::test]
async fn the_paying_mac_gets_a_new_ticket_and_the_old_one_is_void() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let old = paid(&access, &guest(1)).await;
    let new = access.renew_ticket(guest(1).mac).await.unwrap();
    assert_eq!(access.ticket(guest(1).mac), Some(new.clone()));
    assert!(matches!(shown(&access, &guest(2), &old).await, Err(TicketError::Wrong)));
    assert!(matches!(access.renew_ticket(guest(2).mac).await, Err(TicketError::NothingPaid)));
    assert!(matches!(access.check_ticket(guest(2).mac, &new.to_string()).await, Err(TicketError::Wrong)));
    shown(&access, &guest(2), &new.to_string()).await.unwrap();
    let several = [(); 5].map(|()| access.renew_ticket(guest(2).mac));
    let last = futures_util::future::join_all(several).await.pop().unwrap();
    assert!(matches!(last, Err(TicketError::TooMany(_))));
}

/// Waits until the gate's thread has done what it was told.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_grace_ends_with_the_invoice_or_the_payment_and_is_not_given_again() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let begin = || access.begin_grace(mac(), "guest", access.store.now(), MINUTE);
    until(|| access.gatekeeper.status().closed_to_strangers).await;
    begin();
    until(|| gate.slow() == [mac()].into()).await;
    assert_eq!(gate.quotas()[&mac()].allotment, Allotment(60 * crate::network::gate::SLOW));
    access.keep_graces(|_, _| true);
    assert_eq!(access.grace(mac(), "guest"), Some(MINUTE));
    access.keep_graces(|_, _| false);
    until(|| gate.closed() == [mac()]).await;
    begin();
    assert_eq!(access.grace(mac(), "guest"), None);
    clock.advance(Millis::from_secs(3600));
    begin();
    assert!(access.grace(mac(), "guest").is_some());
    grant(&access).await.unwrap();
    assert_eq!((access.grace(mac(), "guest"), gate.slow().len(), gate.closed().len()), (None, 0, 1));
    clock.advance(Millis::from_secs(3600));
    grant(&access).await.unwrap();
    begin();
    assert_eq!(access.grace(mac(), "guest"), None, "who passes needs none");
}

#[tokio::test]
async fn a_revoked_guest_has_no_grace_left() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    until(|| access.gatekeeper.status().closed_to_strangers).await;
    access.begin_grace(mac(), "guest", access.store.now(), MINUTE);
    access.revoke(mac(), None).await.unwrap();
    assert_eq!((access.grace(mac(), "guest"), gate.leases().len(), gate.closed()), (None, 0, vec![mac()]));
}
