use super::*;
use futures_util::future::join_all;
use serde_json::json;

fn order() -> Value {
    json!({"card_name": " Alice ", "tx_max": 21, "day_max": 210, "enabled": true, "uid_privacy": true})
}

#[tokio::test]
async fn a_programmer_gets_exactly_what_it_reads() {
    let place = Place::new().await;
    let made = place.cards.create(&order()).await.unwrap();
    assert_eq!(made["status"], "OK");
    assert_eq!(made["expires_at"], NOW + 86_400);
    assert_eq!(made["url"], format!("https://c.example/new?a={}", code_of(&made)));
    assert!(made["deep_link"].as_str().unwrap().starts_with("boltcard://program?url=https%3A%2F%2F"));
    let code = code_of(&made);
    assert!(code.len() == 32 && code.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    let answer = place.cards.program(code, None).await.unwrap();
    assert_eq!(answer["protocol_name"], "create_bolt_card_response");
    assert_eq!((&answer["protocol_version"], &answer["card_name"]), (&json!(2), &json!("Alice")));
    assert_eq!(answer["lnurlw_base"], format!("lnurlw://c.example/ln?card_id={}", made["card_id"]));
    assert_eq!(answer["uid_privacy"], "Y");
    let keys: std::collections::BTreeSet<&str> =
        ["k0", "k1", "k2", "k3", "k4"].map(|name| answer[name].as_str().unwrap()).into();
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|key| key.len() == 32));
}

#[tokio::test]
async fn a_code_hands_the_keys_out_once() {
    let place = Place::new().await;
    let made = place.cards.create(&order()).await.unwrap();
    let answers = join_all((0..10).map(|_| place.cards.program(code_of(&made), None))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().flat_map(|answer| answer.as_ref().err()).all(|why| *why == Reason::NoCode));
    for code in ["", "00", &"0".repeat(32), "' or 1=1"] {
        assert_eq!(place.cards.program(code, None).await, Err(Reason::NoCode));
    }
}

#[tokio::test]
async fn a_code_ends_after_a_day_and_is_not_in_the_database() {
    let place = Place::new().await;
    let made = place.cards.create(&order()).await.unwrap();
    let code: [u8; 16] = hex::decode(code_of(&made)).unwrap();
    for name in ["store.db", "store.db-wal"] {
        let bytes = std::fs::read(place.dir().join(name)).unwrap();
        assert!(!bytes.windows(16).any(|window| window == code));
        assert!(!bytes.windows(32).any(|window| window == code_of(&made).as_bytes()));
    }
    place.clock.advance(Millis::from_secs(86_400));
    assert_eq!(place.cards.program(code_of(&made), None).await, Err(Reason::NoCode));
}

#[tokio::test]
async fn a_programmer_that_names_the_chip_binds_it() {
    let place = Place::new().await;
    let made = place.cards.create(&order()).await.unwrap();
    assert_eq!(place.cards.program(code_of(&made), Some("04AB")).await, Err(Reason::NoUid));
    let answer = place.cards.program(code_of(&made), Some("04AABBCCDDEE01")).await.unwrap();
    assert_eq!(answer["K1"], answer["k1"]);
    assert_eq!(answer["LNURLW"], answer["lnurlw_base"]);
    let mut card = Card {
        id: made["card_id"].as_i64().unwrap(),
        k1: key(&answer, "K1"),
        k2: key(&answer, "K2"),
        uid: [9; 7],
        counter: 0,
    };
    assert_eq!(place.tap(&mut card).await, Err(Reason::Unreadable));
    card.uid = [4, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1];
    assert!(place.tap(&mut card).await.is_ok());
}

#[tokio::test]
async fn a_chip_that_is_a_card_already_is_wiped_before_it_becomes_another() {
    let place = Place::new().await;
    let (first, second) =
        (place.cards.create(&order()).await.unwrap(), place.cards.create(&order()).await.unwrap());
    let card = first["card_id"].as_i64().unwrap();
    let chip = Some("04aabbccddee01");
    place.cards.program(code_of(&first), chip).await.unwrap();
    let refused = place.cards.program(code_of(&second), chip).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("this chip is card {card}: wipe it first"));
    assert_eq!(place.cards.program("00".repeat(16).as_str(), chip).await, Err(Reason::NoCode));
    place.cards.wipe(card).await.unwrap();
    assert!(place.cards.program(code_of(&second), chip).await.is_ok(), "the code stays good");
    // The same card gets new keys onto its own chip.
    let again = place.cards.reprogram(second["card_id"].as_i64().unwrap()).await.unwrap();
    assert!(place.cards.program(code_of(&again), chip).await.is_ok());
}

#[tokio::test]
async fn new_keys_begin_with_a_new_counter_and_end_the_old() {
    let place = Place::new().await;
    let mut old = place.card(21, 210).await;
    old.counter = 100;
    place.tap(&mut old).await.unwrap();
    let made = place.cards.reprogram(old.id).await.unwrap();
    assert_eq!(place.tap(&mut old).await, Err(Reason::Unreadable));
    let mut new = place.programmed(&made).await;
    assert_eq!(new.id, old.id);
    assert!(place.tap(&mut new).await.is_ok(), "counter 1 under the new keys");
    let again = place.after_power_cut().await;
    assert_eq!(again.tap(&mut old).await, Err(Reason::Unreadable));
    assert!(again.tap(&mut new).await.is_ok());
    assert_eq!(again.states(&new).await.len(), 3, "the history stays");
}

#[tokio::test]
async fn a_wiped_card_pays_no_more_and_its_keys_are_told() {
    let place = Place::new().await;
    let mut card = place.card(21, 210).await;
    place.tap(&mut card).await.unwrap();
    for _ in 0..2 {
        let wiped = place.cards.wipe(card.id).await.unwrap();
        assert_eq!((&wiped["action"], &wiped["version"]), (&json!("wipe"), &json!(1)));
        assert_eq!((key(&wiped, "k1"), key(&wiped, "k2")), (card.k1, card.k2));
        assert_eq!(wiped["uid"], hex::encode(&card.uid));
    }
    assert_eq!(place.tap(&mut card).await, Err(Reason::Unreadable));
    // Keys that are in the making are not on the chip yet: those before are.
    let made = place.cards.reprogram(card.id).await.unwrap();
    assert_eq!(key(&place.cards.wipe(card.id).await.unwrap(), "k1"), card.k1);
    assert_eq!(place.cards.program(code_of(&made), None).await, Err(Reason::NoCode), "wiping voids the code");
    let unused = place.cards.create(&order()).await.unwrap();
    let wiped = place.cards.wipe(unused["card_id"].as_i64().unwrap()).await.unwrap();
    assert_eq!((&wiped["action"], wiped.get("k0")), (&json!("none"), None));
}

#[tokio::test]
async fn what_no_card_can_be_made_of_is_refused() {
    let place = Place::new().await;
    for (name, value) in [
        ("card_name", json!("")),
        ("card_name", json!("   ")),
        ("card_name", json!("a\nb")),
        ("card_name", json!("x".repeat(65))),
        ("card_name", json!(5)),
        ("card_name", Value::Null),
        ("tx_max", json!(211)),
        ("tx_max", json!(-1)),
        ("tx_max", json!(1.5)),
        ("tx_max", json!("21")),
        ("tx_max", Value::Null),
        ("day_max", json!(2_100_000_000_000_001u64)),
        ("day_max", json!(18_446_744_073_709_551_615u64)),
        ("enabled", json!("yes")),
        ("uid_privacy", json!("Y")),
    ] {
        let mut bad = order();
        bad[name] = value;
        let refused = place.cards.create(&bad).await;
        assert!(matches!(refused, Err(super::super::CardError::Input(_))), "{bad}");
    }
    assert!(place.cards.create(&json!([1])).await.is_err());
    assert_eq!(place.cards.list().await.unwrap(), json!([]));
    let made = place.cards.create(&order()).await.unwrap();
    let id = made["card_id"].as_i64().unwrap();
    assert!(place.cards.limit(id, &json!({"tx_max": 211})).await.is_err());
    assert_eq!(place.cards.limit(id, &json!({"tx_max": 210})).await.unwrap()["tx_max"], 210);
    for nobody in [0, -1, 99] {
        assert_eq!(place.cards.show(nobody).await.unwrap_err().code(), "no_such_card");
        assert_eq!(place.cards.wipe(nobody).await.unwrap_err().code(), "no_such_card");
        assert_eq!(place.cards.reprogram(nobody).await.unwrap_err().code(), "no_such_card");
        assert_eq!(place.cards.history(nobody).await.unwrap_err().code(), "no_such_card");
        assert_eq!(place.cards.enable(nobody, true).await.unwrap_err().code(), "no_such_card");
    }
}

#[tokio::test]
async fn cards_of_one_name_are_two_cards() {
    let place = Place::new().await;
    let mut first = place.card(21, 210).await;
    place.card(21, 210).await;
    assert!(place.tap(&mut first).await.is_ok());
    assert_eq!(place.cards.count(), 2);
}
