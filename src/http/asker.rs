//! Finds the client that a TollGate request is about, as far as it is known, and names it in the answer.

use super::answer::Answer;
use super::entrance::{field, Audience, Entrance};
use super::origin::{self, AskedAt};
use super::Edge;
use crate::config::{Config, Venue};
use crate::mac::MacAddr;
use crate::network::neighbours::{self, Caller};
use crate::tollgate::Client;
use hyper::header::{HeaderMap, HeaderValue};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The longest part of a wrong MAC that is repeated.
const MAX_CLAIM: usize = 64;

pub struct Asker {
    pub config: Arc<Config>,
    pub venue: Venue,
    pub mac: Option<MacAddr>,
    pub query: Vec<(String, String)>,
    caller: Option<Caller>,
    may_see_ticket: bool,
    is_guest: bool,
}

/// Whom an answer is about.
pub struct Subject {
    mac: Option<MacAddr>,
    /// What the query claims.
    claim: Option<String>,
    is_guest: bool,
}

impl Asker {
    /// `None` if the device belongs to no venue (any more).
    pub fn find(
        edge: &Edge,
        at: &Entrance,
        headers: &HeaderMap,
        query: Vec<(String, String)>,
    ) -> Option<Asker> {
        let config = edge.site.config();
        // A program on this router may say for whom it asks.
        let is_guest = at.audience != Audience::TollGate;
        let (mac, caller) = match is_guest {
            true => {
                let caller = edge.neighbours.identify(at.device(), at.peer);
                let caller =
                    caller.map_err(|err| log::debug!("a TollGate client cannot be identified: {err}")).ok();
                (caller.as_ref().map(|caller| caller.mac), caller)
            }
            false => {
                let devices = config.venues.iter().flat_map(|venue| venue.devices.iter().cloned());
                on_behalf_of(edge, headers, &devices.collect::<Vec<_>>())
            }
        };
        let (device, local) = match (is_guest, &caller) {
            (true, _) => (at.device(), at.local),
            (false, Some(caller)) => (caller.device.as_str(), Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
            (false, None) => ("lo", Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
        };
        let venue = match (is_guest, &caller) {
            (false, None) => config.venues.first()?,
            _ => config.venue_of_device(device)?,
        };
        let asked_at = AskedAt { device, local, names: config.names_at(Some(venue)) };
        let may_see_ticket = origin::may_see_ticket(headers, asked_at);
        Some(Asker {
            venue: venue.clone(),
            config: config.clone(),
            mac,
            query,
            caller,
            may_see_ticket,
            is_guest,
        })
    }

    pub fn client(&self) -> Client<'_> {
        Client {
            venue: &self.venue,
            mac: self.mac,
            caller: self.caller.as_ref(),
            may_see_ticket: self.may_see_ticket,
        }
    }

    pub fn subject(&self) -> Subject {
        let claim = field(&self.query, "mac").map(str::to_owned);
        Subject { mac: self.mac, claim, is_guest: self.is_guest }
    }
}

/// For whom a program on this router asks: by MAC, or by the address that a proxy passes on.
fn on_behalf_of(edge: &Edge, headers: &HeaderMap, devices: &[String]) -> (Option<MacAddr>, Option<Caller>) {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(mac) = text("x-tollgate-mac") {
        let Ok(mac) = mac.trim().parse() else { return (None, None) };
        let guests = devices.iter().flat_map(|device| neighbours::guests_on(device).unwrap_or_default());
        let caller = guests.into_iter().find(|caller| caller.mac == mac);
        return (Some(mac), caller);
    }
    let forwarded = text("x-forwarded-for").and_then(|list| list.split(',').next());
    let address = text("x-real-ip").or(forwarded).and_then(|address| address.trim().parse().ok());
    let caller = address.and_then(|address| edge.neighbours.identify_among(devices, address, 0).ok());
    (caller.as_ref().map(|caller| caller.mac), caller)
}

impl Subject {
    /// Names the client that the answer is about, and a claim to be another one that had no effect.
    pub fn name_in(&self, answer: &mut Answer, headers: &HeaderMap) {
        let in_header = match self.is_guest {
            true => headers.get("x-tollgate-mac").and_then(|value| value.to_str().ok()),
            false => None,
        };
        let mac = self.mac;
        let claims = [self.claim.as_deref(), in_header].into_iter().flatten().map(str::trim);
        let ignored =
            claims.filter(|claim| !claim.is_empty()).find(|claim| mac.is_none() || claim.parse().ok() != mac);
        if let Some(value) = ignored.and_then(shown) {
            answer.headers_mut().insert("x-tollgate-mac-claim-ignored", value);
        }
        if let Some(value) = mac.and_then(|mac| shown(&mac.to_string())) {
            answer.headers_mut().insert("x-tollgate-client-mac", value);
        }
    }
}

/// The text of a stranger, as far as it can stand in a header.
fn shown(claim: &str) -> Option<HeaderValue> {
    let canonical = claim.parse().map(|mac: MacAddr| mac.to_string());
    let text: String = match canonical {
        Ok(mac) => mac,
        Err(_) => claim.chars().filter(char::is_ascii_graphic).take(MAX_CLAIM).collect(),
    };
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::answer;
    use super::*;
    use crate::form::pairs;
    use hyper::StatusCode;

    fn named(mac: &str, headers: &HeaderMap, query: &str) -> Vec<Option<String>> {
        let mut answer = answer::empty(StatusCode::OK);
        let claim = field(&pairs(query), "mac").map(str::to_owned);
        Subject { mac: mac.parse().ok(), claim, is_guest: true }.name_in(&mut answer, headers);
        ["x-tollgate-client-mac", "x-tollgate-mac-claim-ignored"]
            .map(|name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
            .to_vec()
    }

    #[test]
    fn a_claim_to_be_somebody_else_is_said_to_be_ignored() {
        let (own, other) = ("02:00:00:00:00:01", "02:00:00:00:00:0a");
        let none = HeaderMap::new();
        assert_eq!(named(own, &none, ""), [Some(own.to_owned()), None]);
        assert_eq!(named(own, &none, "mac=02-00-00-00-00-01"), [Some(own.to_owned()), None]);
        assert_eq!(
            named(own, &none, "mac=02:00:00:00:00:0A"),
            [Some(own.to_owned()), Some(other.to_owned())]
        );
        assert_eq!(named("", &none, &format!("mac={other}")), [None, Some(other.to_owned())]);
        let long = format!("mac=%0d%0aSet-Cookie:+x{}", "y".repeat(100));
        let shown = format!("Set-Cookie:x{}", "y".repeat(52));
        assert_eq!(named(own, &none, &long), [Some(own.to_owned()), Some(shown)]);
        let mut headers = HeaderMap::new();
        headers.insert("x-tollgate-mac", other.parse().unwrap());
        assert_eq!(named(own, &headers, ""), [Some(own.to_owned()), Some(other.to_owned())]);
    }
}
