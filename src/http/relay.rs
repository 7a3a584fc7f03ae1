//! A relay's paths: what Daraja calls, and what its routers ask. Served by `tollgated relay` only, behind a proxy that has the
//! public name and the certificate.

use super::answer::{self, Answer};
use super::connections::{self, Responder, HEAD_TIMEOUT};
use super::crowd::{Budget, ConnectionHolder, ConnectionPlace, Crowd};
use super::entrance::Audience;
use super::error_body::{no_such_path, other_method, ErrorBody};
use super::line::{FirstHead, SERVED, WAITING};
use super::listeners::bind;
use super::login;
use super::refusals;
use super::sent::Sent;
use super::wire::Wire;
use crate::form::pairs;
use crate::json::json;
use crate::network::neighbours;
use crate::relay::{NotTaken, Relay, MOST_BODY};
use crate::store::{RelayedEvent, StoreError};
use crate::task;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// All come from the proxy's address.
const MOST_CONNECTIONS: usize = 1024;
/// Until a router has collected what is kept for it, most likely (seconds).
const TOO_MANY_WAIT: u64 = 60;

/// The open socket; closed when it is dropped.
pub struct RelayListener(JoinHandle<()>);

impl RelayListener {
    pub fn open(address: SocketAddr, relay: Arc<Relay>) -> io::Result<RelayListener> {
        let listener = bind(address, None)?;
        let crowd = Crowd::new(Budget::of_this_machine(), Arc::default(), Vec::new);
        Ok(RelayListener(task::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => serve(stream, peer, &relay, &crowd),
                    Err(err) => {
                        log::debug!("accept: {err}");
                        crowd.close_one();
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        })))
    }
}

impl Drop for RelayListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn serve(stream: TcpStream, peer: SocketAddr, relay: &Arc<Relay>, crowd: &Crowd) {
    let holder = ConnectionHolder::House(neighbours::normalise(peer.ip()));
    let Some(place) = crowd.admit(holder, MOST_CONNECTIONS, WAITING) else { return };
    let place = Arc::new(place);
    let conversation = converse(stream, relay.clone(), place.clone());
    place.is_held_by(task::spawn(conversation).abort_handle());
}

async fn converse(stream: TcpStream, relay: Arc<Relay>, place: Arc<ConnectionPlace>) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::Plain(stream);
    let first = tokio::time::timeout(HEAD_TIMEOUT, FirstHead::read(&mut wire, &place)).await;
    let Ok(Some(first)) = first else { return };
    if place.costs(SERVED) {
        tokio::task::yield_now().await;
        let responder: Responder = Box::new(move |request| Box::pin(answered(relay.clone(), request)));
        connections::answer_all(first, wire, (Audience::Public, false), responder, place).await;
    }
}

async fn answered(relay: Arc<Relay>, request: Request<Incoming>) -> Answer {
    let sent = Sent::new(request, MOST_BODY, String::new());
    let path = sent.path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let allowed = match parts.as_slice() {
        ["cb", ..] => Method::POST,
        ["v1", "events" | "token"] | ["health"] => Method::GET,
        _ => return no_such_path(),
    };
    if *sent.method() != allowed {
        return other_method(&refusals::method_not_allowed("/", std::iter::once(allowed.as_str())));
    }
    match parts.as_slice() {
        ["cb", router, token] => called(&relay, router, token, sent).await,
        ["v1", "events"] => events(&relay, &sent).await,
        ["v1", "token"] => token(&relay, &sent).await,
        ["health"] => answer::text(StatusCode::OK, "OK"),
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

/// Daraja is told that it was taken when it is kept, and never why not: it may be anybody.
async fn called(relay: &Relay, router: &str, token: &str, sent: Sent) -> Answer {
    // For an unknown name nothing is read.
    if !relay.knows(router) {
        return answer::empty(StatusCode::NOT_FOUND);
    }
    let body = match sent.lossy_text().await {
        Ok(body) => body.apart().0,
        Err(refused) => return answer::empty(refused.status()),
    };
    match relay.take(router, token, body).await {
        Ok(()) => answer::json(StatusCode::OK, &json!({"ResultCode": 0, "ResultDesc": "Accepted"})),
        Err(NotTaken::Unknown) => answer::empty(StatusCode::NOT_FOUND),
        Err(NotTaken::TooMany) => {
            let mut answer = answer::empty(StatusCode::TOO_MANY_REQUESTS);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(TOO_MANY_WAIT));
            answer
        }
        Err(NotTaken::Store(err)) => unavailable(&err),
    }
}

async fn events(relay: &Relay, sent: &Sent) -> Answer {
    let Some(router) = router_of(relay, sent) else { return no_key() };
    let query = pairs(sent.query());
    let number = |name: &str| match query.iter().find(|(own, _)| own == name) {
        Some((_, text)) => text.parse::<u32>().map(i64::from).ok().or_else(|| text.parse().ok()),
        None => Some(0),
    };
    let (Some(after), Some(wait)) = (number("after").filter(|after| *after >= 0), number("wait")) else {
        let message = "after and wait are whole numbers";
        return ErrorBody { code: "invalid_input", message, details: &[] }.answer(StatusCode::BAD_REQUEST);
    };
    let of = query.iter().find(|(own, _)| own == "of");
    let after = if of.is_some_and(|(_, of)| of != relay.id()) { 0 } else { after };
    let wait = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
    let asked = async {
        let events = relay.events(&router, after, wait).await?;
        Ok((events, relay.newest().await?))
    };
    match asked.await {
        Ok((events, newest)) => {
            let next = events.last().map_or(after, |event| event.seq);
            let events: Value = events.iter().map(as_json).collect();
            let told = json!({"relay": relay.id(), "events": events, "next": next, "newest": newest});
            answer::json(StatusCode::OK, &told)
        }
        Err(err) => unavailable(&err),
    }
}

fn as_json(event: &RelayedEvent) -> Value {
    json!({"seq": event.seq, "token": event.token, "at": event.at.0, "body": event.body})
}

async fn token(relay: &Relay, sent: &Sent) -> Answer {
    if router_of(relay, sent).is_none() {
        return no_key();
    }
    let dead = pairs(sent.query()).into_iter().find(|(name, _)| name == "dead");
    match relay.token(dead.as_ref().map(|(_, dead)| dead.as_str())).await {
        Ok(live) => {
            let token = json!({"access_token": live.token.as_str(), "expires_in": live.lives.as_secs()});
            answer::json(StatusCode::OK, &token)
        }
        Err(err) => {
            let message = err.to_string();
            ErrorBody { code: "no_token", message: &message, details: &[] }
                .answer(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

fn router_of(relay: &Relay, sent: &Sent) -> Option<String> {
    relay.router_of(login::token(sent.headers())?)
}

fn no_key() -> Answer {
    let message = "the key of a router is needed";
    ErrorBody { code: "unauthorized", message, details: &[] }.answer(StatusCode::UNAUTHORIZED)
}

fn unavailable(err: &StoreError) -> Answer {
    log::error!("{}: {err}", err.code());
    let message = "the relay cannot use its store; please try again";
    ErrorBody { code: err.code(), message, details: &[] }.answer(StatusCode::SERVICE_UNAVAILABLE)
}
