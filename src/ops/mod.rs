//! Running it: the log, the control socket behind the operator's commands, and what `status` tells.

pub mod control;
pub mod log;
pub mod people;
mod status;

pub use status::status;
