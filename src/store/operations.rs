//! The journal of what is done with the takings.
//!
//! An operation is committed with everything its request is made of before the request leaves (`op_begin`), and
//! ends in one commit with its effects: proofs that came, proofs that went, the access they paid for. Proofs that
//! an operation spends are held by it from its beginning, so no two operations send the same one.

use super::balances::{credit, settle, NewMove};
use super::buys::keep_promises;
use super::counters::new_operation_number;
use super::door::Door;
use super::grants::{add_grant, known_grant, mac_in_text, NewGrant};
use super::ledger::BookAccount;
use super::outputs::{outputs_of, OutputsRow};
use super::proofs::{add_proofs, NewProofs, ProofKey, PurseName};
use super::reference::Reference;
use super::taken::{take, take_done, LockedTaking};
use super::tokens::Holder;
use super::values::{mint_of, money};
use super::{Admission, Store, StoreAnswer, StoreError, Vault};
use crate::config::MintUrl;
use crate::units::{Millis, Msats, Sats, Unit};
use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};
use std::fmt;

/// Receipts whose outcome is not known yet. Each is a row and a task, and a mint that hangs makes them from
/// tokens that are worth nothing.
const MOST_OPEN: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Somebody's token becomes ours.
    Receive,
    /// Our own proofs become others.
    Swap,
    /// Proofs that were given out as a token, until they are seen spent.
    Send,
    /// The mint pays an invoice for our proofs.
    Melt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpState {
    Open,
    /// A melt that is taken back, by trading its proofs away under it.
    Cancelling,
    Done,
    Failed,
}

#[derive(Clone)]
pub struct NewOp {
    pub kind: OpKind,
    /// Whose ecash it moves.
    pub purse: PurseName,
    pub mint: MintUrl,
    /// Names what must happen once, ever.
    pub reference: Option<Reference>,
    /// What arrives, or what is sent or paid.
    pub amount: Sats,
    pub token: Option<String>,
    /// Proofs of ours that it spends.
    pub spends: Vec<ProofKey>,
    /// What was promised of the takings stays there, and this much for moving it.
    pub keeps: Option<Sats>,
    /// Keyset and amounts of the outputs that it asks for.
    pub outputs: Option<(String, Vec<u64>)>,
    pub quote: Option<String>,
    pub grant: Option<NewGrant>,
    /// Locked proofs that it takes.
    pub takes: Option<LockedTaking>,
    /// What was reserved of a balance, and is spent at this cost as it begins.
    pub settles: Option<(String, Msats)>,
    /// The account whose balance what arrives is added to.
    pub credits: Option<String>,
}

impl NewOp {
    /// With nothing of what only some operations have.
    pub fn new(kind: OpKind, purse: PurseName, mint: MintUrl, amount: Sats) -> NewOp {
        NewOp {
            kind,
            purse,
            mint,
            reference: None,
            amount,
            token: None,
            spends: Vec::new(),
            keeps: None,
            outputs: None,
            quote: None,
            grant: None,
            takes: None,
            settles: None,
            credits: None,
        }
    }
}

#[derive(Clone)]
pub struct OpRow {
    pub id: i64,
    pub kind: OpKind,
    pub purse: PurseName,
    pub state: OpState,
    pub mint: MintUrl,
    pub reference: Option<Reference>,
    pub amount: Sats,
    pub token: Option<String>,
    /// The newest is last.
    pub outputs: Vec<OutputsRow>,
    pub quote: Option<String>,
    pub result: Option<String>,
    pub created: Millis,
    /// Its guest has been let in before it was over.
    pub is_granted: bool,
}

/// What is known of a reference.
#[derive(Clone)]
pub enum Known {
    Open(OpRow),
    Done { amount: Sats, session: Option<Admission>, result: Option<String> },
    Failed { result: Option<String> },
}

pub enum Begun {
    New(OpRow),
    Known(Known),
    /// Too many operations of this kind are open.
    Full,
}

impl Store {
    /// Journals an operation: its counters are taken and its proofs held for good. `Gone` where a proof that it
    /// would spend is not free, `Promised` where what it leaves is not enough.
    pub async fn op_begin(&self, op: NewOp) -> Result<Begun, StoreError> {
        let (now, at, vault) = (self.now(), self.wall(), self.vault().await?);
        self.write(move |tx| {
            let (takes, settles) = (op.takes.clone(), op.settles.clone());
            let begun = begin_op(tx, &vault, now, op)?;
            if let (Begun::New(op), Some(takes)) = (&begun, takes) {
                take(tx, &takes, op.id, at)?;
            }
            if let (Begun::New(_), Some((reference, cost))) = (&begun, settles) {
                if !settle(&Door::of(tx), &reference, cost, BookAccount::Tokens, at)? {
                    return Err(StoreError::Gone);
                }
            }
            Ok(begun)
        })
        .await
    }

    /// Takes fresh counters, `skip` further on, for an open operation whose earlier outputs cannot be used.
    pub fn op_outputs(
        &self,
        op: i64,
        keyset: String,
        amounts: Vec<u64>,
        skip: u32,
    ) -> StoreAnswer<OutputsRow> {
        self.write(move |tx| add_outputs(tx, op, &keyset, &amounts, skip))
    }

    /// From now on the proofs of a melt are traded away, on outputs of this keyset.
    pub fn op_cancel(&self, op: i64, keyset: String, amounts: Vec<u64>) -> StoreAnswer<OutputsRow> {
        self.write(move |tx| {
            let changed = tx.execute(
                "UPDATE wallet_ops SET state = 'cancelling' WHERE id = ?1 AND state = 'open' AND kind = 'melt'",
                [op],
            )?;
            match changed {
                1 => add_outputs(tx, op, &keyset, &amounts, 0),
                _ => Err(StoreError::Gone),
            }
        })
    }

    /// An operation has taken place: the received proofs are kept, the sent ones are gone, and what it paid for is
    /// granted, in one commit. Doing it twice changes nothing and answers the session as it is.
    pub async fn op_done(
        &self,
        op: i64,
        came: Option<NewProofs>,
        result: Option<String>,
    ) -> Result<Option<Admission>, StoreError> {
        self.op_end(op, came, OpState::Done, result).await
    }

    /// A melt did not take place, and its proofs were traded for these.
    pub async fn op_cancelled(&self, op: i64, came: NewProofs, why: String) -> Result<(), StoreError> {
        self.op_end(op, Some(came), OpState::Failed, Some(why)).await.map(drop)
    }

    fn op_end(
        &self,
        op: i64,
        came: Option<NewProofs>,
        state: OpState,
        result: Option<String>,
    ) -> StoreAnswer<Option<Admission>> {
        let now = self.now();
        let wall = self.wall();
        self.write(move |tx| {
            let row = tx
                .query_row(
                    "UPDATE wallet_ops SET state = ?2, token = NULL, sealed = NULL, outputs = '', result = ?3
                     WHERE id = ?1 AND state IN ('open', 'cancelling') RETURNING access, reference, purse, credits, amount, unit",
                    params![op, state.as_str(), result],
                    |row| {
                        let reference = row.get::<_, Option<Reference>>(1)?;
                        let credits = match row.get::<_, Option<String>>(3)? {
                            Some(account) => Some((account, money::<Sats>(row, 4, 5)?)),
                            None => None,
                        };
                        Ok((row.get::<_, Option<String>>(0)?, reference, row.get::<_, PurseName>(2)?, credits))
                    },
                )
                .optional()?;
            let Some((access, reference, purse, credits)) = row else { return Ok(None) };
            tx.execute("DELETE FROM proofs WHERE op = ?1", [op])?;
            take_done(tx, op)?;
            if let Some(came) = &came {
                add_proofs(tx, purse, came)?;
            }
            if let (Some((account, amount)), Some(reference)) = (credits, &reference) {
                let amount = amount.to_msats().ok_or_else(|| StoreError::unreadable("amount"))?;
                let (reference, detail) = (reference.to_string(), String::new());
                let new = NewMove { account, reference, kind: "deposit", amount, detail };
                credit(&Door::of(tx), &new, BookAccount::Tokens, wall)?;
            }
            let grant = access.as_deref().map(NewGrant::from_text).transpose()?;
            if grant.is_some() || reference.is_none() {
                // The grant's reference counts from here; an operation without a grant is never asked for again.
                tx.execute("DELETE FROM wallet_ops WHERE id = ?1", [op])?;
            }
            grant.map(|grant| add_grant(tx, &grant, now, wall)).transpose()
        })
    }

    /// An operation did not take place: its proofs are free again, but for those that turned out to be `spent`.
    /// A payment stays known as failed, for this reason; everything else is forgotten.
    pub fn op_failed(&self, op: i64, spent: Vec<ProofKey>, why: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            for key in &spent {
                tx.execute(
                    "DELETE FROM proofs WHERE keyset = ?1 AND counter = ?2 AND op = ?3",
                    params![key.keyset, key.counter, op],
                )?;
            }
            tx.execute("UPDATE proofs SET op = NULL WHERE op = ?1", [op])?;
            tx.execute(
                "UPDATE wallet_ops SET state = 'failed', outputs = '', result = ?2
                 WHERE id = ?1 AND state IN ('open', 'cancelling') AND kind = 'melt'",
                params![op, why],
            )?;
            tx.execute("DELETE FROM wallet_ops WHERE id = ?1 AND state = 'open'", [op])?;
            Ok(())
        })
    }

    pub async fn op_known(&self, reference: Reference) -> Result<Option<Known>, StoreError> {
        let vault = self.vault().await?;
        self.read(move |db| known(db, &vault, &reference)).await
    }

    /// Operations of a purse that are not over, oldest first.
    pub async fn open_ops(&self, purse: PurseName) -> Result<Vec<OpRow>, StoreError> {
        let vault = self.vault().await?;
        self.read(move |db| {
            db.prepare(&format!("{OP} WHERE state IN ('open', 'cancelling') AND purse = ?1 ORDER BY id"))?
                .query_map([purse.as_str()], |row| Ok(op_of(row, &vault)))?
                .map(|op| op?)
                .collect()
        })
        .await
    }
}

/// Journals an operation in a transaction that does more.
pub(super) fn begin_op(tx: &Transaction, vault: &Vault, now: Millis, op: NewOp) -> Result<Begun, StoreError> {
    if let Some(known) = op.reference.as_ref().map(|r| known(tx, vault, r)).transpose()?.flatten() {
        return Ok(Begun::Known(known));
    }
    if op.kind == OpKind::Receive && open_count(tx)? >= MOST_OPEN {
        return Ok(Begun::Full);
    }
    let id = new_operation_number(tx)?;
    let sealed = op.token.as_deref().map(|token| Holder::Operation(id).seal(vault, token));
    let outputs = op.outputs.as_ref();
    let outputs =
        outputs.map(|(keyset, amounts)| OutputsRow::take(tx, op.purse.as_str(), keyset, amounts, 0));
    tx.execute(
        "INSERT INTO wallet_ops
             (id, kind, state, mint, reference, amount, unit, sealed, outputs, quote, access, created_ms, purse, credits)
         VALUES (?1, ?2, 'open', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            id,
            op.kind.as_str(),
            op.mint.as_str(),
            op.reference,
            op.amount,
            Unit::Sat,
            sealed.transpose()?,
            outputs.transpose()?.map(|outputs| outputs.to_line()).unwrap_or_default(),
            op.quote,
            op.grant.as_ref().map(NewGrant::to_text),
            now,
            op.purse.as_str(),
            op.credits
        ],
    )?;
    for key in &op.spends {
        let held = tx.execute(
            "UPDATE proofs SET op = ?1 WHERE keyset = ?2 AND counter = ?3 AND op IS NULL",
            params![id, key.keyset, key.counter],
        )?;
        if held != 1 {
            return Err(StoreError::Gone);
        }
    }
    if let Some(margin) = op.keeps {
        keep_promises(tx, margin)?;
    }
    Ok(Begun::New(op_by_id(tx, vault, id)?.ok_or(StoreError::Gone)?))
}

/// What a device has posted, and its mint has not taken yet, is granted to another in its place.
pub(super) fn hand_over_receipts(tx: &Transaction, gone: &str, mac: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE wallet_ops SET access = replace(access, ?1, ?2) WHERE state = 'open' AND access IS NOT NULL",
        [mac_in_text(gone), mac_in_text(mac)],
    )?;
    Ok(())
}

pub(super) fn add_outputs(
    tx: &Transaction,
    op: i64,
    keyset: &str,
    amounts: &[u64],
    skip: u32,
) -> Result<OutputsRow, StoreError> {
    let purse: PurseName =
        tx.query_row("SELECT purse FROM wallet_ops WHERE id = ?1", [op], |row| row.get(0))?;
    let outputs = OutputsRow::take(tx, purse.as_str(), keyset, amounts, skip)?;
    let changed = tx.execute(
        "UPDATE wallet_ops SET outputs = outputs || ?2 WHERE id = ?1 AND state IN ('open', 'cancelling')",
        params![op, outputs.to_line()],
    )?;
    match changed {
        1 => Ok(outputs),
        _ => Err(StoreError::Gone),
    }
}

fn open_count(tx: &Transaction) -> Result<u32, StoreError> {
    Ok(tx.query_row(
        "SELECT COUNT(*) FROM wallet_ops WHERE state IN ('open', 'cancelling') AND kind = 'receive'
         AND granted = 0",
        [],
        |row| row.get(0),
    )?)
}

fn known(db: &Connection, vault: &Vault, reference: &Reference) -> Result<Option<Known>, StoreError> {
    if let Some((amount, session)) = known_grant(db, reference)? {
        return Ok(Some(Known::Done { amount, session, result: None }));
    }
    let op = db
        .query_row(&format!("{OP} WHERE reference = ?1"), [reference], |row| Ok(op_of(row, vault)))
        .optional()?
        .transpose()?;
    Ok(op.map(|op| match op.state {
        OpState::Open | OpState::Cancelling => Known::Open(op),
        OpState::Done => Known::Done { amount: op.amount, session: None, result: op.result },
        OpState::Failed => Known::Failed { result: op.result },
    }))
}

const OP: &str =
    "SELECT id, kind, state, mint, reference, amount, token, outputs, quote, result, created_ms, sealed, unit, granted, purse
     FROM wallet_ops";

fn op_by_id(db: &Connection, vault: &Vault, id: i64) -> Result<Option<OpRow>, StoreError> {
    db.query_row(&format!("{OP} WHERE id = ?1"), [id], |row| Ok(op_of(row, vault))).optional()?.transpose()
}

fn op_of(row: &Row, vault: &Vault) -> Result<OpRow, StoreError> {
    let id = row.get(0)?;
    Ok(OpRow {
        id,
        kind: kind_of(&row.get::<_, String>(1)?)?,
        state: state_of(&row.get::<_, String>(2)?)?,
        mint: mint_of(&row.get::<_, String>(3)?)?,
        reference: row.get(4)?,
        amount: money(row, 5, 12)?,
        token: Holder::Operation(id).token(vault, row.get(11)?, row.get(6)?)?,
        outputs: outputs_of(&row.get::<_, String>(7)?)?,
        quote: row.get(8)?,
        result: row.get(9)?,
        created: row.get(10)?,
        is_granted: row.get(13)?,
        purse: row.get(14)?,
    })
}

impl OpKind {
    fn as_str(self) -> &'static str {
        match self {
            OpKind::Receive => "receive",
            OpKind::Swap => "swap",
            OpKind::Send => "send",
            OpKind::Melt => "melt",
        }
    }
}

fn kind_of(text: &str) -> Result<OpKind, StoreError> {
    [OpKind::Receive, OpKind::Swap, OpKind::Send, OpKind::Melt]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| StoreError::unreadable("kind"))
}

impl OpState {
    fn as_str(self) -> &'static str {
        match self {
            OpState::Open => "open",
            OpState::Cancelling => "cancelling",
            OpState::Done => "done",
            OpState::Failed => "failed",
        }
    }
}

fn state_of(text: &str) -> Result<OpState, StoreError> {
    [OpState::Open, OpState::Cancelling, OpState::Done, OpState::Failed]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| StoreError::unreadable("state"))
}

impl fmt::Debug for OpRow {
    /// Without token, reference and quote: they are worth money, or name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpRow({} {:?} {:?} {} sat at {})", self.id, self.kind, self.state, self.amount, self.mint)
    }
}
