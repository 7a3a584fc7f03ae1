//! Pays an invoice by the backend of a configuration, without any card: for the tests, and to try a node out.
//!
//! `lightning CONFIG pay INVOICE | lookup INVOICE [REFERENCE] | test` prints one line of JSON.

use serde_json::{json, Value};
use std::path::Path;
use std::process::ExitCode;
use tollgated::bolt11::Invoice;
use tollgated::config::Config;
use tollgated::ecash::Tls;
use tollgated::hex;
use tollgated::lightning::{Account, Answer, Outcome, PaymentOrder, PaymentRef};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(&words)) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<Value, String> {
    let [config, command, rest @ ..] = words else {
        return Err("usage: lightning CONFIG COMMAND".to_owned());
    };
    let (config, _) = Config::load(Path::new(config)).map_err(|problems| format!("{problems:?}"))?;
    let fee_limit = config.lightning.fee_limit;
    let extra =
        config.main.ca_file.as_deref().map(std::fs::read).transpose().map_err(|err| err.to_string())?;
    let tls = Tls::new(extra.as_deref()).map_err(|err| err.to_string())?;
    let account = Account::load(&config.lightning).map_err(|err| err.to_string())?;
    let node = account.node(&tls).map_err(|err| err.to_string())?.ok_or("no node")?;
    match (*command, rest) {
        ("pay", [invoice]) => {
            let (invoice, read) = parsed(invoice)?;
            let amount = read.amount().ok_or("an invoice without amount")?;
            let payment_hash = read.payment_hash();
            Ok(shown(node.pay(&PaymentOrder { invoice, payment_hash, amount, fee_limit }).await))
        }
        ("lookup", [invoice, reference @ ..]) => {
            let (invoice, read) = parsed(invoice)?;
            let reference = reference.first().map(|text| (*text).to_owned());
            Ok(shown(
                node.lookup(&PaymentRef { invoice, payment_hash: read.payment_hash(), reference }).await,
            ))
        }
        ("test", []) => {
            let report = node.test().await;
            Ok(json!({
                "good": report.is_good(),
                "answers": report.answers,
                "may_pay": report.may_pay,
                "may_look_up": report.may_look_up,
                "notes": report.notes,
            }))
        }
        _ => Err(format!("no such command: {command}")),
    }
}

fn parsed(invoice: &str) -> Result<(String, Invoice), String> {
    Ok((invoice.to_ascii_lowercase(), Invoice::parse(invoice).map_err(|err| err.to_string())?))
}

fn shown(answer: Answer) -> Value {
    let (outcome, preimage, fee, why) = match answer.outcome {
        Outcome::Paid { preimage, fee } => {
            ("paid", preimage.map(|preimage| hex::encode(&preimage)), fee, None)
        }
        Outcome::Failed(why) => ("failed", None, None, Some(why)),
        Outcome::Absent => ("absent", None, None, None),
        Outcome::Unknown(why) => ("unknown", None, None, Some(why)),
    };
    let fee = fee.map(|fee| fee.0);
    json!({"outcome": outcome, "preimage": preimage, "fee_msat": fee, "why": why, "reference": answer.reference})
}
