//! One guest connection: counted per station, bounded in size and time, answered by the routes.

use super::answer::Answer;
use super::listeners::Audience;
use super::routes::{self, Ends};
use super::Site;
use crate::mac::MacAddr;
use crate::network::neighbours;
use crate::network::stream::gauged;
use crate::task;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use litemap::LiteMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is not a WebSocket ends after this; a browser opens another one.
const LIFETIME: Duration = Duration::from_secs(60);
const MAX_HEAD: usize = 16 * 1024;
/// At the cards' own listener, from one address.
const MAX_TILLS: usize = 512;
/// All guests together.
const MAX_CONNECTIONS: usize = 4096;
/// Addresses are easily made up, so the last places are for guests who have a session or a request.
const FOR_CUSTOMERS: usize = 1024;
/// From so many on, WebSockets of strangers that say nothing are closed, to let others in.
const CROWDED: usize = 2048;

/// Bytes of a head that any connection may send, and of the unfinished heads of all together: who wants to send a longer
/// one must find the room for it.
const SHORT_HEAD: usize = 2 * 1024;
const UNFINISHED_HEADS: usize = 2 * 1024 * 1024;

/// Who a connection counts for: the station, or its address while the station is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Station {
    Mac(MacAddr),
    Address(IpAddr),
}

/// How many connections each station has open.
#[derive(Default)]
pub struct Connections {
    open: LiteMap<Station, usize>,
    total: usize,
    unfinished_heads: Arc<AtomicUsize>,
}

impl Connections {
    /// Serves a new connection in a task of its own, or drops it when its station has too many.
    pub fn serve(stream: TcpStream, peer: SocketAddr, site: &Arc<Site>, audience: &Audience) {
        let address = neighbours::normalise(peer.ip());
        let station = match audience.device().map(|device| site.neighbours.identify(device, address)) {
            Some(Ok(caller)) => Station::Mac(caller.mac),
            _ => Station::Address(address),
        };
        let limit = match audience {
            // All tills come through one tunnel or proxy.
            Audience::Card => MAX_TILLS,
            _ => site.config().main.guest_connections,
        };
        let is_customer = || match station {
            Station::Mac(mac) => site.is_customer(mac),
            Station::Address(_) => matches!(audience, Audience::Card),
        };
        let Some(place) = Place::take(&site.connections, station, limit, is_customer) else {
            log::debug!("{address} has too many connections open");
            return;
        };
        let (site, audience) = (site.clone(), audience.clone());
        let head = Arc::new(Head::of_all(place.unfinished_heads.clone()));
        task::spawn(converse(stream, address, site, audience, Arc::new(place), head));
    }

    pub fn total(&self) -> usize {
        self.total
    }

    pub fn is_crowded(&self) -> bool {
        self.total >= CROWDED
    }

    /// Whether a station with so many open may open one more.
    fn has_room(&self, open: usize, limit: usize, is_customer: impl FnOnce() -> bool) -> bool {
        let for_all = MAX_CONNECTIONS.saturating_sub(FOR_CUSTOMERS);
        open < limit && (self.total < for_all || (self.total < MAX_CONNECTIONS && is_customer()))
    }
}

/// A connection's place in the count; given back when dropped. Requests carry it, so that a connection that
/// becomes a WebSocket keeps it.
pub struct Place {
    connections: Arc<Mutex<Connections>>,
    station: Station,
    unfinished_heads: Arc<AtomicUsize>,
}

impl Place {
    fn take(
        connections: &Arc<Mutex<Connections>>,
        station: Station,
        limit: usize,
        is_customer: impl FnOnce() -> bool,
    ) -> Option<Place> {
        let mut table = connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = table.open.get(&station).copied().unwrap_or(0);
        if !table.has_room(count, limit, is_customer) {
            return None;
        }
        table.open.insert(station, count.saturating_add(1));
        table.total = table.total.saturating_add(1);
        let unfinished_heads = table.unfinished_heads.clone();
        Some(Place { connections: connections.clone(), station, unfinished_heads })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        table.total = table.total.saturating_sub(1);
        let left = table.open.get(&self.station).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            table.open.remove(&self.station);
        } else {
            table.open.insert(self.station, left);
        }
    }
}

/// What has come of the next request's head on one connection.
struct Head {
    of_all: Arc<AtomicUsize>,
    bytes: AtomicUsize,
    /// A request is being answered, or the connection has become a WebSocket: what comes now is no head.
    is_whole: AtomicBool,
}

impl Head {
    fn of_all(of_all: Arc<AtomicUsize>) -> Head {
        Head { of_all, bytes: AtomicUsize::new(0), is_whole: AtomicBool::new(false) }
    }

    /// Whether so many more bytes of it may come.
    fn may_grow(&self, more: usize) -> bool {
        if self.is_whole.load(Ordering::Relaxed) {
            return true;
        }
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let of_all = self.of_all.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        bytes <= SHORT_HEAD || of_all <= UNFINISHED_HEADS
    }

    fn end(&self) {
        self.is_whole.store(true, Ordering::Relaxed);
        self.of_all.fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn begin(&self) {
        self.is_whole.store(false, Ordering::Relaxed);
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.end();
    }
}

async fn converse(
    stream: TcpStream,
    address: IpAddr,
    site: Arc<Site>,
    audience: Audience,
    place: Arc<Place>,
    head: Arc<Head>,
) {
    // Answers are small and written at once: waiting to fill a segment only costs time.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(|local| neighbours::normalise(local.ip()));
    let ends = Ends { peer: address, local };
    let growing = head.clone();
    let stream = gauged(stream, move |came| growing.may_grow(came));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (site, audience, head) = (site.clone(), audience.clone(), head.clone());
        head.end();
        request.extensions_mut().insert(place.clone());
        async move {
            let answer: Answer = routes::answer(&site, &audience, ends, request).await;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                head.begin();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = tokio::time::sleep(LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(HEAD_TIMEOUT, connection).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_take_the_last_places_from_customers() {
        let full = |total| Connections { total, ..Connections::default() };
        assert!(full(3071).has_room(0, 64, || false) && !full(3072).has_room(0, 64, || false));
        assert!(full(4095).has_room(63, 64, || true));
        assert!(!full(4096).has_room(0, 64, || true) && !full(0).has_room(64, 64, || true));
        assert!(full(2048).is_crowded() && !full(2047).is_crowded());
    }

    #[test]
    fn long_heads_share_what_room_there_is_and_short_ones_need_none() {
        let all = Arc::<AtomicUsize>::default();
        let long: Vec<_> = (0..200).map(|_| Head::of_all(all.clone())).collect();
        let grown = long.iter().filter(|head| head.may_grow(16 * 1024)).count();
        assert_eq!(grown, UNFINISHED_HEADS / (16 * 1024));
        let short = Head::of_all(all.clone());
        assert!(short.may_grow(SHORT_HEAD) && !short.may_grow(1));
        short.end();
        assert!(short.may_grow(1 << 20), "a body, or frames");
        drop((long, short));
        assert_eq!(all.load(Ordering::Relaxed), 0);
        let next = Head::of_all(all);
        next.end();
        next.begin();
        assert!(next.may_grow(16 * 1024));
    }

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let table = Arc::<Mutex<Connections>>::default();
        let station = Station::Address("192.0.2.1".parse().unwrap());
        let taken: Vec<_> = (0..2).filter_map(|_| Place::take(&table, station, 2, || false)).collect();
        assert!(taken.len() == 2 && Place::take(&table, station, 2, || false).is_none());
        drop(taken);
        assert_eq!(table.lock().unwrap().total(), 0);
        assert!(Place::take(&table, station, 2, || false).is_some());
    }
}
