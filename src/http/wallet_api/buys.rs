//! Shillings into a balance, and what became of an order.

use super::super::mpesa;
use super::super::sent::Sent;
use super::super::Edge;
use super::asked::{self, body, either};
use super::holder::{shop, AccountHolder};
use super::payouts::told;
use super::told::{refusal, waiting, ApiRefusal, ApiTold};
use crate::json::json;
use crate::sale::mpesa::MpesaError;
use crate::store::OrderState;
use crate::units::{Kes, Sats};
use hyper::StatusCode;

/// `POST /api/fiat/mpesa/buy` of `{"phoneNumber","amount"}`: `{"id","state","amount_msat"}`.
pub(super) async fn buy(edge: &Edge, holder: &AccountHolder, sent: Sent) -> ApiTold {
    let key = asked::key(&sent)?;
    let fields = body(sent).await?;
    let phone = either(&fields, "phoneNumber", "phone_number");
    let phone = phone.as_str().unwrap_or_default();
    let paid = either(&fields, "amount", "amountKes").as_u64().map(Kes);
    let paid = paid.ok_or_else(|| refused(&MpesaError::BadAmount))?;
    let shop = shop(edge)?;
    let quote = shop.rates.buying().await.map_err(|stale| {
        log::warn!("nothing is bought: {stale}");
        // Without a clock there is no rate of a feed.
        let is_set = shop.store.wall_is_plausible();
        refused(if is_set { &MpesaError::RateStale } else { &MpesaError::ClockNotSet })
    })?;
    let margin = shop.balances.float_margin().await.unwrap_or(Sats(0));
    let asked = shop.mpesa.buy(&holder.account, (phone, paid), quote, margin, key.as_deref());
    let (order, msat) = asked.await.map_err(|error| refused(&error))?;
    Ok(json!({"id": order.id, "state": state_of(order.state), "amount_msat": msat}))
}

/// `GET /api/fiat/transaction/ID`: `{"id","kind","state","amount_kes","amount_sats"}`; another account's is unknown.
pub(super) async fn transaction(edge: &Edge, holder: &AccountHolder, id: Option<&str>) -> ApiTold {
    let unknown = || refusal(StatusCode::NOT_FOUND, "not_found", "Transaction not found");
    let id = id.filter(|id| !id.is_empty() && id.len() <= 64).ok_or_else(unknown)?.to_owned();
    let store = &shop(edge)?.store;
    let closed = |error: crate::store::StoreError| {
        log::error!("{error}");
        refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "nothing works here now")
    };
    if let Some(row) = store.payout(id.clone()).await.map_err(closed)? {
        return if row.account == holder.account { Ok(told(&row)) } else { Err(unknown()) };
    }
    let bought = store.buy(id.clone()).await.map_err(closed)?;
    let bought = bought.filter(|bought| bought.account == holder.account).ok_or_else(unknown)?;
    let order = store.order(id).await.map_err(closed)?.ok_or_else(unknown)?;
    Ok(json!({
        "id": order.id,
        "kind": order.kind,
        "state": state_of(order.state),
        "amount_kes": order.amount.0,
        "amount_sats": bought.amount.0 / 1000,
    }))
}

fn state_of(state: OrderState) -> &'static str {
    match state {
        OrderState::Paid | OrderState::Granted | OrderState::LatePaid => "paid",
        // What was paid otherwise than ordered stands aside for the operator, and the balance never has it.
        OrderState::Failed | OrderState::RefundDue => "failed",
        OrderState::Created | OrderState::Sending | OrderState::Pending | OrderState::Unknown => "pending",
    }
}

pub(super) fn refused(error: &MpesaError) -> ApiRefusal {
    waiting(refusal(mpesa::status_of(error), error.code(), &error.to_string()), error.wait())
}
