//! `config airtime`: who sells airtime to the operator, by Africa's Talking's interface. Refused: a key that anybody on the way
//! could read.

use super::fiat;
use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::AIRTIME;
use super::uci::Section;
use super::values::{self, Parsed};
use crate::units::Kes;
use crate::url::Url;
use std::path::PathBuf;

/// What Africa's Talking sells at once (KES).
const AMOUNTS: std::ops::RangeInclusive<u64> = 5..=10_000;
const LONGEST_NAME: usize = 64;
const LONGEST_PATH: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub struct AirtimeConfig {
    pub base_url: Url,
    pub username: String,
    pub key_file: PathBuf,
    pub min: Kes,
    pub max: Kes,
    /// Where it is asked what became of airtime that was sent.
    pub status_path: String,
}

pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<Option<AirtimeConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(AIRTIME, Some(section), problems);
    let base_url = fields.one("base_url", fiat::service_url);
    let allow_http = fields.one("allow_http", values::boolean);
    let username = fields.one("username", username);
    let key_file = fields.one("key_file", values::plain_path);
    let amount = |text: &str| values::number(text, AMOUNTS).map(Kes);
    let (min, max) = (fields.one("min", amount), fields.one("max", amount));
    let status_path = fields.one("status_path", path);
    if let (Some(url), Some(allowed)) = (&base_url, allow_http) {
        if let Err(message) = fiat::plain_http(url, allowed) {
            fields.error("base_url", message);
        }
    }
    let (min, max) = (min?, max?);
    if min > max {
        fields.error("min", "is above max: no amount lies between them");
    }
    let (base_url, username, key_file) = (base_url?, username?, key_file?);
    Some(Some(AirtimeConfig { base_url, username, key_file, min, max, status_path: status_path? }))
}

fn username(text: &str) -> Parsed<String> {
    let good = (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{} is no user name: write the one at Africa's Talking", shown(text)))
}

fn path(text: &str) -> Parsed<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.".contains(&b);
    let good = text.starts_with('/') && text.len() <= LONGEST_PATH && text.bytes().all(is_plain);
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{} is no path: write it like '/query/transaction/find'", shown(text)))
}
