//! Vouchers compared with what stands behind them: what was promised is there, what is under way moves. A repair asks again
//! what became of an exchange; nothing here has anything made a second time.

use super::answer::Answer;
use super::keyed::{self, fresh, refused, KeyedWork};
use super::office::{asked, TENANT};
use super::orders::{audit, new_id, place, shop, signed_in, tenant_of, venue_of};
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::json::json;
use crate::store::{Datum, Door, StoreError};
use crate::units::UnixSeconds;
use crate::uuid::Uuid;
use crate::vouchers::counts::{self, Wanted};
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::{begin_key, rows, VoucherRefusal, VoucherRow, VoucherState};
use serde_json::Value;
use std::sync::Arc;

/// Vouchers of one comparison, the newest.
const MOST: u64 = 10_000;
/// What a report lists of what is wrong.
const LISTED: usize = 1000;
/// What is under way for longer is told (seconds).
const STUCK: u64 = 600;
const FIX: &[Field] = &[needed("ticketIds", Kind::Uuids(1000)), needed("reportId", Kind::Uuid)];
const HISTORY: &[Field] =
    &[TENANT, optional("limit", Kind::Number(1, 100)), optional("before", Kind::Number(0, 253_402_300_799))];

/// `POST /admin/reconcile/VENUE`
pub fn run(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { once(&edge, sent, false).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

/// `POST /admin/reconcile/VENUE/fix`
pub fn fix(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { once(&edge, sent, true).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

async fn once(edge: &Arc<Edge>, mut sent: Sent, fixes: bool) -> Result<Answer, VoucherRefusal> {
    let operator = signed_in(&mut sent)?;
    let (shop, config) = (shop(edge)?.clone(), edge.site.config());
    let tenant = tenant_of(&config, &operator, sent.query())?;
    let named = sent.rest.split('/').next().unwrap_or_default();
    let venue = venue_of(&shop, &config, &tenant, named)?.id.clone();
    let key = keyed::key(sent.headers(), true)?;
    let place = key.map(|name| place(&operator.name, &sent, name));
    let text = keyed::text(sent).await?;
    let (edge, owner, sent_text, desk) = (edge.clone(), tenant.clone(), text.clone(), shop.minting.clone());
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let body = match (fixes, sent_text.trim()) {
                (true, _) => input::body(&sent_text, FIX)?,
                (false, "") => Value::Null,
                (false, _) => input::body(&sent_text, &[])?,
            };
            let (id, now) = (new_id()?, shop.store.wall());
            let own = shop.minting.book.of(&owner);
            let at = venue.clone();
            let told = match fixes {
                false => own.write(move |door| compare(door, (&at, id), now).map(Ok)).await?,
                true => own.read(move |door| repair(door, &at, &body, now)).await?,
            };
            let what = if fixes { "reconcile fix" } else { "reconcile" };
            let result = told.as_ref().map_or_else(|refusal| refusal.code, |_| "ok");
            audit(&edge, &operator, what, &venue, result).await;
            // What is under way is asked for anew.
            shop.wallet.collect();
            let answer = fresh(200, &told?);
            if let Some(running) = &running {
                let (place, print, work) = (running.place.clone(), running.fingerprint.clone(), running.work);
                own.write(move |door| begin_key(door, &place, &print, work, now.0)).await?;
                shop.minting.keep(&own, running.place.clone(), &answer).await?;
            }
            Ok(answer)
        })
    });
    keyed::once(&desk, &tenant, place, &text, work).await
}

/// The class of a voucher that is not as it should be.
fn class_of(row: &VoucherRow, now: UnixSeconds) -> Option<&'static str> {
    let is_old = row.changed_at.0.saturating_add(STUCK) <= now.0;
    match row.state {
        VoucherState::Minting | VoucherState::Queued if is_old => Some("pending_stuck"),
        _ => None,
    }
}

fn compare(door: &Door, (venue, id): (&str, Uuid), now: UnixSeconds) -> Result<Value, StoreError> {
    let wanted = Wanted { venue: venue.to_owned(), ..Wanted::default() };
    let found = counts::page(door, &wanted, None, MOST, now)?;
    let count = |states: &[VoucherState]| found.iter().filter(|row| states.contains(&row.state)).count();
    let pending = count(&[VoucherState::Queued, VoucherState::AwaitingPayment, VoucherState::Minting]);
    let failed = count(&[VoucherState::Failed]);
    let confirmed = found.len().saturating_sub(pending).saturating_sub(failed);
    let wrong = found.iter().filter_map(|row| Some((row, class_of(row, now)?))).take(LISTED);
    let wrong: Vec<Value> = wrong
        .map(|(row, class)| {
            json!({
                "ticketId": row.id.to_string(),
                "dbStatus": row.state.as_str(),
                "blockchainStatus": "pending",
                "mintState": "PENDING",
                "class": class,
                "signature": Value::Null,
                "discrepancy": true,
                "details": "under way for more than ten minutes",
                "checkedAt": now.0,
            })
        })
        .collect();
    let report = json!({
        "reportId": id.to_string(),
        "totalChecked": found.len(),
        "confirmed": confirmed,
        "notFound": failed,
        "pending": pending,
        "errors": 0,
        "discrepancies": wrong,
    });
    // The newest fifty of a venue are kept.
    door.execute(
        "DELETE FROM reconcile_reports WHERE tenant = $1 AND id IN
             (SELECT id FROM reconcile_reports WHERE tenant = $1 AND venue = $2
              ORDER BY made_at DESC, id LIMIT 100000 OFFSET 49)",
        &[venue.into()],
    )?;
    let number = |number: usize| Datum::from(u64::try_from(number).unwrap_or(u64::MAX));
    door.execute(
        "INSERT INTO reconcile_reports (tenant, id, venue, state, made_at, checked, confirmed, not_found, pending,
                                        errors, discrepancies, report)
         VALUES ($1, $2, $3, 'done', $4, $5, $6, $7, $8, 0, $9, $10)",
        &[
            id.into(),
            venue.into(),
            now.into(),
            number(found.len()),
            number(confirmed),
            number(failed),
            number(pending),
            number(wrong.len()),
            report.to_string().into(),
        ],
    )?;
    Ok(report)
}

fn repair(
    door: &Door,
    venue: &str,
    body: &Value,
    now: UnixSeconds,
) -> Result<Result<Value, VoucherRefusal>, StoreError> {
    let report = body["reportId"].as_str().unwrap_or_default().to_ascii_lowercase();
    let known = door.query(
        "SELECT id FROM reconcile_reports WHERE tenant = $1 AND id = $2 AND venue = $3",
        &[report.into(), venue.into()],
    )?;
    if known.is_empty() {
        return Ok(Err(VoucherRefusal::new(404, "report_unknown", "there is no such report")));
    }
    let mut results = Vec::new();
    for id in body["ticketIds"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let Ok(ticket) = id.parse::<Uuid>() else { continue };
        let row = rows::by_id(door, ticket)?.filter(|row| row.venue == venue);
        let class = row.as_ref().and_then(|row| class_of(row, now));
        let (action, outcome) = match (&row, class) {
            (None, _) => ("none", "not_found"),
            (Some(_), None) => ("none", "consistent"),
            (Some(_), Some(_)) => ("poll", "waits"),
        };
        results.push(json!({
            "ticketId": ticket.to_string(),
            "class": class,
            "action": action,
            "outcome": outcome,
        }));
    }
    let failed = results.iter().filter(|result| result["outcome"] == "not_found").count();
    Ok(Ok(json!({"attempted": results.len(), "fixed": 0, "failed": failed, "results": results})))
}

/// `GET /admin/reconcile/VENUE/history`
pub fn history(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, HISTORY, |asked| {
        Box::pin(async move {
            let named = asked.rest.split('/').next().unwrap_or_default();
            let venue = venue_of(&asked.shop, &asked.config, &asked.tenant, named)?.id.clone();
            let most = asked.query["limit"].as_u64().unwrap_or(10);
            let before = asked.query["before"].as_u64().unwrap_or(u64::MAX);
            let own = asked.shop.minting.book.of(&asked.tenant);
            let found = own.read(move |door| {
                door.query(
                    "SELECT id, made_at, checked, confirmed, not_found, pending, errors, discrepancies
                     FROM reconcile_reports WHERE tenant = $1 AND venue = $2 AND made_at < $3
                     ORDER BY made_at DESC, id LIMIT $4",
                    &[venue.into(), before.into(), most.into()],
                )
            });
            let mut reports = Vec::new();
            let mut last = 0;
            for row in found.await? {
                last = row.count(1)?;
                reports.push(json!({
                    "reportId": row.text(0)?,
                    "madeAt": last,
                    "totalChecked": row.count(2)?,
                    "confirmed": row.count(3)?,
                    "notFound": row.count(4)?,
                    "pending": row.count(5)?,
                    "errors": row.count(6)?,
                    "discrepancyCount": row.count(7)?,
                }));
            }
            let is_full = u64::try_from(reports.len()).is_ok_and(|length| length == most);
            Ok(json!({"reports": reports, "nextCursor": is_full.then_some(last)}))
        })
    })
}
