//! Two venues: what is sold at one opens nothing at the other, and moves there by the ticket as its value.

use super::*;
use crate::config::MintUrl;
use crate::store::{RequestId, VenuePrice};

/// As `start`, with three venues.
async fn start(dir: &Scratch, clock: &Clock, gate: &RecordingGate) -> Access {
    let store = Store::open(&dir.0, clock).unwrap();
    let venue = |name: &str| GatedVenue { name: name.to_owned(), ..GatedVenue::default() };
    let plan = Plan { venues: vec![venue("yard"), venue("hall"), venue("roof")], ..Plan::default() };
    Access::start(store, clock.clone(), Box::new(gate.clone()), plan).await.unwrap()
}

/// A venue that sells steps of time for a sat each.
pub fn shown_at(venue: &str, step: Millis) -> ShownAt {
    let mint = MintUrl::parse("https://mint.example").unwrap();
    let price = VenuePrice {
        venue: venue.to_owned(),
        metric: Metric::Milliseconds,
        step: step.into(),
        per_step: vec![(mint, Sats(1))],
        strangers: Vec::new(),
    };
    ShownAt { price, is_wish: true }
}

/// One that sells 1,000 bytes for `sats`.
fn by_bytes(venue: &str, sats: u64) -> ShownAt {
    let mut at = shown_at(venue, MINUTE);
    at.price.metric = Metric::Bytes;
    at.price.step = Allotment(1000);
    at.price.per_step[0].1 = Sats(sats);
    at
}

/// Minutes for a sat each that this guest has paid in the yard; the ticket that the first payment made.
async fn minutes(access: &Access, guest: &Caller, minutes: u64) -> String {
    pay_in_the_yard(access, guest, Metric::Milliseconds, Allotment(MINUTE.0 * minutes), minutes).await
}

async fn pay_in_the_yard(
    access: &Access,
    guest: &Caller,
    metric: Metric,
    allotment: Allotment,
    sats: u64,
) -> String {
    let grant = NewGrant {
        reference: Reference::Operator(RequestId::random().unwrap()),
        mac: guest.mac,
        venue: "yard".to_owned(),
        amount: Sats(sats).into(),
        metric,
        allotment,
        value: Sats(sats).into(),
        mint: None,
    };
    let row = access.store.grant(grant).await.unwrap();
    access.admit(row).await;
    access.ticket(guest.mac).unwrap().to_string()
}

async fn show(access: &Access, guest: &Caller, at: ShownAt, ticket: &str) -> Result<TakenOver, TicketError> {
    access.take_over(guest, place(at), ticket, |_| ()).await
}

fn at(last: u8, venue: &str) -> Station {
    Station { mac: guest(last).mac, venue: venue.to_owned() }
}

#[tokio::test]
async fn a_session_opens_its_own_venue_and_nothing_else() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    minutes(&access, &guest(1), 10).await;
    let mac = guest(1).mac;
    assert_eq!(gate.leases_at("yard"), [(mac, Millis(10 * MINUTE.0))].into());
    assert!(gate.leases_at("hall").is_empty() && access.session(mac, "hall").is_none());
    assert!(access.session(mac, "yard").unwrap().is_running() && access.is_customer(mac));
    access.grant(mac, "hall", Metric::Milliseconds, MINUTE.into()).await.unwrap();
    assert_eq!(access.session(mac, "hall").unwrap().remaining, MINUTE.into());
    assert_eq!(access.session(mac, "yard").unwrap().remaining, Allotment(10 * MINUTE.0), "nothing is added");
    assert_eq!((gate.leases_at("hall").len(), access.running().len()), (1, 2));
}

#[tokio::test]
async fn one_venue_can_be_revoked_alone() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    for venue in ["yard", "hall"] {
        access.grant(mac(), venue, Metric::Milliseconds, MINUTE.into()).await.unwrap();
    }
    assert_eq!(access.revoke(mac(), Some("hall")).await.unwrap(), ["hall"]);
    assert_eq!(gate.stations_closed(), [Station { mac: mac(), venue: "hall".to_owned() }]);
    assert_eq!(access.running().len(), 1);
    access.grant(mac(), "hall", Metric::Milliseconds, MINUTE.into()).await.unwrap();
    assert_eq!(access.revoke(mac(), None).await.unwrap().len(), 2);
    assert!(access.running().is_empty());
}

#[tokio::test]
async fn the_ticket_moves_the_value_of_what_is_left_and_nothing_twice() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    clock.advance(Millis(5 * MINUTE.0 / 2));
    // 7.5 sat are left: three steps of 2 sat.
    let taken = show(&access, &guest(1), by_bytes("hall", 2), &ticket).await.unwrap();
    let session = taken.session.unwrap();
    assert_eq!(
        (taken.detached, session.venue.as_str(), session.remaining),
        (vec![], "hall", Allotment(3000))
    );
    assert_eq!(gate.stations_closed(), [at(1, "yard")]);
    assert_eq!((gate.leases_at("yard").len(), gate.leases_at("hall").len()), (0, 1));
    assert!(!access.session(guest(1).mac, "yard").unwrap().is_running());
    let again = show(&access, &guest(1), by_bytes("hall", 2), &ticket).await.unwrap();
    assert_eq!(again.session.unwrap().remaining, Allotment(3000));
    let back = show(&access, &guest(1), shown_at("yard", MINUTE), &ticket).await.unwrap();
    assert_eq!(back.session.unwrap().remaining, Allotment(6 * MINUTE.0));
    assert_eq!((gate.leases_at("hall").len(), access.running().len()), (0, 1));
}

#[tokio::test]
async fn bytes_that_pass_right_before_a_move_are_not_valued_again() {
    for (shower, from) in [(1, vec![]), (2, vec![guest(1).mac])] {
        let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
        let access = start(&dir, &clock, &gate).await;
        let ticket = pay_in_the_yard(&access, &guest(1), Metric::Bytes, Allotment(10_000), 10).await;
        gate.pass(guest(1).mac, 6500);
        // 3.5 sat are left, whether or not the gate was looked at since.
        let taken = show(&access, &guest(shower), by_bytes("hall", 1), &ticket).await.unwrap();
        assert_eq!((taken.detached, taken.session.unwrap().remaining), (from, Allotment(3000)));
    }
}

#[tokio::test]
async fn who_has_used_everything_right_before_a_move_moves_nothing() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = pay_in_the_yard(&access, &guest(1), Metric::Bytes, Allotment(10_000), 10).await;
    gate.pass(guest(1).mac, 10_000);
    let taken = show(&access, &guest(1), by_bytes("hall", 1), &ticket).await.unwrap();
    assert_eq!((taken.session, access.running()), (None, vec![]));
    assert!(gate.leases_at("hall").is_empty() && gate.stations_closed().contains(&at(1, "yard")));
}

#[tokio::test]
async fn what_buys_no_step_stays_where_it_is() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    for shower in [1, 2] {
        let refused = show(&access, &guest(shower), by_bytes("hall", 11), &ticket).await;
        assert!(matches!(refused, Err(TicketError::TooLittle)));
    }
    assert_eq!((gate.closed(), gate.leases_at("yard").len()), (vec![], 1));
    assert_eq!(access.session(guest(1).mac, "yard").unwrap().remaining, Allotment(10 * MINUTE.0));
}

#[tokio::test]
async fn a_changed_mac_at_another_venue_gets_the_value_there() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    let taken = show(&access, &guest(2), by_bytes("hall", 3), &ticket).await.unwrap();
    assert_eq!((taken.detached, taken.session.unwrap().remaining), (vec![guest(1).mac], Allotment(3000)));
    assert_eq!(gate.stations_closed(), [at(1, "yard")]);
    assert!(gate.leases_at("yard").is_empty());
    assert_eq!(gate.leases_at("hall").into_keys().collect::<Vec<_>>(), [guest(2).mac]);
}

#[tokio::test]
async fn who_only_identifies_itself_keeps_its_venue() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    let at = ShownAt { is_wish: false, ..by_bytes("hall", 1) };
    assert_eq!(show(&access, &guest(1), at.clone(), &ticket).await.unwrap().session, None);
    assert_eq!((gate.closed(), gate.leases_at("yard").len()), (vec![], 1));
    // A device that has changed its MAC is let have its account, even if that buys nothing here.
    let dear = ShownAt { is_wish: false, ..by_bytes("hall", 11) };
    assert_eq!(show(&access, &guest(2), dear, &ticket).await.unwrap().session, None);
    assert_eq!(gate.leases_at("yard").into_keys().collect::<Vec<_>>(), [guest(2).mac]);
}

#[tokio::test]
async fn of_many_shows_at_once_at_three_venues_one_session_runs_in_the_end() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    let venues = ["hall", "roof", "yard", "hall", "roof"];
    let caller = guest(1);
    let shows = venues.map(|venue| show(&access, &caller, by_bytes(venue, 1), &ticket));
    let outcomes = futures_util::future::join_all(shows).await;
    assert!(outcomes.iter().any(Result::is_ok));
    let running = access.running();
    assert_eq!(running.iter().map(|session| session.remaining.0).sum::<u64>(), 10_000);
    let open: usize = ["hall", "roof", "yard"].iter().map(|venue| gate.leases_at(venue).len()).sum();
    assert_eq!((running.len(), open), (1, 1));
}

#[tokio::test]
async fn a_row_of_before_the_move_opens_nothing_where_it_was_sold() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    let stale = access.sessions().get(&guest(1).mac).unwrap()[0].clone();
    show(&access, &guest(1), by_bytes("hall", 1), &ticket).await.unwrap();
    assert!(!access.open_unless_moved(stale).await.is_running());
    assert!(gate.leases_at("yard").is_empty());
}

#[tokio::test]
async fn after_a_crash_between_commit_and_gate_the_new_venue_is_open_and_the_old_one_closed() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket: crate::store::Ticket = minutes(&access, &guest(1), 10).await.parse().unwrap();
    access.store.bring(&AccountKey::Ticket(ticket), guest(1).mac, by_bytes("hall", 1).price).await.unwrap();
    access.store.clone().close().await;
    // The kernel still has what the old daemon told it.
    let access = start(&dir, &clock, &gate).await;
    until(|| gate.stations_closed() == [at(1, "yard")] && gate.leases_at("hall").len() == 1).await;
    assert_eq!(access.running().len(), 1);
}

#[tokio::test]
async fn a_guest_does_not_wander_between_venues_for_ever() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    let ticket = minutes(&access, &guest(1), 10).await;
    for venue in ["hall", "yard", "hall", "yard", "hall"] {
        show(&access, &guest(1), by_bytes(venue, 1), &ticket).await.unwrap();
    }
    let refused = show(&access, &guest(1), by_bytes("yard", 1), &ticket).await.unwrap_err();
    assert!(matches!(refused, TicketError::TooMany(_)) && refused.wait().is_some());
}

#[tokio::test]
async fn a_grace_is_for_the_venue_where_it_was_asked_for() {
    let (dir, clock, gate) = (Scratch::new(), clock(), RecordingGate::new());
    let access = start(&dir, &clock, &gate).await;
    until(|| access.gatekeeper.status().closed_to_strangers).await;
    access.begin_grace(mac(), "yard", access.store.now(), MINUTE);
    until(|| gate.leases_at("yard").len() == 1).await;
    assert!(access.grace(mac(), "yard").is_some() && access.grace(mac(), "hall").is_none());
    assert!(gate.leases_at("hall").is_empty());
    access.grant(mac(), "hall", Metric::Milliseconds, MINUTE.into()).await.unwrap();
    assert!(access.grace(mac(), "yard").is_some(), "its invoice is still open");
    access.keep_graces(|_, venue| venue == "hall");
    until(|| gate.leases_at("yard").is_empty()).await;
    assert_eq!(gate.leases_at("hall").len(), 1);
}
