//! `tollgated fiat quote`: what shillings and satoshis are for each other now, spread and all.

use super::Reach::Socket;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::config::fiat::MOST_KES;
use crate::config::Role::Viewer;
use crate::fiat::{Quote, RateStale, Rates};
use crate::json::json;
use crate::units::{Kes, Msats, Sats};
use serde_json::Value;

pub static COMMANDS: &[Command] = &[Command {
    name: "fiat quote",
    args: "WAY NUMBER",
    role: Viewer,
    audited: false,
    moves_money: false,
    whose: Whose::Platform,
    reach: Socket(MOMENT, |desk, given| Box::pin(quote(desk, given))),
    shows: Facts,
    summary: "what so many shillings buy now, or so many satoshis are sold for (config rate)",
}];

async fn quote(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let number = given.parsed::<u64>("NUMBER")?;
    match given.need("WAY")? {
        "buy" => {
            let kes = number.filter(|kes| (1..=MOST_KES).contains(kes)).map(Kes);
            let kes =
                kes.ok_or_else(|| wrong(given, &format!("buy takes whole shillings from 1 to {MOST_KES}")))?;
            let quote = rates(desk)?.buying().await.map_err(stale)?;
            Ok(told(kes, quote.bought_with(kes).ok_or_else(too_much)?, quote))
        }
        "sell" => {
            let sats = number.filter(|sats| *sats > 0).map(Sats);
            let msats = sats.and_then(Sats::to_msats).ok_or_else(|| wrong(given, "sell takes satoshis"))?;
            let quote = rates(desk)?.selling().await.map_err(stale)?;
            Ok(told(quote.paid_for(msats).ok_or_else(too_much)?, msats, quote))
        }
        _ => Err(wrong(given, "it is buy or sell")),
    }
}

fn rates(desk: &Desk) -> Result<&Rates, CommandError> {
    Ok(&desk.site.shop.as_ref()?.rates)
}

fn told(kes: Kes, msats: Msats, quote: Quote) -> Value {
    json!({"kes": kes.0, "msat": msats.0, "rate": quote.rate, "spread_bp": quote.spread_bp})
}

fn stale(err: RateStale) -> CommandError {
    CommandError::Refused("rate_stale", err.to_string())
}

fn too_much() -> CommandError {
    CommandError::Refused("too_much", "this is more than there is".to_owned())
}

fn wrong(given: &Given, what: &str) -> CommandError {
    CommandError::Usage(format!("{what}\n{}", given.command().usage()))
}
