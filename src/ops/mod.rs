//! Running it: the log.

pub mod log;
