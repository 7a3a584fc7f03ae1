//! Sessions of several venues, what they are worth, and how they move.

use super::*;
use crate::config::{Metric, MintUrl};
use crate::mac::MacAddr;
use crate::store::Reference;
use crate::store::{
    AccountKey, Moved, NewGrant, RequestId, SessionRow, TakeOver, Ticket, UsageRow, VenuePrice, Worth,
};
use crate::units::Msats;

const MINUTE: u64 = 60_000;
const KIB: u64 = 1024;

fn mac() -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, 1]).unwrap()
}

fn mint(name: &str) -> MintUrl {
    MintUrl::parse(&format!("https://{name}.example")).unwrap()
}

/// Steps of a KiB at a number of sats each.
fn hall(sats: u64) -> VenuePrice {
    VenuePrice {
        venue: "hall".to_owned(),
        metric: Metric::Bytes,
        step: Allotment(KIB),
        per_step: vec![(mint("a"), Sats(sats))],
        strangers: Vec::new(),
    }
}

async fn buy(store: &Store, venue: &str, metric: Metric, allotment: u64, sats: u64) -> SessionRow {
    let grant = NewGrant {
        reference: Reference::Operator(RequestId::random().unwrap()),
        mac: mac(),
        venue: venue.to_owned(),
        amount: Sats(sats).into(),
        metric,
        allotment: Allotment(allotment),
        value: Sats(sats).into(),
        mint: Some(mint("a")),
    };
    store.grant(grant).await.unwrap().into_row()
}

async fn minutes(store: &Store, minutes: u64, sats: u64) -> SessionRow {
    buy(store, "yard", Metric::Milliseconds, minutes * MINUTE, sats).await
}

async fn bring(store: &Store, ticket: &Ticket, price: VenuePrice) -> TakeOver {
    store.bring(&AccountKey::Ticket(ticket.clone()), mac(), price).await.unwrap()
}

/// Venue and what is left of it, by venue.
async fn left(store: &Store) -> Vec<(String, u64)> {
    let now = store.now();
    let rows = store.sessions_ending_after(now).await.unwrap();
    let mut left: Vec<_> = rows.into_iter().map(|row| (row.venue.clone(), row.remaining(now).0)).collect();
    left.sort();
    left
}

#[tokio::test]
async fn venues_and_metrics_do_not_add_to_each_other() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    minutes(&store, 10, 10).await;
    buy(&store, "hall", Metric::Milliseconds, MINUTE, 1).await;
    buy(&store, "hall", Metric::Bytes, KIB, 1).await;
    let sum = minutes(&store, 5, 5).await;
    assert_eq!((sum.venue.as_str(), sum.allotment), ("yard", Allotment(15 * MINUTE)));
    let expected = [("hall", KIB), ("hall", MINUTE), ("yard", 15 * MINUTE)];
    assert_eq!(left(&store).await, expected.map(|(venue, left)| (venue.to_owned(), left)));
    assert_eq!(store.revoke(mac(), Some("hall".to_owned())).await.unwrap().len(), 2);
    assert_eq!(left(&store).await, [("yard".to_owned(), 15 * MINUTE)]);
}

#[tokio::test]
async fn bytes_of_two_venues_are_counted_apart() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let yard = buy(&store, "yard", Metric::Bytes, 10 * KIB, 10).await;
    let hall = buy(&store, "hall", Metric::Bytes, 10 * KIB, 10).await;
    assert_eq!(yard.started, hall.started);
    let used = |row: &SessionRow, used| UsageRow {
        account: row.account,
        mac: row.mac,
        venue: row.venue.clone(),
        started: row.started,
        used: Allotment(used),
    };
    let ended = store.used(vec![used(&yard, 10 * KIB), used(&hall, KIB)]).await.unwrap();
    assert_eq!(ended.iter().map(|row| row.venue.as_str()).collect::<Vec<_>>(), ["yard"]);
    assert_eq!(left(&store).await, [("hall".to_owned(), 9 * KIB)]);
}

#[tokio::test]
async fn a_session_is_worth_what_was_paid_for_the_rest_of_it() {
    let dir = Scratch::new();
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    minutes(&store, 60, 60).await;
    clock.advance(Millis(59 * MINUTE));
    // The price has fallen; the minute that is left was paid at the old one.
    let worth = *minutes(&store, 60, 1).await.worth;
    assert_eq!(worth, Worth { value: Msats(2000), of: Allotment(61 * MINUTE), mint: Some(mint("a")) });
    clock.advance(Millis(61 * MINUTE));
    let worth = *minutes(&store, 60, 30).await.worth;
    assert_eq!(worth, Worth { value: Msats(30_000), of: Allotment(60 * MINUTE), mint: Some(mint("a")) });
}

#[tokio::test]
async fn what_is_left_moves_as_whole_steps_and_counts_as_no_sale() {
    let dir = Scratch::new();
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    let ticket = minutes(&store, 10, 20).await.ticket.unwrap();
    clock.advance(Millis(2 * MINUTE + 1));
    let TakeOver::Done(Moved { rows, .. }) = bring(&store, &ticket, hall(3)).await else { panic!() };
    assert_eq!(rows.len(), 2);
    // Less than 16 sat were left.
    assert_eq!(left(&store).await, [("hall".to_owned(), 5 * KIB)]);
    let there = rows.into_iter().find(|row| row.venue == "hall").unwrap();
    assert_eq!(*there.worth, Worth { value: Msats(15_000), of: Allotment(5 * KIB), mint: Some(mint("a")) });
    let sales = store.sales_since(UnixSeconds(0)).await.unwrap();
    assert_eq!((sales.count, sales.amounts), (1, vec![Sats(20).into()]));
    assert_eq!(
        bring(&store, &ticket, hall(3)).await,
        bring(&store, &ticket, hall(3)).await,
        "nothing is left"
    );
    assert_eq!(left(&store).await, [("hall".to_owned(), 5 * KIB)]);
}

#[tokio::test]
async fn what_was_given_away_or_is_too_little_stays() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let ticket = minutes(&store, 10, 10).await.ticket.unwrap();
    let before = left(&store).await;
    assert_eq!(bring(&store, &ticket, hall(11)).await, TakeOver::TooLittle);
    let unsold = VenuePrice { per_step: Vec::new(), ..hall(1) };
    assert_eq!(bring(&store, &ticket, unsold).await, TakeOver::TooLittle);
    assert_eq!(left(&store).await, before);
    store.revoke(mac(), None).await.unwrap();
    buy(&store, "yard", Metric::Milliseconds, MINUTE, 0).await;
    assert_eq!(bring(&store, &ticket, hall(1)).await, TakeOver::TooLittle);
    assert_eq!(left(&store).await, [("yard".to_owned(), MINUTE)]);
    // Beside something that runs here, what buys nothing is no reason to refuse.
    buy(&store, "hall", Metric::Bytes, KIB, 1).await;
    assert!(matches!(bring(&store, &ticket, hall(1)).await, TakeOver::Done(_)));
    assert_eq!(left(&store).await.len(), 2);
}

#[tokio::test]
async fn what_was_paid_at_another_tenants_venue_stays_there() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let ticket = minutes(&store, 10, 10).await.ticket.unwrap();
    let before = left(&store).await;
    let club = || VenuePrice { strangers: vec!["yard".to_owned()], ..hall(1) };
    assert_eq!(bring(&store, &ticket, club()).await, TakeOver::TooLittle);
    assert_eq!(left(&store).await, before);
    buy(&store, "bar", Metric::Bytes, 2 * KIB, 2).await;
    assert!(matches!(bring(&store, &ticket, club()).await, TakeOver::Done(_)));
    assert_eq!(left(&store).await, [("hall".to_owned(), 2 * KIB), ("yard".to_owned(), 10 * MINUTE)]);
}

#[tokio::test]
async fn of_fifty_moves_at_once_the_value_is_there_once() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let ticket = minutes(&store, 10, 10).await.ticket.unwrap();
    let venue = |number: u32| VenuePrice { venue: format!("venue{}", number % 5), ..hall(1) };
    let key = AccountKey::Ticket(ticket);
    let moves = (0..50).map(|number| store.bring(&key, mac(), venue(number)));
    futures_util::future::join_all(moves).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    let left = left(&store).await;
    assert_eq!(left.iter().map(|(_, left)| left).sum::<u64>(), 10 * KIB, "{left:?}");
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_void_ticket_moves_nothing() {
    let dir = Scratch::new();
    let store = Store::open(dir.path(), &clock()).unwrap();
    let ticket = minutes(&store, 10, 10).await.ticket.unwrap();
    store.renew_ticket(mac()).await.unwrap();
    assert_eq!(bring(&store, &ticket, hall(1)).await, TakeOver::Changed);
    assert_eq!(left(&store).await, [("yard".to_owned(), 10 * MINUTE)]);
}

#[tokio::test]
async fn after_a_power_cut_in_another_boot_what_moved_is_in_one_place() {
    let dir = Scratch::new();
    let clock = clock();
    let store = Store::open(dir.path(), &clock).unwrap();
    let ticket = minutes(&store, 10, 10).await.ticket.unwrap();
    // Nothing has noted the time since.
    clock.advance(Millis(MINUTE / 2));
    bring(&store, &ticket, hall(1)).await;
    let after = dir.as_after_power_cut();
    let rebooted = Clock::manual("boot-2", Millis::from_secs(5), UnixSeconds(1_800_000_100));
    let store = Store::open(after.path(), &rebooted).unwrap();
    assert_eq!(left(&store).await, [("hall".to_owned(), 9 * KIB)]);
}

#[tokio::test]
async fn sessions_of_an_earlier_version_keep_their_time_and_are_worth_what_was_paid() {
    static OLD: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(|| {
        let is_it = |step: &&str| step.contains("CREATE TABLE venue_sessions");
        let before = SCHEMA.steps.iter().position(is_it).unwrap();
        Schema { steps: &SCHEMA.steps[..before] }
    });
    let (dir, clock) = (Scratch::new(), clock());
    let old = Store::open_with(dir.path(), &clock, &OLD).unwrap();
    let now = old.now();
    old.write(move |tx| {
        tx.execute_batch(&format!(
            "INSERT INTO accounts (id, created_ms) VALUES (1, 0), (2, 0);
             INSERT INTO account_macs (mac, account) VALUES ('{}', 1), ('02:00:00:00:00:02', 2);
             INSERT INTO grants (reference, account, mac, venue, amount, allotment, granted_ms, wall, metric) VALUES
                 ('past', 1, '', 'yard', 99, 1, {now} - 9000, 1, 'milliseconds'),
                 ('one', 1, '', 'yard', 4, 400000, {now} - 1000, 1, 'milliseconds'),
                 ('two', 1, '', 'yard', 6, 200000, {now} - 500, 1, 'milliseconds'),
                 ('gift', 2, '', 'yard', 0, 5000, {now}, 1, 'bytes');
             INSERT INTO sessions (account, metric, mac, venue, allotment, used, started_ms, ends_ms, revision) VALUES
                 (1, 'milliseconds', '{}', 'yard', 600000, 0, {now} - 1000, {now} + 300000, 4),
                 (2, 'bytes', '02:00:00:00:00:02', 'yard', 5000, 7, {now}, {now} + 300000, 0);",
            mac(),
            mac(),
            now = now.0
        ))?;
        Ok(())
    })
    .await
    .unwrap();
    old.close().await;
    let store = Store::open(dir.path(), &clock).unwrap();
    let rows = store.sessions_ending_after(store.now()).await.unwrap();
    let [time, bytes] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((time.mac, time.remaining(store.now()), time.revision), (mac(), Allotment(300_000), 4));
    assert_eq!(*time.worth, Worth { value: Msats(10_000), of: Allotment(600_000), mint: None });
    assert_eq!((bytes.remaining(store.now()), bytes.worth.value), (Allotment(4993), Msats(0)));
    let ticket = store.renew_ticket(mac()).await.unwrap().unwrap();
    bring(&store, &ticket, hall(1)).await;
    assert!(left(&store).await.contains(&("hall".to_owned(), 5 * KIB)), "half of it is left");
}
