//! Who may pass. The kernel holds the gate (an nftables table and a routing rule per gated device); this room only
//! tells it which guests have paid and for how long. Sessions end in the kernel, daemon or no daemon.
//!
//! There is no way here to let every guest through.

mod chains;
mod changes;
mod closed;
mod count;
mod lock;
mod meter;
mod nft;
mod plan;
mod process;
mod quota;
#[cfg(test)]
pub mod recording;
mod ruleset;
pub mod visit;
mod snapshot;

#[cfg(test)]
pub(crate) use lock::fuzz_lock;
pub use nft::NftGate;
pub use plan::{GatedVenue, Plan, Station};
pub(super) use ruleset::ADDRESS_TIMEOUT;

use super::foreign::ForeignRule;
use crate::mac::MacAddr;
use crate::units::{Allotment, Millis};
use litemap::LiteMap;
use std::io;
use std::time::Duration;

/// The bit of the packet mark that paid packets carry; tested and set with itself as the mask.
pub const MARK: u32 = 0x0800_0000;

/// Bytes in a second, of each address of a slow guest, in both directions together.
pub const SLOW: u64 = 65_536;

/// A guest's right to pass, from now on for `remaining`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub mac: MacAddr,
    /// The name of the venue's section; it opens there only.
    pub venue: String,
    /// Zero closes. The kernel is given at most a year.
    pub remaining: Millis,
    /// Ends it earlier, when this many bytes have passed.
    pub quota: Option<Quota>,
    /// At [`SLOW`] only.
    pub is_slow: bool,
}

/// The bytes of one session, in both directions and of all addresses together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Tells this session from the guest's next.
    pub session: u64,
    pub allotment: Allotment,
    /// Counts only where the kernel does not count this session already.
    pub used: Allotment,
}

/// What guests by bytes have used: the session, and its bytes.
pub type Usage = LiteMap<Station, (u64, Allotment)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// The state of our table in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// As this gate loaded it.
    Intact,
    Missing,
    /// There, but not as this gate loaded it: a chain, rule, set or gated device was added, changed or lost.
    Foreign,
}

/// What the kernel really holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateReport {
    pub table: Table,
    /// Second locks that should be there and are not.
    pub missing_locks: Vec<(String, Family)>,
    /// The stations that may pass, and for how much longer; `None`: without end (trusted).
    pub paid: Vec<(Station, Option<Millis>)>,
    /// Who of them is counted.
    pub quotas: LiteMap<Station, Quota>,
    /// Gated devices that do not exist at the moment.
    pub absent_devices: Vec<String>,
    /// Devices with flow offload: what passes between them may skip the gate.
    pub offloaded_devices: Vec<String>,
    /// What other programs' rules do against the gate; as far as it can be read.
    pub foreign: Vec<ForeignRule>,
}

impl Lease {
    pub fn station(&self) -> Station {
        Station { mac: self.mac, venue: self.venue.clone() }
    }
}

impl GateReport {
    /// Whether every paid guest can pass and no unpaid one can.
    pub fn is_sound(&self) -> bool {
        self.table == Table::Intact && self.missing_locks.is_empty()
    }
}

/// Why the gate could not do what it was told. Except where said otherwise nothing was changed: each call
/// is one transaction.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("the program nft is not installed")]
    NftMissing,
    #[error("nft did not finish within {} s and was killed", .0.as_secs())]
    NftTimeout(Duration),
    /// With the first line of what nft said.
    #[error("nft refused: {0}")]
    Refused(String),
    #[error("nft could not be run: {0}")]
    NftFailed(#[source] io::Error),
    #[error("{what}: {source}")]
    Netlink { what: &'static str, source: io::Error },
    /// With the change of an element or quota in nft's words.
    #[error("the kernel refused \"{change}\": {source}")]
    Element { change: String, source: io::Error },
    #[error("not a device name: {0:?}")]
    DeviceName(String),
    #[error("the gate has not been loaded")]
    NotLoaded,
}

/// The gate. Calls block for milliseconds (seconds, when the machine is in trouble); they belong on a
/// thread of their own. All of them may be repeated.
pub trait Gate: Send {
    /// Brings the table and the second locks to `plan` and opens for `leases`; what was there before does not matter.
    /// Guests that are open already and not in `leases` stay open for what they have left. If it fails, the second
    /// locks are up as far as the kernel allowed.
    fn load(&mut self, plan: &Plan, leases: &[Lease]) -> Result<(), GateError>;

    /// Whom the kernel lets through now, at the places of `plan`. Needs no `load` before; a table that is not as this
    /// gate loads it says nothing.
    fn passing(&mut self, plan: &Plan) -> Result<Vec<Station>, GateError>;

    /// Sets what these guests have left, more or less than before, exact to some milliseconds. Trusted
    /// guests are left alone.
    fn open(&mut self, leases: &[Lease]) -> Result<(), GateError>;

    /// Ends these guests' passage now, both ways, and forgets their connections. Trusted guests are left alone.
    fn close(&mut self, stations: &[Station]) -> Result<(), GateError>;

    /// To be called every second or two: gives the way in to each paid guest's addresses the same end as the guest's
    /// session, so that an idle guest is still reached, and no guest is reached for longer. Answers what each guest
    /// with a quota has used so far.
    fn tend(&mut self) -> Result<Usage, GateError>;

    /// Looks at everything.
    fn inspect(&mut self) -> Result<GateReport, GateError>;

    /// Whether another program may have touched the gate since this one last looked or wrote. Cheap enough for every
    /// second; when true, `inspect` tells what is wrong.
    fn changed(&mut self) -> bool;
}
