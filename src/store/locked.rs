//! Ecash that is locked to a venue for a voucher: planned, asked for in one exchange for many vouchers, and then its proofs.
//!
//! Everything that the exchange is made of is written down with its operation, before a mint hears of it; the vouchers become
//! ready in the commit in which their proofs are ours.

use super::counters::VOUCHERS;
use super::door::{Door, DoorRow};
use super::notices::{note_step, ChangedState};
use super::operations::{add_outputs, begin_op, Begun, NewOp};
use super::outputs::{outputs_of, OutputsRow};
use super::proofs::{add_proofs, NewProofs, ProofKey, PurseName};
use super::reservations::{unreserve_voucher, When};
use super::values::mint_of;
use super::{Store, StoreAnswer, StoreError};
use crate::config::{MintUrl, Tenant};
use crate::units::{Sats, UnixSeconds};

/// What is to be locked for a voucher, and by which keys.
#[derive(Clone, Debug)]
pub struct NewLocked {
    /// The voucher's.
    pub id: String,
    pub venue: String,
    pub amount: Sats,
    pub locktime: UnixSeconds,
    pub lock: u32,
    pub refund: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockedState {
    /// To be asked for.
    Planned,
    /// To be paid for by somebody else.
    Awaiting,
    /// Its operation is under way.
    Minting,
    /// There, and unspent.
    Ready,
    /// To be put back into the takings.
    Taken,
    /// Back in the takings.
    Swapped,
    /// Spent by somebody else.
    Lost,
    /// It never came to be.
    Failed,
}

#[derive(Clone, Debug)]
pub struct LockedRow {
    pub id: String,
    pub batch: String,
    pub venue: String,
    pub mint: Option<MintUrl>,
    pub amount: Sats,
    pub lock: u32,
    pub refund: u32,
    pub locktime: UnixSeconds,
    pub op: i64,
    /// The newest is last.
    pub outputs: Vec<OutputsRow>,
    /// What the mint takes for spending one of its proofs, in thousandths of a sat.
    pub ppk: u64,
    pub state: LockedState,
    pub error: Option<String>,
}

/// A proof of such ecash: points and scalars in hex.
#[derive(Clone, Debug)]
pub struct LockedProof {
    pub y: String,
    pub voucher: String,
    pub keyset: String,
    pub counter: u32,
    pub amount: Sats,
    pub c: String,
    /// `e` and `s` (NUT-12), 64 digits each.
    pub dleq: String,
    pub is_taken: bool,
}

/// A voucher that is to be backed, and nothing of that is written down.
#[derive(Clone, Debug)]
pub struct Unplanned {
    pub tenant: Tenant,
    pub batch: String,
    pub id: String,
    pub venue: String,
    pub amount: Sats,
    pub expires_at: UnixSeconds,
}

/// One exchange that locks ecash for vouchers.
#[derive(Clone)]
pub struct NewLocking {
    pub tenant: Tenant,
    /// Voucher, and the amounts of its outputs.
    pub vouchers: Vec<(String, Vec<u64>)>,
    pub keyset: String,
    pub ppk: u64,
    /// They are backed already, by what this exchange spends beside the takings.
    pub again: bool,
}

/// The states of a voucher whose ecash is still to be had.
const WANTED: [&str; 3] = ["queued", "awaiting_payment", "minting"];

impl LockedState {
    const ALL: [LockedState; 8] = [
        LockedState::Planned,
        LockedState::Awaiting,
        LockedState::Minting,
        LockedState::Ready,
        LockedState::Taken,
        LockedState::Swapped,
        LockedState::Lost,
        LockedState::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            LockedState::Planned => "planned",
            LockedState::Awaiting => "awaiting",
            LockedState::Minting => "minting",
            LockedState::Ready => "ready",
            LockedState::Taken => "taken",
            LockedState::Swapped => "swapped",
            LockedState::Lost => "lost",
            LockedState::Failed => "failed",
        }
    }
}

impl Store {
    /// Writes down what is to be locked for the vouchers of a batch; those that are there already stay as they are.
    pub fn plan_locked(
        &self,
        tenant: &Tenant,
        batch: &str,
        mint: Option<MintUrl>,
        vouchers: Vec<NewLocked>,
        state: LockedState,
    ) -> StoreAnswer<()> {
        let (tenant, batch, at) = (tenant.clone(), batch.to_owned(), self.wall());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let mint = mint.as_ref().map_or("", MintUrl::as_str);
            for new in &vouchers {
                let values = [
                    new.id.as_str().into(),
                    batch.as_str().into(),
                    new.venue.as_str().into(),
                    mint.into(),
                    new.amount.0.into(),
                    i64::from(new.lock).into(),
                    i64::from(new.refund).into(),
                    new.locktime.into(),
                    at.into(),
                    state.as_str().into(),
                ];
                door.execute(
                    "INSERT INTO locked (tenant, id, batch, venue, mint, sats, lock, refund, locktime, op, outputs,
                                         ppk, state, changed_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, '', 0, $11, $10)
                     ON CONFLICT (tenant, id) DO NOTHING",
                    &values,
                )?;
            }
            Ok(())
        })
    }

    /// What is locked, or to be, for the vouchers of a batch, in the order of their ids.
    pub fn locked_of_batch(&self, tenant: &Tenant, batch: &str) -> StoreAnswer<Vec<LockedRow>> {
        let (tenant, batch) = (tenant.clone(), batch.to_owned());
        self.read(move |tx| rows(&Door::for_tenant(tx, &tenant), "batch = $2", &batch))
    }

    pub fn locked(&self, tenant: &Tenant, id: &str) -> StoreAnswer<Option<LockedRow>> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.read(move |tx| Ok(rows(&Door::for_tenant(tx, &tenant), "id = $2", &id)?.pop()))
    }

    /// The proofs of a voucher, those that are left of them.
    pub fn locked_proofs(&self, tenant: &Tenant, voucher: &str) -> StoreAnswer<Vec<LockedProof>> {
        let (tenant, voucher) = (tenant.clone(), voucher.to_owned());
        self.read(move |tx| proofs_of(&Door::for_tenant(tx, &tenant), "voucher = $2 AND c != ''", &voucher))
    }

    /// Journals an exchange that locks ecash: the operation, and in the same commit the counters of all its outputs.
    pub async fn lock_begin(&self, op: NewOp, new: NewLocking) -> Result<Begun, StoreError> {
        let (now, at, vault) = (self.now(), self.wall(), self.vault().await?);
        self.write(move |tx| {
            let mint = op.mint.clone();
            let begun = begin_op(tx, &vault, now, op)?;
            let Begun::New(op) = &begun else { return Ok(begun) };
            let door = Door::for_tenant(tx, &new.tenant);
            for (id, amounts) in &new.vouchers {
                let outputs = OutputsRow::take(tx, VOUCHERS, &new.keyset, amounts, 0)?;
                let from = if new.again { LockedState::Ready } else { LockedState::Planned };
                if new.again && !spend_again(&door, id, op.id)? {
                    return Err(StoreError::Gone);
                }
                let changed = door.execute(
                    "UPDATE locked SET state = 'minting', op = $3, outputs = $4, mint = $5, ppk = $6, changed_at = $7
                     WHERE tenant = $1 AND id = $2 AND state = $8",
                    &[
                        id.as_str().into(),
                        op.id.into(),
                        outputs.to_line().into(),
                        mint.as_str().into(),
                        new.ppk.into(),
                        at.into(),
                        from.as_str().into(),
                    ],
                )?;
                if changed != 1 {
                    return Err(StoreError::Gone);
                }
            }
            Ok(begun)
        })
        .await
    }

    /// Whose exchange an operation is, and for what; `None` if it locks nothing.
    pub fn locking(&self, op: i64) -> StoreAnswer<Option<(Tenant, Vec<LockedRow>)>> {
        self.read(move |tx| {
            let mut found = tx.prepare(
                "SELECT tenant FROM locked WHERE op = ?1 AND op != 0 AND state = 'minting' LIMIT 1",
            )?;
            let mut tenants = found.query_map([op], |row| row.get::<_, String>(0))?;
            let Some(tenant) = tenants.next().transpose()? else { return Ok(None) };
            let tenant = Tenant::named(&tenant);
            let rows = of_op(&Door::for_tenant(tx, &tenant), op)?;
            Ok(Some((tenant, rows)))
        })
    }

    /// Takes fresh counters for all outputs of an exchange whose earlier ones cannot be used: the change, and its vouchers'.
    pub fn lock_again(
        &self,
        op: i64,
        tenant: &Tenant,
        keyset: String,
        change: Vec<u64>,
        skip: u32,
    ) -> StoreAnswer<(OutputsRow, Vec<LockedRow>)> {
        let tenant = tenant.clone();
        self.write(move |tx| {
            let change = add_outputs(tx, op, &keyset, &change, skip)?;
            let door = Door::for_tenant(tx, &tenant);
            let mut skip = skip;
            for row in of_op(&door, op)? {
                let amounts = row.outputs.last().map(|last| last.amounts.clone()).unwrap_or_default();
                let outputs = OutputsRow::take(tx, VOUCHERS, &keyset, &amounts, std::mem::take(&mut skip))?;
                door.execute(
                    "UPDATE locked SET outputs = outputs || $3 WHERE tenant = $1 AND id = $2",
                    &[row.id.into(), outputs.to_line().into()],
                )?;
            }
            Ok((change, of_op(&door, op)?))
        })
    }

    /// An exchange has taken place: its inputs are gone, the change is ours, and its vouchers are backed, and ready.
    pub fn lock_done(
        &self,
        op: i64,
        tenant: &Tenant,
        change: NewProofs,
        proofs: Vec<LockedProof>,
    ) -> StoreAnswer<()> {
        let (tenant, at) = (tenant.clone(), self.wall());
        self.write(move |tx| {
            tx.execute("DELETE FROM proofs WHERE op = ?1", [op])?;
            if tx.execute("DELETE FROM wallet_ops WHERE id = ?1 AND state = 'open'", [op])? != 1 {
                return Ok(());
            }
            add_proofs(tx, PurseName::House, &change)?;
            let door = Door::for_tenant(tx, &tenant);
            // Those before them are known as taken, and of no voucher.
            door.execute(
                "UPDATE locked_proofs SET c = '', dleq = '', op = 0, ends_at = COALESCE((SELECT locktime FROM locked
                     WHERE tenant = $1 AND id = locked_proofs.voucher), 0), voucher = ''
                 WHERE tenant = $1 AND op = $2 AND op != 0",
                &[op.into()],
            )?;
            add_locked_proofs(&door, &proofs)?;
            for row in of_op(&door, op)? {
                become_ready(&door, &row.id, at)?;
            }
            Ok(())
        })
    }

    /// An exchange did not take place. `spent` are inputs that turned out to be; with `why`, its vouchers will never be backed,
    /// else they are planned again.
    pub async fn lock_failed(
        &self,
        op: i64,
        tenant: &Tenant,
        spent: Vec<ProofKey>,
        why: Option<&'static str>,
    ) -> Result<(), StoreError> {
        let (tenant, when) = (tenant.clone(), self.when());
        let failing = self.write(move |tx| {
            for key in &spent {
                tx.execute(
                    "DELETE FROM proofs WHERE keyset = ?1 AND counter = ?2 AND op = ?3",
                    (key.keyset, key.counter, op),
                )?;
            }
            tx.execute("UPDATE proofs SET op = NULL WHERE op = ?1", [op])?;
            tx.execute("DELETE FROM wallet_ops WHERE id = ?1 AND state = 'open'", [op])?;
            let door = Door::for_tenant(tx, &tenant);
            let freed = door.execute(
                "UPDATE locked_proofs SET state = 'ready', op = 0 WHERE tenant = $1 AND op = $2 AND op != 0",
                &[op.into()],
            )?;
            let rows = of_op(&door, op)?;
            for row in &rows {
                match why {
                    // It is backed as it was.
                    _ if freed > 0 => set_state(&door, &row.id, LockedState::Ready, when.wall)?,
                    Some(code) => fail(&door, &row.id, code, when)?,
                    None => set_state(&door, &row.id, LockedState::Planned, when.wall)?,
                }
            }
            Ok(rows)
        });
        let (rows, code) = (failing.await?, why.unwrap_or_default());
        if let (Some(row), Some(_)) = (rows.first(), why) {
            report_failed(&row.batch, rows.len(), code);
        }
        Ok(())
    }

    /// Vouchers that were to be backed from the takings, and that were cut off before that was planned: tenant, batch, and what
    /// was to stand behind each of them by when it expires.
    pub fn unplanned(&self) -> StoreAnswer<Vec<Unplanned>> {
        self.read(|tx| {
            tx.prepare(
                "SELECT tenant, batch, id, venue, face_sat, expires_at FROM vouchers v
                 WHERE state = 'minting' AND funding = 'treasury' AND face_sat > 0
                 AND NOT EXISTS (SELECT 1 FROM locked l WHERE l.tenant = v.tenant AND l.id = v.id)
                 ORDER BY tenant, batch, position",
            )?
            .query_map([], |row| {
                let (tenant, sats): (String, i64) = (row.get(0)?, row.get(4)?);
                Ok((tenant, row.get(1)?, row.get(2)?, row.get(3)?, sats, row.get(5)?))
            })?
            .map(|row| {
                let (tenant, batch, id, venue, sats, expires_at) = row?;
                let amount = Sats(u64::try_from(sats).map_err(|_| StoreError::unreadable("face_sat"))?);
                Ok(Unplanned { tenant: Tenant::named(&tenant), batch, id, venue, amount, expires_at })
            })
            .collect()
        })
    }

    /// What is planned, or was to be, will not be asked for any more: its vouchers have failed.
    pub async fn drop_planned(
        &self,
        tenant: &Tenant,
        batch: &str,
        why: &'static str,
    ) -> Result<(), StoreError> {
        let (tenant, name, when) = (tenant.clone(), batch.to_owned(), self.when());
        let failing = self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            fail_batch(&door, (&name, LockedState::Planned), why, when)
        });
        report_failed(batch, failing.await?, why);
        Ok(())
    }
}

/// Has an exchange spend what stands behind a voucher. False: somebody is taking it.
fn spend_again(door: &Door<'_>, id: &str, op: i64) -> Result<bool, StoreError> {
    let taken = door.execute(
        "UPDATE locked_proofs SET state = 'taken', op = $3
         WHERE tenant = $1 AND voucher = $2 AND state = 'ready' AND op = 0",
        &[id.into(), op.into()],
    )?;
    let all = proofs_of(door, "voucher = $2", id)?;
    Ok(taken > 0 && taken == all.len() && voucher_state(door, id)?.is_some_and(|state| state == "ready"))
}

/// The vouchers of a batch fail: those whose ecash is in this state, and those for which none was ever planned. How many.
pub(super) fn fail_batch(
    door: &Door<'_>,
    (batch, state): (&str, LockedState),
    code: &str,
    when: When,
) -> Result<usize, StoreError> {
    let locked = rows(door, &format!("batch = $2 AND state = '{}'", state.as_str()), batch)?;
    for row in &locked {
        fail(door, &row.id, code, when)?;
    }
    let found = door.query(
        "SELECT id FROM vouchers WHERE tenant = $1 AND batch = $2 AND state IN ('minting', 'awaiting_payment')
         AND NOT EXISTS (SELECT 1 FROM locked WHERE locked.tenant = $1 AND locked.id = vouchers.id)",
        &[batch.into()],
    )?;
    for row in &found {
        fail_voucher(door, row.text(0)?, code, when)?;
    }
    Ok(locked.len().saturating_add(found.len()))
}

/// Tells the operator's log of vouchers that will never be, once that is written down.
pub(super) fn report_failed(batch: &str, failed: usize, code: &str) {
    if failed > 0 {
        log::error!("vouchers: {failed} of batch {batch} could not be made: {code}");
    }
}

pub(super) fn add_locked_proofs(door: &Door<'_>, proofs: &[LockedProof]) -> Result<(), StoreError> {
    for proof in proofs {
        let values = [
            proof.y.as_str().into(),
            proof.voucher.as_str().into(),
            proof.keyset.as_str().into(),
            i64::from(proof.counter).into(),
            proof.amount.0.into(),
            proof.c.as_str().into(),
            proof.dleq.as_str().into(),
        ];
        door.execute(
            "INSERT INTO locked_proofs (tenant, y, voucher, keyset, counter, sats, c, dleq, op, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 'ready') ON CONFLICT (tenant, y) DO NOTHING",
            &values,
        )?;
    }
    Ok(())
}

/// The ecash is there: so is its voucher. One that was given up meanwhile is not, and its ecash goes back.
pub(super) fn become_ready(door: &Door<'_>, id: &str, at: UnixSeconds) -> Result<(), StoreError> {
    set_state(door, id, LockedState::Ready, at)?;
    let is_ready = note_voucher(door, id, &WANTED, "ready", None, at)?;
    if !is_ready && voucher_state(door, id)?.is_some_and(|state| state != "ready") {
        set_state(door, id, LockedState::Taken, at)?;
    }
    Ok(())
}

fn fail(door: &Door<'_>, id: &str, code: &str, when: When) -> Result<(), StoreError> {
    door.execute(
        "UPDATE locked SET state = 'failed', op = 0, error_code = $3, changed_at = $4 WHERE tenant = $1 AND id = $2",
        &[id.into(), code.into(), when.wall.into()],
    )?;
    fail_voucher(door, id, code, when)
}

/// A voucher that was to be had never will be: what it has taken of its maker's limits is given back.
fn fail_voucher(door: &Door<'_>, id: &str, code: &str, when: When) -> Result<(), StoreError> {
    match note_voucher(door, id, &WANTED, "failed", Some(code), when.wall)? {
        true => unreserve_voucher(door, id, when),
        false => Ok(()),
    }
}

pub(super) fn set_state(
    door: &Door<'_>,
    id: &str,
    state: LockedState,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    door.execute(
        "UPDATE locked SET state = $3, op = 0, changed_at = $4 WHERE tenant = $1 AND id = $2",
        &[id.into(), state.as_str().into(), at.into()],
    )
    .map(drop)
}

/// Moves a voucher on, and writes its history; false where it is in none of the states `from`.
pub(super) fn note_voucher(
    door: &Door<'_>,
    id: &str,
    from: &[&str],
    to: &str,
    error: Option<&str>,
    at: UnixSeconds,
) -> Result<bool, StoreError> {
    let Some(was) = voucher_state(door, id)?.filter(|state| from.contains(&state.as_str())) else {
        return Ok(false);
    };
    // One that is taken as a token may come back; `taken` erases its code when it does not.
    let sealed = if matches!(to, "ready" | "redeemed") { "sealed" } else { "NULL" };
    let redeemed = if to == "redeemed" { ", redeemed_at = $4, redeemed_by = 'token'" } else { "" };
    door.execute(
        &format!(
            "UPDATE vouchers SET state = $3, changed_at = $4, error_code = $5, sealed = {sealed}{redeemed}
             WHERE tenant = $1 AND id = $2"
        ),
        &[id.into(), to.into(), at.into(), error.map_or(super::Datum::Nothing, |error| error.into())],
    )?;
    // What has failed was never made, of what there may be of its product.
    let change = if to == "failed" { "- 1" } else { "+ 1" };
    if (to == "failed") != (was == "failed") {
        door.execute(
            &format!(
                "UPDATE voucher_series SET made = made {change}
                 WHERE tenant = $1 AND product = (SELECT product FROM vouchers WHERE tenant = $1 AND id = $2)"
            ),
            &[id.into()],
        )?;
    }
    let (voucher, reason, nobody) = (id, error.unwrap_or_default(), "");
    let step = ChangedState { voucher, was: &was, became: to, reason, who: nobody, request_id: nobody, at };
    note_step(door, &step)?;
    Ok(true)
}

pub(super) fn voucher_state(door: &Door<'_>, id: &str) -> Result<Option<String>, StoreError> {
    let found = door.query("SELECT state FROM vouchers WHERE tenant = $1 AND id = $2", &[id.into()])?;
    found.first().map(|row| row.text(0).map(str::to_owned)).transpose()
}

fn of_op(door: &Door<'_>, op: i64) -> Result<Vec<LockedRow>, StoreError> {
    let found = door.query(&format!("{LOCKED} AND op = $2 AND op != 0 ORDER BY id"), &[op.into()])?;
    found.iter().map(locked_of).collect()
}

pub(super) fn rows(door: &Door<'_>, condition: &str, value: &str) -> Result<Vec<LockedRow>, StoreError> {
    let statement = format!("{LOCKED} AND {condition} ORDER BY id");
    door.query(&statement, &[value.into()])?.iter().map(locked_of).collect()
}

pub(super) fn proofs_of(
    door: &Door<'_>,
    condition: &str,
    value: &str,
) -> Result<Vec<LockedProof>, StoreError> {
    let statement = format!(
        "SELECT y, voucher, keyset, counter, sats, c, dleq, state FROM locked_proofs
         WHERE tenant = $1 AND {condition} ORDER BY keyset, counter"
    );
    let proof = |row: &DoorRow| {
        Ok(LockedProof {
            y: row.text(0)?.to_owned(),
            voucher: row.text(1)?.to_owned(),
            keyset: row.text(2)?.to_owned(),
            counter: number(row, 3)?,
            amount: Sats(row.count(4)?),
            c: row.text(5)?.to_owned(),
            dleq: row.text(6)?.to_owned(),
            is_taken: row.text(7)? != "ready",
        })
    };
    door.query(&statement, &[value.into()])?.iter().map(proof).collect()
}

const LOCKED: &str =
    "SELECT id, batch, venue, mint, sats, lock, refund, locktime, op, outputs, ppk, state, error_code
     FROM locked WHERE tenant = $1";

fn locked_of(row: &DoorRow) -> Result<LockedRow, StoreError> {
    let (mint, state) = (row.text(3)?, row.text(11)?);
    Ok(LockedRow {
        id: row.text(0)?.to_owned(),
        batch: row.text(1)?.to_owned(),
        venue: row.text(2)?.to_owned(),
        mint: if mint.is_empty() { None } else { Some(mint_of(mint)?) },
        amount: Sats(row.count(4)?),
        lock: number(row, 5)?,
        refund: number(row, 6)?,
        locktime: UnixSeconds(row.count(7)?),
        op: row.number(8)?,
        outputs: outputs_of(row.text(9)?)?,
        ppk: row.count(10)?,
        state: LockedState::ALL
            .into_iter()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| StoreError::unreadable("state"))?,
        error: row.filled(12).and_then(|_| row.text(12).ok()).map(str::to_owned),
    })
}

fn number(row: &DoorRow, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.number(column)?).map_err(|_| StoreError::unreadable("number"))
}
