//! The router around the daemon: making a guest network when asked, taking it back, and saying what is
//! wrong with the router.
//!
//! Changes are `uci` commands with argument vectors, shown before they are made; no shell, and no section
//! that is not marked as ours is ever changed. What other programs own is only read.

pub mod answers;
mod changes;
mod command;
mod dhcp;
pub mod firewall;
mod fw4;
mod guest;
mod mint;
mod missing;
mod names;
mod place;
mod plan;
#[cfg(feature = "grpc")]
mod programs;
mod questions;
mod release;
mod subnets;
pub mod system;
mod uci;
pub mod uplinks;
mod ways;
pub mod wiring;

pub use command::run;
pub use missing::missing;
#[cfg(feature = "grpc")]
pub use programs::unfit_for_programs;
pub use release::release;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The command line or an answer cannot be used.
    #[error("{0}")]
    Usage(String),
    #[error("the program uci is not here: this is no OpenWrt, or PATH is not set")]
    NoUci,
    #[error("uci {0}: {1}")]
    Uci(String, String),
    #[error("{0} has changes that were not committed: 'uci commit {0}' or 'uci revert {0}' first")]
    Uncommitted(String),
    #[error("{0}.{1} is there already and was not made by tollgated: rename it first")]
    NotOurs(String, String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
