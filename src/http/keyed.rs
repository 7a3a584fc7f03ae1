//! Requests that are carried out once: their body, their `Idempotency-Key`, and the answer that is kept for it. What has begun
//! comes to its end if the caller goes away.

use super::answer::{self, Answer};
use super::bodies::{ReadBody, Unread};
use super::sent::Sent;
use crate::config::Tenant;
use crate::json::json;
use crate::task;
use crate::vouchers::{key_of, KeptAnswer, KeyPlace, KeyTurn, MintDesk, RunningRequest, VoucherRefusal};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;

pub type KeyedDoing = Pin<Box<dyn Future<Output = Result<KeptAnswer, VoucherRefusal>> + Send>>;
/// What is done where it is this request's turn; it gets the key, if there is one.
pub type KeyedWork = Box<dyn FnOnce(Option<RunningRequest>) -> KeyedDoing + Send>;

/// The body as it came, in UTF-8.
pub async fn text(sent: Sent) -> Result<String, VoucherRefusal> {
    let read = sent.whole().await;
    let refusal = |status, code, message: &str| Err(VoucherRefusal::new(status, code, message));
    match read.map(|body| body.map(ReadBody::into_text)) {
        Ok(Some(Ok(text))) => Ok(text.apart().0),
        Ok(Some(Err(_))) => refusal(400, "invalid_json", "the body is not UTF-8"),
        Ok(None) | Err(Unread::TooLong) => refusal(413, "body_too_large", "the body is too large"),
        Err(Unread::Broken) => refusal(400, "invalid_json", "the body was not sent whole"),
        Err(Unread::Late) => refusal(408, "body_late", "the body did not arrive"),
        Err(Unread::Crowded) => refusal(503, "rate_limited", "too much is being sent; please try again"),
    }
}

/// The key of a request. `Ok(None)`: it has none, and needs none.
pub fn key(headers: &HeaderMap, needed: bool) -> Result<Option<String>, VoucherRefusal> {
    match headers.get("idempotency-key") {
        None if needed => {
            Err(VoucherRefusal::new(400, "idempotency_key_missing", "Idempotency-Key is missing"))
        }
        None => Ok(None),
        Some(value) => match value.to_str().ok().and_then(key_of) {
            Some(key) => Ok(Some(key)),
            None => {
                let message = "Idempotency-Key is 16 to 255 letters, digits or . _ : -";
                Err(VoucherRefusal::new(400, "idempotency_key_invalid", message))
            }
        },
    }
}

/// Carries a request out if it is its turn.
pub async fn once(
    desk: &MintDesk,
    tenant: &Tenant,
    place: Option<KeyPlace>,
    body: &str,
    work: KeyedWork,
) -> Result<Answer, VoucherRefusal> {
    let running = match place {
        None => None,
        Some(place) => match desk.turn(&desk.book.of(tenant), place, body.as_bytes()).await? {
            KeyTurn::Replay(kept) => {
                let mut answer = kept_answer(kept);
                answer.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
                return Ok(answer);
            }
            KeyTurn::OtherBody => {
                let message = "Idempotency-Key is already used";
                return Err(VoucherRefusal::new(422, "idempotency_key_reused", message));
            }
            KeyTurn::Running => {
                let message = "A request is outstanding for this Idempotency-Key";
                return Err(VoucherRefusal::new(409, "idempotency_key_in_use", message));
            }
            KeyTurn::Go(running) => Some(running),
        },
    };
    let doing = task::start(work(running));
    let stopped = |_| VoucherRefusal::new(503, "stopping", "the daemon is stopping");
    doing.await.map_err(stopped).and_then(|done| done).map(kept_answer)
}

pub fn kept_answer(kept: KeptAnswer) -> Answer {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer::ready_json(status, kept.body)
}

/// An answer that nobody keeps.
pub fn fresh(status: u16, value: &Value) -> KeptAnswer {
    KeptAnswer { status, body: format!("{}\n", json!(value)) }
}
