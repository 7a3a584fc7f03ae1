//! Telling others what became of vouchers: the outbox is emptied, each notice signed and sent until its receiver has taken it or
//! was not there too often. Told at least once, also over restarts, with the same id on every try.
//!
//! Refused: an address that a ticket names and that leads into a network of the router's own, unless the operator allows plain
//! http, and with it what is near. Redirects are not followed.

use super::jobs::{self, VoucherJob};
use super::VoucherBook;
use crate::calls::{in_time, request, Connection, Destination, NoAnswer, Tls};
use crate::config::{Config, Tenant, VoucherConfig};
use crate::hex;
use crate::network::internet;
use crate::shared_secret::{mac, secret};
use crate::store::{StoreError, TenantStore};
use crate::task;
use crate::units::Millis;
use crate::url::Url;
use http_body_util::Full;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use zeroize::Zeroizing;

const KIND: &str = "notice";
/// Of a tenant that are looked at together, and the addresses that are told side by side.
const AT_ONCE: u64 = 64;
const PLACES: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 16 * 1024;
/// A shorter secret is not accepted.
const SHORTEST: usize = 16;
/// How often a notice is tried; the pause before the next try doubles.
const MOST_TRIES: u64 = 12;
const FIRST_PAUSE: Millis = Millis::from_secs(2);
const LONGEST_PAUSE: Millis = Millis::from_secs(1800);

/// Clones share it.
#[derive(Clone)]
pub struct Notices(Arc<Outbox>);

struct Outbox {
    book: VoucherBook,
    config: watch::Receiver<Arc<Config>>,
    tls: Tls,
    is_busy: AtomicBool,
    /// What the store was last told of the configuration.
    noted: Mutex<Option<Arc<Config>>>,
}

/// Where notices go, and with what they are signed.
struct Receiver {
    to: Destination,
    is_allowed: fn(IpAddr) -> bool,
    secret: Zeroizing<Vec<u8>>,
}

impl Notices {
    pub fn new(book: VoucherBook, config: watch::Receiver<Arc<Config>>, tls: Tls) -> Notices {
        let (is_busy, noted) = Default::default();
        Notices(Arc::new(Outbox { book, config, tls, is_busy, noted }))
    }

    /// Sets going what is due.
    pub async fn tend(&self) {
        if let Err(err) = self.note().await {
            log::warn!("notices: {err}");
        }
        if self.0.is_busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let outbox = self.0.clone();
        task::spawn(async move {
            if let Err(err) = outbox.round().await {
                log::warn!("notices: {err}");
            }
            outbox.is_busy.store(false, Ordering::Relaxed);
        });
    }

    /// Notes in the store whether there is a configured address, where that has changed. What was given up is sent once more
    /// after a reload: the operator has put something right, perhaps.
    pub async fn note(&self) -> Result<(), StoreError> {
        let config = self.0.config.borrow().clone();
        let noted = self.0.noted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if noted.as_ref().is_some_and(|noted| Arc::ptr_eq(noted, &config)) {
            return Ok(());
        }
        let is_told = config.voucher.notify_url.is_some();
        for tenant in config.all_tenants() {
            let (rows, at) = (self.0.book.of(&tenant), self.0.book.store().wall());
            if noted.is_some() {
                rows.write(move |door| jobs::once_more(door, KIND, MOST_TRIES.saturating_sub(1), at)).await?;
            }
            let known =
                rows.read(|door| door.query("SELECT tenant FROM notice_defaults WHERE tenant = $1", &[]));
            if known.await?.is_empty() != is_told {
                continue;
            }
            let change = match is_told {
                true => "INSERT INTO notice_defaults (tenant) VALUES ($1)",
                false => "DELETE FROM notice_defaults WHERE tenant = $1",
            };
            rows.write(move |door| door.execute(change, &[])).await?;
        }
        *self.0.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        Ok(())
    }
}

impl Outbox {
    async fn round(self: &Arc<Outbox>) -> Result<(), StoreError> {
        let config = self.config.borrow().clone();
        // The holder of a voucher, and its seller, are told at the moment when it expires.
        for tenant in config.all_tenants() {
            self.book.expire(&tenant).await?;
        }
        // The receiver compares the time of the signature.
        if !self.book.store().wall_is_plausible() {
            return Ok(());
        }
        for tenant in config.all_tenants() {
            self.round_of(&tenant, &config.voucher).await?;
        }
        Ok(())
    }

    async fn round_of(self: &Arc<Outbox>, tenant: &Tenant, config: &VoucherConfig) -> Result<(), StoreError> {
        let (rows, now, at) = (self.book.of(tenant), self.book.store().now(), self.book.store().wall());
        let read =
            rows.read(move |door| Ok((jobs::due(door, KIND, now, AT_ONCE)?, jobs::waiting(door, KIND)?)));
        let (due, waiting) = read.await?;
        if due.is_empty() {
            return Ok(());
        }
        if waiting > jobs::MOST_WAITING {
            let given_up = rows.write(move |door| jobs::bound(door, KIND, at)).await?;
            log::error!("notices: too many wait; the oldest {given_up} are given up");
        }
        let mut places: Vec<(String, Vec<VoucherJob>)> = Vec::new();
        for job in due {
            let is_full = places.len() >= PLACES;
            // Where the operator's own address may lead, one that a ticket names may not.
            let is_operators = config.notify_url.as_ref().is_some_and(|url| url.to_string() == job.target);
            let place = if is_operators { "" } else { jobs::place_of(&job.target) };
            match places.iter_mut().find(|(known, _)| known == place) {
                Some((_, jobs)) => jobs.push(job),
                None if is_full => {}
                None => places.push((place.to_owned(), vec![job])),
            }
        }
        let mut telling = Vec::new();
        for (place, jobs) in places {
            let (outbox, rows, config) = (self.clone(), rows.clone(), config.clone());
            telling.push(task::start(async move { outbox.tell_all(&rows, &place, jobs, &config).await }));
        }
        for told in telling {
            if let Ok(Err(err)) = told.await {
                return Err(err);
            }
        }
        Ok(())
    }

    /// Tells one place what is due for it. One that cannot be reached at all is asked once for all of them; one that is slow
    /// has what is left put off, so that the next round is not all its own.
    async fn tell_all(
        &self,
        rows: &TenantStore,
        place: &str,
        jobs: Vec<VoucherJob>,
        config: &VoucherConfig,
    ) -> Result<(), StoreError> {
        if place.is_empty() && config.notify_url.is_none() {
            // Nobody wants to know any more.
            let ids: Vec<String> = jobs.into_iter().map(|job| job.id).collect();
            return rows.write(move |door| ids.iter().try_for_each(|id| jobs::done(door, id))).await;
        }
        let until = Instant::now() + TIMEOUT;
        let mut gone: Option<String> = None;
        for job in jobs {
            if gone.is_none() && Instant::now() >= until {
                let (place, now) = (place.to_owned(), self.book.store().now());
                let due = now.saturating_add(FIRST_PAUSE);
                return rows.write(move |door| jobs::put_off(door, KIND, &place, now, due)).await.map(drop);
            }
            let mut why = gone.clone();
            if gone.is_none() {
                (why, gone) = self.told(&job, config).await;
            }
            self.ended(rows, job, why).await?;
        }
        Ok(())
    }

    /// Why one was not taken, and why no other of its place needs to be tried.
    async fn told(&self, job: &VoucherJob, config: &VoucherConfig) -> (Option<String>, Option<String>) {
        let why = match self.receiver(&job.target, config) {
            Ok(receiver) => match self.tell(&receiver, &job.work).await {
                Ok(200..=299) => return (None, None),
                Ok(status) => return (Some(format!("http_{status}")), None),
                Err(none) => {
                    log::info!("notices: {}: {}", receiver.to.url().host(), none.cause());
                    "unreachable"
                }
            },
            Err(why) => why,
        };
        (Some(why.to_owned()), Some(why.to_owned()))
    }

    async fn ended(
        &self,
        rows: &TenantStore,
        job: VoucherJob,
        why: Option<String>,
    ) -> Result<(), StoreError> {
        let store = self.book.store();
        let (now, at) = (store.now(), store.wall());
        let Some(why) = why else {
            return rows.write(move |door| jobs::done(door, &job.id)).await;
        };
        if job.tries.saturating_add(1) >= MOST_TRIES {
            log::error!("notices: what became of voucher {} could not be told: {why}", job.about);
            return rows.write(move |door| jobs::give_up(door, &job.id, &why, at)).await;
        }
        let due = now.saturating_add(pause(job.tries));
        rows.write(move |door| jobs::again(door, &job.id, due, &why, at)).await
    }

    /// Why there is none goes into the list of what could not be told.
    fn receiver(&self, target: &str, config: &VoucherConfig) -> Result<Receiver, &'static str> {
        let named =
            if target.is_empty() { None } else { Some(Url::parse(target).map_err(|_| "bad_address")?) };
        let is_operators = named.is_none() || named == config.notify_url;
        let url = named.or_else(|| config.notify_url.clone()).ok_or("bad_address")?;
        if !may_be_told(&url, config.allow_http) {
            return Err("plain_http");
        }
        let is_free = is_operators || config.allow_http;
        if !is_free && url.port() != 443 && url.port() < 1024 {
            return Err("bad_address");
        }
        let file = config.notify_secret_file.as_ref().ok_or("no_secret")?;
        let secret = secret(file, SHORTEST).map_err(|err| {
            log::error!("{}: {err}", file.display());
            "no_secret"
        })?;
        let is_allowed: fn(IpAddr) -> bool = if is_free { |_| true } else { internet::is_public };
        Ok(Receiver { to: Destination::new(url, self.tls.clone()), is_allowed, secret })
    }

    /// The status of the answer.
    async fn tell(&self, receiver: &Receiver, body: &str) -> Result<u16, NoAnswer> {
        let url = receiver.to.url();
        let path = if url.path().is_empty() { "/" } else { "" };
        let signature = signature(&receiver.secret, self.book.store().wall().0, body.as_bytes());
        let asked = request(url, path)
            .method("POST")
            .header("content-type", "application/json")
            .header("x-tollgate-signature", signature)
            .body(Full::from(body.to_owned()))
            .map_err(|err| NoAnswer::NotSent(err.to_string()))?;
        let sending = async {
            let stream = receiver.to.open_where(receiver.is_allowed).await?;
            Ok(Connection::over(stream).await?.send(asked, MAX_ANSWER).await?.status)
        };
        in_time(TIMEOUT, sending).await
    }
}

/// Whether a notice may go to this address as far as its scheme says.
pub fn may_be_told(url: &Url, allows_http: bool) -> bool {
    url.is_https() || allows_http
}

fn pause(tries: u64) -> Millis {
    let factor = 1u64.checked_shl(u32::try_from(tries).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    Millis(FIRST_PAUSE.0.saturating_mul(factor).min(LONGEST_PAUSE.0))
}

fn signature(secret: &[u8], at: u64, body: &[u8]) -> String {
    let signed = mac(secret, &[format!("{at}.").as_bytes(), body]).unwrap_or_default();
    format!("t={at},v1={}", hex::encode(&signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_an_hour() {
        let seconds: Vec<u64> = (0..13).map(|tries| pause(tries).0 / 1000).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800, 1800]);
        assert_eq!(pause(u64::MAX), LONGEST_PAUSE);
    }

    /// The vector of `tests/vectors` for webhooks, which are signed alike.
    #[test]
    fn a_notice_is_signed_as_a_webhook_is() {
        let told = signature(
            b"0123456789abcdef0123456789abcdef",
            1_735_689_600,
            br#"{"id":"evt_1","orderId":"o-1","amount":210}"#,
        );
        let digits = "0550099223c5dfb82598909f62e48a1ae99bcfbc9b0759347acb40c5d4b978f4";
        assert_eq!(told, format!("t=1735689600,v1={digits}"));
    }
}
