//! What is held for accounts of the wallet API, and every change of it: one commit with its entries in the books, once by its
//! reference. Refused: to take more than there is.
//!
//! What leaves a balance is reserved first, and is settled or given back later. The sum of all balances is what the books have
//! under `customers`, that of what is reserved what they have under `customers_held`.

use super::door::{Door, DoorRow};
use super::ledger::{book_in, BookAccount, MSAT};
use super::values::number;
use super::{Store, StoreError};
use crate::units::{Msats, Sats, UnixSeconds};
use rusqlite::Transaction;

/// Rows that one transaction removes.
const AT_ONCE: i64 = 64;
const DAY: u64 = 86_400;
/// Debits of an account in a day: one satoshi that goes out and comes back again and again must not fill the flash.
const MOST_A_DAY: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveState {
    /// Reserved; its outcome is not known.
    Held,
    Done,
    /// It did not take place, and the balance has it back.
    Returned,
}

impl MoveState {
    const ALL: [MoveState; 3] = [MoveState::Held, MoveState::Done, MoveState::Returned];

    pub fn as_str(self) -> &'static str {
        match self {
            MoveState::Held => "held",
            MoveState::Done => "done",
            MoveState::Returned => "returned",
        }
    }
}

/// What is to be done to a balance.
#[derive(Clone, Debug)]
pub struct NewMove {
    /// The key of the account's wallet, in hex.
    pub account: String,
    /// What it is known by, for good.
    pub reference: String,
    /// `invoice`, `send`, `token`, `buy`, `sell`, ...
    pub kind: &'static str,
    pub amount: Msats,
    /// What its kind keeps of it, as JSON; or empty.
    pub detail: String,
}

/// A change of a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceMove {
    pub reference: String,
    /// Grows with each change.
    pub seq: i64,
    pub account: String,
    pub kind: String,
    pub is_debit: bool,
    pub state: MoveState,
    /// What came, or what was reserved.
    pub amount: Msats,
    /// What a debit that is done has cost.
    pub cost: Msats,
    pub detail: String,
    pub at: UnixSeconds,
    /// What its account has asked for it by, if it has.
    pub asked: Option<String>,
}

/// What came of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    New(BalanceMove),
    /// It was made before, perhaps by another account.
    Known(BalanceMove),
    /// Only this much may be spent.
    TooLittle(Msats),
    /// With it, more than the account may spend in a day, or more often.
    DayLimit,
}

const COLUMNS: &str = "reference, seq, account, kind, is_debit, state, msat, cost, detail, at, asked";

impl Store {
    /// What an account may spend, and what is reserved.
    pub async fn balance_of(&self, account: String) -> Result<(Msats, Msats), StoreError> {
        self.read(move |tx| balance_of(&Door::of(tx), &account)).await
    }

    /// See [`credit`].
    pub async fn credit_balance(&self, new: NewMove, from: BookAccount) -> Result<bool, StoreError> {
        let wall = self.wall();
        self.write(move |tx| credit(&Door::of(tx), &new, from, wall)).await
    }

    /// See [`reserve`]. `asked`: the payment that is known by it to its account is answered instead.
    pub async fn reserve_balance(
        &self,
        new: NewMove,
        asked: Option<String>,
        day_max: Option<Msats>,
    ) -> Result<Reserved, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(asked) = asked else { return reserve(&door, &new, day_max, wall) };
            if let Some(known) = payment_asked(&door, &new.account, &asked)? {
                return Ok(Reserved::Known(known));
            }
            let reserved = reserve(&door, &new, day_max, wall)?;
            if let Reserved::New(row) = &reserved {
                door.execute(
                    "UPDATE balance_moves SET asked = $3 WHERE tenant = $1 AND reference = $2",
                    &[row.reference.as_str().into(), asked.as_str().into()],
                )?;
            }
            Ok(reserved)
        })
        .await
    }

    /// The payment of an account in whose detail this is `asked`.
    pub async fn payment_asked(
        &self,
        account: String,
        asked: String,
    ) -> Result<Option<BalanceMove>, StoreError> {
        self.read(move |tx| payment_asked(&Door::of(tx), &account, &asked)).await
    }

    /// See [`settle`].
    pub async fn settle_balance(
        &self,
        reference: String,
        cost: Msats,
        to: BookAccount,
    ) -> Result<bool, StoreError> {
        let wall = self.wall();
        self.write(move |tx| settle(&Door::of(tx), &reference, cost, to, wall)).await
    }

    /// See [`give_back`].
    pub async fn give_balance_back(&self, reference: String) -> Result<bool, StoreError> {
        let wall = self.wall();
        self.write(move |tx| give_back(&Door::of(tx), &reference, wall)).await
    }

    pub async fn balance_move(&self, reference: String) -> Result<Option<BalanceMove>, StoreError> {
        self.read(move |tx| balance_move(&Door::of(tx), &reference)).await
    }

    /// An account's changes, the newest first, those before `before`.
    pub async fn balance_moves(
        &self,
        account: String,
        before: i64,
        most: u32,
    ) -> Result<Vec<BalanceMove>, StoreError> {
        self.read(move |tx| {
            let statement = format!(
                "SELECT {COLUMNS} FROM balance_moves WHERE tenant = $1 AND account = $2 AND seq < $3
                 ORDER BY seq DESC LIMIT $4"
            );
            let values = [account.into(), before.into(), i64::from(most).into()];
            Door::of(tx).query(&statement, &values)?.iter().map(row_of).collect()
        })
        .await
    }

    /// Reservations of these kinds that are not over, the oldest first.
    pub async fn held_moves(&self, kinds: &'static [&'static str]) -> Result<Vec<BalanceMove>, StoreError> {
        self.read(move |tx| {
            let statement = format!(
                "SELECT {COLUMNS} FROM balance_moves WHERE tenant = $1 AND state = 'held' ORDER BY seq"
            );
            let rows: Result<Vec<_>, StoreError> =
                Door::of(tx).query(&statement, &[])?.iter().map(row_of).collect();
            Ok(rows?.into_iter().filter(|row| kinds.contains(&row.kind.as_str())).collect())
        })
        .await
    }

    /// Whether anything is, or was, held for anybody.
    pub async fn has_balances(&self) -> Result<bool, StoreError> {
        self.read(|tx| {
            let door = Door::of(tx);
            let held = door.query("SELECT 1 FROM balances WHERE tenant = $1 LIMIT 1", &[])?;
            let due = door.query("SELECT 1 FROM topups WHERE tenant = $1 AND state = 'open' AND account != '' LIMIT 1", &[])?;
            let open = "SELECT COUNT(*) FROM wallet_ops WHERE purse = 'balances' AND state IN ('open', 'cancelling')";
            let open: i64 = tx.query_row(open, [], |row| row.get(0))?;
            Ok(!held.is_empty() || !due.is_empty() || open > 0)
        })
        .await
    }

    /// What the balances' seed lacks of what is owed. What payments hold is left out on both sides: it may be gone already.
    pub async fn missing_backing(&self) -> Result<Sats, StoreError> {
        self.read(missing_backing).await
    }

    /// Forgets changes that were over before this, but for the newest of all.
    pub async fn forget_balance_moves(&self, before: UnixSeconds) -> Result<(), StoreError> {
        let before = number(before.0)?;
        loop {
            let removed = self.write(move |tx| {
                Door::of(tx).execute(
                    "DELETE FROM balance_moves WHERE tenant = $1 AND seq IN
                         (SELECT seq FROM balance_moves WHERE tenant = $1 AND state != 'held' AND at < $2
                          AND seq < (SELECT MAX(seq) FROM balance_moves WHERE tenant = $1) ORDER BY seq LIMIT $3)",
                    &[before.into(), AT_ONCE.into()],
                )
            });
            if i64::try_from(removed.await?).unwrap_or(i64::MAX) < AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// What the balances' seed lacks, see [`Store::missing_backing`].
pub(super) fn missing_backing(tx: &Transaction) -> Result<Sats, StoreError> {
    let owed = Door::of(tx).query(
        "SELECT (SELECT COALESCE(SUM(msat), 0) FROM balances WHERE tenant = $1)
              + (SELECT COALESCE(SUM(msat), 0) FROM balance_moves
                 WHERE tenant = $1 AND state = 'held' AND kind != 'send')",
        &[],
    )?;
    let owed = owed.first().ok_or(StoreError::Gone)?.count(0)?;
    let there: i64 = tx.query_row(
        "SELECT COALESCE(SUM(p.amount), 0) FROM proofs p JOIN wallet_keysets k ON k.id = p.keyset
         LEFT JOIN wallet_ops o ON o.id = p.op
         WHERE k.purse = 'balances' AND (o.kind IS NULL OR o.kind = 'swap')",
        [],
        |row| row.get(0),
    )?;
    Ok(Sats(owed.div_ceil(1000).saturating_sub(u64::try_from(there).unwrap_or(0))))
}

/// Adds to a balance what comes out of an account of the books. False: it was added before.
pub(super) fn credit(
    door: &Door,
    new: &NewMove,
    from: BookAccount,
    wall: UnixSeconds,
) -> Result<bool, StoreError> {
    if balance_move(door, &new.reference)?.is_some() {
        return Ok(false);
    }
    note(door, new, (false, MoveState::Done), wall)?;
    change(door, &new.account, signed(new.amount)?, 0)?;
    enter(door, &new.reference, "in", (from, BookAccount::Customers), new.amount, wall)?;
    Ok(true)
}

/// Reserves what a balance is to pay. `day_max`: what the account may spend within a day, this included.
pub(super) fn reserve(
    door: &Door,
    new: &NewMove,
    day_max: Option<Msats>,
    wall: UnixSeconds,
) -> Result<Reserved, StoreError> {
    if let Some(known) = balance_move(door, &new.reference)? {
        return Ok(Reserved::Known(known));
    }
    let (free, _) = balance_of(door, &new.account)?;
    if new.amount > free {
        return Ok(Reserved::TooLittle(free));
    }
    if let Some(most) = day_max {
        let since = number(wall.0.saturating_sub(DAY))?;
        let spent = door.query(
            "SELECT COALESCE(SUM(CASE WHEN state = 'held' THEN msat ELSE cost END), 0), COUNT(*) FROM balance_moves
             WHERE tenant = $1 AND account = $2 AND is_debit = 1 AND at > $3",
            &[new.account.as_str().into(), since.into()],
        )?;
        let spent = spent.first().ok_or(StoreError::Gone)?;
        if spent.count(0)?.saturating_add(new.amount.0) > most.0 || spent.count(1)? >= MOST_A_DAY {
            return Ok(Reserved::DayLimit);
        }
    }
    note(door, new, (true, MoveState::Held), wall)?;
    let amount = signed(new.amount)?;
    change(door, &new.account, amount.saturating_neg(), amount)?;
    let held = (BookAccount::Customers, BookAccount::CustomersHeld);
    enter(door, &new.reference, "held", held, new.amount, wall)?;
    let made = balance_move(door, &new.reference)?;
    made.map(Reserved::New).ok_or(StoreError::Gone)
}

/// What was reserved has been spent, at this cost; the rest goes back. False: it was over before.
pub(super) fn settle(
    door: &Door,
    reference: &str,
    cost: Msats,
    to: BookAccount,
    wall: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(row) = end(door, reference, MoveState::Done, cost)? else { return Ok(false) };
    // More than was reserved is the house's.
    let cost = cost.min(row.amount);
    let rest = Msats(row.amount.0.saturating_sub(cost.0));
    change(door, &row.account, signed(rest)?, signed(row.amount)?.saturating_neg())?;
    enter(door, reference, "done", (BookAccount::CustomersHeld, to), cost, wall)?;
    enter(door, reference, "rest", (BookAccount::CustomersHeld, BookAccount::Customers), rest, wall)?;
    Ok(true)
}

/// What was reserved was not spent, and never will be. False: it was over before.
pub(super) fn give_back(door: &Door, reference: &str, wall: UnixSeconds) -> Result<bool, StoreError> {
    let Some(row) = end(door, reference, MoveState::Returned, Msats(0))? else { return Ok(false) };
    let amount = signed(row.amount)?;
    change(door, &row.account, amount, amount.saturating_neg())?;
    let back = (BookAccount::CustomersHeld, BookAccount::Customers);
    enter(door, reference, "back", back, row.amount, wall)?;
    Ok(true)
}

/// What is known of a reference.
pub(super) fn balance_move(door: &Door, reference: &str) -> Result<Option<BalanceMove>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM balance_moves WHERE tenant = $1 AND reference = $2");
    door.query(&statement, &[reference.into()])?.first().map(row_of).transpose()
}

fn payment_asked(door: &Door, account: &str, asked: &str) -> Result<Option<BalanceMove>, StoreError> {
    let statement =
        format!("SELECT {COLUMNS} FROM balance_moves WHERE tenant = $1 AND account = $2 AND asked = $3");
    door.query(&statement, &[account.into(), asked.into()])?.first().map(row_of).transpose()
}

fn balance_of(door: &Door, account: &str) -> Result<(Msats, Msats), StoreError> {
    let found = door.query(
        "SELECT msat, held_msat FROM balances WHERE tenant = $1 AND account = $2",
        &[account.into()],
    )?;
    found.first().map_or(Ok((Msats(0), Msats(0))), |row| Ok((Msats(row.count(0)?), Msats(row.count(1)?))))
}

/// Ends a reservation; what it was.
fn end(
    door: &Door,
    reference: &str,
    state: MoveState,
    cost: Msats,
) -> Result<Option<BalanceMove>, StoreError> {
    let ended = door.execute(
        "UPDATE balance_moves SET state = $3, cost = $4 WHERE tenant = $1 AND reference = $2 AND state = 'held'",
        &[reference.into(), state.as_str().into(), signed(cost)?.into()],
    )?;
    match ended {
        1 => balance_move(door, reference),
        _ => Ok(None),
    }
}

fn note(
    door: &Door,
    new: &NewMove,
    (is_debit, state): (bool, MoveState),
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    let cost = if is_debit { Msats(0) } else { new.amount };
    let values = [
        new.reference.as_str().into(),
        new.account.as_str().into(),
        new.kind.into(),
        i64::from(is_debit).into(),
        state.as_str().into(),
        signed(new.amount)?.into(),
        signed(cost)?.into(),
        new.detail.as_str().into(),
        number(wall.0)?.into(),
    ];
    door.execute(
        "INSERT INTO balance_moves (tenant, reference, seq, account, kind, is_debit, state, msat, cost, detail, at)
         SELECT $1, $2, COALESCE(MAX(seq), 0) + 1, $3, $4, $5, $6, $7, $8, $9, $10
         FROM balance_moves WHERE tenant = $1",
        &values,
    )
    .map(drop)
}

/// Adds to what may be spent, and to what is reserved. A balance is never below zero.
fn change(door: &Door, account: &str, free: i64, held: i64) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO balances (tenant, account, msat, held_msat) VALUES ($1, $2, 0, 0)
         ON CONFLICT (tenant, account) DO NOTHING",
        &[account.into()],
    )?;
    let changed = door.execute(
        "UPDATE balances SET msat = msat + $3, held_msat = held_msat + $4
         WHERE tenant = $1 AND account = $2 AND msat + $3 >= 0 AND held_msat + $4 >= 0",
        &[account.into(), free.into(), held.into()],
    )?;
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::unreadable("balance")),
    }
}

fn enter(
    door: &Door,
    reference: &str,
    step: &str,
    accounts: (BookAccount, BookAccount),
    amount: Msats,
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    match amount {
        Msats(0) => Ok(()),
        _ => book_in(MSAT, door, &format!("{reference}/{step}"), accounts, amount.0, reference, wall),
    }
}

fn signed(amount: Msats) -> Result<i64, StoreError> {
    number(amount.0)
}

fn row_of(row: &DoorRow) -> Result<BalanceMove, StoreError> {
    let state = row.text(5)?;
    let state = MoveState::ALL.into_iter().find(|known| known.as_str() == state);
    Ok(BalanceMove {
        reference: row.text(0)?.to_owned(),
        seq: row.number(1)?,
        account: row.text(2)?.to_owned(),
        kind: row.text(3)?.to_owned(),
        is_debit: row.number(4)? != 0,
        state: state.ok_or_else(|| StoreError::unreadable("state"))?,
        amount: Msats(row.count(6)?),
        cost: Msats(row.count(7)?),
        detail: row.text(8)?.to_owned(),
        at: UnixSeconds(row.count(9)?),
        asked: row.filled(10).map(|_| row.text(10).map(str::to_owned)).transpose()?,
    })
}
