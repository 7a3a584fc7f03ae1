//! What tills and programmer apps ask of cards: `/ln`, `/ln/callback`, `/new`.
//!
//! LNURL answers are HTTP 200 and JSON whatever happens (LUD-01). Nobody has to say who he is: the card does.

use super::answer::{self, Answer};
use super::routes::body;
use crate::card::{Cards, Reason};
use crate::form::pairs;
use crate::json::json;
use crate::shop::Site;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

#[derive(Clone, Copy)]
pub enum CardRoute {
    Tap,
    Callback,
    Keys,
}

pub async fn answer(site: &Site, route: CardRoute, request: Request<Incoming>) -> Answer {
    // Neither a tap nor a one-time code may be used up by somebody who does not read the answer.
    if request.method() == Method::HEAD {
        return answer::text(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let query = request.uri().query().map(pairs).unwrap_or_default();
    let field =
        |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let cards = cards(site);
    match (route, cards) {
        (CardRoute::Tap, Ok(cards)) => {
            lnurl(cards.tap(field("card_id"), field("p"), field("c")).await.unwrap_or_else(refusal))
        }
        (CardRoute::Callback, Ok(cards)) => {
            let paid = cards.callback(field("k1"), field("pr")).await;
            lnurl(paid.map_or_else(refusal, |()| json!({"status": "OK"})))
        }
        (CardRoute::Keys, Ok(cards)) => keys(cards, field("a"), request).await,
        (_, Err(why)) => lnurl(refusal(why)),
    }
}

async fn keys(cards: &Cards, code: &str, request: Request<Incoming>) -> Answer {
    if request.method() == Method::POST {
        let text = match body(request).await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        let named: Value = serde_json::from_str(&text).unwrap_or_default();
        let uid = named.get("UID").and_then(Value::as_str).unwrap_or_default();
        // Here the app goes by the status.
        return match cards.program(code, Some(uid)).await {
            Ok(keys) => answer::json(StatusCode::OK, &keys),
            Err(why) => answer::json(StatusCode::NOT_FOUND, &refusal(why)),
        };
    }
    // A camera opens the link in a browser: that must not use the code up.
    if is_browser(request.headers()) {
        return answer::json(StatusCode::OK, &refusal(Reason::Browser));
    }
    answer::json(StatusCode::OK, &cards.program(code, None).await.unwrap_or_else(refusal))
}

fn cards(site: &Site) -> Result<&Cards, Reason> {
    site.shop.as_ref().ok().and_then(|shop| shop.cards.as_ref().ok()).ok_or(Reason::NotNow)
}

fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accepts.is_some_and(|accept| accept.contains("text/html"))
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
