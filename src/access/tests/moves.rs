//! Accounts with several devices: attached by a claim, detached, linked; the gate follows, old devices first.

use super::venues::shown_at;
use super::*;
use crate::store::{Linked, RequestId, TakeOver};
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::task::Poll;

const COOLDOWN: Millis = Millis::from_secs(60);

fn rules(max_devices: usize) -> MoveRules {
    MoveRules { max_devices, cooldown: COOLDOWN }
}

fn key() -> Claim {
    Claim::Key("02".repeat(33))
}

async fn link(access: &Access, last: u8, claim: Claim, max_devices: usize) -> LinkedAccount {
    access.link(guest(last).mac, claim, rules(max_devices), |_| ()).await.unwrap()
}

async fn attach(
    access: &Access,
    last: u8,
    claim: Claim,
    max_devices: usize,
) -> Result<TakenOver, TicketError> {
    let at = shown_at("guest", MINUTE);
    let place = Place { rules: rules(max_devices), wants_something: true, ..place(at) };
    access.take_over_claimed(&guest(last), place, claim, |_| ()).await
}

async fn detach(access: &Access, last: u8) -> Result<(), TicketError> {
    access.detach(guest(last).mac, &AccountKey::Device(guest(last).mac), guest(last).mac).await
}

async fn left(access: &Access, claim: Claim) -> Belongings {
    access.belongings(&AccountKey::Claim(claim), guest(9).mac, "guest").await.unwrap().unwrap()
}

async fn bytes(access: &Access, last: u8, bytes: u64) {
    access.admit(access.store.grant(some_bytes(last, bytes)).await.unwrap()).await;
}

fn some_bytes(last: u8, bytes: u64) -> NewGrant {
    NewGrant {
        reference: Reference::Operator(RequestId::random().unwrap()),
        mac: guest(last).mac,
        venue: "guest".to_owned(),
        amount: Sats(1).into(),
        metric: Metric::Bytes,
        allotment: Allotment(bytes),
        value: Sats(1).into(),
        mint: None,
    }
}

/// As an hour later.
fn forget_moves(access: &Access) {
    access.moved().clear();
}

/// Polls once; false if that was enough.
async fn is_begun(mut admitting: Pin<&mut impl Future>) -> bool {
    poll_fn(|context| Poll::Ready(admitting.as_mut().poll(context).is_pending())).await
}

fn open(gate: &RecordingGate) -> Vec<u8> {
    gate.leases().keys().map(|mac| mac.octets()[5]).collect()
}

#[tokio::test]
async fn what_was_linked_moves_the_rest_to_another_device_at_once() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    paid(&access, &guest(1)).await;
    let account = link(&access, 1, key(), 1).await.account;
    assert_eq!(access.claimed_account(&key()).await.unwrap(), Some(account.clone()));
    clock.advance(Millis::from_secs(20));
    let taken = attach(&access, 2, key(), 1).await.unwrap();
    assert_eq!((taken.detached, taken.session.unwrap().remaining), (vec![guest(1).mac], Allotment(40_000)));
    assert_eq!((gate.closed(), open(&gate)), (vec![guest(1).mac], vec![2]));
    let again = attach(&access, 2, key(), 1).await.unwrap();
    assert_eq!(again.detached, [], "the answer was lost, perhaps");
    assert_eq!(link(&access, 2, key(), 1).await.account, account, "linked once more");
}

#[tokio::test]
async fn the_cooldown_runs_from_the_last_move_and_first_payment_and_link_are_none() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    access.grant(guest(1).mac, "guest", Metric::Milliseconds, Allotment(600_000)).await.unwrap();
    link(&access, 1, key(), 1).await;
    attach(&access, 2, key(), 1).await.unwrap();
    clock.advance(Millis::from_secs(59));
    let Err(TicketError::TooSoon(wait)) = attach(&access, 3, key(), 1).await else { panic!("moved") };
    assert_eq!((wait, open(&gate)), (Millis::from_secs(1), vec![2]));
    clock.advance(Millis::from_secs(1));
    attach(&access, 3, key(), 1).await.unwrap();
    assert_eq!(open(&gate), [3]);
}

#[tokio::test]
async fn nothing_moves_without_an_account_or_after_its_end() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    assert!(matches!(attach(&access, 2, key(), 1).await, Err(TicketError::NothingLeft)));
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
    clock.advance(MINUTE);
    assert!(matches!(attach(&access, 2, key(), 1).await, Err(TicketError::NothingLeft)));
    assert_eq!(left(&access, key()).await, Belongings { macs: vec![guest(1).mac], remaining: None });
    assert_eq!(access.claimed_account(&Claim::Card(7)).await.unwrap(), None);
}

#[tokio::test]
async fn several_devices_share_the_time_and_the_longest_attached_goes() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 2).await;
    for (device, detached, are_open) in [(2, vec![], [1, 2]), (3, vec![1], [2, 3])] {
        clock.advance(Millis(1));
        let taken = attach(&access, device, key(), 2).await.unwrap();
        let expected: Vec<MacAddr> = detached.into_iter().map(|last| guest(last).mac).collect();
        assert_eq!((taken.detached, open(&gate)), (expected, are_open.to_vec()));
    }
    assert_eq!(left(&access, key()).await.macs, [guest(2).mac, guest(3).mac]);
    // More time on one of them is for both.
    access.grant(guest(2).mac, "guest", Metric::Milliseconds, MINUTE.into()).await.unwrap();
    until(|| gate.leases().values().all(|left| *left > MINUTE)).await;
    assert_eq!(access.revoke(guest(3).mac, None).await.unwrap(), ["guest"]);
    until(|| open(&gate).is_empty()).await;
}

#[tokio::test]
async fn a_place_that_was_left_is_taken_at_most_once_in_a_cooldown() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    access.grant(guest(1).mac, "guest", Metric::Milliseconds, Allotment(600_000)).await.unwrap();
    link(&access, 1, key(), 2).await;
    attach(&access, 2, key(), 2).await.unwrap();
    detach(&access, 2).await.unwrap();
    attach(&access, 3, key(), 2).await.unwrap();
    detach(&access, 3).await.unwrap();
    assert!(matches!(attach(&access, 2, key(), 2).await, Err(TicketError::TooSoon(_))));
    assert_eq!(open(&gate), [1]);
}

#[tokio::test]
async fn a_place_that_was_left_for_another_account_is_taken_at_most_once_in_a_cooldown() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    access.grant(guest(1).mac, "guest", Metric::Milliseconds, Allotment(600_000)).await.unwrap();
    link(&access, 1, key(), 2).await;
    attach(&access, 2, key(), 2).await.unwrap();
    paid(&access, &guest(3)).await;
    link(&access, 3, Claim::Card(1), 3).await;
    attach(&access, 2, Claim::Card(1), 3).await.unwrap();
    attach(&access, 4, key(), 2).await.unwrap();
    attach(&access, 4, Claim::Card(1), 3).await.unwrap();
    assert!(matches!(attach(&access, 5, key(), 2).await, Err(TicketError::TooSoon(COOLDOWN))));
    assert_eq!(open(&gate), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_link_that_makes_no_device_go_does_not_shorten_the_cooldown() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    access.grant(guest(1).mac, "guest", Metric::Milliseconds, Allotment(600_000)).await.unwrap();
    link(&access, 1, key(), 2).await;
    detach(&access, 1).await.unwrap();
    link(&access, 2, key(), 2).await;
    link(&access, 3, key(), 2).await;
    assert!(matches!(attach(&access, 4, key(), 2).await, Err(TicketError::TooSoon(COOLDOWN))));
    assert_eq!(open(&gate), [2, 3]);
}

#[tokio::test]
async fn time_runs_on_while_nothing_is_attached_and_bytes_stay() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    bytes(&access, 1, 5000).await;
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
    detach(&access, 1).await.unwrap();
    assert_eq!((open(&gate), access.session(guest(1).mac, "guest")), (vec![], None));
    assert!(matches!(detach(&access, 1).await, Err(TicketError::NothingLeft)));
    clock.advance(Millis::from_secs(20));
    let rest = (Metric::Milliseconds, Allotment(40_000));
    assert_eq!(left(&access, key()).await, Belongings { macs: vec![], remaining: Some(rest) });
    clock.advance(Millis::from_secs(40));
    assert_eq!(left(&access, key()).await.remaining, Some((Metric::Bytes, Allotment(5000))));
    assert_eq!(attach(&access, 2, key(), 1).await.unwrap().session.unwrap().remaining, Allotment(5000));
    assert_eq!(open(&gate), [2]);
}

#[tokio::test]
async fn bytes_are_one_devices_and_go_with_who_comes_pays_or_stays() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    bytes(&access, 1, 5000).await;
    link(&access, 1, key(), 2).await;
    attach(&access, 2, key(), 2).await.unwrap();
    assert_eq!(open(&gate), [2]);
    bytes(&access, 1, 5000).await;
    assert_eq!((open(&gate), gate.quotas()[&guest(1).mac].allotment), (vec![1], Allotment(10_000)));
    detach(&access, 1).await.unwrap();
    until(|| open(&gate) == [2]).await;
}

#[tokio::test]
async fn bytes_that_another_device_has_used_are_used_when_they_go_with_who_pays() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    bytes(&access, 1, 5000).await;
    link(&access, 1, key(), 2).await;
    attach(&access, 2, key(), 2).await.unwrap();
    for (payer, user, left) in [(1, 2, 6000), (2, 1, 7000)] {
        gate.pass(guest(user).mac, 4000);
        bytes(&access, payer, 5000).await;
        let session = access.session(guest(payer).mac, "guest").unwrap();
        assert_eq!((open(&gate), session.remaining), (vec![payer], Allotment(left)));
        let quota = gate.quotas()[&guest(payer).mac];
        assert_eq!(quota.allotment.saturating_sub(quota.used), Allotment(left));
    }
    access.store.clone().close().await;
    let access = start(&dir, &clock, &RecordingGate::new()).await;
    assert_eq!(access.session(guest(2).mac, "guest").unwrap().remaining, Allotment(7000));
}

#[tokio::test]
async fn a_key_that_has_an_account_makes_both_one() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
    link(&access, 1, Claim::Card(7), 1).await;
    let kept = paid(&access, &guest(2)).await;
    clock.advance(Millis::from_secs(10));
    let linked = link(&access, 2, key(), 1).await;
    assert_eq!((linked.detached, open(&gate)), (vec![guest(1).mac], vec![2]));
    let rest = Some((Metric::Milliseconds, Allotment(100_000)));
    for claim in [key(), Claim::Card(7)] {
        assert_eq!(left(&access, claim).await, Belongings { macs: vec![guest(2).mac], remaining: rest });
    }
    assert!(matches!(shown(&access, &guest(3), &ticket).await, Err(TicketError::Wrong)));
    assert_eq!(shown(&access, &guest(2), &kept).await.unwrap().detached, []);
}

#[tokio::test]
async fn links_do_not_pass_an_account_to_and_fro() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    access.grant(guest(1).mac, "guest", Metric::Milliseconds, Allotment(600_000)).await.unwrap();
    link(&access, 1, key(), 1).await;
    link(&access, 2, key(), 1).await;
    let again = || access.link(guest(1).mac, key(), rules(1), |_| ());
    assert!(matches!(again().await, Err(TicketError::TooSoon(COOLDOWN))));
    assert_eq!(open(&gate), [2]);
    let refused = attach(&access, 3, key(), 1).await;
    assert!(matches!(refused, Err(TicketError::TooSoon(COOLDOWN))), "a link has made a device go");
    clock.advance(COOLDOWN);
    attach(&access, 3, key(), 1).await.unwrap();
    clock.advance(Millis(59_999));
    assert!(matches!(again().await, Err(TicketError::TooSoon(Millis(1)))));
    clock.advance(Millis(1));
    assert_eq!(again().await.unwrap().detached, [guest(3).mac]);
    assert_eq!(open(&gate), [1]);
}

#[tokio::test]
async fn a_device_leaves_an_account_that_others_use_as_well() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 2).await;
    attach(&access, 2, key(), 2).await.unwrap();
    paid(&access, &guest(3)).await;
    link(&access, 3, Claim::Card(1), 2).await;
    clock.advance(Millis(1));
    attach(&access, 2, Claim::Card(1), 2).await.unwrap();
    assert_eq!(left(&access, key()).await.macs, [guest(1).mac]);
    assert_eq!(left(&access, Claim::Card(1)).await.macs, [guest(3).mac, guest(2).mac]);
    assert_eq!(open(&gate), [1, 2, 3]);
    assert!(gate.leases().values().all(|left| *left <= MINUTE), "nothing was added");
}

#[tokio::test]
async fn a_payment_that_is_admitted_after_its_device_was_detached_opens_nothing() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let grant = NewGrant {
        reference: Reference::Operator(RequestId::random().unwrap()),
        mac: guest(1).mac,
        venue: "guest".to_owned(),
        amount: Sats(1).into(),
        metric: Metric::Milliseconds,
        allotment: MINUTE.into(),
        value: Sats(1).into(),
        mint: None,
    };
    let late = access.store.grant(grant).await.unwrap();
    detach(&access, 1).await.unwrap();
    access.admit(late).await;
    assert_eq!((open(&gate), access.session(guest(1).mac, "guest")), (vec![], None));
}

#[tokio::test]
async fn a_move_whose_gate_is_late_opens_nothing_for_a_device_that_a_link_has_made_go() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    access.grant(guest(1).mac, "guest", Metric::Milliseconds, Allotment(600_000)).await.unwrap();
    link(&access, 1, key(), 1).await;
    gate.refuse(true);
    attach(&access, 2, key(), 1).await.unwrap();
    clock.advance(COOLDOWN);
    assert_eq!(link(&access, 3, key(), 1).await.detached, [guest(2).mac]);
    gate.refuse(false);
    // What is left to be done at the gate has its own `Access`.
    until(|| Arc::strong_count(&access.moved) == 1).await;
    assert_eq!((open(&gate), access.session(guest(2).mac, "guest")), (vec![3], None));
}

#[tokio::test]
async fn what_is_paid_while_a_move_commits_opens_for_the_device_that_has_gone() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
    forget_moves(&access);
    let moving = access.tickets.moving.lock().await;
    let committing = access.tickets.committing.lock().await;
    let new = NewDevice {
        mac: guest(2).mac,
        leaving: vec![guest(1).mac],
        at: shown_at("guest", MINUTE),
        rules: rules(1),
    };
    let TakeOver::Done(moved) = access.store.attach(&AccountKey::Claim(key()), new).await.unwrap() else {
        panic!("not moved")
    };
    let its_own = NewGrant { metric: Metric::Milliseconds, ..some_bytes(1, 60_000) };
    let admission = access.store.grant(its_own).await.unwrap();
    let mut admitting = std::pin::pin!(access.admit(admission));
    assert!(is_begun(admitting.as_mut()).await);
    access.follow_move(committing, moved, &[guest(1).mac], guest(2).mac).await;
    drop(moving);
    assert!(admitting.await.is_running());
    assert_eq!(open(&gate), [1, 2]);
}

#[tokio::test]
async fn bytes_that_are_taken_from_another_device_while_their_account_ends_open_nothing() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    bytes(&access, 1, 5000).await;
    link(&access, 1, key(), 2).await;
    attach(&access, 3, key(), 2).await.unwrap();
    clock.advance(COOLDOWN);
    forget_moves(&access);
    let admission = access.store.grant(some_bytes(1, 5000)).await.unwrap();
    let moving = access.tickets.moving.lock().await;
    let mut admitting = std::pin::pin!(access.admit(admission));
    assert!(is_begun(admitting.as_mut()).await);
    let committing = access.tickets.committing.lock().await;
    let linked = access.store.link(guest(2).mac, key(), rules(1)).await.unwrap();
    let Linked::Done { detached, moved, .. } = linked else { panic!("not linked") };
    access.follow_move(committing, moved, &detached, guest(2).mac).await;
    drop(moving);
    admitting.await;
    assert_eq!((open(&gate), access.session(guest(1).mac, "guest")), (vec![2], None));
}

#[tokio::test]
async fn nobody_comes_in_before_the_gate_has_let_the_old_device_out() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
    gate.refuse(true);
    attach(&access, 2, key(), 1).await.unwrap();
    assert_eq!(open(&gate), [1]);
    gate.refuse(false);
    while open(&gate) != [2] {
        assert!(open(&gate).len() < 2);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_start_after_a_crash_in_between_closes_before_it_opens() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
    let new = NewDevice {
        mac: guest(2).mac,
        leaving: vec![guest(1).mac],
        at: shown_at("guest", MINUTE),
        rules: rules(1),
    };
    access.store.attach(&AccountKey::Claim(key()), new).await.unwrap();
    access.store.clone().close().await;
    // The kernel still has what the old daemon told it.
    start(&dir, &clock, &gate).await;
    while open(&gate) != [2] {
        assert!(open(&gate).len() < 2);
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.most_open(), 1);
}

#[tokio::test]
async fn strangers_make_a_few_accounts_by_linking_and_who_has_paid_links_always() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let stranger = |number: u16| {
        let [high, low] = number.to_be_bytes();
        MacAddr::new([2, 0, 0, 1, high, low]).unwrap()
    };
    for number in 0..256 {
        access.link(stranger(number), Claim::Card(number.into()), rules(1), |_| ()).await.unwrap();
    }
    let refused = access.link(stranger(256), Claim::Card(256), rules(1), |_| ()).await;
    assert!(matches!(refused, Err(TicketError::NothingPaid)));
    paid(&access, &guest(1)).await;
    link(&access, 1, key(), 1).await;
}

#[tokio::test]
async fn an_account_is_claimed_by_a_few_only() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    for card in 0..16 {
        link(&access, 1, Claim::Card(card), 1).await;
    }
    let refused = access.link(guest(1).mac, Claim::Card(16), rules(1), |_| ()).await;
    assert!(matches!(refused, Err(TicketError::TooManyClaims)));
    link(&access, 1, Claim::Card(3), 1).await;
}
