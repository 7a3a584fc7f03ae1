//! Balances: each change counts once, none goes below zero, and the books have the same.

use super::*;
use crate::config::MintUrl;
use crate::store::{BookAccount, MoveState, NewMove, Reserved, TopupRow};
use crate::units::{Msats, Sats};

fn opened() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let clock = Clock::manual("boot", Millis::from_secs(100_000), UnixSeconds(1_800_000_000));
    let store = Store::open(scratch.path(), &clock).unwrap();
    (scratch, store)
}

fn of(account: &str, reference: &str, amount: u64) -> NewMove {
    NewMove {
        account: account.to_owned(),
        reference: reference.to_owned(),
        kind: "send",
        amount: Msats(amount),
        detail: String::new(),
    }
}

async fn credit(store: &Store, account: &str, reference: &str, amount: u64) -> bool {
    store.credit_balance(of(account, reference, amount), BookAccount::Lightning).await.unwrap()
}

async fn reserve(store: &Store, reference: &str, amount: u64) -> Reserved {
    store.reserve_balance(of("a", reference, amount), None, None).await.unwrap()
}

/// What may be spent and what is reserved, once it is seen that the books have the same.
async fn held(store: &Store, account: &str) -> (u64, u64) {
    let (mut free, mut reserved) = (0, 0);
    for account in ["a", "b"] {
        let (some, others) = store.balance_of(account.to_owned()).await.unwrap();
        (free, reserved) = (free + some.0, reserved + others.0);
    }
    let (balances, entries) = store.books(1000).await.unwrap();
    let booked = |account: &str| {
        let found = balances.iter().find(|one| one.account == account && one.unit == "msat");
        found.map_or(0, |one| u64::try_from(one.balance).unwrap())
    };
    assert_eq!((booked("customers"), booked("customers_held")), (free, reserved));
    assert_eq!(entries.iter().map(|entry| entry.delta).sum::<i64>(), 0);
    let (free, reserved) = store.balance_of(account.to_owned()).await.unwrap();
    (free.0, reserved.0)
}

#[tokio::test]
async fn a_credit_counts_once_by_its_reference() {
    let (_scratch, store) = opened();
    assert!(credit(&store, "a", "in:1", 5000).await);
    assert!(!credit(&store, "a", "in:1", 5000).await && !credit(&store, "b", "in:1", 7000).await);
    assert_eq!((held(&store, "a").await, held(&store, "b").await), ((5000, 0), (0, 0)));
}

#[tokio::test]
async fn what_is_reserved_is_spent_or_given_back_once_and_never_both() {
    let (_scratch, store) = opened();
    credit(&store, "a", "in:1", 10_000).await;
    assert!(matches!(reserve(&store, "s:1", 4000).await, Reserved::New(row) if row.state == MoveState::Held));
    assert!(matches!(reserve(&store, "s:1", 4000).await, Reserved::Known(row) if row.amount == Msats(4000)));
    assert_eq!(held(&store, "a").await, (6000, 4000));
    assert!(store.settle_balance("s:1".to_owned(), Msats(3000), BookAccount::Lightning).await.unwrap());
    assert_eq!(held(&store, "a").await, (7000, 0));
    assert!(!store.settle_balance("s:1".to_owned(), Msats(3000), BookAccount::Lightning).await.unwrap());
    assert!(!store.give_balance_back("s:1".to_owned()).await.unwrap());
    reserve(&store, "s:2", 7000).await;
    assert!(store.give_balance_back("s:2".to_owned()).await.unwrap());
    assert!(!store.settle_balance("s:2".to_owned(), Msats(1), BookAccount::Lightning).await.unwrap());
    assert!(!store.give_balance_back("nothing".to_owned()).await.unwrap());
    assert_eq!(held(&store, "a").await, (7000, 0));
}

#[tokio::test]
async fn nobody_spends_more_than_there_is_or_what_is_another_s() {
    let (_scratch, store) = opened();
    credit(&store, "a", "in:1", 1000).await;
    credit(&store, "b", "in:2", 9000).await;
    assert_eq!(reserve(&store, "s:1", 1001).await, Reserved::TooLittle(Msats(1000)));
    let asked = (0..50).map(|number| {
        let (store, new) = (store.clone(), of("a", &format!("s:{number}"), 100));
        tokio::spawn(async move { store.reserve_balance(new, None, None).await.unwrap() })
    });
    let mut answers = Vec::new();
    for task in asked.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    let asked = answers;
    assert_eq!(asked.iter().filter(|one| matches!(one, Reserved::New(_))).count(), 10);
    assert_eq!((held(&store, "a").await, held(&store, "b").await), ((0, 1000), (9000, 0)));
}

#[tokio::test]
async fn a_day_s_limit_counts_what_is_spent_and_reserved_and_not_what_came_back() {
    let (_scratch, store) = opened();
    credit(&store, "a", "in:1", 10_000).await;
    let most = Some(Msats(5000));
    let limited = |reference: &str, amount| store.reserve_balance(of("a", reference, amount), None, most);
    assert_eq!(limited("s:1", 5001).await.unwrap(), Reserved::DayLimit);
    assert!(matches!(limited("s:1", 3000).await.unwrap(), Reserved::New(_)));
    assert_eq!(limited("s:2", 2001).await.unwrap(), Reserved::DayLimit);
    assert!(store.give_balance_back("s:1".to_owned()).await.unwrap());
    assert!(matches!(limited("s:2", 5000).await.unwrap(), Reserved::New(_)));
}

#[tokio::test]
async fn a_satoshi_that_goes_out_and_comes_back_does_so_five_hundred_times_a_day() {
    let (_scratch, store) = opened();
    for number in 0..501 {
        credit(&store, "a", &format!("in:{number}"), 1000).await;
        let sent = of("a", &format!("s:{number}"), 1000);
        let reserved = store.reserve_balance(sent, None, Some(Msats(u64::MAX))).await.unwrap();
        assert_eq!(matches!(reserved, Reserved::New(_)), number < 500, "{number}: {reserved:?}");
        if number % 2 == 0 {
            store.settle_balance(format!("s:{number}"), Msats(1000), BookAccount::Tokens).await.unwrap();
        } else {
            store.give_balance_back(format!("s:{number}")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn invoices_of_strangers_keep_none_from_an_account_that_has_something_and_from_the_takings() {
    let (_scratch, store) = opened();
    credit(&store, "known", "in:1", 1000).await;
    let invoice = |account: &str, number: usize| TopupRow {
        payment_hash: format!("{account}{number}"),
        account: account.to_owned(),
        mint: MintUrl::parse("https://mint.example").unwrap(),
        amount: Sats(1),
        memo: String::new(),
        lock: 0,
        quote: String::new(),
        invoice: String::new(),
        outputs: Vec::new(),
        is_open: true,
        expires_at: UnixSeconds(1_800_000_600),
    };
    for stranger in 0..16 {
        for number in 0..16 {
            assert!(store.topup_begin(invoice(&format!("s{stranger}-"), number)).await.unwrap());
        }
        assert!(!store.topup_begin(invoice(&format!("s{stranger}-"), 16)).await.unwrap());
    }
    assert!(!store.topup_begin(invoice("another", 0)).await.unwrap());
    assert_eq!(store.topup_lock("another".to_owned()).await.unwrap(), None);
    for account in ["known", ""] {
        assert!(store.topup_begin(invoice(account, 0)).await.unwrap(), "{account}");
    }
}

#[tokio::test]
async fn what_an_account_asks_for_under_one_name_is_one_payment_of_fifty_at_once() {
    let (_scratch, store) = opened();
    credit(&store, "a", "in:1", 10_000).await;
    credit(&store, "b", "in:2", 10_000).await;
    let asked = |account: &str, number: usize| {
        let detail = r#"{"sats":1}"#.to_owned();
        let new = NewMove { detail, ..of(account, &format!("send:{account}{number}"), 100) };
        store.reserve_balance(new, Some("aa".to_owned()), None)
    };
    let answers = futures_util::future::join_all((0..50).map(|number| asked("a", number))).await;
    let made = answers.iter().filter(|one| matches!(one, Ok(Reserved::New(_)))).count();
    assert_eq!((made, held(&store, "a").await), (1, (9900, 100)));
    assert!(
        matches!(asked("b", 0).await.unwrap(), Reserved::New(_)),
        "another account's name is another one"
    );
    let known = store.payment_asked("a".to_owned(), "aa".to_owned()).await.unwrap().unwrap();
    assert!(store.give_balance_back(known.reference.clone()).await.unwrap());
    assert!(
        matches!(asked("a", 50).await.unwrap(), Reserved::Known(row) if row.state == MoveState::Returned)
    );
    assert!(store.payment_asked("a".to_owned(), "ab".to_owned()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_payments_name_is_known_from_before_it_had_a_column() {
    let scratch = Scratch::new();
    let before = Schema { steps: SCHEMA.steps.split_at(27).0 };
    let store = Store::open_with(scratch.path(), &clock(), &before).unwrap();
    let name = "5".repeat(64);
    let sql = format!(
        r#"INSERT INTO balance_moves VALUES
             ('local', 'send:1', 1, 'a', 'send', 1, 'done', 5, 5, '{{"payment_hash":"1","asked":"{name}","said":"2"}}', 9),
             ('local', 'send:2', 2, 'a', 'send', 1, 'done', 5, 5, '{{"payment_hash":"2"}}', 9)"#,
    );
    store.write(move |tx| Ok(tx.execute_batch(&sql)?)).await.unwrap();
    store.close().await;

    let store = Store::open(scratch.path(), &clock()).unwrap();
    let known = store.payment_asked("a".to_owned(), name.clone()).await.unwrap().unwrap();
    assert_eq!((known.reference.as_str(), known.asked), ("send:1", Some(name)));
    assert_eq!(store.balance_move("send:2".to_owned()).await.unwrap().unwrap().asked, None);
}

#[tokio::test]
async fn changes_are_listed_newest_first_and_forgotten_when_they_are_over() {
    let (_scratch, store) = opened();
    for number in 0..5 {
        credit(&store, if number == 3 { "b" } else { "a" }, &format!("in:{number}"), 1000).await;
    }
    reserve(&store, "s:1", 10).await;
    let names =
        |rows: &[crate::store::BalanceMove]| rows.iter().map(|row| row.reference.clone()).collect::<Vec<_>>();
    let first = store.balance_moves("a".to_owned(), i64::MAX, 2).await.unwrap();
    assert_eq!(names(&first), ["s:1", "in:4"]);
    let rest = store.balance_moves("a".to_owned(), first[1].seq, 10).await.unwrap();
    assert_eq!(names(&rest), ["in:2", "in:1", "in:0"]);
    store.forget_balance_moves(UnixSeconds(1_800_000_001)).await.unwrap();
    let left = store.balance_moves("a".to_owned(), i64::MAX, 10).await.unwrap();
    assert_eq!(names(&left), ["s:1"]);
    assert_eq!(held(&store, "a").await, (3990, 10));
}
