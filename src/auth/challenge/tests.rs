use super::*;

const LIFE: Millis = Millis::from_secs(120);
const K: K1 = [7; 32];

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn station(last: u8) -> LoginStation {
    LoginStation::Mac(mac(last))
}

fn asked(last: u8) -> AskedLogin {
    AskedLogin {
        browser: Browser { station: station(last), cookie: [last; 16] },
        audience: LoginAudience::Client,
        action: Action::Login,
        socket: None,
    }
}

fn key() -> WalletKey {
    WalletKey::from_bytes([2; 33]).unwrap()
}

fn delivery() -> Delivery {
    Delivery { token: "t".to_owned(), key: key(), role: "client".to_owned(), account: None }
}

fn one() -> Challenges {
    let mut challenges = Challenges::default();
    challenges.add(K, asked(1), Millis(0), LIFE);
    challenges
}

fn standing(challenges: &mut Challenges, now: u64) -> &'static str {
    match challenges.standing(&K, station(1), &[[1; 16]], Millis(now)) {
        Standing::Pending => "pending",
        Standing::Confirm => "confirm",
        Standing::Ok(Some(_)) => "token",
        Standing::Ok(None) => "ok",
        Standing::Expired => "expired",
        Standing::Foreign => "foreign",
    }
}

#[test]
fn a_k1_that_was_not_given_out_is_not_pending() {
    let mut challenges = one();
    assert!(challenges.pending(&K, false, Millis(0)).is_some());
    assert!(challenges.pending(&[8; 32], false, Millis(0)).is_none());
    assert_eq!(challenges.begin(&[8; 32], Millis(0)), Err(NotPending));
    assert!(challenges.take(&[8; 32], Millis(0)).is_err());
}

#[test]
fn of_fifty_right_signatures_at_once_one_has_the_challenge() {
    let mut challenges = one();
    let begun = (0..50).filter(|_| challenges.begin(&K, Millis(1)).is_ok()).count();
    assert_eq!(begun, usize::from(SIGNATURES), "the others cost no arithmetic");
    let taken = (0..begun).filter(|_| challenges.take(&K, Millis(2)).is_ok()).count();
    assert_eq!(taken, 1);
    challenges.finish(&K, Some(delivery()));
    assert!(
        challenges.take(&K, Millis(3)).is_err() && challenges.pending(&K, false, Millis(3)).is_none(),
        "replayed"
    );
    assert_eq!(standing(&mut challenges, 4), "token");
    assert_eq!(standing(&mut challenges, 5), "ok", "the token comes once");
}

#[test]
fn it_ends_with_its_time_and_is_forgotten_later() {
    let mut challenges = one();
    assert!(challenges.pending(&K, false, Millis(119_999)).is_some());
    assert!(challenges.pending(&K, false, Millis(120_000)).is_none());
    assert!(challenges.take(&K, Millis(120_000)).is_err());
    assert_eq!(standing(&mut challenges, 120_000), "expired");
    challenges.add([9; 32], asked(1), Millis(180_000), LIFE);
    assert_eq!(challenges.rows.len(), 1);
}

#[test]
fn four_wrong_signatures_leave_it_and_the_fifth_ends_it() {
    let mut challenges = one();
    for number in 1..=5 {
        assert!(challenges.begin(&K, Millis(1)).is_ok(), "{number}");
        assert_eq!(challenges.wrong(&K).is_some(), number == 5);
    }
    assert_eq!(standing(&mut challenges, 2), "expired");
    assert!(challenges.begin(&K, Millis(2)).is_err());
    let mut challenges = one();
    assert!((0..4).all(|_| challenges.begin(&K, Millis(1)).is_ok() && challenges.wrong(&K).is_none()));
    assert!(challenges.begin(&K, Millis(1)).is_ok() && challenges.take(&K, Millis(1)).is_ok());
}

#[test]
fn only_the_browser_that_asked_is_told() {
    let mut challenges = one();
    let mut told = |station, cookies: &[CookieId]| challenges.standing(&K, station, cookies, Millis(1));
    assert!(told(station(1), &[[1; 16]]) == Standing::Pending);
    assert!(told(station(1), &[[5; 16], [1; 16]]) == Standing::Pending);
    for (station, cookies) in [
        (station(2), &[[1; 16]][..]),
        (station(1), &[[2; 16]]),
        (station(1), &[]),
        (LoginStation::Address("127.0.0.1".parse().unwrap()), &[[1; 16]]),
    ] {
        assert!(told(station, cookies) == Standing::Foreign);
    }
    challenges.take(&K, Millis(1)).unwrap();
    challenges.ask_code(&K, key(), 42, None, Millis(1));
    let other = challenges.confirm(&K, (station(2), &[[1; 16]]), 42, Millis(2));
    assert!(other.is_some_and(|(confirmed, _)| confirmed == Confirmed::Foreign));
    assert_eq!(standing(&mut challenges, 3), "confirm");
}

#[test]
fn the_digits_release_it_and_the_third_wrong_ones_end_it() {
    let confirming = || {
        let mut challenges = one();
        challenges.take(&K, Millis(1)).unwrap();
        challenges.ask_code(&K, key(), 42, Some(mac(9)), Millis(1));
        challenges
    };
    let typed = |challenges: &mut Challenges, digits| {
        let confirmed = challenges.confirm(&K, (station(1), &[[1; 16]]), digits, Millis(2));
        confirmed.map(|(confirmed, _)| confirmed)
    };
    let mut challenges = confirming();
    assert_eq!(
        (challenges.code_for(mac(9), Millis(2)), challenges.code_for(mac(1), Millis(2))),
        (Some(42), None)
    );
    assert!(typed(&mut challenges, 41) == Some(Confirmed::Wrong));
    assert!(typed(&mut challenges, 42) == Some(Confirmed::Right(key())));
    assert!(typed(&mut challenges, 42) == Some(Confirmed::Unasked), "once");
    assert_eq!(challenges.code_for(mac(9), Millis(2)), None);
    challenges.finish(&K, None);
    assert_eq!(standing(&mut challenges, 3), "ok");

    let mut challenges = confirming();
    assert!((0..3).all(|_| typed(&mut challenges, 0) == Some(Confirmed::Wrong)));
    assert!(typed(&mut challenges, 42) == Some(Confirmed::Unasked));
    assert_eq!(standing(&mut challenges, 3), "expired");
    assert!(challenges.is_over(&K));
    assert!(typed(&mut one(), 42) == Some(Confirmed::Unasked));
}

#[test]
fn there_is_time_to_type_where_the_signature_comes_late() {
    let mut challenges = one();
    challenges.take(&K, Millis(119_000)).unwrap();
    challenges.ask_code(&K, key(), 42, None, Millis(119_000));
    assert_eq!(standing(&mut challenges, 178_999), "confirm");
    assert_eq!(standing(&mut challenges, 179_000), "expired");
    let late = challenges.confirm(&K, (station(1), &[[1; 16]]), 42, Millis(179_000));
    assert!(late.is_some_and(|(confirmed, _)| confirmed == Confirmed::Unasked));
}

#[test]
fn many_challenges_of_one_station_push_out_its_own_only() {
    let mut challenges = Challenges::default();
    let k1 = |number: u64| {
        let mut k1 = [1; 32];
        k1[..8].copy_from_slice(&number.to_be_bytes());
        k1
    };
    challenges.add(K, asked(1), Millis(0), LIFE);
    for number in 0..2000 {
        challenges.add(k1(number), asked(2), Millis(1), LIFE);
    }
    assert_eq!(challenges.rows.len(), MOST);
    assert!(
        challenges.pending(&K, false, Millis(2)).is_some()
            && challenges.pending(&k1(1999), false, Millis(2)).is_some()
    );
    assert!(challenges.pending(&k1(0), false, Millis(2)).is_none());
    let crowd = |number: u64| AskedLogin {
        browser: Browser { station: station(number.to_be_bytes()[7]), cookie: [0; 16] },
        ..asked(1)
    };
    for number in 0..10_000 {
        challenges.add(k1(number), crowd(number), Millis(3), LIFE);
    }
    assert_eq!(challenges.rows.len(), MOST);
}
