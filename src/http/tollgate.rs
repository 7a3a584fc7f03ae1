//! The TollGate protocol's paths: who asks, what answers, and the headers that go with every answer.

use super::answer::{self, Answer};
use super::bodies::{self, Body as Sent, Text, Unread};
use super::cors;
use super::origin::{self, AskedAt};
use super::routes::{self, body, Ends};
use super::Edge;
use crate::config::{Config, Venue};
use crate::form::pairs;
use crate::mac::MacAddr;
use crate::network::neighbours::{self, Caller};
use crate::shop::Site;
use crate::tollgate::{self, ln_invoice, session, Body, Client, Reply, TollGate};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Nothing longer is a payment.
const MAX_PAYMENT: usize = 1 << 20;
/// Twice the longest token that is read.
const KEPT_PAYMENT: usize = 128 * 1024;
/// Longer than a token of twenty proofs. Longer ones need a place: memory is scarce, and connections are many.
const SHORT_PAYMENT: usize = 8 * 1024;
/// The longest part of a wrong MAC that is repeated.
const MAX_CLAIM: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Payment,
    Advertisement,
    Whoami,
    Usage,
    Balance,
    SessionState,
    Identity,
    NewInvoice,
    Invoice,
    Preflight,
}

/// Methods, path, question; the first that fits. No methods: any.
const QUESTIONS: &[(&[Method], &str, Question)] = &[
    (&[Method::POST], "/", Question::Payment),
    (&[], "/", Question::Advertisement),
    (&[Method::GET], "/whoami", Question::Whoami),
    (&[], "/usage", Question::Usage),
    (&[Method::GET], "/balance", Question::Balance),
    (&[Method::GET], "/session-state", Question::SessionState),
    (&[Method::GET], "/identity", Question::Identity),
    (&[Method::POST], "/ln-invoice", Question::NewInvoice),
    (&[Method::GET], "/ln-invoice", Question::Invoice),
];

/// Where a request comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Guest {
        device: &'a str,
        ends: Ends,
    },
    /// A program on this router, which may say for whom it asks.
    Router,
}

/// Who asks, as far as it is known.
struct Asker {
    config: Arc<Config>,
    venue: Venue,
    mac: Option<MacAddr>,
    caller: Option<Caller>,
    may_see_ticket: bool,
}

/// Whether a path means the same whoever asks for it; a browser is shown the portal on the other ones.
pub fn is_question(path: &str) -> bool {
    path != "/" && QUESTIONS.iter().any(|(_, own, _)| *own == path)
}

pub async fn answer(edge: &Arc<Edge>, source: Source<'_>, request: Request<Incoming>) -> Answer {
    let headers = request.headers().clone();
    let query = request.uri().query().map(pairs).unwrap_or_default();
    let device = match source {
        Source::Guest { device, .. } => device,
        Source::Router => "lo",
    };
    let origin = cors::trusted_origin(&headers, device);
    let asker = Asker::find(edge, source, &headers);
    let mut answer = match (&asker, question(request.method(), request.uri().path())) {
        (_, Ok(Question::Preflight)) => render(Reply::new(200, Body::Empty)),
        (_, Err(refusal)) => *refusal,
        (None, Ok(_)) => routes::not_found(),
        (Some(asker), Ok(question)) => {
            let is_foreign = headers.contains_key(header::ORIGIN) && origin.is_none();
            let reply = match question {
                Question::NewInvoice if is_foreign => ln_invoice::closed(true).with_status(403),
                Question::NewInvoice => match body(request).await {
                    Ok(text) => new_invoice(&edge.site, asker, &text).await,
                    Err(_) => ln_invoice::refused(400, "invalid request body"),
                },
                Question::Payment => pay(edge, asker, request).await,
                _ => look(&edge.site, asker, question, &query).await,
            };
            render(reply)
        }
    };
    cors::permit(&mut answer, origin);
    if let Some(asker) = &asker {
        name_the_client(&mut answer, asker.mac, source, &headers, &query);
    }
    answer
}

async fn pay(edge: &Edge, asker: &Asker, request: Request<Incoming>) -> Reply {
    let tollgate = match tollgate(&edge.site) {
        Ok(tollgate) => tollgate,
        Err(closed) => return closed,
    };
    if let Some(Err(wait)) = asker.mac.map(|mac| tollgate.may_pay(mac)) {
        return TollGate::too_fast(wait);
    }
    let mut place = None;
    match payment(edge, request, &mut place).await {
        Ok(None) => tollgate.pay(&asker.client(), None).await,
        Ok(Some(text)) => {
            let (text, _hold) = text.apart();
            tollgate.pay(&asker.client(), Some(text)).await
        }
        Err(Unread::TooLong | Unread::Broken) => {
            tollgate.unreadable(&asker.client(), "it is too large, or was not sent whole")
        }
        Err(Unread::Late) => tollgate.unreadable(&asker.client(), "it did not arrive"),
        Err(Unread::Crowded) => tollgate.crowded(&asker.client()),
    }
}

/// The body of a payment. Up to the limit it is read, but no longer kept than any token is (`None`). What is longer
/// than usual holds a place for as long as its caller keeps it.
async fn payment(
    edge: &Edge,
    request: Request<Incoming>,
    place: &mut Option<OwnedSemaphorePermit>,
) -> Result<Option<Text>, Unread> {
    let body = bodies::read_if(request, MAX_PAYMENT, |length| {
        if length > KEPT_PAYMENT {
            *place = None;
            return Ok(false);
        }
        if length > SHORT_PAYMENT && place.is_none() {
            let free = edge.long_payments.clone().try_acquire_owned();
            *place = Some(free.map_err(|_| Unread::Crowded)?);
        }
        Ok(true)
    });
    Ok(body.await?.map(Sent::into_text_lossy))
}

/// What only looks.
async fn look(site: &Site, asker: &Asker, question: Question, query: &[(String, String)]) -> Reply {
    let shop = site.shop.as_ref();
    let session = || Some(shop.ok()?.access.session(asker.mac?, &asker.venue.id)).flatten();
    match question {
        Question::Advertisement => match tollgate(site) {
            Ok(tollgate) => tollgate.advertisement(&asker.config, &asker.venue),
            Err(closed) => closed,
        },
        Question::Whoami => match asker.mac {
            Some(mac) => Reply::new(200, Body::Text(format!("mac={mac}"))),
            None => Reply::new(500, Body::Empty),
        },
        Question::Usage => Reply::new(200, Body::Text(session::usage(session().as_ref()))),
        Question::Balance if shop.is_err() => Reply::value(500, &session::no_balance()),
        Question::Balance => Reply::value(200, &session::balance(session().as_ref())),
        Question::SessionState => match shop {
            Ok(shop) => {
                let of = |mac| shop.invoices.unfinished_access(mac, &asker.venue.id);
                let unfinished = asker.mac.and_then(of);
                Reply::value(200, &session::state(asker.mac, session().as_ref(), unfinished.as_deref()))
            }
            Err(closed) => tollgate::closed(closed.code),
        },
        Question::Identity => match tollgate(site) {
            Ok(tollgate) => tollgate.identity(),
            Err(closed) => closed,
        },
        Question::Invoice => match tollgate(site) {
            Ok(tollgate) => {
                let quote = query.iter().find(|(name, _)| name == "quote").map(|(_, value)| value.as_str());
                tollgate.invoice_status(&asker.client(), quote).await
            }
            Err(_) => ln_invoice::closed(false),
        },
        Question::Payment | Question::NewInvoice | Question::Preflight => Reply::new(404, Body::Empty),
    }
}

async fn new_invoice(site: &Site, asker: &Asker, text: &str) -> Reply {
    match tollgate(site) {
        Ok(tollgate) => tollgate.new_invoice(&asker.client(), text).await,
        Err(_) => ln_invoice::closed(true),
    }
}

fn tollgate(site: &Site) -> Result<&TollGate, Reply> {
    site.shop.as_ref().map(|shop| &shop.tollgate).map_err(|closed| tollgate::closed(closed.code))
}

/// Existing clients ask in many ways; what no path is meant for gets the offer, as from other TollGates.
fn question(method: &Method, path: &str) -> Result<Question, Box<Answer>> {
    if method == Method::OPTIONS {
        return Ok(Question::Preflight);
    }
    let takes = |methods: &[Method]| {
        methods.is_empty()
            || methods.contains(method)
            || (method == Method::HEAD && methods.contains(&Method::GET))
    };
    let mine = || QUESTIONS.iter().filter(|(_, own, _)| *own == path);
    match mine().find(|(methods, ..)| takes(methods)) {
        Some((.., question)) => Ok(*question),
        None if mine().next().is_some() => Err(Box::new(routes::method_not_allowed(
            mine().flat_map(|(methods, ..)| methods.iter()).map(Method::as_str),
        ))),
        // The answer to it would be a tunnel.
        None if method == Method::CONNECT => {
            Err(Box::new(routes::method_not_allowed(["GET", "POST", "OPTIONS"].into_iter())))
        }
        None if method == Method::POST => Err(Box::new(routes::not_found())),
        None => Ok(Question::Advertisement),
    }
}

impl Asker {
    /// Nobody where the device belongs to no venue (any more).
    fn find(edge: &Edge, source: Source<'_>, headers: &HeaderMap) -> Option<Asker> {
        let config = edge.site.config();
        let devices = || config.venues.iter().flat_map(|venue| &venue.devices);
        let (mac, caller) = match source {
            Source::Guest { device, ends } => {
                let caller = edge
                    .neighbours
                    .identify(device, ends.peer)
                    .map_err(|err| log::debug!("a TollGate client cannot be identified: {err}"));
                let caller = caller.ok();
                (caller.as_ref().map(|caller| caller.mac), caller)
            }
            Source::Router => on_behalf_of(edge, headers, &devices().cloned().collect::<Vec<_>>()),
        };
        let device = match (source, &caller) {
            (Source::Guest { device, .. }, _) => device,
            (Source::Router, caller) => caller.as_ref().map_or("lo", |caller| caller.device.as_str()),
        };
        let local = match source {
            Source::Guest { ends, .. } => ends.local,
            Source::Router => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
        };
        let may_see_ticket = origin::may_see_ticket(headers, AskedAt { device, local });
        let venue = match (source, &caller) {
            (Source::Guest { device, .. }, _) => config.venue_of_device(device)?,
            (Source::Router, Some(caller)) => config.venue_of_device(&caller.device)?,
            (Source::Router, None) => config.venues.first()?,
        };
        Some(Asker { venue: venue.clone(), config: config.clone(), mac, caller, may_see_ticket })
    }

    fn client(&self) -> Client<'_> {
        Client {
            config: &self.config,
            venue: &self.venue,
            mac: self.mac,
            caller: self.caller.as_ref(),
            may_see_ticket: self.may_see_ticket,
        }
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

/// Says whom the answer is about, and which claim to be somebody else had no effect.
fn name_the_client(
    answer: &mut Answer,
    mac: Option<MacAddr>,
    source: Source<'_>,
    headers: &HeaderMap,
    query: &[(String, String)],
) {
    let in_header = match source {
        Source::Guest { .. } => headers.get("x-tollgate-mac").and_then(|value| value.to_str().ok()),
        Source::Router => None,
    };
    let in_query = query.iter().find(|(name, _)| name == "mac").map(|(_, value)| value.as_str());
    let claims = [in_query, in_header].into_iter().flatten().map(str::trim);
    let ignored =
        claims.filter(|claim| !claim.is_empty()).find(|claim| mac.is_none() || claim.parse().ok() != mac);
    if let Some(value) = ignored.and_then(shown) {
        answer.headers_mut().insert("x-tollgate-mac-claim-ignored", value);
    }
    if let Some(value) = mac.and_then(|mac| shown(&mac.to_string())) {
        answer.headers_mut().insert("x-tollgate-client-mac", value);
    }
}

/// What somebody else wrote, as far as it can stand in a header.
fn shown(claim: &str) -> Option<HeaderValue> {
    let canonical = claim.parse().map(|mac: MacAddr| mac.to_string());
    let text: String = match canonical {
        Ok(mac) => mac,
        Err(_) => claim.chars().filter(char::is_ascii_graphic).take(MAX_CLAIM).collect(),
    };
    HeaderValue::from_str(&text).ok()
}

fn render(reply: Reply) -> Answer {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match reply.body {
        Body::Empty => answer::empty(status),
        Body::Text(text) => answer::text(status, &text),
        Body::Json(json) => answer::ready_json(status, json),
    };
    if let Some(seconds) = reply.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_paths_are_answered_with_the_offer_and_take_no_posts() {
        for path in ["/", "/pay-me", "/x/y", "/portal"] {
            assert_eq!(question(&Method::GET, path).ok(), Some(Question::Advertisement), "{path}");
            assert_eq!(question(&Method::OPTIONS, path).ok(), Some(Question::Preflight), "{path}");
        }
        assert_eq!(question(&Method::POST, "/x").err().unwrap().status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn only_usage_takes_any_method() {
        assert_eq!(question(&Method::DELETE, "/usage").ok(), Some(Question::Usage));
        let refused = question(&Method::POST, "/balance").err().unwrap();
        assert_eq!(
            (refused.status(), &refused.headers()[header::ALLOW]),
            (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("GET"))
        );
        let refused = question(&Method::PUT, "/ln-invoice").err().unwrap();
        assert_eq!(refused.headers()[header::ALLOW], "POST, GET");
        assert_eq!(question(&Method::HEAD, "/whoami").ok(), Some(Question::Whoami));
    }

    fn named(mac: &str, headers: &HeaderMap, query: &str) -> Vec<Option<String>> {
        let mut answer = answer::empty(StatusCode::OK);
        let ends = Ends { peer: IpAddr::from([192, 168, 1, 2]), local: None };
        let source = Source::Guest { device: "br-guest", ends };
        name_the_client(&mut answer, mac.parse().ok(), source, headers, &pairs(query));
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
