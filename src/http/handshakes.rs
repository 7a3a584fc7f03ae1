//! TLS handshakes. One costs us far more work than the client that asks for it, and one thread does that work and all
//! I/O: so their bytes, their number and their share of that thread's time are bounded, for each kind of client apart.

use super::crowd::{ConnectionHolder, ConnectionPlace, Crowd};
use super::wire::{TappedTcp, Wire, SHAKING, TLS, UNSENT};
use litemap::LiteMap;
use rustls::ServerConfig;
use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Handshakes of one station that are under way at a time; browsers open six connections.
const AT_ONCE: usize = 8;
/// The same of a tunnel or proxy, behind which everybody is.
const AT_ONCE_HOUSE: usize = 64;
/// A lane's work may take this part of the time, in the long run.
const SHARE: u32 = 4;
/// How far it may be ahead of that: many guests come at once.
const AHEAD: Duration = Duration::from_millis(200);

/// All handshakes that are under way.
#[derive(Default)]
pub struct Handshakes {
    /// One lane each for strangers, customers, and the house.
    lanes: [Lane; 3],
    under_way: Mutex<LiteMap<ConnectionHolder, usize>>,
}

impl Handshakes {
    /// The connection after its handshake. `None` if that fails, or if there is no room.
    pub async fn shake(
        &self,
        stream: TcpStream,
        server: Arc<ServerConfig>,
        crowd: &Crowd,
        place: &Arc<ConnectionPlace>,
        waiting: usize,
    ) -> Option<Wire> {
        // A client that says nothing costs no more than without TLS.
        stream.readable().await.ok()?;
        let _one = self.begin(place.holder())?;
        if !place.costs(SHAKING) {
            return None;
        }
        let tapped = TappedTcp::new(stream, place.clone());
        let acceptor = TlsAcceptor::from(server);
        let mut accept = pin!(acceptor.accept_with(tapped, |tls| tls.set_buffer_limit(Some(UNSENT))));
        let lane = self.lane(crowd, place.holder());
        let stream = loop {
            let turn = poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx)));
            match lane.take_turn(turn).await {
                Poll::Ready(Ok(stream)) => break stream,
                Poll::Ready(Err(err)) => {
                    log::debug!("a TLS handshake has failed: {err}");
                    return None;
                }
                Poll::Pending => woken().await,
            }
        };
        place.costs(waiting.saturating_add(TLS)).then(|| Wire::Tls(Box::new(stream)))
    }

    fn lane(&self, crowd: &Crowd, holder: ConnectionHolder) -> &Lane {
        let [strangers, customers, house] = &self.lanes;
        match holder {
            ConnectionHolder::House(_) => house,
            _ if crowd.is_customer(holder) => customers,
            _ => strangers,
        }
    }

    /// One more handshake of this station, until the result is dropped; `None` if it has too many.
    fn begin(&self, holder: ConnectionHolder) -> Option<UnderWay<'_>> {
        let most = match holder {
            ConnectionHolder::House(_) => AT_ONCE_HOUSE,
            ConnectionHolder::Mac(_) | ConnectionHolder::Address(_) => AT_ONCE,
        };
        let mut under_way = self.under_way();
        let count = under_way.get(&holder).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        under_way.insert(holder, count.saturating_add(1));
        Some(UnderWay { all: self, holder })
    }

    fn under_way(&self) -> MutexGuard<'_, LiteMap<ConnectionHolder, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct UnderWay<'a> {
    all: &'a Handshakes,
    holder: ConnectionHolder,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way();
        match under_way.get(&self.holder).copied().unwrap_or_default() {
            0 | 1 => drop(under_way.remove(&self.holder)),
            count => drop(under_way.insert(self.holder, count.saturating_sub(1))),
        }
    }
}

/// Handshakes that are worked at one after the other, in the order in which they have something to do.
#[derive(Default)]
struct Lane(tokio::sync::Mutex<Option<Instant>>);

impl Lane {
    /// Does a piece of work when it is its turn, and the lane has not used up its share.
    async fn take_turn<T>(&self, work: impl Future<Output = T>) -> T {
        let mut paid_until = self.0.lock().await;
        let begun = Instant::now();
        let paid = paid_until.unwrap_or(begun).max(begun);
        tokio::time::sleep_until(paid.checked_sub(AHEAD).unwrap_or(begun)).await;
        let begun = Instant::now();
        let done = work.await;
        *paid_until = Some(paid + begun.elapsed().saturating_mul(SHARE));
        done
    }
}

/// Returns when this task is woken again.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
        false => Poll::Pending,
        true => Poll::Ready(()),
    })
    .await;
}

#[cfg(test)]
mod tests;
