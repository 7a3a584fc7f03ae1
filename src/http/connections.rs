//! One guest connection: counted per station, bounded in size and time, answered by the routes.

use super::answer::Answer;
use super::listeners::Audience;
use super::{routes, Site};
use crate::mac::MacAddr;
use crate::network::neighbours;
use crate::network::stream::AnyStream;
use crate::task;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use litemap::LiteMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
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
        task::spawn(converse(stream, address, site, audience, Arc::new(place)));
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
        Some(Place { connections: connections.clone(), station })
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

async fn converse(
    stream: TcpStream,
    address: IpAddr,
    site: Arc<Site>,
    audience: Audience,
    place: Arc<Place>,
) {
    // Answers are small and written at once: waiting to fill a segment only costs time.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(|local| neighbours::normalise(local.ip()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (site, audience) = (site.clone(), audience.clone());
        request.extensions_mut().insert(place.clone());
        async move {
            let answer: Answer = routes::answer(&site, &audience, address, local, request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let stream: AnyStream = Box::new(stream);
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
