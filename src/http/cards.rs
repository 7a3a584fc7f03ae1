//! What tills and programmer apps ask of cards: `/ln`, `/ln/callback`, `/new`.
//!
//! LNURL answers are HTTP 200 and JSON, errors too (LUD-01). The caller needs no login: the card proves itself.

use super::answer::{self, Answer};
use super::entrance::{accepts_page, field, Entrance};
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::card::{Cards, Reason};
use crate::form::pairs;
use crate::json::json;
use crate::shop::Site;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::sync::Arc;

/// The paths whose answers are LNURL's, their refusals too.
pub const LNURL_PATHS: [&str; 3] = ["/ln", "/ln/callback", "/new"];

/// `GET /ln?card_id=...&p=...&c=...`: a tap.
pub fn tap(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let query = pairs(sent.query());
        let text = |name| field(&query, name).unwrap_or_default();
        match cards(&edge.site) {
            _ if is_only_looking(&sent) => not_without_reading(),
            Ok(cards) => {
                lnurl(cards.tap(text("card_id"), text("p"), text("c")).await.unwrap_or_else(refusal))
            }
            Err(why) => lnurl(refusal(why)),
        }
    })
}

/// `GET /ln/callback?k1=...&pr=...`: pays an invoice for a tap.
pub fn callback(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let query = pairs(sent.query());
        let text = |name| field(&query, name).unwrap_or_default();
        match cards(&edge.site) {
            _ if is_only_looking(&sent) => not_without_reading(),
            Ok(cards) => {
                let paid = cards.callback(text("k1"), text("pr")).await;
                lnurl(paid.map_or_else(refusal, |()| json!({"status": "OK"})))
            }
            Err(why) => lnurl(refusal(why)),
        }
    })
}

/// `GET /new?a=...`: the keys that a one-time code stands for.
pub fn keys(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let query = pairs(sent.query());
        match cards(&edge.site) {
            _ if is_only_looking(&sent) => not_without_reading(),
            // A camera opens the link in a browser: that must not use the code up.
            Ok(_) if accepts_page(sent.headers()) => answer::json(StatusCode::OK, &refusal(Reason::Browser)),
            Ok(cards) => {
                let code = field(&query, "a").unwrap_or_default();
                answer::json(StatusCode::OK, &cards.program(code, None).await.unwrap_or_else(refusal))
            }
            Err(why) => lnurl(refusal(why)),
        }
    })
}

/// `POST /new?a=...` with the card's `UID`.
pub fn keys_of(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move {
        let query = pairs(sent.query());
        let cards = match cards(&edge.site) {
            Ok(cards) => cards,
            Err(why) => return lnurl(refusal(why)),
        };
        let text = match sent.text().await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        let named: Value = serde_json::from_str(&text).unwrap_or_default();
        let uid = named.get("UID").and_then(Value::as_str).unwrap_or_default();
        // Here the app goes by the status.
        match cards.program(field(&query, "a").unwrap_or_default(), Some(uid)).await {
            Ok(keys) => answer::json(StatusCode::OK, &keys),
            Err(why) => answer::json(StatusCode::NOT_FOUND, &refusal(why)),
        }
    })
}

/// To tills that are web pages and set a header.
pub fn preflight(_: &Edge, _: &Entrance) -> Answer {
    let mut answer = answer::text(StatusCode::NO_CONTENT, "");
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Content-Type, Authorization, *"),
    );
    answer
}

/// Neither a tap nor a one-time code may be used up by a caller that does not read the answer.
fn is_only_looking(sent: &Sent) -> bool {
    sent.method() == Method::HEAD
}

fn not_without_reading() -> Answer {
    answer::text(StatusCode::METHOD_NOT_ALLOWED, "")
}

fn cards(site: &Site) -> Result<&Cards, Reason> {
    site.shop.as_ref().ok().and_then(|shop| shop.cards.as_ref().ok()).ok_or(Reason::NotNow)
}

fn refusal(why: Reason) -> Value {
    json!({"status": "ERROR", "reason": why.to_string()})
}

/// Tills that are web pages ask too, from wherever they are.
fn lnurl(value: Value) -> Answer {
    let mut answer = answer::json(StatusCode::OK, &value);
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}
