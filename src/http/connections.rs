//! One guest connection: has a place in the crowd, is bounded in size and time, and answered by the routes.

use super::answer::{self, Answer};
use super::crowd::{ConnectionHolder, ConnectionPlace, Hold};
use super::dispatch;
use super::entrance::{Audience, Entrance};
use super::line::{FirstHead, GuestLine, GuestStream, MAX_HEAD, SERVED, SOCKET, WAITING};
use super::wire::{Wire, TLS};
use super::Edge;
use crate::correlation::{self, CorrelationId};
use crate::network::neighbours;
use crate::task;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is not a WebSocket ends after this; a browser opens another one.
const LIFETIME: Duration = Duration::from_secs(60);
/// At the public listener, from one address.
const MAX_TILLS: usize = 512;
/// Shorter answers fit into what a connection costs.
const SHORT_ANSWER: usize = 1024;

/// Serves a new connection in a task of its own, or drops it when there is no room for it. What a guest opens all at once
/// beyond its limit waits for the rest to be answered.
pub fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    edge: &Arc<Edge>,
    (audience, is_tls): (Audience, bool),
    device: Option<Arc<str>>,
) {
    let server = is_tls.then(|| edge.site.certificate.server());
    if matches!(server, Some(None)) {
        return;
    }
    let address = neighbours::normalise(peer.ip());
    let at = Entrance { audience, is_tls, device, peer: address, local: None };
    let station = match audience {
        Audience::TollGate | Audience::Public | Audience::Admin => ConnectionHolder::House(address),
        Audience::Guest | Audience::MintProxy | Audience::Redirected => {
            let caller = edge.neighbours.identify(at.device(), address);
            caller.map_or(ConnectionHolder::Address(address), |caller| ConnectionHolder::Mac(caller.mac))
        }
    };
    let limit = match audience {
        // All tills come through one tunnel or proxy.
        Audience::Public => MAX_TILLS,
        _ => edge.site.config().main.guest_connections,
    };
    let (own, crowd) = (edge.clone(), edge.crowd.clone());
    let begin = move || {
        let Some(place) = own.crowd.admit(station, limit, WAITING) else {
            log::debug!("there is no room for another connection of {address}");
            return;
        };
        let place = Arc::new(place);
        let conversation = converse(stream, server.flatten(), at, own, place.clone());
        place.is_held_by(task::spawn(conversation).abort_handle());
    };
    match crowd.has_to_wait(station, limit) {
        None => begin(),
        Some(waiting) => drop(task::spawn(async move {
            crowd.calm(station, limit).await;
            drop(waiting);
            begin();
        })),
    }
}

/// What the whole connection costs is taken only when its first head has come.
async fn converse(
    stream: TcpStream,
    server: Option<Arc<ServerConfig>>,
    at: Entrance,
    edge: Arc<Edge>,
    place: Arc<ConnectionPlace>,
) {
    // Answers are small and written at once: waiting to fill a segment only costs time.
    let _ = stream.set_nodelay(true);
    let begin = async {
        let mut wire = match server {
            Some(server) => {
                // In a box of its own, which goes when it is done: this task lasts as long as the connection.
                Box::pin(edge.handshakes.shake(stream, server, &edge.crowd, &place, WAITING)).await?
            }
            None => Wire::Plain(stream),
        };
        let first = FirstHead::read(&mut wire, &place).await?;
        Some((first, wire))
    };
    let Ok(Some((first, wire))) = tokio::time::timeout(HEAD_TIMEOUT, begin).await else { return };
    if place.costs(cost(SERVED, at.is_tls)) {
        // Those that were closed for it are dropped meanwhile.
        tokio::task::yield_now().await;
        let local = wire.local_address().ok().map(|local| neighbours::normalise(local.ip()));
        let at = Arc::new(Entrance { local, ..at });
        let (audience, is_tls) = (at.audience, at.is_tls);
        let responder: Responder = Box::new(move |request| {
            let (edge, at) = (edge.clone(), at.clone());
            Box::pin(async move { dispatch::answer(&edge, &at, request).await })
        });
        answer_all(first, wire, (audience, is_tls), responder, place).await;
    }
}

/// What a connection costs (bytes), with or without TLS.
fn cost(plain: usize, is_tls: bool) -> usize {
    if is_tls {
        plain.saturating_add(TLS)
    } else {
        plain
    }
}

/// What answers the requests of a connection. Boxed: hyper is compiled once for all that serve.
pub type Responder = Box<dyn Fn(Request<Incoming>) -> Responding + Send + Sync>;
pub type Responding = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers requests until the connection ends. `at`: who is served, and whether over TLS.
pub fn answer_all(
    first: FirstHead,
    wire: Wire,
    at: (Audience, bool),
    responder: Responder,
    place: Arc<ConnectionPlace>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let responder = Arc::new(responder);
    let line = GuestLine::new(place);
    let stream = GuestStream::new(first, wire, line.clone());
    let service = service_fn(move |request: Request<Incoming>| -> Answering {
        Box::pin(answer_one(responder.clone(), at, line.clone(), request))
    });
    Box::pin(async move {
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
    })
}

/// Boxed, so that a connection that asks nothing has no room for it.
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

async fn answer_one(
    responder: Arc<Responder>,
    (audience, is_tls): (Audience, bool),
    line: Arc<GuestLine>,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    line.end_head();
    if request.body().is_end_stream() {
        line.place.begin();
    }
    request.extensions_mut().insert(line.clone());
    let id = request_id(audience, request.headers());
    let mut answer = correlation::within(id.clone(), responder(request)).await;
    answer::complete(&mut answer, &id);
    line.place.end();
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        line.begin_frame();
        line.place.costs(cost(SOCKET, is_tls));
        return Ok(answer);
    }
    line.begin_head();
    Ok(until_written(answer, &line.place).await)
}

/// The id that a request goes by: the operator's side may bring one, guests may not.
fn request_id(audience: Audience, headers: &HeaderMap) -> CorrelationId {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let brought = || {
        let own = text("x-request-id").and_then(CorrelationId::parse);
        own.or_else(|| text("traceparent").and_then(CorrelationId::of_traceparent))
    };
    Some(audience)
        .filter(|at| *at == Audience::Admin)
        .and_then(|_| brought())
        .unwrap_or_else(CorrelationId::make)
}

/// The answer, which is held against its connection until it is written.
async fn until_written(answer: Answer, place: &Arc<ConnectionPlace>) -> Answer {
    let (head, mut body) = answer.into_parts();
    let bytes = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        Some(Err(_)) | None => Bytes::new(),
    };
    if bytes.len() <= SHORT_ANSWER {
        return Answer::from_parts(head, Full::new(bytes));
    }
    match place.hold(bytes.len()) {
        Some(hold) => {
            Answer::from_parts(head, Full::new(Bytes::from_owner(Unwritten { bytes, _hold: hold })))
        }
        None => {
            let mut answer = answer::empty(StatusCode::SERVICE_UNAVAILABLE);
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            answer
        }
    }
}

struct Unwritten {
    bytes: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Unwritten {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_operators_side_names_its_requests() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", TRACE.parse().unwrap());
        let id = |audience, headers: &HeaderMap| request_id(audience, headers).to_string();
        assert_eq!(id(Audience::Admin, &headers), "4bf92f3577b34da6a3ce929d0e0e4736");
        headers.insert("x-request-id", "deploy-42".parse().unwrap());
        assert_eq!(id(Audience::Admin, &headers), "deploy-42");
        for audience in [Audience::Guest, Audience::TollGate, Audience::MintProxy, Audience::Public] {
            assert_eq!(id(audience, &headers).len(), 16);
        }
        headers.insert("x-request-id", "short".parse().unwrap());
        headers.insert("traceparent", "short".parse().unwrap());
        assert_eq!(id(Audience::Admin, &headers).len(), 16);
    }
}
