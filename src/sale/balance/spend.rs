//! Spending a balance: an invoice is paid, or a token is given out. Each once, by a name: an invoice's is its payment hash, a
//! token's the key that its caller sends. A payment may have a name of its caller's beside.

use super::{BalanceError, Balances};
use crate::bolt11::Invoice;
use crate::config::MintUrl;
use crate::ecash::wallet::{MeltOffer, Melted, Wallet};
use crate::hex;
use crate::json::json;
use crate::store::{BalanceMove, BookAccount, MoveState, NewMove, Reserved, StoreError};
use crate::task;
use crate::units::{Msats, Sats};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::sync::oneshot;

const SEND: &str = "send";
const TOKEN: &str = "token";
/// Payments of one invoice that may fail before it is refused.
const MOST_ATTEMPTS: u32 = 20;
/// How long the caller of a payment waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a payment that is not over.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long to wait for ecash that is on its way.
const BACKED_SOON: Duration = Duration::from_secs(8);
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// Of the amount, what a payment may cost in fees; and what it may cost in any case (sat).
const FEE_PART: u64 = 50;
const FEE_LEAST: u64 = 10;

/// What became of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidInvoice {
    pub state: PaidState,
    pub payment_hash: String,
    pub amount: Sats,
    /// Above the amount.
    pub fee: Sats,
}

/// What a caller knows a payment by.
struct PaymentName {
    asked: String,
    /// What is wanted under it.
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaidState {
    Pending,
    Succeeded,
    Failed,
}

impl PaidState {
    pub fn as_str(self) -> &'static str {
        match self {
            PaidState::Pending => "PENDING",
            PaidState::Succeeded => "SUCCEEDED",
            PaidState::Failed => "FAILED",
        }
    }
}

impl Balances {
    /// Pays an invoice, once: one that is under way or paid is answered with its outcome.
    pub async fn pay(&self, account: &str, invoice: &str) -> Result<PaidInvoice, BalanceError> {
        self.pay_as(account, invoice, None).await
    }

    /// Pays an invoice under an id of the account's, for good: what comes under the id again is answered with what became of it,
    /// also where that is nothing. `said`: what else was asked, and may not be another.
    pub async fn pay_once(
        &self,
        account: &str,
        (id, said): (&str, &str),
        invoice: &str,
    ) -> Result<PaidInvoice, BalanceError> {
        let said = hex::encode(&Sha256::digest(format!("{said}\0{invoice}")));
        let name = PaymentName { asked: asked_by(account, id)?, said };
        match self.0.terms.store.payment_asked(account.to_owned(), name.asked.clone()).await? {
            Some(known) => known_to(account, Some(&name), &known),
            None => self.pay_as(account, invoice, Some(name)).await,
        }
    }

    /// What became of a payment under an id of the account's.
    pub async fn paid_once(&self, account: &str, id: &str) -> Result<Option<PaidInvoice>, BalanceError> {
        let known = self.0.terms.store.payment_asked(account.to_owned(), asked_by(account, id)?).await?;
        Ok(known.map(|known| paid(&known)))
    }

    async fn pay_as(
        &self,
        account: &str,
        invoice: &str,
        name: Option<PaymentName>,
    ) -> Result<PaidInvoice, BalanceError> {
        let asked = read(invoice)?;
        let hash = hex::encode(&asked.payment_hash());
        let reference = match self.free_name(&format!("{SEND}:{hash}")).await? {
            Ok(reference) => reference,
            Err(known) => return known_to(account, name.as_ref(), &known),
        };
        let store = &self.0.terms.store;
        let (now, expires) = (store.wall(), asked.expires_at());
        if store.wall_is_plausible() && now >= expires {
            return Err(BalanceError::BadInvoice("it is over"));
        }
        let amount = asked.amount().ok_or(BalanceError::BadInvoice("it names no amount"))?;
        let (free, _) = self.of(account).await?;
        if free < amount {
            return Err(BalanceError::TooLittle(free));
        }
        let purse = self.purse().await?.clone();
        let offer = self.offer(&purse, invoice, Sats(amount.0.div_ceil(1000))).await?;
        let most = offer.amount.checked_add(offer.fee_limit).and_then(Sats::to_msats);
        let mut detail = json!({"payment_hash": hash, "sats": offer.amount.0});
        if let Some(name) = &name {
            detail["said"] = name.said.as_str().into();
        }
        let new = NewMove {
            account: account.to_owned(),
            reference: reference.clone(),
            kind: SEND,
            amount: most.ok_or(BalanceError::BadAmount)?,
            detail: detail.to_string(),
        };
        match self.reserve(new, name.as_ref().map(|name| name.asked.clone())).await? {
            Reserved::Known(known) => return known_to(account, name.as_ref(), &known),
            Reserved::TooLittle(free) => return Err(BalanceError::TooLittle(free)),
            Reserved::DayLimit => return Err(BalanceError::DayLimit),
            Reserved::New(_) => {}
        }
        let (tell, told) = oneshot::channel();
        let (balances, sent) = (self.clone(), reference.clone());
        task::spawn(async move {
            let melted = purse.melt(&offer, &sent).await;
            let is_over = balances.melted(&sent, offer.amount, &melted).await;
            let _ = tell.send(());
            if !is_over {
                balances.follow(&purse, &sent, offer.amount).await;
            }
        });
        let _ = tokio::time::timeout(PATIENCE, told).await;
        let known = self.0.terms.store.balance_move(reference).await?;
        known.map(|known| paid(&known)).ok_or(BalanceError::Closed("GONE"))
    }

    /// A token over this amount. `key`: the same again is the same token, as long as nobody has taken it.
    pub async fn token(
        &self,
        account: &str,
        amount: Sats,
        key: Option<&str>,
    ) -> Result<String, BalanceError> {
        let sent = amount.to_msats().filter(|amount| amount.0 > 0).ok_or(BalanceError::BadAmount)?;
        let name = format!("{TOKEN}:{}", named(account, key)?);
        let purse = self.purse().await?.clone();
        let reference = match self.free_name(&name).await? {
            Ok(reference) => reference,
            Err(known) => return self.token_again(&purse, &known, amount).await,
        };
        let (free, _) = self.of(account).await?;
        if free < sent {
            return Err(BalanceError::TooLittle(free));
        }
        let mint = self.mint_with(&purse, amount).await?;
        let fee = self.spending_fee(&mint).await?;
        let cost = amount.checked_add(fee).and_then(Sats::to_msats).ok_or(BalanceError::BadAmount)?;
        let new = NewMove {
            account: account.to_owned(),
            reference: reference.clone(),
            kind: TOKEN,
            amount: cost,
            detail: json!({"sats": amount.0}).to_string(),
        };
        match self.reserve(new, None).await? {
            Reserved::Known(known) => return self.token_again(&purse, &known, amount).await,
            Reserved::TooLittle(free) => return Err(BalanceError::TooLittle(free)),
            Reserved::DayLimit => return Err(BalanceError::DayLimit),
            Reserved::New(_) => {}
        }
        let balances = self.clone();
        // It is settled or given back, if its caller goes away.
        let sending = task::start(async move {
            let sent = purse.send_for(Some((&reference, Some(cost))), amount, Some(&mint), false).await;
            match sent {
                Ok(sent) => Ok(sent.token),
                Err(error) => {
                    balances.give_back(&reference).await;
                    Err(BalanceError::from(error.of_sending()))
                }
            }
        });
        sending.await.map_err(|_| BalanceError::Closed("STOPPING"))?
    }

    /// The token that a change gave out, if nobody has taken it.
    pub async fn token_of(&self, change: &BalanceMove) -> Option<String> {
        if change.kind != TOKEN || change.state != MoveState::Done {
            return None;
        }
        let purse = self.purse().await.ok()?;
        purse.sent_for(&change.reference).await.ok()?.map(|sent| sent.token)
    }

    async fn token_again(
        &self,
        purse: &Wallet,
        known: &BalanceMove,
        amount: Sats,
    ) -> Result<String, BalanceError> {
        if sats_of(known) != Some(amount) {
            return Err(BalanceError::OtherQuestion);
        }
        match known.state {
            MoveState::Held => Err(BalanceError::NotNow("it is being made".to_owned())),
            _ => match purse.sent_for(&known.reference).await? {
                Some(sent) => Ok(sent.token),
                None => Err(BalanceError::TokenTaken),
            },
        }
    }

    async fn reserve(&self, new: NewMove, asked: Option<String>) -> Result<Reserved, BalanceError> {
        let day_max = self.0.terms.config().wallet.day_max.to_msats().unwrap_or(Msats(u64::MAX));
        Ok(self.0.terms.store.reserve_balance(new, asked, Some(day_max)).await?)
    }

    /// A name that was not used yet; or the change under it that took place, or is under way.
    async fn free_name(&self, name: &str) -> Result<Result<String, BalanceMove>, BalanceError> {
        for attempt in 0..MOST_ATTEMPTS {
            let reference = format!("{name}:{attempt}");
            match self.0.terms.store.balance_move(reference.clone()).await? {
                None => return Ok(Ok(reference)),
                Some(known) if known.state != MoveState::Returned => return Ok(Err(known)),
                Some(_) => {}
            }
        }
        Err(BalanceError::NotNow("it has failed too often".to_owned()))
    }

    /// What a mint that holds enough wants for paying an invoice.
    async fn offer(&self, purse: &Wallet, invoice: &str, amount: Sats) -> Result<MeltOffer, BalanceError> {
        let mint = self.mint_with(purse, amount).await?;
        let limit = (amount.0 / FEE_PART).max(FEE_LEAST);
        let mut offer = purse.melt_quote(&mint, invoice, limit.saturating_mul(1000)).await?;
        let fee = self.spending_fee(&mint).await?;
        offer.fee_limit = offer.fee_reserve.checked_add(fee).ok_or(BalanceError::BadAmount)?;
        Ok(offer)
    }

    /// The mint that holds most of the balances' ecash. What is on its way from the takings is waited for.
    async fn mint_with(&self, purse: &Wallet, amount: Sats) -> Result<MintUrl, BalanceError> {
        match self.mint_with_now(purse, amount).await {
            Err(BalanceError::NotNow(_)) => {
                let balances = self.clone();
                let backing = task::start(async move { balances.back().await });
                let _ = tokio::time::timeout(BACKED_SOON, backing).await;
                self.mint_with_now(purse, amount).await
            }
            found => found,
        }
    }

    async fn mint_with_now(&self, purse: &Wallet, amount: Sats) -> Result<MintUrl, BalanceError> {
        let mut best: Option<(u64, MintUrl)> = None;
        for held in purse.balances().await? {
            let all = held.free.number.saturating_add(held.held.number);
            if best.as_ref().is_none_or(|(most, _)| all > *most) {
                best = Some((all, held.mint));
            }
        }
        let enough = best.filter(|(most, _)| *most >= amount.0);
        enough.map(|(_, mint)| mint).ok_or_else(|| {
            BalanceError::NotNow("no mint holds that much of the balances' ecash at one place".to_owned())
        })
    }

    /// Writes down what became of a payment. False: that is not known yet.
    async fn melted(&self, name: &str, amount: Sats, melted: &Melted) -> bool {
        match melted {
            Melted::Unknown => return false,
            Melted::Failed(why) => {
                log::info!("balances: a payment of {amount} sat has failed: {why}");
                self.give_back(name).await;
            }
            Melted::Paid { fee, .. } => {
                let cost = amount.checked_add(*fee).and_then(Sats::to_msats).unwrap_or(Msats(u64::MAX >> 1));
                let store = &self.0.terms.store;
                while let Err(error) =
                    store.settle_balance(name.to_owned(), cost, BookAccount::Lightning).await
                {
                    log::error!("balances: paid, but not stored yet: {error}");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
        true
    }

    async fn give_back(&self, name: &str) {
        while let Err(error) = self.0.terms.store.give_balance_back(name.to_owned()).await {
            log::error!("balances: not given back yet: {error}");
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    /// Looks at a payment until its outcome is known.
    async fn follow(&self, purse: &Wallet, name: &str, amount: Sats) {
        let mut pause = LOOKS.0;
        loop {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LOOKS.1);
            let melted = match purse.melted(name).await {
                Ok(Some(melted)) => melted,
                // It was never begun.
                Ok(None) => Melted::Failed("it was not sent".to_owned()),
                Err(error) => {
                    log::error!("balances: {error}");
                    continue;
                }
            };
            if self.melted(name, amount, &melted).await {
                return;
            }
        }
    }

    /// Takes up what was reserved before this start. A token that was given out was settled in the same commit.
    pub(super) async fn resume(&self, purse: &Wallet) -> Result<(), StoreError> {
        for held in self.0.terms.store.held_moves(&[SEND, TOKEN]).await? {
            if held.kind == TOKEN {
                self.give_back(&held.reference).await;
                continue;
            }
            let amount =
                sats_of(&held).ok_or_else(|| StoreError::Corrupt("a balance's change".to_owned()))?;
            let (balances, purse) = (self.clone(), purse.clone());
            task::spawn(async move { balances.follow(&purse, &held.reference, amount).await });
        }
        Ok(())
    }
}

fn read(invoice: &str) -> Result<Invoice, BalanceError> {
    Invoice::parse(invoice.trim()).map_err(|_| BalanceError::BadInvoice("it cannot be read"))
}

/// What a key of a caller's is known by: the same key of another account is another one.
fn named(account: &str, key: Option<&str>) -> Result<String, BalanceError> {
    let mut random = [0u8; 32];
    let key = match key {
        Some(key) => key.as_bytes(),
        None => {
            getrandom::fill(&mut random).map_err(|_| StoreError::NoRandomness)?;
            &random
        }
    };
    let hash = Sha256::new().chain_update(account).chain_update("\0").chain_update(key).finalize();
    Ok(hex::encode(&hash))
}

/// What a payment is known by under its caller's id: never what a token is.
fn asked_by(account: &str, id: &str) -> Result<String, BalanceError> {
    named(account, Some(&format!("payment {id}")))
}

/// What became of a payment, for the account that has asked for it, and in the words in which it has.
fn known_to(
    account: &str,
    name: Option<&PaymentName>,
    known: &BalanceMove,
) -> Result<PaidInvoice, BalanceError> {
    let detail = detail_of(known);
    match name {
        _ if known.account != account => Err(BalanceError::InvoiceTaken),
        Some(name) if known.asked.as_ref() != Some(&name.asked) => Err(BalanceError::InvoiceTaken),
        Some(name) if detail["said"] != name.said => Err(BalanceError::OtherQuestion),
        _ => Ok(paid(known)),
    }
}

fn paid(known: &BalanceMove) -> PaidInvoice {
    let (state, cost) = match known.state {
        MoveState::Held => (PaidState::Pending, known.amount),
        MoveState::Done => (PaidState::Succeeded, known.cost),
        MoveState::Returned => (PaidState::Failed, Msats(0)),
    };
    let amount = sats_of(known).unwrap_or_default();
    let fee = Sats((cost.0 / 1000).saturating_sub(amount.0));
    let payment_hash = detail_of(known)["payment_hash"].as_str().unwrap_or_default().to_owned();
    PaidInvoice { state, payment_hash, amount, fee }
}

fn sats_of(change: &BalanceMove) -> Option<Sats> {
    detail_of(change)["sats"].as_u64().map(Sats)
}

fn detail_of(change: &BalanceMove) -> Value {
    serde_json::from_str(&change.detail).unwrap_or_default()
}

/// How much of a change is not its fee.
pub fn amount_of(change: &BalanceMove) -> Sats {
    sats_of(change).unwrap_or(Sats(change.amount.0 / 1000))
}
