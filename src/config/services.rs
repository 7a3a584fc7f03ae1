//! What other programs may ask of the shop, and how much at a time: `hmac_key`, `webhook`, `limit`, `approval`.

use super::fields::Fields;
use super::operator_name;
use super::problem::{shown, Problems};
use super::schema::{APPROVAL, HMAC_KEY, LIMIT, WEBHOOK};
use super::uci::Section;
use super::values::{self, Parsed};
use crate::units::ALL_SATS;
use std::path::PathBuf;
use std::str::FromStr;

/// Sections of one type that are read.
pub(super) const MOST: usize = 64;
const LONGEST_ID: usize = 64;
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
    /// The operator it is for; without one, for all of them together.
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
    /// How many others have to agree.
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
pub(super) fn plain_id(text: &str) -> Parsed<String> {
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
