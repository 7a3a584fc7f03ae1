//! Which service sends a request, by what it has signed: HMAC-SHA-256 under a secret of the configuration.
//!
//! `/internal` signs `service:timestamp:nonce:METHOD:target:sha256(body)`; a webhook its time and its body. Checked in this
//! order: form, key, signature, time, nonce; so that a stranger burns no nonce and learns no clock. The body is the bytes
//! that came, never a text that was read and written again. Refused too: every request while the time is not known.

use super::{secret, Auth};
use crate::config::{Config, Tenant};
use crate::hex;
use crate::shared_secret::mac;
use crate::store::{Store, StoreError};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How far a service's clock may be from ours (ms), and how far a webhook's.
const WINDOW: u64 = 60_000;
const WEBHOOK_WINDOW: u64 = 300_000;
/// A shorter secret is not accepted.
const SHORTEST: usize = 32;
const SHORTEST_NONCE: usize = 16;
const LONGEST_WORD: usize = 128;
/// Nonces that are kept at a time: more requests than that in two minutes are refused.
const MOST_NONCES: u64 = 20_000;
/// Signatures of one header that are looked at: the secret may be changing.
const MOST_SIGNATURES: usize = 4;

/// What a service signs, as it came.
pub struct ServiceRequest<'a> {
    pub service: Option<&'a str>,
    pub key_id: Option<&'a str>,
    /// Milliseconds since 1970.
    pub timestamp: Option<&'a str>,
    pub nonce: Option<&'a str>,
    pub signature: Option<&'a str>,
    pub body_hash: Option<&'a str>,
    pub method: &'a str,
    /// The path with its query.
    pub target: &'a str,
    pub body: &'a [u8],
}

/// A service that has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The id of its key.
    pub id: String,
    pub tenant: Option<String>,
}

/// Why a service is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceRefusal {
    #[error("a header is missing: service, key-id, timestamp, nonce, body-hash and signature are needed")]
    MissingHeaders,
    #[error("the timestamp is no time in milliseconds")]
    InvalidTimestamp,
    #[error("the nonce is no word of 16 to 128 letters, digits or . _ - :")]
    InvalidNonce,
    #[error("the body is not the one that its hash is of")]
    BodyHash,
    /// Unknown keys, too.
    #[error("the signature is wrong")]
    Signature,
    #[error("the timestamp is too old")]
    Expired,
    #[error("the timestamp is in the future")]
    Future,
    #[error("the nonce was used before")]
    NonceReused,
    #[error("the router's clock is not set yet")]
    NoClock,
    #[error("the secret cannot be read")]
    NoSecret,
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl ServiceRefusal {
    pub fn code(&self) -> &'static str {
        match self {
            ServiceRefusal::MissingHeaders => "MISSING_HEADERS",
            ServiceRefusal::InvalidTimestamp => "INVALID_TIMESTAMP",
            ServiceRefusal::InvalidNonce => "INVALID_NONCE",
            ServiceRefusal::BodyHash => "BODY_HASH_MISMATCH",
            ServiceRefusal::Signature => "INVALID_SIGNATURE",
            ServiceRefusal::Expired => "TIMESTAMP_EXPIRED",
            ServiceRefusal::Future => "TIMESTAMP_FUTURE",
            ServiceRefusal::NonceReused => "NONCE_REUSED",
            ServiceRefusal::NoClock => "CLOCK_UNSYNCED",
            ServiceRefusal::NoSecret => "NO_SECRET",
            ServiceRefusal::Store(error) => error.code(),
        }
    }

    /// Whether the fault is ours: the same request may be good later.
    pub fn is_ours(&self) -> bool {
        matches!(self, ServiceRefusal::NoClock | ServiceRefusal::NoSecret | ServiceRefusal::Store(_))
    }
}

impl Auth {
    /// The service that has signed this. Its nonce is used up.
    pub async fn service(&self, request: ServiceRequest<'_>) -> Result<Service, ServiceRefusal> {
        let (config, store) = (self.config(), &self.0.store);
        let (service, nonce, at) = signed_by(&config, &request)?;
        let now = now(store)?;
        in_time(at, now, WINDOW)?;
        // The nonce is kept for as long as the request's time would pass, by the clock that judges the time.
        let until = at.saturating_add(WINDOW).saturating_add(1000);
        let is_new = use_nonce(store, service.id.clone(), nonce, (now / 1000, until.div_ceil(1000))).await?;
        is_new.then_some(service).ok_or(ServiceRefusal::NonceReused)
    }

    /// Whose webhook has signed this body, by the index of its section; `signature` and `timestamp` are headers.
    pub fn webhook(
        &self,
        signature: Option<&str>,
        timestamp: Option<&str>,
        body: &[u8],
    ) -> Result<usize, ServiceRefusal> {
        let config = self.config();
        let signature = signature.ok_or(ServiceRefusal::MissingHeaders)?;
        let signed = WebhookSignature::read(signature, timestamp)?;
        let mut unreadable = false;
        let mut found = None;
        for (number, webhook) in config.webhooks.iter().enumerate() {
            match secret(&webhook.secret_file, SHORTEST) {
                Ok(secret) if found.is_none() && signed.is_by(&secret, body) => found = Some(number),
                Ok(_) => {}
                Err(_) => unreadable = true,
            }
        }
        match found {
            Some(number) => in_time(signed.at, now(&self.0.store)?, WEBHOOK_WINDOW).map(|()| number),
            None if unreadable => Err(ServiceRefusal::NoSecret),
            None => Err(ServiceRefusal::Signature),
        }
    }
}

/// Takes a nonce of a key, until a second of the wall clock. False: it was taken before.
async fn use_nonce(
    store: &Store,
    key: String,
    nonce: String,
    (now, until): (u64, u64),
) -> Result<bool, StoreError> {
    let rows = store.of_tenant(&Tenant::main());
    rows.write(move |door| {
        door.execute("DELETE FROM hmac_nonces WHERE tenant = $1 AND ends_at < $2", &[now.into()])?;
        let taken = door.execute(
            "INSERT INTO hmac_nonces (tenant, key_id, nonce, ends_at) SELECT $1, $2, $3, $4
             WHERE (SELECT count(*) FROM hmac_nonces WHERE tenant = $1) < $5 ON CONFLICT DO NOTHING",
            &[key.into(), nonce.into(), until.into(), MOST_NONCES.into()],
        )?;
        Ok(taken == 1)
    })
    .await
}

/// The service by its key, its nonce, and its time (ms).
fn signed_by(
    config: &Config,
    request: &ServiceRequest<'_>,
) -> Result<(Service, String, u64), ServiceRefusal> {
    let missing = || ServiceRefusal::MissingHeaders;
    let service = request.service.ok_or_else(missing)?;
    let key_id = request.key_id.ok_or_else(missing)?;
    let timestamp = request.timestamp.ok_or_else(missing)?;
    let nonce = request.nonce.ok_or_else(missing)?;
    let signature = request.signature.ok_or_else(missing)?;
    let hash = request.body_hash.ok_or_else(missing)?;
    let at = millis(timestamp)?;
    let fits = (SHORTEST_NONCE..=LONGEST_WORD).contains(&nonce.len());
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if !fits || !nonce.bytes().all(is_plain) {
        return Err(ServiceRefusal::InvalidNonce);
    }
    let digest = hex::encode(&Sha256::digest(request.body));
    let key = config.hmac_keys.iter().find(|key| key.id == key_id);
    let key = key.ok_or(ServiceRefusal::Signature)?;
    let secret = secret(&key.secret_file, SHORTEST).map_err(|_| ServiceRefusal::NoSecret)?;
    let text = format!("{service}:{timestamp}:{nonce}:{}:{}:{digest}", request.method, request.target);
    let expected = mac(&secret, &[text.as_bytes()]).ok_or(ServiceRefusal::NoSecret)?;
    if !hex::decode::<32>(signature).is_some_and(|shown| bool::from(shown.ct_eq(&expected))) {
        return Err(ServiceRefusal::Signature);
    }
    if !hash.eq_ignore_ascii_case(&digest) {
        return Err(ServiceRefusal::BodyHash);
    }
    let service = Service { id: key.id.clone(), tenant: key.tenant.clone() };
    Ok((service, nonce.to_owned(), at))
}

/// What a webhook's headers say.
struct WebhookSignature {
    /// Milliseconds since 1970.
    at: u64,
    /// What stands before the body in what is signed.
    before: String,
    signatures: Vec<[u8; 32]>,
}

impl WebhookSignature {
    /// `t=<seconds>,v1=<hex>[,v1=<hex>]`, or hex beside a header with milliseconds.
    fn read(signature: &str, timestamp: Option<&str>) -> Result<WebhookSignature, ServiceRefusal> {
        if let Some(digits) = hex::decode(signature.strip_prefix("sha256=").unwrap_or(signature)) {
            let timestamp = timestamp.ok_or(ServiceRefusal::MissingHeaders)?;
            let (at, before) = (millis(timestamp)?, format!("{timestamp}:"));
            return Ok(WebhookSignature { at, before, signatures: vec![digits] });
        }
        let pairs = || signature.split(',').filter_map(|part| part.trim().split_once('='));
        let time = pairs().find(|(name, _)| *name == "t").map(|(_, time)| time);
        let time = time.ok_or(ServiceRefusal::Signature)?;
        let at = millis(time)?.checked_mul(1000).ok_or(ServiceRefusal::InvalidTimestamp)?;
        let signatures = pairs().filter(|(name, _)| *name == "v1").take(MOST_SIGNATURES);
        let signatures = signatures.filter_map(|(_, digits)| hex::decode(digits)).collect();
        Ok(WebhookSignature { at, before: format!("{time}."), signatures })
    }

    fn is_by(&self, secret: &[u8], body: &[u8]) -> bool {
        let Some(expected) = mac(secret, &[self.before.as_bytes(), body]) else { return false };
        self.signatures.iter().any(|shown| bool::from(shown.ct_eq(&expected)))
    }
}

fn millis(text: &str) -> Result<u64, ServiceRefusal> {
    let is_number = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(ServiceRefusal::InvalidTimestamp)
}

/// The wall clock (ms). Without it nothing is believed.
fn now(store: &Store) -> Result<u64, ServiceRefusal> {
    let known = store.wall_is_plausible().then(|| store.wall().0.saturating_mul(1000));
    known.ok_or(ServiceRefusal::NoClock)
}

fn in_time(at: u64, now: u64, window: u64) -> Result<(), ServiceRefusal> {
    match (at.saturating_sub(now) > window, now.saturating_sub(at) > window) {
        (true, _) => Err(ServiceRefusal::Future),
        (_, true) => Err(ServiceRefusal::Expired),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
