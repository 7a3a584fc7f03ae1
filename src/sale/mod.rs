//! The sale: one engine for each way to pay, from the payment's journal to the open gate.

mod event;
pub mod invoice;
pub mod till;

pub use event::SaleEvent;
