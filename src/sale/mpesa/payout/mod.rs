//! Paying out: shillings to a phone, airtime, a bill, of what an account has. Refused: what is switched off, what is not a
//! phone number, an amount that nobody pays, and everything while payouts are stopped.
//!
//! Journal, reserve, send, hear, one commit of balance and books. A payout has one id at Daraja, the same at every try. An answer
//! that was lost is never a failure: the payout is sent again under its id, or asked about, until its result is known; only a
//! result that is final gives the money back.

mod error;
mod follow;
mod heard;
mod sold;
mod times;

pub use error::PayoutError;
pub(super) use heard::ToldFunds;

use super::plan::OrderPace;
use super::{digits, pace_of, MpesaEngine};
use crate::config::fiat::MOST_KES;
use crate::config::{Config, FiatConfig};
use crate::fiat::{Phone, Quote};
use crate::hex;
use crate::sale::balance::BalanceError;
use crate::store::{
    NewPayout, OpenedPayout, PaidBy, PayoutEnd, PayoutKind, PayoutRow, PayoutRules, Secret, StoreError,
};
use crate::units::{Kes, Msats, Sats};
use sha2::{Digest, Sha256};

/// The least that M-Pesa sends to a phone.
pub const LEAST_KES: u64 = 10;
pub const PROVIDERS: [&str; 3] = ["safaricom", "airtel", "telkom"];
const LONGEST_BILL: usize = 13;
/// Ids of payouts begin with it.
pub(super) const MARK: &str = "TP";

/// What an account wants to have paid.
#[derive(Clone, Copy, Debug)]
pub enum PayoutWish<'a> {
    /// This much of what it has, as shillings, to a phone.
    Sell {
        phone: &'a str,
        sold: Sats,
        via: PaidBy,
    },
    Airtime {
        phone: &'a str,
        amount: Kes,
        provider: &'a str,
    },
    /// As much airtime as this pays for.
    AirtimeFor {
        phone: &'a str,
        sold: Sats,
        provider: &'a str,
    },
    Bill {
        paybill: &'a str,
        account: &'a str,
        amount: Kes,
    },
}

impl PayoutWish<'_> {
    pub fn kind(&self) -> PayoutKind {
        match self {
            PayoutWish::Sell { .. } => PayoutKind::Sell,
            PayoutWish::Airtime { .. } | PayoutWish::AirtimeFor { .. } => PayoutKind::Airtime,
            PayoutWish::Bill { .. } => PayoutKind::Bill,
        }
    }
}

impl MpesaEngine {
    /// Opens a payout for an account, which goes on by itself once what pays for it is here. The same question again is answered
    /// with the same payout. `question`: what makes it the same.
    pub async fn open_payout(
        &self,
        account: &str,
        wish: PayoutWish<'_>,
        quote: Quote,
        question: Option<&str>,
    ) -> Result<PayoutRow, PayoutError> {
        self.open_payout_by(account, wish, quote, (question, "")).await
    }

    /// `wallet`: what brings its money.
    async fn open_payout_by(
        &self,
        account: &str,
        wish: PayoutWish<'_>,
        quote: Quote,
        (question, wallet): (Option<&str>, &str),
    ) -> Result<PayoutRow, PayoutError> {
        let config = self.0.terms.config();
        self.may_pay_out(&config, wish.kind())?;
        let (phone, paybill, bill) = addressed(wish)?;
        let (amount, cost) = priced(&config, wish, quote)?;
        let phone_hash = match &phone {
            Some(phone) => self.keyed("phone", phone.expose().as_bytes()).await?,
            None => String::new(),
        };
        let via = if let PayoutWish::Sell { via, .. } = wish { via } else { PaidBy::Balance };
        let number = phone.as_ref().map_or("", Phone::expose);
        let (asked, asks) = match question {
            Some(question) => {
                let amount = match wish {
                    PayoutWish::Sell { sold, .. } => sold.0.to_string(),
                    PayoutWish::AirtimeFor { sold, .. } => format!("{} sat", sold.0),
                    PayoutWish::Airtime { .. } | PayoutWish::Bill { .. } => amount.0.to_string(),
                };
                let said =
                    format!("{}:{}:{number}:{paybill}:{bill}:{amount}", wish.kind().as_str(), via.as_str());
                (hashed(question), self.keyed("question", said.as_bytes()).await?)
            }
            None => Default::default(),
        };
        let new = NewPayout {
            id: digits(MARK).ok_or(StoreError::NoRandomness)?,
            account: account.to_owned(),
            kind: wish.kind(),
            via,
            amount,
            cost,
            rate: quote.rate,
            spread_bp: quote.spread_bp,
            phone: Secret::new(number.as_bytes().to_vec()),
            phone_hash,
            phone_tail: phone.as_ref().map_or("", Phone::tail).to_owned(),
            paybill: paybill.to_owned(),
            bill: bill.to_owned(),
            wallet: wallet.to_owned(),
            originator: originator()?,
            asked,
            question: asks,
        };
        let row = match self.0.terms.store.open_payout(new, self.rules()).await? {
            OpenedPayout::New(row) => row,
            OpenedPayout::Again(row) => return Ok(row),
            OpenedPayout::OtherQuestion => return Err(PayoutError::OtherQuestion),
            OpenedPayout::TooLittle(free) => return Err(BalanceError::TooLittle(free).into()),
            OpenedPayout::DayLimit => return Err(PayoutError::DayLimit),
            OpenedPayout::FloatTooSmall => return Err(PayoutError::FloatTooSmall),
            OpenedPayout::Crowded => return Err(PayoutError::Crowded(self.payout_pace().of(times::CROWDED))),
        };
        log::info!(
            "payout {}: {} of {} KES, paid by {}",
            row.id,
            row.kind.as_str(),
            row.amount,
            row.via.as_str()
        );
        self.follow_payout(&row.id, true);
        Ok(row)
    }

    /// What it costs the account at this rate.
    pub fn cost_of(&self, wish: PayoutWish<'_>, quote: Quote) -> Result<Msats, PayoutError> {
        priced(&self.0.terms.config(), wish, quote).map(|(_, cost)| cost)
    }

    /// Whether this may be paid out now, before anything is looked at.
    pub fn may_pay_out(&self, config: &Config, kind: PayoutKind) -> Result<(), PayoutError> {
        let is_on = |fiat: &&FiatConfig| {
            fiat.operator_licensed
                && match kind {
                    PayoutKind::Sell => fiat.sell,
                    PayoutKind::Airtime => fiat.airtime,
                    PayoutKind::Bill => fiat.bills,
                }
        };
        config.fiat.as_ref().filter(is_on).ok_or(PayoutError::SwitchedOff)?;
        if !self.0.terms.store.wall_is_plausible() {
            return Err(PayoutError::ClockNotSet);
        }
        match self.payouts_paused() {
            Some(_) => Err(PayoutError::Paused),
            None => Ok(()),
        }
    }

    /// Why nothing is paid out until the configuration is read again, or the daemon is started.
    pub fn payouts_paused(&self) -> Option<String> {
        // Forgets what was of an older configuration.
        let _ = self.daraja();
        self.line().paused.clone()
    }

    fn pause_payouts(&self, why: String) {
        log::error!("payouts are stopped until the configuration is read again: {why}");
        self.line().paused = Some(why);
    }

    /// What bounds payouts now; what is at the short code is looked up when it is asked for.
    fn rules(&self) -> impl FnOnce() -> PayoutRules + Send + 'static {
        let (engine, config) = (self.clone(), self.0.terms.config());
        move || PayoutRules {
            day_max: config.fiat.as_ref().map_or(Kes(0), |fiat| fiat.day_max),
            funds: engine.funds(),
            account_day_max: config.wallet.day_max.to_msats(),
        }
    }

    /// What is at the short code, where a result has told it lately.
    fn funds(&self) -> Option<Kes> {
        let now = self.0.terms.store.now();
        let life = self.payout_pace().of(times::FUNDS_LIFE);
        let known = self.line().funds;
        known.filter(|known| known.at.saturating_add(life) > now).map(|known| known.funds)
    }

    fn payout_pace(&self) -> OrderPace {
        self.0.terms.config().mpesa.as_ref().map_or(OrderPace(1), pace_of)
    }

    pub(super) fn follow_payout(&self, id: &str, is_new: bool) {
        let now = self.0.terms.store.now();
        self.table().follow(id, now, is_new);
        self.0.wake.notify_one();
    }
}

/// The phone, or the paybill and whose bill it is there.
fn addressed<'a>(wish: PayoutWish<'a>) -> Result<(Option<Phone>, &'a str, &'a str), PayoutError> {
    let phone = |text: &str| text.parse::<Phone>().map_err(|()| PayoutError::BadPhone);
    match wish {
        PayoutWish::Sell { phone: to, .. } => Ok((Some(phone(to)?), "", "")),
        PayoutWish::Airtime { phone: to, provider, .. }
        | PayoutWish::AirtimeFor { phone: to, provider, .. } => {
            let is_known = PROVIDERS.iter().any(|known| known.eq_ignore_ascii_case(provider));
            match is_known || provider.is_empty() {
                true => Ok((Some(phone(to)?), "", "")),
                false => Err(PayoutError::BadProvider),
            }
        }
        PayoutWish::Bill { paybill, account, .. } => {
            let is_paybill = (5..=7).contains(&paybill.len()) && paybill.bytes().all(|b| b.is_ascii_digit());
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b" -/_.#".contains(&b);
            let is_account = (1..=LONGEST_BILL).contains(&account.len())
                && account.bytes().all(is_plain)
                && account.trim() == account;
            match is_paybill && is_account {
                true => Ok((None, paybill, account)),
                false => Err(PayoutError::BadBill),
            }
        }
    }
}

/// Whole shillings that are paid, and what they cost the account: whole satoshis.
fn priced(config: &Config, wish: PayoutWish<'_>, quote: Quote) -> Result<(Kes, Msats), PayoutError> {
    let least = |wanted: u64| {
        let (least, most) = match (wish.kind(), &config.airtime) {
            (PayoutKind::Sell, _) => (LEAST_KES, MOST_KES),
            (PayoutKind::Airtime, Some(airtime)) => (airtime.min.0, airtime.max.0),
            (PayoutKind::Airtime, None) => return Err(PayoutError::SwitchedOff),
            (PayoutKind::Bill, _) => (1, MOST_KES),
        };
        match (least..=most).contains(&wanted) {
            true => Ok(Kes(wanted)),
            false => Err(PayoutError::BadAmount(Kes(least), Kes(most))),
        }
    };
    let paid_for = |sold: Sats| {
        let paid = sold.to_msats().and_then(|cost| quote.paid_for(cost));
        least(paid.map_or(u64::MAX, |paid| paid.0))
    };
    let amount = match wish {
        PayoutWish::Sell { sold, .. } => {
            return Ok((paid_for(sold)?, sold.to_msats().unwrap_or_default()));
        }
        PayoutWish::AirtimeFor { sold, .. } => paid_for(sold)?,
        PayoutWish::Airtime { amount, .. } | PayoutWish::Bill { amount, .. } => least(amount.0)?,
    };
    let stale = || PayoutError::RateStale("there is no rate that can be used".to_owned());
    Ok((amount, quote.cost_of(amount).ok_or_else(stale)?))
}

fn hashed(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes()))
}

/// Ours at Daraja, for good: other routers have others.
fn originator() -> Result<String, StoreError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
    Ok(format!("tg-{}", hex::encode(&bytes)))
}
