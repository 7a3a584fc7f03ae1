//! Bolt Cards: register, tap, callback.

mod chip;
