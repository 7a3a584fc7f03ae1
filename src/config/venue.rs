//! Sections of guest networks: `config venue 'guest'`.

use super::fields::Fields;
use super::main::MAX_UPLINKS;
use super::problem::{shown, ConfigPosition, Problems};
use super::schema::VENUE;
use super::uci::Section;
use super::values::Parsed;
use super::{range, reach, values, AddressRange};
use crate::mac::MacAddr;
use crate::set::SortedSet;
use crate::units::Millis;
use crate::uuid::Uuid;

const MAX_DEVICES: usize = 16;
const MAX_TRUSTED: usize = 1024;
const MAX_REACH: usize = 32;
/// A step of fewer bytes is most likely meant in another unit.
const LEAST_LIKELY: u64 = 1024;
/// Most that one purchase can be: ten years of milliseconds, or a million gigabytes.
const MAX_TIME: u64 = 315_360_000_000;
const MAX_BYTES: u64 = 1_000_000_000_000_000;

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
    /// One step, in the metric's unit; at least 1.
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
    /// What others know it by; `None`: by an id made of the router's identity and the section's name.
    pub own_uuid: Option<Uuid>,
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

pub(super) fn read(section: &Section, problems: &mut Problems) -> Option<Venue> {
    if section.anonymous {
        let message = "this venue has no name that stays: write a name behind it, like config venue 'guest'";
        problems.warn(ConfigPosition::section(section), message);
    }
    let mut fields = Fields::new(VENUE, Some(section), problems);
    let name = fields.optional("name", values::venue_name);
    let devices = fields.many("device", MAX_DEVICES, values::device);
    let network = fields.optional("network", values::network);
    match (fields.is_set("device"), fields.is_set("network")) {
        (true, true) => fields.error("network", "stands beside 'device': keep one of the two"),
        (false, false) => {
            fields.error("device", "is missing: add the guests' interface, like list device 'br-guest'");
        }
        _ => {}
    }
    let metric = fields.one("metric", metric);
    let step_size = fields.one("step_size", step_size);
    let max_steps = fields.one("max_steps", values::max_steps);
    if let (Some(metric), Some(size)) = (metric, step_size) {
        match metric {
            Metric::Milliseconds if size < 1000 => {
                fields.warn("step_size", "is less than a second: it is in milliseconds, a minute is 60000");
            }
            Metric::Bytes if size < LEAST_LIKELY => {
                fields.warn("step_size", "is less than a kilobyte: it is in bytes, 10 MB are 10000000");
            }
            _ => {}
        }
    }
    if let (Some(metric), Some(size), Some(steps)) = (metric, step_size, max_steps) {
        let (most, name) = match metric {
            Metric::Milliseconds => (MAX_TIME, "ten years"),
            Metric::Bytes => (MAX_BYTES, "a million gigabytes"),
        };
        if size.checked_mul(steps).is_none_or(|allotment| allotment > most) {
            let message = format!("times step_size is more than {name}: lower one of the two");
            fields.error("max_steps", message);
        }
    }
    let trusted_macs = fields.many("trusted_mac", MAX_TRUSTED, values::mac);
    let pay_grace = fields.one("pay_grace", values::pay_grace);
    let own_uuid = fields.optional("id", values::uuid);
    let portal_name = fields.optional("portal_name", values::host_name);
    let reach = fields.many("reach", MAX_REACH, reach::parse);
    let uplinks = fields.many("uplink", MAX_UPLINKS, values::uplink);
    Some(Venue {
        id: section.name.clone(),
        name: name?.unwrap_or_else(|| section.name.clone()),
        devices: devices?,
        network: network?,
        metric: metric?,
        step_size: step_size?,
        max_steps: max_steps?,
        trusted_macs: trusted_macs?.into_iter().collect(),
        reach: range::merged(reach?),
        uplinks: uplinks?,
        pay_grace: pay_grace?,
        own_uuid: own_uuid?,
        portal_name: portal_name?,
    })
}

fn metric(text: &str) -> Parsed<Metric> {
    Metric::parse(text).ok_or_else(|| format!("{} is no metric: use 'milliseconds' or 'bytes'", shown(text)))
}

fn step_size(text: &str) -> Parsed<u64> {
    values::number(text, 1..=MAX_BYTES)
}
