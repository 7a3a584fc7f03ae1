//! `tollgated card ...`: the operator's words for what the card room does.

use super::Refusal;
use crate::card::{CardError, Cards};
use crate::json::json;
use crate::mac::MacAddr;
use crate::sale::invoice::{Part, Progress};
use crate::sale::till::{Purchase, Sold};
use crate::sale::Price;
use crate::shop::{Shop, Site};
use crate::store::RequestId;
use crate::units::Sats;
use serde_json::Value;
use std::time::Duration;

const USAGE: &str = "card create NAME --tx-max SAT --day-max SAT [--uid-privacy] [--disabled] | list | show ID | enable ID | disable ID | limits ID [--tx-max SAT] [--day-max SAT] | wipe ID | reprogram ID | history ID | tap LINK --mac MAC [--amount SAT|--steps N]";
/// For a payment to arrive that a card's bank has promised.
const PATIENCE: Duration = Duration::from_secs(15);

pub async fn command(site: &Site, args: &[&str]) -> Result<Value, Refusal> {
    let shop = site.shop.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    if let ["tap", link, flags @ ..] = args {
        let order = Tap::parse(flags).ok_or_else(|| usage_of(USAGE, args))?;
        return tap(site, shop, link, order).await;
    }
    let cards = shop.cards.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    carry_out(cards, args)
        .await
        .ok_or_else(|| usage_of(USAGE, args))?
        .map_err(|err| (err.code(), err.to_string()))
}

/// The usage of the action that was meant, if it is one of them, else of all.
pub fn usage_of(all: &str, args: &[&str]) -> Refusal {
    let (command, actions) = all.split_once(' ').unwrap_or((all, ""));
    let mut actions = actions.split(" | ").filter(|action| action.split(' ').next() == args.first().copied());
    ("usage", actions.next().map_or(format!("usage: {all}"), |action| format!("usage: {command} {action}")))
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

/// Who gets online, and with how much; the least that is sold where that is not said.
#[derive(Debug, PartialEq, Eq)]
struct Tap {
    mac: MacAddr,
    amount: Option<Sats>,
    steps: Option<u64>,
}

impl Tap {
    fn parse(mut flags: &[&str]) -> Option<Tap> {
        let (mut mac, mut amount, mut steps) = (None, None, None);
        while let [flag, value, rest @ ..] = flags {
            match *flag {
                "--mac" => mac = Some(value.parse().ok()?),
                "--amount" => amount = Some(Sats(value.parse().ok()?)),
                "--steps" => steps = Some(value.parse().ok()?),
                _ => return None,
            }
            flags = rest;
        }
        (flags.is_empty() && (amount.is_none() || steps.is_none())).then_some(Tap {
            mac: mac?,
            amount,
            steps,
        })
    }
}

/// Lets a guest in for the payment of a card that was tapped at the counter.
async fn tap(site: &Site, shop: &Shop, link: &str, order: Tap) -> Result<Value, Refusal> {
    let config = site.config();
    let (venue, caller) = super::place::seen(&config, order.mac).ok_or_else(|| {
        let message =
            "is not on a guest network now; connect it first ('tollgated clients' lists who is there)";
        ("unknown_device", format!("{} {message}", order.mac))
    })?;
    let mint = config.mints_of(venue).find(|mint| site.mints.seems_reachable(&mint.url));
    let mint = mint.or_else(|| config.mints_of(venue).next());
    let mint =
        mint.ok_or_else(|| ("no_mint", "no mint sells at this venue; add a 'config mint'".to_owned()))?;
    let price = Price::of(venue, mint);
    let amount = order.amount.unwrap_or_else(|| price.cost(order.steps.unwrap_or(price.min_steps)));
    let purchase = Purchase { mint: mint.url.clone(), amount };
    log::info!("operator: a card is to pay {amount} sat for {}", order.mac);
    let sold = shop.till.sell(&caller, venue, purchase, link).await;
    let sold = sold.map_err(|why| (why.code(), why.to_string()))?;
    let online = match &sold {
        Sold::Here => true,
        Sold::Given(id) => arrives(shop, order.mac, id).await,
    };
    let request = match &sold {
        Sold::Here => Value::Null,
        Sold::Given(id) => json!(id.as_str()),
    };
    Ok(json!({
        "mac": order.mac.to_string(),
        "sat": amount.0,
        "paid_by": if sold == Sold::Here { "this router's card" } else { "the card's bank" },
        "request": request,
        "state": if online { "online" } else { "waiting for the card's bank; it opens by itself when the payment arrives" },
    }))
}

/// Whether a payment arrives soon.
async fn arrives(shop: &Shop, mac: MacAddr, id: &RequestId) -> bool {
    let Ok(request) = shop.invoices.find(mac, id).await else { return false };
    let looking = async {
        while !request.is_finished() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let granted = |part: &Part| part.progress() == Progress::Granted { online: true };
    tokio::time::timeout(PATIENCE, looking).await.is_ok() && request.parts().iter().all(granted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_usage_is_answered_with_that_of_the_action_that_was_meant() {
        assert_eq!(usage_of(USAGE, &["show"]).1, "usage: card show ID");
        assert!(usage_of(USAGE, &["tap", "x"]).1.ends_with("--mac MAC [--amount SAT|--steps N]"));
        for all in [&["mk"][..], &[]] {
            assert_eq!(usage_of(USAGE, all).1, format!("usage: {USAGE}"));
        }
    }

    #[test]
    fn a_tap_names_a_device_and_at_most_one_amount() {
        let mac = || "02:00:00:00:00:01".parse().unwrap();
        let read = |line: &str| Tap::parse(&line.split(' ').collect::<Vec<_>>());
        let tap = |amount, steps| Some(Tap { mac: mac(), amount, steps });
        assert_eq!(read("--mac 02:00:00:00:00:01"), tap(None, None));
        assert_eq!(read("--amount 21 --mac 02:00:00:00:00:01"), tap(Some(Sats(21)), None));
        assert_eq!(read("--mac 02:00:00:00:00:01 --steps 3"), tap(None, Some(3)));
        for wrong in [
            "",
            "--mac",
            "--mac x",
            "--amount 21",
            "--mac 02:00:00:00:00:01 --amount -1",
            "--mac 02:00:00:00:00:01 --amount 1 --steps 1",
            "--mac 02:00:00:00:00:01 21",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
