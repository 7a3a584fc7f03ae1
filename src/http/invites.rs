//! `POST /connectioncodes/redeem`: a guest shows the code of an invite.

use super::answer::{self, Answer};
use super::entrance::Visit;
use super::error_body::ErrorBody;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::json::{self, json};
use crate::sale::invite::InviteError;
use crate::sale::SaleError;
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// 200 `{"metric","allotment","remaining"}`, both in the metric's unit; the session is open then.
pub fn redeem(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(async move {
        let text = match sent.text().await {
            Ok(text) => text,
            Err(answer) => return answer,
        };
        let body: Option<Value> = json::read(text.as_bytes());
        let Some(code) = body.as_ref().and_then(|body| body["code"].as_str()) else {
            let message = "a JSON object with a code is needed";
            return ErrorBody { code: "invalid_input", message, details: &[] }
                .answer(StatusCode::BAD_REQUEST);
        };
        let redeemed = match &edge.site.shop {
            Ok(shop) => shop.invites.redeem(&visit.caller, &visit.venue, code).await,
            Err(closed) => Err(InviteError::Sale(SaleError::Closed(closed.code))),
        };
        match redeemed {
            Ok(session) => {
                let (metric, allotment) = (session.metric.as_str(), session.allotment.0);
                let left = session.remaining.0;
                let told = json!({"metric": metric, "allotment": allotment, "remaining": left});
                answer::json(StatusCode::OK, &told)
            }
            Err(error) => refusal(&error),
        }
    })
}

/// The status of a code that lets nobody in.
pub fn status_of(error: &InviteError) -> StatusCode {
    match error {
        InviteError::Unknown => StatusCode::NOT_FOUND,
        InviteError::Used | InviteError::Expired => StatusCode::GONE,
        InviteError::WrongMetric | InviteError::Full => StatusCode::CONFLICT,
        InviteError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        InviteError::NowhereSold => StatusCode::BAD_REQUEST,
        InviteError::GrantPending | InviteError::Sale(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refusal(error: &InviteError) -> Answer {
    let message = error.to_string();
    let body = ErrorBody { code: error.code(), message: &message, details: &[] };
    let mut answer = body.answer(status_of(error));
    if let InviteError::TooMany(wait) = error {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_ceil()));
    }
    answer
}
