//! What an operator's command does at the gate without being the daemon: take it away, look at it, try
//! whether this kernel could hold it.

use super::{lock, process, Family, GateError, MARK};
use crate::network::foreign::{self, ForeignRule};
use crate::network::nftables::{Nftables, TABLE};
use crate::set::SortedSet;
use std::ffi::OsString;
use std::io;

/// Takes both locks away, of every device: our table and our routing rules. One that cannot be taken away
/// does not keep the other; repeating it is no error. A living daemon would put them back.
pub fn release() -> Result<(), GateError> {
    let table = process::run(&nft(), &format!("add table inet {TABLE}\ndelete table inet {TABLE}\n"));
    // A kernel that has no such tables takes nothing of the kind.
    let _ = process::run(&nft(), &format!("add table netdev {TABLE}\ndelete table netdev {TABLE}\n"));
    lock::ensure(&[]).map_err(|source| netlink("the routing locks cannot be taken away", source))?;
    table
}

/// The second locks of these devices that are not there.
pub fn missing_locks(devices: &[String]) -> Result<Vec<(String, Family)>, GateError> {
    lock::missing(devices).map_err(|source| netlink("the routing locks cannot be read", source))
}

/// Whether our table is there.
pub fn has_table() -> Result<bool, GateError> {
    let chains = Nftables::open().and_then(|mut nft| nft.chains());
    Ok(!chains.map_err(|source| netlink("the table cannot be read", source))?.is_empty())
}

/// The devices of every flowtable: what passes between them may skip the gate.
pub fn offloaded_devices() -> Result<SortedSet<String>, GateError> {
    let found = Nftables::open().and_then(|mut nft| nft.offloaded_devices());
    found.map_err(|source| netlink("the flowtables cannot be read", source))
}

/// What other programs' rules do against the gate with packets from these devices.
pub fn foreign_rules(devices: &[String]) -> Result<Vec<ForeignRule>, GateError> {
    foreign::rules(devices, MARK).map_err(|source| netlink("the firewall's rules cannot be read", source))
}

/// Whether nft and the kernel would take this script. Nothing is changed.
pub fn would_take(script: &str) -> Result<(), GateError> {
    process::try_only(&nft(), script)
}

fn nft() -> OsString {
    "nft".into()
}

fn netlink(what: &'static str, source: io::Error) -> GateError {
    GateError::Netlink { what, source }
}
