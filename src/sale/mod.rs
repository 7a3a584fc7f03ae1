//! The sale: one engine for each way to pay, from the payment's journal to the open gate.

mod error;
mod event;
pub mod invoice;
mod price;
mod terms;
pub mod till;
pub mod token;

pub use error::{Fate, Limit, Retry, SaleError};
pub use event::SaleEvent;
pub use price::{price_list, Price, PriceError};
pub use terms::{Deal, Terms};
