//! What can go wrong with a mint, by what the caller can do about it.

use super::keyset::KeysetError;
use super::seed::SeedError;
use crate::units::{Millis, Sats};

/// Why a call to a mint did not give what was asked for.
///
/// An error never proves that money is lost: where [`EcashError::outcome_unknown`] holds, read the quote
/// again and restore the outputs before anything else is decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EcashError {
    /// No connection (refused, no such host, TLS): the mint has not seen the request.
    #[error("the mint cannot be reached: {0}")]
    Unreachable(String),
    /// The connection was there but no whole answer came: timeout, cut, or a gateway's 5xx.
    #[error("the mint did not answer: {0}")]
    NoAnswer(String),
    /// It was sent a second time, as the connection of the first was closed without an answer. This was said to the
    /// second, perhaps because the first was carried out.
    #[error("sent twice, and then: {0}")]
    SentTwice(Box<EcashError>),
    /// 429. Nothing was done; ask again after a minute.
    #[error("the mint limits our requests")]
    RateLimited,
    /// We hold back, because the mint answered 429 on this path; no request was made.
    #[error("holding back for {} s, as the mint limits our requests", .0.as_secs_ceil())]
    BackingOff(Millis),
    /// Both of the mint's call slots are taken by calls that hang.
    #[error("too many calls to this mint are under way")]
    Busy,
    /// The mint wants a login (NUT-21, NUT-22), which is not supported.
    #[error("the mint needs a login")]
    LoginNeeded,
    /// The mint lacks something without which money could not be taken safely.
    #[error("the mint cannot be used: {0}")]
    Unsuitable(&'static str),
    /// The mint sells smaller or larger amounts only.
    #[error("the mint sells from {} to {} sat at once", .0.map_or(1, |min| min.0), .1.map_or("any number of".to_owned(), |max| max.to_string()))]
    AmountOutOfRange(Option<Sats>, Option<Sats>),
    #[error("the quote is not paid")]
    NotPaid,
    /// The mint works on this quote at the moment.
    #[error("the quote is being worked on")]
    QuotePending,
    /// The quote's ecash has been handed out: restore it.
    #[error("the quote has been issued already")]
    AlreadyIssued,
    #[error("the mint does not know the quote")]
    QuoteUnknown,
    #[error("the quote has expired")]
    QuoteExpired,
    /// Restore the outputs; where that gives nothing, their counters belong to something else: use others.
    #[error("the outputs have been signed already")]
    OutputsAlreadySigned,
    /// As `OutputsAlreadySigned`; some mints leave outputs in this state for good.
    #[error("the outputs are being worked on")]
    OutputsPending,
    /// The keyset was rotated away: make new outputs on the active one.
    #[error("the keyset is not active any more")]
    KeysetInactive,
    #[error("the mint refuses the quote's signature")]
    SignatureRefused,
    #[error("the ecash has been spent already")]
    TokenSpent,
    /// Another swap or melt of the same proofs is under way at the mint.
    #[error("the ecash is being spent at this moment")]
    TokenPending,
    /// The mint's fee is another one than we reckoned with: its terms have to be read again.
    #[error("the mint takes another fee than it said")]
    Unbalanced,
    /// The Lightning payment of a melt failed; the proofs are free again.
    #[error("the Lightning payment failed")]
    PaymentFailed,
    /// Any other refusal.
    #[error("the mint refuses{}: {detail}", .code.map(|code| format!(" (code {code})")).unwrap_or_default())]
    Mint { code: Option<i64>, detail: String },
    /// The answer cannot be read.
    #[error("the mint's answer cannot be read: {0}")]
    Malformed(&'static str),
    #[error("the mint's answer is not what was asked for: {0}")]
    Lied(#[from] Lie),
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The amount cannot be made from the keyset's keys.
    #[error("the mint has no keys for this amount")]
    AmountNotPossible,
}

impl EcashError {
    /// Whether the mint may have acted on the call, so that its outcome must be looked up.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            EcashError::NoAnswer(_)
                | EcashError::SentTwice(_)
                | EcashError::Malformed(_)
                | EcashError::Lied(_)
        )
    }

    /// What an answer to the second of two equal requests leaves open.
    pub(super) fn of_second(self) -> EcashError {
        match self.outcome_unknown() {
            true => self,
            false => EcashError::SentTwice(Box::new(self)),
        }
    }
}

/// An answer that contradicts the request, the mint's own keys, or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    #[error("another keyset than the one asked for")]
    OtherKeyset,
    #[error("another quote than the one asked for")]
    OtherQuote,
    #[error("the quote is over another amount or unit")]
    QuoteAmount,
    #[error("the quote is locked to another key")]
    OtherLock,
    #[error("the quote's request is not a Lightning invoice")]
    NoInvoice,
    #[error("the invoice is over another amount")]
    InvoiceAmount,
    #[error("more or fewer signatures than outputs")]
    SignatureCount,
    #[error("a signature for another keyset or amount")]
    SignatureTerms,
    #[error("a signature for an output that was not sent")]
    UnaskedOutput,
    #[error("a signature without its DLEQ proof")]
    NoDleq,
    #[error("a signature that is not made with the published key")]
    BadDleq,
    #[error("states of other proofs than the ones asked for")]
    OtherProofs,
}
