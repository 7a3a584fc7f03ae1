//! Looks at many quotes in one question (NUT-29), where the mint takes that: after an outage or a restart all open
//! quotes are looked at, and mints count questions.

use super::{Mint, Path, Urgency};
use crate::ecash::error::EcashError;
use crate::ecash::wire::{MintQuote, QuoteId};
use crate::task;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a look waits for others.
const GATHERING: Duration = Duration::from_millis(50);
const MOST: usize = 50;

/// Looks that wait for each other, with the channels to their callers.
pub(super) type WaitingLooks = Vec<(QuoteId, oneshot::Sender<Result<MintQuote, EcashError>>)>;

impl Mint {
    /// A quote's state, asked together with others; `None` where it must be asked for alone.
    pub(super) async fn look_together(&self, quote: &QuoteId) -> Option<Result<MintQuote, EcashError>> {
        let (tell, told) = oneshot::channel();
        let most = {
            let mut kept = self.kept();
            let most = kept.info.as_ref()?.1.quotes_at_once?.min(MOST);
            kept.looks.push((quote.clone(), tell));
            (kept.looks.len() == 1).then_some(most)
        };
        if let Some(most) = most {
            let mint = self.clone();
            // Who asked first may be gone before the others are told.
            task::spawn(async move {
                tokio::time::sleep(GATHERING).await;
                mint.ask_for_all(most).await;
            });
        }
        told.await.ok()
    }

    async fn ask_for_all(&self, most: usize) {
        let mut waiting = std::mem::take(&mut self.kept().looks);
        while waiting.len() > 1 {
            let some: WaitingLooks = waiting.drain(..waiting.len().min(most)).collect();
            let ids: Vec<QuoteId> = some.iter().map(|(id, _)| id.clone()).collect();
            let client = self.client();
            let looking = async move { client.quote_states(&ids).await };
            match self.call(Path::Quotes, Urgency::Background, looking).await {
                Ok(states) => {
                    for ((_, tell), state) in some.into_iter().zip(states) {
                        let _ = tell.send(Ok(state));
                    }
                }
                Err(
                    error @ (EcashError::Unreachable(_)
                    | EcashError::NoAnswer(_)
                    | EcashError::Busy
                    | EcashError::RateLimited
                    | EcashError::BackingOff(_)),
                ) => {
                    for (_, tell) in some {
                        let _ = tell.send(Err(error.clone()));
                    }
                }
                // One bad quote spoils it for all: each asks alone.
                Err(error) => log::info!("{}: {error}", self.url()),
            }
        }
    }
}
