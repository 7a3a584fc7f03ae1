//! The books: double entry, a transaction is a set of entries whose sum is zero in each unit. Refused: one that is not.
//!
//! A transaction is known by its name, and is written once: the same again is an error of the program, and undoes the commit
//! that would have written it.

use super::door::{Door, DoorRow};
use super::{Store, StoreAnswer, StoreError};
use crate::units::UnixSeconds;

/// What entries older than a moment are summed up under.
const CARRIED: &str = "carried";

/// An account of the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookAccount {
    /// What customers have paid in, at the short code.
    MpesaUtility,
    /// What is owed to orders that are paid and not served.
    Orders,
    /// What is owed to guests who have left.
    Claims,
    AccessSales,
    /// Money that belongs to no order.
    Suspense,
    /// What is held for accounts of the wallet API: the ecash of their seed.
    Customers,
    /// The same, reserved for what is under way.
    CustomersHeld,
    /// What came in and went out by Lightning for those accounts,
    Lightning,
    /// and what went out as tokens.
    Tokens,
    /// The takings, as far as they go into balances.
    EcashFloat,
    /// What was exchanged, in both units.
    Trading,
    /// The account of the short code that pays out,
    MpesaB2c,
    /// and the account with the seller of airtime.
    Airtime,
}

impl BookAccount {
    pub fn as_str(self) -> &'static str {
        match self {
            BookAccount::MpesaUtility => "mpesa_utility",
            BookAccount::Orders => "orders",
            BookAccount::Claims => "claims",
            BookAccount::AccessSales => "access_sales",
            BookAccount::Suspense => "suspense",
            BookAccount::Customers => "customers",
            BookAccount::CustomersHeld => "customers_held",
            BookAccount::Lightning => "lightning",
            BookAccount::Tokens => "tokens",
            BookAccount::EcashFloat => "ecash_float",
            BookAccount::Trading => "trading",
            BookAccount::MpesaB2c => "mpesa_b2c",
            BookAccount::Airtime => "airtime",
        }
    }
}

/// The unit of shillings in the books.
pub const KES: &str = "KES";
/// The unit of ecash in the books.
pub const MSAT: &str = "msat";

/// An account and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookBalance {
    pub account: String,
    pub unit: String,
    pub balance: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookEntry {
    pub txn: String,
    pub account: String,
    pub unit: String,
    pub delta: i64,
    pub order: String,
    pub at: UnixSeconds,
}

impl Store {
    /// What is in every account, and the newest entries.
    pub fn books(&self, most: u32) -> StoreAnswer<(Vec<BookBalance>, Vec<BookEntry>)> {
        self.read(move |tx| {
            let door = Door::of(tx);
            let sums = door.query(
                "SELECT account, unit, CAST(SUM(delta) AS BIGINT) FROM ledger WHERE tenant = $1
                 GROUP BY account, unit ORDER BY account, unit",
                &[],
            )?;
            let balance = |row: &DoorRow| {
                let (account, unit) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
                Ok(BookBalance { account, unit, balance: row.number(2)? })
            };
            let entries = door.query(
                "SELECT txn, account, unit, delta, order_id, at FROM ledger WHERE tenant = $1
                 ORDER BY at DESC, txn, account LIMIT $2",
                &[i64::from(most).into()],
            )?;
            let entry = |row: &DoorRow| {
                Ok(BookEntry {
                    txn: row.text(0)?.to_owned(),
                    account: row.text(1)?.to_owned(),
                    unit: row.text(2)?.to_owned(),
                    delta: row.number(3)?,
                    order: row.text(4)?.to_owned(),
                    at: UnixSeconds(u64::try_from(row.number(5)?).unwrap_or(0)),
                })
            };
            let balances: Result<Vec<_>, StoreError> = sums.iter().map(balance).collect();
            let entries: Result<Vec<_>, StoreError> = entries.iter().map(entry).collect();
            Ok((balances?, entries?))
        })
    }

    /// Sums up what is older than this: the balances stay.
    pub fn carry_books(&self, before: UnixSeconds) -> StoreAnswer<()> {
        let before = i64::try_from(before.0).unwrap_or(0);
        self.write(move |tx| {
            let door = Door::of(tx);
            let old = door.query(
                "SELECT 1 FROM ledger WHERE tenant = $1 AND at > 0 AND at < $2 LIMIT 1",
                &[before.into()],
            )?;
            if old.is_empty() {
                return Ok(());
            }
            let sums = door.query(
                "SELECT account, unit, CAST(SUM(delta) AS BIGINT) FROM ledger WHERE tenant = $1 AND at < $2
                 GROUP BY account, unit",
                &[before.into()],
            )?;
            door.execute("DELETE FROM ledger WHERE tenant = $1 AND at < $2", &[before.into()])?;
            for row in &sums {
                door.execute(
                    "INSERT INTO ledger (tenant, txn, account, unit, delta, order_id, at)
                     VALUES ($1, $2, $3, $4, $5, '', 0)",
                    &[CARRIED.into(), row.text(0)?.into(), row.text(1)?.into(), row.number(2)?.into()],
                )?;
            }
            Ok(())
        })
    }
}

/// Writes one transaction: an amount of shillings goes from one account to another.
pub(super) fn book(
    door: &Door,
    txn: &str,
    accounts: (BookAccount, BookAccount),
    amount: u64,
    order: &str,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    book_in(KES, door, txn, accounts, amount, order, at)
}

/// The same in any unit.
pub(super) fn book_in(
    unit: &str,
    door: &Door,
    txn: &str,
    (from, to): (BookAccount, BookAccount),
    amount: u64,
    order: &str,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    let amount = i64::try_from(amount).map_err(|_| StoreError::unreadable("amount"))?;
    let at = i64::try_from(at.0).map_err(|_| StoreError::unreadable("at"))?.max(1);
    let minus = amount.checked_neg().ok_or_else(|| StoreError::unreadable("amount"))?;
    for (account, delta) in [(to, amount), (from, minus)] {
        door.execute(
            "INSERT INTO ledger (tenant, txn, account, unit, delta, order_id, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[txn.into(), account.as_str().into(), unit.into(), delta.into(), order.into(), at.into()],
        )?;
    }
    Ok(())
}
