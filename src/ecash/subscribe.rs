//! One WebSocket per mint that tells of paid quotes (NUT-17), open only while there are quotes to watch.
//!
//! Its events are hints: they say when to look, never what to believe, and they get lost. The owner of the quotes
//! looks once at each of them when told `Resubscribed`, and keeps its slow looks.
//!
//! Some mints count messages like requests (nutshell: 20 a minute), so quotes that come together are
//! subscribed together, and nothing is unsubscribed: what is not watched any more is left out at the next
//! connection. A mint that refuses a message is sent fewer of them for an hour.

use super::wire::{self, QuoteId, QuoteState};
use crate::calls::{Destination, Tls, AGENT};
use crate::config::MintUrl;
use crate::json::json;
use crate::set::SortedSet;
use crate::stream::AnyStream;
use crate::task;
use crate::units::Millis;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::WebSocketStream;

const MAX_FRAME: usize = 64 * 1024;
const MAX_WATCHED: usize = 1000;
const QUOTES_PER_MESSAGE: usize = 100;
/// To a mint that has refused one.
const MESSAGES_PER_MINUTE: usize = 15;
const PACED_FOR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// Quotes asked for within this time share a message.
const GATHER: Duration = Duration::from_millis(15);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(30);
const DEAD_AFTER: Duration = Duration::from_secs(75);
/// An empty socket stays open this long for the next guest.
const LINGER: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
const RETRY_UNSUPPORTED: Duration = Duration::from_secs(600);
/// A connection that held this long was a good one.
const STABLE: Duration = Duration::from_secs(30);

/// What the socket has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MintEvent {
    /// All watched quotes were subscribed on a fresh connection: events may have been missed, look once.
    Resubscribed,
    /// The mint says that this quote is in this state. A hint.
    Quote(QuoteId, QuoteState),
    /// The mint offers no WebSocket; asked again every ten minutes.
    Unsupported,
    /// The mint answers again after calls that failed: looks were missed meanwhile.
    Back,
}

/// Tells the socket's task what to watch. Dropping it ends the task.
#[derive(Debug)]
pub struct QuoteWatch(mpsc::UnboundedSender<Command>);

#[derive(Debug)]
enum Command {
    Watch(QuoteId),
    Forget(QuoteId),
}

impl QuoteWatch {
    /// Starts the task for one mint. The receiver must be read: a full channel stops the socket.
    pub fn start(mint: MintUrl, tls: &Tls) -> (QuoteWatch, mpsc::Receiver<MintEvent>) {
        let (commands, receive_commands) = mpsc::unbounded_channel();
        let (events, receive_events) = mpsc::channel(64);
        let task = Task {
            to: Destination::new(mint.clone(), tls.clone()),
            mint,
            commands: receive_commands,
            events,
            watched: SortedSet::new(),
            sent: VecDeque::new(),
            paced_until: None,
            next_id: 0,
        };
        task::spawn(task.run());
        (QuoteWatch(commands), receive_events)
    }

    /// Watches a quote until it is forgotten. Beyond 1000 quotes only the looks remain.
    pub fn watch(&self, quote: QuoteId) {
        let _ = self.0.send(Command::Watch(quote));
    }

    pub fn forget(&self, quote: QuoteId) {
        let _ = self.0.send(Command::Forget(quote));
    }
}

struct Task {
    mint: MintUrl,
    to: Destination,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::Sender<MintEvent>,
    watched: SortedSet<QuoteId>,
    /// When the latest messages were sent.
    sent: VecDeque<Instant>,
    /// Until when the mint gets `MESSAGES_PER_MINUTE`.
    paced_until: Option<Instant>,
    next_id: u64,
}

/// Both ends of the channel are gone: the events have no reader any more.
struct Abandoned;

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing left to watch.
    Idle,
    Lost,
    Unsupported,
}

impl Task {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            if self.until_wanted().await.is_err() {
                return;
            }
            let started = Instant::now();
            let wait = match self.connection().await {
                Err(Abandoned) => return,
                Ok(End::Idle) => continue,
                Ok(End::Unsupported) => RETRY_UNSUPPORTED,
                Ok(End::Lost) => {
                    if started.elapsed() > STABLE {
                        retry = FIRST_RETRY;
                    }
                    let wait = retry;
                    retry = retry.saturating_mul(2).min(LAST_RETRY);
                    wait
                }
            };
            if self.pause(wait.saturating_add(jitter(wait))).await.is_err() {
                return;
            }
        }
    }

    /// Waits for something to watch.
    async fn until_wanted(&mut self) -> Result<(), Abandoned> {
        while self.watched.is_empty() {
            let command = self.commands.recv().await.ok_or(Abandoned)?;
            self.obey(command);
        }
        Ok(())
    }

    /// Waits, still taking note of what to watch.
    async fn pause(&mut self, wait: Duration) -> Result<(), Abandoned> {
        let end = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                command = self.commands.recv() => {
                    self.obey(command.ok_or(Abandoned)?);
                }
            }
        }
    }

    /// The quote that has to be subscribed because of the command.
    fn obey(&mut self, command: Command) -> Option<QuoteId> {
        match command {
            Command::Watch(quote) if self.watched.len() < MAX_WATCHED => {
                self.watched.insert(quote.clone()).then_some(quote)
            }
            Command::Watch(_) => None,
            Command::Forget(quote) => {
                self.watched.remove(&quote);
                None
            }
        }
    }

    /// One connection, from its opening to its end.
    async fn connection(&mut self) -> Result<End, Abandoned> {
        self.note_message();
        let mut socket = match open(&self.to).await {
            Ok(socket) => socket,
            Err(OpenError::NoWebSocket(status)) => {
                log::info!("{} offers no WebSocket (status {status})", self.mint);
                self.tell(MintEvent::Unsupported).await?;
                return Ok(End::Unsupported);
            }
            Err(OpenError::Failed(cause)) => {
                log::debug!("no WebSocket to {}: {cause}", self.mint);
                return Ok(End::Lost);
            }
        };
        let mut pending: SortedSet<QuoteId> = self.watched.clone();
        let mut send_at = Instant::now();
        // The message whose answer says that all quotes of a fresh connection are subscribed.
        let mut fresh = true;
        let mut awaited = None;
        let mut heard = Instant::now();
        let mut ping_at = heard + PING_EVERY;
        let mut empty_since = None;
        loop {
            if !pending.is_empty() && send_at <= Instant::now() {
                let Some(id) = self.subscribe(&mut socket, &mut pending).await else {
                    return Ok(End::Lost);
                };
                send_at = self.next_slot();
                if fresh && pending.is_empty() {
                    (fresh, awaited) = (false, Some(id));
                }
            }
            empty_since = match self.watched.is_empty() {
                true => empty_since.or_else(|| Some(Instant::now())),
                false => None,
            };
            let idle_at = empty_since.map_or(heard + DEAD_AFTER, |since| since + LINGER);
            let wake = if pending.is_empty() { ping_at } else { ping_at.min(send_at) };
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(command) = command else { return Err(Abandoned) };
                    if let Some(quote) = self.obey(command) {
                        if pending.is_empty() {
                            send_at = self.next_slot().max(Instant::now() + GATHER);
                        }
                        pending.insert(quote);
                    }
                }
                message = socket.next() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match read(text.as_str()) {
                            Heard::Event(quote, state) if self.watched.contains(&quote) => {
                                self.tell(MintEvent::Quote(quote, state)).await?;
                            }
                            Heard::Subscribed(id) if awaited == Some(id) => {
                                awaited = None;
                                self.tell(MintEvent::Resubscribed).await?;
                            }
                            Heard::Refused(code) => {
                                log::debug!("{} refuses a subscription (code {code:?})", self.mint);
                                pending = self.watched.clone();
                                (fresh, awaited) = (true, None);
                                send_at = Instant::now() + MINUTE + jitter(MINUTE);
                                self.paced_until = Some(Instant::now() + PACED_FOR);
                            }
                            _ => {}
                        },
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(End::Lost),
                        Some(Ok(_)) => {}
                    }
                }
                () = sleep_until(wake.min(idle_at).min(heard + DEAD_AFTER)) => {
                    let now = Instant::now();
                    if now >= heard + DEAD_AFTER {
                        return Ok(End::Lost);
                    }
                    if empty_since.is_some() && now >= idle_at {
                        let _ = timeout(SEND_TIMEOUT, socket.close(None)).await;
                        return Ok(End::Idle);
                    }
                    if now >= ping_at {
                        ping_at = now + PING_EVERY;
                        if !send(&mut socket, Message::Ping(Vec::new().into())).await {
                            return Ok(End::Lost);
                        }
                    }
                }
            }
        }
    }

    /// Subscribes the next batch of pending quotes and returns the message's id; `None` where the socket is
    /// broken.
    async fn subscribe(&mut self, socket: &mut Socket, pending: &mut SortedSet<QuoteId>) -> Option<u64> {
        let mut batch = Vec::new();
        while batch.len() < QUOTES_PER_MESSAGE {
            match pending.pop_first() {
                Some(quote) => batch.push(quote),
                None => break,
            }
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.note_message();
        send(socket, Message::text(subscription(id, &batch))).await.then_some(id)
    }

    fn note_message(&mut self) {
        if self.sent.len() >= MESSAGES_PER_MINUTE {
            self.sent.pop_front();
        }
        self.sent.push_back(Instant::now());
    }

    /// The earliest moment at which the mint takes another message.
    fn next_slot(&self) -> Instant {
        let now = Instant::now();
        let is_paced = self.paced_until.is_some_and(|until| until > now);
        match self.sent.front() {
            Some(oldest) if is_paced && self.sent.len() >= MESSAGES_PER_MINUTE => now.max(*oldest + MINUTE),
            _ => now,
        }
    }

    async fn tell(&self, event: MintEvent) -> Result<(), Abandoned> {
        self.events.send(event).await.map_err(|_| Abandoned)
    }
}

fn subscription(id: u64, quotes: &[QuoteId]) -> String {
    let filters: Vec<&str> = quotes.iter().map(QuoteId::as_str).collect();
    let params = json!({"kind": "bolt11_mint_quote", "subId": format!("tollgated-{id}"), "filters": filters});
    json!({"jsonrpc": "2.0", "id": id, "method": "subscribe", "params": params}).to_string()
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Event(QuoteId, QuoteState),
    Subscribed(u64),
    Refused(Option<i64>),
    Nothing,
}

fn read(text: &str) -> Heard {
    let message: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
        return Heard::Refused(error["code"].as_i64());
    }
    if message["method"] == "subscribe" {
        return match wire::quote_event(&message["params"]["payload"]) {
            Some((quote, state)) => Heard::Event(quote, state),
            None => Heard::Nothing,
        };
    }
    message["id"]
        .as_u64()
        .filter(|_| message.get("result").is_some())
        .map_or(Heard::Nothing, Heard::Subscribed)
}

type Socket = WebSocketStream<AnyStream>;

enum OpenError {
    /// The mint answered the upgrade with another status.
    NoWebSocket(u16),
    Failed(String),
}

async fn open(mint: &Destination) -> Result<Socket, OpenError> {
    let failed = |cause: &dyn std::fmt::Display| OpenError::Failed(cause.to_string());
    let stream = mint.open().await.map_err(|e| failed(&e.cause()))?;
    let handshake = async {
        let url = mint.url().endpoint("/v1/ws").replacen("http", "ws", 1);
        let mut request = url.into_client_request().map_err(|e| failed(&e))?;
        let agent = AGENT.parse().map_err(|_| OpenError::Failed("user agent".to_owned()))?;
        request.headers_mut().insert("User-Agent", agent);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME))
            .read_buffer_size(4096)
            .write_buffer_size(0);
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            // A mint that is down behind its proxy says 5xx; one that limits us says 429.
            Err(WsError::Http(answer)) if answer.status().is_client_error() && answer.status() != 429 => {
                Err(OpenError::NoWebSocket(answer.status().as_u16()))
            }
            Err(error) => Err(failed(&error)),
        }
    };
    timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|e| failed(&e))?
}

async fn send(socket: &mut Socket, message: Message) -> bool {
    matches!(timeout(SEND_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}

/// Up to half of `wait`, so that routers that lost a mint together do not come back together.
fn jitter(wait: Duration) -> Duration {
    let half = u32::try_from(wait.as_millis() / 2).unwrap_or(u32::MAX).max(1);
    Millis(u64::from(getrandom::u32().unwrap_or(0) % half)).as_duration()
}

/// For `tests/fuzz`.
#[cfg(test)]
pub(crate) fn fuzz_event(text: &str) -> String {
    format!("{:?}", read(text))
}

#[cfg(test)]
mod tests;
