//! `/session/*`: what was paid goes on at the caller's device, leaves it, or is tied to a card. A caller who shows a ticket
//! or a tapped card needs no login.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::error_body::ErrorBody;
use super::login::token;
use super::refusals::open_shop;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::access::{Session, TakenOver, TicketError};
use crate::auth::AuthError;
use crate::json::json;
use crate::mac::MacAddr;
use crate::sale::invoice::Shown;
use crate::sale::till::Unrecognised;
use crate::shop::Shop;
use crate::store::{AccountKey, Claim, LoginAudience};
use crate::task;
use crate::units::Millis;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::StatusCode;
use serde_json::{Map, Value};
use std::sync::Arc;

/// `POST /session/attach` of `{"ticket"}`, `{"card"}`, or of a caller who is logged in.
pub fn attach(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match attached(&edge, &visit, sent).await {
            Ok(answer) => answer,
            Err(refused) => refused.answer(),
        }
    })
}

/// `POST /session/detach` of `{"mac"}`: without one, and without a login, the caller's own.
pub fn detach(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match detached(&edge, &visit, sent).await {
            Ok(answer) => answer,
            Err(refused) => refused.answer(),
        }
    })
}

/// `POST /session/link` of `{"card"}`: from now on the card stands for what this device has.
pub fn link(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        match linked(&edge, &visit, sent).await {
            Ok(answer) => answer,
            Err(refused) => refused.answer(),
        }
    })
}

async fn attached(edge: &Edge, visit: &Visit, sent: Sent) -> Result<Answer, Refused> {
    let (shop, mac) = (shop(edge)?, visit.caller.mac);
    let body = body(sent).await?;
    let shown = match (text(&body, "ticket")?, text(&body, "card")?) {
        (Some(_), Some(_)) => return Err(Refused::input("send a ticket or a card, not both")),
        (Some(ticket), None) => Shown::Ticket(ticket.to_owned()),
        (None, Some(card)) => Shown::Claim(Claim::Card(shop.till.recognise(mac, card).await?)),
        (None, None) => Shown::Claim(logged_in(shop, &visit.headers).await?.ok_or_else(Refused::nobody)?),
    };
    let taken = shop.invoices.attach(&visit.caller, &visit.venue, shown).await?;
    let proxy = shop.mint_proxy.clone();
    task::spawn(async move { proxy.deliver(mac).await });
    let TakenOver { detached, session } = taken;
    Ok(answer::json(
        StatusCode::OK,
        &json!({
            "mac": mac.to_string(),
            "remaining": remaining(visit, session.as_ref()),
            "detached": macs(&detached),
        }),
    ))
}

async fn detached(edge: &Edge, visit: &Visit, sent: Sent) -> Result<Answer, Refused> {
    let shop = shop(edge)?;
    let body = body(sent).await?;
    let caller = visit.caller.mac;
    let mac: MacAddr = match text(&body, "mac")? {
        Some(mac) => mac.parse().map_err(|_| Refused::input("mac is no MAC address"))?,
        None => caller,
    };
    let key = match logged_in(shop, &visit.headers).await? {
        Some(claim) => AccountKey::Claim(claim),
        None if mac == caller => AccountKey::Device(mac),
        None => {
            return Err(Refused::new(StatusCode::FORBIDDEN, "forbidden", "log in to detach another device"))
        }
    };
    let access = shop.access.clone();
    let detaching = task::start(async move { access.detach(caller, &key, mac).await });
    detaching.await.unwrap_or(Err(TicketError::Store(crate::store::StoreError::Closed)))?;
    Ok(answer::json(StatusCode::OK, &json!({"mac": mac.to_string(), "detached": macs(&[mac])})))
}

async fn linked(edge: &Edge, visit: &Visit, sent: Sent) -> Result<Answer, Refused> {
    let (shop, mac) = (shop(edge)?, visit.caller.mac);
    let body = body(sent).await?;
    let card =
        text(&body, "card")?.ok_or_else(|| Refused::input("send the link of a card that was tapped"))?;
    let claim = Claim::Card(shop.till.recognise(mac, card).await?);
    let linked = shop.invoices.link(mac, claim).await?;
    let session = shop.access.session(mac, &visit.venue.id);
    Ok(answer::json(
        StatusCode::OK,
        &json!({
            "account": linked.account,
            "mac": mac.to_string(),
            "remaining": remaining(visit, session.as_ref()),
            "detached": macs(&linked.detached),
        }),
    ))
}

/// The claim of the token in the headers; `None` where there is none.
async fn logged_in(shop: &Shop, headers: &HeaderMap) -> Result<Option<Claim>, Refused> {
    let Some(token) = token(headers) else { return Ok(None) };
    match shop.auth.identify(token, LoginAudience::Client).await {
        Ok(claims) => Ok(Some(Claim::Key(claims.key.to_string()))),
        Err(AuthError::Off | AuthError::Token(_)) => Err(Refused::nobody()),
        Err(AuthError::Store(error)) => Err(TicketError::Store(error).into()),
        Err(error) => Err(Refused::new(StatusCode::FORBIDDEN, "forbidden", &error.to_string())),
    }
}

/// What is left where the caller is.
fn remaining(visit: &Visit, session: Option<&Session>) -> Value {
    let (metric, amount) = match session {
        Some(session) => (session.metric, session.remaining.0),
        None => (visit.venue.metric, 0),
    };
    json!({"metric": metric.as_str(), "amount": amount})
}

fn macs(macs: &[MacAddr]) -> Value {
    macs.iter().map(|mac| Value::from(mac.to_string())).collect()
}

fn shop(edge: &Edge) -> Result<&Shop, Refused> {
    open_shop(&edge.site).map_err(|closed| {
        let code = closed.closed_code().unwrap_or("internal_error");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, code, &closed.to_string())
    })
}

/// The object that was sent; an empty body is an object without fields.
async fn body(sent: Sent) -> Result<Map<String, Value>, Refused> {
    let text = sent.text().await.map_err(|answer| {
        Refused::new(answer.status(), "invalid_input", "the body cannot be read: send one small JSON object")
    })?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(body)) => Ok(body),
        _ => Err(Refused::input("send a JSON object")),
    }
}

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, Refused> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refused::input(&format!("{field} is no text"))),
    }
}

/// An answer that says why not.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    wait: Option<Millis>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: &str) -> Refused {
        Refused { status, code, message: message.to_owned(), wait: None }
    }

    fn input(message: &str) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, "invalid_input", message)
    }

    fn nobody() -> Refused {
        Refused::new(StatusCode::UNAUTHORIZED, "unauthorized", "show a ticket or a card, or log in")
    }

    fn answer(self) -> Answer {
        let body = ErrorBody { code: self.code, message: &self.message, details: &[] };
        let mut answer = body.answer(self.status);
        if let Some(wait) = self.wait {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil()));
        }
        answer
    }
}

impl From<TicketError> for Refused {
    fn from(error: TicketError) -> Refused {
        let (status, code) = match &error {
            TicketError::Wrong => (StatusCode::FORBIDDEN, "invalid_ticket"),
            TicketError::InUse(_) => (StatusCode::CONFLICT, "ticket_in_use"),
            TicketError::TooSoon(_) => (StatusCode::CONFLICT, "cooldown"),
            TicketError::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            TicketError::TooManyClaims => (StatusCode::CONFLICT, "too_many"),
            TicketError::NothingPaid | TicketError::NothingLeft => (StatusCode::NOT_FOUND, "nothing_to_move"),
            TicketError::TooLittle => (StatusCode::CONFLICT, "too_little_left"),
            TicketError::Clash(clash) => {
                log::warn!("a device is not attached: {clash}");
                (StatusCode::SERVICE_UNAVAILABLE, "address_clash")
            }
            TicketError::Store(error) => {
                log::warn!("a device is not attached: {error}");
                let message = "this cannot be written down at the moment; try again later";
                return Refused::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), message);
            }
        };
        let message = match &error {
            TicketError::TooSoon(wait) => {
                format!("what was paid has moved a moment ago; try again in {} s", wait.as_secs_ceil())
            }
            error => error.to_string(),
        };
        Refused { status, code, message, wait: error.wait() }
    }
}

impl From<Unrecognised> for Refused {
    fn from(why: Unrecognised) -> Refused {
        let (status, code) = match &why {
            Unrecognised::NoLink => (StatusCode::BAD_REQUEST, "invalid_link"),
            Unrecognised::Foreign => (StatusCode::FORBIDDEN, "forbidden"),
            Unrecognised::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            Unrecognised::Refused(_) => (StatusCode::FORBIDDEN, "card_refused"),
        };
        let wait = matches!(why, Unrecognised::TooMany).then(|| Millis::from_secs(60));
        Refused { wait, ..Refused::new(status, code, &why.to_string()) }
    }
}
