use super::*;
use crate::clock::BootId;

const START: UnixSeconds = UnixSeconds(1_800_000_000);

fn boot(dir: &Path, clock: &Clock) -> Store {
    Store::open_with(dir, clock, &TRIAL).unwrap()
}

async fn grant(store: &Store, ends: Millis) {
    store
        .write(move |tx| {
            tx.execute("INSERT INTO payment (reference, sats, ends_ms) VALUES ('g', 1, ?1)", [ends])?;
            tx.execute("INSERT INTO payment (reference, sats) VALUES ('no end', 1)", [])?;
            Ok(())
        })
        .await
        .unwrap();
}

async fn ends(store: &Store) -> Millis {
    store
        .read(|tx| {
            Ok(tx.query_row("SELECT ends_ms FROM payment WHERE reference = 'g'", [], |row| row.get(0))?)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_deadline_stands_still_when_only_the_daemon_restarts() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::from_secs(100), START);
    let store = boot(dir.path(), &clock);
    grant(&store, Millis::from_secs(700)).await;
    store.close().await;
    clock.advance(Millis::from_secs(300));
    let store = boot(dir.path(), &clock);
    assert_eq!(ends(&store).await, Millis::from_secs(700));
    assert_eq!(store.commits(), 0);
}

#[tokio::test]
async fn after_a_reboot_a_deadline_is_as_far_ahead_as_when_the_time_was_last_noted() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::from_secs(100), START);
    let store = boot(dir.path(), &clock);
    grant(&store, Millis::from_secs(700)).await;
    clock.advance(Millis::from_secs(200));
    store.checkpoint();
    clock.advance(Millis::from_secs(59)); // lost, in the guest's favour
    store.close().await;

    let clock = Clock::manual("boot-2", Millis::from_secs(20), START);
    let store = boot(dir.path(), &clock);
    assert_eq!(ends(&store).await, Millis::from_secs(20 + 400));
    assert_eq!(store.last_seen().boot, BootId("boot-1".into()));
    assert_eq!(store.last_seen().monotonic, Millis::from_secs(300));
    store.close().await;

    let store = boot(dir.path(), &clock);
    assert_eq!(ends(&store).await, Millis::from_secs(20 + 400), "carried over once");
}

#[tokio::test]
async fn a_deadline_that_was_past_stays_past() {
    let dir = Scratch::new();
    let store = boot(dir.path(), &Clock::manual("boot-1", Millis::from_secs(1000), START));
    grant(&store, Millis::from_secs(700)).await;
    store.close().await;
    let clock = Clock::manual("boot-2", Millis::from_secs(20), START);
    assert_eq!(ends(&boot(dir.path(), &clock)).await, Millis::ZERO);
}

#[tokio::test]
async fn a_clock_that_went_back_is_another_boot_whatever_its_name() {
    let dir = Scratch::new();
    let store = boot(dir.path(), &Clock::manual("same", Millis::from_secs(1000), START));
    grant(&store, Millis::from_secs(1600)).await;
    store.close().await;
    let store = boot(dir.path(), &Clock::manual("same", Millis::from_secs(20), START));
    assert_eq!(ends(&store).await, Millis::from_secs(620));
}

#[tokio::test]
async fn the_time_is_noted_once_a_minute_however_often_it_is_asked() {
    let dir = Scratch::new();
    let clock = clock();
    let store = boot(dir.path(), &clock);
    for _ in 0..300 {
        clock.advance(Millis::from_secs(1));
        store.checkpoint();
    }
    references(&store).await.unwrap();
    assert_eq!(store.commits(), 5);
}

#[tokio::test]
async fn the_wall_clock_never_shows_less_than_was_noted_before_a_reboot() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    clock.advance(Millis::from_secs(60));
    store.checkpoint();
    store.close().await;
    let clock = Clock::manual("boot-2", Millis::ZERO, UnixSeconds(60));
    let store = boot(dir.path(), &clock);
    assert_eq!(store.wall(), UnixSeconds(START.0 + 60));
    clock.set_wall(UnixSeconds(START.0 + 3600));
    assert_eq!(store.wall(), UnixSeconds(START.0 + 3600));
}

#[tokio::test]
async fn a_new_router_that_boots_in_1970_shows_at_least_the_year_of_the_program() {
    let dir = Scratch::new();
    let store = boot(dir.path(), &Clock::manual("boot-1", Millis::ZERO, UnixSeconds(30)));
    assert!(store.wall() >= UnixSeconds(1_767_225_600));
}

#[tokio::test]
async fn a_short_jump_of_the_wall_clock_is_not_remembered() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    clock.advance(Millis::from_secs(61));
    clock.set_wall(UnixSeconds(START.0 + 1_000_000_000));
    store.checkpoint();
    clock.set_wall(UnixSeconds(START.0 + 62));
    for _ in 0..3 {
        clock.advance(Millis::from_secs(61));
        store.checkpoint();
    }
    assert_eq!(store.wall(), UnixSeconds(START.0 + 62 + 3 * 61));
}

#[tokio::test]
async fn a_jump_that_lasts_is_remembered() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, UnixSeconds(10));
    let store = boot(dir.path(), &clock);
    clock.set_wall(START); // NTP
    for _ in 0..2 {
        clock.advance(Millis::from_secs(61));
        store.checkpoint();
    }
    clock.set_wall(UnixSeconds(10));
    assert_eq!(store.wall(), UnixSeconds(START.0 + 122));
}
