//! What is heard of payments: what calls tell of an order, what Daraja's own list shows, and money that waits for the operator
//! because it is no order's, or not what was ordered. Refused: a payment that was counted already, by its receipt.

use super::door::{Door, DoorRow};
use super::jobs::add_job;
use super::keyfile::Secret;
use super::ledger::{book, BookAccount, KES};
use super::order_rows::{find, find_by_id, OrderRow, OrderState};
use super::orders::{close, note_step, text, ORDER_JOB};
use super::values::{kes, number, seconds};
use super::{Store, StoreAnswer, StoreError};
use crate::units::{Kes, Millis, UnixSeconds};

/// Payments of one order that stand aside because calls tell of them: who calls has no signature.
const MOST_ASIDE: i64 = 4;

/// What a callback says, of the order whose token it has.
#[derive(Clone)]
pub struct HeardCallback {
    pub checkout: Secret,
    pub checkout_hash: String,
    pub code: String,
    pub amount: Option<Kes>,
    pub receipt: Option<String>,
}

/// Money without an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspenseRow {
    pub receipt: String,
    pub amount: Kes,
    pub order: String,
    pub reason: String,
    pub at: UnixSeconds,
}

impl Store {
    /// Writes down what was called with this token. Answers the order as it is then; `None`: no order has that token.
    pub fn hear_callback(
        &self,
        token_hash: String,
        heard: Option<HeardCallback>,
    ) -> StoreAnswer<Option<OrderRow>> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = find(&door, "token_hash = $2", &[token_hash.as_str().into()])? else {
                return Ok(None);
            };
            if let Some(heard) = heard {
                hear(&door, &row, &heard, (now, wall))?;
            }
            find_by_id(&door, &row.id)
        })
    }

    /// Whether a token is in the path of an order's calls, or of a payout's.
    pub fn is_called_by(&self, token_hash: String) -> StoreAnswer<bool> {
        self.read(move |tx| {
            let known = "SELECT 1 FROM orders WHERE tenant = $1 AND token_hash = $2
                         UNION ALL SELECT 1 FROM payout_tokens WHERE tenant = $1 AND token_hash = $2 LIMIT 1";
            Ok(!Door::of(tx).query(known, &[token_hash.as_str().into()])?.is_empty())
        })
    }

    /// Money that was found in the list of payments: it belongs to an order, or to none. Answers the order that it may
    /// settle.
    pub fn found_payment(
        &self,
        receipt: String,
        amount: Kes,
        reference: String,
    ) -> StoreAnswer<Option<OrderRow>> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            if is_known(&door, &receipt)? && !is_unconfirmed(&door, &receipt, (&reference, amount))? {
                return Ok(None);
            }
            let row = find_by_id(&door, &reference)?.filter(|row| row.prompted > Millis::ZERO);
            if let Some(row) = row.as_ref().filter(|row| row.receipt == Some(unknown_receipt(&row.id))) {
                // A callback has told of it without its number, and it was counted then.
                name_receipt(&door, &unknown_receipt(&row.id), &receipt)?;
                return Ok(None);
            }
            let Some(row) = row.filter(|row| row.receipt.is_none()) else {
                suspend(&door, &receipt, amount.0, ("no order", ""), wall)?;
                return Ok(None);
            };
            match row.state {
                OrderState::Paid | OrderState::Granted | OrderState::LatePaid if row.amount == amount => {
                    door.execute(
                        "UPDATE orders SET receipt = $3 WHERE tenant = $1 AND id = $2 AND receipt = ''",
                        &[row.id.as_str().into(), receipt.as_str().into()],
                    )?;
                    Ok(None)
                }
                OrderState::Sending | OrderState::Pending | OrderState::Unknown | OrderState::Failed
                    if row.amount == amount =>
                {
                    Ok(Some(row))
                }
                _ => {
                    differs(&door, &row, Some(&receipt), amount, (now, wall))?;
                    Ok(None)
                }
            }
        })
    }

    /// Money that a callback tells of, and Daraja does not confirm: it stands aside until it does.
    pub fn put_heard_aside(&self, id: String) -> StoreAnswer<()> {
        let wall = self.wall();
        self.write(move |tx| {
            let door = Door::of(tx);
            let heard = door.query(
                "SELECT heard_receipt, heard_amount FROM orders WHERE tenant = $1 AND id = $2 AND heard_code = '0'
                 AND heard_receipt != '' AND heard_amount > 0 AND state IN ('sending', 'pending', 'unknown', 'failed')",
                &[id.as_str().into()],
            )?;
            let Some(heard) = heard.first() else { return Ok(()) };
            suspend(&door, heard.text(0)?, kes(heard.number(1)?)?.0, ("not confirmed", &id), wall)
        })
    }

    pub fn suspense(&self, most: u32) -> StoreAnswer<Vec<SuspenseRow>> {
        self.read(move |tx| {
            let rows = Door::of(tx).query(
                "SELECT receipt, amount, order_id, reason, at FROM suspense WHERE tenant = $1
                 ORDER BY at DESC, receipt LIMIT $2",
                &[i64::from(most).into()],
            )?;
            let one = |row: &DoorRow| {
                Ok(SuspenseRow {
                    receipt: row.text(0)?.to_owned(),
                    amount: kes(row.number(1)?)?,
                    order: row.text(2)?.to_owned(),
                    reason: row.text(3)?.to_owned(),
                    at: seconds(row.number(4)?),
                })
            };
            rows.iter().map(one).collect()
        })
    }
}

fn hear(
    door: &Door,
    row: &OrderRow,
    heard: &HeardCallback,
    (now, wall): (Millis, UnixSeconds),
) -> Result<(), StoreError> {
    let holder = find(door, "checkout_hash = $2", &[heard.checkout_hash.as_str().into()])?;
    let is_its_own = match &holder {
        Some(holder) => holder.id == row.id,
        // Its own id is known, and this is another; or a prompt of which only this callback tells.
        None => row.checkout.is_none() && matches!(row.state, OrderState::Sending | OrderState::Unknown),
    };
    if !is_its_own {
        return Ok(());
    }
    let receipt = match &heard.receipt {
        Some(receipt) if heard.code == "0" && !is_known(door, receipt)? => receipt.as_str(),
        _ => "",
    };
    let is_open = !matches!(
        row.state,
        OrderState::Paid | OrderState::Granted | OrderState::LatePaid | OrderState::RefundDue
    );
    let differs_by = heard.amount.filter(|amount| heard.code == "0" && *amount != row.amount);
    if let (Some(amount), false) = (differs_by, row.state == OrderState::RefundDue) {
        return match (&heard.receipt, receipt) {
            // A receipt that is known already was counted already.
            (Some(_), "") => Ok(()),
            (known, _) => differs(door, row, known.as_deref(), amount, (now, wall)),
        };
    }
    if is_open {
        let amount = heard.amount.filter(|_| heard.code == "0").map_or(0, |amount| amount.0);
        door.execute(
            "UPDATE orders SET heard_code = $3, heard_amount = $4, heard_receipt = $5, checkout = $6, checkout_hash = $7
             WHERE tenant = $1 AND id = $2 AND (heard_code = '' OR heard_code != '0')",
            &[
                row.id.as_str().into(),
                heard.code.as_str().into(),
                number(amount)?.into(),
                receipt.into(),
                text(&heard.checkout)?,
                heard.checkout_hash.as_str().into(),
            ],
        )?;
        door.execute(
            "UPDATE orders SET checkout = $3 WHERE tenant = $1 AND id = $2 AND checkout = '' AND checkout_hash = $4",
            &[row.id.as_str().into(), text(&heard.checkout)?, heard.checkout_hash.as_str().into()],
        )?;
        if row.state == OrderState::Unknown {
            door.execute(
                "UPDATE orders SET state = 'pending', is_lost = 0, changed_ms = $3
                 WHERE tenant = $1 AND id = $2 AND state = 'unknown'",
                &[row.id.as_str().into(), number(now.0)?.into()],
            )?;
            note_step(door, &row.id, OrderState::Pending, "", wall)?;
        }
        add_job(door, ORDER_JOB, &row.id, now)?;
    } else if let (OrderState::RefundDue, Some(amount), false) = (row.state, heard.amount, receipt.is_empty())
    {
        heard_again(door, row, receipt, amount, wall)?;
    } else if !receipt.is_empty() {
        door.execute(
            "UPDATE orders SET receipt = $3 WHERE tenant = $1 AND id = $2 AND receipt = ''",
            &[row.id.as_str().into(), receipt.into()],
        )?;
    }
    Ok(())
}

/// A payment that is told of after another one had the order wait for a refund: the same one by its number, or one more.
fn heard_again(
    door: &Door,
    row: &OrderRow,
    receipt: &str,
    amount: Kes,
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    let aside = door.query(
        "SELECT receipt, amount FROM suspense WHERE tenant = $1 AND order_id = $2 LIMIT $3",
        &[row.id.as_str().into(), MOST_ASIDE.into()],
    )?;
    let unknown = unknown_receipt(&row.id);
    for known in &aside {
        if known.text(0)? == unknown && kes(known.number(1)?)? == amount {
            return name_receipt(door, &unknown, receipt);
        }
    }
    match i64::try_from(aside.len()) {
        Ok(count) if count < MOST_ASIDE => suspend(door, receipt, amount.0, ("paid twice", &row.id), wall),
        _ => Ok(()),
    }
}

/// The number of a payment that was counted before anybody told it.
fn name_receipt(door: &Door, unknown: &str, receipt: &str) -> Result<(), StoreError> {
    for table in ["orders", "suspense"] {
        let rename = format!("UPDATE {table} SET receipt = $3 WHERE tenant = $1 AND receipt = $2");
        door.execute(&rename, &[unknown.into(), receipt.into()])?;
    }
    Ok(())
}

/// Another amount than the order's came in: all of it waits for the operator; of an order that is served, what differs.
fn differs(
    door: &Door,
    row: &OrderRow,
    receipt: Option<&str>,
    amount: Kes,
    (now, wall): (Millis, UnixSeconds),
) -> Result<(), StoreError> {
    let receipt = receipt.map_or_else(|| unknown_receipt(&row.id), str::to_owned);
    let is_settled = matches!(row.state, OrderState::Paid | OrderState::Granted | OrderState::LatePaid);
    if is_settled {
        if row.receipt.is_some() {
            return suspend(door, &receipt, amount.0, ("paid twice", &row.id), wall);
        }
        // Its own payment: the books have the order's amount of it.
        let more = amount.0.checked_sub(row.amount.0);
        let (from, to, difference) = match more {
            Some(more) => (BookAccount::Suspense, BookAccount::MpesaUtility, more),
            None => (BookAccount::MpesaUtility, BookAccount::Suspense, row.amount.0.saturating_sub(amount.0)),
        };
        door.execute(
            "UPDATE orders SET receipt = $3 WHERE tenant = $1 AND id = $2",
            &[row.id.as_str().into(), receipt.as_str().into()],
        )?;
        return book(door, &format!("{}/differs", row.id), (from, to), difference, &row.id, wall);
    }
    let due = door.execute(
        "UPDATE orders SET state = 'refund_due', code = 'amount', receipt = $3, changed_ms = $4
         WHERE tenant = $1 AND id = $2 AND state NOT IN ('paid', 'granted', 'late_paid', 'refund_due')",
        &[row.id.as_str().into(), receipt.as_str().into(), number(now.0)?.into()],
    )?;
    if due == 1 {
        note_step(door, &row.id, OrderState::RefundDue, "amount", wall)?;
        put_aside(door, &receipt, amount.0, ("another amount than ordered", &row.id), wall)?;
        close(door, &row.id)?;
    }
    Ok(())
}

/// Puts money aside that belongs to no order, once.
fn suspend(
    door: &Door,
    receipt: &str,
    amount: u64,
    why: (&str, &str),
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    match is_known(door, receipt)? {
        true => Ok(()),
        false => put_aside(door, receipt, amount, why, wall),
    }
}

fn put_aside(
    door: &Door,
    receipt: &str,
    amount: u64,
    (reason, order): (&str, &str),
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO suspense (tenant, receipt, amount, unit, order_id, reason, at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            receipt.into(),
            number(amount)?.into(),
            KES.into(),
            order.into(),
            reason.into(),
            number(wall.0)?.into(),
        ],
    )?;
    let aside = (BookAccount::Suspense, BookAccount::MpesaUtility);
    book(door, &format!("suspense/{receipt}"), aside, amount, order, wall)
}

/// Whether a payment was counted already.
fn is_known(door: &Door, receipt: &str) -> Result<bool, StoreError> {
    let known = "SELECT 1 FROM orders WHERE tenant = $1 AND receipt = $2
                 UNION ALL SELECT 1 FROM suspense WHERE tenant = $1 AND receipt = $2 LIMIT 1";
    Ok(!door.query(known, &[receipt.into()])?.is_empty())
}

/// Whether a payment stands aside for this order only because Daraja has not confirmed what a callback told of it.
fn is_unconfirmed(door: &Door, receipt: &str, (order, amount): (&str, Kes)) -> Result<bool, StoreError> {
    let aside = "SELECT 1 FROM suspense WHERE tenant = $1 AND receipt = $2 AND order_id = $3 AND amount = $4
                 AND reason = 'not confirmed'";
    Ok(!door.query(aside, &[receipt.into(), order.into(), number(amount.0)?.into()])?.is_empty())
}

/// Stands for the receipt of a payment whose number nobody has told.
fn unknown_receipt(order: &str) -> String {
    format!("{order}-unknown")
}
