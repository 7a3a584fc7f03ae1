//! The one body of errors: `{"error":{"code","message","request_id"[,"details":[{"field","message"}]]}}`.
//!
//! Paths that were there before it keep theirs (`refusals`, `admin`, the protocols); every new one uses this.

use super::answer::{self, Answer};
use crate::correlation;
use crate::json::json;
use crate::vouchers::VoucherRefusal;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;

pub struct ErrorBody<'a> {
    /// Stable, in snake case; those of a closed shop in upper case.
    pub code: &'a str,
    /// One sentence for people.
    pub message: &'a str,
    /// What is wrong with single fields of the input, if that is known.
    pub details: &'a [FieldError<'a>],
}

pub struct FieldError<'a> {
    /// As the input names it.
    pub field: &'a str,
    pub message: &'a str,
}

impl ErrorBody<'_> {
    pub fn answer(&self, status: StatusCode) -> Answer {
        answer::json(status, &self.to_json())
    }

    /// Names the request that is being answered.
    pub fn to_json(&self) -> Value {
        let request_id = correlation::current().map(|id| id.to_string());
        let mut error = json!({"code": self.code, "message": self.message, "request_id": request_id});
        if !self.details.is_empty() {
            let one = |detail: &FieldError| json!({"field": detail.field, "message": detail.message});
            error["details"] = self.details.iter().map(one).collect();
        }
        json!({ "error": error })
    }

    /// Stands beside the members of an older body.
    pub fn add_to(&self, body: &mut Value) {
        body["error"] = self.to_json()["error"].take();
    }
}

/// A refusal of the rooms of vouchers in this body.
pub fn body_of(refusal: &VoucherRefusal) -> Value {
    let details: Vec<FieldError<'_>> =
        refusal.details.iter().map(|(field, message)| FieldError { field, message }).collect();
    ErrorBody { code: refusal.code, message: &refusal.message, details: &details }.to_json()
}

pub fn refused(refusal: &VoucherRefusal) -> Answer {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = answer::json(status, &body_of(refusal));
    if let Some(wait) = refusal.wait {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil().max(1)));
    }
    answer
}

/// The answer at a path that takes other methods, which `named` lists.
pub fn other_method(named: &Answer) -> Answer {
    let message = "this path does not take that method";
    let mut answer = ErrorBody { code: "method_not_allowed", message, details: &[] }
        .answer(StatusCode::METHOD_NOT_ALLOWED);
    if let Some(allow) = named.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

/// The answer at an unknown path.
pub fn no_such_path() -> Answer {
    ErrorBody { code: "not_found", message: "there is nothing at this path", details: &[] }
        .answer(StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::CorrelationId;

    #[tokio::test]
    async fn the_body_has_code_message_and_request_and_details_only_where_there_are_some() {
        let id = CorrelationId::parse("request-1").unwrap();
        let details = [FieldError { field: "tx_max", message: "is not a number" }];
        let with = ErrorBody { code: "invalid_input", message: "Not so.", details: &details };
        let bodies = async { (with.to_json(), ErrorBody { details: &[], ..with }.to_json()) };
        let (with, without) = correlation::within(id, bodies).await;
        let mut expected = serde_json::json!({
            "error": {"code": "invalid_input", "message": "Not so.", "request_id": "request-1"}
        });
        assert_eq!(without, expected);
        expected["error"]["details"] = serde_json::json!([{"field": "tx_max", "message": "is not a number"}]);
        assert_eq!(with, expected);
    }
}
