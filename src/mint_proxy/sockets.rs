//! The open WebSockets of each guest, and the conversation on one of them.
//!
//! What happens to a request is told to every socket of its MAC. A socket that does not read is closed
//! instead of being waited for, and one that asks faster than it reads is not heard until it has read.

use super::error::{Code, ProxyError};
use super::messages::{self, without_ticket, ClientMessage};
use super::tickets::{refused_ticket, ticket_needed};
use super::MintProxy;
use crate::config::Venue;
use crate::json::json;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::sale::invoice::{HeldTokens, Presence, HELD_AT_A_TIME};
use crate::set::SortedSet;
use crate::store::RequestId;
use crate::task;
use litemap::LiteMap;
use serde_json::Value;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};

/// Messages that may wait for a socket to read them.
const BACKLOG: usize = 64;
/// Messages of one socket that are being worked on at a time; the next ones wait in the network.
const AT_A_TIME: usize = 8;
/// Requests that a socket of a foreign page is told of.
const NAMED: usize = 64;

/// Where the messages to one socket are put, for as long as the table has it.
pub type Outbox = mpsc::WeakSender<Arc<str>>;

/// All open sockets. The table holds the only lasting sender of each: taking it out ends the conversation.
#[derive(Default)]
pub struct Sockets {
    by_mac: Mutex<LiteMap<MacAddr, Vec<Seat>>>,
}

struct Seat {
    outbox: mpsc::Sender<Arc<str>>,
    ear: Arc<Ear>,
}

/// How far the opener of a socket is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// No page, or one of the router's own. Any other is told only of the requests it has named.
    pub is_own_page: bool,
    /// No page, or one under the router's own address. Any other is told of no session ticket.
    pub may_see_ticket: bool,
    /// Nothing is answered before the session ticket was shown.
    pub needs_ticket: bool,
}

/// What one socket may be told, and whether it has said anything that was of use.
struct Ear(Mutex<(Trust, SortedSet<RequestId>)>, AtomicBool);

impl Ear {
    fn hears(&self, about: Option<&RequestId>) -> bool {
        let ear = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (trust, named) = &*ear;
        !trust.needs_ticket && (trust.is_own_page || about.is_some_and(|id| named.contains(id)))
    }

    fn needs_ticket(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.needs_ticket
    }

    fn may_see_ticket(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.may_see_ticket
    }

    /// The ticket was shown: any page that has it is the guest's.
    fn trust(&self) {
        let mut ear = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ear.0 = Trust { is_own_page: true, needs_ticket: false, ..ear.0 };
    }

    /// Its guest has asked for something, and got it.
    fn is_of_use(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    /// This socket knows of a request; of how many is limited by how fast they can be made.
    fn names(&self, id: &RequestId) {
        let mut ear = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (trust, named) = &mut *ear;
        if !trust.is_own_page && named.len() < NAMED {
            named.insert(id.clone());
        }
    }
}

/// The text of one message, shared by all sockets that it goes to.
struct Text {
    whole: Arc<str>,
    /// For those that may not see a ticket.
    bare: Arc<str>,
}

impl Text {
    fn of(message: &Value) -> Text {
        let whole: Arc<str> = message.to_string().into();
        let bare = match message.get("ticket") {
            None => whole.clone(),
            Some(_) => without_ticket(message.clone()).to_string().into(),
        };
        Text { whole, bare }
    }

    fn to(&self, ear: &Ear) -> Arc<str> {
        if ear.may_see_ticket() { &self.whole } else { &self.bare }.clone()
    }
}

/// One socket's place: what it has to send, and how it is spoken to.
pub struct Conversation {
    pub outbox: mpsc::Receiver<Arc<str>>,
    speaker: Speaker,
    _presence: Presence,
}

#[derive(Clone)]
struct Speaker {
    proxy: MintProxy,
    caller: Caller,
    venue: Venue,
    outbox: Outbox,
    working: Arc<Semaphore>,
    ear: Arc<Ear>,
}

impl Sockets {
    /// A place for one more socket of this MAC, if it has fewer than `limit`.
    fn join(&self, mac: MacAddr, limit: usize, ear: Arc<Ear>) -> Option<(Outbox, mpsc::Receiver<Arc<str>>)> {
        let mut by_mac = self.by_mac.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = by_mac.entry(mac).or_default();
        sockets.retain(|seat| !seat.outbox.is_closed());
        if sockets.len() >= limit {
            return None;
        }
        let (outbox, inbox) = mpsc::channel(BACKLOG);
        let weak = outbox.downgrade();
        sockets.push(Seat { outbox, ear });
        Some((weak, inbox))
    }

    fn leave(&self, mac: MacAddr, outbox: &Outbox) {
        let Some(outbox) = outbox.upgrade() else { return };
        let mut by_mac = self.by_mac.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sockets) = by_mac.get_mut(&mac) {
            sockets.retain(|seat| !seat.outbox.same_channel(&outbox));
            if sockets.is_empty() {
                by_mac.remove(&mac);
            }
        }
    }

    /// Tells every socket of a MAC that may hear of this request. One whose backlog is full is dropped: its
    /// conversation ends.
    pub fn tell(&self, mac: MacAddr, about: Option<&RequestId>, message: &Value) {
        let text = Text::of(message);
        let mut by_mac = self.by_mac.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sockets) = by_mac.get_mut(&mac) {
            sockets.retain(|seat| !seat.ear.hears(about) || seat.outbox.try_send(text.to(&seat.ear)).is_ok());
        }
    }

    pub fn count(&self) -> usize {
        self.by_mac.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}

impl MintProxy {
    /// The message that delivers tokens.
    pub(super) fn delivery(&self, held: &HeldTokens) -> Option<Value> {
        let part = held.part()?;
        Some(messages::of_part(&held.request, part, &part.progress(), &self.0.access))
    }

    /// Joins a new socket of this caller; if it is trusted, tokens that wait for the guest are delivered on it
    /// again.
    pub fn join(&self, caller: Caller, venue: Venue, limit: usize, trust: Trust) -> Option<Conversation> {
        let ear = Arc::new(Ear(Mutex::new((trust, SortedSet::new())), AtomicBool::new(false)));
        let (outbox, inbox) = self.sockets().join(caller.mac, limit, ear.clone())?;
        let speaker = Speaker {
            proxy: self.clone(),
            caller,
            venue,
            outbox,
            working: Arc::new(Semaphore::new(AT_A_TIME)),
            ear,
        };
        let presence = self.0.invoices.attend(speaker.caller.mac);
        let redeliver = speaker.clone();
        task::spawn(async move { redeliver.deliver().await });
        Some(Conversation { outbox: inbox, speaker, _presence: presence })
    }
}

impl Conversation {
    pub fn mac(&self) -> MacAddr {
        self.speaker.caller.mac
    }

    /// Whether a message was answered, since this was asked last, that was more than a sign of life.
    pub fn was_active(&self) -> bool {
        self.speaker.ear.1.swap(false, Ordering::Relaxed)
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

    /// Refuses bytes that are no message; the guest is told why.
    pub fn refuse(&self, reason: &str, room: OwnedSemaphorePermit) {
        self.work_on(Err(ProxyError::new(Code::InvalidMessage, reason)), room);
    }

    fn work_on(&self, message: Result<ClientMessage, ProxyError>, room: OwnedSemaphorePermit) {
        let speaker = self.speaker.clone();
        // Signs of life are answered at once and in no task of their own: hundreds of sockets may send many of them.
        match message {
            Ok(ClientMessage::Pong) => return,
            Ok(ClientMessage::Ping) => return speaker.say_at_once(&json!({"type": "pong"})),
            Ok(_) | Err(_) => {}
        }
        task::spawn(async move {
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
        let access = &self.proxy.0.access;
        let result = match message {
            ClientMessage::Ping | ClientMessage::Pong => return,
            ClientMessage::Auth(ticket) => return self.authenticate(&ticket).await,
            _ if self.ear.needs_ticket() => Err(ticket_needed()),
            ClientMessage::MintRequest(ask) => match self.proxy.open(&self.caller, &self.venue, ask).await {
                // A new request has told every socket of this guest, this one too if it hears of all.
                Ok(opened) if opened.is_new && self.ear.hears(Some(&opened.request.id)) => Ok(Vec::new()),
                Ok(opened) => {
                    self.ear.names(&opened.request.id);
                    Ok(messages::of_request(&opened.request, access))
                }
                Err(error) => Err(error),
            },
            ClientMessage::Status(id) => self.proxy.status_asked(self.caller.mac, &id).await.map(|request| {
                self.ear.names(&request.id);
                messages::of_request(&request, access)
            }),
            ClientMessage::SubscribeTicket(id, claim) => {
                self.proxy.subscribe(&self.outbox, &id, &claim).await.map(|told| vec![told])
            }
            ClientMessage::Ack(id, part) => {
                self.proxy.ack(self.caller.mac, &id, part).await.map(|()| Vec::new())
            }
        };
        match result {
            Ok(messages) => {
                self.ear.is_of_use();
                for message in messages {
                    self.say(&message).await;
                }
            }
            Err(error) => self.say(&error.to_socket()).await,
        }
    }

    async fn authenticate(&self, ticket: &str) {
        match self.proxy.0.invoices.take_over(&self.caller, &self.venue, ticket, false).await {
            Ok(taken) => {
                self.ear.is_of_use();
                self.ear.trust();
                self.say(&messages::auth_ok(taken.session.as_ref())).await;
                self.deliver().await;
            }
            Err(error) => self.say(&refused_ticket(&error).to_socket()).await,
        }
    }

    /// The tokens that wait for the guest, if this socket may hear of them unasked.
    async fn deliver(&self) {
        if !self.ear.hears(None) {
            return;
        }
        let invoices = &self.proxy.0.invoices;
        let waiting = invoices.undelivered(self.caller.mac).await;
        for some in waiting.chunks(HELD_AT_A_TIME) {
            for held in invoices.held_tokens(some).await {
                if let Some(message) = self.proxy.delivery(&held) {
                    self.say(&message).await;
                }
            }
        }
    }

    /// Unless a socket that does not read has enough before it.
    fn say_at_once(&self, message: &Value) {
        if let Some(outbox) = self.outbox.upgrade() {
            let _ = outbox.try_send(Text::of(message).to(&self.ear));
        }
    }

    async fn say(&self, message: &Value) {
        // The socket may be gone; what matters is kept and delivered on the next one.
        if let Some(outbox) = self.outbox.upgrade() {
            let _ = outbox.send(Text::of(message).to(&self.ear)).await;
        }
    }
}
