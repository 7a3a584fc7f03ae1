//! A request that is sent again under the same `Idempotency-Key` is carried out once, and answered alike byte for byte. What a
//! crash has cut short goes on under its key from where it was: each step of the work behind it is safe to take again.
//!
//! Refused: a key without a form, and one that came with another body. A refused request does not use its key up.

use crate::json::json;
use crate::store::{Datum, Door, StoreError, TenantStore};
use crate::uuid::Uuid;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// Characters of a key.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=255;
/// How long an answer is kept (seconds), and how many of a tenant: the oldest that are done go first.
const KEPT: u64 = 2 * 86_400;
const MOST: u64 = 5000;

/// What a key belongs to, besides its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    pub principal: String,
    pub method: String,
    pub path: String,
    pub name: String,
}

/// An answer as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    pub status: u16,
    pub body: String,
}

/// What is to be done with a request.
pub enum KeyTurn {
    /// It was done: this is the answer.
    Replay(KeptAnswer),
    /// The same key came with another body.
    OtherBody,
    /// It is being done at this moment.
    Running,
    /// Its turn.
    Go(RunningRequest),
}

/// A request that is being carried out. Until it is dropped others with its key are told so.
pub struct RunningRequest {
    pub place: KeyPlace,
    pub fingerprint: String,
    /// Names the work; the same after a crash.
    pub work: Uuid,
    all: RunningKeys,
    tenant: String,
}

/// A request's key, as those have it who do its work.
#[derive(Clone, Debug)]
pub struct KeyMark {
    pub place: KeyPlace,
    pub fingerprint: String,
    pub work: Uuid,
}

/// What of a request goes with the work that it asks for.
#[derive(Clone, Debug, Default)]
pub struct WorkRequest {
    /// As it was sent.
    pub text: String,
    /// The id of the first one, where this goes on with it.
    pub request_id: Option<String>,
    /// What the work is named by, if it may come again.
    pub work: Option<Uuid>,
    pub mark: Option<KeyMark>,
    /// Others have agreed to it.
    pub approval: Option<Uuid>,
}

/// The keys of requests that are being carried out; clones share it.
#[derive(Clone, Default)]
pub struct RunningKeys(Arc<Mutex<Vec<(String, KeyPlace)>>>);

/// The key of a header, quoted (a structured-field string) or bare.
pub fn key_of(header: &str) -> Option<String> {
    let header = header.trim();
    let key = header.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(header);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    (LENGTHS.contains(&key.len()) && key.bytes().all(is_plain)).then(|| key.to_owned())
}

impl RunningKeys {
    /// Whose turn it is, of all requests with this key.
    pub async fn turn(
        &self,
        rows: &TenantStore,
        place: KeyPlace,
        body: &[u8],
    ) -> Result<KeyTurn, StoreError> {
        let fingerprint = crate::hex::encode(&Sha256::digest(body));
        let tenant = rows.tenant().as_str().to_owned();
        let is_free = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |(owner, other): &(String, KeyPlace)| *owner == tenant && *other == place;
            let is_free = !all.iter().any(same);
            if is_free {
                all.push((tenant.clone(), place.clone()));
            }
            is_free
        };
        let work = Uuid::random().ok_or(StoreError::NoRandomness)?;
        // Gives the key back in any case.
        let mut running = is_free.then(|| {
            let (place, fingerprint) = (place.clone(), fingerprint.clone());
            RunningRequest { place, fingerprint, work, all: self.clone(), tenant }
        });
        let found = rows.read(move |door| {
            let found = door.query(
                "SELECT fingerprint, work, status, answer FROM idempotency_keys
                 WHERE tenant = $1 AND principal = $2 AND method = $3 AND path = $4 AND name = $5",
                &key(&place),
            )?;
            let Some(row) = found.first() else { return Ok(None) };
            let answer = match row.filled(2) {
                Some(_) => Some(KeptAnswer {
                    status: u16::try_from(row.number(2)?).unwrap_or(500),
                    body: row.text(3)?.to_owned(),
                }),
                None => None,
            };
            Ok(Some((row.text(0)?.to_owned(), row.parsed::<Uuid>(1)?, answer)))
        });
        match (found.await?, running.as_mut()) {
            (Some((known, ..)), _) if known != fingerprint => return Ok(KeyTurn::OtherBody),
            (Some((_, _, Some(answer))), _) => return Ok(KeyTurn::Replay(answer)),
            (Some((_, work, None)), Some(running)) => running.work = work,
            (_, _) => {}
        }
        Ok(running.map_or(KeyTurn::Running, KeyTurn::Go))
    }
}

impl KeyPlace {
    /// As work that waits has it.
    pub fn told(&self) -> Value {
        json!({"principal": self.principal, "method": self.method, "path": self.path, "name": self.name})
    }
}

impl RunningRequest {
    pub fn mark(&self) -> KeyMark {
        let RunningRequest { place, fingerprint, work, .. } = self;
        KeyMark { place: place.clone(), fingerprint: fingerprint.clone(), work: *work }
    }
}

impl KeyMark {
    /// Uses the key up; see [`begin_key`].
    pub fn begin(&self, door: &Door, now: u64) -> Result<(), StoreError> {
        begin_key(door, &self.place, &self.fingerprint, self.work, now)
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(owner, place)| *owner != self.tenant || *place != self.place);
    }
}

/// Uses a key up, in the commit with which its work begins.
pub fn begin_key(
    door: &Door,
    place: &KeyPlace,
    fingerprint: &str,
    work: Uuid,
    now: u64,
) -> Result<(), StoreError> {
    door.execute("DELETE FROM idempotency_keys WHERE tenant = $1 AND ends_at < $2", &[now.into()])?;
    door.execute(
        "DELETE FROM idempotency_keys WHERE tenant = $1 AND status IS NOT NULL AND made_at <
             (SELECT made_at FROM idempotency_keys WHERE tenant = $1 ORDER BY made_at DESC LIMIT 1 OFFSET $2)",
        &[MOST.into()],
    )?;
    let mut values = key(place).to_vec();
    let ends = now.saturating_add(KEPT);
    values.extend([fingerprint.into(), work.into(), now.into(), ends.into()]);
    door.execute(
        "INSERT INTO idempotency_keys
             (tenant, principal, method, path, name, fingerprint, step, work, made_at, ends_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'begun', $7, $8, $9) ON CONFLICT DO NOTHING",
        &values,
    )?;
    Ok(())
}

/// Keeps the answer of a key; the one before it goes.
pub fn end_key(door: &Door, place: &KeyPlace, answer: &KeptAnswer) -> Result<(), StoreError> {
    let mut values = key(place).to_vec();
    values.extend([u64::from(answer.status).into(), answer.body.as_str().into()]);
    door.execute(
        "UPDATE idempotency_keys SET step = 'answered', status = $6, answer = $7
         WHERE tenant = $1 AND principal = $2 AND method = $3 AND path = $4 AND name = $5",
        &values,
    )?;
    Ok(())
}

fn key(place: &KeyPlace) -> [Datum; 4] {
    [&place.principal, &place.method, &place.path, &place.name].map(|text| text.as_str().into())
}
