//! Payments that the operator's programs order over gRPC: pending -> completed or failed; completed -> refunding -> refunded.
//! An id and a payment hash count once: what is asked again is answered with what there is.

use super::door::{Door, DoorRow};
use super::{Store, StoreError};
use crate::hex;
use crate::units::{Sats, UnixSeconds};

/// Payments that a store holds, ended ones too.
const MOST: i64 = 10_000;
/// Of them, without an end.
const MOST_OPEN: i64 = 64;
/// How long (seconds) one that has ended is known by its id, at least.
const KEPT: u64 = 90 * 86_400;
const COLUMNS: &str = "id, wallet, sats, invoice, payment_hash, description, state, message, refunded, at";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcState {
    Pending,
    Completed,
    Failed,
    /// Being paid back.
    Refunding,
    Refunded,
}

impl GrpcState {
    const ALL: [GrpcState; 5] = [
        GrpcState::Pending,
        GrpcState::Completed,
        GrpcState::Failed,
        GrpcState::Refunding,
        GrpcState::Refunded,
    ];

    fn as_str(self) -> &'static str {
        match self {
            GrpcState::Pending => "pending",
            GrpcState::Completed => "completed",
            GrpcState::Failed => "failed",
            GrpcState::Refunding => "refunding",
            GrpcState::Refunded => "refunded",
        }
    }
}

/// What is asked for, under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcOrder {
    pub id: String,
    /// Whose payment it is, in the caller's words.
    pub wallet: String,
    pub amount: Sats,
    /// BOLT 11, lower case.
    pub invoice: String,
    pub payment_hash: [u8; 32],
    pub description: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcPayment {
    pub order: GrpcOrder,
    pub state: GrpcState,
    /// For the operator: why it failed.
    pub message: String,
    /// What is, or is being, paid back.
    pub refunded: Sats,
    /// Of the last change.
    pub at: UnixSeconds,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcBegun {
    /// It is written down, and nobody has it yet.
    New(GrpcPayment),
    /// The same was asked before.
    Known(GrpcPayment),
    /// The id is another order's, or the invoice another payment's.
    Taken,
    /// There are too many.
    Full,
}

impl Store {
    /// Writes an order down before anything is sent. `again`: one that has failed is tried once more, and of an invoice that
    /// is another payment's that one is answered.
    pub async fn grpc_begin(&self, order: GrpcOrder, again: bool) -> Result<GrpcBegun, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            let door = Door::of(tx);
            if let Some(known) = find(&door, &order.id)? {
                return match (known.order == order, known.state) {
                    (false, _) => Ok(GrpcBegun::Taken),
                    (true, GrpcState::Failed) if again => {
                        let pending = (GrpcState::Pending, "");
                        let begun = step(&door, &order.id, GrpcState::Failed, pending, wall)?;
                        Ok(begun.map_or(GrpcBegun::Taken, GrpcBegun::New))
                    }
                    (true, _) => Ok(GrpcBegun::Known(known)),
                };
            }
            if is_full(&door, wall)? {
                return Ok(GrpcBegun::Full);
            }
            let values = [
                order.id.as_str().into(),
                order.wallet.as_str().into(),
                order.amount.0.into(),
                order.invoice.as_str().into(),
                hex::encode(&order.payment_hash).into(),
                order.description.as_str().into(),
                wall.into(),
            ];
            let added = door.execute(
                "INSERT INTO grpc_payments (tenant, id, wallet, sats, invoice, payment_hash, description, state, message, refunded, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', '', 0, $8) ON CONFLICT DO NOTHING",
                &values,
            )?;
            if added == 1 {
                return Ok(find(&door, &order.id)?.map_or(GrpcBegun::Taken, GrpcBegun::New));
            }
            let known = by_hash(&door, &order.payment_hash)?.filter(|_| again);
            Ok(known.map_or(GrpcBegun::Taken, GrpcBegun::Known))
        })
        .await
    }

    /// A pending payment is over. `None`: it is not pending.
    pub async fn grpc_end(
        &self,
        id: String,
        failed: Option<String>,
    ) -> Result<Option<GrpcPayment>, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            let to = match &failed {
                None => (GrpcState::Completed, ""),
                Some(why) => (GrpcState::Failed, why.as_str()),
            };
            step(&Door::of(tx), &id, GrpcState::Pending, to, wall)
        })
        .await
    }

    pub async fn grpc_payment(&self, id: String) -> Result<Option<GrpcPayment>, StoreError> {
        self.read(move |tx| find(&Door::of(tx), &id)).await
    }

    /// Of this state, the oldest first.
    pub async fn grpc_payments(&self, state: GrpcState) -> Result<Vec<GrpcPayment>, StoreError> {
        self.read(move |tx| {
            let query = format!(
                "SELECT {COLUMNS} FROM grpc_payments WHERE tenant = $1 AND state = $2 ORDER BY at, id"
            );
            Door::of(tx).query(&query, &[state.as_str().into()])?.iter().map(read).collect()
        })
        .await
    }

    /// A completed payment is about to be paid back. `None`: it is not completed, or is smaller.
    pub async fn grpc_refund(&self, id: String, amount: Sats) -> Result<Option<GrpcPayment>, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            let door = Door::of(tx);
            let begun = door.execute(
                "UPDATE grpc_payments SET state = 'refunding', refunded = $3, at = $4
                 WHERE tenant = $1 AND id = $2 AND state = 'completed' AND sats >= $3",
                &[id.as_str().into(), amount.0.into(), wall.into()],
            )?;
            Ok(find(&door, &id)?.filter(|_| begun == 1))
        })
        .await
    }

    /// It was paid back, or nothing was. `None`: it was not about to be.
    pub async fn grpc_refunded(&self, id: String, is_done: bool) -> Result<Option<GrpcPayment>, StoreError> {
        let wall = self.wall();
        self.write(move |tx| {
            let to = if is_done { GrpcState::Refunded } else { GrpcState::Completed };
            step(&Door::of(tx), &id, GrpcState::Refunding, (to, ""), wall)
        })
        .await
    }

    /// Whether there is an account of this wallet's key.
    pub async fn grpc_knows(&self, key: String) -> Result<bool, StoreError> {
        self.read(move |tx| knows(&Door::of(tx), &key)).await
    }
}

/// Whether this wallet's key has logged in here, or has had a balance.
fn knows(door: &Door, key: &str) -> Result<bool, StoreError> {
    let rows = |query| Ok::<_, StoreError>(!door.query(query, &[key.into()])?.is_empty());
    Ok(rows("SELECT 1 FROM balances WHERE tenant = $1 AND account = $2")?
        || rows("SELECT 1 FROM logins WHERE tenant = $1 AND pubkey = $2 AND audience = 'client' LIMIT 1")?
        || rows("SELECT 1 FROM account_claims WHERE tenant = $1 AND kind = 'key' AND subject = $2")?)
}

/// Takes a payment from one state to another. `None`: it is not in that state.
fn step(
    door: &Door,
    id: &str,
    from: GrpcState,
    (to, message): (GrpcState, &str),
    wall: UnixSeconds,
) -> Result<Option<GrpcPayment>, StoreError> {
    let values = [id.into(), from.as_str().into(), to.as_str().into(), message.into(), wall.into()];
    let changed = door.execute(
        "UPDATE grpc_payments SET state = $4, message = $5, at = $6 WHERE tenant = $1 AND id = $2 AND state = $3",
        &values,
    )?;
    Ok(find(door, id)?.filter(|_| changed == 1))
}

/// Whether there is no room for another one, after those were forgotten that are old.
fn is_full(door: &Door, wall: UnixSeconds) -> Result<bool, StoreError> {
    let old = UnixSeconds(wall.0.saturating_sub(KEPT));
    let over = "DELETE FROM grpc_payments WHERE tenant = $1 AND at < $2 AND state IN ('completed', 'failed', 'refunded')";
    door.execute(over, &[old.into()])?;
    let count = |which: &str| {
        let query = format!("SELECT COUNT(*) FROM grpc_payments WHERE tenant = $1{which}");
        door.query(&query, &[])?.first().map_or(Ok(0), |row| row.number(0))
    };
    Ok(count("")? >= MOST || count(" AND state = 'pending'")? >= MOST_OPEN)
}

/// The payment that has this invoice and has not failed.
fn by_hash(door: &Door, payment_hash: &[u8; 32]) -> Result<Option<GrpcPayment>, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM grpc_payments WHERE tenant = $1 AND payment_hash = $2 AND state != 'failed'"
    );
    door.query(&query, &[hex::encode(payment_hash).into()])?.first().map(read).transpose()
}

fn find(door: &Door, id: &str) -> Result<Option<GrpcPayment>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM grpc_payments WHERE tenant = $1 AND id = $2");
    door.query(&query, &[id.into()])?.first().map(read).transpose()
}

fn read(row: &DoorRow) -> Result<GrpcPayment, StoreError> {
    let state = row.text(6)?;
    let state = GrpcState::ALL.into_iter().find(|one| one.as_str() == state);
    let unreadable = || StoreError::unreadable("of gRPC");
    let text = |column| row.text(column).map(str::to_owned);
    Ok(GrpcPayment {
        order: GrpcOrder {
            id: text(0)?,
            wallet: text(1)?,
            amount: Sats(row.count(2)?),
            invoice: text(3)?,
            payment_hash: hex::decode(row.text(4)?).ok_or_else(unreadable)?,
            description: text(5)?,
        },
        state: state.ok_or_else(unreadable)?,
        message: text(7)?,
        refunded: Sats(row.count(8)?),
        at: UnixSeconds(row.count(9)?),
    })
}
