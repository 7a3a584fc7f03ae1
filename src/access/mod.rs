//! The centre: a payment becomes a session, a session opens the gate and ends at its second.
//!
//! The store is the truth; the gate and the table of sessions in memory follow it. Refuses to grant the
//! same payment twice, whoever asks.

mod gatekeeper;
mod price;

pub use gatekeeper::{GateStatus, Gatekeeper};
pub use price::{Price, PriceError};

use crate::clock::Clock;
use crate::mac::MacAddr;
use crate::network::gate::{Gate, Plan};
use crate::store::{NewGrant, SessionRow, Store, StoreError};
use crate::units::{Millis, Sats, UnixSeconds};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A session that has ended is remembered this long, so that the portal can say so.
const REMEMBER_ENDED: Millis = Millis::from_secs(3600);

const GATE_RETRY: Duration = Duration::from_secs(1);

/// A guest's session as it stands at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub mac: MacAddr,
    pub venue: String,
    /// All the time granted to it.
    pub allotment: Millis,
    pub remaining: Millis,
    /// When it ends by the router's wall clock.
    pub ends_at: UnixSeconds,
}

#[derive(Clone)]
pub struct Access {
    store: Store,
    clock: Clock,
    gatekeeper: Gatekeeper,
    /// Rows of running and lately ended sessions.
    sessions: Arc<Mutex<BTreeMap<MacAddr, SessionRow>>>,
}

impl Access {
    /// Loads the sessions and opens the gate for them.
    pub async fn start(
        store: Store,
        clock: Clock,
        gate: Box<dyn Gate>,
        plan: Plan,
    ) -> Result<Access, StoreError> {
        let now = store.now();
        let rows = store.sessions_ending_after(now.saturating_sub(REMEMBER_ENDED)).await?;
        let wanted = rows
            .iter()
            .filter(|row| row.ends > now)
            .map(|row| (row.mac, monotonic(&clock, now, row.ends)))
            .collect();
        let gatekeeper = Gatekeeper::start(gate, clock.clone(), plan, wanted, false);
        let sessions = rows.into_iter().map(|row| (row.mac, row)).collect();
        Ok(Access { store, clock, gatekeeper, sessions: Arc::new(Mutex::new(sessions)) })
    }

    pub fn gatekeeper(&self) -> &Gatekeeper {
        &self.gatekeeper
    }

    /// The session of a MAC: running, or ended within the last hour (`remaining` is then zero).
    pub fn session(&self, mac: MacAddr) -> Option<Session> {
        self.sessions().get(&mac).map(|row| self.view(row))
    }

    /// All running sessions.
    pub fn running(&self) -> Vec<Session> {
        let now = self.store.now();
        self.sessions().values().filter(|row| row.ends > now).map(|row| self.view(row)).collect()
    }

    /// Follows a session that the store has just changed: returns when the gate is open for it. The gate
    /// being refused by the machine does not lose the session: it is tried again until it works or is over.
    pub async fn admit(&self, row: SessionRow) -> Session {
        self.follow(row.clone());
        loop {
            let current = self.sessions().get(&row.mac).cloned().unwrap_or_else(|| row.clone());
            let now = self.store.now();
            let open_until = monotonic(&self.clock, now, current.ends);
            if current.ends <= now || self.gatekeeper.open(row.mac, open_until).await.is_ok() {
                return self.view(&current);
            }
            tokio::time::sleep(GATE_RETRY).await;
        }
    }

    /// Access given by the operator.
    pub async fn grant(&self, mac: MacAddr, venue: &str, allotment: Millis) -> Result<Session, StoreError> {
        let reference = format!("operator:{}", crate::store::RequestId::random()?);
        let grant = NewGrant { reference, mac, venue: venue.to_owned(), amount: Sats(0), allotment };
        let row = self.store.grant(grant).await?;
        Ok(self.admit(row).await)
    }

    /// Ends a session now; answers whether one was running.
    pub async fn revoke(&self, mac: MacAddr) -> Result<bool, StoreError> {
        let ended = self.store.revoke(mac).await?;
        let was_running = ended.is_some();
        if let Some(row) = ended {
            self.follow(row);
        }
        if let Err(err) = self.gatekeeper.close(mac).await {
            log::error!("{mac} is revoked, but the gate could not be closed yet: {err}");
        }
        Ok(was_running)
    }

    /// Drops what ended more than an hour ago. Answers whether any session is running.
    pub fn forget_ended(&self) -> bool {
        let now = self.store.now();
        let mut sessions = self.sessions();
        sessions.retain(|_, row| row.ends.saturating_add(REMEMBER_ENDED) > now);
        sessions.values().any(|row| row.ends > now)
    }

    /// Takes a row of the store over, unless a newer one is here already.
    fn follow(&self, row: SessionRow) {
        let mut sessions = self.sessions();
        if sessions.get(&row.mac).is_none_or(|known| known.revision <= row.revision) {
            sessions.insert(row.mac, row);
        }
    }

    fn view(&self, row: &SessionRow) -> Session {
        let remaining = row.ends.saturating_sub(self.store.now());
        Session {
            mac: row.mac,
            venue: row.venue.clone(),
            allotment: row.allotment,
            remaining,
            ends_at: UnixSeconds(self.store.wall().0.saturating_add(remaining.as_secs_ceil())),
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<MacAddr, SessionRow>> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The monotonic time of a service time.
fn monotonic(clock: &Clock, service_now: Millis, service: Millis) -> Millis {
    clock.now().saturating_add(service.saturating_sub(service_now))
}

#[cfg(test)]
mod tests;
