//! The book of vouchers: the store as a tenant has it, with the key of the codes.

use super::approvals::{self, Approval};
use super::idempotency::{KeyPlace, WorkRequest};
use super::limits::{self, OverLimit};
use super::minting::{keep_answer, waits};
use super::rows::{self, NewBatch, NewTicket, VoucherRow};
use super::{CodeKey, VoucherCode};
use crate::config::{Config, Tenant};
use crate::hex;
use crate::json::json;
use crate::store::{forget_backing, give_back_reserved, Door, Store, StoreError, TenantStore};
use crate::units::{Millis, UnixSeconds};
use crate::uuid::Uuid;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Rows that one transaction forgets of a table.
const AT_ONCE: u64 = 128;

/// Why an order is not written down.
pub enum NotAdded {
    /// There are too many vouchers.
    Full,
    /// This much (sat) is over a limit.
    Over(u64, OverLimit),
    /// Others have to agree to it first.
    Waits(Approval),
    /// Too many requests wait for that.
    Crowded,
}

/// An order that is written down.
pub enum Added {
    New,
    /// It was before, under the key of its request.
    Known(Vec<VoucherRow>),
}

/// The kind of approvals of what the counter makes.
pub const VOUCHERS: &str = "vouchers";

/// Clones share it.
#[derive(Clone)]
pub struct VoucherBook {
    store: Store,
    /// Once it was needed.
    key: Arc<Mutex<Option<Arc<CodeKey>>>>,
}

impl VoucherBook {
    pub fn new(store: Store) -> VoucherBook {
        VoucherBook { store, key: Arc::default() }
    }

    /// The rows of a tenant.
    pub fn of(&self, tenant: &Tenant) -> TenantStore {
        self.store.of_tenant(tenant)
    }

    /// What all tenants share.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What codes are known by. `Sealed` while it cannot be read.
    pub async fn key(&self) -> Result<Arc<CodeKey>, StoreError> {
        if self.store.is_sealed() {
            return Err(StoreError::Sealed);
        }
        let mut known = self.key.lock().await;
        if let Some(key) = &*known {
            return Ok(key.clone());
        }
        let key = Arc::new(CodeKey::open(&self.store).await?);
        *known = Some(key.clone());
        Ok(key)
    }

    /// New codes are known by a new key from now on; it is made where there was none. Answers its number.
    pub async fn rotate_key(&self) -> Result<u32, StoreError> {
        self.key().await?;
        let mut known = self.key.lock().await;
        let needed = self.store.voucher_keys_in_use().await?;
        let key = CodeKey::rotate(&self.store, needed).await?;
        let number = key.number()?;
        *known = Some(Arc::new(key));
        Ok(number)
    }

    /// Writes an order down, and reserves what it is worth of its maker's limits, in one commit. `reserved`: when that is. An
    /// order of a request has its batch's id by the request's key, and may wait for others.
    pub async fn add(
        &self,
        (tenant, config): (&Tenant, Arc<Config>),
        batch: NewBatch,
        tickets: Vec<NewTicket>,
        reserved: Millis,
        request: Option<WorkRequest>,
    ) -> Result<Result<Added, NotAdded>, StoreError> {
        let (key, owner, now) = (self.key().await?, tenant.clone(), self.store.wall());
        let number = u64::try_from(tickets.len()).unwrap_or(u64::MAX);
        let sats = batch.face.0.saturating_mul(number);
        let own = self.of(tenant);
        let adding = own.write(move |door| {
            let known = rows::of_batch(door, batch.id)?;
            if !known.is_empty() {
                return Ok(Ok(Added::Known(known)));
            }
            let (who, approval) = (&batch.created_by, request.as_ref().and_then(|request| request.approval));
            if let (Some(request), None) = (&request, approval) {
                if let Some(why) =
                    waits_for_others(door, (&config, &key), (&batch, request, sats), (now, reserved))?
                {
                    return Ok(Err(why));
                }
            }
            // Once, by the first who comes.
            if !approval.map_or(Ok(true), |id| approvals::consume(door, id))? {
                return Err(StoreError::Gone);
            }
            if let Some(over) = limits::reserve(door, &config, who, sats, reserved, approval.is_some())? {
                return Ok(Err(NotAdded::Over(sats, over)));
            }
            if rows::add_batch(door, (&key, &owner), &batch, &tickets, now)? {
                let mark = request.as_ref().and_then(|request| request.mark.as_ref());
                mark.map_or(Ok(()), |mark| mark.begin(door, now.0))?;
                return Ok(Ok(Added::New));
            }
            give_back_reserved(door, who, sats, reserved)?;
            Ok(Err(NotAdded::Full))
        });
        adding.await
    }

    /// The voucher of a code.
    pub async fn find(&self, tenant: &Tenant, code: &VoucherCode) -> Result<Option<VoucherRow>, StoreError> {
        let hashes = self.key().await?.hashes(code)?;
        self.of(tenant).read(move |door| rows::by_hashes(door, &hashes)).await
    }

    /// The code of a voucher that can still be used.
    pub async fn code_of(
        &self,
        tenant: &Tenant,
        row: &VoucherRow,
    ) -> Result<Option<VoucherCode>, StoreError> {
        let Some(sealed) = &row.sealed else { return Ok(None) };
        self.key().await?.unseal(tenant, row.id, sealed).map(Some)
    }

    /// Ends what has expired by now. Where nothing has, it is one look at an index.
    pub async fn expire(&self, tenant: &Tenant) -> Result<(), StoreError> {
        let (rows, now) = (self.of(tenant), self.store.lasting_wall());
        while rows.write(move |door| rows::expire_some(door, now)).await? > 0 {}
        Ok(())
    }

    /// Forgets what has ended before `since`.
    pub async fn tidy(&self, tenant: &Tenant, since: UnixSeconds) -> Result<(), StoreError> {
        let rows = self.of(tenant);
        while rows.write(move |door| rows::forget_some(door, since)).await? > 0 {}
        while rows.write(move |door| rows::forget_orders(door, since)).await? > 0 {}
        while rows.write(move |door| forget_backing(door, since, AT_ONCE)).await? > 0 {}
        Ok(())
    }
}

/// Why an order of a request is not carried out now: others have to agree to it.
fn waits_for_others(
    door: &Door,
    (config, key): (&Config, &CodeKey),
    (batch, request, sats): (&NewBatch, &WorkRequest, u64),
    (now, reserved): (UnixSeconds, Millis),
) -> Result<Option<NotAdded>, StoreError> {
    let Some(asks) = &config.approval else { return Ok(None) };
    let who = batch.created_by.as_str();
    if sats <= asks.above && limits::over(door, config, who, sats, reserved)?.is_none() {
        return Ok(None);
    }
    let place = request.mark.as_ref().map(|mark| &mark.place);
    let named = place.map(KeyPlace::told);
    let asked = (batch.id.to_string(), batch.request_id.as_str());
    let work =
        json!({"order": asked.0, "request": request.text, "request_id": asked.1, "key": named}).to_string();
    let hash = hex::encode(&Sha256::digest(&request.text));
    let id = Uuid::random().ok_or(StoreError::NoRandomness)?;
    let asked = approvals::ask(door, id, (VOUCHERS, who), (&hash, &work), asks.required, now.0)?;
    let Some(approval) = asked else { return Ok(Some(NotAdded::Crowded)) };
    if let Some(mark) = &request.mark {
        mark.begin(door, now.0)?;
        keep_answer(door, key, &mark.place, &waits(&approval))?;
    }
    Ok(Some(NotAdded::Waits(approval)))
}
