//! What stood behind vouchers is forgotten when nothing can come of it any more, and not before.

use super::*;
use crate::config::{MintUrl, Tenant};
use crate::store::{forget_backing, note_step, ChangedState, FundingRow, LockedProof};

const DAY: u64 = 86_400;
/// Now, and since when what is over is kept.
const NOW: u64 = 1_800_000_000;
const SINCE: UnixSeconds = UnixSeconds(NOW - 90 * DAY);

async fn with_rows(statements: &'static str) -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = Store::open(scratch.path(), &clock()).unwrap();
    store.write(move |tx| Ok(tx.execute_batch(statements)?)).await.unwrap();
    (scratch, store)
}

async fn texts(store: &Store, query: &'static str) -> Vec<String> {
    let read = store.read(move |tx| {
        let mut statement = tx.prepare(query)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    });
    read.await.unwrap()
}

#[tokio::test]
async fn ecash_is_forgotten_after_its_voucher_and_its_locktime() {
    let (_scratch, store) = with_rows(
        "INSERT INTO vouchers VALUES ('main', 'known', 'b', 0, 'h', NULL, 1, 'v', '', '', 'sats', 1, 1, 'treasury',
             'redeemed', '', '', '', '', 0, 0, 0, NULL, NULL, NULL);
         INSERT INTO locked VALUES
             ('main', 'over', 'b1', 'v', 'm', 1, 1, 2, 5, 0, '', 0, 'swapped', 5, NULL),
             ('main', 'known', 'b2', 'v', 'm', 1, 1, 2, 5, 0, '', 0, 'swapped', 5, NULL),
             ('main', 'long', 'b3', 'v', 'm', 1, 1, 2, 1799999999, 0, '', 0, 'swapped', 5, NULL),
             ('main', 'late', 'b4', 'v', 'm', 1, 1, 2, 5, 0, '', 0, 'lost', 1799999999, NULL),
             ('main', 'open', 'b5', 'v', 'm', 1, 1, 2, 5, 0, '', 0, 'ready', 5, NULL),
             ('main', 'under way', 'b6', 'v', 'm', 1, 1, 2, 5, 7, '', 0, 'taken', 5, NULL),
             ('other', 'over', 'b1', 'v', 'm', 1, 1, 2, 5, 0, '', 0, 'swapped', 5, NULL);
         INSERT INTO locked_proofs VALUES
             ('main', 'y1', 'over', 'k', 1, 1, '', '', 0, 'taken', 0), ('main', 'y2', 'known', 'k', 2, 1, '', '', 0, 'taken', 0),
             ('main', 'y3', '', 'k', 0, 1, '', '', 0, 'taken', 5), ('main', 'y4', '', 'k', 0, 1, '', '', 0, 'taken', 0),
             ('main', 'y5', '', 'k', 0, 1, '', '', 9, 'taken', 5), ('main', 'y6', '', 'k', 0, 1, '', '', 0, 'taken', 1799999999);
         INSERT INTO fundings VALUES
             ('main', 'b1', 'm', 1, 1, 'q', 'i', 5, 'done', 5), ('main', 'b3', 'm', 1, 1, 'q', 'i', 5, 'done', 5),
             ('main', 'b9', 'm', 1, 1, 'q', 'i', 5, 'open', 5);
         INSERT INTO losses VALUES ('main', 1, 'x', 'v', 1, 5, 1), ('main', 2, 'x', 'v', 1, 5, 0),
             ('main', 3, 'x', 'v', 1, 1799999999, 1);",
    )
    .await;
    let own = store.of_tenant(&Tenant::main());
    while own.write(|door| forget_backing(door, SINCE, 2)).await.unwrap() > 0 {}
    let left = "SELECT id FROM locked WHERE tenant = 'main' ORDER BY id";
    assert_eq!(texts(&store, left).await, ["known", "late", "long", "open", "under way"]);
    assert_eq!(texts(&store, "SELECT y FROM locked_proofs ORDER BY y").await, ["y2", "y4", "y5", "y6"]);
    assert_eq!(texts(&store, "SELECT batch FROM fundings ORDER BY batch").await, ["b3", "b9"]);
    assert_eq!(texts(&store, "SELECT CAST(op AS TEXT) FROM losses ORDER BY op").await, ["2", "3"]);
    assert_eq!(texts(&store, "SELECT id FROM locked WHERE tenant = 'other'").await, ["over"]);
}

#[tokio::test]
async fn a_change_is_told_to_who_is_named_and_to_the_configured_address_and_to_nobody_else() {
    let (_scratch, store) = with_rows(
        "INSERT INTO vouchers VALUES
             ('main', 'quiet', 'b', 0, 'h1', NULL, 1, 'v', '', '', 'sats', 1, 1, 'none', 'ready', '', '', '', '', 0, 0, 9,
              NULL, NULL, NULL),
             ('main', 'named', 'b', 1, 'h2', NULL, 1, 'v', '', 'u', 'sats', 1, 7, 'none', 'ready', '', '', 'https://a.example',
              '', 0, 0, 9, NULL, NULL, NULL),
             ('loud', 'quiet', 'b', 0, 'h1', NULL, 1, 'v', '', '', 'sats', 1, 1, 'none', 'ready', '', '', '', '', 0, 0, 9,
              NULL, NULL, NULL);
         INSERT INTO notice_defaults VALUES ('loud');",
    )
    .await;
    for (tenant, voucher) in [("main", "quiet"), ("main", "named"), ("loud", "quiet")] {
        for (was, became) in [("queued", "minting"), ("minting", "failed")] {
            let step = ChangedState {
                voucher,
                was,
                became,
                reason: "mint_refused",
                who: "",
                request_id: "",
                at: UnixSeconds(5),
            };
            let own = store.of_tenant(&Tenant::of_test(tenant));
            own.write(move |door| note_step(door, &step)).await.unwrap();
        }
    }
    let told = "SELECT tenant || ' ' || about || ' ' || target FROM voucher_jobs ORDER BY tenant";
    assert_eq!(texts(&store, told).await, ["loud quiet ", "main named https://a.example"]);
    let work = texts(&store, "SELECT work FROM voucher_jobs WHERE tenant = 'main'").await;
    let work: serde_json::Value = serde_json::from_str(&work[0]).unwrap();
    let id = texts(&store, "SELECT id FROM voucher_jobs WHERE tenant = 'main'").await;
    assert_eq!((&work["id"], &work["status"]), (&id[0].as_str().into(), &"failed".into()));
    assert_eq!((&work["code"], &work["amount"]), (&"mint_refused".into(), &7.into()));
    assert_eq!(texts(&store, "SELECT voucher FROM voucher_history").await.len(), 6);
}

const AWAITED: &str =
    "INSERT INTO vouchers VALUES ('main', 'v', 'b', 0, 'h', NULL, 1, 'v', '', '', 'sats', 8, 8, 'invoice',
         'awaiting_payment', '', '', '', '', 0, 0, 1800009999, NULL, NULL, NULL);
     INSERT INTO locked VALUES
         ('main', 'v', 'b', 'v', 'https://m.example', 8, 1, 2, 1800009999, 0, '', 0, 'awaiting', 5, NULL);";

fn invoice(quote: &str) -> FundingRow {
    FundingRow {
        tenant: Tenant::main(),
        batch: "b".to_owned(),
        mint: MintUrl::parse("https://m.example").unwrap(),
        amount: Sats(8),
        lock: 1,
        quote: quote.to_owned(),
        invoice: quote.to_owned(),
        expires_at: UnixSeconds(NOW),
        is_open: true,
    }
}

/// The states of the voucher, its ecash and its invoice.
async fn states(store: &Store) -> Vec<String> {
    let all = "SELECT v.state || ' ' || l.state || ' ' || COALESCE(f.state, '') FROM vouchers v
               JOIN locked l ON l.id = v.id LEFT JOIN fundings f ON f.batch = v.batch";
    texts(store, all).await
}

#[tokio::test]
async fn an_invoice_of_an_order_that_came_twice_stays_good_when_the_other_one_fails() {
    let (_scratch, store) = with_rows(AWAITED).await;
    assert_eq!(store.funding_begin(invoice("q1")).await.unwrap().quote, "q1");
    let known = store.funding_refused(&Tenant::main(), "b", "mint_unavailable").await.unwrap();
    assert_eq!(known.map(|known| known.quote).as_deref(), Some("q1"));
    assert_eq!(store.funding_begin(invoice("q2")).await.unwrap().quote, "q1", "a batch has one only");
    assert_eq!(states(&store).await, ["awaiting_payment awaiting open"]);
}

#[tokio::test]
async fn nobody_is_asked_to_pay_for_vouchers_that_have_failed() {
    let (_scratch, store) = with_rows(AWAITED).await;
    let refused = store.funding_refused(&Tenant::main(), "b", "mint_unavailable").await.unwrap();
    assert!(refused.is_none());
    assert!(matches!(store.funding_begin(invoice("q1")).await, Err(StoreError::Gone)));
    assert_eq!(states(&store).await, ["failed failed "]);
}

#[tokio::test]
async fn a_payment_that_comes_while_its_invoice_is_closed_is_not_lost() {
    let (_scratch, store) = with_rows(AWAITED).await;
    store.funding_begin(invoice("q1")).await.unwrap();
    store.funding_expired(&Tenant::main(), "b", "invoice_expired").await.unwrap();
    assert_eq!(states(&store).await, ["failed failed expired"]);
    let text = |text: &str| text.to_owned();
    let proof = LockedProof {
        y: text("y"),
        voucher: text("v"),
        keyset: text("k"),
        counter: 1,
        amount: Sats(8),
        c: text("c"),
        dleq: String::new(),
        is_taken: false,
    };
    store.funding_done(&Tenant::main(), "b", vec![proof]).await.unwrap();
    assert_eq!(states(&store).await, ["ready ready done"]);
    store.funding_expired(&Tenant::main(), "b", "invoice_expired").await.unwrap();
    assert_eq!(states(&store).await, ["ready ready done"], "what was paid for does not expire");
}

#[tokio::test]
async fn what_has_failed_takes_nothing_of_what_there_may_be_of_its_product() {
    let (_scratch, store) = with_rows(AWAITED).await;
    let series = "UPDATE vouchers SET product = 'hour';
                  INSERT INTO voucher_series VALUES ('main', 'hour', 3), ('main', 'day', 3), ('other', 'hour', 3);";
    store.write(move |tx| Ok(tx.execute_batch(series)?)).await.unwrap();
    let made = async || {
        texts(&store, "SELECT product || ' ' || made FROM voucher_series ORDER BY tenant, product").await
    };
    store.funding_begin(invoice("q1")).await.unwrap();
    for _ in 0..2 {
        store.funding_expired(&Tenant::main(), "b", "invoice_expired").await.unwrap();
        assert_eq!(made().await, ["day 3", "hour 2", "hour 3"]);
    }
    assert!(store.funding_reopened(&Tenant::main(), "b").await.unwrap());
    assert_eq!(made().await, ["day 3", "hour 3", "hour 3"], "it was paid for after all");
}

#[tokio::test]
async fn what_has_failed_takes_nothing_of_the_limits_of_who_has_ordered_it() {
    let (_scratch, store) = with_rows(AWAITED).await;
    let spending = "UPDATE vouchers SET created_by = 'anna';
                    INSERT INTO spending VALUES ('main', '', 'day', 0, 20), ('main', 'anna', 'hour', 0, 9),
                        ('main', 'ben', 'hour', 0, 9), ('other', 'anna', 'hour', 0, 9);";
    store.write(move |tx| Ok(tx.execute_batch(spending)?)).await.unwrap();
    let spent = async || {
        let all = "SELECT tenant || ' ' || who || ' ' || spent FROM spending ORDER BY tenant, who";
        texts(&store, all).await
    };
    store.funding_begin(invoice("q1")).await.unwrap();
    for _ in 0..2 {
        store.funding_expired(&Tenant::main(), "b", "invoice_expired").await.unwrap();
        assert_eq!(spent().await, ["main  12", "main anna 1", "main ben 9", "other anna 9"]);
    }
    assert!(store.funding_reopened(&Tenant::main(), "b").await.unwrap());
    assert_eq!(spent().await, ["main  20", "main anna 9", "main ben 9", "other anna 9"]);
}

#[tokio::test]
async fn the_ecash_of_a_mint_that_is_gone_hides_no_other() {
    let (_scratch, store) = with_rows(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
         INSERT INTO locked SELECT 'main', 'a' || i, 'b', 'v', 'https://gone.example', 1, 1, 2, 1800009999, 0, '', 0,
             'taken', 5, NULL FROM n;
         INSERT INTO locked VALUES
             ('main', 'z1', 'b', 'v', 'https://m.example', 1, 1, 2, 1800009999, 0, '', 0, 'taken', 5, NULL),
             ('main', 'z2', 'b', 'v', 'https://m.example', 1, 1, 2, 5, 0, '', 0, 'ready', 5, NULL),
             ('main', 'z3', 'b', 'v', 'https://m.example', 1, 1, 2, 1800009999, 0, '', 0, 'ready', 5, NULL);",
    )
    .await;
    let mut mints = store.mints_to_collect().await.unwrap();
    mints.sort();
    assert_eq!(mints, ["https://gone.example", "https://m.example"]);
    let some = store.locked_to_collect(mints.remove(1), 16).await.unwrap();
    let mut ids: Vec<String> = some.into_iter().map(|(_, row)| row.id).collect();
    ids.sort();
    assert_eq!(ids, ["z1", "z2"]);
}
