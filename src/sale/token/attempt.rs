//! A token that a page has posted and then looks at: what has become of it so far.
//!
//! Remembered for the MAC that posted it, its latest only, and in memory: what was begun is the wallet's, which
//! brings it to its end, and the store knows the outcome. Only the reason of a refusal is known here alone.

use super::{Buyer, SaleError, TokenEngine};
use crate::config::Venue;
use crate::ecash::wallet::{Refusal, Wallet};
use crate::hex;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::store::{Known, Reference};
use crate::task;
use crate::units::Millis;
use litemap::LiteMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The attempts of at most this many guests are remembered.
const MAX_ATTEMPTS: usize = 64;
/// A longer token is not given back to its form.
const MAX_KEPT: usize = 8 * 1024;
/// For the gate, each time the guest looks.
const GATE_PATIENCE: Duration = Duration::from_millis(500);

/// What has become of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Looked at, or with its mint, for this long.
    Working(Millis),
    /// Sent, and the mint has not said whether it took it. The wallet finds it out by itself.
    Unknown,
    /// Ours, and paid for; the gate is not open yet.
    Opening,
    /// It has become access of this guest, which may be over by now.
    Granted,
    /// Why not, and the token as it was posted, as far as that is remembered.
    NotPaid(SaleError, String),
    /// Nothing is known of it.
    Never,
}

pub(super) type Attempts = LiteMap<MacAddr, Attempt>;

#[derive(Clone)]
pub(super) struct Attempt {
    id: String,
    token: String,
    begun: Millis,
    /// `None` as long as it goes on.
    outcome: watch::Receiver<Option<Result<(), SaleError>>>,
}

impl TokenEngine {
    /// Begins to turn a token into access, unless that is being done for this guest already; answers the id to
    /// look at it by. Refuses at once what is no token.
    pub fn begin(&self, buyer: Buyer, token: &str) -> Result<String, SaleError> {
        let id = id_of(&Wallet::reference(token)?);
        let mac = buyer.mac;
        let mut attempts = self.attempts();
        if attempts.get(&mac).is_some_and(|same| same.id == id && same.outcome.borrow().is_none()) {
            return Ok(id);
        }
        if attempts.len() >= MAX_ATTEMPTS {
            let oldest = attempts.iter().min_by_key(|(_, attempt)| attempt.begun).map(|(mac, _)| *mac);
            oldest.map(|mac| attempts.remove(&mac));
        }
        let (teller, outcome) = watch::channel(None);
        let kept = if token.len() <= MAX_KEPT { token } else { "" };
        let attempt =
            Attempt { id: id.clone(), token: kept.to_owned(), begun: self.0.terms.store.now(), outcome };
        attempts.insert(mac, attempt);
        let (engine, token) = (self.clone(), token.to_owned());
        task::spawn(async move {
            let paid = engine.purchase(&buyer, &token).await;
            teller.send_replace(Some(paid.map(drop)));
        });
        Ok(id)
    }

    /// What has become of the token of an id, for the guest that posted it; waits for its end for at most `patience`.
    pub async fn receipt(&self, caller: &Caller, venue: &Venue, id: &str, patience: Duration) -> Receipt {
        let mac = caller.mac;
        let attempt = self.attempts().get(&mac).filter(|attempt| attempt.id == id).cloned();
        let mut token = String::new();
        let mut was_unknown = false;
        if let Some(mut attempt) = attempt {
            let _ = timeout(patience, attempt.outcome.wait_for(Option::is_some)).await;
            let outcome = attempt.outcome.borrow().clone();
            token = attempt.token;
            match outcome {
                None => return Receipt::Working(self.0.terms.store.now().saturating_sub(attempt.begun)),
                Some(Ok(())) => return Receipt::Granted,
                Some(Err(SaleError::TokenUnclear | SaleError::TokenInFlight | SaleError::GrantPending)) => {
                    was_unknown = true
                }
                Some(Err(why)) => return Receipt::NotPaid(why, token),
            }
        }
        let Some(hash) = hex::decode(id) else { return Receipt::Never };
        match self.0.terms.store.op_known(Reference::Token(hash)).await {
            Ok(Some(Known::Done { session: Some(row), .. })) if row.mac == mac && row.venue == venue.id => {
                match timeout(GATE_PATIENCE, self.0.terms.access.admit(row)).await {
                    Ok(_) => Receipt::Granted,
                    Err(_) => Receipt::Opening,
                }
            }
            Ok(Some(Known::Done { .. })) => Receipt::NotPaid(Refusal::Spent.into(), token),
            Ok(Some(Known::Failed { result })) => {
                let is_spent = result.is_some_and(|why| why == Refusal::Spent.to_string());
                let why = if is_spent { Refusal::Spent } else { Refusal::MintRefuses };
                Receipt::NotPaid(why.into(), token)
            }
            Ok(None) if !was_unknown => Receipt::Never,
            Ok(Some(Known::Open(_)) | None) | Err(_) => Receipt::Unknown,
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a page looks at a token by.
fn id_of(reference: &Reference) -> String {
    match reference {
        Reference::Token(hash) => hex::encode(hash),
        other => other.to_string(),
    }
}
