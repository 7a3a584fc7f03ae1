//! Batches of vouchers that somebody else pays for, by one invoice each: the quote and its key are written down before the
//! invoice is shown, and the outputs before it is claimed.

use super::behind::reopen;
use super::counters::VOUCHERS;
use super::door::Door;
use super::locked::{
    add_locked_proofs, become_ready, fail_batch, report_failed, rows, LockedProof, LockedRow, LockedState,
};
use super::outputs::OutputsRow;
use super::values::mint_of;
use super::{Store, StoreAnswer, StoreError};
use crate::config::{MintUrl, Tenant};
use crate::units::{Sats, UnixSeconds};

#[derive(Clone, Debug)]
pub struct FundingRow {
    pub tenant: Tenant,
    pub batch: String,
    pub mint: MintUrl,
    pub amount: Sats,
    /// The number of the key that locks the quote.
    pub lock: u32,
    pub quote: String,
    pub invoice: String,
    pub expires_at: UnixSeconds,
    /// Neither paid for and made, nor given up.
    pub is_open: bool,
}

impl Store {
    /// Notes an invoice before it is shown; where the batch has one already, that one. `Gone` where its vouchers have failed
    /// meanwhile: nobody is to pay for them.
    pub fn funding_begin(&self, new: FundingRow) -> StoreAnswer<FundingRow> {
        let at = self.wall();
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &new.tenant);
            if let Some(known) = funding(&door, &new.tenant, &new.batch)? {
                return Ok(known);
            }
            let waiting =
                "SELECT id FROM vouchers WHERE tenant = $1 AND batch = $2 AND state = 'awaiting_payment' LIMIT 1";
            if door.query(waiting, &[new.batch.as_str().into()])?.is_empty() {
                return Err(StoreError::Gone);
            }
            let values = [
                new.batch.as_str().into(),
                new.mint.as_str().into(),
                new.amount.0.into(),
                i64::from(new.lock).into(),
                new.quote.as_str().into(),
                new.invoice.as_str().into(),
                new.expires_at.into(),
                at.into(),
            ];
            door.execute(
                "INSERT INTO fundings (tenant, batch, mint, sats, lock, quote, invoice, expires_at, state, changed_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9)",
                &values,
            )?;
            funding(&door, &new.tenant, &new.batch)?.ok_or(StoreError::Gone)
        })
    }

    pub fn funding(&self, tenant: &Tenant, batch: &str) -> StoreAnswer<Option<FundingRow>> {
        let (tenant, batch) = (tenant.clone(), batch.to_owned());
        self.read(move |tx| funding(&Door::for_tenant(tx, &tenant), &tenant, &batch))
    }

    pub fn open_fundings(&self) -> StoreAnswer<Vec<(Tenant, String)>> {
        self.read(|tx| {
            tx.prepare("SELECT tenant, batch FROM fundings WHERE state = 'open'")?
                .query_map([], |row| Ok((Tenant::named(&row.get::<_, String>(0)?), row.get(1)?)))?
                .map(|row| Ok(row?))
                .collect()
        })
    }

    /// Takes counters for the outputs of a paid batch's vouchers, `skip` further on; those that were taken stay on record.
    pub fn funding_outputs(
        &self,
        tenant: &Tenant,
        batch: &str,
        (keyset, ppk): (String, u64),
        amounts: Vec<(String, Vec<u64>)>,
        skip: u32,
    ) -> StoreAnswer<Vec<LockedRow>> {
        let (tenant, batch) = (tenant.clone(), batch.to_owned());
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            let mut skip = skip;
            for (id, amounts) in amounts {
                let outputs = OutputsRow::take(tx, VOUCHERS, &keyset, &amounts, std::mem::take(&mut skip))?;
                door.execute(
                    "UPDATE locked SET outputs = outputs || $3, ppk = $4
                     WHERE tenant = $1 AND id = $2 AND state = 'awaiting'",
                    &[id.into(), outputs.to_line().into(), ppk.into()],
                )?;
            }
            rows(&door, "batch = $2 AND state = 'awaiting'", &batch)
        })
    }

    /// It was paid, and its vouchers are backed.
    pub fn funding_done(&self, tenant: &Tenant, batch: &str, proofs: Vec<LockedProof>) -> StoreAnswer<()> {
        let (tenant, batch, when) = (tenant.clone(), batch.to_owned(), self.when());
        let at = when.wall;
        self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            reopen(&door, &batch, when)?;
            add_locked_proofs(&door, &proofs)?;
            for row in rows(&door, "batch = $2 AND state = 'awaiting'", &batch)? {
                become_ready(&door, &row.id, at)?;
            }
            close(&door, &batch, "done", at)
        })
    }

    /// No invoice could be had: its vouchers have failed, unless the same order that came twice has one. That one then.
    pub async fn funding_refused(
        &self,
        tenant: &Tenant,
        batch: &str,
        why: &'static str,
    ) -> Result<Option<FundingRow>, StoreError> {
        let (tenant, name, when) = (tenant.clone(), batch.to_owned(), self.when());
        let failing = self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            match funding(&door, &tenant, &name)? {
                Some(known) => Ok((0, Some(known))),
                None => Ok((fail_batch(&door, (&name, LockedState::Awaiting), why, when)?, None)),
            }
        });
        let (failed, known) = failing.await?;
        report_failed(batch, failed, why);
        Ok(known)
    }

    /// Nobody has paid in time.
    pub async fn funding_expired(
        &self,
        tenant: &Tenant,
        batch: &str,
        why: &'static str,
    ) -> Result<(), StoreError> {
        let (tenant, name, when) = (tenant.clone(), batch.to_owned(), self.when());
        let failing = self.write(move |tx| {
            let door = Door::for_tenant(tx, &tenant);
            if !funding(&door, &tenant, &name)?.is_some_and(|funding| funding.is_open) {
                return Ok(0);
            }
            let failed = fail_batch(&door, (&name, LockedState::Awaiting), why, when)?;
            close(&door, &name, "expired", when.wall)?;
            Ok(failed)
        });
        report_failed(batch, failing.await?, why);
        Ok(())
    }
}

fn close(door: &Door<'_>, batch: &str, state: &str, at: UnixSeconds) -> Result<(), StoreError> {
    let closed = "UPDATE fundings SET state = $3, changed_at = $4 WHERE tenant = $1 AND batch = $2";
    door.execute(closed, &[batch.into(), state.into(), at.into()]).map(drop)
}

fn funding(door: &Door<'_>, tenant: &Tenant, batch: &str) -> Result<Option<FundingRow>, StoreError> {
    let found = door.query(
        "SELECT mint, sats, lock, quote, invoice, expires_at, state = 'open' FROM fundings
         WHERE tenant = $1 AND batch = $2",
        &[batch.into()],
    )?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some(FundingRow {
        tenant: tenant.clone(),
        batch: batch.to_owned(),
        mint: mint_of(row.text(0)?)?,
        amount: Sats(row.count(1)?),
        lock: u32::try_from(row.number(2)?).map_err(|_| StoreError::unreadable("lock"))?,
        quote: row.text(3)?.to_owned(),
        invoice: row.text(4)?.to_owned(),
        expires_at: UnixSeconds(row.count(5)?),
        is_open: row.number(6)? == 1,
    }))
}
