//! Reports of vouchers that were compared with what stands behind them, and how far a repair has come. Two of one venue never
//! go on at once; what a crash has cut short goes on under its request's key, ticket by ticket.

use super::counts::{self, Wanted};
use super::idempotency::KeyMark;
use super::minting::keep_answer;
use super::{CodeKey, KeptAnswer, VoucherRow, VoucherState};
use crate::ecash::wallet::Compared;
use crate::json::json;
use crate::store::{Datum, Door, StoreError};
use crate::units::UnixSeconds;
use crate::uuid::Uuid;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Vouchers of one comparison, the newest; and what a report lists of what is wrong.
const MOST: u64 = 10_000;
const LISTED: usize = 1000;
/// Reports of a venue that are kept, besides the newest.
const KEPT: u64 = 49;
/// How long (seconds) a repair that was cut short can go on.
const RESUMED: u64 = 2 * 86_400;
const PENDING: [VoucherState; 3] =
    [VoucherState::Queued, VoucherState::AwaitingPayment, VoucherState::Minting];

/// Venues that are being looked at, by tenant; clones share it.
#[derive(Clone, Default)]
pub struct RunningVenues(Arc<Mutex<Vec<(String, String)>>>);

/// Others are told to wait until it is dropped.
pub struct HeldVenue {
    all: RunningVenues,
    place: (String, String),
}

impl RunningVenues {
    /// `None`: somebody has it.
    pub fn hold(&self, tenant: &str, venue: &str) -> Option<HeldVenue> {
        let place = (tenant.to_owned(), venue.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains(&place) {
            return None;
        }
        all.push(place.clone());
        Some(HeldVenue { all: self.clone(), place })
    }
}

impl Drop for HeldVenue {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|place| *place != self.place);
    }
}

/// What of a repair is done: ticket, class, action, outcome.
pub type RepairStep = (String, String, String, String);

/// The newest vouchers of a venue.
pub fn of_venue(door: &Door, venue: &str, now: UnixSeconds) -> Result<Vec<VoucherRow>, StoreError> {
    let wanted = Wanted { venue: venue.to_owned(), ..Wanted::default() };
    counts::page(door, &wanted, None, MOST, now)
}

/// What a comparison has found, and how many there are of each class.
pub fn report(
    id: Uuid,
    rows: &[VoucherRow],
    compared: &[(String, Compared)],
    now: UnixSeconds,
) -> (Value, Vec<(&'static str, u64)>) {
    // In the same order, without those that nothing stands behind.
    let mut rest = compared.iter().peekable();
    let mut of = |row: &VoucherRow| {
        let id = row.id.to_string();
        rest.next_if(|(known, _)| *known == id).map(|(_, compared)| *compared)
    };
    let (mut pending, mut failed, mut errors) = (0usize, 0usize, 0usize);
    let mut listed: Vec<Value> = Vec::new();
    let mut classes: Vec<(&'static str, u64)> = Vec::new();
    for row in rows {
        let known = of(row);
        match row.state {
            _ if known.is_some_and(|known| known.is_unknown) => errors = errors.saturating_add(1),
            state if PENDING.contains(&state) => pending = pending.saturating_add(1),
            VoucherState::Failed => failed = failed.saturating_add(1),
            _ => {}
        }
        let Some((known, found)) = known.and_then(|known| Some((known, known.found?))) else { continue };
        match classes.iter_mut().find(|(class, _)| *class == found.as_str()) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => classes.push((found.as_str(), 1)),
        }
        if listed.len() < LISTED {
            listed.push(json!({
                "ticketId": row.id.to_string(),
                "dbStatus": row.state_at(now).as_str(),
                "blockchainStatus": chain_status(known.mint_state, found.as_str()),
                "mintState": known.mint_state,
                "class": found.as_str(),
                "signature": Value::Null,
                "discrepancy": true,
                "details": found.details(),
                "checkedAt": now.0,
            }));
        }
    }
    let confirmed = rows.len().saturating_sub(pending).saturating_sub(failed).saturating_sub(errors);
    let told = json!({
        "reportId": id.to_string(),
        "totalChecked": rows.len(),
        "confirmed": confirmed,
        "notFound": failed,
        "pending": pending,
        "errors": errors,
        "discrepancies": listed,
    });
    (told, classes)
}

/// As programs call it that know chains, and no mints.
fn chain_status(mint_state: &str, class: &str) -> &'static str {
    match (mint_state, class) {
        (_, "paid_not_minted" | "issued_not_stored" | "unpaid_expired") => "not_found",
        ("PENDING", _) => "pending",
        ("UNKNOWN", _) => "error",
        _ => "confirmed",
    }
}

/// Keeps a report, and its answer under the key of its request; the newest fifty of a venue are kept.
pub fn keep_report(
    door: &Door,
    venue: &str,
    (told, classes): (&Value, &[(&'static str, u64)]),
    (mark, key, answer): (Option<&KeyMark>, &CodeKey, &KeptAnswer),
    now: UnixSeconds,
) -> Result<(), StoreError> {
    door.execute(
        "DELETE FROM reconcile_reports WHERE tenant = $1 AND id IN
             (SELECT id FROM reconcile_reports WHERE tenant = $1 AND venue = $2
              ORDER BY made_at DESC, id LIMIT 100000 OFFSET $3)",
        &[venue.into(), KEPT.into()],
    )?;
    let number = |name: &str| Datum::from(told[name].as_u64().unwrap_or_default());
    let found = classes.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    let mut by_class = json!({});
    for (class, count) in classes {
        by_class[*class] = json!(count);
    }
    door.execute(
        "INSERT INTO reconcile_reports (tenant, id, venue, state, made_at, checked, confirmed, not_found, pending,
                                        errors, discrepancies, report)
         VALUES ($1, $2, $3, 'done', $4, $5, $6, $7, $8, $9, $10, $11)",
        &[
            told["reportId"].as_str().unwrap_or_default().into(),
            venue.into(),
            now.into(),
            number("totalChecked"),
            number("confirmed"),
            number("notFound"),
            number("pending"),
            number("errors"),
            found.into(),
            by_class.to_string().into(),
        ],
    )?;
    let Some(mark) = mark else { return Ok(()) };
    mark.begin(door, now.0)?;
    keep_answer(door, key, &mark.place, answer)
}

/// Begins a repair, or goes on with it: what of it is done. `None`: there is no such report of this venue.
pub fn begin_repair(
    door: &Door,
    (venue, report): (&str, &str),
    mark: &KeyMark,
    now: u64,
) -> Result<Option<Vec<RepairStep>>, StoreError> {
    let known = door.query(
        "SELECT id FROM reconcile_reports WHERE tenant = $1 AND id = $2 AND venue = $3",
        &[report.into(), venue.into()],
    )?;
    if known.is_empty() {
        return Ok(None);
    }
    door.execute(
        "DELETE FROM reconcile_steps WHERE tenant = $1 AND at < $2",
        &[now.saturating_sub(RESUMED).into()],
    )?;
    mark.begin(door, now)?;
    let done = door.query(
        "SELECT voucher, class, action, outcome FROM reconcile_steps WHERE tenant = $1 AND work = $2",
        &[mark.work.into()],
    )?;
    let text = |row: &crate::store::DoorRow, column| row.text(column).map(str::to_owned);
    let step = |row| Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?));
    done.iter().map(step).collect::<Result<_, StoreError>>().map(Some)
}

pub fn keep_step(door: &Door, work: Uuid, step: &RepairStep, now: u64) -> Result<(), StoreError> {
    let (voucher, class, action, outcome) = step;
    door.execute(
        "INSERT INTO reconcile_steps (tenant, work, voucher, class, action, outcome, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        &[
            work.into(),
            voucher.as_str().into(),
            class.as_str().into(),
            action.as_str().into(),
            outcome.as_str().into(),
            now.into(),
        ],
    )?;
    Ok(())
}

/// A repair is over: its answer is kept, and its steps are not.
pub fn end_repair(
    door: &Door,
    mark: &KeyMark,
    (key, answer): (&CodeKey, &KeptAnswer),
) -> Result<(), StoreError> {
    door.execute("DELETE FROM reconcile_steps WHERE tenant = $1 AND work = $2", &[mark.work.into()])?;
    keep_answer(door, key, &mark.place, answer)
}

/// The answer of a repair.
pub fn repaired(steps: &[RepairStep]) -> Value {
    let count = |is: fn(&str) -> bool| steps.iter().filter(|(.., outcome)| is(outcome)).count();
    let word = |text: &String| if text.is_empty() { Value::Null } else { json!(text) };
    let results = steps.iter().map(|(id, class, action, outcome)| {
        json!({"ticketId": id, "class": word(class), "action": action, "outcome": outcome})
    });
    let is_fixed = |outcome: &str| matches!(outcome, "fixed" | "key_leaked" | "lost");
    let failed =
        count(|outcome| !matches!(outcome, "fixed" | "key_leaked" | "lost" | "waits" | "consistent"));
    json!({
        "attempted": steps.len(),
        "fixed": count(is_fixed),
        "failed": failed,
        "results": results.collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_looks_at_a_venue() {
        let venues = RunningVenues::default();
        let held = venues.hold("local", "lobby");
        assert!(held.is_some() && venues.hold("local", "lobby").is_none());
        assert!(venues.hold("other", "lobby").is_some() && venues.hold("local", "hall").is_some());
        drop(held);
        assert!(venues.hold("local", "lobby").is_some());
    }

    #[test]
    fn what_is_found_again_to_be_gone_is_fixed_and_what_nobody_knows_is_not() {
        let step = |outcome: &str| ("t".to_owned(), String::new(), "none".to_owned(), outcome.to_owned());
        let told =
            repaired(&["fixed", "lost", "waits", "consistent", "not_found", "mint_unavailable"].map(step));
        let counts = (&told["attempted"], &told["fixed"], &told["failed"]);
        assert_eq!(counts, (&json!(6), &json!(2), &json!(2)));
        assert_eq!(told["results"][0]["class"], Value::Null);
    }
}
