use super::*;

const KIB: usize = 1024;

fn holder(number: u8) -> ConnectionHolder {
    ConnectionHolder::Mac(format!("02:00:00:00:00:{number:02x}").parse().unwrap())
}

/// 64 KiB, of which strangers may have 48; station 9 is a customer.
fn crowd() -> Crowd {
    let budget = Budget { bytes: 64 * KIB, connections: 100 };
    Crowd::new(budget, Arc::default(), || vec!["02:00:00:00:00:09".parse().unwrap()])
}

fn admit(crowd: &Crowd, number: u8, kib: usize) -> Option<Arc<ConnectionPlace>> {
    crowd.admit(holder(number), 64, kib * KIB).map(Arc::new)
}

fn is_open(place: &ConnectionPlace) -> bool {
    place.shared.table().seat(place.holder, place.number).is_some()
}

fn count(crowd: &Crowd) -> usize {
    crowd.0.table().count()
}

fn bytes(crowd: &Crowd) -> usize {
    crowd.0.table().bytes / KIB
}

#[test]
fn the_oldest_idle_connection_of_who_holds_the_most_makes_room() {
    let crowd = crowd();
    let few: Vec<_> = (0..2).filter_map(|_| admit(&crowd, 1, 8)).collect();
    let many: Vec<_> = (0..4).filter_map(|_| admit(&crowd, 2, 8)).collect();
    many[0].begin();
    many[1].end();
    let newcomer = admit(&crowd, 3, 8).unwrap();
    assert!(is_open(&newcomer) && few.iter().all(|place| is_open(place)));
    let open: Vec<_> = many.iter().map(|place| is_open(place)).collect();
    assert_eq!(open, [true, true, false, true], "the first is busy, the second spoke last");
    assert_eq!((bytes(&crowd), count(&crowd)), (48, 6));
}

#[test]
fn customers_find_room_where_strangers_have_theirs_and_the_other_way_round() {
    let crowd = crowd();
    let strangers: Vec<_> = (0..12).filter_map(|number| admit(&crowd, 10 + number, 4)).collect();
    let customers: Vec<_> = (0..4).filter_map(|_| admit(&crowd, 9, 4)).collect();
    assert!(strangers.iter().chain(&customers).all(|place| is_open(place)), "the part for customers");
    let more: Vec<_> = (0..8).filter_map(|_| admit(&crowd, 9, 4)).collect();
    assert!(customers.iter().chain(&more).all(|place| is_open(place)));
    assert_eq!(strangers.iter().filter(|place| is_open(place)).count(), 4);
    let late = admit(&crowd, 30, 4).unwrap();
    assert!(is_open(&late) && bytes(&crowd) == 64);
    assert_eq!(strangers.iter().filter(|place| is_open(place)).count(), 4, "guaranteed to strangers");
}

#[test]
fn who_is_being_answered_goes_last() {
    let crowd = crowd();
    let busy: Vec<_> = (0..12).filter_map(|number| admit(&crowd, number / 6, 4)).collect();
    busy.iter().for_each(|place| place.begin());
    assert!(admit(&crowd, 3, 4).is_some());
    assert_eq!(busy.iter().filter(|place| is_open(place)).count(), 11);
    assert!(admit(&crowd, 3, 49).is_none(), "more than there is for anybody");
}

#[test]
fn a_station_has_as_many_as_it_may_and_its_own_oldest_goes() {
    let crowd = crowd();
    let first = crowd.admit(holder(1), 2, KIB).unwrap();
    let second = crowd.admit(holder(1), 2, KIB).unwrap();
    let third = crowd.admit(holder(1), 2, KIB).unwrap();
    assert!(!is_open(&first) && is_open(&second) && is_open(&third));
    second.begin();
    third.begin();
    assert!(crowd.admit(holder(1), 2, KIB).is_none() && crowd.admit(holder(2), 2, KIB).is_some());
}

#[tokio::test]
async fn what_was_only_just_opened_is_waited_for_a_little() {
    let crowd = crowd();
    let first = crowd.admit(holder(1), 2, KIB).unwrap();
    assert!(crowd.has_to_wait(holder(1), 2).is_none());
    let second = crowd.admit(holder(1), 2, KIB).unwrap();
    let waiting: Vec<_> = (0..MOST_WAITING + 5).filter_map(|_| crowd.has_to_wait(holder(1), 2)).collect();
    assert_eq!(waiting.len(), MOST_WAITING);
    drop(waiting);
    second.begin();
    second.end();
    assert!(crowd.has_to_wait(holder(1), 2).is_none());
    let third = crowd.admit(holder(1), 2, KIB).unwrap();
    assert!(is_open(&first) && !is_open(&second), "the one that was answered goes");
    third.begin();
    assert!(crowd.has_to_wait(holder(1), 2).is_some());
    crowd.calm(holder(1), 2).await;
    assert!(crowd.has_to_wait(holder(1), 2).is_none(), "nothing has come on the first");
}

#[test]
fn what_is_held_counts_until_it_is_dropped() {
    let crowd = crowd();
    let place = admit(&crowd, 1, 4).unwrap();
    let mut body = place.hold(8 * KIB).unwrap();
    assert!(body.grow(8 * KIB) && !body.grow(40 * KIB) && bytes(&crowd) == 20);
    assert!(place.costs(24 * KIB) && bytes(&crowd) == 40);
    let other = admit(&crowd, 2, 8).unwrap();
    let newcomer = admit(&crowd, 3, 8).unwrap();
    assert!(!is_open(&place) && is_open(&other) && is_open(&newcomer));
    assert!(!body.grow(1) && place.hold(1).is_none() && !place.costs(1));
    drop((body, place));
    assert_eq!(bytes(&crowd), 16);
    drop((other, newcomer));
    assert_eq!((bytes(&crowd), count(&crowd)), (0, 0));
}

#[test]
fn the_number_of_connections_is_limited_too() {
    let crowd = Crowd::new(Budget { bytes: 1 << 20, connections: 3 }, Arc::default(), Vec::new);
    let all: Vec<_> = [1, 2, 2, 3].into_iter().filter_map(|number| admit(&crowd, number, 1)).collect();
    let open: Vec<_> = all.iter().map(|place| is_open(place)).collect();
    assert_eq!(open, [true, false, true, true]);
    crowd.close_one();
    assert_eq!(count(&crowd), 2);
}

#[test]
fn the_machines_memory_is_read_where_it_is_known() {
    assert_eq!(total_memory("MemTotal:          58964 kB\nMemFree: 1 kB\n"), Some(58964 * KIB));
    assert_eq!(total_memory("MemFree: 1 kB\n"), None);
    let budget = Budget::of_this_machine();
    assert!((LEAST_BUDGET..=MOST_BUDGET).contains(&budget.bytes) && budget.connections >= 128);
}
