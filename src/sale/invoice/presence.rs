//! Guests who have a socket open: they would see a late payment at once.

use super::InvoiceEngine;
use crate::mac::MacAddr;
use litemap::LiteMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many sockets each MAC has open.
#[derive(Default)]
pub(super) struct Presences(Mutex<LiteMap<MacAddr, usize>>);

/// A guest is here for as long as this lives.
pub struct Presence {
    mac: MacAddr,
    engine: InvoiceEngine,
}

impl Presences {
    pub fn has(&self, mac: MacAddr) -> bool {
        self.open().contains_key(&mac)
    }

    fn open(&self) -> MutexGuard<'_, LiteMap<MacAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InvoiceEngine {
    /// The guest has opened a socket: its late payments are looked for more often while it is open.
    pub fn attend(&self, mac: MacAddr) -> Presence {
        {
            let mut open = self.0.presences.open();
            let count = open.entry(mac).or_insert(0);
            *count = count.saturating_add(1);
        }
        self.page_is_open(mac);
        Presence { mac, engine: self.clone() }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut open = self.engine.0.presences.open();
        let left = open.get(&self.mac).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => open.remove(&self.mac),
            left => open.insert(self.mac, left),
        };
    }
}
