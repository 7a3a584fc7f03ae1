//! What there is of a tenant's vouchers: counted, and listed by pages. No row holds a code.

use super::rows::{row_of, VoucherRow, COLUMNS};
use super::VoucherState;
use crate::store::{Door, StoreError};
use crate::units::UnixSeconds;

/// Which vouchers; what is empty is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub state: String,
    pub venue: String,
    pub product: String,
    /// By the time when they were made, from and until (not any more).
    pub from: u64,
    pub until: Option<u64>,
}

/// How many are in a state, and what they cost when they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VoucherCount {
    pub vouchers: u64,
    pub sats: u64,
}

/// By state.
pub struct VoucherCounts(Vec<(VoucherState, VoucherCount)>);

impl VoucherCounts {
    pub fn of(&self, states: &[VoucherState]) -> VoucherCount {
        let found = self.0.iter().filter(|(state, _)| states.contains(state));
        found.fold(VoucherCount::default(), |sum, (_, one)| VoucherCount {
            vouchers: sum.vouchers.saturating_add(one.vouchers),
            sats: sum.sats.saturating_add(one.sats),
        })
    }

    pub fn all(&self) -> VoucherCount {
        self.of(&VoucherState::ALL)
    }
}

/// As SQL knows the state of a row now: a code that can be redeemed expires by itself. `$2` is the time.
const STATE_NOW: &str = "CASE WHEN state = 'ready' AND expires_at <= $2 THEN 'expired' ELSE state END";

/// All that are wanted, by state.
pub fn count(door: &Door, wanted: &Wanted, now: UnixSeconds) -> Result<VoucherCounts, StoreError> {
    let counted = door.query(
        &format!(
            "SELECT {STATE_NOW}, COUNT(*), COALESCE(SUM(CASE WHEN face_sat > 100000000000000 THEN 100000000000000 ELSE face_sat END), 0) FROM vouchers
             WHERE tenant = $1 AND ($3 = '' OR venue = $3) AND created_at >= $4 AND created_at < $5
             GROUP BY 1"
        ),
        &[
            now.into(),
            wanted.venue.as_str().into(),
            wanted.from.into(),
            wanted.until.unwrap_or(u64::MAX).into(),
        ],
    )?;
    let one = counted.iter().map(|row| {
        let state = row.parsed::<VoucherState>(0)?;
        Ok((state, VoucherCount { vouchers: row.count(1)?, sats: row.count(2)? }))
    });
    one.collect::<Result<_, StoreError>>().map(VoucherCounts)
}

/// The newest that are wanted, at most `most`, behind the one that `behind` names by its time and id.
pub fn page(
    door: &Door,
    wanted: &Wanted,
    behind: Option<(u64, String)>,
    most: u64,
    now: UnixSeconds,
) -> Result<Vec<VoucherRow>, StoreError> {
    let (at, id) = behind.unwrap_or((u64::MAX, String::new()));
    let found = door.query(
        &format!(
            "SELECT {COLUMNS} FROM vouchers
             WHERE tenant = $1 AND ($3 = '' OR {STATE_NOW} = $3) AND ($4 = '' OR venue = $4)
             AND ($5 = '' OR product = $5) AND (created_at < $6 OR (created_at = $6 AND id < $7))
             ORDER BY created_at DESC, id DESC LIMIT $8"
        ),
        &[
            now.into(),
            wanted.state.as_str().into(),
            wanted.venue.as_str().into(),
            wanted.product.as_str().into(),
            at.into(),
            id.into(),
            most.into(),
        ],
    )?;
    found.iter().map(row_of).collect()
}

/// How long it took from an order to a voucher that can be redeemed, on average (seconds).
pub fn average_wait(door: &Door, wanted: &Wanted) -> Result<u64, StoreError> {
    let counted = door.query(
        "SELECT COUNT(*), COALESCE(SUM(voucher_history.at - vouchers.created_at), 0) FROM vouchers
         JOIN voucher_history ON voucher_history.tenant = $1 AND voucher_history.voucher = vouchers.id
              AND voucher_history.became = 'ready'
         WHERE vouchers.tenant = $1 AND ($2 = '' OR vouchers.venue = $2)",
        &[wanted.venue.as_str().into()],
    )?;
    let Some(row) = counted.first() else { return Ok(0) };
    Ok(row.count(1)?.checked_div(row.count(0)?).unwrap_or(0))
}

/// Work that others are to be told of: how much waits, since when; and what is given up: id, voucher, cause.
pub type Jobs = (u64, Option<u64>, Vec<(String, String, String)>);

pub fn jobs(door: &Door) -> Result<Jobs, StoreError> {
    let waiting = door.query(
        "SELECT COUNT(*), MIN(created_at) FROM voucher_jobs WHERE tenant = $1 AND kind = 'notice' AND state = 'open'",
        &[],
    )?;
    let (depth, oldest) = match waiting.first() {
        Some(row) => (row.count(0)?, row.filled(1).map(|_| row.count(1)).transpose()?),
        None => (0, None),
    };
    let dead = door.query(
        "SELECT id, about, COALESCE(error_code, '') FROM voucher_jobs
         WHERE tenant = $1 AND kind = 'notice' AND state = 'dead' ORDER BY changed_at DESC LIMIT 100",
        &[],
    )?;
    let dead = dead
        .iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.text(2)?.to_owned())));
    Ok((depth, oldest, dead.collect::<Result<_, StoreError>>()?))
}
