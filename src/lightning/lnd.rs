//! lnd, by its REST interface: `SendPaymentV2` and `TrackPaymentV2`.
//!
//! The status of an answer proves little here: HTTP 500 with code 2 stands for "your invoice has expired" and
//! for "I am stopping, and your payment is in flight". So an error counts as proof only where its words are
//! those of a refusal before anything was tried, or where lnd, asked for the payment at once, has no record
//! of it. lnd commits a payment to its database before the first HTLC leaves.

use super::call::{CallBody, Peer, LOOK_TIMEOUT, PAY_TIMEOUT};
use super::proof::{is_hash, nobodys_hash, plain, refused_by_backend, settled};
use super::{Account, BackendAnswer, Call, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use crate::calls::{in_time, NoAnswer, Tls};
use crate::json::json;
use crate::units::Msats;
use base64::prelude::{Engine, BASE64_URL_SAFE};
use hyper::Method;
use serde_json::Value;
use std::time::Duration;

/// lnd begins no new attempt after this (seconds); what is in flight goes on.
const ATTEMPTS_SECS: u64 = 30;
/// A payment under way says so at once.
const TRACK_TIMEOUT: Duration = Duration::from_secs(8);

/// How lnd's refusals begin that come before it has looked for a route.
const NEVER_TRIED: [&str; 14] = [
    "invoice expired",
    "invoice not for current active network",
    "amount must",
    "self-payments not allowed",
    "checksum failed",
    "invalid bech32 string",
    "sat and msat arguments",
    "permission denied",
    "expected 1 macaroon",
    "empty macaroon",
    "verification failed",
    "wallet locked",
    "wallet not created",
    "the RPC server is in the process of starting up",
];

pub struct Lnd {
    peer: Peer,
}

/// A line of lnd's answer, or its error.
enum Line {
    Payment(Value),
    Error { code: i64, message: String },
    Nothing,
}

impl Lnd {
    /// The secret of the account is the macaroon in hex.
    pub fn new(account: &Account, tls: &Tls) -> Option<Lnd> {
        let macaroon = std::str::from_utf8(account.secret.expose()).ok()?;
        Some(Lnd { peer: Peer::new(account, tls, "grpc-metadata-macaroon", macaroon)? })
    }

    /// The first state that is final, or the last line of all.
    async fn send(&self, order: &PaymentOrder) -> Result<Line, NoAnswer> {
        let body = json!({
            "payment_request": order.invoice,
            "fee_limit_msat": order.fee_limit.to_string(),
            "timeout_seconds": ATTEMPTS_SECS,
            "no_inflight_updates": true,
        });
        let mut reply = self.peer.open(Method::POST, "/v2/router/send", CallBody::Json(body)).await?;
        let mut last = Line::Nothing;
        while let Some(line) = reply.line().await? {
            last = read(&line);
            if !matches!(&last, Line::Payment(payment) if !is_final(payment)) {
                break;
            }
        }
        Ok(last)
    }

    /// What lnd knows of a payment: the first thing it says.
    async fn track(&self, payment_hash: &[u8; 32]) -> Result<(u16, Line), NoAnswer> {
        let path = format!("/v2/router/track/{}", BASE64_URL_SAFE.encode(payment_hash));
        let first = async {
            let mut reply = self.peer.open(Method::GET, &path, CallBody::None).await?;
            let line = reply.line().await?.unwrap_or_default();
            Ok((reply.status, read(&line)))
        };
        in_time(TRACK_TIMEOUT, first).await
    }

    async fn look(&self, payment_hash: &[u8; 32]) -> Outcome {
        match self.track(payment_hash).await {
            Ok((404, Line::Error { code: 5, message })) if message == "payment isn't initiated" => {
                Outcome::Absent
            }
            Ok((_, Line::Payment(payment))) => state(payment_hash, &payment),
            Ok((status, Line::Error { message, .. })) => {
                Outcome::Unknown(format!("HTTP {status}: {}", plain(&message)))
            }
            Ok((status, Line::Nothing)) => Outcome::Unknown(format!("HTTP {status} that cannot be read")),
            Err(none) => Outcome::Unknown(none.cause().to_owned()),
        }
    }

    /// What is wrong with the macaroon for a call that asks for nothing, if anything.
    fn permission(answer: Result<(u16, Line), NoAnswer>, harmless: impl Fn(&str) -> bool) -> Option<String> {
        match answer {
            Ok((_, Line::Error { message, .. })) if harmless(&message) => None,
            Ok((status, Line::Error { message, .. })) => Some(format!("HTTP {status}: {}", plain(&message))),
            Ok((status, _)) => Some(format!("HTTP {status} that cannot be read")),
            Err(none) => Some(none.cause().to_owned()),
        }
    }
}

impl Lightning for Lnd {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            let why = match in_time(PAY_TIMEOUT, self.send(order)).await {
                Ok(Line::Payment(payment)) => return state(&order.payment_hash, &payment).into(),
                Err(NoAnswer::NotSent(cause)) => return BackendAnswer::refused(cause),
                Err(NoAnswer::Lost(cause)) => return BackendAnswer::unknown(cause),
                Ok(Line::Nothing) => return BackendAnswer::unknown("the answer ended without a state"),
                Ok(Line::Error { message, .. }) => plain(&message),
            };
            if NEVER_TRIED.iter().any(|refusal| why.starts_with(refusal)) {
                return BackendAnswer::refused(why);
            }
            refused_by_backend(why, self.look(&order.payment_hash).await)
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async move { self.look(&payment.payment_hash).await.into() })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async move {
            // Needs no macaroon.
            match self.peer.ask(Method::GET, "/v1/state", CallBody::None, LOOK_TIMEOUT).await {
                Ok((200, answer)) if answer["state"] == "SERVER_ACTIVE" => {}
                Ok((200, answer)) => {
                    let state = answer["state"].as_str().unwrap_or("something else");
                    return Report::silent(format!("lnd is not active: its state is {}", plain(state)));
                }
                Ok((status, _)) => {
                    return Report::silent(format!("HTTP {status}: this is not lnd's REST port"))
                }
                Err(none) => return Report::silent(none.cause()),
            }
            // Not an invoice, so nothing can be paid: if the macaroon may not pay, that is said first.
            let order =
                json!({"payment_request": "nothing", "timeout_seconds": 1, "no_inflight_updates": true});
            let refused = async {
                let mut reply =
                    self.peer.open(Method::POST, "/v2/router/send", CallBody::Json(order)).await?;
                let line = reply.line().await?.unwrap_or_default();
                Ok((reply.status, read(&line)))
            };
            let refused = in_time(LOOK_TIMEOUT, refused).await;
            let tracked = self.track(&nobodys_hash()).await;
            Report {
                may_pay: Lnd::permission(refused, |message| message.contains("bech32")),
                may_look_up: Lnd::permission(tracked, |message| message == "payment isn't initiated"),
                ..Report::default()
            }
        })
    }
}

/// `{"result": payment}`, `{"error": error}`, or an error by itself.
fn read(line: &[u8]) -> Line {
    let Ok(mut value) = serde_json::from_slice::<Value>(line) else { return Line::Nothing };
    if value["result"].is_object() {
        return Line::Payment(value["result"].take());
    }
    let error = if value["error"].is_object() { &value["error"] } else { &value };
    match (error["code"].as_i64(), error["message"].as_str()) {
        (Some(code), Some(message)) => Line::Error { code, message: message.to_owned() },
        _ => Line::Nothing,
    }
}

fn is_final(payment: &Value) -> bool {
    payment["status"] == "SUCCEEDED" || payment["status"] == "FAILED"
}

fn state(payment_hash: &[u8; 32], payment: &Value) -> Outcome {
    if !is_hash(&payment["payment_hash"], payment_hash) {
        return Outcome::Unknown("the answer is about another payment".to_owned());
    }
    match payment["status"].as_str() {
        Some("SUCCEEDED") => {
            let fee = payment["fee_msat"].as_str().and_then(|fee| fee.parse().ok()).map(Msats);
            settled("lnd", payment_hash, &payment["payment_preimage"], true, fee)
        }
        Some("FAILED") => {
            let reason = payment["failure_reason"].as_str().unwrap_or_default();
            Outcome::Failed(plain(reason.trim_start_matches("FAILURE_REASON_")).to_lowercase())
        }
        Some("IN_FLIGHT" | "INITIATED") => Outcome::Unknown("in flight".to_owned()),
        _ => Outcome::Unknown("a state that is not known here".to_owned()),
    }
}
