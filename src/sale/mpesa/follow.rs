//! An order's way to its end: sent once, asked about until it is known, and after a restart gone on with where it was.

use super::plan::{OrderPace, CALLBACK, LIFE, PULL_AGAIN, PULL_FIRST, PULL_IDLE, PULL_LIFE, SENDING, UNSENT};
use super::table::Turn;
use super::view::OrderFault;
use super::{pace_of, payout, token_hash, MpesaEngine};
use crate::config::{MpesaConfig, MpesaMode};
use crate::fiat::{Daraja, DarajaRefusal, Phone, Prompt, PromptVerdict, Pushed, Why};
use crate::hex;
use crate::store::{Admission, OrderRow, OrderState, Secret, Settled, StoreError, ORDER_JOB};
use crate::task;
use crate::units::Millis;
use std::time::Duration;

/// The scheduler looks at the clock at least this often.
const LONGEST: Millis = Millis::from_secs(10);
/// A store that cannot be written to is tried again.
const STORE_AGAIN: Millis = Millis::from_secs(5);
/// While the clock is not set.
const CLOCK_AGAIN: Millis = Millis::from_secs(2);
/// A callback that comes with the money has at least this much real time.
const CALLBACK_LEAST: Millis = Millis(150);
/// Orders of the last hour are shown to their guests after a restart.
const REMEMBERED: Millis = Millis::from_secs(3600);
/// Pages of the list of payments.
const PAGES: usize = 20;

/// When an order is dealt with again; `None`: it is at its end, as far as we go by ourselves.
pub(super) type Again = Option<Millis>;

impl MpesaEngine {
    /// After a start: what was being sent may have been sent.
    pub(super) async fn resume(&self) -> Result<(), StoreError> {
        let store = &self.0.terms.store;
        let now = store.now();
        let rows = store.orders_to_follow(now.saturating_sub(REMEMBERED)).await?;
        let followed: Vec<String> = store.jobs().await?.into_iter().map(|job| job.subject).collect();
        for row in rows {
            self.table().note_guest(row.mac, &row.id, row.created);
            if row.state == OrderState::Sending {
                log::warn!("order {} was being sent when this router stopped: it is not sent again", row.id);
                store.order_lost(row.id.clone()).await?;
            }
            if followed.contains(&row.id) {
                self.table().follow(&row.id, now, row.state == OrderState::Created);
            }
        }
        Ok(())
    }

    pub(super) async fn work(self) {
        loop {
            let pace = self.0.terms.config().mpesa.as_ref().map_or(OrderPace(1), pace_of);
            let now = self.0.terms.store.now();
            let turn = self.table().turn(now, pace, LONGEST);
            match turn {
                Turn::Order(id) => {
                    let engine = self.clone();
                    task::spawn(async move { engine.turn_of(id).await });
                }
                Turn::Wait(wait) => {
                    let wait = self.pull_when_idle(now, pace).map_or(wait, |pull| wait.min(pull));
                    let _ = tokio::time::timeout(wait.as_duration(), self.0.wake.notified()).await;
                }
            }
        }
    }

    async fn turn_of(self, id: String) {
        let again = match self.dealt_with(&id).await {
            Ok(again) => again,
            Err(error) => {
                log::error!("order {id} is not gone on with yet: {error}");
                Some(self.0.terms.store.now().saturating_add(STORE_AGAIN))
            }
        };
        self.table().done(&id, again, self.0.terms.store.now());
        self.0.wake.notify_one();
    }

    async fn dealt_with(&self, id: &str) -> Result<Again, StoreError> {
        if id.starts_with(payout::MARK) {
            return self.deal_with_payout(id).await;
        }
        let store = &self.0.terms.store;
        let Some(row) = store.order(id.to_owned()).await? else { return Ok(None) };
        if row.state == OrderState::Paid {
            match store.admission_of_order(row.access.clone()).await? {
                Some(admission) => self.admit(&row.id, admission).await,
                // Its time is over already: there is no gate to open.
                None => store.order_granted(row.id.clone()).await?,
            }
            return Ok(None);
        }
        let config = self.0.terms.config();
        let in_a_while = |wait| Ok(Some(store.now().saturating_add(wait)));
        let Some(mpesa) = &config.mpesa else { return in_a_while(LIFE) };
        if !store.wall_is_plausible() {
            return in_a_while(CLOCK_AGAIN);
        }
        match (row.state, &row.checkout) {
            (OrderState::Created, _) => self.send(&row, mpesa).await,
            (OrderState::Sending, _) => {
                store.order_lost(row.id.clone()).await?;
                Ok(Some(store.now()))
            }
            (OrderState::Pending | OrderState::Unknown | OrderState::Failed, Some(checkout)) => {
                self.ask(&row, checkout, mpesa).await
            }
            (OrderState::Unknown, _) => self.search(&row, mpesa).await,
            _ => {
                store.order_given_up(row.id.clone()).await?;
                Ok(None)
            }
        }
    }

    /// Sends the prompt: its state is on the flash before, and this happens once.
    async fn send(&self, row: &OrderRow, mpesa: &MpesaConfig) -> Result<Again, StoreError> {
        let (store, pace, id) = (&self.0.terms.store, pace_of(mpesa), || row.id.clone());
        // Service time stands still without power, and the guest does not.
        let unsent_until = row.at.0.saturating_add(pace.of(UNSENT).as_secs_ceil());
        if row.created.saturating_add(pace.of(UNSENT)) < store.now() || unsent_until < store.wall().0 {
            store.order_refused(id(), "dropped".to_owned()).await?;
            return Ok(None);
        }
        let phone = row
            .phone
            .as_ref()
            .and_then(|phone| std::str::from_utf8(phone.expose()).ok()?.parse::<Phone>().ok());
        let (Some(phone), Ok(daraja)) = (phone, self.daraja()) else {
            store.order_refused(id(), "credentials".to_owned()).await?;
            return Ok(None);
        };
        if let Some(code) = self.prompts_stopped() {
            store.order_refused(id(), code).await?;
            return Ok(None);
        }
        let mut token = [0u8; 16];
        getrandom::fill(&mut token).map_err(|_| StoreError::NoRandomness)?;
        let token = hex::encode(&token);
        if !store.order_sending(id(), token_hash(&token)).await? {
            return Ok(Some(store.now()));
        }
        let callback_url = mpesa.callback_url.endpoint(&token);
        let prompt =
            Prompt { phone: &phone, amount: row.amount, reference: &row.id, callback_url: &callback_url };
        match daraja.push(&prompt, store.wall()).await {
            Pushed::Accepted(checkout) => {
                self.table().went_well();
                let hash = self.keyed("checkout", checkout.as_bytes()).await?;
                store.order_accepted(id(), Secret::new(checkout.into_bytes()), hash).await?;
                log::info!("order {}: {phone} is asked", row.id);
                // Its end may have been told before its beginning.
                let is_heard = store.order(id()).await?.is_some_and(|row| row.is_heard);
                let wait = pace.next_look(Millis::ZERO).filter(|_| !is_heard).unwrap_or_default();
                Ok(Some(store.now().saturating_add(wait)))
            }
            Pushed::Refused(refused) => self.not_sent(row, refused, pace).await,
            Pushed::Unknown(cause) => {
                log::warn!("order {}: it is not known whether {phone} is asked: {cause}", row.id);
                self.line().last_error = Some(cause);
                // Another guest's prompt would fare no better at once.
                self.table().slow_down(store.now(), pace);
                store.order_lost(id()).await?;
                // A callback may have told its id meanwhile.
                let is_told = store.order(id()).await?.is_some_and(|row| row.checkout.is_some());
                let wait = if is_told { Millis::ZERO } else { pace.of(PULL_FIRST) };
                Ok(Some(store.now().saturating_add(wait)))
            }
        }
    }

    async fn not_sent(
        &self,
        row: &OrderRow,
        refused: DarajaRefusal,
        pace: OrderPace,
    ) -> Result<Again, StoreError> {
        let (store, id) = (&self.0.terms.store, row.id.clone());
        let now = store.now();
        log::warn!("order {id}: not sent: {:?} {}", refused.why, refused.code);
        self.line().last_error = Some(format!("{:?} {}", refused.why, refused.code));
        let code = match refused.why {
            Why::Busy | Why::Away if row.created.saturating_add(pace.of(SENDING)) > now => {
                store.order_unsent(id.clone()).await?;
                let tries = self.table().failed(&id, &refused.code);
                let mut wait = pace.backoff(tries);
                if refused.why == Why::Busy {
                    wait = wait.max(self.table().slow_down(now, pace));
                }
                let due = now.saturating_add(wait);
                store.job_failed(ORDER_JOB, id, due, refused.code).await?;
                return Ok(Some(due));
            }
            Why::Busy => "busy".to_owned(),
            Why::Away => "away".to_owned(),
            Why::PhoneBusy => "phone_busy".to_owned(),
            Why::Credentials => {
                self.refuse_line(format!("Daraja refuses the credentials ({})", refused.code), pace);
                "credentials".to_owned()
            }
            Why::Request => {
                if OrderFault::is_operators(&refused.code) {
                    self.stop_prompts(&refused.code, pace);
                }
                refused.code
            }
        };
        store.order_refused(id, code).await?;
        Ok(None)
    }

    /// Asks what became of the prompt.
    async fn ask(&self, row: &OrderRow, checkout: &Secret, mpesa: &MpesaConfig) -> Result<Again, StoreError> {
        let (store, pace, id) = (&self.0.terms.store, pace_of(mpesa), || row.id.clone());
        let verdict = match (self.daraja(), std::str::from_utf8(checkout.expose())) {
            (Ok(daraja), Ok(checkout)) => daraja.query(checkout, store.wall()).await,
            (Err(why), _) => PromptVerdict::Unclear(why),
            (_, Err(_)) => PromptVerdict::Unclear("no id".to_owned()),
        };
        let now = store.now();
        if !matches!(verdict, PromptVerdict::Busy) {
            self.table().went_well();
        }
        if verdict == PromptVerdict::Paid {
            return self.paid(row, mpesa).await;
        }
        // It may have come while we asked.
        let row = &store.order(id()).await?.unwrap_or_else(|| row.clone());
        let age = now.saturating_sub(row.prompted);
        let mut next = pace.next_look(age).map(|wait| now.saturating_add(wait));
        // Unanswered, or a callback says otherwise than Daraja: nothing is known yet.
        let is_open = matches!(verdict, PromptVerdict::Unclear(_)) || row.is_said_paid;
        // A callback says so, and Daraja says otherwise: what is not known yet is no contradiction.
        if row.is_said_paid && (matches!(verdict, PromptVerdict::Failed(_)) || next.is_none()) {
            store.put_heard_aside(id()).await?;
        }
        let mut is_failed = row.state == OrderState::Failed;
        match verdict {
            PromptVerdict::Failed(code)
                if row.state == OrderState::Pending && (OrderFault::is_known(&code) || next.is_none()) =>
            {
                log::info!("order {}: not paid: {code}", row.id);
                if OrderFault::is_operators(&code) {
                    self.stop_prompts(&code, pace);
                }
                store.order_failed(id(), code).await?;
                is_failed = true;
            }
            PromptVerdict::Busy => {
                let wait = self.table().slow_down(now, pace);
                return Ok(Some(now.saturating_add(wait)));
            }
            PromptVerdict::Unclear(cause) => {
                log::debug!("order {}: asked for nothing: {cause}", row.id);
                self.table().failed(&row.id, &cause);
                self.line().last_error = Some(cause);
            }
            _ => {}
        }
        let rarely = now.saturating_add(pace.of(PULL_AGAIN));
        if next.is_none() {
            store.order_failed(id(), "timeout".to_owned()).await?;
            if is_open && age < pace.of(PULL_LIFE) {
                return Ok(Some(rarely));
            }
            store.order_given_up(id()).await?;
        }
        if is_failed && !row.is_said_paid {
            // Those that may be paid at any moment go first.
            next = next.map(|next| next.max(rarely));
        }
        Ok(next)
    }

    /// Daraja says that it is paid: the books and what it buys in one commit, then the gate.
    async fn paid(&self, row: &OrderRow, mpesa: &MpesaConfig) -> Result<Again, StoreError> {
        let pace = pace_of(mpesa);
        if mpesa.mode != MpesaMode::Poll && !row.is_heard {
            // How much it was is said by the callback alone, which is on its way.
            tokio::time::sleep(pace.of(CALLBACK).max(CALLBACK_LEAST).as_duration()).await;
        }
        self.settle(row, None, pace).await
    }

    async fn settle(
        &self,
        row: &OrderRow,
        receipt: Option<String>,
        pace: OrderPace,
    ) -> Result<Again, StoreError> {
        let store = &self.0.terms.store;
        let until = row.prompted.saturating_add(pace.of(LIFE));
        let until_wall = row.at.0.saturating_add(until.saturating_sub(row.created).as_secs_ceil());
        // Service time stands still without power, and the guest does not.
        let is_late = until < store.now() || until_wall < store.wall().0;
        match store.settle_order(row.id.clone(), receipt, is_late).await? {
            Settled::Granted(admission) => {
                log::info!("order {}: {} KES are paid", row.id, row.amount);
                self.admit(&row.id, admission).await;
            }
            Settled::Credit => log::info!("order {}: paid late, it waits for its guest", row.id),
            Settled::Bought => {
                log::info!("order {}: {} KES are paid, a balance has it", row.id, row.amount);
                self.0.bought.notify_one();
            }
            Settled::Nothing => {}
        }
        Ok(None)
    }

    /// Opens the gate for what is granted; the order is at its end then.
    pub(super) async fn admit(&self, id: &str, admission: Admission) {
        let (access, store, id) = (self.0.terms.access.clone(), self.0.terms.store.clone(), id.to_owned());
        let admitting = task::start(async move {
            access.admit(admission).await;
            if let Err(error) = store.order_granted(id.clone()).await {
                log::error!("order {id} is open, which is not written yet: {error}");
            }
        });
        // It goes on by itself; a caller who waits sees it in most cases.
        let _ = tokio::time::timeout(Duration::from_secs(5), admitting).await;
    }

    /// A prompt whose answer was lost: the list of payments tells, where it may be asked for.
    async fn search(&self, row: &OrderRow, mpesa: &MpesaConfig) -> Result<Again, StoreError> {
        let (store, pace) = (&self.0.terms.store, pace_of(mpesa));
        let lost = store.now().saturating_sub(row.changed);
        let most = if mpesa.pull { PULL_LIFE } else { LIFE };
        if lost > pace.of(most) {
            store.order_given_up(row.id.clone()).await?;
            return Ok(None);
        }
        let first = row.changed.saturating_add(pace.of(PULL_FIRST));
        if first > store.now() {
            return Ok(Some(first));
        }
        let now = store.now();
        // One that another order has asked for tells of this one as well.
        let is_fresh = |last: Millis| last >= first && last.saturating_add(pace.of(PULL_AGAIN)) > now;
        let is_asked = self.line().last_pull.is_some_and(is_fresh);
        if mpesa.pull && !is_asked {
            if let Ok(daraja) = self.daraja() {
                self.pull(&daraja, pace).await?;
            }
        }
        Ok(Some(store.now().saturating_add(pace.of(PULL_AGAIN))))
    }

    /// Asks for the list of payments now and then, if it is wanted, or says how long until then.
    fn pull_when_idle(&self, now: Millis, pace: OrderPace) -> Option<Millis> {
        let config = self.0.terms.config();
        config.mpesa.as_ref().filter(|mpesa| mpesa.pull && self.0.terms.store.wall_is_plausible())?;
        let last = *self.line().last_pull.get_or_insert(now);
        let due = last.saturating_add(pace.of(PULL_IDLE));
        if due > now {
            return Some(due.saturating_sub(now));
        }
        let (Ok(daraja), true) = (self.daraja(), self.table().take_call(now, pace)) else {
            return Some(Millis(1000));
        };
        self.line().last_pull = Some(now);
        let engine = self.clone();
        task::spawn(async move {
            if let Err(error) = engine.pull(&daraja, pace).await {
                log::error!("payments that were found are not written down yet: {error}");
            }
        });
        None
    }

    /// Has the list of payments kept, once, where the configuration says by which number.
    async fn register_list(&self, daraja: &Daraja) {
        let config = self.0.terms.config();
        let Some(mpesa) = &config.mpesa else { return };
        let Some(number) = &mpesa.pull_number else { return };
        let by = [mpesa.shortcode.clone(), number.clone(), mpesa.callback_url.as_str().to_owned()];
        if self.line().registered.as_ref() == Some(&by) {
            return;
        }
        match daraja.register_list(number, mpesa.callback_url.as_str()).await {
            Ok(()) => self.line().registered = Some(by),
            Err(cause) => {
                log::warn!("the list of payments cannot be registered: {cause}");
                self.line().last_error = Some(cause);
            }
        }
    }

    async fn pull(&self, daraja: &Daraja, pace: OrderPace) -> Result<(), StoreError> {
        let store = &self.0.terms.store;
        self.line().last_pull = Some(store.now());
        self.register_list(daraja).await;
        let mut seen = 0usize;
        for _ in 0..PAGES {
            let rows = match daraja.payments(seen, store.wall()).await {
                Ok(rows) => rows,
                Err(cause) => {
                    log::warn!("the list of payments cannot be had: {cause}");
                    self.line().last_error = Some(cause);
                    return Ok(());
                }
            };
            if rows.is_empty() {
                return Ok(());
            }
            seen = seen.saturating_add(rows.len());
            for row in rows {
                let found = store.found_payment(row.receipt.clone(), row.amount, row.reference).await?;
                if let Some(order) = found {
                    self.settle(&order, Some(row.receipt), pace).await?;
                }
            }
        }
        Ok(())
    }
}
