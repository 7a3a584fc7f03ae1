use super::*;
use crate::ecash::seed::Seed;
use crate::ecash::tests::fake_mint::{invoice, Answer, FakeMint, Request, INVOICE_SATS, INVOICE_TIME, QUOTE};
use serde_json::{json, Value};

const MEMO: &str = "Kibanda Wi-Fi: 1 h";

fn clock() -> Clock {
    Clock::manual("boot", Millis::from_secs(1000), UnixSeconds(0))
}

fn mint(fake: &FakeMint) -> Mint {
    Mint::new(fake.url.clone(), &Tls::new(None).unwrap(), clock())
}

fn seed() -> Seed {
    Seed::from_entropy(&[6; 16]).unwrap()
}

async fn quote(mint: &Mint) -> Result<NewQuote, EcashError> {
    let lock = seed().lock_key(0).unwrap().public_key();
    mint.quote(Sats(INVOICE_SATS), lock, MEMO.to_owned(), Urgency::Guest).await
}

async fn outputs(mint: &Mint) -> Arc<Outputs> {
    let keyset = mint.active_keyset(Urgency::Guest).await.unwrap();
    Arc::new(Outputs::prepare(&seed(), keyset.id(), 0, &keyset.split(Sats(13)).unwrap()).unwrap())
}

/// A mint that is honest but for what `change` does to answers on lines that begin with `line`.
fn lying(line: &'static str, change: impl Fn(&mut Value) + Send + Sync + 'static) -> FakeMint {
    FakeMint::start(move |request: &Request, mut answer| {
        if request.line.starts_with(line) {
            change(&mut answer);
        }
        Answer::Json(200, answer)
    })
}

async fn quote_refusal(
    line: &'static str,
    change: impl Fn(&mut Value) + Send + Sync + 'static,
) -> EcashError {
    let fake = lying(line, change);
    let mint = mint(&fake);
    let refused = quote(&mint).await.unwrap_err();
    if !line.starts_with("POST") {
        assert_eq!(fake.seen("POST"), 0, "refused before anything is asked for");
    }
    refused
}

#[tokio::test]
async fn a_good_quote_is_checked_and_lives_as_long_as_quote_and_invoice_do() {
    for (expiry, lifetime) in [
        (json!(INVOICE_TIME + 60), 60),
        (json!(INVOICE_TIME + 30), 30),
        (json!(INVOICE_TIME + 6000), 60),
        (json!(null), 60),
        (json!(INVOICE_TIME - 1), 60),
    ] {
        let fake = lying("POST", move |quote| quote["expiry"] = expiry.clone());
        let quote = quote(&mint(&fake)).await.unwrap();
        assert_eq!(quote.lifetime, Millis::from_secs(lifetime));
        assert_eq!(quote.id.as_str(), QUOTE);
        assert_eq!(quote.invoice_text.as_str(), invoice().as_str().unwrap());
        assert!(!format!("{quote:?}").contains("lnbc"));
    }
}

/// A mint that says so of descriptions, and refuses quotes as `refuses` says.
fn describing(method: Value, refuses: fn(&Value) -> bool) -> FakeMint {
    FakeMint::start(move |request, mut answer| match request.line.as_str() {
        "GET /v1/info" => {
            let methods = &mut answer["nuts"]["4"]["methods"];
            method.as_object().unwrap().iter().for_each(|(name, value)| methods[0][name] = value.clone());
            Answer::Json(200, answer)
        }
        "POST /v1/mint/quote/bolt11" if refuses(&request.body["description"]) => {
            Answer::Json(400, json!({"code": 11000, "detail": "not such a description"}))
        }
        _ => Answer::Json(200, answer),
    })
}

#[tokio::test]
async fn an_invoice_says_what_it_is_for_where_the_mint_can_write_it() {
    for (method, has_memo) in [
        (json!({"options": {"description": true}}), true),
        (json!({"description": true}), true),
        (json!({"options": {"description": false}}), false),
        (json!({"options": null}), false),
    ] {
        let fake = match has_memo {
            true => describing(method, |description| *description != MEMO),
            false => describing(method, |description| !description.is_null()),
        };
        quote(&mint(&fake)).await.unwrap();
        assert_eq!(fake.seen("POST /v1/mint/quote"), 1);
    }
    let fake = describing(json!({"options": {"description": true}}), |description| !description.is_null());
    quote(&mint(&fake)).await.unwrap();
    assert_eq!(fake.seen("POST /v1/mint/quote"), 2, "once more without it");
}

#[tokio::test]
async fn a_quote_that_is_not_what_was_asked_for_is_a_lie() {
    let post = "POST /v1/mint/quote";
    for (refused, lie) in [
        (quote_refusal(post, |q| q["amount"] = json!(INVOICE_SATS - 1)).await, Lie::QuoteAmount),
        (quote_refusal(post, |q| q["unit"] = json!("usd")).await, Lie::QuoteAmount),
        (quote_refusal(post, |q| q["pubkey"] = json!("02ab")).await, Lie::OtherLock),
        (quote_refusal(post, |q| q["request"] = json!(null)).await, Lie::NoInvoice),
        (quote_refusal(post, |q| q["request"] = json!("lnbc1")).await, Lie::NoInvoice),
        (quote_refusal(post, |q| q["request"] = json!("x".repeat(5000))).await, Lie::NoInvoice),
    ] {
        assert_eq!(refused, EcashError::Lied(lie));
    }
}

#[tokio::test]
async fn an_invoice_over_another_amount_is_a_lie_and_on_record() {
    let fake = FakeMint::honest();
    let mint = mint(&fake);
    let lock = seed().lock_key(0).unwrap().public_key();
    let refused =
        mint.quote(Sats(INVOICE_SATS - 1), lock, MEMO.to_owned(), Urgency::Guest).await.unwrap_err();
    assert_eq!(refused, EcashError::Lied(Lie::InvoiceAmount));
    assert!(mint.health().failures == 1 && mint.health().last_failure.is_some());
}

#[tokio::test]
async fn a_mint_that_cannot_be_trusted_with_money_is_refused_before_the_quote() {
    let unsuitable = quote_refusal("GET /v1/info", |info| info["nuts"]["9"] = json!(null)).await;
    assert!(matches!(unsuitable, EcashError::Unsuitable(_)));
    let foreign = "02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2";
    let forged =
        quote_refusal("GET /v1/keys/", move |keys| keys["keysets"][0]["keys"]["1"] = json!(foreign)).await;
    assert!(matches!(forged, EcashError::Lied(Lie::Keyset(_))));
    let inactive =
        quote_refusal("GET /v1/keysets", |keysets| keysets["keysets"][0]["active"] = json!(false)).await;
    assert!(matches!(inactive, EcashError::Unsuitable(_)));
    let expired =
        quote_refusal("GET /v1/keysets", |k| k["keysets"][0]["final_expiry"] = json!(INVOICE_TIME)).await;
    assert!(matches!(expired, EcashError::Unsuitable(_)));
}

#[tokio::test]
async fn amounts_beyond_the_mints_limits_are_refused_before_the_quote() {
    let fake = FakeMint::honest();
    let mint = mint(&fake);
    let lock = seed().lock_key(0).unwrap().public_key();
    for amount in [0, 500_001, u64::MAX] {
        let refused = mint.quote(Sats(amount), lock, MEMO.to_owned(), Urgency::Guest).await.unwrap_err();
        assert_eq!(refused, EcashError::AmountOutOfRange(None, Some(Sats(500_000))));
    }
    assert_eq!(fake.seen("POST"), 0);
}

#[tokio::test]
async fn what_rarely_changes_is_asked_for_once() {
    let fake = FakeMint::honest();
    let clock = clock();
    let mint = Mint::new(fake.url.clone(), &Tls::new(None).unwrap(), clock.clone());
    for _ in 0..3 {
        quote(&mint).await.unwrap();
    }
    let counts = || [fake.seen("GET /v1/info"), fake.seen("GET /v1/keysets"), fake.seen("GET /v1/keys/")];
    assert_eq!(counts(), [1, 1, 1]);
    clock.advance(KEYSETS_KEPT);
    quote(&mint).await.unwrap();
    assert_eq!(counts(), [1, 2, 1]);
    clock.advance(INFO_KEPT);
    quote(&mint).await.unwrap();
    assert_eq!(counts(), [2, 3, 1]);
}

#[tokio::test]
async fn a_signed_answer_becomes_proofs_and_is_restored_alike() {
    let fake = FakeMint::honest();
    let mint = mint(&fake);
    let (id, outputs) = (QuoteId::parse(QUOTE).unwrap(), outputs(&mint).await);
    let lock = seed().lock_key(0).unwrap();
    let proofs = mint.mint(&id, outputs.clone(), lock, Urgency::Guest).await.unwrap();
    let restored = mint.restore(outputs, Urgency::Background).await.unwrap();
    assert!(proofs.iter().zip(&restored).all(|(a, b)| a.c == b.c && a.secret == b.secret));
    assert_eq!(proofs.len(), restored.len());
}

#[tokio::test]
async fn signatures_without_or_with_wrong_evidence_are_lies_whose_outcome_must_be_looked_up() {
    for (change, lie) in [
        ((|s| s["dleq"] = json!(null)) as fn(&mut Value), Lie::NoDleq),
        (|s| s["dleq"]["e"] = json!("00".repeat(32)), Lie::BadDleq),
        (|s| s["dleq"]["s"] = json!("zz"), Lie::BadDleq),
        (|s| s["amount"] = json!(2), Lie::SignatureTerms),
        (|s| s["id"] = json!("0000000000000000"), Lie::SignatureTerms),
        (|s| s["id"] = json!("?"), Lie::SignatureTerms),
    ] {
        let fake = lying("POST /v1/mint/bolt11", move |answer| change(&mut answer["signatures"][0]));
        let mint = mint(&fake);
        let (id, outputs) = (QuoteId::parse(QUOTE).unwrap(), outputs(&mint).await);
        let refused = mint.mint(&id, outputs, seed().lock_key(0).unwrap(), Urgency::Guest).await.unwrap_err();
        assert_eq!(refused, EcashError::Lied(lie));
        assert!(refused.outcome_unknown());
    }
}

#[tokio::test]
async fn after_a_429_background_looks_hold_back_and_guests_do_not() {
    let fake = FakeMint::start(|request, answer| match request.line.starts_with("GET /v1/mint/quote") {
        true => Answer::Json(429, json!({"detail": "Rate limit exceeded."})),
        false => Answer::Json(200, answer),
    });
    let clock = clock();
    let mint = Mint::new(fake.url.clone(), &Tls::new(None).unwrap(), clock.clone());
    let id = QuoteId::parse(QUOTE).unwrap();
    let look = |urgency| mint.quote_state(&id, urgency);
    assert_eq!(look(Urgency::Background).await.unwrap_err(), EcashError::RateLimited);
    let held = look(Urgency::Background).await.unwrap_err();
    assert!(matches!(held, EcashError::BackingOff(left) if left >= BACK_OFF), "{held:?}");
    assert_eq!(fake.seen("GET /v1/mint/quote"), 1);
    assert_eq!(look(Urgency::Guest).await.unwrap_err(), EcashError::RateLimited);
    assert_eq!(fake.seen("GET /v1/mint/quote"), 2);
    // Mints count per path: another quote is free.
    let other = QuoteId::parse("other").unwrap();
    assert_eq!(mint.quote_state(&other, Urgency::Background).await.unwrap_err(), EcashError::RateLimited);
    clock.advance(Millis::from_secs(61 + 15));
    assert_eq!(look(Urgency::Background).await.unwrap_err(), EcashError::RateLimited);
}

#[tokio::test]
async fn a_mint_that_kept_a_guest_waiting_is_away_for_a_while_whatever_it_says_of_itself() {
    let fake = FakeMint::honest();
    let clock = clock();
    let mint = Mint::new(fake.url.clone(), &Tls::new(None).unwrap(), clock.clone());
    quote(&mint).await.unwrap();
    mint.kept_a_guest_waiting();
    assert!(mint.answers(), "it was not what the guest waited for");
    let _asking = mint.0.calls.clone().try_acquire_owned().unwrap();
    mint.kept_a_guest_waiting();
    mint.probe().await.unwrap();
    assert!(!mint.seems_reachable() && mint.health().last_failure.is_some());
    clock.advance(AWAY_FOR);
    assert!(mint.answers());
    mint.kept_a_guest_waiting();
    quote(&mint).await.unwrap();
    assert!(mint.answers(), "a guest was served");
}

#[tokio::test]
async fn a_hanging_mint_takes_two_calls_at_most_and_background_one() {
    // Nothing is answered until the sender is dropped.
    let (silent, answers) = std::sync::mpsc::channel::<()>();
    let answers = std::sync::Mutex::new(answers);
    let fake = FakeMint::start(move |_, answer| {
        let _ = answers.lock().unwrap().recv();
        Answer::Json(200, answer)
    });
    let until_asked = async |count| {
        while fake.most_at_once.lock().unwrap().0 < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mint = mint(&fake);
    let id = QuoteId::parse(QUOTE).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for urgency in [Urgency::Background, Urgency::Background, Urgency::Background] {
        let (mint, id) = (mint.clone(), id.clone());
        calls.spawn(async move { mint.quote_state(&id, urgency).await });
    }
    until_asked(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fake.most_at_once.lock().unwrap().1, 1);
    for _ in 0..4 {
        let (mint, id) = (mint.clone(), id.clone());
        calls.spawn(async move { mint.quote_state(&id, Urgency::Guest).await });
    }
    until_asked(2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(silent);
    calls.join_all().await;
    assert_eq!(fake.most_at_once.lock().unwrap().1, 2);
}

#[tokio::test]
async fn an_inactive_keyset_makes_the_keysets_be_read_anew() {
    let fake = FakeMint::start(|request, answer| match request.line.as_str() {
        "POST /v1/mint/bolt11" => Answer::Json(400, json!({"detail": "keyset id inactive.", "code": 11000})),
        _ => Answer::Json(200, answer),
    });
    let mint = mint(&fake);
    let (id, outputs) = (QuoteId::parse(QUOTE).unwrap(), outputs(&mint).await);
    let refused = mint.mint(&id, outputs, seed().lock_key(0).unwrap(), Urgency::Guest).await.unwrap_err();
    assert_eq!(refused, EcashError::KeysetInactive);
    mint.active_keyset(Urgency::Guest).await.unwrap();
    assert_eq!(fake.seen("GET /v1/keysets"), 2);
    assert_eq!(mint.health().failures, 0, "a refusal is an answer");
}

#[tokio::test]
async fn states_of_proofs_are_asked_for_by_their_points() {
    let fake = FakeMint::honest();
    let ys = vec![seed().lock_key(1).unwrap().public_key(), seed().lock_key(2).unwrap().public_key()];
    let states = mint(&fake).proof_states(ys, Urgency::Background).await.unwrap();
    assert_eq!(states, [ProofState::Unspent, ProofState::Unspent]);
}

#[tokio::test]
async fn keysets_that_nobody_has_heard_of_do_not_make_the_mint_be_asked_without_end() {
    let fake = FakeMint::honest();
    let mint = mint(&fake);
    for _ in 0..20 {
        mint.keysets_anew(Urgency::Guest).await.unwrap();
    }
    assert_eq!(fake.seen("GET /v1/keysets"), 6);
}

/// A mint with NUT-29, whose quotes are all paid; but for those called `bad`.
fn taking_many() -> FakeMint {
    FakeMint::start(|request: &Request, mut answer| {
        let asked = request.line.rsplit('/').next().unwrap().to_owned();
        let quote = |id: &Value| json!({"quote": id, "request": invoice(), "state": "PAID", "expiry": null});
        match request.line.as_str() {
            "GET /v1/info" => answer["nuts"]["29"] = json!({"max_batch_size": 10, "methods": ["bolt11"]}),
            "POST /v1/mint/quote/bolt11/check" => {
                let ids = request.body["quotes"].as_array().unwrap();
                if ids.iter().any(|id| id == "bad") {
                    return Answer::Json(400, json!({"detail": "quote not found", "code": 0}));
                }
                answer = ids.iter().map(quote).collect();
            }
            line if line.starts_with("GET /v1/mint/quote") => answer = quote(&json!(asked)),
            _ => {}
        }
        Answer::Json(200, answer)
    })
}

async fn look_at(mint: &Mint, ids: &[String]) -> usize {
    let mut looks = tokio::task::JoinSet::new();
    for id in ids.iter().map(|id| QuoteId::parse(id).unwrap()) {
        let mint = mint.clone();
        looks.spawn(async move { (mint.quote_state(&id, Urgency::Background).await.unwrap().id, id) });
    }
    let answers = looks.join_all().await;
    assert!(answers.iter().all(|(answered, asked)| answered == asked));
    answers.len()
}

#[tokio::test]
async fn quotes_that_are_looked_at_together_cost_one_question_where_the_mint_takes_many() {
    let fake = taking_many();
    let mint = mint(&fake);
    mint.info(Urgency::Guest).await.unwrap();
    let ids: Vec<String> = (0..25).map(|number| format!("quote-{number}")).collect();
    assert_eq!(look_at(&mint, &ids).await, 25);
    assert_eq!(fake.seen("POST /v1/mint/quote/bolt11/check"), 3);
    assert_eq!(fake.seen("GET /v1/mint/quote"), 0);
    assert_eq!(look_at(&mint, &ids[..1]).await, 1);
    assert_eq!((fake.seen("POST"), fake.seen("GET /v1/mint/quote")), (3, 1));
}

#[tokio::test]
async fn one_quote_that_the_mint_does_not_know_spoils_no_other() {
    let fake = taking_many();
    let mint = mint(&fake);
    mint.info(Urgency::Guest).await.unwrap();
    assert_eq!(look_at(&mint, &["one".to_owned(), "bad".to_owned(), "two".to_owned()]).await, 3);
    assert_eq!(fake.seen("GET /v1/mint/quote"), 3);
}
