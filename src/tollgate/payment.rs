//! `POST /`: a payment as a client sends it, and the notices that say why it is not taken.

use super::event::Tags;
use super::notice::{self, TollGateNotice};
use super::{session, Client, Reply, ReplyBody, TollGate};
use crate::ecash::wallet::Refusal;
use crate::ecash::{payment_request, token, TokenError};
use crate::json;
use crate::mac::MacAddr;
use crate::sale::token::Buyer;
use crate::sale::{Retry, SaleError};
use crate::units::{Millis, Sats};
use serde_json::Value;

/// How long (seconds) until the same token is worth another try.
const RETRY_AFTER_SECS: u64 = 5;
/// The event around a token (kind 21000) that existing portals send.
const EVENT: u64 = 21000;

impl TollGate {
    /// Counts one more payment of this client, or says how long until it may post one; to be refused costs nothing.
    pub fn may_pay(&self, mac: MacAddr) -> Result<(), Millis> {
        self.0.tokens.may_pay(mac)
    }

    /// What a client is told that posts too much.
    pub fn too_fast(wait: Millis) -> Reply {
        let body = ReplyBody::Text(r#"{"error":"rate limit exceeded"}"#.to_owned());
        Reply { status: 429, body, retry_after: Some(wait.as_secs_ceil()) }
    }

    /// Takes the payment in `body`: a token, or an event with one. `None`: it was longer than any token.
    pub async fn pay(&self, client: &Client<'_>, body: Option<String>) -> Reply {
        if let Err(code) = &self.0.identity {
            return super::closed(code);
        }
        let Some(mac) = client.mac else {
            let message = "Failed to lookup MAC address: this router does not know your device";
            return self.notice(None, &TollGateNotice::new("mac-address-lookup-failed", 400, message));
        };
        let posted = body.map(|body| posted(&body));
        let is_wallets = posted.as_ref().is_some_and(|posted| posted.is_wallets);
        let paid = match posted.map(|posted| posted.token) {
            Some(Some(token)) => {
                let buyer = Buyer { venue: client.venue.clone(), mac, caller: client.caller.cloned() };
                self.0.tokens.purchase(&buyer, &token).await
            }
            Some(None) => {
                let message = "No payment tag found in event";
                return self.notice(Some(mac), &TollGateNotice::new("invalid-event", 400, message));
            }
            None => Err(SaleError::Token(TokenError::TooLarge.into())),
        };
        match paid {
            Ok((session, ticket)) => {
                let ticket = ticket.filter(|_| client.may_see_ticket);
                self.event(200, session::KIND, &session::tags(&session, ticket.as_ref()), "")
            }
            Err(why) => {
                let notice = TollGateNotice::from(&why);
                let reply = self.notice(Some(mac), &notice);
                let reply = if is_wallets { reply.with_error(&notice.message) } else { reply };
                match why.retry() {
                    Retry::After(wait) => Reply { retry_after: Some(wait.as_secs_ceil()), ..reply },
                    _ => reply,
                }
            }
        }
    }

    /// What a client is told whose payment could not even be read.
    pub fn unreadable(&self, client: &Client<'_>, why: &str) -> Reply {
        let message = format!("Error reading request body: {why}");
        self.notice(client.mac, &TollGateNotice::new("invalid-request", 400, message))
    }

    /// What a client is told whose payment is long, while too many such are being received.
    pub fn crowded(&self, client: &Client<'_>) -> Reply {
        let message = "Many are paying at this moment. The token was not taken; please send it again.";
        self.notice(client.mac, &TollGateNotice::new("service-unavailable", 503, message))
    }

    fn notice(&self, mac: Option<MacAddr>, notice: &TollGateNotice) -> Reply {
        let reply = self.event(notice.status, notice::KIND, &notice.tags(mac), &notice.message);
        Reply { retry_after: notice.is_passing().then_some(RETRY_AFTER_SECS), ..reply }
    }

    fn event(&self, status: u16, kind: u32, tags: &Tags, content: &str) -> Reply {
        Reply::event(status, self.sign(kind, tags, content).map(|event| event + "\n"))
    }
}

/// A body as it was read.
struct Posted {
    /// `None` where an event has no payment.
    token: Option<String>,
    /// It is what a wallet sends to a payment request (NUT-18), which looks for `error` in a refusal.
    is_wallets: bool,
}

/// The token of a body: of the first `payment` tag where it is an event, of the proofs where a wallet answers a
/// payment request, else what was pasted as the body.
fn posted(body: &str) -> Posted {
    let body = body.trim();
    let found = |pasted: &str| token::found_in(pasted).unwrap_or_else(|| pasted.to_owned());
    let object: Option<Value> =
        Some(body).filter(|body| body.starts_with('{')).and_then(|body| json::read(body.as_bytes()));
    let object = object.unwrap_or_default();
    if object["kind"].as_u64() == Some(EVENT) {
        let tags = object["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let payment = tags.iter().find(|tag| tag[0] == "payment" && tag[1].is_string());
        let token = payment.and_then(|tag| tag[1].as_str()).filter(|token| !token.is_empty());
        return Posted { token: token.map(found), is_wallets: false };
    }
    let token = payment_request::paid_with(&object).unwrap_or_else(|| found(body));
    Posted { token: Some(token), is_wallets: object.get("proofs").is_some() }
}

fn taken_off(fee: Sats) -> String {
    match fee.0 {
        0 => String::new(),
        fee => format!(" (the mint's fee of {fee} sat is taken off)"),
    }
}

fn closed_because(code: &str) -> &'static str {
    match code {
        "SEALED" => "This router waits for its keys. Nothing was taken; please try again later.",
        "STORE_FULL" => "This router has no space left to sell. Nothing was taken; please tell the operator.",
        "GATE_DOWN" => "This router cannot open the way to the internet at the moment. Nothing was taken.",
        "FLOW_OFFLOAD" => {
            "This router cannot count bytes at the moment. Nothing was taken; please tell the operator."
        }
        _ => "The token was not taken; please try again.",
    }
}

impl From<&SaleError> for TollGateNotice {
    fn from(why: &SaleError) -> TollGateNotice {
        let (code, status, message) = match why {
            SaleError::Token(refusal) => return refusal.into(),
            SaleError::MintNotAccepted => return (&Refusal::MintNotAccepted).into(),
            SaleError::Price { offered, fee, error } => {
                let fee = taken_off(*fee);
                let message =
                    format!("Payment refused: {offered} sat{fee} is {error}. The token was not taken.");
                return TollGateNotice::new("session-error", 402, message);
            }
            SaleError::Clash => (
                "service-unavailable",
                503,
                "Two devices use your network address; turn Wi-Fi off and on again. The token was not taken.",
            ),
            SaleError::TokenUnclear => (
                "payment-outcome-unknown",
                503,
                "The mint has not said yet whether it took the token. It is being found out; do not send another \
                 one. Sending the same token again is safe.",
            ),
            SaleError::TokenInFlight => (
                "payment-duplicate-inflight",
                503,
                "This token is being received at this moment. Do not send another one.",
            ),
            SaleError::GrantPending => (
                "payment-received-grant-pending",
                503,
                "Your payment was received, and access will open by itself. You do NOT need to pay again.",
            ),
            // The shop is closed, or the error is of another way to pay.
            _ => ("service-unavailable", 503, closed_because(why.closed_code().unwrap_or_default())),
        };
        TollGateNotice::new(code, status, message)
    }
}

impl From<&Refusal> for TollGateNotice {
    fn from(refusal: &Refusal) -> TollGateNotice {
        let code = match refusal {
            Refusal::Token(TokenError::NotAToken | TokenError::Damaged | TokenError::Empty) => {
                return TollGateNotice::new(
                    "payment-error-invalid-token",
                    400,
                    format!("Invalid token: {refusal}"),
                );
            }
            Refusal::Spent => {
                return TollGateNotice::new("payment-error-token-spent", 402, "Token has already been spent");
            }
            Refusal::Forged => "payment-error-invalid-token",
            Refusal::MintNotAccepted => "payment-error-mint-not-accepted",
            Refusal::MintBusy => "mint-rate-limited",
            Refusal::Later(_) => {
                return TollGateNotice::new(
                    "token-rate-limited",
                    429,
                    format!("Payment not processed: {refusal}"),
                );
            }
            Refusal::MintAway | Refusal::MintUnsuitable(_) | Refusal::TooMany | Refusal::Closed(_) => {
                "service-unavailable"
            }
            Refusal::Token(_)
            | Refusal::Unit
            | Refusal::Locked
            | Refusal::OtherVenue
            | Refusal::LockOver
            | Refusal::Duplicate
            | Refusal::Amount
            | Refusal::FeeTooHigh
            | Refusal::BeingSpent
            | Refusal::TermsChanged
            | Refusal::MintRefuses => "payment-processing-failed",
        };
        let status = if refusal.may_pass() { 503 } else { 402 };
        TollGateNotice::new(code, status, format!("Payment processing failed: {refusal}"))
    }
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_body(body: &str) -> Option<String> {
    posted(body).token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_alone_or_in_an_event() {
        let event = r#"{"kind":21000,"pubkey":"e6","content":"","created_at":1,"tags":[["p","38"],["device-identifier","mac","02:aa"],["payment","cashuA"]],"id":"","sig":""}"#;
        for (body, token) in [
            ("cashuB\n", "cashuB"),
            ("", ""),
            (event, "cashuA"),
            (r#"{"kind":1,"tags":[["payment","x"]]}"#, r#"{"kind":1,"tags":[["payment","x"]]}"#),
            ("[1]", "[1]"),
            ("{", "{"),
        ] {
            assert_eq!(posted(body).token.as_deref(), Some(token), "{body}");
        }
    }

    #[test]
    fn what_a_wallet_sends_is_known_by_its_proofs() {
        for body in [
            r#"{"mint":"https://m.example","unit":"sat","proofs":[]}"#,
            r#"{"proofs":7}"#,
            r#" {"proofs":null} "#,
        ] {
            assert!(posted(body).is_wallets, "{body}");
        }
        for body in
            ["cashuB", r#"{"kind":21000,"proofs":[],"tags":[["payment","cashuA"]]}"#, r#"["proofs"]"#, "{"]
        {
            assert!(!posted(body).is_wallets, "{body}");
        }
        let refused = Reply::value(402, &json::json!({"kind": 21023})).with_error("no \"money\"");
        assert_eq!(refused, Reply::value(402, &json::json!({"kind": 21023, "error": "no \"money\""})));
    }

    #[test]
    fn an_event_without_a_payment_is_malformed() {
        for tags in [
            "[]",
            "null",
            "7",
            "[[]]",
            r#"[["payment"]]"#,
            r#"[["payment",""]]"#,
            r#"[["payment",7]]"#,
            r#"["payment","x"]"#,
        ] {
            assert_eq!(posted(&format!(r#"{{"kind":21000,"tags":{tags}}}"#)).token, None, "{tags}");
        }
    }

    #[test]
    fn the_status_says_whose_the_money_is() {
        for (refusal, code, status) in [
            (Refusal::Token(TokenError::NotAToken), "payment-error-invalid-token", 400),
            (Refusal::Token(TokenError::TooLarge), "payment-processing-failed", 402),
            (Refusal::Spent, "payment-error-token-spent", 402),
            (Refusal::MintNotAccepted, "payment-error-mint-not-accepted", 402),
            (Refusal::Locked, "payment-processing-failed", 402),
            (Refusal::BeingSpent, "payment-processing-failed", 503),
            (Refusal::MintAway, "service-unavailable", 503),
            (Refusal::MintBusy, "mint-rate-limited", 503),
            (Refusal::Later(Millis(1)), "token-rate-limited", 429),
        ] {
            let notice = TollGateNotice::from(&refusal);
            assert_eq!((notice.code, notice.status), (code, status));
        }
    }

    #[test]
    fn a_notice_has_its_level_code_client_and_message_as_tags() {
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]).ok();
        let expected = [
            vec!["level", "error"],
            vec!["code", "payment-error-token-spent"],
            vec!["p", "02:00:00:00:00:01"],
            vec!["message", "Token has already been spent"],
        ];
        assert_eq!(TollGateNotice::from(&Refusal::Spent).tags(mac), expected);
        assert_eq!(TollGateNotice::from(&SaleError::TokenUnclear).tags(None)[0], ["level", "warning"]);
    }
}
