//! Why nothing is sold for shillings: each cause with its code and one sentence.

use crate::access::TicketError;
use crate::sale::SaleError;
use crate::store::StoreError;
use crate::units::Millis;

#[derive(Debug, thiserror::Error)]
pub enum MpesaError {
    #[error("this is not a Kenyan mobile number; write it like 0712 345 678")]
    BadPhone,
    #[error("this is not sold here")]
    BadPrice,
    #[error("the router's clock is not set yet; nothing was taken, try again in a minute")]
    ClockNotSet,
    #[error("you have another order open; finish it first, or wait until it is over")]
    OrderOpen,
    #[error("this Idempotency-Key was used for another order")]
    OtherQuestion,
    #[error("this phone was asked a moment ago; please wait a little, nothing was taken")]
    PhoneBusy(Millis),
    #[error("this phone has ordered as often as it may today")]
    PhoneLimit(Millis),
    #[error("too many tries; please wait")]
    TooMany(Millis),
    #[error("there is no such order")]
    NoSuchOrder,
    #[error("no payment with this receipt was made from this phone")]
    NoSuchPayment,
    #[error("this router has not enough ecash for that now; nothing was taken")]
    FloatTooSmall,
    #[error("as much as may be bought in a day is bought; nothing was taken")]
    DayLimit,
    #[error("there is no rate now; nothing was taken, try again later")]
    RateStale,
    #[error("the amount is a whole number of shillings from 1 to 250000")]
    BadAmount,
    #[error("nothing is sold for M-Pesa here")]
    SwitchedOff,
    #[error("{0}")]
    Move(TicketError),
    #[error("{0}")]
    Sale(SaleError),
}

impl MpesaError {
    pub fn code(&self) -> &'static str {
        match self {
            MpesaError::BadPhone => "bad_phone",
            MpesaError::BadPrice => "bad_price",
            MpesaError::ClockNotSet => "clock_not_set",
            MpesaError::OrderOpen => "order_open",
            MpesaError::OtherQuestion => "idempotency_conflict",
            MpesaError::PhoneBusy(_) => "phone_busy",
            MpesaError::PhoneLimit(_) => "phone_limit",
            MpesaError::TooMany(_) => "too_many",
            MpesaError::NoSuchOrder | MpesaError::NoSuchPayment => "not_found",
            MpesaError::FloatTooSmall => "float_too_small",
            MpesaError::DayLimit => "day_limit",
            MpesaError::RateStale => "rate_stale",
            MpesaError::BadAmount => "bad_amount",
            MpesaError::SwitchedOff => "switched_off",
            MpesaError::Move(TicketError::NothingLeft | TicketError::NothingPaid | TicketError::Wrong) => {
                "nothing_to_move"
            }
            MpesaError::Move(TicketError::TooLittle) => "too_little_left",
            MpesaError::Move(TicketError::TooMany(_)) => "too_many",
            MpesaError::Move(_) => "cannot_move",
            MpesaError::Sale(error) => error.code(),
        }
    }

    /// How long until it makes sense to try again.
    pub fn wait(&self) -> Option<Millis> {
        match self {
            MpesaError::PhoneBusy(wait) | MpesaError::PhoneLimit(wait) | MpesaError::TooMany(wait) => {
                Some(*wait)
            }
            MpesaError::Move(error) => error.wait(),
            _ => None,
        }
    }
}

impl From<StoreError> for MpesaError {
    fn from(error: StoreError) -> MpesaError {
        MpesaError::Sale(error.into())
    }
}

impl From<SaleError> for MpesaError {
    fn from(error: SaleError) -> MpesaError {
        MpesaError::Sale(error)
    }
}
