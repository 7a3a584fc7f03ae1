//! Sections of mints: `config mint`.

use super::fields::Fields;
use super::problem::Problems;
use super::schema::MINT;
use super::uci::Section;
use super::{values, MintUrl, MAX_VENUES};
use crate::units::{Sats, Unit};

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

impl MintConfig {
    /// Whether it sells in the venue with this id.
    pub fn sells_in(&self, venue: &str) -> bool {
        self.venues.is_empty() || self.venues.iter().any(|own| own == venue)
    }
}

pub(super) fn read(section: &Section, problems: &mut Problems) -> Option<MintConfig> {
    let mut fields = Fields::new(MINT, Some(section), problems);
    let url = fields.one("url", values::mint_url);
    let unit = fields.one("unit", values::unit);
    let price_per_step = fields.one("price_per_step", values::sats);
    let min_steps = fields.one("min_steps", values::min_steps);
    let allow_http = fields.one("allow_http", values::boolean);
    if let (Some(url), Some(false)) = (&url, allow_http) {
        if !url.is_https() {
            fields.error("url", "is plain http://, which anybody on the way can change: use https://, or add option allow_http '1'");
        }
    }
    let venues = fields.many("venue", MAX_VENUES, |text| Ok(text.to_owned()));
    Some(MintConfig {
        url: url?,
        unit: unit?,
        price_per_step: price_per_step?,
        min_steps: min_steps?,
        allow_http: allow_http?,
        venues: venues?,
    })
}
