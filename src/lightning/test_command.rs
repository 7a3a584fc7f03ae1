//! `tollgated lightning test`: whether what pays invoices answers, may pay, and may look payments up.

use super::{Account, Kind, Lightning as _, Melt, Report};
use crate::calls::Tls;
use crate::config::check::Verdict;
use crate::config::Config;
use crate::ecash::wallet::Wallet;
use crate::json::json;
use serde_json::Value;

/// Whether the running daemon has to be asked: the router's own ecash is in its hands.
pub fn is_the_daemons(config: &Config) -> bool {
    config.lightning.kind == Kind::Melt
}

/// Tries the configured node out. An error is the reason why there is nothing to try.
pub fn try_node(config: &Config) -> Result<Value, String> {
    let extra = match &config.main.ca_file {
        Some(file) => Some(std::fs::read(file).map_err(|err| format!("ca_file: {err}"))?),
        None => None,
    };
    let tls = Tls::new(extra.as_deref()).map_err(|err| format!("ca_file: {err}"))?;
    let account = Account::load(&config.lightning).map_err(|err| err.to_string())?;
    let node = account.node(&tls, None).map_err(|err| err.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(as_json(&runtime.map_err(|err| err.to_string())?.block_on(node.test())))
}

/// The daemon's part: tries the router's own ecash out.
pub async fn try_ecash(wallet: &Wallet) -> Value {
    as_json(&Melt::new(wallet.clone()).test().await)
}

/// What is told of the daemon's answer or of a node's.
pub fn told(config: &Config, tried: Result<Value, String>) -> Verdict {
    let mut data = tried.unwrap_or_else(|cause| as_json(&Report::silent(cause)));
    let tested = ["answers", "may_pay", "may_look_up"];
    let kind = config.lightning.kind.as_str();
    let url = config.lightning.url.as_ref().map(|url| url.as_str());
    let summary = format!("{kind}{}", url.map_or(String::new(), |url| format!(" at {url}")));
    let mut text = format!("{summary}\n");
    for what in tested {
        let found = &data["tested"][what];
        let verdict = match found["ok"] == true {
            true => "yes".to_owned(),
            false => format!("NO: {}", found["cause"].as_str().unwrap_or("the answer cannot be read")),
        };
        text.push_str(&format!("  {}: {verdict}\n", what.replace('_', " ")));
    }
    let notes = data["notes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let notes = notes.iter().filter_map(Value::as_str);
    notes.for_each(|note| text.push_str(&format!("  note: {note}\n")));
    let is_good = tested.iter().all(|what| data["tested"][what]["ok"] == true);
    data["type"] = json!(kind);
    data["url"] = json!(url);
    Verdict { text, data, summary, is_good }
}

fn as_json(report: &Report) -> Value {
    let line = |wrong: &Option<String>| json!({"ok": wrong.is_none(), "cause": wrong});
    let tested = json!({
        "answers": line(&report.answers),
        "may_pay": line(&report.may_pay),
        "may_look_up": line(&report.may_look_up),
    });
    let mut notes = report.notes.clone();
    if report.answers.as_deref().is_some_and(|cause| cause.contains("invalid peer certificate")) {
        notes.push("if the node's certificate is its own, name it with option cert_sha256".to_owned());
    }
    json!({"tested": tested, "notes": notes})
}
