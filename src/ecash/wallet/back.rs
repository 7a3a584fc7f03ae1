//! Backing vouchers: ecash is split off the takings and locked to the key of the venue where they are redeemed.
//!
//! One exchange for as many vouchers as a mint takes at once: all of them, or none. What it is made of is written down before
//! it leaves, so that a batch that was cut short goes on where it was, and nothing is made twice: not by a start, and not by the
//! same order again.

use super::exchange::{prepare, Exchange};
use super::own::{Purse, WalletError};
use super::receive::{takings, NewsReceiver, Received, Teller};
use super::{Refusal, Wallet};
use crate::calls::BreakerState;
use crate::config::{MintUrl, Tenant};
use crate::ecash::curve::PublicKey;
use crate::ecash::error::EcashError;
use crate::ecash::keyset::KeysetId;
use crate::ecash::mint::Urgency;
use crate::ecash::outputs::{Outputs, Proof};
use crate::ecash::token;
use crate::hex;
use crate::set::SortedSet;
use crate::store::{
    Begun, LockClass, LockedProof, LockedRow, LockedState, NewLocked, NewLocking, NewOp, OpKind, OpRow,
    OutputsRow, ProofRow, PurseName, Reference, StoreError,
};
use crate::task;
use crate::units::{Sats, UnixSeconds};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What one exchange makes at most. Mints sign a thousand outputs at once, and the change is among them.
const MOST_OUTPUTS: usize = 600;
const MOST_VOUCHERS: usize = 100;
/// How long (seconds) after a voucher's end its ecash is still ours alone: what is taken offline on the last day can
/// still be swapped.
pub const AFTER_EXPIRY: u64 = 86_400;

/// What is to stand behind a voucher.
#[derive(Clone, Debug)]
pub struct Backing {
    /// The voucher's id.
    pub id: String,
    pub venue: String,
    pub amount: Sats,
    /// Until then only the venue's key spends it.
    pub locktime: UnixSeconds,
}

/// A voucher's ecash, as it can be given away. Debug output leaves the token out.
#[derive(Clone)]
pub struct Backed {
    pub id: String,
    pub token: String,
    pub mint: MintUrl,
    pub keyset: String,
    pub proofs: usize,
    /// The venue's public key.
    pub locked_to: String,
    /// A hash of what the mint knows the ecash by.
    pub signature: String,
}

/// Why vouchers are not backed, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackError {
    #[error("the takings at this mint are not enough: {0} sat can be spent")]
    Insufficient(Sats),
    #[error("the mint cannot be reached")]
    MintAway,
    /// It was sent, and the wallet finds out by itself what became of it.
    #[error("the mint has not answered in time")]
    NotKnownYet,
    /// They will never be.
    #[error("the mint refuses: {0}")]
    Refused(String),
    #[error("the store cannot be used: {0}")]
    Store(&'static str),
}

impl BackError {
    pub fn code(&self) -> &'static str {
        match self {
            BackError::Insufficient(_) => "insufficient_treasury",
            BackError::MintAway | BackError::NotKnownYet => "mint_unavailable",
            BackError::Refused(_) => "mint_refused",
            BackError::Store(code) => code,
        }
    }

    /// Whether the wallet goes on with it by itself.
    pub fn goes_on(&self) -> bool {
        matches!(self, BackError::MintAway | BackError::NotKnownYet | BackError::Store(_))
    }
}

impl From<StoreError> for BackError {
    fn from(error: StoreError) -> BackError {
        log::error!("vouchers: {error}");
        BackError::Store(error.code())
    }
}

impl From<WalletError> for BackError {
    fn from(error: WalletError) -> BackError {
        match error {
            WalletError::Insufficient(free) => BackError::Insufficient(free),
            WalletError::Refused(refusal) => refusal.into(),
            WalletError::NotKnownYet | WalletError::ChangeNotKnownYet => BackError::NotKnownYet,
            WalletError::Store(code) => BackError::Store(code),
            WalletError::NotFound => BackError::NotKnownYet,
            WalletError::Mint(_) => BackError::MintAway,
            other => BackError::Refused(other.to_string()),
        }
    }
}

impl From<Refusal> for BackError {
    fn from(refusal: Refusal) -> BackError {
        match refusal {
            Refusal::Closed(code) => BackError::Store(code),
            // Other proofs are chosen the next time.
            refusal if refusal.may_pass() || refusal == Refusal::Spent => BackError::MintAway,
            refusal => BackError::Refused(refusal.to_string()),
        }
    }
}

impl Wallet {
    /// Backs the vouchers of a batch from the takings at one mint (`None`: the richest). The same again does what is left of
    /// it, and waits for what is under way. The vouchers' rows have been written before; they become ready, or fail, here.
    pub async fn back(
        &self,
        tenant: &Tenant,
        batch: &str,
        mint: Option<MintUrl>,
        vouchers: Vec<Backing>,
    ) -> Result<(), BackError> {
        let mint = match mint {
            Some(mint) => mint,
            None => match self.richest().await {
                Ok(mint) => mint,
                Err(error) => return self.not_backed(tenant, batch, error.into()).await,
            },
        };
        self.plan(tenant, batch, Some(mint), vouchers, LockedState::Planned).await?;
        self.back_planned(tenant, batch).await
    }

    /// Whether this mint (`None`: the richest) has failed so often that nothing new is begun with it.
    pub async fn leaves_alone(&self, mint: Option<&MintUrl>) -> bool {
        let mint = match mint {
            Some(mint) => Some(mint.clone()),
            None => self.richest().await.ok(),
        };
        mint.is_some_and(|mint| self.0.mints.get(&mint).breaker() == BreakerState::Open)
    }

    /// Writes down what is to be locked.
    pub(super) async fn plan(
        &self,
        tenant: &Tenant,
        batch: &str,
        mint: Option<MintUrl>,
        vouchers: Vec<Backing>,
        state: LockedState,
    ) -> Result<(), BackError> {
        let refund = self.lock_number(tenant, LockClass::Refund, "").await?;
        let mut planned = Vec::with_capacity(vouchers.len());
        let mut of_venue: Option<(String, u32)> = None;
        for Backing { id, venue, amount, locktime } in vouchers {
            let lock = match &of_venue {
                Some((known, number)) if *known == venue => *number,
                _ => self.lock_number(tenant, LockClass::Venue, &venue).await?,
            };
            of_venue = Some((venue.clone(), lock));
            planned.push(NewLocked { id, venue, amount, locktime, lock, refund });
        }
        Ok(self.0.store.plan_locked(tenant, batch, mint, planned, state).await?)
    }

    /// Does what is left of a batch.
    pub(super) async fn back_planned(&self, tenant: &Tenant, batch: &str) -> Result<(), BackError> {
        let _alone = self.0.spending.lock().await;
        loop {
            let rows = self.0.store.locked_of_batch(tenant, batch).await?;
            if let Some(under_way) = rows.iter().find(|row| row.state == LockedState::Minting) {
                let news = self.running().get(&format!("op:{}", under_way.op)).map(|one| one.news());
                let Some(news) = news else { return Err(BackError::NotKnownYet) };
                self.ended(news).await?;
                continue;
            }
            if let Some(failed) = rows.iter().find(|row| row.state == LockedState::Failed) {
                return Err(BackError::Refused(failed.error.clone().unwrap_or_default()));
            }
            let planned: Vec<LockedRow> = rows
                .into_iter()
                .filter(|row| row.state == LockedState::Planned)
                .take(MOST_VOUCHERS)
                .collect();
            if planned.is_empty() {
                return Ok(());
            }
            match self.lock_some(tenant, planned).await {
                Ok(news) => self.ended(news).await?,
                Err(error) => return self.not_backed(tenant, batch, error).await,
            }
        }
    }

    /// Gives up the vouchers of a batch whose ecash was not asked for yet.
    pub async fn drop_backing(&self, tenant: &Tenant, batch: &str, why: &BackError) {
        if let Err(error) = self.0.store.drop_planned(tenant, batch, why.code()).await {
            log::error!("vouchers: {error}");
        }
    }

    /// Marks the planned vouchers of a batch as failed, if this error is final.
    pub(super) async fn not_backed(
        &self,
        tenant: &Tenant,
        batch: &str,
        error: BackError,
    ) -> Result<(), BackError> {
        if !error.goes_on() {
            self.0.store.drop_planned(tenant, batch, error.code()).await?;
        }
        Err(error)
    }

    async fn ended(&self, news: NewsReceiver) -> Result<(), BackError> {
        match self.wait_for(news, true).await {
            Received::Done { .. } => Ok(()),
            Received::Refused(refusal) => Err(refusal.into()),
            Received::Unknown | Received::InFlight => Err(BackError::NotKnownYet),
        }
    }

    /// Begins the exchange for the first of these vouchers, as many as fit into one.
    async fn lock_some(&self, tenant: &Tenant, planned: Vec<LockedRow>) -> Result<NewsReceiver, BackError> {
        let mint =
            planned.first().and_then(|row| row.mint.clone()).ok_or(BackError::Insufficient(Sats(0)))?;
        let away = |_: EcashError| BackError::MintAway;
        let keyset = self.0.mints.get(&mint).active_keyset(Urgency::Guest).await.map_err(away)?;
        let mut some = Vec::new();
        let (mut total, mut outputs) = (Sats(0), 0usize);
        for row in &planned {
            let impossible = || BackError::Refused(EcashError::AmountNotPossible.to_string());
            let amounts =
                keyset.split(row.amount).filter(|amounts| !amounts.is_empty()).ok_or_else(impossible)?;
            outputs = outputs.saturating_add(amounts.len());
            if outputs > MOST_OUTPUTS && !some.is_empty() {
                break;
            }
            total = total.checked_add(row.amount).ok_or_else(impossible)?;
            some.push((row.id.clone(), amounts.iter().map(|amount| amount.0).collect()));
        }
        let (purse, rows) = self.worth(&mint, total).await?;
        let net = purse.net(&rows);
        let change = keyset.split(Sats(net.0.saturating_sub(total.0))).unwrap_or_default();
        let (keyset, ppk) = (keyset.id().to_string(), keyset.terms().input_fee_ppk);
        let op = NewOp {
            spends: rows.iter().map(|row| row.key).collect(),
            outputs: Some((keyset.clone(), change.iter().map(|amount| amount.0).collect())),
            ..NewOp::new(OpKind::Swap, PurseName::House, mint, net)
        };
        let new = NewLocking { tenant: tenant.clone(), vouchers: some, keyset, ppk, again: false };
        let Begun::New(op) = self.0.store.lock_begin(op, new).await? else {
            return Err(BackError::NotKnownYet);
        };
        let (_, vouchers) = self.0.store.locking(op.id).await?.ok_or(BackError::NotKnownYet)?;
        Ok(self.launch_trade(op, rows, Some((tenant.clone(), vouchers)), Urgency::Guest))
    }

    /// Proofs of ours that are worth this and the fee for spending them.
    async fn worth(&self, mint: &MintUrl, total: Sats) -> Result<(Purse, Vec<ProofRow>), BackError> {
        loop {
            let purse = self.purse(mint).await?;
            match purse.at_least(total) {
                Some(rows) => return Ok((purse, rows)),
                None => self.join_towards(&purse, total).await?,
            }
        }
    }

    /// Takes up an exchange from before this start.
    pub(super) async fn resume_locking(
        &self,
        op: OpRow,
        tenant: Tenant,
        vouchers: Vec<LockedRow>,
    ) -> Result<(), StoreError> {
        let rows = self.0.store.held_proofs(op.id).await?;
        self.launch_trade(op, rows, Some((tenant, vouchers)), Urgency::Background);
        Ok(())
    }

    pub(super) async fn bring_locking_about(
        &self,
        swap: &mut Exchange,
        rows: &[ProofRow],
        urgency: Urgency,
        teller: &Teller,
    ) -> Received {
        let ended = self.bring_about(swap, urgency, &teller.wake, |pause| teller.tell(pause)).await;
        let Some((tenant, vouchers)) = swap.locking.clone() else { return Received::Unknown };
        match ended {
            Ok(proofs) => {
                log::info!("vouchers: {} backed by ecash of {}", vouchers.len(), swap.op.mint);
                self.keep_locked(swap, &tenant, vouchers, proofs).await
            }
            Err(refusal) => {
                let spent = match refusal {
                    Refusal::Spent => self.spent_of(&swap.mint, &swap.inputs, rows).await,
                    _ => Vec::new(),
                };
                log::warn!("vouchers: not backed by ecash of {}: {refusal}", swap.op.mint);
                let why = BackError::from(refusal.clone());
                let code = (!why.goes_on()).then(|| why.code());
                if let Err(err) = self.0.store.lock_failed(swap.op.id, &tenant, spent, code).await {
                    log::error!("vouchers: {err}");
                }
                Received::Refused(refusal)
            }
        }
    }

    /// Commits what came; it is ours already, so this is tried until it works.
    async fn keep_locked(
        &self,
        swap: &Exchange,
        tenant: &Tenant,
        vouchers: Vec<LockedRow>,
        mut proofs: Vec<Proof>,
    ) -> Received {
        let counted: usize =
            vouchers.iter().filter_map(|row| row.outputs.last()).map(|set| set.amounts.len()).sum();
        let change = takings(&swap.op.mint, &proofs.split_off(counted.min(proofs.len())));
        loop {
            let (vouchers, proofs) = (vouchers.clone(), proofs.clone());
            let locked = task::blocking(move || locked_proofs(&vouchers, &proofs)).await;
            let kept = match locked.ok().flatten() {
                Some(locked) => self.0.store.lock_done(swap.op.id, tenant, change.clone(), locked).await,
                None => Err(StoreError::Gone),
            };
            match kept {
                Ok(()) => return Received::Done { net: swap.op.amount, session: None },
                Err(err) => log::error!("vouchers: backed, but not stored yet: {err}"),
            }
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
    }

    /// The outputs of vouchers, and then those of the change.
    pub(super) async fn locked_outputs(
        &self,
        rows: &[LockedRow],
        set: usize,
        change: Option<&OutputsRow>,
    ) -> Result<Arc<Outputs>, EcashError> {
        let seed = self.lock_seed().await.map_err(|_| EcashError::Busy)?;
        let mut wanted = Vec::with_capacity(rows.len());
        for row in rows {
            let claim = row.outputs.get(set).ok_or(EcashError::AmountNotPossible)?.clone();
            wanted.push((claim, self.lock_of(row).await?));
        }
        let change = match change.filter(|change| !change.amounts.is_empty()) {
            Some(change) => Some(prepare(self.0.seed.clone(), change).await?),
            None => None,
        };
        let made = task::blocking(move || {
            let mut all: Option<Outputs> = None;
            for (claim, lock) in wanted {
                let keyset = KeysetId::parse(&claim.keyset).ok_or(EcashError::AmountNotPossible)?;
                let amounts: Vec<Sats> = claim.amounts.iter().copied().map(Sats).collect();
                let outputs = Outputs::prepare_locked(&seed, keyset, claim.counter, &amounts, &lock)?;
                all = Some(joined(all, outputs)?);
            }
            if let Some(change) = change {
                all = Some(joined(all, Outputs::clone(&change))?);
            }
            all.map(Arc::new).ok_or(EcashError::AmountNotPossible)
        });
        made.await.map_err(|_| EcashError::Busy)?
    }

    /// The tokens of vouchers that are backed and not redeemed.
    pub async fn tokens_of(&self, tenant: &Tenant, ids: &[String]) -> Result<Vec<Backed>, WalletError> {
        // The caller must not wait for a Vault.
        if self.0.store.is_sealed() {
            return Err(WalletError::Store(StoreError::Sealed.code()));
        }
        let mut all = Vec::new();
        for id in ids {
            let Some(row) = self.0.store.locked(tenant, id).await? else { continue };
            let (Some(mint), LockedState::Ready) = (row.mint.clone(), row.state) else { continue };
            let kept = self.0.store.locked_proofs(tenant, id).await?;
            let keyset = kept.first().map(|proof| proof.keyset.clone()).unwrap_or_default();
            let ys: SortedSet<&str> = kept.iter().map(|proof| proof.y.as_str()).collect();
            let hash = ys.iter().fold(Sha256::new(), |hash, y| hash.chain_update(y)).finalize();
            let signature = hex::encode(&hash);
            let locked_to = self.lock_secret(row.lock).await?.public_key();
            let proofs = self.locked_ecash(&row, kept).await?;
            all.push(Backed {
                id: row.id,
                token: token::encode(&mint, super::offer::UNIT, &proofs),
                mint,
                keyset,
                proofs: proofs.len(),
                locked_to: PublicKey::to_string(&locked_to),
                signature,
            });
        }
        Ok(all)
    }
}

fn joined(all: Option<Outputs>, more: Outputs) -> Result<Outputs, EcashError> {
    match all {
        Some(all) => all.followed_by(more).ok_or(EcashError::AmountNotPossible),
        None => Ok(more),
    }
}

/// Gives each voucher its proofs, which came in the order of the vouchers.
pub(super) fn locked_proofs(vouchers: &[LockedRow], proofs: &[Proof]) -> Option<Vec<LockedProof>> {
    let mut proofs = proofs.iter();
    let mut all = Vec::new();
    for row in vouchers {
        // Each set has as many as the last.
        let count = row.outputs.last()?.amounts.len();
        for proof in proofs.by_ref().take(count) {
            all.push(LockedProof::of(proof, &row.id)?);
        }
    }
    Some(all)
}

/// The reference under which a voucher's ecash is put back into the takings.
pub(super) fn collected_as(tenant: &Tenant, id: &str) -> Reference {
    let hash = Sha256::new().chain_update("voucher\0").chain_update(tenant.as_str()).chain_update("\0");
    Reference::Backing(hash.chain_update(id).finalize().into())
}
