//! Sessions over a real store and a gate that only remembers.

use super::*;
use crate::network::gate::recording::RecordingGate;
use std::path::PathBuf;

const MINUTE: Millis = Millis::from_secs(60);

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("tollgated-access-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
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
    let plan = Plan { devices: vec!["br-guest".to_owned()], ..Plan::default() };
    Access::start(store, clock.clone(), Box::new(gate.clone()), plan).await.unwrap()
}

/// A minute.
async fn grant(access: &Access) -> Result<Session, StoreError> {
    access.grant(mac(), "guest", Metric::Milliseconds, MINUTE.into()).await
}

#[tokio::test]
async fn a_grant_opens_the_gate_and_another_adds_to_it() {
    let (dir, clock, gate) = (Scratch::new("grant"), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    grant(&access).await.unwrap();
    clock.advance(Millis::from_secs(20));
    let session = grant(&access).await.unwrap();
    assert_eq!((session.allotment, session.remaining), (Allotment(120_000), Allotment(100_000)));
    assert_eq!(gate.leases(), [(mac(), Millis::from_secs(100))].into());
}

#[tokio::test]
async fn a_restart_opens_for_exactly_what_is_left() {
    let (dir, clock) = (Scratch::new("restart"), clock());
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
    assert_eq!(access.session(mac()).unwrap().remaining, Allotment(45_000));
}

#[tokio::test]
async fn a_gate_that_refuses_delays_the_opening_and_loses_nothing() {
    let (dir, clock, gate) = (Scratch::new("refuses"), clock(), RecordingGate::new());
    gate.refuse(true);
    let access = start(&dir, &clock, &gate).await;
    let granting = tokio::spawn({
        let access = access.clone();
        async move { grant(&access).await.unwrap() }
    });
    while access.session(mac()).is_none() {
        tokio::task::yield_now().await;
    }
    assert!(gate.leases().is_empty() && !granting.is_finished());
    gate.refuse(false);
    granting.await.unwrap();
    assert_eq!(gate.leases(), [(mac(), MINUTE)].into());
}

#[tokio::test]
async fn a_revoked_session_is_over_in_the_store_and_at_the_gate() {
    let (dir, clock, gate) = (Scratch::new("revoke"), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    grant(&access).await.unwrap();
    assert!(access.revoke(mac()).await.unwrap());
    assert_eq!((gate.closed(), gate.leases()), (vec![mac()], BTreeMap::new()));
    assert!(access.running().is_empty());
    assert!(!access.revoke(mac()).await.unwrap(), "nothing is running any more");
}

#[tokio::test]
async fn an_ended_session_is_remembered_for_an_hour() {
    let (dir, clock) = (Scratch::new("ended"), clock());
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    grant(&access).await.unwrap();
    assert!(access.forget_ended());
    clock.advance(MINUTE);
    assert!(!access.forget_ended() && access.running().is_empty());
    assert_eq!(access.session(mac()).unwrap().remaining, Allotment::ZERO);
    clock.advance(REMEMBER_ENDED);
    access.forget_ended();
    assert_eq!(access.session(mac()), None);
}

#[tokio::test]
async fn an_older_row_does_not_replace_a_newer_one() {
    let (dir, clock) = (Scratch::new("rows"), clock());
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    grant(&access).await.unwrap();
    let older = access.sessions().get(&(mac(), Metric::Milliseconds)).cloned().unwrap();
    grant(&access).await.unwrap();
    assert_eq!(access.admit(older).await.allotment, Allotment(120_000));
}

#[tokio::test]
async fn time_and_bytes_of_one_guest_are_both_kept_and_the_time_runs_first() {
    let (dir, clock, gate) = (Scratch::new("both"), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    grant(&access).await.unwrap();
    let bytes = access.grant(mac(), "guest", Metric::Bytes, Allotment(5000)).await.unwrap();
    assert_eq!((bytes.remaining, bytes.ends_at), (Allotment(5000), None));
    assert_eq!(access.running().len(), 2);
    assert_eq!(access.session(mac()).unwrap().metric, Metric::Milliseconds);
    clock.advance(MINUTE);
    assert_eq!(access.session(mac()).unwrap(), bytes);
    assert!(access.revoke(mac()).await.unwrap() && access.running().is_empty());
}
