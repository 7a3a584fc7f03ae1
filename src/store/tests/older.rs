//! Stores of versions before.

use super::full::on_a_disk_of;
use super::sales::{mac, Shop};
use super::*;
use crate::store::PurseName;
use crate::store::{Owner, PartState, RequestId};
use std::io::Write;
use std::time::Duration;

/// Before a settled sale left only its grant, and before tokens were sealed.
fn before_lasting() -> Schema {
    Schema { steps: SCHEMA.steps.split_at(6).0 }
}

const SOLD: u32 = 300;

/// What such a version had written after 150 sales of access and as many of tokens, with a token under way.
async fn older(dir: &Path) {
    let store = Store::open_with(dir, &clock(), &before_lasting()).unwrap();
    for sale in 0..SOLD {
        store.write(move |tx| Ok(tx.execute_batch(&sale_of(sale))?)).await.unwrap();
    }
    let under_way =
        "INSERT INTO wallet_ops (kind, state, mint, reference, amount, token, outputs, created_ms)
        VALUES ('receive', 'open', 'https://mint.example', 'token:1', 5, 'cashuBunderway', '', 1000)";
    store.write(move |tx| Ok(tx.execute_batch(under_way)?)).await.unwrap();
    store.close().await;
}

fn id_of(sale: u32, owner: Owner) -> RequestId {
    format!("{:032x}", sale * 2 + u32::from(owner == Owner::House)).parse().unwrap()
}

fn sale_of(sale: u32) -> String {
    let (house, guest) = (id_of(sale, Owner::House), id_of(sale, Owner::Guest));
    let (one, two, counter, invoice) = (sale * 2 + 1, sale * 2 + 2, sale * 3, "lnbc1".repeat(70));
    let mac = mac(1);
    format!(
        "INSERT INTO counters VALUES ('house', '00aa', 3) ON CONFLICT DO UPDATE SET next = next + 3;
         INSERT INTO requests VALUES ('{house}', '{mac}', 'guest', 'house', 1000), ('{guest}', '{mac}', 'guest', 'guest', 1000);
         INSERT INTO parts (id, request, position, mint, amount, allotment, lock_index, state, quote, invoice, token) VALUES
             ({one}, '{house}', 0, 'https://mint.example', 21, 60000, {sale}, 'claimed', 'h{sale}', '{invoice}', NULL),
             ({two}, '{guest}', 0, 'https://mint.example', 21, 0, {sale}, 'claimed', 'g{sale}', '{invoice}', 'cashuBguest{sale}');
         INSERT INTO claims (part, keyset, counter, amounts) VALUES ({one}, '00aa', {counter}, '1,4,16'), ({two}, '00aa', {counter}, '1,4,16');
         INSERT INTO wallet_keysets (mint, keyset, unit) VALUES ('https://mint.example', '00aa', 'sat') ON CONFLICT DO NOTHING;
         INSERT INTO accounts (id, created_ms) VALUES (1, 1000) ON CONFLICT DO NOTHING;
         INSERT INTO account_macs VALUES ('{mac}', 1) ON CONFLICT DO NOTHING;
         INSERT INTO grants (reference, account, mac, venue, amount, metric, allotment, granted_ms, wall)
             VALUES ('{house}/0', 1, '{mac}', 'guest', 21, 'milliseconds', 60000, 1000, 1800000000);"
    )
}

async fn check(shop: &Shop) {
    for sale in 0..SOLD {
        let access = shop.store.request(&id_of(sale, Owner::House)).await.unwrap().unwrap();
        assert_eq!((access.mac, access.parts[0].state), (mac(1), PartState::Claimed), "sale {sale}");
        let tokens = shop.store.request(&id_of(sale, Owner::Guest)).await.unwrap().unwrap();
        assert_eq!(tokens.parts[0].token, Some(format!("cashuBguest{sale}")));
    }
    let [op] =
        shop.store.open_ops(PurseName::House).await.unwrap().try_into().unwrap_or_else(|_| panic!("one"));
    assert_eq!(op.token.as_deref(), Some("cashuBunderway"));
}

async fn opened(dir: Scratch) -> Shop {
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    Shop { dir, clock, store }
}

#[tokio::test]
async fn store_of_the_version_before_keeps_everything_and_shows_no_token() {
    let dir = Scratch::new();
    older(dir.path()).await;
    let before = fs::metadata(dir.file("store.db")).unwrap().len();
    let shop = opened(dir).await;
    assert!(shop.tells("cashuBguest1"));
    check(&shop).await;
    shop.store.catch_up().await.unwrap();
    assert!(!shop.tells("cashu") && !shop.tells("lnbc1"), "in database and log");
    check(&shop).await;
    assert_eq!(shop.count("requests").await, i64::from(SOLD));
    assert_eq!(shop.count("parts WHERE outputs != ''").await, 0);
    let commits = shop.store.commits();
    shop.store.catch_up().await.unwrap();
    assert_eq!(shop.store.commits(), commits, "once");
    shop.store.clone().close().await;
    assert!(fs::metadata(shop.dir.file("store.db")).unwrap().len() < before * 2 / 3);
    assert!(!shop.tells("cashu") && !shop.tells("lnbc1"));
}

#[tokio::test]
async fn child_that_catches_up() {
    let Some(dir) = child_dir() else { return };
    let store = Store::open(&dir, &clock()).unwrap();
    store.catch_up().await.unwrap();
}

#[tokio::test]
async fn kill_9_at_any_moment_of_the_change_loses_nothing() {
    let dir = Scratch::new();
    older(dir.path()).await;
    for round in 0..30u64 {
        let copy = dir.as_after_power_cut();
        let mut child = child("store::tests::older::child_that_catches_up", copy.path());
        let mut child = child.stdout(std::process::Stdio::null()).spawn().unwrap();
        // From the first write on, in steps of a hundredth of a second.
        let unchanged = fs::read(copy.file("store.db")).unwrap().len();
        while !copy.file("store.db-wal").exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(round * 10));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(unchanged > 0);
        let shop = opened(copy).await;
        check(&shop).await;
        shop.store.catch_up().await.unwrap();
        check(&shop).await;
        assert!(!shop.tells("cashu"), "round {round}");
    }
}

/// A flash that was full when it was upgraded goes on, and catches up when there is room.
#[test]
fn without_room_everything_stays_usable_until_there_is_some() {
    on_a_disk_of("2m", "store::tests::older::child_without_room", "caught up");
}

#[tokio::test]
async fn child_without_room() {
    let Some(dir) = child_dir() else { return };
    older(&dir).await;
    let mut filler = fs::File::create(dir.join("filler")).unwrap();
    let store = Store::open(&dir, &clock()).unwrap();
    let shop = Shop { dir: Scratch::at(&dir), clock: clock(), store };
    shop.store.vault().await.unwrap();
    while filler.write_all(&[1; 512]).is_ok() {}
    shop.store.catch_up().await.unwrap();
    check(&shop).await;
    assert!(shop.tells("cashu"));
    fs::remove_file(dir.join("filler")).unwrap();
    drop(filler);
    shop.store.catch_up().await.unwrap();
    check(&shop).await;
    assert!(!shop.tells("cashu"));
    writeln!(std::io::stdout(), "caught up").unwrap();
}
