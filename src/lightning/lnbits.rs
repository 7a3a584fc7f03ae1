//! LNbits, by the admin key of a wallet. It cannot be told a fee limit: LNbits has one for all its wallets
//! (`LNBITS_RESERVE_FEE_*`).
//!
//! LNbits says "failed" of an invoice that it paid when it was asked before, so what it answers to a payment
//! is never believed: its record of the payment, asked for right after, is.

use super::call::{CallBody, Peer, LOOK_TIMEOUT, PAY_TIMEOUT};
use super::proof::{never_looked_at, nobodys_hash, refused_by_backend, said, settled, unclear};
use super::{Account, BackendAnswer, Call, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use crate::calls::{NoAnswer, Tls};
use crate::hex;
use crate::json::json;
use crate::units::Msats;
use hyper::Method;
use serde_json::Value;

const PAYMENTS: &str = "/api/v1/payments";

pub struct Lnbits {
    peer: Peer,
}

impl Lnbits {
    /// The secret of the account is the wallet's admin key.
    pub fn new(account: &Account, tls: &Tls) -> Option<Lnbits> {
        let key = std::str::from_utf8(account.secret.expose()).ok()?;
        Some(Lnbits { peer: Peer::new(account, tls, "x-api-key", key)? })
    }

    async fn look(&self, payment_hash: &[u8; 32]) -> Outcome {
        let path = format!("{PAYMENTS}/{}", hex::encode(payment_hash));
        match self.peer.ask(Method::GET, &path, CallBody::None, LOOK_TIMEOUT).await {
            Ok((200, payment)) => state(payment_hash, &payment),
            Ok((404, answer)) if answer["detail"] == "Payment does not exist." => Outcome::Absent,
            Ok((status, answer)) => Outcome::Unknown(said(status, &answer["detail"])),
            Err(none) => Outcome::Unknown(none.cause().to_owned()),
        }
    }
}

impl Lightning for Lnbits {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            let body = CallBody::Json(json!({"out": true, "bolt11": order.invoice}));
            let answer = match self.peer.ask(Method::POST, PAYMENTS, body, PAY_TIMEOUT).await {
                Err(NoAnswer::NotSent(cause)) => return BackendAnswer::refused(cause),
                Err(NoAnswer::Lost(cause)) => return BackendAnswer::unknown(cause),
                Ok(answer) => answer,
            };
            let (status, answer) = answer;
            let why = said(status, &answer["detail"]);
            if never_looked_at(status) {
                return BackendAnswer::refused(why);
            }
            let known = self.look(&order.payment_hash).await;
            match answer["status"] == "failed" {
                true => refused_by_backend(why, known),
                false => unclear(why, known),
            }
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async move { self.look(&payment.payment_hash).await.into() })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async move {
            // Pays nothing: if the key may not pay, LNbits says that first.
            let order = CallBody::Json(json!({"out": true}));
            let may_pay = match self.peer.ask(Method::POST, PAYMENTS, order, LOOK_TIMEOUT).await {
                Err(none) => return Report::silent(none.cause()),
                Ok((400, _)) => None,
                Ok((403, _)) => Some("this is an invoice key: the admin key is needed".to_owned()),
                Ok((status, answer)) => Some(said(status, &answer["detail"])),
            };
            let may_look_up = match self.look(&nobodys_hash()).await {
                Outcome::Absent => None,
                Outcome::Unknown(why) => Some(why),
                _ => Some("an answer that cannot be read".to_owned()),
            };
            let notes = vec!["fee_limit_msat has no effect: LNbits has a limit of its own".to_owned()];
            Report { answers: None, may_pay, may_look_up, notes }
        })
    }
}

/// `details` is there only for the wallet whose key asks; an amount above zero is an invoice of its own.
fn state(payment_hash: &[u8; 32], payment: &Value) -> Outcome {
    let details = &payment["details"];
    let outgoing = details["amount"].as_i64().is_some_and(|amount| amount < 0);
    if !outgoing || !super::proof::is_hash(&details["payment_hash"], payment_hash) {
        return Outcome::Unknown("LNbits shows no payment of this wallet".to_owned());
    }
    if payment["paid"] == true {
        let fee = details["fee"].as_i64().map(|fee| Msats(fee.unsigned_abs()));
        return settled("LNbits", payment_hash, &payment["preimage"], false, fee);
    }
    match payment["paid"] == false && payment["status"] == "failed" {
        true => Outcome::Failed("LNbits could not pay".to_owned()),
        false => Outcome::Unknown("pending".to_owned()),
    }
}
