//! phoenixd, by its full-access password. It cannot be told a fee limit.
//!
//! Its answers to a payment are taken for what they are only when they show the preimage; any other is
//! checked against its own record of the payment.

use super::call::{CallBody, Peer, LOOK_TIMEOUT, PAY_TIMEOUT};
use super::proof::{is_hash, never_looked_at, plain, refused_by_backend, settled, unclear};
use super::{Account, BackendAnswer, Call, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use crate::calls::{NoAnswer, Tls};
use crate::hex;
use crate::units::Msats;
use base64::prelude::{Engine, BASE64_STANDARD};
use hyper::Method;
use serde_json::Value;

const PAY: &str = "/payinvoice";
const BY_HASH: &str = "/payments/outgoingbyhash";

pub struct Phoenixd {
    peer: Peer,
}

impl Phoenixd {
    /// The secret of the account is the password.
    pub fn new(account: &Account, tls: &Tls) -> Option<Phoenixd> {
        let mut login = vec![b':'];
        login.extend_from_slice(account.secret.expose());
        let login = zeroize::Zeroizing::new(login);
        let value = zeroize::Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(login.as_slice())));
        Some(Phoenixd { peer: Peer::new(account, tls, "authorization", &value)? })
    }

    async fn look(&self, payment_hash: &[u8; 32]) -> Outcome {
        let path = format!("{BY_HASH}/{}", hex::encode(payment_hash));
        match self.peer.ask(Method::GET, &path, CallBody::None, LOOK_TIMEOUT).await {
            Ok((200, payment)) => state(payment_hash, &payment),
            Ok((404, _)) => Outcome::Absent,
            Ok((status, _)) => Outcome::Unknown(format!("HTTP {status}")),
            Err(none) => Outcome::Unknown(none.cause().to_owned()),
        }
    }

    /// Makes a call that lacks what it needs. Returns what is wrong besides that, if anything.
    async fn permission(&self, method: Method, path: &str, refused: &str) -> Option<String> {
        let body = if method == Method::POST { CallBody::Form(String::new()) } else { CallBody::None };
        match self.peer.ask(method, path, body, LOOK_TIMEOUT).await {
            Ok((400, _)) => None,
            Ok((401 | 403 | 404, _)) => Some(refused.to_owned()),
            Ok((status, _)) => Some(format!("HTTP {status}")),
            Err(none) => Some(none.cause().to_owned()),
        }
    }
}

impl Lightning for Phoenixd {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            // An invoice is letters and digits, so nothing of it needs escaping.
            let body = CallBody::Form(format!("invoice={}", order.invoice));
            let (status, answer) = match self.peer.ask(Method::POST, PAY, body, PAY_TIMEOUT).await {
                Err(NoAnswer::NotSent(cause)) => return BackendAnswer::refused(cause),
                Err(NoAnswer::Lost(cause)) => return BackendAnswer::unknown(cause),
                Ok(answer) => answer,
            };
            if never_looked_at(status) {
                return BackendAnswer::refused(format!("HTTP {status}"));
            }
            let ours = is_hash(&answer["paymentHash"], &order.payment_hash);
            if status == 200 && ours && answer["paymentPreimage"].is_string() {
                let fee = answer["routingFeeSat"].as_u64().and_then(|sats| sats.checked_mul(1000)).map(Msats);
                let paid = settled("phoenixd", &order.payment_hash, &answer["paymentPreimage"], true, fee);
                return paid.into();
            }
            let known = self.look(&order.payment_hash).await;
            match answer["reason"].as_str() {
                Some(reason) if status == 200 && ours && !reason.contains("already") => {
                    refused_by_backend(plain(reason), known)
                }
                Some(reason) => unclear(plain(reason), known),
                // Its parser has refused the invoice.
                None if status == 400 => refused_by_backend("HTTP 400".to_owned(), known),
                None => unclear(format!("HTTP {status}"), known),
            }
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async move { self.look(&payment.payment_hash).await.into() })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async move {
            match self.peer.ask(Method::GET, "/getinfo", CallBody::None, LOOK_TIMEOUT).await {
                Ok((200, info)) if info["nodeId"].is_string() => {}
                Ok((401, _)) => return Report::silent("the password is refused"),
                Ok((status, _)) => return Report::silent(format!("HTTP {status}: this is not phoenixd")),
                Err(none) => return Report::silent(none.cause()),
            }
            let full = "this is the limited-access password: http-password is needed";
            let unknown = "this version cannot look a payment up by its hash: a newer one is needed";
            Report {
                answers: None,
                may_pay: self.permission(Method::POST, PAY, full).await,
                may_look_up: self.permission(Method::GET, &format!("{BY_HASH}/nothing"), unknown).await,
                notes: vec!["fee_limit_msat has no effect: phoenixd takes none".to_owned()],
            }
        })
    }
}

fn state(payment_hash: &[u8; 32], payment: &Value) -> Outcome {
    if !is_hash(&payment["paymentHash"], payment_hash) {
        return Outcome::Unknown("the answer is about another payment".to_owned());
    }
    if payment["isPaid"] == true {
        // Sat in the answer to a payment, msat here.
        let fee = payment["fees"].as_u64().map(Msats);
        return settled("phoenixd", payment_hash, &payment["preimage"], true, fee);
    }
    match payment["isPaid"] == false && payment["completedAt"].is_u64() {
        true => Outcome::Failed("phoenixd could not pay".to_owned()),
        false => Outcome::Unknown("pending".to_owned()),
    }
}
