//! Why nothing is sold: one error for all engines, with what a caller can act on.
//!
//! Prints as one sentence for the guest. Protocols that have words of their own look at the cause.

use super::price::PriceError;
use crate::ecash::wallet::Refusal;
use crate::ecash::TokenError;
use crate::store::StoreError;
use crate::units::{Millis, Sats};

/// Why a sale did not come about, or has not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaleError {
    /// Nothing can be sold: the store, its space or what the kernel counts (`STORE_FULL`, `FLOW_OFFLOAD`, ...).
    #[error("{}; please tell the operator", closed_because(.0))]
    Closed(&'static str),
    #[error("this router cannot open the way to the internet at the moment; nothing was taken")]
    GateDown,
    /// Another device uses the caller's address.
    #[error("two devices use your network address; turn Wi-Fi off and on again, nothing was taken")]
    Clash,
    /// A fault of this program.
    #[error("please try again")]
    Internal,
    #[error("this mint is not accepted here")]
    MintNotAccepted,
    #[error("how much?")]
    NoAmount,
    /// Nothing is sold for `offered`, which is what is left after the mint's `fee`.
    #[error("{error}")]
    Price { offered: Sats, fee: Sats, error: PriceError },
    #[error("all parts together are above the largest purchase")]
    TooMuchTogether,
    #[error("{0}")]
    TooMany(Limit),

    #[error("the mint does not issue this amount")]
    NotIssued,
    #[error("the mint is busy; nothing was taken, try again in a minute")]
    MintBusy,
    #[error("the mint cannot be reached; nothing was taken, try again")]
    MintAway,
    #[error("the mint has not answered yet; nothing was taken, ask again in a moment")]
    MintSilent,
    /// Of this guest: another's is as unknown as one that never was.
    #[error("no such request")]
    NoSuchRequest,
    #[error("no such part")]
    NoSuchPart,

    /// The token is still the guest's, unless it was spent before.
    #[error("{0}")]
    Token(Refusal),
    /// The mint was asked for the token and has not answered. The wallet finds it out by itself.
    #[error(
        "the mint has not said yet whether it took the token; it is being found out, do not send another one"
    )]
    TokenUnclear,
    #[error("this token is being received at this moment; do not send another one")]
    TokenInFlight,
    /// Taken; access opens by itself.
    #[error("your payment was received, and access will open by itself; do not pay again")]
    GrantPending,

    #[error("this is no card's link; it begins with lnurlw://, https:// or LNURL1")]
    NoLink,
    #[error("this card belongs to an onion service, which cannot be reached from here")]
    Onion,
    #[error("this tap was used by another device; tap the card again")]
    LinkUsed,
    #[error("the card's bank cannot be reached, or its answer cannot be used; nothing was taken")]
    IssuerAway,
    #[error("the card pays from {least} to {most} sat")]
    CardAmount { least: Sats, most: Sats },
    #[error("the card's bank says: {0}")]
    CardSays(String),
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    #[error("too many questions; please wait a minute")]
    Questions,
    #[error("too many requests; please wait a minute")]
    Requests,
    #[error("three invoices are waiting to be paid already; pay one of them, or wait")]
    Unpaid,
    /// Of all guests together.
    #[error("too many invoices are open on this router; please wait a little")]
    Invoices,
    #[error("too many cards at once; wait a moment, then tap again")]
    Cards,
}

/// What the same payment once more is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would be refused again.
    Useless,
    /// It may work later.
    Later,
    /// It may work after this time.
    After(Millis),
    /// It is safe and not needed: the sale comes to its end by itself.
    Needless,
}

/// What is wrong with a token, as far as its payer can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It is no token, or only a part of one.
    Unreadable,
    Spent,
    OtherUnit,
    /// To somebody else.
    Locked,
    /// Not looked at; after this time it will be.
    TooSoon(Millis),
    /// The mint, or this router, cannot take it now.
    NotNow,
    /// Anything else: it will never be taken.
    Refused,
}

/// What became of the payer's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    NotTaken,
    /// It is being found out, or only another party knows.
    Unclear,
    Taken,
}

impl SaleError {
    /// For programs; never changes.
    pub fn code(&self) -> &'static str {
        match self {
            SaleError::Closed(code) => code,
            SaleError::GateDown | SaleError::Clash | SaleError::Internal => "internal_error",
            SaleError::MintNotAccepted => "invalid_mint",
            SaleError::NoAmount
            | SaleError::Price { .. }
            | SaleError::TooMuchTogether
            | SaleError::NotIssued => "invalid_message",
            SaleError::TooMany(_) => "rate_limited",
            SaleError::MintBusy | SaleError::MintAway | SaleError::MintSilent => "mint_unavailable",
            SaleError::NoSuchRequest | SaleError::NoSuchPart => "request_not_found",
            SaleError::Token(_) => "token_refused",
            SaleError::TokenUnclear => "token_unclear",
            SaleError::TokenInFlight => "token_in_flight",
            SaleError::GrantPending => "grant_pending",
            SaleError::NoLink => "invalid_link",
            SaleError::Onion => "onion_unreachable",
            SaleError::LinkUsed => "link_used",
            SaleError::IssuerAway => "issuer_unreachable",
            SaleError::CardAmount { .. } => "amount_refused",
            SaleError::CardSays(_) => "card_refused",
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            SaleError::Token(Refusal::Later(wait)) => Retry::After(*wait),
            SaleError::Token(refusal) if !refusal.may_pass() => Retry::Useless,
            SaleError::MintNotAccepted
            | SaleError::NoAmount
            | SaleError::Price { .. }
            | SaleError::TooMuchTogether
            | SaleError::NotIssued
            | SaleError::NoSuchRequest
            | SaleError::NoSuchPart
            | SaleError::NoLink
            | SaleError::Onion
            | SaleError::LinkUsed
            | SaleError::CardAmount { .. } => Retry::Useless,
            SaleError::TokenUnclear | SaleError::TokenInFlight | SaleError::GrantPending => Retry::Needless,
            SaleError::Closed(_)
            | SaleError::GateDown
            | SaleError::Clash
            | SaleError::Internal
            | SaleError::TooMany(_)
            | SaleError::MintBusy
            | SaleError::MintAway
            | SaleError::MintSilent
            | SaleError::Token(_)
            | SaleError::IssuerAway
            | SaleError::CardSays(_) => Retry::Later,
        }
    }

    /// What is wrong with the token; `None` where the cause is another one.
    pub fn token_fault(&self) -> Option<TokenFault> {
        let SaleError::Token(refusal) = self else { return None };
        Some(match refusal {
            Refusal::Token(TokenError::NotAToken | TokenError::Damaged | TokenError::Empty) => {
                TokenFault::Unreadable
            }
            Refusal::Spent => TokenFault::Spent,
            Refusal::Unit => TokenFault::OtherUnit,
            Refusal::Locked | Refusal::OtherVenue | Refusal::LockOver => TokenFault::Locked,
            Refusal::Later(wait) => TokenFault::TooSoon(*wait),
            refusal if refusal.may_pass() => TokenFault::NotNow,
            _ => TokenFault::Refused,
        })
    }

    /// Why access cannot be given at the moment, as the operator's list of codes names it (`openwrt/README.md`).
    pub fn closed_code(&self) -> Option<&'static str> {
        match self {
            SaleError::Closed(code) => Some(code),
            SaleError::GateDown => Some("GATE_DOWN"),
            _ => None,
        }
    }

    pub fn money(&self) -> Fate {
        match self {
            SaleError::GrantPending => Fate::Taken,
            SaleError::TokenUnclear | SaleError::TokenInFlight | SaleError::CardSays(_) => Fate::Unclear,
            _ => Fate::NotTaken,
        }
    }
}

impl SaleError {
    /// A price that was refused for what a mint leaves of a token.
    pub(super) fn after_fee(self, fee: Sats) -> SaleError {
        match self {
            SaleError::Price { offered, error, .. } => SaleError::Price { offered, fee, error },
            other => other,
        }
    }
}

impl From<Refusal> for SaleError {
    fn from(refusal: Refusal) -> SaleError {
        match refusal {
            Refusal::MintNotAccepted => SaleError::MintNotAccepted,
            refusal => SaleError::Token(refusal),
        }
    }
}

impl From<TokenError> for SaleError {
    fn from(error: TokenError) -> SaleError {
        SaleError::Token(error.into())
    }
}

/// Before anything was taken.
impl From<StoreError> for SaleError {
    fn from(error: StoreError) -> SaleError {
        SaleError::Closed(error.code())
    }
}

fn closed_because(code: &str) -> &'static str {
    match code {
        "STORE_FULL" => "this router has no space left to sell",
        "SEALED" => "this router waits for its keys",
        "FLOW_OFFLOAD" => "this router cannot count bytes at the moment",
        _ => "this router cannot sell at the moment",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_says_what_its_payer_can_do() {
        for (refusal, fault) in [
            (TokenError::NotAToken.into(), Some(TokenFault::Unreadable)),
            (TokenError::Damaged.into(), Some(TokenFault::Unreadable)),
            (TokenError::TooLarge.into(), Some(TokenFault::Refused)),
            (Refusal::Spent, Some(TokenFault::Spent)),
            (Refusal::Unit, Some(TokenFault::OtherUnit)),
            (Refusal::Locked, Some(TokenFault::Locked)),
            (Refusal::Later(Millis(5)), Some(TokenFault::TooSoon(Millis(5)))),
            (Refusal::MintAway, Some(TokenFault::NotNow)),
            (Refusal::Forged, Some(TokenFault::Refused)),
            (Refusal::MintNotAccepted, None),
        ] {
            assert_eq!(SaleError::from(refusal.clone()).token_fault(), fault, "{refusal}");
        }
    }

    #[test]
    fn what_may_have_been_paid_is_never_refused_for_good() {
        let price = PriceError::BelowMinimum(Sats(2));
        for (error, retry, money) in [
            (SaleError::Closed("STORE_FULL"), Retry::Later, Fate::NotTaken),
            (SaleError::Clash, Retry::Later, Fate::NotTaken),
            (
                SaleError::Price { offered: Sats(1), fee: Sats(0), error: price },
                Retry::Useless,
                Fate::NotTaken,
            ),
            (Refusal::Spent.into(), Retry::Useless, Fate::NotTaken),
            (Refusal::MintAway.into(), Retry::Later, Fate::NotTaken),
            (Refusal::Later(Millis(5)).into(), Retry::After(Millis(5)), Fate::NotTaken),
            (SaleError::TokenUnclear, Retry::Needless, Fate::Unclear),
            (SaleError::GrantPending, Retry::Needless, Fate::Taken),
            (SaleError::CardSays("no".to_owned()), Retry::Later, Fate::Unclear),
        ] {
            assert_eq!((error.retry(), error.money()), (retry, money), "{error}");
        }
    }
}
