//! The mint proxy's WebSocket: the upgrade, and frames to and from the conversation.

use super::answer::Answer;
use super::crowd::ConnectionPlace;
use super::entrance::Visit;
use super::line::GuestLine;
use super::origin::{is_own_page, may_see_ticket};
use super::refusals::{error, open_shop, refusal};
use super::route::Answering;
use super::sent::Sent;
use super::Edge;
use crate::mint_proxy::{Code, Conversation, ProxyError, Trust, MAX_MESSAGE};
use crate::network::neighbours::Caller;
use crate::stream::AnyStream;
use crate::task;
use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::WebSocketStream;

/// Of a client's key, 16 bytes in base64, before its padding.
const KEY_DIGITS: usize = 22;
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// A socket that has not answered two pings is gone.
pub const SILENCE: Duration = Duration::from_secs(75);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a guest whose frames were refused has to read the reason.
const LINGER: Duration = Duration::from_secs(2);
/// Frames of one socket that are read as fast as they come; after these one each `BREATH`. A guest may have many
/// sockets, and a guest that floods all of them would keep all others waiting.
const AT_ONCE: u32 = 64;
const BREATH: Duration = Duration::from_millis(100);
/// Bytes that may wait for a guest that does not read; the longest message, tokens, takes half of it.
const MAX_UNSENT: usize = 48 * 1024;
/// The room for them and for the messages behind them, which a socket needs as soon as it is waited for.
const UNREAD: usize = 64 * 1024;

/// Answers the upgrade request; the conversation goes on in a task of its own.
pub fn upgrade(edge: Arc<Edge>, visit: Visit, sent: Sent) -> Answering {
    Box::pin(upgraded(edge, visit, sent.into_request()))
}

async fn upgraded(edge: Arc<Edge>, visit: Visit, mut request: Request<Incoming>) -> Answer {
    let key = match websocket_key(&request) {
        Ok(key) => key,
        Err(refused) => return refused.answer(error),
    };
    let shop = match open_shop(&edge.site) {
        Ok(shop) => shop,
        Err(error) => return refusal(&error.into()),
    };
    let trust = Trust {
        is_own_page: is_own_page(&visit.headers, visit.asked_at()),
        may_see_ticket: may_see_ticket(&visit.headers, visit.asked_at()),
        needs_ticket: shop.mint_proxy.needs_ticket(visit.caller.mac).await,
    };
    let Visit { config, venue, caller, .. } = visit;
    let joined = shop.mint_proxy.join(caller.clone(), venue, config.main.guest_sockets, trust);
    let Some(conversation) = joined else {
        return error(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many sockets are open on this device",
        );
    };
    // Counts as a connection for as long as it lives.
    let Some(line) = request.extensions_mut().remove::<Arc<GuestLine>>() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "internal_error", "this is no connection of a guest");
    };
    let place = line.place.clone();
    let talk = |upgraded| -> Talking {
        Box::pin(async move { converse(upgraded, conversation, &edge, &caller, &line).await })
    };
    switch(request, &key, &place, Box::new(talk))
}

type Talking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Switches protocols; what goes on then is `talk`.
pub fn switch(
    mut request: Request<Incoming>,
    key: &[u8],
    place: &Arc<ConnectionPlace>,
    talk: Box<dyn FnOnce(Upgraded) -> Talking + Send>,
) -> Answer {
    let task = task::spawn(async move {
        // The guest may never finish the upgrade.
        if let Ok(Ok(upgraded)) = tokio::time::timeout(SEND_TIMEOUT, hyper::upgrade::on(&mut request)).await {
            drop(request);
            talk(upgraded).await;
        }
    });
    place.is_held_by(task.abort_handle());
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

/// Why a request becomes no WebSocket (RFC 6455, 4.2.1).
#[derive(Debug, PartialEq, Eq)]
pub enum NoUpgrade {
    /// It asks for none, or for another version of the protocol.
    Unasked,
    Malformed(&'static str),
}

impl NoUpgrade {
    /// `error` makes the body.
    pub fn answer(&self, error: fn(StatusCode, &str, &str) -> Answer) -> Answer {
        let (status, message) = match self {
            NoUpgrade::Unasked => {
                (StatusCode::UPGRADE_REQUIRED, "this address speaks WebSocket (version 13)")
            }
            NoUpgrade::Malformed(why) => (StatusCode::BAD_REQUEST, *why),
        };
        let mut answer = error(status, "invalid_message", message);
        if *self == NoUpgrade::Unasked {
            let headers = answer.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        answer
    }
}

/// The client's key.
pub fn websocket_key<B>(request: &Request<B>) -> Result<Vec<u8>, NoUpgrade> {
    let headers = request.headers();
    let has = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let asks = has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && headers.contains_key(header::SEC_WEBSOCKET_KEY);
    if !asks || request.method() != Method::GET {
        return Err(NoUpgrade::Unasked);
    }
    if request.version() != Version::HTTP_11 {
        return Err(NoUpgrade::Malformed("a WebSocket needs HTTP/1.1"));
    }
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    if only(header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(NoUpgrade::Unasked);
    }
    let key = only(header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    let digits = key.strip_suffix(b"==").filter(|digits| digits.len() == KEY_DIGITS);
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    match digits.is_some_and(|digits| digits.iter().all(is_base64)) {
        true => Ok(key.to_vec()),
        false => Err(NoUpgrade::Malformed("Sec-WebSocket-Key must be 16 bytes in base64")),
    }
}

/// Pumps frames until either side is done. Small buffers: a thousand of these are open on 64 MiB.
async fn converse(
    upgraded: Upgraded,
    mut conversation: Conversation,
    edge: &Edge,
    caller: &Caller,
    line: &GuestLine,
) {
    let mut socket = socket(upgraded, MAX_MESSAGE).await;
    let mut heard = Instant::now();
    let mut ping_at = heard + PING_EVERY;
    let mut reading = Reading::new(heard);
    let farewell = loop {
        if conversation.was_active() {
            line.place.end();
        }
        let room = conversation.room();
        let outgoing = tokio::select! {
            (room, frame) = async {
                reading.turn().await;
                (room.await, socket.next().await)
            } => {
                heard = Instant::now();
                reading.has_read(heard);
                line.begin_frame();
                let Some(room) = room else { break None };
                match frame {
                    Some(Ok(Message::Text(text))) => {
                        // The address may have passed to another device since the socket was opened.
                        match edge.neighbours.identify(&caller.device, caller.address) {
                            Ok(now) if now.mac == caller.mac => conversation.hear(text.as_str(), room),
                            _ => break None,
                        }
                    }
                    Some(Ok(Message::Binary(_))) => conversation.refuse("send JSON as text frames", room),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Close(_))) | None => break None,
                    Some(Err(error)) => break reason_of(&error),
                }
                continue;
            }
            text = conversation.outbox.recv() => match text {
                Some(text) => Message::text(text.as_ref()),
                // Fell too far behind: it comes back and asks again.
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
        if !send(&mut socket, outgoing, &line.place).await {
            return;
        }
    };
    drop(conversation);
    part(socket, farewell, &line.place).await;
}

/// A socket whose messages may be this long (bytes).
pub async fn socket(upgraded: Upgraded, longest: usize) -> GuestSocket {
    let limits = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    let stream: AnyStream = Box::new(TokioIo::new(upgraded));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits)).await
}

/// How fast the frames of a socket are read.
pub struct Reading {
    /// When all that was read has been made up for by its `BREATH` each.
    rested: Instant,
}

impl Reading {
    pub fn new(now: Instant) -> Reading {
        Reading { rested: now }
    }

    pub fn has_read(&mut self, now: Instant) {
        self.rested = self.rested.max(now) + BREATH;
    }

    /// When the next frame may be read.
    fn next(&self) -> Option<Instant> {
        self.rested.checked_sub(BREATH * AT_ONCE)
    }

    /// Waits until then.
    pub async fn turn(&self) {
        if let Some(next) = self.next().filter(|next| *next > Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
    }
}

pub type GuestSocket = WebSocketStream<AnyStream>;

/// The reason that a guest is told when its frames are refused. `None` if the connection itself has failed.
fn reason_of(error: &WsError) -> Option<(CloseCode, &'static str)> {
    match error {
        WsError::Capacity(_) => Some((CloseCode::Size, "the message is too long")),
        WsError::Utf8(_) => Some((CloseCode::Invalid, "the message is not UTF-8")),
        WsError::Protocol(_) => Some((CloseCode::Protocol, "this is not WebSocket")),
        _ => None,
    }
}

/// Says goodbye, with the reason if there is one. What still comes in is read for a moment: a connection that
/// is closed with unread bytes is reset, and the reason with it.
pub async fn part(
    mut socket: GuestSocket,
    reason: Option<(CloseCode, &'static str)>,
    place: &Arc<ConnectionPlace>,
) {
    let Some((code, reason)) = reason else {
        // Where the guest closed first, the answer to it is all that is left to go out.
        let goodbye = async { (socket.close(None).await.ok(), socket.flush().await.ok()) };
        let _ = tokio::time::timeout(SEND_TIMEOUT, goodbye).await;
        return;
    };
    let error = ProxyError::new(Code::InvalidMessage, reason).to_socket();
    if send(&mut socket, Message::text(error.to_string()), place).await {
        turn_away(socket, code, reason, place).await;
    }
}

/// Closes a socket with a reason, and gives its guest a moment to read it.
pub async fn turn_away(
    mut socket: GuestSocket,
    code: CloseCode,
    reason: &'static str,
    place: &Arc<ConnectionPlace>,
) {
    let farewell = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    if send(&mut socket, farewell, place).await {
        let mut rest = [0; 512];
        let drained = async { while matches!(socket.get_mut().read(&mut rest).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(LINGER, drained).await;
    }
}

/// A guest that does not read at once needs room for what waits meanwhile.
pub async fn send(socket: &mut GuestSocket, message: Message, place: &Arc<ConnectionPlace>) -> bool {
    let mut sending = socket.send(message);
    let at_once = poll_fn(|cx| Poll::Ready(sending.poll_unpin(cx))).await;
    if let Poll::Ready(sent) = at_once {
        return sent.is_ok();
    }
    let Some(_room) = place.hold(UNREAD) else { return false };
    matches!(tokio::time::timeout(SEND_TIMEOUT, sending).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, change: &[(&'static str, &'static str)]) -> Result<Vec<u8>, NoUpgrade> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        let usual = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual.iter().filter(|(name, _)| !change.iter().any(|(other, _)| other == name)) {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        for (name, value) in change.iter().filter(|(_, value)| !value.is_empty()) {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        websocket_key(&request)
    }

    #[test]
    fn an_upgrade_is_whole_and_of_version_13() {
        let key = "sec-websocket-key";
        assert_eq!(asked(Version::HTTP_11, &[]).unwrap(), b"dGhlIHNhbXBsZSBub25jZQ==");
        assert!(matches!(asked(Version::HTTP_10, &[]), Err(NoUpgrade::Malformed(_))));
        for bad in [
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ=a",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAA",
            "!!!!!!!!!!!!!!!!!!!!!!!!",
            "dGhlIHNhbXBsZSBub25jZ-==",
        ] {
            assert!(matches!(asked(Version::HTTP_11, &[(key, bad)]), Err(NoUpgrade::Malformed(_))), "{bad}");
        }
        let twice = [(key, "dGhlIHNhbXBsZSBub25jZQ=="), (key, "dGhlIHNhbXBsZSBub25jZQ==")];
        assert!(matches!(asked(Version::HTTP_11, &twice), Err(NoUpgrade::Malformed(_))));
        for (name, value) in [
            ("sec-websocket-key", ""),
            ("upgrade", ""),
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("sec-websocket-version", ""),
            ("sec-websocket-version", "8"),
            ("sec-websocket-version", "13, 8"),
            ("sec-websocket-version", "013"),
        ] {
            assert_eq!(asked(Version::HTTP_11, &[(name, value)]), Err(NoUpgrade::Unasked), "{name}: {value}");
        }
    }

    #[test]
    fn a_burst_of_frames_is_read_at_once_and_a_flood_at_its_pace() {
        let start = Instant::now();
        let mut reading = Reading::new(start);
        let may_read = |reading: &Reading, now| reading.next().is_none_or(|next| next <= now);
        let read = |reading: &mut Reading, now| {
            let mut count = 0;
            while may_read(reading, now) {
                reading.has_read(now);
                count += 1;
            }
            count
        };
        assert_eq!(read(&mut reading, start), AT_ONCE + 1);
        assert_eq!(read(&mut reading, start + BREATH / 2), 0);
        assert_eq!(read(&mut reading, start + BREATH * 10), 10);
        assert_eq!(read(&mut reading, start + BREATH * 1000), AT_ONCE + 1, "a pause makes no longer burst");
    }
}
