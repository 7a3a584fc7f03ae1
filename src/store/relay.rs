//! What a relay was called with, for its routers to collect. An event is one row, and is acknowledged after its commit.
//!
//! Collected ones stay for a router that has lost its place, as long as there is room for new ones. Those that nobody
//! collects go after a week.

use super::{Store, StoreAnswer, StoreError};
use crate::hex;
use crate::units::{Millis, UnixSeconds};
use rusqlite::{OptionalExtension, Transaction};

/// Events of one order's token, collected or not.
const MOST_OF_TOKEN: i64 = 32;
/// Of one router: events, and bytes of their bodies.
const MOST_OF_ROUTER: i64 = 4096;
const MOST_BYTES: i64 = 8 * 1024 * 1024;
/// What one answer holds: events, and bytes of their bodies.
const AT_ONCE: i64 = 64;
const BYTES_AT_ONCE: usize = 256 * 1024;

const KEEP_COLLECTED: Millis = Millis::from_secs(2 * 86_400);
const KEEP: Millis = Millis::from_secs(7 * 86_400);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedEvent {
    /// Greater than that of every earlier one.
    pub seq: i64,
    /// The last part of the path.
    pub token: String,
    pub at: UnixSeconds,
    pub body: String,
}

/// How far a router has heard a relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayPlace {
    /// Of the relay's store; empty: it is not known.
    pub id: String,
    /// The number of the last event.
    pub seq: i64,
}

impl Store {
    /// Keeps an event; `false` where there is no room for another one of this token or router.
    pub fn keep_event(&self, router: &str, token: &str, body: String) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        let (router, token) = (router.to_owned(), token.to_owned());
        self.write(move |tx| {
            let of_token = "SELECT COUNT(*) FROM relay_events WHERE router = ?1 AND token = ?2";
            let count: i64 = tx.query_row(of_token, (&router, &token), |row| row.get(0))?;
            if count >= MOST_OF_TOKEN {
                return Ok(false);
            }
            let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
            if !has_room(tx, &router, bytes)? {
                tx.execute(
                    "DELETE FROM relay_events WHERE router = ?1 AND seq <=
                     (SELECT collected FROM relay_routers WHERE router = ?1)",
                    [&router],
                )?;
                if !has_room(tx, &router, bytes)? {
                    return Ok(false);
                }
            }
            tx.execute(
                "INSERT INTO relay_events (router, token, body, size, came_ms, wall) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (&router, &token, &body, bytes, number(now.0)?, number(wall.0)?),
            )?;
            Ok(true)
        })
    }

    /// The next events behind `after`, which says that those before are collected.
    pub async fn events_after(&self, router: &str, after: i64) -> Result<Vec<RelayedEvent>, StoreError> {
        let router = router.to_owned();
        let asked = router.clone();
        let (events, collected) = self
            .read(move |tx| {
                let collected = "SELECT collected FROM relay_routers WHERE router = ?1";
                let collected: Option<i64> =
                    tx.query_row(collected, [&asked], |row| row.get(0)).optional()?;
                Ok((next(tx, &asked, after)?, collected.unwrap_or(0)))
            })
            .await?;
        if after > collected {
            self.write(move |tx| {
                tx.execute(
                    "INSERT INTO relay_routers (router, collected) VALUES (?1, ?2)
                     ON CONFLICT (router) DO UPDATE SET collected = MAX(collected, ?2)",
                    (&router, after),
                )?;
                Ok(())
            })
            .await?;
        }
        Ok(events)
    }

    /// The greatest number that an event was ever given here.
    pub fn newest_event(&self) -> StoreAnswer<i64> {
        self.read(|tx| {
            let newest = "SELECT seq FROM sqlite_sequence WHERE name = 'relay_events'";
            Ok(tx.query_row(newest, [], |row| row.get(0)).optional()?.unwrap_or(0))
        })
    }

    /// What tells this relay's store from another one, which gives the same numbers to other events. Made once.
    pub async fn relay_id(&self) -> Result<String, StoreError> {
        let mut fresh = [0u8; 8];
        getrandom::fill(&mut fresh).map_err(|_| StoreError::NoRandomness)?;
        let fresh = hex::encode(&fresh);
        self.write(move |tx| {
            tx.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('relay', ?1)", [fresh.as_bytes()])?;
            let known: Vec<u8> =
                tx.query_row("SELECT value FROM meta WHERE key = 'relay'", [], |row| row.get(0))?;
            String::from_utf8(known).map_err(|_| StoreError::unreadable("relay"))
        })
        .await
    }

    /// Up to where this router has collected from a relay.
    pub fn relay_cursor(&self, relay: &str) -> StoreAnswer<RelayPlace> {
        let relay = relay.to_owned();
        self.read(move |tx| {
            let kept = tx.query_row("SELECT relay, seq FROM relay_cursor", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?))
            });
            let Some((of, seq)) = kept.optional()? else { return Ok(RelayPlace::default()) };
            let place = of.split_once(' ').filter(|(url, _)| *url == relay);
            Ok(place.map(|(_, id)| RelayPlace { id: id.to_owned(), seq }).unwrap_or_default())
        })
    }

    /// Keeps one row: of the relay that is asked now.
    pub fn set_relay_cursor(&self, relay: &str, place: &RelayPlace) -> StoreAnswer<()> {
        let (of, seq) = (format!("{relay} {}", place.id), place.seq);
        self.write(move |tx| {
            tx.execute("DELETE FROM relay_cursor", [])?;
            tx.execute("INSERT INTO relay_cursor (relay, seq) VALUES (?1, ?2)", (of, seq))?;
            Ok(())
        })
    }

    /// Forgets what was collected long ago, or will not be.
    pub fn forget_events(&self) -> StoreAnswer<()> {
        let now = self.now();
        self.write(move |tx| {
            let ago = |kept: Millis| number(now.saturating_sub(kept).0);
            tx.execute(
                "DELETE FROM relay_events WHERE came_ms < ?2 OR (came_ms < ?1 AND seq <=
                 (SELECT collected FROM relay_routers WHERE relay_routers.router = relay_events.router))",
                (ago(KEEP_COLLECTED)?, ago(KEEP)?),
            )?;
            Ok(())
        })
    }
}

fn has_room(tx: &Transaction<'_>, router: &str, more: i64) -> Result<bool, StoreError> {
    let held = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM relay_events WHERE router = ?1";
    let (count, bytes): (i64, i64) = tx.query_row(held, [router], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(count < MOST_OF_ROUTER && bytes.saturating_add(more) <= MOST_BYTES)
}

fn next(tx: &Transaction<'_>, router: &str, after: i64) -> Result<Vec<RelayedEvent>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT seq, token, wall, body FROM relay_events WHERE router = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query((router, after, AT_ONCE))?;
    let (mut events, mut bytes) = (Vec::new(), 0usize);
    while let Some(row) = rows.next()? {
        let (wall, body): (i64, String) = (row.get(2)?, row.get(3)?);
        bytes = bytes.saturating_add(body.len());
        if bytes > BYTES_AT_ONCE && !events.is_empty() {
            break;
        }
        let at = UnixSeconds(u64::try_from(wall).map_err(|_| StoreError::unreadable("wall"))?);
        events.push(RelayedEvent { seq: row.get(0)?, token: row.get(1)?, at, body });
    }
    Ok(events)
}

fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::unreadable("time"))
}
