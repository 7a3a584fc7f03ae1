use super::*;
use futures_util::future::join_all;
use serde_json::json;

const DAY: Millis = Millis::from_secs(86_400);

#[tokio::test]
async fn fifty_parallel_callbacks_with_different_invoices_make_exactly_one_payment() {
    for _ in 0..3 {
        let place = Place::new().await;
        let mut card = place.card(1000, 100_000).await;
        let k1 = place.k1(&mut card).await;
        let invoices: Vec<String> = (0..50).map(|number| invoice(number, 10)).collect();
        let answers = join_all(invoices.iter().map(|invoice| place.cards.callback(&k1, invoice))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(place.node.payments().len(), 1);
        assert_eq!(place.spent(&card).await, 10_000);
    }
}

#[tokio::test]
async fn the_same_callback_again_is_answered_as_the_first_was_and_pays_once() {
    let place = Place::new().await;
    let mut card = place.card(1000, 100_000).await;
    let k1 = place.k1(&mut card).await;
    let invoice = invoice(1, 10);
    let answers = join_all((0..10).map(|_| place.cards.callback(&k1, &invoice))).await;
    assert!(answers.iter().all(|answer| answer.is_ok()), "{answers:?}");
    assert_eq!(place.cards.callback(&k1, &invoice.to_uppercase()).await, Ok(()));
    assert_eq!(place.cards.callback(&k1, &super::invoice(2, 10)).await, Err(Reason::Spent));
    let again = place.after_power_cut().await;
    assert_eq!(again.cards.callback(&k1, &invoice).await, Ok(()));
    assert_eq!(place.node.payments().len(), 1);
}

#[tokio::test]
async fn one_invoice_is_paid_by_one_card() {
    let place = Place::new().await;
    let (mut one, mut other) = (place.card(1000, 100_000).await, place.card(1000, 100_000).await);
    let (k1, other_k1) = (place.k1(&mut one).await, place.k1(&mut other).await);
    let invoice = invoice(1, 10);
    let (first, second) =
        tokio::join!(place.cards.callback(&k1, &invoice), place.cards.callback(&other_k1, &invoice));
    let (paid, refused) = if first.is_ok() { (first, second) } else { (second, first) };
    assert_eq!((paid, refused), (Ok(()), Err(Reason::InvoiceUsed)));
    assert_eq!(place.node.payments().len(), 1);
    let loser = if place.spent(&one).await == 0 { k1 } else { other_k1 };
    assert_eq!(place.cards.callback(&loser, &super::invoice(2, 10)).await, Ok(()), "its tap is not used up");
}

#[tokio::test]
async fn six_parallel_taps_at_the_full_day_limit_pay_once() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let mut callbacks = Vec::new();
    for number in 0..6 {
        callbacks.push((place.k1(&mut card).await, invoice(number, 1000)));
    }
    let answers = join_all(callbacks.iter().map(|(k1, pr)| place.cards.callback(k1, pr))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(Reason::OverDayLimit)).count(), 5);
    assert_eq!(place.node.payments().len(), 1);
}

#[tokio::test]
async fn limits_are_exact_to_the_millisatoshi() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1500).await;
    let msats = |number: u8, msat: u64| {
        Maker { amount: format!("{}p", msat * 10), ..Maker::default() }.paying([number; 32]).make()
    };
    let k1 = place.k1(&mut card).await;
    assert_eq!(place.cards.callback(&k1, &msats(1, 1_000_001)).await, Err(Reason::OverTapLimit));
    assert_eq!(place.cards.callback(&k1, &msats(2, 999)).await, Err(Reason::TooSmall));
    assert_eq!(place.cards.callback(&k1, &msats(3, 999_999)).await, Ok(()), "refusals do not use a tap up");
    let k1 = place.k1(&mut card).await;
    assert_eq!(place.cards.callback(&k1, &msats(4, 500_002)).await, Err(Reason::OverDayLimit));
    assert_eq!(place.cards.callback(&k1, &msats(5, 500_001)).await, Ok(()));
    let k1 = place.k1(&mut card).await;
    assert_eq!(place.cards.callback(&k1, &msats(6, 1000)).await, Err(Reason::OverDayLimit));
    assert_eq!(place.spent(&card).await, 1_500_000);
}

#[tokio::test]
async fn the_day_rolls_and_does_not_follow_the_wall_clock() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    place.spend(&mut card, &invoice(1, 600)).await.unwrap();
    place.clock.advance(Millis(DAY.0 / 2));
    let later = |number| Maker { timestamp: place.clock.wall().0, ..Maker::default() }.paying([number; 32]);
    let of = |number, sats: u64| Maker { amount: format!("{}n", sats * 10), ..later(number) }.make();
    assert_eq!(place.spend(&mut card, &of(2, 401)).await, Err(Reason::OverDayLimit));
    place.spend(&mut card, &of(3, 400)).await.unwrap();
    // The wall clock leaps two days; the money of today stays spent.
    let wall = place.clock.wall();
    place.clock.set_wall(UnixSeconds(wall.0 + 2 * 86_400));
    assert_eq!(place.spend(&mut card, &of(4, 10)).await, Err(Reason::OverDayLimit));
    place.clock.set_wall(wall);
    place.clock.advance(Millis(DAY.0 / 2));
    assert_eq!(place.spend(&mut card, &of(5, 601)).await, Err(Reason::OverDayLimit));
    place.spend(&mut card, &of(6, 600)).await.unwrap();
}

#[tokio::test]
async fn zero_as_a_limit_means_nothing() {
    let place = Place::new().await;
    let mut card = place.card(0, 0).await;
    assert_eq!(place.tap(&mut card).await, Err(Reason::NoLimit));
    let mut card = place.card(1, 1).await;
    let k1 = place.k1(&mut card).await;
    place.cards.limit(card.id, &json!({"tx_max": 0, "day_max": 0})).await.unwrap();
    assert_eq!(place.cards.callback(&k1, &invoice(1, 1)).await, Err(Reason::OverTapLimit));
}

#[tokio::test]
async fn a_card_disabled_or_wiped_between_tap_and_callback_does_not_pay() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let k1 = place.k1(&mut card).await;
    place.cards.enable(card.id, false).await.unwrap();
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::Disabled));
    place.cards.enable(card.id, true).await.unwrap();
    place.cards.wipe(card.id).await.unwrap();
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::Disabled));
    assert!(place.node.payments().is_empty());
}

#[tokio::test]
async fn a_tap_lives_for_a_minute_whatever_the_wall_clock_does() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let k1 = place.k1(&mut card).await;
    place.clock.advance(Millis(59_999));
    assert_eq!(place.cards.callback(&k1, "lnbc").await.unwrap_err().to_string(), "not a BOLT 11 invoice");
    place.clock.set_wall(UnixSeconds(NOW));
    place.clock.advance(Millis(1));
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::Spent));
    // In the next boot time goes on where the tap has noted it.
    let k1 = place.k1(&mut card).await;
    let again = place.after_power_cut().await;
    again.clock.advance(Millis(60_000));
    again.clock.set_wall(UnixSeconds(NOW));
    assert_eq!(again.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::Spent));
}

#[tokio::test]
async fn invoices_that_cannot_be_paid_are_refused_and_leave_the_tap_as_it_was() {
    let place = Place::new().await;
    let mut card = place.card(10_000, 10_000).await;
    let maker = Maker::default();
    for (invoice, why) in [
        (Maker { prefix: "lnbc", ..maker.clone() }, Reason::WrongNetwork),
        (Maker { prefix: "lnsb", ..maker.clone() }, Reason::WrongNetwork),
        (Maker { amount: String::new(), ..maker.clone() }, Reason::NoAmount),
        (Maker { amount: "9990p".to_owned(), ..maker.clone() }, Reason::TooSmall),
        (Maker { amount: "100".to_owned(), ..maker.clone() }, Reason::OverTapLimit),
        (Maker { amount: "30000000".to_owned(), ..maker.clone() }, Reason::OverTapLimit),
        (Maker { timestamp: NOW - 3600, ..maker.clone() }, Reason::Expired),
        (Maker { expiry: Some(29), ..maker.clone() }, Reason::Expired),
        (Maker { final_cltv: 2017, ..maker.clone() }, Reason::HeldTooLong),
        (Maker { features: [vec![1], vec![0; 22]].concat(), ..maker.clone() }, Reason::UnknownFeature),
        (Maker { signed: false, ..maker.clone() }, Reason::Unsigned),
    ] {
        let k1 = place.k1(&mut card).await;
        assert_eq!(place.cards.callback(&k1, &invoice.make()).await, Err(why));
        let good = Maker { expiry: Some(30), ..maker.clone() }.paying([card.counter as u8; 32]);
        let good = Maker { amount: "10n".to_owned(), ..good };
        assert_eq!(place.cards.callback(&k1, &good.make()).await, Ok(()));
    }
    let k1 = place.k1(&mut card).await;
    for (k1, pr) in [("", "lnbc1"), (&*k1, ""), ("", "")] {
        assert_eq!(place.cards.callback(k1, pr).await, Err(Reason::Incomplete));
    }
    for k1 in ["0".repeat(32), "zz".repeat(16), "0".to_owned(), "0".repeat(33)] {
        assert_eq!(place.cards.callback(&k1, &maker.make()).await, Err(Reason::Spent));
    }
}

#[tokio::test]
async fn a_long_invoice_is_paid_like_any_other() {
    let place = Place::new().await;
    let mut card = place.card(10_000, 10_000).await;
    let long = Maker { description: "x".repeat(600), ..Maker::default() }.paying([1; 32]);
    let mut pages = Maker { description: "y".repeat(630), ..long.clone() };
    pages.payment_hash = [3; 32];
    let text = long.make();
    assert!(text.len() > 1200);
    assert_eq!(place.spend(&mut card, &text).await, Ok(()));
    assert!(matches!(place.spend(&mut card, &"l".repeat(5000)).await, Err(Reason::Invoice(_))));
}

#[tokio::test]
async fn until_the_clock_is_set_nothing_is_paid() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let k1 = place.k1(&mut card).await;
    place.clock.set_wall(UnixSeconds(30));
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::NotNow));
    place.clock.set_wall(UnixSeconds(NOW));
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Ok(()));
}
