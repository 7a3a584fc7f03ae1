//! A swap (NUT-03) of a journaled operation, brought to its end.
//!
//! The first answer to the first request counts as it is. From the first attempt on whose outcome is not known, the
//! mint is asked what became of the inputs (NUT-07) before anything is sent again: spent, with our outputs signed
//! (NUT-09): it took place; spent without: another wallet was first; unspent: the same request is sent again. New
//! outputs are made only where the mint says that the old ones cannot be used, and the old ones stay on record. A
//! request that was sent twice, as its connection was closed under it, and then refused is looked up at once.

use super::locked_offer::LockedOffer;
use super::offer::Refusal;
use super::Wallet;
use crate::config::Tenant;
use crate::ecash::curve::PublicKey;
use crate::ecash::error::EcashError;
use crate::ecash::keyset::KeysetId;
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::{Outputs, Proof};
use crate::ecash::retry::{self, LEAST_PAUSE, MOST_OUTPUT_SETS, PROMPT_OUTPUT_SETS, RATE_LIMIT_PAUSE};
use crate::ecash::wire::ProofState;
use crate::store::{LockedRow, OpRow, OutputsRow};
use crate::task;
use crate::units::{Millis, Sats};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// After this long no request of ours can still be on its way to the mint.
const LATEST_ARRIVAL: Millis = Millis::from_secs(120);

pub(super) struct Exchange {
    pub op: OpRow,
    pub mint: Mint,
    pub inputs: Arc<Vec<Proof>>,
    ys: Vec<PublicKey>,
    /// When an attempt was made last whose outcome is not known.
    unclear: Option<Millis>,
    /// How often the mint called our outputs used.
    clashes: u32,
    /// The inputs were spent and our outputs not signed when we last looked.
    seems_lost: bool,
    /// The inputs may be made up.
    pub is_suspect: bool,
    /// The mint has named a cause for which it will never take the inputs.
    pub is_hopeless: bool,
    /// Vouchers whose ecash its outputs begin with; what follows is change.
    pub locking: Option<(Tenant, Vec<LockedRow>)>,
    /// The inputs are locked to a key of ours.
    pub locked: Option<LockedOffer>,
}

enum Step {
    Done(Vec<Proof>),
    /// It did not take place, and will not.
    Refused(Refusal),
    Again(EcashError),
    /// There are new outputs to send.
    Fresh(EcashError),
}

impl Exchange {
    /// For an operation that was journaled just now.
    pub fn new(op: OpRow, mint: Mint, inputs: Vec<Proof>) -> Exchange {
        let inputs = Arc::new(inputs);
        Exchange {
            op,
            mint,
            inputs,
            ys: Vec::new(),
            unclear: None,
            clashes: 0,
            seems_lost: false,
            is_suspect: false,
            is_hopeless: false,
            locking: None,
            locked: None,
        }
    }

    /// For an operation from before this start: it may have been sent.
    pub fn resumed(op: OpRow, mint: Mint, inputs: Vec<Proof>, now: Millis) -> Exchange {
        Exchange { unclear: Some(now), ..Exchange::new(op, mint, inputs) }
    }

    /// A request of ours may be under way: what became of it is asked first.
    pub fn unclear(&mut self, now: Millis) {
        self.unclear = Some(now);
    }
}

impl Wallet {
    /// Brings a swap to its end, however long that takes: the proofs that came, or why it did not take place.
    /// `wake` has the next attempt made at once, `waits` is told of each pause.
    pub(super) async fn bring_about(
        &self,
        swap: &mut Exchange,
        mut urgency: Urgency,
        wake: &Notify,
        waits: impl Fn(Option<Duration>),
    ) -> Result<Vec<Proof>, Refusal> {
        let mut attempts = 0usize;
        match self.unlocked(swap.inputs.clone()).await {
            Ok(inputs) => swap.inputs = inputs,
            Err(err) => log::error!("wallet: {err}"),
        }
        loop {
            let (err, is_fresh) = match self.attempt(swap, urgency).await {
                Step::Done(proofs) => return Ok(proofs),
                Step::Refused(refusal) => return Err(refusal),
                Step::Again(err) => (err, false),
                Step::Fresh(err) => (err, swap.op.outputs.len() <= PROMPT_OUTPUT_SETS),
            };
            if is_fresh {
                continue;
            }
            let pause = match err {
                EcashError::RateLimited => RATE_LIMIT_PAUSE,
                EcashError::BackingOff(left) => left.as_duration(),
                _ => retry::pause(attempts),
            };
            log::warn!(
                "wallet: {}: not known yet what became of {} sat: {err}",
                swap.op.mint,
                swap.op.amount
            );
            attempts = attempts.saturating_add(1);
            waits(Some(pause));
            tokio::select! {
                () = tokio::time::sleep(pause) => urgency = Urgency::Background,
                () = async { wake.notified().await; tokio::time::sleep(LEAST_PAUSE).await } => {
                    urgency = Urgency::Guest;
                }
            }
            waits(None);
        }
    }

    async fn attempt(&self, swap: &mut Exchange, urgency: Urgency) -> Step {
        if swap.unclear.is_some() {
            if let Some(step) = self.look_up(swap, urgency).await {
                return step;
            }
        }
        let Some(newest) = swap.op.outputs.len().checked_sub(1) else {
            return Step::Refused(Refusal::MintRefuses);
        };
        let sent = match self.outputs(swap, newest).await {
            Ok(outputs) => swap.mint.swap(swap.inputs.clone(), outputs, urgency).await,
            Err(err) => Err(err),
        };
        match sent {
            Ok(proofs) => Step::Done(proofs),
            Err(err) => self.after(swap, err).await,
        }
    }

    async fn after(&self, swap: &mut Exchange, err: EcashError) -> Step {
        use EcashError::{Busy, KeysetInactive, OutputsAlreadySigned, OutputsPending, RateLimited};
        let now = self.0.store.now();
        match err {
            EcashError::SentTwice(_) => {
                swap.unclear = Some(now);
                self.look_up(swap, Urgency::Guest).await.unwrap_or(Step::Again(err))
            }
            err if err.outcome_unknown() || err == RateLimited => {
                swap.unclear = Some(now);
                Step::Again(err)
            }
            KeysetInactive => match swap.mint.active_keyset(Urgency::Guest).await.map(|keyset| keyset.id()) {
                // It still offers what it has just refused: the same outputs will do, once it knows.
                Ok(active) if swap.op.outputs.last().is_some_and(|o| o.keyset == active.to_string()) => {
                    swap.unclear = Some(now);
                    Step::Again(err)
                }
                Ok(_) => self.fresh_outputs(swap, err, 0).await,
                Err(err) => self.not_possible(swap, err),
            },
            // Where an earlier request of ours may be under way these may be its own outputs: look first.
            OutputsAlreadySigned | OutputsPending if swap.unclear.is_some() && swap.clashes == 0 => {
                swap.clashes = 1;
                Step::Again(err)
            }
            OutputsAlreadySigned | OutputsPending => {
                let skip = retry::skipped(swap.op.outputs.len());
                self.fresh_outputs(swap, err, skip).await
            }
            EcashError::Unreachable(_) | Busy | EcashError::BackingOff(_) if swap.unclear.is_some() => {
                Step::Again(err)
            }
            err => self.not_possible(swap, err),
        }
    }

    /// A refusal is final unless an earlier request may still arrive.
    fn not_possible(&self, swap: &mut Exchange, err: EcashError) -> Step {
        match swap.unclear {
            Some(at) if self.0.store.now().saturating_sub(at) < LATEST_ARRIVAL => Step::Again(err),
            _ => {
                // Only a refusal of the proofs themselves is final. Without a code it may come from a gateway, and code 0 is
                // the mint's own trouble.
                swap.is_hopeless = matches!(err, EcashError::Mint { code: Some(10_000..=10_999), .. });
                Step::Refused(err.into())
            }
        }
    }

    /// What became of the inputs. `None` if they are unspent: then the request may be sent (again).
    async fn look_up(&self, swap: &mut Exchange, urgency: Urgency) -> Option<Step> {
        if swap.ys.is_empty() {
            match points(swap.inputs.clone()).await {
                Ok(ys) => swap.ys = ys,
                Err(err) => return Some(Step::Again(err)),
            }
        }
        let states = match swap.mint.proof_states(swap.ys.clone(), urgency).await {
            Ok(states) => states,
            Err(err) => return Some(Step::Again(err)),
        };
        let spent = states.iter().filter(|state| **state == ProofState::Spent).count();
        if spent == states.len() {
            return Some(self.recover(swap, urgency).await);
        }
        swap.seems_lost = false;
        if spent > 0 {
            // A swap takes all or nothing.
            return Some(Step::Refused(Refusal::Spent));
        }
        match states.contains(&ProofState::Pending) {
            true => Some(Step::Again(EcashError::TokenPending)),
            false => None,
        }
    }

    async fn recover(&self, swap: &mut Exchange, urgency: Urgency) -> Step {
        for set in (0..swap.op.outputs.len()).rev() {
            let restored = match self.outputs(swap, set).await {
                Ok(outputs) => swap.mint.restore(outputs, urgency).await,
                Err(err) => Err(err),
            };
            match restored {
                Ok(proofs) if total(&proofs) == swap.op.amount => return Step::Done(proofs),
                Ok(_) => {}
                Err(err) => return Step::Again(err),
            }
        }
        // Two looks: a mint may be about to write down what it has signed.
        if std::mem::replace(&mut swap.seems_lost, true) {
            return Step::Refused(Refusal::Spent);
        }
        Step::Again(EcashError::TokenSpent)
    }

    /// Journals new outputs on the keyset that is active now.
    async fn fresh_outputs(&self, swap: &mut Exchange, cause: EcashError, skip: u32) -> Step {
        if swap.op.outputs.len() >= MOST_OUTPUT_SETS {
            return self.not_possible(swap, cause);
        }
        let keyset = match swap.mint.active_keyset(Urgency::Guest).await {
            Ok(keyset) => keyset,
            Err(err) => return self.not_possible(swap, err),
        };
        let same = swap.op.outputs.last().map(|last| last.amounts.clone()).unwrap_or_default();
        let amounts = match same.iter().all(|amount| keyset.key(Sats(*amount)).is_some()) {
            true => Some(same),
            false if swap.locking.is_some() => None,
            false => keyset.split(swap.op.amount).map(|parts| parts.iter().map(|part| part.0).collect()),
        };
        let Some(amounts) = amounts else { return self.not_possible(swap, EcashError::AmountNotPossible) };
        let (op, keyset) = (swap.op.id, keyset.id().to_string());
        let taken = match &mut swap.locking {
            Some((tenant, rows)) => {
                let taken = self.0.store.lock_again(op, tenant, keyset, amounts, skip).await;
                taken.map(|(outputs, anew)| {
                    *rows = anew;
                    outputs
                })
            }
            None => self.0.store.op_outputs(op, keyset, amounts, skip).await,
        };
        match taken {
            Ok(outputs) => {
                swap.op.outputs.push(outputs);
                Step::Fresh(cause)
            }
            Err(err) => {
                log::error!("wallet: {err}");
                Step::Again(cause)
            }
        }
    }

    /// Derives a set of outputs again, from what the journal has of it.
    async fn outputs(&self, swap: &Exchange, set: usize) -> Result<Arc<Outputs>, EcashError> {
        let claim = swap.op.outputs.get(set).ok_or(EcashError::AmountNotPossible)?;
        match &swap.locking {
            None => prepare(self.0.seed.clone(), claim).await,
            Some((_, rows)) => self.locked_outputs(rows, set, Some(claim)).await,
        }
    }
}

/// Derives outputs from what was written down of them, off the async thread.
pub async fn prepare(
    seed: Arc<crate::ecash::seed::Seed>,
    claim: &OutputsRow,
) -> Result<Arc<Outputs>, EcashError> {
    let keyset = KeysetId::parse(&claim.keyset).ok_or(EcashError::AmountNotPossible)?;
    let amounts: Vec<Sats> = claim.amounts.iter().copied().map(Sats).collect();
    let counter = claim.counter;
    let outputs = task::blocking(move || Outputs::prepare(&seed, keyset, counter, &amounts)).await;
    Ok(Arc::new(outputs.map_err(|_| EcashError::Busy)??))
}

/// What the mint knows these proofs by. Hashing to the curve costs milliseconds per proof on a small router.
pub(super) async fn points(proofs: Arc<Vec<Proof>>) -> Result<Vec<PublicKey>, EcashError> {
    let hashed = task::blocking(move || proofs.iter().map(|proof| proof.secret.y()).collect());
    hashed.await.map_err(|_| EcashError::Busy)
}

pub fn total(proofs: &[Proof]) -> Sats {
    Sats(proofs.iter().map(|proof| proof.amount.0).fold(0, u64::saturating_add))
}
