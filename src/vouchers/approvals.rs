//! What waits for others to agree: a request that is over a limit, or a limit that is to be raised. Each vote is for one
//! request, named by its hash. Refused: a vote of the one who asked, one for another request, and one that comes too late.

use super::{jobs, VoucherRefusal};
use crate::store::{add_voucher_job, Door, DoorRow, StoreError};
use crate::units::UnixSeconds;
use crate::uuid::Uuid;
use std::sync::{Arc, Mutex, PoisonError};

/// The kind of job that a decision is.
pub const DECISION: &str = "order";

/// How long others may take (seconds), and how many requests may wait.
const LIFE: u64 = 2 * 3600;
const MOST: u64 = 200;

const COLUMNS: &str = "id, kind, state, principal, request_hash, work, required, created_at, expires_at, \
     (SELECT count(*) FROM approval_votes WHERE tenant = $1 AND approval = a.id AND vote = 'approve')";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub id: Uuid,
    /// `batch_mint`, `mint_tickets` or `limits`.
    pub kind: String,
    /// `pending`, `approved` (and not done yet), `executed` or `rejected`.
    pub state: String,
    /// Who has asked.
    pub principal: String,
    pub request_hash: String,
    /// What is to be done, as the one who asked has written it.
    pub work: String,
    pub required: u64,
    pub approvals: u64,
    pub created_at: u64,
    pub expires_at: u64,
}

/// Decisions that are being carried out, each by one at a time; clones share it.
#[derive(Clone, Default)]
pub struct Underway(Arc<Mutex<Vec<Uuid>>>);

/// It may be taken up again once this is dropped.
pub struct CarryingOut(Underway, Uuid);

impl Underway {
    /// `None`: somebody else carries it out.
    pub fn begin(&self, id: Uuid) -> Option<CarryingOut> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains(&id) {
            return None;
        }
        all.push(id);
        Some(CarryingOut(self.clone(), id))
    }
}

impl Drop for CarryingOut {
    fn drop(&mut self) {
        self.0 .0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != self.1);
    }
}

/// Lets a request wait. `None`: too many do, and nothing is changed.
pub fn ask(
    door: &Door,
    id: Uuid,
    (kind, principal): (&str, &str),
    (request_hash, work): (&str, &str),
    required: u64,
    now: u64,
) -> Result<Option<Approval>, StoreError> {
    if pending(door, now)? >= MOST {
        return Ok(None);
    }
    door.execute(
        "DELETE FROM approvals WHERE tenant = $1 AND expires_at < $2
         AND NOT EXISTS (SELECT 1 FROM voucher_jobs WHERE tenant = $1 AND about = approvals.id)",
        &[now.saturating_sub(86_400).into()],
    )?;
    door.execute(
        "DELETE FROM approval_votes WHERE tenant = $1
         AND approval NOT IN (SELECT id FROM approvals WHERE tenant = $1)",
        &[],
    )?;
    let expires_at = now.saturating_add(LIFE);
    door.execute(
        "INSERT INTO approvals
             (tenant, id, kind, state, principal, request_hash, work, required, created_at, expires_at)
         VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8, $9)",
        &[
            id.into(),
            kind.into(),
            principal.into(),
            request_hash.into(),
            work.into(),
            required.into(),
            now.into(),
            expires_at.into(),
        ],
    )?;
    find(door, id)
}

/// How many wait.
pub fn pending(door: &Door, now: u64) -> Result<u64, StoreError> {
    let counted = door.query(
        "SELECT count(*) FROM approvals WHERE tenant = $1 AND state = 'pending' AND expires_at > $2",
        &[now.into()],
    )?;
    counted.first().map_or(Ok(0), |row| row.count(0))
}

pub fn find(door: &Door, id: Uuid) -> Result<Option<Approval>, StoreError> {
    let found = format!("SELECT {COLUMNS} FROM approvals a WHERE tenant = $1 AND id = $2");
    door.query(&found, &[id.into()])?.first().map(row_of).transpose()
}

/// Those that wait, the newest first.
pub fn waiting(door: &Door, now: u64) -> Result<Vec<Approval>, StoreError> {
    let found = format!(
        "SELECT {COLUMNS} FROM approvals a WHERE tenant = $1 AND state = 'pending' AND expires_at > $2
         ORDER BY created_at DESC, id"
    );
    door.query(&found, &[now.into()])?.iter().map(row_of).collect()
}

fn row_of(row: &DoorRow) -> Result<Approval, StoreError> {
    let text = |column| row.text(column).map(str::to_owned);
    Ok(Approval {
        id: row.parsed(0)?,
        kind: text(1)?,
        state: text(2)?,
        principal: text(3)?,
        request_hash: text(4)?,
        work: text(5)?,
        required: row.count(6)?,
        created_at: row.count(7)?,
        expires_at: row.count(8)?,
        approvals: row.count(9)?,
    })
}

/// Takes a vote. The approval as it is then: `approved` once the last vote is in, and until it is done.
pub fn vote(
    door: &Door,
    (id, request_hash): (Uuid, &str),
    (voter, approves): (&str, bool),
    now: u64,
) -> Result<Result<Approval, VoucherRefusal>, StoreError> {
    let Some(approval) = find(door, id)? else {
        return Ok(Err(VoucherRefusal::new(404, "not_found", "there is no such request")));
    };
    let refused = |status, code, message: &str| Ok(Err(VoucherRefusal::new(status, code, message)));
    if approval.principal == voter {
        return refused(403, "initiator_cannot_vote", "others have to agree to what one has asked for");
    }
    if !approval.request_hash.eq_ignore_ascii_case(request_hash) {
        return refused(409, "request_hash_mismatch", "the vote is for another request");
    }
    let votes = door.query(
        "SELECT vote FROM approval_votes WHERE tenant = $1 AND approval = $2 AND voter = $3",
        &[id.into(), voter.into()],
    )?;
    let vote = if approves { "approve" } else { "reject" };
    let has_voted_so = votes.first().map(|row| row.text(0)).transpose()? == Some(vote);
    if approval.state != "pending" {
        // The same vote again is no other decision.
        return match has_voted_so && approval.state != "rejected" {
            true => Ok(Ok(approval)),
            false => refused(409, "already_decided", "it was decided already"),
        };
    }
    if approval.expires_at <= now {
        return Ok(Err(expired()));
    }
    door.execute(
        "INSERT INTO approval_votes (tenant, approval, voter, vote, at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, approval, voter) DO UPDATE SET vote = $4, at = $5 WHERE vote <> $4",
        &[id.into(), voter.into(), vote.into(), now.into()],
    )?;
    let counted = find(door, id)?.ok_or(StoreError::Gone)?;
    let becomes = match approves {
        false => "rejected",
        true if counted.approvals >= counted.required => "approved",
        true => return Ok(Ok(counted)),
    };
    door.execute(
        "UPDATE approvals SET state = $3, decided_at = $4 WHERE tenant = $1 AND id = $2 AND state = 'pending'",
        &[id.into(), becomes.into(), now.into()],
    )?;
    // Whatever comes now, it is carried out.
    let job = id.to_string();
    add_voucher_job(door, (&job, DECISION), (&job, ""), "", UnixSeconds(now))?;
    find(door, id)?.map(Ok).ok_or(StoreError::Gone)
}

/// What is said of a request that was not decided in time.
pub fn expired() -> VoucherRefusal {
    VoucherRefusal::new(410, "approval_expired", "it was not decided in time")
}

/// Whether nobody can decide it any more, and nobody has.
pub fn is_late(door: &Door, id: Uuid, now: u64) -> Result<bool, StoreError> {
    let known = find(door, id)?;
    Ok(known.is_none_or(|known| known.state == "pending" && known.expires_at <= now))
}

/// Whether a decision is still to be carried out to its end.
pub fn is_open(door: &Door, id: Uuid) -> Result<bool, StoreError> {
    jobs::about(door, DECISION, &id.to_string())
}

/// A decision was carried out to its end, and the one who asked has the answer: in the commit that keeps it.
pub fn finish(door: &Door, id: Uuid) -> Result<(), StoreError> {
    consume(door, id)?;
    jobs::done(door, &id.to_string())
}

/// Uses a decision up, in the commit that carries it out. False: that was done already.
pub fn consume(door: &Door, id: Uuid) -> Result<bool, StoreError> {
    let used = door.execute(
        "UPDATE approvals SET state = 'executed' WHERE tenant = $1 AND id = $2 AND state = 'approved'",
        &[id.into()],
    )?;
    Ok(used == 1)
}
