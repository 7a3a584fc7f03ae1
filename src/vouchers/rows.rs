//! Rows of vouchers and what becomes of them: every statement, in the caller's transaction.
//!
//! A step is conditional on the state before it, and its row count is what makes it happen once.

use super::{BatchId, CodeKey, Funding, TicketId, VoucherCode, VoucherState};
use crate::config::Tenant;
use crate::store::{
    note_notice, note_step, take_backing, ChangedState, CodeWorth, Datum, Door, DoorRow, StoreError,
};
use crate::units::{Sats, UnixSeconds};

/// Vouchers that a tenant has, ended ones too.
pub const MOST_VOUCHERS: u64 = 50_000;
/// Rows that one transaction ends or forgets.
const AT_ONCE: u64 = 128;

/// What all vouchers of one order have in common.
#[derive(Clone, Debug)]
pub struct NewBatch {
    pub id: BatchId,
    /// The id of its venue: the section's name.
    pub venue: String,
    /// The product that it is of, or empty.
    pub product: String,
    /// Whom a shop has sold it to, in its own words, or empty.
    pub owner: String,
    pub worth: CodeWorth,
    /// What one of them costs at the venue now.
    pub face: Sats,
    pub funding: Funding,
    /// Where they begin.
    pub state: VoucherState,
    pub note: String,
    pub created_by: String,
    /// Of the request that has ordered it, or empty.
    pub request_id: String,
    pub expires_at: UnixSeconds,
}

/// One voucher of an order.
#[derive(Clone, Debug)]
pub struct NewTicket {
    pub id: TicketId,
    pub code: VoucherCode,
    /// For people, like the number of a room.
    pub label: String,
    /// Where it is told what becomes of it, or empty.
    pub notify: String,
}

/// A voucher. Its code is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherRow {
    pub id: TicketId,
    pub batch: BatchId,
    pub venue: String,
    pub product: String,
    pub owner: String,
    pub worth: CodeWorth,
    pub face: Sats,
    pub funding: Funding,
    /// As it is written; see [`VoucherRow::state_at`].
    pub state: VoucherState,
    pub note: String,
    pub label: String,
    pub notify: String,
    pub created_by: String,
    pub created_at: UnixSeconds,
    pub changed_at: UnixSeconds,
    pub expires_at: UnixSeconds,
    pub redeemed_at: Option<UnixSeconds>,
    pub redeemed_by: Option<String>,
    pub error_code: Option<String>,
    /// The code, readable with the key; gone once it can be used no more.
    pub sealed: Option<String>,
}

impl VoucherRow {
    /// Its state now: one that can still be redeemed expires by itself.
    pub fn state_at(&self, now: UnixSeconds) -> VoucherState {
        match self.state {
            VoucherState::Ready if self.expires_at <= now => VoucherState::Expired,
            state => state,
        }
    }
}

/// One step of what became of a voucher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherStep {
    pub at: UnixSeconds,
    pub was: String,
    pub became: String,
    pub reason: String,
    pub who: String,
    pub request_id: String,
}

/// Why a step is taken, and by whom. None of it is a secret.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    pub at: UnixSeconds,
    pub reason: &'a str,
    pub who: &'a str,
    pub request_id: &'a str,
}

pub(super) const COLUMNS: &str =
    "id, batch, venue, product, owner, unit, amount, face_sat, funding, state, note, label, notify, \
     created_by, created_at, changed_at, expires_at, redeemed_at, redeemed_by, error_code, sealed";

/// Writes an order down. False: the tenant would have more than [`MOST_VOUCHERS`]; nothing is written then.
pub fn add_batch(
    door: &Door,
    key: (&CodeKey, &Tenant),
    batch: &NewBatch,
    tickets: &[NewTicket],
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    if !insert_batch(door, batch, u64::try_from(tickets.len()).unwrap_or(u64::MAX), now)? {
        return Ok(false);
    }
    for (position, ticket) in (0u64..).zip(tickets) {
        insert_ticket(door, key, batch, position, ticket, now)?;
    }
    Ok(true)
}

/// Writes down what all `size` vouchers of an order have in common. False: there would be too many.
pub fn insert_batch(door: &Door, batch: &NewBatch, size: u64, now: UnixSeconds) -> Result<bool, StoreError> {
    let known = door.query("SELECT COUNT(*) FROM vouchers WHERE tenant = $1", &[])?;
    let known = known.first().map_or(Ok(0), |row| row.count(0))?;
    if known.saturating_add(size) > MOST_VOUCHERS {
        return Ok(false);
    }
    door.execute(
        "INSERT INTO voucher_batches (tenant, id, venue, product, funding, state, size, face_sat, note, created_by,
                                      created_at, expires_at, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        &[
            batch.id.into(),
            batch.venue.as_str().into(),
            batch.product.as_str().into(),
            batch.funding.as_str().into(),
            batch.state.as_str().into(),
            size.into(),
            batch.face.0.into(),
            batch.note.as_str().into(),
            batch.created_by.as_str().into(),
            now.into(),
            batch.expires_at.into(),
            batch.request_id.as_str().into(),
        ],
    )?;
    Ok(true)
}

/// Writes one voucher down; what the order says of its worth may differ from that of the others.
pub fn insert_ticket(
    door: &Door,
    (key, tenant): (&CodeKey, &Tenant),
    batch: &NewBatch,
    position: u64,
    ticket: &NewTicket,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let (unit, amount) = batch.worth.parts();
    door.execute(
        "INSERT INTO vouchers (tenant, id, batch, position, hash, sealed, key_no, venue, product, owner, unit, amount,
                               face_sat, funding, state, note, label, notify, created_by, created_at, changed_at,
                               expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $21, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $19, $20)",
        &[
            ticket.id.into(),
            batch.id.into(),
            position.into(),
            key.hash(&ticket.code)?.into(),
            key.seal(tenant, ticket.id, &ticket.code)?.into(),
            batch.venue.as_str().into(),
            batch.product.as_str().into(),
            batch.owner.as_str().into(),
            unit.into(),
            amount.into(),
            batch.face.0.into(),
            batch.funding.as_str().into(),
            batch.state.as_str().into(),
            batch.note.as_str().into(),
            ticket.label.as_str().into(),
            ticket.notify.as_str().into(),
            batch.created_by.as_str().into(),
            now.into(),
            batch.expires_at.into(),
            u64::from(key.number()?).into(),
        ],
    )?;
    note_notice(door, &ticket.id.to_string(), batch.state.as_str(), None, now)
}

pub fn by_id(door: &Door, id: TicketId) -> Result<Option<VoucherRow>, StoreError> {
    let found = format!("SELECT {COLUMNS} FROM vouchers WHERE tenant = $1 AND id = $2");
    door.query(&found, &[id.into()])?.first().map(row_of).transpose()
}

/// By the keyed hashes that its code may have.
pub fn by_hashes(door: &Door, hashes: &[String]) -> Result<Option<VoucherRow>, StoreError> {
    let found = format!("SELECT {COLUMNS} FROM vouchers WHERE tenant = $1 AND hash = $2");
    for hash in hashes {
        if let Some(row) = door.query(&found, &[hash.as_str().into()])?.first() {
            return row_of(row).map(Some);
        }
    }
    Ok(None)
}

/// All of one order, in its order.
pub fn of_batch(door: &Door, batch: BatchId) -> Result<Vec<VoucherRow>, StoreError> {
    let found = format!("SELECT {COLUMNS} FROM vouchers WHERE tenant = $1 AND batch = $2 ORDER BY position");
    door.query(&found, &[batch.into()])?.iter().map(row_of).collect()
}

/// The newest first, those behind the first `skip`, and how many there are in all.
pub fn newest(door: &Door, skip: u64, most: u64) -> Result<(Vec<VoucherRow>, u64), StoreError> {
    let found = format!(
        "SELECT {COLUMNS} FROM vouchers WHERE tenant = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3"
    );
    let rows = door.query(&found, &[most.into(), skip.into()])?;
    let counted = door.query("SELECT COUNT(*) FROM vouchers WHERE tenant = $1", &[])?;
    let total = counted.first().map_or(Ok(0), |row| row.count(0))?;
    Ok((rows.iter().map(row_of).collect::<Result<_, _>>()?, total))
}

/// Takes a voucher from one of these states to another; false: it is in none of them. What can be used no more has no code.
pub fn change(
    door: &Door,
    id: TicketId,
    from: &[VoucherState],
    to: VoucherState,
    cause: Cause,
) -> Result<bool, StoreError> {
    let Some(row) = by_id(door, id)?.filter(|row| from.contains(&row.state)) else { return Ok(false) };
    // Its ecash goes back into the takings, unless it was taken as a token just now.
    if to == VoucherState::Revoked && !take_backing(door, &id.to_string(), cause.at)? {
        return Ok(false);
    }
    let changed = door.execute(
        "UPDATE vouchers SET state = $3, changed_at = $4, sealed = CASE WHEN $5 = 1 THEN NULL ELSE sealed END
         WHERE tenant = $1 AND id = $2 AND state = $6",
        &[
            id.into(),
            to.as_str().into(),
            cause.at.into(),
            u64::from(to.is_final()).into(),
            row.state.as_str().into(),
        ],
    )?;
    if changed == 1 {
        note(door, id, row.state, to, cause)?;
    }
    Ok(changed == 1)
}

/// Uses a code; false: it is not ready, or is over. The caller grants what it is worth in the same transaction.
pub fn redeem(door: &Door, row: &VoucherRow, by: &str, cause: Cause) -> Result<bool, StoreError> {
    let used = door.execute(
        "UPDATE vouchers SET state = 'redeemed', changed_at = $3, redeemed_at = $3, redeemed_by = $4, sealed = NULL
         WHERE tenant = $1 AND id = $2 AND state = 'ready' AND expires_at > $3",
        &[row.id.into(), cause.at.into(), by.into()],
    )?;
    if used == 1 {
        note(door, row.id, VoucherState::Ready, VoucherState::Redeemed, cause)?;
    }
    if used == 1 && !take_backing(door, &row.id.to_string(), cause.at)? {
        return Err(StoreError::Gone);
    }
    Ok(used == 1)
}

/// What became of a voucher, oldest first; that it was ordered is the first step.
pub fn history(door: &Door, row: &VoucherRow) -> Result<Vec<VoucherStep>, StoreError> {
    let steps = door.query(
        "SELECT at, was, became, reason, who, request_id FROM voucher_history WHERE tenant = $1 AND voucher = $2
         ORDER BY seq",
        &[row.id.into()],
    )?;
    let began = steps.first().map_or(Ok(row.state.as_str()), |step| step.text(1))?.to_owned();
    let orders = door
        .query("SELECT request_id FROM voucher_batches WHERE tenant = $1 AND id = $2", &[row.batch.into()])?;
    let made = VoucherStep {
        at: row.created_at,
        was: String::new(),
        became: began,
        reason: String::new(),
        who: row.created_by.clone(),
        request_id: orders.first().map_or(Ok(""), |order| order.text(0))?.to_owned(),
    };
    let steps = steps.iter().map(|step| {
        Ok(VoucherStep {
            at: UnixSeconds(step.count(0)?),
            was: step.text(1)?.to_owned(),
            became: step.text(2)?.to_owned(),
            reason: step.text(3)?.to_owned(),
            who: step.text(4)?.to_owned(),
            request_id: step.text(5)?.to_owned(),
        })
    });
    std::iter::once(Ok(made)).chain(steps).collect()
}

/// Ends some of what has expired, so that its code goes; answers how many.
pub fn expire_some(door: &Door, now: UnixSeconds) -> Result<u64, StoreError> {
    let over = door.query(
        "SELECT id FROM vouchers WHERE tenant = $1 AND state = 'ready' AND expires_at <= $2 LIMIT $3",
        &[now.into(), AT_ONCE.into()],
    )?;
    let cause = Cause { at: now, reason: "expired", who: "", request_id: "" };
    for row in &over {
        change(door, row.parsed(0)?, &[VoucherState::Ready], VoucherState::Expired, cause)?;
    }
    Ok(u64::try_from(over.len()).unwrap_or(u64::MAX))
}

/// Forgets some of what has ended before `since`, with its history; answers how many.
pub fn forget_some(door: &Door, since: UnixSeconds) -> Result<u64, StoreError> {
    let old = door.query(
        "SELECT id FROM vouchers WHERE tenant = $1 AND changed_at < $2
         AND state IN ('redeemed', 'failed', 'expired', 'revoked', 'refunded')
         AND NOT EXISTS (SELECT 1 FROM locked WHERE tenant = $1 AND id = vouchers.id
                         AND state NOT IN ('swapped', 'lost', 'failed')) LIMIT $3",
        &[since.into(), AT_ONCE.into()],
    )?;
    for row in &old {
        let id: TicketId = row.parsed(0)?;
        door.execute("DELETE FROM voucher_history WHERE tenant = $1 AND voucher = $2", &[id.into()])?;
        door.execute("DELETE FROM vouchers WHERE tenant = $1 AND id = $2", &[id.into()])?;
    }
    door.execute(
        "DELETE FROM voucher_batches WHERE tenant = $1 AND created_at < $2
         AND NOT EXISTS (SELECT 1 FROM vouchers WHERE tenant = $1 AND batch = voucher_batches.id)",
        &[since.into()],
    )?;
    Ok(u64::try_from(old.len()).unwrap_or(u64::MAX))
}

/// Forgets some of what shops have ordered and told of before `since`, once nothing of it is left that would refuse the same
/// again; and notices that nobody could be told before then. Answers how many.
pub fn forget_orders(door: &Door, since: UnixSeconds) -> Result<usize, StoreError> {
    let mut gone = 0usize;
    for statement in [
        "DELETE FROM webhook_events WHERE tenant = $1 AND id IN
         (SELECT id FROM webhook_events e WHERE tenant = $1 AND processed_at < $2
          AND NOT EXISTS (SELECT 1 FROM vouchers WHERE tenant = $1 AND batch = e.batch) LIMIT $3)",
        "DELETE FROM voucher_orders WHERE tenant = $1 AND id IN
         (SELECT id FROM voucher_orders o WHERE tenant = $1 AND made_at < $2
          AND NOT EXISTS (SELECT 1 FROM vouchers WHERE tenant = $1 AND batch = o.batch)
          AND NOT EXISTS (SELECT 1 FROM webhook_events WHERE tenant = $1 AND order_id = o.id) LIMIT $3)",
        "DELETE FROM voucher_jobs WHERE tenant = $1 AND id IN
         (SELECT id FROM voucher_jobs WHERE tenant = $1 AND state = 'dead' AND changed_at < $2 LIMIT $3)",
    ] {
        gone = gone.saturating_add(door.execute(statement, &[since.into(), AT_ONCE.into()])?);
    }
    Ok(gone)
}

/// How many were redeemed since then on the operator's own promise, and what they cost when they were made.
pub fn redeemed_since(door: &Door, since: UnixSeconds) -> Result<(u64, Sats), StoreError> {
    let counted = door.query(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN face_sat > 100000000000000 THEN 100000000000000 ELSE face_sat END), 0) FROM vouchers
         WHERE tenant = $1 AND state = 'redeemed' AND funding = 'none' AND redeemed_at >= $2",
        &[since.into()],
    )?;
    counted.first().map_or(Ok((0, Sats(0))), |row| Ok((row.count(0)?, Sats(row.count(1)?))))
}

fn note(
    door: &Door,
    id: TicketId,
    was: VoucherState,
    became: VoucherState,
    cause: Cause,
) -> Result<(), StoreError> {
    let Cause { at, reason, who, request_id } = cause;
    let (was, became, id) = (was.as_str(), became.as_str(), id.to_string());
    note_step(door, &ChangedState { voucher: &id, was, became, reason, who, request_id, at })
}

pub(super) fn row_of(row: &DoorRow) -> Result<VoucherRow, StoreError> {
    let text = |column| row.text(column).map(str::to_owned);
    let worth = CodeWorth::of(row.text(5)?, row.count(6)?);
    let optional = |column| match row.filled(column) {
        Some(Datum::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let redeemed_at = row.filled(17).map(|_| row.count(17)).transpose()?;
    Ok(VoucherRow {
        id: row.parsed(0)?,
        batch: row.parsed(1)?,
        venue: text(2)?,
        product: text(3)?,
        owner: text(4)?,
        worth: worth.ok_or_else(|| StoreError::Corrupt("the column unit cannot be read".to_owned()))?,
        face: Sats(row.count(7)?),
        funding: row.parsed(8)?,
        state: row.parsed(9)?,
        note: text(10)?,
        label: text(11)?,
        notify: text(12)?,
        created_by: text(13)?,
        created_at: UnixSeconds(row.count(14)?),
        changed_at: UnixSeconds(row.count(15)?),
        expires_at: UnixSeconds(row.count(16)?),
        redeemed_at: redeemed_at.map(UnixSeconds),
        redeemed_by: optional(18),
        error_code: optional(19),
        sealed: optional(20),
    })
}
