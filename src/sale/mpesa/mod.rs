//! M-Pesa: a prompt on the guest's phone, the PIN there, and the internet here. Refused: a price that is not on the list,
//! what is not a phone number, a phone that was asked a moment ago, and everything while the clock is not set.
//!
//! Journal, prompt, look, one commit of money and access, gate, answer. A prompt is sent once for an order and never again:
//! what became of it is asked about, and what a callback says is a reason to ask, never an answer. Nothing is final where
//! money is concerned: what has failed may still turn out paid, and gives access then, or waits for its guest.

mod buy;
mod claim;
mod collect;
mod error;
mod follow;
pub mod payout;
mod plan;
mod table;
mod view;

pub use error::MpesaError;
pub use view::{OrderFault, OrderView};

use super::event::SaleEvent;
use super::guesses::Guesses;
use super::invoice::InvoiceEngine;
use super::{Price, Terms};
use crate::calls::Tls;
use crate::config::{Config, MpesaConfig, PriceConfig, Venue};
use crate::fiat::{Daraja, Phone, StkCallback};
use crate::hex;
use crate::mac::MacAddr;
use crate::network::neighbours::Caller;
use crate::pace::Pace;
use crate::store::{
    HeardCallback, KeyFile, NewGrant, NewOrder, OpenedOrder, OrderRow, OrderState, PromptRules, Reference,
    Secret, Settled, StoreError, BUY,
};
use crate::task;
use crate::units::{Allotment, Millis, Sats};
use hmac::{Hmac, KeyInit, Mac};
use payout::ToldFunds;
use plan::{OrderPace, CREDENTIALS, LIFE};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::OrderTable;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Makes the hashes of phone numbers; made with the first order.
const KEY: KeyFile = KeyFile("phones");
const KEY_LEN: usize = 32;
/// Digits of Crockford's base32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Ids of orders begin with it.
const MARK: &str = "TG";
/// Orders of a MAC within ten minutes.
const ORDERS: (usize, Millis) = (60, GUESSING);
/// Only a few wrong receipts may be tried within this.
const GUESSING: Millis = Millis::from_secs(600);
const DAY: Millis = Millis::from_secs(86_400);
/// A prompt follows another one to the same phone after the first, one for the same amount after the second.
const PAUSES: (Millis, Millis) = (Millis::from_secs(60), Millis::from_secs(120));
/// How long a guest is shown the order that it made.
const SHOWN: Millis = Millis::from_secs(1800);
const LONGEST_TOKEN: usize = 64;

/// What came of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// No order has this token.
    Unknown,
    /// It is written down, if it says anything.
    Known,
}

/// Sells for shillings; clones share everything.
#[derive(Clone)]
pub struct MpesaEngine(Arc<SharedMpesa>);

struct SharedMpesa {
    terms: Terms,
    invoices: InvoiceEngine,
    tls: Tls,
    key: tokio::sync::OnceCell<Secret>,
    line: Mutex<Line>,
    table: Mutex<OrderTable>,
    wake: Notify,
    /// A balance has got something.
    bought: Notify,
    guesses: Mutex<Guesses>,
    orders: Mutex<Pace>,
}

/// Daraja, as the configuration that was read last names it.
#[derive(Default)]
struct Line {
    of: Option<Arc<Config>>,
    daraja: Option<Result<Arc<Daraja>, String>>,
    /// Why Daraja refuses what we show it, and until when it is not asked again.
    refused: Option<(String, Millis)>,
    /// The code by which Daraja has said that no prompt can be paid here, and until when none is sent.
    unpayable: Option<(String, Millis)>,
    last_pull: Option<Millis>,
    /// By which the list of payments was registered: short code, number and address.
    registered: Option<[String; 3]>,
    last_error: Option<String>,
    relay_trouble: Option<String>,
    /// Why nothing is paid out.
    paused: Option<String>,
    /// What is at the short code that pays out.
    funds: Option<ToldFunds>,
}

impl MpesaEngine {
    /// Goes on with the orders that are not at their end.
    pub async fn start(terms: Terms, invoices: InvoiceEngine, tls: Tls) -> Result<MpesaEngine, StoreError> {
        let engine = MpesaEngine(Arc::new(SharedMpesa {
            terms,
            invoices,
            tls,
            key: tokio::sync::OnceCell::new(),
            line: Mutex::default(),
            table: Mutex::default(),
            wake: Notify::new(),
            bought: Notify::new(),
            guesses: Mutex::new(Guesses::new(GUESSING)),
            orders: Mutex::new(Pace::new(ORDERS.0, ORDERS.1)),
        }));
        engine.resume().await?;
        engine.resume_payouts().await?;
        let working = engine.clone();
        task::spawn(async move { working.work().await });
        task::spawn(engine.clone().collect());
        let orders = engine.clone();
        engine.0.invoices.listen(move |event| {
            if let SaleEvent::Gone { devices, to } = event {
                orders.table().hand_over(devices, *to);
            }
        });
        Ok(engine)
    }

    /// Opens an order for this price; the prompt is sent at once, and nobody waits for it. The same question again is
    /// answered with the same order. `question`: an Idempotency-Key.
    pub async fn order(
        &self,
        caller: &Caller,
        venue: &Venue,
        (price, phone): (&str, &str),
        question: Option<&str>,
    ) -> Result<OrderView, MpesaError> {
        let config = self.0.terms.config();
        let mpesa = config.mpesa.as_ref().ok_or(MpesaError::SwitchedOff)?;
        let price = config.prices_of(venue).find(|known| known.id == price).ok_or(MpesaError::BadPrice)?;
        let phone: Phone = phone.parse().map_err(|()| MpesaError::BadPhone)?;
        self.0.terms.may_sell(venue.metric)?;
        if !self.0.terms.store.wall_is_plausible() {
            return Err(MpesaError::ClockNotSet);
        }
        let now = self.0.terms.store.now();
        {
            let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
            if !orders.admit(caller.mac, now) {
                return Err(MpesaError::TooMany(orders.wait(caller.mac, now)));
            }
        }
        Terms::seems_alone(caller.clone()).await?;
        let new = self.new_order(&config, venue, caller.mac, (price, &phone), question).await?;
        let row = self.opened(mpesa, new, &phone).await?;
        Ok(OrderView::of(&row, pace_of(mpesa).of(LIFE), self.0.terms.store.now()))
    }

    /// Opens an order, or finds the one that is meant.
    async fn opened(
        &self,
        mpesa: &MpesaConfig,
        new: NewOrder,
        phone: &Phone,
    ) -> Result<OrderRow, MpesaError> {
        let pace = pace_of(mpesa);
        let rules = PromptRules {
            pause: pace.of(PAUSES.0),
            long_pause: pace.of(PAUSES.1),
            most_a_day: mpesa.orders_per_phone,
            day: DAY,
            open_for: pace.of(LIFE),
        };
        match self.0.terms.store.open_order(new, rules).await? {
            OpenedOrder::New(row) => {
                log::info!("{} orders {} for {} KES, to be paid by {phone}", row.who(), row.id, row.amount);
                self.follow(&row, true);
                Ok(row)
            }
            OpenedOrder::Again(row) => Ok(row),
            OpenedOrder::OtherQuestion => Err(MpesaError::OtherQuestion),
            OpenedOrder::OtherOrder => Err(MpesaError::OrderOpen),
            OpenedOrder::PhoneBusy(wait) => Err(MpesaError::PhoneBusy(wait)),
            OpenedOrder::PhoneLimit(wait) => Err(MpesaError::PhoneLimit(wait)),
            OpenedOrder::Crowded => Err(MpesaError::TooMany(pace.of(PAUSES.0))),
            OpenedOrder::FloatTooSmall => Err(MpesaError::FloatTooSmall),
            OpenedOrder::DayLimit => Err(MpesaError::DayLimit),
        }
    }

    async fn new_order(
        &self,
        config: &Config,
        venue: &Venue,
        mac: MacAddr,
        (price, phone): (&PriceConfig, &Phone),
        question: Option<&str>,
    ) -> Result<NewOrder, MpesaError> {
        let id = order_id().ok_or(StoreError::NoRandomness)?;
        let allotment = Allotment(venue.step_size).checked_mul(price.steps).ok_or(MpesaError::BadPrice)?;
        let mint = config.mints_of(venue).next();
        let value = mint.map_or(Sats(0), |mint| Price::of(venue, mint).cost(price.steps));
        let access = NewGrant {
            reference: Reference::Mpesa(id.clone()),
            mac,
            venue: venue.id.clone(),
            amount: price.amount.into(),
            metric: venue.metric,
            allotment,
            value: value.into(),
            mint: mint.map(|mint| mint.url.clone()),
        };
        let asked = question.map(|question| hex::encode(&Sha256::digest(question.as_bytes())));
        Ok(NewOrder {
            id,
            amount: price.amount,
            phone: Secret::new(phone.expose().as_bytes().to_vec()),
            phone_hash: self.keyed("phone", phone.expose().as_bytes()).await?,
            phone_tail: phone.tail().to_owned(),
            price: price.id.clone(),
            access,
            asked: asked.unwrap_or_default(),
            buys: None,
        })
    }

    /// What became of an order of this guest: another's is as unknown as one that never was.
    pub async fn look(&self, mac: MacAddr, id: &str) -> Result<OrderView, MpesaError> {
        let row =
            self.0.terms.store.order(id.to_owned()).await?.filter(|row| row.mac == mac && row.kind != BUY);
        self.seen(row.ok_or(MpesaError::NoSuchOrder)?).await
    }

    /// The order that this guest has made last, if it is worth being shown. What the guest had paid late before is given
    /// first, also after a restart.
    pub async fn of_guest(&self, mac: MacAddr) -> Option<OrderView> {
        // A shop without M-Pesa reads nothing for its pages.
        let sells = self.0.terms.config().mpesa.is_some();
        let late = if sells { self.0.terms.store.late_order_of(mac).await.ok().flatten() } else { None };
        let late = match late {
            Some(late) => self.seen(late).await.ok(),
            None => None,
        };
        self.last_of_guest(mac).await.or(late)
    }

    async fn last_of_guest(&self, mac: MacAddr) -> Option<OrderView> {
        let id = self.table().of_guest(mac)?.to_owned();
        let row = self.0.terms.store.order(id).await.ok()??;
        let is_over = matches!(row.state, OrderState::Granted | OrderState::Failed);
        let is_old = row.changed.saturating_add(SHOWN) < self.0.terms.store.now();
        if row.mac != mac || row.kind == BUY || (is_over && is_old) {
            return None;
        }
        self.seen(row).await.ok()
    }

    /// A guest who is here gets what it had paid late.
    async fn seen(&self, row: OrderRow) -> Result<OrderView, MpesaError> {
        let store = &self.0.terms.store;
        let row = match row.state {
            OrderState::LatePaid => {
                if let Settled::Granted(admission) = store.grant_late_order(row.id.clone(), row.mac).await? {
                    self.admit(&row.id, admission).await;
                }
                store.order(row.id.clone()).await?.unwrap_or(row)
            }
            _ => row,
        };
        let life = self.0.terms.config().mpesa.as_ref().map_or(LIFE, |mpesa| pace_of(mpesa).of(LIFE));
        Ok(OrderView::of(&row, life, store.now()))
    }

    /// Whether anything is called by this token.
    pub async fn knows_token(&self, token: &str) -> Result<bool, StoreError> {
        match token.is_empty() || token.len() > LONGEST_TOKEN {
            true => Ok(false),
            false => self.0.terms.store.is_called_by(token_hash(token)).await,
        }
    }

    /// Writes down a callback that came with this token in its path, and asks Daraja whether it is so. Durable when this
    /// returns; a body that cannot be read says nothing.
    pub async fn heard(&self, token: &str, body: &[u8]) -> Result<Heard, StoreError> {
        let callback = match StkCallback::read(body) {
            Some(read) => Some(HeardCallback {
                checkout_hash: self.keyed("checkout", read.checkout.as_bytes()).await?,
                checkout: Secret::new(read.checkout.into_bytes()),
                code: read.code,
                amount: read.amount,
                receipt: read.receipt,
            }),
            None => None,
        };
        let row = self.0.terms.store.hear_callback(token_hash(token), callback).await?;
        let Some(row) = row else { return self.heard_of_payout(token_hash(token), body).await };
        if matches!(row.state, OrderState::Pending | OrderState::Failed) && row.checkout.is_some() {
            self.follow(&row, false);
        }
        Ok(Heard::Known)
    }

    fn follow(&self, row: &OrderRow, is_new: bool) {
        let now = self.0.terms.store.now();
        let mut table = self.table();
        table.follow(&row.id, now, is_new);
        table.note_guest(row.mac, &row.id, row.created);
        drop(table);
        self.0.wake.notify_one();
    }

    /// Daraja, or why it cannot be asked. The credentials are read again whenever the configuration was.
    fn daraja(&self) -> Result<Arc<Daraja>, String> {
        let config = self.0.terms.config();
        let mut line = self.line();
        if !line.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &config)) {
            let (of, last_pull) = (Some(config.clone()), line.last_pull);
            let (relay_trouble, registered) = (line.relay_trouble.take(), line.registered.take());
            *line = Line { of, last_pull, registered, relay_trouble, ..Line::default() };
        }
        let now = self.0.terms.store.now();
        if line.refused.as_ref().is_some_and(|(_, until)| *until <= now) {
            (line.refused, line.daraja) = (None, None);
        }
        if let Some((why, _)) = &line.refused {
            return Err(why.clone());
        }
        let Some(mpesa) = &config.mpesa else { return Err("nothing is sold for M-Pesa here".to_owned()) };
        if line.daraja.is_none() {
            let made = Daraja::new(mpesa, &self.0.tls).map(Arc::new).map_err(|error| error.to_string());
            if let Err(why) = &made {
                log::error!("M-Pesa: {why}");
                line.refused = Some((why.clone(), now.saturating_add(pace_of(mpesa).of(CREDENTIALS))));
            }
            line.daraja = Some(made);
        }
        line.daraja.clone().unwrap_or_else(|| Err(String::new()))
    }

    /// Daraja does not take what we show it: it is not asked again before a reload, or a while.
    fn refuse_line(&self, why: String, pace: OrderPace) {
        log::error!("M-Pesa: {why}");
        let until = self.0.terms.store.now().saturating_add(pace.of(CREDENTIALS));
        self.line().refused = Some((why, until));
    }

    /// No prompt can be paid until the operator has done something: none is sent before a reload, or a while. What has been asked
    /// may still be paid, and is asked about.
    fn stop_prompts(&self, code: &str, pace: OrderPace) {
        log::error!("M-Pesa: {}", unpayable(code));
        let until = self.0.terms.store.now().saturating_add(pace.of(CREDENTIALS));
        self.line().unpayable = Some((code.to_owned(), until));
    }

    /// The code by which no prompt can be paid now.
    fn prompts_stopped(&self) -> Option<String> {
        // Forgets what was of an older configuration.
        let _ = self.daraja();
        let now = self.0.terms.store.now();
        self.line().unpayable.clone().filter(|(_, until)| *until > now).map(|(code, _)| code)
    }

    /// Why nothing can be sold for M-Pesa at the moment.
    pub fn trouble(&self) -> Option<String> {
        if let Some(fault) = self.0.terms.store.wall_fault() {
            return Some(fault.to_string());
        }
        // A file that is missing is told before the first guest asks.
        let is_used = self.0.terms.config().mpesa.is_some();
        let stopped = if is_used { self.prompts_stopped() } else { None };
        let line = self.line();
        line.refused.as_ref().map(|(why, _)| why.clone()).or_else(|| Some(unpayable(&stopped?)))
    }

    /// The last thing that went wrong with Daraja.
    pub fn last_error(&self) -> Option<String> {
        self.line().last_error.clone()
    }

    /// Why the relay gives nothing, where one is asked.
    pub fn relay_trouble(&self) -> Option<String> {
        self.line().relay_trouble.clone()
    }

    /// Orders that are followed: id, tries that came to nothing, how long until the next one, and the last error.
    pub fn followed(&self) -> Vec<(String, u32, Millis, String)> {
        let now = self.0.terms.store.now();
        let table = self.table();
        let one = |(id, one): (&String, &table::Followed)| {
            (id.clone(), one.tries, one.due.saturating_sub(now), one.error.clone())
        };
        table.followed().map(one).collect()
    }

    /// A keyed hash: without our key nobody can find its text, not even if that is a phone number.
    async fn keyed(&self, what: &str, text: &[u8]) -> Result<String, StoreError> {
        let store = &self.0.terms.store;
        let open = || async {
            let mut fresh = Zeroizing::new([0u8; KEY_LEN]);
            getrandom::fill(&mut *fresh).map_err(|_| StoreError::NoRandomness)?;
            KEY.load_or_create(store, move || Secret::new(fresh.to_vec())).await
        };
        let key = self.0.key.get_or_try_init(open).await?;
        let mac = Hmac::<Sha256>::new_from_slice(key.expose()).map_err(|_| StoreError::NoRandomness)?;
        Ok(hex::encode(&mac.chain_update(what).chain_update(b":").chain_update(text).finalize().into_bytes()))
    }

    fn table(&self) -> MutexGuard<'_, OrderTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unpayable(code: &str) -> String {
    format!("Daraja answers {code}: no payment can be made here (look at type, shortcode and till, and whether it is locked)")
}

fn pace_of(mpesa: &MpesaConfig) -> OrderPace {
    OrderPace(mpesa.account.pace)
}

fn order_id() -> Option<String> {
    digits(MARK)
}

/// A mark and 40 random bits: what a customer reads at M-Pesa.
fn digits(mark: &str) -> Option<String> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).ok()?;
    let digit = |byte: &u8| DIGITS.get(usize::from(byte & 31)).map(|digit| char::from(*digit));
    let digits: Option<String> = bytes.iter().map(digit).collect();
    digits.map(|digits| format!("{mark}{digits}"))
}

/// Of the random part of a callback's path.
fn token_hash(token: &str) -> String {
    hex::encode(&Sha256::digest(token.as_bytes()))
}
