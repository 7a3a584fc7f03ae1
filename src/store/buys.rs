//! What the takings are to add to balances: what orders that are paid in shillings promise, each at the rate that is frozen in it,
//! and what the router pays by itself. Refused: to promise more than the takings hold, and more shillings in a day than is allowed.

use super::balances::{balance_move, credit, missing_backing, NewMove};
use super::door::Door;
use super::ledger::{book, BookAccount};
use super::order_rows::{OrderRow, OrderState};
use super::orders::{close, note_step};
use super::values::number;
use super::{Store, StoreError};
use crate::units::{Kes, Msats, Sats, UnixSeconds};
use rusqlite::Transaction;

/// The kind of such orders.
pub const BUY: &str = "buy";
const DAY: u64 = 86_400;

/// What an order is to add to a balance.
#[derive(Clone, Debug)]
pub struct NewBuy {
    pub account: String,
    pub amount: Msats,
    pub rate: u64,
    pub spread_bp: u64,
    /// Most that is bought in a day, by all together.
    pub day_max: Kes,
    /// What moving ecash may cost beside.
    pub margin: Sats,
}

/// What an order adds to whose balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuyRow {
    pub account: String,
    pub amount: Msats,
}

/// Why an order is not opened.
pub(super) enum NoBuy {
    FloatTooSmall,
    DayLimit,
}

impl Store {
    pub async fn buy(&self, order: String) -> Result<Option<BuyRow>, StoreError> {
        self.read(move |tx| buy(&Door::of(tx), &order)).await
    }

    /// Adds to a balance what the takings pay, once by its reference. `margin`: what moving the ecash may cost. False: they do
    /// not have it beside what they have promised.
    pub async fn fund_balance(
        &self,
        new: NewMove,
        from: BookAccount,
        margin: Sats,
    ) -> Result<bool, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            let door = Door::of(tx);
            let is_known = balance_move(&door, &new.reference)?.is_some();
            let is_there = is_known || covers(tx, new.amount, margin)?;
            if is_there {
                credit(&door, &new, from, wall)?;
            }
            Ok(is_there)
        })
        .await
    }
}

/// Whether the router may promise this beside what it has promised.
pub(super) fn may_buy(
    tx: &Transaction,
    new: &NewBuy,
    paid: Kes,
    wall: UnixSeconds,
) -> Result<Option<NoBuy>, StoreError> {
    let door = Door::of(tx);
    let since = number(wall.0.saturating_sub(DAY))?;
    let today = door.query(
        "SELECT COALESCE(SUM(o.amount), 0) FROM buys b JOIN orders o ON o.tenant = $1 AND o.id = b.order_id
         WHERE b.tenant = $1 AND o.at > $2 AND o.state != 'failed'",
        &[since.into()],
    )?;
    let today = today.first().ok_or(StoreError::Gone)?.count(0)?;
    if today.saturating_add(paid.0) > new.day_max.0 {
        return Ok(Some(NoBuy::DayLimit));
    }
    Ok((!covers(tx, new.amount, new.margin)?).then_some(NoBuy::FloatTooSmall))
}

/// Refuses what leaves less than was promised, but for what is on its way to the balances already.
pub(super) fn keep_promises(tx: &Transaction, margin: Sats) -> Result<(), StoreError> {
    let on_its_way: i64 = tx.query_row(
        "SELECT COALESCE(SUM(amount), 0) FROM wallet_ops WHERE purse = 'house' AND kind = 'send' AND state = 'open'
             AND reference LIKE 'balance:backing:%'",
        [],
        |row| row.get(0),
    )?;
    let promised = promised_with(tx, Msats(0))?.0;
    let promised = Sats(promised.saturating_sub(u64::try_from(on_its_way).unwrap_or(0)));
    match promised == Sats(0) || number(promised.0.saturating_add(margin.0))? <= float(tx)? {
        true => Ok(()),
        false => Err(StoreError::Promised(promised)),
    }
}

/// Whether the takings hold this at one mint, beside what was promised.
fn covers(tx: &Transaction, amount: Msats, margin: Sats) -> Result<bool, StoreError> {
    let needed = promised_with(tx, amount)?.0.saturating_add(margin.0);
    Ok(number(needed)? <= float(tx)?)
}

/// This, what balances lack already, and what open orders have promised.
fn promised_with(tx: &Transaction, amount: Msats) -> Result<Sats, StoreError> {
    let promised = Door::of(tx).query(
        "SELECT COALESCE(SUM(b.msat), 0) FROM buys b JOIN orders o ON o.tenant = $1 AND o.id = b.order_id
         WHERE b.tenant = $1 AND o.state IN ('created', 'sending', 'pending', 'unknown')",
        &[],
    )?;
    let promised = promised.first().ok_or(StoreError::Gone)?.count(0)?.saturating_add(amount.0);
    Ok(Sats(promised.div_ceil(1000).saturating_add(missing_backing(tx)?.0)))
}

/// What the takings have at the mint that holds most.
fn float(tx: &Transaction) -> Result<i64, StoreError> {
    let float = tx.query_row(
        "SELECT COALESCE(MAX(sum), 0) FROM (SELECT SUM(p.amount) AS sum FROM proofs p
             JOIN wallet_keysets k ON k.id = p.keyset WHERE k.purse = 'house' AND p.op IS NULL GROUP BY k.mint)",
        [],
        |row| row.get(0),
    );
    Ok(float?)
}

pub(super) fn note_buy(door: &Door, order: &str, new: &NewBuy) -> Result<(), StoreError> {
    let values = [
        order.into(),
        new.account.as_str().into(),
        number(new.amount.0)?.into(),
        number(new.rate)?.into(),
        number(new.spread_bp)?.into(),
    ];
    door.execute(
        "INSERT INTO buys (tenant, order_id, account, msat, rate, spread_bp) VALUES ($1, $2, $3, $4, $5, $6)",
        &values,
    )
    .map(drop)
}

/// An order is paid, and its balance has what it promised: it is at its end.
pub(super) fn settle_buy(door: &Door, row: &OrderRow, wall: UnixSeconds) -> Result<(), StoreError> {
    let promised = buy(door, &row.id)?.ok_or_else(|| StoreError::unreadable("of an order"))?;
    let sold = (BookAccount::Trading, BookAccount::Orders);
    book(door, &format!("{}/sold", row.id), sold, row.amount.0, &row.id, wall)?;
    let new = NewMove {
        account: promised.account,
        reference: format!("{BUY}:{}", row.id),
        kind: BUY,
        amount: promised.amount,
        detail: String::new(),
    };
    credit(door, &new, BookAccount::Trading, wall)?;
    door.execute(
        "UPDATE orders SET state = 'granted' WHERE tenant = $1 AND id = $2",
        &[row.id.as_str().into()],
    )?;
    note_step(door, &row.id, OrderState::Granted, "0", wall)?;
    close(door, &row.id)
}

fn buy(door: &Door, order: &str) -> Result<Option<BuyRow>, StoreError> {
    let found =
        door.query("SELECT account, msat FROM buys WHERE tenant = $1 AND order_id = $2", &[order.into()])?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some(BuyRow { account: row.text(0)?.to_owned(), amount: Msats(row.count(1)?) }))
}
