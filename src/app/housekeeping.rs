//! What is done again and again, slowly: forgetting what is over, and asking mints about what lies around.
//!
//! A flash that runs short of room costs old records first: before the shop closes, what is settled is kept for less
//! and less time. Tokens that wait for their guests stay as long as ever.

use crate::card::Cards;
use crate::shop::Shop;
use crate::store::{OrdersSince, RecordsSince, Store, StoreError};
use crate::task;
use crate::units::{Millis, UnixSeconds};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

const EVERY: Millis = Millis::from_secs(3600);
const EVERY_WHEN_SHORT: Millis = Millis::from_secs(60);
const DAY: Millis = Millis::from_secs(86_400);

/// Tokens that were not fetched, records of sales, and accounts that have nothing here any more are kept this long.
const KEEP: Millis = Millis::from_secs(90 * 86_400);
/// The record of what was sold, where space is short: first that long, then this long.
const KEEP_WHEN_SHORT: [Millis; 2] = [Millis::from_secs(30 * 86_400), Millis::from_secs(7 * 86_400)];
/// Requests that were never paid, and are not watched any more, are kept this long: strangers can make many.
const KEEP_UNPAID: Millis = Millis::from_secs(2 * 86_400);
/// How long orders are kept that nobody has paid (longer than Daraja reports late payments), and orders that never reached a
/// phone.
const KEEP_ORDERS: (Millis, Millis) = (Millis::from_secs(3 * 86_400), EVERY);
/// How many orders that nobody has paid are kept: about 5 MB.
const MOST_UNPAID_ORDERS: u32 = 4096;

/// When each part was done last, on the monotonic clock. What is forgotten is looked for at the start, too.
pub struct Housekeeping {
    records: Option<Millis>,
    idle: Option<Millis>,
    mints: Millis,
    is_busy: Arc<AtomicBool>,
}

impl Housekeeping {
    pub fn new(now: Millis) -> Housekeeping {
        Housekeeping { records: None, idle: None, mints: now, is_busy: Arc::default() }
    }

    /// Sets going what is due; returns at once.
    pub fn tend(&mut self, shop: &Shop, now: Millis) {
        let is_due = |last: Option<Millis>, every| last.is_none_or(|last| last.saturating_add(every) <= now);
        let every = if shop.store.is_short_of_room() { EVERY_WHEN_SHORT } else { EVERY };
        if is_due(self.records, every) && !self.is_busy.swap(true, Ordering::Relaxed) {
            self.records = Some(now);
            let idle_too = is_due(self.idle, DAY);
            self.idle = if idle_too { Some(now) } else { self.idle };
            let (shop, is_busy) = (shop.clone(), self.is_busy.clone());
            task::spawn(async move {
                if let Err(err) = forget(&shop, idle_too).await {
                    log::warn!("old records are not removed: {err}");
                }
                is_busy.store(false, Ordering::Relaxed);
            });
        }
        if is_due(Some(self.mints), EVERY) {
            self.mints = now;
            let shop = shop.clone();
            task::spawn(async move {
                shop.invoices.tidy().await;
                shop.wallet.tidy().await;
                shop.balances.tidy().await;
            });
        }
    }
}

async fn forget(shop: &Shop, idle_too: bool) -> Result<(), StoreError> {
    forget_records(&shop.store, shop.cards.as_ref().ok()).await?;
    shop.store.forget_invites(shop.store.now().saturating_sub(KEEP)).await?;
    let (old, wall) = (shop.store.now().saturating_sub(KEEP), shop.store.lasting_wall());
    let old_wall = UnixSeconds(wall.0.saturating_sub(KEEP.as_secs_ceil()));
    let before = |age| shop.store.now().saturating_sub(age);
    let (unpaid, unsent) = (before(KEEP_ORDERS.0), before(KEEP_ORDERS.1));
    let orders = OrdersSince { closed: old, unpaid, unsent, most_unpaid: MOST_UNPAID_ORDERS };
    shop.store.forget_orders(orders, old_wall).await?;
    shop.store.forget_balance_moves(old_wall).await?;
    shop.store.forget_topups(old_wall).await?;
    shop.store.forget_payouts(old).await?;
    for tenant in shop.terms.config().all_tenants() {
        shop.vouchers.book().tidy(&tenant, old_wall).await?;
    }
    match idle_too {
        true => shop.store.forget_idle(shop.store.now().saturating_sub(KEEP)).await,
        false => Ok(()),
    }
}

/// Removes records of what is over: where space is short, also those that would be kept otherwise. Taps of cards
/// only where their room is open.
pub async fn forget_records(store: &Store, cards: Option<&Cards>) -> Result<(), StoreError> {
    let before = |age| store.now().saturating_sub(age);
    let mut shorter = KEEP_WHEN_SHORT.into_iter();
    let mut settled = KEEP;
    loop {
        let unpaid = if store.is_short_of_room() { Millis::ZERO } else { KEEP_UNPAID };
        let kept = RecordsSince { tokens: before(KEEP), settled: before(settled), unpaid: before(unpaid) };
        store.prune(kept).await?;
        // After the grants: the number of a tap is used again, and must not find the grant of another.
        if let Some(cards) = cards {
            cards.tidy(before(settled)).await?;
        }
        match shorter.next() {
            Some(time) if store.is_short_of_room() => settled = time,
            _ => return Ok(()),
        }
    }
}
