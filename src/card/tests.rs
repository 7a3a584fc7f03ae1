//! Cards against the real store, with a backend that does as it is told.

mod bad_luck;
mod here;
mod limits;
mod registering;
mod several;
mod tapping;

use super::chip::tests::tap;
use super::payment::PaymentPace;
use super::{Cards, Reason};
use crate::bolt11::tests::maker::Maker;
use crate::clock::Clock;
use crate::config::{Config, LightningKind};
use crate::folder::fresh_folder;
use crate::hex;
use crate::lightning::tests::scripted::Scripted;
use crate::lightning::{Account, Backends};
use crate::store::{KeyFile, Secret, Store, Vault};
use crate::units::{Millis, Msats, UnixSeconds};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const NOW: u64 = 1_800_000_000;
const CONFIG: &str = "config tollgate 'main'\noption enabled '0'\n\nconfig card\noption domain 'c.example'\noption network 'regtest'\n";

/// Where the second of two nodes is.
const SECOND: &str = "http://127.0.0.1:2";

/// What is not answered is looked up soon. A till waits for its answer, however busy machine and disk are.
const FAST: PaymentPace = PaymentPace {
    patience: Duration::from_secs(60),
    pay: Duration::from_secs(60),
    lookup: Duration::from_secs(60),
    first: Duration::from_millis(10),
    slowest: Duration::from_millis(40),
};
/// For payments that have no end for the time being.
const HASTY: PaymentPace = PaymentPace { patience: Duration::from_secs(1), ..FAST };

/// A router with cards; its files go away with it.
struct Place {
    dir: Folder,
    clock: Clock,
    store: Store,
    cards: Cards,
    node: Scripted,
    /// What pays at [`SECOND`].
    second: Scripted,
    config: watch::Sender<Arc<Config>>,
    pace: PaymentPace,
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        Folder(fresh_folder())
    }

    fn copy(&self) -> Folder {
        let copy = Folder::new();
        for entry in std::fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copy.0.join(path.file_name().unwrap())).unwrap();
            }
        }
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Place {
    async fn new() -> Place {
        Place::at(FAST).await
    }

    async fn at(pace: PaymentPace) -> Place {
        let clock = Clock::manual("boot-1", Millis::from_secs(1000), UnixSeconds(NOW));
        Place::on(Folder::new(), clock, Default::default(), pace).await
    }

    async fn on(dir: Folder, clock: Clock, nodes: [Scripted; 2], pace: PaymentPace) -> Place {
        let store = Store::open(&dir.0, &clock).unwrap();
        let vault = Vault::open(&store, KeyFile("cards")).await.unwrap();
        let (config, receiver) = watch::channel(Arc::new(Config::from_uci(CONFIG).unwrap().0));
        let [node, second] = nodes.clone();
        let open = Box::new(move |account: &Account| {
            let [node, second] = &nodes;
            Ok(Arc::new(if account.url == SECOND { second.clone() } else { node.clone() }) as Arc<_>)
        });
        let backends = Backends::new(store.clone(), vault.clone(), open);
        backends.configure(vec![(Ok(account("http://127.0.0.1:1")), Msats(10_000))]).await;
        let cards = Cards::start_at(store.clone(), vault, backends, receiver, pace).await.unwrap();
        Place { dir, clock, store, cards, node, second, config, pace }
    }

    /// The router after a power cut at this moment, in a new boot.
    async fn after_power_cut(&self) -> Place {
        let clock = Clock::manual("boot-2", Millis(0), self.clock.wall());
        Place::on(self.dir.copy(), clock, [self.node.clone(), self.second.clone()], self.pace).await
    }

    fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// A programmed card that may spend these satoshis.
    async fn card(&self, tx_max: u64, day_max: u64) -> Card {
        let order = json!({"card_name": "Alice", "tx_max": tx_max, "day_max": day_max});
        let made = self.cards.create(&order).await.unwrap();
        self.programmed(&made).await
    }

    async fn programmed(&self, made: &Value) -> Card {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let keys = self.cards.program(code_of(made), None).await.unwrap();
        let uid = [4, 1, 2, 3, 4, 5, COUNT.fetch_add(1, Ordering::Relaxed)];
        Card {
            id: made["card_id"].as_i64().unwrap(),
            k1: key(&keys, "k1"),
            k2: key(&keys, "k2"),
            uid,
            counter: 0,
        }
    }

    async fn tap(&self, card: &mut Card) -> Result<Value, Reason> {
        let (p, c) = card.tap();
        self.cards.tap(&card.id.to_string(), &p, &c).await
    }

    /// The k1 of a good tap.
    async fn k1(&self, card: &mut Card) -> String {
        self.tap(card).await.unwrap()["k1"].as_str().unwrap().to_owned()
    }

    /// Taps and pays.
    async fn spend(&self, card: &mut Card, invoice: &str) -> Result<(), Reason> {
        let k1 = self.k1(card).await;
        self.cards.callback(&k1, invoice).await
    }

    async fn states(&self, card: &Card) -> Vec<String> {
        let history = self.cards.history(card.id).await.unwrap();
        history.as_array().unwrap().iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect()
    }

    async fn spent(&self, card: &Card) -> u64 {
        self.cards.show(card.id).await.unwrap()["spent_today_msat"].as_u64().unwrap()
    }

    async fn until_settled(&self) {
        until("a payment's end", || self.cards.open_payments() == 0).await;
    }

    /// Waits until the node has been asked for this many payments; the store has them by then.
    async fn until_sent(&self, count: usize) {
        until("the payment", || self.node.payments().len() >= count).await;
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap_or_else(|_| panic!("no sign of {what}"));
}

struct Card {
    id: i64,
    k1: [u8; 16],
    k2: [u8; 16],
    uid: [u8; 7],
    counter: u32,
}

impl Card {
    fn tap(&mut self) -> (String, String) {
        self.counter += 1;
        tap(&self.k1, &self.k2, 0xc7, self.uid, self.counter)
    }
}

fn key(keys: &Value, name: &str) -> [u8; 16] {
    hex::decode(keys[name].as_str().unwrap()).unwrap()
}

fn code_of(made: &Value) -> &str {
    made["url"].as_str().unwrap().split_once("?a=").unwrap().1
}

fn account(url: &str) -> Account {
    let secret = Secret::new(b"admin key".to_vec());
    Account { kind: LightningKind::Lnbits, url: url.to_owned(), pin: None, secret }
}

/// An invoice for this many satoshis, different for each number.
fn invoice(number: u8, sats: u64) -> String {
    Maker { amount: format!("{}n", sats * 10), ..Maker::default() }.paying([number; 32]).make()
}
