//! Who asks for vouchers, and for whom: an operator or a service that signs, the tenant it works for, and what it may name of it.

use super::super::entrance::{field, Entrance};
use super::super::sent::Sent;
use super::super::Edge;
use crate::auth::{ServiceRefusal, ServiceRequest};
use crate::commands::Operator;
use crate::config::{Config, Tenant, Venue};
use crate::form::pairs;
use crate::shop::Shop;
use crate::store::{NewAuditRow, StoreError};
use crate::units::Millis;
use crate::uuid::Uuid;
use crate::vouchers::{KeyPlace, VoucherRefusal};
use hyper::header::HeaderMap;

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

/// Refuses a service that has signed while the key files are sealed.
pub fn is_open(edge: &Edge) -> Result<(), VoucherRefusal> {
    match edge.site.is_sealed() {
        true => Err(StoreError::Sealed.into()),
        false => Ok(()),
    }
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

pub fn other_tenant() -> VoucherRefusal {
    VoucherRefusal::new(403, "other_tenant", "the request names another tenant than its key")
}

pub fn nowhere() -> VoucherRefusal {
    VoucherRefusal::nowhere()
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

pub fn new_id() -> Result<Uuid, VoucherRefusal> {
    Uuid::random().ok_or_else(|| VoucherRefusal::new(503, "no_randomness", "the router has no randomness"))
}

pub fn shop(edge: &Edge) -> Result<&Shop, VoucherRefusal> {
    edge.site.shop.as_ref().map_err(|closed| VoucherRefusal::new(503, closed.code, closed.cause.clone()))
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

/// How a call ended, in the audit log.
pub async fn audit(edge: &Edge, row: NewAuditRow, changed: bool) {
    if let Ok(shop) = &edge.site.shop {
        shop.audit.ended(row, changed).await;
    }
}

pub fn audit_row(operator: &Operator, what: &str, target: &str, result: &str) -> NewAuditRow {
    NewAuditRow::new(&operator.name, operator.role.as_str(), what, target, result)
}
