//! Unpaid requests that no task watches: strangers may have asked for any number of invoices, so those that are left
//! lie in the store only, and all are looked at in rounds, a few at a time. A payment that is found has its request
//! watched again, and so does a guest that asks about it.

use super::request::{Request, Wake};
use super::{looks, InvoiceEngine, Table};
use crate::config::MintUrl;
use crate::ecash::{EcashError, QuoteId, QuoteState, Urgency};
use crate::mac::MacAddr;
use crate::store::{OpenPart, RequestId};
use crate::task;
use crate::units::Millis;
use litemap::LiteMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

const ROUND: Duration = Duration::from_secs(60);
/// Parts that are read from the store together.
const PAGE: usize = 50;
/// Looks under way at a mint that takes one quote in a question. Others wait for the same slot.
const ALONE: usize = 2;
/// Long after its end an invoice is looked at in one of this many rounds.
const RARELY: i64 = 10;

/// What a look has told.
enum Look {
    Paid,
    Unpaid,
    /// The quote could not be asked for.
    Unknown,
    /// The mint cannot be asked now.
    Away,
}

impl InvoiceEngine {
    /// Goes round for ever; each mint has a round of its own, so that a silent one holds up itself only.
    pub(super) async fn go_rounds(self) {
        let mut under_way: LiteMap<MintUrl, JoinHandle<()>> = LiteMap::new();
        let mut number = 0i64;
        loop {
            if self.0.has_aside.load(Ordering::Relaxed) {
                under_way.retain(|_, round| !round.is_finished());
                for mint in self.0.store.open_mints().await.unwrap_or_default() {
                    if !under_way.contains_key(&mint) {
                        let (engine, of) = (self.clone(), mint.clone());
                        let round = task::spawn(async move { engine.go_round(&of, number).await });
                        under_way.insert(mint, round);
                    }
                }
                number = number.wrapping_add(1);
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn go_round(&self, mint: &MintUrl, number: i64) {
        let mut after = 0;
        while let Ok(page) = self.0.store.open_parts(mint, after, PAGE).await {
            let Some(last) = page.last() else { return };
            after = last.id;
            let now = self.0.store.now();
            let parts: Vec<OpenPart> =
                page.into_iter().filter(|part| self.is_left(part) && is_due(part, number, now)).collect();
            if !self.look_at(mint, parts).await {
                return;
            }
        }
    }

    /// Looks at these parts; false if the mint cannot be asked now.
    async fn look_at(&self, mint: &MintUrl, parts: Vec<OpenPart>) -> bool {
        let at_once = self.0.mints.get(mint).quotes_at_once().map_or(ALONE, |most| most.min(PAGE));
        let mut over = Vec::new();
        let mut is_there = true;
        for some in parts.chunks(at_once.max(1)) {
            let mut looks = JoinSet::new();
            for part in some.iter().cloned() {
                let (engine, mint) = (self.clone(), mint.clone());
                looks.spawn(async move { (engine.look_once(&mint, &part).await, part) });
            }
            while let Some(looked) = looks.join_next().await {
                match looked {
                    Ok((Look::Paid, part)) => {
                        self.0.store.paid(part.id);
                        self.take_up(&part.request, part.id).await;
                    }
                    Ok((Look::Unpaid, part)) if self.is_given_up(&part) => over.push(part.id),
                    Ok((Look::Unpaid | Look::Unknown, _)) => {}
                    Ok((Look::Away, _)) | Err(_) => is_there = false,
                }
            }
            if !is_there {
                break;
            }
        }
        if !over.is_empty() {
            if let Err(err) = self.0.store.all_expired(over).await {
                log::error!("invoices that ended: {err}");
            }
        }
        is_there
    }

    async fn look_once(&self, mint: &MintUrl, part: &OpenPart) -> Look {
        let Some(quote) = QuoteId::parse(&part.quote) else { return Look::Unknown };
        match self.0.mints.get(mint).quote_state(&quote, Urgency::Background).await.map(|quote| quote.state) {
            Ok(QuoteState::Paid | QuoteState::Issued) => Look::Paid,
            Ok(QuoteState::Unpaid | QuoteState::Pending) | Err(EcashError::QuoteUnknown) => Look::Unpaid,
            Err(
                EcashError::Unreachable(_)
                | EcashError::NoAnswer(_)
                | EcashError::RateLimited
                | EcashError::Busy
                | EcashError::LoginNeeded,
            ) => Look::Away,
            Err(_) => Look::Unknown,
        }
    }

    /// No task watches it.
    fn is_left(&self, part: &OpenPart) -> bool {
        !self.table().requests.contains_key(&part.request)
    }

    /// Its grace is over. Where space is short, an invoice that has ended must not keep the shop closed.
    fn is_given_up(&self, part: &OpenPart) -> bool {
        let grace = match self.0.store.room_for_sales() {
            true => self.0.config.borrow().main.invoice_grace,
            false => Millis::ZERO,
        };
        part.due.saturating_add(grace) <= self.0.store.now()
    }

    /// Has a request watched again, of which this part was found to be paid.
    pub(super) async fn take_up(&self, id: &RequestId, paid: i64) {
        match self.load(id).await {
            Ok(Some(request)) => {
                let request = self.watch_anew(request);
                request
                    .parts()
                    .iter()
                    .filter(|part| part.id == paid)
                    .for_each(|part| part.poke(Wake::SaidPaid));
            }
            Ok(None) => {}
            // The next round finds it again.
            Err(err) => log::error!("request {id}: {err}"),
        }
    }

    /// A request that was read from the store for its guest: if it was left to the rounds it is watched again, where
    /// there is room for it.
    pub(super) fn watched_again(&self, request: Arc<Request>) -> Arc<Request> {
        if !request.is_unpaid() || self.table().requests.contains_key(&request.id) {
            return request;
        }
        let has_room = {
            let mut table = self.table();
            self.make_room(&mut table, request.invoices(), request.mac())
        };
        if has_room {
            self.watch_anew(request)
        } else {
            request
        }
    }

    /// The request that is watched under this id: this one, unless there is one already.
    fn watch_anew(&self, request: Arc<Request>) -> Arc<Request> {
        {
            let mut table = self.table();
            if let Some(known) = table.requests.get(&request.id) {
                return known.clone();
            }
            table.requests.insert(request.id.clone(), request.clone());
        }
        self.watch(&request);
        request
    }

    /// See [`Table::make_room`].
    pub(super) fn make_room(&self, table: &mut Table, more: usize, mac: MacAddr) -> bool {
        let has_session = |mac| self.0.access.is_customer(mac);
        let before = table.requests.len();
        let has_room = table.make_room(more, has_session(mac), self.0.store.now(), has_session);
        if table.requests.len() < before {
            self.0.has_aside.store(true, Ordering::Relaxed);
        }
        has_room
    }
}

/// Whether a part is looked at in this round.
fn is_due(part: &OpenPart, round: i64, now: Millis) -> bool {
    looks::is_close(part.due, now) || part.id.wrapping_add(round).rem_euclid(RARELY) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_looks_at_what_ended_within_the_hour_and_at_a_tenth_of_the_rest() {
        let due = Millis::from_secs(1000);
        let part = |id| OpenPart { id, request: RequestId::random().unwrap(), quote: String::new(), due };
        let looked_at = |round, now| (0..100).filter(|id| is_due(&part(*id), round, now)).count();
        assert_eq!(looked_at(0, Millis::from_secs(4599)), 100);
        assert_eq!(
            (0..10).map(|round| looked_at(round, Millis::from_secs(4600))).collect::<Vec<_>>(),
            [10; 10]
        );
        let of_one = (0..10).filter(|round| is_due(&part(7), *round, Millis::from_secs(5000))).count();
        assert_eq!(of_one, 1);
    }
}
