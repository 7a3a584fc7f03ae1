//! Locked ecash that is taken, each proof once for ever: by its voucher's code, or handed in as a token. A token whose mint is
//! away lets its guest in before it is swapped, within limits; what the mint calls spent later is a loss, which ends the session.

use super::door::Door;
use super::grants::{add_grant, NewGrant};
use super::locked::{note_voucher, proofs_of, rows, set_state, LockedProof, LockedRow, LockedState};
use super::{Admission, Store, StoreAnswer, StoreError};
use crate::config::Tenant;
use crate::mac::MacAddr;
use crate::units::{Sats, UnixSeconds};
use rusqlite::{params, OptionalExtension, Transaction};

/// Locked proofs that a token consists of, as one operation takes them.
#[derive(Clone, Debug)]
pub struct LockedTaking {
    pub tenant: Tenant,
    /// Of others' making where they are of no voucher.
    pub proofs: Vec<LockedProof>,
    /// When they cannot be taken without their mint any more, if ever.
    pub ends: Option<UnixSeconds>,
}

/// How much may be taken without asking its mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfflineLimits {
    pub token: Sats,
    pub total: Sats,
}

/// What a token that was taken without its mint turned out to be: spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub tenant: Tenant,
    pub op: i64,
    pub mac: MacAddr,
    pub venue: String,
    pub amount: Sats,
    pub at: UnixSeconds,
    pub is_ended: bool,
}

/// Takes what backs a voucher, in the commit that redeems or revokes it; the wallet swaps it by itself. True where nothing backs
/// it. False: it was taken as a token, and the voucher is used.
pub fn take_backing(door: &Door<'_>, id: &str, at: UnixSeconds) -> Result<bool, StoreError> {
    let Some(row) = rows(door, "id = $2", id)?.pop() else { return Ok(true) };
    if row.state != LockedState::Ready
        || proofs_of(door, "voucher = $2", id)?.iter().any(|proof| proof.is_taken)
    {
        return Ok(false);
    }
    door.execute(
        "UPDATE locked_proofs SET state = 'taken' WHERE tenant = $1 AND voucher = $2",
        &[id.into()],
    )?;
    set_state(door, id, LockedState::Taken, at)?;
    Ok(true)
}

/// Forgets some of what stood behind vouchers and is over since before `since`: ecash that is back in the takings, lost, or never
/// came to be, once its voucher is forgotten and nobody could show it without its mint any more; invoices that are closed; losses
/// whose session has ended. Answers how many.
pub fn forget_backing(door: &Door<'_>, since: UnixSeconds, most: u64) -> Result<usize, StoreError> {
    let values = [since.into(), most.into()];
    let over = door.query(
        "SELECT id FROM locked WHERE tenant = $1 AND state IN ('swapped', 'lost', 'failed') AND locktime < $2
         AND changed_at < $2 AND op = 0
         AND NOT EXISTS (SELECT 1 FROM vouchers WHERE tenant = $1 AND id = locked.id) LIMIT $3",
        &values,
    )?;
    for row in &over {
        let id = [row.text(0)?.into()];
        door.execute("DELETE FROM locked_proofs WHERE tenant = $1 AND voucher = $2", &id)?;
        door.execute("DELETE FROM locked WHERE tenant = $1 AND id = $2", &id)?;
    }
    let mut gone = over.len();
    for statement in [
        "DELETE FROM locked_proofs WHERE tenant = $1 AND y IN
         (SELECT y FROM locked_proofs WHERE tenant = $1 AND ends_at > 0 AND ends_at < $2 AND voucher = ''
          AND state = 'taken' AND op = 0 LIMIT $3)",
        "DELETE FROM fundings WHERE tenant = $1 AND batch IN
         (SELECT batch FROM fundings f WHERE tenant = $1 AND state != 'open' AND changed_at < $2
          AND NOT EXISTS (SELECT 1 FROM locked WHERE tenant = $1 AND batch = f.batch)
          AND NOT EXISTS (SELECT 1 FROM vouchers WHERE tenant = $1 AND batch = f.batch) LIMIT $3)",
        "DELETE FROM losses WHERE tenant = $1 AND op IN
         (SELECT op FROM losses WHERE tenant = $1 AND ended = 1 AND at < $2 LIMIT $3)",
    ] {
        gone = gone.saturating_add(door.execute(statement, &values)?);
    }
    Ok(gone)
}

/// Takes the proofs of a token for an operation that begins. `Gone` where one of them was taken before.
pub(super) fn take(
    tx: &Transaction<'_>,
    taking: &LockedTaking,
    op: i64,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    let door = Door::for_tenant(tx, &taking.tenant);
    for proof in &taking.proofs {
        let values = [
            proof.y.as_str().into(),
            proof.voucher.as_str().into(),
            proof.keyset.as_str().into(),
            i64::from(proof.counter).into(),
            proof.amount.0.into(),
            op.into(),
            taking.ends.map_or(0, |ends| ends.0).into(),
        ];
        let taken = door.execute(
            "INSERT INTO locked_proofs (tenant, y, voucher, keyset, counter, sats, c, dleq, op, state, ends_at)
             VALUES ($1, $2, $3, $4, $5, $6, '', '', $7, 'taken', $8)
             ON CONFLICT (tenant, y) DO UPDATE SET state = 'taken', op = $7 WHERE locked_proofs.state = 'ready'",
            &values,
        )?;
        if taken != 1 {
            return Err(StoreError::Gone);
        }
        door.execute(
            "UPDATE locked SET state = 'taken', op = $3, changed_at = $4
             WHERE tenant = $1 AND id = $2 AND state = 'ready'",
            &[proof.voucher.as_str().into(), op.into(), at.into()],
        )?;
        note_voucher(&door, &proof.voucher, &["ready", "expired"], "redeemed", None, at)?;
    }
    Ok(())
}

/// What an operation took is ours.
pub(super) fn take_done(tx: &Transaction<'_>, op: i64) -> Result<(), StoreError> {
    if let Some(tenant) = tenant_of(tx, op)? {
        forget_codes(&Door::for_tenant(tx, &tenant), op)?;
    }
    tx.execute(
        "UPDATE locked SET state = 'swapped', op = 0 WHERE op = ?1 AND op != 0 AND state = 'taken'",
        [op],
    )?;
    tx.execute("UPDATE locked_proofs SET c = '', dleq = '', op = 0 WHERE op = ?1 AND op != 0", [op])?;
    Ok(())
}

const TO_COLLECT: &str = "op = 0 AND (state = 'taken' OR (state = 'ready' AND locktime < ?1))";

impl Store {
    /// A receipt did not take place. What it took may be taken again, unless it is `lost`: spent by somebody else.
    pub fn op_refused(&self, op: i64, is_lost: bool) -> StoreAnswer<Option<Loss>> {
        let at = self.wall();
        self.write(move |tx| {
            let loss = match is_lost {
                true => lose(tx, op, at)?,
                false => {
                    give_back(tx, op, at)?;
                    None
                }
            };
            tx.execute("DELETE FROM wallet_ops WHERE id = ?1 AND state = 'open'", [op])?;
            Ok(loss)
        })
    }

    /// Lets the guest of an open receipt in before it is over, as its mint is away. `None`: that would be too much.
    pub fn op_granted(&self, op: i64, limits: OfflineLimits) -> StoreAnswer<Option<Admission>> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let row = tx
                .query_row(
                    "SELECT amount, access FROM wallet_ops WHERE id = ?1 AND state = 'open' AND granted = 0
                     AND access IS NOT NULL",
                    [op],
                    |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
                )
                .optional()?;
            let Some((amount, access)) = row else { return Ok(None) };
            let out: i64 = tx.query_row(
                "SELECT COALESCE(SUM(amount), 0) FROM wallet_ops WHERE granted = 1 AND state = 'open'",
                [],
                |row| row.get(0),
            )?;
            let most = |limit: Sats| i64::try_from(limit.0).unwrap_or(i64::MAX);
            if amount > most(limits.token) || out.saturating_add(amount) > most(limits.total) {
                return Ok(None);
            }
            tx.execute("UPDATE wallet_ops SET granted = 1 WHERE id = ?1", [op])?;
            add_grant(tx, &NewGrant::from_text(&access)?, now, wall).map(Some)
        })
    }

    /// The mints of locked ecash that is to be put back into the takings.
    pub fn mints_to_collect(&self) -> StoreAnswer<Vec<String>> {
        let at = i64::try_from(self.lasting_wall().0).unwrap_or(i64::MAX);
        self.read(move |tx| {
            let statement =
                format!("SELECT DISTINCT tenant, mint FROM locked WHERE {TO_COLLECT} ORDER BY mint");
            let mut found = tx.prepare(&statement)?;
            let mut mints = found.query_map([at], |row| row.get(1))?.collect::<Result<Vec<_>, _>>()?;
            mints.dedup();
            Ok(mints)
        })
    }

    /// Some of it, of one mint: taken by its voucher's code, or not redeemed in time.
    pub fn locked_to_collect(&self, mint: String, most: u32) -> StoreAnswer<Vec<(Tenant, LockedRow)>> {
        let at = i64::try_from(self.lasting_wall().0).unwrap_or(i64::MAX);
        self.read(move |tx| {
            let mut found = tx.prepare(&format!(
                "SELECT tenant, id FROM locked WHERE {TO_COLLECT} AND mint = ?2 LIMIT ?3"
            ))?;
            let names = found.query_map(params![at, mint, most], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?;
            let mut all = Vec::new();
            for name in names {
                let (tenant, id) = name?;
                let tenant = Tenant::named(&tenant);
                let row = rows(&Door::for_tenant(tx, &tenant), "id = $2", &id)?.pop();
                all.extend(row.map(|row| (tenant, row)));
            }
            Ok(all)
        })
    }

    /// Whose batches have something planned, each with its mint where one is named.
    pub fn planned_batches(&self) -> StoreAnswer<Vec<(Tenant, String)>> {
        self.read(|tx| {
            tx.prepare("SELECT DISTINCT tenant, batch FROM locked WHERE state = 'planned'")?
                .query_map([], |row| Ok((Tenant::named(&row.get::<_, String>(0)?), row.get(1)?)))?
                .map(|row| Ok(row?))
                .collect()
        })
    }

    /// Nobody may redeem it from now on: its time is over, and it is being taken back.
    pub fn take_expired(&self, tenant: &Tenant, id: &str) -> StoreAnswer<bool> {
        let (tenant, id, at) = (tenant.clone(), id.to_owned(), self.wall());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let taken = take_backing(&door, &id, at)?;
            if taken {
                note_voucher(&door, &id, &["ready", "expired"], "refunded", None, at)?;
            }
            Ok(taken)
        })
    }

    /// What was to be put back is there, or `lost`.
    pub fn collected(&self, tenant: &Tenant, id: &str, is_lost: bool) -> StoreAnswer<()> {
        let (tenant, id, at) = (tenant.clone(), id.to_owned(), self.wall());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            set_state(&door, &id, if is_lost { LockedState::Lost } else { LockedState::Swapped }, at)?;
            let forget = "UPDATE locked_proofs SET c = '', dleq = '' WHERE tenant = $1 AND voucher = $2";
            door.execute(forget, &[id.as_str().into()]).map(drop)
        })
    }

    /// The proofs of these points that were made or taken here.
    pub fn locked_by_points(&self, tenant: &Tenant, ys: Vec<String>) -> StoreAnswer<Vec<LockedProof>> {
        let tenant = tenant.clone();
        self.read(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let mut found = Vec::new();
            for y in &ys {
                found.extend(proofs_of(&door, "y = $2", y)?);
            }
            Ok(found)
        })
    }

    pub fn losses(&self, since: UnixSeconds) -> StoreAnswer<Vec<Loss>> {
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        self.read(move |tx| {
            let mut found =
                tx.prepare("SELECT tenant, op, mac, venue, sats, at, ended FROM losses WHERE at >= ?1")?;
            let found = found.query_map([since], |row| {
                let (tenant, mac): (String, String) = (row.get(0)?, row.get(2)?);
                let (amount, at): (i64, UnixSeconds) = (row.get(4)?, row.get(5)?);
                Ok((tenant, row.get(1)?, mac, row.get(3)?, amount, at, row.get(6)?))
            })?;
            found
                .map(|row| {
                    let (tenant, op, mac, venue, amount, at, is_ended) = row?;
                    let mac = super::values::mac_of(&mac)?;
                    let amount = Sats(u64::try_from(amount).map_err(|_| StoreError::unreadable("amount"))?);
                    Ok(Loss { tenant: Tenant::named(&tenant), op, mac, venue, amount, at, is_ended })
                })
                .collect()
        })
    }

    pub fn loss_ended(&self, loss: &Loss) -> StoreAnswer<()> {
        let (tenant, op) = (loss.tenant.clone(), loss.op);
        self.write(move |tx| {
            let ended = "UPDATE losses SET ended = 1 WHERE tenant = $1 AND op = $2";
            Door::for_tenant(tx, &tenant).execute(ended, &[op.into()]).map(drop)
        })
    }
}

fn tenant_of(tx: &Transaction<'_>, op: i64) -> Result<Option<Tenant>, StoreError> {
    let tenant =
        tx.query_row("SELECT tenant FROM locked_proofs WHERE op = ?1 AND op != 0 LIMIT 1", [op], |row| {
            row.get::<_, String>(0)
        });
    Ok(tenant.optional()?.map(|tenant| Tenant::named(&tenant)))
}

fn vouchers_of(door: &Door<'_>, op: i64) -> Result<Vec<String>, StoreError> {
    let found = "SELECT id FROM locked WHERE tenant = $1 AND op = $2 AND op != 0 AND state = 'taken'";
    door.query(found, &[op.into()])?.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}

/// Vouchers that were taken as tokens do not come back: nobody needs their codes any more.
fn forget_codes(door: &Door<'_>, op: i64) -> Result<(), StoreError> {
    for id in vouchers_of(door, op)? {
        let forget = "UPDATE vouchers SET sealed = NULL WHERE tenant = $1 AND id = $2";
        door.execute(forget, &[id.as_str().into()])?;
    }
    Ok(())
}

fn give_back(tx: &Transaction<'_>, op: i64, at: UnixSeconds) -> Result<(), StoreError> {
    let Some(tenant) = tenant_of(tx, op)? else { return Ok(()) };
    let door = Door::for_tenant(tx, &tenant);
    for id in vouchers_of(&door, op)? {
        set_state(&door, &id, LockedState::Ready, at)?;
        note_voucher(&door, &id, &["redeemed"], "ready", None, at)?;
    }
    let values = [op.into()];
    door.execute(
        "DELETE FROM locked_proofs WHERE tenant = $1 AND op = $2 AND op != 0 AND voucher = ''",
        &values,
    )?;
    let free = "UPDATE locked_proofs SET state = 'ready', op = 0 WHERE tenant = $1 AND op = $2 AND op != 0";
    door.execute(free, &values).map(drop)
}

fn lose(tx: &Transaction<'_>, op: i64, at: UnixSeconds) -> Result<Option<Loss>, StoreError> {
    let Some(tenant) = tenant_of(tx, op)? else { return Ok(None) };
    let door = Door::for_tenant(tx, &tenant);
    forget_codes(&door, op)?;
    for id in vouchers_of(&door, op)? {
        set_state(&door, &id, LockedState::Lost, at)?;
    }
    door.execute("UPDATE locked_proofs SET op = 0 WHERE tenant = $1 AND op = $2 AND op != 0", &[op.into()])?;
    let granted = tx.query_row(
        "SELECT access FROM wallet_ops WHERE id = ?1 AND granted = 1 AND access IS NOT NULL",
        [op],
        |row| row.get::<_, String>(0),
    );
    let Some(access) = granted.optional()? else { return Ok(None) };
    let grant = NewGrant::from_text(&access)?;
    let (mac, venue, amount) = (grant.mac, grant.venue, Sats::try_from(grant.amount).unwrap_or_default());
    let values = [op.into(), mac.to_string().into(), venue.as_str().into(), amount.0.into(), at.into()];
    door.execute(
        "INSERT INTO losses (tenant, op, mac, venue, sats, at, ended) VALUES ($1, $2, $3, $4, $5, $6, 0)
         ON CONFLICT (tenant, op) DO NOTHING",
        &values,
    )?;
    Ok(Some(Loss { tenant, op, mac, venue, amount, at, is_ended: false }))
}
