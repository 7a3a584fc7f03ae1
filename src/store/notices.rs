//! What became of a voucher, and whom it is to be told: its history and the outbox of notices, written in the commit of the
//! change itself, so that no power cut comes between.

use super::door::Door;
use super::StoreError;
use crate::json::json;
use crate::units::UnixSeconds;
use crate::uuid::Uuid;

/// One change of a voucher's state. None of it is a secret.
#[derive(Clone, Copy, Debug)]
pub struct ChangedState<'a> {
    pub voucher: &'a str,
    pub was: &'a str,
    pub became: &'a str,
    /// Why; of one that has failed, the code of its fault.
    pub reason: &'a str,
    pub who: &'a str,
    pub request_id: &'a str,
    pub at: UnixSeconds,
}

/// Writes a change into the voucher's history, and what is to be told of it into the outbox.
pub fn note_step(door: &Door<'_>, step: &ChangedState<'_>) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO voucher_history (tenant, voucher, seq, at, was, became, reason, who, request_id)
         SELECT $1, $2, COALESCE(MAX(seq), 0) + 1, $3, $4, $5, $6, $7, $8 FROM voucher_history
         WHERE tenant = $1 AND voucher = $2",
        &[
            step.voucher.into(),
            step.at.into(),
            step.was.into(),
            step.became.into(),
            step.reason.into(),
            step.who.into(),
            step.request_id.into(),
        ],
    )?;
    let code = (step.became == "failed").then_some(step.reason);
    note_notice(door, step.voucher, step.became, code, step.at)
}

/// Puts a notice of the state that a voucher is in now into the outbox, if anybody is to be told. What is under way is not told.
pub fn note_notice(
    door: &Door<'_>,
    voucher: &str,
    state: &str,
    code: Option<&str>,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    if matches!(state, "queued" | "awaiting_payment" | "minting") {
        return Ok(());
    }
    let wanted = door.query(
        "SELECT notify, batch, owner, face_sat, expires_at FROM vouchers WHERE tenant = $1 AND id = $2
         AND (notify != '' OR EXISTS (SELECT 1 FROM notice_defaults WHERE tenant = $1))",
        &[voucher.into()],
    )?;
    let Some(row) = wanted.first() else { return Ok(()) };
    let id = Uuid::random().ok_or(StoreError::NoRandomness)?.to_string();
    let told = json!({
        "id": id,
        "type": "ticket_status",
        "ticketId": voucher,
        "status": state,
        "code": code,
        "batchId": row.text(1)?,
        "userId": row.text(2)?,
        "amount": row.count(3)?,
        "unit": "sat",
        "updatedAt": at.0,
        "expiresAt": row.count(4)?,
    });
    add_voucher_job(door, (&id, "notice"), (voucher, row.text(0)?), &told.to_string(), at)
}

/// Notes work that goes on by itself, due at once: its id and kind, what it is about and where it leads, and the work itself.
pub fn add_voucher_job(
    door: &Door<'_>,
    (id, kind): (&str, &str),
    (about, target): (&str, &str),
    work: &str,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO voucher_jobs
             (tenant, id, kind, about, state, target, work, tries, due_ms, created_at, changed_at)
         VALUES ($1, $2, $3, $4, 'open', $5, $6, 0, 0, $7, $7) ON CONFLICT DO NOTHING",
        &[id.into(), kind.into(), about.into(), target.into(), work.into(), at.into()],
    )
    .map(drop)
}
