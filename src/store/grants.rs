//! Grants: one row for each payment that was turned into access, under the reference that makes it count once.

use super::accounts::{account_of, first_ticket};
use super::reference::Reference;
use super::session_rows::{session_on_devices, SessionRow};
use super::sessions::extend_session;
use super::values::{mac_of, money, unit_of};
use super::{Store, StoreAnswer, StoreError};
use crate::config::{Metric, MintUrl};
use crate::json::json;
use crate::mac::MacAddr;
use crate::units::{Allotment, Amount, Millis, Sats, Unit, UnixSeconds};
use rusqlite::{params, Connection, OptionalExtension, Transaction};
use serde_json::Value;
use std::ops::Deref;

/// The wall clock may have been set back by at most this much (seconds) since a sale for the sale to stay in the
/// day's sum.
const SLACK: u64 = 3600;
/// How long the receipt of a payment can be had.
const RECEIPTS: Millis = Millis::from_secs(7 * 86_400);

/// A payment to be turned into access. `reference` names the payment and counts once, ever.
#[derive(Clone, Debug)]
pub struct NewGrant {
    pub reference: Reference,
    pub mac: MacAddr,
    pub venue: String,
    pub amount: Amount,
    pub metric: Metric,
    pub allotment: Allotment,
    /// What the allotment costs: all of the amount but for a rest that bought nothing. Of shillings, what it costs in bitcoin.
    pub value: Amount,
    /// At whose price.
    pub mint: Option<MintUrl>,
}

/// A grant that is written down: the session that it went into, for which the gate is still to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the gate stays closed until `Access::admit` has it"]
pub struct Admission {
    row: SessionRow,
    /// The same session as the account's other devices have it.
    others: Vec<SessionRow>,
}

/// What was sold since a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sales {
    pub count: u32,
    /// What was paid: one for each unit that there was something in.
    pub amounts: Vec<Amount>,
    pub time: Millis,
    /// Bytes.
    pub data: Allotment,
}

/// A payment: the MAC that has the payer's account now, and what was paid for.
pub type PaymentRow = (MacAddr, PaidFor);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidFor {
    /// By service time.
    pub at: Millis,
    pub venue: String,
    pub metric: Metric,
    pub paid: Amount,
}

impl PaidFor {
    /// The sum in whole sats.
    pub fn sum<'a>(payments: impl Iterator<Item = &'a PaidFor>) -> Sats {
        let msats = payments.filter_map(|one| one.paid.to_msats());
        Sats(msats.fold(0, |sum: u64, paid| sum.saturating_add(paid.0)) / 1000)
    }

    /// Whether it went into the session at this venue that began then.
    pub fn is_for(&self, venue: &str, metric: Metric, started: Millis, ends: Millis) -> bool {
        self.venue == venue && self.metric == metric && self.at >= started && self.at <= ends
    }
}

/// A payment as its receipt shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidGrant {
    pub reference: Reference,
    pub amount: Amount,
    pub metric: Metric,
    pub allotment: Allotment,
    pub wall: UnixSeconds,
}

impl Admission {
    /// `None` where no device has the session.
    fn of(rows: Vec<SessionRow>) -> Option<Admission> {
        let mut rows = rows.into_iter();
        rows.next().map(|row| Admission { row, others: rows.collect() })
    }

    pub fn into_row(self) -> SessionRow {
        self.row
    }

    /// The session as the device has it that has paid, and as the account's other devices have it.
    pub fn into_rows(self) -> (SessionRow, Vec<SessionRow>) {
        (self.row, self.others)
    }
}

impl Deref for Admission {
    type Target = SessionRow;

    fn deref(&self) -> &SessionRow {
        &self.row
    }
}

impl NewGrant {
    /// As a column of a journal that grants later.
    pub(super) fn to_text(&self) -> String {
        let mut text = json!({
            "reference": self.reference.to_string(),
            "mac": self.mac.to_string(),
            "venue": self.venue,
            "amount": self.amount.number,
            "unit": self.amount.unit.as_str(),
            "metric": self.metric.as_str(),
            "allotment": self.allotment.0,
            "value": self.value.number,
            "mint": self.mint.as_ref().map(MintUrl::as_str),
        });
        if self.value.unit != self.amount.unit {
            text["value_unit"] = self.value.unit.as_str().into();
        }
        text.to_string()
    }

    pub(super) fn from_text(text: &str) -> Result<NewGrant, StoreError> {
        let unreadable = || StoreError::unreadable("access");
        let json: Value = serde_json::from_str(text).map_err(|_| unreadable())?;
        let field = |name: &str| json[name].as_str().ok_or_else(unreadable);
        let number = |name: &str| json[name].as_u64().ok_or_else(unreadable);
        // Earlier versions did not write unit, value and mint.
        let unit = match &json["unit"] {
            Value::Null => Unit::Sat,
            unit => unit_of(unit.as_str().ok_or_else(unreadable)?)?,
        };
        let value_unit = json["value_unit"].as_str().map_or(Ok(unit), unit_of)?;
        let number_paid = number("amount")?;
        Ok(NewGrant {
            reference: Reference::read(field("reference")?),
            mac: field("mac")?.parse().map_err(|_| unreadable())?,
            venue: field("venue")?.to_owned(),
            amount: Amount { number: number_paid, unit },
            metric: Metric::parse(field("metric")?).ok_or_else(unreadable)?,
            allotment: Allotment(number("allotment")?),
            value: Amount { number: json["value"].as_u64().unwrap_or(number_paid), unit: value_unit },
            mint: json["mint"].as_str().and_then(|url| MintUrl::parse(url).ok()),
        })
    }
}

impl Store {
    /// Grants access for a payment; the same reference again changes nothing and answers the session as it is.
    pub fn grant(&self, grant: NewGrant) -> StoreAnswer<Admission> {
        let now = self.now();
        let wall = self.wall();
        self.write(move |tx| add_grant(tx, &grant, now, wall))
    }

    /// Payments since a wall time; what the operator gave away is not counted.
    pub fn sales_since(&self, wall: UnixSeconds) -> StoreAnswer<Sales> {
        // Service time is never ahead of the wall clock: what is that old by the one is so by the other.
        let age = Millis::from_secs(self.wall().0.saturating_sub(wall.0).saturating_add(SLACK));
        let since = self.now().saturating_sub(age);
        self.read(move |db| {
            let mut sales = Sales::default();
            let mut of_unit = db.prepare(
                "SELECT COUNT(*), SUM(amount), unit,
                        COALESCE(SUM(allotment) FILTER (WHERE metric = 'milliseconds'), 0),
                        COALESCE(SUM(allotment) FILTER (WHERE metric = 'bytes'), 0)
                 FROM grants WHERE granted_ms >= ?1 AND wall >= ?2 AND amount > 0 GROUP BY unit",
            )?;
            let rows = of_unit.query_map(params![since, wall], |row| {
                Ok((row.get::<_, u32>(0)?, money(row, 1, 2)?, row.get::<_, Millis>(3)?, row.get(4)?))
            })?;
            for row in rows {
                let (count, amount, time, data) = row?;
                sales.count = sales.count.saturating_add(count);
                sales.amounts.push(amount);
                sales.time = sales.time.saturating_add(time);
                sales.data = sales.data.saturating_add(data);
            }
            Ok(sales)
        })
    }
}

impl Store {
    /// What was paid since a service time.
    pub fn payments_since(&self, since: Millis) -> StoreAnswer<Vec<PaymentRow>> {
        self.read(move |db| {
            let mut paid = db.prepare(
                "SELECT amount, unit, granted_ms, account_macs.mac, venue, metric
                 FROM grants JOIN account_macs USING (account) WHERE granted_ms >= ?1 AND amount > 0",
            )?;
            let rows = paid.query_map([since], |row| {
                let (mac, paid) = (row.get::<_, String>(3)?, money(row, 0, 1)?);
                Ok((mac, PaidFor { at: row.get(2)?, venue: row.get(4)?, metric: row.get(5)?, paid }))
            })?;
            rows.map(|row| {
                let (mac, paid) = row?;
                Ok((mac_of(&mac)?, paid))
            })
            .collect()
        })
    }

    /// What the account of this MAC has paid last at a venue, if that was not long ago.
    pub fn last_purchase(&self, mac: MacAddr, venue: &str) -> StoreAnswer<Option<PaidGrant>> {
        let (mac, venue) = (mac.to_string(), venue.to_owned());
        let since = self.now().saturating_sub(RECEIPTS);
        self.read(move |db| {
            let mut newest = db.prepare_cached(
                "SELECT reference, amount, unit, metric, allotment, wall
                 FROM grants JOIN account_macs ON account_macs.account = grants.account
                 WHERE account_macs.mac = ?1 AND venue = ?2 AND amount > 0 AND granted_ms >= ?3
                 ORDER BY granted_ms DESC LIMIT 1",
            )?;
            let purchase = newest.query_row(params![mac, venue, since], |row| {
                Ok(PaidGrant {
                    reference: row.get(0)?,
                    amount: money(row, 1, 2)?,
                    metric: row.get(3)?,
                    allotment: row.get(4)?,
                    wall: row.get(5)?,
                })
            });
            Ok(purchase.optional()?)
        })
    }
}

pub(super) fn add_grant(
    tx: &Transaction,
    grant: &NewGrant,
    now: Millis,
    wall: UnixSeconds,
) -> Result<Admission, StoreError> {
    let mac = grant.mac.to_string();
    let account = account_of(tx, &mac, now)?;
    let new = tx.execute(
        "INSERT INTO grants (reference, account, mac, venue, amount, unit, metric, allotment, granted_ms, wall)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        params![
            grant.reference,
            account,
            mac,
            grant.venue,
            grant.amount,
            grant.amount.unit,
            grant.metric,
            grant.allotment,
            now,
            wall
        ],
    )?;
    if new == 1 {
        extend_session(tx, account, grant, now)?;
    }
    let rows = session_on_devices(tx, account, &grant.venue, grant.metric, &mac)?;
    let mut admission = Admission::of(rows).ok_or(StoreError::Gone)?;
    // What the operator gives to a device reaches no guest that could keep a ticket.
    let is_asked_for =
        grant.amount.number > 0 || matches!(grant.reference, Reference::Invite(..) | Reference::Voucher(_));
    if new == 1 && is_asked_for {
        admission.row.ticket = first_ticket(tx, account)?;
    }
    Ok(admission)
}

/// How [`NewGrant::to_text`] has a MAC, so that SQL can put another in its place.
pub(super) fn mac_in_text(mac: &str) -> String {
    format!(r#""mac":"{mac}""#)
}

/// The session that this payment went into, as it is now; `None` if the payment was never granted.
pub(super) fn granted_session(
    db: &Connection,
    reference: &Reference,
) -> Result<Option<Admission>, StoreError> {
    Ok(known_grant::<Amount>(db, reference)?.and_then(|(_, session)| session))
}

/// What was paid under this reference, and the session it went into as it is now, if that is still there.
pub(super) fn known_grant<M: TryFrom<Amount>>(
    db: &Connection,
    reference: &Reference,
) -> Result<Option<(M, Option<Admission>)>, StoreError> {
    let granted = db
        .query_row(
            "SELECT amount, account, venue, metric, unit, mac FROM grants WHERE reference = ?1",
            [reference],
            |row| {
                let (venue, mac) = (row.get::<_, String>(2)?, row.get::<_, String>(5)?);
                Ok((money(row, 0, 4)?, row.get(1)?, venue, row.get(3)?, mac))
            },
        )
        .optional()?;
    let Some((amount, account, venue, metric, mac)) = granted else { return Ok(None) };
    Ok(Some((amount, Admission::of(session_on_devices(db, account, &venue, metric, &mac)?))))
}

/// Notes which keyset the proofs are of that came for a grant.
pub(super) fn note_keyset(
    tx: &Transaction,
    reference: &Reference,
    mint: &MintUrl,
    keyset: &str,
) -> Result<(), StoreError> {
    tx.prepare_cached(
        "UPDATE grants SET keyset = (SELECT id FROM wallet_keysets WHERE mint = ?2 AND keyset = ?3)
         WHERE reference = ?1",
    )?
    .execute(params![reference, mint.as_str(), keyset])?;
    Ok(())
}
