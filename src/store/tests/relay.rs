//! What a relay was called with: each router's own, in order, within bounds, until it is collected.

use super::*;
use crate::store::RelayPlace;

fn opened() -> (Scratch, Clock, Store) {
    let scratch = Scratch::new();
    let clock = Clock::manual("boot", Millis::from_secs(100), UnixSeconds(1_800_000_000));
    let store = Store::open(scratch.path(), &clock).unwrap();
    (scratch, clock, store)
}

async fn tokens(store: &Store, router: &str, after: i64) -> Vec<String> {
    store.events_after(router, after).await.unwrap().into_iter().map(|event| event.token).collect()
}

#[tokio::test]
async fn each_router_has_its_own_events_in_order_also_after_a_restart() {
    let (scratch, clock, store) = opened();
    for (router, token) in [("r1", "a"), ("r2", "b"), ("r1", "c")] {
        assert!(store.keep_event(router, token, "{}".to_owned()).await.unwrap());
    }
    store.close().await;
    let store = Store::open(scratch.path(), &clock).unwrap();
    assert_eq!(tokens(&store, "r1", 0).await, ["a", "c"]);
    assert_eq!(tokens(&store, "r2", 0).await, ["b"]);
    assert_eq!(tokens(&store, "r3", 0).await, [""; 0]);
    let first = store.events_after("r1", 0).await.unwrap()[0].seq;
    assert_eq!(tokens(&store, "r1", first).await, ["c"]);
    assert_eq!(store.newest_event().await.unwrap(), 3);
}

#[tokio::test]
async fn one_token_takes_no_room_of_others() {
    let (_scratch, _, store) = opened();
    for turn in 0..40 {
        assert_eq!(store.keep_event("r1", "a", String::new()).await.unwrap(), turn < 32, "{turn}");
    }
    assert!(store.keep_event("r1", "b", String::new()).await.unwrap());
    assert!(store.keep_event("r2", "a", String::new()).await.unwrap());
}

#[tokio::test]
async fn what_is_collected_makes_room_and_goes_after_two_days_and_what_is_not_after_a_week() {
    let (_scratch, clock, store) = opened();
    store.keep_event("r1", "a", String::new()).await.unwrap();
    store.keep_event("r1", "b", String::new()).await.unwrap();
    let first = store.events_after("r1", 0).await.unwrap()[0].seq;
    store.events_after("r1", first).await.unwrap();
    clock.advance(Millis::from_secs(47 * 3600));
    store.forget_events().await.unwrap();
    assert_eq!(tokens(&store, "r1", 0).await, ["a", "b"]);
    clock.advance(Millis::from_secs(2 * 3600));
    store.forget_events().await.unwrap();
    assert_eq!(tokens(&store, "r1", 0).await, ["b"]);
    clock.advance(Millis::from_secs(6 * 86_400));
    store.forget_events().await.unwrap();
    assert_eq!(tokens(&store, "r1", 0).await, [""; 0]);
    store.keep_event("r1", "c", String::new()).await.unwrap();
    assert_eq!(store.events_after("r1", 0).await.unwrap()[0].seq, 3, "no number is used again");
}

#[tokio::test]
async fn a_router_keeps_its_place_at_the_relay_that_it_asks() {
    let (_scratch, _, store) = opened();
    let place = |id: &str, seq| RelayPlace { id: id.to_owned(), seq };
    assert_eq!(store.relay_cursor("https://a.example").await.unwrap(), RelayPlace::default());
    store.set_relay_cursor("https://a.example", &place("x", 7)).await.unwrap();
    store.set_relay_cursor("https://a.example", &place("y", 9)).await.unwrap();
    assert_eq!(store.relay_cursor("https://a.example").await.unwrap(), place("y", 9));
    store.set_relay_cursor("https://b.example", &place("x", 1)).await.unwrap();
    assert_eq!(store.relay_cursor("https://a.example").await.unwrap(), RelayPlace::default());
}

#[tokio::test]
async fn a_relay_has_one_id_for_good_and_another_one_has_another() {
    let (scratch, clock, store) = opened();
    let id = store.relay_id().await.unwrap();
    assert_eq!(store.relay_id().await.unwrap(), id);
    store.close().await;
    assert_eq!(Store::open(scratch.path(), &clock).unwrap().relay_id().await.unwrap(), id);
    let (_other, _, store) = opened();
    assert_ne!(store.relay_id().await.unwrap(), id);
}
