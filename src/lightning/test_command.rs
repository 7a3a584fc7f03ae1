//! `tollgated lightning test`: whether what pays invoices answers, may pay, and may look payments up.

use super::{Account, Report};
use crate::config::Config;
use crate::ecash::Tls;
use serde_json::json;

/// The text to print, and whether nothing is missing. Only for nodes: the router's own ecash is the daemon's.
pub fn run(config: &Config, as_json: bool) -> (String, bool) {
    let report = match tried(config) {
        Ok(report) => report,
        Err(cause) => Report::silent(cause),
    };
    let good = report.is_good();
    let kind = config.lightning.kind.as_str();
    let url = config.lightning.url.as_ref().map_or("", |url| url.as_str());
    let lines =
        [("answers", &report.answers), ("may_pay", &report.may_pay), ("may_look_up", &report.may_look_up)];
    if as_json {
        let lines: serde_json::Map<_, _> = lines
            .into_iter()
            .map(|(what, wrong)| (what.to_owned(), json!({"ok": wrong.is_none(), "cause": wrong})))
            .collect();
        let answer = json!({"ok": good, "type": kind, "url": url, "tested": lines, "notes": report.notes});
        return (format!("{answer}\n"), good);
    }
    let mut text = format!("{kind} at {url}\n");
    for (what, wrong) in lines {
        let verdict = wrong.as_ref().map_or("yes".to_owned(), |cause| format!("NO: {cause}"));
        text.push_str(&format!("  {}: {verdict}\n", what.replace('_', " ")));
    }
    report.notes.iter().for_each(|note| text.push_str(&format!("  note: {note}\n")));
    (text, good)
}

fn tried(config: &Config) -> Result<Report, String> {
    let extra = match &config.main.ca_file {
        Some(file) => Some(std::fs::read(file).map_err(|err| format!("ca_file: {err}"))?),
        None => None,
    };
    let tls = Tls::new(extra.as_deref()).map_err(|err| format!("ca_file: {err}"))?;
    let account = Account::load(&config.lightning).map_err(|err| err.to_string())?;
    let node = account.node(&tls).map_err(|err| err.to_string())?;
    let node = node.ok_or("the router's own ecash is tested by the running daemon")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|err| err.to_string())?.block_on(node.test()))
}
