//! The book of vouchers: the store as a tenant has it, with the key of the codes.

use super::limits::{self, OverLimit};
use super::rows::{self, NewBatch, NewTicket, VoucherRow};
use super::{BatchId, CodeKey, VoucherCode, VoucherState};
use crate::config::{Config, Tenant};
use crate::store::{forget_backing, Store, StoreError, TenantStore};
use crate::units::{Millis, UnixSeconds};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Rows that one transaction forgets of a table.
const AT_ONCE: u64 = 128;

/// Why an order is not written down.
pub enum NotAdded {
    /// There are too many vouchers.
    Full,
    /// So much (sat) is over a limit.
    Over(u64, OverLimit),
}

/// Clones share it.
#[derive(Clone)]
pub struct VoucherBook {
    store: Store,
    key: Arc<OnceCell<Arc<CodeKey>>>,
}

impl VoucherBook {
    pub fn new(store: Store) -> VoucherBook {
        VoucherBook { store, key: Arc::new(OnceCell::new()) }
    }

    /// The rows of a tenant.
    pub fn of(&self, tenant: &Tenant) -> TenantStore {
        self.store.of_tenant(tenant)
    }

    /// What all tenants share.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What codes are known by.
    pub async fn key(&self) -> Result<&Arc<CodeKey>, StoreError> {
        self.key.get_or_try_init(|| async { CodeKey::open(&self.store).await.map(Arc::new) }).await
    }

    /// Writes an order down, and reserves what it is worth of its maker's limits, in one commit. `reserved`: when that is.
    pub async fn add(
        &self,
        (tenant, config): (&Tenant, Arc<Config>),
        batch: NewBatch,
        tickets: Vec<NewTicket>,
        reserved: Millis,
    ) -> Result<Result<(), NotAdded>, StoreError> {
        let (key, owner, now) = (self.key().await?.clone(), tenant.clone(), self.store.wall());
        let number = u64::try_from(tickets.len()).unwrap_or(u64::MAX);
        let sats = batch.face.0.saturating_mul(number);
        let own = self.of(tenant);
        let adding = own.write(move |door| {
            let who = &batch.created_by;
            if let Some(over) = limits::reserve(door, &config, who, sats, reserved, false)? {
                return Ok(Err(NotAdded::Over(sats, over)));
            }
            if rows::add_batch(door, (&key, &owner), &batch, &tickets, now)? {
                return Ok(Ok(()));
            }
            limits::give_back(door, who, sats, reserved)?;
            Ok(Err(NotAdded::Full))
        });
        adding.await
    }

    /// Gives back what the vouchers of an order have taken of a limit that have failed.
    pub async fn give_back(
        &self,
        tenant: &Tenant,
        batch: BatchId,
        who: String,
        reserved: Millis,
    ) -> Result<(), StoreError> {
        let own = self.of(tenant);
        let giving = own.write(move |door| {
            let rows = rows::of_batch(door, batch)?;
            let failed = rows.iter().filter(|row| row.state == VoucherState::Failed);
            let sats = failed.fold(0u64, |sum, row| sum.saturating_add(row.face.0));
            limits::give_back(door, &who, sats, reserved)
        });
        giving.await
    }

    /// The voucher of a code.
    pub async fn find(&self, tenant: &Tenant, code: &VoucherCode) -> Result<Option<VoucherRow>, StoreError> {
        let hash = self.key().await?.hash(code)?;
        self.of(tenant).read(move |door| rows::by_hash(door, &hash)).await
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

    /// Ends what has expired, and forgets what has ended before `since`.
    pub async fn tidy(&self, tenant: &Tenant, since: UnixSeconds) -> Result<(), StoreError> {
        let (rows, now) = (self.of(tenant), self.store.wall());
        while rows.write(move |door| rows::expire_some(door, now)).await? > 0 {}
        while rows.write(move |door| rows::forget_some(door, since)).await? > 0 {}
        while rows.write(move |door| rows::forget_orders(door, since)).await? > 0 {}
        while rows.write(move |door| forget_backing(door, since, AT_ONCE)).await? > 0 {}
        Ok(())
    }
}
