//! What paying does not open: addresses that are nowhere on the internet, and the networks of the router's own
//! devices but those that lead there.

use super::Plan;
use crate::config::{garden, range, AddressRange};
use crate::network::devices;
use std::io;

/// The ranges of `closed4` and `closed6` as things are now, neither overlapping nor touching. While no uplink is
/// known, every network that the router is in is closed.
pub(super) fn ranges(plan: &Plan) -> io::Result<Vec<AddressRange>> {
    let mut ranges = garden::not_public();
    let networks = devices::networks_beside(&plan.uplinks)?;
    ranges
        .extend(networks.into_iter().filter_map(|(address, length)| AddressRange::network(address, length)));
    Ok(range::merged(ranges))
}
