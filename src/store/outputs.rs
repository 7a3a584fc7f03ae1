//! The blinded outputs of a request to a mint, as they are written down before it is sent: enough to derive them again
//! from the seed (NUT-13). Parts and operations keep them in the same form.
//!
//! As a column, each set is a line `keyset counter amount,amount`; the newest is last.

use super::counters::take_counter;
use super::StoreError;
use rusqlite::Transaction;

/// One set of blinded outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputsRow {
    /// Text of the keyset id.
    pub keyset: String,
    /// Of the first one; the others follow.
    pub counter: u32,
    pub amounts: Vec<u64>,
}

impl OutputsRow {
    /// Takes fresh counters of the owner's seed, `skip` further on.
    pub(super) fn take(
        tx: &Transaction,
        owner: &str,
        keyset: &str,
        amounts: &[u64],
        skip: u32,
    ) -> Result<OutputsRow, StoreError> {
        if skip > 0 {
            take_counter(tx, owner, keyset, skip)?;
        }
        let count = u32::try_from(amounts.len()).map_err(|_| StoreError::CounterExhausted)?;
        let counter = take_counter(tx, owner, keyset, count)?;
        Ok(OutputsRow { keyset: keyset.to_owned(), counter, amounts: amounts.to_vec() })
    }

    /// The line to append to the column.
    pub(super) fn to_line(&self) -> String {
        let amounts: Vec<_> = self.amounts.iter().map(u64::to_string).collect();
        format!("{} {} {}\n", self.keyset, self.counter, amounts.join(","))
    }

    fn from_line(line: &str) -> Option<OutputsRow> {
        let (keyset, rest) = line.split_once(' ')?;
        let (counter, amounts) = rest.split_once(' ')?;
        let amounts = amounts
            .split(',')
            .filter(|amount| !amount.is_empty())
            .map(|amount| amount.parse().ok())
            .collect::<Option<_>>()?;
        Some(OutputsRow { keyset: keyset.to_owned(), counter: counter.parse().ok()?, amounts })
    }
}

/// All sets of a column.
pub(super) fn outputs_of(column: &str) -> Result<Vec<OutputsRow>, StoreError> {
    let sets: Option<_> = column.lines().map(OutputsRow::from_line).collect();
    sets.ok_or_else(|| StoreError::unreadable("outputs"))
}
