//! What other programs may ask of the shop, and how much at a time: `hmac_key`, `webhook`, `product`, `limit`, `approval`.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::{APPROVAL, HMAC_KEY, LIMIT, PRODUCT, WEBHOOK};
use super::uci::Section;
use super::values::{self, Parsed};
use super::{operator_name, ALL_SATS};
use std::path::PathBuf;
use std::str::FromStr;

/// Sections of one type that are read.
pub(super) const MOST: usize = 64;
const LONGEST_ID: usize = 64;
/// A year, a petabyte: as much as the operator grants at once.
const LONGEST_SECS: u64 = 366 * 86_400;
const LARGEST: u64 = 1_000_000_000_000_000;
/// Vouchers of one product.
const MOST_SUPPLY: u64 = 1_000_000_000;
/// Operators whose votes one request can need.
const MOST_VOTES: u64 = 16;

/// `config hmac_key`: what a service signs its requests with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacKeyConfig {
    pub id: String,
    pub secret_file: PathBuf,
    /// Whose requests they are; without it the router's own.
    pub tenant: Option<String>,
}

/// `config webhook`: what a shop signs its notices with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    pub secret_file: PathBuf,
    pub tenant: Option<String>,
}

/// `config product`: what an `eventId` sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductConfig {
    pub id: String,
    pub name: String,
    /// The section of its venue.
    pub venue: String,
    pub worth: ProductWorth,
    pub funding: Funding,
    /// Vouchers that are made of it in all; 0: no limit.
    pub max_supply: u64,
    pub tenant: Option<String>,
}

/// What one voucher of a product is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProductWorth {
    Seconds(u64),
    Bytes(u64),
    Sats(u64),
}

/// What stands behind a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Funding {
    /// The operator's own promise: cash at the counter, perhaps.
    Promise,
    /// Ecash that was split off the router's takings.
    Treasury,
    /// Ecash that a reseller's invoice paid for.
    Invoice,
}

impl Funding {
    pub const ALL: [Funding; 3] = [Funding::Promise, Funding::Treasury, Funding::Invoice];

    pub fn as_str(self) -> &'static str {
        match self {
            Funding::Promise => "none",
            Funding::Treasury => "treasury",
            Funding::Invoice => "invoice",
        }
    }
}

impl FromStr for Funding {
    type Err = ();

    fn from_str(text: &str) -> Result<Funding, ()> {
        Funding::ALL.into_iter().find(|funding| funding.as_str() == text).ok_or(())
    }
}

/// `config limit`: how much may be made, in sat of face value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// Whose; without it everybody's together.
    pub operator: Option<String>,
    pub tx: Option<u64>,
    pub hour: Option<u64>,
    pub day: Option<u64>,
}

/// `config approval`: what others have to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalConfig {
    /// Requests of more than this, in sat.
    pub above: u64,
    /// How many others.
    pub required: u64,
}

pub(super) fn hmac_key(section: &Section, problems: &mut Problems) -> Option<HmacKeyConfig> {
    let mut fields = Fields::new(HMAC_KEY, Some(section), problems);
    let (id, secret_file) = (fields.one("id", plain_id), fields.one("secret_file", values::plain_path));
    let tenant = fields.optional("tenant", plain_id);
    Some(HmacKeyConfig { id: id?, secret_file: secret_file?, tenant: tenant? })
}

pub(super) fn webhook(section: &Section, problems: &mut Problems) -> Option<WebhookConfig> {
    let mut fields = Fields::new(WEBHOOK, Some(section), problems);
    let secret_file = fields.one("secret_file", values::plain_path);
    let tenant = fields.optional("tenant", plain_id);
    Some(WebhookConfig { secret_file: secret_file?, tenant: tenant? })
}

pub(super) fn product(section: &Section, problems: &mut Problems) -> Option<ProductConfig> {
    let mut fields = Fields::new(PRODUCT, Some(section), problems);
    let id = fields.one("id", plain_id);
    let name = fields.optional("name", values::venue_name);
    let venue = fields.one("venue", |text| Ok(text.to_owned()));
    let worths = [
        fields.optional("time", seconds)?.map(ProductWorth::Seconds),
        fields.optional("bytes", bytes)?.map(ProductWorth::Bytes),
        fields.optional("sat", sats)?.map(ProductWorth::Sats),
    ];
    let mut worths = worths.into_iter().flatten();
    let worth = match (worths.next(), worths.next()) {
        (Some(worth), None) => Some(worth),
        (None, _) => {
            fields.error("time", "is missing: say what a voucher is worth by time, bytes or sat");
            None
        }
        (Some(_), Some(_)) => {
            fields.error("time", "stands beside another worth: keep one of time, bytes and sat");
            None
        }
    };
    let funding = fields.one("funding", |text| {
        let known = text.parse();
        known.map_err(|()| format!("{} is no funding: use none, treasury or invoice", shown(text)))
    });
    let max_supply = fields.one("max_supply", |text| values::number(text, 0..=MOST_SUPPLY));
    let tenant = fields.optional("tenant", plain_id);
    let id = id?;
    Some(ProductConfig {
        name: name?.unwrap_or_else(|| id.clone()),
        id,
        venue: venue?,
        worth: worth?,
        funding: funding?,
        max_supply: max_supply?,
        tenant: tenant?,
    })
}

pub(super) fn limit(section: &Section, problems: &mut Problems) -> Option<LimitConfig> {
    let mut fields = Fields::new(LIMIT, Some(section), problems);
    let [tx, hour, day] = ["tx", "hour", "day"].map(|name| fields.optional(name, limit_sats));
    let operator = fields.optional("operator", |text| match text {
        // The bearers of the files are limited, too.
        "token" | "shell" => Ok(text.to_owned()),
        name => operator_name(name),
    });
    Some(LimitConfig { operator: operator?, tx: tx?, hour: hour?, day: day? })
}

pub(super) fn approval(section: Option<&Section>, problems: &mut Problems) -> Option<Option<ApprovalConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(APPROVAL, Some(section), problems);
    let above = fields.one("above", |text| values::number(text, 0..=ALL_SATS));
    let required = fields.one("required", |text| values::number(text, 1..=MOST_VOTES));
    Some(Some(ApprovalConfig { above: above?, required: required? }))
}

/// A name that is safe in a header, a path and a line.
fn plain_id(text: &str) -> Parsed<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@');
    match (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("{} is no name: write 1 to {LONGEST_ID} letters, digits or . _ - : @", shown(text)))
        }
    }
}

fn limit_sats(text: &str) -> Parsed<u64> {
    values::number(text, 0..=ALL_SATS)
}

fn sats(text: &str) -> Parsed<u64> {
    values::number(text, 1..=ALL_SATS)
}

/// `3600`, or `90s`, `30m`, `1h`, `1d`, `1w`.
fn seconds(text: &str) -> Parsed<u64> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    scaled(text, &units, LONGEST_SECS)
        .ok_or_else(|| format!("{} is no time of at most a year: write it like '1h' or '30m'", shown(text)))
}

/// `5000000`, or `500kB`, `500MB`, `2GB`.
fn bytes(text: &str) -> Parsed<u64> {
    let units = [("kB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
    scaled(text, &units, LARGEST)
        .ok_or_else(|| format!("{} is no amount of data: write it like '500MB' or '2GB'", shown(text)))
}

/// A whole number and a unit; without one it counts single ones.
fn scaled(text: &str, units: &[(&str, u64)], most: u64) -> Option<u64> {
    let named = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = named.unwrap_or((text, 1));
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: Option<u64> = number.parse().ok().filter(|_| is_number);
    number?.checked_mul(size).filter(|worth| (1..=most).contains(worth))
}
