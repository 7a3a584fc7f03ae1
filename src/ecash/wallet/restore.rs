//! Finding ecash again from the words it was derived from (NUT-09, NUT-13).
//!
//! Of our own words, what is found unspent is added to what the store knows, and counters move past everything that
//! was ever signed. What other words hold is received like a token: afterwards it is ours alone, and those words are
//! worth nothing at these mints.

use super::exchange::{points, prepare};
use super::offer::{fee_of, reference_of, TokenOffer, MAX_PROOFS, UNIT};
use super::own::{proof_states, WalletError};
use super::receive::{takings, Received};
use super::{total, Wallet};
use crate::config::MintUrl;
use crate::ecash::error::EcashError;
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::Proof;
use crate::ecash::retry::RATE_LIMIT_PAUSE;
use crate::ecash::seed::Seed;
use crate::ecash::wire::{KeysetInfo, ProofState};
use crate::set::SortedSet;
use crate::store::{OutputsRow, RenewableKey};
use crate::task;
use crate::units::{Millis, Sats};
use std::sync::Arc;

const BATCH: u32 = 100;
/// This many batches without a signature end the search of a keyset.
const EMPTY_BATCHES: u32 = 3;
/// Counters after the last signature that are left out: a request may have been under way when the record ended.
const LEFT_OUT: u32 = 100;
/// How often a mint that limits requests is waited for.
const PATIENCE: u32 = 5;

/// The files of this router's seeds.
const PURSES: [&str; 3] = ["takings", "customers", "balances"];

/// What a search brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// What was not known before, after fees.
    pub found: Sats,
    /// Mints that could not be searched, or not in full, and why.
    pub trouble: Vec<(MintUrl, String)>,
}

/// What a keyset holds for a seed.
struct Found {
    unspent: Vec<Proof>,
    /// The first counter that was certainly never used; `None` if nothing was signed at all.
    next: Option<u32>,
}

impl Wallet {
    /// Searches these mints, and those that are known to the store, for ecash of twelve words: other ones, or
    /// (`None`) our own.
    pub async fn restore(&self, words: Option<String>, mints: &[MintUrl]) -> Result<Restored, WalletError> {
        let own = self.0.seed.clone();
        let seed = match words {
            None => own.clone(),
            Some(words) => {
                let stretched = task::blocking(move || Seed::from_words(&words));
                Arc::new(stretched.await.map_err(|_| EcashError::Busy)?.map_err(EcashError::from)?)
            }
        };
        let is_ours = seed.entropy() == own.entropy();
        if !is_ours && self.is_another_purse(&seed).await? {
            return Err(WalletError::Mint("these words are of another purse of this router".to_owned()));
        }
        let known = self.0.store.wallet_mints(self.0.purse).await?.into_iter();
        let mints: SortedSet<MintUrl> = known.chain(mints.iter().cloned()).collect();
        let mut restored = Restored::default();
        for url in mints {
            let mint = self.0.mints.get(&url);
            let listed = match mint.keysets_of(Millis::ZERO, Urgency::Guest).await {
                Ok(listed) => listed,
                Err(err) => {
                    restored.trouble.push((url, err.to_string()));
                    continue;
                }
            };
            for keyset in listed.iter().filter(|keyset| keyset.terms.unit == UNIT) {
                let taken = match search(&mint, &seed, keyset).await {
                    Ok(found) if is_ours => self.add(&url, keyset, found).await,
                    Ok(found) => self.sweep(&url, found, &listed).await,
                    Err(err) => Err(err.into()),
                };
                match taken {
                    Ok(sum) => restored.found = Sats(restored.found.0.saturating_add(sum.0)),
                    Err(err) => restored.trouble.push((url.clone(), err.to_string())),
                }
            }
        }
        log::info!("wallet: restored {} sat from the words", restored.found);
        Ok(restored)
    }

    /// Whether these are the words of what this router holds for others, or has itself.
    async fn is_another_purse(&self, seed: &Seed) -> Result<bool, WalletError> {
        for name in PURSES {
            let key = RenewableKey(name).load(&self.0.store).await?;
            if key.is_some_and(|key| *key.expose() == seed.entropy()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn add(&self, mint: &MintUrl, keyset: &KeysetInfo, found: Found) -> Result<Sats, WalletError> {
        let Some(next) = found.next else { return Ok(Sats(0)) };
        let mut proofs = takings(mint, &found.unspent);
        proofs.keyset = keyset.id.to_string();
        Ok(self.0.store.restored(self.0.purse, proofs, next).await?)
    }

    /// Has proofs of another seed traded for ours.
    async fn sweep(&self, mint: &MintUrl, found: Found, listed: &[KeysetInfo]) -> Result<Sats, WalletError> {
        let mut sum = Sats(0);
        for some in found.unspent.chunks(MAX_PROOFS) {
            let foreign = |proof: &Proof| Proof { counter: None, dleq: None, ..proof.clone() };
            let proofs: Vec<Proof> = some.iter().map(foreign).collect();
            let amount = total(&proofs);
            let fee = fee_of(&proofs, listed).unwrap_or_default();
            let net = Sats(amount.0.saturating_sub(fee.0));
            if net == Sats(0) {
                continue;
            }
            let reference = reference_of(proofs.iter().map(|proof| proof.secret.as_str()));
            let (mint, unit) = (mint.clone(), UNIT.to_owned());
            let (is_known, is_suspect) = (false, false);
            let (credits, locked) = (None, None);
            let offer = TokenOffer {
                mint,
                unit,
                amount,
                fee,
                net,
                reference,
                is_known,
                is_suspect,
                proofs,
                credits,
                locked,
            };
            match self.receive(offer, None).await {
                Received::Done { net, .. } => sum = Sats(sum.0.saturating_add(net.0)),
                Received::Refused(refusal) => return Err(refusal.into()),
                Received::Unknown | Received::InFlight => return Err(WalletError::NotKnownYet),
            }
        }
        Ok(sum)
    }
}

async fn search(mint: &Mint, seed: &Arc<Seed>, keyset: &KeysetInfo) -> Result<Found, EcashError> {
    let mut found = Found { unspent: Vec::new(), next: None };
    let (mut counter, mut empty) = (0u32, 0);
    while empty < EMPTY_BATCHES {
        let amounts = vec![0; usize::try_from(BATCH).unwrap_or_default()];
        let outputs =
            prepare(seed.clone(), &OutputsRow { keyset: keyset.id.to_string(), counter, amounts }).await?;
        let signed = patiently(|| mint.restore(outputs.clone(), Urgency::Guest)).await?;
        counter = counter.saturating_add(BATCH);
        let Some(last) = signed.iter().filter_map(|proof| proof.counter).max() else {
            empty = empty.saturating_add(1);
            continue;
        };
        empty = 0;
        found.next = Some(last.saturating_add(1).saturating_add(LEFT_OUT));
        let signed = Arc::new(signed);
        let ys = points(signed.clone()).await?;
        let states = patiently(|| proof_states(mint, ys.clone(), Urgency::Guest)).await?;
        let unspent = signed.iter().zip(states).filter(|(_, state)| *state == ProofState::Unspent);
        found.unspent.extend(unspent.map(|(proof, _)| proof.clone()));
    }
    Ok(found)
}

/// Waits where the mint limits requests: a search makes many.
async fn patiently<T, F: std::future::Future<Output = Result<T, EcashError>>>(
    call: impl Fn() -> F,
) -> Result<T, EcashError> {
    for _ in 0..PATIENCE {
        match call().await {
            Err(EcashError::RateLimited) => tokio::time::sleep(RATE_LIMIT_PAUSE).await,
            outcome => return outcome,
        }
    }
    call().await
}
