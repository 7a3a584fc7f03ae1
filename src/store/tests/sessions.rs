use super::*;
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::store::NewGrant;
use crate::store::Reference;

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn grant(reference: &str, guest: u8, allotment: u64) -> NewGrant {
    NewGrant {
        reference: Reference::read(reference),
        mac: mac(guest),
        venue: "guest".to_owned(),
        amount: Sats(1).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(allotment),
        value: Sats(1).into(),
        mint: None,
    }
}

#[tokio::test]
async fn fifty_grants_of_one_payment_count_once() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let grants = (0..50).map(|_| store.grant(grant("payment", 1, 60_000)));
    for session in futures_util::future::join_all(grants).await {
        let session = session.unwrap();
        assert_eq!((session.allotment, session.revision), (Allotment(60_000), 0));
    }
    assert_eq!(store.sales_since(UnixSeconds(0)).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_payment_counts_once_for_whatever_guest() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    drop(store.grant(grant("payment", 1, 60_000)).await.unwrap());
    assert!(store.grant(grant("payment", 2, 60_000)).await.is_err(), "the other guest has no session");
    assert_eq!(store.sessions_ending_after(store.now()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn parallel_payments_of_a_guest_add_up() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let now = store.now();
    let references: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let grants = references.iter().map(|reference| store.grant(grant(reference, 1, 1000)));
    futures_util::future::join_all(grants).await.into_iter().for_each(|session| drop(session.unwrap()));
    let [session] = &store.sessions_ending_after(now).await.unwrap()[..] else { panic!("one session") };
    assert_eq!(session.allotment, Allotment(20_000));
    assert_eq!(session.ends, now.saturating_add(Millis(20_000)));
    assert_eq!(session.revision, 19);
}

#[tokio::test]
async fn a_payment_after_the_end_begins_a_new_session() {
    let dir = Scratch::new();
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    let first = store.grant(grant("one", 1, 1000)).await.unwrap();
    clock.advance(Millis(1000));
    let second = store.grant(grant("two", 1, 500)).await.unwrap();
    assert_eq!((second.allotment, second.started), (Allotment(500), store.now()));
    assert_eq!(second.ends, store.now().saturating_add(Millis(500)));
    assert!(second.revision > first.revision);
}

#[tokio::test]
async fn a_revoked_session_is_over_and_what_is_paid_later_counts_in_full() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    drop(store.grant(grant("one", 1, 60_000)).await.unwrap());
    let ended = store.revoke(mac(1), None).await.unwrap();
    assert_eq!(ended.iter().map(|row| row.ends).collect::<Vec<_>>(), [store.now()]);
    assert_eq!(store.revoke(mac(1), None).await.unwrap(), []);
    assert!(store.sessions_ending_after(store.now()).await.unwrap().is_empty());
    let next = store.grant(grant("two", 1, 1000)).await.unwrap();
    assert_eq!(next.allotment, Allotment(1000));
}

#[tokio::test]
async fn sessions_survive_a_power_cut_with_their_payments() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let session = store.grant(grant("payment", 1, 60_000)).await.unwrap().into_row();
    let session = crate::store::SessionRow { ticket: None, ..session };
    let after = dir.as_after_power_cut();
    let restarted = Store::open(after.path(), &clock()).unwrap();
    assert_eq!(
        restarted.sessions_ending_after(restarted.now()).await.unwrap(),
        std::slice::from_ref(&session)
    );
    assert_eq!(restarted.grant(grant("payment", 1, 60_000)).await.unwrap().into_row(), session);
}

fn bytes(reference: &str, amount: u64) -> NewGrant {
    NewGrant { metric: Metric::Bytes, ..grant(reference, 1, amount) }
}

#[tokio::test]
async fn bytes_are_kept_beside_time_and_neither_touches_the_other() {
    let dir = Scratch::new();
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    let time = store.grant(grant("time", 1, 60_000)).await.unwrap();
    let data = store.grant(bytes("data", 5000)).await.unwrap().into_row();
    assert_eq!((data.account, data.allotment, data.used), (time.account, Allotment(5000), Allotment::ZERO));
    clock.advance(Millis(60_000));
    assert_eq!(store.sessions_ending_after(store.now()).await.unwrap(), std::slice::from_ref(&data));
    let more = store.grant(bytes("more", 7)).await.unwrap();
    assert_eq!((more.allotment, more.started), (Allotment(5007), data.started));
    let sales = store.sales_since(UnixSeconds(0)).await.unwrap();
    assert_eq!((sales.time, sales.data), (Millis(60_000), Allotment(5007)));
}

#[tokio::test]
async fn sessions_and_invoices_of_before_metrics_go_by_time() {
    const BEFORE: Schema = Schema { steps: &[SCHEMA.steps[0], SCHEMA.steps[1]] };
    let dir = Scratch::new();
    let store = Store::open_with(dir.path(), &clock(), &BEFORE).unwrap();
    let ends = store.now().saturating_add(Millis(60_000));
    let sql = format!(
        "INSERT INTO accounts VALUES (7, 0); INSERT INTO account_macs VALUES ('{mac}', 7);
         INSERT INTO grants VALUES ('old', 7, '{mac}', 'guest', 3, 60000, 0, 1800000000);
         INSERT INTO sessions VALUES (7, '{mac}', 'guest', 60000, {}, {}, 2);",
        store.now().0,
        ends.0,
        mac = mac(1),
    );
    store.write(move |tx| Ok(tx.execute_batch(&sql)?)).await.unwrap();
    store.close().await;

    let store = Store::open(dir.path(), &clock()).unwrap();
    let [session] = &store.sessions_ending_after(store.now()).await.unwrap()[..] else {
        panic!("one session")
    };
    assert_eq!((session.metric, session.ends, session.revision), (Metric::Milliseconds, ends, 2));
    assert_eq!(store.sales_since(UnixSeconds(0)).await.unwrap().time, Millis(60_000));
    assert_eq!(store.grant(grant("new", 1, 1000)).await.unwrap().allotment, Allotment(61_000));
}

#[tokio::test]
async fn a_receipt_is_of_the_guests_own_last_payment_at_this_venue() {
    let (dir, clock) = (Scratch::new(), clock());
    let store = Store::open(dir.path(), &clock).unwrap();
    let last = |guest: u8| store.last_purchase(mac(guest), "guest");
    assert_eq!(last(1).await.unwrap(), None);
    for (number, reference) in ["first", "second"].into_iter().enumerate() {
        clock.advance(Millis(1_000));
        drop(store.grant(grant(reference, 1, 60_000)).await.unwrap());
        drop(store.grant(grant(&format!("other {number}"), 2, 60_000)).await.unwrap());
    }
    clock.advance(Millis(1_000));
    let gift = NewGrant { amount: Sats(0).into(), ..grant("gift", 1, 60_000) };
    drop(store.grant(gift).await.unwrap());
    let bought = last(1).await.unwrap().unwrap();
    assert_eq!(bought.reference, Reference::read("second"));
    assert_eq!((bought.amount, bought.allotment), (Sats(1).into(), Allotment(60_000)));
    assert_eq!(store.last_purchase(mac(1), "hall").await.unwrap(), None);
    clock.advance(Millis::from_secs(8 * 86_400));
    assert_eq!(last(1).await.unwrap(), None, "that is long ago");
}
