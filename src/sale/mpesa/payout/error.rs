//! Why nothing is paid out: each cause with its code and one sentence. Nothing was taken then.

use crate::fiat::RateStale;
use crate::sale::balance::BalanceError;
use crate::store::StoreError;
use crate::units::{Kes, Millis};

#[derive(Debug, thiserror::Error)]
pub enum PayoutError {
    #[error("this is switched off here")]
    SwitchedOff,
    #[error("this is not a Kenyan mobile number; write it like 0712 345 678")]
    BadPhone,
    #[error("an amount is a whole number from {0} to {1} KES")]
    BadAmount(Kes, Kes),
    #[error("the provider is safaricom, airtel or telkom")]
    BadProvider,
    #[error("a paybill is 5 to 7 digits, its account 1 to 13 letters, digits, spaces, '-' or '/'")]
    BadBill,
    #[error("the router's clock is not set yet; nothing was taken, try again in a minute")]
    ClockNotSet,
    #[error("{0}; nothing was taken")]
    RateStale(String),
    #[error("there is not enough money here to pay that out; nothing was taken")]
    FloatTooSmall,
    #[error("payouts are stopped here until the operator has looked after them; nothing was taken")]
    Paused,
    #[error("more than is paid out here within a day; nothing was taken")]
    DayLimit,
    #[error("too many payouts are under way; please wait")]
    Crowded(Millis),
    #[error("this Idempotency-Key was used for something else")]
    OtherQuestion,
    #[error("{0}")]
    Balance(BalanceError),
    #[error("{0}")]
    Store(StoreError),
}

impl PayoutError {
    pub fn code(&self) -> &'static str {
        match self {
            PayoutError::SwitchedOff => "switched_off",
            PayoutError::BadPhone => "bad_phone",
            PayoutError::BadAmount(..) => "bad_amount",
            PayoutError::BadProvider => "bad_provider",
            PayoutError::BadBill => "bad_bill",
            PayoutError::ClockNotSet => "clock_not_set",
            PayoutError::RateStale(_) => "rate_stale",
            PayoutError::FloatTooSmall => "float_too_small",
            PayoutError::Paused => "payouts_paused",
            PayoutError::DayLimit => "day_limit",
            PayoutError::Crowded(_) => "too_many",
            PayoutError::OtherQuestion => "idempotency_key_reused",
            PayoutError::Balance(error) => error.code(),
            PayoutError::Store(error) => error.code(),
        }
    }
}

impl From<StoreError> for PayoutError {
    fn from(error: StoreError) -> PayoutError {
        PayoutError::Store(error)
    }
}

impl From<RateStale> for PayoutError {
    fn from(stale: RateStale) -> PayoutError {
        PayoutError::RateStale(stale.to_string())
    }
}

impl From<BalanceError> for PayoutError {
    fn from(error: BalanceError) -> PayoutError {
        PayoutError::Balance(error)
    }
}
