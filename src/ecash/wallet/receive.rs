//! Receiving a token: journaled, swapped, and in one commit ours and the guest's access.
//!
//! One task per token brings it to its end, however long that takes; a caller that posts the same token joins it. A
//! caller waits for at most eight seconds, and a session that begins without a waiting caller is sent to `sessions`.

use super::exchange::{points, Exchange};
use super::locked_offer::LockedOffer;
use super::offer::{powers, reference_of, Refusal, TokenOffer};
use super::suspects::SuspectUnderWay;
use super::Wallet;
use crate::config::MintUrl;
use crate::ecash::keyset::KeysetId;
use crate::ecash::mint::Urgency;
use crate::ecash::outputs::Proof;
use crate::ecash::token::Token;
use crate::ecash::wire::ProofState;
use crate::store::{
    with_same_row, Admission, Begun, Known, NewGrant, NewOp, NewProofs, OfflineLimits, OpKind, OpRow,
    Reference, StoreError,
};
use crate::task;
use crate::units::Sats;
use litemap::LiteMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch, Notify};

/// Less than the guest's own request has: so that it is told what is known.
const PATIENCE: Duration = Duration::from_secs(8);
/// A guest waits meanwhile.
const PATIENCE_FOR_STATES: Duration = Duration::from_secs(2);
/// How long the mint is asked first about a token that only we can spend.
const MINT_FIRST: Duration = Duration::from_secs(3);
/// Between attempts to swap a token whose guest is in, after a refusal.
const PAUSE_OF_GRANTED: Duration = Duration::from_secs(60);
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// How receiving a token ended, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is ours. With a grant: the session as the store has it, which the caller hands to `Access::admit`. It is
    /// the session of the caller that posted the token first.
    Done { net: Sats, session: Option<Admission> },
    /// Not taken.
    Refused(Refusal),
    /// Sent, and the outcome is not known; the wallet finds it out by itself.
    Unknown,
    /// The same token is being received at this moment.
    InFlight,
}

/// A receipt under way, or another operation that has a task of its own.
pub(super) struct Running {
    pub mint: MintUrl,
    pub wake: Arc<Notify>,
    news: NewsReceiver,
}

impl Running {
    pub fn news(&self) -> NewsReceiver {
        self.news.clone()
    }
}

pub(super) type NewsReceiver = watch::Receiver<News>;

#[derive(Clone)]
pub(super) enum News {
    /// An attempt is being made; whether an earlier one left the outcome open.
    Working {
        again: bool,
    },
    /// The next attempt is this far away.
    Waiting(Duration),
    /// The guest is let in, and it goes on.
    Granted(Received),
    Ended(Received),
}

/// Tells those who wait.
pub(super) struct Teller {
    news: watch::Sender<News>,
    pub wake: Arc<Notify>,
}

impl Wallet {
    /// Receives the token of an offer and, with `grant`, turns it into access (its reference is the offer's). Answers
    /// within about eight seconds. The same token again is answered with the outcome, and never counts twice; while
    /// the outcome is open it has the mint asked at once.
    ///
    /// A caller that goes on with the session must not be cancelled between the answer and `Access::admit`.
    pub async fn receive(&self, offer: TokenOffer, grant: Option<NewGrant>) -> Received {
        // Perhaps its guest is in, and it is still to be swapped.
        if offer.is_known {
            if let Ok(Some(Known::Done { amount, session, .. })) =
                self.0.store.op_known(offer.reference.clone()).await
            {
                return Received::Done { net: amount, session };
            }
        }
        let place = match self.queue(&offer).await {
            Ok(place) => place,
            Err(refusal) => return Received::Refused(refusal),
        };
        let (news, is_first) = self.join(offer, grant);
        let received = self.wait_for(news, is_first).await;
        drop(place);
        received
    }

    /// Waits until a token that may be made up may go to its mint.
    async fn queue(&self, offer: &TokenOffer) -> Result<Option<SuspectUnderWay>, Refusal> {
        if !offer.is_suspect || self.running().contains_key(&offer.reference.to_string()) {
            return Ok(None);
        }
        let place = self.0.suspects.place(&offer.mint, || self.0.store.now()).await?;
        // The same may have been refused meanwhile.
        match self.0.suspects.known_refusal(&offer.reference, &[], self.0.store.now()) {
            Some(refusal) => Err(refusal),
            None => Ok(Some(place)),
        }
    }

    /// The news of this token's receipt, and whether we have just begun it.
    fn join(&self, offer: TokenOffer, grant: Option<NewGrant>) -> (NewsReceiver, bool) {
        let mut running = self.running();
        if let Some(same) = running.get(&offer.reference.to_string()) {
            same.wake.notify_one();
            return (same.news.clone(), false);
        }
        let (reference, mint, wallet) = (offer.reference.to_string(), offer.mint.clone(), self.clone());
        let news = self.launch(&mut running, reference, mint, |teller| async move {
            match wallet.journal(offer, grant).await {
                Ok(mut swap) => wallet.take(&mut swap, Urgency::Guest, &teller).await,
                Err(known) => *known,
            }
        });
        (news, true)
    }

    /// Takes up a receipt from before this start.
    pub(super) fn resume_receipt(&self, op: OpRow) {
        let Some(reference) = op.reference.as_ref().map(Reference::to_string) else { return };
        let (mint, wallet) = (op.mint.clone(), self.clone());
        self.launch(&mut self.running(), reference, mint, |teller| async move {
            match wallet.resumed(op) {
                Ok(mut swap) => wallet.take(&mut swap, Urgency::Background, &teller).await,
                Err(refusal) => Received::Refused(refusal),
            }
        });
    }

    /// Gives an operation a task of its own, under a name.
    pub(super) fn launch<W: Future<Output = Received> + Send + 'static>(
        &self,
        running: &mut LiteMap<String, Running>,
        name: String,
        mint: MintUrl,
        work: impl FnOnce(Arc<Teller>) -> W,
    ) -> NewsReceiver {
        let (sender, news) = watch::channel(News::Working { again: false });
        let wake = Arc::new(Notify::new());
        running.insert(name.clone(), Running { mint, wake: wake.clone(), news: news.clone() });
        let teller = Arc::new(Teller { news: sender, wake });
        let (wallet, work) = (self.clone(), work(teller.clone()));
        task::spawn(with_same_row(Box::pin(async move {
            let received = work.await;
            wallet.running().remove(&name);
            teller.news.send_replace(News::Ended(received.clone()));
            if let (Received::Done { session: Some(session), .. }, 0) =
                (received, teller.news.receiver_count())
            {
                let _ = wallet.0.sessions.send(session).await;
            }
        })));
        news
    }

    /// Waits for an operation as long as a caller may be kept waiting.
    pub(super) async fn wait_for(&self, news: NewsReceiver, is_first: bool) -> Received {
        let mut waiter = Waiter { news, is_first, told: false, sessions: self.0.sessions.clone() };
        let outcome = waiter.outcome().await;
        waiter.told = true;
        outcome
    }

    /// Writes the intent down; or what is known of the token already.
    async fn journal(&self, offer: TokenOffer, grant: Option<NewGrant>) -> Result<Exchange, Box<Received>> {
        let refused = |refusal: Refusal| Box::new(Received::Refused(refusal));
        let known = match offer.is_known {
            true => {
                self.0.store.op_known(offer.reference.clone()).await.map_err(|err| refused(err.into()))?
            }
            false => None,
        };
        if let Some(known) = known {
            return self.known(known);
        }
        if offer.is_known {
            // It was refused since.
            return Err(refused(Refusal::TermsChanged));
        }
        if !self.0.store.room_for_sales() {
            return Err(refused(Refusal::Closed("STORE_FULL")));
        }
        let mint = self.0.mints.get(&offer.mint);
        let outputs = match &offer.locked {
            Some(LockedOffer { offline: Some(keyset), .. }) => (keyset.clone(), powers(offer.net)),
            _ => {
                let keyset = mint.active_keyset(Urgency::Guest).await.map_err(|err| refused(err.into()))?;
                let amounts = keyset.split(offer.net).ok_or(refused(Refusal::MintRefuses))?;
                (keyset.id().to_string(), amounts.iter().map(|amount| amount.0).collect())
            }
        };
        let begun = self
            .0
            .store
            .op_begin(NewOp {
                reference: Some(offer.reference.clone()),
                token: Some(offer.text()),
                outputs: Some(outputs),
                grant: grant.map(|grant| NewGrant { reference: offer.reference, ..grant }),
                takes: offer.locked.as_ref().map(|locked| locked.taking.clone()),
                credits: offer.credits,
                ..NewOp::new(OpKind::Receive, self.0.purse, offer.mint.clone(), offer.net)
            })
            .await;
        let begun = match begun {
            // One of its proofs was taken before, with its voucher's code or in another token.
            Err(StoreError::Gone) if offer.locked.is_some() => return Err(refused(Refusal::Spent)),
            begun => begun.map_err(|err| refused(err.into()))?,
        };
        match begun {
            Begun::New(op) => {
                let mut swap = Exchange::new(op, mint, offer.proofs);
                swap.is_suspect = offer.is_suspect;
                swap.locked = offer.locked;
                Ok(swap)
            }
            Begun::Known(known) => self.known(known),
            Begun::Full => Err(refused(Refusal::TooMany)),
        }
    }

    fn known(&self, known: Known) -> Result<Exchange, Box<Received>> {
        let ended = match known {
            Known::Done { amount, session, .. } => Received::Done { net: amount, session },
            // Somebody hands the same in for access.
            Known::Open(op) if op.purse != self.0.purse => Received::InFlight,
            Known::Open(op) => match self.resumed(op) {
                Ok(exchange) => return Ok(exchange),
                Err(refusal) => Received::Refused(refusal),
            },
            Known::Failed { .. } => Received::Refused(Refusal::MintRefuses),
        };
        Err(Box::new(ended))
    }

    fn resumed(&self, op: OpRow) -> Result<Exchange, Refusal> {
        let token = Token::parse(op.token.as_deref().unwrap_or_default())?;
        // The journal names keysets in full.
        let known: Vec<KeysetId> = token.proofs.iter().filter_map(|proof| proof.keyset.full()).collect();
        let inputs = token.resolve(&known)?;
        let mint = self.0.mints.get(&op.mint);
        let now = self.0.store.now();
        Ok(Exchange::resumed(op, mint, inputs, now))
    }

    /// Brings a journaled receipt to its end.
    async fn take(&self, swap: &mut Exchange, urgency: Urgency, teller: &Teller) -> Received {
        if let Some(limits) = swap.locked.as_ref().and_then(|locked| locked.limits) {
            if let Some(ended) = self.take_locked(swap, limits, urgency, teller).await {
                return ended;
            }
        }
        loop {
            let waits = |pause| teller.tell(pause);
            let ended = self.bring_about(swap, urgency, &teller.wake, waits).await;
            match ended {
                // The guest is in, so it is not given up for anything that may pass.
                Err(refusal) if swap.op.is_granted && refusal != Refusal::Spent && !swap.is_hopeless => {
                    log::warn!(
                        "wallet: {}: a token that was taken is not swapped yet: {refusal}",
                        swap.op.mint
                    );
                    swap.unclear(self.0.store.now());
                    tokio::time::sleep(PAUSE_OF_GRANTED).await;
                }
                ended => return self.end(swap, ended).await,
            }
        }
    }

    /// A token that only we can spend lets its guest in when its mint does not answer in a moment. `None`: it goes on.
    async fn take_locked(
        &self,
        swap: &mut Exchange,
        limits: OfflineLimits,
        urgency: Urgency,
        teller: &Teller,
    ) -> Option<Received> {
        let is_offline = swap.locked.as_ref().is_some_and(|locked| locked.offline.is_some());
        let mut refused = is_offline.then_some(Refusal::MintAway);
        if !is_offline {
            let trying = self.bring_about(swap, urgency, &teller.wake, |pause| teller.tell(pause));
            match tokio::time::timeout(MINT_FIRST, trying).await {
                Ok(Err(refusal @ (Refusal::MintAway | Refusal::MintBusy))) => refused = Some(refusal),
                Ok(ended) => return Some(self.end(swap, ended).await),
                Err(_) => swap.unclear(self.0.store.now()),
            }
        }
        match self.0.store.op_granted(swap.op.id, limits).await {
            Ok(Some(session)) => {
                log::info!("wallet: {} sat of {} taken without asking it", swap.op.amount, swap.op.mint);
                swap.op.is_granted = true;
                swap.unclear(self.0.store.now());
                teller.granted(Received::Done { net: swap.op.amount, session: Some(session.clone()) });
                if teller.news.receiver_count() == 0 {
                    let _ = self.0.sessions.send(session).await;
                }
                None
            }
            Ok(None) | Err(_) => match refused {
                Some(refusal) => Some(self.end(swap, Err(refusal)).await),
                None => None,
            },
        }
    }

    async fn end(&self, swap: &mut Exchange, ended: Result<Vec<Proof>, Refusal>) -> Received {
        match ended {
            Ok(proofs) => {
                if swap.is_suspect {
                    self.0.suspects.taken(&swap.op.mint);
                }
                let session = self.keep(swap.op.id, &swap.op.mint, &proofs).await;
                log::info!("wallet: {} sat received from {}", swap.op.amount, swap.op.mint);
                Received::Done { net: swap.op.amount, session }
            }
            Err(refusal) => {
                log::info!("wallet: {} sat of {} not received: {refusal}", swap.op.amount, swap.op.mint);
                self.note_refusal(swap, &refusal).await;
                // What the mint will never take is lost like what is spent: the session ends.
                let is_lost = refusal == Refusal::Spent || (swap.op.is_granted && swap.is_hopeless);
                match self.0.store.op_refused(swap.op.id, is_lost).await {
                    Ok(loss) => loss.into_iter().for_each(|loss| self.lost(loss)),
                    Err(err) => log::error!("wallet: {err}"),
                }
                Received::Refused(refusal)
            }
        }
    }

    /// A mint's refusal counts against those that may be made up, and what will never be good is not sent again.
    async fn note_refusal(&self, swap: &Exchange, refusal: &Refusal) {
        if swap.is_suspect && !refusal.may_pass() {
            self.0.suspects.refused(&swap.op.mint, self.0.store.now());
        }
        let spent = match refusal {
            Refusal::Spent => spent_of(swap).await,
            _ => Vec::new(),
        };
        let now = self.0.store.now();
        if let (true, Some(reference)) = (swap.is_hopeless || !spent.is_empty(), &swap.op.reference) {
            self.0.suspects.bury(reference, refusal.clone(), now);
        }
        // Otherwise each other selection of spent proofs would pass as another token.
        for proof in spent {
            self.0.suspects.bury(&reference_of(std::iter::once(proof)), Refusal::Spent, now);
        }
    }

    /// Commits the received proofs; they are ours already, so this is tried until it works.
    pub(super) async fn keep(&self, op: i64, mint: &MintUrl, proofs: &[Proof]) -> Option<Admission> {
        let came = takings(mint, proofs);
        loop {
            match self.0.store.op_done(op, Some(came.clone()), None).await {
                Ok(session) => return session,
                Err(err) => log::error!("wallet: received, but not stored yet: {err}"),
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    /// Ends an operation that did not take place. Where that cannot be written, the next start finds it out again.
    pub(super) async fn give_up(&self, op: i64, spent: Vec<crate::store::ProofKey>, why: &str) {
        if let Err(err) = self.0.store.op_failed(op, spent, why.to_owned()).await {
            log::error!("wallet: {err}");
        }
    }
}

impl Teller {
    pub fn tell(&self, pause: Option<Duration>) {
        let news = pause.map_or(News::Working { again: true }, News::Waiting);
        // A caller that joins after the guest was let in is told so.
        self.news.send_if_modified(|now| {
            let changes = !matches!(now, News::Granted(_));
            if changes {
                *now = news;
            }
            changes
        });
    }

    fn granted(&self, received: Received) {
        self.news.send_replace(News::Granted(received));
    }
}

/// A caller that waits for a receipt. If it goes away just when the receipt ends, the session goes to `sessions`.
struct Waiter {
    news: NewsReceiver,
    is_first: bool,
    told: bool,
    sessions: mpsc::Sender<Admission>,
}

impl Waiter {
    async fn outcome(&mut self) -> Received {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        // The pause that was running when we joined ends because we joined.
        let mut is_stale = matches!(*self.news.borrow_and_update(), News::Waiting(_));
        loop {
            let left = give_up.saturating_duration_since(tokio::time::Instant::now());
            match self.news.borrow_and_update().clone() {
                News::Ended(received) | News::Granted(received) => return received,
                News::Waiting(pause) if !is_stale && pause >= left => return Received::Unknown,
                News::Working { .. } | News::Waiting(_) => {}
            }
            match tokio::time::timeout(left, self.news.changed()).await {
                Ok(Ok(())) => is_stale = false,
                // The task is gone, which only the end of the program does to it.
                Ok(Err(_)) => return Received::Unknown,
                Err(_) => break,
            }
        }
        let last = self.news.borrow().clone();
        match last {
            News::Ended(received) | News::Granted(received) => received,
            News::Working { again: false } if !self.is_first => Received::InFlight,
            News::Working { .. } | News::Waiting(_) => Received::Unknown,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let News::Ended(Received::Done { session: Some(session), .. })
        | News::Granted(Received::Done { session: Some(session), .. }) = &*self.news.borrow()
        {
            if !self.told {
                let _ = self.sessions.try_send(session.clone());
            }
        }
    }
}

/// The secrets of those inputs that the mint, which has refused them as spent, calls spent once more: an honest guest's token
/// must not be dead for an hour by one wrong word.
async fn spent_of(swap: &Exchange) -> Vec<&str> {
    let states = async { swap.mint.proof_states(points(swap.inputs.clone()).await?, Urgency::Guest).await };
    let states = match tokio::time::timeout(PATIENCE_FOR_STATES, states).await {
        Ok(Ok(states)) => states,
        Ok(Err(_)) | Err(_) => return Vec::new(),
    };
    let inputs = swap.inputs.iter().zip(states).filter(|(_, state)| *state == ProofState::Spent);
    inputs.map(|(proof, _)| proof.secret.as_str()).collect()
}

/// Proofs as the store keeps them; all are of one keyset.
pub fn takings(mint: &MintUrl, proofs: &[Proof]) -> NewProofs {
    let row = |proof: &Proof| Some((proof.counter?, proof.amount, proof.c.to_bytes().to_vec()));
    NewProofs {
        mint: mint.clone(),
        keyset: proofs.first().map(|proof| proof.keyset.to_string()).unwrap_or_default(),
        proofs: proofs.iter().filter_map(row).collect(),
    }
}
