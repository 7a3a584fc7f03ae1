//! The open WebSockets of each guest, and the conversation on one of them.
//!
//! What happens to a request is told to every socket of its MAC. A socket that does not read is closed
//! instead of being waited for, and one that asks faster than it reads is not heard until it has read.

use super::delivery;
use super::messages::{ClientMessage, Code, ProxyError};
use super::MintProxy;
use crate::config::Venue;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};

/// Messages that may wait for a socket to read them.
const BACKLOG: usize = 64;
/// Messages of one socket that are being worked on at a time; the next ones wait in the network.
const AT_A_TIME: usize = 32;

/// Where the messages to one socket are put, for as long as the table has it.
type Outbox = mpsc::WeakSender<Arc<str>>;

/// All open sockets. The table holds the only lasting sender of each: taking it out ends the conversation.
#[derive(Default)]
pub struct Sockets {
    by_mac: Mutex<BTreeMap<MacAddr, Vec<mpsc::Sender<Arc<str>>>>>,
}

/// One socket's place: what it has to send, and how it is spoken to.
pub struct Conversation {
    pub outbox: mpsc::Receiver<Arc<str>>,
    speaker: Speaker,
}

#[derive(Clone)]
struct Speaker {
    proxy: MintProxy,
    caller: Caller,
    venue: Venue,
    outbox: Outbox,
    working: Arc<Semaphore>,
}

impl Sockets {
    /// A place for one more socket of this MAC, if it has fewer than `limit`.
    fn join(&self, mac: MacAddr, limit: usize) -> Option<(Outbox, mpsc::Receiver<Arc<str>>)> {
        let mut by_mac = self.by_mac.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = by_mac.entry(mac).or_default();
        sockets.retain(|socket| !socket.is_closed());
        if sockets.len() >= limit {
            return None;
        }
        let (outbox, inbox) = mpsc::channel(BACKLOG);
        let weak = outbox.downgrade();
        sockets.push(outbox);
        Some((weak, inbox))
    }

    fn leave(&self, mac: MacAddr, outbox: &Outbox) {
        let Some(outbox) = outbox.upgrade() else { return };
        let mut by_mac = self.by_mac.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sockets) = by_mac.get_mut(&mac) {
            sockets.retain(|socket| !socket.same_channel(&outbox));
            if sockets.is_empty() {
                by_mac.remove(&mac);
            }
        }
    }

    /// Tells every socket of a MAC. One whose backlog is full is dropped: its conversation ends.
    pub fn tell(&self, mac: MacAddr, message: &Value) {
        let text: Arc<str> = message.to_string().into();
        let mut by_mac = self.by_mac.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sockets) = by_mac.get_mut(&mac) {
            sockets.retain(|socket| socket.try_send(text.clone()).is_ok());
        }
    }

    pub fn count(&self) -> usize {
        self.by_mac.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}

impl MintProxy {
    /// Joins a new socket of this caller; tokens that wait for the guest are delivered on it again.
    pub fn join(&self, caller: Caller, venue: Venue, limit: usize) -> Option<Conversation> {
        let (outbox, inbox) = self.sockets().join(caller.mac, limit)?;
        let speaker = Speaker {
            proxy: self.clone(),
            caller,
            venue,
            outbox,
            working: Arc::new(Semaphore::new(AT_A_TIME)),
        };
        let redeliver = speaker.clone();
        tokio::spawn(async move {
            let waiting = redeliver.proxy.undelivered(redeliver.caller.mac).await;
            for some in waiting.chunks(delivery::AT_A_TIME) {
                for message in redeliver.proxy.delivery(some).await {
                    redeliver.say(&message).await;
                }
            }
        });
        Some(Conversation { outbox: inbox, speaker })
    }
}

impl Conversation {
    pub fn mac(&self) -> MacAddr {
        self.speaker.caller.mac
    }

    /// A place for one more message to be worked on; waits while too many are.
    pub fn room(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let working = self.speaker.working.clone();
        async move { working.acquire_owned().await.ok() }
    }

    /// Takes one text message in; the answer comes through the outbox. Returns at once.
    pub fn hear(&self, text: &str, room: OwnedSemaphorePermit) {
        self.work_on(ClientMessage::parse(text), room);
    }

    /// What came is no message; the guest is told why.
    pub fn refuse(&self, reason: &str, room: OwnedSemaphorePermit) {
        self.work_on(Err(ProxyError::new(Code::InvalidMessage, reason)), room);
    }

    fn work_on(&self, message: Result<ClientMessage, ProxyError>, room: OwnedSemaphorePermit) {
        let speaker = self.speaker.clone();
        tokio::spawn(async move {
            match message {
                Ok(message) => speaker.answer(message).await,
                Err(error) => speaker.say(&error.to_socket()).await,
            }
            drop(room);
        });
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.speaker.proxy.sockets().leave(self.speaker.caller.mac, &self.speaker.outbox);
    }
}

impl Speaker {
    async fn answer(&self, message: ClientMessage) {
        let proxy = &self.proxy;
        let result = match message {
            ClientMessage::MintRequest(ask) => match proxy.open(&self.caller, &self.venue, ask).await {
                // A new request has told every socket of this guest, this one too.
                Ok(opened) if opened.is_new => Ok(Vec::new()),
                Ok(opened) => Ok(opened.request.messages(proxy.access())),
                Err(error) => Err(error),
            },
            ClientMessage::Status(id) => {
                proxy.status_asked(self.caller.mac, &id).await.map(|r| r.messages(proxy.access()))
            }
            ClientMessage::Ack(id, part) => proxy.ack(self.caller.mac, &id, part).await.map(|()| Vec::new()),
            ClientMessage::Ping => Ok(vec![json!({"type": "pong"})]),
            ClientMessage::Pong => Ok(Vec::new()),
        };
        match result {
            Ok(messages) => {
                for message in messages {
                    self.say(&message).await;
                }
            }
            Err(error) => self.say(&error.to_socket()).await,
        }
    }

    async fn say(&self, message: &Value) {
        // The socket may be gone; what matters is kept and delivered on the next one.
        if let Some(outbox) = self.outbox.upgrade() {
            let _ = outbox.send(message.to_string().into()).await;
        }
    }
}
