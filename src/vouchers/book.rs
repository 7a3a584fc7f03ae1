//! The book of vouchers: the store as a tenant has it, with the key of the codes.

use super::rows::{self, NewBatch, NewTicket, VoucherRow};
use super::{CodeKey, VoucherCode};
use crate::config::Tenant;
use crate::store::{Store, StoreError, TenantStore};
use crate::units::UnixSeconds;
use std::sync::Arc;
use tokio::sync::OnceCell;

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

    /// What codes are known by.
    pub async fn key(&self) -> Result<&Arc<CodeKey>, StoreError> {
        self.key.get_or_try_init(|| async { CodeKey::open(&self.store).await.map(Arc::new) }).await
    }

    /// Writes an order down, in one commit. False: there are too many vouchers.
    pub async fn add(
        &self,
        tenant: &Tenant,
        batch: NewBatch,
        tickets: Vec<NewTicket>,
    ) -> Result<bool, StoreError> {
        let (key, owner, now) = (self.key().await?.clone(), tenant.clone(), self.store.wall());
        self.of(tenant).write(move |door| rows::add_batch(door, (&key, &owner), &batch, &tickets, now)).await
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
        Ok(())
    }
}
