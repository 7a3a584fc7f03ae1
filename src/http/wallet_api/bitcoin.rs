//! What is about the rate: what a bitcoin is in shillings, and what an amount of the one is in the other
//! to who buys or sells it here. Refused: to tell anything without a rate that counts.

use super::super::sent::Sent;
use super::super::Edge;
use super::asked::{body, either};
use super::buys::refused;
use super::holder::shop;
use super::told::{refusal, ApiRefusal, ApiTold};
use crate::config::RateSource;
use crate::fiat::RateStale;
use crate::json::json;
use crate::sale::mpesa::MpesaError;
use crate::units::{Kes, Sats};
use hyper::StatusCode;

/// `GET /api/bitcoin/exchange-rate`: `{"rate","source"}`, and `status`: the same in the words of that path.
pub(super) async fn rate(edge: &Edge) -> ApiTold {
    let quote = shop(edge)?.rates.buying().await.map_err(stale)?;
    let source = match edge.site.config().rate.as_ref().map(|rate| &rate.source) {
        Some(RateSource::Feed { .. }) => "feed",
        _ => "fixed",
    };
    let rate = quote.rate;
    Ok(json!({"status": "operational", "rate": rate, "exchangeRate": rate, "source": source}))
}

/// `POST /api/bitcoin/convert/kes-to-sats`: what an amount of shillings buys here.
pub(super) async fn bought(edge: &Edge, sent: Sent) -> ApiTold {
    let kes = amount(&body(sent).await?, "amountKes", "amount_kes")?;
    let quote = shop(edge)?.rates.buying().await.map_err(stale)?;
    let bought = quote.bought_with(Kes(kes)).ok_or_else(bad_amount)?;
    Ok(json!({"amountKes": kes, "amountSats": bought.0 / 1000, "exchangeRate": quote.rate}))
}

/// `POST /api/bitcoin/convert/sats-to-kes`: what an amount of satoshis is sold for here.
pub(super) async fn sold(edge: &Edge, sent: Sent) -> ApiTold {
    let sats = amount(&body(sent).await?, "amountSats", "amount_sats")?;
    let quote = shop(edge)?.rates.selling().await.map_err(stale)?;
    let kes = Sats(sats).to_msats().and_then(|sold| quote.paid_for(sold)).ok_or_else(bad_amount)?;
    Ok(json!({"amountSats": sats, "amountKes": kes.0, "exchangeRate": quote.rate}))
}

fn amount(fields: &serde_json::Value, name: &str, other: &str) -> Result<u64, ApiRefusal> {
    either(fields, name, other).as_u64().filter(|amount| *amount > 0).ok_or_else(bad_amount)
}

fn bad_amount() -> ApiRefusal {
    refusal(StatusCode::BAD_REQUEST, "bad_amount", "the amount is no whole number above zero, or too large")
}

fn stale(why: RateStale) -> ApiRefusal {
    log::info!("no rate is told: {why}");
    refused(&MpesaError::RateStale)
}
