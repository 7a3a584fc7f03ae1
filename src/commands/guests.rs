//! `tollgated clients`, `sessions`, `grant` and `revoke`: the guests, and what they may.

use super::amounts::{self, Named};
use super::place::seen;
use super::Reach::Http;
use super::Shows::{Facts, Rows};
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::access::Session;
use crate::config::Role::{Cashier, Manager, Viewer};
use crate::config::{Config, Metric, Venue};
use crate::json::json;
use crate::mac::MacAddr;
use crate::network::leases::{self, DhcpLease};
use crate::network::neighbours;
use crate::store::{PaidFor, PaymentRow};
use crate::units::Millis;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DAY: Millis = Millis::from_secs(86_400);
/// How long a grant waits for the gate.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

pub static COMMANDS: &[Command] = &[
    Command {
        name: "clients",
        args: "[--venue VENUE]",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Venues,
        reach: Http(&["GET /admin/clients"], MOMENT, |desk, given| Box::pin(clients(desk, given))),
        shows: Rows("clients"),
        summary: "the guests' devices, one a row: name, addresses, what is left, and what it paid for that or in the last \
                  24 hours",
    },
    Command {
        name: "sessions",
        args: "[--venue VENUE]",
        role: Viewer,
        audited: false,
        moves_money: false,
        whose: Whose::Venues,
        reach: Http(&["GET /admin/sessions"], MOMENT, |desk, given| Box::pin(sessions(desk, given))),
        shows: Rows("sessions"),
        summary: "running sessions: whose, where, what is left of them, and what was paid for them",
    },
    Command {
        name: "grant",
        args: "MAC AMOUNT [--venue VENUE]",
        role: Cashier,
        audited: true,
        moves_money: false,
        whose: Whose::Venues,
        reach: Http(&["POST /admin/grant"], MOMENT, |desk, given| Box::pin(grant(desk, given))),
        shows: Facts,
        summary: "let a device through unpaid (30m, 1h30m, 1d, 1w, 500MB; adds to what it has), at the venue where it \
                  is now, or else at the first, if none is named; MAC may be its address",
    },
    Command {
        name: "revoke",
        args: "MAC [--venue VENUE]",
        role: Manager,
        audited: true,
        moves_money: false,
        whose: Whose::Venues,
        reach: Http(&["POST /admin/revoke"], MOMENT, |desk, given| Box::pin(revoke(desk, given))),
        shows: Facts,
        summary: "end a device's sessions now, paid or granted; everywhere if no venue is named; MAC may be its address",
    },
];

/// The devices that are there, and those that have something left without being there: a row each.
async fn clients(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (config, at) = (known_to(desk, given), given.text("--venue"));
    at.map(|name| known_venue(&config, name)).transpose()?;
    let around = Around::look(desk, &config, given).await?;
    let there = around.devices.iter().map(|device| (device.mac, device.venue.id.as_str(), Some(device)));
    let is_away = |session: &&Session| around.device(session.mac).is_none();
    let away = around.running.iter().filter(is_away).filter(|one| at.is_none_or(|at| at == one.venue));
    let mut places: Vec<_> = there.collect();
    for session in away {
        if places.iter().all(|(mac, ..)| *mac != session.mac) {
            places.push((session.mac, session.venue.as_str(), None));
        }
    }
    Ok(places
        .into_iter()
        .map(|(mac, venue, device)| {
            let mut row = around.row(mac, venue);
            row["device"] = json!(device.map(|device| device.name.as_str()));
            row["trusted"] = json!(device.is_some_and(|device| device.venue.trusted_macs.contains(&mac)));
            let here =
                || around.running.iter().filter(|session| session.mac == mac && session.venue == venue);
            here().for_each(|session| tell_left(&mut row, session));
            if here().next().is_none() {
                row["remaining_seconds"] = Value::Null;
            }
            let for_this = |paid: &PaidFor| {
                let mut running = around.running.iter().filter(|session| session.mac == mac);
                let runs = |one: &Session| paid.is_for(&one.venue, one.metric, one.started, Millis(u64::MAX));
                paid.at >= around.day_ago || running.any(runs)
            };
            row["paid_sat"] = json!(around.paid(mac, for_this));
            row
        })
        .collect())
}

async fn sessions(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (config, at) = (known_to(desk, given), given.text("--venue"));
    let around = Around::look(desk, &config, given).await?;
    let rows = around.running.iter().filter(|session| at.is_none_or(|venue| venue == session.venue));
    Ok(rows
        .map(|session| {
            let mut row = around.row(session.mac, &session.venue);
            tell_left(&mut row, session);
            match session.metric {
                Metric::Milliseconds => {
                    row["allotment_seconds"] = json!(Millis(session.allotment.0).as_secs_ceil());
                    row["ends_at"] = json!(session.ends_at.map(|ends| ends.0));
                }
                Metric::Bytes => {
                    row["allotment_bytes"] = json!(session.allotment.0);
                    row["used_bytes"] = json!(session.used.0);
                }
            }
            let (venue, metric, started) = (&session.venue, session.metric, session.started);
            let for_this = |paid: &PaidFor| paid.is_for(venue, metric, started, Millis(u64::MAX));
            row["paid_sat"] = json!(around.paid(session.mac, for_this));
            row
        })
        .collect())
}

/// What is known of the guests' devices at this moment.
struct Around<'a> {
    devices: Vec<Device<'a>>,
    running: Vec<Session>,
    leases: Vec<DhcpLease>,
    payments: Vec<PaymentRow>,
    /// By service time.
    day_ago: Millis,
}

/// A guest's device that is there.
struct Device<'a> {
    mac: MacAddr,
    venue: &'a Venue,
    /// The interface that it is at.
    name: String,
    addresses: Vec<IpAddr>,
}

impl<'a> Around<'a> {
    async fn look(desk: &Desk, config: &'a Config, given: &Given) -> Result<Around<'a>, CommandError> {
        let is_known = |venue: &str| given.tenant().is_none() || config.venue(venue).is_some();
        let shop = desk.site.shop.as_ref().ok();
        let mut running = shop.map(|shop| shop.access.running()).unwrap_or_default();
        running.retain(|session| is_known(&session.venue));
        let day_ago = shop.map(|shop| shop.store.now().saturating_sub(DAY)).unwrap_or_default();
        let since = running.iter().map(|session| session.started).fold(day_ago, Millis::min);
        let payments = match shop {
            Some(shop) => shop.store.payments_since(since).await,
            None => Ok(Vec::new()),
        };
        let mut payments = payments.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?;
        payments.retain(|(_, paid)| is_known(&paid.venue));
        let leases = leases::known(desk.file.parent().unwrap_or(Path::new("/")));
        let devices = devices(config, given.text("--venue"));
        Ok(Around { devices, running, leases, payments, day_ago })
    }

    fn device(&self, mac: MacAddr) -> Option<&Device<'a>> {
        self.devices.iter().find(|device| device.mac == mac)
    }

    /// What the rows of both lists begin with.
    fn row(&self, mac: MacAddr, venue: &str) -> Value {
        let lease = self.leases.iter().rev().find(|lease| lease.mac == mac);
        let addresses = self.device(mac).map(|device| device.addresses.as_slice()).unwrap_or_default();
        json!({
            "name": lease.and_then(|lease| lease.name.as_deref()),
            "mac": mac.to_string(),
            "addresses": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "venue": venue,
        })
    }

    /// The sats that a device, or one whose account it has, has paid for something.
    fn paid(&self, mac: MacAddr, for_it: impl Fn(&PaidFor) -> bool) -> u64 {
        let its = self.payments.iter().filter(|(payer, _)| *payer == mac).map(|(_, paid)| paid);
        PaidFor::sum(its.filter(|paid| for_it(paid))).0
    }
}

/// Every device that the router knows on a guests' interface, of one venue or all, once: at the one where it answered
/// last.
fn devices<'a>(config: &'a Config, at: Option<&str>) -> Vec<Device<'a>> {
    let mut found: Vec<Device> = Vec::new();
    for venue in config.venues.iter().filter(|venue| at.is_none_or(|at| at == venue.id)) {
        for name in &venue.devices {
            for caller in neighbours::guests_on(name).unwrap_or_default() {
                match found.iter_mut().find(|known| known.mac == caller.mac && known.name == *name) {
                    Some(known) => known.addresses.push(caller.address),
                    None => {
                        let (mac, addresses) = (caller.mac, vec![caller.address]);
                        found.push(Device { mac, venue, name: name.clone(), addresses });
                    }
                }
            }
        }
    }
    let places: Vec<(MacAddr, String)> =
        found.iter().map(|device| (device.mac, device.name.clone())).collect();
    found.retain(|device| {
        let is_once = places.iter().filter(|(mac, _)| *mac == device.mac).count() == 1;
        is_once || seen(config, device.mac).is_some_and(|(_, caller)| caller.device == device.name)
    });
    found.iter_mut().for_each(|device| device.addresses.sort_unstable());
    found.sort_by_key(|device| device.mac);
    found
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
    let config = known_to(desk, given);
    let (mac, said) = (mac(desk, &config, given)?, given.need("AMOUNT")?);
    let (metric, allotment) = amounts::amount(said)?;
    let shop = desk.site.shop.as_ref()?;
    let here = || seen(&config, mac).map(|(venue, _)| venue).or(config.venues.first());
    let venue = match given.text("--venue") {
        Some(name) => known_venue(&config, name)?,
        None => here()
            .map(|venue| venue.id.as_str())
            .ok_or_else(|| CommandError::Missing("unknown_venue", "there is no venue here".to_owned()))?,
    };
    let granting = shop.access.grant(mac, venue, metric, allotment);
    let session = match tokio::time::timeout(OPENING_TIMEOUT, granting).await {
        Ok(granted) => granted.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?,
        Err(_) => {
            let message = "granted, but the gate cannot be opened yet; see status";
            return Err(CommandError::Closed("gate_down", message.to_owned()));
        }
    };
    log::info!("operator: {mac} may pass for {said} more at {venue}");
    let mut answer = json!({"mac": mac.to_string(), "venue": venue});
    tell_left(&mut answer, &session);
    Ok(answer)
}

/// At the venue that is named, or else everywhere: a device that is to go must not go on next door.
async fn revoke(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let config = known_to(desk, given);
    let (mac, at) = (mac(desk, &config, given)?, given.text("--venue"));
    at.map(|name| known_venue(&config, name).map(drop)).transpose()?;
    let shop = desk.site.shop.as_ref()?;
    let own = || config.venues.iter().map(|venue| Some(venue.id.as_str())).collect();
    let places: Vec<Option<&str>> = if at.is_some() || given.tenant().is_none() { vec![at] } else { own() };
    let mut venues = Vec::new();
    for place in places {
        let ended = shop.access.revoke(mac, place).await;
        venues.extend(ended.map_err(|err| CommandError::Closed(err.code(), err.to_string()))?);
    }
    if venues.is_empty() {
        let place = at.map(|venue| format!(" at {venue}")).unwrap_or_default();
        return Err(CommandError::Missing("no_session", format!("{mac} has no running session{place}")));
    }
    log::info!("operator: the session of {mac} is ended at {}", venues.join(", "));
    Ok(json!({"mac": mac.to_string(), "revoked": true, "venues": venues}))
}

/// The device that is meant; one that is named by its address must be there, or have a lease.
fn mac(desk: &Desk, config: &Config, given: &Given) -> Result<MacAddr, CommandError> {
    let address = match amounts::device(given.need("MAC")?)? {
        Named::Mac(mac) => return Ok(mac),
        Named::Address(address) => address,
    };
    let there = devices(config, None).into_iter().find(|device| device.addresses.contains(&address));
    let leased = || {
        // A lease does not say at whose venue.
        if given.tenant().is_some() {
            return None;
        }
        let mut leases = leases::known(desk.file.parent().unwrap_or(Path::new("/"))).into_iter();
        leases.find(|lease| lease.address == address).map(|lease| lease.mac)
    };
    there.map(|device| device.mac).or_else(leased).ok_or_else(|| {
        let message = "is no device on a guest network now; 'tollgated clients' lists who is there";
        CommandError::Missing("unknown_device", format!("{address} {message}"))
    })
}

/// The configuration as the caller knows it: for an operator of a tenant there are no venues but its own.
fn known_to(desk: &Desk, given: &Given) -> Arc<Config> {
    let config = desk.site.config();
    let Some(tenant) = given.tenant() else { return config };
    let mut own = Config::clone(&config);
    own.venues.retain(|venue| config.tenant_of_venue(&venue.id) == *tenant);
    Arc::new(own)
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
