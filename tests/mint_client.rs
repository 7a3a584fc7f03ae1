//! The mint client against a real mint (nutshell), whose Lightning wallet is controlled over HTTP.
//!
//! Needs three things in the environment, which `make test` sets up:
//! `TOLLGATED_TEST_MINT` (the mint's URL), `TOLLGATED_TEST_MINT_CTL` (URL of its control port, where
//! `POST /pay/<payment hash>` pays an invoice and `POST /rotate` rotates the sat keyset) and
//! `TOLLGATED_TEST_CASHU` (nutshell's `cashu` command, the wallet that has to accept our tokens).

use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgated::calls::Tls;
use tollgated::clock::Clock;
use tollgated::config::MintUrl;
use tollgated::ecash::token;
use tollgated::ecash::{
    EcashError, Mint, MintClient, MintEvent, NewQuote, Outputs, Proof, ProofState, QuoteId, QuoteState,
    QuoteWatch, SecretKey, Seed, Token, Urgency,
};
use tollgated::units::{Millis, Sats};

/// A rotation in one test would change the keyset under another.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Bench {
    mint: Mint,
    seed: Seed,
    lock: SecretKey,
    _alone: MutexGuard<'static, ()>,
}

impl Bench {
    async fn new() -> Bench {
        let _alone = ALONE.lock().await;
        let seed = Seed::generate().unwrap();
        let lock = seed.lock_key(0).unwrap();
        Bench { mint: mint_at(&env("TOLLGATED_TEST_MINT")), seed, lock, _alone }
    }

    async fn quote(&self, amount: u64) -> NewQuote {
        self.mint
            .quote(Sats(amount), self.lock.public_key(), "test".to_owned(), Urgency::Guest)
            .await
            .unwrap()
    }

    async fn paid_quote(&self, amount: u64) -> NewQuote {
        let quote = self.quote(amount).await;
        pay(&quote).await;
        let state = self.mint.quote_state(&quote.id, Urgency::Guest).await.unwrap().state;
        assert_eq!(state, QuoteState::Paid);
        quote
    }

    async fn outputs(&self, amount: u64, first_counter: u32) -> Arc<Outputs> {
        let keyset = self.mint.active_keyset(Urgency::Guest).await.unwrap();
        let amounts = keyset.split(Sats(amount)).unwrap();
        Arc::new(Outputs::prepare(&self.seed, keyset.id(), first_counter, &amounts).unwrap())
    }

    async fn claim(&self, quote: &NewQuote, outputs: &Arc<Outputs>) -> Result<Vec<Proof>, EcashError> {
        self.mint.mint(&quote.id, outputs.clone(), self.lock.clone(), Urgency::Guest).await
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: this suite needs a real mint, run it with `make test` (see the top of {})",
            file!()
        )
    })
}

fn mint_at(url: &str) -> Mint {
    Mint::new(MintUrl::parse(url).unwrap(), &Tls::new(None).unwrap(), Clock::machine())
}

async fn control(path: String, body: &'static str) {
    let url = format!("{}{path}", env("TOLLGATED_TEST_MINT_CTL"));
    let done = tokio::task::spawn_blocking(move || ureq::post(url).send(body)).await.unwrap();
    assert_eq!(done.unwrap().status(), 200);
}

async fn pay(quote: &NewQuote) {
    let hash: String = quote.invoice.payment_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    control(format!("/pay/{hash}"), "").await;
}

async fn next(events: &mut mpsc::Receiver<MintEvent>) -> MintEvent {
    timeout(Duration::from_secs(60), events.recv()).await.expect("an event in time").unwrap()
}

fn total(proofs: &[Proof]) -> u64 {
    proofs.iter().map(|proof| proof.amount.0).sum()
}

fn secrets(proofs: &[Proof]) -> HashSet<String> {
    proofs.iter().map(|proof| format!("{} {}", proof.secret.as_str(), proof.c)).collect()
}

#[tokio::test]
async fn a_paid_quote_is_announced_and_becomes_a_token_that_a_wallet_accepts() {
    let bench = Bench::new().await;
    let quote = bench.quote(213).await;
    assert!(quote.invoice.asks_for(Sats(213)));
    assert!(quote.lifetime >= Millis::from_secs(60) && quote.lifetime <= Millis::from_secs(86_400));
    let outputs = bench.outputs(213, 0).await;
    assert_eq!(bench.claim(&quote, &outputs).await.unwrap_err(), EcashError::NotPaid);

    let (watch, mut events) = QuoteWatch::start(bench.mint.url().clone(), &Tls::new(None).unwrap());
    watch.watch(quote.id.clone());
    // nutshell tells the present state of a quote when it is subscribed, before or after its answer.
    while next(&mut events).await != MintEvent::Resubscribed {}
    let started = Instant::now();
    pay(&quote).await;
    let paid = MintEvent::Quote(quote.id.clone(), QuoteState::Paid);
    while next(&mut events).await != paid {}
    println!("paid -> event: {:?}", started.elapsed());

    let started = Instant::now();
    let proofs = bench.claim(&quote, &outputs).await.unwrap();
    println!("event -> proofs: {:?}", started.elapsed());
    assert_eq!(total(&proofs), 213);
    let keyset = bench.mint.active_keyset(Urgency::Guest).await.unwrap();
    assert!(proofs.iter().all(|proof| proof.dleq_holds(&keyset) == Some(true)));
    let issued = MintEvent::Quote(quote.id.clone(), QuoteState::Issued);
    while next(&mut events).await != issued {}
    watch.forget(quote.id.clone());

    let ys: Vec<_> = proofs.iter().map(|proof| proof.secret.y()).collect();
    let states = bench.mint.proof_states(ys.clone(), Urgency::Guest).await.unwrap();
    assert!(states.iter().all(|state| *state == ProofState::Unspent));

    let text = token::encode(bench.mint.url(), "sat", &proofs);
    let read = Token::parse(&text).unwrap();
    assert_eq!(read.total(), Some(Sats(213)));
    receive_with_nutshell(&text);
    let states = bench.mint.proof_states(ys, Urgency::Guest).await.unwrap();
    assert!(states.iter().all(|state| *state == ProofState::Spent));
    assert_eq!(bench.mint.health().failures, 0);
}

/// Has nutshell's own wallet take the token in.
fn receive_with_nutshell(text: &str) {
    let home = std::env::temp_dir().join(format!("tollgated-wallet-{}", std::process::id()));
    // It may be of a process that was killed and had our number before us.
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).unwrap();
    let received = Command::new(env("TOLLGATED_TEST_CASHU"))
        .args(["--host", &env("TOLLGATED_TEST_MINT"), "--yes", "receive", text])
        .current_dir(&home)
        .env("HOME", &home)
        .env("CASHU_DIR", home.join("wallet"))
        .env("TOR", "FALSE")
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&home);
    let said = String::from_utf8_lossy(&received.stdout).into_owned();
    assert!(received.status.success() && said.contains("Received 213 sat"), "{received:?}");
}

#[tokio::test]
async fn what_a_lost_answer_held_is_restored_from_the_same_outputs() {
    let bench = Bench::new().await;
    let quote = bench.paid_quote(77).await;
    let outputs = bench.outputs(77, 10).await;
    let proofs = bench.claim(&quote, &outputs).await.unwrap();

    // The answer was lost: the very same request again, then restore.
    let again = bench.claim(&quote, &outputs).await.unwrap_err();
    assert!(matches!(again, EcashError::OutputsAlreadySigned | EcashError::AlreadyIssued), "{again:?}");
    let state = bench.mint.quote_state(&quote.id, Urgency::Guest).await.unwrap().state;
    assert_eq!(state, QuoteState::Issued);
    let rebuilt = bench.outputs(77, 10).await;
    let restored = bench.mint.restore(rebuilt, Urgency::Guest).await.unwrap();
    assert_eq!(secrets(&restored), secrets(&proofs));

    // Other outputs get nothing for the same quote.
    let others = bench.outputs(77, 50).await;
    assert_eq!(bench.claim(&quote, &others).await.unwrap_err(), EcashError::AlreadyIssued);
    assert!(bench.mint.restore(others, Urgency::Guest).await.unwrap().is_empty());
}

#[tokio::test]
async fn outputs_that_were_never_signed_restore_to_nothing() {
    let bench = Bench::new().await;
    let outputs = bench.outputs(1023, 0).await;
    assert!(bench.mint.restore(outputs, Urgency::Guest).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_keyset_rotated_after_the_quote_costs_new_outputs_only() {
    let bench = Bench::new().await;
    let quote = bench.paid_quote(21).await;
    let old = bench.outputs(21, 0).await;
    control("/rotate".to_owned(), r#"{"input_fee_ppk":100}"#).await;
    assert_eq!(bench.claim(&quote, &old).await.unwrap_err(), EcashError::KeysetInactive);
    let state = bench.mint.quote_state(&quote.id, Urgency::Guest).await.unwrap().state;
    assert_eq!(state, QuoteState::Paid);

    let new = bench.outputs(21, 0).await;
    assert_ne!(new.keyset(), old.keyset());
    let keyset = bench.mint.active_keyset(Urgency::Guest).await.unwrap();
    assert_eq!(keyset.terms().input_fee_ppk, 100);
    assert_eq!(total(&bench.claim(&quote, &new).await.unwrap()), 21);
    // The old keyset's keys are still to be had, for what was signed with them.
    let restarted = mint_at(&env("TOLLGATED_TEST_MINT"));
    assert!(restarted.restore(old, Urgency::Guest).await.unwrap().is_empty());
    control("/rotate".to_owned(), r#"{"input_fee_ppk":0}"#).await;
}

#[tokio::test]
async fn a_quote_can_only_be_claimed_with_the_key_it_is_locked_to() {
    let bench = Bench::new().await;
    let quote = bench.paid_quote(8).await;
    let outputs = bench.outputs(8, 0).await;
    let thief = bench.seed.lock_key(1).unwrap();
    let refused = bench.mint.mint(&quote.id, outputs.clone(), thief, Urgency::Guest).await.unwrap_err();
    assert_eq!(refused, EcashError::SignatureRefused);
    assert_eq!(total(&bench.claim(&quote, &outputs).await.unwrap()), 8);
}

#[tokio::test]
async fn of_many_claims_at_once_the_money_comes_out_once() {
    let bench = Bench::new().await;
    let quote = bench.paid_quote(100).await;
    let outputs = bench.outputs(100, 0).await;
    let mut claims = JoinSet::new();
    for _ in 0..6 {
        let (mint, id) = (bench.mint.clone(), quote.id.clone());
        let (outputs, lock) = (outputs.clone(), bench.lock.clone());
        claims.spawn(async move { mint.mint(&id, outputs, lock, Urgency::Guest).await });
    }
    let won: Vec<_> = claims.join_all().await.into_iter().filter_map(Result::ok).collect();
    assert!(won.iter().all(|proofs| total(proofs) == 100));
    let restored = bench.mint.restore(outputs, Urgency::Guest).await.unwrap();
    assert_eq!(total(&restored), 100);
    assert!(won.iter().all(|proofs| secrets(proofs) == secrets(&restored)));
}

#[tokio::test]
async fn an_unknown_quote_is_told_as_such() {
    let bench = Bench::new().await;
    let id = QuoteId::parse("01a1fb5d-aa26-74b5-bccd-75c42dcf678c").unwrap();
    let refused = bench.mint.quote_state(&id, Urgency::Guest).await.unwrap_err();
    assert_eq!(refused, EcashError::QuoteUnknown);
}

#[tokio::test]
async fn a_mint_that_is_down_is_unreachable_and_nothing_is_unknown() {
    let _alone = ALONE.lock().await;
    // Nobody listens at port 1; one that was free a moment ago may be somebody's by now.
    let mint = mint_at("http://127.0.0.1:1");
    let lock = Seed::generate().unwrap().lock_key(0).unwrap().public_key();
    let refused = mint.quote(Sats(1), lock, "test".to_owned(), Urgency::Guest).await.unwrap_err();
    assert!(matches!(refused, EcashError::Unreachable(_)) && !refused.outcome_unknown(), "{refused:?}");
    assert_eq!(mint.health().failures, 1);
}

#[tokio::test]
async fn quotes_are_looked_at_together() {
    let bench = Bench::new().await;
    assert!(bench.mint.info(Urgency::Guest).await.unwrap().quotes_at_once.is_some());
    let (paid, unpaid) = (bench.paid_quote(21).await, bench.quote(13).await);
    let client = MintClient::new(bench.mint.url().clone(), &Tls::new(None).unwrap());
    let ids = [paid.id.clone(), unpaid.id.clone()];
    let together = client.quote_states(&ids).await.unwrap();
    assert_eq!([&together[0].id, &together[1].id], [&paid.id, &unpaid.id]);
    assert_eq!([together[0].state, together[1].state], [QuoteState::Paid, QuoteState::Unpaid]);
    let looks = [paid.id, unpaid.id].map(|id| {
        let mint = bench.mint.clone();
        tokio::spawn(async move { mint.quote_state(&id, Urgency::Background).await.unwrap().state })
    });
    let [paid, unpaid] = looks;
    assert_eq!((paid.await.unwrap(), unpaid.await.unwrap()), (QuoteState::Paid, QuoteState::Unpaid));
}
