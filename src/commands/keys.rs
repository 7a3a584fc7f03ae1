//! `tollgated keys ...`: the keys that vouchers' ecash is locked to, those that their codes are known by, and what seals them.
//! Public parts are shown, and nothing else of them.

use super::Reach::Socket;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, Whose, MOMENT, OTHERS};
use crate::config::Role::{Owner, Viewer};
use crate::json::json;
use crate::kms::KeeperError;
use crate::store::{LockClass, StoreError};
use serde_json::Value;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "keys list",
        args: "",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, given| Box::pin(list(desk, given))),
        shows: Facts,
        summary: "the keys of vouchers and logins by class, which of them are still needed, and whether they are sealed",
    },
    Command {
        name: "keys rotate",
        args: "CLASS",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(OTHERS, |desk, given| Box::pin(rotate(desk, given))),
        shows: Facts,
        summary: "a new key of the class venue, refund, voucher, data or login; old ones are kept while something needs them",
    },
    Command {
        name: "keys rewrap",
        args: "",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(OTHERS, |desk, given| Box::pin(rewrap(desk, given))),
        shows: Facts,
        summary: "has the Vault wrap the data key anew, with the newest version of its own",
    },
];

/// What can be rotated, besides the classes of [`LockClass`].
const VOUCHER: &str = "voucher";
const DATA: &str = "data";
const LOGIN: &str = "login";

async fn list(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let facts = shop.keeper.facts();
    let mut keys: Vec<Value> = Vec::new();
    for key in shop.wallet.lock_keys().await.map_err(closed)? {
        let state = match (key.is_current, key.is_unused) {
            (true, _) => "current",
            (false, false) => "old",
            (false, true) => "retired",
        };
        let owner = (key.tenant.as_str(), key.owner.as_str());
        keys.push(shown(key.class.as_str(), owner, key.number, Some(&key.public), state));
    }
    let state = |at: usize| if at == 0 { "current" } else { "old" };
    // A key that was never used is not made just to be listed.
    if shop.store.has_voucher_key().await.map_err(closed)? && !facts.is_sealed {
        let numbers = shop.vouchers.book().key().await.map_err(closed)?.numbers();
        let of = |(at, number): (usize, &u32)| shown(VOUCHER, ("", ""), *number, None, state(at));
        keys.extend(numbers.iter().enumerate().map(of));
    }
    if let Some(version) = facts.wrapped_by {
        keys.push(shown(DATA, ("", ""), version, None, "current"));
    }
    // Without a section auth there are none.
    for (at, kid) in shop.auth.kids().await.unwrap_or_default().iter().enumerate() {
        let number = u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1);
        keys.push(shown(LOGIN, ("", ""), number, Some(kid), state(at)));
    }
    let mut told = json!({"provider": facts.provider, "sealed": facts.is_sealed, "keys": keys});
    if let Some(trouble) = facts.trouble {
        told["trouble"] = json!(trouble);
    }
    Ok(told)
}

fn shown(
    class: &str,
    (tenant, owner): (&str, &str),
    version: u32,
    public: Option<&str>,
    state: &str,
) -> Value {
    json!({
        "class": class,
        "tenant": tenant,
        "owner": owner,
        "version": version,
        "public": public,
        "state": state,
    })
}

async fn rotate(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let class = given.need("CLASS")?;
    if class == LOGIN {
        return super::auth::rotate(desk, given)
            .await
            .map(|told| json!({"class": class, "rotated": 1, "kid": told["kid"]}));
    }
    if shop.store.is_sealed() {
        return Err(closed(StoreError::Sealed));
    }
    let (rotated, version) = match (LockClass::parse(class), class) {
        (Some(class), _) => (shop.wallet.rotate_lock_keys(class).await.map_err(closed)?, None),
        (None, VOUCHER) => (1, Some(shop.vouchers.book().rotate_key().await.map_err(closed)?)),
        (None, DATA) => (1, Some(shop.keeper.rotate().await.map_err(not_kept)?)),
        _ => {
            let message = "no such class of keys: venue, refund, voucher, data and login can be rotated";
            return Err(CommandError::Usage(message.to_owned()));
        }
    };
    log::info!("operator: {rotated} keys of the class {class} are new");
    let mut told = json!({"class": class, "rotated": rotated});
    if let Some(version) = version {
        told["version"] = json!(version);
    }
    Ok(told)
}

async fn rewrap(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let version = desk.site.shop.as_ref()?.keeper.rewrap().await.map_err(not_kept)?;
    log::info!("operator: the data key is wrapped anew");
    Ok(json!({"rewrapped": true, "version": version}))
}

fn closed(error: StoreError) -> CommandError {
    CommandError::Closed(error.code(), error.to_string())
}

fn not_kept(error: KeeperError) -> CommandError {
    match error {
        KeeperError::NoVault => CommandError::Refused(error.code(), error.to_string()),
        error => CommandError::Closed(error.code(), error.to_string()),
    }
}
