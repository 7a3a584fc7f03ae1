//! `POST /`: ecash in, a session out.
//!
//! Everything that can be refused is refused while the token is still the guest's. From then on it is the
//! wallet's: it brings the token to its end whether or not anybody waits, and grants what it buys in the same
//! commit. What is told meanwhile says what became of the money; the same token again is told what came of it.

use super::event::Tags;
use super::notice::{self, Notice};
use super::{session, Body, Client, Reply, TollGate};
use crate::access::{Price, PriceError, Session};
use crate::config::MintUrl;
use crate::ecash::wallet::{Offer, Payer, Received, Refusal};
use crate::ecash::{payment_request, TokenError, GUEST_PATIENCE};
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::network::witness;
use crate::store::{NewGrant, Ticket};
use crate::task;
use crate::units::{Millis, Sats};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// For the gate, once the money is here. It opens by itself later.
const GATE_PATIENCE: Duration = Duration::from_secs(4);
/// Before the same token is worth another try.
const RETRY_AFTER_SECS: u64 = 5;
/// The event around a token (kind 21000) that existing portals send.
const EVENT: u64 = 21000;

/// Why a token has not become access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPaid {
    /// The token is still the guest's, unless it was spent before.
    #[error("Payment processing failed: {0}")]
    Refused(#[from] Refusal),
    /// Still the guest's: nothing is sold for as much as is left of it.
    #[error("Payment refused: {net} sat{} is {error}. The token was not taken.", taken_off(.fee))]
    Price { net: Sats, fee: Sats, error: PriceError },
    /// Nothing was taken: access could not be given now.
    #[error("{}", closed_because(.0))]
    Closed(&'static str),
    /// Nothing was taken: another device uses the same address.
    #[error("Two devices use your network address; turn Wi-Fi off and on again. The token was not taken.")]
    Clash,
    /// The mint was asked and has not answered. It is found out without anybody doing anything about it.
    #[error(
        "The mint has not said yet whether it took the token. It is being found out; do not send another one. \
         Sending the same token again is safe."
    )]
    Unknown,
    #[error("This token is being received at this moment. Do not send another one.")]
    InFlight,
    /// Taken; access opens by itself.
    #[error("Your payment was received, and access will open by itself. You do NOT need to pay again.")]
    GrantPending,
}

impl TollGate {
    /// Counts one more payment of this client; else how long until it may post one, which costs nothing.
    pub fn may_pay(&self, mac: MacAddr) -> Result<(), Millis> {
        let now = self.0.store.now();
        let mut pace = self.pace();
        let wait = pace.refusals.wait(mac, now).max(pace.posts.wait(mac, now));
        match wait == Millis::ZERO && pace.posts.admit(mac, now) {
            true => Ok(()),
            false => Err(wait),
        }
    }

    /// What a client is told that posts too much.
    pub fn too_fast(wait: Millis) -> Reply {
        let body = Body::Text(r#"{"error":"rate limit exceeded"}"#.to_owned());
        Reply { status: 429, body, retry_after: Some(wait.as_secs_ceil()) }
    }

    /// Takes the payment in `body`: a token, or an event with one. `None`: it was longer than any token.
    pub async fn pay(&self, client: &Client<'_>, body: Option<String>) -> Reply {
        if let Err(code) = &self.0.identity {
            return super::closed(code);
        }
        let Some(mac) = client.mac else {
            let message = "Failed to lookup MAC address: this router does not know your device";
            return self.notice(None, &Notice::new("mac-address-lookup-failed", 400, message));
        };
        let token = body.ok_or(Refusal::Token(TokenError::TooLarge).into()).map(|body| token_in(&body));
        let paid = match token {
            Ok(Some(token)) => self.purchase(client, mac, &token).await,
            Ok(None) => {
                let message = "No payment tag found in event";
                return self.notice(Some(mac), &Notice::new("invalid-event", 400, message));
            }
            Err(too_large) => Err(too_large),
        };
        match paid {
            Ok((session, ticket)) => {
                let ticket = ticket.filter(|_| client.may_see_ticket);
                self.event(200, session::KIND, &session::tags(&session, ticket.as_ref()), "")
            }
            Err(why) => {
                let wait = why.wait();
                let reply = self.notice(Some(mac), &why.into());
                Reply { retry_after: wait.map(Millis::as_secs_ceil).or(reply.retry_after), ..reply }
            }
        }
    }

    /// What a client is told whose payment could not even be read.
    pub fn unreadable(&self, client: &Client<'_>, why: &str) -> Reply {
        let message = format!("Error reading request body: {why}");
        self.notice(client.mac, &Notice::new("invalid-request", 400, message))
    }

    /// What a client is told whose payment is long, while too many such are being received.
    pub fn crowded(&self, client: &Client<'_>) -> Reply {
        let message = "Many are paying at this moment. The token was not taken; please send it again.";
        self.notice(client.mac, &Notice::new("service-unavailable", 503, message))
    }

    /// Turns a token into access: the session, and the ticket to keep where this payment has made it. What was
    /// begun goes on when nobody waits for it any more, and the same token again is answered with what came of it.
    pub async fn purchase(
        &self,
        client: &Client<'_>,
        mac: MacAddr,
        token: &str,
    ) -> Result<(Session, Option<Ticket>), NotPaid> {
        let paid = self.exchange(client, mac, token).await;
        if let Err(why) = &paid {
            let notice = Notice::from(why.clone());
            log::info!("{mac}: payment not turned into access: {}: {}", notice.code, notice.message);
            if notice.status == 402 {
                // The mint was asked, and the flash written to, for nothing.
                self.pace().refusals.admit(mac, self.0.store.now());
            }
        }
        paid
    }

    async fn exchange(
        &self,
        client: &Client<'_>,
        mac: MacAddr,
        token: &str,
    ) -> Result<(Session, Option<Ticket>), NotPaid> {
        let deadline = Instant::now() + GUEST_PATIENCE;
        let accepted: Vec<MintUrl> =
            client.config.mints_of(client.venue).map(|mint| mint.url.clone()).collect();
        let payer = match self.0.access.is_customer(mac) {
            true => Payer::Known,
            false => Payer::Stranger,
        };
        let assessed =
            tokio::time::timeout_at(deadline, self.0.wallet.assess_from(token, &accepted, payer)).await;
        let offer = assessed.unwrap_or_else(|_| {
            self.0.wallet.kept_a_guest_waiting(token);
            Err(Refusal::MintAway)
        })?;
        let grant = match offer.is_known {
            true => None,
            false => Some(self.grant_for(client, mac, &offer).await?),
        };
        let (wallet, access) = (self.0.wallet.clone(), self.0.access.clone());
        // Goes on whatever becomes of the client's connection.
        let receiving = task::start(async move {
            let received = wallet.receive(offer, grant).await;
            let admitted = match &received {
                Received::Done { session: Some(row), .. } => {
                    let row = row.clone();
                    Some(task::start(async move { access.admit(row).await }))
                }
                _ => None,
            };
            (received, admitted)
        });
        let (received, admitted) = match tokio::time::timeout_at(deadline, receiving).await {
            Ok(Ok(received)) => received,
            Ok(Err(_)) => return Err(NotPaid::Unknown),
            Err(_) => {
                self.0.wallet.kept_a_guest_waiting(token);
                return Err(NotPaid::Unknown);
            }
        };
        let row = match received {
            // It opens nothing at another venue than the one where it was taken.
            Received::Done { session: Some(row), .. } if row.mac == mac && row.venue == client.venue.id => {
                row
            }
            Received::Done { .. } => return Err(Refusal::Spent.into()),
            Received::Refused(refusal) => return Err(refusal.into()),
            Received::Unknown => return Err(NotPaid::Unknown),
            Received::InFlight => return Err(NotPaid::InFlight),
        };
        let gate = deadline.min(Instant::now() + GATE_PATIENCE);
        let Some(admitted) = admitted else { return Err(NotPaid::GrantPending) };
        match tokio::time::timeout_at(gate, admitted).await {
            Ok(Ok(session)) if session.is_running() => {
                log::info!("{mac} is online with {} {}", row.allotment.0, row.metric.as_str());
                Ok((session, row.ticket))
            }
            // It was posted again after its session.
            Ok(Ok(_)) => Err(Refusal::Spent.into()),
            Ok(Err(_)) | Err(_) => Err(NotPaid::GrantPending),
        }
    }

    /// What an offer buys; refuses it where that could not be honoured.
    async fn grant_for(&self, client: &Client<'_>, mac: MacAddr, offer: &Offer) -> Result<NewGrant, NotPaid> {
        if let Some(why) = self.cannot_sell(client.venue.metric) {
            return Err(why);
        }
        let mint = client.config.mint_for(client.venue, &offer.mint).ok_or(Refusal::MintNotAccepted)?;
        let price = Price::of(client.venue, mint);
        let refused = |error| NotPaid::Price { net: offer.net, fee: offer.fee, error };
        let allotment = price.allotment(offer.net).map_err(refused)?;
        if let Some(caller) = client.caller.cloned() {
            confirm(caller).await?;
        }
        Ok(NewGrant {
            reference: offer.reference.clone(),
            mac,
            venue: client.venue.id.clone(),
            amount: offer.net.into(),
            metric: price.metric,
            allotment,
            value: price.value(offer.net, allotment).into(),
            mint: Some(mint.url.clone()),
        })
    }

    fn notice(&self, mac: Option<MacAddr>, notice: &Notice) -> Reply {
        let reply = self.event(notice.status, notice::KIND, &notice.tags(mac), &notice.message);
        Reply { retry_after: notice.is_passing().then_some(RETRY_AFTER_SECS), ..reply }
    }

    fn event(&self, status: u16, kind: u32, tags: &Tags, content: &str) -> Reply {
        Reply::event(status, self.sign(kind, tags, content).map(|event| event + "\n"))
    }
}

/// The token of a body: of the first `payment` tag where it is an event, of the proofs where a wallet answers a
/// payment request, else the body itself.
fn token_in(body: &str) -> Option<String> {
    let body = body.trim();
    let event =
        if body.starts_with('{') { serde_json::from_str(body).unwrap_or(Value::Null) } else { Value::Null };
    if event["kind"].as_u64() != Some(EVENT) {
        return Some(payment_request::paid_with(&event).unwrap_or_else(|| body.to_owned()));
    }
    let tags = event["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let payment = tags.iter().find(|tag| tag[0] == "payment" && tag[1].is_string());
    payment.and_then(|tag| tag[1].as_str()).filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Whether the address is the caller's alone. Its packets alone tell that at once; the whole link is only asked
/// where another device has spoken from the address.
async fn confirm(caller: Caller) -> Result<(), NotPaid> {
    let confirmed = task::blocking(move || match witness::seen(caller.address) {
        Ok(seen) if seen.iter().all(|(mac, _)| *mac == caller.mac) => Ok(()),
        _ => witness::confirm(&caller),
    });
    match confirmed.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(clash)) => {
            log::warn!("no sale: {clash}");
            Err(NotPaid::Clash)
        }
        Err(_) => Err(NotPaid::Closed("INTERNAL_ERROR")),
    }
}

fn taken_off(fee: &Sats) -> String {
    match fee.0 {
        0 => String::new(),
        fee => format!(" (the mint's fee of {fee} sat is taken off)"),
    }
}

fn closed_because(code: &str) -> &'static str {
    match code {
        "STORE_FULL" => "This router has no space left to sell. Nothing was taken; please tell the operator.",
        "GATE_DOWN" => "This router cannot open the way to the internet at the moment. Nothing was taken.",
        "FLOW_OFFLOAD" => {
            "This router cannot count bytes at the moment. Nothing was taken; please tell the operator."
        }
        _ => "The token was not taken; please try again.",
    }
}

impl NotPaid {
    /// How long until the same token may be taken, where that is known.
    pub fn wait(&self) -> Option<Millis> {
        match self {
            NotPaid::Refused(Refusal::Later(wait)) => Some(*wait),
            _ => None,
        }
    }
}

impl From<NotPaid> for Notice {
    fn from(why: NotPaid) -> Notice {
        let (code, status) = match why {
            NotPaid::Refused(refusal) => return refusal.into(),
            NotPaid::Price { .. } => ("session-error", 402),
            NotPaid::Closed(_) | NotPaid::Clash => ("service-unavailable", 503),
            NotPaid::Unknown => ("payment-outcome-unknown", 503),
            NotPaid::InFlight => ("payment-duplicate-inflight", 503),
            NotPaid::GrantPending => ("payment-received-grant-pending", 503),
        };
        Notice::new(code, status, why.to_string())
    }
}

impl From<Refusal> for Notice {
    fn from(refusal: Refusal) -> Notice {
        let code = match &refusal {
            Refusal::Token(TokenError::NotAToken | TokenError::Damaged | TokenError::Empty) => {
                return Notice::new("payment-error-invalid-token", 400, format!("Invalid token: {refusal}"));
            }
            Refusal::Spent => {
                return Notice::new("payment-error-token-spent", 402, "Token has already been spent");
            }
            Refusal::Forged => "payment-error-invalid-token",
            Refusal::MintNotAccepted => "payment-error-mint-not-accepted",
            Refusal::MintBusy => "mint-rate-limited",
            Refusal::Later(_) => {
                return Notice::new("token-rate-limited", 429, format!("Payment not processed: {refusal}"));
            }
            Refusal::MintAway | Refusal::MintUnsuitable(_) | Refusal::TooMany | Refusal::Closed(_) => {
                "service-unavailable"
            }
            Refusal::Token(_)
            | Refusal::Unit
            | Refusal::Locked
            | Refusal::Duplicate
            | Refusal::Amount
            | Refusal::FeeTooHigh
            | Refusal::BeingSpent
            | Refusal::TermsChanged
            | Refusal::MintRefuses => "payment-processing-failed",
        };
        let status = if refusal.may_pass() { 503 } else { 402 };
        Notice::new(code, status, format!("Payment processing failed: {refusal}"))
    }
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
            assert_eq!(token_in(body).as_deref(), Some(token), "{body}");
        }
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
            assert_eq!(token_in(&format!(r#"{{"kind":21000,"tags":{tags}}}"#)), None, "{tags}");
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
            let notice = Notice::from(refusal);
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
        assert_eq!(Notice::from(Refusal::Spent).tags(mac), expected);
        assert_eq!(Notice::from(NotPaid::Unknown).tags(None)[0], ["level", "warning"]);
    }
}
