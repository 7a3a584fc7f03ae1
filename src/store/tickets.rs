//! Session tickets: the first payment of an account makes one. Only its digest is stored, so it cannot be shown again; a
//! guest that lost it gets a new one, which voids it.

use super::accounts::account_of;
use super::ticket::Ticket;
use super::{Store, StoreAnswer, StoreError};
use crate::mac::MacAddr;
use rusqlite::params;

impl Store {
    /// Whether the account of this MAC has a ticket.
    pub fn has_ticket(&self, mac: MacAddr) -> StoreAnswer<bool> {
        self.read(move |tx| {
            let mut known = tx.prepare_cached(
                "SELECT 1 FROM account_macs JOIN accounts ON id = account WHERE mac = ?1 AND ticket IS NOT NULL",
            )?;
            Ok(known.exists([mac.to_string()])?)
        })
    }

    /// A new ticket for a MAC that has paid, for access or for tokens; an earlier one is void. Nothing for a MAC
    /// that has not.
    pub async fn renew_ticket(&self, mac: MacAddr) -> Result<Option<Ticket>, StoreError> {
        let now = self.now();
        let ticket = Ticket::random()?;
        self.write(move |tx| {
            let mac = mac.to_string();
            let has_paid = tx
                .prepare(
                    "SELECT 1 FROM account_macs WHERE mac = ?1 UNION ALL
                     SELECT 1 FROM requests JOIN parts ON request = requests.id
                     WHERE mac = ?1 AND state IN ('paid', 'claimed')",
                )?
                .exists([&mac])?;
            if !has_paid {
                return Ok(None);
            }
            let account = account_of(tx, &mac, now)?;
            tx.execute("UPDATE accounts SET ticket = ?2 WHERE id = ?1", params![account, ticket.digest()])?;
            Ok(Some(ticket))
        })
        .await
    }
}
