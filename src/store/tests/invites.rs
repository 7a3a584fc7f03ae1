//! Invites: each use counts once, for what it says, until it is used up or has expired.

use super::sales::mac;
use super::*;
use crate::config::Metric;
use crate::store::{CodeWorth, InviteUse, NewGrant, NewInvites, Reference, RequestId, Secret};

const HASH: [u8; 32] = [7; 32];

fn order(uses: u32, lasts: Option<Millis>) -> NewInvites {
    let (note, created_by) = ("for the band".to_owned(), "alice".to_owned());
    NewInvites { worth: CodeWorth::Seconds(60), uses, lasts, note, created_by }
}

/// What a use is worth here; its reference is the store's to make.
pub fn minute(last: u16) -> NewGrant {
    NewGrant {
        reference: Reference::Invite(RequestId::random().unwrap(), 0),
        mac: mac(last),
        venue: "guest".to_owned(),
        amount: Sats(0).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(60_000),
        value: Sats(0).into(),
        mint: None,
    }
}

fn opened() -> (Scratch, Clock, Store) {
    let scratch = Scratch::new();
    let clock = Clock::manual("boot", Millis::from_secs(100), UnixSeconds(1_800_000_000));
    let store = Store::open(scratch.path(), &clock).unwrap();
    (scratch, clock, store)
}

#[tokio::test]
async fn of_a_hundred_at_once_one_uses_a_code() {
    let (_scratch, _, store) = opened();
    store.make_invites(order(1, None), vec![HASH], Vec::new()).await.unwrap().unwrap();
    let uses = (0..100u16).map(|last| store.use_invite(HASH, minute(last)));
    let uses = futures_util::future::join_all(uses).await;
    let granted = uses.iter().filter(|used| matches!(used, Ok(InviteUse::Granted(_)))).count();
    let refused =
        uses.iter().filter(|used| matches!(used, Ok(InviteUse::Refused(Some(row))) if row.uses_left == 0));
    assert_eq!((granted, refused.count()), (1, 99));
    assert_eq!(store.sessions_ending_after(store.now()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_code_is_used_as_often_as_it_says_and_adds_to_a_session() {
    let (_scratch, _, store) = opened();
    store.make_invites(order(3, None), vec![HASH], Vec::new()).await.unwrap().unwrap();
    for number in 1..=3u64 {
        let InviteUse::Granted(row) = store.use_invite(HASH, minute(1)).await.unwrap() else { panic!() };
        assert_eq!(row.allotment, Allotment(number * 60_000));
        assert_eq!(row.ticket.is_some(), number == 1, "who has an account gets its ticket once");
    }
    assert!(matches!(store.use_invite(HASH, minute(1)).await.unwrap(), InviteUse::Refused(Some(_))));
    assert!(matches!(store.use_invite([8; 32], minute(1)).await.unwrap(), InviteUse::Refused(None)));
    assert_eq!(store.sales_since(UnixSeconds(0)).await.unwrap().count, 0, "no sale");
}

#[tokio::test]
async fn a_code_that_has_expired_lets_nobody_in() {
    let (_scratch, clock, store) = opened();
    store.make_invites(order(1, Some(Millis::from_secs(60))), vec![HASH], Vec::new()).await.unwrap().unwrap();
    clock.advance(Millis::from_secs(60));
    let InviteUse::Refused(Some(row)) = store.use_invite(HASH, minute(1)).await.unwrap() else { panic!() };
    assert!(row.has_expired(store.now()) && row.uses_left == 1);
}

#[tokio::test]
async fn codes_are_listed_deleted_and_forgotten() {
    let (_scratch, clock, store) = opened();
    let hashes = |from: u8| (from..from + 3).map(|byte| [byte; 32]).collect::<Vec<_>>();
    store.make_invites(order(1, None), hashes(0), Vec::new()).await.unwrap().unwrap();
    clock.advance(Millis(1));
    let newest = store.make_invites(order(1, None), hashes(3), Vec::new()).await.unwrap().unwrap();
    let (rows, total) = store.invites(0, 4).await.unwrap();
    assert_eq!((rows.len(), total), (4, 6));
    assert!(rows[..3].iter().all(|row| newest.contains(&row.id)));
    assert_eq!(store.invites(4, 100).await.unwrap().0.len(), 2);
    assert!(store.delete_invite(newest[0].clone()).await.unwrap());
    assert!(!store.delete_invite(newest[0].clone()).await.unwrap());
    assert_eq!(store.invite([3; 32]).await.unwrap(), None);
    drop(store.use_invite([4; 32], minute(1)).await.unwrap());
    clock.advance(Millis::from_secs(10));
    store.forget_invites(store.now()).await.unwrap();
    let (rows, total) = store.invites(0, 100).await.unwrap();
    assert_eq!((rows.len(), total), (4, 4), "the used one is gone");
}

#[tokio::test]
async fn there_are_only_so_many() {
    let (_scratch, _, store) = opened();
    let hash = |number: u32| {
        let mut hash = HASH;
        hash[..4].copy_from_slice(&number.to_be_bytes());
        hash
    };
    store.make_invites(order(1, None), (0..9_999).map(hash).collect(), Vec::new()).await.unwrap().unwrap();
    assert_eq!(store.make_invites(order(1, None), vec![[1; 32], [2; 32]], Vec::new()).await.unwrap(), None);
    assert!(store.make_invites(order(1, None), vec![[1; 32]], Vec::new()).await.unwrap().is_some());
}

#[tokio::test]
async fn each_unused_code_is_handed_out_once_and_none_that_is_worth_nothing() {
    let (scratch, clock, store) = opened();
    let code = |text: &str| Secret::new(text.as_bytes().to_vec());
    let hashes = |from: u8| (from..from + 2).map(|byte| [byte; 32]).collect::<Vec<_>>();
    let codes = |texts: [&str; 2]| texts.map(code).to_vec();
    let ids = store.make_invites(order(1, None), hashes(1), codes(["one", "two"])).await.unwrap().unwrap();
    let short = order(1, Some(Millis::from_secs(1)));
    store.make_invites(short, hashes(3), codes(["three", "four"])).await.unwrap().unwrap();
    drop(store.use_invite([1; 32], minute(1)).await.unwrap());
    assert!(store.keep_bots_invite("five".to_owned()).await.unwrap().is_some());
    clock.advance(Millis::from_secs(2));
    let mut taken = Vec::new();
    while let Some(id) = store.unused_code().await.unwrap() {
        let all = futures_util::future::join_all((0..20).map(|_| store.take_unused_code(id.clone()))).await;
        let mut all = all.into_iter().filter_map(|taken| taken.unwrap());
        taken.extend(all.next());
        assert!(all.next().is_none(), "only one caller gets it");
    }
    taken.sort_by(|one, other| one.code.cmp(&other.code));
    assert_eq!(taken.iter().map(|taken| taken.code.as_str()).collect::<Vec<_>>(), ["five", "two"]);
    assert_eq!(taken[1].id, ids[1].as_str());
    store.close().await;
    let written = std::fs::read(scratch.path().join("store.db")).unwrap();
    assert!(!written.windows(5).any(|bytes| bytes == b"three"), "it is sealed");
}
