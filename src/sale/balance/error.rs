//! Why a balance is not changed. Nothing has left it, unless its reservation says so.

use crate::ecash::wallet::{Refusal, WalletError};
use crate::store::StoreError;
use crate::units::{Msats, Sats};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalanceError {
    #[error("the balance is {} sat, and that is too little for the amount and its fee", .0.0 / 1000)]
    TooLittle(Msats),
    #[error("that is more than may be spent in a day; nothing was sent")]
    DayLimit,
    #[error("this is no invoice that can be paid: {0}")]
    BadInvoice(&'static str),
    #[error("this invoice is another payment's")]
    InvoiceTaken,
    #[error("the amount is not possible")]
    BadAmount,
    #[error("memo is at most {0} bytes of text")]
    BadMemo(usize),
    #[error("the same key, or payment_id, came with something else before")]
    OtherQuestion,
    #[error("the token was taken by somebody already")]
    TokenTaken,
    #[error("the token is not taken: {0}")]
    Token(Refusal),
    /// It is found out, and credited then.
    #[error(
        "the mint has not said yet whether it took the token; it is being found out, do not send another one"
    )]
    TokenUnclear,
    #[error("too many invoices wait for their payment; try again when some of them are over")]
    TooMany,
    #[error("no mint is configured here")]
    NoMint,
    #[error("the mint wants a fee of {0} sat, which is too much; nothing was sent")]
    FeeTooHigh(Sats),
    #[error("this router has not enough ecash of its own for that now")]
    FloatTooSmall,
    /// Other payments hold the ecash, or the mint does not answer.
    #[error("not possible now, nothing was sent: {0}")]
    NotNow(String),
    #[error("nothing works here now ({0})")]
    Closed(&'static str),
}

impl BalanceError {
    pub fn code(&self) -> &'static str {
        match self {
            BalanceError::TooLittle(_) => "insufficient_balance",
            BalanceError::DayLimit => "day_limit",
            BalanceError::BadInvoice(_) => "bad_invoice",
            BalanceError::InvoiceTaken => "invoice_taken",
            BalanceError::BadAmount => "bad_amount",
            BalanceError::BadMemo(_) => "invalid_input",
            BalanceError::OtherQuestion => "idempotency_key_reused",
            BalanceError::TokenTaken => "token_spent",
            BalanceError::Token(_) => "bad_token",
            BalanceError::TokenUnclear => "token_unclear",
            BalanceError::TooMany => "too_many",
            BalanceError::NoMint => "no_mint",
            BalanceError::FeeTooHigh(_) => "fee_too_high",
            BalanceError::FloatTooSmall => "float_too_small",
            BalanceError::NotNow(_) => "try_again",
            BalanceError::Closed(_) => "unavailable",
        }
    }
}

impl From<StoreError> for BalanceError {
    fn from(error: StoreError) -> BalanceError {
        log::error!("balances: {error}");
        BalanceError::Closed(error.code())
    }
}

impl From<Refusal> for BalanceError {
    fn from(refusal: Refusal) -> BalanceError {
        match refusal {
            Refusal::Closed(code) => BalanceError::Closed(code),
            // The token is as good as before.
            Refusal::MintAway
            | Refusal::MintBusy
            | Refusal::BeingSpent
            | Refusal::TermsChanged
            | Refusal::Later(_)
            | Refusal::TooMany => BalanceError::NotNow(refusal.to_string()),
            refusal => BalanceError::Token(refusal),
        }
    }
}

impl From<WalletError> for BalanceError {
    fn from(error: WalletError) -> BalanceError {
        match error {
            WalletError::FeeTooHigh(fee) => BalanceError::FeeTooHigh(fee),
            WalletError::Store(code) => BalanceError::Closed(code),
            WalletError::Refused(Refusal::TooMany) => BalanceError::TooMany,
            other => BalanceError::NotNow(other.to_string()),
        }
    }
}
