//! `config rate`: how many shillings a bitcoin is, for what is bought and sold in both. Without this section there is no
//! rate.

use super::fiat;
use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::RATE;
use super::uci::Section;
use super::values::{self, Parsed};
use crate::units::Millis;
use crate::url::Url;

/// Shillings that a bitcoin may be.
const RATES: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;
const LONGEST_POINTER: usize = 200;
/// A basis point is a hundredth of a percent.
pub const BASIS_POINTS: u64 = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub struct RateConfig {
    pub source: RateSource,
    /// An older value is not used.
    pub max_age: Millis,
    /// How far a value may be from the last one, in hundredths of a percent.
    pub max_jump_bp: u64,
    /// Whole shillings for a bitcoin.
    pub min: u64,
    pub max: u64,
    /// What customers pay more than the rate, and get less, in hundredths of a percent.
    pub spread_buy_bp: u64,
    pub spread_sell_bp: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RateSource {
    /// Whole shillings for a bitcoin.
    Fixed(u64),
    /// Where a JSON document has it.
    Feed { url: Url, path: String, pointer: String },
}

pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<Option<RateConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(RATE, Some(section), problems);
    let rate = |text: &str| values::number(text, RATES);
    let is_feed = fields.one("source", |text| match text {
        "fixed" => Ok(false),
        "feed" => Ok(true),
        _ => Err(format!("{} is no source: use fixed or feed", shown(text))),
    });
    let fixed = fields.optional("kes_per_btc", rate);
    let url = fields.optional("url", feed_url);
    let pointer = fields.optional("pointer", pointer);
    let allow_http = fields.one("allow_http", values::boolean);
    let max_age = fields.one("max_age", |text| values::number(text, 1..=86_400).map(Millis::from_secs));
    let max_jump_bp = fields.one("max_jump_bp", |text| values::number(text, 1..=BASIS_POINTS));
    let min = fields.one("min", rate);
    let max = fields.one("max", rate);
    let spread = |text: &str| values::number(text, 0..=BASIS_POINTS / 2);
    let spread_buy_bp = fields.one("spread_buy_bp", spread);
    let spread_sell_bp = fields.one("spread_sell_bp", spread);
    let (min, max) = (min?, max?);
    if min > max {
        fields.error("min", "is above max: no rate lies between them");
    }
    let is_feed = is_feed?;
    let (fixed, url, pointer, allow_http) = (fixed?, url?, pointer?, allow_http?);
    let source = if is_feed {
        if url.is_none() {
            fields.error("url", "is missing: a feed is asked there");
        }
        if pointer.is_none() {
            fields.error(
                "pointer",
                "is missing: it says where in the answer the rate stands, like '/data/rates/KES'",
            );
        }
        let (url, path) = url?;
        fiat::plain_http(&url, allow_http).map_err(|message| fields.error("url", message)).ok()?;
        RateSource::Feed { url, path, pointer: pointer? }
    } else {
        let fixed = match fixed {
            Some(fixed) => fixed,
            None => {
                fields.error("kes_per_btc", "is missing: nobody else says what a bitcoin is");
                return None;
            }
        };
        if fixed < min || fixed > max {
            fields.error("kes_per_btc", "is not between min and max");
        }
        RateSource::Fixed(fixed)
    };
    Some(Some(RateConfig {
        source,
        max_age: max_age?,
        max_jump_bp: max_jump_bp?,
        min,
        max,
        spread_buy_bp: spread_buy_bp?,
        spread_sell_bp: spread_sell_bp?,
    }))
}

/// Its origin and, apart, path and query: feeds take their question there.
fn feed_url(text: &str) -> Parsed<(Url, String)> {
    let wrong = || "is no address: write it like 'https://feed.example.net/v1/btc?currency=KES'".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let origin = Url::parse(&format!("{scheme}://{authority}")).map_err(|_| wrong())?;
    let is_plain = path.len() <= LONGEST_POINTER && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match is_plain {
        true if path.starts_with('/') => Ok((origin, path.to_owned())),
        true => Ok((origin, format!("/{path}"))),
        false => Err(wrong()),
    }
}

/// RFC 6901.
fn pointer(text: &str) -> Parsed<String> {
    let good = text.starts_with('/') && text.len() <= LONGEST_POINTER && !text.contains(char::is_control);
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{} is no JSON pointer: write it like '/data/rates/KES'", shown(text)))
}
