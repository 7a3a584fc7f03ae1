//! `tollgated status`, `reload` and `clock accept`: what the daemon tells of itself (guests, sales, mints, gate, store, clock,
//! and what is missing), its configuration read again, and its clock taken for right.

use super::error::INVALID_CONFIG;
use super::Reach::{Http, Socket};
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::clock::minute;
use crate::config::Role::{Manager, Owner, Viewer};
use crate::config::{Config, Venue};
use crate::ecash::Mint;
use crate::json::json;
use crate::network::devices;
use crate::shop::{Site, Way};
use crate::store::Balance;
use crate::units::{Amount, Millis, Sats, UnixSeconds};
use crate::vouchers::rows;
use crate::zone::Zone;
use serde_json::Value;
use tokio::sync::oneshot;

/// How many jobs are listed one by one.
const MOST_JOBS: usize = 50;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "status",
        args: "",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["GET /admin/status"], MOMENT, |desk, given| Box::pin(status(desk, given))),
        shows: Facts,
        summary: "whether anything can be sold, and why not; guests, today's sales, takings, mints and why one is away, both \
                  locks, store, cards, clock, uptime",
    },
    Command {
        name: "reload",
        args: "",
        role: Manager,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Http(&["POST /admin/reload"], MOMENT, |desk, given| Box::pin(reload(desk, given))),
        shows: Facts,
        summary: "make the running daemon read its configuration again; a broken file changes nothing",
    },
    Command {
        name: "clock accept",
        args: "",
        role: Owner,
        audited: true,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, given| Box::pin(accept_clock(desk, given))),
        shows: Facts,
        summary: "the router's clock was ahead for a while and is right now: forget the later time, so that M-Pesa, operators' logins \
                  and cards go on",
    },
];

async fn reload(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let (reply, answer) = oneshot::channel();
    let gone = || CommandError::Closed("stopping", "the daemon is stopping".to_owned());
    desk.reload.send(reply).await.map_err(|_| gone())?;
    match answer.await.map_err(|_| gone())? {
        Ok(warnings) => Ok(json!({"reloaded": true, "warnings": warnings})),
        Err(problems) => Err(CommandError::Refused(INVALID_CONFIG, problems.join("\n"))),
    }
}

async fn accept_clock(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let accepted = desk.site.shop.as_ref()?.store.accept_wall().await;
    let accepted = accepted.map_err(|error| CommandError::Closed(error.code(), error.to_string()))?;
    let wall = accepted.map_err(|fault| CommandError::Refused("clock_not_set", fault.to_string()))?;
    Ok(json!({"wall": wall.0, "time": minute(wall)}))
}

/// The whole state as one JSON object.
async fn status(desk: &Desk, _: &Given) -> Result<Value, CommandError> {
    let site = &desk.site;
    let gate = site.gate();
    let config = site.config();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": site.not_ready().is_empty(),
        "not_ready": site.not_ready(),
        "uptime_seconds": desk.started.elapsed().as_secs(),
        "guests": guests(site),
        "sales_today": sales(site).await,
        "vouchers_today": vouchers(site).await,
        "takings": takings(site).await,
        "mints": config.mints.iter().map(|mint| told_of(&site.mints.get(&mint.url))).collect::<Value>(),
        "ways": ways(site),
        "gate": json!({
            "firewall_lock": gate.firewall_lock,
            "routing_lock": gate.routing_lock,
            "trouble": gate.trouble,
            "absent_devices": absent_devices(&config),
            "offloaded_devices": gate.offloaded_devices,
            "foreign_rules": gate.foreign,
            "times_put_back": gate.healed,
            "open": gate.open,
        }),
        "venues": venues(site),
        "store": store(site),
        "cards": cards(site),
        "mpesa": mpesa(site),
        "jobs": jobs(site).await,
        "clock": clock(site),
        "tls": tls(site),
        "trouble": site.trouble(),
    }))
}

/// Whether a mint answers, and why not if it does not.
fn told_of(mint: &Mint) -> Value {
    let (answers, health) = (mint.answers(), mint.health());
    let last_error = health.last_failure.map(|(_, error)| error).filter(|_| !answers);
    let silent = || (!answers).then(|| "it has not answered yet".to_owned());
    json!({
        "url": mint.url().as_str(),
        "reachable": answers,
        "failures": health.failures,
        "breaker": mint.breaker().as_str(),
        "last_error": last_error.or_else(silent),
    })
}

/// What the router's own wallet holds, and what of it is bound in something that is under way.
async fn takings(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    let balances = match shop.wallet.balances().await {
        Ok(balances) => balances,
        Err(err) => return json!({"error": err.code()}),
    };
    let sum = |amounts: &dyn Fn(&Balance) -> Amount| {
        let sats = balances.iter().filter_map(|balance| Sats::try_from(amounts(balance)).ok());
        sats.fold(0, |sum: u64, sats| sum.saturating_add(sats.0))
    };
    json!({"balance": sum(&|balance| balance.free), "held": sum(&|balance| balance.held)})
}

/// What guests can pay by, and why not where they cannot.
fn ways(site: &Site) -> Value {
    let one = |way: &Way| {
        json!({
            "name": way.name,
            "open": way.closed.is_none(),
            "code": way.closed.as_ref().map(|closed| closed.code),
            "cause": way.closed.as_ref().map(|closed| closed.cause.as_str()),
        })
    };
    site.ways().iter().map(one).collect()
}

/// Gated devices that do not exist (yet); they are gated from the moment they appear.
fn absent_devices(config: &Config) -> Vec<&str> {
    let gated = config.venues.iter().flat_map(|venue| &venue.devices);
    gated.filter(|device| !devices::exists(device)).map(String::as_str).collect()
}

fn guests(site: &Site) -> Value {
    match &site.shop {
        Ok(shop) => {
            let (requests, unpaid) = shop.invoices.counts();
            json!({
                "online": shop.access.running().len(),
                "sockets": shop.mint_proxy.sockets().count(),
                "connections": site.connections(),
                "requests": requests,
                "unpaid": unpaid,
            })
        }
        Err(_) => json!({"online": site.gate().open, "connections": site.connections()}),
    }
}

/// Today by the router's clock and zone.
async fn sales(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    let midnight = UnixSeconds(Zone::local().midnight(shop.store.wall().0));
    match shop.store.sales_since(midnight).await {
        Ok(sales) => {
            let seconds = sales.time.0 / 1000;
            let mut told = json!({"count": sales.count, "sat": 0, "seconds": seconds, "bytes": sales.data.0});
            for amount in sales.amounts {
                told[amount.unit.as_str()] = amount.number.into();
            }
            told
        }
        Err(err) => json!({"error": err.code()}),
    }
}

/// What was let in today on the operator's own promise, and what it cost when its code was made.
async fn vouchers(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    let midnight = UnixSeconds(Zone::local().midnight(shop.store.wall().0));
    let (mut count, mut sats) = (0u64, 0u64);
    for tenant in shop.terms.config().all_tenants() {
        let rows = shop.vouchers.book().of(&tenant);
        match rows.read(move |door| rows::redeemed_since(door, midnight)).await {
            Ok((more, worth)) => {
                (count, sats) = (count.saturating_add(more), sats.saturating_add(worth.0));
            }
            Err(err) => return json!({"error": err.code()}),
        }
    }
    json!({"count": count, "face_sat": sats})
}

/// The venues by the name of their section and their id, as paths take them, with the title that guests see.
fn venues(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    let config = site.config();
    let one = |venue: &Venue| {
        let id = shop.venue_id(venue).to_string();
        json!({"name": venue.id, "id": id, "title": venue.name})
    };
    config.venues.iter().map(one).collect()
}

fn store(site: &Site) -> Value {
    match &site.shop {
        Ok(shop) => json!({
            "state": "ok",
            "free_bytes": shop.store.free_bytes().ok(),
            "commits": shop.store.commits(),
        }),
        Err(closed) => json!({"state": closed.code, "cause": closed.cause}),
    }
}

/// `null` if no cards are configured.
fn cards(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    if site.config().card.is_none() {
        return Value::Null;
    }
    match &shop.cards {
        Ok(cards) => json!({
            "count": cards.count(),
            "pending_payments": cards.open_payments(),
            "trouble": cards.backends().trouble(),
        }),
        Err(closed) => json!({"state": closed.code, "cause": closed.cause}),
    }
}

/// `null` where nothing is sold for M-Pesa.
fn mpesa(site: &Site) -> Value {
    let (config, Ok(shop)) = (site.config(), &site.shop) else { return Value::Null };
    let Some(mpesa) = &config.mpesa else { return Value::Null };
    let trouble = shop.mpesa.trouble();
    json!({
        "ok": trouble.is_none(),
        "mode": mpesa.mode.as_str(),
        "trouble": trouble,
        "last_error": shop.mpesa.last_error(),
        "relay_trouble": shop.mpesa.relay_trouble(),
        "payouts_paused": shop.mpesa.payouts_paused(),
        "open": shop.mpesa.followed().len(),
    })
}

/// What is still to be done, whatever happens in between.
async fn jobs(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    let rows = match shop.store.jobs().await {
        Ok(rows) => rows,
        Err(err) => return json!({"error": err.code()}),
    };
    let (now, followed) = (shop.store.now(), shop.mpesa.followed());
    let told = rows.iter().take(MOST_JOBS).map(|row| {
        let known = followed.iter().find(|(id, ..)| *id == row.subject);
        let (tries, wait, error) = match known {
            Some((_, tries, wait, error)) => ((*tries).max(row.tries), *wait, error.as_str()),
            None => (row.tries, row.due.saturating_sub(now), row.error.as_str()),
        };
        json!({
            "kind": row.kind,
            "subject": row.subject,
            "tries": tries,
            "next_seconds": wait.as_secs_ceil(),
            "age_seconds": now.saturating_sub(row.created).as_secs_ceil(),
            "error": Some(error).filter(|error| !error.is_empty()),
        })
    });
    json!({"count": rows.len(), "rows": told.collect::<Value>()})
}

/// `null` where there is no https.
fn tls(site: &Site) -> Value {
    let config = site.config();
    let Some((tls, standing)) = config.tls.as_ref().zip(site.certificate.standing()) else {
        return Value::Null;
    };
    json!({
        "ok": standing.in_service && standing.fault.is_none(),
        "reason": standing.fault.map(|fault| fault.to_string()),
        "name": tls.name.as_str(),
        "not_after": standing.not_after.map(|end| end.0),
        "admin_listen": tls.admin_listen.to_string(),
    })
}

fn clock(site: &Site) -> Value {
    let Ok(shop) = &site.shop else { return Value::Null };
    json!({
        "wall": shop.store.wall().0,
        "plausible": shop.store.wall_is_plausible(),
        "trouble": shop.store.wall_fault().map(|fault| fault.to_string()),
        "service_seconds": Millis::as_secs_ceil(shop.store.now()),
    })
}
