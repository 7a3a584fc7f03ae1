use super::*;
use crate::store::NewGrant;
use crate::store::Reference;
use crate::store::WallFault;

const START: UnixSeconds = UnixSeconds(1_800_000_000);

fn boot(dir: &Path, clock: &Clock) -> Store {
    Store::open_with(dir, clock, &TRIAL).unwrap()
}

#[tokio::test]
async fn service_time_goes_on_when_only_the_daemon_restarts() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::from_secs(100), START);
    let store = boot(dir.path(), &clock);
    let before = store.now();
    store.close().await;
    clock.advance(Millis::from_secs(300));
    let store = boot(dir.path(), &clock);
    assert_eq!(store.now(), before.saturating_add(Millis::from_secs(300)));
    assert_eq!(store.commits(), 0);
}

#[tokio::test]
async fn after_a_reboot_service_time_goes_on_where_it_was_last_noted() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::from_secs(100), START);
    let store = boot(dir.path(), &clock);
    let before = store.now();
    clock.advance(Millis::from_secs(200));
    store.checkpoint(true, &[]);
    clock.advance(Millis::from_secs(59)); // lost, in the guest's favour
    store.close().await;

    let clock = Clock::manual("boot-2", Millis::from_secs(20), START);
    let store = boot(dir.path(), &clock);
    assert_eq!(store.now(), before.saturating_add(Millis::from_secs(200)));
    store.close().await;

    clock.advance(Millis::from_secs(5));
    let store = boot(dir.path(), &clock);
    assert_eq!(store.now(), before.saturating_add(Millis::from_secs(205)), "the new boot counts too");
}

#[tokio::test]
async fn a_revoked_session_does_not_come_back_with_a_reboot() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::from_secs(100), START);
    let store = Store::open(dir.path(), &clock).unwrap();
    let mac: crate::mac::MacAddr = "02:00:00:00:00:11".parse().unwrap();
    let (reference, venue) = (Reference::read("paid"), "guest".to_owned());
    let (metric, allotment) = (crate::config::Metric::Milliseconds, Allotment(600_000));
    let granted = store
        .grant(NewGrant {
            reference,
            mac,
            venue,
            amount: Sats(1).into(),
            metric,
            allotment,
            value: Sats(1).into(),
            mint: None,
        })
        .await
        .unwrap();
    assert_eq!(granted.mac, mac);
    clock.advance(Millis::from_secs(30));
    assert_eq!(store.revoke(mac, None).await.unwrap().len(), 1);
    store.close().await;

    let store = Store::open(dir.path(), &Clock::manual("boot-2", Millis::from_secs(20), START)).unwrap();
    assert_eq!(store.sessions_ending_after(store.now()).await.unwrap(), []);
}

#[tokio::test]
async fn a_clock_that_went_back_is_another_boot_whatever_its_name() {
    let dir = Scratch::new();
    let store = boot(dir.path(), &Clock::manual("same", Millis::from_secs(1000), START));
    let before = store.now();
    store.close().await;
    let store = boot(dir.path(), &Clock::manual("same", Millis::from_secs(20), START));
    assert_eq!(store.now(), before);
}

#[tokio::test]
async fn the_wall_clock_does_not_move_service_time() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, UnixSeconds(10));
    let store = boot(dir.path(), &clock);
    let before = store.now();
    clock.set_wall(START);
    assert_eq!(store.now(), before);
}

#[tokio::test]
async fn an_idle_router_notes_the_time_once_an_hour() {
    let dir = Scratch::new();
    let clock = clock();
    let store = boot(dir.path(), &clock);
    let mut noted = 0;
    for _ in 0..120 {
        clock.advance(Millis::from_secs(60));
        noted += usize::from(store.checkpoint(false, &[]));
    }
    references(&store).await.unwrap();
    assert_eq!(noted, 2);
    assert!((1..=noted).contains(&store.commits()));
}

#[tokio::test]
async fn the_time_is_noted_once_a_minute_however_often_it_is_asked() {
    let dir = Scratch::new();
    let clock = clock();
    let store = boot(dir.path(), &clock);
    let mut noted = 0;
    for _ in 0..300 {
        clock.advance(Millis::from_secs(1));
        noted += usize::from(store.checkpoint(true, &[]));
    }
    references(&store).await.unwrap();
    assert_eq!(noted, 5);
    assert!((1..=noted).contains(&store.commits()));
}

#[tokio::test]
async fn the_wall_clock_never_shows_less_than_was_noted_before_a_reboot() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    clock.advance(Millis::from_secs(240));
    store.checkpoint(true, &[]);
    store.close().await;
    let clock = Clock::manual("boot-2", Millis::ZERO, UnixSeconds(60));
    let store = boot(dir.path(), &clock);
    assert_eq!(store.wall(), UnixSeconds(START.0 + 240));
    clock.set_wall(UnixSeconds(START.0 + 3600));
    assert_eq!(store.wall(), UnixSeconds(START.0 + 3600));
}

#[tokio::test]
async fn a_new_router_that_boots_in_1970_shows_at_least_the_year_of_the_program() {
    let dir = Scratch::new();
    let store = boot(dir.path(), &Clock::manual("boot-1", Millis::ZERO, UnixSeconds(30)));
    assert!(store.wall() >= UnixSeconds(1_735_689_600));
}

#[tokio::test]
async fn a_short_jump_of_the_wall_clock_is_not_remembered() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    clock.advance(Millis::from_secs(61));
    clock.set_wall(UnixSeconds(START.0 + 1_000_000_000));
    store.checkpoint(true, &[]);
    clock.set_wall(UnixSeconds(START.0 + 62));
    for _ in 0..3 {
        clock.advance(Millis::from_secs(61));
        store.checkpoint(true, &[]);
    }
    assert_eq!(store.wall(), UnixSeconds(START.0 + 62 + 3 * 61));
}

#[tokio::test]
async fn a_clock_that_was_ahead_is_believed_again_once_somebody_says_that_it_is_right() {
    const AHEAD: UnixSeconds = UnixSeconds(START.0 + 200_000_000);
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, AHEAD);
    let store = boot(dir.path(), &clock);
    for _ in 0..4 {
        clock.advance(Millis::from_secs(61));
        store.checkpoint(true, &[]);
    }
    let (noted, before) = (UnixSeconds(AHEAD.0 + 244), store.now());
    clock.set_wall(START);
    assert_eq!(store.wall_fault(), Some(WallFault::SetBack { shown: START, noted }));
    clock.set_wall(UnixSeconds(60));
    assert_eq!(store.accept_wall().await.unwrap(), Err(WallFault::NeverSet));
    assert_eq!(store.wall(), noted);
    clock.set_wall(START);
    assert_eq!(store.accept_wall().await.unwrap(), Ok(START));
    assert_eq!((store.wall_fault(), store.now()), (None, before));
    clock.advance(Millis::from_secs(61));
    store.checkpoint(true, &[]);
    store.close().await;
    let store = boot(dir.path(), &Clock::manual("boot-2", Millis::ZERO, UnixSeconds(60)));
    let noted = store.wall();
    assert!((START.0..START.0 + 62).contains(&noted.0), "{noted:?}");
}

#[tokio::test]
async fn by_a_clock_that_has_jumped_nothing_ends_for_good_before_four_minutes() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    let after = |minutes: u64| UnixSeconds(START.0 + 60 * minutes);
    clock.advance(Millis::from_secs(239));
    assert!(store.lasting_wall() < START, "after a start it is not known yet");
    clock.advance(Millis::from_secs(1));
    assert_eq!(store.lasting_wall(), after(4));
    clock.set_wall(UnixSeconds(START.0 + 1_000_000_000));
    assert_eq!(store.lasting_wall(), after(4));
    clock.advance(Millis::from_secs(200));
    assert!(store.lasting_wall() == after(4) && store.wall() > after(1_000_000));
    clock.set_wall(after(8)); // NTP
    assert_eq!(store.lasting_wall(), after(4));
    clock.advance(Millis::from_secs(240));
    assert_eq!(store.lasting_wall(), after(12));
    clock.set_wall(UnixSeconds(30));
    store.checkpoint(true, &[]);
    clock.advance(Millis::from_secs(3600));
    assert_eq!(store.lasting_wall(), after(12), "nor does it go back");
}

#[tokio::test]
async fn by_a_leap_of_a_month_nothing_ends_for_good_before_it_has_lasted_a_day() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    let hour = |store: &Store| {
        clock.advance(Millis::from_secs(3600));
        store.checkpoint(true, &[]);
    };
    hour(&store);
    let (noted, leapt) = (UnixSeconds(START.0 + 3600), UnixSeconds(START.0 + 200_000_000));
    clock.set_wall(leapt);
    assert_eq!((store.wall(), store.lasting_wall()), (leapt, noted));
    (0..23).for_each(|_| hour(&store));
    assert_eq!(store.lasting_wall(), noted);
    clock.set_wall(UnixSeconds(START.0 + 90_000));
    assert_eq!((store.wall_fault(), store.lasting_wall()), (None, noted));
    hour(&store);
    assert_eq!(store.lasting_wall(), UnixSeconds(START.0 + 93_600));
    clock.set_wall(leapt);
    assert!(store.lasting_wall() < leapt);
    (0..24).for_each(|_| hour(&store));
    assert_eq!(store.lasting_wall(), UnixSeconds(leapt.0 + 86_400));
}

#[tokio::test]
async fn months_that_have_passed_are_no_leap() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, START);
    let store = boot(dir.path(), &clock);
    clock.advance(Millis::from_secs(240));
    store.checkpoint(true, &[]);
    clock.advance(Millis::from_secs(100 * 86_400));
    assert_eq!(store.lasting_wall(), clock.wall());
}

#[tokio::test]
async fn a_leap_that_is_right_is_taken_at_once_where_somebody_says_so() {
    let dir = Scratch::new();
    let store = boot(dir.path(), &Clock::manual("boot-1", Millis::ZERO, START));
    assert_eq!(store.accept_wall().await.unwrap(), Ok(START));
    store.close().await;
    let later = UnixSeconds(START.0 + 100 * 86_400);
    let store = boot(dir.path(), &Clock::manual("boot-2", Millis::ZERO, later));
    assert_eq!(store.lasting_wall(), START);
    assert_eq!(store.accept_wall().await.unwrap(), Ok(later));
    assert_eq!(store.lasting_wall(), later);
}

#[tokio::test]
async fn a_jump_that_lasts_is_remembered() {
    let dir = Scratch::new();
    let clock = Clock::manual("boot-1", Millis::ZERO, UnixSeconds(10));
    let store = boot(dir.path(), &clock);
    clock.set_wall(START); // NTP
    for _ in 0..2 {
        clock.advance(Millis::from_secs(240));
        store.checkpoint(true, &[]);
    }
    clock.set_wall(UnixSeconds(10));
    assert_eq!(store.wall(), UnixSeconds(START.0 + 480));
}
