//! Paying Lightning invoices: one trait, one file per backend.
//!
//! A payment has three ends here: paid, proven failed, unknown. A backend says `Failed` only where it is
//! certain that the money neither left nor is on its way; everything else (an error it does not know, a cut
//! or unreadable answer, a time-out, "already paid", "in flight") is `Unknown` and is looked up by payment
//! hash until it is one of the other two. Nothing is ever paid a second time because the first answer was lost.
//!
//! The caller (the card room) commits the payment before it calls `pay`, and calls it once per payment.

mod account;
mod backends;
mod call;
mod cln;
mod lnbits;
mod lnd;
mod melt;
mod phoenixd;
mod proof;
mod sphinx;
pub mod trial;

pub use account::AccountError;
pub use melt::Melt;
pub use sphinx::{BotsInvite, Sphinx};

pub use crate::config::LightningKind as Kind;
pub use backends::{Backend, Backends, Opener};

use crate::store::Secret;
use crate::units::Msats;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// A call to a backend. It may be dropped at any time; what it has begun is then looked up.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that can pay an invoice.
pub trait Lightning: Send + Sync {
    /// Pays an invoice whose amount, network, signature and expiry have been checked. Ends by itself within
    /// 60 s. `Outcome::Absent` is no answer to this.
    fn pay<'a>(&'a self, order: &'a PaymentOrder) -> Call<'a, BackendAnswer>;

    /// What became of a payment; asked again and again until it is `Paid` or `Failed`. Ends by itself within
    /// 12 s.
    fn lookup<'a>(&'a self, payment: &'a PaymentRef) -> Call<'a, BackendAnswer>;

    /// Whether the backend answers, may pay, and may look up. Moves no money.
    fn test(&self) -> Call<'_, Report>;
}

/// An invoice to be paid.
#[derive(Clone)]
pub struct PaymentOrder {
    /// BOLT 11 text, lower case.
    pub invoice: String,
    pub payment_hash: [u8; 32],
    pub amount: Msats,
    /// Most that may be spent on fees, where the backend can be told.
    pub fee_limit: Msats,
}

/// How a payment is found again.
#[derive(Clone)]
pub struct PaymentRef {
    /// BOLT 11 text, lower case.
    pub invoice: String,
    pub payment_hash: [u8; 32],
    /// What the backend itself called the payment, if it did so in an earlier answer.
    pub reference: Option<String>,
}

/// What a backend has to say about a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendAnswer {
    pub outcome: Outcome,
    /// The backend's own name for the payment, where it is needed to look it up: kept with the payment.
    pub reference: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The payee has the money. The caller checks the preimage; `None` if the backend does not tell it.
    Paid { preimage: Option<[u8; 32]>, fee: Option<Msats> },
    /// Proven: nothing left, and nothing is on its way. The text is for the operator.
    Failed(String),
    /// Proven: the backend never took the payment on. Only to `pay`; another backend may be given it.
    Refused(String),
    /// The backend answers that it knows no such payment. Proof only once the invoice cannot be paid any more.
    Absent,
    /// Anything else. The text is for the operator.
    Unknown(String),
}

/// What was tried, and what is wrong with it if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub answers: Option<String>,
    pub may_pay: Option<String>,
    pub may_look_up: Option<String>,
    /// What the operator should know of this backend: no fee limit, ...
    pub notes: Vec<String>,
}

/// The backend that a payment was given to: kept with it, so that it is looked up there even if the configuration
/// changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub kind: Kind,
    /// Empty for the router's own ecash.
    pub url: String,
    /// SHA-256 of the certificate's DER.
    pub pin: Option<[u8; 32]>,
    /// Macaroon, rune, key, password or token; empty for the router's own ecash.
    pub secret: Secret,
}

impl BackendAnswer {
    pub fn paid(preimage: Option<[u8; 32]>, fee: Option<Msats>) -> BackendAnswer {
        BackendAnswer::from(Outcome::Paid { preimage, fee })
    }

    pub fn failed(why: impl Into<String>) -> BackendAnswer {
        BackendAnswer::from(Outcome::Failed(why.into()))
    }

    pub fn refused(why: impl Into<String>) -> BackendAnswer {
        BackendAnswer::from(Outcome::Refused(why.into()))
    }

    pub fn unknown(why: impl Into<String>) -> BackendAnswer {
        BackendAnswer::from(Outcome::Unknown(why.into()))
    }
}

impl From<Outcome> for BackendAnswer {
    fn from(outcome: Outcome) -> BackendAnswer {
        BackendAnswer { outcome, reference: None }
    }
}

impl fmt::Debug for Outcome {
    /// Without the preimage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Paid { fee, .. } => write!(f, "Paid(fee {fee:?})"),
            Outcome::Failed(why) => write!(f, "Failed({why})"),
            Outcome::Refused(why) => write!(f, "Refused({why})"),
            Outcome::Absent => f.write_str("Absent"),
            Outcome::Unknown(why) => write!(f, "Unknown({why})"),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({} {})", self.kind.as_str(), self.url)
    }
}

#[cfg(test)]
pub mod tests {
    pub mod scripted;
}
