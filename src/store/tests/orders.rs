//! Orders that are paid in shillings: what is paid counts once, in one commit with the books, and no step goes back.

use super::sales::mac;
use super::tickets::in_place_of;
use super::*;
use crate::config::Metric;
use crate::store::{
    AccountKey, HeardCallback, NewGrant, NewOrder, OpenedOrder, OrderRow, OrderState, OrdersSince,
    PromptRules, Reference, Secret, Settled, TakeOver,
};
use crate::units::Kes;

const RULES: PromptRules = PromptRules {
    pause: Millis::from_secs(60),
    long_pause: Millis::from_secs(120),
    most_a_day: 3,
    day: Millis::from_secs(86_400),
    open_for: Millis::from_secs(900),
};

fn order(id: &str, guest: u16, phone: &str, amount: u64) -> NewOrder {
    let access = NewGrant {
        reference: Reference::Mpesa(id.to_owned()),
        mac: mac(guest),
        venue: "guest".to_owned(),
        amount: Kes(amount).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(3_600_000),
        value: Sats(0).into(),
        mint: None,
    };
    NewOrder {
        id: id.to_owned(),
        amount: Kes(amount),
        phone: Secret::new(phone.as_bytes().to_vec()),
        phone_hash: format!("hash of {phone}"),
        phone_tail: "678".to_owned(),
        price: format!("{amount}"),
        access,
        asked: String::new(),
        buys: None,
    }
}

fn opened() -> (Scratch, Clock, Store) {
    let scratch = Scratch::new();
    let clock = Clock::manual("boot", Millis::from_secs(100_000), UnixSeconds(1_800_000_000));
    let store = Store::open(scratch.path(), &clock).unwrap();
    (scratch, clock, store)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// An order whose prompt is on the phone.
async fn pending(store: &Store, id: &str) -> OrderRow {
    assert!(matches!(store.open_order(order(id, 1, "p1", 20), RULES).await.unwrap(), OpenedOrder::New(_)));
    assert!(store.order_sending(id.to_owned(), format!("token of {id}")).await.unwrap());
    assert!(!store.order_sending(id.to_owned(), "again".to_owned()).await.unwrap(), "never twice");
    store.order_accepted(id.to_owned(), secret("ws_CO_1"), "hash of ws_CO_1".to_owned()).await.unwrap();
    store.order(id.to_owned()).await.unwrap().unwrap()
}

fn heard(code: &str, amount: u64, receipt: &str) -> Option<HeardCallback> {
    Some(HeardCallback {
        checkout: secret("ws_CO_1"),
        checkout_hash: "hash of ws_CO_1".to_owned(),
        code: code.to_owned(),
        amount: Some(Kes(amount)),
        receipt: Some(receipt.to_owned()),
    })
}

/// Account by account; the books are even.
async fn books(store: &Store) -> Vec<(String, i64)> {
    let (balances, entries) = store.books(1000).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.delta).sum::<i64>(), 0);
    balances.into_iter().map(|one| (one.account, one.balance)).filter(|(_, balance)| *balance != 0).collect()
}

fn named(accounts: &[(&str, i64)]) -> Vec<(String, i64)> {
    accounts.iter().map(|(name, balance)| ((*name).to_owned(), *balance)).collect()
}

#[tokio::test]
async fn of_many_at_once_one_settles_and_what_is_paid_never_fails() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    store.hear_callback("token of TG1".to_owned(), heard("0", 20, "R1")).await.unwrap().unwrap();
    let settles = (0..50).map(|_| store.settle_order("TG1".to_owned(), None, false));
    let settled = futures_util::future::join_all(settles).await;
    assert_eq!(settled.iter().filter(|one| matches!(one, Ok(Settled::Granted(_)))).count(), 1);
    assert_eq!(books(&store).await, named(&[("access_sales", -20), ("mpesa_utility", 20)]));
    assert!(!store.order_failed("TG1".to_owned(), "1032".to_owned()).await.unwrap());
    store.order_granted("TG1".to_owned()).await.unwrap();
    store.order_refused("TG1".to_owned(), "x".to_owned()).await.unwrap();
    let row = store.order("TG1".to_owned()).await.unwrap().unwrap();
    assert_eq!((row.state, row.receipt.as_deref()), (OrderState::Granted, Some("R1")));
    assert!(row.phone.is_none() && row.checkout.is_none(), "only hashes are left");
    assert!(store.jobs().await.unwrap().is_empty());
    let found = store.order_by_receipt("R1".to_owned(), "hash of p1".to_owned()).await.unwrap();
    assert!(found.is_some());
    assert!(store.order_by_receipt("R1".to_owned(), "hash of p2".to_owned()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_order_goes_with_its_guest_to_another_device() {
    let (_scratch, _, store) = opened();
    let paid = NewGrant { reference: Reference::read("token:1"), ..order("", 1, "", 1).access };
    let ticket = store.grant(paid).await.unwrap().into_row().ticket.unwrap();
    pending(&store, "TG1").await;
    let moved = store.attach(&AccountKey::Ticket(ticket), in_place_of(1, 2)).await.unwrap();
    assert!(matches!(moved, TakeOver::Done(_)));
    let Settled::Granted(session) = store.settle_order("TG1".to_owned(), None, false).await.unwrap() else {
        panic!("it is paid");
    };
    assert_eq!((session.mac, session.allotment), (mac(2), Allotment(7_200_000)));
    assert_eq!(store.order("TG1".to_owned()).await.unwrap().unwrap().mac, mac(2));
}

#[tokio::test]
async fn another_amount_waits_for_the_operator_and_so_does_what_is_paid_later() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    let row = store.hear_callback("token of TG1".to_owned(), heard("0", 7, "R1")).await.unwrap().unwrap();
    assert_eq!(row.state, OrderState::RefundDue);
    for said in [heard("0", 20, "R2"), heard("0", 7, "R1"), heard("0", 20, "R2"), heard("1032", 20, "R3")] {
        store.hear_callback("token of TG1".to_owned(), said).await.unwrap().unwrap();
        assert!(matches!(store.settle_order("TG1".to_owned(), None, false).await.unwrap(), Settled::Nothing));
    }
    assert_eq!(books(&store).await, named(&[("mpesa_utility", 27), ("suspense", -27)]));
    let mut suspense: Vec<_> =
        store.suspense(10).await.unwrap().into_iter().map(|row| (row.receipt, row.amount)).collect();
    suspense.sort_by_key(|(receipt, _)| receipt.clone());
    assert_eq!(suspense, [("R1".to_owned(), Kes(7)), ("R2".to_owned(), Kes(20))]);
}

#[tokio::test]
async fn a_callback_with_another_token_or_of_another_payment_is_no_orders() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    assert!(store.hear_callback("nobody's".to_owned(), heard("0", 20, "R1")).await.unwrap().is_none());
    let other =
        heard("0", 20, "R1").map(|heard| HeardCallback { checkout_hash: "other".to_owned(), ..heard });
    let row = store.hear_callback("token of TG1".to_owned(), other).await.unwrap().unwrap();
    assert!(!row.is_heard && row.state == OrderState::Pending);
}

#[tokio::test]
async fn a_lost_answer_is_adopted_by_its_token_and_a_found_payment_counts_once() {
    let (_scratch, clock, store) = opened();
    store.open_order(order("TG1", 1, "p1", 20), RULES).await.unwrap();
    store.order_sending("TG1".to_owned(), "token".to_owned()).await.unwrap();
    store.order_lost("TG1".to_owned()).await.unwrap();
    clock.advance(Millis::from_secs(61));
    let again = store.open_order(order("TG2", 2, "p1", 50), RULES).await.unwrap();
    assert!(
        matches!(again, OpenedOrder::PhoneBusy(wait) if wait == Millis::from_secs(59)),
        "an answer was lost"
    );
    let row = store.hear_callback("token".to_owned(), heard("0", 20, "R1")).await.unwrap().unwrap();
    assert!(row.state == OrderState::Pending && row.checkout.is_some());
    store.settle_order("TG1".to_owned(), None, false).await.unwrap();
    assert!(store.found_payment("R1".to_owned(), Kes(20), "TG1".to_owned()).await.unwrap().is_none());
    assert!(store.found_payment("R2".to_owned(), Kes(9), "nobody".to_owned()).await.unwrap().is_none());
    assert!(store.found_payment("R2".to_owned(), Kes(9), "nobody".to_owned()).await.unwrap().is_none());
    assert_eq!(books(&store).await, named(&[("access_sales", -20), ("mpesa_utility", 29), ("suspense", -9)]));
}

#[tokio::test]
async fn a_phone_is_asked_after_a_pause_and_so_often_a_day() {
    let (_scratch, clock, store) = opened();
    for (number, amount) in [(1u16, 20), (2, 21), (3, 22)] {
        let id = format!("TG{number}");
        assert!(matches!(
            store.open_order(order(&id, number, "p1", amount), RULES).await.unwrap(),
            OpenedOrder::New(_)
        ));
        store.order_sending(id.clone(), id.clone()).await.unwrap();
        let busy = store.open_order(order("TG9", 9, "p1", 30), RULES).await.unwrap();
        assert!(matches!(busy, OpenedOrder::PhoneBusy(_) | OpenedOrder::PhoneLimit(_)));
        clock.advance(Millis::from_secs(60));
    }
    let limited = store.open_order(order("TG9", 9, "p1", 30), RULES).await.unwrap();
    assert!(matches!(limited, OpenedOrder::PhoneLimit(_)));
    let other = store.open_order(order("TG9", 9, "p2", 30), RULES).await.unwrap();
    assert!(matches!(other, OpenedOrder::New(_)));
    let same = store.open_order(order("TG8", 9, "p2", 30), RULES).await.unwrap();
    assert!(matches!(same, OpenedOrder::Again(row) if row.id == "TG9"));
    assert!(matches!(
        store.open_order(order("TG8", 9, "p3", 30), RULES).await.unwrap(),
        OpenedOrder::OtherOrder
    ));
}

#[tokio::test]
async fn money_that_is_told_and_not_confirmed_stands_aside_until_it_is() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    store.hear_callback("token of TG1".to_owned(), heard("0", 20, "R1")).await.unwrap().unwrap();
    for _ in 0..2 {
        store.put_heard_aside("TG1".to_owned()).await.unwrap();
        assert_eq!(books(&store).await, named(&[("mpesa_utility", 20), ("suspense", -20)]));
    }
    assert!(matches!(store.settle_order("TG1".to_owned(), None, true).await.unwrap(), Settled::Credit));
    assert_eq!(books(&store).await, named(&[("claims", -20), ("mpesa_utility", 20)]));
    assert!(matches!(store.grant_late_order("TG1".to_owned(), mac(1)).await.unwrap(), Settled::Granted(_)));
    assert!(matches!(store.grant_late_order("TG1".to_owned(), mac(1)).await.unwrap(), Settled::Nothing));
    assert_eq!(books(&store).await, named(&[("access_sales", -20), ("mpesa_utility", 20)]));
    store.carry_books(UnixSeconds(u64::from(u32::MAX))).await.unwrap();
    assert_eq!(books(&store).await, named(&[("access_sales", -20), ("mpesa_utility", 20)]), "carried on");
}

async fn found(store: &Store, receipt: &str, amount: u64, order: &str) -> Option<OrderRow> {
    store.found_payment(receipt.to_owned(), Kes(amount), order.to_owned()).await.unwrap()
}

#[tokio::test]
async fn what_was_not_confirmed_is_settled_by_the_list_of_payments() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    store.hear_callback("token of TG1".to_owned(), heard("0", 20, "R1")).await.unwrap().unwrap();
    store.put_heard_aside("TG1".to_owned()).await.unwrap();
    assert!(found(&store, "R1", 21, "TG1").await.is_none() && found(&store, "R1", 20, "TG2").await.is_none());
    let row = found(&store, "R1", 20, "TG1").await.unwrap();
    store.settle_order(row.id, Some("R1".to_owned()), false).await.unwrap();
    assert_eq!(books(&store).await, named(&[("access_sales", -20), ("mpesa_utility", 20)]));
    assert!(found(&store, "R1", 20, "TG1").await.is_none() && store.suspense(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_payment_whose_receipt_comes_later_counts_once() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    let nameless = heard("0", 7, "").map(|heard| HeardCallback { receipt: None, ..heard });
    store.hear_callback("token of TG1".to_owned(), nameless).await.unwrap().unwrap();
    for _ in 0..2 {
        assert!(found(&store, "R1", 7, "TG1").await.is_none());
        assert_eq!(books(&store).await, named(&[("mpesa_utility", 7), ("suspense", -7)]));
    }
    let suspense = store.suspense(10).await.unwrap();
    assert_eq!((suspense.len(), suspense[0].receipt.as_str()), (1, "R1"));
    let row = store.order("TG1".to_owned()).await.unwrap().unwrap();
    assert_eq!((row.state, row.receipt.as_deref()), (OrderState::RefundDue, Some("R1")));
}

#[tokio::test]
async fn an_order_that_is_given_up_keeps_hashes_and_is_found_again_by_its_callback() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    store.order_failed("TG1".to_owned(), "timeout".to_owned()).await.unwrap();
    store.order_given_up("TG1".to_owned()).await.unwrap();
    let row = store.order("TG1".to_owned()).await.unwrap().unwrap();
    assert!(row.phone.is_none() && row.checkout.is_none() && store.jobs().await.unwrap().is_empty());
    let other =
        heard("0", 20, "R1").map(|heard| HeardCallback { checkout_hash: "other".to_owned(), ..heard });
    let row = store.hear_callback("token of TG1".to_owned(), other).await.unwrap().unwrap();
    assert!(row.checkout.is_none() && !row.is_heard);
    for _ in 0..2 {
        let row =
            store.hear_callback("token of TG1".to_owned(), heard("0", 20, "R1")).await.unwrap().unwrap();
        assert!(row.checkout.is_some() && row.is_said_paid && store.jobs().await.unwrap().len() == 1);
        store.order_given_up("TG1".to_owned()).await.unwrap();
    }
}

#[tokio::test]
async fn orders_that_nobody_has_paid_are_forgotten_soon() {
    let (_scratch, clock, store) = opened();
    pending(&store, "TG1").await;
    store.order_failed("TG1".to_owned(), "1032".to_owned()).await.unwrap();
    store.order_given_up("TG1".to_owned()).await.unwrap();
    store.open_order(order("TG2", 2, "p2", 20), RULES).await.unwrap();
    store.order_refused("TG2".to_owned(), "busy".to_owned()).await.unwrap();
    store.open_order(order("TG3", 3, "p3", 20), RULES).await.unwrap();
    let ids = || async { store.orders(10).await.unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>() };
    for (hours, left) in [(0, 3), (2, 2), (71, 1)] {
        clock.advance(Millis::from_secs(3600 * hours));
        let before = |hours: u64| store.now().saturating_sub(Millis::from_secs(3600 * hours));
        let (closed, unpaid, unsent) = (before(90 * 24), before(72), before(1));
        let since = OrdersSince { closed, unpaid, unsent, most_unpaid: 9 };
        store.forget_orders(since, UnixSeconds(0)).await.unwrap();
        assert_eq!(ids().await.len(), left, "{:?}", ids().await);
    }
    assert_eq!(ids().await, ["TG3"], "what is open stays");
}

#[tokio::test]
async fn of_orders_that_nobody_has_paid_only_so_many_are_kept() {
    let (_scratch, clock, store) = opened();
    for number in 1..=5u16 {
        let id = format!("TG{number}");
        store.open_order(order(&id, number, &format!("p{number}"), 20), RULES).await.unwrap();
        store.order_sending(id.clone(), format!("token{number}")).await.unwrap();
        store.order_lost(id.clone()).await.unwrap();
        if number == 1 {
            store.settle_order(id, None, false).await.map(drop).unwrap();
        } else {
            store.order_failed(id.clone(), "1032".to_owned()).await.unwrap();
            store.order_given_up(id).await.unwrap();
        }
        clock.advance(Millis::from_secs(60));
    }
    let since =
        OrdersSince { closed: Millis::ZERO, unpaid: Millis::ZERO, unsent: Millis::ZERO, most_unpaid: 2 };
    store.forget_orders(since, UnixSeconds(0)).await.unwrap();
    let kept: Vec<String> = store.orders(10).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(kept, ["TG5", "TG4", "TG1"], "and the one that was paid");
}

#[tokio::test]
async fn what_was_paid_late_is_found_by_its_guest() {
    let (_scratch, _, store) = opened();
    pending(&store, "TG1").await;
    assert!(store.late_order_of(mac(1)).await.unwrap().is_none());
    store.settle_order("TG1".to_owned(), None, true).await.unwrap();
    assert_eq!(store.late_order_of(mac(1)).await.unwrap().map(|row| row.id).as_deref(), Some("TG1"));
    assert!(store.late_order_of(mac(2)).await.unwrap().is_none());
    store.grant_late_order("TG1".to_owned(), mac(1)).await.unwrap();
    assert!(store.late_order_of(mac(1)).await.unwrap().is_none());
}

/// Ecash of the takings.
async fn with_float(store: &Store, sats: u64) {
    let mint = crate::config::MintUrl::parse("https://mint.example").unwrap();
    let proofs = vec![(0, Sats(sats), vec![2; 33])];
    let came = crate::store::NewProofs { mint, keyset: "00aa".to_owned(), proofs };
    store.restored(crate::store::PurseName::House, came, 1).await.unwrap();
}

fn buying(id: &str, guest: u16, kes: u64, msat: u64) -> NewOrder {
    let buys = crate::store::NewBuy {
        account: "a".to_owned(),
        amount: crate::units::Msats(msat),
        rate: 13_000_000,
        spread_bp: 0,
        day_max: Kes(1000),
        margin: Sats(1),
    };
    NewOrder { buys: Some(buys), ..order(id, guest, &format!("phone of {id}"), kes) }
}

#[tokio::test]
async fn what_is_paid_for_a_balance_is_in_it_once_and_in_the_books_and_grants_nothing() {
    let (_scratch, _, store) = opened();
    with_float(&store, 1000).await;
    assert!(matches!(
        store.open_order(buying("B1", 1, 100, 769_230), RULES).await.unwrap(),
        OpenedOrder::New(_)
    ));
    assert!(store.order_sending("B1".to_owned(), "token".to_owned()).await.unwrap());
    store.order_accepted("B1".to_owned(), secret("ws"), "hash of ws".to_owned()).await.unwrap();
    for is_late in [true, false] {
        let settled = store.settle_order("B1".to_owned(), None, is_late).await.unwrap();
        assert_eq!(matches!(settled, Settled::Bought), is_late, "once, and never late");
    }
    let row = store.order("B1".to_owned()).await.unwrap().unwrap();
    assert_eq!((row.state, row.phone.is_none()), (OrderState::Granted, true));
    assert_eq!(store.balance_of("a".to_owned()).await.unwrap().0, crate::units::Msats(769_230));
    assert_eq!(store.missing_backing().await.unwrap(), Sats(770));
    let (balances, entries) = store.books(100).await.unwrap();
    let of = |account: &str, unit: &str| {
        balances.iter().find(|one| one.account == account && one.unit == unit).map_or(0, |one| one.balance)
    };
    assert_eq!((of("mpesa_utility", "KES"), of("orders", "KES"), of("trading", "KES")), (100, 0, -100));
    assert_eq!((of("customers", "msat"), of("trading", "msat")), (769_230, -769_230));
    assert_eq!(entries.iter().filter(|entry| entry.unit == "KES").map(|entry| entry.delta).sum::<i64>(), 0);
}

#[tokio::test]
async fn no_more_is_promised_than_the_takings_hold_and_a_day_allows() {
    let (_scratch, _, store) = opened();
    let opened = async |id: &str, guest, kes, msat| {
        store.open_order(buying(id, guest, kes, msat), RULES).await.unwrap()
    };
    assert!(matches!(opened("B1", 1, 10, 1000).await, OpenedOrder::FloatTooSmall));
    with_float(&store, 101).await;
    assert!(matches!(opened("B1", 1, 10, 60_000).await, OpenedOrder::New(_)));
    assert!(matches!(opened("B2", 2, 10, 40_001).await, OpenedOrder::FloatTooSmall), "and a margin of one");
    assert!(matches!(opened("B2", 2, 10, 40_000).await, OpenedOrder::New(_)));
    assert!(matches!(opened("B3", 3, 981, 1).await, OpenedOrder::DayLimit));
    store.order_refused("B1".to_owned(), "dropped".to_owned()).await.unwrap();
    assert!(matches!(opened("B4", 4, 10, 60_000).await, OpenedOrder::New(_)), "what failed is not promised");
}

#[tokio::test]
async fn of_fifty_at_once_no_more_is_promised_or_paid_than_the_takings_hold() {
    let (_scratch, _, store) = opened();
    with_float(&store, 106).await;
    let refunds = (0..25).map(|number| {
        let new = crate::store::NewMove {
            account: "a".to_owned(),
            reference: format!("refund:{number}"),
            kind: "refund",
            amount: crate::units::Msats(10_000),
            detail: String::new(),
        };
        store.fund_balance(new, crate::store::BookAccount::EcashFloat, Sats(1))
    });
    let orders =
        (0..25).map(|guest| store.open_order(buying(&format!("B{guest}"), guest, 10, 10_000), RULES));
    let at_once = futures_util::future::join(
        futures_util::future::join_all(refunds),
        futures_util::future::join_all(orders),
    );
    let (refunded, promised) = at_once.await;
    let refunded = refunded.into_iter().filter(|done| *done.as_ref().unwrap()).count();
    let promised = promised.iter().filter(|one| matches!(one, Ok(OpenedOrder::New(_)))).count();
    let owed = Sats(u64::try_from(refunded).unwrap() * 10);
    assert_eq!((refunded + promised, store.missing_backing().await.unwrap()), (10, owed));
}

#[tokio::test]
async fn what_the_takings_pay_counts_once_by_its_reference_also_when_they_are_empty() {
    let (_scratch, _, store) = opened();
    with_float(&store, 11).await;
    let new = crate::store::NewMove {
        account: "a".to_owned(),
        reference: "refund:1".to_owned(),
        kind: "refund",
        amount: crate::units::Msats(10_000),
        detail: String::new(),
    };
    for _ in 0..2 {
        let funded = store.fund_balance(new.clone(), crate::store::BookAccount::EcashFloat, Sats(1));
        assert!(funded.await.unwrap());
    }
    assert_eq!(store.balance_of("a".to_owned()).await.unwrap().0, crate::units::Msats(10_000));
}
