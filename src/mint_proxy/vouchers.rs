//! Vouchers that sockets ask about: what became of one is told at once, and each change of it while the socket is open.
//!
//! One task looks for all of them, and only while there are any; after nothing was written there is nothing to look for.

use super::error::{Code, ProxyError};
use super::sockets::Outbox;
use super::MintProxy;
use crate::json::json;
use crate::task;
use crate::vouchers::{TicketWatch, VoucherRefusal};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Vouchers that one socket is told of, and all sockets together.
const OF_ONE: usize = 16;
const OF_ALL: usize = 256;
const EVERY: Duration = Duration::from_millis(400);
/// A voucher may expire without any write: after this many rounds all are looked at.
const IDLE_ROUNDS: u32 = 25;

/// All of them; nobody looks while there are none.
pub type VoucherWatches = Mutex<Vec<Watcher>>;

pub struct Watcher {
    outbox: Outbox,
    watch: TicketWatch,
}

impl MintProxy {
    /// What became of a voucher; from now on its changes go to this socket.
    pub(super) async fn subscribe(
        &self,
        outbox: &Outbox,
        id: &str,
        claim: &str,
    ) -> Result<Value, ProxyError> {
        let config = self.0.config.borrow().clone();
        let watched = self.0.desk.watch(&config, id, claim).await;
        let (told, watch) = watched.map_err(refused)?;
        let Some(own) = outbox.upgrade() else { return Ok(told) };
        let mut all = self.0.vouchers.lock().await;
        let is_idle = all.is_empty();
        all.retain(|other| match other.outbox.upgrade() {
            Some(outbox) => !(outbox.same_channel(&own) && other.watch.is_same(&watch)),
            None => false,
        });
        let is_own = |other: &&Watcher| other.outbox.upgrade().is_some_and(|other| other.same_channel(&own));
        if all.iter().filter(is_own).count() >= OF_ONE || all.len() >= OF_ALL {
            return Err(ProxyError::new(Code::RateLimited, "too many vouchers are watched already"));
        }
        all.push(Watcher { outbox: outbox.clone(), watch });
        if is_idle {
            let proxy = self.clone();
            task::spawn(async move { proxy.watch_vouchers().await });
        }
        Ok(message(told))
    }

    /// Until nobody asks any more.
    async fn watch_vouchers(&self) {
        let store = self.0.desk.book.store().clone();
        let mut seen = store.commits();
        for round in 1u32.. {
            tokio::time::sleep(EVERY).await;
            let mut all = self.0.vouchers.lock().await;
            all.retain(|watcher| watcher.outbox.strong_count() > 0);
            if all.is_empty() {
                return;
            }
            let commits = store.commits();
            if commits == seen && round.checked_rem(IDLE_ROUNDS) != Some(0) {
                continue;
            }
            seen = commits;
            let mut gone = Vec::new();
            for (number, watcher) in all.iter_mut().enumerate() {
                if !self.tell_news(watcher).await {
                    gone.push(number);
                }
            }
            gone.into_iter().rev().for_each(|number| drop(all.swap_remove(number)));
            if all.is_empty() {
                return;
            }
        }
    }

    /// False: there is no such voucher any more. What a socket has no room for is told later.
    async fn tell_news(&self, watcher: &mut Watcher) -> bool {
        let config = self.0.config.borrow().clone();
        match self.0.desk.news(&config, &watcher.watch).await {
            Ok(Some((news, after))) => {
                let Some(outbox) = watcher.outbox.upgrade() else { return false };
                if outbox.capacity() >= news.len() {
                    for told in news {
                        let text: Arc<str> = message(told).to_string().into();
                        let _ = outbox.try_send(text);
                    }
                    watcher.watch = after;
                }
                true
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

fn message(mut told: Value) -> Value {
    let id = told["ticketId"].clone();
    if let Some(map) = told.as_object_mut() {
        map.insert("type".into(), "ticket_status".into());
        map.insert("ticket_id".into(), json!(id));
    }
    told
}

fn refused(refusal: VoucherRefusal) -> ProxyError {
    match refusal.status {
        404 => ProxyError::new(Code::VoucherNotFound, "no voucher has this id and claim"),
        _ => ProxyError::new(Code::Closed(refusal.code), refusal.message.clone()),
    }
}
