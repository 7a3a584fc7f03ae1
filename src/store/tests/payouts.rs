//! Payouts: what a balance pays is reserved, spent or given back once, in one commit with the books, and no step goes back.

use super::*;
use crate::store::{
    BookAccount, NewMove, NewPayout, OpenedPayout, PaidBy, PayoutEnd, PayoutKind, PayoutRow, PayoutRules,
    PayoutState, Secret,
};
use crate::units::{Kes, Msats};

const RULES: PayoutRules = PayoutRules { day_max: Kes(1000), funds: None, account_day_max: None };
const ALICE: &str = "02aa";

fn payout(id: &str, kes: u64, sats: u64) -> NewPayout {
    NewPayout {
        id: id.to_owned(),
        account: ALICE.to_owned(),
        kind: PayoutKind::Sell,
        via: PaidBy::Balance,
        amount: Kes(kes),
        cost: Msats(sats * 1000),
        rate: 13_000_000,
        spread_bp: 0,
        phone: Secret::new(b"254712345678".to_vec()),
        phone_hash: "hash".to_owned(),
        phone_tail: "678".to_owned(),
        paybill: String::new(),
        bill: String::new(),
        wallet: String::new(),
        originator: format!("tg-{id}"),
        asked: String::new(),
        question: String::new(),
    }
}

async fn with_balance(sats: u64) -> (Scratch, Store) {
    let scratch = Scratch::new();
    let clock = Clock::manual("boot", Millis::from_secs(100_000), UnixSeconds(1_800_000_000));
    let store = Store::open(scratch.path(), &clock).unwrap();
    credit(&store, "invoice:1", sats).await;
    (scratch, store)
}

async fn credit(store: &Store, reference: &str, sats: u64) {
    let new = NewMove {
        account: ALICE.to_owned(),
        reference: reference.to_owned(),
        kind: "invoice",
        amount: Msats(sats * 1000),
        detail: String::new(),
    };
    assert!(store.credit_balance(new, BookAccount::Lightning).await.unwrap());
}

async fn opened(store: &Store, new: NewPayout) -> PayoutRow {
    match store.open_payout(new, || RULES).await.unwrap() {
        OpenedPayout::New(row) => row,
        _ => panic!("not opened"),
    }
}

async fn sent(store: &Store, id: &str) {
    let tokens = vec![("result", format!("hash of {id}"))];
    assert!(store.payout_sending(id.to_owned(), tokens).await.unwrap());
}

/// What is in an account of the books, in one unit; all transactions are even.
async fn book(store: &Store, account: &str, unit: &str) -> i64 {
    let (balances, entries) = store.books(1000).await.unwrap();
    for unit in ["KES", "msat"] {
        let of_unit = entries.iter().filter(|entry| entry.unit == unit);
        assert_eq!(of_unit.map(|entry| entry.delta).sum::<i64>(), 0, "{unit}");
    }
    let found = balances.into_iter().find(|one| one.account == account && one.unit == unit);
    found.map_or(0, |one| one.balance)
}

async fn balance(store: &Store) -> (u64, u64) {
    let (free, held) = store.balance_of(ALICE.to_owned()).await.unwrap();
    (free.0 / 1000, held.0 / 1000)
}

fn paid(receipt: &str) -> PayoutEnd {
    PayoutEnd::Paid { receipt: Some(receipt.to_owned()) }
}

#[tokio::test]
async fn what_is_paid_out_costs_the_balance_once_and_the_books_are_even() {
    let (_scratch, store) = with_balance(1000).await;
    let row = opened(&store, payout("TP1", 100, 770)).await;
    assert_eq!((row.state, balance(&store).await), (PayoutState::Created, (230, 770)));
    assert_eq!((book(&store, "orders", "KES").await, book(&store, "mpesa_b2c", "KES").await), (-100, 0));
    let end = |ended| store.end_payout("TP1".to_owned(), ended);
    assert!(!end(paid("SAAAAAAAA1")).await.unwrap(), "it was never sent");
    sent(&store, "TP1").await;
    let (called, what) = store.payout_called("hash of TP1".to_owned()).await.unwrap().unwrap();
    assert_eq!((called.id.as_str(), what.as_str()), ("TP1", "result"));
    store.payout_accepted("TP1".to_owned(), "AG_1".to_owned()).await.unwrap();
    assert!(end(paid("SAAAAAAAA1")).await.unwrap());
    for again in [paid("SAAAAAAAA1"), PayoutEnd::Failed("1".to_owned())] {
        assert!(!end(again).await.unwrap(), "it is over");
    }
    assert_eq!(balance(&store).await, (230, 0));
    assert_eq!((book(&store, "orders", "KES").await, book(&store, "mpesa_b2c", "KES").await), (0, -100));
    assert_eq!(
        (book(&store, "trading", "msat").await, book(&store, "customers", "msat").await),
        (770_000, 230_000)
    );
    let row = store.payout("TP1".to_owned()).await.unwrap().unwrap();
    assert!(
        row.phone.is_none() && row.receipt.as_deref() == Some("SAAAAAAAA1") && row.state.told() == "paid"
    );
    assert!(store.jobs().await.unwrap().is_empty() && store.open_payouts().await.unwrap().is_empty());
    let steps = store.order_steps("TP1".to_owned()).await.unwrap();
    let steps: Vec<_> = steps.iter().map(|step| step.state.as_str()).collect();
    assert_eq!(steps, ["created", "sending", "pending", "paid"]);
}

#[tokio::test]
async fn what_came_to_nothing_is_given_back_once() {
    let (_scratch, store) = with_balance(1000).await;
    for (id, is_sent) in [("TP1", false), ("TP2", true)] {
        opened(&store, payout(id, 100, 770)).await;
        if is_sent {
            sent(&store, id).await;
        }
        let failed = PayoutEnd::Failed("2001".to_owned());
        assert!(store.end_payout(id.to_owned(), failed.clone()).await.unwrap());
        assert!(!store.end_payout(id.to_owned(), failed).await.unwrap());
        assert_eq!(balance(&store).await, (1000, 0));
        let row = store.payout(id.to_owned()).await.unwrap().unwrap();
        assert_eq!((row.state.told(), row.code.as_str()), ("refunded", "2001"));
    }
    for (account, unit) in [("orders", "KES"), ("trading", "KES"), ("trading", "msat"), ("mpesa_b2c", "KES")]
    {
        assert_eq!(book(&store, account, unit).await, 0, "{account}");
    }
}

#[tokio::test]
async fn what_is_paid_after_it_was_given_back_has_left_the_short_code_and_stands_in_suspense() {
    let (_scratch, store) = with_balance(1000).await;
    for (id, is_sent) in [("TP1", false), ("TP2", true)] {
        opened(&store, payout(id, 100, 770)).await;
        if is_sent {
            sent(&store, id).await;
        }
        assert!(store.end_payout(id.to_owned(), PayoutEnd::Failed("2001".to_owned())).await.unwrap());
        for _ in 0..2 {
            assert!(!store.end_payout(id.to_owned(), paid("SAAAAAAAA1")).await.unwrap(), "it is over");
        }
        assert_eq!(balance(&store).await, (1000, 0));
        let left = if is_sent { 100 } else { 0 };
        assert_eq!(book(&store, "mpesa_b2c", "KES").await, -left, "{id}");
        assert_eq!(book(&store, "suspense", "KES").await, left, "{id}");
    }
}

#[tokio::test]
async fn one_that_may_be_done_is_not_called_unsent() {
    let (_scratch, store) = with_balance(1000).await;
    opened(&store, payout("TP1", 100, 770)).await;
    sent(&store, "TP1").await;
    store.payout_unsent("TP1".to_owned()).await.unwrap();
    let state = || async { store.payout("TP1".to_owned()).await.unwrap().unwrap().state };
    assert_eq!(state().await, PayoutState::Created);
    sent(&store, "TP1").await;
    store.payout_lost("TP1".to_owned()).await.unwrap();
    store.payout_unsent("TP1".to_owned()).await.unwrap();
    assert_eq!(state().await, PayoutState::Sending);
    sent(&store, "TP1").await;
}

#[tokio::test]
async fn a_receipt_counts_once() {
    let (_scratch, store) = with_balance(2000).await;
    for id in ["TP1", "TP2"] {
        opened(&store, payout(id, 100, 770)).await;
        sent(&store, id).await;
    }
    assert!(store.end_payout("TP1".to_owned(), paid("SAAAAAAAA1")).await.unwrap());
    assert!(!store.end_payout("TP2".to_owned(), paid("SAAAAAAAA1")).await.unwrap());
    assert!(store.end_payout("TP2".to_owned(), paid("SAAAAAAAA2")).await.unwrap());
}

#[tokio::test]
async fn more_than_there_is_or_than_goes_out_in_a_day_is_refused_and_nothing_is_taken() {
    let (_scratch, store) = with_balance(10_000).await;
    let open = |new, rules: PayoutRules| store.open_payout(new, move || rules);
    let too_dear = payout("TP0", 100, 10_001);
    assert!(matches!(open(too_dear, RULES).await.unwrap(), OpenedPayout::TooLittle(Msats(10_000_000))));
    opened(&store, payout("TP1", 600, 1000)).await;
    assert!(matches!(open(payout("TP2", 401, 1000), RULES).await.unwrap(), OpenedPayout::DayLimit));
    let funds = |funds| PayoutRules { funds: Some(Kes(funds)), ..RULES };
    assert!(matches!(open(payout("TP2", 400, 1000), funds(999)).await.unwrap(), OpenedPayout::FloatTooSmall));
    let account = PayoutRules { account_day_max: Some(Msats(1_999_000)), ..RULES };
    assert!(matches!(open(payout("TP2", 400, 1000), account).await.unwrap(), OpenedPayout::DayLimit));
    assert_eq!(balance(&store).await, (9000, 1000));
    assert!(matches!(open(payout("TP2", 400, 1000), funds(1000)).await.unwrap(), OpenedPayout::New(_)));
    // What came to nothing counts no more.
    assert!(store.end_payout("TP1".to_owned(), PayoutEnd::Failed("1".to_owned())).await.unwrap());
    assert!(matches!(open(payout("TP3", 600, 1000), RULES).await.unwrap(), OpenedPayout::New(_)));
}

#[tokio::test]
async fn of_fifty_at_once_no_more_goes_out_than_in_a_day_and_than_there_is() {
    let account = PayoutRules { account_day_max: Some(Msats(500_000)), ..RULES };
    for rules in
        [PayoutRules { day_max: Kes(509), ..RULES }, PayoutRules { funds: Some(Kes(509)), ..RULES }, account]
    {
        let (_scratch, store) = with_balance(10_000).await;
        let asked =
            (0..50).map(|number| store.open_payout(payout(&format!("TP{number}"), 50, 50), move || rules));
        let opened = futures_util::future::join_all(asked).await;
        let count = opened.iter().filter(|one| matches!(one, Ok(OpenedPayout::New(_)))).count();
        assert_eq!((count, balance(&store).await), (10, (9500, 500)), "{rules:?}");
    }
}

#[tokio::test]
async fn what_is_at_the_short_code_is_asked_for_when_the_payout_is_opened() {
    let (_scratch, store) = with_balance(1000).await;
    opened(&store, payout("TP1", 60, 60)).await;
    sent(&store, "TP1").await;
    // Paid and told of in between: what was there before would count it neither as paid nor as promised.
    let funds = std::sync::Arc::new(std::sync::Mutex::new(Kes(100)));
    let known = funds.clone();
    let ending = store.end_payout("TP1".to_owned(), paid("SAAAAAAAA1"));
    let opening = store.open_payout(payout("TP2", 60, 60), move || PayoutRules {
        funds: Some(*known.lock().unwrap()),
        ..RULES
    });
    *funds.lock().unwrap() = Kes(40);
    assert!(ending.await.unwrap());
    assert!(matches!(opening.await.unwrap(), OpenedPayout::FloatTooSmall));
}

#[tokio::test]
async fn the_same_question_is_one_payout() {
    let (_scratch, store) = with_balance(1000).await;
    let asked = |id: &str, question: &str| NewPayout {
        asked: "key".to_owned(),
        question: question.to_owned(),
        ..payout(id, 10, 77)
    };
    opened(&store, asked("TP1", "a")).await;
    let again = store.open_payout(asked("TP2", "a"), || RULES).await.unwrap();
    assert!(matches!(again, OpenedPayout::Again(row) if row.id == "TP1"));
    assert!(matches!(
        store.open_payout(asked("TP3", "b"), || RULES).await.unwrap(),
        OpenedPayout::OtherQuestion
    ));
    assert_eq!(balance(&store).await, (923, 77));
    let known = store.payout_asked_for(ALICE.to_owned(), "key".to_owned()).await.unwrap();
    assert_eq!(known.map(|row| row.id).as_deref(), Some("TP1"));
}

#[tokio::test]
async fn what_awaits_its_money_takes_it_once_it_is_there() {
    let (_scratch, store) = with_balance(100).await;
    let by_invoice = |id: &str| NewPayout { via: PaidBy::Lightning, ..payout(id, 100, 770) };
    let row = opened(&store, by_invoice("TP1")).await;
    assert_eq!(
        (row.state, row.state.told(), balance(&store).await),
        (PayoutState::Awaiting, "pending", (100, 0))
    );
    store.payout_awaits("TP1".to_owned(), "invoice:2".to_owned()).await.unwrap();
    assert!(!store.payout_sending("TP1".to_owned(), Vec::new()).await.unwrap(), "nothing was paid");
    credit(&store, "invoice:2", 770).await;
    for _ in 0..2 {
        assert!(store.payout_funded("TP1".to_owned(), || RULES).await.unwrap());
        assert_eq!(balance(&store).await, (100, 770));
    }
    opened(&store, by_invoice("TP2")).await;
    assert!(!store.payout_funded("TP2".to_owned(), || RULES).await.unwrap(), "somebody has spent it");
    let failed = store.payout("TP2".to_owned()).await.unwrap().unwrap();
    assert_eq!((failed.state.told(), failed.code.as_str()), ("failed", "too_little"));
    assert_eq!(book(&store, "orders", "KES").await, -100);
}

#[tokio::test]
async fn what_nobody_pays_for_takes_nothing_from_the_day_and_counts_once_it_is_paid() {
    let (_scratch, store) = with_balance(1000).await;
    let by_invoice = |id: &str| NewPayout { via: PaidBy::Lightning, ..payout(id, 600, 400) };
    for number in 0..256 {
        opened(&store, by_invoice(&format!("TP{number}"))).await;
    }
    let crowded = store.open_payout(by_invoice("TP256"), || RULES).await.unwrap();
    assert!(matches!(crowded, OpenedPayout::Crowded));
    assert!(store.payout_funded("TP0".to_owned(), || RULES).await.unwrap());
    assert!(!store.payout_funded("TP1".to_owned(), || RULES).await.unwrap(), "the day is full");
    let failed = store.payout("TP1".to_owned()).await.unwrap().unwrap();
    assert_eq!((failed.state.told(), failed.code.as_str()), ("failed", "day_limit"));
    opened(&store, payout("TP257", 400, 100)).await;
    assert_eq!(balance(&store).await, (500, 500));
}

#[tokio::test]
async fn what_has_its_money_does_not_end_as_not_paid() {
    let (_scratch, store) = with_balance(1000).await;
    let by_token = |id: &str| NewPayout { via: PaidBy::Token, ..payout(id, 100, 770) };
    let not_paid = |row: PayoutRow| row.not_paid("token_spent");
    let first = opened(&store, by_token("TP1")).await;
    assert!(store.payout_funded("TP1".to_owned(), || RULES).await.unwrap());
    sent(&store, "TP1").await;
    assert!(!store.end_payout("TP1".to_owned(), not_paid(first)).await.unwrap(), "it may be paid out by now");
    assert_eq!(balance(&store).await, (230, 770));
    let second = opened(&store, by_token("TP2")).await;
    assert!(store.end_payout("TP2".to_owned(), not_paid(second)).await.unwrap());
    assert!(!store.payout_funded("TP2".to_owned(), || RULES).await.unwrap());
    assert_eq!((balance(&store).await, book(&store, "orders", "KES").await), ((230, 770), -100));
}

#[tokio::test]
async fn one_that_another_request_has_an_invoice_for_does_not_end_for_want_of_one() {
    let (_scratch, store) = with_balance(0).await;
    let by_invoice = |id: &str| NewPayout { via: PaidBy::Lightning, ..payout(id, 100, 770) };
    let row = opened(&store, by_invoice("TP1")).await;
    store.payout_awaits("TP1".to_owned(), "invoice:2".to_owned()).await.unwrap();
    assert!(!store.end_payout("TP1".to_owned(), row.not_paid("MINT_AWAY")).await.unwrap());
    let row = store.payout("TP1".to_owned()).await.unwrap().unwrap();
    assert_eq!((row.state, row.wallet.as_str()), (PayoutState::Awaiting, "invoice:2"));
    assert!(store.end_payout("TP1".to_owned(), row.not_paid("not_paid")).await.unwrap());
}

#[tokio::test]
async fn payouts_that_were_over_long_ago_are_forgotten_and_open_ones_are_not() {
    let (_scratch, store) = with_balance(1000).await;
    for id in ["TP1", "TP2"] {
        opened(&store, payout(id, 10, 77)).await;
        sent(&store, id).await;
    }
    assert!(store.end_payout("TP1".to_owned(), paid("SAAAAAAAA1")).await.unwrap());
    store.forget_payouts(Millis::from_secs(1_000_000)).await.unwrap();
    let left: Vec<_> = store.payouts(10).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(left, ["TP2"]);
    assert!(store.payout_called("hash of TP1".to_owned()).await.unwrap().is_none());
    assert!(store.payout_called("hash of TP2".to_owned()).await.unwrap().is_some());
}
