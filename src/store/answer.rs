//! What the store is asked for, as a value to be awaited.
//!
//! There are some 250 kinds of work, and each would be a state machine of its own; so the waiting is compiled once for all
//! of them, and only its last step knows the type of the answer.

use super::database::{work_result, Piece};
use super::{Answer, Asker, Job, StoreError};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{ready, Context, Poll};
use tokio::sync::oneshot;

/// A write or a read. It is queued when it is first waited for, and done from then on, even if nobody waits any longer.
#[must_use = "nothing is asked before it is awaited"]
pub struct StoreAnswer<T> {
    waiting: AnyAnswer,
    answer: PhantomData<fn() -> T>,
}

/// The same without the type of the answer.
pub(super) enum AnyAnswer {
    Unasked(mpsc::Sender<Job>, Option<Piece<'static>>),
    Coming(oneshot::Receiver<Answer>),
}

impl AnyAnswer {
    pub fn typed<T>(self) -> StoreAnswer<T> {
        StoreAnswer { waiting: self, answer: PhantomData }
    }

    /// `Closed` where the store has gone without an answer.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Answer> {
        if let AnyAnswer::Unasked(jobs, piece) = self {
            let (tell, told) = oneshot::channel();
            if let Some(piece) = piece.take() {
                // Where the store is closed the job is dropped, and with it what would tell the answer.
                let _ = jobs.send(Job::Do(piece, Asker::Waits(tell)));
            }
            *self = AnyAnswer::Coming(told);
        }
        match self {
            AnyAnswer::Coming(told) => {
                let told = ready!(Pin::new(told).poll(context));
                Poll::Ready(told.unwrap_or(Err(StoreError::Closed)))
            }
            AnyAnswer::Unasked(..) => Poll::Ready(Err(StoreError::Closed)),
        }
    }
}

impl<T: 'static> Future for StoreAnswer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.waiting.poll(context).map(|answer| work_result(answer?))
    }
}
