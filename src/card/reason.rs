//! Why a till does not get what it asked for.

use crate::bolt11::InvoiceError;

/// Prints as the `reason` of an LNURL answer (LUD-01).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Everything before a tap's MAC has been checked: unknown card, bad `p` or `c`, another chip, a counter that was
    /// there before. The answer does not say which.
    #[error("this card could not be read; please tap again")]
    Unreadable,
    #[error("there are no cards here")]
    NoCards,
    #[error("this card is disabled")]
    Disabled,
    #[error("this card may not pay anything")]
    NoLimit,
    /// A k1 that is unknown, used for another invoice, or too old.
    #[error("this tap is used or too old; please tap again")]
    Spent,
    /// Of `/new`: never made, used, too old, or of a card that was wiped.
    #[error("one time code was used or card was wiped or card does not exist")]
    NoCode,
    /// The code stays as it is.
    #[error("this link is for the Bolt Card app; it is not used up")]
    Browser,
    /// The chip has the keys of another card: no app could write it. The code stays as it is.
    #[error("this chip is card {0}: wipe it first")]
    ChipOf(i64),
    #[error("the UID must be 14 hex digits")]
    NoUid,
    #[error("k1 and pr are needed")]
    Incomplete,
    #[error("{0}")]
    Invoice(#[from] InvoiceError),
    #[error("the invoice is signed by nobody")]
    Unsigned,
    #[error("the invoice is for another network")]
    WrongNetwork,
    #[error("the invoice names no amount")]
    NoAmount,
    #[error("the invoice is for less than one satoshi")]
    TooSmall,
    #[error("the invoice has expired, or does within half a minute")]
    Expired,
    #[error("the invoice wants to hold the money for too long")]
    HeldTooLong,
    #[error("the invoice needs a feature that is not known here")]
    UnknownFeature,
    #[error("another tap has this invoice already")]
    InvoiceUsed,
    #[error("the amount is above the card's limit for one payment")]
    OverTapLimit,
    #[error("the amount is above what the card may still spend today")]
    OverDayLimit,
    #[error("the payment failed")]
    PaymentFailed,
    #[error("cards cannot pay at the moment")]
    NotNow,
}
