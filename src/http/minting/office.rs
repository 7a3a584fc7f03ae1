//! What the operator sees of vouchers: dashboard, lists, counts, and what an order would take.

use super::super::answer;
use super::super::error_body::refused;
use super::super::route::Answering;
use super::super::sent::Sent;
use super::super::Edge;
use super::caller::{audit, audit_row, shop, signed_in, tenant_of, venue_of};
use crate::commands::Operator;
use crate::config::{Config, Tenant};
use crate::ecash::wallet::Estimate;
use crate::form::pairs;
use crate::json::json;
use crate::shop::Shop;
use crate::units::{Sats, UnixSeconds, ALL_SATS};
use crate::uuid::Uuid;
use crate::vouchers::approvals;
use crate::vouchers::counts::{self, Wanted};
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::limits;
use crate::vouchers::{rows, VoucherRefusal, VoucherRow, VoucherState};
use hyper::StatusCode;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

const LAST_SECOND: u64 = 253_402_300_799;
/// Vouchers of one request, for an estimate.
const BATCH: u64 = 100;
const STATES: &[&str] = &[
    "queued",
    "awaiting_payment",
    "minting",
    "ready",
    "redeemed",
    "failed",
    "expired",
    "revoked",
    "refunded",
];
pub const TENANT: Field = optional("tenant_id", Kind::Name);
const PENDING: [VoucherState; 3] =
    [VoucherState::Queued, VoucherState::AwaitingPayment, VoucherState::Minting];

/// Who asks for what, of which tenant.
pub struct Question {
    pub edge: Arc<Edge>,
    pub shop: Shop,
    pub config: Arc<Config>,
    pub operator: Operator,
    pub tenant: Tenant,
    pub query: Value,
    /// What the path has in place of capitals.
    pub rest: String,
    pub now: UnixSeconds,
}

pub type ToldLater = Pin<Box<dyn Future<Output = Result<Value, VoucherRefusal>> + Send>>;

/// What all questions have in common: who asks, for which tenant, and a query that is well-formed.
pub fn asked(
    edge: Arc<Edge>,
    mut sent: Sent,
    fields: &'static [Field],
    work: fn(Question) -> ToldLater,
) -> Answering {
    Box::pin(async move {
        let prepared = (|| {
            let operator = signed_in(&mut sent)?;
            let (shop, config) = (shop(&edge)?.clone(), edge.site.config());
            let query = input::query(&pairs(sent.query()), fields)?;
            let tenant = tenant_of(&config, &operator, sent.query())?;
            let (rest, now) = (sent.rest.clone(), shop.store.wall());
            Ok(Question { edge: edge.clone(), shop, config, operator, tenant, query, rest, now })
        })();
        let told = match prepared {
            Ok(asked) => work(asked).await,
            Err(refusal) => Err(refusal),
        };
        told.map_or_else(|refusal| refused(&refusal), |value| answer::json(StatusCode::OK, &value))
    })
}

/// `GET /admin/dashboard`
pub fn dashboard(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, &[TENANT], |asked| {
        Box::pin(async move {
            let now = asked.now;
            let rows = asked.shop.minting.book.of(&asked.tenant);
            let read = rows.read(move |door| {
                let wanted = Wanted::default();
                let recent = counts::page(door, &wanted, None, 10, now)?;
                Ok((counts::count(door, &wanted, now)?, recent, approvals::pending(door, now.0)?))
            });
            let (counted, recent, waiting) = read.await?;
            let of = |states: &[VoucherState]| counted.of(states).vouchers;
            let recent = recent.iter().map(|row| {
                json!({
                    "ticket_id": row.id.to_string(),
                    "status": row.state_at(now).as_str(),
                    "venue_id": venue_id(&asked, row),
                    "tenant_id": asked.tenant.as_str(),
                    "created_at": row.created_at.0,
                })
            });
            Ok(json!({
                "tenantId": asked.tenant.as_str(),
                "totalMints": counted.all().vouchers,
                "pendingMints": of(&PENDING),
                "failedMints": of(&[VoucherState::Failed]),
                "recentMints": recent.collect::<Value>(),
                "redeemed": of(&[VoucherState::Redeemed]),
                "expired": of(&[VoucherState::Expired]),
                "outstandingSat": counted.of(&[VoucherState::Ready]).sats,
                "treasury": treasury(&asked).await?,
                "pendingApprovals": waiting,
                "breakers": breakers(&asked),
            }))
        })
    })
}

/// What the router's own wallet holds that is free, per mint.
async fn treasury(asked: &Question) -> Result<Value, VoucherRefusal> {
    let balances = asked.shop.wallet.balances().await?;
    let one = |balance: &crate::store::Balance| {
        let (mint, free) = (balance.mint.as_str(), balance.free);
        json!({"mintUrl": mint, "unit": free.unit.as_str(), "balance": free.number})
    };
    Ok(balances.iter().map(one).collect())
}

/// Whether each mint is asked at all.
fn breakers(asked: &Question) -> Value {
    let mut told = json!({});
    for mint in &asked.config.mints {
        told[mint.url.as_str()] = json!(asked.edge.site.mints.get(&mint.url).breaker().as_str());
    }
    told
}

fn venue_id(asked: &Question, row: &VoucherRow) -> String {
    let venue = asked.config.venue(&row.venue);
    venue.map_or_else(|| row.venue.clone(), |venue| asked.shop.venue_id(venue).to_string())
}

/// `GET /admin/mints`
pub fn mints(edge: Arc<Edge>, sent: Sent) -> Answering {
    const FIELDS: &[Field] = &[
        TENANT,
        optional("status", Kind::OneOf(STATES)),
        optional("venueId", Kind::Name),
        optional("eventId", Kind::Name),
        optional("limit", Kind::Number(1, 100)),
        optional("cursor", Kind::Name),
    ];
    asked(edge, sent, FIELDS, |asked| {
        Box::pin(async move {
            let text = |name: &str| asked.query[name].as_str().unwrap_or_default().to_owned();
            let venue = match asked.query["venueId"].as_str() {
                Some(named) => venue_of(&asked.shop, &asked.config, &asked.tenant, named)?.id.clone(),
                None => String::new(),
            };
            let wanted =
                Wanted { state: text("status"), venue, product: text("eventId"), ..Wanted::default() };
            let most = asked.query["limit"].as_u64().unwrap_or(100);
            let behind = match asked.query["cursor"].as_str() {
                Some(cursor) => Some(
                    cursor_of(cursor).ok_or_else(|| VoucherRefusal::field("cursor", "is none of ours"))?,
                ),
                None => None,
            };
            let now = asked.now;
            let rows = asked.shop.minting.book.of(&asked.tenant);
            let read =
                rows.read(move |door| counts::page(door, &wanted, behind, most.saturating_add(1), now));
            let mut found = read.await?;
            let has_more = u64::try_from(found.len()).unwrap_or(u64::MAX) > most;
            found.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            let next = found.last().filter(|_| has_more);
            let next = next.map(|row| format!("{}.{}", row.created_at.0, row.id));
            let told = found.iter().map(|row| mint_row(&asked, row)).collect::<Value>();
            Ok(json!({"mints": told, "nextCursor": next}))
        })
    })
}

/// Where a page ends.
pub fn cursor_of(text: &str) -> Option<(u64, String)> {
    let (at, id) = text.split_once('.')?;
    Some((at.parse().ok()?, id.parse::<Uuid>().ok()?.to_string()))
}

fn mint_row(asked: &Question, row: &VoucherRow) -> Value {
    let (unit, worth) = row.worth.parts();
    json!({
        "ticketId": row.id.to_string(),
        "batchId": row.batch.to_string(),
        "venueId": venue_id(asked, row),
        "eventId": row.product,
        "userId": row.owner,
        "tenantId": asked.tenant.as_str(),
        "status": row.state_at(asked.now).as_str(),
        "amount": row.face.0,
        "unit": "sat",
        "worth": json!({"unit": unit, "number": worth}),
        "funding": row.funding.as_str(),
        "label": row.label,
        "note": row.note,
        "createdBy": row.created_by,
        "createdAt": row.created_at.0,
        "updatedAt": row.changed_at.0,
        "expiresAt": row.expires_at.0,
        "redeemedAt": row.redeemed_at.map(|at| at.0),
        "errorCode": row.error_code,
    })
}

/// `GET /admin/mints/TICKET[?reveal=token]`
pub fn mint(edge: Arc<Edge>, sent: Sent) -> Answering {
    const FIELDS: &[Field] = &[TENANT, optional("reveal", Kind::OneOf(&["token"]))];
    asked(edge, sent, FIELDS, |asked| {
        Box::pin(async move {
            let unknown = || VoucherRefusal::new(404, "not_found", "Mint not found");
            let id: Uuid = asked.rest.parse().map_err(|()| unknown())?;
            let book = &asked.shop.minting.book;
            let own = book.of(&asked.tenant);
            let read = own.read(move |door| {
                let Some(row) = rows::by_id(door, id)? else { return Ok(None) };
                let history = rows::history(door, &row)?;
                Ok(Some((row, history)))
            });
            let (row, history) = read.await?.ok_or_else(unknown)?;
            let mut told = mint_row(&asked, &row);
            let steps = history.iter().map(|step| {
                json!({
                    "at": step.at.0,
                    "from": step.was,
                    "to": step.became,
                    "reason": step.reason,
                    "who": step.who,
                    "requestId": step.request_id,
                })
            });
            told["history"] = steps.collect();
            if asked.query["reveal"] == "token" {
                let result =
                    match asked.operator.may_sign && asked.operator.role >= crate::config::Role::Cashier {
                        true => "ok",
                        false => "fresh_signature_needed",
                    };
                let noted = audit_row(&asked.operator, "reveal a voucher", &id.to_string(), result);
                audit(&asked.edge, noted, result == "ok").await;
                if result != "ok" {
                    let message = "this needs a cashier's signature that is not older than a minute";
                    return Err(VoucherRefusal::new(403, result, message));
                }
                told["code"] = json!(book.code_of(&asked.tenant, &row).await?.map(|code| code.to_string()));
                let tokens = asked.shop.wallet.tokens_of(&asked.tenant, &[id.to_string()]).await;
                told["token"] = json!(tokens.ok().and_then(|tokens| Some(tokens.first()?.token.clone())));
            }
            Ok(told)
        })
    })
}

/// `GET /admin/stats/VENUE`
pub fn stats(edge: Arc<Edge>, sent: Sent) -> Answering {
    const FIELDS: &[Field] = &[
        TENANT,
        optional("from", Kind::Number(0, LAST_SECOND)),
        optional("to", Kind::Number(0, LAST_SECOND)),
    ];
    asked(edge, sent, FIELDS, |asked| {
        Box::pin(async move {
            let venue = venue_of(&asked.shop, &asked.config, &asked.tenant, &asked.rest)?.clone();
            let (from, to) = (asked.query["from"].as_u64(), asked.query["to"].as_u64());
            let from = from.unwrap_or(0);
            let wanted = Wanted { venue: venue.id.clone(), from, until: to, ..Wanted::default() };
            let now = asked.now;
            let own = asked.shop.minting.book.of(&asked.tenant);
            let read = own.read(move |door| {
                Ok((counts::count(door, &wanted, now)?, counts::average_wait(door, &wanted)?))
            });
            let (counted, wait) = read.await?;
            let of = |states: &[VoucherState]| counted.of(states).vouchers;
            let (total, failed) = (counted.all().vouchers, of(&[VoucherState::Failed]));
            let made = total.saturating_sub(failed).saturating_sub(of(&PENDING));
            let rate = made.saturating_mul(100).checked_div(total).unwrap_or(0);
            Ok(json!({
                "venueId": asked.shop.venue_id(&venue).to_string(),
                "tenantId": asked.tenant.as_str(),
                "totalMints": total,
                "successfulMints": made,
                "failedMints": failed,
                "successRate": rate,
                "avgMintTimeSeconds": wait,
                "redeemed": of(&[VoucherState::Redeemed]),
                "expired": of(&[VoucherState::Expired]),
                "refunded": of(&[VoucherState::Refunded]),
                "outstandingSat": counted.of(&[VoucherState::Ready]).sats,
                "revenueSat": counted.of(&[VoucherState::Redeemed]).sats,
                "from": from,
                "to": to.unwrap_or(now.0),
            }))
        })
    })
}

/// `GET /admin/system/status`
pub fn system_status(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, &[TENANT], |asked| {
        Box::pin(async move {
            let now = asked.now;
            let own = asked.shop.minting.book.of(&asked.tenant);
            let read = own.read(move |door| {
                let counted = counts::count(door, &Wanted::default(), now)?;
                Ok((counted.of(&PENDING).vouchers, counts::jobs(door)?))
            });
            let (queue, (depth, oldest, dead)) = read.await?;
            let treasury = treasury(&asked).await?;
            let balances = treasury.as_array().into_iter().flatten();
            let balance =
                balances.filter(|one| one["unit"] == "sat").filter_map(|one| one["balance"].as_u64());
            let balance = balance.fold(0u64, u64::saturating_add);
            let store = &asked.shop.store;
            let dead: Value = dead
                .iter()
                .map(|(id, about, code)| json!({"id": id, "ticketId": about, "error": code}))
                .collect();
            let facts = store.facts().await?;
            let monitor =
                json!({"balance": balance, "sufficient": balance > 0, "minRequired": 0, "lastCheck": now.0});
            Ok(json!({
                "balanceMonitor": monitor,
                "cache": cache(),
                "database": json!({"connected": true}),
                "timestamp": now.0,
                "breakers": breakers(&asked),
                "kms": kms(&asked).await?,
                "clock": json!({
                    "synced": store.wall_is_plausible(),
                    "offsetMs": Value::Null,
                    "floor": now.0,
                }),
                "store": json!({
                    "kind": "sqlite",
                    "schemaVersion": facts.schema_version,
                    "journalMode": facts.journal_mode,
                    "synchronous": facts.synchronous,
                    // What is damaged is not opened.
                    "integrity": "ok",
                    "freeBytes": store.free_bytes().ok(),
                }),
                "outbox": json!({
                    "depth": depth,
                    "oldestSeconds": oldest.map(|at| now.0.saturating_sub(at)),
                    "dead": dead,
                }),
                "hub": json!({"reachable": false, "lastSeen": Value::Null}),
                "queue": json!({"depth": queue}),
            }))
        })
    })
}

/// What keeps the keys of vouchers, and which versions of each class are there.
async fn kms(asked: &Question) -> Result<Value, VoucherRefusal> {
    let (shop, facts) = (&asked.shop, asked.shop.keeper.facts());
    let mut versions = json!({});
    for key in shop.store.lock_keys().await?.iter().filter(|key| key.tenant == asked.tenant && key.is_current)
    {
        let class = key.class.as_str();
        versions[class] = json!(versions[class].as_u64().unwrap_or(0).max(u64::from(key.number)));
    }
    if !facts.is_sealed && shop.store.has_voucher_key().await? {
        versions["voucher"] = json!(shop.minting.book.key().await?.number()?);
    }
    if let Some(version) = facts.wrapped_by {
        versions["data"] = json!(version);
    }
    Ok(json!({
        "provider": facts.provider,
        "sealed": facts.is_sealed,
        "keyVersions": versions,
        "trouble": facts.trouble,
    }))
}

/// Nothing of vouchers is kept in memory: every answer is read from the store.
fn cache() -> Value {
    let kinds = json!({"keysets": 0, "mintInfo": 0, "quotes": 0, "tickets": 0});
    json!({
        "enabled": false,
        "entries": 0,
        "bytes": 0,
        "hits": 0,
        "misses": 0,
        "hitRate": 0,
        "evictions": 0,
        "byKind": kinds,
    })
}

/// `GET /admin/cache/stats`
pub fn cache_stats(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, &[TENANT], |_| Box::pin(std::future::ready(Ok(cache()))))
}

/// `DELETE /admin/cache/clear`: the tenant's own. Nonces, spent marks and keys of requests are no cache.
pub fn cache_clear(edge: Arc<Edge>, sent: Sent) -> Answering {
    const FIELDS: &[Field] = &[TENANT, optional("scope", Kind::OneOf(&["all"]))];
    asked(edge, sent, FIELDS, |asked| {
        Box::pin(async move {
            if asked.query["scope"] == "all" && !asked.operator.is_token() {
                return Err(VoucherRefusal::new(
                    403,
                    "forbidden",
                    "only the platform's owner clears what all have",
                ));
            }
            audit(&asked.edge, audit_row(&asked.operator, "cache clear", "", "ok"), false).await;
            Ok(json!({"message": "All cache cleared", "removed": 0}))
        })
    })
}

/// `DELETE /admin/cache/TICKET`
pub fn cache_forget(edge: Arc<Edge>, sent: Sent) -> Answering {
    asked(edge, sent, &[TENANT], |asked| {
        Box::pin(async move {
            let id: Uuid =
                asked.rest.parse().map_err(|()| VoucherRefusal::field("ticketId", "is no UUID"))?;
            let noted = audit_row(&asked.operator, "cache forget", &id.to_string(), "ok");
            audit(&asked.edge, noted, false).await;
            Ok(json!({"message": "Cache invalidated", "ticketId": id.to_string(), "removed": 0}))
        })
    })
}

/// `GET /admin/batch-mint/estimate`
pub fn estimate(edge: Arc<Edge>, sent: Sent) -> Answering {
    const FIELDS: &[Field] = &[
        TENANT,
        needed("count", Kind::Number(1, 10_000)),
        optional("amount", Kind::Number(1, ALL_SATS / 10_000)),
        optional("mintUrl", Kind::Address),
        optional("venueId", Kind::Name),
    ];
    asked(edge, sent, FIELDS, |asked| {
        Box::pin(async move {
            let count = asked.query["count"].as_u64().unwrap_or(1);
            let amount = asked.query["amount"].as_u64().unwrap_or(1);
            let mint = asked.query["mintUrl"].as_str();
            let is_known = |url: &str| asked.config.mints.iter().any(|mint| mint.url.as_str() == url);
            let named = mint.map(|text| crate::config::MintUrl::parse(text).ok());
            let named = named.map(|url| url.filter(|url| is_known(url.as_str())));
            if named.as_ref().is_some_and(Option::is_none) {
                return Err(VoucherRefusal::new(400, "invalid_mint", "this mint is not configured here"));
            }
            let face = count.saturating_mul(amount);
            let url = named.flatten().or_else(|| Some(asked.config.mints.first()?.url.clone()));
            let amounts = vec![Sats(amount); usize::try_from(count).unwrap_or(usize::MAX)];
            let known = match &url {
                Some(url) => asked.shop.wallet.estimate(url, &amounts).await?,
                None => Estimate::default(),
            };
            let total = face.saturating_add(known.input_fee.0);
            let (config, who, service) =
                (asked.config.clone(), asked.operator.name.clone(), asked.shop.store.now());
            let rows = asked.shop.minting.book.of(&asked.tenant);
            let over = rows.read(move |door| limits::over(door, &config, &who, face, service)).await?;
            let asks = asked.config.approval.as_ref();
            let required = asks.filter(|asks| over.is_some() || face > asks.above);
            let batches = count.div_ceil(BATCH);
            Ok(json!({
                "count": count,
                "faceValue": face,
                "unit": "sat",
                "inputFee": known.input_fee.0,
                "lightningFeeReserve": 0,
                "total": total,
                "outputs": known.outputs,
                "batchCount": batches,
                "estimatedTimeSeconds": batches,
                "treasuryBalance": known.balance.0,
                "sufficient": known.balance.0 >= total,
                "withinLimits": over.is_none(),
                "approvalsRequired": required.map_or(0, |asks| asks.required),
                "keysetId": known.keyset,
                "keysetFinalExpiry": known.final_expiry.map(|end| end.0),
            }))
        })
    })
}
