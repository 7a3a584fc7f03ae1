//! The router's own ecash: a mint that holds enough of it pays the invoice (NUT-05).
//!
//! The wallet puts a payment into its journal, under the payment hash, before anything leaves, and finds out by
//! itself what became of it. So the journal answers every look, and what it does not know was never sent.

use super::call::PAY_TIMEOUT;
use super::proof::plain;
use super::{BackendAnswer, Call, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use crate::bolt11::Invoice;
use crate::config::MintUrl;
use crate::ecash::wallet::{MeltOffer, Melted, Wallet};
use crate::hex;
use crate::set::SortedSet;
use crate::store::Balance;
use crate::task;
use crate::units::{Msats, Sats};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Mints that are asked what a payment would cost.
const MOST_MINTS: usize = 4;
/// A mint that takes longer to name its price is not asked to pay.
const QUOTE_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Clone)]
pub struct Melt {
    wallet: Wallet,
    /// Payment hashes of orders that may not be in the journal yet.
    under_way: Arc<Mutex<SortedSet<[u8; 32]>>>,
}

/// Takes an order off the list when it ends, with any outcome.
struct UnderWay(Arc<Mutex<SortedSet<[u8; 32]>>>, [u8; 32]);

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

impl Melt {
    pub fn new(wallet: Wallet) -> Melt {
        Melt { wallet, under_way: Arc::default() }
    }

    async fn bring_about(&self, order: &PaymentOrder) -> BackendAnswer {
        let name = hex::encode(&order.payment_hash);
        match self.wallet.melted(&name).await {
            Ok(None) => {}
            Ok(Some(melted)) => return answer(melted, &order.payment_hash, &order.invoice),
            // This order has begun nothing. Whether an earlier one has, a look will tell.
            Err(err) => return BackendAnswer::unknown(err.to_string()),
        }
        let mut why = String::new();
        for offer in self.offers(order, &mut why).await {
            let melted = self.wallet.melt(&offer, &name).await;
            match (self.wallet.melted(&name).await, melted) {
                (Ok(Some(melted)), _) => return answer(melted, &order.payment_hash, &order.invoice),
                // Not even begun there: another mint may do.
                (Ok(None), Melted::Failed(cause)) => why = format!("{}: {cause}", offer.mint),
                _ => return BackendAnswer::unknown("the journal cannot be read"),
            }
        }
        BackendAnswer::refused(plain(&why))
    }

    /// What the mints that hold enough would take, the cheapest first. A mint that made the invoice itself takes
    /// nothing.
    async fn offers(&self, order: &PaymentOrder, why: &mut String) -> Vec<MeltOffer> {
        let needed = Sats(order.amount.0.div_ceil(1000));
        let mut mints = match self.funds().await {
            Ok(mints) => mints,
            Err(cause) => {
                *why = cause;
                return Vec::new();
            }
        };
        mints.retain(|(_, free)| *free >= needed);
        mints.truncate(MOST_MINTS);
        if mints.is_empty() {
            *why = format!("no mint holds {needed} sat of ours");
        }
        let asked = mints.iter().map(|(mint, _)| {
            let quote = self.wallet.melt_quote(mint, &order.invoice, order.fee_limit.0);
            timeout(QUOTE_TIMEOUT, quote)
        });
        let mut offers = Vec::new();
        for ((mint, _), quoted) in mints.iter().zip(join_all(asked).await) {
            match quoted {
                Ok(Ok(offer)) => offers.push(offer),
                Ok(Err(err)) => *why = format!("{mint}: {err}"),
                Err(_) => *why = format!("{mint}: no answer in {} s", QUOTE_TIMEOUT.as_secs()),
            }
        }
        offers.sort_by_key(|offer| offer.fee_reserve);
        offers
    }

    /// The mints with money of ours that is free, most first.
    async fn funds(&self) -> Result<Vec<(MintUrl, Sats)>, String> {
        let balances = self.wallet.balances().await.map_err(|err| err.to_string())?;
        let sats = |balance: Balance| Some((balance.mint, Sats::try_from(balance.free).ok()?));
        let mut funds: Vec<_> =
            balances.into_iter().filter_map(sats).filter(|(_, free)| *free > Sats(0)).collect();
        funds.sort_by_key(|(_, free)| Reverse(*free));
        Ok(funds)
    }
}

impl Lightning for Melt {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        let (melt, order) = (self.clone(), order.clone());
        lock(&self.under_way).insert(order.payment_hash);
        let under_way = UnderWay(self.under_way.clone(), order.payment_hash);
        // In a task of its own: a caller that goes away does not leave it half begun.
        let paying = task::start(async move {
            let answer = melt.bring_about(&order).await;
            drop(under_way);
            answer
        });
        Box::pin(async move {
            match timeout(PAY_TIMEOUT, paying).await {
                Ok(Ok(answer)) => answer,
                _ => BackendAnswer::unknown(format!("no answer in {} s", PAY_TIMEOUT.as_secs())),
            }
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async move {
            // Before the journal: what is taken off the list in between is in there.
            let under_way = lock(&self.under_way).contains(&payment.payment_hash);
            match self.wallet.melted(&hex::encode(&payment.payment_hash)).await {
                Ok(Some(melted)) => answer(melted, &payment.payment_hash, &payment.invoice),
                Ok(None) if under_way => BackendAnswer::unknown("a mint is being looked for"),
                Ok(None) => BackendAnswer::failed("never sent"),
                Err(err) => BackendAnswer::unknown(err.to_string()),
            }
        })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async move {
            let funds = match self.funds().await {
                Ok(funds) => funds,
                Err(cause) => return Report::silent(cause),
            };
            if funds.is_empty() {
                let empty = "the wallet holds nothing to pay with: see 'tollgated wallet balance'".to_owned();
                return Report { may_pay: Some(empty), ..Report::default() };
            }
            let asked = funds.iter().map(|(mint, _)| self.wallet.pays_invoices(mint));
            let (mut notes, mut answers, mut may_pay) = (Vec::new(), false, false);
            for ((mint, free), asked) in funds.iter().zip(join_all(asked).await) {
                let verdict = match asked {
                    Ok(true) => "it pays invoices".to_owned(),
                    Ok(false) => "it does not pay invoices".to_owned(),
                    Err(ref err) => plain(&err.to_string()),
                };
                answers |= asked.is_ok();
                may_pay |= asked.is_ok_and(|pays| pays);
                notes.push(format!("{mint} holds {free} sat: {verdict}"));
            }
            Report {
                answers: (!answers).then(|| "no mint that holds our ecash answers".to_owned()),
                may_pay: (!may_pay).then(|| "no mint that holds our ecash pays invoices".to_owned()),
                may_look_up: None,
                notes,
            }
        })
    }
}

/// What the wallet says of a payment. A preimage that is not the invoice's makes no difference to us: the mint has
/// our ecash, and that is the end of it.
fn answer(melted: Melted, payment_hash: &[u8; 32], invoice: &str) -> BackendAnswer {
    match melted {
        Melted::Paid { preimage, fee } => {
            let preimage = preimage.and_then(|text| hex::decode::<32>(&text));
            let own = preimage.filter(|preimage| Sha256::digest(preimage).as_slice() == payment_hash);
            let asked = Invoice::parse(invoice).ok().and_then(|invoice| invoice.amount());
            // Ecash has no millisatoshis: what was paid beyond them is part of the fee.
            let rounded =
                asked.map_or(0, |asked| asked.0.div_ceil(1000).saturating_mul(1000).saturating_sub(asked.0));
            BackendAnswer::paid(own, Some(Msats(fee.0.saturating_mul(1000).saturating_add(rounded))))
        }
        Melted::Failed(why) => BackendAnswer::failed(plain(&why)),
        Melted::Unknown => BackendAnswer::from(Outcome::Unknown("a mint is paying".to_owned())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
