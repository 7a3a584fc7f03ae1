//! Counters that only grow: where the next outputs, lock keys and operations begin. What is taken is taken for good,
//! also by an operation that came to nothing.

use super::{Owner, StoreError};
use rusqlite::{params, Transaction};

/// Whose counters those of vouchers' ecash are: it has a seed of its own, as each [`Owner`] has.
pub(super) const VOUCHERS: &str = "voucher";

pub(super) fn take_counter(
    tx: &Transaction,
    owner: &str,
    keyset: &str,
    count: u32,
) -> Result<u32, StoreError> {
    let next: u32 = tx.query_row(
        "INSERT INTO counters (owner, keyset, next) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET next = next + ?3 RETURNING next",
        params![owner, keyset, count],
        |row| row.get(0),
    )?;
    // Derivation indices end at 2^31 (BIP 32).
    if next > 0x7fff_ffff {
        return Err(StoreError::CounterExhausted);
    }
    Ok(next.saturating_sub(count))
}

/// The next operation's number. SQLite would give away again that of one whose row is gone, and a look at a mint that was under
/// way meanwhile would then end another operation.
pub(super) fn new_operation_number(tx: &Transaction) -> Result<i64, StoreError> {
    let next: i64 = tx.query_row(
        "INSERT INTO counters (owner, keyset, next)
         VALUES (?1, 'operation', (SELECT COALESCE(MAX(id), 0) + 2 FROM wallet_ops))
         ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next",
        [Owner::House.as_str()],
        |row| row.get(0),
    )?;
    Ok(next - 1)
}

/// The next part's number: the count of all parts that ever were. SQLite would give away again that of a part that is
/// settled.
pub(super) fn new_part_number(tx: &Transaction) -> Result<i64, StoreError> {
    Ok(tx.query_row("SELECT SUM(next) FROM counters WHERE keyset = 'lock'", [], |row| row.get(0))?)
}
