//! What is paid out in shillings: each a state machine, every step of which is one commit with the balance that pays and the books.
//! Refused: a step back, more than is held at the short code, and more than may go out in a day.
//!
//! The money is reserved before anything leaves. It is spent, or given back, once: by the step that ends the payout.

use super::balances::{give_back, reserve, settle, NewMove, Reserved};
use super::door::{Datum, Door};
use super::jobs::{add_job, end_job};
use super::ledger::{book, BookAccount};
use super::orders::note_step_named;
use super::payout_rows::{
    by_id, row_of, NewPayout, PaidBy, PayoutKind, PayoutRow, PayoutState, COLUMNS, OVERDUE,
};
use super::values::number;
use super::{Store, StoreAnswer, StoreError};
use crate::units::{Kes, Millis, Msats, UnixSeconds};

/// Open payouts together, and beside them those that await their money.
const MOST_OPEN: u64 = 256;
const AT_ONCE: i64 = 64;
/// The job of a payout that is not at its end.
pub const PAYOUT_JOB: &str = "payout";
const DAY: u64 = 86_400;
/// What is promised stands here until it is paid or withdrawn.
const OWED: BookAccount = BookAccount::Orders;

/// What bounds payouts.
#[derive(Clone, Copy, Debug)]
pub struct PayoutRules {
    /// Most that goes out in a day.
    pub day_max: Kes,
    /// What is at the short code, as far as is known.
    pub funds: Option<Kes>,
    /// Most that the account spends in a day.
    pub account_day_max: Option<Msats>,
}

/// What came of the wish for a payout.
pub enum OpenedPayout {
    New(PayoutRow),
    /// It was asked before.
    Again(PayoutRow),
    /// The same was asked before with other words.
    OtherQuestion,
    /// The balance has only this much.
    TooLittle(Msats),
    /// With it, more than goes out in a day.
    DayLimit,
    FloatTooSmall,
    Crowded,
}

/// How a payout ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayoutEnd {
    Paid {
        receipt: Option<String>,
    },
    /// For good; the code of why.
    Failed(String),
    /// What it awaits does not come; the code of why. One that has it goes on, and one that awaits something else than `wallet`
    /// by now.
    NotPaid {
        code: String,
        wallet: String,
    },
}

impl PayoutRow {
    /// How it ends where what it awaits does not come; the code of why.
    pub fn not_paid(&self, code: &str) -> PayoutEnd {
        PayoutEnd::NotPaid { code: code.to_owned(), wallet: self.wallet.clone() }
    }
}

impl Store {
    /// Opens a payout: where a balance pays, what it costs is reserved in the same commit. `rules` are asked for within it: what
    /// is at the short code then is without what has ended by then.
    pub fn open_payout(
        &self,
        new: NewPayout,
        rules: impl FnOnce() -> PayoutRules + Send + 'static,
    ) -> StoreAnswer<OpenedPayout> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| open(&Door::of(tx), &new, rules(), (now, wall)))
    }

    pub fn payout(&self, id: String) -> StoreAnswer<Option<PayoutRow>> {
        self.read(move |tx| by_id(&Door::of(tx), &id))
    }

    /// What an account has asked for in these words before.
    pub fn payout_asked_for(&self, account: String, asked: String) -> StoreAnswer<Option<PayoutRow>> {
        self.read(move |tx| {
            let door = Door::of(tx);
            let known = known_question(&door, &account, &asked)?;
            known.map_or(Ok(None), |(id, _)| by_id(&door, &id))
        })
    }

    /// The newest first.
    pub fn payouts(&self, most: u32) -> StoreAnswer<Vec<PayoutRow>> {
        self.read(move |tx| {
            let statement =
                format!("SELECT {COLUMNS} FROM payouts WHERE tenant = $1 ORDER BY at DESC, id LIMIT $2");
            Door::of(tx).query(&statement, &[i64::from(most).into()])?.iter().map(row_of).collect()
        })
    }

    /// Those that are not at their end.
    pub fn open_payouts(&self) -> StoreAnswer<Vec<PayoutRow>> {
        self.read(move |tx| {
            let statement = format!(
                "SELECT {COLUMNS} FROM payouts WHERE tenant = $1 AND state NOT IN ('paid', 'refunded', 'failed')
                 ORDER BY created_ms"
            );
            Door::of(tx).query(&statement, &[])?.iter().map(row_of).collect()
        })
    }

    /// The payout that this hash of a path's end belongs to, and what is called there.
    pub fn payout_called(&self, token_hash: String) -> StoreAnswer<Option<(PayoutRow, String)>> {
        self.read(move |tx| {
            let door = Door::of(tx);
            let known = door.query(
                "SELECT payout, what FROM payout_tokens WHERE tenant = $1 AND token_hash = $2",
                &[token_hash.as_str().into()],
            )?;
            let Some(known) = known.first() else { return Ok(None) };
            let row = by_id(&door, known.text(0)?)?;
            Ok(row.map(|row| (row, known.text(1).unwrap_or_default().to_owned())))
        })
    }

    /// What it awaits its money by, for good: an invoice's payment hash.
    pub fn payout_awaits(&self, id: String, wallet: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            Door::of(tx).execute(
                "UPDATE payouts SET wallet = $3 WHERE tenant = $1 AND id = $2 AND state = 'awaiting' AND wallet = ''",
                &[id.as_str().into(), wallet.as_str().into()],
            )?;
            Ok(())
        })
    }

    /// What it awaited is in the account's balance: it is reserved there. False: there is too little, or no more goes out now,
    /// and it has failed.
    pub fn payout_funded(
        &self,
        id: String,
        rules: impl FnOnce() -> PayoutRules + Send + 'static,
    ) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = by_id(&door, &id)? else { return Ok(false) };
            if row.state != PayoutState::Awaiting {
                return Ok(row.state != PayoutState::Failed);
            }
            let why = match out_of_bounds(&door, row.kind, row.amount, &rules(), wall)? {
                Some(OpenedPayout::DayLimit) => "day_limit",
                Some(_) => "float_too_small",
                None if !take(&door, &row.id, &row.account, row.kind, row.cost, wall)? => "too_little",
                None => "",
            };
            if !why.is_empty() {
                end(&door, &row, row.not_paid(why), (now, wall))?;
                return Ok(false);
            }
            step(&door, &row, PayoutState::Created, "", (now, wall))?;
            Ok(true)
        })
    }

    /// Before it is sent, with the hashes of the paths' ends that Daraja will call. False: it is over, or was taken already.
    pub fn payout_sending(&self, id: String, tokens: Vec<(&'static str, String)>) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = by_id(&door, &id)? else { return Ok(false) };
            for (what, hash) in &tokens {
                add_token(&door, &id, what, hash)?;
            }
            match row.state {
                PayoutState::Sending => Ok(true),
                PayoutState::Created => {
                    step(&door, &row, PayoutState::Sending, "", (now, wall))?;
                    door.execute(
                        "UPDATE payouts SET sent_ms = $3 WHERE tenant = $1 AND id = $2 AND sent_ms = 0",
                        &[id.as_str().into(), number(now.0)?.into()],
                    )?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
    }

    /// It was certainly not sent, and may be later.
    pub fn payout_unsent(&self, id: String) -> StoreAnswer<()> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            match by_id(&door, &id)? {
                Some(row) if row.state == PayoutState::Sending && !row.is_lost => {
                    step(&door, &row, PayoutState::Created, "", (now, wall))
                }
                _ => Ok(()),
            }
        })
    }

    /// Its answer was lost: it may be done.
    pub fn payout_lost(&self, id: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            Door::of(tx).execute(
                "UPDATE payouts SET is_lost = 1 WHERE tenant = $1 AND id = $2 AND state = 'sending'",
                &[id.as_str().into()],
            )?;
            Ok(())
        })
    }

    /// It was taken, under this id of theirs.
    pub fn payout_accepted(&self, id: String, conversation: String) -> StoreAnswer<()> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            let Some(row) = by_id(&door, &id)?.filter(|row| row.state == PayoutState::Sending) else {
                return Ok(());
            };
            step(&door, &row, PayoutState::Pending, "", (now, wall))?;
            door.execute(
                "UPDATE payouts SET conversation = $3 WHERE tenant = $1 AND id = $2",
                &[id.as_str().into(), conversation.as_str().into()],
            )?;
            Ok(())
        })
    }

    /// Daraja says that it takes too long.
    pub fn payout_overdue(&self, id: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            Door::of(tx).execute(
                "UPDATE payouts SET code = $3 WHERE tenant = $1 AND id = $2 AND state IN ('sending', 'pending')",
                &[id.as_str().into(), OVERDUE.into()],
            )?;
            Ok(())
        })
    }

    /// It is asked about: the hash of the end of the path where its state will be told.
    pub fn payout_asked(&self, id: String, token_hash: String) -> StoreAnswer<()> {
        self.write(move |tx| {
            let door = Door::of(tx);
            add_token(&door, &id, "status", &token_hash)?;
            door.execute(
                "UPDATE payouts SET code = '' WHERE tenant = $1 AND id = $2 AND state IN ('sending', 'pending')",
                &[id.as_str().into()],
            )?;
            Ok(())
        })
    }

    /// It is over: the balance has paid, or has its money back, and the books say so. False: it was over before, or what is
    /// told cannot be.
    pub fn end_payout(&self, id: String, ended: PayoutEnd) -> StoreAnswer<bool> {
        let (now, wall) = (self.now(), self.wall());
        self.write(move |tx| {
            let door = Door::of(tx);
            match by_id(&door, &id)? {
                Some(row) => end(&door, &row, ended, (now, wall)),
                None => Ok(false),
            }
        })
    }

    /// Forgets payouts that were over before this.
    pub async fn forget_payouts(&self, before: Millis) -> Result<(), StoreError> {
        let before = number(before.0)?;
        loop {
            let removed = self.write(move |tx| {
                let door = Door::of(tx);
                let old = door.query(
                    "SELECT id FROM payouts WHERE tenant = $1 AND state IN ('paid', 'refunded', 'failed')
                     AND changed_ms < $2 LIMIT $3",
                    &[before.into(), AT_ONCE.into()],
                )?;
                for row in &old {
                    let id: Datum = row.text(0)?.into();
                    for gone in [
                        "DELETE FROM order_steps WHERE tenant = $1 AND order_id = $2",
                        "DELETE FROM payout_tokens WHERE tenant = $1 AND payout = $2",
                        "DELETE FROM payouts WHERE tenant = $1 AND id = $2",
                    ] {
                        door.execute(gone, std::slice::from_ref(&id))?;
                    }
                }
                Ok(old.len())
            });
            if i64::try_from(removed.await?).unwrap_or(i64::MAX) < AT_ONCE {
                return Ok(());
            }
        }
    }
}

fn open(
    door: &Door,
    new: &NewPayout,
    rules: PayoutRules,
    (now, wall): (Millis, UnixSeconds),
) -> Result<OpenedPayout, StoreError> {
    if let Some(known) = asked_before(door, new)? {
        return Ok(known);
    }
    if let Some(refused) = out_of_bounds(door, new.kind, new.amount, &rules, wall)? {
        return Ok(refused);
    }
    let awaits = i64::from(new.via != PaidBy::Balance);
    let open = door.query(
        "SELECT COUNT(*) FROM payouts WHERE tenant = $1 AND state NOT IN ('paid', 'refunded', 'failed')
         AND (CASE WHEN state = 'awaiting' THEN 1 ELSE 0 END) = $2",
        &[awaits.into()],
    )?;
    if open.first().ok_or(StoreError::Gone)?.count(0)? >= MOST_OPEN {
        return Ok(OpenedPayout::Crowded);
    }
    let mut state = PayoutState::Awaiting;
    if new.via == PaidBy::Balance {
        let asked = move_of(&new.id, &new.account, new.kind, new.cost);
        match reserve(door, &asked, rules.account_day_max, wall)? {
            Reserved::New(_) => state = PayoutState::Created,
            Reserved::TooLittle(free) => return Ok(OpenedPayout::TooLittle(free)),
            Reserved::DayLimit => return Ok(OpenedPayout::DayLimit),
            Reserved::Known(_) => return Err(StoreError::unreadable("balance")),
        }
    }
    insert(door, new, state, (now, wall))?;
    // What is promised to be paid is not ours any more.
    let promised = (OWED, BookAccount::Trading);
    book(door, &format!("{}/promised", new.id), promised, new.amount.0, &new.id, wall)?;
    add_job(door, PAYOUT_JOB, &new.id, now)?;
    by_id(door, &new.id)?.map(OpenedPayout::New).ok_or(StoreError::Gone)
}

/// Why it may not go out beside what goes out already. What awaits its money is not counted: anybody may ask for that, and need
/// not pay.
fn out_of_bounds(
    door: &Door,
    kind: PayoutKind,
    amount: Kes,
    rules: &PayoutRules,
    wall: UnixSeconds,
) -> Result<Option<OpenedPayout>, StoreError> {
    let sums = door.query(
        "SELECT COALESCE(SUM(kes), 0),
             COALESCE(SUM(CASE WHEN kind != 'airtime' AND state != 'paid' THEN kes ELSE 0 END), 0)
         FROM payouts WHERE tenant = $1 AND state NOT IN ('refunded', 'failed', 'awaiting')
             AND (at > $2 OR state != 'paid')",
        &[number(wall.0.saturating_sub(DAY))?.into()],
    )?;
    let sums = sums.first().ok_or(StoreError::Gone)?;
    let with = |column| sums.count(column).map(|sum| sum.saturating_add(amount.0));
    if with(0)? > rules.day_max.0 {
        return Ok(Some(OpenedPayout::DayLimit));
    }
    let funds = rules.funds.filter(|_| kind != PayoutKind::Airtime);
    let is_short = with(1)? > funds.map_or(u64::MAX, |funds| funds.0);
    Ok(is_short.then_some(OpenedPayout::FloatTooSmall))
}

fn asked_before(door: &Door, new: &NewPayout) -> Result<Option<OpenedPayout>, StoreError> {
    if new.asked.is_empty() {
        return Ok(None);
    }
    match known_question(door, &new.account, &new.asked)? {
        None => Ok(None),
        Some((_, question)) if question != new.question => Ok(Some(OpenedPayout::OtherQuestion)),
        Some((id, _)) => Ok(by_id(door, &id)?.map(OpenedPayout::Again)),
    }
}

/// The payout that was asked for in these words, and what was asked.
fn known_question(door: &Door, account: &str, asked: &str) -> Result<Option<(String, String)>, StoreError> {
    let known = door.query(
        "SELECT id, question FROM payouts WHERE tenant = $1 AND account = $2 AND asked = $3",
        &[account.into(), asked.into()],
    )?;
    known.first().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).transpose()
}

fn insert(
    door: &Door,
    new: &NewPayout,
    state: PayoutState,
    (now, wall): (Millis, UnixSeconds),
) -> Result<(), StoreError> {
    let phone = std::str::from_utf8(new.phone.expose()).map_err(|_| StoreError::unreadable("phone"))?;
    let values = [
        new.id.as_str().into(),
        new.account.as_str().into(),
        new.kind.as_str().into(),
        new.via.as_str().into(),
        state.as_str().into(),
        number(new.amount.0)?.into(),
        number(new.cost.0)?.into(),
        number(new.rate)?.into(),
        number(new.spread_bp)?.into(),
        phone.into(),
        new.phone_hash.as_str().into(),
        new.phone_tail.as_str().into(),
        new.paybill.as_str().into(),
        new.bill.as_str().into(),
        new.wallet.as_str().into(),
        new.asked.as_str().into(),
        new.question.as_str().into(),
        new.originator.as_str().into(),
        number(now.0)?.into(),
        number(wall.0)?.into(),
    ];
    door.execute(
        "INSERT INTO payouts (tenant, id, account, kind, via, state, kes, msat, rate, spread_bp, phone, phone_hash,
             phone_tail, paybill, bill, wallet, asked, question, originator, conversation, receipt, code, is_lost,
             sent_ms, created_ms, changed_ms, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, '', '', '', 0,
             0, $20, $20, $21)",
        &values,
    )?;
    note_step_named(door, &new.id, state.as_str(), "", wall)
}

/// Reserves what a payout costs.
fn take(
    door: &Door,
    id: &str,
    account: &str,
    kind: PayoutKind,
    cost: Msats,
    wall: UnixSeconds,
) -> Result<bool, StoreError> {
    let reserved = reserve(door, &move_of(id, account, kind, cost), None, wall)?;
    Ok(matches!(reserved, Reserved::New(_)))
}

fn move_of(id: &str, account: &str, kind: PayoutKind, cost: Msats) -> NewMove {
    NewMove {
        account: account.to_owned(),
        reference: id.to_owned(),
        kind: kind.as_str(),
        amount: cost,
        detail: String::new(),
    }
}

fn step(
    door: &Door,
    row: &PayoutRow,
    to: PayoutState,
    code: &str,
    (now, wall): (Millis, UnixSeconds),
) -> Result<(), StoreError> {
    door.execute(
        "UPDATE payouts SET state = $3, code = $4, changed_ms = $5 WHERE tenant = $1 AND id = $2",
        &[row.id.as_str().into(), to.as_str().into(), code.into(), number(now.0)?.into()],
    )?;
    note_step_named(door, &row.id, to.as_str(), code, wall)
}

/// The last step, once.
fn end(
    door: &Door,
    row: &PayoutRow,
    ended: PayoutEnd,
    (now, wall): (Millis, UnixSeconds),
) -> Result<bool, StoreError> {
    let is_reserved = matches!(row.state, PayoutState::Created | PayoutState::Sending | PayoutState::Pending);
    let (id, amount) = (row.id.as_str(), row.amount.0);
    match &ended {
        PayoutEnd::Paid { receipt: Some(receipt) } if row.state == PayoutState::Refunded => {
            // What has left after all is nobody's payout any more.
            if row.sent > Millis::ZERO && row.receipt.is_none() && !is_known(door, Some(receipt))? {
                note_receipt(door, id, receipt)?;
                let lost = (row.kind.purse(), BookAccount::Suspense);
                book(door, &format!("{id}/paid"), lost, amount, id, wall)?;
            }
            return Ok(false);
        }
        PayoutEnd::Paid { receipt } => {
            // What was never sent cannot be paid.
            if !is_reserved || row.sent == Millis::ZERO || is_known(door, receipt.as_deref())? {
                return Ok(false);
            }
            step(door, row, PayoutState::Paid, "0", (now, wall))?;
            note_receipt(door, id, receipt.as_deref().unwrap_or_default())?;
            settle(door, id, row.cost, BookAccount::Trading, wall)?;
            let paid = (row.kind.purse(), OWED);
            book(door, &format!("{id}/paid"), paid, amount, id, wall)?;
        }
        PayoutEnd::NotPaid { wallet, .. } if row.state != PayoutState::Awaiting || row.wallet != *wallet => {
            return Ok(false)
        }
        PayoutEnd::Failed(code) | PayoutEnd::NotPaid { code, .. } => {
            let to = match row.state {
                PayoutState::Awaiting => PayoutState::Failed,
                _ if is_reserved => PayoutState::Refunded,
                _ => return Ok(false),
            };
            step(door, row, to, code, (now, wall))?;
            give_back(door, id, wall)?;
            let withdrawn = (BookAccount::Trading, OWED);
            book(door, &format!("{id}/withdrawn"), withdrawn, amount, id, wall)?;
        }
    }
    door.execute("UPDATE payouts SET phone = '', bill = '' WHERE tenant = $1 AND id = $2", &[id.into()])?;
    end_job(door, PAYOUT_JOB, id)?;
    Ok(true)
}

fn note_receipt(door: &Door, id: &str, receipt: &str) -> Result<(), StoreError> {
    let values = [id.into(), receipt.into()];
    door.execute("UPDATE payouts SET receipt = $3 WHERE tenant = $1 AND id = $2", &values).map(drop)
}

fn add_token(door: &Door, id: &str, what: &str, hash: &str) -> Result<(), StoreError> {
    door.execute(
        "INSERT INTO payout_tokens (tenant, token_hash, payout, what) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
        &[hash.into(), id.into(), what.into()],
    )
    .map(drop)
}

/// Whether a receipt is of another payout already.
fn is_known(door: &Door, receipt: Option<&str>) -> Result<bool, StoreError> {
    let Some(receipt) = receipt.filter(|receipt| !receipt.is_empty()) else { return Ok(false) };
    let known = door.query("SELECT 1 FROM payouts WHERE tenant = $1 AND receipt = $2", &[receipt.into()])?;
    Ok(!known.is_empty())
}
