use super::*;
use futures_util::future::join_all;
use serde_json::json;

#[tokio::test]
async fn a_tap_is_answered_with_a_withdraw_request() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    let answer = place.tap(&mut card).await.unwrap();
    assert_eq!(answer["tag"], "withdrawRequest");
    assert_eq!(answer["callback"], "https://c.example/ln/callback");
    assert_eq!((&answer["minWithdrawable"], &answer["maxWithdrawable"]), (&json!(1000), &json!(21_000)));
    assert_eq!(answer["k1"].as_str().unwrap().len(), 32);
    assert!(answer["defaultDescription"].is_string());
    let next = place.tap(&mut card).await.unwrap();
    assert_ne!(answer["k1"], next["k1"]);
}

#[tokio::test]
async fn fifty_parallel_taps_get_exactly_one_withdraw_request() {
    let place = Place::new().await;
    for _ in 0..5 {
        let mut card = place.card(21, 2100).await;
        let (p, c) = card.tap();
        let id = card.id.to_string();
        let answers = join_all((0..50).map(|_| place.cards.tap(&id, &p, &c))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert!(answers
            .iter()
            .flat_map(|answer| answer.as_ref().err())
            .all(|why| *why == Reason::Unreadable));
        assert_eq!(place.states(&card).await, ["tapped"]);
    }
}

#[tokio::test]
async fn before_the_mac_every_fault_gets_the_same_answer_and_changes_nothing() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    place.tap(&mut card).await.unwrap();
    let commits = place.store.commits();
    let id = card.id.to_string();
    let (p, c) = tap(&card.k1, &card.k2, 0xc7, card.uid, 2);
    let old = tap(&card.k1, &card.k2, 0xc7, card.uid, 1);
    let other_chip = tap(&card.k1, &card.k2, 0xc7, [9; 7], 2);
    let other_tag = tap(&card.k1, &card.k2, 0xc6, card.uid, 2);
    let other_keys = tap(&card.k2, &card.k1, 0xc7, card.uid, 2);
    for (id, p, c) in [
        (&*id, &*old.0, &*old.1),
        (&*id, &*other_chip.0, &*other_chip.1),
        (&*id, &*other_tag.0, &*other_tag.1),
        (&*id, &*other_keys.0, &*other_keys.1),
        (&*id, &*p, "0000000000000000"),
        (&*id, "", ""),
        (&*id, &*p, &*p),
        ("99999", &*p, &*c),
        ("-1", &*p, &*c),
        ("9223372036854775808", &*p, &*c),
        ("", &*p, &*c),
        ("1 or 1=1", &*p, &*c),
    ] {
        assert_eq!(place.cards.tap(id, p, c).await, Err(Reason::Unreadable), "{id} {p} {c}");
    }
    assert_eq!(place.store.commits(), commits);
    assert!(place.cards.tap(&id, &p.to_uppercase(), &c.to_uppercase()).await.is_ok());
}

#[tokio::test]
async fn a_thousand_bad_taps_lock_no_card() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    let id = card.id.to_string();
    for number in 0..1000u32 {
        let (p, c) = (format!("{number:032x}"), format!("{number:016x}"));
        assert_eq!(place.cards.tap(&id, &p, &c).await, Err(Reason::Unreadable));
    }
    assert!(place.tap(&mut card).await.is_ok());
}

#[tokio::test]
async fn the_first_tap_binds_the_chip() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    place.tap(&mut card).await.unwrap();
    let again = place.after_power_cut().await;
    card.uid = [9; 7];
    assert_eq!(again.tap(&mut card).await, Err(Reason::Unreadable));
    assert_eq!(again.cards.show(card.id).await.unwrap()["counter"], 1);
}

#[tokio::test]
async fn a_counter_that_was_there_is_refused_after_a_power_cut_too() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    card.counter = 0x00ff_fffe;
    place.tap(&mut card).await.unwrap();
    let again = place.after_power_cut().await;
    card.counter -= 1;
    assert_eq!(again.tap(&mut card).await, Err(Reason::Unreadable));
}

#[tokio::test]
async fn a_disabled_cards_counter_advances_and_it_does_not_pay() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    place.cards.enable(card.id, false).await.unwrap();
    assert_eq!(place.tap(&mut card).await, Err(Reason::Disabled));
    place.cards.enable(card.id, true).await.unwrap();
    card.counter -= 1;
    assert_eq!(place.tap(&mut card).await, Err(Reason::Unreadable), "the same tap again");
    assert!(place.tap(&mut card).await.is_ok());
}

#[tokio::test]
async fn without_the_section_there_are_no_cards() {
    let place = Place::new().await;
    let mut card = place.card(21, 2100).await;
    let without = Config::from_uci("config tollgate 'main'\noption enabled '0'\n").unwrap().0;
    place.config.send_replace(Arc::new(without));
    assert_eq!(place.tap(&mut card).await, Err(Reason::NoCards));
    assert_eq!(place.cards.callback(&"0".repeat(32), "lnbc1").await, Err(Reason::NoCards));
}
