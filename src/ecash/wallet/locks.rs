//! The keys that ecash is locked to, and what is spent with them. They are derived from a seed of their own, as is the ecash:
//! a search for the takings never finds a voucher's.

use super::Wallet;
use crate::config::Tenant;
use crate::ecash::curve::{Dleq, PublicKey, SecretKey};
use crate::ecash::error::EcashError;
use crate::ecash::keyset::KeysetId;
use crate::ecash::lock::{self, Lock};
use crate::ecash::outputs::{Proof, ProofDleq};
use crate::ecash::seed::{Seed, SeedError};
use crate::hex;
use crate::store::{KeyFile, LockClass, LockKeyRow, LockedProof, LockedRow, PublicOf, StoreError};
use crate::task;
use std::sync::{Arc, PoisonError};

/// The file of the seed of the vouchers' ecash and of the keys that it is locked to.
const KEY: KeyFile = KeyFile("backing");

impl Wallet {
    /// The seed, made with the first key.
    pub(super) async fn lock_seed(&self) -> Result<Arc<Seed>, StoreError> {
        let store = &self.0.store;
        let seed =
            self.0.lock_seed.get_or_try_init(|| async { Seed::of_file(KEY, store).await.map(Arc::new) });
        Ok(seed.await?.clone())
    }

    /// The secret key of a number.
    pub(super) async fn lock_secret(&self, number: u32) -> Result<SecretKey, EcashError> {
        let known = || self.0.lock_secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known().get(&number).cloned() {
            return Ok(key);
        }
        let seed = self.lock_seed().await.map_err(|_| SeedError::NoSuchKey)?;
        let key = task::blocking(move || seed.lock_key(number)).await.map_err(|_| EcashError::Busy)??;
        known().insert(number, key.clone());
        Ok(key)
    }

    /// The number of a class's current key; the key is made if there is none.
    pub(super) async fn lock_number(
        &self,
        tenant: &Tenant,
        class: LockClass,
        owner: &str,
    ) -> Result<u32, StoreError> {
        let public_of = self.public_of().await?;
        self.0.store.lock_key(tenant, class, owner, public_of).await
    }

    /// All keys that ecash is or was locked to.
    pub async fn lock_keys(&self) -> Result<Vec<LockKeyRow>, StoreError> {
        self.0.store.lock_keys().await
    }

    /// Has new vouchers locked to a new key. The old one is kept, and spends what is locked to it. Answers how many were changed.
    pub async fn rotate_lock_keys(&self, class: LockClass) -> Result<usize, StoreError> {
        let mut rotated = 0usize;
        for key in self.lock_keys().await?.into_iter().filter(|key| key.class == class && key.is_current) {
            let public_of = self.public_of().await?;
            let new = self.0.store.rotate_lock_key(&key.tenant, class, &key.owner, public_of).await?;
            rotated = rotated.saturating_add(usize::from(new.is_some()));
        }
        Ok(rotated)
    }

    pub(super) async fn public_of(&self) -> Result<PublicOf, StoreError> {
        let seed = self.lock_seed().await?;
        Ok(Box::new(move |number| Some(seed.lock_key(number).ok()?.public_key().to_string())))
    }

    pub(super) async fn lock_of(&self, row: &LockedRow) -> Result<Lock, EcashError> {
        Ok(Lock {
            key: self.lock_secret(row.lock).await?.public_key(),
            locktime: Some(row.locktime),
            refund: Some(self.lock_secret(row.refund).await?.public_key()),
        })
    }

    /// The proofs of a voucher as ecash, with their evidence.
    pub(super) async fn locked_ecash(
        &self,
        row: &LockedRow,
        proofs: Vec<LockedProof>,
    ) -> Result<Vec<Proof>, EcashError> {
        let seed = self.lock_seed().await.map_err(|_| SeedError::NoSuchKey)?;
        let lock = self.lock_of(row).await?;
        let derived = task::blocking(move || proofs.iter().map(|proof| proof.ecash(&seed, &lock)).collect());
        derived.await.map_err(|_| EcashError::Busy)?
    }

    /// The same proofs, those that are locked to keys of ours signed; the others as they are.
    pub(super) async fn unlocked(&self, proofs: Arc<Vec<Proof>>) -> Result<Arc<Vec<Proof>>, EcashError> {
        if !proofs.iter().any(|proof| lock::is_condition(proof.secret.as_str())) {
            return Ok(proofs);
        }
        let now = self.0.store.wall();
        let ours = self.lock_keys().await.map_err(|_| EcashError::Busy)?;
        let mut keys = Vec::new();
        for proof in proofs.iter() {
            let Some(public) = Lock::of(proof.secret.as_str()).map(|lock| lock.spender(now)) else {
                continue;
            };
            let Some(key) = ours.iter().find(|key| key.public == public.to_string()) else { continue };
            if !keys.iter().any(|(number, _)| *number == key.number) {
                keys.push((key.number, self.lock_secret(key.number).await?));
            }
        }
        let signed = task::blocking(move || {
            let mut proofs = Vec::clone(&proofs);
            let keys: Vec<SecretKey> = keys.into_iter().map(|(_, key)| key).collect();
            lock::sign_all(&mut proofs, &keys, now);
            Arc::new(proofs)
        });
        signed.await.map_err(|_| EcashError::Busy)
    }
}

impl LockedProof {
    fn ecash(&self, seed: &Seed, lock: &Lock) -> Result<Proof, EcashError> {
        let damaged = EcashError::Malformed("a proof of the store");
        let keyset = KeysetId::parse(&self.keyset).ok_or(EcashError::KeysetInactive)?;
        let (nonce, r) = seed.secret(&keyset, self.counter)?;
        let (e, s) = self.dleq.split_at_checked(64).ok_or(damaged.clone())?;
        let (e, s) = (hex::decode(e), hex::decode(s));
        let dleq = e.zip(s).map(|(e, s)| ProofDleq { dleq: Dleq { e, s }, r });
        Ok(Proof {
            counter: Some(self.counter),
            keyset,
            amount: self.amount,
            secret: lock.secret(nonce.as_str()),
            c: PublicKey::parse(&self.c).ok_or(damaged)?,
            dleq,
            witness: None,
        })
    }

    /// As it is kept for a voucher.
    pub(super) fn of(proof: &Proof, voucher: &str) -> Option<LockedProof> {
        let dleq = &proof.dleq.as_ref()?.dleq;
        Some(LockedProof {
            y: proof.secret.y().to_string(),
            voucher: voucher.to_owned(),
            keyset: proof.keyset.to_string(),
            counter: proof.counter?,
            amount: proof.amount,
            c: proof.c.to_string(),
            dleq: format!("{}{}", hex::encode(&dleq.e), hex::encode(&dleq.s)),
            is_taken: false,
        })
    }
}
