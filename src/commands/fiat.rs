//! `tollgated fiat`: orders that are paid in shillings, the books, and money that belongs to no order.

use super::Reach::Socket;
use super::Shows::Facts;
use super::{Command, CommandError, Desk, Given, Whose, MOMENT};
use crate::config::Role::{Manager, Owner};
use crate::fiat::masked;
use crate::json::json;
use crate::store::{OrderRow, PayoutRow, Store, StoreError, KES};
use serde_json::Value;

/// Rows that are shown.
const MOST: u32 = 1000;

pub static COMMANDS: &[Command] = &[
    Command {
        name: "fiat orders",
        args: "",
        role: Manager,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, _| Box::pin(orders(desk))),
        shows: Facts,
        summary: "what was ordered for shillings, and what is paid out; the newest first",
    },
    Command {
        name: "fiat order",
        args: "ID",
        role: Manager,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, given| Box::pin(order(desk, given))),
        shows: Facts,
        summary: "one order, with every state that it was in",
    },
    Command {
        name: "fiat decide",
        args: "ID OUTCOME",
        role: Owner,
        audited: true,
        moves_money: true,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, given| Box::pin(decide(desk, given))),
        shows: Facts,
        summary: "end a payout that nobody tells the end of, as you have found it out: paid, or failed, which gives it back",
    },
    Command {
        name: "fiat ledger",
        args: "",
        role: Manager,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, _| Box::pin(ledger(desk))),
        shows: Facts,
        summary: "the books: what is in every account, what we own positive, and the newest entries",
    },
    Command {
        name: "fiat suspense",
        args: "",
        role: Manager,
        audited: false,
        moves_money: false,
        whose: Whose::Platform,
        reach: Socket(MOMENT, |desk, _| Box::pin(suspense(desk))),
        shows: Facts,
        summary: "money that came in and belongs to no order, or not as it was ordered",
    },
];

/// The money moves as it does when Daraja tells of it: once, and in the books.
async fn decide(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (shop, id) = (desk.site.shop.as_ref()?, given.need("ID")?.trim().to_ascii_uppercase());
    let is_paid = match given.need("OUTCOME")? {
        "paid" => true,
        "failed" => false,
        _ => return Err(CommandError::Usage("an OUTCOME is paid or failed".to_owned())),
    };
    let row = shop.store.payout(id).await.map_err(refused)?.ok_or_else(unknown)?;
    match shop.mpesa.decide_payout(&row, is_paid).await.map_err(refused)? {
        true => order(desk, given).await,
        false => {
            let message = "only what was sent, and not heard of for an hour, is to be decided";
            Err(CommandError::Refused("not_undecided", message.to_owned()))
        }
    }
}

async fn orders(desk: &Desk) -> Result<Value, CommandError> {
    let orders = store(desk)?.orders(MOST).await.map_err(refused)?;
    let payouts = store(desk)?.payouts(MOST).await.map_err(refused)?;
    let mut rows: Vec<(u64, Value)> = orders.iter().map(|row| (row.at.0, told(row))).collect();
    rows.extend(payouts.iter().map(|row| (row.at.0, told_of_payout(row))));
    rows.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let newest = rows.into_iter().take(usize::try_from(MOST).unwrap_or(usize::MAX));
    Ok(json!({"orders": newest.map(|(_, row)| row).collect::<Value>()}))
}

async fn order(desk: &Desk, given: &Given) -> Result<Value, CommandError> {
    let (store, id) = (store(desk)?, given.need("ID")?.trim().to_ascii_uppercase());
    let mut told = match store.order(id.clone()).await.map_err(refused)? {
        Some(row) => told(&row),
        None => told_of_payout(&store.payout(id.clone()).await.map_err(refused)?.ok_or_else(unknown)?),
    };
    let steps = store.order_steps(id).await.map_err(refused)?;
    told["history"] =
        steps.iter().map(|step| json!({"state": step.state, "code": step.code, "at": step.at.0})).collect();
    Ok(told)
}

fn told(row: &OrderRow) -> Value {
    json!({
        "order": row.id,
        "kind": row.kind,
        "state": row.state.as_str(),
        "amount": row.amount.0,
        "unit": KES,
        "phone": masked(&row.phone_tail),
        "receipt": row.receipt,
        "code": Some(&row.code).filter(|code| !code.is_empty()),
        "at": row.at.0,
    })
}

/// A bill has no phone.
fn told_of_payout(row: &PayoutRow) -> Value {
    json!({
        "order": row.id,
        "kind": row.kind.as_str(),
        "state": row.state.as_str(),
        "amount": row.amount.0,
        "unit": KES,
        "phone": Some(masked(&row.phone_tail)).filter(|_| !row.phone_tail.is_empty()),
        "receipt": row.receipt,
        "code": Some(&row.code).filter(|code| !code.is_empty()),
        "at": row.at.0,
    })
}

async fn ledger(desk: &Desk) -> Result<Value, CommandError> {
    let (balances, entries) = store(desk)?.books(MOST).await.map_err(refused)?;
    let balance =
        balances.iter().map(|one| json!({"account": one.account, "unit": one.unit, "balance": one.balance}));
    let entry = entries.iter().map(|one| {
        json!({
            "txn": one.txn,
            "account": one.account,
            "unit": one.unit,
            "delta": one.delta,
            "order": one.order,
            "at": one.at.0,
        })
    });
    Ok(json!({"balances": balance.collect::<Value>(), "entries": entry.collect::<Value>()}))
}

async fn suspense(desk: &Desk) -> Result<Value, CommandError> {
    let rows = store(desk)?.suspense(MOST).await.map_err(refused)?;
    let one = rows.iter().map(|row| {
        json!({
            "receipt": row.receipt,
            "amount": row.amount.0,
            "unit": KES,
            "at": row.at.0,
            "reason": row.reason,
            "order": Some(&row.order).filter(|order| !order.is_empty()),
        })
    });
    Ok(json!({"suspense": one.collect::<Value>()}))
}

fn store(desk: &Desk) -> Result<&Store, CommandError> {
    Ok(&desk.site.shop.as_ref()?.store)
}

fn unknown() -> CommandError {
    CommandError::Missing("unknown_order", "there is no order with this id".to_owned())
}

fn refused(error: StoreError) -> CommandError {
    CommandError::Closed(error.code(), error.to_string())
}
