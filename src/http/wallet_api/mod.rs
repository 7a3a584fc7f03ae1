//! The wallet API of apps, under the paths and in the envelope that SatsConnect's clients know. Where there is https, over that
//! only; never at the operator's socket, nor at the plain public one.

mod asked;
mod balances;
mod bitcoin;
mod buys;
mod holder;
mod logins;
mod payments;
mod payouts;
mod told;

use super::answer::{self, Answer};
use super::entrance::Entrance;
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::config::fiat::MOST_KES;
use crate::json::json;
use crate::store::PayoutKind;
use holder::holder;
use hyper::{Method, StatusCode};
pub use logins::{log_in, log_out, refresh};
use std::sync::Arc;
use told::{created, enveloped, nothing_there, operators, refusal};

/// Whether a page may ask: its guard and the headers of the answer say it.
pub fn preflight(_: &Edge, _: &Entrance) -> Answer {
    answer::empty(StatusCode::NO_CONTENT)
}

/// `/api/wallet/**`, and the other paths of such wallets.
pub fn wallet(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let holder = match holder(&edge, &at, &sent).await {
            Ok(holder) => holder,
            Err(refusal) => return enveloped(Err(refusal)),
        };
        let path = sent.path().trim_end_matches('/').to_owned();
        let path = path.strip_prefix("/api/").unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        match (sent.method().as_str(), parts.as_slice()) {
            ("GET", ["wallet", "balance"] | ["wallet" | "bitcoin", "balance", _]) => {
                enveloped(balances::balance(&edge, &holder).await)
            }
            ("GET", ["wallet", "transactions"] | ["bitcoin", "transactions", _]) => {
                enveloped(balances::transactions(&edge, &holder, sent.query()).await)
            }
            ("POST", ["wallet", "create"]) => created(balances::wallet_of(&holder, sent).await),
            ("POST", ["wallet", "invoice"] | ["wallet", "invoice", "new"]) => {
                created(balances::invoice(&edge, &holder, sent).await)
            }
            ("POST", ["wallet", "send"] | ["wallet", "payment", "send"]) => {
                enveloped(balances::send(&edge, &holder, sent).await)
            }
            ("POST", ["wallet", "receive"]) => enveloped(balances::receive(&edge, &holder, sent).await),
            ("POST", ["wallet", "airtime", "buy"] | ["bitcoin", "purchase-airtime"]) => {
                enveloped(payouts::pay_out(&edge, &holder, PayoutKind::Airtime, sent).await)
            }
            ("POST", ["payments", "process"]) => created(payments::process(&edge, &holder, sent).await),
            ("GET", ["payments", id, "status"]) => enveloped(payments::status(&edge, &holder, id).await),
            // Only an operator gives anything away.
            ("POST", ["payments", _, "refund"] | ["bitcoin", "credit"]) => enveloped(Err(operators())),
            ("GET", ["bitcoin", "status" | "exchange-rate"]) => enveloped(bitcoin::rate(&edge).await),
            ("POST", ["bitcoin", "convert", "kes-to-sats"]) => enveloped(bitcoin::bought(&edge, sent).await),
            ("POST", ["bitcoin", "convert", "sats-to-kes"]) => enveloped(bitcoin::sold(&edge, sent).await),
            _ => enveloped(Err(nothing_there())),
        }
    })
}

/// `/api/fiat/**`: what shillings do beside access. Each is switched off unless `config fiat` says otherwise.
pub fn fiat(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let asked = async {
            let holder = holder(&edge, &at, &sent).await?;
            let config = edge.site.config();
            let fiat = config.fiat.as_ref().filter(|fiat| fiat.operator_licensed);
            let path = sent.rest.clone();
            if sent.method() == Method::GET {
                return match path.as_str() {
                    "mpesa/limits" => {
                        let daily = fiat.map_or(0, |fiat| fiat.day_max.0);
                        Ok(json!({"min": 1, "max": MOST_KES, "daily": daily}))
                    }
                    "airtime/providers" => Ok(payouts::providers(&config)),
                    path => buys::transaction(&edge, &holder, path.strip_prefix("transaction/")).await,
                };
            }
            if sent.method() != Method::POST {
                return Err(nothing_there());
            }
            match (path.as_str(), payouts::kind_of(&path)) {
                (_, Some(kind)) => payouts::pay_out(&edge, &holder, kind, sent).await,
                ("mpesa/buy", _) if fiat.is_some_and(|fiat| fiat.buy) => {
                    buys::buy(&edge, &holder, sent).await
                }
                ("mpesa/buy", _) => {
                    Err(refusal(StatusCode::FORBIDDEN, "switched_off", "this is switched off here"))
                }
                _ => Err(nothing_there()),
            }
        };
        enveloped(asked.await)
    })
}
