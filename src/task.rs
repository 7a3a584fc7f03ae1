//! Work that goes on beside the caller. It is boxed, so that the scheduler's code around our many kinds of work exists
//! once: on MIPS that is 2 kB for every kind.

use crate::correlation;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use tokio::task::JoinHandle;

/// A result that has lost its type on the way.
pub type AnyResult = Box<dyn Any + Send>;

/// The work was stopped before its end: the daemon is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Starts work whose result is not needed.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
    tokio::spawn(work)
}

/// Starts work at once; it goes on to its end whether or not its result is awaited. What it says belongs to the request
/// that starts it.
pub fn start<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Result<T, Stopped>> + Send + Unpin {
    let work: Pin<Box<dyn Future<Output = AnyResult> + Send>> =
        Box::pin(async move { Box::new(work.await) as AnyResult });
    let work: Pin<Box<dyn Future<Output = AnyResult> + Send>> = match correlation::current() {
        Some(id) => Box::pin(correlation::within(id, work)),
        None => work,
    };
    let started = tokio::spawn(work);
    Box::pin(async move { started.await.ok().and_then(unpack).ok_or(Stopped) })
}

/// Runs what would hold up all other work (a call that blocks, arithmetic on the curve) on another thread.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stopped> {
    let work: Box<dyn FnOnce() -> AnyResult + Send> = Box::new(move || Box::new(work()) as AnyResult);
    tokio::task::spawn_blocking(work).await.ok().and_then(unpack).ok_or(Stopped)
}

/// The result of work that ended in a `T`.
pub fn unpack<T: 'static>(value: AnyResult) -> Option<T> {
    value.downcast().ok().map(|value| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_nobody_awaits_its_result() {
        let (tell, told) = tokio::sync::oneshot::channel();
        drop(start(async move { tell.send(7).map_err(drop) }));
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_a_request_starts_belongs_to_it() {
        let id = correlation::CorrelationId::make();
        let started = async { start(async { correlation::current() }).await };
        assert_eq!(correlation::within(id.clone(), started).await, Ok(Some(id)));
    }

    #[tokio::test]
    async fn results_come_back_in_their_own_type() {
        assert_eq!(start(async { "seven".to_owned() }).await, Ok("seven".to_owned()));
        assert_eq!(blocking(|| Some(7u8)).await, Ok(Some(7)));
    }
}
