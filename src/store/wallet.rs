//! The takings as ecash, and the journal of what is done with them.
//!
//! An operation is committed with everything its request is made of before the request leaves (`op_begin`), and
//! ends in one commit with its effects: proofs that came, proofs that went, the access they paid for. Proofs that
//! an operation spends are held by it from its beginning, so no two operations send the same one.

use super::older::settle_older;
use super::requests::{amounts_of, amounts_text, take_counter};
use super::sessions::{add_grant, session_by_account, NewGrant, SessionRow};
use super::tokens::Holder;
use super::{ClaimRow, Owner, Store, StoreError, Vault};
use crate::config::MintUrl;
use crate::units::{Millis, Sats};
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

/// Names a proof of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofKey {
    keyset: i64,
    counter: u32,
}

#[cfg(test)]
impl ProofKey {
    /// One of no store.
    pub fn of(counter: u32) -> ProofKey {
        ProofKey { keyset: 0, counter }
    }
}

/// A proof of the takings; its secret is that of `counter`.
#[derive(Clone)]
pub struct ProofRow {
    pub key: ProofKey,
    pub mint: MintUrl,
    pub keyset: String,
    pub counter: u32,
    pub amount: Sats,
    pub c: Vec<u8>,
}

/// Proofs that came from a mint, all of one keyset.
#[derive(Clone)]
pub struct NewProofs {
    pub mint: MintUrl,
    pub unit: String,
    pub keyset: String,
    /// Counter, amount, and the mint's signature as a compressed point.
    pub proofs: Vec<(u32, Sats, Vec<u8>)>,
}

#[derive(Clone)]
pub struct NewOp {
    pub kind: OpKind,
    pub mint: MintUrl,
    /// Names what must happen once, ever.
    pub reference: Option<String>,
    /// What arrives, or what is sent or paid.
    pub amount: Sats,
    pub token: Option<String>,
    /// Proofs of ours that it spends.
    pub spends: Vec<ProofKey>,
    /// Keyset and amounts of the outputs that it asks for.
    pub outputs: Option<(String, Vec<u64>)>,
    pub quote: Option<String>,
    pub grant: Option<NewGrant>,
}

#[derive(Clone)]
pub struct OpRow {
    pub id: i64,
    pub kind: OpKind,
    pub state: OpState,
    pub mint: MintUrl,
    pub reference: Option<String>,
    pub amount: Sats,
    pub token: Option<String>,
    /// The newest is last.
    pub outputs: Vec<ClaimRow>,
    pub quote: Option<String>,
    pub result: Option<String>,
    pub created: Millis,
}

/// What is known of a reference.
#[derive(Clone)]
pub enum Known {
    Open(OpRow),
    Done { amount: Sats, session: Option<SessionRow>, result: Option<String> },
    Failed { result: Option<String> },
}

pub enum Begun {
    New(OpRow),
    Known(Known),
    /// Too many operations of this kind are open.
    Full,
}

/// What is held of one mint and unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    pub mint: MintUrl,
    pub unit: String,
    /// May be spent.
    pub free: Sats,
    /// Held by operations that are not over: sent and not yet spent, or being paid with.
    pub held: Sats,
    pub proofs: u32,
}

impl Store {
    /// Journals an operation: its counters are taken and its proofs held for good. `Gone` where a proof that it
    /// would spend is not free.
    pub async fn op_begin(&self, op: NewOp) -> Result<Begun, StoreError> {
        let (now, vault) = (self.now(), self.vault().await?);
        self.write(move |tx| {
            if let Some(known) = op.reference.as_deref().map(|r| known(tx, &vault, r)).transpose()?.flatten()
            {
                return Ok(Begun::Known(known));
            }
            if op.kind == OpKind::Receive && open_count(tx)? >= MOST_OPEN {
                return Ok(Begun::Full);
            }
            let id = new_number(tx)?;
            tx.execute(
                "INSERT INTO wallet_ops
                     (id, kind, state, mint, reference, amount, outputs, quote, access, created_ms)
                 VALUES (?8, ?1, 'open', ?2, ?3, ?4, '', ?5, ?6, ?7)",
                params![
                    op.kind.as_str(),
                    op.mint.as_str(),
                    op.reference,
                    op.amount,
                    op.quote,
                    op.grant.as_ref().map(NewGrant::to_text),
                    now,
                    id
                ],
            )?;
            if let Some(token) = &op.token {
                let sealed = Holder::Operation(id).seal(&vault, token)?;
                tx.execute("UPDATE wallet_ops SET sealed = ?2 WHERE id = ?1", params![id, sealed])?;
            }
            if let Some((keyset, amounts)) = &op.outputs {
                add_outputs(tx, id, keyset, amounts)?;
            }
            for key in &op.spends {
                let held = tx.execute(
                    "UPDATE proofs SET op = ?1 WHERE keyset = ?2 AND counter = ?3 AND op IS NULL",
                    params![id, key.keyset, key.counter],
                )?;
                if held != 1 {
                    return Err(StoreError::Gone);
                }
            }
            Ok(Begun::New(op_by_id(tx, &vault, id)?.ok_or(StoreError::Gone)?))
        })
        .await
    }

    /// Takes fresh counters, `skip` further on, for an open operation whose earlier outputs cannot be used.
    pub async fn op_outputs(
        &self,
        op: i64,
        keyset: String,
        amounts: Vec<u64>,
        skip: u32,
    ) -> Result<ClaimRow, StoreError> {
        self.write(move |tx| {
            if skip > 0 {
                take_counter(tx, Owner::House, &keyset, skip)?;
            }
            add_outputs(tx, op, &keyset, &amounts)
        })
        .await
    }

    /// From now on the proofs of a melt are traded away, on outputs of this keyset.
    pub async fn op_cancel(
        &self,
        op: i64,
        keyset: String,
        amounts: Vec<u64>,
    ) -> Result<ClaimRow, StoreError> {
        self.write(move |tx| {
            let changed = tx.execute(
                "UPDATE wallet_ops SET state = 'cancelling' WHERE id = ?1 AND state = 'open' AND kind = 'melt'",
                [op],
            )?;
            match changed {
                1 => add_outputs(tx, op, &keyset, &amounts),
                _ => Err(StoreError::Gone),
            }
        })
        .await
    }

    /// An operation has taken place: what came is kept, what went is gone, and what it paid for is granted, in one
    /// commit. Doing it twice changes nothing and answers the session as it is.
    pub async fn op_done(
        &self,
        op: i64,
        came: Option<NewProofs>,
        result: Option<String>,
    ) -> Result<Option<SessionRow>, StoreError> {
        self.op_end(op, came, OpState::Done, result).await
    }

    /// A melt did not take place, and its proofs were traded for these.
    pub async fn op_cancelled(&self, op: i64, came: NewProofs, why: String) -> Result<(), StoreError> {
        self.op_end(op, Some(came), OpState::Failed, Some(why)).await.map(drop)
    }

    async fn op_end(
        &self,
        op: i64,
        came: Option<NewProofs>,
        state: OpState,
        result: Option<String>,
    ) -> Result<Option<SessionRow>, StoreError> {
        let now = self.now();
        let wall = self.wall();
        self.write(move |tx| {
            let row = tx
                .query_row(
                    "UPDATE wallet_ops SET state = ?2, token = NULL, sealed = NULL, outputs = '', result = ?3
                     WHERE id = ?1 AND state IN ('open', 'cancelling') RETURNING access, reference",
                    params![op, state.as_str(), result],
                    |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<String>>(1)?)),
                )
                .optional()?;
            let Some((access, reference)) = row else { return Ok(None) };
            tx.execute("DELETE FROM proofs WHERE op = ?1", [op])?;
            if let Some(came) = &came {
                add_proofs(tx, came)?;
            }
            let grant = access.as_deref().map(NewGrant::from_text).transpose()?;
            if grant.is_some() || reference.is_none() {
                // The grant's reference counts from here; what has none is never asked for again.
                tx.execute("DELETE FROM wallet_ops WHERE id = ?1", [op])?;
            }
            grant.map(|grant| add_grant(tx, &grant, now, wall)).transpose()
        })
        .await
    }

    /// An operation did not take place: its proofs are free again, but for those that turned out to be `spent`.
    /// A payment stays known as failed, for this reason; everything else is forgotten.
    pub async fn op_failed(&self, op: i64, spent: Vec<ProofKey>, why: String) -> Result<(), StoreError> {
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
        .await
    }

    pub async fn op_known(&self, reference: String) -> Result<Option<Known>, StoreError> {
        let vault = self.vault().await?;
        self.read(move |db| known(db, &vault, &reference)).await
    }

    /// Operations that are not over, oldest first.
    pub async fn open_ops(&self) -> Result<Vec<OpRow>, StoreError> {
        let vault = self.vault().await?;
        self.read(move |db| {
            db.prepare(&format!("{OP} WHERE state IN ('open', 'cancelling') ORDER BY id"))?
                .query_map([], |row| Ok(op_of(row, &vault)))?
                .map(|op| op?)
                .collect()
        })
        .await
    }

    /// The proofs that an operation holds.
    pub async fn held_proofs(&self, op: i64) -> Result<Vec<ProofRow>, StoreError> {
        self.read(move |db| proofs_where(db, "p.op = ?1", op)).await
    }

    /// The proofs of a mint that may be spent.
    pub async fn free_proofs(&self, mint: &MintUrl) -> Result<Vec<ProofRow>, StoreError> {
        let mint = mint.as_str().to_owned();
        self.read(move |db| proofs_where(db, "p.op IS NULL AND k.mint = ?1", mint)).await
    }

    /// What is held, per mint and unit.
    pub async fn balances(&self) -> Result<Vec<Balance>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT k.mint, k.unit, COALESCE(SUM(p.amount) FILTER (WHERE p.op IS NULL), 0),
                        COALESCE(SUM(p.amount) FILTER (WHERE p.op IS NOT NULL), 0), COUNT(*)
                 FROM proofs p JOIN wallet_keysets k ON k.id = p.keyset GROUP BY k.mint, k.unit ORDER BY k.mint",
            )?
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?
            .map(|row| {
                let (mint, unit, free, held, proofs) = row?;
                Ok(Balance { mint: mint_of(&mint)?, unit, free, held, proofs })
            })
            .collect()
        })
        .await
    }

    /// Mint and keyset of everything that was ever held.
    pub async fn wallet_keysets(&self) -> Result<Vec<(MintUrl, String)>, StoreError> {
        self.read(|db| {
            db.prepare("SELECT mint, keyset FROM wallet_keysets ORDER BY id")?
                .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?
                .map(|row| {
                    row.map_err(StoreError::from).and_then(|(mint, keyset)| Ok((mint_of(&mint)?, keyset)))
                })
                .collect()
        })
        .await
    }

    /// Proofs that were found again at a mint, and the first counter that is certainly unused. Answers how much of
    /// it was not known.
    pub async fn restored(&self, found: NewProofs, next_counter: u32) -> Result<Sats, StoreError> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO counters (owner, keyset, next) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET next = MAX(next, ?3)",
                params![Owner::House.as_str(), found.keyset, next_counter],
            )?;
            add_proofs(tx, &found)
        })
        .await
    }

    /// The tokens of a house's part become proofs of the takings.
    pub async fn adopt(&self, part: i64, takings: NewProofs) -> Result<(), StoreError> {
        self.write(move |tx| {
            let request: Option<String> = tx
                .query_row(
                    "UPDATE parts SET token = NULL, sealed = NULL WHERE id = ?1 AND state = 'claimed'
                     AND (token IS NOT NULL OR sealed IS NOT NULL) RETURNING request",
                    [part],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(request) = request else { return Ok(()) };
            add_proofs(tx, &takings)?;
            settle_older(tx, &request)
        })
        .await
    }
}

/// Adds what is not there yet; answers its sum.
pub(super) fn add_proofs(tx: &Transaction, new: &NewProofs) -> Result<Sats, StoreError> {
    if new.proofs.is_empty() {
        return Ok(Sats(0));
    }
    let mint = new.mint.as_str();
    tx.execute(
        "INSERT INTO wallet_keysets (mint, keyset, unit) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![mint, new.keyset, new.unit],
    )?;
    let keyset: i64 = tx.query_row(
        "SELECT id FROM wallet_keysets WHERE mint = ?1 AND keyset = ?2",
        params![mint, new.keyset],
        |row| row.get(0),
    )?;
    let mut sum = Sats(0);
    for (counter, amount, c) in &new.proofs {
        let added = tx.execute(
            "INSERT INTO proofs (keyset, counter, amount, c) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![keyset, counter, amount, c],
        )?;
        if added == 1 {
            sum = sum.checked_add(*amount).ok_or(StoreError::Gone)?;
        }
    }
    Ok(sum)
}

fn add_outputs(tx: &Transaction, op: i64, keyset: &str, amounts: &[u64]) -> Result<ClaimRow, StoreError> {
    let count = u32::try_from(amounts.len()).map_err(|_| StoreError::CounterExhausted)?;
    let counter = take_counter(tx, Owner::House, keyset, count)?;
    let line = format!("{keyset} {counter} {}\n", amounts_text(amounts));
    let changed = tx.execute(
        "UPDATE wallet_ops SET outputs = outputs || ?2 WHERE id = ?1 AND state IN ('open', 'cancelling')",
        params![op, line],
    )?;
    match changed {
        1 => Ok(ClaimRow { keyset: keyset.to_owned(), counter, amounts: amounts.to_vec() }),
        _ => Err(StoreError::Gone),
    }
}

/// The next operation's number. SQLite would give away again that of one whose row is gone, and a look at a mint that was under
/// way meanwhile would then end another operation.
fn new_number(tx: &Transaction) -> Result<i64, StoreError> {
    let next: i64 = tx.query_row(
        "INSERT INTO counters (owner, keyset, next)
         VALUES (?1, 'operation', (SELECT COALESCE(MAX(id), 0) + 2 FROM wallet_ops))
         ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next",
        [Owner::House.as_str()],
        |row| row.get(0),
    )?;
    Ok(next - 1)
}

fn open_count(tx: &Transaction) -> Result<u32, StoreError> {
    Ok(tx.query_row(
        "SELECT COUNT(*) FROM wallet_ops WHERE state IN ('open', 'cancelling') AND kind = 'receive'",
        [],
        |row| row.get(0),
    )?)
}

fn known(db: &Connection, vault: &Vault, reference: &str) -> Result<Option<Known>, StoreError> {
    let granted = db
        .query_row(
            "SELECT account, amount, venue, metric FROM grants WHERE reference = ?1",
            [reference],
            |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?)),
        )
        .optional()?;
    if let Some((account, amount, venue, metric)) = granted {
        let session = session_by_account(db, account, &venue, metric)?;
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

fn proofs_where(
    db: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
) -> Result<Vec<ProofRow>, StoreError> {
    db.prepare(&format!(
        "SELECT p.keyset, p.counter, p.amount, p.c, k.mint, k.keyset
         FROM proofs p JOIN wallet_keysets k ON k.id = p.keyset WHERE {condition} ORDER BY p.keyset, p.counter"
    ))?
    .query_map([value], |row| Ok(proof_of(row)))?
    .map(|proof| proof?)
    .collect()
}

fn proof_of(row: &Row) -> Result<ProofRow, StoreError> {
    let counter = row.get(1)?;
    Ok(ProofRow {
        key: ProofKey { keyset: row.get(0)?, counter },
        counter,
        amount: row.get(2)?,
        c: row.get(3)?,
        mint: mint_of(&row.get::<_, String>(4)?)?,
        keyset: row.get(5)?,
    })
}

const OP: &str =
    "SELECT id, kind, state, mint, reference, amount, token, outputs, quote, result, created_ms, sealed
     FROM wallet_ops";

fn op_by_id(db: &Connection, vault: &Vault, id: i64) -> Result<Option<OpRow>, StoreError> {
    db.query_row(&format!("{OP} WHERE id = ?1"), [id], |row| Ok(op_of(row, vault))).optional()?.transpose()
}

fn op_of(row: &Row, vault: &Vault) -> Result<OpRow, StoreError> {
    let outputs: String = row.get(7)?;
    let id = row.get(0)?;
    Ok(OpRow {
        id,
        kind: kind_of(&row.get::<_, String>(1)?)?,
        state: state_of(&row.get::<_, String>(2)?)?,
        mint: mint_of(&row.get::<_, String>(3)?)?,
        reference: row.get(4)?,
        amount: row.get(5)?,
        token: Holder::Operation(id).token(vault, row.get(11)?, row.get(6)?)?,
        outputs: outputs.lines().map(outputs_of).collect::<Result<_, _>>()?,
        quote: row.get(8)?,
        result: row.get(9)?,
        created: row.get(10)?,
    })
}

fn outputs_of(line: &str) -> Result<ClaimRow, StoreError> {
    let mut words = line.split(' ');
    match (words.next(), words.next().map(str::parse), words.next()) {
        (Some(keyset), Some(Ok(counter)), Some(amounts)) => {
            Ok(ClaimRow { keyset: keyset.to_owned(), counter, amounts: amounts_of(amounts)? })
        }
        _ => Err(StoreError::unreadable("outputs")),
    }
}

fn mint_of(text: &str) -> Result<MintUrl, StoreError> {
    MintUrl::parse(text).map_err(|_| StoreError::unreadable("mint"))
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
