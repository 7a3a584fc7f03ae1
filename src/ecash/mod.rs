//! Cashu: tokens, keysets, blind signatures, the mint client.
//!
//! Our own client on small crates. Whatever a mint or a stranger's token says is bounded, parsed into types
//! that cannot be wrong, and checked against what was asked (keyset ids, DLEQ proofs, invoice amounts) before
//! any other room sees it. What a request needs to be repeated or restored - seed, keyset, counter, amounts -
//! is chosen by the caller, who makes it durable before the call.

mod client;
mod curve;
mod error;
mod keyset;
mod lock;
mod mint;
mod mints;
mod mnemonic;
mod outputs;
pub mod payment_request;
mod quote_lock;
mod refusal;
pub mod retry;
mod schedule;
mod seed;
mod subscribe;
pub mod token;
pub mod wallet;
mod wire;

use crate::hex;

pub use client::MintClient;
pub use curve::{Dleq, PublicKey, SecretKey};
pub use error::{EcashError, Lie};
pub use keyset::{Keyset, KeysetError, KeysetId, KeysetRef, KeysetTerms};
pub use lock::Lock;
pub use mint::{Mint, MintHealth, NewQuote, Urgency, GUEST_PATIENCE};
pub use mints::Mints;
pub use outputs::{BlindSignature, Outputs, Proof, ProofDleq};
pub use schedule::LookSchedule;
pub use seed::{ProofSecret, Seed, SeedError};
pub use subscribe::{MintEvent, QuoteWatch};
pub use token::{Token, TokenError, TokenProof};
pub use wire::spending::{MeltQuote, MeltState};
pub use wire::{AmountLimits, InvoiceText, KeysetInfo, MintInfo, MintQuote, ProofState, QuoteId, QuoteState};
#[cfg(test)]
pub(crate) use {refusal::fuzz_refusal, subscribe::fuzz_event, wire::fuzz_answers};

#[cfg(test)]
mod tests {
    pub mod fake_mint;
}
