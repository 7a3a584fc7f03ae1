//! What stands behind vouchers as far as it is written down here, to be compared with what their mints know; and what such a
//! comparison brings to an end. Each end is conditional on what it was found to be, so that it is one only.

use super::door::Door;
use super::locked::{note_voucher, proofs_of, rows, set_state, LockedRow, LockedState};
use super::reservations::{reserve_voucher_again, When};
use super::{Store, StoreAnswer, StoreError};
use crate::config::Tenant;
use crate::units::UnixSeconds;

/// A voucher, and its ecash.
#[derive(Clone, Debug)]
pub struct BehindRow {
    pub id: String,
    pub batch: String,
    /// The voucher's own.
    pub state: String,
    pub error: String,
    pub changed_at: UnixSeconds,
    /// `None`: nothing stands behind it, or nothing is planned yet.
    pub locked: Option<LockedRow>,
    /// What its mint knows its ecash by, and the keyset of each.
    pub proofs: Vec<(String, String)>,
}

impl Store {
    /// Those of these vouchers that ecash stands behind, or is to.
    pub fn behind(&self, tenant: &Tenant, ids: Vec<String>) -> StoreAnswer<Vec<BehindRow>> {
        let tenant = tenant.clone();
        self.read(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let mut all = Vec::new();
            for id in ids {
                all.extend(behind(&door, id)?);
            }
            Ok(all)
        })
    }

    /// A voucher's ecash was spent by somebody else, so it is good no more: `refunded` or `failed`. False: it is not as it was.
    pub fn spent_elsewhere(
        &self,
        tenant: &Tenant,
        id: &str,
        (becomes, code): (&'static str, &'static str),
    ) -> StoreAnswer<bool> {
        let (tenant, id, at) = (tenant.clone(), id.to_owned(), self.wall());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let is_taken = proofs_of(&door, "voucher = $2", &id)?.iter().any(|proof| proof.is_taken);
            let row = rows(&door, "id = $2", &id)?.pop();
            if is_taken || !row.is_some_and(|row| row.state == LockedState::Ready) {
                return Ok(false);
            }
            set_state(&door, &id, LockedState::Lost, at)?;
            door.execute(
                "UPDATE locked_proofs SET state = 'taken', c = '', dleq = '' WHERE tenant = $1 AND voucher = $2",
                &[id.as_str().into()],
            )?;
            note_voucher(&door, &id, &["ready", "expired"], becomes, Some(code), at)?;
            Ok(true)
        })
    }

    /// A batch was paid for after it was given up: its vouchers are to be had after all. False: it is not given up.
    pub fn funding_reopened(&self, tenant: &Tenant, batch: &str) -> StoreAnswer<bool> {
        let (tenant, batch, when) = (tenant.clone(), batch.to_owned(), self.when());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            reopen(&door, &batch, when)
        })
    }
}

/// What was given up as not paid may be paid after all.
pub(super) fn reopen(door: &Door<'_>, batch: &str, when: When) -> Result<bool, StoreError> {
    let opened = door.execute(
        "UPDATE fundings SET state = 'open', changed_at = $3
         WHERE tenant = $1 AND batch = $2 AND state = 'expired'",
        &[batch.into(), when.wall.into()],
    )?;
    if opened != 1 {
        return Ok(false);
    }
    for row in rows(door, "batch = $2 AND state = 'failed'", batch)? {
        set_state(door, &row.id, LockedState::Awaiting, when.wall)?;
        if note_voucher(door, &row.id, &["failed"], "awaiting_payment", None, when.wall)? {
            reserve_voucher_again(door, &row.id, when)?;
        }
    }
    Ok(true)
}

fn behind(door: &Door<'_>, id: String) -> Result<Option<BehindRow>, StoreError> {
    let found = door.query(
        "SELECT batch, state, COALESCE(error_code, ''), changed_at FROM vouchers
         WHERE tenant = $1 AND id = $2 AND funding != 'none'",
        &[id.as_str().into()],
    )?;
    let Some(row) = found.first() else { return Ok(None) };
    let text = |column| row.text(column).map(str::to_owned);
    let (batch, state, error) = (text(0)?, text(1)?, text(2)?);
    let changed_at = UnixSeconds(row.count(3)?);
    let locked = rows(door, "id = $2", &id)?.pop();
    let proofs = proofs_of(door, "voucher = $2 AND c != ''", &id)?;
    let proofs = proofs.into_iter().map(|proof| (proof.y, proof.keyset)).collect();
    Ok(Some(BehindRow { id, batch, state, error, changed_at, locked, proofs }))
}
