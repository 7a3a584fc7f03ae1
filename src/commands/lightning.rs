//! `tollgated lightning test`: whether what pays invoices answers, may pay, and may look payments up.

use super::Reach::Errand;
use super::Shows::Own;
use super::{Command, CommandError, Desk, Ended, Given, Shell, Told, Whose, OTHERS};
use crate::config::{Config, LightningConfig, Role::Manager};
use crate::json::json;
use crate::lightning::{trial, Kind, Report};
use serde_json::Value;

pub static COMMANDS: &[Command] = &[Command {
    name: "lightning test",
    args: "",
    role: Manager,
    audited: false,
    moves_money: false,
    whose: Whose::Platform,
    reach: Errand(test, OTHERS, |desk, given| Box::pin(test_ecash(desk, given))),
    shows: Own,
    summary: "whether what pays invoices answers, may pay and may look payments up; pays nothing",
}];

const TESTED: [&str; 3] = ["answers", "may_pay", "may_look_up"];

/// All that may be given a payment; what is tried first is told first, the others follow under `next`.
fn test(shell: &mut Shell, given: &Given) -> Result<Ended, CommandError> {
    let config = shell.loaded()?;
    let tested = config.lightning.iter().map(|node| test_one(shell, given, &config, node));
    let mut tested: Vec<(Value, Option<String>)> = tested.collect();
    let wrong = tested.iter().find_map(|(_, cause)| cause.clone());
    let text = tested.iter().map(|(answer, _)| for_people(answer)).collect();
    let next: Value = tested.drain(1..).map(|(answer, _)| answer).collect();
    let mut data = tested.pop().map(|(answer, _)| answer).unwrap_or_default();
    if config.lightning.len() > 1 {
        data["next"] = next;
    }
    Ok(Ended::Told(Told { text, data, wrong: wrong.map(|cause| ("node_not_ready", cause)) }))
}

/// A node is asked from here; the router's own ecash is in the daemon's hands. What was found, and the first thing wrong.
fn test_one(
    shell: &mut Shell,
    given: &Given,
    config: &Config,
    node: &LightningConfig,
) -> (Value, Option<String>) {
    let tried = match node.kind {
        Kind::Melt => shell.have_done(given).map_err(|err| match err {
            CommandError::Closed("no_daemon", _) => {
                "the daemon, which has the wallet, does not answer".to_owned()
            }
            err => err.to_string(),
        }),
        _ => trial::try_node(config, node).map(|report| found(&report)),
    };
    let mut answer = tried.unwrap_or_else(|cause| found(&Report::silent(cause)));
    answer["type"] = json!(node.kind.as_str());
    answer["url"] = json!(node.url.as_ref().map(|url| url.as_str()));
    let is_well = TESTED.iter().all(|what| answer["tested"][what]["ok"] == true);
    let cause = TESTED.iter().find_map(|what| answer["tested"][what]["cause"].as_str());
    let cause = cause.unwrap_or("the answer cannot be read").to_owned();
    (answer, (!is_well).then_some(cause))
}

async fn test_ecash(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    Ok(found(&trial::try_ecash(&desk.site.shop.as_ref()?.wallet).await))
}

fn found(report: &Report) -> Value {
    let line = |wrong: &Option<String>| json!({"ok": wrong.is_none(), "cause": wrong});
    json!({
        "tested": json!({
            "answers": line(&report.answers),
            "may_pay": line(&report.may_pay),
            "may_look_up": line(&report.may_look_up),
        }),
        "notes": report.notes,
    })
}

/// A line for each thing that was tested, and for each note.
fn for_people(answer: &Value) -> String {
    let word = |name: &str| answer[name].as_str();
    let at = word("url").map_or(String::new(), |url| format!(" at {url}"));
    let mut text = format!("{}{at}\n", word("type").unwrap_or_default());
    for what in TESTED {
        let found = &answer["tested"][what];
        let verdict = match found["ok"] == true {
            true => "yes".to_owned(),
            false => format!("NO: {}", found["cause"].as_str().unwrap_or("the answer cannot be read")),
        };
        text.push_str(&format!("  {}: {verdict}\n", what.replace('_', " ")));
    }
    let notes = answer["notes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let notes = notes.iter().filter_map(Value::as_str);
    notes.for_each(|note| text.push_str(&format!("  note: {note}\n")));
    text
}
