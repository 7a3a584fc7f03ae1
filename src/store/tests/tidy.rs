//! What is over leaves the store in small transactions, and what somebody still waits for stays.

use super::sales::{mac, Shop};
use super::*;
use crate::store::tidy::STATEMENTS;
use crate::store::{Owner, RecordsSince};

const DAY: u64 = 86_400;

fn days(days: u64) -> Millis {
    Millis::from_secs(days * DAY)
}

impl Shop {
    fn passed(&self, time: Millis) {
        self.clock.advance(time);
    }

    /// With everything that is older than these many days forgotten.
    async fn tidied(&self, tokens: u64, settled: u64, unpaid: u64) {
        let before = |age| self.store.now().saturating_sub(days(age));
        let kept = RecordsSince { tokens: before(tokens), settled: before(settled), unpaid: before(unpaid) };
        self.store.prune(kept).await.unwrap();
    }

    async fn names(&self, mac: &str) -> bool {
        let mac = mac.to_owned();
        let named = "SELECT COUNT(*) FROM (SELECT mac FROM requests UNION ALL SELECT mac FROM account_macs
            UNION ALL SELECT mac FROM grants UNION ALL SELECT mac FROM sessions) WHERE mac = ?1";
        let count: Result<i64, _> =
            self.store.read(move |db| Ok(db.query_row(named, [mac], |row| row.get(0))?)).await;
        count.unwrap() > 0
    }
}

#[tokio::test]
async fn tidying_reads_no_table_from_end_to_end() {
    let shop = Shop::new();
    for statement in STATEMENTS {
        let plan = shop.store.read(move |db| {
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
            let count = explained.parameter_count();
            let steps = explained.query_map(rusqlite::params_from_iter(vec![1; count]), |row| row.get(3))?;
            Ok(steps.collect::<Result<Vec<String>, _>>()?)
        });
        let plan = plan.await.unwrap();
        // A partial index holds nothing but what is asked for; accounts are looked at once a day.
        let is_whole = |step: &&String| {
            step.starts_with("SCAN ") && !step.contains("INDEX parts_expired") && step.as_str() != "SCAN a"
        };
        assert!(!plan.is_empty() && plan.iter().find(is_whole).is_none(), "{statement}: {plan:#?}");
    }
}

#[tokio::test]
async fn settled_records_go_before_tokens_that_wait() {
    let shop = Shop::new();
    shop.sell(1).await;
    let waiting = shop.asked(2, Owner::Guest, 1).await;
    shop.claim(&waiting, 0).await;
    let fetched = shop.asked(3, Owner::Guest, 1).await;
    shop.claim(&fetched, 0).await;
    shop.store.acked(vec![fetched.parts[0].id]).await.unwrap();
    let open = shop.asked(4, Owner::House, 1).await;
    shop.passed(days(8));
    shop.tidied(90, 30, 0).await;
    assert_eq!((shop.count("grants").await, shop.count("requests").await), (1, 3));
    shop.tidied(90, 7, 0).await;
    assert_eq!((shop.count("grants").await, shop.count("requests").await), (0, 2));
    assert!(shop.store.request(&waiting.id).await.unwrap().is_some(), "they are the guest's money");
    assert!(shop.store.request(&open.id).await.unwrap().is_some(), "it is still watched");
    shop.passed(days(83));
    shop.tidied(90, 90, 2).await;
    assert!(shop.store.request(&waiting.id).await.unwrap().is_none());
}

#[tokio::test]
async fn many_old_records_go_in_small_transactions() {
    let shop = Shop::new();
    for guest in 0..300 {
        shop.sell(guest).await;
    }
    shop.passed(days(91));
    let before = shop.store.commits();
    shop.tidied(90, 90, 2).await;
    assert_eq!(shop.count("grants").await, 0);
    assert_eq!(shop.store.commits() - before, 3);
    shop.store.forget_idle(shop.store.now().saturating_sub(days(90))).await.unwrap();
    assert_eq!((shop.count("accounts").await, shop.count("account_macs").await), (0, 0));
    assert_eq!(shop.count("sessions").await, 0);
}

#[tokio::test]
async fn who_has_had_nothing_for_90_days_is_not_named_any_more() {
    let shop = Shop::new();
    let (_, ticket) = shop.sell(1).await;
    let ticket = ticket.unwrap();
    let waiting = shop.asked(2, Owner::Guest, 1).await;
    shop.passed(days(1));
    shop.claim(&waiting, 0).await;
    shop.store.renew_ticket(mac(2)).await.unwrap();
    let forgotten = || async {
        shop.tidied(90, 90, 2).await;
        shop.store.forget_idle(shop.store.now().saturating_sub(days(90))).await.unwrap();
        [!shop.names(&mac(1).to_string()).await, !shop.names(&mac(2).to_string()).await]
    };
    shop.passed(days(88));
    assert_eq!(forgotten().await, [false, false]);
    assert!(tickets::holder(&shop.store, &ticket).await.is_some());
    shop.passed(days(3));
    assert_eq!(forgotten().await, [true, true]);
    assert!(tickets::holder(&shop.store, &ticket).await.is_none());
}

#[tokio::test]
async fn who_has_something_is_remembered_however_long_ago_it_came() {
    let shop = Shop::new();
    shop.sell(1).await;
    let kept = shop.store.now();
    shop.passed(days(80));
    let (_, ticket) = shop.sell(1).await;
    assert!(ticket.is_none(), "the account has one");
    shop.passed(days(20));
    shop.store.forget_idle(kept.saturating_add(days(10))).await.unwrap();
    assert!(shop.names(&mac(1).to_string()).await, "its second session ended 20 days ago");
}
