//! An order as it stands in the store, and how it is found.

use super::buys::BUY;
use super::door::{Datum, Door, DoorRow};
use super::grants::NewGrant;
use super::keyfile::Secret;
use super::orders::ORDER_JOB;
use super::values::{kes, mac_of, millis, number, seconds};
use super::{Store, StoreAnswer, StoreError};
use crate::mac::MacAddr;
use crate::units::{Allotment, Kes, Millis, UnixSeconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// Nothing has left this router.
    Created,
    /// A prompt is being sent, or was when this program ended.
    Sending,
    /// The prompt is on the phone.
    Pending,
    /// It may be: the answer was lost.
    Unknown,
    /// The money is here, and what it buys is granted; the gate is not open yet.
    Paid,
    Granted,
    /// Not paid so far.
    Failed,
    /// Paid after the guest had left: to be had when it comes back.
    LatePaid,
    /// Paid otherwise than ordered.
    RefundDue,
}

impl OrderState {
    const ALL: [OrderState; 9] = [
        OrderState::Created,
        OrderState::Sending,
        OrderState::Pending,
        OrderState::Unknown,
        OrderState::Paid,
        OrderState::Granted,
        OrderState::Failed,
        OrderState::LatePaid,
        OrderState::RefundDue,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            OrderState::Created => "created",
            OrderState::Sending => "sending",
            OrderState::Pending => "pending",
            OrderState::Unknown => "unknown",
            OrderState::Paid => "paid",
            OrderState::Granted => "granted",
            OrderState::Failed => "failed",
            OrderState::LatePaid => "late_paid",
            OrderState::RefundDue => "refund_due",
        }
    }
}

/// What a guest wants to buy.
#[derive(Clone)]
pub struct OrderRow {
    pub id: String,
    pub kind: String,
    pub state: OrderState,
    pub amount: Kes,
    /// Until the order is closed.
    pub phone: Option<Secret>,
    pub phone_hash: String,
    pub phone_tail: String,
    pub mac: MacAddr,
    pub price: String,
    pub access: NewGrant,
    /// The CheckoutRequestID, which ends in the customer's number.
    pub checkout: Option<Secret>,
    pub receipt: Option<String>,
    pub code: String,
    /// A callback has spoken of it,
    pub is_heard: bool,
    /// and said that it is paid.
    pub is_said_paid: bool,
    /// When a prompt was, or may have been, sent to the phone; zero: never.
    pub prompted: Millis,
    pub created: Millis,
    pub changed: Millis,
    pub at: UnixSeconds,
}

impl OrderRow {
    /// Who has ordered, for the log.
    pub fn who(&self) -> String {
        match self.kind == BUY {
            true => "an account".to_owned(),
            false => self.mac.to_string(),
        }
    }
}

/// One state that an order was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderStep {
    pub state: String,
    pub code: String,
    pub at: UnixSeconds,
}

const COLUMNS: &str =
    "id, kind, state, amount, phone, phone_hash, phone_tail, mac, price, access, checkout, receipt, \
                       code, heard_code, prompted_ms, created_ms, changed_ms, at";

impl Store {
    pub fn order(&self, id: String) -> StoreAnswer<Option<OrderRow>> {
        self.read(move |tx| find_by_id(&Door::of(tx), &id))
    }

    /// Those of the newest first.
    pub fn orders(&self, most: u32) -> StoreAnswer<Vec<OrderRow>> {
        self.read(move |tx| {
            let statement = format!(
                "SELECT {COLUMNS} FROM orders WHERE tenant = $1 ORDER BY created_ms DESC, id LIMIT $2"
            );
            Door::of(tx).query(&statement, &[i64::from(most).into()])?.iter().map(row_of).collect()
        })
    }

    /// Those that are not at their end, or that were made since.
    pub fn orders_to_follow(&self, since: Millis) -> StoreAnswer<Vec<OrderRow>> {
        self.read(move |tx| {
            let statement = format!(
                "SELECT {COLUMNS} FROM orders WHERE tenant = $1 AND (created_ms > $2
                 OR id IN (SELECT subject FROM jobs WHERE tenant = $1 AND kind = $3)) ORDER BY created_ms"
            );
            let values = [number(since.0)?.into(), ORDER_JOB.into()];
            Door::of(tx).query(&statement, &values)?.iter().map(row_of).collect()
        })
    }

    /// What this guest has paid late, and has not had yet.
    pub fn late_order_of(&self, mac: MacAddr) -> StoreAnswer<Option<OrderRow>> {
        self.read(move |tx| {
            find(&Door::of(tx), "mac = $2 AND state = 'late_paid'", &[mac.to_string().as_str().into()])
        })
    }

    /// The states that it was in.
    pub fn order_steps(&self, id: String) -> StoreAnswer<Vec<OrderStep>> {
        self.read(move |tx| {
            let steps =
                "SELECT state, code, at FROM order_steps WHERE tenant = $1 AND order_id = $2 ORDER BY seq";
            let step = |row: &DoorRow| {
                let (state, code) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
                Ok(OrderStep { state, code, at: seconds(row.number(2)?) })
            };
            Door::of(tx).query(steps, &[id.as_str().into()])?.iter().map(step).collect()
        })
    }

    /// What the account of a paid order was granted for this and all other orders that the same phone has paid.
    pub fn bought_by_its_phone(&self, id: String) -> StoreAnswer<Allotment> {
        self.read(move |tx| {
            let bought = Door::of(tx).query(
                "SELECT COALESCE(SUM(g.allotment), 0) FROM orders mine
                 JOIN grants paid ON paid.reference = 'mpesa:' || mine.id
                 JOIN orders o ON o.tenant = $1 AND o.phone_hash = mine.phone_hash
                 JOIN grants g ON g.reference = 'mpesa:' || o.id AND g.account = paid.account
                     AND g.metric = paid.metric
                 WHERE mine.tenant = $1 AND mine.id = $2",
                &[id.as_str().into()],
            )?;
            Ok(Allotment(bought.first().ok_or(StoreError::Gone)?.count(0)?))
        })
    }

    /// The order that this receipt belongs to, paid from this phone.
    pub fn order_by_receipt(&self, receipt: String, phone_hash: String) -> StoreAnswer<Option<OrderRow>> {
        self.read(move |tx| {
            let values = [receipt.as_str().into(), phone_hash.as_str().into()];
            find(&Door::of(tx), "receipt = $2 AND phone_hash = $3", &values)
        })
    }
}

pub(super) fn find_by_id(door: &Door, id: &str) -> Result<Option<OrderRow>, StoreError> {
    find(door, "id = $2", &[id.into()])
}

pub(super) fn find(door: &Door, which: &str, values: &[Datum]) -> Result<Option<OrderRow>, StoreError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM orders WHERE tenant = $1 AND {which} ORDER BY created_ms DESC LIMIT 1"
    );
    door.query(&statement, values)?.first().map(row_of).transpose()
}

fn row_of(row: &DoorRow) -> Result<OrderRow, StoreError> {
    let state = row.text(2)?;
    let state = OrderState::ALL.into_iter().find(|known| known.as_str() == state);
    let secret = |column| {
        let text = row.text(column)?;
        Ok::<_, StoreError>((!text.is_empty()).then(|| Secret::new(text.as_bytes().to_vec())))
    };
    Ok(OrderRow {
        id: row.text(0)?.to_owned(),
        kind: row.text(1)?.to_owned(),
        state: state.ok_or_else(|| StoreError::unreadable("state"))?,
        amount: kes(row.number(3)?)?,
        phone: secret(4)?,
        phone_hash: row.text(5)?.to_owned(),
        phone_tail: row.text(6)?.to_owned(),
        mac: mac_of(row.text(7)?)?,
        price: row.text(8)?.to_owned(),
        access: NewGrant::from_text(row.text(9)?)?,
        checkout: secret(10)?,
        receipt: Some(row.text(11)?.to_owned()).filter(|receipt| !receipt.is_empty()),
        code: row.text(12)?.to_owned(),
        is_heard: !row.text(13)?.is_empty(),
        is_said_paid: row.text(13)? == "0",
        prompted: millis(row.number(14)?),
        created: millis(row.number(15)?),
        changed: millis(row.number(16)?),
        at: seconds(row.number(17)?),
    })
}
