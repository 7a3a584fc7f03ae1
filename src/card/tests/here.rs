//! Cards of ours that buy access at this router.

use super::*;
use crate::config::Metric;
use crate::mac::MacAddr;
use crate::store::{Admission, NewGrant, Reference};
use crate::units::{Allotment, Sats};

fn grant(last: u8, sats: u64) -> impl FnOnce(Reference) -> NewGrant + Send + 'static {
    move |reference| NewGrant {
        value: Sats(sats).into(),
        mint: None,
        reference,
        mac: MacAddr::new([2, 0, 0, 0, 0, last]).unwrap(),
        venue: "guest".to_owned(),
        amount: Sats(sats).into(),
        metric: Metric::Milliseconds,
        allotment: Allotment(sats * 60_000),
    }
}

impl Place {
    async fn spend_here(&self, card: &mut Card, last: u8, sats: u64) -> Result<Admission, Reason> {
        let (p, c) = card.tap();
        self.cards.spend_here([&card.id.to_string(), &p, &c], Sats(sats), grant(last, sats)).await
    }

    async fn sales(&self) -> (u32, u64) {
        let sales = self.store.sales_since(UnixSeconds(0)).await.unwrap();
        (sales.count, sales.amounts.first().map_or(0, |amount| amount.number))
    }
}

#[tokio::test]
async fn a_card_of_ours_pays_without_lightning_and_the_books_show_it_once() {
    let place = Place::new().await;
    let mut card = place.card(100, 200).await;
    let session = place.spend_here(&mut card, 1, 21).await.unwrap();
    assert_eq!(
        (session.mac, session.allotment),
        (grant(1, 0)(Reference::Card(0)).mac, Allotment(21 * 60_000))
    );
    assert!(session.ticket.is_some(), "a new account gets its ticket");
    assert_eq!((place.sales().await, place.spent(&card).await), ((1, 21), 21_000));
    let history = place.cards.history(card.id).await.unwrap();
    let line = &history[0];
    assert_eq!((&line["state"], &line["amount_msat"]), (&json!("paid"), &json!(21_000)), "{line}");
    assert!(line.to_string().contains("spent here"), "{line}");
    assert_eq!(place.cards.open_payments(), 0);
    let again = place.after_power_cut().await;
    assert_eq!((again.sales().await, again.spent(&card).await), ((1, 21), 21_000));
}

#[tokio::test]
async fn one_tap_shown_many_times_at_once_buys_once() {
    let place = Place::new().await;
    let mut card = place.card(100, 2000).await;
    let (p, c) = card.tap();
    let id = card.id.to_string();
    let tries = (0..50).map(|last| {
        let (cards, id, p, c) = (place.cards.clone(), id.clone(), p.clone(), c.clone());
        tokio::spawn(async move { cards.spend_here([&id, &p, &c], Sats(21), grant(last, 21)).await.is_ok() })
    });
    let tries: Vec<_> = tries.collect();
    let mut bought = 0;
    for one in tries {
        bought += u32::from(one.await.unwrap());
    }
    assert_eq!((bought, place.sales().await), (1, (1, 21)));
}

#[tokio::test]
async fn limits_hold_here_together_with_what_is_spent_elsewhere() {
    let place = Place::new().await;
    let mut card = place.card(100, 150).await;
    place.spend(&mut card, &invoice(1, 60)).await.unwrap();
    assert_eq!(place.spend_here(&mut card, 1, 101).await, Err(Reason::OverTapLimit));
    assert_eq!(place.spend_here(&mut card, 1, 91).await, Err(Reason::OverDayLimit));
    drop(place.spend_here(&mut card, 1, 90).await.unwrap());
    assert_eq!(place.spend(&mut card, &invoice(2, 1)).await, Err(Reason::OverDayLimit));
    assert_eq!((place.sales().await, place.spent(&card).await), ((1, 90), 150_000));
}

#[tokio::test]
async fn a_card_that_may_not_pay_buys_nothing_here_either() {
    let place = Place::new().await;
    let mut card = place.card(100, 150).await;
    place.cards.enable(card.id, false).await.unwrap();
    assert_eq!(place.spend_here(&mut card, 1, 21).await, Err(Reason::Disabled));
    place.cards.enable(card.id, true).await.unwrap();
    let (p, _) = card.tap();
    let wrong =
        place.cards.spend_here([&card.id.to_string(), &p, "0011223344556677"], Sats(21), grant(1, 21)).await;
    assert_eq!(wrong, Err(Reason::Unreadable));
    assert_eq!(place.spend_here(&mut card, 1, 0).await, Err(Reason::TooSmall));
    place.cards.wipe(card.id).await.unwrap();
    assert_eq!(place.spend_here(&mut card, 1, 21).await, Err(Reason::Unreadable));
    assert_eq!(place.sales().await, (0, 0));
}

/// When the disk stops in the middle of a sale, all others wait for the store.
#[tokio::test]
async fn a_till_hears_in_time_while_the_store_is_slow_and_nothing_is_paid_for_it() {
    let place = Place::at(HASTY).await;
    let (mut card, mut other) = (place.card(1000, 1000).await, place.card(1000, 1000).await);
    let k1 = place.k1(&mut card).await;
    let (go_on, stops) = std::sync::mpsc::channel::<()>();
    let (tell, is_in) = tokio::sync::oneshot::channel();
    let (p, c) = other.tap();
    let (cards, id) = (place.cards.clone(), other.id.to_string());
    let slow = tokio::spawn(async move {
        let stopping = move |reference| {
            let _ = tell.send(());
            let _ = stops.recv();
            grant(1, 1)(reference)
        };
        cards.spend_here([&id, &p, &c], Sats(1), stopping).await
    });
    is_in.await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::NotNow));
    assert_eq!(place.tap(&mut card).await.unwrap_err(), Reason::NotNow);
    assert!(began.elapsed() < HASTY.patience * 3, "{:?}", began.elapsed());
    drop(go_on);
    assert!(slow.await.unwrap().is_ok());
    assert!(place.node.payments().is_empty(), "what was given up is not done later");
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Ok(()));
    assert_eq!(place.node.payments().len(), 1);
}
