//! The WebSocket of a page that logs in: it is told its name and what becomes of its login. Whatever a client says on it,
//! but for pings, closes it; nobody else hears that.

use super::answer::Answer;
use super::entrance::{field, Entrance};
use super::error_body::ErrorBody;
use super::line::GuestLine;
use super::login;
use super::route::Answering;
use super::sent::Sent;
use super::websocket::{self, Reading, PING_EVERY, SILENCE};
use super::Edge;
use crate::auth::{LoginSocket, SocketKey};
use crate::form::pairs;
use crate::units::Millis;
use futures_util::StreamExt;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper::StatusCode;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// The longest message of a client (bytes): a ping has 125 at most.
const LONGEST: usize = 4096;
/// How long a station that has too many sockets is told to wait.
const A_WHILE: Millis = Millis::from_secs(10);
const SAYS_NOTHING: &str = "clients send nothing here";

/// `GET /websocket`, with a token in a header or, as pages cannot set those, in `?token=`.
pub fn upgrade(edge: Arc<Edge>, at: Entrance, sent: Sent) -> Answering {
    Box::pin(async move { joined(&edge, &at, sent).await.unwrap_or_else(|refused| *refused) })
}

async fn joined(edge: &Edge, at: &Entrance, sent: Sent) -> Result<Answer, Box<Answer>> {
    let query = pairs(sent.query());
    let token = login::token(sent.headers()).or(field(&query, "token")).map(str::to_owned);
    let mut request = sent.into_request();
    let key = websocket::websocket_key(&request).map_err(|refused| Box::new(refused.answer(error)))?;
    let (auth, station) = (login::auth(edge)?, login::station(edge, at)?);
    let user = match token {
        Some(token) => {
            let claims = auth.identify(&token, login::audience(at)).await;
            let claims = claims.map_err(|why| login::refused(&why))?;
            Some((claims.key, claims.id, claims.audience))
        }
        None => None,
    };
    let mut name: SocketKey = SocketKey::default();
    getrandom::fill(&mut name).map_err(|_| closed())?;
    let limit = edge.site.config().main.guest_sockets;
    let socket = auth.sockets().join(name, station, limit, user).ok_or_else(|| {
        let message = "too many sockets are open on this device";
        let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "too_many", message);
        login::come_back(&mut answer, A_WHILE);
        Box::new(answer)
    })?;
    let line = request.extensions_mut().remove::<Arc<GuestLine>>().ok_or_else(closed)?;
    let place = line.place.clone();
    let talk = |upgraded| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { converse(upgraded, socket, &line).await })
    };
    Ok(websocket::switch(request, &key, &place, Box::new(talk)))
}

async fn converse(upgraded: Upgraded, mut own: LoginSocket, line: &GuestLine) {
    let mut socket = websocket::socket(upgraded, LONGEST).await;
    let mut heard = Instant::now();
    let mut ping_at = heard + PING_EVERY;
    let mut reading = Reading::new(heard);
    let farewell = loop {
        let outgoing = tokio::select! {
            frame = async {
                reading.turn().await;
                socket.next().await
            } => {
                heard = Instant::now();
                reading.has_read(heard);
                line.begin_frame();
                match frame {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_))) | None => break None,
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Frame(_))) => break Some(()),
                    Some(Err(WsError::Capacity(_) | WsError::Utf8(_) | WsError::Protocol(_))) => break Some(()),
                    Some(Err(_)) => break None,
                }
            }
            text = own.outbox.recv() => match text {
                Some(text) => Message::text(text.as_ref()),
                // Its login has ended, or it does not read.
                None => break None,
            },
            () = tokio::time::sleep_until(ping_at) => {
                if heard.elapsed() > SILENCE {
                    break None;
                }
                ping_at = Instant::now() + PING_EVERY;
                Message::Ping(Bytes::new())
            }
        };
        if !websocket::send(&mut socket, outgoing, &line.place).await {
            return;
        }
    };
    drop(own);
    match farewell {
        Some(()) => websocket::turn_away(socket, CloseCode::Policy, SAYS_NOTHING, &line.place).await,
        None => websocket::part(socket, None, &line.place).await,
    }
}

fn closed() -> Box<Answer> {
    Box::new(error(StatusCode::SERVICE_UNAVAILABLE, "internal_error", "not possible now, try again later"))
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    ErrorBody { code, message, details: &[] }.answer(status)
}
