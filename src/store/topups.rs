//! Invoices that credit a balance: written down before they are shown, with the key that locks their quote; their outputs before
//! they are claimed. Once paid and made, the ecash, the balance and the books are one commit.

use super::balances::{credit, NewMove};
use super::counters::take_counter;
use super::door::{Door, DoorRow};
use super::ledger::BookAccount;
use super::outputs::{outputs_of, OutputsRow};
use super::proofs::{add_proofs, NewProofs, PurseName};
use super::values::{mint_of, number};
use super::{Store, StoreError};
use crate::config::MintUrl;
use crate::json::json;
use crate::units::{Sats, UnixSeconds};
use rusqlite::Transaction;

/// Open ones of an account, of all that have had nothing here yet, and of those that have beside them.
const OF_ONE: u64 = 16;
const OF_STRANGERS: u64 = 256;
const OF_OTHERS: u64 = 256;
/// Rows that one transaction removes.
const AT_ONCE: i64 = 64;

/// An invoice of a balance. Debug output leaves it out.
#[derive(Clone)]
pub struct TopupRow {
    /// 64 hex digits.
    pub payment_hash: String,
    /// Empty: none, it tops the takings up.
    pub account: String,
    pub mint: MintUrl,
    pub amount: Sats,
    pub memo: String,
    /// The number of the key that locks the quote.
    pub lock: u32,
    pub quote: String,
    pub invoice: String,
    /// The newest is last.
    pub outputs: Vec<OutputsRow>,
    /// Neither paid for and made, nor given up.
    pub is_open: bool,
    pub expires_at: UnixSeconds,
}

const COLUMNS: &str =
    "payment_hash, account, mint, sats, memo, lock, quote, invoice, outputs, state, expires_at";

impl Store {
    /// A number of a key for a quote of the balances. `None`: too many invoices of the account, or of all, are open.
    pub async fn topup_lock(&self, account: String) -> Result<Option<u32>, StoreError> {
        self.write(move |tx| match has_room(&Door::of(tx), &account)? {
            true => take_counter(tx, purse_of(&account).as_str(), "quote key", 1).map(Some),
            false => Ok(None),
        })
        .await
    }

    /// Notes an invoice before it is shown. False: too many of the account's, or of all, are open.
    pub async fn topup_begin(&self, new: TopupRow) -> Result<bool, StoreError> {
        let at = self.wall();
        self.write(move |tx| {
            let door = Door::of(tx);
            if !has_room(&door, &new.account)? {
                return Ok(false);
            }
            let values = [
                new.payment_hash.as_str().into(),
                new.account.as_str().into(),
                new.mint.as_str().into(),
                number(new.amount.0)?.into(),
                new.memo.as_str().into(),
                i64::from(new.lock).into(),
                new.quote.as_str().into(),
                new.invoice.as_str().into(),
                new.expires_at.into(),
                at.into(),
            ];
            let noted = door.execute(
                "INSERT INTO topups (tenant, payment_hash, account, mint, sats, memo, lock, quote, invoice, outputs,
                     state, expires_at, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', 'open', $10, $11) ON CONFLICT DO NOTHING",
                &values,
            )?;
            match noted {
                1 => Ok(true),
                // A mint that shows an invoice of another one's.
                _ => Err(StoreError::Gone),
            }
        })
        .await
    }

    pub async fn topup(&self, payment_hash: String) -> Result<Option<TopupRow>, StoreError> {
        self.read(move |tx| topup(&Door::of(tx), &payment_hash)).await
    }

    /// Of a purse, not over.
    pub async fn open_topups(&self, purse: PurseName) -> Result<Vec<TopupRow>, StoreError> {
        self.read(move |tx| {
            let statement = format!("SELECT {COLUMNS} FROM topups WHERE tenant = $1 AND state = 'open'");
            let rows: Result<Vec<_>, StoreError> =
                Door::of(tx).query(&statement, &[])?.iter().map(row_of).collect();
            Ok(rows?.into_iter().filter(|row| purse_of(&row.account) == purse).collect())
        })
        .await
    }

    /// Takes counters for its outputs, `skip` further on; those that were taken stay on record.
    pub async fn topup_outputs(
        &self,
        payment_hash: String,
        keyset: String,
        amounts: Vec<u64>,
        skip: u32,
    ) -> Result<TopupRow, StoreError> {
        self.write(move |tx| {
            let door = Door::of(tx);
            let row = topup(&door, &payment_hash)?.ok_or(StoreError::Gone)?;
            let outputs = OutputsRow::take(tx, purse_of(&row.account).as_str(), &keyset, &amounts, skip)?;
            door.execute(
                "UPDATE topups SET outputs = outputs || $3
                 WHERE tenant = $1 AND payment_hash = $2 AND state = 'open'",
                &[payment_hash.as_str().into(), outputs.to_line().into()],
            )?;
            topup(&door, &payment_hash)?.ok_or(StoreError::Gone)
        })
        .await
    }

    /// It was paid, and its ecash is here: credited, once.
    pub async fn topup_done(&self, payment_hash: String, came: NewProofs) -> Result<(), StoreError> {
        let wall = self.wall();
        self.write(move |tx| finish(tx, &payment_hash, &came, wall)).await
    }

    /// Nobody has paid in time.
    pub async fn topup_expired(&self, payment_hash: String) -> Result<(), StoreError> {
        self.write(move |tx| close(&Door::of(tx), &payment_hash, "expired").map(drop)).await
    }

    /// Forgets those that were over before this.
    pub async fn forget_topups(&self, before: UnixSeconds) -> Result<(), StoreError> {
        let before = number(before.0)?;
        loop {
            let removed = self.write(move |tx| {
                Door::of(tx).execute(
                    "DELETE FROM topups WHERE tenant = $1 AND payment_hash IN
                         (SELECT payment_hash FROM topups WHERE tenant = $1 AND state != 'open' AND at < $2 LIMIT $3)",
                    &[before.into(), AT_ONCE.into()],
                )
            });
            if i64::try_from(removed.await?).unwrap_or(i64::MAX) < AT_ONCE {
                return Ok(());
            }
        }
    }
}

fn has_room(door: &Door, account: &str) -> Result<bool, StoreError> {
    let open = door.query(
        "SELECT COUNT(*), COUNT(*) FILTER (WHERE account = $2) FROM topups WHERE tenant = $1 AND state = 'open'",
        &[account.into()],
    )?;
    let known = door.query("SELECT 1 FROM balances WHERE tenant = $1 AND account = $2", &[account.into()])?;
    // Anybody may log in, and ask for invoices that nobody pays.
    let is_stranger = known.is_empty() && !account.is_empty();
    let most = if is_stranger { OF_STRANGERS } else { OF_STRANGERS.saturating_add(OF_OTHERS) };
    let open = open.first().ok_or(StoreError::Gone)?;
    Ok(open.count(0)? < most && open.count(1)? < OF_ONE)
}

/// Whose ecash is made: an invoice of no account is the takings'.
fn purse_of(account: &str) -> PurseName {
    match account.is_empty() {
        true => PurseName::House,
        false => PurseName::Balances,
    }
}

fn finish(
    tx: &Transaction,
    payment_hash: &str,
    came: &NewProofs,
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    let door = Door::of(tx);
    let Some(row) = topup(&door, payment_hash)?.filter(|row| row.is_open) else { return Ok(()) };
    if !close(&door, payment_hash, "paid")? {
        return Ok(());
    }
    add_proofs(tx, purse_of(&row.account), came)?;
    if row.account.is_empty() {
        return Ok(());
    }
    let amount = row.amount.to_msats().ok_or_else(|| StoreError::unreadable("amount"))?;
    let new = NewMove {
        account: row.account,
        reference: format!("invoice:{payment_hash}"),
        kind: "invoice",
        amount,
        detail: json!({"payment_hash": payment_hash, "memo": row.memo}).to_string(),
    };
    credit(&door, &new, BookAccount::Lightning, wall).map(drop)
}

fn close(door: &Door, payment_hash: &str, state: &str) -> Result<bool, StoreError> {
    let closed = "UPDATE topups SET state = $3, outputs = '' WHERE tenant = $1 AND payment_hash = $2 AND state = 'open'";
    Ok(door.execute(closed, &[payment_hash.into(), state.into()])? == 1)
}

fn topup(door: &Door, payment_hash: &str) -> Result<Option<TopupRow>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM topups WHERE tenant = $1 AND payment_hash = $2");
    door.query(&statement, &[payment_hash.into()])?.first().map(row_of).transpose()
}

fn row_of(row: &DoorRow) -> Result<TopupRow, StoreError> {
    Ok(TopupRow {
        payment_hash: row.text(0)?.to_owned(),
        account: row.text(1)?.to_owned(),
        mint: mint_of(row.text(2)?)?,
        amount: Sats(row.count(3)?),
        memo: row.text(4)?.to_owned(),
        lock: u32::try_from(row.number(5)?).map_err(|_| StoreError::unreadable("lock"))?,
        quote: row.text(6)?.to_owned(),
        invoice: row.text(7)?.to_owned(),
        outputs: outputs_of(row.text(8)?)?,
        is_open: row.text(9)? == "open",
        expires_at: UnixSeconds(row.count(10)?),
    })
}
