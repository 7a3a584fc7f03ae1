//! What several operators decide together: limits that are raised, and orders above what one may do alone. Refused: a vote of
//! one's own order, a second one, and one for another request than was asked.

use super::super::admin::of_command;
use super::super::answer::Answer;
use super::super::error_body::{body_of, refused};
use super::super::keyed::{self, fresh, KeyedWork};
use super::super::route::Answering;
use super::super::sent::Sent;
use super::super::Edge;
use super::caller::{audit, audit_row, new_id, nowhere, place, shop, signed_in, tenant_of};
use super::office::{asked, TENANT};
use super::orders::{batch_order, tickets_order};
use super::shapes::{batch_shape, tickets_shape};
use crate::commands::{make_agreed, Operator, BEGUN};
use crate::config::{Config, Role, Tenant};
use crate::hex;
use crate::json::json;
use crate::shop::Shop;
use crate::store::{with_change, Door, NewAuditRow, EVERYBODY};
use crate::task;
use crate::units::{Millis, ALL_SATS};
use crate::uuid::Uuid;
use crate::vouchers::approvals::{self, Approval};
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::jobs;
use crate::vouchers::limits;
use crate::vouchers::{
    keep_answer, waits, KeptAnswer, KeyPlace, Order, OrderTerms, RunningRequest, Shape, VoucherRefusal,
    WorkRequest, VOUCHERS,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const LIMITS: &[Field] = &[
    optional("operator", Kind::Name),
    optional("tx", Kind::Number(0, ALL_SATS)),
    optional("hour", Kind::Number(0, ALL_SATS)),
    optional("day", Kind::Number(0, ALL_SATS)),
];
/// How many decisions are looked at together, how soon one is tried again, and how often if it has begun and the
/// configuration does not know it any more.
const AT_ONCE: u64 = 8;
const AGAIN: Millis = Millis::from_secs(10);
const MOST_TRIES: u64 = 100;
const LIMITS_KIND: &str = "limits";
const WINDOWS: [&str; 3] = ["tx", "hour", "day"];

/// `PUT /admin/limits`: raises limits, once others have agreed.
pub fn put_limits(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { raise(&edge, sent).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

async fn raise(edge: &Arc<Edge>, mut sent: Sent) -> Result<Answer, VoucherRefusal> {
    let operator = signed_in(&mut sent)?;
    let (shop, config) = (shop(edge)?.clone(), edge.site.config());
    let tenant = tenant_of(&config, &operator, sent.query())?;
    let key = keyed::key(sent.headers(), false)?;
    let place = key.map(|name| place(&operator.name, &sent, name));
    let text = keyed::text(sent).await?;
    let desk = shop.minting.clone();
    let (owner, sent_text) = (tenant.clone(), text.clone());
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let required = votes_for(&config, &sent_text)?;
            ask_for_limits(&shop, &owner, (&operator, sent_text), required, running).await
        })
    });
    keyed::once(&desk, &tenant, place, &text, work).await
}

/// How many have to agree to the limits of a request.
fn votes_for(config: &Config, text: &str) -> Result<u64, VoucherRefusal> {
    let body = input::body(text, LIMITS)?;
    if WINDOWS.iter().all(|window| body[*window].is_null()) {
        return Err(VoucherRefusal::field("tx", "is missing, or hour, or day"));
    }
    let named = body["operator"].as_str();
    let limit = config.limits.iter().find(|limit| limit.operator.as_deref() == named);
    let limit =
        limit.ok_or_else(|| VoucherRefusal::new(404, "limit_unknown", "there is no such limit to raise"))?;
    for window in WINDOWS {
        if body[window].is_u64() && limits::configured(limit, window).is_none() {
            return Err(VoucherRefusal::field(window, "is not limited there"));
        }
    }
    config.approval.as_ref().map(|asks| asks.required).ok_or_else(|| {
        VoucherRefusal::new(
            403,
            "approval_not_configured",
            "others have to agree: add a section config approval",
        )
    })
}

/// Lets others decide on limits that are to be raised.
async fn ask_for_limits(
    shop: &Shop,
    tenant: &Tenant,
    (operator, text): (&Operator, String),
    required: u64,
    running: Option<RunningRequest>,
) -> Result<KeptAnswer, VoucherRefusal> {
    let (now, hash) = (shop.store.wall().0, hex::encode(&Sha256::digest(&text)));
    let mark = running.as_ref().map(RunningRequest::mark);
    let place = mark.as_ref().map(|mark| mark.place.told());
    let (name, work) = (operator.name.clone(), json!({"request": text, "key": place}).to_string());
    let (rows, key) = (shop.minting.book.of(tenant), shop.minting.book.key().await?);
    let id = new_id()?;
    let asking = Box::pin(async {
        let ask = move |door: &Door| {
            let who = (LIMITS_KIND, name.as_str());
            let Some(asked) = approvals::ask(door, id, who, (&hash, &work), required, now)? else {
                return Ok(None);
            };
            let answer = waits(&asked);
            if let Some(mark) = &mark {
                mark.begin(door, now)?;
                keep_answer(door, &key, &mark.place, &answer)?;
            }
            Ok(Some(answer))
        };
        rows.write(ask).await
    });
    let noted = audit_row(operator, LIMITS_KIND, &id.to_string(), "pending_approval");
    let asked = with_change(noted, asking).await.0?;
    asked.ok_or_else(|| VoucherRefusal::new(429, "too_many_approvals", "too many requests wait already"))
}

/// `GET /admin/approvals`: what waits for others to agree.
pub fn waiting(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, &[TENANT], |asked| {
        Box::pin(async move {
            let (rows, now) = (asked.shop.minting.book.of(&asked.tenant), asked.now.0);
            let waiting = rows.read(move |door| approvals::waiting(door, now)).await?;
            let one = |approval: &Approval| {
                json!({
                    "approvalId": approval.id.to_string(),
                    "kind": approval.kind,
                    "status": approval.state,
                    "principal": approval.principal,
                    "requestHash": approval.request_hash,
                    "approvals": approval.approvals,
                    "required": approval.required,
                    "createdAt": approval.created_at,
                    "expiresAt": approval.expires_at,
                })
            };
            Ok(json!({"approvals": waiting.iter().map(one).collect::<Value>()}))
        })
    })
}

const VOTE: &[Field] = &[needed("requestHash", Kind::Hash)];

/// `POST /admin/approvals/ID/approve`
pub fn approve(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { vote(&edge, sent, true).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

/// `POST /admin/approvals/ID/reject`
pub fn reject(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { vote(&edge, sent, false).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

async fn vote(edge: &Arc<Edge>, mut sent: Sent, approves: bool) -> Result<Answer, VoucherRefusal> {
    let operator = signed_in(&mut sent)?;
    let (shop, config) = (shop(edge)?.clone(), edge.site.config());
    let tenant = tenant_of(&config, &operator, sent.query())?;
    let key = keyed::key(sent.headers(), true)?;
    let place = key.map(|name| place(&operator.name, &sent, name));
    let id: Uuid = sent.rest.split('/').next().and_then(|id| id.parse().ok()).ok_or_else(nowhere)?;
    if !operator.may_sign {
        let message = "this needs a signature that is not older than a minute";
        return Err(VoucherRefusal::new(403, "fresh_signature_needed", message));
    }
    let text = keyed::text(sent).await?;
    let desk = shop.minting.clone();
    let (edge, owner, sent_text) = (edge.clone(), tenant.clone(), text.clone());
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let body = input::body(&sent_text, VOTE)?;
            let hash = body["requestHash"].as_str().unwrap_or_default().to_owned();
            let (rows, now, voter) =
                (shop.minting.book.of(&owner), shop.store.wall().0, operator.name.clone());
            let (what, target) = (if approves { "approve" } else { "reject" }, id.to_string());
            let voting = Box::pin(async {
                rows.write(move |door| approvals::vote(door, (id, &hash), (&voter, approves), now)).await
            });
            let (voted, is_noted) = with_change(audit_row(&operator, what, &target, "ok"), voting).await;
            let voted = voted?;
            if !is_noted {
                let result = voted.as_ref().map_or_else(|refusal| refusal.code, |_| "ok");
                audit(&edge, audit_row(&operator, what, &target, result), false).await;
            }
            voted?;
            drive((&shop, &config), &owner, (id, 0)).await?;
            let read = rows.read(move |door| approvals::find(door, id)).await?.ok_or_else(nowhere)?;
            let answer = fresh(200, &told(&read));
            if let Some(running) = &running {
                let (place, print, work) = (running.place.clone(), running.fingerprint.clone(), running.work);
                let begun =
                    rows.write(move |door| crate::vouchers::begin_key(door, &place, &print, work, now));
                begun.await?;
                shop.minting.keep(&rows, running.place.clone(), &answer).await?;
            }
            Ok(answer)
        })
    });
    keyed::once(&desk, &tenant, place, &text, work).await
}

/// What is answered to a vote.
fn told(approval: &Approval) -> Value {
    json!({
        "approvalId": approval.id.to_string(),
        "approvals": approval.approvals,
        "required": approval.required,
        "status": approval.state,
    })
}

/// Goes on with what was decided and not carried out to its end: nobody has to ask again.
pub fn go_on(edge: &Edge) {
    let Ok(shop) = shop(edge).cloned() else { return };
    let config = edge.site.config();
    task::spawn(async move {
        for tenant in config.all_tenants() {
            let (rows, now) = (shop.minting.book.of(&tenant), shop.store.now());
            let due = rows.read(move |door| jobs::due(door, approvals::DECISION, now, AT_ONCE)).await;
            for job in due.unwrap_or_default() {
                let Ok(id) = job.about.parse() else { continue };
                if let Err(refusal) = drive((&shop, &config), &tenant, (id, job.tries)).await {
                    log::warn!("approval {id}: {}", refusal.message);
                }
            }
        }
    });
}

/// Carries out what was decided, if that is still to be done, and keeps what came of it for the one who asked. What cannot be
/// done yet is tried again later. An error is the store's.
async fn drive(
    (shop, config): (&Shop, &Arc<Config>),
    tenant: &Tenant,
    (id, tries): (Uuid, u64),
) -> Result<(), VoucherRefusal> {
    let Some(_alone) = shop.minting.underway.begin(id) else { return Ok(()) };
    let rows = shop.minting.book.of(tenant);
    let found = rows.read(move |door| Ok((approvals::is_open(door, id)?, approvals::find(door, id)?)));
    let (true, Some(approval)) = found.await? else { return Ok(()) };
    let refusal = match noted((shop, config), tenant, &approval).await {
        Ok(()) => return Ok(rows.write(move |door| approvals::finish(door, id)).await?),
        Err(refusal) => refusal,
    };
    // What has begun comes to its end, whatever the configuration says by then.
    if refusal.status < 500 && (approval.state == "approved" || tries > MOST_TRIES) {
        let code = json!({"code": refusal.code, "message": refusal.message, "request_id": Value::Null});
        if let Some(place) = Work::of(&approval).place {
            shop.minting.keep(&rows, place, &fresh(refusal.status, &json!({"error": code}))).await?;
        }
        return Ok(rows.write(move |door| approvals::finish(door, id)).await?);
    }
    if tries == 0 {
        log::info!("approval {id} is not carried out yet: {}", refusal.message);
    }
    let at = shop.store.wall();
    let due = shop.store.now().saturating_add(AGAIN);
    let again = rows.write(move |door| jobs::again(door, &id.to_string(), due, refusal.code, at));
    Ok(again.await?)
}

/// Carries out what was decided, and writes down what it changes, as done for the one who asked. Limits are raised in one
/// commit; an order takes several, and its first has a row of its own.
async fn noted(
    (shop, config): (&Shop, &Arc<Config>),
    tenant: &Tenant,
    approval: &Approval,
) -> Result<(), VoucherRefusal> {
    let doing = Box::pin(decided((shop, config), tenant, approval));
    if approval.state == "rejected" {
        return doing.await;
    }
    let who = approval.principal.as_str();
    let operator = config.operators.iter().find(|operator| operator.name == who);
    let owner = [Operator::with_token(), Operator::of_shell()].into_iter().find(|owner| owner.name == who);
    let role = operator.map(|operator| operator.role).or(owner.map(|owner| owner.role));
    let role = role.map_or("-", Role::as_str);
    let (what, target) = (approval.kind.replace('_', "-"), approval.id.to_string());
    let row = |result| NewAuditRow::new(who, role, &what, &target, result);
    let is_one_change = approval.kind == LIMITS_KIND;
    let (done, is_begun) = with_change(row(if is_one_change { "ok" } else { BEGUN }), doing).await;
    if is_begun && !is_one_change {
        shop.audit.done(row(done.as_ref().map_or_else(|refusal| refusal.code, |()| "ok"))).await;
    }
    done
}

/// What is to be done, and where its answer is kept.
struct Work {
    order: Value,
    text: String,
    request_id: String,
    place: Option<KeyPlace>,
}

impl Work {
    fn of(approval: &Approval) -> Work {
        let mut work: Value = crate::json::read(approval.work.as_bytes()).unwrap_or_default();
        let key = work["key"].take();
        let part = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
        let place = key.is_object().then(|| KeyPlace {
            principal: part("principal"),
            method: part("method"),
            path: part("path"),
            name: part("name"),
        });
        let text = work["request"].as_str().unwrap_or_default().to_owned();
        let request_id = work["request_id"].as_str().unwrap_or_default().to_owned();
        Work { order: work["order"].take(), text, request_id, place }
    }
}

async fn decided(
    (shop, config): (&Shop, &Arc<Config>),
    tenant: &Tenant,
    approval: &Approval,
) -> Result<(), VoucherRefusal> {
    let Work { order, text, request_id, place } = Work::of(approval);
    let rows = shop.minting.book.of(tenant);
    if approval.state == "rejected" {
        let Some(place) = place else { return Ok(()) };
        let message = "the request was rejected";
        let body = json!({"error": json!({"code": "approval_rejected", "message": message, "request_id": Value::Null})});
        shop.minting.keep(&rows, place, &fresh(403, &body)).await?;
        return Ok(());
    }
    if approval.kind == LIMITS_KIND {
        return raised((shop, &rows), approval, (&text, place)).await;
    }
    let id = order.as_str().and_then(|id| id.parse().ok()).map_or_else(new_id, Ok)?;
    if approval.kind == VOUCHERS {
        let request = WorkRequest {
            text,
            request_id: Some(request_id),
            work: Some(id),
            mark: None,
            approval: Some(approval.id),
        };
        return agreed_vouchers((shop, config), tenant, (approval, request), place).await;
    }
    let principal = (approval.principal.as_str(), text.as_str());
    let (order, shape): (_, Shape) = match approval.kind.as_str() {
        "batch_mint" => (batch_order((shop, config), tenant, principal, id)?, batch_shape),
        _ => (tickets_order((shop, config), tenant, principal, id)?, tickets_shape),
    };
    let terms = OrderTerms {
        config: config.clone(),
        tenant: tenant.clone(),
        shape,
        is_queued: false,
        approval: Some(approval.id),
        place,
        notice: None,
    };
    shop.minting.carry_out(Order { request_id, ..order }, terms, None).await.map(drop)
}

/// Makes what was ordered at the counter. What came of it is kept, if it was asked for under a key.
async fn agreed_vouchers(
    (shop, config): (&Shop, &Arc<Config>),
    tenant: &Tenant,
    (approval, request): (&Approval, WorkRequest),
    place: Option<KeyPlace>,
) -> Result<(), VoucherRefusal> {
    let made = make_agreed(shop, config, tenant, &approval.principal, request).await.map_err(of_command);
    let answer = match made {
        Ok(told) => fresh(200, &told),
        // Nothing could be put behind them, and nothing will be.
        Err(refusal) if refusal.status == 409 => fresh(409, &body_of(&refusal)),
        Err(refusal) => return Err(refusal),
    };
    match place {
        Some(place) => Ok(shop.minting.keep(&shop.minting.book.of(tenant), place, &answer).await?),
        None => Ok(()),
    }
}

/// Raises limits that others have agreed to raise.
async fn raised(
    (shop, rows): (&Shop, &crate::store::TenantStore),
    approval: &Approval,
    (text, place): (&str, Option<KeyPlace>),
) -> Result<(), VoucherRefusal> {
    let body = input::body(text, LIMITS)?;
    let approval = Approval { state: "executed".to_owned(), ..approval.clone() };
    let (answer, key) = (fresh(200, &told(&approval)), shop.minting.book.key().await?);
    let who = body["operator"].as_str().unwrap_or(EVERYBODY).to_owned();
    let (id, now) = (approval.id, shop.store.wall().0);
    let done = rows.write(move |door| {
        if !approvals::consume(door, id)? {
            return Ok(());
        }
        for window in WINDOWS {
            if let Some(most) = body[window].as_u64() {
                limits::raise(door, &who, window, most, now)?;
            }
        }
        place.map_or(Ok(()), |place| keep_answer(door, &key, &place, &answer))
    });
    Ok(done.await?)
}
