//! Pays invoices by the backend of a configuration, without any card: for the tests, and to try a node out.
//!
//! `lightning CONFIG pay INVOICE | lookup INVOICE [REFERENCE] | test` prints one line of JSON. Without a command it takes
//! commands from its standard input, a line each, and answers them in their order, `pay` not until the payment is made; with
//! the router's own ecash there is `receive TOKEN` too, which fills the wallet in the `state_dir`, and `balance`.

use serde_json::{json, Value};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tollgated::bolt11::Invoice;
use tollgated::calls::Tls;
use tollgated::clock::Clock;
use tollgated::config::{Config, LightningKind};
use tollgated::ecash::wallet::{self, Received, Wallet};
use tollgated::ecash::Mints;
use tollgated::hex;
use tollgated::lightning::{Account, BackendAnswer, Lightning, Outcome, PaymentOrder, PaymentRef};
use tollgated::store::{PurseName, Store};

struct Payer {
    config: Config,
    node: Arc<dyn Lightning>,
    wallet: Option<Wallet>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let done = runtime.block_on(run(&words));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<(), String> {
    let [config, command @ ..] = words else {
        return Err("usage: lightning CONFIG [COMMAND]".to_owned());
    };
    let payer = Payer::open(Path::new(config)).await?;
    if !command.is_empty() {
        return print(&payer.carry_out(command).await?);
    }
    let (lines, mut read) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    while let Some(line) = read.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        print(&payer.carry_out(&words).await.unwrap_or_else(|why| json!({"error": why})))?;
    }
    Ok(())
}

fn print(answer: &Value) -> Result<(), String> {
    writeln!(std::io::stdout(), "{answer}").map_err(|err| err.to_string())
}

impl Payer {
    async fn open(path: &Path) -> Result<Payer, String> {
        let (config, _) = Config::load(path).map_err(|problems| format!("{problems:?}"))?;
        let extra = config.main.ca_file.as_deref().map(std::fs::read).transpose();
        let extra = extra.map_err(|err| err.to_string())?;
        let tls = Tls::new(extra.as_deref()).map_err(|err| err.to_string())?;
        let wallet = match config.lightning[0].kind {
            LightningKind::Melt => Some(open_wallet(&config, &tls).await?),
            _ => None,
        };
        let account = Account::load(&config.lightning[0]).map_err(|err| err.to_string())?;
        let node = account.node(&tls, wallet.as_ref()).map_err(|err| err.to_string())?;
        Ok(Payer { config, node, wallet })
    }

    async fn carry_out(&self, words: &[&str]) -> Result<Value, String> {
        match words {
            ["pay", invoice] => {
                let (invoice, read) = parsed(invoice)?;
                let amount = read.amount().ok_or("an invoice without amount")?;
                let (payment_hash, fee_limit) = (read.payment_hash(), self.config.lightning[0].fee_limit);
                Ok(shown(self.node.pay(&PaymentOrder { invoice, payment_hash, amount, fee_limit }).await))
            }
            ["lookup", invoice, reference @ ..] => {
                let (invoice, read) = parsed(invoice)?;
                let reference = reference.first().map(|text| (*text).to_owned());
                let payment = PaymentRef { invoice, payment_hash: read.payment_hash(), reference };
                Ok(shown(self.node.lookup(&payment).await))
            }
            ["test"] => {
                let report = self.node.test().await;
                Ok(json!({
                    "good": report.is_good(),
                    "answers": report.answers,
                    "may_pay": report.may_pay,
                    "may_look_up": report.may_look_up,
                    "notes": report.notes,
                }))
            }
            ["receive", token] => {
                let wallet = self.wallet.as_ref().ok_or("no wallet")?;
                let mints: Vec<_> = self.config.mints.iter().map(|mint| mint.url.clone()).collect();
                let offer = wallet.assess(token, &mints).await.map_err(|err| err.to_string())?;
                match wallet.receive(offer, None).await {
                    Received::Done { net, .. } => Ok(json!({"received": net.0})),
                    _ => Err("not received".to_owned()),
                }
            }
            ["balance"] => {
                let wallet = self.wallet.as_ref().ok_or("no wallet")?;
                let balances = wallet.balances().await.map_err(|err| err.to_string())?;
                let one = |balance: &tollgated::store::Balance| json!({"mint": balance.mint.as_str(), "free": balance.free.number, "held": balance.held.number});
                Ok(json!({"mints": balances.iter().map(one).collect::<Value>()}))
            }
            _ => Err(format!("no such command: {}", words.join(" "))),
        }
    }
}

async fn open_wallet(config: &Config, tls: &Tls) -> Result<Wallet, String> {
    let clock = Clock::machine();
    let store = Store::open(&config.main.state_dir, &clock).map_err(|err| err.to_string())?;
    let (events, mut heard) = tokio::sync::mpsc::channel(64);
    let mints = Mints::new(tls.clone(), clock, events);
    let seed = Arc::new(wallet::seed(&store).await.map_err(|err| err.to_string())?);
    let (sessions, _) = tokio::sync::mpsc::channel(1);
    let wallet = Wallet::start(store, mints, (PurseName::House, seed), sessions)
        .await
        .map_err(|err| err.to_string())?;
    let listener = wallet.clone();
    tokio::spawn(async move {
        while let Some((mint, event)) = heard.recv().await {
            listener.on_mint_event(&mint, &event);
        }
    });
    Ok(wallet)
}

fn parsed(invoice: &str) -> Result<(String, Invoice), String> {
    Ok((invoice.to_ascii_lowercase(), Invoice::parse(invoice).map_err(|err| err.to_string())?))
}

fn shown(answer: BackendAnswer) -> Value {
    let (outcome, preimage, fee, why) = match answer.outcome {
        Outcome::Paid { preimage, fee } => {
            ("paid", preimage.map(|preimage| hex::encode(&preimage)), fee, None)
        }
        Outcome::Failed(why) | Outcome::Refused(why) => ("failed", None, None, Some(why)),
        Outcome::Absent => ("absent", None, None, None),
        Outcome::Unknown(why) => ("unknown", None, None, Some(why)),
    };
    let fee = fee.map(|fee| fee.0);
    json!({"outcome": outcome, "preimage": preimage, "fee_msat": fee, "why": why, "reference": answer.reference})
}
