//! Stores that were made by the schema before a step, each opened with today's.

use super::sales::{mac, mint, Shop};
use super::*;
use crate::config::Metric;
use crate::store::PurseName;
use crate::store::Reference;
use crate::store::{
    KeysOwner, NewGrant, NewProofs, NewTap, OpState, OutputsRow, Owner, PartState, RequestId, RequestRow,
    ReserveResult, TapResult,
};
use crate::units::Msats;

/// The steps before the one whose text has this in it; all, if none has.
fn before(text: &str) -> Schema {
    let at = SCHEMA.steps.iter().position(|step| step.contains(text));
    Schema { steps: SCHEMA.steps.split_at(at.unwrap_or(SCHEMA.steps.len())).0 }
}

/// A store made by the steps before `text`, with these rows, and opened with all steps.
async fn upgraded(text: &str, rows: &str) -> Shop {
    let dir = Scratch::new();
    let rows = rows.to_owned();
    let old = Store::open_with(dir.path(), &clock(), &before(text)).unwrap();
    old.write(move |tx| Ok(tx.execute_batch(&rows)?)).await.unwrap();
    old.close().await;
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    Shop { dir, clock, store }
}

impl Shop {
    async fn known(&self, sale: u8) -> RequestRow {
        self.store.request(&id(sale)).await.unwrap().unwrap()
    }
}

fn id(sale: u8) -> RequestId {
    format!("{sale:032x}").parse().unwrap()
}

fn outputs(keyset: &str, counter: u32, amounts: &[u64]) -> OutputsRow {
    OutputsRow { keyset: keyset.to_owned(), counter, amounts: amounts.to_vec() }
}

/// A request of one part in this state; further columns of the part and their values.
fn request(sale: u8, owner: Owner, state: &str, further: [&str; 2]) -> String {
    let [columns, values] = further;
    format!(
        "INSERT INTO requests (id, mac, venue, owner, created_ms) VALUES ('{id}', '{mac}', 'guest', '{owner}', 1000);
         INSERT INTO parts (id, request, position, mint, amount, allotment, lock_index, state, quote {columns})
             VALUES ({sale}, '{id}', 0, '{mint}', 21, 60000, {sale}, '{state}', 'q{sale}' {values});",
        id = id(sale),
        mac = mac(1),
        owner = owner.as_str(),
        mint = mint(0).as_str()
    )
}

#[tokio::test]
async fn outputs_of_parts_move_into_their_rows() {
    let rows = [
        request(1, Owner::Guest, "unpaid", ["", ""]),
        request(2, Owner::House, "paid", ["", ""]),
        request(3, Owner::House, "expired", ["", ""]),
        request(4, Owner::Guest, "claimed", [", token", ", 'cashuBguest'"]),
        request(5, Owner::House, "claimed", [", token", ", 'cashuBhouse'"]),
        request(6, Owner::House, "claimed", ["", ""]),
        request(7, Owner::House, "asking", ["", ""]),
        format!(
            "INSERT INTO claims (part, keyset, counter, amounts) VALUES
                 (2, '00aa', 0, '1,4,16'), (1, '00aa', 0, '1,4,16'), (1, '00ff', 10, '21'), (3, '00aa', 3, '5'),
                 (2, '00aa', 2147480000, '9223372036854775808'), (4, '00aa', 6, '21'), (5, '00bb', 7, '1,4,16'),
                 (6, '00aa', 10, '21');
             INSERT INTO wallet_keysets (id, mint, keyset, unit) VALUES (7, '{mint}', '00aa', 'sat');
             INSERT INTO accounts (id, created_ms) VALUES (1, 1000);
             INSERT INTO account_macs (mac, account) VALUES ('{mac}', 1);
             INSERT INTO grants (reference, account, mac, venue, amount, allotment, granted_ms, wall) VALUES
                 ('{adopted}/0', 1, '{mac}', 'guest', 21, 60000, 1000, 1800000000),
                 ('{sold}/0', 1, '{mac}', 'guest', 21, 60000, 1000, 1800000000);
             INSERT INTO wallet_ops (kind, state, mint, reference, amount, outputs, created_ms)
                 VALUES ('swap', 'open', '{mint}', 'swap:1', 5, '00aa 5 1,4' || char(10) || '00ff 0 5' || char(10), 1);",
            mint = mint(0).as_str(),
            mac = mac(1),
            adopted = id(5),
            sold = id(6)
        ),
    ];
    let shop = upgraded("DROP TABLE claims", &rows.concat()).await;
    let sets = |row: RequestRow| row.parts[0].outputs.clone();
    let first = outputs("00aa", 0, &[1, 4, 16]);
    assert_eq!(sets(shop.known(1).await), [first.clone(), outputs("00ff", 10, &[21])], "the newest is last");
    assert_eq!(sets(shop.known(2).await), [first, outputs("00aa", 2_147_480_000, &[1 << 63])]);
    assert_eq!(sets(shop.known(3).await), [outputs("00aa", 3, &[5])]);
    assert_eq!(sets(shop.known(4).await), [], "its token is here");
    assert_eq!(sets(shop.known(5).await), [outputs("00bb", 7, &[1, 4, 16])], "they tell its counters");
    assert_eq!(sets(shop.known(7).await), []);
    let [op] =
        shop.store.open_ops(PurseName::House).await.unwrap().try_into().unwrap_or_else(|_| panic!("one"));
    assert_eq!(op.state, OpState::Open);
    assert_eq!(op.outputs, [outputs("00aa", 5, &[1, 4]), outputs("00ff", 0, &[5])]);

    assert_eq!(shop.known(4).await.parts[0].token.as_deref(), Some("cashuBguest"));
    assert_eq!(shop.count("grants WHERE keyset = 7").await, 1, "the one that has no tokens to adopt");

    let (mint, keyset) = (mint(0), "00bb".to_owned());
    let proofs = vec![(7, Sats(21), vec![2; 33])];
    shop.store.adopt(5, NewProofs { mint, keyset, proofs }).await.unwrap();
    assert_eq!(shop.count("requests").await, 6);
    assert_eq!(shop.known(5).await.parts[0].state, PartState::Claimed, "its grant tells");
}

/// One row of each kind that holds an amount, as the version before units wrote it.
fn amounts() -> String {
    let rows = format!(
        "INSERT INTO accounts (id, created_ms) VALUES (1, 1000);
         INSERT INTO account_macs (mac, account) VALUES ('{mac}', 1);
         INSERT INTO wallet_keysets (id, mint, keyset, unit) VALUES (7, '{mint}', '00aa', 'sat');
         INSERT INTO proofs (keyset, counter, amount, c) VALUES (7, 0, 16, x'02'), (7, 1, 4, x'02');
         INSERT INTO grants (reference, account, mac, venue, amount, allotment, granted_ms, wall, keyset) VALUES
             ('{sold}/0', 1, '{mac}', 'guest', 21, 60000, 3600000, 1800000000, 7),
             ('token:2', 1, '{mac}', 'guest', 5, 60000, 3600000, 1800000000, 7);
         INSERT INTO sessions (account, venue, metric, mac, allotment, started_ms, ends_ms, value, value_of)
             VALUES (1, 'guest', 'milliseconds', '{mac}', 120000, 3600000, 9000000, 26000, 120000);
         INSERT INTO wallet_ops (kind, state, mint, reference, amount, outputs, access, created_ms)
             VALUES ('receive', 'open', '{mint}', 'token:3', 8, '', '{access}', 1);
         INSERT INTO cards (id, name, enabled, tx_max, day_max, uid_privacy, created)
             VALUES (1, 'keeper', 1, 100, 150, 0, 1800000000);
         INSERT INTO card_keys (card, version, sealed, code_ends_ms) VALUES (1, 1, x'00', 0);
         INSERT INTO card_taps (id, card, k1, counter, state, wall, ends_ms, amount, fee, reserved_ms) VALUES
             (1, 1, x'01', 1, 'paid', 1800000000, 3600000, 90500, 250, 3600000);
         INSERT INTO card_taps (id, card, k1, counter, state, wall, ends_ms) VALUES
             (2, 1, x'{fresh}', 2, 'issued', 1800000000, 9000000);",
        mac = mac(1),
        mint = mint(0).as_str(),
        sold = id(2),
        access = format_args!(
            r#"{{"reference":"token:3","mac":"{}","venue":"guest","amount":8,"metric":"milliseconds","allotment":60000}}"#,
            mac(1)
        ),
        fresh = "02".repeat(32)
    );
    request(1, Owner::Guest, "unpaid", ["", ""]) + &rows
}

/// Of the tap that may become a payment.
const FRESH: [u8; 32] = [2; 32];

fn spending(reference: Reference) -> NewGrant {
    let amount = Sats(59).into();
    let (mac, venue, metric, allotment) =
        (mac(1), "guest".to_owned(), Metric::Milliseconds, Allotment(60_000));
    NewGrant { reference, mac, venue, amount, metric, allotment, value: amount, mint: None }
}

fn tap() -> NewTap {
    let owner = KeysOwner { card: 1, version: 1 };
    NewTap { owner, uid: "04".to_owned(), counter: 9, k1: [9; 32], life: Millis::from_secs(60) }
}

#[tokio::test]
async fn amounts_of_before_units_are_satoshis_and_of_cards_payments_millisatoshis() {
    let shop = upgraded("value_unit", &amounts()).await;
    let store = &shop.store;
    assert_eq!(
        (shop.known(1).await.parts[0].amount, shop.known(2).await.parts[0].amount),
        (Sats(21), Sats(21))
    );
    let sales = store.sales_since(UnixSeconds(0)).await.unwrap();
    assert_eq!((sales.count, sales.amounts), (2, vec![Sats(26).into()]));
    let [session] = store.sessions_ending_after(Millis::ZERO).await.unwrap().try_into().unwrap();
    assert_eq!(session.worth.value, Msats(26_000));
    let [op] = store.open_ops(PurseName::House).await.unwrap().try_into().unwrap_or_else(|_| panic!("one"));
    assert_eq!(op.amount, Sats(8));
    let [balance] = store.balances(PurseName::House).await.unwrap().try_into().unwrap();
    assert_eq!((balance.free, balance.held), (Sats(20).into(), Sats(0).into()));
    let proofs = store.free_proofs(PurseName::House, &mint(0)).await.unwrap();
    assert_eq!(proofs.iter().map(|proof| proof.amount).collect::<Vec<_>>(), [Sats(16), Sats(4)]);
    let card = store.card(1).await.unwrap().unwrap();
    assert_eq!((card.tx_max, card.day_max, card.spent), (Sats(100), Sats(150), Msats(90_500)));
    let history = store.card_history(1, 9).await.unwrap();
    assert_eq!((history[1].amount, history[1].fee), (Some(Msats(90_500)), Some(Msats(250))));
    assert_eq!((history[0].amount, history[0].fee), (None, None));

    // And they are reckoned with.
    assert_eq!(store.tap(tap()).await.unwrap(), TapResult::Accepted { tx_max: Sats(100) });
    let over = store.spend_here(FRESH, Msats(59_501), spending).await.unwrap();
    assert_eq!(over, Err(ReserveResult::OverDayLimit));
    assert!(store.spend_here(FRESH, Msats(59_500), spending).await.unwrap().is_ok());
    let session = store.op_done(op.id, None, None).await.unwrap().unwrap();
    assert_eq!(session.worth.value, Msats(26_000 + 59_000 + 8_000));
    let sales = store.sales_since(UnixSeconds(0)).await.unwrap();
    assert_eq!((sales.count, sales.amounts), (4, vec![Sats(26 + 59 + 8).into()]));
}

#[tokio::test]
async fn amount_in_a_newer_unit_is_refused_and_never_added() {
    async fn shop_with(newer: &str) -> Shop {
        upgraded("no step has this in it", &format!("{}{newer}", amounts())).await
    }
    fn refused<T>(read: Result<T, StoreError>) {
        let error = read.err().unwrap();
        assert!(matches!(&error, StoreError::UnitNotKnown(unit) if unit == "usd"), "{error}");
        assert_eq!(error.code(), "STORE_TOO_NEW");
    }
    let shop = shop_with("UPDATE parts SET unit = 'usd'").await;
    refused(shop.store.request(&id(1)).await);
    refused(shop.store.open_requests(9).await);
    let shop = shop_with("UPDATE grants SET unit = 'usd'").await;
    refused(shop.store.sales_since(UnixSeconds(0)).await);
    refused(shop.store.request(&id(2)).await);
    refused(shop.store.op_known(Reference::read("token:2")).await);
    let shop = shop_with("UPDATE grants SET unit = 'usd' WHERE reference = 'token:2'").await;
    refused(shop.store.sales_since(UnixSeconds(0)).await);
    let shop = shop_with("UPDATE sessions SET value_unit = 'usd'").await;
    refused(shop.store.sessions_ending_after(Millis::ZERO).await);
    refused(shop.store.grant(spending(Reference::read(""))).await);
    let shop = shop_with("UPDATE wallet_ops SET unit = 'usd'").await;
    refused(shop.store.open_ops(PurseName::House).await);
    let shop = shop_with(
        "UPDATE wallet_ops SET access = replace(access, '\"amount\"', '\"unit\":\"usd\",\"amount\"')",
    )
    .await;
    refused(shop.store.op_done(1, None, None).await);
    let shop = shop_with("UPDATE wallet_keysets SET unit = 'usd'").await;
    refused(shop.store.balances(PurseName::House).await);
    refused(shop.store.free_proofs(PurseName::House, &mint(0)).await);
    let shop = shop_with("UPDATE cards SET unit = 'usd'").await;
    refused(shop.store.card(1).await);
    refused(shop.store.tap(tap()).await);
    refused(shop.store.spend_here(FRESH, Msats(1000), spending).await);
    let shop = shop_with("UPDATE card_taps SET unit = 'usd' WHERE amount > 0").await;
    refused(shop.store.card(1).await);
    refused(shop.store.card_history(1, 9).await);
    refused(shop.store.spend_here(FRESH, Msats(1000), spending).await);
    // Nor is one in a unit that another kind of row counts in.
    let shop = shop_with("UPDATE cards SET unit = 'msat'").await;
    assert!(matches!(shop.store.card(1).await, Err(StoreError::UnitNotKnown(unit)) if unit == "msat"));
}

#[tokio::test]
async fn unit_stands_beside_every_amount() {
    let shop = Shop::new();
    let without = shop.store.read(|db| {
        let query =
            "SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE c.type = 'INTEGER'
             AND c.name IN ('amount', 'value', 'fee', 'fee_limit', 'tx_max', 'day_max') AND NOT EXISTS
             (SELECT 1 FROM pragma_table_info(t.name) WHERE name IN ('unit', 'value_unit') AND \"notnull\")";
        Ok(db.prepare(query)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
    });
    assert_eq!(without.await.unwrap(), ["proofs"], "whose keyset has it");
}
