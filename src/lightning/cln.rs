//! Core Lightning, by clnrest: `pay` and `listpays`, with a rune.
//!
//! `pay` gives one error for "no route" and another for "parts are still out there". A code is believed only
//! together with `listpays` of the same hash. `pay` of an invoice that was paid before answers as it did then.

use super::call::{CallBody, Peer, LOOK_TIMEOUT, PAY_TIMEOUT};
use super::proof::{is_hash, never_looked_at, nobodys_hash, refused_by_backend, said, settled, unclear};
use super::{Account, BackendAnswer, Call, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use crate::calls::{NoAnswer, Tls};
use crate::hex;
use crate::json::json;
use crate::units::Msats;
use hyper::Method;
use serde_json::Value;

/// It looks for no new route after this (seconds).
const RETRY_SECS: u64 = 30;
/// Invalid parameters; permanent failure at the payee; no route; too expensive; expired; timed out with
/// nothing in flight.
const NOT_PAID: [i64; 6] = [-32602, 203, 205, 206, 207, 210];

pub struct Cln {
    peer: Peer,
}

impl Cln {
    /// The secret of the account is the rune.
    pub fn new(account: &Account, tls: &Tls) -> Option<Cln> {
        let rune = std::str::from_utf8(account.secret.expose()).ok()?;
        Some(Cln { peer: Peer::new(account, tls, "rune", rune)? })
    }

    async fn call(
        &self,
        method: &str,
        params: Value,
        secs: std::time::Duration,
    ) -> Result<(u16, Value), NoAnswer> {
        self.peer.ask(Method::POST, &format!("/v1/{method}"), CallBody::Json(params), secs).await
    }

    async fn look(&self, payment_hash: &[u8; 32]) -> Outcome {
        let params = json!({"payment_hash": hex::encode(payment_hash)});
        match self.call("listpays", params, LOOK_TIMEOUT).await {
            Ok((200 | 201, answer)) => match answer["pays"].as_array() {
                Some(pays) => state(payment_hash, pays),
                None => Outcome::Unknown("an answer that cannot be read".to_owned()),
            },
            Ok((status, answer)) => Outcome::Unknown(said(status, &error(&answer)["message"])),
            Err(none) => Outcome::Unknown(none.cause().to_owned()),
        }
    }
}

impl Lightning for Cln {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            let params =
                json!({"bolt11": order.invoice, "maxfee": order.fee_limit.0, "retry_for": RETRY_SECS});
            let (status, answer) = match self.call("pay", params, PAY_TIMEOUT).await {
                Err(NoAnswer::NotSent(cause)) => return BackendAnswer::refused(cause),
                Err(NoAnswer::Lost(cause)) => return BackendAnswer::unknown(cause),
                Ok(answer) => answer,
            };
            let error = error(&answer);
            let why = said(status, &error["message"]);
            if never_looked_at(status) {
                return BackendAnswer::refused(why);
            }
            let ours = is_hash(&answer["payment_hash"], &order.payment_hash);
            if matches!(status, 200 | 201) && ours && answer["status"] == "complete" {
                return complete(&order.payment_hash, &answer, "payment_preimage").into();
            }
            let known = self.look(&order.payment_hash).await;
            match error["code"].as_i64() {
                Some(code) if NOT_PAID.contains(&code) => refused_by_backend(why, known),
                _ => unclear(why, known),
            }
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async move { self.look(&payment.payment_hash).await.into() })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async move {
            // Not an invoice: if the rune does not allow the call, that is said first.
            let may_pay = match self.call("pay", json!({"bolt11": "nothing"}), LOOK_TIMEOUT).await {
                Err(none) => return Report::silent(none.cause()),
                Ok((status, answer)) => match error(&answer)["code"].as_i64() {
                    Some(-32602) => None,
                    _ => Some(said(status, &error(&answer)["message"])),
                },
            };
            let may_look_up = match self.look(&nobodys_hash()).await {
                Outcome::Absent => None,
                Outcome::Unknown(why) => Some(why),
                _ => Some("an answer that cannot be read".to_owned()),
            };
            Report { answers: None, may_pay, may_look_up, notes: Vec::new() }
        })
    }
}

/// The error of an answer; older versions wrap it.
fn error(answer: &Value) -> &Value {
    match answer["error"].is_object() {
        true => &answer["error"],
        false => answer,
    }
}

/// One row for each time it was tried; money is gone if one of them is complete, and may be while one is pending.
fn state(payment_hash: &[u8; 32], pays: &[Value]) -> Outcome {
    if !pays.iter().all(|pay| is_hash(&pay["payment_hash"], payment_hash)) {
        return Outcome::Unknown("the answer is about another payment".to_owned());
    }
    if let Some(pay) = pays.iter().find(|pay| pay["status"] == "complete") {
        return complete(payment_hash, pay, "preimage");
    }
    match pays {
        [] => Outcome::Absent,
        pays if pays.iter().all(|pay| pay["status"] == "failed") => {
            Outcome::Failed("Core Lightning could not pay".to_owned())
        }
        _ => Outcome::Unknown("pending".to_owned()),
    }
}

fn complete(payment_hash: &[u8; 32], pay: &Value, preimage: &str) -> Outcome {
    let sent = msats(&pay["amount_sent_msat"]);
    let fee = sent.zip(msats(&pay["amount_msat"])).and_then(|(sent, amount)| sent.checked_sub(amount));
    settled("Core Lightning", payment_hash, &pay[preimage], true, fee.map(Msats))
}

/// A number; older versions write `1000msat`.
fn msats(amount: &Value) -> Option<u64> {
    let text = || amount.as_str()?.strip_suffix("msat")?.parse().ok();
    amount.as_u64().or_else(text)
}
