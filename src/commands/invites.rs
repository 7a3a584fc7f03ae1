//! `tollgated invite ...`: codes that let guests in, and what became of them. A code is shown where it is made, once.

use super::Reach::Http;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, MOMENT};
use crate::config::Role::{Cashier, Viewer};
use crate::json::json;
use crate::sale::invite::InviteError;
use crate::sale::SaleError;
use crate::store::{CodeWorth, InviteRow, NewInvites, RequestId, Store};
use crate::units::Millis;
use serde_json::Value;
use std::ops::RangeInclusive;

/// Codes of one order.
const MOST: u64 = 500;
/// As much as the operator grants at once: a year, a petabyte, all bitcoin.
const LONGEST: u64 = 366 * 86_400;
const LARGEST: u64 = 1_000_000_000_000_000;
const ALL_SATS: u64 = 2_100_000_000_000_000;
const MOST_USES: u64 = 1_000_000;
/// Ten years.
const LAST_EXPIRY: u64 = 3650 * 86_400;
const LONGEST_NOTE: usize = 200;
/// Codes of one page of the list.
const PAGE: u64 = 100;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "invite create",
        args: "[--number N] [--seconds N | --bytes N | --sats N] [--uses N] [--expires SECONDS] [--note TEXT]",
        role: Cashier,
        audited: true,
        reach: Http(&["POST /connectioncodes"], MOMENT, |desk, given| Box::pin(create(desk, given))),
        shows: Facts,
        summary: "codes that let guests in, for time, data or what so many sats buy; they are shown only now",
    },
    Command {
        name: "invite list",
        args: "[--page N] [--limit N]",
        role: Viewer,
        audited: false,
        reach: Http(&["GET /connectioncodes/list"], MOMENT, |desk, given| Box::pin(list(desk, given))),
        shows: Facts,
        summary: "the codes that were made: what each is worth, how often it can be used yet, until when; newest first",
    },
    Command {
        name: "invite delete",
        args: "ID",
        role: Cashier,
        audited: true,
        reach: Http(&["DELETE /connectioncodes/ID"], MOMENT, |desk, given| Box::pin(delete(desk, given))),
        shows: Facts,
        summary: "a code lets nobody in any more; who is in stays",
    },
];

async fn create(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
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
        (Some(text), _) => text.parse().ok(),
        (None, _) => None,
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
