//! Looking at a token that is locked to a venue of ours. Nobody else can spend it before its locktime, so it can be taken while
//! its mint is away: if the mint's signatures hold, each proof counts once here, and enough time is left to swap it.

use super::offer::{Refusal, TokenFrom};
use super::Wallet;
use crate::config::Tenant;
use crate::ecash::keyset::{Keyset, KeysetId};
use crate::ecash::lock::{is_condition, Lock};
use crate::ecash::mint::Mint;
use crate::ecash::outputs::Proof;
use crate::ecash::token::{Token, TokenError, TokenProof};
use crate::store::{LockClass, LockedProof, LockedTaking, OfflineLimits};
use crate::task;
use crate::units::{Sats, UnixSeconds};
use std::sync::Arc;

/// A token that is this close (seconds) to its locktime is not taken without its mint.
const LATEST: u64 = 3600;

/// What is known of a locked token besides what it is worth.
#[derive(Clone, Debug)]
pub(super) struct LockedOffer {
    pub taking: LockedTaking,
    /// How much may be taken without its mint; `None` if this one may not.
    pub limits: Option<OfflineLimits>,
    /// The mint was away already when it was looked at: the keyset of its proofs, for our outputs.
    pub offline: Option<String>,
}

/// Proofs that were weighed without their mint.
pub(super) struct Weighed {
    pub proofs: Vec<Proof>,
    pub fee: Sats,
}

impl LockedOffer {
    /// Whether each proof has evidence, or is one that we made. Whether the evidence holds is looked at elsewhere.
    pub(super) fn is_proven(&self, token: &Token) -> bool {
        let known = &self.taking.proofs;
        let is_ours = |proof: &TokenProof, known: &LockedProof| {
            !known.c.is_empty()
                && known.c == proof.c.to_string()
                && known.amount == proof.amount
                && proof.keyset.full().is_some_and(|id| id.to_string() == known.keyset)
        };
        let mut pairs = token.proofs.iter().zip(known);
        token.proofs.len() == known.len()
            && pairs.all(|(proof, known)| proof.dleq.is_some() || is_ours(proof, known))
    }
}

impl Wallet {
    /// Whether a token is locked to a venue of ours; refuses one that is locked to anybody else.
    pub(super) async fn locked_to_us(
        &self,
        token: &Token,
        from: &TokenFrom<'_>,
    ) -> Result<Option<LockedOffer>, Refusal> {
        let locks: Option<Vec<Lock>> = token
            .proofs
            .iter()
            .filter(|proof| is_condition(proof.secret.as_str()))
            .map(|p| Lock::of(p.secret.as_str()))
            .collect();
        let locks = locks.ok_or(Refusal::Locked)?;
        let Some(first) = locks.first() else { return Ok(None) };
        let now = self.0.store.wall();
        let ours = self.lock_keys().await?;
        let mut keys = ours.iter().filter(|key| key.class == LockClass::Venue);
        let key = keys.find(|key| key.public == first.key.to_string()).ok_or(Refusal::Locked)?;
        let same = |lock: &Lock| {
            let mut venues =
                ours.iter().filter(|key| key.class == LockClass::Venue && key.public == lock.key.to_string());
            venues.any(|other| other.tenant == key.tenant && other.owner == key.owner)
        };
        if !locks.iter().all(same) {
            return Err(Refusal::Locked);
        }
        if from.venue.is_some_and(|venue| venue != key.owner) {
            return Err(Refusal::OtherVenue);
        }
        // Without a refund key anybody may spend it from its locktime on (NUT-11).
        let ends = locks.iter().filter_map(|lock| lock.locktime).min();
        if ends.is_some_and(|ends| ends <= now) {
            return Err(Refusal::LockOver);
        }
        let is_long = ends.is_none_or(|UnixSeconds(ends)| now.0.saturating_add(LATEST) < ends);
        let is_all = locks.len() == token.proofs.len();
        let limits = from.offline.filter(|_| is_long && is_all && self.0.store.wall_is_plausible());
        let proofs = self.known_points(&key.tenant, token).await?;
        if proofs.iter().any(|proof| proof.is_taken) {
            return Err(Refusal::Spent);
        }
        // One without a locktime can be shown for ever.
        let all: Option<Vec<UnixSeconds>> = locks.iter().map(|lock| lock.locktime).collect();
        let ends = all.and_then(|all| all.into_iter().max());
        let taking = LockedTaking { tenant: key.tenant.clone(), proofs, ends };
        Ok(Some(LockedOffer { taking, limits, offline: None }))
    }

    /// The locked proofs of a token as the store knows them, or would know them.
    async fn known_points(&self, tenant: &Tenant, token: &Token) -> Result<Vec<LockedProof>, Refusal> {
        let secrets: Vec<_> = token.proofs.iter().map(|proof| proof.secret.clone()).collect();
        let hashed = task::blocking(move || {
            secrets.iter().map(|secret| secret.y().to_string()).collect::<Vec<String>>()
        });
        let ys = hashed.await.map_err(|_| Refusal::TooMany)?;
        let known = self.0.store.locked_by_points(tenant, ys.clone()).await?;
        let pairs = token.proofs.iter().zip(ys).filter(|(proof, _)| is_condition(proof.secret.as_str()));
        let one = |(proof, y): (&TokenProof, String)| {
            let made_here = known.iter().find(|known| known.y == y).cloned();
            made_here.unwrap_or_else(|| LockedProof {
                y,
                voucher: String::new(),
                keyset: String::new(),
                counter: 0,
                amount: proof.amount,
                c: String::new(),
                dleq: String::new(),
                is_taken: false,
            })
        };
        Ok(pairs.map(one).collect())
    }

    /// Weighs a locked token without its mint: by what we know of our own proofs, or by the mint's keys that are still known.
    pub(super) async fn weigh_offline(
        &self,
        at: &Mint,
        token: Token,
        locked: &mut LockedOffer,
    ) -> Result<Weighed, Refusal> {
        let known = locked.taking.proofs.clone();
        let ids = at.known_keysets();
        let own = known.iter().filter_map(|proof| KeysetId::parse(&proof.keyset));
        let all: Vec<KeysetId> = ids.iter().map(|keyset| keyset.id()).chain(own).collect();
        let proofs = token.resolve(&dedup(all)).map_err(|_: TokenError| Refusal::MintAway)?;
        let mut ppk = 0u64;
        for (proof, known) in proofs.iter().zip(&known) {
            let of_keys = ids.iter().find(|keyset| keyset.id() == proof.keyset);
            let ours = match known.voucher.as_str() {
                "" => None,
                voucher => self.0.store.locked(&locked.taking.tenant, voucher).await?,
            };
            let fee = of_keys.map(|keys| keys.terms().input_fee_ppk).or(ours.map(|row| row.ppk));
            ppk = ppk.saturating_add(fee.ok_or(Refusal::MintAway)?);
        }
        let checked = task::blocking(move || holding(proofs, &known, &ids));
        let proofs = checked.await.map_err(|_| Refusal::TooMany)??;
        locked.offline = proofs.first().map(|proof| proof.keyset.to_string());
        Ok(Weighed { proofs, fee: Sats(ppk.div_ceil(1000)) })
    }
}

/// The proofs, if each of them is one of ours as we have it, or its evidence holds.
fn holding(
    mut proofs: Vec<Proof>,
    known: &[LockedProof],
    keysets: &[Arc<Keyset>],
) -> Result<Vec<Proof>, Refusal> {
    for (proof, known) in proofs.iter_mut().zip(known) {
        let is_ours = !known.c.is_empty()
            && known.c == proof.c.to_string()
            && known.amount == proof.amount
            && known.keyset == proof.keyset.to_string();
        if !is_ours {
            let keys = keysets.iter().find(|keyset| keyset.id() == proof.keyset).ok_or(Refusal::MintAway)?;
            match proof.dleq_holds(keys) {
                Some(true) => {}
                Some(false) => return Err(Refusal::Forged),
                None => return Err(Refusal::MintAway),
            }
        }
        proof.dleq = None;
    }
    Ok(proofs)
}

fn dedup(all: Vec<KeysetId>) -> Vec<KeysetId> {
    all.into_iter().collect::<crate::set::SortedSet<KeysetId>>().iter().copied().collect()
}
