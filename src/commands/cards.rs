//! `tollgated card ...`: the operator's words for what the card room does.

use super::Reach::{Http, Signed, Socket};
use super::Shows::{Code, Facts, Rows};
use super::{Command, CommandError, Desk, Given, Whose, MOMENT, OTHERS};
use crate::card::{CardError, Cards};
use crate::config::Role::{Cashier, Manager, Owner, Viewer};
use crate::json::json;
use crate::mac::MacAddr;
use crate::sale::invoice::{Part, Progress};
use crate::sale::till::{Purchase, Sold};
use crate::sale::Price;
use crate::shop::Shop;
use crate::store::RequestId;
use crate::units::Sats;
use serde_json::Value;
use std::time::Duration;

/// For a payment to arrive that a card's bank has promised.
const PATIENCE: Duration = Duration::from_secs(15);

pub static COMMANDS: &[Command] = &[
    Command {
        name: "card create",
        args: "NAME --tx-max SAT --day-max SAT [--uid-privacy] [--disabled]",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Signed(&["POST /admin/cards", "POST /api/createboltcard"], MOMENT, |desk, given| {
            Box::pin(create(desk, given))
        }),
        shows: Code,
        summary: "a Bolt Card; shows the code that the programmer app reads",
    },
    Command {
        name: "card list",
        args: "",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["GET /admin/cards"], MOMENT, |desk, given| Box::pin(list(desk, given))),
        shows: Rows("cards"),
        summary: "the cards, their limits and what they spent",
    },
    Command {
        name: "card show",
        args: "ID",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["GET /admin/cards/ID"], MOMENT, |desk, given| Box::pin(show(desk, given))),
        shows: Facts,
        summary: "one card",
    },
    Command {
        name: "card history",
        args: "ID",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["GET /admin/cards/ID/history"], MOMENT, |desk, given| Box::pin(history(desk, given))),
        shows: Rows("taps"),
        summary: "what a card was tapped for: pending, paid or failed, and the fee",
    },
    Command {
        name: "card enable",
        args: "ID",
        role: Manager,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["POST /admin/cards/ID/enable"], MOMENT, |desk, given| {
            Box::pin(enable(desk, given, true))
        }),
        shows: Facts,
        summary: "let a card pay (again)",
    },
    Command {
        name: "card disable",
        args: "ID",
        role: Manager,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["POST /admin/cards/ID/disable"], MOMENT, |desk, given| {
            Box::pin(enable(desk, given, false))
        }),
        shows: Facts,
        summary: "let a card pay no more, for instance because it is lost",
    },
    Command {
        name: "card limits",
        args: "ID [--tx-max SAT] [--day-max SAT]",
        role: Manager,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["POST /admin/cards/ID/limits"], MOMENT, |desk, given| Box::pin(limits(desk, given))),
        shows: Facts,
        summary: "change what a card may pay at once and in any 24 hours",
    },
    Command {
        name: "card wipe",
        args: "ID",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Signed(&["POST /admin/cards/ID/wipe"], MOMENT, |desk, given| Box::pin(wipe(desk, given))),
        shows: Code,
        summary: "end a card; shows what the app needs to make the chip blank",
    },
    Command {
        name: "card reprogram",
        args: "ID",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Signed(&["POST /admin/cards/ID/reprogram"], MOMENT, |desk, given| {
            Box::pin(reprogram(desk, given))
        }),
        shows: Code,
        summary: "new keys for a card; the old ones pay no more",
    },
    Command {
        name: "card tap",
        args: "LINK --mac MAC [--amount SAT | --steps N]",
        role: Cashier,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Socket(OTHERS, |desk, given| Box::pin(tap(desk, given))),
        shows: Facts,
        summary:
            "let a device in for what a tapped card pays, the least that is sold if not said ('-': the link \
                  comes from standard input, where nobody else sees it)",
    },
];

fn cards(desk: &Desk) -> Result<&Cards, CommandError> {
    Ok(desk.site.shop.as_ref()?.cards.as_ref()?)
}

/// A path that names no number names no card.
fn id(given: &Given) -> Result<i64, CommandError> {
    match given.need("ID")?.parse() {
        Ok(id) => Ok(id),
        Err(_) if given.is_of_words() => Err(given.wrong()),
        Err(_) => Err(CardError::NoSuchCard.into()),
    }
}

async fn create(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    Ok(cards(desk)?.create(&order(given)).await?)
}

async fn list(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    Ok(cards(desk)?.list().await?)
}

async fn show(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    Ok(cards(desk)?.show(id(given)?).await?)
}

async fn history(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    Ok(cards(desk)?.history(id(given)?).await?)
}

async fn enable(desk: &Desk, given: &Given, enabled: bool) -> Result<Value, CommandError> {
    Ok(cards(desk)?.enable(id(given)?, enabled).await?)
}

async fn limits(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (card, order) = (id(given)?, order(given));
    match order.as_object().is_some_and(|order| order.is_empty()) && given.is_of_words() {
        true => Err(given.wrong()),
        false => Ok(cards(desk)?.limit(card, &order).await?),
    }
}

async fn wipe(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    Ok(cards(desk)?.wipe(id(given)?).await?)
}

async fn reprogram(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    Ok(cards(desk)?.reprogram(id(given)?).await?)
}

/// What the card room reads: the object that was sent, or one of the words.
fn order(given: &Given) -> Value {
    if let Some(body) = given.body() {
        return body.clone();
    }
    let mut order = json!({});
    if let Some(name) = given.text("NAME") {
        order["card_name"] = json!(name);
    }
    for (flag, name) in [("--tx-max", "tx_max"), ("--day-max", "day_max")] {
        if let Some(sats) = given.text(flag) {
            // What is no number is refused with its own words.
            order[name] = sats.parse::<u64>().map_or_else(|_| json!(sats), |sats| json!(sats));
        }
    }
    if given.has("--uid-privacy") {
        order["uid_privacy"] = json!(true);
    }
    if given.has("--disabled") {
        order["enabled"] = json!(false);
    }
    order
}

/// Lets a guest in for the payment of a card that was tapped at the counter.
async fn tap(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let mac: MacAddr = given.parsed("--mac")?.ok_or_else(|| given.wrong())?;
    let (amount, steps) = (given.parsed("--amount")?.map(Sats), given.parsed("--steps")?);
    let site = &desk.site;
    let shop = site.shop.as_ref()?;
    let config = site.config();
    let (venue, caller) = super::place::seen(&config, mac).ok_or_else(|| {
        let message =
            "is not on a guest network now; connect it first ('tollgated clients' lists who is there)";
        CommandError::Missing("unknown_device", format!("{mac} {message}"))
    })?;
    let mint = config.mints_of(venue).find(|mint| site.mints.seems_reachable(&mint.url));
    let mint = mint.or_else(|| config.mints_of(venue).next());
    let mint = mint.ok_or_else(|| {
        CommandError::Refused("no_mint", "no mint sells at this venue; add a 'config mint'".to_owned())
    })?;
    let price = Price::of(venue, mint);
    let amount = amount.unwrap_or_else(|| price.cost(steps.unwrap_or(price.min_steps)));
    let purchase = Purchase { mint: mint.url.clone(), amount };
    log::info!("operator: a card is to pay {amount} sat for {mac}");
    let sold = shop.till.sell(&caller, venue, purchase, given.need("LINK")?).await;
    let sold = sold.map_err(|why| CommandError::Refused(why.code(), why.to_string()))?;
    let online = match &sold {
        Sold::Here => true,
        Sold::Given(id) => arrives(shop, mac, id).await,
    };
    let request = match &sold {
        Sold::Here => Value::Null,
        Sold::Given(id) => json!(id.as_str()),
    };
    Ok(json!({
        "mac": mac.to_string(),
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
