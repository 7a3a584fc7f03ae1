//! The mint proxy's WebSocket: the upgrade, and frames to and from the conversation.

use super::answer::{self, Answer};
use super::routes::{open_shop, origin_allowed, Visit};
use super::Site;
use crate::mint_proxy::{Conversation, MAX_MESSAGE};
use crate::network::neighbours::{self, Caller};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

const PING_EVERY: Duration = Duration::from_secs(30);
/// A socket that has not answered two pings is gone.
const SILENCE: Duration = Duration::from_secs(75);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers the upgrade request; the conversation goes on in a task of its own.
pub fn upgrade(site: &Arc<Site>, device: &str, visit: Visit, mut request: Request<Incoming>) -> Answer {
    let refused = |status, code: &str, message: &str| {
        answer::json(status, &json!({"type": "error", "code": code, "message": message}))
    };
    if !origin_allowed(&visit.headers, device) {
        return refused(StatusCode::FORBIDDEN, "foreign_origin", "only pages of this router may connect");
    }
    let Some(key) = websocket_key(&visit.headers) else {
        let mut answer = refused(
            StatusCode::UPGRADE_REQUIRED,
            "invalid_message",
            "this address speaks WebSocket (version 13)",
        );
        answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return answer;
    };
    let shop = match open_shop(site) {
        Ok(shop) => shop,
        Err(error) => return answer::json(StatusCode::SERVICE_UNAVAILABLE, &error.to_json()),
    };
    let Visit { config, venue, caller, .. } = visit;
    let Some(conversation) = shop.mint_proxy.join(caller.clone(), venue, config.main.guest_sockets) else {
        return refused(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many sockets are open on this device",
        );
    };
    tokio::spawn(async move {
        // The guest may never finish the upgrade.
        if let Ok(Ok(upgraded)) = tokio::time::timeout(SEND_TIMEOUT, hyper::upgrade::on(&mut request)).await {
            drop(request);
            converse(upgraded, conversation, &caller).await;
        }
    });
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(&key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

/// The client's key, if the headers are those of RFC 6455.
fn websocket_key(headers: &HeaderMap) -> Option<Vec<u8>> {
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
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    (asks && key.len() == 24).then(|| key.to_vec())
}

/// Pumps frames until either side is done. Small buffers: a thousand of these are open on 64 MiB.
async fn converse(upgraded: Upgraded, mut conversation: Conversation, caller: &Caller) {
    let limits = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let mut heard = Instant::now();
    let mut ping_at = heard + PING_EVERY;
    loop {
        let outgoing = tokio::select! {
            frame = next(&mut socket) => {
                heard = Instant::now();
                match frame {
                    Some(Message::Text(text)) => {
                        // The address may have passed to another device since the socket was opened.
                        match neighbours::identify(&caller.device, caller.address) {
                            Ok(now) if now.mac == caller.mac => conversation.hear(text.as_str()),
                            _ => break,
                        }
                    }
                    Some(Message::Binary(_)) => conversation.hear_binary(),
                    Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                    Some(Message::Close(_)) | None => break,
                }
                continue;
            }
            text = conversation.outbox.recv() => match text {
                Some(text) => Message::text(text.as_ref()),
                // Fell too far behind: it comes back and asks again.
                None => break,
            },
            () = tokio::time::sleep_until(ping_at) => {
                if heard.elapsed() > SILENCE {
                    break;
                }
                ping_at = Instant::now() + PING_EVERY;
                Message::Ping(Bytes::new())
            }
        };
        if !send(&mut socket, outgoing).await {
            return;
        }
    }
    let _ = send(&mut socket, Message::Close(None)).await;
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The next frame; nothing when the socket is closed or what came is not WebSocket.
async fn next(socket: &mut Socket) -> Option<Message> {
    use futures_util::StreamExt;
    socket.next().await?.ok()
}

async fn send(socket: &mut Socket, message: Message) -> bool {
    use futures_util::SinkExt;
    matches!(tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}
