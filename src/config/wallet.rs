//! `config wallet`: how much an account of the wallet API may spend, and above which amount its wallet must sign anew.

use super::fields::Fields;
use super::problem::Problems;
use super::schema::WALLET;
use super::uci::Section;
use super::values;
use crate::units::Sats;

/// `config wallet`; everything has a default.
#[derive(Clone, Debug, PartialEq)]
pub struct WalletConfig {
    /// Most that an account spends in a day.
    pub day_max: Sats,
    /// What is above this needs a signature of this minute.
    pub sign_above: Sats,
}

pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<WalletConfig> {
    let mut fields = Fields::new(WALLET, section, problems);
    let day_max = fields.one("day_max", values::sats_or_none);
    let sign_above = fields.one("sign_above", values::sats_or_none);
    Some(WalletConfig { day_max: day_max?, sign_above: sign_above? })
}
