//! `tollgated card ...`: the operator's words for what the card room does.

use super::control::Refusal;
use crate::card::{CardError, Cards};
use crate::http::Site;
use crate::json::json;
use serde_json::Value;

const USAGE: &str = "card create NAME --tx-max SAT --day-max SAT [--uid-privacy] [--disabled] | list | show ID | enable ID | disable ID | limits ID [--tx-max SAT] [--day-max SAT] | wipe ID | reprogram ID | history ID";

pub async fn command(site: &Site, args: &[&str]) -> Result<Value, Refusal> {
    let shop = site.shop.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    let cards = shop.cards.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    carry_out(cards, args)
        .await
        .ok_or(("usage", USAGE.to_owned()))?
        .map_err(|err| (err.code(), err.to_string()))
}

/// `None`: wrong usage.
async fn carry_out(cards: &Cards, args: &[&str]) -> Option<Result<Value, CardError>> {
    let (action, rest) = args.split_first()?;
    let id = || rest.first().and_then(|id| id.parse().ok());
    Some(match (*action, rest) {
        ("list", []) => cards.list().await,
        ("create", [name, flags @ ..]) => {
            let mut order = order(flags, true)?;
            order["card_name"] = json!(name);
            cards.create(&order).await
        }
        ("limits", [_, flags @ ..]) if !flags.is_empty() => cards.limit(id()?, &order(flags, false)?).await,
        ("show", [_]) => cards.show(id()?).await,
        ("enable", [_]) => cards.enable(id()?, true).await,
        ("disable", [_]) => cards.enable(id()?, false).await,
        ("wipe", [_]) => cards.wipe(id()?).await,
        ("reprogram", [_]) => cards.reprogram(id()?).await,
        ("history", [_]) => cards.history(id()?).await,
        _ => return None,
    })
}

/// Flags as the card room reads them.
fn order(mut flags: &[&str], creating: bool) -> Option<Value> {
    let mut order = json!({});
    while let Some((flag, rest)) = flags.split_first() {
        flags = rest;
        let (name, value) = match *flag {
            "--tx-max" | "--day-max" => {
                let (sats, rest) = flags.split_first()?;
                flags = rest;
                // What is no number is refused with its own words.
                let sats = sats.parse::<u64>().map_or_else(|_| json!(sats), |sats| json!(sats));
                (if *flag == "--tx-max" { "tx_max" } else { "day_max" }, sats)
            }
            "--uid-privacy" if creating => ("uid_privacy", json!(true)),
            "--disabled" if creating => ("enabled", json!(false)),
            _ => return None,
        };
        order[name] = value;
    }
    Some(order)
}
