//! What is about balances: what an account has, an invoice that adds to it, and spending it.

use super::super::sent::Sent;
use super::super::Edge;
use super::asked::{body, either, key, sats};
use super::holder::{must_be_fresh, shop, AccountHolder};
use super::told::{invalid, refusal, ApiRefusal, ApiTold};
use crate::form::pairs;
use crate::json::json;
use crate::pasted;
use crate::sale::balance::{amount_of, BalanceError, Balances};
use crate::store::{BalanceMove, MoveState};
use crate::units::Sats;
use hyper::StatusCode;
use serde_json::Value;

/// Rows of a page of changes.
const MOST: u32 = 100;
const USUAL: u32 = 50;

/// `{"node_id","address"}` of the account's wallet, which is there since it has logged in. Words of another one are refused, so
/// that nobody believes that they restore this one.
pub(super) async fn wallet_of(holder: &AccountHolder, sent: Sent) -> ApiTold {
    match &body(sent).await?["mnemonic"] {
        Value::Null => Ok(json!({"node_id": holder.account, "address": holder.account})),
        _ => Err(invalid("the router takes no words: the wallet that has logged in is the account's")),
    }
}

pub(super) async fn balance(edge: &Edge, holder: &AccountHolder) -> ApiTold {
    let (free, held) = balances(edge)?.of(&holder.account).await.map_err(refused)?;
    Ok(json!({"sats": free.0 / 1000, "pending_sats": held.0.div_ceil(1000)}))
}

pub(super) async fn invoice(edge: &Edge, holder: &AccountHolder, sent: Sent) -> ApiTold {
    let fields = body(sent).await?;
    let amount = sats(&fields)?;
    let memo = match &fields["memo"] {
        Value::Null => "",
        memo => memo.as_str().ok_or_else(|| invalid("memo is a text"))?,
    };
    let row = balances(edge)?.invoice(&holder.account, amount, memo).await.map_err(refused)?;
    let (invoice, expires_at) = (row.invoice, row.expires_at.0);
    Ok(json!({"invoice": invoice, "payment_hash": row.payment_hash, "expires_at": expires_at}))
}

pub(super) async fn send(edge: &Edge, holder: &AccountHolder, sent: Sent) -> ApiTold {
    let key = key(&sent)?;
    let fields = body(sent).await?;
    let balances = balances(edge)?;
    let invoice = either(&fields, "invoice", "lightningInvoice");
    if fields["as"] == "token" {
        if !invoice.is_null() {
            return Err(invalid("send an invoice, or amount_sats as a token"));
        }
        let amount = sats(&fields)?;
        must_be_fresh(edge, holder, amount)?;
        let token = balances.token(&holder.account, amount, key.as_deref()).await.map_err(refused)?;
        return Ok(json!({"token": token}));
    }
    let invoice = invoice.as_str().ok_or_else(|| invalid("send an invoice, or amount_sats as a token"))?;
    let invoice = pasted::one(invoice);
    // What it asks for is looked at again where it is paid.
    let asked = crate::bolt11::Invoice::parse(&invoice).ok().and_then(|invoice| invoice.amount());
    must_be_fresh(edge, holder, Sats(asked.map_or(0, |amount| amount.0.div_ceil(1000))))?;
    let paid = balances.pay(&holder.account, &invoice).await.map_err(refused)?;
    let (status, fee) = (paid.state.as_str(), paid.fee.0);
    Ok(json!({"status": status, "payment_hash": paid.payment_hash, "fee_sats": fee}))
}

/// `{"token"}`: ecash that is brought.
pub(super) async fn receive(edge: &Edge, holder: &AccountHolder, sent: Sent) -> ApiTold {
    let fields = body(sent).await?;
    let token = either(&fields, "token", "cashuToken").as_str().ok_or_else(|| invalid("token is a text"))?;
    let balances = balances(edge)?;
    let offer = balances.look(token).await.map_err(refused)?;
    let added = balances.deposit(&holder.account, offer).await.map_err(refused)?;
    Ok(json!({"amount_sats": added.0 / 1000}))
}

pub(super) async fn transactions(edge: &Edge, holder: &AccountHolder, query: &str) -> ApiTold {
    let (mut most, mut before) = (USUAL, i64::MAX);
    for (name, value) in pairs(query) {
        match &*name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                most = limit.ok_or_else(|| invalid("limit is a number from 1 to 100"))?;
            }
            "cursor" if !value.is_empty() => {
                before = value.parse().map_err(|_| invalid("cursor is the next_cursor of another page"))?;
            }
            _ => {}
        }
    }
    let balances = balances(edge)?;
    // One more tells whether there is another page.
    let mut rows =
        balances.changes(&holder.account, before, most.saturating_add(1)).await.map_err(refused)?;
    let page = usize::try_from(most).unwrap_or(usize::MAX);
    let is_last = rows.len() <= page;
    rows.truncate(page);
    let next = rows.last().filter(|_| !is_last).map(|row| row.seq.to_string());
    let mut told = Vec::new();
    for row in &rows {
        told.push(transaction(row, balances.token_of(row).await));
    }
    Ok(json!({"transactions": told, "next_cursor": next}))
}

fn transaction(row: &BalanceMove, token: Option<String>) -> Value {
    let detail: Value = serde_json::from_str(&row.detail).unwrap_or_default();
    let state = match row.state {
        MoveState::Held => "pending",
        MoveState::Done => "paid",
        MoveState::Returned => "failed",
    };
    let amount = if row.is_debit { amount_of(row) } else { Sats(row.amount.0 / 1000) };
    let fee = match (row.is_debit, row.state) {
        (true, MoveState::Done) => (row.cost.0 / 1000).saturating_sub(amount.0),
        _ => 0,
    };
    json!({
        "id": row.reference,
        "kind": row.kind,
        "direction": if row.is_debit { "out" } else { "in" },
        "state": state,
        "amount_sats": amount.0,
        "fee_sats": fee,
        "payment_hash": detail["payment_hash"],
        "memo": detail["memo"],
        "token": token,
        "at": row.at.0,
    })
}

pub(super) fn balances(edge: &Edge) -> Result<&Balances, ApiRefusal> {
    Ok(&shop(edge)?.balances)
}

pub(super) fn refused(error: BalanceError) -> ApiRefusal {
    let status = match &error {
        BalanceError::TooLittle(_) => StatusCode::PAYMENT_REQUIRED,
        BalanceError::DayLimit | BalanceError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        BalanceError::BadInvoice(_)
        | BalanceError::BadAmount
        | BalanceError::BadMemo(_)
        | BalanceError::Token(_) => StatusCode::BAD_REQUEST,
        BalanceError::InvoiceTaken | BalanceError::OtherQuestion | BalanceError::TokenTaken => {
            StatusCode::CONFLICT
        }
        BalanceError::TokenUnclear
        | BalanceError::NoMint
        | BalanceError::FeeTooHigh(_)
        | BalanceError::FloatTooSmall
        | BalanceError::NotNow(_)
        | BalanceError::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refusal(status, error.code(), &error.to_string())
}
