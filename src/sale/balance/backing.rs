//! What the books owe to accounts is there as ecash of the balances: what is missing is moved from the takings. That is journalled
//! twice, as a token that is sent and as one that is received, and each of the two counts once.

use super::Balances;
use crate::config::MintUrl;
use crate::ecash::wallet::{Received, Refusal, Wallet};
use crate::hex;
use crate::task;
use crate::units::Sats;

/// The names of such tokens.
const BACKING: &str = "backing:";
/// Rounds of one go.
const ROUNDS: usize = 4;

impl Balances {
    /// Moves what is missing, in the background.
    pub fn back_soon(&self) {
        let balances = self.clone();
        task::spawn(async move { balances.back().await });
    }

    /// Moves what is missing.
    pub async fn back(&self) {
        let _one = self.0.backing.lock().await;
        for _ in 0..ROUNDS {
            match self.back_some().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    log::warn!("balances: not backed by ecash of their own yet: {why}");
                    return;
                }
            }
        }
    }

    /// Whether something was moved.
    async fn back_some(&self) -> Result<bool, String> {
        let (store, takings) = (&self.0.terms.store, &self.0.takings);
        let under_way = takings.sent_under(BACKING).await.map_err(|error| error.to_string())?;
        let purse = match store.has_balances().await.map_err(|error| error.to_string())? {
            false if under_way.is_empty() => return Ok(false),
            _ => self.purse().await.map_err(|error| error.to_string())?.clone(),
        };
        for sent in under_way {
            self.take_in(&purse, sent.id, &sent.token, &sent.mint).await?;
        }
        let missing = store.missing_backing().await.map_err(|error| error.to_string())?;
        if missing == Sats(0) {
            return Ok(false);
        }
        let (mint, amount) = self.source(missing).await?;
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|_| "no randomness".to_owned())?;
        let name = format!("{BACKING}{}", hex::encode(&random));
        let sent = takings.send_for(Some((&name, None)), amount, Some(&mint), false).await;
        let sent = sent.map_err(|error| error.of_sending().to_string())?;
        self.take_in(&purse, sent.id, &sent.token, &sent.mint).await?;
        Ok(true)
    }

    /// A mint where the takings have that much and what receiving it costs.
    async fn source(&self, missing: Sats) -> Result<(MintUrl, Sats), String> {
        for held in self.0.takings.balances().await.map_err(|error| error.to_string())? {
            let fee = self.spending_fee(&held.mint).await.map_err(|error| error.to_string())?;
            let amount = Sats(missing.0.saturating_add(fee.0));
            if held.free.number >= amount.0 {
                return Ok((held.mint, amount));
            }
        }
        Err(format!("the takings have no {missing} sat at one mint"))
    }

    async fn take_in(&self, purse: &Wallet, id: i64, token: &str, mint: &MintUrl) -> Result<(), String> {
        let offer = purse.assess(token, std::slice::from_ref(mint)).await;
        let received = match offer {
            Ok(offer) => purse.receive(offer, None).await,
            Err(refusal) => Received::Refused(refusal),
        };
        match received {
            Received::Done { net, .. } => log::info!("balances: {net} sat moved from the takings"),
            Received::Refused(Refusal::Spent) => {
                log::error!("balances: ecash on its way was spent by others")
            }
            Received::Refused(refusal) => return Err(refusal.to_string()),
            Received::Unknown | Received::InFlight => {
                return Err("what is on its way is not here yet".to_owned())
            }
        }
        self.0.terms.store.op_done(id, None, None).await.map(drop).map_err(|error| error.to_string())
    }
}
