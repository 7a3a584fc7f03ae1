//! Orders that are paid in shillings: each a state machine, every step of which is one commit together with the money that it
//! moves. Refused: a step back. What is paid never becomes failed; what has failed may still become paid.
//!
//! A step is a conditional statement: of two that come at once, one counts.

use super::buys::{may_buy, note_buy, settle_buy, NewBuy, NoBuy, BUY};
use super::door::{Datum, Door};
use super::grants::{add_grant, mac_in_text, NewGrant};
use super::jobs::{add_job, end_job};
use super::keyfile::Secret;
use super::ledger::{book, BookAccount, KES};
use super::order_rows::{find, find_by_id, OrderRow, OrderState};
use super::values::{kes, millis, number};
use super::{Admission, Store, StoreAnswer, StoreError};
use crate::mac::MacAddr;
use crate::units::{Kes, Millis, UnixSeconds};

/// Open orders of all guests together.
const MOST_OPEN: usize = 256;
/// Rows that one transaction removes.
const AT_ONCE: i64 = 64;
/// The job of an order that is not at its end.
pub const ORDER_JOB: &str = "order";
const ACCESS: &str = "access";

#[derive(Clone)]
pub struct NewOrder {
    /// Also what M-Pesa shows the customer: ten letters and digits.
    pub id: String,
    pub amount: Kes,
    /// The whole number.
    pub phone: Secret,
    pub phone_hash: String,
    pub phone_tail: String,
    pub price: String,
    /// What it buys, for whom.
    pub access: NewGrant,
    /// What makes this question and another one the same; empty: nothing does.
    pub asked: String,
    /// It adds to a balance instead: `access` is not granted.
    pub buys: Option<NewBuy>,
}

/// How often a phone may be prompted.
#[derive(Clone, Copy, Debug)]
pub struct PromptRules {
    /// After any prompt,
    pub pause: Millis,
    /// and after one for the same amount, or one whose answer was lost.
    pub long_pause: Millis,
    pub most_a_day: u32,
    pub day: Millis,
    /// An order whose answer was lost stands in the way of another one this long.
    pub open_for: Millis,
}

/// What came of an order.
pub enum OpenedOrder {
    New(OrderRow),
    /// It is there already.
    Again(OrderRow),
    /// The question was asked before with other words.
    OtherQuestion,
    /// The guest has another open order.
    OtherOrder,
    PhoneBusy(Millis),
    PhoneLimit(Millis),
    Crowded,
    /// The takings do not cover what it would promise.
    FloatTooSmall,
    /// As many shillings as may be moved in a day.
    DayLimit,
}

/// What came of money that was found for an order.
pub enum Settled {
    /// The gate is to be opened.
    Granted(Admission),
    /// It waits for its guest.
    Credit,
    /// A balance has it.
    Bought,
    /// It was settled before, or cannot be.
    Nothing,
}

/// From when on orders are kept, by service time.
#[derive(Clone, Copy, Debug)]
pub struct OrdersSince {
    pub closed: Millis,
    /// Those that nobody has paid, by all that is known,
    pub unpaid: Millis,
    /// and those that were never sent.
    pub unsent: Millis,
    /// So many of those that nobody has paid, the newest: anybody may order.
    pub most_unpaid: u32,
}

impl Store {
    /// Opens an order, or finds the one that is meant.
    pub fn open_order(&self, new: NewOrder, rules: PromptRules) -> StoreAnswer<OpenedOrder> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let mac = new.access.mac.to_string();
            let is_same = |row: &OrderRow| row.price == new.price && row.phone_hash == new.phone_hash;
            if !new.asked.is_empty() {
                let known = find(&door, "mac = $2 AND asked = $3", &[mac.as_str().into(), new.asked.as_str().into()])?;
                if let Some(row) = known {
                    return Ok(if is_same(&row) { OpenedOrder::Again(row) } else { OpenedOrder::OtherQuestion });
                }
            }
            let open = "mac = $2 AND (state IN ('created', 'sending', 'pending') OR (state = 'unknown' AND created_ms > $3))";
            let since = number(now.saturating_sub(rules.open_for).0)?;
            if let Some(row) = find(&door, open, &[mac.as_str().into(), since.into()])? {
                return Ok(if is_same(&row) { OpenedOrder::Again(row) } else { OpenedOrder::OtherOrder });
            }
            let (pause, limit) = waits(&door, &new, rules, now)?;
            if limit > Millis::ZERO {
                return Ok(OpenedOrder::PhoneLimit(limit));
            }
            if pause > Millis::ZERO {
                return Ok(OpenedOrder::PhoneBusy(pause));
            }
            let open = "SELECT 1 FROM jobs WHERE tenant = $1 AND kind = $2";
            if door.query(open, &[ORDER_JOB.into()])?.len() >= MOST_OPEN {
                return Ok(OpenedOrder::Crowded);
            }
            match new.buys.as_ref().map(|buys| may_buy(tx, buys, new.amount, wall)).transpose()?.flatten() {
                Some(NoBuy::FloatTooSmall) => return Ok(OpenedOrder::FloatTooSmall),
                Some(NoBuy::DayLimit) => return Ok(OpenedOrder::DayLimit),
                None => {}
            }
            let phone = std::str::from_utf8(new.phone.expose()).map_err(|_| StoreError::unreadable("phone"))?;
            let values = [
                new.id.as_str().into(),
                (if new.buys.is_some() { BUY } else { ACCESS }).into(),
                number(new.amount.0)?.into(),
                KES.into(),
                phone.into(),
                new.phone_hash.as_str().into(),
                new.phone_tail.as_str().into(),
                mac.as_str().into(),
                new.price.as_str().into(),
                new.access.to_text().as_str().into(),
                new.asked.as_str().into(),
                number(now.0)?.into(),
                number(wall.0)?.into(),
            ];
            door.execute(
                "INSERT INTO orders (tenant, id, kind, state, amount, unit, phone, phone_hash, phone_tail, mac, price, access,
                     asked, token_hash, checkout, checkout_hash, receipt, code, heard_code, heard_amount, heard_receipt,
                     prompted_ms, is_lost, created_ms, changed_ms, at)
                 VALUES ($1, $2, $3, 'created', $4, $5, $6, $7, $8, $9, $10, $11, $12, '', '', '', '', '', '', 0, '', $13, 0,
                     $13, $13, $14)",
                &values,
            )?;
            if let Some(buys) = &new.buys {
                note_buy(&door, &new.id, buys)?;
            }
            note_step(&door, &new.id, OrderState::Created, "", wall)?;
            add_job(&door, ORDER_JOB, &new.id, now)?;
            find_by_id(&door, &new.id)?.map(OpenedOrder::New).ok_or(StoreError::Gone)
        })
    }

    /// Before a prompt is sent. False: it is not `created` any more.
    pub fn order_sending(&self, id: String, token_hash: String) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let sent = door.execute(
                "UPDATE orders SET state = 'sending', token_hash = $3, prompted_ms = $4, changed_ms = $4
                 WHERE tenant = $1 AND id = $2 AND state = 'created'",
                &[id.as_str().into(), token_hash.as_str().into(), number(now.0)?.into()],
            )?;
            if sent == 1 {
                note_step(&door, &id, OrderState::Sending, "", wall)?;
            }
            Ok(sent == 1)
        })
    }

    /// The prompt was certainly not sent, and may be later.
    pub async fn order_unsent(&self, id: String) -> Result<(), StoreError> {
        self.step(id, &["sending"], OrderState::Created, String::new()).await.map(drop)
    }

    /// Daraja has it, under this id.
    pub fn order_accepted(&self, id: String, checkout: Secret, checkout_hash: String) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let accepted = door.execute(
                "UPDATE orders SET state = 'pending', checkout = $3, checkout_hash = $4, is_lost = 0, changed_ms = $5
                 WHERE tenant = $1 AND id = $2 AND state IN ('sending', 'unknown')",
                &[id.as_str().into(), text(&checkout)?, checkout_hash.as_str().into(), number(now.0)?.into()],
            )?;
            if accepted == 1 {
                note_step(&door, &id, OrderState::Pending, "", wall)?;
            }
            Ok(accepted == 1)
        })
    }

    /// The answer was lost: a prompt may be on the phone.
    pub fn order_lost(&self, id: String) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let lost = door.execute(
                "UPDATE orders SET state = 'unknown', is_lost = 1, prompted_ms = $3, changed_ms = $3
                 WHERE tenant = $1 AND id = $2 AND state = 'sending'",
                &[id.as_str().into(), number(now.0)?.into()],
            )?;
            if lost == 1 {
                note_step(&door, &id, OrderState::Unknown, "", wall)?;
                // A callback was faster than the answer, and has told its id.
                let told = door.execute(
                    "UPDATE orders SET state = 'pending', is_lost = 0
                     WHERE tenant = $1 AND id = $2 AND state = 'unknown' AND checkout != ''",
                    &[id.as_str().into()],
                )?;
                if told == 1 {
                    note_step(&door, &id, OrderState::Pending, "", wall)?;
                }
            }
            Ok(lost == 1)
        })
    }

    /// No prompt was sent, and none will be.
    pub fn order_refused(&self, id: String, code: String) -> StoreAnswer<()> {
        self.write({
            let (now, wall) = (self.now(), self.wall());
            move |tx| {
                let door = Door::of(tx);
                let refused = door.execute(
                    "UPDATE orders SET state = 'failed', code = $3, prompted_ms = 0, phone = '', checkout = '', changed_ms = $4
                     WHERE tenant = $1 AND id = $2 AND state IN ('created', 'sending')",
                    &[id.as_str().into(), code.as_str().into(), number(now.0)?.into()],
                )?;
                if refused == 1 {
                    note_step(&door, &id, OrderState::Failed, &code, wall)?;
                }
                end_job(&door, ORDER_JOB, &id)
            }
        })
    }

    /// Not paid so far, by Daraja's code. It is still followed.
    pub async fn order_failed(&self, id: String, code: String) -> Result<bool, StoreError> {
        self.step(id, &["pending"], OrderState::Failed, code).await
    }

    /// Nothing more is asked about it by itself. A callback that names its payment brings back whose hash is kept.
    pub fn order_given_up(&self, id: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            let door = Door::of(tx);
            door.execute(
                "UPDATE orders SET phone = '', checkout = '' WHERE tenant = $1 AND id = $2 AND state NOT IN ('created', 'sending')",
                &[id.as_str().into()],
            )?;
            end_job(&door, ORDER_JOB, &id)
        })
    }

    /// It is paid: one commit with the books and what it buys. `is_late`: it waits for its guest instead.
    pub fn settle_order(&self, id: String, receipt: Option<String>, is_late: bool) -> StoreAnswer<Settled> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = find_by_id(&door, &id)? else { return Ok(Settled::Nothing) };
            let is_late = is_late && row.kind != BUY;
            let to = if is_late { OrderState::LatePaid } else { OrderState::Paid };
            let receipt = receipt.unwrap_or_default();
            let settled = door.execute(
                "UPDATE orders SET state = $3, code = '0', changed_ms = $4,
                     receipt = CASE WHEN receipt = '' THEN CASE WHEN heard_receipt = '' THEN $5 ELSE heard_receipt END
                                    ELSE receipt END
                 WHERE tenant = $1 AND id = $2 AND state IN ('sending', 'pending', 'unknown', 'failed')
                   AND (heard_amount = 0 OR heard_amount = amount)",
                &[id.as_str().into(), to.as_str().into(), number(now.0)?.into(), receipt.as_str().into()],
            )?;
            if settled == 0 {
                return Ok(Settled::Nothing);
            }
            note_step(&door, &id, to, "0", wall)?;
            // A callback may have told of the money before it was believed.
            let was_aside = door.execute("DELETE FROM suspense WHERE tenant = $1 AND order_id = $2", &[id.as_str().into()])?;
            let came_from = if was_aside > 0 { BookAccount::Suspense } else { BookAccount::MpesaUtility };
            let paid = (BookAccount::Orders, came_from);
            book(&door, &format!("{id}/paid"), paid, row.amount.0, &id, wall)?;
            if row.kind == BUY {
                settle_buy(&door, &row, wall)?;
                return Ok(Settled::Bought);
            }
            if is_late {
                let owed = (BookAccount::Claims, BookAccount::Orders);
                book(&door, &format!("{id}/late"), owed, row.amount.0, &id, wall)?;
                close(&door, &id)?;
                return Ok(Settled::Credit);
            }
            let sold = (BookAccount::AccessSales, BookAccount::Orders);
            book(&door, &format!("{id}/sold"), sold, row.amount.0, &id, wall)?;
            add_grant(tx, &row.access, now, wall).map(Settled::Granted)
        })
    }

    /// Gives a guest who has come back what it had paid late.
    pub fn grant_late_order(&self, id: String, mac: MacAddr) -> StoreAnswer<Settled> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = find_by_id(&door, &id)? else { return Ok(Settled::Nothing) };
            let granted = door.execute(
                "UPDATE orders SET state = 'paid', changed_ms = $3 WHERE tenant = $1 AND id = $2 AND state = 'late_paid'",
                &[id.as_str().into(), number(now.0)?.into()],
            )?;
            if granted == 0 {
                return Ok(Settled::Nothing);
            }
            note_step(&door, &id, OrderState::Paid, "0", wall)?;
            let sold = (BookAccount::AccessSales, BookAccount::Claims);
            book(&door, &format!("{id}/sold"), sold, row.amount.0, &id, wall)?;
            add_job(&door, ORDER_JOB, &id, now)?;
            add_grant(tx, &NewGrant { mac, ..row.access }, now, wall).map(Settled::Granted)
        })
    }

    /// The gate is open for it. From now on only hashes are kept of what names the customer.
    pub fn order_granted(&self, id: String) -> StoreAnswer<()> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let granted = door.execute(
                "UPDATE orders SET state = 'granted', changed_ms = $3 WHERE tenant = $1 AND id = $2 AND state = 'paid'",
                &[id.as_str().into(), number(now.0)?.into()],
            )?;
            if granted == 1 {
                note_step(&door, &id, OrderState::Granted, "0", wall)?;
            }
            close(&door, &id)
        })
    }

    /// The session of an order that is paid.
    pub fn admission_of_order(&self, access: NewGrant) -> StoreAnswer<Option<Admission>> {
        self.read(move |tx| super::grants::granted_session(tx, &access.reference))
    }

    /// Forgets orders that came to their end before these, and sums up entries in the books before `wall`.
    pub async fn forget_orders(&self, since: OrdersSince, wall: UnixSeconds) -> Result<(), StoreError> {
        loop {
            let removed = self.write(move |tx| {
                let door = Door::of(tx);
                let old =
                    "SELECT id FROM orders WHERE tenant = $1 AND state NOT IN ('late_paid', 'refund_due')
                           AND (changed_ms < $2
                                OR (changed_ms < $5 AND state IN ('failed', 'unknown') AND heard_code != '0')
                                OR (changed_ms < $6 AND state = 'failed' AND prompted_ms = 0)
                                OR (created_ms < (SELECT created_ms FROM orders WHERE tenant = $1
                                        AND state IN ('failed', 'unknown') AND heard_code != '0'
                                        ORDER BY created_ms DESC LIMIT 1 OFFSET $7)
                                    AND state IN ('failed', 'unknown') AND heard_code != '0'))
                           AND id NOT IN (SELECT subject FROM jobs WHERE tenant = $1 AND kind = $3) LIMIT $4";
                let values = [
                    number(since.closed.0)?.into(),
                    ORDER_JOB.into(),
                    AT_ONCE.into(),
                    number(since.unpaid.0)?.into(),
                    number(since.unsent.0)?.into(),
                    i64::from(since.most_unpaid).saturating_sub(1).into(),
                ];
                let old = door.query(old, &values)?;
                for row in &old {
                    for table in [
                        "order_steps WHERE tenant = $1 AND order_id",
                        "buys WHERE tenant = $1 AND order_id",
                        "orders WHERE tenant = $1 AND id",
                    ] {
                        door.execute(&format!("DELETE FROM {table} = $2"), &[row.text(0)?.into()])?;
                    }
                }
                Ok(old.len())
            });
            if i64::try_from(removed.await?).unwrap_or(i64::MAX) < AT_ONCE {
                break;
            }
        }
        self.carry_books(wall).await
    }

    fn step(
        &self,
        id: String,
        from: &'static [&'static str],
        to: OrderState,
        code: String,
    ) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = find_by_id(&door, &id)?.filter(|row| from.contains(&row.state.as_str())) else {
                return Ok(false);
            };
            let values = [
                id.as_str().into(),
                to.as_str().into(),
                code.as_str().into(),
                number(now.0)?.into(),
                row.state.as_str().into(),
            ];
            let changed = door.execute(
                "UPDATE orders SET state = $3, code = $4, changed_ms = $5 WHERE tenant = $1 AND id = $2 AND state = $6",
                &values,
            )?;
            if changed == 1 {
                note_step(&door, &id, to, &code, wall)?;
            }
            Ok(changed == 1)
        })
    }
}

/// How long until the phone may be prompted for this, and until it may be at all.
fn waits(
    door: &Door,
    new: &NewOrder,
    rules: PromptRules,
    now: Millis,
) -> Result<(Millis, Millis), StoreError> {
    let since = number(now.saturating_sub(rules.day.max(rules.long_pause)).0)?;
    let rows = door.query(
        "SELECT prompted_ms, amount, is_lost FROM orders WHERE tenant = $1 AND phone_hash = $2 AND prompted_ms > $3
         ORDER BY prompted_ms",
        &[new.phone_hash.as_str().into(), since.into()],
    )?;
    let (mut pause, mut today) = (Millis::ZERO, Vec::new());
    for row in &rows {
        let at = millis(row.number(0)?);
        let is_long = row.number(2)? != 0 || kes(row.number(1)?)? == new.amount;
        let until = at.saturating_add(if is_long { rules.long_pause } else { rules.pause });
        pause = pause.max(until.saturating_sub(now));
        if at.saturating_add(rules.day) > now {
            today.push(at);
        }
    }
    let most = usize::try_from(rules.most_a_day).unwrap_or(usize::MAX);
    let first = today.len().checked_sub(most).and_then(|at| today.get(at));
    Ok((pause, first.map_or(Millis::ZERO, |first| first.saturating_add(rules.day).saturating_sub(now))))
}

/// What a device has ordered is another's in its place, unless that one has asked the same question.
pub(super) fn hand_over_orders(door: &Door, gone: &str, mac: &str) -> Result<(), StoreError> {
    let statement =
        "UPDATE orders SET mac = $3, access = REPLACE(access, $4, $5) WHERE tenant = $1 AND mac = $2
         AND NOT EXISTS (SELECT 1 FROM orders known WHERE known.tenant = $1 AND known.mac = $3
                         AND known.asked = orders.asked AND known.asked != '')";
    let values = [gone.into(), mac.into(), mac_in_text(gone).into(), mac_in_text(mac).into()];
    door.execute(statement, &values).map(drop)
}

/// What names the customer goes, but for hashes; nothing is left to be done.
pub(super) fn close(door: &Door, id: &str) -> Result<(), StoreError> {
    door.execute("UPDATE orders SET phone = '', checkout = '' WHERE tenant = $1 AND id = $2", &[id.into()])?;
    end_job(door, ORDER_JOB, id)
}

pub(super) fn note_step(
    door: &Door,
    id: &str,
    state: OrderState,
    code: &str,
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    note_step_named(door, id, state.as_str(), code, wall)
}

/// The same for what has states of its own.
pub(super) fn note_step_named(
    door: &Door,
    id: &str,
    state: &str,
    code: &str,
    wall: UnixSeconds,
) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO order_steps (tenant, order_id, seq, state, code, at)
         SELECT $1, $2, COUNT(*), $3, $4, $5 FROM order_steps WHERE tenant = $1 AND order_id = $2",
        &[id.into(), state.into(), code.into(), number(wall.0)?.into()],
    )
    .map(drop)
}

pub(super) fn text(secret: &Secret) -> Result<Datum, StoreError> {
    std::str::from_utf8(secret.expose()).map(Datum::from).map_err(|_| StoreError::unreadable("checkout"))
}
