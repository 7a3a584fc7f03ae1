//! Tokens that may be made up. Only their mint can tell, and to ask it costs a call of its limit and two commits.
//!
//! So tokens of strangers without evidence (NUT-12) go to a mint a few at a time, and not at all after it has refused
//! several of them within a minute. The honest ones among many hardly wait: each token that the mint takes lets one
//! more go at a time. What a mint has refused for good is remembered, and not sent again. Knows no clock.

use super::offer::{reference_of, Refusal};
use crate::config::MintUrl;
use crate::ecash::token::TokenProof;
use crate::store::Reference;
use crate::units::Millis;
use litemap::LiteMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Refusals of one mint within a minute, of the tokens of all strangers together.
const REFUSALS: usize = 5;
const WINDOW: Millis = Millis::from_secs(60);
/// After many good tokens, at most this many are under way at once.
const WIDEST: usize = 32;
/// How long a token waits for those before it.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long tokens that were refused for good are remembered, and how many of them.
const REMEMBERED: Millis = Millis::from_secs(3600);
const MANY: usize = 1024;

/// Half of the hash in a token's reference.
type Digest = [u8; 16];

#[derive(Default)]
pub(super) struct Suspects {
    lines: Mutex<LiteMap<MintUrl, Line>>,
    /// A place at some mint is free.
    freed: Notify,
    dead: Mutex<VecDeque<Dead>>,
}

/// The suspects of one mint.
struct Line {
    under_way: usize,
    width: usize,
    refused: VecDeque<Millis>,
}

struct Dead {
    digest: Digest,
    at: Millis,
    why: Refusal,
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Now,
    /// Others are under way: what becomes of them decides.
    Wait,
    /// Nothing is sent until then.
    Later(Millis),
}

/// A token is under way for as long as this lives.
pub(super) struct SuspectUnderWay {
    suspects: Arc<Suspects>,
    mint: MintUrl,
}

impl Drop for SuspectUnderWay {
    fn drop(&mut self) {
        self.suspects.with(&self.mint, |line| line.under_way = line.under_way.saturating_sub(1));
        self.suspects.freed.notify_waiters();
    }
}

impl Suspects {
    /// Refuses a suspect of this mint if none may go there now.
    pub fn check(&self, mint: &MintUrl, now: Millis) -> Result<(), Refusal> {
        match self.with(mint, |line| line.closed_for(now)) {
            Millis::ZERO => Ok(()),
            wait => Err(Refusal::Later(wait)),
        }
    }

    /// Waits for a place at a mint.
    pub async fn place(
        self: &Arc<Self>,
        mint: &MintUrl,
        now: impl Fn() -> Millis,
    ) -> Result<SuspectUnderWay, Refusal> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on: a place that becomes free while we look is not missed.
            freed.as_mut().enable();
            match self.with(mint, |line| line.enter(now())) {
                Turn::Now => return Ok(SuspectUnderWay { suspects: self.clone(), mint: mint.clone() }),
                Turn::Later(wait) => return Err(Refusal::Later(wait)),
                Turn::Wait => {}
            }
            if tokio::time::timeout_at(give_up, freed).await.is_err() {
                return Err(Refusal::TooMany);
            }
        }
    }

    /// The mint has taken a suspect.
    pub fn taken(&self, mint: &MintUrl) {
        self.with(mint, |line| line.width = line.width.saturating_add(1).min(WIDEST));
    }

    /// The mint has refused a suspect.
    pub fn refused(&self, mint: &MintUrl, now: Millis) {
        self.with(mint, |line| line.refused(now));
    }

    /// A token was refused, and always will be.
    pub fn bury(&self, reference: &Reference, why: Refusal, now: Millis) {
        let Some(digest) = digest_of(reference) else { return };
        let mut dead = self.dead();
        dead.retain(|one| one.digest != digest);
        if dead.len() >= MANY {
            dead.pop_front();
        }
        dead.push_back(Dead { digest, at: now, why });
    }

    /// Why a token was refused for good, if it was; one is also spent with a single proof that is known as spent.
    pub fn known_refusal(
        &self,
        reference: &Reference,
        proofs: &[TokenProof],
        now: Millis,
    ) -> Option<Refusal> {
        let mut dead = self.dead();
        while dead.front().is_some_and(|one| one.at.saturating_add(REMEMBERED) <= now) {
            dead.pop_front();
        }
        if dead.is_empty() {
            return None;
        }
        let find = |reference: &Reference| {
            let digest = digest_of(reference)?;
            dead.iter().find(|one| one.digest == digest).map(|one| one.why.clone())
        };
        let is_spent = |proof: &TokenProof| {
            find(&reference_of(std::iter::once(proof.secret.as_str()))) == Some(Refusal::Spent)
        };
        find(reference).or_else(|| proofs.iter().any(is_spent).then_some(Refusal::Spent))
    }

    fn with<T>(&self, mint: &MintUrl, work: impl FnOnce(&mut Line) -> T) -> T {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        work(lines.entry(mint.clone()).or_default())
    }

    fn dead(&self) -> MutexGuard<'_, VecDeque<Dead>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Line {
    fn default() -> Line {
        Line { under_way: 0, width: REFUSALS, refused: VecDeque::new() }
    }
}

impl Line {
    fn enter(&mut self, now: Millis) -> Turn {
        match self.closed_for(now) {
            Millis::ZERO => {}
            wait => return Turn::Later(wait),
        }
        let room = match self.refused.len() {
            0 => self.width,
            // If all that are under way were refused, there would be as many refusals as are allowed.
            some => REFUSALS.saturating_sub(some),
        };
        if self.under_way >= room {
            return Turn::Wait;
        }
        self.under_way = self.under_way.saturating_add(1);
        Turn::Now
    }

    /// How long nothing is sent; zero where something may be.
    fn closed_for(&mut self, now: Millis) -> Millis {
        while self.refused.front().is_some_and(|at| at.saturating_add(WINDOW) <= now) {
            self.refused.pop_front();
        }
        match self.refused.front() {
            Some(at) if self.refused.len() >= REFUSALS => at.saturating_add(WINDOW).saturating_sub(now),
            _ => Millis::ZERO,
        }
    }

    fn refused(&mut self, now: Millis) {
        self.width = REFUSALS;
        if self.refused.len() >= REFUSALS {
            self.refused.pop_front();
        }
        self.refused.push_back(now);
    }
}

/// The first half of a token's hash.
fn digest_of(reference: &Reference) -> Option<Digest> {
    let Reference::Token(hash) = reference else { return None };
    hash.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Millis = Millis::from_secs(1);

    fn mint(name: &str) -> MintUrl {
        MintUrl::parse(&format!("https://{name}.example")).unwrap()
    }

    fn reference(secret: &str) -> Reference {
        reference_of(std::iter::once(secret))
    }

    #[test]
    fn after_five_refusals_within_a_minute_nothing_is_sent() {
        let mut line = Line::default();
        for second in 0..5 {
            assert_eq!(line.enter(Millis::from_secs(second)), Turn::Now);
            line.refused(Millis::from_secs(second));
            line.under_way -= 1;
        }
        assert_eq!(line.enter(Millis::from_secs(10)), Turn::Later(Millis::from_secs(50)));
        assert_eq!(line.enter(Millis::from_secs(60)), Turn::Now, "the first is a minute old");
        assert_eq!(line.enter(Millis::from_secs(60)), Turn::Wait, "the others are not");
    }

    #[test]
    fn as_many_are_under_way_as_may_be_refused() {
        let mut line = Line::default();
        line.refused(SECOND);
        line.refused(SECOND);
        assert_eq!([(); 4].map(|()| line.enter(SECOND)), [Turn::Now, Turn::Now, Turn::Now, Turn::Wait]);
    }

    #[test]
    fn tokens_that_are_taken_let_more_go_at_once_up_to_a_bound() {
        let suspects = Arc::new(Suspects::default());
        let mint = mint("a");
        for _ in 0..1000 {
            suspects.taken(&mint);
        }
        let entered =
            |now| suspects.with(&mint, |line| (0..1000).filter(|_| line.enter(now) == Turn::Now).count());
        assert_eq!(entered(SECOND), WIDEST);
        suspects.refused(&mint, SECOND);
        assert_eq!(entered(SECOND), 0);
        suspects.with(&mint, |line| line.under_way = 0);
        assert_eq!(entered(SECOND), REFUSALS - 1, "one refusal ends that");
    }

    #[test]
    fn each_mint_has_a_budget_of_its_own() {
        let suspects = Suspects::default();
        (0..5).for_each(|_| suspects.refused(&mint("a"), SECOND));
        assert_eq!(suspects.check(&mint("a"), SECOND), Err(Refusal::Later(WINDOW)));
        assert_eq!(suspects.check(&mint("b"), SECOND), Ok(()));
    }

    #[tokio::test]
    async fn who_waits_goes_when_a_place_is_free() {
        let suspects = Arc::new(Suspects::default());
        let now = || SECOND;
        let mut places = Vec::new();
        for _ in 0..REFUSALS {
            places.push(suspects.place(&mint("a"), now).await.ok().unwrap());
        }
        let (next, mint_a) = (suspects.clone(), mint("a"));
        let waiting = tokio::spawn(async move { next.place(&mint_a, now).await.is_ok() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        places.pop();
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn what_is_dead_is_known_for_an_hour() {
        let suspects = Suspects::default();
        suspects.bury(&reference("one"), Refusal::Spent, Millis::ZERO);
        suspects.bury(&reference("two"), Refusal::MintRefuses, SECOND);
        let known = |secret, now| suspects.known_refusal(&reference(secret), &[], now);
        assert_eq!(known("one", Millis::from_secs(3599)), Some(Refusal::Spent));
        assert_eq!(known("three", SECOND), None);
        assert_eq!(known("one", Millis::from_secs(3600)), None);
        assert_eq!(known("two", Millis::from_secs(3600)), Some(Refusal::MintRefuses));
    }

    #[test]
    fn the_dead_take_bounded_memory() {
        let suspects = Suspects::default();
        for number in 0..=MANY {
            suspects.bury(&reference(&number.to_string()), Refusal::Spent, SECOND);
        }
        assert_eq!(suspects.dead().len(), MANY);
        assert_eq!(suspects.known_refusal(&reference("0"), &[], SECOND), None, "the oldest is forgotten");
        suspects.bury(&reference("7"), Refusal::Spent, SECOND);
        assert_eq!(suspects.dead().len(), MANY, "none is there twice");
    }
}
