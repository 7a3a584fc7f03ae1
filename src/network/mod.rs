//! The router: who is calling, who may pass.

pub mod conntrack;
pub mod devices;
pub mod foreign;
pub mod gate;
pub mod internet;
pub mod neighbours;
mod netlink;
mod nftables;
pub mod routes;
pub mod witness;
