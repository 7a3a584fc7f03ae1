//! Taps of cards and the payments that they become: issued -> reserved -> sent -> paid or failed, each step one
//! conditional statement.
//!
//! The counter of a card's keys only ever grows, so that a tap counts once; its k1 is stored as SHA-256. What is
//! reserved or sent counts against the limits until it is proven failed. `reserved` was never given to a backend;
//! `sent` may have been. One payment hash is paid at most once, with any card and any tap.
//!
//! What a card buys of this router itself goes from issued to paid in one step, and there is neither an invoice
//! nor a backend: see [`Store::spend_here`].

use super::grants::{add_grant, NewGrant};
use super::reference::Reference;
use super::values::{money, money_if_any};
use super::{time, Admission, KeysOwner, Store, StoreAnswer, StoreError};
use crate::units::{Millis, Msats, Sats, Unit, UnixSeconds};
use rusqlite::{params, Connection, OptionalExtension, Row};

/// What a card may spend is reckoned over this long.
pub const LIMIT_WINDOW: Millis = Millis::from_secs(86_400);

/// Names a tap and the payment that it becomes.
pub type TapId = i64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapState {
    Issued,
    Reserved,
    Sent,
    Paid,
    Failed,
}

/// A tap whose MAC was good.
#[derive(Clone)]
pub struct NewTap {
    pub owner: KeysOwner,
    pub uid: String,
    pub counter: u32,
    /// SHA-256.
    pub k1: [u8; 32],
    pub life: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapResult {
    /// A counter that was there before, another chip, or keys that are not the newest.
    Refused,
    /// The counter has advanced, and that is all.
    Disabled,
    Accepted {
        tx_max: Sats,
    },
}

/// A tap as its k1 finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapRow {
    pub id: TapId,
    pub card: i64,
    pub state: TapState,
    /// Until when it may become a payment.
    pub ends: Millis,
    pub payment_hash: Option<[u8; 32]>,
}

/// An invoice that was checked, to be paid for a tap.
#[derive(Clone)]
pub struct NewPayment {
    /// SHA-256.
    pub k1: [u8; 32],
    pub invoice: String,
    pub payment_hash: [u8; 32],
    pub amount: Msats,
    pub fee_limit: Msats,
    /// From then on the invoice cannot be paid any more.
    pub due: Millis,
    pub backend: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveResult {
    Reserved(TapId),
    /// The tap became a payment before, or cannot any more.
    Tap(TapRow),
    NoTap,
    Disabled,
    OverTapLimit,
    OverDayLimit,
    /// Another tap has this payment hash.
    InvoiceUsed,
}

/// A payment without an end.
#[derive(Clone)]
pub struct OpenPayment {
    pub id: TapId,
    pub invoice: String,
    pub payment_hash: [u8; 32],
    pub due: Millis,
    pub backend: i64,
    pub reference: Option<String>,
}

/// A line of a card's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    pub id: TapId,
    pub wall: UnixSeconds,
    pub counter: u32,
    pub state: TapState,
    pub payment_hash: Option<[u8; 32]>,
    pub amount: Option<Msats>,
    pub fee: Option<Msats>,
    pub note: Option<String>,
}

/// Of a tap: its k1 is ?1, and at ?2 it may become a payment of ?3 msat, where its limit counts from ?4. Refused where
/// an amount is in another unit: `why_not` then tells.
const MAY_SPEND: &str = "k1 = ?1 AND state = 'issued' AND ends_ms > ?2
    AND EXISTS (SELECT 1 FROM cards c WHERE c.id = card_taps.card AND c.enabled AND NOT c.wiped
        AND c.unit = 'sat' AND ?3 <= c.tx_max * 1000
        AND (SELECT ?3 + COALESCE(SUM(t.amount), 0) <= c.day_max * 1000 AND COUNT(*) = COUNT(*) FILTER (WHERE t.unit = 'msat')
            FROM card_taps t WHERE t.card = c.id AND t.reserved_ms > ?4 AND t.state IN ('reserved', 'sent', 'paid')))";

impl Store {
    /// Takes a tap: its counter counts once, and only forward. The chip is bound by its first tap.
    pub fn tap(&self, tap: NewTap) -> StoreAnswer<TapResult> {
        let (now, wall, moment) = (self.now(), self.wall(), self.0.time.moment());
        self.write(move |tx| {
            let KeysOwner { card, version } = tap.owner;
            let advanced = tx
                .prepare_cached(
                    "UPDATE card_keys SET counter = ?3, uid = ?4
                     WHERE card = ?1 AND version = ?2 AND counter < ?3 AND (uid IS NULL OR uid = ?4)
                     AND version = (SELECT MAX(version) FROM card_keys WHERE card = ?1)
                     AND (SELECT NOT wiped FROM cards WHERE id = ?1)",
                )?
                .execute(params![card, version, tap.counter, tap.uid])?;
            if advanced != 1 {
                return Ok(TapResult::Refused);
            }
            let tx_max = tx
                .prepare_cached("SELECT tx_max, unit FROM cards WHERE id = ?1 AND enabled")?
                .query_row([card], |row| money(row, 0, 1))
                .optional()?;
            let Some(tx_max) = tx_max else { return Ok(TapResult::Disabled) };
            tx.prepare_cached(
                "INSERT INTO card_taps (card, k1, counter, state, wall, ends_ms, unit)
                 VALUES (?1, ?2, ?3, 'issued', ?4, ?5, ?6)",
            )?
            .execute(params![
                card,
                tap.k1,
                tap.counter,
                wall,
                now.saturating_add(tap.life),
                Unit::Msat
            ])?;
            // Or a reboot would begin before this tap, and its k1 would live on for up to an hour.
            time::note(tx, &moment)?;
            Ok(TapResult::Accepted { tx_max })
        })
    }

    pub fn tap_of(&self, k1: [u8; 32]) -> StoreAnswer<Option<TapRow>> {
        self.read(move |db| tap_by_k1(db, &k1))
    }

    /// Another tap of the same card whose payment of an invoice is under way, with its k1: for a fresh tap.
    pub fn other_tap_of_card(
        &self,
        k1: [u8; 32],
        payment_hash: [u8; 32],
    ) -> StoreAnswer<Option<([u8; 32], TapRow)>> {
        let now = self.now();
        self.read(move |db| {
            let other: Option<[u8; 32]> = db
                .prepare_cached(
                    "SELECT other.k1 FROM card_taps mine JOIN card_taps other ON other.card = mine.card
                     WHERE mine.k1 = ?1 AND mine.state = 'issued' AND mine.ends_ms > ?2
                     AND other.payment_hash = ?3 AND other.state IN ('reserved', 'sent')",
                )?
                .query_row(params![k1, now, payment_hash], |row| row.get(0))
                .optional()?;
            let Some(other) = other else { return Ok(None) };
            Ok(tap_by_k1(db, &other)?.map(|tap| (other, tap)))
        })
    }

    /// Turns a tap into a payment, once: the tap is fresh, its card enabled, the invoice not another payment's, and
    /// both limits hold with everything counted that has not proven failed.
    pub fn reserve(&self, payment: NewPayment) -> StoreAnswer<ReserveResult> {
        let now = self.now();
        self.write(move |tx| {
            let since = now.saturating_sub(LIMIT_WINDOW);
            let reserved = tx
                .prepare_cached(&format!(
                    "UPDATE card_taps SET state = 'reserved', invoice = ?5, payment_hash = ?6, amount = ?3,
                         fee_limit = ?7, reserved_ms = ?2, due_ms = ?8, backend = ?9
                     WHERE {MAY_SPEND} RETURNING id"
                ))?
                .query_row(
                    params![
                        payment.k1,
                        now,
                        payment.amount,
                        since,
                        payment.invoice,
                        payment.payment_hash,
                        payment.fee_limit,
                        payment.due,
                        payment.backend
                    ],
                    |row| row.get(0),
                )
                .optional();
            match reserved {
                Ok(Some(id)) => return Ok(ReserveResult::Reserved(id)),
                Err(error) if is_second(&error) => return Ok(ReserveResult::InvoiceUsed),
                reserved => reserved?,
            };
            why_not(tx, &payment.k1, payment.amount, now)
        })
    }

    /// Pays for access at this router out of a tap, under the conditions of [`Store::reserve`]: the tap is used,
    /// the amount counts against the card's limits, and the access is granted, all in one commit. `grant` is given the
    /// tap's reference. `fee` and backend stay empty: no money moves.
    pub fn spend_here(
        &self,
        k1: [u8; 32],
        amount: Msats,
        grant: impl FnOnce(Reference) -> NewGrant + Send + 'static,
    ) -> StoreAnswer<Result<Admission, ReserveResult>> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let spent = tx
                .prepare_cached(&format!(
                    "UPDATE card_taps SET state = 'paid', amount = ?3, fee = 0, reserved_ms = ?2, note = 'spent here'
                     WHERE {MAY_SPEND} RETURNING id"
                ))?
                .query_row(params![k1, now, amount, now.saturating_sub(LIMIT_WINDOW)], |row| row.get(0))
                .optional()?;
            let Some(id): Option<TapId> = spent else { return why_not(tx, &k1, amount, now).map(Err) };
            add_grant(tx, &grant(Reference::Card(id)), now, wall).map(Ok)
        })
    }

    /// From now on the backend may have the payment. False: it is not reserved.
    pub fn payment_sent(&self, id: TapId) -> StoreAnswer<bool> {
        self.write(move |tx| {
            let set = "UPDATE card_taps SET state = 'sent' WHERE id = ?1 AND state = 'reserved'";
            Ok(tx.execute(set, [id])? == 1)
        })
    }

    /// A backend never took a payment on: from now on another one may have it. False: it is not with that backend.
    pub async fn payment_passed_on(
        &self,
        id: TapId,
        from: i64,
        to: i64,
        fee_limit: Msats,
    ) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let set = "UPDATE card_taps SET backend = ?3, fee_limit = ?4
                       WHERE id = ?1 AND backend = ?2 AND state = 'sent' AND reference IS NULL";
            Ok(tx.execute(set, params![id, from, to, fee_limit])? == 1)
        })
        .await
    }

    /// What the backend calls a payment.
    pub fn payment_named(&self, id: TapId, reference: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE card_taps SET reference = ?2 WHERE id = ?1 AND state = 'sent'",
                params![id, reference],
            )?;
            Ok(())
        })
    }

    pub fn payment_paid(&self, id: TapId, preimage: Option<[u8; 32]>, fee: Option<Msats>) -> StoreAnswer<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE card_taps SET state = 'paid', preimage = ?2, fee = ?3, invoice = NULL
                 WHERE id = ?1 AND state IN ('reserved', 'sent')",
                params![id, preimage, fee],
            )?;
            Ok(())
        })
    }

    /// Proven: the money counts no longer.
    pub fn payment_failed(&self, id: TapId, note: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE card_taps SET state = 'failed', note = ?2, invoice = NULL
                 WHERE id = ?1 AND state IN ('reserved', 'sent')",
                params![id, note],
            )?;
            Ok(())
        })
    }

    /// At start, before anything is paid: what was reserved when the last process ended was never sent.
    /// Answers what was sent and has no end yet.
    pub fn resume_payments(&self) -> StoreAnswer<Vec<OpenPayment>> {
        self.write(|tx| {
            tx.execute(
                "UPDATE card_taps SET state = 'failed', note = 'never sent', invoice = NULL
                 WHERE state = 'reserved'",
                [],
            )?;
            tx.prepare(
                "SELECT id, invoice, payment_hash, due_ms, backend, reference FROM card_taps
                 WHERE state = 'sent' ORDER BY id",
            )?
            .query_map([], |row| {
                Ok(OpenPayment {
                    id: row.get(0)?,
                    invoice: row.get(1)?,
                    payment_hash: row.get(2)?,
                    due: row.get(3)?,
                    backend: row.get(4)?,
                    reference: row.get(5)?,
                })
            })?
            .map(|payment| Ok(payment?))
            .collect()
        })
    }

    /// The newest taps of a card, newest first.
    pub fn card_history(&self, card: i64, most: u32) -> StoreAnswer<Vec<HistoryRow>> {
        self.read(move |db| {
            db.prepare(
                "SELECT id, wall, counter, state, payment_hash, amount, fee, note, unit FROM card_taps
                 WHERE card = ?1 ORDER BY id DESC LIMIT ?2",
            )?
            .query_map(params![card, most], |row| {
                Ok((
                    HistoryRow {
                        id: row.get(0)?,
                        wall: row.get(1)?,
                        counter: row.get(2)?,
                        state: TapState::Issued,
                        payment_hash: row.get(4)?,
                        amount: money_if_any(row, 5, 8)?,
                        fee: money_if_any(row, 6, 8)?,
                        note: row.get(7)?,
                    },
                    row.get::<_, String>(3)?,
                ))
            })?
            .map(|row| row.map_err(StoreError::from))
            .map(|row| row.and_then(|(row, state)| Ok(HistoryRow { state: TapState::parse(&state)?, ..row })))
            .collect()
        })
    }

    /// Forgets taps without a payment and payments that ended before `kept_since`, and backends that no payment
    /// needs, but for those in use and the newest, which may be about to be.
    pub async fn prune_taps(&self, kept_since: Millis, in_use: Vec<i64>) -> Result<(), StoreError> {
        self.remove_taps(self.now().saturating_sub(LIMIT_WINDOW), kept_since).await?;
        self.write(move |tx| {
            let unneeded: Vec<i64> = tx
                .prepare(
                    "SELECT id FROM backends WHERE id < (SELECT MAX(id) FROM backends)
                     AND NOT EXISTS (SELECT 1 FROM card_taps WHERE backend = backends.id)",
                )?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for id in unneeded.into_iter().filter(|id| !in_use.contains(id)) {
                tx.execute("DELETE FROM backends WHERE id = ?1", [id])?;
            }
            Ok(())
        })
        .await
    }
}

/// What counts against the limits of a card since then: payments that have not proven failed.
pub(super) fn spent_since(db: &Connection, card: i64, since: Millis) -> Result<Msats, StoreError> {
    let mut by_unit = db.prepare_cached(
        "SELECT SUM(amount), unit FROM card_taps WHERE card = ?1 AND reserved_ms > ?2
         AND state IN ('reserved', 'sent', 'paid') GROUP BY unit",
    )?;
    let sums = by_unit.query_map(params![card, since], |row| money::<Msats>(row, 0, 1))?;
    Ok(sums.collect::<Result<Vec<_>, _>>()?.into_iter().next().unwrap_or_default())
}

/// Why a tap does not become a payment.
fn why_not(db: &Connection, k1: &[u8; 32], amount: Msats, now: Millis) -> Result<ReserveResult, StoreError> {
    let Some(tap) = tap_by_k1(db, k1)? else { return Ok(ReserveResult::NoTap) };
    if tap.state != TapState::Issued || tap.ends <= now {
        return Ok(ReserveResult::Tap(tap));
    }
    let (alive, within_tap): (bool, bool) = db.query_row(
        "SELECT enabled AND NOT wiped, tx_max, unit FROM cards WHERE id = ?1",
        [tap.card],
        |row| Ok((row.get(0)?, Some(amount) <= money::<Sats>(row, 1, 2)?.to_msats())),
    )?;
    // Fails if what was spent cannot be reckoned with.
    spent_since(db, tap.card, now.saturating_sub(LIMIT_WINDOW))?;
    Ok(match (alive, within_tap) {
        (false, _) => ReserveResult::Disabled,
        (true, false) => ReserveResult::OverTapLimit,
        (true, true) => ReserveResult::OverDayLimit,
    })
}

/// Whether a row was refused because there is one like it.
fn is_second(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}

fn tap_by_k1(db: &Connection, k1: &[u8; 32]) -> Result<Option<TapRow>, StoreError> {
    db.prepare_cached("SELECT id, card, state, ends_ms, payment_hash FROM card_taps WHERE k1 = ?1")?
        .query_row([k1], |row| Ok(tap_of(row)))
        .optional()?
        .transpose()
}

fn tap_of(row: &Row) -> Result<TapRow, StoreError> {
    Ok(TapRow {
        id: row.get(0)?,
        card: row.get(1)?,
        state: TapState::parse(&row.get::<_, String>(2)?)?,
        ends: row.get(3)?,
        payment_hash: row.get(4)?,
    })
}

impl TapState {
    pub fn as_str(self) -> &'static str {
        match self {
            TapState::Issued => "issued",
            TapState::Reserved => "reserved",
            TapState::Sent => "sent",
            TapState::Paid => "paid",
            TapState::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Result<TapState, StoreError> {
        let all = [TapState::Issued, TapState::Reserved, TapState::Sent, TapState::Paid, TapState::Failed];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| StoreError::unreadable("state"))
    }
}
