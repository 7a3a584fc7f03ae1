//! How the wallet API answers: SatsConnect's envelope, and one shape for everything that is refused.

use super::super::answer::{self, Answer};
use crate::correlation;
use crate::json::json;
use crate::store::StoreError;
use crate::units::Millis;
use crate::vouchers::VoucherRefusal;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;

/// Why something is not done: status, code, sentence, and when to come again.
pub(super) struct ApiRefusal(StatusCode, &'static str, String, Option<Millis>);

pub(super) type ApiTold = Result<Value, ApiRefusal>;

/// `{"success":true,"data"}`, or `{"success":false,"error","code","request_id"}`.
pub(super) fn enveloped(told: ApiTold) -> Answer {
    answered(StatusCode::OK, told)
}

/// The same, 201 where it is done.
pub(super) fn created(told: ApiTold) -> Answer {
    answered(StatusCode::CREATED, told)
}

fn answered(done: StatusCode, told: ApiTold) -> Answer {
    let ApiRefusal(status, code, message, wait) = match told {
        Ok(data) => return answer::json(done, &json!({"success": true, "data": data})),
        Err(refusal) => refusal,
    };
    let request_id = correlation::current().map(|id| id.to_string());
    let body = json!({"success": false, "error": message, "code": code, "request_id": request_id});
    let mut answer = answer::json(status, &body);
    if let Some(wait) = wait {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil().max(1)));
    }
    answer
}

pub(super) fn refusal(status: StatusCode, code: &'static str, message: &str) -> ApiRefusal {
    ApiRefusal(status, code, message.to_owned(), None)
}

/// The same, with how long to wait.
pub(super) fn waiting(refusal: ApiRefusal, wait: Option<Millis>) -> ApiRefusal {
    ApiRefusal(refusal.0, refusal.1, refusal.2, wait)
}

pub(super) fn invalid(message: &str) -> ApiRefusal {
    refusal(StatusCode::BAD_REQUEST, "invalid_input", message)
}

pub(super) fn nothing_there() -> ApiRefusal {
    refusal(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

pub(super) fn operators() -> ApiRefusal {
    refusal(StatusCode::FORBIDDEN, "forbidden", "this is the operator's to do, and no account's")
}

/// As the rooms of vouchers refuse.
pub(super) fn sealed() -> ApiRefusal {
    let refusal = VoucherRefusal::from(StoreError::Sealed);
    ApiRefusal(StatusCode::SERVICE_UNAVAILABLE, refusal.code, refusal.message.clone(), refusal.wait)
}
