//! The takings as ecash: proofs and their keysets. A proof's secret is derived from the takings' seed, so only its
//! counter is kept. A proof that was spent is deleted.

use super::grants::note_keyset;
use super::reference::Reference;
use super::settled::settle_request;
use super::values::{mint_of, money};
use super::{RequestId, Store, StoreAnswer, StoreError};
use crate::config::MintUrl;
use crate::units::{Amount, Sats, Unit};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{params, Connection, OptionalExtension, Row, Transaction};

/// Ecash of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurseName {
    /// The takings.
    House,
    /// What is held for accounts of the wallet API.
    Balances,
}

impl PurseName {
    /// Also whose counters they are.
    pub fn as_str(self) -> &'static str {
        match self {
            PurseName::House => "house",
            PurseName::Balances => "balances",
        }
    }
}

impl FromSql for PurseName {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<PurseName> {
        let text = value.as_str()?;
        let known = [PurseName::House, PurseName::Balances].into_iter().find(|purse| purse.as_str() == text);
        known.ok_or(FromSqlError::InvalidType)
    }
}

/// Names a proof of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofKey {
    pub(super) keyset: i64,
    pub(super) counter: u32,
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
    pub keyset: String,
    /// Counter, amount, and the mint's signature as a compressed point.
    pub proofs: Vec<(u32, Sats, Vec<u8>)>,
}

/// What is held of one mint in one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    pub mint: MintUrl,
    /// May be spent.
    pub free: Amount,
    /// Held by operations that are not over: sent and not yet spent, or being paid with.
    pub held: Amount,
    pub proofs: u32,
}

impl Store {
    /// The proofs that an operation holds.
    pub fn held_proofs(&self, op: i64) -> StoreAnswer<Vec<ProofRow>> {
        self.read(move |db| proofs_where(db, "p.op = ?1", op))
    }

    /// The proofs of a mint in a purse that may be spent.
    pub fn free_proofs(&self, purse: PurseName, mint: &MintUrl) -> StoreAnswer<Vec<ProofRow>> {
        let mint = mint.as_str().to_owned();
        let which = match purse {
            PurseName::Balances => "p.op IS NULL AND k.mint = ?1 AND k.purse = 'balances'",
            PurseName::House => "p.op IS NULL AND k.mint = ?1 AND k.purse = 'house'",
        };
        self.read(move |db| proofs_where(db, which, mint))
    }

    /// What is held in a purse, per mint and unit.
    pub fn balances(&self, purse: PurseName) -> StoreAnswer<Vec<Balance>> {
        self.read(move |db| {
            db.prepare(
                "SELECT k.mint, k.unit, COALESCE(SUM(p.amount) FILTER (WHERE p.op IS NULL), 0),
                        COALESCE(SUM(p.amount) FILTER (WHERE p.op IS NOT NULL), 0), COUNT(*)
                 FROM proofs p JOIN wallet_keysets k ON k.id = p.keyset WHERE k.purse = ?1
                 GROUP BY k.mint, k.unit ORDER BY k.mint",
            )?
            .query_map([purse.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, money(row, 2, 1)?, money(row, 3, 1)?, row.get(4)?))
            })?
            .map(|row| {
                let (mint, free, held, proofs) = row?;
                Ok(Balance { mint: mint_of(&mint)?, free, held, proofs })
            })
            .collect()
        })
    }

    /// The mints of everything that was ever held in a purse.
    pub fn wallet_mints(&self, purse: PurseName) -> StoreAnswer<Vec<MintUrl>> {
        self.read(move |db| {
            db.prepare("SELECT DISTINCT mint FROM wallet_keysets WHERE purse = ?1")?
                .query_map([purse.as_str()], |row| row.get::<_, String>(0))?
                .map(|mint| mint_of(&mint?))
                .collect()
        })
    }

    /// Proofs that were found again at a mint, and the first counter that is certainly unused. Answers how much of
    /// it was not known.
    pub fn restored(&self, purse: PurseName, found: NewProofs, next_counter: u32) -> StoreAnswer<Sats> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO counters (owner, keyset, next) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET next = MAX(next, ?3)",
                params![purse.as_str(), found.keyset, next_counter],
            )?;
            add_proofs(tx, purse, &found)
        })
    }

    /// The tokens of a house's part become proofs of the takings.
    pub fn adopt(&self, part: i64, takings: NewProofs) -> StoreAnswer<()> {
        self.write(move |tx| {
            let adopted = tx
                .query_row(
                    "UPDATE parts SET token = NULL, sealed = NULL, outputs = '' WHERE id = ?1 AND state = 'claimed'
                     AND (token IS NOT NULL OR sealed IS NOT NULL) RETURNING request, position",
                    [part],
                    |row| Ok((RequestId(row.get(0)?), row.get(1)?)),
                )
                .optional()?;
            let Some((request, position)) = adopted else { return Ok(()) };
            add_proofs(tx, PurseName::House, &takings)?;
            let reference = Reference::Invoice(request.clone(), position);
            note_keyset(tx, &reference, &takings.mint, &takings.keyset)?;
            settle_request(tx, request.as_str())
        })
    }
}

/// Adds what is not there yet; answers its sum.
pub(super) fn add_proofs(tx: &Transaction, purse: PurseName, new: &NewProofs) -> Result<Sats, StoreError> {
    if new.proofs.is_empty() {
        return Ok(Sats(0));
    }
    let (mint, named) = (new.mint.as_str(), named_in(purse, &new.keyset));
    tx.execute(
        "INSERT INTO wallet_keysets (mint, keyset, unit, purse) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![mint, named, Unit::Sat, purse.as_str()],
    )?;
    let keyset: i64 = tx.query_row(
        "SELECT id FROM wallet_keysets WHERE mint = ?1 AND keyset = ?2",
        params![mint, named],
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

/// What a keyset is called in the table, where each is once: in another purse than the house's with the purse's name.
fn named_in(purse: PurseName, keyset: &str) -> String {
    match purse {
        PurseName::Balances => format!("{BALANCES}{keyset}"),
        PurseName::House => keyset.to_owned(),
    }
}

const BALANCES: &str = "balances:";

fn proofs_where(
    db: &Connection,
    condition: &str,
    value: impl rusqlite::ToSql,
) -> Result<Vec<ProofRow>, StoreError> {
    db.prepare(&format!(
        "SELECT p.keyset, p.counter, p.amount, p.c, k.mint, k.keyset, k.unit
         FROM proofs p JOIN wallet_keysets k ON k.id = p.keyset WHERE {condition} ORDER BY p.keyset, p.counter"
    ))?
    .query_map([value], |row| Ok(proof_of(row)))?
    .map(|proof| proof?)
    .collect()
}

fn proof_of(row: &Row) -> Result<ProofRow, StoreError> {
    let (counter, keyset) = (row.get(1)?, row.get::<_, String>(5)?);
    Ok(ProofRow {
        key: ProofKey { keyset: row.get(0)?, counter },
        counter,
        amount: money(row, 2, 6)?,
        c: row.get(3)?,
        mint: mint_of(&row.get::<_, String>(4)?)?,
        keyset: keyset.strip_prefix(BALANCES).map(str::to_owned).unwrap_or(keyset),
    })
}
