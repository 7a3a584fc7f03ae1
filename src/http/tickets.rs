//! `POST /ticket`: going on with what was paid under another MAC address, or a new ticket for what this one paid.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::refusals::{open_shop, refusal};
use crate::access::TicketError;
use crate::mint_proxy::{self, auth_ok, new_ticket, shown_ticket};
use crate::shop::Site;
use crate::task;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use std::sync::Arc;

/// As JSON, for clients. Pages of others never get here.
pub async fn post(site: &Arc<Site>, visit: &Visit, body: &str) -> Answer {
    let (shop, shown) =
        match open_shop(site).map_err(Into::into).and_then(|shop| Ok((shop, shown_ticket(body)?))) {
            Ok(asked) => asked,
            Err(error) => return refusal(&error),
        };
    let outcome = match shown {
        None => shop.access.renew_ticket(visit.caller.mac).await.map(|ticket| new_ticket(&ticket)),
        Some(ticket) => match shop.invoices.take_over(&visit.caller, &visit.venue, &ticket, true).await {
            Ok(taken) => {
                let (proxy, mac) = (shop.mint_proxy.clone(), visit.caller.mac);
                task::spawn(async move { proxy.deliver(mac).await });
                Ok(auth_ok(taken.session.as_ref()))
            }
            Err(error) => Err(error),
        },
    };
    match outcome {
        Ok(value) => answer::json(StatusCode::OK, &value),
        Err(error) => with_wait(refusal(&mint_proxy::refused_ticket(&error)), &error),
    }
}

/// Says when it makes sense to come back.
pub fn with_wait(mut answer: Answer, error: &TicketError) -> Answer {
    if let Some(wait) = error.wait() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil()));
    }
    answer
}
