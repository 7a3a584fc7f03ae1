//! `/mint-requests`: the mint proxy's questions without a WebSocket.

use super::answer;
use super::entrance::Visit;
use super::origin::may_see_ticket;
use super::refusals::{open_shop, refusal};
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::mint_proxy::{parse_ask, without_ticket, Code, ProxyError};
use hyper::header::{self, HeaderMap};
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// `POST /mint-requests`.
pub fn open(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let text = match sent.text().await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        let opened = async {
            let shop = open_shop(&edge.site)?;
            shop.mint_proxy.check_ticket(visit.caller.mac, bearer(&visit.headers)).await?;
            let opened = shop.mint_proxy.open(&visit.caller, &visit.venue, parse_ask(&text)?).await?;
            Ok((shop, opened))
        };
        match opened.await {
            Ok((shop, opened)) => {
                answer::json(StatusCode::CREATED, &told(&visit, shop.mint_proxy.answer(&opened.request)))
            }
            Err(error) => refusal(&error),
        }
    })
}

/// `GET /mint-requests/ID`.
pub fn look(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let found = async {
            let shop = open_shop(&edge.site)?;
            shop.mint_proxy.check_ticket(visit.caller.mac, bearer(&visit.headers)).await?;
            let unknown = || ProxyError::new(Code::RequestNotFound, "no such request");
            let id = sent.rest.parse().map_err(|()| unknown())?;
            Ok((shop, shop.mint_proxy.status_asked(visit.caller.mac, &id).await?))
        };
        match found.await {
            Ok((shop, request)) => {
                answer::json(StatusCode::OK, &told(&visit, shop.mint_proxy.answer(&request)))
            }
            Err(error) => refusal(&error),
        }
    })
}

/// What a request has come to, as far as the caller may know it.
fn told(visit: &Visit, answer: Value) -> Value {
    if may_see_ticket(&visit.headers, visit.asked_at()) {
        answer
    } else {
        without_ticket(answer)
    }
}

/// `Authorization: Bearer <ticket>`, where the mint proxy wants one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
