//! `tollgated keys ...`: the keys that vouchers' ecash is locked to. Their public parts are shown, and nothing else of them.

use super::Reach::Socket;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, MOMENT};
use crate::config::Role::{Owner, Viewer};
use crate::json::json;
use crate::store::{LockClass, LockKeyRow, StoreError};
use serde_json::Value;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "keys list",
        args: "",
        role: Viewer,
        audited: false,
        reach: Socket(MOMENT, |desk, given| Box::pin(list(desk, given))),
        shows: Facts,
        summary: "the public keys that vouchers' ecash is locked to, and which of them are still needed",
    },
    Command {
        name: "keys rotate",
        args: "CLASS",
        role: Owner,
        audited: true,
        reach: Socket(MOMENT, |desk, given| Box::pin(rotate(desk, given))),
        shows: Facts,
        summary: "locks new vouchers to new keys, of the class venue or refund; old ones are kept until they are over",
    },
    Command {
        name: "keys rewrap",
        args: "",
        role: Owner,
        audited: true,
        reach: Socket(MOMENT, |desk, given| Box::pin(rewrap(desk, given))),
        shows: Facts,
        summary: "wraps the key file anew, where a vault keeps its key",
    },
];

async fn list(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let keys = shop.wallet.lock_keys().await.map_err(closed)?;
    let shown = |key: &LockKeyRow| {
        let state = match (key.is_current, key.is_unused) {
            (true, _) => "current",
            (false, false) => "old",
            (false, true) => "retired",
        };
        json!({
            "class": key.class.as_str(),
            "tenant": key.tenant.as_str(),
            "owner": key.owner,
            "version": key.number,
            "public": key.public,
            "state": state,
        })
    };
    Ok(json!({"provider": "file", "sealed": false, "keys": keys.iter().map(shown).collect::<Value>()}))
}

async fn rotate(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let wanted = given.need("CLASS")?;
    let no_class = || {
        let message = "no such class of keys: venue and refund can be rotated".to_owned();
        CommandError::Usage(message)
    };
    let class = LockClass::parse(wanted).ok_or_else(no_class)?;
    let rotated = shop.wallet.rotate_lock_keys(class).await.map_err(closed)?;
    log::info!("operator: {} keys of the class {} are new", rotated, class.as_str());
    Ok(json!({"class": class.as_str(), "rotated": rotated}))
}

async fn rewrap(_: &Desk, _: &Given) -> Result<Value, CommandError> {
    let message = "the keys are in files of this router: there is nothing to wrap anew".to_owned();
    Err(CommandError::Refused("no_vault", message))
}

fn closed(error: StoreError) -> CommandError {
    CommandError::Closed(error.code(), error.to_string())
}
