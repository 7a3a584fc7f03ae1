//! Work that goes on by itself, and what is forgotten of orders, on a real store.

use super::jobs::{self, VoucherJob};
use super::limits;
use super::rows::{self, NewBatch, NewTicket};
use super::{BatchId, Funding, TicketId, VoucherBook, VoucherCode, VoucherState};
use crate::clock::Clock;
use crate::config::{Config, Tenant};
use crate::folder::fresh_folder;
use crate::store::{add_voucher_job, CodeWorth, Datum, Store, TenantStore, EVERYBODY};
use crate::units::{Millis, Sats, UnixSeconds};
use std::path::PathBuf;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const OLD: UnixSeconds = UnixSeconds(NOW - 90 * 86_400);

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn rows_of_a_tenant() -> (Folder, TenantStore) {
    let folder = Folder(fresh_folder());
    let clock = Clock::manual("boot-1", Millis::from_secs(1000), UnixSeconds(NOW));
    let store = Store::open(&folder.0, &clock).unwrap();
    (folder, store.of_tenant(&Tenant::main()))
}

async fn ids(rows: &TenantStore, query: &'static str) -> Vec<String> {
    let read = rows.read(|door| {
        door.query(query, &[])?
            .iter()
            .map(|row| row.text(0).map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()
    });
    read.await.unwrap()
}

async fn due(rows: &TenantStore, now: u64) -> Vec<VoucherJob> {
    rows.read(move |door| jobs::due(door, "notice", Millis(now), 10)).await.unwrap()
}

#[tokio::test]
async fn a_notice_is_due_until_it_is_taken_and_tried_later_each_time() {
    let (_folder, rows) = rows_of_a_tenant();
    let add = |id: &'static str, kind: &'static str| {
        rows.write(move |door| add_voucher_job(door, (id, kind), ("v", "https://a"), "{}", UnixSeconds(NOW)))
    };
    add("one", "notice").await.unwrap();
    add("one", "notice").await.unwrap();
    add("two", "order").await.unwrap();
    assert_eq!(due(&rows, 0).await.len(), 1, "once, and of its kind");
    let again =
        |door: &crate::store::Door<'_>| jobs::again(door, "one", Millis(50), "http_500", UnixSeconds(NOW));
    rows.write(again).await.unwrap();
    assert!(due(&rows, 49).await.is_empty());
    let job = due(&rows, 50).await.remove(0);
    assert_eq!((job.tries, job.about.as_str(), job.target.as_str()), (1, "v", "https://a"));
    rows.write(|door| jobs::done(door, "one")).await.unwrap();
    assert!(due(&rows, u64::MAX).await.is_empty());
    assert!(rows.read(|door| jobs::about(door, "order", "v")).await.unwrap());
}

#[tokio::test]
async fn what_a_slow_receiver_is_told_waits_behind_what_others_are() {
    let (_folder, rows) = rows_of_a_tenant();
    let targets = ["https://slow:8443/a", "https://slow:8443/b", "https://other/a", ""];
    let fill = rows.write(move |door| {
        targets.iter().try_for_each(|target| {
            let id = format!("job {target}");
            add_voucher_job(door, (&id, "notice"), ("v", target), "{}", UnixSeconds(NOW))
        })
    });
    fill.await.unwrap();
    let place = jobs::place_of(targets[0]);
    assert_eq!((place, jobs::place_of("")), ("https://slow:8443", ""));
    let off = rows.write(move |door| jobs::put_off(door, "notice", place, Millis(10), Millis(50)));
    assert_eq!(off.await.unwrap(), 2);
    let left: Vec<String> = due(&rows, 49).await.into_iter().map(|job| job.target).collect();
    assert_eq!(left, ["", "https://other/a"]);
    let off = rows.write(|door| jobs::put_off(door, "notice", "", Millis(10), Millis(50)));
    assert_eq!(off.await.unwrap(), 1, "the configured address alone");
    assert!(due(&rows, 50).await.iter().all(|job| job.tries == 0));
}

#[tokio::test]
async fn what_a_failed_order_has_reserved_comes_back_once_and_to_no_later_hour() {
    let folder = Folder(fresh_folder());
    let clock = Clock::manual("boot-1", Millis::from_secs(7200), UnixSeconds(NOW));
    let store = Store::open(&folder.0, &clock).unwrap();
    let (book, tenant) = (VoucherBook::new(store.clone()), Tenant::main());
    let config = Arc::new(Config::from_uci("config venue 'guest'\n\tlist device 'br-guest'\n").unwrap().0);
    let make = async || {
        let batch = NewBatch {
            id: BatchId::random().unwrap(),
            venue: "guest".to_owned(),
            product: String::new(),
            owner: String::new(),
            worth: CodeWorth::Sats(10),
            face: Sats(10),
            funding: Funding::Treasury,
            state: VoucherState::Minting,
            note: String::new(),
            created_by: "anna".to_owned(),
            request_id: String::new(),
            expires_at: UnixSeconds(NOW + 999),
        };
        let (label, notify) = Default::default();
        let code = VoucherCode::random().unwrap();
        let ticket = NewTicket { id: TicketId::random().unwrap(), code, label, notify };
        let id = batch.id;
        let added = book.add((&tenant, config.clone()), batch, vec![ticket], store.now(), None);
        assert!(added.await.unwrap().is_ok());
        id
    };
    let spent = async |window: &'static str| {
        let (rows, now) = (book.of(&tenant), store.now());
        rows.read(move |door| limits::spent(door, EVERYBODY, window, now)).await.unwrap()
    };
    let (first, _) = (make().await, make().await);
    for _ in 0..2 {
        store.drop_planned(&tenant, &first.to_string(), "mint_refused").await.unwrap();
        assert_eq!(spent("hour").await, 10, "what the other order has reserved stays");
    }
    let second = make().await;
    clock.advance(Millis::from_secs(3600));
    make().await;
    store.drop_planned(&tenant, &second.to_string(), "mint_refused").await.unwrap();
    assert_eq!((spent("hour").await, spent("day").await), (10, 20));
}

#[tokio::test]
async fn a_clock_that_is_wrong_for_a_moment_ends_no_voucher() {
    let folder = Folder(fresh_folder());
    let clock = Clock::manual("boot-1", Millis::from_secs(7200), UnixSeconds(NOW + 100_000_000));
    let store = Store::open(&folder.0, &clock).unwrap();
    let (book, tenant) = (VoucherBook::new(store.clone()), Tenant::main());
    let rows = book.of(&tenant);
    let fill = rows.write(|door| {
        door.execute(
            "INSERT INTO vouchers (tenant, id, batch, position, hash, sealed, key_no, venue, product, owner, unit, amount, face_sat,
                 funding, state, note, label, notify, created_by, created_at, changed_at, expires_at)
             VALUES ($1, '00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002', 0, 'h', 'code', 1,
                 'guest', '', '', 'sats', 1, 1, 'none', 'ready', '', '', '', '', 0, 0, $2)",
            &[UnixSeconds(NOW + 1000).into()],
        )
    });
    fill.await.unwrap();
    let kept = "SELECT state FROM vouchers WHERE tenant = $1 AND sealed = 'code'";
    book.expire(&tenant).await.unwrap();
    clock.set_wall(UnixSeconds(NOW));
    for _ in 0..2 {
        book.expire(&tenant).await.unwrap();
        clock.advance(Millis::from_secs(700));
    }
    assert_eq!(ids(&rows, kept).await, ["ready"]);
    book.expire(&tenant).await.unwrap();
    assert!(ids(&rows, kept).await.is_empty(), "now its time is over");
}

#[tokio::test]
async fn what_waits_and_what_was_given_up_is_bounded() {
    let (_folder, rows) = rows_of_a_tenant();
    let fill = rows.write(|door| {
        (0..5150u64).try_for_each(|number| {
            let id = format!("{number:05}");
            add_voucher_job(door, (&id, "notice"), (&id, ""), "{}", UnixSeconds(NOW + number))
        })
    });
    fill.await.unwrap();
    let bound = |door: &crate::store::Door<'_>| jobs::bound(door, "notice", UnixSeconds(NOW));
    assert_eq!(rows.read(|door| jobs::waiting(door, "notice")).await.unwrap(), 5150);
    assert_eq!(rows.write(bound).await.unwrap(), 150);
    assert_eq!(rows.write(bound).await.unwrap(), 0);
    let oldest = "SELECT MIN(id) FROM voucher_jobs WHERE tenant = $1 AND state = 'open'";
    assert_eq!(ids(&rows, oldest).await, ["00150"]);
    let dead = "SELECT id FROM voucher_jobs WHERE tenant = $1 AND state = 'dead'";
    assert_eq!(ids(&rows, dead).await.len(), 100);
}

#[tokio::test]
async fn an_order_is_forgotten_after_its_vouchers_and_its_notices() {
    let (_folder, rows) = rows_of_a_tenant();
    let fill = rows.write(|door| {
        let at = |id: &str| Datum::from(if id.starts_with("new") { NOW } else { 5 });
        for id in ["old", "new", "with vouchers", "with a new notice"] {
            door.execute(
                "INSERT INTO voucher_orders (tenant, id, fingerprint, batch, made_at) VALUES ($1, $2, '', $2, $3)",
                &[id.into(), at(id)],
            )?;
        }
        for (id, order) in [("old", "old"), ("old 2", "with vouchers"), ("new 3", "with a new notice")] {
            door.execute(
                "INSERT INTO webhook_events (tenant, id, fingerprint, order_id, batch, answer, processed_at)
                 VALUES ($1, $2, '', $3, $3, '', $4)",
                &[id.into(), order.into(), at(id)],
            )?;
        }
        door.execute(
            "INSERT INTO vouchers (tenant, id, batch, position, hash, key_no, venue, product, owner, unit, amount, face_sat,
                 funding, state, note, label, notify, created_by, created_at, changed_at, expires_at)
             VALUES ($1, 'v', 'with vouchers', 0, 'h', 1, 'guest', '', '', 'sats', 1, 1, 'none', 'ready', '', '', '', '',
                     0, 0, 0)",
            &[],
        )
    });
    fill.await.unwrap();
    while rows.write(|door| rows::forget_orders(door, OLD)).await.unwrap() > 0 {}
    let orders = "SELECT id FROM voucher_orders WHERE tenant = $1 ORDER BY id";
    assert_eq!(ids(&rows, orders).await, ["new", "with a new notice", "with vouchers"]);
    let events = "SELECT id FROM webhook_events WHERE tenant = $1 ORDER BY id";
    assert_eq!(ids(&rows, events).await, ["new 3", "old 2"]);
}
