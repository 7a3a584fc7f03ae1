//! Ecash in, a session out: the token engine.
//!
//! Everything that can be refused is refused while the token is still the guest's. From then on it is the wallet's:
//! it brings the token to its end whether or not a caller waits, and grants what it buys in the same commit. What is
//! told meanwhile says what became of the money; the same token again is answered with the outcome.

mod attempt;

pub use attempt::Receipt;

use super::{Retry, SaleError, Terms, TokenFault};
use crate::access::Session;
use crate::config::{MintUrl, Venue};
use crate::ecash::wallet::{Payer, Received, Refusal, TokenFrom, TokenOffer, Wallet};
use crate::ecash::GUEST_PATIENCE;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::pace::Pace;
use crate::store::{NewGrant, OfflineLimits, Ticket};
use crate::task;
use crate::units::Millis;
use attempt::Attempts;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// For the gate, once the money is here. It opens by itself later.
const GATE_PATIENCE: Duration = Duration::from_secs(4);
const POSTS_A_MINUTE: usize = 40;
const REFUSALS_A_MINUTE: usize = 10;
const MINUTE: Millis = Millis::from_secs(60);

/// Sells for ecash; clones share everything.
#[derive(Clone)]
pub struct TokenEngine(Arc<SharedTokens>);

struct SharedTokens {
    terms: Terms,
    wallet: Wallet,
    pace: Mutex<PaymentPace>,
    attempts: Mutex<Attempts>,
}

/// How many payments a client may post a minute, and how many of them may be refused.
struct PaymentPace {
    posts: Pace,
    refusals: Pace,
}

/// The guest that pays, and the venue.
#[derive(Clone)]
pub struct Buyer {
    pub venue: Venue,
    pub mac: MacAddr,
    /// Where the buyer is; unknown for one that a program on this router asks for.
    pub caller: Option<Caller>,
}

impl TokenEngine {
    pub fn new(terms: Terms, wallet: Wallet) -> TokenEngine {
        let pace = PaymentPace {
            posts: Pace::new(POSTS_A_MINUTE, MINUTE),
            refusals: Pace::new(REFUSALS_A_MINUTE, MINUTE),
        };
        TokenEngine(Arc::new(SharedTokens {
            terms,
            wallet,
            pace: Mutex::new(pace),
            attempts: Mutex::default(),
        }))
    }

    /// Counts one more payment of this client, or says how long until it may post one; to be refused costs nothing.
    pub fn may_pay(&self, mac: MacAddr) -> Result<(), Millis> {
        let now = self.0.terms.store.now();
        let mut pace = self.pace();
        let wait = pace.refusals.wait(mac, now).max(pace.posts.wait(mac, now));
        match wait == Millis::ZERO && pace.posts.admit(mac, now) {
            true => Ok(()),
            false => Err(wait),
        }
    }

    /// Turns a token into access: the session, and the ticket to keep where this payment has made it. What was begun
    /// goes on when the caller stops waiting, and the same token again is answered with the outcome.
    pub async fn purchase(&self, buyer: &Buyer, token: &str) -> Result<(Session, Option<Ticket>), SaleError> {
        let paid = self.exchange(buyer, token).await;
        if let Err(why) = &paid {
            log::info!("{}: payment not turned into access: {}: {why}", buyer.mac, why.code());
            if is_costly(why) {
                self.pace().refusals.admit(buyer.mac, self.0.terms.store.now());
            }
        }
        paid
    }

    async fn exchange(&self, buyer: &Buyer, token: &str) -> Result<(Session, Option<Ticket>), SaleError> {
        let deadline = Instant::now() + GUEST_PATIENCE;
        let Buyer { venue, mac, .. } = buyer;
        let config = self.0.terms.config();
        let accepted: Vec<MintUrl> = config.mints_of(venue).map(|mint| mint.url.clone()).collect();
        let payer = match self.0.terms.access.is_customer(*mac) {
            true => Payer::Known,
            false => Payer::Stranger,
        };
        let offline =
            Some(OfflineLimits { token: config.voucher.offline_max, total: config.voucher.offline_total });
        let from = TokenFrom { payer, venue: Some(&venue.id), offline };
        let assessed =
            tokio::time::timeout_at(deadline, self.0.wallet.assess_from(token, &accepted, from)).await;
        let offer = assessed.unwrap_or_else(|_| {
            self.0.wallet.kept_a_guest_waiting(token);
            Err(Refusal::MintAway)
        })?;
        let grant = match offer.is_known {
            true => None,
            false => Some(self.grant_for(buyer, &offer).await?),
        };
        let (wallet, access) = (self.0.wallet.clone(), self.0.terms.access.clone());
        // Goes on even if the client's connection breaks.
        let receiving = task::start(async move {
            let received = wallet.receive(offer, grant).await;
            let admitted = match &received {
                Received::Done { session: Some(row), .. } => {
                    let row = row.clone();
                    Some(task::start(async move { access.admit(row).await }))
                }
                _ => None,
            };
            (received, admitted)
        });
        let (received, admitted) = match tokio::time::timeout_at(deadline, receiving).await {
            Ok(Ok(received)) => received,
            Ok(Err(_)) => return Err(SaleError::TokenUnclear),
            Err(_) => {
                self.0.wallet.kept_a_guest_waiting(token);
                return Err(SaleError::TokenUnclear);
            }
        };
        let row = match received {
            // It opens nothing at another venue than the one where it was taken.
            Received::Done { session: Some(row), .. } if row.mac == *mac && row.venue == venue.id => row,
            Received::Done { .. } => return Err(Refusal::Spent.into()),
            Received::Refused(refusal) => return Err(refusal.into()),
            Received::Unknown => return Err(SaleError::TokenUnclear),
            Received::InFlight => return Err(SaleError::TokenInFlight),
        };
        let gate = deadline.min(Instant::now() + GATE_PATIENCE);
        let Some(admitted) = admitted else { return Err(SaleError::GrantPending) };
        match tokio::time::timeout_at(gate, admitted).await {
            Ok(Ok(session)) if session.is_running() => {
                log::info!("{mac} is online with {} {}", row.allotment.0, row.metric.as_str());
                Ok((session, row.into_row().ticket))
            }
            // It was posted again after its session.
            Ok(Ok(_)) => Err(Refusal::Spent.into()),
            Ok(Err(_)) | Err(_) => Err(SaleError::GrantPending),
        }
    }

    /// What an offer buys; refuses it where that could not be honoured.
    async fn grant_for(&self, buyer: &Buyer, offer: &TokenOffer) -> Result<NewGrant, SaleError> {
        let terms = &self.0.terms;
        terms.may_sell(buyer.venue.metric)?;
        let deal = terms.deal(&buyer.venue, &offer.mint, offer.net);
        let deal = deal.map_err(|error| error.after_fee(offer.fee))?;
        if let Some(caller) = buyer.caller.clone() {
            Terms::seems_alone(caller).await?;
        }
        Ok(deal.grant(offer.reference.clone(), buyer.mac))
    }

    fn pace(&self) -> MutexGuard<'_, PaymentPace> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mint was asked, and the flash written to, for nothing.
fn is_costly(why: &SaleError) -> bool {
    why.retry() == Retry::Useless && why.token_fault() != Some(TokenFault::Unreadable)
}
