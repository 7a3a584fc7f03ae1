use super::*;
use crate::bolt11::Invoice;
use crate::lightning::tests::scripted::Step;
use crate::lightning::{BackendAnswer, Outcome};
use crate::store::{NewPayment, ReserveResult, TapId};
use serde_json::json;
use std::time::Instant;

#[tokio::test]
async fn a_till_is_answered_in_time_and_the_end_is_in_the_history() {
    let place = Place::at(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Hang(BackendAnswer::paid(Some([1; 32]), Some(Msats(17)))));
    let began = Instant::now();
    assert_eq!(place.spend(&mut card, &invoice(1, 10)).await, Ok(()));
    let took = began.elapsed();
    assert!(took >= HASTY.patience && took < HASTY.pay, "{took:?}");
    assert_eq!(place.states(&card).await, ["pending"]);
    assert_eq!(place.spent(&card).await, 10_000);
    place.node.go_on();
    place.until_settled().await;
    let history = place.cards.history(card.id).await.unwrap();
    assert_eq!((&history[0]["state"], &history[0]["fee_msat"]), (&json!("paid"), &json!(17)));
}

#[tokio::test]
async fn a_payment_that_is_proven_failed_is_told_and_its_money_is_free_again() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::failed("no route")));
    let k1 = place.k1(&mut card).await;
    assert_eq!(place.cards.callback(&k1, &invoice(1, 1000)).await, Err(Reason::PaymentFailed));
    assert_eq!(place.cards.callback(&k1, &invoice(1, 1000)).await, Err(Reason::PaymentFailed));
    assert_eq!(place.cards.callback(&k1, &invoice(2, 1000)).await, Err(Reason::Spent));
    assert_eq!(place.spent(&card).await, 0);
    assert_eq!(place.spend(&mut card, &invoice(1, 1000)).await, Ok(()), "the same invoice, tapped anew");
    assert_eq!(place.states(&card).await, ["paid", "failed"]);
}

#[tokio::test]
async fn what_is_unknown_counts_until_a_lookup_proves_it_failed() {
    let place = Place::at(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::unknown("the answer was cut")));
    for _ in 0..5 {
        place.node.next_lookup(Outcome::Unknown("in flight".to_owned()));
    }
    place.spend(&mut card, &invoice(1, 1000)).await.unwrap();
    assert_eq!(place.spend(&mut card, &invoice(2, 1)).await, Err(Reason::OverDayLimit));
    place.node.next_lookup(Outcome::Failed("no route".to_owned()));
    place.until_settled().await;
    assert_eq!(place.states(&card).await, ["tapped", "failed"]);
    place.spend(&mut card, &invoice(2, 1000)).await.unwrap();
}

#[tokio::test]
async fn what_is_unknown_may_turn_out_paid() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::unknown("already paid")));
    place.node.next_lookup(Outcome::Paid { preimage: Some([1; 32]), fee: None });
    place.spend(&mut card, &invoice(1, 1000)).await.unwrap();
    place.until_settled().await;
    assert_eq!(place.states(&card).await, ["paid"]);
    assert_eq!(place.node.payments().len(), 1);
}

#[tokio::test]
async fn a_preimage_of_another_payment_proves_nothing() {
    let place = Place::at(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::paid(Some([9; 32]), None)));
    place.node.next_lookup(Outcome::Paid { preimage: Some([8; 32]), fee: None });
    place.spend(&mut card, &invoice(1, 1000)).await.unwrap();
    assert_eq!(place.states(&card).await, ["pending"]);
    place.node.next_lookup(Outcome::Paid { preimage: Some([1; 32]), fee: None });
    place.until_settled().await;
    assert_eq!(place.states(&card).await, ["paid"]);
}

#[tokio::test]
async fn what_the_backend_never_heard_of_comes_back_once_its_invoice_is_over() {
    let place = Place::at(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Answer(BackendAnswer::unknown("cut")));
    for _ in 0..1000 {
        place.node.next_lookup(Outcome::Absent);
    }
    let invoice = Maker { expiry: Some(100), amount: "10u".to_owned(), ..Maker::default() }.make();
    place.spend(&mut card, &invoice).await.unwrap();
    place.clock.advance(Millis(110_000));
    tokio::time::sleep(FAST.slowest * 3).await;
    assert_eq!(place.states(&card).await, ["pending"], "a margin is kept");
    place.clock.advance(Millis(50_000));
    place.until_settled().await;
    assert_eq!(place.states(&card).await, ["failed"]);
    assert_eq!(place.spent(&card).await, 0);
}

#[tokio::test]
async fn a_till_that_goes_away_changes_nothing() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let k1 = place.k1(&mut card).await;
    let text = invoice(1, 10);
    drop(tokio::time::timeout(Duration::from_micros(50), place.cards.callback(&k1, &text)).await);
    let gone = tokio::time::timeout(Duration::from_millis(20), place.cards.callback(&k1, &text)).await;
    drop(gone);
    tokio::time::sleep(Duration::from_millis(200)).await;
    place.until_settled().await;
    assert!(place.node.payments().len() <= 1);
    assert_eq!(place.cards.callback(&k1, &text).await, Ok(()));
    assert_eq!(place.node.payments().len(), 1);
}

#[tokio::test]
async fn after_a_power_cut_a_sent_payment_is_looked_up_and_never_sent_again() {
    let place = Place::at(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    place.node.next_payment(Step::Hang(BackendAnswer::paid(None, None)));
    let k1 = place.k1(&mut card).await;
    place.cards.callback(&k1, &invoice(1, 1000)).await.unwrap();
    place.until_sent(1).await;
    let again = place.after_power_cut().await;
    assert_eq!(again.spent(&card).await, 1_000_000);
    assert_eq!(again.cards.callback(&k1, &invoice(1, 1000)).await, Ok(()), "on its way");
    assert_eq!(again.spend(&mut card, &invoice(2, 1)).await, Err(Reason::OverDayLimit));
    again.node.next_lookup(Outcome::Paid { preimage: Some([1; 32]), fee: None });
    again.until_settled().await;
    assert_eq!(again.states(&card).await, ["tapped", "paid"]);
    assert_eq!(again.node.payments().len(), 1);
}

/// A payment whose task has come no further than this commit.
async fn reserve(place: &Place, k1: &str, invoice: &str) -> TapId {
    let payment = NewPayment {
        k1: <sha2::Sha256 as sha2::Digest>::digest(hex::decode::<16>(k1).unwrap()).into(),
        invoice: invoice.to_owned(),
        payment_hash: Invoice::parse(invoice).unwrap().payment_hash(),
        amount: Msats(1_000_000),
        fee_limit: Msats(0),
        due: place.store.now(),
        backend: place.cards.backends().current().unwrap()[0].id,
    };
    let ReserveResult::Reserved(id) = place.store.reserve(payment).await.unwrap() else { panic!() };
    id
}

#[tokio::test]
async fn a_till_that_asks_between_two_steps_of_a_payment_is_not_told_ok_too_early() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let (k1, text) = (place.k1(&mut card).await, invoice(1, 1000));
    let id = reserve(&place, &k1, &text).await;
    let asked = tokio::time::timeout(Duration::from_millis(200), place.cards.callback(&k1, &text)).await;
    assert!(asked.is_err(), "it is neither paid nor under way");
    let failing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.store.payment_sent(id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.store.payment_failed(id, "no route".to_owned()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(place.cards.callback(&k1, &text), failing);
    assert_eq!(answer, Err(Reason::PaymentFailed));
}

#[tokio::test]
async fn what_was_only_reserved_when_the_power_went_was_never_sent() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let k1 = place.k1(&mut card).await;
    reserve(&place, &k1, &invoice(1, 1000)).await;
    let again = place.after_power_cut().await;
    assert_eq!(again.states(&card).await, ["failed"]);
    assert_eq!(again.spent(&card).await, 0);
    assert!(again.node.lookups().is_empty());
}

#[tokio::test]
async fn a_payment_is_looked_up_where_it_was_sent_whatever_the_configuration_says_now() {
    let place = Place::at(HASTY).await;
    let mut card = place.card(1000, 1000).await;
    let first = place.cards.backends().current().unwrap()[0].id;
    place.node.next_payment(Step::Answer(BackendAnswer {
        outcome: Outcome::Unknown("cut".to_owned()),
        reference: Some("tag 5".to_owned()),
    }));
    place.spend(&mut card, &invoice(1, 10)).await.unwrap();
    // Its name is in the store by then.
    until("a lookup", || !place.node.lookups().is_empty()).await;
    place.cards.backends().configure(vec![(Ok(account("http://127.0.0.1:2")), Msats(0))]).await;
    assert_ne!(place.cards.backends().current().unwrap()[0].id, first);
    place.cards.tidy(place.store.now().saturating_add(Millis(1))).await.unwrap();
    let again = place.after_power_cut().await;
    let rows = again.store.backends().await.unwrap();
    assert!(rows.iter().any(|row| row.id == first && row.url == "http://127.0.0.1:1"));
    let [open] = &again.store.resume_payments().await.unwrap()[..] else { panic!() };
    assert_eq!((open.backend, open.reference.as_deref()), (first, Some("tag 5")));
    // The same configuration again is the same backend.
    again.cards.backends().configure(vec![(Ok(account("http://127.0.0.1:2")), Msats(0))]).await;
    assert_eq!(again.store.backends().await.unwrap().len(), rows.len());
}

#[tokio::test]
async fn without_a_backend_nothing_is_paid_and_no_tap_used_up() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    let k1 = place.k1(&mut card).await;
    place.cards.backends().configure(vec![(Err("no macaroon".to_owned()), Msats(0))]).await;
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Err(Reason::NotNow));
    place.cards.backends().configure(vec![(Ok(account("http://127.0.0.1:1")), Msats(0))]).await;
    assert_eq!(place.cards.callback(&k1, &invoice(1, 10)).await, Ok(()));
}

#[tokio::test]
async fn a_copy_of_the_database_without_the_key_file_pays_nothing() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    place.tap(&mut card).await.unwrap();
    for name in ["store.db", "store.db-wal"] {
        let bytes = std::fs::read(place.dir().join(name)).unwrap();
        for secret in [&card.k1[..], &card.k2[..], b"admin key"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
            let text = hex::encode(secret).into_bytes();
            assert!(!bytes.windows(text.len()).any(|window| window == text));
        }
    }
    let stolen = place.dir.copy();
    std::fs::remove_file(stolen.0.join("cards.key")).unwrap();
    let store = Store::open(&stolen.0, &place.clock).unwrap();
    let refused = Vault::open(&store, KeyFile("cards")).await.err().unwrap();
    assert_eq!(refused.code(), "KEY_MISSING");
}

#[tokio::test]
async fn the_same_card_again_for_the_invoice_that_it_pays_hears_what_became_of_that() {
    let place = Place::at(HASTY).await;
    let (mut card, mut other) = (place.card(1000, 1000).await, place.card(1000, 1000).await);
    place.node.next_payment(Step::Hang(BackendAnswer::paid(Some([1; 32]), None)));
    place.spend(&mut card, &invoice(1, 600)).await.unwrap();
    assert_eq!(place.spend(&mut card, &invoice(1, 600)).await, Ok(()), "whatever is left of the day's limit");
    assert_eq!(place.spend(&mut other, &invoice(1, 600)).await, Err(Reason::InvoiceUsed));
    assert_eq!(place.spend(&mut card, &invoice(2, 600)).await, Err(Reason::OverDayLimit));
    place.cards.enable(card.id, false).await.unwrap();
    assert_eq!(place.tap(&mut card).await.unwrap_err(), Reason::Disabled);
    place.node.go_on();
    place.until_settled().await;
    place.cards.enable(card.id, true).await.unwrap();
    assert_eq!(place.spend(&mut card, &invoice(1, 600)).await, Err(Reason::OverDayLimit), "once it is paid");
    assert_eq!((place.node.payments().len(), place.spent(&card).await), (1, 600_000));
}

#[tokio::test]
async fn an_invoice_is_taken_as_wallets_write_it() {
    let place = Place::new().await;
    let mut card = place.card(1000, 1000).await;
    for (number, written) in ["lightning:{}", "LIGHTNING://{}", " {}\n", "({})."].iter().enumerate() {
        let text = invoice(u8::try_from(number).unwrap() + 1, 10);
        let text = if written.starts_with('L') { text.to_uppercase() } else { text };
        assert_eq!(place.spend(&mut card, &written.replace("{}", &text)).await, Ok(()), "{written}");
    }
    assert_eq!(place.node.payments().len(), 4);
}
