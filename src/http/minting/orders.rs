//! Orders of vouchers over HTTP: `POST /admin/batch-mint` and its estimate, `POST /internal/mint-tickets`, and the notice of a
//! payment. What was sent becomes an [`Order`]: checked, priced, and of a venue and a product of the sender's own.

use super::super::answer::Answer;
use super::super::entrance::Entrance;
use super::super::error_body::refused;
use super::super::keyed::{self, KeyedWork};
use super::super::route::Answering;
use super::super::sent::Sent;
use super::super::Edge;
use super::caller::{
    audit, audit_row, is_open, new_id, other_tenant, place, service, shop, signed_in, target, tenant_of,
    venue_of,
};
use super::shapes::{batch_shape, queued_shape, tickets_shape};
use crate::commands::BEGUN;
use crate::config::{Config, Funding, MintUrl, ProductConfig, ProductWorth, Tenant, Venue};
use crate::correlation;
use crate::hex;
use crate::sale::{buys, price_of};
use crate::shop::Shop;
use crate::store::{with_change, CodeWorth};
use crate::units::{Sats, UnixSeconds, ALL_SATS};
use crate::url::Url;
use crate::uuid::Uuid;
use crate::vouchers::input::{self, needed, optional, Field, Kind};
use crate::vouchers::{may_be_told, KeyPlace, MintDesk, Order, OrderItem, OrderTerms, Shape, VoucherRefusal};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const MOST_TICKETS: usize = 100;
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
            let terms = OrderTerms {
                config,
                tenant: owner,
                shape: batch_shape,
                is_queued: false,
                approval: None,
                place,
                notice: None,
            };
            let (what, target) = ("batch-mint", format!("{count} tickets {id}"));
            let making = Box::pin(shop.minting.carry_out(order, terms, running.as_ref()));
            let (done, is_begun) = with_change(audit_row(&operator, what, &target, BEGUN), making).await;
            let result = done.as_ref().map_or_else(|refusal| refusal.code, |_| "ok");
            audit(&own, audit_row(&operator, what, &target, result), is_begun || done.is_ok()).await;
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
        request_id: correlation::current_text(),
        request_hash: hex::encode(&Sha256::digest(text)),
        request: text.to_owned(),
        items: Vec::new(),
    }
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
    is_open(edge)?;
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
            let is_queued = body["queue"] == true;
            let shape: Shape = if is_queued { queued_shape } else { tickets_shape };
            let terms =
                OrderTerms { config, tenant: owner, shape, is_queued, approval: None, place, notice: None };
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

fn no_product() -> VoucherRefusal {
    VoucherRefusal::new(404, "product_unknown", "there is no such product")
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

fn edge_desk(edge: &Edge) -> Result<MintDesk, VoucherRefusal> {
    shop(edge).map(|shop| shop.minting.clone())
}
