//! A payout as it stands in the store: what it is, how it is paid for, and the state that it is in.

use super::door::{Door, DoorRow};
use super::keyfile::Secret;
use super::ledger::BookAccount;
use super::values::{kes, millis, seconds};
use super::StoreError;
use crate::units::{Kes, Millis, Msats, UnixSeconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayoutKind {
    /// To a phone.
    Sell,
    Airtime,
    Bill,
}

impl PayoutKind {
    const ALL: [PayoutKind; 3] = [PayoutKind::Sell, PayoutKind::Airtime, PayoutKind::Bill];

    pub fn as_str(self) -> &'static str {
        match self {
            PayoutKind::Sell => "sell",
            PayoutKind::Airtime => "airtime",
            PayoutKind::Bill => "bill",
        }
    }

    /// What it is paid from.
    pub(super) fn purse(self) -> BookAccount {
        match self {
            PayoutKind::Airtime => BookAccount::Airtime,
            PayoutKind::Sell | PayoutKind::Bill => BookAccount::MpesaB2c,
        }
    }
}

/// How what pays for it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaidBy {
    Balance,
    /// Ecash that is brought with the question.
    Token,
    /// An invoice.
    Lightning,
}

impl PaidBy {
    const ALL: [PaidBy; 3] = [PaidBy::Balance, PaidBy::Token, PaidBy::Lightning];

    pub fn as_str(self) -> &'static str {
        match self {
            PaidBy::Balance => "balance",
            PaidBy::Token => "token",
            PaidBy::Lightning => "lightning",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayoutState {
    /// What pays for it is not here yet.
    Awaiting,
    /// It is reserved; nothing has left this router.
    Created,
    /// The request is being sent, or was when this program ended, or its answer was lost.
    Sending,
    /// It was taken; its result comes.
    Pending,
    Paid,
    /// It came to nothing, and the account has its money back.
    Refunded,
    /// Nothing was ever taken for it.
    Failed,
}

impl PayoutState {
    const ALL: [PayoutState; 7] = [
        PayoutState::Awaiting,
        PayoutState::Created,
        PayoutState::Sending,
        PayoutState::Pending,
        PayoutState::Paid,
        PayoutState::Refunded,
        PayoutState::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            PayoutState::Awaiting => "awaiting",
            PayoutState::Created => "created",
            PayoutState::Sending => "sending",
            PayoutState::Pending => "pending",
            PayoutState::Paid => "paid",
            PayoutState::Refunded => "refunded",
            PayoutState::Failed => "failed",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, PayoutState::Paid | PayoutState::Refunded | PayoutState::Failed)
    }

    /// As an account is told.
    pub fn told(self) -> &'static str {
        match self {
            PayoutState::Paid | PayoutState::Refunded | PayoutState::Failed => self.as_str(),
            _ => PayoutState::Pending.as_str(),
        }
    }
}

/// What an account wants to have paid.
#[derive(Clone)]
pub struct NewPayout {
    pub id: String,
    pub account: String,
    pub kind: PayoutKind,
    pub via: PaidBy,
    pub amount: Kes,
    /// What it costs the account.
    pub cost: Msats,
    pub rate: u64,
    pub spread_bp: u64,
    /// The whole number; empty for a bill.
    pub phone: Secret,
    pub phone_hash: String,
    pub phone_tail: String,
    pub paybill: String,
    /// Whose bill it is, there.
    pub bill: String,
    /// What brings its money: a token's reference.
    pub wallet: String,
    /// Our id of it, wherever it is sent.
    pub originator: String,
    /// A hash of what makes this question and another one the same; empty: nothing does.
    pub asked: String,
    /// A hash of what is asked.
    pub question: String,
}

#[derive(Clone)]
pub struct PayoutRow {
    pub id: String,
    pub account: String,
    pub kind: PayoutKind,
    pub via: PaidBy,
    pub state: PayoutState,
    pub amount: Kes,
    pub cost: Msats,
    /// Until it is over.
    pub phone: Option<Secret>,
    pub phone_tail: String,
    pub paybill: String,
    pub bill: String,
    pub wallet: String,
    pub originator: String,
    pub conversation: String,
    pub receipt: Option<String>,
    pub code: String,
    pub is_lost: bool,
    /// Zero: never.
    pub sent: Millis,
    pub created: Millis,
    pub changed: Millis,
    pub at: UnixSeconds,
}

impl PayoutRow {
    /// Daraja has said that it takes too long.
    pub fn is_overdue(&self) -> bool {
        self.code == OVERDUE && !self.state.is_over()
    }
}

/// The code of a payout of which Daraja says that it takes too long.
pub(super) const OVERDUE: &str = "timeout";
pub(super) const COLUMNS: &str =
    "id, account, kind, via, state, kes, msat, phone, phone_tail, paybill, bill, wallet, \
                       originator, conversation, receipt, code, is_lost, sent_ms, created_ms, changed_ms, at";

pub(super) fn by_id(door: &Door, id: &str) -> Result<Option<PayoutRow>, StoreError> {
    let statement = format!("SELECT {COLUMNS} FROM payouts WHERE tenant = $1 AND id = $2");
    door.query(&statement, &[id.into()])?.first().map(row_of).transpose()
}

pub(super) fn row_of(row: &DoorRow) -> Result<PayoutRow, StoreError> {
    let (kind, via, state) = (row.text(2)?, row.text(3)?, row.text(4)?);
    let kind = PayoutKind::ALL.into_iter().find(|known| known.as_str() == kind);
    let via = PaidBy::ALL.into_iter().find(|known| known.as_str() == via);
    let state = PayoutState::ALL.into_iter().find(|known| known.as_str() == state);
    let phone = row.text(7)?;
    Ok(PayoutRow {
        id: row.text(0)?.to_owned(),
        account: row.text(1)?.to_owned(),
        kind: kind.ok_or_else(|| StoreError::unreadable("kind"))?,
        via: via.ok_or_else(|| StoreError::unreadable("via"))?,
        state: state.ok_or_else(|| StoreError::unreadable("state"))?,
        amount: kes(row.number(5)?)?,
        cost: Msats(row.count(6)?),
        phone: (!phone.is_empty()).then(|| Secret::new(phone.as_bytes().to_vec())),
        phone_tail: row.text(8)?.to_owned(),
        paybill: row.text(9)?.to_owned(),
        bill: row.text(10)?.to_owned(),
        wallet: row.text(11)?.to_owned(),
        originator: row.text(12)?.to_owned(),
        conversation: row.text(13)?.to_owned(),
        receipt: Some(row.text(14)?.to_owned()).filter(|receipt| !receipt.is_empty()),
        code: row.text(15)?.to_owned(),
        is_lost: row.number(16)? != 0,
        sent: millis(row.number(17)?),
        created: millis(row.number(18)?),
        changed: millis(row.number(19)?),
        at: seconds(row.number(20)?),
    })
}
