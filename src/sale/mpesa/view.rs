//! An order as its guest sees it.

use crate::config::Metric;
use crate::store::{OrderRow, OrderState};
use crate::units::{Allotment, Kes, Millis, UnixSeconds};

#[derive(Clone, Debug)]
pub struct OrderView {
    pub id: String,
    pub state: OrderState,
    pub amount: Kes,
    pub phone_tail: String,
    pub fault: OrderFault,
    pub metric: Metric,
    pub allotment: Allotment,
    pub expires: UnixSeconds,
    /// How long ago it was opened.
    pub age: Millis,
}

/// Why an order is not paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderFault {
    None,
    Cancelled,
    WrongPin,
    NoFunds,
    /// The phone is off, or nobody has answered.
    Unreachable,
    /// A limit of the customer's account.
    Limit,
    /// The prompt could not be shown.
    NoPrompt,
    /// Something of the operator's is wrong, or M-Pesa cannot be reached.
    Service,
    /// Nothing came in time.
    Other,
}

impl OrderFault {
    /// Of Daraja's code, or one of our own.
    pub fn of(code: &str) -> OrderFault {
        match code {
            "" | "0" => OrderFault::None,
            "1032" => OrderFault::Cancelled,
            "2001" => OrderFault::WrongPin,
            "1" => OrderFault::NoFunds,
            "1037" | "1019" => OrderFault::Unreachable,
            "2" | "3" | "4" | "8" | "17" => OrderFault::Limit,
            "1025" | "9999" | "phone_busy" => OrderFault::NoPrompt,
            "timeout" | "dropped" | "amount" => OrderFault::Other,
            _ => OrderFault::Service,
        }
    }

    /// Whether a code is one that Daraja is known to say when a prompt has come to nothing.
    pub fn is_known(code: &str) -> bool {
        OrderFault::is_operators(code) || OrderFault::of(code) != OrderFault::Service
    }

    /// Whether no other prompt would fare better: the shortcode, its kind or the till is wrong, or the credential is locked.
    pub fn is_operators(code: &str) -> bool {
        matches!(code, "2028" | "SFC_IC0003" | "8006")
    }
}

impl OrderView {
    pub fn of(row: &OrderRow, life: Millis, now: Millis) -> OrderView {
        OrderView {
            id: row.id.clone(),
            state: row.state,
            amount: row.amount,
            phone_tail: row.phone_tail.clone(),
            fault: OrderFault::of(&row.code),
            metric: row.access.metric,
            allotment: row.access.allotment,
            expires: UnixSeconds(row.at.0.saturating_add(life.as_secs_ceil())),
            age: now.saturating_sub(row.created),
        }
    }

    /// For programs: sending is a matter of our own.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            OrderState::Sending => OrderState::Pending.as_str(),
            state => state.as_str(),
        }
    }

    /// One sentence.
    pub fn message(&self) -> &'static str {
        match (self.state, self.fault) {
            (OrderState::Created, _) => "the request is on its way to your phone",
            (OrderState::Sending | OrderState::Pending, _) => "enter your M-Pesa PIN on your phone",
            (OrderState::Unknown, _) => {
                "it is being found out whether your phone was asked; if it was and you paid, do not pay again"
            }
            (OrderState::Paid, _) => "paid; the internet opens by itself",
            (OrderState::Granted, _) => "paid; you are online",
            (OrderState::LatePaid, _) => "your late payment is here; it waits for you",
            (OrderState::RefundDue, _) => "another amount was paid than ordered; please tell the staff",
            (OrderState::Failed, OrderFault::Cancelled) => {
                "the request was cancelled on the phone; nothing was paid"
            }
            (OrderState::Failed, OrderFault::WrongPin) => "the PIN was wrong; nothing was paid",
            (OrderState::Failed, OrderFault::NoFunds) => "there is not enough money in this M-Pesa account",
            (OrderState::Failed, OrderFault::Unreachable) => {
                "the phone could not be reached, or nobody answered; if you paid, it opens by itself"
            }
            (OrderState::Failed, OrderFault::Limit) => {
                "M-Pesa refuses this payment by a limit of this account"
            }
            (OrderState::Failed, OrderFault::NoPrompt) => {
                "the request could not be shown on the phone; try again"
            }
            (OrderState::Failed, OrderFault::Service) => "M-Pesa cannot be used here now; nothing was taken",
            (OrderState::Failed, _) => "no payment has come; if you paid, it opens by itself",
        }
    }
}
