use super::*;
use crate::lightning::tests::scripted::Step;
use crate::lightning::{BackendAnswer, Outcome};

/// A router with two nodes, the second for what the first does not take on.
async fn place(pace: PaymentPace) -> Place {
    let place = Place::at(pace).await;
    configure(&place, &["http://127.0.0.1:1", SECOND]).await;
    place
}

async fn configure(place: &Place, urls: &[&str]) {
    let accounts = urls.iter().map(|url| (Ok(account(url)), Msats(10_000)));
    place.cards.backends().configure(accounts.collect()).await;
}

fn refused() -> Step {
    Step::Answer(BackendAnswer::refused("connection refused"))
}

#[tokio::test]
async fn what_the_first_node_does_not_take_on_is_paid_by_the_second() {
    let place = place(FAST).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(refused());
    assert_eq!(place.spend(&mut card, &invoice(1, 10)).await, Ok(()));
    assert_eq!(place.states(&card).await, ["paid"]);
    assert_eq!((place.node.payments().len(), place.second.payments().len()), (1, 1));
    assert_eq!(place.spend(&mut card, &invoice(2, 10)).await, Ok(()), "the first again");
    assert_eq!((place.node.payments().len(), place.second.payments().len()), (2, 1));
}

#[tokio::test]
async fn what_the_first_node_may_have_is_never_given_to_the_second() {
    let place = place(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::unknown("the answer was cut")));
    place.spend(&mut card, &invoice(1, 10)).await.unwrap();
    until("lookups", || place.node.lookups().len() > 2).await;
    configure(&place, &[SECOND]).await;
    let again = place.after_power_cut().await;
    configure(&again, &[SECOND]).await;
    let before = again.node.lookups().len();
    until("lookups after the power cut", || again.node.lookups().len() > before + 2).await;
    // The router before the power cut looks, too.
    (0..20).for_each(|_| again.node.next_lookup(Outcome::Failed("no route".to_owned())));
    again.until_settled().await;
    assert_eq!(again.states(&card).await, ["failed"]);
    assert!(again.second.payments().is_empty() && again.second.lookups().is_empty());
}

#[tokio::test]
async fn what_the_first_node_has_failed_to_pay_is_not_given_to_the_second() {
    let place = place(FAST).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::failed("no route")));
    assert_eq!(place.spend(&mut card, &invoice(1, 10)).await, Err(Reason::PaymentFailed));
    assert!(place.second.payments().is_empty());
    assert_eq!(place.spent(&card).await, 0);
}

#[tokio::test]
async fn what_the_second_node_took_on_is_looked_up_there_after_a_power_cut() {
    let place = place(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(refused());
    place.second.next_payment(Step::Hang(BackendAnswer::paid(None, None)));
    place.spend(&mut card, &invoice(1, 10)).await.unwrap();
    until("the second's payment", || place.second.payments().len() == 1).await;
    let again = place.after_power_cut().await;
    configure(&again, &["http://127.0.0.1:1"]).await;
    again.second.next_lookup(Outcome::Paid { preimage: Some([1; 32]), fee: None });
    again.until_settled().await;
    assert_eq!(again.states(&card).await, ["paid"]);
    assert!(again.node.lookups().is_empty());
    assert_eq!((again.node.payments().len(), again.second.payments().len()), (1, 1));
}

#[tokio::test]
async fn what_no_node_takes_on_has_failed_and_its_money_is_free_again() {
    let place = place(FAST).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(refused());
    place.second.next_payment(refused());
    assert_eq!(place.spend(&mut card, &invoice(1, 1000)).await, Err(Reason::PaymentFailed));
    assert_eq!(place.spent(&card).await, 0);
}

#[tokio::test]
async fn a_node_that_cannot_be_had_does_not_stop_the_other() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let accounts = vec![(Err("no macaroon".to_owned()), Msats(0)), (Ok(account(SECOND)), Msats(0))];
    place.cards.backends().configure(accounts).await;
    assert_eq!(place.spend(&mut card, &invoice(1, 10)).await, Ok(()));
    assert_eq!((place.node.payments().len(), place.second.payments().len()), (0, 1));
    assert_eq!(place.cards.backends().trouble().as_deref(), Some("no macaroon"));
    place.cards.tidy(place.store.now().saturating_add(Millis(1))).await.unwrap();
    assert_eq!(place.spend(&mut card, &invoice(2, 10)).await, Ok(()));
}
