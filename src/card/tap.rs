//! A tap: `GET /ln?card_id=&p=&c=` (LUD-03).
//!
//! The card is found first, in memory; AES comes after that, and the store only for a tap whose MAC is good and
//! whose counter is new. So thousands of bad taps cost little, change nothing and lock no card.

use super::chip::ChipMessage;
use super::{links, lock, Cards, Reason};
use crate::config;
use crate::hex;
use crate::json::json;
use crate::store::{NewTap, TapResult};
use crate::units::Msats;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

/// The smallest payment (msat): there is no smaller coin on the chain.
pub const MIN_WITHDRAWABLE: u64 = 1000;

/// A tap that counts.
pub struct CountedTap {
    pub k1: [u8; 16],
    /// Its SHA-256.
    pub hashed: [u8; 32],
    /// The card's limit for one payment.
    pub most: Msats,
}

impl Cards {
    /// The withdraw request for a tap, or the reason for the refusal, in time for a till.
    pub async fn tap(&self, card: &str, p: &str, c: &str) -> Result<Value, Reason> {
        let config = self.0.config.borrow().card.clone().ok_or(Reason::NoCards)?;
        let taking = timeout(self.0.pace.patience, self.take(&config, card, p, c));
        let CountedTap { k1, hashed, most } = taking.await.unwrap_or(Err(Reason::NotNow))?;
        let now = self.0.store.now();
        lock(&self.0.recent).add(hashed, now.saturating_add(config.k1_life), now);
        Ok(json!({
            "tag": "withdrawRequest",
            "callback": links::of_callback(&config.domain),
            "k1": hex::encode(&k1),
            "defaultDescription": "Bolt Card",
            "minWithdrawable": MIN_WITHDRAWABLE,
            "maxWithdrawable": most.0,
        }))
    }

    /// The card that a tap is of, if it may pay; the tap is used up, and nothing is paid.
    pub async fn recognise(&self, [card, p, c]: [&str; 3]) -> Result<i64, Reason> {
        let config = self.0.config.borrow().card.clone().ok_or(Reason::NoCards)?;
        let taking = timeout(self.0.pace.patience, self.take(&config, card, p, c));
        match taking.await.unwrap_or(Err(Reason::NotNow)) {
            // A limit is for paying.
            Ok(_) | Err(Reason::NoLimit) => card.parse().map_err(|_| Reason::Unreadable),
            Err(reason) => Err(reason),
        }
    }

    /// Checks a tap and uses its counter up.
    pub(super) async fn take(
        &self,
        config: &config::Card,
        card: &str,
        p: &str,
        c: &str,
    ) -> Result<CountedTap, Reason> {
        let card: i64 = card.parse().map_err(|_| Reason::Unreadable)?;
        let message = ChipMessage::parse(p, c).ok_or(Reason::Unreadable)?;
        let (owner, tapped) = {
            let deck = lock(&self.0.deck);
            let hand = deck.get(card).ok_or(Reason::Unreadable)?;
            (hand.owner, hand.open(&message).ok_or(Reason::Unreadable)?)
        };
        let mut k1 = [0u8; 16];
        getrandom::fill(&mut k1).map_err(|_| Reason::NotNow)?;
        let hashed: [u8; 32] = Sha256::digest(k1).into();
        let tap = NewTap {
            owner,
            uid: hex::encode(&tapped.uid),
            counter: tapped.counter,
            k1: hashed,
            life: config.k1_life,
        };
        let taken = self.0.store.tap(tap).await.map_err(|err| {
            log::error!("card {card}: a tap cannot be taken: {err}");
            Reason::NotNow
        })?;
        let tx_max = match taken {
            TapResult::Refused => return Err(Reason::Unreadable),
            TapResult::Disabled => {
                lock(&self.0.deck).note(owner, &tapped);
                return Err(Reason::Disabled);
            }
            TapResult::Accepted { tx_max } => tx_max,
        };
        lock(&self.0.deck).note(owner, &tapped);
        let most = tx_max.to_msats().filter(|most| most.0 >= MIN_WITHDRAWABLE).ok_or(Reason::NoLimit)?;
        log::info!("card {card}: tapped, counter {}", tapped.counter);
        Ok(CountedTap { k1, hashed, most })
    }
}
