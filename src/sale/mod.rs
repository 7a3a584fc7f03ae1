//! The sale: one engine for each way to pay. An engine brings a payment to its end even if the caller stops waiting.
//!
//! # The life of a payment
//!
//! 1. **Terms.** [`Terms`] says whether access may be sold now (space in the store, the gate), for how much, and whether
//!    the buyer's address is the buyer's alone. All refusals happen here, while the money is still the
//!    guest's; the refusal is a [`SaleError`], which says what became of the money and what another try is good for.
//! 2. **Journal.** What is needed to finish is committed before money is asked for: a request with the counters
//!    of its outputs, an operation of the wallet, the reservation of a tap.
//! 3. **Take.** The mint is asked for the ecash, or the tap is used up. What was lost on the way is asked for again,
//!    unchanged, until there is an answer; the next start goes on from the journal.
//! 4. **Grant.** One commit turns the journal's row and the money into access, under the payment's
//!    [`Reference`](crate::store::Reference). A reference counts once, ever, for any caller.
//! 5. **Gate.** The commit gives an [`Admission`](crate::store::Admission); `Access::admit` opens the gate for it, and
//!    tries again where the machine refuses. The gate follows the store, never the other way round.
//! 6. **Events.** [`SaleEvent`]s tell what is committed. Protocols listen, and put it into their own words.
//!
//! Engines know no protocol. They may use each other: a foreign card pays an invoice of [`invoice`].
//!
//! # How to add a way to pay
//!
//! `src/README.md` has the recipe, file by file. In short: a form of `Reference` and a journal in `store/`; a room here that
//! asks [`Terms`], journals, takes, grants by [`Deal::grant`] and admits; its causes in [`SaleError`], each with code,
//! retry and fate; a field and a way in `shop.rs`; then its section, its path and its view. Neither another engine nor a
//! protocol changes.

pub mod balance;
mod code_value;
mod error;
mod event;
mod guesses;
pub mod invite;
pub mod invoice;
pub mod mpesa;
mod price;
mod terms;
pub mod till;
pub mod token;
pub mod voucher;

pub use code_value::{buys, price_of};
pub use error::{Fate, Limit, Retry, SaleError, TokenFault};
pub use event::SaleEvent;
pub use price::{price_list, Price, PriceError};
pub use terms::{Deal, Terms};
