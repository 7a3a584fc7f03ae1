//! What is sold for shillings: `config mpesa`, how Daraja is reached; `config price`, what a time or an amount of data costs;
//! `config fiat`, what else may be done with the money. Refused: what Daraja would refuse later, when a guest waits.

use super::fields::Fields;
use super::problem::{shown, Problems};
use super::schema::{FIAT, MPESA, PRICE};
use super::uci::Section;
use super::values::{self, is_local, Parsed};
use super::MAX_VENUES;
use crate::units::Kes;
use crate::url::Url;
use std::net::IpAddr;
use std::path::PathBuf;

/// Most that one payment may be (KES).
pub const MOST_KES: u64 = 250_000;
const MAX_NAME: usize = 40;
/// Of a URL, in any case of letters: Daraja refuses them.
const FORBIDDEN: [&str; 7] = ["mpesa", "safaricom", "exe", "exec", "cmd", "sql", "query"];
/// Room for a slash, a token and what Daraja takes.
const LONGEST_CALLBACK: usize = 200;

/// An application at Daraja: where it is asked, and by whom.
#[derive(Clone, Debug, PartialEq)]
pub struct DarajaAccount {
    pub base_url: Url,
    pub key_file: PathBuf,
    pub secret_file: PathBuf,
    /// Divides every waiting time; 1 but in tests.
    pub pace: u64,
}

/// How it is learnt that a customer has paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpesaMode {
    /// Daraja is asked.
    Poll,
    /// A relay collects what Daraja calls; then it is asked.
    Relay,
    /// Daraja calls this router; then it is asked.
    Direct,
}

impl MpesaMode {
    const ALL: [MpesaMode; 3] = [MpesaMode::Poll, MpesaMode::Relay, MpesaMode::Direct];

    pub fn as_str(self) -> &'static str {
        match self {
            MpesaMode::Poll => "poll",
            MpesaMode::Relay => "relay",
            MpesaMode::Direct => "direct",
        }
    }
}

/// `config mpesa`, but for a relay's.
#[derive(Clone, Debug, PartialEq)]
pub struct MpesaConfig {
    pub account: DarajaAccount,
    pub shortcode: String,
    /// The till that is paid; `None` for a paybill.
    pub till: Option<String>,
    pub passkey_file: PathBuf,
    pub mode: MpesaMode,
    /// The order's token is appended as the last part of its path.
    pub callback_url: Url,
    pub relay_url: Option<Url>,
    pub relay_key_file: Option<PathBuf>,
    /// How many orders a phone may make in a day.
    pub orders_per_phone: u32,
    /// How many minutes the time in a request is ahead of UTC.
    pub utc_offset: i32,
    /// The list of payments may be asked for.
    pub pull: bool,
    /// Of the operator's, by which the short code is registered for that; `None`: it is registered otherwise.
    pub pull_number: Option<String>,
}

impl MpesaConfig {
    /// Whether we come to know the receipts of payments.
    pub fn knows_receipts(&self) -> bool {
        self.pull || self.mode != MpesaMode::Poll
    }

    pub fn credential_files(&self) -> [(&'static str, &PathBuf); 3] {
        [
            ("consumer_key_file", &self.account.key_file),
            ("consumer_secret_file", &self.account.secret_file),
            ("passkey_file", &self.passkey_file),
        ]
    }
}

/// `config price`: a number of steps for a number of shillings.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceConfig {
    pub id: String,
    /// For people.
    pub name: String,
    pub amount: Kes,
    pub steps: u64,
    /// Ids of the venues it is for; empty: all.
    pub venues: Vec<String>,
}

impl PriceConfig {
    pub fn sells_in(&self, venue: &str) -> bool {
        self.venues.is_empty() || self.venues.iter().any(|own| own == venue)
    }
}

/// `config fiat`: what needs a licence; nothing of it without one.
#[derive(Clone, Debug, PartialEq)]
pub struct FiatConfig {
    pub operator_licensed: bool,
    pub buy: bool,
    pub sell: bool,
    pub airtime: bool,
    pub bills: bool,
    pub day_max: Kes,
    pub shortcode: String,
    pub initiator: String,
    pub credential_file: Option<PathBuf>,
}

pub(super) fn account(section: &Section, problems: &mut Problems) -> Option<DarajaAccount> {
    let mut fields = Fields::new(MPESA, Some(section), problems);
    let base_url = fields.one("base_url", service_url);
    let allow_http = fields.one("allow_http", values::boolean);
    let key_file = fields.one("consumer_key_file", values::plain_path);
    let secret_file = fields.one("consumer_secret_file", values::plain_path);
    let pace = fields.one("pace", |text| values::number(text, 1..=100));
    if let (Some(url), Some(allowed)) = (&base_url, allow_http) {
        if let Err(message) = plain_http(url, allowed) {
            fields.error("base_url", message);
        }
    }
    if let (Some(url), Some(pace)) = (&base_url, pace.filter(|pace| *pace != 1)) {
        match is_near(url) {
            true => {
                fields.warn("pace", format!("is {pace}: all waiting is cut short, which is for tests only"))
            }
            false => {
                fields.error("pace", "is for tests only, with a base_url of loopback or a private address")
            }
        }
    }
    Some(DarajaAccount { base_url: base_url?, key_file: key_file?, secret_file: secret_file?, pace: pace? })
}

pub(super) fn mpesa(section: Option<&Section>, problems: &mut Problems) -> Option<Option<MpesaConfig>> {
    let Some(section) = section else { return Some(None) };
    let account = account(section, problems);
    let mut fields = Fields::new(MPESA, Some(section), problems);
    let shortcode = fields.one("shortcode", shortcode);
    let is_till = fields.one("type", kind);
    let till = fields.optional("till", |text| unless_empty(text, self::shortcode)).map(Option::flatten);
    if is_till == Some(true) && till == Some(None) {
        fields.error("till", "is missing: write the number of the till that is paid");
    }
    let passkey_file = fields.one("passkey_file", values::plain_path);
    let mode = fields.one("mode", mode);
    let callback_url = fields.one("callback_url", callback_url);
    let relay_url = fields.optional("relay_url", |text| unless_empty(text, service_url)).map(Option::flatten);
    let relay_key_file =
        fields.optional("relay_key_file", |text| unless_empty(text, values::plain_path)).map(Option::flatten);
    let allow_http = fields.one("allow_http", values::boolean).unwrap_or(false);
    if mode == Some(MpesaMode::Relay) {
        if relay_url == Some(None) {
            fields.error("relay_url", "is missing: mode relay asks a relay there");
        }
        if relay_key_file == Some(None) {
            fields.error("relay_key_file", "is missing: the relay knows this router by that key");
        }
    }
    if let Some(Some(url)) = &relay_url {
        if let Err(message) = plain_http(url, allow_http) {
            fields.error("relay_url", message);
        }
    }
    let orders_per_phone = fields.one("orders_per_phone", |text| values::number(text, 1..=1000));
    let utc_offset = fields.one("utc_offset", minutes);
    let pull = fields.one("pull", values::boolean);
    let pull_number =
        fields.optional("pull_number", |text| unless_empty(text, pull_number)).map(Option::flatten);
    Some(Some(MpesaConfig {
        account: account?,
        shortcode: shortcode?,
        till: till?.filter(|_| is_till == Some(true)),
        passkey_file: passkey_file?,
        mode: mode?,
        callback_url: callback_url?,
        relay_url: relay_url?,
        relay_key_file: relay_key_file?,
        orders_per_phone: u32::try_from(orders_per_phone?).ok()?,
        utc_offset: utc_offset?,
        pull: pull?,
        pull_number: pull_number?,
    }))
}

pub(super) fn price(section: &Section, problems: &mut Problems) -> Option<PriceConfig> {
    let mut fields = Fields::new(PRICE, Some(section), problems);
    let id = fields.one("id", id);
    let name = fields.optional("name", name);
    let amount = fields.one("amount", |text| values::number(text, 1..=MOST_KES).map(Kes));
    let steps = fields.one("steps", values::max_steps);
    let venues = fields.many("venue", MAX_VENUES, |text| Ok(text.to_owned()));
    let (id, name) = (id?, name?);
    Some(PriceConfig {
        name: name.unwrap_or_else(|| id.clone()),
        id,
        amount: amount?,
        steps: steps?,
        venues: venues?,
    })
}

/// The other sections that `config fiat` depends on.
#[derive(Clone, Copy)]
pub(super) struct Around {
    pub mode: Option<MpesaMode>,
    pub has_airtime: bool,
    pub has_rate: bool,
}

pub(super) fn fiat(
    section: Option<&Section>,
    around: Around,
    problems: &mut Problems,
) -> Option<Option<FiatConfig>> {
    let Some(section) = section else { return Some(None) };
    let mut fields = Fields::new(FIAT, Some(section), problems);
    let operator_licensed = fields.one("operator_licensed", values::boolean);
    let mut switch = |name| {
        let on = fields.one(name, values::boolean);
        if on != Some(true) {
            return on;
        }
        if operator_licensed == Some(false) {
            fields.error(name, "needs a licence: see operator_licensed");
        }
        if matches!(name, "sell" | "bills") && matches!(around.mode, None | Some(MpesaMode::Poll)) {
            fields.error(
                name,
                "pays out, whose result Daraja calls with: it needs mode relay or direct in mpesa",
            );
        }
        if name == "airtime" && !around.has_airtime {
            fields.error(name, "needs a section config airtime, which says who sells it");
        }
        if !around.has_rate {
            fields.warn(name, "needs a section config rate: until there is one, nothing of it is done");
        }
        on
    };
    let (buy, sell, airtime, bills) = (switch("buy"), switch("sell"), switch("airtime"), switch("bills"));
    let day_max = fields.one("day_max_kes", |text| values::number(text, 0..=100_000_000).map(Kes));
    let shortcode =
        fields.optional("shortcode", |text| unless_empty(text, self::shortcode)).map(Option::flatten);
    let initiator =
        fields.optional("initiator", |text| match text.len() <= 64 && !text.contains(char::is_control) {
            true => Ok(text.to_owned()),
            false => Err("is no name: write the initiator's name as Daraja knows it".to_owned()),
        });
    let credential_file = fields.optional("credential_file", values::plain_path);
    if sell == Some(true) || bills == Some(true) {
        if shortcode == Some(None) {
            fields.error("shortcode", "is missing: write the short code that pays out");
        }
        if initiator.as_ref().is_some_and(|name| name.as_deref().unwrap_or_default().is_empty()) {
            fields.error("initiator", "is missing: write who pays out, as Daraja knows the name");
        }
        if credential_file == Some(None) {
            fields.error("credential_file", "is missing: it holds the initiator's SecurityCredential");
        }
    }
    Some(Some(FiatConfig {
        operator_licensed: operator_licensed?,
        buy: buy?,
        sell: sell?,
        airtime: airtime?,
        bills: bills?,
        day_max: day_max?,
        shortcode: shortcode?.unwrap_or_default(),
        initiator: initiator?.unwrap_or_default(),
        credential_file: credential_file?,
    }))
}

/// An empty option counts as absent.
fn unless_empty<T>(text: &str, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    match text {
        "" => Ok(None),
        text => parse(text).map(Some),
    }
}

/// The text is not repeated in the error: it may hold a password.
pub(super) fn service_url(text: &str) -> Parsed<Url> {
    let wrong = "is no address: write it like 'https://api.safaricom.co.ke', without user, query or fragment";
    Url::parse(text).map_err(|_| wrong.to_owned())
}

/// Anybody on the way can read plain http, so it is only for this machine and its own network, and only if `allowed`.
pub(super) fn plain_http(url: &Url, allowed: bool) -> Parsed<()> {
    let wrong = match (url.is_https(), allowed, is_near(url)) {
        (true, ..) | (false, true, true) => return Ok(()),
        (false, _, false) => "is plain http:// to a public address or a name: use https://",
        (false, false, true) => {
            "is plain http://, which anybody on the way can read: use https://, or add option allow_http '1'"
        }
    };
    Err(wrong.to_owned())
}

/// Loopback or a private address, as a number.
fn is_near(url: &Url) -> bool {
    url.host().parse::<IpAddr>().is_ok_and(|address| is_local(address.to_canonical()))
}

fn pull_number(text: &str) -> Parsed<String> {
    let is_number = |rest: &str| rest.len() == 9 && rest.bytes().all(|b| b.is_ascii_digit());
    let rest = text.strip_prefix("254").filter(|rest| is_number(rest) && rest.starts_with(['1', '7']));
    rest.map(|_| text.to_owned())
        .ok_or_else(|| "is no Kenyan mobile number: write it like '254712345678'".to_owned())
}

fn callback_url(text: &str) -> Parsed<Url> {
    let lower = text.to_ascii_lowercase();
    if let Some(word) = FORBIDDEN.into_iter().find(|word| lower.contains(word)) {
        return Err(format!(
            "holds the word '{word}', which Daraja refuses in an address: choose another one"
        ));
    }
    let url = Url::parse(text).map_err(|_| {
        "is no address: write it like 'https://relay.example.net/cb/r1', without user, query or fragment"
    })?;
    match (url.is_https(), url.as_str().len() <= LONGEST_CALLBACK) {
        (true, true) => Ok(url),
        (false, _) => Err("is plain http://, which Daraja refuses: use https://".to_owned()),
        (true, false) => Err(format!("is longer than {LONGEST_CALLBACK} bytes: choose a shorter one")),
    }
}

fn shortcode(text: &str) -> Parsed<String> {
    let good = (5..=7).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{} is no short code: write its 5 to 7 digits", shown(text)))
}

fn kind(text: &str) -> Parsed<bool> {
    match text {
        "paybill" => Ok(false),
        "till" => Ok(true),
        _ => Err(format!("{} is neither: write 'paybill' or 'till'", shown(text))),
    }
}

fn mode(text: &str) -> Parsed<MpesaMode> {
    let found = MpesaMode::ALL.into_iter().find(|mode| mode.as_str() == text);
    found.ok_or_else(|| format!("{} is no mode: use poll, relay or direct", shown(text)))
}

/// From -12 to +14 hours.
fn minutes(text: &str) -> Parsed<i32> {
    let minutes = text.parse::<i32>().ok().filter(|minutes| (-720..=840).contains(minutes));
    minutes.ok_or_else(|| format!("{} is no offset: write minutes from -720 to 840, like '180'", shown(text)))
}

fn id(text: &str) -> Parsed<String> {
    let good = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    good.then(|| text.to_owned())
        .ok_or_else(|| format!("{} is no id: write 1 to 32 letters, digits, '_', '-' or '.'", shown(text)))
}

fn name(text: &str) -> Parsed<String> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("{} is no name: write 1 to {MAX_NAME} characters in one line", shown(text)));
    }
    Ok(name.to_owned())
}
