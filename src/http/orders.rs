//! Orders of vouchers over HTTP: `POST /admin/batch-mint` and its estimate, `POST /internal/mint-tickets`, and the notice of a
//! payment. What was sent becomes an [`Order`]: checked, priced, and of a venue and a product of the sender's own.

use super::answer::Answer;
use super::entrance::{field, Entrance};
use super::keyed::{self, refused, KeyedWork};
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::auth::{ServiceRefusal, ServiceRequest};
use crate::commands::{Operator, BEGUN};
use crate::config::{Config, Funding, MintUrl, ProductConfig, ProductWorth, Tenant, Venue};
use crate::correlation;
use crate::form::pairs;
use crate::hex;
use crate::json::json;
use crate::sale::{buys, price_of};
use crate::shop::Shop;
use crate::store::{with_change, CodeWorth, NewAuditRow};
use crate::units::{Millis, Sats, UnixSeconds};
use crate::url::Url;
use crate::uuid::Uuid;
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::{
    may_be_told, KeyPlace, MintDesk, Order, OrderItem, OrderOutcome, OrderTerms, Shape, TicketResult,
    VoucherRefusal,
};
use hyper::header::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const MOST_TICKETS: usize = 100;
const ALL_SATS: u64 = 2_100_000_000_000_000;
const LONGEST_LABEL: usize = 100;
/// The year 9999.
const LAST_SECOND: u64 = 253_402_300_799;
const FUNDINGS: &[&str] = &["none", "treasury", "invoice"];

const TICKET: &[Field] = &[
    needed("id", Kind::Uuid),
    optional("eventId", Kind::Name),
    optional("userId", Kind::Name),
    optional("amount", Kind::Number(1, ALL_SATS)),
    optional("unit", Kind::OneOf(&["sat"])),
    optional("lock", Kind::OneOf(&["venue", "none"])),
    optional("expiresAt", Kind::Number(1, LAST_SECOND)),
    optional("label", Kind::Text(LONGEST_LABEL)),
    optional("notify", Kind::Address),
    optional("ticketData", Kind::Object),
];
const BATCH: &[Field] = &[
    needed("venueId", Kind::Name),
    optional("mintUrl", Kind::Address),
    optional("funding", Kind::OneOf(FUNDINGS)),
    needed("tickets", Kind::Objects(MOST_TICKETS, TICKET)),
];
const MINT_TICKETS: &[Field] = &[
    needed("ticketIds", Kind::Uuids(MOST_TICKETS)),
    needed("eventId", Kind::Name),
    needed("userId", Kind::Name),
    optional("tenantId", Kind::Name),
    optional("queue", Kind::Yes),
    optional("orderId", Kind::Name),
    optional("notify", Kind::Address),
];

/// `POST /admin/batch-mint`
pub fn batch_mint(edge: Arc<Edge>, sent: Sent) -> Answering {
    Box::pin(async move { batch(&edge, sent).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

async fn batch(edge: &Arc<Edge>, mut sent: Sent) -> Result<Answer, VoucherRefusal> {
    let operator = signed_in(&mut sent)?;
    let config = edge.site.config();
    let tenant = tenant_of(&config, &operator, sent.query())?;
    let shop = shop(edge)?.clone();
    let key = keyed::key(sent.headers(), true)?;
    let place = key.map(|name| place(&operator.name, &sent, name));
    let text = keyed::text(sent).await?;
    let (own, order_text, owner) = (edge.clone(), text.clone(), tenant.clone());
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let id = running.as_ref().map_or_else(new_id, |running| Ok(running.work))?;
            let order = batch_order((&shop, &config), &owner, (&operator.name, &order_text), id)?;
            let count = order.items.len();
            let place = running.as_ref().map(|running| running.place.clone());
            let terms =
                OrderTerms { config, tenant: owner, shape: batch_shape, status: 200, approval: None, place };
            let (what, target) = ("batch-mint", format!("{count} tickets {id}"));
            let making = Box::pin(shop.minting.carry_out(order, terms, running.as_ref()));
            let (done, _) = with_change(row(&operator, what, &target, BEGUN), making).await;
            let result = done.as_ref().map_or_else(|refusal| refusal.code, |_| "ok");
            audit(&own, &operator, what, &target, result).await;
            done
        })
    });
    keyed::once(&edge_desk(edge)?, &tenant, place, &text, work).await
}

/// The order of a request's text; the same again for those who have agreed to it.
pub fn batch_order(
    (shop, config): (&Shop, &Config),
    tenant: &Tenant,
    (principal, text): (&str, &str),
    id: Uuid,
) -> Result<Order, VoucherRefusal> {
    let body = input::body(text, BATCH)?;
    let venue = venue_of(shop, config, tenant, body["venueId"].as_str().unwrap_or_default())?;
    let mint = mint_of(config, venue, body["mintUrl"].as_str())?;
    let funding = body["funding"].as_str().and_then(|text| text.parse().ok()).unwrap_or(Funding::Treasury);
    let now = shop.store.wall();
    let mut items = Vec::new();
    for (number, ticket) in body["tickets"].as_array().into_iter().flatten().enumerate() {
        let wrong =
            |field: &str, what: &str| VoucherRefusal::field(&format!("tickets[{number}].{field}"), what);
        let here = |id| product_of(config, tenant, id).filter(|product| product.venue == venue.id);
        let product = ticket["eventId"].as_str().map(here);
        let product = product.map(|known| known.ok_or_else(no_product)).transpose()?;
        let amount = ticket["amount"].as_u64();
        let worth = match (product, amount) {
            (Some(product), _) => worth_of(product),
            (None, Some(amount)) => CodeWorth::Sats(amount),
            (None, None) => return Err(wrong("amount", "is missing, or an eventId")),
        };
        let face = price_of(config, venue, worth);
        if amount.is_some_and(|amount| amount != face.0) {
            let message = format!("tickets[{number}] is worth {} sat", face.0);
            return Err(VoucherRefusal::new(409, "amount_mismatch", message));
        }
        if !buys(config, venue, worth) {
            return Err(wrong("amount", "buys nothing at this venue"));
        }
        if ticket["lock"] == "none" && funding != Funding::Promise {
            return Err(wrong("lock", "is always venue where ecash stands behind a voucher"));
        }
        let expires_at = ticket["expiresAt"].as_u64();
        if expires_at.is_some_and(|at| at <= now.0) {
            return Err(wrong("expiresAt", "is over already"));
        }
        items.push(OrderItem {
            expires_at: expires_at.map_or_else(|| usual_end(config, now), UnixSeconds),
            label: owned(&ticket["label"]),
            notify: notify_of(config, &ticket["notify"]).map_err(|what| wrong("notify", what))?,
            ..item((uuid(&ticket["id"])?, owned(&ticket["userId"])), product, worth, face)
        });
    }
    Ok(Order { mint, funding, items, ..order("batch_mint", (shop, venue), (principal, text), id) })
}

fn item(
    (id, owner): (Uuid, String),
    product: Option<&ProductConfig>,
    worth: CodeWorth,
    face: Sats,
) -> OrderItem {
    OrderItem {
        id,
        product: product.map(|product| product.id.clone()).unwrap_or_default(),
        max_supply: product.map_or(0, |product| product.max_supply),
        owner,
        worth,
        face,
        expires_at: UnixSeconds(0),
        label: String::new(),
        notify: String::new(),
    }
}

fn order(
    kind: &'static str,
    (shop, venue): (&Shop, &Venue),
    (principal, text): (&str, &str),
    id: Uuid,
) -> Order {
    Order {
        id,
        kind,
        venue: venue.id.clone(),
        venue_id: shop.venue_id(venue).to_string(),
        mint: None,
        funding: Funding::Promise,
        principal: principal.to_owned(),
        note: String::new(),
        request_id: correlation::current().map(|id| id.to_string()).unwrap_or_default(),
        request_hash: hex::encode(&Sha256::digest(text)),
        request: text.to_owned(),
        items: Vec::new(),
    }
}

/// The body of a batch's answer.
pub fn batch_shape(order: &Order, outcome: &OrderOutcome, _: UnixSeconds) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for result in &outcome.results {
        let id = result.id.to_string();
        match (&result.made, &result.fault) {
            (Some(made), _) => {
                let backing = made.backing.as_ref();
                successful.push(json!({
                    "ticketId": id,
                    "code": made.code,
                    "signature": backing.map(|backing| backing.signature.as_str()),
                    "metadataUri": backing.map(|backing| backing.token.as_str()),
                    "keysetId": backing.map(|backing| backing.keyset.as_str()),
                    "proofCount": backing.map_or(0, |backing| backing.proofs),
                    "lockedTo": backing.map(|backing| backing.locked_to.as_str()),
                    "expiresAt": made.expires_at,
                }));
            }
            (None, fault) => failed.push(json!({
                "ticketId": id,
                "error": fault.as_ref().map(|fault| fault.code.as_str()),
                "retryable": fault.as_ref().is_some_and(|fault| fault.retryable),
            })),
        }
    }
    let total = outcome.results.len();
    let seconds = |millis: u128| u32::try_from(millis).map_or(0.0, |millis| f64::from(millis) / 1000.0);
    let took = outcome.took.as_millis();
    let average = took.checked_div(u128::try_from(total).unwrap_or(1)).unwrap_or(0);
    let summary = json!({
        "total": total,
        "succeeded": successful.len(),
        "failed": failed.len(),
        "totalDuration": seconds(took),
        "avgDuration": seconds(average),
    });
    json!({
        "batchId": order.id.to_string(),
        "venueId": order.venue_id,
        "successful": successful,
        "failed": failed,
        "summary": summary,
    })
}

/// `POST /internal/mint-tickets`
pub fn mint_tickets(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move { internal(&edge, &at, sent).await.unwrap_or_else(|refusal| refused(&refusal)) })
}

async fn internal(edge: &Arc<Edge>, at: &Entrance, sent: Sent) -> Result<Answer, VoucherRefusal> {
    let (shop, config) = (shop(edge)?.clone(), edge.site.config());
    let (headers, key) = (sent.headers().clone(), keyed::key(sent.headers(), true));
    let (method, path) = (sent.method().to_string(), sent.path().to_owned());
    let target = target(&sent);
    let text = keyed::text(sent).await?;
    let (service, tenant) = service(edge, at, (&headers, &method, &target), text.as_bytes()).await?;
    let body = input::body(&text, MINT_TICKETS)?;
    if body["tenantId"].as_str().is_some_and(|named| named != tenant.as_str()) {
        return Err(other_tenant());
    }
    let place = key?.map(|name| KeyPlace { principal: service.clone(), method, path, name });
    let (owner, order_text) = (tenant.clone(), text.clone());
    let work: KeyedWork = Box::new(move |running| {
        Box::pin(async move {
            let id = running.as_ref().map_or_else(new_id, |running| Ok(running.work))?;
            let order = tickets_order((&shop, &config), &owner, (&service, &order_text), id)?;
            let place = running.as_ref().map(|running| running.place.clone());
            let (shape, status): (Shape, _) = match body["queue"] == true {
                true => (queued_shape, 202),
                false => (tickets_shape, 200),
            };
            let terms = OrderTerms { config, tenant: owner, shape, status, approval: None, place };
            shop.minting.carry_out(order, terms, running.as_ref()).await
        })
    });
    keyed::once(&edge_desk(edge)?, &tenant, place, &text, work).await
}

pub fn tickets_order(
    (shop, config): (&Shop, &Config),
    tenant: &Tenant,
    (principal, text): (&str, &str),
    id: Uuid,
) -> Result<Order, VoucherRefusal> {
    let body = input::body(text, MINT_TICKETS)?;
    let product = body["eventId"].as_str().and_then(|id| product_of(config, tenant, id));
    let ids = body["ticketIds"].as_array().into_iter().flatten().map(uuid);
    let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
    let who = (owned(&body["userId"]), &body["notify"]);
    product_order((shop, config), product.ok_or_else(no_product)?, &ids, who).map(
        |(venue, funding, items)| Order {
            funding,
            items,
            ..order("mint_tickets", (shop, venue), (principal, text), id)
        },
    )
}

/// What a shop was paid for.
pub fn webhook_order(
    (shop, venue): (&Shop, &Venue),
    text: &str,
    id: Uuid,
    (funding, items): (Funding, Vec<OrderItem>),
) -> Order {
    Order { funding, items, ..order("webhook", (shop, venue), ("webhook", text), id) }
}

/// Where a ticket's buyer is told what becomes of it, if anywhere of its own.
fn notify_of(config: &Config, named: &Value) -> Result<String, &'static str> {
    let Some(named) = named.as_str() else { return Ok(String::new()) };
    let url = Url::parse(named).map_err(|_| "is no address like https://example.com")?;
    match may_be_told(&url, config.voucher.allow_http) {
        true => Ok(url.to_string()),
        false => Err("is plain http://, which anybody on the way can read: use https://"),
    }
}

/// The venue of a product, what stands behind its vouchers, and the item of an order for each of these ids. The buyer
/// is told of them at an address of the order's own, if it has one.
pub fn product_order<'c>(
    (shop, config): (&Shop, &'c Config),
    product: &ProductConfig,
    ids: &[Uuid],
    (owner, notify): (String, &Value),
) -> Result<(&'c Venue, Funding, Vec<OrderItem>), VoucherRefusal> {
    let notify = notify_of(config, notify).map_err(|what| VoucherRefusal::field("notify", what))?;
    let venue = config.venue(&product.venue).ok_or_else(no_product)?;
    let worth = worth_of(product);
    let face = price_of(config, venue, worth);
    if !buys(config, venue, worth) {
        return Err(VoucherRefusal::new(
            409,
            "not_sold",
            "what this product is worth is not sold at its venue",
        ));
    }
    let expires_at = usual_end(config, shop.store.wall());
    let one = |id: &Uuid| OrderItem {
        expires_at,
        notify: notify.clone(),
        ..item((*id, owner.clone()), Some(product), worth, face)
    };
    Ok((venue, product.funding, ids.iter().map(one).collect()))
}

pub fn tickets_shape(order: &Order, outcome: &OrderOutcome, now: UnixSeconds) -> Value {
    let one = |result: &TicketResult| {
        let mut told = json!({"ticketId": result.id.to_string(), "success": result.made.is_some()});
        if let Some(made) = &result.made {
            told["mintAddress"] = json!(made.backing.as_ref().map(|backing| backing.keyset.as_str()));
            told["code"] = json!(made.code);
            told["expiresAt"] = json!(made.expires_at);
            if made.already {
                told["alreadyMinted"] = json!(true);
            }
        }
        if let Some(fault) = &result.fault {
            told["error"] = json!(fault.code);
        }
        told
    };
    let total = outcome.results.len();
    let made = outcome.results.iter().filter(|result| result.made.is_some()).count();
    json!({
        "success": made == total,
        "results": outcome.results.iter().map(one).collect::<Value>(),
        "summary": json!({"total": total, "successful": made, "failed": total.saturating_sub(made)}),
        "batchId": order.id.to_string(),
        "mintedBy": order.principal,
        "timestamp": now.0,
    })
}

fn queued_shape(order: &Order, _: &OrderOutcome, _: UnixSeconds) -> Value {
    json!({"success": true, "jobId": order.id.to_string()})
}

/// The service that has signed, and its tenant.
pub async fn service(
    edge: &Edge,
    at: &Entrance,
    (headers, method, target): (&HeaderMap, &str, &str),
    body: &[u8],
) -> Result<(String, Tenant), VoucherRefusal> {
    let shop = shop(edge)?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let request = ServiceRequest {
        service: header("x-internal-service"),
        key_id: header("x-internal-key-id"),
        timestamp: header("x-internal-timestamp"),
        nonce: header("x-internal-nonce"),
        signature: header("x-internal-signature"),
        body_hash: header("x-internal-body-hash"),
        method,
        target,
        body,
    };
    let service = shop.auth.service(request).await;
    let service = service.map_err(|refusal| not_believed(shop, at, &refusal))?;
    let tenant = tenant_of_key(&edge.site.config(), service.tenant.as_deref())?;
    if header("x-tenant-id").is_some_and(|named| named != tenant.as_str()) {
        return Err(other_tenant());
    }
    Ok((service.id, tenant))
}

pub fn not_believed(shop: &Shop, at: &Entrance, refusal: &ServiceRefusal) -> VoucherRefusal {
    if !refusal.is_ours() {
        shop.audit.refused(NewAuditRow::of_stranger("a signed request", at.peer, refusal.code()));
    }
    let refused = |status| VoucherRefusal::new(status, refusal.code(), refusal.to_string());
    match refusal.is_ours() {
        true => refused(503).after(Millis::from_secs(5)),
        false => refused(401),
    }
}

/// The tenant of a credential that names it.
pub fn tenant_of_key(config: &Config, named: Option<&str>) -> Result<Tenant, VoucherRefusal> {
    match named {
        None if config.tenants.is_empty() => Ok(Tenant::main()),
        None => Err(no_tenant()),
        Some(name) => config.tenant_named(name).ok_or_else(no_tenant),
    }
}

/// The tenant that an operator works for. The bearer of the file is the platform's owner, and names it.
pub fn tenant_of(config: &Config, operator: &Operator, query: &str) -> Result<Tenant, VoucherRefusal> {
    let query = pairs(query);
    let named = field(&query, "tenant_id");
    if config.tenants.is_empty() {
        return match named {
            Some(name) if name != Tenant::main().as_str() => Err(nowhere()),
            _ => Ok(Tenant::main()),
        };
    }
    match operator.is_token() {
        true => config.tenant_named(named.ok_or_else(no_tenant)?).ok_or_else(nowhere),
        false => match (config.tenant_of_operator(&operator.name), named) {
            (None, _) => Err(no_tenant()),
            (Some(own), Some(named)) if own.as_str() != named => Err(nowhere()),
            (Some(own), _) => Ok(own),
        },
    }
}

fn no_tenant() -> VoucherRefusal {
    VoucherRefusal::new(401, "no_tenant", "this credential belongs to no tenant")
}

fn other_tenant() -> VoucherRefusal {
    VoucherRefusal::new(403, "other_tenant", "the request names another tenant than its key")
}

pub fn nowhere() -> VoucherRefusal {
    VoucherRefusal::nowhere()
}

fn no_product() -> VoucherRefusal {
    VoucherRefusal::new(404, "product_unknown", "there is no such product")
}

/// A venue of this tenant, by its id or its section's name.
pub fn venue_of<'c>(
    shop: &Shop,
    config: &'c Config,
    tenant: &Tenant,
    named: &str,
) -> Result<&'c Venue, VoucherRefusal> {
    let id = named.parse::<Uuid>().ok();
    let own = config.venues.iter().filter(|venue| config.tenant_of_venue(&venue.id) == *tenant);
    let mut own = own.filter(|venue| venue.id == named || id == Some(shop.venue_id(venue)));
    own.next().ok_or_else(|| VoucherRefusal::new(404, "venue_unknown", "there is no such venue"))
}

fn mint_of(config: &Config, venue: &Venue, named: Option<&str>) -> Result<Option<MintUrl>, VoucherRefusal> {
    let Some(named) = named else { return Ok(None) };
    let url = MintUrl::parse(named).ok();
    let known = config.mints_of(venue).find(|mint| Some(&mint.url) == url.as_ref());
    let refusal = || VoucherRefusal::new(400, "invalid_mint", "this mint is not one of the venue's");
    known.map(|mint| Some(mint.url.clone())).ok_or_else(refusal)
}

pub fn product_of<'c>(config: &'c Config, tenant: &Tenant, id: &str) -> Option<&'c ProductConfig> {
    config.products.iter().find(|product| product.id == id && product.tenant == *tenant)
}

fn worth_of(product: &ProductConfig) -> CodeWorth {
    match product.sells {
        ProductWorth::Time(time) => CodeWorth::Seconds(time.as_secs_ceil()),
        ProductWorth::Data(data) => CodeWorth::Bytes(data.0),
        ProductWorth::Money(sats) => CodeWorth::Sats(sats.0),
    }
}

fn usual_end(config: &Config, now: UnixSeconds) -> UnixSeconds {
    UnixSeconds(now.0.saturating_add(config.voucher.code_life.as_secs_ceil()))
}

fn uuid(value: &Value) -> Result<Uuid, VoucherRefusal> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| VoucherRefusal::field("id", "is no UUID"))
}

fn owned(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn new_id() -> Result<Uuid, VoucherRefusal> {
    Uuid::random().ok_or_else(|| VoucherRefusal::new(503, "no_randomness", "the router has no randomness"))
}

pub fn shop(edge: &Edge) -> Result<&Shop, VoucherRefusal> {
    edge.site.shop.as_ref().map_err(|closed| VoucherRefusal::new(503, closed.code, closed.cause.clone()))
}

fn edge_desk(edge: &Edge) -> Result<MintDesk, VoucherRefusal> {
    shop(edge).map(|shop| shop.minting.clone())
}

/// Who has signed in; the guard has seen to it.
pub fn signed_in(sent: &mut Sent) -> Result<Operator, VoucherRefusal> {
    sent.operator.take().ok_or_else(|| VoucherRefusal::new(401, "unauthorized", "a bearer token is needed"))
}

pub fn place(principal: &str, sent: &Sent, name: String) -> KeyPlace {
    let (method, path) = (sent.method().to_string(), sent.path().to_owned());
    KeyPlace { principal: principal.to_owned(), method, path, name }
}

/// The path as it was asked, with its query.
pub fn target(sent: &Sent) -> String {
    match sent.query() {
        "" => sent.path().to_owned(),
        query => format!("{}?{query}", sent.path()),
    }
}

pub async fn audit(edge: &Edge, operator: &Operator, what: &str, target: &str, result: &str) {
    if let Ok(shop) = &edge.site.shop {
        shop.audit.done(row(operator, what, target, result)).await;
    }
}

pub fn row(operator: &Operator, what: &str, target: &str, result: &str) -> NewAuditRow {
    NewAuditRow::new(&operator.name, operator.role.as_str(), what, target, result)
}
