//! `tollgated invite ...`: codes that let guests in, and what became of them. A code is shown where it is made, once.

use super::Reach::Http;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::config::Config;
use crate::config::Role::{Cashier, Owner, Viewer};
use crate::json::json;
use crate::lightning::{BotsInvite, Sphinx};
use crate::sale::invite::InviteError;
use crate::sale::SaleError;
use crate::shop::Shop;
use crate::store::{CodeWorth, InviteRow, NewInvites, RequestId, Store};
use crate::units::{Millis, Msats, ALL_SATS};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Codes of one order.
const MOST: u64 = 500;
/// As much as the operator grants at once: a year, a petabyte, all bitcoin.
const LONGEST: u64 = 366 * 86_400;
const LARGEST: u64 = 1_000_000_000_000_000;
const MOST_USES: u64 = 1_000_000;
/// Ten years.
const LAST_EXPIRY: u64 = 3650 * 86_400;
const LONGEST_NOTE: usize = 200;
/// Invites that the bot is asked for at once, and what it pays for one where nothing is said.
const MOST_OF_BOT: u64 = 20;
const LEAST_OF_BOT: Msats = Msats(100);
/// Codes of one page of the list.
const PAGE: u64 = 100;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "invite create",
        args: "[--number N] [--seconds N | --bytes N | --sats N] [--uses N] [--expires SECONDS] [--note TEXT]",
        role: Cashier,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["POST /connectioncodes"], MOMENT, |desk, given| Box::pin(create(desk, given))),
        shows: Facts,
        summary: "codes that let guests in, for time, data or what so many sats buy; they are shown only now",
    },
    Command {
        name: "invite list",
        args: "[--page N] [--limit N]",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["GET /connectioncodes/list"], MOMENT, |desk, given| Box::pin(list(desk, given))),
        shows: Facts,
        summary: "the codes that were made: what each is worth, how often it can be used yet, until when; newest first",
    },
    Command {
        name: "invite delete",
        args: "ID",
        role: Cashier,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["DELETE /connectioncodes/ID"], MOMENT, |desk, given| Box::pin(delete(desk, given))),
        shows: Facts,
        summary: "a code lets nobody in any more; who is in stays",
    },
];

async fn create(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let config = desk.site.config();
    let is_sphinx = config.auth.as_ref().is_some_and(|auth| auth.sphinx.is_some());
    if is_sphinx && given.body().is_some_and(|body| body["sphinx"] == true) {
        return create_at_bot(shop, &config, given).await;
    }
    let number = whole(given, "--number", 1..=MOST)?.unwrap_or(1);
    let uses = whole(given, "--uses", 1..=MOST_USES)?.unwrap_or(1);
    let order = NewInvites {
        worth: worth(given)?,
        uses: u32::try_from(uses).unwrap_or(1),
        lasts: whole(given, "--expires", 1..=LAST_EXPIRY)?.map(Millis::from_secs),
        note: note(given)?,
        created_by: given.operator().name.clone(),
    };
    let number = usize::try_from(number).unwrap_or(1);
    let made = shop.invites.make(order, number).await.map_err(refused)?;
    log::info!("operator: {} makes {} invites", given.operator().name, made.len());
    let codes = made.iter().map(|one| json!({"id": one.id.as_str(), "code": one.code.to_string()}));
    Ok(json!({"codes": codes.collect::<Value>()}))
}

/// Invites of the Sphinx bot, to be handed out beside our own codes.
async fn create_at_bot(shop: &Shop, config: &Config, given: &Given) -> Result<Value, CommandError> {
    let number = whole(given, "--number", 1..=MOST_OF_BOT)?.unwrap_or(1);
    let sats = match whole(given, "--sats", 1..=ALL_SATS)? {
        None => whole(given, "sats_amount", 1..=ALL_SATS)?,
        sats => sats,
    };
    if sats.is_some() && !(given.operator().role == Owner && given.operator().may_sign) {
        let message = "the bot pays for this: it needs an owner's signature that is not older than a minute";
        return Err(CommandError::Forbidden("fresh_signature_needed", message.to_owned()));
    }
    let text = |name: &str| given.body().and_then(|body| body[name].as_str()).map(str::to_owned);
    let inviter = match (text("pubkey"), text("route_hint")) {
        (Some(key), Some(hint)) => Some((key, hint)),
        (None, None) => None,
        _ => return Err(invalid("pubkey and route_hint belong together".to_owned())),
    };
    let amount = sats.map_or(LEAST_OF_BOT, |sats| Msats(sats.saturating_mul(1000)));
    let order = BotsInvite { amount, inviter };
    let mut codes: Vec<Value> = Vec::new();
    for _ in 0..number {
        let store_is_full =
            || CommandError::Refused("too_many_codes", "there are too many invites".to_owned());
        let has_room = shop.store.has_room_for_bots_invites().await;
        let asked = match has_room.map_err(|err| refused(err.into()))? {
            true => Sphinx::invite(config, &shop.tls, &order).await,
            false if codes.is_empty() => return Err(store_is_full()),
            false => break,
        };
        match asked {
            Ok(code) => {
                let id =
                    shop.store.keep_bots_invite(code.clone()).await.map_err(|err| refused(err.into()))?;
                codes.push(json!({"id": id.ok_or_else(store_is_full)?, "code": code}));
            }
            Err(why) if codes.is_empty() => return Err(CommandError::Closed("bot_unavailable", why)),
            // The invites that the bot has made are paid for.
            Err(why) => {
                log::warn!("of {number} invites the bot has made {}: {why}", codes.len());
                break;
            }
        }
    }
    Ok(json!({"codes": codes.into_iter().collect::<Value>()}))
}

fn worth(given: &Given) -> Result<CodeWorth, CommandError> {
    let all = [
        whole(given, "--seconds", 1..=LONGEST)?.map(CodeWorth::Seconds),
        whole(given, "--bytes", 1..=LARGEST)?.map(CodeWorth::Bytes),
        whole(given, "--sats", 1..=ALL_SATS)?.map(CodeWorth::Sats),
    ];
    let mut all = all.into_iter().flatten();
    match (all.next(), all.next()) {
        (Some(worth), None) => Ok(worth),
        _ => Err(invalid("a code is worth one of seconds, bytes and sats".to_owned())),
    }
}

/// A member that is a whole number of this range, if it is there.
fn whole(given: &Given, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, CommandError> {
    let member = name.trim_start_matches('-');
    let sent = given.body().map_or(&Value::Null, |body| &body[member]);
    let number = match (given.text(name), sent) {
        (None, Value::Null) => return Ok(None),
        (Some(text), Value::Null) => text.parse().ok(),
        (_, sent) => sent.as_u64(),
    };
    let number = number.filter(|number| range.contains(number));
    let wrong = || invalid(format!("{member} is a whole number from {} to {}", range.start(), range.end()));
    number.ok_or_else(wrong).map(Some)
}

fn note(given: &Given) -> Result<String, CommandError> {
    let sent = given.body().map_or(&Value::Null, |body| &body["note"]);
    let text = given.text("--note").unwrap_or_default();
    let is_text = matches!(sent, Value::Null | Value::String(_));
    match is_text && text.chars().count() <= LONGEST_NOTE && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(invalid(format!("note is one line of at most {LONGEST_NOTE} characters"))),
    }
}

async fn list(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let store = &desk.site.shop.as_ref()?.store;
    let page = whole(given, "--page", 1..=u64::from(u32::MAX))?.unwrap_or(1);
    let limit = whole(given, "--limit", 1..=PAGE)?.unwrap_or(PAGE);
    let skip = page.saturating_sub(1).saturating_mul(limit);
    let most = u32::try_from(limit).unwrap_or_default();
    let (rows, total) = store.invites(skip, most).await.map_err(|err| refused(err.into()))?;
    Ok(json!({"codes": rows.iter().map(|row| told(store, row)).collect::<Value>(), "total": total}))
}

fn told(store: &Store, row: &InviteRow) -> Value {
    let (unit, number) = row.worth.parts();
    // On the clock of the wall, as far as that is right.
    let expires = row.ends.map(|ends| match ends.0.checked_sub(store.now().0) {
        Some(left) => store.wall().0.saturating_add(left / 1000),
        None => store.wall().0.saturating_sub(store.now().saturating_sub(ends).as_secs_ceil()),
    });
    let mut told = json!({
        "id": row.id.as_str(),
        "uses_left": row.uses_left,
        "expires": expires,
        "note": row.note,
        "created_by": row.created_by,
    });
    told[unit] = json!(number);
    told
}

async fn delete(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let unknown = || CommandError::Missing("unknown_code", "there is no code with this id".to_owned());
    let id: RequestId = given.need("ID")?.parse().map_err(|()| unknown())?;
    match shop.store.delete_invite(id.clone()).await {
        Ok(true) => Ok(json!({"id": id.as_str(), "deleted": true})),
        Ok(false) => Err(unknown()),
        Err(err) => Err(refused(err.into())),
    }
}

fn invalid(message: String) -> CommandError {
    CommandError::Input("invalid_input", message)
}

fn refused(error: InviteError) -> CommandError {
    let message = error.to_string();
    match error {
        InviteError::NowhereSold => invalid(message),
        InviteError::Sale(SaleError::Closed(code)) => CommandError::Closed(code, message),
        error => CommandError::Refused(error.code(), message),
    }
}
