//! UCI text -> typed `Config`: parse once, so that no other room has to check again. A file with an error gives no
//! configuration at all; every error of it is reported, with its line.
//!
//! Reads files and nothing else. Options that do not exist here are warned about and have no effect.

pub mod check;
mod fields;
pub mod garden;
pub mod netifd;
mod payments;
mod problem;
pub mod range;
pub mod reach;
mod read;
mod schema;
pub mod uci;
mod values;

pub use payments::{Admin, Card, LightningConfig, LightningKind};
pub use problem::{Problem, Severity};
pub use range::AddressRange;

use crate::mac::MacAddr;
use crate::set::SortedSet;
use crate::units::{Millis, Sats, Unit};
use crate::url::Url;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The address of a mint: two are the same mint exactly when they are equal.
pub type MintUrl = Url;

/// Where the configuration is, unless `-c` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/config/tollgate";
/// Where `control.sock` is, unless the configuration says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/var/run/tollgate";

/// Most that one purchase can be: ten years of milliseconds, or a million gigabytes.
const MAX_TIME: u64 = 315_360_000_000;
const MAX_BYTES: u64 = 1_000_000_000_000_000;
/// 21 million bitcoin.
const ALL_SATS: u64 = 2_100_000_000_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub main: Main,
    /// In the order of the file; no device is in two of them.
    pub venues: Vec<Venue>,
    /// In the order of the file; no two have the same URL.
    pub mints: Vec<MintConfig>,
    pub admin: Admin,
    /// None: no cards here.
    pub card: Option<Card>,
    pub lightning: LightningConfig,
}

/// `config tollgate 'main'`.
#[derive(Clone, Debug, PartialEq)]
pub struct Main {
    /// False: the daemon does not run, and there may be nothing to sell.
    pub enabled: bool,
    /// What must survive a power cut.
    pub state_dir: PathBuf,
    /// `control.sock`.
    pub run_dir: PathBuf,
    /// Portal and API for guests. The four ports differ from each other.
    pub port: u16,
    pub mint_proxy_port: u16,
    /// Where nft redirects port 80 to.
    pub redirect_port: u16,
    /// The operator's interface: a loopback, private or link-local address.
    pub admin_listen: SocketAddr,
    /// WebSockets per MAC address.
    pub guest_sockets: usize,
    /// TCP connections per MAC address.
    pub guest_connections: usize,
    pub log_level: log::LevelFilter,
    pub log_target: LogTarget,
    pub log_format: LogFormat,
    /// Certificates (PEM) that are trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long after an invoice's own expiry its payment is still looked for.
    pub invoice_grace: Millis,
    pub mint_proxy_auth: MintProxyAuth,
    /// What guests reach without paying; ascending, no two overlap or touch.
    pub garden: Vec<AddressRange>,
    /// Firewall zones or networks that lead to the internet; empty: those that do so now.
    pub uplinks: Vec<String>,
}

/// What a guest must show at the mint proxy besides its MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintProxyAuth {
    Nothing,
    /// Its session ticket, from the first payment on.
    Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Syslog,
    Stderr,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A guest network and what is sold there.
#[derive(Clone, Debug, PartialEq)]
pub struct Venue {
    /// The section's name.
    pub id: String,
    /// For people: 1 to 64 characters, no control characters.
    pub name: String,
    /// Gated interfaces, safe to print into nft. Empty until `network` is resolved.
    pub devices: Vec<String>,
    /// A `config interface` of `/etc/config/network` that names the device; see [`netifd`].
    pub network: Option<String>,
    pub metric: Metric,
    /// One step, in the metric's unit; at least 1. Of bytes not from 1024 to 1048575.
    pub step_size: u64,
    /// Most steps of one purchase, at least 1; `step_size` times this does not overflow.
    pub max_steps: u64,
    /// Online without paying.
    pub trusted_macs: SortedSet<MacAddr>,
    /// What its paid, trusted and granted guests reach besides the internet; ascending, no two overlap or touch.
    pub reach: Vec<AddressRange>,
    /// Where its guests' internet is, in place of [`Main::uplinks`]; empty: as there.
    pub uplinks: Vec<String>,
    /// How long a guest may use a little of the internet while its invoice is open; zero: not at all.
    pub pay_grace: Millis,
    /// The portal's host name here, which the router's name service resolves; lower case.
    pub portal_name: Option<String>,
}

/// What is sold, and the unit that it is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    Milliseconds,
    /// Sent and received together, with their IP headers.
    Bytes,
}

/// A mint whose money is taken, and its price.
#[derive(Clone, Debug, PartialEq)]
pub struct MintConfig {
    pub url: MintUrl,
    pub unit: Unit,
    /// At least 1; times any of its venues' `max_steps` it does not overflow.
    pub price_per_step: Sats,
    /// Fewest steps of one purchase: from 1 to `max_steps` of each of its venues.
    pub min_steps: u64,
    pub allow_http: bool,
    /// Ids of the venues it sells in; empty: all.
    pub venues: Vec<String>,
}

impl Config {
    /// The configuration and its warnings, or all that is wrong, in the order of the lines.
    pub fn from_uci(text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        match uci::parse(text.as_bytes()) {
            Ok(file) => read::config(&file),
            Err(errors) => Err(errors.into_iter().map(Problem::from).collect()),
        }
    }

    /// As [`Config::from_uci`], from a regular file of at most [`uci::MAX_BYTES`].
    pub fn load(path: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        let bytes = read_file(path).map_err(|error| {
            vec![Problem::of_file(format!("cannot be read ({error}): check the path and its permissions"))]
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Config::from_uci(text),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = good.iter().filter(|&&b| b == b'\n').count().saturating_add(1);
                let message = "this line is not UTF-8: save the file in that encoding";
                Err(vec![Problem { line: Some(line), ..Problem::of_file(message) }])
            }
        }
    }

    /// The zones or networks that lead this venue's guests to the internet; empty: not said.
    pub fn uplinks_of<'a>(&'a self, venue: &'a Venue) -> &'a [String] {
        match venue.uplinks.is_empty() {
            true => &self.main.uplinks,
            false => &venue.uplinks,
        }
    }

    /// The venue with this id.
    pub fn venue(&self, id: &str) -> Option<&Venue> {
        self.venues.iter().find(|venue| venue.id == id)
    }

    pub fn venue_of_device(&self, device: &str) -> Option<&Venue> {
        self.venues.iter().find(|venue| venue.devices.iter().any(|own| own == device))
    }

    /// The mints that sell in a venue, in the order of the file.
    pub fn mints_of<'a>(&'a self, venue: &'a Venue) -> impl Iterator<Item = &'a MintConfig> + 'a {
        self.mints.iter().filter(|mint| mint.sells_in(&venue.id))
    }

    /// The mint with this URL, if it sells in the venue.
    pub fn mint_for(&self, venue: &Venue, url: &MintUrl) -> Option<&MintConfig> {
        self.mints.iter().find(|mint| mint.url == *url && mint.sells_in(&venue.id))
    }
}

impl Main {
    /// The ports of our listeners.
    fn ports(&self) -> [u16; 4] {
        [self.port, self.mint_proxy_port, self.redirect_port, self.admin_listen.port()]
    }
}

impl MintConfig {
    /// Whether it sells in the venue with this id.
    pub fn sells_in(&self, venue: &str) -> bool {
        self.venues.is_empty() || self.venues.iter().any(|own| own == venue)
    }
}

impl Metric {
    pub fn parse(text: &str) -> Option<Metric> {
        [Metric::Milliseconds, Metric::Bytes].into_iter().find(|metric| metric.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Milliseconds => "milliseconds",
            Metric::Bytes => "bytes",
        }
    }
}

/// The `run_dir` that a file names, also where the file has other faults; else [`DEFAULT_RUN_DIR`].
/// So that `status` finds a daemon which still runs with an older state of the file.
pub fn run_dir_of(path: &Path) -> PathBuf {
    let file = read_file(path).ok().and_then(|bytes| uci::parse(&bytes).ok()).unwrap_or_default();
    read::run_dir(&file).unwrap_or_else(|| PathBuf::from(DEFAULT_RUN_DIR))
}

/// A file that only its owner may read becomes root's, where root does this: the daemon is root without the right to
/// read what belongs to others. Whether it did.
pub fn give_to_root(path: &Path) -> std::io::Result<bool> {
    let about = std::fs::metadata(path)?;
    if !nix::unistd::geteuid().is_root() || about.uid() == 0 || about.mode() & 0o004 != 0 {
        return Ok(false);
    }
    std::os::unix::fs::chown(path, Some(0), None).map(|()| true)
}

/// Never blocks on a pipe and never reads more than one byte above the limit.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let limit = u64::try_from(uci::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
