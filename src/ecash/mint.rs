//! One mint, as the rest of the program sees it: at most two calls at once, with what rarely changes (info, keysets,
//! keys) kept, and how it is doing on record. A mint that hangs holds its own two calls, and no calls of other mints.
//!
//! Money-bearing calls check first all that can be checked without the mint, and fetch the keys that the
//! answer needs before the request leaves, so that an answer that came can also be read.

use super::client::{MintClient, CALL_TIMEOUT};
use super::curve::{PublicKey, SecretKey};
use super::error::{EcashError, Lie};
use super::keyset::{Keyset, KeysetId};
use super::outputs::{Outputs, Proof};
use super::wire::{AmountLimits, InvoiceText, KeysetInfo, MintInfo, MintQuote, ProofState, QuoteId};
use crate::bolt11::Invoice;
use crate::calls::{Breaker, BreakerState, Tls};
use crate::clock::Clock;
use crate::config::MintUrl;
use crate::task;
use crate::units::{Millis, Sats, Unit, UnixSeconds};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT: &str = Unit::Sat.as_str();
const INFO_KEPT: Millis = Millis::from_secs(3600);
const KEYSETS_KEPT: Millis = Millis::from_secs(600);
/// For a keyset that we have not heard of: it is asked for at once up to a number of times a minute, and then with
/// this pause.
const READ_ANEW: usize = 6;
const READ_ANEW_PAUSE: Millis = Millis::from_secs(10);
const MINUTE: Millis = Millis::from_secs(60);
const CALLS: usize = 2;
/// Leaves one slot to guests.
const BACKGROUND_CALLS: usize = 1;
const BACK_OFF: Millis = Millis::from_secs(61);
const BACK_OFF_JITTER_MS: u32 = 15_000;
const MAX_BACK_OFFS: usize = 4096;
/// A mint that has kept a guest waiting in vain counts as away for this long, even if it answers other calls.
const AWAY_FOR: Millis = Millis::from_secs(12);

/// Clients give up after 10 s. A guest's request that waits for mints is answered within this and what the answer
/// itself takes; what has not been heard by then is looked up.
pub const GUEST_PATIENCE: Duration = Duration::from_millis(8500);

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A guest waits: ask at once, even where the mint limited us.
    Guest,
    /// No guest waits: hold back after a 429, and leave a call slot to guests.
    Background,
}

/// A quote that passed all checks and may be shown to a guest.
#[derive(Clone, Debug)]
pub struct NewQuote {
    pub id: QuoteId,
    pub amount: Sats,
    pub invoice_text: InvoiceText,
    pub invoice: Invoice,
    /// How long it can be paid, from now; by the mint's own times, so no clock of ours matters.
    pub lifetime: Millis,
}

/// How a mint is doing, on the monotonic clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MintHealth {
    pub last_answer: Option<Millis>,
    pub last_failure: Option<(Millis, String)>,
    /// Failed calls since the last answer.
    pub failures: u32,
    /// It counts as away until then.
    away_until: Millis,
}

/// A call that has lost its type, so that the code around it exists once.
type Work = Pin<Box<dyn Future<Output = Result<task::AnyResult, EcashError>> + Send>>;

/// Cheap to clone; all clones share connections and what is kept.
#[derive(Clone, Debug)]
pub struct Mint(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Arc<MintClient>,
    clock: Clock,
    calls: Arc<Semaphore>,
    background_calls: Arc<Semaphore>,
    /// Held while a guest's question for what is kept is under way.
    reading: tokio::sync::Mutex<()>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    info: Option<(Millis, Arc<MintInfo>)>,
    keysets: Option<(Millis, Arc<Vec<KeysetInfo>>)>,
    /// When they were read anew for one that was not among them.
    read_anew: Vec<Millis>,
    keys: HashMap<KeysetId, Arc<Keyset>>,
    /// Decides whether an invoice is asked for.
    breaker: Breaker,
    looks: together::WaitingLooks,
    back_off: HashMap<Path, Millis>,
    health: MintHealth,
}

/// What mints count requests by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Path {
    Info,
    Keysets,
    Keys,
    NewQuote,
    Quote(QuoteId),
    Quotes,
    Mint,
    Swap,
    NewMelt,
    Melt,
    MeltState(QuoteId),
    Restore,
    States,
}

impl Mint {
    pub fn new(url: MintUrl, tls: &Tls, clock: Clock) -> Mint {
        Mint(Arc::new(Shared {
            client: Arc::new(MintClient::new(url, tls)),
            clock,
            calls: Arc::new(Semaphore::new(CALLS)),
            background_calls: Arc::new(Semaphore::new(BACKGROUND_CALLS)),
            reading: tokio::sync::Mutex::default(),
            kept: Mutex::default(),
        }))
    }

    pub fn url(&self) -> &MintUrl {
        self.0.client.url()
    }

    /// How many quotes may be asked for in one question (NUT-29), if the mint takes that.
    pub fn quotes_at_once(&self) -> Option<usize> {
        self.kept().info.as_ref()?.1.quotes_at_once
    }

    pub fn health(&self) -> MintHealth {
        self.kept().health.clone()
    }

    /// Whether it may be offered: its last call was answered, or it has not been called yet.
    pub fn seems_reachable(&self) -> bool {
        let now = self.now();
        let health = &self.kept().health;
        health.failures == 0 && health.away_until <= now
    }

    /// Whether it has answered its last call.
    pub fn answers(&self) -> bool {
        self.seems_reachable() && self.kept().health.last_answer.is_some()
    }

    /// A guest's request waited for this mint as long as a guest may be kept waiting.
    pub fn kept_a_guest_waiting(&self) {
        // The delay may have been arithmetic, or a place in a line of tokens.
        if self.0.calls.available_permits() == CALLS {
            return;
        }
        let now = self.now();
        let health = &mut self.kept().health;
        health.fail(now, &EcashError::NoAnswer("a guest has waited in vain".to_owned()));
        health.away_until = now.saturating_add(AWAY_FOR);
    }

    /// What the mint says about itself; at most an hour old.
    pub async fn info(&self, urgency: Urgency) -> Result<Arc<MintInfo>, EcashError> {
        let kept = || {
            let kept = self.kept();
            kept.info.as_ref().filter(|(at, _)| self.age(*at) < INFO_KEPT).map(|(_, info)| info.clone())
        };
        if let Some(info) = kept() {
            return Ok(info);
        }
        let _turn = self.turn(urgency).await?;
        if let Some(info) = kept() {
            return Ok(info);
        }
        let info = Arc::new(self.asked_for_info(urgency).await?);
        self.kept().info = Some((self.now(), info.clone()));
        Ok(info)
    }

    /// Of many guests who need the same at once, one asks; the others are answered from what was kept then, or fail as
    /// that one did.
    async fn turn(&self, urgency: Urgency) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, EcashError> {
        if urgency == Urgency::Background {
            return Ok(None);
        }
        let came = self.now();
        let turn = self.0.reading.lock().await;
        match &self.kept().health.last_failure {
            Some((at, why)) if *at > came => Err(EcashError::NoAnswer(why.clone())),
            _ => Ok(Some(turn)),
        }
    }

    /// Asks whether the mint is there, without using what is kept. Its health has the result.
    pub async fn probe(&self) -> Result<(), EcashError> {
        let info = Arc::new(self.asked_for_info(Urgency::Background).await?);
        self.kept().info = Some((self.now(), info));
        Ok(())
    }

    async fn asked_for_info(&self, urgency: Urgency) -> Result<MintInfo, EcashError> {
        let client = self.client();
        self.call(Path::Info, urgency, async move { client.info().await }).await
    }

    /// All keysets of the mint, active or not; at most ten minutes old.
    pub async fn keysets(&self, urgency: Urgency) -> Result<Arc<Vec<KeysetInfo>>, EcashError> {
        self.keysets_of(KEYSETS_KEPT, urgency).await
    }

    /// The keysets, for a token that names one which [`Mint::keysets`] does not: the mint may have made it just now.
    /// Strangers can invent any number of such tokens, so this does not always ask.
    pub async fn keysets_anew(&self, urgency: Urgency) -> Result<Arc<Vec<KeysetInfo>>, EcashError> {
        let now = self.now();
        let max_age = {
            let read_anew = &mut self.kept().read_anew;
            read_anew.retain(|at| now.saturating_sub(*at) < MINUTE);
            if read_anew.len() < READ_ANEW {
                read_anew.push(now);
                Millis::ZERO
            } else {
                READ_ANEW_PAUSE
            }
        };
        self.keysets_of(max_age, urgency).await
    }

    /// The keysets as the mint told them at most `max_age` ago.
    pub async fn keysets_of(
        &self,
        max_age: Millis,
        urgency: Urgency,
    ) -> Result<Arc<Vec<KeysetInfo>>, EcashError> {
        let asked = self.now();
        let kept = || {
            let kept = self.kept();
            // What came after the question was asked is new enough, too.
            let is_new = |at: Millis| self.age(at) < max_age || at > asked;
            kept.keysets.as_ref().filter(|(at, _)| is_new(*at)).map(|(_, keysets)| keysets.clone())
        };
        if let Some(keysets) = kept() {
            return Ok(keysets);
        }
        let _turn = self.turn(urgency).await?;
        if let Some(keysets) = kept() {
            return Ok(keysets);
        }
        let client = self.client();
        let asked = self.call(Path::Keysets, urgency, async move { client.keysets().await });
        let keysets = Arc::new(asked.await?);
        let mut kept = self.kept();
        kept.keysets = Some((self.now(), keysets.clone()));
        // The fee belongs to the terms, and it alone may change under the same version 1 id.
        kept.keys.retain(|id, keys| keysets.iter().any(|k| k.id == *id && k.terms == *keys.terms()));
        Ok(keysets)
    }

    /// The keys of one of the mint's keysets, active or not.
    pub async fn keyset(&self, id: KeysetId, urgency: Urgency) -> Result<Arc<Keyset>, EcashError> {
        let kept = || self.kept().keys.get(&id).cloned();
        if let Some(keyset) = kept() {
            return Ok(keyset);
        }
        let listed = self.keysets(urgency).await?.iter().find(|listed| listed.id == id).cloned();
        let listed = listed.ok_or(EcashError::KeysetInactive)?;
        let _turn = self.turn(urgency).await?;
        if let Some(keyset) = kept() {
            return Ok(keyset);
        }
        let client = self.client();
        let asked = self.call(Path::Keys, urgency, async move { client.keys(listed).await });
        let keyset = Arc::new(asked.await?);
        self.kept().keys.insert(id, keyset.clone());
        Ok(keyset)
    }

    /// The keysets whose keys are known without asking the mint.
    pub fn known_keysets(&self) -> Vec<Arc<Keyset>> {
        self.kept().keys.values().cloned().collect()
    }

    /// The keyset for new outputs: active, in sat, not expired by the mint's clock, with the lowest fee.
    pub async fn active_keyset(&self, urgency: Urgency) -> Result<Arc<Keyset>, EcashError> {
        let mint_time = self.mint_time();
        let expired = |expiry: Option<UnixSeconds>| match (expiry, mint_time) {
            (Some(expiry), Some(now)) => expiry.0 > 0 && expiry <= now,
            _ => false,
        };
        let keysets = self.keysets(urgency).await?;
        let usable =
            keysets.iter().filter(|k| k.active && k.terms.unit == UNIT && !expired(k.terms.final_expiry));
        let best = usable.min_by_key(|k| (k.terms.input_fee_ppk, k.id)).map(|k| k.id);
        self.keyset(best.ok_or(EcashError::Unsuitable("it has no active sat keyset"))?, urgency).await
    }

    /// The keyset that `amount` would be minted on, if this mint can mint it: it has what safe minting needs,
    /// the amount is within its limits and its keys can make it.
    pub async fn keyset_for(&self, amount: Sats, urgency: Urgency) -> Result<Arc<Keyset>, EcashError> {
        let info = self.info(urgency).await?;
        if let Some(why) = info.unsuitable() {
            return Err(EcashError::Unsuitable(why));
        }
        if let Some(AmountLimits { min, max }) = info.minting {
            if amount.0 == 0 || min.is_some_and(|min| amount < min) || max.is_some_and(|max| amount > max) {
                return Err(EcashError::AmountOutOfRange(min, max));
            }
        }
        let keyset = self.active_keyset(urgency).await?;
        keyset.split(amount).map(|_| keyset).ok_or(EcashError::AmountNotPossible)
    }

    /// Asks for an invoice over `amount` (NUT-04), locked to the key `lock` (NUT-20), with `memo` as its description
    /// where the mint takes one. Refuses a mint that lacks what safe minting needs, and an invoice that is not over
    /// exactly this amount.
    pub async fn quote(
        &self,
        amount: Sats,
        lock: PublicKey,
        memo: String,
        urgency: Urgency,
    ) -> Result<NewQuote, EcashError> {
        if !self.breaker_admits() {
            return Err(EcashError::Unreachable("it failed again and again, and is left alone".to_owned()));
        }
        if let Err(error) = self.keyset_for(amount, urgency).await {
            if matches!(error, EcashError::AmountOutOfRange(..) | EcashError::AmountNotPossible) {
                let now = self.now();
                self.kept().breaker.heard(now);
            }
            return Err(error);
        }
        let takes_memo = self.kept().info.as_ref().is_some_and(|(_, info)| info.describes);
        let ask = |memo: Option<String>| {
            let client = self.client();
            self.call(Path::NewQuote, urgency, async move { client.mint_quote(amount, lock, memo).await })
        };
        let quote = match ask(Some(memo).filter(|_| takes_memo)).await {
            // A memo that its node does not like costs no sale.
            Err(EcashError::Mint { .. }) if takes_memo => ask(None).await,
            quote => quote,
        };
        let quote = quote?;
        checked(quote, amount, lock).map_err(|lie| self.failed(lie.into()))
    }

    /// Reads a quote's state again.
    pub async fn quote_state(&self, quote: &QuoteId, urgency: Urgency) -> Result<MintQuote, EcashError> {
        if urgency == Urgency::Background {
            if let Some(state) = self.look_together(quote).await {
                return state;
            }
        }
        let (client, id) = (self.client(), quote.clone());
        self.call(Path::Quote(id.clone()), urgency, async move { client.quote_state(&id).await }).await
    }

    /// Turns a paid quote into proofs. The outputs' counters, and the outputs' place in the store, are
    /// durable before this is called; the same call may be repeated. On `KeysetInactive` the keysets are
    /// read anew by the next [`Mint::active_keyset`].
    pub async fn mint(
        &self,
        quote: &QuoteId,
        outputs: Arc<Outputs>,
        lock: SecretKey,
        urgency: Urgency,
    ) -> Result<Vec<Proof>, EcashError> {
        let keyset = self.keyset(outputs.keyset(), urgency).await?;
        let (client, quote) = (self.client(), quote.clone());
        let outcome = self
            .call(Path::Mint, urgency, async move {
                let signatures = client.mint(&quote, outputs.clone(), lock).await?;
                computed(move || outputs.unblind(&keyset, &signatures)).await
            })
            .await;
        self.noticed(outcome)
    }

    /// Terms that have changed are read anew by the next call that needs them.
    fn noticed<T>(&self, outcome: Result<T, EcashError>) -> Result<T, EcashError> {
        if let Err(EcashError::KeysetInactive | EcashError::Unbalanced) = outcome {
            self.kept().keysets = None;
        }
        outcome
    }

    /// Those of the outputs that the mint has signed before, as proofs (NUT-09): what a lost answer held.
    /// Outputs the mint never signed are simply missing.
    pub async fn restore(&self, outputs: Arc<Outputs>, urgency: Urgency) -> Result<Vec<Proof>, EcashError> {
        let keyset = self.keyset(outputs.keyset(), urgency).await?;
        let client = self.client();
        self.call(Path::Restore, urgency, async move {
            let restored = client.restore(&outputs).await?;
            computed(move || outputs.unblind_restored(&keyset, &restored)).await
        })
        .await
    }

    /// Whether proofs are spent (NUT-07), in the order of `ys` ([`super::ProofSecret::y`]); at most 1000 at once.
    pub async fn proof_states(
        &self,
        ys: Vec<PublicKey>,
        urgency: Urgency,
    ) -> Result<Vec<ProofState>, EcashError> {
        let client = self.client();
        self.call(Path::States, urgency, async move { client.proof_states(&ys).await }).await
    }

    /// What spent proofs were spent with; see [`MintClient::proof_witnesses`].
    pub async fn proof_witnesses(
        &self,
        ys: Vec<PublicKey>,
        urgency: Urgency,
    ) -> Result<Vec<String>, EcashError> {
        let client = self.client();
        self.call(Path::States, urgency, async move { client.proof_witnesses(&ys).await }).await
    }

    /// Makes one call, when it may and a slot is free.
    async fn call<T: Send + 'static>(
        &self,
        path: Path,
        urgency: Urgency,
        work: impl Future<Output = Result<T, EcashError>> + Send + 'static,
    ) -> Result<T, EcashError> {
        let work: Work = Box::pin(async move { Ok(Box::new(work.await?) as task::AnyResult) });
        task::unpack(self.made(path, urgency, work).await?).ok_or_else(stopped)
    }

    async fn made(&self, path: Path, urgency: Urgency, work: Work) -> Result<task::AnyResult, EcashError> {
        let slot = self.admitted(&path, urgency).await?;
        let mint = self.clone();
        // The slot goes along: a caller that stops waiting does not free it. And the result of the call is noted
        // without it: a mint that hangs longer than guests wait would seem to be well.
        let call = task::start(async move {
            let started = mint.now();
            let outcome = work.await;
            mint.record(path, mint.age(started), outcome.as_ref().err());
            drop(slot);
            outcome
        });
        call.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn admitted(&self, path: &Path, urgency: Urgency) -> Result<Slot, EcashError> {
        if urgency == Urgency::Background {
            self.backed_off(path)?;
        }
        let slot = tokio::time::timeout(CALL_TIMEOUT, self.slot(urgency));
        slot.await.map_err(|_| EcashError::Busy)?
    }

    async fn slot(&self, urgency: Urgency) -> Result<Slot, EcashError> {
        let background = match urgency {
            Urgency::Guest => None,
            Urgency::Background => Some(acquire(&self.0.background_calls).await?),
        };
        Ok(Slot { _call: acquire(&self.0.calls).await?, _background: background })
    }

    fn backed_off(&self, path: &Path) -> Result<(), EcashError> {
        let until = self.kept().back_off.get(path).copied().unwrap_or_default();
        match until.saturating_sub(self.now()) {
            Millis::ZERO => Ok(()),
            left => Err(EcashError::BackingOff(left)),
        }
    }

    fn record(&self, path: Path, took: Millis, failure: Option<&EcashError>) {
        let now = self.now();
        let path_is_probe = matches!(path, Path::Info);
        let serves_guests = matches!(path, Path::NewQuote | Path::Mint | Path::Swap | Path::Melt);
        let mut kept = self.kept();
        match failure {
            Some(EcashError::RateLimited) => {
                kept.back_off.retain(|_, until| *until > now);
                if kept.back_off.len() < MAX_BACK_OFFS {
                    kept.back_off.insert(path, now.saturating_add(BACK_OFF).saturating_add(jitter()));
                }
            }
            None => {
                kept.back_off.remove(&path);
            }
            Some(_) => {}
        }
        let is_ill = matches!(
            failure,
            Some(
                EcashError::Unreachable(_)
                    | EcashError::NoAnswer(_)
                    | EcashError::Malformed(_)
                    | EcashError::Lied(_)
            )
        );
        match (path_is_probe, is_ill) {
            // Its info shows only that it is there. Whether it does its work shows in the next call.
            (true, false) => kept.breaker.heard(now),
            _ => kept.breaker.ended(now, is_ill, getrandom::u32().unwrap_or(0)),
        }
        match failure {
            Some(
                error @ (EcashError::Unreachable(_)
                | EcashError::NoAnswer(_)
                | EcashError::LoginNeeded
                | EcashError::Malformed(_)
                | EcashError::Lied(_)),
            ) => {
                kept.health.fail(now, error);
                if serves_guests && took.as_duration() >= GUEST_PATIENCE {
                    kept.health.away_until = now.saturating_add(AWAY_FOR);
                }
            }
            // A mint that limits our requests is there.
            _ => {
                kept.health.last_answer = Some(now);
                kept.health.failures = 0;
                if serves_guests {
                    kept.health.away_until = now;
                }
            }
        }
    }

    /// How its breaker stands.
    pub fn breaker(&self) -> BreakerState {
        let now = self.now();
        self.kept().breaker.state(now)
    }

    fn breaker_admits(&self) -> bool {
        let now = self.now();
        self.kept().breaker.admit(now)
    }

    fn failed(&self, error: EcashError) -> EcashError {
        let now = self.now();
        self.kept().health.fail(now, &error);
        error
    }

    fn client(&self) -> Arc<MintClient> {
        self.0.client.clone()
    }

    /// The mint's clock now, from what it said last.
    fn mint_time(&self) -> Option<UnixSeconds> {
        let kept = self.kept();
        let (at, info) = kept.info.as_ref()?;
        let since = self.now().saturating_sub(*at).0 / 1000;
        info.time.map(|time| UnixSeconds(time.0.saturating_add(since)))
    }

    fn now(&self) -> Millis {
        self.0.clock.now()
    }

    fn age(&self, at: Millis) -> Millis {
        self.now().saturating_sub(at)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MintHealth {
    fn fail(&mut self, now: Millis, error: &EcashError) {
        self.last_failure = Some((now, error.to_string()));
        self.failures = self.failures.saturating_add(1);
    }
}

struct Slot {
    _call: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, EcashError> {
    semaphore.clone().acquire_owned().await.map_err(|_| EcashError::Busy)
}

/// Does arithmetic on the curve on a thread where it holds up no other work.
async fn computed<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Lie> + Send + 'static,
) -> Result<T, EcashError> {
    Ok(task::blocking(work).await.map_err(|_| stopped())??)
}

/// The daemon is stopping.
fn stopped() -> EcashError {
    EcashError::NoAnswer("the call was stopped".to_owned())
}

fn jitter() -> Millis {
    Millis(u64::from(getrandom::u32().unwrap_or(0) % BACK_OFF_JITTER_MS))
}

fn checked(quote: MintQuote, amount: Sats, lock: PublicKey) -> Result<NewQuote, Lie> {
    if quote.amount.is_some_and(|said| said != amount) || quote.unit.is_some_and(|unit| unit != UNIT) {
        return Err(Lie::QuoteAmount);
    }
    if quote.lock.is_some_and(|key| PublicKey::parse(&key) != Some(lock)) {
        return Err(Lie::OtherLock);
    }
    let invoice_text = quote.request.ok_or(Lie::NoInvoice)?;
    let invoice = Invoice::parse(invoice_text.as_str()).map_err(|_| Lie::NoInvoice)?;
    if !invoice.asks_for(amount) {
        return Err(Lie::InvoiceAmount);
    }
    let by_quote = quote.expiry.and_then(|expiry| expiry.0.checked_sub(invoice.timestamp().0));
    let by_quote = by_quote.filter(|secs| *secs > 0).map(Millis::from_secs);
    let lifetime = by_quote.map_or(invoice.lifetime(), |by_quote| by_quote.min(invoice.lifetime()));
    Ok(NewQuote { id: quote.id, amount, invoice_text, invoice, lifetime })
}

mod spending;
mod together;

#[cfg(test)]
mod tests;
