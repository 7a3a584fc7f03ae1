//! Vouchers compared with what stands behind them, and a repair of what is not as it should be. A repair asks again what became
//! of an exchange; nothing here has anything made a second time.

use super::super::answer::Answer;
use super::super::error_body::refused;
use super::super::keyed::{self, fresh, KeyedWork};
use super::super::route::Answering;
use super::super::sent::Sent;
use super::super::Edge;
use super::caller::{audit, audit_row, new_id, place, shop, signed_in, tenant_of, venue_of};
use super::office::{asked, cursor_of, TENANT};
use crate::commands::{Operator, BEGUN};
use crate::config::Tenant;
use crate::json::json;
use crate::shop::Shop;
use crate::store::{with_change, Door, NewAuditRow, TenantStore};
use crate::uuid::Uuid;
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::reconcile::{self, RepairStep};
use crate::vouchers::{rows, KeptAnswer, KeyMark, RunningRequest, VoucherRefusal};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long mints are asked; what they have not said by then counts as unknown.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a request waits for a repair; what takes longer goes on by itself.
const REPAIR: Duration = Duration::from_secs(25);
const FIX: &[Field] = &[needed("ticketIds", Kind::Uuids(1000)), needed("reportId", Kind::Uuid)];
const HISTORY: &[Field] = &[TENANT, optional("limit", Kind::Number(1, 100)), optional("before", Kind::Name)];

/// `POST /admin/reconcile/VENUE`
pub fn run(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { once(&edge, sent, false).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

/// `POST /admin/reconcile/VENUE/fix`
pub fn fix(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { once(&edge, sent, true).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

/// A tenant's venue that is to be looked at.
struct Place {
    shop: Shop,
    tenant: Tenant,
    own: TenantStore,
    venue: String,
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
    let (edge, sent_text, desk) = (edge.clone(), text.clone(), shop.minting.clone());
    let own = desk.book.of(&tenant);
    let at = Place { shop, tenant: tenant.clone(), own, venue };
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let body = match (fixes, sent_text.trim()) {
                (true, _) => input::body(&sent_text, FIX)?,
                (false, "") => Value::Null,
                (false, _) => input::body(&sent_text, &[])?,
            };
            let held = at.shop.minting.venues.hold(at.tenant.as_str(), &at.venue);
            let running_already = || {
                let message = "the vouchers of this venue are being looked at; try again in a moment";
                VoucherRefusal::new(409, "reconcile_running", message)
            };
            let _held = held.ok_or_else(running_already)?;
            let mark = running.as_ref().map(RunningRequest::mark);
            let what = if fixes { "reconcile fix" } else { "reconcile" };
            let noted = |result| audit_row(&operator, what, &at.venue, result);
            let (done, is_begun) = match (fixes, mark) {
                (false, mark) => (compare(&at, mark, noted("ok")).await, false),
                (true, Some(mark)) => {
                    let repairing = Box::pin(repair(&operator, &at, &body, mark));
                    with_change(noted(BEGUN), repairing).await
                }
                (true, None) => {
                    (Err(VoucherRefusal::new(400, "idempotency_key_missing", "a key is needed")), false)
                }
            };
            match &done {
                Ok(_) if !fixes => {}
                Ok(_) => audit(&edge, noted("ok"), true).await,
                Err(refusal) => audit(&edge, noted(refusal.code), is_begun).await,
            }
            done
        })
    });
    keyed::once(&desk, &tenant, place, &text, work).await
}

/// Looks at a venue's vouchers and keeps the report; `noted` is written with it.
async fn compare(
    at: &Place,
    mark: Option<KeyMark>,
    noted: NewAuditRow,
) -> Result<KeptAnswer, VoucherRefusal> {
    let now = at.shop.store.wall();
    let venue = at.venue.clone();
    let found = at.own.read(move |door| reconcile::of_venue(door, &venue, now)).await?;
    let ids = found.iter().map(|row| row.id.to_string()).collect();
    let compared = at.shop.wallet.compare(&at.tenant, ids, Instant::now() + PATIENCE).await?;
    let id = mark.as_ref().map_or_else(new_id, |mark| Ok(mark.work))?;
    let (told, classes) = reconcile::report(id, &found, &compared, now);
    let answer = fresh(200, &told);
    let (venue, kept, key) = (at.venue.clone(), answer.clone(), at.shop.minting.book.key().await?);
    let keeping = async {
        let kept = at.own.write(move |door| {
            let under = (mark.as_ref(), key.as_ref(), &kept);
            reconcile::keep_report(door, &venue, (&told, &classes), under, now)
        });
        kept.await
    };
    with_change(noted, Box::pin(keeping)).await.0?;
    Ok(answer)
}

/// Brings tickets in order, one after the other. Each is looked at anew: what the report has said may be over.
async fn repair(
    operator: &Operator,
    at: &Place,
    body: &Value,
    mark: KeyMark,
) -> Result<KeptAnswer, VoucherRefusal> {
    let until = Instant::now() + REPAIR;
    let report = body["reportId"].as_str().unwrap_or_default().to_ascii_lowercase();
    let (venue, begun, now) = (at.venue.clone(), mark.clone(), at.shop.store.wall().0);
    let begin = move |door: &Door<'_>| reconcile::begin_repair(door, (&venue, &report), &begun, now);
    let unknown = || VoucherRefusal::new(404, "report_unknown", "there is no such report");
    let done = at.own.write(begin).await?.ok_or_else(unknown)?;
    let ids = body["ticketIds"].as_array().into_iter().flatten();
    let ids: Vec<Uuid> = ids.filter_map(|id| id.as_str()?.parse().ok()).collect();
    let left: Vec<Uuid> =
        ids.iter().filter(|id| !done.iter().any(|(known, ..)| *known == id.to_string())).copied().collect();
    let names = left.iter().map(Uuid::to_string).collect();
    let compared = at.shop.wallet.compare(&at.tenant, names, until).await?;
    let mut steps = done;
    for id in left {
        let name = id.to_string();
        let (venue, ticket) = (at.venue.clone(), id);
        let known =
            at.own.read(move |door| rows::by_id(door, ticket)).await?.filter(|row| row.venue == venue);
        let found = compared.iter().find(|(known, _)| *known == name).map(|(_, compared)| *compared);
        let mut row = None;
        let step: RepairStep = match (known, found) {
            (None, _) => (name, String::new(), "none".to_owned(), "not_found".to_owned()),
            (Some(_), Some(compared)) if compared.found.is_some() => {
                let Some(class) = compared.found else { continue };
                let repaired = at.shop.wallet.repair(&at.tenant, &name, class, until).await?;
                if repaired.is_of_concern() {
                    row = Some(audit_row(operator, class.as_str(), &name, repaired.as_str()));
                }
                (name, class.as_str().to_owned(), class.action().to_owned(), repaired.as_str().to_owned())
            }
            (Some(_), Some(compared)) if compared.is_unknown => {
                (name, String::new(), "none".to_owned(), "mint_unavailable".to_owned())
            }
            _ => (name, String::new(), "none".to_owned(), "consistent".to_owned()),
        };
        let (kept, work) = (step.clone(), mark.work);
        let keeping = async { at.own.write(move |door| reconcile::keep_step(door, work, &kept, now)).await };
        match row {
            Some(row) => with_change(row, Box::pin(keeping)).await.0?,
            None => keeping.await?,
        }
        steps.push(step);
    }
    let place = |(name, ..): &RepairStep| ids.iter().position(|id| id.to_string() == *name);
    steps.sort_by_key(place);
    let answer = fresh(200, &reconcile::repaired(&steps));
    let (kept, key) = (answer.clone(), at.shop.minting.book.key().await?);
    at.own.write(move |door| reconcile::end_repair(door, &mark, (&key, &kept))).await?;
    at.shop.wallet.collect();
    Ok(answer)
}

/// How many a report has of each class. Those of earlier versions are not counted so.
fn by_class(kept: &str) -> Value {
    let counted: Option<Value> = crate::json::read(kept.as_bytes());
    counted.filter(|counted| counted["reportId"].is_null()).unwrap_or_default()
}

/// `GET /admin/reconcile/VENUE/history`
pub fn history(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, HISTORY, |asked| {
        Box::pin(async move {
            let named = asked.rest.split('/').next().unwrap_or_default();
            let venue = venue_of(&asked.shop, &asked.config, &asked.tenant, named)?.id.clone();
            let most = asked.query["limit"].as_u64().unwrap_or(10);
            // A page ends at a time, and within it at a report; a time alone is before all of its reports.
            let (before, id) = match asked.query["before"].as_str() {
                Some(text) => text
                    .parse()
                    .ok()
                    .map(|at: u64| (at, String::new()))
                    .or_else(|| cursor_of(text))
                    .ok_or_else(|| VoucherRefusal::field("before", "is none of ours"))?,
                None => (u64::MAX, String::new()),
            };
            let own = asked.shop.minting.book.of(&asked.tenant);
            let found = own.read(move |door| {
                door.query(
                    "SELECT id, made_at, checked, confirmed, not_found, pending, errors, discrepancies,
                            report
                     FROM reconcile_reports
                     WHERE tenant = $1 AND venue = $2 AND (made_at < $3 OR (made_at = $3 AND id < $4))
                     ORDER BY made_at DESC, id DESC LIMIT $5",
                    &[venue.into(), before.into(), id.into(), most.saturating_add(1).into()],
                )
            });
            let mut found = found.await?;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let has_more = found.len() > most;
            found.truncate(most);
            let mut reports = Vec::new();
            let mut last = Value::Null;
            for row in found {
                let (id, at) = (row.text(0)?, row.count(1)?);
                last = json!(format!("{at}.{id}"));
                reports.push(json!({
                    "reportId": id,
                    "madeAt": at,
                    "totalChecked": row.count(2)?,
                    "confirmed": row.count(3)?,
                    "notFound": row.count(4)?,
                    "pending": row.count(5)?,
                    "errors": row.count(6)?,
                    "discrepancyCount": row.count(7)?,
                    "classes": by_class(row.text(8)?),
                }));
            }
            Ok(json!({"reports": reports, "nextCursor": if has_more { last } else { Value::Null }}))
        })
    })
}
