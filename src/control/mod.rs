//! The control socket: one JSON line in, one JSON line out.
//!
//! `{"command": "grant", "args": ["02:00:00:00:00:01", "1h"]}` is answered `{"ok": true, "data": ...}` or
//! `{"ok": false, "code": ..., "message": ...}`. The socket is 0600 in `run_dir`: who may open it may command.

use crate::access::Session;
use crate::commands::place::{seen, split_venue};
use crate::commands::{cards, lightning, status, wallet, Refusal};
use crate::config::Config;
use crate::config::Metric;
use crate::json::json;
use crate::mac::MacAddr;
use crate::shop::Site;
use crate::task;
use crate::units::{Allotment, Millis};
use serde_json::Value;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// The longest is a token that the wallet is to receive.
const MAX_LINE: u64 = 80 * 1024;
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The operator gives at most this much at once.
const LONGEST_GRANT: Millis = Millis::from_secs(366 * 86_400);
const LARGEST_GRANT: Allotment = Allotment(1_000_000_000_000_000);

/// Asks the app to read its configuration again; answered with what is wrong with it, if anything.
pub type Reload = mpsc::Sender<oneshot::Sender<Result<Vec<String>, Vec<String>>>>;

/// Where the socket of a run directory is.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// Opens the socket. One that a dead daemon left behind is replaced.
pub fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(run_dir)?;
    let path = path(run_dir);
    match std::fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves commands until dropped.
pub async fn serve(listener: UnixListener, site: Arc<Site>, reload: Reload) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (site, reload) = (site.clone(), reload.clone());
                task::spawn(async move {
                    if let Err(err) = converse(stream, &site, &reload).await {
                        log::debug!("control socket: {err}");
                    }
                });
            }
            Err(err) => {
                log::warn!("control socket: {err}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, site: &Site, reload: &Reload) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_LINE));
    tokio::time::timeout(LINE_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match carry_out(&line, site, reload).await {
        Ok(data) => json!({"ok": true, "data": data}),
        Err((code, message)) => json!({"ok": false, "code": code, "message": message}),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await
}

async fn carry_out(line: &str, site: &Site, reload: &Reload) -> Result<Value, Refusal> {
    let usage = |message: &str| ("usage", message.to_owned());
    let order: Value = serde_json::from_str(line).map_err(|_| usage("not a JSON object"))?;
    let command = order.get("command").and_then(Value::as_str).unwrap_or_default();
    let args: Vec<&str> =
        order.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let (args, venue) = match command {
        "clients" | "sessions" | "grant" | "revoke" => {
            split_venue(&args).ok_or_else(|| usage("usage: --venue NAME, once"))?
        }
        _ => (args, None),
    };
    match (command, args.as_slice()) {
        ("status", []) => Ok(status::status(site).await),
        ("clients", []) => clients(site, venue),
        ("sessions", []) => Ok(sessions(site, venue)),
        ("grant", [mac, duration]) => grant(site, mac, duration, venue).await,
        ("revoke", [mac]) => revoke(site, mac, venue).await,
        ("reload", []) => reloaded(reload).await,
        ("card", args) => cards::command(site, args).await,
        ("lightning", args) => lightning::command(site, args).await,
        ("wallet", args) => wallet::carry_out(site, args).await,
        ("status" | "reload", _) => Err(usage("this command takes no arguments")),
        ("clients", _) => Err(usage("usage: clients [--venue NAME]")),
        ("sessions", _) => Err(usage("usage: sessions [--venue NAME]")),
        ("grant", _) => Err(usage("usage: grant MAC AMOUNT [--venue NAME] (like 30m, 2h, 1d, 500MB, 2GB)")),
        ("revoke", _) => Err(usage("usage: revoke MAC [--venue NAME]")),
        _ => {
            Err(usage("unknown command; try status, clients, sessions, grant, revoke, reload, wallet, card"))
        }
    }
}

/// Stations that the router knows on its gated devices, with what they have there.
fn clients(site: &Site, at: Option<&str>) -> Result<Value, Refusal> {
    let config = site.config();
    at.map(|name| known_venue(&config, name)).transpose()?;
    let mut list = Vec::new();
    for venue in config.venues.iter().filter(|venue| at.is_none_or(|name| name == venue.id)) {
        for device in &venue.devices {
            for caller in crate::network::neighbours::guests_on(device).unwrap_or_default() {
                let shop = site.shop.as_ref().ok();
                let session = shop.and_then(|shop| shop.access.session(caller.mac, &venue.id));
                let mut client = json!({
                    "mac": caller.mac.to_string(),
                    "address": caller.address.to_string(),
                    "device": device,
                    "venue": venue.id,
                    "trusted": venue.trusted_macs.contains(&caller.mac),
                    "remaining_seconds": Option::<u64>::None,
                });
                if let Some(session) = session.filter(Session::is_running) {
                    tell_left(&mut client, &session);
                }
                list.push(client);
            }
        }
    }
    Ok(Value::Array(list))
}

fn sessions(site: &Site, at: Option<&str>) -> Value {
    let running = site.shop.as_ref().map(|shop| shop.access.running()).unwrap_or_default();
    running
        .into_iter()
        .filter(|session| at.is_none_or(|venue| venue == session.venue))
        .map(|session| {
            let mut row = json!({"mac": session.mac.to_string(), "venue": session.venue});
            tell_left(&mut row, &session);
            if let Some(row) = row.as_object_mut() {
                match (session.metric, session.ends_at) {
                    (Metric::Milliseconds, ends_at) => {
                        row.insert(
                            "allotment_seconds".into(),
                            Millis(session.allotment.0).as_secs_ceil().into(),
                        );
                        row.insert("ends_at".into(), ends_at.map(|ends| ends.0).into());
                    }
                    (Metric::Bytes, _) => {
                        row.insert("allotment_bytes".into(), session.allotment.0.into());
                        row.insert("used_bytes".into(), session.used.0.into());
                    }
                }
            }
            row
        })
        .collect()
}

/// What is left of a session, in its metric.
fn tell_left(object: &mut Value, session: &Session) {
    let (name, left) = match session.metric {
        Metric::Milliseconds => ("remaining_seconds", Millis(session.remaining.0).as_secs_ceil()),
        Metric::Bytes => ("remaining_bytes", session.remaining.0),
    };
    if let Some(object) = object.as_object_mut() {
        object.insert(name.into(), left.into());
    }
}

/// At the venue that is named, or else where the MAC is, or else at the first.
async fn grant(site: &Site, mac: &str, amount: &str, at: Option<&str>) -> Result<Value, Refusal> {
    let mac: MacAddr = mac.parse().map_err(|err| ("invalid_mac", format!("{mac}: {err}")))?;
    let (metric, allotment) = parse_amount(amount).ok_or_else(|| {
        let usage = "a duration is a number with s, m, h or d, like 90m, at most 366d; data with MB or GB, like 500MB";
        ("invalid_duration", usage.to_owned())
    })?;
    let shop = site.shop.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    let config = site.config();
    let venue = match at {
        Some(name) => known_venue(&config, name)?,
        None => {
            let here = seen(&config, mac).map(|(venue, _)| venue).or(config.venues.first());
            here.map(|venue| venue.id.as_str()).unwrap_or_default()
        }
    };
    let granting = shop.access.grant(mac, venue, metric, allotment);
    let session = match tokio::time::timeout(LINE_TIMEOUT, granting).await {
        Ok(granted) => granted.map_err(|err| (err.code(), err.to_string()))?,
        Err(_) => {
            return Err(("gate_down", "granted, but the gate cannot be opened yet; see status".to_owned()))
        }
    };
    log::info!("operator: {mac} may pass for {amount} more at {venue}");
    let mut answer = json!({"mac": mac.to_string(), "venue": venue});
    tell_left(&mut answer, &session);
    Ok(answer)
}

/// At the venue that is named, or else everywhere: a device that is to go must not go on next door.
async fn revoke(site: &Site, mac: &str, at: Option<&str>) -> Result<Value, Refusal> {
    let mac: MacAddr = mac.parse().map_err(|err| ("invalid_mac", format!("{mac}: {err}")))?;
    let shop = site.shop.as_ref().map_err(|closed| (closed.code, closed.cause.clone()))?;
    let venues = shop.access.revoke(mac, at).await.map_err(|err| (err.code(), err.to_string()))?;
    if venues.is_empty() {
        let place = at.map(|venue| format!(" at {venue}")).unwrap_or_default();
        return Err(("no_session", format!("{mac} has no running session{place}")));
    }
    log::info!("operator: the session of {mac} is ended at {}", venues.join(", "));
    Ok(json!({"mac": mac.to_string(), "revoked": true, "venues": venues}))
}

fn known_venue<'a>(config: &'a Config, name: &str) -> Result<&'a str, Refusal> {
    let known = config.venue(name).map(|venue| venue.id.as_str());
    known.ok_or_else(|| {
        let names: Vec<&str> = config.venues.iter().map(|venue| venue.id.as_str()).collect();
        ("unknown_venue", format!("there is no venue '{name}'; there is {}", names.join(", ")))
    })
}

async fn reloaded(reload: &Reload) -> Result<Value, Refusal> {
    let (reply, answer) = oneshot::channel();
    let gone = || ("stopping", "the daemon is stopping".to_owned());
    reload.send(reply).await.map_err(|_| gone())?;
    match answer.await.map_err(|_| gone())? {
        Ok(warnings) => Ok(json!({"reloaded": true, "warnings": warnings})),
        Err(problems) => Err(("invalid_config", problems.join("\n"))),
    }
}

/// A number with a unit: time like `90s`, `30m`, `2h`, `1d`, or data like `500MB`, `2GB` (of 2^20 and 2^30
/// bytes, as all portals of this protocol show them).
fn parse_amount(text: &str) -> Option<(Metric, Allotment)> {
    for (unit, bytes) in [("MB", 1 << 20), ("GB", 1 << 30)] {
        if let Some(number) = text.strip_suffix(unit) {
            let data = Allotment(number.parse::<u64>().ok()?.checked_mul(bytes)?);
            return (data > Allotment::ZERO && data <= LARGEST_GRANT).then_some((Metric::Bytes, data));
        }
    }
    parse_duration(text).map(|time| (Metric::Milliseconds, time.into()))
}

fn parse_duration(text: &str) -> Option<Millis> {
    let unit = text.chars().last()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let millis = Millis(number.checked_mul(seconds)?.checked_mul(1000)?);
    (millis > Millis::ZERO && millis <= LONGEST_GRANT).then_some(millis)
}

#[cfg(test)]
mod tests;
