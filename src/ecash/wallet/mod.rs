//! The router's own wallet: what guests pay with ecash, and what their invoices brought in (the takings). What is held for
//! accounts of the wallet API is another purse of the same kind, with a seed of its own.
//!
//! Every call that moves money is in the journal before it leaves (`store::wallet`), with all that it takes to
//! send it again or to find out what became of it. What was open when the program stopped is taken up at the next
//! start. Nothing is received twice, nothing is sent again unless the mint says that it did not happen.
//!
//! Proofs come from the seed of their purse only; customers' money in transit has another seed and is never touched.

mod awaited;
mod back;
mod check;
mod collect;
mod exchange;
mod funding;
mod locked_offer;
mod locks;
mod melt;
mod offer;
mod own;
mod receive;
mod repair;
mod restore;
mod send;
mod suspects;
mod topup;

pub use back::{BackError, Backed, Backing, AFTER_EXPIRY};
pub use check::{Compared, Discrepancy};
pub use exchange::{prepare, total};
pub use funding::{fits_one_invoice, BatchInvoice, Estimate, TOO_MANY_FOR_ONE_INVOICE};
pub use melt::{MeltOffer, Melted};
pub use offer::{Payer, Refusal, TokenFrom, TokenOffer};
pub use own::WalletError;
pub use receive::{takings, Received};
pub use repair::Repaired;
pub use restore::Restored;
pub use send::SentToken;

use super::curve::SecretKey;
use super::mints::Mints;
use super::seed::Seed;
use super::subscribe::MintEvent;
use super::token::Token;
use super::wire::QuoteId;
use crate::config::MintUrl;
use crate::store::{
    Admission, Balance, KeyFile, Loss, NewProofs, OpKind, PartRow, PurseName, Store, StoreError,
};
use crate::task;
use crate::units::UnixSeconds;
use litemap::LiteMap;
use receive::Running;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use suspects::Suspects;
use tokio::sync::{mpsc, Notify};

/// Cheap to clone; all clones are one wallet.
#[derive(Clone)]
pub struct Wallet(Arc<Shared>);

struct Shared {
    store: Store,
    mints: Mints,
    purse: PurseName,
    seed: Arc<Seed>,
    /// Gets the sessions whose caller stopped waiting for them.
    sessions: mpsc::Sender<Admission>,
    running: Mutex<LiteMap<String, Running>>,
    suspects: Arc<Suspects>,
    /// Held while proofs of ours are chosen and put to use.
    spending: tokio::sync::Mutex<()>,
    lock_seed: tokio::sync::OnceCell<Arc<Seed>>,
    lock_secrets: Mutex<LiteMap<u32, SecretKey>>,
    /// Wakes what puts vouchers' ecash back into the takings.
    collecting: Notify,
    /// Quotes that others are to pay, and what wakes those who look at them.
    awaited: Mutex<LiteMap<QuoteId, (MintUrl, Arc<Notify>)>>,
    /// Tokens that were taken without their mint and are spent, of the last day.
    losses: Mutex<Vec<Loss>>,
}

/// How long (seconds) a guest is told why a session has ended.
const LOSSES_SHOWN: u64 = 86_400;

/// The file of the takings' seed.
const KEY: KeyFile = KeyFile("takings");

/// The file of the balances' seed.
const BALANCES_KEY: KeyFile = KeyFile("balances");

/// The seed of the takings, made if the store has never used one.
pub async fn seed(store: &Store) -> Result<Seed, StoreError> {
    Seed::of_file(KEY, store).await
}

/// The seed of what is held for accounts, likewise.
pub async fn balances_seed(store: &Store) -> Result<Seed, StoreError> {
    Seed::of_file(BALANCES_KEY, store).await
}

/// The twelve words of the takings in a state directory, whether or not the daemon runs.
pub fn words(state_dir: &Path) -> Result<String, StoreError> {
    let missing = || StoreError::KeyMissing(KEY.0.to_owned());
    let key = KEY.stored(state_dir)?.ok_or_else(missing)?;
    Seed::of_key(&key).map(|seed| seed.words()).ok_or_else(missing)
}

impl Wallet {
    /// Takes up what was open when the program stopped. `seed` is that of the purse.
    pub async fn start(
        store: Store,
        mints: Mints,
        (purse, seed): (PurseName, Arc<Seed>),
        sessions: mpsc::Sender<Admission>,
    ) -> Result<Wallet, StoreError> {
        let open = store.open_ops(purse).await?;
        let is_house = purse == PurseName::House;
        let to_adopt = if is_house { store.parts_to_adopt().await? } else { Vec::new() };
        let losses =
            Mutex::new(store.losses(UnixSeconds(store.wall().0.saturating_sub(LOSSES_SHOWN))).await?);
        let (running, suspects, spending) = Default::default();
        let (lock_seed, lock_secrets, collecting, awaited) = Default::default();
        let wallet = Wallet(Arc::new(Shared {
            store,
            mints,
            purse,
            seed,
            sessions,
            running,
            suspects,
            spending,
            lock_seed,
            lock_secrets,
            collecting,
            awaited,
            losses,
        }));
        for op in open {
            match op.kind {
                OpKind::Receive => wallet.resume_receipt(op),
                OpKind::Swap => match wallet.0.store.locking(op.id).await? {
                    Some((tenant, rows)) => wallet.resume_locking(op, tenant, rows).await?,
                    None => wallet.resume_trade(op).await?,
                },
                OpKind::Melt => wallet.resume_melt(op).await?,
                OpKind::Send => {}
            }
        }
        if !to_adopt.is_empty() {
            let wallet = wallet.clone();
            task::spawn(async move { wallet.adopt(to_adopt).await });
        }
        Ok(wallet)
    }

    /// What is held, per mint and unit.
    pub async fn balances(&self) -> Result<Vec<Balance>, StoreError> {
        self.0.store.balances(self.0.purse).await
    }

    /// How many operations are open whose outcome is not known: receipts, and those that spend what is ours.
    pub async fn open(&self) -> Result<(usize, usize), StoreError> {
        let open = self.0.store.open_ops(self.0.purse).await?;
        let receiving = open.iter().filter(|op| op.kind == OpKind::Receive).count();
        let spending = open.iter().filter(|op| matches!(op.kind, OpKind::Swap | OpKind::Melt)).count();
        Ok((receiving, spending))
    }

    /// A mint is there again: what is open with it is asked about at once.
    pub fn on_mint_event(&self, mint: &MintUrl, event: &MintEvent) {
        self.wake_awaited(mint, event);
        if matches!(event, MintEvent::Back | MintEvent::Resubscribed) {
            let running = self.running();
            running.values().filter(|one| one.mint == *mint).for_each(|one| one.wake.notify_one());
            self.0.collecting.notify_one();
        }
    }

    /// Tokens of sales before there was a wallet become proofs of the takings.
    async fn adopt(&self, parts: Vec<PartRow>) {
        for part in parts {
            let (seed, id) = (self.0.seed.clone(), part.id);
            let derived = task::blocking(move || proofs_of(&seed, &part)).await;
            match derived {
                Ok(Some(proofs)) => {
                    if let Err(err) = self.0.store.adopt(id, proofs).await {
                        log::error!("wallet: {err}");
                    }
                }
                _ => log::error!(
                    "wallet: the tokens of part {id} are not from this seed; they stay where they are"
                ),
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, LiteMap<String, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proofs of a part's token, with the counters they were made from.
fn proofs_of(seed: &Seed, part: &PartRow) -> Option<NewProofs> {
    let token = Token::parse(part.token.as_deref()?).ok()?;
    let known: Vec<_> = token.proofs.iter().filter_map(|proof| proof.keyset.full()).collect();
    let mut proofs = token.resolve(&known).ok()?;
    let keyset = proofs.first()?.keyset;
    for claim in part.outputs.iter().filter(|claim| claim.keyset == keyset.to_string()) {
        for counter in (claim.counter..).take(claim.amounts.len()) {
            let (secret, _) = seed.secret(&keyset, counter).ok()?;
            proofs.iter_mut().filter(|proof| proof.secret == secret).for_each(|p| p.counter = Some(counter));
        }
    }
    let is_ours = proofs.iter().all(|proof| proof.counter.is_some() && proof.keyset == keyset);
    is_ours.then(|| takings(&part.mint, &proofs))
}
