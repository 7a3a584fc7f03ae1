//! `tollgated voucher ...`: codes that are worth time, data or money at one venue, once, and what became of them. A code is
//! shown where it is made and on its sheet, in no list and in no log.

use super::Reach::{Http, Signed};
use super::Shows::{Facts, Page};
use super::{at_path, Command, CommandError, Desk, Given, Operator, Whose, MOMENT};
use crate::config::Role::{Cashier, Manager, Viewer};
use crate::config::{uci, Config, Tenant, Venue};
use crate::correlation;
use crate::json::json;
use crate::network::devices;
use crate::sale::voucher::{VoucherBatch, VoucherError, VoucherOrder};
use crate::sale::SaleError;
use crate::shop::Shop;
use crate::store::{CodeWorth, StoreError, TenantStore};
use crate::units::{data_text, parse_size, parse_time, time_text, Millis, UnixSeconds, ALL_SATS};
use crate::uuid::Uuid;
use crate::vouchers::sheet::{self, Sheet};
use crate::vouchers::{
    rows, waits, BatchId, Cause, Funding, VoucherCode, VoucherRow, VoucherState, WorkRequest,
};
use crate::zone::Zone;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;

/// Codes of one order: one transaction, whose log fits on a flash that is nearly full.
const MOST: u64 = 500;
/// As much as the operator grants at once: a year, a petabyte, all bitcoin.
const LONGEST: u64 = 366 * 86_400;
const LARGEST: u64 = 1_000_000_000_000_000;
/// Ten years.
const LAST_EXPIRY: Millis = Millis::from_secs(3650 * 86_400);
const LONGEST_NOTE: usize = 200;
/// Rows of one page of the list.
const PAGE: u64 = 100;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "voucher create",
        args: "[N] [--time DURATION | --bytes SIZE | --sat SAT] [--venue VENUE] [--funding FUNDING] \
               [--expires DURATION] [--note TEXT] [--strip] [--print FILE]",
        role: Cashier,
        audited: true,
        moves_money: true,
        whose: Whose::Tenant,
        reach: Http(&["POST /admin/vouchers"], MOMENT, |desk, given| {
            Box::pin(create(desk, given))
        }),
        shows: Facts,
        summary: "vouchers that let a guest in once, for time, data or what so many sats buy; with --print a page for the \
                  printer, on A4 or as a strip",
    },
    Command {
        name: "voucher list",
        args: "[--page N] [--limit N]",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Tenant,
        reach: Http(&["GET /admin/vouchers"], MOMENT, |desk, given| {
            Box::pin(list(desk, given))
        }),
        shows: Facts,
        summary: "the vouchers that were made, newest first: what each is worth, where, until when, and what became of it",
    },
    Command {
        name: "voucher show",
        args: "ID",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Tenant,
        reach: Http(&["GET /admin/vouchers/ID"], MOMENT, |desk, given| {
            Box::pin(show(desk, given))
        }),
        shows: Facts,
        summary: "one voucher, without its code",
    },
    Command {
        name: "voucher revoke",
        args: "ID",
        role: Manager,
        audited: true,
        moves_money: true,
        whose: Whose::Tenant,
        reach: Http(
            &["POST /admin/vouchers/ID/revoke"],
            MOMENT,
            |desk, given| Box::pin(revoke(desk, given)),
        ),
        shows: Facts,
        summary: "a voucher lets nobody in any more; who is in stays",
    },
    Command {
        name: "voucher history",
        args: "ID",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Tenant,
        reach: Http(
            &["GET /admin/vouchers/ID/history"],
            MOMENT,
            |desk, given| Box::pin(history(desk, given)),
        ),
        shows: Facts,
        summary: "what became of a voucher, step by step",
    },
    Command {
        name: "voucher sheet",
        args: "BATCH [--strip] [--print FILE]",
        role: Cashier,
        audited: true,
        moves_money: false,
        whose: Whose::Tenant,
        reach: Signed(
            &["GET /admin/vouchers/BATCH/sheet"],
            MOMENT,
            |desk, given| Box::pin(sheet_again(desk, given)),
        ),
        shows: Page,
        summary: "the page for the printer again, with the codes of an order that can still be used",
    },
];

/// Members of the body that `POST /admin/vouchers` takes, and of which kind: a flag, a text, or what may be a number, too.
const MEMBERS: [(&str, [bool; 3]); 12] = [
    ("n", [false, true, true]),
    ("number", [false, false, true]),
    ("count", [false, false, true]),
    ("time", [false, true, true]),
    ("bytes", [false, true, true]),
    ("sat", [false, true, true]),
    ("venue", [false, true, false]),
    ("funding", [false, true, false]),
    ("expires", [false, true, false]),
    ("note", [false, true, false]),
    ("strip", [true, false, false]),
    ("print", [true, true, false]),
];

async fn create(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let config = desk.site.config();
    let order = ordered(shop, &config, given)?;
    let note = order.note.clone();
    let made = match shop.vouchers.make(&tenants(&config, given), order).await {
        Err(VoucherError::Waits(approval)) => {
            let waits = waits(&approval).body;
            return serde_json::from_str(&waits).map_err(|_| failed(StoreError::Gone));
        }
        made => made.map_err(refused)?,
    };
    log::info!("operator: {} makes {} vouchers", given.operator().name, made.vouchers.len());
    let mut told = told_batch(&made);
    if given.has("--print") {
        let codes: Vec<VoucherCode> = made.vouchers.into_iter().map(|(_, code)| code).collect();
        let on_card =
            OnCard { face: made.face.0, worth: made.worth, expires_at: made.expires_at, note: &note };
        told["page"] = json!(page_of(desk, &made.venue, &on_card, given.has("--strip"), &codes));
    }
    Ok(told)
}

/// Makes what somebody has ordered over HTTP and others have agreed to.
pub async fn make_agreed(
    shop: &Shop,
    config: &Config,
    tenant: &Tenant,
    principal: &str,
    request: WorkRequest,
) -> Result<Value, CommandError> {
    let (command, _) = at_path("POST", "/admin/vouchers").ok_or_else(unknown)?;
    let body = serde_json::from_str(&request.text).map_err(|_| invalid("the body is no JSON object"))?;
    let operator = Operator { name: principal.to_owned(), ..Operator::of_shell() };
    let given = Given::from_members(command, &[], body)?.by(operator).asked_by(Some(request));
    let order = ordered(shop, config, &given)?;
    let made = shop.vouchers.make(std::slice::from_ref(tenant), order).await.map_err(refused)?;
    Ok(told_batch(&made))
}

fn ordered(shop: &Shop, config: &Config, given: &Given) -> Result<VoucherOrder, CommandError> {
    for (name, value) in given.body().and_then(Value::as_object).into_iter().flatten() {
        let known = MEMBERS.iter().find(|(known, _)| known == name);
        let kind = [value.is_boolean(), value.is_string(), value.is_u64()];
        let is_taken = |(_, takes): &&(_, [bool; 3])| takes.iter().zip(kind).any(|(takes, is)| *takes && is);
        if !value.is_null() && known.filter(is_taken).is_none() {
            let name: String = name.chars().filter(char::is_ascii_graphic).take(32).collect();
            return Err(invalid(&format!("{name} is not known here, or is of another kind")));
        }
    }
    let funding = given.text("--funding").map(|text| text.parse::<Funding>());
    let funding = funding.unwrap_or(Ok(Funding::Promise));
    let expires = given.text("--expires").map(|text| parse_time(text).filter(|life| *life <= LAST_EXPIRY));
    Ok(VoucherOrder {
        venue: given.text("--venue").map(|named| section_of(shop, config, named)),
        worth: worth(given)?,
        funding: funding.map_err(|()| invalid("funding is none, treasury or invoice"))?,
        lasts: match expires {
            Some(None) => return Err(invalid("expires is a time of at most ten years, like 30d or 12h")),
            Some(life) => life,
            None => None,
        },
        note: note(given)?,
        created_by: given.operator().name.clone(),
        request_id: given
            .request()
            .and_then(|request| request.request_id.clone())
            .unwrap_or_else(correlation::current_text),
        number: number(given)?,
        request: given.request().cloned(),
    })
}

fn told_batch(made: &VoucherBatch) -> Value {
    let (metric, amount) = told_worth(made.worth);
    let one = |(id, code): &(_, VoucherCode)| {
        let id: &BatchId = id;
        let mut told = json!({
            "id": id.to_string(),
            "code": code.to_string(),
            "venue": made.venue.id,
            "metric": metric,
            "allotment": amount,
            "expires_at": made.expires_at.0,
        });
        if let Some((_, token)) = made.tokens.iter().find(|(backed, _)| backed == id) {
            told["token"] = json!(token);
        }
        told
    };
    let mut told = json!({"batch": made.batch.to_string(), "vouchers": made.vouchers.iter().map(one).collect::<Value>()});
    if let Some(invoice) = &made.invoice {
        told["invoice"] = json!(invoice.invoice);
        told["status"] = json!("awaiting_payment");
        told["amount"] = json!(invoice.amount.0);
        told["pay_until"] = json!(invoice.expires_at.0);
    }
    told
}

/// The section of a venue that is named by it, or by the id that other programs know.
fn section_of(shop: &Shop, config: &Config, named: &str) -> String {
    let id = named.parse::<Uuid>().ok();
    let is_named = |venue: &&Venue| venue.id == named || id == Some(shop.venue_id(venue));
    config.venues.iter().find(is_named).map_or_else(|| named.to_owned(), |venue| venue.id.clone())
}

fn number(given: &Given) -> Result<usize, CommandError> {
    let sent = given.body().map_or(&Value::Null, |body| match &body["number"] {
        Value::Null => &body["count"],
        number => number,
    });
    let number = match (given.parsed::<u64>("N")?, sent) {
        (Some(number), _) => Some(number),
        (None, Value::Null) => Some(1),
        (None, sent) => sent.as_u64(),
    };
    let number = number.filter(|number| (1..=MOST).contains(number));
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| invalid(&format!("an order is of 1 to {MOST} vouchers")))
}

fn worth(given: &Given) -> Result<CodeWorth, CommandError> {
    let plain = |text: &str| text.parse::<u64>().ok();
    let time = given.text("--time").map(|text| {
        let seconds = plain(text).or_else(|| parse_time(text).map(|time| time.0 / 1000));
        seconds.filter(|seconds| (1..=LONGEST).contains(seconds)).map(CodeWorth::Seconds)
    });
    let data = given.text("--bytes").map(|text| {
        let bytes = plain(text).or_else(|| parse_size(text).map(|size| size.0));
        bytes.filter(|bytes| (1..=LARGEST).contains(bytes)).map(CodeWorth::Bytes)
    });
    let money = given
        .text("--sat")
        .map(|text| plain(text).filter(|sats| (1..=ALL_SATS).contains(sats)).map(CodeWorth::Sats));
    let mut all = [time, data, money].into_iter().flatten();
    match (all.next(), all.next()) {
        (Some(Some(worth)), None) => Ok(worth),
        (Some(None), None) => {
            Err(invalid("a voucher is worth time like 1h (at most 366d), bytes like 500MB, or whole sats"))
        }
        _ => Err(invalid("a voucher is worth one of time, bytes and sat")),
    }
}

fn note(given: &Given) -> Result<String, CommandError> {
    let text = given.text("--note").unwrap_or_default();
    match text.chars().count() <= LONGEST_NOTE && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(invalid(&format!("note is one line of at most {LONGEST_NOTE} characters"))),
    }
}

async fn list(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let page = given.parsed::<u64>("--page")?.unwrap_or(1).max(1);
    let limit = given.parsed::<u64>("--limit")?.unwrap_or(PAGE).clamp(1, PAGE);
    let (mut skip, mut left) = (page.saturating_sub(1).saturating_mul(limit), limit);
    let (mut vouchers, mut total) = (Vec::new(), 0u64);
    let now = shop.store.wall();
    for tenant in tenants(&desk.site.config(), given) {
        let rows = shop.vouchers.book().of(&tenant);
        let (found, all) = rows.read(move |door| rows::newest(door, skip, left)).await.map_err(failed)?;
        skip = skip.saturating_sub(all);
        left = left.saturating_sub(u64::try_from(found.len()).unwrap_or(u64::MAX));
        total = total.saturating_add(all);
        vouchers.extend(found.iter().map(|row| told(row, now)));
    }
    Ok(json!({"vouchers": vouchers, "total": total}))
}

async fn show(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let (_, row) = find(desk, shop, given).await?;
    Ok(told(&row, shop.store.wall()))
}

async fn history(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let (rows, row) = find(desk, shop, given).await?;
    let id = row.id.to_string();
    let steps = rows.read(move |door| rows::history(door, &row)).await.map_err(failed)?;
    let one = |step: &rows::VoucherStep| {
        json!({
            "at": step.at.0,
            "from": if step.was.is_empty() { Value::Null } else { json!(step.was) },
            "to": step.became,
            "reason": step.reason,
            "who": step.who,
            "request_id": if step.request_id.is_empty() { Value::Null } else { json!(step.request_id) },
        })
    };
    Ok(json!({"id": id, "history": steps.iter().map(one).collect::<Value>()}))
}

async fn revoke(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let (rows, row) = find(desk, shop, given).await?;
    let (id, at, who) = (row.id, shop.store.wall(), given.operator().name.clone());
    let request_id = correlation::current_text();
    let mark = given.request().and_then(|request| request.mark.clone());
    let row = rows
        .write(move |door| {
            let cause = Cause { at, reason: "revoked", who: &who, request_id: &request_id };
            if row.state_at(at) == VoucherState::Ready {
                rows::change(door, id, &[VoucherState::Ready], VoucherState::Revoked, cause)?;
                mark.map_or(Ok(()), |mark| mark.begin(door, at.0))?;
            }
            rows::by_id(door, id)
        })
        .await
        .map_err(failed)?;
    match row.map(|row| row.state_at(at)) {
        Some(VoucherState::Revoked) => Ok(json!({"id": id.to_string(), "state": "revoked"})),
        Some(VoucherState::Redeemed) => Err(refused(VoucherError::Used)),
        Some(VoucherState::Expired) => Err(refused(VoucherError::Expired)),
        Some(VoucherState::Failed | VoucherState::Refunded) => Err(refused(VoucherError::Failed)),
        Some(_) => Err(refused(VoucherError::NotReady)),
        None => Err(unknown()),
    }
}

async fn sheet_again(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let shop = desk.site.shop.as_ref()?;
    let config = desk.site.config();
    let batch: BatchId = given.need("BATCH")?.parse().map_err(|()| unknown())?;
    let now = shop.store.wall();
    for tenant in tenants(&config, given) {
        let book = shop.vouchers.book();
        let found = book.of(&tenant).read(move |door| rows::of_batch(door, batch)).await.map_err(failed)?;
        let Some(first) = found.first() else { continue };
        let gone = || CommandError::Missing("venue_unknown", "its venue is not there any more".to_owned());
        let venue = config.venue(&first.venue).ok_or_else(gone)?;
        let mut codes = Vec::new();
        for row in found.iter().filter(|row| !row.state_at(now).is_final()) {
            codes.extend(book.code_of(&tenant, row).await.map_err(failed)?);
        }
        let on_card = OnCard {
            face: first.face.0,
            worth: first.worth,
            expires_at: first.expires_at,
            note: &first.note,
        };
        let page = page_of(desk, venue, &on_card, given.has("--strip"), &codes);
        return Ok(json!({"batch": batch.to_string(), "vouchers": codes.len(), "page": page}));
    }
    Err(unknown())
}

/// What all cards of an order say.
struct OnCard<'a> {
    face: u64,
    worth: CodeWorth,
    expires_at: UnixSeconds,
    note: &'a str,
}

fn page_of(desk: &Desk, venue: &Venue, card: &OnCard, is_strip: bool, codes: &[VoucherCode]) -> String {
    let config = desk.site.config();
    let worth = match card.worth {
        CodeWorth::Seconds(seconds) => time_text(seconds),
        CodeWorth::Bytes(bytes) => data_text(bytes),
        CodeWorth::Sats(sats) => format!("{sats} sat"),
    };
    let price = match card.worth {
        CodeWorth::Sats(_) => String::new(),
        _ if card.face == 0 => String::new(),
        _ => format!("{} sat", card.face),
    };
    let (wifi, portal) = (wifi_name(&desk.file, venue), portal_address(&config, venue));
    let until = format!("until {}", Zone::local().date(card.expires_at.0));
    let sheet = Sheet {
        venue: &venue.name,
        wifi: wifi.as_deref(),
        worth: &worth,
        price: &price,
        until: &until,
        note: card.note,
        portal: portal.as_deref(),
        is_strip,
    };
    sheet::page(&sheet, codes)
}

/// Where guests of a venue find the portal: by its name, or at the router's address there.
fn portal_address(config: &Config, venue: &Venue) -> Option<String> {
    let port = config.main.port;
    if let Some(name) = &venue.portal_name {
        return Some(format!("http://{name}:{port}"));
    }
    let of_device = |device: &String| devices::addresses(device).unwrap_or_default();
    let addresses: Vec<IpAddr> = venue.devices.iter().flat_map(of_device).collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let v6 =
        || addresses.iter().find(|address| matches!(address, IpAddr::V6(v6) if !devices::is_link_local(v6)));
    match v4.or_else(v6)? {
        IpAddr::V4(address) => Some(format!("http://{address}:{port}")),
        IpAddr::V6(address) => Some(format!("http://[{address}]:{port}")),
    }
}

/// The name of the Wi-Fi that is in the venue's network, as `/etc/config/wireless` says it.
fn wifi_name(file: &Path, venue: &Venue) -> Option<String> {
    let read = |name: &str| {
        let bytes = std::fs::read(file.with_file_name(name)).ok()?;
        uci::parse_large(&bytes).ok()
    };
    let word = |section: &uci::Section, name: &str| Some(section.option(name)?.items().first()?.text.clone());
    let network = venue.network.clone().or_else(|| {
        let networks = read("network")?;
        let has_device = |section: &&uci::Section| {
            word(section, "device").is_some_and(|device| venue.devices.contains(&device))
        };
        let found = networks.of_kind("interface").find(has_device).map(|section| section.name.clone());
        found
    })?;
    let wireless = read("wireless")?;
    let serves = |section: &&uci::Section| {
        let items = section.option("network").map_or(&[][..], |value| value.items());
        items.iter().any(|item| item.text.split_whitespace().any(|one| one == network))
    };
    let found = wireless.of_kind("wifi-iface").find(serves).and_then(|section| word(section, "ssid"));
    found
}

/// Whose vouchers the caller may see and make: the one tenant of a request over HTTP; the router's own shell has all.
fn tenants(config: &Config, given: &Given) -> Vec<Tenant> {
    given.tenant().map_or_else(|| config.all_tenants(), |tenant| vec![tenant.clone()])
}

/// The voucher of an id, and the rows that it is among. One of another tenant is as unknown as one that never was.
async fn find(desk: &Desk, shop: &Shop, given: &Given) -> Result<(TenantStore, VoucherRow), CommandError> {
    let id = given.need("ID")?.parse().map_err(|()| unknown())?;
    for tenant in tenants(&desk.site.config(), given) {
        let rows = shop.vouchers.book().of(&tenant);
        if let Some(row) = rows.read(move |door| rows::by_id(door, id)).await.map_err(failed)? {
            return Ok((rows, row));
        }
    }
    Err(unknown())
}

/// The unit and number of a voucher, as sessions have them.
fn told_worth(worth: CodeWorth) -> (&'static str, u64) {
    match worth {
        CodeWorth::Seconds(seconds) => ("milliseconds", seconds.saturating_mul(1000)),
        CodeWorth::Bytes(bytes) => ("bytes", bytes),
        CodeWorth::Sats(sats) => ("sat", sats),
    }
}

fn told(row: &VoucherRow, now: UnixSeconds) -> Value {
    let (metric, amount) = told_worth(row.worth);
    json!({
        "id": row.id.to_string(),
        "batch": row.batch.to_string(),
        "venue": row.venue,
        "metric": metric,
        "allotment": amount,
        "face_sat": row.face.0,
        "funding": row.funding.as_str(),
        "state": row.state_at(now).as_str(),
        "note": row.note,
        "label": row.label,
        "created_by": row.created_by,
        "created_at": row.created_at.0,
        "expires_at": row.expires_at.0,
        "redeemed_at": row.redeemed_at.map(|at| at.0),
        "redeemed_by": row.redeemed_by.as_deref(),
        "error_code": row.error_code.as_deref(),
    })
}

fn unknown() -> CommandError {
    CommandError::Missing("voucher_unknown", "there is no voucher with this id".to_owned())
}

fn invalid(message: &str) -> CommandError {
    CommandError::Input("invalid_input", message.to_owned())
}

fn failed(error: StoreError) -> CommandError {
    refused(error.into())
}

fn refused(error: VoucherError) -> CommandError {
    let message = error.to_string();
    match error {
        VoucherError::Order(message) => invalid(&message),
        VoucherError::NoVenue => CommandError::Missing("venue_unknown", message),
        VoucherError::OverLimit(message) => CommandError::Forbidden("limit_exceeded", message),
        VoucherError::Crowded => CommandError::Closed("too_many_approvals", message),
        VoucherError::Sale(SaleError::Closed(code)) => CommandError::Closed(code, message),
        error => CommandError::Refused(error.code(), message),
    }
}
