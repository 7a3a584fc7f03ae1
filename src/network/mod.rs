//! The router: who is calling, who may pass.

pub mod devices;
pub mod neighbours;
mod netlink;
