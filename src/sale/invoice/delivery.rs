//! Tokens that wait for their guests: pushed again at each reconnect until the guest has said that they are
//! safe, or the mint that they are spent.

use super::request::{Part, Progress, Request};
use super::{InvoiceEngine, SaleError};
use crate::config::MintUrl;
use crate::ecash::{ProofState, Token, Urgency};
use crate::mac::MacAddr;
use crate::store::RequestId;
use crate::task;
use litemap::LiteMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a guest that is back waits for the mints' word.
const PATIENCE: Duration = Duration::from_secs(2);
/// The hourly round must end before the next one, and no few tokens may take all of it.
const ROUND: Duration = Duration::from_secs(1800);
const PATIENCE_IN_ROUND: Duration = Duration::from_secs(60);
/// Requests that are read from the store together: tokens wait for 90 days, and there may be many.
pub const HELD_AT_A_TIME: usize = 20;
/// Mints limit the proofs in one question (nutshell: 1000); a token has 60 at most.
const TOKENS_PER_QUESTION: usize = 10;

/// A part with tokens that its guest has not acknowledged.
pub struct HeldTokens {
    pub request: Arc<Request>,
    index: usize,
}

impl HeldTokens {
    pub fn part(&self) -> Option<&Part> {
        self.request.parts().get(self.index)
    }
}

impl InvoiceEngine {
    /// The guest says that the tokens are safe: those of one part, or all that are here.
    pub async fn ack(&self, mac: MacAddr, id: &RequestId, position: Option<u32>) -> Result<(), SaleError> {
        let request = self.find(mac, id).await?;
        let is_meant = |part: &&Part| position.is_none_or(|position| part.position == position);
        if !request.parts().iter().any(|part| is_meant(&part)) {
            return Err(SaleError::NoSuchPart);
        }
        let parts: Vec<&Part> =
            request.parts().iter().filter(is_meant).filter(|part| part.holds_tokens()).collect();
        if !parts.is_empty() {
            self.0.store.acked(parts.iter().map(|part| part.id).collect()).await?;
            parts.iter().for_each(|part| part.set_acked());
        }
        Ok(())
    }

    /// The requests whose tokens a MAC has not acknowledged, oldest first.
    pub async fn undelivered(&self, mac: MacAddr) -> Vec<RequestId> {
        self.0.store.undelivered(Some(mac)).await.unwrap_or_default()
    }

    /// The tokens of these requests that wait for their guests, after asking the mints whether they were spent
    /// meanwhile. To be asked for at most [`HELD_AT_A_TIME`] requests at a time.
    pub async fn held_tokens(&self, ids: &[RequestId]) -> Vec<HeldTokens> {
        let mut held = self.held(ids).await;
        self.settle_spent(&held, PATIENCE).await;
        held.retain(|held| held.part().is_some_and(Part::holds_tokens));
        held
    }

    /// Once an hour: tokens that were spent need no more delivery.
    pub async fn tidy(&self) {
        let ids = self.0.store.undelivered(None).await.unwrap_or_default();
        let round = async {
            for some in ids.chunks(HELD_AT_A_TIME) {
                self.settle_spent(&self.held(some).await, PATIENCE_IN_ROUND).await;
            }
        };
        let _ = tokio::time::timeout(ROUND, round).await;
    }

    async fn held(&self, ids: &[RequestId]) -> Vec<HeldTokens> {
        let mut held = Vec::new();
        for id in ids {
            let Ok(Some(request)) = self.load(id).await else { continue };
            let holding = request.parts().iter().enumerate().filter(|(_, part)| part.holds_tokens());
            held.extend(holding.map(|(index, _)| HeldTokens { request: request.clone(), index }));
        }
        held
    }

    /// Notes which tokens their mints report as spent. All mints are asked at once, each with one question
    /// for many tokens; one that does not answer in time changes nothing.
    async fn settle_spent(&self, held: &[HeldTokens], patience: Duration) {
        let mut by_mint: LiteMap<MintUrl, Vec<(i64, Arc<Request>, String)>> = LiteMap::new();
        for held in held {
            let Some(part) = held.part() else { continue };
            if let Progress::Tokens(token) = part.progress() {
                by_mint.entry(part.mint.clone()).or_default().push((part.id, held.request.clone(), token));
            }
        }
        let mut asking = JoinSet::new();
        for (mint, tokens) in by_mint {
            let engine = self.clone();
            asking.spawn(async move {
                for some in tokens.chunks(TOKENS_PER_QUESTION) {
                    let spent =
                        engine.spent(&mint, some.iter().map(|(.., token)| token.clone()).collect()).await;
                    let spent = some.iter().zip(spent).filter(|(_, spent)| *spent).map(|(some, _)| some);
                    let ids: Vec<i64> = spent.clone().map(|(id, ..)| *id).collect();
                    if ids.is_empty() || engine.0.store.acked(ids).await.is_err() {
                        continue;
                    }
                    for (id, request, _) in spent {
                        request.parts().iter().filter(|part| part.id == *id).for_each(Part::set_acked);
                    }
                }
            });
        }
        let answered = async { while asking.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, answered).await;
    }

    /// Asks a mint (NUT-07) of which tokens every proof is spent. An unanswered question is a no.
    async fn spent(&self, mint: &MintUrl, tokens: Vec<String>) -> Vec<bool> {
        // Hashing to the curve costs milliseconds per proof on a small router.
        let hashed = task::blocking(move || {
            let proofs = tokens.iter().map(|token| Token::parse(token).map(|token| token.proofs));
            proofs
                .map(|proofs| {
                    proofs.unwrap_or_default().iter().map(|proof| proof.secret.y()).collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        });
        let Ok(hashed) = hashed.await else { return Vec::new() };
        let all = hashed.iter().flatten().copied().collect();
        let Ok(states) = self.0.mints.get(mint).proof_states(all, Urgency::Background).await else {
            return Vec::new();
        };
        let mut states = states.iter();
        let mut is_spent = |count: usize| {
            let its: Vec<_> = states.by_ref().take(count).collect();
            count > 0 && its.len() == count && its.iter().all(|state| **state == ProofState::Spent)
        };
        hashed.iter().map(|ys| is_spent(ys.len())).collect()
    }
}
