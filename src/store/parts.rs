//! The parts of payment requests, an invoice each, and the money in transit that belongs to them.
//!
//! A part goes `asking -> unpaid -> paid -> claimed`, or ends as `expired`. With the tokens here, invoice and outputs
//! go.

use super::counters::{new_part_number, take_counter};
use super::grants::{add_grant, granted_session, note_keyset, NewGrant};
use super::outputs::{outputs_of, OutputsRow};
use super::proofs::{add_proofs, NewProofs, PurseName};
use super::requests::request_by_id;
use super::settled::settle_request;
use super::tokens::Holder;
use super::values::{mac_of, mint_of, money};
use super::{Admission, NewRequest, Owner, RequestId, Store, StoreAnswer, StoreError, Vault};
use crate::config::{Metric, MintUrl};
use crate::units::{Allotment, Millis, Sats, Unit, UnixSeconds};
use rusqlite::{params, Connection, Row, Transaction};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// The mint is being asked for an invoice; nothing was shown to the guest.
    Asking,
    Unpaid,
    /// The mint says it was paid; the tokens are not ours yet.
    Paid,
    /// The tokens are in the store (and, for the house, the access is granted).
    Claimed,
    /// Never paid, and no longer watched.
    Expired,
}

#[derive(Clone, Debug)]
pub struct NewPart {
    pub mint: MintUrl,
    pub amount: Sats,
    pub metric: Metric,
    /// What the guest gets for it; zero where tokens are handed out instead.
    pub allotment: Allotment,
    /// Text of the keyset id that the outputs will be made on, and their amounts.
    pub keyset: String,
    pub amounts: Vec<u64>,
}

#[derive(Clone)]
pub struct PartRow {
    pub id: i64,
    pub position: u32,
    pub mint: MintUrl,
    pub amount: Sats,
    pub metric: Metric,
    pub allotment: Allotment,
    pub lock_index: u32,
    pub state: PartState,
    pub quote: Option<String>,
    pub invoice: Option<String>,
    /// When the invoice ends by the mint's clock.
    pub expires_at: Option<UnixSeconds>,
    /// The same in service time.
    pub due: Option<Millis>,
    pub token: Option<String>,
    /// The guest said that the tokens are safe, or they were seen spent.
    pub acked: bool,
    /// The newest is last.
    pub outputs: Vec<OutputsRow>,
}

/// An invoice that waits for its payment: what it takes to ask for it.
#[derive(Clone)]
pub struct OpenPart {
    pub id: i64,
    pub request: RequestId,
    pub quote: String,
    /// In service time.
    pub due: Millis,
}

/// What a paid part turned into.
#[derive(Clone)]
pub enum Tokens {
    /// A token to be handed out.
    Guest(String),
    /// Proofs of the takings.
    House(NewProofs),
}

/// What the mint answered to the question for an invoice.
#[derive(Clone)]
pub struct InvoiceRow {
    pub quote: String,
    pub invoice: String,
    pub expires_at: UnixSeconds,
    pub due: Millis,
}

impl Store {
    /// The mints' invoices (part, answer), committed before they are shown.
    pub fn invoiced(&self, answers: Vec<(i64, InvoiceRow)>) -> StoreAnswer<()> {
        self.write(move |tx| {
            for (part, answer) in &answers {
                let changed = tx.execute(
                    "UPDATE parts SET state = 'unpaid', quote = ?2, invoice = ?3, expires_at = ?4, due_ms = ?5
                     WHERE id = ?1 AND state = 'asking'",
                    params![part, answer.quote, answer.invoice, answer.expires_at, answer.due],
                )?;
                if changed != 1 {
                    return Err(StoreError::Gone);
                }
            }
            Ok(())
        })
    }

    /// Notes that the mint reports a part as paid. Not waited for: the mint remembers it as well.
    pub fn paid(&self, part: i64) {
        self.write_later("a payment's arrival", move |tx| {
            tx.execute("UPDATE parts SET state = 'paid' WHERE id = ?1 AND state = 'unpaid'", [part])?;
            Ok(())
        });
    }

    /// The mint has taken back that a part was paid.
    pub fn not_paid(&self, part: i64) {
        self.write_later("a payment taken back", move |tx| {
            tx.execute("UPDATE parts SET state = 'unpaid' WHERE id = ?1 AND state = 'paid'", [part])?;
            Ok(())
        });
    }

    /// Takes fresh counters, `skip` further on, for a part whose earlier outputs cannot be used any more.
    pub fn claim_again(
        &self,
        part: i64,
        owner: Owner,
        keyset: String,
        amounts: Vec<u64>,
        skip: u32,
    ) -> StoreAnswer<OutputsRow> {
        self.write(move |tx| {
            let outputs = OutputsRow::take(tx, owner.as_str(), &keyset, &amounts, skip)?;
            let append = "UPDATE parts SET outputs = outputs || ?2 WHERE id = ?1";
            match tx.execute(append, params![part, outputs.to_line()])? {
                1 => Ok(outputs),
                _ => Err(StoreError::Gone),
            }
        })
    }

    /// The tokens of a part are here: keeps them and, with `grant`, turns them into access, in one commit.
    /// Doing it twice changes nothing and answers the session as it is.
    pub async fn claimed(
        &self,
        part: i64,
        tokens: Tokens,
        grant: Option<NewGrant>,
    ) -> Result<Option<Admission>, StoreError> {
        let (now, wall, vault) = (self.now(), self.wall(), self.vault().await?);
        self.write(move |tx| {
            if let Some(grant) = &grant {
                // A part that is settled has no row any more.
                if let Some(session) = granted_session(tx, &grant.reference)? {
                    return Ok(Some(session));
                }
            }
            let sealed = match &tokens {
                Tokens::Guest(token) => Some(Holder::Part(part).seal(&vault, token)?),
                Tokens::House(_) => None,
            };
            let changed = tx.execute(
                "UPDATE parts SET state = 'claimed', sealed = ?2, invoice = NULL, expires_at = NULL, due_ms = NULL, outputs = ''
                 WHERE id = ?1 AND state IN ('unpaid', 'paid', 'expired')",
                params![part, sealed],
            )?;
            if changed == 1 {
                if let Tokens::House(proofs) = &tokens {
                    add_proofs(tx, PurseName::House, proofs)?;
                }
            }
            let Some(grant) = grant else { return Ok(None) };
            // The request may have moved to another MAC since the caller read it.
            let (request, mac): (String, String) = tx.query_row(
                "SELECT requests.id, mac FROM requests JOIN parts ON request = requests.id WHERE parts.id = ?1",
                [part],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let mac = mac_of(&mac)?;
            let session = add_grant(tx, &NewGrant { mac, ..grant.clone() }, now, wall)?;
            if let Tokens::House(proofs) = &tokens {
                note_keyset(tx, &grant.reference, &proofs.mint, &proofs.keyset)?;
            }
            settle_request(tx, &request)?;
            Ok(Some(session))
        })
        .await
    }

    pub async fn expired(&self, part: i64) -> Result<(), StoreError> {
        self.all_expired(vec![part]).await
    }

    pub fn all_expired(&self, parts: Vec<i64>) -> StoreAnswer<()> {
        self.write(move |tx| {
            for part in &parts {
                tx.execute("UPDATE parts SET state = 'expired' WHERE id = ?1 AND state = 'unpaid'", [part])?;
            }
            Ok(())
        })
    }

    /// The guest has the tokens of these parts (or spent them): they are not pushed again.
    pub fn acked(&self, parts: Vec<i64>) -> StoreAnswer<()> {
        self.write(move |tx| {
            for part in &parts {
                tx.execute("UPDATE parts SET acked = 1 WHERE id = ?1 AND state = 'claimed'", [part])?;
            }
            Ok(())
        })
    }

    /// The mints of invoices that wait for their payment, or whose payment waits for us.
    pub fn open_mints(&self) -> StoreAnswer<Vec<MintUrl>> {
        self.read(|db| {
            db.prepare("SELECT DISTINCT mint FROM parts WHERE state IN ('asking', 'unpaid', 'paid')")?
                .query_map([], |row| row.get::<_, String>(0))?
                .map(|mint| mint_of(&mint?))
                .collect()
        })
    }

    /// Invoices of a mint that wait for their payment or whose payment waits for us: at most `most`, with numbers above
    /// `after`, in their order.
    pub fn open_parts(&self, mint: &MintUrl, after: i64, most: usize) -> StoreAnswer<Vec<OpenPart>> {
        let mint = mint.as_str().to_owned();
        self.read(move |db| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let rows = db
                .prepare_cached(
                    "SELECT id, request, quote, due_ms FROM parts
                     WHERE state IN ('asking', 'unpaid', 'paid') AND id > ?1 AND mint = ?2 AND quote IS NOT NULL
                     ORDER BY id LIMIT ?3",
                )?
                .query_map(params![after, mint, most], |row| {
                    let due = row.get::<_, Option<Millis>>(3)?.unwrap_or_default();
                    Ok(OpenPart { id: row.get(0)?, request: RequestId(row.get(1)?), quote: row.get(2)?, due })
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
    }

    /// Parts of the house whose tokens are not proofs of the takings yet.
    pub async fn parts_to_adopt(&self) -> Result<Vec<PartRow>, StoreError> {
        let vault = self.vault().await?;
        self.read(move |db| {
            let ids = db
                .prepare(
                    "SELECT DISTINCT r.id FROM requests r JOIN parts p ON p.request = r.id
                     WHERE r.owner = 'house' AND p.state = 'claimed'
                     AND (p.token IS NOT NULL OR p.sealed IS NOT NULL)",
                )?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()?;
            let mut parts = Vec::new();
            for id in ids {
                let row = request_by_id(db, &vault, &RequestId(id))?;
                parts.extend(row.into_iter().flat_map(|row| row.parts).filter(|part| part.token.is_some()));
            }
            Ok(parts)
        })
        .await
    }
}

/// A part that is about to be asked for; takes its lock key and the counters of its outputs.
pub(super) fn add_part(
    tx: &Transaction,
    request: &NewRequest,
    position: u32,
    part: &NewPart,
) -> Result<(), StoreError> {
    let lock_index = take_counter(tx, request.owner.as_str(), "lock", 1)?;
    let outputs = OutputsRow::take(tx, request.owner.as_str(), &part.keyset, &part.amounts, 0)?;
    tx.execute(
        "INSERT INTO parts (id, request, position, mint, amount, unit, metric, allotment, lock_index, state, outputs)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'asking', ?10)",
        params![
            new_part_number(tx)?,
            request.id.0,
            position,
            part.mint.as_str(),
            part.amount,
            Unit::Sat,
            part.metric,
            part.allotment,
            lock_index,
            outputs.to_line()
        ],
    )?;
    Ok(())
}

/// The parts of a request in their order.
pub(super) fn parts_of(
    db: &Connection,
    vault: &Vault,
    request: &RequestId,
) -> Result<Vec<PartRow>, StoreError> {
    db.prepare_cached(
        "SELECT id, position, mint, amount, allotment, lock_index, state, quote, invoice, expires_at, due_ms, token,
         acked, metric, sealed, outputs, unit FROM parts WHERE request = ?1 ORDER BY position",
    )?
    .query_map([&request.0], |row| Ok(part_of(row, vault)))?
    .map(|part| part?)
    .collect()
}

fn part_of(row: &Row, vault: &Vault) -> Result<PartRow, StoreError> {
    let id = row.get(0)?;
    Ok(PartRow {
        id,
        position: row.get(1)?,
        mint: mint_of(&row.get::<_, String>(2)?)?,
        amount: money(row, 3, 16)?,
        allotment: row.get(4)?,
        lock_index: row.get(5)?,
        state: row.get::<_, String>(6)?.parse()?,
        quote: row.get(7)?,
        invoice: row.get(8)?,
        expires_at: row.get(9)?,
        due: row.get(10)?,
        token: Holder::Part(id).token(vault, row.get(14)?, row.get(11)?)?,
        acked: row.get(12)?,
        metric: row.get(13)?,
        outputs: outputs_of(&row.get::<_, String>(15)?)?,
    })
}

impl FromStr for PartState {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<PartState, StoreError> {
        Ok(match text {
            "asking" => PartState::Asking,
            "unpaid" => PartState::Unpaid,
            "paid" => PartState::Paid,
            "claimed" => PartState::Claimed,
            "expired" => PartState::Expired,
            _ => return Err(StoreError::unreadable("state")),
        })
    }
}

impl fmt::Debug for PartRow {
    /// Without token, invoice and quote: they are worth money.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartRow({} {:?} {} sat at {})", self.id, self.state, self.amount, self.mint)
    }
}
