//! `tollgated auth ...`: the keys that sign logins.

use super::Reach::Socket;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::auth::AuthError;
use crate::config::Role::Owner;
use crate::json::json;
use serde_json::Value;

pub static COMMANDS: &[Command] = &[Command {
    name: "auth rotate",
    args: "",
    role: Owner,
    audited: true,
    moves_money: false,
    whose: Whose::Platform,
    reach: Socket(MOMENT, |desk, given| Box::pin(rotate(desk, given))),
    shows: Facts,
    summary:
        "sign logins with a new key; who is logged in stays so, and the old key goes when its last login ends",
}];

pub(super) async fn rotate(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let rotated = desk.site.shop.as_ref()?.auth.rotate().await.map_err(|error| match error {
        AuthError::Off => {
            CommandError::Refused("no_logins", "nobody logs in here; add a 'config auth'".to_owned())
        }
        AuthError::Store(cause) => CommandError::Closed(cause.code(), cause.to_string()),
        other => CommandError::Refused("not_rotated", other.to_string()),
    })?;
    log::info!("operator: logins are signed with a new key");
    Ok(json!({"kid": rotated.kid, "earlier_keys": rotated.earlier}))
}
