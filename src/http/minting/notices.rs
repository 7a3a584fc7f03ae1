//! What shops and buyers ask about vouchers: the notice that an order was paid, and what became of a ticket.

use super::super::answer::{self, Answer};
use super::super::entrance::Entrance;
use super::super::error_body::refused;
use super::super::keyed;
use super::super::route::Answering;
use super::super::sent::Sent;
use super::super::Edge;
use super::caller::{is_open, new_id, not_believed, nowhere, service, shop, target, tenant_of_key};
use super::orders::{product_of, product_order, webhook_order};
use crate::config::Config;
use crate::hex;
use crate::json::json;
use crate::store::{Datum, Door, StoreError, TenantStore};
use crate::units::{UnixSeconds, ALL_SATS};
use crate::uuid::Uuid;
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::{rows, KeptAnswer, OrderTerms, VoucherRefusal};
use hyper::header::{self, HeaderValue};
use hyper::StatusCode;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const PAID_TICKET: &[Field] = &[needed("id", Kind::Uuid)];
const PAID: &[Field] = &[
    needed("id", Kind::Name),
    needed("orderId", Kind::Name),
    needed("tickets", Kind::Objects(100, PAID_TICKET)),
    needed("eventId", Kind::Name),
    needed("userId", Kind::Name),
    needed("amount", Kind::Number(0, ALL_SATS)),
    needed("currency", Kind::OneOf(&["SAT"])),
    optional("tenantId", Kind::Name),
    optional("notify", Kind::Address),
];

/// `POST /webhook/payment-completed`
pub fn paid(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move { webhook(&edge, &at, sent).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

async fn webhook(edge: &Arc<Edge>, at: &Entrance, sent: Sent) -> Result<Answer, VoucherRefusal> {
    let (shop, config) = (shop(edge)?.clone(), edge.site.config());
    let header =
        |name: &str| sent.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (signature, timestamp) = (header("x-webhook-signature"), header("x-webhook-timestamp"));
    let text = keyed::text(sent).await?;
    let signed = shop.auth.webhook(signature.as_deref(), timestamp.as_deref(), text.as_bytes());
    let number = signed.map_err(|refusal| not_believed(&shop, at, &refusal))?;
    is_open(edge)?;
    let named = config.webhooks.get(number).and_then(|webhook| webhook.tenant.clone());
    let tenant = tenant_of_key(&config, named.as_deref())?;
    let body = input::body(&text, PAID)?;
    if body["tenantId"].as_str().is_some_and(|named| named != tenant.as_str()) {
        return Err(VoucherRefusal::new(403, "other_tenant", "the notice names another tenant than its key"));
    }
    let rows = shop.minting.book.of(&tenant);
    let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (event, order_id) = (word("id"), word("orderId"));
    let print = hex::encode(&Sha256::digest(&text));
    if let Some((at, known)) = processed(&rows, &event).await? {
        if known != print {
            let message = "another notice came with this id";
            return Err(VoucherRefusal::new(422, "event_id_reused", message));
        }
        let message = "this notice came before";
        let told =
            json!({"status": "already_processed", "eventId": event, "processedAt": at, "message": message});
        return Ok(answer::json(StatusCode::OK, &told));
    }
    let unknown = || VoucherRefusal::new(404, "product_unknown", "there is no such product");
    let product = product_of(&config, &tenant, &word("eventId")).ok_or_else(unknown)?;
    let ids = body["tickets"].as_array().into_iter().flatten();
    let ids: Vec<Uuid> = ids.filter_map(|ticket| ticket["id"].as_str()?.parse().ok()).collect();
    let who = (word("userId"), &body["notify"]);
    let (venue, funding, items) = product_order((&shop, &config), product, &ids, who)?;
    let price = items.iter().fold(0u64, |sum, item| sum.saturating_add(item.face.0));
    if body["amount"].as_u64() != Some(price) {
        let message = format!("these tickets cost {price} sat");
        return Err(VoucherRefusal::new(409, "amount_mismatch", message));
    }
    // An order is of the same tickets whenever it is told of, and its vouchers have its name.
    let mut sorted: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    sorted.sort();
    let fingerprint = hex::encode(&Sha256::digest(format!("{} {}", product.id, sorted.join(" "))));
    let named = NamedOrder { name: order_id, fingerprint, ids };
    let id = order_of(&rows, named.clone(), shop.store.wall()).await?;
    let order = webhook_order((&shop, venue), &text, id, (funding, items));
    let terms = OrderTerms {
        config: Arc::new(Config { approval: None, ..Config::clone(&config) }),
        tenant: tenant.clone(),
        shape: |_, _, _| Value::Null,
        status: 200,
        approval: None,
        place: None,
    };
    let desk = shop.minting.clone();
    let done: KeptAnswer = match desk.carry_out(order, terms, None).await {
        Err(refusal) if refusal.status < 500 => {
            rows.write(move |door| forget(door, &named.name, id)).await?;
            return Err(refusal);
        }
        done => done?,
    };
    let now = shop.store.wall();
    let message = format!("Minting initiated for {} tickets", named.ids.len());
    let mut told =
        json!({"success": true, "message": message, "jobIds": [id.to_string()], "eventId": event.as_str()});
    if done.status == 202 {
        let waits: Value = crate::json::read(done.body.as_bytes()).unwrap_or_default();
        told["invoice"] = waits["invoice"].clone();
    }
    let kept = told.to_string();
    let noted = rows.write(move |door| {
        // The same order may have been refused meanwhile.
        bind(door, &named, id, now)?;
        door.execute(
            "INSERT INTO webhook_events (tenant, id, fingerprint, order_id, batch, answer, processed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            &[event.into(), print.into(), named.name.into(), id.into(), kept.into(), Datum::from(now)],
        )
    });
    noted.await?;
    Ok(answer::json(StatusCode::OK, &told))
}

/// When this event was processed, and the hash of its body.
async fn processed(rows: &TenantStore, event: &str) -> Result<Option<(u64, String)>, VoucherRefusal> {
    let event = event.to_owned();
    let found = rows.read(move |door| {
        let found = door.query(
            "SELECT processed_at, fingerprint FROM webhook_events WHERE tenant = $1 AND id = $2",
            &[event.into()],
        )?;
        found.first().map(|row| Ok((row.count(0)?, row.text(1)?.to_owned()))).transpose()
    });
    Ok(found.await?)
}

/// An order by its shop's name, and the tickets it is of.
#[derive(Clone)]
struct NamedOrder {
    name: String,
    fingerprint: String,
    ids: Vec<Uuid>,
}

/// The batch of an order, the same whenever it is told of.
async fn order_of(rows: &TenantStore, order: NamedOrder, now: UnixSeconds) -> Result<Uuid, VoucherRefusal> {
    let id = new_id()?;
    let known = rows.write(move |door| {
        let found = door.query(
            "SELECT fingerprint, batch FROM voucher_orders WHERE tenant = $1 AND id = $2",
            &[order.name.as_str().into()],
        )?;
        if let Some(row) = found.first() {
            let is_same = row.text(0)? == order.fingerprint;
            let refusal = || order_mismatch("this order was told of with other tickets");
            return Ok(if is_same { Ok(row.parsed::<Uuid>(1)?) } else { Err(refusal()) });
        }
        for ticket in &order.ids {
            let Some(row) = rows::by_id(door, *ticket)? else { continue };
            let others = door.query(
                "SELECT id FROM voucher_orders WHERE tenant = $1 AND batch = $2",
                &[row.batch.into()],
            )?;
            if !others.is_empty() {
                return Ok(Err(order_mismatch("another order has one of these tickets")));
            }
        }
        bind(door, &order, id, now)?;
        Ok(Ok(id))
    });
    known.await?
}

fn order_mismatch(message: &str) -> VoucherRefusal {
    VoucherRefusal::new(409, "order_mismatch", message)
}

fn bind(door: &Door, order: &NamedOrder, batch: Uuid, now: UnixSeconds) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO voucher_orders (tenant, id, fingerprint, batch, made_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        &[order.name.as_str().into(), order.fingerprint.as_str().into(), batch.into(), Datum::from(now)],
    )?;
    Ok(())
}

/// An order of which nothing was made may come again with other tickets.
fn forget(door: &Door, order: &str, batch: Uuid) -> Result<(), StoreError> {
    door.execute(
        "DELETE FROM voucher_orders WHERE tenant = $1 AND id = $2 AND batch = $3
         AND NOT EXISTS (SELECT 1 FROM vouchers WHERE tenant = $1 AND batch = $3)",
        &[order.into(), batch.into()],
    )?;
    Ok(())
}

/// `GET /tickets/TICKET/status`: for a caller who has the voucher's code, or its token.
pub fn ticket_status(edge: Arc<Edge>, _: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let claim = sent.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let claim = claim
            .and_then(|claim| claim.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let claim = claim.map(|(_, claim)| claim.trim().to_owned()).unwrap_or_default();
        let id = sent.rest.split('/').next().unwrap_or_default().to_owned();
        let tag = sent.headers().get(header::IF_NONE_MATCH).cloned();
        let told = match shop(&edge) {
            Ok(shop) => shop.minting.told_of(&edge.site.config(), &id, &claim).await,
            Err(refusal) => Err(refusal),
        };
        match told {
            Ok(told) => {
                let mark = hex::encode(&Sha256::digest(told.to_string()));
                let mark = mark.get(..16).map(|mark| format!("\"{mark}\"")).unwrap_or_default();
                let is_same = tag.is_some_and(|tag| tag.as_bytes() == mark.as_bytes());
                let mut answer = match is_same {
                    true => answer::empty(StatusCode::NOT_MODIFIED),
                    false => answer::json(StatusCode::OK, &told),
                };
                if let Ok(mark) = HeaderValue::from_str(&mark) {
                    answer.headers_mut().insert(header::ETAG, mark);
                }
                answer
            }
            Err(refusal) => refused(&refusal),
        }
    })
}

/// `POST` or `GET /internal/mint/status/TICKET`: for a service that has signed.
pub fn service_status(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move {
        let told = async {
            let headers = sent.headers().clone();
            let (method, target, rest) = (sent.method().to_string(), target(&sent), sent.rest.clone());
            let (_, tenant) = service(&edge, &at, (&headers, &method, &target), b"").await?;
            let id: Uuid = rest.parse().map_err(|()| nowhere())?;
            let (shop, rows) = (shop(&edge)?, shop(&edge)?.minting.book.of(&tenant));
            let row = rows.read(move |door| rows::by_id(door, id)).await?.ok_or_else(nowhere)?;
            Ok::<_, VoucherRefusal>(json!({
                "ticketId": id.to_string(),
                "status": row.state_at(shop.store.wall()).as_str(),
                "error": row.error_code,
                "updatedAt": row.changed_at.0,
                "expiresAt": row.expires_at.0,
            }))
        };
        told.await.map_or_else(|refusal| refused(&refusal), |told| answer::json(StatusCode::OK, &told))
    })
}
