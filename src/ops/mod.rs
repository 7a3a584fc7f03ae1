//! Running it: the log, the control socket behind the operator's commands, and what `status` tells.

mod cards;
pub mod control;
mod lightning;
pub mod log;
pub mod people;
mod place;
mod status;
pub mod terminal;
mod wallet;

pub use status::status;
