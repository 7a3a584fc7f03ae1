//! Running it: the log, and what the process may do.

pub mod log;
pub mod privileges;
