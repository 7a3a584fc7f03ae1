//! What shops tell of orders that were paid: each notice once, and each order of the same tickets whenever it is told of.
//! Refused: another notice under the same id, and an order that has other tickets than before, or another order's.

use super::rows;
use super::{BatchId, TicketId, VoucherRefusal};
use crate::hex;
use crate::store::{Datum, Door, StoreError};
use crate::units::UnixSeconds;
use sha2::{Digest, Sha256};

/// A shop's notice of a paid order.
#[derive(Clone, Debug)]
pub struct PaidNotice {
    pub event: String,
    /// A hash of its body.
    pub print: String,
    /// As the shop names it.
    pub order: String,
    pub product: String,
    pub tickets: Vec<TicketId>,
}

/// What is known of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownNotice {
    /// When it was processed.
    pub processed: Option<u64>,
    /// The batch of its order, if that was told of before.
    pub batch: Option<BatchId>,
}

impl PaidNotice {
    pub fn look(&self, door: &Door) -> Result<Result<KnownNotice, VoucherRefusal>, StoreError> {
        let mismatch = |message: &str| Ok(Err(VoucherRefusal::new(409, "order_mismatch", message)));
        let events = door.query(
            "SELECT processed_at, fingerprint FROM webhook_events WHERE tenant = $1 AND id = $2",
            &[self.event.as_str().into()],
        )?;
        let event = events.first();
        if event.map(|row| row.text(1)).transpose()?.is_some_and(|print| print != self.print) {
            let message = "another notice came with this id";
            return Ok(Err(VoucherRefusal::new(422, "event_id_reused", message)));
        }
        let processed = event.map(|row| row.count(0)).transpose()?;
        let orders = door.query(
            "SELECT fingerprint, batch FROM voucher_orders WHERE tenant = $1 AND id = $2",
            &[self.order.as_str().into()],
        )?;
        if let Some(row) = orders.first() {
            return match row.text(0)? == self.fingerprint() {
                true => Ok(Ok(KnownNotice { processed, batch: Some(row.parsed(1)?) })),
                false => mismatch("this order was told of with other tickets"),
            };
        }
        for ticket in &self.tickets {
            let Some(row) = rows::by_id(door, *ticket)? else { continue };
            let others = door.query(
                "SELECT id FROM voucher_orders WHERE tenant = $1 AND batch = $2",
                &[row.batch.into()],
            )?;
            if !others.is_empty() {
                return mismatch("another order has one of these tickets");
            }
        }
        Ok(Ok(KnownNotice { processed, batch: None }))
    }

    /// Binds its order to a batch: in the commit that makes the batch.
    pub fn bind(&self, door: &Door, batch: BatchId, now: UnixSeconds) -> Result<(), StoreError> {
        door.execute(
            "INSERT INTO voucher_orders (tenant, id, fingerprint, batch, made_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
            &[self.order.as_str().into(), self.fingerprint().into(), batch.into(), Datum::from(now)],
        )
        .map(drop)
    }

    /// It is processed, and was answered so.
    pub fn keep(
        &self,
        door: &Door,
        batch: BatchId,
        answer: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        door.execute(
            "INSERT INTO webhook_events (tenant, id, fingerprint, order_id, batch, answer, processed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            &[
                self.event.as_str().into(),
                self.print.as_str().into(),
                self.order.as_str().into(),
                batch.into(),
                answer.into(),
                Datum::from(now),
            ],
        )
        .map(drop)
    }

    /// Of the product and the tickets, in whatever order they are told.
    fn fingerprint(&self) -> String {
        let mut sorted: Vec<String> = self.tickets.iter().map(TicketId::to_string).collect();
        sorted.sort();
        hex::encode(&Sha256::digest(format!("{} {}", self.product, sorted.join(" "))))
    }
}
