//! Having a mint pay an invoice with our ecash (NUT-05, NUT-08).
//!
//! A payment is journaled under a name of its caller's and made once under that name. Its outcome is paid, proven not
//! paid, or not known, and then the mint is asked until it is one of the other two. What was sent and neither paid
//! nor refused is sent again for a minute; then its proofs are traded for others, after which it cannot happen.

use super::exchange::{points, prepare, total, Exchange};
use super::own::{proof_states, sum, WalletError};
use super::receive::{takings, NewsReceiver, Received, Teller};
use super::{Refusal, Wallet};
use crate::bolt11::Invoice;
use crate::config::MintUrl;
use crate::ecash::error::{EcashError, Lie};
use crate::ecash::mint::{Mint, Urgency};
use crate::ecash::outputs::{Outputs, Proof};
use crate::ecash::retry::{self, LEAST_PAUSE};
use crate::ecash::wire::spending::{MeltQuote, MeltState};
use crate::ecash::wire::{ProofState, QuoteId};
use crate::json::json;
use crate::store::{
    Begun, Known, NewOp, OpKind, OpRow, OpState, ProofKey, ProofRow, PurseName, Reference, StoreError,
};
use crate::units::{Millis, Sats};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long a payment that the mint does not know of is sent again.
const SEND_AGAIN: Millis = Millis::from_secs(60);
/// Change that the mint does not hand out is asked for at most this often; later `restore` finds it.
const CHANGE_ATTEMPTS: usize = 8;
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// How long to wait for ecash that other payments hold, and how often to look for it.
const FREE_SOON: Duration = Duration::from_secs(6);
const FREE_AGAIN: Duration = Duration::from_millis(150);

/// What a mint wants for paying an invoice.
#[derive(Clone, Debug)]
pub struct MeltOffer {
    pub mint: MintUrl,
    pub quote: QuoteId,
    pub amount: Sats,
    pub fee_reserve: Sats,
    /// What the payment may cost above `amount`, the mint's fee for the proofs included.
    pub fee_limit: Sats,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Melted {
    /// `preimage`: 64 hex digits, where the mint gave it. `fee`: all that it cost above the amount.
    Paid {
        preimage: Option<String>,
        fee: Sats,
    },
    /// Proven: it was not paid, and cannot be any more.
    Failed(String),
    Unknown,
}

/// A payment under way.
struct Payment {
    op: OpRow,
    mint: Mint,
    quote: QuoteId,
    rows: Vec<ProofRow>,
    inputs: Arc<Vec<Proof>>,
    blanks: Option<Arc<Outputs>>,
    /// It may have been sent, and no answer told its outcome.
    unclear: bool,
    /// The mint has tried to pay.
    was_tried: bool,
    /// The mint's refusal of the only request that was made.
    refused: Option<EcashError>,
    seems_lost: bool,
}

enum Step {
    Ended(Received),
    Again(String),
}

impl Wallet {
    /// Asks a mint what paying this invoice would cost. Refuses an invoice without amount, a quote over another
    /// amount, and a fee reserve above the limit (millisatoshis).
    pub async fn melt_quote(
        &self,
        mint: &MintUrl,
        invoice: &str,
        fee_limit_msat: u64,
    ) -> Result<MeltOffer, WalletError> {
        let asked = Invoice::parse(invoice).map_err(|err| WalletError::Mint(err.to_string()))?;
        let asked = asked.amount().ok_or(WalletError::Mint("the invoice names no amount".to_owned()))?;
        let at = self.0.mints.get(mint);
        let quote = at.melt_quote(invoice.to_owned(), Urgency::Guest).await?;
        if quote.amount != Sats(asked.0.div_ceil(1000)) {
            return Err(EcashError::from(Lie::QuoteAmount).into());
        }
        let fee_limit = Sats(fee_limit_msat / 1000);
        if quote.fee_reserve > fee_limit {
            return Err(WalletError::FeeTooHigh(quote.fee_reserve));
        }
        let MeltQuote { id, amount, fee_reserve, .. } = quote;
        Ok(MeltOffer { mint: mint.clone(), quote: id, amount, fee_reserve, fee_limit })
    }

    /// Asks a mint whether it pays invoices from sat ecash.
    pub async fn pays_invoices(&self, mint: &MintUrl) -> Result<bool, WalletError> {
        let mint = self.0.mints.get(mint);
        mint.probe().await?;
        Ok(mint.info(Urgency::Guest).await?.melting)
    }

    /// Has an invoice paid, once for this name. Answers within about eight seconds; `Unknown` is found out by itself
    /// and can be asked for with [`Wallet::melted`]. The same name again is answered with the outcome.
    pub async fn melt(&self, offer: &MeltOffer, name: &str) -> Melted {
        match self.begin_patiently(offer, name).await {
            Ok(Some(news)) => {
                self.wait_for(news, true).await;
            }
            Ok(None) => {}
            // Nothing was sent.
            Err(err) => return Melted::Failed(err.to_string()),
        }
        match self.melted(name).await {
            Ok(Some(melted)) => melted,
            _ => Melted::Unknown,
        }
    }

    /// Accounts share the ecash of the balances: what one's payment holds for a moment, another's waits for.
    async fn begin_patiently(
        &self,
        offer: &MeltOffer,
        name: &str,
    ) -> Result<Option<NewsReceiver>, WalletError> {
        let give_up = tokio::time::Instant::now() + FREE_SOON;
        loop {
            match self.begin_melt(offer, name).await {
                Err(WalletError::Insufficient(_))
                    if self.0.purse == PurseName::Balances && tokio::time::Instant::now() < give_up =>
                {
                    tokio::time::sleep(FREE_AGAIN).await;
                }
                begun => return begun,
            }
        }
    }

    /// The outcome of a payment. `None` if none was ever begun under this name. The mint is soon asked about one that
    /// is not over.
    pub async fn melted(&self, name: &str) -> Result<Option<Melted>, StoreError> {
        let known = self.0.store.op_known(reference(name)).await?;
        Ok(known.map(|known| match known {
            Known::Open(op) => {
                self.running().get(&format!("op:{}", op.id)).inspect(|running| running.wake.notify_one());
                Melted::Unknown
            }
            Known::Done { result, .. } => {
                let result: Value = serde_json::from_str(&result.unwrap_or_default()).unwrap_or_default();
                let preimage = result["preimage"].as_str().map(str::to_owned);
                Melted::Paid { preimage, fee: Sats(result["fee"].as_u64().unwrap_or_default()) }
            }
            Known::Failed { result } => Melted::Failed(result.unwrap_or_default()),
        }))
    }

    /// Journals the payment and sets it going; returns `None` if it was begun before.
    async fn begin_melt(&self, offer: &MeltOffer, name: &str) -> Result<Option<NewsReceiver>, WalletError> {
        if self.0.store.op_known(reference(name)).await?.is_some() {
            return Ok(None);
        }
        let _alone = self.0.spending.lock().await;
        let needed = offer.amount.checked_add(offer.fee_reserve).unwrap_or(Sats(u64::MAX));
        let (purse, rows) = loop {
            let purse = self.purse(&offer.mint).await?;
            match purse.at_least(needed) {
                Some(rows) => break (purse, rows),
                None => self.join_towards(&purse, needed).await?,
            }
        };
        let cost = offer.fee_reserve.checked_add(purse.fee(&rows)).unwrap_or(Sats(u64::MAX));
        if cost > offer.fee_limit {
            return Err(WalletError::FeeTooHigh(cost));
        }
        let keyset = purse.mint.active_keyset(Urgency::Guest).await?;
        // All that is not paid for may come back, not only what is left of the reserve.
        let most_change = purse.net(&rows).0.saturating_sub(offer.amount.0);
        let blanks =
            usize::try_from(u64::BITS.saturating_sub(most_change.leading_zeros())).unwrap_or_default();
        let begun = self
            .0
            .store
            .op_begin(NewOp {
                reference: Some(reference(name)),
                spends: rows.iter().map(|row| row.key).collect(),
                keeps: self.kept(&offer.mint).await?,
                outputs: (blanks > 0).then(|| (keyset.id().to_string(), vec![0; blanks])),
                quote: Some(offer.quote.as_str().to_owned()),
                ..NewOp::new(OpKind::Melt, self.0.purse, offer.mint.clone(), offer.amount)
            })
            .await?;
        Ok(match begun {
            Begun::New(op) => Some(self.launch_melt(op, rows, false)),
            Begun::Known(_) => None,
            Begun::Full => return Err(WalletError::Mint("too many payments are under way".to_owned())),
        })
    }

    /// Takes up a payment from before this start.
    pub(super) async fn resume_melt(&self, op: OpRow) -> Result<(), StoreError> {
        let rows = self.0.store.held_proofs(op.id).await?;
        self.launch_melt(op, rows, true);
        Ok(())
    }

    fn launch_melt(&self, op: OpRow, rows: Vec<ProofRow>, resumed: bool) -> NewsReceiver {
        let (name, mint, wallet) = (format!("op:{}", op.id), op.mint.clone(), self.clone());
        self.launch(&mut self.running(), name, mint, |teller| async move {
            match wallet.payment(op, rows, resumed).await {
                Ok(mut payment) => wallet.bring_payment_about(&mut payment, &teller).await,
                Err(err) => {
                    // Nothing was sent; the next start tries again.
                    log::error!("wallet: {err}");
                    Received::Unknown
                }
            }
        })
    }

    async fn payment(&self, op: OpRow, rows: Vec<ProofRow>, unclear: bool) -> Result<Payment, EcashError> {
        let quote = op.quote.as_deref().and_then(QuoteId::parse).ok_or(EcashError::QuoteUnknown)?;
        let inputs = Arc::new(self.derive(&rows).await?);
        let blanks = match op.outputs.iter().find(|outputs| is_blank(outputs)) {
            Some(blanks) => Some(prepare(self.0.seed.clone(), blanks).await?),
            None => None,
        };
        let mint = self.0.mints.get(&op.mint);
        Ok(Payment {
            op,
            mint,
            quote,
            rows,
            inputs,
            blanks,
            unclear,
            was_tried: false,
            refused: None,
            seems_lost: false,
        })
    }

    async fn bring_payment_about(&self, payment: &mut Payment, teller: &Teller) -> Received {
        let mut attempts = 0usize;
        loop {
            match self.step(payment, teller).await {
                Step::Ended(received) => return received,
                Step::Again(why) => log::warn!("wallet: {}: a payment is not over: {why}", payment.op.mint),
            }
            let pause = retry::pause(attempts);
            attempts = attempts.saturating_add(1);
            teller.tell(Some(pause));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = async { teller.wake.notified().await; tokio::time::sleep(LEAST_PAUSE).await } => {}
            }
            teller.tell(None);
        }
    }

    async fn step(&self, payment: &mut Payment, teller: &Teller) -> Step {
        if !payment.unclear {
            return self.pay(payment).await;
        }
        let quote = match payment.mint.melt_state(&payment.quote, Urgency::Guest).await {
            Ok(quote) => quote,
            Err(err) => return Step::Again(err.to_string()),
        };
        match quote.state {
            MeltState::Paid => self.paid(payment, &quote).await,
            MeltState::Pending => {
                payment.was_tried = true;
                Step::Again("the mint is paying".to_owned())
            }
            MeltState::Unpaid => self.unpaid(payment, teller).await,
        }
    }

    async fn pay(&self, payment: &mut Payment) -> Step {
        let (inputs, blanks) = (payment.inputs.clone(), payment.blanks.clone());
        match payment.mint.melt(&payment.quote, inputs, blanks, Urgency::Guest).await {
            Ok(quote) if quote.state == MeltState::Paid => return self.paid(payment, &quote).await,
            Ok(quote) if quote.state == MeltState::Pending => {
                payment.was_tried = true;
                // The one request that was made has arrived: should the mint call it unpaid, it has failed.
                payment.refused = (!payment.unclear).then_some(EcashError::PaymentFailed);
            }
            Ok(_) => payment.refused = Some(EcashError::PaymentFailed),
            Err(err @ (EcashError::Unreachable(_) | EcashError::Busy)) if !payment.unclear => {
                return self.failed(payment, Vec::new(), &err.to_string()).await;
            }
            // A mint that refuses to pay twice says so too: what counts is what it says of the quote.
            Err(err) if !err.outcome_unknown() && !payment.unclear => payment.refused = Some(err),
            Err(_) => payment.refused = None,
        }
        payment.unclear = true;
        Step::Again("it was sent".to_owned())
    }

    /// The mint has not paid. Whether it still can depends on the proofs.
    async fn unpaid(&self, payment: &mut Payment, teller: &Teller) -> Step {
        let asked = match points(payment.inputs.clone()).await {
            Ok(ys) => proof_states(&payment.mint, ys, Urgency::Guest).await,
            Err(err) => Err(err),
        };
        let states = match asked {
            Ok(states) => states,
            Err(err) => return Step::Again(err.to_string()),
        };
        if states.contains(&ProofState::Pending) {
            return Step::Again("the mint holds the proofs".to_owned());
        }
        let spent = payment.rows.iter().zip(&states).filter(|(_, state)| **state == ProofState::Spent);
        let spent: Vec<ProofKey> = spent.map(|(row, _)| row.key).collect();
        if payment.op.state == OpState::Cancelling {
            return self.trade_away(payment, teller).await;
        }
        if spent.is_empty() {
            payment.seems_lost = false;
            return match payment.refused.take() {
                Some(refused) => self.failed(payment, Vec::new(), &refused.to_string()).await,
                None if !payment.was_tried && self.age(payment) < SEND_AGAIN => self.pay(payment).await,
                None => self.cancel(payment, teller).await,
            };
        }
        // Spent elsewhere: the payment cannot be made any more. Two looks, as the quote may lag behind the proofs.
        match std::mem::replace(&mut payment.seems_lost, true) {
            true => self.failed(payment, spent, "its ecash was spent elsewhere").await,
            false => Step::Again("its ecash is spent".to_owned()),
        }
    }

    fn age(&self, payment: &Payment) -> Millis {
        self.0.store.now().saturating_sub(payment.op.created)
    }

    /// Journals the trade that makes the payment impossible, and tries it.
    async fn cancel(&self, payment: &mut Payment, teller: &Teller) -> Step {
        let purse = match self.purse(&payment.op.mint).await {
            Ok(purse) => purse,
            Err(err) => return Step::Again(err.to_string()),
        };
        let (net, active) = (purse.net(&payment.rows), payment.mint.active_keyset(Urgency::Guest).await);
        let keyset = match active {
            Ok(keyset) => keyset,
            Err(err) => return Step::Again(err.to_string()),
        };
        let Some(amounts) = keyset.split(net) else { return Step::Again("nothing would be left".to_owned()) };
        let amounts = amounts.iter().map(|amount| amount.0).collect();
        match self.0.store.op_cancel(payment.op.id, keyset.id().to_string(), amounts).await {
            Ok(outputs) => {
                payment.op.state = OpState::Cancelling;
                payment.op.outputs.push(outputs);
                self.trade_away(payment, teller).await
            }
            Err(err) => Step::Again(err.to_string()),
        }
    }

    async fn trade_away(&self, payment: &mut Payment, teller: &Teller) -> Step {
        let mut op = payment.op.clone();
        op.outputs.retain(|outputs| !is_blank(outputs));
        let first = op
            .outputs
            .first()
            .map(|outputs| outputs.amounts.iter().fold(0, |a, b| u64::saturating_add(a, *b)));
        op.amount = Sats(first.unwrap_or_default());
        let inputs = payment.inputs.as_ref().clone();
        let mut swap = Exchange::resumed(op, payment.mint.clone(), inputs, self.0.store.now());
        let waits = |pause| teller.tell(pause);
        let outcome = self.bring_about(&mut swap, Urgency::Guest, &teller.wake, waits).await;
        payment.op.outputs.retain(is_blank);
        payment.op.outputs.append(&mut swap.op.outputs);
        match outcome {
            Ok(proofs) => {
                let came = takings(&payment.op.mint, &proofs);
                let why = "it was not paid in time".to_owned();
                while let Err(err) = self.0.store.op_cancelled(payment.op.id, came.clone(), why.clone()).await
                {
                    log::error!("wallet: taken back, but not stored yet: {err}");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                Step::Ended(Received::Refused(Refusal::MintRefuses))
            }
            // The payment was faster, or another wallet was: the quote tells.
            Err(Refusal::Spent) if !std::mem::replace(&mut payment.seems_lost, true) => {
                Step::Again("its ecash is spent".to_owned())
            }
            Err(Refusal::Spent) => {
                let spent = self.spent_of(&payment.mint, &payment.inputs, &payment.rows).await;
                self.failed(payment, spent, "its ecash was spent elsewhere").await
            }
            Err(refusal) => Step::Again(refusal.to_string()),
        }
    }

    async fn paid(&self, payment: &Payment, quote: &MeltQuote) -> Step {
        let change = self.change(payment, quote).await;
        let came = total(&change);
        let cost = sum(&payment.rows).0.saturating_sub(payment.op.amount.0);
        let fee = cost.saturating_sub(came.0);
        let result = json!({"preimage": quote.preimage, "fee": fee}).to_string();
        let came = takings(&payment.op.mint, &change);
        while let Err(err) =
            self.0.store.op_done(payment.op.id, Some(came.clone()), Some(result.clone())).await
        {
            log::error!("wallet: paid, but not stored yet: {err}");
            tokio::time::sleep(STORE_PAUSE).await;
        }
        log::info!("wallet: {} paid {} sat for {fee} sat", payment.op.mint, payment.op.amount);
        Step::Ended(Received::Done { net: payment.op.amount, session: None })
    }

    /// The change of a payment: from the answer, or from what the mint remembers to have signed. It is everything
    /// except the mint's fees, so a mint that hands out less is asked again.
    async fn change(&self, payment: &Payment, quote: &MeltQuote) -> Vec<Proof> {
        let Some(blanks) = &payment.blanks else { return Vec::new() };
        let due = match self.purse(&payment.op.mint).await {
            Ok(purse) => purse.net(&payment.rows).0.saturating_sub(payment.op.amount.0),
            Err(_) => 0,
        };
        let due = due.saturating_sub(quote.fee_reserve.0);
        let is_all = |change: &Vec<Proof>| !change.is_empty() && total(change).0 >= due;
        let mut most = Vec::new();
        for attempt in 0..CHANGE_ATTEMPTS {
            let told = payment.mint.change(quote, blanks.clone(), Urgency::Guest).await;
            let change = match told {
                Ok(change) if is_all(&change) => Ok(change),
                _ => payment.mint.restore(blanks.clone(), Urgency::Guest).await,
            };
            match change {
                Ok(change) if is_all(&change) || due == 0 => return change,
                Ok(change) if total(&change) > total(&most) => most = change,
                Ok(_) => {}
                Err(err) => log::warn!("wallet: {}: no change yet: {err}", payment.op.mint),
            }
            tokio::time::sleep(retry::pause(attempt)).await;
        }
        log::error!(
            "wallet: {} keeps back change: {due} sat were due at least; 'wallet restore' may find it later",
            payment.op.mint
        );
        most
    }

    async fn failed(&self, payment: &Payment, spent: Vec<ProofKey>, why: &str) -> Step {
        log::warn!("wallet: {} did not pay {} sat: {why}", payment.op.mint, payment.op.amount);
        self.give_up(payment.op.id, spent, why).await;
        Step::Ended(Received::Refused(Refusal::MintRefuses))
    }
}

fn is_blank(outputs: &crate::store::OutputsRow) -> bool {
    outputs.amounts.iter().all(|amount| *amount == 0)
}

fn reference(name: &str) -> Reference {
    Reference::Melt(name.to_owned())
}
