//! A backend for tests that does as it is told and notes what it was asked.

use crate::lightning::{BackendAnswer, Call, Lightning, Outcome, PaymentOrder, PaymentRef, Report};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Pays everything, unless a script says otherwise.
#[derive(Clone, Default)]
pub struct Scripted(Arc<State>);

#[derive(Default)]
struct State {
    /// Payment hashes, in the order of the calls.
    paid: Mutex<Vec<[u8; 32]>>,
    looked_up: Mutex<Vec<[u8; 32]>>,
    /// What the next calls are answered; after that `Paid` without a preimage.
    payments: Mutex<VecDeque<Step>>,
    lookups: Mutex<VecDeque<BackendAnswer>>,
    go_on: Notify,
}

#[derive(Clone)]
pub enum Step {
    Answer(BackendAnswer),
    /// Answers when `go_on` is called.
    Hang(BackendAnswer),
}

impl Scripted {
    pub fn next_payment(&self, step: Step) {
        self.0.payments.lock().unwrap().push_back(step);
    }

    pub fn next_lookup(&self, outcome: Outcome) {
        self.0.lookups.lock().unwrap().push_back(outcome.into());
    }

    pub fn go_on(&self) {
        self.0.go_on.notify_one();
    }

    pub fn payments(&self) -> Vec<[u8; 32]> {
        self.0.paid.lock().unwrap().clone()
    }

    pub fn lookups(&self) -> Vec<[u8; 32]> {
        self.0.looked_up.lock().unwrap().clone()
    }
}

impl Lightning for Scripted {
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer> {
        Box::pin(async {
            self.0.paid.lock().unwrap().push(order.payment_hash);
            let step = self.0.payments.lock().unwrap().pop_front();
            match step {
                None => BackendAnswer::paid(None, None),
                Some(Step::Answer(answer)) => answer,
                Some(Step::Hang(answer)) => {
                    self.0.go_on.notified().await;
                    answer
                }
            }
        })
    }

    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer> {
        Box::pin(async {
            self.0.looked_up.lock().unwrap().push(payment.payment_hash);
            let answer = self.0.lookups.lock().unwrap().pop_front();
            answer.unwrap_or_else(|| BackendAnswer::unknown("nothing new"))
        })
    }

    fn test(&self) -> Call<'_, Report> {
        Box::pin(async { Report::default() })
    }
}
