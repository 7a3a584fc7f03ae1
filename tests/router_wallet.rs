//! The router's own wallet having a real mint (nutshell) pay invoices: what it costs, what comes back, and what becomes
//! of a payment whose end is not known, over a restart of ours.
//!
//! Needs `TOLLGATED_TEST_MINT` and `TOLLGATED_TEST_MINT_CTL` (see `mint_client.rs`), and `TOLLGATED_TEST_INVOICES`:
//! invoices over 100 sat that nobody has paid, each used once.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tollgated::calls::Tls;
use tollgated::clock::Clock;
use tollgated::config::MintUrl;
use tollgated::ecash::wallet::{self, Melted, Received, Wallet, WalletError};
use tollgated::ecash::{token, MintEvent, Mints, Outputs, Seed, Urgency};
use tollgated::store::{PurseName, Store};
use tollgated::units::Sats;

/// The mint's Lightning wallet is set for all.
static ALONE: Mutex<()> = Mutex::new(());
static INVOICE: AtomicUsize = AtomicUsize::new(0);
const FEE_LIMIT_MSAT: u64 = 5000;

/// A state directory, gone at the end.
struct Router {
    dir: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// A program between its start and its end.
struct Life {
    wallet: Wallet,
    mints: Mints,
    url: MintUrl,
}

impl Router {
    fn new(name: &str) -> Router {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = std::env::temp_dir().join(format!("tollgated-{name}-{}", std::process::id()));
        // It may be of a process that was killed and had our number before us.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        lightning("SETTLED", "SETTLED");
        Router { dir, _alone }
    }

    /// Everything that runs ends with it, wherever it is.
    fn live<T, F: Future<Output = T>>(&self, life: impl FnOnce(Life) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(Path::new(&self.dir), &Clock::machine()).unwrap();
            let (events, _kept) = mpsc::channel(64);
            let mints = Mints::new(Tls::new(None).unwrap(), Clock::machine(), events);
            let seed = Arc::new(wallet::seed(&store).await.unwrap());
            let (sessions, _kept) = mpsc::channel(64);
            let wallet = Wallet::start(store.clone(), mints.clone(), (PurseName::House, seed), sessions)
                .await
                .unwrap();
            let url = MintUrl::parse(&env("TOLLGATED_TEST_MINT")).unwrap();
            let outcome = life(Life { wallet, mints, url }).await;
            store.close().await;
            outcome
        })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Life {
    /// Somebody else's ecash, received.
    async fn receive(&self, amount: u64) {
        let (mint, seed) = (self.mints.get(&self.url), Seed::generate().unwrap());
        let lock = seed.lock_key(0).unwrap();
        let quote =
            mint.quote(Sats(amount), lock.public_key(), "test".to_owned(), Urgency::Guest).await.unwrap();
        let hash: String = quote.invoice.payment_hash().iter().map(|byte| format!("{byte:02x}")).collect();
        tokio::task::spawn_blocking(move || control(&format!("/pay/{hash}"), "")).await.unwrap();
        let keyset = mint.active_keyset(Urgency::Guest).await.unwrap();
        let outputs = Outputs::prepare(&seed, keyset.id(), 0, &keyset.split(Sats(amount)).unwrap()).unwrap();
        let proofs = mint.mint(&quote.id, Arc::new(outputs), lock, Urgency::Guest).await.unwrap();
        let text = token::encode(&self.url, "sat", &proofs);
        let offer = self.wallet.assess(&text, std::slice::from_ref(&self.url)).await.unwrap();
        let received = self.wallet.receive(offer, None).await;
        assert_eq!(received, Received::Done { net: Sats(amount), session: None });
    }

    async fn pay(&self, invoice: &str, name: &str) -> Melted {
        let offer = self.wallet.melt_quote(&self.url, invoice, FEE_LIMIT_MSAT).await.unwrap();
        self.wallet.melt(&offer, name).await
    }

    /// What may be spent, and what is held.
    async fn balance(&self) -> (u64, u64) {
        let balances = self.wallet.balances().await.unwrap();
        balances.first().map_or((0, 0), |one| (one.free.number, one.held.number))
    }

    /// What the mint itself calls good of all that is held, sent as a token and received again.
    async fn all_is_money(&self) {
        let (free, _) = self.balance().await;
        let sent = self.wallet.send(Sats(free), Some(&self.url), false).await.unwrap();
        assert_eq!(self.wallet.take_back(sent.id).await.unwrap(), Sats(free));
        assert_eq!(self.balance().await, (free, 0));
    }

    async fn until_known(&self, name: &str) -> Melted {
        let started = Instant::now();
        loop {
            match self.wallet.melted(name).await.unwrap() {
                Some(Melted::Unknown) if started.elapsed() < Duration::from_secs(60) => {
                    self.wallet.on_mint_event(&self.url, &MintEvent::Back);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                melted => return melted.unwrap(),
            }
        }
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run this suite with `make test` (see the top of {})", file!())
    })
}

fn invoice() -> String {
    let number = INVOICE.fetch_add(1, Ordering::Relaxed);
    env("TOLLGATED_TEST_INVOICES").split(' ').nth(number).unwrap().to_owned()
}

fn control(path: &str, body: &str) {
    let url = format!("{}{path}", env("TOLLGATED_TEST_MINT_CTL"));
    assert_eq!(ureq::post(url).send(body).unwrap().status(), 200);
}

/// What becomes of the mint's next payments: at once, and when it is looked at.
fn lightning(at_once: &str, later: &str) {
    let set =
        format!(r#"{{"fakewallet_pay_invoice_state": "{at_once}", "fakewallet_payment_state": "{later}"}}"#);
    control("/set", &set);
}

#[test]
fn a_payment_costs_what_the_mint_spent_and_the_rest_comes_back() {
    let router = Router::new("melt-paid");
    let invoice = invoice();
    let fee = router.live(|life| async move {
        life.receive(512).await;
        let Melted::Paid { fee, .. } = life.pay(&invoice, "one").await else { panic!("not paid") };
        assert!(fee <= Sats(FEE_LIMIT_MSAT / 1000), "{fee}");
        assert_eq!(life.balance().await, (412 - fee.0, 0));
        let again = life.wallet.melt_quote(&life.url, &invoice, FEE_LIMIT_MSAT).await;
        if let Ok(offer) = again {
            assert!(
                matches!(life.wallet.melt(&offer, "one").await, Melted::Paid { fee: same, .. } if same == fee)
            );
        }
        assert_eq!(life.balance().await, (412 - fee.0, 0));
        life.all_is_money().await;
        fee
    });
    router.live(|life| async move {
        assert!(matches!(life.wallet.melted("one").await.unwrap(), Some(Melted::Paid { .. })));
        assert_eq!(life.wallet.melted("two").await.unwrap(), None);
        assert_eq!(life.balance().await, (412 - fee.0, 0));
    });
}

#[test]
fn a_payment_that_the_mint_cannot_make_costs_nothing() {
    let router = Router::new("melt-failed");
    router.live(|life| async move {
        life.receive(128).await;
        lightning("FAILED", "FAILED");
        assert!(matches!(life.pay(&invoice(), "one").await, Melted::Failed(_)));
        assert_eq!(life.balance().await, (128, 0));
        life.all_is_money().await;
        lightning("SETTLED", "SETTLED");
        assert!(matches!(life.pay(&invoice(), "two").await, Melted::Paid { .. }));
        assert!(matches!(life.wallet.melted("one").await.unwrap(), Some(Melted::Failed(_))));
    });
}

#[test]
fn a_payment_under_way_is_waited_for_over_a_restart() {
    for (end, name) in [("SETTLED", "paid"), ("FAILED", "failed")] {
        let router = Router::new(&format!("melt-pending-{name}"));
        router.live(|life| async move {
            life.receive(256).await;
            lightning("PENDING", "PENDING");
            assert_eq!(life.pay(&invoice(), name).await, Melted::Unknown);
            assert_eq!(life.wallet.open().await.unwrap(), (0, 1));
            assert_eq!(life.balance().await, (0, 256));
        });
        router.live(|life| async move {
            assert_eq!(life.wallet.melted(name).await.unwrap(), Some(Melted::Unknown));
            lightning(end, end);
            match (life.until_known(name).await, end) {
                (Melted::Paid { fee, .. }, "SETTLED") => {
                    assert_eq!(life.balance().await, (156 - fee.0, 0));
                }
                (Melted::Failed(_), "FAILED") => assert_eq!(life.balance().await, (256, 0)),
                (melted, _) => panic!("{name}: {melted:?}"),
            }
            life.all_is_money().await;
        });
    }
}

#[test]
fn what_would_cost_more_than_may_be_spent_is_not_begun() {
    let router = Router::new("melt-refused");
    router.live(|life| async move {
        let invoice = invoice();
        let too_dear = life.wallet.melt_quote(&life.url, &invoice, 1000).await;
        assert!(matches!(too_dear, Err(WalletError::FeeTooHigh(_))), "{too_dear:?}");
        life.receive(64).await;
        assert!(matches!(life.pay(&invoice, "one").await, Melted::Failed(_)));
        assert_eq!(life.wallet.melted("one").await.unwrap(), None);
        assert_eq!(life.balance().await, (64, 0));
    });
}
