//! `tollgated operator ...`: who may sign in at the operator's interface.

use super::audit::BEGUN;
use super::Reach::Http;
use super::Reach::Socket;
use super::Shows::{Code, Rows};
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::auth::AuthError;
use crate::config::Role::{self, Owner, Viewer};
use crate::config::{self, operator_name, Config, OperatorConfig};
use crate::hex;
use crate::json::json;
use crate::store::NewAuditRow;
use crate::task;
use serde_json::Value;
use std::time::Duration;

/// How long the daemon may take to see what it has written.
const PATIENCE: Duration = Duration::from_secs(8);

pub static COMMANDS: &[Command] = &[
    Command {
        name: "operator list",
        args: "",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["GET /admin/operators"], MOMENT, |desk, given| Box::pin(list(desk, given))),
        shows: Rows("operators"),
        summary: "who may sign in, by which wallet's key and in which role",
    },
    Command {
        name: "operator enroll",
        args: "NAME [--role ROLE]",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, given| Box::pin(enroll(desk, given))),
        shows: Code,
        summary: "a link, good for ten minutes: the wallet that signs it is an operator from then on, an owner if not \
                  said otherwise",
    },
];

async fn list(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let config = desk.site.config();
    let rows = config.operators.iter().map(|operator| {
        json!({"name": operator.name, "pubkey": hex::encode(&operator.key), "role": operator.role.as_str()})
    });
    Ok(rows.collect())
}

async fn enroll(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let name = operator_name(given.need("NAME")?);
    let name = name.map_err(|message| CommandError::Input("invalid_input", message))?;
    let role = given.text("--role").map_or(Some(Owner), Role::parse);
    let role = role.ok_or_else(|| given.wrong())?;
    if desk.site.config().operators.iter().any(|operator| operator.name == name) {
        let message = format!("there is an operator '{name}' already: remove that section first");
        return Err(CommandError::Refused("name_taken", message));
    }
    let made = desk.site.shop.as_ref()?.auth.enroll(&name, role).map_err(|error| {
        let message = match &error {
            AuthError::Off => {
                "wallets sign for a name: add a section config auth with option domain".to_owned()
            }
            error => error.to_string(),
        };
        CommandError::Refused("no_enrolment", message)
    })?;
    log::info!("operator: {name} is to be enrolled as {}", role.as_str());
    Ok(json!({
        "name": name,
        "role": role.as_str(),
        "encode": made.links.encode,
        "url": made.links.url,
        "keyauth": made.links.keyauth,
        "expires_in": made.expires_in.as_secs_ceil(),
    }))
}

/// Writes down the operator whose wallet has signed its link. Returns when it may sign in.
pub async fn write_down(desk: &Desk, operator: OperatorConfig) -> Result<(), String> {
    note(desk, &operator, BEGUN).await;
    let (file, new) = (desk.file.clone(), operator.clone());
    let written = task::blocking(move || config::enroll(&file, &new)).await;
    let outcome = match written {
        Ok(Ok(())) => {
            let is_there = |config: &Config| config.operator(&operator.key).is_some();
            match desk.site.is_soon(is_there, PATIENCE).await {
                true => Ok(()),
                false => Err("it is written, and not seen yet".to_owned()),
            }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the daemon is stopping".to_owned()),
    };
    note(desk, &operator, if outcome.is_ok() { "ok" } else { "not_written" }).await;
    outcome
}

/// In the audit log. The file and the log cannot change in one commit.
async fn note(desk: &Desk, OperatorConfig { name, role, .. }: &OperatorConfig, result: &str) {
    if let Some(log) = desk.audit_log() {
        log.done(NewAuditRow::new(name, role.as_str(), "enrolled", name, result)).await;
    }
}
