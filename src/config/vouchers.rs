//! `config voucher`: how long codes live and what is taken offline; `config product`: what a shop's ids mean.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::{PRODUCT, VOUCHER};
use super::uci::Section;
use super::{services, values, Funding, Tenant};
use crate::units::{Allotment, Millis, Sats};
use crate::url::Url;
use std::path::PathBuf;

/// Sections `product` that are read.
pub(super) const MOST_PRODUCTS: usize = 256;
/// Of one product.
const MOST_MADE: u64 = 1_000_000_000;

/// `config voucher`; everything has a default.
#[derive(Clone, Debug, PartialEq)]
pub struct VoucherConfig {
    /// How long a code can be redeemed where its order does not say.
    pub code_life: Millis,
    /// What one locked token may be worth that is taken while its mint cannot be asked; zero: none is.
    pub offline_max: Sats,
    /// The same of all that are not swapped yet.
    pub offline_total: Sats,
    /// Where to report what became of vouchers that name no address of their own.
    pub notify_url: Option<Url>,
    /// Signs what is told.
    pub notify_secret_file: Option<PathBuf>,
    /// Whether it may be told over plain http.
    pub allow_http: bool,
}

/// `config product`: what an `eventId` sells.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductConfig {
    pub id: String,
    pub name: String,
    /// The id of its venue.
    pub venue: String,
    pub sells: ProductWorth,
    pub funding: Funding,
    /// The most vouchers that are ever made of it; zero: no limit.
    pub max_supply: u64,
    /// Whose venue it is.
    pub tenant: Tenant,
    /// As the file says it.
    pub(super) named_tenant: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProductWorth {
    Time(Millis),
    Data(Allotment),
    Money(Sats),
}

pub(super) fn read(section: Option<&Section>, problems: &mut Problems) -> Option<VoucherConfig> {
    let mut fields = Fields::new(VOUCHER, section, problems);
    let code_life = fields.one("code_life", values::life);
    let offline_max = fields.one("offline_max", values::sats_or_none);
    let offline_total = fields.one("offline_total", values::sats_or_none);
    let allow_http = fields.one("allow_http", values::boolean);
    let notify_url = fields.optional("notify_url", values::mint_url);
    let notify_secret_file = fields.optional("notify_secret_file", values::plain_path);
    if let (Some(Some(url)), Some(false)) = (&notify_url, allow_http) {
        if !url.is_https() {
            let message = "is plain http://, which anybody on the way can read: use https://, or add option allow_http '1'";
            fields.error("notify_url", message);
        }
    }
    if matches!((&notify_url, &notify_secret_file), (Some(Some(_)), Some(None))) {
        fields
            .error("notify_secret_file", "is missing: name the file with the secret that signs what is told");
    }
    Some(VoucherConfig {
        code_life: code_life?,
        offline_max: offline_max?,
        offline_total: offline_total?,
        notify_url: notify_url?,
        notify_secret_file: notify_secret_file?,
        allow_http: allow_http?,
    })
}

pub(super) fn product(section: &Section, problems: &mut Problems) -> Option<ProductConfig> {
    let mut fields = Fields::new(PRODUCT, Some(section), problems);
    let id = fields.one("id", services::plain_id);
    let name = fields.optional("name", values::venue_name);
    let venue = fields.one("venue", |text| Ok(text.to_owned()));
    let time = fields.optional("time", values::life);
    let data = fields.optional("bytes", values::data);
    let money = fields.optional("sat", values::sats);
    let funding = fields.one("funding", funding);
    let max_supply = fields.one("max_supply", |text| values::number(text, 0..=MOST_MADE));
    let tenant = fields.optional("tenant", |text| Ok(text.to_owned()));
    let sells = match (time?, data?, money?) {
        (Some(time), None, None) => Some(ProductWorth::Time(time)),
        (None, Some(data), None) => Some(ProductWorth::Data(data)),
        (None, None, Some(money)) => Some(ProductWorth::Money(money)),
        _ => {
            fields.error("time", "is what it sells, or bytes, or sat: write exactly one of the three");
            None
        }
    };
    Some(ProductConfig {
        id: id?,
        name: name?.unwrap_or_else(|| section.name.clone()),
        venue: venue?,
        sells: sells?,
        funding: funding?,
        max_supply: max_supply?,
        tenant: Tenant::main(),
        named_tenant: tenant?,
    })
}

fn funding(text: &str) -> Result<Funding, String> {
    text.parse().map_err(|()| format!("{} is no funding: use 'none', 'treasury' or 'invoice'", shown(text)))
}
