//! What is asked of the wallet API: a body's fields in both spellings that such apps have, and the key that makes asking again safe.

use super::super::sent::Sent;
use super::told::{invalid, refusal, ApiRefusal, ApiTold};
use crate::json::json;
use crate::units::Sats;
use hyper::StatusCode;
use serde_json::Value;

const LONGEST_KEY: usize = 255;

/// The JSON object that was sent; no body is an empty object.
pub(super) async fn body(sent: Sent) -> ApiTold {
    let text = match sent.text().await {
        Ok(text) => text,
        Err(unread) => {
            let message = "the body is too large, no text, or does not come";
            return Err(refusal(unread.status(), "invalid_input", message));
        }
    };
    match text.trim() {
        "" => Ok(json!({})),
        text => serde_json::from_str(text).ok().filter(Value::is_object).ok_or_else(no_object),
    }
}

fn no_object() -> ApiRefusal {
    refusal(StatusCode::BAD_REQUEST, "invalid_input", "the body is no JSON object")
}

/// A field by either of its names.
pub(super) fn either<'a>(fields: &'a Value, name: &str, other: &str) -> &'a Value {
    match &fields[name] {
        Value::Null => &fields[other],
        value => value,
    }
}

pub(super) fn sats(fields: &Value) -> Result<Sats, ApiRefusal> {
    let amount = either(fields, "amount_sats", "amountSats").as_u64().filter(|amount| *amount > 0);
    amount.map(Sats).ok_or_else(|| invalid("amount_sats is a whole number of satoshis"))
}

pub(super) fn key(sent: &Sent) -> Result<Option<String>, ApiRefusal> {
    let Some(value) = sent.headers().get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    let message = "Idempotency-Key is a text of 1 to 255 characters";
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "idempotency_key_invalid", message))
}
