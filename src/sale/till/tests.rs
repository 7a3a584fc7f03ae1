//! The desk: which links are taken in. What becomes of them is tested against real issuers.

use super::*;

type Teller = watch::Sender<Option<Result<Sold, SaleError>>>;

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn desk() -> Desk {
    Desk { pace: Pace::new(TAPS, WINDOW), shown: LiteMap::new() }
}

/// Shows the tap `number`; `Ok` holds what ends it, where it was taken in.
fn show(desk: &mut Desk, number: u8, last: u8, now: u64) -> Result<Option<Teller>, SaleError> {
    enter(desk, Showing { digest: [number; 32], is_tap: true }, last, now)
}

fn enter(desk: &mut Desk, showing: Showing, last: u8, now: u64) -> Result<Option<Teller>, SaleError> {
    let (tell, told) = watch::channel(None);
    let earlier = desk.enter(showing, mac(last), Millis::from_secs(now), &told)?;
    Ok(earlier.is_none().then_some(tell))
}

fn withdrawal(last: u8, amount: u64) -> Showing {
    let link = Link::parse("lnurlw://bank.example/withdraw?id=7").unwrap();
    let purchase = Purchase { mint: MintUrl::parse("https://mint.example").unwrap(), amount: Sats(amount) };
    Showing::of(&link, mac(last), &purchase)
}

#[test]
fn a_link_that_is_no_tap_pays_again_and_again_and_for_others_too() {
    let mut desk = desk();
    let pay = |desk: &mut Desk, last, amount, now| {
        let entered = enter(desk, withdrawal(last, amount), last, now).unwrap();
        entered.map(|outcome| outcome.send_replace(Some(Ok(Sold::Here)))).is_some()
    };
    assert!(pay(&mut desk, 1, 5, 0));
    assert!(!pay(&mut desk, 1, 5, 0) && !pay(&mut desk, 1, 5, 9), "the same form again");
    assert!(pay(&mut desk, 2, 5, 1), "another guest");
    assert!(pay(&mut desk, 1, 6, 2), "another purchase");
    assert!(pay(&mut desk, 1, 5, 10) && pay(&mut desk, 1, 5, 20));
}

#[test]
fn a_form_that_is_under_way_is_the_same_however_long_it_takes() {
    let mut desk = desk();
    let _open = enter(&mut desk, withdrawal(1, 5), 1, 0).unwrap().unwrap();
    assert!(enter(&mut desk, withdrawal(1, 5), 1, 60).unwrap().is_none());
}

#[test]
fn a_tap_shown_twice_is_one_payment() {
    let mut desk = desk();
    let outcome = show(&mut desk, 1, 1, 0).unwrap().unwrap();
    assert!(show(&mut desk, 1, 1, 0).unwrap().is_none(), "while it is under way");
    outcome.send_replace(Some(Ok(Sold::Here)));
    assert!(show(&mut desk, 1, 1, 1800).unwrap().is_none(), "and afterwards");
    assert!(matches!(show(&mut desk, 1, 2, 1800), Err(SaleError::LinkUsed)), "for nobody else");
}

#[test]
fn a_link_that_did_not_pay_may_be_shown_again() {
    let mut desk = desk();
    show(&mut desk, 1, 1, 0).unwrap().unwrap().send_replace(Some(Err(SaleError::IssuerAway)));
    assert!(show(&mut desk, 1, 1, 1).unwrap().is_some());
}

#[test]
fn a_guest_has_one_card_under_way_and_all_together_a_few() {
    let mut desk = desk();
    let mut open: Vec<_> = (1..=4).map(|last| show(&mut desk, last, last, 0).unwrap().unwrap()).collect();
    assert!(matches!(show(&mut desk, 9, 1, 0), Err(SaleError::TooMany(Limit::Cards))));
    assert!(matches!(show(&mut desk, 9, 5, 0), Err(SaleError::TooMany(Limit::Cards))));
    open.pop().unwrap().send_replace(Some(Err(SaleError::IssuerAway)));
    assert!(matches!(show(&mut desk, 9, 1, 0), Err(SaleError::TooMany(Limit::Cards))));
    assert!(show(&mut desk, 9, 5, 0).unwrap().is_some());
}

#[test]
fn an_eleventh_link_within_a_minute_has_to_wait() {
    let mut desk = desk();
    for number in 0..10 {
        show(&mut desk, number, 1, 0).unwrap().unwrap().send_replace(Some(Err(SaleError::IssuerAway)));
    }
    assert!(matches!(show(&mut desk, 10, 1, 59), Err(SaleError::TooMany(Limit::Cards))));
    assert!(show(&mut desk, 10, 1, 61).unwrap().is_some());
}

#[test]
fn links_take_bounded_memory_and_those_under_way_are_kept() {
    let mut desk = desk();
    let _open = show(&mut desk, 255, 255, 0).unwrap().unwrap();
    for number in 0..1000u64 {
        let (tell, told) = watch::channel(Some(Ok(Sold::Here)));
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        let last = u8::try_from(number % 250).unwrap();
        desk.enter(Showing { digest, is_tap: true }, mac(last), Millis::from_secs(number * 3), &told)
            .unwrap();
        drop(tell);
    }
    assert!(desk.shown.len() <= MANY && desk.shown.contains_key(&[255; 32]), "{}", desk.shown.len());
    let _other = show(&mut desk, 254, 1, 10_000).unwrap();
    assert_eq!(desk.shown.len(), 2);
}
