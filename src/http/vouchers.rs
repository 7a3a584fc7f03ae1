//! `POST /voucher`: a guest shows the code of a voucher, by the portal's form or as a program; and the page with the form.

use super::answer::{self, Answer};
use super::entrance::{is_form, Visit};
use super::error_body::ErrorBody;
use super::route::Answering;
use super::sent::Sent;
use super::show::{cannot_sell, show};
use super::Edge;
use crate::config::Metric;
use crate::json::{self, json};
use crate::portal::{self, Notice, ShowVoucher, State};
use crate::sale::voucher::{RedeemedVoucher, VoucherError};
use crate::sale::SaleError;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// The form, with the code that the address has.
pub fn page(visit: &Visit) -> Answer {
    shown(visit, StatusCode::OK, visit.get("voucher").unwrap_or_default(), &[])
}

/// A program is told 200 `{"id","metric","allotment","remaining","ends_at"}`; `ends_at` is null where bytes are counted.
/// A browser goes on to its session.
pub fn redeem(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let text = match sent.text().await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        if is_form(&visit.headers) {
            let visit = visit.with_form(&text);
            let typed = visit.get("code").unwrap_or_default();
            return match redeemed(&edge, &visit, typed).await {
                Ok(_) | Err(VoucherError::GrantPending) => {
                    answer::redirect(StatusCode::SEE_OTHER, &portal::location(None, visit.lang()))
                }
                Err(error) => with_wait(refused(&visit, typed, &error), &error),
            };
        }
        let body: Option<Value> = json::read(text.as_bytes());
        let Some(code) = body.as_ref().and_then(|body| body["code"].as_str()) else {
            let message = "a JSON object with a code is needed";
            return ErrorBody { code: "invalid_input", message, details: &[] }
                .answer(StatusCode::BAD_REQUEST);
        };
        match redeemed(&edge, &visit, code).await {
            Ok(voucher) => {
                let session = &voucher.session;
                let wall = edge.site.shop.as_ref().map(|shop| shop.store.wall().0).unwrap_or_default();
                let ends = match session.metric {
                    Metric::Milliseconds => {
                        json!(wall.saturating_add(session.remaining.0.div_ceil(1000)))
                    }
                    Metric::Bytes => Value::Null,
                };
                let told = json!({
                    "id": voucher.id.to_string(),
                    "metric": session.metric.as_str(),
                    "allotment": voucher.allotment.0,
                    "remaining": session.remaining.0,
                    "ends_at": ends,
                });
                answer::json(StatusCode::OK, &told)
            }
            Err(error) => {
                let message = error.to_string();
                let body = ErrorBody { code: error.code(), message: &message, details: &[] };
                with_wait(body.answer(status_of(&error)), &error)
            }
        }
    })
}

async fn redeemed(edge: &Edge, visit: &Visit, code: &str) -> Result<RedeemedVoucher, VoucherError> {
    match &edge.site.shop {
        Ok(shop) => shop.vouchers.redeem(&visit.caller, &visit.venue, code).await,
        Err(closed) => Err(VoucherError::Sale(SaleError::Closed(closed.code))),
    }
}

/// The status of a voucher that lets nobody in.
fn status_of(error: &VoucherError) -> StatusCode {
    match error {
        VoucherError::Unknown | VoucherError::NoVenue => StatusCode::NOT_FOUND,
        VoucherError::Used | VoucherError::Expired | VoucherError::Revoked | VoucherError::Failed => {
            StatusCode::GONE
        }
        VoucherError::OtherVenue(_)
        | VoucherError::NotReady
        | VoucherError::WrongMetric
        | VoucherError::Full => StatusCode::CONFLICT,
        VoucherError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        VoucherError::Order(_) => StatusCode::BAD_REQUEST,
        VoucherError::OverLimit(_) | VoucherError::Waits(_) | VoucherError::Crowded => StatusCode::FORBIDDEN,
        VoucherError::GrantPending | VoucherError::NotBacked(_) | VoucherError::Sale(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The form again, with the reason.
fn refused(visit: &Visit, typed: &str, error: &VoucherError) -> Answer {
    let status = status_of(error);
    let notice = match error {
        VoucherError::Used => Notice::VoucherUsed,
        VoucherError::Expired => Notice::VoucherExpired,
        VoucherError::Revoked | VoucherError::Failed => Notice::VoucherRevoked,
        VoucherError::OtherVenue(venue) => Notice::VoucherElsewhere { venue },
        VoucherError::NotReady => Notice::VoucherNotReady,
        VoucherError::WrongMetric => Notice::CodeElsewhere,
        VoucherError::TooMany(wait) => Notice::TicketLater { wait: *wait },
        VoucherError::Sale(SaleError::Clash) => Notice::AddressClash,
        VoucherError::Sale(error) => return show(visit, status, cannot_sell(error, None)),
        _ => Notice::VoucherWrong,
    };
    shown(visit, status, typed, &[notice])
}

fn shown(visit: &Visit, status: StatusCode, typed: &str, notices: &[Notice]) -> Answer {
    show(visit, status, State::ShowVoucher(ShowVoucher { typed, notices }))
}

fn with_wait(mut answer: Answer, error: &VoucherError) -> Answer {
    if let VoucherError::TooMany(wait) = error {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil()));
    }
    answer
}
