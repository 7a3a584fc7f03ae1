//! The router: identifies callers, and lets paid guests pass.

pub mod conntrack;
pub mod devices;
pub mod foreign;
pub mod gate;
pub mod internet;
pub mod leases;
pub mod neighbours;
pub(crate) mod netlink;
pub(crate) mod nftables;
pub mod routes;
pub mod witness;
