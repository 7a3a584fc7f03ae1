//! `tollgated clients`, `sessions`, `grant` and `revoke`: the guests, and what they may.

use super::place::seen;
use super::Reach::Http;
use super::Role::{Cashier, Manager, Viewer};
use super::Shows::{Facts, Rows};
use super::{Command, CommandError, Desk, Given, MOMENT};
use crate::access::Session;
use crate::config::{Config, Metric};
use crate::json::json;
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis};
use serde_json::Value;
use std::time::Duration;

/// The operator gives at most this much at once.
const LONGEST_GRANT: Millis = Millis::from_secs(366 * 86_400);
const LARGEST_GRANT: Allotment = Allotment(1_000_000_000_000_000);
/// How long a grant waits for the gate.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

pub static COMMANDS: &[Command] = &[
    Command {
        name: "clients",
        args: "[--venue VENUE]",
        role: Viewer,
        reach: Http(&["GET /admin/clients"], MOMENT, |desk, given| Box::pin(clients(desk, given))),
        shows: Rows("clients"),
        summary: "stations on the guest devices, and who of them is online",
    },
    Command {
        name: "sessions",
        args: "[--venue VENUE]",
        role: Viewer,
        reach: Http(&["GET /admin/sessions"], MOMENT, |desk, given| Box::pin(sessions(desk, given))),
        shows: Rows("sessions"),
        summary: "running sessions, where, and what is left of them",
    },
    Command {
        name: "grant",
        args: "MAC AMOUNT [--venue VENUE]",
        role: Cashier,
        reach: Http(&["POST /admin/grant"], MOMENT, |desk, given| Box::pin(grant(desk, given))),
        shows: Facts,
        summary: "let a device through unpaid (30m, 2h, 1d, 500MB; adds to what it has), at the venue where it is now \
                  if none is named",
    },
    Command {
        name: "revoke",
        args: "MAC [--venue VENUE]",
        role: Manager,
        reach: Http(&["POST /admin/revoke"], MOMENT, |desk, given| Box::pin(revoke(desk, given))),
        shows: Facts,
        summary: "end a device's sessions now, paid or granted; everywhere if no venue is named",
    },
];

/// Stations that the router knows on its gated devices, with what they have there.
async fn clients(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (site, at) = (&desk.site, given.text("--venue"));
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

async fn sessions(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let at = given.text("--venue");
    let running = desk.site.shop.as_ref().map(|shop| shop.access.running()).unwrap_or_default();
    let rows = running.into_iter().filter(|session| at.is_none_or(|venue| venue == session.venue));
    Ok(rows
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
        .collect())
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
async fn grant(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (site, mac, amount) = (&desk.site, mac(given)?, given.need("AMOUNT")?);
    let (metric, allotment) = parse_amount(amount).ok_or_else(|| {
        let usage = "a duration is a number with s, m, h or d, like 90m, at most 366d; data with MB or GB, like 500MB";
        CommandError::Input("invalid_duration", usage.to_owned())
    })?;
    let shop = site.shop.as_ref()?;
    let config = site.config();
    let venue = match given.text("--venue") {
        Some(name) => known_venue(&config, name)?,
        None => {
            let here = seen(&config, mac).map(|(venue, _)| venue).or(config.venues.first());
            here.map(|venue| venue.id.as_str()).unwrap_or_default()
        }
    };
    let granting = shop.access.grant(mac, venue, metric, allotment);
    let session = match tokio::time::timeout(OPENING_TIMEOUT, granting).await {
        Ok(granted) => granted.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?,
        Err(_) => {
            let message = "granted, but the gate cannot be opened yet; see status";
            return Err(CommandError::Closed("gate_down", message.to_owned()));
        }
    };
    log::info!("operator: {mac} may pass for {amount} more at {venue}");
    let mut answer = json!({"mac": mac.to_string(), "venue": venue});
    tell_left(&mut answer, &session);
    Ok(answer)
}

/// At the venue that is named, or else everywhere: a device that is to go must not go on next door.
async fn revoke(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (mac, at) = (mac(given)?, given.text("--venue"));
    let shop = desk.site.shop.as_ref()?;
    let venues =
        shop.access.revoke(mac, at).await.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?;
    if venues.is_empty() {
        let place = at.map(|venue| format!(" at {venue}")).unwrap_or_default();
        return Err(CommandError::Missing("no_session", format!("{mac} has no running session{place}")));
    }
    log::info!("operator: the session of {mac} is ended at {}", venues.join(", "));
    Ok(json!({"mac": mac.to_string(), "revoked": true, "venues": venues}))
}

fn mac(given: &Given) -> Result<MacAddr, CommandError> {
    let mac = given.need("MAC")?;
    mac.parse().map_err(|err| CommandError::Input("invalid_mac", format!("{mac}: {err}")))
}

fn known_venue<'a>(config: &'a Config, name: &str) -> Result<&'a str, CommandError> {
    let known = config.venue(name).map(|venue| venue.id.as_str());
    known.ok_or_else(|| {
        let names: Vec<&str> = config.venues.iter().map(|venue| venue.id.as_str()).collect();
        CommandError::Missing(
            "unknown_venue",
            format!("there is no venue '{name}'; there is {}", names.join(", ")),
        )
    })
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

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_amount(text: &str) -> String {
    format!("{:?}", parse_amount(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_sensible_size() {
        assert_eq!(parse_duration("90s"), Some(Millis(90_000)));
        assert_eq!(parse_duration("2h"), Some(Millis(7_200_000)));
        for text in ["", "5", "h", "0m", "-1h", "1.5h", "2w", "367d", "99999999999999999999d", "1 h", "1é"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
