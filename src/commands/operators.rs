//! `tollgated operator ...`: who may sign in at the operator's interface.

use super::Reach::Http;
use super::Shows::Rows;
use super::{Command, CommandError, Desk, Given, MOMENT};
use crate::config::Role::Viewer;
use crate::hex;
use crate::json::json;
use serde_json::Value;

pub static COMMANDS: &[Command] = &[Command {
    name: "operator list",
    args: "",
    role: Viewer,
    audited: false,
    reach: Http(&["GET /admin/operators"], MOMENT, |desk, given| Box::pin(list(desk, given))),
    shows: Rows("operators"),
    summary: "who may sign in, by which wallet's key and in which role",
}];

async fn list(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let config = desk.site.config();
    let rows = config.operators.iter().map(|operator| {
        json!({"name": operator.name, "pubkey": hex::encode(&operator.key), "role": operator.role.as_str()})
    });
    Ok(rows.collect())
}
