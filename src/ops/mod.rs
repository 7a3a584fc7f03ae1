//! Running it: the log, the control socket behind the operator's commands, and what `status` tells.

pub mod control;
pub mod log;
mod status;
mod wallet;

pub use status::status;
