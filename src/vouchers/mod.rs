//! Vouchers: codes that are worth time, bytes or satoshis at one venue, once; who made them, what backs them, and what became
//! of them. Refused: a state that cannot follow another, and a row of another tenant.
//!
//! It knows neither gate nor guest: what a code opens is `sale`'s. All statements are in the SQL of the narrow door
//! ([`crate::store::Door`]), so that other programs run them elsewhere.

pub mod approvals;
mod book;
mod code;
pub mod counts;
mod idempotency;
pub mod input;
pub mod jobs;
mod keys;
pub mod limits;
mod minting;
mod notify;
mod paid;
pub mod reconcile;
mod refusal;
pub mod rows;
pub mod sheet;
mod status;

pub use crate::config::Funding;
pub use book::{Added, NotAdded, VoucherBook, VOUCHERS};
pub use code::VoucherCode;
pub use idempotency::{
    begin_key, key_of, KeptAnswer, KeyMark, KeyPlace, KeyTurn, RunningKeys, RunningRequest, WorkRequest,
};
pub use keys::CodeKey;
pub use minting::{
    keep_answer, waits, MadeTicket, MintDesk, Order, OrderItem, OrderOutcome, OrderTerms, Shape, TicketFault,
    TicketResult,
};
pub use notify::{may_be_told, Notices};
pub use paid::PaidNotice;
pub use refusal::VoucherRefusal;
pub use rows::{Cause, NewBatch, NewTicket, VoucherRow, VoucherStep};
pub use status::TicketWatch;

use crate::uuid::Uuid;
use std::fmt;
use std::str::FromStr;

/// A voucher's own id, which a shop may choose (its `ticketId`).
pub type TicketId = Uuid;
/// What was ordered together.
pub type BatchId = Uuid;

/// How far a voucher has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoucherState {
    Queued,
    AwaitingPayment,
    Minting,
    /// It can be redeemed, until it expires.
    Ready,
    Redeemed,
    Failed,
    Expired,
    Revoked,
    Refunded,
}

impl VoucherState {
    pub const ALL: [VoucherState; 9] = [
        VoucherState::Queued,
        VoucherState::AwaitingPayment,
        VoucherState::Minting,
        VoucherState::Ready,
        VoucherState::Redeemed,
        VoucherState::Failed,
        VoucherState::Expired,
        VoucherState::Revoked,
        VoucherState::Refunded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            VoucherState::Queued => "queued",
            VoucherState::AwaitingPayment => "awaiting_payment",
            VoucherState::Minting => "minting",
            VoucherState::Ready => "ready",
            VoucherState::Redeemed => "redeemed",
            VoucherState::Failed => "failed",
            VoucherState::Expired => "expired",
            VoucherState::Revoked => "revoked",
            VoucherState::Refunded => "refunded",
        }
    }

    /// Whether it never becomes anything else by being used.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            VoucherState::Queued
                | VoucherState::AwaitingPayment
                | VoucherState::Minting
                | VoucherState::Ready
        )
    }
}

impl FromStr for VoucherState {
    type Err = ();

    fn from_str(text: &str) -> Result<VoucherState, ()> {
        VoucherState::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl fmt::Display for VoucherState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
