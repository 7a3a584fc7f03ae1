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
use super::shapes::queued_shape;
use crate::config::Config;
use crate::hex;
use crate::json::json;
use crate::task;
use crate::units::ALL_SATS;
use crate::uuid::Uuid;
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::{rows, OrderTerms, PaidNotice, VoucherRefusal};
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
    let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let ids = body["tickets"].as_array().into_iter().flatten();
    let notice = PaidNotice {
        event: word("id"),
        print: hex::encode(&Sha256::digest(&text)),
        order: word("orderId"),
        product: word("eventId"),
        tickets: ids.filter_map(|ticket| ticket["id"].as_str()?.parse().ok()).collect(),
    };
    let looked_at = notice.clone();
    let known = shop.minting.book.of(&tenant).read(move |door| looked_at.look(door)).await??;
    if let Some(at) = known.processed {
        let message = "this notice came before";
        let told = json!({"status": "already_processed", "eventId": notice.event, "processedAt": at, "message": message});
        return Ok(answer::json(StatusCode::OK, &told));
    }
    let unknown = || VoucherRefusal::new(404, "product_unknown", "there is no such product");
    let product = product_of(&config, &tenant, &notice.product).ok_or_else(unknown)?;
    let who = (word("userId"), &body["notify"]);
    let (venue, funding, items) = product_order((&shop, &config), product, &notice.tickets, who)?;
    let price = items.iter().fold(0u64, |sum, item| sum.saturating_add(item.face.0));
    if body["amount"].as_u64() != Some(price) {
        let message = format!("these tickets cost {price} sat");
        return Err(VoucherRefusal::new(409, "amount_mismatch", message));
    }
    let id = known.batch.map_or_else(new_id, Ok)?;
    let order = webhook_order((&shop, venue), &text, id, (funding, items));
    let message = format!("Minting initiated for {} tickets", notice.tickets.len());
    let event = notice.event.clone();
    let terms = OrderTerms {
        config: Arc::new(Config { approval: None, ..Config::clone(&config) }),
        tenant,
        shape: queued_shape,
        is_queued: true,
        approval: None,
        place: None,
        notice: Some(notice),
    };
    // A shop that goes away stops nothing.
    let desk = shop.minting.clone();
    let doing = task::start(async move { desk.carry_out(order, terms, None).await });
    let done = doing.await.map_err(|_| VoucherRefusal::new(503, "stopping", "the daemon is stopping"))??;
    let done: Value = crate::json::read(done.body.as_bytes()).unwrap_or_default();
    let (job, invoice) = (&done["jobId"], &done["invoice"]);
    let job = if job.is_null() { &done["batchId"] } else { job };
    let mut told = json!({"success": true, "message": message, "jobIds": [job], "eventId": event});
    if !invoice.is_null() {
        told["invoice"] = invoice.clone();
    }
    Ok(answer::json(StatusCode::OK, &told))
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
