//! Stores that were made by the schema before a step, each opened with today's.

use super::sales::{mac, mint, Shop};
use super::*;
use crate::store::{NewProofs, OpState, OutputsRow, Owner, PartState, RequestId, RequestRow};

/// The steps before the one whose text has this in it.
fn before(text: &str) -> Schema {
    let at = SCHEMA.steps.iter().position(|step| step.contains(text)).unwrap();
    Schema { steps: SCHEMA.steps.split_at(at).0 }
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
        "INSERT INTO requests VALUES ('{id}', '{mac}', 'guest', '{owner}', 1000);
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
             INSERT INTO account_macs VALUES ('{mac}', 1);
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
    let [op] = shop.store.open_ops().await.unwrap().try_into().unwrap_or_else(|_| panic!("one"));
    assert_eq!(op.state, OpState::Open);
    assert_eq!(op.outputs, [outputs("00aa", 5, &[1, 4]), outputs("00ff", 0, &[5])]);

    assert_eq!(shop.known(4).await.parts[0].token.as_deref(), Some("cashuBguest"));
    assert_eq!(shop.count("grants WHERE keyset = 7").await, 1, "the one that has no tokens to adopt");

    let (mint, unit, keyset) = (mint(0), "sat".to_owned(), "00bb".to_owned());
    let proofs = vec![(7, Sats(21), vec![2; 33])];
    shop.store.adopt(5, NewProofs { mint, unit, keyset, proofs }).await.unwrap();
    assert_eq!(shop.count("requests").await, 6);
    assert_eq!(shop.known(5).await.parts[0].state, PartState::Claimed, "its grant tells");
}
