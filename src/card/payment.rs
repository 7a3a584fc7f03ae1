//! A payment from its reservation to its end: reserve -> commit -> send -> paid or proven failed.
//!
//! It runs in a task of its own, so that a till that goes away changes nothing. The store knows each step
//! before the next begins: what is `reserved` was never sent, what is `sent` is looked up, also after a power
//! cut, until the backend says what became of it. A backend that never took it on is followed by the next of the
//! configuration, which is noted first; one that may have it is the only one that is ever asked.

use super::{lock, Cards};
use crate::lightning::{Backend, BackendAnswer, Outcome, PaymentOrder, PaymentRef};
use crate::store::{NewPayment, OpenPayment, ReserveResult, StoreError, TapId};
use crate::task;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Paid,
    Failed,
}

/// How fast things go.
#[derive(Clone, Copy)]
pub struct PaymentPace {
    /// A till gets its answer within this, and has it within 4 s: some give up after 5.
    pub patience: Duration,
    /// Backends end their calls themselves; this is for one that does not.
    pub pay: Duration,
    pub lookup: Duration,
    /// Between lookups: at first, and at most.
    pub first: Duration,
    pub slowest: Duration,
}

impl PaymentPace {
    pub const USUAL: PaymentPace = PaymentPace {
        patience: Duration::from_millis(3500),
        pay: Duration::from_secs(90),
        lookup: Duration::from_secs(15),
        first: Duration::from_millis(500),
        slowest: Duration::from_secs(30),
    };
}

/// What became of the wish to pay.
pub enum Taking {
    On(watch::Receiver<Option<End>>),
    Not(ReserveResult),
    /// The store did not answer; nothing was sent.
    Unclear,
}

impl Cards {
    /// Reserves a payment, which names the first of these backends, and pays it, whether or not the caller stays to hear of it.
    pub async fn take_on(&self, payment: NewPayment, backends: Vec<Backend>) -> Taking {
        let (tell, told) = oneshot::channel();
        let cards = self.clone();
        task::spawn(async move { cards.pay(payment, backends, tell).await });
        told.await.unwrap_or(Taking::Unclear)
    }

    async fn pay(self, payment: NewPayment, backends: Vec<Backend>, tell: oneshot::Sender<Taking>) {
        let order = PaymentOrder {
            invoice: payment.invoice.clone(),
            payment_hash: payment.payment_hash,
            amount: payment.amount,
            fee_limit: payment.fee_limit,
        };
        let (due, backend) = (payment.due, payment.backend);
        let id = match self.0.store.reserve(payment).await {
            Ok(ReserveResult::Reserved(id)) => id,
            Ok(refused) => {
                let _ = tell.send(Taking::Not(refused));
                return;
            }
            Err(err) => {
                log::error!("card: a payment cannot be reserved: {err}");
                let _ = tell.send(Taking::Unclear);
                return;
            }
        };
        let mut open = OpenPayment {
            id,
            invoice: order.invoice.clone(),
            payment_hash: order.payment_hash,
            due,
            backend,
            reference: None,
        };
        let (tell_end, end) = watch::channel(None);
        lock(&self.0.open).insert(id, end.clone());
        let _ = tell.send(Taking::On(end));
        if !matches!(self.0.store.payment_sent(id).await, Ok(true)) {
            log::error!("card: payment {id} is not sent, as that cannot be noted first");
            self.never_sent(id).await;
            return self.ended(id, &tell_end, End::Failed);
        }
        let answer = self.hand_over(&mut open, order, backends).await;
        self.follow(open, Some(answer), &tell_end).await;
    }

    /// Gives a payment to one backend after the other, until one of them may have taken it on.
    async fn hand_over(
        &self,
        open: &mut OpenPayment,
        mut order: PaymentOrder,
        backends: Vec<Backend>,
    ) -> BackendAnswer {
        let mut refused = BackendAnswer::refused("no backend");
        for backend in backends {
            if backend.id != open.backend {
                let passed =
                    self.0.store.payment_passed_on(open.id, open.backend, backend.id, backend.fee_limit);
                if !matches!(passed.await, Ok(true)) {
                    log::error!("card: payment {}: that another backend gets it cannot be noted", open.id);
                    return refused;
                }
                (open.backend, order.fee_limit) = (backend.id, backend.fee_limit);
            }
            let paying = tokio::time::timeout(self.0.pace.pay, backend.node.pay(&order));
            let answer = paying.await.unwrap_or_else(|_| BackendAnswer::unknown("no answer in time"));
            let Outcome::Refused(why) = &answer.outcome else { return answer };
            log::info!("card: payment {} is not taken on by {}: {why}", open.id, backend.kind.as_str());
            refused = answer;
        }
        refused
    }

    /// A payment of an earlier run that was sent and has no end.
    pub(super) fn take_up(&self, payment: OpenPayment) {
        let (tell, end) = watch::channel(None);
        lock(&self.0.open).insert(payment.id, end);
        let cards = self.clone();
        task::spawn(async move { cards.follow(payment, None, &tell).await });
    }

    /// Looks a payment up until it has an end.
    async fn follow(
        &self,
        mut payment: OpenPayment,
        mut answer: Option<BackendAnswer>,
        tell: &watch::Sender<Option<End>>,
    ) {
        let mut wait = self.0.pace.first;
        loop {
            let heard = match answer.take() {
                Some(answer) => answer,
                None => self.look_up(&payment).await,
            };
            match self.resolve(&mut payment, heard).await {
                Ok(Some(end)) => return self.ended(payment.id, tell, end),
                Ok(None) => {}
                Err(StoreError::Closed) => return,
                Err(err) => log::error!("card: payment {}: its end is not written: {err}", payment.id),
            }
            // Look once more at the very moment from which a backend that knows nothing of the payment proves that
            // nothing was sent.
            let left = payment.due.saturating_sub(self.0.store.now()).as_duration();
            tokio::time::sleep(if left.is_zero() { wait } else { wait.min(left) }).await;
            wait = wait.saturating_mul(2).min(self.0.pace.slowest);
        }
    }

    async fn look_up(&self, payment: &OpenPayment) -> BackendAnswer {
        let node = match self.0.backends.of(payment.backend).await {
            Ok(node) => node,
            Err(why) => return BackendAnswer::unknown(why),
        };
        let Ok(_permit) = self.0.lookups.acquire().await else { return BackendAnswer::unknown("stopping") };
        let reference = PaymentRef {
            invoice: payment.invoice.clone(),
            payment_hash: payment.payment_hash,
            reference: payment.reference.clone(),
        };
        let looking = tokio::time::timeout(self.0.pace.lookup, node.lookup(&reference));
        looking.await.unwrap_or_else(|_| BackendAnswer::unknown("no answer in time"))
    }

    /// Writes down what a backend has said, if it is an end.
    async fn resolve(
        &self,
        payment: &mut OpenPayment,
        answer: BackendAnswer,
    ) -> Result<Option<End>, StoreError> {
        let (id, store) = (payment.id, &self.0.store);
        if let Some(name) = answer.reference.filter(|name| payment.reference.as_ref() != Some(name)) {
            store.payment_named(id, name.clone()).await?;
            payment.reference = Some(name);
        }
        match answer.outcome {
            Outcome::Paid { preimage: Some(preimage), .. }
                if <[u8; 32]>::from(Sha256::digest(preimage)) != payment.payment_hash =>
            {
                log::error!("card: payment {id}: the backend says paid, but its preimage is another's");
                Ok(None)
            }
            Outcome::Paid { preimage, fee } => {
                store.payment_paid(id, preimage, fee).await?;
                log::info!("card: payment {id} is paid");
                Ok(Some(End::Paid))
            }
            Outcome::Failed(why) | Outcome::Refused(why) => {
                store.payment_failed(id, why.clone()).await?;
                log::info!("card: payment {id} failed: {why}");
                Ok(Some(End::Failed))
            }
            Outcome::Absent if store.now() >= payment.due => {
                store.payment_failed(id, "never sent".to_owned()).await?;
                log::info!("card: payment {id} was never sent, and its invoice is over");
                Ok(Some(End::Failed))
            }
            Outcome::Absent => {
                log::debug!("card: payment {id}: the backend does not know it");
                Ok(None)
            }
            Outcome::Unknown(why) => {
                log::debug!("card: payment {id} has no end yet: {why}");
                Ok(None)
            }
        }
    }

    /// Releases the money of a payment that did not get beyond its reservation. If that cannot be written now, the next
    /// start does it at the latest.
    async fn never_sent(&self, id: TapId) {
        loop {
            match self.0.store.payment_failed(id, "never sent".to_owned()).await {
                Ok(()) | Err(StoreError::Closed) => return,
                Err(err) => log::error!("card: payment {id} is not released yet: {err}"),
            }
            tokio::time::sleep(self.0.pace.slowest).await;
        }
    }

    fn ended(&self, id: TapId, tell: &watch::Sender<Option<End>>, end: End) {
        lock(&self.0.open).remove(&id);
        tell.send_replace(Some(end));
    }
}
